"""skinv.inv and skinv.solve: NumPy's answers with proofs, whatever comes."""

from fractions import Fraction

import hostile
import numpy as np
import pytest
import torch
from backends import every_library
from sklearn.linear_model import Ridge

import skinv
from skinv import CertifiedInverse, LinearInverseApprox
from skinv._linalg.small import LARGEST, small_inverses

ORDERS = (1, 2, 3, 4, 5, 7, 8, 9, 12)
KINDS = {
    "real": lambda rng, m, n: rng.standard_normal((m, n, n)),
    "complex": lambda rng, m, n: (
        rng.standard_normal((m, n, n)) + 1j * rng.standard_normal((m, n, n))
    ),
    "integers": lambda rng, m, n: rng.integers(-3, 4, (m, n, n)),
    "single": lambda rng, m, n: rng.standard_normal((m, n, n)).astype(np.float32),
}


def squares(M):
    """The sum of the squares of a matrix in rational numbers."""
    return sum(Fraction(int(v.p), int(v.q)) ** 2 for row in M.tolist() for v in row)


def holds(A, X, bound):
    """Whether ‖A⁻¹ − X‖_F <= bound ‖A⁻¹‖_F, in rational numbers."""
    inverse = hostile.rational(np.asarray(A) + 0.0).inv()
    off = squares(inverse - hostile.rational(X))
    return Fraction(float(bound)) ** 2 * squares(inverse) >= off


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_inverses(kind, n):
    """As accurate as LAPACK's, each with a bound that holds; singular ones are NaN and say so."""
    rng = np.random.default_rng(n)
    A = KINDS[kind](rng, 40, n)
    A[7] = A[7, :, :1] * A[7, :1] if n > 1 else 0
    report = skinv.inv(A, return_report=True)
    X, bound = report.inverse, report.bound
    np.testing.assert_array_equal(X, skinv.inv(A))
    assert X.dtype == np.result_type(A.dtype, np.float32 if kind == "single" else np.float64)
    good = np.isfinite(bound)
    assert (np.isnan(X).all(axis=(1, 2)) == ~good).all()
    assert (np.isin(report.status, ["singular", "rejected"]) == ~good).all()
    assert kind == "integers" or good.sum() >= 39
    for k in np.flatnonzero(good)[:20]:
        assert holds(A[k], X[k], bound[k])
        kappa = np.linalg.cond(A[k].astype(complex), "fro")
        eps = np.finfo(X.dtype).eps
        assert bound[k] <= 20 * n * eps * kappa
        assert np.isclose(report.condition[k], kappa, rtol=1e-3)
        assert report.distance[k] <= np.linalg.svd(A[k] + 0.0, compute_uv=False)[-1] * (1 + 1e-6)
        assert report.distance[k] * kappa * (1 + 1e-3) >= np.linalg.norm(A[k] + 0.0)
        exact = np.linalg.inv(A[k].astype(X.dtype))
        assert np.linalg.norm(X[k] - exact) <= 20 * n * eps * kappa * np.linalg.norm(exact)
    assert (report.distance[~good] == 0).all()
    assert (report.condition[~good] == np.inf).all()
    assert (report.radius[~good] == np.inf).all()


@pytest.mark.parametrize("n", range(1, LARGEST + 1))
def test_small_inverses(n):
    """Entry by entry over the batch, in any memory order: the inverse but for rounding."""
    rng = np.random.default_rng(n)
    for m in (0, 1, 5, 20_000):
        A = 3 * np.eye(n) + rng.uniform(-1, 1, (m, n, n)) / n
        for given in (A, np.asfortranarray(A), A.astype(np.float32), A + 1j * A.swapaxes(1, 2) / 9):
            out = np.empty(given.shape, given.dtype)
            before = given.copy()
            small_inverses(given, out)
            np.testing.assert_array_equal(given, before)
            exact = np.linalg.inv(given)
            np.testing.assert_allclose(out, exact, rtol=0, atol=2e3 * np.finfo(given.dtype).eps)


def test_hostile_matrices():
    """Whatever is finite is a proof: graded, nearly singular, huge, tiny, subnormal, mixed."""
    for n in (2, 3, 4, 6, 8):
        for seed in range(3):
            for dtype in (np.float64, np.float32):
                A = hostile.matrices(n, 60, dtype, seed)
                report = skinv.inv(A, return_report=True)
                finite = np.flatnonzero(np.isfinite(report.bound))
                errors = hostile.true_errors(A, report.inverse, finite)
                assert hostile.count_violations(report.bound[finite], errors[finite, 0]) == 0
                assert np.isnan(report.inverse).all(axis=(1, 2))[~np.isfinite(report.bound)].all()


@every_library
def test_layouts(convert):
    """Any leading axes, rows and columns anywhere, one matrix, none; inputs are left alone."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((2, 3, 4, 4))
    expected = skinv.inv(A)
    given = convert(A)
    np.testing.assert_array_equal(np.asarray(skinv.inv(given)), expected)
    assert type(skinv.inv(given)) is type(given)
    for axes in ((0, 1), (0, -1), (2, 1), (1, 0)):
        moved = convert(np.ascontiguousarray(np.moveaxis(A, (-2, -1), axes)))
        report = skinv.inv(moved, axes=axes, return_report=True)
        np.testing.assert_array_equal(
            np.moveaxis(np.asarray(report.inverse), axes, (-2, -1)), expected
        )
        np.testing.assert_array_equal(
            np.moveaxis(np.asarray(report.radius), axes, (-2, -1)),
            skinv.inv(A, return_report=True).radius,
        )
        assert tuple(report.bound.shape) == report.status.shape == (2, 3)
    np.testing.assert_allclose(np.asarray(skinv.inv(convert(A[0, 0]))), expected[0, 0], rtol=1e-12)
    assert skinv.inv(convert(A[:0])).shape == (0, 3, 4, 4)
    report = skinv.inv(given, return_report=True)
    for name in ("radius", "condition", "distance"):
        assert type(report[name]) is type(given)
    np.testing.assert_array_equal(np.asarray(given), A)


def test_one_bad_matrix_spoils_nothing():
    """NaN, infinity and singular matrices are answered by NaN, the others as if they were alone."""
    rng = np.random.default_rng(1)
    for n in (3, 10):
        A = rng.standard_normal((9, n, n))
        alone = skinv.inv(A)
        A[2], A[4, 0, 0], A[6, 1, 1] = 1.0, np.nan, np.inf
        report = skinv.inv(A, return_report=True)
        bad = [2, 4, 6]
        np.testing.assert_array_equal(np.delete(report.inverse, bad, 0), np.delete(alone, bad, 0))
        assert np.isnan(report.inverse[bad]).all()
        assert list(report.status[bad]) == ["singular", "not finite", "not finite"]
        with pytest.raises(ValueError, match=r"\[2, 4, 6\]"):
            skinv.inv(A, fallback="exact-raise")
        assert np.isnan(skinv.inv(A[2])).all()
        x = skinv.solve(A, np.ones(n))
        assert np.isnan(x[bad]).all()
        assert np.isfinite(np.delete(x, bad, 0)).all()


def test_tolerance():
    """What is not within `tol` is said to be, NaN or an error, as the fallback says."""
    A = np.stack([1 / (np.arange(8)[:, None] + np.arange(8) + 1), np.eye(8)])
    kept = skinv.inv(A, tol=1e-13, return_report=True)
    assert list(kept.status) == ["inaccurate", "exact"]
    assert np.isfinite(kept.inverse).all()
    assert np.isnan(skinv.inv(A, tol=1e-13, fallback="nan")[0]).all()
    for fallback in ("raise", "exact-raise"):
        with pytest.raises(ValueError, match="within 1e-13"):
            skinv.inv(A, tol=1e-13, fallback=fallback)


@pytest.mark.parametrize("near", ["matrix", "regressor", "certified", "of others"])
def test_near_a_known_matrix(near):
    """The short way leads to the same answers."""
    rng = np.random.default_rng(2)
    center = 3 * np.eye(5) + rng.standard_normal((5, 5)) / 3
    A = center + 0.05 * rng.standard_normal((50, 5, 5))
    b = rng.standard_normal((50, 5, 2))
    rows, inverses = A.reshape(50, 25), np.linalg.inv(A).reshape(50, 25)
    known = {
        "matrix": lambda: center,
        "regressor": lambda: LinearInverseApprox(center).fit(),
        "certified": lambda: CertifiedInverse(LinearInverseApprox(center), tol=1e-10).fit(),
        "of others": lambda: Ridge(1e-3).fit(rows, inverses),
    }[near]()
    A[3] = rng.standard_normal((5, 5))
    report = skinv.inv(A, near=known, return_report=True)
    assert (report.bound <= 1e-10).all()
    assert (np.delete(report.status, 3) == "refined").mean() > 0.9
    np.testing.assert_allclose(report.inverse, np.linalg.inv(A), rtol=1e-8, atol=1e-8)
    solved = skinv.solve(A, b, near=known, return_report=True)
    assert (solved.bound <= 1e-10).all()
    np.testing.assert_allclose(solved.solution, np.linalg.solve(A, b), rtol=1e-7, atol=1e-8)
    assert (abs(solved.solution - np.linalg.solve(A, b)) <= solved.radius + 1e-13).all()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((3, 3), (3,)),
        ((3, 3), (3, 2)),
        ((3, 3), (4, 3, 2)),
        ((4, 3, 3), (3,)),
        ((4, 3, 3), (3, 2)),
        ((4, 3, 3), (4, 3, 1)),
        ((2, 1, 3, 3), (4, 3, 2)),
        ((1, 3, 3), (5, 2, 3, 2)),
        ((0, 3, 3), (3, 2)),
        ((4, 3, 3), (3, 0)),
    ],
)
def test_systems_broadcast(first, second, whole):
    """As NumPy 2 has it: a vector only if there is one axis; bounds hold for each column."""
    rng = np.random.default_rng(3)
    A, b = (
        rng.standard_normal(shape) + 1j * rng.standard_normal(shape) * whole
        for shape in (first, second)
    )
    A, b = (M if whole else M.real.copy() for M in (A, b))
    vector = b.ndim == 1
    expected = np.linalg.solve(A, b[:, None])[..., 0] if vector else np.linalg.solve(A, b)
    report = skinv.solve(A, b, return_report=True)
    np.testing.assert_allclose(report.solution, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(skinv.solve(A, b), expected, rtol=1e-10, atol=1e-12)
    axis = -1 if vector else -2
    assert report.bound.shape == expected.sum(axis=axis).shape
    assert report.radius.shape == expected.shape
    assert (report.status == "proven").all()
    tensors = skinv.solve(torch.from_numpy(A), torch.from_numpy(b))
    np.testing.assert_allclose(tensors.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients(dtype):
    """Those of the functions, of first and second order, and 0 of what is answered by NaN."""
    torch.manual_seed(0)
    A = (3 * torch.eye(2, dtype=dtype) + torch.randn(4, 2, 2, dtype=dtype)).requires_grad_()
    b = torch.randn(4, 2, 1, dtype=dtype, requires_grad=True)
    for function, given in (
        (skinv.inv, (A,)),
        (lambda M: skinv.inv(M, axes=(0, 1)), (A[0],)),
        (lambda M: skinv.inv(M, near=M[0].detach().numpy(), tol=1e-13), (A,)),
        (skinv.solve, (A, b)),
        (skinv.solve, (A[0], b)),
        (skinv.solve, (A, b[0])),
        (skinv.solve, (A, b[0, :, 0])),
    ):
        assert torch.autograd.gradcheck(function, given)
        assert torch.autograd.gradgradcheck(function, given)
    bad = A.detach().clone()
    bad[1] = 1
    bad.requires_grad_()
    report = skinv.inv(bad, return_report=True)
    (g,) = torch.autograd.grad(abs(report.inverse[[0, 2, 3]]).sum(), bad)
    (h,) = torch.autograd.grad(abs(skinv.inv(bad)).nansum(), bad)
    assert (g[1] == 0).all()
    assert torch.isfinite(h).all()
    torch.testing.assert_close(g, h)
    solved = skinv.solve(bad, b)
    both = torch.autograd.grad(abs(solved).nansum(), (bad, b))
    assert all(torch.isfinite(part).all() and (part[1] == 0).all() for part in both)
    with torch.no_grad():
        assert not skinv.inv(A).requires_grad
    assert not skinv.inv(A.detach()).requires_grad


def test_what_is_asked_for_later():
    """Of the answers as they are then, in whatever library; without a tolerance all is taken."""
    for A in (np.diag([1.0, 1e-3]), np.diag([1.0, 1e-3])[None]):
        report = skinv.inv(A, return_report=True)
        report.inverse *= 0.01
        assert (report.distance <= 1e-3).all()
        assert (report.condition >= 1e3).all()
    n = np.arange(9)
    hilbert, b = 1 / (n[:, None] + n + 1), np.ones(9)
    x = skinv.solve(hilbert, b)
    for fallback in ("nan", "raise", "exact-raise"):
        np.testing.assert_array_equal(skinv.solve(hilbert, b, fallback=fallback), x)
    with pytest.raises(ValueError, match="could not be proven"):
        skinv.solve(np.ones((2, 2)), np.ones(2), fallback="raise")
    assert skinv.solve(hilbert, b, near=np.eye(9), return_report=True).status == "inaccurate"
    tiny = np.diag([1e-310] * 6) + 1e-311
    assert skinv.inv(tiny[None], return_report=True).status[0] == "rejected"


def test_gradients_of_columns():
    """A bad right-hand side has none, its neighbours have; what comes as NaN goes on as NaN."""
    A = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[1.0, np.nan], [2.0, 1.0]], dtype=torch.float64, requires_grad=True)
    skinv.solve(A, b)[:, 0].sum().backward()
    torch.testing.assert_close(A.grad, torch.tensor([[-0.08, -0.24], [-0.04, -0.12]]).double())
    assert (b.grad[:, 1] == 0).all()
    A.grad = None
    (skinv.solve(A, torch.ones(2, dtype=torch.float64)) * torch.inf).sum().backward()
    assert torch.isnan(A.grad).any()


def test_what_is_refused():
    """Shapes, numbers and words that mean nothing, each with what is expected."""
    for bad in (3.0, np.ones(4), np.ones((2, 3)), np.ones((2, 3, 4))):
        with pytest.raises(ValueError, match="expected"):
            skinv.inv(bad)
    for axes in ((0, 0), (-1, 2)):
        with pytest.raises(ValueError, match="expected"):
            skinv.inv(np.ones((2, 2, 2)), axes=axes)
    for bad in (np.ones(3), np.ones((3, 1)), 1.0):
        with pytest.raises(ValueError, match="Got right-hand sides"):
            skinv.solve(np.eye(2), bad)
    with pytest.raises(ValueError, match="do not broadcast"):
        skinv.solve(np.ones((2, 2, 2)), np.ones((3, 2, 1)))
    for named in ({"tol": 0}, {"tol": -1.0}, {"fallback": "lapack"}):
        for function in (skinv.inv, lambda A, **more: skinv.solve(A, np.ones(2), **more)):
            with pytest.raises(ValueError, match=next(iter(named))):
                function(np.eye(2), **named)
    with pytest.raises(ValueError, match="float64"):
        skinv.inv(np.array([[2**53 + 1, 0], [0, 1]]))
