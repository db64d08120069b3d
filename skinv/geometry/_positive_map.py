"""Proof that Σ z_k S_k cannot make a matrix singular: a metric in which it contracts.

With B the inverse of A and M_k = B S_k, A + Σ z_k S_k = A (I + Σ z_k M_k) is regular where
‖Σ z_k M_k‖ < 1 in *some* operator norm. If A is tall, and B a left inverse, B (A + Σ z_k S_k) =
I + Σ z_k M_k says that the rank is full. In the metric ‖x‖_P² = xᵀPx of a positive definite P

    ‖Σ z_k M_k x‖_P <= Σ |z_k| ‖M_k x‖_P <= ‖z‖₂ (Σ ‖M_k x‖_P²)^½ = ‖z‖₂ (xᵀΦ(P)x)^½,

where Φ(P) = Σ M_kᵀPM_k is a completely positive map. ρ²Φ(P) ≺ P is therefore a proof for all
‖z‖₂ <= ρ; some P gives one if and only if ρ² is below 1 / spectral radius of Φ, and the best P is
the eigenvector that Perron and Frobenius promise of positive maps (Evans and Høegh-Krohn 1978,
"Spectral properties of positive maps on C*-algebras"). It is the Lyapunov condition for stability
in mean square under multiplicative noise (Kleinman 1969). P is searched in floating point and need
not be the best; what is proven is proven for the P at hand.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ._rounding import EPS

# Powers of two, of rows and of columns, that a change of 1 in the caller's units is multiplied by.
Units = tuple[NDArray, NDArray]
# Weights of columns without effects, and such that rounding leaves something of, at a mean of 1.
_LEAST_WEIGHT, _LEAST_SQUARE = 1e-3, 1e-12


def perron_metrics(
    M: NDArray,
    shares: Iterable[float],
    steps: int,
    P: NDArray | None = None,
    weights: Callable[[NDArray], NDArray] = np.ones_like,
) -> Iterator[NDArray]:
    """Yield for each share s, in (0, 1), a matrix of trace n near the Perron eigenvector of Φ.

    The step P ← (1 − s) n Φ(P) / trace Φ(P) + s I contracts, and P stays positive definite. A small
    s lets a larger region be proven regular, a large one keeps P well conditioned, which keeps more
    of the distance to the singular matrices. Each share starts from the result of the one before.
    In the place of I there may be weights, a function of the diagonal of n Φ(P) / trace Φ(P).
    """
    rank, n, _ = M.shape
    P = np.eye(n) if P is None else P
    for share in shares:
        for _ in range(steps):
            image = M.reshape(rank * n, n).T @ (P @ M).reshape(rank * n, n)
            trace = np.trace(image)
            if not 0 < trace < np.inf:
                break
            added = np.diag(weights(np.diagonal(image) * (n / trace)))
            P = (1 - share) * n / trace * 0.5 * (image + image.T) + share * added
        yield P


def own_weights(diagonal: NDArray) -> NDArray:
    """Return weights that follow columns into other units, but leave none without any."""
    return np.maximum(diagonal, _LEAST_WEIGHT)


def weights_in(units: Units) -> Callable[[NDArray], NDArray]:
    """Return weights that are 1 in the caller's units, to keep distances there."""
    square = np.maximum((units[1] / units[1].max()) ** 2, _LEAST_SQUARE)
    return lambda _: square / square.mean()


def preconditioners(B: NDArray, P: NDArray) -> tuple[NDArray, NDArray]:
    """Return G ≈ LᵀB and H ≈ L⁻ᵀ with P = LLᵀ: GAH ≈ I, and G S_k H is M_k in the metric of P."""
    Lt = np.linalg.cholesky(P).T
    return Lt @ B, np.linalg.inv(Lt)


def contraction(
    A: NDArray, slack: NDArray | float, S: NDArray, G: NDArray, H: NDArray
) -> tuple[float, float, float]:
    """Return fixed, slope, loss with ‖I − G(A + F + Σ z_k S_k)H‖₂ <= fixed + slope·‖z‖₂ = r.

    That holds for all |F| <= slack, entry by entry, S of entries off by up to 4 units roundoff, and
    any G and H; an eps in `fixed` is for the rounding of 1 − r. The loss is ‖G‖₂‖H‖₂. If r < 1 the
    matrix (m, n), m >= n, has full rank: with E the difference to I, a left inverse of it, and of
    square ones the inverse, is H(I − E)⁻¹G, so that σ_min >= (1 − r) / loss.

    The two products have an error of at most γ_2m |G||A||H| (Higham 2002, section 3.5), and
    |Σ z_k S_k| <= ‖z‖₂ (Σ S_k²)^½ entrywise. Of LAPACK's singular values a backward error of a
    small multiple of m (m + rank) eps σ_max is assumed.
    """
    m, n = A.shape
    up = 1 + 8 * m * (m + len(S)) * EPS
    gamma = (2 * m + 8) * EPS
    size = np.sqrt(np.sum(S * S, axis=0))
    off = np.abs(np.eye(n) - G @ A @ H) + EPS * np.eye(n)
    off += np.abs(G) @ (gamma * np.abs(A) + slack) @ np.abs(H)
    rounding = np.abs(G) @ (gamma * size) @ np.abs(H)
    slope = tensor_norm_bound(G @ S @ H) + np.linalg.norm(rounding)
    loss = np.linalg.norm(G, 2) * np.linalg.norm(H, 2)
    return float(np.linalg.norm(off) * up), float(slope * up), float(loss * up * up)


def loss_in(units: Units, G: NDArray, H: NDArray) -> float:
    """Bound ‖G D₁‖₂‖D₂ H‖₂ from above: the loss where σ_min is that of D₁⁻¹AD₂⁻¹.

    Whose inverse, or left inverse, is D₂H(I − E)⁻¹GD₁.
    """
    u, v = units
    up = 1 + 8 * len(u) ** 2 * EPS
    return float(np.linalg.norm(G * u, 2) * np.linalg.norm(v[:, None] * H, 2) * up * up)


def tensor_norm_bound(T: NDArray) -> float:
    """Bound ‖Σ z_k T_k‖₂ over ‖z‖₂ = 1 from above, for T of shape (rank, m, n).

    Σ_kij z_k u_i T_kij v_j over unit z, u, v is at most the spectral norm of each unfolding of the
    tensor into a matrix, because two of the three vectors make one unit vector z⊗u, z⊗v or u⊗v.
    """
    if len(T) == 0:
        return 0.0
    unfoldings = (np.moveaxis(T, k, 0).reshape(T.shape[k], -1) for k in range(3))
    return float(min(np.linalg.norm(U, 2) for U in unfoldings))
