"""
Quickstart: learn to invert, and see how far to trust it
========================================================

A robot arm near a pose, or a power grid under changing loads, gives a stream of matrices close to
one another. This script takes such a family, fits a region to one half of it, trains a linear and a
neural inverse on samples from that region, and measures both on the other half, never seen::

    python examples/quickstart.py                   # the robot arm
    python examples/quickstart.py --family case9    # a power grid
"""

import argparse
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skinv import (
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    SingularDistanceScorer,
)
from skinv.datasets import load_power_flow, load_robot_arm
from skinv.geometry import distance_to_singularity, nearest_singular
from skinv.metrics import absolute_errors, residual_norms

FAMILIES = {
    "puma560": ("Jacobians of a Puma 560 arm, joints within 0.1 rad of a pose", load_robot_arm),
    "case6ww": ("power-flow Jacobians of a 6-bus grid, loads within 20 %",
                lambda: load_power_flow("case6ww")),
    "case9": ("power-flow Jacobians of a 9-bus grid, loads within 20 %",
              lambda: load_power_flow("case9")),
}  # fmt: skip

parser = argparse.ArgumentParser(description="Learn to invert, and see how far to trust it.")
parser.add_argument("--family", choices=FAMILIES, default="puma560")
parser.add_argument("--samples", type=int, default=60_000, help="training matrices to draw")
parser.add_argument("--epochs", type=int, default=80)
parser.add_argument("--output", type=Path, default=Path(sys.argv[0]).with_suffix(".png"))
args = parser.parse_args()

title, load = FAMILIES[args.family]
family = load()
n = len(family.center)
X_known, X_unseen, _, Y_unseen = train_test_split(
    family.data, family.target, test_size=0.5, random_state=0
)
print(f"{title}: {len(family.data)} matrices of order {n}")

# %%
# The region
# ----------
#
# The ellipsoid of the known half, and what can be proved of it.

sampler = FeasibleRegionSampler(norm="mahalanobis", random_state=0).fit(X_known)
proved = sampler.certificate_
print(
    f"region     ellipsoid of rank {len(sampler.axes_)} in {n * n} entries, "
    f"{sampler.is_feasible(X_unseen).mean():.1%} of the unseen inside\n"
    f"proof      {'certified' if sampler.is_certified_ else 'not certified'}: margin "
    f"{sampler.margin_:.3g} to the singular matrices\n"
    f"           by the test '{proved.test}'"
    f"{'' if sampler.is_certified_ else '; each sample is tested by itself'}"
)

# %%
# Training
# --------
#
# Matrices drawn from the region, and two estimators.

X, Y = sampler.sample(args.samples)
linear = LinearInverseApprox().fit(X)
neural = NeuralInverseRegressor(max_iter=args.epochs, random_state=0)
neural.set_params(verbose=int(sys.stderr.isatty()))  # a progress bar where somebody looks
start = time.perf_counter()
neural.fit(X, Y)
print(f"training   {args.samples:,} samples, {time.perf_counter() - start:.1f} s")

# %%
# Judgement
# ---------
#
# On the half that was never seen, where the region says to trust. The error is that of an entry of
# the inverse, the residual the mean of ‖I − A·X‖ in the Frobenius norm. The inverses of
# ``numpy.linalg.inv`` are the reference, so their error is 0 by definition.

inside = sampler.is_feasible(X_unseen)
X_test, Y_test = X_unseen[inside], Y_unseen[inside]
many = np.tile(X_test, (20, 1))  # a batch long enough to be timed


def lapack(X):
    """Invert rows exactly."""
    return np.linalg.inv(X.reshape(-1, n, n)).reshape(X.shape)


def microseconds_per_matrix(predict, X, repeats=9):
    """Return the median time of predicting all of X at once, per matrix."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        predict(X)
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times)) / len(X)


print(f"{'':<24}{'mean |error|':>14}{'largest':>12}{'residual':>12}{'µs/matrix':>12}")
methods = {
    "numpy.linalg.inv": lapack,
    "LinearInverseApprox": linear.predict,
    "  of order 2": LinearInverseApprox(order=2).fit(X).predict,
    "  of order 3": LinearInverseApprox(order=3).fit(X).predict,
    "NeuralInverseRegressor": neural.predict,
}
errors = {}
for name, predict in methods.items():
    Y_model = predict(X_test)
    error = np.abs(Y_model - Y_test)
    errors[name] = error.mean()
    print(
        f"{name:<24}{error.mean():>14.2e}{error.max():>12.2e}"
        f"{residual_norms(X_test, Y_model).mean():>12.2e}"
        f"{microseconds_per_matrix(predict, many):>12.2f}"
    )
ratio = errors["LinearInverseApprox"] / errors["NeuralInverseRegressor"]
print(f"The network's error is 1/{ratio:.0f} of the linear approximation's (first order).")

# %%
# How far to trust it
# -------------------
#
# Errors of the unseen matrices, against their distance to the singular ones; and what becomes of
# them when some are moved toward their nearest singular matrix. Beyond the end of the region nobody
# has promised anything.

models = {"linear (first order)": linear, "neural": neural}
A = X_test.reshape(-1, n, n)
toward = nearest_singular(A[:40]) - A[:40]
steps = 1 - np.geomspace(1, 1e-3, 25)
walk = np.concatenate([(A[:40] + t * toward).reshape(-1, n * n) for t in steps])

figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for axes, rows, name in (
    (panels[0], X_test, "unseen matrices, all in the region"),
    (panels[1], walk, "40 of them, moved toward their nearest singular matrix"),
):
    exact = lapack(rows)
    distance = distance_to_singularity(rows.reshape(-1, n, n))
    for (label, model), color in zip(models.items(), ("#0072B2", "#D55E00"), strict=True):
        error = absolute_errors(exact, model.predict(rows))
        axes.plot(distance, error, "o", color=color, ms=3, alpha=0.3, mew=0)
        profile = SingularDistanceScorer().profile(model, rows, exact, n_bins=10)
        axes.plot(profile.distance, profile.error, "-", color=color, lw=2, label=label)
    axes.set(
        yscale="log",
        xlabel="distance to the nearest singular matrix (l2)",
        ylabel="mean absolute error of the inverse",
        title=name,
    )
    axes.grid(alpha=0.25)
ends = distance_to_singularity(walk[sampler.is_feasible(walk)].reshape(-1, n, n)).min()
panels[1].axvline(ends, color="0.3", ls="--", lw=1, label="the region ends")
panels[1].set_xscale("log")
for axes in panels:
    axes.legend()
figure.suptitle(title)
figure.savefig(args.output, dpi=120)
print(f"Picture: {args.output.name}")
