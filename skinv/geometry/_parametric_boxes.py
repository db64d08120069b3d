"""What is proven of boxes of parameters: regular or not, with what margin, and how large."""

import math
import time
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from .._arrays.conversion import real_array
from .._arrays.results import FamilyCertificate, LargestBox
from ._branching import Search
from ._parametric import ParametricFamily, check_box
from ._rounding import scaled_ends
from ._views import ScaledFamily

_Ends = tuple[NDArray, NDArray]
_CONSTRAINTS: dict[str, list] = {
    "family": [ParametricFamily],
    "rtol": [Interval(Real, 0, 1, closed="both")],
    "max_boxes": [Interval(Integral, 1, None, closed="left")],
    "max_time": [Interval(Real, 0, None, closed="left"), None],
}
_OF_LARGEST = _CONSTRAINTS | {"rtol": [Interval(Real, 0, 1, closed="right")]}
# Times that boxes are grown, or shrunk, at most.
_LARGEST, _SMALLEST = 2.0**10, 2.0**-30


def family_certificate(
    family: ParametricFamily,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    rtol: float = 0.1,
    max_boxes: int = 10_000,
    max_time: float | None = 60.0,
) -> FamilyCertificate:
    """Prove that no matrix of a family is singular, for all parameters of a box.

    A region around the matrices, :func:`region_certificate`, holds all that such matrices could be
    if their entries varied by themselves; this one is proven for those of the parameters alone.

    Parameters
    ----------
    family : ParametricFamily
        Matrices that are affine in parameters, or polynomials of them.
    lower, upper : array-like of shape (n_parameters,)
        The box, closed.
    rtol : float, default=0.1
        Go on until ``margin >= (1 - rtol) * margin_upper``, between 0 and 1; with 1 the search ends
        as soon as it is proven that there is no singular matrix.
    max_boxes : int, default=10_000
        Stop after so many boxes.
    max_time : float or None, default=60.0
        Stop after so many seconds, or after the step of the search that is then taken; None: no
        limit.

    Returns
    -------
    FamilyCertificate
        A Bunch. ``is_certified``: whether it is proven that no matrix of the box is singular.
        ``margin``: a proven lower bound of the distance to the singular matrices in l2, the
        smallest singular value, over the box; 0 where nothing is proven. ``margin_upper``: a proven
        upper bound of the smallest of these distances; 0 if there is a singular matrix, which is
        proven by determinants of both signs. ``witness`` (n_parameters,): parameters of which the
        upper bound is, or next to those of a singular matrix. ``lower``, ``upper``: the question.
        ``assumed``: whether all this rests on a polynomial that samples of a function suggest.
        ``n_boxes``: boxes bounded. ``status``: why the search ended: "converged", "singular",
        "max_boxes", "max_time", or "precision" if what is left is a matter of rounding.

    Raises
    ------
    ValueError
        For another kind of family, a box that is none, or one of another number of parameters, and
        for families of so many parameters or high degrees that a box needs more than 2²³ numbers.

    See Also
    --------
    largest_regular_box : How large the box may be.
    region_certificate : The same for regions around a matrix.

    Notes
    -----
    On a box A(p) is a convex combination of its Bernstein coefficients A_β, which for an affine
    family are its values at the corners. A matrix T with sym(T A_β) >= μ > 0 for all β, such as
    the polar factor of the matrix in the middle, improved by steps of relaxation, proves
    σ_min(A(p)) >= μ/‖T‖₂ on the box. For symmetric positive definite families that are affine, T =
    I and the corners say it all, without any branching (as Hertz 1992, "The extreme eigenvalues
    and stability of real symmetric interval matrices"); otherwise boxes are halved, the worst one
    first, along the parameter that moves A(c)⁻¹A(p) most. Parametric interval methods bound the
    spectral radius of ``Σ r_i |A(c)⁻¹A_i|`` instead (Skalna 2006, "A method for outer interval
    solution of systems of linear equations depending linearly on interval parameters"), which
    takes many more boxes.

    Proofs are in units, powers of two, in which rows, columns and parameters are of one size, so
    that whether a box is certified is no matter of units; margins are in the caller's. All rounding
    is accounted for, in any floating-point mode. Complex matrices count as real ones of twice their
    order; no singular one is ever proven of these, as their determinants have one sign.

    Examples
    --------
    >>> family = ParametricFamily([[[3.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, -1.0]]])
    >>> found = family_certificate(family, [-1.0], [1.0])  # det = (3 + p)(2 - p) - 1
    >>> found.is_certified, found.margin, found.margin_upper, found.witness
    (True, 0.69697, 0.69722, array([1.]))
    >>> family_certificate(family, [-1.0], [2.0]).status  # singular at (√21 - 1)/2
    'singular'
    """
    validate_parameter_constraints(_CONSTRAINTS, locals(), "family_certificate")
    ends = _checked(family, lower, upper)
    found = _searched(family, ends, rtol, max_boxes, _end(max_time))
    return _certificate(family, ends, *found)


def largest_regular_box(
    family: ParametricFamily,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    rtol: float = 0.01,
    max_boxes: int = 10_000,
    max_time: float | None = 60.0,
) -> LargestBox:
    """Return how much a box of parameters may grow, about its middle, and stay regular.

    Parameters
    ----------
    family, lower, upper
        As for :func:`family_certificate`.
    rtol : float, default=0.01
        Stop when ``scale >= (1 - rtol) * scale_upper``, or when it is known to that accuracy what
        can be proven; between 0 and 1.
    max_boxes : int, default=10_000
        Stop a proof, and take it for failed, after so many boxes.
    max_time : float or None, default=60.0
        Stop after so many seconds, or after the step of a proof that is then taken; None: no limit.

    Returns
    -------
    LargestBox
        A Bunch. ``scale``: what the half-widths of the box were multiplied by in the largest one
        that is proven, 0 if there is none, and at most 1024. ``scale_upper``: with this scale, up
        to rounding, there is a singular matrix in the box; inf where none is known, as of complex
        families, of which none is ever proven.
        ``certificate``: that of the largest box, with its `lower` and `upper`, rounded outward; of
        the middle for a scale of 0.
        ``witness``: parameters next to those of the singular matrix, NaN if none is known.
        ``n_boxes``: in all. ``status``: "converged", "max_boxes", "max_time", "unlimited" for one
        that reaches the scale of 1024 or the largest numbers, or "precision" if the middle itself
        is next to singular.

    Raises
    ------
    ValueError
        As :func:`family_certificate`.

    Notes
    -----
    Each box is proven by :func:`family_certificate` with ``rtol=1``. The next one to try is smaller
    by `rtol` than where a singular matrix is known, and in the middle, on a scale of logarithms,
    where a proof fails without one.

    Examples
    --------
    >>> family = ParametricFamily([[[3.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, -1.0]]])
    >>> found = largest_regular_box(family, [-1.0], [1.0])
    >>> found.scale, found.scale_upper, found.witness  # (√21 - 1)/2 = 1.79
    (1.7734, 1.7913, array([1.7913]))
    """
    validate_parameter_constraints(_OF_LARGEST, locals(), "largest_regular_box")
    ends = _checked(family, lower, upper)
    return _Growth(family, ends, float(rtol), int(max_boxes), _end(max_time)).run()


class _Growth:
    """A box that grows about its middle: which scales are proven, and which are not.

    Scales are what half-widths are multiplied by. Boxes up to `known` are regular, those from
    `singular` on are not, and at `failed` a proof came to nothing.
    """

    def __init__(
        self, family: ParametricFamily, ends: _Ends, rtol: float, max_boxes: int, end: float
    ):
        self.family, self.ends, self.share = family, ends, 1 - rtol
        self.max_boxes, self.end, self.n_boxes = max_boxes, end, 0
        self.known, self.failed, self.singular = 0.0, math.inf, math.inf
        self.witness = np.full(len(ends[0]), np.nan)
        self.most = _LARGEST
        while not np.isfinite(scaled_ends(*ends, self.most)).all():
            self.most /= 2

    def run(self) -> LargestBox:
        """Return what is found of the largest box."""
        best, status = self.proof(0.0, 1), "precision"
        if best.is_certified:
            scale: float | None = self.first_scale()
            while scale is not None:
                found = self.proof(scale, self.max_boxes)
                if found.is_certified:
                    self.known, best = scale, found
                else:
                    self.failed = scale
                status, scale = self.next_scale(found.is_certified)
        return LargestBox(
            scale=self.known,
            scale_upper=self.singular,
            certificate=best,
            witness=self.witness,
            n_boxes=self.n_boxes,
            status=status,
        )

    def proof(self, scale: float, max_boxes: int) -> FamilyCertificate:
        """Try to prove a box, in no more than a third of the time that is left."""
        ends, now = scaled_ends(*self.ends, scale), time.monotonic()
        search, why = _searched(self.family, ends, 1.0, max_boxes, now + max(self.end - now, 0) / 3)
        self.n_boxes += search.n_boxes
        if search.bracket is not None and search.reach() * scale < self.singular:
            self.singular = search.reach() * scale
            self.witness = search.family.parameters(search.bracket.mean(axis=0))
        return _certificate(self.family, ends, search, why)

    def first_scale(self) -> float:
        """Return the scale to begin with, after a look from afar for singular matrices."""
        scale = 1.0
        while self.singular == math.inf and scale < self.most and time.monotonic() < self.end:
            scale *= 2
            self.proof(scale, 1)
        return 1.0 if self.singular == math.inf else self.share * self.singular

    def next_scale(self, is_certified: bool) -> tuple[str, float | None]:
        """Return why the growth ends and None, or the scale to try after one was proven, or not."""
        least = min(self.failed, self.singular)
        if self.known >= self.share * least or least < _SMALLEST:
            return "converged" if least == self.singular else "max_boxes", None
        if self.known >= self.most:
            return "unlimited", None
        if time.monotonic() >= self.end:
            return "max_time", None
        if least == math.inf:
            return "", 2 * self.known
        if not is_certified and least == self.singular:  # which that proof has found
            return "", self.share * least
        return "", math.sqrt(self.known * least) if self.known else 0.5 * least


def _searched(
    family: ParametricFamily, ends: _Ends, rtol: float, max_boxes: int, end: float
) -> tuple[Search, str]:
    """Return a search that has ended, and why."""
    with np.errstate(all="ignore"):
        search = Search(ScaledFamily(family, *ends), float(rtol), int(max_boxes), end)
        return search, search.run()


def _certificate(
    family: ParametricFamily, ends: _Ends, search: Search, status: str
) -> FamilyCertificate:
    return FamilyCertificate(
        is_certified=search.is_regular,
        margin=search.margin,
        margin_upper=search.margin_upper,
        witness=np.clip(search.family.parameters(search.witness), *ends),
        lower=ends[0],
        upper=ends[1],
        assumed=family.assumed,
        n_boxes=search.n_boxes,
        status=status,
    )


def _checked(family: ParametricFamily, lower: Any, upper: Any) -> _Ends:
    low, high = check_box(lower, upper)
    if len(low) != family.n_parameters:
        raise ValueError(
            f"Got a box of {len(low)} parameters, but the family has {family.n_parameters}."
        )
    return low.copy(), high.copy()


def _end(max_time: Any) -> float:
    """Return when time is up, by the clock of `time.monotonic`."""
    return (
        math.inf if max_time is None else time.monotonic() + float(real_array(max_time, "max_time"))
    )
