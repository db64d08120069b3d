"""What is proven is what the caller gave: whoever writes where, on the way or afterwards.

Laws: inputs are bit-identical after a call, whatever is called on the way, and what is written into
them afterwards changes no later answer. (That no function changes its arguments, or returns their
memory, is asked of every call in `test_fuzz`.)
"""

import pickle

import dask.array
import numpy as np
import pandas
import polars
import pytest
import torch
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    StructuredInverse,
)

CENTER = np.array([[3.0, 1.0], [1.0, 2.0]])
MATRICES = CENTER + np.random.RandomState(0).uniform(-0.2, 0.2, (40, 2, 2))
KINDS = {
    "rows": lambda A: A.reshape(len(A), -1).copy(),
    "stack": lambda A: A.copy(),
    "fortran": lambda A: np.asfortranarray(A.reshape(len(A), -1)),
    "single": lambda A: A.astype(np.float32),
    "list": lambda A: A.tolist(),
    "pandas": lambda A: pandas.DataFrame(A.reshape(len(A), -1), columns=list("abcd")),
    "polars": lambda A: polars.DataFrame(A.reshape(len(A), -1), schema=list("abcd")),
    "tensor": lambda A: torch.tensor(A),
}


def values(X):
    """The numbers in an argument, as a copy."""
    X = X.compute() if isinstance(X, dask.array.Array) else X
    return np.array(X.numpy() if isinstance(X, torch.Tensor) else X, dtype=np.float64)


def errors(inverse, A):
    """Relative errors in the Frobenius norm, by LAPACK."""
    true = np.linalg.inv(A)
    size = np.linalg.norm(true, axis=(1, 2))
    return np.linalg.norm(values(inverse).reshape(A.shape) - true, axis=(1, 2)) / size


class Scribbler(RegressorMixin, BaseEstimator):
    """Writes over what it is given, and over what it was once given, and answers for that."""

    def fit(self, X, y, sample_weight=None):
        self.n_features_in_ = X.shape[1]
        self.seen_ = [X, y] + ([] if sample_weight is None else [sample_weight])
        self._scribble()
        return self

    def _scribble(self):
        for X in self.seen_:
            if isinstance(X, pandas.DataFrame):
                X.iloc[:, :] = X.to_numpy() * 1.5
            elif not isinstance(X, polars.DataFrame) and X.flags.writeable:
                X *= 1.5

    def predict(self, X):
        self.seen_.append(X)
        self._scribble()
        A = np.asarray(X).reshape(len(X), 2, 2)
        return np.linalg.inv(A).reshape(len(X), 4)


def writes_over(X):
    if isinstance(X, np.ndarray):
        X[...] = 2 * np.eye(2).ravel()
    return X


class Search(GridSearchCV):
    """What is derived from a class that passes data on may write to them."""

    def predict(self, X):
        X *= 1.5
        return super().predict(X)


REGRESSORS = {
    "derived": Search(LinearInverseApprox(), {"order": [1]}, cv=2),
    "scribbler": Scribbler(),
    "in place": make_pipeline(StandardScaler(copy=False), LinearRegression()),
    "function": make_pipeline(FunctionTransformer(writes_over), LinearRegression()),
    "search": GridSearchCV(Scribbler(), {}, cv=2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_that_write(name, kind):
    """Bounds hold for the matrices that were given, which stay as they were."""
    X, Y = KINDS[kind](MATRICES), np.linalg.inv(MATRICES).reshape(-1, 4)
    query, b = KINDS[kind](MATRICES[:9]), np.ones((9, 2))
    A = MATRICES[:9] if kind != "single" else query.astype(np.float64)
    model = CertifiedInverse(clone(REGRESSORS[name]), max_refine=0)
    for targets in (None, Y):
        before = values(X), values(query), Y.copy()
        model.fit(X) if targets is None else model.fit(X, targets)
        inverse, bound = model.predict(query, return_bound=True)
        report, (x, proven) = model.report(query), model.solve(query, b, return_bound=True)
        assert (errors(inverse, A) <= values(bound) * (1 + 1e-9) + 1e-14).all()
        assert (errors(report.inverse, A) <= values(report.bound) * (1 + 1e-9) + 1e-14).all()
        assert np.abs(np.einsum("kij,kj->ki", A, values(x)) - b).max() < 1e-5
        assert values(proven).max() < 1e-5
        for old, new in zip(before, (X, query, Y), strict=True):
            np.testing.assert_array_equal(old, values(new))
        np.testing.assert_array_equal(b, 1)


def test_weights_of_samples_are_not_written():
    weight = np.ones(40)
    CertifiedInverse(Scribbler()).fit(MATRICES, sample_weight=weight)
    np.testing.assert_array_equal(weight, 1)


def test_blocks_of_dask_arrays_are_not_written():
    """Not even where a block is the memory of the array that it was made from."""
    memory = MATRICES.copy()
    X = dask.array.from_array(memory, chunks=(10, 2, 2))
    model = CertifiedInverse(Scribbler(), max_refine=0).fit(MATRICES)
    inverse, bound = dask.compute(*model.predict(X, return_bound=True))
    assert (errors(inverse, MATRICES) <= bound * (1 + 1e-9) + 1e-14).all()
    np.testing.assert_array_equal(memory, MATRICES)


BUFFER = np.empty((100, 2, 2))


def buffered(p):
    """Return a family's matrices in memory that is used again, and spoil the parameters."""
    out = BUFFER[: len(p)]
    out[:] = CENTER
    out[:, 0, 0] += p[:, 0]
    p[...] = np.nan
    return out


class Nearest(RegressorMixin, BaseEstimator):
    """Answers with the inverse at the nearest grid point, by the family itself."""

    def fit(self, P, Y=None):
        return self

    def predict(self, P):
        return np.linalg.inv(buffered(np.round(P))).reshape(-1, 4)


def test_families_that_use_memory_again():
    P = np.random.RandomState(0).uniform(size=(50, 1))
    given, A = P.copy(), CENTER + P[:, :, None] * np.diag([1.0, 0.0])
    model = CertifiedInverse(Nearest(), family=buffered, tol=1e-9).fit(P)
    inverse, bound = model.predict(P, return_bound=True)
    assert (errors(inverse, A) <= bound + 1e-14).all()
    x, bound = model.solve(P, np.ones((50, 2)), return_bound=True)
    np.testing.assert_allclose(np.einsum("kij,kj->ki", A, x), 1)
    np.testing.assert_array_equal(P, given)


ESTIMATORS = {
    "series": lambda C, W: LinearInverseApprox(C, order=2),
    "mean": lambda C, W: LinearInverseApprox(),
    "affine": lambda C, W: LinearInverseApprox(method="lstsq"),
    "network": lambda C, W: NeuralInverseRegressor(3, max_iter=1, random_state=0),
    "polynomial": lambda C, W: PolynomialInverseApprox(),
    "structured": lambda C, W: StructuredInverse(LinearRegression()),
    "certified": lambda C, W: CertifiedInverse(LinearInverseApprox(C)),
    "frozen": lambda C, W: CertifiedInverse(FrozenEstimator(LinearInverseApprox(C).fit([C]))),
    "region": lambda C, W: FeasibleRegionSampler(C, W, random_state=0),
    "data": lambda C, W: FeasibleRegionSampler(norm="mahalanobis", random_state=0),
}


@pytest.mark.parametrize("kind", ["rows", "stack", "fortran", "single", "pandas", "tensor"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_written_after_fit_changes_nothing(name, kind):
    """Centres, half-widths and training data may be used for other things after fit."""
    C, W = CENTER.copy(), np.full((2, 2), 0.3)
    kind = "stack" if (name, kind) == ("frozen", "pandas") else kind  # fitted without names
    symmetric = (MATRICES + MATRICES.swapaxes(1, 2)) / 2
    X = KINDS[kind](symmetric)
    query = KINDS[kind](symmetric[:5])
    b = np.ones((5, 2))
    model = ESTIMATORS[name](C, W).fit(X)

    def answers():
        asked = KINDS[kind](values(query).reshape(5, 2, 2))
        if isinstance(model, FeasibleRegionSampler):
            found = model.transform(asked), model.decision_function(asked), model._draw_rows(0)
            return [values(part) for part in found] + [model.margin_]
        found = [values(model.predict(asked))]
        if isinstance(model, CertifiedInverse):
            found += [values(part) for part in model.solve(asked, b, return_bound=True)]
        return found

    before = answers()
    for array in (C, W, X):
        if isinstance(array, pandas.DataFrame):
            array.iloc[:, :] = 77.0
        else:
            array[...] = 77.0
    for old, new in zip(before, answers(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("again", [False, True], ids=["fitted", "loaded"])
def test_what_proofs_rest_on_cannot_be_changed(again):
    """Neither in place nor by setting another value, nor in what an estimator shows of a proof."""
    box = FeasibleRegionSampler(CENTER, np.full((2, 2), 0.3)).fit()
    ellipsoid = FeasibleRegionSampler(norm="mahalanobis").fit(MATRICES)
    series, affine = LinearInverseApprox(CENTER).fit(), LinearInverseApprox(method="lstsq")
    fitted = {
        box: ("center_", "radius_", "certificate_", "margin_", "distance_", "is_certified_"),
        ellipsoid: ("center_", "radius_", "axes_", "thickness_"),
        series: ("center_", "inverse_"),
        StructuredInverse(LinearRegression()).fit((MATRICES + MATRICES.swapaxes(1, 2)) / 2): (
            "center_",
        ),
    }
    for model, names in fitted.items():
        model = pickle.loads(pickle.dumps(model)) if again else model
        for name in names:
            value = getattr(model, name)
            with pytest.raises(AttributeError):
                setattr(model, name, value)
            if isinstance(value, np.ndarray):
                with pytest.raises(ValueError, match="read-only"):
                    value[...] = 0.0
                with pytest.raises(ValueError, match="WRITEABLE"):
                    value.flags.writeable = True
    box.certificate_["is_certified"] = False
    assert box.is_certified_
    assert box.certificate_.is_certified
    assert not affine.fit(MATRICES).coef_.flags.writeable
    anchor = CertifiedInverse(series).fit()._anchor
    for array in (anchor.center, anchor.inverse, anchor.weights):
        assert not array.flags.writeable


def test_regions_return_memory_of_their_own():
    """What follows in place, as scalers without copies do, does not reach the caller's matrices."""
    for kind in ("rows", "stack", "tensor"):
        X = KINDS[kind](MATRICES)
        out = FeasibleRegionSampler(CENTER, 0.5).fit().transform(X)
        out[...] = 77.0
        np.testing.assert_array_equal(values(X).ravel(), MATRICES.ravel())
    X = MATRICES.reshape(-1, 4).copy()
    pipeline = make_pipeline(
        FeasibleRegionSampler(), StandardScaler(copy=False), LinearRegression()
    )
    pipeline.fit(X, np.linalg.inv(MATRICES).reshape(-1, 4)).predict(X)
    np.testing.assert_array_equal(X, MATRICES.reshape(-1, 4))
