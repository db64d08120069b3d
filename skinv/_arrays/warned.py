"""Warnings at the line of whoever called skinv."""

import contextlib
import sys
import warnings
from pathlib import Path

from sklearn.utils import _set_output

# What stands between a caller and the function that warns.
_BETWEEN = (str(Path(__file__).parents[1]), contextlib.__file__, _set_output.__file__)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called skinv, through however many of its functions."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
