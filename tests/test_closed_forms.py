"""Closed forms of orders 1 to 4: their bounds, where they have none, and what comes instead."""

import ctypes
import itertools
import platform
import sys

import hostile
import numpy as np
import pytest
from test_inv import holds

import skinv
from skinv._linalg.closed import _TERMS, CLOSED, GOOD
from skinv._linalg.inverses import MAX_CONDITION, training_inverses
from skinv._linalg.small import inverses_like_lapack, small_inverses

ORDERS = pytest.mark.parametrize("n", range(1, CLOSED + 1))
EPS = 2.0**-53


def closed(A):
    X, bound = np.empty_like(A), np.empty(len(A))
    small_inverses(A, X, bound)
    return X, bound


def all_hold(A, X, bound):
    return all(holds(*each) for each in zip(A, X, bound, strict=True) if each[2] < np.inf)


def cancelling(rng, m, n):
    """Nearly of rank one, so that little is left of cofactors and determinants."""
    A = rng.standard_normal((m, n, 1)) * rng.standard_normal((m, 1, n))
    return A + 10.0 ** -rng.uniform(0, 8, (m, 1, 1)) * rng.standard_normal((m, n, n))


@ORDERS
def test_permanents(n):
    """per(|A|) <= c r_1···r_n, as large as that for equal entries (Carlen, Lieb & Loss 2006)."""
    rng, c = np.random.default_rng(n), _TERMS[n][0]
    A = np.concatenate([np.ones((1, n, n)), rng.uniform(size=(300, n, n)) ** 4])
    permanent = sum(
        np.prod([A[:, i, j] for i, j in enumerate(order)], axis=0)
        for order in itertools.permutations(range(n))
    )
    share = permanent / np.prod(np.linalg.norm(A, axis=2), axis=1)
    assert np.isclose(share[0], c)
    assert (share <= c * (1 + 1e-12)).all()


@ORDERS
def test_bounds(n):
    """They hold, and are close to those of rounding; of singular matrices there are none."""
    rng = np.random.default_rng(n)
    A = rng.standard_normal((60, n, n))
    units = 2.0 ** rng.integers(-9, 10, (2, 60, n))
    families = (A, cancelling(rng, 60, n), A * units[0][:, :, None], A * units[1][:, None])
    for stack in (*families, hostile.matrices(n, 60, np.float64, n)):
        X, bound = closed(stack)
        finite = np.isfinite(bound)
        assert all_hold(stack, X, bound)
        kappa = np.linalg.norm(stack[finite], axis=(1, 2)) * np.linalg.norm(X[finite], axis=(1, 2))
        assert (bound[finite] <= 4 * GOOD * n * EPS * kappa).all()
    assert np.isfinite(closed(A)[1]).mean() > 0.9
    singular = rng.integers(-9, 10, (20, n, n)).astype(float)
    singular[:, -1] = singular[:, 0] * (n > 1)
    assert (closed(singular)[1] == np.inf).all()


@ORDERS
def test_units(n):
    """Outside of a range of sizes, where what underflows might matter, others have the proof."""
    A = np.random.default_rng(n).standard_normal((20, n, n)) + 3 * np.eye(n)
    X, bound = closed(A)
    for k in (-1060, -600, -300, -60, 60, 66, 300, 600, 1000):
        stack = np.ldexp(A, k)
        Y, other = closed(stack)
        good = np.isfinite(other)
        np.testing.assert_array_equal(np.ldexp(Y[good], k), X[good])
        np.testing.assert_array_equal(other[good], bound[good])
        assert good.all() == good.any() == (abs(k) < 62)
        report = skinv.inv(stack, return_report=True)
        assert np.isfinite(report.bound).all() == (k != -1060)
        assert all_hold(stack, report.inverse, report.bound)
    stack = np.stack([np.full((n, n), value) for value in (np.nan, np.inf, -np.inf, 0.0, 5e-324)])
    assert (closed(stack)[1] == np.inf).all()


@ORDERS
def test_symmetry(n):
    """Inverses of symmetric matrices are symmetric to the last bit, among others that are not."""
    A = np.random.default_rng(n).standard_normal((50, n, n))
    A[::2] += A[::2].swapaxes(1, 2)
    report = skinv.inv(A, return_report=True)
    X = report.inverse[::2]
    np.testing.assert_array_equal(X, X.swapaxes(1, 2))
    assert all_hold(A, report.inverse, report.bound)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="codes of x86"
)
@pytest.mark.parametrize("code", [0x400, 0x800, 0xC00], ids=["down", "up", "to zero"])
def test_other_directions_of_rounding(code):
    """Of diagonal matrices every product of the determinant is rounded in one direction."""
    rng, rounding = np.random.default_rng(code), ctypes.CDLL("libm.so.6").fesetround
    for n in range(1, CLOSED + 1):
        stacks = rng.uniform(1, 2, (500, n, 1)) * np.eye(n), rng.standard_normal((60, n, n))
        for A in stacks:
            rounding(code)
            try:
                X, bound = closed(A)
            finally:
                rounding(0)
            assert np.isfinite(bound).mean() > 0.9
            assert all_hold(A, X, bound)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 9, 17])
def test_targets(n):
    """As accurate as LAPACK's, which they are where a matrix is singular, or nearly so."""
    A = np.concatenate([hostile.matrices(n, 60, np.float64, n), np.ones((1, n, n))])
    A = A[np.isfinite(A).all(axis=(1, 2))]
    X = inverses_like_lapack(A)
    with np.errstate(all="ignore"):
        regular = np.linalg.slogdet(A)[0] != 0
        Y = np.full_like(A, np.nan)
        Y[regular] = np.linalg.inv(A[regular])
        kappa = np.linalg.norm(A, axis=(1, 2)) * np.linalg.norm(Y, axis=(1, 2))
        off = np.linalg.norm(X - Y, axis=(1, 2)) / np.linalg.norm(Y, axis=(1, 2))
    same = ((X == Y) | (np.isnan(X) & np.isnan(Y))).all(axis=(1, 2))
    assert (same | (off <= 4 * GOOD * n * EPS * kappa)).all()
    rows = np.eye(n).reshape(1, -1) * np.array([[1.0], [1e3]])
    np.testing.assert_array_equal(training_inverses(rows)[1], rows[0] / 1e3)
    if n > 1:
        u, v = np.ones((n, 1)), np.arange(1.0, n + 1)
        near = (u * v + 1e-9 * np.diag(v)).reshape(1, -1)
        assert np.linalg.cond(near.reshape(n, n)) > MAX_CONDITION
        with pytest.raises(ValueError, match=r"rows \[2\]"):
            training_inverses(np.concatenate([rows, near]))
