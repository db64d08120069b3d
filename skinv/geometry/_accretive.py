"""How far all mixtures of some matrices are from singular, and signs of determinants.

A mixture, or convex combination, of matrices A_β is Σ_β w_β A_β with weights w_β >= 0 that sum to
one. One matrix T proves that none is singular: if xᵀ(T A_β)x >= μ|x|² for all x and all β, that is
if the symmetric part of each T A_β has no eigenvalue below μ > 0, this is so for all mixtures A,
too, and σ_min(A) >= μ/‖T‖₂. :func:`common_factor` looks for a T, :func:`accretivity` proves μ, and
:func:`norm_above` bounds ‖T‖₂.

The first T to try is Uᵀ, of a mixture C = UH with U orthogonal and H symmetric, positive definite.
It loses nothing at C itself, where μ = σ_min(C) and ‖T‖₂ = 1. If C is symmetric positive definite
it is I, and the proof that of Hertz (1992, "The extreme eigenvalues and stability of real symmetric
interval matrices") at the corners of a box; as Uᵀ = HC⁻¹, H is a common Lyapunov function of all
C⁻¹A_β. If Uᵀ is no proof it is changed step by step: xᵀTAx = ⟨T, x(Ax)ᵀ⟩ is linear in T, so that
a multiple of x(Ax)ᵀ is added for the x and the A that are farthest from what is asked, as in the
relaxation method for linear inequalities (Agmon 1954; for Lyapunov functions Liberzon and Tempo
2004, "Common Lyapunov functions and gradient algorithms").

That a matrix *is* singular is known between two with determinants of different signs
(:func:`determinant_sign`).
"""

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ._rounding import EPS, SQUARED, TINY, below

# Corrections at most, how much of what is missing is added, which may be up to twice that, and a
# share of the largest eigenvalue.
_STEPS, _RELAXATION, _FURTHER = 40, 2.0, 1e-3
# Below the smallest computed eigenvalue, so that what is left is positive definite.
_ROOM = 2.0**-12


def common_factor(matrices: NDArray, C: NDArray) -> tuple[NDArray, float]:
    """Return a T (n, n) for matrices (N, n, n), and how near it is to a proof.

    C is a matrix among them. Not positive: no T was found. In the metric of H = (CᵀC)^½, that is
    of M_β = H^−½UᵀA_βH^−½, the polar factor is I, and so is what C has become; there the steps
    point the right way, however badly conditioned C is.
    """
    U, s, Vt = np.linalg.svd(C)
    T = (U @ Vt).T
    found = float(np.linalg.eigvalsh(symmetric_part(T @ matrices))[:, 0].min())
    if found > 0:
        return _flushed(T), found
    root = np.sqrt(np.maximum(s, EPS * np.abs(matrices).max()) + TINY)
    inward, outward = (Vt.T / root) @ Vt, (Vt.T * root) @ Vt
    M = inward @ (T @ matrices) @ inward
    best, found, factor = np.eye(len(C)), -np.inf, np.eye(len(C))
    for _ in range(_STEPS):
        values = np.linalg.eigvalsh(symmetric_part(factor @ M))
        worst = int(values[:, 0].argmin())
        lowest = float(values[worst, 0])
        if lowest > found:
            best, found = factor, lowest
        if lowest > 0:
            break
        x = np.linalg.eigh(symmetric_part(factor @ M[worst]))[1][:, 0]
        y = M[worst] @ x
        step = _FURTHER * np.abs(values[worst]).max() - _RELAXATION * lowest
        factor = factor + np.outer(step / max(float(y @ y), TINY) * x, y)
        if not np.isfinite(factor).all():
            break
    T = outward @ best @ inward @ T
    return _flushed(T / np.linalg.norm(T)), found


def accretivity(T: NDArray, matrices: NDArray, size: NDArray, slack: NDArray) -> float:
    """Return a proven lower bound of the smallest eigenvalue of sym(T A) over matrices A.

    Each A is off by up to `slack`, entry by entry, from one of `matrices`, of which `size` bounds
    the moduli. A product is off by γ_n |T||A| (Higham 2002, section 3.5); EPS is twice the unit
    roundoff, for rounding in any direction.
    """
    n = len(T)
    H = T @ matrices
    off = np.abs(T) @ ((n + 4) * EPS * size + slack)
    rounding = np.linalg.norm(off) + EPS * np.sqrt(_squares(H).max()) + 8 * n * n * SQUARED
    lowest = lowest_eigenvalues(symmetric_part(H)).min()
    return float(below(lowest - rounding * (1 + 4 * n * n * EPS)))


def lowest_eigenvalues(S: NDArray) -> NDArray:
    """Return proven lower bounds of the eigenvalues of symmetric matrices (N, n, n).

    S − μI = LLᵀ + R has none below −‖R‖_F. Of eigenvalues and factors nothing is believed: R is
    computed, with an error of at most γ(|L||Lᵀ| + |S − μI|), and ‖|L||Lᵀ|‖_F <= tr LLᵀ.
    """
    n = S.shape[-1]
    values = np.linalg.eigvalsh(S)
    room = _ROOM * np.abs(values[:, 0]) + 8 * n * EPS * np.abs(values).max(axis=1) + n * TINY
    mu = values[:, 0] - room
    try:
        L = np.linalg.cholesky(S - mu[:, None, None] * np.eye(n))
    except np.linalg.LinAlgError:
        return np.full(len(S), -np.inf)
    R = S - mu[:, None, None] * np.eye(n) - L @ L.swapaxes(1, 2)
    trace = _squares(L)
    size = np.sqrt(_squares(S)) + np.sqrt(n) * np.abs(mu) + trace
    off = np.sqrt(_squares(R)) + (n + 4) * EPS * size + 8 * n * SQUARED
    return mu - off * (1 + 4 * n * n * EPS) - EPS * np.abs(mu)


def norm_above(M: NDArray) -> float:
    """Return a proven upper bound of the spectral norm of a matrix, nearly it."""
    G = -(M.T @ M)
    n = len(M)
    square = -lowest_eigenvalues(symmetric_part(G)[None])[0]
    return float(np.sqrt(square + (n + 6) * EPS * _squares(M[None])[0] + 8 * n * n * TINY)) * (
        1 + 4 * n * n * EPS
    )


def determinant_sign(A: NDArray, slack: NDArray) -> int:
    """Return the sign of det(A + F), one for all |F| <= slack; 0 if it is not proven.

    With PᵀA ≈ LU and triangular X ≈ L⁻¹ and Y ≈ U⁻¹, ‖I − XPᵀ(A + F)Y‖ < 1 says that the
    determinant of the product is positive; X has a diagonal of ones.
    """
    n = len(A)
    with np.errstate(all="ignore"):
        P, L, U = scipy.linalg.lu(A)
        if not (np.isfinite(U).all() and np.diagonal(U).all()):
            return 0
        X = np.tril(scipy.linalg.solve_triangular(L, np.eye(n), lower=True, unit_diagonal=True))
        np.fill_diagonal(X, 1.0)
        Y = np.triu(scipy.linalg.solve_triangular(U, np.eye(n)))
        X, Y = _flushed(X), _flushed(Y)
        off = np.abs(np.eye(n) - X @ (P.T @ A) @ Y)
        wide = P.T @ ((2 * n + 8) * EPS * np.abs(A) + slack)
        lost = 8 * n**3 * TINY * (1 + np.abs(X).max()) * (1 + np.abs(Y).max())
        off = off + np.abs(X) @ wide @ np.abs(Y) + lost
        proven = off.sum(axis=1).max() * (1 + 8 * n * EPS) < 1
    if not proven or not np.diagonal(Y).all():
        return 0
    swaps = np.argmax(P, axis=0)
    odd = (n - _cycles(swaps) + np.count_nonzero(np.diagonal(Y) < 0)) % 2
    return -1 if odd else 1


def symmetric_part(M: NDArray) -> NDArray:
    """Return (M + Mᵀ)/2 of matrices."""
    return 0.5 * (M + M.swapaxes(-1, -2))


def _flushed(M: NDArray) -> NDArray:
    """Return M with zeros for what some floating-point modes read as zeros."""
    return np.where(np.abs(M) < TINY, 0.0, M)


def _squares(M: NDArray) -> NDArray:
    """Return squared Frobenius norms of matrices (N, n, n)."""
    return np.einsum("mij,mij->m", M, M)


def _cycles(permutation: NDArray) -> int:
    seen, count = set(), 0
    for start in range(len(permutation)):
        count += start not in seen
        while start not in seen:
            seen.add(start)
            start = int(permutation[start])
    return count
