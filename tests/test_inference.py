"""Predictions by the engine: right in every layout, precision and size, in parts and in place."""

import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from backends import every_dtype
from exhaustive import exhaustive
from sklearn.base import clone
from torch.utils._python_dispatch import TorchDispatchMode

from skinv import (
    CertifiedInverse,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
)
from skinv.datasets import load_power_flow
from skinv.learn.inference import engine as engine_module
from skinv.learn.inference import pieces
from skinv.learn.inference.parts import Parts
from skinv.learn.inference.predictor import output_indices

MODELS = {
    "order 1": LinearInverseApprox(),
    "order 2": LinearInverseApprox(order=2),
    "order 4": LinearInverseApprox(order=4),
    "lstsq": LinearInverseApprox(method="lstsq"),
    "silu": NeuralInverseRegressor(10, baseline=None, max_iter=2, random_state=0),
    "relu": NeuralInverseRegressor(
        (8, 6), "relu", baseline="affine", n_components=None, max_iter=2, random_state=0
    ),
    "tanh": NeuralInverseRegressor(7, "tanh", baseline="taylor", max_iter=2, random_state=0),
    "taylor2": NeuralInverseRegressor(7, baseline="taylor2", max_iter=2, random_state=0),
    "no layer": NeuralInverseRegressor(
        [], baseline="affine", solver="adam", n_components=None, max_iter=2, random_state=0
    ),
    "polynomial": PolynomialInverseApprox(3, 4, on_extrapolation="keep"),
}
ORDERS = (1, 2, 3, 5, 8, 9, 16)
EPS = {np.float16: 1e-3, np.float32: 2e-6, np.float64: 1e-12}


def family(n, m, seed=0):
    """Matrices near a regular one."""
    rng = np.random.default_rng(seed)
    center = 3 * np.eye(n) + rng.standard_normal((n, n)) / np.sqrt(n)
    return center + 0.05 * rng.standard_normal((m, n, n)) / np.sqrt(n)


def grid():
    """Real matrices most of whose entries are constant."""
    return load_power_flow("case6ww").data.reshape(-1, 8, 8)


class Fitted(dict):
    """Models by names and orders, or on real matrices; each is fitted when it is asked for."""

    def __missing__(self, case):
        name, n = case
        X = grid()[:300] if n == "grid" else family(n, 300 if name == "lstsq" else 60)
        self[case] = clone(MODELS[name]).fit(X)
        return self[case]


@pytest.fixture(scope="module")
def fitted():
    return Fitted()


def naive(model, A, spacing=None):
    """Evaluate a fitted model as its definition says, in float64 and one matrix at a time."""
    spacing = spacing or float(np.finfo(np.asarray(A).dtype).eps)
    A = np.asarray(A, dtype=np.float64)
    rows = A.reshape(len(A), -1)
    if isinstance(model, PolynomialInverseApprox):
        form = model._map.tolerating(spacing)
        z = (rows - form.origin) @ form.projection
        legendre = np.array([np.ones_like(z), z, (3 * z**2 - 1) / 2, (5 * z**3 - 3 * z) / 2])
        out = np.tile(form.constant, (len(A), 1))
        for name, coef in zip(form.terms.names, form.coef, strict=True):
            term = np.prod([legendre[name.count(i)][:, i] for i in set(name)], axis=0)
            out += np.outer(term, coef if form.basis is None else coef @ form.basis)
        return out
    if isinstance(model, LinearInverseApprox):
        if model.method == "lstsq":
            return rows @ model.coef_.T + model.intercept_
        return series(A, model.center_, model.inverse_, model.order)
    prepared = model._preparation
    h = (rows[:, prepared.kept] - prepared.x_mean) / prepared.x_scale
    for k, (W, b) in enumerate(model._layers):
        h = h @ W.T.astype(float) + b
        if k < len(model._layers) - 1:
            h = {"relu": lambda t: np.maximum(t, 0), "tanh": np.tanh}.get(
                model.activation, lambda t: t / (1 + np.exp(-t))
            )(h)
    out = h * prepared.y_scale + prepared.y_mean
    if prepared.affine is not None:
        x_mean, y_mean, M = prepared.affine
        out = out + (rows[:, prepared.kept] - x_mean) @ M + y_mean
    if prepared.center is not None:
        out = out + series(A, *prepared.center, prepared.order)
    return out


def series(A, center, B, order):
    """Sum (−BE)ʲB."""
    step = -B @ (A.reshape(-1, *center.shape) - center)
    total = term = np.broadcast_to(B, step.shape)
    for _ in range(order):
        term = step @ term
        total = total + term
    return total.reshape(len(A), -1)


def close(values, expected, dtype=np.float64):
    """Compare with rounding in a precision, relative to the largest entry."""
    expected = np.asarray(expected)
    atol = EPS[dtype] * max(np.abs(expected).max(initial=0.0), 1e-300)
    np.testing.assert_allclose(np.asarray(values, dtype=float), expected, rtol=0, atol=atol)


CASES = [
    *((name, n) for name in MODELS for n in (1, 2, 5, 8, "grid")),
    *exhaustive(*((name, n) for name in MODELS for n in ORDERS if n not in (1, 2, 5, 8))),
]


def tensors_on_device(monkeypatch, wanted):
    """Let tensors go the way of those on a GPU, by torch's operations alone."""
    on_device = torch.is_tensor if wanted else lambda X: False
    monkeypatch.setattr(engine_module, "on_host", lambda X: not on_device(X))


def matrices(n, m=50):
    """Return matrices that were not trained on."""
    return grid()[300 : 300 + m] if n == "grid" else family(n, m, seed=1)


# -- right -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_predictions(case, dtype, fitted, monkeypatch):
    """One row, few rows and many pieces: the model's definition, in the dtype of the input."""
    model, A = fitted[case], matrices(case[1]).astype(dtype)
    expected = naive(model, A)
    d = expected.shape[1]
    rows = A.reshape(len(A), d)
    for k in (1, 3, 50):
        values = model.predict(rows[:k])
        assert values.dtype == dtype
        assert values.shape == (k, d)
        close(values, expected[:k], dtype)
        close(model.predict(A[:k]).reshape(k, d), expected[:k], dtype)
    tensor = model.predict(torch.from_numpy(rows))
    assert tensor.dtype == torch.from_numpy(rows).dtype
    close(tensor, expected, dtype)
    close(model.predict(torch.from_numpy(A)).reshape(-1, d), expected, dtype)
    # As if there were too many rows for one piece.
    tensors_on_device(monkeypatch, True)
    monkeypatch.setattr(pieces, "_MOST_ROWS", 7)
    close(model.predict(rows), expected, dtype)
    close(model.predict(A).reshape(-1, d), expected, dtype)
    close(model.predict(torch.from_numpy(rows)), expected, dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_large_batches_are_small_ones(case, fitted):
    """The sizes that real batches have: the first, a middle and the last row are right."""
    model = fitted[case]
    base = matrices(case[1]).reshape(50, -1)
    X = np.tile(base, (700, 1)).astype(np.float32)
    values = model.predict(X)
    index = [0, 8191, 8192, 20000, len(X) - 1]
    close(values[index], naive(model, X[index]), np.float32)
    assert np.isfinite(values).all()


def test_network_by_its_coefficients():
    """Without a baseline the network is its coefs_ and intercepts_, as in scikit-learn."""
    model = NeuralInverseRegressor((9, 8), "relu", baseline=None, max_iter=2, random_state=0)
    model.fit(family(3, 200))
    h = X = family(3, 100, seed=2).reshape(100, 9)
    for W, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        h = np.maximum(h @ W + b, 0)
    close(model.predict(X), h @ model.coefs_[-1] + model.intercepts_[-1])


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-12, 1e12, 1e20, 1e30])
@pytest.mark.parametrize("n", [2, 8, 9])
def test_extreme_scales_in_single_precision(n, scale):
    """Coefficients of order ‖B‖² leave float32's range long before the inverse does."""
    A = family(n, 80) * scale
    X = A.reshape(80, -1).astype(np.float32)
    models = [LinearInverseApprox(order=k) for k in (1, 2)]
    models += [LinearInverseApprox(method="lstsq")] if n == 2 else []
    models += [
        NeuralInverseRegressor(6, baseline=b, max_iter=2, random_state=0) for b in (None, "taylor2")
    ]
    for model in models:
        model.fit(A)
        expected = naive(model, X)
        for values in (model.predict(X), model.predict(X[:1]), model.predict(torch.tensor(X))):
            close(values, expected[: len(values)], np.float32)
        column = model.predict(X, outputs=np.arange(0, n * n, n))
        close(column, expected[:, ::n], np.float32)


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs(case, tensor, fitted, monkeypatch):
    """A part of the inverse is that part of the whole one."""
    model, A = fitted[case], matrices(case[1])
    n = A.shape[1]
    whole = model.predict(A).reshape(len(A), -1)
    rng = np.random.default_rng(0)
    parts = {
        "diagonal": np.arange(n) * (n + 1),
        "column": np.arange(n) * n + n - 1,
        "row": np.arange(n),
        "block": (np.arange(min(n, 2))[:, None] * n + np.arange(min(n, 3))).ravel(),
        "tall block": (np.arange(min(n, 3))[:, None] * n + np.arange(min(n, 2))).ravel(),
        "one": np.array([n * n // 2]),
        "some": rng.integers(0, n * n, 2 * n),
        "backwards": np.arange(n * n)[::-1],
        "none": np.array([], dtype=int),
    }
    X = torch.from_numpy(A) if tensor else A
    for device in (False, True):
        tensors_on_device(monkeypatch, device)
        for index in parts.values():
            values = model.predict(X, outputs=index)
            assert tuple(values.shape) == (len(A), len(index))
            close(values, whole[:, index])
        close(model.predict(X[:1], outputs=parts["row"]), whole[:1, parts["row"]])


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([0, 5, -1], [0, 5, 8]),
        (4, [4]),
        (np.diag_indices(3), [0, 4, 8]),
        ((1, [0, 2]), [3, 5]),
        ((-1, -1), [8]),
        (np.eye(3, dtype=bool), [0, 4, 8]),
        (np.arange(9) % 2 == 1, [1, 3, 5, 7]),
        ([], []),
        (np.array([2], dtype=np.uint8), [2]),
    ],
)
def test_kinds_of_indices(outputs, expected):
    """Flat indices, rows and columns, masks; counted from the end where negative."""
    assert output_indices(outputs, 9).tolist() == expected


@pytest.mark.parametrize(
    "outputs",
    [
        9,
        -10,
        [0, 9],
        (0, 3),
        (-4, 0),
        [0.5],
        "diagonal",
        [[0, 1]],
        np.ones(4, bool),
        ([0, 1], [0] * 3),
    ],
)
def test_bad_indices(outputs, fitted):
    """What is no part of the inverse is refused with the value."""
    with pytest.raises(ValueError, match="Got outputs="):
        fitted["order 1", 3].predict(matrices(3), outputs=outputs)


def test_parts_cost_their_share():
    """A column takes no n×n×n product, and a diagonal no more than n numbers per coefficient."""
    n = 32
    model = LinearInverseApprox(family(n, 1)[0], order=3).fit()
    column = Parts.of(model._make_form()(), np.arange(0, n * n, n))
    assert column.series.right.shape == (n, 1)
    row = Parts.of(model._make_form()(), np.arange(n))
    assert row.series.left.shape == (1, n)
    assert row.series.by_rows
    # Of the diagonal the last product takes a row and a column per entry.
    diagonal = Parts.of(model._make_form()(), np.arange(n) * (n + 1)).series
    assert (diagonal.columns == np.arange(n)).all()
    assert diagonal.left.shape == (n, n)
    whole = Parts.of(model._make_form()(), np.arange(n * n)[::-1]).series
    assert len(whole.pick) == n * n
    first = LinearInverseApprox(family(n, 1)[0]).fit()
    diagonal = Parts.of(first._make_form()(), np.arange(n) * (n + 1))
    assert diagonal.linear.shape == (n * n, n)
    net = NeuralInverseRegressor(20, baseline=None, max_iter=1).fit(family(6, 100))
    assert Parts.of(net._make_form()(), np.arange(3)).layers[-1][0].shape == (20, 3)


# -- memory ----------------------------------------------------------------------------------------


def layouts(A, folder):
    """Yield the same matrices in every memory layout there is."""
    m, n = A.shape[:2]
    rows = A.reshape(m, n * n)
    yield "fortran rows", np.asfortranarray(rows)
    yield "fortran stack", np.asfortranarray(A)
    yield "transposed stack", np.ascontiguousarray(A.transpose(0, 2, 1)).transpose(0, 2, 1)
    wide = np.empty((2 * m, n * n + 3), A.dtype)
    wide[::2, 1:-2] = rows
    yield "strided", wide[::2, 1:-2]
    yield "reversed", rows[::-1].copy()[::-1]
    frozen = rows.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    path = folder / "matrices.npy"
    np.save(path, rows)
    yield "memory-mapped", np.load(path, mmap_mode="r")
    np.save(path, A)
    yield "memory-mapped stack", np.load(path, mmap_mode="r")
    buffer = bytearray(rows.nbytes + 1)
    unaligned = np.frombuffer(buffer, dtype=A.dtype, count=rows.size, offset=1)
    unaligned[...] = rows.ravel()
    yield "unaligned", unaligned.reshape(rows.shape)
    yield "another byte order", rows.astype(rows.dtype.newbyteorder())
    yield "list", rows.tolist()
    yield "frame", pd.DataFrame(rows)


@every_dtype
@pytest.mark.parametrize("n", [2, 9, "grid"])
@pytest.mark.parametrize("name", MODELS)
def test_layouts(name, n, dtype, fitted, tmp_path, monkeypatch):
    """Every memory layout gives the same numbers, whatever path it takes, and is left as it was."""
    model, A = fitted[name, n], matrices(n).astype(dtype)
    expected = {kind: naive(model, A.astype(kind)) for kind in (dtype, np.float64)}
    for device in (False, True):
        tensors_on_device(monkeypatch, device)
        for kind, X in layouts(A, tmp_path):
            before = np.array(X)
            converted = kind in ("list", "another byte order")
            right = expected[np.float64 if converted else dtype]
            values = np.asarray(model.predict(X)).reshape(right.shape)
            close(values, right, dtype)
            np.testing.assert_array_equal(before, np.array(X))
            assert values.dtype == (np.float64 if converted else dtype)
    for kind in (torch.from_numpy(A).transpose(1, 2), torch.from_numpy(A)[::3]):
        close(model.predict(kind).reshape(len(kind), -1), naive(model, kind.numpy()), dtype)


@pytest.mark.parametrize("case", [c for c in CASES if c[1] in (3, 16, "grid")], ids=str)
def test_no_rows(case, fitted):
    """Nothing in, nothing out: arrays, stacks, tensors, frames and parts."""
    model, A = fitted[case], matrices(case[1])
    n = A.shape[1]
    for X in (A[:0], A.reshape(len(A), -1)[:0], torch.from_numpy(A)[:0]):
        values = model.predict(X)
        assert type(values) is type(X)
        assert tuple(values.shape) == tuple(X.shape)
        assert values.dtype == X.dtype
        assert tuple(model.predict(X, outputs=[0, 1]).shape) == (0, 2)
    assert model.predict(pd.DataFrame(np.empty((0, n * n)))).shape == (0, n * n)
    assert CertifiedInverse(model).predict(A[:0]).shape == (0, n, n)


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("case", [c for c in CASES if c[1] in (3, 16, "grid")], ids=str)
def test_memory_of_the_caller(case, tensor, fitted, monkeypatch):
    """Results go where the caller wants them, which may be where the matrices are."""
    model, A = fitted[case], matrices(case[1])
    expected = model.predict(A)
    for device in (False, True):
        tensors_on_device(monkeypatch, device)
        for shape in (A.shape, (len(A), A.shape[1] ** 2)):
            X = A.copy().reshape(shape)
            X = torch.from_numpy(X) if tensor else X
            out = X * np.nan
            assert model.predict(X, out=out) is not None
            close(out.reshape(A.shape), expected)
            one = X[:1] * np.nan
            model.predict(X[:1], out=one)
            close(one.reshape(-1), expected[0].ravel())
            part = (X.reshape(len(A), -1)[:, :2] * 0).contiguous() if tensor else np.empty((50, 2))
            model.predict(X, outputs=[1, 0], out=part)
            close(part, expected.reshape(50, -1)[:, [1, 0]])
            model.predict(X, out=X)  # in place
            close(X.reshape(A.shape), expected)


def test_memory_that_does_not_fit(fitted):
    """Wrong shapes, types, dtypes and memory that cannot be written to are refused."""
    model, A = fitted["order 1", 3], matrices(3)
    frozen = np.empty((50, 3, 3))
    frozen.flags.writeable = False
    wrong = [
        np.empty((50, 9)),
        np.empty((49, 3, 3)),
        np.empty((50, 3, 3), np.float32),
        np.empty((50, 3, 3), order="F"),
        np.empty((100, 3, 3))[::2],
        frozen,
        torch.empty(50, 3, 3),
        [0.0],
    ]
    for out in wrong:
        with pytest.raises(ValueError, match="Got out of"):
            model.predict(A, out=out)


@pytest.mark.parametrize("tensor", [False, True])
def test_memory_that_overlaps(tensor):
    """Results over other matrices that are still to be read are refused, whatever the shift."""
    model = LinearInverseApprox(family(16, 1)[0]).fit()
    memory = np.tile(family(16, 100).reshape(100, 256), (3, 1))
    memory = torch.from_numpy(memory) if tensor else memory
    for X, out in (
        (memory[:-1], memory[1:]),
        (memory[1:], memory[:-1]),
        (memory[::2], memory[:150]),
        (memory[:100], memory[50:150]),
    ):
        with pytest.raises(ValueError, match="overlaps"):
            model.predict(X, out=out)
    # Of one piece of memory, but apart.
    expected = model.predict(memory[:100])
    model.predict(memory[:100], out=memory[100:200])
    close(memory[100:200], expected)
    # From the same place, but longer.
    memory = np.zeros(50 * 256 * 3)
    memory = torch.from_numpy(memory) if tensor else memory
    X = memory[: 50 * 256].reshape(50, 256)
    with pytest.raises(ValueError, match="overlaps"):
        model.predict(X, outputs=np.arange(512) % 256, out=memory[: 50 * 512].reshape(50, 512))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", MODELS)
def test_rows_that_are_not_finite_in_place(name, bad, fitted, monkeypatch):
    """What is overwritten has been looked at before."""
    monkeypatch.setattr(pieces, "_MOST_ROWS", 16)
    for device in (False, True):
        tensors_on_device(monkeypatch, device)
        for n in (3, 9, "grid"):
            X = matrices(n).reshape(50, -1).copy()
            X[[20, 41], 1] = bad
            expected = fitted[name, n].predict(X.copy())
            assert np.isnan(expected[[20, 41]]).all()
            np.testing.assert_array_equal(fitted[name, n].predict(X, out=X), expected)


def test_single_targets(fitted):
    """A target given without a dimension comes back without one, into memory of that shape."""
    A = family(2, 300)
    y = np.linalg.det(A)
    network = NeuralInverseRegressor(8, max_iter=3, random_state=0)
    for model in (LinearInverseApprox(method="lstsq"), network):
        model.fit(A, y)
        out = np.empty(300)
        assert model.predict(A, out=out).shape == (300,)
        close(out, model.predict(A))
        assert model.predict(A, outputs=[0]).shape == (300, 1)
        assert model.inverse_function()(A[0]) == pytest.approx(model.predict(A[:1]))


@pytest.mark.parametrize("size", exhaustive((150, 40), (500, 100)), ids=str)
def test_peak_memory(size):
    """Of 75 or 256 MB of matrices a prediction takes the result and a few megabytes."""
    code = """
import resource, sys
import numpy as np, torch
from skinv import LinearInverseApprox, NeuralInverseRegressor

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

rng = np.random.default_rng(0)
A0 = 4 * np.eye(16) + rng.standard_normal((16, 16)) / 4
X = (A0 + 0.01 * rng.standard_normal((500, 16, 16))).astype(np.float32)
models = [LinearInverseApprox(A0).fit(), LinearInverseApprox(A0, order=3).fit()]
models.append(NeuralInverseRegressor(256, max_iter=1).fit(X[:200]))
for model in models:
    model.predict(X)  # imports and constants
copies, few = map(int, sys.argv[1:])
A = np.tile(X, (copies, 1, 1))
A.reshape(-1)[::1024] += 0
size = A.nbytes / 2**20
before = peak()
for model in models:
    for given in (A, A.transpose(0, 2, 1), torch.from_numpy(A)):
        model.predict(given)
        grown = peak() - before
        assert grown < size + few, (model, type(given), grown, size)
"""
    command = [sys.executable, "-c", code, *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, *exhaustive(np.float32, np.float16)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, *exhaustive(-np.inf)])
@pytest.mark.parametrize("case", [c for c in CASES if c[1] in (1, 3, 9, "grid")], ids=str)
def test_rows_that_are_not_finite(case, bad, dtype, fitted, monkeypatch):
    """Answered by NaN, in whatever entry and piece, and no other row knows of it."""
    model, A = fitted[case], matrices(case[1]).astype(dtype)
    n = A.shape[1]
    for device in (False, True):
        tensors_on_device(monkeypatch, device)
        monkeypatch.setattr(pieces, "_MOST_ROWS", 16)
        for entry in {0, n * n // 2, n * n - 1}:
            X = A.reshape(len(A), -1).copy()
            X[[7, 41], entry] = bad
            good = np.delete(np.arange(50), [7, 41])
            expected = naive(model, X[good])
            for given in (X, X.reshape(A.shape), torch.from_numpy(X)):
                values = np.asarray(model.predict(given)).reshape(len(A), -1)
                close(values[good], expected.reshape(len(good), -1), dtype)
                part = np.asarray(model.predict(given, outputs=[0]))
                if isinstance(given, torch.Tensor):  # infinity may give infinity
                    values, part = (np.where(np.isinf(v), np.nan, v) for v in (values, part))
                    assert np.isnan(values[[7, 41]]).any(axis=1).all()
                else:
                    assert np.isnan(values[[7, 41]]).all()
                assert np.isnan(part[[7, 41]]).all()
                assert np.isfinite(part[good]).all()
            assert np.isnan(model.predict(X[7:8])).all()


def test_differences_that_overflow_are_no_nan():
    """Finite matrices on the other side of all numbers are not taken for infinite ones."""
    model = LinearInverseApprox(np.float32(-3e38) * np.eye(4)).fit()
    X = np.tile(np.float32(-3e38) * np.eye(4, dtype=np.float32), (5000, 1, 1))
    X[7, 0, 0] = 3e38
    assert model.predict(X).shape == X.shape


def test_large_numbers_are_no_nan():
    """Finite entries whose squares or sums overflow are not taken for infinite ones."""
    for n in (2, 9):
        model = LinearInverseApprox(family(n, 1)[0]).fit()
        X = np.full((40, n * n), 3e38, np.float32)
        with np.errstate(all="ignore"):
            assert model.predict(X).shape == X.shape
            assert model.predict(X[:1]).shape == (1, n * n)
        net = NeuralInverseRegressor(4, max_iter=1, random_state=0).fit(family(n, 100))
        with np.errstate(all="ignore"):
            assert net.predict(X).shape == X.shape
            assert net.predict(X.copy(), out=X).shape == X.shape
    X = np.full((9000, 81), 1e36, np.float32)
    with np.errstate(all="ignore"):  # overflows, in place or not
        LinearInverseApprox(1e-3 * np.eye(9)).fit().predict(X, out=X)


@pytest.mark.parametrize("name", MODELS)
def test_wrong_sizes(name, fitted):
    """Matrices of another order are refused, and both sizes named."""
    model = fitted[name, 3]
    for X in (np.ones((5, 4)), np.ones((5, 2, 2)), np.ones((5, 16)), [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="expecting 9 features"):
            model.predict(X)
        with pytest.raises(ValueError, match="expecting 9 features"):
            model.predict(torch.tensor(X))
    for X in (np.ones(9), np.ones((2, 3, 4)), np.ones((1, 1, 3, 3))):
        with pytest.raises(ValueError, match=r"array|square"):
            model.predict(X)
    with pytest.raises(ValueError, match="omplex"):
        model.predict(np.ones((5, 9), complex))
    with pytest.raises(ValueError, match="complex"):
        model.predict(torch.ones(5, 9, dtype=torch.complex64))
    for array in (np.ones((3, 4)), np.ones(4), np.ones((1, 3, 3))):
        with pytest.raises(ValueError, match=r"\(3, 3\) or \(9,\) is expected"):
            model.inverse_function()(array)


def test_names_of_features():
    """A model fitted to a frame with names knows them, as scikit-learn's do."""
    A = pd.DataFrame(family(2, 100).reshape(100, 4), columns=list("abcd"))
    model = LinearInverseApprox().fit(A)
    with pytest.warns(UserWarning, match="valid feature names"):
        values = model.predict(A.to_numpy())
    close(model.predict(A), values)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(A[list("dcba")])
    for dtype in (np.float16, np.float32, np.float64):
        assert model.predict(A.astype(dtype)).dtype == dtype


# -- single matrices -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_inverse_function(case, dtype, fitted):
    """One matrix at a time, square or flat, list or array, gives what predict gives."""
    model, A = fitted[case], matrices(case[1])
    inverse = model.inverse_function(dtype)
    kind = np.dtype(dtype).type
    for a, expected in zip(A[:5], naive(model, A[:5].astype(kind)), strict=True):
        values = inverse(a)
        assert values.shape == a.shape
        assert values.dtype == kind
        close(values.ravel(), expected, kind)
        close(inverse(a.ravel()), expected, kind)
        close(inverse(a.T.copy().T).ravel(), expected, kind)
        close(np.ravel(inverse(a.tolist())), expected, kind)
    first = inverse(A[0]).copy()
    second = inverse(A[1])
    inverse(A[2])  # results are memory of their own
    close(second.ravel(), naive(model, A[1:2].astype(kind))[0], kind)
    assert not np.array_equal(first, second) or case[1] == 1


def test_inverse_function_stays_what_it_was():
    """Fitting again does not change it; other precisions are refused."""
    model = LinearInverseApprox(np.eye(2) * 2).fit()
    inverse, before = model.inverse_function(), model.predict(np.eye(2)[None])[0]
    model.set_params(center=np.eye(2) * 3).fit()
    np.testing.assert_array_equal(inverse(np.eye(2)), before)
    assert not np.array_equal(model.inverse_function()(np.eye(2)), before)
    with pytest.raises(ValueError, match="dtype='float16'"):
        model.inverse_function("float16")


# -- tensors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in CASES if c[1] in (3, 9, 16, "grid")], ids=str)
def test_nothing_waits_for_the_device(case, fitted, monkeypatch):
    """Tensors without values go through: no number is ever asked for, and nothing is copied in."""
    model, A = fitted[case], matrices(case[1])
    meta = torch.empty(A.shape, device="meta")
    for X in (meta, meta.reshape(len(A), -1), meta[:1], meta.half()):
        values = model.predict(X)
        assert values.shape == X.shape
        assert values.device.type == "meta"
        assert values.dtype == X.dtype
    assert model.predict(meta, outputs=[0]).shape == (len(A), 1)

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    called = set()
    tensors_on_device(monkeypatch, True)
    model.predict(torch.from_numpy(A))  # brings the constants
    monkeypatch.setattr(Parts, "to", None)  # not again
    with Watch():
        model.predict(torch.from_numpy(A))
    forbidden = {"_to_copy", "_local_scalar_dense", "nonzero", "equal", "is_nonzero"}
    assert called
    assert not called & forbidden


def test_inference_mode(fitted):
    """What one call in inference mode leaves behind another out of it can use."""
    for name in MODELS:
        A = np.tile(matrices(9), (200, 1, 1))
        model = clone(MODELS[name]).fit(family(9, 300))
        with torch.inference_mode():
            inside = model.predict(A), model.predict(torch.from_numpy(A))
        for values in (*inside, model.predict(A), model.predict(torch.from_numpy(A))):
            close(values.reshape(len(A), -1)[:50], naive(model, A[:50]))
        CertifiedInverse(model).predict(A)


def test_gradients_end_here(fitted):
    """predict is inference: it takes tensors that want gradients, and what it returns has none."""
    for name in MODELS:
        A = torch.tensor(matrices(3), requires_grad=True)
        with pytest.warns(UserWarning, match="without gradients"):
            values = fitted[name, 3].predict(A)
        assert not values.requires_grad
        weight = torch.ones(3, 3, dtype=torch.float64, requires_grad=True)
        (values * weight).sum().backward()  # but it may be used where gradients are taken
        assert weight.grad is not None


def test_lower_precision_is_torch_s_own(fitted):
    """Products on the host stay exact where torch is allowed less."""
    model, X = fitted["order 2", 16], np.tile(matrices(16), (40, 1, 1)).astype(np.float32)
    expected = naive(model, X)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        for given in (X, torch.from_numpy(X)):
            close(model.predict(given).reshape(expected.shape), expected, np.float32)
        X[1500, 0, 0] = np.nan
        values = model.predict(X).reshape(expected.shape)
        close(np.delete(values, 1500, axis=0), np.delete(expected, 1500, axis=0), np.float32)
        assert np.isnan(values[1500]).all()
    finally:
        torch.set_float32_matmul_precision(before)


def test_another_default_device(fitted):
    """Arrays are computed on the host, wherever new tensors are made by default."""
    model, A = fitted["silu", 9], np.tile(matrices(9), (200, 1, 1))
    expected = model.predict(A)
    other = clone(MODELS["silu"]).fit(family(9, 60))
    with torch.device("meta"):
        np.testing.assert_array_equal(model.predict(A), expected)
        close(other.predict(A).reshape(len(A), -1)[:50], naive(other, A[:50]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, fitted):
    """Accumulated in float32: one rounding of the result is all that is lost."""
    unit = torch.finfo(dtype).eps / 2
    for name in MODELS:
        for n in (3, 16, "grid"):
            A = torch.from_numpy(matrices(n)).to(dtype)
            values = fitted[name, n].predict(A)
            assert values.dtype == dtype
            exact = torch.tensor(naive(fitted[name, n], A.double().numpy(), 2 * unit)).reshape(
                A.shape
            )
            error = (values.double() - exact).abs().max() / exact.abs().max()
            assert error < 1.01 * unit + 1e-6


# -- objects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_copies_and_files(name, fitted):
    """Copies, deep copies and pickles predict the same; pickles hold no constants twice."""
    model, A = fitted[name, 3], matrices(3)
    expected = model.predict(A)
    state = set(vars(model))
    model.predict(np.tile(A, (400, 1, 1)), outputs=[0])
    assert set(vars(model)) == state
    size = len(pickle.dumps(model))
    for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(A), expected)
    model.predict(torch.from_numpy(A).float(), outputs=[1, 2])
    assert len(pickle.dumps(model)) == size


def test_fitting_again_counts():
    """Nothing of an earlier fit is left in predictions."""
    first, second = family(3, 100), family(3, 100, seed=5)
    for model in (LinearInverseApprox(), NeuralInverseRegressor(5, max_iter=2, random_state=0)):
        model.fit(first).predict(first)
        again = model.fit(second).predict(first)
        np.testing.assert_array_equal(again, clone(model).fit(second).predict(first))
    net = NeuralInverseRegressor(5, random_state=0).partial_fit(first)
    before = net.predict(first)
    assert not np.array_equal(net.partial_fit(first).predict(first), before)


def test_threads(fitted):
    """Predictions of one model from several threads at once do not disturb each other."""
    model = clone(MODELS["taylor2"]).fit(family(3, 100))
    batches = [family(3, 5000, seed=k) for k in range(4)]
    expected = [naive(model, A).reshape(A.shape) for A in batches]
    wrong = []

    def work(A, right):
        for _ in range(5):
            if not np.allclose(model.predict(A), right, atol=1e-10):
                wrong.append(1)

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(batches, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_and_selections():
    """Selections come and go while others are in use."""
    model, A = LinearInverseApprox(family(3, 1)[0], order=2).fit(), family(3, 5)
    whole, wrong = model.predict(A).reshape(5, 9), []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            index = rng.integers(0, 9, rng.integers(1, 9))
            try:
                right = np.allclose(model.predict(A, outputs=index), whole[:, index])
            except Exception as error:
                right = False
                wrong.append(error)
            if not right:
                wrong.append(index)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong
    assert (np.dtype(float), None, None) in model._engine._parts  # the whole one stays
    assert len(model._engine._parts) <= 2 * engine_module._SELECTIONS


def test_selections_share_layers():
    """Of a network only the last layer depends on what is asked for."""
    model, A = clone(MODELS["silu"]).fit(family(3, 60)), np.tile(family(3, 60), (50, 1, 1))
    model.predict(A)
    model.predict(A, outputs=[0, 1])
    first = {id(parts.layers[0][0]) for key, parts in model._engine._parts.items() if not key[1]}
    assert len(first) == 1
    host, tensors = (
        model._engine.parts(*key)
        for key in ((np.dtype(float),), (torch.float64, torch.device("cpu")))
    )
    assert tensors.layers[0][0].data_ptr() == host.layers[0][0].ctypes.data
