"""Fuzzing of displays."""

import copy
import warnings
from functools import cache, partial

import numpy as np
from matplotlib.figure import Figure
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from strategies import JUNK, REFUSED, attempt

from fuzzing.common import entry
from fuzzing.models import (
    Liar,
    a_model,
    a_sampler,
    affine,
    inverses_of,
    region,
    relu,
    series,
    silu,
    stopped,
)
from skinv import (
    LinearInverseApprox,
    impossibility,
    inspection,
)


@entry("inspection.activation_regions")
def fuzz_activation_regions(c):
    model = c.rather((relu(), relu(), affine(), FrozenEstimator(relu())), (partial(a_model, c),))
    sampler = a_sampler(c, region(), region(radius=2.0), region(structure="symmetric"))
    options = c.options(
        patterns=[partial(c.choice, "sampled", "all")],
        max_regions=[50, partial(c.count, 50)],
        n_jobs=[None, partial(c.rather, (1,), (1.5, "1"))],
        verbose=[0, partial(c.rather, (False,), (-1, None))],
    )
    frame = attempt(inspection.activation_regions, model, sampler, c.count(20), **options)
    if frame is REFUSED:
        return
    assert len(frame) >= 1
    assert 0 < frame["share"].sum() <= 1 + 1e-12
    assert (frame["coefficient_gap"] >= 0).all()


def some_axes(c, right="plain"):
    """Return new axes to draw on, mostly those that are right."""
    kind = c.rather((right,), ("plain", "two", "3d", "none"))
    if kind == "none":
        return c.of(3, "ax", [], [None, None])
    if kind == "two":
        return Figure().subplots(1, 2)
    return Figure().subplots(subplot_kw={"projection": "3d"} if kind == "3d" else None)


def name_of(c):
    return c.of(None, "name", "", 5, "$x$", "ä" * 50)


def fuzz_plot(make, options=lambda c: {}, axes=lambda c: some_axes(c)):
    """Return an entry of the plot method of a display."""

    def fuzz(c):
        display = make(c)
        again = attempt(display.plot, axes(c), **options(c))
        assert again is REFUSED or again is display

    entry(f"inspection.{make.__name__}.plot")(fuzz)


@entry("inspection.CoefficientDisplay.from_estimator")
def fuzz_coefficient_display(c):
    display = attempt(
        *(inspection.CoefficientDisplay.from_estimator, a_model(c), a_sampler(c)),
        **c.options(n_samples=[None, c.count], step=[partial(c.number, 1e-3)]),
        name=name_of(c),
        ax=some_axes(c),
    )
    if display is not REFUSED:
        assert display.learned.shape == display.linear.shape


def CoefficientDisplay(c):
    rows, columns = c.of(4, 9, 64, 1), c.of(1, 4, 200)
    learned, linear = c.rng.standard_normal((2, rows, columns)) * c.of(1.0, 1e-30, 1e30)
    spread = c.of(None, np.abs(learned))
    return inspection.CoefficientDisplay(learned=learned, linear=linear, spread=spread)


fuzz_plot(CoefficientDisplay, lambda c: {"name": name_of(c)})


@entry("inspection.ErrorByDistanceDisplay.from_estimator")
def fuzz_error_display(c):
    X = c.matrices(2, calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    wrong = {0: 1}, {-1: 0.1}, [1, 2, 3], "ab", {"a": 1}, {1.0: np.nan}, 5, [(1, 2, 3)], {1j: 1}
    failure = c.rather(
        (None, None, {10.0: 0.05}, [(1.0, 0.1), (10.0, 0.01)], {}, {1.0: 0}), (*wrong, {10**400: 1})
    )
    options = c.options(
        norm=[partial(c.choice, "l2", "l1", "linf")],
        error=[partial(c.choice, "absolute", "relative")],
        failure=[failure],
        kind=[partial(c.choice, "points", "bands", "auto")],
    )
    display = attempt(
        *(inspection.ErrorByDistanceDisplay.from_estimator, a_model(c), X, y),
        name=name_of(c),
        ax=some_axes(c),
        **options,
    )
    if display is not REFUSED:
        assert display.distance.shape == display.errors.shape
        assert (display.distance > 0).all()


def ErrorByDistanceDisplay(c):
    distance, errors = 10.0 ** c.rng.uniform(-6, 3, (2, c.of(1, 3, 100)))
    errors[0] = c.of(1.0, 0.0, np.nan, np.inf)
    options = c.options(norm=["l1"], error=["relative"], n_left_out=[3], estimator_name=["name"])
    return inspection.ErrorByDistanceDisplay(distance=distance, errors=errors, **options)


fuzz_plot(
    ErrorByDistanceDisplay,
    lambda c: c.options(
        kind=[partial(c.choice, "points", "bands", "auto")],
        n_bins=[c.count],
        guide=[c.flag],
        name=[partial(name_of, c)],
    ),
)


@entry("inspection.ErrorByDistanceDisplay.from_sampler")
def fuzz_error_display_of_sampler(c):
    m = c.count(9)
    display = attempt(
        *(inspection.ErrorByDistanceDisplay.from_sampler, a_model(c), a_sampler(c), m),
        **c.options(
            norm=[partial(c.choice, "l1", "l2")],
            error=[partial(c.choice, "absolute", "relative")],
        ),
        ax=some_axes(c),
    )
    assert display is REFUSED or len(display.errors) + display.n_left_out == m


@entry("inspection.ParetoDisplay.from_matrices")
def fuzz_pareto_display(c):
    X = c.matrices(2, c.of(4, 7, 2), calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    right = {"a": np.linalg.inv, "b": series()}, {"c": Ridge(), 5: LinearInverseApprox(order=2)}
    wrong = *JUNK[:9], {"a": None}, {"a": LinearInverseApprox}, {"a": Liar("few")}, {"": region()}
    display = attempt(
        *(inspection.ParetoDisplay.from_matrices, X, y),
        candidates=c.rather(right, wrong),
        **c.options(
            test_size=[0.5, partial(c.number, 0.3, 1, np.int64(2))],
            metric=[partial(c.choice, "median_relative_error", "max_relative_error")],
            dtype=[partial(c.choice, "float32", "float64"), None],
            max_time=[partial(c.number, 5.0), None],
            random_state=[c.seed],
        ),
        batch_size=c.count(9),
        n_repeats=c.count(1),
        ax=some_axes(c),
        refused=(ValueError, OSError),
    )
    if display is REFUSED:
        return
    assert len(repr(display).splitlines()) == 2 + len(display.results)
    for row in display.results:
        assert row["failure"] or row["microseconds_per_matrix"] > 0
        assert row["failure"] or row["max_relative_error"] >= row["median_relative_error"] >= 0


def ParetoDisplay(c):
    keys = "microseconds_per_matrix", "median_relative_error", "max_relative_error"
    keys += "mean_absolute_error", "fit_seconds"
    numbers = partial(c.of, 1e-12, 0.5, 1.0, 3e5, np.nan, np.inf)
    rows = [
        {key: numbers() for key in keys}
        | {"name": c.of(None, name_of(c)), "unanswered": c.of(0, 3), "failure": c.of(None, "why")}
        for _ in range(c.of(0, 1, 2, 9))
    ]
    return inspection.ParetoDisplay(results=rows, metric=c.of(*keys[1:4]), setting=c.of("", "ä"))


fuzz_plot(ParetoDisplay, lambda c: c.options(table=[c.flag]))


@entry("inspection.SingularSetDisplay.from_sampler")
def fuzz_singular_set_display(c):
    kind = c.choice("slices", "3d")
    right = "3d" if kind == "3d" else "two"
    attempt(
        *(inspection.SingularSetDisplay.from_sampler, a_sampler(c)),
        **c.options(epsilon=[None, partial(c.number, 0.1, 2.0)]),
        kind=kind,
        ax=some_axes(c, right),
    )


@cache
def singular_set():
    axes = Figure().subplots(1, 2)
    return inspection.SingularSetDisplay.from_sampler(region(), epsilon=0.1, ax=axes)


def SingularSetDisplay(c):
    return copy.copy(singular_set())


fuzz_plot(
    SingularSetDisplay,
    lambda c: {"kind": c.choice("slices", "slices", "3d"), **c.options(neighborhood=[c.flag])},
    lambda c: some_axes(c, c.of("two", "two", "3d")),
)


@entry("inspection.TrainingDisplay.from_estimator")
def fuzz_training_display(c):
    model = c.rather((relu(), silu(), FrozenEstimator(relu()), stopped()), (partial(a_model, c),))
    display = attempt(
        *(inspection.TrainingDisplay.from_estimator, model), name=name_of(c), ax=some_axes(c)
    )
    assert display is REFUSED or len(display.loss_curve) >= 1


def TrainingDisplay(c):
    right = [1.0, 0.1], [1e30, 1e-30], [1.0] * 50
    losses = c.rather(right, ([], [np.nan], [0.0, -1.0], 1.0, *JUNK))
    right = None, [0.5, 0.9], [1.0], [0.1, 0.5, 0.3]
    scores = c.rather(right, ([], [np.nan, 0.5], [-1e30], 0.5, *JUNK))
    return inspection.TrainingDisplay(loss_curve=losses, validation_scores=scores)


fuzz_plot(TrainingDisplay, lambda c: {"name": name_of(c)})


@cache
def moments():
    return impossibility.truncated_moments(
        series(), region(radius=2.0), (1, 2), n_samples=500, random_state=0
    )


@entry("inspection.TruncatedMomentsDisplay.from_moments")
def fuzz_moments_display(c):
    found = type(moments())(**moments())
    if c.slips(2):
        key = c.of(*found)
        wrong = c.of(None, 1.0, [], [1.0], np.full(np.shape(found[key]), np.nan), "x", *JUNK[:5])
        if c.one_in(2):
            found[key] = wrong
        else:
            del found[key]
    given = c.rather((found, dict(found)), ({}, None, 5, "moments"))
    display = attempt(
        *(inspection.TruncatedMomentsDisplay.from_moments, given),
        **c.options(relative=[c.flag]),
        name=name_of(c),
        ax=some_axes(c),
    )
    assert display is REFUSED or display.moments.shape == (len(display.p), len(display.cutoffs))


def TruncatedMomentsDisplay(c):
    p, cutoffs = np.arange(1.0, c.of(2, 3)), np.geomspace(1e-3, 1e-6, c.of(1, 2, 7))
    table = 10.0 ** c.rng.uniform(-9, 9, (len(p), len(cutoffs)))
    options = c.options(
        growth=[p, p * np.nan], growth_error=[p, 0 * p], expected_growth=[p - 1, -p], fitted=[table]
    )
    return inspection.TruncatedMomentsDisplay(
        p=p, cutoffs=cutoffs, moments=table, standard_errors=table / 3, **options
    )


fuzz_plot(TruncatedMomentsDisplay, lambda c: {"name": name_of(c)})


@entry("inspection.TruncatedMomentsDisplay.from_estimator")
def fuzz_moments_display_of_model(c):
    sampler = a_sampler(c, region(radius=2.0))
    p = partial(c.rather, (2, (1, 2)), ([], 0.5, "x", [[1, 2]]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No sample is between the cutoffs")
        display = attempt(
            *(inspection.TruncatedMomentsDisplay.from_estimator, a_model(c), sampler),
            **c.options(p=[p], cutoffs=[[1e-3, 1e-4, 1e-5], partial(c.rather, (1e-3,), ([], -1))]),
            **c.options(relative=[True], random_state=[c.seed]),
            n_samples=c.count(50),
            ax=some_axes(c),
        )
    assert display is REFUSED or display.moments.shape[1] == len(display.cutoffs)
