"""What a proven answer costs, against plain LAPACK, which proves nothing: ratios, side by side.

python benchmarks/prices.py [CASE ...] [--quick] [--rounds 9]

One thread, float64 unless said, the methods in turns on the same matrices; a ratio is that of one
turn, and given are the median and the range. "threads" compares two threads with one. A case that
is named is measured again, and the results of the others are kept.
"""

import argparse
import json
import os
from functools import partial

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import machine
import made
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from timing import in_turns, near, ratio

from skinv import CertifiedInverse, LinearInverseApprox, PolynomialInverseApprox
from skinv.datasets import load_power_flow

FAMILIES = {
    "case6ww, n = 8": lambda: load_power_flow("case6ww").matrices,
    "case9, n = 14": lambda: load_power_flow("case9").matrices,
    "case30, n = 53": lambda: load_power_flow("case30").matrices,
    "grid, n = 99": lambda: made.grid_jacobian()[0],
}
LAPACK = "numpy.linalg.inv"
BYTES = 2**26  # of a batch
TERMS = 32  # under a certificate few are enough: a step of refinement squares what they leave


class Garbage(RegressorMixin, BaseEstimator):
    """A regressor whose guesses prove nothing."""

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(X)[1]
        return self

    def predict(self, X):
        return X


def repeated(A, most=20_000):
    """Return so many matrices that a batch is no smaller than what caches hold."""
    m = min(most, BYTES // (A[0].size * A.itemsize))
    return np.resize(A, (m, *A.shape[1:]))


def compare(methods, m, rounds, calls=1):
    """Return the ratios of the first methods to the last one."""
    taken = in_turns(methods, m, rounds, calls)
    *ours, peer = methods
    figures = {name: ratio(taken, name, peer) for name in ours}
    print({name: (f["median"], f["range"]) for name, f in figures.items()}, flush=True)
    return figures


def proven(model, A, tol):
    """Return the share of answers that are within `tol` without LAPACK."""
    report = model.report(A)
    direct = np.isin(report.status, ["predicted", "refined"]) & (report.bound <= tol)
    return round(float(direct.mean()), 4), round(float(report.n_refine.mean()), 2)


def learned(rounds, quick):
    out = {}
    for name, matrices in FAMILIES.items():
        known, unseen = train_test_split(matrices(), test_size=0.5, random_state=0)
        A = repeated(unseen, 2000 if quick else 20_000)
        regressor = PolynomialInverseApprox(max_terms=TERMS).fit(known.reshape(len(known), -1))
        methods, shares = {}, {}
        for tol in (1e-4, 1e-8):
            model = CertifiedInverse(regressor, tol=tol)
            methods[f"to {tol:.0e}"] = partial(model.predict, A)
            shares[f"to {tol:.0e}"] = proven(model, A, tol)
        methods |= {
            "prediction alone": partial(regressor.predict, A),
            LAPACK: partial(np.linalg.inv, A),
        }
        print(name, shares)
        out[name] = {"proven without LAPACK, and mean steps": shares}
        out[name] |= compare(methods, len(A), rounds)
    return out


def series(rounds, quick):
    out = {}
    for n, order in ((8, 2), (14, 2), (32, 2), (64, 1)):  # the best ones
        center, A = near(n, 1)
        m = min(20_000, BYTES // (n * n * 8)) // (10 if quick else 1)
        # ‖(A − A₀)A₀⁻¹‖₂ up to 0.1
        rng, inverse = np.random.default_rng(1), np.linalg.inv(center)
        E = rng.standard_normal((m, n, n))
        E *= (0.1 / np.linalg.norm(E @ inverse, 2, axis=(1, 2)))[:, None, None]
        A = center + E
        for dtype, tol in ((np.float64, 1e-10), (np.float32, 1e-5)):
            B = A.astype(dtype)
            model = CertifiedInverse(LinearInverseApprox(center, order=order), tol=tol).fit()
            shares = proven(model, B, tol)
            print(n, dtype.__name__, shares)
            figures = compare(
                {
                    "certified": partial(model.predict, B),
                    LAPACK: partial(np.linalg.inv, B),
                },
                m,
                rounds,
            )
            name = f"order {order}, n = {n}, {dtype.__name__}, to {tol:.0e}"
            out[name] = figures | {"proven": shares}
    return out


def garbage(rounds, quick):
    _, A = near(20, 2000 if quick else 10_000)
    model = CertifiedInverse(Garbage()).fit(A.reshape(len(A), -1))
    methods = {"certified": partial(model.predict, A), LAPACK: partial(np.linalg.inv, A)}
    return {"n = 20": compare(methods, len(A), rounds)}


def complex_(rounds, quick):
    center, A = near(20, 2000 if quick else 10_000)
    rng = np.random.default_rng(2)
    A = A + 1j * 0.05 / np.sqrt(20) * rng.standard_normal(A.shape)
    b = rng.standard_normal((len(A), 20)) + 1j
    model = CertifiedInverse(LinearInverseApprox(center.astype(complex), order=2)).fit()
    return {
        "inverse, n = 20": compare(
            {"certified": partial(model.predict, A), LAPACK: partial(np.linalg.inv, A)},
            len(A), rounds,
        ),
        "solve, n = 20": compare(
            {"certified": partial(model.solve, A, b),
             "numpy.linalg.solve": lambda: np.linalg.solve(A, b[:, :, None])},
            len(A), rounds,
        ),
    }  # fmt: skip


def few(rounds, quick):
    center, A = near(8, 50)
    center, A = center @ center.T, A @ A.swapaxes(1, 2)
    A = (A + A.swapaxes(1, 2)) / 2
    model = CertifiedInverse(LinearInverseApprox(center, order=2), tol=1e-4).fit()
    print(proven(model, A, 1e-4))
    methods = {"certified": partial(model.predict, A), LAPACK: partial(np.linalg.inv, A)}
    return {"50 symmetric 8 x 8": compare(methods, 50, rounds, 100)}


def single(rounds, quick):
    out = {}
    center, A = near(8, 1)
    known = load_power_flow("case6ww").matrices
    polynomial = PolynomialInverseApprox(max_terms=TERMS).fit(known[::2].reshape(-1, 64))
    for regressor, a, tol in (
        (LinearInverseApprox(center).fit(), A[0], 1e-1),
        (LinearInverseApprox(center).fit(), A[0], 1e-3),
        (LinearInverseApprox(center).fit(), A[0], 1e-10),
        (polynomial, known[1], 1e-4),
        (polynomial, known[1], 1e-8),
    ):
        model = CertifiedInverse(regressor, tol=tol)
        function, steps = model.inverse_function(), model.report(a[None]).n_refine[0]
        name = f"{type(regressor).__name__}, n = 8, to {tol:.0e}, {steps} steps"
        methods = {name: partial(function, a), LAPACK: partial(np.linalg.inv, a)}
        out |= compare(methods, 1, rounds, 300 if quick else 3000)
    return out


def threads(rounds, quick):
    out = {}
    for n, m in ((8, 100_000), (16, 30_000), (32, 10_000)):
        center, A = near(n, m // (10 if quick else 1))
        b = np.random.default_rng(0).standard_normal((len(A), n))
        known = load_power_flow("case6ww").matrices if n == 8 else A[:400]
        learned = PolynomialInverseApprox(max_terms=TERMS, on_extrapolation="keep")
        learned.fit(known.reshape(len(known), -1))
        series = LinearInverseApprox(center, order=2).fit()
        certified = CertifiedInverse(series, tol=1e-10)
        for name, call in {
            "learned predict": partial(learned.predict, A),
            "series predict": partial(series.predict, A),
            "certified predict": partial(certified.predict, A),
            "certified report": partial(certified.report, A),
            "certified solve": partial(certified.solve, A, b),
        }.items():

            def limited(count, call=call):
                with threadpool_limits(count):
                    call()

            taken = in_turns({"one": lambda: limited(1), "two": lambda: limited(2)}, len(A), rounds)
            out[f"{name}, n = {n}"] = figures = ratio(taken, "one", "two")
            print(f"{name}, n = {n}", figures, flush=True)
    return out


CASES = {
    "single": single,
    "threads": threads,
    "learned": learned,
    "series": series,
    "few": few,
    "garbage": garbage,
    "complex": complex_,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    path = machine.RESULTS / "prices.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in options.cases or CASES:
        results[name] = CASES[name](options.rounds, options.quick)
    if not options.quick:
        machine.write("prices", {"threads": 1} | results)


if __name__ == "__main__":
    main()
