"""Pairs of inputs that try to break a certificate of polynomial Lipschitz continuity."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ORDERS = {"l1": 1, "l2": 2, "linf": float("inf")}
# Room for the rounding of float64 forward passes.
SLACK = 1 + 1e-9
NORMS = tuple(ORDERS)
TINY = 5e-324  # which is no literal where numbers are flushed to zero


class Small(nn.Module):
    """A function of an input of four entries, given as text, with tensors of a module at hand."""

    def __init__(self, text):
        super().__init__()
        self.w = nn.Parameter(torch.arange(16.0).view(4, 4) / 8 - 1)
        self.one = nn.Parameter(torch.tensor([3.0]))
        self.register_buffer("row", torch.arange(4.0))
        self.order, self.tiny = torch.tensor([2, 0, 1, 3]), TINY
        self.text, self.function = text, eval(f"lambda self, x: {text}", {"torch": torch, "F": F})

    def forward(self, x):
        return self.function(self, x)


def flat_norm(x, norm):
    return torch.linalg.vector_norm(x.flatten(1), ORDERS[norm], dim=1)


def bound_of(polynomial, t):
    """Evaluate a polynomial bound by its coefficients, in torch so that gradients pass."""
    value = torch.zeros_like(t)
    for c in reversed(polynomial.coef):
        value = value * t + float(c)
    return value


def ratios(function, x, y, certificate):
    """Return the difference quotient of each pair, and its magnitude, over what is certified."""
    norm = certificate.norm
    t = torch.maximum(flat_norm(x, norm), flat_norm(y, norm))
    fx, fy = function(x), function(y)
    apart = flat_norm(x - y, norm)
    allowed = bound_of(certificate.P, t) * apart
    # What rounding of the two values alone may amount to.
    noise = 1e-13 * (flat_norm(fx, norm) + flat_norm(fy, norm)) + 1e-300
    difference = (flat_norm(fx - fy, norm) - noise).clamp(min=0.0)
    quotient = torch.where(difference > 0, difference / allowed, 0.0)
    return quotient, flat_norm(fx, norm) / (bound_of(certificate.B, t) + 1e-300)


def random_pairs(shape, n_pairs, seed):
    """Return pairs far apart and close, of sizes from 1e-3 to 1e3, some sparse, some extreme."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-3, 3, (n_pairs, 1))
    features = int(np.prod(shape))
    x = rng.standard_normal((n_pairs, features))
    x[::5] = np.sign(x[::5])
    x[1::5] *= rng.random((len(x[1::5]), features)) < 0.3
    y = rng.standard_normal((n_pairs, features))
    near = 10.0 ** rng.uniform(-6, 0, (n_pairs, 1))
    y = np.where(rng.random((n_pairs, 1)) < 0.6, x + near * y, y)
    x, y = (torch.tensor(size * z).reshape(n_pairs, *shape) for z in (x, y))
    return x, y


def ascended_pairs(function, shape, certificate, n_pairs, n_steps, seed):
    """Yield pairs on the way of gradient ascent on the difference quotient over its bound."""
    generator = torch.Generator().manual_seed(seed)
    scale = 10.0 ** torch.linspace(-1.5, 1.5, n_pairs, dtype=torch.float64)
    scale = scale.reshape(-1, *[1] * len(shape))
    x = scale * torch.randn(n_pairs, *shape, generator=generator, dtype=torch.float64)
    d = 1e-2 * scale * torch.randn(n_pairs, *shape, generator=generator, dtype=torch.float64)
    for k in range(n_steps):
        x, d = x.detach().requires_grad_(), d.detach().requires_grad_()
        quotient, _ = ratios(function, x, x + d, certificate)
        yield x.detach(), (x + d).detach()
        gradients = torch.autograd.grad(
            torch.log(quotient + 1e-30).sum(), (x, d), allow_unused=True
        )
        step = 0.3 if k < n_steps // 2 else 0.05
        moved = []
        for z, g in zip((x, d), gradients, strict=True):
            g = torch.zeros_like(z) if g is None else torch.nan_to_num(g)
            size = flat_norm(g, "l2").clamp(min=1e-300).reshape(-1, *[1] * len(shape))
            reach = flat_norm(z, "l2").reshape(-1, *[1] * len(shape))
            moved.append((z + step * reach * g / size).detach())
        x, d = moved


def worst(function, shape, certificates, n_pairs=100_000, seed=0):
    """Return the largest share of each certificate that some pairs reach; above 1 it is broken.

    Nine in ten pairs are random and the same for all norms, the others of gradient ascent, in more
    steps where they are many.
    """
    found = dict.fromkeys((c.norm for c in certificates), 0.0)

    def attack(x, y, c):
        with torch.no_grad():
            shares = ratios(function, x, y, c)
        found[c.norm] = max(found[c.norm], *(float(share.max()) for share in shares))

    n_random, n_steps = int(0.9 * n_pairs), 40 if n_pairs > 10_000 else 15
    pairs = (z.split(10_000) for z in random_pairs(shape, n_random, seed))
    for x, y in zip(*pairs, strict=True):
        for c in certificates:
            attack(x, y, c)
    for c in certificates:
        n_starts = (n_pairs - n_random) // n_steps
        for x, y in ascended_pairs(function, shape, c, n_starts, n_steps, seed):
            attack(x, y, c)
    return found
