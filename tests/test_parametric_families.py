"""Boxes of parameters: what is certified is regular, what is singular is found, and how sharply.

The oracles are matrices that are singular at rational parameters by construction, determinants in
rational numbers, and roots that are known; never the code.
"""

import ctypes
import itertools
import math
import pickle
import platform
import sys
from fractions import Fraction

import numpy as np
import pytest
import skops.io
import torch
from exhaustive import exhaustive
from flint import fmpq, fmpq_mat
from sklearn.base import clone

from skinv import CertifiedInverse, PolynomialInverseApprox
from skinv.geometry import (
    ParametricFamily,
    family_certificate,
    largest_regular_box,
    region_certificate,
)
from skinv.geometry._accretive import determinant_sign, lowest_eigenvalues, norm_above
from skinv.geometry._bernstein import coefficient_weights, monomials
from skinv.persistence import TRUSTED_TYPES

AFFINE = {k: np.vstack([np.zeros((1, k), int), np.eye(k, dtype=int)]) for k in range(1, 4)}


def product_of(p, exponents):
    return [np.prod([Fraction(x) ** int(a) for x, a in zip(p, e, strict=True)]) for e in exponents]


def det(matrix):
    """The determinant of a matrix of rational numbers."""
    n = len(matrix)
    return fmpq_mat(n, n, [fmpq(x.numerator, x.denominator) for x in np.ravel(matrix)]).det()


def exact_det(family, p):
    """The determinant of A(p) in rational numbers."""
    weights = product_of(p, family.exponents)
    terms = [
        w * np.vectorize(Fraction)(C) for w, C in zip(weights, family.coefficients, strict=True)
    ]
    return det(sum(terms[1:], terms[0]))


def singular_family(rng):
    """A family of integers times powers of two, and rational parameters where it is singular."""
    n, k = rng.randint(1, 5), rng.randint(1, 4)
    exponents = AFFINE[k]
    if rng.randint(2):
        rest = np.unique(rng.randint(0, 3, (k + 2, k)), axis=0)
        exponents = np.vstack([np.zeros((1, k), int), rest[rest.any(axis=1)]])
    b = int(rng.randint(1, 8))
    p = [Fraction(int(a), b) for a in rng.randint(-20, 21, k)]
    C = rng.randint(-4, 5, (len(exponents), n, n)).astype(object)
    S = rng.randint(-4, 5, (n, n)).astype(object)
    S[-1] = 2 * S[0] - S[1] if n > 2 else S[0] * (n == 2)
    C *= b ** int(exponents.sum(axis=1).max())
    C[0] = S - sum(w * D for w, D in zip(product_of(p, exponents[1:]), C[1:], strict=True))
    units = np.ldexp(1.0, np.add.outer(*(rng.randint(-30, 31, (2, n)) * rng.randint(2))))
    return ParametricFamily(C.astype(np.float64) * units, exponents), p


def rounded(x, direction):
    """The nearest float on one side of a rational number, or the number itself."""
    value = float(x)
    while (Fraction(value) - x) * direction < 0:
        value = np.nextafter(value, direction * np.inf)
    return value


def box_around(p, rng, outside):
    """A box with p in it, often on its boundary, or a bit outside of it."""
    low, high = [], []
    left_out = rng.randint(len(p)) if outside else -1
    for i, x in enumerate(p):
        width = 10.0 ** rng.uniform(-8, 1)
        if i == left_out:
            gap = width * 10.0 ** rng.uniform(-12, 0)
            ends = rounded(x, 1) + gap, rounded(x, 1) + gap + width
        else:
            share = rng.choice([0.0, 0.5, 1.0])
            ends = rounded(x, -1) - share * width, rounded(x, 1) + (1 - share) * width
        low.append(ends[0])
        high.append(ends[1])
    return np.array(low), np.array(high)


def check_certified(family, found, rng):
    """Nothing that is looked at in a certified box contradicts it."""
    low, high = found.lower, found.upper
    corners = np.array(list(itertools.product(*zip(low, high, strict=True))))[:8]
    signs = {exact_det(family, p.tolist()) > 0 for p in corners}
    assert len(signs) == 1
    P = np.concatenate([corners, found.witness[None], rng.uniform(low, high, (40, len(low)))])
    A = family(P)
    sigma = np.linalg.norm(A, -2, axis=(1, 2))
    rounding = 1e-13 * np.abs(family.coefficients).max() * max(1, np.abs(P).max()) ** 4
    assert 0 < found.margin <= sigma.min() + rounding
    assert found.margin_upper >= max(found.margin, sigma[len(corners)] - rounding)


@pytest.mark.parametrize("seed", [*range(5), *exhaustive(*range(5, 50))])
def test_no_box_with_a_singular_matrix_is_certified(seed):
    """Of 20 families a seed, half of the boxes around parameters of a singular matrix."""
    rng = np.random.RandomState(seed)
    certified = refuted = 0
    for i in range(20):
        family, p = singular_family(rng)
        assert exact_det(family, p) == 0
        low, high = box_around(p, rng, outside=i % 2)
        found = family_certificate(family, low, high, rtol=rng.choice([0.1, 1]), max_boxes=60)
        if found.is_certified:
            assert i % 2
            certified += 1
            check_certified(family, found, rng)
        elif found.status == "singular":
            refuted += 1
            assert found.margin_upper == 0
            assert ((found.witness >= low) & (found.witness <= high)).all()
    assert certified >= 1
    assert refuted >= 5


@pytest.mark.parametrize("n", [1, 3, 5])
def test_roots_of_one_parameter(n):
    """T diag(p − r) S is singular at r and nowhere else: boxes next to r are told apart."""
    rng = np.random.RandomState(n)
    T = np.tril(rng.randint(-2, 3, (n, n)), -1) + np.eye(n)
    S = np.triu(rng.randint(-2, 3, (n, n)), 1) + np.eye(n)
    roots = np.arange(n) * 3.0
    family = ParametricFamily([-(T * roots) @ S, T @ S])
    for r in roots:
        free = family_certificate(family, [r + 1e-6], [r + 3 - 1e-6], rtol=0.5)
        assert free.status == "converged"
        sigma = np.linalg.norm(family([[r + 1e-6], [r + 3 - 1e-6]]), -2, axis=(1, 2)).min()
        assert 0.5 * sigma <= free.margin <= sigma * (1 + 1e-9)
        held = family_certificate(family, [r - 1.3], [r + 1e-6])
        assert held.status == "singular"
        assert abs(held.witness[0] - r) < 1e-12
        assert not family_certificate(family, [r], [r + 1]).is_certified
        assert not family_certificate(family, [r], [r]).is_certified
    grown = largest_regular_box(family, [1.0], [2.0], rtol=0.01)
    assert grown.status == "converged"
    truth = 3.0  # of [1, 2], until it reaches 0, or 3
    assert 0.99 * truth <= grown.scale < truth <= grown.scale_upper <= truth * (1 + 1e-9)
    assert family_certificate(family, grown.certificate.lower, grown.certificate.upper).is_certified


def definite(n, k, rng):
    """A symmetric affine family, definite in the middle; eigenvalues are concave in p."""
    D = rng.standard_normal((k, n, n))
    return np.concatenate([[3 * np.eye(n)], D + D.swapaxes(1, 2)])


@pytest.mark.parametrize(("n", "k"), [(2, 1), (6, 3), (12, 5)])
def test_definite_families_are_decided_at_their_corners(n, k):
    """No box is cut: λ_min is smallest at a corner, and that is the margin."""
    C = definite(n, k, np.random.RandomState(n))
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=k)))
    lowest = np.linalg.eigvalsh(np.tensordot(corners, C[1:], 1))[:, 0].min()
    family, limit = ParametricFamily(C), 3 / -lowest
    ones = np.ones(k)
    found = family_certificate(family, -0.999 * limit * ones, 0.999 * limit * ones, rtol=0.01)
    assert found.n_boxes == 1
    assert found.margin == pytest.approx(0.003, rel=1e-3)
    over = family_certificate(family, -1.001 * limit * ones, 1.001 * limit * ones)
    assert over.status == "singular"
    grown = largest_regular_box(family, -ones, ones)
    assert 0.99 * limit <= grown.scale < limit
    half_widths = grown.scale * np.abs(C[1:]).sum(axis=0)
    assert n == 2 or not region_certificate(C[0], half_widths).is_certified


@pytest.mark.parametrize("seed", range(4))
def test_units_do_not_matter(seed):
    """Powers of two of rows, columns and parameters leave the search as it is."""
    rng = np.random.RandomState(seed)
    k, n = 2, 4
    exponents = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [2, 0]])
    C = rng.standard_normal((len(exponents), n, n))
    C[0] += 3 * np.eye(n)
    family = ParametricFamily(C, exponents)
    low, high = -rng.uniform(0, 0.7, k), rng.uniform(0, 0.7, k)
    found = family_certificate(family, low, high, rtol=1)
    a, b = rng.randint(-40, 41, (2, n))
    s = rng.randint(-60, 61, k)
    scaled = np.ldexp(C, np.add.outer(-exponents @ s, np.add.outer(a, b)))
    ends = np.ldexp(low, s), np.ldexp(high, s)
    moved = family_certificate(ParametricFamily(scaled, exponents), *ends, rtol=1)
    assert (moved.status, moved.n_boxes) == (found.status, found.n_boxes)
    assert moved.is_certified == found.is_certified
    for far in (-900, 900):
        huge = family_certificate(ParametricFamily(np.ldexp(C, far), exponents), low, high)
        plain = family_certificate(family, low, high)
        assert huge.n_boxes == plain.n_boxes
        assert huge.margin == np.ldexp(plain.margin, far)


@pytest.fixture(params=["down", "up", "to zero", "flushed"])
def mode(request):
    """Directions of rounding, and underflow to zero."""
    codes = {"down": 0x400, "up": 0x800, "to zero": 0xC00}
    if request.param == "flushed":
        set_mode = torch.set_flush_denormal
        yield lambda on: set_mode(bool(on))
        set_mode(False)
        return
    if platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("codes of x86")
    rounding = ctypes.CDLL("libm.so.6").fesetround
    yield lambda on: rounding(codes[request.param] if on else 0)
    rounding(0)


def test_other_modes_of_floating_point(mode):
    """What is next to singular is not certified in any mode, also where entries are subnormal."""
    rng = np.random.RandomState(0)
    for i in range(20):
        family, p = singular_family(rng)
        ends = box_around(p, rng, outside=i % 2)
        if i % 3 == 0:
            family = ParametricFamily(np.ldexp(family.coefficients, -1040), family.exponents)
        mode(True)
        found = family_certificate(family, *ends, rtol=1, max_boxes=30)
        mode(False)
        assert not found.is_certified or i % 2
        if found.is_certified and i % 3:
            check_certified(family, found, rng)


def test_numbers_that_some_modes_read_as_zeros(mode):
    """1e300 p of a subnormal p, counted from 0 and from one; and what is at the origin itself."""
    line, least = [[[0.0]], [[1e300]]], 1e-310
    shifted = ParametricFamily(line, origin=[least])
    mode(True)
    found = family_certificate(ParametricFamily(line), [least], [least])
    singular = family_certificate(shifted, [least], [least])
    regular = family_certificate(ParametricFamily([[[1e-10]], line[1]], origin=[0.1]), [0.1], [0.1])
    mode(False)
    exact = Fraction(least) * Fraction(1e300)
    assert 0 < found.margin <= exact <= found.margin_upper < 1.01 * exact
    assert singular.margin == 0 < 0.99e-10 < regular.margin <= 1e-10 <= regular.margin_upper


# The parts that proofs are made of.


def test_weights_are_those_of_bernstein():
    """Σ_β b_β(p) w_βα = p^α, in rational numbers and with floats that are near them."""
    exponents = np.array([[0, 0], [3, 1], [1, 2], [2, 0]])
    low, high = np.array([-0.3, 0.7]), np.array([0.9, 0.75])
    weights = coefficient_weights(exponents, low, high)
    assert weights.shape == (4 * 3, 4)
    for p in ([-0.3, 0.7], [0.9, 0.75], [0.1, 0.71]):
        basis = [Fraction(1)]
        for x, a, b, d in zip(p, low, high, (3, 2), strict=True):
            t = (Fraction(x) - Fraction(a)) / (Fraction(b) - Fraction(a))
            shares = [math.comb(d, j) * t**j * (1 - t) ** (d - j) for j in range(d + 1)]
            basis = [known * share for known in basis for share in shares]
        assert sum(basis) == 1
        for column, true in zip(weights.T, product_of(p, exponents), strict=True):
            value = sum(b * Fraction(w) for b, w in zip(basis, column, strict=True))
            assert abs(value - true) <= Fraction(1, 10**15)
    assert np.allclose(monomials(exponents, low), weights[0], rtol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_bounds_of_eigenvalues_and_norms(n):
    """S − λI has positive minors for the bound λ, and it is sharp; so for norms."""
    rng = np.random.RandomState(n)
    S = rng.standard_normal((10, n, n))
    S = S + S.swapaxes(1, 2)
    S[5:] -= (np.linalg.eigvalsh(S[5:])[:, 0] - 1e-12)[:, None, None] * np.eye(n)
    for M, low in zip(S, lowest_eigenvalues(S), strict=True):
        shifted = np.vectorize(Fraction)(M) - Fraction(low) * np.eye(n, dtype=int).astype(object)
        assert all(det(shifted[:k, :k]) > 0 for k in range(1, n + 1))
        truth = np.linalg.eigvalsh(M)[0]
        assert low >= truth - 1e-3 * abs(truth) - 1e-12
        norm = norm_above(M)
        assert np.linalg.norm(M, 2) * (1 - 1e-15) <= norm <= np.linalg.norm(M, 2) * 1.001


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_signs_of_determinants(n):
    """Where a sign is proven it is the right one, and it is for what is far from singular."""
    rng = np.random.RandomState(n)
    proven = 0
    for i in range(60):
        A = rng.standard_normal((n, n))
        if i % 2:
            A[-1] = A[:-1].sum(axis=0) + 10.0 ** rng.uniform(-18, -8) * rng.standard_normal(n)
        sign = determinant_sign(A, np.zeros((n, n)))
        exact = det(np.vectorize(Fraction)(A))
        assert sign in (0, (exact > 0) - (exact < 0))
        proven += sign != 0
        assert i % 2 or sign != 0
        F = np.full((n, n), np.linalg.norm(A, -2))
        assert determinant_sign(A, F) == 0
    assert n == 1 or 30 < proven < 60


# Families.


def test_polynomials_are_found_from_samples():
    """A polynomial of its degree is found up to rounding, others up to what samples show."""
    rng = np.random.RandomState(0)
    low, high = [2.0, -1.0], [3.0, 1.0]
    C = 0.2 * rng.standard_normal((3, 3, 3))
    C[0] += 2 * np.eye(3)
    exact = ParametricFamily(C, [[0, 0], [1, 1], [0, 2]])
    found = ParametricFamily.from_function(exact, low, high, 3)
    assert found.assumed
    assert found.exponents.max() == 2
    assert found.deviation.max() < 1e-12

    def bent(p):
        return exact(p) + 0.1 * np.sin(p.sum(axis=1))[:, None, None] * np.eye(3)

    P = rng.uniform(low, high, (500, 2))
    for degree, most in ((2, 0.05), (6, 1e-4)):
        found = ParametricFamily.from_function(bent, low, high, degree)
        assert np.abs(found(P) - bent(P)).max() <= found.deviation.max() <= most
        proof = family_certificate(found, low, high)
        assert proof.assumed
        assert proof.is_certified
        assert proof.margin <= np.linalg.norm(bent(P), -2, axis=(1, 2)).min()
    assert "assumed" in repr(found)
    fixed = ParametricFamily.from_function(bent, [2.0, 0.5], [3.0, 0.5], 4)
    assert fixed.exponents[:, 1].max() == 0


def test_complex_families():
    """R + iωL − ω²M with passive parts is regular at all ω; an undamped one is not certified."""
    rng = np.random.RandomState(1)
    R, L, M = (B @ B.T + 0.1 * np.eye(4) for B in rng.standard_normal((3, 4, 4)))
    exponents = [[0], [1], [2]]
    family = ParametricFamily([M + 0j, 1j * R, -L], exponents)
    found = family_certificate(family, [0.0], [5.0])
    assert found.status == "converged"
    A = family(np.linspace(0, 5, 2000)[:, None])
    sigma = np.linalg.norm(A, -2, axis=(1, 2)).min()
    assert 0.85 * sigma <= found.margin <= sigma
    undamped = family_certificate(ParametricFamily([M + 0j, 0j * R, -L], exponents), [0], [5])
    assert not undamped.is_certified


def test_families_serve_certified_inverses():
    """As the family of a CertifiedInverse, which can be cloned and saved with it."""
    rng = np.random.RandomState(0)
    family = ParametricFamily(rng.standard_normal((3, 4, 4)) + [[[4]], [[0]], [[0]]] * np.eye(4))
    P = rng.uniform(-0.5, 0.5, (200, 2))
    model = clone(CertifiedInverse(PolynomialInverseApprox(), family=family)).fit(P)
    skops_file = skops.io.loads(skops.io.dumps(model), trusted=TRUSTED_TYPES)
    for again in (pickle.loads(pickle.dumps(model)), skops_file):
        report = again.report(P)
        assert (report.bound <= 1e-6).all()
        assert np.allclose(report.inverse, np.linalg.inv(family(P)))
    tensors = family(torch.tensor(P))
    assert isinstance(tensors, torch.Tensor)
    assert np.array_equal(tensors.numpy(), family(P))


def test_limits_and_refusals():
    """What is unlimited, what has no room at all, and what is no family or box."""
    family = ParametricFamily([np.eye(2), [[0.0, 1.0], [-1.0, 0.0]]])  # det = 1 + p²
    grown = largest_regular_box(family, [-1.0], [1.0])
    assert (grown.status, grown.scale, grown.scale_upper) == ("unlimited", 1024, np.inf)
    singular = ParametricFamily([np.zeros((2, 2)), np.eye(2)])
    grown = largest_regular_box(singular, [-1.0], [1.0])
    assert grown.scale == 0
    assert not grown.certificate.is_certified
    assert family_certificate(family, [-1.0], [1.0], rtol=0, max_boxes=3).status == "max_boxes"
    assert family_certificate(family, [-1.0], [1.0], rtol=0, max_time=0).status == "max_time"
    with pytest.raises(ValueError, match="stack of finite square matrices"):
        ParametricFamily(np.ones((2, 2)))
    with pytest.raises(ValueError, match="whole numbers from 0"):
        ParametricFamily(np.ones((2, 2, 2)), [[0.5], [1]])
    with pytest.raises(ValueError, match="ends of a box"):
        family_certificate(family, [1.0], [0.0])
    with pytest.raises(ValueError, match="box of 2 parameters"):
        family_certificate(family, [0.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="fewer parameters"):
        family_certificate(ParametricFamily(np.ones((25, 2, 2))), -np.ones(24), np.ones(24))
    with pytest.raises(ValueError, match="float64 can hold"):
        family_certificate(family, [Fraction(1, 3)], [1])
    with pytest.raises(ValueError, match="from function for"):
        ParametricFamily.from_function(lambda p: np.ones((3, 2, 2)), [0], [1])
