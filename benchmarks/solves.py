"""Certified solves of one right-hand side to 1e-6 against LAPACK, which proves nothing; one thread.

python benchmarks/solves.py [--quick]

Real grids are known by one half of their matrices, and the other half is solved, over and over.
Their rows and columns are in units off by up to 2^±60 once. Made ones have ‖(A − A₀)A₀⁻¹‖_F = 0.1
and a centre of condition number 5.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys
from functools import partial

import machine
import numpy as np
import torch
from timing import in_turns, microseconds, ratio

from skinv import CertifiedInverse, LinearInverseApprox, PolynomialInverseApprox
from skinv.datasets import load_power_flow

TOL, REPEATS = 1e-6, 15
LEARNERS = {"series": LinearInverseApprox, "polynomial": PolynomialInverseApprox}


def normal(rng, shape, dtype):
    values = rng.standard_normal(shape)
    return values + 1j * rng.standard_normal(shape) if dtype is complex else values


def near(n, m, dtype=float, q=0.1):
    """Return a centre, and m matrices at one distance from it."""
    rng = np.random.default_rng(0)
    U, _, Vt = np.linalg.svd(normal(rng, (n, n), dtype))
    center = (U * np.linspace(1.0, 5.0, n)) @ Vt
    E = normal(rng, (m, n, n), dtype)
    sizes = np.linalg.norm(E @ np.linalg.inv(center), axis=(1, 2))
    return center, center + q * E / sizes[:, None, None]


def cases():
    """Yield names, certified regressors, matrices, and right-hand sides."""
    for case, m in (("case6ww", 4000), ("case9", 4000), ("case30", 500)):
        matrices = load_power_flow(case).matrices
        order = np.random.default_rng(0).permutation(len(matrices))
        known, unseen = matrices[order[::2]], matrices[order[1::2]]
        A = np.resize(unseen, (m, *unseen.shape[1:]))
        b = sides(A)
        for name, learner in LEARNERS.items():
            yield f"{case}, {name}", CertifiedInverse(learner(), tol=TOL).fit(known), A, b
        rows, columns = np.ldexp(1.0, np.random.default_rng(1).integers(-60, 61, (2, len(A[0]))))
        model = CertifiedInverse(LinearInverseApprox(), tol=TOL).fit(
            rows[:, None] * known * columns
        )
        yield f"{case}, mixed units", model, rows[:, None] * A * columns, rows * b
    for n, m in ((14, 4000), (53, 500), (256, 24)):
        center, A = near(n, m)
        yield "made", CertifiedInverse(LinearInverseApprox(center), tol=TOL).fit(), A, sides(A)
    center, A = near(20, 1500, complex)
    model = CertifiedInverse(LinearInverseApprox(), tol=TOL).fit(center[None])
    yield "made, complex", model, A, sides(A)


def sides(A):
    """Return right-hand sides of solutions with normally distributed entries."""
    x = normal(np.random.default_rng(1), A.shape[:2], complex if np.iscomplexobj(A) else float)
    return (A @ x[:, :, None])[:, :, 0]


def main():
    torch.set_num_threads(1)
    quick, out = "--quick" in sys.argv, []
    for name, model, A, b in cases():
        A, b = (part[: len(A) // 10 + 1] if quick else part for part in (A, b))
        methods = {
            "certified": partial(model.solve, A, b, return_bound=True),
            "certified, with entries": partial(model.solve, A, b, True, True),
            "numpy.linalg.solve": partial(np.linalg.solve, A, b[:, :, None]),
        }
        taken = in_turns(methods, len(A), REPEATS)
        (x, bound), exact = methods["certified"](), np.linalg.solve(A, b[:, :, None])[:, :, 0]
        error = np.linalg.norm(x - exact, axis=1) / np.linalg.norm(exact, axis=1)
        row = {
            "family": name,
            "n": A.shape[1],
            "matrices": len(A),
            "share_within_tol": float((bound <= TOL).mean()),
            "largest_error": float(error.max()),
            "microseconds": microseconds(taken),
            "ratio_to_numpy": {
                method: ratio(taken, method, "numpy.linalg.solve") for method in list(methods)[:2]
            },
        }
        print(row["n"], name, row["share_within_tol"], row["ratio_to_numpy"], flush=True)
        out.append(row)
    if not quick:
        machine.write("solves", {"threads": 1, "repeats": REPEATS, "tol": TOL, "solves": out})


if __name__ == "__main__":
    main()
