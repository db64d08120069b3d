"""Every method on every family of matrices, side by side in one run: the README's first table.

    python benchmarks/families.py [FAMILY ...] [--seeds 3] [--rounds 5] [--quick]
    python benchmarks/families.py --table    # prints the table of the results that are there

Everything is fitted to the same half of a family, and measured on the other. Of the paper's regions
20,000 samples are known and 10,000 others unseen. Times are of one thread and of batches of 20,000,
fewer for large matrices, the methods in turns, in new turns for each seed. Errors are against
inverses of 19 digits of the matrices as they are given, in float32 rounded to it. `FAMILY` measures
some only, and keeps the results of the others. Writes results/families.json and a picture.
"""

import argparse
import json
import time
import warnings
from functools import cache, partial
from itertools import chain

import charts
import learned_tables
import machine
import made
import numpy as np
import scipy.sparse
import torch
from methods import learners, linear_learners, polynomials, splu_and_solve
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from timing import in_turns, middle, spread

from skinv.datasets import load_power_flow, load_robot_arm, make_region

MATRICES = {
    "case6ww": lambda: load_power_flow("case6ww").matrices,
    "case9": lambda: load_power_flow("case9").matrices,
    "puma560": lambda: load_robot_arm().matrices,
    "case30": lambda: load_power_flow("case30").matrices,
    "case30, from its factors": lambda: load_power_flow("case30").matrices,
    "arm mass": lambda: made.arm_mass()[0],
    "plate": lambda: made.plate_stiffness()[0],
    "grid": lambda: made.grid_jacobian()[0],
}
PARAMETERS = {"case30, from its factors": lambda: load_power_flow("case30").parameters}
BOXES = ("2x2-first", "2x2-second", "3x3")
KNOWN, UNSEEN = 20_000, 10_000  # samples of a box
BATCH, BYTES = 20_000, 200e6
LAPACK, NETWORK = "numpy.linalg.inv", "NeuralInverseRegressor"


def exact(A):
    """Return inverses that are right to nearly the last digit of float64."""
    X = np.linalg.inv(A.astype(np.float64))
    residual = -(A.astype(np.longdouble) @ X)
    residual += np.eye(A.shape[-1])
    return X + X @ residual.astype(np.float64)


@cache
def family(name):
    """Return rows to learn from, matrices, and inverses of both precisions."""
    A = MATRICES[name]()
    rows = PARAMETERS[name]() if name in PARAMETERS else A.reshape(len(A), -1)
    in_double = exact(A)
    # Who sees parameters never sees the rounded matrix.
    in_single = in_double if name in PARAMETERS else exact(A.astype(np.float32))
    return rows, A, in_double, in_single


def halves(name, seed, quick):
    """Return the known (rows, inverses) and the unseen (rows, matrices, {dtype: inverses})."""
    if name in BOXES:
        sampler = make_region(name, random_state=seed).sampler
        known, rows = (
            sampler.sample(m // 10 if quick else m, return_inverse=False) for m in (KNOWN, UNSEEN)
        )
        n = len(sampler.center_)
        stack = rows.reshape(-1, n, n)
        inverses = {"float64": exact(stack), "float32": exact(stack.astype(np.float32))}
        return known, exact(known.reshape(-1, n, n)).reshape(known.shape), rows, stack, inverses
    rows, A, in_double, in_single = family(name)
    known, unseen = train_test_split(np.arange(len(A)), test_size=0.5, random_state=seed)
    inverses = {"float64": in_double[unseen], "float32": in_single[unseen]}
    Y = in_double[known].reshape(len(known), -1)
    return rows[known], Y, rows[unseen], A[unseen], inverses


def errors(answers, inverses):
    """Return the errors of the matrices that are answered, and the number of those that are not."""
    answers = np.asarray(answers, dtype=np.float64).reshape(inverses.shape)
    answered = np.isfinite(answers).all(axis=(1, 2))
    if not answered.any():
        return {"mean_absolute_error": None, "median_relative_error": None, "nan": len(answers)}
    wrong = answers[answered] - inverses[answered]
    relative = np.linalg.norm(wrong, axis=(1, 2))
    relative /= np.linalg.norm(inverses[answered], axis=(1, 2))
    return {
        "mean_absolute_error": float(np.abs(wrong).mean()),
        "median_relative_error": float(np.median(relative)),
        "nan": int((~answered).sum()),
    }


def seed_of(name, seed, rounds, quick):
    """Fit, measure and time all methods on one split: {method: figures}, and times of splu."""
    X, Y, rows, stack, inverses = halves(name, seed, quick)
    n = stack.shape[-1]
    to_fit = {} if name in PARAMETERS else linear_learners()
    to_fit |= polynomials(n, len(X), seed) if name in BOXES else learners(X.shape[1], seed)
    # From matrices an estimator of skinv learns by itself; scikit-learn's need the inverses.
    figures, models = {LAPACK: {"fit_seconds": 0.0}}, {}
    for method, (learner, takes_targets) in to_fit.items():
        targets = takes_targets or name in PARAMETERS
        start = time.perf_counter()
        model = learner.fit(X, Y) if targets else learner.fit(X)
        figures[method] = {"fit_seconds": time.perf_counter() - start}
        if hasattr(model, "best_estimator_"):
            figures[method] = {
                "fit_seconds": model.refit_time_,
                "search_seconds": figures[method]["fit_seconds"] - model.refit_time_,
                "chosen": {key: repr(value) for key, value in model.best_params_.items()},
            }
            model = model.best_estimator_
        for key in ("n_components_", "n_terms_", "degree_", "solver_"):
            if hasattr(model, key):
                figures[method][key] = getattr(model, key)
        models[method] = model
    m = int(min(2000 if quick else BATCH, BYTES / (8 * n * n)))
    spare = {}
    for dtype in ("float64", "float32"):
        A, given = stack.astype(dtype), rows.astype(dtype)
        figures[LAPACK][dtype] = errors(np.linalg.inv(A), inverses[dtype])
        for method, model in models.items():
            figures[method][dtype] = errors(model.predict(given), inverses[dtype])
        batch = np.resize(given, (m, given.shape[1]))
        calls = {LAPACK: partial(np.linalg.inv, np.resize(A, (m, n, n)))}
        calls |= {method: partial(model.predict, batch) for method, model in models.items()}
        taken = in_turns(calls, m, repeats=rounds)
        for method in calls:
            figures[method][dtype]["times"] = taken[method]
            figures[method][dtype]["ratios"] = [
                a / b for a, b in zip(taken[method], taken[LAPACK], strict=True)
            ]
        if name == "grid" and dtype == "float64":
            some = [scipy.sparse.csc_array(a) for a in A[:100]]
            call = partial(splu_and_solve, some, np.ones(n))
            spare = in_turns({"splu": call}, len(some), repeats=rounds)
    return {"figures": figures, "splu": spare.get("splu"), "batch": m, "n": n, "known": len(X)}


def summary(runs):
    """Return medians and ranges over the seeds, and of times over all turns of all seeds."""

    def over(values):
        values = [v for v in values if v is not None]
        if not values:
            return None
        return {"median": middle(values), "range": [min(values), max(values)]}

    def turns(values):
        return spread([*chain.from_iterable(values)])

    methods = {}
    for method in runs[0]["figures"]:
        mine = [run["figures"][method] for run in runs]
        result = {"fit_seconds": over([m["fit_seconds"] for m in mine])}
        if "search_seconds" in mine[0]:
            result["search_seconds"] = over([m["search_seconds"] for m in mine])
        for key in ("chosen", "n_components_", "n_terms_", "degree_", "solver_"):
            if key in mine[0]:
                result[key.rstrip("_") + "_by_seed"] = [m[key] for m in mine]
        for dtype in ("float64", "float32"):
            parts = [m[dtype] for m in mine]
            result[dtype] = {
                key: over([p[key] for p in parts])
                for key in ("mean_absolute_error", "median_relative_error")
            }
            result[dtype]["nan_answers"] = sum(p["nan"] for p in parts)
            result[dtype]["microseconds_per_matrix"] = turns(p["times"] for p in parts)
            result[dtype]["ratio_to_lapack"] = turns(p["ratios"] for p in parts)
        methods[method] = result
    outcome = {key: runs[0][key] for key in ("n", "known", "batch")} | {"methods": methods}
    if runs[0]["splu"]:
        outcome["splu_and_one_solve_microseconds"] = turns(r["splu"] for r in runs)
    return outcome


def nearest(methods, beginning):
    """Return the polynomial that takes as long as the network or as little longer as possible."""

    def taken(method):
        return methods[method]["float64"]["microseconds_per_matrix"]["median"]

    slower = [k for k in methods if k.startswith(beginning) and taken(k) >= taken(NETWORK)]
    return min(slower, key=taken, default=None)


def measure(name, options):
    runs = []
    for seed in range(options.seeds):
        start = time.perf_counter()
        runs.append(seed_of(name, seed, options.rounds, options.quick))
        print(f"{name} seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    settings = {key: getattr(options, key) for key in ("seeds", "rounds", "quick")}
    outcome = settings | summary(runs)
    if name in BOXES:
        outcome["polynomial_at_the_time_of_the_network"] = {
            kind: nearest(outcome["methods"], kind) for kind in ("polynomial, ", "scikit-learn, ")
        }
    for method, result in outcome["methods"].items():
        row = result["float64"]
        print(
            f"  {method:32} error {row['median_relative_error']['median']:.1e}"
            f" (float32 {result['float32']['median_relative_error']['median']:.1e}),"
            f" {row['microseconds_per_matrix']['median']:.3g} us,"
            f" {row['ratio_to_lapack']['median']:.2f} of LAPACK's,"
            f" fit {result['fit_seconds']['median']:.1f} s, NaN {row['nan_answers']}",
            flush=True,
        )
    if "splu_and_one_solve_microseconds" in outcome:
        print(
            f"  splu and one solve: {outcome['splu_and_one_solve_microseconds']['median']:.0f} us"
        )
    return outcome


def main():
    names = [*MATRICES, *BOXES]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(names))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5, help="turns of the methods for each seed")
    parser.add_argument("--quick", action="store_true", help="one seed, two turns, small batches")
    parser.add_argument("--table", action="store_true", help="print the table, measure nothing")
    options = parser.parse_args()
    if options.table:
        print(learned_tables.families())
        return
    if unknown := set(options.families) - set(names):
        parser.error(f"unknown families: {', '.join(sorted(unknown))}")
    if options.quick:
        options.seeds, options.rounds = 1, 2
    path = machine.RESULTS / "families.json"
    results = json.loads(path.read_text())["results"] if options.families else {}
    results = {name: results[name] for name in names if name in results}
    warnings.filterwarnings("ignore", message=".*far from")  # counted
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for name in options.families or names:
            results[name] = measure(name, options)
            machine.write("families", {"settings": {"threads": 1}, "results": results})
    charts.families(results, path.with_name("families_pareto.png"))


if __name__ == "__main__":
    main()
