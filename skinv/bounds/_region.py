"""Proven bounds of the worst error of a model over a whole region, by branch and bound."""

import math
import time
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from .._arrays.conversion import real_array
from .._arrays.estimators import unwrapped
from .._arrays.results import RegionError
from .._linalg.form import ModelForm, on_entries
from .._linalg.units import are_mixed, entry_exponents
from ..geometry._drawing import check_sampler
from ..geometry._enclosure import common_units
from ..geometry._rounding import EPS, TINY, scaled_down, scaled_up
from ..geometry._scaled import scaled
from ._taylor import taylor_bound

# Centres of series that differ by less than this share of the largest entry do so by rounding.
_NEAR = 1e-6
_CONSTRAINTS: dict[str, list] = {
    "rtol": [Interval(Real, 0, None, closed="left")],
    "max_boxes": [Interval(Integral, 1, None, closed="left")],
    "max_time": [Interval(Real, 0, None, closed="left"), None],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def certify_region(
    model: Any,
    sampler: Any,
    rtol: float = 0.05,
    max_boxes: int = 1_000_000,
    *,
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
    model : LinearInverseApprox, NeuralInverseRegressor or StructuredInverse
        Fitted; also inside a :class:`sklearn.frozen.FrozenEstimator` or a fitted search.
    sampler : FeasibleRegionSampler
        Fitted. The region is that of its samples: with a `structure`, and of complex matrices, only
        those that have it; for "mahalanobis" the span of the data, without the numerical thickness
        of the other directions; matrices that ``min_distance`` would reject are included.
    rtol : float, default=0.05
        Stop when ``upper <= (1 + rtol) * lower``.
    max_boxes : int, default=1_000_000
        Stop after so many boxes.
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
        A Bunch. ``lower``, ``upper``: proven bounds of the supremum over the region of the largest
        entry of ``|f(A) − A⁻¹|``; ``upper`` is inf where not all of the region could be shown to be
        regular. ``witness`` (n, n): a matrix of the region whose error is ``lower``. ``gap``:
        upper/lower − 1. ``n_boxes``: boxes bounded. ``status``: why the search stopped:
        "converged" if `rtol` is reached, else "max_boxes", "max_time" or "interrupted". The bounds
        hold in any case.

    Raises
    ------
    ValueError
        For another kind of model, a model of something else than inverses, a region of matrices
        of another size or without the structure that the model needs, or a device that there is
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

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, LinearInverseApprox
    >>> region = FeasibleRegionSampler([[3.0, 1.0], [1.0, 2.0]], 0.5).fit()
    >>> proof = certify_region(LinearInverseApprox([[3.0, 1.0], [1.0, 2.0]]).fit(), region)
    >>> proof.lower, proof.upper, proof.status  # samples rarely show more than 0.3
    (0.746666, 0.746666, 'converged')
    >>> proof.witness
    array([[2.5, 1.5],
           [1.5, 1.5]])
    """
    validate_parameter_constraints(_CONSTRAINTS, locals(), "certify_region")
    end = math.inf
    if max_time is not None:
        end = time.monotonic() + float(real_array(max_time, "max_time"))
    form = _model_form(model)
    check_sampler(sampler)
    own, given = getattr(unwrapped(model), "_structure", None), sampler._structure
    if own is not None and (
        given is None or own.is_complex > given.is_complex or own.is_symmetric > given.is_symmetric
    ):
        raise ValueError(
            f"Got {unwrapped(model)!r} and a region with matrices that do not have its structure, "
            f"to which it has no answer: fit the sampler to complex matrices, or with "
            f"structure='symmetric', like the model."
        )
    norm, directions = _coordinates(sampler)
    center = sampler.center_.ravel()
    if form.constant.size != center.size or form.origin.size != center.size:
        raise ValueError(
            f"Got a model from {form.origin.size} to {form.constant.size} numbers and a region of "
            f"matrices of {center.size} entries, but both must be of square matrices of one size."
        )
    from ._problem import Problem
    from ._search import Search

    units = _Units.of(sampler.center_)
    problem = Problem(
        form.in_units(-units.x, -units.y),
        np.ldexp(center, units.x),
        np.ldexp(directions, units.x),
        norm,
        _place(device),
        np.ldexp(1.0, -units.y - units.top),
    )
    cap = _closed_form(form, sampler, directions, units)
    search = Search(problem, cap, float(real_array(rtol, "rtol")), int(max_boxes), end)
    search.run(check_random_state(random_state), bool(verbose))
    n = problem.n
    lower = float(scaled_down(search.proven_lower(), units.top))
    upper = float(scaled_up(search.upper(), units.top))
    return RegionError(
        lower=lower,
        upper=upper,
        gap=upper / lower - 1 if lower > 0 else math.inf if upper > 0 else 0.0,
        witness=(center + search.witness.cpu().numpy() @ directions).reshape(n, n),
        n_boxes=search.n_boxes,
        status=search.status,
    )


def _model_form(model: Any) -> ModelForm:
    """Return the form of the model inside frozen estimators and searches."""
    model = unwrapped(model)
    if not hasattr(model, "_model_form"):
        raise ValueError(
            f"Got a {type(model).__name__}, but only errors of LinearInverseApprox, "
            f"NeuralInverseRegressor and StructuredInverse can be bounded over a region."
        )
    check_is_fitted(model)
    return on_entries(model._model_form())


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


def _closed_form(form: ModelForm, sampler: Any, directions: NDArray, units: _Units) -> float:
    """Return what `taylor_bound` says if the model is a series about the centre of the region.

    That is X ← B − BEX, in which the model's B and E may be off by their rounding.
    """
    if form.taylor is None or form.layers or form.linear is not None:
        return math.inf
    center, n = sampler.center_, len(sampler.center_)
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


def _coordinates(sampler: Any) -> tuple[str, NDArray[np.float64]]:
    """Return the norm p of a region center + {z @ directions : ‖z‖_p <= 1}, and the directions."""
    norm, radius = sampler.certificate_.norm, sampler.radius_
    if norm == "mahalanobis":
        return "l2", sampler.axes_ * radius
    d = sampler.center_.size
    widths = np.broadcast_to(np.asarray(radius, dtype=np.float64), sampler.center_.shape).ravel()
    structure = sampler._structure
    if structure is None:
        directions = np.diag(widths)[widths > 0]
    else:  # a free number that stands at m entries adds m|p|^q to the q-th power of the norm in lq
        widths = widths[structure.first] / structure.multiplicity**sampler._region.share
        directions = structure.unpack(np.diag(widths))[widths > 0]
    return norm, directions if len(directions) else np.zeros((1, d))
