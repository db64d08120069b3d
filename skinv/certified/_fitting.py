"""Regressors: which there are inside others, and how they are fitted to what is proven later."""

import copy
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._arrays.conversion import as_double, is_complex, real_array, to_host
from .._arrays.estimators import private, reads_only, unwrapped
from .._arrays.rows import refuse_nonfinite
from .._arrays.shapes import Layout, as_stack, flatten_stack, may_be_single, restore_layout
from .._arrays.training import targets_are_inverses, training_rows
from .._linalg.inverses import check_inverse_targets, training_inverses
from ..geometry._sampler import FeasibleRegionSampler
from ..learn.free_numbers import StructuredInverse
from ..learn.regressor import InverseRegressorMixin
from ._anchor import SAMPLE
from ._family import members


def final_of(estimator: Any) -> Any:
    """Return the regressor that predicts in the end."""
    return unwrapped(estimator, pipelines=True)


def is_of_others(estimator: Any) -> bool:
    """Tell whether a regressor, or the one in a search, is of another library."""
    final = final_of(estimator)
    if isinstance(final, InverseRegressorMixin):
        return False
    return not hasattr(final, "estimator") or is_of_others(final.estimator)


def fitted(estimator: Any, given: Any, targets: Any, fit_params: dict[str, Any]) -> Any:
    """Return a fitted regressor, which got copies if it might write to what it is given."""
    if targets is None and may_be_single(given):  # a warning is enough
        given = restore_layout(given, True)
    if not reads_only(estimator):
        given = private(given)
        targets = None if targets is None else targets.copy()
        fit_params = private(fit_params)
    estimator = clone(estimator)
    if targets is not None and type(estimator) is Pipeline and len(estimator.steps) > 1:
        first = estimator.steps[0]
        if isinstance(first[1], FeasibleRegionSampler) and first[1].on_infeasible == "nan":
            return _fitted_behind(first, estimator, given, targets, fit_params)
    return estimator.fit(given, targets, **fit_params)


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


def is_by_row(value: Any, m: int) -> bool:
    """Tell whether a parameter of ``fit`` is an array, or numbers in a list, one for each row."""
    if isinstance(value, (list, tuple)):
        return len(value) == m and all(isinstance(part, Real) for part in value)
    return tuple(getattr(value, "shape", ()))[:1] == (m,)


def finds_targets(estimator: Any) -> bool:
    """Tell whether an estimator, behind nothing but regions, works out what inverses it needs."""
    steps = getattr(estimator, "steps", [("", estimator)])
    if not all(isinstance(step, FeasibleRegionSampler) for _, step in steps[:-1]):
        return False
    return "_reads_only" in vars(type(steps[-1][1]))


class FitsMixin(InverseRegressorMixin):
    """A regressor of inverses that is fitted by fitting another one."""

    estimator: Any
    family: Any
    _validate_params: Any

    def _fit(self, X: Any, y: Any, fit_params: dict[str, Any]) -> None:
        self._y_ndim = 2
        self.__dict__.pop("_mean", None)  # of an earlier fit
        if self.family is not None and X is not None:
            self._fit_family(X, y, fit_params)
            return
        frozen = isinstance(self.estimator, FrozenEstimator)
        if X is None or (frozen and y is None):
            if X is not None:
                self._validate_pair(X, None)
            self.estimator_ = clone(self.estimator)
            if frozen:
                check_is_fitted(self.estimator_)
            else:
                try:
                    self.estimator_.fit(**fit_params)
                except TypeError as error:
                    raise ValueError(
                        f"Got no matrices, but {self.estimator!r} cannot be fitted without: pass X."
                    ) from error
            self._adopt_features(self.estimator_)
            return
        targets: Any = None
        if y is None and finds_targets(self.estimator):
            rows, inverses = self._validate_pair(X, None)[0], True
        else:
            rows, targets, inverses = self._validate_training(X, y)
        if not inverses:
            raise ValueError(
                "Got targets that are not the inverses of the matrices, but only errors of "
                "inverses can be proven; leave y out to have them computed."
            )
        given = X if hasattr(X, "columns") else rows
        if (
            given is rows
            and is_complex(X)
            and isinstance(unwrapped(self.estimator), StructuredInverse)
        ):
            given = restore_layout(rows, Layout.COMPLEX)
        if rows.dtype == np.float32 and is_of_others(self.estimator):
            targets = targets.astype(np.float32)  # networks of one precision take no other
        self._remember(rows)
        self.estimator_ = fitted(self.estimator, given, targets, fit_params)

    def _fit_family(self, X: Any, y: Any, fit_params: dict) -> None:
        """Fit the regressor from parameters to the inverses of their matrices."""
        given, taken = members(self, X, True)
        rows = to_host(as_double(taken.rows))
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
        self._remember(rows)
        if isinstance(self.estimator, FrozenEstimator):
            self.estimator_ = clone(self.estimator)
        else:
            self.estimator_ = fitted(self.estimator, given, targets, fit_params)

    def _remember(self, rows: NDArray) -> None:
        """Keep the mean of the training matrices, and for solutions near it a few of them."""
        self._mean = as_stack(rows.mean(axis=0, dtype=np.float64)[None])[0]
        few = np.unique(np.linspace(0, len(rows) - 1, SAMPLE).astype(int))
        self._sample = as_stack(rows[few].astype(np.float64))

    def _adopt_features(self, estimator: Any) -> None:
        for name in ("n_features_in_", "feature_names_in_"):
            value = getattr(estimator, name, None)
            if value is not None:
                setattr(self, name, value)
        self._shape = getattr(final_of(estimator), "_shape", None)

    def _ready(self) -> Any:
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
