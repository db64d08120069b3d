"""Inverses with a bound on their error, which proofs of distances and regions start from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..matrices import exact_inverse

_UNIT = float(np.finfo(np.float64).eps) / 2
# A residual above this is worth a step of refinement.
_REFINE = 1e-10


def enclosed_inverse(A: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Invert a stack, and bound the error of every entry.

    LAPACK's inverse by elimination is the start; where its residual shows that pivots grew, the
    inverse by the singular value decomposition takes its place, and Newton-Schulz steps finish.

    Parameters
    ----------
    A : ndarray of shape (m, n, n), float64
        Finite matrices, scaled so that their products neither over- nor underflow.

    Returns
    -------
    B : ndarray of shape (m, n, n)
        Approximate inverses; NaN for exactly singular matrices.
    error : ndarray of shape (m, n, n)
        Entrywise bounds of |A⁻¹ − B|; inf where the matrix could not be shown to be regular.

    Notes
    -----
    With R = I − AB, |fl(R) − R| <= γ(|A||B| + I) (Higham 2002, section 3.5), and ρ a bound of
    ‖R‖_F: if ρ < 1, A is regular, A⁻¹ − B = A⁻¹R = BR + (A⁻¹ − B)R, and so |A⁻¹ − B| <= |B||R| +
    ‖B‖_F ρ²/(1 − ρ). A last factor covers the rounding of the bound itself.

    Examples
    --------
    >>> B, error = enclosed_inverse(np.array([[[2.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]]))
    >>> B[0].tolist(), bool(error[0].max() < 1e-15), float(error[1].min())
    ([[0.5, 0.0], [0.0, 0.25]], True, inf)
    """
    B = exact_inverse(A)
    with np.errstate(all="ignore"):
        R, bound, rho = _residual(A, B)
        lost = np.flatnonzero(~(rho < 0.5))
        if lost.size:
            other = _inverse_by_svd(A[lost])
            B[lost] = np.where((_residual(A[lost], other)[2] < 0.5)[:, None, None], other, B[lost])
            R, bound, rho = _residual(A, B)
        for _ in range(5):
            again = np.flatnonzero((rho > _REFINE) & (rho < 0.5))
            refined = B[again] + B[again] @ R[again]
            better = _residual(A[again], refined)[2] < rho[again]
            again, refined = again[better], refined[better]
            if again.size == 0:
                break
            B[again] = refined
            R[again], bound[again], rho[again] = _residual(A[again], refined)
        rest = np.linalg.norm(B, axis=(1, 2)) * rho**2 / (1 - rho)
        error = (np.abs(B) @ bound + rest[:, None, None]) * (1 + 8 * (A.shape[-1] + 2) * _UNIT)
    return B, np.where((rho < 1)[:, None, None] & np.isfinite(error), error, np.inf)


def _residual(A: NDArray, B: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return fl(I − AB), an entrywise bound of |I − AB|, and a bound of its Frobenius norm."""
    n = A.shape[-1]
    R = np.eye(n) - A @ B
    gamma = (n + 2) * _UNIT / (1 - (n + 2) * _UNIT)
    bound = np.abs(R) + 2 * gamma * (np.abs(A) @ np.abs(B) + np.eye(n))
    return R, bound, np.linalg.norm(bound, axis=(1, 2)) * (1 + (n * n + 4) * _UNIT)


def _inverse_by_svd(A: NDArray) -> NDArray:
    """Invert by V Σ⁻¹ Uᵀ: more work than elimination, but no pivots that grow."""
    U, s, Vt = np.linalg.svd(A)
    return (Vt.transpose(0, 2, 1) / s[:, None, :]) @ U.transpose(0, 2, 1)


class Center:
    """A centre A₀ with an enclosure of its inverse, B ± error, and σ_min(A₀) from below.

    Parameters
    ----------
    A, B, error : ndarray of shape (n, n)
        The centre, and what :func:`enclosed_inverse` returned for it.

    Examples
    --------
    >>> center = Center(np.diag([2.0, 4.0]), np.diag([0.5, 0.25]), np.zeros((2, 2)))
    >>> 2.0 - 1e-13 < center.sigma < 2.0, bool(0.5 < center.absolute.max() < 0.6)
    (True, True)
    """

    def __init__(self, A: NDArray, B: NDArray, error: NDArray):
        self.A, self.B, self.error = A, B, error
        self.n = len(A)
        # The backward error of LAPACK's singular values, with a generous constant.
        sigma = np.linalg.svd(A, compute_uv=False)
        self.sigma = max(float(sigma[-1] - 16 * self.n * _UNIT * sigma[0]), 0.0)
        self.round_up = 1 + 16 * self.n * self.n * _UNIT
        self.absolute = (np.abs(B) + error) * self.round_up  # >= |A₀⁻¹|


def spectral_radius_below_one(M: NDArray[np.float64]) -> bool:
    """Prove that a non-negative matrix has a spectral radius below 1, or return False.

    If some x > 0 has Mx < x in every entry, then ρ(M) < 1 (Collatz 1942; Berman and Plemmons 1994,
    "Nonnegative Matrices in the Mathematical Sciences", theorem 6.2.3); and if ρ(M) < 1, then
    x = (I − M)⁻¹1 is such an x. The solve may be inexact: the inequality is what is checked, with
    the rounding of the product.

    Parameters
    ----------
    M : ndarray of shape (n, n)
        Entries not negative.

    Returns
    -------
    bool

    Examples
    --------
    >>> spectral_radius_below_one(np.array([[0.5, 1e9], [0.0, 0.5]]))
    True
    >>> spectral_radius_below_one(np.array([[0.5, 0.6], [0.5, 0.5]]))
    False
    """
    n = len(M)
    try:
        x = np.linalg.solve(np.eye(n) - M, np.ones(n))
    except np.linalg.LinAlgError:
        return False
    if not (np.isfinite(x).all() and (x > 0).all()):
        return False
    return bool((M @ x * (1 + 2 * (n + 2) * _UNIT) < x).all())
