"""Proofs of ellipsoids and boxes, attacked; and the nearest matrix that keeps a distance.

The oracles are rational arithmetic over all vertices, real eigenvalues, matrices that are singular
by construction, and descent to the determinant's other sign; never the code.
"""

import itertools

import numpy as np
import pytest
import scipy.linalg
from exhaustive import exhaustive
from flint import fmpq, fmpq_mat
from sklearn.model_selection import train_test_split

from skinv import FeasibleRegionSampler
from skinv.datasets import load_power_flow, load_robot_arm
from skinv.geometry import _subdivision as subdivision
from skinv.geometry import distance_to_singularity, nearest_regular, region_certificate
from skinv.geometry._boxes import VERTEX_ORDER
from skinv.geometry._positive_map import contraction

EPS = np.finfo(np.float64).eps
WHOLE, SUBDIVIDED = "completely positive map", "completely positive map, subdivided"
VERTICES = "vertex determinants (Rohn)"
ROTATION = np.array([[0.0, 1.0], [-1.0, 0.0]])


def ellipsoid(center, radius, axes, min_distance=0.0):
    return region_certificate(center, radius, "mahalanobis", min_distance, axes=axes)


def powers(n, rng, far=40):
    """Powers of two by which units of rows and columns differ, of each entry; none at times."""
    rows, columns = rng.randint(-far, far + 1, (2, n)) * rng.randint(2)
    return np.ldexp(1.0, rows[:, None] + columns)


def unit_rows(Z):
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def random_ellipsoid(n, rank, rng):
    center = rng.standard_normal((n, n)) + rng.choice([0.0, 2.0]) * np.eye(n)
    return center, rng.standard_normal((rank, n, n)) * rng.uniform(0, 1, (rank, 1, 1))


def attack(center, axes, radius, rng, starts=30, steps=10):
    """Points of an ellipsoid on the way down log |det|, and whether the sign of det changes."""
    Z = unit_rows(rng.standard_normal((starts, len(axes))))
    points = []
    for _ in range(steps):
        A = center + radius * np.tensordot(Z, axes, 1)
        points.append(A)
        with np.errstate(all="ignore"):
            gradient = np.einsum("mij,kji->mk", np.linalg.inv(A), axes)
            Z = -unit_rows(gradient)
        Z = np.where(np.isfinite(Z), Z, 0.0)
    points = np.concatenate(points)
    return points, (np.linalg.slogdet(points)[0] != np.linalg.slogdet(center)[0]).any()


# Ellipsoids.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("load", "test"),
    [(load_robot_arm, SUBDIVIDED), (lambda: load_power_flow("case9"), WHOLE)],
    ids=["puma560", "case9"],
)
def test_real_families_are_certified(load, test, seed):
    """The ellipsoids of half of a real family hold no singular matrix, as descent confirms."""
    known, _ = train_test_split(load().data, test_size=0.5, random_state=seed)
    sampler = FeasibleRegionSampler(norm="mahalanobis", random_state=0).fit(known)
    assert sampler.is_certified_
    assert sampler.certificate_.test == test
    assert sampler.distance_ >= sampler.radius_
    axes = sampler.axes_.reshape(-1, *sampler.center_.shape)
    points, crossed = attack(sampler.center_, axes, sampler.radius_, np.random.RandomState(seed))
    assert not crossed
    assert np.linalg.norm(points, -2, axis=(1, 2)).min() >= sampler.margin_


@pytest.mark.parametrize("n", [3, *exhaustive(1, 2, 5)])
def test_certified_ellipsoids_withstand_attacks(n):
    """No descent finds a singular matrix, or one nearer to them than the margin."""
    rng = np.random.RandomState(n)
    certified = 0
    for _ in range(10):
        center, axes = random_ellipsoid(n, rng.randint(1, 5), rng)
        limit = ellipsoid(center, 1e-3, axes).distance
        for share in (0.5, 1 - 1e-6, 1.0, 1.2, 1.5, 2.5):
            found = ellipsoid(center, share * limit, axes)
            points, crossed = attack(center, axes, share * limit, rng)
            assert not (found.is_certified and crossed)
            sigma = np.linalg.norm(points, -2, axis=(1, 2)).min()
            assert found.margin <= sigma * (1 + 1e-12)
            certified += found.is_certified
            assert found.is_certified or share >= 1 - 1e-6
    assert certified >= 20


@pytest.mark.parametrize("n", [1, 2, *exhaustive(3, 4)])
def test_singular_surfaces_are_never_certified(n):
    """A = C − 3 S_1 − 4 S_2 with a singular C, all in integers: singular on the surface of 5."""
    rng = np.random.RandomState(n)
    nearly = 0
    for _ in range(24):
        S = rng.randint(-3, 4, (2, n, n)).astype(float)
        C = rng.randint(-20, 21, (n, n)).astype(float)
        C[-1] = C[0] - C[1] if n > 2 else C[0] * (n == 2)
        A = C - 3 * S[0] - 4 * S[1]
        if np.linalg.cond(A) > 1e6:
            continue
        units = powers(n, rng)
        for radius in (5.0, 6.0):
            found = ellipsoid(A * units, radius, S * units)
            assert not found.is_certified
            assert found.distance <= 5.0
        nearly += ellipsoid(A * units, 4.0, S * units).is_certified
    assert nearly >= 2


@pytest.mark.parametrize("n", [1, 2, *exhaustive(3, 6)])
def test_ellipsoids_of_one_axis(n):
    """A + zS is singular at z = −1/λ for the real eigenvalues λ of A⁻¹S; all others are regular."""
    rng = np.random.RandomState(n)
    certified = 0
    for _ in range(60):
        A, S = random_ellipsoid(n, 1, rng)
        values = scipy.linalg.eigvals(S[0], A)
        real = values.real[np.abs(values.imag) < 1e-9 * np.abs(values)]
        truth = 1 / np.abs(real).max() if real.size else 1 / np.abs(values).max()
        # Complex eigenvalues far from the real axis do no harm once the axis is cut.
        found = ellipsoid(A, 0.9 * truth, S)
        certified += found.is_certified
        assert not real.size or not ellipsoid(A, truth * (1 + 1e-9), S).is_certified
        assert not real.size or found.distance <= truth * (1 + 1e-9)
    assert certified >= 50


def test_positive_map_beats_every_fixed_norm():
    """A large nilpotent axis is harmless, at any radius; only a metric of its own can tell."""
    Q = np.array([[0.6, 0.8], [-0.8, 0.6]])
    axes = (Q @ [[0.0, 1.0], [0.0, 0.0]] @ Q.T)[None]
    found = ellipsoid(np.eye(2), 50.0, axes)
    assert found.is_certified
    assert found.test == WHOLE
    assert found.margins["relative perturbation"] < 0
    true = np.linalg.norm(np.eye(2) + 50 * axes[0], -2)
    assert 0 < found.margin < true


def test_rotations_need_subdivision():
    """I + z J has the determinant 1 + z²: regular for all z, but |z| ‖J‖ < 1 in no norm."""
    found = ellipsoid(np.eye(2), 3.0, ROTATION[None])
    assert found.is_certified
    assert found.test == SUBDIVIDED
    assert found.margins[WHOLE] < 0
    assert 0.5 < found.margin <= 1.0
    assert found.distance == 3.0


@pytest.mark.parametrize("seed", range(8))
def test_subdivision_never_makes_a_margin_worse(seed, monkeypatch):
    """More pieces, no smaller a margin; and never above what descent finds."""
    rng = np.random.RandomState(seed)
    center, axes = random_ellipsoid(3, 3, rng)
    radius = 1.1 * ellipsoid(center, 1e-3, axes).distance
    margins = []
    for most in (2, 3, 8, 32):
        monkeypatch.setattr(subdivision, "_MOST_PIECES", most)
        monkeypatch.setattr(subdivision, "_FINE_PIECES", most)
        margins.append(subdivision.subdivided_margin(center, radius * axes, 0.0)[0])
    assert margins == sorted(margins)
    points, _ = attack(center, axes, radius, rng)
    assert margins[-1] <= np.linalg.norm(points, -2, axis=(1, 2)).min()


@pytest.mark.parametrize("seed", range(20))
def test_pieces_cover_the_ball(seed):
    """Every point of the ball is in some piece, and in the ellipsoid around that piece."""
    rng = np.random.RandomState(seed)
    rank = rng.randint(1, 5)
    ones = np.ones(rank)
    pieces = [subdivision._Piece(-ones, ones, 0 * ones, np.eye(1))]
    for _ in range(12):
        piece = pieces.pop(rng.randint(len(pieces)))
        pieces += piece.halves(rng.randint(rank))
    Z = unit_rows(rng.standard_normal((3000, rank)))
    Z[::2] *= rng.uniform(size=(1500, 1))
    held = np.zeros(len(Z), dtype=bool)
    for piece in pieces:
        piece.tilt = np.where(piece.tilt > 0, 2.0 ** rng.uniform(-8, 8, rank), 0.0)
        inside = ((piece.low <= Z) & (piece.high >= Z)).all(axis=1)
        held |= inside
        c, w = piece.ellipsoid()
        if w.size < rank:
            assert not inside.any()
        else:
            assert (np.linalg.norm((Z[inside] - c) / w, axis=1) <= 1 + 1e-14).all()
    assert held.all()


@pytest.mark.parametrize("seed", range(10))
def test_contraction_is_a_bound(seed):
    """For any preconditioners at all, and errors of the centre up to the slack."""
    rng = np.random.RandomState(seed)
    A, G, H = rng.standard_normal((3, 3, 3))
    S = rng.standard_normal((4, 3, 3))
    slack = rng.uniform(0, 0.1, (3, 3))
    fixed, slope, loss = contraction(A, slack, S, G, H)
    F = slack * rng.choice([-1.0, 1.0], (500, 3, 3))
    Z = unit_rows(rng.standard_normal((500, 4)))
    E = np.eye(3) - G @ (A + F + 2 * np.tensordot(Z, S, 1)) @ H
    assert np.linalg.norm(E, 2, axis=(1, 2)).max() <= fixed + 2 * slope
    assert loss >= np.linalg.norm(G, 2) * np.linalg.norm(H, 2)


def test_degenerate_ellipsoids():
    """No axis, axes of zeros, no radius, one entry, a vast radius: all are answered."""
    A = np.array([[3.0, 1.0], [1.0, 2.0]])
    sigma = np.linalg.norm(A, -2)
    for axes, radius in [
        (np.empty((0, 4)), 5.0),
        (np.zeros((3, 4)), 5.0),
        (np.eye(4), 0.0),
        (np.eye(4) * 1e-300, 1.0),
    ]:
        assert ellipsoid(A, radius, axes).margin == pytest.approx(sigma, rel=1e-12)
    assert ellipsoid([[2.0]], 1.0, [[1.5]]).margin == pytest.approx(0.5, rel=1e-12)
    assert not ellipsoid([[2.0]], 1.0, [[2.0]]).is_certified
    for radius in (1e10, 1e95, 1e200):
        assert not ellipsoid(A, radius, np.eye(4)).is_certified
        assert not ellipsoid(A, 1e200, radius * np.eye(4)).is_certified


@pytest.mark.parametrize("seed", [0, *exhaustive(1, 2, 3, 4)])
@pytest.mark.parametrize("scale", [2.0**-500, 2.0**500, 1e-150, 1e150])
def test_scale_does_not_matter(seed, scale):
    """Powers of two leave all margins as they are, bit for bit; others what is decided.

    And the margin of a box, which is exact, but for rounding; those of ellipsoids are within a
    factor of 4, because they are looked at in units that are powers of two.
    """
    rng = np.random.RandomState(seed)
    center, axes = random_ellipsoid(3, 3, rng)
    half_widths = rng.uniform(0, 0.3, (3, 3)) * distance_to_singularity(center)
    radius = 1.05 * ellipsoid(center, 1e-3, axes).distance
    pairs = (
        (ellipsoid(center, radius, axes), ellipsoid(scale * center, radius, scale * axes)),
        (
            region_certificate(center, half_widths),
            region_certificate(scale * center, scale * half_widths),
        ),
    )
    for (found, moved), factor in zip(pairs, (4, 1 + 1e-9), strict=True):
        assert found.is_certified == moved.is_certified
        if found.is_certified:
            assert 1 / factor <= moved.margin / scale / found.margin <= factor
        if np.frexp(scale)[0] == 0.5:
            for name, margin in found.margins.items():
                assert moved.margins[name] / scale == margin


# Boxes.


def exact_margin(center, half_widths):
    """Largest t with vertices of Δ + t of one sign, in rational numbers; −1 if t = 0 fails.

    Each determinant is linear in t, so two values say where it is 0.
    """
    n = len(center)

    def det(signs, t):
        entries = [
            fmpq(*float(a).as_integer_ratio()) - s * (fmpq(*float(d).as_integer_ratio()) + t)
            for a, d, s in zip(center.ravel(), half_widths.ravel(), signs, strict=True)
        ]
        return fmpq_mat(n, n, entries).det()

    signs = [np.outer(y, z).ravel().astype(int).tolist()
             for y in itertools.product((1, -1), repeat=n)
             for z in itertools.product((1, -1), repeat=n)]  # fmt: skip
    at_zero = [det(s, fmpq(0)) for s in signs]
    if min(at_zero) <= 0 <= max(at_zero):
        return -1.0
    roots = [d / (d - det(s, fmpq(1))) for d, s in zip(at_zero, signs, strict=True)
             if d != det(s, fmpq(1))]  # fmt: skip
    root = min(r for r in roots if r > 0)
    return int(root.p) / int(root.q)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_boxes_against_rational_vertices(n):
    """The margin of a box is the exact one to 1e-9, and irregular boxes are not certified."""
    rng = np.random.RandomState(n)
    regular = 0
    for _ in range(60 if n < 3 else 25):
        center = rng.standard_normal((n, n)) + rng.choice([0.0, 2.0]) * np.eye(n)
        half_widths = rng.uniform(0, 1, (n, n)) * (rng.uniform(size=(n, n)) < 0.7)
        half_widths *= 2 * rng.uniform() * distance_to_singularity(center, "linf")
        units = powers(n, rng)
        center, half_widths = center * units, half_widths * units
        truth = exact_margin(center, half_widths)
        found = region_certificate(center, half_widths)
        assert found.is_certified == (truth > 0)
        if truth > 0:
            regular += 1
            assert found.margins[VERTICES] == pytest.approx(truth, rel=1e-9)
            assert found.margin <= truth * (1 + 1e-15)
    assert regular >= 10


@pytest.mark.parametrize("n", range(1, VERTEX_ORDER + 1))
@pytest.mark.parametrize("share", [0.1, 0.9, 1.0, 1.5])
def test_vertices_agree_with_the_linf_distance(n, share):
    """With equal half-widths δ the margin is d_∞ − δ, whatever its sign."""
    center = np.random.RandomState(n).standard_normal((n, n)) + 2 * np.eye(n)
    d = distance_to_singularity(center, "linf")
    margin = region_certificate(center, np.full((n, n), share * d)).margins[VERTICES]
    assert margin == pytest.approx((1 - share) * d, rel=1e-9, abs=1e-11 * d)
    assert margin <= (1 - share) * d + 1e-15 * d


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_certified_boxes_withstand_attacks(n):
    """No vertex of a certified box, grown by nearly the margin, has another sign."""
    rng = np.random.RandomState(n)
    for _ in range(40):
        center = rng.standard_normal((n, n)) + 2 * np.eye(n)
        half_widths = rng.uniform(0, 1.5, (n, n)) * distance_to_singularity(center) / n
        found = region_certificate(center, half_widths)
        assert (VERTICES in found.margins) == (n <= VERTEX_ORDER)
        assert found.margin >= found.margins["spectral radius (Beeck)"]
        if not found.is_certified:
            continue
        y, z = rng.choice([-1.0, 1.0], (2, 500, n))
        for _ in range(10):  # det V is linear in each sign: choose those that lower it
            V = center - y[:, :, None] * z[:, None, :] * (half_widths + 0.999 * found.margin)
            sign, _ = np.linalg.slogdet(V)
            assert (sign == np.linalg.slogdet(center)[0]).all()
            B = np.linalg.inv(V)
            y = np.where(np.einsum("mji,ij,mj->mi", B, half_widths + found.margin, z) < 0, -1, 1)
            z = np.where(np.einsum("mji,ij,mi->mj", B, half_widths + found.margin, y) < 0, -1, 1)


@pytest.mark.parametrize("seed", range(30))
def test_boxes_with_a_singular_vertex_are_not_certified(seed):
    """A vertex with two equal rows, in integers."""
    rng = np.random.RandomState(seed)
    n = rng.randint(2, 5)
    half_widths = rng.randint(0, 3, (n, n)).astype(float)
    V = rng.randint(-9, 10, (n, n)) + 10.0 * np.eye(n)
    V[-1] = V[0]
    center = V + half_widths * np.outer(*rng.choice([-1.0, 1.0], (2, n)))
    units = powers(n, rng)
    if np.linalg.cond(center) < 1e8:
        found = region_certificate(center * units, half_widths * units)
        assert not found.is_certified
        assert found.margin <= 0


# The nearest regular matrix.


@pytest.mark.parametrize("n", [1, 2, 5, 12])
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150])
def test_nearest_regular(n, scale):
    """It keeps the distance, costs no more than Mirsky's bound, and leaves the rest alone."""
    rng = np.random.RandomState(n)
    stack = scale * rng.standard_normal((4, 5, n, n))
    sigma = np.linalg.svd(stack / scale, compute_uv=False)
    least = float(np.median(sigma[..., -1]))
    answer = nearest_regular(stack, least * scale)
    assert answer.shape == stack.shape
    assert answer.dtype == np.float64
    rounding = 8 * n * EPS * sigma.max()
    after = np.linalg.svd(answer / scale, compute_uv=False)
    assert (after[..., -1] >= least - rounding).all()
    cost = np.linalg.norm((answer - stack) / scale, axis=(2, 3))
    lift = np.linalg.norm(np.maximum(least - sigma, 0), axis=-1)
    np.testing.assert_allclose(cost, lift, rtol=0, atol=rounding)
    enough = sigma[..., -1] > least * (1 + 1e-9)
    np.testing.assert_array_equal(answer[enough], stack[enough])
    assert enough.any()
    assert (cost[~enough] > 0).any()
    again = nearest_regular(answer, least * scale * (1 - 1e-9))
    np.testing.assert_array_equal(again, answer)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_matrix_at_the_distance_is_nearer(seed):
    """Of random matrices of σ_min >= ε nearby, none is nearer to A."""
    rng = np.random.RandomState(seed)
    A = rng.standard_normal((3, 3))
    least = 2.5 * np.linalg.norm(A, -2)
    answer = nearest_regular(A, least)
    cost = np.linalg.norm(answer - A)
    others = answer + rng.standard_normal((20000, 3, 3)) * cost * rng.uniform(0, 1, (20000, 1, 1))
    kept = others[np.linalg.norm(others, -2, axis=(1, 2)) >= least]
    assert len(kept) > 100
    assert np.linalg.norm(kept - A, axis=(1, 2)).min() >= cost


def test_nearest_regular_of_what_is_not_regular():
    """Zero matrices, NaN, infinity, the ends of the range, and nothing to do."""
    np.testing.assert_allclose(
        np.linalg.svd(nearest_regular(np.zeros((3, 3)), 1e-300), compute_uv=False), 1e-300
    )
    A = np.array([[[np.nan, 1.0], [0.0, 1.0]], [[np.inf, 1.0], [0.0, 1.0]], [[1.0, 1], [1, 1]]])
    answer = nearest_regular(A, 0.5)
    np.testing.assert_array_equal(answer[:2], A[:2])
    assert np.linalg.norm(answer[2], -2) == pytest.approx(0.5)
    np.testing.assert_array_equal(nearest_regular(A, 0.0), A)
    assert nearest_regular(np.empty((0, 2, 2)), 1.0).shape == (0, 2, 2)
    assert np.linalg.norm(nearest_regular(1e-320 * np.eye(2), 1.0), -2) == pytest.approx(1.0)
    assert np.linalg.norm(nearest_regular(np.eye(2), 1e300), -2) == pytest.approx(1e300)
    huge = np.diag([1e308, 0.0])
    np.testing.assert_allclose(nearest_regular(huge, 1e307), np.diag([1e308, 1e307]))
    assert np.shares_memory(answer, A) is False


@pytest.mark.parametrize(
    "bad", [-1.0, np.nan, np.inf, -np.inf, None, "1", 1j, True, [1.0], np.ones(2)]
)
def test_bad_distances(bad):
    """Each is refused with the name of the parameter."""
    with pytest.raises(ValueError, match="min_distance"):
        nearest_regular(np.eye(2), bad)


@pytest.mark.parametrize("bad", [np.ones(4), np.ones((2, 4)), np.empty((0, 0)), 1j * np.eye(2)])
def test_bad_matrices(bad):
    """Shapes that are no matrices, and complex numbers."""
    with pytest.raises(ValueError, match=r"shape|complex"):
        nearest_regular(bad, 1.0)
