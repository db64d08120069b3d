"""Proofs that a box of unequal half-widths around a matrix holds none without full rank."""

import itertools

import numpy as np
from numpy.typing import NDArray

from .._linalg.workspace import pieces
from ._enclosure import Center, enclosed_inverse, spectral_radius_below_one
from ._positive_map import Units
from ._rounding import EPS, TINY

# Largest order at which all 2^(2n−1) vertices are inverted.
VERTEX_ORDER = 7
# Vertices inverted at once, and in all.
_CHUNK, _MOST_VERTICES = 2**11, 2**16
# Margins below this are not told from what underflows on the way.
LEAST = 1e-150


def beeck_margin(center: Center, half_widths: NDArray, units: Units) -> float:
    """Return nearly the largest t with ρ(|A₀⁻¹|(Δ + t·uvᵀ)₊) < 1 proven, Δ the half-widths (m, n).

    By so much all half-widths may still grow, in units u of rows and v of columns; a negative t
    says by how much they must shrink. It is positive wherever t = 0 is proven, whatever the units.
    """
    step = np.outer(*units)

    def regular(t: float) -> bool:
        grown = np.maximum(half_widths + t * step, 0.0) * center.round_up
        return spectral_radius_below_one(center.absolute @ grown * center.round_up)

    # At the lowest t nothing is left of the box; at the highest, an entry of the diagonal is 1.
    low = -float((half_widths / step).max())
    high = 1.0 / max(float((np.abs(center.B.T) * step).max()), TINY)
    if regular(0.0):
        low = high
        while low > LEAST and not regular(low):
            low, high = 0.5 * low, low
        low = low if low > LEAST else 0.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if regular(middle) else (low, middle)
    return low


def vertex_margin(center: Center, half_widths: NDArray, start: float, units: Units) -> float:
    """Return the largest t such that the box of half-widths (Δ + t·uvᵀ)₊ is regular, by vertices.

    It is at least the proven `start`, and sharp up to rounding if it is positive or Δ a multiple of
    uvᵀ; otherwise nearly sharp, never too large. A box is regular if and only if the determinants
    of its vertices A₀ − T_yΔT_z, for sign vectors y and z, all have one sign (Baumann 1984, "A
    regularity criterion for interval matrices"; Rohn 1989, "Systems of linear interval equations",
    theorem 5.1). Growing half-widths by t·uvᵀ changes a vertex V by a matrix of rank one, det(V −
    t T_y u (T_z v)ᵀ) = det V (1 − t (T_z v)ᵀV⁻¹T_y u), so that the sharp margin is the smallest
    inverse of such a number.
    """
    growth = _vertex_growth(center.A, half_widths, units)
    if growth > 0 or start >= 0:
        return max(start, growth)
    # Shrunk by the margin that is proven it may grow by t from there, as (Δ + s + t)₊ is not above
    # (Δ + s)₊ + t: again and again, because where (Δ + s)₊ has zeros it grows too much.
    step = np.outer(*units)
    for _ in range(min(40, _MOST_VERTICES // 2 ** (2 * center.n - 1))):
        shrunk = np.maximum(half_widths + start * step, 0.0) * (1 + 2 * EPS)
        found = float(np.nextafter(start + _vertex_growth(center.A, shrunk, units), -np.inf))
        if found <= start + 1e-12 * abs(start):
            break
        start = found
    return start


def _vertex_growth(A: NDArray, half_widths: NDArray, units: Units) -> float:
    """Return, rounded down, the t up to which a box of half-widths Δ + t·uvᵀ is regular.

    0 if not even the box of half-widths Δ is proven to be. The ends of its intervals are rounded
    outwards, so that its vertices V are matrices of floating point numbers. With W = A₀ + T_yΔT_z
    the opposite vertex, changing the sign of y_i exchanges row i of V for that of W, and multiplies
    the determinant by (WV⁻¹)_ii; that of z_j exchanges column j, and multiplies it by (V⁻¹W)_jj. If
    all these are positive, as enclosures of V⁻¹ show, all determinants have one sign.
    """
    n, (u, v) = len(A), units
    low, high = np.nextafter(A - half_widths, -np.inf), np.nextafter(A + half_widths, np.inf)
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
    # y_0 = +1, because (y, z) and (−y, −z) give the same vertex.
    y = np.repeat(signs[: len(signs) // 2], len(signs), axis=0)
    z = np.tile(signs, (len(signs) // 2, 1))
    up = 1 + 8 * (n * n + 4) * EPS
    largest = 0.0
    for part in pieces(len(y), 1, 1, _CHUNK):
        yb, zb = y[part], z[part]
        is_low = yb[:, :, None] * zb[:, None, :] > 0
        V, W = np.where(is_low, low, high), np.where(is_low, high, low)
        B, error = enclosed_inverse(V)
        if not np.isfinite(error).all():
            return 0.0
        # What an entry of V⁻¹ adds to the error of a sum over it, which has at most n² terms.
        wide = (error + (n * n + 2) * EPS * np.abs(B)) * up
        rows = np.einsum("mij,mji->mi", W, B) - np.einsum("mij,mji->mi", np.abs(W), wide) * up
        columns = np.einsum("mij,mji->mi", B, W) - np.einsum("mij,mji->mi", wide, np.abs(W)) * up
        if not min(rows.min(), columns.min()) > 4 * n * TINY:
            return 0.0
        growth = np.einsum("mi,mij,mj->m", zb * v, B, yb * u)
        growth += np.einsum("i,mij,j->m", v, wide, u) * up + 4 * n * n * TINY
        largest = max(largest, float(growth.max()))
    return (1 - 8 * EPS) / largest if largest > 0 else 0.0
