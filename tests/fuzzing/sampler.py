"""Fuzzing of FeasibleRegionSampler."""

import math
import warnings
from functools import partial

import numpy as np
import torch
from strategies import JUNK, REFUSED, Given, attempt, center_of

from fuzzing.common import EPS, check_like, embedded, entry, on_host
from fuzzing.geometry import a_center, a_radius, length_of, members, true_distance
from fuzzing.models import float_dtypes, matrices_for, region
from skinv import (
    FeasibleRegionSampler,
)


def regions(c):
    """Return one of the fitted samplers, and the order of its matrices."""
    pool = [({}, 2), ({"radius": 2.0}, 2), ({"norm": "l2"}, 2), ({"norm": "l1", "radius": 2.0}, 2)]
    pool += [({"norm": "l2", "radius": 3.0, "min_distance": 0.1}, 2), ({"min_distance": 0.1}, 2)]
    pool += [({"structure": "symmetric"}, 2), ({"radius": 0}, 2), ({"norm": "mahalanobis"}, 2)]
    pool += [({"radius": "data"}, 3), ({"center": "complex"}, 4), ({"norm": "mahalanobis"}, 3)]
    params, n = c.of(*pool)
    outside = c.of("project", "project", "nan", "raise", "warn")
    return region(n, on_infeasible=outside, **params), n


@entry("FeasibleRegionSampler.sample")
def fuzz_sample(c):
    model, n = regions(c)
    m = c.count(4)
    options = c.options(return_inverse=[c.flag])
    if c.one_in(3):
        wrong = "moon", "cuda:9", 5, "", "meta"
        options["device"] = c.rather(("cpu", torch.device("cpu")), wrong)
        options |= c.options(dtype=[torch.float32, torch.float16, partial(c.of, int, "f4")])
    else:
        wrong = torch.float16, int, "f9", complex, [], object
        options["dtype"] = c.rather((np.float32, "f8", "f2", None), wrong)
        if c.one_in(3):
            options["chunks"] = c.rather((1, 2, "auto"), ((1,), 0, -1, "x", 1.5, [2, 2]))
    model._rng = np.random.RandomState(c.rng.randint(2**31))
    found = attempt(model.sample, m, **options)
    if found is REFUSED:
        return
    X = found[0] if options.get("return_inverse", True) else found
    assert tuple(X.shape) == (m, n * n)
    if options.get("device") is None and options.get("chunks") is None:
        assert X.dtype == np.dtype(options.get("dtype") or np.float64)
        assert model.is_feasible(X).all() or X.dtype.itemsize < 4
        if isinstance(found, tuple):
            A, Y = X.reshape(-1, n, n).astype(float), found[1].reshape(-1, n, n).astype(float)
            assert np.abs(A @ Y - np.eye(n)).max() <= 640 * np.finfo(X.dtype).eps * np.abs(Y).max()


@entry("FeasibleRegionSampler.decision_function", "FeasibleRegionSampler.is_feasible")
def fuzz_decision_function(c):
    model, n = regions(c)
    X = matrices_for(c, n)
    depth = attempt(model.decision_function, X)
    inside = attempt(model.is_feasible, X)
    assert (depth is REFUSED) == (inside is REFUSED)
    if depth is REFUSED or X.numbers is None:
        return
    assert X.right
    check_like(depth, X, (len(X.numbers),))
    check_like(inside, X, (len(X.numbers),), ("bool",))
    A, depth, inside = embedded(X.stack), on_host(depth), on_host(inside).astype(bool)
    assert not np.isnan(depth).any()
    assert not (inside & (depth < 0)).any()
    with np.errstate(all="ignore"):
        E = (A - model.center_).reshape(len(A), n * n)
        finite = np.isfinite(A).all(axis=(1, 2))
        size = np.abs(A).max(axis=(1, 2), initial=0) + np.abs(model.center_).max()
    assert (depth[~finite] == -np.inf).all()
    norm = model.certificate_.norm
    if norm != "mahalanobis" and np.ndim(model.radius_) == 0 and model.structure is None and n != 4:
        for e, d, s in zip(E[finite], depth[finite], size[finite], strict=True):
            true = model.radius_ - length_of(e, norm)
            slack = 100 * max(X.eps, EPS) * s
            assert not np.isfinite(true) or abs(d - true) <= slack + 1e-12 * abs(true)


@entry("FeasibleRegionSampler.transform")
def fuzz_transform(c):
    model, n = regions(c)
    check_transformed(c, model, n, model.transform)


@entry("FeasibleRegionSampler.fit_transform")
def fuzz_fit_transform(c):
    norm, outside = c.of("linf", "l2", "l1"), c.of("project", "nan", "raise", "warn")
    model = FeasibleRegionSampler(norm=norm, on_infeasible=outside)
    check_transformed(c, model, c.of(1, 2, 2, 3), model.fit_transform)


def check_transformed(c, model, n, call):
    """Transform matrices, and check what comes back."""
    again = call == model.fit_transform
    X = matrices_for(c, n)
    if model.on_infeasible == "warn":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Rows .* are outside the feasible region")
            Y = attempt(call, X)
    else:
        Y = attempt(call, X)
    if Y is REFUSED or X.numbers is None:
        return
    assert X.right or again
    dtypes, wide = float_dtypes(X, "float32", "float64"), ("float32", "float64")
    check_like(Y, X, X.numbers.shape, {*dtypes, *wide} if X.is_tensor else dtypes)
    if X.numbers.ndim == 3 and X.numbers.shape[1] != X.numbers.shape[2]:
        return  # see test_rectangular_sampling.py
    A, B = embedded(X.stack), embedded(Given(None, on_host(Y), X.layout).stack)
    inside = on_host(model.is_feasible(X.value)).astype(bool)
    assert np.array_equal(A[inside], B[inside])
    how = model.on_infeasible
    if how == "nan":
        assert np.isnan(B[~inside]).all()
    elif how == "raise":
        assert inside.all()
    elif how == "project":
        depth = on_host(model.decision_function(Y))[np.isfinite(A).all(axis=(1, 2))]
        # Where the region's own numbers are lost in the dtype's rounding there is nothing to ask.
        assert (depth >= 0).all() or (X.is_tensor and X.value.dtype.itemsize < 4) or again


@entry("FeasibleRegionSampler.fit_resample")
def fuzz_fit_resample(c):
    n = c.of(1, 2, 2, 3)
    model = region_of(c, n)
    m = c.of(2, 5)
    X = c.matrices(n, m, calm=True)
    y = c.rather((None, np.arange(m), list(range(m)), c.matrices(n, m)), (np.arange(7), [], 5))
    found = attempt(model.fit_resample, X, y)
    if found is not REFUSED and X.right:
        kept, targets = found
        assert 0 < len(kept) <= len(X.numbers)
        assert targets is None or len(targets) == len(kept)


def region_of(c, n):
    """Return a sampler that is not fitted, with parameters some of which may be wrong."""
    norm = c.choice("linf", "l2", "l1")
    center = c.rather((None, center_of(n)), (c.number, *JUNK, partial(a_center, c, n)))
    params = c.options(
        min_distance=[0.0, partial(c.number, 0.01, 0.1)],
        on_infeasible=[partial(c.choice, "project", "nan", "raise", "drop")],
        structure=[None, None, partial(c.choice, "symmetric")],
        random_state=[c.seed],
    )
    if c.one_in(4) and center is None:
        return FeasibleRegionSampler(center, norm="mahalanobis", **params)
    radius = a_radius(c, n) if norm == "linf" else c.number(0.1, 0.5, 1.0)
    radius = "data" if c.one_in(3) else radius
    return FeasibleRegionSampler(getattr(center, "value", center), radius, norm=norm, **params)


@entry("FeasibleRegionSampler.fit")
def fuzz_fit_region(c):
    n = c.of(1, 2, 2, 3)
    model = region_of(c, n)
    X = None if c.one_in(3) and model.center is not None else c.matrices(n, calm=True)
    fitted = attempt(model.fit, X)
    if fitted is REFUSED:
        return
    assert fitted is model
    n = len(model.center_)
    assert model.center_.shape == (n, n)
    assert model.n_features_in_ == n * n
    assert not math.isnan(model.margin_)
    assert model.is_certified_ == (model.margin_ > 0)
    assert model._region is not None
    if model.is_certified_ and n <= 3:
        norm = model.certificate_.norm
        axes = getattr(model, "axes_", None)
        kind = "l2" if norm == "mahalanobis" else norm
        for M in members(c, model.center_, model.radius_, norm, axes, 8):
            low = true_distance(M, kind)
            assert low >= model.margin_ * (1 - 1e-9) - 1e-13 * np.abs(M).max()
