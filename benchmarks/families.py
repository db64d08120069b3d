"""Accuracy and time on real families of matrices and the paper's regions: the README's table.

For each family and seed: the region of one half, the share of the other half inside it, and there,
side by side, the error of the first-order Taylor approximation, of the best affine fit to the
region's samples, and of the network trained on the same samples, with the time of the fit. For the
time per matrix all methods predict the same batch, in turns, with the threads pinned.

    python benchmarks/families.py [--seeds 3] [--threads 2]
"""

import argparse
import time

import machine
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from skinv import FeasibleRegionSampler, LinearInverseApprox, NeuralInverseRegressor
from skinv.datasets import load_power_flow, load_robot_arm, make_region

FAMILIES = {
    "case6ww": lambda: load_power_flow("case6ww"),
    "case9": lambda: load_power_flow("case9"),
    "puma560": load_robot_arm,
}
REGIONS = ("2x2-first", "2x2-second", "3x3", "16x16")
# Networks on an affine baseline, trained by Adam; training.py has what the defaults reach.
SAMPLES, EPOCHS = 60_000, {"16x16": 30}
DEFAULT_EPOCHS = 60


def mean_error(model, X, Y):
    return float(np.abs(model.predict(X) - Y).mean())


def interleaved(functions, X, rounds=15):
    """Median microseconds per matrix of each function over X, called in turns."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function(X)
            times[name].append(1e6 * (time.perf_counter() - start) / len(X))
    return {
        name: {"median": float(np.median(t)), "min": min(t), "max": max(t)}
        for name, t in times.items()
    }


def problem(name, seed):
    """Return a fitted sampler, and unseen matrices of its region with their inverses."""
    if name in REGIONS:
        sampler = make_region(name, random_state=seed).sampler
        return sampler, *sampler.sample(10_000)
    family = FAMILIES[name]()
    known, X, _, Y = train_test_split(
        family.data, family.target, test_size=0.5, random_state=seed
    )  # fmt: skip
    sampler = FeasibleRegionSampler(norm="mahalanobis", random_state=seed).fit(known)
    inside = sampler.is_feasible(X)
    return sampler, X[inside], Y[inside]


def run(name, seed):
    sampler, X_test, Y_test = problem(name, seed)
    # Half of a family is unseen.
    unseen = len(X_test) if name in REGIONS else -(-len(FAMILIES[name]().data) // 2)
    share = len(X_test) / unseen
    X, Y = sampler.sample(SAMPLES)
    taylor = LinearInverseApprox(sampler.center_).fit()
    affine = LinearInverseApprox(method="lstsq").fit(X, Y)
    epochs = EPOCHS.get(name, DEFAULT_EPOCHS)
    start = time.perf_counter()
    network = NeuralInverseRegressor(
        baseline="affine", solver="adam", max_iter=epochs, random_state=seed
    ).fit(X, Y)
    seconds = time.perf_counter() - start
    errors = {
        "taylor": mean_error(taylor, X_test, Y_test),
        "affine": mean_error(affine, X_test, Y_test),
        "neural": mean_error(network, X_test, Y_test),
    }
    print(
        f"{name} seed {seed}: "
        + ", ".join(f"{key} {value:.2e}" for key, value in errors.items())
        + f", ratio {errors['taylor'] / errors['neural']:.1f}, fit {seconds:.1f} s",
        flush=True,
    )
    outcome = {"inside": share, "fit_seconds": seconds, "errors": errors, "epochs": epochs}
    outcome["certified"] = bool(sampler.is_certified_)
    return outcome, sampler, {"taylor": taylor, "neural": network}


def times(sampler, models):
    n = len(sampler.center_)
    X = sampler.sample(10_000, return_inverse=False)
    functions = {"numpy.linalg.inv": lambda rows: np.linalg.inv(rows.reshape(-1, n, n))}
    functions |= {key: model.predict for key, model in models.items()}
    return {"batch": interleaved(functions, X), "one": interleaved(functions, X[:1], rounds=300)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {}
    with threadpool_limits(args.threads):
        for name in (*FAMILIES, *REGIONS):
            runs = [run(name, seed) for seed in range(args.seeds)]
            outcomes, sampler, models = [r[0] for r in runs], runs[-1][1], runs[-1][2]
            ratios = [o["errors"]["taylor"] / o["errors"]["neural"] for o in outcomes]
            results[name] = {
                "n": len(sampler.center_),
                "runs": outcomes,
                "median_ratio_to_taylor": float(np.median(ratios)),
                "ratio_range": [min(ratios), max(ratios)],
                "microseconds_per_matrix": times(sampler, models),
            }
    settings = {"samples": SAMPLES, "threads": args.threads, "seeds": args.seeds}
    machine.write("families", {"settings": settings, "results": results})


if __name__ == "__main__":
    main()
