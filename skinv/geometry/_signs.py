"""The norm of a matrix from linf to l1, a maximum over sign vectors."""

import numpy as np
from numpy.typing import NDArray

from .._linalg.workspace import pieces

# Largest order at which all 2^(n-1) sign vectors are tried.
EXACT_ORDER = 20
# Sums held at once while sign vectors are tried: 4 MB, to stay in the cache.
_CHUNK = 2**19


def inf_to_one_norm(B: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return max over sign vectors s of ‖Bs‖₁ and a maximiser, for each B of a stack (k, m, n).

    Exact for n <= 20, the value at the best sign vector of a local search beyond.
    """
    return _enumerate_signs(B) if B.shape[-1] <= EXACT_ORDER else _search_signs(B)


def _sign_vectors(k: int) -> NDArray[np.float64]:
    """All 2^k sign vectors of length k, as columns."""
    return 1.0 - 2.0 * ((np.arange(2**k) >> np.arange(k)[:, None]) & 1).astype(np.float64)


def _enumerate_signs(B: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Try all sign vectors, up to the overall sign.

    s = (p, q) is split in the middle and Bs = B_p p + B_q q, so 2^(n/2) products suffice, and each
    of the 2^(n-1) vectors then costs n additions of absolute values, as in Gray-code order, but in
    array operations.
    """
    m, n = B.shape[0], B.shape[-1]
    h = (n + 1) // 2
    first = np.vstack([np.ones(2 ** (h - 1)), _sign_vectors(h - 1)])  # s_0 = +1
    second = _sign_vectors(n - h)
    norms, signs = np.empty(m), np.empty((m, n))
    for piece in pieces(m, 1, 2 ** (n - 1), _CHUNK):
        block = B[piece]
        P, Q = block[:, :, :h] @ first, block[:, :, h:] @ second
        total = np.zeros((len(block), first.shape[1], second.shape[1]))
        for k in range(B.shape[1]):
            total += np.abs(P[:, k, :, None] + Q[:, k, None, :])
        flat = total.reshape(len(block), -1)
        best = flat.argmax(axis=1)
        norms[piece] = flat[np.arange(len(block)), best]
        i, j = np.divmod(best, second.shape[1])
        signs[piece] = np.vstack([first[:, i], second[:, j]]).T
    return norms, signs


def _search_signs(B: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Local search: alternating maximisation from n + 1 starts, then single flips.

    ‖Bs‖₁ = max over t of tᵀBs; maximising over t and s in turn never lowers it. A heuristic: its
    value is a lower bound of the norm, hence an upper bound of the distance.
    """
    m, n = B.shape[0], B.shape[-1]
    norms, signs = np.empty(m), np.empty((m, n))
    for k, Bk in enumerate(B):
        leading = np.linalg.svd(Bk)[2][0]
        S = np.where(np.vstack([Bk, leading]) < 0, -1.0, 1.0)  # a start per row
        value = np.abs(S @ Bk.T).sum(axis=1)
        while True:
            T = np.where(S @ Bk.T < 0, -1.0, 1.0)
            S_new = np.where(T @ Bk < 0, -1.0, 1.0)
            value_new = np.abs(S_new @ Bk.T).sum(axis=1)
            if not (value_new > value * (1 + 1e-12)).any():
                break
            S, value = S_new, value_new
        s = S[value.argmax()]
        y, best = Bk @ s, value.max()
        while True:
            flipped = np.abs(y[:, None] - 2.0 * Bk * s).sum(axis=0)
            j = flipped.argmax()
            if flipped[j] <= best * (1 + 1e-12):
                break
            y, best = y - 2.0 * Bk[:, j] * s[j], flipped[j]
            s[j] = -s[j]
        norms[k], signs[k] = np.abs(Bk @ s).sum(), s
    return norms, signs
