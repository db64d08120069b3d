"""
Inverses with proofs
====================

A power grid is watched through the Jacobians of its equations. Most lie where the last ones did;
some come from a disturbed grid, some are singular because a line has failed, some are garbage. Each
gets its inverse with a proven error, or a word on why there is none. Then the same for solutions of
linear systems, and for the worst case of a model over all of its region.
"""

import numpy as np

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
)
from skinv.bounds import certify_region, taylor_bound
from skinv.datasets import load_power_flow, make_region

# %%
# Every answer with its proof
# ---------------------------
#
# The first order at the mean of known Jacobians makes a guess, matrix products refine it, and their
# residual proves the error. Whatever cannot be proven so goes to LAPACK, whose error is proven too.
# A singular matrix or garbage spoils no other row.

jacobians = load_power_flow("case9").data  # 14 x 14, as rows of 196 entries
known, stream = jacobians[: len(jacobians) // 2], jacobians[len(jacobians) // 2 :].copy()
rng = np.random.RandomState(0)
stream[::50] *= 1 + 0.5 * rng.standard_normal((len(stream[::50]), 1))  # a disturbed grid
stream[7].reshape(14, 14)[3] = 0.0  # a failed line: singular
stream[11, 5] = np.nan  # garbage

model = CertifiedInverse(LinearInverseApprox(), tol=1e-8).fit(known)
report = model.report(stream)
print("status of", len(stream), "matrices:")
for status, count in zip(*np.unique(report.status, return_counts=True), strict=True):
    rows = report.status == status
    print(f"  {status:<12} {count:>5}   largest proven error {report.bound[rows].max():.1e}")
good = np.isfinite(report.bound)
errors = np.linalg.norm(
    report.inverse[good] - np.linalg.inv(stream[good].reshape(-1, 14, 14)).reshape(-1, 196), axis=1
) / np.linalg.norm(report.inverse[good], axis=1)
print(f"  true errors of the {good.sum()} proven ones: at most {errors.max():.1e}")
assert (errors <= report.bound[good] + 1e-13).all()

# %%
# Solving, without inverting
# --------------------------
#
# A Newton step needs A⁻¹b only. The inverse of the centre serves all matrices near it, in O(n²)
# operations each.

mismatch = rng.standard_normal((len(stream), 14))
step, bound = model.solve(stream, mismatch, return_bound=True)
proven = bound <= model.tol
print(f"Newton steps of {len(stream)} grids: {proven.sum()} proven to {model.tol:g}")
residual = np.einsum("kij,kj->ki", stream[proven].reshape(-1, 14, 14), step[proven])
largest = np.abs(residual - mismatch[proven]).max()
print(f"  largest residual {largest:.1e}")
assert proven.sum() == good.sum()

# %%
# The worst case of a model over its region
# -----------------------------------------
#
# The largest error of test matrices says little of the worst one: it sits in a corner that samples
# rarely come near. :func:`~skinv.bounds.certify_region` encloses it.

region = make_region("2x2-first", random_state=0).sampler
X, Y = region.sample(20_000)
X_test, Y_test = region.sample(10_000)
linear = LinearInverseApprox(region.center_).fit()
network = NeuralInverseRegressor(max_iter=40, random_state=0).fit(X, Y)
print("largest error over the region [[3, 1], [1, 2]] ± 0.5:")
print(f"  {'':<22}{'10,000 samples':>16}{'proven':>22}")
for name, estimator in (("first order", linear), ("network", network)):
    seen = np.abs(estimator.predict(X_test) - Y_test).max()
    proof = certify_region(estimator, region)
    print(f"  {name:<22}{seen:>16.4f}{proof.lower:>12.4f} to {proof.upper:.4f}")
    assert seen <= proof.upper
closed = taylor_bound(region.center_, region.radius_)
print(f"  first order, in closed form: {closed.max_error:.4f} ({closed.test})")

# %%
# Regions
# -------
#
# Of the ellipsoid around the grid's Jacobians it can be proven that it holds no singular matrix,
# before any further one arrives.

grid = FeasibleRegionSampler(norm="mahalanobis").fit(known)
print(f"no matrix of the grid's ellipsoid is singular: {grid.is_certified_}")
print(f"  by the test: {grid.certificate_.test}, margin {grid.margin_:.3f}")
assert grid.is_certified_
