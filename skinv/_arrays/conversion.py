"""The door: of which library an array is, and the same numbers as an array of another kind.

Nobody further in asks what a caller passed.

A process, and each of its threads, may be told to flush what underflows to zero and to take
subnormal operands for zero, as by ``torch.set_flush_denormal(True)``. Sums, products, conversions
and even comparisons are wrong then, by less than the smallest normal number. Bounds allow for it.
In matrices that are tiny or huge subnormal numbers are read as integers, which no mode changes.
"""

import math
import sys
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj
from numpy.typing import NDArray

# Of types that have been seen: their namespaces, and whether they are of tensors.
_NAMESPACES: dict[type, Any] = {}
_TENSORS: dict[type, bool] = {}


def loaded_torch() -> Any:
    """Return torch if it has been imported, or None: there are tensors only if it has."""
    # Half a module, without Tensor, while another thread imports it.
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "Tensor") else None


def is_tensor(X: Any) -> bool:
    """Tell whether something is a torch tensor, without importing torch."""
    if type(X) is np.ndarray:  # this is asked often
        return False
    known = _TENSORS.get(type(X))
    if known is None:
        torch = loaded_torch()
        known = torch is not None and isinstance(X, torch.Tensor)
        if torch is not None:
            _TENSORS[type(X)] = known
    return known


def is_dask(X: Any) -> bool:
    """Tell whether `X` is a dask array, without importing dask."""
    dask_array = sys.modules.get("dask.array")
    return dask_array is not None and isinstance(X, dask_array.Array)


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
    if isinstance(array, np.ndarray):
        return array.dtype.char in "dD"
    return array.dtype in (namespace(array).float64, namespace(array).complex128)


def is_narrow(array: Any) -> bool:
    """Tell whether numbers are floating-point ones in single precision, or in less."""
    if is_complex(array):
        return bool(array.dtype.itemsize <= 8)
    floating = array.is_floating_point() if is_tensor(array) else array.dtype.kind == "f"
    return bool(floating and array.dtype.itemsize <= 4)


def is_complex(X: Any) -> bool:
    """Tell whether an array, a tensor or a nested list holds complex numbers."""
    if isinstance(X, np.ndarray):
        return X.dtype.kind == "c"
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
        return namespace(array).view_as_real(array) if array.is_complex() else array
    if array.dtype.kind != "c":
        return array
    return array[..., None].view(f"f{array.itemsize // 2}")


def from_parts(pairs: Any) -> Any:
    """View contiguous pairs of real numbers, along the last axis, as complex ones."""
    if is_tensor(pairs):
        return namespace(pairs).view_as_complex(pairs)
    return pairs.view(f"c{2 * pairs.itemsize}")[..., 0]


def not_a_number(array: Any) -> Any:
    """Return NaN as numbers like these have it: in both parts if they are complex."""
    return complex("nan+nanj") if is_complex(array) else float("nan")


# -- in any floating-point mode --

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
    # Powers by ** are not exact where rounding is not to nearest.
    size = xp.astype(bits, xp.float64) * math.ldexp(1.0, -fraction) * least
    return xp.where(xp.signbit(array), -size, size)


def flushes() -> bool:
    """Tell whether this thread, in which NumPy converts, takes subnormal numbers for zero."""
    return _LEAST == 0.0


# By its bits: a process that flushes reads 5e-324 as 0, and would keep that in compiled files.
_LEAST = np.array([1], dtype=np.int64).view(np.float64).item()


def as_double(array: Any, out: Any = None) -> Any:
    """Return an array or tensor in float64 or complex128, into `out` if given: the same numbers."""
    if out is None and type(array) is np.ndarray and array.dtype == np.float64:  # as is often so
        return array
    if is_complex(array):
        if out is None:
            if is_double(array) and (is_tensor(array) or array.dtype.isnative):
                return array
            out = namespace(array).astype(array, namespace(array).complex128)
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


# -- from wherever they are --


def refuse_sparse(X: Any) -> None:
    """Raise a TypeError, as scikit-learn does for sparse matrices, for a sparse or empty tensor."""
    if X.layout is not namespace(X).strided or X.is_meta:
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
    if X.dtype == namespace(X).bfloat16:  # which NumPy does not know
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
    if is_complex(X):
        return real_array(X, name)  # raises
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
            namespace(X)
            .tensor(np.ascontiguousarray(array), dtype=kind, device=X.device)
            .reshape(array.shape)
        )
    kind = np.result_type(X.real.dtype, np.complex64) if np.iscomplexobj(array) else X.real.dtype
    return array.astype(kind, copy=False)


def as_given(values: NDArray, X: Any) -> Any:
    """Return values, whatever their dtype, as a tensor on the device of `X` if that is one."""
    return namespace(X).tensor(values, device=X.device) if is_tensor(X) else values


def alike(*values: Any) -> tuple[Any, ...]:
    """Return array-likes as tensors on one device if one is a tensor, else as arrays."""
    example = next((X for X in values if is_tensor(X)), None)
    return tuple(beside(X, example) for X in values)


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
    try:
        array = as_array(to_host(values))
    except ValueError:  # ragged
        array = real_array(values, name)  # raises
    if array.dtype.kind not in "biufc":
        array = real_array(array, name)
    elif array.dtype.char not in "efdFD":
        array = floating(array, True, exact=False)
    with np.errstate(all="ignore"):
        return like(array, X)


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
    return loaded_torch().from_numpy(M.astype(M.dtype.newbyteorder("=")))


def floating(given: Any, double: bool, *, exact: bool = True) -> Any:
    """Return real or complex numbers in single or double precision.

    If `exact` a ValueError is raised for those that it cannot hold.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if is_tensor(given):
            given = as_tensor(given)  # a view with its signs turned is not memory yet
            kind = namespace(given).complex64 if given.is_complex() else namespace(given).float32
            M = as_double(given) if double else given.to(kind)
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
