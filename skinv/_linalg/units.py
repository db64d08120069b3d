"""Units: powers of two that bring the rows and columns of matrices to a common size.

A choice is *equivariant* if it leads to the same scaled matrix whatever powers of two the rows and
columns came in. Iterations that divide by norms in turn (Ruiz) are not.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from .._arrays.conversion import namespace
from .products import product
from .scaling import ZERO, exponents, in_units

# Weight of entries that do not matter for the inverse, against 1 in every row for those that do.
_UNIMPORTANT = 2.0**-10
# Potentials are rounded down from t + 0.382: halves, which come up all the time, are no ties then.
_SHIFT = 0.382
# Exponents up to this are those of zeros, or of zeros and a few other ones.
_LEAST = ZERO // 2
# Sizes of rows that differ by this are those of different units.
_MIXED = 2.0**10
# Times that rows and columns are then scaled to their largest entries.
_ROUNDS = 2
# Exponents of entries are at most so large.
_FAR = 1000


def unit_exponents(
    A: NDArray, inverse: NDArray | None = None, *, symmetric: bool = False
) -> tuple[NDArray, NDArray]:
    """Return exponents (rows, columns) of powers of two that scale a finite matrix.

    ``np.ldexp(A, rows[:, None] + columns)`` has entries below 1 and, in every column that is not
    zero, one of at least 1/2. If `symmetric`, for symmetric and Hermitian matrices, both are the
    same, and the diagonal is between 1/4 and 1, or 0. Only magnitudes count. With the inverse of a
    square matrix entries count by a_ij (A⁻¹)_ji, which no scaling changes, so that noise in the
    place of zeros does no harm.

    The row potentials are the least-squares fit of log₂|a_ij| ≈ −r_i − c_j over the entries that
    are not zero (Curtis and Reid 1972, "On the automatic scaling of matrices for Gaussian
    elimination"), relative to one row of each connected component of the pattern, and rounded. Each
    column then gets the exponent of its largest entry: from there on the scaled matrix is the same
    whatever powers of two rows and columns were multiplied with. At last rows and columns are
    scaled to their largest entries in turn.
    """
    size = np.abs(A)
    exponent = np.where(size > 0, np.frexp(size)[1].astype(np.int64), ZERO)
    if symmetric:
        units = _of_symmetric(exponent)
        return units, units
    rows = np.zeros(len(A), dtype=int)
    i, j = np.nonzero(size)
    if len(i):
        mantissa = np.frexp(size[i, j])[0]
        weight = np.ones(len(i))
        if inverse is not None:
            weight = np.abs(A[i, j] * inverse[j, i]) + _UNIMPORTANT
        rows = _row_potentials(i, j, weight, np.log2(mantissa), exponent[i, j], size.shape)
    columns = _to_largest(exponent + rows[:, None], axis=0)
    for _ in range(_ROUNDS):  # of what is the same matrix now, in whatever units it came
        rows = rows + _to_largest(exponent + rows[:, None] + columns, axis=1)
        columns = columns + _to_largest(exponent + rows[:, None] + columns, axis=0)
    return rows, columns


def entry_exponents(r: NDArray, c: NDArray) -> tuple[NDArray, NDArray]:
    """Return exponents, from those of rows and columns, of flat matrices and of their inverses.

    All are 0 if some powers of two would be no normal numbers.
    """
    x, y = (r[:, None] + c).ravel(), -(c[:, None] + r).ravel()
    far = np.abs(x).max(initial=0) > _FAR
    return (0 * x, 0 * y) if far else (x, y)


def _of_symmetric(exponent: NDArray) -> NDArray:
    """Return exponents that make the diagonal 1, or entries beside others where it is 0."""
    known = np.diagonal(exponent) > ZERO
    units = np.where(known, -((np.diagonal(exponent) + 1) // 2), 0)
    while True:
        largest = np.where(known, exponent + units, ZERO).max(axis=1, initial=ZERO)
        found = ~known & (largest > _LEAST)
        if not found.any():
            return units
        units, known = np.where(found, -largest, units), known | found


def _to_largest(exponent: NDArray, axis: int) -> NDArray:
    """Return what is to be added for the largest exponents to be 0."""
    largest = exponent.max(axis=axis, initial=ZERO)
    return np.where(largest > _LEAST, -largest, 0)


def _row_potentials(
    i: NDArray,
    j: NDArray,
    weight: NDArray,
    fraction: NDArray,
    exponent: NDArray,
    shape: tuple[int, int],
) -> NDArray:
    """Solve the least-squares problem; columns are eliminated, so that it is one of rows."""
    W = np.zeros(shape)
    W[i, j] = weight
    total = W.sum(axis=0)
    share = W / np.where(total > 0, total, 1.0)
    # −r_i − c_j ≈ e_ij: with c_j the mean over its column, L r = −(row sums of what is left).
    laplacian = np.diag(W.sum(axis=1)) - share @ W.T
    label = connected_components((W > 0) @ (W > 0).T, directed=False)[1]
    first = np.unique(label, return_index=True)[1]
    free = np.setdiff1d(np.arange(len(W)), first)
    potentials = np.zeros(len(W))
    for values in (fraction, exponent.astype(np.float64)):
        E = np.zeros(shape)
        E[i, j] = values
        left = W * (E - (share * E).sum(axis=0))
        if len(free):
            right, square = -left.sum(axis=1)[free], laplacian[np.ix_(free, free)]
            try:
                potentials[free] += np.linalg.solve(square, right)
            except np.linalg.LinAlgError:  # of weights that are too different
                potentials[free] += np.linalg.lstsq(square, right)[0]
    return np.floor(potentials + _SHIFT).astype(int)


def are_mixed(A: Any) -> Any:
    """Tell which matrices (m, n, n) have rows or columns of very different sizes."""
    xp, size = namespace(A), abs(A)
    with np.errstate(all="ignore"):
        rows = product(size, xp.ones_like(size[:, :, :1]))
        columns = product(1 / rows.swapaxes(1, 2), size)
        sums = (rows[:, :, 0], columns[:, 0])
        alike = [xp.min(part, axis=1) * _MIXED > xp.max(part, axis=1) for part in sums]
    return ~(alike[0] & alike[1])


def in_common_units(A: Any, X: Any) -> tuple[Any, Any, Any, Any]:
    """Scale matrices and approximate inverses so that b and x, Ax = b, are of one size.

    Both are stacks (m, n, n) in double precision. Returned are ``in_units(A, −b, x)``,
    ``in_units(X, −x, b)``, and the exponents of the units of b and of x, int64 of shape (m, n).
    Columns of |X||A|, of which no scaling changes the diagonal, have the units of x. The first is
    taken, with largest terms in the place of sums, which cannot overflow: so the scaled matrices
    are the same, to the bit, whatever powers of two rows and columns came in.
    """
    E, F = exponents(A), exponents(X)
    x = _largest_terms(F, E[:, :, 0])
    if bool((x <= _LEAST).any()):
        x = _of_components(E, F)
    b = _largest_terms(E, x)
    b = b * (b > _LEAST)
    return in_units(A, -b, x), in_units(X, -x, b), b, x


def _of_components(E: Any, F: Any) -> Any:
    """Return exponents of the units of x where it takes several columns to reach all."""
    xp, (m, n) = namespace(E), E.shape[:2]
    x, every = xp.full_like(E[:, 0], ZERO), xp.arange(m)
    reach = product(*(xp.astype(M > _LEAST, xp.float64) for M in (F, E))) > 0
    count = xp.sum(xp.astype(reach, xp.int64), axis=1) + 1
    for _ in range(n):
        left = x <= _LEAST
        # Those that others depend on come before these, and so the order is no matter of units.
        first = xp.argmax(count * left, axis=1)
        column = _largest_terms(F, E[every, :, first])
        column[every, first] = column[every, first].clip(_LEAST + 1)
        reached = column > _LEAST
        # What is reached already sets the scale: it is to matter no less there.
        shift = xp.min(xp.where(reached & ~left, x - column, -ZERO), axis=1)[:, None]
        x = xp.where(reached & left, column + shift * (shift < -_LEAST), x)
    return x


def _largest_terms(E: Any, x: Any) -> Any:
    """Return the exponents of largest terms of products of matrices and vectors."""
    xp = namespace(E)
    largest = xp.max(E + x[:, None, :], axis=2)
    return xp.where(largest > _LEAST, largest, ZERO)
