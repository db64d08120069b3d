"""Where there is no LAPACK: ONNX files, half precision, gradients; and one matrix at a time.

An accelerator has no inverse; an optimiser needs to differentiate through one; a robot arm's
controller needs one per tick. A single fitted model serves them all.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from skinv import CertifiedInverse, FeasibleRegionSampler, NeuralInverseRegressor
from skinv.datasets import load_robot_arm
from skinv.export import to_module, to_onnx

jacobians = load_robot_arm().data  # 1000 Jacobians, as rows of 36 entries
known, unseen = jacobians[:500], jacobians[500:]
region = FeasibleRegionSampler(norm="mahalanobis", random_state=0).fit(known)
model = NeuralInverseRegressor(max_iter=10, random_state=0).fit(*region.sample(20_000))
exact = np.linalg.inv(unseen.reshape(-1, 6, 6))


def error(inverses):
    """Return the largest relative error."""
    difference = np.linalg.norm(np.reshape(inverses, exact.shape) - exact, axis=(1, 2))
    return (difference / np.linalg.norm(exact, axis=(1, 2))).max()


# -- one matrix at a time -------------------------------------------------------------------------
# Of matrices this small LAPACK does not need longer. What a single prediction costs is mostly the
# estimator around it, and inverse_function leaves that out.
stack = unseen.reshape(-1, 6, 6)
functions = {
    "numpy.linalg.inv": np.linalg.inv,
    "inverse_function": model.inverse_function(),
    "predict": lambda jacobian: model.predict(jacobian[None])[0],
}
for name, function in functions.items():
    start = time.perf_counter()
    results = [function(jacobian) for jacobian in stack]
    microseconds = (time.perf_counter() - start) / len(stack) * 1e6
    print(f"{name:<18}{microseconds:6.1f} µs a matrix, largest error {error(results):.1e}")
diagonals = model.predict(stack, outputs=np.diag_indices(6))  # only what is needed
print(f"{'diagonals only':<18}{diagonals.shape}")

# -- a runtime without an inverse -----------------------------------------------------------------
certified = CertifiedInverse(model)
with tempfile.TemporaryDirectory() as folder:
    for dtype in ("float32", "float16"):
        path = to_onnx(certified, Path(folder, "arm.onnx"), n_refine=1, dtype=dtype)
        session = onnxruntime.InferenceSession(path)
        inverses, residual = session.run(None, {"X": unseen.astype(dtype)})
        print(
            f"ONNX, {dtype:<12}{path.stat().st_size / 1024:6.0f} KB, largest error "
            f"{error(inverses.astype(float)):.1e}, largest residual {residual.max():.1e}"
        )
        broken = np.zeros((1, 36), dtype)  # the residual tells what cannot be trusted
        print(f"{'':<18}of a singular matrix: {session.run(None, {'X': broken})[1][0]:.1f}")

# -- gradients ------------------------------------------------------------------------------------
# How should the pose change to make det(J⁻¹J₀) = 1? The gradient of the model's inverse says it.
module = to_module(model, n_refine=1, dtype="float64")
A = torch.tensor(stack[0], requires_grad=True)
torch.logdet(module(A) @ torch.tensor(stack[1])).backward()
true = -np.linalg.inv(stack[0]).T  # d log det A⁻¹ = −tr(A⁻¹ dA)
print(f"gradient of log det A⁻¹: error {np.abs(A.grad.numpy() - true).max():.1e}")
assert np.abs(A.grad.numpy() - true).max() < 0.05 * np.abs(true).max()
