"""Break a network on purpose, and look at what it has learned.

Somebody shows you a network that inverts 2 x 2 matrices, and its test error is small. Three
questions: where is it wrong by a million, how near to a singular matrix is it sure to fail, and
what did it learn where it works? Prints the answers and draws examples/break_it.png.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import RandomForestRegressor

from skinv import FeasibleRegionSampler, NeuralInverseRegressor
from skinv.datasets import make_region
from skinv.impossibility import counterexample, failure_distance, polynomial_lipschitz
from skinv.inspection import (
    CoefficientDisplay,
    ErrorByDistanceDisplay,
    SingularSetDisplay,
    TruncatedMomentsDisplay,
    activation_regions,
)

# All matrices within 0.5 of [[3, 1], [1, 2]], entry by entry; none of them is singular.
box = make_region("2x2-first", random_state=0).sampler
X, Y = box.sample(20_000)
network = NeuralInverseRegressor(8, "relu", baseline=None, random_state=0).fit(X, Y)
forest = RandomForestRegressor(50, min_samples_leaf=5, random_state=0).fit(X[:5000], Y[:5000])
X_test, Y_test = box.sample(10_000)
print(f"mean error in the box: {np.abs(network.predict(X_test) - Y_test).mean():.4f}")

# -- a matrix on which it is wrong by a million ---------------------------------------------------
print("\nfrom the centre of the box to a matrix on which the error exceeds")
for error in (1.0, 1e3, 1e6):
    for name, model in (("network", network), ("forest", forest)):
        found = counterexample(model, box.center_, error, random_state=0)
        assert found.error_lower > error  # proven, rounding and all
        print(
            f"  {error:>9g}, {name:<8} distance {found.distance:.6f}, "
            f"{found.singular_distance:.1e} from a singular matrix"
        )
print(found.matrix)

# -- where it must fail, without a single prediction ----------------------------------------------
print(f"\n{polynomial_lipschitz(network)}")
print("it is bounded where inverses are not: for matrices of Frobenius norm up to 8 its error is")
failure = {error: failure_distance(network, 8.0, error) for error in (1.0, 10.0, 100.0, 1000.0)}
for error, distance in failure.items():
    print(f"  more than {error:>6g} if it is nearer than {distance:.6f} to a singular one")

# -- what it learned ------------------------------------------------------------------------------
pieces = activation_regions(network, box, n_samples=200_000)
print(
    f"\nit is affine on each of {len(pieces)} pieces of the box; the largest, and how far they are"
)
print("from the linear approximation of the inverse, entry by entry:")
print(pieces.head(6).to_string(index=False))
most = pieces[: int(np.searchsorted(pieces.share.cumsum(), 0.75)) + 1]
largest = most.filter(like="lp_max").max().max()
print(f"{most.share.sum():.0%} of the box: {len(most)} pieces, off the linear one ", end="")
print(f"by {largest:.2f} at most")

# -- pictures -------------------------------------------------------------------------------------
large = FeasibleRegionSampler(box.center_, 2.0, random_state=0).fit()  # reaches singular matrices
figure, axes = plt.subplots(2, 3, figsize=(16, 9.5), layout="constrained")
SingularSetDisplay.from_sampler(box, ax=axes[0, :2])
CoefficientDisplay.from_estimator(network, box, n_samples=500, ax=axes[0, 2])
ErrorByDistanceDisplay.from_sampler(
    network, large, 20_000, failure=failure, name="network", ax=axes[1, 0]
)
ErrorByDistanceDisplay.from_sampler(forest, large, 20_000, name="forest", ax=axes[1, 1])
TruncatedMomentsDisplay.from_estimator(network, large, random_state=0, ax=axes[1, 2])
path = Path(__file__).with_suffix(".png")
figure.savefig(path, dpi=80)
print(f"\nwrote {path.name}")
