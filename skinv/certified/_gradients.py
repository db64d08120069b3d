"""Gradients through inverses and solutions of tensors: as of the functions, and 0 of NaN."""

from collections.abc import Callable
from typing import Any

import torch

from .._arrays.conversion import as_tensor


class _Inverse(torch.autograd.Function):
    """X = A⁻¹ has the derivative −X dA X: by its own numbers, for any order."""

    @staticmethod
    def forward(ctx: Any, A: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
        out = X.clone()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (X,) = ctx.saved_tensors
        good = X.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
        Xh = torch.where(good, X, 0).mH
        return -(Xh @ torch.where(good, grad, 0) @ Xh), None


class _Solution(torch.autograd.Function):
    """x = A⁻¹b has the derivative A⁻¹(db − dA x)."""

    @staticmethod
    def forward(
        ctx: Any, A: torch.Tensor, b: torch.Tensor, x: torch.Tensor, solve: Callable
    ) -> torch.Tensor:
        out = x.clone()
        ctx.save_for_backward(A, out)
        ctx.solve = solve
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        A, x = ctx.saved_tensors
        good = x.isfinite().all(-2, keepdim=True)  # column by column
        found = torch.where(good, ctx.solve(A.mH, torch.where(good, grad, 0)), 0)
        return -(found @ torch.where(good, x, 0).mH), found, None, None


def inverse_of(A: torch.Tensor, X: torch.Tensor, axes: tuple[int, int]) -> torch.Tensor:
    """Return the inverses X of A with gradients."""
    moved = [M.movedim(axes, (-2, -1)) for M in (A, X)]
    return _Inverse.apply(*moved).movedim((-2, -1), axes)


def solution_of(A: Any, b: Any, x: torch.Tensor, solve: Callable) -> torch.Tensor:
    """Return the solutions x of Ax = b with gradients; `solve` finds those that these take."""
    A, b = (M if isinstance(M, torch.Tensor) else as_tensor(M) for M in (A, b))
    A, b = (M.to(x.device, x.dtype) for M in (A, b))
    vector = b.ndim == 1
    b, x = (b[:, None], x[..., None]) if vector else (b, x)
    leading, n = x.shape[:-2], A.shape[-1]
    x = _Solution.apply(A.expand(*leading, n, n), b.expand(*x.shape), x, solve)
    return x[..., 0] if vector else x
