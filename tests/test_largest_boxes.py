"""How far boxes of parameters may grow: ends are rounded outward, whatever their size."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from skinv.geometry import ParametricFamily, largest_regular_box
from skinv.geometry._rounding import scaled_ends


@pytest.fixture(params=[False, True], ids=["gradual", "flushed"])
def mode(request):
    """Set the mode, subnormal numbers as they are or flushed, and leave it."""
    yield lambda on: torch.set_flush_denormal(on and request.param)
    torch.set_flush_denormal(False)


def exact_ends(low, high, scale):
    low, high, scale = map(Fraction, (low, high, scale))
    return (low + high - scale * (high - low)) / 2, (low + high + scale * (high - low)) / 2


def test_ends_are_rounded_outward():
    """To the next number, of all sizes; with a scale of 1 they are what they were."""
    rng = np.random.default_rng(0)
    for i in range(500):
        power = rng.integers(-1074, 1014, 2 if i % 2 else 1)
        low, high = np.sort(np.ldexp(rng.uniform(-1, 1, 2), power))[:, None]
        assert scaled_ends(low, high, 1.0) == (low, high)
        scale = rng.choice([0.0, 2.0**-30, rng.uniform(0, 2), 1024.0])
        (lower,), (upper,) = scaled_ends(low, high, scale)
        exact = exact_ends(low[0], high[0], scale)
        assert Fraction(lower) <= exact[0] < Fraction(np.nextafter(lower, np.inf))
        assert Fraction(np.nextafter(upper, -np.inf)) < exact[1] <= Fraction(upper)
    (lower,), (upper,) = scaled_ends(np.array([-1e308]), np.array([1e308]), 2.0)
    assert (lower, upper) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("family", "low", "high", "limit"),
    [
        (ParametricFamily([[[1.0]], [[1.7e308]]]), -1e-310, 1e-310, 1 / 1.7e-2),
        (ParametricFamily([[[1.1e-6]], [[-1.0]]], origin=[1e6]), 1e6 - 1e-6, 1e6 + 1e-6, 1.1),
    ],
    ids=["subnormal half-widths", "half-widths near the rounding of the middle"],
)
def test_the_box_of_a_certificate_has_the_scale_that_is_named(mode, family, low, high, limit):
    mode(True)
    found = largest_regular_box(family, [low], [high])
    mode(False)
    assert found.status == "converged"
    assert 0.98 * limit < found.scale < limit < 1.0001 * found.scale_upper
    exact = exact_ends(low, high, found.scale)
    assert Fraction(found.certificate.lower[0]) <= exact[0]
    assert Fraction(found.certificate.upper[0]) >= exact[1]


def test_what_is_no_family_is_said():
    """What was got, and what to do."""
    one, two = np.eye(2)[None], np.ones((2, 2, 2))
    for message, coefficients, exponents in (
        ("without parameters: pass another", one, None),
        ("that are not finite, but", two * np.nan, None),
        (r"exponents of shape \(2,\).*: \(2, n_parameters\)", two, [0, 1]),
    ):
        with pytest.raises(ValueError, match=message):
            ParametricFamily(coefficients, exponents)
    with pytest.raises(ValueError, match="that is not finite from function"):
        ParametricFamily.from_function(lambda p: np.full((len(p), 2, 2), np.inf), [0], [1])
