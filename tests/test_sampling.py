"""FeasibleRegionSampler: where samples lie, how they are distributed, and what it does with X.

Norms, distances, whitening and distributions are computed here once more, from their definitions.
"""

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from backends import every_dtype
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.pipeline import make_pipeline
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state

from skinv import FeasibleRegionSampler, LinearInverseApprox
from skinv.geometry import region_certificate

NORMS = ("linf", "l2", "l1", "mahalanobis")
CENTER = np.array([[3.0, 1.0], [1.0, 2.0]])  # distances: l1 5/3, l2 1.38, linf 5/7
every_norm = pytest.mark.parametrize("norm", NORMS)
every_order = pytest.mark.parametrize("n", [1, 2, 3, 8])
every_source = pytest.mark.parametrize("device", [None, "cpu"])
laws = settings(max_examples=25, derandomize=True, deadline=None)


def make_center(n):
    return np.random.RandomState(n).standard_normal((n, n)) + 3 * np.sqrt(n) * np.eye(n)


def make_data(n, n_samples=60, rank=None, seed=0, spread=0.2, center=None):
    """Rows around a centre that vary in `rank` directions."""
    rng = np.random.RandomState(seed)
    center = make_center(n) if center is None else center
    directions = rng.standard_normal((rank or n * n, n * n)) / n
    return center.ravel() + spread * rng.uniform(-1, 1, (n_samples, len(directions))) @ directions


def fitted(norm, n=2, n_samples=60, **parameters):
    parameters = {"random_state": 0, "on_infeasible": "project"} | parameters
    return FeasibleRegionSampler(norm=norm, **parameters).fit(make_data(n, n_samples))


def host(X):
    return X.numpy() if isinstance(X, torch.Tensor) else X


def size(norm, E, data=None):
    """The norm of each row; for the ellipsoid by whitening the data, which must have full rank."""
    if norm == "mahalanobis":
        values, vectors = np.linalg.eigh(data.T @ data / len(data))
        return np.linalg.norm(E @ vectors / np.sqrt(values), axis=1)
    return np.linalg.norm(E, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)


def distance(rows, norm):
    """Distance of each matrix to the singular ones: SVD, largest entry, all sign vectors."""
    n = int(rows.shape[1] ** 0.5)
    stack = rows.reshape(-1, n, n)
    if norm in ("l2", "mahalanobis"):
        return np.linalg.norm(stack, -2, axis=(1, 2))
    inverse = np.linalg.inv(stack)
    if norm == "l1":
        return 1 / np.abs(inverse).max(axis=(1, 2))
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=n))).T
    return 1 / np.abs(inverse @ signs).sum(axis=1).max(axis=1)


def same_distribution(sample, expected):
    """Kolmogorov-Smirnov; seeds are fixed, so 1e-3 is no matter of luck."""
    return stats.kstest(sample, expected).pvalue > 1e-3


# Where samples lie.


@every_norm
@every_order
@every_source
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_lie_in_the_region_with_their_inverses(norm, n, device, dtype):
    """Rows of the dtype asked for, inside up to its rounding, and AY = I."""
    data = make_data(n, 5 * n * n)
    sampler = FeasibleRegionSampler(norm=norm, random_state=1).fit(data)
    X, Y = sampler.sample(300, device=device, dtype=getattr(torch if device else np, dtype))
    assert X.dtype == Y.dtype == getattr(torch if device else np, dtype)
    assert isinstance(X, torch.Tensor) == isinstance(Y, torch.Tensor) == (device is not None)
    X, Y, eps = host(X), host(Y), np.finfo(dtype).eps
    assert X.shape == Y.shape == (300, n * n)
    assert sampler.is_feasible(X).all()
    center = data.mean(axis=0)
    E, scale = X.astype(float) - center, np.abs(center).max()
    if norm == "linf":
        assert (np.abs(E) <= np.abs(data - center).max(axis=0) + 4 * eps * scale).all()
    else:
        radius = size(norm, data - center, data - center).max()
        thinnest = np.linalg.svd(data - center)[1][-1] / np.sqrt(len(data))
        rounding = {"l2": n, "l1": n * n, "mahalanobis": n / thinnest}[norm] * 4 * eps * scale
        assert (size(norm, E, data - center) <= radius + rounding + 1e-10).all()
    residual = X.reshape(-1, n, n).astype(float) @ Y.reshape(-1, n, n).astype(float) - np.eye(n)
    assert np.abs(residual).max() < 50 * n * eps


@every_norm
@every_source
def test_inverses_only_on_request(norm, device):
    """return_inverse=False returns one array of the same stream, and the default is float64."""
    X, _ = fitted(norm).sample(5, device=device)
    alone = fitted(norm).sample(5, device=device, return_inverse=False)
    assert str(alone.dtype).endswith("float64")
    np.testing.assert_array_equal(host(alone), host(X))
    assert fitted(norm).sample()[0].shape == (1, 4)


# How samples are distributed.


@every_source
@every_order
def test_uniform_in_the_box(n, device):
    """Each entry is uniform between its bounds, independent of the others."""
    half_widths = np.linspace(0.1, 0.5, n * n)
    sampler = FeasibleRegionSampler(make_center(n), half_widths, random_state=2).fit()
    E = host(sampler.sample(4000, device=device)[0]) - make_center(n).ravel()
    for column, width in zip(E.T, half_widths, strict=True):
        assert same_distribution(column, stats.uniform(-width, 2 * width).cdf)
    if n > 1:
        assert np.abs(np.corrcoef(E.T) - np.eye(n * n)).max() < 5 / np.sqrt(4000)
        assert np.abs(np.corrcoef(E.T**2) - np.eye(n * n)).max() < 5 / np.sqrt(4000)


def check_uniform_in_the_unit_ball(Z):
    """The volume inside a point is uniform, its direction isotropic, and the two independent."""
    d = Z.shape[1]
    radius = np.linalg.norm(Z, axis=1)
    assert same_distribution(radius**d, "uniform")
    if d == 1:
        assert same_distribution(Z[:, 0], stats.uniform(-1, 2).cdf)
        return
    directions = Z / radius[:, None]
    for axis in (*np.eye(d)[:4], np.ones(d) / np.sqrt(d), np.linspace(-1, 1, d)):
        cosine = directions @ axis / np.linalg.norm(axis)
        assert same_distribution(cosine**2, stats.beta(0.5, (d - 1) / 2).cdf)
        assert stats.binomtest(int((cosine > 0).sum()), len(Z)).pvalue > 1e-3
        assert abs(stats.spearmanr(cosine, radius).statistic) < 5 / np.sqrt(len(Z))


@every_source
@every_order
def test_uniform_in_the_l2_ball(n, device):
    """Uniform volumes and directions in the Frobenius ball."""
    sampler = FeasibleRegionSampler(make_center(n), 0.7, norm="l2", random_state=3).fit()
    X, _ = sampler.sample(4000, device=device)
    check_uniform_in_the_unit_ball((host(X) - make_center(n).ravel()) / 0.7)


@every_source
@every_order
def test_uniform_in_the_l1_ball(n, device):
    """Uniform volumes, shares of the norm as in a simplex, fair and independent signs."""
    sampler = FeasibleRegionSampler(make_center(n), 0.7, norm="l1", random_state=4).fit()
    E = (host(sampler.sample(4000, device=device)[0]) - make_center(n).ravel()) / 0.7
    d, norms = n * n, np.abs(E).sum(axis=1)
    assert same_distribution(norms**d, "uniform")
    for j in range(min(d, 5)):
        assert stats.binomtest(int((E[:, j] > 0).sum()), len(E)).pvalue > 1e-3
        if d > 1:
            same_sign = int((E[:, j] * E[:, j - 1] > 0).sum())
            assert stats.binomtest(same_sign, len(E)).pvalue > 1e-3
            assert same_distribution(np.abs(E[:, j]) / norms, stats.beta(1, d - 1).cdf)


@every_source
@pytest.mark.parametrize(("n", "rank"), [(1, 1), (2, 2), (2, 4), (3, 5), (8, 6)])
def test_uniform_in_the_ellipsoid(n, rank, device):
    """Whitened by the data's covariance, samples are uniform in a ball of the data's rank."""
    data = make_data(n, 200, rank)
    center = data.mean(axis=0)
    sampler = FeasibleRegionSampler(norm="mahalanobis", random_state=5).fit(data)
    X, _ = sampler.sample(4000, device=device)
    values, vectors = np.linalg.eigh((data - center).T @ (data - center) / len(data))
    whiten = vectors[:, -rank:] / np.sqrt(values[-rank:])
    radius = np.linalg.norm((data - center) @ whiten, axis=1).max()
    check_uniform_in_the_unit_ball((host(X) - center) @ whiten / radius)
    assert sampler.axes_.shape == (rank, n * n)


@every_source
def test_uniform_in_what_rejection_leaves(device):
    """Numbers in [−1, 3] that are at least 1/2 from 0: uniform on two intervals."""
    sampler = FeasibleRegionSampler([[1.0]], 2.0, min_distance=0.5, random_state=6).fit()
    assert not sampler.is_certified_
    X, Y = (host(Z)[:, 0] for Z in sampler.sample(4000, device=device))
    assert same_distribution(X, lambda x: (np.clip(x, -1, -0.5) + np.clip(x, 0.5, 3) + 0.5) / 3)
    np.testing.assert_allclose(X * Y, 1, rtol=1e-15)


# Regions that reach the singular matrices.


@every_norm
@every_source
@pytest.mark.parametrize("n", [2, 3])
def test_rejection_keeps_the_distance(norm, n, device):
    """In a region that is not certified every sample keeps min_distance, in the region's norm."""
    data = make_data(n, 100, spread=3.0)
    sampler = FeasibleRegionSampler(norm=norm, min_distance=0.4, random_state=7).fit(data)
    assert not sampler.is_certified_
    assert sampler.margin_ < 0
    X, Y = (host(Z) for Z in sampler.sample(500, device=device))
    assert len(X) == len(Y) == 500
    kept = distance(X, norm)
    assert 0.4 * (1 - 1e-12) <= kept.min() < 0.8  # and the limit bites
    loose = FeasibleRegionSampler(norm=norm, random_state=7).fit(data)
    assert distance(loose.sample(500)[0], norm).min() < 0.4


@every_norm
def test_certified_regions_keep_the_distance(norm):
    """Without rejection, all samples of a certified region keep margin + min_distance."""
    sampler = fitted(norm, n=3, min_distance=0.1)
    assert sampler.is_certified_
    X = sampler.sample(3000, return_inverse=False)
    assert distance(X, norm).min() >= sampler.margin_ + 0.1


def test_hopeless_regions():
    """If hardly any matrix can be kept the message says how many were drawn, and from what."""
    sampler = FeasibleRegionSampler(np.eye(2), 0.1, min_distance=5.0, random_state=0).fit()
    with pytest.raises(ValueError, match=r"Of \d+ matrices .* only 0 .*min_distance=5.0"):
        sampler.sample(3)
    with pytest.raises(ValueError, match=r"None of the 60 matrices is feasible.*margin is -4\.6"):
        sampler.fit_resample(make_data(2))


@pytest.mark.parametrize(
    ("norm", "radius"), [("linf", 5 / 7), ("l1", 5 / 3), ("l2", (5 - 5**0.5) / 2)]
)
def test_touching_regions_are_not_certified(norm, radius):
    """A ball of the centre's distance is refused a certificate, with its numbers; a smaller not."""
    sampler = FeasibleRegionSampler(CENTER, radius, norm=norm).fit()
    assert sampler.is_certified_ is False
    assert -1e-12 < sampler.margin_ <= 0
    certificate = sampler.certificate_
    assert certificate.test == "distance of the centre"
    assert (certificate.radius, certificate.norm, certificate.min_distance) == (radius, norm, 0.0)
    assert certificate.margin == sampler.margin_
    assert certificate.distance == sampler.distance_ == pytest.approx(radius, rel=1e-12)
    smaller = FeasibleRegionSampler(CENTER, 0.9 * radius, norm=norm).fit()
    assert smaller.is_certified_ is True
    assert smaller.margin_ == pytest.approx(0.1 * radius, rel=1e-10)
    smaller.set_params(min_distance=0.2 * radius).fit()
    assert not smaller.is_certified_
    assert smaller.margin_ == pytest.approx(-0.1 * radius, rel=1e-10)


# Regions of data.


@every_norm
@every_order
@every_dtype
@pytest.mark.parametrize("center", [None, "given"])
def test_radius_of_data_is_the_smallest(norm, n, dtype, center):
    """All rows are feasible, and a region smaller by 1e-6 loses one."""
    data = make_data(n).astype(dtype)
    center = None if center is None else make_center(n)
    sampler = FeasibleRegionSampler(center, norm=norm).fit(data)
    assert sampler.is_feasible(data).all()
    if center is None:
        expected = data.mean(axis=0, dtype=float)
        np.testing.assert_allclose(sampler.center_.ravel(), expected, rtol=1e-13, atol=1e-14)
    else:
        np.testing.assert_array_equal(sampler.center_, center)
    smaller = FeasibleRegionSampler(sampler.center_, sampler.radius_ * (1 - 1e-6), norm=norm)
    lost = ~smaller.fit(data).is_feasible(data.astype(float))  # float32 rows are forgiven more
    assert 0 < np.count_nonzero(lost) <= 2 * n * n


def test_box_of_data_has_half_widths_per_entry():
    """An entry that does not vary gets an exact zero, and is sampled as it is."""
    data = make_data(3)
    data[:, [1, 5]] = 0.1, 0.0
    sampler = FeasibleRegionSampler(random_state=0).fit(data)
    expected = np.abs(data - data.mean(axis=0)).max(axis=0)
    expected[[1, 5]] = 0.0
    np.testing.assert_allclose(sampler.radius_.ravel(), expected, rtol=1e-12)
    assert (sampler.radius_.ravel()[[1, 5]] == 0).all()
    for device in (None, "cpu"):
        X = host(sampler.sample(50, device=device)[0])
        np.testing.assert_array_equal(X[:, [1, 5]], data[:50, [1, 5]])
    moved = data[:1].copy()
    moved[0, 1] += 1e-9
    assert sampler.decision_function(moved)[0] == pytest.approx(-1e-9, rel=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 7])
@every_dtype
def test_ellipsoid_of_rank_deficient_data(rank, dtype):
    """The rank is revealed, samples stay in the span, and constant entries stay constant."""
    rng = np.random.RandomState(rank)
    directions = rng.standard_normal((rank, 9))
    directions[:, [2, 7]] = 0.0
    rows = make_center(3).ravel() + rng.uniform(-0.2, 0.2, (40, rank)) @ directions
    rows = rows.astype(dtype)
    sampler = FeasibleRegionSampler(norm="mahalanobis", random_state=0).fit(rows)
    assert sampler.axes_.shape == (rank, 9)
    assert sampler.is_feasible(rows).all()
    X = sampler.sample(200, return_inverse=False)
    np.testing.assert_array_equal(X[:, [2, 7]], np.tile(rows[0, [2, 7]].astype(float), (200, 1)))
    E = X - sampler.center_.ravel()
    left = E - np.linalg.lstsq(directions.T, E.T, rcond=None)[0].T @ directions
    assert np.abs(left).max() < 100 * np.finfo(dtype).eps
    axes = sampler.axes_ / sampler.thickness_.ravel()
    gram = axes @ axes.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12 * gram.max())
    off = rows[:1].astype(float)
    off[0, 2] += 0.01
    assert not sampler.is_feasible(off)[0]


def test_certificate_covers_the_thickness():
    """Directions in which the data do not vary are granted a little, and it is taken off."""
    sampler = FeasibleRegionSampler(norm="mahalanobis", min_distance=0.1).fit(make_data(3, rank=2))
    assert sampler.thickness_.shape == (3, 3)
    longest = np.linalg.norm(sampler.axes_, axis=1).max()
    assert (sampler.thickness_ > 0).all()
    assert (sampler.thickness_ < 1e-6 * longest).all()
    center, radius = sampler.center_, sampler.radius_
    thin = region_certificate(center, radius, "mahalanobis", 0.1, axes=sampler.axes_)
    lost = radius * sampler.thickness_.min()
    assert sampler.is_certified_
    assert sampler.margin_ <= thin.margin - 0.99 * lost
    off = np.random.RandomState(0).standard_normal((20, 9)) * sampler.thickness_.ravel()
    off *= 0.5 * radius / np.linalg.norm(off / sampler.thickness_.ravel(), axis=1)[:, None]
    assert sampler.is_feasible(center.ravel() + off).all()


def test_second_fit_in_another_norm_leaves_nothing():
    """Attributes of the ellipsoid go when the norm does."""
    sampler = fitted("mahalanobis")
    assert {"axes_", "thickness_"} <= set(vars(sampler))
    sampler.set_params(norm="l2").fit(make_data(2))
    assert not {"axes_", "thickness_"} & set(vars(sampler))


# Tests and projections of given matrices.


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@every_order
def test_decision_function_is_the_radius_left(norm, n):
    """Radius less norm: positive inside, negative outside, -inf for what is not finite."""
    radius = 0.5
    sampler = FeasibleRegionSampler(make_center(n), radius, norm=norm).fit()
    rng = np.random.RandomState(0)
    E = rng.standard_normal((50, n * n)) * rng.uniform(0, 1, (50, 1))
    rows = make_center(n).ravel() + E
    found = sampler.decision_function(rows)
    np.testing.assert_allclose(found, radius - size(norm, E), atol=1e-12)
    np.testing.assert_array_equal(sampler.is_feasible(rows), found >= 0)
    assert found.min() < 0 < found.max()
    assert sampler.decision_function(make_center(n)[None]) == radius
    rows[:3, 0] = np.nan, np.inf, -np.inf
    spoilt = sampler.decision_function(rows)
    np.testing.assert_array_equal(spoilt[:3], -np.inf)
    np.testing.assert_array_equal(spoilt[3:], found[3:])
    assert not sampler.is_feasible(rows)[:3].any()


def test_decision_function_of_a_box_with_half_widths():
    """The least room of any entry; fixed entries, which have none, count only if violated."""
    sampler = FeasibleRegionSampler(CENTER, [[0.5, 0.0], [0.0, 0.2]]).fit()
    rows = CENTER.ravel() + np.array([[0.1, 0, 0, 0.1], [0.4, 0, 0, 0.1], [0, 1e-3, 0, 0.1]])
    np.testing.assert_allclose(sampler.decision_function(rows), [0.1, 0.1, -1e-3], atol=1e-12)
    np.testing.assert_array_equal(sampler.is_feasible(rows), [True, True, False])
    point = FeasibleRegionSampler(CENTER, 0.0).fit()
    np.testing.assert_array_equal(point.decision_function(CENTER[None]), [0.0])


def test_decision_function_of_the_ellipsoid():
    """Radius less Mahalanobis norm."""
    data = make_data(2)
    sampler = FeasibleRegionSampler(norm="mahalanobis", radius=2.0).fit(data)
    E = data - data.mean(axis=0)
    found = sampler.decision_function(data)
    np.testing.assert_allclose(found, 2.0 - size("mahalanobis", E, E), atol=1e-10)
    bad = np.array([[np.nan, 0, 0, 1], [np.inf, -np.inf, 0, 1]])
    np.testing.assert_array_equal(sampler.decision_function(bad), -np.inf)


def test_feasible_means_regular_too():
    """In a region that is not certified a near-singular matrix is not feasible."""
    sampler = FeasibleRegionSampler(np.eye(2), 3.0, min_distance=0.3).fit()
    rows = np.array([[1.0, 0, 0, 1], [1, 1, 1, 1], [0.5, 0, 0, 0.5], [1, 0, 0, 1.5], [9, 0, 0, 1]])
    np.testing.assert_array_equal(sampler.is_feasible(rows), [True, False, False, True, False])
    assert (sampler.decision_function(rows)[:4] > 0).all()
    at_zero = sampler.set_params(min_distance=0.0).fit().is_feasible(rows)
    np.testing.assert_array_equal(at_zero, [True, False, True, True, False])


def outside(n, seed=0, spread=3.0):
    """Rows in and around the regions of make_data, float64."""
    return np.vstack([make_data(n), make_data(n, 40, seed=seed + 1, spread=spread)])


@every_norm
@every_order
@every_dtype
def test_projection(norm, n, dtype):
    """Projected rows are feasible, a second time nothing moves, and rows inside never do."""
    rows = outside(n).astype(dtype)
    sampler = fitted(norm, n)
    inside = sampler.is_feasible(rows)
    projected = sampler.transform(rows)
    assert projected.dtype == dtype
    assert sampler.is_feasible(projected).all()
    np.testing.assert_array_equal(projected[inside], rows[inside])
    np.testing.assert_array_equal(sampler.transform(projected), projected)
    assert (~inside).any()
    assert (projected[~inside] != rows[~inside]).any(axis=1).all()


@every_norm
@every_order
def test_projection_is_the_nearest_point(norm, n):
    """It is as far as the row is outside, and no point of the region is nearer in the norm."""
    data = make_data(n, 5 * n * n)
    center = data.mean(axis=0)
    sampler = fitted(norm, random_state=8).fit(data)
    rows = make_data(n, 20, seed=1, spread=3.0)
    moves = size(norm, sampler.transform(rows) - rows, data - center)
    if norm != "linf":
        radius = size(norm, data - center, data - center).max()
        excess = np.maximum(size(norm, rows - center, data - center) - radius, 0)
        np.testing.assert_allclose(moves, excess, atol=1e-9)
    others = np.vstack([sampler.sample(500)[0], sampler.transform(make_data(n, 200, spread=9.0))])
    for row, move in zip(rows, moves, strict=True):
        assert size(norm, others - row, data - center).min() >= move - 1e-9


@every_norm
@given(
    exponent=st.integers(-3, 6), n=st.integers(1, 4), seed=st.integers(0, 99), single=st.booleans()
)
@laws
def test_rounding_puts_nothing_outside(norm, exponent, n, seed, single):
    """Data, samples and projections are feasible however large the region, in both dtypes."""
    data = make_data(n, 30, 1 + seed % (n * n), seed, spread=10.0**exponent)
    dtype = np.float32 if single else np.float64
    sampler = fitted(norm, random_state=seed).set_params(center=make_center(n)).fit(data)
    far = make_data(n, 20, seed=seed, spread=100 * 10.0**exponent).astype(dtype)
    projected = sampler.transform(far)
    samples = sampler.sample(20, return_inverse=False, dtype=dtype)
    for rows in (data, data.astype(dtype), samples, projected):
        assert (sampler.decision_function(rows) >= 0).all()
    np.testing.assert_array_equal(sampler.transform(projected), projected)


@pytest.mark.parametrize(("norm", "n"), [("linf", 24), ("l2", 24), ("l1", 32), ("mahalanobis", 24)])
def test_order_of_summation_puts_nothing_outside(norm, n):
    """Data are feasible in Fortran order and row by row too, however norms are summed."""
    for seed in range(6, 16):
        data = make_data(n, 100, 9, seed, spread=1e5, center=np.eye(n))
        sampler = FeasibleRegionSampler(np.eye(n), norm=norm).fit(data)
        assert sampler.is_feasible(np.asfortranarray(data)).all()
        assert all(sampler.is_feasible(data[[i]]) for i in range(len(data)))


@every_norm
@every_order
def test_float32_rows_of_a_float64_region(norm, n):
    """Rounding the data to float32 does not make them infeasible; answers agree elsewhere."""
    data = make_data(n)
    sampler = FeasibleRegionSampler(norm=norm).fit(data)
    assert sampler.is_feasible(data.astype(np.float32)).all()
    rows = outside(n)[60:]
    single = sampler.decision_function(rows.astype(np.float32))
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, sampler.decision_function(rows), rtol=1e-3, atol=2e-3)


# transform.


def region(**parameters):
    parameters = {"on_infeasible": "project"} | parameters
    return FeasibleRegionSampler(CENTER, 0.5, **parameters).fit()


ROWS = np.array([[3.0, 1, 1, 2], [3.0, 1, 1, 9], [3.2, 1, 1, 2], [0.0, 1, 1, 2.0]])
INSIDE = [0, 2]


def test_project_clips_to_the_box():
    """Entries outside are moved to the nearest bound."""
    expected = ROWS.copy()
    expected[1, 3], expected[3, 0] = 2.5, 2.5
    np.testing.assert_array_equal(region().transform(ROWS), expected)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_project_leaves_what_it_cannot_help(norm):
    """A near-singular matrix within the region stays where it is."""
    sampler = region(norm=norm, min_distance=0.3).set_params(center=np.eye(2), radius=3.0).fit()
    assert not sampler.is_feasible(np.ones((1, 4)))
    np.testing.assert_array_equal(sampler.transform(np.ones((1, 4))), np.ones((1, 4)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_marks_infeasible_rows(bad):
    """By default rows outside become NaN, and those that are not finite; X stays as it was."""
    rows = ROWS.copy()
    rows[3, 0] = bad
    before = rows.copy()
    found = FeasibleRegionSampler(CENTER, 0.5).fit().transform(rows)
    np.testing.assert_array_equal(found[INSIDE], rows[INSIDE])
    assert np.isnan(found[[1, 3]]).all()
    np.testing.assert_array_equal(rows, before)


def test_raise_and_warn_name_the_rows():
    """Both messages list the rows; a warning passes them on unchanged."""
    message = r"Rows \[1, 3\] \(2 of 4\) of X are outside.*norm 'linf'\), by up to 6\.5"
    with pytest.raises(ValueError, match=message):
        region(on_infeasible="raise").transform(ROWS)
    with pytest.warns(UserWarning, match=message):
        found = region(on_infeasible="warn").transform(ROWS)
    np.testing.assert_array_equal(found, ROWS)
    for action in ("raise", "warn"):
        found = region(on_infeasible=action).transform(ROWS[INSIDE])
        np.testing.assert_array_equal(found, ROWS[INSIDE])


@pytest.mark.parametrize("action", ["raise", "warn"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite_rows_are_named(action, bad):
    """Where there is no NaN for an answer; otherwise that is what they become."""
    rows = ROWS.copy()
    rows[[0, 2], 1] = bad
    projected = region().transform(rows)
    assert np.isnan(projected[[0, 2]]).all()
    np.testing.assert_array_equal(projected[[1, 3]], region().transform(ROWS)[[1, 3]])
    with pytest.raises(ValueError, match=r"NaN or infinity.*rows \[0, 2\] \(2 of 4\)"):
        region(on_infeasible=action).transform(rows)


@pytest.mark.parametrize("norm", NORMS)
def test_layouts(norm):
    """A stack in is a stack out; lists, integers and Fortran order are rows like others."""
    sampler, rows = fitted(norm), outside(2)
    expected = sampler.transform(rows)
    stack = rows.reshape(-1, 2, 2)
    np.testing.assert_array_equal(sampler.transform(stack), expected.reshape(stack.shape))
    for same in (rows.tolist(), np.asfortranarray(rows), stack.tolist()):
        found = np.reshape(sampler.transform(same), expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_array_equal(sampler.is_feasible(stack), sampler.is_feasible(rows))
    np.testing.assert_array_equal(sampler.decision_function(stack), sampler.decision_function(rows))
    again = clone(sampler).fit(make_data(2).reshape(-1, 2, 2))
    np.testing.assert_array_equal(again.center_, sampler.center_)
    np.testing.assert_array_equal(again.radius_, sampler.radius_)
    assert again.n_features_in_ == 4
    assert sampler.transform([[3, 1, 1, 2]]).dtype == np.float64


def test_data_frames():
    """Named columns pass through all methods without a word, and set_output gives them back."""
    names = ["a", "b", "c", "d"]
    frame = pd.DataFrame(ROWS, columns=names, index=[5, 6, 7, 8])
    sampler = FeasibleRegionSampler(CENTER, 0.5).fit(frame).set_output(transform="pandas")
    found = sampler.transform(frame)
    expected = frame.copy()
    expected.iloc[[1, 3]] = np.nan
    pd.testing.assert_frame_equal(found, expected)
    np.testing.assert_array_equal(sampler.get_feature_names_out(), names)
    np.testing.assert_array_equal(sampler.is_feasible(frame), [True, False, True, False])
    np.testing.assert_allclose(sampler.decision_function(frame), [0.5, -6.5, 0.3, -2.5])
    kept, target = sampler.fit_resample(frame, frame["a"])
    pd.testing.assert_frame_equal(kept, frame.iloc[INSIDE])
    pd.testing.assert_series_equal(target, frame["a"].iloc[INSIDE])


# fit_resample.


def test_fit_resample():
    """Infeasible rows go, from y too; the containers stay what they were."""
    y = np.arange(4)
    sampler = FeasibleRegionSampler(CENTER, 0.5)
    for X in (ROWS, ROWS.reshape(-1, 2, 2)):
        kept, target = sampler.fit_resample(X, y)
        np.testing.assert_array_equal(kept, X[INSIDE])
        np.testing.assert_array_equal(target, INSIDE)
        kept, target = sampler.fit_resample(X)
        np.testing.assert_array_equal(kept, X[INSIDE])
        assert target is None
    kept, target = sampler.fit_resample(ROWS.tolist(), list("pqrs"))
    assert (kept, target) == (ROWS[INSIDE].tolist(), ["p", "r"])


def test_fit_resample_drops_near_singular_rows():
    """The recipe for training data: drop what is too close to a singular matrix."""
    rows = np.vstack([make_data(2), [[1.0, 2, 2, 4], [3, 1, 1, 0.34]]])
    sampler = FeasibleRegionSampler(min_distance=0.05, norm="l2")
    model = LinearInverseApprox(method="lstsq")
    with pytest.raises(ValueError, match=r"rows \[60\]"):
        model.fit(rows)
    kept, inverses = sampler.fit_resample(rows, np.arange(62))
    np.testing.assert_array_equal(kept, rows[:60])
    np.testing.assert_array_equal(inverses, np.arange(60))
    model.fit(kept)


def near_singular_data():
    rows = np.vstack([make_data(2), [[1.0, 2, 2, 4.0001]]])
    return rows, np.linalg.inv(rows.reshape(-1, 2, 2)).reshape(rows.shape)


def test_in_a_pipeline_of_imbalanced_learn():
    """on_infeasible="drop" makes a step that drops rows in fit and does nothing in predict."""
    X, Y = near_singular_data()
    sampler = FeasibleRegionSampler(norm="l2", min_distance=0.05, on_infeasible="drop")
    model = make_pipeline(sampler, LinearInverseApprox()).fit(X, Y)
    expected = LinearInverseApprox().fit(X[:-1], Y[:-1]).predict(X)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_dropping_leaves_no_transform():
    """A transform may not change the number of rows; all else works as before."""
    sampler = FeasibleRegionSampler(CENTER, 0.5, on_infeasible="drop")
    assert not hasattr(sampler, "transform")
    assert not hasattr(sampler, "fit_transform")
    np.testing.assert_array_equal(sampler.fit(ROWS).is_feasible(ROWS), [True, False, True, False])
    assert hasattr(sampler.set_params(on_infeasible="nan"), "transform")


# Streams of random numbers.


@every_norm
@every_source
def test_streams(norm, device):
    """The same seed gives the same bits, call by call; consecutive calls differ; fit restarts."""

    def draw(sampler):
        return host(sampler.sample(7, device=device)[0])

    first, second = fitted(norm), fitted(norm)
    calls = [draw(first) for _ in range(3)]
    for call in calls:
        np.testing.assert_array_equal(draw(second), call)
    assert not (calls[0] == calls[1]).any()
    assert not (calls[1] == calls[2]).any()
    np.testing.assert_array_equal(draw(clone(first).fit(make_data(2))), calls[0])
    np.testing.assert_array_equal(draw(first.fit(make_data(2))), calls[0])
    assert not (draw(fitted(norm, random_state=1)) == calls[0]).any()


@every_norm
@every_source
def test_pickled_streams_go_on(norm, device):
    """A copy draws what the original would have drawn next."""
    sampler = fitted(norm)
    sampler.sample(3)
    copy = pickle.loads(pickle.dumps(sampler))
    for _ in range(2):
        expected, found = (host(s.sample(5, device=device)[0]) for s in (sampler, copy))
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(copy.is_feasible(outside(2)), sampler.is_feasible(outside(2)))


@every_norm
@pytest.mark.parametrize("random_state", [0, None])
def test_global_generators_are_left_alone(norm, random_state):
    """Neither NumPy's nor torch's global generator is moved, rejection included."""
    numpy_generator = check_random_state(None)
    numpy_state, torch_state = numpy_generator.get_state(), torch.get_rng_state()
    for spread in (0.2, 5.0):
        sampler = FeasibleRegionSampler(norm=norm, random_state=random_state)
        sampler.fit(make_data(2, spread=spread))
        for device in (None, "cpu"):
            sampler.sample(5, device=device)
    for before, after in zip(numpy_state, numpy_generator.get_state(), strict=True):
        np.testing.assert_array_equal(after, before)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_a_generator_as_random_state():
    """A RandomState is used as it is, so its owner sees it move."""
    expected = FeasibleRegionSampler(CENTER, 0.5, random_state=3).fit().sample(4)[0]
    rng = np.random.RandomState(3)
    sampler = FeasibleRegionSampler(CENTER, 0.5, random_state=rng).fit()
    np.testing.assert_array_equal(sampler.sample(4)[0], expected)
    assert not (sampler.fit().sample(4)[0] == expected).any()


@every_norm
def test_clones(norm):
    """A clone has the parameters and is not fitted."""
    sampler = fitted(norm, min_distance=0.1, on_infeasible="nan")
    copy = clone(sampler)
    assert copy.get_params() == sampler.get_params()
    with pytest.raises(NotFittedError):
        copy.sample()
    with pytest.raises(NotFittedError):
        copy.transform(ROWS)


# What is refused.


@pytest.mark.parametrize(
    ("parameters", "X", "message"),
    [
        ({"center": np.ones((2, 2)), "radius": 0.1}, None, "center is singular"),
        ({"center": np.ones((2, 3)), "radius": 0.1}, None, "center has no full rank"),
        ({"center": np.ones(3), "radius": 0.1}, None, "3 entries"),
        ({"center": CENTER * np.nan, "radius": 0.1}, None, "center contains NaN"),
        ({"center": np.eye(3)}, ROWS, "center of 9 entries, but rows of X have 4"),
        ({"center": CENTER}, None, "pass matrices to fit"),
        ({"radius": 0.1}, None, "neither center nor data"),
        ({}, None, "neither center nor data"),
        ({"center": CENTER, "radius": 0.1, "norm": "mahalanobis"}, None, "pass matrices to fit"),
        ({"norm": "mahalanobis"}, ROWS[[0, 0, 0]], "needs data that vary"),
        ({"center": CENTER, "radius": -0.1}, None, "'radius' parameter"),
        ({"center": CENTER, "radius": np.nan}, None, "'radius' parameter"),
        ({"center": CENTER, "radius": "all"}, None, "'radius' parameter"),
        ({"center": CENTER, "radius": -np.eye(2)}, None, "finite and >= 0"),
        ({"center": CENTER, "radius": np.diag([np.inf, 1])}, None, "finite and >= 0"),
        ({"center": CENTER, "radius": np.ones((3, 3))}, None, r"radius of shape \(3, 3\)"),
        ({"center": CENTER, "radius": np.eye(2), "norm": "l2"}, None, r"radius of shape.*'l2'"),
        ({"center": CENTER, "radius": np.eye(2), "norm": "l1"}, None, r"radius of shape.*'l1'"),
        ({"radius": np.eye(2), "norm": "mahalanobis"}, ROWS, r"radius of shape.*'mahalanobis'"),
        ({"min_distance": -1.0}, ROWS, "'min_distance' parameter"),
        ({"norm": "fro"}, ROWS, "'norm' parameter"),
        ({"on_infeasible": "skip"}, ROWS, "'on_infeasible' parameter"),
        ({"random_state": "seed"}, ROWS, "'random_state' parameter"),
        ({}, np.ones((4, 5)), "rows of 5 entries"),
        ({}, np.ones((4, 2, 3)), "center has no full rank"),
        ({}, np.ones(4), "2D array"),
        ({}, np.empty((0, 4)), "minimum of 1"),
        ({}, np.where(ROWS == 9, np.nan, ROWS), r"NaN or infinity.*rows \[1\] \(1 of 4\)"),
        ({}, np.where(ROWS == 9, -np.inf, ROWS), r"NaN or infinity.*rows \[1\] \(1 of 4\)"),
    ],
)
def test_fits_that_are_refused(parameters, X, message):
    """Each fault is a ValueError that names it."""
    with pytest.raises(ValueError, match=message):
        FeasibleRegionSampler(**parameters).fit(X)


@pytest.mark.parametrize("n_samples", [0, -3])
@every_source
def test_samples_of_no_size(n_samples, device):
    """At least one matrix must be asked for."""
    with pytest.raises(ValueError, match=rf"n_samples={n_samples}.*positive integer"):
        region().sample(n_samples, device=device)


def test_rows_of_another_order():
    """Matrices must have the order that was fitted."""
    for method in ("transform", "is_feasible", "decision_function"):
        with pytest.raises(ValueError, match=r"9 features.*expecting 4"):
            getattr(region(), method)(np.ones((2, 9)))


def test_extreme_entries():
    """Finite rows however large are outside and can be projected, without overflow."""
    rows = np.array([[1e308, 1e308, 1.0, 2.0], [-1e200, 1.0, 1.0, 2.0]])
    for norm in ("linf", "l2", "l1"):
        sampler = region(norm=norm)
        assert not sampler.is_feasible(rows).any()
        projected = sampler.transform(rows)
        assert sampler.is_feasible(projected).all()
        moved = size(norm, projected - CENTER.ravel())
        np.testing.assert_allclose(moved, 0.5, rtol=1e-9)


def test_opposite_infinities():
    """Their sum is NaN, which is no reason to warn."""
    rows = np.array([[np.inf, -np.inf, 1.0, 2.0]])
    for action in ("nan", "project"):
        assert np.isnan(region(on_infeasible=action).transform(rows)).all()
    with pytest.raises(ValueError, match=r"rows \[0\]"):
        region(on_infeasible="raise").transform(rows)


@every_norm
def test_parameters_set_later_change_nothing(norm):
    """What was fitted and certified is what is sampled and tested, whatever is set afterwards."""
    sampler, same = (
        FeasibleRegionSampler(norm=norm, random_state=0).fit(make_data(2)) for _ in range(2)
    )
    sampler.set_params(norm="l1" if norm != "l1" else "linf", radius=99.0, min_distance=9.0)
    rows = outside(2)
    np.testing.assert_array_equal(sampler.sample(50)[0], same.sample(50)[0])
    np.testing.assert_array_equal(sampler.decision_function(rows), same.decision_function(rows))
    np.testing.assert_array_equal(sampler.is_feasible(rows), same.is_feasible(rows))


@every_norm
@pytest.mark.parametrize("exponent", [-170, -100, 100, 160])
def test_extreme_units(norm, exponent):
    """A family in other units is the same family: no norm over- or underflows."""
    unit = 10.0**exponent
    data = make_data(2)
    sampler = FeasibleRegionSampler(norm=norm, random_state=0).fit(data * unit)
    same = FeasibleRegionSampler(norm=norm, random_state=0).fit(data)
    rows = outside(2)
    np.testing.assert_array_equal(sampler.is_feasible(rows * unit), same.is_feasible(rows))
    X = sampler.sample(20, return_inverse=False)
    if norm == "mahalanobis":  # of which the axes differ: units are powers of two
        assert same.is_feasible(X / unit).all()
    else:
        np.testing.assert_allclose(X / unit, same.sample(20, return_inverse=False), rtol=1e-6)
    assert sampler.is_certified_ == same.is_certified_


def test_tensors_come_back_as_tensors():
    """decision_function, is_feasible and transform answer tensors with tensors."""
    sampler = region()
    rows = outside(2)
    tensor = torch.from_numpy(rows.copy()).requires_grad_()
    for method in ("decision_function", "is_feasible", "transform"):
        answer = getattr(sampler, method)(tensor)
        assert isinstance(answer, torch.Tensor)
        np.testing.assert_array_equal(answer.numpy(), getattr(sampler, method)(rows))
    stack = sampler.transform(tensor.reshape(-1, 2, 2))
    assert stack.shape == (len(rows), 2, 2)


def test_data_frames_of_stacks_are_rows():
    """With set_output a stack comes back as a data frame of rows; names of an old fit are gone."""
    sampler = region(on_infeasible="nan").set_output(transform="pandas")
    rows = outside(2)
    frame = sampler.transform(rows.reshape(-1, 2, 2))
    assert frame.shape == rows.shape
    named = FeasibleRegionSampler(CENTER, 0.5).fit(pd.DataFrame(rows, columns=list("abcd")))
    assert not hasattr(named.fit(), "feature_names_in_")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_samples": 2.5}, "positive integer"),
        ({"n_samples": "3"}, "positive integer"),
        ({"dtype": int}, "floating-point"),
        ({"dtype": np.float32, "device": "cpu"}, "torch"),
        ({"dtype": torch.int64, "device": "cpu"}, "torch"),
    ],
)
def test_samples_of_no_kind(arguments, match):
    """Counts that are none and dtypes without fractions are refused."""
    with pytest.raises(ValueError, match=match):
        region().sample(**arguments)
