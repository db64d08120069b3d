"""What happens after each epoch: scores, an early end, and the best weights to go back to."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback

from .batches import output_losses, row_losses
from .modules import MLP


class ValidationScore(Callback):
    """Records R² on the validation set after each epoch, outputs weighted by their variance."""

    def __init__(self, scale: NDArray, variance: float):
        self.scale = scale
        self.variance = variance

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Score the epoch."""
        squares = output_losses(net.module_, (dataset_valid.x, dataset_valid.y))
        squared = float(np.mean(squares.double().cpu().numpy() * self.scale**2))
        score = 1.0 - squared / self.variance if self.variance > 0 else 0.0
        net.history.record("valid_score", score)


class Finished(Callback):
    """Stops where Levenberg-Marquardt has converged, and where the time is over."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Stop as skorch's callbacks do."""
        if net.is_late() or net.has_converged():
            raise KeyboardInterrupt


class BestWeights:
    """The best weights so far, those of the start included.

    Before the first epoch is over nothing is known of their losses; then what is there is compared
    with the start, and with a network of zeros, which leaves the baseline alone.
    """

    def __init__(self, module: MLP) -> None:
        self.loss = np.inf
        self._start = module.copied()
        self._weights: list[torch.Tensor] | None = None

    def offer(self, module: MLP, loss: float) -> None:
        """Keep the weights if their loss is smaller."""
        if loss < self.loss:
            self.loss, self._weights = loss, module.copied()

    def restore(self, module: MLP, dataset: Any) -> None:
        """Give a module the best weights, by their losses on a data set."""
        rows = dataset.sample()
        if self._weights is not None:
            candidates = [self._start, self._weights]
        else:
            zeros = [torch.zeros_like(p) for p in self._start]
            candidates = [self._start, module.copied(), zeros]
        losses = []
        for weights in candidates:
            module.restore(weights)
            loss = float(row_losses(module)(rows).mean())
            losses.append(loss if np.isfinite(loss) else np.inf)
        best = int(np.argmin(losses))
        module.restore(candidates[best])
        if self._weights is None:
            self.loss = losses[best]
