"""Norms of stacks, as they are rounded and with proven bounds."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .._arrays.conversion import as_float64
from .._arrays.kinds import is_tensor, namespace
from .arithmetic import Arithmetic
from .scaling import powers_of_two

# Which axis is summed, of norms that are the largest sum of absolute values. Proofs ask of a norm
# that ‖AB‖ <= ‖A‖‖B‖, and of its rounding what _norm_errors says.
SUMMED = {"inf": -1, "1": -2}


def frobenius(stack: Any) -> Any:
    """Return the Frobenius norm of each matrix of a stack, in its dtype and as it is rounded."""
    if is_tensor(stack):
        return sys.modules["torch"].linalg.vector_norm(stack, dim=(1, 2))
    flat = stack.reshape(len(stack), stack.shape[1] * stack.shape[2])
    if hasattr(np, "vecdot"):  # NumPy 2, and faster
        return np.sqrt(np.vecdot(flat, flat))
    return np.sqrt(np.einsum("ki,ki->k", flat, flat))


def operator_norm(stack: Any, norm: str) -> Any:
    """Return the "fro", "inf" (rows) or "1" (columns) norm of each matrix, as it is rounded."""
    if norm == "fro":
        return frobenius(stack)
    sums = abs(stack).sum(SUMMED[norm])
    return sums.max(1).values if is_tensor(sums) else sums.max(axis=1)


def norm_bound(stack: Any, norm: str) -> Any:
    """Return a proven upper bound of the norm of each matrix, in float64.

    Parameters
    ----------
    stack : ndarray or tensor of shape (m, n, n)
    norm : {"fro", "inf", "1"}

    Returns
    -------
    ndarray or tensor of shape (m,), float64
        inf or NaN where squares or sums overflow. A sum of n² squares in any order is wrong by
        less than γ_{n²+2} of it, and what underflows by less than tiny each.

    Examples
    --------
    >>> bool(norm_bound(np.ones((1, 2, 2)), "fro")[0] >= 2)
    True
    """
    computed, gamma, lost = _norm_errors(stack, norm)
    return computed * (1 + gamma) + lost


def norm_floor(stack: Any, norm: str) -> Any:
    """Return a proven lower bound of the norm of each matrix, in float64; it may be negative."""
    computed, gamma, lost = _norm_errors(stack, norm)
    return computed * (1 - gamma) - lost


def _norm_errors(stack: Any, norm: str) -> tuple[Any, float, float]:
    """Return norms as they are computed, their relative error, and what underflow adds to it."""
    n, arithmetic = stack.shape[-1], Arithmetic.of(stack)
    terms, least = (n * n, arithmetic.tiny**0.5) if norm == "fro" else (n, arithmetic.tiny)
    computed = as_float64(operator_norm(stack, norm))
    return computed, arithmetic.gamma(terms + 4), 2 * n * least


def finite_rows(stack: Any) -> Any:
    """Tell for each matrix whether all its entries are finite.

    Parameters
    ----------
    stack : ndarray or tensor of shape (m, n, n)

    Returns
    -------
    ndarray or tensor of shape (m,), bool

    Examples
    --------
    >>> finite_rows(np.array([[[1e300]], [[np.nan]], [[-np.inf]]]))
    array([ True, False, False])
    """
    xp = namespace(stack)
    with np.errstate(over="ignore", invalid="ignore"):
        good = xp.isfinite(frobenius(stack))  # the cheapest test, but squares overflow early
    if not bool(good.all()):
        rest = ~good
        entries = xp.isfinite(stack[rest].reshape(-1, stack.shape[1] * stack.shape[2]))
        good[rest] = entries.all(1)
    return good


def scales(stack: Any, share: float = 0.25) -> Any:
    """Return a power of two per matrix, shape (m, 1, 1), to divide by before squares are taken.

    1 where the norm is within a share of the range of exponents, so that no square over- or
    underflows; None, for most stacks, if that is so for all matrices.
    """
    arithmetic, size = Arithmetic.of(stack), frobenius(stack)
    safe = (size > arithmetic.tiny**share) & (size < arithmetic.largest**share)
    if bool(safe.all()):
        return None
    unit = powers_of_two(stack, (1, 2))
    return namespace(stack).where(safe[:, None, None], namespace(unit).ones_like(unit), unit)
