"""No false proof: certificates count what rounding, overflow and underflow do."""

import contextlib
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from lipschitz import NORMS, Small
from numpy.polynomial import Polynomial
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeRegressor
from torch import nn
from torch.nn import functional as F

from skinv.impossibility import (
    PolynomialLipschitz,
    add,
    compose,
    concatenate,
    constant,
    elementwise,
    failure_distance,
    identity,
    lipschitz,
    multiply,
    polynomial_lipschitz,
    scale,
)


def exact(polynomial):
    return [Fraction(float(c)) for c in polynomial.coef]


def exact_product(p, q):
    found = [Fraction(0)] * (len(p) + len(q) - 1)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            found[i + j] += a * b
    return found


def covers(bound, expected):
    bound = bound + [Fraction(0)] * (len(expected) - len(bound))
    return all(b >= e for b, e in zip(bound, expected, strict=True))


@pytest.fixture(params=[False, True], ids=["subnormal numbers", "flushed to zero"])
def flushed(request):
    """Run a test with subnormal numbers, and where the process flushes them to zero."""
    if request.param and not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    yield request.param
    torch.set_flush_denormal(False)


def test_calculus_rounds_up(flushed):
    """Against fractions: no coefficient is below the exact one, over the whole range of float64."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = 10.0 ** rng.uniform(-180, 130)

        def draw(size=size):
            return size * 10.0 ** rng.uniform(-15, 15, rng.integers(1, 5)) * rng.integers(0, 2)

        f, g = (PolynomialLipschitz(draw(), draw()) for _ in range(2))
        product, c = multiply(f, g), scale(f, 0.1)
        both = concatenate(f, g)
        for name in "PB":
            p, q = exact(getattr(f, name)), exact(getattr(g, name))
            padded = [x + [Fraction(0)] * (max(len(p), len(q)) - len(x)) for x in (p, q)]
            assert covers(exact(getattr(c, name)), [Fraction(0.1) * a for a in p])
            total = [a + b for a, b in zip(*padded, strict=True)]
            assert covers(exact(getattr(add(f, g), name)), total)
            squares = [b * b for b in exact(getattr(both, name))]
            assert covers(squares, [a * a + b * b for a, b in zip(*padded, strict=True)])
        assert covers(exact(product.B), exact_product(exact(f.B), exact(g.B)))


def test_nothing_positive_vanishes(flushed):
    """Tiny slopes stay above what they are; what vanishes in torch does not in a certificate."""
    least = Fraction(1, 10**340)
    assert Fraction(concatenate(lipschitz(1e-170), lipschitz(1e-170)).P.coef[0]) ** 2 >= 2 * least
    tiny = np.array([1, 0], dtype=np.int64).view(np.float64)  # 5e-324, and no arithmetic
    for given in (tiny, tiny[0], Fraction(1, 10**400), np.array([1], np.int32).view(np.float32)):
        assert lipschitz(given).P.coef[0] > 0
        assert constant(given if np.ndim(given) == 0 else given[0]).B.coef[0] > 0
        assert elementwise(1.0, given if np.ndim(given) == 0 else given[0]).B.coef[0] > 0
    mapped = Polynomial([0.0, 1e-200], domain=[-1e200, 1e200])
    assert PolynomialLipschitz(mapped, 1.0).P.coef[1] > 0
    with pytest.raises(ValueError, match="not negative"):
        PolynomialLipschitz([-tiny[0]], [0.0])
    with pytest.raises(ValueError, match="finite"):
        PolynomialLipschitz([1.0, math.nan], [0.0])
    for text in (
        "x * 1e-60",
        "x * 1e-200 * 1e-200",
        "x / 1.7e308 / 1e10",
        "x @ self.w * self.tiny",
    ):
        assert polynomial_lipschitz(Small(text), input_shape=4).P.coef[0] > 0
    with torch.no_grad():
        for dtype, bits in ((torch.float32, torch.int32), (torch.float64, torch.int64)):
            layer = nn.Linear(4, 4, bias=False, dtype=dtype)
            layer.weight.view(bits).fill_(1)
            for norm in NORMS:
                assert polynomial_lipschitz(layer, norm).P.coef[0] > 0
            bias = nn.Linear(4, 4, dtype=dtype)
            bias.bias.view(bits).fill_(1)
            assert polynomial_lipschitz(bias).B.coef[0] > 0


@pytest.mark.parametrize("norm", NORMS)
def test_slopes_of_linear_maps_at_the_ends_of_the_range(norm, flushed):
    """Norms neither vanish at 1e-170 nor overflow at 1e160, for layers and convolutions."""
    for size in (1e-300, 1e-170, 1e160):
        layer, conv = nn.Linear(2, 2, bias=False).double(), nn.Conv1d(2, 2, 1, bias=False).double()
        with torch.no_grad():
            layer.weight.copy_(size * torch.tensor([[3.0, 4.0], [-4.0, 3.0]]).double())
            conv.weight.copy_(layer.weight[..., None])
        expected = {"l1": 7.0, "l2": 5.0, "linf": 7.0}[norm]
        for module, shape in ((layer, (2,)), (conv, (2, 3))):
            P = polynomial_lipschitz(module, norm, input_shape=shape).P.coef[0] / size
            assert expected <= P <= (7.1 if size == 1e-300 else expected * (1 + 1e-9))


def test_overflow_is_refused_without_a_warning():
    """What leaves float64 is said to, in words."""
    big = lipschitz([1e200, 1e200], 1e200)
    for combine in (
        lambda: multiply(big, big),
        lambda: compose(big, big),
        lambda: scale(big, 1e200),
        lambda: concatenate(lipschitz(1.7e308, norm="l1"), lipschitz(1.7e308, norm="l1")),
        lambda: add(lipschitz(1.7e308), lipschitz(1.7e308)),
        lambda: lipschitz(math.inf),
        lambda: scale(identity(), -1.0),
        lambda: polynomial_lipschitz(Small("x * 1e200 * 1e200"), input_shape=4),
        lambda: polynomial_lipschitz(Small("(self.w * 1e300 * 1e300) @ x[0]"), input_shape=4),
    ):
        with pytest.raises(ValueError, match="finite"):
            combine()


@pytest.mark.parametrize(
    ("text", "at_zero"),
    [
        ("(x + 1.0) + 1e17 - 1e17", 2.0),  # 0 in floating point, 1 in each entry
        ("((x + 1e-200) * 1e-200) * 1e300", 2e-100),
        ("torch.tanh((x + 1.0) + 1e17 - 1e17)", 2 * math.tanh(1.0)),
        ("((x + 1e-170) * 1e-170).sum(1) * 1e300 * 1e30", 4e-10),
    ],
)
def test_values_at_zero_count_with_their_rounding(text, at_zero, flushed):
    """f(0) as torch computes it may be 0 where it is not: by cancellation, or by underflow."""
    assert polynomial_lipschitz(Small(text), input_shape=4).B.coef[0] >= at_zero * (1 - 1e-12)


def test_normalised_shifts_that_cancel():
    """The shift of a BatchNorm, and the bias of a perceptron, that cancel in floating point."""
    layer = nn.BatchNorm1d(4, eps=0.0).double()
    with torch.no_grad():
        layer.running_mean.fill_(1e17), layer.running_var.fill_(1.0), layer.bias.fill_(1e17)
    network = nn.Sequential(nn.Linear(4, 4).double(), layer)
    with torch.no_grad():
        network[0].weight.zero_(), network[0].bias.fill_(1.0)  # 1 in exact arithmetic, 0 in torch
    assert polynomial_lipschitz(network).B.coef[0] >= 2.0
    layer.running_var.fill_(-1.0)
    with pytest.raises(ValueError, match="running_var"):
        polynomial_lipschitz(network)


def test_deep_products_end_in_time():
    """Degrees that grow without end are refused before they are multiplied out."""

    class Powers(nn.Module):
        def __init__(self, times, step):
            super().__init__()
            self.times, self.step = times, step

        def forward(self, x):
            for _ in range(self.times):
                x = self.step(x)
            return x

    assert polynomial_lipschitz(Powers(12, lambda x: x * x), input_shape=2).degree == 4095
    attention = Powers(20, lambda x: F.scaled_dot_product_attention(x, x, x))
    assert polynomial_lipschitz(attention, input_shape=(3, 2)).degree == 40
    for module, shape in (
        (Powers(64, lambda x: x * x), (2,)),
        (Powers(3, lambda x: x**99), (2,)),
        (Powers(64, lambda x: x @ x), (3, 3)),
    ):
        with pytest.raises(ValueError, match=r"degree.*register a rule"):
            polynomial_lipschitz(module, input_shape=shape)
    with pytest.raises(ValueError, match="degree"):
        compose(lipschitz([0.0] * 99 + [1.0]), lipschitz([0.0] * 99 + [1.0]))


def test_warnings_stay_inside():
    """What torch warns of while a module is looked at does not reach the caller."""
    for text in ("x.new_tensor(self.row) * x", "(x.view(1, 2, 2) + 0).T.reshape(1, 4)"):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with contextlib.suppress(ValueError):
                polynomial_lipschitz(Small(text), input_shape=4)
        assert not seen


# -- estimators and distances ----------------------------------------------------------------------


def test_estimators_count_what_rounding_hides():
    """Of a perceptron whose sums cancel, and of targets whose squares vanish."""
    model = MLPRegressor(hidden_layer_sizes=(4,), activation="identity", max_iter=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(np.eye(4), np.eye(4))
    model.coefs_ = [1e17 * np.eye(4), np.eye(4)]
    model.intercepts_ = [np.full(4, -1e17), np.ones(4)]  # 1 at ones, in exact arithmetic
    model.coefs_[0] += np.diag([16.0] * 4)
    distance = failure_distance(model, radius=0.0, error=0.0, center=np.ones((2, 2)))
    assert distance <= 1 / 34.0  # ‖f‖ is 2 · 17
    tree = DecisionTreeRegressor().fit(np.eye(4), np.full((4, 4), 1e-170))
    assert failure_distance(tree, radius=1.0, error=0.0) <= 1 / 2e-170


def test_distances_of_modules_count_rounding():
    """The value at the centre, as torch computes it, may have lost what it is."""
    module = Small("(x + 1e17) - 1e17").double()  # the identity
    distance = failure_distance(module, radius=0.0, error=0.0, center=np.full((2, 2), 3.0))
    assert distance <= 1 / 6.0
