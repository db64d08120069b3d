"""Violations of proven bounds over 10⁵ hostile matrices per order and dtype; the right number is 0.

The true errors come from ball arithmetic (tests/hostile.py) wherever a bound is finite; infinite
ones claim nothing. From order 16 on, where that is slow, the rest of the matrices are scaled
unimodular ones, whose inverses are known exactly.

Then the families of attack.py: hostile regressors, pipelines and functions, solutions, regions,
parameters, slices, certificates and modules, of all magnitudes and in both floating-point modes,
and entries of real and complex matrices in units up to 1e±200 apart, against exact numbers.

python benchmarks/violations.py [matrices per order and dtype] [--quick]
"""

import sys
import warnings
from collections import Counter
from pathlib import Path

import attack
import machine
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from skinv import CertifiedInverse
from skinv.bounds import residual_bound

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import backends
import hostile

ORDERS = (1, 2, 3, 5, 8, 16, 32)
# Share of the matrices that ball arithmetic checks.
SHARES = {16: 0.3, 32: 0.1}
BLOCK = 5000
# Matrices per order and dtype, in full and quickly.
FULL, QUICK = 100_000, 300
# Errors well above rounding, at which the tightness is measured.
VISIBLE = {np.float64: 1e-10, np.float32: 1e-3}


class Told(RegressorMixin, BaseEstimator):
    """A fitted regressor that returns the answers it was given."""

    def __init__(self, answers, n_features):
        self.answers_, self.n_features_in_ = answers, n_features

    def predict(self, X):
        return self.answers_

    def fit(self, X, y=None):
        return self


def all_bounds(A, X):
    """Return the bounds of X in all norms, cheap and sharp: {(norm, sharp): bound}."""
    return {
        (norm, sharp): residual_bound(A, X, norm, sharp=sharp)
        for norm in hostile.NORMS
        for sharp in (False, True)
    }


def certified(A, X, norm, order):
    """Return what CertifiedInverse makes of the approximate inverses X."""
    rows = A.reshape(len(A), -1)
    answers = X.reshape(rows.shape)
    model = CertifiedInverse(Told(answers, rows.shape[1]), norm=norm, order=order)
    return model.report(A)


def by_oracle(A, X, Y, bounds, radius, bound_Y):
    """Return lower bounds of errors of X and of Y, and of entries of X; 0 if there is no bound."""
    errors, entries = np.zeros((2, len(A), 3)), np.zeros(A.shape)
    finite = np.isfinite(list(bounds.values())).any(axis=0)
    some = np.isfinite(radius).any(axis=(1, 2))
    for i in np.flatnonzero(finite | some | np.isfinite(bound_Y)):
        oracle = hostile.Oracle(A[i])
        if finite[i]:
            errors[0, i] = oracle.errors(X[i])
        if some[i]:
            entries[i] = oracle.entry_errors(X[i])
        if np.isfinite(bound_Y[i]):
            errors[1, i] = oracle.errors(Y[i])
    return *errors, entries


def known(rng, m, n, dtype):
    """Return unimodular matrices with rows and columns scaled by powers of two, and inverses."""
    A, B = hostile.unimodular(rng, m, n)
    rows, columns = (2.0 ** rng.randint(-12, 13, (m, n)) for _ in range(2))
    B = B / rows[:, None, :] / columns[:, :, None]
    A = A * rows[:, :, None] * columns[:, None, :]
    inexact = (A.astype(dtype) != A).any(axis=(1, 2))
    A[inexact] = B[inexact] = np.eye(n)
    return A.astype(dtype), B


def known_errors(B, X):
    """Return lower bounds of the errors from exact inverses, with room for float64's rounding."""
    E, n = B - X, B.shape[-1]
    errors = [
        np.linalg.norm(E, order, (1, 2)) / np.linalg.norm(B, order, (1, 2))
        for order in ("fro", np.inf, 1)
    ]
    errors = np.array(errors).T * (1 - 8 * n * n * 2.0**-53)
    return np.where(np.isnan(errors), np.inf, errors)


def below(E):
    """Return magnitudes of rounded differences, less their rounding; inf for NaN."""
    return np.nan_to_num(np.abs(E) * (1 - 2.0**-50), nan=np.inf, posinf=np.inf)


def main(m=FULL):
    warnings.simplefilter("error")
    results, total = {}, 0
    for n in ORDERS:
        for dtype in backends.TYPES:
            counts, statuses = Counter(), Counter()
            ratios = []
            m_oracle = round(m * SHARES.get(n, 1))
            for start in range(0, m, BLOCK):
                k = start // BLOCK
                size, seed = min(BLOCK, m - start), 1000 * n + k
                exact = start >= m_oracle
                if exact:
                    A, B = known(np.random.RandomState(seed), size, n, dtype)
                else:
                    A = hostile.matrices(n, size, dtype, seed)
                X = hostile.approximations(A, seed)
                bounds = all_bounds(A, X)
                radius = residual_bound(A, X, componentwise=True)
                norm, order = k % 3, 2 + k // 3 % 3
                result = certified(A, X.copy(), hostile.NORMS[norm], order)
                with np.errstate(all="ignore"):
                    errors = (
                        (known_errors(B, X), known_errors(B, result.inverse), below(B - X))
                        if exact
                        else by_oracle(A, X, result.inverse, bounds, radius, result.bound)
                    )
                counts["matrices"] += len(A)
                counts["by known inverses" if exact else "by ball arithmetic"] += len(A)
                for (name, sharp), bound in bounds.items():
                    error = errors[0][:, hostile.NORMS.index(name)]
                    key = "sharp" if sharp else "cheap"
                    counts[f"finite {key} bounds"] += int(np.isfinite(bound).sum())
                    counts[f"violations {key}"] += hostile.count_violations(bound, error)
                    if sharp:
                        at = np.isfinite(bound) & (error >= VISIBLE[dtype])
                        ratios.append(bound[at] / error[at])
                counts["finite bounds of entries"] += int(np.isfinite(radius).sum())
                counts["violations of entries"] += hostile.count_violations(radius, errors[2])
                counts["finite certified bounds"] += int(np.isfinite(result.bound).sum())
                counts["violations certified"] += hostile.count_violations(
                    result.bound, errors[1][:, norm]
                )
                statuses.update(result.status.tolist())
            ratios = np.concatenate(ratios)
            key = f"{n} {dtype.__name__}"
            results[key] = {
                **counts,
                "status": dict(statuses),
                f"bound/error, sharp, error >= {VISIBLE[dtype]}": {
                    f"{q} %": round(float(np.percentile(ratios, q)), 3) for q in (50, 90, 99)
                },
            }
            words = ("cheap", "sharp", "of entries", "certified")
            total += sum(counts[f"violations {word}"] for word in words)
            print(key, results[key], flush=True)
    score, violations = attack.main(min(1.0, m / FULL))
    print(total + violations, "violations in all")
    if m >= FULL:
        machine.write(
            "violations",
            {"violations": total + violations, "by_order_and_dtype": results}
            | {"by_family_and_mode": score.counts, "found": score.found},
        )


if __name__ == "__main__":
    counts = [int(word) for word in sys.argv[1:] if word.isdigit()]
    main(*([QUICK] if "--quick" in sys.argv else counts))
