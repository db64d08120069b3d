"""Solutions from scratch, and what a centre is measured by: bounds of 2-norms, without SVDs."""

import ctypes
import platform
import sys
from fractions import Fraction

import hostile
import numpy as np
import pytest
from test_floating_point import rationals, solution, squares

import skinv
from skinv._linalg import products
from skinv._linalg.arithmetic import Arithmetic
from skinv.certified import _iteration
from skinv.certified._anchor import Anchor, contraction, spectral_bounds
from skinv.certified._iteration import _inverses, relative_error, solve_exactly, solve_near

CODES = pytest.mark.parametrize(
    "code", [0, 0x400, 0x800, 0xC00], ids=["nearest", "down", "up", "to zero"]
)
ON_X86 = pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="codes of x86"
)


def rounded_by(code, function, *args):
    """Call a function in a mode of rounding."""
    if not code:
        return function(*args)
    rounding = ctypes.CDLL("libm.so.6").fesetround
    rounding(code)
    try:
        return function(*args)
    finally:
        rounding(0)


# Bounds of 2-norms.


def least_square(H):
    """Return the exact ‖Hv‖²/‖v‖² for the leading singular vector v, as it is rounded."""
    unit = 2.0 ** np.floor(np.log2(abs(H).max()))
    v = np.linalg.svd(H / unit)[2][0].conj()
    parts = [[rationals(M).reshape(M.shape) for M in (np.real(M), np.imag(M))] for M in (H, v)]
    (a, b), (c, d) = parts
    image = [a @ c - b @ d, a @ d + b @ c]
    return sum(squares(part) for part in image) / sum(squares(part) for part in (c, d))


def stacks_of(n, seed):
    """Return stacks of all kinds."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((4, n, n))
    return {
        "plain": H,
        "complex": H + 1j * rng.standard_normal(H.shape),
        "orthogonal": np.linalg.qr(H)[0],
        "of rank one": H[:, :, :1] * H[:, :1],
        "huge and tiny": H * np.array([1e150, 1e-150, 1e300, 1e-300])[:, None, None],
        "subnormal": H * 1e-310,
        "in mixed units": H * 10.0 ** rng.integers(-100, 100, (4, n, 1)),
    }


@ON_X86
@CODES
@pytest.mark.parametrize("n", [1, 2, 5])
def test_spectral_bounds(n, code):
    """They are no less than the 2-norms, in any direction of rounding."""
    for name, H in stacks_of(n, n).items():
        with np.errstate(all="ignore"):
            bounds = rounded_by(code, spectral_bounds, H)
        for matrix, bound in zip(H, bounds, strict=True):
            assert Fraction(float(bound)) ** 2 >= least_square(matrix), name


@pytest.mark.parametrize("n", [2, 14, 50, 200])
def test_spectral_bounds_are_sharp(n):
    """Of most matrices they are within 5 % of the 2-norms, of orthogonal ones within n^(1/64)."""
    for name, H in stacks_of(n, n).items():
        most = max(n ** (1 / 64) if name == "orthogonal" else 1.0, 1 / 0.95)
        unit = 2.0 ** np.floor(np.log2(abs(H).max(axis=(1, 2), keepdims=True)))
        if name != "subnormal":
            true = np.linalg.norm(H / unit, 2, axis=(1, 2)) * unit[:, 0, 0]
            with np.errstate(all="ignore"):
                assert (spectral_bounds(H) <= true * most * (1 + 1e-9)).all(), name


def test_spectral_bounds_of_nothing():
    """Zeros are bounded by next to nothing, and what is not finite by nothing."""
    H = np.zeros((3, 4, 4))
    assert (spectral_bounds(H) < 1e-9).all()
    H[1, 2, 3], H[2, 0, 0] = np.inf, np.nan
    with np.errstate(all="ignore"):
        assert not np.isfinite(spectral_bounds(H)[1:]).any()


def test_a_move_takes_no_svd_and_no_units(monkeypatch):
    """Units of a centre are found out when they are asked for, and are those of a file."""
    rng = np.random.default_rng(0)
    center = np.eye(6) + 0.1 * rng.standard_normal((6, 6))
    known = Anchor.of(center, center + 0.01 * rng.standard_normal((20, 6, 6)))
    with monkeypatch.context() as without:
        without.setattr(np.linalg, "svd", None)
        without.setattr("skinv.certified._anchor.unit_exponents", None)
        moved = Anchor.at(center + 0.1, np.linalg.inv(center + 0.1), known)
    assert not moved.moved
    again = Anchor.from_state(**moved.to_state())
    np.testing.assert_array_equal(moved.units, again.units)
    assert moved.spectral == again.spectral


@ON_X86
@CODES
@pytest.mark.parametrize("directions", [False, True])
def test_huge_matrices_are_far_from_any_centre(code, directions):
    """Also where sums that overflow are the largest number, and their differences are 0."""
    rng = np.random.default_rng(1)
    center = 3 * np.eye(3) + 0.3 * rng.standard_normal((3, 3))
    moves = 0.3 * rng.uniform(-1, 1, (40, 1, 1)) * rng.standard_normal((3, 3))
    anchor = Anchor.of(center, center + moves if directions else None)
    assert (len(anchor.offsets) > 0) == directions
    A = np.tile(center, (64, 1, 1))
    for a, entry in zip(A, np.r_[np.logspace(60, 308, 63), np.finfo(float).max], strict=True):
        a[tuple(rng.integers(0, 3, (2, rng.integers(1, 5))))] = rng.choice([-1, 1]) * entry
    with np.errstate(all="ignore"):
        q = rounded_by(code, lambda: contraction(anchor, A).q)
        bound = rounded_by(code, lambda: solve_near(anchor, A, np.ones((64, 3, 1)), 1e-6)[1])
    assert not (q < 1).any()
    assert not np.isfinite(bound).any()
    # Nor is anything believed of a file with an inverse so large.
    with np.errstate(all="ignore"):
        assert rounded_by(code, Anchor.from_state, center, A[-1], center[None]) is None


# Solutions from scratch.


def systems_of(n, seed):
    """Return matrices and right-hand sides: some of condition numbers up to 1e12, some extreme."""
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((60, n, n)))[0] for _ in range(2))
    A = (U * 10.0 ** -np.linspace(0, rng.uniform(0, 12, 60), n, axis=1)[:, None]) @ V
    A[40:50] *= 2.0 ** rng.integers(-500, 500, (10, 1, 1))
    A[50:] *= 2.0 ** rng.integers(-100, 100, (10, n, 1))
    b = rng.standard_normal((60, n, 2))
    b[::3] = A[::3] @ b[::3]
    return A, b


@ON_X86
@CODES
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_solutions_from_scratch(n, code):
    """Closed forms, elimination and LAPACK prove what is true, in any direction of rounding."""
    A, b = systems_of(n, n)
    exact = [solution(rationals(a), rationals(c)) for a, c in zip(A, b, strict=True)]
    for times in (1, 2):  # many are inverted in another way than few
        several = (np.tile(M, (times, 1, 1)) for M in (A, b))
        x, bound = rounded_by(code, solve_exactly, *several, 1e-9)
        assert np.isfinite(bound).mean() > 0.9
        for true, y, e in zip(exact * times, x, bound, strict=True):
            for j in np.flatnonzero(np.isfinite(e)):
                found = rationals(y[:, j : j + 1])
                limit = Fraction(float(e[j])) ** 2 * squares(found)
                assert squares(found - true[:, j : j + 1]) <= limit


@ON_X86
@CODES
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_what_is_known_of_inverses(n, code):
    """‖I − PA‖_F is not underestimated, whatever P came from."""
    A = systems_of(n, n)[0][:40]
    # Errors of large rows of P count by large columns of A.
    units = 2.0 ** np.random.default_rng(n).integers(-12, 12, (40, 1, n))
    A = np.concatenate([A, A[:1] * units, hostile.matrices(n, 52, np.float64, n)])
    A = A[np.isfinite(A).all(axis=(1, 2))]
    with np.errstate(all="ignore"):
        P, known = rounded_by(code, _inverses, A)
    for a, p, q in zip(A, P, known.q, strict=True):
        if np.isfinite(q):
            off = squares(rationals(p) @ rationals(a) - np.eye(n, dtype=int))
            assert off <= Fraction(float(q)) ** 2
    assert np.isfinite(known.q[:40]).mean() > 0.9
    assert np.median(known.q[:40]) < 1e-2


@pytest.mark.parametrize("n", [2, 3, 4, 6, 9, 17])
def test_solutions_are_as_good_as_those_of_lapack(n):
    """Bounds are of a few roundings, and no solution is far worse than LAPACK's."""
    rng = np.random.default_rng(n)
    U, V = (np.linalg.qr(rng.standard_normal((300, n, n)))[0] for _ in range(2))
    for digits in (0, 4, 8):
        A = (U * np.logspace(0, -digits, n)) @ V
        b = rng.standard_normal((300, n, 3))
        # Solutions to twice as many digits, by corrections.
        P, wide = np.linalg.inv(A), A.astype(np.longdouble)
        x = (P @ b).astype(np.longdouble)
        for _ in range(8):
            x = x + P @ (b - wide @ x).astype(np.float64)
        ours, theirs = (
            np.linalg.norm((y - x).astype(np.float64), axis=1) / np.linalg.norm(y, axis=1)
            for y in (skinv.solve(A, b), np.linalg.solve(A, b))
        )
        assert np.median(ours) <= 1.5 * np.median(theirs)
        assert ours.max() <= 3 * theirs.max()


def test_small_systems_need_no_lapack(monkeypatch):
    """Neither its solutions nor its inverses, unless closed forms lose digits."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((200, 3, 3)) + 4 * np.eye(3)
    b = rng.standard_normal((200, 3, 1))
    expected = np.linalg.solve(A, b)
    with monkeypatch.context() as without:
        for name in ("solve", "inv"):
            without.setattr(np.linalg, name, None)
        np.testing.assert_allclose(skinv.solve(A, b), expected, rtol=1e-11)
    A[7] = [[1, 2, 3], [4, 5, 6], [7, 8, 9 + 1e-11]]
    asked = []
    right = products.exact_inverse
    monkeypatch.setattr(
        _iteration, "exact_inverse", lambda stack: [asked.append(len(stack)), right(stack)][1]
    )
    report = skinv.solve(A, b, return_report=True)
    assert asked == [1]
    assert (report.bound[np.arange(200) != 7] < 1e-12).all()
    assert report.bound[7, 0] < 1e-2


def test_few_systems_need_no_elimination(monkeypatch):
    """Calls for every entry take longer than LAPACK does."""
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((64, 16, 16)) + 9 * np.eye(16), np.ones((64, 16, 1))
    expected = skinv.solve(A, b)
    asked, right = [], _iteration.small_inverses
    monkeypatch.setattr(
        _iteration, "small_inverses", lambda A, *out: [asked.append(len(A)), right(A, *out)][1]
    )
    for m in (1, 20, 63, 64):
        np.testing.assert_allclose(skinv.solve(A[:m], b[:m]), expected[:m], rtol=1e-11)
    assert asked == [64]


@pytest.mark.parametrize("n", [3, 6, 20])
def test_singular_systems_spoil_nothing(n):
    """Of hostile matrices among others every one is answered as it is alone."""
    A = hostile.matrices(n, 26, np.float64, n)
    b = np.random.default_rng(n).standard_normal((len(A), n, 2))
    x = skinv.solve(A, b)
    for i in range(len(A)):
        # Products of many columns may be rounded in another order.
        alone = skinv.solve(A[i : i + 1], b[i : i + 1])[0]
        np.testing.assert_array_equal(np.isnan(alone), np.isnan(x[i]))


def test_relative_errors_of_next_to_nothing():
    """What is proven of solutions so small that their norms say nothing is nothing."""
    arithmetic = Arithmetic.of(np.zeros(1))
    lost = 8 * 3 * arithmetic.tiny**0.5
    lengths = np.r_[0.0, lost * 2.0 ** np.arange(-60, 120)]
    for error in (lost, 10 * lost):
        found = relative_error(arithmetic, 3, error, lengths)
        proven = np.isfinite(found) & (found >= 0)
        gamma = arithmetic.gamma(7)
        least = lengths[proven] * (1 - 2 * gamma) - lost
        needed = (error + 2 * arithmetic.unit * lengths[proven]) / least
        assert (least > 0).all()
        assert (found[proven] >= needed * (1 - 1e-12)).all()
        assert proven.any()
