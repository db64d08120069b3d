"""Residuals in twice the working precision, and what they prove of an inverse.

Numbers are cut into slices of so few bits that sums of products of these are exact, in any order,
fused or not (Ozaki, Ogita, Oishi & Rump 2012, "Error-free transformations of matrix multiplication
by using fast routines of matrix multiplication"; sums after Ogita, Rump & Oishi 2005, "Accurate sum
and dot product"). Matrices whose condition number is past 1/u have no inverse in double precision
that a residual proves: the sum of two is taken there, YX with Y an inverse of XA (Rump 1990,
"Rigorous sensitivity analysis for systems of linear and nonlinear equations").
"""

from typing import Any, NamedTuple

import numpy as np

from .._arrays.conversion import as_double, is_complex, namespace
from .arithmetic import Arithmetic
from .products import add_to_diagonal, exact_inverse, product
from .scaling import in_units, powers_of_two
from .threads import in_threads
from .units import in_common_units
from .workspace import empty, empty_like, indices, pieces

# Bytes of a stack in a piece, of which two dozen are held at once.
_PIECE = 2**17
# Past this q the sum of two matrices is taken, and numbers are cut into more slices.
_FAR = 2.0**-14
_FEW, _MANY = 2, 4
# Steps towards the weights with the smallest q, where it is not small for weights of 1.
_STEPS = 4
# Sums of positive numbers are off by n + 16 roundings at most.
_ROUNDINGS = 16


def corrections(A: Any, X: Any) -> tuple[Any, Any]:
    """Return D and radius, |A⁻¹ − (X + D)| <= radius entry by entry, for stacks (m, n, n).

    In double precision; radius is inf where nothing is proven.
    """
    m, n = A.shape[:2]
    D = empty_like(as_double(A))
    radius = empty(A, (m, n, n), namespace(A).float64)

    def correct(piece: slice) -> None:
        with np.errstate(all="ignore"):
            D[piece], radius[piece] = _correct_piece(as_double(A[piece]), as_double(X[piece]))

    in_threads(correct, pieces(m, n, D.itemsize, _PIECE), A)
    return D, radius


def _correct_piece(A: Any, X: Any) -> tuple[Any, Any]:
    """Return corrections and their radii, computed in units where weights are near 1."""
    xp, arithmetic = namespace(A), Arithmetic.of(A)
    A, X, rows, columns = in_common_units(A, X)
    left, right = Left.of(X, _FEW), Right.of(A, _FEW)
    R = _residual(left, right)
    D, radius, q = _enclosed(X, R, left, right, 1)
    far = indices(~(q < _FAR))
    if len(far):
        some, r, new = _of_two(A[far], X[far], R[far])
        better = ~(new >= q[far])[:, None, None]
        D[far] = xp.where(better, some, D[far])
        radius[far] = xp.where(better, r, radius[far])
    D, radius = in_units(D, columns, -rows), in_units(radius, columns, -rows)
    radius = radius * (1 + 2.0**-46) + 4 * arithmetic.tiny  # what becomes subnormal is rounded
    nearest = 2 * arithmetic.unit == xp.finfo(D.dtype).eps
    return D, xp.where((radius >= 0) & nearest, radius, np.inf)


def _of_two(A: Any, X: Any, R: Any) -> tuple[Any, Any, Any]:
    """Return corrections, radii and q by way of Z + low = YX, Y an inverse of XA = R + I."""
    xp, unit = namespace(A), Arithmetic.of(A).unit
    add_to_diagonal(R, 1)
    Y = exact_inverse(xp.where(xp.isfinite(R), R, 0.0))
    Z, low = _two_sum(*_added(*_by_level(Left.of(Y, _MANY), Right.of(X, _MANY))))
    left, right = Left.of(Z, _MANY, low), Right.of(A, _MANY)
    C, radius, q = _enclosed(Z, _residual(left, right), left, right, _STEPS)
    C, step = C + left.low, Z - X
    # Each of these is rounded, and so is the sum; left.low is not that of Z to the last bit.
    radius = radius + 8 * unit * (abs(step) + abs(C) + abs(left.low))
    return step + C, radius * (1 + 2.0**-46), q


def _enclosed(X: Any, R: Any, left: "Left", right: "Right", steps: int) -> tuple[Any, Any, Any]:
    """Return C = −RX, the radius about X + C, and q, of a residual R = (X + low)A − I as computed.

    With |R|w <= qw, A⁻¹ = X − RX + R²X − … (see :mod:`skinv.bounds._components`).
    """
    xp, n, arithmetic = namespace(X), X.shape[-1], Arithmetic.of(X)
    unit, gamma = arithmetic.unit, arithmetic.gamma(n)
    up = 1 + 2 * (n + _ROUNDINGS) * unit
    C = -product(R, X)
    size_R, size_X, size_C = abs(R), abs(X), abs(C)
    column = xp.max(right.size, axis=2, keepdims=True)
    row, diagonal = _rounding(arithmetic, n, left)
    least: Any = np.inf
    best: Any = np.inf
    w = xp.ones_like(left.size)
    Rw = product(size_R, w)
    lost = column + xp.max(left.size + Rw, axis=1, keepdims=True)
    lost = 64 * n * n * arithmetic.tiny * (1 + lost)  # what underflows
    for step in range(steps):  # each proves something
        off = row * product(right.size, w) + diagonal * w + lost
        y = ((1 + 3 * unit) * Rw + off) * up
        q = xp.max(y / w, axis=1, keepdims=True) * up
        alpha = xp.max(size_X / w, axis=1, keepdims=True) * up  # |X + low| <= wα
        share = q / (1 - q) * up
        rest = ((gamma + 5 * unit) * Rw + off) * up  # times α, of the rounding of R and of RX
        beta = xp.max(size_C / w, axis=1, keepdims=True)
        beta = beta + xp.max((rest + lost) / w, axis=1, keepdims=True) * (1 + alpha)
        found = rest * alpha + w * (share * beta * up)
        least = xp.where((q < 1) & (found < least), found, least)
        best = xp.where(q < best, q, best)
        if step + 1 < steps:
            w = y / xp.max(y, axis=1, keepdims=True)
            Rw = product(size_R, w)
    return C, (least + lost) * up, best[:, 0, 0]


# -- products of slices --


class Left(NamedTuple):
    """The left factor M + low of a product, cut into slices side by side."""

    size: Any  # powers of two that no part of an entry of a row is past, (m, n, 1)
    slices: Any  # M₁, …, M_k and what is left of M + low, (m, n, (k + 1)n)
    low: Any

    @classmethod
    def of(cls, M: Any, count: int, low: Any = None) -> "Left":
        """Cut M + low, |low| <= u|M|, of which low is rounded for that; the sum is what is cut."""
        size, slices, rests = _cut(M, 2, count, low)
        slices.append(rests[-1])
        return cls(size, namespace(M).concat(slices, axis=2), None if low is None else rests[0])


class Right(NamedTuple):
    """The right factor N, cut into slices one below the other, as each product asks for them."""

    size: Any  # powers of two that no part of an entry of a column is past, (m, 1, n)
    stacks: list[Any]  # (N₁), (N₂, N₁), …, and at last what is left of N after k, …, 0 slices

    @classmethod
    def of(cls, N: Any, count: int) -> "Right":
        xp = namespace(N)
        size, slices, rests = _cut(N, 1, count)
        stacks = [xp.concat(slices[i::-1], axis=1) for i in range(count)]
        return cls(size, [*stacks, xp.concat(rests[::-1], axis=1)])


def _bits(n: int, whole: bool, count: int) -> int:
    """Return β: sums of kn products of integers up to 2^β are at most 2^53.

    Of complex ones by three real products, which are of sums of two, 4 times that many.
    """
    return (53 - ((4 if whole else 1) * count * n - 1).bit_length()) // 2


def _cut(M: Any, axis: int, count: int, low: Any = None) -> tuple[Any, list[Any], list[Any]]:
    """Return sizes, slices M₁, …, M_k, and what is left of M after 0, …, k of them.

    Exactly, but for what underflows. M_i are multiples of 2^(−iβ) size, and what is left at most
    half of that: a number that is so heavy that no bits of less weight have a place rounds to
    such multiples what is added to it, and taken off again. Where there is a low part it is
    added to what is left of two slices, and itself, as it was added, returned in the place of M.
    """
    whole = is_complex(M)
    bits = _bits(M.shape[-1], whole, count)
    size = 2 * powers_of_two(M, axis)
    heavy = size * (1.5 + 1.5j if whole else 1.5)
    slices, rests = [], [M]
    for i in range(1, count + 1):
        weight = heavy * 2.0 ** (52 - i * bits)
        slices.append((rests[-1] + weight) - weight)
        rests.append(rests[-1] - slices[-1])
        if i == _FEW and low is not None:
            both = rests[-1] + low
            rests[0], rests[-1] = both - rests[-1], both
    return size, slices, rests


def _rounding(arithmetic: Arithmetic, n: int, left: Left) -> tuple[Any, float]:
    """Return by what R = (M + low)N − I, as computed, is off, beside 3u|R|.

    By the first number of a row times the size of a column, the second on the diagonal, and what
    underflows. With s = 2^(−kβ − 1) times the sizes of a row and of a column, M₁ times what is left
    of N after k slices is at most ns, and so are M₂ times what is left after k − 1 of them, and all
    others; the last, where there is a low part and k = 2, at most 2ns. So their sum V is at most
    (k + 2)ns and off by γ_{(k+1)n} of that. To it k − 1 numbers are added, by which sums of the
    other products, all exact, are off: at most u times what is left of them, |I + R| and products
    of less weight. So that is off by ku(|V| + ku|I + R|), and the rest of V's share that is
    allowed for. Of complex numbers the sizes are those of parts, and moduli √2 times that.
    """
    count = left.slices.shape[2] // n - 1
    least = 2.0 ** (-count * _bits(n, arithmetic.is_complex, count) - 1)
    gamma = arithmetic.gamma((count + 1) * (n + 2)) * (2 if arithmetic.is_complex else 1)
    row = left.size * (gamma * (count + 2) * n * least)
    return row, 2 * ((count + 1) * arithmetic.unit) ** 2


def _by_level(left: Left, right: Right) -> list[Any]:
    """Return M₁N₁, M₁N₂ + M₂N₁, …, which are exact, and the rest of MN, which is not."""
    return [product(left.slices[:, :, : B.shape[1]], B) for B in right.stacks]


def _residual(left: Left, right: Right) -> Any:
    """Return MN − I, off by no more than :func:`_rounding` says."""
    S, low = _added(*_by_level(left, right))
    add_to_diagonal(S, -1)
    return S + low


def _added(S: Any, *others: Any) -> tuple[Any, Any]:
    """Return a sum as one of two matrices, the second of which is small."""
    low = others[-1]
    for other in others[:-1]:
        S, off = _two_sum(S, other)
        low = low + off
    return S, low


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return fl(a + b) and what it is off by, exactly (Knuth), where rounding is to nearest."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)
