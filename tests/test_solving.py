"""Attacks on the proven errors of CertifiedInverse.solve.

The oracle solves by ball arithmetic on the exact binary values, to as many digits as it takes.
"""

import functools
from fractions import Fraction
from types import SimpleNamespace

import hostile
import numpy as np
import pytest
import torch
from backends import TYPES, every_dtype
from conftest import random_family
from flint import arb, arb_mat, ctx
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
)
from skinv._arrays.conversion import namespace
from skinv._linalg.arithmetic import Arithmetic
from skinv.certified import _anchor as anchors
from skinv.certified import _iteration as solving
from skinv.certified._anchor import Anchor
from skinv.certified._iteration import solve_near, solve_with
from skinv.certified._sides import rounded_solution, take_better, unknown

ORDERS = (1, 2, 3, 5, 8, 16, 32)
FALLBACKS = ("exact", "nan", "keep", "raise")


# The oracle.


def true_errors(A, b, x):
    """Return proven lower bounds of ‖x − A⁻¹b‖₂ / ‖x‖₂ for each column of a stack (m, n, k)."""
    A, b, x = (np.asarray(a, dtype=np.float64) for a in (A, b, x))
    errors = np.full((len(A), b.shape[2]), np.inf)
    for i, matrix in enumerate(A):
        oracle = hostile.Oracle(matrix)
        if oracle.singular:
            continue
        for k in np.flatnonzero(np.isfinite(x[i]).all(axis=0) & np.isfinite(b[i]).all(axis=0)):
            errors[i, k] = _true_error(oracle, b[i, :, k], x[i, :, k])
    return errors


def _true_error(oracle, b, x):
    columns = [arb_mat([[value] for value in v.tolist()]) for v in (b, x)]
    size = sum(arb(value) ** 2 for value in x.tolist())
    while True:
        with ctx.workprec(oracle.bits):
            entries = (oracle.inverse * columns[0] - columns[1]).entries()
            low = sum(e.abs_lower() ** 2 for e in entries)
            high = sum(e.abs_upper() ** 2 for e in entries)
            if oracle.bits >= 4096 or high <= low * 1.0001 or high < size * 1e-60:
                break
        oracle.bits *= 2
        oracle._invert()
    if size == 0:
        return 0.0 if not low > 0 else np.inf
    with ctx.workprec(128):
        ratio = float((low / size).lower().sqrt())
    return ratio * (1 - 1e-15)


def violations(A, b, x, bound):
    """Count bounds that are NaN, negative, or below the error."""
    A, b, x, bound = (np.asarray(a) for a in (A, b, x, bound))
    if b.ndim == 2:
        b, x, bound = b[:, :, None], x[:, :, None], bound[:, None]
    assert x.shape == b.shape
    assert bound.shape == (b.shape[0], b.shape[2])
    assert bound.dtype == np.float64
    return hostile.count_violations(bound, true_errors(A, b, x))


# Matrices, right-hand sides and models.


@functools.cache
def center_of(n, seed=0):
    return random_family(n, 1, seed=seed)[0]


@functools.cache
def model_of(n, tol=1e-6, fallback="exact"):
    return CertifiedInverse(LinearInverseApprox(center_of(n)), tol=tol, fallback=fallback).fit()


def around(center, q, rng):
    """Return center + E with ‖center⁻¹‖₂‖E‖_F = q: dense E, E of rank one, or one entry."""
    n = len(center)
    kind = rng.randint(3)
    E = rng.standard_normal((n, n))
    if kind == 1:
        E = np.outer(E[0], E[:, 0])
    elif kind == 2:
        E = np.zeros((n, n))
        E[rng.randint(n), rng.randint(n)] = rng.choice([-1, 1])
    return center + q * np.linalg.svd(center, compute_uv=False)[-1] * E / np.linalg.norm(E)


def matrices(n, m, dtype, seed):
    """Return matrices near the centre, at the border, far, hostile, scaled, and not finite."""
    rng = np.random.RandomState(seed)
    center = center_of(n)
    levels = (0.0, 1e-16, 1e-13, 1e-8, 1e-3, 0.1, 0.4, 0.49, 0.5, 0.6, 0.89, 0.9, 0.95, 1, 1.1, 3)
    power = 30 if dtype == np.float32 else 150
    with np.errstate(over="ignore"):
        A = [around(center, q, rng) for q in levels]
        A += [around(center, 0.3, rng) * 10.0**e for e in (-power, power)]
        A = np.concatenate([np.array(A).astype(dtype), hostile.matrices(n, m, dtype, seed)])
    for value in (np.nan, np.inf, -np.inf):
        bad = center.astype(dtype)
        bad[rng.randint(n), rng.randint(n)] = value
        A = np.concatenate([A, bad[None]])
    return A[rng.permutation(len(A))]


def right_hand_sides(n, m, k, dtype, seed, extreme=False):
    """Return right-hand sides (m, n, k), a kind drawn at random for each column."""
    rng = np.random.RandomState(seed)
    b = rng.standard_normal((m, n, k))
    info = np.finfo(dtype)
    scales = [1, 1, 0, 1e10]
    if extreme:
        large, tiny = float(info.max) / 1e8, float(info.tiny)
        scales = [1, 0, large, tiny * 1e8, tiny, 3 * float(info.smallest_subnormal)]
    b = b * rng.choice(scales, (m, 1, k))
    hot = rng.uniform(size=(m, k)) < 0.2
    keep = rng.randint(n, size=(m, 1, k)) == np.arange(n)[:, None]
    b = np.where(hot[:, None] & ~keep, 0.0, b)
    b[rng.uniform(size=m) < 0.05, 0, -1] = np.nan
    with np.errstate(all="ignore"):
        return b.astype(dtype)


def solve(model, A, b, convert=np.asarray):
    """Solve, and see that the inputs are left as they were."""
    A, b = convert(A), convert(b)
    before = [a.clone() if torch.is_tensor(a) else a.copy() for a in (A, b)]
    x, bound = model.solve(A, b, return_bound=True)
    for old, new in zip(before, (A, b), strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
    return x, bound


# Bounds.


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("dtype_A", TYPES)
@pytest.mark.parametrize("dtype_b", TYPES)
@pytest.mark.parametrize("fallback", ["exact", "keep"])
def test_no_bound_is_below_the_error(n, dtype_A, dtype_b, fallback):
    """Whatever the matrices and right-hand sides, every bound is at least the error."""
    seed = ORDERS.index(n) + 10 * TYPES.index(dtype_A)
    A = matrices(n, 13 if n > 8 else 26, dtype_A, seed)
    b = right_hand_sides(n, len(A), 2, dtype_b, seed)
    tol = {"exact": 1e-6, "keep": 1e-3}[fallback]
    x, bound = solve(model_of(n, tol, fallback), A, b)
    assert x.dtype == np.result_type(dtype_A, dtype_b)
    assert violations(A, b, x, bound) == 0
    assert np.isfinite(bound).mean() > 0.25


@pytest.mark.parametrize("n", ORDERS)
@every_dtype
def test_extreme_right_hand_sides(n, dtype):
    """Right-hand sides near overflow, near underflow and subnormal have bounds that hold."""
    A = matrices(n, 39, dtype, 50 + n)
    b = right_hand_sides(n, len(A), 3, dtype, n, extreme=True)
    assert violations(A, b, *solve(model_of(n), A, b)) == 0


@pytest.mark.parametrize(
    ("A", "b"),
    [
        (2.0**400 * np.eye(2), [1e-215, 1e-215]),  # 0 over the unit
        (2.0**300 * np.diag([1, 2.0**-16]), [0, 1.4 * 2.0**-774]),  # one digit over the unit
        (2.0 * np.eye(2), [5e-324, 0]),  # half a digit in x
        (5.0 * np.eye(32), [1e-323] * 32),
    ],
)
def test_underflow(A, b):
    """Digits that underflow takes from b or x are in the bound."""
    A, b = A[None], np.array([b])
    model = CertifiedInverse(LinearInverseApprox(A[0])).fit()
    assert violations(A, b, *model.solve(A, b, return_bound=True)) == 0


@pytest.mark.parametrize("power", [-300, -150, 150, 300])
@pytest.mark.parametrize("n", [1, 3, 8])
def test_huge_and_tiny_centres(n, power):
    """Anchors at huge and tiny centres are as good as others."""
    rng, scale = np.random.RandomState(n), 10.0**power
    center = center_of(n) * scale
    A = np.array([around(center_of(n), q, rng) * scale for q in (0, 1e-9, 0.1, 0.6, 0.95, 2)])
    b = np.stack([right_hand_sides(n, len(A), 1, np.float64, s)[:, :, 0] for s in (1, 2)], axis=2)
    b *= 10.0 ** (power / 2)
    model = CertifiedInverse(LinearRegression()).fit(
        center_of(n).ravel() * (1 + 0.1 * rng.uniform(-1, 1, (3 * n * n + 3, n * n)))
    )
    model._anchor = Anchor.of(center)
    assert model._anchor is not None
    x, bound = model.solve(A, b, return_bound=True)
    assert violations(A, b, x, bound) == 0
    good = np.isfinite(b).all(axis=1)
    good[~np.isfinite(b).all(axis=(1, 2)) & (np.arange(6) > 2)] = False
    assert (bound[good] <= 1e-6).all()


@pytest.mark.parametrize("n", [2, 5, 12])
def test_ill_conditioned_centres(n):
    """Anchors with condition numbers up to 1e12, and matrices at their borders."""
    rng = np.random.RandomState(n)
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    for digits in (2, 6, 9, 11, 13):
        center = (U * np.logspace(0, -digits, n)) @ V
        anchor = Anchor.of(center)
        assert (anchor is None) == (digits == 13)
        if anchor is None:
            continue
        A = np.array([around(center, q, rng) for q in np.r_[0, 1e-6, 0.1, 0.4, 0.6, 0.8, 0.9, 1]])
        b = rng.standard_normal((len(A), n, 3))
        b[:, :, 1] = (A @ b[:, :, 1:2])[:, :, 0]
        for tol in (1e-2, 1e-6, 1e-12):
            x, bound = solve_near(anchor, A, b, tol)
            assert violations(A, b, x, bound) == 0
        assert np.isfinite(bound[:3]).all() or digits > 8


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_hostile_inverses(n):
    """solve_with answers for any approximate inverse."""
    A = hostile.matrices(n, 130 if n < 16 else 65, np.float64, seed=n)
    P = hostile.approximations(A, seed=n)
    rng = np.random.RandomState(n)
    b = rng.standard_normal((len(A), n, 2)) * rng.choice([1, 1, 0, 1e5], (len(A), 1, 2))
    for tol in (1e-1, 1e-6, 1e-14):
        x, bound = solve_with(P, A, b, tol)
        assert violations(A, b, x, bound) == 0
        assert (bound <= 1e-6).any()


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_contraction(n):
    """‖I − PA‖ is not underestimated, whatever cancels, nor overestimated by much near by."""
    rng = np.random.RandomState(n)
    center = center_of(n)
    anchor = Anchor.of(center)
    q = np.r_[0, 10.0 ** np.arange(-17, 0.0), 0.3, 0.49, 0.51, 0.7, 0.9, 1.2, 5]
    A = np.array([around(center, value, rng) for value in np.repeat(q, 5)])
    known = anchors.contraction(anchor, A)
    P, w = arb_mat(anchor.inverse.tolist()), anchor.weights
    for i, matrix in enumerate(A):
        with ctx.workprec(300):
            R = arb_mat([[float(j == k) for k in range(n)] for j in range(n)])
            R = np.array((R - P * arb_mat(matrix.tolist())).tolist(), dtype=object)
            R = np.vectorize(float)(R)
        true = (abs(R) @ w / w).max() if known.weighted[i] else np.linalg.norm(R, 2)
        assert known.q[i] >= true * (1 - 1e-13)
        assert known.q[i] <= true * (n if n > 1 else 1.001) * 1.5 + 1e-4
        assert known.size_A[i] >= np.linalg.norm(matrix) * (1 - 1e-15)


@pytest.mark.parametrize("n", [1, 3])
def test_rounding_of_solutions(n):
    """Bounds of rounded solutions hold for the worst solution that the old ones allow."""
    rng = np.random.RandomState(n)
    x = rng.standard_normal((300, n, 1)) * 10.0 ** rng.uniform(-46, 39, (300, 1, 1))
    bound = 10.0 ** rng.uniform(-17, 0, (300, 1))
    x[:5], bound[:5] = 0, 0
    y, new = rounded_solution(x, np.float32, bound)
    assert y.dtype == np.float32
    for i in np.flatnonzero(np.isfinite(new[:, 0])):
        old, to = ([Fraction(float(v)) for v in a[i, :, 0]] for a in (x, y))
        moved = [v - u for u, v in zip(old, to, strict=True)]
        share = Fraction(float(bound[i, 0]))
        for sign in (-1, 1):  # in one dimension the worst
            error = sum((m + sign * share * u) ** 2 for m, u in zip(moved, old, strict=True))
            assert Fraction(float(new[i, 0])) ** 2 * sum(v**2 for v in to) >= error
    assert np.isfinite(new).mean() > 0.8
    assert (new[:5] == 0).all()
    same, kept = rounded_solution(x, np.float64, bound)
    assert same is x
    assert kept is bound


def test_take_better():
    """Smaller bounds win, ties stay, and NaN is replaced whatever its bound."""
    for convert in (np.array, torch.tensor):
        x, bound = unknown(convert(np.zeros((4, 1, 2))))
        x[1:], bound[1:] = 1.0, convert([0.5, np.inf])
        rows = np.array([0, 1, 3])
        new = convert(np.array([[0.2, np.inf], [0.5, 1.0], [np.inf, np.inf]]))
        take_better(x, bound, rows, convert(np.full((3, 1, 2), 7.0)), new)
        expected = [[7, 7], [1, 7], [1, 1], [1, 7]]
        np.testing.assert_array_equal(np.asarray(x)[:, 0], expected)
        expected = [[0.2, np.inf], [0.5, 1], [0.5, np.inf], [0.5, np.inf]]
        np.testing.assert_array_equal(np.asarray(bound), expected)


def _smaller_contraction(monkeypatch):
    right = solving.contraction

    def wrong(*args):
        known = right(*args)
        return known._replace(q=known.q / 10)

    monkeypatch.setattr(solving, "contraction", wrong)


def _no_rounding(monkeypatch):
    exact = SimpleNamespace(of=lambda array: Arithmetic(1e-30, 0.0, 1e308))
    monkeypatch.setattr(solving, "Arithmetic", exact)
    monkeypatch.setattr(anchors, "Arithmetic", exact)


def _bound_of_the_last_step(monkeypatch):
    right = solving._iterate

    def wrong(*args):
        x, bound = right(*args)
        return x, bound / 100

    monkeypatch.setattr(solving, "_iterate", wrong)


@pytest.mark.parametrize("spoil", [_smaller_contraction, _no_rounding, _bound_of_the_last_step])
def test_attacks_find_wrong_bounds(monkeypatch, spoil):
    """Bounds that are wrong on purpose are caught."""
    n, rng = 3, np.random.RandomState(0)
    anchor = Anchor.of(center_of(n))
    spoil(monkeypatch)
    A = np.array([around(center_of(n), q, rng) for q in np.linspace(0.05, 0.89, 200)])
    b = rng.standard_normal((200, n, 1))
    x, bound = solve_near(anchor, A, b, 1e-17 if spoil is _no_rounding else 1e-2)
    assert violations(A, b, x, bound) > 0


# What is solved, and how.


@pytest.mark.parametrize("fallback", FALLBACKS)
@pytest.mark.parametrize("convert", [np.array, torch.tensor])
@every_dtype
def test_mixed_batch(fallback, convert, dtype):
    """Good rows are within tol, and bad ones NaN with infinite bounds or named in an exception."""
    n, tol = 4, 1e-5
    center = center_of(n)
    A = np.array([center * f for f in (1, 1.1, 0.8, 30, 1, 1, 1, 1)]).astype(dtype)
    A[3, 0, 1] += 100  # regular, but far
    A[4] = np.ones((n, n))  # singular
    A[5, 1, 1], A[6, 2, 0] = np.nan, np.inf
    b = np.random.RandomState(0).standard_normal((len(A), n)).astype(dtype)
    b[7, 0] = np.nan
    model = model_of(n, tol, fallback)
    if fallback == "raise":
        with pytest.raises(ValueError, match=r"rows \[(3, )?4, 5, 6, 7\]"):
            model.solve(convert(A), convert(b))
        A, b = A[:3], b[:3]
    x, bound = solve(model, A, b, convert)
    assert type(x) is type(bound) is type(convert(A))
    assert x.dtype == convert(A).dtype
    x, bound = np.asarray(x), np.asarray(bound)
    assert violations(A, b, x, bound) == 0
    assert (bound[:3] <= tol).all()
    assert (bound[3:4] <= tol).all() or fallback != "exact"
    assert np.isposinf(bound[4:]).all()
    assert np.isnan(x[5:]).any(axis=1).all()
    if fallback == "nan":
        assert np.isnan(x[~(bound <= tol)]).all()
        assert np.isposinf(bound[~(bound <= tol)]).all()


@pytest.mark.parametrize("fallback", ["exact", "nan"])
def test_singular_matrices_are_nan(fallback):
    """Singular matrices come back as NaN, as is documented, not as what iteration left."""
    x, bound = model_of(2, fallback=fallback).solve(np.ones((1, 2, 2)), [[1, 2]], True)
    assert np.isposinf(bound).all()
    assert np.isnan(x).all()


def test_columns_are_independent():
    """A right-hand side that is NaN does not cost the others of its matrix theirs."""
    A, b = 30 * center_of(3)[None] + 10 * np.eye(3)[::-1], np.ones((1, 3, 2))
    b[0, 0, 0] = np.nan
    x, bound = model_of(3).solve(A, b, return_bound=True)
    assert np.isnan(x[0, :, 0]).any()
    assert np.isposinf(bound[0, 0])
    assert bound[0, 1] <= 1e-6


@pytest.mark.parametrize("n", [1, 4, 9])
@pytest.mark.parametrize("dtypes", [TYPES[:1] * 2, TYPES[1:] * 2, TYPES, TYPES[::-1]])
def test_torch_is_as_numpy(n, dtypes):
    """Tensors give what arrays give."""
    A = matrices(n, 13, dtypes[0], n)
    b = right_hand_sides(n, len(A), 3, dtypes[1], n)
    model = model_of(n)
    x, bound = solve(model, A, b)
    y, limit = solve(model, A, b, torch.tensor)
    assert torch.is_tensor(y)
    assert torch.is_tensor(limit)
    assert limit.dtype == torch.float64
    assert y.numpy().dtype == x.dtype
    assert violations(A, b, y.numpy(), limit.numpy()) == 0
    good = bound <= 1e-6
    np.testing.assert_array_equal(limit.numpy() <= 1e-6, good)
    for i, k in np.argwhere(good):
        np.testing.assert_allclose(
            y.numpy()[i, :, k], x[i, :, k], rtol=0, atol=5e-6 * abs(x[i, :, k]).max()
        )


def test_half_precision_and_gradients():
    """Tensors of half precision, and tensors in a graph, are solved in float64."""
    A = torch.tensor(center_of(3)[None], dtype=torch.float64, requires_grad=True)
    b = torch.ones(1, 3, dtype=torch.float64, requires_grad=True)
    with pytest.warns(UserWarning, match="skinv.inv"):
        x, bound = model_of(3).solve(A, b, return_bound=True)
    assert not x.requires_grad
    with pytest.warns(UserWarning, match="to_module"):
        assert not model_of(3).predict(A).requires_grad
    with torch.no_grad():
        assert not model_of(3).estimator_.predict(A).requires_grad
    assert violations(A.detach(), b.detach(), x, bound) == 0
    A, b = A.detach().half(), b.detach().bfloat16()
    x, bound = model_of(3).solve(A, b, return_bound=True)
    assert x.dtype == torch.float64
    assert violations(A.double(), b.double(), x, bound) == 0
    assert bound[0] <= 1e-6


def test_shapes():
    """One right-hand side or k, one matrix or many, rows or a stack."""
    n, rng = 3, np.random.RandomState(0)
    A = center_of(n) + 0.01 * rng.standard_normal((5, n, n))
    b = rng.standard_normal((5, n, 2))
    model = model_of(n)
    x, bound = model.solve(A, b, return_bound=True)
    assert x.shape == (5, n, 2)
    assert bound.shape == (5, 2)
    np.testing.assert_array_equal(model.solve(A.reshape(5, n * n), b), x)
    np.testing.assert_array_equal(model.solve(A.tolist(), b.tolist()), x)
    one, limit = model.solve(A, b[:, :, 0], return_bound=True)
    assert one.shape == (5, n)
    assert limit.shape == (5,)
    np.testing.assert_allclose(one, x[:, :, 0], rtol=1e-6)
    assert model.solve(A[:1], b[:1]).shape == (1, n, 2)
    for convert in (np.asarray, torch.tensor):
        none, limit = model.solve(convert(A), convert(b[:, :, :0]), return_bound=True)
        assert tuple(none.shape) == (5, n, 0)
        assert tuple(limit.shape) == (5, 0)


def test_no_matrices():
    """No tensors of matrices are predicted, and solved."""
    assert model_of(2).predict(torch.zeros(0, 2, 2)).shape == (0, 2, 2)
    assert model_of(2).solve(torch.zeros(0, 2, 2), torch.zeros(0, 2)).shape == (0, 2)


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
@pytest.mark.parametrize(
    ("b", "match"),
    [
        (np.ones(3), r"shape \(3,\) for 2 matrices of order 3"),
        (np.ones((3, 3)), r"\(2, 3\) or \(2, 3, k\) is expected"),
        (np.ones((2, 4)), "is expected"),
        (np.ones((2, 3, 1, 1)), "is expected"),
        (np.array(1.0), "is expected"),
        (np.ones((2, 3), dtype=complex), "complex right-hand sides"),
    ],
)
def test_bad_right_hand_sides(convert, b, match):
    """Wrong shapes and complex numbers are refused in words of ours."""
    A = np.stack([center_of(3)] * 2)
    with pytest.raises(ValueError, match=match):
        model_of(3).solve(convert(A), convert(b))


def test_bad_matrices():
    """Matrices of a wrong order, complex ones and integers past 2⁵³ are refused."""
    b = np.ones((1, 3))
    with pytest.raises(ValueError, match="features"):
        model_of(3).solve(np.eye(2)[None], b[:, :2])
    with pytest.raises(ValueError, match=r"[Cc]omplex"):
        model_of(3).solve(np.eye(3)[None] + 0j, b)
    with pytest.raises(ValueError, match="float64 cannot hold"):
        model_of(3).solve(np.diag([2**53 + 1, 1, 1])[None], b)


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_integers(convert):
    """Integers are solved in float64."""
    A, b = np.array([[[9, 1], [2, 7]], [[8, -1], [1, 8]]]), np.array([[1, 2], [3, -4]])
    model = CertifiedInverse(LinearInverseApprox([[8.0, 0], [0, 8]])).fit()
    x, bound = solve(model, A, b, convert)
    assert np.asarray(x).dtype == np.float64
    assert violations(A, b, np.asarray(x), np.asarray(bound)) == 0
    assert (bound <= 1e-6).all()


def test_lists_for_tensors():
    """Lists of numbers are in double precision beside tensors, too."""
    A = torch.tensor([[[1.0, 0.1], [0.1, 1.0]]], dtype=torch.float64)
    model = CertifiedInverse(LinearInverseApprox(np.eye(2)), tol=1e-12).fit()
    x, bound = model.solve(A, [[0.1, 0.2]], return_bound=True)
    assert violations(A, np.array([[0.1, 0.2]]), x, bound) == 0


def test_read_only_right_hand_sides():
    """Read-only arrays beside tensors are no reason for a warning."""
    b = np.ones((1, 2))
    b.setflags(write=False)
    model_of(2).solve(torch.tensor(center_of(2)[None]), b)


@pytest.mark.parametrize("n", [2, 8])
def test_rows_do_not_depend_on_each_other(n):
    """A subset of the rows has solutions as good, and the same up to the bounds."""
    A = matrices(n, 26, np.float64, n)
    b = right_hand_sides(n, len(A), 1, np.float64, n)[:, :, 0]
    model = model_of(n)
    x, bound = model.solve(A, b, return_bound=True)
    for rows in (slice(0, 1), slice(None, None, 3), slice(None, None, -1)):
        y, limit = model.solve(A[rows], b[rows], return_bound=True)
        good = bound[rows] <= model.tol
        np.testing.assert_array_equal(limit <= model.tol, good)
        scale = abs(y[good]).max(axis=1, initial=1e-300, keepdims=True)
        gap = np.linalg.norm((y[good] - x[rows][good]) / scale, axis=1)
        allowed = (limit[good] + bound[rows][good]) * np.linalg.norm(y[good] / scale, axis=1)
        assert (gap <= allowed * 1.01).all()


@pytest.mark.parametrize("n", ORDERS)
def test_solution_is_inverse_times_b(n):
    """Solutions agree with the inverses of predict."""
    rng = np.random.RandomState(n)
    A = np.array([around(center_of(n), q, rng) for q in np.linspace(0, 2, 20)])
    b = rng.standard_normal((20, n))
    inverse, limit = model_of(n).predict(A, return_bound=True)
    x, bound = model_of(n).solve(A, b, return_bound=True)
    good = (limit <= 1e-6) & (bound <= 1e-6)
    assert good.mean() > 0.8
    gap = np.linalg.norm((inverse @ b[:, :, None])[:, :, 0] - x, axis=1)
    scale = np.linalg.norm(inverse, axis=(1, 2)) * np.linalg.norm(b, axis=1)
    assert (gap <= 3e-6 * scale)[good].all()


# No factorisation near the centre.


def _refuse(*args, **kwargs):
    raise AssertionError("this costs n³ operations")


@pytest.fixture
def no_cubes(monkeypatch):
    """Make all that costs n³ operations fail."""
    # The namespaces of array-api-compat keep what they found when they were imported.
    namespaces = (namespace(np.zeros(1)).linalg, namespace(torch.zeros(1)).linalg)
    for library in (np.linalg, torch.linalg, *namespaces):
        for name in ("solve", "inv", "slogdet", "svd", "cond", "det", "qr"):
            if hasattr(library, name):
                monkeypatch.setattr(library, name, _refuse)
    monkeypatch.setattr(torch.linalg, "inv_ex", _refuse)
    for room in (solving, anchors):
        monkeypatch.setattr(room, "product_error", _refuse)
    monkeypatch.setattr(LinearInverseApprox, "predict", _refuse)


def region_of(n, kind, seed):
    """Return 40 matrices of an l2 ball of 0.1 σ_min, or of a box that Beeck's test gives 0.1."""
    rng = np.random.RandomState(seed)
    center = center_of(n)
    if kind == "ball":
        E = rng.standard_normal((40, n, n))
        E *= 0.1 * np.linalg.svd(center)[1][-1] / np.linalg.norm(E, axis=(1, 2))[:, None, None]
        return center + E
    widths = np.ones((n, n)) if kind == "box" else rng.uniform(0, 1, (n, n)) ** 3
    radius = abs(np.linalg.eigvals(abs(np.linalg.inv(center)) @ widths)).max()
    return center + 0.1 / radius * widths * rng.choice([-1, 1], (40, n, n))


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("kind", ["ball", "box", "unequal box"])
@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_regions_are_solved_by_their_centre(n, kind, convert, request):
    """Inside a region that is certified with room to spare nothing costs n³ operations."""
    A, model = region_of(n, kind, n), model_of(n, 1e-9)
    b = np.random.RandomState(n).standard_normal((40, n, 2))
    model.solve(A[:1], b[:1], return_radius=True)  # the units of a centre are found out once
    request.getfixturevalue("no_cubes")
    x, bound, radius = model.solve(convert(A), convert(b), True, return_radius=True)
    assert (bound <= 1e-9).all()
    assert violations(A, b, x, bound) == 0
    assert (radius < 1e-9 * abs(x).max()).all()


# Regressors of all kinds.


def samples(n, m, seed=0):
    rng = np.random.RandomState(seed)
    return (center_of(n) + 0.1 * rng.uniform(-1, 1, (m, n, n))).reshape(m, n * n)


class Rows(RegressorMixin, BaseEstimator):
    """A regressor without a centre, whose inverses are those of a fixed matrix."""

    def fit(self, X, y=None):
        self.n_features_in_, self.rows_ = np.shape(X)[1], np.linalg.inv(center_of(3)).ravel()
        return self

    def predict(self, X):
        return np.tile(self.rows_, (len(X), 1))


@functools.cache
def regressors():
    net = NeuralInverseRegressor((18,), max_iter=2, random_state=0)
    X = samples(3, 60)
    y = np.linalg.inv(X.reshape(-1, 3, 3)).reshape(X.shape)
    fitted = LinearRegression().fit(X, y)
    return {
        "linear regression": CertifiedInverse(LinearRegression()).fit(X),
        "network": CertifiedInverse(net).fit(X),
        "frozen": CertifiedInverse(FrozenEstimator(fitted)),
        "frozen, refitted": CertifiedInverse(FrozenEstimator(fitted)).fit(X, y),
        "wrapped": CertifiedInverse(fitted),
        "wrapped series": CertifiedInverse(LinearInverseApprox(center_of(3)).fit()),
        "no centre": CertifiedInverse(FrozenEstimator(Rows().fit(X))),
        "scaled": CertifiedInverse(make_pipeline(StandardScaler(), LinearRegression())).fit(X),
    }


NAMES = [
    "linear regression",
    "network",
    "frozen",
    "frozen, refitted",
    "wrapped",
    "wrapped series",
    "no centre",
    "scaled",
]
WITH_CENTRE = {"linear regression", "network", "frozen, refitted", "wrapped series", "scaled"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fallback", ["exact", "nan"])
@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_regressors(name, fallback, convert):
    """Whatever the regressor, and whether it has a centre or not, systems are solved."""
    model = regressors()[name]
    model.set_params(fallback=fallback)
    A = np.concatenate([samples(3, 20, 1).reshape(-1, 3, 3), matrices(3, 13, np.float64, 1)])
    b = right_hand_sides(3, len(A), 2, np.float64, 1)
    x, bound = solve(model, A, b, convert)
    assert violations(A, b, x, bound) == 0
    near = np.isfinite(b[:20]).all(axis=(1, 2))
    if name != "network" or fallback == "exact":
        assert (np.asarray(bound)[:20][near] <= 1e-6).all()
    anchor = model._anchor if hasattr(model, "_anchor") else model._ready()._find_anchor()
    assert (anchor is not None) == (name in WITH_CENTRE)


def test_centre_of_a_pipeline():
    """The region before a regressor has the centre, whatever the regressor is."""
    sampler = FeasibleRegionSampler(center_of(3), 0.1, random_state=0)
    model = CertifiedInverse(make_pipeline(sampler, LinearRegression())).fit(samples(3, 60))
    np.testing.assert_array_equal(model._anchor.center, center_of(3))
    A, b = samples(3, 20, 2).reshape(-1, 3, 3), np.ones((20, 3))
    x, bound = model.solve(A, b, return_bound=True)
    assert violations(A, b, x, bound) == 0
    assert (bound <= 1e-6).all()


def test_steps_with_centres_of_their_own():
    """The medians of RobustScaler are not the centre of a region."""
    model = CertifiedInverse(make_pipeline(RobustScaler(), LinearRegression()))
    model.fit(samples(3, 60))
    assert (model.solve(samples(3, 5), np.ones((5, 3)), return_bound=True)[1] <= 1e-6).all()


def test_anchor_of_what_is_no_centre():
    """Singular, non-finite and nearly singular matrices are no anchors."""
    wrong = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-13]])  # in any units
    for center in (np.ones((2, 2)), np.zeros((1, 1)), np.full((2, 2), np.nan), wrong):
        assert Anchor.of(center) is None
    assert Anchor.of(np.diag([1.0, np.inf])) is None


@pytest.mark.parametrize("error", [1e-12, 1e-3, 0.3, 2.0])
def test_anchor_with_a_wrong_inverse(error):
    """An inverse that is none costs speed or the proof, not its truth."""
    rng = np.random.RandomState(0)
    center = center_of(4)
    P = np.linalg.inv(center) * (1 + error * rng.uniform(-1, 1, (4, 4)))
    anchor = Anchor.from_state(center, P, center[None][:0])
    A = np.array([around(center, q, rng) for q in np.linspace(0, 1, 30)])
    b = rng.standard_normal((30, 4, 2))
    for tol in (1e-2, 1e-8):
        x, bound = solve_near(anchor, A, b, tol)
        assert violations(A, b, x, bound) == 0
    assert (bound[:3] <= 1e-8).all() or error > 0.1


def test_deterministic():
    """The same question has the same answer."""
    A, b = matrices(5, 26, np.float64, 3), right_hand_sides(5, 45, 2, np.float64, 3)
    b = b[: len(A)]
    A = A[: len(b)]
    first, again = (model_of(5).solve(A, b, return_bound=True) for _ in range(2))
    for u, v in zip(first, again, strict=True):
        np.testing.assert_array_equal(u, v)


def test_frozen_regressors_are_not_fitted():
    """A frozen regressor needs no targets, which it would not look at."""
    frozen = FrozenEstimator(LinearRegression().fit(samples(3, 60), samples(3, 60, 1)))
    CertifiedInverse(frozen).fit(samples(3, 60))
