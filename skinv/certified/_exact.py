"""Exact inverses, but for rounding, each with a proof of how much that is."""

from typing import Any

import numpy as np

from .._arrays.conversion import namespace
from .._linalg.arithmetic import Arithmetic
from .._linalg.closed import CLOSED, GOOD
from .._linalg.norms import norm_bound, scales, sizes
from .._linalg.products import exact_inverse, product_error
from .._linalg.small import LARGEST, small_inverses
from .._linalg.workspace import Workspace, indices, pieces
from ..bounds._refine import refine, with_symmetry
from ..bounds._residual import measure
from ..structures import symmetric_rows

# Matrices that are worth calls for every entry.
_MANY = 64


def exact_inverses(A: Any, X: Any, norm: str, size: Any = None) -> Any:
    """Write inverses of finite matrices, in double precision, to X, and bound their errors.

    Small ones are inverted entry by entry over the batch, and by LAPACK where that loses digits;
    all NaN where LAPACK meets a zero pivot. `size` is as in :func:`skinv.bounds._refine.refine`.
    """
    if norm == "fro" and has_closed_form(A):
        bound = np.empty(len(A))
        by_closed_forms(A, X, bound)
        rest = indices(bound == np.inf)
        if len(rest):
            x = X[rest]
            bound[rest] = _by_residuals(A[rest], x, norm)
            X[rest] = x
        return bound
    if not by_entries(A):
        X[...] = exact_inverse(A)
        return _bound(A, X, norm, size)
    small_inverses(A, X)
    return _by_residuals(A, X, norm, size)


def by_entries(A: Any) -> bool:
    """Tell whether matrices are so many and so small that LAPACK takes longer, for most orders."""
    return isinstance(A, np.ndarray) and A.shape[1] <= LARGEST and len(A) >= _MANY


def has_closed_form(A: Any) -> bool:
    """Tell whether closed forms, with bounds of theirs, take the least time."""
    return isinstance(A, np.ndarray) and A.dtype.char == "d" and A.shape[1] <= CLOSED


def by_closed_forms(A: Any, X: Any, bound: Any) -> None:
    """Write inverses, and bounds in the Frobenius norm, infinite for what is left to others.

    Matrices need not be finite. Inverses of symmetric ones are symmetric.
    """
    small_inverses(A, X, bound)
    if A.shape[1] == CLOSED:  # of lower orders cofactors are so to the last bit
        bound[...] = with_symmetry(X, bound, "fro", symmetric_rows(A))[1]


def _by_residuals(A: Any, X: Any, norm: str, size: Any = None) -> Any:
    """Bound the errors of small inverses, and replace them by LAPACK's where they are large."""
    bound, good = _small_bound(A, X, norm, size)
    weak = indices(~good)
    if len(weak):
        Y = exact_inverse(A[weak])
        X[weak], bound[weak] = Y, _bound(A[weak], Y, norm)
    return bound


def has_zero_pivot(A: Any, X: Any) -> Any:
    """Tell at which matrices LAPACK met a zero pivot: others, too, have inverses that overflow."""
    xp, singular = namespace(A), namespace(A).isnan(X[:, 0, 0])
    rows = indices(singular)
    if len(rows):  # the sign of the determinant comes from the very same factorisation
        singular[rows] = xp.linalg.slogdet(A[rows])[0] == 0
    return singular


def _bound(A: Any, X: Any, norm: str, size: Any = None) -> Any:
    return refine(A, X, tol=np.inf, max_refine=0, order=2, norm=norm, size=size)[0]


def _small_bound(A: Any, X: Any, norm: str, size: Any) -> tuple[Any, Any]:
    """Return bounds of relative errors, and where they are about as good as those of LAPACK."""
    bound, good = np.empty(len(A)), np.empty(len(A), dtype=bool)
    arithmetic, n, space = Arithmetic.of(A), A.shape[1], Workspace.of_thread()
    size = sizes(A) if size is None else size
    enough = GOOD * arithmetic.gamma(n)
    with np.errstate(all="ignore"):
        for piece in pieces(len(A), n, A.itemsize):
            a, x, unit = A[piece], X[piece], scales(A[piece], size=size[piece])
            D = product_error(a, x, out=space.of(A, a.shape, "D"))
            known = measure(a, x, D, norm, norm_bound(a, norm, size[piece]))
            bound[piece] = known.bound
            good[piece] = known.bound <= enough * known.A * known.X
            if unit is not None:  # squares might over- or underflow
                good[piece] &= unit[:, 0, 0] == 1
    return bound, good & (bound < 1)
