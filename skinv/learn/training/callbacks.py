"""What happens after each epoch: scores, a progress bar, an early end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch.callbacks import Callback

from ..._arrays.progress import progress
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


class EpochBar(Callback):
    """A tqdm progress bar over epochs that shows the losses."""

    def __init__(self, n_epochs: int):
        self.n_epochs = n_epochs

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = progress(self.n_epochs, "training", "epoch", True)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        row = net.history[-1]
        shown = f"loss {row['train_loss']:.2e}"
        if "valid_loss" in row:
            shown += f", validation {row['valid_loss']:.2e}"
        self.bar_.set_postfix_str(shown, refresh=False)
        self.bar_.update()

    def close(self) -> None:
        """Close the bar, if one is open."""
        if hasattr(self, "bar_"):
            self.bar_.close()
