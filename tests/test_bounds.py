"""residual_bound: no finite bound below the true error, whatever surrounds the products."""

import itertools
from fractions import Fraction
from functools import cache

import hostile
import numpy as np
import pytest
import torch
from backends import TYPES, every_dtype, every_library

import skinv.bounds._residual
from skinv._linalg.arithmetic import Arithmetic
from skinv.bounds import residual_bound
from skinv.matrices import AmbiguousShapeWarning
from skinv.refinement import newton_schulz


def scalar_error(a, x):
    """The relative error |1 − ax| of a 1×1 inverse, exactly."""
    return abs(1 - Fraction(a) * Fraction(x))


def holds(bound, error):
    """Whether a bound is at least the error; inf always is."""
    bound = float(bound)
    return bound == np.inf or Fraction(bound) >= error


@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_integers_past_the_mantissa(convert):
    """int64 entries that float64 cannot hold are refused, not silently replaced by others."""
    x = 2.0**-53
    with pytest.raises(ValueError, match="float64 cannot hold"):
        residual_bound(convert([[2**53 + 5]]), convert([[x]]))
    bound = residual_bound(convert([[2**53 + 4]]), convert([[x]]))
    assert holds(bound, scalar_error(2**53 + 4, x))


@pytest.mark.parametrize("accumulate", [None, "float64"])
@pytest.mark.parametrize("convert", [np.array, torch.tensor])
def test_integers_beside_float32(convert, accumulate):
    """Integers beside float32 inverses are not rounded to float32."""
    a, x = 2**24 + 1, 2.0**-24
    X = convert([[x]])
    X = X.float() if isinstance(X, torch.Tensor) else X.astype(np.float32)
    bound = residual_bound(convert([[a]]), X, accumulate=accumulate)
    assert holds(bound, scalar_error(a, x))


@pytest.mark.parametrize("sharp", [True, False])
def test_autocast(sharp):
    """Products that autocast turns to bfloat16 prove nothing of float32."""
    A = torch.eye(2)[None]
    X = A * 1.001
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bound = residual_bound(A, X, sharp=sharp)
    assert holds(bound[0], scalar_error(1, float(X[0, 0, 0])))


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_precision_by_backend(precision):
    """A precision set for one backend, which the global question refuses, is understood too."""
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    A = torch.eye(64)[None]
    X = A * 1.001
    try:
        backend.fp32_precision = precision
        bound = residual_bound(A, X)
    finally:
        backend.fp32_precision = before
    assert holds(bound[0], scalar_error(1, float(X[0, 0, 0])))


def test_tensors_that_require_gradients():
    """Bounds and refined inverses are had of tensors in a graph too, as plain numbers."""
    A, X = torch.eye(2)[None].requires_grad_(), 1.001 * torch.eye(2)[None]
    assert not residual_bound(A, X).requires_grad
    torch.testing.assert_close(newton_schulz(A, X, 2), torch.eye(2)[None])


# Hostile matrices. Every finite bound is held against ball arithmetic.

SIZES = (1, 2, 3, 5, 8, 16, 32)
every_size = pytest.mark.parametrize("n", SIZES)
every_norm = pytest.mark.parametrize("norm", hostile.NORMS)


@cache
def sample(n, dtype):
    """Return matrices, approximate inverses and lower bounds of the errors in the three norms."""
    m = 208 if n == 32 else 390
    A = hostile.matrices(n, m, dtype, seed=n)
    pairs = (A, hostile.approximations(A, seed=n)), hostile.rounded_away(n, 5, dtype, seed=n)
    A, X = (np.concatenate(stacks) for stacks in zip(*pairs, strict=True))
    return A, X, hostile.true_errors(A, X)


def violations(bound, n, dtype, norm):
    return hostile.count_violations(bound, sample(n, dtype)[2][:, hostile.NORMS.index(norm)])


def test_oracle():
    """Ball arithmetic finds the errors of exact inverses, of multiples, of singular matrices."""
    A, B = hostile.unimodular(np.random.RandomState(0), 20, 5)
    np.testing.assert_array_equal(A @ B, np.broadcast_to(np.eye(5), A.shape))
    for t in (0, 2.0**-40, 0.25):
        errors = hostile.true_errors(A, (1 + t) * B)
        np.testing.assert_allclose(errors, t, rtol=1e-14, atol=1e-300)
    assert (hostile.true_errors(np.ones((1, 3, 3)), np.ones((1, 3, 3))) == np.inf).all()
    assert (hostile.true_errors(A[:1], B[:1] * np.nan) == np.inf).all()


def test_oracle_in_another_norm():
    """The errors are those of the definition, evaluated by LAPACK where that is accurate enough."""
    rng = np.random.RandomState(0)
    A, X = (np.eye(6) + 0.1 * rng.standard_normal((10, 6, 6)) for _ in range(2))
    exact = np.linalg.inv(A)
    naive = [
        np.linalg.norm(exact - X, order, (1, 2)) / np.linalg.norm(exact, order, (1, 2))
        for order in ("fro", np.inf, 1)
    ]
    np.testing.assert_allclose(hostile.true_errors(A, X), np.transpose(naive), rtol=1e-12)


@every_size
@every_dtype
@every_library
@pytest.mark.parametrize("sharp", [True, False])
def test_no_violations(n, dtype, convert, sharp):
    """No bound is below the true error, and enough of them are finite to tell."""
    A, X, _ = sample(n, dtype)
    for norm, accumulate in itertools.product(hostile.NORMS, (None, "float64")):
        bound = residual_bound(convert(A), convert(X), norm, sharp=sharp, accumulate=accumulate)
        assert bound.dtype == (torch.float64 if torch.is_tensor(bound) else np.float64)
        assert violations(bound, n, dtype, norm) == 0
        assert (np.isfinite(np.asarray(bound))).mean() > 0.15


@every_size
@every_dtype
@every_norm
def test_halved_bounds_are_caught(n, dtype, norm):
    """The check fails on bounds half as large."""
    A, X, _ = sample(n, dtype)
    assert violations(residual_bound(A, X, norm) / 2, n, dtype, norm) > 0


def drop_rounding(monkeypatch):
    """Make residual_bound take the computed residual for the exact one."""
    room, none = skinv.bounds._residual, dict.fromkeys(("unit", "gamma", "stage", "spare"), 0.0)
    rounding = room.Rounding.of(Arithmetic.of(np.empty(0)), 1, "fro")._replace(up=1.0, **none)
    monkeypatch.setattr(room.Rounding, "of", staticmethod(lambda *_: rounding))
    monkeypatch.setattr(room, "rounding_of", lambda arithmetic, n, computed, *_: 0 * computed)
    monkeypatch.setattr(room.Arithmetic, "gamma", lambda self, n: 0.0)


@every_size
@every_dtype
def test_missing_rounding_is_caught(n, dtype, monkeypatch):
    """The check fails on bounds that take the computed residual for the exact one."""
    drop_rounding(monkeypatch)
    A, X, _ = sample(n, dtype)
    assert violations(residual_bound(A, X), n, dtype, "fro") >= 5  # those rounded away


@every_size
@every_dtype
@every_norm
@pytest.mark.parametrize("sharp", [True, False])
def test_rounding_that_hides_the_residual(n, dtype, norm, sharp, monkeypatch):
    """The product of 3 and 1/3 is rounded to 1; the bound knows that it is not."""
    A, X = hostile.rounded_away(n, 5, dtype)
    np.testing.assert_array_equal(A @ X, np.broadcast_to(np.eye(n), A.shape))
    error = hostile.true_errors(A, X)[:, hostile.NORMS.index(norm)]
    assert (error > 0).all()
    assert hostile.count_violations(residual_bound(A, X, norm, sharp=sharp), error) == 0
    drop_rounding(monkeypatch)
    assert hostile.count_violations(residual_bound(A, X, norm, sharp=sharp), error) == 5


def strided(stack):
    wide = np.zeros((2 * len(stack), *(2 * k + 1 for k in stack.shape[1:])), stack.dtype)
    view = wide[1::2, 1::2, 1::2]
    view[...] = stack
    return view


LAYOUTS = {
    "blocks": lambda stack: stack.reshape(5, -1, *stack.shape[1:]),
    "Fortran": np.asfortranarray,
    "transposed": lambda stack: stack.swapaxes(1, 2).copy().swapaxes(1, 2),
    "strided": strided,
    "reversed": lambda stack: stack[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "read-only": lambda stack: np.broadcast_to(stack, stack.shape),
}


@pytest.mark.parametrize("n", [1, 2, 5, 16])
@every_dtype
@pytest.mark.parametrize(
    ("library", "layout"),
    [("NumPy", layout) for layout in LAYOUTS]
    # torch has no negative strides and no read-only memory
    + [("torch", layout) for layout in LAYOUTS if layout not in ("reversed", "read-only")],
)
def test_layouts(n, dtype, library, layout):
    """In every memory layout the bounds hold, and are those of contiguous stacks to rounding."""
    A, X, _ = sample(n, dtype)
    a, x = (LAYOUTS[layout](M) for M in (A, X))
    if library == "torch":
        a, x = torch.from_numpy(a), torch.from_numpy(x)
    for first, second in ((a, x), (A.reshape(a.shape), x)):
        bound = np.asarray(residual_bound(first, second)).ravel()
        assert violations(bound, n, dtype, "fro") == 0
        reference = residual_bound(A, X)
        both = np.isfinite(bound) & np.isfinite(reference)
        assert (both != np.isfinite(reference)).sum() <= 2  # on the very edge
        unit = np.finfo(dtype).eps
        bound, reference = bound[both], reference[both]
        assert (abs(bound - reference) <= 0.2 * reference + 100 * n * n * unit).all()


@every_dtype
@every_library
def test_rows_and_stacks(dtype, convert):
    """A bound is of one matrix, whatever the others are and however they are laid out."""
    A, X, _ = sample(3, dtype)
    bound = np.asarray(residual_bound(convert(A), convert(X)))
    for rows in (slice(0, 1), slice(5, 60), slice(0, 0)):
        part = residual_bound(convert(A[rows]), convert(X[rows]))
        np.testing.assert_allclose(np.asarray(part), bound[rows], rtol=0.1, atol=1e-5)
    assert tuple(part.shape) == (0,)


# Tightness.


@every_norm
@pytest.mark.parametrize("n", [1, 2, 5, 16, 32])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-7, 1e-10])
def test_bounds_are_tight(n, norm, size):
    """Of well-conditioned matrices, errors well above rounding are bounded to a few percent."""
    rng = np.random.RandomState(n)
    A = np.eye(n) + 0.3 / np.sqrt(n) * rng.uniform(-1, 1, (30, n, n))
    B = np.linalg.inv(A)
    E = rng.uniform(-1, 1, B.shape)
    # A relative error of that size in the norm asked for.
    order = {"fro": "fro", "inf": np.inf, "1": 1}[norm]
    E *= (np.linalg.norm(B, order, (1, 2)) / np.linalg.norm(E, order, (1, 2)))[:, None, None]
    X = B + size * E
    error = hostile.true_errors(A, X)[:, hostile.NORMS.index(norm)]
    np.testing.assert_allclose(error, size, rtol=1e-4)
    sharp, cheap = (residual_bound(A, X, norm, sharp=x) for x in (True, False))
    assert (sharp <= (2 if size == 1e-2 else 1.1) * error).all()
    assert (cheap <= 10 * error).all()
    assert (sharp <= cheap).all()


@every_norm
def test_rounding_level(norm):
    """Of LAPACK's inverse of a well-conditioned matrix, no more than some n² u is lost."""
    for n in (1, 4, 16, 64):
        A = np.eye(n) + 0.3 / n * np.random.RandomState(n).uniform(-1, 1, (5, n, n))
        for dtype in TYPES:
            a = A.astype(dtype)
            bound = residual_bound(a, np.linalg.inv(a), norm)
            assert (bound <= 8 * n * n * np.finfo(dtype).eps).all()


def test_accumulate_removes_rounding():
    """float32 inverses of matrices of condition 1e5 are proven with residuals in float64 only."""
    rng = np.random.RandomState(0)
    U, V = (np.linalg.qr(rng.standard_normal((20, 8, 8)))[0] for _ in range(2))
    A = (U * np.logspace(0, -5, 8) @ V).astype(np.float32)
    X = np.linalg.inv(A.astype(np.float64)).astype(np.float32)
    error = hostile.true_errors(A, X)[:, 0]
    bound = residual_bound(A, X, accumulate="float64")
    assert (bound <= 1.1 * error).all()
    assert (residual_bound(A, X) > 100 * bound).all()


@every_norm
@every_library
@pytest.mark.parametrize("power", [-900, -300, -40, 40, 300, 900])
def test_powers_of_two_change_nothing(norm, convert, power):
    """‖A⁻¹ − X‖ / ‖A⁻¹‖ is the same for 2^k A and 2^−k X, and so are the bounds."""
    rng = np.random.RandomState(0)
    A = np.eye(4) + 0.2 * rng.standard_normal((20, 4, 4))
    X = np.linalg.inv(A) * (1 + 1e-5 * rng.standard_normal(A.shape))
    a, x = np.ldexp(A, power), np.ldexp(X, -power)
    bound = np.asarray(residual_bound(convert(a), convert(x), norm))
    np.testing.assert_allclose(bound, residual_bound(A, X, norm), rtol=1e-8)


@pytest.mark.parametrize("power", [-80, -20, 20, 80])
@every_norm
def test_powers_of_two_in_float32(norm, power):
    """As above, in float32."""
    rng = np.random.RandomState(0)
    A = (np.eye(4) + 0.2 * rng.standard_normal((20, 4, 4))).astype(np.float32)
    X = np.linalg.inv(A) * np.float32(1.01)
    bound = residual_bound(np.ldexp(A, power), np.ldexp(X, -power), norm)
    np.testing.assert_allclose(bound, residual_bound(A, X, norm), rtol=1e-3)


# Nothing proven, and what is refused.


@every_norm
@every_library
@pytest.mark.parametrize("sharp", [True, False])
def test_nothing_proven(norm, convert, sharp):
    """NaN, infinities, residuals of 1 and more, and singular matrices get inf, the others not."""
    eye = np.eye(2)
    singular = np.ones((2, 2))
    nan, inf = eye * np.nan, np.where(eye == 1, np.inf, 0)
    pairs = [
        (nan, eye), (eye, nan), (inf, eye), (eye, inf), (inf, nan), (inf, 0 * eye), (-inf, -inf),
        (eye, 0 * eye), (eye, -eye), (eye, 2 * eye), (0 * eye, eye), (singular, eye),
        (singular, singular / 2), (eye, 1e300 * eye), (1e300 * eye, eye),
        (1e308 * eye, 1e308 * eye),
    ]  # fmt: skip
    A, X = (np.array([pair[k] for pair in pairs] + [eye]) for k in range(2))
    bound = np.asarray(residual_bound(convert(A), convert(X), norm, sharp=sharp))
    assert (bound[:-1] == np.inf).all()
    assert bound[-1] < 1e-14


@every_library
def test_singular_by_one_ulp(convert):
    """Bounds below 1 prove regularity: integer matrices of rank n − 1 never get one."""
    rng = np.random.RandomState(0)
    for n in (2, 3, 6, 12):
        A = rng.randint(-9, 10, (200, n, n)).astype(float)
        A[:, :, 0] = A[:, :, 1:].sum(axis=2)
        A[:, 0] = A[:, 1:].sum(axis=1)
        X = hostile.float_inverse(A + 1e-9 * rng.standard_normal(A.shape))
        assert (np.asarray(residual_bound(convert(A), convert(X))) == np.inf).all()


def test_mixed_types():
    """One tensor makes the bound a tensor, one float64 argument or integers float64 residuals."""
    A, X = np.array([[[4, 1], [2, 3]]]), np.array([[[0.3, -0.1], [-0.2, 0.41]]])
    expected = residual_bound(A.astype(float), X)
    for a in (A, A.tolist(), A.astype(np.float32), A.astype(np.float16), torch.tensor(A)):
        for x in (X, X.tolist(), torch.tensor(X)):
            bound = residual_bound(a, x)
            assert torch.is_tensor(bound) == (torch.is_tensor(a) or torch.is_tensor(x))
            np.testing.assert_allclose(np.asarray(bound), expected, rtol=1e-6)
    assert residual_bound(A > 2, np.eye(2, dtype=bool)[None]).shape == (1,)


@every_library
def test_inputs_are_not_modified(convert):
    """Neither matrices nor approximate inverses are written to."""
    for dtype in TYPES:
        A, X, _ = sample(5, dtype)
        a, x = convert(A), convert(X)
        for norm in hostile.NORMS:
            residual_bound(a, x, norm)
        np.testing.assert_array_equal(np.asarray(a), A)
        np.testing.assert_array_equal(np.asarray(x), X)


@pytest.mark.parametrize(
    ("A", "X", "message"),
    [
        (np.eye(2)[None], np.eye(3)[None], r"shape \(1, 2, 2\).*shape \(1, 3, 3\)"),
        (np.eye(2)[None], np.eye(2), r"but both must be of one shape"),
        (np.eye(2)[None], np.eye(2).reshape(1, 4), r"but both must be of one shape"),
        (np.ones(4), np.ones(4), r"a matrix \(n, n\) or a stack \(..., n, n\)"),
        (np.ones((1, 2, 3)), np.ones((1, 2, 3)), r"a stack \(..., n, n\)"),
        (np.ones((1, 5)), np.ones((1, 5)), r"X.reshape\(-1, n, n\)"),
        (np.eye(2).reshape(1, 4), np.eye(2).reshape(1, 4), r"X.reshape\(-1, 2, 2\)"),
        (np.eye(3).reshape(1, 9) * 1j, np.eye(3).reshape(1, 9), r"X.reshape\(-1, 3, 3\)"),
        (torch.ones(1, 4) * 1j, torch.ones(1, 4), r"X.reshape\(-1, 2, 2\)"),
    ],
)
def test_pairs_that_are_refused(A, X, message):
    """Shapes that do not match and rows are refused."""
    with pytest.raises(ValueError, match=message):
        residual_bound(A, X)


@pytest.mark.parametrize("norm", ["l2", 2, "2", None, "nuc", -np.inf])
def test_unknown_norms(norm):
    """The message names what was given and what there is."""
    with pytest.raises(ValueError, match=r"Got norm=.*'fro', 'inf' and '1'"):
        residual_bound([[1.0]], [[1.0]], norm)


def test_unknown_precision():
    """The message names what was given and what there is."""
    with pytest.raises(
        ValueError, match=r"Got accumulate='float32'.*None, 'float64' or 'double-double'"
    ):
        residual_bound([[1.0]], [[1.0]], accumulate="float32")


@pytest.mark.parametrize(("name", "number"), [("inf", np.inf), ("1", 1)])
def test_norms_by_number(name, number):
    """NumPy's names of the norms are understood."""
    A, X, _ = sample(3, np.float64)
    np.testing.assert_array_equal(residual_bound(A, X, name), residual_bound(A, X, number))


@pytest.mark.parametrize("precision", ["medium", "high"])
@pytest.mark.parametrize("n", [2, 16, 32])
def test_matmul_precision(n, precision):
    """Where products may be of lower precision, float32 tensors still get valid bounds."""
    A, X, _ = sample(n, np.float32)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        for sharp in (True, False):
            bound = residual_bound(torch.tensor(A), torch.tensor(X), sharp=sharp)
            assert violations(bound, n, np.float32, "fro") == 0
            assert bound.isfinite().any()
    finally:
        torch.set_float32_matmul_precision(before)


@every_library
def test_one_matrix_that_could_be_rows(convert):
    """An array (4, 4) is one matrix, as in NumPy, which it was not before: a warning says so."""
    A = np.diag([1.0, 2.0, 4.0, 8.0])
    X = 1.01 * np.linalg.inv(A)
    with pytest.warns(AmbiguousShapeWarning, match=r"one matrix of order 4") as caught:
        bound = residual_bound(convert(A), convert(X))
    assert caught[0].filename == __file__
    assert tuple(bound.shape) == ()
    assert float(bound) == pytest.approx(0.01, rel=0.1)
    assert float(residual_bound(convert(A[None]), convert(X[None]))[0]) == float(bound)


@every_library
@pytest.mark.parametrize("norm", ["fro", "inf", "1"])
def test_complex_matrices(convert, norm):
    """The bound is of the norm of complex matrices, where sums are of magnitudes."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 3):
        A, E = rng.standard_normal((2, 300, n, n, 2)) @ [1, 1j]
        A += 2 * np.eye(n)
        inverse = np.linalg.inv(A)
        X = inverse + 1e-3 * E
        bound = np.asarray(residual_bound(convert(A), convert(X), norm))
        order = {"fro": "fro", "inf": np.inf, "1": 1}[norm]
        sizes = [np.linalg.norm(M, order, axis=(1, 2)) for M in (inverse - X, inverse)]
        proven = np.isfinite(bound)
        assert proven.sum() > 200
        assert (bound >= sizes[0] / sizes[1] * (1 - 1e-9))[proven].all()
