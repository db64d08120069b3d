"""Numbers on the host: tensors, dask arrays and whatever holds real numbers, as arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import is_dask
from .conversion import as_array, as_float64
from .kinds import is_tensor


def refuse_sparse(X: Any) -> None:
    """Raise a TypeError, as scikit-learn does for sparse matrices, for a sparse or empty tensor.

    Parameters
    ----------
    X : tensor

    Raises
    ------
    TypeError
        For one that is not dense, or on torch's "meta" device, where there are no numbers.
    """
    if X.layout is not sys.modules["torch"].strided or X.is_meta:
        kind = "device='meta'" if X.is_meta else f"layout={X.layout}"
        raise TypeError(f"Got a tensor with {kind}, but dense data is required: use X.to_dense().")


def to_host(X: Any) -> Any:
    """Copy a tensor, or compute a dask array, to a NumPy array; leave all else as it is.

    Parameters
    ----------
    X : object
        Anything.

    Returns
    -------
    ndarray or object

    Examples
    --------
    >>> to_host([1, 2])
    [1, 2]
    """
    if is_dask(X):
        return X.compute()
    if not is_tensor(X):
        return X
    refuse_sparse(X)
    if X.dtype == sys.modules["torch"].bfloat16:  # which NumPy does not know
        X = X.float()
    return X.numpy(force=True)


def real_array(values: Any, name: str) -> NDArray[np.float64]:
    """Return real numbers as an array in float64, without a copy where one can be avoided.

    Parameters
    ----------
    values : array-like or tensor
    name : str
        What they are called.

    Returns
    -------
    ndarray, float64

    Raises
    ------
    ValueError
        For complex numbers, and for what holds no numbers.

    Examples
    --------
    >>> real_array([1, 2], "radius")
    array([1., 2.])
    """
    problem: Exception
    try:
        array = as_array(to_host(values))
        if array.dtype.kind in "biufO":
            with np.errstate(over="ignore"):
                return as_float64(array)
        problem = TypeError(f"numbers of dtype {array.dtype} are not real")
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        problem = error
    raise ValueError(
        f"Got {name} of type {type(values).__name__}"
        f"{' with complex numbers' if is_complex(values) else ''}, "
        f"but real numbers, or an array of them, are expected."
    ) from problem


def like(array: NDArray, X: Any) -> Any:
    """Bring an array to the dtype of `X`, and to its device if `X` is a tensor.

    Parameters
    ----------
    array : ndarray
        What is needed there.
    X : ndarray or tensor
        An example.

    Returns
    -------
    ndarray or tensor

    Examples
    --------
    >>> like(np.ones(2), np.zeros(1, dtype=np.float32)).dtype
    dtype('float32')
    """
    if is_tensor(X):
        # A copy: the arrays of a memory-mapped model are read-only.
        return sys.modules["torch"].tensor(array, dtype=X.dtype, device=X.device)
    return array.astype(X.dtype, copy=False)


def is_complex(X: Any) -> bool:
    """Tell whether an array, tensor or nested list holds complex numbers.

    Parameters
    ----------
    X : array-like or tensor

    Returns
    -------
    bool

    Examples
    --------
    >>> is_complex([[1j]]), is_complex(np.zeros(2))
    (True, False)
    """
    if is_tensor(X):
        return bool(X.is_complex())
    try:
        return bool(np.iscomplexobj(X))
    except ValueError:  # a ragged list
        return False
