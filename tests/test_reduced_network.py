"""NeuralInverseRegressor in reduced coordinates: what it starts from, learns, keeps and refuses."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import Legendre
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    impossibility,
)
from skinv.datasets import load_power_flow, load_robot_arm
from skinv.inspection import activation_regions
from skinv.learn.extrapolation import ExtrapolationWarning
from skinv.learn.training.residual import Residual

GRID = load_power_flow("case6ww")
KNOWN, UNSEEN, TARGET = GRID.data[::2], GRID.data[1::2], GRID.target[1::2]
QUICK = NeuralInverseRegressor(max_iter=10, random_state=0)


@pytest.fixture(scope="module")
def network():
    """A quick network on the known half of a grid's matrices."""
    return clone(QUICK).fit(KNOWN)


def error(model, X=UNSEEN, Y=TARGET):
    return float(np.abs(model.predict(X) - Y).mean())


def test_prediction_is_polynomial_plus_perceptron(network):
    """By definition: products of Legendre polynomials, and `coefs_` on plain rows."""
    rough, network = network, pickle.loads(pickle.dumps(network))
    network._preparation.basis = None  # which leaves out less than the error
    network._set_engine()
    assert np.abs(rough.predict(UNSEEN) - network.predict(UNSEEN)).mean() < 0.3 * error(network)
    base = network._preparation.baseline
    z = (UNSEEN - base.origin) @ base.projection
    expected = np.tile(base.constant, (len(z), 1))
    for name, coef in zip(base.terms.names, base.coef, strict=True):
        factors = [Legendre.basis(name.count(i))(z[:, i]) for i in set(name)]
        expected += np.prod(factors, axis=0)[:, None] * coef
    h = UNSEEN @ network.coefs_[0] + network.intercepts_[0]
    expected += h / (1 + np.exp(-h)) @ network.coefs_[1] + network.intercepts_[1]
    assert network.coefs_[1].any()
    size = np.abs(TARGET).max()
    np.testing.assert_allclose(network.predict(UNSEEN), expected, rtol=0, atol=1e-12 * size)
    one = network.inverse_function()(UNSEEN[3].reshape(8, 8))
    np.testing.assert_allclose(one.ravel(), expected[3], rtol=0, atol=1e-12 * size)


def test_the_network_adds_to_the_polynomial(network):
    """What it leaves of rows held out is what it says, and is less than the polynomial leaves."""
    assert network.best_loss_ < 0.7
    polynomial = PolynomialInverseApprox(max_terms=36).fit(KNOWN)
    assert error(network) < 0.7 * error(polynomial)
    assert network.validation_scores_[-1] > 0.999


@pytest.mark.parametrize("wild", [False, True], ids=["powers of two", "other units"])
def test_units_do_not_matter(network, wild):
    """Rows and columns in other units: the same model, in other units."""
    rng = np.random.RandomState(0)
    rows, columns = np.exp2(rng.randint(-3, 4, (2, 8)))
    if wild:
        rows, columns = rows * rng.uniform(1, 2, 8), columns * rng.uniform(1, 2, 8)
    entries, inverses = np.outer(rows, columns).ravel(), np.outer(1 / columns, 1 / rows).ravel()
    other = clone(QUICK).fit(KNOWN * entries)
    if wild:
        scaled = other.predict(UNSEEN * entries) / inverses
        assert np.abs(scaled - TARGET).mean() < 10 * error(network)
        return
    # LAPACK rounds in another way, as pivots are chosen by size.
    change = other.predict(UNSEEN * entries) / inverses - network.predict(UNSEEN)
    assert np.abs(change).max() < 0.1 * error(network)


def test_a_network_that_adds_nothing_is_dropped():
    """Of a polynomial rounding is all that is left: the last layer is 0 and costs nothing."""
    p = np.random.RandomState(0).uniform(-1, 1, (200, 2))
    Y = np.stack([p[:, 0], p[:, 0] * p[:, 1], 1 + p[:, 1] ** 2], axis=1).repeat(4, axis=1)
    model = NeuralInverseRegressor(max_iter=3, random_state=0).fit(p, Y)
    assert not model.coefs_[-1].any()
    assert model._make_form()().reduced.layers == []
    np.testing.assert_allclose(model.predict(p), Y, atol=1e-12)


@pytest.mark.parametrize("n_rows", [1, 5, 9])
def test_few_rows_leave_the_series(n_rows):
    """Nothing can be held out: the first order about their mean, what it leaves, no network."""
    model = NeuralInverseRegressor(random_state=0).fit(KNOWN[:n_rows])
    series = LinearInverseApprox().fit(KNOWN[:n_rows])
    assert error(model) <= 1.0001 * error(series)
    constant = model.predict(UNSEEN) - series.predict(UNSEEN)
    np.testing.assert_allclose(constant, np.tile(constant[0], (len(UNSEEN), 1)), atol=1e-14)
    assert model.n_iter_ == 0
    assert model.net_.module_ is not None
    assert pickle.loads(pickle.dumps(model)).predict(UNSEEN[:1]).shape == (1, 64)


def test_no_time_at_all():
    """Under a budget that is over at once there is one step, or a part of an epoch, and a model."""
    assert clone(QUICK).set_params(max_time=1e-9).fit(KNOWN).n_iter_ == 1
    adam = clone(QUICK).set_params(max_time=1e-9, solver="adam", n_components=None, batch_size=8)
    assert adam.fit(KNOWN).n_iter_ == 1
    sampler = FeasibleRegionSampler(KNOWN[0].reshape(8, 8), 1e-3, random_state=0).fit()
    assert clone(adam).fit_sampler(sampler, 200).n_iter_ == 1


def test_far_matrices(network):
    """NaN and a warning, or an answer if that is asked for; certified ones are inverted exactly."""
    center = KNOWN.mean(axis=0)
    zero = int(np.flatnonzero((KNOWN == 0).all(axis=0))[0])
    far = np.stack([center + 30 * (UNSEEN[0] - center), UNSEEN[1], UNSEEN[2]])
    far[2, zero] += 0.1  # an entry that is 0 in all known matrices
    assert network.extrapolates(far).tolist() == [True, False, True]
    with pytest.warns(ExtrapolationWarning, match=r"\[0, 2\] \(2 of 3\)"):
        answers = network.predict(far)
    assert np.isnan(answers).all(axis=1).tolist() == [True, False, True]
    assert torch.isnan(network.predict(torch.tensor(far))).all(1).tolist() == [True, False, True]
    keep = clone(QUICK).set_params(on_extrapolation="keep").fit(KNOWN)
    assert np.isfinite(keep.predict(far)).all()
    assert keep.extrapolates(far).tolist() == [True, False, True]
    np.testing.assert_allclose(keep.predict(UNSEEN), network.predict(UNSEEN), atol=1e-14)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = CertifiedInverse(network, tol=1e-8).fit(KNOWN).report(far)
    assert report.status.tolist() == ["exact", "refined", "exact"] or (report.bound < 1e-8).all()
    assert (report.bound <= 1e-8).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_no_false_alarms(network, dtype):
    """No matrix of the other half is taken for a stranger, also when it was rounded."""
    arm = load_robot_arm().data
    for model, X in ((network, UNSEEN), (clone(QUICK).fit(arm[::2]), arm[1::2])):
        assert not model.extrapolates(X.astype(dtype)).any()
        assert np.isfinite(model.predict(X.astype(dtype))).all()


def test_parameters_of_a_family():
    """From parameters to inverses, without the matrices; outputs by their principal directions."""
    case = load_power_flow("case30")
    p, Y = case.parameters, case.target
    model = NeuralInverseRegressor(max_iter=20, random_state=0).fit(p[::2], Y[::2])
    relative = np.linalg.norm(model.predict(p[1::2]) - Y[1::2], axis=1) / np.linalg.norm(Y[0])
    assert relative.max() < 1e-6
    assert model.coefs_[0].shape[0] == 3


def test_training_goes_on(network):
    """Warm starts and `partial_fit` keep the coordinates; a pickle predicts the same."""
    warm = clone(QUICK).set_params(warm_start=True).fit(KNOWN)
    before = warm._preparation
    assert warm.fit(KNOWN)._preparation is before
    assert warm.partial_fit(KNOWN)._preparation is before
    assert error(warm) < 2 * error(network)
    for model in (network, warm):
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict(UNSEEN), model.predict(UNSEEN))
        assert isinstance(again._preparation, Residual)


def test_what_is_of_all_entries(network):
    """Coordinates that were asked for, none, or where they make no sense."""
    assert clone(QUICK).set_params(n_components=None, max_iter=1).fit(KNOWN)._map is None
    assert clone(QUICK).set_params(baseline=None, max_iter=1).fit(KNOWN)._map is None
    few = clone(QUICK).set_params(n_components=3, baseline=None).fit(KNOWN)
    assert few._preparation.n_inputs == 3
    for options in ({"baseline": "taylor2"}, {"init": "taylor"}):
        with pytest.raises(ValueError, match="n_components=None"):
            clone(QUICK).set_params(n_components=3, **options).fit(KNOWN)
    box = np.eye(3) * 4 + np.random.RandomState(0).uniform(-0.5, 0.5, (300, 3, 3))
    assert clone(QUICK).set_params(max_iter=1).fit(box)._map is None
    with pytest.raises(ValueError, match=r"solver='lm'.*operations"):
        NeuralInverseRegressor(solver="lm").fit(np.eye(6) + np.random.RandomState(0).rand(20, 6, 6))


def test_nothing_is_said_of_it_that_is_known_of_entries(network):
    """Lipschitz constants and activation regions refuse and say what helps."""
    sampler = FeasibleRegionSampler(KNOWN[0].reshape(8, 8), 1e-3).fit()
    for function in (
        lambda: impossibility.polynomial_lipschitz(network),
        lambda: activation_regions(network, sampler),
    ):
        with pytest.raises(ValueError, match="n_components=None"):
            function()


# -- more terms, where few are not enough ----------------------------------------------------------


class _At(Callback):
    """Does something in the n-th epoch of all trainings of a fit."""

    epochs = 0

    def __init__(self, epoch, error):
        self.epoch, self.error = epoch, error

    def on_epoch_end(self, net, **kwargs):
        _At.epochs += 1
        if _At.epochs == self.epoch:
            raise self.error


def wide(n_samples, n=4, spread=0.45, k=5, seed=0):
    """Matrices 3I + Σ p_i D_i of a family that takes more than 36 terms."""
    directions = np.random.RandomState(99).standard_normal((k, n, n))
    p = np.random.RandomState(seed).uniform(-1, 1, (n_samples, k))
    return 3 * np.eye(n) + spread * np.tensordot(p, directions, 1) / np.sqrt(k)


@pytest.mark.filterwarnings("ignore:The training was interrupted")
@pytest.mark.parametrize("epoch", [2, 12])
def test_an_interrupt_ends_the_fit(epoch):
    """In the first training or in a later one, which then does not replace what was learned."""
    _At.epochs = 0
    X, parameters = wide(300), {"max_iter": 10, "random_state": 0}
    stop = [_At(epoch, KeyboardInterrupt())]
    model = NeuralInverseRegressor(callbacks=stop, **parameters).fit(X)
    assert _At.epochs == epoch
    assert model.n_iter_ == (epoch if epoch < 10 else 10)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_failure_leaves_nothing_half_fitted():
    _At.epochs = 0
    model = NeuralInverseRegressor(callbacks=[_At(12, RuntimeError("no"))], max_iter=10)
    with pytest.raises(RuntimeError, match="no"):
        model.fit(wide(300))
    with pytest.raises(NotFittedError):
        model.predict(wide(3))


def test_more_terms_only_where_unseen_rows_say_so():
    """Many terms fit noise, too: what they leave of the rows they were fitted to says little."""
    rng = np.random.RandomState(3)
    W = rng.standard_normal((3, 40))
    u = rng.uniform(-1, 1, (300, 3))
    y = np.sin(2 * u @ W) + 0.03 * rng.standard_normal((300, 40))
    v = rng.uniform(-1, 1, (1000, 3))
    errors = [
        np.sqrt(np.mean((model.fit(u, y).predict(v) - np.sin(2 * v @ W)) ** 2))
        for model in (
            NeuralInverseRegressor(max_iter=30, random_state=0, on_extrapolation="keep"),
            PolynomialInverseApprox(max_terms=36, on_extrapolation="keep"),
        )
    ]
    assert errors[0] < 1.2 * errors[1]


def test_more_terms_where_few_are_no_better_than_the_series():
    X, unseen = wide(300, n=6, spread=0.8, k=10), wide(300, n=6, spread=0.8, k=10, seed=1)
    network = NeuralInverseRegressor(random_state=0, on_extrapolation="keep").fit(X)
    series = LinearInverseApprox().fit(X)
    exact = np.linalg.inv(unseen)
    error, other = (np.abs(m.predict(unseen) - exact).mean() for m in (network, series))
    assert error < 0.8 * other


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_at_the_ends_of_the_range(scale):
    X, unseen = wide(300), wide(100, seed=4)
    parameters = {"max_iter": 10, "random_state": 0}
    usual = NeuralInverseRegressor(**parameters).fit(X).predict(unseen)
    model = NeuralInverseRegressor(**parameters).fit(scale * X)
    np.testing.assert_allclose(scale * model.predict(scale * unseen), usual, rtol=0, atol=1e-3)
