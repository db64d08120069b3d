"""Proven bounds of the worst error of a model over a whole region, by branch and bound."""

from __future__ import annotations

import math
import time
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from .._arrays.estimators import unwrapped
from .._arrays.host import real_array
from .._arrays.progress import progress
from .._arrays.results import RegionError
from .._linalg.form import ModelForm, on_entries
from ..geometry._drawing import check_sampler
from ..geometry._regularity import check_region
from ._taylor import taylor_bound

_CONSTRAINTS: dict[str, list] = {
    "rtol": [Interval(Real, 0, None, closed="left")],
    "max_boxes": [Interval(Integral, 1, None, closed="left")],
    "max_time": [Interval(Real, 0, None, closed="left"), None],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
# Boxes halved at once, at first and at most.
_BATCH = (64, 2**14)
# Points that the search for a bad matrix starts from, and steps it takes.
_STARTS, _ASCENTS, _STEPS = 4096, 64, 60
# The model is asked for about as many products at once, of this many points at least.
_PRODUCTS, _POINTS = 2**26, 64


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
        Fitted; also inside a :class:`sklearn.frozen.FrozenEstimator` or a fitted search. Of a
        structured one the region must have the structure.
    sampler : FeasibleRegionSampler
        Fitted. The region is that of its samples: with a `structure`, and of complex matrices, only
        those that have it; for "mahalanobis" the span of the data, without the numerical thickness
        of the other directions; matrices that ``min_distance`` would reject are included.
    rtol : float, default=0.05
        Stop when ``upper <= (1 + rtol) * lower``.
    max_boxes : int, default=1_000_000
        Stop after so many boxes.
    max_time : float or None, default=60.0
        Stop after so many seconds, a little later where a step of the search or the bound in closed
        form, from which it starts, takes longer. What is proven by then depends on the machine;
        None, with which only `rtol` and `max_boxes` end the search, gives the same bounds again.
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
    params = {
        "rtol": rtol,
        "max_boxes": max_boxes,
        "max_time": max_time,
        "device": device,
        "random_state": random_state,
        "verbose": verbose,
    }
    validate_parameter_constraints(_CONSTRAINTS, params, "certify_region")
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
    import torch

    from ._problem import Problem

    try:
        place = torch.device(device)
        float(torch.zeros(1, dtype=torch.float64, device=place))
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"Got device={device!r}, but one that torch has here is expected, and that knows "
            f"float64, such as 'cpu' or 'cuda'."
        ) from error
    problem = Problem(form, center, directions, norm, place)
    search = _Search(problem, float(real_array(rtol, "rtol")), int(max_boxes), end)
    search.cap = _closed_form(form, sampler, problem)
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


class _TimeIsUp(Exception):
    """Raised by what the search waits for."""


class _Search:
    """Best-first bisection in batches; what it holds is valid at every moment."""

    def __init__(self, problem: Any, rtol: float, max_boxes: int, end: float):
        import torch

        self.problem, self.rtol, self.max_boxes, self.end = problem, rtol, max_boxes, end
        self.lower, self.status, self.n_boxes = 0.0, "converged", 0
        self.settled = 0.0  # the largest bound among boxes that need no more work
        self.cap = math.inf  # a bound known without a search
        # The whole region, of which nothing is known yet.
        self.witness = torch.zeros(problem.d, dtype=torch.float64, device=problem.device)
        self.z = self.witness[None].clone()
        self.half = torch.ones_like(self.z)
        self.bounds = torch.full_like(self.z[:, 0], torch.inf)
        self.side = torch.zeros_like(self.bounds, dtype=torch.int64)

    def check_time(self) -> None:
        """Raise _TimeIsUp past the end."""
        if self.end < math.inf and time.monotonic() >= self.end:
            raise _TimeIsUp

    def errors(self, z: Any) -> Any:
        """Return the largest entry of the error at points; 0 where there is no inverse."""
        import torch

        found = []
        for part in z.split(max(_PRODUCTS // (z.shape[1] * self.problem.n**2), _POINTS)):
            found.append(self.problem.errors(part).abs())
            self.problem.tick()
        return torch.nan_to_num(torch.cat(found), nan=0.0, posinf=0.0).amax(1)

    def look(self, z: Any) -> None:
        """Remember the worst of some points of the region."""
        errors = self.errors(z)
        worst = int(errors.argmax())
        if float(errors[worst]) > self.lower:
            self.lower, self.witness = float(errors[worst]), z[worst].clone()

    def sample(self, rng: np.random.RandomState) -> None:
        """Look at random points and corners, and climb from the worst of them."""
        import torch

        problem, d = self.problem, self.problem.d
        starts = max(2, min(_STARTS, 2**22 // d**2))
        z = rng.uniform(-1, 1, size=(starts, d))
        z[::2] = np.where(z[::2] < 0, -1.0, 1.0)
        if problem.norm != "linf":
            ends = np.eye(min(d, _STARTS), d)
            z = np.vstack([ends, -ends, z])
        z = problem.project(torch.tensor(z, device=problem.device))
        self.look(z)
        z, step = z[self.errors(z).topk(min(_ASCENTS, len(z))).indices], 0.5
        for _ in range(_STEPS):
            problem.tick()
            z = z.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(problem.errors(z).abs().amax(1).sum(), z)
            slope = torch.nan_to_num(slope)
            if problem.norm == "linf":
                direction = slope.sign()
            else:
                length = torch.linalg.vector_norm(slope, dim=1, keepdim=True)
                direction = slope / length.clamp(min=1e-300)
            z = problem.project(z.detach() + step * direction)
            self.look(z)
            step *= 0.93

    def upper(self) -> float:
        """Return the proven upper bound."""
        return max(self.settled, self.lower, float(self.bounds.max()) if len(self.bounds) else 0.0)

    def proven_lower(self) -> float:
        """Return the witness's error, less what rounding may have added to it."""
        import torch

        if self.lower == 0:
            return 0.0
        here = self.witness[None]
        bound, _, _ = self.problem.bound(here, torch.zeros_like(here))
        return max(0.0, min(self.lower, 2 * self.lower - float(bound[0])))

    def run(self, rng: np.random.RandomState, verbose: bool) -> None:
        """Halve boxes until the gap is closed."""
        import torch

        size = _BATCH[0]
        with progress(self.max_boxes, "certifying", "box", verbose) as bar:
            try:
                self.bounds.fill_(self.cap)
                self.look(self.z)
                self.problem.set_tick(self.check_time)
                bounds, self.side, corner = self.problem.bound(self.z, self.half)
                self.bounds, self.n_boxes = torch.minimum(self.bounds, bounds), 1
                self.look(self.problem.project(corner))
                self.sample(rng)
                bar.update(1)
                bar.set_postfix_str(self.summary())
                while self.settle() and self.n_boxes + 2 <= self.max_boxes:
                    before = self.n_boxes
                    self.halve(min(size, (self.max_boxes - self.n_boxes) // 2))
                    bar.update(self.n_boxes - before)
                    if verbose:
                        bar.set_postfix_str(self.summary(), refresh=False)
                    size = min(2 * size, _BATCH[1])
                if len(self.bounds):
                    self.status = "max_boxes"
            except _TimeIsUp:
                self.status = "max_time"
            except KeyboardInterrupt:
                self.status = "interrupted"
        self.problem.set_tick()

    def summary(self) -> str:
        """Say what is proven by now."""
        upper = self.upper()
        gap = upper / self.lower - 1 if self.lower > 0 else math.inf
        return f"{self.lower:.4g} to {upper:.4g}, gap {gap:.1%}"

    def settle(self) -> bool:
        """Put aside the boxes that are bounded well enough; tell whether others are left."""
        keep = ~(self.bounds <= self.lower * (1 + self.rtol))
        if not bool(keep.all()):
            self.settled = max(self.settled, float(self.bounds[~keep].max()))
            self.z, self.half = self.z[keep], self.half[keep]
            self.bounds, self.side = self.bounds[keep], self.side[keep]
        return len(self.bounds) > 0

    def halve(self, size: int) -> None:
        """Halve the worst boxes."""
        import torch

        problem = self.problem
        size = min(size, len(self.bounds))
        worst = torch.topk(self.bounds, size).indices
        rest = torch.ones(len(self.bounds), dtype=torch.bool, device=problem.device)
        rest[worst] = False
        each = torch.arange(size, device=problem.device)
        side = self.side[worst]
        half = self.half[worst]
        half[each, side] /= 2
        shift = torch.zeros_like(half)
        shift[each, side] = half[each, side]
        z = self.z[worst]
        z, half = problem.clipped(torch.cat((z - shift, z + shift)), torch.cat((half, half)))
        bounds, sides, corner = problem.bound(z, half)
        bounds = torch.minimum(bounds, self.bounds[worst].repeat(2))  # a part of its parent
        bounds[problem.outside(z, half)] = 0.0
        self.look(problem.project(corner))
        # All is computed before anything is stored, and the bounds alone make the upper bound.
        self.bounds, self.side, self.z, self.half = (
            torch.cat((self.bounds[rest], bounds)),
            torch.cat((self.side[rest], sides)),
            torch.cat((self.z[rest], z)),
            torch.cat((self.half[rest], half)),
        )
        self.n_boxes += 2 * size
