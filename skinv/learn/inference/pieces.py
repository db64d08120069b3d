"""Batches in pieces: how many rows, their differences from the origin, which are finite."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._arrays.conversion import namespace
from ..._arrays.memory import on_host
from ..._arrays.progress import progress
from ..._linalg.workspace import PIECE_CUDA, steps
from .parts import SHORT, Parts

# Bytes of the widest intermediate result in a piece. Without a network smaller ones would fit an L2
# cache, but fresh memory for results drives them out of it anyway, and were measured to be slower.
# With one they should fit, but have at least so many rows, for the sake of the weights.
_PIECE = 2**22
_PIECE_NETWORK, _ROWS = 3 * 2**19, 1024
_MOST_ROWS = 2**14
# Of so few numbers the origin may be repeated for all rows, which is a single loop.
_FEW = 2**13
# Of arrays that are copied to a device piece by piece.
PIECE_COPIED = 2**24


def pieces(m: int, parts: Parts, itemsize: int, X: Any = None) -> list[slice]:
    """Cut m rows into pieces: those of a cache or, of a tensor on a device, of its memory."""
    row = itemsize * parts.width
    if X is not None and not on_host(X):
        step = max(PIECE_CUDA // row, 1)
    elif parts.layers:
        step = min(max(_PIECE_NETWORK // row, _ROWS), _MOST_ROWS)
    else:
        step = min(max(_PIECE // row, 1), _MOST_ROWS)
    return steps(m, step)


def shown(pieces: list[slice], m: int, verbose: bool) -> Iterator[slice]:
    """Show how many of m rows are done, if there are several pieces."""
    with progress(m, "predicting", "matrix", verbose and len(pieces) > 1) as bar:
        for piece in pieces:
            yield piece
            bar.update(piece.stop - piece.start)


def differences(X: Any, parts: Parts, E: Any) -> Any:
    """Write (a − origin)·unit to E, reading X once, whatever its layout."""
    origin, target = parts.origin, E
    if parts.kept is not None:
        X = X.reshape(X.shape[0], -1)[:, parts.kept]
    m, d = E.shape
    short = m <= _MOST_ROWS and (d <= SHORT or m * d <= _FEW)
    if short and isinstance(X, np.ndarray) and X.flags.c_contiguous:
        origin = parts.repeated("origin", origin, m)
        X, target = X.reshape(-1), E.reshape(-1)
    elif X.ndim == 3:
        origin, target = origin.reshape(X.shape[1:]), E.reshape(X.shape)
    namespace(X).subtract(X, origin, out=target)
    if parts.unit != 1.0:
        E *= parts.unit
    return E


def sum_is_finite(x: NDArray) -> bool:
    """Tell whether a sum is finite: if so all terms are."""
    with np.errstate(all="ignore"):
        return math.isfinite(x.sum(dtype=np.float32 if x.dtype == np.float16 else None))


def not_finite(rows: NDArray) -> NDArray[np.bool_]:
    """Tell which rows hold NaN or infinity."""
    return ~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
