"""Units in which models are fitted: rows and columns of the training matrices at a common size.

One pair of diagonal matrices of powers of two for a fit, the same scaled matrices whatever powers
of two the rows and columns came in. So are fits, and what is stored is in the caller's units again.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import like
from .._arrays.shapes import as_stack, matrix_order
from .._linalg.inverses import root_mean_square
from .._linalg.units import entry_exponents, unit_exponents
from ..structures import Structure

# Sizes around powers of two, such as those of diagonals near 1, are not to be taken apart.
_APART = 1.5


@dataclass(frozen=True)
class FitUnits:
    """Exponents of the powers of two that numbers of rows and targets are multiplied with."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]

    @classmethod
    def of(cls, rows: NDArray, targets: NDArray, inverses: bool = True) -> Self:
        """Return those of training data, zeros for targets that are no inverses."""
        if not inverses:
            return cls(*(np.zeros(part.shape[1], dtype=np.int64) for part in (rows, targets)))
        n = matrix_order(rows.shape[1])
        usual = [root_mean_square(part).reshape(n, n) for part in (rows, targets)]
        return cls(*entry_exponents(*unit_exponents(_APART * usual[0], usual[1])))

    @classmethod
    def of_structured(cls, rows: NDArray, structure: Structure) -> Self:
        """Return those of matrices of a structure, which they keep."""
        usual = _APART * as_stack(root_mean_square(rows)[None])[0]
        if structure.is_complex:
            n = len(usual) // 2
            usual = np.hypot(usual[:n, :n], usual[n:, :n])
        r, c = unit_exponents(usual, symmetric=structure.is_symmetric)
        times = 1 + structure.is_complex
        return cls(*entry_exponents(np.tile(r, times), np.tile(c, times)))

    def scaled(self, rows: NDArray, targets: NDArray) -> tuple[NDArray, NDArray]:
        """Return training data in these units, in double precision."""
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(rows, self.x, dtype=np.float64), np.ldexp(targets, self.y)

    def undone(
        self, x_mean: NDArray, y_mean: NDArray, matrix: NDArray, kept: Any = slice(None)
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Return an affine map of some of the numbers of rows in the caller's units."""
        x = self.x[kept]
        return (
            np.ldexp(x_mean, -x),
            np.ldexp(y_mean, -self.y),
            np.ldexp(matrix, x[:, None] - self.y),
        )


def times_powers(rows: Any, exponents: NDArray) -> Any:
    """Return rows (m, d), of arrays or tensors, times 2^exponents, in their precision."""
    largest = 1000 if rows.dtype.itemsize == 8 else 120
    first = exponents.clip(-largest, largest)
    for part in (first, (exponents - first).clip(-largest, largest)):
        if part.any():
            rows = rows * like(np.ldexp(1.0, part), rows)
    return rows
