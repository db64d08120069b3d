"""Triton kernels for CUDA: the series and a Newton-Schulz step of small matrices, in one pass.

torch's batched products read and write every intermediate stack; here a matrix is read once, stays
in registers, and its result is written once, so that memory is the bound for n <= 32.
"""

import contextlib
import math
from typing import Any

import torch
import triton
import triton.language as tl

# Largest order of matrices.
LARGEST = 32


@triton.jit
def _entries(n: tl.constexpr, size: tl.constexpr):
    """Return where entries of a matrix stand, which of the padded ones they are, and identity."""
    i = tl.arange(0, size)[:, None]
    j = tl.arange(0, size)[None, :]
    inside = (i < n) & (j < n)
    return i * n + j, inside, tl.where((i == j) & inside, 1.0, 0.0)


@triton.jit
def _series_kernel(
    A,
    origin,
    right,
    left,
    out,
    m,
    n: tl.constexpr,
    order: tl.constexpr,
    group: tl.constexpr,
    size: tl.constexpr,
):
    """Write B(I + N(I + N(…))), N = −(A − A₀)B, for `group` matrices per program."""
    entry, inside, identity = _entries(n, size)
    center = tl.load(origin + entry, mask=inside, other=0.0)
    minus_B = tl.load(right + entry, mask=inside, other=0.0)
    B = tl.load(left + entry, mask=inside, other=0.0)
    first = tl.program_id(0).to(tl.int64) * group
    for k in range(group):
        here = inside & (first + k + 0 * entry < m)
        place = (first + k) * n * n + entry
        E = tl.load(A + place, mask=here, other=0.0).to(tl.float32) - center
        N = tl.dot(E, minus_B, input_precision="ieee")
        P = identity + N
        for _ in tl.static_range(order - 1):
            P = identity + tl.dot(N, P, input_precision="ieee")
        X = tl.dot(B, P, input_precision="ieee")
        tl.store(out + place, X.to(out.dtype.element_ty), mask=here)


@triton.jit
def _refine_kernel(
    A,
    X,
    out,
    m,
    n: tl.constexpr,
    steps: tl.constexpr,
    order: tl.constexpr,
    group: tl.constexpr,
    size: tl.constexpr,
):
    """Write X after `steps` of X ← X(I + R + … + R^{order−1}), R = I − AX."""
    entry, inside, identity = _entries(n, size)
    first = tl.program_id(0).to(tl.int64) * group
    for k in range(group):
        here = inside & (first + k + 0 * entry < m)
        place = (first + k) * n * n + entry
        a = tl.load(A + place, mask=here, other=0.0).to(tl.float32)
        x = tl.load(X + place, mask=here, other=0.0).to(tl.float32)
        for _ in tl.static_range(steps):
            R = identity - tl.dot(a, x, input_precision="ieee")
            y = x
            for _ in tl.static_range(order - 1):
                y = x + tl.dot(y, R, input_precision="ieee")
            x = y
        tl.store(out + place, x.to(out.dtype.element_ty), mask=here)


def series(A: Any, origin: Any, right: Any, left: Any, order: int, out: Any) -> None:
    """Evaluate the Taylor series of the inverse about A₀ = `origin`, with −B and B, into `out`.

    All contiguous: A and `out` (m, n*n) or (m, n, n) in float32 or half precision, the others
    (n, n) or (n*n,) in float32. Products are accumulated in float32.
    """
    n = math.isqrt(left.numel())
    if len(A):
        group, padded, warps = _program(n)
        with _current(A.device):
            _series_kernel[(triton.cdiv(len(A), group),)](
                A, origin, right, left, out, len(A), n, order, group, padded, num_warps=warps
            )


def refine(A: Any, X: Any, steps: int, order: int, out: Any) -> None:
    """Take Newton-Schulz steps from X, into `out`, which may be X.

    All (m, n, n), contiguous, in float32 or half precision.
    """
    n = A.shape[-1]
    if len(A):
        group, padded, warps = _program(n)
        with _current(A.device):
            _refine_kernel[(triton.cdiv(len(A), group),)](
                A, X, out, len(A), n, steps, order, group, padded, num_warps=warps
            )


def _current(device: Any) -> Any:
    """Return a context in which a device is the current one, which kernels are launched on."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def works_on(device: Any) -> bool:
    """Tell whether the kernels run on a device, and give the right answer there.

    It is tried once per device, but not while a CUDA graph is being captured.
    """
    if device not in _WORKS:
        if device.type != "cuda" or torch.cuda.is_current_stream_capturing():
            return False
        _WORKS[device] = _try(device)
    return _WORKS[device]


def _try(device: Any) -> bool:
    if torch.cuda.get_device_capability(device) < (7, 0):
        return False
    try:
        two, one = torch.full((2, 1), 2.0, device=device), torch.ones(1, device=device)
        out = torch.empty_like(two)
        series(two, one, -one, one, 1, out)  # 1 − (2 − 1)
        refine(two.view(2, 1, 1), two.view(2, 1, 1), 1, 2, two.view(2, 1, 1))  # 2 + 2(1 − 4)
        return bool((out == 0).all() & (two == -4).all())
    except Exception:  # whatever the compiler, the driver or an old version do not like
        return False


_WORKS: dict[Any, bool] = {}


def _program(n: int) -> tuple[int, int, int]:
    """Return how many matrices a program takes, the order they are padded to, and its warps."""
    return (8, 16, 1) if n <= 16 else (4, 32, 2)
