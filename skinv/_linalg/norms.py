"""Norms of stacks (m, n, n), as they are rounded and with proven bounds."""

import math
from numbers import Real
from typing import Any

import numpy as np

from .._arrays.conversion import as_double, namespace
from .arithmetic import Arithmetic
from .products import frobenius
from .scaling import powers_of_two
from .workspace import indices

# Norms of errors, and which axis is summed of those that are the largest sum of absolute values.
# Proofs ask of a norm that ‖AB‖ <= ‖A‖‖B‖, that it is no smaller for entries that are no smaller in
# magnitude, and of its rounding what norm_errors says.
NORMS: dict[str, int | None] = {"fro": None, "inf": -1, "1": -2}
# What NumPy calls them.
_NUMBERS = {np.inf: "inf", 1: "1"}


def check_norm(norm: Any) -> str:
    """Return the name of a norm of errors, or raise a ValueError."""
    name = norm
    if not isinstance(norm, str) and isinstance(norm, Real):
        name = _NUMBERS.get(float(norm))
    if isinstance(name, str) and name in NORMS:
        return name
    raise ValueError(f"Got norm={norm!r}, but it must be one of 'fro', 'inf' and '1'.")


def operator_norm(stack: Any, norm: str) -> Any:
    """Return the "fro", "inf" (rows) or "1" (columns) norm of each matrix, as it is rounded."""
    axis = NORMS[norm]
    if axis is None:
        return frobenius(stack)
    xp = namespace(stack)
    return xp.max(xp.sum(abs(stack), axis=axis), axis=1)


def norm_bound(stack: Any, norm: str, size: Any = None) -> Any:
    """Return a proven upper bound of the norm of each matrix, in float64.

    `size` is its Frobenius norm, as it is rounded, where that is known.
    """
    gamma, lost = norm_errors(Arithmetic.of(stack), stack.shape[-1], norm)
    known = NORMS[norm] is None and size is not None
    return as_double(size if known else operator_norm(stack, norm)) * (1 + gamma) + lost


def norm_floor(stack: Any, norm: str) -> Any:
    """Return a proven lower bound of the norm of each matrix, in float64; it may be negative."""
    gamma, lost = norm_errors(Arithmetic.of(stack), stack.shape[-1], norm)
    return as_double(operator_norm(stack, norm)) * (1 - gamma) - lost


def norm_errors(arithmetic: Arithmetic, n: int, norm: str) -> tuple[float, float]:
    """Return the relative error of norms as they are computed, and what underflow adds to it.

    Sums of k terms, and squares, roots and moduli, are off by γ_{k+4} at most, in any order, and
    by what underflows: less than tiny each, or its root where squares are summed.
    """
    whole = NORMS[norm] is None
    least = arithmetic.tiny**0.5 if whole or arithmetic.is_complex else arithmetic.tiny
    gamma = arithmetic.gamma((n * n if whole else n) + 4)
    return gamma, 2 * n * least


def sizes(stack: Any) -> Any:
    """Return the Frobenius norm of each matrix as it is rounded, NaN of those that are not finite.

    The squares of large numbers overflow, so that it may be infinite of others.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        size = frobenius(stack)
        clean = math.isfinite(size.sum())
    if not clean:
        xp = namespace(stack)
        rest = indices(~xp.isfinite(size))
        good = xp.all(xp.isfinite(stack[rest]), axis=(1, 2))
        size[rest] = xp.astype(xp.where(good, np.inf, np.nan), size.dtype)
    return size


def finite_rows(stack: Any) -> Any:
    """Tell for each matrix whether all its entries are finite."""
    return sizes(stack) >= 0


def scales(stack: Any, share: float = 0.25, size: Any = None) -> Any:
    """Return a power of two per matrix, shape (m, 1, 1), to divide by before squares are taken.

    1 where the norm is within a share of the range of exponents, so that no square over- or
    underflows; None, for most stacks, if that is so for all matrices. `size` is that norm, as
    :func:`sizes` returns it, if it is known.
    """
    size = frobenius(stack) if size is None else size
    if are_moderate(stack, size, share):
        return None
    xp, arithmetic = namespace(stack), Arithmetic.of(stack)
    safe = (size > arithmetic.tiny**share) & (size < arithmetic.largest**share)
    unit = powers_of_two(stack, (1, 2))
    return xp.where(safe[:, None, None], xp.ones_like(unit), unit)


def are_moderate(stack: Any, size: Any, share: float = 0.25) -> bool:
    """Tell whether the Frobenius norms of all matrices are within a share of the range."""
    if not len(size):
        return True
    arithmetic = Arithmetic.of(stack)
    least, most = arithmetic.tiny**share, arithmetic.largest**share
    return bool(size.min() > least and size.max() < most)  # not so of NaN
