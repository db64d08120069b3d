"""Solutions of linear systems near a known matrix, and by an approximate inverse, proven."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .._arrays.conversion import as_double, as_given, namespace
from .._linalg.arithmetic import Arithmetic
from .._linalg.closed import GOOD
from .._linalg.norms import finite_rows, norm_bound, scales
from .._linalg.products import column_norms, exact_inverse, product, product_error
from .._linalg.scaling import exponents, in_units, not_zero, powers_of_two, times_power
from .._linalg.small import small_inverses
from .._linalg.units import in_common_units
from .._linalg.workspace import copied, count, empty, every, indices, pieces
from ..bounds._residual import measure
from ._anchor import SHARE, UP, Anchor, Contraction, contraction, piece_bytes
from ._exact import by_entries, has_closed_form
from ._radius import bound_of_radius, radius_near, radius_with
from ._sides import applied, in_any, sides_in_units, take_better, unknown

# A contraction that is not below this proves too little.
_CONTRACTION = 0.9
# Steps at most, and the share of a correction that the next one must not exceed.
_STEPS, _PROGRESS = 40, 0.7
# Share of the systems that others may wait for, unless matrices have so few entries in all that a
# step of all systems costs less than a proof of some.
_FEW, _LITTLE = 0.25, 2**18
# Columns that are solved for at once, at most: bounds of more are in fresh memory each.
_COLUMNS = 2**14
# Subnormal numbers over this, or less, are normal ones, of which no mode takes any for zeros.
_SUBNORMAL = 2.0**-52
# Right-hand sides of norms between these are not scaled, see SHARE.
_MODERATE = 1e-70, 1e70


def solve_near(anchor: Anchor, A: Any, b: Any, tol: float, moderate: Any = None) -> tuple[Any, Any]:
    """Solve systems A x = b, (m, n, n) and (m, n, k), whose matrices are near a known one.

    Both are finite, `b` is in double precision; `moderate` is :func:`moderate_columns` of it, if
    that is known. Returned are solutions (m, n, k), NaN for matrices too far from the known one,
    and proven bounds (m, k) of ‖x − A⁻¹b‖₂ / ‖x‖₂ for each column, inf where nothing is proven;
    `tol` is what is aimed at.
    """
    known, anchor = anchor, anchor.beside(b)
    with np.errstate(all="ignore"):
        moderate = moderate_columns(b) if moderate is None else moderate
        if not anchor.moved and every(moderate):
            x, bound = _near_piece(anchor, as_double(A), b, tol)
        else:
            x, bound = unknown(b)
            other = in_any(~moderate) | anchor.moved
            rows = indices(~other)
            if len(rows):
                x[rows], bound[rows] = _near_piece(anchor, as_double(A[rows]), b[rows], tol)
            _near_in_units(anchor, A, b, tol, x, bound, other)
        _sharpen(x, bound, tol, lambda rows: radius_near(known, A[rows], b[rows], x[rows]))
    return x, bound


def _sharpen(x: Any, bound: Any, tol: float, radius: Callable) -> None:
    """Bound solutions entry by entry, which proves and costs more, where norms prove too little."""
    proven = bound <= tol
    if not every(proven):
        xp = namespace(x)
        rows = indices(xp.any(xp.isfinite(x[:, 0]) & ~proven, axis=1))
        bound[rows] = xp.minimum(bound[rows], bound_of_radius(x[rows], radius(rows)))


def _near_in_units(
    anchor: Anchor, A: Any, b: Any, tol: float, x: Any, bound: Any, mask: Any
) -> None:
    """Fill in solutions and bounds where a mask is true, by the units of an anchor."""
    same = np.zeros((1, b.shape[1]), dtype=np.int64)
    units_b, units_x = (as_given(unit, b) for unit in anchor.taken or (same, same))
    for rows in _rows_of(mask, b):
        a = in_units(as_double(A[rows]), -units_b, units_x)
        x[rows], bound[rows] = _solve_in_units(
            b[rows],
            units_b,
            units_x,
            lambda b, share, a=a: _near_piece(anchor, a, b, tol, share),
        )


def moderate_columns(b: Any) -> Any:
    """Tell which columns of right-hand sides (m, n, k) are finite, and not huge, tiny or zero."""
    with np.errstate(all="ignore"):
        size = column_norms(b)
    return (size > _MODERATE[0]) & (size < _MODERATE[1])


def blocks_of(m: int, b: Any) -> Iterator[slice]:
    """Cut m systems into pieces for the cache, by their matrices or by their vectors."""
    n, k = b.shape[1:]
    memory = min(piece_bytes(n) * n // max(n, 4 * k), _COLUMNS // max(k, 1) * n * n * b.itemsize)
    return pieces(m, n, b.itemsize, memory)


def _rows_of(mask: Any, b: Any) -> Iterator[Any]:
    """Cut the rows where a mask is true into pieces for the cache: slices, if it is for all."""
    rows = None if mask is None or bool(mask.all()) else indices(mask)
    m = len(b if rows is None else rows)
    for piece in blocks_of(m, b):
        yield piece if rows is None else rows[piece]


def _near_piece(anchor: Anchor, A: Any, b: Any, tol: float, share: Any = None) -> tuple[Any, Any]:
    """Solve systems in the units of an anchor."""
    known, fixed = contraction(anchor, A), (anchor.weights, share)
    near = known.q < _CONTRACTION
    if every(near):
        return _iterate(anchor.inverse, A, b, known, tol, *fixed)
    (x, bound), rows = unknown(b), indices(near)
    if len(rows):
        known = known.rows(rows)
        x[rows], bound[rows] = _iterate(anchor.inverse, A[rows], b[rows], known, tol, *fixed)
    return x, bound


def solve_with(
    P: Any, A: Any, b: Any, tol: float, known: Contraction | None = None
) -> tuple[Any, Any]:
    """Solve systems with an approximate inverse P of each matrix.

    Once more, where nothing is proven, in units in which rows and columns are of one size. `known`
    is what is known of these inverses, if it is known already.
    """
    xp = namespace(b)
    with np.errstate(all="ignore"):
        unit, plain = scales(A, SHARE), ~in_any(~moderate_columns(b))
        if unit is not None:
            plain = plain & (unit[:, 0, 0] == 1)

        def solve(rows: Any) -> tuple[Any, Any]:
            more = None if known is None else known.rows(rows)
            return _with_piece(P[rows], A[rows], b[rows], tol, None, more)

        blocks = list(_rows_of(plain, b))
        if len(blocks) == 1 and isinstance(blocks[0], slice):
            x, bound = solve(blocks[0])
        else:
            x, bound = unknown(b)
            for rows in blocks:
                x[rows], bound[rows] = solve(rows)
        proven = bound <= tol
        open_ = [] if every(proven) else _rows_of(xp.any(~proven, axis=1), b)
        for rows in open_:
            a, p, units_b = A[rows], P[rows], 0
            if unit is not None:  # of subnormal matrices; of others it might take small entries
                power = powers_of_two(a, (1, 2))
                power = xp.where(power <= _SUBNORMAL, power, xp.ones_like(power))
                a, p = times_power(a, 1 / power), times_power(p, power)
                units_b = exponents(power)[:, 0]
            a, p, more, units_x = in_common_units(a, p)
            found = _solve_in_units(
                b[rows],
                units_b + more,
                units_x,
                lambda b, share, a=a, p=p: _with_piece(p, a, b, tol, share),
            )
            take_better(x, bound, rows, *found)
        _sharpen(x, bound, tol, lambda rows: radius_with(P[rows], A[rows], b[rows], x[rows]))
    return x, bound


def _with_piece(
    P: Any, A: Any, b: Any, tol: float, share: Any, known: Contraction | None = None
) -> tuple[Any, Any]:
    """Solve systems with an approximate inverse of each matrix."""
    known = _contraction_of(*_contraction_by(P, A)) if known is None else known
    return _iterate(P, A, b, known, tol, None, share)


def _solve_in_units(b: Any, units_b: Any, units_x: Any, solve: Callable) -> tuple[Any, Any]:
    """Solve systems in other units of b and x, powers of two, and carry solutions and bounds back.

    ``solve(b, share)`` bounds the errors of y by those of share·y, which is the solution in
    the caller's units but for one power of two.
    """
    xp, n = namespace(b), b.shape[1]
    largest = xp.max(units_x, axis=1, keepdims=True)
    zero = ~xp.any(not_zero(b), axis=1)
    b, moved = sides_in_units(b, units_b)
    one = xp.ones_like(abs(b[: len(units_x), :, :1]))
    share = in_units(one, units_x - largest, 0 * largest)
    y, bound = solve(b, share)
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
) -> tuple[Any, Any]:
    """Iterate x ← x + P(b − Ax) until the relative errors are proven to be within `tol`.

    Norms of A and b, unless that is 0, are moderate. Relative errors are those of x times a `share`
    of at most 1 for each entry.
    """
    xp, rows = namespace(b), None
    # Memory that is used again at each step, in which norms are taken of several at once.
    space = empty(b, (4, *b.shape))
    space[0] = b
    b, r, x, step = space
    applied(P, b, x)
    rate = (known.q / (1 - known.q))[:, None]
    # Steps of this size or less are worth a proof: the leading term would do, as far as is known.
    wanted = tol / rate * column_norms(x if share is None else x * share)
    little = math.prod(A.shape) <= _LITTLE
    few = 0 if little else _FEW * len(b)
    early = too_early(float(known.q[0]), tol) if little and len(b) else 0
    previous = float("inf")
    for k in range(_STEPS):
        xp.subtract(b, product(A, x, out=r), out=r)
        x += applied(P, r, step)
        if k < early:
            continue
        size_step = _norms(space[3:])[0]
        slow = ~(size_step < _PROGRESS * previous)
        previous = size_step
        open_ = in_any(~((size_step <= wanted) | slow))
        if count(open_) > min(few, _FEW * len(b)) and k < _STEPS - 1:
            early = k + _steps_to(wanted, size_step, tol / rate, k) if little else 0
            continue
        bound = _bound_of_step(space, size_step, known, rate, weights, share)
        if rows is None:
            solutions, bounds = copied(x), bound
        else:
            solutions[rows], bounds[rows] = x, bound
        proven = bound <= tol
        if k == _STEPS - 1 or every(proven):
            break
        left = indices(open_ | in_any(~(proven | slow)))
        if not len(left):
            break
        rows = left if rows is None else rows[left]
        known, previous = known.rows(left), previous[left]
        rate, wanted = rate[left], wanted[left]
        space, A = space[:, left], A[left]
        b, r, x, step = space
        P = P if P.ndim == 2 else P[left]
        share = share if share is None or len(share) == 1 else share[left]
    return solutions, bounds


def _norms(stacks: Any) -> Any:
    """Return the norms of columns of stacks (j, m, n, k), as they are rounded, at once."""
    j, m, n, k = stacks.shape
    return column_norms(stacks.reshape(j * m, n, k)).reshape(j, m, k)


def too_early(q: float, tol: float) -> int:
    """Return how many steps, two at most, are too few for a contraction to reach a tolerance."""
    return min(2, int(math.log(tol) / math.log(q)) - 2) if 0 < q < 1 and tol < 1 else 0


def _steps_to(wanted: Any, size: Any, share: Any, k: int) -> int:
    """Return how many steps after the k-th, of so large a size, the slowest system seems to need.

    What is wanted is a share of the size of x.
    """
    times = size / wanted
    worst = int(times.argmax())
    left, first = float(times.reshape(-1)[worst]), float(share[worst // times.shape[1], 0])
    contraction = (left * first) ** (1 / (k + 1)) if 1 < left < np.inf else 1.0
    if not 0 < contraction < 1:
        return 1
    return min(math.ceil(-math.log(left) / math.log(contraction)), _STEPS - 1 - k)


def _bound_of_step(
    space: Any, size_step: Any, known: Contraction, rate: Any, weights: Any, share: Any
) -> Any:
    """Bound the relative errors of x, to which a step Pr from r = b − Ay has led.

    A⁻¹b − y = (PA)⁻¹Pr, so A⁻¹b − x is at most q/(1 − q)·‖Pr‖. The computed r is off by
    γ(|b| + |A||y|), and the computed Pr by γ|P||r|. As norms are moderate, what underflows in sums
    and in the squares of norms is allowed for by `lost`.
    """
    size_b, size_r, size_x = _norms(space[:3])
    x, step = space[2:]
    xp, n, arithmetic = namespace(step), step.shape[1], Arithmetic.of(step)
    length = size_x if share is None else column_norms(x * share)
    figures = known.spectral, known.size_P, size_b, size_r, size_x + size_step
    off = rounding_of_step(arithmetic, n, known.size_A[:, None], *figures)
    ahead = rate * (size_step + off)
    if weights is not None and count(known.weighted):
        w = weights[:, None] if share is None else weights[:, None] * share[0]
        most = xp.max(abs(step) / weights[:, None], axis=1) + off / float(weights.min())
        ahead = xp.where(known.weighted[:, None], rate * column_norms(w[None]) * most, ahead)
    bound = relative_error(arithmetic, n, ahead + off, length)
    bound = xp.where(bound >= 0, bound, np.inf)
    if share is not None:  # sides of 0 are not moderate, and so in other units
        zero = (size_b == 0) & (size_x == 0) & (rate < np.inf)
        bound = xp.where(zero, xp.zeros_like(bound), bound)
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
    """Bound the relative error of x, of so large a norm, whose norms were computed.

    That is (error·(1 + 2γ) + 2u·length)/(length·(1 − 2γ) − lost). The length is larger than lost/γ,
    or else the bound is negative or infinite, as errors are no less than `lost`.
    """
    gamma, lost = arithmetic.gamma(n + 4), 8 * n * arithmetic.tiny**0.5
    share = error / (length - lost / gamma) * ((1 + 2 * gamma) / (1 - 2 * gamma) * UP)
    return share + 2 * arithmetic.unit * (1 + 8 * gamma) * UP


def solve_exactly(A: Any, b: Any, tol: float) -> tuple[Any, Any]:
    """Solve in float64 by inverses from scratch."""
    with np.errstate(all="ignore"):
        P, known = _inverses(A)
    regular = finite_rows(P)
    if every(regular):
        return solve_with(P, A, b, tol, known=known)
    x, bound = unknown(b)
    if count(regular):
        known = None if known is None else known.rows(regular)
        given = P[regular], A[regular], b[regular]
        x[regular], bound[regular] = solve_with(*given, tol, known=known)
    return x, bound


def _inverses(A: Any) -> tuple[Any, Contraction | None]:
    """Return inverses as good as LAPACK's, and what is known of them, if that is known already.

    A relative error of e in the Frobenius norm is ‖I − PA‖ <= e‖A⁻¹‖‖A‖ <= e/(1 − e)·‖P‖‖A‖.
    """
    n = A.shape[1]
    if not by_entries(A):
        return exact_inverse(A), None
    P = np.empty_like(A)
    if has_closed_form(A):
        error = np.empty(len(A))
        small_inverses(A, P, error)
        size_A, size_P = norm_bound(A, "fro"), norm_bound(P, "fro")
        q, good = error / (1 - error) * size_A * size_P * UP, error < np.inf
    else:
        small_inverses(A, P)
        q, size_A, size_P = _contraction_by(P, A)
        good = (q <= GOOD * Arithmetic.of(A).gamma(n) * size_A * size_P) & (q < 1)
    weak = indices(~good)
    if len(weak):
        P[weak] = exact_inverse(A[weak])
        q[weak], _, size_P[weak] = _contraction_by(P[weak], A[weak])
    return P, _contraction_of(q, size_A, size_P)


def _contraction_by(P: Any, A: Any) -> tuple[Any, Any, Any]:
    """Bound ‖I − PA‖, ‖A‖ and ‖P‖ for each matrix, in the Frobenius norm."""
    found = measure(P, A, product_error(P, A), "fro")
    return found.bound, found.X, found.A


def _contraction_of(q: Any, size_A: Any, size_P: Any) -> Contraction:
    """Return what bounds tell of iterations with an inverse of each matrix."""
    q = namespace(q).where(q < 1, q, np.nan)
    return Contraction(q, q < 0, size_A, size_P[:, None], size_P[:, None])
