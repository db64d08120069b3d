"""Pieces that stay in the cache, and memory that is used again from one to the next."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from threading import local
from typing import Any

import numpy as np

from .._arrays.conversion import as_float64
from .._arrays.kinds import is_tensor

# Bytes of one stack in a piece. Three or four of them are held at once, in an L2 cache.
_PIECE = 2**19
# On a GPU pieces only limit memory.
PIECE_CUDA = 2**28
# Bytes of memory that a thread keeps to work in.
_KEPT = 2**25
_THREAD = local()


def pieces(m: int, n: int, itemsize: int, memory: int = _PIECE) -> Iterator[slice]:
    """Cut a stack of m matrices of order n into pieces that stay in the cache.

    Parameters
    ----------
    m, n : int
    itemsize : int
        Bytes of a number.
    memory : int, default=2**19
        Bytes of a piece.

    Returns
    -------
    iterator of slice

    Examples
    --------
    >>> len(list(pieces(1000, 16, 8)))
    4
    """
    step = max(1, memory // (n * n * itemsize))
    for start in range(0, m, step):
        yield slice(start, min(start + step, m))


def piece_memory(X: Any) -> int:
    """Return the bytes of a piece where numbers are, for :func:`pieces`."""
    return _PIECE if on_host(X) else PIECE_CUDA


def indices(mask: Any) -> Any:
    """Return where a vector of truth values is true."""
    return mask.nonzero()[:, 0] if is_tensor(mask) else np.flatnonzero(mask)


def on_host(X: Any) -> bool:
    """Tell whether numbers are in the host's memory."""
    return not is_tensor(X) or X.device.type == "cpu"


def host_view(X: Any) -> Any:
    """Return a tensor on the host as an array in the same memory, anything else as it is."""
    return X.numpy() if is_tensor(X) and X.device.type == "cpu" else X


def empty_like(stack: Any) -> Any:
    """Return contiguous memory of the shape and dtype of a stack."""
    if is_tensor(stack):
        torch = sys.modules["torch"]
        return torch.empty_like(stack, memory_format=torch.contiguous_format)
    return np.empty(stack.shape, stack.dtype)


class Workspace:
    """Memory that is used again from piece to piece: fresh pages cost more than products in them.

    Examples
    --------
    >>> space = Workspace()
    >>> a = space.like(np.zeros((4, 2, 2)), "D")
    >>> np.shares_memory(a, space.like(np.zeros((3, 2, 2)), "D"))
    True
    """

    def __init__(self) -> None:
        self._held: dict[Any, Any] = {}

    @staticmethod
    def of_thread() -> Workspace:
        """Return the workspace of this thread, on the host, kept from call to call.

        For calls that do not call each other; at their ends they :meth:`trim` it.
        """
        space = getattr(_THREAD, "space", None)
        if space is None:
            space = _THREAD.space = Workspace()
        return space

    def like(self, stack: Any, name: str) -> Any:
        """Return contiguous memory of the shape and dtype of a stack, the same for a name."""
        return self.of(stack, tuple(stack.shape), name)

    def of(self, example: Any, shape: tuple[int, ...], name: str) -> Any:
        """Return contiguous memory of a shape, like an example's, the same for a name."""
        size, key = math.prod(shape), (name, example.dtype)
        held = self._held.get(key)
        if held is None or held.shape[0] < size:
            if is_tensor(example):
                # What is made in inference mode cannot be written to out of it.
                with sys.modules["torch"].inference_mode(False):
                    held = example.new_empty(size)
            else:
                held = np.empty(size, example.dtype)
            self._held[key] = held
        return held[:size].reshape(shape)

    def trim(self) -> None:
        """Give the memory back, unless it is little."""
        if sum(held.nbytes for held in self._held.values()) > _KEPT:
            self._held.clear()

    def wide(self, stack: Any, name: str) -> Any:
        """Return a stack in float64, in memory that is the same for a name."""
        return as_float64(stack, self.of(as_float64(stack[:0]), tuple(stack.shape), name))
