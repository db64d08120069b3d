"""Memory that numbers are in, and that callers give for results."""

from typing import Any

import numpy as np

from .conversion import is_tensor, namespace
from .embedding import as_pairs
from .warned import warn


def on_host(X: Any) -> bool:
    """Tell whether numbers are in the host's memory."""
    return not is_tensor(X) or X.device.type == "cpu"


def host_view(X: Any) -> Any:
    """Return a tensor on the host as an array in the same memory, anything else as it is.

    Tensors in half precision stay: NumPy does not know all of them.
    """
    return X.numpy() if is_tensor(X) and on_host(X) and X.dtype.itemsize >= 4 else X


def result_memory(X: Any, out: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return memory for the result as real rows, if it is fit for it."""
    if type(out) is not type(X) and not (isinstance(out, np.ndarray) and not is_tensor(X)):
        raise ValueError(
            f"Got out of type {type(out).__name__} for X of {type(X).__name__}, but memory of "
            f"the same kind is expected: pass what predict returns without out."
        )
    if is_tensor(out):  # what is turned as it is read is no memory for what is written
        contiguous = out.is_contiguous() and not (out.is_conj() or out.is_neg())
    else:
        contiguous = out.flags.carray
    on_device = not is_tensor(out) or out.device == X.device
    if tuple(out.shape) != shape or out.dtype != dtype or not contiguous or not on_device:
        raise ValueError(
            f"Got out of shape {tuple(out.shape)} and {out.dtype}, but writable, contiguous "
            f"memory of shape {shape} and {dtype} is expected, where X is."
        )
    if _overlap(X, out):
        raise ValueError(
            "Got out that overlaps X, but it must be the memory of X, or apart from it."
        )
    return as_pairs(out) if len(shape) > 1 else out.reshape(shape[0], 1)


def writes_over(X: Any, out: Any) -> bool:
    """Tell whether an array, of which more is to be known, is about to be written over."""
    return not is_tensor(X) and np.may_share_memory(X, out)


def _overlap(X: Any, out: Any) -> bool:
    """Tell whether memory for results is neither that of X, as it is read, nor apart from it."""
    if is_tensor(X):
        apart = X.data_ptr() + _extent(X) <= out.data_ptr()
        apart = apart or out.data_ptr() + _extent(out) <= X.data_ptr()
        same = X.data_ptr() == out.data_ptr() and X.is_contiguous() and X.nbytes == out.nbytes
        return X.numel() > 0 and not (same or apart)
    if not np.may_share_memory(X, out):
        return False
    same = X.__array_interface__["data"][0] == out.__array_interface__["data"][0]
    return not (same and X.flags.c_contiguous and X.nbytes == out.nbytes)


def _extent(X: Any) -> int:
    """Return the bytes from the first number of a tensor to its last."""
    steps = sum((size - 1) * stride for size, stride in zip(X.shape, X.stride(), strict=True))
    return (steps + 1) * X.itemsize


def warn_of_gradients(X: Any) -> None:
    """Warn if somebody might wait for gradients by what an estimator answers for a tensor."""
    if is_tensor(X) and X.requires_grad and namespace(X).is_grad_enabled():
        if X.ndim == 3 and X.shape[1] != X.shape[2]:
            where = "those of pseudo-inverses come from torch.linalg.pinv"
        else:
            where = (
                "those of inverses and solutions come from skinv.inv(A, near=model) and "
                "skinv.solve, those of a learned model from skinv.export.to_module(model)"
            )
        warn(f"Estimators answer without gradients: {where}. Pass A.detach() to end this.")
