"""What the residual I − XA proves of every entry of an approximate inverse X, in its own units.

If |R|w <= qw for R = I − XA, some w > 0 and q < 1, then A is regular and A⁻¹ − X = Σ Rᵏ(RX) over
k >= 0, so that |A⁻¹ − X| <= |RX| + q/(1 − q) wβᵀ with β_j the largest |RX|_ij / w_i (Rump 2010,
"Verification methods: rigorous results using floating-point arithmetic", section 10; Neumaier 1990,
"Interval methods for systems of equations"). w has the units of the rows of X.
"""

from typing import Any

import numpy as np

from .._arrays.conversion import as_double, namespace
from .._linalg.arithmetic import Arithmetic
from .._linalg.doubled import corrections
from .._linalg.norms import norm_bound, norm_floor
from .._linalg.products import add_to_diagonal, product
from .._linalg.scaling import in_units, powers_of_two, times_power
from .._linalg.threads import in_threads
from .._linalg.units import in_common_units
from .._linalg.workspace import empty, indices, pieces

# Bytes of a stack in a piece, of which a dozen are held at once.
_PIECE = 2**19
# Steps towards the weights with the smallest q.
_STEPS = 3
# Sums of positive numbers, computed in float64, are off by n + 16 roundings at most.
_ROUNDINGS = 16


def component_bound(A: Any, X: Any, *, sharp: bool = True) -> Any:
    """Bound |A⁻¹ − X| entry by entry, for stacks (m, n, n); inf where nothing is proven.

    One product of matrices, or if `sharp` four.
    """
    m, n = A.shape[:2]
    out = empty(A, (m, n, n), namespace(A).float64)

    def bound(piece: slice) -> None:
        with np.errstate(all="ignore"):
            out[piece] = _bound_piece(as_double(A[piece]), as_double(X[piece]), sharp)

    in_threads(bound, pieces(m, n, as_double(A[:0]).itemsize, _PIECE), A)
    return out


def doubled_bound(A: Any, X: Any) -> Any:
    """Bound |A⁻¹ − X| entry by entry, from residuals in twice the precision.

    Where these prove nothing, as in a process that does not round to nearest, from others.
    """
    D, radius = corrections(A, X)
    xp = namespace(A)
    bound = xp.where(radius < np.inf, (abs(D) + radius) * (1 + 2.0**-46), np.inf)
    rows = indices(xp.any(bound == np.inf, axis=(1, 2)))
    if len(rows):
        bound[rows] = xp.minimum(bound[rows], component_bound(A[rows], X[rows]))
    return bound


def norm_of_radius(X: Any, radius: Any, norm: str) -> Any:
    """Bound ‖A⁻¹ − X‖ / ‖A⁻¹‖ by what bounds |A⁻¹ − X| entry by entry."""
    xp, X = namespace(X), as_double(X)
    unit = powers_of_two(X, (1, 2))
    with np.errstate(all="ignore"):
        off = norm_bound(times_power(radius, 1 / unit), norm)
        size = norm_floor(times_power(X, 1 / unit), norm)
        bound = off / (size - off) * (1 + 2.0**-46)
    return xp.where((off < size) & (bound < 1), bound, np.inf)


def _bound_piece(A: Any, X: Any, sharp: bool) -> Any:
    """Bound the errors of matrices in double precision, in units where weights are near 1."""
    xp, n = namespace(A), A.shape[-1]
    arithmetic = Arithmetic.of(A)
    unit, gamma = arithmetic.unit, arithmetic.gamma(n)
    up = 1 + 2 * (n + _ROUNDINGS) * unit
    A, X, rows, columns = in_common_units(A, X)
    R = product(X, A)
    add_to_diagonal(R, -1)
    size_A, size_X, size_R = abs(A), abs(X), abs(R)
    largest = sum(xp.max(size, axis=(1, 2)) for size in (size_A, size_X, size_R))
    # What underflows, in products, sums of n of these, and scaling, is less than tiny each time.
    lost = (4 * n * n * arithmetic.tiny * (1 + largest))[:, None, None]
    # |RX| as computed, with the part of its rounding that is large.
    RX = abs(product(R, X)) + gamma * up * product(size_X, product(size_A, size_X)) if sharp else 0
    w, least = xp.ones_like(size_A[:, :, :1]), xp.full_like(size_A, np.inf)
    for _ in range(_STEPS):  # each proves something
        Rw = product(size_R, w)
        y = ((1 + unit) * Rw + gamma * product(size_X, product(size_A, w)) + lost) * up
        q = xp.max(y / w, axis=1, keepdims=True) * up
        alpha = xp.max(size_X / w, axis=1, keepdims=True) * up  # |X| <= wα
        share = q / (1 - q) * up
        if sharp:
            rest = ((gamma + unit) * Rw + lost) * up  # times α, of the rounding of R and of RX
            beta = (
                xp.max((RX + lost) / w, axis=1, keepdims=True)
                + xp.max(rest / w, axis=1, keepdims=True) * alpha
            )
            found = rest * alpha + share * w * (beta * up)
        else:
            found = share * w * alpha
        least = xp.where((q < 1) & (found < least), found, least)
        w = y / xp.max(y, axis=1, keepdims=True)
    radius = (RX + least + lost) * up
    radius = in_units(radius, columns, -rows)
    radius = radius * up + 2 * arithmetic.tiny  # what becomes subnormal is rounded, or flushed
    # Rounded towards zero, or downward, what overflows is the largest number.
    return xp.where((radius >= 0) & (radius < arithmetic.largest), radius, np.inf)
