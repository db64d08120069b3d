"""
Break a network on purpose
==========================

Somebody shows you a network that inverts 2×2 matrices, and its test error is small. Three
questions: where is it wrong by a million, how near to a singular matrix is it sure to fail, and
what did it learn where it works?
"""

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

# %%
# The network
# -----------
#
# It has been trained, and so has a random forest, on matrices within 0.5 of [[3, 1], [1, 2]], entry
# by entry. None of them is singular: two slices show the matrices of determinant zero, and the box
# that keeps away from them.

box = make_region("2x2-first", random_state=0).sampler
X, Y = box.sample(20_000)
network = NeuralInverseRegressor(8, "relu", baseline=None, random_state=0).fit(X, Y)
forest = RandomForestRegressor(50, min_samples_leaf=5, random_state=0).fit(X[:5000], Y[:5000])
X_test, Y_test = box.sample(10_000)
print(f"mean error in the box: {np.abs(network.predict(X_test) - Y_test).mean():.4f}")

figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
SingularSetDisplay.from_sampler(box, ax=axes)
assert box.is_certified_

# %%
# A matrix on which it is wrong by a million
# ------------------------------------------
#
# Inverses grow without limit toward the singular matrices, and a network does not. A walk from the
# centre of the box toward a singular matrix finds one that breaks it, and proves so, rounding
# included. Nothing is known of the model but its predictions, so a forest breaks like a network.

print("from the centre of the box to a matrix on which the error exceeds")
for error in (1.0, 1e3, 1e6):
    for name, model in (("network", network), ("forest", forest)):
        found = counterexample(model, box.center_, error, random_state=0)
        assert found.error_lower > error
        print(
            f"  {error:>9g}, {name:<8} distance {found.distance:.6f}, "
            f"{found.singular_distance:.1e} from a singular matrix"
        )
print(found.matrix)

# %%
# Where it must fail, without a single prediction
# -----------------------------------------------
#
# The weights bound what the network can say on a ball of matrices. Inverses have no bound there: so
# near enough to any singular matrix of the ball the network is wrong by more than any given error,
# and how near follows from the weights alone. These are the stairs in the first panel. The dashed
# lines are the error of predicting zero: in the end nobody does better.

print(polynomial_lipschitz(network))
print("for matrices of Frobenius norm up to 8 its error is")
failure = {error: failure_distance(network, 8.0, error) for error in (1.0, 10.0, 100.0, 1000.0)}
for error, distance in failure.items():
    print(f"  more than {error:>6g} if it is nearer than {distance:.6f} to a singular one")

large = FeasibleRegionSampler(box.center_, 2.0, random_state=0).fit()  # reaches singular matrices
figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
shown = ErrorByDistanceDisplay.from_sampler(
    network, large, 20_000, failure=failure, name="network", ax=axes[0]
)
ErrorByDistanceDisplay.from_sampler(forest, large, 20_000, name="forest", ax=axes[1])
axes[0].set_title("The network fails where its weights say so")
axes[1].set_title("A forest fails no less")
for error, distance in failure.items():
    assert (shown.errors[shown.distance < distance] > error).all()

# %%
# The mean error over matrices drawn without care is therefore infinite. Cut off at a distance ε
# from the singular matrices it grows like log(1/ε), and higher moments grow like powers of 1/ε.

display = TruncatedMomentsDisplay.from_estimator(network, large, random_state=0)
_ = display.ax_.set_title("The nearer to singular, the larger the mean")

# %%
# What it learned
# ---------------
#
# A ReLU network is affine on each of the pieces that it cuts the box into. Linear programs find how
# far each piece is from the linear approximation of the inverse, entry by entry: on most of the box
# the network is that approximation, somewhat refined. Its derivatives say the same.

pieces = activation_regions(network, box, n_samples=200_000)
print(f"it is affine on each of {len(pieces)} pieces of the box; the largest, and how far")
print("they are from the linear approximation of the inverse, entry by entry:")
print(pieces.head(6).to_string(index=False))
most = pieces[: int(np.searchsorted(pieces.share.cumsum(), 0.75)) + 1]
largest = most.filter(like="lp_max").max().max()
print(f"{most.share.sum():.0%} of the box: {len(most)} pieces, off the linear one ", end="")
print(f"by {largest:.2f} at most")

display = CoefficientDisplay.from_estimator(network, box, n_samples=500)
_ = display.ax_.set_title("On average it has learned the linear approximation")
