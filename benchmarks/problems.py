"""Families of matrices and the regions of one half of them: what trainings are measured on."""

import numpy as np
from sklearn.model_selection import train_test_split

from skinv import FeasibleRegionSampler
from skinv.datasets import load_power_flow, load_robot_arm, make_region

FAMILIES = {
    "case6ww": lambda: load_power_flow("case6ww"),
    "case9": lambda: load_power_flow("case9"),
    "puma560": load_robot_arm,
}
REGIONS = ("2x2-first", "2x2-second", "3x3", "16x16")


def mean_error(model, X, Y):
    return float(np.abs(model.predict(X) - Y).mean())


def problem(name, seed):
    """Return a fitted sampler, and unseen matrices of its region with their inverses."""
    if name in REGIONS:
        sampler = make_region(name, random_state=seed).sampler
        return sampler, *sampler.sample(10_000)
    family = FAMILIES[name]()
    known, X, _, Y = train_test_split(
        family.data, family.target, test_size=0.5, random_state=seed
    )  # fmt: skip
    sampler = FeasibleRegionSampler(norm="mahalanobis", random_state=seed).fit(known)
    inside = sampler.is_feasible(X)
    return sampler, X[inside], Y[inside]
