"""A saved model is small, holds NumPy arrays only, and goes on where it was."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skops.io.exceptions import UntrustedTypesFoundException

import skinv
from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    SingularDistanceScorer,
    StructuredInverse,
)
from skinv.persistence import TRUSTED_TYPES, saved_by


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
        PolynomialInverseApprox(),
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


# -- skops -----------------------------------------------------------------------------------------

NETWORK = NeuralInverseRegressor(8, max_iter=3, random_state=0)
NAMES = {name.rsplit(".", 1)[1]: name for name in TRUSTED_TYPES}
ALL = {
    "taylor": (LinearInverseApprox(order=2), ["LinearInverseApprox"]),
    "lstsq": (LinearInverseApprox(method="lstsq"), ["LinearInverseApprox"]),
    "polynomial": (PolynomialInverseApprox(), ["PolynomialInverseApprox"]),
    "lm": (NETWORK, ["NeuralInverseRegressor"]),
    "adam": (
        NeuralInverseRegressor(8, solver="adam", max_iter=3, early_stopping=True, random_state=0),
        ["NeuralInverseRegressor"],
    ),
    "box": (FeasibleRegionSampler(random_state=0), ["FeasibleRegionSampler"]),
    "ellipsoid": (
        FeasibleRegionSampler(norm="mahalanobis", random_state=0),
        ["FeasibleRegionSampler"],
    ),
    "certified": (
        CertifiedInverse(LinearInverseApprox()),
        ["CertifiedInverse", "LinearInverseApprox"],
    ),
    "certified ridge": (CertifiedInverse(Ridge(alpha=1e-6)), ["CertifiedInverse"]),
    "structured": (
        StructuredInverse(LinearInverseApprox(method="lstsq"), "complex"),
        ["LinearInverseApprox", "StructuredInverse"],
    ),
    "search": (
        GridSearchCV(
            make_pipeline(FeasibleRegionSampler(on_infeasible="project", random_state=0), NETWORK),
            {"neuralinverseregressor__activation": ["silu", "tanh"]},
            scoring=SingularDistanceScorer(),
            cv=2,
        ),
        ["NeuralInverseRegressor", "FeasibleRegionSampler"],
    ),
}


def fitted(name, X):
    model, types = ALL[name]
    if name == "structured":
        X = X.reshape(-1, 2, 2) * (1 + 0.5j)
    model = model.fit(X)
    if name == "search":  # itself holds scikit-learn's KFold, which skops does not trust
        model = model.best_estimator_
    return model, X, sorted(NAMES[kind] for kind in types)


@pytest.mark.parametrize("name", ALL)
def test_skops(name, trained):
    """A file needs the names of its estimators and no others, and gives the same bits."""
    model, X, types = fitted(name, trained[1])
    data = skops.io.dumps(model)
    assert skops.io.get_untrusted_types(data=data) == types
    for trusted in (types, TRUSTED_TYPES):
        loaded = skops.io.loads(data, trusted=trusted)
        if hasattr(model, "predict"):
            np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        else:
            np.testing.assert_array_equal(loaded.transform(1.2 * X), model.transform(1.2 * X))
            assert repr(loaded.certificate_) == repr(model.certificate_)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        schema = file.read("schema.json")
        assert b"torch" not in schema
        assert b"skorch" not in schema
        assert all(entry.endswith((".json", ".npy")) for entry in file.namelist())


def test_training_goes_on_from_a_skops_file(trained):
    """partial_fit of a loaded network is that of the saved one."""
    X = trained[1]
    model = NeuralInverseRegressor(8, max_iter=3, random_state=0).fit(X)
    loaded = skops.io.loads(skops.io.dumps(model), trusted=TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.partial_fit(X).predict(X), model.partial_fit(X).predict(X))


def tampered(data, change):
    """Return a skops file whose schema has been changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if entry == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            new.writestr(entry, content)
    return out.getvalue()


def nodes(tree):
    """Return all nodes of a schema that stand for objects."""
    if isinstance(tree, dict):
        if "__loader__" in tree:
            yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


CALL = {"__class__": "system", "__module__": "posix", "__loader__": "FunctionNode"}
ATTACKS = {
    "class": lambda schema: schema.update(__class__="Popen", __module__="subprocess"),
    "function": lambda schema: next(
        node for node in nodes(schema) if node["__loader__"] == "DictNode" and node is not schema
    )["content"].update(family={**CALL, "__id__": 10**9, "content": "system"}),
    "all types": lambda schema: [
        node.update(__class__="system", __module__="posix") for node in nodes(schema)
    ],
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", ["taylor", "lm", "certified", "box"])
def test_tampered_files_execute_nothing(attack, name, trained, monkeypatch):
    """Code smuggled into a file is named and refused; nothing of it runs."""
    ran = []
    for function in ("posix.system", "os.system", "subprocess.Popen.__init__"):
        monkeypatch.setattr(function, lambda *args, **kwargs: ran.append(args))
    model, _, types = fitted(name, trained[1])
    data = tampered(skops.io.dumps(model), ATTACKS[attack])
    with pytest.raises(UntrustedTypesFoundException, match=r"posix\.system|subprocess\.Popen"):
        skops.io.loads(data, trusted=types)
    assert ran == []


def test_an_untampered_rewrite_still_loads(trained):
    """The attacks fail for what they changed: a file written anew as it was is read."""
    model, X, types = fitted("lm", trained[1])
    data = tampered(skops.io.dumps(model), lambda schema: None)
    np.testing.assert_array_equal(skops.io.loads(data, trusted=types).predict(X), model.predict(X))


# -- versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(ALL) - {"search"}))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_files_say_what_wrote_them(name, dtype, trained):
    """Format, version of skinv and dtype of the data are in the file, by pickle and skops."""
    model, _, _ = fitted(name, trained[1].astype(dtype))
    skops_file = skops.io.loads(skops.io.dumps(model), trusted=TRUSTED_TYPES)
    for loaded in (pickle.loads(pickle.dumps(model)), roundtrip(model), skops_file):
        said = saved_by(loaded)
        assert said["version"] == skinv.__version__
        assert said["format"] == 3
        assert said["dtype"] == dtype
    assert saved_by(ALL[name][0].__class__(**model.get_params(deep=False))) is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"format": 4, "version": "7.1.0"}, r"by skinv 7\.1\.0 in format 4.*skinv>=7\.1\.0"),
        ({"format": 1, "version": "0.0.1"}, r"by skinv 0\.0\.1 in format 1.*fit it again"),
        (None, r"before formats were named.*fit it again"),
    ],
)
@pytest.mark.parametrize("name", ["taylor", "lm", "certified", "box"])
def test_other_formats_say_what_to_do(name, said, message, trained):
    """A newer file asks for that version, an older one to be fitted again or exported."""
    model, _, _ = fitted(name, trained[1])
    state = model.__getstate__()
    state["_saved_by"] = said
    if said is None:
        del state["_saved_by"]
    with pytest.raises(ValueError, match=f"This {type(model).__name__} was saved {message}"):
        type(model).__new__(type(model)).__setstate__(state)


def test_scorers_survive_too(trained):
    """A scorer comes back by pickle and skops."""
    scorer, X = SingularDistanceScorer(min_distance=0.3), trained[1]
    data = skops.io.dumps(scorer)
    assert skops.io.get_untrusted_types(data=data) == [NAMES["SingularDistanceScorer"]]
    model = LinearInverseApprox().fit(X)
    for loaded in (skops.io.loads(data, trusted=TRUSTED_TYPES), pickle.loads(pickle.dumps(scorer))):
        assert loaded(model, X) == scorer(model, X)
