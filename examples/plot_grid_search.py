"""
Which region, and which network? A grid search
==============================================

You have two sensors with crosstalk, thousands of their 2×2 mixing matrices from calibration, and
want to unmix by a learned inverse. How large should its region be, and how large the network? That
is a job for :class:`~sklearn.model_selection.GridSearchCV`. But one matrix in a hundred comes from
a fault, in which both sensors see nearly the same: it is nearly singular, and its inverse is huge.
A mean error is made by these few and says nothing of the others.
:class:`~skinv.SingularDistanceScorer` leaves them out, and chooses well.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    NeuralInverseRegressor,
    SingularDistanceScorer,
)
from skinv.geometry import distance_to_singularity, nearest_singular
from skinv.metrics import absolute_errors

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
NOMINAL = np.array([[3.0, 1.0], [1.0, 2.0]])


def calibrate(n_matrices, seed, faults=0.01):
    """Return mixing matrices as rows, a share of them moved toward their nearest singular one."""
    rng = np.random.default_rng(seed)
    A = NOMINAL + 0.2 * rng.standard_normal((n_matrices, 2, 2))
    faulty = rng.uniform(size=n_matrices) < faults
    left = 10 ** rng.uniform(-4, 0, (faulty.sum(), 1, 1))
    A[faulty] += (1 - left) * (nearest_singular(A[faulty]) - A[faulty])
    return A.reshape(-1, 4)


X, X_test = calibrate(2400, seed=0), calibrate(20_000, seed=1)
distance = distance_to_singularity(X.reshape(-1, 2, 2))
for limit in (0.3, 0.1, 0.01):
    print(
        f"{(distance < limit).sum():>3} of {len(X)} matrices are within {limit} of a singular one"
    )

# %%
# The search
# ----------
#
# The region is the first step of a pipeline, and its radius a parameter like any other. Two scores
# are computed of each candidate: the plain mean error, and the mean over matrices at a distance of
# at least 0.3 from the singular ones. What is nearer belongs to LAPACK anyway (see the end).
#
# No targets are passed: the network inverts what the region hands on, and the scorer what it is
# given.

pipeline = Pipeline(
    [
        ("region", FeasibleRegionSampler(NOMINAL, on_infeasible="project")),
        ("network", NeuralInverseRegressor(max_iter=12, random_state=0)),
    ]
)
radii = [0.25, 0.35, 0.5, 0.7, 1.0, 1.5]
grid = {
    "network__activation": ["relu", "silu"],
    "network__hidden_layer_sizes": [8, 32],
    "region__radius": radii,
}
scoring = {
    "plain": SingularDistanceScorer(),
    "guarded": SingularDistanceScorer(min_distance=0.3),
}
folds = KFold(3, shuffle=True, random_state=0)
search = GridSearchCV(pipeline, grid, scoring=scoring, refit="guarded", cv=folds).fit(X)

candidates = search.cv_results_["params"]
errors = {name: -search.cv_results_[f"mean_test_{name}"].reshape(4, -1) for name in scoring}
networks = [
    f"{params['network__hidden_layer_sizes']} {params['network__activation']}"
    for params in candidates[:: len(radii)]
]
chosen = {name: int(errors[name].argmin()) for name in scoring}
for name, k in chosen.items():
    row, column = divmod(k, len(radii))
    print(f"{name + ' mean:':<14} {networks[row]}, radius {radii[column]}")

# %%
# Both maps have the same colours. In the plain one all but the widest regions look alike: a box so
# narrow that most matrices lie outside is next to the best one. Its guarded error is many times the
# best.

for name, error in errors.items():
    print(
        f"{name + ':':<9} radius {radii[0]} is {error[:, 0].min() / error.min():.3g} times the best"
    )
assert errors["plain"][:, 0].min() < 1.05 * errors["plain"].min()
assert errors["guarded"][:, 0].min() > 5 * errors["guarded"].min()

figure, axes = plt.subplots(2, figsize=(8.5, 6), layout="constrained", sharex=True)
titles = {
    "plain": "Plain mean error: faults drown all differences",
    "guarded": "Away from singular matrices: a clear best choice",
}
for ax, (name, error) in zip(axes, errors.items(), strict=True):
    image = ax.imshow(
        error, cmap="cividis_r", norm=LogNorm(5e-4, 10), origin="lower", aspect="auto"
    )
    for (i, j), value in np.ndenumerate(error):
        best = i * len(radii) + j == chosen[name]
        color = "w" if value > 0.07 else "k"
        weight = "bold" if best else "normal"
        text = f"{value:.4f}" if value < 1 else f"{value:.3f}"
        ax.text(j, i, text, ha="center", va="center", color=color, weight=weight)
        if best:
            ax.add_patch(
                plt.Rectangle((j - 0.47, i - 0.46), 0.94, 0.92, fill=False, lw=3, ec=VERMILION)
            )
    ax.set(
        xticks=range(len(radii)),
        xticklabels=radii,
        yticks=range(4),
        yticklabels=networks,
        ylabel="hidden units",
        title=titles[name],
    )
axes[1].set_xlabel("radius of the region")
_ = figure.colorbar(image, ax=axes, label="mean absolute error, 3 folds")

# %%
# On fresh matrices
# -----------------
#
# The plain score is not even sure of its choice: asked fold by fold, it gives other answers, one of
# them absurd. What that costs is seen on fresh matrices.

models = {"guarded": search.best_estimator_}
models["plain"] = clone(pipeline).set_params(**candidates[chosen["plain"]]).fit(X)
for k in range(3):
    best = int(search.cv_results_[f"split{k}_test_plain"].argmax())
    models[f"plain, fold {k + 1}"] = clone(pipeline).set_params(**candidates[best]).fit(X)
print(f"{'chosen by':<16}{'radius':>8}  {'network':<10}{'guarded error':>14}{'plain':>8}")
fresh = {}
for name, model in models.items():
    fresh[name] = {score: -scorer(model, X_test) for score, scorer in scoring.items()}
    step = model["network"]
    print(
        f"{name:<16}{model['region'].radius:>8}  "
        f"{f'{step.hidden_layer_sizes} {step.activation}':<10}"
        f"{fresh[name]['guarded']:>14.5f}{fresh[name]['plain']:>8.3f}"
    )
assert fresh["guarded"]["guarded"] < 0.5 * fresh["plain"]["guarded"]
assert abs(fresh["guarded"]["plain"] / fresh["plain"]["plain"] - 1) < 0.05

# %%
# What a radius means in a pipeline
# ---------------------------------
#
# Nothing is sampled here: with ``on_infeasible="project"`` matrices outside are moved to the
# nearest one inside, in training and in prediction, and the prediction is then the inverse of
# another matrix. (By default they go unanswered, and a score is of those that are answered: of
# regions that refuse most of them, too, so that a search over radii needs a look at their share.)
# Even the exact inverse of a projected matrix has an error (dashed), which no network behind the
# same region can do much about: this is what narrow regions pay. Wide ones pay more. Beyond 5/7 the
# box is not certified any more: faulty matrices pass it untouched, and the network spends itself on
# their inverses. A box that holds all data does nothing at all, and its radius no longer means
# anything.

A_test = X_test.reshape(-1, 2, 2)
exact = np.linalg.inv(A_test)
far = distance_to_singularity(A_test) >= 0.3
floor = []
print(f"{'radius':>6}{'certified':>11}{'projected':>11}{'error of projecting':>21}")
for radius in radii:
    region = FeasibleRegionSampler(NOMINAL, radius, on_infeasible="project").fit()
    projected = np.array(region.transform(X_test))
    moved = (projected != X_test).any(axis=1)
    floor.append(absolute_errors(np.linalg.inv(projected.reshape(-1, 2, 2)), exact)[far].mean())
    print(f"{radius:>6}{region.is_certified_!s:>11}{moved.mean():>11.1%}{floor[-1]:>21.1e}")
    assert region.is_certified_ == (radius < 5 / 7)

figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.8), layout="constrained")
left.axvspan(5 / 7, 1.6, color="0.93", zorder=0)
for name, error, color, marker in zip(
    networks, errors["guarded"], (BLUE, GREEN, PURPLE, VERMILION), "os^D", strict=True
):
    left.plot(radii, error, marker + "-", color=color, ms=6, label=name)
left.plot(radii[:-1], floor[:-1], "k--", lw=1.5)
left.annotate("exact inverses of the\nprojected matrices", (0.5, 5e-5), ha="center")
left.annotate("not certified", (1.57, 5e-5), ha="right")
left.set(
    yscale="log",
    xlim=(0.2, 1.6),
    xlabel="radius of the region",
    ylabel="error away from singular matrices",
    title="Too narrow projects, too wide lets faults in",
)
left.legend(title="hidden units")
worst = max(fresh, key=lambda name: fresh[name]["guarded"])
X_faulty = calibrate(20_000, seed=2, faults=0.5)  # enough of them for a smooth line
for name, color, style in (
    ("guarded", BLUE, "-"),
    ("plain", VERMILION, "--"),
    (worst, PURPLE, "-."),
):
    profile = SingularDistanceScorer().profile(models[name], X_faulty, n_bins=60)
    right.plot(
        profile.distance, profile.error, style, color=color, lw=2, label=f"chosen by: {name}"
    )
right.axvspan(1e-5, 0.3, color="0.93", zorder=0)
right.annotate("left out by min_distance = 0.3", (2e-4, 1e-4))
right.set(
    xscale="log",
    yscale="log",
    xlim=(1e-4, 2.5),
    xlabel="distance to the nearest singular matrix (l2)",
    ylabel="mean absolute error",
    title="All fail near singular matrices, not elsewhere",
)
_ = right.legend()

# %%
# Two things to keep in mind
# --------------------------
#
# *Leave the targets out.* A transformer cannot change them, so a network that is given the exact
# inverses learns to answer a projected matrix by the inverse of the unprojected one, huge ones
# included.
#
# *A matrix outside gets an answer all the same.* :class:`~skinv.CertifiedInverse` around the
# pipeline looks at the matrix itself: what projection has spoilt is refined, or goes to LAPACK, and
# every error is proven.

inverses = np.linalg.inv(X.reshape(-1, 2, 2)).reshape(-1, 4)
with_targets = -scoring["guarded"](clone(search.best_estimator_).fit(X, inverses), X_test)
print(f"fitted with targets: error {with_targets:.3f} instead of {fresh['guarded']['guarded']:.5f}")
assert with_targets > 100 * fresh["guarded"]["guarded"]

report = CertifiedInverse(search.best_estimator_).report(X_test)
inside = search.best_estimator_["region"].is_feasible(X_test)
print(f"{'':<12}{'inside':>8}{'outside':>8}")
for status in np.unique(report.status):
    counts = [(report.status[rows] == status).sum() for rows in (inside, ~inside)]
    print(f"{status:<12}{counts[0]:>8}{counts[1]:>8}")
print(f"largest proven error: {report.bound.max():.1e}")
assert (report.bound <= 1e-6).all()
assert np.isin(report.status[inside], ("predicted", "refined")).all()
