"""Warnings at the line of whoever called skinv."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from sklearn.utils import _set_output

# What stands between a caller and the function that warns.
_BETWEEN = (str(Path(__file__).parents[1]) + os.sep, contextlib.__file__, _set_output.__file__)
# Where warnings of a worker are kept, and the number of its piece.
_KEPT: ContextVar[tuple[list, int] | None] = ContextVar("kept", default=None)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called skinv, through however many of its functions."""
    kept = _KEPT.get()
    if kept is not None:
        kept[0].append((kept[1], message, category))
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextlib.contextmanager
def later(said: list, number: int) -> Iterator[None]:
    """Keep warnings, with a number, for the thread of the caller to give them."""
    token = _KEPT.set((said, number))
    try:
        yield
    finally:
        _KEPT.reset(token)
