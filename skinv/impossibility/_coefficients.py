"""Arithmetic of numbers that are not negative, rounded up: no result is below the exact one.

Sums and products of integers are exact up to 2⁵³ and stay as they are. All others are raised by the
rounding that they can have, and nothing positive becomes zero: what underflows, or is flushed to
zero, is raised to the size of the smallest normal number. Where a process takes subnormal numbers
for zeros (as torch.set_flush_denormal makes it do), comparisons do not see them, their bits do.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from .._arrays.conversion import real_array, subnormal, to_host

EPS = float(np.finfo(np.float64).eps)
TINY = float(np.finfo(np.float64).tiny)
DUST = 1e-290  # what underflows in few operations is far below it, times their rounding too
MAX_DEGREE = 4096

Floats = NDArray[np.float64]


def raised(values: Floats) -> Floats:
    """Return numbers with what is subnormal replaced by the smallest normal number of its sign."""
    return np.where(subnormal(values), np.copysign(TINY, values), values)


def numbers(values: Any, name: str) -> Floats:
    """Return real numbers in float64; those that it does not hold are rounded away from zero."""
    found, given = real_array(values, name), np.asarray(to_host(values))
    if given.dtype.kind in "Oiu" or given.dtype.itemsize > 8:
        pairs = zip(found.flat, given.astype(object).flat, strict=True)
        short = np.array([_is_smaller(f, exact) for f, exact in pairs], dtype=bool)
        beyond = np.nextafter(found, np.copysign(np.inf, found))
        found = np.where(short.reshape(found.shape), beyond, found)
    return raised(found)


def _is_smaller(found: float, exact: Any) -> bool:
    try:
        return abs(found) < abs(exact)
    except (TypeError, ArithmeticError):  # None and its like, which became NaN
        return False


def in_t(polynomial: Polynomial) -> Floats:
    """Return the coefficients of a polynomial in t itself, not mapped to a domain, rounded up."""
    coefficients = numbers(polynomial.coef, "coefficients")
    with np.errstate(all="ignore"):
        shift, factor = (float(v) for v in polynomial.mapparms())
    if (shift, factor) == (0.0, 1.0):
        return coefficients
    if not np.isfinite([shift, factor, *coefficients]).all():
        return np.array([np.nan])
    line: Any = np.poly1d(np.array([Fraction(factor), Fraction(shift)]))
    exact: Any = np.polyval(np.array([Fraction(c) for c in coefficients[::-1]]), line)
    return numbers(exact.coeffs[::-1], "coefficients")


def _up(computed: Floats, some: Any, terms: int, *operands: Floats) -> Floats:
    """Return sums of `terms` products, which are 0 but for `some`, raised by what they may miss."""
    integers = all((np.rint(v) == v).all() for v in operands)
    if integers and computed.max(initial=0.0) <= 2.0**53:
        return computed
    return np.where(some, computed * (1 + (terms + 4) * EPS) + 2 * terms * TINY, 0.0)


def times(a: Any, b: Any) -> Floats:
    """Return the coefficients of a product of polynomials; numbers are those of degree 0."""
    a, b = np.atleast_1d(np.float64(a)), np.atleast_1d(np.float64(b))
    _check_degree(len(a) + len(b) - 2)
    with np.errstate(all="ignore"):
        some = np.convolve(np.float64(a != 0), np.float64(b != 0)) > 0.5
        return _up(np.convolve(a, b), some, min(len(a), len(b)), a, b)


def plus(*parts: Any) -> Floats:
    """Return the coefficients of a sum of polynomials."""
    return _summed(aligned(parts))


def _summed(stack: Floats) -> Floats:
    """Return the sums along the first axis, rounded up."""
    with np.errstate(all="ignore"):
        return _up(stack.sum(axis=0), (stack != 0).any(axis=0), len(stack), stack)


def inside(outer: Any, inner: Any) -> Floats:
    """Return the coefficients of outer(inner(t))."""
    outer, inner = np.atleast_1d(np.float64(outer)), np.atleast_1d(np.float64(inner))
    _check_degree((len(outer) - 1) * (len(inner) - 1))
    return reduce(lambda found, c: plus(times(found, inner), c), outer[-2::-1], outer[-1:])


def product(*factors: float) -> float:
    """Return the product of numbers, rounded up."""
    return float(reduce(times, factors, np.ones(1))[0])


def total(*terms: float) -> float:
    """Return the sum of numbers, rounded up."""
    return float(plus(*terms)[0])


def reciprocal(number: float) -> float:
    """Return 1 over a positive number, rounded up."""
    with np.errstate(all="ignore"):
        return product(float(1 / np.float64(number)) or TINY, 1 + EPS)


def evaluated(polynomial: Polynomial, t: float) -> float:
    """Return the value of a bound at t >= 0, rounded up."""
    t, value = float(raised(np.asarray(t, dtype=np.float64))), 0.0
    for c in reversed(polynomial.coef.tolist()):
        carried = value * t * (1 + 2 * EPS) + TINY if value and t else 0.0
        value = (carried + c) * (1 + 2 * EPS)
    return value


def aligned(parts: Any) -> Floats:
    """Return the coefficients of polynomials as rows of one length."""
    rows = [np.atleast_1d(np.float64(p)) for p in parts]
    size = max(map(len, rows))
    return np.array([np.pad(row, (0, size - len(row))) for row in rows])


def _check_degree(degree: int) -> None:
    if degree > MAX_DEGREE:
        raise ValueError(
            f"Got a bound of degree {degree}, but at most {MAX_DEGREE} is followed: use fewer "
            f"products and attention layers in a row, or register a rule with a bound of lower "
            f"degree for a part of them."
        )


# ‖(‖u‖, ‖v‖, ...)‖ in each norm, along the first axis, rounded up.


def hypotenuse(parts: Floats) -> Floats:
    """Return the square roots of sums of squares; the largest is divided out, so none underflow."""
    with np.errstate(all="ignore"):
        scale = np.ldexp(1.0, np.frexp(parts.max(axis=0))[1] - 1)
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
        shares = (parts / scale) ** 2
        root = np.sqrt(shares.sum(axis=0)) * scale
        squares = (parts * parts).sum(axis=0)
        exact = (np.rint(parts) == parts).all(axis=0) & (np.rint(root) == root)
        exact &= (squares == root * root) & (squares <= 2.0**53)
        return np.where(exact, root, root * (1 + (len(parts) + 4) * EPS))


STACKED: dict[str, Callable[[Floats], Floats]] = {
    "l1": _summed,
    "l2": hypotenuse,
    "linf": lambda parts: parts.max(axis=0),
}
