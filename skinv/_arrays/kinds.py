"""Of which library an array is."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def is_tensor(X: Any) -> bool:
    """Tell whether `X` is a torch tensor, without importing torch.

    Parameters
    ----------
    X : object
        Anything.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_tensor([[1.0, 2.0]])
    False
    """
    # Half a module, without Tensor, while another thread imports torch.
    return isinstance(X, getattr(sys.modules.get("torch"), "Tensor", ()))


def namespace(array: Any) -> Any:
    """Return the library of an array, torch or NumPy: what both spell alike is called on it."""
    return sys.modules["torch"] if is_tensor(array) else np
