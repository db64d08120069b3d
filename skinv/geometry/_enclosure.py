"""Inverses with a bound on their error, which proofs of distances and regions start from.

Of matrices that are not square they are one-sided: right inverses, A·B = I, of wide matrices, and
left ones, B·A = I, of tall ones. Any of them proves full rank.
"""

import numpy as np
from numpy.typing import NDArray

from .._linalg.products import exact_inverse
from .._linalg.units import in_common_units, unit_exponents
from ._rounding import LARGEST, TINY, UNIT, above, below, scaled_down, scaled_up, unit_scale

# A residual above this is worth a step of refinement.
_REFINE = 1e-10
# Errors above this share of the largest entry are worth a trial in other units.
_TIGHT = 1e-6


def common_units(A: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Return exponents of powers of two that bring rows and columns of a matrix to one size.

    The scaled matrix is the same whatever powers of two rows and columns came in: a first scaling
    sees to that, before the inverse is taken that tells which entries matter.
    """
    rows, columns = unit_exponents(A)
    scaled = unit_scale(A[None], rows[:, None] + columns)[0][0]
    (inverse,) = _inverses(scaled[None])
    if np.isfinite(inverse).all():
        further = unit_exponents(scaled, inverse)
        rows, columns = rows + further[0], columns + further[1]
    return rows, columns


def enclosed_inverse(A: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return approximate inverses B of a stack (k, m, n), and entrywise bounds of |A⁻¹ − B|.

    Of matrices that are not square A⁻¹ is a one-sided inverse near the pseudo-inverse. Matrices are
    finite, and scaled so that their products do not overflow. B has no subnormal entries, NaN for
    exactly singular matrices; the bounds are inf where none could be shown to be regular. Where
    little or nothing is proven it is tried again in units in which rows and columns are of one
    size.
    """
    m, n = A.shape[1:]
    if m > n:
        B, error = enclosed_inverse(A.swapaxes(1, 2))
        return B.swapaxes(1, 2), error.swapaxes(1, 2)
    B, error = _enclose(A)
    some = np.abs(A).max(axis=1 if m == n else 2).min(axis=1) > 0  # in each column, or row
    tight = error.max(axis=(1, 2)) <= _TIGHT * np.abs(B).max(axis=(1, 2))
    again = np.flatnonzero(~tight & some)
    if again.size:
        rows, columns = _own_units(A[again])
        scaled, exponent, lost = unit_scale(A[again], rows[:, :, None] + columns[:, None, :])
        # (D₁AD₂)⁻¹ = D₂⁻¹A⁻¹D₁⁻¹; what overflows is no enclosure, what underflows is off by TINY.
        power = columns[:, :, None] + rows[:, None, :] - exponent[:, None, None]
        with np.errstate(all="ignore"):
            other, off = (np.ldexp(part, power) for part in _enclose(scaled))
            better = (np.abs(other) + off < LARGEST).all(axis=(1, 2)) & (lost == 0)
            better &= off.max(axis=(1, 2)) < error[again].max(axis=(1, 2))
        B[again[better]] = _without_subnormal(other[better])
        error[again[better]] = off[better] + 2 * TINY
    return B, error


def _own_units(A: NDArray) -> tuple[NDArray, NDArray]:
    """Return exponents of rows and columns (m, n) by which each matrix is brought to one size.

    First to their largest entries, which LAPACK's inverse needs so as not to overflow, and then by
    what matters for that.
    """
    rows = -np.frexp(np.abs(A).max(axis=2))[1].astype(np.int64)
    scaled = np.ldexp(A, rows[:, :, None])
    columns = -np.frexp(np.abs(scaled).max(axis=1))[1].astype(np.int64)
    if A.shape[1] < A.shape[2]:
        return rows, columns
    scaled = np.ldexp(scaled, columns[:, None, :])
    inverse = exact_inverse(scaled)
    good = np.flatnonzero(np.isfinite(inverse).all(axis=(1, 2)))
    if good.size:
        _, _, b, x = in_common_units(scaled[good], inverse[good])
        rows[good], columns[good] = rows[good] - b, columns[good] + x
    return rows, columns


def _inverses(A: NDArray) -> NDArray:
    """Return inverses, or pseudo-inverses in which no singular value is cut off, of a stack."""
    return exact_inverse(A) if A.shape[1] == A.shape[2] else np.linalg.pinv(A, 0.0)


def _enclose(A: NDArray) -> tuple[NDArray, NDArray]:
    """Invert a stack (k, m, n), m <= n, as it is, with the errors.

    LAPACK's inverse by elimination is the start; where its residual shows that pivots grew, the
    inverse by the singular value decomposition takes its place, and Newton-Schulz steps finish.

    With R = I − AB, |fl(R) − R| <= γ_{n+1}(|A||B| + I) (Higham 2002, section 3.5), and ρ a bound of
    ‖R‖_F: if ρ < 1, A has full rank, and with A⁻¹ = B(I − R)⁻¹, a right inverse, A⁻¹ − B = A⁻¹R =
    BR + (A⁻¹ − B)R, and so |A⁻¹ − B| <= |B||R| + ‖B‖_F ρ²/(1 − ρ). A last factor covers the
    rounding of the bound itself, and what is added in units of the smallest normal number all
    underflow, gradual or not.
    """
    m, n = A.shape[1:]
    eye = np.eye(m)
    B = _without_subnormal(_inverses(A))
    with np.errstate(all="ignore"):
        R, bound, rho = _residual(A, B, eye)
        lost = np.flatnonzero(~(rho < 0.5))
        if lost.size:
            other = _without_subnormal(np.linalg.pinv(A[lost], 0.0))
            better = _residual(A[lost], other, eye)[2] < 0.5
            B[lost] = np.where(better[:, None, None], other, B[lost])
            R, bound, rho = _residual(A, B, eye)
        for _ in range(5):
            again = np.flatnonzero((rho > _REFINE) & (rho < 0.5))
            refined = _without_subnormal(B[again] + B[again] @ R[again])
            better = _residual(A[again], refined, eye)[2] < rho[again]
            again, refined = again[better], refined[better]
            if again.size == 0:
                break
            B[again] = refined
            R[again], bound[again], rho[again] = _residual(A[again], refined, eye)
        rest = frobenius(B) * rho**2 / (1 - rho)
        error = (np.abs(B) @ bound + rest[:, None, None]) * (1 + 8 * (n + 2) * UNIT)
        error += 4 * (n + 2) * TINY
    return B, np.where((rho < 1)[:, None, None] & (error < LARGEST), error, np.inf)


def _without_subnormal(B: NDArray) -> NDArray:
    """Return B with zeros for what some floating-point modes read as zeros."""
    return np.where(np.abs(B) < TINY, 0.0, B)


def frobenius(stack: NDArray) -> NDArray:
    """Bound Frobenius norms from above; no square over- or underflows.

    inf for what reaches the largest number, which sums that overflow are rounded to in some modes.
    """
    largest = np.abs(stack).max(axis=(1, 2), initial=0.0)
    unit = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    size = np.linalg.norm(stack / unit[:, None, None], axis=(1, 2)) * unit
    size = size * (1 + (stack.shape[1] * stack.shape[2] + 8) * UNIT) + TINY
    return np.where(size < LARGEST, size, np.inf)


def _residual(
    A: NDArray, B: NDArray, C: NDArray, spare: int = 4
) -> tuple[NDArray, NDArray, NDArray]:
    """Return fl(C − AB), an entrywise bound of |C − AB|, and a bound of its Frobenius norm."""
    n = A.shape[-1]
    R = C - A @ B
    gamma = (n + spare) * UNIT  # more than γ_{n+1}, for the rounding of |A||B|, and of A and B
    bound = np.abs(R) + gamma * (np.abs(A) @ np.abs(B) + np.abs(C)) + 8 * (n + 2) * TINY
    return R, bound, frobenius(bound)


def smallest_singular_values(A: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Return proven bounds of the smallest singular value of each matrix of a stack."""
    return _singular_values(A, 0)


def spectral_norms(B: NDArray, error: NDArray) -> tuple[NDArray, NDArray]:
    """Return proven bounds of the spectral norms of all matrices within B ± error.

    0 and inf where these are not finite, or overflow.
    """
    good = (np.isfinite(B) & np.isfinite(error)).all(axis=(1, 2))
    scaled, exponent, lost = unit_scale(np.where(good[:, None, None], B, 0.0))
    low, high = _singular_values(scaled, -1)
    off = frobenius(error)
    low = below(scaled_down(np.maximum(below(low - lost), 0.0), exponent) - off)
    high = above(scaled_up(above(high + lost), exponent) + off)
    return np.where(good, low, 0.0), np.where(good, high, np.inf)


def _singular_values(A: NDArray, place: int) -> tuple[NDArray, NDArray]:
    """Return proven bounds of the singular value at a place, in ascending order.

    Of U, s, V nothing is believed. If ‖I − UᵀU‖ <= α, ‖I − VVᵀ‖ <= β and ‖A − U diag(s) V‖ <= δ,
    then the singular values of the product are those of s times at most √((1 ± α)(1 ± β)), and
    those of A differ by at most δ from them (Weyl). Entries are below 1 in absolute value. Columns
    of U, and rows of V, are as many as there are singular values.
    """
    U, s, V = np.linalg.svd(A, full_matrices=False)
    eye = np.eye(s.shape[1])
    alpha = _residual(U.transpose(0, 2, 1), U, eye, 8)[2]
    beta = _residual(V, V.transpose(0, 2, 1), eye, 8)[2]
    delta = _residual(U * s[:, None, :], V, A, 8)[2]
    value = np.sort(np.abs(s), axis=1)[:, place]
    low = value * (1 - alpha) * (1 - beta) * (1 - 8 * UNIT) - delta * (1 + 8 * UNIT)
    high = value * (1 + alpha) * (1 + beta) * (1 + 8 * UNIT) + delta * (1 + 8 * UNIT)
    low = np.where(np.maximum(alpha, beta) < 1, low, 0.0)
    return np.maximum(low * (1 - 8 * UNIT), 0.0), high * (1 + 8 * UNIT)


class Center:
    """A centre A₀ (A, off by `lost` in all), A₀⁻¹ within B ± error, and a bound of σ_min(A₀).

    Tall centres (m, n) have left inverses (n, m) in the place of A₀⁻¹.
    """

    def __init__(self, A: NDArray, B: NDArray, error: NDArray, lost: float = 0.0):
        self.A, self.B, self.lost = A, B, lost
        self.n = len(A)  # the larger number, of rows
        self.is_square = A.shape[0] == A.shape[1]
        self.sigma = float(smallest_singular_values(A[None])[0][0])
        self.round_up = 1 + 16 * self.n * self.n * UNIT
        if lost:  # A₀⁻¹ − A⁻¹ = −A₀⁻¹FA⁻¹, and no entry of A₀⁻¹ is above m / (1 − lost·m)
            m = float((np.abs(B) + error).max()) * self.round_up
            off = lost * m * m / (1 - lost * m) if lost * m < 0.5 else np.inf
            error = error + off * self.round_up
        self.error = error
        self.absolute = (np.abs(B) + error) * self.round_up  # >= |A₀⁻¹|


def spectral_radius_below_one(M: NDArray[np.float64]) -> bool:
    """Prove that a non-negative matrix has a spectral radius below 1, or return False.

    If some x > 0 has Mx < x in every entry, then ρ(M) < 1 (Collatz 1942; Berman and Plemmons 1994,
    "Nonnegative Matrices in the Mathematical Sciences", theorem 6.2.3); and if ρ(M) < 1, then x =
    (I − M)⁻¹1 is such an x. The solve may be inexact: the inequality is what is checked, with the
    rounding of the product.
    """
    n = len(M)
    try:
        x = np.linalg.solve(np.eye(n) - M, np.ones(n))
    except np.linalg.LinAlgError:
        return False
    if not (np.isfinite(x).all() and (x > 0).all()):
        return False
    # Products, and entries of M on their way here, may have underflowed.
    lost = 8 * n * n * (1 + x.max()) * TINY
    return bool((M @ x * (1 + 2 * (n + 2) * UNIT) + lost < x).all())
