"""Shapes of what callers pass: one matrix or many, rows or a stack, of which order."""

import math
from contextlib import suppress
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from .conversion import as_array, in_library_of, is_complex, is_foreign, is_tensor, refuse_sparse
from .embedding import embed_complex, extract_complex
from .warned import warn


class AmbiguousShapeWarning(UserWarning):
    """A square array was taken for rows of small matrices, but might be a single matrix.

    Examples
    --------
    >>> issubclass(AmbiguousShapeWarning, UserWarning)
    True
    """


def may_be_single(X: Any) -> bool:
    """Tell whether an array of n rows of n numbers, n = 4, 9, …, could be one matrix of order n.

    Data frames, whose columns have names, hold rows.
    """
    if hasattr(X, "columns") or not (hasattr(X, "shape") or isinstance(X, (list, tuple))):
        return False
    try:
        shape = tuple(X.shape) if hasattr(X, "shape") else np.shape(X)
    except ValueError:  # a ragged list
        return False
    n = shape[-1] if len(shape) == 2 and shape[0] == shape[1] else 0
    return n > 1 and math.isqrt(n) ** 2 == n


def warn_of_single(X: Any) -> None:
    """Warn if rows of training matrices could be a single matrix."""
    if may_be_single(X):
        n = int(np.shape(X)[0])
        warn(
            f"Got an array of shape ({n}, {n}), which is taken for {n} matrices of order "
            f"{math.isqrt(n)}, a row each. If it is one matrix A of order {n}, pass A[None]; "
            f"otherwise pass a stack, X.reshape({n}, {math.isqrt(n)}, {math.isqrt(n)}).",
            AmbiguousShapeWarning,
        )


def rectangular_shape(X: Any) -> tuple[int, int] | None:
    """Return the shape (m, n) of the matrices of a stack if they are not square, else None."""
    shape: tuple[int, ...] = ()
    if hasattr(X, "shape"):
        shape = tuple(X.shape)
    elif isinstance(X, (list, tuple)):
        with suppress(ValueError):  # of ragged ones
            shape = np.shape(X)
    if len(shape) != 3 or shape[1] == shape[2] or 0 in shape[1:]:
        return None
    return shape[1], shape[2]


def refuse_unsquare(X: Any) -> None:
    """Raise a ValueError unless an array is a matrix (n, n) or a stack (..., n, n) of them."""
    shape = tuple(X.shape)
    if len(shape) > 1 and shape[-1] == shape[-2] > 0:
        return
    n = math.isqrt(shape[1]) if len(shape) == 2 else 0
    n_named = str(n) if n and n * n == shape[1] else "n"
    other = f"reshape rows of flattened matrices with X.reshape(-1, {n_named}, {n_named})"
    if len(shape) > 2 and 0 not in shape[-2:]:
        other = "matrices that are not square have pseudo-inverses, skinv.pinv"
    raise ValueError(
        f"Got an array of shape {shape}, but a matrix (n, n) or a stack (..., n, n) of them is "
        f"expected; {other}."
    )


def refuse_flattened(X: Any) -> None:
    """Raise a ValueError unless an array is a matrix (m, n) or a stack (..., m, n) of them.

    And for one that may be rows of square matrices.
    """
    shape = tuple(X.shape)
    n = math.isqrt(shape[1]) if len(shape) == 2 else 0
    are_rows = n > 1 and n * n == shape[1] != shape[0]
    if len(shape) > 1 and 0 not in shape[-2:] and not are_rows:
        return
    one = "; one matrix of this shape is A[None]" if are_rows else ""
    named = str(n) if are_rows else "n"
    raise ValueError(
        f"Got an array of shape {shape}, but a matrix (m, n) or a stack (..., m, n) of them is "
        f"expected; reshape rows of flattened matrices with X.reshape(-1, {named}, {named}){one}."
    )


class Leading(NamedTuple):
    """How matrices came: with which axes before their own, and in which library if another."""

    shape: tuple[int, ...]
    library: Any = None  # an array of it

    @classmethod
    def of(cls, X: Any, library: Any = None) -> "Leading":
        """Look at an array, and warn of one whose meaning has changed."""
        refuse_unsquare(X)
        if may_be_single(X) and not is_complex(X):
            n = X.shape[0]
            k = math.isqrt(n)
            warn(
                f"Got an array of shape ({n}, {n}), which is one matrix of order {n}, as in "
                f"numpy.linalg; it used to be refused, as it might be rows of {n} matrices of "
                f"order {k}: then pass X.reshape({n}, {k}, {k}), otherwise A[None] ends this.",
                AmbiguousShapeWarning,
            )
        return cls(tuple(X.shape[:-2]), library)

    def numbers(self, values: Any) -> Any:
        """Return a number for each matrix, in the shape and library that they came in."""
        values = values.reshape(self.shape)[()]
        return values if self.library is None else in_library_of(self.library, values)

    def matrices(self, stack: Any) -> Any:
        """Return a stack (m, n, n) in the shape and library that matrices came in."""
        stack = stack.reshape(*self.shape, *stack.shape[-2:])
        return stack if self.library is None else in_library_of(self.library, stack)


def refuse_no_rows(rows: Any, name: str) -> None:
    """Raise a ValueError unless :func:`flatten_stack` has found rows, or a stack, of matrices."""
    if rows.ndim != 2:
        raise ValueError(
            f"Got {name} of shape {rows.shape}, but rows (n_samples, n*n) or a stack (n_samples, "
            f"n, n) are expected; a single matrix A is A[None]."
        )


def matrix_order(n_features: int) -> int:
    """Return the order n of the matrices whose rows have n² entries, or raise a ValueError."""
    n = math.isqrt(max(n_features, 0))
    if n == 0 or n * n != n_features:
        raise ValueError(
            f"Got rows of {n_features} entries, but a flattened n × n matrix has n*n of them "
            f"(1, 4, 9, 16, ...); pass rows (n_samples, n*n) or a stack (n_samples, n, n), "
            f"and matrices that are not square as a stack (n_samples, m, n)."
        )
    return n


class Layout(IntEnum):
    """How matrices came, for :func:`restore_layout`; true for stacks."""

    ROWS = 0
    STACK = 1
    COMPLEX = 2


class Matrices(NamedTuple):
    """Matrices as a caller passed them to an estimator, and how they came."""

    numbers: Any  # rows (m, n*n), or a complex stack (m, n, n)
    layout: Layout

    @classmethod
    def of(cls, X: Any) -> "Matrices":
        """Look at what was passed; a ValueError for what cannot be rows, or a stack of matrices.

        The numbers are those that were passed, or a view of them, in an array or a tensor; data
        frames, and lists of rows, are left to scikit-learn.
        """
        if not hasattr(X, "ndim") and isinstance(X, (list, tuple)):
            try:
                X = as_array(X)
            except ValueError as error:
                raise ValueError(
                    f"Got a {type(X).__name__} of parts of different shapes, but matrices are rows "
                    f"of n*n numbers each, or a stack (n_samples, n, n)."
                ) from error
        elif is_tensor(X):
            refuse_sparse(X)
            X = X.detach()
        elif is_foreign(X):
            X = np.asarray(X)
        if getattr(X, "ndim", 2) != 3:
            if hasattr(X, "dtype") and is_complex(X):
                raise ValueError(
                    f"Complex data not supported as an array of shape {tuple(X.shape)}: pass "
                    f"complex matrices as a stack (n_samples, n, n)."
                )
            return cls(X, Layout.ROWS)
        if X.shape[1] != X.shape[2]:
            raise ValueError(
                f"Got a stack of shape {tuple(X.shape)}, but its matrices must be square: "
                f"(n_samples, n, n). Those that are not have pseudo-inverses, which skinv.pinv, "
                f"CertifiedInverse and the learned approximations answer with."
            )
        if is_complex(X):  # of subclasses, as masked arrays are, the numbers
            return cls(X if is_tensor(X) else np.asarray(X), Layout.COMPLEX)
        return cls(X.reshape(X.shape[0], X.shape[1] * X.shape[2]), Layout.STACK)

    @property
    def is_complex(self) -> bool:
        """Whether they are complex."""
        return self.layout == Layout.COMPLEX

    @property
    def n_features(self) -> int:
        """Entries of a matrix, of a complex one those of its real embedding."""
        shape = self.numbers.shape
        return 4 * shape[1] * shape[2] if self.is_complex else shape[1]

    @property
    def rows(self) -> Any:
        """Real rows, of complex matrices those of their embeddings."""
        if not self.is_complex:
            return self.numbers
        embedded = embed_complex(self.numbers)
        return embedded.reshape(len(embedded), embedded.shape[1] * embedded.shape[2])

    @property
    def stack(self) -> Any:
        """Matrices (m, n, n)."""
        return self.numbers if self.is_complex else as_stack(self.numbers)

    def restored(self, stack: Any) -> Any:
        """Give matrices (m, n, n) back as these came."""
        return stack.reshape(self.numbers.shape) if self.layout == Layout.ROWS else stack


def flatten_stack(X: Any) -> tuple[Any, Layout]:
    """Return real rows, views where they can be had, and the layout for :func:`restore_layout`."""
    taken = Matrices.of(X)
    return taken.rows, taken.layout


def restore_layout(rows: Any, layout: int) -> Any:
    """Give rows (m, n*n) back in a layout; those of embeddings are complex matrices again."""
    if not layout:
        return rows
    n = matrix_order(rows.shape[1])
    stack = rows.reshape(rows.shape[0], n, n)
    return extract_complex(stack) if layout == Layout.COMPLEX else stack


def as_stack(rows: Any) -> Any:
    """View rows (m, n*n) as a stack (m, n, n)."""
    return restore_layout(rows, Layout.STACK)
