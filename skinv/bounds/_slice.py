"""The residual of a model over a slice of matrices as a function on boxes, bounded many at once.

R(z) = I − A(z) f(A(z)) is a polynomial of the slice's coordinates, plus hidden units that are
affine in them, times A(z). The polynomial is interpolated once, at a grid of Chebyshev points, and
what its coefficients miss, rounding included, is bounded by the values there. On a box the units
are replaced by polynomials, with the errors of these, and the norm of the whole is bounded by those
of its Bernstein coefficients. Matrices are compressed to the few directions that their coefficients
span, so that the work does not depend on their order.
"""

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._linalg.form import ModelForm
from ._bernstein import Conversion, along_axes, chebyshev, from_roots, lebesgue, roots
from ._composite import Composite, Magnitudes
from ._extended import EPS_LONG, LONG, Extended, interpolated
from ._hidden import Hidden
from ._problem import Reach

# Numbers of the largest grid of values, and of the largest tensor of a piece of boxes.
_GRID, _PIECE = 2**26, 2**21
# Boxes halved together cost about so many numbers.
_BATCH = 2**25
# What is cut off the polynomial, of the gap asked for.
_CUT = 0.05
# Gaps that are narrower are no reason for extended precision.
_FINEST = 0.01
# Points that are worked on at once in extended precision.
_FEW = 256
# Points of the grid that tell how large residuals are.
_LOOKED_AT = 2**10
# Directions of matrices that are tried first.
_RANK = 48
_EPS = float(np.finfo(np.float64).eps)
_UP = 1 + 1e-9


class SliceProblem(Reach):
    """‖I − A f(A)‖_F over A = center + z @ directions + E, ‖z‖_p <= 1, |E| <= off entry by entry.

    Entries of residuals are multiplied with 2^weight.
    """

    _compresses = True

    def __init__(
        self,
        form: ModelForm,
        center: NDArray,
        directions: NDArray,
        norm: str,
        device: Any,
        weight: NDArray,
        off: NDArray,
        rtol: float,
        end: float = math.inf,
    ):
        self.model = model = Composite(form, center, directions, device)
        self.n, self.d, self.device = model.n, model.k, device
        self.p = {"linf": math.inf, "l2": 2.0, "l1": 1.0}[norm]
        self.tick: Any = lambda: None
        self._weight = torch.tensor(np.ldexp(1.0, weight), device=device)
        self._eye = torch.eye(self.n, dtype=torch.float64, device=device)
        magnitudes = model.magnitudes()
        self._rounding = self._left(magnitudes)
        if off.any():
            self.extra = self._norm(model.deviation(off))
        self._hidden = Hidden.of(model, self._weight, magnitudes.activations)
        self._extended: Extended | None = None
        coef, self._missed = self._interpolate()
        if self._missed > _CUT * max(rtol, _FINEST) * self._largest and EPS_LONG < _EPS:
            coef = self._refined(coef, Extended(form, center, directions), end)
        self._compress(coef, rtol)
        self._slack = self._rounding + self._missed + self.extra
        self.noise = 2 * (self._rounding + self._missed)

    @np.errstate(all="ignore")  # what overflows proves nothing
    def proven(self, found: float, z: Tensor) -> float:
        """Return what the error at a point is at least, where `found` was computed.

        And at its matrix in double precision, which need not lie on the slice to the last bit.
        """
        lost = self._rounding
        if self._extended is not None:
            where = z.cpu().numpy()
            R = self._extended.residuals(where[None])[0] * self._weight.cpu().numpy()
            if self._hidden is not None:
                value = self.model.hidden(z[None]) @ self.model.weights
                R = R + self._residuals(z[None], value, 0.0)[0].cpu().numpy()
            exact = self._extended.center + where.astype(LONG) @ self._extended.directions
            center, directions = self.model.center.cpu().numpy(), self.model.directions
            off = np.abs(center + where @ directions.cpu().numpy() - exact)
            off = off + 4 * (self.d + 2) * EPS_LONG * (np.abs(exact) + 1)
            lost += self._norm(self.model.deviation(off.astype(np.float64) * _UP))
            found = float(np.sqrt((R * R).sum()))
        return max(found * (1 - (self.n**2 + 8) * _EPS) - lost, 0.0)

    def _left(self, of: Magnitudes, eps: float = _EPS) -> float:
        """Bound what computed residuals are off by, in the Frobenius norm."""
        n, reach = self.n, self.model.directions.abs().sum(0) + self.model.center.abs()
        A = (reach.cpu().numpy() * _UP).reshape(n, n)
        size = eps * of.size + _EPS * of.hidden_size
        blur = 1.01 * (n + self.d + 8) * (A @ size.reshape(n, n)) + 2 * eps
        return self._norm(A @ (of.error + of.hidden_error).reshape(n, n) + blur)

    def _norm(self, entries: NDArray) -> float:
        """Return the weighted Frobenius norm of bounds of entries."""
        entries = entries * self._weight.cpu().numpy().reshape(self.n, self.n)
        scale = float(entries.max(initial=0.0))
        if not 0 < scale < math.inf:
            return math.inf if scale else 0.0
        return float(np.linalg.norm(entries / scale)) * scale * _UP

    def _residuals(self, z: Tensor, value: Tensor, one: float = 1.0) -> Tensor:
        """Return weighted residuals, as rows."""
        product = self.model.matrices(z) @ value.reshape(len(z), self.n, self.n)
        return (one * self._eye - product).reshape(len(z), -1) * self._weight

    def _values(self, z: Tensor) -> Tensor:
        """Return residuals at points z (b, k), as rows in the coordinates of what they span."""
        if self._extended is not None:
            step = max(_PIECE // self._coef[0].numel(), 1)
            return torch.cat([self._by_coefficients(part) for part in z.split(step)])
        return self._residuals(z, self.model(z))

    def errors(self, z: Tensor) -> Tensor:
        """Return norms of residuals at points z (b, k), as (b, 1)."""
        return torch.linalg.vector_norm(self._values(z), dim=1, keepdim=True)

    def _by_coefficients(self, z: Tensor) -> Tensor:
        """Return residuals from coefficients, which have less rounding, as rows."""
        tables = [chebyshev(z[:, i, None], p - 1) for i, p in enumerate(self._coef.shape[:-1])]
        value = along_axes(self._coef, tables).reshape(len(z), -1)
        if self._hidden is not None:
            units, spread = self.model.hidden(z), self._hidden.spread
            value = value + units @ spread[0]
            for i in range(self.d):
                value = value + z[:, i, None] * (units @ spread[i + 1])
        return value + 0 * z[:, :1]  # of constant ones gradients are asked for, too

    def _refined(self, coef: Tensor, extended: Extended, end: float) -> Tensor:
        """Return the same coefficients from extended precision, if there is time for it."""
        degree, k, o = self.model.degree + 1, self.d, self.n**2
        parts = []
        for part in self._grid(degree).split(_FEW):
            if time.monotonic() > end:
                return coef
            found = extended.residuals(part.cpu().numpy())
            parts.append(found * self._weight.cpu().numpy())
        values = np.concatenate(parts)
        found, missed, total = interpolated(values, degree, k)
        self._extended = extended
        self._rounding = self._left(self.model.magnitudes(eps=EPS_LONG), EPS_LONG)
        missed += k * (8 * (degree + 1) ** 2 + o) * EPS_LONG * total + self._rounding
        self._missed = missed * lebesgue(degree) ** k * _UP
        if self._hidden is None:
            self._largest = float(np.sqrt((values * values).sum(axis=1).max()))
        return torch.tensor(found, device=self.device)

    def _grid(self, degree: int) -> Tensor:
        """Return the points that values are interpolated at, (m, k)."""
        line = torch.tensor(roots(degree), device=self.device)
        return torch.cartesian_prod(*[line] * self.d).reshape(-1, self.d)

    def _interpolate(self) -> tuple[Tensor, float]:
        """Return Chebyshev coefficients of the residual but for hidden units, and what they miss.

        That is a polynomial of the same degrees, which is as large as its values at the grid times
        the Lebesgue constants of the axes (Trefethen 2013, "Approximation theory and approximation
        practice", chapter 15).
        """
        degree, k, o = self.model.degree + 1, self.d, self.n**2
        if (degree + 1) ** k * o > _GRID:
            raise ValueError(
                f"Got {k} directions and a model of degree {degree - 1} of matrices of order "
                f"{self.n}, whose residual has more than {_GRID:,} coefficients in a grid: fit a "
                f"model of a lower degree, or pass fewer directions, as a sampler's center_ with "
                f"the first of its axes_."
            )
        grid, line = self._grid(degree), torch.tensor(roots(degree), device=self.device)
        parts = []
        for part in grid.split(max(_PIECE // o, 1)):
            parts.append(self._residuals(part, self.model.polynomial(part)))
            self.tick()
        values = torch.cat(parts)
        some = grid[:: -(-len(grid) // _LOOKED_AT)]
        self._largest = float(torch.linalg.vector_norm(self._values(some), dim=1).max())
        shape = (degree + 1,) * k + (o,)
        values = values.reshape(1, *shape)
        coef = along_axes(values, [from_roots(degree, self.device)] * k)
        off = along_axes(coef, [chebyshev(line, degree)] * k) - values
        missed = float(torch.linalg.vector_norm(off, dim=-1).max())
        total = float(torch.linalg.vector_norm(coef, dim=-1).sum())
        missed += k * (8 * (degree + 1) ** 2 + o) * _EPS * total + self._rounding
        if not math.isfinite(missed):
            return torch.zeros_like(coef[0]), math.inf
        return coef[0], missed * lebesgue(degree) ** k * _UP

    def _compress(self, coef: Tensor, rtol: float) -> None:
        """Cut off what is small, in degrees and in directions, and count it as missed."""
        k, o = self.d, self.n**2
        allowed = _CUT * min(rtol, 1.0) * self._largest / (k + 1)
        size = torch.linalg.vector_norm(coef, dim=-1)
        for i in range(k):
            tail = size.sum(dim=[j for j in range(k) if j != i]) if k > 1 else size
            tail = tail.flip(0).cumsum(0).flip(0)  # of the degrees from each one on
            keep = max(int((tail > allowed).sum()), 1)
            if keep < len(tail):
                self._missed += float(tail[keep]) * _UP
            coef, size = coef.narrow(i, 0, keep), size.narrow(i, 0, keep)
        rows = coef.reshape(-1, o)
        stack = rows if self._hidden is None else torch.cat((rows, self._hidden.rows()))
        generator = torch.Generator().manual_seed(0)
        rank, self._basis, self._growth = _RANK, None, 1.0
        while self._compresses and 2 * rank <= min(o, len(stack)):
            draws = torch.randn(rank + 8, len(stack), generator=generator, dtype=torch.float64)
            Q = torch.linalg.qr((draws.to(stack) @ stack).T)[0]
            lost = float(torch.linalg.vector_norm(stack - (stack @ Q) @ Q.T, dim=1).sum())
            if lost <= allowed:
                self._basis = Q
                off = torch.linalg.matrix_norm(Q.T @ Q - torch.eye(Q.shape[1]).to(Q))
                self._growth = 1 + float(off) + o * Q.shape[1] * _EPS
                total = float(torch.linalg.vector_norm(stack, dim=1).sum())
                r = Q.shape[1]
                self._missed += (lost + 8 * (o + r) * (1 + r**0.5) * _EPS * total) * _UP
                break
            rank *= 2
        self._coef = coef if self._basis is None else coef @ self._basis
        if self._hidden is not None:
            self._hidden.project(self._basis)
        total = float(torch.linalg.vector_norm(self._coef, dim=-1).sum())
        least = 0 if self._hidden is None else min(self._hidden.degree + 1, 5 if k <= 3 else 3)
        self._conversions = [Conversion(max(p - 1, least), self.device) for p in coef.shape[:-1]]
        numbers = math.prod(len(c.nodes) for c in self._conversions) * self._coef.shape[-1]
        numbers += 0 if self._hidden is None else self._hidden.width
        self._step = max(_PIECE // numbers, 1)
        self.batch = 16, min(max(_BATCH // numbers, 16), 2**14)
        growth = math.prod(c.growth for c in self._conversions)
        depth = sum(8 * len(c.nodes) ** 2 for c in self._conversions)
        lost = depth * _EPS * total + (0.0 if self._hidden is None else self._hidden.rounding)
        self._missed += growth * lost * _UP
        self._growth *= math.prod(1 + 2 * c.off for c in self._conversions) * (1 + o * _EPS)

    def _bound(self, z: Tensor, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        control, extra, doubt = self._control(z, half)
        size = torch.linalg.vector_norm(control, dim=-1).reshape(len(z), -1)
        most, where = size.max(1)
        upper = most * self._growth + extra + self._slack
        flat = control.reshape(*size.shape, -1)
        worst = flat[torch.arange(len(z), device=z.device), where]
        along = (flat @ worst[:, :, None])[:, :, 0] / most.clamp(min=1e-300)[:, None]
        side, corner = self._choices(z, half, along.reshape(control.shape[:-1]), where, doubt)
        return torch.nan_to_num(upper * _UP, nan=torch.inf, posinf=torch.inf), side, corner

    def _control(self, z: Tensor, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return Bernstein coefficients (b, …, r), by what residuals may be off in norm, (b,).

        And how much of that each side has, (b, k).
        """
        tables = []
        for i, conversion in enumerate(self._conversions):
            x = z[:, i, None] + half[:, i, None] * conversion.nodes
            tables.append(conversion.back @ chebyshev(x, self._coef.shape[i] - 1))
        control = along_axes(self._coef, tables)
        if self._hidden is None:
            return control, torch.zeros_like(z[:, 0]), torch.zeros_like(z)
        shape = tuple(len(c.nodes) for c in self._conversions)
        powers, extra, doubt = self._hidden.replaced(z, half, shape)
        return (
            control + along_axes(powers, [c.from_powers for c in self._conversions]),
            extra,
            doubt,
        )

    def _choices(
        self, z: Tensor, half: Tensor, along: Tensor, where: Tensor, doubt: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the sides to halve, and the corners where the largest coefficient stands.

        By what is in doubt, and by the second differences of coefficients along the largest one,
        which are what these are off by (b, …).
        """
        shape, bends = along.shape[1:], []
        for i, q in enumerate(shape):
            if q < 3:
                bends.append(torch.zeros_like(z[:, 0]))
                continue
            bend = along.diff(n=2, dim=i + 1).abs().reshape(len(z), -1).amax(1)
            bends.append(bend * (q - 1) / 4)
        side = (torch.stack(bends, dim=1) + doubt).nan_to_num().argmax(1)
        place = torch.stack(torch.unravel_index(where, shape), dim=1)
        last = torch.tensor([max(q - 1, 1) for q in shape], device=z.device)
        return side, torch.nan_to_num(z + half * (2 * place / last - 1))
