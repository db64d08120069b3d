"""Worst residuals of learned models over affine slices of grids: proofs, gaps, boxes and seconds.

python benchmarks/slices.py

The slices are the affine part of how Jacobians depend on loads, which vary by 20 % (case30: areas,
0.7 to 1.2). Models are fitted to 500 matrices of a slice, the last to the grid's own known half.
"""

import time

import machine
import numpy as np
import torch

from skinv import LinearInverseApprox, NeuralInverseRegressor, PolynomialInverseApprox
from skinv.bounds import certify_region
from skinv.datasets import load_power_flow

THREADS = 1
RTOL, MAX_TIME = 0.2, 300.0
SLICES = [("case9", 2), ("case9", 3), ("case9", 6), ("case6ww", 3), ("case6ww", 6), ("case30", 3)]
NETWORKS = {
    "network": {},
    "tanh network": {"activation": "tanh"},
    "ReLU network": {"activation": "relu"},
    "ReLU network on an affine map": {
        "activation": "relu",
        "baseline": "affine",
        "hidden_layer_sizes": 16,
    },
}


def sliced(case, k):
    """Return a centre, k directions, and the grid's matrices."""
    grid = load_power_flow(case)
    n = len(grid.center)
    low, high = grid.parameters.min(axis=0), grid.parameters.max(axis=0)
    unit = (grid.parameters - (low + high) / 2) / ((high - low) / 2)
    design = np.column_stack((np.ones(len(unit)), unit))
    center, *directions = np.linalg.lstsq(design, grid.data, rcond=None)[0].reshape(-1, n, n)
    return center, np.array(directions[:k]), grid.data


def models(k):
    """Return unfitted models by name."""
    found = {"series of order 2": LinearInverseApprox(order=2)}
    for degree in (1, 2, 3):
        found[f"polynomial of degree {degree}"] = PolynomialInverseApprox(degree, k)
    if k < 6:
        found["polynomial"] = PolynomialInverseApprox()
    for name, params in NETWORKS.items():
        found[name] = NeuralInverseRegressor(random_state=0, device="cpu", **params)
    return found


def proven(model, center, directions):
    """Return what is proven, how long it took, and what 10,000 samples show."""
    start = time.perf_counter()
    proof = certify_region(
        model, center, RTOL, directions=directions, error="residual", max_time=MAX_TIME
    )
    seconds = time.perf_counter() - start
    z = np.random.default_rng(1).uniform(-1, 1, (10_000, len(directions)))
    n, largest = len(center), 0.0
    for part in np.array_split(z, 20):
        A = center + np.tensordot(part, directions, 1)
        R = np.eye(n) - A @ model.predict(A)
        largest = max(largest, float(np.nanmax(np.linalg.norm(R, axis=(1, 2)))))
    return {
        "samples_max": largest,
        "lower": proof.lower,
        "upper": proof.upper,
        "gap": proof.gap,
        "boxes": proof.n_boxes,
        "status": proof.status,
        "seconds": round(seconds, 2),
    }


def main():
    torch.set_num_threads(THREADS)
    out = []
    for case, k in SLICES:
        center, directions, data = sliced(case, k)
        z = np.random.default_rng(0).uniform(-1, 1, (500, k))
        samples = center + np.tensordot(z, directions, 1)
        for name, model in models(k).items():
            row = {"case": case, "n": len(center), "directions": k, "model": name}
            row |= proven(model.fit(samples), center, directions)
            print(row, flush=True)
            out.append(row)
        model = PolynomialInverseApprox(4, 8, on_extrapolation="keep").fit(data[::2])
        row = {"case": case, "n": len(center), "directions": k, "model": "polynomial of the family"}
        row |= proven(model, center, directions)
        print(row, flush=True)
        out.append(row)
    machine.write(
        "slices", {"threads": THREADS, "rtol": RTOL, "max_time": MAX_TIME, "results": out}
    )


if __name__ == "__main__":
    main()
