"""Fitted models, and what is asked of them."""

import math
from functools import cache

import numpy as np
import pandas
import torch
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from strategies import CENTER, Given, center_of

from fuzzing.common import on_host
from skinv import (
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    StructuredInverse,
    structures,
)


@cache
def series(n=2, order=1):
    return LinearInverseApprox(center_of(n), order=order).fit()


@cache
def affine(n=2):
    return LinearInverseApprox(method="lstsq").fit(training(n))


@cache
def cubic(n=2):
    return PolynomialInverseApprox(3, 4, on_extrapolation="keep").fit(training(n))


@cache
def training(n=2, m=200):
    E = np.random.RandomState(n).uniform(-0.3, 0.3, (m, n, n))
    return (center_of(n) + E).reshape(m, n * n)


def matrices_for(c, n):
    """Return a Given for a model of matrices of order n; those of order 4 are of complex ones."""
    if n == 4 and not c.one_in(3):
        return c.matrices(2, dtypes=["c16", "c8"], layouts=["stack"])
    return c.matrices(n)


def _network(n, activation, **params):
    params = {"max_iter": 2, "random_state": 0, "batch_size": 64, **params}
    return NeuralInverseRegressor(4, activation, **params).fit(training(n))


@cache
def relu(n=2):
    return _network(n, "relu", baseline=None)


@cache
def silu():
    return _network(2, "silu")


@cache
def polynomial(n=2, m=200, outside="nan"):
    return PolynomialInverseApprox(on_extrapolation=outside).fit(training(n, m))


@cache
def complex_polynomial():
    rows = training()
    return PolynomialInverseApprox().fit((rows + 0.1j * rows[::-1]).reshape(-1, 2, 2))


@cache
def quantity():
    return PolynomialInverseApprox().fit(training(), training()[:, 0] ** 2)


@cache
def single():
    return LinearInverseApprox().fit(training().astype(np.float32))


@cache
def complex_series():
    return LinearInverseApprox(CENTER + 0.5j, order=2).fit()


@cache
def named():
    return LinearInverseApprox().fit(pandas.DataFrame(training(), columns=list("abcd")))


@cache
def scalar():
    return _network(2, "tanh").fit(training(), training()[:, 0] ** 2)


def float_dtypes(given, *kept):
    """Return the names of dtypes of predictions: that of X if it is kept, else float64."""
    if given.is_tensor:
        dtype = given.value.dtype
        name = str(dtype).removeprefix("torch.")
        return {name} if dtype.is_complex or dtype.is_floating_point else {"float64"}
    if hasattr(given.value, "columns"):
        return {*kept, "float64"}  # columns are converted one by one
    dtype = np.asarray(given.value).dtype
    if dtype.kind == "c":
        return {"complex64" if dtype == np.complex64 else "complex128"}
    return {dtype.name if dtype.name in kept and dtype.isnative else "float64"}


def weights(c, X):
    """Return weights of samples, that need not fit."""
    m = len(X.numbers) if X.right else 2
    some = c.rng.uniform(size=m)
    wrong = some - 0.5, 0 * some, some[:-1], some * np.nan, Given("w")
    return c.rather((some, some, None, np.ones(m), 1.0), wrong)


@cache
def region(n=2, center=None, radius=0.5, **params):
    data = None
    if params.get("norm") == "mahalanobis":
        data, radius = training(n), "data"
    elif radius == "data":
        data = training(n)
    else:
        center = center_of(n) if center is None else CENTER + 0.5j
    return FeasibleRegionSampler(center, radius, random_state=0, **params).fit(data)


class Liar(BaseEstimator):
    """A regressor of inverses that says anything."""

    def __init__(self, kind="zeros"):
        self.kind = kind

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(X)[1]
        return self

    def predict(self, X):
        X = on_host(X) if isinstance(X, torch.Tensor) else np.asarray(X)
        X = X.reshape(len(X), -1) if len(X) else np.ones((0, 4))
        m, d = X.shape
        say = {
            "zeros": lambda: np.zeros((m, d)),
            "nan": lambda: np.full((m, d), np.nan),
            "huge": lambda: np.full((m, d), 1e300),
            "itself": lambda: X,
            "negative": lambda: -np.linalg.pinv(X.real.reshape(m, math.isqrt(d), -1).astype(float)),
            "half": lambda: np.ones((m, d), dtype=np.float16),
            "list": lambda: np.ones((m, d)).tolist(),
            "tensor": lambda: torch.ones(m, d, requires_grad=True),
            "shared": lambda: np.broadcast_to(0.3, (m, d)),
            "objects": lambda: np.full((m, d), 0.5, dtype=object),
            "long": lambda: np.full((m, d), np.longdouble("1e400")),
            "complex": lambda: np.ones((m, d)) * 1j,
            "narrow": lambda: np.ones((m, 1)),
            "few": lambda: np.ones((1, d)),
            "strings": lambda: np.full((m, d), "a"),
            "none": lambda: None,
            "cube": lambda: np.ones((m, d, 1)),
            "ragged": lambda: [[1.0], [1.0, 2.0]],
            "dict": lambda: {"inverse": 1},
        }
        return say[self.kind]()


@cache
def packed():
    X = structures.pack_symmetric(symmetric())
    return StructuredInverse(affine_free(), packed=True).fit(X)


@cache
def symmetric(n=2):
    A = training(n).reshape(-1, n, n)
    return ((A + A.swapaxes(1, 2)) / 2).reshape(-1, n * n)


def affine_free():
    return LinearInverseApprox(method="lstsq")


@cache
def structured(kind="symmetric", baseline="auto"):
    X = symmetric()
    if kind == "complex":
        X = X.reshape(-1, 2, 2) + 0.2j * np.random.RandomState(0).uniform(-1, 1, (len(X), 2, 2))
    return StructuredInverse(affine_free(), kind, baseline=baseline).fit(X)


@cache
def ridge():
    inverses = np.linalg.inv(training().reshape(-1, 2, 2)).reshape(-1, 4)
    return Ridge(alpha=1e-3).fit(training(), inverses)


def inverses_of(c, X):
    """Return inverses of matrices, or of others."""
    if X is None or not X.right or X.stack.ndim != 3 or c.slips(3):
        return c.matrices(2, 2)
    with np.errstate(all="ignore"):
        Y = np.linalg.pinv(np.where(np.isfinite(X.stack), X.stack, 1.0)).reshape(X.numbers.shape)
    return Given(c.contained(Y), Y, X.layout)


def a_model(c):
    """Return a fitted model of inverses of 2×2 matrices, or something else."""
    right = series(), series(2, 2), series(2, 3), affine(), relu(), silu(), single()
    right += (
        FrozenEstimator(series()),
        ridge(),
        structured(),
        structured("symmetric", None),
        named(),
    )
    wrong = series(1), series(3), LinearInverseApprox(), FrozenEstimator(LinearInverseApprox())
    wrong += Liar("zeros").fit(training()), Liar("few"), complex_series(), packed(), scalar()
    return c.rather(right, (*wrong, None, 3, "model", LinearInverseApprox, region))


def a_sampler(c, *right):
    """Return a fitted sampler of 2×2 matrices, or something else."""
    if not right:
        right = region(), region(), region(radius=2.0), region(norm="l2"), region(norm="l1")
        right += region(norm="mahalanobis"), region(structure="symmetric")
    wrong = FeasibleRegionSampler(), None, series(), region, 5, Liar(), region(radius=0)
    return c.rather(right, (*wrong, region(3, radius="data")))


@cache
def stopped():
    return _network(2, "relu", early_stopping=True)
