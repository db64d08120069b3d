"""A part of inference.py: the third table of Ji, Wu and Xi (2025), and what else there is."""

import sys

from timing import in_turns, microseconds, relative_errors

REGIONS = {"2x2-first": 32, "3x3": 72, "16x16": 2048}  # and hidden units, as published
NETWORKS = {"2-FC": 15, "3-FC": 15, "2-FC, defaults": 15}  # and epochs
# Times do not depend on the weights, and 16x16 networks take minutes to train.
EPOCHS = {"16x16": {"2-FC": 10, "3-FC": 2, "2-FC, defaults": 2}}


def contenders(region, hidden, quick):
    """Return fitted models and exact methods for a region, matrices, and epochs of networks.

    Methods are {name: function of (m, n, n)}.
    """
    import numpy as np
    import scipy.linalg
    import torch

    from skinv import CertifiedInverse, LinearInverseApprox, NeuralInverseRegressor
    from skinv.datasets import make_region

    sampler = make_region(region, random_state=0).sampler
    X, Y = sampler.sample(2000 if quick else 20_000)
    epochs = dict.fromkeys(NETWORKS, 2) if quick else NETWORKS | EPOCHS.get(region, {})
    plain = {"activation": "relu", "baseline": None, "random_state": 0}
    networks = {
        "2-FC": NeuralInverseRegressor(hidden, **plain),
        "3-FC": NeuralInverseRegressor((hidden, hidden), **plain),
        "2-FC, defaults": NeuralInverseRegressor(hidden, random_state=0),
    }
    models = {
        name: model.set_params(max_iter=epochs[name]).fit(X, Y) for name, model in networks.items()
    } | {
        "first order": LinearInverseApprox(sampler.center_).fit(),
        "second order": LinearInverseApprox(sampler.center_, order=2).fit(),
    }
    methods = {name: model.predict for name, model in models.items()}
    certified = CertifiedInverse(models["second order"], tol=1e-4).fit(X)
    methods["CertifiedInverse, 1e-4"] = certified.predict
    methods["numpy.linalg.inv"] = np.linalg.inv
    methods["torch.linalg.inv"] = lambda A: torch.linalg.inv(torch.from_numpy(A)).numpy()
    # One by one, whatever the batch.
    methods["scipy.linalg.inv, singly"] = lambda A: np.array([scipy.linalg.inv(a) for a in A])
    methods["numpy.linalg.inv, singly"] = lambda A: np.array([np.linalg.inv(a) for a in A])
    inverse = models["2-FC"].inverse_function("float32")
    methods["2-FC, inverse_function"] = lambda A: np.array([inverse(a) for a in A])
    try:
        import jax
    except ImportError:
        pass
    else:
        compiled = jax.jit(jax.numpy.linalg.inv)
        methods["jax.numpy.linalg.inv"] = lambda A: np.asarray(compiled(A))
    A = sampler.sample(10_000, return_inverse=False).astype(np.float32)
    n = len(sampler.center_)
    return methods, A.reshape(-1, n, n), epochs


def table3(quick):
    results = []
    for region, hidden in REGIONS.items():
        methods, A, epochs = contenders(region, hidden, quick)
        some = A[:2000]
        errors = {name: relative_errors(method(some), some) for name, method in methods.items()}
        times = {}
        for batch in (1, 100, 10_000):
            m = {1: 200, 100: 2000}.get(batch, 10_000)

            def whole(method, batch=batch, m=m, A=A):
                return lambda: [method(A[k : k + batch]) for k in range(0, m, batch)]

            chosen = {
                name: whole(method)
                for name, method in methods.items()
                if batch == 1 or not name.endswith(("singly", "inverse_function"))
            }
            taken = in_turns(chosen, m, repeats=3 if quick else 5)
            times[str(batch)] = microseconds(taken)
            print(region, batch, times[str(batch)]["2-FC"], file=sys.stderr)
        results.append(
            {
                "region": region,
                "hidden": hidden,
                "epochs": epochs,
                "mean_relative_error": errors,
                "microseconds_per_matrix": times,
            }
        )
    return results
