"""What is proven of every entry of a solution, in its own units.

If |I − PA|w <= qw for some w > 0 and q < 1, then |x − A⁻¹b| <= |Pr| + q/(1 − q) w max_i(|Pr|_i/w_i)
with r = b − Ax (Rump 2010, "Verification methods: rigorous results using floating-point
arithmetic", section 10; Neumaier 1990, "Interval methods for systems of equations"), whatever x and
P are. All is done in units in which rows, columns and right-hand sides are of one size, and in
which these are the same numbers in whatever units they came.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .._arrays.conversion import as_double, as_given, namespace
from .._linalg.arithmetic import Arithmetic
from .._linalg.products import add_to_diagonal, column_norms, product
from .._linalg.scaling import in_units, not_zero, powers_of_two, times_power
from .._linalg.units import in_common_units
from .._linalg.workspace import full, pieces
from ._anchor import UP, Anchor, piece_bytes
from ._sides import sides_in_units

# Steps towards the weights with the smallest q.
_STEPS = 3
# Sums of positive numbers, computed in float64, are off by n + 16 roundings at most.
_ROUNDINGS = 16


def radius_near(anchor: Anchor, A: Any, b: Any, x: Any) -> Any:
    """Bound |x − A⁻¹b| entry by entry for matrices near a known one; inf where that proves nothing.

    By |I − PA| <= |I − PA₀| + |P||A − A₀|, in O(n²) operations each. `b` and `x`, (m, n, k), are in
    double precision.
    """
    out = _unknown(b)
    with np.errstate(all="ignore"):
        center, P, units_b, units_x = in_common_units(anchor.center[None], anchor.inverse[None])
        if anchor.units is not None:
            units_b, units_x = units_b + anchor.units[0], units_x + anchor.units[1]
        gamma, n, size_P = Arithmetic.of(P).gamma(b.shape[1] + 2), b.shape[1], abs(P)
        D = product(P, center)
        add_to_diagonal(D, -1)
        D = abs(D) + 2 * gamma * (product(size_P, abs(center)) + np.eye(n))
        w = size_P.sum(axis=2, keepdims=True)
        w = w / w.max()
        given = (center, P, units_b, units_x, size_P, D, w)
        center, P, units_b, units_x, size_P, D, w = (as_given(part, b) for part in given)
        for piece in pieces(len(b), n, b.itemsize, piece_bytes(n)):
            a = in_units(as_double(A[piece]), -units_b, units_x)
            E = abs(a - center)

            def reach(w: Any, E: Any = E) -> Any:
                return product(D, w) + product(size_P, product(E, w))

            sides = b[piece], x[piece]
            out[piece] = _radius(reach, w, P, a, *sides, units_b, units_x)
    return out


def radius_with(P: Any, A: Any, b: Any, x: Any) -> Any:
    """Bound |x − A⁻¹b| entry by entry by an approximate inverse P of each matrix.

    All in double precision.
    """
    out, (n, gamma) = _unknown(b), (b.shape[1], Arithmetic.of(b).gamma(b.shape[1]))
    with np.errstate(all="ignore"):
        for piece in pieces(len(b), n, b.itemsize, piece_bytes(n)):
            a, p, units_b, units_x = in_common_units(A[piece], P[piece])
            R = product(p, a)
            add_to_diagonal(R, -1)
            sizes = abs(R), abs(p), abs(a)

            def reach(w: Any, sizes: Any = sizes) -> Any:
                size_R, size_P, size_A = sizes
                return product(size_R, w) + gamma * product(size_P, product(size_A, w))

            w = namespace(b).ones_like(sizes[0][:, :, :1])
            out[piece] = _radius(reach, w, p, a, b[piece], x[piece], units_b, units_x)
    return out


def _unknown(b: Any) -> Any:
    return full(b, tuple(b.shape), np.inf, namespace(b).float64)


def _radius(
    reach: Callable, w: Any, P: Any, A: Any, b: Any, x: Any, units_b: Any, units_x: Any
) -> Any:
    """Bound errors in the caller's units: P and A are in other ones already.

    |I − PA|w is at most what `reach` makes of weights w, its own rounding and underflow aside.
    """
    xp, n, arithmetic = namespace(b), b.shape[1], Arithmetic.of(b)
    gamma, up = arithmetic.gamma(n + 1), 1 + 2 * (n + _ROUNDINGS) * arithmetic.unit
    empty = ~xp.any(not_zero(b) | not_zero(x), axis=1, keepdims=True)
    b, moved = sides_in_units(b, units_b)
    x = in_units(x, -units_x, -moved)
    r = b - product(A, x)
    s = product(P, r)
    size_A, size_P, size_x = abs(A), abs(P), abs(x)
    # What underflows, in products, sums of n of these, and scaling, is less than tiny each time.
    largest = sum(
        xp.max(size.reshape(len(size), -1), axis=1)[:, None, None]
        for size in (size_A, size_P, xp.concat([size_x, xp.ones_like(size_x[:, :, :1])], axis=2))
    )
    lost = 4 * n * n * arithmetic.tiny * largest
    off = gamma * (product(size_A, size_x) + abs(b)) * up + lost  # of r
    s = (abs(s) + product(size_P, gamma * abs(r) + off) * up + lost) * up
    least = xp.full_like(s, np.inf)
    for _ in range(_STEPS):  # each proves something
        y = reach(w) * up + lost
        q = xp.max(y / w, axis=1, keepdims=True) * up
        found = q / (1 - q) * up * w * xp.max(s / w, axis=1, keepdims=True) * up
        least = xp.where((q < 1) & (found < least), found, least)
        w = y / xp.max(y, axis=1, keepdims=True)
    radius = in_units((s + least + lost) * up, units_x, moved)
    # What becomes subnormal is rounded, or flushed.
    radius = xp.where(empty, xp.zeros_like(radius), radius * up + 2 * arithmetic.tiny)
    return xp.where((radius >= 0) & (least < np.inf), radius, np.inf)


def bound_of_radius(x: Any, radius: Any) -> Any:
    """Bound ‖x − A⁻¹b‖₂ / ‖x‖₂ by what bounds |x − A⁻¹b| entry by entry."""
    xp, unit, gamma = namespace(x), powers_of_two(x, 1), Arithmetic.of(x).gamma(x.shape[1] + 4)
    with np.errstate(all="ignore"):
        off = column_norms(times_power(radius, 1 / unit)) * (1 + 2 * gamma) + 2.0**-500
        bound = off / column_norms(times_power(x, 1 / unit)) * (1 + 2 * gamma) * UP
    bound = xp.where(xp.all(radius == 0, axis=1), xp.zeros_like(bound), bound)
    return xp.where(bound < 1, bound, np.inf)
