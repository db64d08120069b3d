"""Pieces that stay in the cache, and memory that is used again from one to the next."""

import math
from collections.abc import Iterator
from threading import local
from typing import Any

import numpy as np

from .._arrays.conversion import as_double, is_tensor, namespace
from .._arrays.memory import on_host

# Bytes of one stack in a piece, of which three or four are held at once: smaller ones, that an L2
# cache would hold, were measured to cost more in calls than they save.
_PIECE = 2**20
# On a GPU pieces only limit memory.
PIECE_CUDA = 2**28
# Bytes of memory that a thread keeps to work in.
_KEPT = 2**25
_THREAD = local()


def pieces(m: int, n: int, itemsize: int, memory: int = _PIECE) -> Iterator[slice]:
    """Cut a stack of m matrices of order n into pieces of so many bytes, for the cache."""
    return iter(steps(m, max(1, memory // (n * n * itemsize))))


def steps(m: int, step: int) -> list[slice]:
    """Cut m rows into pieces of `step`."""
    if 0 < m <= step:
        return [slice(0, m)]
    return [slice(start, min(start + step, m)) for start in range(0, m, step)]


def piece_memory(X: Any) -> int:
    """Return the bytes of a piece where numbers are, for :func:`pieces`."""
    return _PIECE if on_host(X) else PIECE_CUDA


def indices(mask: Any) -> Any:
    """Return where a vector of truth values is true."""
    return mask.nonzero()[0] if type(mask) is np.ndarray else namespace(mask).nonzero(mask)[0]


def count(mask: Any) -> int:
    """Return how many truth values are true."""
    return int(np.count_nonzero(mask) if type(mask) is np.ndarray else mask.sum())


def every(mask: Any) -> bool:
    """Tell whether all truth values are true."""
    # NumPy counts in half the time of a reduction.
    return bool(np.count_nonzero(mask) == mask.size if type(mask) is np.ndarray else mask.all())


def copied(stack: Any) -> Any:
    """Return the same numbers in memory of their own."""
    return stack.clone() if is_tensor(stack) else stack.copy()


def apart(X: Any, A: Any) -> bool:
    """Tell whether the memory of X may be written to without a change of A."""
    if is_tensor(X):
        return bool(X.untyped_storage().data_ptr() != A.untyped_storage().data_ptr())
    return bool(X.flags.writeable) and not np.may_share_memory(A, X)


def empty_like(stack: Any) -> Any:
    """Return contiguous memory of the shape and dtype of a stack."""
    return empty(stack, tuple(stack.shape))


def empty(example: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
    """Return contiguous memory of a shape, in the library, place and dtype of an example."""
    dtype = example.dtype if dtype is None else dtype
    if is_tensor(example):
        # What is made in inference mode cannot be written to out of it, as by other threads.
        with namespace(example).inference_mode(False):
            return example.new_empty(shape, dtype=dtype)
    return np.empty(shape, dtype)


def full(example: Any, shape: tuple[int, ...], number: float, dtype: Any = None) -> Any:
    """Return a number many times over, in the library, place and dtype of an example."""
    out = empty(example, shape, dtype)
    out[...] = number
    return out


class Workspace:
    """Memory that is used again from piece to piece: fresh pages cost more than products there."""

    def __init__(self) -> None:
        # Memory, and what was made of it last.
        self._held: dict[Any, tuple[Any, Any]] = {}
        self._nbytes = 0

    @staticmethod
    def of_thread() -> "Workspace":
        """Return the workspace of this thread, on the host, kept from call to call.

        For calls that do not call each other; at their ends they :meth:`trim` it.
        """
        space = getattr(_THREAD, "space", None)
        if space is None:
            space = _THREAD.space = Workspace()
        return space

    def of(self, example: Any, shape: tuple[int, ...], name: str) -> Any:
        """Return contiguous memory of a shape, like an example's, the same for a name."""
        key = name, example.dtype
        held, shaped = self._held.get(key, (None, None))
        if shaped is not None and shaped.shape == shape:
            return shaped
        size = math.prod(shape)
        if held is None or held.shape[0] < size:
            self._nbytes -= 0 if held is None else held.nbytes
            held = empty(example, (size,))
            self._nbytes += held.nbytes
        shaped = held[:size].reshape(shape)
        self._held[key] = held, shaped
        return shaped

    def trim(self) -> None:
        """Give the memory back, unless it is little."""
        if self._nbytes > _KEPT:
            self._held.clear()
            self._nbytes = 0

    def wide(self, stack: Any, name: str) -> Any:
        """Return a stack in double precision, in memory that is the same for a name."""
        return as_double(stack, self.of(as_double(stack[:0]), tuple(stack.shape), name))
