"""Bounds where numbers are huge, tiny or subnormal, and in processes that flush these to zero.

The oracle is exact: rational numbers. No test changes the mode of the process for another.
"""

import ctypes
import math
import platform
import sys
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from backends import every_dtype

import skinv
from skinv import CertifiedInverse, FeasibleRegionSampler, LinearInverseApprox
from skinv._arrays import conversion
from skinv._arrays.conversion import as_double
from skinv._linalg.products import column_norms
from skinv._linalg.scaling import powers_of_two, shifted, times_power
from skinv.bounds import certify_region, residual_bound
from skinv.certified._anchor import Anchor
from skinv.certified._iteration import solve_near, solve_with
from skinv.geometry import region_certificate

KINDS = pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["arrays", "tensors"])


@pytest.fixture(params=[False, True], ids=["gradual", "flushed"])
def mode(request):
    """What underflows is rounded, or flushed to zero, and so are subnormal operands."""

    @contextmanager
    def in_mode():
        torch.set_flush_denormal(request.param)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)

    return in_mode


def rationals(A):
    """The very numbers of an array, by their bits, whatever the mode."""
    A = np.ascontiguousarray(A)
    if A.dtype == np.float32:
        kind, fraction, bias = np.uint32, 23, 127
    else:
        kind, fraction, bias = np.uint64, 52, 1023
    out = np.empty(A.shape, dtype=object)
    for index, bits in np.ndenumerate(A.view(kind)):
        bits = int(bits)
        exponent, rest = (bits >> fraction) & (2 * bias + 1), bits & (2**fraction - 1)
        assert exponent < 2 * bias + 1, "not finite"
        size = rest if exponent == 0 else rest + 2**fraction
        value = Fraction(size) * Fraction(2) ** (max(exponent, 1) - bias - fraction)
        out[index] = -value if bits >> (8 * A.itemsize - 1) else value
    return out


def solution(A, b):
    """A⁻¹b in rational numbers, or None, by elimination."""
    n = len(A)
    M = np.concatenate([A, b.reshape(n, -1)], axis=1)
    for k in range(n):
        pivot = next((i for i in range(k, n) if M[i, k]), None)
        if pivot is None:
            return None
        M[[k, pivot]] = M[[pivot, k]]
        M[k] = M[k] / M[k, k]
        for i in range(n):
            if i != k and M[i, k]:
                M[i] = M[i] - M[i, k] * M[k]
    return M[:, n:]


def squares(A):
    return sum((x * x for x in A.ravel()), Fraction(0))


def holds(bound, part, whole):
    """Tell whether ‖part‖ <= bound ‖whole‖."""
    if bound == np.inf:
        return True
    return squares(part) <= Fraction(float(bound)) ** 2 * squares(whole)


def inverse_holds(A, X, bound):
    if bound == np.inf:
        return True
    true = solution(rationals(A), rationals(np.eye(len(A))))
    return true is not None and holds(bound, true - rationals(X), true)


def host(X):
    return X.numpy() if isinstance(X, torch.Tensor) else X


def spread(rng, n, dtype, m):
    """Matrices of all magnitudes, some entries subnormal or far below the largest; inverses."""
    low, high = (-148, 125) if dtype == np.float32 else (-1073, 1020)
    A = rng.standard_normal((m, n, n)) + 2 * n * np.eye(n)
    power = rng.randint(low, high, size=(m, 1, 1))
    power = power - np.where(rng.uniform(size=(m, n, n)) < 0.3, rng.randint(0, 60, (m, n, n)), 0)
    with np.errstate(all="ignore"):
        A = np.ldexp(A, power).astype(dtype)
        unit = np.abs(A).max(axis=(1, 2), keepdims=True).astype(np.float64)
        unit = np.ldexp(1.0, np.frexp(np.where(unit > 0, unit, 1.0))[1])
        scaled = A.astype(np.float64) / unit
        scaled[np.linalg.slogdet(scaled)[0] == 0] = np.eye(n)
        return A, (np.linalg.inv(scaled) / unit).astype(dtype)


@KINDS
@every_dtype
@pytest.mark.parametrize("n", [1, 2, 3])
def test_bounds_of_inverses_of_all_magnitudes(n, dtype, kind, mode):
    rng = np.random.RandomState(n)
    A, X = spread(rng, n, dtype, 60)
    off = np.ldexp(rng.standard_normal((60, 1, 1)), rng.randint(-50, -1, (60, 1, 1)))
    with np.errstate(all="ignore"):
        X = (X * (1 + off)).astype(dtype)
    X = np.where(np.isfinite(X), X, dtype(1))
    proven = 0
    for options in ({}, {"sharp": False}, {"accumulate": "float64"}, {"norm": "fro"}):
        with mode():
            bound = host(residual_bound(kind(A), kind(X), **options))
        assert all(map(inverse_holds, A, X, bound))
        proven += np.isfinite(bound).sum()
    assert proven > 0


@KINDS
def test_a_subnormal_entry_that_matters(kind, mode):
    """[[a, ε], [0, a]]⁻¹ is [[1, −ε/a], [0, 1]]/a: without ε the identity over a would be exact."""
    for dtype, a, entry in ((np.float32, 1e-36, 1e-39), (np.float64, 1e-306, 1e-309)):
        A = np.array([[[a, entry], [0, a]]], dtype=dtype)
        X = np.array([[[1 / a, 0], [0, 1 / a]]], dtype=dtype)
        exact = np.array([[[1 / a, -entry / a / a], [0, 1 / a]]], dtype=dtype)
        for options in ({}, {"sharp": False}, {"accumulate": "float64"}):
            with mode():
                bound = float(residual_bound(kind(A), kind(X), **options)[0])
            assert 7.07e-4 < bound < (7.2e-4 if options.get("sharp", True) else 1.1e-3)
        with mode():
            assert float(residual_bound(kind(A), kind(exact))[0]) < 1e-5
            assert float(residual_bound(kind(X), kind(A))[0]) > 7.07e-4  # A⁻¹ is not X
            assert float(residual_bound(kind(exact), kind(A))[0]) < 1e-5


@KINDS
@every_dtype
def test_reports_of_all_magnitudes(dtype, kind, mode):
    """Answers, complex and symmetric ones too, that are subnormal in part."""
    rng = np.random.RandomState(5)
    A, _ = spread(rng, 2, dtype, 60)
    A[::3] = (A[::3] + A[::3].swapaxes(1, 2)) / 2
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit()
    with mode():
        report = model.report(kind(A))
    finite = np.isfinite(host(report.bound))
    rows = (host(part)[finite] for part in (A, report.inverse, report.bound))
    for a, x, bound in zip(*rows, strict=True):
        assert inverse_holds(a, x, bound)
    assert finite.sum() > 20
    assert np.isnan(host(report.inverse)[~finite]).all()
    Z = (A[:, :1, :1] + 1j * A[:, 1:, 1:]).astype(np.result_type(dtype, np.complex64))
    model = CertifiedInverse(LinearInverseApprox([[1 + 0j]])).fit()
    with mode():
        inverse, bound = (host(part) for part in model.predict(kind(Z), return_bound=True))
    for z, w, proven in zip(Z[:, 0, 0], inverse[:, 0, 0], bound, strict=True):
        embedded = [np.array([[c.real, -c.imag], [c.imag, c.real]]) for c in (z, w)]
        assert inverse_holds(*embedded, proven)


@KINDS
@pytest.mark.parametrize("n", [1, 2, 3])
def test_solutions_of_all_magnitudes(n, kind, mode):
    """‖A‖, ‖b‖ and ‖x‖ anywhere in the range of exponents, and columns of zeros among b."""
    rng = np.random.RandomState(n)
    m = 60
    A = rng.standard_normal((m, n, n)) + 3 * n * np.eye(n)
    center = np.ldexp(3.0 * n * np.eye(n), 0)
    power = rng.randint(-1060, 1000, size=m)
    b = np.ldexp(rng.standard_normal((m, n, 2)), rng.randint(-1073, 1020, size=(m, 1, 2)))
    b[::7, :, 1] = 0.0
    proven = 0
    for k in range(m):
        with np.errstate(all="ignore"):
            near = np.ldexp(center + 0.1 * (A[k] - center), power[k])[None]
            P = np.linalg.inv(np.ldexp(near, -power[k])) * (1 + 1e-6 * rng.standard_normal())
            P = np.ldexp(P, -power[k])
        given, at = (kind(near), kind(b[k : k + 1])), np.ldexp(center, power[k])
        with mode():
            anchor = Anchor.of(at)
            answers = [] if anchor is None else [solve_near(anchor, *given, 1e-6)]
            answers.append(solve_with(kind(P), *given, 1e-6))
        true = solution(rationals(near[0]), rationals(b[k]))
        for x, bound in answers:
            for j in range(2):
                found = rationals(host(x)[0, :, j]) if np.isfinite(host(bound)[0, j]) else None
                proven += found is not None
                assert found is None or holds(host(bound)[0, j], true[:, j] - found, found)
    assert proven > m


@KINDS
def test_squares_of_norms_that_underflow(kind):
    """Solutions between 1e-162 and 1e-155, whose norms NumPy takes for zero, have true bounds."""
    A, b = np.eye(2)[None] * 1e70 / 1.43, np.full((1, 2), 1e-91)
    model = CertifiedInverse(LinearInverseApprox(np.eye(2) * 1e70)).fit()
    x, bound = (host(part) for part in model.solve(kind(A), kind(b), return_bound=True))
    true = Fraction(b[0, 0]) / Fraction(A[0, 0, 0])
    error = abs(true - Fraction(x[0, 0])) / Fraction(x[0, 0])
    assert error <= bound[0] <= 1e-6


def test_subnormal_right_hand_sides_are_not_zero(mode):
    """In float32 as in float64; only zeros have the solution zero."""
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit()
    for dtype, least in ((np.float32, 2.0**-149), (np.float64, 5e-324)):
        b = np.array([[least, 0], [0, 0]]).astype(np.float64).astype(dtype)
        b.view(np.uint32 if dtype == np.float32 else np.uint64)[0, 0] = 1
        A = np.tile(np.eye(2, dtype=dtype), (2, 1, 1))
        with mode():
            x, bound = model.solve(A, b, return_bound=True)
        assert bound[1] == 0
        assert bound[0] == np.inf or rationals(x)[0, 0] == rationals(b)[0, 0]


def test_scaling_is_exact(mode):
    """Powers of two, conversions and shifts of subnormal numbers are what they are in rationals."""
    bits = np.random.RandomState(0).randint(1, 2**52, 50).astype(np.uint64)
    bits[::5] >>= np.uint64(40)
    tiny = bits.view(np.float64)
    single = (bits % np.uint64(2**23)).astype(np.uint32).view(np.float32)
    few = np.array([[5e-324, 0.0], [0.0, 0.0], [3.0, -5.0], [np.inf, 1.0]])
    for kind in (lambda v: v, torch.from_numpy):
        with mode():
            moved = host(times_power(kind(tiny), kind(np.array(2.0**1000))))
            up, down = (kind(np.array(2.0**k)) for k in (-900, -1000))
            back, wide = host(shifted(kind(moved), up, down)), host(as_double(kind(single)))
            unit = host(powers_of_two(kind(few), 1))
        assert (rationals(moved) == rationals(tiny) * 2**1000).all()
        assert (rationals(back) == rationals(moved) * 2**100).all()
        assert (rationals(wide) == rationals(single)).all()
    np.testing.assert_array_equal(unit[1:, 0], [1, 4, 1])
    assert math.frexp(unit[0, 0]) == (0.5, -1021)


@pytest.mark.parametrize("scale", [2.0**500, 2.0**-500, 1e160, 1e-160])
def test_condition_numbers_at_the_ends_of_the_range(scale):
    """A uniform scale is no reason to refuse a matrix, nor to predict it worse."""
    A = (np.eye(3) + 0.1) * np.linspace(1, 1.05, 5)[:, None, None]
    plain = LinearInverseApprox().fit(A).predict(A)
    scaled = LinearInverseApprox().fit(A * scale).predict(A * scale)
    np.testing.assert_allclose(scaled * scale, plain, rtol=1e-12)
    model = CertifiedInverse(LinearInverseApprox(A[0] * scale)).fit(A * scale)
    assert set(model.report(A * scale).status) <= {"predicted", "refined"}
    assert FeasibleRegionSampler(A[0] * scale, 0.1 * scale).fit().is_certified_


def test_what_flushes_is_told_wherever_it_was_compiled(mode):
    """Compilers of such a process read subnormal numbers as 0, and what they make is kept."""
    source = Path(conversion.__file__).read_text(encoding="utf-8")
    names = {"__name__": "again", "__package__": "skinv._arrays"}
    with mode():
        compiled = compile(source, "again", "exec")
    exec(compiled, names)
    assert not names["flushes"]()
    flushed = torch.set_flush_denormal(True)
    try:
        assert names["flushes"]() == flushed
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
def test_conversions_are_exact(mode):
    """Of lists, data frames, objects, and arrays of other bytes or precision."""
    single = np.array([[2e-36, 1e-39, 0.0, 2e-36]]).astype(np.float32)
    mixed = pandas.DataFrame(single, columns=list("abcd")).astype({"a": np.float64})
    alike = {
        "array": single,
        "bytes": single.astype(">f4"),
        "list": single.tolist(),
        "numbers": [[*single[0, :3], 2e-36]],
        "arrays": [single[0].reshape(2, 2), single[0].astype(np.float64).reshape(2, 2)],
        "objects": single.astype(object),
        "numbers as objects": np.array([[*single[0, :3], 2e-36]], dtype=object),
        "complex": single.reshape(1, 2, 2).astype(">c8"),
        "frame": mixed,
        "frame of one": pandas.DataFrame(single, columns=list("abcd")),
    }
    model = CertifiedInverse(LinearInverseApprox(np.diag([2e-36, 2e-36]))).fit()
    for name, given in alike.items():
        if name != "frame" and name != "frame of one":
            X = np.full((len(given), 2, 2), 1 / 2e-36) * np.eye(2)
            if isinstance(given, np.ndarray):
                stack = given.reshape(-1, 2, 2)
            else:
                stack = [row if np.ndim(row) > 1 else [row[:2], row[2:]] for row in given]
            with mode():
                assert residual_bound(stack, X).min() > 2.4e-4  # of the entry that is subnormal
        if name == "complex":
            continue
        with mode():
            x, bound = model.solve(given, np.ones((len(given), 2)), return_bound=True)
        assert bound.max() <= 1e-6
        assert abs(x[0, 0] * 2e-36 - (1 - 5e-4)) < 1e-6


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="codes of x86"
)
@pytest.mark.parametrize("code", [0x400, 0x800, 0xC00], ids=["down", "up", "to zero"])
def test_other_directions_of_rounding(code):
    """In a process that does not round to nearest bounds of 1/a are twice the usual, or more."""
    A = 1 + np.arange(1, 2001).reshape(-1, 1, 1) / 2001
    X = np.nextafter(1 / A, 2)
    model = CertifiedInverse(LinearInverseApprox([[1.5]]), tol=1e-15, fallback="keep").fit()
    single, solve = model.inverse_function(), model.solve_function()
    rounding = ctypes.CDLL("libm.so.6").fesetround
    try:
        rounding(code)
        bound = residual_bound(A, X)
        ones = [single(a)[:2] for a in A]
        sides = [solve(a, np.ones(1))[:2] for a in A]
        Y, proven = model.predict(A, return_bound=True)
        x, solved = model.solve(A, np.ones((2000, 1)), return_bound=True)
    finally:
        rounding(0)
    (Z, alone), (z, found) = (map(np.array, zip(*each, strict=True)) for each in (ones, sides))
    for answers, bounds in ((X, bound), (Y, proven), (Z, alone), (x, solved), (z, found)):
        pairs = zip(A.ravel(), answers.ravel(), bounds, strict=True)
        off = [(abs(1 - Fraction(a) * Fraction(y)), Fraction(c)) for a, y, c in pairs if c < 1]
        assert off
        # Of a solution relative to itself, within 1e-15 of the other.
        assert all(
            error <= c * (1 + (answers is x or answers is z) * Fraction(1, 10**14))
            for error, c in off
        )


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="codes of x86"
)
@pytest.mark.parametrize("code", [0x400, 0xC00], ids=["down", "to zero"])
def test_bounds_of_entries_that_overflow(code):
    """Rounded so, numbers past the largest become the largest, and that bounds nothing."""
    A = np.array([[[-(2.0**-957), -(2.0**-227)], [0, 2.0**-740]]])
    largest = np.finfo(np.float64).max  # of A⁻¹ that entry is 2^1470
    X = np.array([[[-(2.0**957), -largest], [0, 2.0**740]]])
    rounding = ctypes.CDLL("libm.so.6").fesetround
    try:
        rounding(code)
        radius = residual_bound(A, X, componentwise=True)
    finally:
        rounding(0)
    assert radius[0, 0, 1] == np.inf
    assert radius[0, 1, 1] < 2.0**700


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="codes of x86"
)
@KINDS
@pytest.mark.parametrize("code", [0x400, 0xC00], ids=["down", "to zero"])
def test_norms_whose_squares_overflow(code, kind, mode):
    """They are infinite, not the root of the largest number, or what is flushed seems little."""
    A = np.diag([1.0, 2.0**-1022, 2.0**-1022])
    A[1, 2] = A[2, 1] = 2.0**-1023
    X = np.diag([1.0, 2.0**1022, 2.0**1022])
    given, rounding = (kind(A[None]), kind(X[None])), ctypes.CDLL("libm.so.6").fesetround
    with mode():
        try:
            rounding(code)
            bounds = [residual_bound(*given, norm) for norm in ("fro", "inf", "1")]
            lengths = column_norms(given[1])
        finally:
            rounding(0)
    assert all(inverse_holds(A, X, float(bound[0])) for bound in bounds)
    assert host(lengths)[0].tolist() == [1, np.inf, np.inf]


@KINDS
def test_solutions_with_subnormal_entries_beside_huge_matrices(kind, mode):
    """No other matrix of a batch has entries scaled that are flushed even then."""
    A = np.array([[[-0.5, 0.25], [2.0**-1025, 2.0**-1021]], [[1e115, 1e24], [1e8, 1e-82]]])
    b = np.array([[2.0**-1000, 2.0**-998], [1.0, 1.0]])[..., None]
    with mode():
        report = skinv.solve(kind(A), kind(b), return_report=True)
    x, bound = host(report.solution), host(report.bound)
    assert bound[0, 0] < 1e-9
    for a, y, side, c in zip(A, x, b, bound, strict=True):
        true = solution(rationals(a), rationals(side))
        assert holds(c[0], true - rationals(y), rationals(y))


def test_distances_to_keep_that_are_subnormal(mode):
    """A region that reaches within a subnormal distance of singular matrices does not keep it."""
    center, radius, keep = np.array([[2.5e-308]]), 1.5e-308, 1.2e-308
    with mode():
        certificate = region_certificate(center, radius, "l2", keep)
    assert not certificate.is_certified
    assert certificate.min_distance == keep


def test_worst_errors_of_models_with_subnormal_coefficients(mode):
    """At 5e153 coefficients of an affine map are near 1e-308: bounds are loose then, but bounds."""
    center = np.array([[3.0, 1.0], [1.0, 2.0]]) * 5e153
    region = FeasibleRegionSampler(center, 0.3 * 5e153, random_state=0).fit()
    model = LinearInverseApprox(method="lstsq").fit(*region.sample(60))
    with mode():
        found = certify_region(model, region, 0.3, max_boxes=200, max_time=None)
    A = rationals(found.witness)
    row = rationals(model._y_mean) + (A.ravel() - rationals(model._x_mean)) @ rationals(model._map)
    true = solution(A, rationals(np.eye(2))).ravel()
    assert max(abs(row - true)) >= Fraction(found.lower)
    c, r = 1.0396155225795179e301, 1.3701286630874183e298
    region, model = FeasibleRegionSampler([[c]], r).fit(), LinearInverseApprox([[c]]).fit()
    with mode():
        upper = certify_region(model, region, max_time=None).upper
    low, b = Fraction(c) - Fraction(r), Fraction(float(model.inverse_[0, 0]))
    assert abs(1 / low - b * (2 - low * b)) <= Fraction(upper)


def test_half_precision_of_uneven_size():
    """Inverses that are small for float16 have bounds, too; so have tensors with signs turned."""
    model = CertifiedInverse(LinearInverseApprox([[32.0, 1], [1, 32]])).fit()
    report = model.report(torch.tensor([[32.0, 1, 1, 32]] * 2, dtype=torch.float16))
    assert (report.bound < 1e-2).all()
    A = torch.complex(torch.zeros(3, 2, 2), torch.eye(2) * 32).conj().imag
    assert (residual_bound(-1.0 * A, torch.eye(2).expand(3, 2, 2) / 32) < 1e-6).all()
    assert (residual_bound(A, -torch.eye(2).expand(3, 2, 2) / 32) < 1e-6).all()
    x, bound = model.solve(A.neg(), A[:, 0], return_bound=True)
    assert (bound <= 1e-6).all()
    np.testing.assert_allclose(x[:, 0], -1)
