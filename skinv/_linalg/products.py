"""What NumPy and torch do in ways of their own: products, inverses, sums of squares, gathering."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import as_double, is_complex, is_tensor, loaded_torch, namespace, parts_of
from .._arrays.memory import on_host
from .arithmetic import products_are_exact, rounds_to_nearest
from .workspace import Workspace

# Up to so many numbers a stack of diagonal matrices is added faster than diagonals, row by row.
_FEW = 2**13
_VECDOT = getattr(np, "vecdot", None)  # of NumPy 2, and faster


def product(A: Any, B: Any, out: Any = None) -> Any:
    """Multiply two matrices, or stacks of them, into `out` if it is given.

    Tensors on the host are NumPy's, too: its products of stacks are faster there, and exact
    whatever precision torch is allowed.
    """
    if not is_tensor(A):
        return np.matmul(A, B, out)
    torch = loaded_torch()  # itself: array-api-compat looks at the dtypes first
    if on_host(A) and A.dtype.itemsize >= 4:
        A, B = (M.resolve_conj().numpy() for M in (A, B))
        return torch.from_numpy(np.matmul(A, B, out=None if out is None else out.numpy()))
    return torch.matmul(A, B, out=out)


def add_product(out: Any, A: Any, B: Any, space: Workspace) -> None:
    """Add a product of matrices, or of stacks of them, to `out`."""
    if not is_tensor(out):
        out += np.matmul(A, B, out=space.of(out, out.shape, "product"))
    elif out.ndim == 2:
        out.addmm_(A, B)
    else:
        out.baddbmm_(A, B)


def affine(x: Any, W: Any, b: Any, out: Any) -> Any:
    """Return xW + b, in `out`."""
    if is_tensor(x):
        return namespace(x).addmm(b, x, W, out=out)
    np.matmul(x, W, out=out)
    out += b
    return out


def activate(h: Any, activation: str, space: Workspace) -> None:
    """Apply "relu", "tanh" or "silu" in place.

    silu(t) = t·sigmoid(t) is t/2·(1 + tanh(t/2)), which does not overflow, in NumPy.
    """
    if is_tensor(h):
        if activation == "silu":
            namespace(h).nn.functional.silu(h, inplace=True)
        else:
            getattr(h, activation + "_")()
    elif activation == "relu":
        np.maximum(h, 0, out=h)
    elif activation == "tanh":
        np.tanh(h, out=h)
    else:
        h *= 0.5
        t = np.tanh(h, out=space.of(h, h.shape, "tanh"))
        t += 1
        h *= t


def product_error(A: Any, X: Any, out: Any = None) -> Any:
    """Return AX − I of each matrix: the residual with its sign turned, which saves a negation."""
    D = product(A, X, out=out)
    add_to_diagonal(D, -1.0)
    return D


def add_to_diagonal(stack: Any, number: float) -> None:
    """Add a number to the diagonals of a stack, whatever its memory layout.

    Other entries are as they were, but for subnormal ones where a mode takes these for zero.
    """
    if is_tensor(stack):
        diagonals = stack.diagonal(0, 1, 2)
    elif stack.size <= _FEW and isinstance(number, int | float):
        stack += _diagonals(stack.shape[1], stack.dtype, number)[: len(stack)]
        return
    elif stack.flags.c_contiguous:  # faster to look at than by einsum
        diagonals = stack.reshape(len(stack), stack.shape[1] ** 2)[:, :: stack.shape[1] + 1]
    else:
        diagonals = np.einsum("kii->ki", stack)
    diagonals += number


@lru_cache(maxsize=32)
def _diagonals(n: int, dtype: Any, number: float) -> NDArray:
    """Return as many matrices as add_to_diagonal may ask for, with a number in the diagonals."""
    return np.tile(number * np.eye(n, dtype=dtype), (_FEW // max(n, 1) ** 2, 1, 1))


def exact_inverse(A: Any) -> Any:
    """Invert matrices (..., n, n) by LAPACK's ``gesv`` in double precision.

    All NaN where one is exactly singular or not finite. Tensors (m, n, n) should be finite: their
    inverses are on their device, and nothing waits for it.
    """
    if is_tensor(A):
        torch = namespace(A)
        inverse, info = torch.linalg.inv_ex(as_double(A))
        return torch.where((info == 0)[:, None, None], inverse, torch.nan).contiguous()
    A = np.asarray(A, dtype=np.complex128 if np.iscomplexobj(A) else np.float64)
    stack = A.reshape(-1, *A.shape[-2:])
    ok = np.isfinite(stack).all(axis=(1, 2))
    if ok.all():
        try:
            return np.linalg.inv(A)
        except np.linalg.LinAlgError:
            pass
    # A zero pivot is what makes LAPACK give up; the sign of the determinant comes from the very
    # same LU factorisation, and is 0 exactly then.
    with np.errstate(all="ignore"):
        ok[ok] = np.linalg.slogdet(stack[ok])[0] != 0
    out = np.full_like(stack, np.nan)
    out[ok] = np.linalg.inv(stack[ok])
    return out.reshape(A.shape)


def exact_pseudo_inverse(A: Any) -> Any:
    """Return pseudo-inverses (k, n, m) of a stack (k, m, n) of full rank, in double precision.

    Those of square matrices are inverses, and by QR factorisations else, with no cut-off.
    """
    m, n = A.shape[1:]
    if m == n:
        return exact_inverse(A)
    if m < n:
        return exact_pseudo_inverse(A.swapaxes(1, 2)).swapaxes(1, 2)
    Q, R = namespace(A).linalg.qr(as_double(A))
    return product(exact_inverse(R), Q.swapaxes(1, 2))


def frobenius(stack: Any) -> Any:
    """Return the Frobenius norm of each matrix, in its precision and as it is rounded.

    inf where squares overflow.
    """
    if is_tensor(stack):
        return _vector_norm(parts_of(stack), (1, 2, 3) if stack.is_complex() else (1, 2))
    m, n, k = stack.shape
    flat = stack.reshape(m, n * k)
    return _root(dot(flat, flat) if _VECDOT is None or is_complex(stack) else _VECDOT(flat, flat))


def _root(square: NDArray) -> NDArray:
    """Replace sums of squares by their roots: inf where they overflow, whatever the mode."""
    if not rounds_to_nearest():
        square[square >= np.finfo(square.dtype).max] = np.inf
    return np.sqrt(square, square)


def _vector_norm(parts: Any, axis: int | tuple[int, ...]) -> Any:
    """Return Euclidean norms of real tensors along axes: inf where squares overflow."""
    torch = namespace(parts)
    norm = torch.linalg.vector_norm(parts, axis=axis)
    if not rounds_to_nearest():
        info = torch.finfo(parts.dtype)
        norm[norm >= float(info.max) ** 0.5 * (1 - 4 * float(info.eps))] = torch.inf
    return norm


def dot(a: Any, b: Any) -> Any:
    """Return the real parts of the inner products of rows (m, d) with rows (m, d) or one (d,)."""
    if is_complex(a):
        a, b = (parts_of(x).reshape(*x.shape[:-1], 2 * x.shape[-1]) for x in (a, b))
    if b.ndim == 1:
        return a @ b
    if is_tensor(a):
        return (a * b).sum(1)
    if _VECDOT is not None:
        return _VECDOT(a, b)
    return np.einsum("ki,ki->k", a, b)


def column_norms(b: Any) -> Any:
    """Return the Euclidean norm of each column of a stack (m, n, k), as :func:`frobenius`."""
    if is_tensor(b):
        parts = parts_of(b)
        return _vector_norm(parts, 1 if parts is b else (1, 3))
    if b.shape[2] == 1:
        return _root(dot(b[:, :, 0], b[:, :, 0]))[:, None]
    parts, (m, n, k) = parts_of(b), b.shape
    if parts is b:
        return _root(np.einsum("cnk,cnk->ck", b, b))
    parts = parts.reshape(m, n, 2 * k)  # sums over two axes at once take several times as long
    return _root(np.einsum("cnk,cnk->ck", parts, parts).reshape(m, k, 2).sum(2))


def taken_columns(rows: Any, index: Any) -> Any:
    """Return some columns of rows in contiguous memory, which fancy indexing would not."""
    if is_tensor(rows):
        return rows.index_select(1, namespace(rows).tensor(index, device=rows.device))
    return np.take(rows, index, axis=1)


def kernels_for(X: Any, n: int) -> Any:
    """Return the module of CUDA kernels if they take matrices of order n like a tensor, or None."""
    real = not is_complex(X) and X.dtype.itemsize <= 4
    if X.device.type != "cuda" or not real or not products_are_exact(X):
        return None
    try:
        from . import kernels
    except ImportError:  # triton comes with torch for CUDA on Linux only
        return None
    return kernels if n <= kernels.LARGEST and kernels.works_on(X.device) else None
