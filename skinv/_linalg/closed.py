"""Inverses of orders 1 to 4 by cofactors, with what their rounding amounts to.

With the adjugate C and the determinant d of A as computed, C' and d', X = C'/d'. Each term of
theirs is a product of one entry of each of some rows, so that to rounding they are off by multiples
of permanents of |A|, which rows of norms r_i bound: per(|A|) <= c r_1···r_n with c = n!/n^(n/2)
(Carlen, Lieb & Loss 2006, "An inequality of Hadamard type for permanents"). With
P = r_1···r_n, terms that are rounded k times, and those of a cofactor l times,

    |d − d'| <= γ_k c P,    ‖C − C'‖_F <= γ_l c P √(Σ 1/r_i²),

the latter because the cofactors of row i have, as a vector, the norm of the largest permanent of
the other rows and a unit vector. As A⁻¹ = C/d,

    ‖A⁻¹ − X‖_F / ‖A⁻¹‖_F <= γ_k c P/|d'| + γ_l c P √(Σ 1/r_i²)/‖C'‖_F + 2u,

but for products of these terms. That costs no product of matrices, and does not depend on the units
of rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arithmetic import Arithmetic
from .workspace import Workspace

# Up to this order closed forms take less time than elimination, and lose less.
CLOSED = 4
# Errors so many times what rounding makes of those of LAPACK's inverses are too large.
GOOD = 10
# Of each order: c, and the roundings k and l of terms above.
_TERMS = {1: (1.0, 0, 0), 2: (1.0, 2, 0), 3: (2 / 3**0.5, 5, 2), 4: (1.5, 8, 5)}
# Larger bounds are left to others. Up to there products of terms, the rounding of the bound itself
# and, where P² and ‖A‖_F² are in these ranges, all that underflows amount to less than 2^-28 of it.
# For |d'| > 2^30 uP then, so that nothing overflows; and what underflows is below 2^-1022 times
# entries of the other rows, 2^192 at most, or times |1/d'| < 2^280, where P > 2^-251,
# ‖C‖_F >= |d|/r_i > 2^-340 and ‖A⁻¹‖_F >= 1/r_i > 2^-65.
_LARGEST, _UP = 2.0**-30, 1 + 2.0**-28
_LEAST_SQUARE, _LARGEST_SQUARE = 2.0**-500, 2.0**128


def closed_inverses(T: NDArray, X: NDArray, space: Workspace, bound: NDArray | None = None) -> None:
    """Write inverses of matrices, n <= CLOSED, to X, entry by entry (n, n, m); T is overwritten.

    `bound` (m,) gets proven bounds of the relative errors in the Frobenius norm, of real matrices
    in double precision; infinite where they are not small, or where LAPACK's may be smaller.
    """
    n, W = len(T), space.of(T, T.shape, "work")
    rows = None if bound is None else np.add.reduce(np.multiply(T, T, out=W), axis=1)
    determinant = _ADJUGATES[n](T, X, W, space)
    reciprocal = np.divide(1, determinant, out=space.of(T, determinant.shape, "reciprocal"))
    if bound is not None:
        _bound(rows, X, W, reciprocal, bound)
    X *= reciprocal


def _bound(rows: Any, X: NDArray, W: NDArray, reciprocal: NDArray, out: NDArray) -> None:
    """Bound the errors from the squares of the norms of rows, the adjugates X and 1/d'."""
    n, unit = len(X), Arithmetic.of(X).unit
    c, of_determinant, of_cofactors = _TERMS[n]
    # The squares of ‖A‖_F and of P.
    size, product = np.add.reduce(rows, axis=0), np.multiply.reduce(rows, axis=0)
    good = (size < _LARGEST_SQUARE) & (product > _LEAST_SQUARE)
    bound = np.sqrt(product)
    bound *= np.abs(reciprocal)
    bound *= c * of_determinant * unit * _UP
    bound += 2 * unit * _UP
    if of_cofactors:
        cofactors = np.add.reduce(np.multiply(X, X, out=W).reshape(n * n, -1), axis=0)
        others = np.add.reduce(np.reciprocal(rows, out=rows), axis=0)
        others *= product
        others /= cofactors
        np.sqrt(others, out=others)
        others *= c * of_cofactors * unit * _UP
        bound += others
        # The first term against GOOD γ_n ‖A‖_F ‖X‖_F; of lower orders it is always less.
        product *= (c * of_determinant / (GOOD * n)) ** 2
        size *= cofactors
        good &= size >= product
    good &= bound < _LARGEST
    out.fill(np.inf)
    np.copyto(out, bound, where=good)


def _one(T: NDArray, X: NDArray, W: NDArray, space: Workspace) -> NDArray:
    X[...] = 1
    return T[0, 0]


def _two(T: NDArray, X: NDArray, W: NDArray, space: Workspace) -> NDArray:
    (a, b), (c, d) = T
    X[0, 0], X[1, 1] = d, a
    np.negative(b, out=X[0, 1])
    np.negative(c, out=X[1, 0])
    products = np.multiply(T[0], T[1, ::-1], out=W[0])
    return np.subtract(products[0], products[1], out=products[0])


def _three(T: NDArray, X: NDArray, W: NDArray, space: Workspace) -> NDArray:
    """Cofactors are those of cyclic minors: (i + 1, i + 2) of rows and columns, modulo 3."""
    E = space.of(T, (5, 5, T.shape[2]), "entries, some twice")
    E[:3, :3], E[3:, :3], E[:, 3:] = T, T[:2], E[:, :2]
    adjugate = X.swapaxes(0, 1)
    np.multiply(E[1:4, 1:4], E[2:, 2:], out=adjugate)
    adjugate -= np.multiply(E[1:4, 2:], E[2:, 1:4], out=W)
    terms = np.multiply(T[0], X[:, 0], out=W[0])
    terms[0] += terms[1]
    terms[0] += terms[2]
    return terms[0]


def _four(T: NDArray, X: NDArray, W: NDArray, space: Workspace) -> NDArray:
    """By the minors of the upper and the lower two rows (Laplace)."""
    m = T.shape[2]
    halves, work = T.reshape(2, 2, 4, m), W.reshape(16, m)
    minors, term = work[:12].reshape(2, 6, m), work[12:].reshape(2, 2, m)
    p, q, spare = halves[:, 0], halves[:, 1], X.reshape(2, 8, m)
    for distance, places in _DISTANCES.items():
        left, right = slice(4 - distance), slice(distance, 4)
        value = np.multiply(p[:, left], q[:, right], out=minors[:, places])
        value -= np.multiply(p[:, right], q[:, left], out=spare[:, left])
    # Of the rows other than a column's: one of its half, with the signs of columns, and the minors
    # of the other half.
    np.negative(p, out=p)
    singles, minors = halves[:, ::-1], minors[::-1, None]
    for row in range(4):
        i, j, k = (column for column in range(4) if column != row)
        steps = [(np.subtract, j, (i, k)), (np.add, k, (i, j))]
        first = i, (j, k)
        if row % 2:
            first, steps = (j, (i, k)), [(np.subtract, i, (j, k)), (np.subtract, k, (i, j))]
        value = X[row].reshape(2, 2, m)
        np.multiply(singles[:, :, first[0]], minors[:, :, _PLACES[first[1]]], out=value)
        for operation, single, pair in steps:
            np.multiply(singles[:, :, single], minors[:, :, _PLACES[pair]], out=term)
            operation(value, term, out=value)
    terms = np.multiply(T[0], X[:, 0], out=work[:4])  # T[0] is the negative of a row now
    terms[:2] += terms[2:]
    terms[0] += terms[1]
    return np.negative(terms[0], out=terms[0])


# Of minors of two rows: the distance of their columns, and where those of this distance stand.
_DISTANCES = {1: slice(0, 3), 2: slice(3, 5), 3: slice(5, 6)}
_PLACES = {(0, 1): 0, (1, 2): 1, (2, 3): 2, (0, 2): 3, (1, 3): 4, (0, 3): 5}
_ADJUGATES: dict[int, Any] = {1: _one, 2: _two, 3: _three, 4: _four}
