"""Learn to invert the Jacobians of a real system, and see how far to trust it.

A robot arm near a pose, or a power grid under changing loads, gives a stream of matrices close to
one another. This script takes such a family, fits a region to one half of it, trains a linear and a
neural inverse on samples from that region, and measures both on the other half, never seen.

    python examples/quickstart.py                   # the robot arm
    python examples/quickstart.py --family case9    # a power grid
"""

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
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
from skinv.metrics import absolute_errors, residual_norms

FAMILIES = {
    "puma560": ("Jacobians of a Puma 560 arm, joints within 0.1 rad of a pose", load_robot_arm),
    "case6ww": ("power-flow Jacobians of a 6-bus grid, loads within 20 %",
                lambda: load_power_flow("case6ww")),
    "case9": ("power-flow Jacobians of a 9-bus grid, loads within 20 %",
              lambda: load_power_flow("case9")),
}  # fmt: skip


class Lapack:
    """`numpy.linalg.inv` in the clothes of an estimator."""

    def predict(self, X):
        n = int(X.shape[1] ** 0.5)
        return np.linalg.inv(X.reshape(-1, n, n)).reshape(X.shape)


def microseconds_per_matrix(predict, X, repeats=9):
    """Median time of predicting all of X at once, per matrix."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        predict(X)
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times)) / len(X)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=FAMILIES, default="puma560")
    parser.add_argument("--samples", type=int, default=40_000, help="training matrices to draw")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("quickstart.png"))
    args = parser.parse_args()

    title, load = FAMILIES[args.family]
    family = load()
    n = len(family.center)
    X_known, X_unseen, _, Y_unseen = train_test_split(
        family.data, family.target, test_size=0.5, random_state=0
    )
    print(f"{title}: {len(family.data)} matrices of order {n}\n")

    # 1. The region: the ellipsoid of the known half, and what can be proved of it.
    sampler = FeasibleRegionSampler(norm="mahalanobis", random_state=0).fit(X_known)
    proved = sampler.certificate_
    print(
        f"region     ellipsoid of rank {len(sampler.axes_)} in {n * n} entries, "
        f"{sampler.is_feasible(X_unseen).mean():.1%} of the unseen matrices inside\n"
        f"proof      {'certified' if sampler.is_certified_ else 'not certified'}: margin "
        f"{sampler.margin_:.3g} to the singular matrices by the test "
        f"'{proved.test}'{'' if sampler.is_certified_ else '; each sample is tested by itself'}"
    )

    # 2. Training matrices, and two estimators.
    X, Y = sampler.sample(args.samples)
    linear = LinearInverseApprox().fit(X_known)
    neural = NeuralInverseRegressor(max_iter=args.epochs, random_state=0, verbose=1)
    start = time.perf_counter()
    neural.fit(X, Y)
    print(f"training   {args.samples:,} samples, {time.perf_counter() - start:.1f} s\n")

    # 3. Judgement, on the half that was never seen, where the region says to trust.
    inside = sampler.is_feasible(X_unseen)
    X_test, Y_test = X_unseen[inside], Y_unseen[inside]
    many = np.tile(X_test, (20, 1))  # a batch long enough to be timed
    print(f"{'':<24}{'mean |error|':>14}{'largest':>12}{'residual':>12}{'µs/matrix':>12}")
    rows = {
        "numpy.linalg.inv": Lapack(),
        "LinearInverseApprox": linear,
        "NeuralInverseRegressor": neural,
    }
    for name, model in rows.items():
        Y_model = model.predict(X_test)
        error = np.abs(Y_model - Y_test)
        print(
            f"{name:<24}{error.mean():>14.2e}{error.max():>12.2e}"
            f"{residual_norms(X_test, Y_model).mean():>12.2e}"
            f"{microseconds_per_matrix(model.predict, many):>12.2f}"
        )
    ratio = np.abs(linear.predict(X_test) - Y_test).mean()
    ratio /= np.abs(neural.predict(X_test) - Y_test).mean()
    print(f"\nThe network's error is 1/{ratio:.0f} of the linear approximation's.")
    print("(error: of an entry of the inverse; residual: mean of ‖I − A·X‖ in the Frobenius norm;")
    print(" numpy.linalg.inv is the reference, so its error is 0 by definition.)")

    # 4. Error against the distance to the singular matrices.
    scorer = SingularDistanceScorer()
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for model, name, color, marker in (
        (linear, "linear (first-order Taylor)", "#0072B2", "o"),
        (neural, "neural", "#D55E00", "^"),
    ):
        distance = np.linalg.svd(X_test.reshape(-1, n, n), compute_uv=False)[:, -1]
        axes.plot(distance, absolute_errors(Y_test, model.predict(X_test)), marker, color=color,
                  ms=3, alpha=0.35, mew=0)  # fmt: skip
        profile = scorer.profile(model, X_test, Y_test, n_bins=10)
        axes.plot(profile.distance, profile.error, marker + "-", color=color, label=name)
    axes.set(
        yscale="log",
        xlabel="distance of the matrix to the nearest singular one (l2)",
        ylabel="mean absolute error of the inverse",
        title=f"{title}\n{len(X_test)} matrices never seen in training",
    )
    axes.legend()
    axes.grid(alpha=0.25)
    figure.savefig(args.output, dpi=130)
    print(f"\nPicture: {args.output.name}")


if __name__ == "__main__":
    main()
