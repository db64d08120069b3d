"""Right-hand sides and solutions: what callers pass, and what they get."""

from typing import Any

import numpy as np

from .._arrays.conversion import (
    as_complex,
    as_double,
    beside,
    is_complex,
    namespace,
    not_a_number,
    refuse_inexact,
)
from .._linalg.products import column_norms, product
from .._linalg.scaling import ZERO, exponents, in_units, powers_of_two
from .._linalg.workspace import every, full


def unknown(b: Any) -> tuple[Any, Any]:
    """Return NaN for solutions of b (m, n, k), and inf for their bounds (m, k)."""
    m, n, k = b.shape
    return full(b, (m, n, k), not_a_number(b)), full(b, (m, k), np.inf, namespace(b).float64)


def in_any(mask: Any) -> Any:
    """Tell which rows of a mask (m, k) are true somewhere."""
    return mask[:, 0] if mask.shape[1] == 1 else namespace(mask).any(mask, axis=1)


def right_hand_sides(b: Any, A: Any) -> Any:
    """Return right-hand sides (m, n) or (m, n, k) as an array or tensor like matrices (m, n, n).

    Single and double precision are kept, everything else becomes double, or raises a ValueError if
    that cannot hold it. Those of complex matrices become complex.
    """
    m, n = A.shape[:2]
    xp, b = namespace(A), beside(b, A)
    if is_complex(b) and not is_complex(A):
        raise ValueError(
            "Got complex right-hand sides for real matrices, but real ones are expected: solve for "
            "real and imaginary parts as two columns."
        )
    if b.ndim not in (2, 3) or tuple(b.shape[:2]) != (m, n):
        raise ValueError(
            f"Got right-hand sides of shape {tuple(b.shape)} for {m} matrices of order {n}, but "
            f"({m}, {n}) or ({m}, {n}, k) is expected."
        )
    if b.dtype not in (xp.float32, xp.float64, xp.complex64, xp.complex128):
        wide = as_double(b)
        refuse_inexact(b, wide)
        b = wide
    return as_complex(b) if is_complex(A) else b


def sides_in_units(b: Any, units: Any) -> tuple[Any, Any]:
    """Return right-hand sides (m, n, k) in other units, and divided by powers of two of their own.

    These, exponents (m, k) in the caller's units, make the largest entry of each a number near 1.
    """
    xp = namespace(b)
    # So that only what is 2^-1000 of the largest entry underflows.
    lift = 500 * xp.astype(powers_of_two(b, 1)[:, 0] < 2.0**-500, xp.int64)
    b = in_units(b, 0 * units, lift)
    size = xp.max(exponents(b) - units[:, :, None], axis=1)
    size = xp.where(size > ZERO // 2, size, 0)
    return in_units(b, -units, -size), size - lift


def applied(P: Any, r: Any, out: Any = None) -> Any:
    """Return Pr for stacks r (m, n, k), and one P for all, or one each, into `out` if given.

    One P for all, and one column each, are a single product of two matrices.
    """
    if P.ndim == 3 or r.shape[2] != 1:
        return product(P, r, out=out)
    if out is None:
        return product(r[:, :, 0], P.T)[:, :, None]
    product(r[:, :, 0], P.T, out=out[:, :, 0])
    return out


def take_better(x: Any, bound: Any, rows: Any, new_x: Any, new_bound: Any) -> None:
    """Put new solutions of some rows in the place of those with larger bounds, or without one."""
    xp = namespace(x)
    old_x, old = x[rows], bound[rows]
    better = (new_bound < old) | ~(old < np.inf)
    if every(better):
        x[rows], bound[rows] = new_x, new_bound
        return
    x[rows] = xp.where(better[:, None], new_x, old_x)
    bound[rows] = xp.where(better, new_bound, old)


def rounded_solution(x: Any, dtype: Any, bound: Any) -> tuple[Any, Any]:
    """Return solutions (m, n, k) in another dtype, and bounds for what they have become."""
    if x.dtype == dtype:
        return x, bound
    xp = namespace(x)
    with np.errstate(all="ignore"):
        y = xp.astype(x, dtype)
        wide = as_double(y)
        size = column_norms(wide) * (1 - 1e-9)
        moved = (bound * column_norms(x) + column_norms(wide - x)) * (1 + 1e-9) / size
    zero = (bound == 0) & (size == 0)
    return y, xp.where(zero, bound, xp.where(moved >= 0, moved, np.inf))
