"""What happens after each epoch: scores, and an early end."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch.callbacks import Callback

from .batches import output_losses


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
