"""Numbers on the host: tensors, dask arrays and whatever holds real numbers, as arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import is_dask
from .conversion import as_array, as_double
from .kinds import is_complex, is_foreign, is_tensor


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
