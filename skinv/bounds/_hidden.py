"""Hidden units of a slice's residual, as polynomials on boxes, with the errors of these."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.polynomial import polynomial
from torch import Tensor

from ._bernstein import chebyshev, from_roots, roots
from ._composite import Composite, activate

_EPS = float(np.finfo(np.float64).eps)
_UP = 1 + 1e-9
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
        singular = float(torch.linalg.matrix_norm(spread, 2).sum())
        norm = min(norm, singular * (1 + 1e-9) + 16 * n * h * _EPS * norm)
        degree = 4 if k <= 3 else 3 if k == 4 else 2
        largest = torch.tensor(largest, device=weight.device)
        return cls(start, turn, spread, sizes, norm, largest, model.activation, degree)

    @property
    def width(self) -> int:
        """Numbers that are held at once for a point of a box, beside its matrix."""
        return len(self.start) * (self.degree + 3)

    @property
    def rounding(self) -> float:
        """Bound what values are off by."""
        count = 16 * (len(self.start) + (self.degree + 1) ** 2 + 64)
        return count * _EPS * float(self.sizes @ self.largest)

    def rows(self) -> Tensor:
        """Return the matrices that enter, times how much of them there may be."""
        return (self.spread * self.largest[:, None]).reshape(-1, self.spread.shape[-1])

    def project(self, basis: Tensor | None) -> None:
        """Go on in the coordinates of a basis (n², r)."""
        if basis is not None:
            self.spread = self.spread @ basis

    def replaced(
        self, z: Tensor, half: Tensor, points: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return values of polynomials on the grids of boxes, and what these may be off by.

        Values (b, q_1, …, q_k, r), bounds of the errors (b,), in norm, and how much each side has of
        them (b, k).
        """
        b, k = z.shape
        shape = [p.shape[1] for p in points]
        middle, radius = self.start + z @ self.turn, half @ self.turn.abs()
        radius = radius * (1 + 4 * k * _EPS)
        steps = z.new_zeros(b, *[1] * k, 1)  # y − middle, affine on the grid
        for i, p in enumerate(points):
            along = (p - z[:, i, None])[:, :, None] * self.turn[i]
            steps = steps + along.reshape(b, *[shape[i] if j == i else 1 for j in range(k)], -1)
        steps = steps.reshape(b, -1, steps.shape[-1])
        if self.activation == "relu":
            units, error = self._quadratic(middle, radius, steps)
        else:
            units, error = self._smooth(middle, radius, steps)
        values = units @ self.spread[0]
        for i, p in enumerate(points):
            place = [1] * (k + 2)
            place[0], place[i + 1] = b, shape[i]
            part = (units @ self.spread[i + 1]).reshape(b, *shape, -1)
            values = values.reshape(part.shape) + p.reshape(place) * part
        bound = torch.minimum(
            error @ self.sizes, torch.linalg.vector_norm(error, dim=1) * self.norm
        )
        share = (error / radius.clamp(min=1e-300)) * self.sizes
        doubt = (share @ self.turn.abs().T) * half
        norm = bound / (error @ self.sizes).clamp(min=1e-300)
        return values, bound * _UP, doubt * norm[:, None]

    def _smooth(self, middle: Tensor, radius: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolate at Chebyshev points: off by max|f^(s+1)| 2 (r/2)^(s+1) / (s+1)!."""
        s = self.degree
        nodes = torch.tensor(roots(s), device=middle.device)
        found = activate(middle[:, None] + radius[:, None] * nodes[:, None], self.activation)
        coef = from_roots(s, middle.device) @ found  # (b, s + 1, h)
        table = chebyshev(steps / radius.clamp(min=1e-300)[:, None], s)
        units = (table * coef.transpose(1, 2)[:, None]).sum(-1)
        worst, more = (_DERIVATIVES[self.activation][m] for m in (s + 1, s + 2))
        local = derivative(middle, self.activation, s + 1).abs() + more * radius + 1e-9 * worst
        return units, local.clamp(max=worst) * 2 * (radius / 2) ** (s + 1) / math.factorial(s + 1)

    def _quadratic(self, middle: Tensor, radius: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Replace units that may be on or off by a line, or by a parabola.

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
        y = middle[:, None] + steps
        curved = 0.5 * y + y * y / (2 * widest[:, None]).clamp(min=1e-300) + widest[:, None] / 16
        units = torch.where(bent[:, None], curved, slope[:, None] * y + line[:, None])
        return units, torch.where(bent, widest / 16, line)
