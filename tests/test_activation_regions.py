"""The affine pieces of ReLU networks, against what can be found without linear programs or skinv.

Oracles are the forward pass written down here, ``predict``, vertices of polytopes from Qhull, all
sign patterns one by one, intervals of the real line, and grids.
"""

import copy
import functools
import itertools
import pickle
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from exhaustive import exhaustive
from scipy.optimize import OptimizeResult, linprog
from scipy.spatial import HalfspaceIntersection
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
)
from skinv.datasets import make_region
from skinv.inspection import _polytopes, activation_regions
from skinv.inspection._piecewise import PiecewiseAffine, relu_form

CENTER = np.array([[3.0, 1.0], [1.0, 2.0]])
FLAT = np.array([[0.5, 0.0], [0.3, 0.2]])


# Boxes, networks, and what they are without skinv.


def box(radius=0.5, center=CENTER, **params):
    """A fitted sampler with its stream at the start."""
    return FeasibleRegionSampler(center, radius, random_state=0, **params).fit()


def perceptron(hidden, sampler, seed=0):
    """An MLPRegressor of random weights whose units mostly change inside the box."""
    rng = np.random.RandomState(seed)
    X = sampler.sample(20, return_inverse=False)
    d = X.shape[1]
    model = MLPRegressor(hidden_layer_sizes=hidden, random_state=0)
    model.partial_fit(X, X if d > 1 else X[:, 0])
    sizes = [d, *hidden, d]
    model.coefs_ = [rng.standard_normal(shape) for shape in itertools.pairwise(sizes)]
    model.intercepts_ = [0.4 * rng.standard_normal(size) for size in sizes[1:]]
    spread = X.std(axis=0)
    model.coefs_[0] /= np.where(spread > 0, spread, 1.0)[:, None]
    model.intercepts_[0] -= sampler.center_.ravel() @ model.coefs_[0]
    return model


@functools.cache
def trained(hidden=(8,), baseline=None, radius="scalar"):
    """A NeuralInverseRegressor after a short training."""
    X = box(0.5 if radius == "scalar" else FLAT).sample(1000, return_inverse=False)
    model = NeuralInverseRegressor(
        hidden, "relu", baseline=baseline, solver="adam", max_iter=5, random_state=3
    )
    return model.fit(X)


def forward(model, X):
    """The hidden units' signs as text, and the last layer's values, from the weights alone."""
    layers, h = [], X
    for W, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        z = h @ W + b
        layers.append(["".join("01"[int(on)] for on in row) for row in z > 0])
        h = np.maximum(z, 0)
    values = h @ model.coefs_[-1] + model.intercepts_[-1]
    return np.array(["|".join(text) for text in zip(*layers, strict=True)]), values


def first_order(X, center=CENTER):
    """L of rows."""
    n = len(center)
    B = np.linalg.inv(center)
    return (2 * B - B @ X.reshape(-1, n, n) @ B).reshape(len(X), -1)


def error(model, X, center=CENTER):
    """f − L of rows."""
    return model.predict(X).reshape(X.shape) - first_order(X, center)


def constraints(model, pattern, sampler):
    """Rows (g, h) of the polytope g·a + h <= 0 of a pattern in the box, by composition."""
    d = sampler.center_.size
    signs = [np.array([int(bit) for bit in layer]) for layer in pattern.split("|")]
    V, p, rows = np.eye(d), np.zeros(d), []
    for W, b, on in zip(model.coefs_, model.intercepts_, signs, strict=False):
        V, p = W.T @ V, W.T @ p + b
        rows.append(np.column_stack([V, p]) * (1 - 2 * on)[:, None])
        V, p = V * on[:, None], p * on
    center, radius = sampler.center_.ravel(), np.broadcast_to(sampler.radius_, (2, 2)).ravel()
    rows.append(np.column_stack([np.eye(d), -center - radius]))
    rows.append(np.column_stack([-np.eye(d), center - radius]))
    return np.concatenate(rows)


def inscribed(rows):
    """Centre and radius of the largest Euclidean ball in a polytope; radius None if it is empty."""
    length = np.linalg.norm(rows[:, :-1], axis=1)
    k = rows.shape[1] - 1
    result = linprog(
        np.append(np.zeros(k), -1.0),
        np.column_stack([rows[:, :-1], length]),
        -rows[:, -1],
        bounds=[(None, None)] * k + [(0, None)],
    )
    return (result.x[:-1], result.x[-1]) if result.status == 0 else (None, None)


def every_pattern(sizes):
    """All sign patterns as text."""
    layers = [["".join(bits) for bits in itertools.product("01", repeat=size)] for size in sizes]
    return ["|".join(pattern) for pattern in itertools.product(*layers)]


def lp_columns(frame):
    """The columns lp_max_j as an array."""
    return frame.filter(regex="^lp_max_[0-9]+$").to_numpy()


def own_points(maps):
    """The maximisers as rows, and a function that takes output j of values at those of output j."""
    n_regions, n_outputs, d = maps.maximizers.shape
    own = np.arange(n_outputs)

    def pick(values):
        return values.reshape(n_regions, n_outputs, n_outputs)[:, own, own]

    return maps.maximizers.reshape(-1, d), pick


# Models, and samplers' radii.
NETWORKS = {
    "plain": (lambda: trained(), 0.5),
    "affine": (lambda: trained(baseline="affine"), 0.5),
    "taylor": (lambda: trained((6,), "taylor"), 0.5),
    "deep": (lambda: trained((5, 4), "affine"), 0.5),
    "flat": (lambda: trained((6,), None, "flat"), FLAT),
    "flat taylor": (lambda: trained((4, 3), "taylor", "flat"), FLAT),
    "perceptron": (lambda: perceptron((6,), box()), 0.5),
    "deep perceptron": (lambda: perceptron((4, 3, 3), box()), 0.5),
    "unequal perceptron": (lambda: perceptron((5, 3), box(FLAT), 1), FLAT),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def analysed(name, patterns="all"):
    """Model, sampler with a fresh stream, and the table made from 5000 of its samples."""
    make, radius = NETWORKS[name]
    model = make()
    return model, box(radius), activation_regions(model, box(radius), 5000, patterns=patterns)


# Shares and affine maps.


@every_network
def test_shares_are_those_of_the_samples(name):
    """Patterns and shares are those of the forward pass on the same samples, and sum to 1."""
    model, sampler, frame = analysed(name)
    patterns, _ = forward(model, sampler.sample(5000, return_inverse=False))
    expected = pd.Series(patterns).value_counts()
    seen = frame[frame["share"] > 0].set_index("pattern")
    assert set(seen.index) == set(expected.index)
    np.testing.assert_allclose(seen["share"] * 5000, expected[seen.index], rtol=1e-12)
    assert frame["share"].sum() == pytest.approx(1, abs=1e-12)
    count = frame.attrs["maps"].count
    assert count.sum() == 5000
    assert frame["pattern"].is_unique
    order = list(zip(-count, frame["pattern"], strict=True))
    assert order == sorted(order)


@every_network
def test_affine_maps_are_the_network(name):
    """On the samples of each region C a + c is what the network predicts, and so is its maximum."""
    model, sampler, frame = analysed(name)
    sampler = clone(sampler).fit()
    X = sampler.sample(5000, return_inverse=False)
    patterns, values = forward(model, X)
    predicted = model.predict(X)
    if "perceptron" in name:
        np.testing.assert_allclose(values, predicted, rtol=1e-9, atol=1e-9)
    maps = frame.attrs["maps"]
    scale = np.abs(predicted).max()
    for i, pattern in enumerate(frame["pattern"]):
        mine = patterns == pattern
        affine = X[mine] @ maps.coefficients[i].T + maps.intercepts[i]
        np.testing.assert_allclose(affine, predicted[mine], rtol=0, atol=1e-10 * scale)
        if mine.any():
            largest = np.abs(error(model, X[mine])).max(axis=0)
            np.testing.assert_allclose(maps.sampled_max[i], largest, rtol=0, atol=1e-10 * scale)
        else:
            assert np.isnan(maps.sampled_max[i]).all()
    assert len(frame) >= 5


@every_network
def test_gap_is_that_of_finite_differences(name):
    """The coefficient gap is that of difference quotients of f − L in the entries that vary."""
    model, sampler, frame = analysed(name)
    sampler = clone(sampler).fit()
    X = sampler.sample(5000, return_inverse=False)
    patterns, _ = forward(model, X)
    varying = np.flatnonzero(np.broadcast_to(sampler.radius_, (2, 2)).ravel())
    step = 1e-5
    checked = 0
    for pattern, gap in zip(frame["pattern"], frame["coefficient_gap"], strict=True):
        for x in X[patterns == pattern][:20]:
            ends = np.concatenate([x - step * np.eye(4)[varying], x + step * np.eye(4)[varying]])
            if set(forward(model, ends)[0]) == {pattern}:
                low, high = np.split(error(model, ends), 2)
                assert np.abs(high - low).max() / (2 * step) == pytest.approx(gap, rel=1e-6)
                checked += 1
                break
    assert checked >= 4


# Linear programs.


@every_network
def test_maxima_are_attained_and_not_exceeded(name):
    """The network itself takes each maximum at a point of the box, and no sample is above it."""
    model, sampler, frame = analysed(name)
    maps = frame.attrs["maps"]
    maxima = lp_columns(frame)
    assert maxima.shape == (len(frame), 4)
    scale = maxima.max()
    points, pick = own_points(maps)
    np.testing.assert_allclose(pick(np.abs(error(model, points))), maxima, atol=1e-9 * scale)
    assert (np.abs(points - sampler.center_.ravel()) <= np.ravel(sampler.radius_)).all()
    assert sampler.is_feasible(points).all()
    seen = maps.count > 0
    assert (maxima[seen] >= maps.sampled_max[seen] - 1e-9 * scale).all()
    assert np.isnan(maps.sampled_max[~seen]).all()


@every_network
def test_maximisers_lie_in_their_polytopes(name):
    """Each maximiser has its region's signs, up to rounding at the boundaries."""
    model, sampler, frame = analysed(name)
    for pattern, points in zip(frame["pattern"], frame.attrs["maps"].maximizers, strict=True):
        rows = constraints(model, pattern, sampler)
        scale = np.abs(rows[:, :-1]) @ np.abs(sampler.center_.ravel()) + np.abs(rows[:, -1])
        assert (points @ rows[:, :-1].T + rows[:, -1] <= 1e-9 * (scale + 1e-300)).all()


@pytest.mark.parametrize("name", ["plain", "deep", "perceptron", "deep perceptron"])
def test_maxima_are_those_of_all_vertices(name):
    """Qhull's vertices of each polytope, evaluated by the network, give the same maxima."""
    model, sampler, frame = analysed(name)
    for pattern, maxima in zip(frame["pattern"], lp_columns(frame), strict=True):
        rows = constraints(model, pattern, sampler)
        rows = rows[np.abs(rows[:, :-1]).max(axis=1) > 1e-12]
        rows = rows / np.linalg.norm(rows[:, :-1], axis=1)[:, None]
        inner, radius = inscribed(rows)
        # Around a small polytope at its own scale: Qhull takes what is near for equal.
        offset = (rows[:, :-1] @ inner + rows[:, -1]) / radius
        scaled = np.column_stack([rows[:, :-1], offset])
        vertices = HalfspaceIntersection(scaled, np.zeros(4)).intersections
        vertices = inner + radius * vertices[np.isfinite(vertices).all(axis=1)]
        brute = np.abs(error(model, vertices)).max(axis=0)
        np.testing.assert_allclose(brute, maxima, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "sizes"), [("perceptron", (6,)), ("taylor", (6,)), ("unequal perceptron", (5, 3))]
)
def test_all_patterns_are_found(name, sizes):
    """Of all 2^H patterns those whose polytopes hold a ball are listed, and their maximum."""
    model, sampler, frame = analysed(name)
    found, worst = set(), np.zeros(4)
    fixed = np.broadcast_to(sampler.radius_, (2, 2)).ravel() == 0
    for pattern in every_pattern(sizes):
        rows = constraints(model, pattern, sampler)
        # Entries that do not vary are put in.
        rows[:, -1] += rows[:, :-1][:, fixed] @ sampler.center_.ravel()[fixed]
        rows = rows[:, ~np.append(fixed, False)]
        rows = rows[np.abs(rows[:, :-1]).max(axis=1) > 1e-12]
        inner, radius = inscribed(rows)
        if radius is None or radius < 1e-8:
            continue
        found.add(pattern)
        x = sampler.center_.ravel().copy()
        x[~fixed] = inner
        # The map on this polytope from difference quotients inside the ball.
        step = min(radius, 0.01) / 4
        ends = np.concatenate([x - step * np.eye(4), x + step * np.eye(4)])[np.tile(~fixed, 2)]
        low, high = np.split(error(model, ends), 2)
        slope = (high - low).T / (2 * step)
        value = error(model, x[None])[0] - slope @ inner
        for j, sign in itertools.product(range(4), (1, -1)):
            result = linprog(-sign * slope[j], rows[:, :-1], -rows[:, -1], bounds=(None, None))
            worst[j] = max(worst[j], sign * (slope[j] @ result.x + value[j]))
    assert set(frame["pattern"]) == found
    np.testing.assert_allclose(lp_columns(frame).max(axis=0), worst, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_of_the_real_line(seed):
    """For 1×1 matrices regions are intervals between kinks, with maxima at their ends."""
    center, radius = np.array([[2.0]]), 0.7
    model = perceptron((9,), box(radius, center), seed)
    frame = activation_regions(model, box(radius, center), 40_000, patterns="all")
    kinks = -model.intercepts_[0] / model.coefs_[0][0]
    kinks = np.sort(kinks[np.abs(kinks - 2) < radius])
    ends = np.concatenate([[2 - radius], kinks, [2 + radius]])
    assert len(kinks) >= 3
    assert len(frame) == len(kinks) + 1
    middles = (ends[1:] + ends[:-1]) / 2
    order = frame.set_index("pattern").loc[forward(model, middles[:, None])[0]]
    np.testing.assert_allclose(order["share"], np.diff(ends) / (2 * radius), atol=0.01)
    values = np.abs(error(model, ends[:, None], center))[:, 0]
    np.testing.assert_allclose(order["lp_max_0"], np.maximum(values[1:], values[:-1]), rtol=1e-9)


def test_maximum_over_the_box_is_that_of_a_grid():
    """With all patterns the largest maximum is hardly above that of a fine grid, never below."""
    model, _, frame = analysed("plain")
    ticks = np.linspace(-0.5, 0.5, 25)
    grid = np.stack(np.meshgrid(*[ticks] * 4), axis=-1).reshape(-1, 4) + CENTER.ravel()
    brute = np.abs(error(model, grid)).max(axis=0)
    worst = lp_columns(frame).max(axis=0)
    assert (brute <= worst + 1e-12).all()
    np.testing.assert_allclose(worst, brute, rtol=0.05)


def test_all_patterns_contain_the_sampled_ones():
    """patterns="all" adds regions to those of the same samples, and changes nothing else."""
    few = activation_regions(trained(), box(), 200)
    more = activation_regions(trained(), box(), 200, patterns="all")
    assert (few["share"] > 0).all()
    assert len(few) < len(more)
    pd.testing.assert_frame_equal(few, more.iloc[: len(few)])
    assert (more["share"].iloc[len(few) :] == 0).all()
    assert lp_columns(few).max() <= lp_columns(more).max()


# Networks whose pieces are known.


def known_linear():
    """The 2n² units that are L everywhere: each entry's kink is at the centre, twice."""
    model = perceptron((8,), box())
    B = np.linalg.inv(CENTER)
    K = np.kron(B, B.T)
    model.coefs_ = [np.hstack([np.eye(4), -np.eye(4)]), np.vstack([-K.T, K.T])]
    model.intercepts_ = [np.concatenate([-CENTER.ravel(), CENTER.ravel()]), B.ravel()]
    return model


def test_the_linear_approximation_as_a_network():
    """Its 16 orthants are found, each of 1/16 of the box, with no gap and no error."""
    frame = activation_regions(known_linear(), box(), 20_000, patterns="all")
    expected = {
        "".join(bits) + "".join("10"[int(bit)] for bit in bits)
        for bits in itertools.product("01", repeat=4)
    }
    assert set(frame["pattern"]) == expected
    np.testing.assert_allclose(frame["share"], 1 / 16, atol=0.01)
    assert frame["coefficient_gap"].max() < 1e-14
    assert lp_columns(frame).max() < 1e-14


def test_a_network_that_starts_as_the_linear_approximation():
    """init="taylor", hardly trained, differs from L by what training did, and has its orthants."""
    model = NeuralInverseRegressor(
        8,
        "relu",
        baseline=None,
        init="taylor",
        solver="adam",
        learning_rate_init=1e-12,
        random_state=0,
    ).fit_sampler(box(), 1)
    frame = activation_regions(model, box(), 5000, patterns="all")
    assert len(frame) == 16
    assert frame["coefficient_gap"].max() < 1e-6
    assert lp_columns(frame).max() < 1e-6


def test_one_region_of_a_linear_model():
    """Linear models have one region; its maximum is that of the corners of the box."""
    X = box().sample(500, return_inverse=False)
    corners = CENTER.ravel() + 0.5 * np.array(list(itertools.product((-1, 1), repeat=4)))
    for model in (
        LinearInverseApprox(CENTER).fit(),
        LinearInverseApprox(CENTER + 0.1).fit(),
        LinearInverseApprox(method="lstsq").fit(X),
        NeuralInverseRegressor(
            (), "relu", baseline="affine", solver="adam", max_iter=1, random_state=0
        ).fit(X),
    ):
        for patterns in ("sampled", "all"):
            frame = activation_regions(model, box(), 100, patterns=patterns)
            assert frame["pattern"].tolist() == [""]
            assert frame["share"].tolist() == [1.0]
            brute = np.abs(error(model, corners)).max(axis=0)
            np.testing.assert_allclose(lp_columns(frame)[0], brute, rtol=1e-9, atol=1e-14)


def test_units_that_never_change():
    """Dead, constant and far-away units split nothing; one unit twice splits once."""
    model = perceptron((6,), box())
    W, b = model.coefs_[0], model.intercepts_[0]
    W[:, 0], b[0] = 0.0, -1.0  # never on
    W[:, 1], b[1] = 0.0, 1.0  # always on
    W[:, 2], b[2] = 0.0, 0.0  # exactly 0: not on
    W[:, 3], b[3] = [1.0, 0.0, 0.0, 0.0], 10.0  # changes at -10
    W[:, 4], b[4] = [1.0, 0.0, 0.0, 0.0], -3.1
    W[:, 5], b[5] = W[:, 4], b[4]
    frame = activation_regions(model, box(), 5000, patterns="all")
    assert frame["pattern"].tolist() == ["010100", "010111"]
    np.testing.assert_allclose(frame["share"], [0.6, 0.4], atol=0.03)


def test_units_behind_a_dead_layer():
    """Where all units of a layer are off the next sees its biases, and the network is constant."""
    model = perceptron((3, 3), box())
    model.coefs_[0][:] = [[1.0] * 3] + [[0.0] * 3] * 3
    model.intercepts_[0][:] = [-3.0, -3.1, -3.2]
    model.intercepts_[1][:] = [0.5, -0.5, 0.0]
    frame = activation_regions(model, box(), 5000, patterns="all").set_index("pattern")
    assert frame["share"]["000|100"] == pytest.approx(0.5, abs=0.03)
    maps = frame.attrs["maps"]
    row = frame.index.get_loc("000|100")
    assert (maps.coefficients[row] == 0).all()
    off = np.array([[2.6, 0.8, 1.2, 1.9]])
    np.testing.assert_allclose(maps.intercepts[row], model.predict(off)[0], rtol=1e-12)


def test_entries_that_do_not_vary():
    """Fixed entries keep the centre's value, and their coefficients make no gap."""
    model, _, frame = analysed("flat")
    maps = frame.attrs["maps"]
    assert (maps.maximizers[:, :, 1] == CENTER[0, 1]).all()
    D = maps.coefficients + np.kron(np.linalg.inv(CENTER), np.linalg.inv(CENTER).T)
    assert (np.abs(D[:, :, 1]).max(axis=1) > 0).all()
    np.testing.assert_allclose(
        frame["coefficient_gap"], np.abs(D[:, :, [0, 2, 3]]).max(axis=(1, 2)), rtol=1e-9
    )
    moved = activation_regions(model, box(FLAT, CENTER + [[0, 1e-3], [0, 0]]), 500)
    assert (moved.attrs["maps"].maximizers[:, :, 1] == CENTER[0, 1] + 1e-3).all()


def test_a_small_network_is_a_refined_linear_approximation():
    """A trained 4-8-4 network is nearer to A⁻¹ than L is, and near L in most of the box."""
    region = make_region("2x2-first", n_samples=20_000, random_state=0)
    model = NeuralInverseRegressor(8, "relu", baseline=None, solver="lm", random_state=0)
    model.fit(region.data, region.target)
    frame = activation_regions(model, region.sampler, 100_000, patterns="all")
    B = np.linalg.inv(region.center)
    # What L itself moves by between the centre and the edge of the box.
    swing = region.radius * np.abs(np.kron(B, B.T)).sum(axis=1)
    near = (lp_columns(frame) < swing / 2).all(axis=1)
    assert frame["share"][near].sum() > 0.6
    assert frame["share"].iloc[:10].sum() > 0.7
    assert 9 < len(frame) < 163
    linear, predicted = first_order(region.data), model.predict(region.data)
    assert np.abs(predicted - linear).mean() < 0.4 * np.abs(linear - B.ravel()).mean()
    assert np.abs(predicted - region.target).mean() < 0.5 * np.abs(linear - region.target).mean()


# Scales.


@pytest.mark.parametrize("scale", [1e-60, 1e-9, 1e9, 1e60])
def test_units_of_measurement_do_not_matter(scale):
    """Matrices in other units have the same regions, and maxima in the inverse unit."""
    model, _, frame = analysed("deep perceptron")
    other = copy.deepcopy(model)
    other.coefs_[0] = other.coefs_[0] / scale
    other.coefs_[-1], other.intercepts_[-1] = (
        other.coefs_[-1] / scale,
        other.intercepts_[-1] / scale,
    )
    again = activation_regions(other, box(0.5 * scale, CENTER * scale), 5000, patterns="all")
    assert again["pattern"].tolist() == frame["pattern"].tolist()
    np.testing.assert_allclose(lp_columns(again) * scale, lp_columns(frame), rtol=1e-9)
    np.testing.assert_allclose(again["coefficient_gap"] * scale**2, frame["coefficient_gap"])


def hostile(seed):
    """A box and a network whose half-widths and weights go over many orders of magnitude."""
    rng = np.random.RandomState(seed)
    radius = 0.3 * 10.0 ** -rng.uniform(0, 9, (2, 2))
    radius[rng.random_sample((2, 2)) < 0.15] = 0.0
    radius[0, 0] = 0.3
    sampler = box(radius, rng.standard_normal((2, 2)) + 4 * np.eye(2))
    model = perceptron([(12,), (5, 4), (4, 3, 3)][seed % 3], sampler, seed)
    for W in model.coefs_:
        W *= 10.0 ** rng.uniform(-3, 3, W.shape)
    # All of the first units change at the centre: polytopes are degenerate there.
    model.intercepts_[0] = -sampler.center_.ravel() @ model.coefs_[0]
    return model, sampler


@pytest.mark.parametrize("seed", [0, 3, 6, *exhaustive(1, 2, 4, 5, 7, 8)])
def test_hostile_scales(seed):
    """Maxima are attained at points of the box, and not exceeded, whatever the scales."""
    model, sampler = hostile(seed)
    frame = activation_regions(model, sampler, 2000, patterns="all")
    maps = frame.attrs["maps"]
    points, pick = own_points(maps)
    # What the forward pass sums up in absolute values, whose rounding is the network's own.
    size = np.abs(points)
    for W, b in zip(model.coefs_, model.intercepts_, strict=True):
        size = size @ np.abs(W) + np.abs(b)
    rounding = 1e-12 * size.max()
    maxima = lp_columns(frame)
    attained = pick(np.abs(error(model, points, sampler.center_)))
    np.testing.assert_allclose(attained, maxima, rtol=1e-9, atol=rounding)
    seen = maps.count > 0
    assert (maxima[seen] >= maps.sampled_max[seen] - 1e-9 * maxima[seen] - rounding).all()
    assert (np.abs(points - sampler.center_.ravel()) <= sampler.radius_.ravel()).all()


@pytest.mark.parametrize("seed", [2, 3, 4, 5, 56])
def test_maxima_are_proven_by_weak_duality(seed, monkeypatch):
    """Any y >= 0 bounds min c·x from below; HiGHS's multipliers do so to 1e-9 at hostile scales.

    Over {A x <= b, |x| <= 1}: c·x >= −y·b + (c + Aᵀy)·x >= −y·b − Σ|c + Aᵀy|.
    """
    gaps = []

    def recording(cost, matrix, limit, **params):
        result = linprog(cost, matrix, limit, **params)
        if result.status == 0:
            y = np.maximum(-result.ineqlin.marginals, 0.0)
            assert params["bounds"] == (-1, 1)
            lower = -(y @ limit) - np.abs(cost + matrix.T @ y).sum()
            gaps.append((cost @ result.x - lower) / np.abs(cost).sum())
            assert (matrix @ result.x <= limit + 1e-9).all()
        return result

    monkeypatch.setattr(_polytopes, "linprog", recording)
    activation_regions(*hostile(seed), 100, patterns="all")
    assert len(gaps) > 20
    assert np.abs(gaps).max() < 1e-9


# Parallel, repeated and in other clothes.


def same(one, other):
    """Assert that two tables and their maps are equal to the last bit."""
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    mine, theirs = one.attrs["maps"], other.attrs["maps"]
    for name in ("coefficients", "intercepts", "maximizers", "sampled_max", "count"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


@pytest.mark.exhaustive
def test_workers_change_nothing():
    """Two workers give the same bits as one, and as joblib's default."""
    model, _, frame = analysed("deep perceptron")
    same(frame, activation_regions(model, box(), 5000, patterns="all", n_jobs=2))
    same(frame, activation_regions(model, box(), 5000, patterns="all", n_jobs=1))


def test_blocks_change_nothing(monkeypatch):
    """Counts and sampled maxima do not depend on how many matrices are drawn at once."""
    model, _, frame = analysed("affine", "sampled")
    monkeypatch.setattr("skinv.inspection._regions._BLOCK", 20 * 700)
    again = activation_regions(model, box(), 5000)
    pd.testing.assert_frame_equal(frame, again)
    np.testing.assert_allclose(again.attrs["maps"].sampled_max, frame.attrs["maps"].sampled_max)
    np.testing.assert_array_equal(again.attrs["maps"].count, frame.attrs["maps"].count)


def test_the_stream_of_samples_goes_on():
    """A second call sees other samples; the model and the sampler's region stay as they are."""
    sampler, model = box(), trained()
    before = [W.copy() for W in model.coefs_]
    first, second = (activation_regions(model, sampler, 1000) for _ in range(2))
    assert not first["share"].equals(second["share"])
    for W, old in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(W, old)


def test_wrapped_models():
    """Frozen estimators and searches stand for what is inside."""
    frame = activation_regions(trained(), box(), 500)
    same(frame, activation_regions(FrozenEstimator(trained()), box(), 500))
    X, Y = box().sample(200)
    search = GridSearchCV(trained(), {"max_iter": [1]}, cv=2).fit(X, Y)
    same(
        activation_regions(search.best_estimator_, box(), 500),
        activation_regions(search, box(), 500),
    )
    loaded = pickle.loads(pickle.dumps(trained()))
    same(frame, activation_regions(loaded, box(), 500))


def test_single_precision_perceptron():
    """Weights in float32 and Fortran order are taken as the float64 numbers that they are."""
    model = perceptron((5,), box())
    model.coefs_ = [np.asfortranarray(W, dtype=np.float32) for W in model.coefs_]
    model.intercepts_ = [b.astype(np.float32) for b in model.intercepts_]
    frame = activation_regions(model, box(), 1000)
    points, pick = own_points(frame.attrs["maps"])
    np.testing.assert_allclose(
        pick(np.abs(error(model, points))), lp_columns(frame), rtol=1e-9, atol=1e-9
    )


def test_uncertified_region():
    """In a box with singular matrices the programs go over all of it, samples where they may."""
    sampler = box(1.2, min_distance=0.05)
    assert not sampler.is_certified_
    model = perceptron((4,), sampler)
    frame = activation_regions(model, sampler, 600, patterns="all")
    assert frame["share"].sum() == pytest.approx(1)
    points, pick = own_points(frame.attrs["maps"])
    np.testing.assert_allclose(pick(np.abs(error(model, points))), lp_columns(frame), rtol=1e-9)


# The table.


def test_the_table_prints_and_travels(tmp_path):
    """pandas' usual operations work with the maps attached, and keep or drop them quietly."""
    frame = analysed("plain")[2]
    maps = frame.attrs["maps"]
    assert list(frame.columns) == ["pattern", "share", "coefficient_gap"] + [
        f"lp_max_{j}" for j in range(4)
    ]
    assert isinstance(frame.index, pd.RangeIndex)
    assert frame.head(3).attrs["maps"] is maps
    by_gap = frame.sort_values("coefficient_gap")
    i = by_gap.index[0]
    assert by_gap.attrs["maps"].coefficients[i].shape == (4, 4)
    assert len(pd.concat([frame, analysed("affine")[2]])) > len(frame)
    assert pd.concat([frame, frame]).attrs["maps"] is maps
    for text in (frame.to_string(), frame.to_markdown(), frame.to_html(), frame.to_latex()):
        assert frame["pattern"][0] in text
        assert "array" not in text
    lines = frame.to_string().splitlines()
    assert len(lines) == len(frame) + 1
    assert max(map(len, lines)) <= 80
    frame.to_csv(tmp_path / "regions.csv", index=False)
    again = pd.read_csv(tmp_path / "regions.csv", dtype={"pattern": str})
    pd.testing.assert_frame_equal(again, frame)
    loaded = pickle.loads(pickle.dumps(frame))
    same(frame, loaded)
    assert copy.deepcopy(frame).attrs["maps"] is maps
    assert repr(maps) == f"RegionMaps(n_regions={len(frame)}, n_outputs=4, n_features=4)"
    with pytest.raises(ValueError, match="read-only"):
        maps.coefficients[0] = 0.0
    assert frame.groupby("share")["lp_max_0"].max().max() == frame["lp_max_0"].max()
    assert frame.merge(frame, on="pattern").shape == (len(frame), 13)


def test_progress_is_shown_on_request(capsys):
    """verbose=1 shows bars, and nothing is printed without."""
    activation_regions(trained(), box(), 100)
    assert capsys.readouterr() == ("", "")
    activation_regions(trained(), box(), 100, patterns="all", verbose=1)
    assert "region" in capsys.readouterr().err


def test_without_pandas(monkeypatch):
    """Without pandas the error says what to install, before anything is computed."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        activation_regions(trained(), box(), 10)


# What is refused.


def silu():
    X = box().sample(100, return_inverse=False)
    return NeuralInverseRegressor(3, solver="adam", baseline=None, max_iter=1).fit(X)


def other_targets():
    X = box().sample(100, return_inverse=False)
    model = NeuralInverseRegressor(3, "relu", solver="adam", max_iter=1)
    return model.fit(X, np.linalg.det(X.reshape(-1, 2, 2)))


def second_order():
    X = box().sample(100, return_inverse=False)
    return NeuralInverseRegressor(3, "relu", baseline="taylor2", solver="adam", max_iter=1).fit(X)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (silu, "activation='silu', which has no affine pieces; fit it with activation='relu'"),
        (second_order, "order 2, which is not piecewise affine; fit it with baseline='affine'"),
        (lambda: LinearInverseApprox(CENTER, order=3).fit(), "order 3, .* fit it with order=1"),
        (other_targets, "something else than inverses"),
        (lambda: Ridge().fit(*box().sample(9)), "Got a Ridge, but"),
        (lambda: CertifiedInverse(trained()).fit(box().sample(9)[0]), "Got a CertifiedInverse"),
        (lambda: LinearInverseApprox(np.eye(3)).fit(), "from 9 to 9 numbers and a region of .* 4"),
        (lambda: None, "Got a NoneType"),
    ],
)
def test_models_that_are_refused(model, message):
    """Models without affine pieces, or not of inverses of that size, are named with what to do."""
    with pytest.raises(ValueError, match=message):
        activation_regions(model(), box(), 10)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_perceptrons_that_are_refused():
    """Of scikit-learn's perceptrons: other activations, pipelines, other targets."""
    X, Y = box().sample(100)
    smooth = MLPRegressor(hidden_layer_sizes=(3,), activation="tanh", max_iter=1).fit(X, Y)
    with pytest.raises(ValueError, match="MLPRegressor with activation='tanh'"):
        activation_regions(smooth, box(), 10)
    inner = MLPRegressor(hidden_layer_sizes=(3,), max_iter=1)
    with pytest.raises(ValueError, match=r"Got a Pipeline, .* of a pipeline"):
        activation_regions(make_pipeline(StandardScaler(), inner).fit(X, Y), box(), 10)
    with pytest.raises(ValueError, match="from 4 to 1 numbers"):
        activation_regions(clone(inner).fit(X, Y[:, 0]), box(), 10)
    with pytest.raises(NotFittedError):
        activation_regions(clone(inner), box(), 10)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (lambda: box(norm="l2"), "norm='l2', .* norm='linf'"),
        (lambda: box(norm="l1"), "norm='l1'"),
        (lambda: box(0.0), "radius 0, a single matrix"),
        (lambda: box(np.zeros((2, 2))), "radius 0, a single matrix"),
        (lambda: CENTER, "Got a ndarray as the region"),
        (lambda: box(0.1, np.eye(3)), "region of matrices of 9 entries"),
    ],
)
def test_regions_that_are_refused(sampler, message):
    """Only boxes of matrices of the right size are taken."""
    with pytest.raises(ValueError, match=message):
        activation_regions(trained(), sampler(), 10)


def test_nothing_fitted():
    """Models and samplers must be fitted."""
    with pytest.raises(NotFittedError):
        activation_regions(NeuralInverseRegressor(8, "relu"), box(), 10)
    with pytest.raises(NotFittedError):
        activation_regions(trained(), FeasibleRegionSampler(CENTER, 0.5), 10)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"n_samples": 0}, "n_samples"),
        ({"n_samples": 10.5}, "n_samples"),
        ({"patterns": "every"}, "patterns"),
        ({"max_regions": 0}, "max_regions"),
        ({"n_jobs": "two"}, "n_jobs"),
        ({"verbose": -1}, "verbose"),
    ],
)
def test_parameters_are_validated(params, name):
    """Bad values are named."""
    with pytest.raises(ValueError, match=f"'{name}' parameter of activation_regions"):
        activation_regions(trained(), box(), **{"n_samples": 10, **params})


def test_too_many_regions():
    """Sampling and splitting both stop at max_regions, and say what to do."""
    n_regions = len(analysed("plain")[2])
    assert len(activation_regions(trained(), box(), 9, patterns="all", max_regions=n_regions)) > 9
    with pytest.raises(ValueError, match=r"max_regions=9 regions by hidden unit \d of 8; raise"):
        activation_regions(trained(), box(), 1, patterns="all", max_regions=9)
    with pytest.raises(ValueError, match="max_regions=2 regions in the first 5000 samples"):
        activation_regions(trained(), box(), 5000, max_regions=2)


def test_programs_that_fail(monkeypatch):
    """What HiGHS fails at is solved one by one, at other scales; if that fails it is an error."""
    frame = activation_regions(trained(), box(), 300)
    failed = OptimizeResult(status=4, x=None, message="Numerical difficulties.")
    calls = []

    def failing(cost, *args, **params):
        calls.append(cost)
        if len(cost) > 4 or np.abs(cost).sum() > 1000:
            return failed
        return linprog(cost, *args, **params)

    monkeypatch.setattr(_polytopes, "linprog", failing)
    again = activation_regions(trained(), box(), 300)
    np.testing.assert_allclose(lp_columns(again), lp_columns(frame), rtol=1e-9)
    assert {len(cost) for cost in calls} == {4, 32}
    monkeypatch.setattr(_polytopes, "linprog", lambda *args, **params: failed)
    with pytest.raises(RuntimeError, match=r"HiGHS could not solve .* Numerical difficulties"):
        activation_regions(trained(), box(), 300)


def test_cubes_without_room():
    """The cube of an empty polytope has negative half-width, of a flat one 0, of the box 1."""
    G = np.array([[0.5, 0.5], [-0.5, -0.5]])
    cubes = _polytopes.largest_cubes(
        [(G, np.array([-0.4, 0.2])), (G, np.array([-0.3, 0.3])), (G[:0], np.zeros(0))]
    )
    np.testing.assert_allclose(cubes[:, 2], [-0.1, 0.0, 1.0], atol=1e-12)


@pytest.mark.parametrize("bits", [51, 48, 30])
@pytest.mark.parametrize("sizes", [[1.0, 1.0, 1.0], [2.0, 0.25, 1.0], [0.5, 8.0, 4.0]])
def test_rounding_is_no_hyperplane(sizes, bits):
    """A unit whose slope cancels but for rounding splits nothing, whatever its bias."""
    on = np.array([True] * 3 + [False])
    sizes = np.array(sizes)
    model = perceptron((3, 1), box())
    model.coefs_[0][:] = np.outer([1.0, 0, 0, 0], sizes)  # at the centre 1, 2.5 at most
    model.intercepts_[0][:] = -2.0 * sizes
    # Multiples of 2^-bits below 4: sums in any order, fused or not, are 2^-bits exactly.
    model.coefs_[1][:, 0] = np.array([1.0, 1.0, 2.0**-bits - 2.0]) / sizes
    # A bias that puts the boundary into the middle of the box.
    model.intercepts_[1][:] = -(2.0**-bits)
    network = PiecewiseAffine(relu_form(model), CENTER.ravel(), np.full(4, 0.5))
    _, (slopes, values, _), _ = network._walk(on)
    np.testing.assert_array_equal(slopes, [[2.0**-bits, 0, 0, 0]])
    np.testing.assert_array_equal(values, [0])
    splits = bits == 30  # far above the rounding of sums of size 4
    assert network.hyperplanes(on, 4)[2].any() == splits
    assert len(_polytopes.all_patterns(network, 10)) == 1 + splits


class Tenfold(MLPRegressor):
    """Predicts something else than its layers."""

    def predict(self, X):
        return 10 * super().predict(X)


def test_models_that_predict_otherwise_are_refused():
    """A link function, an overridden predict, weights that are not finite: no wrong table."""
    region = make_region("2x2-first", random_state=0)
    X, Y = region.data, np.abs(region.target)
    models = [Tenfold(hidden_layer_sizes=(4,), max_iter=300, random_state=0)]
    if "loss" in MLPRegressor().get_params():
        models.append(
            MLPRegressor(loss="poisson", hidden_layer_sizes=(4,), max_iter=300, random_state=0)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model in models:
            with pytest.raises(ValueError, match="predicts otherwise"):
                activation_regions(model.fit(X, Y), region.sampler, 100)
        network = MLPRegressor(hidden_layer_sizes=(4,), max_iter=10, random_state=0).fit(X, Y)
    for layer in (0, 1):
        spoilt = copy.deepcopy(network)
        spoilt.coefs_[layer][0, 0] = np.nan
        with pytest.raises(ValueError, match="not finite"):
            activation_regions(spoilt, region.sampler, 100)
