"""Fuzzing of metrics, embeddings and packed matrices."""

import pickle

import numpy as np
from strategies import JUNK, REFUSED, Given, attempt

import skinv
from fuzzing.bounds import a_pair
from fuzzing.common import check_like, entry, on_host
from fuzzing.geometry import a_matrix_or_stack
from fuzzing.models import affine, region, series
from skinv import (
    LinearInverseApprox,
    matrices,
    metrics,
    persistence,
    structures,
)
from skinv._arrays.conversion import is_complex


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
