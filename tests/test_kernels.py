"""The kernels for CUDA, run by Triton's interpreter: same numbers as torch, whatever the size."""

import os
import subprocess
import sys

import pytest
import torch
from exhaustive import exhaustive

import skinv._linalg.products

pytest.importorskip("triton", reason="triton is there for Linux only")

# The interpreter must be asked for before triton is imported.
PRELUDE = """
import numpy as np, torch
import skinv.learn.inference.engine, skinv.refinement
from skinv import LinearInverseApprox
from skinv._linalg import kernels
from skinv.refinement import newton_schulz

# As on a GPU: kernels for matrices up to order 32, and not in double precision.
def kernels_for(X, n):
    return recorded if n <= 32 and X.dtype.itemsize <= 4 else None

class recorded:
    def series(*arguments):
        used.append("series")
        kernels.series(*arguments)

    def refine(*arguments):
        used.append("refine")
        kernels.refine(*arguments)

used = []
rng = np.random.default_rng(0)
"""


def interpret(*programs, **sizes):
    """Run programs with the interpreter, one after another in one process."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    code = PRELUDE + "\n".join(programs) % sizes
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


# Every order of matrices and series, any number of them, in single and half precision.
SERIES = """
for n in %(orders)s:
    for m in %(counts)s:
        A0 = np.eye(n) * 4 + rng.standard_normal((n, n)) / n**0.5
        A = torch.tensor(A0 + 0.05 * rng.standard_normal((m, n, n)), dtype=torch.float32)
        B = np.linalg.inv(A0)
        constants = [torch.tensor(M, dtype=torch.float32) for M in (A0, -B, B)]
        for order in %(terms)s:
            model = LinearInverseApprox(A0, order=order).fit()
            for kind, accuracy in ((torch.float32, 1e-6), (torch.float16, 1e-3)):
                given = A.to(kind)
                out = torch.full_like(given, float("nan"))
                kernels.series(given, *constants, order, out)
                exact = model.predict(given.double())
                torch.testing.assert_close(
                    out.double(), exact, rtol=0, atol=accuracy * abs(B).max()
                )
"""
# Steps of every order, in place or not.
REFINEMENT = """
for n in %(orders)s:
    A = torch.tensor(np.eye(n) * 4 + rng.standard_normal((9, n, n)) / n**0.5)
    X = torch.linalg.inv(A).contiguous() * 1.05
    for order in (2, 3, 4):
        for steps in (0, 1, 3):
            a, x = A.float(), X.float()
            kernels.refine(a, x, steps, order, x)
            exact = newton_schulz(a.double(), X.float().double(), steps, order)
            torch.testing.assert_close(x.double(), exact, rtol=0, atol=2e-6)
"""
# One bad matrix does not spoil its neighbours in the same program.
NAN = """
A = torch.eye(5).repeat(10, 1, 1)
A[3, 1, 1] = float("nan")
eye = torch.eye(5)
out = torch.empty_like(A)
kernels.series(A, eye, -eye, eye, 1, out)
assert out[3].isnan().any()
assert (out[[0, 1, 2, 4, 5, 6, 7, 8, 9]] == eye).all()
"""
# A series that is all there is goes to the kernel, whatever else does not.
PREDICTIONS = """
skinv.learn.inference.engine.kernels_for = kernels_for
skinv.learn.inference.engine.on_host = lambda X: not torch.is_tensor(X)
for n, order, expected in ((16, 1, True), (4, 2, True), (4, 1, False), (40, 1, False)):
    A0 = np.eye(n) * 4 + rng.standard_normal((n, n)) / n**0.5
    A = torch.tensor(A0 + 0.05 * rng.standard_normal((9, n, n)), dtype=torch.float32)
    model = LinearInverseApprox(A0, order=order).fit()
    used.clear()
    values = model.predict(A)
    assert used == ["series"] * expected, (n, order, used)
    torch.testing.assert_close(values, model.predict(A.double()).float())
    rows = model.predict(A.reshape(9, -1))
    torch.testing.assert_close(rows, values.reshape(9, -1))
    half = model.predict(A.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), values, rtol=0, atol=2e-3)
    used.clear()
    strided = model.predict(A.transpose(1, 2))
    model.predict(A, outputs=[0])
    assert used == []
    torch.testing.assert_close(strided, model.predict(A.transpose(1, 2).contiguous()))
"""
# Whatever the strides of the guess, which may be refined where it is.
REFINEMENT_USES = """
skinv.refinement.kernels_for = kernels_for
skinv.refinement.on_host = lambda X: not torch.is_tensor(X)
skinv._arrays.pairs.host_view = lambda X: X
A = torch.tensor(np.eye(5) * 4 + rng.standard_normal((8, 5, 5)) / 3, dtype=torch.float32)
X = torch.linalg.inv(A.double()).float() * 1.05  # column-major
exact = newton_schulz(A.numpy(), X.numpy(), 2)
big = torch.zeros(16, 5, 5)
big[::2] = X
samples_last = X.permute(1, 2, 0).contiguous().permute(2, 0, 1)
for guess in (X, X.contiguous(), samples_last, big[::2]):
    for a in (A, A.transpose(1, 2).contiguous().transpose(1, 2)):
        used.clear()
        out = newton_schulz(a, guess.clone(), 2)
        assert used == ["refine"]
        np.testing.assert_allclose(out, exact, atol=1e-6)
newton_schulz(A, big[::2], 2, overwrite_x=True)
np.testing.assert_allclose(big[::2], exact, atol=1e-6)
assert (big[1::2] == 0).all()
"""


ALL = (1, 3, 5, 8, 15, 16, 17, 20, 31, 32)


@pytest.mark.parametrize(
    "sizes",
    [
        {"orders": (1, 15, 16, 17), "counts": (0, 7, 20), "terms": (1, 3)},
        *exhaustive({"orders": ALL, "counts": (0, 1, 7, 20), "terms": (1, 2, 5)}),
    ],
    ids=["some", "all"],
)
def test_kernels_are_torch(sizes):
    """The same numbers, for every order, any number of matrices, and NaN among them."""
    interpret(SERIES, REFINEMENT, NAN, **sizes)


def test_kernels_are_used():
    """Predictions and refinement go to the kernels, whatever the strides, and by them alone."""
    interpret(PREDICTIONS, REFINEMENT_USES)


def test_none_on_the_host():
    """Without a GPU there are no kernels, and nothing is tried."""
    assert skinv._linalg.products.kernels_for(torch.zeros(1, 4), 2) is None
