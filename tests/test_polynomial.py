"""PolynomialInverseApprox: its parts by themselves, its errors on real families, its edges."""

import itertools
import pickle
import warnings
from functools import cache

import dask.array
import joblib
import numpy as np
import pandas
import pytest
import skops.io
import torch
from backends import every_dtype
from exhaustive import exhaustive
from numpy.polynomial import legendre
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    PolynomialInverseApprox,
    StructuredInverse,
)
from skinv._linalg.form import ReducedMap
from skinv._linalg.terms import Terms, leading_terms
from skinv._linalg.units import unit_exponents
from skinv.bounds import certify_region
from skinv.datasets import load_power_flow, load_robot_arm
from skinv.export import to_module
from skinv.impossibility import counterexample, failure_distance, polynomial_lipschitz
from skinv.inspection import activation_regions
from skinv.learn import least_squares, reduction
from skinv.learn.extrapolation import ExtrapolationWarning
from skinv.learn.inference import coordinates
from skinv.learn.least_squares import Outputs
from skinv.learn.reduction import Directions, some_of
from skinv.learn.selection import fit_polynomial, held_out
from skinv.persistence import TRUSTED_TYPES

EPS = np.finfo(np.float64).eps


def family(n_samples, n=4, p=2, spread=0.3, seed=0):
    """Return matrices, a stack, that are affine functions of p numbers; of one seed one family."""
    rng = np.random.RandomState(seed)
    center = rng.standard_normal((n, n)) + 3 * np.eye(n)
    directions = spread / np.sqrt(n) * rng.standard_normal((p, n, n))
    return center + np.tensordot(rng.uniform(-1, 1, (n_samples, p)), directions, 1)


KNOWN, UNSEEN = np.split(family(240), [160])


@cache
def real(name):
    """Return a real family, and its rows in random order: the known half, and the unseen one."""
    data = load_robot_arm() if name == "puma560" else load_power_flow(name)
    order = np.random.RandomState(0).permutation(len(data.data))
    return data, *np.split(order, 2)


REAL = ["case6ww", "case9", "case30", "puma560"]
SMALL = ["case6ww", "case9", *exhaustive("case30"), "puma560"]


@cache
def fitted(name):
    data, known, _ = real(name)
    return PolynomialInverseApprox().fit(data.data[known])


def error(model, A):
    """The largest error, relative to the largest entry of the inverses."""
    exact = np.linalg.inv(A)
    return np.abs(model.predict(A) - exact).max() / np.abs(exact).max()


# -- terms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.5, 0.05])
@pytest.mark.parametrize("max_degree", [None, 1, 2, 3])
def test_leading_terms_by_enumeration(rate, max_degree):
    """They are those of the largest importance of all that there are, each once."""
    rng = np.random.RandomState(0)
    for k, count in ((1, 7), (2, 9), (3, 12), (5, 8)):
        weights = np.sort(10.0 ** rng.uniform(-3, 1, k))[::-1]
        weights[k // 2 :] = weights[k // 2]  # ties
        cost = -np.log(rate * weights / weights[0])
        every = [
            term
            for degree in range(1, (max_degree or count) + 1)
            for term in itertools.combinations_with_replacement(range(k), degree)
        ]
        found, importance = leading_terms(weights, rate, count, max_degree)
        assert len(set(found)) == len(found) == min(count, len(every))
        assert set(found) <= set(every)
        costs = [cost[list(term)].sum() for term in found]
        best = sorted(cost[list(term)].sum() for term in every)[: len(found)]
        np.testing.assert_allclose(costs, best, rtol=1e-12)
        np.testing.assert_allclose(-np.log(importance), costs, rtol=1e-12)
        closed = {(), *found}
        assert all(term[:i] + term[i + 1 :] in closed for term in found for i in range(len(term)))


def test_no_terms():
    for weights, count in ((np.zeros(0), 9), (np.ones(3), 0)):
        terms, importance = leading_terms(weights, 0.5, count)
        assert (terms, importance.shape) == ([], (0,))
    assert len(Terms.of([])) == 0
    assert len(leading_terms(np.ones(64), 0.5, 10**4, 1)[0]) == 64


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
@every_dtype
def test_terms_are_products_of_legendre_polynomials(convert, dtype):
    """By NumPy's own, at points inside and outside of the interval."""
    monomials, _ = leading_terms(np.array([3.0, 2.0, 1.5, 0.1]), 0.6, 90)
    terms = Terms.of(monomials)
    assert sorted(terms.names) == sorted(monomials)
    assert Terms.of(terms.names).names == terms.names  # as it is saved
    assert len(terms) == 90
    assert max(map(len, monomials)) > 5
    z = np.random.RandomState(0).uniform(-1.2, 1.2, (4, 30)).astype(dtype)
    out = np.zeros((90, 30), dtype)
    out[:4] = z
    out = convert(out)
    terms.mapped(lambda index: index if convert is np.array else torch.tensor(index)).evaluate(out)
    expected = [
        np.prod(
            [
                legendre.legval(z[i].astype(float), np.eye(20)[term.count(i)])
                for i in sorted(set(term))
            ],
            axis=0,
        )
        for term in terms.names
    ]
    np.testing.assert_allclose(np.asarray(out), expected, rtol=0, atol=500 * np.finfo(dtype).eps)


# -- units -----------------------------------------------------------------------------------------


def patterns():
    """Matrices of all sizes of entries and patterns of zeros, square and not."""
    for seed in range(300):
        rng = np.random.RandomState(seed)
        n, m = rng.randint(1, 9, 2)
        m = n if seed % 3 else m
        A = rng.standard_normal((n, m)) * 10.0 ** rng.uniform(-8, 8, (n, m))
        kind = seed % 7
        if kind == 1:
            A *= rng.uniform(size=A.shape) < 0.4  # columns and rows of zeros among them
        elif kind == 2:
            A[np.add.outer(np.arange(n), np.arange(m)) % 2 == 1] = 0  # two parts
        elif kind == 3:
            A = 2.0 ** rng.randint(-30, 31, A.shape)
        elif kind == 4:
            A[: n // 2, m // 2 :] = A[n // 2 :, : m // 2] = 0
        elif kind == 5:
            A = np.zeros_like(A)
        yield rng, A


def test_units_do_not_depend_on_units():
    """What is scaled is the same to the bit, whatever powers of two rows and columns came in."""
    for rng, A in patterns():
        inverse = None
        if A.shape[0] == A.shape[1] and np.linalg.matrix_rank(A) == len(A):
            inverse = np.linalg.inv(A)
        p, q = rng.randint(-60, 61, A.shape[0]), rng.randint(-60, 61, A.shape[1])
        moved = np.ldexp(A, p[:, None] + q)
        for B in (None,) if inverse is None else (None, inverse):
            rows, columns = unit_exponents(A, B)
            scaled = np.ldexp(A, rows[:, None] + columns)
            assert np.abs(scaled).max(initial=0.0) < 1
            some = (A != 0).any(axis=0)
            assert (np.abs(scaled).max(axis=0)[some] >= 0.5).all()
            B = None if B is None else np.ldexp(B, -(q[:, None] + p))
            rows, columns = unit_exponents(moved, B)
            np.testing.assert_array_equal(np.ldexp(moved, rows[:, None] + columns), scaled)


def test_units_of_symmetric_matrices():
    for rng, A in patterns():
        n = min(A.shape)
        S = A[:n, :n] @ A[:n, :n].T + np.eye(n)
        p = rng.randint(-60, 61, n)
        rows, columns = unit_exponents(S, symmetric=True)
        scaled = np.ldexp(S, rows[:, None] + columns)
        np.testing.assert_array_equal(rows, columns)
        np.testing.assert_array_equal(scaled, scaled.T)
        assert ((np.diagonal(scaled) >= 0.25) & (np.diagonal(scaled) < 1)).all()
        moved = np.ldexp(S, p[:, None] + p)
        rows, columns = unit_exponents(moved, symmetric=True)
        np.testing.assert_array_equal(np.ldexp(moved, rows[:, None] + columns), scaled)


# -- directions ------------------------------------------------------------------------------------


def effects_of(A, unit):
    """BEB of the deviations from the mean, in units, one row each, by the definition."""
    center = A.mean(axis=0)
    B = np.linalg.inv(center)
    return np.stack([(B @ (a - center) @ B).ravel() for a in A]) * unit


def check_directions(A, k):
    """Compare with the singular value decomposition of all effects."""
    rows = A.reshape(len(A), -1)
    found = Directions(rows, np.linalg.inv(A).reshape(rows.shape), inverses=True)
    F = effects_of(A, found.effects.y_unit)
    _, size, Vt = np.linalg.svd(F, full_matrices=False)
    size = size / np.sqrt(len(A))
    np.testing.assert_allclose(found.weights[:k], size[:k], rtol=1e-6)
    assert (found.weights[k:] <= size[k] * (1 + 1e-6)).all()
    reduced = found.reduction(k, rows)
    z = reduced.coordinates(rows)
    np.testing.assert_allclose(np.abs(z).max(axis=0), 1)
    # The same space of coordinates: what is left of one after regression on the others.
    expected = F @ Vt[:k].T
    left = z - expected @ np.linalg.lstsq(expected, z, rcond=None)[0]
    assert np.abs(left).max() < 1e-6
    outside = (rows - reduced.origin) @ reduced.outside
    assert reduced.reach >= np.abs(outside).max() * (1 - 1e-9)
    # The sketch sees nothing of the directions, by its largest singular values.
    assert np.linalg.norm(outside, 2) <= size[k] * np.sqrt(len(A)) * (1 + 1e-6)


def test_directions_are_those_of_the_effects():
    """Where all is decomposed, for many rows, for large matrices, and for part of the rows."""
    full = family(60, n=3, p=9)
    for k in (1, 4, 8):
        check_directions(full, k)
    assert reduction._EXACT < 40_000 * 64
    check_directions(family(40_000, n=8, p=3) + 1e-3 * family(40_000, n=8, p=9, seed=1), 3)
    n = 50
    assert 900 * n * n > reduction._EXACT
    check_directions(family(900, n=n, p=3) + 1e-5 * family(900, n=n, p=3, seed=1), 5)


def test_directions_of_samples(monkeypatch):
    """Of too many rows for memory some are looked at, wherever they stand."""
    monkeypatch.setattr(reduction, "_SAMPLE", 100 * 16)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 4, indexing="ij"), -1).reshape(-1, 4)
    A = 4 * np.eye(4) + np.einsum(
        "kp,pij->kij", grid, np.random.RandomState(0).uniform(size=(4, 4, 4))
    )
    rows = A.reshape(-1, 16)
    found = Directions(rows, np.linalg.inv(A).reshape(-1, 16), inverses=True)
    assert len(found.weights) == 4  # the fastest of the parameters among them
    assert found.reduction(4, rows).reach < 1e-12


@pytest.mark.parametrize("inverses", [True, False])
def test_adjoint(inverses):
    """E @ adjoint(V) = of(E) @ V, for any E and V, of no directions too."""
    rng = np.random.RandomState(0)
    rows, targets = KNOWN.reshape(-1, 16), np.linalg.inv(KNOWN).reshape(-1, 16)
    effects = Directions(rows, targets, inverses=inverses).effects
    E = rng.standard_normal((7, 16))
    for k in (0, 1, 5):
        V = rng.standard_normal((16, k))
        np.testing.assert_allclose(E @ effects.adjoint(V), effects.of(E) @ V, rtol=0, atol=1e-12)
    assert effects.of(E[:0]).shape == (0, 16)


def test_some_of_many():
    """Indices are distinct, ascending, spread over all rows, and of no period."""
    for n, most in ((10, 10), (11, 10), (1000, 7), (10**6, 4096), (5, 0)):
        index = np.arange(n)[some_of(n, most)]
        assert len(index) == (n if n <= most else max(most, 1))
        assert (np.diff(index) > 0).all()
        if n > most > 1:
            assert index[0] < 2 * n / most
            assert index[-1] >= n - 2 * n / most
    held = np.flatnonzero(held_out(5**4))
    assert len(held) == 5**3
    assert set(held % 5) == set(range(5))
    assert not held_out(9).any()


# -- least squares ---------------------------------------------------------------------------------


def columns_of(z, monomials):
    """The constant term and the others as columns, by NumPy's Legendre polynomials."""
    one = np.eye(30)
    columns = [
        np.prod([legendre.legval(z[:, i], one[term.count(i)]) for i in set(term)], axis=0)
        for term in monomials
    ]
    return np.column_stack([np.ones(len(z)), *columns])


def test_every_prefix_is_a_least_squares_fit():
    """The leading terms' coefficients, from one decomposition, are NumPy's for these alone."""
    rows = KNOWN.reshape(-1, 16)
    targets = np.linalg.inv(KNOWN).reshape(-1, 16)
    found = fit_polynomial(rows, targets, inverses=True, max_terms=40)
    z = found.reduction.coordinates(rows)
    assert len(found.monomials) > 20
    for count in range(len(found.monomials) + 1):
        terms, constant, coef = found.coefficients(count)
        columns = columns_of(z, terms.names)
        place = [found.monomials.index(name) for name in terms.names]
        ridge = np.column_stack([np.zeros(count), np.diag(found.penalty[place])])
        expected = np.linalg.lstsq(
            np.vstack([columns, ridge]),
            np.vstack([targets, np.zeros((count, 16))]),
            rcond=None,
        )[0]
        np.testing.assert_allclose(np.vstack([constant, coef]), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.predict(rows), columns @ expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_least_squares_in_pieces(monkeypatch, chunk):
    """Piece by piece rows become what they are at once, in pieces shorter than the terms too."""
    rng = np.random.RandomState(0)
    z, targets = rng.uniform(-1, 1, (150, 2)), rng.standard_normal((150, 3))
    outputs = Outputs(targets, np.array([1.0, 2.0, 0.5]))
    monomials, _ = leading_terms(np.ones(2), 0.5, 12)
    R, Z = least_squares.triangular(z, outputs, np.arange(150), monomials)
    monkeypatch.setattr(least_squares, "CHUNK", chunk)
    again, found = least_squares.triangular(z, outputs, np.arange(150), monomials)
    np.testing.assert_allclose(np.abs(again), np.abs(R), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        np.linalg.solve(again, found), np.linalg.solve(R, Z), rtol=0, atol=1e-12
    )


def test_dependent_terms():
    """Coordinates that depend on others, and rows that repeat, give finite coefficients."""
    t = np.linspace(-1, 1, 60)
    X = np.column_stack([t, t**2, t**3, 0 * t, np.sign(t)])
    y = np.column_stack([np.exp(t), t])
    for rows, targets in ((X, y), (np.repeat(X[::10], 10, axis=0), np.repeat(y[::10], 10, axis=0))):
        for params in ({}, {"degree": 4, "n_components": 5}):
            model = PolynomialInverseApprox(**params).fit(rows, targets)
            assert np.abs(model.predict(rows) - targets).max() < 1e-4
            assert np.isfinite(model._map.coef).all()


def test_held_out_errors_are_true():
    """Of many outputs, too, of which only some directions are fitted."""
    rng = np.random.RandomState(0)
    x = rng.uniform(-1, 1, (400, 2))
    noise = rng.standard_normal((400, 1000))
    y = np.outer(np.sin(2 * x[:, 0]), np.ones(1000)) + 0.1 * noise
    model = PolynomialInverseApprox().fit(x, y)
    assert model.held_out_error_ == pytest.approx(0.1 / y.std(), rel=0.1)
    few = PolynomialInverseApprox().fit(x, y[:, :5])
    assert few.held_out_error_ == pytest.approx(model.held_out_error_, rel=0.2)


def test_outputs_that_hold_rounding_do_not_count():
    """Zeros that were computed cannot be predicted, and say nothing of how many terms it takes."""
    rng = np.random.RandomState(0)
    x = rng.uniform(-1, 1, (100, 2))
    y = np.sin(2 * x[:, :1] + x[:, 1:])
    computed = np.column_stack([y, 3 + 1e-17 * y, 1e-17 * rng.standard_normal((100, 7))])
    alone, among = (PolynomialInverseApprox().fit(x, target) for target in (y, computed))
    assert among.n_terms_ == alone.n_terms_ > 20
    np.testing.assert_allclose(among.predict(x)[:, :1], alone.predict(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(5, 4, 3), *exhaustive((8, 12, 4))])
def test_grids_in_their_order(size):
    """What is held out or looked at of rows in the order of a grid is as good as in any other."""
    n_points, n, p = size
    rng = np.random.RandomState(0)
    M = 0.35 * rng.standard_normal((p, n, n))
    center = rng.standard_normal((n, n)) + n / 2 * np.eye(n)
    grid = np.meshgrid(*[np.linspace(-1, 1, n_points)] * p, indexing="ij")
    A = center + np.tensordot(np.stack(grid, -1).reshape(-1, p), M, 1)
    unseen = center + np.tensordot(rng.uniform(-1, 1, (200, p)), M, 1)
    exact = np.linalg.inv(unseen)
    errors = [
        np.abs(PolynomialInverseApprox().fit(part).predict(unseen) - exact).mean()
        for part in (A, rng.permutation(A))
    ]
    assert errors[0] < 3 * errors[1]


# -- errors on real families -----------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_no_worse_than_pipelines(name):
    """The best of nine pipelines of scikit-learn, by cross-validation on the same known half."""
    data, known, unseen = real(name)
    X, Y = data.data, data.target
    pipeline = Pipeline(
        [("pca", PCA()), ("terms", PolynomialFeatures()), ("fit", LinearRegression())]
    )
    search = GridSearchCV(
        pipeline,
        {"pca__n_components": [6, 10, 12], "terms__degree": [1, 2, 3]},
        cv=5,
        scoring="neg_mean_squared_error",
    )
    theirs = search.fit(X[known], Y[known]).predict(X[unseen]) - Y[unseen]
    ours = fitted(name).predict(X[unseen]) - Y[unseen]
    assert np.abs(ours).mean() <= np.abs(theirs).mean()
    assert np.square(ours).mean() <= np.square(theirs).mean()


def test_few_parameters_give_all_digits():
    """Nothing is lost where outputs are computed from a basis: errors are those of rounding."""
    data, _, unseen = real("case30")
    model = fitted("case30")
    assert model._map.basis is not None
    assert np.abs(model.predict(data.data[unseen]) - data.target[unseen]).max() < 1e-11
    assert model.held_out_error_ < 1e-12


@pytest.mark.parametrize("name", REAL)
def test_single_precision(name):
    """Errors are no larger than what the rounding of the matrices does to their inverses."""
    data, _, unseen = real(name)
    X, Y = data.data[unseen], data.target[unseen]
    single = X.astype(np.float32)
    n = int(X.shape[1] ** 0.5)
    rounding = np.abs(np.linalg.inv(single.astype(float).reshape(-1, n, n)) - Y.reshape(-1, n, n))
    answer = fitted(name).predict(single)
    assert answer.dtype == np.float32
    found, exact = np.abs(answer - Y).mean(), np.abs(fitted(name).predict(X) - Y).mean()
    assert found < 1.1 * exact + rounding.mean()


@pytest.mark.parametrize("name", SMALL)
def test_in_other_units(name):
    """Powers of two for rows and columns change predictions by these, and rounding; others too.

    Not to the bit: LAPACK pivots differ, in the inverses of the training matrices and their mean.
    """
    data, known, unseen = real(name)
    A = data.matrices
    plain = fitted(name).predict(A[unseen])
    exact = data.target.reshape(A.shape)[unseen]
    rng = np.random.RandomState(0)
    for p, q, rtol in (
        (*2.0 ** rng.randint(-4, 5, (2, A.shape[1])), 1e-9),
        (*10.0 ** rng.uniform(-1.2, 1.2, (2, A.shape[1])), None),
    ):
        scaled = p[:, None] * A * q
        model = PolynomialInverseApprox().fit(scaled[known])
        back = model.predict(scaled[unseen]) * q[:, None] * p
        if rtol is not None:
            np.testing.assert_allclose(back, plain, rtol=0, atol=rtol * np.abs(plain).max())
        assert np.abs(back - exact).mean() < 2 * np.abs(plain - exact).mean() + 1e-14


def test_uniform_powers_of_two_are_exact():
    """To the bit, in the whole range of floating-point numbers."""
    expected = PolynomialInverseApprox().fit(KNOWN).predict(UNSEEN)
    for exponent in (-900, -130, 100, 900):
        scaled = PolynomialInverseApprox().fit(np.ldexp(KNOWN, exponent))
        answer = scaled.predict(np.ldexp(UNSEEN, exponent))
        np.testing.assert_array_equal(np.ldexp(answer, exponent), expected)


def test_other_targets_of_any_size():
    rng = np.random.RandomState(0)
    x = rng.uniform(-1, 1, (80, 3))
    y = np.stack([np.sin(x.sum(axis=1)), x[:, 0] * x[:, 1]], axis=1)
    expected = PolynomialInverseApprox().fit(x, y).predict(x)
    for a, b in ((1e200, 1.0), (1e-200, 1e200), (1e300, 1e-300)):
        answer = PolynomialInverseApprox().fit(a * x, b * y).predict(a * x)
        np.testing.assert_allclose(answer / b, expected, rtol=0, atol=1e-12)


# -- edges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [1, 2, 5, 9])
def test_too_few_rows_give_the_series(n_samples):
    """Or, if degree and number of components are given, a polynomial of no more terms than rows."""
    model = PolynomialInverseApprox().fit(KNOWN[:n_samples])
    series = LinearInverseApprox().fit(KNOWN[:n_samples])
    np.testing.assert_allclose(model.predict(UNSEEN), series.predict(UNSEEN), rtol=0, atol=1e-14)
    assert (model.n_components_, model.n_terms_, model.degree_) == (0, 0, 1)
    assert np.isnan(model.held_out_error_)
    assert not model.extrapolates(1e9 * UNSEEN).any()
    stated = PolynomialInverseApprox(2, 2).fit(KNOWN[:n_samples])
    assert 1 <= stated.n_terms_ <= n_samples
    assert np.isfinite(stated.predict(KNOWN[:n_samples])).all()
    assert not stated.extrapolates(KNOWN[:n_samples]).any()


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("n", [1, 3])
def test_families_that_do_not_move(n, kind):
    """All matrices of the fit are one, and its inverse is what is predicted."""
    rng = np.random.default_rng(n)
    A = rng.standard_normal((n, n)) + 3 * np.eye(n)
    A = A + 1j * rng.standard_normal((n, n)) if kind is complex else A
    model = PolynomialInverseApprox().fit(np.tile(A, (20, 1, 1)))
    assert model.n_components_ == 0
    exact = np.linalg.inv(A)
    np.testing.assert_allclose(model.predict(np.tile(A, (2, 1, 1)))[1], exact, rtol=1e-13)
    np.testing.assert_allclose(model.inverse_function()(A), exact, rtol=1e-13)


def test_few_noisy_rows_are_not_interpolated():
    """Of fewer rows than are held out of, a polynomial has a term for three of them."""
    rng = np.random.RandomState(1)
    x = np.sort(rng.uniform(0, 1, (9, 1)), axis=0)
    model = PolynomialInverseApprox().fit(x, x[:, 0] + 0.05 * rng.standard_normal(9))
    between = np.linspace(x.min(), x.max(), 200)[:, None]
    assert abs(model.predict(between) - between[:, 0]).max() < 0.5


def test_few_rows():
    """The more of them, the smaller the errors."""
    model = PolynomialInverseApprox(on_extrapolation="keep")
    errors = [error(model.fit(KNOWN[:m]), UNSEEN) for m in (9, 10, 30, 160)]
    assert errors[1] < 1.1 * errors[0]
    assert errors[2] < errors[0] / 10
    assert errors[3] < errors[2] / 10
    data, known, unseen = real("case9")  # 196 entries, six parameters
    few = PolynomialInverseApprox(on_extrapolation="keep").fit(data.data[known[:30]])
    series = LinearInverseApprox().fit(data.data[known[:30]])
    few, series = (
        np.abs(model.predict(data.data[unseen]) - data.target[unseen]).mean()
        for model in (few, series)
    )
    assert few < series / 4


def test_matrices_that_do_not_vary():
    """The inverse of the only one is known, and everything else is far."""
    A = np.repeat(KNOWN[:1], 20, axis=0)
    model = PolynomialInverseApprox().fit(A)
    assert (model.n_components_, model.n_terms_, model.degree_) == (0, 1, 0)
    np.testing.assert_allclose(model.predict(A), np.linalg.inv(A), rtol=0, atol=1e-14)
    assert np.isfinite(model.predict(A.astype(np.float32))).all()
    assert model.extrapolates(A * (1 + 1e-9)).all()
    assert not model.extrapolates(A).any()


def test_entries_that_do_not_vary():
    """A third of them, some 0, and columns of features."""
    A = KNOWN.copy()
    A[:, 0, 1:], A[:, 3, 3] = 0.0, 5.0
    B = UNSEEN.copy()
    B[:, 0, 1:], B[:, 3, 3] = 0.0, 5.0
    model = PolynomialInverseApprox().fit(A)
    assert error(model, B) < 1e-6
    for entry in ((0, 1), (3, 3)):
        moved = B.copy()
        moved[:, entry[0], entry[1]] += 1e-3
        assert model.extrapolates(moved).all()
    x = np.linspace(0, 1, 50)
    X = np.column_stack([x, 0 * x, 0 * x + 5])
    model = PolynomialInverseApprox().fit(X, np.sin(x))
    asked = [[0.5, 0, 5], [0.5, 1e-3, 5], [0.5, 0, 5.001], [9.0, 0, 5]]
    assert model.extrapolates(asked).tolist() == [False, True, True, True]


def test_a_mean_that_is_singular():
    """Features are standardized then; where there is no polynomial either, that is said."""
    A = np.concatenate([KNOWN, -KNOWN])
    A[:, 0, 1] = 0
    model = PolynomialInverseApprox().fit(A)
    assert model.extrapolates(A[:1] + np.eye(4)[:, [1, 0, 2, 3]]).all()  # in the constant entry too
    with pytest.raises(ValueError, match="2 matrices, which are too few"):
        PolynomialInverseApprox().fit(A[[0, 160]])


def test_one_number():
    """n = 1, where one coordinate is all there is; and one feature."""
    A = np.linspace(1, 2, 40)[:, None, None]
    model = PolynomialInverseApprox().fit(A)
    unseen = np.random.RandomState(0).uniform(1, 2, (20, 1, 1))
    assert error(model, unseen) < 1e-12
    assert model.n_components_ == 1
    assert model.extrapolates([[[9.0]], [[1.5]]]).tolist() == [True, False]
    x = np.linspace(-1, 1, 40)
    model = PolynomialInverseApprox().fit(x[:, None], np.sin(3 * x))
    assert model.predict(x[:, None]).shape == (40,)
    assert np.abs(model.predict(x[:, None]) - np.sin(3 * x)).max() < 1e-12


@pytest.mark.parametrize("name", ["case9", "case30", "puma560"])
def test_parameters_to_inverses(name):
    """Of targets that are given, of entries that are 0 or hold rounding too."""
    data, known, unseen = real(name)
    model = PolynomialInverseApprox().fit(data.parameters[known], data.target[known])
    found = np.abs(model.predict(data.parameters[unseen]) - data.target[unseen]).mean()
    assert found < 1e-4 * np.abs(data.target - data.target.mean(axis=0)).mean()
    with pytest.raises(ValueError, match="something else than inverses"):
        model._model_form()


def test_parameters():
    """Limits hold, and nothing that is in range overflows."""
    for params in (
        {"degree": 2},
        {"n_components": 1},
        {"max_terms": 7},
        {"degree": 3, "n_components": 2},
    ):
        model = PolynomialInverseApprox(**params).fit(KNOWN)
        if "degree" in params:
            assert model.degree_ <= params["degree"]
        assert model.n_components_ <= params.get("n_components", 64)
        assert model.n_terms_ <= 1 + params.get("max_terms", 256)
    assert model.n_terms_ == 10  # all of degree 3 of two coordinates
    for params in (
        {"max_extrapolation": 1e300},
        {"max_extrapolation": np.float32(2)},
        {"degree": 10**9, "n_components": np.int8(2)},
        {"max_terms": 10**9},
        {"n_components": 10**9},
    ):
        assert error(PolynomialInverseApprox(**params).fit(KNOWN), UNSEEN) < 0.05
    assert PolynomialInverseApprox(max_terms=1).fit(KNOWN).n_terms_ <= 2


# -- extrapolation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_no_false_alarms(name):
    """Unseen matrices of the family are answered, in both precisions."""
    data, *_ = real(name)
    for seed in range(1, 3):
        order = np.random.RandomState(seed).permutation(len(data.data))
        known, unseen = np.split(order, 2)
        model = PolynomialInverseApprox().fit(data.data[known])
        for dtype in (np.float64, np.float32):
            X = data.data[unseen].astype(dtype)
            assert not model.extrapolates(X).any()
            assert np.isfinite(model.predict(X)).all()


def test_few_false_alarms_of_few_rows():
    """30 known matrices of 2809 entries: few of the others are answered by NaN."""
    data, known, unseen = real("case30")
    rates = []
    for first in range(0, 240, 30):
        model = PolynomialInverseApprox().fit(data.data[known[first : first + 30]])
        for dtype in (np.float64, np.float32):
            X = data.data[unseen].astype(dtype)
            alarm = model.extrapolates(X)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExtrapolationWarning)
                unanswered = np.isnan(model.predict(X)).all(axis=1)
            assert (alarm != unanswered).sum() <= 1  # but for rounding at the limits
            rates.append(alarm.mean())
    assert np.mean(rates) < 0.02


def test_what_is_far():
    """Along each coordinate, outside of them, in one entry that is always 0, and NaN."""
    data, _, unseen = real("case6ww")
    model = fitted("case6ww")
    A = data.data[unseen[:4]].copy()
    zero = np.flatnonzero((data.data == 0).all(axis=0))
    assert len(zero) > 5
    form = model._map
    # Steps of which each moves one coordinate only.
    steps = np.linalg.pinv(form.projection)
    limits = form.limits[form.outside.shape[1] :]
    for step, limit in zip(steps, limits, strict=True):
        assert model.extrapolates(A + 2.1 * limit * step).all()
        assert model.extrapolates(A - 2.1 * limit * step).all()
    for entry in zero:
        moved = A.copy()
        moved[:, entry] = 1e-2
        assert model.extrapolates(moved).all()
        assert model.extrapolates(moved.astype(np.float32)).all()
    A[1] *= 1.5
    A[2, 0], A[3, 5] = np.nan, -np.inf
    assert model.extrapolates(A).tolist() == [False, True, True, True]
    with pytest.warns(ExtrapolationWarning, match=r"Matrices \[1\] \(1 of 4\)") as caught:
        answer = model.predict(A)
    assert caught[0].filename == __file__
    assert np.isnan(answer).any(axis=1).tolist() == [False, True, True, True]
    assert np.isnan(answer[1]).all()
    A = np.concatenate([A, data.data[unseen[4:50]]])
    with pytest.warns(UserWarning, match="3 of 50 matrices went unanswered") as caught:
        assert model.score(A, data.target[unseen[:50]]) > 0.999
    assert len(caught) == 1


def test_keep():
    """Everything finite is answered, as elsewhere; what is far is told all the same."""
    data, known, unseen = real("case6ww")
    keep = PolynomialInverseApprox(on_extrapolation="keep").fit(data.data[known])
    A = data.data[unseen[:4]] * [[1], [1], [2], [1]]
    A[3, 0] = np.nan
    for dtype in (np.float64, np.float32):
        X = A.astype(dtype)
        answer = keep.predict(X)
        assert np.isfinite(answer[:3]).all()
        assert np.isnan(answer[3]).all()
        assert keep.extrapolates(X).tolist() == [False, False, True, True]
        expected = fitted("case6ww").predict(X[:2])
        np.testing.assert_allclose(answer[:2], expected, rtol=0, atol=1e3 * np.finfo(dtype).eps)


def test_max_extrapolation():
    """The larger it is, the more is answered; at 1 only what is inside the box of the known."""
    A = KNOWN.mean(axis=0) + np.linspace(0, 12, 50)[:, None, None] * (KNOWN[0] - KNOWN.mean(axis=0))
    answered = [
        (~PolynomialInverseApprox(max_extrapolation=x).fit(KNOWN).extrapolates(A)).sum()
        for x in (1, 1.2, 2, 10)
    ]
    assert answered == sorted(answered)
    assert answered[0] < answered[1] < answered[2] < answered[3] == 50
    model = PolynomialInverseApprox(max_extrapolation=1).fit(KNOWN)
    assert not model.extrapolates(KNOWN).all()


def test_rounding_of_entries_whose_mean_is_0():
    """It is told by the largest that they were, not by their mean."""
    rng = np.random.RandomState(1)
    R = rng.standard_normal((5, 5))
    A = 0.01 * np.eye(5) + rng.uniform(0.2, 1, (200, 1, 1)) * (R - R.T)
    A *= rng.choice([-1, 1], (200, 1, 1))
    model = PolynomialInverseApprox().fit(A[:100])
    for dtype in (np.float32, np.float64):
        assert not model.extrapolates(A[100:].astype(dtype)).any()


@pytest.mark.parametrize("name", ["case6ww", "case9", "case30"])
def test_half_precision(name):
    """Rounding to three digits is answered, and does less to the answers than to inverses."""
    data, _, unseen = real(name)
    X, Y, model = data.data[unseen], data.target[unseen], fitted(name)
    n = int(X.shape[1] ** 0.5)
    for A in (X.astype(np.float16), torch.tensor(X).half(), torch.tensor(X).bfloat16()):
        answer = model.predict(A)
        assert answer.dtype == A.dtype
        assert not model.extrapolates(A).any()
        found, given = (np.asarray(torch.as_tensor(part).double()) for part in (answer, A))
        exact = np.linalg.inv(given.reshape(-1, n, n)).reshape(Y.shape)
        assert np.abs(found - Y).mean() < np.abs(exact - Y).mean()
    with pytest.warns(ExtrapolationWarning):
        assert np.isnan(model.predict(2 * X.astype(np.float16))).all()


# -- layouts, memory and company -------------------------------------------------------------------


def test_layouts():
    """Rows, stacks, tensors, dask, some outputs, memory of one's own: the same answers."""
    model = PolynomialInverseApprox().fit(KNOWN)
    rows = UNSEEN.reshape(-1, 16)
    expected = model.predict(rows)
    np.testing.assert_allclose(expected.reshape(-1, 4, 4), np.linalg.inv(UNSEEN), atol=1e-5)
    inverse = model.inverse_function()
    close = {"rtol": 0, "atol": 1e-13}
    np.testing.assert_allclose(model.predict(UNSEEN).reshape(-1, 16), expected, **close)
    np.testing.assert_allclose(model.predict(np.asfortranarray(rows)), expected, **close)
    np.testing.assert_allclose([inverse(a).ravel() for a in UNSEEN], expected, **close)
    np.testing.assert_allclose(model.predict(torch.tensor(rows)).numpy(), expected, **close)
    lazy = dask.array.from_array(UNSEEN, chunks=(30, 4, 4))
    np.testing.assert_allclose(model.predict(lazy).compute().reshape(-1, 16), expected, **close)
    picked = model.predict(rows, outputs=[3, 0, -1])
    np.testing.assert_allclose(picked, expected[:, [3, 0, 15]], **close)
    out = rows.copy()
    assert model.predict(out, out=out) is not None
    np.testing.assert_allclose(out, expected, **close)
    far = np.concatenate([rows[:3], 9 * rows[:1]])
    assert model.extrapolates(far).tolist() == [False] * 3 + [True]
    for kind in (torch.tensor, pandas.DataFrame, np.ndarray.tolist):
        np.testing.assert_array_equal(model.extrapolates(kind(far)), model.extrapolates(far))
    answer = model.predict(torch.tensor(far))  # without a warning: nothing waits for a device
    assert answer.isnan().all(dim=1).tolist() == [False] * 3 + [True]
    assert np.isnan(inverse(far[3])).all()
    with pytest.raises(ValueError, match="16 features"):
        model.extrapolates(np.eye(3)[None])


def test_many_outputs_of_few_directions():
    """With a basis of the outputs some outputs, tensors and single matrices agree as well."""
    data, _, unseen = real("case30")
    model, X = fitted("case30"), data.data[unseen[:40]]
    for dtype, atol in ((np.float64, 1e-14), (np.float32, 1e-5)):
        X = X.astype(dtype)
        expected = model.predict(X)
        picked = model.predict(X, outputs=np.diag_indices(53))
        np.testing.assert_allclose(picked, expected[:, ::54], rtol=0, atol=atol)
        tensor = model.predict(torch.tensor(X)).numpy()
        np.testing.assert_allclose(tensor, expected, rtol=0, atol=atol)
        np.testing.assert_allclose(model.inverse_function(dtype)(X[0]), expected[0], 0, atol)


def test_complex_matrices():
    rng = np.random.RandomState(0)
    t = rng.uniform(-1, 1, (120, 2, 1, 1))
    A = 3 * np.eye(3) + (rng.standard_normal((2, 3, 3)) + 1j * rng.standard_normal((2, 3, 3)))[0]
    A = A + t[:, 0] * 0.2 * rng.standard_normal((3, 3)) + 0.2j * t[:, 1] * np.eye(3)
    model = PolynomialInverseApprox().fit(A[:80])
    exact = np.linalg.inv(A[80:])
    np.testing.assert_allclose(model.predict(A[80:]), exact, rtol=0, atol=1e-4)
    picked = model.predict(A[80:], outputs=np.diag_indices(3))
    np.testing.assert_allclose(picked, np.einsum("kii->ki", exact), rtol=0, atol=1e-4)
    assert not model.extrapolates(A[80:]).any()
    assert model.extrapolates(2j * A[80:]).all()


def test_structured():
    """Symmetric matrices behind StructuredInverse: symmetric inverses of the same accuracy."""
    S = KNOWN + KNOWN.swapaxes(1, 2) + 9 * np.eye(4)
    unseen = UNSEEN + UNSEEN.swapaxes(1, 2) + 9 * np.eye(4)
    model = StructuredInverse(PolynomialInverseApprox(), "symmetric").fit(S)
    answer = model.predict(unseen)
    np.testing.assert_allclose(answer, np.linalg.inv(unseen), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(answer, answer.swapaxes(1, 2))


INPUTS = {
    "read-only": lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
    "fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "backwards": lambda X: X[::-1].copy()[::-1],
    "list": np.ndarray.tolist,
    "frame": pandas.DataFrame,
    "tensor": torch.tensor,
    "stack": lambda X: X.reshape(-1, 4, 4),
    "swapped": lambda X: X.astype(">f8"),
    "single": lambda X: X.astype(np.float32),
    "integers": lambda X: (X * 2**10).astype(int),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_training_data_of_any_kind(kind):
    """The same numbers give the same model, and stay as they are; what becomes of them does not."""
    rows = np.round(KNOWN.reshape(-1, 16) * 2**10)  # the same in single precision, and integers
    rows = rows if kind == "integers" else rows / 2**10
    given = INPUTS[kind](rows if kind != "integers" else rows / 2**10)
    expected = PolynomialInverseApprox().fit(rows)
    model = PolynomialInverseApprox().fit(given)
    np.testing.assert_array_equal(np.asarray(given, dtype=np.float64).reshape(-1, 16), rows)
    names = {name for name in vars(expected) if name.endswith("_")}
    assert all(getattr(model, name) == getattr(expected, name) for name in names)
    asked = rows[:9].copy()
    before = model.predict(pandas.DataFrame(asked) if kind == "frame" else asked)
    np.testing.assert_array_equal(before, expected.predict(asked))
    if kind not in ("read-only", "list", "frame"):
        given[...] = 77
        np.testing.assert_array_equal(model.predict(asked), before)


def test_saved_and_cloned(tmp_path):
    """Also without its map for single precision, and as a series."""
    models = [
        PolynomialInverseApprox().fit(KNOWN),
        PolynomialInverseApprox(2, 2, on_extrapolation="keep").fit(KNOWN.astype(np.float32)),
        PolynomialInverseApprox().fit(KNOWN[:5]),
        fitted("case30"),
    ]
    for model in models:
        A = (KNOWN if model.n_features_in_ == 16 else real("case30")[0].matrices)[:20]
        path = tmp_path / "model"
        copies = [pickle.loads(pickle.dumps(model))]
        joblib.dump(model, path)
        copies += [joblib.load(path), joblib.load(path, mmap_mode=None)]
        skops.io.dump(model, path)
        assert set(skops.io.get_untrusted_types(file=path)) <= set(TRUSTED_TYPES)
        copies.append(skops.io.load(path, trusted=TRUSTED_TYPES))
        for copy in copies:
            for dtype in (np.float32, np.float64):
                X = A.astype(dtype)
                np.testing.assert_array_equal(copy.predict(X), model.predict(X))
                np.testing.assert_array_equal(copy.extrapolates(2 * X), model.extrapolates(2 * X))
        again = clone(model)
        assert again.get_params() == model.get_params()
        assert not hasattr(again, "n_terms_")


def test_fitting_again_leaves_nothing():
    """Of a series nothing is left in a polynomial, and the other way round."""
    rows, few = KNOWN, KNOWN[:5]
    model = PolynomialInverseApprox().fit(rows)
    names = set(vars(model))
    series = set(vars(model.fit(few)))
    assert model.n_terms_ == 0
    assert set(vars(model.fit(rows))) == names
    assert set(vars(model.fit(few))) == series
    np.testing.assert_array_equal(
        model.predict(UNSEEN), PolynomialInverseApprox().fit(few).predict(UNSEEN)
    )
    with pytest.raises(ValueError, match="singular"):
        model.fit(np.zeros((20, 4, 4)))


def test_in_searches_and_pipelines():
    """The errors of regions and searches are those of what is in them."""
    grid = {"degree": [1, 2, "auto"], "max_terms": [3, 256]}
    search = GridSearchCV(PolynomialInverseApprox(), grid, cv=3).fit(KNOWN.reshape(-1, 16))
    assert search.best_params_ == {"degree": "auto", "max_terms": 256}
    region = FeasibleRegionSampler(KNOWN.mean(axis=0), 1.0, on_infeasible="warn")
    pipeline = make_pipeline(region, PolynomialInverseApprox()).fit(KNOWN.reshape(-1, 16))
    plain = PolynomialInverseApprox().fit(KNOWN)
    np.testing.assert_array_equal(pipeline.predict(UNSEEN), plain.predict(UNSEEN))


def test_certified():
    """Errors are proven; far matrices are inverted by LAPACK, and nobody is warned of them."""
    data, known, unseen = real("case6ww")
    model = CertifiedInverse(PolynomialInverseApprox(), tol=1e-7).fit(data.data[known])
    A = data.matrices[unseen[:60]].copy()
    A[::3] *= 2
    A[1, 0, 0] += 50
    for kind in (np.array, torch.tensor):
        report = model.report(kind(A))
        inverse, bound = np.asarray(report.inverse), np.asarray(report.bound)
        exact = np.linalg.inv(A)
        size = np.linalg.norm(exact, axis=(1, 2))
        assert (np.linalg.norm(inverse - exact, axis=(1, 2)) / size <= bound + 1e-14).all()
        assert (bound <= 1e-7).all()
        far = np.arange(60) % 3 == 0
        far[1] = True
        assert (np.asarray(report.status) == "exact").tolist() == far.tolist()
        np.testing.assert_allclose(model.predict(kind(A)), inverse, rtol=1e-6)
    x = model.solve(A, np.ones((60, 8)))
    np.testing.assert_allclose(np.einsum("kij,kj->ki", A, x), 1, atol=1e-5)


def test_polynomials_are_refused_where_they_are_not_known():
    """Worst errors are proven; nothing else is of them, but of the series it is."""
    center = np.array([[3.0, 1.0], [1.0, 2.0]])
    box = FeasibleRegionSampler(center, 0.2, random_state=0).fit()
    known, _ = box.sample(200)
    model, series = (PolynomialInverseApprox().fit(X) for X in (known, known[:5]))
    symmetric = box.sample(200)[0].reshape(-1, 2, 2)
    symmetric = (symmetric + symmetric.swapaxes(1, 2)) / 2
    structured = StructuredInverse(PolynomialInverseApprox(), "symmetric").fit(symmetric)
    symmetric_box = FeasibleRegionSampler(center, 0.1, structure="symmetric").fit()
    for refused in (
        lambda: activation_regions(model, box),
        lambda: polynomial_lipschitz(model),
        lambda: failure_distance(model, 0.1, 100.0, center=center),
        lambda: counterexample(model, center, error=1e3, random_state=0),
    ):
        with pytest.raises(ValueError, match=r"reduced coordinates|No matrix near"):
            refused()
    assert certify_region(series, box).upper < 0.1
    for fitted, region in ((model, box), (structured, symmetric_box)):
        assert certify_region(fitted, region).upper < 0.1
    assert to_module(series) is not None


def test_a_map_of_before_sizes_were_known():
    """Rounding is told by the origin then."""
    form = fitted("case6ww")._map
    state = {**form.to_state(), "single": None}
    form = ReducedMap.from_state(**state)
    del state["size"]
    old = ReducedMap.from_state(**state)
    zeros = np.zeros(form.n_outputs)
    parts = [coordinates.ReducedPart.of(f, zeros, form.origin, single=True) for f in (form, old)]
    assert (parts[1].limits <= parts[0].limits * (1 + 1e-12)).all()
