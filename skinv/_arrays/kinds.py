"""Of which library an array is, asked here and nowhere further in."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj

_NAMESPACES: dict[type, Any] = {}


def is_tensor(X: Any) -> bool:
    """Tell whether something is a torch tensor, without importing torch."""
    # Half a module, without Tensor, while another thread imports torch.
    return isinstance(X, getattr(sys.modules.get("torch"), "Tensor", ()))


def is_foreign(X: Any) -> bool:
    """Tell whether something is an array of another library than NumPy and torch, as JAX."""
    if isinstance(X, (np.ndarray, np.generic, list, tuple, int, float, complex)) or is_tensor(X):
        return False
    return hasattr(X, "shape") and not hasattr(X, "columns") and is_array_api_obj(X)


def namespace(array: Any) -> Any:
    """Return the array API namespace of an array, that of array-api-compat for NumPy and torch."""
    xp = _NAMESPACES.get(type(array))
    if xp is None:
        xp = _NAMESPACES[type(array)] = array_namespace(array)
    return xp


def in_library_of(X: Any, array: Any) -> Any:
    """Return numbers of NumPy as an array of another library, on the device of `X`."""
    return namespace(X).asarray(array, device=device(X))


def is_double(array: Any) -> bool:
    """Tell whether real numbers, or real and imaginary parts, are in double precision."""
    return array.dtype in (namespace(array).float64, namespace(array).complex128)


def is_narrow(array: Any) -> bool:
    """Tell whether numbers are floating-point ones in single precision, or in less."""
    if is_complex(array):
        return bool(array.dtype.itemsize <= 8)
    floating = array.is_floating_point() if is_tensor(array) else array.dtype.kind == "f"
    return bool(floating and array.dtype.itemsize <= 4)


def is_complex(X: Any) -> bool:
    """Tell whether an array, a tensor or a nested list holds complex numbers."""
    if is_tensor(X):
        return bool(X.is_complex())
    if is_foreign(X):
        return bool(namespace(X).isdtype(X.dtype, "complex floating"))
    try:
        return bool(np.iscomplexobj(X))
    except ValueError:  # a ragged list
        return False


def as_complex(array: Any) -> Any:
    """Return floating-point numbers as complex ones of their precision."""
    xp = namespace(array)
    kind = xp.complex64 if is_narrow(array) else xp.complex128
    return array if is_complex(array) else xp.astype(array, kind)


def parts_of(array: Any) -> Any:
    """View complex numbers as pairs of real ones along a new last axis, and real ones as they are.

    For NumPy and torch; what is written to the view is written to the array.
    """
    if is_tensor(array):
        return sys.modules["torch"].view_as_real(array) if array.is_complex() else array
    if array.dtype.kind != "c":
        return array
    return array[..., None].view(f"f{array.itemsize // 2}")


def from_parts(pairs: Any) -> Any:
    """View contiguous pairs of real numbers, along the last axis, as complex ones."""
    if is_tensor(pairs):
        return sys.modules["torch"].view_as_complex(pairs)
    return pairs.view(f"c{2 * pairs.itemsize}")[..., 0]


def as_pairs(numbers: Any) -> Any:
    """Return complex numbers (m, ...) as rows, real and imaginary parts in turn.

    A view where the memory allows it.
    """
    numbers = numbers.resolve_conj().resolve_neg() if is_tensor(numbers) else numbers
    parts = parts_of(numbers)
    return parts.reshape(parts.shape[0], math.prod(parts.shape[1:]))


def from_pairs(rows: Any, *shape: int) -> Any:
    """View contiguous rows of real and imaginary parts in turn as complex numbers of a shape."""
    return from_parts(rows.reshape(*shape, 2))


def not_a_number(array: Any) -> Any:
    """Return NaN as numbers like these have it: in both parts if they are complex."""
    return complex("nan+nanj") if is_complex(array) else float("nan")
