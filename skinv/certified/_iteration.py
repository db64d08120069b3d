"""Solutions of linear systems near a known matrix, and by an approximate inverse, proven."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .._arrays.conversion import as_double, as_given, namespace
from .._linalg.arithmetic import Arithmetic
from .._linalg.norms import finite_rows, scales
from .._linalg.products import column_norms, exact_inverse, product, product_error
from .._linalg.scaling import exponents, in_units, not_zero, powers_of_two, times_power
from .._linalg.units import in_common_units
from .._linalg.workspace import copied, empty_like, indices, pieces
from ..bounds._residual import measure
from ._anchor import SHARE, UP, Anchor, Contraction, contraction, piece_bytes
from ._radius import bound_of_radius, radius_near, radius_with
from ._sides import applied, in_any, sides_in_units, take_better, unknown

# A contraction that is not below this proves too little.
_CONTRACTION = 0.9
# Steps at most, and the share of a correction that the next one must not exceed.
_STEPS, _PROGRESS = 40, 0.7
# Share of the systems that others may wait for, unless matrices have so few entries in all that a
# step of all systems costs less than a proof of some.
_FEW, _LITTLE = 0.25, 2**18
# Right-hand sides of norms between these are not scaled, see SHARE.
_MODERATE = 1e-70, 1e70


def solve_near(anchor: Anchor, A: Any, b: Any, tol: float) -> tuple[Any, Any]:
    """Solve systems A x = b, (m, n, n) and (m, n, k), whose matrices are near a known one.

    Both are finite, `b` is in double precision. Returned are solutions (m, n, k), NaN for matrices
    too far from the known one, and proven bounds (m, k) of ‖x − A⁻¹b‖₂ / ‖x‖₂ for each column, inf
    where nothing is proven; `tol` is what is aimed at.
    """
    (x, bound), known, anchor = unknown(b), anchor, anchor.beside(b)
    with np.errstate(all="ignore"):
        plain = _are_moderate(b) & (not anchor.moved)
        every = bool(plain.all())
        for rows in _rows_of(None if every else plain, b):
            x[rows], bound[rows] = _near_piece(anchor, as_double(A[rows]), b[rows], tol)
        if not every:
            _near_in_units(anchor, A, b, tol, x, bound, ~plain)
        _sharpen(x, bound, tol, lambda rows: radius_near(known, A[rows], b[rows], x[rows]))
    return x, bound


def _sharpen(x: Any, bound: Any, tol: float, radius: Callable) -> None:
    """Bound solutions entry by entry, which proves and costs more, where norms prove too little."""
    xp, open_ = namespace(x), ~(bound <= tol)
    if bool(open_.any()):
        rows = indices(xp.any(xp.isfinite(x[:, 0]) & open_, axis=1))
        bound[rows] = xp.minimum(bound[rows], bound_of_radius(x[rows], radius(rows)))


def _near_in_units(
    anchor: Anchor, A: Any, b: Any, tol: float, x: Any, bound: Any, mask: Any
) -> None:
    """Fill in solutions and bounds where a mask is true, by the units of an anchor."""
    units_b, units_x = (as_given(unit * anchor.moved, b) for unit in anchor.units)
    for rows in _rows_of(mask, b):
        a = in_units(as_double(A[rows]), -units_b, units_x)
        x[rows], bound[rows] = _solve_in_units(
            b[rows],
            units_b,
            units_x,
            lambda b, share, _, a=a: _near_piece(anchor, a, b, tol, share),
        )


def _are_moderate(b: Any) -> Any:
    """Tell of which rows no right-hand side is huge, tiny or zero."""
    size = column_norms(b)
    return ~in_any(~((size > _MODERATE[0]) & (size < _MODERATE[1])))


def _rows_of(mask: Any, b: Any) -> Iterator[Any]:
    """Cut the rows where a mask is true into pieces for the cache: slices, if it is for all."""
    rows = None if mask is None or bool(mask.all()) else indices(mask)
    m, n = len(b if rows is None else rows), b.shape[1]
    for piece in pieces(m, n, b.itemsize, piece_bytes(n)):
        yield piece if rows is None else rows[piece]


def _near_piece(anchor: Anchor, A: Any, b: Any, tol: float, share: Any = None) -> tuple[Any, Any]:
    """Solve systems in the units of an anchor."""
    known, fixed = contraction(anchor, A), (anchor.weights, share)
    near = known.q < _CONTRACTION
    if bool(near.all()):
        return _iterate(anchor.inverse, A, b, known, tol, *fixed)
    (x, bound), rows = unknown(b), indices(near)
    if len(rows):
        known = known.rows(rows)
        x[rows], bound[rows] = _iterate(anchor.inverse, A[rows], b[rows], known, tol, *fixed)
    return x, bound


def solve_with(P: Any, A: Any, b: Any, tol: float, start: Any = None) -> tuple[Any, Any]:
    """Solve systems with an approximate inverse P of each matrix, from `start` or from Pb.

    Once more, where nothing is proven, in units in which rows and columns are of one size.
    """
    xp, (x, bound) = namespace(b), unknown(b)
    with np.errstate(all="ignore"):
        unit, plain = scales(A, SHARE), _are_moderate(b)
        if unit is not None:
            plain = plain & (unit[:, 0, 0] == 1)
        for rows in _rows_of(plain, b):
            first = None if start is None else start[rows]
            x[rows], bound[rows] = _with_piece(P[rows], A[rows], b[rows], tol, None, first)
        for rows in _rows_of(xp.any(~(bound <= tol), axis=1), b):
            first = None if start is None else start[rows]
            a, p, units_b = A[rows], P[rows], 0
            if unit is not None:  # of subnormal matrices; of others it might take small entries
                power = powers_of_two(a, (1, 2)).clip(max=1.0)
                a, p = times_power(a, 1 / power), times_power(p, power)
                units_b = exponents(power)[:, 0]
            a, p, more, units_x = in_common_units(a, p)
            found = _solve_in_units(
                b[rows],
                units_b + more,
                units_x,
                lambda b, share, first, a=a, p=p: _with_piece(p, a, b, tol, share, first),
                first,
            )
            take_better(x, bound, rows, *found)
        _sharpen(x, bound, tol, lambda rows: radius_with(P[rows], A[rows], b[rows], x[rows]))
    return x, bound


def _with_piece(P: Any, A: Any, b: Any, tol: float, share: Any, start: Any) -> tuple[Any, Any]:
    """Solve systems with an approximate inverse of each matrix."""
    found = measure(P, A, product_error(P, A), "fro")
    known = Contraction(found.bound, found.bound < 0, found.X, *[found.A[:, None]] * 2)
    return _iterate(P, A, b, known, tol, None, share, start)


def _solve_in_units(
    b: Any, units_b: Any, units_x: Any, solve: Callable, start: Any = None
) -> tuple[Any, Any]:
    """Solve systems in other units of b and x, powers of two, and carry solutions and bounds back.

    ``solve(b, share, start)`` bounds the errors of y by those of share·y, which is the solution in
    the caller's units but for one power of two.
    """
    xp, n = namespace(b), b.shape[1]
    largest = xp.max(units_x, axis=1, keepdims=True)
    zero = ~xp.any(not_zero(b), axis=1)
    b, moved = sides_in_units(b, units_b)
    if start is not None:
        start = xp.where(zero[:, None], 0 * b, in_units(start, -units_x, -moved))
    one = xp.ones_like(abs(b[: len(units_x), :, :1]))
    share = in_units(one, units_x - largest, 0 * largest)
    y, bound = solve(b, share, start)
    z = in_units(y, units_x - largest, 0 * moved)
    x = in_units(z, largest + 0 * units_x, moved)
    again = in_units(x, -largest + 0 * units_x, -moved)  # what has not over- or underflown
    gamma, length = Arithmetic.of(b).gamma(n + 4), column_norms(again)
    error = (bound * column_norms(z) + column_norms(again - z)) * (1 + 4 * gamma)
    found = (error / (length * (1 - gamma)) + 2.0**-900) * UP
    found = xp.where(zero, bound, found)  # that of 0 is 0 in any units
    good = (found < 1) & xp.isfinite(length) & xp.all(xp.isfinite(x), axis=1)
    return x, xp.where(good, found, np.inf)


def _iterate(
    P: Any,
    A: Any,
    b: Any,
    known: Contraction,
    tol: float,
    weights: Any = None,
    share: Any = None,
    start: Any = None,
) -> tuple[Any, Any]:
    """Iterate x ← x + P(b − Ax) until the relative errors are proven to be within `tol`.

    Norms of A and b, unless that is 0, are moderate. Relative errors are those of x times a `share`
    of at most 1 for each entry.
    """
    xp, rows = namespace(b), None
    r, step = empty_like(b), empty_like(b)  # no fresh pages at each step
    x = applied(P, b) if start is None else copied(start)
    # Steps of this size or less are worth a proof: the leading term would do, as far as is known.
    wanted = tol * (1 / known.q - 1)[:, None] * column_norms(x if share is None else x * share)
    little = math.prod(A.shape) <= _LITTLE
    few = 0 if little else _FEW * len(b)
    early = _too_early(float(known.q[0]), tol) if little and len(b) else 0
    previous = float("inf")
    for k in range(_STEPS):
        xp.subtract(b, product(A, x, out=r), out=r)
        x += applied(P, r, step)
        if k < early:
            continue
        size_step = column_norms(step)
        slow = ~(size_step < _PROGRESS * previous)
        previous = size_step
        open_ = in_any(~((size_step <= wanted) | slow))
        if int(open_.sum()) > min(few, _FEW * len(b)) and k < _STEPS - 1:
            continue
        bound = _bound_of_step(b, r, step, size_step, x, known, weights, share)
        open_ = open_ | in_any(~((bound <= tol) | slow))
        if rows is None:
            solutions, bounds = x, bound
        else:
            solutions[rows], bounds[rows] = x, bound
        if k == _STEPS - 1 or not bool(open_.any()):
            break
        left = indices(open_)
        if len(left) < len(b):
            rows = left if rows is None else rows[left]
            known, previous = known.rows(left), previous[left]
            A, b, x, wanted = A[left], b[left], x[left], wanted[left]
            r, step = r[: len(left)], step[: len(left)]
            P = P if P.ndim == 2 else P[left]
            share = share if share is None or len(share) == 1 else share[left]
    return solutions, bounds


def _too_early(q: float, tol: float) -> int:
    """Return how many steps, two at most, are too few for a contraction to reach a tolerance."""
    return min(2, int(math.log(tol) / math.log(q)) - 2) if 0 < q < 1 and tol < 1 else 0


def _bound_of_step(
    b: Any,
    r: Any,
    step: Any,
    size_step: Any,
    x: Any,
    known: Contraction,
    weights: Any,
    share: Any,
) -> Any:
    """Bound the relative errors of x, to which a step Pr from r = b − Ay has led.

    A⁻¹b − y = (PA)⁻¹Pr, so A⁻¹b − x is at most q/(1 − q)·‖Pr‖. The computed r is off by
    γ(|b| + |A||y|), and the computed Pr by γ|P||r|. As norms are moderate, what underflows in sums
    and in the squares of norms is allowed for by `lost`.
    """
    xp, n, arithmetic = namespace(b), b.shape[1], Arithmetic.of(b)
    q, size_A = known.q[:, None], known.size_A[:, None]
    size_b, size_r, size_x = map(column_norms, (b, r, x))
    length, rate = size_x if share is None else column_norms(x * share), q / (1 - q)
    figures = known.spectral, known.size_P, size_b, size_r, size_x + size_step
    off = rounding_of_step(arithmetic, n, size_A, *figures)
    ahead = rate * (size_step + off)
    if weights is not None and bool(known.weighted.any()):
        w = weights[:, None] if share is None else weights[:, None] * share[0]
        most = xp.max(abs(step) / weights[:, None], axis=1) + off / float(weights.min())
        ahead = xp.where(known.weighted[:, None], rate * column_norms(w[None]) * most, ahead)
    bound = relative_error(arithmetic, n, ahead + off, length)
    bound = xp.where((q < 1) & (bound >= 0), bound, np.inf)
    if share is not None:  # sides of 0 are not moderate, and so in other units
        bound = xp.where((size_b == 0) & (size_x == 0) & (q < 1), xp.zeros_like(bound), bound)
    return bound


def rounding_of_step(
    arithmetic: Arithmetic,
    n: int,
    size_A: Any,
    spectral: Any,
    size_P: Any,
    size_b: Any,
    size_r: Any,
    size_y: Any,
) -> Any:
    """Bound what the step Pr, r = b − Ay, is off, from norms."""
    gamma, lost = arithmetic.gamma(n + 4), 8 * n * arithmetic.tiny**0.5
    off = gamma * (size_b + size_A * size_y) + lost * (1 + size_A + size_y)
    return gamma * size_P * size_r + spectral * off + lost * (1 + size_P)


def relative_error(arithmetic: Arithmetic, n: int, error: Any, length: Any) -> Any:
    """Bound the relative error of x, of so large a norm, whose norms were computed."""
    gamma, lost = arithmetic.gamma(n + 4), 8 * n * arithmetic.tiny**0.5
    error = error * (1 + 2 * gamma) + 2 * arithmetic.unit * length
    return error / (length * (1 - 2 * gamma) - lost) * UP


def solve_exactly(A: Any, b: Any, tol: float) -> tuple[Any, Any]:
    """Solve by LAPACK in float64, with its inverse for the proof."""
    P = exact_inverse(A)
    regular = finite_rows(P)
    x, bound = unknown(b)
    if bool(regular.any()):
        start = namespace(A).linalg.solve(A[regular], b[regular])
        x[regular], bound[regular] = solve_with(P[regular], A[regular], b[regular], tol, start)
    return x, bound
