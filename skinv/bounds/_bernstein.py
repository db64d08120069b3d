"""Polynomials of k variables on boxes, by tensors of Chebyshev and of Bernstein coefficients.

Over a box a polynomial is a mean, with weights that are not negative, of its Bernstein
coefficients: no norm of its values exceeds the largest norm of these. Coefficients are vectors, the
last axis.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_EPS = float(np.finfo(np.float64).eps)


def roots(degree: int) -> np.ndarray:
    """Return the degree + 1 Chebyshev points within (−1, 1), which values are interpolated at."""
    return np.cos(np.pi * (2 * np.arange(degree + 1) + 1) / (2 * (degree + 1)))


def lebesgue(degree: int) -> float:
    """Bound what interpolation at the roots can make of errors of size 1.

    Rivlin (1974, "The Chebyshev polynomials"): at most 1 + (2/π) log(degree + 1), exact roots
    supposed; rounded ones change it by less than a share of 1e-3.
    """
    return 1.001 * (1 + 2 / math.pi * math.log(degree + 1))


def chebyshev(x: Tensor, degree: int) -> Tensor:
    """Return T_0(x) … T_degree(x) on a new last axis, off by 4(degree + 1)² roundings at most."""
    parts = [torch.ones_like(x), x]
    for _ in range(degree - 1):
        parts.append(2 * x * parts[-1] - parts[-2])
    return torch.stack(parts[: degree + 1], dim=-1)


def from_roots(degree: int, device: torch.device) -> Tensor:
    """Return what takes values at the roots to Chebyshev coefficients, (degree + 1, degree + 1)."""
    a, q = np.arange(degree + 1)[:, None], np.arange(degree + 1)
    table = np.cos(np.pi * a * (2 * q + 1) / (2 * (degree + 1))) * 2 / (degree + 1)
    table[0] /= 2
    return torch.tensor(table, device=device)


@lru_cache(maxsize=64)
def _conversion(degree: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    if degree == 0:
        return np.zeros(1), np.ones((1, 1)), 1.0, 0.0
    nodes = np.cos(np.pi * np.arange(degree + 1) / degree)
    nodes[degree // 2 + (degree % 2) :] = -nodes[: degree // 2 + 1][::-1]
    up, j = (nodes[:, None] + 1) / 2, np.arange(degree + 1)
    binomial = np.array([math.comb(degree, i) for i in range(degree + 1)], dtype=np.float64)
    values = binomial * up**j * ((1 - nodes[:, None]) / 2) ** (degree - j)
    back = np.linalg.inv(values)
    growth = float(np.abs(back).sum(axis=1).max()) * 1.01
    # What is computed is off by its residual, and values by their roundings.
    off = float(np.abs(np.eye(degree + 1) - back @ values).sum(axis=1).max())
    return nodes, back, growth, off + 8 * (degree + 1) * growth * _EPS


class Conversion:
    """From values at points of [−1, 1] to Bernstein coefficients of a degree."""

    def __init__(self, degree: int, device: torch.device):
        nodes, back, growth, off = _conversion(degree)
        self.nodes = torch.tensor(nodes, device=device)
        self.back = torch.tensor(back, device=device)
        powers = nodes[:, None] ** np.arange(degree + 1)
        self.from_powers = torch.tensor(back @ powers, device=device)
        self.growth = growth  # of errors of values
        self.off = off  # share of the largest coefficient that rounding of `back` may change


def along_axes(coef: Tensor, matrices: list[Tensor]) -> Tensor:
    """Apply a matrix (b, q_i, p_i), or (q_i, p_i), to each axis of (p_1, …, p_k, r).

    Returns (b, q_1, …, q_k, r); `coef` may have the axis of boxes in front already.
    """
    k = len(matrices)
    batched = coef.ndim == k + 2
    out = coef if batched else coef[None]
    shape, r = list(out.shape[1:-1]), out.shape[-1]
    for i, matrix in enumerate(matrices):
        matrix = matrix if matrix.ndim == 3 else matrix[None]
        b = max(out.shape[0], matrix.shape[0])
        before, after = math.prod(shape[:i]), math.prod(shape[i + 1 :]) * r
        out = matrix[:, None] @ out.reshape(out.shape[0], before, shape[i], after)
        shape[i] = matrix.shape[1]
        out = out.reshape(b, *shape, r)
    return out
