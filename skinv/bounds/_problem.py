"""The error of a model over a region as a function on boxes, bounded many at once."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._arrays.shapes import matrix_order
from .._linalg.form import ModelForm
from ._jets import Boxes, inverse_jet, series_jet, underflow
from ._network import Enclosure, Network

# Boxes are bounded in pieces whose largest tensor has about this many numbers.
_PIECE = 2**19
# Where the second order takes more numbers per box than this, the first has to do.
_LARGEST = 2**22
# No error is bounded by less: intermediate results may underflow.
_LEAST = 1e-280
# Smaller weights are as none.
NEGLIGIBLE = 2.0**-900
_EPS, _TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)


class Reach:
    """The region ‖z‖_p <= 1 of coordinates, and its boxes."""

    p: float
    tick: Any  # called after each piece of boxes
    _bound: Any  # what `bound` does, of a piece
    _step: int  # boxes of a piece
    noise = 0.0  # no bound is expected to be closer to the error than this
    extra = 0.0  # what bounds have that is no matter of the search

    def project(self, z: Tensor) -> Tensor:
        """Return points of the region near given ones."""
        if self.p == math.inf:
            return z.clamp(-1, 1)
        size = torch.linalg.vector_norm(z, self.p, dim=1)
        return z / size.clamp(min=1)[:, None] * (1 - 4 * _EPS)

    def clipped(self, z: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes cut to what the ball leaves of their halved sides; a box stays as it is."""
        if self.p == math.inf:
            return z, half
        whole, powers = half == 1, (z.abs() - half).clamp(min=0) ** self.p
        others = powers.sum(1, keepdim=True) - powers
        most = (1 - others).clamp(min=0) ** (1 / self.p) * (1 + 1e-9) + 1e-9
        low, high = torch.maximum(z - half, -most), torch.minimum(z + half, most)
        middle = (low + high) / 2
        narrower = ((high - low) / 2).clamp(min=0) * (1 + 8 * _EPS) + 8 * _EPS
        return torch.where(whole, z, middle), torch.where(whole, half, narrower)

    def outside(self, z: Tensor, half: Tensor) -> Tensor:
        """Tell which boxes certainly miss the region."""
        nearest = (z.abs() - half).clamp(min=0)
        return torch.linalg.vector_norm(nearest, self.p, dim=1) > 1 + 1e-9

    def bound(self, z: Tensor, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bound what is searched for the largest of over boxes, each by (upper, side, corner).

        The bound is proven, and inf where a box could not be shown to be regular; the halving of
        the side promises most; at the corner (b, d) the largest value is expected.
        """
        pieces = []
        for part in zip(z.split(self._step), half.split(self._step), strict=True):
            pieces.append(self._bound(*part))
            self.tick()
        upper, side, corner = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        return upper, side, corner


class Problem(Reach):
    """f(A) − A⁻¹ over a region A = center + z @ directions, ‖z‖_p <= 1.

    Entries of errors are multiplied with weights <= 1, powers of two.
    """

    batch = 64, 2**14  # boxes halved at once, at first and at most

    def __init__(
        self,
        form: ModelForm,
        center: NDArray,
        directions: NDArray,
        norm: str,
        device: Any,
        weight: ArrayLike = 1.0,
    ):
        def tensor(array: NDArray) -> Tensor:
            return torch.tensor(np.asarray(array), dtype=torch.float64, device=device)

        self.p, self.device = {"linf": math.inf, "l2": 2.0, "l1": 1.0}[norm], device
        self.n, self.d = matrix_order(center.size), len(directions)
        self.center, self.directions = tensor(center), tensor(directions)
        # Those that are smaller are rounded up, or to 0.
        weight = np.broadcast_to(weight, center.shape)
        self._weight = tensor(weight.clip(NEGLIGIBLE))
        self._least = tensor(np.where(weight < NEGLIGIBLE, 0.0, weight))
        self._value = tensor(form.constant + (center - form.origin) @ form.matrix)
        self._gradient = tensor(directions @ form.matrix)
        # What intermediate results can amount to, before anything cancels.
        reach = np.abs(directions).sum(axis=0)
        offset = np.abs(center - form.origin) + reach
        lost = 1 + offset.sum()
        magnitude = float(np.max(np.abs(form.constant) + offset @ np.abs(form.matrix), initial=0.0))
        self._series: Any = None
        if form.taylor is not None:
            point, inverse, order = form.taylor
            self._series = tensor(point), tensor(inverse), order
            apart = np.abs(center) + np.abs(point.ravel()) + reach
            growth = (np.abs(inverse) @ apart.reshape(self.n, self.n)).sum(axis=1).max()
            magnitude += float(np.abs(inverse).sum(axis=1).max() * (1 + growth) ** order)
            factors = (1 + apart.sum()) * (1 + np.abs(inverse).sum()) * (1 + growth) ** order
            lost = lost + self.n**2 * factors
        # Without a perceptron, one layer of zeros.
        zeros = torch.zeros_like(self._gradient).T, torch.zeros_like(self._value)
        layers = [(tensor(W), tensor(b)) for W, b in form.layers] or [zeros]
        self.network, widest = Network(layers, form.activation), 0
        if form.layers:
            W, b = layers[0]
            start, turn = (center - form.x_mean) / form.x_scale, directions / form.x_scale
            layers[0] = (W @ tensor(turn).T, b + W @ tensor(start))
            self.network = Network(layers, form.activation)
            inputs = (np.abs(center) + np.abs(form.x_mean) + reach) / form.x_scale
            magnitude += self.network.magnitude(W.abs() @ tensor(inputs) + b.abs())
            widest = max(len(b) for _, b in layers)
            factors = 1 + inputs.sum()
            for W, b in layers:
                factors = factors * (1 + float(W.abs().sum() + b.abs().sum()))
            lost = lost + widest * factors
        self.magnitude = magnitude
        # Sums of so many terms, of no larger numbers, a few times over.
        self._slack = _EPS * (64 + 8 * (self.d + self.n * self.n + widest)) * magnitude + _LEAST
        # Coefficients and products that underflow, or are subnormal in a mode that has none.
        self._slack += 8 * self.d * _TINY * float(lost)
        rows = (np.abs(center) + reach).reshape(self.n, self.n).sum(1)
        self._blur = float(2 * (self.d + 4) * _EPS * rows.max()) + underflow(self.d, self.n)
        numbers = self.d * self.d * self.n * self.n
        self.second = numbers <= _LARGEST
        numbers = max(numbers if self.second else self.d * self.n * self.n, widest * self.n**2)
        self._step = max(1, _PIECE // numbers)
        # A matrix alone is bounded by its error and rounding, which is what may be left of others.
        here = tensor(np.zeros((1, self.d)))
        left = float(self._bound(here, here)[0]) - float(self.errors(here).abs().max())
        self.noise = 2 * left if 0 < left < math.inf else 0.0

    @property
    def tick(self) -> Callable[[], None]:
        """What is called between steps; it may raise to end what is being computed."""
        return self.network.tick

    @tick.setter
    def tick(self, function: Callable[[], None]) -> None:
        self.network.tick = function

    def errors(self, z: Tensor) -> Tensor:
        """Return f(A) − A⁻¹ at points z (b, d), weighted, as rows (b, n*n)."""
        A = (self.center + z @ self.directions).reshape(-1, self.n, self.n)
        value = self._value + z @ self._gradient
        if self._series is not None:
            point, inverse, order = self._series
            X = inverse.expand_as(A)
            for _ in range(order):
                X = inverse - inverse @ ((A - point) @ X)
            value = value + X.reshape(len(z), -1)
        error = value + self.network(z) - torch.linalg.inv_ex(A)[0].reshape(len(z), -1)
        return error * self._least

    def proven(self, found: float, z: Tensor) -> float:
        """Return what the error at a point is at least, less what rounding may have added to it."""
        bound, _, _ = self.bound(z[None], torch.zeros_like(z[None]))
        return max(0.0, found - max(0.0, float(bound[0]) - found))

    def _bound(self, z: Tensor, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, d, n, o = len(z), self.d, self.n, self.n * self.n
        A = (self.center + z @ self.directions).reshape(b, n, n)
        S = (half[:, :, None] * self.directions).reshape(b, d, n, n)
        boxes = Boxes(z, half, A, S, self.p, self._blur)
        inverse, rounding = inverse_jet(boxes, self.second)
        value = self._value + z @ self._gradient - inverse.value.reshape(b, o)
        gradient = half[:, :, None] * self._gradient - inverse.gradient.reshape(b, d, o)
        curvature = None if inverse.curvature is None else -inverse.curvature.reshape(b, d, d, o)
        remainder = inverse.remainder.reshape(b, o)
        if self._series is not None:
            point, known, order = self._series
            series = series_jet(boxes, point, known, order, self.second)
            value = value + series.value.reshape(b, o)
            gradient = gradient + series.gradient.reshape(b, d, o)
            remainder = remainder + series.remainder.reshape(b, o)
            if curvature is not None and series.curvature is not None:
                curvature = curvature + series.curvature.reshape(b, d, d, o)
        if curvature is not None:
            curvature = (curvature + curvature.transpose(1, 2)) / 2
        both, slopes = value.new_full((b, 2 * o), torch.inf), gradient
        for part in self.network.enclosures(boxes):
            high, low = self._extremes(boxes, value, gradient, curvature, part)
            both = torch.minimum(both, torch.cat((high, low), 1))
            slopes = gradient + (part.low_gradient + part.high_gradient) / 2
        # What could not be computed is not bounded.
        both = both + remainder.repeat(1, 2) + self._slack + rounding[:, None]
        both = torch.nan_to_num(both, nan=torch.inf, posinf=torch.inf)
        upper, which = (both * self._weight.repeat(2)).max(1)
        output, sign = which % o, torch.where(which < o, 1.0, -1.0).to(z)
        slope = slopes[torch.arange(b, device=z.device), :, output]
        side = self._side(boxes, inverse.value, output, slope)
        corner = torch.nan_to_num(z + half * slope.sign() * sign[:, None])
        return upper, side, corner

    def _extremes(
        self, boxes: Boxes, value: Tensor, gradient: Tensor, curvature: Any, part: Enclosure
    ) -> tuple[Tensor, Tensor]:
        """Bound the error and its negative from above, but for the remainder of the inverse."""
        low, high = value + part.low, value + part.high
        if part.curvature is not None and curvature is None:
            extra = boxes.size2(part.curvature)
            low, high = low - extra, high + extra
        elif part.curvature is not None:
            curvature = curvature + part.curvature
        opposite = None if curvature is None else -curvature
        return (
            maximum(boxes, high, gradient + part.high_gradient, curvature),
            maximum(boxes, -low, -gradient - part.low_gradient, opposite),
        )

    def _side(self, boxes: Boxes, B: Tensor, output: Tensor, slope: Tensor) -> Tensor:
        """Choose the side whose halving takes most from what is not known, or from the slope."""
        n = self.n
        M = (boxes.S @ B[:, None]).abs()
        Q = boxes.size(M)
        if self.second:
            Q = Q @ Q
        row = B.abs().gather(1, (output // n)[:, None, None].expand(-1, 1, n))[:, 0]
        column = Q.gather(2, (output % n)[:, None, None].expand(-1, n, 1))[:, :, 0]
        doubt = (3 if self.second else 2) * torch.einsum("bi,bkij,bj->bk", row, M, column)
        doubt = torch.nan_to_num(doubt + self.network.doubt(boxes, output), nan=0.0, posinf=1e300)
        return (doubt + 0.5 * slope.abs()).argmax(1)


def maximum(boxes: Boxes, value: Tensor, gradient: Tensor, curvature: Tensor | None) -> Tensor:
    """Bound value + t·gradient + tᵀ(curvature)t over boxes from above.

    Where a slope keeps its sign over a box the maximum is at that side, and t_k = ±1 is put in. Of
    the others squares are dealt with in closed form and products by their absolute values. The
    shapes are (b, o), (b, d, o) and (b, d, d, o), the curvature symmetric.
    """
    if curvature is None:
        return value + boxes.size(gradient)
    if boxes.p < math.inf:
        return value + boxes.size(gradient) + boxes.size2(curvature)
    swing = 2 * curvature.abs().sum(2)
    fixed = gradient.abs() >= swing
    t = gradient.sign() * fixed
    pull = (curvature * t[:, None]).sum(2)
    total = value + (t * (gradient + pull)).sum(1)
    free = (~fixed).to(gradient.dtype)
    slope = (gradient + 2 * pull).abs()
    square = curvature.diagonal(dim1=1, dim2=2).transpose(1, 2)
    inner = (square < 0) & (slope < -2 * square)
    peak = torch.where(inner, slope * slope / (-4 * square).clamp(min=1e-300), slope + square)
    products = (curvature.abs() * free[:, None]).sum(2) - square.abs()
    return total + (free * (peak + products)).sum(1)
