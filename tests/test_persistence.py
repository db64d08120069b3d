"""A saved model is small, holds NumPy arrays only, and goes on where it was."""

import io
import os
import subprocess
import sys

import joblib
import numpy as np
import pytest

from skinv import FeasibleRegionSampler, LinearInverseApprox, NeuralInverseRegressor


@pytest.fixture(scope="module")
def trained():
    """A default network for 2×2 matrices (few epochs), and matrices to predict."""
    sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    X, Y = sampler.sample(1000)
    return NeuralInverseRegressor(random_state=0).fit(X, Y), X


def roundtrip(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


def test_another_process_predicts_the_same_bits(trained, tmp_path):
    """joblib.dump here, joblib.load in a process that sees no GPU: bit for bit the same."""
    model, X = trained
    joblib.dump((model, X), tmp_path / "model.joblib")
    code = (
        "import joblib, numpy, sys; model, X = joblib.load(sys.argv[1]);"
        "numpy.save(sys.argv[2], model.predict(X))"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.joblib", tmp_path / "out.npy"],
        check=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), model.predict(X))


def test_file_is_small(trained, tmp_path):
    """The file of a default 2×2 model stays under 50 KB."""
    model, _ = trained
    (path,) = joblib.dump(model, tmp_path / "model.joblib")
    assert os.path.getsize(path) < 50_000


def test_no_torch_inside(trained):
    """The pickle names no class of torch or skorch."""
    model, _ = trained
    file = io.BytesIO()
    joblib.dump(model, file)
    for name in (b"torch", b"skorch"):
        assert name not in file.getvalue()


@pytest.mark.parametrize("learning_rate", ["constant", "one_cycle"])
def test_training_goes_on_from_a_file(trained, learning_rate):
    """partial_fit and a warm start of a loaded model are those of the model that was saved."""
    X = trained[1]
    model = NeuralInverseRegressor(
        max_iter=4, random_state=0, warm_start=True, learning_rate=learning_rate
    ).fit(X)
    for go_on in (lambda m: m.partial_fit(X), lambda m: m.fit(X)):
        loaded = roundtrip(model)
        before = loaded.predict(X)
        expected, got = go_on(model).predict(X), go_on(loaded).predict(X)
        np.testing.assert_array_equal(got, expected)
        assert not np.array_equal(got, before)
        assert loaded.loss_curve_ == model.loss_curve_


def test_net_is_rebuilt(trained):
    """A loaded model has a net with the same weights."""
    model, _ = trained
    loaded = roundtrip(model)
    for a, b in zip(model.net_.module_.layers(), loaded.net_.module_.layers(), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(loaded.coefs_[0], model.coefs_[0])


def test_memory_mapped_model(trained, tmp_path):
    """A model loaded read-only from a memory map predicts without a warning."""
    model, X = trained
    (path,) = joblib.dump(model, tmp_path / "model.joblib")
    mapped = joblib.load(path, mmap_mode="r")
    np.testing.assert_array_equal(mapped.predict(X), model.predict(X))


@pytest.mark.parametrize(
    "model",
    [
        LinearInverseApprox(),
        LinearInverseApprox(method="lstsq"),
        FeasibleRegionSampler(norm="mahalanobis", random_state=0),
    ],
    ids=repr,
)
def test_others_survive_too(model, trained):
    """The linear estimators and the sampler come back as they were."""
    X = trained[1]
    loaded = roundtrip(model.fit(X))
    if hasattr(model, "predict"):
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    else:
        np.testing.assert_array_equal(loaded.sample(5)[0], model.sample(5)[0])
