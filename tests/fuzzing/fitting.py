"""Fuzzing of fits."""

from functools import partial

import numpy as np
from strategies import JUNK, REFUSED, Given, attempt, center_of

from fuzzing.common import entry
from fuzzing.models import region, series, training, weights
from skinv import (
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
)


def data_and_targets(c, n=2, sizes=(1, 2, 8)):
    """Return training data and targets, that need not belong together."""
    X = None if c.slips(8) else c.matrices(n, c.of(*sizes), calm=True)
    if c.one_in(2):
        return X, None
    m = len(X.numbers) if X is not None and X.right else 3
    shape = c.rather(((m,), (m, 1), (m, n * n), (m, n, n), (m, 3)), ((m + 1, 2), (), (m, 0)))
    y = np.asarray(c.dtyped(c.rng.standard_normal(shape) * c.of(1, 1, 1e-5, 1e300, 0.0)))
    if y.size and y.dtype.kind == "f" and c.slips(5):
        y.flat[0] = c.of(np.nan, np.inf)
    return X, c.junk() if c.slips(8) else Given(c.contained(y), y)


@entry("LinearInverseApprox.fit")
def fuzz_linear_fit(c):
    n = c.of(1, 2, 2, 3)
    model = LinearInverseApprox(
        c.rather((None, center_of(n)), (c.number, *JUNK)),
        **c.options(order=[1, c.count], method=["taylor", partial(c.choice, "lstsq")]),
    )
    X, y = data_and_targets(c, n)
    w = None if X is None else weights(c, X)
    fitted = attempt(model.fit, X, y, **c.options(sample_weight=[w]))
    if fitted is REFUSED:
        return
    assert fitted is model
    new = c.matrices(n, dtypes=("f8", "f4"))
    attempt(model.predict, new)
    if hasattr(model, "inverse_"):
        assert np.isfinite(model.inverse_).all()
        assert repr(model)


@entry("PolynomialInverseApprox.fit")
def fuzz_polynomial_fit(c):
    n = c.of(1, 2, 2, 3)
    params = c.options(
        degree=["auto", c.count],
        n_components=["auto", c.count],
        max_terms=[256, c.count],
        on_extrapolation=["nan", partial(c.choice, "keep")],
        max_extrapolation=[partial(c.number, 1.5)],
    )
    model = PolynomialInverseApprox(**params)
    if c.one_in(2):
        rows = training(n, c.of(1, 9, 10, 50)) * c.of(1, 1, 1e-200, 1e30, 1e200)
        X, y = (
            Given(c.contained(rows), rows, "rows"),
            c.of(None, rows[:, 0], rows * (rows[:, :1] / rows.max())),
        )
    else:
        X, y = data_and_targets(c, n, sizes=(1, 5, 12))
    fitted = attempt(model.fit, X, y)
    if fitted is REFUSED:
        return
    assert fitted is model
    assert 0 <= model.n_components_ <= 64
    assert 0 <= model.degree_ <= model.n_terms_ + 1
    new = c.matrices(n, dtypes=("f8", "f4"))
    attempt(model.predict, new)
    attempt(model.extrapolates, new)
    if X.right:
        finite = np.isfinite(X.stack).all(axis=(1, 2))
        assert not model.extrapolates(X.value)[finite].any()


def network(c):
    """Return a network that is not fitted, with parameters some of which may be wrong."""

    def rather(right, *wrong):
        return [right, partial(c.rather, (right,), wrong)]

    params = c.options(
        n_components=rather(None, 2, "auto", 0, 1.5, "all"),
        max_time=[partial(c.number, 10.0)],
        on_extrapolation=["keep", partial(c.choice, "nan")],
        max_extrapolation=[partial(c.number, 2.0)],
        hidden_layer_sizes=rather((2, 2), [1], 0, (0,), "many", 1.5, (1.5,), (), None, np.nan),
        activation=["relu", partial(c.choice, "tanh", "silu")],
        baseline=[None, "affine", "taylor", partial(c.choice, "taylor3")],
        solver=["adam", "lm", partial(c.choice, "adam")],
        init=["default", partial(c.choice, "taylor")],
        learning_rate=["constant", partial(c.choice, "one_cycle", "warm_restarts")],
        learning_rate_init=["auto", partial(c.number, 1e-3)],
        weight_decay=[0.0, partial(c.number, 1e-3)],
        batch_size=["auto", 2, c.count],
        tol=[partial(c.number, 1e-4)],
        early_stopping=[c.flag],
        validation_fraction=[partial(c.number, 0.1, 0.5)],
        n_iter_no_change=[c.count],
        warm_start=[c.flag],
        hard_fraction=[partial(c.number, 0.0, 0.5)],
        callbacks=rather(None, [], (), [None], "all", 1),
        dtype=["float64", partial(c.choice, "float32")],
        device=rather("cpu", "auto", "cuda", "moon", "", None),
        verbose=rather(0, False, -1, None),
    )
    params = {name: value for name, value in params.items() if c.one_in(3)}
    usual = {"hidden_layer_sizes": 2, "max_iter": c.count(2), "random_state": 0}
    return NeuralInverseRegressor(**{**usual, **params})


def fuzz_neural_fit(c, method):
    n = c.of(1, 2, 2)
    model = network(c)
    X, y = data_and_targets(c, n)
    fitted = attempt(getattr(model, method), X, y)
    if fitted is REFUSED:
        return
    assert fitted is model
    assert model.n_iter_ >= 1
    assert not any(np.isnan(W).any() for W in (*model.coefs_, *model.intercepts_))
    X, y = data_and_targets(c, n)
    attempt(model.partial_fit, X, y)
    P = attempt(model.predict, c.matrices(n, calm=True))
    assert P is REFUSED or len(P) >= 0


for _name in ("fit", "partial_fit"):
    entry(f"NeuralInverseRegressor.{_name}")(partial(fuzz_neural_fit, method=_name))


@entry("NeuralInverseRegressor.fit_sampler")
def fuzz_fit_sampler(c):
    model = network(c)
    sampler = c.rather((region(),), (FeasibleRegionSampler(), None, series(), 3, int))
    fitted = attempt(model.fit_sampler, sampler, c.count(2) or 1)
    if fitted is not REFUSED:
        assert fitted is model
        assert np.isfinite(model.predict(training())).all()
