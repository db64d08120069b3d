"""Fuzzing of proofs over regions, and of why they must fail."""

import warnings
from functools import partial

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from strategies import CENTER, REFUSED, attempt

from fuzzing.common import check_relative, entry, inverse_of, on_host
from fuzzing.geometry import a_center, length_of, members
from fuzzing.impossibility import a_norm, check_certificate
from fuzzing.models import a_model, a_sampler, cubic, region, series
from skinv import (
    bounds,
    export,
    impossibility,
)


def true_errors(model, matrices):
    """Return the largest entry of the error of a model at matrices."""
    predicted = on_host(model.predict(matrices.reshape(len(matrices), -1))).reshape(matrices.shape)
    exact = np.array([inverse_of(A) for A in matrices])
    return np.abs(predicted - exact).max(axis=(1, 2))


def true_residuals(model, matrices):
    """Return the Frobenius norms of I − A f(A)."""
    predicted = on_host(model.predict(matrices.reshape(len(matrices), -1))).reshape(matrices.shape)
    return np.linalg.norm(np.eye(matrices.shape[-1]) - matrices @ predicted, axis=(1, 2))


def fuzz_slices(c):
    """Residuals over slices."""
    model = c.rather((a_model(c), cubic()), (None, a_sampler(c)))
    center = a_center(c, 2) if c.one_in(3) else CENTER
    D = c.rng.uniform(-0.2, 0.2, (c.of(1, 2, 3), 2, 2))
    directions = D if c.one_in(2) else c.rather((D, D.tolist(), torch.tensor(D)), (D[0], "D", 1.0))
    options = c.options(
        radius=[partial(c.rather, (0.0, 1e-6, np.full((2, 2), 1e-6)), (-1.0, "r", np.nan, [1.0]))],
        error=[partial(c.rather, ("residual",), ("norm", None, "entries"))],
        rtol=[partial(c.number, 0.05, 1.0)],
    )
    options = {"error": "residual", **options}
    found = attempt(
        bounds.certify_region,
        model,
        center,
        directions=directions,
        max_boxes=c.count(30),
        max_time=None,
        **options,
    )
    if found is REFUSED or options["error"] != "residual" or center is not CENTER:
        return
    assert 0 <= found.lower <= found.upper
    assert found.status in ("converged", "max_boxes", "rounding")
    inner = model.estimator if isinstance(model, FrozenEstimator) else model
    z = c.rng.uniform(-1, 1, (8, len(D)))
    some = np.concatenate((CENTER + np.tensordot(z, D, 1), found.witness[None]))
    true = true_residuals(inner, some)
    noise = 1e-9 * (1 + true)
    assert not (true > found.upper + noise).any()
    assert np.isnan(true[-1]) or true[-1] >= found.lower - noise[-1]


@entry("bounds.certify_region")
def fuzz_certify_region(c):
    if c.one_in(3):
        fuzz_slices(c)
        return
    model, sampler = a_model(c), a_sampler(c)
    options = c.options(
        rtol=[partial(c.number, 0.05, 1.0)],
        device=[partial(c.rather, ("cpu",), ("moon", "cuda:7", "", 5, None, "meta"))],
        random_state=[c.seed],
        verbose=[partial(c.rather, (0, False), (-1, "1", None))],
    )
    options["max_boxes"], options["max_time"] = c.count(30), None
    found = attempt(bounds.certify_region, model, sampler, **options)
    if found is REFUSED:
        return
    assert 0 <= found.lower <= found.upper
    assert found.status in ("converged", "max_boxes", "rounding")
    noise = 1e-9 * (1 + found.lower)
    if sampler.radius_ is not None and np.isfinite(found.lower):
        inner = model.estimator if isinstance(model, FrozenEstimator) else model
        assert true_errors(inner, found.witness[None])[0] >= found.lower - noise
        if np.isfinite(found.upper):
            norm, axes = sampler.certificate_.norm, getattr(sampler, "axes_", None)
            some = members(c, sampler.center_, sampler.radius_, norm, axes, 8)
            if sampler.structure is not None:
                some = (some + some.swapaxes(1, 2)) / 2
            assert (true_errors(inner, some) <= found.upper + 1e-9 * (1 + found.upper)).all()


def modules(c):
    """Return a torch module, that need not have a certificate."""
    nn = torch.nn
    good = (
        nn.Linear(4, 4),
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 4)),
        nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.SiLU(), nn.Linear(2, 4)).double(),
        nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)),
        export.to_module(series()),
    )

    class Odd(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    odd = (
        Odd(lambda x: 1 / x),
        Odd(torch.linalg.inv),
        Odd(lambda x: x + torch.rand(1)),
        Odd(lambda x: x.sum()),
        Odd(lambda x: "x"),
        Odd(lambda x: x[5]),
        nn.LayerNorm(4, eps=0.0),
        nn.BatchNorm1d(4),
        nn.Linear(4, 4).half(),
        nn.LSTM(4, 4),
        nn.Identity(),
        nn.Sequential(),
        nn.Module(),
    )
    with torch.no_grad():
        bad = nn.Linear(4, 4)
        bad.weight[0, 0] = c.of(np.nan, np.inf, 1e38)
    return c.rather(good, (*odd, bad))


@entry("impossibility.polynomial_lipschitz")
def fuzz_polynomial_lipschitz(c):
    module = modules(c) if c.one_in(2) else a_model(c)
    norm = a_norm(c)
    wrong = (2, 2), (), (-1,), (0,), "4", (4.5,), (3,), (None,)
    shape = c.rather((None, (4,), 4, [4]), wrong)
    found = attempt(impossibility.polynomial_lipschitz, module, norm, input_shape=shape)
    if found is REFUSED:
        return
    check_certificate(found)
    assert found.norm == norm
    if isinstance(module, torch.nn.Linear):
        x, y = c.rng.standard_normal((2, 5, 4))
        f, b = on_host(module.weight), on_host(module.bias)
        for u, v in zip(x, y, strict=True):
            t = max(length_of(u, norm), length_of(v, norm))
            assert length_of(f @ (u - v), norm) <= found.P(t) * length_of(u - v, norm) * (1 + 1e-9)
            assert length_of(f @ u + b, norm) <= found.B(t) * (1 + 1e-9)


@entry("impossibility.failure_distance")
def fuzz_failure_distance(c):
    model = modules(c) if c.one_in(4) else a_model(c)
    radius, error = c.number(0.5, 3.0), c.number(1.0, 100.0)
    center = c.of(None, CENTER, CENTER, partial(a_center, c, 2))
    options = c.options(magnitude=[None, None, c.number])
    found = attempt(impossibility.failure_distance, model, radius, error, center=center, **options)
    if found is REFUSED:
        return
    assert 0 <= found <= 1 / max(error, 1e-308) or error == 0
    known = options.get("magnitude") is None and hasattr(model, "predict")
    if found and known and center is CENTER:
        # A matrix of the ball that is nearer than that to a singular one is one it fails at.
        U, s, Vt = np.linalg.svd(CENTER)
        A = CENTER - (s[-1] - 0.5 * min(found, s[-1])) * np.outer(U[:, -1], Vt[-1])
        if np.linalg.norm(A - CENTER) <= float(radius) and np.linalg.cond(A) < 1e12:
            off = on_host(model.predict(A.reshape(1, 4))).reshape(2, 2) - inverse_of(A)
            assert np.linalg.norm(off, 2) >= float(error) * (1 - 1e-6)


@entry("impossibility.counterexample")
def fuzz_counterexample(c):
    model = modules(c) if c.one_in(4) else a_model(c)
    center = c.of(CENTER, partial(a_center, c, 2))
    error = c.number(1.0, 1e3, 1e3)
    options = {"n_directions": c.count(3), "max_iter": c.of(0, partial(c.count, 2))}
    found = attempt(
        *(impossibility.counterexample, model, center, error), random_state=c.seed(), **options
    )
    if found is REFUSED:
        return
    assert found.error_lower > float(error)
    A = found.matrix
    true = inverse_of(A)
    unit = np.abs(found.prediction - true).max()
    size = np.linalg.norm((found.prediction - true) / unit, 2)
    assert size * unit >= found.error_lower * (1 - 1e-9)
    check_relative(A[None], found.inverse[None], [found.bound])


@entry("impossibility.truncated_moments")
def fuzz_truncated_moments(c):
    model = modules(c) if c.one_in(4) else a_model(c)
    sampler = a_sampler(c, region(radius=2.0), region(norm="l1", radius=2.0))
    p = c.rather(((1, 2), 2, [1, 2, 3]), (c.number, [], [0.5], [np.nan], "2", [[1, 2]], 1e3))
    wrong = [], [-1], [0], [np.inf], "x", [1j], [[1, 2]], c.number
    cutoffs = c.rather((None, [1e-3, 1e-4, 1e-5], 1e-3), wrong)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No sample is between the cutoffs")
        found = attempt(
            *(impossibility.truncated_moments, model, sampler, p, cutoffs),
            n_samples=c.count(50),
            random_state=c.seed(),
        )
    if found is REFUSED:
        return
    assert np.shape(found.moments)[-1] == len(found.cutoffs)
    assert np.shape(found.moments)[:-1] == np.shape(p)
    assert (np.diff(np.atleast_2d(found.moments), axis=1) >= 0).all()
    assert repr(found)
