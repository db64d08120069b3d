"""Compare this checkout with another one: the same calls, in turns, one thread.

Run as ``python benchmarks/against.py OTHER``, where OTHER is a folder with another version of
``skinv`` in it, such as ``git worktree add ../before REVISION`` makes. Each round runs both, one
after the other, in processes of their own; a figure is the median over rounds of the ratio of their
times, with the smallest and the largest. Writes ``results/against.json``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve()
ROUNDS, REPEATS, SECONDS = 8, 5, 0.4  # of one call in one process: at least so often and so long
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


def calls():
    """Yield names and functions to be timed, each a few milliseconds long."""
    import numpy as np
    import torch

    from skinv import (
        CertifiedInverse,
        FeasibleRegionSampler,
        LinearInverseApprox,
        NeuralInverseRegressor,
        PolynomialInverseApprox,
    )
    from skinv.bounds import residual_bound
    from skinv.datasets import load_power_flow
    from skinv.geometry import distance_to_singularity
    from skinv.refinement import newton_schulz

    rng = np.random.default_rng(0)

    def family(n, m, dtype=np.float64):
        center = rng.standard_normal((n, n)) + 3 * n**0.5 * np.eye(n)
        noise = rng.standard_normal((m, n, n))
        if np.dtype(dtype).kind == "c":
            center = center + 1j * rng.standard_normal((n, n))
            noise = noise + 1j * rng.standard_normal((m, n, n))
        return center, (center + 0.1 * noise).astype(dtype)

    for n, m in ((2, 20000), (8, 5000), (16, 2000), (32, 1000), (64, 200)):
        for dtype in (np.float32, np.float64):
            center, A = family(n, m, dtype)
            for order in (1, 2):
                model = LinearInverseApprox(center, order=order).fit()
                name = f"series {order}, n = {n}, {A.dtype}"
                yield name, lambda model=model, A=A: model.predict(A)
    center, A = family(8, 5000)
    series = LinearInverseApprox(center).fit()
    tensor = torch.tensor(A)
    yield "series of tensors, n = 8", lambda: series.predict(tensor)
    yield "100 single predictions, n = 8", lambda: [series.predict(a[None]) for a in A[:100]]
    single = series.inverse_function()
    yield "1000 calls of inverse_function, n = 8", lambda: [single(a) for a in A[:1000]]
    for n, m in ((6, 5000), (14, 2000), (32, 500)):
        center, A = family(n, m)
        symmetric = (A + A.swapaxes(1, 2)) / 2
        for tol in (1e-6, 1e-10):
            model = CertifiedInverse(LinearInverseApprox(center), tol=tol).fit()
            yield f"certified to {tol:g}, n = {n}", lambda model=model, A=A: model.predict(A)
        b = rng.standard_normal((m, n))
        yield f"solve, n = {n}", lambda model=model, A=A, b=b: model.solve(A, b)
        of_symmetric = CertifiedInverse(LinearInverseApprox(symmetric.mean(0))).fit()
        yield (
            f"certified symmetric, n = {n}",
            lambda model=of_symmetric, A=symmetric: model.predict(A),
        )
        X = np.linalg.inv(A)
        yield f"residual_bound, n = {n}", lambda A=A, X=X: residual_bound(A, X)
        yield f"newton_schulz, n = {n}", lambda A=A, X=X: newton_schulz(A, X, 2)
    center, A = family(8, 4000)
    model = CertifiedInverse(LinearInverseApprox(center)).fit()
    yield "certified tensors, n = 8", lambda: model.predict(torch.tensor(A))
    yield "50 certified batches of 50, n = 8", lambda: [model.predict(A[:50]) for _ in range(50)]
    yield "50 certified single matrices, n = 8", lambda: [model.predict(A[:1]) for _ in range(50)]
    center, Z = family(20, 500, np.complex128)
    model = CertifiedInverse(LinearInverseApprox(center)).fit()
    yield "certified complex, n = 20", lambda: model.predict(Z)
    c = rng.standard_normal((500, 20)) + 1j * rng.standard_normal((500, 20))
    yield "solve complex, n = 20", lambda: model.solve(Z, c)
    yield "series complex, n = 20", lambda: model.estimator_.predict(Z)
    X = load_power_flow("case6ww").data
    polynomial = PolynomialInverseApprox().fit(X[:500])
    yield "polynomial, case6ww", lambda: polynomial.predict(X)
    yield "fit of a polynomial, case6ww", lambda: PolynomialInverseApprox().fit(X[:500])
    network = NeuralInverseRegressor(n_components=None, max_iter=5, random_state=0).fit(X[:500])
    yield "network on all entries, case6ww", lambda: network.predict(X)
    options = {"solver": "adam", "n_components": None, "max_iter": 10, "random_state": 0}
    yield "fit of a network, adam", lambda: NeuralInverseRegressor(**options).fit(X[:500])
    options = {"solver": "lm", "hidden_layer_sizes": 8, "max_iter": 5, "random_state": 0}
    yield "fit of a network, lm", lambda: NeuralInverseRegressor(**options).fit(X[:500])
    region = FeasibleRegionSampler([[3.0, 1.0], [1.0, 2.0]], 0.5, random_state=0)
    yield "sample, n = 2", lambda: region.fit().sample(20000)
    center, A = family(8, 2000)
    yield "distance_to_singularity, n = 8", lambda: distance_to_singularity(A)


def worker():
    """Print the shortest time of each call as JSON."""
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    import skinv  # noqa: F401

    times = {"import skinv": time.perf_counter() - start}
    for name, call in calls():
        call()
        found = []
        while len(found) < REPEATS or sum(found) < SECONDS:
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
        times[name] = min(found)
    print(json.dumps(times))


def main():
    from machine import write
    from timing import spread

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", help="folder with another version of skinv")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    trees = {"before": Path(arguments.other).resolve(), "after": HERE.parents[1]}
    times = {name: [] for name in trees}
    for k in range(arguments.rounds):
        for name in list(trees)[:: 1 if k % 2 else -1]:
            environment = {**os.environ, **THREADS, "PYTHONPATH": str(trees[name])}
            command = [sys.executable, str(HERE), "--worker"]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            times[name].append(json.loads(done.stdout))
    results = {}
    for call in times["after"][0]:
        before, after = ([run[call] for run in times[name]] for name in ("before", "after"))
        found = spread([new / old for old, new in zip(before, after, strict=True)])
        results[call] = {"after / before": found, "milliseconds": round(1e3 * min(after), 4)}
        print(
            f"{call:45} {found['median']:.2f} ({found['range'][0]:.2f} to {found['range'][1]:.2f})"
        )
    write("against", {"calls": results})


if __name__ == "__main__":
    worker() if "--worker" in sys.argv else main()
