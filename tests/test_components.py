"""residual_bound(componentwise=True): no entry is off by more, in whatever units it came."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from backends import every_library
from hostile import rational

from skinv import CertifiedInverse, LinearInverseApprox
from skinv.bounds import residual_bound
from skinv.bounds._components import norm_of_radius

every_price = pytest.mark.parametrize("sharp", [True, False])


def squared_errors(A, X):
    """|A⁻¹ − X|² of a real or complex matrix entry by entry, exactly; None for a singular one."""
    n = len(A)
    try:
        E = rational(A + 0j).inv() - rational(X + 0j)
    except ZeroDivisionError:
        return None
    parts = [[Fraction(int(v.p), int(v.q)) for v in row] for row in E.tolist()]
    return [[parts[i][j] ** 2 + parts[n + i][j] ** 2 for j in range(n)] for i in range(n)]


def radius_of(A, X, sharp=True):
    """Bounds of the entries of one matrix, or of a stack."""
    if A.ndim == 2:
        return residual_bound(A[None], X[None], componentwise=True, sharp=sharp)[0]
    return residual_bound(A, X, componentwise=True, sharp=sharp)


def violations(A, X, radius):
    """How many entries are off by more than they are said to be."""
    if not np.isfinite(radius).any():
        return 0
    errors = squared_errors(A, X)
    if errors is None:
        return radius.size
    return sum(
        np.isfinite(r) and Fraction(float(r)) ** 2 < e
        for row, some in zip(radius, errors, strict=True)
        for r, e in zip(row, some, strict=True)
    )


KINDS = {
    "dense": lambda A, rng: A,
    "triangular": lambda A, rng: np.triu(A),
    "sparse": lambda A, rng: A * (rng.random(A.shape) < 0.4) + np.eye(len(A)),
    "nearly singular": lambda A, rng: np.vstack([A[:-1], A[:-1].sum(0) + 1e-9 * A[-1]]),
    "singular": lambda A, rng: np.round(4 * np.vstack([A[:-1], A[:1] * (len(A) > 1)])),
    "components and noise": lambda A, rng: (
        np.kron(np.eye(len(A)), [[2, 1], [1, 2]]) + 1e-17 * np.kron(A, np.ones((2, 2)))
    ),
    "positive": lambda A, rng: A @ A.conj().T + 0.01 * np.eye(len(A)),
}


def family(kind, seed, whole=False):
    """Yield matrices, approximate inverses of all qualities, and units of rows and columns."""
    rng = np.random.default_rng(seed)
    for n in (1, 2, 3, 5):
        for noise, reach in ((0, 0), (1e-12, 20), (1e-5, 100), (0.05, 200)):
            A = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if whole else 0)
            A = KINDS[kind](A, rng)
            n_A = len(A)
            try:
                X = np.linalg.inv(A)
            except np.linalg.LinAlgError:
                X = np.linalg.pinv(A)
            X = X * (1 + noise * rng.standard_normal((n_A, n_A)))
            yield A, X, rng.integers(-reach, reach + 1, n_A), rng.integers(-reach, reach + 1, n_A)


def moved(A, rows, columns):
    """The same matrix in other units."""
    unit = np.ldexp(1.0, rows)[:, None] * np.ldexp(1.0, columns)
    return A * unit


@every_price
@pytest.mark.parametrize("whole", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_violations(kind, whole, sharp):
    """In any units; and whether anything is proven does not depend on them."""
    for A, X, rows, columns in family(kind, 0, whole):
        B, Y = moved(A, rows, columns), moved(X, -columns, -rows)
        bound = radius_of(B, Y, sharp)
        assert violations(B, Y, bound) == 0
        plain = radius_of(A, X, sharp)
        assert np.isfinite(plain).all() == np.isfinite(bound).all()
        if kind in ("dense", "positive"):
            np.testing.assert_array_equal(bound, moved(plain, -columns, -rows))
        for norm in ("fro", "inf", "1"):
            relative = norm_of_radius(Y[None], bound[None], norm)[0]
            assert relative == np.inf or kind != "singular"


@every_price
def test_planted_mistakes_show(sharp):
    """The attack finds bounds of a single entry that are a little too small."""
    A, X = np.array([[4.0]]), np.array([[0.26]])
    radius = radius_of(A, X, sharp)
    assert violations(A, X, radius) == 0
    assert violations(A, X, radius * 0.9) == 1


@every_library
@pytest.mark.parametrize("factor", [3.0, 0.7, 1e5])
def test_other_units(convert, factor):
    """Other factors than powers of two change little; torch sums in another order."""
    rng = np.random.default_rng(2)
    A = rng.standard_normal((20, 6, 6))
    X = np.linalg.inv(A) * (1 + 1e-4 * rng.standard_normal((20, 6, 6)))
    D = factor ** rng.uniform(-2, 2, (20, 6, 1))
    E = factor ** rng.uniform(-2, 2, (20, 1, 6))
    here = radius_of(A, X)
    B, Y = convert(D * A * E), convert(X / D.swapaxes(1, 2) / E.swapaxes(1, 2))
    there = np.asarray(radius_of(B, Y)) * D.swapaxes(1, 2)
    there = there * E.swapaxes(1, 2)
    proven = np.isfinite(here)
    assert proven.mean() > 0.8
    assert ((there / here)[proven] < 4).all()
    assert ((here / there)[proven] < 4).all()


def test_sharpness():
    """Near the errors once these are large; where all is rounding within 20 n times the median."""
    rng = np.random.default_rng(3)
    for n in (3, 8, 14):
        A = rng.standard_normal((6, n, n))
        exact = np.linalg.inv(A)
        for noise, most in ((1e-6, 3.0), (0.0, 20.0 * n)):
            X = exact * (1 + noise * rng.standard_normal(A.shape))
            bound = radius_of(A, X)
            ratios = [
                np.median(
                    [
                        r / float(e) ** 0.5
                        for r, e in zip(np.ravel(b), np.ravel(s), strict=True)
                        if e
                    ]
                )
                for b, s in zip(bound, map(squared_errors, A, X), strict=True)
            ]
            assert np.median(ratios) <= most


@every_library
@every_price
def test_what_proves_nothing(convert, sharp):
    """Singular matrices, NaN, infinities, inverses of others: inf, in every entry."""
    X = np.linalg.inv([[2.0, 1.0], [1.0, 3.0]])
    A = np.array([[[1, 1], [1, 1]], [[2, np.nan], [1, 3]], [[2, np.inf], [1, 3]], [[0, 0], [0, 0]]])
    A, X = convert(A), convert(np.broadcast_to(X, (4, 2, 2)).copy())
    assert (np.asarray(radius_of(A, X, sharp)) == np.inf).all()
    A = convert(np.array([[2.0, 1.0], [1.0, 3.0]]))
    for wrong in (0.0, np.nan, np.inf, -np.inf, 5.0):
        X = convert(np.full((2, 2), wrong))
        assert (np.asarray(radius_of(A, X, sharp)) == np.inf).all()


@every_price
def test_shapes_and_dtypes(sharp):
    """(..., n, n), empty, of any memory order, integers and single precision, all in float64."""
    A = np.array([[4, 1], [2, 3]])
    X = np.array([[0.3, -0.1], [-0.2, 0.41]])
    reference = radius_of(A, X, sharp)
    assert reference.shape == (2, 2)
    assert reference.dtype == np.float64
    for B in (np.asfortranarray(A), A.tolist(), A.astype(np.int8), A.repeat(2, 1)[:, ::2]):
        bound = residual_bound(B, X, componentwise=True, sharp=sharp)
        np.testing.assert_array_equal(bound, reference)
    many = np.broadcast_to(A, (3, 2, 2, 2)), np.broadcast_to(X, (3, 2, 2, 2))
    bound = residual_bound(*many, componentwise=True, sharp=sharp)
    np.testing.assert_array_equal(bound, np.broadcast_to(reference, bound.shape))
    empty = np.zeros((0, 2, 2))
    assert radius_of(empty, empty, sharp).shape == (0, 2, 2)
    single = residual_bound(
        torch.tensor(A, dtype=torch.float32),
        torch.tensor(X, dtype=torch.float32),
        componentwise=True,
        sharp=sharp,
    )
    assert single.dtype == torch.float64
    assert violations(A, np.float32(X).astype(float), single.numpy()) == 0


@every_price
def test_subnormal_numbers(sharp):
    """What underflows on the way is allowed for."""
    A = np.array([[2.0**-1060, 0.0], [2.0**-1070, 2.0**900]])
    X = np.array([[2.0**1020, 0.0], [-(2.0**-950), 2.0**-900]])
    assert violations(A, X, radius_of(A, X, sharp)) == 0
    X = np.array([[1e-310, 0], [0, 1e-320]])
    A = np.diag([1e308, 1e308])
    assert violations(A, X, radius_of(A, X, sharp)) == 0


@pytest.mark.parametrize("kind", ["rows", "stack", "tensor", "complex", "single", "dask"])
def test_reports_bound_every_entry(kind):
    """The radius of a report is for the answers as they are given back, whatever became of them."""
    rng = np.random.default_rng(0)
    center = 3 * np.eye(3) + rng.standard_normal((3, 3)) / 3
    A = center + rng.standard_normal((12, 3, 3)) * np.logspace(-3, 0, 12)[:, None, None]
    A[3], A[7, 0, 0] = 1.0, np.nan
    A = A + 1j * A.swapaxes(1, 2) if kind == "complex" else A
    A = A.astype(np.float32) if kind == "single" else A
    given = {
        "rows": lambda: A.reshape(12, 9).copy(),
        "tensor": lambda: torch.tensor(A),
        "dask": lambda: pytest.importorskip("dask.array").from_array(A, chunks=(5, 3, 3)),
    }.get(kind, A.copy)()
    first = center + 1j * center.T if kind == "complex" else center
    model = CertifiedInverse(LinearInverseApprox(first)).fit()
    found, plain = model.report(given), model.report(given)
    assert "radius" not in found
    found = pickle.loads(pickle.dumps(found))
    if kind != "dask":
        given[...] = 0  # what it was is known
    assert tuple(found.radius.shape) == tuple(found.inverse.shape)
    assert "radius" in found
    X, radius = (np.asarray(part).reshape(A.shape) for part in (found.inverse, found.radius))
    np.testing.assert_array_equal(X, np.asarray(plain.inverse).reshape(A.shape))
    assert radius.dtype == np.float64
    answered = np.isfinite(np.asarray(found.bound))
    assert (np.isfinite(radius).all(axis=(1, 2)) == answered).all()
    assert answered.sum() == 10
    assert all(violations(A[i], X[i], radius[i]) == 0 for i in np.flatnonzero(answered))
    assert radius[answered].max() < 1e-3
