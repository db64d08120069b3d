"""The plots: what they hold against independent computation, and scikit-learn's conventions."""

import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.contour import QuadContourSet
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch
from skorch import NeuralNetRegressor

from skinv import FeasibleRegionSampler, LinearInverseApprox, NeuralInverseRegressor
from skinv.datasets import make_region
from skinv.inspection import (
    CoefficientDisplay,
    ErrorByDistanceDisplay,
    ParetoDisplay,
    SingularSetDisplay,
    TrainingDisplay,
    TruncatedMomentsDisplay,
)

pytestmark = pytest.mark.usefixtures("closed_figures")
CENTERS = {
    "first": [[3.0, 1.0], [1.0, 2.0]],
    "second": [[1.0, 2.0], [3.0, -1.0]],
    "rotation": [[0.6, -0.8], [0.8, 0.6]],
    "diagonal": [[1.0, 0.0], [0.0, -0.5]],
    "exchange": [[0.0, 1.0], [2.0, 0.0]],
    "triangular": [[1.0, 2.0], [0.0, 1.0]],
    "tiny": [[3e-9, 1e-9], [1e-9, 2e-9]],
    "huge": [[3e60, 1e60], [1e60, 2e60]],
}


class Inverse:
    """Predicts exact inverses times a factor."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def predict(self, X):
        A = np.asarray(X, dtype=float)
        n = int(A.shape[1] ** 0.5)
        return self.factor * np.linalg.inv(A.reshape(-1, n, n)).reshape(A.shape)


@pytest.fixture(scope="module")
def sampler():
    """The box around the first 2×2 centre."""
    return FeasibleRegionSampler(CENTERS["first"], 0.5, random_state=0).fit()


@pytest.fixture(scope="module")
def linear():
    """The linear approximation there."""
    return LinearInverseApprox(CENTERS["first"]).fit()


@pytest.fixture(scope="module")
def network():
    """A small network trained with a validation set."""
    X = FeasibleRegionSampler(CENTERS["first"], 0.5, random_state=0).fit().sample(500)[0]
    model = NeuralInverseRegressor(
        8, "relu", baseline=None, solver="adam", max_iter=5, early_stopping=True, random_state=0
    )
    return model.fit(X)


@pytest.fixture
def scattered():
    """600 random 2×2 matrices, some near singular ones."""
    return np.random.RandomState(3).uniform(-2, 2, (600, 4))


@pytest.fixture
def moments():
    """Moments of a made-up model that grow exactly as the theory says."""
    cutoffs, p = np.geomspace(0.1, 1e-4, 7), np.array([1.0, 2.0, 3.0])
    values = np.array([2 + np.log(1 / cutoffs), 1 / cutoffs, cutoffs**-2.0])
    return Bunch(
        p=p,
        cutoffs=cutoffs,
        moments=values,
        standard_errors=0.1 * values,
        fitted=1.01 * values,
        growth=np.array([-0.001, 0.98, 2.03]),
        growth_error=np.array([0.01, 0.02, 0.15]),
        expected_growth=p - 1,
        relative_moments=np.outer([0.5, 0.4, 0.3], 1 - cutoffs),
        relative_standard_errors=np.full((3, 7), 0.01),
        relative_fitted=np.outer([0.5, 0.4, 0.3], 1 - cutoffs),
        relative_growth=np.array([-1.0, -1.02, -0.97]),
        relative_growth_error=np.full(3, 0.05),
        relative_expected_growth=-np.ones(3),
    )


def drawn(display):
    """Render a display, so that whatever it would warn of is heard, and return its legend."""
    display.figure_.canvas.draw()
    axes = display.figure_.axes
    legends = [ax.get_legend() for ax in axes if ax.get_legend()] + display.figure_.legends
    texts = [text.get_text() for legend in legends for text in legend.get_texts()]
    assert texts
    assert not any(text.startswith("_") for text in texts)
    return texts


def embedded(center, free, values):
    """Put values of some entries into copies of the centre."""
    A = np.repeat(np.asarray(center, dtype=float)[None], len(values), axis=0)
    for column, (i, j) in enumerate(free):
        A[:, i, j] = values[:, column]
    return A


def smallest(A):
    """Smallest singular values, from LAPACK."""
    return np.linalg.svd(A, compute_uv=False)[:, -1]


# -- the singular set ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CENTERS)
def test_singular_curves_are_singular(name):
    """Every drawn point of the singular set has determinant 0, and the curves span the picture."""
    center = np.array(CENTERS[name])
    region = FeasibleRegionSampler(center, 0.2 * np.abs(center).max()).fit()
    display = SingularSetDisplay.from_sampler(region)
    for plane in display.slices:
        for curve in plane.singular:
            A = embedded(center, plane.free, curve)
            scale = np.linalg.norm(A, axis=(1, 2))
            assert (smallest(A) <= 1e-14 * scale).all()
            assert np.isfinite(curve).all()
            # From outside of the picture, through it, to its outside again.
            inside = (np.abs(curve - [plane.x.mean(), plane.y.mean()]) < np.ptp(plane.x) / 2).all(1)
            assert inside.any()
            assert not inside[[0, -1]].any()
    drawn(display)
    assert len(display.singular_) == len(display.neighborhood_) == len(display.region_) == 2
    for artists in (display.singular_, display.neighborhood_, display.region_, display.center_):
        assert [artist.axes for artist in artists] == list(display.axes_)
    for line, plane in zip(display.singular_, display.slices, strict=True):
        np.testing.assert_array_equal(np.column_stack(line.get_data()), plane.singular[0])


@pytest.mark.parametrize("name", CENTERS)
def test_distances_in_slices_are_those_of_all_four_entries(name):
    """The field behind the neighbourhood is LAPACK's smallest singular value, with det's sign."""
    center = np.array(CENTERS[name])
    region = FeasibleRegionSampler(center, 0.2 * np.abs(center).max()).fit()
    for plane in SingularSetDisplay.from_sampler(region).slices:
        grid = np.stack(np.meshgrid(plane.x, plane.y), axis=-1).reshape(-1, 2)
        A = embedded(center, plane.free, grid) / np.abs(center).max()
        expected = smallest(A) * np.sign(np.linalg.det(A))
        found = plane.distance.ravel() / np.abs(center).max()
        np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("name", ["first", "second", "rotation", "tiny"])
def test_edge_of_the_neighborhood(name):
    """The dashed line runs where the smallest singular value is epsilon."""
    center = np.array(CENTERS[name])
    scale = np.abs(center).max()
    region = FeasibleRegionSampler(center, 0.1 * scale).fit()
    display = SingularSetDisplay.from_sampler(region, epsilon=0.2 * scale)
    for ax, plane in zip(display.axes_, display.slices, strict=True):
        sets = [c for c in ax.collections if isinstance(c, QuadContourSet) and not c.filled]
        (edge,) = sets
        points = np.vstack([path.vertices for path in edge.get_paths()])
        assert len(points) > 50
        distance = smallest(embedded(center, plane.free, points))
        np.testing.assert_allclose(distance, 0.2 * scale, rtol=1e-3)


@pytest.mark.parametrize(
    ("norm", "radius", "length"),
    [
        ("linf", 0.3, lambda E: np.abs(E).max(axis=1) / 0.3),
        ("l2", 0.3, lambda E: np.sqrt((E**2).sum(axis=1)) / 0.3),
        ("l1", 0.3, lambda E: np.abs(E).sum(axis=1) / 0.3),
        (
            "linf",
            [[0.1, 0.2], [0.3, 0.4]],
            lambda E: (np.abs(E) / [0.1, 0.2, 0.3, 0.4]).max(axis=1),
        ),
    ],
)
@pytest.mark.parametrize("name", ["first", "second"])
def test_outlines_are_the_boundary_of_the_region(norm, radius, length, name):
    """Outlines and faces lie on the boundary, and the sampler agrees on both of its sides."""
    center = np.array(CENTERS[name])
    region = FeasibleRegionSampler(center, radius, norm=norm).fit()
    display = SingularSetDisplay.from_sampler(region)
    parts = [(plane.free, plane.region) for plane in display.slices]
    parts.append((display.space.free, np.vstack(display.space.region)))
    for free, points in parts:
        E = (embedded(center, free, points) - center).reshape(-1, 4)
        np.testing.assert_allclose(length(E), 1.0)
        assert (region.decision_function(center.ravel() + 0.999 * E) > 0).all()
        assert (region.decision_function(center.ravel() + 1.001 * E) < 0).all()
        assert (np.ptp(points, axis=0) > 0).all()


def test_ellipsoids_are_drawn():
    """The section of the data's ellipsoid ends at the Mahalanobis distance of the radius."""
    X = np.ravel(CENTERS["first"]) + 0.1 * np.random.RandomState(0).standard_normal((50, 4))
    region = FeasibleRegionSampler(radius=2.0, norm="mahalanobis").fit(X)
    precision = np.linalg.inv(np.cov(X.T, bias=True))
    display = SingularSetDisplay.from_sampler(region)
    for plane in display.slices:
        E = (embedded(region.center_, plane.free, plane.region) - region.center_).reshape(-1, 4)
        np.testing.assert_allclose(np.einsum("ij,jk,ik->i", E, precision, E), 4.0, rtol=1e-6)
    drawn(display)


@pytest.mark.parametrize("name", CENTERS)
def test_saddle_and_its_sheets(name):
    """The surface is singular, and both sheets have smallest singular value epsilon."""
    center = np.array(CENTERS[name])
    region = FeasibleRegionSampler(center, 0.1 * np.abs(center).max()).fit()
    display = SingularSetDisplay.from_sampler(region, kind="3d")
    space = display.space
    assert {space.fixed, *space.free} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    for z, expected in ((space.singular, 0.0), *((s, display.epsilon) for s in space.neighborhood)):
        points = np.column_stack([space.x.ravel(), space.y.ravel(), z.ravel()])
        A = embedded(center, space.free, points)
        scale = np.linalg.norm(A, axis=(1, 2)).max()
        np.testing.assert_allclose(smallest(A), expected, atol=1e-13 * scale)
    low, high = space.neighborhood
    assert (low < space.singular).all()
    assert (space.singular < high).all()
    drawn(display)
    (ax,) = display.axes_
    middle = [center[entry] for entry in space.free]
    for value, limits in zip(middle, (ax.get_xlim(), ax.get_ylim(), ax.get_zlim()), strict=True):
        assert min(limits) <= value <= max(limits)


def test_default_epsilon_is_what_the_sampler_guarantees():
    """min_distance in any norm implies a distance in l2 that is not smaller than epsilon."""
    center = np.array(CENTERS["first"])
    for norm, expected in (("linf", 0.2), ("l2", 0.2), ("l1", 0.1)):
        region = FeasibleRegionSampler(center, 0.3, norm=norm, min_distance=0.2).fit()
        assert SingularSetDisplay.from_sampler(region).epsilon == pytest.approx(expected)
        # In an uncertified region min_distance decides about each sample.
        wild = FeasibleRegionSampler(center, 8.0, norm=norm, min_distance=0.2, random_state=0)
        A = wild.fit().sample(2000, return_inverse=False).reshape(-1, 2, 2)
        assert smallest(A).min() >= expected
    region = FeasibleRegionSampler(center, 0.3).fit()
    quarter = smallest(center[None])[0] / 4
    assert SingularSetDisplay.from_sampler(region).epsilon == pytest.approx(quarter)


def test_slices_say_what_they_hold():
    """Titles name the curve; off the diagonal zeros give two lines, which are both drawn."""
    region = FeasibleRegionSampler(CENTERS["diagonal"], 0.1).fit()
    display = SingularSetDisplay.from_sampler(region)
    assert "two lines that cross" in display.axes_[1].get_title()
    assert len(display.slices[1].singular) == 2
    region = FeasibleRegionSampler(CENTERS["first"], 3.0).fit()
    display = SingularSetDisplay.from_sampler(region)
    assert "hyperbola" in display.axes_[1].get_title()
    assert any("not certified" in text for text in drawn(display))
    assert not any("nearly" in text for text in drawn(display.plot(neighborhood=False)))
    assert display.neighborhood_ == []


def test_widths_are_written_to_two_digits(sampler):
    """The legend has powers of ten where they are needed."""
    for epsilon, text in ((0.25, "0.25"), (120.0, "120"), (1e-7, "$10^{-7}$")):
        display = SingularSetDisplay.from_sampler(sampler, epsilon=epsilon)
        assert any(line.endswith(f"ε = {text}") for line in drawn(display))
    display = SingularSetDisplay.from_sampler(sampler, epsilon=2.5e6)
    assert any(line.endswith(r"ε = $2.5 \times 10^{6}$") for line in drawn(display))


def test_wide_neighborhoods():
    """An epsilon past the entry that is held fills slices, and has no sheets in space."""
    region = FeasibleRegionSampler(CENTERS["first"], 0.5).fit()
    display = SingularSetDisplay.from_sampler(region, epsilon=50.0)
    drawn(display)
    assert display.space.neighborhood is None
    with pytest.raises(ValueError, match=r"epsilon=50.*a11 = 3 held.*neighborhood=False"):
        display.plot(kind="3d")
    drawn(display.plot(kind="3d", neighborhood=False))


def test_singular_set_refuses_what_it_cannot_draw(sampler):
    """Other orders, epsilons that are not positive and axes that do not fit are named."""
    of_3 = make_region("3x3", n_samples=1).sampler
    with pytest.raises(ValueError, match=r"3×3 matrices.*ErrorByDistanceDisplay"):
        SingularSetDisplay.from_sampler(of_3)
    with pytest.raises(NotFittedError):
        SingularSetDisplay.from_sampler(FeasibleRegionSampler(CENTERS["first"], 0.5))
    for epsilon in (0.0, -1.0, np.nan, np.inf, "wide"):
        with pytest.raises(ValueError, match="epsilon"):
            SingularSetDisplay.from_sampler(sampler, epsilon=epsilon)
    with pytest.raises(ValueError, match="kind"):
        SingularSetDisplay.from_sampler(sampler, kind="4d")
    figure, ax = plt.subplots()
    with pytest.raises(ValueError, match="two plain axes"):
        SingularSetDisplay.from_sampler(sampler, ax=ax)
    with pytest.raises(ValueError, match="projection='3d'"):
        SingularSetDisplay.from_sampler(sampler, kind="3d", ax=ax)
    spatial = figure.add_subplot(projection="3d")
    with pytest.raises(ValueError, match="two plain axes"):
        SingularSetDisplay.from_sampler(sampler, ax=[ax, spatial])
    display = SingularSetDisplay.from_sampler(sampler, kind="3d", ax=spatial)
    assert display.axes_[0] is spatial


def test_degenerate_regions_are_drawn():
    """A region of radius 0, or flat, is a point or a segment."""
    for radius in (0.0, [[0.5, 0.0], [0.0, 0.0]]):
        region = FeasibleRegionSampler(CENTERS["first"], radius).fit()
        for kind in ("slices", "3d"):
            drawn(SingularSetDisplay.from_sampler(region, kind=kind))


# -- errors by distance ----------------------------------------------------------------------------


def test_errors_and_distances_against_loops(scattered, linear):
    """Errors are spectral norms, distances those of their norm, in a naive loop."""
    kinds = {
        (norm, error): ErrorByDistanceDisplay.from_estimator(
            linear, scattered, norm=norm, error=error
        )
        for norm in ("l2", "l1", "linf")
        for error in ("absolute", "relative")
    }
    signs = np.array([[1, 1], [1, -1]])
    for k in range(0, 600, 40):
        A = scattered[k].reshape(2, 2)
        B = np.linalg.inv(A)
        absolute = np.linalg.svd(linear.predict(scattered)[k].reshape(2, 2) - B)[1][0]
        distances = {
            "l2": np.linalg.svd(A)[1][-1],
            "l1": 1 / np.abs(B).max(),
            "linf": 1 / max(np.abs(B @ s).sum() for s in signs),
        }
        for (norm, error), display in kinds.items():
            expected = absolute / (np.linalg.svd(B)[1][0] if error == "relative" else 1)
            assert display.errors[k] == pytest.approx(expected)
            assert display.distance[k] == pytest.approx(distances[norm])
            x, y = display.points_.get_data()
            assert (x[k], y[k]) == (display.distance[k], display.errors[k])


def test_layouts_give_the_same_picture(scattered, linear):
    """Rows, stacks, Fortran order, tensors, lists and frames are one thing, with targets or not."""
    expected = ErrorByDistanceDisplay.from_estimator(linear, scattered).errors
    inverses = np.linalg.inv(scattered.reshape(-1, 2, 2))
    for X in (
        scattered.reshape(-1, 2, 2),
        np.asfortranarray(scattered),
        torch.tensor(scattered),
        scattered.tolist(),
        pd.DataFrame(scattered),
    ):
        for y in (None, inverses, inverses.reshape(-1, 4)):
            display = ErrorByDistanceDisplay.from_estimator(linear, X, y)
            np.testing.assert_allclose(display.errors, expected, rtol=1e-9)
    whole = np.array([[3, 1, 1, 2], [4, 1, 1, 2]])
    assert ErrorByDistanceDisplay.from_estimator(linear, whole).distance.shape == (2,)


def test_no_error_lies_in_the_hatched_area(scattered, linear):
    """Steps from the theorem keep clear of a bounded model, and catch one that is too good."""
    bound = np.linalg.svd(linear.predict(scattered).reshape(-1, 2, 2))[1].max()
    failure = {level: 1 / (level + bound) for level in (20.0, 1.0, 5.0)}
    inside = {}
    for model in (linear, Inverse(1.0 + 1e-3)):
        display = ErrorByDistanceDisplay.from_estimator(model, scattered, failure=failure)
        (steps,) = [c for c in display.ax_.collections if type(c) is PolyCollection]
        path = steps.get_paths()[0]
        # Rays from a point are counted in logarithms, as the picture shows them.
        corners = type(path)(np.log(path.vertices[:-1]))
        points = np.log(np.column_stack([display.distance, display.errors]))
        inside[model] = corners.contains_points(points).sum()
        naive = np.zeros(len(points), dtype=bool)
        for level, distance in failure.items():
            naive |= (display.distance < distance) & (display.errors < level)
        assert inside[model] == naive.sum()
        np.testing.assert_allclose(
            np.sort(np.column_stack(display.failure_.get_data()), axis=0),
            np.sort([[d, e] for e, d in failure.items()], axis=0),
        )
        drawn(display)
    bounded, exact = inside.values()
    assert bounded == 0
    assert exact > 10


def test_failure_from_the_package(scattered, linear):
    """Distances of failure_distance are proven for the ball that holds the matrices."""
    from skinv.impossibility import failure_distance

    radius = np.linalg.norm(scattered, axis=1).max()
    pairs = [(level, failure_distance(linear, radius, level)) for level in (1.0, 10.0, 100.0)]
    display = ErrorByDistanceDisplay.from_estimator(linear, scattered, failure=pairs)
    for level, distance in pairs:
        assert (display.errors[display.distance < distance] > level).all()
    assert display.failure.shape == (3, 2)
    # 0 is what failure_distance returns where it knows nothing.
    nothing = ErrorByDistanceDisplay.from_estimator(linear, scattered, failure={1.0: 0.0})
    assert nothing.failure is None
    assert nothing.failure_ is None


def test_what_cannot_be_drawn_is_counted(scattered):
    """Predictions that are not finite, exact ones and singular matrices are named with a count."""

    class Erratic:
        def predict(self, X):
            Y = Inverse(1.1).predict(X)
            Y[:5] = np.nan
            Y[5, 0] = np.inf
            Y[6:9] = np.linalg.inv(X[6:9].reshape(-1, 2, 2)).reshape(-1, 4)
            Y[9] = 1e308
            return Y

    X = np.vstack([scattered[:100], np.ones((2, 4)), np.zeros((1, 4)), np.full((1, 4), np.nan)])
    inverses = np.full_like(X, np.nan)
    inverses[:100] = np.linalg.inv(scattered[:100].reshape(-1, 2, 2)).reshape(-1, 4)
    for y in (None, inverses):
        display = ErrorByDistanceDisplay.from_estimator(Erratic(), X, y)
        assert display.n_left_out == 4
        assert len(display.errors) == 100
        texts = drawn(display)
        assert "7 predictions not finite (upper edge)" in texts
        assert "3 predictions exact (lower edge)" in texts
        assert "4 singular or not finite, left out" in texts
        assert len(display.points_.get_xdata()) == 90
    with pytest.raises(ValueError, match="y contains NaN"):
        ErrorByDistanceDisplay.from_estimator(Erratic(), scattered, np.full((600, 4), np.nan))


def test_nothing_but_nan():
    """A model without any finite prediction still gives a picture that says so."""

    class Lost:
        def predict(self, X):
            return np.full((len(X), 4), np.nan)

    for kind in ("points", "bands"):
        display = ErrorByDistanceDisplay.from_estimator(Lost(), np.eye(2)[None], kind=kind)
        assert "1 predictions not finite (upper edge)" in drawn(display)


def test_bands_hold_everything_once(linear):
    """Medians and quantiles are NumPy's in each full bin; what is in no full bin is a point."""
    X = np.random.RandomState(0).uniform(-2, 2, (3000, 4))
    display = ErrorByDistanceDisplay.from_estimator(linear, X)
    assert display.line_ is not None
    x, median = display.line_.get_data()
    largest = display.max_line_.get_ydata()
    logs = np.log(display.distance)
    width = np.ptp(logs) / 30
    n_inside = 0
    for k, position in enumerate(np.log(x)):
        inside = np.abs(logs - position) <= width / 2 * (1 + 1e-9)
        n_inside += inside.sum()
        assert median[k] == pytest.approx(np.median(display.errors[inside]))
        assert largest[k] == display.errors[inside].max()
        corners = display.band_.get_paths()[0].vertices
        band = corners[np.isclose(corners[:, 0], x[k])][:, 1]
        assert band.min() == pytest.approx(np.quantile(display.errors[inside], 0.05))
        assert band.max() == pytest.approx(np.quantile(display.errors[inside], 0.95))
    assert n_inside + len(display.points_.get_xdata()) == 3000
    assert 0 < len(display.points_.get_xdata()) < 600
    assert len(display.plot(kind="points").points_.get_xdata()) == 3000
    drawn(display.plot(kind="bands", n_bins=1))
    for wrong in ({"kind": "cloud"}, {"n_bins": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            display.plot(**wrong)


def test_guides(scattered, linear):
    """Predicting 0 errs by 1/d in l2, by 1 relatively; in other norms there is no such line."""
    zero = Inverse(0.0)
    absolute = ErrorByDistanceDisplay.from_estimator(zero, scattered)
    np.testing.assert_allclose(absolute.errors * absolute.distance, 1.0, rtol=1e-9)
    x, y = absolute.guide_.get_data()
    np.testing.assert_allclose(x * y, 1.0)
    relative = ErrorByDistanceDisplay.from_estimator(zero, scattered, error="relative", norm="l1")
    np.testing.assert_allclose(relative.errors, 1.0)
    assert set(relative.guide_.get_ydata()) == {1.0}
    assert ErrorByDistanceDisplay.from_estimator(linear, scattered, norm="linf").guide_ is None
    assert absolute.plot(guide=False).guide_ is None


def test_several_models_share_axes(sampler, linear, network):
    """On the same axes each model has a colour and a marker of its own, and the guide is one."""
    X = sampler.sample(50, return_inverse=False)
    first = ErrorByDistanceDisplay.from_estimator(linear, X)
    second = ErrorByDistanceDisplay.from_estimator(network, X, ax=first.ax_, name="network")
    assert second.ax_ is first.ax_
    assert first.points_.get_color() != second.points_.get_color()
    assert first.points_.get_marker() != second.points_.get_marker()
    texts = drawn(second)
    assert {"LinearInverseApprox", "network"} <= set(texts)
    assert sum("predicting 0" in text for text in texts) == 1


def test_errors_of_one_matrix_and_of_foreign_models(sampler):
    """One sample is enough, and any regressor will do."""
    X, Y = sampler.sample(60)
    forest = RandomForestRegressor(5, random_state=0).fit(X, Y)
    assert "RandomForestRegressor" in drawn(ErrorByDistanceDisplay.from_estimator(forest, X[:1]))
    display = ErrorByDistanceDisplay.from_sampler(forest, sampler, n_samples=70)
    assert display.errors.shape == (70,)
    assert drawn(ErrorByDistanceDisplay.from_estimator(Inverse(1.1), np.eye(1)[None]))


def test_error_display_refuses(scattered, linear):
    """Wrong shapes, singular data only, and failures that prove nothing of the picture."""
    draw = ErrorByDistanceDisplay.from_estimator
    with pytest.raises(ValueError, match="All 2 matrices are singular"):
        draw(linear, np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"A\[None\]"):
        draw(linear, np.ones(4))
    with pytest.raises(ValueError, match="rows of 5 entries"):
        draw(linear, np.ones((2, 5)))
    diagonals = LinearInverseApprox(method="lstsq").fit(scattered, scattered[:, [0, 3]])
    with pytest.raises(ValueError, match="inverses are expected"):
        draw(diagonals, scattered)
    with pytest.raises(ValueError, match="or y=None"):
        draw(linear, scattered, scattered[:5])
    for failure in ({1.0: -1.0}, {-1.0: 0.1}, {0.0: 0.1}, {1.0: np.nan}):
        with pytest.raises(ValueError, match="finite and positive"):
            draw(linear, scattered, failure=failure)
    with pytest.raises(ValueError, match="pairs"):
        draw(linear, scattered, failure=[0.1, 0.2, 0.3])
    for other in ({"norm": "linf"}, {"error": "relative"}):
        with pytest.raises(ValueError, match="l2 distance"):
            draw(linear, scattered, failure={1.0: 0.1}, **other)
    for wrong in ({"norm": "nuclear"}, {"error": "squared"}, {"kind": "cloud"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            draw(linear, scattered, **wrong)


# -- coefficients ----------------------------------------------------------------------------------


def theory(A):
    """∂(A⁻¹)_ij/∂A_kl = −(A⁻¹)_ik (A⁻¹)_lj, entry by entry."""
    B, n = np.linalg.inv(A), len(A)
    K = np.empty((n, n, n, n))
    for i, j, k, m in np.ndindex(n, n, n, n):
        K[i, j, k, m] = -B[i, k] * B[m, j]
    return K.reshape(n * n, n * n)


@pytest.mark.parametrize("name", ["2x2-first", "2x2-second", "3x3", "16x16"])
def test_linear_approximation_is_on_the_line(name):
    """The Taylor approximation's coefficients are the theory's, and its picture the diagonal."""
    region = make_region(name, n_samples=1)
    model = LinearInverseApprox(region.center).fit()
    display = CoefficientDisplay.from_estimator(model, region.sampler)
    if name != "16x16":
        np.testing.assert_allclose(display.linear, theory(region.center), atol=1e-14)
    np.testing.assert_allclose(display.linear, model.coef_, atol=1e-14)
    np.testing.assert_allclose(display.learned, display.linear, atol=1e-10)
    points = np.concatenate([np.column_stack(line.get_data()) for line in display.points_])
    assert len(points) == region.center.size**2
    np.testing.assert_allclose(points[:, 0], points[:, 1], atol=1e-10)
    x, y = display.line_.get_data()
    np.testing.assert_array_equal(x, y)
    drawn(display)


def test_average_and_spread_over_samples():
    """Mean and deviation are those of the exact Jacobians at the very samples drawn."""
    region = FeasibleRegionSampler(CENTERS["second"], 0.3, random_state=4)
    samples = region.fit().sample(30, return_inverse=False).reshape(-1, 2, 2)
    K = np.array([theory(A) for A in samples])
    display = CoefficientDisplay.from_estimator(Inverse(), region.fit(), n_samples=30)
    np.testing.assert_allclose(display.learned, K.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(display.spread, K.std(axis=0), rtol=1e-5)
    assert len(display.bars_) == len(display.points_) == 4
    drawn(display)
    one = CoefficientDisplay.from_estimator(Inverse(), region, n_samples=1)
    assert (one.spread == 0).all()
    centre = CoefficientDisplay.from_estimator(Inverse(), region)
    np.testing.assert_allclose(centre.learned, theory(np.array(CENTERS["second"])), rtol=1e-5)
    assert centre.spread is None
    assert centre.bars_ == []


def test_only_directions_of_the_region_count():
    """Entries that do not vary are left out; an ellipsoid is measured along its axes."""
    widths = np.array([[0.5, 0.0], [0.2, 0.0]])
    region = FeasibleRegionSampler(CENTERS["first"], widths).fit()
    display = CoefficientDisplay.from_estimator(Inverse(), region)
    full = theory(np.array(CENTERS["first"]))
    np.testing.assert_allclose(display.linear, full[:, [0, 2]])
    np.testing.assert_allclose(display.learned, full[:, [0, 2]], rtol=1e-5)

    rng = np.random.RandomState(0)
    X = np.ravel(CENTERS["first"]) + rng.standard_normal((40, 2)) @ rng.uniform(-0.1, 0.1, (2, 4))
    region = FeasibleRegionSampler(norm="mahalanobis").fit(X)
    display = CoefficientDisplay.from_estimator(Inverse(), region)
    assert display.learned.shape == (4, 2)
    expected = theory(region.center_) @ region.axes_.T
    np.testing.assert_allclose(display.linear, expected, atol=1e-13)
    np.testing.assert_allclose(display.learned, expected, rtol=1e-4, atol=1e-8)


def test_coefficients_of_networks_and_forests(network, sampler):
    """A ReLU network's derivatives at the centre are those of its linear piece there."""
    W1, W2 = network.coefs_
    active = sampler.center_.ravel() @ W1 + network.intercepts_[0] > 0
    jacobian = (W1 * active) @ W2
    display = CoefficientDisplay.from_estimator(network, sampler, step=1e-6)
    np.testing.assert_allclose(display.learned, jacobian.T, atol=1e-7)
    X, Y = sampler.sample(100)
    forest = RandomForestRegressor(5, random_state=0).fit(X, Y)
    display = CoefficientDisplay.from_estimator(forest, sampler, n_samples=20, step=0.5)
    assert np.corrcoef(display.learned.ravel(), display.linear.ravel())[0, 1] > 0.8


def test_coefficient_groups(sampler):
    """Few outputs have markers of their own, more share those of a row, many are one group."""
    labels = {}
    for n in (1, 2, 3, 8):
        center = np.eye(n) + 0.1
        region = FeasibleRegionSampler(center, 0.01).fit()
        display = CoefficientDisplay.from_estimator(LinearInverseApprox(center).fit(), region)
        labels[n] = [line.get_label() for line in display.points_]
        drawn(display)
    assert len(labels[1]) == 1
    assert len(labels[2]) == 4
    assert [label[:5] for label in labels[3]] == ["row 1", "row 2", "row 3"]
    assert len(labels[8]) == 1


def test_coefficient_display_refuses(sampler, linear):
    """Regions without extent, other targets, and models without finite values."""
    point = FeasibleRegionSampler(CENTERS["first"], 0.0).fit()
    with pytest.raises(ValueError, match="positive radius"):
        CoefficientDisplay.from_estimator(linear, point)
    X = sampler.sample(50, return_inverse=False)
    traces = LinearInverseApprox(method="lstsq").fit(X, X[:, 0])
    with pytest.raises(ValueError, match="inverses are expected"):
        CoefficientDisplay.from_estimator(traces, sampler)
    with pytest.raises(ValueError, match="NaN or infinity"):
        CoefficientDisplay.from_estimator(Inverse(np.nan), sampler)
    with pytest.raises(NotFittedError):
        CoefficientDisplay.from_estimator(linear, FeasibleRegionSampler(CENTERS["first"], 0.5))
    for wrong in ({"n_samples": 0}, {"n_samples": 1.5}, {"step": 0.0}, {"step": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CoefficientDisplay.from_estimator(linear, sampler, **wrong)


# -- training --------------------------------------------------------------------------------------


def test_training_curves(network):
    """The lines are loss_curve_ and 1 − validation_scores_, the star their best epoch."""
    display = TrainingDisplay.from_estimator(network)
    x, y = display.line_.get_data()
    np.testing.assert_array_equal(x, np.arange(1, network.n_iter_ + 1))
    np.testing.assert_array_equal(y, network.loss_curve_)
    np.testing.assert_allclose(
        display.score_line_.get_ydata(), 1 - np.array(network.validation_scores_)
    )
    best = int(np.argmax(network.validation_scores_))
    assert display.best_.get_xdata()[0] == best + 1
    assert display.ax_.get_yscale() == display.score_ax_.get_yscale() == "log"
    assert "baseline" in display.ax_.get_ylabel()
    assert len(drawn(display)) == 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_training_of_scikit_learn(sampler):
    """MLPRegressor is drawn too, alone, in a pipeline and in a search; lbfgs keeps no curve."""
    X, Y = sampler.sample(200)
    mlp = MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), mlp).fit(X, Y)
    display = TrainingDisplay.from_estimator(pipeline)
    np.testing.assert_array_equal(display.line_.get_ydata(), pipeline[-1].loss_curve_)
    assert display.score_ax_ is display.score_line_ is display.best_ is None
    assert len(drawn(display)) == 1
    mlp.set_params(early_stopping=True)
    search = GridSearchCV(mlp, {"alpha": [0.0]}, cv=2).fit(X, Y)
    display = TrainingDisplay.from_estimator(search)
    assert len(display.score_line_.get_ydata()) == 5
    mlp = clone(mlp).set_params(early_stopping=False, solver="lbfgs").fit(X, Y)
    with pytest.raises(ValueError, match="'lbfgs' keeps no curve"):
        TrainingDisplay.from_estimator(mlp)


def test_training_display_refuses(linear):
    """Models without a curve and unfitted ones are told apart."""
    with pytest.raises(ValueError, match="LinearInverseApprox without loss_curve_"):
        TrainingDisplay.from_estimator(linear)
    with pytest.raises(NotFittedError):
        TrainingDisplay.from_estimator(NeuralInverseRegressor())


def test_training_curves_of_all_shapes():
    """Zeros and NaN are gaps, one epoch is a dot, and scores may come late (after a warm start)."""
    display = TrainingDisplay(loss_curve=[1.0, 0.0, np.nan, 0.5], validation_scores=[0.5, 1.0])
    drawn(display.plot())
    np.testing.assert_array_equal(np.isnan(display.line_.get_ydata()), [False, True, True, False])
    np.testing.assert_array_equal(display.score_line_.get_xdata(), [3, 4])
    assert display.best_.get_xdata()[0] == 3
    assert drawn(TrainingDisplay(loss_curve=[0.1], validation_scores=[0.75]).plot())
    perfect = TrainingDisplay(loss_curve=[0.1], validation_scores=[1.0]).plot()
    assert perfect.score_ax_ is perfect.best_ is None
    assert drawn(perfect)
    assert TrainingDisplay(loss_curve=[0.1, 0.2], validation_scores=[]).plot().score_ax_ is None


# -- moments ---------------------------------------------------------------------------------------


def test_moments_are_drawn_as_given(moments):
    """Points, bars of two standard errors and lines are the Bunch's; ε shrinks to the right."""
    display = TruncatedMomentsDisplay.from_moments(moments, name="model")
    assert display.ax_.xaxis_inverted()
    for k, (artist, line) in enumerate(zip(display.errorbars_, display.lines_, strict=True)):
        points, _, (bars,) = artist
        np.testing.assert_array_equal(points.get_ydata(), moments.moments[k])
        np.testing.assert_array_equal(points.get_xdata(), moments.cutoffs)
        np.testing.assert_array_equal(line.get_ydata(), moments.fitted[k])
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends[:, 1], moments.moments[k] + 2 * moments.standard_errors[k])
        np.testing.assert_allclose(ends[:, 0], moments.moments[k] - 2 * moments.standard_errors[k])
    assert drawn(display) == [
        "p = 1: grows like ε^(0.00 ± 0.01) (theory: 0, like log(1/ε))",
        "p = 2: grows like ε^(−0.98 ± 0.02) (theory: −1)",
        "p = 3: grows like ε^(−2.03 ± 0.15) (theory: −2)",
    ]
    again = display.plot(display.ax_)
    assert again.ax_.xaxis_inverted()


def test_relative_moments(moments):
    """Relative moments have their own numbers, and converge."""
    display = TruncatedMomentsDisplay.from_moments(moments, relative=True)
    np.testing.assert_array_equal(display.moments, moments.relative_moments)
    assert drawn(display)[1] == "p = 2: converges, by steps like ε^(1.02 ± 0.05) (theory: 1)"
    assert "relative error" in display.ax_.get_ylabel()


def test_moments_of_one_power_and_without_a_fit(moments):
    """A single p has one-dimensional results; without (or with no) growth there is none named."""
    single = Bunch(
        p=2.0,
        cutoffs=moments.cutoffs,
        moments=moments.moments[1],
        standard_errors=moments.standard_errors[1],
        fitted=moments.fitted[1],
        growth=1.0,
        growth_error=0.1,
        expected_growth=1.0,
    )
    display = TruncatedMomentsDisplay.from_moments(single)
    assert display.moments.shape == (1, 7)
    assert len(drawn(display)) == 1
    single.growth = single.growth_error = np.nan
    single.fitted = np.full(7, np.nan)
    assert drawn(TruncatedMomentsDisplay.from_moments(single)) == ["p = 2"]
    for key in ("fitted", "growth", "growth_error", "expected_growth"):
        del single[key]
    display = TruncatedMomentsDisplay.from_moments(single)
    assert drawn(display) == ["p = 2"]
    assert display.lines_ == []
    # Bars past 0 end in the picture.
    single.standard_errors = 10 * single.moments
    assert drawn(TruncatedMomentsDisplay.from_moments(single))


def test_moments_refuses(moments):
    """Missing and misshapen moments are named."""
    with pytest.raises(ValueError, match="without moments"):
        TruncatedMomentsDisplay.from_moments(Bunch(p=1.0, cutoffs=[0.1], standard_errors=[0.1]))
    short = Bunch(**{**moments, "standard_errors": moments.standard_errors[:, :3]})
    with pytest.raises(ValueError, match=r"standard_errors of shape \(3, 3\).*7 for each of 3"):
        TruncatedMomentsDisplay.from_moments(short)


def test_moments_of_a_model(linear):
    """What is drawn is what truncated_moments returns for the same seed."""
    from skinv.impossibility import truncated_moments

    region = FeasibleRegionSampler(CENTERS["first"], 2.0).fit()
    expected = truncated_moments(linear, region, (1, 2), n_samples=5000, random_state=0)
    display = TruncatedMomentsDisplay.from_estimator(
        linear, region, (1, 2), n_samples=5000, random_state=0
    )
    np.testing.assert_array_equal(display.moments, expected.moments)
    np.testing.assert_array_equal(display.growth, expected.growth)
    assert display.ax_.get_title() == "LinearInverseApprox"
    drawn(display)


# -- the convention --------------------------------------------------------------------------------


@pytest.fixture(
    params=["error", "error by sampler", "coefficients", "training", "moments", "pareto"]
)
def make(request, sampler, linear, network, moments):
    """A function that makes one of the displays on given axes."""
    X = sampler.sample(30, return_inverse=False)
    return {
        "error": lambda ax=None: ErrorByDistanceDisplay.from_estimator(linear, X, ax=ax),
        "error by sampler": lambda ax=None: ErrorByDistanceDisplay.from_sampler(
            linear, sampler, 30, ax=ax
        ),
        "coefficients": lambda ax=None: CoefficientDisplay.from_estimator(linear, sampler, ax=ax),
        "training": lambda ax=None: TrainingDisplay.from_estimator(network, ax=ax),
        "moments": lambda ax=None: TruncatedMomentsDisplay.from_moments(moments, ax=ax),
        "pareto": lambda ax=None: ParetoDisplay.from_matrices(
            X, candidates={"LAPACK": np.linalg.inv}, n_repeats=1, ax=ax
        ),
    }[request.param]


def test_displays_draw_where_they_are_told(make):
    """Given axes are used and no figure is made; without, exactly one is."""
    figure, (ax, other) = plt.subplots(1, 2)
    display = make(ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert display.plot(ax) is display
    assert plt.get_fignums() == [figure.number]
    assert plt.gca() is other  # the current axes are left alone
    assert not other.has_data()
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    drawn(display)
    display = make()
    assert display.figure_ is not figure
    assert len(plt.get_fignums()) == 2
    drawn(display)


@pytest.mark.parametrize("kind", ["slices", "3d"])
def test_singular_set_draws_where_it_is_told(sampler, kind):
    """The same for the display with several axes."""
    projection = {"projection": "3d"} if kind == "3d" else None
    figure, axes = plt.subplots(1, 2, subplot_kw=projection)
    given = axes[0] if kind == "3d" else axes
    display = SingularSetDisplay.from_sampler(sampler, kind=kind, ax=given)
    assert display.figure_ is figure
    assert list(display.axes_) == list(np.ravel(given))
    assert plt.get_fignums() == [figure.number]
    assert display.plot(given, kind=kind) is display
    assert len(display.region_) == len(display.axes_)
    drawn(display)
    assert SingularSetDisplay.from_sampler(sampler, kind=kind).figure_ is not figure
    assert len(plt.get_fignums()) == 2


def test_without_matplotlib(make, sampler, monkeypatch):
    """A missing matplotlib is named with the command that installs it, before any computation."""
    display = make()
    singular = SingularSetDisplay.from_sampler(sampler)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for call in (
        make,
        display.plot,
        singular.plot,
        lambda: SingularSetDisplay.from_sampler(sampler),
        lambda: ErrorByDistanceDisplay.from_sampler(None, None),
        lambda: TruncatedMomentsDisplay.from_estimator(None, None),
        lambda: ParetoDisplay.from_matrices(None),
    ):
        with pytest.raises(ImportError, match=r"pip install 'skinv\[plot\]'"):
            call()


def test_importing_draws_nothing():
    """The displays are there without matplotlib being loaded."""
    code = (
        "import sys, skinv.inspection; "
        "assert not {'matplotlib', 'torch'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_colors_are_told_apart():
    """The palette stays apart as protanopes and deuteranopes see it, unlike matplotlib's."""
    from matplotlib.colors import to_rgb

    from skinv.inspection._displays._style import COLORS, MARKERS

    # Machado, Oliveira and Fernandes (2009), severity 1, on linear light.
    seen = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    }

    def nearest(colors, matrix):
        light = np.array([to_rgb(color) for color in colors]) ** 2.2
        shown = np.clip(light @ np.transpose(matrix), 0, 1) ** (1 / 2.2)
        distance = np.linalg.norm(shown[:, None] - shown, axis=-1)
        return distance[np.triu_indices(len(colors), 1)].min()

    for matrix in seen.values():
        assert nearest(COLORS, matrix) > 0.15
        assert nearest([f"C{k}" for k in range(len(COLORS))], matrix) < 0.12
    assert len(COLORS) == len(set(MARKERS))


def test_displays_take_any_model():
    """Torch modules, skorch nets and models fitted to data frames, without a warning."""
    region = make_region("2x2-first", random_state=0)
    X, Y = region.data, region.target
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 4)
    net = NeuralNetRegressor(module, max_epochs=1, verbose=0, train_split=None)
    net.fit(X.astype(np.float32), Y.astype(np.float32))
    framed = Ridge().fit(pd.DataFrame(X, columns=list("abcd")), Y)
    with torch.no_grad():
        W = net.module_.weight.double().numpy()
    for model, slopes in ((net, W), (net.module_, W), (framed, framed.coef_)):
        display = CoefficientDisplay.from_estimator(model, region.sampler)
        np.testing.assert_allclose(display.learned, slopes, atol=2e-3)
        ErrorByDistanceDisplay.from_sampler(model, region.sampler, 50)
    plt.close("all")
