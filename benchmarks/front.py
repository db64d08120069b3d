"""What functions of the front door cost, against NumPy's, which prove nothing: side by side.

python benchmarks/front.py [--rounds 9]

One thread, float64, the methods in turns on the same matrices; a ratio is that of one turn, and
printed are the median and the range.
"""

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
from threadpoolctl import threadpool_limits
from timing import in_turns, ratio

import skinv

DAMPING = 0.1


def pinv(m, rounds):
    """Return ratios for m Jacobians of 7 joints: to NumPy's pinv and, damped, to NumPy's solve."""
    A = np.random.default_rng(0).standard_normal((m, 6, 7))

    def solved():
        G = A @ A.swapaxes(1, 2) + DAMPING**2 * np.eye(6)
        return np.linalg.solve(G, A).swapaxes(1, 2)

    methods = {
        "pinv": lambda: skinv.pinv(A),
        "numpy.linalg.pinv": lambda: np.linalg.pinv(A),
        "damped pinv": lambda: skinv.pinv(A, damping=DAMPING),
        "numpy.linalg.solve": solved,
    }
    taken = in_turns(methods, m, rounds)
    return {
        "pinv to numpy.linalg.pinv": ratio(taken, "pinv", "numpy.linalg.pinv"),
        "damped pinv to numpy.linalg.solve": ratio(taken, "damped pinv", "numpy.linalg.solve"),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    with threadpool_limits(1):
        for count in (10_000, 100_000):
            for name, found in pinv(count, chosen.rounds).items():
                print(f"{count:7d} {name}: {found['median']} {found['range']}")
