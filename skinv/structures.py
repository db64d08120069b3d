"""Structures of matrices, and the numbers that are free in them.

A structure is a linear space of real matrices in which every entry is one of k free numbers, maybe
with the other sign, or zero: symmetric matrices, and the real embeddings of complex and of
Hermitian ones. Packed rows hold the free numbers only.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays.conversion import (
    flushes,
    is_complex,
    like,
    namespace,
    parts_of,
    real_numbers,
    subnormal,
    to_host,
)
from ._arrays.embedding import embed_complex, extract_complex, mean_of
from ._arrays.rows import list_rows
from ._arrays.shapes import as_stack, flatten_stack, matrix_order, may_be_single
from ._linalg.products import taken_columns
from ._linalg.workspace import every, indices, piece_memory, pieces

__all__ = ["Structure", "pack_symmetric", "symmetric_rows", "unpack_symmetric"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Structure:
    """Where the free numbers of matrices of one structure stand.

    Parameters
    ----------
    first : ndarray of int of shape (k,)
        One entry of the flattened matrix for each free number.
    source : ndarray of int of shape (n*n,)
        The free number of each entry.
    sign : ndarray of shape (n*n,)
        What it is multiplied by: 1, −1 or 0.
    is_complex, is_symmetric : bool
        Whether the matrices are embeddings of complex ones, and whether they are symmetric.
    shape : tuple of int
        That of the matrices.

    Examples
    --------
    >>> symmetric = Structure.of(4, symmetric=True)
    >>> symmetric.unpack(np.array([[1.0, 2.0, 3.0]]))
    array([[1., 2., 2., 3.]])
    >>> symmetric.multiplicity
    array([1, 2, 1])
    """

    first: NDArray[np.intp]
    source: NDArray[np.intp]
    sign: NDArray[np.float64]
    is_complex: bool
    is_symmetric: bool
    shape: tuple[int, int]

    @staticmethod
    @lru_cache(maxsize=32)
    def of(
        n_features: int,
        *,
        complex: bool = False,
        symmetric: bool = False,
        shape: tuple[int, int] | None = None,
    ) -> "Structure":
        """Return the structure of matrices with so many entries, of embeddings if `complex`.

        They are square if no `shape` is given.

        The free numbers are those of the upper triangle, row by row; of complex matrices first the
        real parts, then the imaginary ones (without the diagonal if these are Hermitian).
        """
        m, n = shape = shape or 2 * (matrix_order(n_features),)
        if complex:
            if m % 2 or n % 2:
                raise ValueError(
                    f"Got real matrices of order {n}, but embeddings of complex ones have even "
                    f"orders; pass a complex stack."
                )
            m, n = m // 2, n // 2
        where = np.triu_indices(n) if symmetric else tuple(np.indices((m, n)).reshape(2, -1))
        k = len(where[0])
        number = np.zeros((m, n), dtype=np.intp)
        number[where] = np.arange(k)
        if symmetric:
            number[where[::-1]] = np.arange(k)
        first = where[0] * n + where[1]
        sign = np.ones((m, n))
        if complex:
            strict = where[0] != where[1] if symmetric else np.ones(k, dtype=bool)
            imaginary, part = np.zeros((m, n), dtype=np.intp), np.ones((m, n))
            imaginary[where[0][strict], where[1][strict]] = k + np.arange(strict.sum())
            if symmetric:
                imaginary = np.maximum(imaginary, imaginary.T)
                part = np.triu(part, 1) - np.tril(part, -1)
            rows, columns = where[0][strict], where[1][strict]
            first = np.r_[where[0] * 2 * n + where[1], (rows + m) * 2 * n + columns]
            number = np.block([[number, imaginary], [imaginary, number]])
            sign = np.block([[sign, -part], [part, sign]])
        arrays = first, number.ravel(), sign.ravel()
        for array in arrays:
            array.flags.writeable = False
        return Structure(*arrays, complex, symmetric, shape)

    @property
    def multiplicity(self) -> NDArray[np.intp]:
        """How many entries each free number stands at."""
        return np.bincount(self.source[self.sign != 0], minlength=len(self.first))

    def pack(self, rows: Any) -> Any:
        """Return the free numbers of matrices (m, n*n) that have the structure, (m, k)."""
        return taken_columns(rows, self.first)

    def unpack(self, packed: Any) -> Any:
        """Return the matrices (m, n*n) of free numbers (m, k), in their dtype."""
        full = taken_columns(packed, self.source)
        if (self.sign != 1).any():
            full *= like(self.sign, packed)
        return full

    def project(self, rows: Any) -> Any:
        """Return the nearest matrices (m, n*n) of this structure in the Frobenius norm."""
        stack = rows.reshape(-1, *self.shape)
        if self.is_complex:
            stack = namespace(rows).astype(embed_complex(extract_complex(stack)), rows.dtype)
        if self.is_symmetric:
            stack = mean_of(stack, stack.swapaxes(-1, -2))
        return stack.reshape(rows.shape)

    def smallest(self, values: NDArray) -> NDArray:
        """Return values (n*n,) with each entry the least of those that are one free number."""
        used = self.sign != 0
        least = np.full(len(self.first), np.inf)
        np.minimum.at(least, self.source[used], values[used])
        return least[self.source] * used

    def violation(self, rows: NDArray, power: NDArray | None = None) -> NDArray:
        """Return how far matrices are from having the structure in any entry; 0 for rounding.

        inf where an entry is not finite and its counterpart is something else. Rounding is some
        units in the last place of the largest entry, of entries times 2^power if it is given.
        """
        violation = np.zeros(len(rows), dtype=rows.dtype)
        inexact = (self.unpack(self.pack(rows)) != rows).any(axis=1)
        if inexact.any():
            some, near = rows[inexact], self.project(rows[inexact])
            with np.errstate(invalid="ignore", over="ignore", under="ignore"):
                same = (some == near) | (np.isnan(some) & np.isnan(near))
                off = np.where(same, 0.0, np.abs(some - near))
                sizes = [off, np.abs(some)]
                if power is not None:
                    sizes = [np.ldexp(size.astype(np.float64), power) for size in sizes]
                most, largest = (size.max(axis=1) for size in sizes)
                rounded = (most <= 16 * np.finfo(rows.dtype).eps * largest) & np.isfinite(most)
                off = np.where(rounded, 0.0, off.max(axis=1))
            violation[inexact] = np.where(np.isnan(off), np.inf, off)
        return violation


# So many matrices are compared with their transposes at once.
_FEW = 64


def make_hermitian(stack: Any, which: Any = None) -> None:
    """Replace all or some matrices of a stack (m, n, n) by their symmetric or Hermitian parts."""
    add, (m, n, _), memory = namespace(stack).add, stack.shape, piece_memory(stack) // 4
    together = which is None or every(which)
    for piece in pieces(m, n, stack.itemsize, memory):
        some = block = stack[piece]
        if not together:
            some = block[which[piece]]
        half = 0.5 * some
        add(half, half.swapaxes(1, 2).conj(), out=some)
        if some is not block:
            block[which[piece]] = some


def symmetric_rows(stack: Any) -> Any:
    """Tell which matrices are symmetric, or Hermitian if they are complex, to the last bit.

    Parameters
    ----------
    stack : ndarray or tensor of shape (m, n, n)

    Returns
    -------
    ndarray or tensor of bool of shape (m,)

    Examples
    --------
    >>> symmetric_rows(np.array([[[1.0, 2.0], [2.0, 1.0]], [[1.0, 2.0], [3.0, 1.0]]]))
    array([ True, False])
    """
    if len(stack) <= _FEW:
        return _equal_transposes(stack)
    xp, n = namespace(stack), stack.shape[-1]
    i, j = _unlike(stack)
    symmetric = stack[:, i, j] == stack[:, j, i].conj()  # most that are not, are found here
    if bool(xp.any(symmetric)):
        for piece in pieces(len(stack), n, stack.itemsize, piece_memory(stack) // 4):
            found = indices(symmetric[piece])
            some = stack[piece] if len(found) == len(stack[piece]) else stack[piece][found]
            symmetric[piece][found] = _equal_transposes(some)
    return symmetric


def _equal_transposes(stack: Any) -> Any:
    same = stack == stack.swapaxes(1, 2).conj()
    if flushes():  # then subnormal numbers are equal to 0
        tiny = subnormal(parts_of(stack))
        same = same & ~(tiny if tiny.ndim == 3 else tiny.any(-1))
    if every(same):
        return same[:, 0, 0]
    return same.reshape(len(stack), stack.shape[-1] ** 2).all(1)


def _unlike(stack: Any) -> tuple[int, int]:
    """Return where the first matrix differs most from its transpose."""
    with np.errstate(all="ignore"):
        off = abs(stack[0] - stack[0].T.conj())
        return divmod(int(namespace(stack).argmax(off.reshape(-1))), stack.shape[1])


def pack_symmetric(X: Any) -> Any:
    """Return the upper triangles of symmetric matrices as rows, n(n + 1)/2 numbers each.

    Parameters
    ----------
    X : array-like or tensor of shape (n_samples, n*n) or (n_samples, n, n)
        Symmetric matrices.

    Returns
    -------
    ndarray or tensor of shape (n_samples, n*(n + 1)/2)
        The triangle row by row, as ``numpy.triu_indices`` has it.

    Raises
    ------
    ValueError
        If matrices are not symmetric, up to rounding (the rows are named), square or real.

    Examples
    --------
    >>> pack_symmetric([[1.0, 2.0, 2.0, 3.0]])
    array([[1., 2., 3.]])
    """
    if is_complex(X):
        raise ValueError("Got complex matrices, but triangles of real ones are packed.")
    X = real_numbers(X, "X")
    if may_be_single(X):
        n = X.shape[0]
        k = math.isqrt(n)
        raise ValueError(
            f"Got an array of shape ({n}, {n}), which is one matrix of order {n} or {n} rows of "
            f"matrices of order {k}: pass A[None] for the former, A.reshape({n}, {k}, {k}) for the "
            f"latter."
        )
    rows = flatten_stack(X)[0]
    if rows.ndim != 2:
        raise ValueError(
            f"Got an array of shape {tuple(rows.shape)}, but matrices as rows (n_samples, n*n) or "
            f"a stack (n_samples, n, n) are expected."
        )
    structure = Structure.of(rows.shape[1], symmetric=True)
    refuse_unstructured(structure, to_host(rows))
    return structure.pack(rows)


def unpack_symmetric(packed: Any) -> Any:
    """Return symmetric matrices from the rows of their upper triangles.

    Parameters
    ----------
    packed : array-like or tensor of shape (n_samples, n*(n + 1)/2)
        As :func:`pack_symmetric` returns them.

    Returns
    -------
    ndarray or tensor of shape (n_samples, n, n)

    Raises
    ------
    ValueError
        If the length of the rows is not n(n + 1)/2 for any n.

    Examples
    --------
    >>> unpack_symmetric([[1.0, 2.0, 3.0]])
    array([[[1., 2.],
            [2., 3.]]])
    """
    packed = real_numbers(packed, "packed rows")
    if packed.ndim != 2:
        raise ValueError(
            f"Got an array of shape {tuple(packed.shape)}, but packed rows "
            f"(n_samples, n*(n + 1)/2) are expected."
        )
    n = packed_order(packed.shape[1])
    return as_stack(Structure.of(n * n, symmetric=True).unpack(packed))


def packed_order(k: int) -> int:
    """Return the order n of the symmetric matrices with k = n(n + 1)/2 free numbers."""
    n = int((2 * k) ** 0.5)
    if n == 0 or n * (n + 1) != 2 * k:
        raise ValueError(
            f"Got packed rows of {k} numbers, but the upper triangle of an n × n matrix has "
            f"n*(n + 1)/2 of them (1, 3, 6, 10, ...)."
        )
    return n


def refuse_unstructured(
    structure: Structure, rows: NDArray, name: str = "Matrices", power: NDArray | None = None
) -> None:
    """Raise a ValueError that names the rows without the structure."""
    bad = structure.violation(rows, power) > 0
    if bad.any():
        if not structure.is_symmetric:
            kind, fix = "embeddings of complex matrices", "pass complex stacks"
        else:
            kind = "Hermitian" if structure.is_complex else "symmetric"
            fix = "pass (A + A.conj().T) / 2 if they should be"
        raise ValueError(
            f"{name} in rows {list_rows(bad)} are not {kind}; {fix}, or use an estimator without "
            f"structure."
        )
