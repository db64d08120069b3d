"""What stands in a result, said in a line."""

from collections import Counter
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

# Of a result as it is printed.
LINES, COLUMNS = 12, 100
# How many kinds of strings in an array are named.
_KINDS = 7


def describe(value: Any) -> str:
    """Describe a field of a result in a line."""
    if isinstance(value, np.ndarray) and value.ndim:
        return _described_array(value)
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.item()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict) and not isinstance(value, Bunch):
        return ", ".join(f"{key}: {describe(item)}" for key, item in value.items()) or "none"
    if hasattr(value, "shape"):
        kind = f"{type(value).__module__.split('.')[0]} {type(value).__name__}"
        dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
        device = str(getattr(value, "device", "cpu"))
        words = (kind, dtype, str(tuple(value.shape)), "" if device == "cpu" else f"on {device}")
        return " ".join(filter(None, words))
    return " ".join((value if isinstance(value, str) else repr(value)).split())


def _described_array(array: NDArray) -> str:
    text = f"{'str' if array.dtype.kind == 'U' else array.dtype.name} {array.shape}"
    if array.size == 0:
        return text
    match array.dtype.kind:
        case "b":
            return f"{text}, {np.count_nonzero(array)} of {array.size} True"
        case "U":
            return f"{text}, {counted(Counter(array.ravel().tolist()))}"
        case "i" | "u":
            return f"{text}, {_between(array.min(), array.max())}"
        case "f":
            return f"{text}, {_range(array)}"
        case "c":
            return f"{text}, absolute values {_range(np.abs(array))}"
    return text


def _range(array: NDArray) -> str:
    """Describe the finite ones among floating-point numbers."""
    with np.errstate(invalid="ignore"):
        low, high = array.min(), array.max()
    if np.isfinite(low) and np.isfinite(high):
        return _between(low, high)
    finite: NDArray[np.bool_] = np.isfinite(array)
    missing = array.size - np.count_nonzero(finite)
    if missing == array.size:
        return "none finite"
    low = array.min(where=finite, initial=np.inf)
    high = array.max(where=finite, initial=-np.inf)
    return f"{_between(low, high)}, {missing} not finite"


def _between(low: Any, high: Any) -> str:
    return f"all {describe(low)}" if low == high else f"{describe(low)} to {describe(high)}"


def at_least(value: float) -> str:
    """Round down what is a lower bound, so that what is shown is one too."""
    return describe(float(Context(6, ROUND_FLOOR).create_decimal_from_float(value)))


def at_most(value: float) -> str:
    return describe(float(Context(6, ROUND_CEILING).create_decimal_from_float(value)))


def counted(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{count} {name}" for name, count in most[:_KINDS])
    return shown + (f", {len(most) - _KINDS} more" if len(most) > _KINDS else "")


def shortened(line: str) -> str:
    return line if len(line) <= COLUMNS else line[: COLUMNS - 3] + "..."
