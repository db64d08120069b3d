"""Units in which nothing over- or underflows, and back from them, rounded to the safe side.

All of it holds in every floating-point mode, too where subnormal numbers are read, or written, as
zeros: what could get lost so is counted.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._linalg.scaling import ZERO

EPS = float(np.finfo(np.float64).eps)
UNIT = EPS  # of any direction of rounding; to nearest half of it
# The smallest normal number: no product or sum of numbers that are not subnormal loses more.
TINY = float(np.finfo(np.float64).tiny)
# Numbers below this have squares that underflow.
SQUARED = 2e-154
LARGEST = float(np.finfo(np.float64).max)
_FRACTION = 2**52 - 1


def unit_scale(
    stack: NDArray[np.float64], power: Any = None
) -> tuple[NDArray, NDArray[np.int64], NDArray]:
    """Divide each matrix by the power of two that brings its largest entry into [1/2, 1).

    Of matrices with entries times 2^power, if such exponents are given. Returns the matrices,
    without subnormal entries, the exponents, and bounds of the sum of what entries lost: 0 unless
    some are below 2⁻¹⁰²² times the largest.
    """
    size = np.abs(stack)
    largest = size.max(axis=(1, 2), initial=0.0)
    # Most matrices have no number that could get lost, nor one that a mode takes for zero.
    if power is None and stack.size and largest.min() > 2.0**-500 and largest.max() < 2.0**500:
        plain = (size >= 2.0**-500) | (stack.view(np.int64) << 1 == 0)
        if plain.all():
            exponent = np.frexp(largest)[1].astype(np.int64)
            scale = np.ldexp(1.0, -exponent)[:, None, None]
            return stack * scale, exponent, np.zeros(len(stack))
    mantissa, own = _split(stack)
    there, own = mantissa != 0, own if power is None else own + power
    least = -1074 if power is None else ZERO
    exponent = np.where(there, own, least).max(axis=(1, 2), initial=least)
    scaled = np.ldexp(mantissa, own - exponent[:, None, None])
    lost = there & (np.abs(scaled) < TINY)
    scaled[lost] = 0.0
    return scaled, exponent, np.count_nonzero(lost, axis=(1, 2)) * TINY


def largest_exponent(values: NDArray[np.float64], power: NDArray) -> int:
    """Return the exponent of the largest of numbers times 2^power, which broadcasts."""
    return int(row_exponents(values, power).max(initial=ZERO))


def row_exponents(values: NDArray[np.float64], power: NDArray) -> NDArray[np.int64]:
    """Return those of the largest number in each row, times 2^power; ``ZERO`` of zeros."""
    mantissa, own = _split(values)
    return np.where(mantissa != 0, own + power, ZERO).max(axis=1, initial=ZERO)


def _split(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return mantissas in [1/2, 1) and exponents of finite numbers, subnormal ones included."""
    mantissa, power = (np.array(part) for part in np.frexp(values))
    power = power.astype(np.int64)
    bits = np.ascontiguousarray(values).view(np.int64).reshape(values.shape)
    small = ((bits >> 52) & 2047 == 0) & (bits & _FRACTION != 0)
    if small.any():  # read as integers: as numbers they may be zeros
        whole = np.where(bits[small] < 0, -1.0, 1.0) * (bits[small] & _FRACTION)
        mantissa[small], power[small] = np.frexp(whole)
        power[small] -= 1074
    return mantissa, power


def whole_numbers(values: NDArray[np.float64]) -> list[int]:
    """Return finite numbers as multiples of 2⁻¹⁰⁷⁴, of which all are, exactly."""
    mantissa, power = _split(values)
    whole, shift = (mantissa * 2.0**53).astype(np.int64).tolist(), (power + 1021).tolist()
    return [m << s if s >= 0 else m >> -s for m, s in zip(whole, shift, strict=True)]


def scaled_ends(
    low: NDArray[np.float64], high: NDArray[np.float64], scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of a box whose half-widths are multiplied by a scale, rounded outward.

    They are ((t + s) low + (t − s) high) / 2t for scale = s/t, and the other way round, in
    integers. With a scale of 1 it is the box itself; past the largest numbers ends are infinite.
    """
    s, t = float(scale).as_integer_ratio()
    pairs = list(zip(whole_numbers(low), whole_numbers(high), strict=True))
    lower = [((t + s) * a + (t - s) * b) // (2 * t) for a, b in pairs]
    upper = [-(-((t + s) * b + (t - s) * a) // (2 * t)) for a, b in pairs]
    return _numbers_of(lower, -1), _numbers_of(upper, 1)


def _numbers_of(whole: list[int], direction: int) -> NDArray[np.float64]:
    """Return multiples of 2⁻¹⁰⁷⁴ as numbers, rounded up (1) or down (−1), by their bits."""
    found = []
    for value in whole:
        size = abs(value)
        drop = max(size.bit_length() - 53, 0)
        kept = -(-size >> drop) if value * direction > 0 else size >> drop
        bits = min((drop << 52) + kept, 2047 << 52)  # the latter is inf
        found.append(bits | (value < 0) << 63)
    return np.array(found, dtype=np.uint64).view(np.float64)


def scaled_up(values: Any, exponent: Any) -> NDArray[np.float64]:
    """Return numbers times 2^exponent, not below it: inf past the largest."""
    mantissa, power = _split(np.asarray(values, dtype=np.float64))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        found = np.ldexp(mantissa, power + exponent)
        found = np.where(found >= LARGEST, np.inf, found)  # which is rounded toward zero there
        least = np.where(found == 0, TINY, np.nextafter(found, np.inf))
    return np.where((found < TINY) & (mantissa > 0), least, found)


def scaled_down(values: Any, exponent: Any) -> NDArray[np.float64]:
    """Return numbers times 2^exponent, not above it: the largest number instead of inf."""
    mantissa, power = _split(np.asarray(values, dtype=np.float64))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        found = np.ldexp(mantissa, power + exponent)
        found = np.where(np.isposinf(found) & np.isfinite(mantissa), LARGEST, found)
        return np.where(found < TINY, below(found), found)


def below(values: Any) -> Any:
    """Return the next number below what is positive, and 0 or less as it is."""
    return np.where(np.asarray(values) < 0, values, np.nextafter(values, 0.0))


def above(values: Any) -> Any:
    """Return the next number above."""
    return np.nextafter(values, np.inf)
