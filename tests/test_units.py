"""Rows and columns in different units: matrices are fitted, refined and proven all the same."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hostile import rational
from sklearn.base import BaseEstimator

from skinv import CertifiedInverse, LinearInverseApprox, NeuralInverseRegressor
from skinv.bounds import residual_bound

TOL = 1e-12


def covariances(rng):
    """Three quantities with standard deviations 1e4, 1e-2 and 1e2."""
    noise = 0.02 * rng.uniform(-1, 1, (40, 3, 3))
    R = np.array([[1, -0.2, 0.5], [-0.2, 1, -0.1], [0.5, -0.1, 1]]) + noise + noise.swapaxes(1, 2)
    R[:, range(3), range(3)] = 1
    d = np.array([1e4, 1e-2, 1e2])
    A = d[:, None] * R * d
    return (A + A.swapaxes(1, 2)) / 2


def navigation(rng):
    """Covariances of positions in metres, angles in radians, and biases near 1e-6."""
    d = np.repeat([10.0, 1e-3, 1e-6], 3)
    L = np.eye(9) + 0.1 * rng.standard_normal((9, 9)) + 0.01 * rng.standard_normal((40, 9, 9))
    A = d[:, None] * (L @ L.swapaxes(1, 2)) * d
    return (A + A.swapaxes(1, 2)) / 2


def rates(rng):
    """Balances of three states: two rows of rates near 1e-9, and one that says they add up."""
    a, b, c, d = (1.5 + 0.1 * rng.uniform(-1, 1, (4, 40))) * 1e-9
    zero, one = 0 * a, np.ones(40)
    rows = [[one, one, one], [a, -b - c, d], [zero, c, -d]]
    return np.array(rows).transpose(2, 0, 1)


def admittances(rng):
    """Two nodes and the current of an inductor, whose equation has volts, at 1e8 radians a second.

    From siemens of 1e-9 to reactances of 1e5.
    """
    w = 1e8 * (1 + 0.02 * rng.uniform(-1, 1, 40))
    A = np.zeros((40, 3, 3), complex)
    A[:, 0, 0] = A[:, 1, 1] = 1e-9 + 1e-12j * w
    A[:, 0, 1] = A[:, 1, 0] = -0.3e-12j * w
    A[:, 1, 2] = A[:, 2, 1] = 1.0
    A[:, 2, 2] = -1e-3j * w
    return A


def cameras(rng):
    """Intrinsic matrices: focal lengths and centres in pixels beside a 1."""
    A = np.zeros((40, 3, 3))
    A[:, 0, 0], A[:, 1, 1] = 4e3 + 20 * rng.standard_normal((2, 40))
    A[:, 0, 2], A[:, 1, 2], A[:, 2, 2] = 2000.0, 1500.0, 1.0
    return A


def designs(rng):
    """Polynomials at five points near 100, 200, ... 500."""
    x = np.arange(100.0, 600.0, 100.0) + rng.uniform(-1, 1, (40, 5))
    return x[:, :, None] ** np.arange(5)


FAMILIES = (covariances, navigation, rates, admittances, cameras, designs)
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)


def exact_errors(A, X):
    """Relative errors of inverses in the Frobenius norm, in rational arithmetic, rounded."""
    errors = []
    for a, x in zip(A, X, strict=True):
        exact, given = rational(a).inv(), rational(x)
        squares = [
            sum(Fraction(int(v.p), int(v.q)) ** 2 for row in M.tolist() for v in row)
            for M in (exact - given, exact)
        ]
        errors.append(float(squares[0] / squares[1]) ** 0.5)
    return np.array(errors)


def in_other_units(A, rng):
    """The same matrices after rows and columns were multiplied with powers of two."""
    rows, columns = np.ldexp(1.0, rng.integers(-40, 40, (2, A.shape[1])))
    if (A.conj().swapaxes(1, 2) == A).all():
        columns = rows
    return rows[:, None] * A * columns, 1 / columns[:, None] / rows


@every_family
def test_all_is_proven(family):
    """fit accepts, and every answer is proven, and right, without LAPACK."""
    A = family(np.random.default_rng(0))
    model = CertifiedInverse(LinearInverseApprox(), tol=TOL).fit(A[:20])
    report = model.report(A)
    assert set(report.status) <= {"predicted", "refined"}
    errors = exact_errors(A, report.inverse)
    assert (report.bound <= TOL).all()
    assert (errors <= report.bound).all()
    with np.errstate(all="ignore"):
        ours = residual_bound(A, np.linalg.inv(A))
    assert (ours <= 100 * TOL).all()


@every_family
def test_units_change_nothing(family):
    """In units off by powers of two bounds of entries are the same but for these; all is proven."""
    rng = np.random.default_rng(1)
    A = family(rng)
    B, back = in_other_units(A, rng)
    plain, other = (
        CertifiedInverse(LinearInverseApprox(), tol=TOL).fit(M[:20]).report(M) for M in (A, B)
    )
    np.testing.assert_array_equal(
        residual_bound(B, plain.inverse * back, componentwise=True),
        residual_bound(A, plain.inverse, componentwise=True) * back,
    )
    assert (other.bound <= TOL).all()


@every_family
@pytest.mark.parametrize(
    "estimator",
    [LinearInverseApprox(), NeuralInverseRegressor(max_iter=1, random_state=0)],
    ids=["series", "network"],
)
def test_fits(family, estimator):
    """What is regular once it is scaled is accepted, by every estimator alike."""
    A = family(np.random.default_rng(2))
    estimator.fit(A)
    CertifiedInverse(estimator).fit(A)


def test_singular_matrices_are_refused():
    """Those that no scaling helps are named."""
    A = covariances(np.random.default_rng(3))
    A[5, 2] = A[5, 0] * 1e-6
    with pytest.raises(ValueError, match=r"rows \[5\] \(1 of 40\) are singular"):
        CertifiedInverse(NeuralInverseRegressor(max_iter=1)).fit(A)


@every_family
def test_solutions(family):
    """Proven, too, in whatever units the right-hand sides are."""
    rng = np.random.default_rng(4)
    A = family(rng)
    n = A.shape[1]
    b = A @ (rng.uniform(1, 2, (40, n, 1)) / np.abs(A).max(axis=(0, 1))[:, None])
    model = CertifiedInverse(LinearInverseApprox(), tol=TOL).fit(A[:20])
    x, bound = model.solve(A, b, return_bound=True)
    assert (bound <= 10 * TOL).all()
    for a, c, found, most in zip(A[:10], b[:10], x[:10], bound[:10], strict=True):
        matrix = rational(a + 0j)
        sides = [np.concatenate([v.real, v.imag]) for v in (c, found)]
        exact = matrix.inv() * rational(sides[0]) - rational(sides[1])
        error = sum(Fraction(int(v.p), int(v.q)) ** 2 for row in exact.tolist() for v in row)
        size = sum(Fraction(float(v)) ** 2 for v in sides[1].ravel())
        assert error <= Fraction(float(most[0])) ** 2 * size


@pytest.fixture
def flushed():
    """Subnormal numbers are flushed to zero, if this processor can."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    yield
    torch.set_flush_denormal(False)


class Told(BaseEstimator):
    """Predicts what it was given."""

    def __init__(self, X):
        self.X = X

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        return self.X.reshape(len(X), -1)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_subnormal_sides_that_are_flushed(convert, flushed):
    """Beside a row in units of 2^-1020 they are not small."""
    A, b = np.diag([1.0, 2.0**-1020])[None], np.array([[1.0, 2.0**-1030]])
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit()
    x, bound = model.solve(convert(A), convert(b), return_bound=True)
    assert float(bound[0]) == np.inf or float(x[0, 1]) == 2.0**-10


def test_subnormal_entries_that_are_flushed(flushed):
    """They are scaled, though they compare as zero."""
    A, X = np.eye(3), np.eye(3)
    A[:2, :2] = [[1, 1], [1, 1 + 2.0**-30]]
    X[:2, :2] = [[2.0**30 + 1, -(2.0**30)], [-(2.0**30), 2.0**30]]
    A[0, 2], X[2, 0] = 2.0**-1023, 2.0**1000
    assert residual_bound(A, X, componentwise=True)[0, 2] >= 2.0**-993


def test_nearly_symmetric_matrices_that_are_flushed(flushed):
    """Those that differ by subnormal numbers are not symmetric."""
    B = np.array([[[2.0**-1000, 2.0**-1030], [0, 2.0**-1000]]])
    X = np.array([[[2.0**1000, -(2.0**970)], [0, 2.0**1000]]])
    np.testing.assert_array_equal(CertifiedInverse(Told(X)).report(B).inverse, X)


def test_rows_of_symmetric_matrices_are_apart():
    """A zero diagonal in the batch changes no other bound."""
    S = np.array([[[1, 0.1], [0.1, 1]], [[0, 1], [1, 0]]])
    first, both = (CertifiedInverse(Told(np.linalg.inv(A))).report(A) for A in (S[:1], S))
    assert first.bound[0] == both.bound[0]


def test_right_hand_sides_of_zero():
    """Their solutions are zero, and proven, in any units."""
    A = np.array([[[1.0, 0.5e-200], [0.2, 1e-200]]])
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit()
    x, bound = model.solve(A, np.array([[[0.0, 1.0], [0.0, 1.0]]]), return_bound=True)
    assert (x[0, :, 0] == 0).all()
    assert bound[0, 0] == 0
    assert 0 < bound[0, 1] <= 1e-12
