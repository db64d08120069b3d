"""CertifiedInverse: bounds that hold for what is returned, whatever the regressor returns."""

import pickle
import warnings

import hostile
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from backends import every_dtype, every_library
from conftest import random_family
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
)
from skinv.learn.regressor import InverseRegressorMixin

SCALES = np.array([1.1, 0.9, 1.2, 1.0, 0.8])
MATRICES = SCALES[:, None, None] * np.eye(2)


def assert_bounds_hold(A, result):
    """The bounds are at least the errors, up to float64's rounding of the reference."""
    exact = np.linalg.inv(np.asarray(A, dtype=np.float64))
    inverse = np.asarray(result.inverse.to(torch.float64) if torch.is_tensor(A) else result.inverse)
    error = np.linalg.norm(exact - inverse, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))
    assert (np.asarray(result.bound) >= error - 1e-14).all()


class Returns(RegressorMixin, BaseEstimator):
    """A regressor of NumPy arrays that returns what it is told to."""

    def __init__(self, what=None):
        self.what = what

    def fit(self, X, y=None):
        self.n_features_in_ = np.asarray(X).reshape(len(X), -1).shape[1]
        self.table_ = np.tile(np.eye(2).ravel(), (len(X), 1))
        return self

    def predict(self, X):
        rows = self.table_.astype(X.dtype, copy=False)
        if self.what == "broadcast":
            return np.broadcast_to(rows[0], rows.shape)
        if self.what == "read-only":
            rows = rows.copy()
            rows.setflags(write=False)
        if self.what == "reversed":
            return rows[::-1]
        if self.what == "wrong size":
            return rows.ravel()[:-1]
        return rows


class Expanded(InverseRegressorMixin, BaseEstimator):
    """A regressor of tensors whose answer is one row, seen many times."""

    def fit(self, X, y=None):
        self._validate_pair(X, None)
        return self

    def predict(self, X):
        return torch.eye(2, dtype=X.dtype).reshape(1, 4).expand(len(X), 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.filterwarnings("ignore:Use of index_put_ on expanded tensors")
@pytest.mark.parametrize("estimator", [Expanded(), Returns("broadcast")], ids=["torch", "NumPy"])
def test_predictions_that_share_memory(estimator, dtype):
    """One row seen many times is not refined into the other rows' answers."""
    A = torch.tensor(MATRICES, dtype=dtype)
    assert_bounds_hold(A, CertifiedInverse(estimator).fit(MATRICES).report(A))


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
@pytest.mark.parametrize("what", ["broadcast", "read-only", "reversed", None])
def test_predictions_are_copied(what, convert):
    """Read-only, reversed and stored predictions serve as any, and the regressor keeps them."""
    model = CertifiedInverse(Returns(what)).fit(MATRICES)
    A = convert(MATRICES)
    result = model.report(A)
    assert_bounds_hold(A, result)
    assert (np.asarray(result.bound) <= model.tol).all()
    np.testing.assert_array_equal(model.estimator_.table_, np.tile(np.eye(2).ravel(), (5, 1)))


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_predictions_of_a_wrong_size(convert):
    """Answers that are no matrices of that order are refused in words of ours."""
    model = CertifiedInverse(Returns("wrong size")).fit(MATRICES)
    with pytest.raises(ValueError, match="Got predictions of shape"):
        model.predict(convert(MATRICES))


@pytest.mark.parametrize("order", [2, 3, 4])
def test_autocast(order):
    """Inside autocast, whose products are bfloat16, bounds hold as well."""
    rng = np.random.RandomState(0)
    A = torch.tensor(np.eye(2) + 0.004 * rng.uniform(-1, 1, (5, 2, 2)), dtype=torch.float32)
    model = CertifiedInverse(Returns(), order=order).fit(A)  # the identity
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = model.report(A)
    assert_bounds_hold(A, result)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_word(dtype):
    """Where rounding to half precision costs the proof, status and fallback know it."""
    A = torch.tensor(MATRICES, dtype=dtype)
    estimator = LinearInverseApprox(np.eye(2))
    result = CertifiedInverse(estimator).fit().report(A)
    proven = np.isin(result.status, ("predicted", "refined", "exact"))
    tol = 1e-6 + torch.finfo(dtype).eps / 2  # of what is rounded to it, too
    np.testing.assert_array_equal(proven, result.bound.numpy() <= tol)
    open_ = ~(result.bound <= tol)
    assert CertifiedInverse(estimator, fallback="nan").fit().predict(A)[open_].isnan().all()


def test_tensors_that_require_gradients():
    """Matrices in a graph are inverted too."""
    A = torch.tensor(MATRICES).requires_grad_()
    with pytest.warns(UserWarning, match="without gradients"):
        inverse = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit().predict(A)
    torch.testing.assert_close(inverse.detach(), torch.linalg.inv(A.detach()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", [1, 1.0, np.inf, "1", "inf"])
def test_norms_that_pass_validation_work(norm):
    """What the parameter constraints let through is understood in predict."""
    model = CertifiedInverse(LinearInverseApprox(np.eye(2)), norm=norm).fit()
    assert_bounds_hold(MATRICES, model.report(MATRICES))


# Whatever the regressor, batch, norm and order: the bounds hold.

PROVEN = ("predicted", "refined", "exact")
every_norm = pytest.mark.parametrize("norm", hostile.NORMS)
every_order = pytest.mark.parametrize("order", [2, 3, 4])


class Told(RegressorMixin, BaseEstimator):
    """A fitted regressor that returns the answers it was given, hostile ones for instance."""

    def __init__(self, answers):
        self.answers = answers

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return self.answers

    def __sklearn_is_fitted__(self):
        return True


def told(A, X, **params):
    """Return a CertifiedInverse that starts from X, whatever it is asked."""
    estimator = Told(X.reshape(len(X), -1))
    estimator.n_features_in_ = X.shape[1] ** 2
    return CertifiedInverse(estimator, **params)


def assert_valid(A, result, model):
    """No bound is below the true error, and statuses say what the figures say."""
    A = np.asarray(A)
    inverse, bound = np.asarray(result.inverse), np.asarray(result.bound)
    inverse = inverse.reshape(A.shape)
    norm = {"fro": 0, "inf": 1, "1": 2}[model.norm]
    rows = np.flatnonzero(np.isfinite(bound))
    errors = hostile.true_errors(A, inverse, rows)
    assert hostile.count_violations(bound, errors[:, norm]) == 0
    within = np.isin(result.status, PROVEN)
    np.testing.assert_array_equal(within, bound <= model.tol)
    lost = np.isin(result.status, ("singular", "rejected", "not finite"))
    assert not np.isfinite(inverse[lost]).all(axis=(1, 2)).any()
    assert (bound[lost] == np.inf).all()
    assert np.isfinite(inverse[np.isfinite(bound)]).all()
    n_refine = np.asarray(result.n_refine)
    assert (n_refine[result.status == "refined"] > 0).all()
    assert (n_refine[~np.isin(result.status, ("refined", "inaccurate", "rejected"))] == 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 16])
@every_dtype
@every_library
@pytest.mark.parametrize("fallback", ["exact", "keep", "nan"])
def test_no_violations(n, dtype, convert, fallback):
    """From hostile guesses for hostile matrices come no bounds below the true error."""
    A = hostile.matrices(n, 91, dtype, seed=n)
    X = hostile.approximations(A, seed=n)
    for norm in hostile.NORMS:
        order = 2 + len(norm + fallback) % 3
        model = told(A, X, norm=norm, order=order, fallback=fallback)
        result = model.report(convert(A))
        assert_valid(A, result, model)
        assert tuple(result.inverse.shape) == A.shape
        assert np.isin(result.status, PROVEN).mean() > 0.25


@every_dtype
@every_norm
def test_halved_bounds_are_caught(dtype, norm):
    """The check fails on bounds half as large."""
    A = hostile.matrices(3, 91, dtype, seed=3)
    result = told(A, hostile.approximations(A, seed=3), norm=norm).report(A)
    errors = hostile.true_errors(A, result.inverse)[:, hostile.NORMS.index(norm)]
    finite = np.isfinite(result.bound)
    assert hostile.count_violations(result.bound[finite], errors[finite]) == 0
    assert hostile.count_violations(result.bound[finite] / 2, errors[finite]) > 0


@pytest.mark.parametrize("tol", [1e-13, 1e-8, 1e-3, 0.5, 2.0])
@every_dtype
def test_tolerances(tol, dtype):
    """Whatever the tolerance, bounds hold, and statuses say whether it was met."""
    A = hostile.matrices(4, 130, dtype, seed=1)
    for fallback in ("exact", "nan", "keep"):
        model = told(A, hostile.approximations(A, seed=1), tol=tol, fallback=fallback)
        assert_valid(A, model.report(A), model)


@every_order
@every_norm
def test_every_norm_and_order(order, norm):
    """Well-conditioned matrices near the centre are refined to the tolerance, not inverted."""
    center, A = random_family(6, 50)
    model = CertifiedInverse(LinearInverseApprox(center), order=order, norm=norm, tol=1e-10)
    result = model.fit().report(A)
    assert_valid(A, result, model)
    assert set(result.status) <= {"predicted", "refined"}
    np.testing.assert_allclose(result.inverse, np.linalg.inv(A), rtol=0, atol=1e-10)
    # R becomes R^p: no more steps than the residual asks for, plus one for the rounding.
    r = result.residual.max()
    assert result.n_refine.max() <= 1 + np.ceil(np.log(np.log(1e-10) / np.log(r)) / np.log(order))


# Regressors of all sorts.

REGRESSORS = {
    "taylor": LinearInverseApprox(),
    "taylor 2": LinearInverseApprox(order=2),
    "lstsq": LinearInverseApprox(method="lstsq"),
    "neural": NeuralInverseRegressor((8,), max_iter=5, random_state=0),
    "polynomial": PolynomialInverseApprox(),
    "linear": LinearRegression(),
    "MLP": MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, random_state=0),
    "neighbours": KNeighborsRegressor(3),
    "Ridge pipeline": make_pipeline(StandardScaler(), Ridge()),
    "projected": make_pipeline(
        FeasibleRegionSampler(on_infeasible="project"), LinearInverseApprox()
    ),
    "search": GridSearchCV(LinearInverseApprox(), {"order": [1, 2]}, cv=2),
}


def fitted(model, *args):
    """Fit, and let the multilayer perceptron of five iterations say that it is not done."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*args)


@pytest.mark.parametrize("name", REGRESSORS)
@pytest.mark.parametrize("with_targets", [True, False])
def test_regressors(name, with_targets, box):
    """Any regressor of inverses makes guesses; all answers are proven, as rows and as stacks."""
    X, Y = box
    model = CertifiedInverse(clone(REGRESSORS[name]))
    fitted(model, X, *([Y] if with_targets else []))
    A = X[:60].reshape(-1, 2, 2)
    result = model.report(A)
    assert_valid(A, result, model)
    assert np.isin(result.status, PROVEN).all()
    np.testing.assert_array_equal(model.predict(X[:60]), result.inverse.reshape(-1, 4))
    assert model.n_features_in_ == 4
    tensor = model.report(torch.tensor(A))
    assert isinstance(tensor.inverse, torch.Tensor)
    assert isinstance(tensor.bound, torch.Tensor)
    assert_valid(A, tensor, model)
    np.testing.assert_allclose(tensor.inverse.numpy(), result.inverse, rtol=0, atol=2e-6)


@every_dtype
@pytest.mark.parametrize("name", ["taylor", "neural", "linear", "Ridge pipeline"])
@every_library
def test_dtypes(name, dtype, convert, box):
    """float32 and float64 are kept, in arrays and tensors, and bounds hold after rounding."""
    model = fitted(CertifiedInverse(clone(REGRESSORS[name])), *box)
    A = convert(box[0][:50].reshape(-1, 2, 2).astype(dtype))
    result = model.report(A)
    assert result.inverse.dtype == A.dtype
    assert np.asarray(result.bound).dtype == np.float64
    assert_valid(np.asarray(A), result, model)
    assert (np.asarray(result.bound) <= 1e-6).all()


@every_library
def test_integers(convert):
    """Integer matrices are answered in float64."""
    model = CertifiedInverse(LinearInverseApprox([[3, 1], [1, 2]])).fit()
    A = convert(np.array([[[3, 1], [1, 2]], [[4, 1], [1, 2]], [[1, 1], [1, 1]]]))
    result = model.report(A)
    assert np.asarray(result.inverse).dtype == np.float64
    assert_valid(np.asarray(A).astype(float), result, model)
    assert result.status[2] == "singular"


@every_library
def test_integers_past_the_mantissa(convert):
    """Integers that float64 cannot hold are refused: the proof would be for other matrices."""
    a, x = 9008881569823439, float.fromhex("0x1.ffe7860eea498p-54")
    model = told(np.array([[[a]]]), np.array([[[x]]]), tol=1e-13)
    with pytest.raises(ValueError, match="float64 cannot hold"):
        model.predict(convert(np.array([[[a]]])))
    held = np.array([[[a + 1]]])
    assert_valid(held, model.report(convert(held)), model)


@pytest.mark.parametrize("wrap", [lambda e: e, FrozenEstimator], ids=["fitted", "frozen"])
@pytest.mark.parametrize("name", ["taylor", "neural", "linear", "Ridge pipeline", "neighbours"])
def test_without_fit(wrap, name, box):
    """A fitted regressor serves without fit, and gives the answers it gives with it."""
    estimator = clone(REGRESSORS[name]).fit(*box)
    model = CertifiedInverse(wrap(estimator))
    A = box[0][:20].reshape(-1, 2, 2)
    result = model.report(A)
    assert_valid(A, result, model)
    assert not hasattr(model, "estimator_")
    again = CertifiedInverse(wrap(estimator)).fit(*box).report(A)
    np.testing.assert_array_equal(result.inverse, again.inverse)


def test_frozen_estimators_are_not_fitted_again(box):
    """A frozen regressor keeps its centre, whatever fit is given."""
    frozen = FrozenEstimator(LinearInverseApprox([[3, 1], [1, 2]]).fit())
    model = CertifiedInverse(frozen).fit(
        box[0] + 1, np.linalg.inv((box[0] + 1).reshape(-1, 2, 2)).reshape(-1, 4)
    )
    np.testing.assert_array_equal(model.estimator_.center_, [[3, 1], [1, 2]])


@pytest.mark.parametrize("name", ["taylor", "linear", "Ridge pipeline", "neural"])
@pytest.mark.parametrize("method", ["predict", "report"])
def test_not_fitted(name, method):
    """Without fit, and without a fitted regressor, the message says what to do."""
    model = CertifiedInverse(clone(REGRESSORS[name]))
    with pytest.raises(NotFittedError, match="Call 'fit' first, or pass a fitted estimator"):
        getattr(model, method)(MATRICES)


@every_library
def test_number_of_features(convert, box):
    """Matrices of another order are refused, with and without fit."""
    for model in (
        CertifiedInverse(LinearInverseApprox()).fit(*box),
        CertifiedInverse(LinearInverseApprox().fit(*box)),
    ):
        with pytest.raises(ValueError, match="expecting 4 features"):
            model.predict(convert(np.ones((3, 9))))
        with pytest.raises(ValueError, match="expecting 4 features"):
            model.predict(convert(np.ones((3, 3, 3))))


def test_grid_search_and_cross_validation(box):
    """Parameters of both are searched, and scores need no targets."""
    X, _ = box
    model = CertifiedInverse(LinearInverseApprox(), max_refine=1, fallback="keep")
    search = GridSearchCV(model, {"estimator__order": [1, 2], "order": [2, 3]}, cv=3).fit(X)
    assert search.best_params_ == {"estimator__order": 2, "order": 3}
    assert search.best_score_ > 0.99
    scores = cross_val_score(CertifiedInverse(LinearInverseApprox()), X)
    np.testing.assert_allclose(scores, 1, atol=1e-9)


def test_clone_and_persistence(box, tmp_path):
    """Clones are unfitted and equal in parameters; pickles and joblib files answer the same."""
    model = CertifiedInverse(LinearInverseApprox(order=2), tol=1e-9, norm="inf").fit(*box)
    copy = clone(model)
    assert not hasattr(copy, "estimator_")
    assert repr(copy) == repr(model)
    joblib.dump(model, tmp_path / "model")
    expected, bound = model.predict(box[0], return_bound=True)
    for other in (
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "model", mmap_mode="r"),
    ):
        np.testing.assert_array_equal(other.predict(box[0]), expected)
        np.testing.assert_array_equal(other.predict(box[0], return_bound=True)[1], bound)


@pytest.mark.parametrize("name", ["taylor", "neural", "linear", "Ridge pipeline", "projected"])
def test_data_frames(name, box):
    """Feature names are passed on and remembered; another order of columns is refused."""
    frame = pd.DataFrame(box[0], columns=list("abcd"))
    model = CertifiedInverse(clone(REGRESSORS[name])).fit(frame)
    np.testing.assert_array_equal(model.feature_names_in_, list("abcd"))
    np.testing.assert_allclose(model.predict(frame), box[1], rtol=0, atol=1e-5)
    spoilt = frame.copy()
    spoilt.iloc[3, 1] = np.nan
    result = model.report(spoilt)
    assert result.status[3] == "not finite"
    np.testing.assert_allclose(np.delete(result.inverse, 3, 0), np.delete(box[1], 3, 0), atol=1e-5)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("bacd")])


# Batches of everything.


def batch(dtype=np.float64, m=10_000):
    """Return a centre and 10⁴ matrices: 1 % singular, 1 % NaN or infinite, 1 % far away."""
    center, A = random_family(3, m)
    rng = np.random.RandomState(0)
    index = rng.permutation(m)[: 3 * (m // 100)].reshape(3, -1)
    singular, nonfinite, far = index
    A = A.astype(dtype)
    A[singular] = rng.randint(-9, 10, (len(singular), 3, 3))
    A[singular, 2] = 0
    A[nonfinite, 1, 2] = rng.choice([np.nan, np.inf, -np.inf], len(nonfinite))
    A[far] = rng.standard_normal((len(far), 3, 3)) * 100
    return center, A, singular, nonfinite, far


@every_dtype
@every_library
def test_a_batch_with_everything(dtype, convert):
    """No row spoils another: 10⁴ matrices come back whole, in place, proven or marked."""
    center, A, singular, nonfinite, far = batch(dtype)
    model = CertifiedInverse(LinearInverseApprox(center)).fit()
    a = convert(A)
    kept = A.copy()
    inverse, bound = model.predict(a, return_bound=True)
    result = model.report(a)
    np.testing.assert_array_equal(np.asarray(a), kept)
    inverse, bound = np.asarray(inverse), np.asarray(bound)
    np.testing.assert_array_equal(np.asarray(result.bound), bound)
    lost = np.r_[singular, nonfinite]
    near = np.setdiff1d(np.arange(len(A)), np.r_[lost, far])
    assert np.isnan(inverse[lost]).all()
    assert (bound[lost] == np.inf).all()
    assert (result.status[singular] == "singular").all()
    assert (result.status[nonfinite] == "not finite").all()
    assert np.isin(result.status[near], ("predicted", "refined")).all()
    assert (bound[near] <= 1e-6).all()
    # Entries of 100 may be singular by chance, nearly; none here is.
    assert np.isin(result.status[far], PROVEN + ("inaccurate",)).all()
    assert (result.status[far] == "exact").mean() > 0.5
    exact = np.linalg.inv(A[np.r_[near, far]].astype(float))
    error = np.linalg.norm(exact - inverse[np.r_[near, far]], axis=(1, 2))
    error /= np.linalg.norm(exact, axis=(1, 2))
    assert (error <= bound[np.r_[near, far]] + 1e-12).all()
    rows = np.r_[near[:300], far]
    errors = hostile.true_errors(A, inverse, rows)
    assert hostile.count_violations(bound, errors[:, 0]) == 0


@every_dtype
@every_library
@every_order
def test_a_subset_gives_the_same(dtype, convert, order):
    """An answer depends on its own matrix, not on the company."""
    center, A, *special = batch(dtype, 2000)
    model = CertifiedInverse(LinearInverseApprox(center), tol=1e-5, order=order).fit()
    whole = model.report(convert(A))
    some = np.sort(np.r_[np.concatenate(special), np.arange(0, 2000, 37)])
    for rows in (some, some[:1], np.concatenate(special[:2]), some[-1:]):
        part = model.report(convert(A[rows]))
        np.testing.assert_array_equal(part.status, whole.status[rows])
        one, other = np.asarray(part.bound), np.asarray(whole.bound)[rows]
        np.testing.assert_array_equal(np.isfinite(one), np.isfinite(other))
        finite = np.isfinite(one)
        unit = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(one[finite], other[finite], rtol=0.05, atol=unit)
        np.testing.assert_allclose(
            np.asarray(part.inverse)[finite],
            np.asarray(whole.inverse)[rows][finite],
            rtol=1e-4,
            atol=1e-5,
        )


@every_library
def test_only_hopeless_rows(convert):
    """Batches without a finite matrix, without a regular one, or without any come back too."""
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit()
    for fill, status in ((np.nan, "not finite"), (np.inf, "not finite"), (0, "singular")):
        result = model.report(convert(np.full((3, 4), float(fill))))
        assert set(result.status) == {status}
        assert np.isnan(np.asarray(result.inverse)).all()
        assert tuple(result.inverse.shape) == (3, 4)


# Fallbacks.


def mixed():
    """Two good matrices, a singular one, one far away, a NaN, and their regressor."""
    far = np.array([[50.0, -3.0], [8.0, -40.0]])
    A = np.array([np.eye(2), np.ones((2, 2)), far, 1.1 * np.eye(2), np.nan * np.eye(2)])
    return A, LinearInverseApprox(np.eye(2)).fit()


@every_library
@every_dtype
@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        ("exact", ["predicted", "singular", "exact", "refined", "not finite"]),
        ("nan", ["predicted", "rejected", "rejected", "refined", "not finite"]),
        ("keep", ["predicted", "inaccurate", "inaccurate", "refined", "not finite"]),
    ],
)
def test_fallbacks(convert, dtype, fallback, expected):
    """What becomes of a matrix that could not be proven, one by one."""
    A, estimator = mixed()
    A = A.astype(dtype)
    model = CertifiedInverse(estimator, fallback=fallback)
    result = model.report(convert(A))
    assert result.status.tolist() == expected
    assert_valid(A, result, model)
    assert np.isinf(np.asarray(result.bound)[[1, 4]]).all()
    if fallback == "exact":
        np.testing.assert_allclose(result.inverse[2], np.linalg.inv(A[2]), rtol=1e-5)


@every_library
def test_raise(convert):
    """The message names the rows, the tolerance and the way out; proven batches pass."""
    A, estimator = mixed()
    model = CertifiedInverse(estimator, fallback="raise")
    with pytest.raises(ValueError, match=r"rows \[1, 2, 4\] \(3 of 5\).*tol=1e-06.*fallback="):
        model.predict(convert(A))
    with pytest.raises(ValueError, match=r"rows \[0\] \(1 of 1\)"):
        model.report(convert(A[4:]))
    good = convert(A[[0, 3]])
    np.testing.assert_allclose(model.predict(good), np.linalg.inv(A[[0, 3]]), rtol=1e-6)


@pytest.mark.parametrize("fallback", ["exact", "nan", "keep"])
def test_no_refinement(fallback):
    """With max_refine=0 predictions are proven or replaced, never changed."""
    A, estimator = mixed()
    model = CertifiedInverse(estimator, max_refine=0, tol=0.02, fallback=fallback)
    result = model.report(A)
    assert (result.n_refine == 0).all()
    assert result.status[3] == "predicted"
    np.testing.assert_array_equal(result.inverse[3], estimator.predict(A[3:4])[0])
    assert_valid(A, result, model)


def test_residual_of_the_prediction():
    """`residual` bounds ‖I − AX‖ of the prediction itself, NaN where there is none."""
    center, A = random_family(4, 30)
    A[3] = np.nan
    estimator = LinearInverseApprox(center).fit()
    result = CertifiedInverse(estimator).report(A)
    good = np.delete(np.arange(30), 3)
    R = np.eye(4) - A[good] @ estimator.predict(A[good])
    np.testing.assert_allclose(result.residual[good], np.linalg.norm(R, axis=(1, 2)), rtol=1e-9)
    assert np.isnan(result.residual[3])


@every_library
@pytest.mark.parametrize("fallback", ["exact", "keep", "nan"])
def test_ill_conditioned(convert, fallback):
    """Of the Hilbert matrix of order 12 nothing false is proven."""
    A = hostile.hilbert(12)
    for X in (hostile.float_inverse(A), np.eye(12)[None], np.zeros((1, 12, 12))):
        model = told(A, X, fallback=fallback)
        result = model.report(convert(A))
        assert_valid(A, result, model)
        assert result.status[0] in ("inaccurate", "rejected")


@every_dtype
@every_library
def test_overflow_is_marked(dtype, convert):
    """Regular matrices whose inverses overflow get no bound and no warning; NaN, if "singular"."""
    tiny = float(np.finfo(dtype).tiny)
    A = (np.array([tiny / 64, 1.0, 4.0])[:, None, None] * np.eye(2)).astype(dtype)
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit()
    result = model.report(convert(A))
    assert result.bound[0] == np.inf
    assert result.status[0] == "inaccurate" or np.isnan(np.asarray(result.inverse[0])).all()
    assert (result.status[1:] == ["predicted", "exact"]).all()
    assert_valid(A, result, model)


def test_a_regressor_of_another_quantity(box):
    """Targets that are not inverses are refused, since nothing could be proven."""
    with pytest.raises(ValueError, match="only errors of inverses can be proven"):
        CertifiedInverse(LinearRegression()).fit(box[0], box[0])


@pytest.mark.parametrize("kind", [None, "float", "one", "NaN", "integers", "list", "tensor"])
@every_library
def test_hostile_regressors(kind, convert):
    """Whatever comes back is copied, measured and replaced where it is no use."""
    answers = np.tile(np.eye(2).ravel(), (5, 1))
    answers = {
        None: answers,
        "float": answers.astype(np.float32),
        "one": 1e300 * answers,
        "NaN": answers * np.nan,
        "integers": answers.astype(int),
        "list": answers.tolist(),
        "tensor": torch.tensor(answers),
    }[kind]
    estimator = Told(answers)
    estimator.n_features_in_ = 4
    model = CertifiedInverse(estimator)
    result = model.report(convert(MATRICES))
    assert_valid(MATRICES, result, model)
    assert np.isin(result.status, PROVEN).all()


@pytest.mark.parametrize(
    "params",
    [
        {"estimator": 3},
        {"tol": 0},
        {"tol": -1.0},
        {"max_refine": -1},
        {"max_refine": 1.5},
        {"order": 5},
        {"fallback": "inverse"},
        {"norm": "l2"},
    ],
)
def test_bad_parameters(params):
    """Parameters are checked in fit."""
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).set_params(**params)
    with pytest.raises(InvalidParameterError, match=next(iter(params))):
        model.fit()


@pytest.mark.parametrize("routing", [True, False])
@pytest.mark.parametrize("method", ["taylor", "lstsq"])
def test_sample_weights_reach_the_regressor(routing, method, box):
    """Weights given to fit are the regressor's, with and without metadata routing."""
    X, Y = box
    weight = np.r_[np.ones(100), np.zeros(300)]
    expected = LinearInverseApprox(method=method).fit(X[:100], Y[:100])
    with sklearn.config_context(enable_metadata_routing=routing):
        estimator = LinearInverseApprox(method=method)
        if routing:
            estimator.set_fit_request(sample_weight=True)
        model = CertifiedInverse(estimator).fit(X, Y, sample_weight=weight)
        again = CertifiedInverse(estimator).fit(X, sample_weight=weight)
    for each in (model, again):
        np.testing.assert_allclose(each.estimator_.predict(X), expected.predict(X), rtol=1e-9)


def test_weights_that_are_not_requested(box):
    """With metadata routing, weights nobody asked for are refused."""
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(ValueError, match="sample_weight"),
    ):
        CertifiedInverse(LinearInverseApprox()).fit(*box, sample_weight=np.ones(400))
