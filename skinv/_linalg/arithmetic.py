"""The constants of rounding, and whose products keep to them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .._arrays.kinds import is_tensor


@dataclass(frozen=True)
class Arithmetic:
    """The constants of rounding in a floating-point format.

    Parameters
    ----------
    unit : float
        Unit roundoff u, twice that where the process does not round to nearest.
    tiny : float
        Smallest normal number: what underflows is wrong by less than it.
    largest : float
        Largest finite number.

    Examples
    --------
    >>> Arithmetic.of(np.zeros(1, dtype=np.float32)).unit == 2.0**-24
    True
    """

    unit: float
    tiny: float
    largest: float

    @classmethod
    def of(cls, array: Any) -> Arithmetic:
        """Return the constants of the dtype of an array or tensor."""
        # Either sum is another number where rounding is upward, downward or toward zero.
        nearest = _ONE + _SMALL == _ONE == _ONE - _SMALL
        return _arithmetic(array.dtype, 1 if nearest else 2)

    def gamma(self, n: int) -> float:
        """Return γ_n = nu/(1 − nu), the error of a sum of n products (Higham 2002, section 3.1)."""
        return n * self.unit / (1 - n * self.unit) if n * self.unit < 0.5 else float("inf")


_ONE, _SMALL = 1.0, 2.0**-60


@lru_cache
def _arithmetic(dtype: Any, units: int) -> Arithmetic:
    info = np.finfo(dtype) if isinstance(dtype, np.dtype) else sys.modules["torch"].finfo(dtype)
    return Arithmetic(units * float(info.eps) / 2, float(info.tiny), float(info.max))


def products_are_exact(stack: Any) -> bool:
    """Tell whether products of this dtype are rounded as in IEEE arithmetic.

    float32 products of tensors may be computed in TF32 or bfloat16 where the user allows it, by a
    precision setting or by autocast; float64 products never are.
    """
    if not is_tensor(stack):
        return True
    torch = sys.modules["torch"]
    if stack.dtype == torch.float64:
        return True
    try:
        highest = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set through the newer, finer interface
        return False
    return highest and not torch.is_autocast_enabled(stack.device.type)
