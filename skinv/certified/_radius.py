"""What is proven of every entry of a solution, in its own units.

If |I − PA|w <= qw for some w > 0 and q < 1, then |x − A⁻¹b| <= |Pr| + q/(1 − q) w max_i(|Pr|_i/w_i)
with r = b − Ax (Rump 2010, "Verification methods: rigorous results using floating-point
arithmetic", section 10; Neumaier 1990, "Interval methods for systems of equations"), whatever x and
P are. All is done in units in which rows, columns and right-hand sides are of one size, and in
which these are the same numbers in whatever units they came.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import as_double, as_given, is_complex, namespace
from .._linalg.arithmetic import Arithmetic
from .._linalg.products import add_to_diagonal, column_norms, frobenius, product
from .._linalg.scaling import in_units, not_zero, powers_of_two, times_power
from .._linalg.units import in_common_units
from .._linalg.workspace import Workspace, full, indices, pieces
from ._anchor import UP, Anchor, Contraction, contraction, piece_bytes
from ._sides import applied, sides_in_units

# Steps towards the weights with the smallest q.
_STEPS = 3
# Sums of positive numbers, computed in float64, are off by n + 16 roundings at most.
_ROUNDINGS = 16


def radius_near(anchor: Anchor, A: Any, b: Any, x: Any) -> Any:
    """Bound |x − A⁻¹b| entry by entry for matrices near a known one; inf where that proves nothing.

    By |I − PA| <= |I − PA₀| + |P||A − A₀|, or by norms, in O(n²) operations each as long as these
    are enough. `b` and `x`, (m, n, k), are in double precision.
    """
    xp, n, space = namespace(b), b.shape[1], Workspace()
    out = full(b, tuple(b.shape), np.inf, xp.float64)
    with np.errstate(all="ignore"):
        D, w, units_b, units_x = (as_given(part, b) for part in _weighted_center(anchor))
        anchor = anchor.beside(b)
        P, center = anchor.inverse, anchor.center
        size_P, size_A = abs(P), abs(center)
        for piece in pieces(len(b), n, b.itemsize, piece_bytes(n)):
            a = as_double(A[piece])
            if anchor.moved:
                a = in_units(a, -units_b, units_x)
            E = xp.subtract(a, center, out=space.of(a, tuple(a.shape), "E"))
            E = abs(E) if is_complex(E) else xp.abs(E, out=E)

            def absolute(x: Any, E: Any = E) -> Any:  # at least |A|x
                return product(E, x) + applied(size_A, x)

            def reach(w: Any, E: Any = E) -> Any:
                return applied(D, w) + applied(size_P, product(E, w))

            rest = _rest_by_weights(reach, w + 0 * E[:, :, :1])
            given = (P, a, b[piece], x[piece])
            radius = _radius(rest, absolute, *given, units_b, units_x)
            far = indices(xp.any(radius == np.inf, axis=(1, 2)))
            if len(far):
                rest = _rest_by_norms(contraction(anchor, a[far]), anchor.weights)
                given = (P, a[far], b[piece][far], x[piece][far])
                radius[far] = _radius(rest, partial(absolute, E=E[far]), *given, units_b, units_x)
            out[piece] = radius
    return out


def _weighted_center(anchor: Anchor) -> tuple[NDArray, ...]:
    """Return a bound of |I − PA₀|, weights, and exponents of the anchor's units of b and x (1, n).

    All is worked out in common units, and is the same then in whatever units A₀ came; and brought
    back, exactly, where those of the anchor are the caller's.
    """
    (units_b, units_x), center, P = anchor.units, anchor.center[None], anchor.inverse[None]
    if not anchor.moved:
        center, P = in_units(center, -units_b, units_x), in_units(P, -units_x, units_b)
    n, D = center.shape[-1], product(P, center)
    add_to_diagonal(D, -1)
    D = abs(D) + 2 * Arithmetic.of(P).gamma(n + 2) * (product(abs(P), abs(center)) + np.eye(n))
    w = abs(P).sum(axis=2, keepdims=True)
    w = w / w.max()
    if anchor.moved:
        return D[0], w, units_b, units_x
    zero = 0 * units_x
    return in_units(D, units_x, -units_x)[0], in_units(w, units_x, zero[:, :1]), zero, zero


def radius_with(P: Any, A: Any, b: Any, x: Any) -> Any:
    """Bound |x − A⁻¹b| entry by entry by an approximate inverse P of each matrix.

    All in double precision.
    """
    out, n = full(b, tuple(b.shape), np.inf, namespace(b).float64), b.shape[1]
    with np.errstate(all="ignore"):
        for piece in pieces(len(b), n, b.itemsize, piece_bytes(n)):
            a, p, units_b, units_x = in_common_units(A[piece], P[piece])
            rest, absolute = _by_product(p, a)
            out[piece] = _radius(rest, absolute, p, a, b[piece], x[piece], units_b, units_x)
    return out


def _by_product(P: Any, A: Any) -> tuple[Callable, Callable]:
    """Return what the product PA bounds, see :func:`_rest_by_weights`, and |A|x."""
    R, gamma = product(P, A), Arithmetic.of(A).gamma(A.shape[1])
    add_to_diagonal(R, -1)
    size_R, size_P, size_A = abs(R), abs(P), abs(A)

    def absolute(x: Any) -> Any:
        return product(size_A, x)

    def reach(w: Any) -> Any:
        return product(size_R, w) + gamma * product(size_P, absolute(w))

    return _rest_by_weights(reach, namespace(A).ones_like(size_A[:, :, :1])), absolute


def _rest_by_weights(reach: Callable, w: Any) -> Callable:
    """Return what bounds all terms of the series Σ (I − PA)ᵏs but the first, for |s| <= `s`.

    |I − PA|w is at most what `reach` makes of weights w, its own rounding and underflow aside.
    """

    def rest(s: Any, up: float, lost: Any) -> Any:
        xp, weights, least = namespace(s), w, namespace(s).full_like(s, np.inf)
        for _ in range(_STEPS):  # each proves something
            y = reach(weights) * up + lost * (1 + xp.max(weights, axis=1, keepdims=True))
            q = xp.max(y / weights, axis=1, keepdims=True) * up
            found = _series(q, weights, xp.max(s / weights, axis=1, keepdims=True), up)
            least = xp.where(found < least, found, least)
            weights = y
        return least

    return rest


def _rest_by_norms(known: Contraction, weights: Any) -> Callable:
    """Return the same by what is known of norms of I − PA."""

    def rest(s: Any, up: float, lost: Any) -> Any:
        xp, q, w = namespace(s), known.q[:, None, None], weights[None, :, None]
        size = column_norms(s)[:, None] * up + lost**0.5
        weighted = _series(q, w, xp.max(s / w, axis=1, keepdims=True), up)
        plain = _series(q, xp.ones_like(w), size, up)
        return xp.where(known.weighted[:, None, None], weighted, plain)

    return rest


def _series(q: Any, w: Any, size: Any, up: float) -> Any:
    """Return q/(1 − q)·w·size rounded up; inf unless q < 1."""
    return namespace(q).where(q < 1, q / (1 - q) * up * w * size * up, np.inf)


def _radius(
    rest: Callable, absolute: Callable, P: Any, A: Any, b: Any, x: Any, units_b: Any, units_x: Any
) -> Any:
    """Bound errors in the caller's units: P and A are in other ones already.

    |A|x is at most what `absolute` makes of x >= 0, its own rounding and underflow aside.
    """
    xp, n, arithmetic = namespace(b), b.shape[1], Arithmetic.of(b)
    gamma, up = arithmetic.gamma(n + 1), 1 + 2 * (n + _ROUNDINGS) * arithmetic.unit
    empty = ~xp.any(not_zero(b) | not_zero(x), axis=1, keepdims=True)
    b, moved = sides_in_units(b, units_b)
    x = in_units(x, -units_x, -moved)
    r = b - product(A, x)
    s, size_P, size_x = applied(P, r), abs(P), abs(x)
    # What underflows, in products, sums of n of these, and scaling, is less than tiny each time.
    largest = frobenius(A)[:, None, None] + column_norms(size_x.reshape(len(x), -1, 1))[..., None]
    lost = 4 * n * n * arithmetic.tiny * (1 + largest + xp.max(size_P))
    off = gamma * (absolute(size_x) + abs(b)) * up + lost  # of r
    s = (abs(s) + applied(size_P, gamma * abs(r) + off) * up + lost) * up
    later = rest(s, up, lost)
    radius = in_units((s + later + lost) * up, units_x, moved)
    # What becomes subnormal is rounded, or flushed; what overflows may be the largest number.
    radius = xp.where(empty, xp.zeros_like(radius), radius * up + 2 * arithmetic.tiny)
    known = (radius >= 0) & (radius < arithmetic.largest) & (later < np.inf)
    return xp.where(known, radius, np.inf)


def bound_of_radius(x: Any, radius: Any) -> Any:
    """Bound ‖x − A⁻¹b‖₂ / ‖x‖₂ by what bounds |x − A⁻¹b| entry by entry."""
    xp, unit, gamma = namespace(x), powers_of_two(x, 1), Arithmetic.of(x).gamma(x.shape[1] + 4)
    with np.errstate(all="ignore"):
        off = column_norms(times_power(radius, 1 / unit)) * (1 + 2 * gamma) + 2.0**-500
        bound = off / column_norms(times_power(x, 1 / unit)) * (1 + 2 * gamma) * UP
    bound = xp.where(xp.all(radius == 0, axis=1), xp.zeros_like(bound), bound)
    return xp.where(bound < 1, bound, np.inf)
