"""Numbers converted to double precision and to arrays: the same ones, in any floating-point mode.

A process may be told to flush what underflows to zero and to take subnormal operands for zero, as
by ``torch.set_flush_denormal(True)``, and each of its threads by itself. Sums, products,
conversions and even comparisons of subnormal numbers are wrong then, by less than the smallest
normal number. Bounds allow for so much. Where it would be no small matter, in matrices that are
tiny or huge themselves, subnormal numbers are read as integers, which no mode changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .kinds import is_complex, is_double, is_tensor, namespace, parts_of

# Of each size in bytes: integers of that size, bits of the fraction, largest exponent.
FORMATS = {4: ("int32", 23, 127), 8: ("int64", 52, 1023)}


def magnitudes(array: Any) -> tuple[Any, int, int]:
    """Return the bits of absolute values as integers, bits of the fraction, largest exponent."""
    kind, fraction, largest = FORMATS[array.dtype.itemsize]
    array = array.resolve_neg() if is_tensor(array) else array
    bits = array.view(getattr(namespace(array), kind))
    return bits & (2 ** (8 * array.dtype.itemsize - 1) - 1), fraction, largest


def subnormal(array: Any) -> Any:
    """Tell which real numbers of single or double precision are subnormal."""
    bits, fraction, _ = magnitudes(array)
    return (bits < 2**fraction) & (bits > 0)


def decoded(array: Any, least: Any) -> Any:
    """Return subnormal numbers in float64, in units of which `least` is the smallest normal one."""
    xp = namespace(array)
    bits, fraction, _ = magnitudes(array)
    size = xp.astype(bits, xp.float64) * 2.0**-fraction * least
    return xp.where(xp.signbit(array), -size, size)


def flushes() -> bool:
    """Tell whether this thread, in which NumPy converts, takes subnormal numbers for zero."""
    return bool(_LEAST.astype(np.float64)[0] == 0)


_LEAST = np.array([1], dtype=np.int32).view(np.float32)


def as_double(array: Any, out: Any = None) -> Any:
    """Return an array or tensor in float64 or complex128, into `out` if given: the same numbers."""
    if is_complex(array):
        if out is None:
            if is_double(array) and (is_tensor(array) or array.dtype.isnative):
                return array
            kind = namespace(array).complex128
            out = array.to(kind) if is_tensor(array) else array.astype(kind)
        else:
            out[...] = array
        _mend(parts_of(array), parts_of(out))
        return out
    if is_tensor(array):
        array = array.float() if array.dtype.itemsize < 4 else array
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if out is None:
        out = array.double() if is_tensor(array) else array.astype(np.float64, copy=False)
    else:
        out[...] = array
    _mend(array, out)
    return out


def _mend(array: Any, out: Any) -> None:
    """Write subnormal numbers of single precision to `out`, which the conversion may have lost."""
    if array.dtype == namespace(array).float32 and (is_tensor(array) or flushes()):
        lost = subnormal(array)
        if bool(lost.any()):
            out[...] = namespace(array).where(lost, decoded(array, 2.0**-126), out)


def as_array(X: Any) -> Any:
    """Return an array-like as an array: the same numbers, in native byte order.

    NumPy converts the parts of a list, and the columns of a data frame, by itself, and takes
    subnormal ones of float32 for zero where the process does.
    """
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        A = np.asarray(X)
        if A.dtype == np.float64 and A.ndim == 2 and flushes():
            names = list(X.columns)
            A = np.stack([_wide(np.asarray(X[name])) for name in names], axis=1) if names else A
        return A
    if isinstance(X, (list, tuple)) and flushes():
        parts = [as_array(part) for part in X]
        kinds = {part.dtype.char for part in parts}
        if len(kinds) > 1 and kinds & {"f", "F"}:
            parts = [_wide(part) for part in parts]
        return np.asarray(parts)
    A = np.asarray(X)
    if A.dtype == object and flushes():
        wide = [_wide(np.asarray(v)[None])[0] if isinstance(v, np.inexact) else v for v in A.flat]
        A = A.copy()
        A.reshape(-1)[:] = wide
    return A if A.dtype.isnative else A.astype(A.dtype.newbyteorder("="))


def _wide(A: Any) -> Any:
    """Return an array of single precision in double precision, and others as they are."""
    return as_double(A) if A.dtype.char in "fF" else A
