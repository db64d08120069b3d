"""Matrices and what is said to be their inverses, as two stacks of one kind."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .conversion import as_array, as_float64
from .embedding import embed_complex
from .host import is_complex, real_array, refuse_sparse
from .kinds import is_tensor
from .shapes import Leading


def check_pair(A: Any, X: Any) -> tuple[Any, Any, Leading]:
    """Return matrices and their approximate inverses as stacks of one floating-point dtype.

    Parameters
    ----------
    A, X : array-like or tensor of shape (..., n, n)
        Both of the same shape. One tensor makes both tensors. Complex ones are embedded.

    Returns
    -------
    A, X : ndarray or tensor of shape (m, n, n)
        Views where nothing had to be converted.
    came : Leading
        How they came.

    Raises
    ------
    ValueError
        For shapes that do not match, and matrices that are not square.

    Warns
    -----
    AmbiguousShapeWarning
        For one matrix that might be rows of smaller ones, which it was before.

    Examples
    --------
    >>> A, X, came = check_pair([[1, 0], [0, 2]], [[1, 0], [0, 0.5]])
    >>> A.shape, X.dtype, came.shape
    ((1, 2, 2), dtype('float64'), ())
    """
    if is_tensor(A) or is_tensor(X):
        device = (A if is_tensor(A) else X).device
        A, X = (as_tensor(M).to(device) for M in (A, X))
    else:
        A, X = as_array(A), as_array(X)
    embeds = is_complex(A) or is_complex(X)
    if not embeds:
        A, X = _of_one_dtype(A, X)
    if tuple(A.shape) != tuple(X.shape):
        raise ValueError(
            f"Got matrices of shape {tuple(A.shape)} and approximate inverses of shape "
            f"{tuple(X.shape)}, but both must be of one shape (..., n, n)."
        )
    came = Leading.of(A, is_complex=embeds)
    if embeds:
        A, X = _of_one_dtype(embed_complex(A), embed_complex(X))
    return A.reshape(-1, *A.shape[-2:]), X.reshape(-1, *X.shape[-2:]), came


def _of_one_dtype(A: Any, X: Any) -> tuple[Any, Any]:
    """Return two arrays, or tensors, in float32 if neither holds more, else in float64."""
    if is_tensor(A):
        torch = sys.modules["torch"]
        narrow: Any = {torch.float16, torch.bfloat16, torch.float32}
        single, double = torch.float32, torch.float64
    else:
        narrow = {np.dtype(np.float16), np.dtype(np.float32)}
        single, double = np.dtype(np.float32), np.dtype(np.float64)
    dtype = single if {A.dtype, X.dtype} <= narrow else double
    return _converted(A, dtype), _converted(X, dtype)


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
