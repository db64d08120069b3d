"""The torch module that is trained: a multilayer perceptron in scaled space."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..._linalg.form import Layers

ACTIVATIONS: dict[str, Callable] = {
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}


class MLP(nn.Module):
    """A multilayer perceptron that starts from given weights, in their dtype.

    Weights come from outside as arrays, so that the same seed gives the same network on every
    device and torch's global generator is never touched.
    """

    def __init__(self, layers: Layers, activation: str):
        super().__init__()
        self.weights = nn.ParameterList(torch.tensor(W) for W, _ in layers)
        self.biases = nn.ParameterList(torch.tensor(b) for _, b in layers)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs of rows of inputs."""
        return mlp_forward(x, tuple(self.weights), tuple(self.biases), self.activation)

    def copied(self) -> dict[str, torch.Tensor]:
        """Copy the parameters, for ``load_state_dict``."""
        return {name: values.clone() for name, values in self.state_dict().items()}

    def joined(self) -> list[torch.Tensor]:
        """Copy the weights with biases as their last columns, for :meth:`write`."""
        pairs = zip(self.weights, self.biases, strict=True)
        return [torch.cat([W.detach(), b.detach()[:, None]], 1) for W, b in pairs]

    def write(self, layers: Sequence[torch.Tensor]) -> None:
        """Take over weights with biases as their last columns, in place."""
        with torch.no_grad():
            for W, b, layer in zip(self.weights, self.biases, layers, strict=True):
                W.copy_(layer[:, :-1])
                b.copy_(layer[:, -1])

    def layers(self) -> Layers:
        """Copy the weights out as arrays."""
        return [
            (W.detach().cpu().numpy().copy(), b.detach().cpu().numpy().copy())
            for W, b in zip(self.weights, self.biases, strict=True)
        ]


def mlp_forward(
    x: torch.Tensor, weights: Sequence, biases: Sequence, activation: str
) -> torch.Tensor:
    """Evaluate a multilayer perceptron, whose weights are (n_out, n_in), on rows."""
    function: Callable[[torch.Tensor], torch.Tensor] = ACTIVATIONS[activation]
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        x = function(nn.functional.linear(x, W, b))
    return nn.functional.linear(x, weights[-1], biases[-1])
