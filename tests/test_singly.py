"""One matrix at a time: proven as in a batch, in memory of its own, whatever comes."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cache

import hostile
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skinv import CertifiedInverse, LinearInverseApprox, PolynomialInverseApprox
from skinv._arrays.shapes import flatten_stack
from skinv.certified._singly import Figures

rng = np.random.default_rng(0)
CENTER = 3 * np.eye(4) + rng.standard_normal((4, 4)) / 4
NEAR = CENTER + 0.1 * rng.standard_normal((200, 4, 4))
WHOLE = CENTER + 0.3j * rng.standard_normal((4, 4))
SYMMETRIC = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])


def cases():
    """Fitted models, and single matrices of all kinds for each."""
    hermitian = WHOLE @ WHOLE.conj().T
    yield "real", LinearInverseApprox(CENTER), NEAR[0]
    yield "as predicted", LinearInverseApprox(CENTER), CENTER
    yield "strided", LinearInverseApprox(CENTER), np.asfortranarray(NEAR[0])
    yield "reversed", LinearInverseApprox(CENTER), NEAR[0][::-1, ::-1]
    yield "read-only", LinearInverseApprox(CENTER), np.broadcast_to(NEAR[0], (1, 4, 4))[0]
    yield "single precision", LinearInverseApprox(CENTER), NEAR[0].astype(np.float32)
    yield "a list", LinearInverseApprox(CENTER), NEAR[0].tolist()
    yield "integers", LinearInverseApprox(CENTER), np.round(NEAR[0]).astype(int)
    yield "far away", LinearInverseApprox(CENTER), rng.standard_normal((4, 4))
    yield "singular", LinearInverseApprox(CENTER), np.ones((4, 4))
    yield "nearly singular", LinearInverseApprox(CENTER), np.ones((4, 4)) + 1e-15 * NEAR[0]
    yield "not finite", LinearInverseApprox(CENTER), np.where(np.eye(4), np.nan, CENTER)
    yield "huge", LinearInverseApprox(CENTER), NEAR[0] * 1e200
    yield "tiny", LinearInverseApprox(CENTER), NEAR[0] * 1e-200
    yield "mixed units", LinearInverseApprox(CENTER), NEAR[0] * np.logspace(-60, 60, 4)[:, None]
    yield "symmetric", LinearInverseApprox(SYMMETRIC), SYMMETRIC + 0.1 * np.eye(3)
    yield "complex", LinearInverseApprox(WHOLE), WHOLE + 0.1 * NEAR[0]
    yield "hermitian", LinearInverseApprox(hermitian), hermitian + 0.5 * np.eye(4)
    yield "one entry", LinearInverseApprox([[2.0]]), [[2.5]]
    yield "learned", PolynomialInverseApprox(), NEAR[0]
    yield "of others", Ridge(), NEAR[0]
    yield "of others, complex", Ridge(), NEAR[0] + 0.1j


CASES = {name: (model, A) for name, model, A in cases()}


@cache
def fitted(name):
    """The regressor of a case."""
    estimator, _ = CASES[name]
    if name == "of others, complex":
        W = NEAR + 0.1j
        return estimator.fit(*(flatten_stack(stack)[0] for stack in (W, np.linalg.inv(W))))
    if hasattr(estimator, "center"):
        return estimator.fit()
    return estimator.fit(*(stack.reshape(len(NEAR), -1) for stack in (NEAR, np.linalg.inv(NEAR))))


def error_is_below(bound, A, X, norm):
    """By ball arithmetic, of complex matrices in rational numbers and the Frobenius norm."""
    if not np.iscomplexobj(A):
        return bound >= hostile.Oracle(A).errors(X)[("fro", "inf", "1").index(norm)]
    inverse = hostile.rational(A).inv()
    off, size = (
        sum(Fraction(int(v.p), int(v.q)) ** 2 for row in M.tolist() for v in row)
        for M in (inverse - hostile.rational(X), inverse)
    )
    return norm != "fro" or Fraction(bound) ** 2 * size >= off


@pytest.mark.parametrize("norm", ["fro", "inf", "1"])
@pytest.mark.parametrize("fallback", ["exact", "nan"])
@pytest.mark.parametrize("name", CASES)
def test_as_in_a_batch(name, fallback, norm):
    """Status and answers of a batch of one, bounds that hold by exact rationals."""
    A = CASES[name][1]
    model = CertifiedInverse(fitted(name), tol=1e-9, fallback=fallback, norm=norm)
    given = np.array(A, copy=True)
    X, bound, status = model.inverse_function()(A)
    report = model.report(np.array(A)[None])
    assert status == report.status[0]
    assert type(bound) is float
    assert X.dtype == report.inverse.dtype
    np.testing.assert_array_equal(given, np.array(A))
    assert not np.may_share_memory(X, np.asarray(A))
    np.testing.assert_allclose(X, report.inverse[0], rtol=1e-9, atol=1e-9 * abs(X).max())
    if np.isfinite(bound):
        assert status != "inaccurate" or bound > 1e-9
        assert error_is_below(bound, np.asarray(A) + 0.0, X, norm)
    if np.array_equal(given, given.T.conj()) and np.isfinite(X).all():
        np.testing.assert_array_equal(X, X.T.conj())


@pytest.mark.parametrize("name", CASES)
def test_what_raises(name):
    """Where a batch raises, so does a single matrix."""
    A = CASES[name][1]
    for fallback in ("raise", "exact-raise"):
        model = CertifiedInverse(fitted(name), tol=1e-9, fallback=fallback)
        try:
            model.report(np.array(A)[None])
        except ValueError:
            with pytest.raises(ValueError, match="could not be proven"):
                model.inverse_function()(A)
        else:
            model.inverse_function()(A)


@pytest.mark.parametrize("columns", [None, 2])
@pytest.mark.parametrize("fallback", ["exact", "nan"])
@pytest.mark.parametrize("name", CASES)
def test_solutions_as_in_a_batch(name, fallback, columns):
    """What is proven in a batch is proven of a single system, and holds by exact rationals."""
    A = CASES[name][1]
    model = CertifiedInverse(fitted(name), tol=1e-9, fallback=fallback)
    stack = np.array(A)[None]
    b = np.arange(1.0, 1 + stack.shape[1] * (columns or 1)).astype(stack.dtype)
    b = b.reshape(-1, columns) if columns else b
    x, bound, status = model.solve_function()(A, b)
    expected, known = model.solve(stack, b[None], return_bound=True)
    assert x.shape == b.shape
    assert x.dtype == expected.dtype
    assert np.shape(bound) == known[0].shape
    assert (status == "proven") == bool((known <= 1e-9).all())
    assert (status == "rejected") == bool(np.isnan(expected).any())
    if not np.isfinite(bound).all():
        return
    given = [np.asarray(M) + 0.0 for M in (A, x, b)]
    given = [M + 0j for M in given] if np.iscomplexobj(given[0]) else given
    exact, found, sides = (hostile.rational(M.reshape(len(M), -1)) for M in given)
    for k, most in enumerate(np.atleast_1d(bound)):
        off, size = (
            sum(Fraction(int(row[k].p), int(row[k].q)) ** 2 for row in M.tolist())
            for M in (exact.inv() * sides - found, found)
        )
        assert Fraction(float(most)) ** 2 * size >= off


def test_tolerances_past_1_prove_nothing():
    """A residual of norm 1 or more leaves a matrix singular, for all that is known."""
    A = np.tile([0.0665056473071828, 0.46203455323406134], (2, 1))
    for tol in (1.0, 1.295, 1e300):
        model = CertifiedInverse(LinearInverseApprox(np.eye(2)), tol=tol, max_refine=0).fit()
        X, bound, status = model.inverse_function()(A)
        assert bound == np.inf
        assert status in ("singular", "rejected")
        assert np.isnan(X).all()
        assert model.solve_function()(A, np.ones(2))[1] == np.inf


def test_memory_and_threads():
    """Every call has memory of its own; threads do not get in each other's way; fits neither."""
    model = CertifiedInverse(LinearInverseApprox(CENTER), tol=1e-12).fit()
    inverse = model.inverse_function()
    first = inverse(NEAR[0])[0]
    kept = first.copy()
    model.set_params(tol=0.1, estimator=LinearInverseApprox(np.eye(2))).fit()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(inverse, list(NEAR) * 5))
    np.testing.assert_array_equal(first, kept)
    for A, (X, bound, _) in zip(list(NEAR) * 5, answers, strict=True):
        assert bound <= 1e-12
        assert np.linalg.norm(A @ X - np.eye(4)) < 1e-11


def test_what_is_refused():
    """A stack, a rectangle, and a family, whose matrices nobody has."""
    inverse = CertifiedInverse(LinearInverseApprox(CENTER)).fit().inverse_function()
    for shape in ((1, 4, 4), (4, 3), (16,), (3, 3)):
        with pytest.raises(ValueError, match="shape"):
            inverse(np.ones(shape))
    for function in ("inverse_function", "solve_function"):
        with pytest.raises(ValueError, match="family"):
            getattr(CertifiedInverse(Ridge(), family=np.diag), function)()
    solve = CertifiedInverse(LinearInverseApprox(CENTER)).fit().solve_function()
    for sides in (np.ones(3), np.ones((4, 2, 2)), 1.0):
        with pytest.raises(ValueError, match="shape"):
            solve(CENTER, sides)


@pytest.mark.parametrize("kind", [float, complex])
def test_solutions_along_the_directions_of_a_family(kind, monkeypatch):
    """Far along two directions the centre is enough, and bounds hold by exact rationals."""
    rng = np.random.default_rng(3)
    directions = rng.standard_normal((2, 4, 4)) + 1j * rng.standard_normal((2, 4, 4))
    directions = directions if kind is complex else directions.real
    directions[:, 1:] = 0  # what is far in the norm of the matrix, and near in effect
    center = np.diag([1e3, 1, 1, 1]).astype(kind) + 0.1 * (WHOLE if kind is complex else CENTER)
    family = center + np.tensordot(rng.uniform(-20, 20, (80, 2)), directions, axes=1)
    model = CertifiedInverse(LinearInverseApprox(), tol=1e-9, fallback="nan").fit(family)
    assert len((model._anchor.of_complex if kind is complex else model._anchor).offsets) > 0
    monkeypatch.setattr(Figures, "solved", None)
    solve, b = model.solve_function(), np.arange(1.0, 5).astype(kind)
    for A in family[:10]:
        x, bound, status = solve(A, b)
        assert status == "proven"
        exact = hostile.rational(A).solve(hostile.rational(b[:, None]))
        found = hostile.rational(x[:, None])
        off, size = (
            sum(Fraction(int(v.p), int(v.q)) ** 2 for row in M.tolist() for v in row)
            for M in (exact - found, found)
        )
        assert Fraction(bound) ** 2 * size >= off
