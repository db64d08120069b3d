"""What entries of the fuzzing share: how they are registered, and oracles."""

import math
import sys
from functools import cache

import numpy as np
import scipy.linalg
import torch
from hostile import NORMS, Oracle

from skinv._arrays.projected import ProjectedArray

ENTRIES = {}
# name: the file here that it is in.
ROOMS = {}
EPS = float(np.finfo(np.float64).eps)


def entry(*names):
    """Register a function of Choices that uses each of some public names in every case."""

    room = sys._getframe(1).f_globals["__name__"].removeprefix("fuzzing.")

    def register(function):
        for name in names:
            assert name not in ENTRIES
            ENTRIES[name], ROOMS[name] = function, room
        return function

    return register


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
    embeds = np.iscomplexobj(A) or np.iscomplexobj(X)
    if embeds:
        A, X = (embedded(np.asarray(M, dtype=complex)) for M in (A, X))
    bound = np.asarray(bound, dtype=np.float64)
    assert bound.shape == (len(A),)
    assert bound.dtype == np.float64
    assert (bound >= 0).all()  # NaN is not
    for k in np.flatnonzero(np.isfinite(bound)):
        assert bound[k] >= oracle(A[k]).errors(X[k], embeds)[NORMS.index(str(norm))]


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
