"""Fuzzing of streams."""

from functools import partial

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from strategies import REFUSED, Given, attempt, center_of

from fuzzing.certified import check_inverses
from fuzzing.common import entry
from fuzzing.fitting import data_and_targets
from fuzzing.models import training
from skinv import CertifiedInverse, LinearInverseApprox, PolynomialInverseApprox


class Last(RegressorMixin, BaseEstimator):
    """A regressor that says of all matrices what it learned last."""

    def fit(self, X, y):
        assert np.isfinite(np.asarray(X)).all()
        assert np.isfinite(y).all()
        self.n_features_in_, self.last_ = X.shape[1], y[-1].copy()
        for written in (X, y):
            if isinstance(written, np.ndarray):
                written[:] = np.nan
        return self

    partial_fit = fit

    def predict(self, X):
        return np.tile(self.last_, (len(X), 1))


def rule(c, **others):
    """Return parameters of a rule some of which may be wrong."""
    return c.options(max_share=[0.0, partial(c.number, 0.5)], **others)


def linear(c, n):
    center = c.of(None, center_of(n))
    return LinearInverseApprox(center, **rule(c, max_distance=[partial(c.number, 0.1)]))


def polynomial(c, n):
    return PolynomialInverseApprox(max_terms=8, **rule(c, memory=[8, c.count]))


def follow(c, model, n):
    """Show a model some blocks; return whether it is fitted, and whether all were right."""
    if c.one_in(2):
        X, y = training(n, c.of(1, 12)), None
    else:
        X, y = data_and_targets(c, n)
    if attempt(model.partial_fit, X, y) is REFUSED:
        return False
    for _ in range(c.of(1, 3)):
        block = c.matrices(n)
        if c.one_in(2):
            rows = training(n, 5) * c.of(1, 1.5, -1, 1e-200, 1e200)
            rows[0] = c.of(rows[0], np.nan, np.inf, 0.0, 1e300)
            block = Given(c.contained(rows), rows, "rows")
        found = attempt(model.partial_fit, block, *(() if y is None else (y,)))
        assert found is REFUSED or found is model
    return True


@entry("LinearInverseApprox.partial_fit")
def fuzz_linear_stream(c):
    n = c.of(1, 2, 2, 3)
    model = linear(c, n)
    if follow(c, model, n):
        assert np.isfinite(model.center_).all()
        product = model.center_ @ model.inverse_
        off = np.abs(product - np.eye(len(product))).max()
        assert off < 1e-4 * np.linalg.cond(model.center_)
        attempt(model.predict, c.matrices(n, dtypes=("f8", "f4")))


@entry("PolynomialInverseApprox.partial_fit")
def fuzz_polynomial_stream(c):
    n = c.of(1, 2, 2, 3)
    model = polynomial(c, n)
    if follow(c, model, n):
        assert len(vars(model).get("_memory", ())) <= model.memory
        attempt(model.predict, c.matrices(n, dtypes=("f8", "f4")))


@entry("CertifiedInverse.partial_fit")
def fuzz_certified_stream(c):
    n = c.of(1, 2, 2)
    inner = c.of(linear, polynomial, lambda c, n: Last())
    model = CertifiedInverse(inner(c, n), tol=c.of(1e-6, 1e-12))
    with np.errstate(all="ignore"):
        fitted = follow(c, model, n)
        X = c.matrices(n)
        found = attempt(model.predict, X, return_bound=True) if fitted else REFUSED
    if found is not REFUSED and X.right and X.numbers is not None:
        check_inverses(model, X, *found)
