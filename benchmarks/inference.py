"""Inference: speed and accuracy against LAPACK, side by side in one run; two charts.

    python benchmarks/inference.py [PART ...] [--quick]

The parts, each run in a process of its own and written to results/inference.json when it is done:

linear     LinearInverseApprox.predict, into fresh memory and into the caller's, with a refinement
           step, and what it adds to its bare products, against numpy.linalg.inv and
           torch.linalg.inv; n = 8 to 64, one thread
networks   NeuralInverseRegressor.predict against the bare torch forward of its network
single     one matrix at a time: predict, inverse_function, numpy.linalg.inv, MLPRegressor
table3     the third table of Ji, Wu and Xi (2025): 10,000 inverses in batches of 1, 100 and 10,000
           by networks of one and two hidden layers, beside everything else there is; on one thread
           and on all
pareto     error against time per matrix for n = 8, 16, 32 and 64
precision  half precision: what accuracy it reaches, and at what speed
onnx       files run by onnxruntime: equal to predict, and how fast
memory     the peak of a prediction of 1 GB of matrices

Methods take turns on the same matrices; figures are medians, ratios those of one turn, with their
range. A GPU, where there is one, is measured by `gpu`, which is left out elsewhere.
"""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from inference_runtimes import gpu, memory, onnx
from inference_table3 import REGIONS, table3
from timing import in_turns, microseconds, near, ratio, refined, relative_errors, spread

SIZES = {8: 100_000, 16: 50_000, 32: 20_000, 64: 10_000}


def linear(quick):
    import numpy as np
    import torch

    from skinv import LinearInverseApprox

    results = []
    for n, m in SIZES.items():
        m = m // 10 if quick else m
        center, matrices = near(n, m)
        first, third = LinearInverseApprox(center).fit(), LinearInverseApprox(center, order=3).fit()
        for dtype in ("float32", "float64"):
            A = matrices.astype(dtype)
            T, out = torch.from_numpy(A), np.empty_like(A)
            methods = {
                "predict": partial(first.predict, A),
                "predict, out": partial(first.predict, A, out=out),
                "predict, tensor": partial(first.predict, T),
                "predict + refine": partial(refined, first, A),
                "order 3": partial(third.predict, A),
                "order 3, out": partial(third.predict, A, out=out),
                "numpy.linalg.inv": partial(np.linalg.inv, A),
                "torch.linalg.inv": partial(torch.linalg.inv, T),
                "torch.linalg.inv, out": partial(torch.linalg.inv, T, out=torch.empty_like(T)),
            }
            taken = in_turns(methods, m)
            ratios = {
                f"{slow} to {fast}": ratio(taken, slow, fast)
                for slow in ("numpy.linalg.inv", "torch.linalg.inv")
                for fast in ("predict", "predict, out", "predict + refine", "order 3")
            }
            both = "torch.linalg.inv, out", "predict, out"
            ratios[" to ".join(both)] = ratio(taken, *both)
            results.append(
                {
                    "n": n,
                    "dtype": dtype,
                    "batch": m,
                    "microseconds_per_matrix": microseconds(taken),
                    "ratios": ratios,
                }
            )
            print(n, dtype, ratios["torch.linalg.inv to predict"], file=sys.stderr)
    return {"results": results, "overhead": overhead(quick)}


def overhead(quick):
    """Time predict at 10⁵ 16×16 against its own two products, in pieces of the same size."""
    import numpy as np
    import torch

    from skinv import LinearInverseApprox

    n, m = 16, 10_000 if quick else 100_000
    center, matrices = near(n, m)
    A = matrices.astype(np.float32)
    model = LinearInverseApprox(center).fit()
    B = torch.tensor(model.inverse_, dtype=torch.float32)
    minus_B, piece = -B, 4096

    def products():
        out = torch.from_numpy(np.empty_like(A))
        E, origin = torch.empty(piece, n, n), torch.tensor(center, dtype=torch.float32)
        N = torch.empty(piece * n, n)
        T = torch.from_numpy(A)
        for start in range(0, m, piece):
            k = min(piece, m - start)
            torch.sub(T[start : start + k], origin, out=E[:k])
            torch.mm(E[:k].view(-1, n), minus_B, out=N[: k * n])
            P = N[: k * n].view(k, n, n)
            P.diagonal(0, 1, 2).add_(1)
            torch.bmm(B.expand(k, n, n), P, out=out[start : start + k])
        return out

    assert np.allclose(products().numpy(), model.predict(A), atol=1e-5)
    taken = in_turns({"predict": partial(model.predict, A), "products": products}, m)
    return {
        "microseconds_per_matrix": microseconds(taken),
        "predict to products": ratio(taken, "predict", "products"),
    }


def bare_forward(model, X):
    """Return a function that evaluates a model's network in plain torch, scaling folded in."""
    import torch
    from torch.nn import functional as F

    layers = [
        (torch.tensor(W.T.copy(), dtype=torch.float32), torch.tensor(b, dtype=torch.float32))
        for W, b in zip(model.coefs_, model.intercepts_, strict=True)
    ]
    activation = {"relu": F.relu, "silu": F.silu, "tanh": torch.tanh}[model.activation]
    T = torch.from_numpy(X)

    def forward():
        with torch.inference_mode():
            h = T
            for W, b in layers[:-1]:
                h = activation(F.linear(h, W, b))
            return F.linear(h, *layers[-1])

    return forward


def networks(quick):
    import numpy as np
    import torch

    from skinv import NeuralInverseRegressor
    from skinv.datasets import make_region
    from skinv.export import to_module

    results = []
    for region, hidden in REGIONS.items():
        sampler = make_region(region, random_state=0).sampler
        X = sampler.sample(10_000, return_inverse=False).astype(np.float32)
        for activation in ("relu", "silu"):
            for baseline in (None, "affine", "taylor2"):
                model = NeuralInverseRegressor(
                    hidden, activation, baseline=baseline, solver="adam", max_iter=1, random_state=0
                ).fit(sampler.sample(2000)[0])
                module, T = to_module(model).requires_grad_(False), torch.from_numpy(X)
                taken = in_turns(
                    {
                        "predict": partial(model.predict, X),
                        "bare": bare_forward(model, X),
                        "module": partial(module, T),
                    },
                    len(X),
                    calls=1 if region == "16x16" else 20,
                )
                results.append(
                    {
                        "region": region,
                        "hidden": hidden,
                        "activation": activation,
                        "baseline": baseline,
                        "microseconds_per_matrix": microseconds(taken),
                        "predict to bare": ratio(taken, "predict", "bare"),
                        "predict to module": ratio(taken, "predict", "module"),
                    }
                )
                print(region, activation, baseline, results[-1]["predict to bare"], file=sys.stderr)
    return results


def single(quick):
    import warnings

    import numpy as np
    import torch
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    from skinv import LinearInverseApprox, NeuralInverseRegressor
    from skinv.datasets import make_region

    results = []
    for region, hidden in (("2x2-first", 32), ("3x3", 72), ("16x16", 256)):
        sampler = make_region(region, random_state=0).sampler
        X, Y = sampler.sample(2000)
        n = int(X.shape[1] ** 0.5)
        row, A = X[:1].copy(), X[0].reshape(n, n).copy()
        settings = {"solver": "adam", "max_iter": 1, "random_state": 0}
        models = {
            f"{activation}, {baseline}": NeuralInverseRegressor(
                hidden, activation, baseline=baseline, **settings
            ).fit(X)
            for activation in ("relu", "tanh", "silu")
            for baseline in (None, "affine", "taylor2")
        }
        models["first order"] = LinearInverseApprox().fit(X)
        models["third order"] = LinearInverseApprox(order=3).fit(X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            sklearn_mlp = MLPRegressor(hidden_layer_sizes=hidden, max_iter=1).fit(X, Y)
        forward = bare_forward(models["relu, None"], row.astype(np.float32))
        methods = {
            "numpy.linalg.inv": partial(np.linalg.inv, A),
            "torch forward": forward,
            "MLPRegressor.predict": partial(sklearn_mlp.predict, row),
            "torch.linalg.inv": partial(torch.linalg.inv, torch.from_numpy(A)),
        }
        for name, model in models.items():
            methods[f"predict: {name}"] = partial(model.predict, row)
            methods[f"inverse_function: {name}"] = partial(model.inverse_function(), A)
        taken = in_turns(methods, 1, repeats=15, calls=200 if quick else 2000)
        results.append(
            {
                "region": region,
                "hidden": hidden,
                "microseconds": microseconds(taken),
                "to numpy.linalg.inv": {
                    name: ratio(taken, name, "numpy.linalg.inv") for name in methods
                },
            }
        )
        print(region, results[-1]["to numpy.linalg.inv"]["predict: relu, None"], file=sys.stderr)
    return results


def pareto(quick):
    import numpy as np
    import torch

    from skinv import CertifiedInverse, LinearInverseApprox, NeuralInverseRegressor

    results = []
    for n, m in SIZES.items():
        m = m // 20 if quick else m // 2
        center, matrices = near(n, m)
        models = {f"order {k}": LinearInverseApprox(center, order=k).fit() for k in (1, 2, 3, 5, 7)}
        if n <= 16:
            other_center, others = near(n, 5000 if quick else 30_000, seed=1)
            net = NeuralInverseRegressor(
                4 * n * n, solver="adam", max_iter=2 if quick else 20, random_state=0
            )
            models["network"] = net.fit((others - other_center + center).astype(np.float32))
        methods = {}
        for dtype in ("float32", "float64"):
            A = matrices.astype(dtype)
            for name, model in models.items():
                methods[name, dtype] = partial(model.predict, A)
            for steps in (1, 2):
                method = partial(refined, models["order 1"], A, steps)
                methods[f"order 1, {steps} steps", dtype] = method
            tol = 1e-5 if dtype == "float32" else 1e-12
            certified = CertifiedInverse(models["order 3"], tol=tol).fit()
            methods[f"CertifiedInverse, {tol:g}", dtype] = partial(certified.predict, A)
            methods["numpy.linalg.inv", dtype] = partial(np.linalg.inv, A)
            methods["torch.linalg.inv", dtype] = partial(torch.linalg.inv, torch.from_numpy(A))
        taken = in_turns(methods, m, repeats=3 if quick else 5)
        found = {
            (name, dtype): relative_errors(method(), matrices.astype(dtype), most=200)
            for (name, dtype), method in methods.items()
        }
        results.append(
            {
                "n": n,
                "points": [
                    {
                        "method": name,
                        "dtype": dtype,
                        "microseconds_per_matrix": spread(taken[name, dtype]),
                        "mean_relative_error": found[name, dtype],
                    }
                    for name, dtype in methods
                ],
            }
        )
        print(n, file=sys.stderr)
    return results


def precision(quick):
    import torch

    from skinv import LinearInverseApprox

    results = []
    for n, m in SIZES.items():
        m = m // 10 if quick else m // 2
        center, matrices = near(n, m)
        model = LinearInverseApprox(center, order=3).fit()
        for name in ("float16", "bfloat16", "float32"):
            T = torch.from_numpy(matrices).to(getattr(torch, name))
            methods = {
                "order 3": partial(model.predict, T),
                "order 3, one step": partial(refined, model, T),
            }
            taken = in_turns(methods, m, repeats=3 if quick else 5)
            A = T[:1000].double().numpy()
            results.append(
                {
                    "n": n,
                    "dtype": name,
                    "unit_roundoff": torch.finfo(T.dtype).eps / 2,
                    "microseconds_per_matrix": microseconds(taken),
                    "mean_relative_error": {
                        key: relative_errors(method()[:1000].double(), A, most=200)
                        for key, method in methods.items()
                    },
                }
            )
            print(n, name, results[-1]["mean_relative_error"], file=sys.stderr)
    return results


PARTS = {
    f.__name__: f for f in (linear, networks, single, table3, pareto, precision, onnx, memory, gpu)
}


def run_part(part, threads, quick):
    """Run a part in a process of its own, with so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    command = [sys.executable, __file__, "--worker", part, *(["--quick"] if quick else [])]
    environment = os.environ | dict.fromkeys(names, str(threads))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small batches; writes no results")
    parser.add_argument("--worker", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    if options.worker:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        print(json.dumps(PARTS[options.worker](options.quick)))
        return
    import charts
    import machine

    path = Path(__file__).with_name("results") / "inference.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results.pop("machine", None)
    for part in options.parts or PARTS:
        cores = os.cpu_count() or 1
        if part == "table3":
            result = {f"{t} threads": run_part(part, t, options.quick) for t in sorted({1, cores})}
        else:
            result = run_part(part, 1, options.quick)
        if result is None or options.quick:
            continue
        results[part] = result
        machine.write("inference", results)
        if part == "pareto":
            charts.pareto(result, path.with_name("inference_pareto.png"))
        if part == "table3":
            charts.table3(result["1 threads"], path.with_name("inference_table3.png"))


if __name__ == "__main__":
    main()
