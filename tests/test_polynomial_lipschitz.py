"""Certificates of polynomial Lipschitz continuity: rules, laws, attacks."""

import itertools
import math

import numpy as np
import pytest
import torch
from exhaustive import exhaustive
from lipschitz import SLACK, random_pairs, ratios, worst
from numpy.polynomial import Polynomial
from scipy.interpolate import CubicSpline
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetRegressor
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from skinv import CertifiedInverse, LinearInverseApprox, NeuralInverseRegressor
from skinv.datasets import make_region
from skinv.export import to_module
from skinv.impossibility import (
    PolynomialLipschitz,
    add,
    compose,
    concatenate,
    constant,
    elementwise,
    identity,
    lipschitz,
    multiply,
    polynomial_lipschitz,
    register_rule,
    residual,
    scale,
)
from skinv.impossibility._rules import ACTIVATIONS, RULES

NORMS = ("l1", "l2", "linf")


class Gated(nn.Module):
    """A residual sum, a product of two outputs, a concatenation, polynomials."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(12, 4)

    def forward(self, x):
        gate = torch.sigmoid(self.a(x)) * self.b(x)
        x = x + gate
        joined = torch.cat([x, x**3 / 6, gate - 0.5], dim=1)
        return self.c(joined) * 2.0 + x.square()


class Series(nn.Module):
    """Two steps of a Neumann series, in matrix products."""

    def __init__(self):
        super().__init__()
        self.register_buffer("base", torch.tensor([[0.4, -0.2], [0.1, 0.5]]))

    def forward(self, x):
        A = x.view(-1, 2, 2)
        step = self.base @ A
        return (2 * self.base - step @ self.base + step @ step @ self.base).reshape(x.shape[0], -1)


class Attention(nn.Module):
    """Attention written by hand."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(2, 4)

    def forward(self, x):
        x = x.view(-1, 3, 2)
        q, k, v = self.q(x), self.k(x), self.v(x)
        weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(3), dim=-1)
        return (weights @ v).flatten(1)


class Fused(Attention):
    """The same by torch's function."""

    def forward(self, x):
        x = x.view(-1, 3, 2)
        return F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)).flatten(1)


class Recurrent(nn.Module):
    """A recurrent network over the rows of a matrix, read out from its last state."""

    def __init__(self, cls, **params):
        super().__init__()
        self.net = cls(2, 3, batch_first=True, **params)
        directions = 2 if params.get("bidirectional") else 1
        self.out = nn.Linear(3 * directions, 2)

    def forward(self, x):
        states, _ = self.net(x.view(x.shape[0], 2, 2))
        return self.out(states).flatten(1)


class LastState(nn.Module):
    """An LSTM of which only the states at the end are used."""

    def __init__(self):
        super().__init__()
        self.net = nn.LSTM(2, 3, num_layers=2, batch_first=True)

    def forward(self, x):
        _, (h, c) = self.net(x)
        return torch.cat([h[-1], c[0]], dim=1)


class Encoder(nn.Module):
    """A transformer encoder layer on the rows of a matrix."""

    def __init__(self, **params):
        super().__init__()
        self.lift, self.lower = nn.Linear(2, 4), nn.Linear(4, 2)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, **params)

    def forward(self, x):
        return self.lower(self.layer(self.lift(x.view(-1, 2, 2)))).flatten(1)


class InPlace(nn.Module):
    """A residual block as ResNets write it, with a mask nobody passes."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(inplace=True)

    def forward(self, x, mask=None):
        out = self.b(self.relu(self.a(x)))
        out += x
        if mask is not None:
            out = out * mask
        return F.relu(out, inplace=True).clamp(max=50.0) + torch.abs(x)


class Cross(nn.Module):
    """Attention of a sequence to a part of it, through torch's module."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, kdim=4, vdim=4)

    def forward(self, x):
        mixed, _ = self.attention(x, x[:, :2], x[:, 1:])
        return x.mean(dim=1) + mixed.sum(dim=1)


class Sequences(nn.Module):
    """A layer on several sequences at once, along the second axis of the input or the first."""

    def __init__(self, net, n_sequences, length, batch_first):
        super().__init__()
        self.net, self.batch_first = net, batch_first
        self.n_sequences, self.length = n_sequences, length

    def forward(self, x):
        x = x.view(-1, self.n_sequences, self.length, x.shape[1] // self.n_sequences // self.length)
        x = x.flatten(0, 1)
        if not self.batch_first:
            x = x.transpose(0, 1)
        if isinstance(self.net, nn.MultiheadAttention):
            out = self.net(x, x, x)[0]
        elif isinstance(self.net, nn.TransformerEncoderLayer):
            out = self.net(x)
        else:
            out = self.net(x)[0]
        if not self.batch_first:
            out = out.transpose(0, 1)
        return out.reshape(x.shape[1 - self.batch_first] // self.n_sequences, -1)


class Shared(nn.Module):
    """Many queries to one set of keys and values, one of the queries learned."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 2, 3))
        self.lift = nn.Linear(6, 24)

    def forward(self, x):
        q, k = self.lift(x).view(-1, 4, 2, 3), x.view(-1, 1, 2, 3)
        mixed = F.scaled_dot_product_attention(q, k, k, scale=-0.7)
        learned = F.scaled_dot_product_attention(query=self.query, key=k, value=k)
        return torch.cat([mixed.flatten(1), learned.flatten(1)], 1)


class Broadcast(nn.Module):
    """Products with stacks of constant matrices, and everything that broadcasts."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Parameter(torch.randn(5, 3, 4))
        self.row = nn.Parameter(torch.randn(4))

    def forward(self, x):
        whole = (self.stack @ x.view(-1)).view(1, -1)
        other = (x.squeeze(0) @ self.stack.transpose(1, 2)).view(1, -1)
        third = (self.stack @ x.view(4, 1)).view(1, -1)
        dots = F.linear(x, self.row).view(1, 1) + F.linear(x.view(1, 2, 2), self.row[:2])
        clipped = x.clamp(max=torch.full((5, 4), 1e6)).view(1, -1)
        outer = x.view(1, 4, 1) * x.view(1, 1, 4) + x.view(4, 1) @ x.view(1, 4)
        summed = outer.sum((1, 2)).view(1, 1) + outer.mean(dim=(1, 2), keepdim=True).view(1, 1)
        return torch.cat([whole, other, third, dots, clipped, outer.flatten(1), summed], 1)


class Attributes(nn.Module):
    """Views by attributes."""

    def forward(self, x):
        square = x.view(-1, 2, 2)
        return (x.real * 3 + 5 * x.data) + (square.mT + square.mH).reshape(-1, 4)


class Shapes(nn.Module):
    """Does what shapes and types tell it to."""

    def __init__(self):
        super().__init__()
        self.w = nn.Linear(4, 4)
        self.net = nn.LSTM(2, 2, batch_first=True)
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, x, mask=None):
        assert x.shape[-1] == 4
        if x.dim() == 2 and len(x) > 0 and x.size(1) == 4 and x.dtype.is_floating_point:
            x = self.w(x.to(self.w.weight.dtype).type_as(self.w.weight))
        batch = x.numel() // x.shape[-1]
        start = x.new_zeros(1, batch, 2), torch.zeros_like(x[:, :2]).view(1, -1, 2)
        states, (last, _) = self.net(x.view(len(x), 2, 2), start)
        few = x.index_select(1, self.order).detach() + F.elu(x[:, :3], 1.5)
        soft = F.softplus(few, beta=2.0) - F.hardtanh(few) + F.leaky_relu(few, 0.2)
        wide = x.view(batch, 1, 4).expand(batch, 3, 4).reshape(batch, 12)
        return torch.cat([states.flatten(1), last[0], soft, wide, wide.repeat(1, 2)], 1)


class Split(nn.Module):
    """Slices, chunks, stacks and constants, as users write them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        c = F.linear(torch.stack([a, b], dim=1), self.weight)
        d = c[:, 0] / 3 - 1.5 * F.gelu(c[:, 1], approximate="tanh")
        return torch.cat([-d, 1 - a * b, F.softmax(a, dim=1), x[:, :1] * b], dim=1)


def seeded(factory):
    torch.manual_seed(0)
    module = factory()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            # torch starts the biases of attention and normalisation at 0, and weights at 1.
            if parameter.ndim == 1:
                parameter.normal_()
            elif "query" not in name:
                parameter.mul_(2.0)
    return module.double().eval()


def chain(*factories):
    return lambda: nn.Sequential(*(factory() for factory in factories))


def normed():
    layer = nn.BatchNorm1d(4)
    layer.running_mean.copy_(torch.arange(4.0))
    layer.running_var.copy_(torch.tensor([0.1, 1.0, 4.0, 0.5]))
    return layer


ACTIVATION_MODULES = [
    nn.ReLU, nn.LeakyReLU, lambda: nn.LeakyReLU(-1.7), nn.PReLU, nn.Sigmoid, nn.Tanh, nn.Softplus,
    lambda: nn.Softplus(3.0), nn.GELU, lambda: nn.GELU("tanh"), nn.SiLU, nn.ELU,
    lambda: nn.ELU(2.5), nn.CELU, nn.SELU, nn.Mish, nn.ReLU6, nn.Softsign, nn.LogSigmoid,
    nn.Tanhshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, lambda: nn.Softmax(dim=1),
    nn.Identity, nn.Dropout,
]  # fmt: skip
# name: module, shape of its input.
MODULES = {
    **{f"{f()}": (f, (4,)) for f in ACTIVATION_MODULES},
    "Linear": (lambda: nn.Linear(4, 3), (4,)),
    "Linear on tokens": (lambda: nn.Linear(3, 2), (4, 3)),
    "Linear without bias": (lambda: nn.Linear(4, 3, bias=False), (4,)),
    "MLP": (chain(lambda: nn.Linear(4, 8), nn.SiLU, lambda: nn.Linear(8, 4)), (4,)),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1), (2, 5)),
    "Conv1d strided": (lambda: nn.Conv1d(2, 4, 3, stride=2, dilation=2, groups=2), (2, 9)),
    "Conv2d": (lambda: nn.Conv2d(1, 2, 2, padding=1), (1, 3, 3)),
    "Conv3d": (lambda: nn.Conv3d(1, 2, 2), (1, 2, 3, 2)),
    "BatchNorm1d": (normed, (4,)),
    "LayerNorm": (lambda: nn.LayerNorm(4, eps=1e-2), (4,)),
    "LayerNorm on tokens": (lambda: nn.LayerNorm((2, 3), eps=1e-3), (4, 2, 3)),
    "LayerNorm plain": (lambda: nn.LayerNorm(3, eps=1e-1, elementwise_affine=False), (3,)),
    "residual, product, concatenation": (Gated, (4,)),
    "matrix products": (Series, (4,)),
    "slices and constants": (Split, (4,)),
    "in place": (InPlace, (4,)),
    "attention by hand": (Attention, (6,)),
    "fused attention": (Fused, (6,)),
    "MultiheadAttention": (Cross, (3, 4)),
    "shared keys": (Shared, (6,)),
    "broadcasting": (Broadcast, (4,)),
    "attributes": (Attributes, (4,)),
    "shapes": (Shapes, (4,)),
    **{
        f"{cls.__name__} on sequences, batch_first={first}": (
            lambda cls=cls, args=args, first=first: Sequences(
                cls(*args, batch_first=first), 3, 2, first
            ),
            (6 * args[0],),
        )
        for cls, args in (
            (nn.RNN, (2, 3)),
            (nn.LSTM, (2, 3)),
            (nn.MultiheadAttention, (4, 2)),
            (nn.TransformerEncoderLayer, (4, 2, 8)),
        )
        for first in (False, True)
    },
    "RNN": (lambda: Recurrent(nn.RNN), (4,)),
    "RNN relu": (lambda: Recurrent(nn.RNN, nonlinearity="relu", num_layers=2), (4,)),
    "LSTM": (lambda: Recurrent(nn.LSTM), (4,)),
    "LSTM bidirectional": (lambda: Recurrent(nn.LSTM, bidirectional=True, bias=False), (4,)),
    "LSTM states": (LastState, (3, 2)),
    "encoder layer": (Encoder, (4,)),
    "encoder layer, norm first": (lambda: Encoder(norm_first=True, activation=F.gelu), (4,)),
}


@pytest.mark.parametrize("n_pairs", [3000, *exhaustive(100_000)])
@pytest.mark.parametrize("name", MODULES)
def test_certificates_hold(name, n_pairs):
    """No certificate is broken by many pairs in any norm; random ones, and by gradient ascent."""
    factory, shape = MODULES[name]
    module = seeded(factory)
    certificates = [polynomial_lipschitz(module, norm, input_shape=shape) for norm in NORMS]
    if factory is Broadcast:  # for one input at a time
        module = torch.vmap(lambda row, call=module: call(row[None])[0])
    found = worst(module, shape, certificates, n_pairs)
    assert max(found.values()) <= SLACK
    assert min(found.values()) > 0.0


@pytest.mark.parametrize(
    ("name", "norms"),
    [("Linear", NORMS), ("ReLU()", NORMS), ("Tanh()", NORMS), ("Softmax(dim=1)", ("l1", "linf"))],
)
def test_sharp_rules_are_reached(name, norms):
    """Where a constant is the best possible the attack comes near it, so it is a real one."""
    factory, shape = MODULES[name]
    module = seeded(factory)
    found = worst(
        module, shape, [polynomial_lipschitz(module, norm, input_shape=shape) for norm in norms]
    )
    assert min(found.values()) > 0.9


class Doubled(nn.Module):
    """Twice the input."""

    def forward(self, x):
        return 2 * x


class Mixer(nn.Linear):
    """A linear layer with a rule of its own."""


@pytest.fixture
def rules():
    """Registered rules are forgotten after a test."""
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("cls", "make", "wrong"),
    [
        (Mixer, lambda: Mixer(4, 4), lambda m, s, n: lipschitz(0.9 * _spectral(m), _bias(m, n), n)),
        (nn.GELU, nn.GELU, lambda m, s, n: elementwise(1.0, norm=n)),
        (nn.Softmax, lambda: nn.Softmax(1), lambda m, s, n: lipschitz(0.4, 1.0, n)),
        (Doubled, Doubled, lambda m, s, n: identity(n)),
        (nn.Sigmoid, nn.Sigmoid, lambda m, s, n: lipschitz(0.25, norm=n)),  # forgets f(0)
    ],
)
def test_wrong_rules_are_caught(cls, make, wrong, norm, rules):
    """The attack that finds nothing wrong with our rules does find wrong ones."""
    register_rule(cls)(wrong)
    module = seeded(make)
    certificate = PolynomialLipschitz(*_pair(wrong(module, (1, 4), norm)), norm)
    assert worst(module, (4,), [certificate])[norm] > SLACK


def _pair(certificate):
    return certificate.P, certificate.B


def _spectral(module):
    return float(torch.linalg.matrix_norm(module.weight.detach(), 2)) / 2


def _bias(module, norm):
    return float(torch.linalg.vector_norm(module.bias.detach(), 1))


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"identity", "logistic", "gelu_tanh"}))
def test_slopes_of_activations(name):
    """The largest slope is what a fine grid says, and not more than a ten-thousandth above it."""
    u = torch.linspace(-30, 30, 600_001, dtype=torch.float64, requires_grad=True)
    function = getattr(F, name, None) or getattr(torch, name)
    (slope,) = torch.autograd.grad(function(u).sum(), u)
    values = function(u).detach()
    largest, at_zero, bound = ACTIVATIONS[name]
    assert float(slope.abs().max()) <= largest * (1 + 1e-7) <= float(slope.abs().max()) + 1e-4
    assert abs(float(function(torch.zeros(1))) ** 2 - at_zero**2) < 1e-6
    if bound is not None:
        assert float(values.abs().max()) <= bound


# -- laws, on polynomials with integer coefficients, where arithmetic is exact ---------------------


def increasing(*coefficients):
    """Return the exact certificate of t ↦ Σ cₖ tᵏ on t ≥ 0: P is its derivative."""
    f = Polynomial(coefficients)
    return PolynomialLipschitz(f.deriv(), f)


MAPS = [
    increasing(0, 1),
    increasing(3),
    increasing(1, 2),
    increasing(0, 0, 1),
    increasing(2, 0, 5, 1),
]


def same(first, second):
    return all(
        np.array_equal(getattr(first, k).trim().coef, getattr(second, k).trim().coef) for k in "PB"
    )


@pytest.mark.parametrize(("f", "g"), list(itertools.product(MAPS, MAPS)))
def test_calculus_is_that_of_derivatives(f, g):
    """Composition is the chain rule, multiply the product rule, add the sum rule, exactly."""
    whole = compose(f, g)
    assert same(whole, PolynomialLipschitz(f.B(g.B).deriv(), f.B(g.B)))
    assert same(multiply(f, g), PolynomialLipschitz((f.B * g.B).deriv(), f.B * g.B))
    assert same(add(f, g), PolynomialLipschitz((f.B + g.B).deriv(), f.B + g.B))
    assert same(residual(f), add(identity(), f))
    assert same(scale(f, 3.0), add(f, f, f))


@pytest.mark.parametrize(("f", "g", "h"), list(itertools.product(MAPS[1:4], MAPS[2:], MAPS[2:])))
def test_laws(f, g, h):
    """Composition is associative with a unit; products and sums commute and distribute."""
    assert same(compose(compose(f, g), h), compose(f, compose(g, h)))
    assert same(compose(f, identity()), f)
    assert same(compose(identity(), f), f)
    assert same(multiply(f, g), multiply(g, f))
    assert same(multiply(multiply(f, g), h), multiply(f, multiply(g, h)))
    assert same(multiply(f, add(g, h)), add(multiply(f, g), multiply(f, h)))
    assert same(compose(add(f, g), h), add(compose(f, h), compose(g, h)))


@pytest.mark.parametrize("norm", NORMS)
def test_concatenation(norm):
    """Coefficients are stacked in the norm: sum, root of squares, largest; grouping is free."""
    f, g = lipschitz([3, 1], 5, norm), lipschitz([4], 12, norm)
    both = concatenate(f, g)
    expected = {"l1": (7, 1, 17), "l2": (5, 1, 13), "linf": (4, 1, 12)}[norm]
    np.testing.assert_allclose([*both.P.coef, both.B.coef[0]], expected)
    nested, flat = concatenate(concatenate(f, g), f), concatenate(f, g, f)
    np.testing.assert_allclose(nested.P.coef, flat.P.coef)


def test_certificates_refuse_nonsense():
    """Negative or infinite coefficients, mixed norms and unknown norms raise."""
    with pytest.raises(ValueError, match="must be finite and not negative"):
        PolynomialLipschitz([1, -1], [0])
    with pytest.raises(ValueError, match="must be finite"):
        PolynomialLipschitz([np.nan], [0])
    with pytest.raises(ValueError, match="norm='l3'"):
        PolynomialLipschitz([1], [0], "l3")
    with pytest.raises(ValueError, match="only those in one norm"):
        compose(identity("l1"), identity("l2"))
    with pytest.raises(ValueError, match="no certificates"):
        concatenate()
    assert repr(constant(2.0)) == "PolynomialLipschitz(P=0, B=2, norm='l2')"


# -- walking ---------------------------------------------------------------------------------------


class Cosine(nn.Module):
    """Calls another function without a rule."""

    def forward(self, x):
        return 5 * torch.cos(x)


class Unknown(nn.Module):
    """Calls a function without a rule."""

    def forward(self, x):
        return torch.exp(x)


class Branching(nn.Module):
    """Its graph depends on the values."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


class Dividing(nn.Module):
    """Divides by what may be 0."""

    def forward(self, x):
        return 1 / x


class Picking(nn.Module):
    """Repeats entries."""

    def forward(self, x):
        return x[:, [0, 0, 1]]


class Weights(nn.Module):
    """Uses the weights of attention."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[1]


class Started(nn.Module):
    """Starts a recurrent network from a state of its own."""

    def __init__(self, named=False):
        super().__init__()
        self.net, self.named = nn.RNN(2, 3, batch_first=True), named
        self.start = nn.Parameter(torch.ones(1, 1, 3))

    def forward(self, x):
        if self.named:
            return self.net(x, hx=self.start)[0]
        return self.net(x, self.start)[0]


class Changing(nn.Module):
    """Changes its input before it uses it again."""

    def __init__(self, how):
        super().__init__()
        self.how, self.relu = how, nn.ReLU(inplace=True)

    def forward(self, x):
        if self.how == "view":
            flat = x.view(-1, 2)
            flat += 3.0
            return flat.view(-1, 4) * x
        return self.relu(x) * x


class Calling(nn.Module):
    """Does to a layer's output, or its input, what it is told."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Linear(4, 4), function

    def forward(self, x):
        return self.function(self.layer(x), x)


def ignoring(change):
    """Change a tensor in place, and return it."""

    def function(y, x):
        change(y, x)
        return y

    return Calling(function)


class Selu(nn.Module):
    """Has its output changed by a module in place."""

    def __init__(self):
        super().__init__()
        self.layer, self.act = nn.Linear(4, 4), nn.SELU(inplace=True)

    def forward(self, x):
        y = self.layer(x)
        self.act(y)
        return y


class Stateful(nn.Module):
    """Remembers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("b", torch.ones(4))

    def forward(self, x):
        self.b += 1.0
        return x * self.b


class Scaled(nn.Conv1d):
    """Overrides what forward calls."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, 10 * weight, bias)


class Thrown(nn.TransformerEncoderLayer):
    """Overrides a block."""

    def _ff_block(self, x):
        return 10 * super()._ff_block(x)


def swapped(**modules):
    """Return an encoder layer of which parts are something else."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    for name, module in modules.items():
        setattr(layer, name, module)
    return layer


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (ignoring(lambda y, x: y.mul_(10)), (4,), "'mul_'"),
        (ignoring(lambda y, x: F.elu_(y, 50.0)), (4,), "elu"),
        (ignoring(lambda y, x: F.relu(y, True)), (4,), "in place"),
        (ignoring(lambda y, x: F.silu(y, inplace=True)), (4,), "in place"),
        (ignoring(lambda y, x: y[:, :2].mul_(10.0)), (4,), "'mul_'"),
        (ignoring(lambda y, x: y.copy_(7 * x)), (4,), "'copy_'"),
        (ignoring(lambda y, x: torch.mul(y, 10.0, out=y)), (4,), "out="),
        (Selu(), (4,), "in place"),
        (Stateful(), (4,), "remember|changes its buffers"),
        (Calling(lambda y, x: y - y.sum(0)), (4,), "samples of a batch together"),
        (nn.LSTM(2, 3), (4, 2), "batch_first=False"),
        (Calling(lambda y, x: F.dropout(y, 0.5)), (4,), "dropout that is on"),
        (Calling(lambda y, x: F.softmax(y)), (4,), "without dim"),
        (nn.Softmax(), (2, 3), "without dim"),
        (Calling(lambda y, x: (y * 1j).abs()), (4,), "complex"),
        (Calling(lambda y, x: y.imag), (4,), "imag"),
        (Calling(lambda y, x: torch.einsum("bi,bj->bij", y, x)), (4,), "'einsum'"),
        (Calling(lambda y, x: y.index_select(1, torch.tensor([0, 0]))), (4,), "repeats entries"),
        (Calling(lambda y, x: y.sum(1, True, dtype=torch.int64).double()), (4,), "int64|arguments"),
        (Calling(lambda y, x: (100 * y).to(torch.int64).double()), (4,), "int64"),
        (Calling(lambda y, x: y.view(torch.int64)), (4,), "int64"),
        (Calling(lambda y, x: y / 0.0), (4,), "constant with NaN or infinity"),
        (Calling(lambda y, x: F.leaky_relu(y, 0.1, True)), (4,), "inplace=True"),
        (Calling(lambda y, x: {"out": y}), (4,), "returns a immutable_dict"),
        (Calling(lambda y, x: None), (4,), "returns a NoneType"),
        (Calling(lambda y, x: y + torch.tensor([-np.inf] * 4)), (4,), "NaN or infinity"),
        (Calling(lambda y, x: torch.pow(y, 0.5)), (4,), "exponent 0.5"),
        (Calling(lambda y, x: y ** torch.ones(4)), (4,), "exponent"),
        (Calling(lambda y, x: torch.div(y, 2, rounding_mode="floor")), (4,), "such arguments"),
        (Calling(lambda y, x: y.float() @ torch.eye(4)), (4,), "cast no tensors"),
        (Calling(lambda y, x: y.clamp(min=x)), (4,), "limits that depend"),
        (Scaled(2, 2, 1), (2, 3), "no rule|cannot be traced"),
        (Thrown(4, 2, 8, batch_first=True), (2, 4), "no rule|cannot be traced"),
        (
            swapped(self_attn=nn.Identity()),
            (2, 4),
            "Identity.*no attribute|Identity as its attention",
        ),
        (swapped(dropout=nn.ELU(5.0)), (2, 4), "something else than Dropout"),
        (nn.Bilinear(4, 4, 2), (4,), "takes input2|no rule"),
    ],
)
@pytest.mark.filterwarnings("ignore:Implicit dimension choice:UserWarning")
@pytest.mark.filterwarnings("ignore:The use of `x.T` on tensors:UserWarning")
def test_what_could_not_be_true_is_refused(module, shape, message):
    """Nothing that a review found to be certified wrongly, or unclearly refused, is."""
    with pytest.raises(ValueError, match=message):
        polynomial_lipschitz(module, input_shape=shape)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_modules():
    """What torch.compile and DataParallel wrap is found; a ScriptModule cannot be followed."""
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    expected = repr(polynomial_lipschitz(module))
    assert repr(polynomial_lipschitz(torch.compile(module))) == expected
    assert repr(polynomial_lipschitz(nn.DataParallel(module))) == expected
    with pytest.raises(ValueError, match="ScriptModule"):
        polynomial_lipschitz(torch.jit.script(nn.ReLU()), input_shape=(4,))


class Keeping(nn.Module):
    """Keeps a tensor that it computed."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        self.kept = self.layer(x)
        return self.kept


def test_modules_that_cannot_be_copied():
    """Tensors with gradients, no memory, no weights yet: said clearly."""
    keeping = Keeping()
    keeping(torch.ones(1, 4))
    for module, message in [
        (keeping, "cannot be copied.*no_grad"),
        (nn.Linear(4, 4, device="meta"), "cannot be copied"),
        (nn.LazyLinear(4), "uninitialized"),
    ]:
        with pytest.raises(ValueError, match=f"(?s){message}"):
            polynomial_lipschitz(module, input_shape=4)


def test_bounds_that_overflow_are_not_wrong_rules():
    """Cubes of cubes leave float64 at large probes, which contradicts nothing."""

    class Cubes(nn.Module):
        def forward(self, x):
            for _ in range(5):
                x = x**3 / 10
            return x

    assert polynomial_lipschitz(Cubes(), input_shape=np.int64(4)).degree == 242


@pytest.mark.parametrize("baseline", [None, "affine", "taylor3"])
def test_exported_modules_are_certified(baseline):
    """The module of a model has the certificate's rules too, and both certificates hold."""
    region = make_region("2x2-first", random_state=0)
    model = NeuralInverseRegressor(8, baseline=baseline, max_iter=5, random_state=0)
    model.fit(region.data, region.target)
    for n_refine in (0, 1):
        module = to_module(model, n_refine, dtype="float64")
        certificates = [polynomial_lipschitz(module, norm, input_shape=(4,)) for norm in NORMS]
        assert max(worst(module, (4,), certificates, n_pairs=2000).values()) <= SLACK


def test_masks_that_depend_on_the_input():
    """A mask computed from the input has no rule; a constant one has."""
    attention = nn.MultiheadAttention(4, 2, batch_first=True)

    class Masked(nn.Module):
        def __init__(self, own):
            super().__init__()
            self.attention, self.own = attention, own
            self.register_buffer("mask", torch.tensor([[0.0, -np.inf], [0.0, 0.0]]))

        def forward(self, x):
            mask = (x @ x.transpose(1, 2))[0] if self.own else self.mask
            direct = F.scaled_dot_product_attention(x, x, x, attn_mask=mask)
            return direct + self.attention(x, x, x, attn_mask=mask)[0]

    assert polynomial_lipschitz(Masked(False), input_shape=(2, 4)).degree == 2
    with pytest.raises(ValueError, match="mask that depends on the input"):
        polynomial_lipschitz(Masked(True), input_shape=(2, 4))


def test_global_generator_is_left_alone():
    """Certifying draws nothing from torch's global generator."""
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.ReLU())
    state = torch.random.get_rng_state()
    polynomial_lipschitz(network)
    assert torch.equal(state, torch.random.get_rng_state())


def test_polynomials_with_a_domain():
    """What Polynomial.fit returns is taken in t itself."""
    mapped = Polynomial([1, 2], domain=[0, 2])  # −1 + 2t
    with pytest.raises(ValueError, match="not negative"):
        PolynomialLipschitz(mapped, [0])
    assert PolynomialLipschitz(Polynomial([3, 2], domain=[0, 2]), [0]).P(5.0) == 11.0


class Tripled(nn.Linear):
    """A linear layer that is not what its class says."""

    def forward(self, x):
        return 3.0 * super().forward(x)


def hooked():
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, args, out: 10 * out)
    return layer


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (Changing("view"), (4,), "in place|something else than its forward"),
        (nn.Linear(4, 4), (3,), "fails on a float64 input of shape \\(1, 3\\).*right input_shape"),
        (Changing("module"), (4,), "in place"),
        (hooked(), None, "with hooks"),
        (nn.Bilinear(2, 2, 2), (4,), "no rule for Bilinear"),
        (nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.GLU())), (4,), "GLU, module '1.0'"),
        (Unknown(), (4,), "function 'exp'.*register_rule"),
        (Branching(), (4,), "cannot be traced.*register_rule"),
        (Dividing(), (4,), "depends on the input"),
        (Picking(), (4,), "may repeat entries"),
        (Weights(), (3, 4), "weights that MultiheadAttention returns"),
        (Started(), (3, 2), "several arguments"),
        (Started(named=True), (3, 2), "several arguments"),
        (nn.LayerNorm(4, eps=0.0), (4,), "eps=0.0, which is not continuous"),
        (nn.Softplus(threshold=2.0), (4,), "jumps at its threshold"),
        (nn.BatchNorm1d(4, track_running_stats=False), (4,), "more than 1 value per channel"),
        (nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), (1, 4), "padding_mode='circular'"),
        (nn.Flatten(), None, "pass input_shape"),
    ],
)
def test_unknown_modules_are_named(module, shape, message):
    """What has no rule is named, with what to do."""
    with pytest.raises(ValueError, match=f"(?s){message}"):
        polynomial_lipschitz(module, input_shape=shape)


def test_registered_rule_is_used_for_subclasses(rules):
    """A rule holds for a class and those derived from it, and nowhere else."""

    @register_rule(Cosine)
    def cosine(module, shape, norm):
        return elementwise(7.0, 5.0, int(np.prod(shape)), norm)

    class Derived(Cosine):
        pass

    network = nn.Sequential(nn.Linear(3, 3), Derived())
    nn.init.eye_(network[0].weight)
    assert polynomial_lipschitz(network).P(1.0) == pytest.approx(7.0)
    with pytest.raises(TypeError, match="classes of torch modules"):
        register_rule(len)


def test_rules_are_looked_at_twice(rules):
    """A rule that is grossly wrong is noticed on a few inputs."""
    register_rule(Unknown)(lambda module, shape, norm: lipschitz(1.0, 2.0, norm))
    with pytest.raises(ValueError, match="a registered rule is wrong"):
        polynomial_lipschitz(Unknown(), input_shape=(4,))


def test_overridden_forward_is_traced():
    """A class derived from one with a rule is looked into if it computes something else."""
    module = seeded(lambda: Tripled(4, 4))
    plain = nn.Linear(4, 4)
    plain.load_state_dict(module.state_dict())
    assert polynomial_lipschitz(module, input_shape=(4,)).P(0.0) == pytest.approx(
        3 * polynomial_lipschitz(plain).P(0.0)
    )


def test_weights_behind_parametrizations_are_used():
    """Of a layer with spectral normalisation the weights in use count; old forms are refused."""
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4), n_power_iterations=50)
    layer.eval()
    assert polynomial_lipschitz(layer, input_shape=(4,)).P(0.0) == pytest.approx(1.0, abs=0.02)
    with pytest.warns(FutureWarning, match="weight_norm"):
        old = nn.utils.weight_norm(nn.Linear(4, 4))
    pruned = prune.l1_unstructured(nn.Linear(4, 4), "weight", amount=4)
    for layer in (old, pruned):
        with pytest.raises(ValueError, match="with hooks"):
            polynomial_lipschitz(layer)


def test_spline_activation(rules):
    """A cubic spline with linear ends takes a rule of a few lines, and it holds."""
    knots = np.linspace(-3, 3, 7)
    spline = CubicSpline(knots, np.sin(2 * knots), bc_type="natural")
    slopes = spline.derivative()
    grid = np.linspace(-3, 3, 10_001)

    class Spline(nn.Module):
        def forward(self, x):
            inner = x.clamp(-3, 3)
            # A polynomial per piece, by its Taylor coefficients at the left knot.
            k = ((inner.detach() + 3).floor()).clamp(0, 5).long()
            u = inner - torch.tensor(knots)[k]
            c = torch.tensor(spline.c)[:, k]
            value = ((c[0] * u + c[1]) * u + c[2]) * u + c[3]
            ends = torch.where(x > 3, float(slopes(3.0)), float(slopes(-3.0)))
            return value + ends * (x - inner)

    @register_rule(Spline)
    def rule(module, shape, norm):
        largest = np.abs(slopes(grid)).max() * 1.001
        return elementwise(largest, float(spline(0.0)), int(np.prod(shape)), norm)

    module = Spline().double()
    certificates = [polynomial_lipschitz(module, norm, input_shape=(3,)) for norm in NORMS]
    found = worst(module, (3,), certificates, n_pairs=20_000)
    assert 0.9 < max(found.values()) <= SLACK


def test_module_is_left_alone():
    """Certifying changes neither dtype nor mode, and a network in training mode is certified."""
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.ReLU()).train()
    polynomial_lipschitz(network)
    assert network.training
    assert network[0].weight.dtype == torch.float32


def test_roots_with_a_rule():
    """A layer by itself is certified, attention as that of a sequence to itself."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(4, 2, batch_first=True).double().eval()
    certificates = [polynomial_lipschitz(attention, norm, input_shape=(3, 4)) for norm in NORMS]
    found = worst(lambda x: attention(x, x, x)[0], (3, 4), certificates, n_pairs=2000)
    assert max(found.values()) <= SLACK
    lstm = nn.LSTM(2, 3, batch_first=True).double()
    certificates = [polynomial_lipschitz(lstm, norm, input_shape=(5, 2)) for norm in NORMS]
    found = worst(lambda x: lstm(x)[0], (5, 2), certificates, n_pairs=2000)
    assert max(found.values()) <= SLACK
    stack = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2, enable_nested_tensor=False
    )
    stack = stack.double().eval()
    certificates = [polynomial_lipschitz(stack, norm, input_shape=(3, 4)) for norm in NORMS]
    assert certificates[0].degree == 2  # LayerNorm bounds what the second layer gets
    assert max(worst(stack, (3, 4), certificates, n_pairs=2000).values()) <= SLACK


# -- estimators ------------------------------------------------------------------------------------


def fitted_models():
    region = make_region("2x2-first", random_state=0)
    X, Y = region.data, region.target
    for activation, baseline in (("relu", None), ("silu", "affine"), ("tanh", "taylor2")):
        yield NeuralInverseRegressor(
            8, activation, baseline=baseline, max_iter=5, dtype="float64", random_state=0
        ).fit(X, Y)
    yield LinearInverseApprox(region.center, order=3).fit()
    yield LinearInverseApprox(method="lstsq").fit(X)
    for activation in ("relu", "tanh", "logistic", "identity"):
        yield MLPRegressor(
            hidden_layer_sizes=(8, 6),
            activation=activation,
            solver="lbfgs",
            max_iter=20,
            random_state=0,
        ).fit(X, Y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_certificates_of_estimators():
    """Our estimators' and MLPRegressor's certificates hold, on their own predictions."""
    for model in fitted_models():
        certificates = [polynomial_lipschitz(model, norm) for norm in NORMS]

        def function(x, model=model):
            return torch.tensor(model.predict(x.numpy()))

        with torch.no_grad():
            x, y = random_pairs((4,), 20_000, 0)
            for c in certificates:
                quotient, magnitude = ratios(function, x, y, c)
                assert max(float(quotient.max()), float(magnitude.max())) <= 1 + 1e-6, model


def test_wrapped_networks():
    """Skorch nets are certified as their module; what inverts exactly or is no network is not."""
    region = make_region("2x2-first", random_state=0)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    net = NeuralNetRegressor(module, max_epochs=1, train_split=None, verbose=0)
    net.fit(region.data.astype(np.float32), region.target.astype(np.float32))
    assert repr(polynomial_lipschitz(net)) == repr(polynomial_lipschitz(net.module_))
    for model in (
        CertifiedInverse(LinearInverseApprox()).fit(region.data),
        make_pipeline(Ridge()).fit(region.data, region.target),
    ):
        with pytest.raises(ValueError, match=r"what can be certified are"):
            polynomial_lipschitz(model)
