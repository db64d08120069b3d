"""Complex matrices as real ones of twice the order, or as pairs of real numbers, and back."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .conversion import (
    as_array,
    from_parts,
    in_library_of,
    is_complex,
    is_foreign,
    is_tensor,
    namespace,
    parts_of,
    real_array,
    refuse_sparse,
)


def embed_complex(Z: Any) -> Any:
    """Return complex matrices Z as real ones of twice the order, [[Re Z, −Im Z], [Im Z, Re Z]].

    Sums, products and inverses of embeddings are the embeddings of sums, products and inverses, so
    that all that is said of real matrices holds for complex ones. Singular values occur twice.

    Parameters
    ----------
    Z : array-like or tensor of shape (..., n, n) or (k, ..., m, n)
        Matrices, complex or real.

    Returns
    -------
    ndarray or tensor of shape (..., 2m, 2n)
        In the precision of `Z`: float32 for complex64.

    Raises
    ------
    ValueError
        If the matrices are not square, but in a stack.

    See Also
    --------
    extract_complex : The way back.

    Notes
    -----
    Estimators of skinv embed stacks of complex matrices by themselves; other regressors need this.

    Examples
    --------
    >>> embed_complex([[1 + 2j]])
    array([[ 1., -2.],
           [ 2.,  1.]])
    """
    if is_foreign(Z):
        return in_library_of(Z, embed_complex(np.asarray(Z)))
    if is_tensor(Z):
        refuse_sparse(Z)
    else:
        Z = as_array(Z)
    shape = tuple(Z.shape)
    if len(shape) < 2 or (len(shape) == 2 and shape[0] != shape[1]):
        raise ValueError(
            f"Got an array of shape {shape}, but square matrices (..., n, n), or a stack (k, ..., "
            f"m, n) of other ones, are expected; a single one is Z[None]."
        )
    m, n = shape[-2:]
    real = Z.real
    if not is_tensor(Z):
        real = real if real.dtype.kind == "f" else real_array(real, "Z")
        dtype = real.dtype
        out = np.empty((*shape[:-2], 2 * m, 2 * n), dtype)
    else:
        real = real if real.is_floating_point() else real.double()
        out = real.new_empty((*shape[:-2], 2 * m, 2 * n))
    out[..., :m, :n] = out[..., m:, n:] = real
    out[..., m:, :n] = Z.imag if is_complex(Z) else 0.0
    out[..., :m, n:] = -out[..., m:, :n]
    return out


def extract_complex(X: Any) -> Any:
    """Return the complex matrices that real ones of twice the order embed.

    Parameters
    ----------
    X : array-like or tensor of shape (..., 2n, 2n) or (k, ..., 2m, 2n)
        Real matrices, embeddings of complex ones up to errors.

    Returns
    -------
    ndarray or tensor of shape (..., m, n)
        The complex matrices whose embeddings are nearest in the Frobenius norm: means of the two
        copies of each part. For embeddings they are exact. complex64 for float32 and float16.

    Raises
    ------
    ValueError
        If the matrices are not real, if a number of rows or columns is odd, or if they are not
        square, but in a stack.

    See Also
    --------
    embed_complex : The way there.

    Examples
    --------
    >>> extract_complex([[1.0, -2.0], [2.0, 1.0]])
    array([[1.+2.j]])
    """
    if is_foreign(X):
        return in_library_of(X, extract_complex(np.asarray(X)))
    if is_tensor(X):
        refuse_sparse(X)
    else:
        X = np.asarray(X)
    shape = tuple(X.shape)
    unlike = len(shape) < 2 or (len(shape) == 2 and shape[0] != shape[1])
    if unlike or shape[-2] % 2 or shape[-1] % 2 or is_complex(X):
        raise ValueError(
            f"Got an array of shape {shape} and {X.dtype}, but real matrices of even order "
            f"(..., 2n, 2n), or a stack (k, ..., 2m, 2n) of other ones, are expected, as "
            f"embed_complex returns them."
        )
    m, n = shape[-2] // 2, shape[-1] // 2
    if is_tensor(X):
        X = X if X.is_floating_point() else X.double()
    elif X.dtype.kind != "f":
        X = real_array(X, "X")
    a, b, c, d = X[..., :m, :n], X[..., :m, n:], X[..., m:, :n], X[..., m:, n:]
    if is_tensor(X):
        torch = namespace(X)
        wide = X.dtype if X.dtype in (torch.float32, torch.float64) else torch.float32
        return torch.complex(mean_of(a, d).to(wide), mean_of(c, -b).to(wide))
    Z = np.empty((*shape[:-2], m, n), np.complex64 if X.dtype.itemsize < 8 else np.complex128)
    with np.errstate(over="ignore", invalid="ignore"):
        mean_of(a, d, out=Z.real)
        np.multiply(b, -1, out=Z.imag)  # NumPy 2.4's negative is wrong for some strides
        mean_of(c, Z.imag, out=Z.imag)
    return Z


def mean_of(a: Any, b: Any, out: NDArray | None = None) -> Any:
    """Return means, exact where both are equal, and without overflow; `out` may be `b`."""
    if is_tensor(a):
        return namespace(a).where(a == b, a, 0.5 * a + 0.5 * b)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add(a, b)
        mean *= 0.5
        if not np.isfinite(np.sum(mean)):  # of numbers near the largest, maybe
            mean = np.where(a == b, a, 0.5 * a + 0.5 * b)
    if out is None:
        return mean
    out[...] = mean
    return out


def as_pairs(numbers: Any) -> Any:
    """Return complex numbers (m, ...) as rows, real and imaginary parts in turn.

    A view where the memory allows it.
    """
    numbers = numbers.resolve_conj().resolve_neg() if is_tensor(numbers) else numbers
    parts = parts_of(numbers)
    return parts.reshape(parts.shape[0], math.prod(parts.shape[1:]))


def from_pairs(rows: Any, *shape: int) -> Any:
    """View contiguous rows of real and imaginary parts in turn as complex numbers of a shape."""
    return from_parts(rows.reshape(*shape, 2))
