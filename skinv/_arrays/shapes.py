"""Shapes of what callers pass: one matrix or many, rows or a stack, of which order."""

from __future__ import annotations

import math
import warnings
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .conversion import as_array
from .embedding import embed_complex, extract_complex
from .host import is_complex, refuse_sparse
from .kinds import is_tensor


class AmbiguousShapeWarning(UserWarning):
    """A square array was taken for rows of small matrices, but might be a single matrix.

    Examples
    --------
    >>> issubclass(AmbiguousShapeWarning, UserWarning)
    True
    """


def may_be_single(X: Any) -> bool:
    """Tell whether an array of n rows of n numbers could be one matrix, or n smaller ones.

    Parameters
    ----------
    X : object
        Anything. Data frames, whose columns have names, hold rows.

    Returns
    -------
    bool
        True for n = 4, 9, 16, ...

    Examples
    --------
    >>> may_be_single(np.eye(4)), may_be_single(np.eye(3)), may_be_single([[2.0]])
    (True, False, False)
    """
    if hasattr(X, "columns") or not (hasattr(X, "shape") or isinstance(X, (list, tuple))):
        return False
    try:
        shape = tuple(X.shape) if hasattr(X, "shape") else np.shape(X)
    except ValueError:  # a ragged list
        return False
    n = shape[-1] if len(shape) == 2 and shape[0] == shape[1] else 0
    return n > 1 and math.isqrt(n) ** 2 == n


def warn_of_single(X: Any, stacklevel: int = 3) -> None:
    """Warn if rows of training matrices could be a single matrix."""
    if may_be_single(X):
        n = int(np.shape(X)[0])
        warnings.warn(
            f"Got an array of shape ({n}, {n}), which is taken for {n} matrices of order "
            f"{math.isqrt(n)}, a row each. If it is one matrix A of order {n}, pass A[None]; "
            f"otherwise pass a stack, X.reshape({n}, {math.isqrt(n)}, {math.isqrt(n)}).",
            AmbiguousShapeWarning,
            stacklevel=stacklevel + 1,
        )


def refuse_unsquare(X: Any) -> None:
    """Raise a ValueError unless an array is a matrix (n, n) or a stack (..., n, n) of them.

    Parameters
    ----------
    X : ndarray or tensor
    """
    shape = tuple(X.shape)
    if len(shape) > 1 and shape[-1] == shape[-2] > 0:
        return
    n = math.isqrt(shape[1]) if len(shape) == 2 else 0
    n_named = str(n) if n and n * n == shape[1] else "n"
    raise ValueError(
        f"Got an array of shape {shape}, but a matrix (n, n) or a stack (..., n, n) of them is "
        f"expected; reshape rows of flattened matrices with X.reshape(-1, {n_named}, {n_named})."
    )


class Leading(NamedTuple):
    """How matrices came: with which axes before their own, and whether complex ones are embedded.

    Parameters
    ----------
    shape : tuple of int
    is_complex : bool, default=False

    Examples
    --------
    >>> came = Leading((2, 1))
    >>> came.numbers(np.array([1.0, 2.0])).shape, came.matrices(np.zeros((2, 3, 3))).shape
    ((2, 1), (2, 1, 3, 3))
    """

    shape: tuple[int, ...]
    is_complex: bool = False

    @classmethod
    def of(cls, X: Any, *, is_complex: bool = False) -> Leading:
        """Look at an array, and warn of one whose meaning has changed.

        What calls this is called by a function that the caller calls.
        """
        refuse_unsquare(X)
        if may_be_single(X) and not is_complex:
            n = X.shape[0]
            k = math.isqrt(n)
            warnings.warn(
                f"Got an array of shape ({n}, {n}), which is one matrix of order {n}, as in "
                f"numpy.linalg; it used to be refused, as it might be rows of {n} matrices of "
                f"order {k}: then pass X.reshape({n}, {k}, {k}), otherwise A[None] ends this.",
                AmbiguousShapeWarning,
                stacklevel=4,
            )
        return cls(tuple(X.shape[:-2]), is_complex)

    def numbers(self, values: Any) -> Any:
        """Return a number for each matrix, in the shape that they came in."""
        return values.reshape(self.shape)[()]

    def matrices(self, stack: Any) -> Any:
        """Return a stack (m, n, n) in the shape, and of the kind, that matrices came in."""
        stack = extract_complex(stack) if self.is_complex else stack
        return stack.reshape(*self.shape, *stack.shape[-2:])


def refuse_other_order(X: Any, rows: Any, n_features: int | None, name: str) -> None:
    """Raise a ValueError that says what to do with a single matrix, or a stack of stacks.

    Parameters
    ----------
    X, rows : array-like or tensor
        As passed, and as rows.
    n_features : int or None
        Entries of the matrices that an estimator was fitted to.
    name : str
        The estimator.
    """
    shape = tuple(getattr(X, "shape", getattr(rows, "shape", ())))
    n = shape[-1] if shape else 0
    if len(shape) > 3 or (shape == (n, n) and n_features == n * n != n):
        what = f"a stack of stacks: pass X.reshape(-1, {n}, {n})"
        what = what if len(shape) > 2 else "one matrix A: pass A[None]"
        raise ValueError(
            f"Got an array of shape {shape}, but {name} is expecting {n_features} features as "
            f"input, in rows (n_samples, n*n) or a stack (n_samples, n, n) of matrices. It seems "
            f"to be {what}."
        )


def matrix_order(n_features: int) -> int:
    """Return the order n of the matrices whose rows have `n_features` = n² entries.

    Parameters
    ----------
    n_features : int
        Length of a flattened matrix.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If `n_features` is not a positive square.

    Examples
    --------
    >>> matrix_order(9)
    3
    """
    n = math.isqrt(max(n_features, 0))
    if n == 0 or n * n != n_features:
        raise ValueError(
            f"Got rows of {n_features} entries, but a flattened n × n matrix has n*n of them "
            f"(1, 4, 9, 16, ...); pass rows of shape (n_samples, n*n) or a stack (n_samples, n, n)."
        )
    return n


class Layout(IntEnum):
    """How matrices came, for :func:`restore_layout`; true for stacks.

    Examples
    --------
    >>> flatten_stack(np.zeros((5, 2, 2)))[1]
    <Layout.STACK: 1>
    """

    ROWS = 0
    STACK = 1
    COMPLEX = 2


def flatten_stack(X: Any) -> tuple[Any, Layout]:
    """Turn a stack into rows, a complex one into those of its real embedding; leave rows alone.

    Parameters
    ----------
    X : array-like or tensor of shape (n_samples, n, n) or (n_samples, n_features)
        Matrices.

    Returns
    -------
    rows : array-like or tensor of shape (n_samples, n_features)
        A view where one can be had.
    layout : Layout
        What :func:`restore_layout` needs to know.

    Raises
    ------
    ValueError
        If `X` has three dimensions and its matrices are not square, or has complex rows.

    Examples
    --------
    >>> rows, layout = flatten_stack(np.zeros((5, 2, 2)))
    >>> rows.shape, bool(layout)
    ((5, 4), True)
    >>> flatten_stack(np.array([[[1 + 2j]]]))[0]
    array([[ 1., -2.,  2.,  1.]])
    """
    if not hasattr(X, "ndim") and isinstance(X, (list, tuple)):
        try:
            X = as_array(X)
        except ValueError as error:
            raise ValueError(
                f"Got a {type(X).__name__} of parts of different shapes, but matrices are rows of "
                f"n*n numbers each, or a stack (n_samples, n, n)."
            ) from error
    elif is_tensor(X):
        refuse_sparse(X)
    if getattr(X, "ndim", 2) != 3:
        if hasattr(X, "dtype") and is_complex(X):
            raise ValueError(
                f"Complex data not supported as an array of shape {tuple(X.shape)}: pass complex "
                f"matrices as a stack (n_samples, n, n)."
            )
        return X, Layout.ROWS
    if X.shape[1] != X.shape[2]:
        raise ValueError(
            f"Got a stack of shape {tuple(X.shape)}, but its matrices must be square: "
            f"(n_samples, n, n)."
        )
    layout = Layout.STACK
    if is_complex(X):
        X, layout = embed_complex(X), Layout.COMPLEX
    return X.reshape(X.shape[0], X.shape[1] * X.shape[2]), layout


def restore_layout(rows: Any, layout: int) -> Any:
    """Give rows back in the layout that :func:`flatten_stack` met.

    Parameters
    ----------
    rows : array or tensor of shape (n_samples, n*n)
        Flattened matrices.
    layout : Layout
        How the input had come; True is a stack.

    Returns
    -------
    array or tensor of shape (n_samples, n*n) or (n_samples, n, n)
        Complex matrices of half the order for ``Layout.COMPLEX``.

    Examples
    --------
    >>> restore_layout(np.zeros((5, 4)), True).shape
    (5, 2, 2)
    """
    if not layout:
        return rows
    n = matrix_order(rows.shape[1])
    stack = rows.reshape(rows.shape[0], n, n)
    return extract_complex(stack) if layout == Layout.COMPLEX else stack


def as_stack(rows: NDArray) -> NDArray:
    """View rows as a stack of matrices.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n*n)
        Flattened matrices.

    Returns
    -------
    ndarray of shape (n_samples, n, n)

    Raises
    ------
    ValueError
        If the row length is not a square.

    Examples
    --------
    >>> as_stack(np.arange(8.0).reshape(2, 4))[1]
    array([[4., 5.],
           [6., 7.]])
    """
    return restore_layout(rows, True)
