"""
Bootstrap precision matrices: an honest failure
===============================================

You bootstrap something that needs the inverse of a covariance matrix: partial correlations,
Mahalanobis distances, discriminants. Thousands of covariances of one data set, all near a known
one, look like a family of matrices to learn inverses of. They are not, and three things say so
before anybody is misled: the region test, the residual of each prediction, and the fallback of
:class:`~skinv.CertifiedInverse`. This example shows what goes wrong, the rule behind it, and how
large samples, or how strong shrinkage, would have to be.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.covariance import empirical_covariance, ledoit_wolf_shrinkage, shrunk_covariance
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
)
from skinv.metrics import relative_errors

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"

data = StandardScaler().fit_transform(load_breast_cancer().data)
n_patients, p = data.shape


def bootstrap(data, n_matrices, size, seed):
    """Return covariances of samples of `size` rows, drawn with replacement."""
    rng = np.random.default_rng(seed)
    draws = (data[rng.integers(len(data), size=size)] for _ in range(n_matrices))
    return np.stack([empirical_covariance(rows) for rows in draws])


start = time.perf_counter()
covariances = bootstrap(data, 3500, n_patients, seed=0)
covariance_time = 1e6 * (time.perf_counter() - start) / len(covariances)
known, unseen = covariances[:3000], covariances[3000:]
exact = np.linalg.inv(unseen)
print(f"{n_patients} patients, {p} features: {len(known)} bootstrap covariances to learn from")
print(f"condition number of their mean: {np.linalg.cond(known.mean(axis=0)):.0f}")

# %%
# The region test says no
# -----------------------
#
# A region is fitted to the known matrices, as to any family. The box around them reaches singular
# matrices, and so may the ellipsoid: nothing can be proven of either, and ``is_certified_`` is
# False. The spectral radius of \|C⁻¹\|Δ, with C the centre and Δ the half-widths, would have to
# be below 1.
#
# Neither is it a matter of a better proof. Of matrices drawn from the box, entry by entry, not one
# is positive definite: covariances are a thin set in it, and a network trained on samples from this
# box would be trained on something else.

box = FeasibleRegionSampler(random_state=0).fit(known)
ellipsoid = FeasibleRegionSampler(norm="mahalanobis", random_state=0).fit(known)
for name, region in (("box", box), ("ellipsoid", ellipsoid)):
    print(f"{name:<10} certified: {region.is_certified_}, margin {region.margin_:.2g}")
    assert not region.is_certified_
    assert region.margin_ < 0
reach = np.abs(np.linalg.inv(box.center_)) @ box.radius_
print(f"spectral radius of |C⁻¹|Δ: {np.abs(np.linalg.eigvals(reach)).max():.0f}")
drawn = box.sample(500, return_inverse=False).reshape(-1, p, p)
definite = np.linalg.eigvalsh((drawn + drawn.transpose(0, 2, 1)) / 2)[:, 0] > 0
print(f"{definite.sum()} of {len(drawn)} samples from the box are positive definite (symmetrised)")
assert not definite.any()

# %%
# The smallest error, and the least use
# -------------------------------------
#
# Then train on bootstrap covariances themselves, of which there can be as many as one likes. The
# network has the smallest error by far, in shares of the norm of the inverse. But that norm is made
# by a few features that are nearly collinear (radius, perimeter and area of cell nuclei), and along
# the directions in which the data vary most, that share of it is more than all that the inverse has
# there. Many predictions have a negative determinant.
#
# The residual R = I − A·X shows it without any exact inverse. A refinement step squares it, so it
# takes a spectral radius below 1 to refine and prove an inverse; without that there is nothing left
# to :class:`~skinv.CertifiedInverse` but LAPACK. By that measure the first-order approximation is
# better, with a larger error.
#
# The last network is a remedy. C = L·Lᵀ is known, and who learns to invert L⁻¹·A·L⁻ᵀ, which is near
# the identity, is judged by the loss in coordinates that count.

L_inverse = np.linalg.inv(np.linalg.cholesky(known.mean(axis=0)))
known_white, unseen_white = (L_inverse @ stack @ L_inverse.T for stack in (known, unseen))
network = NeuralInverseRegressor(256, max_iter=15, random_state=0)
with warnings.catch_warnings():
    # That the series diverges for a third of them is what the table shows.
    warnings.simplefilter("ignore", ConvergenceWarning)
    first_order = LinearInverseApprox().fit(known)
models = {
    "first order": (first_order, unseen),
    "affine fit": (LinearInverseApprox(method="lstsq").fit(known), unseen),
    "network": (clone(network).fit(known), unseen),
    "network, whitened": (clone(network).fit(known_white), unseen_white),
}


def mahalanobis(precision):
    """Return squared distances of the first 100 patients from the mean, under each matrix."""
    return np.einsum("ki,mij,kj->mk", data[:100], precision, data[:100])


def microseconds(function, stack):
    """Return the time that a function of a stack takes, per matrix."""
    start = time.perf_counter()
    function(stack)
    return 1e6 * (time.perf_counter() - start) / len(stack)


def without_fallback(report):
    """Return the share of matrices that needed no LAPACK."""
    return np.isin(report.status, ("predicted", "refined")).mean()


heads = ("error", "distances", "det < 0", "ρ(R) < 1", "no LAPACK")
print(f"{'':<18}" + "".join(f"{head:>11}" for head in heads) + f"{'µs':>6}")
true_distances = mahalanobis(exact)
error, distances, off, radius, share = {}, {}, {}, {}, {}
for name, (model, A) in models.items():
    certified = CertifiedInverse(model)
    report = certified.report(A)
    assert (report.bound <= certified.tol).all()  # whoever answers: every inverse is proven
    share[name] = without_fallback(report)
    X = model.predict(A)
    radius[name] = np.abs(np.linalg.eigvals(np.eye(p) - A @ X)).max(axis=1)
    if A is unseen_white:
        X = L_inverse.T @ X @ L_inverse
    error[name] = relative_errors(exact, X)
    distances[name] = mahalanobis(X)
    off[name] = np.abs(distances[name] / true_distances - 1).mean()
    print(
        f"{name:<18}{error[name].mean():>11.3f}{off[name]:>11.3f}"
        f"{(np.linalg.slogdet(X).sign < 0).mean():>11.0%}{(radius[name] < 1).mean():>11.0%}"
        f"{share[name]:>11.1%}{microseconds(certified.predict, A):>6.0f}"
    )
print(f"{'numpy.linalg.inv':<73}{microseconds(np.linalg.inv, unseen):>6.0f}")
print(f"{'the covariance, before any inverse':<73}{covariance_time:>6.0f}")
assert error["network"].mean() < 0.5 * error["first order"].mean()
assert share["network"] < 0.2 * share["first order"]
assert share["network, whitened"] > 2 * share["network"]
assert off["network, whitened"] < 0.5 * off["network"]
assert all(share[name] <= (radius[name] < 1).mean() for name in models)

colors = dict(zip(models, (BLUE, PURPLE, VERMILION, GREEN), strict=True))
places = ((0.19, 0.24), (0.08, 27), (0.0085, 27), (0.014, 0.3))
figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.8), layout="constrained")
left.axhspan(1e-2, 1, color="0.93", zorder=0)
for (name, color), place in zip(colors.items(), places, strict=True):
    left.plot(error[name], radius[name], "o", color=color, ms=3.5, alpha=0.3, mew=0)
    left.annotate(name, place, color=color, ha="center", weight="bold")
left.annotate(
    "shaded: can be refined and proven", (0.98, 0.02), xycoords="axes fraction", ha="right"
)
left.set(
    xscale="log",
    yscale="log",
    xlim=(0.005, 0.5),
    ylim=(0.15, 40),
    xlabel="relative error of the inverse, ‖X − A⁻¹‖ / ‖A⁻¹‖",
    ylabel="spectral radius of the residual I − A·X",
    title="The smallest error has the largest residual",
)
for name in ("network", "network, whitened"):
    ratio = distances[name][:100] / true_distances[:100]
    right.plot(true_distances[:100], ratio, "o", color=colors[name], ms=2.5, alpha=0.15, mew=0)
right.axhline(0, color="0.2", lw=1)
right.annotate("network", (9, 2.2), color=VERMILION, weight="bold")
right.annotate("network, whitened", (120, 1.2), color=GREEN, weight="bold")
_ = right.set(
    xscale="log",
    ylim=(-0.8, 2.8),
    xlabel="squared Mahalanobis distance of a patient",
    ylabel="by the network, as a multiple of that",
    title=f"Patients' distances are off by {off['network']:.0%}, some negative",
)

# %%
# What would make it work
# -----------------------
#
# The eigenvalues of C⁻¹(A − C) decide. Let q be the largest in absolute value: the residual of the
# first order has spectral radius q², so q < 1 is needed. Collinear features do not matter to it,
# for q is the same after whitening; the number of observations per feature does. Of normal data
# random matrix theory knows the largest eigenvalue of a whitened covariance, (1 + √(p/m))²
# (Marchenko and Pastur 1967), so q is about 2√(p/m) + p/m, and below 1 for m > 5.83 p. The Neumann
# series of channel matrices has the same limit. Wine and diabetes data keep to it; the heavy tails
# of the cancer data ask for far more observations.
#
# Shrinkage toward the mean variance helps as well. scikit-learn's
# :class:`~sklearn.covariance.LedoitWolf` shrinks by as much as the data ask for (the line in the
# map), which is less than a learned inverse would like. Frames show where the box around 200
# covariances is proven to hold no singular matrix, before any further one arrives.

sizes = np.round(n_patients * 2.0 ** np.arange(-3, 5)).astype(int)
shrinkages = np.array([0, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9])
proven, certified = np.empty((8, 8)), np.empty((8, 8), dtype=bool)
ledoit_wolf = np.empty(8)
for j, size in enumerate(sizes):
    stack = bootstrap(data, 400, size, seed=j)
    for i, shrinkage in enumerate(shrinkages):
        A, A_new = np.split(shrunk_covariance(stack, shrinkage), 2)
        with warnings.catch_warnings():
            # Where it diverges is what the map shows.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = CertifiedInverse(LinearInverseApprox()).fit(A)
        proven[i, j] = without_fallback(model.report(A_new))
        certified[i, j] = FeasibleRegionSampler().fit(A).is_certified_
    rng = np.random.default_rng(j)
    rows = (data[rng.integers(n_patients, size=size)] for _ in range(5))
    ledoit_wolf[j] = np.mean([ledoit_wolf_shrinkage(sample) for sample in rows])
usual = int(np.flatnonzero(sizes == n_patients)[0])
asked = np.interp(ledoit_wolf, shrinkages, np.arange(8))
print(f"\nproven without LAPACK: {proven[0, usual]:.0%} of the usual bootstrap covariances")
print(f"Ledoit-Wolf shrinkage: {ledoit_wolf[usual]:.3f}; with 0.3: {proven[4, usual]:.0%}")
print(f"16 times as many observations, no shrinkage: {proven[0, -1]:.0%}")
assert proven[0, 0] < 0.1
assert proven[0, usual] < 0.8
assert min(proven[4, usual], proven[0, -1]) > 0.95
assert not certified[:6, usual].any()
assert (proven[certified] == 1).all()

families = {
    "cancer, p = 30": (data, VERMILION, "o"),
    "wine, p = 13": (load_wine().data, BLUE, "s"),
    "diabetes, p = 10": (load_diabetes().data, GREEN, "^"),
    "normal, p = 30": (np.random.default_rng(0).standard_normal((100_000, 30)), "0.5", "D"),
}
per_feature = np.array([2, 4, 8, 16, 32, 64])
figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.8), layout="constrained", width_ratios=(1.2, 1)
)
left.imshow(proven, cmap="cividis", vmin=0, vmax=1, origin="lower", aspect="auto")
for (i, j), value in np.ndenumerate(proven):
    color = "k" if value > 0.5 else "w"
    left.text(j, i, f"{value:.0%}", ha="center", va="center", color=color, size=9, zorder=3)
    if certified[i, j]:
        left.add_patch(plt.Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, lw=2.5))
left.plot(asked, "-", color=VERMILION, lw=2.5)
left.annotate("shrinkage of Ledoit and Wolf", (4.1, 1.45), color="#9E3D00", weight="bold", size=9)
left.set(
    xticks=range(8),
    xticklabels=[f"{size}\n(the data)" if size == n_patients else size for size in sizes],
    yticks=range(8),
    yticklabels=[f"{value:g}" for value in shrinkages],
    xlabel="size of the bootstrap samples",
    ylabel="shrinkage",
    title="Proven without LAPACK (framed: the whole box)",
)
for name, (rows, color, marker) in families.items():
    largest = []
    for ratio in per_feature:
        stack = bootstrap(rows, 100, ratio * rows.shape[1], seed=0)
        eigenvalues = np.linalg.eigvals(np.linalg.solve(stack.mean(axis=0), stack)).real
        largest.append(np.median(np.abs(eigenvalues - 1).max(axis=1)))
    right.plot(per_feature, largest, marker + "-", color=color, ms=6, label=name)
ratio = np.geomspace(2, 64, 100)
right.plot(ratio, 2 / np.sqrt(ratio) + 1 / ratio, "k--", lw=1, label="Marchenko and Pastur")
right.axhspan(0, 1, color="0.93", zorder=0)
right.set(
    xscale="log",
    yscale="log",
    xticks=per_feature,
    xticklabels=per_feature,
    xlabel="observations per feature, m / p",
    ylabel="q: largest |eigenvalue| of C⁻¹(A − C), median",
    title="Heavy tails, not collinear features, make it hard",
)
right.minorticks_off()
right.set_yticks([0.3, 0.5, 1, 2, 3], ["0.3", "0.5", "1", "2", "3"])
right.annotate("shaded: refinement converges", (0.02, 0.02), xycoords="axes fraction")
_ = right.legend()

# %%
# What to use instead
# -------------------
#
# LAPACK. The covariance of m observations takes m/p times the operations of its inverse, so there
# is little to gain even where all goes well, and several steps of refinement cost more than an
# inverse (see the last column of the table). Where samples are small, shrinkage is right for a
# reason of its own: with :class:`~sklearn.covariance.LedoitWolf` the estimate itself gets better.
# :class:`~sklearn.covariance.GraphicalLasso` estimates a sparse precision matrix directly, and has
# no inverse that something else could replace. What is left to skinv are runtimes without LAPACK
# (:ref:`sphx_glr_generated_gallery_plot_deploy.py`), where the map is yellow.
