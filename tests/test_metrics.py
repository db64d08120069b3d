"""Errors per matrix, and the scorer that leaves out what is too near to singular."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.metrics import mean_absolute_error, mean_squared_error
from sklearn.model_selection import GridSearchCV, cross_val_score

from skinv import LinearInverseApprox, SingularDistanceScorer
from skinv.metrics import absolute_errors, relative_errors, residual_norms

METRICS = [
    "neg_mean_absolute_error",
    "neg_root_mean_squared_error",
    "neg_max_error",
    "neg_relative_error",
    "neg_residual",
]


@pytest.fixture
def scattered():
    """500 random 2×2 matrices, some near singular ones, their inverses and smallest σ."""
    A = np.random.RandomState(3).uniform(-1, 1, (500, 2, 2)) + np.eye(2)
    return A.reshape(500, 4), np.linalg.inv(A).reshape(500, 4), np.linalg.svd(A)[1][:, -1]


# Some of them are too far from the centre for the series, which says so.
diverging = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Wrong:
    """Predicts exact inverses times 1.1."""

    def predict(self, X):
        return 1.1 * np.linalg.inv(np.reshape(X, (-1, 2, 2))).reshape(len(X), -1)


def test_errors_against_naive_formulas(scattered):
    """The errors per matrix are what a loop over matrices computes."""
    X, Y = (rows.reshape(-1, 2, 2) for rows in scattered[:2])
    Y_pred = Y + 0.1 * np.random.RandomState(0).standard_normal(Y.shape)
    for k in range(0, 500, 50):
        A, B, P = X[k], Y[k], Y_pred[k]
        assert absolute_errors(Y, Y_pred)[k] == pytest.approx(np.abs(P - B).sum() / 4)
        relative = np.linalg.norm(P - B) / np.linalg.norm(B)
        assert relative_errors(Y, Y_pred)[k] == pytest.approx(relative)
        assert residual_norms(X, Y_pred)[k] == pytest.approx(np.linalg.norm(np.eye(2) - A @ P))
        assert residual_norms(A, P) == residual_norms(X, Y_pred)[k]
    of_blocks = residual_norms(X.reshape(5, -1, 2, 2), Y_pred.reshape(5, -1, 2, 2))
    np.testing.assert_array_equal(of_blocks, residual_norms(X, Y_pred).reshape(5, -1))
    with pytest.raises(ValueError, match=r"X.reshape\(-1, 2, 2\)"):
        absolute_errors(Y.reshape(-1, 4), Y_pred.reshape(-1, 4))
    with pytest.raises(ValueError, match="do not match"):
        absolute_errors(Y, Y_pred[:3])


def test_errors_of_complex_matrices():
    """They are those of complex numbers: magnitudes, not real and imaginary parts."""
    rng = np.random.default_rng(0)
    A, E = (rng.standard_normal((2, 5, 3, 3, 2)) @ [1, 1j])[:, None]
    Y = np.linalg.inv(A)
    P = Y + 0.1 * E
    np.testing.assert_allclose(absolute_errors(Y, P), np.abs(P - Y).mean(axis=(-1, -2)))
    norms = [np.linalg.norm(M, axis=(-1, -2)) for M in (P - Y, Y, np.eye(3) - A @ P)]
    np.testing.assert_allclose(relative_errors(Y, P), norms[0] / norms[1])
    np.testing.assert_allclose(residual_norms(A, P), norms[2])
    assert residual_norms(A, P).shape == (1, 5)


@diverging
def test_scores_agree_with_scikit_learn(scattered):
    """Where nothing is left out, the plain metrics are scikit-learn's."""
    X, Y, distance = scattered
    keep = distance > 0.2
    X, Y = X[keep], Y[keep]
    model = LinearInverseApprox().fit(X)
    predicted = model.predict(X)
    assert SingularDistanceScorer()(model, X) == pytest.approx(-mean_absolute_error(Y, predicted))
    root = SingularDistanceScorer("neg_root_mean_squared_error")(model, X)
    assert root == pytest.approx(-np.sqrt(mean_squared_error(Y, predicted)))


@pytest.mark.parametrize("metric", METRICS)
def test_near_matrices_are_left_out(scattered, metric):
    """The score is that of the matrices at least min_distance away, and of no others."""
    X, Y, distance = scattered
    kept = distance >= 0.3
    scorer = SingularDistanceScorer(metric, min_distance=0.3)
    assert scorer(Wrong(), X) == pytest.approx(SingularDistanceScorer(metric)(Wrong(), X[kept]))
    assert scorer(Wrong(), X, Y) == pytest.approx(scorer(Wrong(), X))
    assert scorer(Wrong(), X) < 0
    if metric in ("neg_relative_error", "neg_residual"):
        norm = 0.1 * (np.sqrt(2) if metric == "neg_residual" else 1)
        assert scorer(Wrong(), X) == pytest.approx(-norm)


def test_weighting(scattered):
    """Weights are the distances, or their inverses, times the sample weights."""
    X, Y, distance = scattered
    inverse = Y.reshape(-1, 2, 2)
    error = absolute_errors(inverse, 1.1 * inverse)
    for weighting, weight in (
        (None, np.ones(500)),
        ("distance", distance),
        ("inverse_distance", 1 / distance),
    ):
        scorer = SingularDistanceScorer(weighting=weighting)
        assert scorer(Wrong(), X) == pytest.approx(-np.average(error, weights=weight))
        extra = np.random.RandomState(0).uniform(size=500)
        expected = -np.average(error, weights=weight * extra)
        assert scorer(Wrong(), X, sample_weight=extra) == pytest.approx(expected)


def test_singular_matrices_do_not_spoil_the_score(scattered):
    """A singular matrix has no error; it is left out, also at min_distance=0."""
    X, _, _ = scattered
    spoilt = np.vstack([X, np.ones((1, 4)), np.zeros((1, 4)), [[1.0, 1.0, 1.0, 1.0 + 1e-17]]])

    class Careful(Wrong):
        def predict(self, X):
            assert len(X) == 500
            return super().predict(X)

    assert SingularDistanceScorer()(Careful(), spoilt) == SingularDistanceScorer()(Wrong(), X)
    with pytest.raises(ValueError, match="None of the 1 matrices"):
        SingularDistanceScorer()(Wrong(), np.ones((1, 4)))


def test_norms_differ(scattered):
    """In l1 distances are larger than in l2, in linf smaller, so less or more is left out."""
    X, _, _ = scattered
    left = {
        norm: SingularDistanceScorer(norm=norm, min_distance=0.4).profile(Wrong(), X).n_left_out
        for norm in ("l1", "l2", "linf")
    }
    assert left["l1"] < left["l2"] < left["linf"]


def test_profile(scattered):
    """Bins ascend, hold everything once, and their errors average to the score."""
    X, Y, distance = scattered
    scorer = SingularDistanceScorer(min_distance=0.1)
    profile = scorer.profile(Wrong(), X, n_bins=7)
    assert profile.count.sum() + profile.n_left_out == 500
    assert profile.n_left_out == (distance < 0.1).sum()
    assert (np.diff(profile.edges) > 0).all()
    assert (np.diff(profile.distance) > 0).all()
    assert profile.error[0] > profile.error[-1]  # the inverse is largest near singular matrices
    assert -np.average(profile.error, weights=profile.count) == pytest.approx(scorer(Wrong(), X))
    assert (profile.error_max >= profile.error).all()
    squared = SingularDistanceScorer("neg_root_mean_squared_error").profile(Wrong(), X, n_bins=1)
    root = np.sqrt(mean_squared_error(Y, 1.1 * Y))
    assert squared.error[0] == pytest.approx(root)
    with pytest.raises(ValueError, match="n_bins=501"):
        scorer.profile(Wrong(), X, n_bins=501)


def test_callable_metric(scattered):
    """A function of rows that returns an error per matrix is a metric too."""
    X, _, _ = scattered
    scorer = SingularDistanceScorer(lambda X, Y, Y_pred: np.abs(Y - Y_pred)[:, 0])
    expected = -np.abs(0.1 * np.linalg.inv(X.reshape(-1, 2, 2))[:, 0, 0]).mean()
    assert scorer(Wrong(), X) == pytest.approx(expected)


@diverging
def test_scorer_is_an_object_of_scikit_learn(scattered):
    """It clones, pickles, and scores in cross-validation and grid search."""
    X, _, _ = scattered
    scorer = SingularDistanceScorer("neg_relative_error", min_distance=0.2, weighting="distance")
    assert clone(scorer).get_params() == scorer.get_params()
    assert pickle.loads(pickle.dumps(scorer)).get_params() == scorer.get_params()
    scores = cross_val_score(LinearInverseApprox(), X, scoring=scorer, cv=3)
    assert (scores < 0).all()
    search = GridSearchCV(LinearInverseApprox(), {"order": [1, 2, 3]}, scoring=scorer, cv=3).fit(X)
    assert search.best_params_["order"] in (1, 2, 3)


def test_any_regressor_can_be_scored(scattered):
    """Scikit-learn's own regressors of inverses are scored alike."""
    X, Y, _ = scattered
    dummy = DummyRegressor().fit(X, Y)
    assert SingularDistanceScorer(min_distance=0.3)(dummy, X) < 0
