"""Proven errors of the Taylor series of the inverse over a region, in closed form."""

from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.results import TaylorBound
from .._arrays.words import RegionNorm
from .._linalg.units import are_mixed
from ..geometry._enclosure import common_units
from ..geometry._positive_map import contraction, perron_metrics, preconditioners
from ..geometry._rounding import EPS, SQUARED, TINY, scaled_up
from ..geometry._scaled import LARGEST_INVERSE, ScaledRegion, checked, refuse_singular, scaled
from ..geometry._signs import EXACT_ORDER, inf_to_one_norm

# Bounds, in units of the centre's largest entry, to which intermediate results may underflow.
_LEAST = 1e-250
# Shares of the identity in the metrics tried for an ellipsoid.
_SHARES = (0.5, 0.2, 0.1, 0.03, 0.01, 1e-3)


def taylor_bound(
    center: ArrayLike,
    radius: Any,
    order: int = 1,
    norm: RegionNorm = "linf",
    *,
    axes: ArrayLike | None = None,
) -> TaylorBound:
    """Bound the error of the Taylor series of the inverse over a region.

    Parameters
    ----------
    center : array-like of shape (n, n)
        The regular centre A₀ of region and series.
    radius : float or array-like of shape (n, n)
        Radius of the region; an array of half-widths with ``norm="linf"`` only.
    order : int, default=1
        Order k of the series L_k.
    norm : {"linf", "l2", "l1", "mahalanobis"}, default="linf"
        Norm of the flattened difference A − A₀.
    axes : array-like of shape (rank, n*n), default=None
        For "mahalanobis": semi-axes of the ellipsoid of radius 1, as rows.

    Returns
    -------
    TaylorBound
        A Bunch. ``max_error``: no entry of A⁻¹ − L_k(A) is larger anywhere in the region; inf where
        no test applies. ``q``: the contraction that was proven, below 1; the series converges at
        least like qᵏ. ``test``: the norm that gave it. ``max_errors``: the bound by each test.
        ``order``, ``norm``: the question.

    Raises
    ------
    ValueError
        For a singular or non-finite centre, a negative radius, a radius or axes of the wrong shape,
        an unknown norm, or an order below 1.

    See Also
    --------
    certify_region : Sharper, by a search, for networks and other affine maps too.

    Notes
    -----
    With E = A − A₀ and B = A₀⁻¹, A⁻¹ − L_k(A) = (−BE)^{k+1}(I + BE)⁻¹B. If ‖BE‖ <= q < 1 in an
    operator norm, the columns of (I + BE)⁻¹B are at most ‖Be_j‖ / (1 − q), and one factor BE may be
    bounded with the rows of B alone. With ``B_i·`` a row and ``B_·j`` a column, the largest entry
    is at most

    * l1, maximum norm: ``max|B| q^{k+1} / (1 − q)``, ``q = δ max|B|``;
    * l2, 2-norm: ``δ max‖B_i·‖₂ max‖B_·j‖₂ qᵏ / (1 − q)``, ``q = δ‖B‖₂``;
    * linf, 1-norm: ``δ max‖B_i·‖₁ max‖B_·j‖₁ qᵏ / (1 − q)``, ``q = δ‖B‖_{∞→1}``, for n <= 20;
    * boxes of half-widths Δ: ``max |B|Q^{k+1}(I − Q)⁻¹``, ``Q = Δ|B|`` of spectral radius below 1
      (Neumann series entry by entry);
    * ellipsoids: ``max‖H_i·‖₂ max‖G_·j‖₂ s^{k+1} / (1 − s)``, for HG = B in the metric of a
      positive map with ‖GEH‖₂ <= s; see :func:`skinv.geometry.region_certificate`.

    The contraction in the first three is the exact condition for a regular region (Poljak and Rohn
    1993). Every region is tried in the 2-norm, too. Boxes and ellipsoids whose centre has rows or
    columns of very different sizes are tried in units in which these are alike, too, and errors are
    weighted, so that the bound is that of the largest entry in the units of `center`. The inverse
    of the centre is enclosed and all is rounded up; of LAPACK's spectral norms a relative error of
    some n eps is assumed. L_k is the series with the exact inverse.

    Examples
    --------
    >>> bound = taylor_bound([[3.0, 1.0], [1.0, 2.0]], 0.5)
    >>> bound.max_error, bound.q, bound.test
    (0.7466667, 0.7, 'largest sum over sign vectors')
    >>> taylor_bound([[3.0, 1.0], [1.0, 2.0]], 0.5, order=3).max_error
    0.3658667
    """
    if not isinstance(order, Integral) or order < 1:
        raise ValueError(f"Got order={order!r}, but an integer >= 1 is expected.")
    order = int(order)  # of NumPy's they might overflow
    found: dict[str, tuple[float, float]] = {}
    given = checked(center, radius, norm, axes)
    if given[0].shape[0] != given[0].shape[1]:
        raise ValueError(
            f"Got a center of shape {given[0].shape}, but one square matrix is expected, whose "
            f"inverse has the series; skinv.pinv and CertifiedInverse bound the errors of "
            f"pseudo-inverses one by one."
        )
    for region, tests in _in_units(*given, norm):
        up = 1 + 64 * (region.center.n + order) * EPS
        with np.errstate(all="ignore"):
            for test, q, error in tests(region, norm, order):
                # No error is 0, though numbers may underflow on the way, but that of the centre.
                error = max(float(error), _LEAST) * up if region.radius.any() else 0.0
                error = float(scaled_up(error, -region.step))
                if q < 1 and error < found.get(test, (np.inf, 0.0))[0]:
                    found[test] = error, float(q)
    errors = {name: error for name, (error, _) in found.items()}
    test = min(errors, key=errors.__getitem__, default="none")
    error, q = found.get(test, (np.inf, np.inf))
    return TaylorBound(max_error=error, q=q, test=test, max_errors=errors, order=order, norm=norm)


def _in_units(
    A: NDArray, radius: NDArray, axes: NDArray | None, norm: str
) -> Iterator[tuple[ScaledRegion, Callable]]:
    """Yield a region in the caller's units and, if these are mixed, in common ones, with tests.

    Boxes and ellipsoids are such in all units, and what is bounded is weighted there.
    """
    regions = [scaled(A, radius, axes)]
    if norm in ("linf", "mahalanobis") and bool(are_mixed(A[None])[0]):
        half_widths = np.broadcast_to(radius, A.shape) if axes is None else radius
        regions.append(scaled(A, half_widths, axes, scaling=common_units(A)))
    refuse_singular(regions[-1].center)
    for region, tests in zip(regions, (_candidates, _in_all_units), strict=False):
        if region.center.absolute.max() < LARGEST_INVERSE:
            yield region, tests


def _in_all_units(region: ScaledRegion, norm: str, k: int) -> Iterator[tuple[str, float, float]]:
    """Yield the tests, see `_candidates`, of boxes and ellipsoids that know of units."""
    center, radius, S, up = region.center, region.radius, region.axes, region.center.round_up
    unit = np.outer(*region.units[::-1])
    if norm == "linf":
        half_widths = np.broadcast_to(radius, unit.shape) * up
        yield "entry by entry", *_entrywise(center.absolute, half_widths, k, unit)
        return
    yield from _metrics(region, k)
    up += (len(S) + 4) * EPS
    half_widths = float(radius) * (np.sqrt(np.sum(S**2, axis=0)) * up + SQUARED)
    yield "entry by entry (bounding box)", *_entrywise(center.absolute, half_widths, k, unit)


def _candidates(region: ScaledRegion, norm: str, k: int) -> Iterator[tuple[str, float, float]]:
    """Yield (test, q, bound of the largest entry), of which those with q < 1 hold."""
    if norm in ("linf", "mahalanobis"):
        yield from _in_all_units(region, norm, k)
    if norm == "mahalanobis":
        return
    center, radius = region.center, region.radius
    n, B, up = center.n, center.absolute, center.round_up  # B >= |A₀⁻¹|
    largest = radius.max()  # NumPy's, of which powers overflow to inf
    # ‖E‖_F over the region
    length = largest
    if norm == "linf":
        relative = np.broadcast_to(radius / (largest or 1.0), (n, n))
        length = largest * float(np.linalg.norm(relative)) * up
        if n <= EXACT_ORDER:
            q = largest * float(inf_to_one_norm(center.B[None])[0][0] + center.error.sum()) * up
            size = B.sum(axis=1).max() * B.sum(axis=0).max() * up
            yield "largest sum over sign vectors", q, largest * size * _power(q, k) / (1 - q)
    elif norm == "l1":
        q = largest * float(B.max()) * up
        yield "largest entry", q, B.max() * _power(q, k + 1) / (1 - q)
    spectral = np.linalg.norm(center.B, 2) * up + np.linalg.norm(center.error)
    q = length * float(spectral) * up
    rows = np.linalg.norm(B, axis=1).max() * np.linalg.norm(B, axis=0).max() * up
    yield "spectral norm", q, length * rows * _power(q, k) / (1 - q)


def _power(q: float, k: int) -> float:
    """Return qᵏ, or the smallest normal number if it underflows, as its products may not."""
    return max(q**k, TINY)


def _entrywise(B: NDArray, half_widths: NDArray, k: int, unit: NDArray) -> tuple[float, float]:
    """Return a bound of the spectral radius of Q = Δ|B|, and of max |B|Q^{k+1}(I − Q)⁻¹·unit."""
    n = len(B)
    up = 1 + 4 * (n + 2) * EPS
    Q = half_widths @ B * up
    try:
        N = np.linalg.inv(np.eye(n) - Q)
    except np.linalg.LinAlgError:
        return np.inf, np.inf
    # x > 0 with Qx <= θx, θ < 1, proves the radius (Collatz). What N is off by is (I − Q)⁻¹ times
    # its residual, and in the norm of x the former is at most 1/(1 − θ).
    x = N.sum(axis=1)
    if not (np.isfinite(x).all() and (x > 0).all()):
        return np.inf, np.inf
    theta = float(((Q @ x + 8 * n * n * (1 + x.max()) * TINY) / x).max() * up)
    if not theta < 1:
        return theta, np.inf
    residual = np.abs(np.eye(n) - (np.eye(n) - Q) @ N) + n * EPS * ((np.eye(n) + Q) @ np.abs(N) + 1)
    off = np.outer(x, (residual / x[:, None]).max(axis=0)) / (1 - theta)
    T = np.maximum(N + off * up, 0.0)
    for _ in range(k + 1):
        T = Q @ T * up + 4 * n * TINY
    return theta, float((B @ T * unit).max() * up)


def _metrics(region: ScaledRegion, k: int) -> Iterator[tuple[str, float, float]]:
    """Try the metrics of the positive map of an ellipsoid.

    With any G and H, W = G A₀ H = I − F and ‖F‖ <= f < 1, ‖GEH‖ <= s: B = HW⁻¹G, and the error is
    H(−W⁻¹GEH)^{k+1}(W + GEH)⁻¹G.
    """
    center, radius, S = region.center, float(region.radius), region.axes
    for P in (np.eye(center.n), *perron_metrics(center.B @ S, _SHARES, 10)):
        G, H = preconditioners(center.B, P)
        fixed, slope, loss = contraction(center.A, center.lost, S, G, H)
        s = radius * (slope + loss * region.axes_lost)
        if fixed + s < 1:
            q = s / (1 - fixed)
            rows, columns = region.units
            size = (columns * np.linalg.norm(H, axis=1)).max()
            size *= (rows * np.linalg.norm(G, axis=0)).max()
            yield "completely positive map", q, size * _power(q, k + 1) / (1 - fixed - s)
