"""Predictions refined and proven, and LAPACK where they cannot be."""

from typing import Any, NamedTuple

import numpy as np

from .._arrays.conversion import as_double, namespace, not_a_number, to_host
from .._arrays.progress import progress
from .._arrays.results import InverseReport
from .._linalg.products import exact_inverse
from .._linalg.workspace import empty, full, indices
from ..bounds._refine import refine, rounded, with_symmetry
from ..bounds._residual import proven
from ..structures import symmetric_rows
from ._guesses import guess

# Steps of refinement granted to LAPACK's inverse.
_POLISH = 2


class ProofTerms(NamedTuple):
    """What is to be proven, and how: parameters of :class:`skinv.CertifiedInverse`."""

    tol: float
    order: int
    norm: str
    max_refine: int
    fallback: str


def certify_blocks(
    A: Any, given: Any, X: Any, step: int, estimator: Any, terms: ProofTerms, verbose: int
) -> InverseReport:
    """Certify block by block, which stay in the cache; predict so, too, if X is None."""
    result = InverseReport()
    with progress(len(A), "certifying", "matrix", verbose) as bar:
        for start in range(0, len(A), step):
            taken = slice(start, start + step)
            block = A[taken]
            predicted = guess(estimator, given, A, taken) if X is None else X[taken]
            for name, values in certify(block, predicted, terms).items():
                if start == 0:
                    result[name] = empty(values, (len(A), *values.shape[1:]))
                result[name][taken] = values
            bar.update(len(block))
    return result


def certify(A: Any, X: Any, terms: ProofTerms) -> InverseReport:
    """Refine and prove predictions X of finite matrices A, and fall back; X is overwritten.

    Answers are symmetric or Hermitian where the matrices are.
    """
    xp, dtype, tol = namespace(A), A.dtype, terms.tol
    if dtype.itemsize < 4:  # half precision
        A, X = xp.astype(A, xp.float32), xp.astype(X, xp.float32)
        tol += xp.finfo(dtype).eps / 2
    symmetric = symmetric_rows(A)
    settings: dict[str, Any] = {"tol": tol, "order": terms.order, "norm": terms.norm}
    bound, residual, n_refine = refine(A, X, max_refine=terms.max_refine, **settings)
    X, bound = with_symmetry(*rounded(X, dtype, bound, terms.norm), terms.norm, symmetric)
    result = InverseReport(inverse=X, bound=bound, residual=residual, n_refine=n_refine)
    # A sharper proof for those that rounding, or a loose bound, kept from theirs.
    near = open_rows(bound, tol)
    near = near[bound[near] < 1]
    if len(near):
        bound[near] = proven(as_double(A[near]), as_double(X[near]), terms.norm)
    refined = to_host(n_refine) > 0
    result.status = np.where(refined, "refined", "predicted").astype("<U12")
    open_ = open_rows(bound, tol)
    if not len(open_):
        return result
    result.status[to_host(open_)] = "inaccurate"
    if terms.fallback in ("exact", "exact-raise"):
        _fall_back(A, result, open_, settings, symmetric)
    # What raises does so where the rows' numbers are known.
    if terms.fallback != "keep":
        if terms.fallback != "nan":
            open_ = open_[bound[open_] == np.inf]
        result.inverse[open_], bound[open_] = not_a_number(X), np.inf
        host = to_host(open_)
        result.status[host[result.status[host] != "singular"]] = "rejected"
    return result


def _fall_back(
    A: Any, result: InverseReport, open_: Any, settings: dict[str, Any], symmetric: Any
) -> None:
    """Replace rows by LAPACK's inverses, polished and proven in double precision."""
    norm, tol = settings["norm"], settings["tol"]
    a = as_double(A[open_])
    x = exact_inverse(a)
    singular = namespace(x).isnan(x[:, 0, 0])
    bound, _, _ = refine(a, x, max_refine=_POLISH, **settings)
    weak = indices(~(bound <= tol) & ~singular)
    if len(weak):
        bound[weak] = proven(a[weak], x[weak], norm)
    x, bound = rounded(x, result.inverse.dtype, bound, norm)
    x, bound = with_symmetry(x, bound, norm, symmetric[open_])
    # Where LAPACK has no proof within tol either, an iterate may have the better one.
    known = result.bound[open_]
    kept = (bound > tol) & (known < bound)
    new, rows = indices(~kept), open_[~kept]
    result.inverse[rows], result.bound[rows] = x[new], bound[new]
    result.n_refine[rows] = 0
    status = np.where(to_host(bound) <= tol, "exact", "inaccurate")
    status[to_host(singular & ~kept)] = "singular"
    result.status[to_host(open_)] = status


def open_rows(bound: Any, tol: float) -> Any:
    """Return the rows that have a bound (m,) or (m, k) that is not within `tol`."""
    open_ = ~(bound <= tol)
    return indices(open_ if open_.ndim == 1 else open_.any(1))


def spread(result: InverseReport, finite: Any) -> InverseReport:
    """Put the results of the finite rows among those of all."""
    nothing = {"inverse": not_a_number(result.inverse), "bound": np.inf, "residual": np.nan}
    out = InverseReport()
    for name, fill in (nothing | {"n_refine": 0}).items():
        values = result[name]
        out[name] = full(values, (len(finite), *values.shape[1:]), fill)
        out[name][finite] = values
    out.status = np.full(len(finite), "not finite", dtype=result.status.dtype)
    out.status[to_host(finite)] = result.status
    return out
