"""The rows of an epoch, on the device: shuffled, drawn afresh, or drawn where errors are large."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import Dataset

Rows = tuple[torch.Tensor, torch.Tensor]
Predict = Callable[[torch.Tensor], torch.Tensor]
# Rows evaluated at once where losses are wanted row by row.
_CHUNK = 2**14
# Fresh rows drawn at once, where an epoch has fewer.
_BLOCK = 2**17
# Candidates per row that is picked where the error is large, of fresh ones.
_CANDIDATES = 4


class Batches(Dataset, ABC):
    """What a training loop asks of its data: the rows of one epoch, and how they are cut."""

    batch_size: int
    n_batches: int
    hard_fraction: float = 0.0
    # Mean squared errors of rows, for drawing large ones; None draws none of these.
    losses: Callable[[Rows], torch.Tensor] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows in an epoch."""

    @abstractmethod
    def sample(self) -> Rows:
        """Return some rows, for an estimate of the loss."""

    @abstractmethod
    def epoch(self) -> Rows:
        """Return the rows of an epoch as they are used."""

    def enlarge(self, factor: int) -> None:
        """Join batches, for the epochs to come."""
        n = len(self)
        self.batch_size = min(factor * self.batch_size, n)
        self.n_batches = max(n // self.batch_size, 1)

    def __iter__(self) -> Iterator[Rows]:
        x, y = self.epoch()
        return zip(x.split(self.batch_size), y.split(self.batch_size), strict=True)

    def close(self) -> None:
        """Let go of what works in the background."""


class TensorBatches(Batches):
    """Preloaded rows, cut into batches of nearly equal size.

    A private generator shuffles, so the global ones are never touched; an epoch costs one gather.
    Without a seed the order is kept. Where `max_batches` do not use all rows these are drawn at
    random, the share `hard_fraction` with probability proportional to the squared error.
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

    def epoch(self) -> Rows:
        """Return the rows of an epoch."""
        if self._generator is None:
            return self.x, self.y
        n, wanted, device = len(self.x), len(self), self.x.device
        if 8 * wanted < n:  # few repeat, and shuffling all would cost more than the steps
            order = torch.randint(n, (wanted,), generator=self._generator, device=device)
        else:
            order = torch.randperm(n, generator=self._generator, device=device)[:wanted]
        n_hard = int(self.hard_fraction * wanted)
        if self.losses is not None and n_hard:
            hard = pick(self.losses((self.x, self.y)), n_hard, self._generator)
            order = shuffled(torch.cat([order[n_hard:], hard]), self._generator)
        return self.x[order], self.y[order]

    def sample(self) -> Rows:
        """Return a random sample of the rows, always the same."""
        if len(self.x) <= _CHUNK:
            return self.x, self.y
        if self._sampled is None:
            g = torch.Generator().manual_seed(0)
            self._sampled = torch.randperm(len(self.x), generator=g)[:_CHUNK].to(self.x.device)
        return self.x[self._sampled], self.y[self._sampled]


@dataclass(eq=False)
class DrawnBatches(Batches):
    """Fresh rows in every epoch, drawn in one block: on a host in the background.

    ``draw(n)`` returns inputs and targets of n rows, on the device; those of several epochs are
    drawn at once, and on a host the next of them while these are used. The share `hard_fraction` is
    picked from four times as many, with probability proportional to the squared error.
    """

    draw: Callable[[int], Rows]
    batch_size: int
    n_batches: int
    n_epochs: int = 1  # of which the rows are still to be drawn
    hard_fraction: float = 0.0
    seed: int = 0

    _generator: torch.Generator | None = field(default=None, init=False)
    _worker: ThreadPoolExecutor | None = field(default=None, init=False)
    _next: Future[Rows] | None = field(default=None, init=False)
    _stock: Rows | None = field(default=None, init=False)
    _last: Rows | None = field(default=None, init=False)

    def __len__(self) -> int:
        return self.batch_size * self.n_batches

    def __getitem__(self, index: int) -> Rows:
        x, y = self.draw(1)
        return x[0], y[0]

    def epoch(self) -> Rows:
        """Return fresh rows."""
        n_hard = int(self.hard_fraction * len(self)) if self.losses is not None else 0
        x, y = self._rows(len(self) + (_CANDIDATES - 1) * n_hard)
        if self.losses is None or n_hard == 0:
            return x, y
        if self._generator is None:
            self._generator = torch.Generator(device=x.device).manual_seed(self.seed)
        plain = len(self) - n_hard
        hard = plain + pick(self.losses((x[plain:], y[plain:])), n_hard, self._generator)
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
            if self.n_epochs > 0 and not self._stock[0].is_cuda:
                if self._worker is None:
                    self._worker = ThreadPoolExecutor(1, thread_name_prefix="skinv-sampler")
                self._next = self._worker.submit(self.draw, self._block(n))
        x, y = self._stock
        self._stock, self._last = (x[n:], y[n:]), (x[:n], y[:n])
        return self._last

    def _block(self, n: int) -> int:
        n_epochs = max(1, min(self.n_epochs, _BLOCK // n))
        self.n_epochs -= n_epochs
        return n_epochs * n

    def close(self) -> None:
        """Wait for what is being drawn, and drop it."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = self._next = None
        self._stock = None


def pick(losses: torch.Tensor, n: int, generator: torch.Generator | None) -> torch.Tensor:
    """Draw row numbers with probability proportional to a loss, with replacement."""
    # On the host: a cumulative sum on a device may come out differently each time.
    total = torch.nan_to_num(losses.double().cpu(), posinf=0.0).cumsum(0)
    u = torch.rand(n, generator=generator, dtype=torch.float64, device=losses.device).cpu()
    if total[-1] > 0:
        drawn = torch.searchsorted(total, u * total[-1], right=True).clamp_max(len(losses) - 1)
    else:
        drawn = (u * len(losses)).long()
    return drawn.to(losses.device)


def shuffled(order: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Return the entries of a tensor in random order."""
    return order[torch.randperm(len(order), generator=generator, device=order.device)]


def row_losses(predict: Predict) -> Callable[[Rows], torch.Tensor]:
    """Return a function that gives the mean squared error of each row of (x, y)."""

    def losses(rows: Rows) -> torch.Tensor:
        return torch.cat([squares.mean(1) for squares in _squares(predict, rows)])

    return losses


def output_losses(predict: Predict, rows: Rows) -> torch.Tensor:
    """Return the mean squared error of each output."""
    total = sum(squares.sum(0) for squares in _squares(predict, rows))
    return torch.as_tensor(total) / len(rows[0])


def _squares(predict: Predict, rows: Rows) -> Iterator[torch.Tensor]:
    with torch.no_grad():
        for x, y in zip(rows[0].split(_CHUNK), rows[1].split(_CHUNK), strict=True):
            yield (predict(x) - y).square()


def prepared_rows(
    prepared: Any,
    n: int,
    step: int,
    pair: Callable[[slice], tuple[Any, Any]],
    **place: Any,  # dtype and device
) -> Rows:
    """Return n inputs and targets as a network is to see them, made piece by piece.

    ``pair(piece)`` returns the matrices of a piece with their targets, in float64.
    """
    x = torch.empty(n, len(prepared.kept), **place)
    y = torch.empty(n, prepared.n_outputs, **place)
    for start in range(0, n, step):
        piece = slice(start, min(start + step, n))
        X, Y = pair(piece)
        x[piece] = torch.as_tensor(prepared.inputs(X)).to(x)
        y[piece] = torch.as_tensor(prepared.outputs(X, Y)).to(y)
    return x, y
