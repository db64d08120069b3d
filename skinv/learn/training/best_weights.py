"""The best weights of a fit, to go back to."""

from typing import Any

import numpy as np
import torch

from .batches import row_losses
from .modules import MLP


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
