"""No false proof: certificates of modules hold in exact arithmetic, or are refused."""

import math

import pytest
import torch
from lipschitz import NORMS, SLACK, Small, random_pairs, ratios
from torch import nn
from torch.nn import functional as F

from skinv.impossibility import identity, polynomial_lipschitz, register_rule
from skinv.impossibility._rules import RULES

ELSEWHERE = 100 * torch.eye(4, dtype=torch.float64)


def worst_share(function, shape, certificates, reach=1e6):
    """Return the largest share of a certificate that pairs reach, one input at a time."""
    x, y = random_pairs(shape, 60, 1)
    far = 10.0 ** torch.linspace(-3, math.log10(reach), 30, dtype=torch.float64)
    far = far.view(-1, *[1] * len(shape)) * torch.cat([x.sign(), y.sign()])[:30]
    x, y = torch.cat([x, far, far]), torch.cat([y, 1.001 * far, far * y[:30].cos()])

    def one_by_one(rows):
        return torch.cat([function(row[None].clone()).reshape(1, -1) for row in rows])

    with torch.no_grad():
        found = [share for c in certificates for share in ratios(one_by_one, x, y, c)]
    return max(float(share.max()) for share in found)


# What must be refused, and what may be certified if the certificate holds, with the same oracle.
FUNCTIONS = """
torch.full_like(x, x.mean()); torch.full_like(x, F.relu(x.mean() - 1e4))
x.new_full((1, 4), x.sum()); x.new_tensor(F.relu(x - 1e4)); self.w.new_tensor(x)
x.new_tensor([[x.sum(), 1.0]]); self.row.new_full((1, 4), x.mean()); torch.full((1, 4), x.mean())
torch.tensor(x); torch.tensor([x.sum(), x.mean()]); torch.as_tensor(x); torch.arange(x.sum())
torch.linspace(0, x.sum(), 4); torch.empty_like(x); torch.rand_like(x); x.new_empty((1, 4))
torch.zeros_like(x) + x; torch.ones_like(x) * x; x.new_zeros(x.shape) + x; torch.heaviside(x, x)
x.expand(3, 4); x.expand(5, -1).reshape(1, -1); x.repeat(1, 3); torch.tile(x, (3,))
torch.repeat_interleave(x, self.order, dim=1); x.unfold(1, 3, 1); x.as_strided((1, 8), (0, 0))
torch.roll(x, 1, 1); x.flip(1); torch.rot90(x.view(1, 2, 2), 1, (1, 2)); x.view(2, 2).diagonal()
torch.gather(x, 1, self.order[None]); torch.gather(x, 1, 0 * self.order[None])
torch.take(x, self.order); torch.take_along_dim(x, torch.argsort(x), 1); x[:, self.order]; x[x > 0]
x[:, : x.argmax()]; x.view(torch.int64); x.view(torch.float32); x.view(torch.complex128)
x.to(torch.int64); x.to(torch.int64).to(x.dtype); x.type_as(self.order); x.half()
x.float().double(); x.long().double(); x.to(self.w); x.view_as(self.row[None])
self.row.expand_as(x) * x; x.type(torch.int64); F.pad(x, (1, 1)); F.pad(x, (1, 1), value=3.0)
F.pad(x[None], (1, 1), mode="reflect"); F.pad(x, (1, 1), value=x.sum()); x.masked_fill(x > 0, 0.0)
x.masked_fill(self.row > 1, 0.0); x.masked_fill(self.row > 1, 5.0)
x.masked_fill(self.row > 1, x.sum()); torch.where(x > 1e4, 2 * x, x)
x.scatter(1, self.order[None], x); x.index_put((self.order[:1],), x[0])
x.index_fill(1, self.order, 3.0); x.tril(); x.triu(1); x.sort(1)[0]; x.amax(1); x.cumsum(1)
x.sum(x.argmax()); x.norm(); x.clamp(min=self.row); x.clamp(max=torch.ones(3, 4))
x.clamp(-1.0, x.sum()); torch.maximum(x, x); x + self.row.view(4, 1); x * self.row.view(4, 1)
x.view(4, 1) * x; x.view(4, 1) - x; torch.sub(x, self.row, alpha=3); torch.add(x, x, alpha=x.sum())
x * 0.7; x / 3; 0.1 * x * 0.1; F.linear(x, self.w, self.one)
F.linear(x, self.w, self.one.view(1, 1).expand(3, 1)); F.linear(x, self.w[0], self.one)
F.linear(x, self.w, x[0]); F.linear(self.w, x); self.w @ x.view(4, 1)
self.w.view(2, 2, 4) @ x.view(4, 1); self.row[:2] @ x.view(2, 2); x.view(4, 1) @ x
F.scaled_dot_product_attention(*[x.view(1, 2, 2)] * 3, attn_mask=torch.eye(2).double())
F.scaled_dot_product_attention(*[x.view(1, 1, 2, 2)] * 2, x.view(1, 1, 2, 2).expand(3, 1, 2, 2))
F.scaled_dot_product_attention(*[x.view(1, 2, 2)] * 3, scale=x.sum()); F.hardtanh(x, -x.sum(), 3.0)
F.leaky_relu(x, x.sum()); F.leaky_relu(x, float("nan")); F.elu(x, float("nan"))
F.celu(x, float("nan")); F.softplus(x, 1.0, float("nan")); F.softplus(x, x.sum())
F.layer_norm(x, (4,), x[0]); x.apply_(abs); x.requires_grad_(); x.item(); float(x.sum()) * x
x.resize_(1, 2); x * x.stride(0)
"""
SMALL = [text.strip() for text in FUNCTIONS.replace("\n", ";").split(";") if text.strip()]


@pytest.mark.parametrize("text", SMALL)
def test_functions_are_certified_rightly_or_refused(text):
    """Each function of torch on its own: a ValueError, or a certificate that pairs do not break."""
    module = Small(text)
    try:
        certificates = [polynomial_lipschitz(module, norm, input_shape=4) for norm in NORMS]
    except ValueError:
        assert text not in HOLD
    else:
        assert worst_share(module.double().eval(), (4,), certificates) <= SLACK


# Some of them: refusing everything would be no proof of anything.
HOLD = {
    "torch.zeros_like(x) + x", "x.expand(3, 4)", "torch.tile(x, (3,))", "torch.roll(x, 1, 1)",
    "x.unfold(1, 3, 1)", "F.pad(x, (1, 1))", "x.to(self.w)", "self.row.expand_as(x) * x",
    "x.masked_fill(self.row > 1, 0.0)", "x.clamp(max=torch.ones(3, 4))", "x.view(4, 1) - x",
    "x / 3", "F.linear(x, self.w, self.one)", "x.view(4, 1) @ x", "x.repeat(1, 3)",
}  # fmt: skip


# -- state -----------------------------------------------------------------------------------------


class Stateful(nn.Module):
    """Does something to what it holds, or to what is elsewhere, beside computing."""

    count = 0
    shared = torch.ones(4, dtype=torch.float64)

    def __init__(self, change):
        super().__init__()
        self.w, self.change = nn.Parameter(100 * torch.eye(4)), change
        self.register_buffer("mean", torch.zeros(4))
        self.part, self.seen, self.scale = nn.Linear(4, 4), [], 1.0
        self.settings = {"scale": [1.0]}

    def forward(self, x):
        y = F.linear(x, self.w) + self.part(x) + F.linear(x, ELSEWHERE)
        self.change(self, x)
        return y


CHANGES = {
    "clamps weights": lambda self, x: self.w.data.clamp_(-1, 1),
    "of a part": lambda self, x: self.part.weight.mul_(0.5),
    "a new parameter": lambda self, x: setattr(self, "w", nn.Parameter(self.w.data * 0.5)),
    "new data": lambda self, x: setattr(self.w, "data", torch.eye(4).double()),
    "through NumPy": lambda self, x: self.mean.numpy().fill(1.0),
    "a buffer": lambda self, x: self.mean.add_(1.0),
    "a counter": lambda self, x: setattr(self, "scale", self.scale + 1),
    "a list": lambda self, x: self.seen.append(1),
    "nested": lambda self, x: self.settings["scale"].__setitem__(0, 2.0),
    "keeps its input": lambda self, x: setattr(self, "last", x),
    "a module": lambda self, x: setattr(self, "part", nn.Linear(4, 4)),
    "the class": lambda self, x: setattr(type(self), "count", type(self).count + 1),
    "a tensor of the class": lambda self, x: type(self).shared.mul_(2.0),
    "a tensor elsewhere": lambda self, x: ELSEWHERE.clamp_(-1, 1),
    "a tensor elsewhere by the input": lambda self, x: ELSEWHERE.add_(x),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_when_called_is_refused(name):
    """A certificate is of a function: whatever forward changes, that outlives the call, refuses."""
    with pytest.raises(ValueError, match=r"changes .*remember|cannot be traced"):
        polynomial_lipschitz(Stateful(CHANGES[name]), input_shape=4)
    assert torch.equal(ELSEWHERE, 100 * torch.eye(4, dtype=torch.float64))


def test_operators_in_place_are_followed():
    """What `+=` does to a view, only beyond the inputs that are tried, is not overlooked."""

    class Aliased(nn.Module):
        def __init__(self, view, twice):
            super().__init__()
            self.view, self.twice = view, twice

        def forward(self, x):
            y = 1.0 * x
            z = self.view(y)
            z += F.relu(2.0 * x - 1e4)
            return y if self.twice else 3.0 * z

    class Registered(nn.Module):
        def forward(self, x):
            return x

    for view in (lambda y: y, lambda y: y.expand(1, 4), lambda y: y[:, :], lambda y: y.data):
        with pytest.raises(ValueError, match="in place"):
            polynomial_lipschitz(Aliased(view, True), input_shape=4)
        certificates = [polynomial_lipschitz(Aliased(view, False), n, input_shape=4) for n in NORMS]
        assert worst_share(Aliased(view, False), (4,), certificates) <= SLACK

    register_rule(Registered)(lambda module, shape, norm: identity(norm))
    try:
        with pytest.raises(ValueError, match="in place"):
            polynomial_lipschitz(Aliased(Registered(), True), input_shape=4)
    finally:
        RULES.pop(Registered)


# -- parameters that are not as the constructor made them ------------------------------------------


def changed(module, **attributes):
    """Return a module with attributes set, tensors as parameters."""
    for name, value in attributes.items():
        owner, _, name = name.rpartition("__")
        target = module.get_submodule(owner)
        setattr(target, name, nn.Parameter(value) if torch.is_tensor(value) else value)
    return module


def three(*shape):
    return torch.full(shape, 3.0)


CHANGED = {
    "Linear, one bias": (lambda: changed(nn.Linear(4, 9), bias=three(1)), (4,)),
    "Linear, a bias per token": (lambda: changed(nn.Linear(4, 2), bias=three(5, 1)), (5, 4)),
    "Linear, a bias that repeats": (lambda: changed(nn.Linear(4, 2), bias=three(3, 1)), (1, 4)),
    "Conv1d, one bias": (lambda: changed(nn.Conv1d(2, 6, 1), bias=three(1)), (2, 3)),
    "ReLU6, higher": (lambda: changed(nn.ReLU6(), max_val=100.0), (4,)),
    "attention, three biases": (
        lambda: changed(nn.MultiheadAttention(4, 2, batch_first=True), in_proj_bias=three(3)),
        (3, 4),
    ),
    "attention, one bias": (
        lambda: changed(nn.MultiheadAttention(4, 2, batch_first=True), out_proj__bias=three(1)),
        (3, 4),
    ),
    "attention, fewer heads": (
        lambda: changed(nn.MultiheadAttention(4, 4, batch_first=True), num_heads=1, head_dim=64),
        (3, 4),
    ),
    "RNN, one bias": (
        lambda: changed(nn.RNN(2, 5, batch_first=True), bias_ih_l0=three(1)),
        (3, 2),
    ),
    "RNN, other activation": (
        lambda: changed(nn.RNN(2, 5, nonlinearity="relu", batch_first=True), nonlinearity="tanh"),
        (3, 2),
    ),
    "LSTM, four biases": (
        lambda: changed(nn.LSTM(2, 5, batch_first=True), bias_hh_l0=three(1)),
        (3, 2),
    ),
    "encoder, other activation": (
        lambda: changed(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True),
            activation=F.tanhshrink,
        ),
        (3, 4),
    ),
    "LeakyReLU, NaN": (lambda: nn.LeakyReLU(math.nan), (4,)),
    "PReLU, NaN": (lambda: changed(nn.PReLU(), weight=torch.tensor([math.nan])), (4,)),
    "CELU, NaN": (lambda: nn.CELU(math.nan), (4,)),
    "Hardtanh, NaN": (lambda: changed(nn.Hardtanh(), max_val=math.nan), (4,)),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_parameters_are_certified_rightly_or_refused(name):
    """Biases that broadcast, settings that were changed: what forward computes is certified."""
    factory, shape = CHANGED[name]
    torch.manual_seed(0)
    module = factory().eval()
    try:
        certificates = [polynomial_lipschitz(module, norm, input_shape=shape) for norm in NORMS]
    except ValueError:
        return
    assert "NaN" not in name
    module = module.double()

    def function(x):
        out = module(x, x, x) if isinstance(module, nn.MultiheadAttention) else module(x)
        return out[0] if isinstance(out, tuple) else out

    assert worst_share(function, shape, certificates) <= SLACK
