"""The rows of an epoch, on the device: shuffled, drawn afresh, or drawn where errors are large."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch.utils.data import Dataset

Rows = tuple[torch.Tensor, torch.Tensor]
# Rows evaluated at once where losses are wanted row by row.
_CHUNK = 2**14
# Fresh rows drawn at once, where an epoch has fewer.
_BLOCK = 2**17
# Candidates per row that is picked where the error is large, of fresh ones.
_CANDIDATES = 4


class Batches(Dataset, ABC):
    """What a training loop asks of its data: the rows of one epoch, and how they are cut.

    Examples
    --------
    >>> issubclass(TensorBatches, Batches)
    True
    """

    batch_size: int
    n_batches: int
    hard_fraction: float = 0.0

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows in an epoch."""

    @abstractmethod
    def sample(self) -> Rows:
        """Return some rows, for an estimate of the loss."""

    @abstractmethod
    def epoch(self, losses: Callable[[Rows], torch.Tensor] | None = None) -> Rows:
        """Return the rows of an epoch, in the order in which they are used.

        Parameters
        ----------
        losses : callable, default=None
            Gives the squared error of each row, for drawing where it is large.

        Returns
        -------
        x, y : tensors
        """

    def enlarge(self, factor: int) -> None:
        """Join batches, for the epochs to come."""
        n = len(self)
        self.batch_size = min(factor * self.batch_size, n)
        self.n_batches = max(n // self.batch_size, 1)

    def batches(self, losses: Callable[[Rows], torch.Tensor] | None = None) -> Iterator[Rows]:
        """Yield the batches of one epoch."""
        x, y = self.epoch(losses)
        yield from zip(x.split(self.batch_size), y.split(self.batch_size), strict=True)

    def close(self) -> None:
        """Let go of what works in the background."""


class TensorBatches(Batches):
    """Preloaded rows, cut into batches of nearly equal size.

    A private generator shuffles, so the global ones are never touched; an epoch costs one gather.

    Parameters
    ----------
    x, y : tensor of shape (n_samples, ...)
        Inputs and targets, on one device.
    batch_size : int
        Largest batch.
    seed : int or None, default=None
        Seed of the shuffling; None keeps the order.
    max_batches : int, default=None
        Batches in an epoch; rows are drawn at random if not all are used. None: all of them.
    hard_fraction : float, default=0.0
        Share of the epoch's rows drawn with probability proportional to their squared error.

    Examples
    --------
    >>> data = TensorBatches(torch.arange(5.0)[:, None], torch.zeros(5, 1), 2, seed=0)
    >>> [len(x) for x, y in data.batches()]
    [2, 2, 1]
    """

    def __init__(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        batch_size: int,
        seed: int | None = None,
        max_batches: int | None = None,
        hard_fraction: float = 0.0,
    ):
        self.x, self.y = x, y
        n_batches = math.ceil(len(x) / batch_size)
        self.batch_size = math.ceil(len(x) / n_batches)
        self.n_batches = math.ceil(len(x) / self.batch_size)
        if max_batches is not None:
            self.n_batches = min(self.n_batches, max_batches)
        self.hard_fraction = hard_fraction
        self._sampled: torch.Tensor | None = None
        self._generator = None
        if seed is not None:
            self._generator = torch.Generator(device=x.device).manual_seed(seed)

    def __len__(self) -> int:
        return min(len(self.x), self.n_batches * self.batch_size)

    def __getitem__(self, index: int) -> Rows:
        return self.x[index], self.y[index]

    def epoch(self, losses: Callable[[Rows], torch.Tensor] | None = None) -> Rows:
        """Return the rows of an epoch."""
        if self._generator is None:
            return self.x, self.y
        order = self._order(losses)
        return self.x[order], self.y[order]

    def sample(self) -> Rows:
        """Return a random sample of the rows, always the same."""
        if len(self.x) <= _CHUNK:
            return self.x, self.y
        if self._sampled is None:
            g = torch.Generator().manual_seed(0)
            self._sampled = torch.randperm(len(self.x), generator=g)[:_CHUNK].to(self.x.device)
        return self.x[self._sampled], self.y[self._sampled]

    def _order(self, losses: Callable[[Rows], torch.Tensor] | None) -> torch.Tensor:
        n, wanted, device = len(self.x), len(self), self.x.device
        if 8 * wanted < n:  # few repeat, and shuffling all would cost more than the steps
            order = torch.randint(n, (wanted,), generator=self._generator, device=device)
        else:
            order = torch.randperm(n, generator=self._generator, device=device)[:wanted]
        n_hard = int(self.hard_fraction * wanted)
        if losses is None or n_hard == 0:
            return order
        hard = pick(losses((self.x, self.y)), n_hard, self._generator)
        return shuffled(torch.cat([order[n_hard:], hard]), self._generator)


class DrawnBatches(Batches):
    """Fresh rows in every epoch, drawn in one block: on a host in the background.

    Parameters
    ----------
    draw : callable
        ``draw(n)`` returns inputs and targets of n fresh rows, on the device.
    batch_size : int
    n_batches : int
        Batches in an epoch.
    n_epochs : int, default=1
        Epochs that will be asked for: some are drawn at once, and on a host the next of them while
        these are used.
    hard_fraction : float, default=0.0
        Share of the rows that are picked from four times as many, with probability proportional to
        their squared error.
    seed : int, default=0
        Of picking.

    Examples
    --------
    >>> data = DrawnBatches(lambda n: (torch.zeros(n, 1), torch.zeros(n, 1)), 2, 3)
    >>> [len(x) for x, y in data.batches()]
    [2, 2, 2]
    """

    def __init__(
        self,
        draw: Callable[[int], Rows],
        batch_size: int,
        n_batches: int,
        *,
        n_epochs: int = 1,
        hard_fraction: float = 0.0,
        seed: int = 0,
    ):
        self.draw = draw
        self.batch_size = batch_size
        self.n_batches = n_batches
        self.hard_fraction = hard_fraction
        self._seed = seed
        self._generator: torch.Generator | None = None
        self._left = n_epochs
        self._worker: ThreadPoolExecutor | None = None
        self._next: Future[Rows] | None = None
        self._stock: Rows | None = None
        self._last: Rows | None = None

    def __len__(self) -> int:
        return self.batch_size * self.n_batches

    def __getitem__(self, index: int) -> Rows:
        x, y = self.draw(1)
        return x[0], y[0]

    def epoch(self, losses: Callable[[Rows], torch.Tensor] | None = None) -> Rows:
        """Return fresh rows."""
        n_hard = int(self.hard_fraction * len(self)) if losses is not None else 0
        x, y = self._rows(len(self) + (_CANDIDATES - 1) * n_hard)
        if losses is None or n_hard == 0:
            return x, y
        if self._generator is None:
            self._generator = torch.Generator(device=x.device).manual_seed(self._seed)
        plain = len(self) - n_hard
        hard = plain + pick(losses((x[plain:], y[plain:])), n_hard, self._generator)
        order = torch.cat([torch.arange(plain, device=x.device), hard])
        order = shuffled(order, self._generator)
        return x[order], y[order]

    def sample(self) -> Rows:
        """Return rows of the last epoch: drawing others would be a second use of the sampler."""
        return self._last if self._last is not None else self._rows(self.batch_size)

    def _rows(self, n: int) -> Rows:
        """Return n of the rows that were drawn; have more drawn in the background."""
        if self._stock is None or len(self._stock[0]) < n:
            self._stock = self.draw(self._block(n)) if self._next is None else self._next.result()
            self._next = None
            # A device works in the background by itself.
            if self._left > 0 and not self._stock[0].is_cuda:
                if self._worker is None:
                    self._worker = ThreadPoolExecutor(1, thread_name_prefix="skinv-sampler")
                self._next = self._worker.submit(self.draw, self._block(n))
        x, y = self._stock
        self._stock, self._last = (x[n:], y[n:]), (x[:n], y[:n])
        return self._last

    def _block(self, n: int) -> int:
        """Return how many rows to draw next, a multiple of n."""
        n_epochs = max(1, min(self._left, _BLOCK // n))
        self._left -= n_epochs
        return n_epochs * n

    def close(self) -> None:
        """Wait for what is being drawn, and drop it."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = self._next = None
        self._stock = None


def pick(losses: torch.Tensor, n: int, generator: torch.Generator | None) -> torch.Tensor:
    """Draw row numbers with probability proportional to a loss, with replacement.

    Parameters
    ----------
    losses : tensor of shape (n_rows,)
        Not negative. Where none is positive and finite, rows are drawn uniformly.
    n : int
        How many to draw.
    generator : torch.Generator

    Returns
    -------
    tensor of shape (n,), int64

    Examples
    --------
    >>> pick(torch.tensor([0.0, 1.0, 0.0]), 2, torch.Generator().manual_seed(0))
    tensor([1, 1])
    """
    # On the host: a cumulative sum on a device may come out differently each time.
    total = torch.nan_to_num(losses.double().cpu(), posinf=0.0).cumsum(0)
    u = torch.rand(n, generator=generator, dtype=torch.float64, device=losses.device).cpu()
    if total[-1] > 0:
        drawn = torch.searchsorted(total, u * total[-1], right=True).clamp_max(len(losses) - 1)
    else:
        drawn = (u * len(losses)).long()
    return drawn.to(losses.device)


def shuffled(order: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Return the entries of a tensor in random order.

    Parameters
    ----------
    order : tensor of shape (n,)
    generator : torch.Generator

    Returns
    -------
    tensor of shape (n,)

    Examples
    --------
    >>> shuffled(torch.arange(3), torch.Generator().manual_seed(0)).sort().values
    tensor([0, 1, 2])
    """
    return order[torch.randperm(len(order), generator=generator, device=order.device)]


def row_losses(predict: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Rows], torch.Tensor]:
    """Return a function that gives the mean squared error of each row.

    Parameters
    ----------
    predict : callable
        From inputs to outputs.

    Returns
    -------
    callable
        From (x, y) to a tensor of shape (n_rows,).

    Examples
    --------
    >>> row_losses(lambda x: 2 * x)((torch.ones(1, 2), torch.zeros(1, 2)))
    tensor([4.])
    """

    def losses(rows: Rows) -> torch.Tensor:
        return torch.cat([squares.mean(1) for squares in _squares(predict, rows)])

    return losses


def output_losses(
    predict: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[Rows], torch.Tensor]:
    """Return a function that gives the mean squared error of each output.

    Parameters
    ----------
    predict : callable
        From inputs to outputs.

    Returns
    -------
    callable
        From (x, y) to a tensor of shape (n_outputs,).

    Examples
    --------
    >>> output_losses(lambda x: 2 * x)((torch.ones(3, 2), torch.zeros(3, 2)))
    tensor([4., 4.])
    """

    def losses(rows: Rows) -> torch.Tensor:
        total = sum(squares.sum(0) for squares in _squares(predict, rows))
        return torch.as_tensor(total) / len(rows[0])

    return losses


def _squares(predict: Callable[[torch.Tensor], torch.Tensor], rows: Rows) -> Iterator[torch.Tensor]:
    """Yield the squared errors of the rows, chunk by chunk."""
    with torch.no_grad():
        for x, y in zip(rows[0].split(_CHUNK), rows[1].split(_CHUNK), strict=True):
            yield (predict(x) - y).square()
