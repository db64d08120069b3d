"""Operations on stacks of matrices, alike for NumPy arrays and torch tensors.

What refinement and bounds are made of: residuals, norms that are proven upper bounds of the exact
ones, and pieces small enough to stay in the cache. Nothing here moves data between devices.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import local
from typing import Any

import numpy as np

from ._kinds import namespace
from .matrices import (
    Layout,
    embed_complex,
    flatten_stack,
    is_complex,
    is_tensor,
    matrix_order,
    real_array,
    refuse_single,
    refuse_sparse,
)
from .scaling import as_array, as_float64, powers_of_two

# Bytes of one stack in a piece. Three or four of them are held at once, in an L2 cache.
_PIECE = 2**19
# On a GPU pieces only limit memory.
PIECE_CUDA = 2**28
# Bytes of memory that a thread keeps to work in.
_KEPT = 2**25
_THREAD = local()
# Products of matrices with so many multiplications are loops in torch (below 400), and faster in
# NumPy from n = 3 on.
_LEAST, _TINY = 27, 400


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


def check_pair(A: Any, X: Any) -> tuple[Any, Any, Layout]:
    """Return matrices and their approximate inverses as stacks of one floating-point dtype.

    Parameters
    ----------
    A, X : array-like or tensor of shape (n_samples, n*n) or (n_samples, n, n)
        Both of the same shape. One tensor makes both tensors. Stacks may be complex: they are
        embedded.

    Returns
    -------
    A, X : ndarray or tensor of shape (n_samples, n, n)
        Views where nothing had to be converted.
    layout : Layout
        How they came.

    Raises
    ------
    ValueError
        For shapes that do not match, matrices that are not square, complex rows, and a square
        array that is one matrix or many rows.

    Examples
    --------
    >>> A, X, layout = check_pair([[1, 0, 0, 2]], [[1, 0, 0, 0.5]])
    >>> A.shape, X.dtype, layout
    ((1, 2, 2), dtype('float64'), <Layout.ROWS: 0>)
    """
    refuse_single(A)
    if is_tensor(A) or is_tensor(X):
        torch = sys.modules["torch"]
        device = (A if is_tensor(A) else X).device
        A, X = (as_tensor(M).to(device) for M in (A, X))
        A, X, layout = _embedded(A, X)
        narrow = {torch.float16, torch.bfloat16, torch.float32}
        dtype = torch.float32 if {A.dtype, X.dtype} <= narrow else torch.float64
        A, X = _converted(A, dtype), _converted(X, dtype)
    else:
        A, X, layout = _embedded(as_array(A), as_array(X))
        narrow = {np.dtype(np.float16), np.dtype(np.float32)}
        dtype = np.dtype(np.float32 if {A.dtype, X.dtype} <= narrow else np.float64)
        A, X = _converted(A, dtype), _converted(X, dtype)
    if tuple(A.shape) != tuple(X.shape) or A.ndim not in (2, 3):
        raise ValueError(
            f"Got matrices of shape {tuple(A.shape)} and approximate inverses of shape "
            f"{tuple(X.shape)}, but both must be rows (n_samples, n*n) or stacks (n_samples, n, n)."
        )
    (A, _), (X, came) = flatten_stack(A), flatten_stack(X)
    n = matrix_order(A.shape[1])
    return A.reshape(-1, n, n), X.reshape(-1, n, n), layout or came


def _embedded(A: Any, X: Any) -> tuple[Any, Any, Layout]:
    """Return real matrices, embedded if one stack is complex, and how they came if that is so."""
    if not (is_complex(A) or is_complex(X)):
        return A, X, Layout.ROWS
    if A.ndim != 3 or X.ndim != 3:
        raise ValueError("Got complex rows; pass complex matrices as stacks (n_samples, n, n).")
    return embed_complex(A), embed_complex(X), Layout.COMPLEX


def as_tensor(M: Any) -> Any:
    """Return an array as a tensor, also of a dtype or memory that torch does not take.

    Parameters
    ----------
    M : array-like or tensor

    Returns
    -------
    tensor
        Without gradients; of an array a copy, in float64 if torch has no floating-point dtype for
        it.

    Raises
    ------
    TypeError
        For a sparse tensor.
    ValueError
        For numbers that float64 cannot hold.

    Examples
    --------
    >>> import torch
    >>> as_tensor([1, 2])
    tensor([1., 2.], dtype=torch.float64)
    """
    if is_tensor(M):
        refuse_sparse(M)
        return M.detach().resolve_conj().resolve_neg()
    M = as_array(M)
    if M.dtype.char not in "efdFD":
        M = _converted(M, np.dtype(np.float64))
    return sys.modules["torch"].from_numpy(M.astype(M.dtype.newbyteorder("=")))


def _converted(given: Any, dtype: Any) -> Any:
    """Return what was given in another dtype, if that can be done without a change."""
    with np.errstate(over="ignore", invalid="ignore"):
        # A view with its signs turned, as of a conjugate's imaginary part, is not memory yet.
        if is_tensor(given):
            wide = as_float64(given) if dtype.itemsize == 8 else given.to(dtype)
            M = wide.resolve_neg()
        elif given.dtype.kind == "f" and dtype.itemsize == 8:
            M = as_float64(given)
        elif given.dtype.kind in "fiub":
            M = given.astype(dtype, copy=False)
        else:
            M = real_array(given, "matrices")
    refuse_inexact(given, M)
    return M


def refuse_inexact(given: Any, M: Any) -> None:
    """Raise a ValueError if numbers have been changed by their conversion to floating point.

    Parameters
    ----------
    given, M : ndarray or tensor
        Before and after.

    Raises
    ------
    ValueError
        For integers past 2**53, extended precision, and objects such as fractions, unless they
        happen to be representable.

    Examples
    --------
    >>> refuse_inexact(np.array([2**60]), np.array([2.0**60]))
    """
    floating = given.is_floating_point() if is_tensor(given) else given.dtype.kind == "f"
    if given.dtype.itemsize < 8 or (floating and given.dtype.itemsize == 8):
        return
    if not is_tensor(given) and given.dtype.kind not in "fiuO":
        return
    if given.dtype == object:
        known = ~np.isnan(M)  # pandas' NA, which became NaN, compares with nothing
        given, M = given[known], M[known]
    with np.errstate(over="ignore", invalid="ignore"):
        again = M.to(given.dtype) if is_tensor(M) else M.astype(given.dtype)
    same = (again == given) | (given != given)
    if not floating and given.dtype != object:  # the way back from past the largest is undefined
        unsigned = not is_tensor(given) and given.dtype.kind == "u"
        same = same & (abs(M) < 2.0 ** (64 if unsigned else 63))
    if not bool(same.all()):
        raise ValueError(
            f"Got numbers of dtype {given.dtype} that float64 cannot hold, and a proof for rounded "
            f"ones would be none; round them first."
        )


def pieces(m: int, n: int, itemsize: int, memory: int = _PIECE) -> Iterator[slice]:
    """Cut a stack of m matrices of order n into pieces that stay in the cache.

    Parameters
    ----------
    m, n : int
    itemsize : int
        Bytes of a number.
    memory : int, default=2**19
        Bytes of a piece.

    Returns
    -------
    iterator of slice

    Examples
    --------
    >>> len(list(pieces(1000, 16, 8)))
    4
    """
    step = max(1, memory // (n * n * itemsize))
    for start in range(0, m, step):
        yield slice(start, min(start + step, m))


def piece_memory(X: Any) -> int:
    """Return the bytes of a piece where numbers are, for :func:`pieces`."""
    return _PIECE if on_host(X) else PIECE_CUDA


def indices(mask: Any) -> Any:
    """Return where a vector of truth values is true."""
    return mask.nonzero()[:, 0] if is_tensor(mask) else np.flatnonzero(mask)


def on_host(X: Any) -> bool:
    """Tell whether numbers are in the host's memory."""
    return not is_tensor(X) or X.device.type == "cpu"


def host_view(X: Any) -> Any:
    """Return a tensor on the host as an array in the same memory, anything else as it is."""
    return X.numpy() if is_tensor(X) and X.device.type == "cpu" else X


def empty_like(stack: Any) -> Any:
    """Return contiguous memory of the shape and dtype of a stack."""
    if is_tensor(stack):
        torch = sys.modules["torch"]
        return torch.empty_like(stack, memory_format=torch.contiguous_format)
    return np.empty(stack.shape, stack.dtype)


class Workspace:
    """Memory that is used again from piece to piece: fresh pages cost more than products in them.

    Examples
    --------
    >>> space = Workspace()
    >>> a = space.like(np.zeros((4, 2, 2)), "D")
    >>> np.shares_memory(a, space.like(np.zeros((3, 2, 2)), "D"))
    True
    """

    def __init__(self) -> None:
        self._held: dict[Any, Any] = {}

    @staticmethod
    def of_thread() -> Workspace:
        """Return the workspace of this thread, on the host, kept from call to call.

        For calls that do not call each other; at their ends they :meth:`trim` it.
        """
        space = getattr(_THREAD, "space", None)
        if space is None:
            space = _THREAD.space = Workspace()
        return space

    def like(self, stack: Any, name: str) -> Any:
        """Return contiguous memory of the shape and dtype of a stack, the same for a name."""
        return self.of(stack, tuple(stack.shape), name)

    def of(self, example: Any, shape: tuple[int, ...], name: str) -> Any:
        """Return contiguous memory of a shape, like an example's, the same for a name."""
        size, key = math.prod(shape), (name, example.dtype)
        held = self._held.get(key)
        if held is None or held.shape[0] < size:
            if is_tensor(example):
                # What is made in inference mode cannot be written to out of it.
                with sys.modules["torch"].inference_mode(False):
                    held = example.new_empty(size)
            else:
                held = np.empty(size, example.dtype)
            self._held[key] = held
        return held[:size].reshape(shape)

    def trim(self) -> None:
        """Give the memory back, unless it is little."""
        if sum(held.nbytes for held in self._held.values()) > _KEPT:
            self._held.clear()

    def wide(self, stack: Any, name: str) -> Any:
        """Return a stack in float64, in memory that is the same for a name."""
        return as_float64(stack, self.of(as_float64(stack[:0]), tuple(stack.shape), name))


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


def kernels_for(X: Any, n: int) -> Any:
    """Return the module of CUDA kernels if they take matrices of order n like a tensor, or None."""
    if X.device.type != "cuda" or X.dtype.itemsize > 4 or not products_are_exact(X):
        return None
    try:
        from . import kernels
    except ImportError:  # triton comes with torch for CUDA on Linux only
        return None
    return kernels if n <= kernels.LARGEST and kernels.works_on(X.device) else None


def frobenius(stack: Any) -> Any:
    """Return the Frobenius norm of each matrix of a stack, in its dtype and as it is rounded."""
    if is_tensor(stack):
        return sys.modules["torch"].linalg.vector_norm(stack, dim=(1, 2))
    flat = stack.reshape(len(stack), stack.shape[1] * stack.shape[2])
    if hasattr(np, "vecdot"):  # NumPy 2, and faster
        return np.sqrt(np.vecdot(flat, flat))
    return np.sqrt(np.einsum("ki,ki->k", flat, flat))


def operator_norm(stack: Any, norm: str) -> Any:
    """Return the "fro", "inf" (rows) or "1" (columns) norm of each matrix, as it is rounded."""
    if norm == "fro":
        return frobenius(stack)
    sums = abs(stack).sum(-1 if norm == "inf" else -2)
    return sums.max(1).values if is_tensor(sums) else sums.max(axis=1)


def norm_bound(stack: Any, norm: str) -> Any:
    """Return a proven upper bound of the norm of each matrix, in float64.

    Parameters
    ----------
    stack : ndarray or tensor of shape (m, n, n)
    norm : {"fro", "inf", "1"}

    Returns
    -------
    ndarray or tensor of shape (m,), float64
        inf or NaN where squares or sums overflow. A sum of n² squares in any order is wrong by
        less than γ_{n²+2} of it, and what underflows by less than tiny each.

    Examples
    --------
    >>> bool(norm_bound(np.ones((1, 2, 2)), "fro")[0] >= 2)
    True
    """
    computed, gamma, lost = _norm_errors(stack, norm)
    return computed * (1 + gamma) + lost


def norm_floor(stack: Any, norm: str) -> Any:
    """Return a proven lower bound of the norm of each matrix, in float64; it may be negative."""
    computed, gamma, lost = _norm_errors(stack, norm)
    return computed * (1 - gamma) - lost


def _norm_errors(stack: Any, norm: str) -> tuple[Any, float, float]:
    """Return norms as they are computed, their relative error, and what underflow adds to it."""
    n, arithmetic = stack.shape[-1], Arithmetic.of(stack)
    terms, least = (n * n, arithmetic.tiny**0.5) if norm == "fro" else (n, arithmetic.tiny)
    computed = as_float64(operator_norm(stack, norm))
    return computed, arithmetic.gamma(terms + 4), 2 * n * least


def finite_rows(stack: Any) -> Any:
    """Tell for each matrix whether all its entries are finite.

    Parameters
    ----------
    stack : ndarray or tensor of shape (m, n, n)

    Returns
    -------
    ndarray or tensor of shape (m,), bool

    Examples
    --------
    >>> finite_rows(np.array([[[1e300]], [[np.nan]], [[-np.inf]]]))
    array([ True, False, False])
    """
    xp = namespace(stack)
    with np.errstate(over="ignore", invalid="ignore"):
        good = xp.isfinite(frobenius(stack))  # the cheapest test, but squares overflow early
    if not bool(good.all()):
        rest = ~good
        entries = xp.isfinite(stack[rest].reshape(-1, stack.shape[1] * stack.shape[2]))
        good[rest] = entries.all(1)
    return good


def scales(stack: Any, share: float = 0.25) -> Any:
    """Return a power of two per matrix, shape (m, 1, 1), to divide by before squares are taken.

    1 where the norm is within a share of the range of exponents, so that no square over- or
    underflows; None, for most stacks, if that is so for all matrices.
    """
    arithmetic, size = Arithmetic.of(stack), frobenius(stack)
    safe = (size > arithmetic.tiny**share) & (size < arithmetic.largest**share)
    if bool(safe.all()):
        return None
    unit = powers_of_two(stack, (1, 2))
    return namespace(stack).where(safe[:, None, None], namespace(unit).ones_like(unit), unit)
