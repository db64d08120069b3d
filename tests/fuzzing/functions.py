"""Fuzzing of inv and solve."""

from functools import partial

import numpy as np
import torch
from strategies import REFUSED, Given, attempt

import skinv
from fuzzing.common import check_relative, embedded, entry, on_host, oracle

WORDS = "exact", "exact-raise", "nan", "keep", "raise"


def some_options(c):
    """Return options that mean something, mostly."""
    return c.options(
        tol=[partial(c.rather, (None, 1e-6, 1e-14, 1.0), (0, -1.0, "1"))],
        fallback=[partial(c.rather, WORDS, ("none", None, 1))],
    )


@entry("inv")
def fuzz_inv(c):
    n = c.of(1, 2, 3, 4, 5, 9)
    A = c.matrices(n, layouts=("stack",))
    options, report = some_options(c), c.one_in(2)
    if c.one_in(4):
        options["near"] = np.eye(n)
    found = attempt(skinv.inv, A, return_report=report, **options)
    if found is REFUSED or not A.right or A.numbers.ndim != 3:
        return
    X = found.inverse if report else found
    assert isinstance(X, torch.Tensor if A.is_tensor else np.ndarray)
    assert tuple(X.shape) == A.numbers.shape
    if report:
        bound = on_host(found.bound)
        check_relative(A.stack, on_host(X), bound)
        lost = ~np.isfinite(bound)
        assert np.isnan(on_host(X)[lost]).all() or options.get("fallback") == "keep"
        assert (on_host(found.distance)[lost] == 0).all()
        assert (on_host(found.radius)[lost] == np.inf).all()
        assert (on_host(found.condition)[~lost] >= 1).all()


@entry("solve")
def fuzz_solve(c):
    n = c.of(1, 2, 3, 5)
    A = c.matrices(n, layouts=("stack",))
    shape = c.of((n,), (n, 2), (len(A.numbers) if A.right else 1, n, 1), (n + 1,), (3, 2, n, 1))
    b = c.dtyped(c.rng.standard_normal(shape))
    options = some_options(c)
    if c.one_in(4):
        options["near"] = np.eye(n)
    sides = Given(c.contained(b, frames=False), b)
    found = attempt(skinv.solve, A, sides, return_report=True, **options)
    if found is REFUSED or not A.right or A.numbers.ndim != 3 or b.ndim > 1:
        return
    x, bound = on_host(found.solution), on_host(found.bound)
    assert x.shape == b.shape[:0] + (len(A.numbers), n)
    for k in np.flatnonzero(np.isfinite(bound)):
        M = embedded(A.stack[k][None].astype(complex))[0]
        assert np.isfinite(oracle(M).errors(np.zeros_like(M))).all()  # it is regular


@entry("pinv")
def fuzz_pinv(c):
    A = c.matrices(c.of(1, 2, 3), layouts=("stack",))
    if A.right and A.numbers.ndim == 3 and hasattr(A.value, "shape") and c.one_in(2):
        A = Given(A.value[..., :1], A.numbers[..., :1], "some")
    options, lam = some_options(c), c.rather((0.0, 0.1, 1e-200), (-1.0, np.nan, "a"))
    found = attempt(skinv.pinv, A, damping=lam, return_report=True, **options)
    if found is REFUSED or not A.right or A.numbers.ndim != 3:
        return
    X, bound = on_host(found.inverse), on_host(found.bound)
    assert X.shape == A.numbers.swapaxes(1, 2).shape
    assert bound.shape == found.status.shape == X.shape[:1]
    assert (bound >= 0).all()
    lost = bound == np.inf
    assert np.isnan(X[lost]).all() or options.get("fallback") == "keep"
    assert (on_host(found.distance) >= 0).all()
