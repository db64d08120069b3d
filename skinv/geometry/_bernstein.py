"""Polynomials over boxes as convex combinations: Bernstein's coefficients.

A polynomial of degrees d_i in its variables is, on a box, Σ_β b_β(p) A_β with Bernstein's basis
b_β >= 0, Σ_β b_β = 1: what is convex and holds of all coefficients A_β holds of all its values. The
coefficients of an affine family are its values at the corners. They are linear in the polynomial,
A_β = Σ_α w_βα A_α, and w_βα a product over the variables of polar forms of monomials,

    w_ja = Σ_s C(j, s) C(d − j, a − s) / C(d, a) u^s l^(a − s)

for p^a on [l, u] (Farouki 2012, "The Bernstein polynomial basis: a centennial retrospective").
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def coefficient_weights(exponents: NDArray, low: NDArray, high: NDArray) -> NDArray[np.float64]:
    """Return w (N, m): Bernstein's coefficients of m monomials on a box, N = Π (d_i + 1).

    Each is off by at most γ_c Π max(|l_i|, |u_i|)^α_i, c = 2 Σ α_i + 5k for k variables.
    """
    weights = np.ones((1, len(exponents)))
    for a, x, y in zip(exponents.T, low, high, strict=True):
        shares = _shares(int(a.max(initial=0)))
        degree = len(shares) - 1
        lower, upper = (_powers(np.asarray(end), degree) for end in (x, y))
        table = np.zeros((degree + 1, degree + 1))
        for power in range(degree + 1):
            terms = upper[: power + 1] * lower[power::-1]
            table[:, power] = shares[:, power, : power + 1] @ terms
        weights = (weights[:, None, :] * table[:, a]).reshape(-1, len(exponents))
    return weights


def monomials(exponents: NDArray, points: NDArray) -> NDArray[np.float64]:
    """Return the values (..., m) of monomials at points (..., k), as exact as the weights."""
    values = np.ones((*points.shape[:-1], len(exponents)))
    for i, a in enumerate(exponents.T):
        values *= np.moveaxis(_powers(points[..., i], int(a.max(initial=0)))[a], 0, -1)
    return values


def _powers(x: NDArray, degree: int) -> NDArray:
    """Return x⁰ ... x^degree along a new first axis, by repeated multiplication."""
    factors = np.broadcast_to(x, (degree + 1, *x.shape)).copy()
    factors[0] = 1.0
    return np.cumprod(factors, axis=0)


@lru_cache
def _shares(degree: int) -> NDArray:
    """Return C(j, s) C(d − j, a − s) / C(d, a) for all j, a and s."""
    d, shares = degree, np.zeros((degree + 1,) * 3)
    for j in range(d + 1):
        for a in range(d + 1):
            for s in range(max(0, a + j - d), min(a, j) + 1):
                shares[j, a, s] = math.comb(j, s) * math.comb(d - j, a - s) / math.comb(d, a)
    return shares
