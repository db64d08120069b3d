"""The derivatives of a multilayer perceptron, by formula instead of by autograd.

For networks this small autograd's bookkeeping costs several times what the arithmetic does. Layer
by layer z = W a + b and a' = f(z); backwards, with δ the cotangent of z, ∂W = δᵀa, ∂b = Σδ and the
cotangent of a is δ W. Everything is written into buffers that are made once per batch size, so that
a step allocates nothing and can be captured in a CUDA graph.
"""

from collections.abc import Callable, Sequence

import torch

_aten = torch.ops.aten

# Cotangent of z from that of a = f(z), in place of the former: (gradient, z, a).
_BACKWARD: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]] = {
    "relu": lambda g, z, a: _aten.threshold_backward.grad_input(g, a, 0, grad_input=g),
    "silu": lambda g, z, a: _aten.silu_backward.grad_input(g, z, grad_input=g),
    "tanh": lambda g, z, a: _aten.tanh_backward.grad_input(g, a, grad_input=g),
}
_FORWARD: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "relu": lambda z, out: torch.clamp_min(z, 0, out=out),
    "silu": lambda z, out: _aten.silu.out(z, out=out),
    "tanh": lambda z, out: torch.tanh(z, out=out),
}


class Backprop:
    """Forward and backward passes of a perceptron over batches of one size."""

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],  # the weights of all layers, then their biases
        grads: Sequence[torch.Tensor],  # of these
        activation: str,
        n_rows: int,
    ):
        k = len(parameters) // 2
        self._weights, self._biases = parameters[:k], parameters[k:]
        self._weight_grads, self._bias_grads = grads[:k], grads[k:]
        self._transposed = [W.t() for W in self._weights]
        self._forward, self._backward = _FORWARD[activation], _BACKWARD[activation]
        # z is needed for silu only; the others act in place.
        self._z = [W.new_empty(n_rows, len(W)) for W in self._weights]
        self._a = [z if activation != "silu" else torch.empty_like(z) for z in self._z[:-1]]
        self._delta = [torch.empty_like(z) for z in self._z[:-1]]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs for a batch, in a buffer that the next call overwrites."""
        *hidden, last = range(len(self._weights))
        for i in hidden:
            torch.addmm(self._biases[i], x, self._transposed[i], out=self._z[i])
            self._forward(self._z[i], self._a[i])
            x = self._a[i]
        return torch.addmm(self._biases[last], x, self._transposed[last], out=self._z[last])

    def backward(self, x: torch.Tensor, delta: torch.Tensor) -> None:
        """Write the derivatives of Σ delta · outputs at the batch of the last :meth:`forward`."""
        for i in reversed(range(len(self._weights))):
            below = self._a[i - 1] if i else x
            torch.mm(delta.t(), below, out=self._weight_grads[i])
            torch.sum(delta, 0, out=self._bias_grads[i])
            if i:
                torch.mm(delta, self._weights[i], out=self._delta[i - 1])
                delta = self._delta[i - 1]
                self._backward(delta, self._z[i - 1], self._a[i - 1])


def flatten(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Copy tensors into one flat one, and return it with a view of each in it."""
    flat = torch.cat([t.detach().reshape(-1) for t in tensors])
    return flat, views(flat, tensors)


def views(flat: torch.Tensor, shapes: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Cut a flat tensor into views of the shapes of given tensors."""
    parts = flat.split([t.numel() for t in shapes])
    return [part.view(t.shape) for part, t in zip(parts, shapes, strict=True)]
