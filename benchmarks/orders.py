"""Error of the Taylor series of orders 1 to 3 on the data of families.py; no training, seconds.

python benchmarks/orders.py
"""

import machine
import numpy as np
from families import FAMILIES, REGIONS, mean_error
from sklearn.model_selection import train_test_split

from skinv import FeasibleRegionSampler, LinearInverseApprox
from skinv.datasets import make_region


def unseen(name, seed):
    """Return the centre, and matrices in the region with their inverses, as families.py does."""
    if name in REGIONS:
        sampler = make_region(name, random_state=seed).sampler
        return sampler.center_, *sampler.sample(10_000)
    family = FAMILIES[name]()
    known, X, _, Y = train_test_split(
        family.data, family.target, test_size=0.5, random_state=seed
    )  # fmt: skip
    sampler = FeasibleRegionSampler(norm="mahalanobis", random_state=seed).fit(known)
    inside = sampler.is_feasible(X)
    return sampler.center_, X[inside], Y[inside]


def main():
    results = {}
    for name in (*FAMILIES, *REGIONS):
        errors = []
        for seed in range(3):
            center, X, Y = unseen(name, seed)
            models = [LinearInverseApprox(center, order=order).fit() for order in (1, 2, 3)]
            errors.append([mean_error(model, X, Y) for model in models])
        results[name] = dict(zip(("1", "2", "3"), np.median(errors, axis=0), strict=True))
        print(name, {order: f"{error:.1e}" for order, error in results[name].items()})
    machine.write("orders", {"median_error_by_order": results})


if __name__ == "__main__":
    main()
