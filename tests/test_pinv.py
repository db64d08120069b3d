"""skinv.pinv: pseudo-inverses and damped ones with proofs, against exact rationals."""

import ctypes
import itertools
import platform
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial

import hostile
import numpy as np
import pytest
import torch
from backends import every_library
from rectangles import KINDS, SHAPES, exact, squares, wild

import skinv
from skinv.certified import _full_rank

X86 = platform.machine() == "x86_64" and sys.platform == "linux"
DAMPINGS = (0.0, 1e-9, 0.3, 1e6, 2.0**-560)


def rounding(code):
    """Set the direction of rounding; 0 is to nearest."""
    if X86:
        ctypes.CDLL("libm.so.6").fesetround(code)


def holds(A, X, bound, distance, damping):
    """Whether a bound, if it is finite, is one, and so is the distance, by ‖A⁺‖_F alone."""
    inverse = exact(A, damping)
    if not np.isfinite(bound):
        return True
    off = squares(inverse - hostile.rational(X))  # None has no difference: a false proof of rank
    size = squares(inverse)
    good = Fraction(float(bound)) ** 2 * size >= off
    if damping == 0 and bound < 1e-3:  # 1/‖A⁺‖_F, and not much less
        size /= 2 if np.iscomplexobj(A) else 1  # of the real matrix that embeds it
        reached = Fraction(float(distance)) ** 2 * size
        good &= Fraction(1, 2) < reached <= 1 or (distance == 0 and size > 2**1900)
    return good


def violations(A, damping, mode=nullcontext):
    """Count the bounds and distances that are wrong, and all bounds that are finite."""
    with mode():
        report = skinv.pinv(A, damping=damping, return_report=True)
        X, bound, distance = report.inverse, report.bound, report.distance
    assert (np.isnan(X).all(axis=(1, 2)) == (bound == np.inf)).all()
    wrong = [not holds(*each, damping) for each in zip(A, X, bound, distance, strict=True)]
    return sum(wrong), int(np.isfinite(bound).sum())


@pytest.fixture(params=[False, True], ids=["gradual", "flushed"])
def mode(request):
    """What underflows is rounded, or flushed to zero; matrices and oracles are made outside."""
    if request.param and not torch.set_flush_denormal(True):
        pytest.skip("This processor cannot flush subnormal numbers to zero.")
    torch.set_flush_denormal(False)

    @contextmanager
    def in_mode(code=0):
        torch.set_flush_denormal(request.param)
        rounding(code)
        try:
            yield
        finally:
            rounding(0)
            torch.set_flush_denormal(False)

    return in_mode


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_finite_is_a_proof(kind, mode):
    """Wide and tall, damped or not: no bound is too small, no rank is false."""
    rng = np.random.default_rng(len(kind))
    for m, n in SHAPES:
        for damping in DAMPINGS:
            A = KINDS[kind](rng, 2, m, n)
            A = A if rng.uniform() < 0.5 else np.ascontiguousarray(A.swapaxes(1, 2))
            assert violations(A, damping, mode)[0] == 0, (m, n, damping)


@pytest.mark.skipif(not X86, reason="codes of x86")
@pytest.mark.parametrize("code", [0x400, 0x800, 0xC00], ids=["down", "up", "to zero"])
def test_other_directions_of_rounding(code, mode):
    """What overflows is the largest number there, and powers by ** are not exact."""
    rng = np.random.default_rng(code)
    for (m, n), scale in itertools.product(SHAPES[1:4], (-1030, -1024, -1022, -700, 0, 520)):
        A = rng.standard_normal((4, m, n))
        A[:2] = np.ldexp(A[:2], scale)
        A[2, 0] = np.ldexp(A[2, 0], scale)
        for damping in (0.0, 0.3, 1e200):
            assert violations(A, damping, partial(mode, code))[0] == 0, (m, n, scale, damping)


@pytest.mark.parametrize("damping", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("kind", ["random", "complex", "single", "graded rows"])
def test_most_are_proven(kind, damping):
    """To a few roundings times the condition number, that is, of rows of one size."""
    rng = np.random.default_rng(1)
    for m, n in ((2, 3), (6, 7), (9, 14)):
        A = KINDS[kind](rng, 200, m, n)
        A = A[:, :, None, :] if damping and kind == "graded rows" else A[:, None]
        for M in A.swapaxes(0, 1):
            report = skinv.pinv(M, damping=damping, return_report=True)
            scaled = M / abs(M).max(axis=2, keepdims=True)
            kappa = np.linalg.cond(scaled.astype(complex))
            limit = 20 * n * np.finfo(report.inverse.dtype).eps * kappa
            limit = np.maximum(limit, 2.0**-30) if kind == "graded rows" else limit
            assert (report.bound <= limit).all()
            assert (report.status == "exact").all()
            assert (report.rank == min(M.shape[1:])).all()


def test_deficient_matrices():
    """Without full rank there is no proof and NaN; with damping, an answer, and it says so."""
    A = KINDS["deficient"](np.random.default_rng(0), 50, 4, 6)
    bad = skinv.pinv(A, return_report=True)
    assert np.isnan(bad.inverse).all()
    assert set(bad.status) == {"rejected"}
    damped = skinv.pinv(A, damping=0.5, return_report=True)
    assert (damped.bound < 1e-11).all()
    for report in (bad, damped):
        assert (report.bound < 1).all() or (report.bound == np.inf).all()
        assert (report.distance == 0).all()
        assert (report.rank == -1).all()
    tiny = skinv.pinv(A * 1e-180, damping=[0.0, 1e-181] * 25, return_report=True)
    assert (tiny.bound[::2] == np.inf).all()
    assert (tiny.bound[1::2] < 1e-9).all()
    zero = skinv.pinv(np.zeros((3, 2)), damping=1e-3, return_report=True)
    assert (zero.inverse == 0).all()
    assert zero.bound == 0


def test_distance_to_lower_rank():
    """A proven part of the smallest singular value, in the units of A, with damping and without."""
    rng = np.random.default_rng(3)
    for unit in (1.0, 2.0**-600, 2.0**900):
        A = KINDS["spread singular values"](rng, 40, 3, 5)
        least = np.linalg.svd(A, compute_uv=False)[:, -1]
        plain = skinv.pinv(A * unit, return_report=True)
        damped = skinv.pinv(A, damping=1e-3, return_report=True)
        for distance in (plain.distance / unit, damped.distance):
            proven = least > 1e-9
            assert (distance <= least * (1 + 1e-5))[proven].all()
            assert (distance >= least / 2)[proven].all()
        assert (plain.rank[proven] == damped.rank[proven]).all()


def test_square_matrices():
    """Pseudo-inverses of square matrices are inverses, in mixed units, too."""
    rng = np.random.default_rng(4)
    A = rng.standard_normal((60, 4, 4)) * wild(rng, (60, 4, 1), 9) * wild(rng, (60, 1, 4), 9)
    A[30:] *= wild(rng, (30, 1, 4), 150)
    report, inverse = skinv.pinv(A, return_report=True), skinv.inv(A, return_report=True)
    assert (report.rank == 4).all()
    size = np.linalg.norm(inverse.inverse, axis=(1, 2))
    off = np.linalg.norm(report.inverse - inverse.inverse, axis=(1, 2))
    assert (off <= 1.01 * size * (report.bound + inverse.bound)).all()
    assert (report.bound <= 1e-6).all()


@every_library
def test_layouts(convert):
    """Any leading axes, wide and tall, damping that broadcasts; inputs are left alone."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((2, 3, 4, 5))
    weights = np.array([0.0, 0.1, 2.0])
    expected = skinv.pinv(A, damping=weights)
    np.testing.assert_allclose(expected[:, 0], np.linalg.pinv(A[:, 0]), rtol=0, atol=1e-12)
    given = convert(A)
    found = skinv.pinv(given, damping=weights)
    assert type(found) is type(given)
    np.testing.assert_array_equal(np.asarray(found), expected)
    tall = skinv.pinv(convert(np.ascontiguousarray(A.swapaxes(2, 3))), damping=weights)
    np.testing.assert_allclose(np.asarray(tall), expected.swapaxes(2, 3), rtol=0, atol=1e-12)
    report = skinv.pinv(given, damping=weights[:1], return_report=True)
    assert tuple(report.bound.shape) == tuple(report.distance.shape) == (2, 3)
    assert report.status.shape == report.rank.shape == (2, 3)
    assert skinv.pinv(convert(A[0, 0])).shape == (5, 4)
    assert skinv.pinv(convert(A[0, 0]), damping=0.1, return_report=True).rank == 4
    assert skinv.pinv(convert(A[:0])).shape == (0, 3, 5, 4)
    np.testing.assert_array_equal(np.asarray(given), A)


def test_one_bad_matrix_spoils_nothing():
    """NaN, infinity and deficient matrices are NaN, the others as if they were alone."""
    rng = np.random.default_rng(1)
    for n in (3, 10):
        A = rng.standard_normal((9, n, n + 2))
        alone = skinv.pinv(A)
        A[2], A[4, 0, 0], A[6, 1, 1] = 1.0, np.nan, np.inf
        bad = [2, 4, 6]
        for fallback in ("exact", "nan", "keep"):
            report = skinv.pinv(A, fallback=fallback, return_report=True)
            np.testing.assert_array_equal(
                np.delete(report.inverse, bad, 0), np.delete(alone, bad, 0)
            )
            assert np.isnan(report.inverse[bad[1:]]).all()
            assert (report.bound[bad] == np.inf).all()
            assert list(report.status[bad]) == ["rejected", "not finite", "not finite"]
        for fallback in ("raise", "exact-raise"):
            with pytest.raises(ValueError, match=r"\[2, 4, 6\]"):
                skinv.pinv(A, fallback=fallback)


def test_tolerance():
    """What is not within `tol` is said to be, NaN or an error, as the fallback says."""
    A = np.stack([np.vander(np.arange(1, 7.0), 7), np.eye(6, 7)])
    kept = skinv.pinv(A, tol=1e-13, return_report=True)
    assert list(kept.status) == ["inaccurate", "exact"]
    assert np.isfinite(kept.inverse).all()
    assert np.isnan(skinv.pinv(A, tol=1e-13, fallback="nan")[0]).all()
    with pytest.raises(ValueError, match=r"pseudo-inverses .* within 1e-13"):
        skinv.pinv(A, tol=1e-13, fallback="raise")


def test_errors_of_any_guess():
    """Column by column, of what is far off in the range of Aᴴ, out of it, or by rounding only."""
    rng = np.random.default_rng(6)
    B = KINDS["spread singular values"](rng, 60, 3, 5) * wild(rng, (60, 1, 1), 30)
    X = np.linalg.pinv(B, rcond=1e-15)
    X[:20] *= 1 + 10.0 ** -rng.uniform(1, 15, (20, 1, 3))
    noise = rng.standard_normal((20, 5, 3)) * abs(X[20:40]).max(axis=(1, 2), keepdims=True)
    noise *= 10.0 ** -rng.uniform(1, 25, (20, 1, 1))
    X[20:40] += noise - X[20:40] @ (B[20:40] @ noise)
    for n in (3, 5):
        errors, *_ = _full_rank.column_errors(B, X, n)
        assert np.isfinite(errors).sum() > 100
        for k in range(60):
            off = exact(B[k], 0.0) - hostile.rational(X[k])
            for j in np.flatnonzero(np.isfinite(errors[k])):
                size = sum(Fraction(int(off[i, j].p), int(off[i, j].q)) ** 2 for i in range(n))
                assert Fraction(float(errors[k, j])) ** 2 >= size


def test_without_rounding_there_is_no_proof(monkeypatch):
    """The law sees it where rounding is left out, of normal equations and of factorisations."""
    rng = np.random.default_rng(5)
    A = np.concatenate(
        [rng.standard_normal((30, 3, 4)), KINDS["spread singular values"](rng, 30, 3, 4)]
    )
    assert violations(A, 0.0) == (0, 60)
    exact_ones = replace(_full_rank.Arithmetic.of(A), unit=0.0)
    monkeypatch.setattr(_full_rank.Arithmetic, "of", staticmethod(lambda array: exact_ones))
    for some in (A[:30], A[30:]):
        assert violations(some, 0.0)[0] > 5


def test_what_is_refused():
    """Shapes, numbers and words that mean nothing, each with what is expected."""
    for bad in (3.0, np.ones(4), np.ones((2, 0)), np.ones((2, 0, 3))):
        with pytest.raises(ValueError, match="expected"):
            skinv.pinv(bad)
    for bad in (-1.0, np.nan, np.inf, [0.1, 0.2], "much", 1j):
        with pytest.raises(ValueError, match="damping"):
            skinv.pinv(np.ones((3, 2, 3)), damping=bad)
    for named in ({"tol": 0}, {"tol": -1.0}, {"fallback": "lapack"}):
        with pytest.raises(ValueError, match=next(iter(named))):
            skinv.pinv(np.ones((2, 3)), **named)
    with pytest.raises(ValueError, match="float64"):
        skinv.pinv(np.array([[2**53 + 1, 0]]))


def test_damping_of_others_changes_nothing():
    """A matrix without damping is proven as if it were alone."""
    A = np.array([[[3.0, 1e-20], [1.0, 2e-20]], np.eye(2)])
    alone = skinv.pinv(A, return_report=True)
    beside = skinv.pinv(A, damping=[0.0, 0.1], return_report=True)
    assert list(beside.status) == list(alone.status) == ["exact", "exact"]
    np.testing.assert_array_equal(beside.inverse[0], alone.inverse[0])
    assert beside.bound[0] == alone.bound[0]
