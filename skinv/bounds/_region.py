"""Proven bounds of the worst error of a model over a whole region, by branch and bound."""

import math
import time
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
from ..geometry._drawing import check_sampler
from ..geometry._scaled import check_region
from ._taylor import taylor_bound

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
    bound by the ball. The number of boxes grows steeply with the number of directions in the
    region: two-by-two and three-by-three boxes take seconds, for more than a dozen directions
    expect little more than the bound of the whole region. The model is taken as the function it
    is in real arithmetic; rounding in this computation is covered by a term of some hundred units
    in the last place of the largest intermediate result.

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

    problem = Problem(form, center, directions, norm, _place(device))
    cap = _closed_form(form, sampler, problem)
    search = Search(problem, cap, float(real_array(rtol, "rtol")), int(max_boxes), end)
    search.run(check_random_state(random_state), bool(verbose))
    n = problem.n
    lower, upper = search.proven_lower(), search.upper()
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


def _closed_form(form: ModelForm, sampler: Any, problem: Any) -> float:
    """Return what `taylor_bound` says if the model is a series at the centre of the region.

    The model's inverse of the centre is off by some share of it, and each of its factors in the
    series likewise.
    """
    if form.taylor is None or form.layers or form.linear is not None:
        return math.inf
    center, inverse, order = form.taylor
    if not np.array_equal(center, sampler.center_):
        return math.inf
    axes, norm = getattr(sampler, "axes_", None), sampler.certificate_.norm
    with np.errstate(over="ignore", invalid="ignore"):
        closed = taylor_bound(center, sampler.radius_, order, norm, axes=axes).max_error
        scaled = check_region(center, 0.0, "linf", None)
        exact = scaled.center
        off = np.abs(np.ldexp(inverse, scaled.unit) - exact.B) + exact.error
        share = float((off.sum(axis=1) / np.abs(exact.B).sum(axis=1)).max()) + 1e-15
        total = closed + 2 * (order + 1) * share * problem.magnitude + 2.0**-1021
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
