"""Refinement that stops where a proof is reached, for each matrix by itself."""

from typing import Any

import numpy as np

from .._arrays.conversion import as_double, is_double, namespace
from .._arrays.memory import on_host
from .._linalg.arithmetic import Arithmetic, products_are_exact
from .._linalg.norms import norm_bound, norm_floor, scales
from .._linalg.products import frobenius, product_error
from .._linalg.scaling import times_power
from .._linalg.workspace import Workspace, count, empty, every, full, indices, pieces
from ..refinement import improve
from ..structures import make_hermitian
from ._residual import ResidualNorms, measure, scaled

# A step that leaves more than this share of the residual leads nowhere.
_PROGRESS = 0.9


def refine(
    A: Any,
    X: Any,
    n_refine: Any = 0,
    *,
    tol: float,
    max_refine: int,
    order: int,
    norm: str,
    size: Any = None,
) -> tuple[Any, Any, Any]:
    """Refine approximate inverses in place until their proven error is within `tol`.

    Returns bounds of the relative errors (m,), inf where there is none, bounds of ‖I − AX‖ at the
    start (m,), and how many steps were taken (m,), with `n_refine` taken before. A, finite, and X
    are stacks of one dtype; `size` is :func:`skinv._linalg.norms.sizes` of A, if it is known. Those
    in single precision are refined in it while that helps, then in double if `tol` needs it, and
    rounded. Floating-point errors are ignored by the caller.
    """
    xp, (m, n) = namespace(A), A.shape[:2]
    bound, residual = empty(A, (m,), xp.float64), empty(A, (m,), xp.float64)
    n_refine = full(A, (m,), n_refine, xp.int64)
    settings = tol, max_refine, order, norm
    space = Workspace.of_thread() if on_host(A) else Workspace()
    narrow, double = products_are_exact(A), is_double(A)
    if not narrow:
        bound[...] = residual[...] = np.inf
    for piece in pieces(m, n, A.itemsize if double else as_double(A[:0]).itemsize):
        figures = (bound[piece], residual[piece], n_refine[piece])
        a, x = A[piece], X[piece]
        if narrow:
            known = None if size is None else size[piece]
            _refine_scaled(a, x, figures, space, known, *settings)
        if double:
            continue
        going = ~(figures[0] <= tol)
        if not bool(going.any()):
            continue
        # On in double precision from where single ended, and back.
        rows = slice(None) if bool(going.all()) else indices(going)
        more = tuple(figure[rows] + 0 for figure in figures)
        wide = space.wide(x[rows], "x")
        _refine_scaled(space.wide(a[rows], "a"), wide, more, space, None, *settings)
        x[rows], figures[0][rows] = rounded(wide, x.dtype, more[0], norm)
        figures[2][rows] = more[2]
        if not narrow:
            figures[1][rows] = more[1]
    return bound, residual, n_refine


def _refine_scaled(
    A: Any, X: Any, figures: tuple, space: Workspace, size: Any, *settings: Any
) -> None:
    """Refine X in place, in a scale in which nothing over- or underflows."""
    size = frobenius(A) if size is None else size
    a, x, unit = scaled(A, X, size=size)
    _refine_piece(a, x, figures, space, size if unit is None else None, *settings)
    if unit is not None:
        # Back in their own scale entries may over- or underflow.
        bound, norm = figures[0], settings[-1]
        back = times_power(x, 1 / unit)
        moved = _moved_bound(x, times_power(back, unit), bound, norm)
        bound[...] = namespace(A).where(unit[:, 0, 0] == 1, bound, moved)
        X[...] = back


def _refine_piece(
    A: Any,
    X: Any,
    figures: tuple,
    space: Workspace,
    size: Any,
    tol: float,
    max_refine: int,
    order: int,
    norm: str,
) -> None:
    """Refine X in place, fill in bound and residual, and count steps on."""
    bound, residual, n_refine = figures
    xp = namespace(A)
    arithmetic, n = Arithmetic.of(A), A.shape[-1]
    # In single precision no step is taken that would be cheaper in double, or not needed there.
    handover = 0.0 if is_double(A) else 0.5 * tol ** (1 / order)
    size, x = norm_bound(A, norm, size), X
    rows: Any = slice(None)  # those still at work
    previous: Any = float("inf")
    shape = tuple(X.shape)
    D, work = space.of(X, shape, "D"), space.of(X, shape, "work")
    for step in range(max_refine + 1):
        product_error(A, x, out=D)
        known = measure(A, x, D, norm, size)
        reached = known.bound
        if step == 0:
            residual[...] = reached
        met = reached <= tol
        if every(met):
            bound[rows] = _below_one(reached, tol)
            return
        ahead = known.after_step(order, arithmetic, n)
        unmet = ~met & (n_refine[rows] < max_refine)
        going, more = unmet & (ahead <= tol), None
        n_going = count(going)
        if n_going == len(x):
            bound[rows] = _below_one(ahead, tol)
        elif every(met | going):
            bound[rows] = _below_one(xp.where(going, ahead, reached), tol)
        else:
            if step == 0:
                residual[...] = xp.where(reached >= 0, reached, np.inf)
            helps = (known.computed < _PROGRESS * previous) & (known.computed < n)
            last, more = _steps(known, going, unmet & helps, tol, order, handover)
            bound[rows] = _below_one(xp.where(last, ahead, reached))
            going = last | more
            n_going = count(going)
            if n_going == 0:
                return
        previous = known.computed
        if n_going < len(x):
            rows = indices(going) if isinstance(rows, slice) else rows[going]
            x, D, work = x[going], D[going], work[:n_going]
            if more is not None:
                A, size, more, previous = A[going], size[going], more[going], previous[going]
        improve(x, D, order, work)
        n_refine[rows] += 1
        if not isinstance(rows, slice):
            X[rows] = x
        n_more = 0 if more is None else count(more)  # the others need no further look
        if n_more == 0:
            return
        if n_more < len(x):
            keep = indices(more)
            rows = keep if isinstance(rows, slice) else rows[keep]
            A, x, size, previous = A[keep], x[keep], size[keep], previous[keep]
            D, work = D[:n_more], work[:n_more]


def _below_one(proven: Any, tol: float = 1.0) -> Any:
    """Return bounds, those within `tol` as they are, and inf where they prove nothing."""
    return proven if tol < 1 else namespace(proven).where(proven < 1, proven, np.inf)


def _steps(
    known: ResidualNorms, last: Any, helped: Any, tol: float, order: int, handover: float
) -> tuple[Any, Any]:
    """Return which matrices take one step more, and which take at least two.

    What a step proves is known before it. The last one is that which reaches the tolerance, or as
    much as rounding allows; others are taken while they help.
    """
    enough = known.rounding.clip(min=handover) if handover else known.rounding
    far = helped & (known.computed > enough)
    hopeless = known.rounding > tol
    last = last | far & hopeless & (known.computed**order <= enough)
    return last, far & ~last


def _moved_bound(X: Any, Y: Any, bound: Any, norm: str) -> Any:
    """Return bounds of the relative errors of Y from those of X, inf where nothing is proven.

    ‖A⁻¹ − Y‖ <= ‖A⁻¹ − X‖ + ‖X − Y‖, and ‖X‖ <= (1 + bound)‖A⁻¹‖.
    """
    xp, unit = namespace(X), scales(X)
    if unit is not None:
        X, Y = times_power(X, 1 / unit), times_power(Y, 1 / unit)
    size = norm_floor(X, norm)
    moved = norm_bound(Y - X, norm) * (1 + 2 * Arithmetic.of(X).unit)
    share = xp.where(size > 0, moved / size, np.inf)
    total = (bound + share * (1 + bound)) * (1 + 2.0**-46)
    return xp.where(total >= 0, total, np.inf)


def with_symmetry(X: Any, bound: Any, norm: str, symmetric: Any) -> tuple[Any, Any]:
    """Return X with those made Hermitian whose matrices are, and bounds that hold for them.

    X is overwritten. The mean of X and its transpose is no further from a Hermitian A⁻¹ in the
    Frobenius norm than X is, but for rounding: u|Y|, and, unless X is tiny, far less by underflow.
    """
    together = every(symmetric)
    if not (together or bool(symmetric.any())):
        return X, bound
    arithmetic, alone = Arithmetic.of(X), symmetric
    # Diagonals show, in most cases by one entry, that no norm is so small that underflow matters.
    least = arithmetic.tiny**0.25
    if norm != "fro" or X.dtype.itemsize <= 2:
        alone = symmetric & False
    elif not every(abs(X[:, 0, 0]) > least):
        alone = symmetric & (abs(X.diagonal(0, 1, 2)) > least).any(1)
    moved = (bound + 3 * arithmetic.unit * (1 + bound)) * (1 + 2.0**-46)
    if together and every(alone):
        make_hermitian(X)
        return X, moved
    rows = indices(symmetric & ~alone)
    before = as_double(X[rows])
    make_hermitian(X, symmetric)
    if len(rows):
        moved[rows] = _moved_bound(before, as_double(X[rows]), bound[rows], norm)
    return X, namespace(X).where(symmetric, moved, bound)


def rounded(X: Any, dtype: Any, bound: Any, norm: str) -> tuple[Any, Any]:
    """Return X, in double precision, in another dtype, and bounds for what it has become."""
    if X.dtype == dtype:
        return X, bound
    with np.errstate(all="ignore"):
        Y = namespace(X).astype(X, dtype)
        return Y, _moved_bound(X, as_double(Y), bound, norm)
