"""What the regressors of inverses share: optional targets, layouts, scores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from .._arrays.conversion import to_host
from .._arrays.estimators import unwrapped
from .._arrays.rows import expecting_unanswered, numbered, refuse_nonfinite
from .._arrays.shapes import as_stack, flatten_stack, rectangular_shape, warn_of_single
from .._arrays.training import selected, targets_are_inverses
from .._arrays.validation import validate_rows
from .._arrays.warned import warn
from .._linalg.inverses import check_inverse_targets, training_inverses
from ..geometry._shapes import matrix_rows
from ..persistence import PersistentMixin
from .rectangular import RectangularMixin, true_pseudo_inverses
from .units import FitUnits


class WrapsRegressorMixin:
    """A meta-estimator that passes what its ``fit`` gets to the ``fit`` of its `estimator`."""

    estimator: Any

    def _routed(self, fit_params: dict[str, Any]) -> dict[str, Any]:
        if _routing_enabled():
            return process_routing(self, "fit", **fit_params).estimator.fit
        return fit_params

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata is routed: what ``fit`` gets goes to the regressor's ``fit``.

        Returns
        -------
        MetadataRouter
        """
        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return router.add(estimator=self.estimator, method_mapping=mapping)


def warn_of_unanswered(answered: NDArray[np.bool_]) -> None:
    """Warn that a score is of some of the matrices only."""
    warn(
        f"{int((~answered).sum())} of {len(answered)} matrices went unanswered (NaN): they are not "
        f"finite, or outside a region. The score is of the others.",
    )


class InverseRegressorMixin(RectangularMixin, PersistentMixin, MultiOutputMixin, RegressorMixin):
    """A regressor from matrices to their inverses, or to another quantity if targets are given."""

    n_features_in_: int
    _y_ndim: int

    def _validate_pair(
        self, X: Any, y: Any, *, reset: bool = True, square: bool = True
    ) -> tuple[NDArray, NDArray[np.float64] | None]:
        """Return rows, and targets as (n_samples, n_targets), or None if there are none."""
        X, y = self._squared(X, y, reset)
        rows, was_stack = flatten_stack(to_host(X))
        rows = validate_rows(self, rows, reset=reset, square=square or bool(was_stack) or y is None)
        if y is None:
            inner = getattr(self, "estimator", self)
            stated = isinstance(inner, FrozenEstimator)
            stated |= getattr(unwrapped(inner, pipelines=True), "center", None) is not None
            if reset and not stated:
                warn_of_single(X)
            self._y_ndim = 2
            return rows, None
        y, _ = flatten_stack(to_host(y))
        y = check_array(
            y, dtype=np.float64, ensure_2d=False, ensure_all_finite=False, input_name="y"
        )
        check_consistent_length(rows, y)
        refuse_nonfinite(y, "y")
        self._y_ndim = y.ndim
        return rows, y.reshape(len(y), -1)

    def _validate_training(
        self, X: Any, y: Any, *, reset: bool = True
    ) -> tuple[NDArray, NDArray[np.float64], bool]:
        """Return rows, targets (n_samples, n_targets), and whether these are inverses."""
        rows, targets = self._validate_pair(X, y, reset=reset, square=False)
        if targets is None:
            return rows, training_inverses(rows.astype(np.float64, copy=False)), True
        inverses = targets_are_inverses(rows, targets)
        if inverses:
            scaled = FitUnits.of(rows, targets).scaled(rows, targets)
            check_inverse_targets(*map(as_stack, scaled))
        return rows, targets, inverses

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R² of the prediction.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, n, n) or (n_samples, m, n)
            Test matrices. Those that are answered by NaN, because they are not finite or outside
            a region, are left out, and a warning says how many.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            True targets. None computes the exact inverses.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        float
            R² over all outputs, each weighted by its variance, so that entries of the inverse that
            do not vary count for nothing, and those in small units hardly. NaN if no matrix is
            answered.

        Raises
        ------
        ValueError
            Without `y`, if matrices are singular or of condition number past 1/√eps.
        """
        check_is_fitted(self)
        with expecting_unanswered():  # it is told below
            predicted = matrix_rows(to_host(self.predict(X)))[0]
        answered = ~np.isnan(predicted.reshape(len(predicted), -1)).any(axis=1)
        if not answered.all():
            warn_of_unanswered(answered)
            if not answered.any():
                return float("nan")
            predicted = predicted[answered]
            X, y, sample_weight = selected(answered, X, y, sample_weight)
        with numbered(np.flatnonzero(answered), len(answered)):
            y = self._true_inverses(X) if y is None else matrix_rows(to_host(y))[0]
            with np.errstate(over="ignore", invalid="ignore"):
                score = r2_score(
                    y, predicted, sample_weight=sample_weight, multioutput="variance_weighted"
                )
        return float(score)

    def _true_inverses(self, X: Any) -> NDArray[np.float64]:
        if rectangular_shape(X) is not None:
            return matrix_rows(true_pseudo_inverses(X))[0]
        rows = validate_rows(self, flatten_stack(to_host(X))[0], reset=False)
        return training_inverses(rows.astype(np.float64, copy=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.target_tags.multi_output = True
        tags.input_tags.allow_nan = True  # in what is predicted: such rows are answered by NaN
        return tags
