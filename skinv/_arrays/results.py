"""What functions return: Bunches that say what is in them."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from html import escape
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from .described import LINES, at_least, at_most, counted, describe, shortened

# What `CertifiedInverse.report` says of inverses that are proven to be within `tol`.
PROVEN = ("predicted", "refined", "exact")


class Result(Bunch):
    """A Bunch that prints as a title and a line for each field, instead of all its numbers.

    Arrays are described by dtype, shape and range, arrays of strings by counts; tensors and dask
    arrays by dtype and shape only, which waits for no device and computes nothing.

    Parameters
    ----------
    **fields : object
        As of :class:`sklearn.utils.Bunch`.

    Examples
    --------
    >>> Result(error=np.array([0.25, 3.0, np.nan]), status="converged")
    Result
      error   float64 (3,), 0.25 to 3, 1 not finite
      status  converged
    """

    _title: ClassVar[str] = ""

    def _headline(self) -> str:
        """Return what matters most; what is raised for fields of another kind leaves it out."""
        return ""

    def _first_line(self) -> str:
        headline = ""
        with suppress(KeyError, TypeError):  # of fields that were taken out, or replaced
            headline = self._headline()
        return ": ".join(filter(None, (self._title or type(self).__name__, headline)))

    def _described(self) -> list[tuple[str, str]]:
        """Return names and descriptions of as many fields as there is room for."""
        names = [str(name) for name in self]
        shown = len(names) if len(names) < LINES else LINES - 2
        fields = [(name, describe(self[name])) for name in list(self)[:shown]]
        if names[shown:]:
            fields.append(("...", f"and {', '.join(names[shown:])}"))
        return fields

    def __repr__(self) -> str:
        fields = self._described()
        width = max((len(name) for name, _ in fields), default=0)
        lines = [self._first_line(), *(f"  {name:<{width}}  {text}" for name, text in fields)]
        return "\n".join(shortened(line) for line in lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align: left'>{escape(name)}</th>"
            f"<td style='text-align: left'>{escape(text)}</td></tr>"
            for name, text in self._described()
        )
        return f"<div><strong>{escape(self._first_line())}</strong><table>{rows}</table></div>"


class InverseReport(Result):
    """What :meth:`skinv.CertifiedInverse.report` returns.

    Examples
    --------
    >>> from skinv import CertifiedInverse, LinearInverseApprox
    >>> model = CertifiedInverse(LinearInverseApprox([[2.0]])).fit()
    >>> model.report([[2.1], [0.0]])
    Inverses: 1 of 2 proven to be within tol (1 refined), 1 singular
      inverse   float64 (2, 1), all 0.47619, 1 not finite
      bound     float64 (2,), all ..., 1 not finite
      residual  float64 (2,), 0.0025 to 1
      n_refine  int64 (2,), 0 to 2
      status    str (2,), 1 refined, 1 singular
    """

    _title = "Inverses"
    inverse: Any
    bound: Any
    residual: Any
    n_refine: Any
    status: NDArray[np.str_]

    def _headline(self) -> str:
        status = self["status"]
        if not isinstance(status, np.ndarray):  # of dask, say
            return ""
        counts = Counter(status.ravel().tolist())
        proven = {name: counts.pop(name) for name in PROVEN if name in counts}
        text = f"{sum(proven.values())} of {status.size} proven to be within tol"
        how = f" ({counted(proven)})" if proven else ""
        return text + how + (f", {counted(counts)}" if counts else "")


class RegionCertificate(Result):
    """What :func:`skinv.geometry.region_certificate` returns.

    Examples
    --------
    >>> from skinv.geometry import region_certificate
    >>> region_certificate([[3.0, 1.0], [1.0, 2.0]], 0.5)
    Region: certified, margin 0.214285 by distance of the centre
      is_certified    True
      margin          0.214286
      distance        0.714286
      distance_upper  0.714286
      test            distance of the centre
      margins         distance of the centre: 0.214286
      norm            linf
      radius          0.5
      min_distance    0
    """

    _title = "Region"
    is_certified: bool
    margin: float
    distance: float
    distance_upper: float
    test: str
    margins: dict[str, float]
    norm: str
    radius: Any
    min_distance: float

    def _headline(self) -> str:
        certified = "certified" if self["is_certified"] else "not certified"
        return f"{certified}, margin {at_least(self['margin'])} by {self['test']}"


class RegionError(Result):
    """What :func:`skinv.bounds.certify_region` returns.

    Examples
    --------
    >>> RegionError(lower=0.7, upper=0.75, status="converged")
    Largest error over the region: between 0.7 and 0.75 (converged)
      lower   0.7
      upper   0.75
      status  converged
    """

    _title = "Largest error over the region"
    lower: float
    upper: float
    gap: float
    witness: NDArray[np.float64]
    n_boxes: int
    status: str

    def _headline(self) -> str:
        lower, upper = at_least(self["lower"]), at_most(self["upper"])
        return f"between {lower} and {upper} ({self['status']})"


class TaylorBound(Result):
    """What :func:`skinv.bounds.taylor_bound` returns.

    Examples
    --------
    >>> from skinv.bounds import taylor_bound
    >>> taylor_bound([[2.0]], 0.5)
    Error of the Taylor series: at most 0.0416667 over the region
      max_error   0.0416667
      q           0.25
      test        ...
      max_errors  entry by entry: 0.0416667, ...
      order       1
      norm        linf
    """

    _title = "Error of the Taylor series"
    max_error: float
    q: float
    test: str
    max_errors: dict[str, float]
    order: int
    norm: str

    def _headline(self) -> str:
        return f"at most {at_most(self['max_error'])} over the region"


class Counterexample(Result):
    """What :func:`skinv.impossibility.counterexample` returns.

    Examples
    --------
    >>> Counterexample(error_lower=1e6, distance=1.38)
    Counterexample: wrong by more than 1e+06, 1.38 from the center
      error_lower  1e+06
      distance     1.38
    """

    _title = "Counterexample"
    matrix: NDArray[np.float64]
    error: float
    error_lower: float
    inverse: NDArray[np.float64]
    prediction: NDArray[np.float64]
    bound: float
    distance: float
    singular_distance: float
    n_predictions: int

    def _headline(self) -> str:
        error, distance = at_least(self["error_lower"]), describe(self["distance"])
        return f"wrong by more than {error}, {distance} from the center"


class TruncatedMoments(Result):
    """What :func:`skinv.impossibility.truncated_moments` returns.

    Examples
    --------
    >>> TruncatedMoments(p=2.0, growth=1.02, expected_growth=1.0)
    Moments of the error without what is nearly singular
      p                2
      growth           1.02
      expected_growth  1
    """

    _title = "Moments of the error without what is nearly singular"
    p: Any
    cutoffs: NDArray[np.float64]
    moments: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    growth: Any
    growth_error: Any
    expected_growth: Any
    fitted: NDArray[np.float64]
    relative_moments: NDArray[np.float64]
    relative_standard_errors: NDArray[np.float64]
    relative_growth: Any
    relative_growth_error: Any
    relative_fitted: NDArray[np.float64]
    relative_expected_growth: Any
    n_samples: int


class Dataset(Result):
    """What the functions of :mod:`skinv.datasets` return.

    Examples
    --------
    >>> from skinv.datasets import load_robot_arm
    >>> load_robot_arm()
    Dataset: 1000 matrices of order 6
      data             float64 (1000, 36), -1 to 1
      target           float64 (1000, 36), -2.08003 to 3.4141
      ...
    """

    _title = "Dataset"
    data: NDArray
    target: NDArray
    center: NDArray
    DESCR: str

    def _headline(self) -> str:
        return f"{len(self['data'])} matrices of order {len(self['center'])}"


class DistanceProfile(Result):
    """What :meth:`skinv.SingularDistanceScorer.profile` returns.

    Examples
    --------
    >>> DistanceProfile(count=np.array([5, 5]), n_left_out=3)
    Error against the distance to the singular matrices: 10 matrices in 2 bins, 3 left out
      count       int64 (2,), all 5
      n_left_out  3
    """

    _title = "Error against the distance to the singular matrices"
    distance: NDArray[np.float64]
    error: NDArray[np.float64]
    error_max: NDArray[np.float64]
    count: NDArray[np.int64]
    edges: NDArray[np.float64]
    n_left_out: int

    def _headline(self) -> str:
        count = np.asarray(self["count"])
        return f"{count.sum()} matrices in {count.size} bins, {self['n_left_out']} left out"


class DistanceBounds(Result):
    """What :func:`skinv.geometry.distance_to_singularity` returns with ``return_bounds=True``.

    Examples
    --------
    >>> from skinv.geometry import distance_to_singularity
    >>> distance_to_singularity([[3.0, 0.0], [0.0, 2.0]], return_bounds=True)
    Distance to the singular matrices: exact
      lower  2
      upper  2
      exact  True
    """

    _title = "Distance to the singular matrices"
    lower: Any
    upper: Any
    exact: bool

    def _headline(self) -> str:
        return "exact" if self["exact"] else "between two bounds"
