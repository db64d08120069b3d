"""skinv.inv with proofs against inverses without any: ratios, side by side, one thread.

python benchmarks/front.py [--quick] [--rounds 7]

Random matrices, float64, in batches of up to 10⁵; the methods in turns on the same ones, a ratio is
that of one turn. `closed form` is what skinv.inv starts from, without the proof, up to order 16.
JAX, from its own memory to its own memory, and loops compiled by numba (jitted.py) are measured
where they are installed; neither is charged for compiling. Writes results/front.json, and targets
of models that are fitted: the exact inverses of training matrices, against LAPACK's.
"""

import argparse
import os
from contextlib import suppress
from functools import partial
from importlib import import_module

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["NUMBA_NUM_THREADS"] = "1"
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import machine
import numpy as np
import scipy.linalg
import torch
from timing import in_turns, microseconds, near, ratio

import skinv
from skinv._linalg.inverses import training_inverses
from skinv._linalg.small import LARGEST, small_inverses

ORDERS = (2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64)
SOLVED = (2, 3, 4, 8, 16, 32)
PLAIN = "numpy.linalg.inv"
BASES = ("skinv.inv", PLAIN, "torch.linalg.inv")


def peers(A):
    """Return what else inverts stacks here: {name: function}."""
    tensor = torch.from_numpy(A)
    found = {
        PLAIN: partial(np.linalg.inv, A),
        "torch.linalg.inv": partial(torch.linalg.inv, tensor),
        "torch.linalg.inv_ex": partial(torch.linalg.inv_ex, tensor),
    }
    if np.lib.NumpyVersion(scipy.__version__) >= "1.17.0":
        found["scipy.linalg.inv"] = partial(scipy.linalg.inv, A)
    with suppress(ImportError):
        jax = import_module("jax")
        jax.config.update("jax_enable_x64", True)
        inverse, given = jax.jit(jax.numpy.linalg.inv), jax.numpy.asarray(A)
        found["jax.numpy.linalg.inv, jitted"] = lambda: inverse(given).block_until_ready()
    with suppress(ImportError):
        loop, X = import_module("jitted").inverses(A.shape[1]), np.empty_like(A)
        found["numba"] = partial(loop, A, X)
    return found


def versions():
    """Return the versions of optional peers."""
    found = {}
    for name in ("jax", "numba"):
        try:
            found[name] = import_module(name).__version__
        except ImportError:
            found[name] = "not installed"
    return found


def order(n, rounds, quick):
    m = min(100_000, 2**26 // (n * n * 8)) // (20 if quick else 1)
    A = np.random.default_rng(n).standard_normal((m, n, n))
    methods = {"skinv.inv": partial(skinv.inv, A)}
    if n <= LARGEST:
        out = np.empty_like(A)
        methods["closed form"] = partial(small_inverses, A, out)
    methods |= peers(A)
    report = skinv.inv(A, return_report=True)
    taken = in_turns(methods, m, rounds)
    figures = {
        name: {other: ratio(taken, name, other) for other in BASES if other != name}
        for name in methods
    }
    print(n, {name: {k: v["median"] for k, v in row.items()} for name, row in figures.items()})
    return {
        "matrices": m,
        "proven": float(np.isfinite(report.bound).mean()),
        "median_bound": float(np.median(report.bound)),
        "microseconds": microseconds(taken),
        "ratios": figures,
    }


def singly(rounds, quick):
    """One matrix, one system, and one Jacobian of 7 joints at a time."""
    _, A = near(6, 1)
    b, calls, J = np.ones(6), 100 if quick else 2000, np.eye(6, 7) + 0.1 * np.ones((6, 7))
    taken = in_turns(
        {
            "skinv.inv": partial(skinv.inv, A[0]),
            PLAIN: partial(np.linalg.inv, A[0]),
            "skinv.solve": partial(skinv.solve, A[0], b),
            "numpy.linalg.solve": partial(np.linalg.solve, A[0], b),
            "skinv.pinv": partial(skinv.pinv, J),
            "numpy.linalg.pinv": partial(np.linalg.pinv, J),
        },
        1,
        rounds,
        calls,
    )
    figures = {
        "skinv.inv": ratio(taken, "skinv.inv", PLAIN),
        "skinv.solve": ratio(taken, "skinv.solve", "numpy.linalg.solve"),
        "skinv.pinv, 6 x 7": ratio(taken, "skinv.pinv", "numpy.linalg.pinv"),
    }
    print("one 6 x 6", {name: row["median"] for name, row in figures.items()})
    return {"microseconds": microseconds(taken), "ratios": figures}


def rectangular(rounds, quick):
    """Jacobians of 7 joints: NumPy's pinv and, damped, its solve, which prove nothing."""
    A = np.random.default_rng(0).standard_normal((1000 if quick else 30_000, 6, 7))

    def solved():
        G = A @ A.swapaxes(1, 2) + 0.01 * np.eye(6)
        return np.linalg.solve(G, A).swapaxes(1, 2)

    taken = in_turns(
        {
            "skinv.pinv": partial(skinv.pinv, A),
            "numpy.linalg.pinv": partial(np.linalg.pinv, A),
            "skinv.pinv, damped": partial(skinv.pinv, A, damping=0.1),
            "numpy.linalg.solve": solved,
        },
        len(A),
        rounds,
    )
    figures = {
        "skinv.pinv": ratio(taken, "skinv.pinv", "numpy.linalg.pinv"),
        "skinv.pinv, damped": ratio(taken, "skinv.pinv, damped", "numpy.linalg.solve"),
    }
    print("6 x 7", {name: row["median"] for name, row in figures.items()})
    return {"microseconds": microseconds(taken), "ratios": figures}


def solutions(n, rounds, quick):
    """Systems far from any known matrix, one right-hand side and many, beside LAPACK's."""
    m = min(20_000, 2**25 // (n * n * 8)) // (20 if quick else 1)
    rng, figures = np.random.default_rng(n), {}
    A = rng.standard_normal((m, n, n))
    for k in (1, 16):
        b = rng.standard_normal((m, n, k))
        plain = partial(np.linalg.solve, A, b)
        taken = in_turns({"skinv.solve": partial(skinv.solve, A, b), "plain": plain}, m, rounds)
        figures[f"{k} right-hand sides"] = {
            "microseconds": microseconds(taken),
            "ratio": ratio(taken, "skinv.solve", "plain"),
        }
    print("solve", n, {name: row["ratio"]["median"] for name, row in figures.items()})
    return {"matrices": m} | figures


def targets(n, rounds, quick):
    """Exact inverses of training matrices, refused or not, and LAPACK's alone."""
    m = 100_000 // (20 if quick else 1)
    rng = np.random.default_rng(n)
    A = rng.standard_normal((n, n)) + 3 * np.eye(n) + 0.3 * rng.standard_normal((m, n, n))
    rows = A.reshape(m, n * n)
    methods = {"targets": partial(training_inverses, rows), PLAIN: partial(np.linalg.inv, A)}
    taken = in_turns(methods, m, rounds)
    figure = ratio(taken, "targets", PLAIN)
    print("targets", n, figure["median"])
    return {"microseconds": microseconds(taken), "ratio": figure}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        "threads": 1,
        "peers": versions(),
        "one 6 x 6": singly(options.rounds, options.quick),
        "6 x 7": rectangular(options.rounds, options.quick),
        "orders": {n: order(n, options.rounds, options.quick) for n in ORDERS},
        "solutions": {n: solutions(n, options.rounds, options.quick) for n in SOLVED},
        "targets": {n: targets(n, options.rounds, options.quick) for n in (2, 3, 4, 8)},
    }
    if not options.quick:
        machine.write("front", results)


if __name__ == "__main__":
    main()
