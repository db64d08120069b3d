"""Batches for training, from tensors that already lie on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Dataset


class TensorBatches(Dataset):
    """Preloaded rows, cut into batches of nearly equal size.

    A private generator shuffles, so the global ones are never touched; each epoch costs one gather.
    Every row takes part in every epoch.

    Parameters
    ----------
    x, y : tensor of shape (n_samples, ...)
        Inputs and targets, on one device.
    batch_size : int
        Largest batch.
    seed : int or None, default=None
        Seed of the shuffling; None keeps the order.

    Examples
    --------
    >>> data = TensorBatches(torch.arange(5.0)[:, None], torch.zeros(5, 1), 2, seed=0)
    >>> [len(x) for x, y in data.batches()]
    [2, 2, 1]
    """

    def __init__(self, x: torch.Tensor, y: torch.Tensor, batch_size: int, seed: int | None = None):
        self.x, self.y = x, y
        n_batches = math.ceil(len(x) / batch_size)
        self.batch_size = math.ceil(len(x) / n_batches)
        self.n_batches = math.ceil(len(x) / self.batch_size)
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[index], self.y[index]

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of one epoch."""
        x, y = self.x, self.y
        if self._generator is not None:
            order = torch.randperm(len(x), generator=self._generator).to(x.device)
            x, y = x[order], y[order]
        yield from zip(x.split(self.batch_size), y.split(self.batch_size), strict=True)


class DrawnBatches(Dataset):
    """Fresh rows in every epoch, drawn in one block.

    Parameters
    ----------
    draw : callable
        ``draw(n)`` returns inputs and targets of n fresh rows, on the device.
    batch_size : int
    n_batches : int
        Batches in an epoch.

    Examples
    --------
    >>> data = DrawnBatches(lambda n: (torch.zeros(n, 1), torch.zeros(n, 1)), 2, 3)
    >>> [len(x) for x, y in data.batches()]
    [2, 2, 2]
    """

    def __init__(
        self,
        draw: Callable[[int], tuple[torch.Tensor, torch.Tensor]],
        batch_size: int,
        n_batches: int,
    ):
        self.draw = draw
        self.batch_size = batch_size
        self.n_batches = n_batches

    def __len__(self) -> int:
        return self.batch_size * self.n_batches

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.draw(1)
        return x[0], y[0]

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of one epoch."""
        x, y = self.draw(len(self))
        yield from zip(x.split(self.batch_size), y.split(self.batch_size), strict=True)
