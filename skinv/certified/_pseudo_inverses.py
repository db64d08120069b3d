"""Pseudo-inverses that a regressor predicts of matrices of full rank, refined and proven."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from .._arrays.conversion import as_double, namespace, not_a_number, to_host
from .._arrays.projected import moved_rows
from .._arrays.results import PROVEN, InverseReport
from .._arrays.rows import refuse_nonfinite
from .._arrays.shapes import rectangular_shape
from .._linalg.gram import adjoint, gram
from .._linalg.norms import check_norm, finite_rows
from .._linalg.products import product
from .._linalg.threads import in_threads
from .._linalg.workspace import copied, full, indices, piece_memory, pieces
from ..learn.rectangular import (
    as_stack,
    inverses_of_targets,
    real_rows,
    true_pseudo_inverses,
)
from ..learn.regressor import InverseRegressorMixin
from ._fitting import final_of, finds_targets, fitted, is_of_others
from ._full_rank import as_they_are, full_rank_inverses, rounded_tall, stepped
from ._given import Rectangles
from ._guesses import guess
from ._proofs import EXACT, INACCURATE, NOT_FINITE, REJECTED, STATUSES, open_rows


def fit_pseudo_inverses(model: Any, X: Any, y: Any, fit_params: dict[str, Any]) -> None:
    """Fit the regressor of a :class:`skinv.CertifiedInverse` to a stack that is not square."""
    refuse_other_norm(model.norm)
    A, estimator = as_stack(X), model.estimator
    refuse_nonfinite(real_rows(A), "X")
    if y is not None:
        inverses_of_targets(gram(A), y, model._shape)
    if isinstance(estimator, FrozenEstimator):
        check_is_fitted(estimator)
        model.estimator_ = clone(estimator)
        final = final_of(estimator)
        if isinstance(final, InverseRegressorMixin):
            final._refuse_other_shape(model._shape)
    elif finds_targets(estimator) or not (hasattr(estimator, "steps") or is_of_others(estimator)):
        model.estimator_ = fitted(estimator, X, y, fit_params)
    elif A.dtype.kind == "c":
        raise ValueError(
            "Got complex matrices that are not square, but these are learned by skinv's regressors "
            "only: pass one, without other steps before it than a FeasibleRegionSampler."
        )
    else:
        targets = real_rows(true_pseudo_inverses(X) if y is None else y)
        model.estimator_ = fitted(estimator, real_rows(A), targets, fit_params)
    model.n_features_in_ = A.shape[1] * A.shape[2]
    model.__dict__.pop("feature_names_in_", None)  # of an earlier fit


def refuse_other_norm(norm: Any) -> None:
    if check_norm(norm) != "fro":
        raise ValueError(
            f"Got norm={norm!r}, but errors of pseudo-inverses are bounded in the Frobenius norm "
            f"only: use norm='fro'."
        )


def report_pseudo_inverses(model: Any, X: Any) -> InverseReport:
    """Return what :meth:`skinv.CertifiedInverse.report` does of a stack that is not square."""
    refuse_other_norm(model.norm)
    model._refuse_other_shape(rectangular_shape(X))
    given, estimator = Rectangles.of(X), model.estimator_
    A = given.stack
    asked = adjoint(A) if given.tall else A
    own = getattr(final_of(estimator), "_shape", None) is not None
    finite = finite_rows(A)
    index = None if bool(finite.all()) else indices(finite)
    X0 = guess(estimator, asked if own else asked.reshape(len(A), -1), adjoint(asked), index)
    predicted = adjoint(X0) if given.tall else X0
    whole = full(A, (len(A), *predicted.shape[1:]), not_a_number(A))
    whole[slice(None) if index is None else index] = predicted
    found = _certified(A, whole, model)
    host, bad = to_host(found["bound"]), to_host(~finite)
    status = np.where(found.pop("exact"), EXACT, (to_host(found["n_refine"]) > 0).astype(int))
    known = (host < 1) | (model.fallback == "keep")
    status = np.where(host <= model.tol, status, np.where(known, INACCURATE, REJECTED))
    if model.fallback != "keep":
        lost = ~(host <= model.tol) if model.fallback == "nan" else ~(host < 1)
        found["inverse"][lost], found["bound"][lost] = not_a_number(A), np.inf
        status[lost] = REJECTED
    found["inverse"][bad], status[bad] = not_a_number(A), NOT_FINITE
    result = InverseReport(**found, status=STATUSES[status])
    result.tol = float(model.tol)
    moved = moved_rows(X)
    if moved.size:
        result.inverse[moved], result.bound[moved] = not_a_number(A), np.inf
        result.status[moved] = "projected"
    if "raise" in model.fallback:
        model._refuse(~np.isin(result.status, PROVEN), "pseudo-inverses")
    result.inverse = given.answers(result.inverse)
    for name in ("bound", "residual", "n_refine"):
        result[name] = given.came.numbers(result[name])
    result._later("radius", _radius, given._replace(stack=copied(A)))
    return result


def _certified(A: Any, X: Any, model: Any) -> dict[str, Any]:
    """Refine and prove predictions X (k, n, m) for a stack (k, m, n), m <= n, piece by piece."""
    xp, (k, _, n) = namespace(A), A.shape
    found = {"inverse": X, "bound": full(A, (k,), np.inf, xp.float64)}
    found["residual"] = full(A, (k,), np.nan, xp.float64)
    found["n_refine"] = full(A, (k,), 0, xp.int64)
    exact: NDArray[np.bool_] = np.zeros(k, dtype=bool)
    falls_back = model.fallback in ("exact", "exact-raise")

    def prove(piece: slice) -> None:
        with np.errstate(all="ignore"):
            a, x = as_double(A[piece]), as_double(X[piece])
            bound, _, residual = as_they_are(a, x)
            steps = found["n_refine"][piece]
            for _ in range(model.max_refine):
                open_ = open_rows(bound, model.tol)
                y = x[open_]
                y, off, _ = stepped(a[open_], product(adjoint(y), y))
                better = off < bound[open_]
                open_ = open_[better]
                if not len(open_):
                    break
                x[open_], bound[open_] = y[better], off[better]
                steps[open_] += 1
            x, bound = rounded_tall(x, X.dtype, bound)
            open_ = open_rows(bound, model.tol)
            if falls_back and len(open_):
                y, off, _ = full_rank_inverses(A[piece][open_], None)
                better = off < bound[open_]
                open_ = open_[better]
                x[open_], bound[open_], steps[open_] = y[better], off[better], 0
                exact[piece][to_host(open_)] = True
            found["inverse"][piece], found["bound"][piece] = x, bound
            found["residual"][piece] = xp.where(residual < np.inf, residual, np.nan)

    in_threads(prove, pieces(k, n, as_double(A[:0]).itemsize, piece_memory(A)), A)
    return found | {"exact": exact}


def _radius(report: InverseReport, given: Rectangles) -> Any:
    """Bound every entry by the error of its column, of pseudo-inverses of wide matrices."""
    A = as_double(given.stack)
    X = as_double(adjoint(Rectangles.of(report["inverse"]).stack))
    with np.errstate(all="ignore"):
        error = as_they_are(A, X)[1]
    return given.answers(copied(namespace(error).broadcast_to(error[:, None], tuple(X.shape))))
