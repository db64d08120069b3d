"""StructuredInverse: any regressor, on the free numbers of symmetric or complex matrices."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils._param_validation import HasMethods, StrOptions

from .._arrays.blocks import by_blocks
from .._arrays.conversion import (
    is_dask,
    like,
    namespace,
    numbers_like,
    real_array,
    real_numbers,
    to_host,
)
from .._arrays.embedding import embed_complex, extract_complex
from .._arrays.estimators import unwrapped
from .._arrays.rows import list_rows
from .._arrays.shapes import Layout, as_stack, flatten_stack, restore_layout, warn_of_single
from .._arrays.training import targets_are_inverses, training_rows
from .._arrays.validation import take, validate_rows
from .._arrays.words import Series
from .._linalg.form import ModelForm
from .._linalg.inverses import regular_inverse, training_inverses
from ..persistence import Fitted
from ..structures import Structure, packed_order, refuse_unstructured
from .linear import LinearInverseApprox, taylor
from .regressor import InverseRegressorMixin, WrapsRegressorMixin
from .training.preparation import SERIES
from .units import FitUnits, times_powers

__all__ = ["StructuredInverse"]


class StructuredInverse(
    WrapsRegressorMixin, InverseRegressorMixin, MetaEstimatorMixin, BaseEstimator
):
    """Predict symmetric, positive definite or complex inverses by any regressor of free numbers.

    A symmetric matrix has n(n + 1)/2 free numbers, a complex one 2n² in an embedding of 4n²
    entries. The regressor gets these as features and those of the inverses as targets, about half
    of either, and answers are put together from its predictions: they have the structure exactly.
    It gets them in units, of powers of two, in which rows and columns are of one size.

    Parameters
    ----------
    estimator : estimator with ``fit`` and ``predict``
        A regressor of several targets: :class:`NeuralInverseRegressor`,
        ``LinearInverseApprox(method="lstsq")``, or one of scikit-learn.
    structure : {"symmetric", "positive_definite", "complex"}, default="symmetric"
        Of the matrices. With "positive_definite" the regressor learns Cholesky factors of the
        inverses, so that answers are positive semidefinite whatever it predicts. Complex matrices
        may have any of the three: symmetric ones are Hermitian.
    baseline : {"auto", "taylor", "taylor2", "taylor3"} or None, default="auto"
        What the regressor starts from: the Taylor series of the inverse at the mean, of order 1, 2
        or 3, or nothing. "auto" is "taylor2" if that leaves less of the training targets than their
        mean does. None with "positive_definite", where "auto" is None.
    packed : bool, default=False
        Whether matrices come as rows of their upper triangles, as
        :func:`skinv.structures.pack_symmetric` returns them, and inverses are returned so. For real
        matrices that are symmetric.

    Attributes
    ----------
    estimator_ : estimator
        The fitted regressor.
    baseline_ : {"taylor", "taylor2", "taylor3"} or None
        The baseline that was taken.
    center_ : ndarray of shape (n, n)
        The mean of the training matrices, of complex ones embedded.
    n_features_in_ : int
        n*n, or n(n + 1)/2 if packed; (2n)² for complex matrices.

    See Also
    --------
    CertifiedInverse : Proves and refines the answers. It gives symmetric answers to symmetric
        matrices by itself, whatever the regressor.
    FeasibleRegionSampler : With ``structure="symmetric"`` draws symmetric training matrices.

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, NeuralInverseRegressor
    >>> region = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, structure="symmetric", random_state=0)
    >>> X, Y = region.fit().sample(2000)
    >>> model = StructuredInverse(NeuralInverseRegressor(16, max_iter=20, random_state=0)).fit(X)
    >>> P = model.predict(X)
    >>> bool((P[:, 1] == P[:, 2]).all()), bool(abs(P - Y).max() < 0.01)
    (True, True)
    >>> model.estimator_.n_features_in_
    3
    """

    _reads_only = True
    _parameter_constraints: dict[str, list] = {
        "estimator": [HasMethods(["fit", "predict"])],
        "structure": [StrOptions({"symmetric", "positive_definite", "complex"})],
        "baseline": [StrOptions({"auto", *SERIES}), None],
        "packed": ["boolean"],
    }

    center_ = Fitted()
    _powers = Fitted()  # of two that matrices, and inverses, are multiplied with

    def __init__(
        self,
        estimator: Any,
        structure: Literal["symmetric", "positive_definite", "complex"] = "symmetric",
        *,
        baseline: Series | None = "auto",
        packed: bool = False,
    ) -> None:
        self.estimator = estimator
        self.structure = structure
        self.baseline = baseline
        self.packed = packed

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> "StructuredInverse":
        """Fit the regressor to free numbers of matrices and of their inverses.

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n) or (n_samples, n, n)
            Training matrices; rows (n_samples, n*(n + 1)/2) if `packed`.
        y : array-like of the shape of `X`, default=None
            Their inverses, whole ones or packed if `packed`; None computes them.
        **fit_params : dict
            Passed to the regressor's ``fit``, or routed to it where metadata routing is enabled.

        Returns
        -------
        self : StructuredInverse

        Raises
        ------
        ValueError
            For matrices that do not have the structure or must not be fitted (the rows are named),
            targets that are not their inverses, and parameters that exclude each other.
        """
        with training_rows(X, y) as (X, y):
            return self._fit(X, y, fit_params)

    def _fit(self, X: Any, y: Any, fit_params: dict[str, Any]) -> "StructuredInverse":
        self._validate_params()
        if self.packed and self.structure == "complex":
            raise ValueError(
                "Got packed=True with structure='complex', but packed rows are triangles of real "
                "symmetric matrices; pass complex stacks and packed=False."
            )
        if self.baseline in SERIES and self.structure == "positive_definite":
            raise ValueError(
                f"Got baseline={self.baseline!r} with structure='positive_definite', whose targets "
                f"are Cholesky factors; use baseline=None, or structure='symmetric'."
            )
        final = unwrapped(self.estimator, pipelines=True)
        if isinstance(final, LinearInverseApprox) and final.method == "taylor":
            raise ValueError(
                "Got LinearInverseApprox(method='taylor'), which takes whole matrices, but free "
                "numbers are what the regressor gets; use method='lstsq', with baseline='taylor' "
                "for the series."
            )
        fit_params = self._routed(fit_params)
        self._y_ndim = 2
        rows, layout = flatten_stack(to_host(X))
        rows = validate_rows(self, rows, reset=True, square=not self.packed)
        self._kind, self._packed = self.structure, self.packed
        self._is_complex = layout == Layout.COMPLEX or self.structure == "complex"
        full, structure = self._full(rows), self._structure
        units = FitUnits.of_structured(full, structure)
        full = np.ldexp(full, units.x, dtype=np.float64)
        refuse_unstructured(structure, full)
        full = structure.project(full)
        if y is None:
            inverse = training_inverses(full)
        else:
            inverse = real_array(flatten_stack(to_host(y))[0], "y")
            inverse = inverse if inverse.shape == full.shape else self._full(inverse)
            if inverse.shape == full.shape:  # others are no inverses
                inverse = np.ldexp(inverse, units.y)
            if not targets_are_inverses(full, inverse):
                raise ValueError(
                    "Got targets that are not the inverses of the matrices, but an inverse is what "
                    "has their structure; leave y out to have it computed."
                )
        inverse = structure.project(inverse)
        center = as_stack(full.mean(axis=0)[None])[0]
        powers = (units.x.reshape(center.shape), units.y.reshape(center.shape))
        self._own(center_=np.ldexp(center, -powers[0]), _powers=np.stack(powers))
        targets = self._targets(full, inverse, center)
        if y is None and not self.packed:
            warn_of_single(X)
        features = structure.pack(full).astype(rows.dtype, copy=False)
        self.estimator_ = clone(self.estimator).fit(features, targets, **fit_params)
        return self

    def _targets(self, full: NDArray, inverse: NDArray, center: NDArray) -> NDArray[np.float64]:
        """Choose the baseline, and return what the regressor is to learn, in units of the fit."""
        self.baseline_ = None if self.baseline == "auto" else self.baseline
        if self._kind == "positive_definite":
            # The free numbers of the upper factors R of inverses RᴴR.
            bad = ~(np.linalg.eigvalsh(self._stack(full))[:, 0] > 0)
            if bad.any():
                raise ValueError(
                    f"Matrices in rows {list_rows(bad)} are not positive definite; drop them, or "
                    f"use structure='symmetric'."
                )
            factor = np.linalg.cholesky(self._stack(inverse))
            return self._structure.pack(self._rows(factor.conj().swapaxes(1, 2)))
        targets = self._structure.pack(inverse)
        if self.baseline is None:
            return targets
        order = SERIES[self.baseline_ or "taylor2"]
        self._series = center, regular_inverse(center), order
        rest = targets - self._structure.pack(taylor(full, *self._series))
        if self.baseline == "auto":
            if not np.sum(rest**2) <= np.sum((targets - targets.mean(axis=0)) ** 2):
                return targets
            self.baseline_ = "taylor2"
        return rest

    def _stack(self, rows: NDArray) -> NDArray:
        """Return full rows as matrices, complex ones if they are embedded."""
        return extract_complex(as_stack(rows)) if self._is_complex else as_stack(rows)

    def _rows(self, stack: NDArray) -> NDArray:
        stack = embed_complex(stack) if self._is_complex else stack
        return stack.reshape(len(stack), self.center_.size)

    def predict(self, X: Any) -> Any:
        """Predict the inverses.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n) or (n_samples, n, n)
            Matrices; rows (n_samples, n*(n + 1)/2) if `packed`.

        Returns
        -------
        ndarray or tensor of the shape of `X`
            Predictions with the structure, to the last bit, in the dtype of `X` if that is a
            floating-point one, else in float64. NaN for matrices that do not have it, or are not
            finite.

        Raises
        ------
        ValueError
            For a wrong number of features.
        """
        if is_dask(X):
            return by_blocks(self, "predict", X)
        taken = take(self, X)
        rows, layout = taken.rows, taken.layout
        xp = namespace(rows)
        finite = xp.isfinite(rows).all(1)
        if bool(finite.all()):
            values = self._predict_rows(rows)
        else:  # the regressor does not get to see the others
            values = xp.full_like(rows, float("nan"))
            values[finite] = self._predict_rows(rows[finite])
        return values if self._packed else restore_layout(values, layout)

    def _predict_rows(self, rows: Any) -> Any:
        structure, (x, y) = self._structure, self._powers.reshape(2, -1)
        full = times_powers(self._full(rows), x)
        features = structure.pack(full)
        ours = isinstance(unwrapped(self.estimator_, pipelines=True), InverseRegressorMixin)
        given = features if ours else to_host(features)
        with np.errstate(all="ignore"):
            numbers = self.estimator_.predict(given) if len(features) else features * 0.0
        numbers = numbers_like(real_numbers(numbers, "predictions"), rows, "predictions")
        if math.prod(numbers.shape) != math.prod(features.shape):
            raise ValueError(
                f"Got predictions of shape {tuple(numbers.shape)} for {len(features)} matrices of "
                f"{features.shape[1]} free numbers, but as many are expected: is "
                f"{self.estimator_!r} a regressor of several targets?"
            )
        numbers = numbers.reshape(tuple(features.shape))
        if self._kind == "positive_definite":
            factor = np.triu(self._stack(structure.unpack(to_host(numbers))))
            with np.errstate(over="ignore", invalid="ignore"):
                product = self._rows(factor.conj().swapaxes(1, 2) @ factor)
            numbers = like(structure.pack(product), rows)
        elif self.baseline_ is not None:
            numbers = numbers + structure.pack(taylor(full, *self._series))
        if self._packed:
            return times_powers(numbers, -y[structure.first])
        values = times_powers(structure.unpack(numbers), -y)
        bad = structure.violation(to_host(full)) > 0
        if bad.any():
            values[bad] = float("nan")
        return values

    def _full(self, rows: Any) -> Any:
        if not self._packed:
            return rows
        n = packed_order(rows.shape[1])
        return Structure.of(n * n, symmetric=True).unpack(rows)

    @property
    def _structure(self) -> Structure:
        d = self.n_features_in_
        return Structure.of(
            packed_order(d) ** 2 if self._packed else d,
            complex=self._is_complex,
            symmetric=self._kind != "complex",
        )

    def _true_inverses(self, X: Any) -> NDArray[np.float64]:
        rows = validate_rows(self, flatten_stack(to_host(X))[0], reset=False, square=False)
        full = self._full(rows.astype(np.float64, copy=False))
        inverse = self._structure.project(training_inverses(full))
        return self._structure.pack(inverse) if self._packed else inverse

    def _model_form(self) -> ModelForm:
        """Return what bounds over a region need to know, of full matrices."""
        return self._make_form()()

    def _make_form(self) -> Callable[[], ModelForm]:
        inner = unwrapped(self.estimator_)
        if self._packed or self._kind == "positive_definite" or not hasattr(inner, "_make_form"):
            raise ValueError(
                f"Got {self!r}, but only whole symmetric or complex matrices behind a regressor of "
                f"skinv can be taken for one map of all their entries."
            )
        return lambda: self._full_form(inner._make_form()())

    def _full_form(self, form: ModelForm) -> ModelForm:
        """Return a form of free numbers as one of whole matrices, which it first projects."""
        structure = self._structure
        U = structure.unpack(np.eye(len(structure.first)))
        P = U.T / structure.multiplicity
        layers = form.layers_around(form.x_mean)
        if layers:
            layers[0] = layers[0][0] @ P.T, layers[0][1]
            W, b = layers[-1]
            layers[-1] = U.T @ W, b @ U
        whole = ModelForm(
            form.constant @ U,
            form.origin @ U,
            None if form.linear is None else P @ form.linear @ U,
            None if self.baseline_ is None else self._series,
            layers,
            form.activation,
            form.x_mean @ U if layers else np.zeros(0),
            np.ones(U.shape[1]),
            None if form.reduced is None else form.reduced.unpacked(P, U),
        )
        return whole.in_units(*self._powers.reshape(2, -1))
