"""Predictions refined and proven, and LAPACK where they cannot be."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .._arrays.conversion import (
    as_double,
    in_library_of,
    is_tensor,
    namespace,
    not_a_number,
    to_host,
)
from .._arrays.memory import host_view
from .._arrays.progress import progress
from .._arrays.results import InverseReport
from .._linalg.norms import are_moderate, check_norm, sizes
from .._linalg.products import frobenius
from .._linalg.scaling import in_units
from .._linalg.threads import in_threads
from .._linalg.units import are_mixed, in_common_units
from .._linalg.workspace import empty, empty_like, every, full, indices, pieces
from ..bounds._components import component_bound, norm_of_radius
from ..bounds._refine import refine, rounded, with_symmetry
from ..bounds._residual import proven
from ..structures import symmetric_rows
from ._exact import by_closed_forms, exact_inverses, has_zero_pivot

# Steps of refinement granted to LAPACK's inverse.
POLISH = 2
# Bounds of exact inverses past this are worth more work.
_WEAK = 2.0**-30
# Bytes of a block that is predicted and proven at once.
_BLOCK = 2**22
# What becomes of a matrix: see :meth:`skinv.CertifiedInverse.report`.
STATUSES = np.array(
    [
        "predicted",
        "refined",
        "exact",
        "inaccurate",
        "rejected",
        "singular",
        "not finite",
        "projected",
    ],
    dtype="U12",
)
EXACT, INACCURATE, REJECTED, SINGULAR, NOT_FINITE, PROJECTED = range(2, 8)


class ProofTerms(NamedTuple):
    """What is to be proven, and how: parameters of :class:`skinv.CertifiedInverse`."""

    tol: float
    order: int
    norm: str
    max_refine: int
    fallback: str

    @classmethod
    def of(cls, model: Any) -> "ProofTerms":
        """Return those of a :class:`skinv.CertifiedInverse`."""
        norm = check_norm(model.norm)
        return cls(model.tol, model.order, norm, model.max_refine, model.fallback)

    def refinement(self) -> dict[str, Any]:
        """Return the parameters of :func:`skinv.bounds._refine.refine`."""
        return {
            "tol": self.tol,
            "order": self.order,
            "norm": self.norm,
            "max_refine": self.max_refine,
        }


def certify_all(
    A: Any,
    certify_block: Callable[[Any, Any, Any, Any], SimpleNamespace],
    predicted: Any = None,
    verbose: int = 0,
    more: bool = True,
) -> SimpleNamespace:
    """Certify the inverses of matrices, in blocks that stay in the cache, on several threads.

    ``certify_block(A, X, where, size)`` is asked for the finite matrices of a block, which stand
    at `where`, with their Frobenius norms if these are moderate, else None, see
    :func:`skinv._linalg.norms.are_moderate`, and may write their inverses to X. `predicted` are
    inverses of all finite ones, like A, in memory of their own. The status is a place in STATUSES;
    residuals and steps are known, at least, if there are `more` than bounds.
    """
    inverse = empty(A, tuple(A.shape))
    if predicted is not None and len(predicted) == len(A):
        inverse = predicted
    elif predicted is not None:
        inverse[indices(sizes(A) >= 0)] = predicted
    found: list[tuple[Any, SimpleNamespace]] = []  # and where

    def prove(taken: slice) -> None:
        block, where = A[taken], taken
        with np.errstate(all="ignore"):
            size = frobenius(block)
            if not are_moderate(block, size):
                finite, size = sizes(block) >= 0, None
                if not every(finite):
                    others = taken.start + indices(~finite)
                    inverse[others] = not_a_number(A)
                    found.append((others, _NOTHING))
                    where = taken.start + indices(finite)
                    block = A[where]
            if len(block):
                X = inverse[where]
                known = certify_block(block, X, where, size)
                if known.inverse is not X or where is not taken:
                    inverse[where] = known.inverse
                del known.inverse  # which stands there
                found.append((where, known))
        bar.update(taken.stop - taken.start)

    blocks = list(pieces(len(A), A.shape[1], A.itemsize, _BLOCK))
    with progress(len(A), "certifying", "matrix", verbose and blocks) as bar:
        in_threads(prove, blocks, A)
    if len(found) == 1 and found[0][0] is blocks[0] and not is_tensor(A):
        whole = vars(found[0][1])
        return SimpleNamespace(inverse=inverse, **{k: whole[k] for k in _FOUND if k in whole})
    result = _memory(A, inverse, more)
    for where, known in found:
        for name in vars(result).keys() - {"inverse"}:
            there = where if name != "status" or isinstance(where, slice) else to_host(where)
            getattr(result, name)[there] = getattr(known, name)
    return result


def all_by_closed_forms(A: Any) -> SimpleNamespace:
    """Invert matrices, finite or not, by closed forms; bounds are infinite where these fail."""
    result = _memory(A, empty(A, tuple(A.shape)), False)
    result.status[:] = EXACT

    def prove(taken: slice) -> None:
        by_closed_forms(A[taken], result.inverse[taken], result.bound[taken])

    in_threads(prove, pieces(len(A), A.shape[1], A.itemsize, _BLOCK), A)
    return result


# What is found out, in the order of reports.
_FOUND = ("bound", "status", "residual", "n_refine")
# What there is to say of a matrix that is not finite.
_NOTHING = SimpleNamespace(bound=np.inf, status=NOT_FINITE, residual=np.nan, n_refine=0)


def _memory(A: Any, inverse: Any, more: bool) -> SimpleNamespace:
    """Return inverses, and memory for what is found out of them."""
    m, double = (len(A),), namespace(A).float64
    found = SimpleNamespace(inverse=inverse, bound=empty(A, m, double))
    found.status = np.empty(m, dtype=np.uint8)
    if more:
        found.residual, found.n_refine = empty(A, m, double), empty(A, m, namespace(A).int64)
    return found


def allowed(tol: float, dtype: Any, xp: Any) -> float:
    """Return what errors are to be within: `tol`, and in half precision a rounding more."""
    return tol + float(xp.finfo(dtype).eps) / 2 if dtype.itemsize < 4 else tol


def certify(A: Any, X: Any, terms: ProofTerms, size: Any) -> SimpleNamespace:
    """Refine and prove predictions X of finite matrices A, and fall back; X is overwritten.

    `size` is as in :func:`certify_all`. Answers are symmetric or Hermitian where the matrices are.
    """
    xp, dtype = namespace(A), A.dtype
    if dtype.itemsize < 4:  # half precision
        A, X = xp.astype(A, xp.float32), xp.astype(X, xp.float32)
        terms, size = terms._replace(tol=allowed(terms.tol, dtype, xp)), None
    symmetric, tol, moderate = symmetric_rows(A), terms.tol, size is not None
    bound, residual, n_refine = refine(A, X, size=size, **terms.refinement())
    X, bound = rounded(X, dtype, bound, terms.norm)
    X, bound = with_symmetry(X, bound, terms.norm, symmetric, moderate)
    result = SimpleNamespace(inverse=X, bound=bound, residual=residual, n_refine=n_refine)
    open_: Any = ()
    if not every(bound <= tol):
        # A sharper proof for those that rounding, or a loose bound, kept from theirs.
        open_ = open_rows(bound, tol)
        near = open_[bound[open_] < 1]
        if len(near):
            bound[near] = proven(as_double(A[near]), as_double(X[near]), terms.norm)
            open_ = open_rows(bound, tol)
        if len(open_):
            prove_in_own_units(A, result, open_, symmetric, terms)
            open_ = open_rows(bound, tol)
    result.status = to_host(n_refine).astype(bool).view(np.uint8)  # predicted or refined
    if not len(open_):
        return result
    result.status[to_host(open_)] = INACCURATE
    if terms.fallback in ("exact", "exact-raise"):
        _fall_back(A, result, open_, symmetric, terms._replace(max_refine=POLISH))
    # What raises does so where the rows' numbers are known.
    if terms.fallback != "keep":
        if terms.fallback != "nan":
            open_ = open_[bound[open_] == np.inf]
        result.inverse[open_], bound[open_] = not_a_number(X), np.inf
        host = to_host(open_)
        result.status[host[result.status[host] != SINGULAR]] = REJECTED
    return result


def prove_in_own_units(
    A: Any, result: SimpleNamespace, rows: Any, symmetric: Any, terms: ProofTerms
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
    A: Any, result: SimpleNamespace, open_: Any, symmetric: Any, terms: ProofTerms
) -> None:
    """Replace rows by LAPACK's inverses, polished and proven in double precision."""
    norm, tol = terms.norm, terms.tol
    a = as_double(A[open_])
    x = empty_like(a)
    bound = exact_inverses(a, x, norm)
    singular = has_zero_pivot(a, x)
    weak = indices(~(bound <= tol) & ~singular)
    if len(weak):
        y = x[weak]
        refined, _, _ = refine(a[weak], y, **terms.refinement())
        x[weak], bound[weak] = y, namespace(x).minimum(refined, proven(a[weak], y, norm))
    x, bound = rounded(x, result.inverse.dtype, bound, norm)
    x, bound = with_symmetry(x, bound, norm, symmetric[open_])
    weak = indices(~(bound <= tol) & ~singular)
    if len(weak):
        polished = full(bound, (len(a),), 0, namespace(bound).int64)
        inverses = SimpleNamespace(inverse=x, bound=bound, n_refine=polished)
        prove_in_own_units(a, inverses, weak, symmetric[open_], terms)
    # Where LAPACK has no proof within tol either, an iterate may have the better one.
    known = result.bound[open_]
    kept = (bound > tol) & (known < bound)
    new, rows = indices(~kept), open_[~kept]
    result.inverse[rows], result.bound[rows] = x[new], bound[new]
    result.n_refine[rows] = 0
    status = np.where(to_host(bound) <= tol, EXACT, INACCURATE)
    status[to_host(singular & ~kept)] = SINGULAR
    result.status[to_host(open_)] = status


def invert(A: Any, X: Any, size: Any, terms: ProofTerms) -> SimpleNamespace:
    """Invert finite matrices, and prove it.

    `size` is as in :func:`certify_all`, and X memory for inverses. Answers are symmetric or
    Hermitian where the matrices are. See :func:`skinv.certified._proofs.certify`.
    """
    a = as_double(A)
    x, norm = X if X.dtype == a.dtype else empty_like(a), terms.norm
    bound = exact_inverses(a, x, norm, size if a is A else None)
    singular = has_zero_pivot(a, x)
    open_ = indices(~(bound <= min(_WEAK, terms.tol)) & ~singular)
    if len(open_):
        bound[open_] = proven(a[open_], x[open_], norm)
    symmetric = symmetric_rows(A)
    X, bound = with_symmetry(*rounded(x, A.dtype, bound, norm), norm, symmetric)
    result = SimpleNamespace(inverse=X, bound=bound)
    open_ = indices(~(bound <= terms.tol) & ~singular)
    if len(open_):
        result.n_refine = full(bound, bound.shape, 0, namespace(bound).int64)
        prove_in_own_units(A, result, open_, symmetric, terms)
        del result.n_refine
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


def open_rows(bound: Any, tol: float) -> Any:
    """Return the rows that have a bound (m,) or (m, k) that is not within `tol`."""
    open_ = ~(bound <= tol)
    return indices(open_ if open_.ndim == 1 else open_.any(1))


def radius_of(result: InverseReport, A: Any) -> Any:
    """Bound every entry of the answers for matrices (m, n, n) in the units of that entry."""
    inverse = result["inverse"]
    radius = component_bound(host_view(A), host_view(inverse.reshape(A.shape)))
    radius = in_library_of(A, radius) if is_tensor(A) and not is_tensor(radius) else radius
    return radius.reshape(inverse.shape)
