"""Proof that Σ z_k S_k cannot make a matrix singular: a metric in which it contracts.

With B the inverse of A and M_k = B S_k, A + Σ z_k S_k = A (I + Σ z_k M_k) is regular where
‖Σ z_k M_k‖ < 1 in *some* operator norm. In the metric ‖x‖_P² = xᵀPx of a positive definite P

    ‖Σ z_k M_k x‖_P <= Σ |z_k| ‖M_k x‖_P <= ‖z‖₂ (Σ ‖M_k x‖_P²)^½ = ‖z‖₂ (xᵀΦ(P)x)^½,

where Φ(P) = Σ M_kᵀPM_k is a completely positive map. ρ²Φ(P) ≺ P is therefore a proof for all
‖z‖₂ <= ρ; some P gives one if and only if ρ² is below 1 / spectral radius of Φ, and the best P is
the eigenvector that Perron and Frobenius promise of positive maps (Evans and Høegh-Krohn 1978,
"Spectral properties of positive maps on C*-algebras"). It is the Lyapunov condition for stability
in mean square under multiplicative noise (Kleinman 1969). P is searched in floating point and need
not be the best; what is proven is proven for the P at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

_EPS = float(np.finfo(np.float64).eps)


def perron_metrics(
    M: NDArray, shares: Iterable[float], steps: int, P: NDArray | None = None
) -> Iterator[NDArray]:
    """Iterate towards the Perron eigenvector of Φ(P) = Σ M_kᵀPM_k, kept inside the cone.

    The step P ← (1 − s) n Φ(P) / trace Φ(P) + s I contracts for every share s > 0 of the identity.
    A small s lets a larger region be proven regular, a large one keeps P well conditioned, which
    keeps more of the distance to the singular matrices.

    Parameters
    ----------
    M : ndarray of shape (rank, n, n)
        Perturbations, relative to the centre.
    shares : iterable of float
        Shares of the identity, each between 0 and 1; each start is the previous result.
    steps : int
        Steps with each share.
    P : ndarray of shape (n, n), default=None
        Positive definite start; None takes the identity.

    Yields
    ------
    ndarray of shape (n, n)
        A symmetric positive definite matrix of trace n, for each share.

    Examples
    --------
    >>> (P,) = perron_metrics(np.array([[[0.0, 1.0], [0.0, 0.0]]]), [0.1], 5)
    >>> P
    array([[0.1, 0. ],
           [0. , 1.9]])
    """
    rank, n, _ = M.shape
    P = np.eye(n) if P is None else P
    for share in shares:
        for _ in range(steps):
            image = M.reshape(rank * n, n).T @ (P @ M).reshape(rank * n, n)
            trace = np.trace(image)
            if not 0 < trace < np.inf:
                break
            P = (1 - share) * n / trace * 0.5 * (image + image.T) + share * np.eye(n)
        yield P


def preconditioners(B: NDArray, P: NDArray) -> tuple[NDArray, NDArray]:
    """Return G ≈ LᵀB and H ≈ L⁻ᵀ with P = LLᵀ: GAH ≈ I, and G S_k H is M_k in the metric of P.

    Parameters
    ----------
    B : ndarray of shape (n, n)
        Approximate inverse of the centre A.
    P : ndarray of shape (n, n)
        Symmetric positive definite.

    Returns
    -------
    G, H : ndarray of shape (n, n)

    Examples
    --------
    >>> G, H = preconditioners(np.diag([0.5, 0.25]), np.diag([4.0, 1.0]))
    >>> G.tolist(), H.tolist()
    ([[1.0, 0.0], [0.0, 0.25]], [[0.5, 0.0], [0.0, 1.0]])
    """
    Lt = np.linalg.cholesky(P).T
    return Lt @ B, np.linalg.inv(Lt)


def contraction(
    A: NDArray, slack: NDArray | float, S: NDArray, G: NDArray, H: NDArray
) -> tuple[float, float, float]:
    """Bound how far G(A + F + Σ z_k S_k)H is from the identity, for all |F| <= slack.

    Nothing is asked of G and H, which may come from any approximate inverse and metric.

    Parameters
    ----------
    A : ndarray of shape (n, n)
        A centre.
    slack : ndarray of shape (n, n) or float
        Entrywise bound of its error.
    S : ndarray of shape (rank, n, n)
        Perturbations; each entry may be off by 4 units roundoff.
    G, H : ndarray of shape (n, n)
        Any matrices.

    Returns
    -------
    fixed, slope : float
        ‖I − G(A + F + Σ z_k S_k)H‖₂ <= fixed + slope·‖z‖₂, rounded up; an eps is added to `fixed`
        for the rounding of 1 − fixed − slope·‖z‖₂.
    loss : float
        ‖G‖₂‖H‖₂, rounded up. If r = fixed + slope·‖z‖₂ < 1, the matrix is regular: with E the
        difference to I, its inverse is H(I − E)⁻¹G, and so σ_min >= (1 − r) / loss.

    Notes
    -----
    The two products have an error of at most γ_2n |G||A||H| (Higham 2002, section 3.5), and
    |Σ z_k S_k| <= ‖z‖₂ (Σ S_k²)^½ entrywise. Of LAPACK's singular values a backward error of a
    small multiple of n (n + rank) eps σ_max is assumed.

    Examples
    --------
    >>> fixed, slope, loss = contraction(
    ...     2 * np.eye(2), 0.0, np.eye(2)[None], 0.5 * np.eye(2), np.eye(2)
    ... )
    >>> fixed < 1e-14, slope, loss
    (True, 0.5, 0.5)
    """
    n = len(A)
    up = 1 + 8 * n * (n + len(S)) * _EPS
    gamma = (2 * n + 8) * _EPS
    size = np.sqrt(np.sum(S * S, axis=0))
    off = np.abs(np.eye(n) - G @ A @ H) + _EPS * np.eye(n)
    off += np.abs(G) @ (gamma * np.abs(A) + slack) @ np.abs(H)
    rounding = np.abs(G) @ (gamma * size) @ np.abs(H)
    slope = tensor_norm_bound(G @ S @ H) + np.linalg.norm(rounding)
    loss = np.linalg.norm(G, 2) * np.linalg.norm(H, 2)
    return float(np.linalg.norm(off) * up), float(slope * up), float(loss * up * up)


def tensor_norm_bound(T: NDArray) -> float:
    """Bound ‖Σ z_k T_k‖₂ over ‖z‖₂ = 1 from above.

    Σ_kij z_k u_i T_kij v_j over unit z, u, v is at most the spectral norm of each unfolding of the
    tensor into a matrix, because two of the three vectors make one unit vector z⊗u, z⊗v or u⊗v.

    Parameters
    ----------
    T : ndarray of shape (rank, n, n)
        A tensor; rank 0 gives 0.

    Returns
    -------
    float

    Examples
    --------
    >>> tensor_norm_bound(np.array([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])]))
    1.0
    """
    r, n, _ = T.shape
    if r == 0:
        return 0.0
    unfoldings = (
        T.reshape(r, n * n),
        T.transpose(1, 0, 2).reshape(n, r * n),
        T.transpose(2, 0, 1).reshape(n, r * n),
    )
    return float(min(np.linalg.norm(U, 2) for U in unfoldings))
