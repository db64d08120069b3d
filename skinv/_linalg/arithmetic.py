"""The constants of rounding, and whose products keep to them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .._arrays.conversion import is_complex, is_double, namespace
from .._arrays.memory import on_host

# At least √2 and √10.
_ROOT_2, _ROOT_10 = 1.4142135623730954, 3.1622776601683800


@dataclass(frozen=True)
class Arithmetic:
    """The constants of rounding in a floating-point format."""

    unit: float  # unit roundoff u, twice that where the process does not round to nearest
    tiny: float  # smallest normal number, of complex ones four times that: what underflows is less
    largest: float  # largest finite number
    is_complex: bool = False
    by_three: bool = False  # whether complex products may be formed by three real ones, as on GPUs

    @classmethod
    def of(cls, array: Any) -> "Arithmetic":
        """Return the constants of the dtype of an array or tensor."""
        nearest = rounds_to_nearest()
        if nearest and type(array) is np.ndarray:
            known = _NEAREST.get(array.dtype.char)
            if known is not None:
                return known
        whole, units = is_complex(array), 1 if nearest else 2
        by_three = whole and not on_host(array)
        found = _arithmetic(namespace(array), array.dtype, whole, units, by_three)
        if nearest and type(array) is np.ndarray:
            _NEAREST[array.dtype.char] = found
        return found

    def gamma(self, n: int) -> float:
        """Return γ_n = nu/(1 − nu), the error of a sum of n products (Higham 2002, section 3.1).

        Of complex numbers √2 γ_{2n+1}: real and imaginary parts are sums of 2n real products each
        (section 3.6), in any order. By three real products instead of four the latter are off by
        3γ_{n+4}|A||B|, and the former by a third of that (section 23.2.4).
        """
        if not self.is_complex:
            return self._gamma(n)
        gamma = _ROOT_2 * self._gamma(2 * n + 1)
        return max(gamma, _ROOT_10 * self._gamma(n + 4)) if self.by_three else gamma

    def _gamma(self, n: int) -> float:
        return n * self.unit / (1 - n * self.unit) if n * self.unit < 0.5 else float("inf")


_ONE, _SMALL = 1.0, 2.0**-60


def rounds_to_nearest() -> bool:
    """Tell whether this thread rounds to nearest.

    Either sum is another number where rounding is upward, downward or toward zero. In the latter
    two what overflows is the largest number, not infinity.
    """
    return _ONE + _SMALL == _ONE == _ONE - _SMALL


# Of arrays, which are looked at often, where rounding is to nearest.
_NEAREST: dict[str, Arithmetic] = {}


@lru_cache
def _arithmetic(xp: Any, dtype: Any, is_complex: bool, units: int, by_three: bool) -> Arithmetic:
    info = xp.finfo(dtype)
    tiny = float(info.smallest_normal) * (4 if is_complex else 1)
    return Arithmetic(units * float(info.eps) / 2, tiny, float(info.max), is_complex, by_three)


def products_are_exact(stack: Any) -> bool:
    """Tell whether products of this dtype are rounded as in IEEE arithmetic.

    Products of tensors in single precision may be computed in TF32 or bfloat16 on a device, where
    the user allows it, by a precision setting or by autocast; those in double precision never are,
    nor those on the host, which are NumPy's.
    """
    if is_double(stack) or on_host(stack):
        return True
    torch = namespace(stack)
    try:
        highest = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set through the newer, finer interface
        return False
    return bool(highest and not torch.is_autocast_enabled(stack.device.type))
