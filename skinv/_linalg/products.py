"""Products of stacks, alike for NumPy arrays and torch tensors."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .._arrays.kinds import is_tensor
from .arithmetic import products_are_exact
from .workspace import Workspace

# Products of matrices with so many multiplications are loops in torch (below 400), and faster in
# NumPy from n = 3 on.
_LEAST, _TINY = 27, 400


def product(A: Any, B: Any, out: Any = None) -> Any:
    """Multiply two stacks, into `out` if it is given."""
    if not is_tensor(A):
        return np.matmul(A, B, out=out)
    torch = sys.modules["torch"]
    if A.ndim == 3 and _is_tiny(A, B):
        host = None if out is None else out.numpy()
        return torch.from_numpy(np.matmul(A.numpy(), B.numpy(), out=host))
    return torch.matmul(A, B, out=out)


def add_product(out: Any, A: Any, B: Any, space: Workspace) -> None:
    """Add a product of matrices, or of stacks of them, to `out`."""
    if not is_tensor(out):
        out += np.matmul(A, B, out=space.of(out, out.shape, "product"))
    elif out.ndim == 2:
        out.addmm_(A, B)
    elif _is_tiny(A, B):
        out += product(A, B, out=space.of(out, tuple(out.shape), "product"))
    else:
        out.baddbmm_(A, B)


def _is_tiny(A: Any, B: Any) -> bool:
    """Tell whether NumPy multiplies stacks on the host faster: torch has plain loops for these."""
    size = A.shape[-2] * A.shape[-1] * B.shape[-1]
    return _LEAST <= size < _TINY and A.device.type == "cpu" and A.dtype.itemsize >= 4


def product_error(A: Any, X: Any, out: Any = None) -> Any:
    """Return AX − I of each matrix: the residual with its sign turned, which saves a negation.

    Parameters
    ----------
    A, X : ndarray or tensor of shape (m, n, n)
    out : ndarray or tensor of shape (m, n, n), default=None
        Memory for the result.

    Returns
    -------
    ndarray or tensor of shape (m, n, n)

    Examples
    --------
    >>> product_error(np.array([[[2.0]]]), np.array([[[0.25]]]))
    array([[[-0.5]]])
    """
    D = product(A, X, out=out)
    # Views of the diagonals, whatever the memory layout of D.
    diagonals = D.diagonal(dim1=-2, dim2=-1) if is_tensor(D) else np.einsum("kii->ki", D)
    diagonals -= 1
    return D


def kernels_for(X: Any, n: int) -> Any:
    """Return the module of CUDA kernels if they take matrices of order n like a tensor, or None."""
    if X.device.type != "cuda" or X.dtype.itemsize > 4 or not products_are_exact(X):
        return None
    try:
        from . import kernels
    except ImportError:  # triton comes with torch for CUDA on Linux only
        return None
    return kernels if n <= kernels.LARGEST and kernels.works_on(X.device) else None
