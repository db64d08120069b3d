"""Regressors: which there are inside others, and how they are fitted to what is proven later."""

from __future__ import annotations

from numbers import Real
from typing import Any

from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from .._arrays.estimators import private, reads_only, unwrapped
from .._arrays.shapes import may_be_single, restore_layout
from .._arrays.training import training_rows
from ..geometry._sampler import FeasibleRegionSampler
from ..learn.regressor import InverseRegressorMixin


def final_of(estimator: Any) -> Any:
    """Return the regressor that predicts in the end."""
    return unwrapped(estimator, pipelines=True)


def is_foreign(estimator: Any) -> bool:
    """Tell whether a regressor, or the one in a search, is of another library."""
    final = final_of(estimator)
    if isinstance(final, InverseRegressorMixin):
        return False
    return not hasattr(final, "estimator") or is_foreign(final.estimator)


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
