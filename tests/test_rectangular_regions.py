"""Distances and proofs of regions of matrices that are not square.

The oracles are rational arithmetic and linear programs.
"""

from itertools import product

import numpy as np
import pytest
from flint import fmpq, fmpq_mat
from hostile import rational
from scipy.optimize import linprog
from test_floating_point import mode  # noqa: F401

from skinv import FeasibleRegionSampler
from skinv.geometry import (
    DistanceBoundWarning,
    distance_to_singularity,
    nearest_regular,
    nearest_singular,
    region_certificate,
)

SHAPES = [(1, 3), (2, 3), (4, 2), (3, 7), (7, 6)]
every_shape = pytest.mark.parametrize("shape", SHAPES)
every_norm = pytest.mark.parametrize("norm", ["linf", "l2", "l1", "mahalanobis"])


def is_above(A, least):
    """Whether σ_min(A) > least: leading minors of AAᵀ − least² I are positive, in rationals."""
    M = rational(A if A.shape[0] <= A.shape[1] else A.T)
    square = fmpq(*float(least).as_integer_ratio()) ** 2
    gram, m = M * M.transpose(), M.nrows()
    entries = [[gram[i, j] - square * (i == j) for j in range(m)] for i in range(m)]
    return all(fmpq_mat([row[:k] for row in entries[:k]]).det() > 0 for k in range(1, m + 1))


def least_solution(A, b, norm):
    """The least l1, or linf, norm of solutions of Az = b, by a linear program."""
    m, n = A.shape
    if norm == "l1":
        return linprog(np.ones(2 * n), A_eq=np.hstack([A, -A]), b_eq=b).fun
    sides = np.block([[s * np.eye(n), -np.ones((n, 1))] for s in (1, -1)])
    A_eq = np.hstack([A, np.zeros((m, 1))])
    bounds = [(None, None)] * n + [(0, None)]
    return linprog([0] * n + [1], sides, np.zeros(2 * n), A_eq, b, bounds).fun


def true_distance(A, norm):
    """Distances of wide matrices to lower ranks, which duality makes maxima of linear programs."""
    A = A if A.shape[0] <= A.shape[1] else A.T
    if norm == "l2":
        return np.linalg.svd(A, compute_uv=False)[-1]
    if norm == "l1":
        return 1 / max(least_solution(A, e, "linf") for e in np.eye(len(A)))
    return 1 / max(least_solution(A, s, "l1") for s in product([1.0, -1.0], repeat=len(A)))


def family(shape, n_samples=60, spread=0.03, seed=0):
    """Matrices near a known one."""
    rng = np.random.default_rng(seed)
    U, _, Vt = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    center = (U * np.linspace(1.0, 2.0, min(shape))) @ Vt
    return center + spread * rng.standard_normal((n_samples, *shape))


def fitted(A, norm="linf", radius="data", **parameters):
    return FeasibleRegionSampler(norm=norm, radius=radius, random_state=0, **parameters).fit(A)


def ends(sampler, n_samples, rng):
    """Deviations at the ends of a region, corners of a box among them."""
    shape, radius = sampler.center_.shape, sampler.radius_
    norm, d = sampler.certificate_.norm, sampler.center_.size
    if norm == "linf":
        return rng.choice([-1.0, 1.0], (n_samples, *shape)) * radius
    if norm == "l1":
        E = np.eye(d)[rng.integers(d, size=n_samples)] * rng.choice([-1.0, 1.0], (n_samples, 1))
    else:
        z = rng.standard_normal((n_samples, d if norm == "l2" else len(sampler.axes_)))
        E = z / np.linalg.norm(z, axis=1)[:, None]
        E = E if norm == "l2" else E @ sampler.axes_
    return radius * E.reshape(-1, *shape)


# -- distances ---------------------------------------------------------------------------------


@every_shape
def test_distances_are_bounded(shape):
    """By what rational arithmetic and linear programs say of them; in l2 they are σ_min."""
    A = np.random.default_rng(0).standard_normal((3, *shape))
    found = distance_to_singularity(A)
    np.testing.assert_allclose(found, np.linalg.svd(A, compute_uv=False)[:, -1], rtol=1e-12)
    for norm in ("l2", "l1", "linf"):
        bounds = distance_to_singularity(A, norm, return_bounds=True)
        assert bounds.exact == (norm == "l2")
        for M, low, high in zip(A, bounds.lower, bounds.upper, strict=True):
            true = true_distance(M, norm)
            assert low <= true * (1 + 1e-9)
            assert high >= true * (1 - 1e-9)
            assert low >= 0.5 * true
            assert norm != "l2" or (is_above(M, low) and not is_above(M, high))
        if norm != "l2":
            with pytest.warns(DistanceBoundWarning, match=r"closed form in norm='l2' only"):
                assert (distance_to_singularity(A, norm) == bounds.lower).all()


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
@pytest.mark.parametrize("scale", [1.0, 2.0**-1040, 2.0**-500, 2.0**1000])
def test_laws_of_distances(norm, scale):
    """They scale with the matrix, transposition changes nothing, and deficient ones have none."""
    A = family((2, 3), 5)

    def distance(M):
        return distance_to_singularity(M, norm, return_bounds=True).lower

    np.testing.assert_allclose(distance(scale * A), scale * distance(A), rtol=1e-6)
    np.testing.assert_allclose(distance(A.swapaxes(1, 2)), distance(A), rtol=1e-12)
    np.testing.assert_array_equal(distance(scale * A[:, [0, 0]]), 0)
    assert distance(np.zeros((2, 3))) == 0
    assert np.isnan(distance(np.full((2, 3), np.nan)))
    assert (distance(scale * A * [[1.0, 2.0**-300, 0.0]]) > 0).all() == (scale > 1e-300)


def test_complex_distances():
    """Those of complex rectangular matrices are their smallest singular values, too."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((5, 4, 3)) + 1j * rng.standard_normal((5, 4, 3))
    least = np.linalg.svd(Z, compute_uv=False)[:, -1]
    np.testing.assert_allclose(distance_to_singularity(Z), least)
    assert distance_to_singularity(Z[0]) == pytest.approx(least[0])


@every_shape
def test_nearest_matrices(shape):
    """The nearest deficient one is at the distance, the nearest regular one keeps it."""
    A = np.random.default_rng(1).standard_normal((4, *shape))
    least = np.linalg.svd(A, compute_uv=False)[:, -1]
    nearest = nearest_singular(A)
    assert nearest.shape == A.shape
    assert (np.linalg.svd(nearest, compute_uv=False)[:, -1] < 1e-14 * 8).all()
    np.testing.assert_allclose(np.linalg.norm(nearest - A, axis=(1, 2)), least)
    kept = nearest_regular(A, 1.0)
    assert (np.linalg.svd(kept, compute_uv=False)[:, -1] > 1 - 1e-14).all()
    np.testing.assert_array_equal(kept[least >= 1], A[least >= 1])
    assert nearest_regular(A[0], 1.0).shape == shape
    with pytest.raises(ValueError, match=r"norm='l1', but only the nearest in norm='l2'"):
        nearest_singular(A, "l1")


@pytest.mark.parametrize("function", [distance_to_singularity, nearest_singular])
def test_rows_are_not_taken_for_one_matrix(function):
    """Both ways out are in the message."""
    rows = np.ones((5, 4))
    with pytest.raises(ValueError, match=r"X\.reshape\(-1, 2, 2\); one matrix .* is A\[None\]"):
        function(rows)
    assert function(rows[None]).shape[0] == 1


# -- proofs ------------------------------------------------------------------------------------


@every_shape
@every_norm
def test_certified_regions_hold_full_ranks_only(shape, norm):
    """At their ends σ_min is above what the margin in the region's norm says, in rationals."""
    rng = np.random.default_rng(2)
    A = family(shape)
    sampler = fitted(A, norm) if norm in ("linf", "mahalanobis") else fitted(A, norm, 0.5)
    assert sampler.is_certified_
    wide = np.sqrt(A[0].size) if norm == "l1" else 1.0  # d_l1 <= √(mn) σ_min
    for E in ends(sampler, 6, rng):
        assert is_above(sampler.center_ + (1 - 1e-12) * E, sampler.margin_ / wide * (1 - 1e-12))
    flipped = fitted(A.swapaxes(1, 2), norm, sampler.radius if norm != "linf" else "data")
    assert flipped.margin_ == pytest.approx(sampler.margin_, rel=1e-6)
    assert fitted(A, norm, 1e3).margin_ < 0


@every_shape
@every_norm
def test_what_holds_a_deficient_matrix_is_not_certified(shape, norm):
    """Whatever the size of centre and region, and in whatever directions it lies."""
    rng = np.random.default_rng(3)
    for scale in (1.0, 2.0**-900, 2.0**900):
        for _ in range(8):
            E = rng.integers(-4, 5, shape) / 64.0
            A = rng.integers(-8, 9, shape) / 8.0
            A, E = (A, E) if shape[0] <= shape[1] else (A.T, E.T)
            A[0] = A[-1] if len(A) > 1 else 0.0  # of a lower rank
            if shape[0] > shape[1]:
                A, E = A.T, E.T
            options = {"axes": scale * E.reshape(1, -1)} if norm == "mahalanobis" else {}
            order = {"linf": np.inf, "l2": 2, "l1": 1}.get(norm)
            radius = 1.0 if order is None else scale * np.linalg.norm(E.ravel(), order) * 1.0001
            if norm == "linf":
                radius = scale * np.abs(E)
            try:
                found = region_certificate(scale * (A + E), radius, norm, **options)
            except ValueError as error:
                assert "full rank" in str(error)  # noqa: PT017
                continue
            assert not found.is_certified


def test_margins_are_sharp_where_they_are_exact():
    """In l2, and of a box in which one entry varies."""
    A = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    for M in (A, A.T):
        assert region_certificate(M, 1 - 2.0**-40, "l2").is_certified
        assert not region_certificate(M, 1.0, "l2").is_certified
        widths = np.where(M == 1, 1 - 2.0**-40, 0.0)
        assert region_certificate(M, widths).is_certified
        assert not region_certificate(M, np.where(M == 1, 1.0, 0.0)).is_certified
        kept = region_certificate(M, 0.25, "l2", 0.5)
        assert kept.margin == pytest.approx(0.25)
        assert kept.margin <= 0.25
        assert not region_certificate(M, 0.25, "l2", 0.75).is_certified


def test_ellipsoids_that_are_cut_are_certified():
    """A region that no single test proves, piece by piece."""
    axes = np.zeros((2, 3, 2))
    axes[0, 0, 1] = axes[1, 1, 0] = 1.0  # det of the upper half: 1 - xy
    center = np.eye(3, 2)
    found = region_certificate(center, 1.2, "mahalanobis", axes=axes.reshape(2, -1))
    assert found.test == "completely positive map, subdivided"
    assert found.is_certified
    for angle in np.linspace(0, 2 * np.pi, 16):
        x, y = 1.2 * np.cos(angle), 1.2 * np.sin(angle)
        assert is_above(center + x * axes[0] + y * axes[1], found.margin)
    beyond = region_certificate(center, 1.5, "mahalanobis", axes=axes.reshape(2, -1))
    assert not beyond.is_certified  # x = y = 1 is in it


@every_norm
def test_proofs_in_any_mode(norm, mode):  # noqa: F811
    """Where what underflows is flushed to zero, nothing is certified that is not."""
    A = family((2, 3), 20)
    with mode():
        for scale in (2.0**-980, 2.0**-600, 1.0):
            radius = "data" if norm in ("linf", "mahalanobis") else 0.5 * scale
            sampler = fitted(scale * A, norm, radius)
            wide = np.sqrt(6) if norm == "l1" else 1.0
            assert sampler.is_certified_
            margin = sampler.margin_ / wide * (1 - 1e-9)
            center, some = sampler.center_, ends(sampler, 3, np.random.default_rng(0))
            found = [(center / scale, E / scale) for E in some]
        assert all(is_above(c + (1 - 1e-9) * E, margin / scale) for c, E in found)
