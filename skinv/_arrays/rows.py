"""Rows of a batch: what the caller calls them, and which of them a region refused to answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing

# Rows that are searched for NaN and infinity at once.
_SCANNED = 1024

# The numbers by which the caller knows the rows that are worked on, and how many the caller has;
# None where they are the caller's own.
_NUMBERS: ContextVar[tuple[NDArray[np.intp], int] | None] = ContextVar("numbers", default=None)


@contextmanager
def numbered(index: Any, total: int) -> Iterator[None]:
    """Name rows in messages by their numbers among `total` rows, of which `index` are worked on."""
    index, outer = np.asarray(index, dtype=np.intp), _NUMBERS.get()
    if outer is not None and len(outer[0]) == total:
        index, total = outer[0][index], outer[1]
    token = _NUMBERS.set((index, total))
    try:
        yield
    finally:
        _NUMBERS.reset(token)


def list_rows(mask: NDArray) -> str:
    """Name the first rows at which `mask` is true, by the caller's numbers."""
    index, total, known = np.flatnonzero(mask), mask.size, _NUMBERS.get()
    if known is not None and len(known[0]) == mask.size:
        index, total = known[0][index], known[1]
    shown = ", ".join(str(i) for i in index[:10])
    return f"[{shown}{', ...' if index.size > 10 else ''}] ({index.size} of {total})"


def refuse_nonfinite(array: NDArray, name: str) -> None:
    """Raise a ValueError that names the rows of an array (m, ...) holding NaN or infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(array, dtype=np.float64)):  # inf and NaN always reach the sum
            return
    bad = np.zeros(len(array), dtype=bool)
    for start in range(0, len(array), _SCANNED):  # without memory of the array's size
        block = array[start : start + _SCANNED]
        bad[start : start + _SCANNED] = ~np.isfinite(block.reshape(len(block), -1)).all(axis=1)
    if bad.any():
        raise ValueError(
            f"Input {name} contains NaN or infinity (inf) in rows {list_rows(bad)}; "
            f"drop or repair them first."
        )


def taken_rows(given: Any, index: Any) -> Any:
    """Return some rows of an array, a tensor or a data frame, by a slice or by their numbers."""
    if not hasattr(given, "columns"):
        return given[index]
    if isinstance(index, slice):
        index = np.arange(index.start, min(index.stop, len(given)))
    return _safe_indexing(given, index)


# Whether somebody deals with what goes unanswered, and no warning is due.
_EXPECTED: ContextVar[bool] = ContextVar("expected", default=False)


@contextmanager
def expecting_unanswered() -> Iterator[None]:
    """Let models answer by NaN without a warning."""
    token = _EXPECTED.set(True)
    try:
        yield
    finally:
        _EXPECTED.reset(token)


def unanswered_is_expected() -> bool:
    """Tell whether somebody deals with what goes unanswered."""
    return _EXPECTED.get()


# -- rows that a region refused ----------------------------------------------------------------

# A NaN with a payload, as R's NA is one: copies, conversions between float32 and float64, and
# arithmetic keep it, and NaN that came in with the data has another.
_REFUSED: dict[int, Any] = {4: np.uint32(0x7FC2E0D0), 8: np.uint64(0x7FF85C1A00000000)}


def refuse_rows(rows: NDArray, mask: NDArray) -> None:
    """Overwrite rows, float32 or float64, by the NaN of matrices that are outside a region."""
    rows[mask] = _REFUSED[rows.itemsize].view(rows.dtype)


def refused_rows(rows: Any) -> NDArray[np.bool_]:
    """Tell which rows of an array (m, ...) hold nothing but the NaN of a region that refused them.

    None for other dtypes than float32 and float64.
    """
    if rows.dtype not in (np.float32, np.float64) or rows.ndim < 2 or rows.size == 0:
        return np.zeros(len(rows), dtype=bool)
    code = _REFUSED[rows.itemsize]
    flat = rows.reshape(len(rows), -1)
    mask = flat[:, 0].view(code.dtype) == code
    if mask.any():
        mask[mask] = (np.ascontiguousarray(flat[mask]).view(code.dtype) == code).all(axis=1)
    return mask
