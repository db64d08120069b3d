"""At home in scikit-learn: pipelines, searches, routing, data frames, imbalanced-learn."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinv import (
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    SingularDistanceScorer,
)

REGRESSORS = {
    "taylor": LinearInverseApprox(),
    "lstsq": LinearInverseApprox(method="lstsq"),
    "neural": NeuralInverseRegressor(max_iter=5, random_state=0),
    "polynomial": PolynomialInverseApprox(),
}


@pytest.fixture(params=REGRESSORS)
def regressor(request):
    return clone(REGRESSORS[request.param])


@pytest.mark.parametrize("shape", [(400, 4), (400, 2, 2)])
def test_targets_are_optional_everywhere(regressor, box, shape):
    """fit, score, cross_val_score, cross_val_predict and a grid search work without targets."""
    X = box[0].reshape(shape)
    assert regressor.fit(X).score(X) > 0.5
    assert regressor.predict(X).shape == X.shape
    assert (cross_val_score(regressor, X, cv=3) > 0.5).all()
    search = GridSearchCV(make_pipeline(regressor), {}, cv=3).fit(X)
    assert search.best_score_ > 0.5
    assert search.score(X) > 0.5


def test_cross_val_predict(regressor, box):
    """Out-of-fold predictions come back in the layout of the targets."""
    X, Y = box
    assert cross_val_predict(regressor, X, Y, cv=3).shape == Y.shape


def test_pipeline_of_region_and_network(box):
    """Far-away matrices are projected into the region before the network sees them."""
    X, Y = box
    pipeline = make_pipeline(
        FeasibleRegionSampler(random_state=0), NeuralInverseRegressor(max_iter=20, random_state=0)
    ).fit(X)
    assert np.abs(pipeline.predict(X) - Y).mean() < 0.02
    far = X[:5] + 100.0
    sampler = pipeline[0]
    np.testing.assert_array_equal(
        pipeline.predict(far), pipeline[1].predict(sampler.transform(far))
    )


@pytest.mark.exhaustive
def test_grid_search_in_parallel_equals_serial(box):
    """Two processes find the scores of one, to the bit."""
    X, _ = box
    pipeline = make_pipeline(
        FeasibleRegionSampler(on_infeasible="project", random_state=0),
        NeuralInverseRegressor(max_iter=3, random_state=0, device="cpu"),
    )
    grid = {
        "neuralinverseregressor__activation": ["relu", "silu"],
        "feasibleregionsampler__norm": ["linf", "mahalanobis"],
    }
    scorer = SingularDistanceScorer("neg_relative_error", min_distance=0.3)
    runs = [
        GridSearchCV(clone(pipeline), grid, scoring=scorer, cv=2, n_jobs=n_jobs).fit(X)
        for n_jobs in (1, 2)
    ]
    serial, parallel = (run.cv_results_["mean_test_score"] for run in runs)
    assert np.isfinite(serial).all()
    np.testing.assert_array_equal(serial, parallel)
    assert len(set(serial)) > 1
    assert runs[0].best_params_ == runs[1].best_params_


def test_imbalanced_learn_pipeline(box):
    """fit_resample drops what is infeasible while fitting, and predicts everything."""
    X, Y = box
    spoilt = np.vstack([X, [[1.0, 1.0, 1.0, 1.0], [9.0, 1.0, 1.0, 9.0]]])
    targets = np.vstack([Y, np.full((1, 4), 1e13), [[0.1, 0.0, 0.0, 0.1]]])
    sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, min_distance=0.1, on_infeasible="drop")
    model = REGRESSORS["lstsq"]
    pipeline = make_imblearn_pipeline(sampler, clone(model)).fit(spoilt, targets)
    np.testing.assert_allclose(pipeline.predict(X), clone(model).fit(X, Y).predict(X))
    assert pipeline.predict(spoilt).shape == spoilt.shape


def test_data_frames(box, regressor):
    """Feature names are remembered and checked, and set_output names the columns."""
    X = pd.DataFrame(box[0], columns=["a11", "a12", "a21", "a22"])
    regressor.fit(X)
    assert list(regressor.feature_names_in_) == list(X.columns)
    with pytest.raises(ValueError, match="feature names"):
        regressor.predict(X[["a12", "a11", "a21", "a22"]])
    sampler = FeasibleRegionSampler().set_output(transform="pandas").fit(X)
    out = sampler.transform(X)
    pd.testing.assert_frame_equal(out, X)
    kept, targets = FeasibleRegionSampler().fit_resample(X, X)
    pd.testing.assert_frame_equal(kept, X)
    pd.testing.assert_frame_equal(targets, X)


def test_sample_weight_is_routed(box):
    """With metadata routing sample weights reach fit, score and the scorer through a pipeline."""
    X, Y = box
    weight = np.r_[np.ones(200), np.zeros(200)]
    with sklearn.config_context(enable_metadata_routing=True):
        model = LinearInverseApprox(method="lstsq")
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(FeasibleRegionSampler(), model)
        pipeline.fit(X, Y, sample_weight=weight)
        np.testing.assert_allclose(
            pipeline.predict(X),
            LinearInverseApprox(method="lstsq").fit(X[:200], Y[:200]).predict(X),
        )
        halves = pipeline.score(X, Y, sample_weight=weight)
        assert halves == pytest.approx(pipeline.score(X[:200], Y[:200]))

        # The scorer weights by itself: with a model that takes no weights.
        scorer = SingularDistanceScorer().set_score_request(sample_weight=True)
        plain = LinearInverseApprox(method="lstsq")
        plain.set_fit_request(sample_weight=False)
        search = GridSearchCV(plain, {}, scoring=scorer, cv=[(np.arange(400), np.arange(400))])
        weighted = search.fit(X, Y, sample_weight=weight).best_score_
        fitted = LinearInverseApprox(method="lstsq").fit(X, Y)
        assert weighted == pytest.approx(SingularDistanceScorer()(fitted, X[:200]))
        assert weighted != pytest.approx(SingularDistanceScorer()(fitted, X))

        scorer = SingularDistanceScorer().set_score_request(sample_weight=True)
        scores = [
            cross_val_score(
                model, X, Y, scoring=scorer, cv=2, params={"sample_weight": w}
            )
            for w in (np.ones(400), np.linspace(0.1, 2, 400))
        ]  # fmt: skip
        assert not np.allclose(*scores)


def test_other_estimators_compose(box):
    """A scaler before the network, and a meta-estimator around it, are nothing special."""
    X, Y = box
    network = NeuralInverseRegressor(hidden_layer_sizes=8, max_iter=5, random_state=0)
    assert make_pipeline(StandardScaler(), network).fit(X, Y).score(X, Y) > 0.8
    assert MultiOutputRegressor(network).fit(X, Y[:, :2]).predict(X).shape == (400, 2)


def test_tall_and_thin_inputs(box):
    """The general regressor takes features whose number is no square."""
    X = box[0][:, :3]
    for model in (REGRESSORS["lstsq"], REGRESSORS["neural"]):
        assert clone(model).fit(X, X**2).predict(X).shape == X.shape
    with pytest.raises(ValueError, match="3 entries"):
        clone(REGRESSORS["neural"]).fit(X)
