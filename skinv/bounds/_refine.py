"""Refinement that stops where a proof is reached, for each matrix by itself."""

from typing import Any

import numpy as np

from .._arrays.conversion import as_double, is_double, namespace
from .._arrays.memory import on_host
from .._linalg.arithmetic import Arithmetic, products_are_exact
from .._linalg.norms import norm_bound, norm_floor, operator_norm, scales
from .._linalg.products import frobenius, product_error
from .._linalg.scaling import times_power
from .._linalg.workspace import Workspace, count, every, full, indices, pieces
from ..refinement import improve
from ..structures import make_hermitian
from ._residual import UP, ResidualNorms, Rounding, scaled

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
    are stacks of one dtype; `size` are the Frobenius norms of A, if these are known and moderate,
    see :func:`skinv._linalg.norms.are_moderate`. Those in single precision are refined in it while
    that helps, then in double if `tol` needs it, and rounded. Floating-point errors are ignored by
    the caller.
    """
    settings, found = (tol, max_refine, order, norm), []
    space = Workspace.of_thread() if on_host(A) else Workspace()
    double = is_double(A)
    narrow = double or products_are_exact(A)
    m, n = A.shape[:2]
    for piece in pieces(m, n, A.itemsize if double else as_double(A[:0]).itemsize):
        a, x = A[piece], X[piece]
        taken = n_refine if isinstance(n_refine, int) else n_refine[piece]
        if narrow and size is not None:
            figures = _refine_piece(a, x, taken, space, size[piece], *settings)
        elif narrow:
            figures = _refine_scaled(a, x, taken, space, *settings)
        else:
            figures = _nothing_yet(a, taken)
        found.append(figures)
        if double:
            continue
        going = ~(figures[0] <= tol)
        if not bool(going.any()):
            continue
        # On in double precision from where single ended, and back.
        rows = slice(None) if bool(going.all()) else indices(going)
        wide = space.wide(x[rows], "x")
        more = _refine_scaled(space.wide(a[rows], "a"), wide, figures[2][rows], space, *settings)
        x[rows], figures[0][rows] = rounded(wide, x.dtype, more[0], norm)
        figures[2][rows] = more[2]
        if not narrow:
            figures[1][rows] = more[1]
    if len(found) == 1:
        return found[0]
    found.append(_nothing_yet(A[:0], 0))
    concat = namespace(A).concat
    bound, residual, taken = (concat(list(figures)) for figures in zip(*found, strict=True))
    return bound, residual, taken


def _nothing_yet(A: Any, n_refine: Any) -> tuple[Any, Any, Any]:
    """Return bounds that prove nothing, twice, and how many steps were taken."""
    xp, m = namespace(A), (len(A),)
    unknown = full(A, m, np.inf, xp.float64), full(A, m, np.inf, xp.float64)
    return *unknown, full(A, m, n_refine, xp.int64)


def _refine_scaled(
    A: Any, X: Any, n_refine: Any, space: Workspace, *settings: Any
) -> tuple[Any, Any, Any]:
    """Refine X in place, in a scale in which nothing over- or underflows."""
    size = frobenius(A)
    a, x, unit = scaled(A, X, size=size)
    size = size if unit is None else frobenius(a)
    figures = _refine_piece(a, x, n_refine, space, size, *settings)
    if unit is not None:
        # Back in their own scale entries may over- or underflow.
        bound, norm = figures[0], settings[-1]
        back = times_power(x, 1 / unit)
        moved = _moved_bound(x, times_power(back, unit), bound, norm)
        bound[...] = namespace(A).where(unit[:, 0, 0] == 1, bound, moved)
        X[...] = back
    return figures


def _refine_piece(
    A: Any,
    X: Any,
    n_refine: Any,
    space: Workspace,
    size: Any,
    tol: float,
    max_refine: int,
    order: int,
    norm: str,
) -> tuple[Any, Any, Any]:
    """Refine X in place, and return bound, residual and how many steps were taken."""
    constants = Rounding.of(Arithmetic.of(A), A.shape[-1], norm, type(A) is np.ndarray)
    # In single precision no step is taken that would be cheaper in double, or not needed there.
    handover = 0.0 if is_double(A) else 0.5 * tol ** (1 / order)
    size = constants.size(as_double(size if norm == "fro" else operator_norm(A, norm)))
    # At work are `x`, of all at first, in `rows`; while all are, their steps are one number.
    x, rows, bound, residual, previous = X, None, None, None, float("inf")
    taken, shape = n_refine, tuple(X.shape)
    D, work = space.of(X, shape, "D"), space.of(X, shape, "work")
    for step in range(max_refine + 1):
        product_error(A, x, out=D)
        computed = as_double(operator_norm(x, norm)), as_double(operator_norm(D, norm))
        known = constants.residual(size, *computed)
        reached = known.bound
        residual = reached if step == 0 else residual
        met = reached <= tol
        n_met = count(met)
        if n_met == len(x):
            bound = _put(bound, rows, _below_one(reached))
            break
        ahead, small = constants.stepped(known, order), known.computed < 0.9
        if not every(small):
            ahead = namespace(A).where(small, ahead, np.inf)
        able = (taken if rows is None else taken[rows]) < max_refine
        going, more = ahead <= tol, None
        if able is not True:
            going &= able
        if n_met:
            going &= ~met
        n_going = count(going)
        if n_going == len(x):
            bound = _put(bound, rows, ahead if tol < 1 else _below_one(ahead))
        elif n_met + n_going == len(x):
            bound = _put(bound, rows, _below_one(namespace(A).where(going, ahead, reached)))
        else:
            if step == 0:
                residual = namespace(A).where(reached >= 0, reached, np.inf)
            helps = (known.computed < _PROGRESS * previous) & (known.computed < A.shape[-1])
            last, more = _steps(known, going, ~met & helps & able, tol, order, handover)
            bound = _put(bound, rows, _below_one(namespace(A).where(last, ahead, reached)))
            going = last | more
            n_going = count(going)
            if n_going == 0:
                break
        previous = known.computed
        if n_going < len(x):
            rows, taken = _among(rows, indices(going)), _each(X, taken)
            x, D, work = x[going], D[going], work[:n_going]
            if more is not None:
                A, size, more, previous = A[going], size[going], more[going], previous[going]
        improve(x, D, order, work)
        if rows is None:
            taken = taken + 1
        else:
            taken[rows] += 1
            X[rows] = x
        n_more = 0 if more is None else count(more)  # the others need no further look
        if n_more == 0:
            break
        if n_more < len(x):
            keep = indices(more)
            rows, taken = _among(rows, keep), _each(X, taken)
            A, x, size, previous = A[keep], x[keep], size[keep], previous[keep]
            D, work = D[:n_more], work[:n_more]
    return bound, residual, _each(X, taken)


def _put(memory: Any, rows: Any, values: Any) -> Any:
    """Return memory with values in some rows, or the values of all."""
    if rows is None:
        return values
    memory[rows] = values
    return memory


def _among(rows: Any, some: Any) -> Any:
    return some if rows is None else rows[some]


def _each(X: Any, taken: Any) -> Any:
    """Return how many steps were taken for each matrix."""
    return full(X, (len(X),), taken, namespace(X).int64) if isinstance(taken, int) else taken


def _below_one(proven: Any) -> Any:
    """Return bounds, and inf where they prove nothing."""
    return namespace(proven).where(proven < 1, proven, np.inf)


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
    total = (bound + share * (1 + bound)) * UP
    return xp.where(total >= 0, total, np.inf)


def with_symmetry(
    X: Any, bound: Any, norm: str, symmetric: Any, moderate: bool = False
) -> tuple[Any, Any]:
    """Return X with those made Hermitian whose matrices are, and bounds that hold for them.

    X is overwritten. The mean of X and its transpose is no further from a Hermitian A⁻¹ in the
    Frobenius norm than X is, but for rounding: u|Y|, and, unless X is tiny, far less by underflow.
    So it is where the norms of all A are `moderate`, since ‖A⁻¹‖ >= 1/‖A‖.
    """
    together = every(symmetric)
    if not (together or bool(symmetric.any())):
        return X, bound
    arithmetic, alone = Arithmetic.of(X), symmetric
    if norm != "fro" or X.dtype.itemsize <= 2:
        alone = symmetric & False
    elif not moderate:
        # Diagonals show, in most cases by one entry, that no norm is so small that this matters.
        least = arithmetic.tiny**0.25
        if not every(abs(X[:, 0, 0]) > least):
            alone = symmetric & (abs(X.diagonal(0, 1, 2)) > least).any(1)
    # bound + 3u(1 + bound), rounded up.
    moved = bound * ((1 + 3 * arithmetic.unit) * UP)
    moved += 3 * arithmetic.unit * UP
    if together and (alone is symmetric or every(alone)):
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
