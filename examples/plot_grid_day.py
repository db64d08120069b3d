"""
A day of a power grid: the centre follows
=========================================

Every five minutes a control room looks at a hundred scenarios of what its grid may do next: loads a
little higher here, a little lower there. For each the Jacobian J of the power flow is at hand, and
J x = b has to be solved. All hundred are near a matrix whose inverse is known, and so every
solution is cheap and proven, by :meth:`skinv.CertifiedInverse.solve`. But by day the grid is no
longer what it was at night. When does the known matrix have to move, and what does it cost?
"""

# %%
# The day
# -------
# Jacobians of the 30-bus grid of :func:`skinv.datasets.load_power_flow`, of order 53. The data set
# has 500 of them, for loads of its three areas between 70 and 120 %; between these they are smooth,
# and polynomials of the loads give those of a day.

import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import lu_factor, lu_solve
from sklearn.preprocessing import PolynomialFeatures

from skinv import CertifiedInverse, LinearInverseApprox
from skinv.datasets import load_power_flow

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
STEPS, SCENARIOS, TOL = 288, 100, 1e-8

grid, features = load_power_flow("case30"), PolynomialFeatures(6)
known = features.fit_transform(grid.parameters - 1)
coefficients = np.linalg.lstsq(known[::2], grid.data[::2], rcond=None)[0]
off = np.abs(known[1::2] @ coefficients - grid.data[1::2]).max()
print(f"polynomials of the loads: {off:.0e} off Jacobians that were left out")
assert off < 1e-7

rng = np.random.default_rng(0)
hours = np.arange(STEPS) / 12
peaks = (hours[:, None] - [8.5, 9, 10], hours[:, None] - [19, 18.5, 20])  # of the three areas
usual = 0.75 + 0.25 * np.exp(-((peaks[0] / 3.5) ** 2)) + 0.37 * np.exp(-((peaks[1] / 2.5) ** 2))
loads = usual[:, None] + 0.02 * rng.standard_normal((STEPS, SCENARIOS, 3))
n = len(grid.center)
J = features.transform(loads.reshape(-1, 3) - 1) @ coefficients
J = J.reshape(STEPS, SCENARIOS, n, n)
b = rng.standard_normal((STEPS, SCENARIOS, n))

# %%
# Three ways through it
# ---------------------
# The model that is fitted to the first block and never moved; the same with ``partial_fit``, which
# looks at a few matrices of every block and moves the centre when more than half of them are past
# ``max_distance``; and what one would do without skinv: LAPACK for every matrix, or the LU factors
# of the last centre with corrections by iteration, of which nothing is proven. Times are of the
# processor, those of second calls, since first ones pay for memory; ``partial_fit`` is included.


def refined(factors, A, b):
    """Solve by the factors of another matrix, until corrections are within the tolerance."""
    x = lu_solve(factors, b.T).T
    for _ in range(50):
        correction = lu_solve(factors, (b - np.matvec(A, x)).T).T
        x = x + correction
        if (np.linalg.norm(correction, axis=1) <= TOL * np.linalg.norm(x, axis=1)).all():
            break
    return x


NAMES = "centre that follows", "centre of midnight", "refined LU", "numpy.linalg.solve"
taken = {name: np.zeros(STEPS) for name in NAMES}
share, moved, reach = np.zeros((2, STEPS)), np.zeros(STEPS, dtype=int), np.zeros((2, STEPS))


def timed(name, k, function, *args, again=True):
    """Call a function, and note how long that took, or took the second time."""
    if again:
        function(*args)
    start = time.thread_time()
    result = function(*args)
    taken[name][k] += time.thread_time() - start
    return result


follows = CertifiedInverse(LinearInverseApprox(), tol=TOL).fit(J[0])
stays = CertifiedInverse(LinearInverseApprox(), tol=TOL).fit(J[0])
factors, worst = lu_factor(J[0].mean(axis=0)), 0.0
for k in range(STEPS):
    A = J[k]
    x, bound = timed(NAMES[0], k, follows.solve, A, b[k], True)
    timed(NAMES[0], k, follows.partial_fit, A, again=False)
    _, bound_of_midnight = timed(NAMES[1], k, stays.solve, A, b[k], True)
    timed(NAMES[2], k, refined, factors, A, b[k])
    exact = timed(NAMES[3], k, np.linalg.solve, A, b[k][:, :, None])[:, :, 0]
    moved[k] = follows.n_moves_
    if moved[k] > moved[k - 1]:
        factors = timed(NAMES[2], k, lu_factor, A.mean(axis=0))
    share[:, k] = (bound <= TOL).mean(), (bound_of_midnight <= TOL).mean()
    for row, model in enumerate((follows, stays)):
        E = A[::10] - model.estimator_.center_
        reach[row, k] = np.linalg.norm(model.estimator_.inverse_ @ E, axis=(1, 2)).max()
    worst = max(worst, (np.linalg.norm(x - exact, axis=1) / np.linalg.norm(exact, axis=1)).max())

print(f"the centre moved {moved[-1]} times; {share[0].min():.0%} proven, at every step")
print(f"largest difference from LAPACK's solutions: {worst:.0e}")
for name in NAMES:
    print(f"{name:<22}{1e6 * np.median(taken[name]):>7.0f} µs per step, median")
assert (share == 1).all()
assert worst < TOL
assert 2 <= moved[-1] <= 20
assert reach[0].max() < 0.8 * reach[1].max()

# %%
# All solutions are proven, those by the centre of midnight, too. But in the evening that is so far
# away that what is known of it proves little: then every matrix is looked at by itself, for more
# than LAPACK takes. The centre that follows never gets there. A move costs about as much as a step,
# and there are few of them.
#
# One centre is enough. Several would save some of these moves, and would ask of every matrix which
# one is the nearest.

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
figure, (top, middle, bottom) = plt.subplots(
    3, 1, figsize=(9, 8), sharex=True, layout="constrained", height_ratios=(1, 1.2, 1.2)
)
for area, color in enumerate((BLUE, VERMILION, GREEN)):
    low, high = np.quantile(loads[:, :, area], (0.05, 0.95), axis=1)
    top.fill_between(hours, low, high, color=color, alpha=0.2, lw=0)
    top.plot(hours, usual[:, area], color=color, label=f"area {area + 1}")
top.set(ylabel="load, of the usual", title="What the grid carries")
top.legend(frameon=False, ncols=3)
at_moves = hours[1:][np.diff(moved) > 0]
for ax in (top, middle, bottom):
    for hour in at_moves:
        ax.axvline(hour, color="0.8", lw=1, zorder=0)
middle.plot(hours, reach[1], color=VERMILION)
middle.plot(hours, reach[0], color=BLUE)
middle.axhline(LinearInverseApprox().max_distance, color="0.4", ls="--", lw=1)
middle.annotate("max_distance", (0.2, 0.21), color="0.4")
middle.annotate("centre of midnight", (12.2, 0.25), color=VERMILION)
middle.annotate("centre that follows", (9.2, 0.01), color=BLUE)
middle.set(ylabel="‖I − A₀⁻¹A‖, farthest", title="How far the scenarios are from the known matrix")
for name, color in zip(NAMES, (BLUE, VERMILION, GREEN, "0.3"), strict=True):
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(taken[name], 13), axis=1)
    bottom.plot(hours[6:-6], 1e6 * smooth / SCENARIOS, color=color, label=name)
bottom.set(
    xlabel="hour of the day",
    ylabel="µs per solution",
    xlim=(0, 24),
    ylim=(0, None),
    title="What a proven solution costs, beside what proves nothing",
)
_ = bottom.legend(frameon=False, ncols=2)
