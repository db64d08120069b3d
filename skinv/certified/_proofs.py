"""Predictions refined and proven, and LAPACK where they cannot be."""

from typing import Any, NamedTuple

import numpy as np

from .._arrays.conversion import as_double, namespace, not_a_number, to_host
from .._arrays.progress import progress
from .._arrays.results import InverseReport
from .._linalg.products import exact_inverse
from .._linalg.scaling import in_units
from .._linalg.units import are_mixed, in_common_units
from .._linalg.workspace import empty, full, indices
from ..bounds._components import component_bound, norm_of_radius
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

    def refinement(self) -> dict[str, Any]:
        """Return the parameters of :func:`skinv.bounds._refine.refine`."""
        return {name: value for name, value in self._asdict().items() if name != "fallback"}


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
    xp, dtype = namespace(A), A.dtype
    if dtype.itemsize < 4:  # half precision
        A, X = xp.astype(A, xp.float32), xp.astype(X, xp.float32)
        terms = terms._replace(tol=terms.tol + xp.finfo(dtype).eps / 2)
    symmetric, tol = symmetric_rows(A), terms.tol
    bound, residual, n_refine = refine(A, X, **terms.refinement())
    X, bound = with_symmetry(*rounded(X, dtype, bound, terms.norm), terms.norm, symmetric)
    result = InverseReport(inverse=X, bound=bound, residual=residual, n_refine=n_refine)
    # A sharper proof for those that rounding, or a loose bound, kept from theirs.
    near = open_rows(bound, tol)
    near = near[bound[near] < 1]
    if len(near):
        bound[near] = proven(as_double(A[near]), as_double(X[near]), terms.norm)
    open_ = open_rows(bound, tol)
    if len(open_):
        _in_own_units(A, result, open_, symmetric, terms)
    refined = to_host(n_refine) > 0
    result.status = np.where(refined, "refined", "predicted").astype("<U12")
    open_ = open_rows(bound, tol)
    if not len(open_):
        return result
    result.status[to_host(open_)] = "inaccurate"
    if terms.fallback in ("exact", "exact-raise"):
        _fall_back(A, result, open_, symmetric, terms._replace(max_refine=_POLISH))
    # What raises does so where the rows' numbers are known.
    if terms.fallback != "keep":
        if terms.fallback != "nan":
            open_ = open_[bound[open_] == np.inf]
        result.inverse[open_], bound[open_] = not_a_number(X), np.inf
        host = to_host(open_)
        result.status[host[result.status[host] != "singular"]] = "rejected"
    return result


@np.errstate(all="ignore")
def _in_own_units(
    A: Any, result: InverseReport, rows: Any, symmetric: Any, terms: ProofTerms
) -> None:
    """Refine and prove rows in units in which they are of one size, where that is better."""
    X, bound, n_refine = result.inverse, result.bound, result.n_refine
    rows = rows[indices((bound[rows] < 1) | are_mixed(A[rows]))]
    if not len(rows):
        return
    a = as_double(A[rows])
    scaled, y, units_b, units_x = in_common_units(a, as_double(X[rows]))
    # To where rounding ends it: the norm in which `tol` is meant is another one.
    wanted = terms._replace(tol=0.0).refinement()
    found, _, steps = refine(scaled, y, n_refine[rows], **wanted)
    good = indices(found < 1)
    y = in_units(y[good], units_x[good], -units_b[good])
    found = norm_of_radius(y, component_bound(a[good], y), terms.norm)
    y, found = rounded(y, X.dtype, found, terms.norm)
    y, found = with_symmetry(y, found, terms.norm, symmetric[rows[good]])
    better = indices(found < bound[rows[good]])
    taken = rows[good][better]
    X[taken], bound[taken], n_refine[taken] = y[better], found[better], steps[good][better]


def _fall_back(
    A: Any, result: InverseReport, open_: Any, symmetric: Any, terms: ProofTerms
) -> None:
    """Replace rows by LAPACK's inverses, polished and proven in double precision."""
    norm, tol = terms.norm, terms.tol
    a = as_double(A[open_])
    x = exact_inverse(a)
    singular = namespace(x).isnan(x[:, 0, 0])
    bound, _, _ = refine(a, x, **terms.refinement())
    weak = indices(~(bound <= tol) & ~singular)
    if len(weak):
        bound[weak] = proven(a[weak], x[weak], norm)
    x, bound = rounded(x, result.inverse.dtype, bound, norm)
    x, bound = with_symmetry(x, bound, norm, symmetric[open_])
    weak = indices(~(bound <= tol) & ~singular)
    if len(weak):
        polished = full(bound, (len(a),), 0, namespace(bound).int64)
        inverses = InverseReport(inverse=x, bound=bound, n_refine=polished)
        _in_own_units(a, inverses, weak, symmetric[open_], terms)
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
