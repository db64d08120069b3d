"""
Deploy where there is no LAPACK
===============================

An accelerator has no inverse; an optimiser needs to differentiate through one; a robot arm's
controller needs one per tick. A single fitted model serves them all: as a function of single
matrices, as an ONNX file in single or half precision, and as a differentiable torch module. Each
answer carries a residual by which the runtime can tell what to trust.
"""

import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch

from skinv import CertifiedInverse, NeuralInverseRegressor
from skinv.datasets import load_robot_arm
from skinv.export import to_module, to_onnx
from skinv.geometry import nearest_singular
from skinv.metrics import relative_errors

BLUE, VERMILION = "#0072B2", "#D55E00"

jacobians = load_robot_arm().data  # 1000 Jacobians, as rows of 36 entries
known, unseen = jacobians[:500], jacobians[500:]
# It answers everywhere: what to trust, the residual is to say.
model = NeuralInverseRegressor(on_extrapolation="keep", random_state=0).fit(known)
stack = unseen.reshape(-1, 6, 6)
exact = np.linalg.inv(stack)

# %%
# One matrix at a time
# --------------------
#
# Of matrices this small LAPACK does not need longer. What a single prediction costs is mostly the
# estimator around it, and ``inverse_function`` leaves that out. Where only a part of the inverse is
# needed, ``outputs`` leaves out the rest.

functions = {
    "numpy.linalg.inv": np.linalg.inv,
    "inverse_function": model.inverse_function(),
    "predict": lambda jacobian: model.predict(jacobian[None])[0],
}
for name, function in functions.items():
    start = time.perf_counter()
    results = np.stack([function(jacobian) for jacobian in stack])
    microseconds = (time.perf_counter() - start) / len(stack) * 1e6
    largest = relative_errors(exact, results).max()
    print(f"{name:<18}{microseconds:6.1f} µs a matrix, largest error {largest:.1e}")
diagonals = model.predict(stack, outputs=np.diag_indices(6))
print(f"{'diagonals only':<18}{diagonals.shape}")
assert np.allclose(diagonals, np.einsum("kii->ki", results))

# %%
# A runtime without an inverse
# ----------------------------
#
# The file holds standard operators only, and its second output is the residual ‖I − A·X‖ of each
# matrix. A refinement step squares the residual, down to what the precision allows: in float16 that
# is the rounding of the matrix itself, times its condition number. Residuals and steps are computed
# in float32 there.

certified = CertifiedInverse(model)
steps = (0, 1, 2)
sessions, errors, kilobytes = {}, {}, {}
with tempfile.TemporaryDirectory() as folder:
    for dtype in ("float32", "float16"):
        for n_refine in steps:
            path = to_onnx(certified, Path(folder, "arm.onnx"), n_refine=n_refine, dtype=dtype)
            session = onnxruntime.InferenceSession(path)
            inverses, residual = session.run(None, {"X": unseen.astype(dtype)})
            error = relative_errors(exact, inverses.astype(float).reshape(-1, 6, 6))
            kilobytes[dtype] = path.stat().st_size / 1024
            print(
                f"{dtype}, {n_refine} steps: {kilobytes[dtype]:.0f} KB, largest error "
                f"{error.max():.1e}, residual {residual.max():.1e}"
            )
            sessions[dtype, n_refine], errors[dtype, n_refine] = session, error
assert errors["float32", 2].max() < 1e-6
assert errors["float16", 2].max() < 2e-3

# %%
# The residual is a gate
# ----------------------
#
# There is no fallback in the file, but the caller can decide by the residual, which bounds the
# relative error where it is below 1, but for rounding. (Without ``on_extrapolation="keep"`` the
# file says NaN far from the known matrices, and a residual of NaN passes no gate either.) Here the
# arm's Jacobians are moved toward their nearest singular matrices, some by a little and some nearly
# all the way. Whatever passes the gate is good, and a singular matrix does not pass.

rng = np.random.default_rng(0)
share = 10 ** rng.uniform(-3, -1e-3, (len(stack), 1, 1))
walk = (stack + share * (nearest_singular(stack) - stack)).reshape(-1, 36)
gates, judged = {"float32": 1e-3, "float16": 1e-2}, {}
for dtype, gate in gates.items():
    X = walk.astype(dtype)
    inverses, residual = sessions[dtype, 1].run(None, {"X": X})
    given = X.astype(float).reshape(-1, 6, 6)  # rounding has moved them a little
    error = relative_errors(np.linalg.inv(given), inverses.astype(float).reshape(-1, 6, 6))
    judged[dtype] = residual, error
    passed = residual < gate
    print(
        f"{dtype}: {passed.sum()} of {len(walk)} pass the gate at {gate:g}, with errors up to "
        f"{error[passed].max():.1e};\n{'':<9}the others have errors up to {error.max():.1e}"
    )
    assert (error[passed] < gate).all()
    broken = sessions[dtype, 1].run(None, {"X": np.zeros((1, 36), dtype)})[1][0]
    print(f"{'':<9}residual of a singular matrix: {broken:.1f}")
    assert broken > 1

# %%
# Left, what each precision and each step is worth on unseen Jacobians; right, the gate.

figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
spread = rng.uniform(-0.14, 0.14, len(stack))
limits = np.array([2e-7, 3])
right.loglog(limits, limits, "-", color="0.2", lw=1)
for (dtype, gate), color, shift in zip(
    gates.items(), (BLUE, VERMILION), (-0.17, 0.17), strict=True
):
    for n_refine in steps:
        error, place = errors[dtype, n_refine], n_refine + shift
        left.semilogy(place + spread, error, "o", color=color, ms=3, alpha=0.2, mew=0)
        left.hlines(np.median(error), place - 0.14, place + 0.14, color="k", lw=2)
    right.loglog(*judged[dtype], "o", color=color, ms=4, alpha=0.4, mew=0)
    right.vlines(gate, 2e-7, gate, color=color, lw=2)
    side = "right" if dtype == "float32" else "left"
    right.annotate(f" gate for {dtype} ", (gate, 2.5e-7), color=color, ha=side, weight="bold")
left.annotate(
    f"float16: {kilobytes['float16']:.0f} KB",
    (2, 1.2e-3),
    color=VERMILION,
    ha="center",
    weight="bold",
)
left.annotate(
    f"float32: {kilobytes['float32']:.0f} KB", (2, 3e-7), color=BLUE, ha="center", weight="bold"
)
right.annotate("error = residual", (2e-6, 8e-6), rotation=37)
left.set(
    xticks=steps,
    xlabel="refinement steps in the file",
    ylabel="relative error of the inverse",
    title="One step is enough for float16, two for float32",
)
_ = right.set(
    xlabel="residual, from the file",
    ylabel="relative error of the inverse",
    title="What passes the gate has no large error",
)

# %%
# Gradients
# ---------
#
# How should the pose change to make det(J⁻¹·J₀) = 1? The gradient of the model's inverse says it.

module = to_module(model, n_refine=1, dtype="float64")
A = torch.tensor(stack[0], requires_grad=True)
torch.logdet(module(A) @ torch.tensor(stack[1])).backward()
true = -exact[0].T  # d log det A⁻¹ = −tr(A⁻¹ dA)
difference = np.abs(A.grad.numpy() - true).max()
print(f"gradient of log det A⁻¹: error {difference:.1e}, largest entry {np.abs(true).max():.1e}")
assert difference < 0.05 * np.abs(true).max()
