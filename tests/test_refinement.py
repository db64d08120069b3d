"""Laws of the Newton-Schulz family: R becomes R^p, whatever the layout, library and dtype."""

import ctypes
import platform
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from backends import every_dtype, every_library
from flint import arb_mat, ctx

from skinv._linalg.arithmetic import Arithmetic
from skinv._linalg.products import product_error
from skinv.bounds._residual import Rounding, measure
from skinv.refinement import improve, newton_schulz

EPS = np.finfo(np.float64).eps
every_order = pytest.mark.parametrize("order", [2, 3, 4])


def pairs(n, m=12, size=0.3, dtype=np.float64, seed=0):
    """Return well-conditioned matrices, and approximate inverses with ‖I − AX‖ of about `size`."""
    rng = np.random.RandomState(seed)
    A = np.eye(n) + 0.2 / np.sqrt(n) * rng.standard_normal((m, n, n))
    R = size / np.sqrt(n) / 2 * rng.standard_normal((m, n, n))
    return A.astype(dtype), (np.linalg.inv(A) @ (np.eye(n) - R)).astype(dtype)


def residual(A, X):
    """Return I − AX computed in float64."""
    return np.eye(A.shape[-1]) - np.asarray(A, float) @ np.asarray(X, float)


def series(A, X, order):
    """The step by its definition: X times the sum of the powers of R below `order`."""
    R = residual(A, X)
    return X @ sum(np.linalg.matrix_power(R, k) for k in range(order))


def exactly(A, X, order, n_steps):
    """The same in 200 digits, for one matrix, rounded."""
    with ctx.workprec(700):
        eye = arb_mat(np.eye(len(A)).tolist())
        A, X = arb_mat(A.tolist()), arb_mat(X.tolist())
        for _ in range(n_steps):
            R = eye - A * X
            total = eye
            for _ in range(order - 1):
                total = eye + R * total
            X = X * total
        return np.array([[float(x) for x in row] for row in X.tolist()])


@every_order
@pytest.mark.parametrize("n", [1, 2, 3, 8, 16])
def test_the_residual_becomes_its_power(n, order):
    """One step of order p turns R into R^p."""
    A, X = pairs(n)
    Y = newton_schulz(A, X, order=order)
    power = np.linalg.matrix_power(residual(A, X), order)
    np.testing.assert_allclose(residual(A, Y), power, rtol=0, atol=20 * n * EPS)


@every_order
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_against_many_digits(order, n_steps):
    """Steps are those of the definition in 200 digits, to rounding."""
    A, X = pairs(5, m=4)
    expected = [exactly(a, x, order, n_steps) for a, x in zip(A, X, strict=True)]
    np.testing.assert_allclose(newton_schulz(A, X, n_steps, order), expected, rtol=0, atol=50 * EPS)


@every_order
def test_steps_compose(order):
    """Steps one by one are the steps at once, to the bit, and equal the sum of powers."""
    A, X = pairs(6)
    one_by_one = X
    for n_steps in range(4):
        at_once = newton_schulz(A, X, n_steps, order)
        np.testing.assert_array_equal(at_once, one_by_one)
        expected = series(A, one_by_one, order)
        one_by_one = newton_schulz(A, one_by_one, 1, order)
        np.testing.assert_allclose(one_by_one, expected, rtol=0, atol=50 * EPS)


@pytest.mark.parametrize("n", [1, 4, 16])
def test_order_four_is_order_two_twice(n):
    """I + R + R² + R³ = (I + R)(I + R²)."""
    A, X = pairs(n)
    np.testing.assert_allclose(
        newton_schulz(A, X, 1, 4), newton_schulz(A, X, 2, 2), rtol=0, atol=50 * n * EPS
    )


@every_order
@every_library
@every_dtype
def test_convergence(order, convert, dtype):
    """Residuals end at rounding, in the dtype given."""
    A, X = pairs(8, size=0.5, dtype=dtype)
    Y = newton_schulz(convert(A), convert(X), 8, order)
    assert (np.linalg.norm(residual(A, Y), axis=(1, 2)) < 100 * np.finfo(dtype).eps).all()


@every_order
def test_left_and_right_agree(order):
    """Xᵀ refines Aᵀ as X refines A, since X and R's polynomial commute with A in that sense."""
    A, X = pairs(5)
    transposed = newton_schulz(A.swapaxes(1, 2), X.swapaxes(1, 2), 1, order)
    np.testing.assert_allclose(
        transposed.swapaxes(1, 2), newton_schulz(A, X, 1, order), rtol=0, atol=50 * EPS
    )


@every_order
@pytest.mark.parametrize("power", [-300, 7, 300])
def test_powers_of_two_change_nothing(order, power):
    """Refining 2^−k X for 2^k A gives 2^−k times the same numbers, to the bit."""
    A, X = pairs(4)
    scaled = newton_schulz(np.ldexp(A, power), np.ldexp(X, -power), 2, order)
    np.testing.assert_array_equal(np.ldexp(scaled, power), newton_schulz(A, X, 2, order))


@every_order
@every_dtype
@pytest.mark.parametrize("n", [1, 3, 16])
def test_tensors_equal_arrays(order, dtype, n):
    """Tensors stay tensors of their dtype and hold what arrays hold, to rounding."""
    A, X = pairs(n, dtype=dtype)
    Y = newton_schulz(torch.tensor(A), torch.tensor(X), 2, order)
    expected = newton_schulz(A, X, 2, order)
    assert isinstance(Y, torch.Tensor)
    assert Y.numpy().dtype == expected.dtype == dtype
    np.testing.assert_allclose(Y.numpy(), expected, rtol=0, atol=50 * n * np.finfo(dtype).eps)


@every_library
@pytest.mark.parametrize("layout", ["blocks", "one", "Fortran", "strided"])
def test_layouts(convert, layout):
    """Leading axes come back as they are, and memory layout changes nothing but rounding."""
    A, X = pairs(3)
    expected = newton_schulz(A, X)
    if layout in ("blocks", "one"):
        shape = (2, 1, -1, 3, 3) if layout == "blocks" else (3, 3)
        part = slice(None) if layout == "blocks" else 0
        a, x, expected = (M[part].reshape(shape) for M in (A, X, expected))
        a, x = convert(a), convert(x)
    else:
        wide = np.zeros((2, 24, 7, 7))
        wide[:, ::2, 1::2, 1::2] = A, X
        fortran = layout == "Fortran"
        a, x = (np.asfortranarray(M) if fortran else M for M in wide[:, ::2, 1::2, 1::2])
        if convert is torch.tensor:
            a, x = torch.from_numpy(a), torch.from_numpy(x)
    Y = newton_schulz(a, x)
    assert tuple(Y.shape) == tuple(x.shape)
    np.testing.assert_allclose(np.asarray(Y), expected, rtol=0, atol=20 * EPS)


@every_library
def test_many_pieces(convert):
    """Stacks of more matrices than one piece holds are refined like each matrix by itself."""
    A, X = pairs(16, m=300)
    Y = np.asarray(newton_schulz(convert(A), convert(X), 2))
    for i in (0, 127, 128, 255, 256, 299):
        one = np.asarray(newton_schulz(convert(A[i : i + 1]), convert(X[i : i + 1]), 2))
        np.testing.assert_allclose(Y[i : i + 1], one, rtol=0, atol=20 * EPS)


@every_library
@every_order
def test_inputs_are_not_modified(convert, order):
    """Without overwrite_x nothing is written to, nor is the result a view of X."""
    A, X = pairs(4)
    a, x = convert(A.copy()), convert(X.copy())
    for n_steps in (0, 1, 3):
        Y = newton_schulz(a, x, n_steps, order)
        Y += 1
        np.testing.assert_array_equal(np.asarray(a), A)
        np.testing.assert_array_equal(np.asarray(x), X)


@every_library
@every_order
@pytest.mark.parametrize("blocks", [True, False])
def test_overwrite_x(convert, order, blocks):
    """With overwrite_x the same numbers land in X's memory, and A is left alone."""
    A, X = pairs(4)
    if blocks:
        A, X = A.reshape(2, -1, 4, 4), X.reshape(2, -1, 4, 4)
    a, x = convert(A.copy()), convert(X.copy())
    expected = newton_schulz(a, x, 2, order)
    Y = newton_schulz(a, x, 2, order, overwrite_x=True)
    assert np.shares_memory(np.asarray(Y), np.asarray(x))
    np.testing.assert_array_equal(np.asarray(Y), np.asarray(expected))
    np.testing.assert_array_equal(np.asarray(x), np.asarray(expected))
    np.testing.assert_array_equal(np.asarray(a), A)


def test_overwrite_x_of_another_dtype():
    """X of another dtype than the computation's cannot be written over, and is not."""
    A, X = pairs(4)
    narrow = X.astype(np.float32)
    kept = narrow.copy()
    Y = newton_schulz(A, narrow, overwrite_x=True)
    assert Y.dtype == np.float64
    np.testing.assert_array_equal(narrow, kept)


@every_library
def test_no_steps(convert):
    """No steps return the numbers of X, and an empty stack an empty one."""
    A, X = pairs(3)
    np.testing.assert_array_equal(np.asarray(newton_schulz(convert(A), convert(X), 0)), X)
    for n_steps in (0, 2):
        empty = newton_schulz(convert(A[:0]), convert(X[:0]), n_steps)
        assert tuple(empty.shape) == (0, 3, 3)


def test_types():
    """Lists and integers are computed in float64, two float32 arguments in float32."""
    A, X = np.array([[2, 1], [1, 1]]), np.array([[1, -1], [-1, 2]])
    assert newton_schulz([A.tolist()], [X.tolist()]).dtype == np.float64
    np.testing.assert_array_equal(newton_schulz(A[None], X[None], 3), X[None])
    a, x = A[None].astype(np.float32), X[None].astype(np.float32)
    assert newton_schulz(a, x).dtype == np.float32
    assert newton_schulz(a, X[None]).dtype == np.float64
    assert newton_schulz(a.astype(np.float16), x.astype(np.float16)).dtype == np.float32
    assert isinstance(newton_schulz(a, torch.tensor(x)), torch.Tensor)
    assert newton_schulz(A[None], X[None], np.int64(1), np.int64(3)).dtype == np.float64


@every_library
@every_order
@every_dtype
def test_divergence_is_silent(convert, order, dtype):
    """Hopeless approximations go to inf or NaN without a warning, and the others converge."""
    eye = np.eye(2)
    X = np.array([-eye, 5 * eye, 1e30 * eye, np.nan * eye, 1.1 * eye, 0 * eye]).astype(dtype)
    A = np.broadcast_to(eye, X.shape).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Y = np.asarray(newton_schulz(convert(A), convert(X), 12, order))
    assert not np.isfinite(Y[:4]).all(axis=(1, 2)).any()
    np.testing.assert_allclose(Y[4], eye, atol=1e-6)
    np.testing.assert_array_equal(Y[5], 0)


@pytest.mark.parametrize("order", [1, 5, 0, -2, 2.5, "2", None])
def test_unknown_orders(order):
    """The message names what was given and what there is."""
    with pytest.raises(ValueError, match=r"Got order=.*, but the orders are 2, 3 and 4"):
        newton_schulz([[1.0]], [[1.0]], order=order)


@pytest.mark.parametrize("n_steps", [-1, 1.0, None, "1", np.nan])
def test_bad_numbers_of_steps(n_steps):
    """The message names what was given and what is expected."""
    with pytest.raises(ValueError, match=r"Got n_steps=.*, but a number of steps >= 0"):
        newton_schulz([[1.0]], [[1.0]], n_steps)


@pytest.mark.parametrize(
    ("A", "X", "message"),
    [
        (np.eye(2)[None], np.eye(3)[None], r"shape \(1, 2, 2\).*shape \(1, 3, 3\)"),
        (np.ones((2, 4)), np.ones((1, 4)), r"shape \(2, 4\).*shape \(1, 4\)"),
        (np.ones((1, 3)), np.ones((1, 3)), r"X.reshape\(-1, n, n\)"),
        (np.ones((1, 2, 3)), np.ones((1, 2, 3)), r"a stack \(..., n, n\)"),
        (np.eye(2), np.eye(2)[None], r"both must be of one shape"),
        (np.ones((1, 4)), np.ones((1, 4)) * 1j, r"X.reshape\(-1, 2, 2\)"),
    ],
)
def test_pairs_that_are_refused(A, X, message):
    """Shapes that do not match and rows are refused."""
    with pytest.raises(ValueError, match=message):
        newton_schulz(A, X)


def test_views_with_turned_signs():
    """Tensors that are views of conjugates are refined like any others."""
    rng = np.random.default_rng(0)
    A = torch.tensor(4 * np.eye(4) + rng.standard_normal((5, 4, 4)))
    X = torch.linalg.inv(A) * 1.01
    turned = torch.complex(torch.zeros_like(X), -X).conj().imag
    assert turned.is_neg()
    np.testing.assert_allclose(newton_schulz(A, turned), newton_schulz(A, X))


@every_library
def test_overwrite_x_where_that_would_spoil(convert):
    """Memory of A, or that cannot be written to, is left as it is."""
    A, X = pairs(3)
    expected = newton_schulz(X.copy(), X.copy())
    given = convert(X.copy())
    np.testing.assert_array_equal(newton_schulz(given, given, overwrite_x=True), expected)
    np.testing.assert_array_equal(np.asarray(given), X)
    fixed = X.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(newton_schulz(A, fixed, overwrite_x=True), newton_schulz(A, X))


# What is flushed to zero, and the direction of rounding.
MODES = [(False, 0), (True, 0), (False, 0x400), (True, 0x800), (False, 0xC00)]


@every_dtype
@every_order
@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="codes of x86"
)
@pytest.mark.parametrize(("flush", "code"), MODES)
def test_a_step_is_bounded_before_it_is_taken(order, dtype, flush, code):
    """No bound of I − AX, or of I − AY after a step, is below the exact norm, in any mode."""
    rounding, rng = ctypes.CDLL("libm.so.6").fesetround, np.random.default_rng(order)
    exponents = 60.0 if dtype is np.float64 else 6.0  # norms are to be moderate
    for n in (1, 2, 3):
        E = rng.standard_normal((60, n, n))
        unit = 10 ** rng.uniform(-exponents, exponents, (60, 1, 1))
        A = (unit * (np.eye(n) + 0.3 * E)).astype(dtype)
        A[::3, 0, 1:] = 0
        size = 10.0 ** rng.uniform(-17, -0.3, (60, 1, 1))
        X = (np.linalg.inv(A.astype(float)) @ (np.eye(n) - size * E)).astype(dtype)
        torch.set_flush_denormal(flush)
        try:
            rounding(code)
            D = product_error(A, X)
            known = measure(A, X, D, "fro")
            constants = Rounding.of(Arithmetic.of(A), n, "fro", True)
            single = Rounding.of(Arithmetic.of(A), n, "fro")
            bounds, Y = (known.bound, constants.stepped(known, order)), X.copy()
            improve(Y, D, order, np.empty_like(Y))
        finally:
            rounding(0)
            torch.set_flush_denormal(False)
        # A number for each matrix, and one, are the same formulas.
        alone = single.stepped(type(known)(*(float(figure[0]) for figure in known)), order)
        assert known.computed[0] > 0.9 or abs(alone / bounds[1][0] - 1) < 1e-12
        near = np.flatnonzero(known.computed < 0.9)
        assert len(near) > 30
        for bound, answer in zip(bounds, (X, Y), strict=True):
            for k in near:
                assert Fraction(bound[k]) ** 2 >= exact_square(A[k], answer[k])


def exact_square(A, X):
    """Return ‖I − AX‖², of rational numbers."""
    A, X = ([[Fraction(float(x)) for x in row] for row in M] for M in (A, X))
    entries = (
        (i == j) - sum(a * x[j] for a, x in zip(row, X, strict=True))
        for i, row in enumerate(A)
        for j in range(len(A))
    )
    return sum(entry * entry for entry in entries)
