"""The series of the inverse as constants of its products."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Up to this order of the matrices the first-order series is one product with an n²×n² matrix, which
# is faster than two products with n×n matrices (measured).
_DENSE_ORDER = 8


@dataclass
class SeriesPart:
    """Some outputs of the series B(I + N + N² + …), N = −EB, and how they are computed.

    A part is thin if it is some rows and columns, computed from thin products.
    """

    right: Any  # −B (over the unit of E); thin: the columns asked for, B[:, columns]
    left: Any  # B; thin: the rows asked for; with columns: of each output its row of B, (n, k)
    order: int
    inner: Any = None  # thin: B
    corner: Any = None  # thin: B in the rows and columns asked for
    by_rows: bool = False  # thin: whether from the rows, which are fewer, or from the columns
    columns: Any = None  # of the last product, if only entries of that are computed, (k,)
    pick: Any = None  # where the outputs stand in what is computed; None is all of it, in order

    @classmethod
    def of(cls, B: NDArray, order: int, outputs: NDArray[np.intp] | None) -> "SeriesPart":
        """Choose the cheapest way to the outputs that are asked for (None: all)."""
        whole = cls(right=-B, left=B, order=order)
        if outputs is None:
            return whole
        n = len(B)
        thin, entries, everything = _costs(n, order, outputs)
        if thin <= min(entries, everything):
            rows, row_of = np.unique(outputs // n, return_inverse=True)
            columns, column_of = np.unique(outputs % n, return_inverse=True)
            pick = row_of * len(columns) + column_of
            in_order = np.array_equal(pick, np.arange(len(rows) * len(columns)))
            return cls(
                right=B[:, columns],
                left=B[rows],
                order=order,
                inner=B,
                corner=B[np.ix_(rows, columns)],
                by_rows=len(rows) < len(columns),
                pick=None if in_order else pick,
            )
        if entries <= everything:
            return replace(whole, left=B[outputs // n].T, columns=outputs % n)
        return replace(whole, pick=outputs)

    @property
    def is_thin(self) -> bool:
        """Whether only thin products are taken."""
        return self.inner is not None

    @property
    def is_plain(self) -> bool:
        """Whether all outputs are computed."""
        return self.inner is None and self.columns is None and self.pick is None


def _costs(n: int, order: int, outputs: NDArray[np.intp]) -> tuple[float, ...]:
    """Return multiplications per matrix: of thin products, of entries of the last one, of all."""
    rows, columns = len(np.unique(outputs // n)), len(np.unique(outputs % n))
    thin = (2 * order - 1) * n * n * min(rows, columns) + n * rows * columns
    # As many numbers are held as there are multiplications in the last product: no more than n².
    inner = n_products(order) * n**3
    entries = inner + n * len(outputs) if len(outputs) <= n else math.inf
    return thin, entries, inner + n**3


def n_products(order: int) -> int:
    """Return how many products the powers of a product of matrices up to some take, summed up."""
    if order <= 3:
        return order
    return n_products(order // 2) + 2 if order % 2 else n_products(order - 1) + 1


def is_dense(n: int, outputs: NDArray[np.intp] | None) -> bool:
    """Tell whether the first order is best computed as one product with an n² × k matrix."""
    if n <= _DENSE_ORDER or outputs is None:
        return n <= _DENSE_ORDER
    return n * n * len(outputs) < min(_costs(n, 1, outputs))


def kron_columns(B: NDArray, C: NDArray, outputs: NDArray[np.intp]) -> NDArray:
    """Return columns of Bᵀ ⊗ C: that of output (i, j) is the outer product of B[i] and C[:, j]."""
    n = len(B)
    rows, columns = B[outputs // n], C[:, outputs % n]
    return (rows.T[:, None, :] * columns[None, :, :]).reshape(n * n, len(outputs))
