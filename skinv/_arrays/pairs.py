"""Matrices and what is said to be their inverses, as two stacks of one kind."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .conversion import as_array, as_float64
from .embedding import embed_complex
from .host import is_complex, real_array, refuse_sparse
from .kinds import is_tensor
from .shapes import Layout, flatten_stack, matrix_order, refuse_single


def check_pair(A: Any, X: Any) -> tuple[Any, Any, Layout]:
    """Return matrices and their approximate inverses as stacks of one floating-point dtype.

    Parameters
    ----------
    A, X : array-like or tensor of shape (n_samples, n*n) or (n_samples, n, n)
        Both of the same shape. One tensor makes both tensors. Stacks may be complex: they are
        embedded.

    Returns
    -------
    A, X : ndarray or tensor of shape (n_samples, n, n)
        Views where nothing had to be converted.
    layout : Layout
        How they came.

    Raises
    ------
    ValueError
        For shapes that do not match, matrices that are not square, complex rows, and a square
        array that is one matrix or many rows.

    Examples
    --------
    >>> A, X, layout = check_pair([[1, 0, 0, 2]], [[1, 0, 0, 0.5]])
    >>> A.shape, X.dtype, layout
    ((1, 2, 2), dtype('float64'), <Layout.ROWS: 0>)
    """
    refuse_single(A)
    if is_tensor(A) or is_tensor(X):
        torch = sys.modules["torch"]
        device = (A if is_tensor(A) else X).device
        A, X = (as_tensor(M).to(device) for M in (A, X))
        A, X, layout = _embedded(A, X)
        narrow = {torch.float16, torch.bfloat16, torch.float32}
        dtype = torch.float32 if {A.dtype, X.dtype} <= narrow else torch.float64
        A, X = _converted(A, dtype), _converted(X, dtype)
    else:
        A, X, layout = _embedded(as_array(A), as_array(X))
        narrow = {np.dtype(np.float16), np.dtype(np.float32)}
        dtype = np.dtype(np.float32 if {A.dtype, X.dtype} <= narrow else np.float64)
        A, X = _converted(A, dtype), _converted(X, dtype)
    if tuple(A.shape) != tuple(X.shape) or A.ndim not in (2, 3):
        raise ValueError(
            f"Got matrices of shape {tuple(A.shape)} and approximate inverses of shape "
            f"{tuple(X.shape)}, but both must be rows (n_samples, n*n) or stacks (n_samples, n, n)."
        )
    (A, _), (X, came) = flatten_stack(A), flatten_stack(X)
    n = matrix_order(A.shape[1])
    return A.reshape(-1, n, n), X.reshape(-1, n, n), layout or came


def _embedded(A: Any, X: Any) -> tuple[Any, Any, Layout]:
    """Return real matrices, embedded if one stack is complex, and how they came if that is so."""
    if not (is_complex(A) or is_complex(X)):
        return A, X, Layout.ROWS
    if A.ndim != 3 or X.ndim != 3:
        raise ValueError("Got complex rows; pass complex matrices as stacks (n_samples, n, n).")
    return embed_complex(A), embed_complex(X), Layout.COMPLEX


def as_tensor(M: Any) -> Any:
    """Return an array as a tensor, also of a dtype or memory that torch does not take.

    Parameters
    ----------
    M : array-like or tensor

    Returns
    -------
    tensor
        Without gradients; of an array a copy, in float64 if torch has no floating-point dtype for
        it.

    Raises
    ------
    TypeError
        For a sparse tensor.
    ValueError
        For numbers that float64 cannot hold.

    Examples
    --------
    >>> import torch
    >>> as_tensor([1, 2])
    tensor([1., 2.], dtype=torch.float64)
    """
    if is_tensor(M):
        refuse_sparse(M)
        return M.detach().resolve_conj().resolve_neg()
    M = as_array(M)
    if M.dtype.char not in "efdFD":
        M = _converted(M, np.dtype(np.float64))
    return sys.modules["torch"].from_numpy(M.astype(M.dtype.newbyteorder("=")))


def _converted(given: Any, dtype: Any) -> Any:
    """Return what was given in another dtype, if that can be done without a change."""
    with np.errstate(over="ignore", invalid="ignore"):
        # A view with its signs turned, as of a conjugate's imaginary part, is not memory yet.
        if is_tensor(given):
            wide = as_float64(given) if dtype.itemsize == 8 else given.to(dtype)
            M = wide.resolve_neg()
        elif given.dtype.kind == "f" and dtype.itemsize == 8:
            M = as_float64(given)
        elif given.dtype.kind in "fiub":
            M = given.astype(dtype, copy=False)
        else:
            M = real_array(given, "matrices")
    refuse_inexact(given, M)
    return M


def refuse_inexact(given: Any, M: Any) -> None:
    """Raise a ValueError if numbers have been changed by their conversion to floating point.

    Parameters
    ----------
    given, M : ndarray or tensor
        Before and after.

    Raises
    ------
    ValueError
        For integers past 2**53, extended precision, and objects such as fractions, unless they
        happen to be representable.

    Examples
    --------
    >>> refuse_inexact(np.array([2**60]), np.array([2.0**60]))
    """
    floating = given.is_floating_point() if is_tensor(given) else given.dtype.kind == "f"
    if given.dtype.itemsize < 8 or (floating and given.dtype.itemsize == 8):
        return
    if not is_tensor(given) and given.dtype.kind not in "fiuO":
        return
    if given.dtype == object:
        known = ~np.isnan(M)  # pandas' NA, which became NaN, compares with nothing
        given, M = given[known], M[known]
    with np.errstate(over="ignore", invalid="ignore"):
        again = M.to(given.dtype) if is_tensor(M) else M.astype(given.dtype)
    same = (again == given) | (given != given)
    if not floating and given.dtype != object:  # the way back from past the largest is undefined
        unsigned = not is_tensor(given) and given.dtype.kind == "u"
        same = same & (abs(M) < 2.0 ** (64 if unsigned else 63))
    if not bool(same.all()):
        raise ValueError(
            f"Got numbers of dtype {given.dtype} that float64 cannot hold, and a proof for rounded "
            f"ones would be none; round them first."
        )
