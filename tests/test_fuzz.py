"""Fuzzing: 200 cases of hostile arguments for every public function and method.

Whatever comes, a call raises what its docstring says, or returns something of the shape and dtype
that it says, with the input as it was; and what comes back as a proof is held against an oracle
that knows nothing of the package. Public names are found by crawling: one without an entry fails.
"""

import copy
import inspect
import math
import pathlib
import pickle
import tempfile
import warnings
from fractions import Fraction
from functools import cache, partial
from itertools import product

import numpy as np
import pandas
import pytest
import scipy.linalg
import torch
from flint import arb, arb_mat, ctx
from hostile import NORMS, Oracle
from hypothesis import HealthCheck, given, settings
from matplotlib.figure import Figure
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from strategies import CENTER, CHOICES, JUNK, REFUSED, Given, attempt, center_of, on_purpose

import skinv
from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    SingularDistanceScorer,
    StructuredInverse,
    bounds,
    datasets,
    export,
    geometry,
    impossibility,
    inspection,
    matrices,
    metrics,
    persistence,
    refinement,
    structures,
)
from skinv._arrays.host import is_complex
from skinv._arrays.projected import ProjectedArray

# What scikit-learn says of data frames and of scores, and leaves to its users.
pytestmark = [
    pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names"),
    pytest.mark.filterwarnings("ignore:Singular matrix in solving dual problem"),
    pytest.mark.filterwarnings("ignore:R\\^2 score is not well-defined"),
]
ENTRIES = {}
EPS = float(np.finfo(np.float64).eps)


def entry(*names):
    """Register a function of Choices that uses each of some public names in every case."""

    def register(function):
        for name in names:
            assert name not in ENTRIES
            ENTRIES[name] = function
        return function

    return register


# -- oracles ---------------------------------------------------------------------------------------


@cache
def _oracle(content, n):
    return Oracle(np.frombuffer(content).reshape(n, n))


def oracle(A):
    """Return the oracle of a matrix, kept, since cases repeat themselves."""
    A = np.ascontiguousarray(A, dtype=np.float64)
    return _oracle(A.tobytes(), len(A))


def inverse_of(A):
    """Return the exact inverse, rounded; None of what is singular or not finite."""
    known = oracle(A)
    if known.singular:
        return None
    return np.array([float(x.mid()) for x in known.entries]).reshape(A.shape)


def smallest_singular_value(A):
    """Return it by another driver of LAPACK than NumPy's, on a matrix of moderate size."""
    unit = 2.0 ** (math.frexp(np.abs(A).max())[1] - 1)
    return float(scipy.linalg.svd(A / unit, compute_uv=False, lapack_driver="gesvd")[-1]) * unit


def embedded(stack):
    """Return complex matrices as real ones of twice the order; real ones as they are."""
    if not np.iscomplexobj(stack):
        return stack
    return np.block([[stack.real, -stack.imag], [stack.imag, stack.real]])


def check_relative(A, X, bound, norm="fro"):
    """Hold proven bounds of relative errors of inverses against ball arithmetic."""
    bound = np.asarray(bound, dtype=np.float64)
    assert bound.shape == (len(A),)
    assert bound.dtype == np.float64
    assert (bound >= 0).all()  # NaN is not
    for k in np.flatnonzero(np.isfinite(bound)):
        assert bound[k] >= oracle(A[k]).errors(X[k])[NORMS.index(str(norm))]


def on_host(values):
    """Return a tensor or array as an array, float64 or complex128."""
    if isinstance(values, torch.Tensor):
        values = values.detach().to(torch.complex128 if values.is_complex() else torch.float64)
        values = values.numpy()
    return np.asarray(values)


def check_like(result, given, shape, dtypes=None):
    """Check that a result is an array or tensor as its argument is, of a shape and dtype."""
    assert isinstance(result, torch.Tensor if given.is_tensor else np.ndarray)
    assert tuple(result.shape) == tuple(shape)
    if dtypes is not None:
        assert str(result.dtype).removeprefix("torch.") in dtypes
    assert not isinstance(result, np.ndarray) or type(result) in (np.ndarray, ProjectedArray)


# -- geometry --------------------------------------------------------------------------------------


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
    found = attempt(geometry.distance_to_singularity, A, norm, **options)
    if found is REFUSED:
        return
    if not A.right:
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


# -- bounds and refinement -------------------------------------------------------------------------


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
    accumulate = partial(c.rather, (None, "float64"), ("float16", 1))
    options = c.options(sharp=(True, False), accumulate=[accumulate])
    bound = attempt(bounds.residual_bound, A, X, norm, **options)
    if bound is REFUSED or not (A.right and X.right):
        return
    assert isinstance(bound, torch.Tensor if A.is_tensor or X.is_tensor else np.ndarray)
    name = {"inf": "inf", "1": "1", "fro": "fro"}[str(norm)]
    check_relative(*embedded_pair(A.stack, X.stack), on_host(bound), name)


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


# -- metrics, layouts, structures ------------------------------------------------------------------


def fuzz_errors(name):
    """Return an entry of a function of pairs of stacks, with an error for each."""

    def fuzz(c):
        X, Y = a_pair(c)
        found = attempt(getattr(metrics, name), X, Y)
        if found is not REFUSED and X.right and Y.right:
            assert type(found) is np.ndarray
            assert found.dtype == np.float64
            assert found.shape == (len(X.numbers),)
            assert not (found < 0).any()

    entry(f"metrics.{name}")(fuzz)


for _name in ("absolute_errors", "relative_errors", "residual_norms"):
    fuzz_errors(_name)


@entry("matrices.embed_complex", "matrices.extract_complex")
def fuzz_embed_complex(c):
    Z = a_matrix_or_stack(c)
    E = attempt(matrices.embed_complex, Z)
    if E is not REFUSED and Z.right:
        n = Z.numbers.shape[-1]
        check_like(E, Z, (*Z.numbers.shape[:-2], 2 * n, 2 * n))
        assert not is_complex(E)
        again = on_host(attempt(matrices.extract_complex, E))
        numbers = on_host(Z.value) if Z.is_tensor else Z.numbers
        assert np.array_equal(again, np.asarray(numbers, dtype=again.dtype), equal_nan=True)
    X = a_matrix_or_stack(c, c.of(2, 4, 4, 3))
    Y = attempt(matrices.extract_complex, X)
    if Y is not REFUSED and X.right:
        n = X.numbers.shape[-1] // 2
        check_like(Y, X, (*X.numbers.shape[:-2], n, n), ("complex64", "complex128"))


@entry("structures.pack_symmetric")
def fuzz_pack_symmetric(c):
    n = c.of(1, 2, 2, 3, 4)
    X = c.matrices(n)
    if X.right and not c.one_in(3) and X.numbers.dtype.kind == "f":
        with np.errstate(all="ignore"):
            A = X.stack + X.stack.swapaxes(1, 2)
            A = A.astype(X.numbers.dtype).reshape(X.numbers.shape)
        X = Given(c.contained(A), A, X.layout)
    packed = attempt(structures.pack_symmetric, X)
    if packed is not REFUSED and X.right:
        check_like(packed, X, (len(X.numbers), n * (n + 1) // 2))
        again = on_host(structures.unpack_symmetric(packed))
        size = np.abs(X.stack).max(axis=(1, 2), keepdims=True, initial=0)
        ok = np.isfinite(size).ravel()
        with np.errstate(all="ignore"):
            assert (np.abs(again - X.stack) <= 32 * X.eps * size)[ok].all()


@entry("structures.unpack_symmetric")
def fuzz_unpack_symmetric(c):
    n = c.of(1, 2, 2, 3)
    k = c.of(n * (n + 1) // 2, n * (n + 1) // 2, c.rng.randint(12))
    A = c.dtyped(c.rng.standard_normal((c.of(0, 1, 3), k)))
    X = Given(c.contained(A), A) if not c.one_in(8) else c.matrices(n)
    full = attempt(structures.unpack_symmetric, X)
    if full is not REFUSED and X.numbers is A:
        order = full.shape[-1]
        check_like(full, X, (len(A), order, order))
        assert order * (order + 1) == 2 * k
        full = on_host(full)
        assert ((full == full.swapaxes(1, 2)) | (full != full)).all()


@entry("persistence.saved_by")
def fuzz_saved_by(c):
    model = c.of(*JUNK, series(), LinearInverseApprox(), LinearInverseApprox)
    assert persistence.saved_by(model) is None
    loaded = pickle.loads(pickle.dumps(c.of(series(), affine(), region())))
    assert persistence.saved_by(loaded)["version"] == skinv.__version__


# -- data sets -------------------------------------------------------------------------------------


def check_data(found, return_X_y):
    X, y = found if return_X_y else (found.data, found.target)
    assert X.shape == y.shape
    assert X.dtype == y.dtype == np.float64


@entry("datasets.load_power_flow")
def fuzz_load_power_flow(c):
    options = c.options(return_X_y=(True, False, 0, "yes", None))
    found = attempt(datasets.load_power_flow, c.choice("case9", "case6ww", "case30"), **options)
    if found is not REFUSED:
        check_data(found, options.get("return_X_y"))


@entry("datasets.load_robot_arm")
def fuzz_load_robot_arm(c):
    options = c.options(return_X_y=(True, False, 0, "yes", None))
    check_data(attempt(datasets.load_robot_arm, **options), options.get("return_X_y"))


@entry("datasets.make_channel_gram")
def fuzz_make_channel_gram(c):
    options = {
        "n_users": c.count(4),
        "n_antennas": c.count(9),
        **c.options(correlation=[partial(c.number, 0.5, 0.3j, 0)], snr_db=[c.number]),
        **c.options(return_channels=(True, False), return_X_y=(True, False)),
        **c.options(random_state=[c.seed]),
    }
    m = c.count(4)
    found = attempt(datasets.make_channel_gram, m, **options)
    if found is REFUSED:
        return
    X = found[0] if options.get("return_X_y") else found.data
    n = int(options["n_users"])
    assert X.shape == (m, n, n)
    assert X.dtype == np.complex128
    assert np.array_equal(X, X.conj().swapaxes(1, 2))


@entry("datasets.make_region")
def fuzz_make_region(c):
    name = c.choice("2x2-first", "2x2-second", "3x3")
    m = c.count()
    options = c.options(return_X_y=(True, False), random_state=[c.seed])
    found = attempt(datasets.make_region, name, n_samples=m, **options)
    if found is not REFUSED:
        X, Y = found if options.get("return_X_y") else (found.data, found.target)
        assert len(X) == len(Y) == m
        n = math.isqrt(X.shape[1])
        assert np.allclose(X.reshape(-1, n, n) @ Y.reshape(-1, n, n), np.eye(n))


# -- the calculus of impossibility -----------------------------------------------------------------


def coefficients(c):
    """Return a number, coefficients, a polynomial, or none of these."""
    if c.slips(4):
        return c.of(c.number, *JUNK)
    some = np.abs(c.rng.standard_normal(c.of(1, 2, 3)))
    with np.errstate(all="ignore"):
        some = some * c.rather((1, 1, 1, 1e300, 1e-300), (-1, np.nan, np.inf))
    kinds = some, some.tolist(), tuple(some), np.polynomial.Polynomial(some), some[0]
    return [some] if c.slips(6) else c.of(*kinds)


def certificates(c, k):
    """Return certificates, mostly in one norm; now and then something else."""
    norm = c.of("l1", "l2", "linf")
    simple = impossibility.identity(norm), impossibility.lipschitz(2.0, 1.0, norm)
    other = impossibility.identity("l1"), impossibility.constant(1e300, norm)
    square = impossibility.PolynomialLipschitz([0, 2], [0, 0, 1], norm)
    right = [*simple, square, square]
    return [c.rather(right, [*other, c.of(*JUNK)]) for _ in range(k)]


def check_certificate(found, norm=None):
    """Check that coefficients are those of bounds."""
    assert isinstance(found, impossibility.PolynomialLipschitz)
    for polynomial in (found.P, found.B):
        assert np.isfinite(polynomial.coef).all()
        assert (polynomial.coef >= 0).all()
    assert found.degree >= 0
    assert repr(found)


def fuzz_calculus(name, arguments):
    """Return an entry of a function that returns a certificate."""

    def fuzz(c):
        args, kwargs = arguments(c)
        found = attempt(getattr(impossibility, name), *args, **kwargs)
        if found is not REFUSED:
            check_certificate(found)

    entry(f"impossibility.{name}")(fuzz)


def a_norm(c):
    return c.choice("l2", "l1", "linf")


fuzz_calculus("PolynomialLipschitz", lambda c: ([coefficients(c), coefficients(c), a_norm(c)], {}))
fuzz_calculus("identity", lambda c: ([a_norm(c)], {}))
fuzz_calculus("constant", lambda c: ([c.number(), a_norm(c)], {}))
fuzz_calculus(
    "lipschitz",
    lambda c: ([coefficients(c), c.number(), a_norm(c)], c.options(magnitude=[coefficients(c)])),
)
fuzz_calculus("elementwise", lambda c: ([coefficients(c), c.number(), c.count(), a_norm(c)], {}))
fuzz_calculus("compose", lambda c: (certificates(c, 2), {}))
fuzz_calculus("concatenate", lambda c: (certificates(c, c.of(0, 1, 2, 3)), {}))
fuzz_calculus("add", lambda c: (certificates(c, c.of(0, 1, 2, 3)), {}))
fuzz_calculus("residual", lambda c: (certificates(c, 1), {}))
fuzz_calculus("scale", lambda c: ([*certificates(c, 1), c.number()], {}))
fuzz_calculus("multiply", lambda c: (certificates(c, 2), c.options(factor=[c.number])))


class Mystery(torch.nn.Module):
    """A module of which only rules that are registered say anything."""

    def forward(self, x):
        return x.sin()


@entry("impossibility.register_rule")
def fuzz_register_rule(c):
    types = [c.rather((Mystery,), (int, "ReLU", None, torch.nn.ReLU(), *JUNK)) for _ in range(2)]
    decorate = attempt(impossibility.register_rule, *types, refused=(TypeError,))
    if decorate is REFUSED:
        return
    right = impossibility.lipschitz(1.0)
    answer = c.rather((right,), (None, "P", 1.0, impossibility.identity("l1"), [right]))

    def rule(module, shape, norm):
        return answer

    assert decorate(rule) is rule
    found = attempt(impossibility.polynomial_lipschitz, Mystery(), input_shape=(4,))
    assert found is REFUSED or answer is right


# -- models ----------------------------------------------------------------------------------------


@cache
def series(n=2, order=1):
    return LinearInverseApprox(center_of(n), order=order).fit()


@cache
def affine(n=2):
    return LinearInverseApprox(method="lstsq").fit(training(n))


@cache
def training(n=2, m=200):
    E = np.random.RandomState(n).uniform(-0.3, 0.3, (m, n, n))
    return (center_of(n) + E).reshape(m, n * n)


# -- estimators: predictions -----------------------------------------------------------------------


def for_each(*owners):
    """Register a function of Choices and a class, named like a method, for each of the classes."""

    def register(function):
        for owner in owners:
            entry(f"{owner}.{function.__name__}")(partial(function, owner=owner))
        return function

    return register


def estimators(c, owner):
    """Return one of the fitted models of inverses of a class, and the order of its matrices."""
    if owner == "NeuralInverseRegressor":
        make, n = c.of((relu, 2), (silu, 2), (partial(relu, 3), 3), (scalar, 2), (stopped, 2))
    elif owner == "PolynomialInverseApprox":
        pool = (polynomial, 2), (partial(polynomial, 1), 1), (partial(polynomial, 3), 3)
        kept, few = partial(polynomial, outside="keep"), partial(polynomial, m=5)
        make, n = c.of(*pool, (kept, 2), (few, 2), (complex_polynomial, 4), (quantity, 2))
    else:
        pool = [(series, 2), (partial(series, 2, 2), 2), (partial(series, 2, 3), 2), (affine, 2)]
        pool += [(partial(series, 1), 1), (partial(series, 3), 3), (complex_series, 4)]
        make, n = c.of(*pool, (named, 2), (single, 2))
    return make(), n


def matrices_for(c, n):
    """Return a Given for a model of matrices of order n; those of order 4 are of complex ones."""
    if n == 4 and not c.one_in(3):
        return c.matrices(2, dtypes=["c16", "c8"], layouts=["stack"])
    return c.matrices(n)


def _network(n, activation, **params):
    params = {"max_iter": 2, "random_state": 0, "batch_size": 64, **params}
    return NeuralInverseRegressor(4, activation, **params).fit(training(n))


@cache
def relu(n=2):
    return _network(n, "relu", baseline=None)


@cache
def silu():
    return _network(2, "silu")


@cache
def polynomial(n=2, m=200, outside="nan"):
    return PolynomialInverseApprox(on_extrapolation=outside).fit(training(n, m))


@cache
def complex_polynomial():
    rows = training()
    return PolynomialInverseApprox().fit((rows + 0.1j * rows[::-1]).reshape(-1, 2, 2))


@cache
def quantity():
    return PolynomialInverseApprox().fit(training(), training()[:, 0] ** 2)


@cache
def single():
    return LinearInverseApprox().fit(training().astype(np.float32))


@cache
def complex_series():
    return LinearInverseApprox(CENTER + 0.5j, order=2).fit()


@cache
def named():
    return LinearInverseApprox().fit(pandas.DataFrame(training(), columns=list("abcd")))


@cache
def scalar():
    return _network(2, "tanh").fit(training(), training()[:, 0] ** 2)


def some_outputs(c, n):
    """Return a choice of outputs, that need not be one."""
    d = n * n
    right = np.diag_indices(n), [0, -1], np.arange(d) % 2 == 0, d - 1, [], ([0], [0]), range(d)
    right += np.array([0], np.uint8), np.int8(-1), np.ones((n, n), bool), torch.tensor([0]), None
    wrong = [d], [-d - 1], 1.5, "all", [[0, 1]], {0}, (0, n), ([0, 1], [0]), [2**63], [True], [None]
    wrong += ((0, 1), (1, 0)), np.array([[0]]), ["0"], np.array([]), 10**400, slice(2), np.nan
    return c.rather(right, wrong)


def some_memory(c, X, shape):
    """Return memory for results, that need not fit."""
    if X.is_tensor:
        dtype = X.value.dtype if X.value.is_floating_point() else torch.float64
        return c.rather((torch.empty(shape, dtype=dtype),), (np.empty(shape), torch.empty(0)))
    native = X.numbers is None or (X.numbers.dtype.char in "efd" and X.numbers.dtype.isnative)
    plain = np.empty(shape, X.numbers.dtype if native and X.numbers is not None else "f8")
    readonly = plain.copy()
    readonly.flags.writeable = False
    strided = np.empty((*shape, 2))[..., 0]
    return c.rather((plain,), (readonly, strided, plain.tolist(), plain[None], np.empty(3, "f4")))


def float_dtypes(given, *kept):
    """Return the names of dtypes of predictions: that of X if it is kept, else float64."""
    if given.is_tensor:
        dtype = given.value.dtype
        name = str(dtype).removeprefix("torch.")
        return {name} if dtype.is_complex or dtype.is_floating_point else {"float64"}
    if hasattr(given.value, "columns"):
        return {*kept, "float64"}  # columns are converted one by one
    dtype = np.asarray(given.value).dtype
    if dtype.kind == "c":
        return {"complex64" if dtype == np.complex64 else "complex128"}
    return {dtype.name if dtype.name in kept and dtype.isnative else "float64"}


def check_series(model, X, P):
    """Hold predictions of a series against its formula, where nothing overflows."""
    A, P = embedded(X.stack), embedded(Given(None, on_host(P), X.layout).stack)
    C, B = model.center_, model.inverse_
    eps = max(X.eps, np.finfo(np.float64).eps)
    for a, p in zip(A, P, strict=True):
        if np.isfinite(a).all() and np.abs(a).max() < 1e3 and np.isfinite(p).all():
            N, size = B @ (C - a), np.abs(B) @ (np.abs(C) + np.abs(a))
            powers = range(model._order + 1)
            true = sum(np.linalg.matrix_power(N, j) for j in powers) @ B
            bound = sum(np.linalg.matrix_power(size, j) for j in powers) @ np.abs(B)
            assert np.abs(p - true).max() <= 200 * eps * bound.max()


@for_each("LinearInverseApprox", "NeuralInverseRegressor", "PolynomialInverseApprox")
def predict(c, owner):
    model, n = estimators(c, owner)
    X = matrices_for(c, n)
    one = model in (scalar(), quantity())
    options, shape = {}, ()
    if X.numbers is not None:
        shape = X.numbers.shape[:1] if one else X.numbers.shape
    if c.one_in(4):
        options["outputs"] = some_outputs(c, n)
    elif c.one_in(4):
        options["out"] = some_memory(c, X, shape)
    P = attempt(model.predict, X, **options)
    if P is REFUSED or X.numbers is None:
        return
    assert X.right
    bad = ~np.isfinite(X.stack).all(axis=(1, 2))
    answers = on_host(P).reshape(len(bad), -1 if P.shape[0] else 1)
    assert (~np.isfinite(answers[bad]) if X.is_tensor else np.isnan(answers[bad])).all()
    kept = "float16", "float32", "float64"
    if options.get("outputs") is not None:
        assert len(P) == len(X.numbers)
    else:
        check_like(P, X, shape, float_dtypes(X, *kept))
    if options.get("out") is not None:
        options["out"][...] = 7
        assert (P == 7).all()
    if not options and hasattr(model, "inverse_"):
        check_series(model, X, P)


@for_each("LinearInverseApprox", "NeuralInverseRegressor", "PolynomialInverseApprox")
def inverse_function(c, owner):
    model, n = estimators(c, owner)
    dtype = c.rather(
        ("float32", "float64", np.float32, "f8", None), (">f8", "f2", int, "f9", [], 5)
    )
    function = attempt(model.inverse_function, dtype, refused=(ValueError, TypeError))
    if function is REFUSED:
        return
    A = a_center(c, n)
    with np.errstate(all="ignore"):
        X = attempt(function, A)
    if X is not REFUSED and A.layout == "one":
        assert type(X) is np.ndarray
        assert X.size == (1 if model in (scalar(), quantity()) else A.numbers.size)


@for_each("LinearInverseApprox", "NeuralInverseRegressor", "PolynomialInverseApprox")
def score(c, owner):
    model, n = estimators(c, owner)
    X = c.matrices(n, calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    options = c.options(sample_weight=[weights(c, X)])
    found = attempt(model.score, X, y, **options)
    assert found is REFUSED or isinstance(found, float)


@for_each("PolynomialInverseApprox", "NeuralInverseRegressor")
def extrapolates(c, owner):
    model, n = estimators(c, owner)
    X = matrices_for(c, n)
    far = attempt(model.extrapolates, X)
    if far is REFUSED or X.numbers is None:
        return
    assert type(far) is np.ndarray
    assert far.dtype == bool
    assert far.shape == (len(X.numbers),)
    assert far[~np.isfinite(X.stack).all(axis=(1, 2))].all()
    if model.on_extrapolation == "nan" and not X.is_tensor:
        P = on_host(model.predict(X.value)).reshape(len(far), -1 if len(far) else 1)
        assert np.isnan(P[far]).all()


def weights(c, X):
    """Return weights of samples, that need not fit."""
    m = len(X.numbers) if X.right else 2
    some = c.rng.uniform(size=m)
    wrong = some - 0.5, 0 * some, some[:-1], some * np.nan, Given("w")
    return c.rather((some, some, None, np.ones(m), 1.0), wrong)


# -- FeasibleRegionSampler -------------------------------------------------------------------------


def regions(c):
    """Return one of the fitted samplers, and the order of its matrices."""
    pool = [({}, 2), ({"radius": 2.0}, 2), ({"norm": "l2"}, 2), ({"norm": "l1", "radius": 2.0}, 2)]
    pool += [({"norm": "l2", "radius": 3.0, "min_distance": 0.1}, 2), ({"min_distance": 0.1}, 2)]
    pool += [({"structure": "symmetric"}, 2), ({"radius": 0}, 2), ({"norm": "mahalanobis"}, 2)]
    pool += [({"radius": "data"}, 3), ({"center": "complex"}, 4), ({"norm": "mahalanobis"}, 3)]
    params, n = c.of(*pool)
    outside = c.of("project", "project", "nan", "raise", "warn")
    return region(n, on_infeasible=outside, **params), n


@cache
def region(n=2, center=None, radius=0.5, **params):
    data = None
    if params.get("norm") == "mahalanobis":
        data, radius = training(n), "data"
    elif radius == "data":
        data = training(n)
    else:
        center = center_of(n) if center is None else CENTER + 0.5j
    return FeasibleRegionSampler(center, radius, random_state=0, **params).fit(data)


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


# -- CertifiedInverse and StructuredInverse --------------------------------------------------------


class Liar(BaseEstimator):
    """A regressor of inverses that says anything."""

    def __init__(self, kind="zeros"):
        self.kind = kind

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(X)[1]
        return self

    def predict(self, X):
        X = on_host(X) if isinstance(X, torch.Tensor) else np.asarray(X)
        X = X.reshape(len(X), -1) if len(X) else np.ones((0, 4))
        m, d = X.shape
        say = {
            "zeros": lambda: np.zeros((m, d)),
            "nan": lambda: np.full((m, d), np.nan),
            "huge": lambda: np.full((m, d), 1e300),
            "itself": lambda: X,
            "negative": lambda: -np.linalg.pinv(X.real.reshape(m, math.isqrt(d), -1).astype(float)),
            "half": lambda: np.ones((m, d), dtype=np.float16),
            "list": lambda: np.ones((m, d)).tolist(),
            "tensor": lambda: torch.ones(m, d, requires_grad=True),
            "shared": lambda: np.broadcast_to(0.3, (m, d)),
            "objects": lambda: np.full((m, d), 0.5, dtype=object),
            "long": lambda: np.full((m, d), np.longdouble("1e400")),
            "complex": lambda: np.ones((m, d)) * 1j,
            "narrow": lambda: np.ones((m, 1)),
            "few": lambda: np.ones((1, d)),
            "strings": lambda: np.full((m, d), "a"),
            "none": lambda: None,
            "cube": lambda: np.ones((m, d, 1)),
            "ragged": lambda: [[1.0], [1.0, 2.0]],
            "dict": lambda: {"inverse": 1},
        }
        return say[self.kind]()


LIES = "zeros", "nan", "huge", "itself", "negative", "half", "list", "tensor", "shared", "objects"
NONSENSE = "long", "complex", "narrow", "few", "strings", "none", "cube", "ragged", "dict"


def garbage(kind):
    """Return a family of matrices that returns something else."""

    def family(p):
        m = len(p)
        t = np.asarray(p.detach() if isinstance(p, torch.Tensor) else p, dtype=float)[:, :1]
        A = center_of(2) + 0.1 * np.clip(t, -10, 10)[:, :, None] * np.eye(2)
        answers = {
            "fine": lambda: A,
            "rows": lambda: A.reshape(m, 4),
            "single": lambda: A.astype(np.float32),
            "complex": lambda: A + 0.1j,
            "tensor": lambda: torch.tensor(A, requires_grad=True),
            "list": lambda: A.tolist(),
            "singular": lambda: np.ones((m, 2, 2)),
            "nan": lambda: A * np.where(np.arange(m) == 0, np.nan, 1)[:, None, None],
            "fractions": lambda: np.array(
                [[[Fraction(10, 3), 1], [1, 2]]] * m, dtype=object
            ).reshape(m, 2, 2),
            "long": lambda: A.astype(np.longdouble) + np.longdouble(1) / 3,
            "few": lambda: A[:1] if m > 1 else np.ones((3, 2, 2)),
            "one": lambda: A[0] if m else A,
            "wide": lambda: np.ones((m, 2, 3)),
            "rows of 3": lambda: np.ones((m, 3)),
            "strings": lambda: np.full((m, 4), "a"),
            "none": lambda: None,
            "set": lambda: {1.0},
            "ragged": lambda: [[1.0], [2.0, 3.0]],
            "number": lambda: 3.0,
        }
        return answers[kind]()

    return family


FAMILIES_OF = "fine", "rows", "single", "complex", "tensor", "list", "singular", "nan", "fractions"
NO_FAMILIES = (
    "long",
    "few",
    "one",
    "wide",
    "rows of 3",
    "strings",
    "none",
    "set",
    "ragged",
    "number",
)


@cache
def packed():
    X = structures.pack_symmetric(symmetric())
    return StructuredInverse(affine_free(), packed=True).fit(X)


@cache
def symmetric(n=2):
    A = training(n).reshape(-1, n, n)
    return ((A + A.swapaxes(1, 2)) / 2).reshape(-1, n * n)


def affine_free():
    return LinearInverseApprox(method="lstsq")


@cache
def structured(kind="symmetric", baseline="auto"):
    X = symmetric()
    if kind == "complex":
        X = X.reshape(-1, 2, 2) + 0.2j * np.random.RandomState(0).uniform(-1, 1, (len(X), 2, 2))
    return StructuredInverse(affine_free(), kind, baseline=baseline).fit(X)


@cache
def ridge():
    inverses = np.linalg.inv(training().reshape(-1, 2, 2)).reshape(-1, 4)
    return Ridge(alpha=1e-3).fit(training(), inverses)


def certified(c):
    """Return a certified inverse, the order of its matrices, and their family if there is one."""
    pool = [(series, 2), (partial(series, 2, 3), 2), (affine, 2), (silu, 2), (ridge, 2), (named, 2)]
    pool += [(partial(series, 1), 1), (partial(series, 3), 3), (complex_series, 4)]
    pool += [(structured, 2), (lambda: Liar(c.of(*LIES)).fit(training()), 2)]
    params = {
        "tol": c.of(1e-6, 1e-10, 1e-14, 1e-3, 1.0, 1e-300, 1e300),
        **c.options(
            max_refine=[0, 1, 8],
            order=[2, 3, 4],
            norm=["fro", "inf", "1", np.inf, 1],
            fallback=["exact", "exact", "nan", "keep", "raise"],
            verbose=[0],
        ),
    }
    make, n = c.of(*pool)
    return CertifiedInverse(FrozenEstimator(make()), **params).fit(), n


def check_inverses(model, X, inverse, bound):
    """Check shapes, and hold bounds against the oracle."""
    kept = () if X.is_tensor else ("float32", "float64")
    check_like(inverse, X, X.numbers.shape, float_dtypes(X, *kept))
    assert isinstance(bound, torch.Tensor if X.is_tensor else np.ndarray)
    A, Y = embedded(X.stack), embedded(Given(None, on_host(inverse), X.layout).stack)
    check_relative(A, Y, on_host(bound), str(model.norm))


@entry("CertifiedInverse.predict")
def fuzz_certified_predict(c):
    model, n = certified(c)
    X = matrices_for(c, n)
    found = attempt(model.predict, X, return_bound=True)
    if found is not REFUSED and X.numbers is not None:
        assert X.right
        check_inverses(model, X, *found)


@entry("CertifiedInverse.report")
def fuzz_certified_report(c):
    model, n = certified(c)
    X = matrices_for(c, n)
    report = attempt(model.report, X)
    if report is REFUSED or X.numbers is None:
        return
    check_inverses(model, X, report.inverse, report.bound)
    assert repr(report)
    finite = np.isfinite(X.stack).all(axis=(1, 2))
    assert ((report.status == "not finite") == ~finite).all()
    proven = np.isin(report.status, ["predicted", "refined", "exact"])
    bound, residual = on_host(report.bound), on_host(report.residual)
    half = X.is_tensor and X.value.dtype.itemsize < 4 and X.value.dtype.is_floating_point
    assert (bound[proven] <= model.tol + (X.eps / 2 if half else 0)).all()
    assert not (residual < 0).any()
    steps = on_host(report.n_refine)
    assert ((steps >= 0) & (steps <= model.max_refine)).all()
    lost = np.isin(report.status, ["not finite", "singular", "rejected"])
    assert np.isnan(on_host(report.inverse)[lost]).all()
    assert (bound[lost] == np.inf).all()


def fit_without_family(c):
    params = c.options(
        tol=[partial(c.number, 1e-6, 1e-12)],
        max_refine=[0, c.count],
        order=[2, 3, partial(c.rather, (4,), (5, 0, "2", 2.0, None))],
        norm=[partial(c.choice, "fro", "inf", "1")],
        fallback=[partial(c.choice, "exact", "exact-raise", "nan", "keep", "raise")],
        verbose=[0, False, partial(c.rather, (0,), (-1, "1", None))],
    )
    pipeline = make_pipeline(FeasibleRegionSampler(on_infeasible="warn"), LinearInverseApprox())
    right = LinearInverseApprox(), Ridge(), Liar(c.of(*LIES)), affine_free(), series(), pipeline
    wrong = Liar(c.of(*NONSENSE)), LinearInverseApprox(order=0), LinearInverseApprox, Ridge, 5
    wrong += FeasibleRegionSampler(), None, "ridge"
    estimator = c.rather((*right, FrozenEstimator(series())), wrong)
    model = CertifiedInverse(estimator, **params)
    X = None if c.slips(4) else c.matrices(2, dtypes=["f8", "f4"], calm=True)
    y = inverses_of(c, X) if c.one_in(4) else None
    fitted = attempt(model.fit, X, y)
    if fitted is REFUSED:
        return
    assert fitted is model
    X = c.matrices(2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Rows .* are outside the feasible region")
        found = attempt(model.predict, X, True)
    if found is not REFUSED and X.right:
        check_inverses(model, X, *found)


def inverses_of(c, X):
    """Return inverses of matrices, or of others."""
    if X is None or not X.right or X.stack.ndim != 3 or c.slips(3):
        return c.matrices(2, 2)
    with np.errstate(all="ignore"):
        Y = np.linalg.pinv(np.where(np.isfinite(X.stack), X.stack, 1.0)).reshape(X.numbers.shape)
    return Given(c.contained(Y), Y, X.layout)


@entry("CertifiedInverse.fit")
def fuzz_certified_fit(c):
    """Fit with a family of matrices, or without."""
    if c.one_in(2):
        fit_without_family(c)
    else:
        fit_with_family(c)


def fit_with_family(c):
    kind = c.rather((*FAMILIES_OF, "fine"), NO_FAMILIES)
    frozen = FrozenEstimator(Liar().fit(np.ones((2, 4))))
    model = CertifiedInverse(
        c.rather(
            (affine_free(), Ridge(), Ridge(), frozen), (Liar("narrow"), None, LinearInverseApprox())
        ),
        family=garbage(c.rather(("fine",), (kind,))),
        tol=c.of(1e-6, 1e-12),
    )
    p = c.rng.uniform(-1, 1, (c.of(1, 3, 12), c.of(1, 2)))
    P = c.matrices(2) if c.slips(3) else Given(c.contained(p), p)
    with np.errstate(all="ignore"):  # of other regressors
        fitted = attempt(model.fit, P)
    if fitted is REFUSED:
        return
    model.family = garbage(kind)
    q = c.rng.uniform(-1, 1, (c.of(0, 1, 3), p.shape[1]))
    if len(q) and c.one_in(4):
        q[0, 0] = c.of(np.nan, np.inf, 1e300)
    Q = c.matrices(2) if c.slips(3) else Given(c.contained(q), q)
    found = attempt(model.report, Q)
    if found is not REFUSED and Q.numbers is q and kind != "tensor":
        given = q[np.isfinite(q).all(axis=1)]
        if len(given) == 0:
            return
        A = np.asarray(model.family(given))
        A = A.astype(complex if np.iscomplexobj(A) else float).reshape(len(given), 2, 2)
        A, finite = embedded(A), np.isfinite(q).all(axis=1)
        X = on_host(found.inverse)
        X = embedded(X.reshape(len(q), 2, 2))[finite]
        check_relative(A, X, on_host(found.bound)[finite])


def right_hand_sides(c, X, n):
    """Return right-hand sides, that need not fit."""
    if c.slips(8):
        return c.junk()
    m = len(X.numbers) if X.right else 2
    shape = c.of((m, n), (m, n), (m, n, 1), (m, n, 3), (m, n, 0))
    if c.slips(6):
        shape = c.of((m, n + 1), (m,), (m + 1, n), (n,), (), (m, n, 1, 1), (m, 0), (0, n), (1, n))
    with np.errstate(all="ignore"):
        b = c.rng.standard_normal(shape) * c.of(1, 1, 1, 0, 1e300, 1e-300, 5e-324, 1e-160)
    if b.size and c.one_in(8):
        b.flat[c.rng.randint(b.size)] = c.of(np.nan, np.inf, 1e308)
    b = c.dtyped(b)
    return Given(c.contained(b), b, "stack" if b.ndim == 3 else "rows")


def check_solutions(A, b, x, bound):
    """Hold bounds of ‖x − A⁻¹b‖₂ / ‖x‖₂ against ball arithmetic."""
    assert not (bound < 0).any()
    assert not np.isnan(bound).any()
    for i, j in zip(*np.nonzero(np.isfinite(bound)), strict=True):
        known = oracle(A[i])
        assert not known.singular
        with ctx.workprec(2 * known.bits + 2200):
            inverse = arb_mat(A[i].tolist()).inv()
            true = inverse * arb_mat([[float(v)] for v in b[i, :, j]])
            error = (arb_mat([[float(v)] for v in x[i, :, j]]) - true).entries()
            length = sum(arb(float(v)) ** 2 for v in x[i, :, j]).sqrt()
            off = sum(e.abs_lower() ** 2 for e in error).sqrt()
            assert not off > arb(float(bound[i, j])) * length


@entry("CertifiedInverse.solve")
def fuzz_solve(c):
    model, n = certified(c)
    X = matrices_for(c, n)
    order = X.stack.shape[-1] if X.right else n
    b = right_hand_sides(c, X, order)
    found = attempt(model.solve, X, b, return_bound=True)
    if found is REFUSED or not X.right or b.numbers is None:
        return
    x, bound = found
    assert isinstance(x, torch.Tensor if X.is_tensor else np.ndarray)
    assert tuple(x.shape) == b.numbers.shape
    assert tuple(bound.shape) == (len(x), *b.numbers.shape[2:])
    A, wide = embedded(X.stack), np.asarray(on_host(b.value) if b.is_tensor else b.numbers)
    with np.errstate(all="ignore"):
        wide = wide.astype(complex if np.iscomplexobj(wide) else float)
    x = on_host(x)
    if A.shape[-1] != order:  # complex matrices
        wide, x = (np.concatenate([v.real, v.imag], axis=1) for v in (wide + 0j, x + 0j))
    one = wide.ndim == 2
    check_solutions(
        A,
        wide[:, :, None] if one else wide,
        x[:, :, None] if one else x,
        on_host(bound)[:, None] if one else on_host(bound),
    )


@entry("CertifiedInverse.score")
def fuzz_certified_score(c):
    model, n = certified(c)
    X = c.matrices(n, calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    score = attempt(model.score, X, y, **c.options(sample_weight=[weights(c, X)]))
    assert score is REFUSED or isinstance(score, float)


def structured_models(c):
    kinds = partial(structured, "positive_definite"), partial(structured, "complex")
    return c.of(partial(structured), packed(), *kinds, partial(structured, "symmetric", None))


def structured_matrices(c, model, calm=False):
    """Return a Given of matrices of the structure of a model, mostly."""
    X = c.matrices(2, dtypes=["f8", "f4", "f8", "f4", "f2", "c16", "O", "i8", "g"], calm=calm)
    if not X.right or c.slips(4):
        return X
    with np.errstate(all="ignore"):
        A = X.stack if model.structure != "complex" else X.stack + 0.25j
        if model.structure != "complex":
            A = np.triu(A.real) + np.triu(A.real, 1).swapaxes(1, 2)
        kind = X.numbers.dtype if X.numbers.dtype.kind == A.dtype.kind else A.dtype
        A = A.astype(kind)
    if model.packed:
        A = A.reshape(-1, 4)[:, [0, 1, 3]]
        return Given(c.contained(A), A, "packed")
    A = A.reshape(len(A), 4) if X.layout == "rows" and A.dtype.kind != "c" else A
    return Given(c.contained(A), A, "rows" if A.ndim == 2 else "stack")


@entry("StructuredInverse.predict")
def fuzz_structured_predict(c):
    model = structured_models(c)
    X = structured_matrices(c, model)
    P = attempt(model.predict, X)
    if P is REFUSED or X.numbers is None:
        return
    check_like(P, X, X.numbers.shape, float_dtypes(X, "float32", "float64"))
    if not model.packed:
        Y = Given(None, on_host(P), X.layout).stack
        if model.structure != "complex":
            assert ((Y.conj().swapaxes(1, 2) == Y) | np.isnan(Y)).all()


@entry("StructuredInverse.score")
def fuzz_structured_score(c):
    model = structured_models(c)
    X = structured_matrices(c, model, True)
    y = None if c.one_in(2) else structured_matrices(c, model, True)
    score = attempt(model.score, X, y)
    assert score is REFUSED or isinstance(score, float)


@entry("StructuredInverse.fit")
def fuzz_structured_fit(c):
    model = StructuredInverse(
        c.rather((affine_free(), Ridge()), (LinearInverseApprox(), Liar("few"), None, Ridge)),
        c.choice("symmetric", "positive_definite", "complex"),
        **c.options(baseline=[None, "auto", partial(c.choice, "taylor2")], packed=[c.flag]),
    )
    X = structured_matrices(c, model, True)
    y = structured_matrices(c, model, True) if c.slips(3) else None
    fitted = attempt(model.fit, X, y)
    assert fitted is REFUSED or fitted is model
    if fitted is not REFUSED:
        attempt(model.predict, structured_matrices(c, model))


# -- fitting ---------------------------------------------------------------------------------------


def data_and_targets(c, n=2, sizes=(1, 2, 8)):
    """Return training data and targets, that need not belong together."""
    X = None if c.slips(8) else c.matrices(n, c.of(*sizes), calm=True)
    if c.one_in(2):
        return X, None
    m = len(X.numbers) if X is not None and X.right else 3
    shape = c.rather(((m,), (m, 1), (m, n * n), (m, n, n), (m, 3)), ((m + 1, 2), (), (m, 0)))
    y = np.asarray(c.dtyped(c.rng.standard_normal(shape) * c.of(1, 1, 1e-5, 1e300, 0.0)))
    if y.size and y.dtype.kind == "f" and c.slips(5):
        y.flat[0] = c.of(np.nan, np.inf)
    return X, c.junk() if c.slips(8) else Given(c.contained(y), y)


@entry("LinearInverseApprox.fit")
def fuzz_linear_fit(c):
    n = c.of(1, 2, 2, 3)
    model = LinearInverseApprox(
        c.rather((None, center_of(n)), (c.number, *JUNK)),
        **c.options(order=[1, c.count], method=["taylor", partial(c.choice, "lstsq")]),
    )
    X, y = data_and_targets(c, n)
    w = None if X is None else weights(c, X)
    fitted = attempt(model.fit, X, y, **c.options(sample_weight=[w]))
    if fitted is REFUSED:
        return
    assert fitted is model
    new = c.matrices(n, dtypes=("f8", "f4"))
    attempt(model.predict, new)
    if hasattr(model, "inverse_"):
        assert np.isfinite(model.inverse_).all()
        assert repr(model)


@entry("PolynomialInverseApprox.fit")
def fuzz_polynomial_fit(c):
    n = c.of(1, 2, 2, 3)
    params = c.options(
        degree=["auto", c.count],
        n_components=["auto", c.count],
        max_terms=[256, c.count],
        on_extrapolation=["nan", partial(c.choice, "keep")],
        max_extrapolation=[partial(c.number, 1.5)],
    )
    model = PolynomialInverseApprox(**params)
    if c.one_in(2):
        rows = training(n, c.of(1, 9, 10, 50)) * c.of(1, 1, 1e-200, 1e30, 1e200)
        X, y = (
            Given(c.contained(rows), rows, "rows"),
            c.of(None, rows[:, 0], rows * (rows[:, :1] / rows.max())),
        )
    else:
        X, y = data_and_targets(c, n, sizes=(1, 5, 12))
    fitted = attempt(model.fit, X, y)
    if fitted is REFUSED:
        return
    assert fitted is model
    assert 0 <= model.n_components_ <= 64
    assert 0 <= model.degree_ <= model.n_terms_ + 1
    new = c.matrices(n, dtypes=("f8", "f4"))
    attempt(model.predict, new)
    attempt(model.extrapolates, new)
    if X.right:
        finite = np.isfinite(X.stack).all(axis=(1, 2))
        assert not model.extrapolates(X.value)[finite].any()


def network(c):
    """Return a network that is not fitted, with parameters some of which may be wrong."""

    def rather(right, *wrong):
        return [right, partial(c.rather, (right,), wrong)]

    params = c.options(
        n_components=rather(None, 2, "auto", 0, 1.5, "all"),
        max_time=[partial(c.number, 10.0)],
        on_extrapolation=["keep", partial(c.choice, "nan")],
        max_extrapolation=[partial(c.number, 2.0)],
        hidden_layer_sizes=rather((2, 2), [1], 0, (0,), "many", 1.5, (1.5,), (), None, np.nan),
        activation=["relu", partial(c.choice, "tanh", "silu")],
        baseline=[None, "affine", "taylor", partial(c.choice, "taylor3")],
        solver=["adam", "lm", partial(c.choice, "adam")],
        init=["default", partial(c.choice, "taylor")],
        learning_rate=["constant", partial(c.choice, "one_cycle", "warm_restarts")],
        learning_rate_init=["auto", partial(c.number, 1e-3)],
        weight_decay=[0.0, partial(c.number, 1e-3)],
        batch_size=["auto", 2, c.count],
        tol=[partial(c.number, 1e-4)],
        early_stopping=[c.flag],
        validation_fraction=[partial(c.number, 0.1, 0.5)],
        n_iter_no_change=[c.count],
        warm_start=[c.flag],
        hard_fraction=[partial(c.number, 0.0, 0.5)],
        callbacks=rather(None, [], (), [None], "all", 1),
        dtype=["float64", partial(c.choice, "float32")],
        device=rather("cpu", "auto", "cuda", "moon", "", None),
        verbose=rather(0, False, -1, None),
    )
    params = {name: value for name, value in params.items() if c.one_in(3)}
    usual = {"hidden_layer_sizes": 2, "max_iter": c.count(2), "random_state": 0}
    return NeuralInverseRegressor(**{**usual, **params})


def fuzz_neural_fit(c, method):
    n = c.of(1, 2, 2)
    model = network(c)
    X, y = data_and_targets(c, n)
    fitted = attempt(getattr(model, method), X, y)
    if fitted is REFUSED:
        return
    assert fitted is model
    assert model.n_iter_ >= 1
    assert not any(np.isnan(W).any() for W in (*model.coefs_, *model.intercepts_))
    X, y = data_and_targets(c, n)
    attempt(model.partial_fit, X, y)
    P = attempt(model.predict, c.matrices(n, calm=True))
    assert P is REFUSED or len(P) >= 0


for _name in ("fit", "partial_fit"):
    entry(f"NeuralInverseRegressor.{_name}")(partial(fuzz_neural_fit, method=_name))


@entry("NeuralInverseRegressor.fit_sampler")
def fuzz_fit_sampler(c):
    model = network(c)
    sampler = c.rather((region(),), (FeasibleRegionSampler(), None, series(), 3, int))
    fitted = attempt(model.fit_sampler, sampler, c.count(2) or 1)
    if fitted is not REFUSED:
        assert fitted is model
        assert np.isfinite(model.predict(training())).all()


# -- the scorer ------------------------------------------------------------------------------------


def fuzz_scorer(c, method):
    names = "neg_mean_absolute_error", "neg_root_mean_squared_error", "neg_max_error"
    metric = c.choice(*names, "neg_relative_error", "neg_residual")
    if c.one_in(6):
        wrong = (lambda X, y, p: 1.0, lambda X, y, p: "error", lambda X, y, p: None)
        wrong += (lambda X, y, p: np.full(len(X), np.nan), lambda X, y, p: X)
        metric = c.rather((lambda X, y, p: np.ones(len(X)),), wrong)
    scorer = SingularDistanceScorer(
        metric,
        **c.options(
            norm=[partial(c.choice, "l2", "l1", "linf")],
            min_distance=[0.0, partial(c.number, 0.01)],
            weighting=[None, partial(c.choice, "distance", "inverse_distance")],
        ),
    )
    wrong = Liar(c.of(*NONSENSE)), None, LinearInverseApprox(), series(3), FeasibleRegionSampler()
    right = series(), affine(), silu(), ridge(), Liar(c.of(*LIES))
    model = c.rather(right, (*wrong, scalar()))
    X = c.matrices(2, layouts=["rows", "rows", "stack"], calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    if method == "profile":
        found = attempt(scorer.profile, model, X, y, n_bins=c.count(2))
        assert found is REFUSED or len(found.edges) == len(found.distance) + 1
        return
    options = c.options(sample_weight=[weights(c, X)])
    found = attempt(getattr(scorer, method), model, X, y, **options)
    assert found is REFUSED or isinstance(found, float)
    assert found is REFUSED or callable(metric) or not found > 0


for _name in ("score", "profile", "__call__"):
    entry(f"SingularDistanceScorer.{_name}")(partial(fuzz_scorer, method=_name))


# -- proofs over regions, and why they must fail ---------------------------------------------------


def a_model(c):
    """Return a fitted model of inverses of 2×2 matrices, or something else."""
    right = series(), series(2, 2), series(2, 3), affine(), relu(), silu(), single()
    right += (
        FrozenEstimator(series()),
        ridge(),
        structured(),
        structured("symmetric", None),
        named(),
    )
    wrong = series(1), series(3), LinearInverseApprox(), FrozenEstimator(LinearInverseApprox())
    wrong += Liar("zeros").fit(training()), Liar("few"), complex_series(), packed(), scalar()
    return c.rather(right, (*wrong, None, 3, "model", LinearInverseApprox, region))


def a_sampler(c, *right):
    """Return a fitted sampler of 2×2 matrices, or something else."""
    if not right:
        right = region(), region(), region(radius=2.0), region(norm="l2"), region(norm="l1")
        right += region(norm="mahalanobis"), region(structure="symmetric")
    wrong = FeasibleRegionSampler(), None, series(), region, 5, Liar(), region(radius=0)
    return c.rather(right, (*wrong, region(3, radius="data")))


def true_errors(model, matrices):
    """Return the largest entry of the error of a model at matrices."""
    predicted = on_host(model.predict(matrices.reshape(len(matrices), -1))).reshape(matrices.shape)
    exact = np.array([inverse_of(A) for A in matrices])
    return np.abs(predicted - exact).max(axis=(1, 2))


@entry("bounds.certify_region")
def fuzz_certify_region(c):
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
    assert found.status in ("converged", "max_boxes")
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


# -- export ----------------------------------------------------------------------------------------


def export_options(c):
    right = "float32", "float64", "float16", "bfloat16", torch.float32, np.float32, "f4"
    return c.options(
        n_refine=[0, partial(c.count, 2)],
        order=[None, partial(c.rather, (2, 3, 4), (0, 1, 5, "2", 2.5))],
        dtype=[partial(c.rather, right, (int, "f9", None, [], 5))],
    )


@entry("export.to_module")
def fuzz_to_module(c):
    model = CertifiedInverse(series(), norm=c.of("fro", "inf")) if c.one_in(6) else a_model(c)
    module = attempt(export.to_module, model, **export_options(c))
    if module is REFUSED or module.n_features != 4:
        return
    X = symmetric()[:3]
    with torch.no_grad():
        found = module(torch.tensor(X).to(module.input_dtype))
    values = found[0] if isinstance(found, tuple) else found
    assert tuple(values.shape) == ((3,) if model is scalar() else (3, 4))
    if module.input_dtype == torch.float64 and module.n_refine == 0 and module.norm is None:
        assert np.allclose(on_host(values), model.predict(X), rtol=1e-9, atol=1e-9)


@entry("export.to_onnx")
def fuzz_to_onnx(c):
    model = CertifiedInverse(series()) if c.one_in(6) else a_model(c)
    with tempfile.TemporaryDirectory() as folder:
        right = f"{folder}/a.onnx", pathlib.Path(folder, "b")
        path = c.rather(right, [Given(c.of(None, 5, [], 1.5))])
        options = {
            **export_options(c),
            **c.options(layout=["rows", "stack", partial(c.choice, "rows")]),
        }
        found = attempt(export.to_onnx, model, path, **options)
        assert found is REFUSED or found.stat().st_size > 0


# -- inspection ------------------------------------------------------------------------------------


@entry("inspection.activation_regions")
def fuzz_activation_regions(c):
    model = c.rather((relu(), relu(), affine(), FrozenEstimator(relu())), (partial(a_model, c),))
    sampler = a_sampler(c, region(), region(radius=2.0), region(structure="symmetric"))
    options = c.options(
        patterns=[partial(c.choice, "sampled", "all")],
        max_regions=[50, partial(c.count, 50)],
        n_jobs=[None, partial(c.rather, (1,), (1.5, "1"))],
        verbose=[0, partial(c.rather, (False,), (-1, None))],
    )
    frame = attempt(inspection.activation_regions, model, sampler, c.count(20), **options)
    if frame is REFUSED:
        return
    assert len(frame) >= 1
    assert 0 < frame["share"].sum() <= 1 + 1e-12
    assert (frame["coefficient_gap"] >= 0).all()


def some_axes(c, right="plain"):
    """Return new axes to draw on, mostly those that are right."""
    kind = c.rather((right,), ("plain", "two", "3d", "none"))
    if kind == "none":
        return c.of(3, "ax", [], [None, None])
    if kind == "two":
        return Figure().subplots(1, 2)
    return Figure().subplots(subplot_kw={"projection": "3d"} if kind == "3d" else None)


def name_of(c):
    return c.of(None, "name", "", 5, "$x$", "ä" * 50)


def fuzz_plot(make, options=lambda c: {}, axes=lambda c: some_axes(c)):
    """Return an entry of the plot method of a display."""

    def fuzz(c):
        display = make(c)
        again = attempt(display.plot, axes(c), **options(c))
        assert again is REFUSED or again is display

    entry(f"inspection.{make.__name__}.plot")(fuzz)


@entry("inspection.CoefficientDisplay.from_estimator")
def fuzz_coefficient_display(c):
    display = attempt(
        *(inspection.CoefficientDisplay.from_estimator, a_model(c), a_sampler(c)),
        **c.options(n_samples=[None, c.count], step=[partial(c.number, 1e-3)]),
        name=name_of(c),
        ax=some_axes(c),
    )
    if display is not REFUSED:
        assert display.learned.shape == display.linear.shape


def CoefficientDisplay(c):
    rows, columns = c.of(4, 9, 64, 1), c.of(1, 4, 200)
    learned, linear = c.rng.standard_normal((2, rows, columns)) * c.of(1.0, 1e-30, 1e30)
    spread = c.of(None, np.abs(learned))
    return inspection.CoefficientDisplay(learned=learned, linear=linear, spread=spread)


fuzz_plot(CoefficientDisplay, lambda c: {"name": name_of(c)})


@entry("inspection.ErrorByDistanceDisplay.from_estimator")
def fuzz_error_display(c):
    X = c.matrices(2, calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    wrong = {0: 1}, {-1: 0.1}, [1, 2, 3], "ab", {"a": 1}, {1.0: np.nan}, 5, [(1, 2, 3)], {1j: 1}
    failure = c.rather(
        (None, None, {10.0: 0.05}, [(1.0, 0.1), (10.0, 0.01)], {}, {1.0: 0}), (*wrong, {10**400: 1})
    )
    options = c.options(
        norm=[partial(c.choice, "l2", "l1", "linf")],
        error=[partial(c.choice, "absolute", "relative")],
        failure=[failure],
        kind=[partial(c.choice, "points", "bands", "auto")],
    )
    display = attempt(
        *(inspection.ErrorByDistanceDisplay.from_estimator, a_model(c), X, y),
        name=name_of(c),
        ax=some_axes(c),
        **options,
    )
    if display is not REFUSED:
        assert display.distance.shape == display.errors.shape
        assert (display.distance > 0).all()


def ErrorByDistanceDisplay(c):
    distance, errors = 10.0 ** c.rng.uniform(-6, 3, (2, c.of(1, 3, 100)))
    errors[0] = c.of(1.0, 0.0, np.nan, np.inf)
    options = c.options(norm=["l1"], error=["relative"], n_left_out=[3], estimator_name=["name"])
    return inspection.ErrorByDistanceDisplay(distance=distance, errors=errors, **options)


fuzz_plot(
    ErrorByDistanceDisplay,
    lambda c: c.options(
        kind=[partial(c.choice, "points", "bands", "auto")],
        n_bins=[c.count],
        guide=[c.flag],
        name=[partial(name_of, c)],
    ),
)


@entry("inspection.ErrorByDistanceDisplay.from_sampler")
def fuzz_error_display_of_sampler(c):
    m = c.count(9)
    display = attempt(
        *(inspection.ErrorByDistanceDisplay.from_sampler, a_model(c), a_sampler(c), m),
        **c.options(
            norm=[partial(c.choice, "l1", "l2")],
            error=[partial(c.choice, "absolute", "relative")],
        ),
        ax=some_axes(c),
    )
    assert display is REFUSED or len(display.errors) + display.n_left_out == m


@entry("inspection.ParetoDisplay.from_matrices")
def fuzz_pareto_display(c):
    X = c.matrices(2, c.of(4, 7, 2), calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    right = {"a": np.linalg.inv, "b": series()}, {"c": Ridge(), 5: LinearInverseApprox(order=2)}
    wrong = *JUNK[:9], {"a": None}, {"a": LinearInverseApprox}, {"a": Liar("few")}, {"": region()}
    display = attempt(
        *(inspection.ParetoDisplay.from_matrices, X, y),
        candidates=c.rather(right, wrong),
        **c.options(
            test_size=[0.5, partial(c.number, 0.3, 1, np.int64(2))],
            metric=[partial(c.choice, "median_relative_error", "max_relative_error")],
            dtype=[partial(c.choice, "float32", "float64"), None],
            max_time=[partial(c.number, 5.0), None],
            random_state=[c.seed],
        ),
        batch_size=c.count(9),
        n_repeats=c.count(1),
        ax=some_axes(c),
        refused=(ValueError, OSError),
    )
    if display is REFUSED:
        return
    assert len(repr(display).splitlines()) == 2 + len(display.results)
    for row in display.results:
        assert row["failure"] or row["microseconds_per_matrix"] > 0
        assert row["failure"] or row["max_relative_error"] >= row["median_relative_error"] >= 0


def ParetoDisplay(c):
    keys = "microseconds_per_matrix", "median_relative_error", "max_relative_error"
    keys += "mean_absolute_error", "fit_seconds"
    numbers = partial(c.of, 1e-12, 0.5, 1.0, 3e5, np.nan, np.inf)
    rows = [
        {key: numbers() for key in keys}
        | {"name": c.of(None, name_of(c)), "unanswered": c.of(0, 3), "failure": c.of(None, "why")}
        for _ in range(c.of(0, 1, 2, 9))
    ]
    return inspection.ParetoDisplay(results=rows, metric=c.of(*keys[1:4]), setting=c.of("", "ä"))


fuzz_plot(ParetoDisplay, lambda c: c.options(table=[c.flag]))


@entry("inspection.SingularSetDisplay.from_sampler")
def fuzz_singular_set_display(c):
    kind = c.choice("slices", "3d")
    right = "3d" if kind == "3d" else "two"
    attempt(
        *(inspection.SingularSetDisplay.from_sampler, a_sampler(c)),
        **c.options(epsilon=[None, partial(c.number, 0.1, 2.0)]),
        kind=kind,
        ax=some_axes(c, right),
    )


@cache
def singular_set():
    axes = Figure().subplots(1, 2)
    return inspection.SingularSetDisplay.from_sampler(region(), epsilon=0.1, ax=axes)


def SingularSetDisplay(c):
    return copy.copy(singular_set())


fuzz_plot(
    SingularSetDisplay,
    lambda c: {"kind": c.choice("slices", "slices", "3d"), **c.options(neighborhood=[c.flag])},
    lambda c: some_axes(c, c.of("two", "two", "3d")),
)


@entry("inspection.TrainingDisplay.from_estimator")
def fuzz_training_display(c):
    model = c.rather((relu(), silu(), FrozenEstimator(relu()), stopped()), (partial(a_model, c),))
    display = attempt(
        *(inspection.TrainingDisplay.from_estimator, model), name=name_of(c), ax=some_axes(c)
    )
    assert display is REFUSED or len(display.loss_curve) >= 1


def TrainingDisplay(c):
    right = [1.0, 0.1], [1e30, 1e-30], [1.0] * 50
    losses = c.rather(right, ([], [np.nan], [0.0, -1.0], 1.0, *JUNK))
    right = None, [0.5, 0.9], [1.0], [0.1, 0.5, 0.3]
    scores = c.rather(right, ([], [np.nan, 0.5], [-1e30], 0.5, *JUNK))
    return inspection.TrainingDisplay(loss_curve=losses, validation_scores=scores)


fuzz_plot(TrainingDisplay, lambda c: {"name": name_of(c)})


@cache
def stopped():
    return _network(2, "relu", early_stopping=True)


@cache
def moments():
    return impossibility.truncated_moments(
        series(), region(radius=2.0), (1, 2), n_samples=500, random_state=0
    )


@entry("inspection.TruncatedMomentsDisplay.from_moments")
def fuzz_moments_display(c):
    found = type(moments())(**moments())
    if c.slips(2):
        key = c.of(*found)
        wrong = c.of(None, 1.0, [], [1.0], np.full(np.shape(found[key]), np.nan), "x", *JUNK[:5])
        if c.one_in(2):
            found[key] = wrong
        else:
            del found[key]
    given = c.rather((found, dict(found)), ({}, None, 5, "moments"))
    display = attempt(
        *(inspection.TruncatedMomentsDisplay.from_moments, given),
        **c.options(relative=[c.flag]),
        name=name_of(c),
        ax=some_axes(c),
    )
    assert display is REFUSED or display.moments.shape == (len(display.p), len(display.cutoffs))


def TruncatedMomentsDisplay(c):
    p, cutoffs = np.arange(1.0, c.of(2, 3)), np.geomspace(1e-3, 1e-6, c.of(1, 2, 7))
    table = 10.0 ** c.rng.uniform(-9, 9, (len(p), len(cutoffs)))
    options = c.options(
        growth=[p, p * np.nan], growth_error=[p, 0 * p], expected_growth=[p - 1, -p], fitted=[table]
    )
    return inspection.TruncatedMomentsDisplay(
        p=p, cutoffs=cutoffs, moments=table, standard_errors=table / 3, **options
    )


fuzz_plot(TruncatedMomentsDisplay, lambda c: {"name": name_of(c)})


@entry("inspection.TruncatedMomentsDisplay.from_estimator")
def fuzz_moments_display_of_model(c):
    sampler = a_sampler(c, region(radius=2.0))
    p = partial(c.rather, (2, (1, 2)), ([], 0.5, "x", [[1, 2]]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No sample is between the cutoffs")
        display = attempt(
            *(inspection.TruncatedMomentsDisplay.from_estimator, a_model(c), sampler),
            **c.options(p=[p], cutoffs=[[1e-3, 1e-4, 1e-5], partial(c.rather, (1e-3,), ([], -1))]),
            **c.options(relative=[True], random_state=[c.seed]),
            n_samples=c.count(50),
            ax=some_axes(c),
        )
    assert display is REFUSED or display.moments.shape[1] == len(display.cutoffs)


# -- what all estimators have ----------------------------------------------------------------------


def anyone(c):
    """Return an estimator of the package, fitted or not."""
    return clone_or_self(
        c,
        c.of(
            *(series(), affine(), silu(), structured(), region(), SingularDistanceScorer()),
            CertifiedInverse(series()),
        ),
    )


def clone_or_self(c, model):
    return clone(model) if c.one_in(2) else copy.deepcopy(model)


@entry("*.get_params", "*.set_params")
def fuzz_params(c):
    model = anyone(c)
    params = attempt(model.get_params, c.flag())
    assert set(inspect.signature(type(model)).parameters) <= set(params)
    name = c.of(*params, "nonsense", "estimator__order", "")
    value = c.of(c.number, params.get(name), *JUNK)
    same = attempt(model.set_params, **{name: value})
    assert same is REFUSED or same is model
    assert same is REFUSED or model.get_params()[name] is value or "__" in name


@entry(
    *(f"*.set_{method}_request" for method in ("fit", "predict", "score")),
    "*.get_metadata_routing",
)
def fuzz_routing(c):
    model = anyone(c)
    routing = attempt(model.get_metadata_routing)
    assert repr(routing)
    for name in dir(model):
        if name.startswith("set_") and name.endswith("_request"):
            with config_context(enable_metadata_routing=True):
                keys = "sample_weight", "return_bound", "out", "outputs", "estimator", "nonsense"
                asked = {c.of(*keys): c.of(True, False, None, "alias", 5, "")}
                same = attempt(getattr(model, name), **asked)
            assert same is REFUSED or same is model


@entry("*.set_output", "*.get_feature_names_out")
def fuzz_output(c):
    model = copy.copy(region(on_infeasible="nan"))
    same = attempt(model.set_output, transform=c.of("default", "pandas", "polars", None, "x", 5))
    assert same is REFUSED or same is model
    X = c.matrices(2)
    Y = attempt(model.transform, X)
    assert Y is REFUSED or not X.right or len(Y) == len(X.numbers)
    names = c.of(
        *(None, list("abcd"), list("abc"), [], [1, 2, 3, 4], np.array(["a"] * 4)),
        *(Given(5), Given("abcd")),
    )
    found = attempt(model.get_feature_names_out, names)
    assert found is REFUSED or len(found) == 4


# -- the tests -------------------------------------------------------------------------------------


# What is public of modules that hold helpers, too.
PUBLIC = {
    matrices: ["embed_complex", "extract_complex"],
    structures: ["pack_symmetric", "unpack_symmetric"],
}
MODULES = bounds, datasets, export, geometry, impossibility, inspection, metrics, persistence
MODULES += (refinement, *PUBLIC)


def methods_of(cls):
    """Return the names of the public methods of a class."""
    names = [name for name in dir(cls) if not name.startswith("_")]
    return [name for name in names if callable(getattr(cls, name, None))]


def public_names():
    """Return all public functions, and methods of public classes, by names of entries."""
    names = [f"{name}.{m}" for name in skinv.__all__ for m in methods_of(getattr(skinv, name))]
    names.append("SingularDistanceScorer.__call__")
    for module in MODULES:
        for name in PUBLIC.get(module, module.__all__):
            thing, path = getattr(module, name), f"{module.__name__.removeprefix('skinv.')}.{name}"
            if name in skinv.__all__ or not callable(thing):
                continue
            if isinstance(thing, type):
                names += [f"{path}.{method}" for method in methods_of(thing)]
            if not isinstance(thing, type) or name == "PolynomialLipschitz":
                names.append(path)
    # Methods of exceptions are Python's.
    return [name for name in names if "Warning" not in name]


def test_nothing_public_is_left_out():
    """Every public function and method has an entry, and every entry is one."""
    everywhere = {name[2:] for name in ENTRIES if name.startswith("*.")}
    named = {name for name in public_names() if name.rsplit(".", 1)[1] not in everywhere}
    assert named == {name for name in ENTRIES if not name.startswith("*.")}


def fuzzers():
    """Yield entries, each once, with the names that it stands for."""
    names = {}
    for name, function in ENTRIES.items():
        names.setdefault(function, []).append(name)
    return [pytest.param(function, id=", ".join(some)) for function, some in names.items()]


@pytest.mark.filterwarnings("ignore:.* matrices went unanswered:UserWarning")
@pytest.mark.filterwarnings("ignore:.* training matrices are not finite:UserWarning")
@pytest.mark.filterwarnings("ignore:Matrices .* are far from those that:UserWarning")
@pytest.mark.filterwarnings("ignore:The Taylor series diverges:UserWarning")
@pytest.mark.filterwarnings("ignore:Got an array of shape .*, which is taken for:UserWarning")
@pytest.mark.parametrize("fuzz", fuzzers())
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(choices=CHOICES)
def test_hostile_arguments(fuzz, choices):
    """Two hundred cases each: what is documented, or what the oracle agrees with."""
    fuzz(choices)


# -- what the fuzzing found ------------------------------------------------------------------------

HALF = torch.tensor(CENTER, dtype=torch.bfloat16)
GRADIENT = torch.tensor(CENTER, requires_grad=True)
HUGE = 10**400


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.nearest_regular(CENTER, HUGE), "min_distance of type int"),
        (lambda: geometry.region_margin(CENTER, 0.5, min_distance="far"), "min_distance of type"),
        (lambda: geometry.region_margin(CENTER, "data"), "radius of type str"),
        (lambda: geometry.region_margin(CENTER, 0.1j * CENTER), "radius .* complex"),
        (lambda: geometry.region_margin(CENTER, 0.1, "mahalanobis", axes="xyz"), "axes of type"),
        (lambda: bounds.certify_region(series(), region(), device="moon"), "device='moon'"),
        (lambda: bounds.certify_region(series(), region(), rtol=HUGE), "rtol of type int"),
        (lambda: bounds.certify_region(structured(), region()), "structure='symmetric'"),
        (lambda: bounds.residual_bound(HALF[None], "X"), "matrices of type"),
        (lambda: bounds.residual_bound([[Fraction(1, 3)]], [[3.0]]), "float64 cannot hold"),
        (lambda: metrics.absolute_errors(1.0, 1.0), "shape"),
        (lambda: structures.pack_symmetric(1.0), "shape"),
        (lambda: structures.pack_symmetric(pandas.DataFrame([[1j]])), "complex"),
        (lambda: datasets.make_region([]), "name"),
        (lambda: datasets.make_channel_gram(correlation=np.int64(-(2**63))), "correlation"),
        (lambda: region().sample(True), "n_samples=True"),
        (lambda: region().sample(device="moon"), "device='moon'"),
        (lambda: region().sample(dtype=torch.float32), "one of NumPy"),
        (lambda: region_of_data(min_distance=HUGE), "min_distance of type int"),
        (lambda: FeasibleRegionSampler(CENTER, HUGE).fit(), "radius of type int"),
        (lambda: FeasibleRegionSampler([[1], [2, 3]], 0.5).fit(), "center of type list"),
        (lambda: FeasibleRegionSampler().fit_resample(training(), [1]), "inconsistent numbers"),
        (lambda: series().inverse_function("f9"), "dtype='f9'"),
        (lambda: complex_series().predict([[[1j, 0, 0], [0, 1, 0], [0, 0, 1]]]), "complex"),
        (lambda: CertifiedInverse(Ridge()).fit(), "cannot be fitted without"),
        (lambda: CertifiedInverse(series(), tol=HUGE).fit(training()), "tol of type int"),
        (lambda: answers_of("ragged"), "predictions of type list"),
        (lambda: member_of("long"), "float64 cannot hold"),
        (lambda: member_of("ragged"), "from family"),
        (lambda: StructuredInverse(Liar("few")).fit(symmetric()).predict(symmetric()), "several"),
        (lambda: SingularDistanceScorer()(series(), training()[0]), "shape"),
        (lambda: SingularDistanceScorer()(series(), training(), [1.0]), "targets of 200"),
        (lambda: SingularDistanceScorer(lambda X, y, p: 1.0)(series(), training()), "one for each"),
        (lambda: score_by([-1.0] * 200), "must be positive"),
        (lambda: trained(device="moon"), "device='moon'"),
        (lambda: trained(hidden_layer_sizes=(1.5,)), "widths are integers"),
        (lambda: trained(weight_decay=1e300, solver="adam"), "infinite|NaN|nan"),
        (lambda: trained(learning_rate_init=HUGE), "learning_rate_init of type int"),
        (lambda: silu().fit_sampler(series()), "fitted FeasibleRegionSampler"),
        (lambda: impossibility.compose(1.0, impossibility.identity()), "PolynomialLipschitz is"),
        (lambda: impossibility.scale(impossibility.identity(), {}), "factor of type"),
        (lambda: impossibility.constant([[1.0]]), "coefficients of shape"),
        (lambda: impossibility.elementwise(1.0, size=-1), "size=-1"),
        (lambda: impossibility.failure_distance(3, 1.0), "pass center"),
        (lambda: impossibility.counterexample(series(), CENTER, HUGE), "error of type int"),
        (lambda: moments_of(region(structure="symmetric")), "without structure"),
        (lambda: moments_of(series()), "fitted FeasibleRegionSampler"),
        (lambda: impossibility.polynomial_lipschitz(torch.nn.ReLU(), input_shape="4"), "integers"),
        (lambda: inspection.SingularSetDisplay.from_sampler(region(), epsilon=HUGE), "epsilon"),
        (lambda: inspection.TrainingDisplay(loss_curve=[1.0]).plot(3), "plain axes"),
        (lambda: inspection.TruncatedMomentsDisplay.from_moments(None), "truncated_moments"),
    ],
)
def test_is_refused(call, message):
    """What raised something else, or was taken for something else, says what is wrong with it."""
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert on_purpose(caught.value)


def region_of_data(**params):
    return FeasibleRegionSampler(**params).fit(training())


def answers_of(kind):
    return CertifiedInverse(FrozenEstimator(Liar(kind).fit(training()))).fit().predict(training())


def member_of(kind):
    return CertifiedInverse(affine_free(), family=garbage(kind)).fit(np.ones((3, 1)))


def score_by(weights):
    return SingularDistanceScorer()(series(), training(), sample_weight=weights)


def trained(**params):
    return (
        NeuralInverseRegressor(2, max_iter=1, random_state=0).set_params(**params).fit(training())
    )


def moments_of(sampler):
    return impossibility.truncated_moments(series(), sampler, n_samples=10)


def test_no_estimator_predicts_for_the_scorer():
    """A TypeError, as scikit-learn's scorers raise it."""
    with pytest.raises(TypeError, match="predicts is expected"):
        SingularDistanceScorer()(None, training())


@pytest.mark.parametrize("A", [HALF, GRADIENT], ids=["bfloat16", "gradients"])
def test_tensors_are_arrays(A):
    """Where arrays are asked for a tensor is one, whatever its dtype, with gradients or without."""
    near = pytest.approx(smallest_singular_value(CENTER), rel=1e-2)
    assert geometry.distance_to_singularity(A) == near
    assert geometry.region_certificate(A, 0.5).is_certified
    assert np.allclose(series().inverse_function()(A) @ CENTER, np.eye(2), atol=1e-2)


def test_sparse_tensors_are_refused():
    """As scikit-learn refuses sparse matrices: by a TypeError that says what to do."""
    for function in (matrices.embed_complex, matrices.extract_complex, series().predict):
        with pytest.raises(TypeError, match="dense data is required"):
            function(torch.eye(2).to_sparse())


def test_arrays_that_torch_does_not_take():
    """Beside a tensor an array may be read-only, big-endian, or of objects."""
    A = torch.tensor(CENTER)[None]
    X = np.linalg.inv(CENTER)[None]
    readonly = X.copy()
    readonly.flags.writeable = False
    model = CertifiedInverse(series()).fit()
    for other in (readonly, X.astype(">f8"), X.astype(object), X.tolist()):
        assert bounds.residual_bound(A, other)[0] < 1e-14
        x, bound = model.solve(A, other, return_bound=True)
        assert bound.max() < 1e-6
        assert np.allclose(CENTER @ on_host(x)[0], X[0])


def test_extract_complex_of_integers():
    """Unsigned integers do not wrap around, nor does the least int64."""
    for dtype in (np.uint8, np.uint64, np.int32, bool):
        Z = matrices.extract_complex(np.array([[1, 1], [0, 1]], dtype=dtype))
        assert Z[0, 0] == 1 - 0.5j
        assert Z.dtype == np.complex128
    Z = matrices.extract_complex(torch.tensor([[1, 1], [0, 1]], dtype=torch.uint8))
    assert Z[0, 0] == 1 - 0.5j
    least = -(2**63)
    assert matrices.extract_complex(np.array([[0, least], [0, 0]]))[0, 0] == 2.0**62 * 1j


@pytest.mark.parametrize("m", [1, 2, 3, 17])
def test_extract_complex_of_single_precision(m):
    """NumPy 2.4.6 negates wrongly, in single precision, from one stride of memory to another."""
    Z = np.random.RandomState(0).standard_normal((m, 1, 2)).view(complex).astype(np.complex64)
    assert np.array_equal(matrices.extract_complex(matrices.embed_complex(Z)), Z)


def test_max_refine_counts_all_steps():
    """Those in single precision and those that go on in double are at most max_refine together."""
    A = (center_of(3) + 0.2 * np.random.RandomState(0).uniform(-1, 1, (50, 3, 3))).astype("f4")
    for max_refine in range(4):
        model = CertifiedInverse(series(3), tol=1e-12, max_refine=max_refine, fallback="keep").fit()
        assert model.report(A).n_refine.max() == max_refine


def test_huge_matrices_have_errors():
    """Norms of huge inverses do not overflow, nor are huge matrices taken for singular ones."""
    Y = np.full((1, 2, 2), 1e300)
    assert metrics.relative_errors(Y, 1.1 * Y) == pytest.approx(0.1)
    score = SingularDistanceScorer("neg_relative_error")(Liar("negative"), 1e300 * training())
    assert score == pytest.approx(-2)


def test_powers_of_a_large_radius_overflow():
    """A region far too large has no bound, instead of an OverflowError."""
    assert bounds.taylor_bound(1e-150 * CENTER, 1e-3, 3).max_error == np.inf
    assert impossibility.failure_distance(series(2, 3), 1e300, center=CENTER) == 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_worst_case_over_symmetric_matrices(norm):
    """Of a region of symmetric matrices the witness is one, and samples come near its error."""
    sampler = region(norm=norm, structure="symmetric")
    proof = bounds.certify_region(series(), sampler, rtol=0.05, max_time=None)
    assert np.array_equal(proof.witness, proof.witness.T)
    assert sampler.is_feasible(proof.witness[None])
    X, Y = sampler.sample(20_000)
    seen = np.abs(series().predict(X) - Y).max()
    assert 0.5 * proof.lower < seen <= proof.upper


def test_right_hand_sides_of_complex_matrices():
    """One that is infinite does not spoil another, and nothing warns."""
    b = np.array([[[1.0, np.inf], [2.0, 1.0]]])
    A = (CENTER + 0.5j)[None]
    x, bound = CertifiedInverse(complex_series()).fit().solve(A, b, return_bound=True)
    assert np.allclose(A[0] @ x[0, :, 0], b[0, :, 0])
    assert np.isnan(x[0, :, 1]).all()
    assert bound[0, 0] <= 1e-6
    assert bound[0, 1] == np.inf


def test_parameters_of_numpy():
    """Integers of NumPy, as grids have them, are as good as Python's."""
    model = NeuralInverseRegressor(np.int8(2), batch_size=np.int64(8), max_iter=np.uint8(1))
    model.set_params(solver="adam", random_state=0).fit_sampler(region(), np.uint8(1))
    assert model.n_iter_ == 1
    assert len(datasets.make_channel_gram(np.uint8(2), np.uint8(2), np.uint8(9)).data) == 2


def test_frames_of_no_rows():
    """`set_output` makes an empty frame of a tensor without rows."""
    sampler = FeasibleRegionSampler(CENTER, 0.5).set_output(transform="pandas").fit()
    assert sampler.transform(torch.zeros(0, 2, 2)).shape == (0, 4)


def test_single_cutoff():
    """Moments at one cutoff are drawn, too."""
    found = impossibility.truncated_moments(
        series(), region(radius=2.0), (1, 2), 1e-3, n_samples=100, random_state=0
    )
    display = inspection.TruncatedMomentsDisplay.from_moments(found, ax=Figure().subplots())
    assert display.moments.shape == (2, 1)


def test_equal_distances():
    """Errors at distances that a logarithmic axis does not tell apart are drawn, too."""
    display = inspection.ErrorByDistanceDisplay(
        distance=np.array([1.0, 1 + 2.0**-52]), errors=np.ones(2)
    )
    low, high = display.plot(Figure().subplots()).ax_.get_xlim()
    assert low < 0.9 < 1.1 < high
