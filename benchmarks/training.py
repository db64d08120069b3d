"""Training: speed of the loop, accuracy for a given time, memory; side by side in one run.

    python benchmarks/training.py [PART ...] [--seeds 3] [--threads 2]

The parts, each written to results/training.json as soon as it is done:

loop      steps per second of Adam on a 4-32-4 network with batches of 128: skinv's loop, skorch
          with its default DataLoader, and plain torch with fused Adam on preloaded tensors
stream    what sampling adds to a step
regions   the published recipe, run in full on the 2×2 and 3×3 regions, against skinv in a tenth and
          in a quarter of its time, and scikit-learn's MLPRegressor in the same times
depth     the same quarter for networks of two hidden layers and no more parameters
large     the 16×16 region, 120 s each: the defaults, and MLPRegressor once
families  the real families, 30 s each: the defaults and MLPRegressor
memory    what a fit on a million 2×2 matrices needs
defaults  what the defaults were chosen by: baseline, solver, activation, schedule, hard examples

The recipe is Adam at 5e-5 with weight decay 1e-7 on batches of 128, 20 epochs of 10⁶ matrices (3×3:
200,000 steps on 10⁵), in plain torch on preloaded tensors. Its schedule is published as cosine
annealing with warm restarts of unknown periods; a constant rate gives the smaller error and is what
skinv is held against, and the annealed one is recorded beside it. All errors are means over the
entries of the inverses of 10,000 fresh matrices, or of the family's unseen half.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from functools import partial

import machine
import numpy as np
import torch
from problems import FAMILIES, REGIONS, mean_error, problem
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn

from skinv import LinearInverseApprox, NeuralInverseRegressor
from skinv.datasets import make_region

# name: (hidden units, matrices, steps) of the recipe.
RECIPES = {
    "2x2-first": (32, 10**6, 156_250),
    "2x2-second": (32, 10**6, 156_250),
    "3x3": (72, 10**5, 200_000),
}
BATCH = 128


def median_and_range(values):
    return {"median": float(np.median(values)), "range": [float(min(values)), float(max(values))]}


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def perceptron(n_in, hidden, n_out):
    return nn.Sequential(nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, n_out))


# -- speed of the loop ---------------------------------------------------------------------------


def plain_torch(X, Y, n_epochs, *, rate=1e-3, fused=True, seed=0, annealed=False):
    """Train as one writes it by hand, on preloaded tensors; return the module."""
    torch.manual_seed(seed)
    X, Y = (torch.tensor(a, dtype=torch.float32) for a in (X, Y))
    hidden = plain_torch.hidden
    module, criterion = perceptron(X.shape[1], hidden, Y.shape[1]), nn.MSELoss()
    optimizer = torch.optim.Adam(module.parameters(), lr=rate, weight_decay=1e-7, fused=fused)
    n_batches = -(-len(X) // BATCH)
    schedule = None
    if annealed:
        schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 5 * n_batches)
    for _ in range(n_epochs):
        order = torch.randperm(len(X))
        x, y = X[order], Y[order]
        for start in range(0, len(X), BATCH):
            loss = criterion(module(x[start : start + BATCH]), y[start : start + BATCH])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
    return module


def loop(args):
    from skorch import NeuralNetRegressor

    torch.set_num_threads(1)
    X, Y = make_region("2x2-first", random_state=0).sampler.sample(64_000)
    x32, y32 = X.astype(np.float32), Y.astype(np.float32)
    plain_torch.hidden = 32
    n_steps = len(X) // BATCH

    def ours():
        model = NeuralInverseRegressor(
            32, "relu", baseline=None, solver="adam", batch_size=BATCH, max_iter=4, random_state=0
        )
        return model.fit(X, Y)

    def skorch():
        net = NeuralNetRegressor(
            perceptron, module__n_in=4, module__hidden=32, module__n_out=4,
            optimizer=torch.optim.Adam, lr=1e-3, batch_size=BATCH, max_epochs=1, verbose=0,
            train_split=None,
        )  # fmt: skip
        return net.fit(x32, y32)

    methods = {
        "skinv": (ours, 4 * n_steps),
        "plain torch, fused Adam": (lambda: plain_torch(X, Y, 4), 4 * n_steps),
        "skorch, default DataLoader": (skorch, n_steps),
    }
    rates = {name: [] for name in methods}
    for round_ in range(6):
        for name, (function, steps) in methods.items():
            _, seconds = timed(function)
            if round_:  # the first warms up
                rates[name].append(steps / seconds)
    ratios = {
        name: median_and_range([a / b for a, b in zip(rates["skinv"], values, strict=True)])
        for name, values in rates.items()
    }
    torch.set_num_threads(args.threads)
    return {
        "threads": 1,
        "steps_per_second": {name: median_and_range(values) for name, values in rates.items()},
        "skinv_to": ratios,
    }


def stream(args):
    """Time of a step on fresh matrices, over that of a step on matrices drawn before."""
    results = {}
    for name, hidden, n_steps in (
        ("2x2-first", 32, 19_200), ("3x3", 72, 9_600), ("16x16", 2048, 384)
    ):  # fmt: skip
        sampler = make_region(name, random_state=0).sampler
        X, Y = sampler.sample(256 * 64)
        model = NeuralInverseRegressor(
            hidden, solver="adam", batch_size=256, max_iter=n_steps // 64, random_state=0
        )
        ratios, steps = [], []
        for round_ in range(4):
            _, before = timed(partial(model.fit, X, Y))
            _, fresh = timed(partial(model.fit_sampler, sampler, n_steps))
            if round_:
                ratios.append(fresh / before)
                steps.append(1e6 * before / n_steps)
        results[name] = {
            "microseconds_per_step": median_and_range(steps),
            "fresh_to_preloaded": median_and_range(ratios),
        }
        print("stream", name, results[name], flush=True)
    return {"threads": args.threads, "results": results}


# -- accuracy for a time -------------------------------------------------------------------------


def within(budget, fit, lengths):
    """Fit as long as a time allows: two short fits tell how long an epoch takes."""
    fit(1)  # what a process does once is not counted
    (_, short), (_, longer) = (timed(lambda n=n: fit(n)) for n in lengths)
    per_epoch = max((longer - short) / (lengths[1] - lengths[0]), 0.3 * longer / lengths[1])
    n = max(int((0.97 * budget - short) / per_epoch) + lengths[0], 1)
    model, seconds = timed(lambda: fit(n))
    return model, seconds, n


def ours_within(budget, X, Y, seed, X_test, Y_test, **params):
    def fit(n):
        options = {"max_iter": n, "n_components": None, "random_state": seed}
        return NeuralInverseRegressor(**options, **params).fit(X, Y)

    model, seconds, n = within(budget, fit, (5, 15) if len(X.T) < 200 else (1, 3))
    return {
        "error": mean_error(model, X_test, Y_test),
        "seconds": seconds,
        "epochs": n,
        "solver": model.solver_,
        "baseline_order": model._preparation.order,
        "parameters": int(sum(W.size + b.size for W, b in model._layers)),
    }


def mlp_within(budget, sampler, seed, X_test, Y_test, hidden, activations):
    """Give scikit-learn's network the same time: its best setting of a short trial, run in full."""

    def make(activation, solver, rate, n):
        network = MLPRegressor(
            hidden_layer_sizes=hidden, activation=activation, solver=solver,
            learning_rate_init=rate, max_iter=n, tol=0.0, n_iter_no_change=10**6, max_fun=10**9,
            random_state=seed,
        )  # fmt: skip
        return TransformedTargetRegressor(
            make_pipeline(StandardScaler(), network), transformer=StandardScaler()
        )

    data = {"adam": sampler.sample(60_000), "lbfgs": sampler.sample(10_000)}

    def run(share, activation, solver, rate):
        X, Y = data[solver]
        lengths = (1, 3) if solver == "adam" else (2, 12)
        if budget < 10 or len(X.T) < 10:
            lengths = (1, 3) if solver == "adam" else (5, 25)
        model, seconds, n = within(
            share * budget, lambda n: make(activation, solver, rate, n).fit(X, Y), lengths
        )
        return {
            "error": mean_error(model, X_test, Y_test), "seconds": seconds, "iterations": n,
            "solver": solver, "activation": activation, "learning_rate_init": rate,
        }  # fmt: skip

    settings = [
        (activation, *solver)
        for activation in activations
        for solver in (("lbfgs", 1e-3), ("adam", 1e-3), ("adam", 5e-3))
    ]
    if budget > 100:  # lbfgs and other rates do not get far on a million weights
        return run(1.0, activations[0], "adam", 1e-3)
    trials = [run(0.15, *setting) for setting in settings]
    best = min(range(len(trials)), key=lambda i: trials[i]["error"])
    return run(1.0, *settings[best])


def regions(args):
    results = {}
    for name, (hidden, n, n_steps) in RECIPES.items():
        runs = []
        for seed in range(args.seeds):
            sampler, X_test, Y_test = problem(name, seed)
            X, Y = sampler.sample(n)
            plain_torch.hidden = hidden
            n_epochs = n_steps * BATCH // n
            x_test = torch.tensor(X_test, dtype=torch.float32)

            def recipe(annealed, X=X, Y=Y, seed=seed, n_epochs=n_epochs):
                return plain_torch(
                    X, Y, n_epochs, rate=5e-5, fused=False, seed=seed, annealed=annealed
                )

            def error(module, x=x_test, Y=Y_test):
                return float(np.abs(module(x).detach().numpy() - Y).mean())

            module, seconds = timed(lambda f=recipe: f(False))
            linear = LinearInverseApprox(sampler.center_).fit()
            run = {
                "linear": mean_error(linear, X_test, Y_test),
                "recipe": {"error": error(module), "seconds": seconds},
            }
            if seed == 0:
                module, annealed = timed(lambda f=recipe: f(True))
                run["recipe, annealed"] = {"error": error(module), "seconds": annealed}
            X, Y = X[:200_000], Y[:200_000]
            common = X, Y, seed, X_test, Y_test
            tenth, quarter = seconds / 10, seconds / 4
            relu = {"hidden_layer_sizes": hidden, "activation": "relu", "solver": "lm"}
            run["relu, no baseline, 1/10"] = ours_within(tenth, *common, baseline=None, **relu)
            run["relu, affine baseline, 1/10"] = ours_within(
                tenth, *common, baseline="affine", **relu
            )
            for activation in ("silu", "tanh"):
                run[f"{activation}, no baseline, 1/4"] = ours_within(
                    quarter, *common, baseline=None, hidden_layer_sizes=hidden,
                    activation=activation, solver="lm",
                )  # fmt: skip
            run["defaults, 1/4"] = ours_within(quarter, *common)
            test = seed, X_test, Y_test, (hidden,)
            run["MLPRegressor relu, 1/10"] = mlp_within(tenth, sampler, *test, ["relu"])
            run["MLPRegressor, 1/4"] = mlp_within(quarter, sampler, *test, ["tanh", "logistic"])
            runs.append(run)
            print(name, seed, {k: v if k == "linear" else v["error"] for k, v in run.items()})
            sys.stdout.flush()
        results[name] = summary(runs, "recipe")
    return {"threads": args.threads, "results": results}


def depth(args):
    """The quarter of the recipe's time once more, for two hidden layers of no more parameters.

    The times and the errors of the recipe are those of the part "regions".
    """
    before = json.loads((machine.RESULTS / "training.json").read_text())["regions"]["results"]
    results = {}
    for name, layers in (("2x2-first", (13, 12)), ("2x2-second", (13, 12)), ("3x3", (25, 25))):
        runs = []
        for seed, run in enumerate(before[name]["runs"]):
            sampler, X_test, Y_test = problem(name, seed)
            X, Y = sampler.sample(200_000)
            budget = run["recipe"]["seconds"] / 4
            outcome = ours_within(
                budget, X, Y, seed, X_test, Y_test, baseline=None, hidden_layer_sizes=layers,
                solver="lm",
            )  # fmt: skip
            theirs = mlp_within(budget, sampler, seed, X_test, Y_test, layers, ["tanh"])
            runs.append(
                {
                    "recipe": run["recipe"],
                    "silu, two layers, 1/4": outcome,
                    "MLPRegressor, two layers, 1/4": theirs,
                }
            )
            print(name, seed, outcome, theirs, flush=True)
        results[name] = {"hidden_layer_sizes": layers, **summary(runs, "recipe")}
    return {"threads": args.threads, "results": results}


def summary(runs, reference):
    """Add the median ratio of each method's error to that of a reference."""

    def value(run, key):
        return run[key] if np.isscalar(run[key]) else run[key]["error"]

    ratios, errors = {}, {}
    for key in runs[0]:  # some methods take long, and ran with the first seed only
        having = [run for run in runs if key in run]
        ratios[key] = median_and_range([value(r, reference) / value(r, key) for r in having])
        errors[key] = median_and_range([value(r, key) for r in having])
    return {"runs": runs, "error": errors, f"{reference}_to": ratios}


def timed_family(name, budget, n, args, hidden=None):
    runs = []
    for seed in range(args.seeds):
        sampler, X_test, Y_test = problem(name, seed)
        X, Y = sampler.sample(n)
        linear = LinearInverseApprox(sampler.center_).fit()
        run = {"linear": mean_error(linear, X_test, Y_test)}
        common = X, Y, seed, X_test, Y_test
        run["defaults"] = ours_within(budget, *common)
        if name == "16x16" and seed == 0:
            run["series of order 2"] = mean_error(
                LinearInverseApprox(sampler.center_, order=2).fit(), X_test, Y_test
            )
        layers = (8 * int((X.std(axis=0) > 0).sum()),)
        if name != "16x16" or seed == 0:
            run["MLPRegressor"] = mlp_within(
                budget, sampler, seed, X_test, Y_test, layers, ["relu", "tanh"]
            )
        runs.append(run)
        print(name, seed, {k: v if np.isscalar(v) else v["error"] for k, v in run.items()})
        sys.stdout.flush()
    return summary(runs, "linear")


def large(args):
    results = {"16x16": timed_family("16x16", 120.0, 60_000, args)}
    return {"threads": args.threads, "seconds": 120, "results": results}


def families(args):
    results = {name: timed_family(name, 30.0, 100_000, args) for name in FAMILIES}
    return {"threads": args.threads, "seconds": 30, "results": results}


# -- memory --------------------------------------------------------------------------------------

MEMORY = """
import gc, json, re
import numpy as np
import torch
from skinv import NeuralInverseRegressor
def status(key):
    text = open("/proc/self/status").read()
    return int(re.search(key + r":\\s+(\\d+) kB", text).group(1)) * 1024
X = np.array([3.0, 1, 1, 2]) + np.random.RandomState(0).uniform(-0.5, 0.5, (10**6, 4))
Y = np.linalg.inv(X.reshape(-1, 2, 2)).reshape(-1, 4)
model = NeuralInverseRegressor(solver="SOLVER", max_iter=3, random_state=0)
model.fit(X[:1000], Y[:1000])
gc.collect()
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
model.fit(X, Y)
extra = status("VmHWM") - before
print(json.dumps({"data_mb": (X.nbytes + Y.nbytes) / 1e6, "extra_mb": extra / 1e6}))
"""


def memory(args):
    results = {}
    for solver in ("adam", "lm"):
        code = MEMORY.replace("SOLVER", solver)
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        results[solver] = json.loads(out.stdout)
    return results


# -- defaults ------------------------------------------------------------------------------------


def defaults(args):
    """Short fits, one seed: what each choice does to the error, with the seconds it took."""
    names = (*FAMILIES, *REGIONS)
    tables: dict = {}

    def fit(name, **params):
        _, X_test, Y_test = data[name]
        X, Y = samples[name]
        model = NeuralInverseRegressor(random_state=0, **params)
        model, seconds = timed(lambda: model.fit(X, Y))
        wrong = np.abs(model.predict(X_test) - Y_test)
        row = {"error": float(wrong.mean()), "largest": float(wrong.max()), "seconds": seconds}
        print(name, params, row, flush=True)
        return row | {"solver": model.solver_}

    data = {name: problem(name, 0) for name in names}
    samples = {name: data[name][0].sample(60_000) for name in names}
    short = {name: {"max_iter": {"16x16": 3, "case9": 8}.get(name, 20)} for name in names}
    tables["baseline"] = {
        name: {
            str(b): fit(name, baseline=b, **short[name])
            for b in (None, "affine", "taylor", "taylor2", "taylor3")
        }
        for name in names
    }
    for name in names:
        for order in (1, 2, 3):
            model = LinearInverseApprox(data[name][0].center_, order=order).fit()
            tables["baseline"][name][f"series of order {order} alone"] = {
                "error": mean_error(model, *data[name][1:])
            }
    small = ("puma560", "2x2-first", "2x2-second", "3x3")
    tables["activation"] = {
        name: {
            a: fit(name, baseline="affine", activation=a, **short[name])
            for a in ("silu", "tanh", "relu")
        }
        for name in small
    }
    tables["learning_rate"] = {
        name: {
            s: fit(name, solver="adam", learning_rate=s, **short[name])
            for s in ("one_cycle", "warm_restarts", "constant")
        }
        for name in small
    }
    tables["hard_fraction"] = {
        name: {
            str(h): fit(name, baseline="affine", hard_fraction=h, **short[name])
            for h in (0.0, 0.25, 0.5)
        }
        for name in small
    }
    solvers = []
    for name, hidden, activation in (
        ("2x2-first", 32, "silu"), ("2x2-first", (16, 16), "silu"), ("3x3", 72, "silu"),
        ("3x3", 144, "silu"), ("2x2-first", 32, "relu"), ("2x2-first", (16, 16), "relu"),
        ("3x3", 72, "relu"),
    ):  # fmt: skip
        _, X_test, Y_test = data[name]
        row = {"region": name, "hidden_layer_sizes": hidden, "activation": activation}
        for solver in ("lm", "adam"):
            row[solver] = ours_within(
                2.0, *samples[name], 0, X_test, Y_test, baseline="affine", solver=solver,
                hidden_layer_sizes=hidden, activation=activation,
            )  # fmt: skip
        solvers.append(row)
        print(row, flush=True)
    return {"threads": args.threads, "samples": 60_000, **tables, "solvers": solvers}


PARTS = {f.__name__: f for f in (loop, stream, memory, regions, depth, families, large, defaults)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(args.threads):
        for name in args.parts or PARTS:
            path = machine.RESULTS / "training.json"
            before = json.loads(path.read_text()) if path.exists() else {}
            before.pop("machine", None)
            machine.write("training", before | {name: PARTS[name](args)})


if __name__ == "__main__":
    main()
