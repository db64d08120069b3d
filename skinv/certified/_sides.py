"""Right-hand sides and solutions: what callers pass, and what they get."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import as_array, as_float64
from .._arrays.host import is_complex as has_complex
from .._arrays.host import to_host
from .._arrays.kinds import is_tensor, namespace
from .._arrays.pairs import as_tensor, refuse_inexact


def unknown(b: Any) -> tuple[Any, Any]:
    """Return NaN for solutions of b (m, n, k), and inf for their bounds (m, k)."""
    if is_tensor(b):
        return b.new_full(b.shape, float("nan")), b.new_full(b[:, 0].shape, float("inf"))
    return np.full(b.shape, np.nan), np.full((len(b), b.shape[2]), np.inf)


def right_hand_sides(b: Any, rows: Any, is_complex: bool = False) -> Any:
    """Return right-hand sides as an array or tensor like the matrices they belong to.

    Parameters
    ----------
    b : array-like or tensor of shape (n_samples, n) or (n_samples, n, k)
    rows : ndarray or tensor of shape (n_samples, n*n)
    is_complex : bool, default=False
        Whether the matrices are embeddings of complex ones: `b` are complex vectors of half the
        length then, or real ones.

    Returns
    -------
    ndarray or tensor of the shape of `b`, or twice as long
        float32 and float64 are kept, everything else becomes float64.

    Raises
    ------
    ValueError
        For a wrong shape, complex numbers, or numbers that float64 cannot hold.

    Examples
    --------
    >>> right_hand_sides([[1, 2]], np.eye(2).reshape(1, 4)).dtype
    dtype('float64')
    """
    m, n = len(rows), math.isqrt(rows.shape[1])
    b = as_tensor(b).to(rows.device) if is_tensor(rows) else as_array(to_host(b))
    if is_complex:
        n //= 2
    elif has_complex(b):
        raise ValueError(
            "Got complex right-hand sides for real matrices, but real ones are expected: solve for "
            "real and imaginary parts as two columns."
        )
    if b.ndim not in (2, 3) or tuple(b.shape[:2]) != (m, n):
        raise ValueError(
            f"Got right-hand sides of shape {tuple(b.shape)} for {m} matrices of order {n}, but "
            f"({m}, {n}) or ({m}, {n}, k) is expected."
        )
    if is_complex:
        imaginary = b.imag if has_complex(b) else namespace(b).zeros_like(b)
        b = namespace(b).concatenate([b.real, imaginary], 1)
    if b.dtype in (namespace(b).float32, namespace(b).float64):
        return b
    wide = as_float64(b)
    refuse_inexact(b, wide)
    return wide


def complex_vectors(x: Any) -> Any:
    """Return complex vectors (m, n) or (m, n, k) from real ones, real parts before imaginary ones.

    Parameters
    ----------
    x : ndarray or tensor of shape (m, 2n) or (m, 2n, k)

    Returns
    -------
    ndarray or tensor, complex

    Examples
    --------
    >>> complex_vectors(np.array([[1.0, 2.0]]))
    array([[1.+2.j]])
    """
    n = x.shape[1] // 2
    real, imaginary = x[:, :n], x[:, n:]
    if is_tensor(x):
        return sys.modules["torch"].complex(real, imaginary)
    out = np.empty(real.shape, np.result_type(x.dtype, np.complex64))
    out.real, out.imag = real, imaginary
    return out


def take_better(x: Any, bound: Any, rows: NDArray, new_x: Any, new_bound: Any) -> None:
    """Put new solutions of some rows in the place of those with larger bounds, or without one.

    Parameters
    ----------
    x, bound : ndarray or tensor of shape (m, n, k) and (m, k)
        Overwritten.
    rows : ndarray of int
    new_x, new_bound : ndarray or tensor of shape (len(rows), n, k) and (len(rows), k)

    Examples
    --------
    >>> x, bound = unknown(np.zeros((1, 1, 1)))
    >>> take_better(x, bound, np.array([0]), np.ones((1, 1, 1)), np.zeros((1, 1)))
    >>> x, bound
    (array([[[1.]]]), array([[0.]]))
    """
    xp = namespace(x)
    old_x, old = x[rows], bound[rows]
    better = (new_bound < old) | ~(old < float("inf"))
    x[rows] = xp.where(better[:, None], new_x, old_x)
    bound[rows] = xp.where(better, new_bound, old)


def rounded_solution(x: Any, dtype: Any, bound: Any) -> tuple[Any, Any]:
    """Return solutions in another dtype, with bounds that hold for what they have become.

    Parameters
    ----------
    x : ndarray or tensor of shape (m, n, k), float64
    dtype : dtype
    bound : ndarray or tensor of shape (m, k)

    Returns
    -------
    x, bound

    Examples
    --------
    >>> x, bound = rounded_solution(np.full((1, 1, 1), 0.1), np.float32, np.zeros((1, 1)))
    >>> bool(0 < bound[0, 0] < 6e-8)
    True
    """
    if x.dtype == dtype:
        return x, bound
    xp = namespace(x)
    with np.errstate(all="ignore"):
        y = x.to(dtype) if is_tensor(x) else x.astype(dtype)
        wide = as_float64(y)
        size = norms_of(wide) * (1 - 1e-9)
        moved = (bound * norms_of(x) + norms_of(wide - x)) * (1 + 1e-9) / size
    zero = (bound == 0) & (size == 0)
    return y, xp.where(zero, bound, xp.where(moved >= 0, moved, xp.full_like(moved, float("inf"))))


def norms_of(b: Any) -> Any:
    """Return the Euclidean norm of each column of a stack (c, n, k), as it is rounded."""
    if is_tensor(b):
        return sys.modules["torch"].linalg.vector_norm(b, dim=1)
    if b.shape[2] == 1 and hasattr(np, "vecdot"):
        flat = b[:, :, 0]
        return np.sqrt(np.vecdot(flat, flat))[:, None]
    return np.sqrt(np.einsum("cnk,cnk->ck", b, b))
