"""Predictions refined and proven, and LAPACK where they cannot be."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import as_float64
from .._arrays.host import to_host
from .._arrays.kinds import is_tensor
from .._arrays.progress import progress
from .._arrays.results import InverseReport
from .._arrays.rows import numbered
from .._linalg.inverses import exact_inverse
from ..bounds._refine import refine, rounded, with_structure
from ..bounds._residual import check_norm, residual_bound
from ..structures import structured, symmetric_rows
from ._guesses import guess, rows_of

# Steps of refinement granted to LAPACK's inverse.
_POLISH = 2


class ProofTerms(NamedTuple):
    """What is to be proven, and how: parameters of :class:`skinv.CertifiedInverse`."""

    tol: float
    order: int
    norm: str | float
    max_refine: int
    fallback: str


def certify_blocks(
    A: Any,
    given: Any,
    X: Any,
    step: int,
    is_complex: bool,
    estimator: Any,
    terms: ProofTerms,
    verbose: int,
) -> InverseReport:
    """Certify block by block, which stay in the cache; predict so, too, if X is None."""
    result = InverseReport()
    with progress(len(A), "certifying", "matrix", verbose) as bar:
        for start in range(0, len(A), step):
            block, taken = A[start : start + step], slice(start, start + step)
            named = numbered(range(start, start + len(block)), len(A))
            if X is None:
                with named:
                    part = rows_of(given, taken)
                    predicted = guess(estimator, part, block.reshape(len(block), -1), None)
            else:
                predicted = X[taken]
            for name, values in certify(block, predicted, is_complex, terms).items():
                if start == 0:
                    shape = (len(A), *values.shape[1:])
                    empty = values.new_empty if is_tensor(values) else np.empty
                    result[name] = empty(shape, dtype=values.dtype)
                result[name][taken] = values
            bar.update(len(block))
    return result


def certify(A: Any, X: Any, is_complex: bool, terms: ProofTerms) -> InverseReport:
    """Refine and prove predictions X of finite matrices A, and fall back; X is overwritten.

    Answers have the structure of the matrices: complex, symmetric or both.
    """
    norm, dtype = check_norm(terms.norm), A.dtype
    settings: dict[str, Any] = {"tol": terms.tol, "order": terms.order, "norm": norm}
    if is_tensor(A) and dtype.itemsize < 4:  # half precision
        A, X = A.float(), X.float()
        settings["tol"] += sys.modules["torch"].finfo(dtype).eps / 2
    tol = settings["tol"]
    structure = is_complex, symmetric_rows(A)
    X = structured(X, *structure)
    bound, residual, n_refine = refine(A, X, max_refine=terms.max_refine, **settings)
    inverse, bound = with_structure(*rounded(X, dtype, bound, norm), norm, *structure)
    result = InverseReport(inverse=inverse, bound=bound, residual=residual, n_refine=n_refine)
    # A sharper proof for those that rounding, or a loose bound, kept from theirs.
    near = open_rows(result.bound, tol)
    near = near[to_host(result.bound[near]) < 1]
    if near.size:
        sharper = residual_bound(A[near], result.inverse[near], norm, accumulate="float64")
        result.bound[near] = sharper
    refined = to_host(result.n_refine) > 0
    result.status = np.where(refined, "refined", "predicted").astype("<U12")
    open_ = open_rows(result.bound, tol)
    if open_.size and terms.fallback in ("exact", "exact-raise"):
        _fall_back(A, result, open_, settings, structure)
    elif open_.size:
        result.status[open_] = "inaccurate"
    # What raises does so where the rows' numbers are known.
    if open_.size and terms.fallback != "keep":
        if terms.fallback != "nan":
            open_ = open_[to_host(result.bound[open_]) == np.inf]
        result.inverse[open_], result.bound[open_] = float("nan"), float("inf")
        result.status[open_[result.status[open_] != "singular"]] = "rejected"
    return result


def _fall_back(
    A: Any, result: InverseReport, open_: NDArray, settings: dict, structure: tuple
) -> None:
    """Replace rows by LAPACK's inverses, polished and proven in float64."""
    norm, tol = settings["norm"], settings["tol"]
    a = as_float64(A[open_])
    x = exact_inverse(a)
    singular = np.isnan(to_host(x)).all(axis=(1, 2))
    bound, _, _ = refine(a, x, max_refine=_POLISH, **settings)
    weak = np.flatnonzero(~(to_host(bound) <= tol) & ~singular)
    bound[weak] = residual_bound(a[weak], x[weak], norm)
    x, bound = rounded(x, result.inverse.dtype, bound, norm)
    x, bound = with_structure(x, bound, norm, structure[0], structure[1][open_])
    # Where LAPACK has no proof within tol either, an iterate may have the better one.
    known = to_host(result.bound[open_])
    kept = (to_host(bound) > tol) & (known < to_host(bound))
    new, rows = np.flatnonzero(~kept), open_[~kept]
    result.inverse[rows], result.bound[rows] = x[new], bound[new]
    result.n_refine[rows] = 0
    result.status[open_] = np.where(to_host(bound) <= tol, "exact", "inaccurate")
    result.status[open_[singular & ~kept]] = "singular"


def open_rows(bound: Any, tol: float) -> NDArray:
    """Return the rows that have a bound that is not within `tol`."""
    open_ = ~(to_host(bound) <= tol)
    return np.flatnonzero(open_ if open_.ndim == 1 else open_.any(axis=1))


def spread(result: InverseReport, finite: Any) -> InverseReport:
    """Put the results of the finite rows among those of all."""
    m, n = len(finite), result.inverse.shape[-1]
    if is_tensor(finite):
        torch = sys.modules["torch"]

        def full(values: Any, shape: tuple, fill: float) -> Any:
            return torch.full(shape, fill, dtype=values.dtype, device=values.device)
    else:

        def full(values: Any, shape: tuple, fill: float) -> Any:
            return np.full(shape, fill, dtype=values.dtype)

    out = InverseReport(
        inverse=full(result.inverse, (m, n, n), float("nan")),
        bound=full(result.bound, (m,), float("inf")),
        residual=full(result.residual, (m,), float("nan")),
        n_refine=full(result.n_refine, (m,), 0),
        status=np.full(m, "not finite", dtype="<U12"),
    )
    for name in ("inverse", "bound", "residual", "n_refine"):
        out[name][finite] = result[name]
    out.status[to_host(finite)] = result.status
    return out
