"""Inverses of many small matrices at once, entry by entry over the whole batch.

LAPACK takes one matrix at a time, and of small ones most of its time is calls. Here an entry of all
matrices is one vector. Nothing is pivoted: what is lost by that is for a proof to tell.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .workspace import Workspace

# Up to this order closed forms take less time than elimination, and lose less.
_CLOSED = 4
# Past this order LAPACK is as fast.
LARGEST = 16
# Bytes of the matrices that are worked on at once: fewer would stay in a smaller cache, but calls
# take their time, too.
_PIECE = 2**20


def small_inverses(A: NDArray, out: NDArray) -> None:
    """Write inverses of matrices (m, n, n), n <= LARGEST, to `out`; not finite at zero pivots.

    Of the precision of A, real or complex. Nothing is scaled: where powers of the entries over- or
    underflow the result is wrong.
    """
    m, n = A.shape[:2]
    space, step = Workspace.of_thread(), max(_PIECE // (n * n * A.itemsize), 1)
    step -= 8 if step % 64 == 0 else 0  # vectors of 2^k bytes are in each other's way in caches
    closed_form = _CLOSED_FORMS.get(n)
    with np.errstate(all="ignore"):
        for start in range(0, m, step):
            block = A[start : start + step].transpose(1, 2, 0)
            X = space.of(A, block.shape, "inverse entries")
            if closed_form is None:
                X[...] = block
                _eliminate(X, space)
            else:
                T = space.of(A, block.shape, "entries")
                T[...] = block
                closed_form(T, X, space)
            out[start : start + step] = X.transpose(2, 0, 1)


def _one(T: NDArray, X: NDArray, space: Workspace) -> None:
    np.divide(1, T, out=X)


def _two(T: NDArray, X: NDArray, space: Workspace) -> None:
    (a, b), (c, d) = T
    determinant = a * d
    determinant -= b * c
    X[0, 0], X[1, 1] = d, a
    np.negative(b, out=X[0, 1])
    np.negative(c, out=X[1, 0])
    X *= np.divide(1, determinant, out=determinant)


def _three(T: NDArray, X: NDArray, space: Workspace) -> None:
    """Cofactors of rows i and j are cross products."""
    work = space.of(T, T.shape[2:], "work")
    for column in range(3):  # X is the adjoint, whose columns are cross products of rows of T
        p, q = T[(column + 1) % 3], T[(column + 2) % 3]
        for row in range(3):
            i, j = (row + 1) % 3, (row + 2) % 3
            np.multiply(p[i], q[j], out=X[row, column])
            X[row, column] -= np.multiply(p[j], q[i], out=work)
    determinant = T[0, 0] * X[0, 0]
    for k in (1, 2):
        determinant += np.multiply(T[0, k], X[k, 0], out=work)
    X *= np.divide(1, determinant, out=determinant)


def _four(T: NDArray, X: NDArray, space: Workspace) -> None:
    """By the minors of the upper and the lower two rows (Laplace)."""
    work = space.of(T, T.shape[2:], "work")
    upper, lower = (space.of(T, (6, T.shape[2]), name) for name in ("upper", "lower"))
    for k, (i, j) in enumerate(_PAIRS):
        for minors, (p, q) in ((upper, T[:2]), (lower, T[2:])):
            np.multiply(p[i], q[j], out=minors[k])
            minors[k] -= np.multiply(p[j], q[i], out=work)
    for row in range(4):
        others = [k for k in range(4) if k != row]
        for column in range(4):
            # Of the rows other than `column`: a row of one half, and the minors of the other.
            minors = lower if column < 2 else upper
            single = T[column ^ 1]
            value = X[row, column]
            for step, k in enumerate(others):
                pair = others[0 if k != others[0] else 1], others[2 if k != others[2] else 1]
                term = value if step == 0 else work
                np.multiply(single[k], minors[_PLACE[pair]], out=term)
                if step == 1:
                    value -= term
                elif step == 2:
                    value += term
            if (row + column) % 2:
                np.negative(value, out=value)
    determinant = T[0, 0] * X[0, 0]
    for k in (1, 2, 3):
        determinant += np.multiply(T[0, k], X[k, 0], out=work)
    X *= np.divide(1, determinant, out=determinant)


_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
_PLACE = {pair: k for k, pair in enumerate(_PAIRS)}
_CLOSED_FORMS: dict[int, Any] = {1: _one, 2: _two, 3: _three, 4: _four}


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
