"""Regions and distances of matrices whose rows and columns are in different units.

The oracles are the same matrices in other units, bit by bit, and rational arithmetic.
"""

import ctypes
import platform
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from exhaustive import exhaustive
from flint import fmpq, fmpq_mat
from hostile import rational
from test_units import covariances, designs, every_family, in_other_units

from skinv import FeasibleRegionSampler, LinearInverseApprox, SingularDistanceScorer
from skinv.bounds import certify_region, taylor_bound
from skinv.geometry import distance_to_singularity, region_certificate
from skinv.matrices import extract_complex

every_region = pytest.mark.parametrize(
    ("norm", "radius"), [("linf", "data"), ("mahalanobis", "data"), ("mahalanobis", 1e3)]
)


def fitted(A, norm, radius="data", **parameters):
    return FeasibleRegionSampler(norm=norm, radius=radius, random_state=0, **parameters).fit(A)


def matrices_of(sampler, like):
    """Samples, as a stack of matrices of the kind of others."""
    X = sampler.sample(50, return_inverse=False).reshape(-1, *sampler.center_.shape)
    return extract_complex(X) if np.iscomplexobj(like) else X


def is_above(A, least):
    """Whether σ_min(A) > least: leading minors of AᵀA − least² I are positive, in rationals."""
    M, n = rational(A), len(A) * (2 if np.iscomplexobj(A) else 1)
    square = fmpq(*float(least).as_integer_ratio()) ** 2
    gram = M.transpose() * M
    entries = [[gram[i, j] - square * (i == j) for j in range(n)] for i in range(n)]
    return all(fmpq_mat([row[:k] for row in entries[:k]]).det() > 0 for k in range(1, n + 1))


@every_family
@every_region
def test_units_change_nothing(family, norm, radius):
    """Membership, certificates and samples are the same, but for the units of the samples."""
    rng = np.random.default_rng(0)
    A = family(rng)
    B, back = in_other_units(A, rng)
    units, center = 1 / back.T, A.mean(axis=0)
    rows = np.concatenate([A, center[None], A + 1.5 * (A - center)])
    plain, other = (fitted(M, norm, radius) for M in (A, B))
    assert plain.is_certified_ == other.is_certified_
    assert plain.is_certified_ == (radius == "data" and (norm, family) != ("linf", designs))
    inside = plain.is_feasible(rows)
    assert inside[: len(A) + 1].all()
    assert radius != "data" or not inside.all()
    np.testing.assert_array_equal(other.is_feasible(rows * units), inside)
    for sampler, some in ((plain, rows), (other, rows * units)):
        np.testing.assert_array_equal(sampler.decision_function(some) >= 0, inside)
    X, Y = (matrices_of(sampler, A) for sampler in (plain, other))
    np.testing.assert_array_equal(X * units, Y)
    assert plain.is_feasible(X).all()
    assert other.is_feasible(Y).all()


@every_family
@pytest.mark.parametrize("norm", ["linf", "mahalanobis"])
def test_certified_regions_hold_no_singular_matrix(family, norm):
    """Not at their ends, where singular values are above the margin, in rational arithmetic."""
    rng = np.random.default_rng(1)
    B, _ = in_other_units(family(rng), rng)
    sampler = fitted(B, norm)
    if norm == "linf":
        E = rng.choice([-1.0, 1.0], (8, sampler.center_.size)) * sampler.radius_.ravel()
    else:
        z = rng.standard_normal((8, len(sampler.axes_)))
        E = z / np.linalg.norm(z, axis=1)[:, None] * sampler.radius_ @ sampler.axes_
    n = len(sampler.center_)
    ends = (sampler.center_.ravel() + (1 - 1e-12) * E).reshape(-1, n, n)
    assert sampler.margin_ > 0 or (norm, family) == ("linf", designs)
    sign = rational(sampler.center_).det() > 0
    for M in ends if sampler.is_certified_ else ():
        assert (rational(M).det() > 0) == sign
        assert is_above(M, sampler.margin_)


@pytest.mark.parametrize("seed", [0, *exhaustive(1, 2, 3)])
def test_units_do_not_matter_for_ellipsoids(seed):
    """Whether they are regular, and up to which radius, once cut into pieces or not."""
    rng = np.random.default_rng(seed)
    center = rng.standard_normal((3, 3)) + 2 * np.eye(3)
    axes = 0.3 * rng.standard_normal((2, 3, 3))
    if seed == 0:  # regular for all z, but in no norm ‖zJ‖ < 1
        center, axes = np.eye(2), np.array([[[0.0, 1.0], [-1.0, 0.0]]])
    rows, columns = np.ldexp(1.0, rng.integers(-40, 40, (2, len(center))))
    units = rows[:, None] * columns
    limit = region_certificate(center, 1e-3, "mahalanobis", axes=axes).distance
    certified = 0
    for share in (0.5, 0.999, 1.1, 1.5, 3.0):
        plain, other = (
            region_certificate(center * u, share * limit, "mahalanobis", axes=axes * u)
            for u in (1.0, units)
        )
        assert plain.is_certified == other.is_certified
        certified += plain.is_certified
    assert certified >= 2 + (seed == 0)


@every_family
def test_distances_hold_and_are_sharp(family):
    """Bounds enclose the smallest singular value, closely, where LAPACK's is all rounding."""
    rng = np.random.default_rng(2)
    for A in (family(rng), in_other_units(family(rng), rng)[0]):
        few = A[:3]
        bounds = distance_to_singularity(few, return_bounds=True)
        for M, low, high in zip(few, bounds.lower, bounds.upper, strict=True):
            assert is_above(M, low)
            assert not is_above(M, high)
        assert (bounds.upper < 1.05 * bounds.lower).all()
        between = distance_to_singularity(few)
        assert ((bounds.lower <= between) & (between <= bounds.upper)).all()


@every_family
def test_the_scorer_agrees(family):
    """Where regions keep matrices it scores them; it leaves out those that are singular."""
    rng = np.random.default_rng(3)
    A, _ = in_other_units(family(rng), rng)
    if np.iscomplexobj(A):
        A = np.block([[A.real, -A.imag], [A.imag, A.real]])
    model = LinearInverseApprox().fit(A)
    distance = distance_to_singularity(A)
    spoilt = A.copy()
    spoilt[3, :, 0] = 0.0
    for least in (0.0, 0.5 * distance.min()):
        scorer = SingularDistanceScorer("neg_relative_error", min_distance=least)
        assert -0.5 < scorer(model, A) <= 0
        assert scorer.profile(model, A, n_bins=4).n_left_out == 0
        assert scorer.profile(model, spoilt, n_bins=4).n_left_out == 1
        assert fitted(A, "mahalanobis", min_distance=least).is_feasible(A).all()
    with pytest.raises(ValueError, match="in the units of their entries: use a smaller min_dist"):
        SingularDistanceScorer(min_distance=2 * distance.max())(model, A)
    with pytest.raises(ValueError, match="None of the 2 matrices could be shown to be regular"):
        SingularDistanceScorer()(model, spoilt[[3, 3]])


def test_what_is_symmetric():
    """Small entries beside large ones are to be symmetric, too."""
    A = covariances(np.random.default_rng(4))
    off = A.copy()
    off[0, 1, 2] *= 1 + 1e-6
    sampler = fitted(A, "linf", structure="symmetric")
    assert sampler.is_feasible(A).all()
    rounded = A[:1] * (1 + np.array([[[0, 0, 0], [2, 0, 0], [0, 0, 0]]]) * 2.0**-53)
    assert sampler.decision_function(rounded)[0] >= -1e-12 * A[0, 1, 1]
    np.testing.assert_array_equal(sampler.is_feasible(off), np.arange(40) > 0)
    with pytest.raises(ValueError, match=r"rows \[0\] \(1 of 40\) are not symmetric"):
        fitted(off, "linf", structure="symmetric")


@every_family
@pytest.mark.parametrize("norm", ["linf", "mahalanobis"])
def test_errors_over_regions(family, norm):
    """Bounds of the largest entry, in the caller's units, are close where regions are certified."""
    rng = np.random.default_rng(4)
    A = family(rng)[:30]
    for M in (A, in_other_units(A, rng)[0]):
        region, model = fitted(M, norm), LinearInverseApprox().fit(M)
        proof = certify_region(model, region, max_boxes=8, max_time=None)
        closed = taylor_bound(
            region.center_,
            region.radius_,
            norm=region.certificate_.norm,
            axes=getattr(region, "axes_", None),
        )
        if not region.is_certified_:
            assert proof.upper == closed.max_error == np.inf
            continue
        assert 0 < proof.lower <= proof.upper < 5 * proof.lower
        assert proof.lower * (1 - 1e-6) <= closed.max_error < 30 * proof.upper
        witness = proof.witness.reshape(1, -1)
        predicted = LinearInverseApprox(region.center_).fit().predict(witness)[0]
        off = rational(predicted.reshape(region.center_.shape)) - rational(proof.witness).inv()
        error = max(abs(float(int(v.p) / int(v.q))) for row in off.tolist() for v in row)
        assert proof.lower * (1 - 1e-6) <= error <= proof.upper * (1 + 1e-6)


def test_regular_after_scaling():
    """A centre that is the identity once it is scaled is no singular one, though its box is."""
    center = np.diag([1.0, 1e-300])
    assert taylor_bound(center, 0.5).max_error == np.inf
    tight = taylor_bound(center, np.abs(center) / 4)
    assert 1 / 12 * 1e300 <= tight.max_error <= (1 + 1e-10) / 12 * 1e300


def test_lower_bounds_at_the_end_of_the_range():
    """Where twice an error overflows, that of the witness is no less than the bound, too."""
    center, radius = np.array([[2.928419636046545e-306]]), 2.9192956212800004e-306
    model = LinearInverseApprox(center).fit()
    region = FeasibleRegionSampler(center, radius).fit()
    proof = certify_region(model, region, 0.3, 8, max_time=None)
    a, b, c = (Fraction(float(M[0, 0])) for M in (proof.witness, model.inverse_, center))
    assert proof.lower <= abs(b - b * (a - c) * b - 1 / a) <= proof.upper


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="codes of x86"
)
@pytest.mark.parametrize("code", [0x400, 0x800, 0xC00], ids=["down", "up", "to zero"])
def test_what_overflows_in_other_directions_of_rounding(code):
    """Inverses and errors that overflow are the largest number there, and no bounds."""
    rounding = ctypes.CDLL("libm.so.6").fesetround
    # x₂ depends on b₃ by −2^60/(2^−870 · 2^−640), so that distances are below 2^-1500.
    A = np.zeros((1, 3, 3))
    A[0, 0, ::2], A[0, 1, :2], A[0, 2, 0] = 2.0**-600, (2.0**60, 2.0**-640), 2.0**-870
    rounding(code)
    try:
        lower = [
            float(distance_to_singularity(A, norm, return_bounds=True).lower[0])
            for norm in ("linf", "l1", "l2")
        ]
        error = taylor_bound([[2.0**-1015]], 2.0**-1015 - 2.0**-1060).max_error
    finally:
        rounding(0)
    assert lower == [0, 0, 0]
    assert error == np.inf


def test_residuals_of_numbers_that_are_flushed_to_zero():
    """A subnormal entry that counts, as its row and column are tiny: BE = 2 in exact numbers."""
    center, far = np.array([[3e-310, 1e-3], [1e-307, 0.01]]), np.array([[2e-308, 0.0], [0.0, 0.0]])
    series = LinearInverseApprox(center, order=1).fit()
    try:
        torch.set_flush_denormal(True)
        found = certify_region(series, center, directions=far[None], error="residual", max_boxes=9)
    finally:
        torch.set_flush_denormal(False)

    def exact(M):
        return fmpq_mat(2, 2, [fmpq(*x.as_integer_ratio()) for x in M.ravel().tolist()])

    B, E = exact(series.inverse_), exact(far)
    R = exact(np.eye(2)) - (exact(center) + E) * (B - B * E * B)
    size = sum(Fraction(int(x.p), int(x.q)) ** 2 for x in R.entries())
    assert size > 9
    assert size <= Fraction(found.upper) ** 2


@pytest.mark.parametrize("flush", [False, True])
def test_regions_of_numbers_that_are_flushed_to_zero(flush):
    """(r/c)³ is the residual of the second order; what loses digits on the way is refused."""
    c, r = 1.7e-307, 4.1e-310
    series, region = (
        LinearInverseApprox([[c]], order=2).fit(),
        FeasibleRegionSampler([[c]], r).fit(),
    )
    center = np.array([[c, 0.1 * c], [0.1 * c, c]])
    thin = FeasibleRegionSampler(center, r, norm="l2", structure="symmetric").fit()
    torch.set_flush_denormal(flush)
    try:
        found = certify_region(series, region, error="residual")
        with pytest.raises(ValueError, match="power of two"):
            certify_region(LinearInverseApprox(center).fit(), thin, error="residual")
    finally:
        torch.set_flush_denormal(False)
    share = Fraction(r) / Fraction(c)
    assert Fraction(found.lower) <= share**3 <= Fraction(found.upper)
    assert found.upper < 1.001 * found.lower
    moved = abs(Fraction(found.witness[0, 0]) / Fraction(c) - 1)
    assert Fraction(found.lower) <= moved**3 <= share**3
