"""Numbers brought to the host, to torch, or to floating point, from wherever they are."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import is_dask
from .conversion import as_array, as_double
from .kinds import is_complex, is_foreign, is_tensor, namespace


def refuse_sparse(X: Any) -> None:
    """Raise a TypeError, as scikit-learn does for sparse matrices, for a sparse or empty tensor."""
    if X.layout is not sys.modules["torch"].strided or X.is_meta:
        kind = "device='meta'" if X.is_meta else f"layout={X.layout}"
        raise TypeError(f"Got a tensor with {kind}, but dense data is required: use X.to_dense().")


def to_host(X: Any) -> Any:
    """Copy tensors and arrays of other libraries, or compute dask ones, to arrays of NumPy.

    All else is left as it is.
    """
    if is_dask(X):
        return X.compute()
    if not is_tensor(X):
        return np.asarray(X) if is_foreign(X) else X
    refuse_sparse(X)
    if X.dtype == sys.modules["torch"].bfloat16:  # which NumPy does not know
        X = X.float()
    return X.numpy(force=True)


def real_array(values: Any, name: str) -> NDArray[np.float64]:
    """Return real numbers in float64, without a copy where one can be avoided, or a ValueError."""
    problem: Exception
    try:
        array = as_array(to_host(values))
        if array.dtype.kind in "biufO":
            with np.errstate(over="ignore"):
                return as_double(array)
        problem = TypeError(f"numbers of dtype {array.dtype} are not real")
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        problem = error
    raise ValueError(
        f"Got {name} of type {type(values).__name__}"
        f"{' with complex numbers' if is_complex(values) else ''}, "
        f"but real numbers, or an array of them, are expected."
    ) from problem


def real_numbers(X: Any, name: str) -> Any:
    """Return real floating-point numbers as an array, or as the tensor that they are."""
    if is_tensor(X):
        refuse_sparse(X)
        return X if X.is_floating_point() else X.double()
    X = as_array(to_host(X))
    return X if X.dtype.kind == "f" else real_array(X, name)


def like(array: NDArray, X: Any) -> Any:
    """Bring an array to the precision of `X`, and to its device if that is a tensor."""
    if is_tensor(X):
        real = X.dtype.to_real()
        kind = real.to_complex() if np.iscomplexobj(array) else real
        # A copy: the arrays of a memory-mapped model are read-only.
        return (
            sys.modules["torch"]
            .tensor(np.ascontiguousarray(array), dtype=kind, device=X.device)
            .reshape(array.shape)
        )
    real = X.real.dtype
    kind = np.result_type(real, np.complex64) if np.iscomplexobj(array) else real
    return array.astype(kind, copy=False)


def alike(*values: Any) -> tuple[Any, ...]:
    """Return array-likes as tensors on one device if one is a tensor, else as arrays."""
    device = next((X.device for X in values if is_tensor(X)), None)
    if device is None:
        return tuple(as_array(to_host(X)) for X in values)
    return tuple(as_tensor(X).to(device) for X in values)


def beside(values: Any, X: Any) -> Any:
    """Return an array-like as a tensor where `X` is one, or as an array if that is one."""
    return as_tensor(values).to(X.device) if is_tensor(X) else as_array(to_host(values))


def numbers_like(values: Any, X: Any, name: str) -> Any:
    """Return numbers that somebody else made, in the library, place and precision of `X`.

    They may be in the memory that they came in.
    """
    if is_tensor(X) and is_tensor(values):
        kind = X.dtype.to_real()
        kind = kind.to_complex() if values.is_complex() else kind
        return values.detach().to(X.device, kind)
    values = to_host(values)
    if getattr(getattr(values, "dtype", None), "kind", "O") not in "biufc":
        values = real_array(values, name)
    with np.errstate(all="ignore"):
        return like(np.asarray(values), X)


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
