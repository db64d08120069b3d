"""No silent wrong answer: what is not proven is NaN or marked, and one bad row spoils no batch."""

import warnings

import dask.array
import numpy as np
import pandas
import pytest
import torch
from backends import every_dtype
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import skinv
from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    SingularDistanceScorer,
    StructuredInverse,
    bounds,
    metrics,
    refinement,
    structures,
)
from skinv.export import to_module
from skinv.matrices import AmbiguousShapeWarning

CENTER = 3 * np.eye(3)
MATRICES = CENTER + 0.2 * np.random.RandomState(0).standard_normal((210, 3, 3))
TRAINING, STREAM = MATRICES[:200], MATRICES[200:].copy()
STREAM[6] *= 5  # far outside
STREAM[1, 0, 0] = np.nan
REGION = FeasibleRegionSampler(norm="mahalanobis")


def relative(inverse, A):
    true = np.linalg.inv(A)
    size = np.linalg.norm(true, axis=(1, 2))
    return np.linalg.norm(np.asarray(inverse).reshape(A.shape) - true, axis=(1, 2)) / size


# -- regions before regressors ---------------------------------------------------------------------


def test_rows_outside_a_region_are_answered_by_nan():
    """In the pipeline, and only they."""
    model = make_pipeline(REGION, LinearInverseApprox()).fit(TRAINING)
    P = model.predict(STREAM)
    assert np.isnan(P[[1, 6]]).all()
    rest = [0, 2, 3, 4, 5, 7, 8, 9]
    assert np.isfinite(P[rest]).all()
    np.testing.assert_array_equal(P[rest], model.predict(STREAM[rest]))


def test_proofs_are_for_the_matrices_that_were_given():
    """A region that leaves rows out, or moves or refuses them, proves the inverse of no other."""
    for action in ("nan", "project", "raise"):
        region = clone(REGION).set_params(on_infeasible=action)
        inside = CertifiedInverse(make_pipeline(region, LinearInverseApprox()), tol=1e-9)
        report = inside.fit(TRAINING).report(STREAM)
        assert list(report.status[[1, 6]]) == ["not finite", "exact"]
        finite = np.arange(10) != 1
        assert relative(report.inverse[finite], STREAM[finite]).max() <= 1e-9
        x, bound = inside.solve(STREAM, np.ones((10, 3)), return_bound=True)
        assert bound[1] == np.inf
        assert np.abs(np.einsum("kij,kj->ki", STREAM, x)[finite] - 1).max() < 1e-7


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["arrays", "tensors"])
def test_certificates_refuse_what_was_projected(kind):
    """Right after a projecting step, or two; whoever means the projected matrices passes a copy."""
    region = clone(REGION).set_params(on_infeasible="project")
    certified = CertifiedInverse(LinearInverseApprox(), tol=1e-9)
    A = np.concatenate([2 * TRAINING[:3], TRAINING[3:6]])
    A[5, 0, 0] = np.nan
    for steps in ((region, certified), (region, clone(region), certified)):
        pipe = make_pipeline(*map(clone, steps)).fit(TRAINING)
        P = np.array(pipe.predict(kind(A)).tolist())
        assert np.isnan(P[[0, 1, 2, 5]]).all()
        assert relative(P[3:5], A[3:5]).max() <= 1e-9
        moved = pipe[:-1].transform(kind(A))
        report = pipe[-1].report(moved)
        assert report.status.tolist() == 3 * ["projected"] + 2 * ["refined"] + ["not finite"]
        assert np.array_equal(np.asarray(report.bound) == np.inf, [1, 1, 1, 0, 0, 1])
        x, bound = pipe[-1].solve(moved, np.ones((6, 3)), return_bound=True)
        assert (np.asarray(bound)[[0, 1, 2, 5]] == np.inf).all()
        assert np.isnan(np.asarray(x)[[0, 1, 2, 5]]).all()
        plain = np.array(moved.tolist())[:5]
        assert relative(pipe[-1].predict(plain), plain).max() <= 1e-9
        strict = clone(certified).set_params(fallback="raise").fit(TRAINING)
        with pytest.raises(ValueError, match=r"rows \[0, 1, 2, 5\] \(4 of 6\)"):
            strict.predict(moved)
        # Written over, they are matrices like others, for which there are proofs.
        moved[:] = kind(np.tile(2 * CENTER, (6, 1, 1)))
        inverse = pipe[-1].predict(moved)
        assert relative(np.array(inverse.tolist()), np.tile(2 * CENTER, (6, 1, 1))).max() <= 1e-9


def test_frames_and_blocks_do_not_remember():
    """There a warning says that rows were moved."""
    region = clone(REGION).set_params(on_infeasible="project").fit(TRAINING)
    far = 2 * TRAINING[:3].reshape(3, 9)
    with pytest.warns(UserWarning, match="3 matrices were moved"):
        clone(region).set_output(transform="pandas").fit(TRAINING).transform(far)
    with pytest.warns(UserWarning, match="3 matrices were moved"):
        region.transform(dask.array.from_array(far, chunks=(3, 9))).compute(scheduler="sync")


@pytest.mark.parametrize(
    "model",
    [
        LinearInverseApprox(),
        LinearInverseApprox(method="lstsq"),
        NeuralInverseRegressor(4, max_iter=1, random_state=0),
        PolynomialInverseApprox(),
        CertifiedInverse(LinearInverseApprox()),
        CertifiedInverse(Ridge()),
    ],
    ids=["series", "affine", "network", "polynomial", "certified", "certified ridge"],
)
def test_training_rows_outside_the_region_are_left_out(model):
    """With a warning, from targets and weights too; messages count rows as the caller does."""
    X = TRAINING.copy()
    X[[3, 7]] *= 9
    region = FeasibleRegionSampler(CENTER, 1.2)
    with pytest.warns(UserWarning, match="2 of 200 training matrices are outside the region"):
        pipe = make_pipeline(region, clone(model)).fit(X)
    kept = np.delete(np.arange(200), [3, 7])
    alone = clone(model).fit(X[kept])
    np.testing.assert_allclose(pipe.predict(X[:20])[[0, 5]], alone.predict(X[[0, 5]]), rtol=1e-6)
    if isinstance(model, CertifiedInverse):
        return
    refused = region.fit().transform(X)
    refused[9, 0, 0] = np.nan
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match=r"rows \[9\] \(1 of 200\)"),
    ):
        clone(model).fit(refused)
    with pytest.raises(ValueError, match="All 2 training matrices are outside"):
        clone(model).fit(refused[[3, 7]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_of_the_data_is_refused_in_fit(bad):
    """Only what a region refused is left out, not what came in as NaN, be it a whole row."""
    X = TRAINING.copy()
    X[4] = bad
    fitting = LinearInverseApprox(), NeuralInverseRegressor(max_iter=1), PolynomialInverseApprox()
    for model in (*fitting, REGION):
        for step in (model, CertifiedInverse(LinearInverseApprox()), make_pipeline(REGION, model)):
            with pytest.raises(ValueError, match=r"NaN or infinity.*rows \[4\] \(1 of 200\)"):
                clone(step).fit(X)


ANSWERING = {
    "series": LinearInverseApprox(order=2),
    "affine": LinearInverseApprox(method="lstsq"),
    "network": NeuralInverseRegressor(5, max_iter=1, random_state=0),
    "tanh": NeuralInverseRegressor(5, "tanh", baseline=None, max_iter=1, random_state=0),
    "polynomial": PolynomialInverseApprox(),
    "structured": StructuredInverse(Ridge()),
}


@every_dtype
@pytest.mark.parametrize("m", [1, 3, 5000])
@pytest.mark.parametrize("name", ANSWERING)
def test_rows_that_are_not_finite_are_answered_by_nan(name, m, dtype):
    """Of arrays and tensors, one row or many, in place too, and no other row knows of it.

    Entry (0, 1) is constant, so that nothing is learned from it, and NaN in it is NaN all the same.
    """
    A = TRAINING.copy() if name != "structured" else (TRAINING + TRAINING.swapaxes(1, 2)) / 2
    A[:, 0, 1] = A[:, 1, 0] = 0.0
    model = clone(ANSWERING[name]).fit(A)
    X = np.tile(A, (25, 1, 1))[:m].astype(dtype)
    bad = np.arange(0, m, 4)
    X[bad[::2], 0, 1], X[bad[1::2], 1, 1] = np.nan, np.inf
    expected = model.predict(np.tile(A, (25, 1, 1))[:m].astype(dtype))
    expected[bad] = np.nan
    tensors = model.predict(torch.tensor(X)).numpy()
    tensors[np.isinf(tensors)] = np.nan  # an infinite entry may give infinite ones there
    assert np.isfinite(np.delete(tensors, bad, axis=0)).all()
    tensors[bad[np.isnan(tensors[bad]).any(axis=(1, 2))]] = np.nan
    found = [model.predict(X), tensors]
    if name != "structured":
        found.append(model.predict(X, out=X.copy()))
        single = model.inverse_function(dtype)(X[0])
        assert np.isnan(single).all()
        part = model.predict(X, outputs=np.diag_indices(3))
        np.testing.assert_allclose(part, expected[:, [0, 1, 2], [0, 1, 2]], rtol=1e-4, atol=1e-6)
    for P in found:
        np.testing.assert_array_equal(np.isnan(P), np.isnan(expected))
        np.testing.assert_allclose(P, expected, rtol=1e-4, atol=1e-6)


# -- scores ----------------------------------------------------------------------------------------


WRONG_WEIGHTS = {"short": np.ones(9), "long": np.ones(11), "number": 1.0, "text": "w"}


@pytest.mark.parametrize("weight", WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_wrong_weights_are_refused_beside_unanswered_rows(weight):
    """Leaving out rows that are not answered hides no mistake, and makes none of another kind."""
    model = LinearInverseApprox(CENTER).fit()
    for X in (TRAINING[:10], STREAM):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            with pytest.raises(ValueError, match=r"sample_weight|inconsistent numbers"):
                model.score(X, sample_weight=weight)
            with pytest.raises(ValueError, match="inconsistent numbers"):
                model.score(X, TRAINING[:9])


@pytest.mark.parametrize("given", [False, True], ids=["computed", "targets"])
def test_scores_are_of_what_is_answered(given):
    """Scorers say how many rows went unanswered, score the others, or return NaN."""
    y = np.linalg.inv(np.where(np.isfinite(STREAM), STREAM, CENTER)).reshape(10, 9)
    rest = [0, 2, 3, 4, 5, 7, 8, 9]
    model = make_pipeline(REGION, LinearInverseApprox()).fit(TRAINING)
    targets, few = ((y, y[rest]) if given else (None, None)), STREAM[rest]
    targets, some = targets
    scorer = SingularDistanceScorer()
    with pytest.warns(UserWarning, match="2 of 10 matrices went unanswered"):
        assert model.score(STREAM, targets) == model.score(few, some)
    with pytest.warns(UserWarning, match="1 of 9 matrices went unanswered"):
        assert scorer(model, STREAM, targets) == scorer(model, few, some)
    with pytest.warns(UserWarning, match="1 of 1 matrices went unanswered"):
        assert np.isnan(model.score(STREAM[[6]]))
    with pytest.warns(UserWarning, match="1 of 1 matrices went unanswered"):
        assert np.isnan(scorer(model, STREAM[[6]]))
    with pytest.warns(UserWarning, match="went unanswered"):
        profile = scorer.profile(model, STREAM, n_bins=2)
    assert profile.count.sum() == 8
    assert profile.n_left_out == 2


# -- one array, or many ----------------------------------------------------------------------------

ONE = np.arange(16.0).reshape(4, 4) + 10 * np.eye(4)
FITTING = {
    "series": LinearInverseApprox(),
    "affine": LinearInverseApprox(method="lstsq"),
    "network": NeuralInverseRegressor(2, max_iter=1, random_state=0),
    "polynomial": PolynomialInverseApprox(),
    "region": FeasibleRegionSampler(),
    "structured": StructuredInverse(Ridge()),
    "certified": CertifiedInverse(LinearInverseApprox()),
    "certified ridge": CertifiedInverse(Ridge()),
    "pipeline": make_pipeline(FeasibleRegionSampler(), LinearInverseApprox()),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist, torch.tensor])
@pytest.mark.parametrize("name", FITTING)
def test_a_square_array_is_not_taken_for_rows_without_a_word(name, kind):
    """Nor where it is rows; frames, targets, a stack and a stated centre leave no doubt."""
    X = np.tile([3.0, 1, 1, 2], (4, 1)) + 0.05 * np.arange(16).reshape(4, 4) ** 2 % 0.3
    X[:, 2] = X[:, 1]
    model = FITTING[name]
    with pytest.warns(AmbiguousShapeWarning, match=r"pass A\[None\]"):
        clone(model).fit(kind(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error", AmbiguousShapeWarning)
        clone(model).fit(kind(X.reshape(4, 2, 2)))
        if name != "pipeline":  # whose region returns arrays
            clone(model).fit(pandas.DataFrame(X))
        clone(model).fit(kind(X[:3]))
        clone(model).fit(kind(X), np.linalg.inv(X.reshape(4, 2, 2)).reshape(4, 4))
        LinearInverseApprox([[3.0, 1], [1, 2]]).fit(kind(X))
    if name in ("region", "pipeline"):
        return
    fitted = clone(model).fit((ONE + ONE.T)[None] + np.eye(4) * np.arange(5)[:, None, None])
    for method in (fitted.predict, getattr(fitted, "report", fitted.predict)):
        with pytest.raises(ValueError, match=r"A\[None\]"):
            method(kind(ONE))
        with pytest.raises(ValueError, match=r"X\.reshape\(-1, 4, 4\)"):
            method(kind(np.tile(ONE, (2, 3, 1, 1))))


@pytest.mark.parametrize(
    "function",
    [
        lambda A: bounds.residual_bound(A, 1.1 * np.linalg.inv(ONE)),
        lambda A: refinement.newton_schulz(A, 1.1 * np.linalg.inv(ONE)),
        lambda A: metrics.absolute_errors(A, 1.1 * ONE),
        lambda A: metrics.relative_errors(A, 1.1 * ONE),
        lambda A: metrics.residual_norms(A, 1.1 * ONE),
    ],
)
def test_functions_take_a_square_array_for_one_matrix(function):
    """As numpy.linalg does; that it was refused before is told."""
    for A in (ONE, ONE.tolist()):
        with pytest.warns(AmbiguousShapeWarning, match="one matrix of order 4") as caught:
            found = function(A)
        assert caught[0].filename == __file__
        assert np.shape(found) in ((), (4, 4))


def test_packing_takes_no_square_array_for_rows():
    for A in (ONE, ONE.tolist()):
        with pytest.raises(ValueError, match=r"A\[None\]"):
            structures.pack_symmetric(A)


def test_folds_may_be_square():
    """Scores of four matrices of order two are scores like others."""
    X = np.tile([3.0, 1, 1, 2], (16, 1)) + np.random.RandomState(0).uniform(-0.3, 0.3, (16, 4))
    for scoring in (None, SingularDistanceScorer(), SingularDistanceScorer("neg_residual")):
        assert np.isfinite(cross_val_score(LinearInverseApprox(), X, cv=4, scoring=scoring)).all()


# -- what is not proven ----------------------------------------------------------------------------


def test_every_fallback():
    """Numbers of which nothing is proven come with "keep" alone; errors name the caller's rows."""
    A = np.array([CENTER, CENTER, np.diag([1, 1, 1e-9]), CENTER, CENTER])
    A[1, :, 1] = A[1, :, 0]  # singular, but for rounding
    A[1] += 0.1
    A[3] = np.nan
    A[4] = 0.0
    base = CertifiedInverse(LinearInverseApprox(CENTER), tol=1e-12, max_refine=30).fit()
    b = np.ones((5, 3))
    hard = np.random.RandomState(0).standard_normal((3, 3))
    A[2] = hard @ np.diag([1, 1, 1e-9]) @ hard.T  # LAPACK's inverse is good to 1e-7 or so
    wanted = {
        "exact": ["refined", "rejected", "inaccurate", "not finite", "singular"],
        "nan": ["refined", "rejected", "rejected", "not finite", "rejected"],
        "keep": ["refined", "inaccurate", "inaccurate", "not finite", "inaccurate"],
    }  # (LAPACK may or may not meet a pivot that is exactly zero in the second)
    A[0] = CENTER + 0.1
    for fallback, expected in wanted.items():
        report = clone(base).set_params(fallback=fallback).fit().report(A)
        status = [
            "rejected" if s == "singular" and i == 1 else s for i, s in enumerate(report.status)
        ]
        assert status == expected
        unproven = report.bound == np.inf
        assert fallback == "keep" or np.isnan(report.inverse[unproven]).all()
        assert np.isfinite(report.inverse[~unproven]).all()
        x, bound = clone(base).set_params(fallback=fallback).fit().solve(A, b, return_bound=True)
        assert fallback == "keep" or np.isnan(x[bound == np.inf]).all()
        assert bound[0] <= 1e-12
    for fallback, rows in (("raise", r"\[1, 2, 3, 4\]"), ("exact-raise", r"\[1, 2, 3, 4\]")):
        model = clone(base).set_params(fallback=fallback).fit()
        for call in (model.predict, lambda A, m=model: m.solve(A, np.ones((len(A), 3)))):
            with pytest.raises(ValueError, match=rf"rows {rows} \(4 of 5\)"):
                call(A)
    far = np.diag([30.0, -2.0, 0.5])[None]  # where only LAPACK knows
    model = clone(base).set_params(fallback="exact-raise").fit()
    assert model.report(far).status == ["exact"]
    assert model.solve(far, np.ones((1, 3)), return_bound=True)[1] <= 1e-12
    with pytest.raises(ValueError, match="could not be proven"):
        model.set_params(fallback="raise").predict(far)


def test_series_that_diverge_say_so():
    """With the share of the training matrices, whatever the order; others say nothing."""
    far = np.concatenate([np.tile(CENTER, (6, 1, 1)), np.tile(7 * CENTER, (2, 1, 1))])
    for order in (1, 3):
        with pytest.warns(ConvergenceWarning, match=r"for 25\.0% .*\(2 of 8.* up to 6 instead"):
            LinearInverseApprox(CENTER, order=order).fit(far)
    LinearInverseApprox(CENTER).fit(far[:6])
    # Of norm above 1 but of spectral radius 0.9
    LinearInverseApprox(np.eye(2)).fit([np.eye(2) + [[0.9, 5.0], [0.0, 0.9]]])


# -- one bad row -----------------------------------------------------------------------------------


class Picky(RegressorMixin, BaseEstimator):
    """Raises for batches with a matrix that it does not like, or for all."""

    def __init__(self, limit=5.0, error=ValueError):
        self.limit = limit
        self.error = error

    def fit(self, X, y):
        return self

    def predict(self, X):
        self.calls_ = getattr(self, "calls_", 0) + 1
        if np.abs(np.asarray(X)).max() > self.limit:
            raise self.error("too large")
        return np.linalg.inv(np.asarray(X).reshape(-1, 3, 3)).reshape(-1, 9)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, "frame", "dask"])
@pytest.mark.parametrize("error", [ValueError, OverflowError, np.linalg.LinAlgError, KeyError])
def test_rows_at_which_a_regressor_raises_go_to_the_fallback(error, kind):
    A = MATRICES[:150].copy()
    bad = [0, 17, 18, 149]
    A[bad] *= 1e3
    X = A.reshape(150, 9) if kind == "frame" else A
    wrap = {"frame": pandas.DataFrame, "dask": dask.array.from_array}.get(kind, kind)
    model = CertifiedInverse(Picky(error=error)).fit(X if kind != "frame" else wrap(X))
    report = model.report(wrap(X))
    status = np.asarray(report.status)
    assert set(np.flatnonzero(status == "exact")) == set(bad)
    assert set(status) == {"exact", "predicted"}
    assert relative(report.inverse, A).max() < 1e-12
    if kind != "dask":
        assert model.estimator_.calls_ < 150 / 2
    bound = model.solve(wrap(X), np.ones((150, 3)), return_bound=True)[1]
    assert np.asarray(bound).max() <= 1e-6


def test_a_regressor_that_keeps_raising_is_not_asked_for_ever():
    """It is said what it raised; what is wrong whatever the matrices is raised."""
    many = np.tile(TRAINING, (20, 1, 1))
    model = CertifiedInverse(Picky(limit=0.0)).fit(many)
    with pytest.warns(RuntimeWarning, match="given up for 4000 of them.*ValueError: too large"):
        report = model.report(many)
    assert set(report.status) == {"exact"}
    assert model.estimator_.calls_ < 300
    mixed = many.copy()
    mixed[1000:2000:2] *= 1e3  # all else is found out
    model = CertifiedInverse(Picky()).fit(many)
    with pytest.warns(RuntimeWarning, match="given up for .* of them"):
        report = model.report(mixed)
    assert set(np.delete(report.status, np.arange(992, 2016))) == {"predicted"}
    assert relative(report.inverse, mixed).max() < 1e-10
    for error in (NotImplementedError, TypeError):
        model = CertifiedInverse(Picky(limit=0.0, error=error)).fit(TRAINING)
        with pytest.raises(error):
            model.predict(TRAINING)


def test_foreign_regressors_behind_a_region():
    """Neither in training nor in prediction do they see the rows that the region refuses."""
    X = np.concatenate([TRAINING, 5 * TRAINING[:3]])
    pipe = make_pipeline(FeasibleRegionSampler(CENTER, 1.2), PCA(), LinearRegression())
    with pytest.warns(UserWarning, match="3 of 203 training matrices are outside"):
        model = CertifiedInverse(pipe).fit(X)
    report = model.report(X)
    assert relative(report.inverse, X).max() <= 1e-6
    assert set(report.status[200:]) == {"exact"}
    assert set(report.status[:200]) <= {"predicted", "refined"}


class Validated(Ridge):
    """Takes data for validation, and writes over them."""

    def fit(self, X, y, sample_weight=None, eval_set=None):
        sample_weight[:] = 7
        for part in eval_set[0]:
            part[:] = 7
        return super().fit(X, y)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, pandas.Series])
def test_parameters_of_fit_are_passed_on_as_copies(kind):
    X, Y = TRAINING.reshape(200, 9), np.linalg.inv(TRAINING).reshape(200, 9)
    validation, weight = (X[:5].copy(), Y[:5].copy()), kind(np.ones(200))
    model = CertifiedInverse(Validated())
    model.fit(X, sample_weight=weight, eval_set=[validation])
    np.testing.assert_array_equal(np.asarray(weight), 1)
    np.testing.assert_array_equal(validation[0], X[:5])
    np.testing.assert_array_equal(validation[1], Y[:5])


def test_one_huge_matrix_does_not_spoil_a_forest():
    forest = RandomForestRegressor(3, random_state=0)
    model = CertifiedInverse(forest).fit(TRAINING)
    stream = MATRICES[200:].copy()
    stream[4] *= 1e39
    report = model.report(stream)
    assert relative(report.inverse, stream).max() <= 1e-6
    assert report.status[4] == "exact"


def test_one_singular_training_matrix_is_treated_alike():
    """By all that do not need its inverse; and by those that do."""
    A = np.concatenate([TRAINING, np.zeros((1, 3, 3))])
    series = LinearInverseApprox(CENTER)
    pipe = make_pipeline(FeasibleRegionSampler(), series)
    for model in (series, CertifiedInverse(series), pipe, CertifiedInverse(pipe)):
        kind = UserWarning if "Pipeline" in repr(model) else ConvergenceWarning
        with pytest.warns(kind, match="1 of 201"):
            clone(model).fit(A)
    for model in (LinearInverseApprox(method="lstsq"), NeuralInverseRegressor(), Ridge()):
        with pytest.raises(ValueError, match=r"rows \[200\] \(1 of 201\)"):
            CertifiedInverse(model).fit(A)


# -- rows are the caller's -------------------------------------------------------------------------


def test_rows_are_named_by_the_callers_numbers():
    """Whoever raises or warns, for a subset or a block of what was passed."""
    strict = clone(REGION).set_params(on_infeasible="raise")
    pipe = make_pipeline(strict, LinearInverseApprox()).fit(TRAINING)
    with pytest.raises(ValueError, match=r"Rows \[6\] \(1 of 10\)"):  # row 1 is left out before
        SingularDistanceScorer()(pipe, STREAM)
    loud = clone(REGION).set_params(on_infeasible="warn")
    model = CertifiedInverse(make_pipeline(loud, LinearInverseApprox())).fit(TRAINING)
    with pytest.warns(UserWarning, match=r"Rows \[6\] \(1 of 10\)"):
        model.report(STREAM)
    blocks = dask.array.from_array(STREAM, chunks=(4, 3, 3))
    model = CertifiedInverse(LinearInverseApprox(), fallback="raise", max_refine=0, tol=1e-15)
    for X in (STREAM, blocks):
        with pytest.raises(ValueError, match=r"rows \[\d, .*of 10\)"):
            np.asarray(model.fit(TRAINING).predict(X))
    last = dask.array.from_array(np.concatenate([TRAINING[:6], STREAM[6:7]]), chunks=(3, 3, 3))
    with pytest.raises(ValueError, match=r"Rows \[6\] \(1 of 7\)"):
        pipe[0].transform(last).compute(scheduler="sync")


# -- half precision --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_can_meet_its_tolerance(dtype):
    """Answers are rounded to it, by which `tol` is widened; modules say what they compute in."""
    A = torch.tensor(MATRICES).to(dtype)
    model = CertifiedInverse(LinearInverseApprox()).fit(MATRICES)
    report = model.report(A)
    assert set(report.status) <= {"predicted", "refined"}
    unit = torch.finfo(dtype).eps / 2
    assert (report.bound <= 1e-6 + unit).all()
    assert (relative(report.inverse.double(), A.double().numpy()) <= report.bound.numpy()).all()
    with pytest.raises(ValueError, match=r"float64 for a module in torch\.float32"):
        to_module(model, n_refine=1)(torch.tensor(MATRICES))


def test_frozen_and_searched_models_are_proven_too():
    search = GridSearchCV(Ridge(), {"alpha": [1e-9, 1e-6]})
    for model in (
        search,
        FrozenEstimator(LinearRegression().fit(TRAINING.reshape(200, 9), TRAINING.reshape(200, 9))),
    ):
        report = CertifiedInverse(model).fit(TRAINING).report(MATRICES)
        assert relative(report.inverse, MATRICES).max() <= 1e-6


def test_the_warning_is_public():
    assert skinv.matrices.AmbiguousShapeWarning is AmbiguousShapeWarning
    assert issubclass(AmbiguousShapeWarning, UserWarning)
