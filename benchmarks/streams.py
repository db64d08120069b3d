"""Streams of matrices that drift, proven, against methods that prove nothing; one thread.

python benchmarks/streams.py [CASE ...] [--quick]

"days": the day of a grid is 288 steps of 5 minutes; in each, 100 scenarios around its loads are
solved at once, with one right-hand side each, to 1e-8, and ``partial_fit`` looks at them. LAPACK
solves each anew. The refined LU factorises the mean of the scenarios of a step whenever the stream
moves its centre, and corrects solutions by these factors until no correction is past 1e-8 of a
solution, which proves nothing. Jacobians are polynomials of the loads, fitted to those of
``load_power_flow``.

"filters": 50 Kalman filters of order 8, whose noise drifts, take the inverses of their innovation
covariances to 1e-9, for 1000 steps; all that follows depends on these. In a batch, and one filter
by functions of one matrix.

"loop": systems of order 50 that drift, one at a time, solved to 1e-8.

In these two ``partial_fit`` looks at the last matrices every 8th step, and once at every step.

Times are those of a step, ``partial_fit`` included, of the processor: what else runs on the machine
does not count. Methods take turns at each step, and are called once before they are timed, as in
`timing.in_turns`; ``partial_fit`` is not, nor is what follows a move. A ratio is one of sums over a
day, or over all steps, moves included; medians and ranges are those of several runs.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import time
from itertools import product

import machine
import numpy as np
import torch
from scipy.linalg import lu_factor, lu_solve
from sklearn.preprocessing import PolynomialFeatures
from timing import near, spread

from skinv import CertifiedInverse, LinearInverseApprox
from skinv.datasets import load_power_flow

STEPS, SCENARIOS, TOL = 288, 100, 1e-8
GRIDS = {"case9": 4, "case30": 6}  # degrees of the polynomials
FILTERS, ORDER, FILTER_STEPS, FILTER_TOL = 50, 8, 1000, 1e-9
PERIODS = {"looked at every 8th step": 8, "at every step": 1}


def day_of_loads(n_loads, low, high, seed):
    """Return the factors on loads of each scenario, (steps, scenarios, loads).

    Two peaks a day, at times of their own for each load; scenarios deviate by 2 %.
    """
    rng = np.random.default_rng(seed)
    hours = np.arange(STEPS)[:, None] / 12 - rng.uniform(-1, 1, n_loads)
    shape = 0.7 * np.exp(-(((hours - 9) / 3.5) ** 2)) + np.exp(-(((hours - 19) / 2.5) ** 2))
    usual = low + 0.04 + (high - low - 0.1) * shape / shape.max()
    return usual[:, None] + 0.02 * rng.standard_normal((STEPS, SCENARIOS, n_loads))


def day(case, seed=0):
    """Return matrices (steps, scenarios, n, n) of a day."""
    grid, features = load_power_flow(case), PolynomialFeatures(GRIDS[case])
    known = features.fit_transform(grid.parameters - 1)
    coefficients = np.linalg.lstsq(known, grid.data, rcond=None)[0]
    low, high = grid.parameters.min(), grid.parameters.max()
    loads = day_of_loads(grid.parameters.shape[1], low, high, seed)
    rows = features.transform(loads.reshape(-1, loads.shape[2]) - 1) @ coefficients
    return rows.reshape(STEPS, SCENARIOS, *grid.center.shape)


def refined(factors, A, b):
    """Solve by the factors of another matrix, with corrections, without a proof."""
    x = lu_solve(factors, b.T).T
    for _ in range(50):
        correction = lu_solve(factors, (b - (A @ x[:, :, None])[:, :, 0]).T).T
        x = x + correction
        small = np.linalg.norm(correction, axis=1) <= TOL * np.linalg.norm(x, axis=1)
        if small.all():
            break
    return x


class Watch:
    """Seconds of methods that take turns, step by step."""

    def __init__(self, *names):
        self.taken = {name: [] for name in names}

    def time(self, name, method, *args, again=True):
        """Time the second call of a method, which changes nothing, or the only one."""
        if again:
            method(*args)
        start = time.thread_time()
        result = method(*args)
        self.taken[name].append(time.thread_time() - start)
        return result

    def add(self, name, method, *args):
        """Time a call that belongs to the same step."""
        self.time("partial_fit", method, *args, again=False)
        self.taken[name][-1] += self.taken["partial_fit"][-1]

    def ratio(self, slow, fast):
        return sum(self.taken[slow]) / sum(self.taken[fast])

    def median(self, name):
        return float(np.median(self.taken[name])) * 1e6


def one_day(A, b):
    """Follow a day; return what was measured."""
    model = CertifiedInverse(LinearInverseApprox(), tol=TOL).fit(A[0])
    watch, moves = Watch("stream", "partial_fit", "numpy.linalg.solve", "refined LU"), 0
    factors, proven, error = lu_factor(A[0].mean(axis=0)), 0, 0.0

    def by_lu(A, b, anew):
        x = refined(factors, A, b)
        return x, lu_factor(A.mean(axis=0)) if anew else factors

    known = True
    for block, sides in zip(A, b, strict=True):
        x, bound = watch.time("stream", model.solve, block, sides, True, again=known)
        watch.add("stream", model.partial_fit, block)
        y = watch.time("numpy.linalg.solve", np.linalg.solve, block, sides[:, :, None])[:, :, 0]
        moved = getattr(model, "n_moves_", 0)
        factors = watch.time("refined LU", by_lu, block, sides, moved > moves)[1]
        known, moves = moved == moves, moved
        proven += int((bound <= TOL).sum())
        off = np.linalg.norm(x - y, axis=1) / np.linalg.norm(y, axis=1)
        error = max(error, float(off.max()))
    return watch, {"moves": moves, "proven": proven / bound.size / len(A), "largest_error": error}


def days(repeats, quick):
    out = {}
    for case in GRIDS:
        runs = []
        for seed in range(repeats):
            A = day(case, seed)[: STEPS // 6 if quick else STEPS]
            b = np.random.default_rng(seed).standard_normal(A.shape[:3])
            runs.append(one_day(A, b))
        watches, found = zip(*runs, strict=True)
        peers = "numpy.linalg.solve", "refined LU"
        out[case] = {
            "n": A.shape[2],
            "moves of the centre": [each["moves"] for each in found],
            "share_within_tol": min(each["proven"] for each in found),
            "largest_error": max(each["largest_error"] for each in found),
            "ratio": {peer: spread([w.ratio("stream", peer) for w in watches]) for peer in peers},
            "microseconds of a step, median": {
                name: spread([w.median(name) for w in watches]) for name in watches[0].taken
            },
        }
        print(case, json.dumps(out[case], indent=1), flush=True)
    return out


class Bank:
    """Kalman filters x ← Fx + w, y = x + v, whose noise v gets louder and quieter again."""

    def __init__(self, m, seed=0):
        rng = np.random.default_rng(seed)
        self.F = 0.98 * np.linalg.qr(rng.standard_normal((ORDER, ORDER)))[0]
        self.loud = 1 + 0.1 * rng.random((m, ORDER))
        self.P = np.tile(np.eye(ORDER), (m, 1, 1))

    def noise(self, step):
        loud = (1 + np.sin(np.pi * step / 1000) ** 2) * self.loud
        return loud[:, :, None] * np.eye(ORDER)

    def innovation(self, step):
        """Predict, and return the covariances of innovations."""
        self.P = self.F @ self.P @ self.F.T + 0.1 * np.eye(ORDER)
        self.P = (self.P + self.P.swapaxes(1, 2)) / 2
        return self.P + self.noise(step)

    def update(self, step, inverse):
        """Take in a measurement, by the inverses of these covariances (Joseph's form)."""
        K = self.P @ inverse
        left = np.eye(ORDER) - K
        self.P = left @ self.P @ left.swapaxes(1, 2) + K @ self.noise(step) @ K.swapaxes(1, 2)


def one_bank(m, steps, seed, singly, period):
    """Follow filters; return what was measured."""
    ours, exact = Bank(m, seed), Bank(m, seed)
    model = CertifiedInverse(LinearInverseApprox(order=3), order=3, tol=FILTER_TOL)
    model.fit(ours.innovation(0))
    ours = Bank(m, seed)
    watch, proven = Watch("stream", "partial_fit", "numpy.linalg.inv"), 0
    function = model.inverse_function() if singly else None
    moves, known, latest = 0, True, []
    for step in range(steps):
        S, T = ours.innovation(step), exact.innovation(step)
        if singly:
            X, bound, _ = watch.time("stream", function, S[0], again=known)
            X, bound = X[None], np.array([bound])
        else:
            X, bound = watch.time("stream", model.predict, S, True, again=known)
        latest = [*latest, S][-period:] if singly else [S]
        if step % period == period - 1:
            watch.add("stream", model.partial_fit, np.concatenate(latest))
        moved = getattr(model, "n_moves_", 0)
        known, moves = moved == moves, moved
        Y = watch.time("numpy.linalg.inv", np.linalg.inv, T[0] if singly else T)
        ours.update(step, X)
        exact.update(step, Y)
        proven += int((bound <= FILTER_TOL).sum())
    difference = np.abs(ours.P - exact.P).max() / np.abs(exact.P).max()
    found = {"moves": getattr(model, "n_moves_", 0), "proven": proven / m / steps}
    return watch, found | {"difference": float(difference)}


def filters(repeats, quick):
    out, steps = {}, FILTER_STEPS // 5 if quick else FILTER_STEPS
    for (name, m), (how, period) in product(
        {"50 filters": FILTERS, "one filter": 1}.items(), PERIODS.items()
    ):
        runs = [one_bank(m, steps, seed, m == 1, period) for seed in range(repeats)]
        watches, found = zip(*runs, strict=True)
        out[f"{name}, {how}"] = {
            "moves of the centre": [each["moves"] for each in found],
            "share_within_tol": min(each["proven"] for each in found),
            "largest_difference_of_covariances": max(each["difference"] for each in found),
            "ratio": {
                "numpy.linalg.inv": spread([w.ratio("stream", "numpy.linalg.inv") for w in watches])
            },
            "microseconds of a step, median": {
                each: spread([w.median(each) for w in watches]) for each in watches[0].taken
            },
        }
        print(name, how, json.dumps(out[f"{name}, {how}"], indent=1), flush=True)
    return out


def one_loop(A, b, period):
    """Follow single systems; return what was measured."""
    model = CertifiedInverse(LinearInverseApprox(), tol=TOL).fit(A[:20])
    watch, good = Watch("stream", "partial_fit", "numpy.linalg.solve"), 0
    solve, known, moves = model.solve_function(), True, 0
    for k, (a, c) in enumerate(zip(A, b, strict=True), 1):
        good += watch.time("stream", solve, a, c, again=known)[1] <= TOL
        if k % period == 0:
            watch.add("stream", model.partial_fit, A[k - period : k])
        watch.time("numpy.linalg.solve", np.linalg.solve, a, c)
        moved = getattr(model, "n_moves_", 0)
        known, moves = moved == moves, moved
    return watch, moves, int(good) / len(A)


def loop(repeats, quick):
    center, around = near(50, 500 if quick else 2000)
    drift = np.linspace(0, 2, len(around))[:, None, None] * np.eye(50)
    A, out = center + drift + 0.2 * (around - center), {}
    b = np.random.default_rng(0).standard_normal(A.shape[:2])
    for how, period in PERIODS.items():
        watches, moves, proven = zip(*(one_loop(A, b, period) for _ in range(repeats)), strict=True)
        out[f"n = 50, {how}"] = {
            "moves of the centre": moves,
            "share_within_tol": min(proven),
            "ratio": spread([watch.ratio("stream", "numpy.linalg.solve") for watch in watches]),
            "microseconds of a step, median": {
                name: spread([w.median(name) for w in watches]) for name in watches[0].taken
            },
        }
        print(how, json.dumps(out[f"n = 50, {how}"], indent=1), flush=True)
    return out


CASES = {"days": days, "filters": filters, "loop": loop}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = machine.RESULTS / "streams.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in options.cases or CASES:
        results[name] = CASES[name](2 if options.quick else options.repeats, options.quick)
    if not options.quick:
        machine.write("streams", {"threads": 1} | results)


if __name__ == "__main__":
    main()
