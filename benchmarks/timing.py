"""How methods are timed: in turns on the same matrices; medians, and ratios of one turn."""

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
