"""Proven bounds of the worst error of a model over a whole region, by branch and bound."""

import math
import time
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import check_is_fitted

from .._arrays.conversion import real_array
from .._arrays.estimators import unwrapped
from .._arrays.results import RegionError
from .._linalg.form import ModelForm
from .._linalg.scaling import ZERO, ldexp
from .._linalg.units import are_mixed, entry_exponents
from ..geometry._enclosure import common_units
from ..geometry._rounding import EPS, TINY, largest_exponent, scaled_down, scaled_up
from ..geometry._scaled import scaled
from ._place import Place, take_sampler, take_slice
from ._taylor import taylor_bound

# Centres of series that differ by less than this share of the largest entry do so by rounding.
_NEAR = 1e-6
_CONSTRAINTS: dict[str, list] = {
    "rtol": [Interval(Real, 0, None, closed="left")],
    "max_boxes": [Interval(Integral, 1, None, closed="left")],
    "directions": ["array-like", None],
    "radius": [Interval(Real, 0, None, closed="left"), "array-like"],
    "error": [StrOptions({"entries", "residual"})],
    "max_time": [Interval(Real, 0, None, closed="left"), None],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def certify_region(
    model: Any,
    region: Any,
    rtol: float = 0.05,
    max_boxes: int = 1_000_000,
    *,
    directions: Any = None,
    radius: Any = 0.0,
    error: Literal["entries", "residual"] = "entries",
    max_time: float | None = 60.0,
    device: str = "cpu",
    random_state: Any = 0,
    verbose: int = 0,
) -> RegionError:
    """Prove how wrong a model of inverses can be, over all matrices of a region.

    A test set finds the errors of typical matrices. The worst case sits in corners that samples
    hardly ever meet, and is several times larger; here it is enclosed from both sides.

    Parameters
    ----------
    model : LinearInverseApprox, PolynomialInverseApprox, NeuralInverseRegressor, StructuredInverse
        Fitted; also inside a :class:`sklearn.frozen.FrozenEstimator` or a fitted search. Of models
        in reduced coordinates with hidden layers one layer at most.
    region : FeasibleRegionSampler, or array-like of shape (n, n)
        A fitted sampler. The region is that of its samples: with a `structure`, and of complex
        matrices, only those that have it; for "mahalanobis" the span of the data, without the
        numerical thickness of the other directions; matrices that ``min_distance`` would reject are
        included. Or, with `directions`, the centre of a slice.
    rtol : float, default=0.05
        Stop when ``upper <= (1 + rtol) * lower``.
    max_boxes : int, default=1_000_000
        Stop after so many boxes.
    directions : array-like of shape (k, n, n), default=None
        Makes the region the slice of all ``region + Σ z_i directions[i]`` with ``|z_i| <= 1``. If
        they or the centre are complex, all are embedded (:func:`skinv.matrices.embed_complex`).
    radius : float or array-like of shape (n, n), default=0.0
        By how much entries may be off the region. What that can add to residuals, bounded by about
        twice what it need be, is added to `upper`; `lower` is that of the region itself. With 0
        what lies off a slice is not covered.
    error : {"entries", "residual"}, default="entries"
        What is bounded: the largest entry of ``|f(A) − A⁻¹|``, or ‖I − A f(A)‖ in the Frobenius
        norm, which where it is below 1 proves A regular and is at least the relative error
        ‖f(A) − A⁻¹‖ / ‖A⁻¹‖. Residuals are known of models of at most one hidden layer; they are
        far cheaper for small errors, and sharp over slices of up to half a dozen directions.
    max_time : float or None, default=60.0
        Stop after so many seconds, or after the step of the search that is then taken. What is
        proven by then depends on the machine; None, no limit, gives the same bounds again.
    device : str, default="cpu"
        Where to compute, in float64.
    random_state : int, RandomState instance or None, default=0
        Seeds the search for a bad matrix.
    verbose : int, default=0
        1 shows a progress bar. Interrupting from the keyboard stops the search and returns what is
        proven by then.

    Returns
    -------
    RegionError
        A Bunch. ``lower``, ``upper``: proven bounds of the supremum over the region of the `error`;
        that of entries is inf where not all of the region could be shown to be regular. ``witness``
        (n, n): a matrix of the region whose error is ``lower``, of complex ones embedded. ``gap``:
        upper/lower − 1. ``n_boxes``: boxes bounded. ``status``: why the search stopped:
        "converged" if `rtol` is reached, else "max_boxes", "max_time", "interrupted", or
        "rounding", where what is left is as small as rounding in double precision. The bounds hold
        in any case.

    Raises
    ------
    ValueError
        For another kind of model, a model of something else than inverses, a region of matrices
        of another size or without the structure that the model needs, directions or a radius that
        do not fit, a residual whose polynomial has too many coefficients, or a device that there is
        not.

    See Also
    --------
    taylor_bound : The same for the Taylor series in closed form; the search starts from it.

    Notes
    -----
    Best-first branch and bound. On a box the inverse is expanded to second order about the box's
    own centre, with the remainder of the Neumann series; a network of one hidden layer with a
    smooth activation likewise, with Lagrange's remainder; ReLU networks and deeper ones are
    enclosed between affine functions by backward linear relaxation (Zhang et al. 2018, "Efficient
    neural network robustness certification with general activation functions"). The maximum of the
    difference, in which most of either cancels, is bounded in closed form. Balls and ellipsoids
    are searched in boxes of their own coordinates, of which sides that were never halved stay
    bound by the ball. Where rows or columns of the centre are of very different sizes all is
    searched in units in which these are alike, and errors are weighted, so that the bounds are
    those of the largest entry in the caller's units. The number of boxes grows steeply with the
    number of directions in the region: two-by-two and three-by-three boxes take seconds, for more
    than a dozen directions expect little more than the bound of the whole region. The model is
    taken as the function it is in real arithmetic; rounding in this computation is covered by a
    term of some hundred units in the last place of the largest intermediate result.

    The residual of a polynomial of degree d over a slice is a polynomial of degree d + 1 in its
    coordinates. It is interpolated once at a grid of Chebyshev points; on a box its norm is at most
    that of its largest Bernstein coefficient (Farouki 2012, "The Bernstein polynomial basis: a
    centennial retrospective"), which is exact at corners, where the worst matrix mostly is. Hidden
    units are polynomials on a box, too, but for remainders that shrink with it. Rounding is bounded
    by the magnitudes of all terms. Entries of models in reduced coordinates are those of A⁻¹R, R
    being the residual, and found so. Where such a model answers NaN, far from what it knows, it is
    taken as if it answered.

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, LinearInverseApprox, PolynomialInverseApprox
    >>> region = FeasibleRegionSampler([[3.0, 1.0], [1.0, 2.0]], 0.5).fit()
    >>> proof = certify_region(LinearInverseApprox([[3.0, 1.0], [1.0, 2.0]]).fit(), region)
    >>> proof.lower, proof.upper, proof.status  # samples rarely show more than 0.3
    (0.746666, 0.746666, 'converged')
    >>> proof.witness
    array([[2.5, 1.5],
           [1.5, 1.5]])

    A grid whose admittances depend on two loads, and a polynomial fitted to samples:

    >>> grid = np.array([[3.0, -1.0, -1.0], [-1.0, 2.0, 0.0], [-1.0, 0.0, 2.0]])
    >>> loads = np.array([np.diag([0.0, 0.5, 0.0]), np.diag([0.0, 0.0, 0.5])])
    >>> samples = grid + np.tensordot(np.random.default_rng(0).uniform(-1, 1, (50, 2)), loads, 1)
    >>> polynomial = PolynomialInverseApprox(degree=3, n_components=2).fit(samples)
    >>> proof = certify_region(polynomial, grid, directions=loads, error="residual")
    >>> proof.status, proof.upper < 0.03, proof.gap < 0.05
    ('converged', True, True)
    """
    validate_parameter_constraints(_CONSTRAINTS, locals(), "certify_region")
    end = math.inf
    if max_time is not None:
        end = time.monotonic() + float(real_array(max_time, "max_time"))
    form = _model_form(model)
    own = getattr(unwrapped(model), "_structure", None)
    place = take_slice(region, directions) if directions is not None else take_sampler(region)
    if own is not None and not place.has(own):
        raise ValueError(
            f"Got {unwrapped(model)!r} and a region with matrices that do not have its structure, "
            f"to which it has no answer: fit the sampler to complex matrices, or with "
            f"structure='symmetric', like the model."
        )
    size = place.center.size
    if form.constant.size != size or form.origin.size != size:
        raise ValueError(
            f"Got a model from {form.origin.size} to {form.constant.size} numbers and a region of "
            f"matrices of {size} entries, but both must be of square matrices of one size."
        )
    if place.underflows and (error == "residual" or form.reduced is not None):
        raise ValueError(
            "Got a region whose half-widths, or axes times the radius, are below 2.3e-308, where "
            "they lose digits: multiply matrices and radius by a power of two, and fit the model "
            "to these."
        )
    off = place.off(radius)
    gap, device = float(real_array(rtol, "rtol")), _place(device)
    units = _Units.of(place.center)
    cap = math.inf
    if error == "residual":
        problem: Any = _residuals(form, place, units, off, gap, device, end)
        top = 0
    else:
        if off.any():
            raise ValueError(
                f"Got radius={radius!r} with error='entries', which knows no matrices off the "
                f"region: leave it out, or take error='residual'."
            )
        if form.reduced is not None:
            problem, top = _reduced_entries(form, place, units, gap, device, end)
        else:
            problem, top = _entries(form, place, units, device), units.top
        if place.sampler is not None:
            cap = _closed_form(form, place, units)
    from ._search import Search

    search = Search(problem, cap, gap, int(max_boxes), end)
    search.run(check_random_state(random_state), bool(verbose))
    lower = float(scaled_down(search.proven_lower(), top))
    upper = float(scaled_up(search.upper(), top))
    witness = _matrix_at(place, search.witness.cpu().numpy(), units.x)
    return RegionError(
        lower=lower,
        upper=upper,
        gap=upper / lower - 1 if lower > 0 else math.inf if upper > 0 else 0.0,
        witness=witness,
        n_boxes=search.n_boxes,
        status=search.status,
    )


def _to_one(place: Place, x: NDArray, off: Any = 0.0) -> int:
    """Return the power of two, beside units 2^x, in which the largest entries are about 1."""
    largest = np.abs(place.center).ravel() + np.abs(place.directions).sum(axis=0) + off
    exponent = largest_exponent(largest[None], x)
    return 0 if exponent == ZERO else -exponent


@np.errstate(all="ignore")  # of directions that overflow
def _matrix_at(place: Place, z: NDArray, x: NDArray) -> NDArray[np.float64]:
    """Return a matrix of a region, added up in units in which no mode takes it for zeros."""
    x = x + _to_one(place, x)
    found = ldexp(place.center.ravel(), x) + z @ ldexp(place.directions, x)
    return ldexp(found, -x).reshape(place.center.shape)


@np.errstate(all="ignore")  # what overflows is not bounded
def _entries(form: ModelForm, place: Place, units: "_Units", device: Any) -> Any:
    """Return the problem of the largest entry of f(A) − A⁻¹."""
    from ._problem import Problem

    return Problem(
        form.in_units(-units.x, -units.y),
        ldexp(place.center.ravel(), units.x),
        ldexp(place.directions, units.x),
        place.norm,
        device,
        np.ldexp(1.0, -units.y - units.top),
    )


@np.errstate(all="ignore")  # what overflows is not bounded
def _reduced_entries(
    form: ModelForm, place: Place, units: "_Units", rtol: float, device: Any, end: float
) -> tuple[Any, int]:
    """Return the problem of the largest entry of f(A) − A⁻¹, and its unit, by residuals."""
    from ._slice_entries import EntriesProblem

    one = _to_one(place, units.x)
    x, y = units.x + one, units.y - one
    top = int((-y).max())
    problem = EntriesProblem(
        form.in_units(-x, -y),
        ldexp(place.center.ravel(), x),
        ldexp(place.directions, x),
        place.norm,
        device,
        np.ldexp(1.0, -y - top),
        rtol,
        end,
    )
    return problem, top


@np.errstate(all="ignore")  # what overflows is not bounded
def _residuals(
    form: ModelForm,
    place: Place,
    units: "_Units",
    off: NDArray,
    rtol: float,
    device: Any,
    end: float,
) -> Any:
    """Return the problem of the residual, of matrices whose entries are at most about 1.

    With Â = D₁AD₂, I − Âf̂(Â) = D₁(I − A f(A))D₁⁻¹.
    """
    from ._slice import SliceProblem

    one = _to_one(place, units.x, off)
    x, y = units.x + one, units.y - one
    return SliceProblem(
        form.in_units(-x, -y),
        ldexp(place.center.ravel(), x),
        ldexp(place.directions, x),
        place.norm,
        device,
        (units.r - units.r[:, None]).ravel(),
        ldexp(off, x),
        rtol,
        end,
    )


def _model_form(model: Any) -> ModelForm:
    """Return the form of the model inside frozen estimators and searches."""
    model = unwrapped(model)
    if not hasattr(model, "_model_form"):
        raise ValueError(
            f"Got a {type(model).__name__}, but only errors of LinearInverseApprox, "
            f"PolynomialInverseApprox, NeuralInverseRegressor and StructuredInverse can be bounded "
            f"over a region."
        )
    check_is_fitted(model)
    return model._model_form()


def _place(device: str) -> Any:
    """Return a device of torch that knows float64."""
    import torch

    try:
        place = torch.device(device)
        float(torch.zeros(1, dtype=torch.float64, device=place))
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"Got device={device!r}, but one that torch has here is expected, and that knows "
            f"float64, such as 'cpu' or 'cuda'."
        ) from error
    return place


@dataclass(frozen=True)
class _Units:
    """Exponents of the powers of two that a region, and what is bounded, are scaled with."""

    r: NDArray  # of rows and columns
    c: NDArray
    x: NDArray  # of the entries of matrices, and of inverses
    y: NDArray
    top: int  # errors are bounded in 2^top

    @classmethod
    def of(cls, center: NDArray) -> "_Units":
        """Return those that bring rows and columns to one size, if they are of very different ones.

        Errors are bounded in the caller's units, weighted.
        """
        r, c = np.zeros((2, len(center)), dtype=np.int64)
        if bool(are_mixed(center[None])[0]):
            r, c = common_units(center)
        x, y = entry_exponents(r, c)
        r, c = (0 * r, 0 * c) if not x.any() else (r, c)
        return cls(r, c, x, y, int((-y).max()))


def _closed_form(form: ModelForm, place: Place, units: _Units) -> float:
    """Return what `taylor_bound` says if the model is a series about the centre of the region.

    That is X ← B − BEX, in which the model's B and E may be off by their rounding.
    """
    if form.taylor is None or form.layers or form.linear is not None:
        return math.inf
    sampler, directions, center, n = place.sampler, place.directions, place.center, place.n
    point, inverse, order = form.taylor
    apart = np.ldexp(np.abs(center - point), units.x.reshape(n, n))
    if apart.max() > _NEAR * np.ldexp(np.abs(center), units.x.reshape(n, n)).max():
        return math.inf
    axes, norm = getattr(sampler, "axes_", None), sampler.certificate_.norm
    up, least = 1 + 8 * (n + 2) * EPS, 8 * n * TINY
    with np.errstate(over="ignore", invalid="ignore"):
        closed = taylor_bound(center, sampler.radius_, order, norm, axes=axes).max_error
        exact = scaled(center, np.zeros(()), None, scaling=(units.r, units.c))
        known = np.ldexp(inverse, units.y.reshape(n, n) + exact.unit)
        off = (np.abs(known - exact.center.B) + exact.center.error) * up + least
        reach = np.abs(directions).sum(axis=0) * (1 + len(directions) * EPS)
        reach = np.ldexp(reach, units.x - exact.unit).reshape(n, n) + TINY
        apart = np.ldexp(apart, -exact.unit) * up + TINY
        B = (np.abs(known) + off) * up
        size, lost = B, off
        for _ in range(order):
            turned = off @ reach @ size + B @ (reach @ lost + apart @ size)
            lost = off + turned * up**3 + least
            size = (B + B @ (reach + apart) @ size) * up**3 + least
        lost = scaled_up(lost * up, -units.y.reshape(n, n) - exact.unit).max()
        total = float(scaled_up((closed + lost) * up + TINY, -units.top))
    return total if total == total else math.inf
