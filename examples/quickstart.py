"""
Quickstart: learned inverses, each with a proof
===============================================

A power grid under changing loads gives a stream of matrices, its Jacobians, that stay near one
another. Half of some hundreds are known here, with their inverses; the others are inverted by what
was learned of these, every answer is proven, and a few bad ones among them spoil nothing::

    python examples/quickstart.py                     # a grid of 30 buses, n = 53
    python examples/quickstart.py --family puma560    # a robot arm, n = 6
"""

import argparse
import sys
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np

from skinv import CertifiedInverse, LinearInverseApprox, PolynomialInverseApprox
from skinv.datasets import load_power_flow, load_robot_arm
from skinv.geometry import nearest_singular
from skinv.inspection import ParetoDisplay
from skinv.metrics import relative_errors

FAMILIES = {
    "case30": ("Jacobians of a 30-bus grid under changing loads",
               lambda: load_power_flow("case30")),
    "case9": ("Jacobians of a 9-bus grid, loads within 20 %", lambda: load_power_flow("case9")),
    "puma560": ("Jacobians of a Puma 560 arm, joints within 0.1 rad of a pose", load_robot_arm),
}  # fmt: skip

parser = argparse.ArgumentParser(description="Learned inverses, each with a proof.")
parser.add_argument("--family", choices=FAMILIES, default="case30")
parser.add_argument("--output", type=Path, default=Path(sys.argv[0]).with_suffix(".png"))
args = parser.parse_args()

title, load = FAMILIES[args.family]
family = load()
n = len(family.center)
matrices = family.data.reshape(-1, n, n)
known, unseen = matrices[::2], matrices[1::2].copy()
print(f"{title}: {len(known)} known matrices of order {n}, {len(unseen)} to be inverted")

# %%
# Learn, answer, prove
# --------------------
#
# A polynomial of the few coordinates in which the family moves, under a certificate: the relative
# error of each answer is proven to be within ``tol``, rounding included, or the answer is LAPACK's
# with its own proof, or NaN.

model = CertifiedInverse(PolynomialInverseApprox(), tol=1e-8).fit(known)

unseen[7] = 2 * unseen[7]  # far from all that is known
unseen[8, 1] = unseen[8, 0]  # singular
unseen[9, 0, 0] = np.nan  # garbage
report = model.report(unseen)
print(report)
assert list(report.rows()) == [8, 9]
assert report.status[7] == "exact"  # by LAPACK, and proven, too

# %%
# The price
# ---------
#
# Of a stream without them, by turns with ``numpy.linalg.inv``, which proves nothing.

stream = np.tile(np.delete(unseen, (7, 8, 9), axis=0), (4, 1, 1))
times: dict = {}
for _ in range(7):
    for name, inverse in (("proven", model.predict), ("LAPACK", np.linalg.inv)):
        start = perf_counter()
        inverse(stream)
        times.setdefault(name, []).append((perf_counter() - start) / len(stream))
proven, exact = np.median(times["proven"]), np.median(times["LAPACK"])
print(f"proven: {1e6 * proven:.1f} µs a matrix; numpy.linalg.inv: {1e6 * exact:.1f} µs, no proof")

# %%
# Errors, times, and the way to the singular matrices
# ---------------------------------------------------
#
# To the left what else there is: a series that needs no training, the polynomial, and LAPACK. To
# the right some matrices are led to their nearest singular matrix. The series answers all the way,
# ever worse, the polynomial stops where it knows nothing, and the certificate holds everywhere.

figure, panels = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
candidates = {
    "first order": LinearInverseApprox(),
    "third order": LinearInverseApprox(order=3),
    "polynomial": PolynomialInverseApprox(),
    "LAPACK": np.linalg.inv,
}
display = ParetoDisplay.from_matrices(
    family.data, candidates=candidates, random_state=0, ax=panels[0]
)
display.table_.remove()
print(display)

start = matrices[1:40:2]
shares = np.repeat(np.geomspace(1e-5, 0.99, 20), len(start))
walk = np.tile(start, (20, 1, 1))
walk += shares[:, None, None] * (np.tile(nearest_singular(start), (20, 1, 1)) - walk)
inverses, polynomial = np.linalg.inv(walk), model.estimator_
answered = ~polynomial.extrapolates(walk)
for name, estimator, rows, color in (
    ("first order", LinearInverseApprox().fit(known), shares > 0, "#0072B2"),
    ("polynomial, where it answers", polynomial, answered, "#D55E00"),
):
    error = relative_errors(inverses[rows], estimator.predict(walk[rows]))
    panels[1].plot(shares[rows], error, "o", color=color, ms=3, alpha=0.4, mew=0, label=name)
bound = model.report(walk).bound
panels[1].plot(shares, bound, "+", color="0.4", ms=4, label="CertifiedInverse: proven bound")
panels[1].set(
    xscale="log",
    yscale="log",
    xlabel="share of the way to the nearest singular matrix",
    ylabel="relative error of the inverse",
    title="unseen matrices, led to singular ones",
)
panels[1].grid(alpha=0.25)
panels[1].legend()
assert answered.any()
assert (bound <= 1e-8).all()

panels[0].set_title("the unseen half")
figure.suptitle(title)
figure.savefig(args.output, dpi=120)
print(f"Picture: {args.output.name}")
