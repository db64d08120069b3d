"""Proofs that an ellipsoid of matrices keeps away from the singular ones."""

import numpy as np
from numpy.typing import NDArray

from ._boxes import beeck_margin
from ._enclosure import Center
from ._positive_map import contraction, perron_metrics, preconditioners, tensor_norm_bound
from ._rounding import EPS
from ._subdivision import subdivided_margin

# Shares of the identity in the metrics that are tried, from the l2 norm to nearly the best one.
_SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 1e-5)
# A step of the iteration takes about 4 rank n³ operations; with more than this, one metric must do.
_LARGE = 1e8
# With axes of entries below 1, products of those of a larger radius might overflow.
_LARGE_RADIUS = 1e90
# Numbers below this have squares that underflow.
_LEAST = 2e-154


def ellipsoid_margins(
    center: Center, radius: float, S: NDArray, target: float
) -> tuple[dict[str, float], float]:
    """Return lower bounds of σ_min on the ellipsoid by each test, and a radius proven regular.

    The axes S (rank, n, n) are those of radius 1, with a largest entry of about 1; only if nothing
    else proves the margin `target` the ellipsoid is subdivided.
    """
    up = center.round_up
    with np.errstate(over="ignore", invalid="ignore"):  # a vast radius proves nothing
        size = tensor_norm_bound(S) * up
        # The inverse is off by `error`, and the product with it by γ|B||S|.
        rounding = (center.n + 2) * EPS * np.linalg.norm(np.abs(center.B) @ np.abs(S))
        rounding += np.linalg.norm(center.error) * size
        stretch = (tensor_norm_bound(center.B @ S) + float(rounding)) * up
        half_widths = radius * (np.sqrt(np.sum(S**2, axis=0)) + _LEAST * S.any()) * up
        margin, distance = _positive_map_margin(center, radius, S)
        margins = {
            "smallest singular value (Weyl)": center.sigma - radius * size,
            "relative perturbation": center.sigma * (1 - radius * stretch),
            "spectral radius (Beeck) of the bounding box": beeck_margin(center, half_widths),
            "completely positive map": margin,
        }
        distance = max(distance, 1 / stretch if stretch > 0 else np.inf)
        if max(margins.values()) <= target < center.sigma and radius < _LARGE_RADIUS:
            margin, pieces = subdivided_margin(center.A, radius * S, target)
            if pieces > 1:
                margins["completely positive map, subdivided"] = margin
            distance = max(distance, radius if margin > 0 else 0.0)
    margins = {name: value if value == value else -np.inf for name, value in margins.items()}
    return margins, distance


def _positive_map_margin(center: Center, radius: float, S: NDArray) -> tuple[float, float]:
    """Return the best margin and the largest distance over a path of metrics."""
    large = 4.0 * S.size * center.n > _LARGE
    shares, steps = ((0.1,), 5) if large else (_SHARES, 10)
    margin, distance = -np.inf, 0.0
    for P in perron_metrics(center.B @ S, shares, steps):
        fixed, slope, loss = contraction(center.A, 0.0, S, *preconditioners(center.B, P))
        margin = max(margin, (1 - fixed - radius * slope) / loss)
        distance = max(distance, (1 - fixed) / slope * (1 - 4 * EPS) if slope > 0 else np.inf)
    return margin, distance
