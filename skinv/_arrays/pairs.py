"""Matrices and what is said to be their inverses, as two stacks of one kind."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .conversion import as_array, as_double
from .host import real_array, refuse_sparse
from .kinds import as_complex, is_complex, is_foreign, is_narrow, is_tensor, namespace
from .shapes import Leading


def check_pair(A: Any, X: Any) -> tuple[Any, Any, Leading]:
    """Return matrices and their approximate inverses as stacks (m, n, n), and how they came.

    Of one dtype: single precision if neither holds more, complex if one is. One tensor makes both
    tensors; arrays of other libraries are brought to the host. Views where nothing had to be
    converted. Raises a ValueError for shapes that do not match or are not square.
    """
    library = next((M for M in (A, X) if is_foreign(M)), None)
    if is_tensor(A) or is_tensor(X):
        device = (A if is_tensor(A) else X).device
        A, X = (as_tensor(M).to(device) for M in (A, X))
    else:
        A, X = as_array(A), as_array(X)
    A, X = _of_one_dtype(A, X)
    if tuple(A.shape) != tuple(X.shape):
        raise ValueError(
            f"Got matrices of shape {tuple(A.shape)} and approximate inverses of shape "
            f"{tuple(X.shape)}, but both must be of one shape (..., n, n)."
        )
    came = Leading.of(A, library)
    return A.reshape(-1, *A.shape[-2:]), X.reshape(-1, *X.shape[-2:]), came


def _of_one_dtype(A: Any, X: Any) -> tuple[Any, Any]:
    """Return both in single precision if neither holds more, else in double, complex if one is."""
    double = not (is_narrow(A) and is_narrow(X))
    A, X = floating(A, double), floating(X, double)
    if is_complex(A) or is_complex(X):
        return as_complex(A), as_complex(X)
    return A, X


def as_tensor(M: Any) -> Any:
    """Return an array-like as a tensor without gradients, also of what torch does not take.

    Of an array a copy, in float64 if torch has no floating-point dtype for it.
    """
    if is_tensor(M):
        refuse_sparse(M)
        return M.detach().resolve_conj().resolve_neg()
    M = as_array(M)
    if M.dtype.char not in "efdFD":
        M = floating(M, True)
    return sys.modules["torch"].from_numpy(M.astype(M.dtype.newbyteorder("=")))


def floating(given: Any, double: bool, *, exact: bool = True) -> Any:
    """Return real or complex numbers in single or double precision.

    If `exact` a ValueError is raised for those that it cannot hold.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if is_tensor(given):
            kind = namespace(given).complex64 if given.is_complex() else namespace(given).float32
            # A view with its signs turned, as of a conjugate's imaginary part, is not memory yet.
            M = (as_double(given) if double else given.to(kind)).resolve_neg()
        elif given.dtype.kind in "fc" and double:
            M = as_double(given)
        elif given.dtype.kind in "fciub":
            size = 8 if double else 4
            kind = f"c{2 * size}" if given.dtype.kind == "c" else f"f{size}"
            M = given.astype(kind, copy=False)
        else:
            M = real_array(given, "matrices")
    if exact:
        refuse_inexact(given, M)
    return M


def refuse_inexact(given: Any, M: Any) -> None:
    """Raise a ValueError if numbers have been changed by their conversion to floating point.

    For integers past 2**53, extended precision, and objects such as fractions, unless they happen
    to be representable.
    """
    if is_tensor(given):
        kind = "c" if given.is_complex() else "f" if given.is_floating_point() else "i"
    else:
        kind = given.dtype.kind
    size = given.dtype.itemsize // (2 if kind == "c" else 1)
    if size < 8 or (kind in "fc" and size == 8) or kind not in "fciuO":
        return
    if kind == "O":
        known = ~np.isnan(M)  # pandas' NA, which became NaN, compares with nothing
        given, M = given[known], M[known]
    with np.errstate(over="ignore", invalid="ignore"):
        again = M.to(given.dtype) if is_tensor(M) else M.astype(given.dtype)
    same = (again == given) | (given != given)
    if kind in "iu":  # the way back from past the largest is undefined
        same = same & (abs(M) < 2.0 ** (64 if kind == "u" else 63))
    if not bool(same.all()):
        raise ValueError(
            f"Got numbers of dtype {given.dtype} that float64 cannot hold, and a proof for rounded "
            f"ones would be none; round them first."
        )
