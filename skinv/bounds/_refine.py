"""Refinement that stops where a proof is reached, for each matrix by itself."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..matrices import is_tensor
from ..refinement import improve
from ..stacks import (
    Arithmetic,
    as_float64,
    empty_like,
    largest_entry,
    norm_bound,
    norm_floor,
    pieces,
    powers_of_two,
    product_error,
)
from ._residual import measure, products_are_exact, scaled

# A step that leaves more than this share of the residual leads nowhere.
_PROGRESS = 0.9


def refine(
    A: Any, X: Any, *, tol: float, max_refine: int, order: int, norm: str
) -> tuple[Any, Any, Any]:
    """Refine approximate inverses in place until their proven error is within `tol`.

    Parameters
    ----------
    A, X : ndarray or tensor of shape (m, n, n)
        Finite matrices and approximate inverses, of one dtype. X is overwritten.
    tol : float
        Relative error to be proven.
    max_refine : int
        Largest number of steps per matrix.
    order : {2, 3, 4}
        Order of the steps.
    norm : {"fro", "inf", "1"}

    Returns
    -------
    bound : ndarray or tensor of shape (m,), float64
        Proven bounds of the relative errors; inf where there is none.
    residual : ndarray or tensor of shape (m,), float64
        Bounds of ‖I − AX‖ at the start.
    n_refine : ndarray or tensor of shape (m,), int64
        Steps taken.

    Examples
    --------
    >>> A, X = np.array([[[2.0]]]), np.array([[[0.4]]])
    >>> bound, residual, n_refine = refine(A, X, tol=1e-5, max_refine=8, order=2, norm="fro")
    >>> X, residual, n_refine, bool(bound[0] <= 1e-5)
    (array([[[0.4999987]]]), array([0.2]), array([3]), True)
    """
    m, n = A.shape[:2]
    if is_tensor(A):
        torch = sys.modules["torch"]
        bound, residual = (
            torch.full((m,), float("inf"), dtype=torch.float64, device=A.device) for _ in range(2)
        )
        n_refine = torch.zeros(m, dtype=torch.int64, device=A.device)
    else:
        bound, residual = np.full(m, np.inf), np.full(m, np.inf)
        n_refine = np.zeros(m, dtype=np.int64)
    if not products_are_exact(A):  # such products prove nothing
        return bound, residual, n_refine
    with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
        for piece in pieces(m, n, A.itemsize):
            a, x, unit = scaled(A[piece], X[piece])
            figures = (bound[piece], residual[piece], n_refine[piece])
            _refine_piece(a, x, figures, tol, max_refine, order, norm)
            if unit is not None:
                # Back in their own scale entries may over- or underflow.
                back, xp = x / unit, sys.modules["torch"] if is_tensor(A) else np
                moved = moved_bound(x, back * unit, bound[piece], norm)
                bound[piece] = xp.where(unit[:, 0, 0] == 1, bound[piece], moved)
                X[piece] = back
    return bound, residual, n_refine


def _refine_piece(
    A: Any, X: Any, figures: tuple, tol: float, max_refine: int, order: int, norm: str
) -> None:
    """Refine X in place and fill in bound, residual and number of steps."""
    bound, residual, n_refine = figures
    xp = sys.modules["torch"] if is_tensor(A) else np
    arithmetic, n = Arithmetic.of(A), A.shape[-1]
    size, x = norm_bound(A, norm), X
    rows: Any = slice(None)  # those still at work
    previous = float("inf")
    D, work = empty_like(X), empty_like(X)
    for step in range(max_refine + 1):
        product_error(A, x, out=D)
        known = measure(A, x, D, norm, size)
        reached = known.bound
        met = reached <= tol
        if step == 0:
            residual[...] = xp.where(reached >= 0, reached, xp.full_like(reached, float("inf")))
        # The proof after a last step is known before it; other steps are taken while they help.
        ahead = known.after_step(order, arithmetic, n)
        last = ~met & (ahead <= tol)
        more = (~met & ~last & (known.computed < _PROGRESS * previous)) & (
            (known.computed > known.rounding) & (known.computed < n)
        )
        if step == max_refine:
            last, more = last & False, more & False
        proven = xp.where(last, ahead, reached)
        bound[rows] = xp.where(proven < 1, proven, xp.full_like(proven, float("inf")))
        going = last | more
        n_going = int(going.sum())
        if n_going == 0:
            return
        if n_going == len(x):
            improve(x, D, order, work)
            n_refine[rows] += 1
            if not isinstance(rows, slice):
                X[rows] = x
        else:
            rows = xp.where(going)[0] if isinstance(rows, slice) else rows[going]
            A, x, D, size = A[going], x[going], D[going], size[going]
            work = work[: len(x)]
            improve(x, D, order, work)
            n_refine[rows] += 1
            X[rows] = x
            more, known = more[going], known._replace(computed=known.computed[going])
        # What is done needs no further look.
        if not bool(more.any()):
            return
        previous = known.computed
        if not bool(more.all()):
            keep = xp.where(more)[0]
            rows = keep if isinstance(rows, slice) else rows[keep]
            A, x, size, previous = A[keep], x[keep], size[keep], previous[keep]
            D, work = D[: len(x)], work[: len(x)]


def moved_bound(X: Any, Y: Any, bound: Any, norm: str) -> Any:
    """Return bounds of the relative errors of Y from those of X.

    ‖A⁻¹ − Y‖ <= ‖A⁻¹ − X‖ + ‖X − Y‖, and ‖X‖ <= (1 + bound)‖A⁻¹‖.

    Parameters
    ----------
    X, Y : ndarray or tensor of shape (m, n, n), of one dtype
    bound : ndarray or tensor of shape (m,)
        Proven bounds of the relative errors of X.
    norm : {"fro", "inf", "1"}

    Returns
    -------
    ndarray or tensor of shape (m,), float64
        inf where nothing is proven.

    Examples
    --------
    >>> X = np.array([[[2.0]]])
    >>> moved_bound(X, X + 0.2, np.array([0.1]), "fro")
    array([0.21])
    """
    xp = sys.modules["torch"] if is_tensor(X) else np
    size = norm_floor(X, norm)
    moved = norm_bound(Y - X, norm) * (1 + 2 * Arithmetic.of(X).unit)
    share = xp.where(size > 0, moved / size, xp.full_like(size, float("inf")))
    total = (bound + share * (1 + bound)) * (1 + 2.0**-46)
    return xp.where(total >= 0, total, xp.full_like(total, float("inf")))


def rounded(X: Any, dtype: Any, bound: Any, norm: str) -> tuple[Any, Any]:
    """Return X in another dtype, with bounds that hold for what it has become.

    Parameters
    ----------
    X : ndarray or tensor of shape (m, n, n), float64
    dtype : dtype
    bound : ndarray or tensor of shape (m,)
    norm : {"fro", "inf", "1"}

    Returns
    -------
    X : ndarray or tensor of shape (m, n, n)
    bound : ndarray or tensor of shape (m,), float64

    Examples
    --------
    >>> X, bound = rounded(np.array([[[0.1]]]), np.float32, np.zeros(1), "fro")
    >>> X.dtype, bool(0 < bound[0] < 6e-8)
    (dtype('float32'), True)
    """
    if X.dtype == dtype:
        return X, bound
    with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
        Y = X.to(dtype) if is_tensor(X) else X.astype(dtype)
        unit = powers_of_two(largest_entry(X))[:, None, None]
        return Y, moved_bound(X / unit, as_float64(Y) / unit, bound, norm)
