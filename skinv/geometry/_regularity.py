"""Proofs that a region around a matrix holds no singular matrix.

Of matrices that are not square, none without full rank. A region is center + { E : N(E) <= radius }
for a norm N of the flattened perturbation: a box (with one half-width or one per entry), an l2 or
l1 ball, or the ellipsoid of a covariance. Its *margin* is a proven lower bound on what is left of
the distance to the singular matrices after the radius and a safety distance are taken off. Tests
are sufficient, most not necessary: a negative margin says "not proven".
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import real_array, subnormal
from .._arrays.results import RegionCertificate
from .._arrays.words import RegionNorm
from ._boxes import LEAST, VERTEX_ORDER, beeck_margin, vertex_margin
from ._distance import distance_bounds
from ._enclosure import Center, spectral_norms
from ._positive_map import (
    contraction,
    loss_in,
    own_weights,
    perron_metrics,
    preconditioners,
    tensor_norm_bound,
    weights_in,
)
from ._rounding import EPS, SQUARED, TINY, below, scaled_down, scaled_up
from ._scaled import LARGEST_INVERSE, ScaledRegion, checked, refuse_singular, region_units, scaled
from ._signs import EXACT_ORDER
from ._subdivision import subdivided_margin

# Shares of the identity in the metrics that are tried, from the l2 norm to nearly the best one.
_SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 1e-5)
# A step of the iteration takes about 4 rank n³ operations; with more than this, one metric must do.
_LARGE = 1e8
# With axes of entries below 1, products of those of a larger radius might overflow.
_LARGE_RADIUS = 1e90


def region_margin(
    center: ArrayLike,
    radius: Any,
    norm: RegionNorm = "linf",
    min_distance: float = 0.0,
    *,
    axes: ArrayLike | None = None,
) -> float:
    """Return how far a region stays from the singular matrices, at least.

    Parameters
    ----------
    center : array-like of shape (n, n) or (m, n)
        The nonsingular centre of the region, or one of full rank: all is about the matrices
        without full rank then.
    radius : float or array-like of the shape of `center`
        Radius of the region; an array of half-widths with ``norm="linf"`` only.
    norm : {"linf", "l2", "l1", "mahalanobis"}, default="linf"
        Norm of the flattened perturbation.
    min_distance : float, default=0.0
        Distance to keep from the singular matrices, in the same norm (in l2 for "mahalanobis").
    axes : array-like of shape (rank, m*n), default=None
        For "mahalanobis": semi-axes of the ellipsoid of radius 1, as rows.

    Returns
    -------
    float
        A proven lower bound on the distance between region and singular matrices, less
        `min_distance`, in the same norm (in l2 for "mahalanobis"); not positive: nothing proven.

    Raises
    ------
    ValueError
        For a singular, rank-deficient or non-finite centre, a negative radius or `min_distance`, a
        radius or axes of the wrong shape, or an unknown norm.

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
    norm: RegionNorm = "linf",
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
      (σ_min(Â₀) − ‖D₁ΔD₂‖₂)/‖d₁d₂ᵀ‖₂ − ε (Weyl), and for n <= 7 the largest t for which the
      determinants of all vertices of the box of half-widths Δ + t have one sign, less ε: exact if
      it is not negative (Baumann 1984; Rohn 1989, "Systems of linear interval equations");
    * an ellipsoid with semi-axes S_k: σ_min(A₀) − radius·α(S) − ε and
      σ_min(A₀)(1 − radius·α(BS)) − ε, where α is the smallest spectral norm of the three unfoldings
      of the tensor, an upper bound of ‖Σ z_k S_k‖₂ over ‖z‖₂ = 1; the box test of the bounding
      box; and (1 − r)/(‖P^½BD₁‖₂‖D₂P^−½‖₂) − ε, where r = radius·α(P^½BSP^−½) and P is near the
      Perron eigenvector of P ↦ Σ (BS_k)ᵀP(BS_k), a positive map, which makes r about the radius
      times the root of its spectral radius (Evans and Høegh-Krohn 1978, "Spectral properties of
      positive maps on C*-algebras"). If all that fails, the ellipsoid is cut into pieces, up to 128
      of them and fewer the larger n and rank are, with a centre and a P of their own; the smallest
      of their margins counts. (It may then exceed that of a smaller ellipsoid, which needed no
      cuts.)

    Â₀ = D₁A₀D₂ for powers of two D₁, D₂ (diagonals d₁, d₂) that bring rows and columns of the
    centre to one size; B and S_k of the last are scaled likewise. So it is no matter of units
    whether boxes and ellipsoids are regular, that is certified with ``min_distance=0``, but where
    only a test in a fixed norm shows it; distances, and radii of balls, are in the caller's units.

    Of matrices that are not square, which are looked at with at least as many rows as columns,
    transposed if need be, B is a left inverse: the pseudo-inverse, up to rounding, in the caller's
    units, or where rows are scaled such that deviations in them are of one size. All tests are the
    same but those by determinants, and sufficient only; 1/‖B‖₂ is in the place of the second
    σ_min(A₀), and the distance of the centre in l1 and linf is a lower bound.

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
    return prove_region(center, radius, norm, min_distance, axes)


def prove_region(
    center: ArrayLike,
    radius: Any,
    norm: str,
    min_distance: float,
    axes: ArrayLike | None = None,
    thickness: ArrayLike = 0.0,
) -> RegionCertificate:
    """Return the certificate of a region, of an ellipsoid thickened by so much in each entry.

    Differences F to it have a Frobenius norm of F_ij/thickness_ij up to the radius. Boxes and
    ellipsoids are looked at in units in which rows and columns of the centre are of one size, so
    that whether they are regular is no matter of units; distances are in those of the caller.
    """
    keep = real_array(min_distance, "min_distance")
    if keep.ndim or not (np.isfinite(keep) and keep >= 0):
        raise ValueError(f"Got min_distance={min_distance!r}, but it must be finite and >= 0.")
    min_distance = float(keep)
    # What a mode may take for zero is not to be lost.
    least = TINY if bool(subnormal(keep[None])[0]) else min_distance
    given = checked(center, radius, norm, axes)
    told = given[1]
    if given[0].shape[0] < given[0].shape[1]:
        given, thickness = _transposed(*given), np.transpose(thickness)
    plain, common = scaled(*given, thickness), scaled(*given, thickness, region_units(*given))
    refuse_singular(common.center)
    with np.errstate(all="ignore"):
        of = _of_ellipsoid if norm == "mahalanobis" else _of_ball
        margins, distance, upper = of(plain, common, norm, least)
    test = max(margins, key=margins.__getitem__)
    return RegionCertificate(
        is_certified=margins[test] > 0,
        margin=margins[test],
        distance=distance,
        distance_upper=upper,
        test=test,
        margins=margins,
        norm=norm,
        radius=float(told) if told.ndim == 0 else told,
        min_distance=min_distance,
    )


def _transposed(
    A: NDArray, radius: NDArray, S: NDArray | None
) -> tuple[NDArray, NDArray, NDArray | None]:
    """Return centre, radius and axes of the transposed matrices."""
    return A.T.copy(), radius.T.copy(), None if S is None else S.swapaxes(1, 2).copy()


def _of_ball(
    plain: ScaledRegion, common: ScaledRegion, norm: str, least: float
) -> tuple[dict[str, float], float, float]:
    """Return the margins of a ball or box by each test, and bounds of the centre's distance."""
    low, upper = _distances(plain.center, norm)
    name = "distance of the centre"
    m, n = plain.center.A.shape
    if (m > n and norm != "l2") or (norm == "linf" and n > EXACT_ORDER):
        name += " (lower bound)"
    found = {name: float(below(low - plain.radius.max()))}
    margins = _rounded_down(found, plain.unit, least)
    if plain.radius.ndim and np.isfinite(common.radius).all():
        margins |= _rounded_down(_box_margins(common), common.step, least)
    distance = float(scaled_down(low, plain.unit))
    return margins, distance, float(scaled_up(upper, plain.unit))


def _of_ellipsoid(
    plain: ScaledRegion, common: ScaledRegion, norm: str, least: float
) -> tuple[dict[str, float], float, float]:
    """Return the margins of an ellipsoid by each test, and a radius for which it is regular."""
    low, upper = _distances(plain.center, "l2")
    found, proven = _fixed_norm_margins(plain, low)
    margins = _rounded_down(found, plain.unit, least)
    found, regular = _ellipsoid_margins(common)
    margins |= _rounded_down(found, common.step, least)
    if max(margins.values()) <= 0 and least < scaled_up(upper, plain.unit):
        found = _subdivided_margins(common, float(scaled_up(least, -common.step)))
        margins |= _rounded_down(found, common.step, least)
        if max(found.values(), default=0.0) > 0:
            regular = max(regular, float(common.radius))
    radii = scaled_down(proven, plain.length), scaled_down(regular, common.length)
    return margins, float(max(radii)), np.inf


def _distances(center: Center, norm: str) -> tuple[float, float]:
    """Return bounds of a centre's distance to the singular matrices, in its units."""
    _, (low,), (high,) = distance_bounds(center.A[None], np.array([center.lost]), norm)
    return float(low), float(high)


def _rounded_down(found: dict[str, float], unit: int, min_distance: float) -> dict[str, float]:
    """Return what margins in units of 2^unit leave of the distance to keep."""
    margins = {}
    for name, margin in found.items():
        if not margin >= LEAST:
            margin = min(margin, 0.0) if margin == margin else -np.inf
        left = float(scaled_down(below(margin), unit))
        margins[name] = float(below(left - min_distance)) if min_distance else left
    return margins


def _box_margins(region: ScaledRegion) -> dict[str, float]:
    """Return by how much half-widths may grow, by each test, in the caller's units."""
    center, (u, v) = region.center, region.units
    half_widths, up = region.radius, center.round_up
    if center.lost:
        half_widths = np.nextafter(half_widths + center.lost, np.inf)
    beeck = beeck_margin(center, half_widths, region.units)
    margins = {"spectral radius (Beeck)": beeck}
    if center.is_square and center.n <= VERTEX_ORDER:
        rohn = vertex_margin(center, half_widths, beeck, region.units)
        margins["vertex determinants (Rohn)"] = rohn
    left = center.sigma - float(np.linalg.norm(half_widths, 2)) * up
    wide = float(np.linalg.norm(u) * np.linalg.norm(v))
    margins["smallest singular value (Weyl)"] = left / (wide * up if left > 0 else wide / up)
    return margins


def _fixed_norm_margins(region: ScaledRegion, distance: float) -> tuple[dict[str, float], float]:
    """Return bounds of σ_min on an ellipsoid by spectral norms, and a radius proven regular."""
    center, S, radius = region.center, region.axes, float(region.radius)
    if not center.absolute.max() < LARGEST_INVERSE:  # in these units
        return {"smallest singular value (Weyl)": -np.inf}, 0.0
    up = center.round_up
    size = tensor_norm_bound(S) * up
    # The inverse is off by `error`, and the product with it by γ|B||S|.
    rounding = (center.n + 2) * EPS * np.linalg.norm(np.abs(center.B) @ np.abs(S))
    rounding += np.linalg.norm(center.error) * size
    rounding += np.linalg.norm(center.absolute) * region.axes_lost
    stretch = (tensor_norm_bound(center.B @ S) + float(rounding)) * up
    kept = distance  # 1/‖B‖₂, for B near the pseudo-inverse
    if not center.is_square:
        _, (high,) = spectral_norms(center.B[None], center.error[None])
        kept = float(below(1 / high)) * (1 - EPS)
    margins = {
        "smallest singular value (Weyl)": distance - (radius * size + region.lost) * up,
        "relative perturbation": kept * (1 - radius * stretch * up),
    }
    return margins, 1 / stretch if stretch > 0 else np.inf


def _ellipsoid_margins(region: ScaledRegion) -> tuple[dict[str, float], float]:
    """Return bounds of σ_min on an ellipsoid in the caller's units, and a radius proven regular.

    The axes S (rank, m, n) are those of radius 1, with a largest entry of about 1.
    """
    center, S, radius = region.center, region.axes, float(region.radius)
    half_widths = radius * (np.sqrt(np.sum(S**2, axis=0)) + SQUARED * S.any())
    half_widths = (half_widths + region.lost) * center.round_up
    large = 4.0 * S.size * center.n > _LARGE
    shares, steps = ((0.1,), 5) if large else (_SHARES, 10)
    margin, regular = -np.inf, 0.0
    # First what units do not matter for, then what keeps distances in the caller's.
    for weights in (own_weights, weights_in(region.units)):
        for P in perron_metrics(center.B @ S, shares, steps, None, weights):
            G, H = preconditioners(center.B, P)
            fixed, slope, loss = contraction(center.A, 0.0, S, G, H)
            room = 1 - fixed - radius * slope - region.lost * loss
            margin = max(margin, room / loss_in(region.units, G, H))
            slope += region.axes_lost * loss
            room = (1 - fixed - center.lost * loss) * (1 - 8 * EPS)
            regular = max(regular, room / slope if slope > 0 else np.inf * (room > 0))
        if not margin > 0:
            break
    margins = {
        "spectral radius (Beeck) of the bounding box": beeck_margin(
            center, half_widths, region.units
        ),
        "completely positive map": margin,
    }
    return margins, regular


def _subdivided_margins(region: ScaledRegion, target: float) -> dict[str, float]:
    """Return the margin of an ellipsoid that is cut into pieces, if that is worth a trial."""
    radius = float(region.radius)
    if not radius < _LARGE_RADIUS:
        return {}
    A, S = region.center.A, radius * region.axes
    margin, pieces = subdivided_margin(A, S, target, region.lost, region.units)
    return {"completely positive map, subdivided": margin} if pieces > 1 else {}
