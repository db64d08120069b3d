"""Solutions of linear systems near a known matrix, and by an approximate inverse, proven."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .._arrays.conversion import as_double, like, namespace
from .._linalg.arithmetic import Arithmetic
from .._linalg.norms import finite_rows
from .._linalg.products import column_norms, exact_inverse, product_error
from .._linalg.scaling import (
    ZERO,
    exponents,
    in_units,
    not_zero,
    powers_of_two,
    shifted,
    times_power,
)
from .._linalg.units import in_common_units
from .._linalg.workspace import full, indices, pieces
from ..bounds._residual import measure, scaled
from ._anchor import SHARE, UP, Anchor, Contraction, contraction, piece_bytes
from ._sides import take_better, unknown

# A contraction that is not below this proves too little.
_CONTRACTION = 0.9
# Steps at most, and the share of a correction that the next one must not exceed.
_STEPS, _PROGRESS = 40, 0.7
# Share of the tolerance that solutions are to meet in other units than the caller's.
_SPARE = 2.0**-10
# Right-hand sides of norms between these are not scaled, see SHARE.
_MODERATE = 1e-70, 1e70


def solve_near(anchor: Anchor, A: Any, b: Any, tol: float) -> tuple[Any, Any]:
    """Solve systems A x = b, (m, n, n) and (m, n, k), whose matrices are near a known one.

    Both are finite, `b` is in double precision. Returned are solutions (m, n, k), NaN for matrices
    too far from the known one, and proven bounds (m, k) of ‖x − A⁻¹b‖₂ / ‖x‖₂ for each column, inf
    where nothing is proven; `tol` is what is aimed at.
    """
    x, bound = unknown(b)
    center, P, weights = (like(a, b) for a in (anchor.center, anchor.inverse, anchor.weights))

    def apply(r: Any) -> Any:
        return (r[:, :, 0] @ P.T)[:, :, None] if r.shape[2] == 1 else P @ r

    with np.errstate(all="ignore"):
        for piece in pieces(len(b), b.shape[1], b.itemsize, piece_bytes(b.shape[1])):
            a, rhs = as_double(A[piece]), b[piece]
            if anchor.unit != 1.0:
                a = times_power(a, full(bound, (), 1 / anchor.unit))
            known = contraction(anchor, a, center, P, weights)
            near = known.q < _CONTRACTION
            if not bool(near.all()):
                index = indices(near)
                a, rhs, known = a[index], rhs[index], known.rows(index)
            else:
                index = slice(None)
            if len(rhs):
                scale = None if anchor.unit == 1.0 else like(np.array(anchor.unit), a)
                x[piece][index], bound[piece][index] = _iterate(
                    a, rhs, apply, anchor.spectral, anchor.size, known, weights, tol, scale
                )
    return x, bound


def solve_with(P: Any, A: Any, b: Any, tol: float, start: Any = None) -> tuple[Any, Any]:
    """Solve systems with an approximate inverse P of each matrix, from `start` or from Pb.

    Once more, where nothing is proven, in units in which rows and columns are of one size.
    """
    x, bound = _solve_as_given(P, A, b, tol, start)
    rows = indices(namespace(b).any(~(bound <= tol), axis=1))
    if len(rows):
        start = None if start is None else start[rows]
        take_better(x, bound, rows, *_solve_in_units(P[rows], A[rows], b[rows], tol, start))
    return x, bound


def _solve_in_units(P: Any, A: Any, b: Any, tol: float, start: Any) -> tuple[Any, Any]:
    """Solve systems with rows and columns scaled by powers of two.

    ‖x − A⁻¹b‖₂ is at most that of the scaled solutions times the largest power of a column, 1 here.
    """
    xp = namespace(b)
    with np.errstate(all="ignore"):
        A, P, units_b, units_x = in_common_units(A, P)
        largest = xp.max(units_x, axis=1, keepdims=True)
        # So that of right-hand sides only what is 2^-1000 of the largest entry underflows.
        lift = 500 * xp.astype(powers_of_two(b, 1)[:, 0] < 2.0**-500, xp.int64)
        zero = ~xp.any(not_zero(b), axis=1)
        b = in_units(b, 0 * units_b, lift)
        size = xp.max(exponents(b) - units_b[:, :, None], axis=1)
        size = xp.where(size > ZERO // 2, size, 0)
        moved = size - lift  # from there back to the caller's
        if start is not None:
            start = in_units(start, -units_x, -moved)
        y, bound = _solve_as_given(P, A, in_units(b, -units_b, -size), tol * _SPARE, start)
        z = in_units(y, units_x - largest, 0 * size)
        largest = largest + 0 * units_x
        x = in_units(z, largest, moved)
        again = in_units(x, -largest, -moved)  # what has not over- or underflown
        gamma = Arithmetic.of(b).gamma(b.shape[1] + 4)
        error = (bound * column_norms(y) + column_norms(again - z)) * (1 + 4 * gamma)
        found = (error / (column_norms(again) * (1 - gamma)) + 2.0**-900) * UP
        bound = xp.where(zero, bound, found)  # that of 0 is 0 in any units
        good = (bound < 1) & xp.isfinite(column_norms(again)) & xp.all(xp.isfinite(x), axis=1)
    return x, xp.where(good, bound, np.inf)


def _solve_as_given(P: Any, A: Any, b: Any, tol: float, start: Any) -> tuple[Any, Any]:
    x, bound = unknown(b)
    with np.errstate(all="ignore"):
        for piece in pieces(len(b), b.shape[1], b.itemsize, piece_bytes(b.shape[1])):
            a, p, unit = scaled(A[piece], P[piece], SHARE)
            known = measure(p, a, product_error(p, a), "fro")
            x[piece], bound[piece] = _iterate(
                a,
                b[piece],
                p.__matmul__,
                known.A[:, None],
                known.A[:, None],
                Contraction(known.bound, known.bound < 0, known.X),
                None,
                tol,
                unit,
                None if start is None else start[piece],
            )
    return x, bound


def _iterate(
    A: Any,
    b: Any,
    apply: Callable,
    spectral: Any,
    size_P: Any,
    known: Contraction,
    weights: Any,
    tol: float,
    scale: Any = None,
    start: Any = None,
) -> tuple[Any, Any]:
    """Iterate x ← x + P(b − Ax) until the relative errors are proven to be within `tol`.

    With r = b − Ax, A⁻¹b − x = (PA)⁻¹Pr, so A⁻¹b − x − Pr is at most q/(1 − q)·‖Pr‖, which is the
    error after the step. The computed r is off by γ(|b| + |A||x|), and the computed Pr by γ|P||r|.
    A stands for A/scale, whose norm is moderate; b and so x are scaled by powers of two to moderate
    size, too. Then what underflows, in sums and in the squares of norms, is allowed for by `lost`.
    """
    xp = namespace(b)
    n = b.shape[1]
    arithmetic = Arithmetic.of(b)
    gamma, lost = arithmetic.gamma(n + 4), 8 * n * arithmetic.tiny**0.5
    size_b = column_norms(b)
    least, largest = _MODERATE
    plain = scale is None and bool(((size_b > least) & (size_b < largest)).all())
    if plain:
        zero = size_b < 0  # none
        x = apply(b) if start is None else start
    else:
        if scale is None:
            scale = full(size_b, (), 1.0)
        unit = powers_of_two(b, 1)
        b = times_power(b, 1 / unit)
        size_b = column_norms(b)
        zero = ~xp.any(b != 0, axis=1)
        x = apply(b) if start is None else shifted(start, scale, unit)
    q, size_A = known.q[:, None], known.size_A[:, None]
    rate = q / (1 - q)
    size_x, previous = column_norms(x), float("inf")
    for k in range(_STEPS):
        r = b - A @ x
        step = apply(r)
        x = x + step
        size_old, size_x, size_step = size_x, column_norms(x), column_norms(step)
        slow = ~(size_step < _PROGRESS * previous)
        previous = size_step
        # The proof is worth its while when the leading term would do, or nothing more is gained.
        if bool(((rate * size_step > tol * size_x) & ~slow).any()) and k < _STEPS - 1:
            continue
        off = gamma * (size_b + size_A * size_old) + lost * (1 + size_A + size_old)
        off = gamma * size_P * column_norms(r) + spectral * off + lost * (1 + size_P)
        ahead = rate * (size_step + off)
        if weights is not None and bool(known.weighted.any()):
            length, small = float((weights**2).sum() ** 0.5), float(weights.min())
            ratio = abs(step) / weights[:, None]
            other = rate * length * (xp.max(ratio, axis=1) + off / small)
            ahead = xp.where(known.weighted[:, None], other, ahead)
        error = (ahead + off) * (1 + 2 * gamma) + 2 * arithmetic.unit * size_x
        bound = error / (size_x * (1 - 2 * gamma) - lost) * UP
        if bool(((bound <= tol) | slow).all()):
            break
    bound = xp.where((q < 1) & (bound >= 0), bound, np.inf)
    bound = xp.where(zero & (q < 1), xp.zeros_like(bound), bound)  # b = 0, x = 0
    if plain:
        return x, bound
    return _back_in_scale(x, bound, unit, scale, zero, 2 * gamma, lost)


def _back_in_scale(
    x: Any, bound: Any, unit: Any, scale: Any, zero: Any, gamma: float, lost: float
) -> tuple[Any, Any]:
    """Return solutions in their own scale, in which entries may over- or underflow, and bounds."""
    xp = namespace(x)
    back = shifted(x, unit, scale)
    again = shifted(back, scale, unit)
    size = column_norms(again) * (1 - gamma) - lost
    total = (bound * column_norms(x) + column_norms(again - x) + lost) * (1 + gamma) * UP / size
    total = xp.where(zero, bound, total)
    good = (total >= 0) & xp.isfinite(column_norms(again))
    return back, xp.where(good, total, np.inf)


def solve_exactly(A: Any, b: Any, tol: float) -> tuple[Any, Any]:
    """Solve by LAPACK in float64, with its inverse for the proof."""
    P = exact_inverse(A)
    regular = finite_rows(P)
    x, bound = unknown(b)
    if bool(regular.any()):
        start = namespace(A).linalg.solve(A[regular], b[regular])
        x[regular], bound[regular] = solve_with(P[regular], A[regular], b[regular], tol, start)
    return x, bound
