"""Proofs that a region around a matrix holds no singular matrix.

A region is center + { E : N(E) <= radius } for a norm N of the flattened perturbation: a box (with
one half-width or one per entry), an l2 or l1 ball, or the ellipsoid of a covariance. Its *margin*
is a proven lower bound on what is left of the distance to the singular matrices after the radius
and a safety distance are taken off. Tests are sufficient, most not necessary: a negative margin
says "not proven".
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import real_array, subnormal
from .._arrays.results import RegionCertificate
from .._linalg.inverses import check_center
from ._boxes import VERTEX_ORDER, beeck_margin, vertex_margin
from ._distance import EXACT_ORDER, check_distance_norm, distance_bounds
from ._enclosure import Center, enclosed_inverse
from ._positive_map import contraction, perron_metrics, preconditioners, tensor_norm_bound
from ._rounding import EPS, SQUARED, TINY, below, scaled_down, scaled_up, unit_scale
from ._subdivision import subdivided_margin

# In units of the centre's largest entry: inverses with larger entries are not worked with, and
# margins below this are not told from what underflows on the way.
_LARGEST, _LEAST = 1e150, 1e-150
# Shares of the identity in the metrics that are tried, from the l2 norm to nearly the best one.
_SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 1e-5)
# A step of the iteration takes about 4 rank n³ operations; with more than this, one metric must do.
_LARGE = 1e8
# With axes of entries below 1, products of those of a larger radius might overflow.
_LARGE_RADIUS = 1e90


def region_margin(
    center: ArrayLike,
    radius: Any,
    norm: str = "linf",
    min_distance: float = 0.0,
    *,
    axes: ArrayLike | None = None,
) -> float:
    """Return how far a region stays from the singular matrices, at least.

    Parameters
    ----------
    center : array-like of shape (n, n)
        The nonsingular centre of the region.
    radius : float or array-like of shape (n, n)
        Radius of the region; an array of half-widths with ``norm="linf"`` only.
    norm : {"linf", "l2", "l1", "mahalanobis"}, default="linf"
        Norm of the flattened perturbation.
    min_distance : float, default=0.0
        Distance to keep from the singular matrices, in the same norm (in l2 for "mahalanobis").
    axes : array-like of shape (rank, n*n), default=None
        For "mahalanobis": semi-axes of the ellipsoid of radius 1, as rows.

    Returns
    -------
    float
        A proven lower bound on the distance between region and singular matrices, less
        `min_distance`, in the same norm (in l2 for "mahalanobis"); not positive: nothing proven.

    Raises
    ------
    ValueError
        For a singular or non-finite centre, a negative radius or `min_distance`, a radius or axes
        of the wrong shape, or an unknown norm.

    See Also
    --------
    region_certificate : The same with the deciding test and its numbers.

    Examples
    --------
    >>> region_margin([[3.0, 1.0], [1.0, 2.0]], 0.5)  # 5/7 - 1/2
    0.2142857
    >>> region_margin([[3.0, 1.0], [1.0, 2.0]], [[0.5, 0.0], [0.0, 1.0]])
    0.2727273
    """
    return region_certificate(center, radius, norm, min_distance, axes=axes).margin


def region_certificate(
    center: ArrayLike,
    radius: Any,
    norm: str = "linf",
    min_distance: float = 0.0,
    *,
    axes: ArrayLike | None = None,
) -> RegionCertificate:
    """Return the proof, if there is one, that a region keeps away from the singular matrices.

    Parameters
    ----------
    center, radius, norm, min_distance, axes
        As for :func:`region_margin`.

    Returns
    -------
    RegionCertificate
        A Bunch. ``is_certified``: True if ``margin > 0``, that is if the closed region and its
        `min_distance` neighbourhood hold no singular matrix. ``margin``: see
        :func:`region_margin`. ``distance`` and ``distance_upper``: proven bounds on the distance of
        the centre to the singular matrices in `norm` (inf where no upper bound is known).
        ``test``: the name of the test that decided. ``margins``: the margin by each test.
        ``norm``, ``radius``, ``min_distance``: the question.

    Raises
    ------
    ValueError
        As :func:`region_margin`.

    Notes
    -----
    With B the inverse of the centre A₀ and ε the safety distance:

    * balls: d(A₀) − radius − ε in the ball's own norm, exact in l2, l1, and linf up to n = 20;
    * a box of half-widths Δ: the largest t with spectral radius ``ρ(|B|(Δ + t·1)) < 1``, less ε
      (Beeck 1975, "Zur Problematik der Hüllenbestimmung von Intervallgleichungssystemen"; Rump
      1994, "Verification methods for dense and sparse systems of equations"), d(A₀) − max Δ − ε,
      (σ_min(A₀) − ‖Δ‖₂)/n − ε (Weyl), and for n <= 7 the largest t for which the determinants of
      all vertices of the box of half-widths Δ + t have one sign, less ε: exact if it is not
      negative (Baumann 1984; Rohn 1989, "Systems of linear interval equations");
    * an ellipsoid with semi-axes S_k: σ_min(A₀) − radius·α(S) − ε and
      σ_min(A₀)(1 − radius·α(BS)) − ε, where α is the smallest spectral norm of the three unfoldings
      of the tensor, an upper bound of ‖Σ z_k S_k‖₂ over ‖z‖₂ = 1; the box test of the bounding
      box; and (1 − r)/(‖P^½B‖₂‖P^−½‖₂) − ε, where r = radius·α(P^½BSP^−½) and P is near the Perron
      eigenvector of P ↦ Σ (BS_k)ᵀP(BS_k), a positive map, which makes r about the radius times the
      root of its spectral radius (Evans and Høegh-Krohn 1978, "Spectral properties of positive maps
      on C*-algebras"). If all that fails, the ellipsoid is cut into pieces, up to 128 of them and
      fewer the larger n and rank are, with a centre and a P of their own; the smallest of their
      margins counts. (It may then exceed that of a smaller ellipsoid, which needed no cuts.)

    Inverse and singular values of the centre are enclosed, not guessed, and every margin is rounded
    down, in any floating-point mode, so a region that touches the singular set is not certified. Of
    LAPACK's largest singular values, for spectral norms, a small relative error is assumed.

    Examples
    --------
    >>> c = region_certificate([[3.0, 1.0], [1.0, 2.0]], 5 / 7)
    >>> c.is_certified, c.test
    (False, 'distance of the centre')
    >>> region_certificate(np.eye(2), 0.4, "l1").is_certified
    True
    """
    keep = real_array(min_distance, "min_distance")
    if keep.ndim or not (np.isfinite(keep) and keep >= 0):
        raise ValueError(f"Got min_distance={min_distance!r}, but it must be finite and >= 0.")
    min_distance = float(keep)
    # What a mode may take for zero is not to be lost.
    least = TINY if bool(subnormal(keep[None])[0]) else min_distance
    region = check_region(center, radius, norm, axes)
    point, delta, unit = region.center, region.radius, region.unit
    upper = np.inf
    with np.errstate(all="ignore"):
        if norm != "mahalanobis":
            margins, distance, upper = _ball_margins(point, delta, norm)
        elif np.isfinite(delta):
            target = float(scaled_up(least, -unit))
            margins, distance = _ellipsoid_margins(point, float(delta), region.axes, target)
        else:
            margins, distance = {"none": -np.inf}, 0.0
    lost = point.lost + (float(delta) * region.axes_lost if region.axes_lost else 0.0)
    margins = {name: _rounded_down(m - lost, unit, least) for name, m in margins.items()}
    test = max(margins, key=margins.__getitem__)
    if norm == "mahalanobis" and lost > 0:
        distance = float(delta) if margins[test] > 0 else 0.0
    return RegionCertificate(
        is_certified=margins[test] > 0,
        margin=margins[test],
        distance=float(scaled_down(distance, region.length)),
        distance_upper=float(scaled_up(upper, region.length)),
        test=test,
        margins=margins,
        norm=norm,
        radius=float(region.given) if region.given.ndim == 0 else region.given,
        min_distance=min_distance,
    )


def _rounded_down(margin: float, unit: int, min_distance: float) -> float:
    """Return what a margin in units of 2^unit leaves of the distance to keep."""
    if not margin >= _LEAST:
        margin = min(margin, 0.0)
    left = float(scaled_down(below(margin), unit))
    return float(below(left - min_distance)) if min_distance else left


@dataclass
class ScaledRegion:
    """A region in units of its centre's largest entry; nothing over- or underflows afterwards."""

    center: Center
    radius: NDArray[np.float64]  # of shape () or (n, n); inf where it overflows
    axes: NDArray[np.float64]  # (rank, n, n), largest entry in [1/2, 1); rank 0 of boxes and balls
    axes_lost: float  # bounds the sum of what underflowed in them
    unit: int  # matrices were divided by 2^unit,
    length: int  # and the radius by 2^length
    given: NDArray[np.float64]  # the radius as it came


def check_region(center: ArrayLike, radius: Any, norm: str, axes: ArrayLike | None) -> ScaledRegion:
    """Return a region, scaled; raise a ValueError as `region_margin` does."""
    A = check_center(center)
    delta = real_array(radius, "radius")
    if not (np.isfinite(delta).all() and (delta >= 0).all()):
        raise ValueError(f"Got radius={radius}, but radii are finite and not negative.")
    if delta.ndim and (norm != "linf" or delta.shape != A.shape):
        raise ValueError(
            f"Got a radius of shape {delta.shape} with norm={norm!r}, but only norm='linf' takes "
            f"half-widths per entry, of the shape {A.shape} of the center."
        )
    scaled, (unit,), (lost,) = unit_scale(A[None])
    B, error = enclosed_inverse(scaled)
    point = Center(scaled[0], B[0], error[0], float(lost))
    if not point.absolute.max() < _LARGEST:
        raise ValueError(
            f"The center is singular to working precision (condition number "
            f"{np.linalg.cond(scaled[0]):.1g}); choose a regular center."
        )
    n, length, axes_lost = len(A), unit, 0.0
    S = np.zeros((0, n, n))
    if norm == "mahalanobis":
        if axes is None:
            raise ValueError('norm="mahalanobis" needs the semi-axes of the ellipsoid: pass axes.')
        S = real_array(axes, "axes")
        if S.shape[1:] not in ((n * n,), (n, n)) or not np.isfinite(S).all():
            raise ValueError(
                f"Got axes of shape {S.shape}, but finite rows of shape (rank, {n * n}) are "
                f"expected."
            )
        S = S.reshape(-1, n, n)
        (flat,), (own,), (axes_lost,) = unit_scale(S.reshape(1, len(S), n * n))
        S, length = flat.reshape(S.shape), unit - own if flat.any() else 0
    else:
        check_distance_norm(norm)
    scaled_radius = scaled_up(delta, -length)
    return ScaledRegion(point, scaled_radius, S, float(axes_lost), int(unit), int(length), delta)


def _ball_margins(
    center: Center, radius: NDArray, norm: str
) -> tuple[dict[str, float], float, float]:
    """Return the margin by each test, before `min_distance`, and the centre's distance bounds."""
    n, up = center.n, center.round_up
    _, (distance,), (upper,) = distance_bounds(center.A[None], np.array([center.lost]), norm)
    name = "distance of the centre"
    if norm == "linf" and n > EXACT_ORDER:
        name += " (lower bound)"
    margins = {name: float(below(distance - radius.max()))}
    if radius.ndim and np.isfinite(radius).all():
        beeck = margins["spectral radius (Beeck)"] = beeck_margin(center, radius)
        if n <= VERTEX_ORDER:
            margins["vertex determinants (Rohn)"] = vertex_margin(center, radius, beeck)
        left = center.sigma - float(np.linalg.norm(radius, 2)) * up
        margins["smallest singular value (Weyl)"] = left / n
    return margins, float(distance), float(upper)


def _ellipsoid_margins(
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
        half_widths = radius * (np.sqrt(np.sum(S**2, axis=0)) + SQUARED * S.any()) * up
        large = 4.0 * S.size * center.n > _LARGE
        shares, steps = ((0.1,), 5) if large else (_SHARES, 10)
        margin, distance = -np.inf, 1 / stretch if stretch > 0 else np.inf
        for P in perron_metrics(center.B @ S, shares, steps):
            fixed, slope, loss = contraction(center.A, 0.0, S, *preconditioners(center.B, P))
            margin = max(margin, (1 - fixed - radius * slope) / loss)
            proven = (1 - fixed) / slope * (1 - 4 * EPS) if slope > 0 else np.inf
            distance = max(distance, proven)
        margins = {
            "smallest singular value (Weyl)": center.sigma - radius * size,
            "relative perturbation": center.sigma * (1 - radius * stretch),
            "spectral radius (Beeck) of the bounding box": beeck_margin(center, half_widths),
            "completely positive map": margin,
        }
        if max(margins.values()) <= target < center.sigma and radius < _LARGE_RADIUS:
            margin, pieces = subdivided_margin(center.A, radius * S, target)
            if pieces > 1:
                margins["completely positive map, subdivided"] = margin
            distance = max(distance, radius if margin > 0 else 0.0)
    margins = {name: value if value == value else -np.inf for name, value in margins.items()}
    return margins, distance
