"""Everyday comforts: what prints, shows progress, completes, is typed, takes data frames, helps."""

import copy
import importlib
import inspect
import pickle
import re
import subprocess
import sys
from collections import Counter
from html import unescape

import dask.array as da
import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
import torch
import user_code
from hypothesis import given
from hypothesis import strategies as st
from imblearn.pipeline import make_pipeline as make_resampling_pipeline
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch
from sklearn.utils.validation import _get_feature_names

import skinv
import skinv.certified._estimator
import skinv.learn.inference.pieces
from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    SingularDistanceScorer,
    StructuredInverse,
)
from skinv._arrays.described import describe
from skinv._arrays.results import (
    Counterexample,
    Dataset,
    DistanceBounds,
    DistanceProfile,
    InverseReport,
    RegionCertificate,
    RegionError,
    Result,
    TaylorBound,
    TruncatedMoments,
)
from skinv.bounds import certify_region, taylor_bound
from skinv.datasets import load_robot_arm
from skinv.geometry import distance_to_singularity, region_certificate
from skinv.impossibility import counterexample, truncated_moments
from skinv.metrics import absolute_errors
from skinv.persistence import TRUSTED_TYPES

CENTER = np.array([[3.0, 1.0], [1.0, 2.0]])
NAMES = ["a", "b", "c", "d"]
PROVEN = ["exact", "predicted", "refined"]
STATUSES = [*PROVEN, "inaccurate", "not finite", "rejected", "singular"]


def network(**params):
    return NeuralInverseRegressor(**{"hidden_layer_sizes": 8, "random_state": 0, **params})


def region(radius=0.5, **params):
    return FeasibleRegionSampler(CENTER, radius, random_state=0, **params).fit()


def hostile():
    """400 matrices, of which one is singular and one is not finite."""
    X = region().sample(400, return_inverse=False)
    X[3], X[7, 2] = 0.0, np.nan
    return X


@pytest.fixture(scope="module")
def results():
    """One of each kind of result, by its class."""
    box, linear = region(), LinearInverseApprox(CENTER).fit()
    arm = load_robot_arm()
    return {
        InverseReport: CertifiedInverse(linear).report(hostile()),
        RegionCertificate: FeasibleRegionSampler(norm="mahalanobis").fit(arm.data).certificate_,
        RegionError: certify_region(linear, box, max_time=None),
        TaylorBound: taylor_bound(CENTER, 0.5),
        Counterexample: counterexample(linear, CENTER, 1e6, random_state=0),
        TruncatedMoments: truncated_moments(linear, region(2.0), n_samples=2000, random_state=0),
        DistanceProfile: SingularDistanceScorer().profile(linear, box.sample(100)[0]),
        DistanceBounds: distance_to_singularity(np.eye(25), "linf", return_bounds=True),
        Dataset: arm,
    }


KINDS = [InverseReport, RegionCertificate, RegionError, TaylorBound, Counterexample,
         TruncatedMoments, DistanceProfile, DistanceBounds, Dataset]  # fmt: skip


# -- results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_results_fit_a_terminal(results, kind):
    """At most 12 lines of 100 columns: what it is, and every field by name."""
    result = results[kind]
    assert type(result) is kind
    lines = repr(result).splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 100
    assert str(result) == repr(result)
    shown = [line.split()[0] for line in lines[1:] if not line.startswith("    ")]
    assert shown[:10] == list(result)[: min(len(shown), 10)]
    if len(result) > 11:
        assert shown[-1] == "..."
    else:
        assert shown == list(result)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_bunches(results, kind):
    """They are read, changed, unpacked, copied and pickled like any Bunch, and stay what they are.

    Tab completion offers the fields.
    """
    result = results[kind]
    assert isinstance(result, Bunch)
    assert dir(result) == sorted([*result, *["radius"] * (kind is InverseReport)])
    name = next(iter(result))
    for again in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert type(again) is kind
        assert repr(again) == repr(result)
        assert list(again) == list(result)
        again[name] = "other"
        assert getattr(again, name) == "other"
        again.further = 1
        again.update(status="changed")
        assert (again["further"], again.status) == (1, "changed")
        assert getattr(result, name) is result[name]
        assert "further" not in result
    plain = Bunch(**result)
    assert type(plain) is Bunch
    assert repr(kind(**plain)) == repr(result)


@given(st.lists(st.sampled_from(STATUSES)))
def test_a_report_counts_what_is_proven(statuses):
    """The first line says how many of how many are proven, and by which status each one is."""
    printed = repr(InverseReport(status=np.array(statuses, dtype="<U12")))
    first = " ".join(printed[: printed.index("\n  status ")].split())
    proven = sum(status in PROVEN for status in statuses)
    assert first.startswith(f"Inverses: {proven} of {len(statuses)} proven")
    counted = re.findall(rf"(\d+) ({'|'.join(STATUSES)})(?=[,)]| \(row)", first)
    assert {name: int(n) for n, name in counted} == dict(Counter(statuses))
    for name, rows in re.findall(r"\d+ ([a-z ]+) \(rows? ([\d, .]+)\)", first):
        places = [k for k, status in enumerate(statuses) if status == name]
        assert rows == ", ".join(map(str, places[:5])) + ", ..." * (len(places) > 5)


def test_certified_reports_count_themselves(results):
    """498 of 500: the singular matrix and the one with NaN are named for what they are."""
    report = results[InverseReport]
    proven = np.isin(report.status, PROVEN)
    assert proven.sum() == 398 == (report.bound <= 1e-6).sum()
    assert repr(report).startswith("Inverses: 398 of 400 proven to be within tol=1e-06 (")
    singular, bad = report.rows("singular"), report.rows("not finite")
    headline = " ".join(repr(report).split("\n  inverse")[0].split())
    assert headline.endswith(f"); 1 singular (row {singular[0]}); 1 not finite (row {bad[0]})")
    assert list(report.rows()) == sorted([*singular, *bad])
    for wrong in ("reject", ["rejected"]):
        with pytest.raises(ValueError, match="'rejected'"):
            report.rows(wrong)
    report = InverseReport(status=np.array(["of my own"]), tol="any")
    assert repr(report).startswith("Inverses\n")


@given(
    st.lists(st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf]), min_size=1),
    st.sampled_from([np.float32, np.float64]),
)
def test_floats_are_described_by_their_range(values, dtype):
    """Smallest and largest finite number, to six digits, and how many are not finite."""
    array = np.array(values, dtype)
    finite = array[np.isfinite(array)].astype(float)
    text = describe(array)
    assert text.startswith(f"{np.dtype(dtype).name} ({len(values)},), ")
    missing = len(values) - len(finite)
    assert text.endswith(f", {missing} not finite" if 0 < missing < len(values) else "") or missing
    text = text.split("), ")[1].removesuffix(f", {missing} not finite")
    if len(finite) == 0:
        assert text == "none finite"
    elif finite.min() == finite.max():
        assert float(text.removeprefix("all ")) == pytest.approx(finite[0], rel=1e-5)
    else:
        low, high = map(float, text.split(" to "))
        assert (low, high) == pytest.approx((finite.min(), finite.max()), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.arange(6).reshape(2, 3), "int64 (2, 3), 0 to 5"),
        (np.array([True, False, True]), "bool (3,), 2 of 3 True"),
        (np.array([3 + 4j, 0, np.nan]), "complex128 (3,), absolute values 0 to 5, 1 not finite"),
        (np.zeros((0, 4)), "float64 (0, 4)"),
        (np.array(["a", "b", "a"]), "str (3,), 2 a, 1 b"),
        (np.array(list("abcdefghij")), "str (10,), 1 a, 1 b, 1 c, 1 d, 1 e, 1 f, 1 g, 3 more"),
        (np.array([None]), "object (1,)"),
        (np.float64(0.1), "0.1"),
        (np.array(2), "2"),
        (1 / 3, "0.333333"),
        (None, "None"),
        ("two\nlines", "two lines"),
        ({}, "none"),
        ({"a": 0.5, "b": np.zeros(2)}, "a: 0.5, b: float64 (2,), all 0"),
        (pd.DataFrame({"a": [1]}), "pandas DataFrame (1, 1)"),
        (LinearInverseApprox(order=2), "LinearInverseApprox(order=2)"),
    ],
)
def test_values_are_described_in_a_line(value, text):
    """Anything may be a field."""
    assert describe(value) == text


def test_tensors_and_dask_arrays_are_not_computed():
    """Their dtype and shape are shown without a look at a single number.

    A meta tensor has none, and the blocks of the dask array raise when they are computed.
    """

    def refuse(block):
        raise AssertionError("computed")

    lazy = da.map_blocks(refuse, da.zeros((6, 2), chunks=(3, 2)), meta=np.empty((0, 0), np.float32))
    result = InverseReport(
        inverse=torch.empty(6, 2, device="meta"), bound=lazy, status=lazy[:, 0].astype(str)
    )
    assert repr(result).splitlines()[:3] == [
        "Inverses",
        "  inverse  torch Tensor float32 (6, 2) on meta",
        "  bound    dask Array float32 (6, 2)",
    ]
    with pytest.raises(AssertionError, match="computed"):
        lazy.compute()


def test_tensor_reports_are_counted(results):
    """Of a report on tensors the status is on the host, and counted."""
    report = CertifiedInverse(LinearInverseApprox(CENTER)).fit().report(torch.tensor(hostile()))
    assert repr(report).splitlines()[0] == repr(results[InverseReport]).splitlines()[0]
    assert "torch Tensor float64 (400, 4)" in repr(report)


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
def test_bounds_in_titles_are_rounded_outward(lower, upper):
    """What the first line says of a bound is a bound, to six digits."""
    first = repr(RegionError(lower=lower, upper=upper, status="converged")).splitlines()[0]
    low, high = map(float, re.search(r"between (\S+) and (\S+) ", first).groups())
    assert low <= lower <= low * (1 + 1e-5)
    assert high * (1 - 1e-5) <= upper <= high
    most = float(re.search(r"at most (\S+) over", repr(TaylorBound(max_error=upper)))[1])
    assert most == high
    margin = repr(RegionCertificate(is_certified=True, margin=-lower, test="t")).splitlines()[0]
    assert float(re.search(r"margin (\S+) by", margin)[1]) <= -lower


@pytest.mark.parametrize(
    ("result", "first"),
    [
        (
            Counterexample(error_lower=1e6, distance=1.38),
            "Counterexample: wrong by more than 1e+06, 1.38 from the center",
        ),
        (
            DistanceProfile(count=np.array([5, 5]), n_left_out=3),
            "Error against the distance to the "
            "singular matrices: 10 matrices in 2 bins, 3 left out",
        ),
        (Dataset(data=np.zeros((3, 4)), center=np.eye(2)), "Dataset: 3 matrices of order 2"),
        (DistanceBounds(exact=False), "Distance to the singular matrices: between two bounds"),
        (TruncatedMoments(p=2.0), "Moments of the error without what is nearly singular"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_first_lines(result, first):
    """A result begins with what matters most."""
    assert repr(result).splitlines()[0] == first


def test_infinite_and_missing_figures():
    """Nothing that is proven is inf, and fields may be taken out or replaced."""
    unknown = RegionError(lower=0.0, upper=np.inf, status="max_boxes")
    assert "between 0 and inf (max_boxes)" in repr(unknown)
    del unknown["upper"]
    unknown.lower = np.zeros(3)
    assert repr(unknown).splitlines()[0] == "Largest error over the region"
    assert repr(Result()) == "Result"


def test_results_as_html(results):
    """Notebooks get a table of the same text, escaped, and nothing that is marked up otherwise."""
    html = results[InverseReport]._repr_html_()
    for name in results[InverseReport]:
        assert f">{name}</th>" in html
    assert "398 of 400 proven" in html
    html = results[Dataset]._repr_html_()
    assert ">Jacobians of a Puma 560 robot arm</td>" in html
    assert not any(markup in html for markup in (".. _", "**", "---", "::"))
    assert max(map(len, re.findall(r">([^<]*)<", unescape(html)))) <= 100
    html = Result(**{"<b>": "<script>alert(1)</script>"})._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html


def test_certificates_survive_skops():
    """A fitted region goes through skops, and comes back with a certificate that prints."""
    sampler = region()
    again = skops.io.loads(skops.io.dumps(sampler), trusted=TRUSTED_TYPES)
    assert type(again.certificate_) is RegionCertificate
    assert again.certificate_ == sampler.certificate_
    assert repr(again.certificate_) == repr(sampler.certificate_)


# -- progress --------------------------------------------------------------------------------------


def shown(capsys):
    """Return what stderr got, and check that stdout got nothing."""
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize(
    "estimator",
    [LinearInverseApprox(), PolynomialInverseApprox(), network(max_iter=3), Ridge(1e-3)],
    ids=lambda e: str(e)[:6],
)
def test_certifying_shows_progress(monkeypatch, capsys, estimator, as_tensor):
    """The bar ends at the number of rows; the answers are the same bits as without it.

    In many blocks, around regressors of ours and others, and around what is not finite.
    """
    monkeypatch.setattr(skinv.certified._proofs, "_BLOCK", 50 * 32)  # 50 matrices
    X = hostile()
    model = CertifiedInverse(estimator, tol=1e-9).fit(region().sample(200)[0])
    given = torch.tensor(X) if as_tensor else X
    quiet = model.report(given)
    assert shown(capsys) == ""
    loud = model.set_params(verbose=1).report(given)
    err = shown(capsys)
    assert "certifying" in err
    assert "400/400" in err
    assert err.count("/400 ") >= 2
    assert list(loud) == list(quiet)
    for name, values in quiet.items():
        np.testing.assert_array_equal(values, loud[name], strict=not as_tensor)
    np.testing.assert_array_equal(model.predict(given), quiet.inverse)
    assert "400/400" in shown(capsys)


def test_nothing_to_certify(capsys):
    """Of no matrices there is no bar."""
    model = CertifiedInverse(LinearInverseApprox(CENTER), verbose=1).fit()
    assert model.predict(np.empty((0, 4))).shape == (0, 4)
    assert shown(capsys) == ""


def test_boxes_show_the_gap(capsys):
    """The last thing that the bar shows is the gap that is returned."""
    model, sampler = network(max_iter=3).fit(region().sample(500)[0]), region()
    proof = certify_region(model, sampler, rtol=0.3, max_boxes=3000, max_time=None, verbose=1)
    err = shown(capsys)
    last = re.findall(r"(\d+)/3000 .*?([\d.e-]+) to ([\d.e-]+), gap ([\d.]+)%", err)[-1]
    assert int(last[0]) == proof.n_boxes
    assert float(last[2]) == pytest.approx(proof.upper, rel=1e-3)
    assert float(last[3]) / 100 == pytest.approx(proof.gap, abs=1e-3)
    assert (
        certify_region(model, sampler, rtol=0.3, max_boxes=3000, max_time=None).upper == proof.upper
    )
    assert shown(capsys) == ""


def test_training_and_large_predictions_show_progress(monkeypatch, capsys):
    """verbose=1 for epochs, 2 for predictions in more than a piece, too: of the same bits."""
    monkeypatch.setattr(skinv.learn.inference.pieces, "_PIECE_NETWORK", 1)
    X, Y = region().sample(5000)
    model = network(max_iter=3, verbose=1).fit(X[:500], Y[:500])
    assert "3/3" in shown(capsys)
    quiet, tensors = model.predict(X), model.predict(torch.tensor(X))
    assert shown(capsys) == ""
    model.set_params(verbose=2)
    np.testing.assert_array_equal(model.predict(X), quiet)
    err = shown(capsys)
    assert "predicting" in err
    assert "5000/5000" in err
    np.testing.assert_array_equal(model.predict(torch.tensor(X)), tensors)
    assert "5000/5000" in shown(capsys)
    model.predict(X[:100])
    assert shown(capsys) == ""


def test_bars_that_are_off_cost_nothing():
    """Nothing imports tqdm, or torch, before it is asked to."""
    code = (
        "import sys, numpy as np, skinv\n"
        "model = skinv.CertifiedInverse(skinv.LinearInverseApprox([[2.0]])).fit()\n"
        "model.report([[2.1]])\n"
        "print(sorted({'tqdm', 'torch', 'dask', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


# -- namespaces ------------------------------------------------------------------------------------

SUBPACKAGES = sorted(set(dir(skinv)) - set(skinv.__all__))


def test_the_package_lists_estimators_and_subpackages():
    """What completion offers is public, and each of it is there."""
    wanted = {"bounds", "datasets", "export", "geometry", "impossibility", "inspection"}
    assert wanted | {"matrices", "metrics", "refinement"} <= set(SUBPACKAGES)
    for name in dir(skinv):
        assert callable(getattr(skinv, name)) or inspect.ismodule(getattr(skinv, name))
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", skinv.__version__)
    with pytest.raises(AttributeError, match="has no attribute 'dataset'"):
        skinv.dataset  # noqa: B018
    scope = {}
    exec("from skinv import *", scope)
    assert set(scope) - {"__builtins__"} == set(skinv.__all__)


def test_subpackages_are_imported_when_they_are_used():
    """`import skinv; skinv.datasets` is enough, and no subpackage imports torch or matplotlib."""
    code = (
        "import sys, skinv\n"
        "late = [name for name in dir(skinv) if f'skinv.{name}' not in sys.modules]\n"
        "assert 'datasets' in late and 'export' in late\n"
        "for name in dir(skinv): getattr(skinv, name)\n"
        "assert not {'torch', 'matplotlib', 'onnx', 'dask'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_subpackages_list_what_is_public(name):
    """Completion offers `__all__`, and all of it is there."""
    module = getattr(skinv, name)
    assert dir(module) == sorted(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None


# -- types -----------------------------------------------------------------------------------------


def test_user_code_runs(tmp_path):
    """What mypy checks as users would write it does what it says."""
    found = user_code.main(tmp_path)
    assert found["inverses"].shape == (99, 36)
    assert found["status"]["not finite"] == 1
    assert found["file"].exists()
    assert found["solutions"][1] <= 1e-8


def public_functions():
    """Yield the public functions and methods of the package by name."""
    for module in (skinv, *(importlib.import_module(f"skinv.{name}") for name in SUBPACKAGES)):
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isfunction(found):
                yield f"{module.__name__}.{name}", found
            elif inspect.isclass(found):
                for attribute, method in vars(found).items():
                    method = getattr(method, "__func__", method)  # of a class method
                    public = attribute == "__init__" or not attribute.startswith("_")
                    if public and inspect.isfunction(method) and method.__name__ == attribute:
                        yield f"{module.__name__}.{name}.{attribute}", method


def test_public_functions_are_annotated():
    """Every parameter and result has a type, so that strict checkers accept calls."""
    functions = dict(public_functions())
    assert len(functions) > 50
    for name, function in functions.items():
        annotated = inspect.get_annotations(function)
        parameters = set(inspect.signature(function).parameters) - {"self", "cls"}
        returned = set() if name.endswith("__init__") else {"return"}
        assert parameters | returned <= set(annotated), name


# -- notebooks -------------------------------------------------------------------------------------

ESTIMATORS = {
    "sampler": FeasibleRegionSampler(CENTER, 0.5),
    "linear": LinearInverseApprox(),
    "lstsq": LinearInverseApprox(method="lstsq"),
    "neural": network(max_iter=2),
    "polynomial": PolynomialInverseApprox(),
    "structured": StructuredInverse(LinearInverseApprox(method="lstsq"), "symmetric"),
    "certified": CertifiedInverse(LinearInverseApprox()),
    "pipeline": make_pipeline(FeasibleRegionSampler(), CertifiedInverse(LinearInverseApprox())),
    "search": GridSearchCV(CertifiedInverse(Ridge()), {"order": [2, 3]}, cv=2),
}


def symmetric():
    X = region().sample(60, return_inverse=False)
    X[:, 1] = X[:, 2]
    return X


@pytest.mark.parametrize("name", ESTIMATORS)
def test_html_shows_what_is_fitted(name):
    """Before fit "Not fitted", after it "Fitted", and the estimators inside are shown."""
    estimator = clone(ESTIMATORS[name])
    before = estimator._repr_html_()
    after = estimator.fit(symmetric())._repr_html_()
    for html, fitted in ((before, False), (after, True)):
        assert ("<span>Not fitted</span>" in html) is not fitted
        assert ("<span>Fitted</span>" in html) is fitted
        for inner in set(re.findall(r"\w+(?=\()", str(ESTIMATORS[name]))):
            assert inner in html


def test_html_of_certified_around_a_fitted_one():
    """A fitted regressor inside is enough."""
    fitted = LinearInverseApprox(CENTER).fit()
    assert "<span>Fitted</span>" in CertifiedInverse(fitted)._repr_html_()


def test_html_does_not_compute_the_affine_map(monkeypatch):
    """Listing and showing a series does not form the n² × n² matrix that `coef_` would be."""
    model = LinearInverseApprox(CENTER).fit()
    expected = model.coef_
    with monkeypatch.context() as patch:
        patch.setattr(np, "kron", None)
        assert "intercept_" in dir(model)
        assert "LinearInverseApprox" in model._repr_html_()
    np.testing.assert_array_equal(model.coef_, expected)
    fitted = LinearInverseApprox(method="lstsq").fit(region().sample(60)[0])
    assert "coef_" in dir(fitted)


# -- data frames -----------------------------------------------------------------------------------


def pandas_frame(rows):
    """A frame whose index is no range, as after filtering."""
    index = 7 * np.arange(len(rows))[::-1] + 3
    return pd.DataFrame(rows, columns=NAMES[: np.shape(rows)[1]], index=index)


def polars_frame(rows):
    return pl.DataFrame(rows, schema=NAMES[: np.shape(rows)[1]])


def names_in(frame):
    """Return the names that scikit-learn reads: before 1.7 not those of polars 2."""
    names = _get_feature_names(frame)
    return None if names is None else list(names)


FRAMES = {"pandas": pandas_frame, "polars": polars_frame}
SERIES = {"pandas": pd.Series, "polars": pl.Series}


@pytest.fixture(params=FRAMES)
def kind(request):
    return request.param


REGRESSORS = {
    **{
        name: ESTIMATORS[name]
        for name in ("linear", "lstsq", "neural", "polynomial", "certified", "pipeline")
    },
    "around a pipeline": CertifiedInverse(
        make_pipeline(FeasibleRegionSampler(), LinearInverseApprox())
    ),
    "around another's": CertifiedInverse(Ridge(1e-3)),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_take_data_frames(kind, name):
    """Frames say what arrays say, but for the last bits, and names are kept and checked."""
    frame = FRAMES[kind]
    X, Y = region().sample(60)
    for targets in (None, Y):
        expected = clone(REGRESSORS[name]).fit(X, targets)
        model = clone(REGRESSORS[name]).fit(frame(X), None if targets is None else frame(targets))
        assert list(getattr(model, "feature_names_in_", [])) == (names_in(frame(X)) or [])
        np.testing.assert_allclose(model.predict(frame(X)), expected.predict(X), rtol=1e-6)
        for y in (None, Y):
            score = model.score(frame(X), None if y is None else frame(y))
            assert score == pytest.approx(expected.score(X, y), abs=1e-6)
    if names_in(frame(X)) == NAMES:
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame(X)[["b", "a", "c", "d"]])


@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize("name", ["certified", "around a pipeline", "around another's"])
def test_reports_and_solutions_of_data_frames(kind, name, verbose):
    """Bad rows too, and right-hand sides in frames."""
    frame = FRAMES[kind]
    X, b = hostile(), np.random.RandomState(0).standard_normal((400, 2))
    known = region().sample(60)[0]
    model = clone(REGRESSORS[name]).set_params(verbose=verbose).fit(frame(known))
    expected = clone(REGRESSORS[name]).fit(known)
    report, same = model.report(frame(X)), expected.report(X)
    np.testing.assert_array_equal(report.status, same.status)
    np.testing.assert_allclose(report.inverse, same.inverse, rtol=1e-5)
    x, bound = model.solve(frame(X), frame(b), return_bound=True)
    np.testing.assert_allclose(x, expected.solve(X, b), rtol=1e-5)
    assert (bound < 1e-6).sum() == 398


def test_targets_and_weights_in_series(kind):
    """A quantity per matrix, and weights, come as series too."""
    frame, series = FRAMES[kind], SERIES[kind]
    X, Y = region().sample(60)
    weight = np.linspace(0.5, 1.0, 60)
    model = LinearInverseApprox(method="lstsq")
    model.fit(frame(X), series(Y[:, 0]), sample_weight=series(weight))
    expected = LinearInverseApprox(method="lstsq").fit(X, Y[:, 0], sample_weight=weight)
    np.testing.assert_allclose(model.predict(frame(X)), expected.predict(X))


@pytest.mark.parametrize("params", [{}, {"min_distance": 1.2}, {"weighting": "distance"}])
def test_scorers_take_data_frames(kind, params):
    """With rows left out and targets given."""
    frame = FRAMES[kind]
    X, Y = region().sample(60)
    model, scorer = LinearInverseApprox().fit(frame(X)), SingularDistanceScorer(**params)
    expected = LinearInverseApprox().fit(X)
    for y in (None, Y):
        score = scorer(model, frame(X), None if y is None else frame(y))
        assert score == pytest.approx(scorer(expected, X, y))
    profile = scorer.profile(model, frame(X), n_bins=3)
    np.testing.assert_allclose(profile.error, scorer.profile(expected, X, n_bins=3).error)


@pytest.mark.filterwarnings("ignore:.* matrices were moved into the region:UserWarning")
@pytest.mark.parametrize("wanted", ["default", "pandas", "polars"])
@pytest.mark.parametrize("on_infeasible", ["project", "nan"])
def test_samplers_take_and_give_data_frames(kind, on_infeasible, wanted):
    """`transform` gives what `set_output` asks for, under the names that came in."""
    frame = FRAMES[kind]
    X = region().sample(60)[0]
    X[3] = 9.0
    sampler = FeasibleRegionSampler(CENTER, 0.5, on_infeasible=on_infeasible)
    expected = clone(sampler).fit(X)
    sampler.set_output(transform=wanted).fit(frame(X))
    names = names_in(frame(X)) or ["x0", "x1", "x2", "x3"]
    assert list(sampler.get_feature_names_out()) == names
    out = sampler.transform(frame(X))
    types = {"default": np.ndarray, "pandas": pd.DataFrame, "polars": pl.DataFrame}
    assert isinstance(out, types[wanted])
    if wanted != "default":
        assert list(out.columns) == names
    if kind == wanted == "pandas":
        assert out.index.equals(frame(X).index)
    np.testing.assert_array_equal(np.asarray(out), expected.transform(X))
    for method in ("is_feasible", "decision_function"):
        values = getattr(sampler, method)(frame(X))
        np.testing.assert_array_equal(values, getattr(expected, method)(X))
    stacked = clone(sampler).set_output(transform=wanted).fit(X.reshape(-1, 2, 2))
    assert list(stacked.get_feature_names_out()) == ["x0", "x1", "x2", "x3"]
    shape = (60, 2, 2) if wanted == "default" else (60, 4)
    assert stacked.transform(X.reshape(-1, 2, 2)).shape == shape


def test_resampling_keeps_the_kind_of_frame(kind):
    """fit_resample drops rows of both, in the containers they came in; imblearn's pipeline too."""
    frame, series = FRAMES[kind], SERIES[kind]
    X, Y = region().sample(60)
    X[3] = 9.0
    keep = np.arange(60) != 3
    sampler = FeasibleRegionSampler(CENTER, 0.5)
    for y, container in ((Y, frame), (Y[:, 0], series)):
        kept, targets = sampler.fit_resample(frame(X), container(y))
        assert type(kept) is type(frame(X))
        assert type(targets) is type(container(y))
        np.testing.assert_array_equal(np.asarray(kept), X[keep])
        np.testing.assert_array_equal(np.asarray(targets), y[keep])
    dropping = FeasibleRegionSampler(CENTER, 0.5, on_infeasible="drop")
    pipeline = make_resampling_pipeline(dropping, LinearInverseApprox()).fit(frame(X), frame(Y))
    expected = LinearInverseApprox().fit(X[keep])
    np.testing.assert_allclose(pipeline.predict(frame(X)), expected.predict(X), rtol=1e-9)


# -- messages --------------------------------------------------------------------------------------

BOX = region().sample(20)
LINEAR = LinearInverseApprox(CENTER).fit()


class Complex(Ridge):
    """A regressor that predicts complex numbers for real matrices."""

    def predict(self, X):
        return super().predict(X) + 1j


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda: LinearInverseApprox(np.eye(3)).fit(BOX[0]), "center=None for their mean"),
        (lambda: FeasibleRegionSampler(np.eye(3)).fit(BOX[0]), "center=None for their mean"),
        (
            lambda: LinearInverseApprox(CENTER, order=2).fit().coef_,
            "order=1 or with method='lstsq'",
        ),
        (lambda: LinearInverseApprox(np.ones((1, 2, 3))).fit(), r"\(n, n\), or its n\*n entries"),
        (lambda: LinearInverseApprox(np.ones((2, 2))).fit(), "Pass another center"),
        (lambda: LinearInverseApprox().fit(), "pass center=..., or matrices to fit"),
        (lambda: LINEAR.predict(np.ones((5, 3))), "expecting 4 features"),
        (lambda: LINEAR.predict(torch.ones(5, 3)), "a stack"),
        (lambda: LINEAR.predict(BOX[0], out=torch.ones(20, 4)), "what predict returns"),
        (lambda: network(early_stopping=True).fit(BOX[0][:1]), "pass more, or early_stopping=Fal"),
        (lambda: network(init="taylor").fit(BOX[0]), "activation='relu', baseline=None"),
        (
            lambda: (
                network(hidden_layer_sizes=(8, 8), init="taylor", activation="relu")
                .set_params(baseline=None)
                .fit(BOX[0])
            ),
            "a single number, or init='default'",
        ),
        (lambda: network().coefs_, "call fit first"),
        (lambda: network().net_, "call fit first"),
        (lambda: CertifiedInverse(LINEAR.__class__(CENTER)).predict(BOX[0]), "Call 'fit' first"),
        (lambda: CertifiedInverse(Complex()).fit(BOX[0]).predict(BOX[0]), "to real targets"),
        (
            lambda: CertifiedInverse(LINEAR, fallback="raise", tol=1e-30).predict(BOX[0]),
            "use fallback='exact' or 'nan'",
        ),
        (lambda: region().sample(5, dtype=int), "such as numpy.float32"),
        (lambda: region().sample(5, device="cpu", dtype=np.float32), "such as torch.float32"),
        (lambda: region().sample(5, device="cpu", chunks=2), "leave one of them out"),
        (lambda: SingularDistanceScorer(min_distance=9)(LINEAR, BOX[0]), "a smaller min_distance"),
        (lambda: SingularDistanceScorer().profile(LINEAR, BOX[0], n_bins=21), "use fewer bins"),
        (
            lambda: absolute_errors(np.ones((3, 2, 2)), np.ones((1, 2, 2))),
            "two for the same matrices",
        ),
        (lambda: certify_region(network(max_iter=1).fit(*BOX_SUM), region()), "fit it without y"),
        (lambda: region_certificate(np.ones((2, 2)), 0.1), "choose a regular center"),
    ],
)
def test_messages_name_the_fix(call, fix):
    """What is wrong, and what to do about it."""
    with pytest.raises((ValueError, AttributeError), match=fix):
        call()


BOX_SUM = BOX[0], BOX[1] + 1.0


def test_the_warning_names_the_fix():
    """Matrices outside are passed on with a warning that says how to treat them."""
    sampler = region(on_infeasible="warn")
    with pytest.warns(UserWarning, match="use on_infeasible='project' to move them into the"):
        sampler.transform(np.full((1, 4), 9.0))
