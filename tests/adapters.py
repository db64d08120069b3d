"""What lets scikit-learn's conformance checks, which know nothing of matrices, reach ours.

The adapters turn any features into well-conditioned 2×2 matrices before an estimator sees them.
They validate nothing that the adapted estimator is there to validate.
"""

import numpy as np
from sklearn.base import (
    BaseEstimator,
    MultiOutputMixin,
    OneToOneFeatureMixin,
    RegressorMixin,
    TransformerMixin,
    clone,
)
from sklearn.linear_model import LinearRegression
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skinv import StructuredInverse


def to_matrices(X, symmetric=False):
    """Return [[3, 1], [1, 2]] plus bounded entries made from the features, row by row."""
    entries = np.sin(X[:, np.arange(4) % X.shape[1]])
    if symmetric:
        entries[:, 2] = entries[:, 1]
    entries[~np.isfinite(X).all(axis=1)] = np.nan
    return np.array([3.0, 1.0, 1.0, 2.0], dtype=X.dtype) + 0.4 * entries


class _Adapter(BaseEstimator):
    def __init__(self, estimator=None):
        self.estimator = estimator

    def _adapt(self, X, *, reset):
        if not reset:
            check_is_fitted(self)
        X = validate_data(
            self, X, reset=reset, dtype=(np.float64, np.float32), ensure_all_finite=False
        )
        with np.errstate(invalid="ignore"):
            return to_matrices(X, isinstance(self.estimator, StructuredInverse))


class AdaptedTransformer(OneToOneFeatureMixin, TransformerMixin, _Adapter):
    """A transformer of matrices behind the adapter; it gives back the entries it was given."""

    def fit(self, X, y=None):
        matrices = self._adapt(X, reset=True)
        if self.__sklearn_tags__().input_tags.allow_nan:
            # Of what may be answered by NaN the checks ask that `fit` takes NaN, too, which regions
            # refuse.
            matrices = matrices[np.isfinite(matrices).all(axis=1)]
        self.estimator_ = clone(self.estimator).fit(matrices)
        return self

    def transform(self, X):
        matrices = self._adapt(X, reset=False)
        return self.estimator_.transform(matrices)[:, np.arange(self.n_features_in_) % 4]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = self.estimator.__sklearn_tags__()
        tags.transformer_tags, tags.input_tags = inner.transformer_tags, inner.input_tags
        return tags


class AdaptedRegressor(MultiOutputMixin, RegressorMixin, _Adapter):
    """A regressor of inverses behind the adapter; a linear model maps its inverses to targets."""

    def fit(self, X, y):
        matrices = self._adapt(X, reset=True)
        self.estimator_ = clone(self.estimator).fit(matrices)
        self.head_ = LinearRegression().fit(self.estimator_.predict(matrices), y)
        return self

    @available_if(lambda self: hasattr(self.estimator, "partial_fit"))
    def partial_fit(self, X, y):
        if not hasattr(self, "estimator_"):
            return self.fit(X, y)
        self.estimator_.partial_fit(self._adapt(X, reset=False))
        return self

    def predict(self, X):
        matrices = self._adapt(X, reset=False)
        return self.head_.predict(self.estimator_.predict(matrices))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # at most four of the features get through
        return tags
