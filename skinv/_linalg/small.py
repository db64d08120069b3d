"""Inverses of many small matrices at once, entry by entry over the whole batch.

LAPACK takes one matrix at a time, and of small ones most of its time is calls. Here an entry of all
matrices is one vector. Nothing is pivoted: what is lost by that is for a proof to tell.
"""

import numpy as np
from numpy.typing import NDArray

from .arithmetic import Arithmetic
from .closed import CLOSED, GOOD, closed_inverses
from .products import exact_inverse, frobenius, product_error
from .workspace import Workspace, indices

# Past this LAPACK is as fast.
LARGEST = 16
# Bytes of the matrices that are worked on at once: fewer would stay in a smaller cache, but calls
# take their time, too.
_PIECE = 2**20
# Condition numbers up to this leave no doubt that a matrix may be fitted.
_PLAIN = 2.0**20


def small_inverses(A: NDArray, out: NDArray, bound: NDArray | None = None) -> None:
    """Write inverses of matrices (m, n, n), n <= LARGEST, to `out`; not finite at zero pivots.

    Of the precision of A, real or complex. Nothing is scaled: where powers of the entries over- or
    underflow the result is wrong. For `bound`, of closed forms only, see
    :func:`skinv._linalg.closed.closed_inverses`.
    """
    m, n = A.shape[:2]
    space, step = Workspace.of_thread(), max(_PIECE // (n * n * A.itemsize), 1)
    step -= 8 if step % 64 == 0 else 0  # vectors of 2^k bytes are in each other's way in caches
    with np.errstate(all="ignore"):
        for start in range(0, m, step):
            piece = slice(start, start + step)
            block = A[piece].transpose(1, 2, 0)
            X = space.of(A, block.shape, "inverse entries")
            if n <= CLOSED:
                T = space.of(A, block.shape, "entries")
                T[...] = block
                closed_inverses(T, X, space, None if bound is None else bound[piece])
            else:
                X[...] = block
                _eliminate(X, space)
            out[piece] = X.transpose(2, 0, 1)


def inverses_like_lapack(A: NDArray) -> NDArray:
    """Return inverses of real matrices (m, n, n) in double precision, as accurate as LAPACK's.

    Which they are where small ones are not so good, or condition numbers are large: those of
    matrices that are refused, and NaN at zero pivots, are LAPACK's.
    """
    n = A.shape[1]
    if n > LARGEST:
        return exact_inverse(A)
    X = np.empty_like(A)
    if n <= CLOSED:
        bound = np.empty(len(A))
        small_inverses(A, X, bound)
        good = bound < np.inf
    else:
        small_inverses(A, X)
        with np.errstate(all="ignore"):
            kappa, off = frobenius(A) * frobenius(X), frobenius(product_error(A, X))
            good = (off <= GOOD * Arithmetic.of(A).gamma(n) * kappa) & (kappa < _PLAIN)
    rest = indices(~good)
    if len(rest):
        X[rest] = exact_inverse(A[rest])
    return X


def _eliminate(X: NDArray, space: Workspace) -> None:
    """Gauss-Jordan elimination, in place."""
    n = len(X)
    work = space.of(X, X.shape, "work")
    for p in range(n):
        pivot = np.divide(1, X[p, p])
        X[p, p] = 1
        X[p] *= pivot
        for rows in (slice(0, p), slice(p + 1, n)):
            if rows.start < rows.stop:
                factors = X[rows, p].copy()
                X[rows, p] = 0
                X[rows] -= np.multiply(factors[:, None], X[p], out=work[rows])
