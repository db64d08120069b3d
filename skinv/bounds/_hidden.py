"""Hidden units of a slice's residual, as polynomials on boxes, with the errors of these."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import torch
from numpy.polynomial import polynomial
from numpy.polynomial.chebyshev import cheb2poly
from torch import Tensor

from ._bernstein import from_roots, roots
from ._composite import Composite, activate

_EPS = float(np.finfo(np.float64).eps)
_UP = 1 + 1e-9
# Bound of |silu(y) − max(y, 0)|, and what errors are rounded by where they are tiny.
_APART, _TINY = 0.2785, 4e-15
# Upper bounds over the line of the derivatives of order 3 to 6, rounded up.
_DERIVATIVES = {
    "silu": {3: 0.3085, 4: 0.5000001, 5: 0.6585, 6: 1.5000001},
    "tanh": {3: 2.0000001, 4: 4.0859, 5: 16.0001, 6: 52.267},
}


def derivative(y: Tensor, activation: str, order: int) -> Tensor:
    """Return a derivative of an activation, to a share of 1e-9 of its largest magnitude.

    Those of the logistic function are polynomials of its value s, by s' = s(1 − s), and those of
    tanh of its own, by t' = 1 − t². With x·s(x) they are x s⁽ᵐ⁾ + m s⁽ᵐ⁻¹⁾.
    """
    if activation == "tanh":
        return _horner(_derived((1.0, 0.0, -1.0), order), torch.tanh(y))
    s = torch.sigmoid(y)
    logistic = [_horner(_derived((0.0, 1.0, -1.0), m), s) for m in (order, order - 1)]
    return y * logistic[0] + order * logistic[1]


@lru_cache(maxsize=32)
def _derived(rate: tuple[float, ...], order: int) -> tuple[float, ...]:
    """Return the coefficients of the derivative of v of an order, v' = rate(v), lowest first."""
    found = np.array([0.0, 1.0])
    for _ in range(order):
        found = polynomial.polymul(polynomial.polyder(found), rate)
    return tuple(found)


def _horner(coef: tuple[float, ...], v: Tensor) -> Tensor:
    total = torch.full_like(v, coef[-1])
    for c in coef[-2::-1]:
        total = total * v + c
    return total


@dataclass
class Hidden:
    """Σ_j f(y_j(z)) u_j(z), what hidden units add to weighted residuals; y and u are affine."""

    start: Tensor  # (h,): y = start + z @ turn
    turn: Tensor  # (k, h)
    spread: Tensor  # (k + 1, h, r): u = spread[0] + Σ z_i spread[1 + i]
    sizes: Tensor  # (h,): bounds of ‖u_j‖ over the slice
    norm: float  # bound of the spectral norm of (u_1, …, u_h) over the slice
    largest: Tensor  # (h,): bounds of |f(y_j)|
    activation: str
    degree: int  # of the polynomials

    @classmethod
    def of(cls, model: Composite, weight: Tensor, largest: Any) -> "Hidden | None":
        """Return the hidden units of a model, None if it has none."""
        if model.units is None:
            return None
        n, k, (start, turn) = model.n, model.k, model.units
        h = len(start)
        A = torch.cat((model.center[None], model.directions)).reshape(k + 1, 1, n, n)
        spread = -(A @ model.weights.reshape(h, n, n)).reshape(k + 1, h, n * n) * weight
        sizes = torch.linalg.vector_norm(spread, dim=-1).sum(0) * (1 + 4 * n * n * _EPS)
        norm = float(torch.linalg.matrix_norm(spread).sum()) * _UP
        if math.isfinite(norm):
            singular = float(torch.linalg.matrix_norm(spread, 2).sum())
            norm = min(norm, singular * (1 + 1e-9) + 16 * n * h * _EPS * norm)
        else:
            spread, sizes = torch.zeros_like(spread), torch.full_like(sizes, torch.inf)
        degree = 2 if model.activation == "relu" else 4
        largest = torch.tensor(largest, device=weight.device)
        return cls(start, turn, spread, sizes, norm, largest, model.activation, degree)

    @property
    def width(self) -> int:
        """Numbers that are held at once for a box, beside its matrices."""
        return len(self._powers.degrees) * self.spread.shape[-1] * (len(self.spread) + 1)

    @property
    def rounding(self) -> float:
        """Bound what Bernstein coefficients are off by, before they are computed from others."""
        count = 256 * (len(self.start) + (self.degree + 2) ** 2 + 64)
        return count * _EPS * float(self.sizes @ self.largest)

    def rows(self) -> Tensor:
        """Return the matrices that enter, times how much of them there may be."""
        return (self.spread * self.largest[:, None]).reshape(-1, self.spread.shape[-1])

    def project(self, basis: Tensor | None) -> None:
        """Go on in the coordinates of a basis (n², r)."""
        if basis is not None:
            self.spread = self.spread @ basis
        self._powers = Powers(len(self.turn), self.degree + 1, self.start.device)

    def replaced(
        self, z: Tensor, half: Tensor, shape: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return polynomials in the place of units on boxes, and what these may be off by.

        Coefficients (b, *shape, r) of powers of t, where z + half·t are the points of a box, bounds
        of what is missing (b,), in norm, and how much of that each side has (b, k). Powers for
        which there is no place in the shape are bounded by the norms of their coefficients.
        """
        b, k = z.shape
        powers, r = self._powers, self.spread.shape[-1]
        middle, radius = self.start + z @ self.turn, half @ self.turn.abs()
        radius = radius * (1 + 4 * k * _EPS)
        if self.activation == "relu":
            of_unit, error = _parabolas(middle, radius)
        else:
            of_unit, error = self._interpolated(middle, radius)
        # (y − middle) / radius = Σ t_i share_i
        share = half[:, :, None] * self.turn / radius.clamp(min=1e-300)[:, None]
        coef = of_unit[:, powers.degrees[: powers.n_inner]] * powers.monomials(share)
        found = coef @ self.spread.permute(1, 0, 2).reshape(len(self.start), -1)
        found = found.reshape(b, powers.n_inner, k + 1, r)
        total = z.new_zeros(b, len(powers.degrees), r)
        moved = torch.einsum("bk,bakr->bar", z, found[:, :, 1:])
        total[:, : powers.n_inner] = found[:, :, 0] + moved
        for i in range(k):
            total.index_add_(1, powers.times[i], half[:, i, None, None] * found[:, :, i + 1])
        place, kept = powers.places(shape)
        grid = z.new_zeros(b, math.prod(shape), r)
        grid[:, place] = total[:, kept]
        rest = torch.linalg.vector_norm(total[:, ~kept], dim=-1)
        bound = error @ self.sizes
        least = torch.minimum(bound, torch.linalg.vector_norm(error, dim=1) * self.norm)
        missed = torch.einsum("bh,h,bkh->bk", error, self.sizes, share.abs())
        missed = missed * (least / bound.clamp(min=1e-300))[:, None]
        doubt = (self.degree + 1) * missed + rest @ powers.exponents[~kept].to(rest)
        return grid.reshape(b, *shape, r), (least + rest.sum(1)) * _UP, doubt

    def _interpolated(self, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolate at Chebyshev points: off by max|f^(s+1)| 2 (r/2)^(s+1) / (s+1)!."""
        s = self.degree
        nodes = torch.tensor(roots(s), device=middle.device)
        found = activate(middle[:, None] + radius[:, None] * nodes[:, None], self.activation)
        table = np.zeros((s + 1, s + 1))
        for m in range(s + 1):
            table[: m + 1, m] = cheb2poly(np.eye(m + 1)[m])
        to_powers = torch.tensor(table, device=middle.device) @ from_roots(s, middle.device)
        worst, more = (_DERIVATIVES[self.activation][m] for m in (s + 1, s + 2))
        local = derivative(middle, self.activation, s + 1).abs() + more * radius + 1e-9 * worst
        local = local.clamp(max=worst) * 2 * (radius / 2) ** (s + 1) / math.factorial(s + 1)
        coef, error = to_powers @ found, self._coarse(middle, radius)
        flat = error[1] < local  # of units that are steps on the box
        coef[:, :3] = torch.where(flat[:, None], error[0], coef[:, :3])
        coef[:, 3:].masked_fill_(flat[:, None], 0.0)
        return coef, torch.where(flat, error[1], local)

    def _coarse(self, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Replace tanh, which is monotone, by a number, and silu as the ReLU, which it is near."""
        if self.activation == "silu":
            coef, error = _parabolas(middle, radius)
            return coef, error + _APART
        low, high = (torch.tanh(middle + sign * radius) for sign in (-1, 1))
        zeros = torch.zeros_like(low)
        return torch.stack(((low + high) / 2, zeros, zeros), dim=1), (high - low) / 2 * _UP + _TINY


def _parabolas(middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Replace ReLU units that may be on or off by a line, or by a parabola.

    Over [l, u], l < 0 < u, the chord less half of its distance to the kink is off by
    −lu/(2(u − l)); with |y| = y²/M + M/8 ± M/8 over |y| <= M the parabola is off by M/16.
    """
    low, high = middle - radius, middle + radius
    crossing = (low < 0) & (high > 0)
    slope = (high / (high - low).clamp(min=1e-300)).clamp(0, 1)
    line = torch.where(crossing, -slope * low / 2, 0.0)
    slope = torch.where(crossing, slope, (low >= 0).to(low))
    widest = torch.maximum(-low, high)
    bent = crossing & (widest / 16 < line)
    share = torch.where(bent, 0.5 / widest.clamp(min=1e-300), 0.0)  # of y²
    slope = torch.where(bent, 0.5, slope)
    line = torch.where(bent, widest / 16, line)
    value = line + slope * middle + share * middle**2
    first = radius * (slope + 2 * share * middle)
    return torch.stack((value, first, share * radius**2), dim=1), line


class Powers:
    """The monomials of k variables up to a degree, each a lower one times one of the variables."""

    def __init__(self, k: int, degree: int, device: torch.device):
        names: list[tuple[int, ...]] = [()]
        for d in range(1, degree + 1):
            names += combinations_with_replacement(range(k), d)
        index = {name: a for a, name in enumerate(names)}
        exponents = np.array([[name.count(i) for i in range(k)] for name in names])
        self.degrees = torch.tensor(exponents.sum(axis=1), device=device)
        self.exponents = torch.tensor(exponents, device=device)
        inner = [name for name in names if len(name) < degree]
        self.n_inner = len(inner)
        self.times = [  # where each of a lower degree gets to, times a variable
            torch.tensor([index[tuple(sorted((*name, i)))] for name in inner], device=device)
            for i in range(k)
        ]
        ways = [
            math.factorial(len(name)) / math.prod(math.factorial(e) for e in row)
            for name, row in zip(inner, exponents.tolist(), strict=False)
        ]
        self._ways = torch.tensor(ways, dtype=torch.float64, device=device)
        self._levels = []
        for d in range(1, degree):
            level = [name for name in inner if len(name) == d]
            before = torch.tensor([index[name[:-1]] for name in level], device=device)
            last = torch.tensor([name[-1] for name in level], device=device)
            self._levels.append((before, last))

    def monomials(self, share: Tensor) -> Tensor:
        """Return what (Σ t_i share_i)^d has of each monomial of degree d, (b, n_inner, h)."""
        found = torch.ones_like(share[:, :1])
        for before, last in self._levels:
            found = torch.cat((found, found[:, before] * share[:, last]), dim=1)
        return found * self._ways[:, None]

    def places(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return where monomials stand in a flat grid of a shape, and which of them do."""
        sizes = torch.tensor(shape, device=self.exponents.device)
        kept = (self.exponents < sizes).all(1)
        strides = torch.tensor([math.prod(shape[i + 1 :]) for i in range(len(shape))])
        return (self.exponents * strides.to(sizes)).sum(1)[kept], kept
