"""Matrices of a family as they are stored: what varies, byte by byte, and what follows from it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def planes_of(array: NDArray) -> NDArray[np.uint8]:
    """Return the bytes of numbers (..., k), of one kind after another: signs and exponents pack."""
    numbers = np.ascontiguousarray(array, dtype="<f8")
    return np.ascontiguousarray(numbers.view(np.uint8).reshape(*array.shape, 8).T)


def from_planes(planes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the numbers of :func:`planes_of`."""
    return np.ascontiguousarray(planes.T).view("<f8")[..., 0].astype(np.float64)


def matrices_of(arrays: Any, center: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrices (m, n, n): the entries that do not vary are those of the centre.

    Some that do are, but for their last bits, others times a ratio of others: in power flow
    ∂P/∂θ and ∂Q/∂V of two buses differ by the voltage alone, as do ∂Q/∂θ and −∂P/∂V.
    """
    stored = from_planes(arrays["values"])
    rows = np.tile(center.ravel(), (len(stored), 1))
    rows[:, arrays["varying"]] = stored
    if "derived" in arrays:
        entry, factor, above, below = arrays["derived"]
        near = rows[:, factor] * rows[:, above] / rows[:, below] * arrays["sign"]
        rows[:, entry] = (near.view(np.int64) + arrays["last_bits"].T).view(np.float64)
    return rows.reshape(-1, *center.shape)
