"""Error of the Taylor series of orders 1 to 3 on the data of problems.py; no training, seconds.

python benchmarks/orders.py
"""

import machine
import numpy as np
from problems import FAMILIES, REGIONS, mean_error, problem

from skinv import LinearInverseApprox


def main():
    results = {}
    for name in (*FAMILIES, *REGIONS):
        errors = []
        for seed in range(3):
            sampler, X, Y = problem(name, seed)
            models = [
                LinearInverseApprox(sampler.center_, order=order).fit() for order in (1, 2, 3)
            ]
            errors.append([mean_error(model, X, Y) for model in models])
        results[name] = dict(zip(("1", "2", "3"), np.median(errors, axis=0), strict=True))
        print(name, {order: f"{error:.1e}" for order, error in results[name].items()})
    machine.write("orders", {"median_error_by_order": results})


if __name__ == "__main__":
    main()
