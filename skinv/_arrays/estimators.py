"""Estimators inside others, and copies for those that may write to what they are given."""

import copy
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from .conversion import is_tensor


def unwrapped(estimator: Any, *, pipelines: bool = False) -> Any:
    """Return the estimator inside frozen ones, fitted searches and, last in them, `pipelines`."""
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif pipelines and hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return estimator


def reads_only(estimator: Any) -> bool:
    """Tell whether an estimator is known not to write to what it is given.

    Classes of skinv say so by an attribute `_reads_only`, which classes derived from them do not
    inherit. Whatever else is called gets a copy of what a proof, or the caller, still needs.
    """
    while type(estimator) in _TRANSPARENT and "predict" not in vars(estimator):
        estimator = getattr(estimator, "best_estimator_", estimator.estimator)
    return "_reads_only" in vars(type(estimator)) and "predict" not in vars(estimator)


# What passes its input on as it is.
_TRANSPARENT = (FrozenEstimator, GridSearchCV, RandomizedSearchCV)


def private(X: Any) -> Any:
    """Return a copy of data, be they in lists or dictionaries, of which nobody else has the memory.

    What holds no data is passed on as it is.
    """
    if is_tensor(X):
        return X.clone()
    if type(X) in (list, tuple):
        return type(X)(private(part) for part in X)
    if type(X) is dict:
        return {key: private(value) for key, value in X.items()}
    return copy.deepcopy(X) if hasattr(X, "shape") else X
