"""accumulate="double-double": errors no larger than rounding, and past 1/u, are proven as they are.

The oracle is exact: rational numbers.
"""

import ctypes
import math
import platform
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from backends import every_library
from hostile import rational
from test_components import KINDS, family, moved, squared_errors, violations
from test_floating_point import rationals, solution, spread

import skinv._linalg.doubled as doubled
from skinv.bounds import residual_bound
from skinv.refinement import newton_schulz


def radius_of(A, X):
    """Bounds of the entries of one matrix, or of a stack."""
    if A.ndim == 2:
        return radius_of(A[None], X[None])[0]
    return residual_bound(A, X, accumulate="double-double", componentwise=True)


def refined(A, X, n_steps=1):
    """Better inverses, of one matrix or of a stack."""
    if A.ndim == 2:
        return refined(A[None], X[None], n_steps)[0]
    return newton_schulz(A, X, n_steps, accumulate="double-double")


def hilbert(n):
    """The Hilbert matrix of order n times an integer, exactly, as a stack."""
    A = math.lcm(*range(1, 2 * n)) / np.add.outer(np.arange(n), np.arange(1.0, n + 1))[None]
    assert abs(A).max() < 2**53
    return A


@pytest.mark.parametrize("whole", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_violations(kind, whole):
    """In any units, before and after refinement; and all is proven that is without."""
    for A, X, rows, columns in family(kind, 1, whole):
        B, Y = moved(A, rows, columns), moved(X, -columns, -rows)
        bound = radius_of(B, Y)
        assert violations(B, Y, bound) == 0
        plain = residual_bound(B[None], Y[None], componentwise=True)[0]
        assert np.isfinite(bound).all() >= np.isfinite(plain).all()
        if np.isfinite(bound).all():
            if kind != "components and noise":  # bounds far past the errors of parts apart
                assert np.median(bound / plain) < 1.05
            Z = refined(B, Y)
            again = radius_of(B, Z)
            assert violations(B, Z, again) == 0
            assert np.isfinite(again).all()
        if kind in ("dense", "positive"):
            np.testing.assert_array_equal(bound, moved(radius_of(A, X), -columns, -rows))


def wrong_residuals(n, count, whole):
    """How many entries of (M + low)N − I are off by more than is said, of all sizes, some small."""
    rng = np.random.default_rng(n)
    M, N = (
        rng.standard_normal((2, 12, n, n)) * 2.0 ** rng.integers(-40, 40, (12, n, n)) for _ in "MN"
    )
    M, N = (part[0] + 1j * part[1] if whole else part[0] for part in (M, N))
    N[::4] = np.eye(n) + N[::4] / abs(N[::4]).sum(axis=(1, 2), keepdims=True) / 2
    M[::2] = np.linalg.inv(N[::2])
    if n > 1:  # [[p, q], [−b, a]] and [[a, −q], [b, p]] with ap + bq = 1: large, the product is I
        for at in range(1, 12, 4):
            p, q = (int(v) * 2 + 1 for v in rng.integers(2**44, 2**45, 2))
            p = p if math.gcd(p, q) == 1 else p + 2
            a = pow(p, -1, q)
            b = (1 - a * p) // q
            M[at], N[at] = np.eye(n), np.eye(n)
            M[at, :2, :2], N[at, :2, :2] = [[p, q], [-b, a]], [[a, -q], [b, p]]
    left = doubled.Left.of(M, count, M * 2.0**-54)
    right = doubled.Right.of(N, count)
    R = doubled._residual(left, right)
    row, diagonal = doubled._rounding(doubled.Arithmetic.of(M), n, left)
    allowed = 3 * 2.0**-53 * abs(R) + row * right.size + diagonal * np.eye(n)
    wrong = 0
    for m, low, a, r, most in zip(M, left.low, N, R, allowed, strict=True):
        E = (rational(m + 0j) + rational(low + 0j)) * rational(a + 0j) - rational(r + 0j)
        E = np.array(E.tolist())[:, :n] - np.eye(2 * n, n, dtype=int)
        E = [[Fraction(int(v.p), int(v.q)) ** 2 for v in row] for row in E]
        most = [[Fraction(float(v)) ** 2 for v in row] for row in most]
        wrong += sum(E[i][j] + E[n + i][j] > most[i][j] for i in range(n) for j in range(n))
    return wrong


@pytest.mark.parametrize("whole", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_residuals(n, count, whole):
    """They are off by no more than is said."""
    assert wrong_residuals(n, count, whole) == 0


PLANTED = {
    "rounding": ("_rounding", lambda old: lambda *args: tuple(0 * v for v in old(*args))),
    "sums": ("_two_sum", lambda old: lambda a, b: (a + b, 0 * a)),
    "slices": ("_bits", lambda old: lambda n, whole, count: old(n, whole, count) + 3),
}


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", PLANTED)
def test_planted_mistakes_show(name, count, monkeypatch):
    """The attack finds what is rounded and not accounted for."""
    where, make = PLANTED[name]
    monkeypatch.setattr(doubled, where, make(getattr(doubled, where)))
    assert wrong_residuals(7, count, False) > 0


def rounded_away():
    """A matrix, and an inverse that is wrong by 2⁻⁹⁹ in one entry, which no sum of products sees.

    The part of the product that is not exact is 2⁻⁴⁵ + 2⁻⁹⁹ there, no number of 53 bits.
    """
    a, b = [1 + 2.0**-47] * 4 + [1.0], [1, 1, 1, 1 + 2.0**-52, 1 - 2.0**-52]
    A, X = np.eye(7), np.eye(7)
    A[0, 1:6], A[1:6, 6] = np.negative(a), np.negative(b)
    X[0, 1:6], X[1:6, 6], X[0, 6] = a, b, 5 + 2.0**-45
    assert squared_errors(A, X)[0][6] == Fraction(2) ** -198
    return A, X


def test_rounding_that_hides_the_residual(monkeypatch):
    """The bound knows of the error, and only for the rounding that it allows for."""
    A, X = rounded_away()
    assert violations(A, X, radius_of(A, X)) == 0
    where, make = PLANTED["rounding"]
    monkeypatch.setattr(doubled, where, make(doubled._rounding))
    assert violations(A, X, radius_of(A, X)) == 1


@pytest.mark.parametrize("n", [3, 8, 14, 32])
def test_tightness(n):
    """Of inverses by LAPACK, and of those that are right to the last bits."""
    A = np.random.default_rng(n).standard_normal((4, n, n))
    X = np.linalg.inv(A)
    for inverses in (X, refined(A, X)):
        for a, x, radius in zip(A, inverses, radius_of(A, inverses), strict=True):
            errors = np.sqrt(np.array(squared_errors(a, x), dtype=float))
            assert np.median(radius[errors > 0] / errors[errors > 0]) <= 30
            relative = residual_bound(a, x, accumulate="double-double")
            assert relative <= 3 * np.linalg.norm(errors) / np.linalg.norm(x)


@pytest.mark.parametrize("n", range(8, 16))
def test_past_one_over_u(n):
    """Hilbert matrices of integers: right after two steps, and proven to be."""
    A = hilbert(n)
    X = refined(A, np.linalg.inv(A), 2)
    radius = radius_of(A, X)[0]
    assert violations(A[0], X[0], radius) == 0
    errors = np.sqrt(np.array(squared_errors(A[0], X[0]), dtype=float))
    assert np.median(radius[errors > 0] / errors[errors > 0]) <= 30
    assert residual_bound(A, X, accumulate="double-double") < 1e-12
    assert residual_bound(A, 1.01 * X, accumulate="double-double") == pytest.approx(0.01, rel=0.05)
    assert residual_bound(A, X) == np.inf or n < 13


def test_singular_matrices_of_integers():
    """Past 1/u, too, nothing is proven of a matrix that has no inverse."""
    for n in (5, 8, 12):
        A = hilbert(n)
        A[:, -1] = A[:, 0] + A[:, 1]
        for X in (np.linalg.pinv(A), np.linalg.inv(A + np.eye(n)), 0 * A, 0 * A * np.nan):
            Y = refined(A, X)
            assert (radius_of(A, X) == np.inf).all()
            assert (radius_of(A, Y) == np.inf).all()


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["arrays", "tensors"])
def test_all_magnitudes(kind, flushed):
    """What underflows is rounded, or flushed to zero; numbers anywhere in the range."""
    proven = 0
    for n in (1, 2, 3):
        rng = np.random.RandomState(n)
        A, X = spread(rng, n, np.float64, 60)
        X = X * (1 + np.ldexp(rng.standard_normal((60, 1, 1)), rng.randint(-53, -1, (60, 1, 1))))
        X = np.where(np.isfinite(X), X, 1.0)
        torch.set_flush_denormal(flushed)
        try:
            Y = refined(kind(A), kind(X))
            found = [(x, radius_of(kind(A), x)) for x in (kind(X), Y)]
        finally:
            torch.set_flush_denormal(False)
        for x, bound in found:
            for a, b, radius in zip(A, np.asarray(x), np.asarray(bound), strict=True):
                if np.isfinite(radius).all():
                    true = solution(rationals(a), rationals(np.eye(n)))
                    assert (abs(true - rationals(b)) <= rationals(radius)).all()
                    proven += 1
    assert proven > 180


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="codes of x86"
)
@pytest.mark.parametrize("code", [0x400, 0x800, 0xC00], ids=["down", "up", "to zero"])
def test_other_directions_of_rounding(code):
    """Sums are not known exactly then; bounds are those of plain residuals."""
    A = 1 + np.arange(1, 201).reshape(-1, 1, 1) / 201
    X = np.nextafter(1 / A, 2)
    rounding = ctypes.CDLL("libm.so.6").fesetround
    try:
        rounding(code)
        radius = doubled.corrections(A, X)[1]
        bound = radius_of(A, X)
    finally:
        rounding(0)
    assert (radius == np.inf).all()
    assert sum(violations(*each) for each in zip(A, X, bound, strict=True)) == 0
    assert (bound < 1e-15).all()


@every_library
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_kinds(convert, dtype):
    """(..., n, n) of any kind; answers in the precision of the data, bounds in float64."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((2, 3, 4, 4)).astype(dtype)
    A = A + dtype(1j) * A.swapaxes(2, 3) if np.iscomplexobj(A) else A
    X = np.linalg.inv(A) * dtype(1.001)
    Y = refined(convert(A), convert(X), 3)
    assert Y.dtype == convert(X).dtype
    radius = radius_of(convert(A), Y)
    assert radius.dtype == convert(np.zeros(1)).dtype
    Y, radius = np.asarray(Y), np.asarray(radius)
    assert (radius < 2 * np.finfo(dtype).eps * abs(np.linalg.inv(A)).max()).all()
    if np.iscomplexobj(A) == (A.dtype == np.complex128):  # as on a device, where NumPy is not
        D, there = doubled.corrections(*(torch.tensor(M.reshape(6, 4, 4)) for M in (A, Y)))
        there = (abs(D) + there).numpy().reshape(A.shape)
        np.testing.assert_allclose(there, radius, rtol=1e-6)
    for at in np.ndindex(2, 3):
        assert violations(A[at], Y[at], radius[at]) == 0
        np.testing.assert_allclose(radius_of(A[at][None], Y[at][None])[0], radius[at], rtol=1e-6)
    assert residual_bound(A[:, :0], Y[:, :0], accumulate="double-double").shape == (2, 0)


def test_memory_and_words():
    """Results are written over X if asked; other words and orders are refused."""
    A, X = np.array([[4.0, 1.0], [2.0, 3.0]]), np.array([[0.3, -0.1], [-0.2, 0.41]])
    given = X.copy()
    Y = refined(A, given)
    np.testing.assert_array_equal(given, X)
    out = newton_schulz(A, given, accumulate="double-double", overwrite_x=True)
    assert np.shares_memory(out, given)
    np.testing.assert_array_equal(out, Y)
    np.testing.assert_array_equal(refined(A, X, 0), X)
    for options in ({"accumulate": "double"}, {"accumulate": "double-double", "order": 3}):
        with pytest.raises(ValueError, match="accumulate must be None or 'double-double', and"):
            newton_schulz(A, X, 1, **options)
    with pytest.raises(ValueError, match="it must be None, 'float64' or 'double-double'"):
        residual_bound(A, X, accumulate="double")
