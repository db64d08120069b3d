"""
Quickstart: learn to invert, and see how far to trust it
========================================================

A robot arm near a pose, or a power grid under changing loads, gives a stream of matrices close to
one another. This script takes such a family, learns its inverse from one half of it in several
ways, and shows errors and times on the other half, never seen. Then it leads some matrices away
from what is known, and looks at who notices::

    python examples/quickstart.py                   # the robot arm
    python examples/quickstart.py --family case9    # a power grid
"""

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
)
from skinv.datasets import load_power_flow, load_robot_arm
from skinv.geometry import nearest_singular
from skinv.inspection import ParetoDisplay
from skinv.metrics import relative_errors

FAMILIES = {
    "puma560": ("Jacobians of a Puma 560 arm, joints within 0.1 rad of a pose", load_robot_arm),
    "case6ww": ("power-flow Jacobians of a 6-bus grid, loads within 20 %",
                lambda: load_power_flow("case6ww")),
    "case9": ("power-flow Jacobians of a 9-bus grid, loads within 20 %",
              lambda: load_power_flow("case9")),
    "case30": ("power-flow Jacobians of a 30-bus grid under three load factors",
               lambda: load_power_flow("case30")),
}  # fmt: skip

parser = argparse.ArgumentParser(description="Learn to invert, and see how far to trust it.")
parser.add_argument("--family", choices=FAMILIES, default="puma560")
parser.add_argument("--output", type=Path, default=Path(sys.argv[0]).with_suffix(".png"))
args = parser.parse_args()

title, load = FAMILIES[args.family]
family = load()
n = len(family.center)
known, unseen = train_test_split(family.data, test_size=0.5, random_state=0)
print(f"{title}: {len(family.data)} matrices of order {n}")

# %%
# Learning
# --------
#
# A polynomial of the few coordinates in which the family moves, from its known half.

polynomial = PolynomialInverseApprox().fit(known)
print(
    f"polynomial of {polynomial.n_terms_} terms in {polynomial.n_components_} coordinates of "
    f"{n * n} entries\n{polynomial.extrapolates(unseen).sum()} of {len(unseen)} unseen matrices "
    f"are too far from the known ones to be answered"
)

# %%
# Judgement
# ---------
#
# Errors on the unseen half against times, with LAPACK among them, and the pipeline of scikit-learn
# that comes to mind first. An asterisk marks what nothing else betters in both.

figure, panels = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
candidates = {
    "first order": LinearInverseApprox(),
    "third order": LinearInverseApprox(order=3),
    "polynomial": PolynomialInverseApprox(),
    "network": NeuralInverseRegressor(random_state=0),
    "PCA, squares": make_pipeline(PCA(12), PolynomialFeatures(2), LinearRegression()),
    "LAPACK": np.linalg.inv,
}
display = ParetoDisplay.from_matrices(
    family.data, candidates=candidates, random_state=0, ax=panels[0]
)
display.table_.remove()
print(display)

# %%
# How far to trust it
# -------------------
#
# The ellipsoid of the known half is a region with a proof: there is no singular matrix in it.
# Beyond, nobody has promised anything. Some matrices are led to their nearest singular matrix: the
# series answers all the way, ever worse, and the polynomial stops where it knows nothing.
# :class:`~skinv.CertifiedInverse` proves each answer, and asks LAPACK where there is none.

region = FeasibleRegionSampler(norm="mahalanobis", random_state=0).fit(known)
print(
    f"region: {'certified' if region.is_certified_ else 'not certified'} to hold no singular "
    f"matrix, {region.is_feasible(unseen).mean():.1%} of the unseen inside"
)
A = unseen[:40].reshape(-1, n, n)
shares = np.repeat(np.geomspace(1e-5, 0.99, 25), len(A))
walk = np.tile(A, (25, 1, 1))
walk += shares[:, None, None] * (nearest_singular(walk) - walk)
exact = np.linalg.inv(walk)
answered = ~polynomial.extrapolates(walk)
for name, model, rows, color in (
    ("first order", LinearInverseApprox().fit(known), shares > 0, "#0072B2"),
    ("polynomial, where it answers", polynomial, answered, "#D55E00"),
):
    error = relative_errors(exact[rows], model.predict(walk[rows]))
    panels[1].plot(shares[rows], error, "o", color=color, ms=3, alpha=0.4, mew=0, label=name)
report = CertifiedInverse(polynomial).fit(known).report(walk)
panels[1].plot(shares, report.bound, "+", color="0.4", ms=4, label="CertifiedInverse: proven bound")
panels[1].set(
    xscale="log",
    yscale="log",
    xlabel="share of the way to the nearest singular matrix",
    ylabel="relative error of the inverse",
    title="40 unseen matrices, led to singular ones",
)
panels[1].grid(alpha=0.25)
panels[1].legend()
print(report)
assert answered.any()
assert (report.bound <= 1e-6).all()

panels[0].set_title("the unseen half")
figure.suptitle(title)
figure.savefig(args.output, dpi=120)
print(f"Picture: {args.output.name}")
