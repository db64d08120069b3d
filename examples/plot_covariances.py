"""
Bootstrap precision matrices: an honest failure
===============================================

You bootstrap a partial correlation: some thousand resamples, a covariance matrix of each, and the
inverse of every one. Covariances of one data set, positive definite, all near a known one: that
looks like a family of matrices to learn inverses of. It is not, and three answers say so before
anybody is misled: the region test, the residual of each prediction, and the fallback of
:class:`~skinv.CertifiedInverse`. This example shows what goes wrong, which rule is behind it, and
how large the samples, or how strong the shrinkage, would have to be.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from sklearn.covariance import (
    LedoitWolf,
    empirical_covariance,
    graphical_lasso,
    ledoit_wolf_shrinkage,
    shrunk_covariance,
)
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.preprocessing import StandardScaler

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
)
from skinv.metrics import relative_errors, residual_norms

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"

data = StandardScaler().fit_transform(load_breast_cancer().data)
n_patients, p = data.shape


def bootstrap(data, n_matrices, size, seed):
    """Return covariances of samples of `size` rows, drawn with replacement."""
    rng = np.random.default_rng(seed)
    draws = (data[rng.integers(len(data), size=size)] for _ in range(n_matrices))
    return np.stack([empirical_covariance(rows) for rows in draws])


start = time.perf_counter()
covariances = bootstrap(data, 4000, n_patients, seed=0)
covariance_time = (time.perf_counter() - start) / len(covariances)
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
# A network with a small error and not one usable inverse
# -------------------------------------------------------
#
# Train on the bootstrap covariances themselves, then, of which there can be as many as one likes.
# The network has by far the smallest error, 3 % of the inverse. But that inverse is dominated by a
# few nearly collinear features (radius, perimeter and area of a nucleus), and 3 % of it is more
# than the whole rest: hardly a prediction is positive definite, and partial correlations beyond ±1
# come out. The residual ‖I − A·X‖ shows it, without knowing any exact inverse: it must be below 1
# for a proof, and the smallest of the network's is far above.
#
# The last line is the remedy. C = L·Lᵀ is known, and a network that learns to invert L⁻¹·A·L⁻ᵀ,
# which is near the identity, is judged by its loss in the coordinates that count.

L_inverse = np.linalg.inv(np.linalg.cholesky(known.mean(axis=0)))
whitened, whitened_unseen = (L_inverse @ stack @ L_inverse.T for stack in (known, unseen))
network = NeuralInverseRegressor(256, max_iter=15, random_state=0)
plain = {
    "first order": LinearInverseApprox().fit(known),
    "affine fit": LinearInverseApprox(method="lstsq").fit(known),
    "network": network.fit(known),
}
rows = {name: (unseen, model.predict(unseen), CertifiedInverse(model)) for name, model in plain.items()}
white = NeuralInverseRegressor(256, max_iter=15, random_state=0).fit(whitened)
rows["network, whitened"] = (whitened_unseen, white.predict(whitened_unseen), CertifiedInverse(white))


def partial_correlations(precision):
    """Return them as they come, beyond ±1 if the precision matrix is not positive definite."""
    scale = np.sqrt(np.abs(np.einsum("kii->ki", precision)))
    return -precision / (scale[:, :, None] * scale[:, None, :])


print(f"{'':<20}{'error':>8}{'residual':>10}{'definite':>10}{'no fallback':>13}{'µs':>6}")
summary = {}
for name, (A, X, certified) in rows.items():
    start = time.perf_counter()
    report = certified.report(A)
    microseconds = 1e6 * (time.perf_counter() - start) / len(A)
    assert (report.bound <= certified.tol).all()  # whoever answers: every inverse is proven
    residual = residual_norms(A, X)
    if A is whitened_unseen:
        X = L_inverse.T @ X @ L_inverse
    error = relative_errors(exact, X)
    definite = np.linalg.eigvalsh((X + X.transpose(0, 2, 1)) / 2)[:, 0] > 0
    share = np.isin(report.status, ("predicted", "refined")).mean()
    summary[name] = error, residual, definite.mean(), share, partial_correlations(X)
    print(
        f"{name:<20}{error.mean():>8.3f}{np.median(residual):>10.1f}{definite.mean():>10.0%}"
        f"{share:>13.0%}{microseconds:>6.0f}"
    )
start = time.perf_counter()
np.linalg.inv(unseen)
print(f"{'numpy.linalg.inv':<56}{'':>5}{1e6 * (time.perf_counter() - start) / len(unseen):>6.0f}")
print(f"{'the covariance itself':<56}{'':>5}{1e6 * covariance_time:>6.0f}")
assert summary["network"][0].mean() < 0.5 * summary["first order"][0].mean()
assert summary["network"][1].min() > 1 and summary["network"][3] == 0
assert summary["network, whitened"][3] > 0.5

figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
for (name, (error, residual, *_)), color in zip(
    summary.items(), (BLUE, PURPLE, VERMILION, GREEN), strict=True
):
    axes[0].plot(error, residual, "o", color=color, ms=3, alpha=0.35, mew=0)
    place = np.median(error), np.median(residual)
    axes[0].annotate(name, place, color=color)
axes[0].axhspan(1e-2, 1, color="0.92", zorder=0)
axes[0].set(xscale="log", yscale="log", ylim=(0.1, None))
truth = partial_correlations(exact)
above = np.triu_indices(p, 1)
for name, color in (("network", VERMILION), ("network, whitened", GREEN)):
    axes[1].plot(truth[:50][:, *above].ravel(), summary[name][4][:50][:, *above].ravel(), "o", color=color, ms=2, alpha=0.3, mew=0)
print((np.abs(summary["network"][4])[:, *above] > 1).any(axis=1).mean())
