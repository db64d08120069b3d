"""Matrices and what is said to be their inverses, as two stacks of one kind."""

from typing import Any

from .conversion import (
    alike,
    as_complex,
    floating,
    is_complex,
    is_foreign,
    is_narrow,
    is_tensor,
)
from .memory import host_view
from .shapes import Leading


def check_pair(A: Any, X: Any) -> tuple[Any, Any, Leading]:
    """Return matrices and their approximate inverses as stacks (m, n, n), and how they came.

    Of one dtype: single precision if neither holds more, complex if one is. One tensor makes both
    tensors, of which those on the host are seen as arrays, but for half precision; arrays of other
    libraries are brought to the host. Views where nothing had to be converted. Raises a ValueError
    for shapes that do not match or are not square.
    """
    library = next((M for M in (A, X) if is_foreign(M)), None)
    A, X = alike(A, X)
    double = not (is_narrow(A) and is_narrow(X))
    A, X = floating(A, double), floating(X, double)
    if is_complex(A) or is_complex(X):
        A, X = as_complex(A), as_complex(X)
    if tuple(A.shape) != tuple(X.shape):
        raise ValueError(
            f"Got matrices of shape {tuple(A.shape)} and approximate inverses of shape "
            f"{tuple(X.shape)}, but both must be of one shape (..., n, n)."
        )
    if is_tensor(A) and not is_tensor(host_view(A)):  # where NumPy multiplies stacks faster
        library, A, X = A, host_view(A), host_view(X)
    came = Leading.of(A, library)
    return A.reshape(-1, *A.shape[-2:]), X.reshape(-1, *X.shape[-2:]), came
