"""NeuralInverseRegressor: what it learns, how it goes on, and what it refuses."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from backends import every_dtype
from conftest import random_family
from exhaustive import exhaustive
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback, EpochScoring, LRScheduler

from skinv import FeasibleRegionSampler, LinearInverseApprox, NeuralInverseRegressor
from skinv._linalg.inverses import training_inverses
from skinv.learn.training import preparation, setup


def quick(**params):
    """Return a network that trains in a fraction of a second."""
    return NeuralInverseRegressor(**{"max_iter": 15, "random_state": 0, **params})


def adam(**params):
    """Return one that is trained by Adam."""
    return quick(solver="adam", **params)


def error(model, X, Y):
    return np.abs(model.predict(X) - Y).mean()


@pytest.fixture(scope="module")
def region():
    """A box around the first centre: training and test matrices with their inverses."""
    sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    return *sampler.sample(4000), *sampler.sample(2000)


KINDS = ("relu", "taylor"), ("silu", None), ("tanh", "affine")
OTHERS = {(kind[0], baseline) for kind in KINDS for _, baseline in KINDS} - set(KINDS)


@pytest.mark.parametrize(
    "kind", [*KINDS[:2], *exhaustive(KINDS[2], *sorted(OTHERS, key=str))], ids=str
)
def test_beats_the_linear_approximation(region, kind):
    """In the region the network is at least three times as accurate as the tangent."""
    X, _, X_test, Y_test = region
    activation, baseline = kind
    model = quick(activation=activation, baseline=baseline, max_iter=40).fit(X)
    assert error(model, X_test, Y_test) < error(LinearInverseApprox().fit(X), X_test, Y_test) / 3


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": "warm_restarts"},
        {"learning_rate": "constant", "learning_rate_init": 1e-3},
        {"hidden_layer_sizes": (24, 24), "activation": "tanh"},
        {"dtype": "float64"},
        {"batch_size": 500, "weight_decay": 1e-7},
    ],
)
def test_settings_learn(region, params):
    """Every schedule, depth, precision and batch size ends below its baseline."""
    X, _, X_test, Y_test = region
    model = adam(**params).fit(X)
    baseline = LinearInverseApprox(method="lstsq").fit(X)
    assert error(model, X_test, Y_test) < error(baseline, X_test, Y_test) / 3
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert len(model.loss_curve_) == model.n_iter_


def test_targets_are_optional(region):
    """fit(X) and fit(X, Y) are the same fit, to what training makes of rounding of the inverse."""
    X, Y, X_test, _ = region
    first, second = quick().fit(X).predict(X_test), quick().fit(X, Y).predict(X_test)
    np.testing.assert_allclose(first, second, atol=1e-3)
    stack = X.reshape(-1, 2, 2)
    np.testing.assert_array_equal(quick().fit(stack).predict(X_test), first)


def test_general_targets(region):
    """Any smooth quantity can be a target, of matrices or of other features."""
    X, _, X_test, _ = region
    determinant = np.linalg.det(X.reshape(-1, 2, 2))
    model = quick(baseline="taylor").fit(X, determinant)  # falls back to the affine baseline
    predicted = model.predict(X_test)
    assert predicted.shape == (len(X_test),)
    assert np.abs(predicted - np.linalg.det(X_test.reshape(-1, 2, 2))).mean() < 0.02
    features = np.random.RandomState(0).uniform(-1, 1, (500, 3))
    assert quick(max_iter=100).fit(features, features**2).score(features, features**2) > 0.99


def test_coefficients_are_the_network(region):
    """coefs_, intercepts_ and the baseline, in plain NumPy, reproduce predict."""
    X, Y, X_test, _ = region
    X, X_test = (np.insert(a, 2, 7.0, axis=1) for a in (X, X_test))  # a constant input
    model = quick(hidden_layer_sizes=(10, 6), activation="relu", baseline=None).fit(X, Y)
    h = X_test
    for W, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        h = np.maximum(h @ W + b, 0)
    np.testing.assert_allclose(
        h @ model.coefs_[-1] + model.intercepts_[-1], model.predict(X_test), atol=1e-10
    )
    assert [W.shape for W in model.coefs_] == [(5, 10), (10, 6), (6, 4)]
    assert not model.coefs_[0][2].any()


def test_no_hidden_layer(region):
    """Without hidden layers the network is affine, as in scikit-learn's MLPRegressor."""
    X, Y, X_test, _ = region
    model = quick(hidden_layer_sizes=()).fit(X, Y)
    np.testing.assert_allclose(
        X_test @ model.coefs_[0] + model.intercepts_[0] + model._preparation.baseline(X_test),
        model.predict(X_test),
        atol=1e-12,
    )


def test_auto_learning_rate(region):
    """Wide layers take smaller steps: 0.01 up to 500 units, then 5/n."""
    X, Y, _, _ = region
    assert adam(max_iter=1).fit(X, Y).net_.rates.max() == pytest.approx(0.01, rel=0.1)
    wide = adam(max_iter=4, hidden_layer_sizes=1000).fit(X, Y)
    assert wide.net_.rates.max() == pytest.approx(0.005, rel=0.1)


def test_auto_width_counts_varying_inputs(region):
    """The default is 8 hidden units per input that varies, and two layers of 16 for order 2."""
    X, Y, _, _ = region
    assert [W.shape for W in quick(max_iter=1).fit(X).coefs_] == [(4, 16), (16, 16), (16, 4)]
    assert quick(max_iter=1, activation="relu").fit(X).coefs_[0].shape == (4, 32)
    assert quick(max_iter=1).fit(np.insert(X, 0, 1.0, axis=1), Y).coefs_[0].shape == (5, 32)


def test_auto_width_has_a_limit(monkeypatch):
    """A layer of too many weights is made narrower, and the warning says to what and why."""
    X = random_family(3, 40)[1]
    monkeypatch.setattr(setup, "_MOST_WEIGHTS", 1000)
    message = (
        r"but 72 units for 9 inputs and 9 outputs have .* 0\.0 GiB: 55 units .* are trained instead"
        r".* hidden_layer_sizes=55"
    )
    with pytest.warns(UserWarning, match=message) as warned:
        narrow = NeuralInverseRegressor(max_iter=1, random_state=0).fit(X)
    assert warned[0].filename == __file__
    assert narrow.coefs_[0].shape == (9, 55)
    asked = NeuralInverseRegressor(72, max_iter=1, random_state=0).fit(X)  # without a word
    assert asked.coefs_[0].shape == (9, 72)


def test_auto_width_of_large_matrices():
    """8 units per entry up to order 22; past that at most 4 million weights, and gigabytes told."""
    assert setup._auto_width(22**2, 22**2, "float32") == 8 * 22**2
    for n, memory in ((23, "0.1 GiB"), (64, "4.0 GiB"), (128, "64.0 GiB")):
        with pytest.warns(UserWarning, match=memory):
            width = setup._auto_width(n**2, n**2, "float32")
        assert 4e6 - 2 * n**2 < width * 2 * n**2 <= 4e6


def test_large_affine_baselines_are_left_out(monkeypatch):
    """Where an affine map would have too many coefficients, "auto" is the series, if it can be."""
    X = random_family(3, 200)[1].reshape(200, 9)
    monkeypatch.setattr(preparation, "_MOST_COEFFICIENTS", 80)
    targets = training_inverses(X)
    for rows, series in ((X, True), (X - X.mean(axis=0), False)):
        prepared = preparation.Preparation.fit(rows, targets, "auto", inverses=True)
        assert (prepared.center is not None, prepared.affine is None) == (series, series)
    assert preparation.Preparation.fit(X, targets, "affine", inverses=True).affine is not None


@pytest.mark.parametrize("n_hidden", [8, 9, 20, 4, 5])
def test_taylor_start_is_the_linear_approximation(n_hidden):
    """Before any step init="taylor" equals L: everywhere with 2n² units, in the box with n²."""
    from skinv.learn.training.preparation import Preparation, taylor_layers

    center, A = random_family(2, 200, spread=0.2)
    X = A.reshape(-1, 4)
    prepared = Preparation.fit(X, np.linalg.inv(A).reshape(-1, 4), None)
    layers = taylor_layers(prepared, X, center, n_hidden, np.random.RandomState(0))
    (W1, b1), (W2, b2) = layers
    where = 10 * X if n_hidden >= 8 else X
    hidden = np.maximum(prepared.inputs(where) @ W1.T + b1, 0)
    got = (hidden @ W2.T + b2) * prepared.y_scale + prepared.y_mean
    B = np.linalg.inv(center)
    E = where.reshape(-1, 2, 2) - center
    np.testing.assert_allclose(got, (B - B @ E @ B).reshape(-1, 4), atol=1e-12)


def test_taylor_start_with_constant_entries():
    """Structural zeros need no units: the construction keeps to the inputs that vary."""
    center, A = random_family(3, 300, spread=0.2)
    A[:, 0, 2] = center[0, 2] = 0.0
    model = adam(
        hidden_layer_sizes=16, activation="relu", baseline=None, init="taylor", max_iter=1,
        learning_rate_init=1e-9, dtype="float64",
    )  # fmt: skip
    X = A.reshape(-1, 9)
    linear = LinearInverseApprox().fit(X)
    np.testing.assert_allclose(model.fit(X).predict(X), linear.predict(X), atol=1e-7)


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_same_seed_same_bits(region, solver):
    """The same random_state gives the same bits; another one does not."""
    X, _, X_test, _ = region
    first, again = quick(solver=solver).fit(X), quick(solver=solver).fit(X)
    assert np.array_equal(first.predict(X_test), again.predict(X_test))
    assert first.loss_curve_ == again.loss_curve_
    other = quick(solver=solver, random_state=1).fit(X)
    assert not np.array_equal(first.predict(X_test), other.predict(X_test))


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_global_generators_are_untouched(region, solver):
    """Neither NumPy's nor torch's global generator moves in fit, fit_sampler or predict."""
    X, _, X_test, _ = region
    sampler = FeasibleRegionSampler(random_state=0).fit(X)
    before = pickle.dumps(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    model = quick(random_state=None, early_stopping=True, solver=solver).fit(X)
    model.predict(X_test)
    model.partial_fit(X)
    quick(random_state=None, solver=solver).fit_sampler(sampler, 10)
    assert pickle.dumps(np.random.get_state()) == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_partial_fit_goes_on(region, solver):
    """partial_fit starts from scratch once, then improves what is there."""
    X, _, X_test, Y_test = region
    model = quick(solver=solver, baseline="affine")
    errors = [error(model.partial_fit(X), X_test, Y_test) for _ in range(15)]
    assert errors[-1] < errors[0] / 2
    assert model.n_iter_ == len(model.loss_curve_) == 15
    fitted = quick(solver=solver).fit(X)
    before = error(fitted, X_test, Y_test)
    assert error(fitted.partial_fit(X), X_test, Y_test) < 2 * before


def test_warm_start_goes_on(region):
    """A warm start begins where the last fit ended; a cold one does not."""
    X, _, X_test, Y_test = region
    constant = {"learning_rate": "constant", "learning_rate_init": 1e-3, "max_iter": 5}
    warm = adam(warm_start=True, **constant).fit(X)
    first = warm.loss_curve_[-1]
    before = error(warm, X_test, Y_test)
    warm.fit(X)
    assert warm.loss_curve_[5] < 1.5 * first
    assert len(warm.loss_curve_) == 10
    assert error(warm, X_test, Y_test) < before
    cold = adam(**constant).fit(X).fit(X)
    assert len(cold.loss_curve_) == 5
    with pytest.raises(ValueError, match="warm_start=False"):
        warm.fit(X, X[:, 0])


def test_steps_are_taken(region):
    """Even one sample and one epoch move the weights."""
    X, _, _, _ = region
    for rows in (X[:1], X[:3], X[:130]):
        model = quick(max_iter=1, baseline=None, batch_size=128).fit(rows)
        before = [W.copy() for W, _ in model._layers]
        model.partial_fit(rows)
        assert any(
            not np.array_equal(a, b) for a, (b, _) in zip(before, model._layers, strict=True)
        )


def test_no_step_raises(region, monkeypatch):
    """A fit whose loop takes no step is an error, not a model."""
    from skinv.learn.training.batches import TensorBatches

    X, _, _, _ = region
    monkeypatch.setattr(TensorBatches, "epoch", lambda self: (self.x[:0], self.y[:0]))
    with pytest.raises(ValueError, match="No optimiser step"):
        adam().fit(X)


def test_infinite_loss_raises(region):
    """A loss that is not finite stops the fit with advice."""
    X, _, _, _ = region
    with pytest.raises(ValueError, match="smaller learning_rate_init"):
        adam(learning_rate="constant", learning_rate_init=1e30, baseline=None).fit(X)


def test_early_stopping(region):
    """Under the constant rate training stops early and the best epoch comes back."""
    X, Y, _, _ = region
    noisy = Y + 0.05 * np.random.RandomState(0).standard_normal(Y.shape)
    model = adam(
        early_stopping=True, learning_rate="constant", max_iter=300, n_iter_no_change=5,
        hidden_layer_sizes=64,
    ).fit(X[:300], noisy[:300])  # fmt: skip
    assert model.n_iter_ < 300
    assert len(model.validation_scores_) == model.n_iter_
    losses = [row["valid_loss"] for row in model.net_.history]
    # An epoch counts as better if it is by more than tol.
    assert model.best_loss_ == min(losses) < losses[-1]
    # The weights are those of the best epoch: on the same split its score comes out again.
    _, X_valid, _, Y_valid = train_test_split(
        X[:300], noisy[:300], test_size=0.1, random_state=np.random.RandomState(0)
    )
    best = model.validation_scores_[int(np.argmin(losses))]
    assert model.score(X_valid, Y_valid) == pytest.approx(best, abs=1e-6)
    assert abs(best - model.validation_scores_[-1]) > 1e-5
    scheduled = adam(early_stopping=True, n_iter_no_change=1, max_iter=30).fit(X)
    assert scheduled.n_iter_ == 30
    # Without a validation set the training loss is watched.
    assert adam(learning_rate="constant", max_iter=500, tol=0.5).fit(X).n_iter_ < 500


def test_validation_score_is_r2(region):
    """With nothing held back for noise, the last validation score is nearly that of new data."""
    X, _, X_test, Y_test = region
    model = quick(early_stopping=True).fit(X)
    assert model.validation_scores_[-1] == pytest.approx(model.score(X_test, Y_test), abs=1e-3)


def test_fit_sampler(region):
    """Fresh matrices every step train as well, and leave no trace of a data set."""
    X, _, X_test, Y_test = region
    sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    model = adam().fit_sampler(sampler, 1000)
    linear = LinearInverseApprox().fit(X)
    assert error(model, X_test, Y_test) < error(linear, X_test, Y_test) / 5
    assert len(model.loss_curve_) == 16  # blocks of 64 steps
    with pytest.raises(ValueError, match="n_steps=0"):
        model.fit_sampler(sampler, 0)
    with pytest.raises(NotFittedError):
        model.fit_sampler(FeasibleRegionSampler(), 10)


class BatchCounter(Callback):
    """Counts batches: makes the net use skorch's own loop."""

    def __init__(self):
        self.count = 0

    def on_batch_end(self, net, **kwargs):
        self.count += 1


def test_both_loops_are_the_same_training(region):
    """The lean loop and skorch's own, which a batch callback asks for, give the same weights."""
    X, _, X_test, _ = region
    counter = BatchCounter()
    lean = adam(early_stopping=True).fit(X)
    full = adam(early_stopping=True, callbacks=[counter]).fit(X)
    np.testing.assert_allclose(lean.predict(X_test), full.predict(X_test), rtol=1e-10)
    np.testing.assert_allclose(lean.loss_curve_, full.loss_curve_, rtol=1e-5)
    assert counter.count == 0  # the caller's callback is copied, not used up
    assert [len(row["batches"]) for row in lean.net_.history] == [1] * 15


def test_skorch_callbacks(region):
    """Epoch-level callbacks of skorch work: a scheduler, and a scorer over the validation set."""
    X, _, _, _ = region

    def largest(net, dataset, y):
        predicted = net.module_(dataset.x).detach()
        return float((predicted - dataset.y).abs().max())

    model = adam(
        learning_rate="constant", early_stopping=True, max_iter=4,
        callbacks=[
            LRScheduler("StepLR", step_size=1, gamma=0.1),
            EpochScoring(largest, name="largest", use_caching=False),
        ],
    )  # fmt: skip
    model.fit(X)
    assert "largest" in model.net_.history[-1]


def test_progress_bar(region, capsys):
    """verbose=1 shows a bar over the epochs; verbose=0 prints nothing."""
    X, _, _, _ = region
    quick(max_iter=3).fit(X)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    quick(max_iter=3, verbose=1).fit(X)
    assert "3/3" in capsys.readouterr().err


@every_dtype
def test_prediction_keeps_layout_and_dtype(region, dtype):
    """Rows, stacks and tensors come back as they went in, in their dtype."""
    X, _, X_test, _ = region
    model = quick(max_iter=2).fit(X)
    rows = X_test[:50].astype(dtype)
    expected = model.predict(rows)
    assert expected.dtype == dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    stack = model.predict(rows.reshape(-1, 2, 2))
    np.testing.assert_allclose(stack.reshape(-1, 4), expected, atol=tolerance)
    tensor = model.predict(torch.from_numpy(rows))
    assert isinstance(tensor, torch.Tensor)
    assert not tensor.requires_grad
    np.testing.assert_allclose(tensor.numpy(), expected, atol=tolerance)
    frozen = rows.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(model.predict(frozen), expected)
    np.testing.assert_allclose(model.predict(np.asfortranarray(rows)), expected, atol=tolerance)
    np.testing.assert_allclose(
        np.vstack([model.predict(row[None]) for row in rows]), expected, atol=tolerance
    )


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"init": "taylor"}, "init='taylor' is a ReLU network"),
        ({"init": "taylor", "activation": "relu"}, "without a baseline"),
        (
            {"init": "taylor", "activation": "relu", "baseline": None, "hidden_layer_sizes": 3},
            "at least 4",
        ),
        (
            {
                "init": "taylor",
                "activation": "relu",
                "baseline": None,
                "hidden_layer_sizes": (8, 8),
            },
            "one hidden layer",
        ),
        ({"device": "cuda:7"} if not torch.cuda.is_available() else {"dtype": "x"}, "cuda|dtype"),
    ],
)
def test_refusals(region, params, match):
    """Settings that contradict each other are refused with a reason."""
    with pytest.raises(ValueError, match=match):
        quick(**params).fit(region[0])


def test_bad_training_rows_are_named(region):
    """Singular, nearly singular and non-finite matrices are refused by their rows, not fitted."""
    X, Y, _, _ = region
    for value, match in ((np.ones(4), r"singular.*\[9\]|\[9\].*singular"), (np.nan, r"\[9\]")):
        bad = X.copy()
        bad[9] = value
        for method in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match=match):
                getattr(quick(), method)(bad)
    bad_targets = Y.copy()
    bad_targets[4, 1] = np.inf
    with pytest.raises(ValueError, match=r"Input y.*\[4\]"):
        quick().fit(X, bad_targets)
    near, near_inverse = X.copy(), Y.copy()
    near[2] = [1.0, 1.0, 1.0, 1.0 + 1e-14]
    near_inverse[2] = np.linalg.inv(near[2].reshape(2, 2)).ravel()
    for args in ((near,), (near, near_inverse)):
        with pytest.raises(ValueError, match=r"rows \[2\].*condition number"):
            quick().fit(*args)


def test_unfitted_attributes():
    """Before fit there is no network to look at."""
    model = NeuralInverseRegressor()
    for name in ("coefs_", "intercepts_", "net_"):
        assert not hasattr(model, name)
    with pytest.raises(NotFittedError):
        model.predict(np.eye(2).reshape(1, 4))


def test_affine_baseline_keeps_the_tangent_where_data_hardly_vary():
    """Along a direction of tiny variation the baseline's slope is the derivative of the inverse.

    A plain least-squares fit puts the curvature of the other directions into it, as noise.
    """
    from skinv.learn.training.preparation import Preparation

    rng = np.random.RandomState(0)
    wide, thin = np.array([[1.0, 0.0], [0.0, -1.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])
    center = np.array([[3.0, 1.0], [1.0, 2.0]])
    t = rng.standard_normal((2, 300, 1, 1)) * np.array([0.3, 1e-6])[:, None, None, None]
    A = center + t[0] * wide + t[1] * thin
    X, Y = A.reshape(-1, 4), np.linalg.inv(A).reshape(-1, 4)
    B = np.linalg.inv(A.mean(axis=0))
    exact = -(B @ thin @ B).ravel()
    point = A.mean(axis=0).ravel()[None]

    def slope(function):
        return (function(point + thin.ravel()) - function(point))[0]

    ours = slope(Preparation.fit(X, Y, "affine", inverses=True).baseline)
    plain = slope(LinearInverseApprox(method="lstsq").fit(X, Y).predict)
    np.testing.assert_allclose(ours, exact, atol=1e-3)
    assert np.abs(plain - exact).max() > 1.0
    # Where the data do vary it is the least-squares fit.
    step = 0.3 * wide.ravel()
    prepared = Preparation.fit(X, Y, "affine", inverses=True)
    fitted = LinearInverseApprox(method="lstsq").fit(X, Y)
    np.testing.assert_allclose(
        prepared.baseline(point + step) - prepared.baseline(point),
        fitted.predict(point + step) - fitted.predict(point),
        atol=1e-3,
    )


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_units_of_the_targets_do_not_matter(region, unit):
    """Targets in other units are learned as well, also those that the baseline gets exactly."""
    X, Y, X_test, Y_test = region
    curved = quick().fit(X, unit * Y[:, :1]).score(X_test, unit * Y_test[:, :1])
    assert curved > 0.995
    affine = X @ np.random.RandomState(0).standard_normal((4, 2)) * unit
    assert quick().fit(X, affine).score(X, affine) > 1 - 1e-12
    assert not quick().fit(X, 0.0 * Y).predict(X).any()


def test_small_targets_are_learned_beside_large_ones(region):
    """Of general targets each has a scale of its own."""
    X, _, X_test, _ = region

    def targets(rows):
        return np.c_[1e6 * np.linalg.det(rows.reshape(-1, 2, 2)) ** 2, rows[:, 0] ** 3]

    model = quick(max_iter=40).fit(X, targets(X))
    wrong = np.square(model.predict(X_test) - targets(X_test)).mean(axis=0)
    assert (wrong < 1e-3 * targets(X_test).var(axis=0)).all()


def test_singular_mean(region):
    """Regular matrices whose mean is rounding have an affine baseline, and no tangent."""
    X, _, _, _ = region
    both = np.vstack([X, -X])
    assert quick().fit(both).score(both) > 0.5
    for model in (quick(baseline="taylor"), LinearInverseApprox()):
        with pytest.raises(ValueError, match="mean is regular"):
            model.fit(both)


def test_failed_fits_leave_no_model(region):
    """After a fit that raised there is nothing to predict with, however it was before."""
    X, _, _, _ = region
    for fitted in (False, True):
        model = adam(learning_rate="constant", max_iter=2)
        if fitted:
            model.fit(X)
        with pytest.raises(ValueError, match="learning_rate_init"):
            model.set_params(learning_rate_init=1e30, baseline=None).fit(X)
        with pytest.raises(NotFittedError):
            model.predict(X)
    linear = LinearInverseApprox().fit(X)
    with pytest.raises(ValueError, match="regular"):
        linear.fit(np.ones((3, 9)))
    with pytest.raises(NotFittedError):
        linear.predict(X)


def test_fit_sampler_looks_at_what_it_draws(region):
    """Matrices that fit refuses are refused in a stream too, and so are other targets."""
    X, _, _, _ = region
    uncertain = FeasibleRegionSampler([[3, 1], [1, 2]], 0.8, random_state=0).fit()
    assert not uncertain.is_certified_
    quick().fit_sampler(uncertain, 64)
    draw = uncertain.sample
    calls = []

    def spoilt(n, **kwargs):
        calls.append(n)
        rows = draw(n, **kwargs)
        if len(calls) > 1:
            rows[7] = [1.0, 1.0, 1.0, 1.0 + 1e-12]
        return rows

    uncertain.sample = spoilt
    with pytest.raises(ValueError, match=r"rows \[7\]"):
        quick().fit_sampler(uncertain, 64)
    sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    with pytest.raises(ValueError, match="warm_start=False"):
        quick(warm_start=True).fit(X, X[:, 0]).fit_sampler(sampler, 64)
    with pytest.raises(ValueError, match="positive integer"):
        quick().fit_sampler(sampler, 70.5)


class Interrupt(Callback):
    """Interrupts the fit in the middle of an epoch, as Ctrl-C does."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_interrupted_fits(region, solver, early_stopping):
    """An interrupted fit warns, and leaves the best model so far: that of an epoch before."""
    X, _, X_test, Y_test = region
    model = quick(solver=solver, early_stopping=early_stopping, callbacks=[Interrupt(4)])
    with pytest.warns(UserWarning, match="interrupted in epoch 4 of 15"):
        model.fit(X)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    seen = [row["valid_loss" if early_stopping else "train_loss"] for row in model.net_.history[:3]]
    assert model.best_loss_ == min(seen)
    # The same training, left alone, has these weights after its third epoch.
    kept = KeepWeights()
    keeper = quick(solver=solver, early_stopping=early_stopping, callbacks=[kept]).fit(X)
    weights = keeper.net_.callbacks_[0][1].weights[int(np.argmin(seen))]
    np.testing.assert_allclose(model.net_.module_.layers()[0][0], weights, rtol=1e-9)
    model.set_params(callbacks=None).partial_fit(X)  # and it can go on
    assert error(model, X_test, Y_test) < 0.02


class KeepWeights(Callback):
    """Keeps the first layer's weights of every epoch, in skorch's own loop."""

    def __init__(self):
        self.weights = []

    def on_batch_end(self, net, **kwargs):
        pass

    def on_epoch_end(self, net, **kwargs):
        self.weights.append(net.module_.layers()[0][0])


def test_interrupted_in_the_first_epoch(region):
    """In the first epoch what is left is no worse than the baseline alone."""
    X, _, X_test, Y_test = region
    linear = error(LinearInverseApprox(method="lstsq").fit(X), X_test, Y_test)
    for rate in (1e-3, 10.0):  # the second ruins the weights at once
        model = adam(
            callbacks=[Interrupt(1)], baseline="affine", learning_rate_init=rate,
            learning_rate="constant", hidden_layer_sizes=16,
        )  # fmt: skip
        with pytest.warns(UserWarning, match="interrupted in epoch 1"):
            model.fit(X)
        assert error(model, X_test, Y_test) < 1.01 * linear
        assert model.best_loss_ <= 1.001
        assert model.loss_curve_ == []


def test_scores_of_data_frames(region):
    """Scoring a data frame warns of nothing."""
    X = pd.DataFrame(region[0], columns=list("abcd"))
    for model in (quick(), LinearInverseApprox()):
        assert model.fit(X).score(X) > 0.8


def test_precision_may_change_on_the_way(region):
    """Training goes on in another dtype."""
    X, _, _, _ = region
    model = adam(max_iter=2).fit(X)
    for dtype in (np.float32, np.float64, np.float32):
        model.set_params(dtype=np.dtype(dtype).name).partial_fit(X)
        assert model._layers[0][0].dtype == dtype


def test_what_is_not_real_is_refused(region):
    """Complex tensors and negative weights are refused, not bent."""
    X, _, _, _ = region
    for model in (quick(max_iter=1).fit(X), LinearInverseApprox().fit(X)):
        with pytest.raises(ValueError, match="complex"):
            model.predict(torch.from_numpy(X) * 1j)
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        LinearInverseApprox(method="lstsq").fit(X, sample_weight=-np.ones(len(X)))


def test_features_in_different_units():
    """A large feature, such as a time stamp, does not make a small one that matters constant."""
    rng = np.random.RandomState(0)
    X = np.c_[1.7e9 + 1e4 * rng.standard_normal(2000), 1e-4 * rng.standard_normal(2000)]
    y = np.sin(1e4 * X[:, 1])
    model = NeuralInverseRegressor(20, max_iter=20, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.99


def test_rounding_of_data_is_no_feature():
    """An entry that varies by the rounding of what computed it is constant, and does no harm."""
    rng = np.random.RandomState(0)
    A = 3 * np.eye(3) + 0.1 * rng.standard_normal((500, 3, 3))
    A[:, 0, 2] = 2.0 * (1 + 1e-15 * rng.standard_normal(500))
    A[:, 2, 0] = 1e-16 * rng.standard_normal(500)
    model = NeuralInverseRegressor(10, "relu", baseline=None, max_iter=5, random_state=0).fit(A)
    single, double = model.predict(A.astype(np.float32)), model.predict(A)
    np.testing.assert_allclose(single, double, atol=1e-5)
