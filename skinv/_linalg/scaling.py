"""Powers of two, by which matrices are scaled before squares are taken: exactly, in any mode.

See :mod:`skinv._arrays.conversion` for what a mode does to subnormal numbers.
"""

from __future__ import annotations

from typing import Any

from .._arrays.conversion import FORMATS, as_float64, decoded, magnitudes, subnormal
from .._arrays.kinds import is_tensor, namespace


def times_power(stack: Any, unit: Any) -> Any:
    """Multiply by powers of two that are normal numbers: exact, unless the result underflows.

    Parameters
    ----------
    stack : ndarray or tensor
        float32 or float64.
    unit : ndarray or tensor of a shape that broadcasts to that, of the same dtype

    Returns
    -------
    ndarray or tensor of the shape and dtype of `stack`

    Examples
    --------
    >>> import numpy as np
    >>> float(times_power(np.array([5e-324]), np.array([2.0**1000]))[0]) == 2.0**-74
    True
    """
    out = stack * unit
    lost = subnormal(stack)
    if bool(lost.any()):
        exact = decoded(stack, as_float64(unit) * 2.0 ** (1 - FORMATS[stack.dtype.itemsize][2]))
        out = namespace(out).where(lost, exact.to(out.dtype) if is_tensor(out) else exact, out)
        out = out if is_tensor(out) else out.astype(stack.dtype, copy=False)
    return out


def powers_of_two(stack: Any, axis: int | tuple[int, ...] = ()) -> Any:
    """Return the power of two at or below the largest absolute number along axes.

    Dividing by it is exact, but for what underflows.

    Parameters
    ----------
    stack : ndarray or tensor
        float32 or float64.
    axis : int or tuple of int, default=()
        These have length 1 in the result.

    Returns
    -------
    ndarray or tensor
        Normal numbers, the inverses of which are normal, too: the smallest of these for subnormal
        numbers, 1 for 0, infinity and NaN.

    Examples
    --------
    >>> import numpy as np
    >>> powers_of_two(np.array([3.0, 0.5, 0.0, np.nan]))
    array([2. , 0.5, 1. , 1. ])
    """
    bits, fraction, largest = magnitudes(stack)
    if axis != ():
        if is_tensor(bits):
            bits = bits.amax(axis, keepdim=True)
        else:
            bits = bits.max(axis=axis, keepdims=True)
    exponent = bits >> fraction  # with a bias of `largest`, and 0 for subnormal numbers
    one = (bits == 0) | (exponent > 2 * largest)
    exponent = exponent.clip(1, 2 * largest - 1)
    exponent = namespace(stack).where(one, 0 * exponent + largest, exponent)
    return (exponent << fraction).view(stack.dtype)


def shifted(x: Any, up: Any, down: Any) -> Any:
    """Return x·up/down for powers of two, though these alone might take x out of range.

    Parameters
    ----------
    x, up, down : ndarray or tensor, float64
        The powers are normal numbers, of shapes that broadcast.

    Returns
    -------
    ndarray or tensor

    Examples
    --------
    >>> import numpy as np
    >>> shifted(np.array([3.0]), np.array([2.0**-1000]), np.array([2.0**-1001]))
    array([6.])
    """
    _, fraction, largest = magnitudes(up)
    kind = FORMATS[8][0]
    bits = [part.view(getattr(namespace(x), kind)) >> fraction for part in (up, down)]
    power = bits[0] - bits[1]
    half = power // 2
    for part in (half, power - half):
        unit = ((part.clip(1 - largest, largest) + largest) << fraction).view(x.dtype)
        x = times_power(x, unit)
    return x
