"""Enclosures of a multilayer perceptron over many boxes at once.

For one hidden layer with a smooth activation: the second-order expansion with Lagrange's remainder.
For ReLU units, and for deeper networks: each activation between two lines, and what that makes of
the output, propagated backward (Zhang et al. 2018, "Efficient neural network robustness
certification with general activation functions", CROWN).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._jets import Boxes

# The second order of a network is explicit where its coefficients are not more numbers than this.
_LARGEST = 2**24
# Upper bounds of |f''|, |f'''| and |f''''| over the whole line, rounded up.
SECOND = {"silu": 0.5000001, "tanh": 0.7698004}
THIRD = {"silu": 0.3085, "tanh": 2.0000001}
FOURTH = {"silu": 0.5000001, "tanh": 4.0859}


def derivatives(x: Tensor, activation: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a smooth activation, "silu" or "tanh", and its first three derivatives."""
    if activation == "tanh":
        t = torch.tanh(x)
        u = 1 - t * t
        return t, u, -2 * t * u, u * (6 * t * t - 2)
    s = torch.sigmoid(x)
    s1 = s * (1 - s)
    s2 = s1 * (1 - 2 * s)
    s3 = s1 * (1 - 6 * s1)
    return x * s, s + x * s1, 2 * s1 + x * s2, 3 * s2 + x * s3


@dataclass
class Enclosure:
    """Two functions of t, |t_k| <= 1, between which the outputs lie.

    low + t·low_gradient + tᵀ(curvature)t <= f(t) <= high + t·high_gradient + tᵀ(curvature)t
    """

    low: Tensor  # (b, o)
    high: Tensor
    low_gradient: Tensor  # (b, d, o)
    high_gradient: Tensor
    curvature: Tensor | None  # (b, d, d, o)


class Network:
    """A perceptron of box coordinates z: layers of a weight (n_out, n_in) and a bias, float64."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]], activation: str):
        self.layers, self.activation = layers, activation
        # Called between steps; it may raise to end what is being computed.
        self.tick: Callable[[], None] = lambda: None
        (W1, _), (W2, _) = layers[0], layers[-1]
        (h, d), o = W1.shape, len(W2)
        numbers = h * o * d * (d + 1) // 2
        self.quadratic = len(layers) == 2 and activation != "relu" and numbers <= _LARGEST
        if self.quadratic:
            # Rows j: weight of unit j in each input, or pair of inputs, times its weight in each
            # output.
            self._first = (W1[:, :, None] * W2.T[:, None, :]).reshape(h, -1)
            self._pairs = k, m = torch.triu_indices(d, d)
            self._second = ((W1[:, k] * W1[:, m])[:, :, None] * W2.T[:, None, :]).reshape(h, -1)

    def enclosures(self, boxes: Boxes) -> Iterator[Enclosure]:
        """Yield one or more enclosures over boxes; each holds, so the best may be taken."""
        if self.quadratic:
            yield self._expansion(boxes)
            return
        yield self._lines(boxes, True)
        if self.activation == "relu" and len(self.layers) > 1:
            yield self._lines(boxes, False)

    def magnitude(self, entering: Tensor) -> float:
        """Bound all intermediate results, by what terms entering the first units amount to."""
        size, largest = entering, float(entering.max())
        for level, (W, b) in enumerate(self.layers[1:], 2):
            if level == len(self.layers):  # squares of the expansion
                size = size + size**2
            size = W.abs() @ size + b.abs()
            largest = max(largest, float(size.max()))
        return largest

    def _units(self, boxes: Boxes) -> tuple[Tensor, Tensor]:
        """Return what enters the first layer's units at the centres, and by how much it varies."""
        W1, b1 = self.layers[0]
        y = boxes.z @ W1.T + b1
        if boxes.p == torch.inf:
            return y, boxes.half @ W1.abs().T
        return y, boxes.size(boxes.half[:, :, None] * W1.T)

    def _expansion(self, boxes: Boxes) -> Enclosure:
        """Expand a network of one hidden layer to second order."""
        W2, b2 = self.layers[1]
        half = boxes.half
        b, d, o = *half.shape, len(b2)
        y, radius = self._units(boxes)
        f, f1, f2, f3 = derivatives(y, self.activation)
        third = self.third(f3, radius)
        error = (third * radius**3 / 6) @ W2.abs().T
        value = f @ W2.T + b2
        gradient = (f1 @ self._first).reshape(b, d, o) * half[:, :, None]
        k, m = self._pairs
        upper = (0.5 * f2 @ self._second).reshape(b, len(k), o)
        upper = upper * (half[:, k] * half[:, m])[:, :, None]
        curvature = upper.new_empty(b, d, d, o)
        curvature[:, k, m], curvature[:, m, k] = upper, upper
        return Enclosure(value - error, value + error, gradient, gradient, curvature)

    def third(self, f3: Tensor, radius: Tensor) -> Tensor:
        """Bound c with f = its second-order expansion ± c·radius³/6, where its f''' is f3."""
        local = f3.abs() + FOURTH[self.activation] * radius / 4  # the remainder of fourth order
        return local.clamp(max=THIRD[self.activation])

    def _relaxed(self, low: Tensor, high: Tensor, parallel: bool) -> tuple:
        """Return slopes and offsets of lines below and above the activation on [low, high]."""
        if self.activation == "relu":
            slope = (high.clamp(min=0) / (high - low).clamp(min=1e-300)).clamp(0, 1)
            slope = torch.where(low >= 0, 1.0, slope)
            crossing = (low < 0) & (high > 0)
            offset = torch.where(crossing, -slope * low, 0.0)
            under = slope if parallel else torch.where(crossing, 1.0 * (high > -low), slope)
            return under, torch.zeros_like(offset), slope, offset
        middle, radius = (low + high) / 2, (high - low) / 2
        f, f1, f2, _ = derivatives(middle, self.activation)
        second = (f2.abs() + THIRD[self.activation] * radius / 3).clamp(max=SECOND[self.activation])
        band = second * radius**2 / 2
        offset = f - f1 * middle
        return f1, offset - band, f1, offset + band

    def _lines(self, boxes: Boxes, parallel: bool) -> Enclosure:
        """Propagate lines backward through all layers."""
        relaxed: list = []
        for depth in range(1, len(self.layers)):
            if depth == 1:
                y, radius = self._units(boxes)
                low, high = y - radius, y + radius
            else:
                part = self._backward(boxes, relaxed, depth)
                low = part.low - boxes.size(part.low_gradient)
                high = part.high + boxes.size(part.high_gradient)
            relaxed.append(self._relaxed(low, high, parallel))
        return self._backward(boxes, relaxed, len(self.layers))

    def _backward(self, boxes: Boxes, relaxed: list, depth: int) -> Enclosure:
        """Enclose the outputs of layer `depth` (1-based) between affine functions of the box."""
        z, half = boxes.z, boxes.half
        out = []
        for upper in (False, True):
            W, bias = self.layers[depth - 1]
            weight, constant = W.expand(len(z), *W.shape), bias.expand(len(z), -1)
            for level in range(depth - 2, -1, -1):
                lines = relaxed[level]
                # Of positive weights the line on the side that is bounded, of negative the other.
                slope, offset, other, other_offset = lines[2:] + lines[:2] if upper else lines
                positive, negative = weight.clamp(min=0), weight.clamp(max=0)
                offsets = positive @ offset[:, :, None] + negative @ other_offset[:, :, None]
                constant = constant + offsets.squeeze(2)
                weight = positive * slope[:, None] + negative * other[:, None]
                W, bias = self.layers[level]
                constant = constant + weight @ bias
                weight = weight @ W
                self.tick()
            value = constant + (weight @ z[:, :, None]).squeeze(2)
            out.append((value, weight.transpose(1, 2) * half[:, :, None]))
        (low, low_gradient), (high, high_gradient) = out
        return Enclosure(low, high, low_gradient, high_gradient, None)

    def __call__(self, z: Tensor) -> Tensor:
        """Return the outputs at points z (b, d)."""
        for W, b in self.layers[:-1]:
            z = z @ W.T + b
            z = z.clamp(min=0) if self.activation == "relu" else derivatives(z, self.activation)[0]
        W, b = self.layers[-1]
        return z @ W.T + b

    def doubt(self, boxes: Boxes, output: Tensor) -> Tensor:
        """Guess for each box how much each side adds to what is not known of its output, (b, d)."""
        if len(self.layers) == 1:
            return torch.zeros_like(boxes.half)
        (W1, _), (W2, _) = self.layers[0], self.layers[-1]
        y, radius = self._units(boxes)
        if len(self.layers) > 2:
            rate = torch.ones_like(radius)
        elif self.activation == "relu":
            low, high = y - radius, y + radius
            crossing = (low < 0) & (high > 0)
            gap = torch.where(crossing, -low * high / (high - low), 0.0)
            rate = W2.abs()[output] * gap / radius.clamp(min=1e-300)
        else:
            f3 = derivatives(y, self.activation)[3]
            rate = W2.abs()[output] * self.third(f3, radius) * radius**2 / 2
        return (rate @ W1.abs()) * boxes.half
