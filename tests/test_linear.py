"""LinearInverseApprox: the laws of the Neumann series, and of least squares."""

import numpy as np
import pytest
import torch
from backends import every_dtype
from conftest import random_family
from sklearn.linear_model import LinearRegression

from skinv import LinearInverseApprox, NeuralInverseRegressor
from skinv.datasets import load_power_flow, load_robot_arm


@pytest.mark.parametrize("order", range(1, 10))
@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 16])
def test_residual_identity(n, order):
    """I − A·L_k(A) = (−E·B)^(k+1), whatever E is (maths: Neumann), of many and of one."""
    center, A = random_family(n, 20)
    model = LinearInverseApprox(center, order=order).fit()
    X, single = model.predict(A), model.inverse_function()
    power = np.linalg.matrix_power(-(A - center) @ np.linalg.inv(center), order + 1)
    np.testing.assert_allclose(np.eye(n) - A @ X, power, atol=1e-13)
    np.testing.assert_allclose([single(a) for a in A], X, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 8, 9])
def test_derivative_of_the_first_order(n):
    """L is the tangent of the inverse: central differences of LAPACK's inverse give its matrix."""
    center, _ = random_family(n, 1)
    model = LinearInverseApprox(center).fit()
    h = 1e-6
    columns = []
    for k in range(n * n):
        step = np.zeros(n * n)
        step[k] = h
        step = step.reshape(n, n)
        columns.append((np.linalg.inv(center + step) - np.linalg.inv(center - step)).ravel())
    np.testing.assert_allclose(model.coef_, np.array(columns).T / (2 * h), atol=1e-8)


def test_coefficients_are_the_map():
    """Where the map is affine, coef_ and intercept_ are all of it."""
    center, A = random_family(3, 50)
    X = A.reshape(50, 9)
    for model in (LinearInverseApprox(center), LinearInverseApprox(method="lstsq")):
        model.fit(X)
        np.testing.assert_allclose(model.predict(X), X @ model.coef_.T + model.intercept_)
    with pytest.raises(AttributeError, match="affine"):
        _ = LinearInverseApprox(center, order=2).fit().coef_


def test_lstsq_agrees_with_scikit_learn(box):
    """The least-squares map is LinearRegression's, weighted or not, for any target."""
    X, Y = box
    weight = np.random.RandomState(1).uniform(0, 2, len(X))
    determinant = np.linalg.det(X.reshape(-1, 2, 2))
    for y in (Y, determinant):
        for w in (None, weight):
            ours = LinearInverseApprox(method="lstsq").fit(X, y, sample_weight=w).predict(X)
            theirs = LinearRegression().fit(X, y, sample_weight=w).predict(X)
            assert ours.shape == y.shape
            np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_lstsq_has_the_smaller_squared_error(box):
    """No affine map has a smaller squared error on the training data; the tangent has a larger."""
    X, Y = box
    best = LinearInverseApprox(method="lstsq").fit(X)
    tangent = LinearInverseApprox().fit(X)
    error = np.square(best.predict(X) - Y).sum()
    assert error < np.square(tangent.predict(X) - Y).sum()
    rng = np.random.RandomState(0)
    for _ in range(20):
        other = best.predict(X) + X @ (1e-3 * rng.standard_normal((4, 4)))
        assert np.square(other - Y).sum() > error


def test_zero_weight_is_removal(box):
    """A row of weight 0 counts for nothing, in the mean and in the fit."""
    X, _ = box
    weight = np.r_[np.zeros(100), np.full(300, 2.5)]
    for method in ("taylor", "lstsq"):
        weighted = LinearInverseApprox(method=method).fit(X, sample_weight=weight)
        removed = LinearInverseApprox(method=method).fit(X[100:])
        np.testing.assert_allclose(weighted.predict(X), removed.predict(X), rtol=1e-10)


@pytest.mark.parametrize("method", ["taylor", "lstsq"])
@every_dtype
@pytest.mark.parametrize("n", [1, 3, 10])
def test_layouts_and_dtypes(n, dtype, method):
    """Rows give rows, stacks stacks, tensors tensors; floating-point dtypes are kept."""
    _, A = random_family(n, 300)
    model = LinearInverseApprox(method=method).fit(A)
    stack = A[:7].astype(dtype)
    rows = stack.reshape(7, n * n)
    expected = model.predict(rows)
    assert expected.shape == rows.shape
    assert expected.dtype == dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(model.predict(stack), expected.reshape(7, n, n), atol=tolerance)
    np.testing.assert_allclose(
        model.predict(np.asfortranarray(rows)), expected, rtol=0, atol=tolerance
    )
    frozen = rows.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(model.predict(frozen), expected)
    np.testing.assert_allclose(model.predict(rows[:1]), expected[:1], atol=tolerance)
    tensor = torch.from_numpy(stack.copy())
    answer = model.predict(tensor)
    assert isinstance(answer, torch.Tensor)
    assert answer.dtype == tensor.dtype
    np.testing.assert_allclose(answer.numpy(), expected.reshape(7, n, n), atol=tolerance)


def test_integers_become_float64():
    """Integer matrices, arrays and tensors, are inverted in float64."""
    model = LinearInverseApprox([[2, 0], [0, 4]]).fit()
    assert model.predict([[2, 0, 0, 4]]).tolist() == [[0.5, 0, 0, 0.25]]
    answer = model.predict(torch.tensor([[2, 0, 0, 4]]))
    assert answer.dtype == torch.float64


def test_center_needs_no_data(center):
    """A given centre is used as it is, with and without data; shapes (n, n) and (n*n,) agree."""
    A = np.array([[2.5, 1.0, 1.0, 2.0]])
    first = LinearInverseApprox(center).fit().predict(A)
    assert np.array_equal(first, LinearInverseApprox(center.ravel()).fit(A).predict(A))
    assert not np.array_equal(first, LinearInverseApprox().fit(A).predict(A))


def test_score_needs_no_targets(box):
    """score(X) and score(X, Y) agree, on rows and on stacks."""
    X, Y = box
    model = LinearInverseApprox().fit(X)
    assert model.score(X) == pytest.approx(model.score(X, Y), abs=1e-12)
    assert model.score(X.reshape(-1, 2, 2)) == pytest.approx(model.score(X), abs=1e-12)
    weight = np.r_[np.ones(200), np.zeros(200)]
    assert model.score(X, sample_weight=weight) == pytest.approx(model.score(X[:200]), abs=1e-12)


@pytest.mark.parametrize(
    ("model", "args", "match"),
    [
        (LinearInverseApprox(), (), "neither center nor data"),
        (LinearInverseApprox(np.ones((2, 2))), (), "singular"),
        (LinearInverseApprox([[1.0, 1.0], [1.0, 1.0 + 1e-12]]), (), "condition number"),
        (LinearInverseApprox(np.zeros((1, 2, 2))), (), "one square matrix"),
        (LinearInverseApprox([[np.nan]]), (), "center contains NaN"),
        (LinearInverseApprox(np.eye(3)), (np.ones((5, 4)),), "9 entries"),
        (LinearInverseApprox(), (np.ones((5, 3)),), "3 entries"),
        (LinearInverseApprox(), (np.ones((5, 2, 3)),), "singular"),
        (LinearInverseApprox(), (np.eye(2).reshape(1, 4), [1.0]), "method='lstsq'"),
        (LinearInverseApprox(method="lstsq", order=2), (np.ones((5, 4)),), "order=2"),
        (LinearInverseApprox(method="lstsq"), (), "needs training matrices"),
    ],
)
def test_refusals(model, args, match):
    """What cannot be fitted is refused with a reason."""
    with pytest.raises(ValueError, match=match):
        model.fit(*args)


def test_bad_training_rows_are_named(box):
    """Singular, nearly singular and non-finite training matrices are refused by their rows."""
    X, Y = box
    bad = X.copy()
    bad[3] = 1.0
    bad[5] = [1.0, 1.0, 1.0, 1.0 + 1e-14]
    with pytest.raises(ValueError, match=r"rows \[3, 5\] \(2 of 400\)"):
        LinearInverseApprox(method="lstsq").fit(bad)
    # Also when the inverses come along.
    bad[3], Y_bad = X[3], Y.copy()
    Y_bad[5] = np.linalg.inv(bad[5].reshape(2, 2)).ravel()
    with pytest.raises(ValueError, match=r"rows \[5\] \(1 of 400\)"):
        LinearInverseApprox(method="lstsq").fit(bad, Y_bad)
    X_nan = X.copy()
    X_nan[7, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity.*\[7\]"):
        LinearInverseApprox().fit(X_nan)
    model = LinearInverseApprox().fit(X)
    assert np.flatnonzero(np.isnan(model.predict(X_nan)).all(axis=1)).tolist() == [7]
    with pytest.raises(ValueError, match="features"):
        model.predict(torch.ones(3, 9))


def test_lstsq_of_real_matrices_in_single_precision():
    """Directions in which the data hardly vary are not fitted, which costs no accuracy."""
    for load in (lambda: load_power_flow("case9"), load_robot_arm):
        X = load().data
        known, unseen = X[:500], X[500:]
        n = int(X.shape[1] ** 0.5)
        exact = np.linalg.inv(unseen.reshape(-1, n, n)).reshape(unseen.shape)
        model = LinearInverseApprox(method="lstsq").fit(known)
        Y = np.linalg.inv(known.reshape(-1, n, n)).reshape(known.shape)
        theirs = LinearRegression().fit(known, Y).predict(unseen)
        error = np.abs(model.predict(unseen) - exact).mean()
        assert error < 1.05 * np.abs(theirs - exact).mean()
        single = model.predict(unseen.astype(np.float32))
        assert np.abs(single - exact).mean() < 1.05 * error


def test_lstsq_in_other_units():
    """Rows and columns of matrices in other units, entries 1e-4 to 1e4, change nothing else."""
    _, A = random_family(4, 300)
    left, right = np.diag([1, 1e2, 1e-3, 1]), np.diag([1e2, 1, 1e-1, 1])
    plain = LinearInverseApprox(method="lstsq").fit(A).predict(A)
    scaled = LinearInverseApprox(method="lstsq").fit(left @ A @ right).predict(left @ A @ right)
    np.testing.assert_allclose(right @ scaled @ left, plain, rtol=1e-6)


def test_structural_zeros_that_were_computed():
    """Zeros that hold rounding are constant, also for data whose zeros hold none, or more of it."""
    rng = np.random.default_rng(0)
    S = np.zeros((600, 6, 6))
    for block in (slice(0, 3), slice(3, 6)):
        S[:, block, block] = 3 * np.eye(3) + 0.2 * rng.standard_normal((600, 3, 3))
    # What is left of zeros by sums of size 1 to 8, in both precisions.
    computed = S + 2.0**-51 * rng.integers(-4, 5, S.shape)
    single = (S + 2.0**-22 * rng.integers(-4, 5, S.shape)).astype(np.float32)
    det = np.linalg.det(S)
    for model, y in (
        (LinearInverseApprox(method="lstsq"), None),
        (NeuralInverseRegressor(16, max_iter=5, random_state=0), None),
        (NeuralInverseRegressor(16, max_iter=5, random_state=0), det),
    ):
        model.fit(computed[:400], None if y is None else y[:400])
        exact = np.linalg.inv(S[400:]) if y is None else y[400:]
        errors = [
            np.abs(model.predict(A[400:]) - exact).max()
            for A in (computed, S, single, S + 1e-10 * rng.standard_normal(S.shape))
        ]
        assert max(errors) < 1.1 * errors[0]
