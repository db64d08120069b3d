"""Peers: skinv inside, around and beside the estimators and tools of other libraries.

What pipelines, routing, data frames and saved files have to do is in test_integration.py and
test_persistence.py, dask in test_scale.py, files for onnxruntime in test_export.py.
"""

import math

import dask.array as da
import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import pytest
import sklearn
import skorch
import torch
from backends import every_dtype
from exhaustive import exhaustive
from imblearn import FunctionSampler
from imblearn.pipeline import Pipeline as ImblearnPipeline
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from joblib import Memory
from mapie.regression import CrossConformalRegressor, SplitConformalRegressor
from scipy.stats import betabinom, binom
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor, StackingRegressor, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    LeaveOneOut,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.fixes import parse_version

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    SingularDistanceScorer,
)
from skinv.export import to_onnx

CENTER = [[3.0, 1.0], [1.0, 2.0]]
NETWORK = NeuralInverseRegressor(8, max_iter=3, random_state=0)
LSTSQ = LinearInverseApprox(method="lstsq")
REGION = FeasibleRegionSampler(CENTER, 0.5, min_distance=0.1, on_infeasible="drop", random_state=0)
REGRESSORS = {
    "taylor": LinearInverseApprox(),
    "lstsq": LSTSQ,
    "neural": NETWORK,
    "polynomial": PolynomialInverseApprox(),
    "certified": CertifiedInverse(LinearInverseApprox(), max_refine=0, fallback="keep"),
    "certified pipeline": CertifiedInverse(
        make_pipeline(FeasibleRegionSampler(on_infeasible="project"), NETWORK)
    ),
}
# scikit-learn 1.6 cannot split tensors, whatever the estimator; remove the condition with it.
CONTAINERS = [np.asarray]
if parse_version(sklearn.__version__) >= parse_version("1.7"):
    CONTAINERS.append(torch.tensor)
# Those that learn any quantity of a matrix.
GENERAL = {"lstsq": LSTSQ, "neural": NETWORK, "polynomial": PolynomialInverseApprox()}


@pytest.fixture(params=REGRESSORS)
def regressor(request):
    return clone(REGRESSORS[request.param])


@pytest.fixture(params=GENERAL)
def general(request):
    return clone(GENERAL[request.param])


@pytest.fixture
def trace(box):
    """The traces of the inverses, a scalar target."""
    return box[1][:, 0] + box[1][:, 3]


@pytest.fixture
def spoilt(box):
    """The box with 40 matrices of another place among its own, and their inverses."""
    X, Y = (array.copy() for array in box)
    X[::10] += 5 * np.eye(2).ravel()
    Y[::10] = np.linalg.inv(X[::10].reshape(-1, 2, 2)).reshape(-1, 4)
    return X, Y


def assert_proven(model, X, tol):
    """Every error against LAPACK is within its bound, and every bound within `tol`."""
    inverse, bound = model.predict(X, return_bound=True)
    A = np.asarray(X, dtype=float).reshape(-1, 2, 2)
    exact = np.linalg.inv(A)
    error = np.linalg.norm(np.asarray(inverse, dtype=float).reshape(-1, 2, 2) - exact, axis=(1, 2))
    assert (error <= (bound + 1e-14) * np.linalg.norm(exact, axis=(1, 2))).all()
    assert (bound <= tol).all()


# -- imbalanced-learn ------------------------------------------------------------------------------


@pytest.mark.parametrize("with_targets", [True, False])
@pytest.mark.parametrize("layout", [(-1, 4), (-1, 2, 2)])
@pytest.mark.parametrize("name", ["lstsq", "neural", "certified"])
def test_imblearn_cross_validation(name, layout, with_targets, spoilt):
    """Each fold is fitted to what its region keeps, and scored on everything."""
    X, Y = (array.reshape(layout) for array in spoilt)
    model, scorer = REGRESSORS[name], SingularDistanceScorer()
    pipeline = make_imblearn_pipeline(clone(REGION), clone(model))
    y = Y if with_targets else None
    scores = cross_val_score(pipeline, X, y, cv=4, scoring=scorer, error_score="raise")
    expected = []
    for train, test in KFold(4).split(X):
        kept = train[train % 10 != 0]
        alone = clone(model).fit(X[kept], Y[kept] if with_targets else None)
        expected.append(scorer(alone, X[test]))
    np.testing.assert_allclose(scores, expected, rtol=1e-10)


def test_imblearn_grid_search(spoilt):
    """A search over the region and the model finds what a loop finds, and refits on what is kept.

    A small region leaves the edges of the box to extrapolation.
    """
    X, Y = spoilt
    inside = np.arange(400) % 10 != 0
    grid = {"region__radius": [0.3, 0.5], "model__activation": ["silu", "tanh"]}
    pipeline = ImblearnPipeline([("region", clone(REGION)), ("model", clone(NETWORK))])

    def scorer(model, X, y=None):
        home = np.abs(X - np.ravel(CENTER)).max(axis=1) <= 0.5
        return SingularDistanceScorer()(model, X[home])

    search = GridSearchCV(pipeline, grid, scoring=scorer, cv=2, error_score="raise").fit(X, Y)
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        scores = []
        for train, test in KFold(2).split(X):
            near = np.abs(X[train] - np.ravel(CENTER)).max(axis=1) <= params["region__radius"]
            model = clone(NETWORK).set_params(activation=params["model__activation"])
            scores.append(scorer(model.fit(X[train][near], Y[train][near]), X[test]))
        assert score == pytest.approx(np.mean(scores), rel=1e-10)
    assert search.best_params_["region__radius"] == 0.5
    alone = clone(NETWORK).set_params(activation=search.best_params_["model__activation"])
    np.testing.assert_allclose(
        search.predict(X), alone.fit(X[inside], Y[inside]).predict(X), rtol=1e-10
    )


@pytest.mark.parametrize("inside", [True, False])
def test_imblearn_and_certificates(inside, spoilt):
    """A sampler in the certified regressor, or before it: what was dropped is proven all the same.

    The regressor has never seen the matrices of the other place; refinement or LAPACK answer them.
    """
    X, _ = spoilt
    if inside:
        model = CertifiedInverse(make_imblearn_pipeline(clone(REGION), clone(NETWORK))).fit(X)
        assert_proven(model, X, 1e-6)
        x, bound = model.solve(X, np.ones((400, 2)), return_bound=True)
        assert (bound <= 1e-6).all()
        exact = np.linalg.solve(X.reshape(-1, 2, 2), np.ones((400, 2, 1)))[:, :, 0]
        np.testing.assert_allclose(x, exact, rtol=1e-5)
    else:
        model = make_imblearn_pipeline(clone(REGION), CertifiedInverse(clone(NETWORK))).fit(X)
        assert model[-1].estimator_.n_iter_ == 3
        assert_proven(model[-1], X, 1e-6)


def test_imblearn_has_other_samplers(spoilt):
    """A sampler of imbalanced-learn's own before the network, on stacks."""
    X, Y = (array.reshape(-1, 2, 2) for array in spoilt)
    every = FunctionSampler(func=lambda X, y: (X[5::10], y[5::10]), validate=False)
    model = make_imblearn_pipeline(every, clone(LSTSQ)).fit(X, Y)
    np.testing.assert_array_equal(model.predict(X), clone(LSTSQ).fit(X[5::10], Y[5::10]).predict(X))


@pytest.mark.parametrize("container", [pd.DataFrame, pl.DataFrame])
def test_imblearn_keeps_data_frames(container, spoilt):
    """What fit_resample keeps comes back in the containers that were given."""
    columns = ["a11", "a12", "a21", "a22"]
    X, Y = (container(dict(zip(columns, array.T, strict=True))) for array in spoilt)
    kept, targets = clone(REGION).fit_resample(X, Y)
    inside = np.arange(400) % 10 != 0
    for frame, array in ((kept, spoilt[0]), (targets, spoilt[1])):
        assert type(frame) is container
        assert list(frame.columns) == columns
        np.testing.assert_array_equal(frame.to_numpy(), array[inside])
    model = make_imblearn_pipeline(clone(REGION), clone(NETWORK)).fit(X, Y)
    assert list(model[-1].feature_names_in_) == columns
    np.testing.assert_allclose(
        model.predict(X), clone(NETWORK).fit(kept.to_numpy(), targets.to_numpy()).predict(spoilt[0])
    )


# -- MAPIE -----------------------------------------------------------------------------------------

LEVEL, N_CONFORM, N_FRESH = 0.9, 999, 4000


class TraceOfInverse(RegressorMixin, BaseEstimator):
    """The trace of the inverse, by any regressor of inverses."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y=None):
        self.estimator_ = clone(self.estimator).fit(X)
        self.n_features_in_ = self.estimator_.n_features_in_  # by which MAPIE knows a fitted model
        return self

    def predict(self, X):
        return np.asarray(self.estimator_.predict(X)).reshape(-1, 2, 2).trace(axis1=1, axis2=2)


def first_unknown(X):
    """Return (A⁻¹b)₁ with b = (1, 2), proven, as a feature."""
    model = CertifiedInverse(LinearInverseApprox(CENTER), tol=1e-10).fit()
    return model.solve(X, np.tile([1.0, 2.0], (len(X), 1)))[:, :1]


def draw(n_samples, quantity, seed):
    """Draw matrices of the box and a noisy scalar functional of their inverses."""
    sampler = FeasibleRegionSampler(CENTER, 0.5, random_state=seed).fit()
    X, Y = sampler.sample(n_samples)
    noise = np.random.RandomState(seed).normal(0, 0.02, n_samples)
    clean = Y[:, 0] + Y[:, 3] if quantity == "trace" else Y[:, :2] @ [1.0, 2.0]
    return X, clean + noise


PREDICTORS = {
    "network": (NETWORK, "trace"),
    "network in a pipeline": (
        make_pipeline(FeasibleRegionSampler(on_infeasible="project"), NETWORK),
        "solution",
    ),
    "affine": (LSTSQ, "solution"),
    "certified inverses": (
        TraceOfInverse(CertifiedInverse(LinearInverseApprox(), tol=1e-10)),
        "trace",
    ),
    "certified solutions": (
        make_pipeline(FunctionTransformer(first_unknown), LinearRegression()),
        "solution",
    ),
}


@pytest.mark.parametrize("name", PREDICTORS)
def test_mapie_split_conformal(name):
    """Intervals are prediction ± the k-th smallest residual, and cover fresh samples as they must.

    With k = ⌈(m + 1)·level⌉ of m residuals the number of covered samples among fresh ones is
    beta-binomial with parameters k and m + 1 − k, whatever the model (Vovk 2012, "Conditional
    validity of inductive conformal predictors"). Each tail has a probability of 1e-5.
    """
    model, quantity = PREDICTORS[name]
    model = clone(model).fit(*draw(500, quantity, 0))
    X, y = draw(N_CONFORM, quantity, 1)
    conformal = SplitConformalRegressor(model, confidence_level=LEVEL, prefit=True)
    conformal.conformalize(X, y)
    X_fresh, y_fresh = draw(N_FRESH, quantity, 2)
    points, intervals = conformal.predict_interval(X_fresh)
    low, high = intervals[:, 0, 0], intervals[:, 1, 0]

    k = math.ceil((N_CONFORM + 1) * LEVEL)
    width = np.sort(np.abs(y - model.predict(X)))[k - 1]
    np.testing.assert_allclose(points, model.predict(X_fresh))
    np.testing.assert_allclose(low, points - width)
    np.testing.assert_allclose(high, points + width)
    covered = ((low <= y_fresh) & (y_fresh <= high)).sum()
    law = betabinom(N_FRESH, k, N_CONFORM + 1 - k)
    assert law.ppf(1e-5) <= covered <= law.isf(1e-5)
    if name.startswith("certified"):  # nothing but the noise is left
        assert width == pytest.approx(0.02 * 1.645, rel=0.15)


def test_mapie_intervals_follow_the_model():
    """Without noise a network has narrower intervals than the affine fit."""
    sampler = FeasibleRegionSampler(CENTER, 0.5, random_state=3).fit()
    X, Y = sampler.sample(1500)
    y = Y[:, 0] + Y[:, 3]
    widths = []
    for model in (NeuralInverseRegressor(16, max_iter=10, random_state=0), LSTSQ):
        conformal = SplitConformalRegressor(clone(model), confidence_level=LEVEL, prefit=False)
        conformal.fit(X[:1000], y[:1000]).conformalize(X[1000:], y[1000:])
        intervals = conformal.predict_interval(X[:1])[1]
        widths.append(intervals[0, 1, 0] - intervals[0, 0, 0])
    assert 0 < widths[0] < widths[1] / 5


def test_mapie_is_never_wider_than_the_proof():
    """Intervals of what is proven lie within the proven bounds of the conformal samples.

    |tr X − tr A⁻¹| ≤ √n ‖X − A⁻¹‖_F, of which the certificate bounds the right-hand side.
    """
    X, Y = FeasibleRegionSampler(CENTER, 0.5, random_state=4).fit().sample(500)
    certified = CertifiedInverse(LinearInverseApprox(), max_refine=0, fallback="keep").fit(X)
    model = TraceOfInverse(certified).fit(X)
    conformal = SplitConformalRegressor(model, confidence_level=LEVEL, prefit=True)
    conformal.conformalize(X, Y[:, 0] + Y[:, 3])
    intervals = conformal.predict_interval(X)[1][:, :, 0]
    bound = certified.predict(X, return_bound=True)[1]
    proven = np.sqrt(2) * bound * np.linalg.norm(Y, axis=1)
    k = math.ceil(501 * LEVEL)
    assert 0 < np.ptp(intervals, axis=1).max() / 2 <= np.sort(proven)[k - 1]


def test_mapie_cross_conformal():
    """CV+ refits clones on folds; its coverage is at least 2·level − 1.

    Barber, Candès, Ramdas and Tibshirani (2021), "Predictive inference with the jackknife+".
    """
    X, y = draw(400, "trace", 5)
    conformal = CrossConformalRegressor(
        make_pipeline(FeasibleRegionSampler(on_infeasible="project"), clone(NETWORK)),
        confidence_level=LEVEL,
        cv=4,
    ).fit_conformalize(X, y)
    X_fresh, y_fresh = draw(N_FRESH, "trace", 6)
    intervals = conformal.predict_interval(X_fresh)[1][:, :, 0]
    covered = ((intervals[:, 0] <= y_fresh) & (y_fresh <= intervals[:, 1])).sum()
    assert covered >= binom.ppf(1e-5, N_FRESH, 2 * LEVEL - 1)
    assert np.isfinite(intervals).all()


# -- scikit-learn: curves, scores and splits -------------------------------------------------------


def test_learning_curve(regressor, box):
    """Its last point is cross-validation; targets are optional, if None is passed."""
    X, Y = box
    sizes, train, test = learning_curve(regressor, X, None, cv=4, train_sizes=[0.2, 1.0])
    assert list(sizes) == [60, 300]
    np.testing.assert_allclose(test[1], cross_val_score(regressor, X, cv=4))
    given = learning_curve(regressor, X, Y, cv=4, train_sizes=[0.2, 1.0])
    np.testing.assert_allclose(given[1:], (train, test), rtol=1e-6)


def test_incremental_learning_curve(box, trace):
    """Each size goes on from the one before, by partial_fit."""
    X, _ = box
    train = np.arange(300)
    _, _, scores = learning_curve(
        NETWORK, X, trace, cv=[(train, train)], train_sizes=[100, 300],
        exploit_incremental_learning=True,
    )  # fmt: skip
    model = clone(NETWORK).partial_fit(X[:100], trace[:100])
    assert scores[0, 0] == pytest.approx(model.score(X[train], trace[train]))
    model.partial_fit(X[100:300], trace[100:300])
    assert scores[1, 0] == pytest.approx(model.score(X[train], trace[train]))


def test_validation_curve(box):
    """A parameter deep inside: the error falls with the order of the series under a certificate."""
    model = CertifiedInverse(
        make_pipeline(FeasibleRegionSampler(on_infeasible="project"), LinearInverseApprox()),
        max_refine=0,
        fallback="keep",
    )
    name = "estimator__linearinverseapprox__order"
    scorer = SingularDistanceScorer("neg_max_error")
    _, test = validation_curve(
        model, *box, param_name=name, param_range=[1, 2, 4], cv=3, scoring=scorer
    )
    assert (np.diff(test.mean(axis=1)) > 0).all()


@pytest.mark.parametrize(
    "cv",
    [
        KFold(3),
        GroupKFold(3),
        *exhaustive(KFold(3, shuffle=True, random_state=0), ShuffleSplit(2, random_state=0)),
    ],
    ids=["KFold", "GroupKFold", "shuffled", "ShuffleSplit"],
)
def test_splits_of_stacks(regressor, cv, box):
    """Stacks are split as rows are, and score the same."""
    X, Y = box
    groups = np.arange(len(X)) % 7 if isinstance(cv, GroupKFold) else None
    rows = cross_val_score(regressor, X, cv=cv, groups=groups)
    stacks = cross_val_score(regressor, X.reshape(-1, 2, 2), cv=cv, groups=groups)
    np.testing.assert_allclose(stacks, rows, rtol=1e-10)
    targets = cross_val_score(
        regressor, X.reshape(-1, 2, 2), Y.reshape(-1, 2, 2), cv=cv, groups=groups
    )
    np.testing.assert_allclose(targets, rows, rtol=1e-9)


def test_leave_one_out(regressor, box):
    """Predictions for single stacks, left out one by one, have the layout of the matrices."""
    A = box[0][:8].reshape(-1, 2, 2)
    predicted = cross_val_predict(regressor, A, cv=LeaveOneOut())
    assert predicted.shape == A.shape
    alone = clone(regressor).fit(A[1:]).predict(A[:1])
    np.testing.assert_allclose(predicted[:1], alone)


def test_several_scorers(regressor, box):
    """cross_validate with scorers by name and of ours gives what each gives alone."""
    X, Y = box
    scoring = {
        "r2": "r2",
        "distance": SingularDistanceScorer(min_distance=0.8),
        "residual": SingularDistanceScorer("neg_residual", weighting="distance"),
    }
    found = cross_validate(
        regressor, X, Y, cv=3, scoring=scoring, return_train_score=True, return_estimator=True
    )
    for name in ("distance", "residual"):
        for fold, (train, test) in enumerate(KFold(3).split(X)):
            model = found["estimator"][fold]
            assert found[f"test_{name}"][fold] == scoring[name](model, X[test], Y[test])
            assert found[f"train_{name}"][fold] == scoring[name](model, X[train], Y[train])
    np.testing.assert_allclose(
        found["test_r2"], cross_val_score(regressor, X, Y, cv=3, scoring="r2")
    )


def test_permutation_importance(regressor, box):
    """A constant entry has an importance of exactly zero, the others have some.

    Targets must be given: without them a score follows the permuted matrices to their inverses.
    """
    X = box[0].copy()
    X[:, 1] = 1.0
    Y = np.linalg.inv(X.reshape(-1, 2, 2)).reshape(-1, 4)
    model = regressor.fit(X, Y)
    for scoring in (None, "r2", SingularDistanceScorer(min_distance=0.1)):
        found = permutation_importance(
            model, X, Y, scoring=scoring, n_repeats=3, random_state=0
        ).importances_mean
        assert found[1] == 0.0
        assert (found[[0, 2, 3]] > 0.02).all()


def test_permutation_test(general, box, trace):
    """Permuted targets are learned no better than by chance."""
    score, permuted, p_value = permutation_test_score(
        general, box[0], trace, n_permutations=9, cv=2, random_state=0
    )
    assert score > 0.8 > 0.3 > permuted.max()
    assert p_value == pytest.approx(0.1)


def test_partial_dependence(box, trace):
    """That of an affine fit is a line, whose slope is its coefficient; of many outputs too."""
    X, Y = box
    for y in (trace, Y):
        model = clone(LSTSQ).fit(X, y)
        for j in range(4):
            found = partial_dependence(model, X, [j], kind="average", grid_resolution=5)
            slopes = np.diff(found.average) / np.diff(found.grid_values[0])
            expected = np.broadcast_to(np.reshape(model.coef_[:, j], (-1, 1)), slopes.shape)
            np.testing.assert_allclose(slopes, expected, atol=1e-10)


# -- scikit-learn: searches ------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [(-1, 4), (-1, 2, 2)])
@pytest.mark.parametrize("with_targets", [True, False])
def test_halving_search(layout, with_targets, box):
    """Successive halving finds the best order of a series, on subsamples of rows and stacks."""
    X, Y = (array.reshape(layout) for array in box)
    model = make_pipeline(FeasibleRegionSampler(on_infeasible="project"), LinearInverseApprox())
    search = HalvingGridSearchCV(
        model, {"linearinverseapprox__order": [1, 2, 3, 5]}, cv=3, factor=2, random_state=0,
        scoring=SingularDistanceScorer(min_distance=0.1), min_resources=60,
    ).fit(X, Y if with_targets else None)  # fmt: skip
    assert search.best_params_ == {"linearinverseapprox__order": 5}
    assert search.n_resources_[0] == 60 < search.n_resources_[-1]
    alone = clone(model).set_params(**search.best_params_).fit(X)
    np.testing.assert_allclose(search.predict(X), alone.predict(X), rtol=1e-12)


def test_randomized_search_through_everything(box):
    """Parameters of a net in a pipeline under a certificate are sampled, and the winner proves."""
    X, _ = box
    model = CertifiedInverse(
        make_pipeline(FeasibleRegionSampler(on_infeasible="project"), clone(NETWORK)),
        max_refine=0,
        fallback="keep",
    )
    space = {
        "order": [2, 3],
        "estimator__feasibleregionsampler__norm": ["linf", "l2", "mahalanobis"],
        "estimator__neuralinverseregressor__hidden_layer_sizes": [2, 12],
    }
    scorer = SingularDistanceScorer("neg_residual")
    search = RandomizedSearchCV(
        model, space, n_iter=5, cv=2, scoring=scorer, random_state=0, error_score="raise"
    ).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) > 1
    assert search.best_score_ == scores.max()
    best = clone(model).set_params(**search.best_params_).fit(X)
    np.testing.assert_array_equal(search.predict(X), best.predict(X))
    inner = search.best_estimator_.set_params(max_refine=8, fallback="exact")
    assert_proven(inner, X, 1e-6)


def test_nested_cross_validation(box):
    """A search inside cross-validation, and inside a certificate."""
    X, _ = box
    search = GridSearchCV(LinearInverseApprox(), {"order": [1, 2]}, cv=2)
    np.testing.assert_allclose(
        cross_val_score(search, X, cv=2), cross_val_score(LinearInverseApprox(order=2), X, cv=2)
    )
    model = CertifiedInverse(search).fit(X)
    assert model.estimator_.best_params_ == {"order": 2}
    assert_proven(model, X, 1e-6)


# -- scikit-learn: composition ---------------------------------------------------------------------


def test_transformed_targets(general, box, trace):
    """A target is transformed before the fit, and predictions back; so are inverses, scaled."""
    X, Y = box
    model = TransformedTargetRegressor(general, func=np.log, inverse_func=np.exp).fit(X, trace)
    np.testing.assert_allclose(
        model.predict(X), np.exp(clone(general).fit(X, np.log(trace)).predict(X))
    )
    scaler = StandardScaler().fit(Y)
    model = TransformedTargetRegressor(general, transformer=StandardScaler()).fit(X, Y)
    scaled = clone(general).fit(X, scaler.transform(Y))
    np.testing.assert_allclose(model.predict(X), scaler.inverse_transform(scaled.predict(X)))


@pytest.mark.parametrize("name", ["taylor", "certified"])
def test_transformed_targets_of_what_knows_inverses_only(name, box):
    """Scaled inverses are no inverses: a series of the inverse, and a proof, refuse them."""
    model = TransformedTargetRegressor(clone(REGRESSORS[name]), transformer=StandardScaler())
    with pytest.raises(ValueError, match=r"not the inverses of the matrices.*leave y out"):
        model.fit(*box)


def test_voting_and_stacking(general, box, trace):
    """An average of models is that of their predictions; a stack learns from out-of-fold ones."""
    X = box[0]
    voting = VotingRegressor([("ours", general), ("ridge", Ridge())], weights=[3, 1]).fit(X, trace)
    parts = [clone(model).fit(X, trace).predict(X) for model in (general, Ridge())]
    np.testing.assert_allclose(voting.predict(X), np.average(parts, axis=0, weights=[3, 1]))

    stacking = StackingRegressor(
        [("ours", general), ("ridge", Ridge())], LinearRegression(), cv=KFold(3)
    ).fit(X, trace)
    folds = [cross_val_predict(clone(model), X, trace, cv=KFold(3)) for model in (general, Ridge())]
    final = LinearRegression().fit(np.transpose(folds), trace)
    np.testing.assert_allclose(stacking.predict(X), final.predict(np.transpose(parts)))
    on_top = StackingRegressor([("ridge", Ridge())], general, cv=3, passthrough=True)
    assert on_top.fit(X, trace).score(X, trace) > 0.8


def test_bagging(regressor, box):
    """Bagged regressors of inverses average inverses."""
    X, Y = box
    bag = BaggingRegressor(regressor, n_estimators=3, max_samples=0.5, random_state=0).fit(X, Y)
    parts = [model.predict(X) for model in bag.estimators_]
    assert not np.allclose(parts[0], parts[1], rtol=1e-12, atol=0)
    np.testing.assert_allclose(bag.predict(X), np.mean(parts, axis=0))


def test_frozen_steps_stay(box, center):
    """A frozen region, or model, is left alone by the pipeline, the search and the certificate."""
    X, Y = box
    region = FeasibleRegionSampler(center, 0.2, on_infeasible="project").fit()
    model = make_pipeline(FrozenEstimator(region), clone(LSTSQ)).fit(X)
    inside = np.clip(X, center.ravel() - 0.2, center.ravel() + 0.2)
    np.testing.assert_allclose(model[0].transform(X), inside)
    frozen = FrozenEstimator(LinearInverseApprox(center, order=2).fit())
    expected = frozen.predict(X)
    np.testing.assert_array_equal(clone(frozen).fit(X[:9], Y[:9]).predict(X), expected)
    search = GridSearchCV(CertifiedInverse(frozen), {"tol": [1e-3, 1e-9]}, cv=2).fit(X[:9])
    inner = search.best_estimator_.estimator_
    np.testing.assert_array_equal(inner.predict(X), expected)
    assert_proven(search.best_estimator_, X, search.best_params_["tol"])


def test_columns_and_features_are_put_together(box, trace):
    """Columns in another order are picked by name; the depth in the region makes a feature."""
    X = box[0]
    names = ["a11", "a12", "a21", "a22"]
    frame = pd.DataFrame(X, columns=names).assign(load=1.0)[["load", "a22", "a21", "a12", "a11"]]
    pick = ColumnTransformer([("matrix", "passthrough", names)])
    model = make_pipeline(pick, CertifiedInverse(clone(NETWORK))).fit(frame)
    np.testing.assert_allclose(
        model.predict(frame), CertifiedInverse(clone(NETWORK)).fit(X).predict(X)
    )

    region = FeasibleRegionSampler(CENTER, 0.6).fit()
    depth = FunctionTransformer(lambda X: region.decision_function(X)[:, None])
    union = FeatureUnion([("matrix", FeasibleRegionSampler(CENTER, 0.6)), ("depth", depth)])
    model = make_pipeline(union, clone(LSTSQ)).fit(X, trace)
    features = np.column_stack([X, region.decision_function(X)])
    np.testing.assert_allclose(
        model.predict(X), LinearRegression().fit(features, trace).predict(features)
    )


@pytest.mark.parametrize(
    ("library", "container"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
def test_output_of_transformers(library, container, regressor, box):
    """transform_output makes data frames between the steps; predictions are the same."""
    X = box[0]
    names = [f"a{i}" for i in range(4)]
    frame = container(dict(zip(names, X.T, strict=True)))
    model = make_pipeline(FeasibleRegionSampler(CENTER, 0.6), regressor)
    expected = clone(model).fit(X).predict(X)
    with sklearn.config_context(transform_output=library):
        out = model.fit(frame)[0].transform(frame)
        assert type(out) is container
        assert list(out.columns) == names
        np.testing.assert_allclose(model.predict(frame), expected, rtol=1e-10)
        assert list(model[-1].feature_names_in_) == names
        scores = cross_val_score(
            model, frame, cv=2, scoring=SingularDistanceScorer(min_distance=0.8)
        )
    expected = cross_val_score(model, X, cv=2, scoring=SingularDistanceScorer(min_distance=0.8))
    # Of what is certified the error is some share of tol: what rounding made of a network, squared.
    np.testing.assert_allclose(scores, expected, atol=1e-8)


@pytest.mark.parametrize("dtype", ["Float64", "float64[pyarrow]"])
def test_extension_types_of_pandas(dtype, regressor, box):
    """Nullable and Arrow columns are numbers, and what is missing is NaN."""
    frame = pd.DataFrame(box[0], columns=list("abcd")).astype(dtype)
    model = regressor.fit(frame)
    np.testing.assert_allclose(model.predict(frame), clone(regressor).fit(box[0]).predict(box[0]))
    frame.loc[3, "b"] = pd.NA
    missing = np.isnan(model.predict(frame)).all(axis=1)
    np.testing.assert_array_equal(missing, np.arange(400) == 3)


# joblib looks at the clock while it writes.
@pytest.mark.filterwarnings("ignore:Persisting input arguments took:UserWarning")
def test_cached_pipeline(box, tmp_path):
    """With memory= a region is fitted once, and comes back from the cache to the bit."""
    X = box[0]
    memory = Memory(tmp_path, verbose=0)
    grid = {"neuralinverseregressor__activation": ["silu", "tanh", "relu"]}
    steps = FeasibleRegionSampler(on_infeasible="project", random_state=0), clone(NETWORK)
    plain, cached = (
        GridSearchCV(make_pipeline(*steps, memory=m), grid, cv=2).fit(X) for m in (None, memory)
    )
    np.testing.assert_array_equal(
        cached.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(cached.predict(X), plain.predict(X))
    # Two folds and the refit, of nine fits and one.
    assert len(list(tmp_path.rglob("output.pkl"))) == 3
    again = make_pipeline(*steps, memory=memory).fit(X)
    assert len(list(tmp_path.rglob("output.pkl"))) == 3
    np.testing.assert_array_equal(
        again[0].sample(5)[0], FeasibleRegionSampler(random_state=0).fit(X).sample(5)[0]
    )


def test_parameters_through_nesting(box):
    """get_params reaches every level, set_params changes only there, and clones share nothing."""
    model = CertifiedInverse(
        make_imblearn_pipeline(
            clone(REGION), GridSearchCV(clone(NETWORK), {"activation": ["silu"]}, cv=2)
        )
    )
    deep = "estimator__gridsearchcv__estimator__hidden_layer_sizes"
    params = model.get_params()
    assert params[deep] == 8
    assert params["estimator__feasibleregionsampler__min_distance"] == 0.1
    other = clone(model).set_params(
        **{deep: 3, "estimator__feasibleregionsampler__radius": 0.4, "tol": 1e-9}
    )
    assert model.get_params()[deep] == 8
    assert model.estimator[0].radius == 0.5
    inner = other.fit(box[0]).estimator_
    assert inner[-1].best_estimator_.coefs_[0].shape == (4, 3)
    assert inner[0].radius_ == 0.4
    assert_proven(other, box[0], 1e-9)
    assert not model.__sklearn_is_fitted__()
    with pytest.raises(ValueError, match="Invalid parameter 'width'"):
        model.set_params(estimator__gridsearchcv__estimator__width=1)


# -- torch, skorch, onnxruntime --------------------------------------------------------------------


def test_batches_of_a_loader(regressor, box):
    """Tensors that a DataLoader hands out are predicted as the whole, and stay tensors."""
    X = torch.tensor(box[0])
    model = regressor.fit(X)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X), batch_size=64)
    batches = [model.predict(batch) for (batch,) in loader]
    assert all(isinstance(batch, torch.Tensor) for batch in batches)
    torch.testing.assert_close(torch.cat(batches), torch.as_tensor(model.predict(box[0])))


def test_training_from_a_loader(box):
    """partial_fit takes the batches of a loader, inverses included, as it takes arrays."""
    X, Y = box
    pairs = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    streamed, plain = clone(NETWORK), clone(NETWORK)
    for x, y in torch.utils.data.DataLoader(pairs, batch_size=100):
        streamed.partial_fit(x, y)
        plain.partial_fit(x.numpy(), y.numpy())
    np.testing.assert_array_equal(streamed.predict(X), plain.predict(X))
    assert streamed.n_iter_ == 4


@pytest.mark.parametrize("convert", CONTAINERS)
def test_containers_in_searches(regressor, convert, box):
    """Folds of stacks score as folds of rows do, of tensors too, and tensors stay tensors."""
    A, B = (convert(array.reshape(-1, 2, 2)) for array in box)
    for scoring in (None, SingularDistanceScorer(min_distance=0.8)):
        expected = cross_val_score(regressor, *box, cv=3, scoring=scoring)
        for y in (B, None):
            scores = cross_val_score(regressor, A, y, cv=3, scoring=scoring)
            np.testing.assert_allclose(scores, expected, rtol=1e-9)
    search = GridSearchCV(regressor, {}, cv=3).fit(A, B)
    assert type(search.predict(A)) is type(A)


@pytest.mark.parametrize("name", ["region", "lstsq", "pipeline", "certified"])
def test_bfloat16(name, box):
    """Half precision that NumPy does not know is read exactly, and answered in a tensor."""
    models = {
        "region": FeasibleRegionSampler(),
        "lstsq": clone(LSTSQ),
        "pipeline": make_pipeline(FeasibleRegionSampler(on_infeasible="project"), clone(NETWORK)),
        "certified": CertifiedInverse(
            make_pipeline(FeasibleRegionSampler(on_infeasible="project"), clone(LSTSQ)), tol=0.01
        ),
    }
    A = torch.tensor(box[0]).view(-1, 2, 2).bfloat16()
    exact = A.double()
    model, same = models[name].fit(A), clone(models[name]).fit(exact.numpy())
    method = "transform" if name == "region" else "predict"
    out, expected = getattr(model, method)(A), getattr(same, method)(exact.numpy())
    assert isinstance(out, torch.Tensor)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(out.double().numpy(), expected, atol=0.01 * scale)
    if name == "region":
        assert (out.double() == exact).all()


class Perceptron(torch.nn.Module):
    """A user's own module."""

    def __init__(self, width=16):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, width), torch.nn.Tanh(), torch.nn.Linear(width, 4)
        )

    def forward(self, X):
        return self.layers(X)


def as_float32(X):
    return np.asarray(X, dtype=np.float32)


@pytest.fixture
def net():
    """A skorch net of single precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield skorch.NeuralNetRegressor(
            Perceptron, max_epochs=30, lr=0.02, optimizer=torch.optim.Adam, verbose=0,
            iterator_train__shuffle=True,
        )  # fmt: skip


def test_skorch_net_under_a_certificate(net, box):
    """A skorch net guesses in single precision; what is proven is double."""
    X, _ = box
    single = TransformedTargetRegressor(net, func=as_float32, inverse_func=as_float32)
    model = CertifiedInverse(make_pipeline(FunctionTransformer(as_float32), single), tol=1e-10)
    model.fit(X)
    assert_proven(model, X, 1e-10)
    assert (model.report(X).status == "refined").mean() > 0.9
    fitted = model.estimator_[-1].regressor_
    for name in ("fitted", "frozen"):
        wrapped = CertifiedInverse(
            fitted if name == "fitted" else FrozenEstimator(fitted), tol=1e-4
        )
        tensor = torch.tensor(X, dtype=torch.float32)
        out, bound = wrapped.predict(tensor, return_bound=True)
        assert isinstance(out, torch.Tensor)
        assert (bound <= 1e-4).all()
        assert_proven(wrapped, as_float32(X), 1e-4)
        x = wrapped.solve(as_float32(X), np.ones((400, 2), dtype=np.float32))
        exact = np.linalg.solve(as_float32(X).astype(float).reshape(-1, 2, 2), np.ones((400, 2, 1)))
        np.testing.assert_allclose(x, exact[:, :, 0], rtol=1e-3)


class Recorder(Ridge):
    """A regressor of another library, which remembers what it was given."""

    def fit(self, X, y):
        self.dtypes_ = (X.dtype, y.dtype)
        return super().fit(X, y)


@every_dtype
def test_precision_of_the_targets(dtype, box):
    """Foreign regressors get targets as precise as the matrices; ours get all digits there are."""
    X = box[0].astype(dtype)
    for y in (None, box[1]):
        foreign = CertifiedInverse(
            make_pipeline(FeasibleRegionSampler(on_infeasible="project"), Recorder())
        ).fit(X, y)
        assert foreign.estimator_[-1].dtypes_ == (dtype, dtype)
        plain = CertifiedInverse(clone(LSTSQ)).fit(X, y)
        search = CertifiedInverse(GridSearchCV(clone(LSTSQ), {}, cv=2)).fit(X, y)
        exact = clone(LSTSQ).fit(X, y).coef_
        np.testing.assert_array_equal(plain.estimator_.coef_, exact)
        np.testing.assert_array_equal(search.estimator_.best_estimator_.coef_, exact)


def test_unknown_number_of_features(net, box):
    """Around a foreign regressor that is fitted, and says nothing of sizes, shapes are checked."""
    model = CertifiedInverse(net.fit(as_float32(box[0]), as_float32(box[1])))
    assert not hasattr(net, "n_features_in_")
    with pytest.raises(ValueError, match="rows of 5 entries"):
        model.predict(torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"tensor of shape \(4,\)"):
        model.predict(torch.ones(4))


def test_search_over_a_skorch_net(net, box):
    """Parameters of the module are searched through the certificate."""
    X, Y = (as_float32(array) for array in box)
    model = CertifiedInverse(net, max_refine=0, fallback="keep")
    search = GridSearchCV(
        model, {"estimator__module__width": [1, 16]}, cv=2, error_score="raise",
        scoring=SingularDistanceScorer(),
    )  # fmt: skip
    for targets in (Y, None):
        search.fit(X, targets)
        assert search.best_params_ == {"estimator__module__width": 16}
    assert search.best_estimator_.estimator_.module_.layers[0].out_features == 16


def test_onnxruntime_and_predict(box, tmp_path):
    """A search's best certified pipeline as a file: predict's inverses, and residuals to trust.

    Singular, far and non-finite matrices among others: small residuals, and only they, are right.
    """
    X = box[0].astype(np.float32)
    X[:4] = [[1, 1, 1, 1], [0, 0, 0, 0], [50, 0, 0, 50], [np.nan, 1, 1, 2]]
    search = GridSearchCV(CertifiedInverse(clone(NETWORK)), {"estimator__activation": ["silu"]})
    search.fit(box[0])
    path = to_onnx(search, tmp_path / "model.onnx", n_refine=3)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inverse, residual = session.run(None, {"X": X})
    trusted = residual < 1e-4
    np.testing.assert_array_equal(trusted, np.arange(400) >= 4)
    expected, bound = search.best_estimator_.predict(X, return_bound=True)
    assert (bound[4:] <= 1e-6).all()
    np.testing.assert_allclose(inverse[trusted], expected[trusted], atol=2e-6)
    exact = np.linalg.inv(X[trusted].astype(float).reshape(-1, 2, 2)).reshape(-1, 4)
    errors = np.linalg.norm(inverse[trusted] - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert (errors <= residual[trusted] + 1e-5).all()


def test_dask_through_a_search(box):
    """Blocks of a dask array go through a search, a certificate and a pipeline, when computed."""
    X = box[0]
    model = CertifiedInverse(
        make_pipeline(FeasibleRegionSampler(on_infeasible="project"), clone(NETWORK))
    )
    search = GridSearchCV(model, {"tol": [1e-9]}, cv=2).fit(X)
    lazy = search.predict(da.from_array(X, chunks=(150, 4)))
    assert isinstance(lazy, da.Array)
    np.testing.assert_allclose(lazy.compute(), search.predict(X), rtol=1e-12)
