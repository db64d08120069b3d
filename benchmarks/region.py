"""Worst errors over whole regions: proven bounds, what a test set shows, boxes and seconds.

python benchmarks/region.py
"""

import time

import machine
import numpy as np
import torch

from skinv import LinearInverseApprox, NeuralInverseRegressor
from skinv.bounds import certify_region
from skinv.datasets import make_region

THREADS = 2
# region, hidden units (None: first-order Taylor), activation, baseline, gap
CASES = [
    ("2x2-first", None, None, None, 0.05),
    ("2x2-first", 8, "relu", None, 0.05),
    ("2x2-first", 32, "relu", None, 0.05),
    ("2x2-first", 32, "silu", "affine", 0.05),
    ("2x2-second", 32, "relu", None, 0.05),
    ("2x2-second", 32, "tanh", "affine", 0.05),
    ("3x3", None, None, None, 0.05),
    ("3x3", 72, "relu", None, 0.2),
    ("3x3", 72, "silu", "affine", 0.2),
    ("3x3", 72, "silu", "affine", 0.05),
    ("3x3", 72, "tanh", "affine", 0.05),
]


def trained(region, hidden, activation, baseline):
    if hidden is None:
        return LinearInverseApprox(region.center_).fit()
    X, Y = region.sample(100_000)
    net = NeuralInverseRegressor(
        hidden, activation, baseline=baseline, solver="adam", max_iter=100, random_state=0
    )
    return net.fit(X, Y)


def main():
    torch.set_num_threads(THREADS)
    out, models = [], {}
    for name, hidden, activation, baseline, rtol in CASES:
        region = make_region(name, random_state=0).sampler
        key = (name, hidden, activation, baseline)
        if key not in models:
            models[key] = trained(region, hidden, activation, baseline)
        X, Y = region.sample(10_000)
        errors = np.abs(models[key].predict(X) - Y)
        start = time.perf_counter()
        proof = certify_region(models[key], region, rtol=rtol, max_boxes=20_000_000, max_time=None)
        row = {
            "region": name,
            "model": "first order"
            if hidden is None
            else f"{hidden} {activation}" + f" on {baseline}" * bool(baseline),
            "rtol": rtol,
            "test_mean": float(errors.mean()),
            "test_max": float(errors.max()),
            "lower": proof.lower,
            "upper": proof.upper,
            "status": proof.status,
            "boxes": proof.n_boxes,
            "seconds": round(time.perf_counter() - start, 2),
        }
        print(row, flush=True)
        out.append(row)
    machine.write("region", {"threads": THREADS, "results": out})


if __name__ == "__main__":
    main()
