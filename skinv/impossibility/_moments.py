"""truncated_moments: how the mean error grows as matrices nearer to singular ones are let in."""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from .._arrays.conversion import real_array
from .._arrays.estimators import unwrapped
from .._arrays.results import TruncatedMoments
from .._arrays.shapes import as_stack
from .._arrays.warned import warn
from .._linalg.draws import HostDraws, private_generator
from .._linalg.products import exact_inverse
from ..geometry._drawing import check_sampler
from ._models import Predictions

# Matrices whose predictions are held at once.
_BLOCK = 20_000
# Share of the samples that stay uniform.
_UNIFORM = 0.25


def truncated_moments(
    model: Any,
    sampler: Any,
    p: ArrayLike = (1, 2, 3),
    cutoffs: ArrayLike | None = None,
    *,
    n_samples: int = 200_000,
    random_state: Any = None,
) -> TruncatedMoments:
    """Estimate mean powers of a model's error over a region, without what is nearly singular.

    Over a region that holds singular matrices the mean error of every bounded approximation is
    infinite. Leave out what is nearer than ε to a singular matrix, and it is finite, but grows
    without limit as ε shrinks. Samples drawn evenly hardly ever show that, as the error comes from
    a small set: most are drawn toward it here, and weighted back.

    Parameters
    ----------
    model : fitted regressor or torch.nn.Module
        Predicts inverses from rows of n*n entries.
    sampler : FeasibleRegionSampler
        Fitted; its region, in l1, l2 or linf, is what the means are over. Make it large enough to
        hold singular matrices (``sampler.margin_`` negative): otherwise nothing grows. Its own
        `min_distance` is not used.
    p : float or array-like of shape (n_p,), default=(1, 2, 3)
        Powers, at least 1.
    cutoffs : array-like of shape (k,), default=None
        The distances ε, by the smallest singular value. None takes seven from 1e-3 to 1e-6 times
        the largest singular value of the centre. For the fitted growth they should be evenly
        spaced on a logarithmic scale, and small against 1/‖f‖.
    n_samples : int, default=200_000
        How many matrices to draw.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws; the sampler's own stream is left alone.

    Returns
    -------
    TruncatedMoments
        A Bunch.

        p : float or ndarray of shape (n_p,)
            The powers.
        cutoffs : ndarray of shape (k,)
            From large to small.
        moments, standard_errors : ndarray of shape (k,) or (n_p, k)
            Mean over the region of ‖f(A) − A⁻¹‖_F^p, counted as 0 nearer than ε, and its standard
            error.
        growth, growth_error : float or ndarray of shape (n_p,)
            The exponent g with which the part of the moment between neighbouring cutoffs grows,
            like ε^{-g}, and its standard error; NaN with fewer than three cutoffs or where nothing
            lies between them. 0 means that the moment grows like log(1/ε).
        expected_growth : float or ndarray of shape (n_p,)
            p − 1.
        fitted : ndarray of shape (k,) or (n_p, k)
            The moments that the fitted growth gives, starting from the largest cutoff.
        relative_moments, relative_standard_errors, relative_fitted
            The same for ‖f(A) − A⁻¹‖_F / ‖A⁻¹‖_F, which tends to 1 at singular matrices.
        relative_growth, relative_growth_error, relative_expected_growth
            What lies between the cutoffs shrinks like ε, growth −1, and the moments converge.
        n_samples : int
            The number of matrices drawn.

    Raises
    ------
    ValueError
        For a region of another norm or of structured matrices, cutoffs that are not positive,
        powers below 1 or so large that errors overflow, or predictions that are not finite.

    Warns
    -----
    UserWarning
        If nothing of the region lies between the cutoffs from a singular matrix.

    Notes
    -----
    Near a singular matrix of rank n − 1 the distance d to the singular set has a positive density
    at 0 and the error is about 1/d, so the part between ε and ε' is about ``c ∫ t^{-p} dt``:
    log(ε/ε') for p = 1, and proportional to ε^{1−p} beyond (Ji, Wu and Xi 2025, "Rethinking
    Neural-based Matrix Inversion: Why can't, and Where can").

    A sample starts uniform in the region; in three of four one entry, chosen at random, is drawn
    anew from a density proportional to ``1/(|x − x*| + ε_min)``, where x* makes the matrix
    singular. The determinant is affine in each entry, so x* = x − 1/(A⁻¹)_ji. The weight is one
    over the average density, relative to the uniform one, of all the ways in which the matrix could
    have been drawn (the balance heuristic of Veach and Guibas 1995). The exponent is fitted by
    generalised least squares to the logarithms of the parts, with their sampled covariance.

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, LinearInverseApprox
    >>> center = [[3.0, 1.0], [1.0, 2.0]]
    >>> region = FeasibleRegionSampler(center, 2.0).fit()  # past the distance of 5/7
    >>> model = LinearInverseApprox(center).fit()
    >>> found = truncated_moments(model, region, 2, n_samples=20_000, random_state=0)
    >>> bool(abs(found.growth - 1) < 3 * found.growth_error), found.growth_error < 0.1
    (True, True)
    """
    check_sampler(sampler)
    several = [Interval(Integral, 2, None, closed="left")]
    validate_parameter_constraints(
        {"n_samples": several, "random_state": ["random_state"]},
        {"n_samples": n_samples, "random_state": random_state},
        "truncated_moments",
    )
    _check_region(sampler)
    powers, edges = _checked_powers(p), _checked_cutoffs(cutoffs, sampler)
    predictions = Predictions(unwrapped(model), len(sampler.center_))
    proposal = _TowardSingular(sampler, float(edges[-1]))
    rng, n_samples = private_generator(random_state), int(n_samples)
    # Of absolute and relative errors, (2, n_powers, n_parts): parts are above the first cutoff, and
    # between neighbouring ones.
    sums, squares = np.zeros((2, 2, len(powers), len(edges)))
    for start in range(0, n_samples, _BLOCK):
        with np.errstate(over="ignore", invalid="ignore"):
            A, weight = proposal.draw(min(_BLOCK, n_samples - start), rng)
            part, values = _weighted_errors(A, weight, predictions, edges, powers)
            for k in range(len(edges)):
                chosen = values[:, :, part == k]
                sums[..., k] += chosen.sum(axis=2)
                squares[..., k] += (chosen**2).sum(axis=2)
    if not np.isfinite(squares).all():
        raise ValueError(f"Got p={p!r}, for which powers of errors near {edges[-1]:.2g} overflow.")
    if len(edges) > 2 and not sums[:, :, 1:].any():
        warn(
            "No sample is between the cutoffs from a singular matrix, so there is no growth to "
            "fit: the region keeps away from them. Fit a sampler with a larger radius.",
        )

    def shaped(values: Any) -> Any:
        """Return an array with a row for each power, or the only row of a number p."""
        if np.ndim(p):
            return np.asarray(values)
        return float(values[0]) if np.ndim(values) == 1 else values[0]

    def described(kind: int, prefix: str) -> dict[str, Any]:
        pairs = zip(sums[kind], squares[kind], strict=True)
        found = [_moments(*pair, n_samples, edges) for pair in pairs]
        return {f"{prefix}{key}": shaped([each[key] for each in found]) for key in found[0]}

    return TruncatedMoments(
        p=shaped(powers),
        cutoffs=edges,
        **described(0, ""),
        expected_growth=shaped(powers - 1),
        **described(1, "relative_"),
        relative_expected_growth=shaped(-np.ones(len(powers))),
        n_samples=n_samples,
    )


def _check_region(sampler: Any) -> None:
    norm = sampler.certificate_.norm
    if norm not in _ROOM:
        raise ValueError(
            f"Got a region with norm={norm!r}, but moments are estimated over those of "
            f"{', '.join(_ROOM)} only: fit a box around the same matrices."
        )
    if sampler._structure is not None:
        raise ValueError(
            "Got a region of complex or symmetric matrices, but moments are estimated over all "
            "matrices of a region: fit a sampler without structure around the same center."
        )


def _checked_powers(p: Any) -> NDArray:
    powers = np.atleast_1d(real_array(p, "p"))
    if powers.ndim != 1 or powers.size == 0 or not (1 <= powers.min() <= powers.max() < np.inf):
        raise ValueError(f"Got p={p!r}, but powers are numbers of at least 1.")
    return powers


def _checked_cutoffs(cutoffs: Any, sampler: Any) -> NDArray:
    """Return the cutoffs from large to small."""
    if cutoffs is None:
        cutoffs = np.linalg.norm(sampler.center_, 2) * np.geomspace(1e-3, 1e-6, 7)
    edges = np.unique(real_array(cutoffs, "cutoffs").ravel())[::-1]
    if edges.size == 0 or not (np.isfinite(edges).all() and edges[-1] > 0):
        raise ValueError(f"Got cutoffs={cutoffs!r}, but distances are positive.")
    return edges


def _weighted_errors(
    A: NDArray, weight: NDArray, predictions: Predictions, edges: NDArray, powers: NDArray
) -> tuple[NDArray, NDArray]:
    """Return between which cutoffs each matrix lies, and its weighted errors (2, n_powers, m)."""
    A = predictions.round(A)
    if not np.isfinite(A).all():
        raise ValueError("Got a region of matrices too large for the model's precision.")
    distance = np.linalg.svd(A, compute_uv=False)[:, -1]
    kept = distance >= edges[-1]
    A, weight, distance = A[kept], weight[kept], distance[kept]
    if len(A) == 0:
        return np.zeros(0, dtype=int), np.zeros((2, len(powers), 0))
    inverse, predicted = exact_inverse(A), predictions(A)
    if not np.isfinite(predicted).all():
        raise ValueError("Got predictions with NaN or infinity, of which there are no moments.")
    error = np.linalg.norm(predicted - inverse, axis=(1, 2))
    relative = error / np.linalg.norm(inverse, axis=(1, 2))
    part = np.searchsorted(-edges, -distance, side="left")
    both = np.stack([error, relative])[:, None, :] ** powers[:, None]
    return part, weight * both


def _moments(sums: NDArray, squares: NDArray, n_samples: int, edges: NDArray) -> dict[str, Any]:
    """Return moments past each cutoff, and the growth of the parts between them."""
    parts = sums / n_samples
    # Parts are means of things that are never both different from 0: their covariance is
    # diag(mean square) − mean meanᵀ, over the number of samples.
    covariance = (np.diag(squares / n_samples) - np.outer(parts, parts)) / (n_samples - 1)
    total = np.tri(len(edges))
    variance = np.einsum("ij,jk,ik->i", total, covariance, total)
    growth, growth_error, fitted = _growth(parts[1:], covariance[1:, 1:], edges)
    return {
        "moments": total @ parts,
        "standard_errors": np.sqrt(np.maximum(variance, 0.0)),
        "growth": growth,
        "growth_error": growth_error,
        "fitted": parts[0] + np.concatenate([[0.0], np.cumsum(fitted)]),
    }


def _growth(parts: NDArray, covariance: NDArray, edges: NDArray) -> tuple[float, float, NDArray]:
    """Fit log(part) against log(1/ε); return slope, its standard error, and the fitted parts."""
    found = parts > 0
    if found.sum() < 2:
        return np.nan, np.nan, np.full(len(parts), np.nan)
    widths = np.log(edges[:-1] / edges[1:])
    x = -0.5 * np.log(edges[:-1] * edges[1:])
    y = np.log(parts[found] / widths[found])
    C = covariance[np.ix_(found, found)] / np.outer(parts[found], parts[found])
    design = np.stack([np.ones(found.sum()), x[found]], axis=1)
    solved = np.linalg.lstsq(C, np.column_stack([design, y]), rcond=None)[0]
    normal = design.T @ solved[:, :2]
    coefficients = np.linalg.solve(normal, design.T @ solved[:, 2])
    error = float(np.sqrt(np.linalg.inv(normal)[1, 1]))
    with np.errstate(over="ignore"):  # of a line through few samples
        fitted = np.exp(coefficients[0] + coefficients[1] * x) * widths
    return float(coefficients[1]), error, fitted


# -- drawing toward singular matrices --------------------------------------------------------------

# How far each entry may deviate from the centre while the others stay, by norm: from deviations,
# radius.
_ROOM = {
    "linf": lambda E, r: np.broadcast_to(r, E.shape),
    "l2": lambda E, r: np.sqrt(np.maximum(r**2 - (E**2).sum(axis=1, keepdims=True) + E**2, 0.0)),
    "l1": lambda E, r: np.maximum(r - np.abs(E).sum(axis=1, keepdims=True) + np.abs(E), 0.0),
}


class _TowardSingular:
    """Draws of a region's matrices, more of them the nearer to a singular one, with weights."""

    def __init__(self, sampler: Any, scale: float):
        self.region = region = sampler._region
        self.room = _ROOM[sampler.certificate_.norm]
        self.scale = scale
        self.far = 1e6 * float(np.abs(region.center).max() + np.max(region.radius))
        self.free = np.flatnonzero(np.broadcast_to(region.radius, region.center.shape) > 0)
        if self.free.size == 0:
            raise ValueError("Got a region of radius 0, over which there is nothing to average.")

    def draw(self, m: int, rng: np.random.RandomState) -> tuple[NDArray, NDArray]:
        """Return matrices (m, n, n) and the weights that make their mean one over the region."""
        rows = self.region.center + self.region.draw(m, HostDraws(rng))
        entry = self.free[rng.randint(self.free.size, size=m)]
        moved = np.flatnonzero(rng.random_sample(m) >= _UNIFORM)
        low, high = self._ends(rows)
        index = moved, entry[moved]
        root = (rows + self._to_singular(rows))[index]
        first, last = (self._integral(end[index] - root) for end in (low, high))
        value = first + rng.random_sample(moved.size) * (last - first)
        drawn = root + np.sign(value) * self.scale * np.expm1(np.abs(value))
        rows[index] = np.clip(drawn, low[index], high[index])
        return as_stack(rows), self._weights(rows)

    def _ends(self, rows: NDArray) -> tuple[NDArray, NDArray]:
        center = self.region.center
        room = self.room(rows - center, self.region.radius)
        return center - room, center + room

    def _to_singular(self, rows: NDArray) -> NDArray:
        """Return how far each entry, moved alone, is from making its matrix singular."""
        with np.errstate(divide="ignore", invalid="ignore"):
            away = -1.0 / exact_inverse(as_stack(rows)).transpose(0, 2, 1).reshape(rows.shape)
        # Exactly singular: no entry has to move. Far away the density is as good as even.
        away = np.where(np.isnan(away), 0.0, away)
        return np.clip(away, -self.far, self.far)

    def _integral(self, t: NDArray) -> NDArray:
        """Return ∫ from 0 to t of 1/(|u| + ε) du."""
        return np.sign(t) * np.log1p(np.abs(t) / self.scale)

    def _weights(self, rows: NDArray) -> NDArray:
        low, high = (end[:, self.free] for end in self._ends(rows))
        away = self._to_singular(rows)[:, self.free]
        root = rows[:, self.free] + away
        mass = self._integral(high - root) - self._integral(low - root)
        with np.errstate(divide="ignore", invalid="ignore"):
            density = (high - low) / (mass * (np.abs(away) + self.scale))
        return 1.0 / (_UNIFORM + (1 - _UNIFORM) * np.nan_to_num(density, nan=1.0).mean(axis=1))
