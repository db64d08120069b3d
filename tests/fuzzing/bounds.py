"""Fuzzing of bounds and refinement."""

import math
from functools import partial

import numpy as np
import torch
from strategies import REFUSED, Given, attempt

from fuzzing.common import check_relative, embedded, entry, inverse_of, on_host
from fuzzing.geometry import a_region, flat_center, members
from skinv import (
    bounds,
    refinement,
)


def a_pair(c):
    """Return matrices and approximate inverses, that mostly belong together."""
    n = c.of(1, 2, 2, 3, 4)
    A = c.matrices(n, layouts=("stack",))
    if not A.right or c.slips(6):
        return A, c.matrices(n)
    stack = A.stack
    with np.errstate(all="ignore"):
        flat = np.where(np.isfinite(stack), stack, 1.0)
        X = np.array([np.linalg.pinv(M) for M in flat]).reshape(stack.shape)
        X = X * (1 + c.of(0, 1e-16, 1e-12, 1e-6, 0.1) * c.rng.uniform(-1, 1, X.shape))
        if c.one_in(6):
            X = X * c.of(1e200, 0.0, np.nan, -1.0, 1e-200)
    kind = A.numbers.dtype.str if c.one_in(2) and A.numbers.dtype.kind in "fc" else None
    with np.errstate(over="ignore"):
        X = (X.astype(kind) if kind else X).reshape(A.numbers.shape)
    tensor = A.is_tensor or c.one_in(10)
    native = X.dtype.isnative and X.dtype.char not in "gG"
    value = torch.from_numpy(X.copy()) if tensor and native else c.contained(X, tensors=False)
    return A, Given(value, X, A.layout)


def embedded_pair(A, X):
    """Return both as real matrices, of twice the order if one is complex."""
    if np.iscomplexobj(A) or np.iscomplexobj(X):
        A, X = A.astype(complex), X.astype(complex)
    return embedded(A), embedded(X)


@entry("bounds.residual_bound")
def fuzz_residual_bound(c):
    A, X = a_pair(c)
    norm = c.choice("fro", "inf", "1", np.inf, 1)
    accumulate = partial(c.rather, (None, "float64", "double-double"), ("float16", 1))
    options = c.options(sharp=(True, False), accumulate=[accumulate])
    bound = attempt(bounds.residual_bound, A, X, norm, **options)
    if bound is REFUSED or not (A.right and X.right):
        return
    assert isinstance(bound, torch.Tensor if A.is_tensor or X.is_tensor else np.ndarray)
    name = {"inf": "inf", "1": "1", "fro": "fro"}[str(norm)]
    check_relative(A.stack, X.stack, on_host(bound), name)


@entry("refinement.newton_schulz")
def fuzz_newton_schulz(c):
    A, X = a_pair(c)
    steps, order = c.count(3), c.rather((2, 2, 3, 4, np.int8(2)), (5, "2", None, 2.0))
    Y = attempt(refinement.newton_schulz, A, X, steps, order)
    if Y is REFUSED or not (A.right and X.right):
        return
    assert isinstance(Y, torch.Tensor if A.is_tensor or X.is_tensor else np.ndarray)
    assert tuple(Y.shape) == X.numbers.shape
    a, x = embedded_pair(A.stack, X.stack)
    y = embedded(Given(None, on_host(Y), X.layout).stack)
    with np.errstate(all="ignore"):
        for _ in range(int(steps)):
            R = np.eye(a.shape[-1]) - a @ x
            x = x @ sum(np.linalg.matrix_power(R, k) for k in range(int(order)))
        moderate = np.abs(a).max(initial=0) * np.abs(x).max(initial=0) < 1e3
    if moderate and np.isfinite(x).all() and "float16" not in str(X.numbers.dtype):
        assert np.allclose(y, x, rtol=1e-4, atol=1e-4 * np.abs(x).max(initial=0))


@entry("bounds.taylor_bound")
def fuzz_taylor_bound(c):
    center, radius, norm, options = a_region(c)
    order = c.count(3)
    found = attempt(bounds.taylor_bound, center, radius, order, norm, **options)
    if found is REFUSED:
        return
    assert min(found.max_error, found.q) >= 0
    A = flat_center(center)
    if A is None or not math.isfinite(found.max_error):
        return
    axes = options.get("axes")
    B = inverse_of(A)
    for M in members(c, A, radius, norm, axes, 8):
        N = -B @ (M - A)
        series = sum(np.linalg.matrix_power(N, j) for j in range(int(order) + 1)) @ B
        exact = inverse_of(M)
        with np.errstate(over="ignore"):
            noise = 1e-11 * (np.abs(series).max() + np.abs(exact).max())
        assert np.abs(exact - series).max() <= found.max_error * (1 + 1e-9) + noise
