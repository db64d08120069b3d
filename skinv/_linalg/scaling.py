"""Powers of two, by which numbers are scaled before squares are taken: exactly, in any mode.

See :mod:`skinv._arrays.conversion` for what a mode does to subnormal numbers. Powers are real;
complex numbers are scaled part by part.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import (
    FORMATS,
    as_double,
    decoded,
    flushes,
    from_parts,
    is_tensor,
    magnitudes,
    namespace,
    parts_of,
    subnormal,
)

# Stands for the exponent of 0.
ZERO = -(2**20)
# Powers that normal numbers are multiplied with in one step.
_FAR = 1000


def times_power(stack: Any, unit: Any) -> Any:
    """Multiply by powers of two that are normal numbers: exact, unless the result underflows.

    `unit` is of the same precision, and broadcasts.
    """
    xp, parts = namespace(stack), parts_of(stack)
    if parts is not stack:
        unit = unit[..., None]
    out = parts * unit
    if not is_tensor(parts) and not flushes():  # NumPy multiplies in this thread
        return out if parts is stack else from_parts(out)
    lost = subnormal(parts)
    if bool(lost.any()):
        least = math.ldexp(1.0, 1 - FORMATS[parts.dtype.itemsize][2])
        exact = decoded(parts, as_double(unit) * least)
        exact = xp.where(unit == 1, parts, xp.astype(exact, out.dtype, copy=False))
        out = xp.where(lost, exact, out)
    return out if parts is stack else from_parts(out)


def ldexp(values: NDArray, power: Any) -> NDArray:
    """Return ``np.ldexp`` of float64 numbers, also of those that a mode reads as zeros."""
    found = np.ldexp(values, power)
    if not flushes():
        return found
    values = np.asarray(values, dtype=np.float64)
    whole = decoded(values, 2.0**52)  # multiples of 2^-1074
    return np.where(subnormal(values), np.ldexp(whole, power - 1074), found)


def powers_of_two(stack: Any, axis: int | tuple[int, ...] = ()) -> Any:
    """Return the power of two at or below the largest real or imaginary part along axes.

    These have length 1 in the result. Dividing by it is exact, but for what underflows. The powers
    and their inverses are normal numbers: the smallest of these for subnormal numbers, and 1 for
    0, infinity and NaN.
    """
    xp, parts = namespace(stack), parts_of(stack)
    bits, fraction, largest = magnitudes(parts)
    if parts is not stack:
        bits = xp.max(bits, axis=-1)
    if axis != ():
        bits = xp.max(bits, axis=axis, keepdims=True)
    exponent = bits >> fraction  # with a bias of `largest`, and 0 for subnormal numbers
    one = (bits == 0) | (exponent > 2 * largest)
    exponent = xp.where(one, 0 * exponent + largest, exponent.clip(1, 2 * largest - 1))
    return (exponent << fraction).view(parts.dtype)


def exponents(stack: Any) -> Any:
    """Return ⌊log₂|a|⌋ of numbers, of complex ones of their larger part: in int64, ``ZERO`` for 0.

    And for subnormal numbers.
    """
    xp, parts = namespace(stack), parts_of(stack)
    bits, fraction, largest = magnitudes(parts)
    if parts is not stack:
        bits = xp.max(bits, axis=-1)
    biased = xp.astype(bits >> fraction, xp.int64, copy=False)
    return xp.where(biased == 0, ZERO, biased - largest)


def in_units(stack: Any, rows: Any, columns: Any) -> Any:
    """Multiply matrices (m, n, n) in double precision by 2^(rows_i + columns_j), in int64.

    Exact, unless a result, which is then 0 or infinite at worst, under- or overflows.
    """
    if bool((abs(rows) <= _FAR // 2).all()) and bool((abs(columns) <= _FAR // 2).all()):
        return times_power(stack, _power(rows)[:, :, None] * _power(columns)[:, None, :])
    power = (rows[:, :, None] + columns[:, None, :]).clip(-5 * _FAR, 5 * _FAR)
    while bool(((power != 0) & not_zero(stack)).any()):
        part = power.clip(-_FAR, _FAR)
        stack, power = times_power(stack, _power(part)), power - part
    return stack


def not_zero(stack: Any) -> Any:
    """Tell which numbers are not 0; where the process flushes them, comparisons hide subnormals."""
    parts = parts_of(stack)
    found = magnitudes(parts)[0] > 0
    return found if parts is stack else namespace(stack).any(found, axis=-1)


def _power(exponent: Any) -> Any:
    """Return powers of two that are normal numbers of double precision."""
    return ((exponent + 1023) << 52).view(namespace(exponent).float64)


def shifted(x: Any, up: Any, down: Any) -> Any:
    """Return x·up/down for powers of two, though these alone might take x out of range.

    In double precision; the powers are normal numbers.
    """
    _, fraction, largest = magnitudes(up)
    kind = getattr(namespace(x), FORMATS[8][0])
    bits = [part.view(kind) >> fraction for part in (up, down)]
    power = bits[0] - bits[1]
    half = power // 2
    for part in (half, power - half):
        unit = ((part.clip(1 - largest, largest) + largest) << fraction).view(up.dtype)
        x = times_power(x, unit)
    return x
