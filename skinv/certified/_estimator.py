"""CertifiedInverse: every answer with a proof of its error, or the exact inverse instead."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions

from .._arrays.blocks import by_blocks
from .._arrays.conversion import (
    as_double,
    in_library_of,
    is_dask,
    is_tensor,
    namespace,
    not_a_number,
    real_array,
    to_host,
)
from .._arrays.estimators import unwrapped
from .._arrays.memory import host_view, warn_of_gradients
from .._arrays.projected import moved_rows
from .._arrays.results import InverseReport
from .._arrays.rows import list_rows
from .._arrays.shapes import Layout, Matrices, rectangular_shape
from .._arrays.training import training_rows
from .._arrays.validation import take, take_as_is
from .._arrays.words import ErrorNorm, Fallback
from .._linalg.inverses import training_inverses
from .._linalg.norms import NORMS, finite_rows
from .._linalg.workspace import copied, every, indices
from ..learn.regressor import InverseRegressorMixin, WrapsRegressorMixin
from ..learn.streams import STREAM
from ..refinement import ORDERS
from ._anchor import Anchor
from ._family import members
from ._fitting import FitsMixin, is_by_row
from ._guesses import OURS, guess, writer
from ._proofs import (
    EXACT,
    PROJECTED,
    STATUSES,
    ProofTerms,
    allowed,
    certify,
    certify_all,
    radius_of,
)
from ._pseudo_inverses import fit_pseudo_inverses, report_pseudo_inverses
from ._singly import SinglyMixin
from ._solves import SolvesMixin
from ._streams import StreamsMixin

__all__ = ["CertifiedInverse"]


class CertifiedInverse(
    StreamsMixin,
    FitsMixin,
    SinglyMixin,
    SolvesMixin,
    WrapsRegressorMixin,
    InverseRegressorMixin,
    MetaEstimatorMixin,
    BaseEstimator,
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
        Norm of the errors: Frobenius, largest row sum or largest column sum of moduli.
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
    n_moves_ : int
        How often :meth:`partial_fit` has moved the centre. Only after it has looked at a block.
    long_ways_ : float
        Share of long ways among the latest matrices since the last move. Only after it has, too.

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

    Matrices A (m, n) of full rank that are not square come as a stack, and are answered by
    pseudo-inverses with the proofs of :func:`skinv.pinv`, which is the fallback, too, in single
    precision for half; regressors of other libraries get rows of m*n entries and predict rows of
    n*m.

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
        "norm": [StrOptions(set(NORMS)), Options(Real, {1, np.inf})],
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
        fallback: Fallback = "exact",
        norm: ErrorNorm = "fro",
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

    def fit(self, X: Any = None, y: Any = None, **fit_params: Any) -> "CertifiedInverse":
        """Fit the regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n) or (n_samples, m, n), default=None
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
        m = len(X) if hasattr(X, "__len__") and getattr(X, "shape", X) != () else -1
        by_row = [name for name, value in fit_params.items() if is_by_row(value, m)]
        with training_rows(X, y, *(fit_params[name] for name in by_row)) as (X, y, *values):
            fit_params |= dict(zip(by_row, values, strict=True))
            self._shape = None if self.family is not None else rectangular_shape(X)
            if self._shape is None:
                self._fit(X, y, fit_params)
            else:
                fit_pseudo_inverses(self, X, y, fit_params)
        for name in STREAM:
            self.__dict__.pop(name, None)
        self._anchor = self._find_anchor()
        return self

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
        X : array-like or tensor of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
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
        found = by_blocks(self, "report", X) if is_dask(X) else self._certified(X, more=False)[0]
        return (found.inverse, found.bound) if return_bound else found.inverse

    def report(self, X: Any) -> InverseReport:
        """Return inverses with all that is known of them.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            Matrices.

        Returns
        -------
        InverseReport
            A Bunch. ``inverse``: as :meth:`predict`. ``bound`` (n_samples,): proven upper bounds of
            the relative errors. ``residual`` (n_samples,): bounds of ‖I − AX‖ of the regressor's
            own prediction, NaN where there is none. ``n_refine`` (n_samples,): refinement steps
            taken. ``radius``, of the shape of the inverses, float64: numbers that are at least
            ``|A⁻¹ − X|`` entry by entry, in the units of that entry, inf where nothing is proven;
            worked out when it is first asked for, for the price of several products (see
            :func:`skinv.bounds.residual_bound`). ``status`` (n_samples,), an array of str:

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

            ``tol``: what was to be proven, with the unit roundoff of tensors in half precision
            added. ``rows("singular")`` are the numbers of the matrices with a status, ``rows()`` of
            all that are not proven.

            Of a dask array they are dask arrays, which ``dask.compute(dict(report))`` computes in
            one pass.

        Raises
        ------
        ValueError
            As :meth:`predict`.
        """
        if is_dask(X):
            return by_blocks(self, "report", X)
        found, stack = self._certified(X)
        if stack is None:
            return found
        found.status = STATUSES[found.status]
        tol = allowed(float(self.tol), stack.dtype, namespace(stack))
        result = InverseReport(**vars(found), tol=tol)
        # Of what was given now, and of the answers as they are then.
        result._later("radius", radius_of, copied(stack))
        return result

    def _certified(self, X: Any, more: bool = True) -> tuple[Any, Any]:
        """Return what is found out of inverses, in places of STATUSES, and the matrices.

        Of matrices that are not square the report, and None.
        """
        warn_of_gradients(X)
        ready = self._ready()
        if ready._shape is not None:
            return report_pseudo_inverses(ready, X), None
        given, came = ready._take(X)
        own = type(X) is np.ndarray and X.ndim == 3 and X is came.numbers.base
        stack = X if own else came.stack
        A = host_view(stack)
        terms, estimator, predicted, write = ProofTerms.of(self), ready.estimator_, None, None
        if type(estimator) in OURS or type(unwrapped(estimator)) in OURS:
            given = host_view(given)
            write = writer(estimator, given, A)
        else:
            # They are asked once, whatever the blocks: what they say may depend on the batch.
            finite = finite_rows(A)
            predicted = guess(estimator, given, A, None if every(finite) else indices(finite))

        def certify_block(block: Any, X: Any, where: Any, size: Any) -> Any:
            if write is not None:
                write(given[where], X.reshape(len(X), -1))
            elif predicted is None:
                guess(estimator, given, A, where, out=X)
            return certify(block, X, terms, size)

        found = certify_all(A, certify_block, predicted, self.verbose, more)
        if (moved := moved_rows(X)).size:
            found.inverse[moved], found.bound[moved] = not_a_number(A), float("inf")
            found.status[moved] = PROJECTED
        if "raise" in self.fallback:
            self._refuse(found.status > EXACT, "inverses")
        if is_tensor(stack) and not is_tensor(A):
            for name in vars(found).keys() - {"status"}:
                setattr(found, name, in_library_of(stack, getattr(found, name)))
        found.inverse = came.restored(found.inverse)
        return found, stack

    def _take(self, X: Any) -> tuple[Any, Matrices]:
        """Return what the regressor is asked with, and the matrices, NaN and infinity included."""
        self._refuse_rectangular("take predict(X) @ b, or skinv.pinv(A) @ b")
        if self.family is not None:
            return members(self, X, False)
        plain = isinstance(X, np.ndarray) and X.itemsize >= 4 and hasattr(self, "n_features_in_")
        taken = (take_as_is(self, X) if plain else None) or take(self, X, exact=True)
        if taken.layout is Layout.STACK and taken.numbers.ndim == 3:
            taken = Matrices(X.reshape(len(X), self.n_features_in_), taken.layout)
        named = type(X) is not np.ndarray and hasattr(X, "columns")
        return (X if named else taken.numbers), taken

    def _true_inverses(self, X: Any) -> NDArray[np.float64]:
        if self.family is None:
            return super()._true_inverses(X)
        return training_inverses(as_double(to_host(members(self, X, False)[1].rows)))

    def _refuse(self, open_: Any, what: str) -> None:
        """Raise if there are rows without a proof."""
        open_ = to_host(open_ if open_.ndim == 1 else open_.any(1))
        if open_.any():
            other = "'exact' or 'nan'" if self.fallback == "raise" else "'nan' or 'keep'"
            raise ValueError(
                f"The error of the {what} in rows {list_rows(open_)} could not be proven to be "
                f"within tol={self.tol}; leave these matrices out, or use fallback={other}."
            )
