"""CertifiedInverse: every answer with a proof of its error, or the exact inverse instead."""

from __future__ import annotations

import copy
import math
import sys
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._arrays.blocks import by_blocks, is_dask
from .._arrays.conversion import as_float64
from .._arrays.embedding import embed_complex, first_copy
from .._arrays.estimators import private, reads_only, unwrapped
from .._arrays.host import is_complex, like, real_array, to_host
from .._arrays.kinds import is_tensor, namespace
from .._arrays.pairs import refuse_inexact
from .._arrays.progress import progress
from .._arrays.projected import moved_rows
from .._arrays.results import PROVEN, InverseReport
from .._arrays.rows import expecting_unanswered, list_rows, numbered, refuse_nonfinite
from .._arrays.shapes import (
    Layout,
    as_stack,
    flatten_stack,
    matrix_order,
    may_be_single,
    restore_layout,
)
from .._arrays.training import targets_are_inverses, training_rows
from .._arrays.validation import validate_rows
from .._linalg.inverses import check_inverse_targets, exact_inverse, training_inverses
from .._linalg.norms import finite_rows
from ..bounds._refine import refine, rounded, with_structure
from ..bounds._residual import check_norm, residual_bound
from ..geometry._sampler import FeasibleRegionSampler
from ..learn.linear import LinearInverseApprox
from ..learn.neural import NeuralInverseRegressor
from ..learn.regressor import InverseRegressorMixin, WrapsRegressorMixin
from ..learn.structured import StructuredInverse
from ..refinement import ORDERS
from ..structures import structured, symmetric_rows, unpack_symmetric
from ._anchor import Anchor
from ._sides import complex_vectors, right_hand_sides, rounded_solution, take_better, unknown
from ._solving import solve_near, solve_with

__all__ = ["CertifiedInverse"]

# Steps of refinement granted to LAPACK's inverse.
_POLISH = 2
# Regressors whose predictions are fresh memory, and cheap to ask for in blocks of so many bytes.
_OURS = (LinearInverseApprox, NeuralInverseRegressor)
_BLOCK = 2**22
# How often a regressor is asked, at most, to find out at which matrices it raises.
_CALLS = 256
# What is raised whatever the matrices.
_FAULTS = (NotFittedError, NotImplementedError, TypeError, AttributeError, NameError, MemoryError)


class CertifiedInverse(
    WrapsRegressorMixin, InverseRegressorMixin, MetaEstimatorMixin, BaseEstimator
):
    """Predict, refine and prove inverses, with LAPACK where nothing can be proven.

    Any regressor of inverses makes the first guess. Matrix products refine it (Newton-Schulz) and
    bound its error rigorously, matrix by matrix; those that do not come within `tol` go to the
    fallback. No matrix spoils the others: singular and non-finite ones come back as NaN with an
    infinite bound, and those at which the regressor raises go to the fallback.

    What is proven is what the caller gave. Regressors of other libraries, pipelines and functions
    get copies, so that nothing they write can change it, and matrices that a
    ``FeasibleRegionSampler(on_infeasible="project")`` in the step before has moved are refused.

    Parameters
    ----------
    estimator : estimator with ``fit`` and ``predict``
        Regressor from matrices, as rows of n*n entries, to their inverses: one of skinv, of
        scikit-learn, a pipeline or a search. A fitted one may be used without calling ``fit`` here,
        and a :class:`sklearn.frozen.FrozenEstimator` is not fitted again.
    tol : float, default=1e-6
        Relative error ‖A⁻¹ − X‖ / ‖A⁻¹‖ to be proven. Below about n²u cond(A), u the unit roundoff
        of float64, no proof can succeed. For tensors in half precision the unit roundoff of these,
        4.9e-4 in float16 and 3.9e-3 in bfloat16, is added, as answers are rounded to it.
    max_refine : int, default=8
        Largest number of refinement steps per matrix.
    order : {2, 3, 4}, default=2
        Order of the refinement; see :func:`skinv.refinement.newton_schulz`.
    fallback : {"exact", "exact-raise", "nan", "keep", "raise"}, default="exact"
        What becomes of matrices whose error could not be proven to be within `tol`: LAPACK's
        inverse with its own bound, or a ValueError that names them where that is not within `tol`
        either; NaN; what refinement ended with; or a ValueError without asking LAPACK. Only with
        "keep" can there be numbers of which nothing is proven.
    norm : {"fro", "inf", "1"}, default="fro"
        Norm of the errors: Frobenius, largest row sum or largest column sum; for complex matrices
        those of their real embeddings.
    family : callable, default=None
        Function p → A(p) of a parametric family of matrices: it takes rows of parameters
        (n_samples, n_parameters), and returns matrices as rows or a stack, real or complex. `X` are
        the parameters then, in all methods, and what the regressor learns from; answers are proven
        for the matrices of the family, and have the layout that the function returns. To be
        pickled it must be a function of a module.
    verbose : int, default=0
        1 shows a progress bar over the matrices that ``predict`` and ``report`` certify.

    Attributes
    ----------
    estimator_ : estimator
        The fitted regressor.
    n_features_in_ : int
        n*n, (2n)² for complex matrices, or the number of parameters of a family.

    See Also
    --------
    skinv.bounds.residual_bound : The proof by itself.
    skinv.refinement.newton_schulz : The refinement by itself.

    Notes
    -----
    With R = I − AX and ‖R‖ < 1 the relative error is at most ‖R‖; a step of order p turns R into
    R^p, whose norm is bounded, rounding included, before the step is taken (Higham 2002, "Accuracy
    and Stability of Numerical Algorithms", sections 3.5 and 14; Rump 2010, "Verification methods:
    rigorous results using floating-point arithmetic"). float32 matrices are refined in float32
    while that helps, then in float64 if `tol` needs it, and rounded.

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, LinearInverseApprox
    >>> sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    >>> X, Y = sampler.sample(100)
    >>> model = CertifiedInverse(LinearInverseApprox(), tol=1e-10).fit(X)
    >>> A = np.array([[[3.2, 1.1], [0.8, 2.0]], [[1.0, 1.0], [1.0, 1.0]]])
    >>> inverse, bound = model.predict(A, return_bound=True)
    >>> bool(bound[0] <= 1e-10), bool(abs(inverse[0] - np.linalg.inv(A[0])).max() < 1e-10)
    (True, True)
    >>> inverse[1, 0], float(bound[1]), model.report(A).status
    (array([nan, nan]), inf, array(['refined', 'singular'], dtype='<U12'))
    """

    _stored: ClassVar = {"_anchor": Anchor}
    _reads_only = True
    _parameter_constraints: dict[str, list] = {
        "estimator": [HasMethods(["fit", "predict"])],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_refine": [Interval(Integral, 0, None, closed="left")],
        "order": [Options(Integral, set(ORDERS))],
        "fallback": [StrOptions({"exact", "exact-raise", "nan", "keep", "raise"})],
        "norm": [StrOptions({"fro", "inf", "1"}), Options(Real, {1, np.inf})],
        "family": [callable, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        tol: float = 1e-6,
        max_refine: int = 8,
        order: int = 2,
        fallback: str = "exact",
        norm: str | float = "fro",
        family: Callable[[Any], Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.tol = tol
        self.max_refine = max_refine
        self.order = order
        self.fallback = fallback
        self.norm = norm
        self.family = family
        self.verbose = verbose

    def _validate_params(self) -> None:
        super()._validate_params()
        real_array(self.tol, "tol")

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, X: Any = None, y: Any = None, **fit_params: Any) -> CertifiedInverse:
        """Fit the regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n) or (n_samples, n, n), default=None
            Training matrices. May be left out where the regressor needs none.
        y : array-like of shape (n_samples, n*n) or (n_samples, n, n), default=None
            Their inverses; None computes them.
        **fit_params : dict
            Passed to the regressor's ``fit``, or routed to it where metadata routing is enabled.

        Returns
        -------
        self : CertifiedInverse

        Raises
        ------
        ValueError
            For training matrices that are not finite or, where the regressor needs their inverses,
            singular or nearly so (the rows are named), or targets that are not inverses.

        Warns
        -----
        AmbiguousShapeWarning
            If `X` could be a single matrix.
        """
        self._validate_params()
        fit_params = self._routed(fit_params)
        X = to_host(X) if is_dask(X) else X
        m = len(X) if hasattr(X, "__len__") else -1
        by_row = [name for name, value in fit_params.items() if _is_by_row(value, m)]
        with training_rows(X, y, *(fit_params[name] for name in by_row)) as (X, y, *values):
            return self._fit(X, y, {**fit_params, **dict(zip(by_row, values, strict=True))})

    def _fit(self, X: Any, y: Any, fit_params: dict[str, Any]) -> CertifiedInverse:
        self._y_ndim = 2
        self.__dict__.pop("_mean", None)  # of an earlier fit
        if self.family is not None and X is not None:
            return self._fit_family(X, y, fit_params)
        frozen = isinstance(self.estimator, FrozenEstimator)
        if X is None or (frozen and y is None):
            if X is not None:
                self._validate_pair(X, None)
            self.estimator_ = clone(self.estimator)
            if frozen:
                check_is_fitted(self.estimator_)
            else:
                self._fit_without_data(fit_params)
            self._adopt_features(self.estimator_)
            self._anchor = self._find_anchor()
            return self
        targets: Any = None
        if y is None and _finds_targets(self.estimator):
            rows, inverses = self._validate_pair(X, None)[0], True
        else:
            rows, targets, inverses = self._validate_training(X, y)
        layout = Layout.COMPLEX if not hasattr(X, "columns") and is_complex(X) else Layout.ROWS
        if not inverses:
            raise ValueError(
                "Got targets that are not the inverses of the matrices, but only errors of "
                "inverses can be proven; leave y out to have them computed."
            )
        given = self._given(X, rows, layout)
        if rows.dtype == np.float32 and _is_foreign(self.estimator):
            targets = targets.astype(np.float32)  # networks of one precision take no other
        self._mean = as_stack(rows.mean(axis=0, dtype=np.float64)[None])[0]
        self.estimator_ = self._fitted(given, targets, fit_params)
        self._anchor = self._find_anchor()
        return self

    def _fitted(self, given: Any, targets: Any, fit_params: dict[str, Any]) -> Any:
        """Return a fitted regressor, which got copies if it might write to what it is given."""
        if targets is None and may_be_single(given):  # a warning is enough
            given = restore_layout(given, True)
        if not reads_only(self.estimator):
            given = private(given)
            targets = None if targets is None else targets.copy()
            fit_params = private(fit_params)
        estimator = clone(self.estimator)
        if targets is not None and type(estimator) is Pipeline and len(estimator.steps) > 1:
            first = estimator.steps[0]
            if isinstance(first[1], FeasibleRegionSampler) and first[1].on_infeasible == "nan":
                return _fitted_behind(first, estimator, given, targets, fit_params)
        return estimator.fit(given, targets, **fit_params)

    def _fit_without_data(self, fit_params: dict) -> None:
        """Fit a regressor that needs no matrices."""
        try:
            self.estimator_.fit(**fit_params)
        except TypeError as error:
            raise ValueError(
                f"Got no matrices, but {self.estimator!r} cannot be fitted without: pass X."
            ) from error

    def _fit_family(self, X: Any, y: Any, fit_params: dict) -> CertifiedInverse:
        """Fit the regressor from parameters to the inverses of their matrices."""
        given, rows, _ = self._validate_matrices(X, reset=True)
        rows = to_host(as_float64(rows))
        refuse_nonfinite(rows, "X, or what family returns for it,")
        if y is None:
            targets = training_inverses(rows)
        else:
            targets = real_array(flatten_stack(to_host(y))[0], "y")
            if not targets_are_inverses(rows, targets):
                raise ValueError(
                    "Got targets that are not the inverses of the matrices of the family; leave y "
                    "out to have them computed."
                )
            check_inverse_targets(as_stack(rows), as_stack(targets))
        self._mean = as_stack(rows.mean(axis=0)[None])[0]
        if isinstance(self.estimator, FrozenEstimator):
            self.estimator_ = clone(self.estimator)
        else:
            self.estimator_ = self._fitted(given, targets, fit_params)
        self._anchor = self._find_anchor()
        return self

    def _adopt_features(self, estimator: Any) -> None:
        for name in ("n_features_in_", "feature_names_in_"):
            value = getattr(estimator, name, None)
            if value is not None:
                setattr(self, name, value)

    def _ready(self) -> CertifiedInverse:
        """Return this estimator, or if only the regressor is fitted one that is ready with it."""
        if hasattr(self, "estimator_"):
            return self
        try:
            check_is_fitted(self.estimator)
        except NotFittedError:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' first, or pass "
                f"a fitted estimator."
            ) from None
        self._validate_params()
        ready = copy.copy(self)
        ready.estimator_ = self.estimator
        ready._y_ndim = 2
        ready._adopt_features(self.estimator)
        return ready

    def __sklearn_is_fitted__(self) -> bool:
        try:
            self._ready()
        except NotFittedError:
            return False
        return True

    # -- predicting ------------------------------------------------------------------------------

    @overload
    def predict(self, X: NDArray, return_bound: Literal[False] = ...) -> NDArray: ...
    @overload
    def predict(
        self, X: NDArray, return_bound: Literal[True]
    ) -> tuple[NDArray, NDArray[np.float64]]: ...
    @overload
    def predict(self, X: Any, return_bound: Literal[True]) -> tuple[Any, Any]: ...
    @overload
    def predict(self, X: Any, return_bound: bool = ...) -> Any: ...
    def predict(self, X: Any, return_bound: bool = False) -> Any:
        """Return inverses whose errors are proven, or what the fallback makes of the others.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n) or (n_samples, n, n)
            Matrices; NaN and infinity are allowed, and answered by NaN.
        return_bound : bool, default=False
            Whether to return the bounds too.

        Returns
        -------
        inverse : ndarray or tensor of the shape of `X`
            float32 for float32, else float64; a tensor of its floating-point dtype, on its device,
            for a tensor; for a dask array one that is computed later, as is its bound.
        bound : ndarray or tensor of shape (n_samples,), float64
            Proven upper bounds of ‖A⁻¹ − X‖ / ‖A⁻¹‖, inf where nothing is proven. Only if
            `return_bound`.

        Raises
        ------
        ValueError
            For a wrong number of features, for numbers that float64 cannot hold, and with
            ``fallback="raise"`` or "exact-raise" if an error could not be proven to be within
            `tol`.
        """
        result = self.report(X)
        return (result.inverse, result.bound) if return_bound else result.inverse

    def report(self, X: Any) -> InverseReport:
        """Return inverses with all that is known of them.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n) or (n_samples, n, n)
            Matrices.

        Returns
        -------
        InverseReport
            A Bunch. ``inverse``: as :meth:`predict`. ``bound`` (n_samples,): proven upper bounds of
            the relative errors. ``residual`` (n_samples,): bounds of ‖I − AX‖ of the regressor's
            own prediction (made symmetric or complex, where the matrix is), NaN where there is
            none. ``n_refine`` (n_samples,): refinement steps
            taken. ``status`` (n_samples,), an array of str:

            * "predicted": the prediction itself is within `tol`;
            * "refined": within `tol` after ``n_refine`` steps;
            * "exact": LAPACK's inverse, within `tol`;
            * "inaccurate": LAPACK's inverse, or with ``fallback="keep"`` the last iterate, of
              which `tol` could not be proven: ``bound`` says what could;
            * "rejected": NaN, by ``fallback="nan"``, or because nothing could be proven of LAPACK's
              inverse either (the matrix is singular but for rounding, or the inverse overflows);
            * "singular": NaN, because LAPACK met a zero pivot;
            * "not finite": NaN, because the matrix has NaN or infinite entries;
            * "projected": NaN, because a region moved the matrix, which has another inverse.

            Of a dask array they are dask arrays, which ``dask.compute(dict(report))`` computes in
            one pass.

        Raises
        ------
        ValueError
            As :meth:`predict`.
        """
        if is_dask(X):
            return by_blocks(self, "report", X)
        ready = self._ready()
        given, rows, layout = ready._validate_matrices(X)
        stack = restore_layout(rows, True)
        is_complex = layout == Layout.COMPLEX
        finite = finite_rows(stack)
        index = None if bool(finite.all()) else to_host(finite).nonzero()[0]
        A = stack if index is None else stack[index]
        step = max(_BLOCK // (A.shape[1] ** 2 * A.itemsize), 1)
        many = len(A) > step and type(_final(ready.estimator_)) in _OURS
        # Others are asked at once, whatever the blocks: what they say may depend on the batch.
        guess = None if many else ready._guess(given, rows, index)
        if many or (self.verbose and len(A)):
            chosen = given if index is None else _safe_indexing(given, index)
            kept = range(len(stack)) if index is None else index
            with numbered(kept, len(stack)):
                result = ready._certify_blocks(A, chosen, guess, step, is_complex)
        else:
            result = ready._certify(A, guess, is_complex)
        if index is not None:
            result = _spread(result, finite)
        moved = moved_rows(X)
        if moved.size:
            result.inverse[moved], result.bound[moved] = float("nan"), float("inf")
            result.status[moved] = "projected"
        self._refuse(result.status)
        if is_complex:
            result.inverse = first_copy(result.inverse)
        else:
            result.inverse = restore_layout(result.inverse.reshape(rows.shape), layout)
        return result

    @overload
    def solve(self, X: NDArray, b: NDArray, return_bound: Literal[False] = ...) -> NDArray: ...
    @overload
    def solve(
        self, X: NDArray, b: NDArray, return_bound: Literal[True]
    ) -> tuple[NDArray, NDArray[np.float64]]: ...
    @overload
    def solve(self, X: Any, b: Any, return_bound: Literal[True]) -> tuple[Any, Any]: ...
    @overload
    def solve(self, X: Any, b: Any, return_bound: bool = ...) -> Any: ...
    def solve(self, X: Any, b: Any, return_bound: bool = False) -> Any:
        """Solve A x = b for each matrix, with proven errors and without forming A⁻¹.

        Near the centre of the regressor (that of :class:`LinearInverseApprox`, the first
        :class:`FeasibleRegionSampler` of a pipeline, or else the mean of the matrices given to
        ``fit``) the inverse of the centre serves all: O(n²) operations per matrix and step.
        Elsewhere the prediction is tried, and then the fallback.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n) or (n_samples, n, n)
            Matrices.
        b : array-like or tensor of shape (n_samples, n) or (n_samples, n, k)
            One right-hand side per matrix, or k of them.
        return_bound : bool, default=False
            Whether to return the bounds too.

        Returns
        -------
        x : ndarray or tensor of the shape of `b`
            Solutions, in the dtype of `X` and `b` if both have the same floating-point one, else in
            float64; NaN for matrices or right-hand sides that are not finite, where nothing is
            proven (unless ``fallback="keep"``), and with ``fallback="nan"`` where `tol` could not
            be proven.
        bound : ndarray or tensor of shape (n_samples,) or (n_samples, k), float64
            Proven upper bounds of ‖x − A⁻¹b‖₂ / ‖x‖₂, inf where nothing is proven. Only if
            `return_bound`.

        Raises
        ------
        ValueError
            For shapes that do not match, and with ``fallback="raise"`` or "exact-raise" if an error
            could not be proven to be within `tol`.

        Notes
        -----
        x ← x + P(b − Ax) contracts the error by q = ‖I − PA‖ a step, and the error after a step is
        at most q/(1 − q) times the step, rounding aside. Near the centre A₀, with P its inverse, q
        is at most ‖P‖₂‖A − A₀‖_F, or ``max (|P||A − A₀|w)/w`` in a weighted maximum norm.

        Examples
        --------
        >>> from skinv import LinearInverseApprox
        >>> model = CertifiedInverse(LinearInverseApprox([[3.0, 1.0], [1.0, 2.0]])).fit()
        >>> x, bound = model.solve([[[3.1, 1.0], [0.9, 2.0]]], [[1.0, 1.0]], return_bound=True)
        >>> x, bool(bound[0] <= 1e-6)
        (array([[0.1886792, 0.4150943]]), True)
        """
        if is_dask(X) or is_dask(b):
            return by_blocks(self, "solve", X, b, return_bound=return_bound)
        ready = self._ready()
        given, rows, layout = ready._validate_matrices(X)
        b = right_hand_sides(b, rows, layout == Layout.COMPLEX)
        A = restore_layout(rows, True)
        columns = as_float64(b if b.ndim == 3 else b[:, :, None])
        xp = namespace(A)
        x, bound = unknown(columns)
        good = bound > 0  # all
        with np.errstate(over="ignore", invalid="ignore"):
            everything = bool(xp.isfinite(columns.sum()))
        if not everything:  # one bad column does not spoil the others
            good = xp.isfinite(columns).all(1)
            columns = xp.where(good[:, None], columns, xp.zeros_like(columns))
        anchor = ready._anchor if hasattr(ready, "_anchor") else ready._find_anchor()
        if anchor is not None:  # here NaN and infinity are but far from the centre
            x, bound = solve_near(anchor, A, columns, self.tol)
        methods = [ready._solve_by_prediction]
        if self.fallback in ("exact", "exact-raise"):
            methods.append(ready._solve_exactly)
        for method in methods:
            open_ = _open(bound, self.tol)
            open_ = open_[to_host(finite_rows(A[open_]))]
            if open_.size:
                other = method(given, rows, A[open_], columns[open_], open_)
                take_better(x, bound, open_, *other)
        dtype = rows.dtype if rows.dtype == b.dtype else columns.dtype
        x, bound = rounded_solution(x, dtype, bound)
        if self.fallback != "keep":
            good = good & (bound <= (self.tol if self.fallback == "nan" else sys.float_info.max))
        moved = moved_rows(X)
        if moved.size:
            good[moved] = False
        if not bool(good.all()):
            bound = xp.where(good, bound, xp.full_like(bound, float("inf")))
            x = xp.where(good[:, None], x, xp.full_like(x, float("nan")))
        status = np.full(len(x), "", dtype="<U12")
        status[_open(bound, self.tol)] = "inaccurate"
        self._refuse(status, "solutions")
        x, bound = x.reshape(b.shape), bound if b.ndim == 3 else bound[:, 0]
        if layout == Layout.COMPLEX:
            x = complex_vectors(x)
        return (x, bound) if return_bound else x

    def _solve_by_prediction(self, given: Any, rows: Any, A: Any, b: Any, index: NDArray) -> tuple:
        """Solve with the predictions as approximate inverses."""
        P = as_float64(self._guess(given, rows, index))
        return solve_with(P, as_float64(A), b, self.tol)

    def _solve_exactly(self, given: Any, rows: Any, A: Any, b: Any, index: NDArray) -> tuple:
        """Solve by LAPACK, with its inverse for the proof."""
        A = as_float64(A)
        P = exact_inverse(A)
        regular = finite_rows(P)
        x, bound = unknown(b)
        if bool(regular.any()):
            solver = sys.modules["torch"].linalg if is_tensor(A) else np.linalg
            start = solver.solve(A[regular], b[regular])
            x[regular], bound[regular] = solve_with(
                P[regular], A[regular], b[regular], self.tol, start
            )
        return x, bound

    def _find_anchor(self) -> Anchor | None:
        """Return the centre of the regressor, of a region before it, or of the training data."""
        final = _final(self.estimator_)
        if self.family is not None:  # the regressor has seen parameters only
            mean = getattr(self, "_mean", None)
            return None if mean is None else Anchor.of(mean)
        if hasattr(final, "inverse_") and hasattr(final, "center_"):
            return Anchor.of(final.center_, final.inverse_)
        for _, step in getattr(self.estimator_, "steps", ()):
            if isinstance(step, FeasibleRegionSampler):
                return Anchor.of(step.center_)
        mean = getattr(self, "_mean", None)
        return None if mean is None else Anchor.of(mean)

    def _validate_matrices(self, X: Any, reset: bool = False) -> tuple[Any, Any, Layout]:
        """Return what the regressor is given, the matrices as rows, and the layout of answers.

        NaN and infinity are among the rows.
        """
        if self.family is not None:
            return self._members(X, reset)
        rows, layout = self._validate_prediction(X)
        flat = X if is_tensor(X) else np.asarray(X)
        if layout != Layout.COMPLEX:
            refuse_inexact(flat.reshape(rows.shape), rows)
        elif flat.dtype.itemsize > 16:
            refuse_inexact(flatten_stack(flat)[0], rows)
        rows = rows.detach() if is_tensor(rows) else rows
        return self._given(X, rows, layout), rows, layout

    def _given(self, X: Any, rows: Any, layout: Layout) -> Any:
        """Return matrices as the regressor takes them: rows, unless it knows more."""
        if layout == Layout.COMPLEX and isinstance(unwrapped(self.estimator), StructuredInverse):
            return restore_layout(rows, layout)
        return X if hasattr(X, "columns") else rows

    def _members(self, X: Any, reset: bool) -> tuple[Any, Any, Layout]:
        """Return parameters, the matrices of the family that they stand for, and their layout.

        ``fit`` remembers what the function returned, which may not be made for no parameters.
        """
        if is_tensor(X) and not reset:
            p, _ = self._validate_prediction(X)
            finite = p.isfinite().all(dim=1)
        else:
            given = to_host(X)
            given = np.asarray(given) if isinstance(given, (list, tuple)) else given
            p = validate_rows(self, given, reset=reset, square=False, allow_nonfinite=True)
            finite = np.isfinite(p).all(axis=1)
        good = p if bool(finite.all()) else p[finite]
        known = None if reset else getattr(self, "_member", None)
        if known is not None and len(good) == 0:
            rows, layout = np.empty((0, known["n_features"])), Layout(known["layout"])
            rows = like(rows, p if is_tensor(p) else np.empty(0, known["dtype"]))
        else:
            rows, layout = self._call_family(good)
        if reset:
            dtype = "float64" if is_tensor(rows) else rows.dtype.name
            self._member = {"n_features": rows.shape[1], "layout": int(layout), "dtype": dtype}
        elif known is not None and rows.shape[1] != known["n_features"]:
            if layout == Layout.COMPLEX or 4 * rows.shape[1] != known["n_features"]:
                raise ValueError(
                    f"Got matrices of {rows.shape[1]} entries from family, embedded if they are "
                    f"complex, but in fit they had {known['n_features']}: one order, and complex "
                    f"always or never, is expected."
                )
            rows, layout = flatten_stack(embed_complex(as_stack(rows)))[0], Layout.COMPLEX
        if good is not p:
            every = namespace(rows).full((len(p), rows.shape[1]), np.nan, dtype=rows.dtype)
            every[finite if is_tensor(rows) else to_host(finite)] = rows
            rows = every
        return (X if hasattr(X, "columns") else p), rows, layout

    def _call_family(self, parameters: Any) -> tuple[Any, Layout]:
        """Return the matrices of finite parameters as rows, and their layout."""
        assert self.family is not None
        matrices = self.family(private(parameters))
        try:  # copies: the function may use the same memory again
            matrices = matrices.detach().clone() if is_tensor(matrices) else np.array(matrices)
        except ValueError:  # ragged
            matrices = np.asarray(None)
        rows, layout = flatten_stack(matrices)
        if rows.ndim != 2 or len(rows) != len(parameters):
            raise ValueError(
                f"Got an array of shape {tuple(matrices.shape)} from family for {len(parameters)} "
                f"rows of parameters, but one square matrix each is expected: (n_samples, n, n)."
            )
        matrix_order(rows.shape[1])
        if is_tensor(rows):
            return (rows if rows.is_floating_point() else rows.double()), layout
        wide = rows if rows.dtype.char in "efd" else real_array(rows, "matrices of the family")
        refuse_inexact(rows, wide)
        return wide.astype(np.result_type(wide.dtype, np.float32), copy=False), layout

    def _true_inverses(self, X: Any) -> NDArray[np.float64]:
        if self.family is None:
            return super()._true_inverses(X)
        return training_inverses(as_float64(to_host(self._members(X, False)[1])))

    def _guess(self, given: Any, rows: Any, index: NDArray | None) -> Any:
        """Return the regressor's predictions for some finite rows, as a stack of their own."""
        total = len(given)
        if index is not None:
            given = given[index] if is_tensor(given) else _safe_indexing(given, index)
        if len(given) == 0:
            return restore_layout(rows[:0], True) + 0.0
        with nullcontext() if index is None else numbered(index, total):
            predicted, answered = self._ask(given)
        if answered is None:
            return self._as_stack(predicted, given, rows)
        n = math.isqrt(rows.shape[1])
        shape = len(given), n, n
        own = (
            rows.new_full(shape, np.nan) if is_tensor(rows) else np.full(shape, np.nan, rows.dtype)
        )
        if len(answered):
            some = given[answered] if is_tensor(given) else _safe_indexing(given, answered)
            own[answered] = self._as_stack(predicted, some, rows)
        return own

    def _ask(self, given: Any) -> tuple[Any, NDArray | None]:
        """Return the regressor's predictions, and for which rows if it raises at some.

        What it raises for a batch may be due to a single row: which ones is found by bisection.
        """
        host = is_tensor(given) and not isinstance(_final(self.estimator_), InverseRegressorMixin)
        copies = not reads_only(self.estimator_)

        def ask(part: Any) -> Any:
            part = private(to_host(part) if host else part) if copies else part
            with np.errstate(all="ignore"), expecting_unanswered():
                return self.estimator_.predict(part)

        try:
            return ask(given), None
        except _FAULTS:
            raise
        except Exception as error:
            failure = error
        answers: dict[int, tuple[int, NDArray]] = {}
        pending, calls = deque([(0, len(given))]), 1
        while pending and calls < _CALLS:
            start, stop = pending.popleft()
            middle = (start + stop) // 2
            for first, last in ((start, middle), (middle, stop)) if stop - start > 1 else ():
                calls += 1
                try:
                    part = ask(_rows(given, slice(first, last)))
                    answers[first] = last - first, np.asarray(to_host(part))
                except _FAULTS:
                    raise
                except Exception:
                    pending.append((first, last))
        unasked = sum(stop - start for start, stop in pending if stop - start > 1)
        if unasked or (len(given) > 1 and not answers):
            warnings.warn(
                f"The regressor raised errors for batches of {len(given)} matrices, and was given "
                f"up for {unasked or len(given)} of them, which go to the fallback: "
                f"{type(failure).__name__}: {failure}",
                RuntimeWarning,
                stacklevel=5,
            )
        if not answers:
            return None, np.zeros(0, dtype=np.intp)
        order = sorted(answers)
        answered = np.concatenate([np.arange(k, k + answers[k][0]) for k in order])
        return np.concatenate(
            [part.reshape(m, -1) for m, part in map(answers.__getitem__, order)]
        ), answered

    def _as_stack(self, predicted: Any, given: Any, rows: Any) -> Any:
        """Return the predictions for what was given as a stack of their own, like the rows."""
        if not (is_tensor(rows) and is_tensor(predicted)):
            predicted = to_host(predicted)
            if getattr(getattr(predicted, "dtype", None), "kind", "O") not in "biufc":
                predicted = real_array(predicted, "predictions")
            predicted = np.asarray(predicted)
        m, d = len(given), rows.shape[1]
        n = math.isqrt(d)
        if is_complex(given):
            fits = math.prod(predicted.shape) == math.prod(given.shape)
            predicted = embed_complex(predicted.reshape(tuple(given.shape)) if fits else predicted)
        if getattr(_final(self.estimator_), "packed", False) and d > 1:
            predicted = unpack_symmetric(predicted)
        if tuple(predicted.shape) not in ((m, d), (m, n, n)) and (d > 1 or len(predicted) != m):
            raise ValueError(
                f"Got predictions of shape {tuple(predicted.shape)} for {m} matrices of {d} "
                f"entries, but inverses of the same size are expected: is {self.estimator_!r} a "
                f"regressor of inverses?"
            )
        if is_complex(predicted):
            raise ValueError(
                f"Got complex predictions for real matrices, but real inverses are expected: fit "
                f"{self.estimator_!r} to real targets."
            )
        fresh = type(_final(self.estimator_)) in _OURS
        if fresh and type(predicted) is type(rows) and predicted.dtype == rows.dtype:
            return restore_layout(predicted.reshape(m, d), True)
        # A copy otherwise: predictions may share memory with each other or with the regressor.
        if is_tensor(rows):
            torch = sys.modules["torch"]
            if not is_tensor(predicted):
                predicted = torch.tensor(np.array(predicted, dtype=np.float64))
            own = torch.empty(m, n, n, dtype=rows.dtype, device=rows.device)
            return own.copy_(predicted.detach().reshape(m, n, n))
        own = np.empty((m, n, n), dtype=rows.dtype)
        with np.errstate(all="ignore"):
            own[...] = np.reshape(predicted, (m, n, n))
        return own

    def _certify_blocks(
        self, A: Any, given: Any, X: Any, step: int, is_complex: bool
    ) -> InverseReport:
        """Certify block by block, which stay in the cache; predict so, too, if X is None."""
        result = InverseReport()
        with progress(len(A), "certifying", "matrix", self.verbose) as bar:
            for start in range(0, len(A), step):
                block, taken = A[start : start + step], slice(start, start + step)
                named = numbered(range(start, start + len(block)), len(A))
                if X is None:
                    with named:
                        part = _rows(given, taken)
                        guess = self._guess(part, block.reshape(len(block), -1), None)
                else:
                    guess = X[taken]
                for name, values in self._certify(block, guess, is_complex).items():
                    if start == 0:
                        shape = (len(A), *values.shape[1:])
                        empty = values.new_empty if is_tensor(values) else np.empty
                        result[name] = empty(shape, dtype=values.dtype)
                    result[name][taken] = values
                bar.update(len(block))
        return result

    def _certify(self, A: Any, X: Any, is_complex: bool) -> InverseReport:
        """Refine and prove predictions X of finite matrices A, and fall back; X is overwritten.

        Answers have the structure of the matrices: complex, symmetric or both.
        """
        norm, dtype = check_norm(self.norm), A.dtype
        settings: dict[str, Any] = {"tol": self.tol, "order": self.order, "norm": norm}
        if is_tensor(A) and dtype.itemsize < 4:  # half precision
            A, X = A.float(), X.float()
            settings["tol"] += sys.modules["torch"].finfo(dtype).eps / 2
        tol = settings["tol"]
        structure = is_complex, symmetric_rows(A)
        X = structured(X, *structure)
        bound, residual, n_refine = refine(A, X, max_refine=self.max_refine, **settings)
        inverse, bound = with_structure(*rounded(X, dtype, bound, norm), norm, *structure)
        result = InverseReport(inverse=inverse, bound=bound, residual=residual, n_refine=n_refine)
        # A sharper proof for those that rounding, or a loose bound, kept from theirs.
        near = _open(result.bound, tol)
        near = near[to_host(result.bound[near]) < 1]
        if near.size:
            sharper = residual_bound(A[near], result.inverse[near], norm, accumulate="float64")
            result.bound[near] = sharper
        refined = to_host(result.n_refine) > 0
        result.status = np.where(refined, "refined", "predicted").astype("<U12")
        open_ = _open(result.bound, tol)
        if open_.size and self.fallback in ("exact", "exact-raise"):
            self._fall_back(A, result, open_, settings, structure)
        elif open_.size:
            result.status[open_] = "inaccurate"
        if (
            open_.size and self.fallback != "keep"
        ):  # what raises does so where the rows' numbers are known
            if self.fallback != "nan":
                open_ = open_[to_host(result.bound[open_]) == np.inf]
            result.inverse[open_], result.bound[open_] = float("nan"), float("inf")
            result.status[open_[result.status[open_] != "singular"]] = "rejected"
        return result

    def _fall_back(
        self, A: Any, result: InverseReport, open_: NDArray, settings: dict, structure: tuple
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

    def _refuse(self, status: NDArray, what: str = "inverses") -> None:
        """Raise for rows without a proof, if that is what was asked for."""
        if self.fallback not in ("raise", "exact-raise"):
            return
        open_ = ~np.isin(status, (*PROVEN, ""))
        if open_.any():
            other = "'exact' or 'nan'" if self.fallback == "raise" else "'nan' or 'keep'"
            raise ValueError(
                f"The error of the {what} in rows {list_rows(open_)} could not be proven to be "
                f"within tol={self.tol}; leave these matrices out, or use fallback={other}."
            )


def _open(bound: Any, tol: float) -> NDArray:
    """Return the rows that have a bound that is not within `tol`."""
    open_ = ~(to_host(bound) <= tol)
    return np.flatnonzero(open_ if open_.ndim == 1 else open_.any(axis=1))


def _final(estimator: Any) -> Any:
    """Return the regressor that predicts in the end."""
    return unwrapped(estimator, pipelines=True)


def _is_foreign(estimator: Any) -> bool:
    """Tell whether a regressor, or the one in a search, is of another library."""
    final = _final(estimator)
    if isinstance(final, InverseRegressorMixin):
        return False
    return not hasattr(final, "estimator") or _is_foreign(final.estimator)


def _fitted_behind(
    first: tuple[str, Any], estimator: Pipeline, given: Any, targets: NDArray, fit_params: dict
) -> Pipeline:
    """Return a pipeline whose later steps are fitted to the matrices inside its region."""
    name, region = first
    inside = region.fit(given).transform(given)
    with training_rows(inside, targets) as (X, y):
        later = Pipeline(estimator.steps[1:], memory=estimator.memory).fit(X, y, **fit_params)
    estimator.steps = [(name, region), *later.steps]
    return estimator


def _is_by_row(value: Any, m: int) -> bool:
    """Tell whether a parameter of ``fit`` is an array, or numbers in a list, one for each row."""
    if isinstance(value, (list, tuple)):
        return len(value) == m and all(isinstance(part, Real) for part in value)
    return tuple(getattr(value, "shape", ()))[:1] == (m,)


def _finds_targets(estimator: Any) -> bool:
    """Tell whether an estimator, behind nothing but regions, works out what inverses it needs."""
    steps = getattr(estimator, "steps", [("", estimator)])
    if not all(isinstance(step, FeasibleRegionSampler) for _, step in steps[:-1]):
        return False
    return "_reads_only" in vars(type(steps[-1][1]))


def _rows(given: Any, taken: slice) -> Any:
    """Return some rows of an array, tensor or data frame."""
    if not hasattr(given, "columns"):
        return given[taken]
    return _safe_indexing(given, np.arange(taken.start, min(taken.stop, len(given))))


def _spread(result: InverseReport, finite: Any) -> InverseReport:
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
