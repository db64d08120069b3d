"""Fuzzing of distances and regions."""

import math
import warnings
from itertools import product

import numpy as np
from strategies import REFUSED, Given, attempt, center_of

from fuzzing.common import EPS, embedded, entry, inverse_of, on_host, smallest_singular_value
from skinv import (
    geometry,
)


def true_distance(A, norm):
    """Return the distance to the singular matrices, by brute force."""
    if norm == "l2":
        return smallest_singular_value(A)
    unit = 2.0 ** (math.frexp(np.abs(A).max())[1] - 1)
    B = inverse_of(A / unit)
    if B is None or not np.isfinite(B).all():
        return 0.0  # or next to it
    if norm == "l1":
        return unit / np.abs(B).max()
    with np.errstate(over="ignore", invalid="ignore"):
        signs = np.array(list(product([-1, 1], repeat=len(A))))
        return unit / np.abs(signs @ B.T).sum(axis=1).max()


def length_of(E, norm):
    """Return a norm of a flattened matrix."""
    unit = np.abs(E).max() or 1.0
    length = {"l1": np.sum, "l2": np.linalg.norm, "linf": np.max}[norm]
    with np.errstate(over="ignore"):
        return length(np.abs(E) / unit) * unit


def a_matrix_or_stack(c, n=None, **options):
    """Return a Given of a stack (..., n, n) of some leading shape, or of something else."""
    n = c.of(1, 2, 2, 2, 3, 4) if n is None else n
    given = c.matrices(n, layouts=("stack",), **options)
    if given.right and given.numbers.ndim == 3 and len(given.numbers) and c.one_in(3):
        first = given.numbers[0]
        return Given(c.contained(first, frames=False), first, "one")
    return given


def pairs(A, results):
    """Check that results are matrices in float64 like those given, and yield both, one by one."""
    assert type(results) is np.ndarray
    assert results.dtype == np.float64
    assert results.shape == A.numbers.shape
    n = results.shape[-1]
    with np.errstate(all="ignore"):
        stack = np.asarray(A.numbers).astype(np.float64).reshape(-1, n, n)
    return zip(stack, results.reshape(stack.shape), strict=True)


@entry("geometry.distance_to_singularity")
def fuzz_distance(c):
    A = a_matrix_or_stack(c)
    norm = c.choice("l2", "l1", "linf")
    options = c.options(return_bounds=(True, False))
    with warnings.catch_warnings():  # what is not square, and so not right, has lower bounds only
        warnings.simplefilter("error" if A.right else "ignore", geometry.DistanceBoundWarning)
        found = attempt(geometry.distance_to_singularity, A, norm, **options)
    if found is REFUSED or not A.right:
        return
    bounds = options.get("return_bounds")
    lower, upper = (found.lower, found.upper) if bounds else (found, found)
    shape = A.numbers.shape[:-2]
    assert np.shape(lower) == np.shape(upper) == shape
    stack = A.stack if A.layout != "one" else Given(None, A.numbers[None], "stack").stack
    stack = embedded(stack)
    for M, low, high in zip(stack, np.ravel(lower), np.ravel(upper), strict=True):
        if not np.isfinite(M).all():
            assert np.isnan([low, high]).all()
            continue
        slack = 16 * len(M) * EPS * np.abs(M).max() * len(M) + 1e-322
        true = true_distance(M, norm)
        assert low <= true + slack or low == true
        assert high >= true - slack or high == true


@entry("geometry.nearest_singular")
def fuzz_nearest_singular(c):
    A = a_matrix_or_stack(c)
    norm = c.choice("l2", "l1", "linf")
    S = attempt(geometry.nearest_singular, A, norm)
    if S is REFUSED or not A.right:
        return
    for M, N in pairs(A, S):
        if not np.isfinite(M).all():
            assert np.array_equal(M, N, equal_nan=True)
        elif np.isfinite(N).all():
            slack = 32 * len(M) ** 2 * EPS * max(np.abs(M).max(), np.abs(N).max()) + 1e-322
            assert smallest_singular_value(N) <= slack
            assert length_of(N / 4 - M / 4, norm) <= true_distance(M, norm) / 4 * (1 + 1e-9) + slack


@entry("geometry.nearest_regular")
def fuzz_nearest_regular(c):
    A = a_matrix_or_stack(c)
    keep = c.number()
    N = attempt(geometry.nearest_regular, A, keep)
    if N is REFUSED or not A.right:
        return
    for M, R in pairs(A, N):
        if not np.isfinite(M).all():
            assert np.array_equal(M, R, equal_nan=True)
        elif np.isfinite(R).all():
            size = max(np.abs(M).max(), float(keep))
            assert smallest_singular_value(R) >= float(keep) - 32 * len(M) ** 2 * EPS * size


def a_center(c, n):
    """Return a Given of one matrix of order n, square or flat, or of something else."""
    real = ["f8", "f8", "f4", "f2", "g", "i8", ">f4", "O", "fraction", "?"]
    given = c.matrices(n, 1, dtypes=[*real, "c16"], layouts=("stack",), calm=True)
    if not (given.right and given.numbers.ndim == 3):
        return given
    A = given.numbers[0] if c.one_in(3) else c.dtyped(center_of(n), real)
    A = A if c.one_in(2) else A.ravel()
    return Given(c.contained(A, frames=False), A, "one")


def a_radius(c, n):
    """Return a radius, or half-widths of entries, that may be out of range."""
    if c.one_in(2):
        return c.number(0.1, 0.3, 0.5, 1.0, 0.0, 0.7, np.float32(0.4), 1)
    if c.slips(6):
        return "data"
    widths = c.of(0.1, 0.3, 1.0) * c.rng.uniform(size=(n, n))
    return c.contained(c.dtyped(widths, ["f8", "f8", "f4", "g", "O", "c16"]), frames=False)


def axes_of(c, n):
    """Return semi-axes of an ellipsoid, mostly."""
    if c.slips(5):
        one = np.ones((1, n * n))
        return c.of(None, [], [[1.0]], "axes", one * np.nan, one * 1j)
    axes = 0.2 * c.rng.standard_normal((c.of(1, 2, n * n), n * n))
    return axes * c.of(1, 1, 1e-3, 10.0, 1e200, 1e-200, 0.0)


def members(c, center, radius, norm, axes, m=24):
    """Return matrices of a region, the corners of a box or the ends of axes among them."""
    n, rng = len(center), c.rng
    if norm == "mahalanobis":
        z = rng.standard_normal((m, len(axes)))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        return center + float(radius) * (z @ np.asarray(axes).reshape(-1, n * n)).reshape(m, n, n)
    E = rng.uniform(-1, 1, (m, n * n))
    if norm == "linf":
        E[: m // 2] = np.sign(E[: m // 2])
        return center + E.reshape(m, n, n) * on_host(radius).astype(np.float64)
    if norm == "l1":
        E = np.where(np.arange(n * n) == rng.randint(n * n, size=(m, 1)), np.sign(E), 0.0)
    else:
        E /= np.linalg.norm(E, axis=1, keepdims=True)
    return center + float(radius) * E.reshape(m, n, n)


def a_region(c):
    """Return arguments of the functions of regions: centre, radius, norm, and options."""
    norm = c.choice("linf", "linf", "l2", "l1", "mahalanobis")
    n = c.of(1, 2, 2, 2, 3) if norm != "mahalanobis" else c.of(1, 2)
    options = {"axes": axes_of(c, n)} if norm == "mahalanobis" or c.one_in(10) else {}
    radius = a_radius(c, n) if norm == "linf" or c.slips(4) else c.number(0.1, 0.5, 1.0, 0)
    return a_center(c, n), radius, norm, options


def flat_center(center):
    """Return the centre as a matrix in float64, or None if it is not one of numbers."""
    A = embedded(np.atleast_3d(center.numbers).T.T) if center.layout == "one" else None
    if A is None or np.iscomplexobj(center.numbers):
        return None
    n = math.isqrt(center.numbers.size)
    return np.asarray(center.numbers).astype(np.float64).reshape(n, n)


@entry("geometry.region_margin")
def fuzz_region_margin(c):
    center, radius, norm, options = a_region(c)
    margin = attempt(geometry.region_margin, center, radius, norm, **options)
    assert margin is REFUSED or not math.isnan(margin)


@entry("geometry.region_certificate")
def fuzz_region_certificate(c):
    center, radius, norm, options = a_region(c)
    keep = c.number(0.0, 0.0, 0.1)
    found = attempt(geometry.region_certificate, center, radius, norm, keep, **options)
    if found is REFUSED:
        return
    margin = found.margin
    assert found.is_certified == (margin > 0)
    A = flat_center(center)
    if A is None:
        return
    assert np.isfinite(A).all()
    if norm != "mahalanobis":
        slack = 64 * len(A) ** 2 * EPS * np.abs(A).max()
        assert found.distance <= true_distance(A, norm) + slack
        assert found.distance_upper >= true_distance(A, norm) - slack
    if found.is_certified:
        kind = "l2" if norm == "mahalanobis" else norm
        axes = options.get("axes")
        for M in members(c, A, radius, norm, axes):
            low = true_distance(M, kind)
            assert low >= (margin + float(keep)) * (1 - 1e-9) - 1e-13 * np.abs(M).max()
