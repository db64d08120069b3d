"""Attacks on proven residuals of models over slices of matrices.

The oracle knows what a model is by its constants alone, and evaluates that in ball arithmetic of
300 bits, at matrices that are rational.
"""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from balls import at, matrix, outputs, residual, row, taylor_of
from flint import arb, ctx
from sklearn.frozen import FrozenEstimator

from skinv import (
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    StructuredInverse,
)
from skinv.bounds import _hidden, _slice, certify_region
from skinv.datasets import load_power_flow

certify_region = functools.partial(certify_region, error="residual", max_time=None)


@pytest.fixture(autouse=True)
def precision():
    """Balls of 300 bits."""
    before, ctx.prec = ctx.prec, 300
    yield
    ctx.prec = before


def family(n, k, seed, spread=0.3):
    """A regular centre, directions, and samples of the slice."""
    rng = np.random.default_rng(seed)
    center = rng.standard_normal((n, n)) + 3 * np.eye(n)
    directions = rng.standard_normal((k, n, n)) * spread / k
    z = rng.uniform(-1, 1, (60 + 40 * k, k))
    return center, directions, center + np.tensordot(z, directions, 1)


def points(k, seed, count=12):
    """Corners, and dyadic points within, so that matrices there are rational and short."""
    rng = np.random.default_rng(seed)
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=k)))
    return np.vstack((corners, rng.integers(-64, 65, (count, k)) / 64))


def check(model, center, directions, found, seed=0, inside=None):
    """No residual is above the upper bound, and that at the witness is not below the lower."""
    form, upper = model._model_form(), arb(found.upper)
    for z in points(len(directions), seed):
        if inside is None or inside(z):
            assert not residual(form, *at(center, directions, z)) > upper
    witness = found.witness
    assert not residual(form, row(witness), matrix(witness)) < arb(found.lower)
    assert 0 <= found.lower <= found.upper


def hidden(activation, **params):
    params = {"hidden_layer_sizes": 6, "max_iter": 3, "random_state": 0, "device": "cpu", **params}
    return NeuralInverseRegressor(activation=activation, **params)


@pytest.mark.parametrize(
    ("degree", "k", "seed"),
    [(1, 1, 0), (1, 3, 1), (2, 1, 2), (2, 2, 3), (3, 2, 4), (3, 3, 5), (4, 1, 6), (4, 2, 7)],
)
def test_polynomials(degree, k, seed):
    """The residual of a polynomial is enclosed, as sharply as asked for."""
    center, directions, samples = family(3, k, seed)
    model = PolynomialInverseApprox(degree, k).fit(samples)
    found = certify_region(model, center, directions=directions)
    assert found.status == "converged"
    assert found.gap < 0.0501
    check(model, center, directions, found)


@pytest.mark.parametrize(
    "model",
    [
        LinearInverseApprox(),
        LinearInverseApprox(order=3),
        LinearInverseApprox(method="lstsq"),
        hidden("relu", baseline="affine"),
        hidden("silu", baseline="affine"),
        hidden("tanh", baseline="affine"),
        hidden("silu"),
        hidden("relu", baseline=None, n_components=None),
        hidden("tanh", baseline="taylor2", n_components=None),
    ],
    ids=str,
)
def test_other_models(model):
    """Series, affine maps, and networks of a layer, of reduced coordinates and of all entries."""
    center, directions, samples = family(3, 2, 8, spread=0.05)
    model.fit(samples)
    found = certify_region(model, center, rtol=0.2, directions=directions, max_boxes=500)
    assert math.isfinite(found.upper)
    assert found.gap < 0.21
    check(model, center, directions, found)


def test_whoever_fits_a_grid():
    """Three loads of a grid: a cubic, proven to a tenth of a per cent by a look at one box."""
    grid = load_power_flow("case9")
    loads = np.column_stack((np.ones(len(grid.data)), (grid.parameters - 1) / 0.2))
    center, *directions = np.linalg.lstsq(loads, grid.data, rcond=None)[0].reshape(-1, 14, 14)
    directions = np.array(directions[:3])
    z = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    model = PolynomialInverseApprox(3, 3).fit(center + np.tensordot(z, directions, 1))
    found = certify_region(FrozenEstimator(model), center, rtol=0.001, directions=directions)
    assert found.status == "converged"
    assert found.upper < 1e-4
    check(model, center, directions, found)


@pytest.mark.parametrize("norm", ["mahalanobis", "l2", "linf"])
def test_regions_of_samplers(norm):
    """Ellipsoids, balls and boxes are searched in coordinates of their own."""
    center, _, samples = family(2, 2, 9)
    model = PolynomialInverseApprox(2, 2).fit(samples)
    if norm == "mahalanobis":
        sampler = FeasibleRegionSampler(norm=norm).fit(samples)
        directions = (sampler.axes_ * sampler.radius_).reshape(-1, 2, 2)
    else:
        sampler = FeasibleRegionSampler(center, 0.125, norm=norm).fit()
        directions = 0.125 * np.eye(4).reshape(4, 2, 2)
    found = certify_region(model, sampler, rtol=0.2)
    assert found.status == "converged"
    inside = None if norm == "linf" else lambda z: np.linalg.norm(z) <= 1
    check(model, sampler.center_, directions, found, inside=inside)


def test_entries_over_slices():
    """Largest entries of errors, as over regions of samplers."""
    center, directions, samples = family(3, 2, 10)
    model = LinearInverseApprox(center).fit()
    found = certify_region(model, center, directions=directions, error="entries")
    assert found.gap < 0.0501
    off = model.predict(samples.reshape(-1, 9)) - np.linalg.inv(samples).reshape(-1, 9)
    assert np.abs(off).max() <= found.upper
    off = model.predict(found.witness.reshape(1, 9)) - np.linalg.inv(found.witness).reshape(1, 9)
    assert np.abs(off).max() == pytest.approx(found.lower, rel=1e-9)


@pytest.mark.parametrize(
    "model", [PolynomialInverseApprox(2, 2), PolynomialInverseApprox(9, 2), hidden("silu")], ids=str
)
@pytest.mark.parametrize("unit", [1.0, 2.0**-200, np.array([1.0, 2.0**30, 2.0**-30])], ids=str)
def test_entries_in_reduced_coordinates(model, unit):
    """Largest entries of errors by way of residuals, against inverses in ball arithmetic."""
    center, directions, samples = (M * unit for M in family(3, 2, 17))
    form = model.fit(samples)._model_form()
    found = certify_region(model, center, 0.1, directions=directions, error="entries")
    assert found.status in ("converged", "rounding")
    assert found.upper < 1.2 * found.lower + 1e-9 / np.min(unit)

    def error(a, A):
        exact = row(A.inv().entries())
        return max(abs(v) for v in (outputs(form, a) - exact).entries())

    for z in points(2, 0):
        assert not error(*at(center, directions, z)) > arb(found.upper)
    assert not error(row(found.witness), matrix(found.witness)) < arb(found.lower)


@pytest.mark.parametrize("model", [PolynomialInverseApprox(2, 2), hidden("silu")], ids=str)
def test_what_lies_off_the_slice(model):
    """Matrices that are off by the radius, entry by entry, are covered."""
    center, directions, samples = family(3, 2, 11)
    model.fit(samples)
    radius = np.full((3, 3), 2.0**-12)
    radius[0, 1] = 0.0
    known = certify_region(model, center, rtol=0.2, directions=directions)
    found = certify_region(model, center, rtol=0.2, directions=directions, radius=radius)
    assert known.upper < found.upper < known.upper + 0.1
    assert found.status == known.status
    form, rng = model._model_form(), np.random.default_rng(0)
    for z in points(2, 0):
        off = radius * rng.choice([-1.0, 1.0], (3, 3))
        assert not residual(form, *at(center, directions, z, off)) > arb(found.upper)


@pytest.mark.parametrize("power", [-300, -3, 200])
def test_units(power):
    """Bounds are the same to the bit in other units, of matrices or of columns; rows weigh."""
    center, directions, samples = family(3, 2, 12)
    found = certify_region(
        PolynomialInverseApprox(3, 2).fit(samples), center, directions=directions
    )
    columns = np.array([1.0, 2.0**20, 2.0**-15])
    for unit in (2.0**power, columns * 2.0**power):
        model = PolynomialInverseApprox(3, 2).fit(samples * unit)
        again = certify_region(model, center * unit, directions=directions * unit)
        assert again.lower == pytest.approx(found.lower, rel=1e-9)
        assert again.upper == pytest.approx(found.upper, rel=1e-9)
    rows = np.array([1.0, 2.0**12, 2.0**-12])[:, None]
    model = PolynomialInverseApprox(3, 2).fit(samples * rows)
    again = certify_region(model, center * rows, directions=directions * rows)
    check(model, center * rows, directions * rows, again)


def test_complex_slices():
    """Admittances: the residual is that of real embeddings."""
    center, directions, samples = family(2, 2, 13)
    center, directions, samples = (M + 0.5j * M[..., ::-1] for M in (center, directions, samples))
    model = PolynomialInverseApprox(2, 4).fit(samples)
    found = certify_region(model, center, directions=directions)
    A = samples[:20]
    R = np.linalg.norm(np.eye(2) - A @ model.predict(A), axis=(1, 2))
    assert (math.sqrt(2) * R <= found.upper).all()
    assert found.witness.shape == (4, 4)
    symmetric = (samples + samples.swapaxes(1, 2).conj()) / 2
    structured = StructuredInverse(PolynomialInverseApprox(2, 4), "symmetric").fit(symmetric)
    with pytest.raises(ValueError, match="structure"):
        certify_region(structured, center, directions=directions)


@pytest.mark.parametrize("extended", [True, False])
def test_residuals_of_rounding(extended, monkeypatch):
    """A polynomial that is right to 14 digits, proven with more of these, and without."""
    if not extended:
        monkeypatch.setattr(_slice, "EPS_LONG", 1.0)
    center, directions, samples = family(3, 1, 14, spread=0.05)
    model = PolynomialInverseApprox(10, 1).fit(samples)
    found = certify_region(model, center, directions=directions)
    if not extended:
        assert found.status == "rounding"
    assert found.upper < 1e-11
    check(model, center, directions, found)
    model = hidden("silu", max_iter=20, baseline="auto").fit(samples)
    check(model, center, directions, certify_region(model, center, directions=directions))


def test_models_that_are_wrong_everywhere():
    """A residual of 1 or more is a bound like others, also where matrices are singular."""
    center, directions, samples = family(2, 1, 15)
    model = PolynomialInverseApprox(1, 1).fit(samples)
    wide = 40 * directions
    found = certify_region(model, center, directions=wide)
    assert found.lower > 1
    check(model, center, wide, found)


@pytest.mark.parametrize("activation", ["silu", "tanh"])
@pytest.mark.parametrize("order", [5, 6])
def test_constants_bound_the_derivatives(activation, order):
    """|f⁽⁵⁾| and |f⁽⁶⁾| stay below their constants, proven by balls; those below are known.

    Past 40 they are sums of a few terms below 10⁴·|x|·exp(−|x|), that is 1e-11.
    """
    x = torch.linspace(-9, 9, 19, dtype=torch.float64)
    computed = _hidden.derivative(x, activation, order)
    exact = [float(taylor_of(activation, float(point), order)[order]) for point in x]
    np.testing.assert_allclose(computed, exact, atol=1e-9)
    worst, cells = (
        _hidden._DERIVATIVES[activation][order],
        [(k / 2, k / 2 + 0.5) for k in range(-80, 80)],
    )
    while cells:
        low, high = cells.pop()
        middle, radius = (low + high) / 2, (high - low) / 2
        here = abs(taylor_of(activation, middle, order)[order])
        slope = abs(taylor_of(activation, arb(middle, radius), order + 1)[order + 1])
        if not here + radius * slope < worst:
            assert radius > 1e-7
            cells += [(low, middle), (middle, high)]


def test_what_overflows_is_not_bounded():
    center, directions, _ = family(3, 2, 16)
    series = LinearInverseApprox(center, order=3).fit()
    found = certify_region(series, center, 0.1, 3, directions=1e308 * np.sign(directions))
    assert found.upper == np.inf


def test_errors_in_words():
    """What does not fit is said, with what would."""
    center, directions, samples = family(3, 2, 16)
    model = PolynomialInverseApprox(2, 2).fit(samples)
    sampler = FeasibleRegionSampler(norm="mahalanobis").fit(samples)
    deep = NeuralInverseRegressor((3, 3), max_iter=1, device="cpu").fit(samples)
    many = np.ones((9, 3, 3))
    for message, arguments, options in (
        ("directions=", (model, center), {}),
        ("directions of shape", (model, center), {"directions": directions[0]}),
        ("directions of shape", (model, center), {"directions": np.ones((2, 2, 2))}),
        ("not finite", (model, center), {"directions": directions * np.inf}),
        ("its center_", (model, sampler), {"directions": directions}),
        ("region=None", (model, None), {"directions": directions}),
        (r"radius=\[-1", (model, center), {"directions": directions, "radius": [-1.0]}),
        ("knows no", (model, sampler), {"error": "entries", "radius": 1e-3}),
        ("one hidden layer", (deep, sampler), {}),
        ("lower degree", (model, center), {"directions": np.tile(many, (2, 1, 1))}),
        ("square matrices of one size", (model, np.eye(2)), {"directions": np.ones((1, 2, 2))}),
    ):
        with pytest.raises(ValueError, match=message):
            certify_region(*arguments, **options)
