"""How methods are compared: in turns on the same matrices; medians, ratios of one turn, errors."""

import time

REPEATS = 7


def in_turns(methods, m, repeats=REPEATS, calls=1):
    """Time methods in turns: microseconds per matrix, {name: [one per turn]}.

    Each is called once before it is timed: memory that was given back a while ago, while another
    method ran, is several times as dear on a virtual machine as what was given back just now.
    """
    taken = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            method()
            start = time.perf_counter()
            for _ in range(calls):
                method()
            taken[name].append((time.perf_counter() - start) / calls / m * 1e6)
    return taken


def middle(values):
    return sorted(values)[len(values) // 2]


def spread(values):
    return {"median": round(middle(values), 4), "range": [round(f(values), 4) for f in (min, max)]}


def microseconds(taken):
    return {name: spread(values) for name, values in taken.items()}


def ratio(taken, slow, fast):
    """Return how many times as long one method takes as another."""
    return spread([a / b for a, b in zip(taken[slow], taken[fast], strict=True)])


def near(n, m, seed=0):
    """Return a centre of condition number 5 and m matrices with ‖A₀⁻¹E‖₂ about 0.1."""
    import numpy as np

    rng = np.random.default_rng(seed)
    U, _, Vt = np.linalg.svd(rng.standard_normal((n, n)))
    center = (U * np.linspace(1.0, 5.0, n)) @ Vt
    return center, center + 0.05 / np.sqrt(n) * rng.standard_normal((m, n, n))


def relative_errors(X, A, most=1000):
    """Return the mean relative error in the Frobenius norm, against a reference of 19 digits."""
    import numpy as np

    A = np.asarray(A, dtype=np.float64)[:most]
    exact = np.linalg.inv(A).astype(np.longdouble)
    exact = exact + exact @ (np.eye(A.shape[1]) - A.astype(np.longdouble) @ exact)
    difference = np.asarray(X, dtype=np.float64).reshape(-1, *A.shape[1:])[:most] - exact
    errors = np.linalg.norm(difference, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))
    return float(np.mean(errors))


def refined(model, A, steps=1):
    """Predict and refine."""
    from skinv.refinement import newton_schulz

    return newton_schulz(A, model.predict(A), steps, overwrite_x=True)
