"""Fuzzing of what estimators predict."""

from functools import partial

import numpy as np
import torch
from strategies import REFUSED, Given, attempt

from fuzzing.common import check_like, embedded, entry, on_host
from fuzzing.geometry import a_center
from fuzzing.models import (
    affine,
    complex_polynomial,
    complex_series,
    float_dtypes,
    inverses_of,
    matrices_for,
    named,
    polynomial,
    quantity,
    relu,
    scalar,
    series,
    silu,
    single,
    stopped,
    weights,
)


def for_each(*owners):
    """Register a function of Choices and a class, named like a method, for each of the classes."""

    def register(function):
        for owner in owners:
            entry(f"{owner}.{function.__name__}")(partial(function, owner=owner))
        return function

    return register


def estimators(c, owner):
    """Return one of the fitted models of inverses of a class, and the order of its matrices."""
    if owner == "NeuralInverseRegressor":
        make, n = c.of((relu, 2), (silu, 2), (partial(relu, 3), 3), (scalar, 2), (stopped, 2))
    elif owner == "PolynomialInverseApprox":
        pool = (polynomial, 2), (partial(polynomial, 1), 1), (partial(polynomial, 3), 3)
        kept, few = partial(polynomial, outside="keep"), partial(polynomial, m=5)
        make, n = c.of(*pool, (kept, 2), (few, 2), (complex_polynomial, 4), (quantity, 2))
    else:
        pool = [(series, 2), (partial(series, 2, 2), 2), (partial(series, 2, 3), 2), (affine, 2)]
        pool += [(partial(series, 1), 1), (partial(series, 3), 3), (complex_series, 4)]
        make, n = c.of(*pool, (named, 2), (single, 2))
    return make(), n


def some_outputs(c, n):
    """Return a choice of outputs, that need not be one."""
    d = n * n
    right = np.diag_indices(n), [0, -1], np.arange(d) % 2 == 0, d - 1, [], ([0], [0]), range(d)
    right += np.array([0], np.uint8), np.int8(-1), np.ones((n, n), bool), torch.tensor([0]), None
    wrong = [d], [-d - 1], 1.5, "all", [[0, 1]], {0}, (0, n), ([0, 1], [0]), [2**63], [True], [None]
    wrong += ((0, 1), (1, 0)), np.array([[0]]), ["0"], np.array([]), 10**400, slice(2), np.nan
    return c.rather(right, wrong)


def some_memory(c, X, shape):
    """Return memory for results, that need not fit."""
    if X.is_tensor:
        dtype = X.value.dtype if X.value.is_floating_point() else torch.float64
        return c.rather((torch.empty(shape, dtype=dtype),), (np.empty(shape), torch.empty(0)))
    native = X.numbers is None or (X.numbers.dtype.char in "efd" and X.numbers.dtype.isnative)
    plain = np.empty(shape, X.numbers.dtype if native and X.numbers is not None else "f8")
    readonly = plain.copy()
    readonly.flags.writeable = False
    strided = np.empty((*shape, 2))[..., 0]
    return c.rather((plain,), (readonly, strided, plain.tolist(), plain[None], np.empty(3, "f4")))


def check_series(model, X, P):
    """Hold predictions of a series against its formula, where nothing overflows."""
    A, P = embedded(X.stack), embedded(Given(None, on_host(P), X.layout).stack)
    C, B = model.center_, model.inverse_
    eps = max(X.eps, np.finfo(np.float64).eps)
    for a, p in zip(A, P, strict=True):
        if np.isfinite(a).all() and np.abs(a).max() < 1e3 and np.isfinite(p).all():
            N, size = B @ (C - a), np.abs(B) @ (np.abs(C) + np.abs(a))
            powers = range(model._order + 1)
            true = sum(np.linalg.matrix_power(N, j) for j in powers) @ B
            bound = sum(np.linalg.matrix_power(size, j) for j in powers) @ np.abs(B)
            assert np.abs(p - true).max() <= 200 * eps * bound.max()


@for_each("LinearInverseApprox", "NeuralInverseRegressor", "PolynomialInverseApprox")
def predict(c, owner):
    model, n = estimators(c, owner)
    X = matrices_for(c, n)
    one = model in (scalar(), quantity())
    options, shape = {}, ()
    if X.numbers is not None:
        shape = X.numbers.shape[:1] if one else X.numbers.shape
    if c.one_in(4):
        options["outputs"] = some_outputs(c, n)
    elif c.one_in(4):
        options["out"] = some_memory(c, X, shape)
    P = attempt(model.predict, X, **options)
    if P is REFUSED or X.numbers is None:
        return
    assert X.right
    bad = ~np.isfinite(X.stack).all(axis=(1, 2))
    answers = on_host(P).reshape(len(bad), -1 if P.shape[0] else 1)
    assert (~np.isfinite(answers[bad]) if X.is_tensor else np.isnan(answers[bad])).all()
    kept = "float16", "float32", "float64"
    if options.get("outputs") is not None:
        assert len(P) == len(X.numbers)
    else:
        check_like(P, X, shape, float_dtypes(X, *kept))
    if options.get("out") is not None:
        options["out"][...] = 7
        assert (P == 7).all()
    if not options and hasattr(model, "inverse_"):
        check_series(model, X, P)


@for_each("LinearInverseApprox", "NeuralInverseRegressor", "PolynomialInverseApprox")
def inverse_function(c, owner):
    model, n = estimators(c, owner)
    dtype = c.rather(
        ("float32", "float64", np.float32, "f8", None), (">f8", "f2", int, "f9", [], 5)
    )
    function = attempt(model.inverse_function, dtype, refused=(ValueError, TypeError))
    if function is REFUSED:
        return
    A = a_center(c, n)
    with np.errstate(all="ignore"):
        X = attempt(function, A)
    if X is not REFUSED and A.layout == "one":
        assert type(X) is np.ndarray
        assert X.size == (1 if model in (scalar(), quantity()) else A.numbers.size)


@for_each("LinearInverseApprox", "NeuralInverseRegressor", "PolynomialInverseApprox")
def score(c, owner):
    model, n = estimators(c, owner)
    X = c.matrices(n, calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    options = c.options(sample_weight=[weights(c, X)])
    found = attempt(model.score, X, y, **options)
    assert found is REFUSED or isinstance(found, float)


@for_each("PolynomialInverseApprox", "NeuralInverseRegressor")
def extrapolates(c, owner):
    model, n = estimators(c, owner)
    X = matrices_for(c, n)
    far = attempt(model.extrapolates, X)
    if far is REFUSED or X.numbers is None:
        return
    assert type(far) is np.ndarray
    assert far.dtype == bool
    assert far.shape == (len(X.numbers),)
    assert far[~np.isfinite(X.stack).all(axis=(1, 2))].all()
    if model.on_extrapolation == "nan" and not X.is_tensor:
        P = on_host(model.predict(X.value)).reshape(len(far), -1 if len(far) else 1)
        assert np.isnan(P[far]).all()
