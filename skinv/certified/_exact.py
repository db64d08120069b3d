"""Exact inverses, but for rounding, each with a proof of how much that is."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from .._arrays.conversion import as_double, namespace, not_a_number, to_host
from .._linalg.arithmetic import Arithmetic
from .._linalg.norms import norm_bound, scales
from .._linalg.products import exact_inverse, frobenius, product_error
from .._linalg.small import LARGEST, small_inverses
from .._linalg.workspace import Workspace, empty_like, full, indices, pieces
from ..bounds._refine import refine, rounded, with_symmetry
from ..bounds._residual import measure, proven
from ..structures import symmetric_rows
from ._proofs import EXACT, INACCURATE, REJECTED, SINGULAR, ProofTerms, prove_in_own_units

# Bounds that are so many times what rounding makes of those of LAPACK's inverses are not good.
_GOOD = 10
# Bounds past this are worth more work.
_WEAK = 2.0**-30


def invert(A: Any, X: Any, size: Any, terms: ProofTerms) -> SimpleNamespace:
    """Invert finite matrices and prove it: small ones entry by entry, others by LAPACK.

    `size` is :func:`skinv._linalg.norms.sizes` of A, and X memory for inverses. Answers are
    symmetric or Hermitian where the matrices are. See :func:`skinv.certified._proofs.certify`.
    """
    a = as_double(A)
    x, norm = X if X.dtype == a.dtype else empty_like(a), terms.norm
    size = size if a is A else None
    if isinstance(a, np.ndarray) and a.shape[1] <= LARGEST:
        small_inverses(a, x)
        bound, good = _small_bound(a, x, norm, size)
        weak = indices(~good)
        if len(weak):
            y = exact_inverse(a[weak])
            x[weak], bound[weak] = y, _bound(a[weak], y, terms)
    else:
        x[...] = exact_inverse(a)
        bound = _bound(a, x, terms, size)
    singular = namespace(x).isnan(x[:, 0, 0])
    open_ = indices(~(bound <= min(_WEAK, terms.tol)) & ~singular)
    if len(open_):
        bound[open_] = proven(a[open_], x[open_], norm)
    symmetric = symmetric_rows(A)
    X, bound = with_symmetry(*rounded(x, A.dtype, bound, norm), norm, symmetric)
    result = SimpleNamespace(inverse=X, bound=bound, residual=bound + 0)
    result.n_refine = full(bound, bound.shape, 0, namespace(bound).int64)
    open_ = indices(~(bound <= terms.tol) & ~singular)
    if len(open_):
        prove_in_own_units(A, result, open_, symmetric, terms)
    result.status = np.full(len(bound), EXACT, np.uint8)
    open_ = to_host(~(bound <= terms.tol))
    result.status[open_] = np.where(to_host(bound[open_]) < 1, INACCURATE, REJECTED)
    result.status[to_host(singular)] = SINGULAR
    if terms.fallback != "keep":
        lost = indices(~(bound <= terms.tol) if terms.fallback == "nan" else ~(bound < 1))
        result.inverse[lost], bound[lost] = not_a_number(X), np.inf
        host = to_host(lost)
        result.status[host[result.status[host] == INACCURATE]] = REJECTED
    return result


def _bound(A: Any, X: Any, terms: ProofTerms, size: Any = None) -> Any:
    """Bound relative errors by the residual alone."""
    named = {**terms.refinement(), "tol": np.inf, "max_refine": 0}
    return refine(A, X, size=size, **named)[0]


def _small_bound(A: Any, X: Any, norm: str, size: Any) -> tuple[Any, Any]:
    """Return bounds of relative errors, and where they are about as good as those of LAPACK."""
    bound, good = np.empty(len(A)), np.empty(len(A), dtype=bool)
    arithmetic, n, space = Arithmetic.of(A), A.shape[1], Workspace.of_thread()
    size = frobenius(A) if size is None else size
    enough = _GOOD * arithmetic.gamma(n)
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
