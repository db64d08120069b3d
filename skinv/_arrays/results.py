"""What functions return: Bunches that say what is in them."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from html import escape
from itertools import pairwise
from textwrap import wrap
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from .described import COLUMNS, LINES, at_least, at_most, counted, describe, shortened

# What `CertifiedInverse.report` says of inverses that are proven to be within `tol`.
PROVEN = ("predicted", "refined", "exact")
# And of the others, and of solutions.
WORDS = (*PROVEN, "proven", "inaccurate", "rejected", "singular", "not finite", "projected")
# How many rows of a status a headline names.
_NAMED = 5


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

    def _later(self, name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Add a field that is found out when it is first asked for, from this and arguments.

        By a function of a module, so that this can be pickled before.
        """
        self.__dict__.setdefault("_unknown", {})[name] = function, arguments

    def __missing__(self, name: str) -> Any:
        function, arguments = self.__dict__.get("_unknown", {}).get(name, (None, ()))
        if function is None:
            raise KeyError(name)
        self[name] = function(self, *arguments)
        return self[name]

    def __dir__(self) -> list[str]:
        return [*{*super().__dir__(), *self.__dict__.get("_unknown", ())}]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def _headline(self) -> str:
        """Return what matters most; what is raised for fields of another kind leaves it out."""
        return ""

    def _first_line(self) -> str:
        headline = ""
        with suppress(
            KeyError, TypeError, ValueError
        ):  # of fields that were taken out, or replaced
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
        lines = (shortened(f"  {name:<{width}}  {text}") for name, text in fields)
        first = wrap(self._first_line(), COLUMNS, subsequent_indent="    ")
        return "\n".join([*first, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align: left'>{escape(name)}</th>"
            f"<td style='text-align: left'>{escape(shortened(text))}</td></tr>"
            for name, text in self._described()
        )
        return f"<div><strong>{escape(self._first_line())}</strong><table>{rows}</table></div>"


class _Report(Result):
    """Answers with what is known of each, as its ``status``."""

    status: NDArray[np.str_]
    tol: float | None
    _GOOD: ClassVar[tuple[str, ...]] = ()

    def rows(self, *statuses: str) -> NDArray[np.intp]:
        """Return the places of the answers with a status, or with one of some.

        Parameters
        ----------
        *statuses : str
            Words of ``status``, such as "singular"; none stands for whatever is not proven.

        Returns
        -------
        ndarray of int of shape (k,)
            Numbers of matrices, in order; of answers along several axes in the flattened array, see
            :func:`numpy.unravel_index`.

        Raises
        ------
        ValueError
            For a word that no status is.

        Examples
        --------
        >>> import skinv
        >>> report = skinv.inv(np.array([[[2.0]], [[0.0]], [[np.nan]]]), return_report=True)
        >>> report.rows("singular"), report.rows()
        (array([1]), array([1, 2]))
        """
        unknown = [status for status in statuses if status not in WORDS]
        if unknown:
            raise ValueError(
                f"Got {', '.join(map(repr, unknown))}, but a status is one of "
                f"{', '.join(map(repr, WORDS))}; of several pass one after the other."
            )
        status = np.ravel(np.asarray(self["status"]))
        found = np.isin(status, statuses) if statuses else ~np.isin(status, self._GOOD)
        return np.flatnonzero(found)

    def _headline(self) -> str:
        status = self["status"]
        if not isinstance(status, np.ndarray):  # of dask, say
            return ""
        counts = Counter(status.ravel().tolist())
        proven = {name: counts.pop(name) for name in self._GOOD if name in counts}
        tol = self.get("tol")
        within = "" if tol is None else f" to be within tol={tol:g}"
        text = f"{sum(proven.values())} of {status.size} proven{within}"
        how = f" ({counted(proven)})" if len(self._GOOD) > 1 and proven else ""
        bad = [f"{count} {name} ({self._named(name)})" for name, count in counts.most_common()]
        return "; ".join([text + how, *bad])

    def _named(self, status: str) -> str:
        found = self.rows(status)
        shown = ", ".join(map(str, found[:_NAMED]))
        return f"row{'s' * (len(found) > 1)} {shown}{', ...' * (len(found) > _NAMED)}"


class InverseReport(_Report):
    """What :meth:`skinv.CertifiedInverse.report` returns."""

    _title = "Inverses"
    _GOOD = PROVEN
    inverse: Any
    bound: Any
    residual: Any
    n_refine: Any
    radius: Any


class SolutionReport(_Report):
    """What :func:`skinv.solve` returns with ``return_report=True``."""

    _title = "Solutions"
    _GOOD = ("proven",)
    solution: Any
    bound: Any
    radius: Any


class RegionCertificate(Result):
    """What :func:`skinv.geometry.region_certificate` returns."""

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


class FamilyCertificate(Result):
    """What :func:`skinv.geometry.family_certificate` returns."""

    _title = "Box of parameters"
    is_certified: bool
    margin: float
    margin_upper: float
    witness: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    assumed: bool
    n_boxes: int
    status: str

    def _headline(self) -> str:
        certified = "certified" if self["is_certified"] else "not certified"
        between = f"between {at_least(self['margin'])} and {at_most(self['margin_upper'])}"
        assumed = ", of an assumed polynomial" if self["assumed"] else ""
        return f"{certified}, margin {between} ({self['status']}){assumed}"


class LargestBox(Result):
    """What :func:`skinv.geometry.largest_regular_box` returns."""

    _title = "Largest box"
    scale: float
    scale_upper: float
    certificate: FamilyCertificate
    witness: NDArray[np.float64]
    n_boxes: int
    status: str

    def _headline(self) -> str:
        between = f"between {at_least(self['scale'])} and {at_most(self['scale_upper'])}"
        return f"{between} times as large ({self['status']})"


class RegionError(Result):
    """What :func:`skinv.bounds.certify_region` returns."""

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
    """What :func:`skinv.bounds.taylor_bound` returns."""

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
    """What :func:`skinv.impossibility.counterexample` returns."""

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
    """What :func:`skinv.impossibility.truncated_moments` returns."""

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
    """What the functions of :mod:`skinv.datasets` return."""

    _title = "Dataset"
    data: NDArray
    target: NDArray
    center: NDArray
    DESCR: str

    def _headline(self) -> str:
        return f"{len(self['data'])} matrices of order {len(self['center'])}"

    def _described(self) -> list[tuple[str, str]]:
        # Of the description, which is marked up, the title: it stands above a line of dashes.
        lines = str(self.get("DESCR", "")).splitlines()
        titles = [line for line, below in pairwise(lines) if below and set(below) == {"-"}]
        title = {"DESCR": titles[0]} if titles else {}
        return [(name, title.get(name, text)) for name, text in super()._described()]


class DistanceProfile(Result):
    """What :meth:`skinv.SingularDistanceScorer.profile` returns."""

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
    """What :func:`skinv.geometry.distance_to_singularity` returns with ``return_bounds=True``."""

    _title = "Distance to the singular matrices"
    lower: Any
    upper: Any
    exact: bool

    def _headline(self) -> str:
        return "exact" if self["exact"] else "between two bounds"
