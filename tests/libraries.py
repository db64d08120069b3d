"""Who takes arrays of which libraries: the table of docs/guide/scale.md, made by asking.

python tests/libraries.py [--write]
"""

import re
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import polars as pl
from backends import BACKENDS

import skinv
from skinv.bounds import residual_bound
from skinv.geometry import distance_to_singularity, nearest_singular
from skinv.matrices import embed_complex
from skinv.metrics import relative_errors
from skinv.refinement import newton_schulz

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "scale.md"
N = 3  # 4 might be two
NAMES = {"numpy": "NumPy", "torch": "torch", "array_api_strict": "array API"}
LIBRARIES = {
    **{NAMES[each.name]: (each.array, each.kind) for each in BACKENDS},
    "dask": (lambda A: da.from_array(A.copy(), chunks=(6, *A.shape[1:])), da.Array),
    "pandas": (pd.DataFrame, pd.DataFrame),
    "polars": (lambda A: pl.DataFrame(A.tolist(), orient="row"), pl.DataFrame),
}
FRAMES = ("pandas", "polars")


def family(dtype):
    """Return twelve regular matrices, as a stack."""
    rng = np.random.default_rng(0)
    A = 5 * np.eye(N) + rng.standard_normal((12, N, N))
    return A + 1j * rng.standard_normal(A.shape) if dtype is complex else A


def rows(dtype):
    """Return names, and functions of stacks or, for `True`, of rows."""
    A = family(dtype)
    region = skinv.FeasibleRegionSampler(norm="l2", random_state=0)
    near = skinv.LinearInverseApprox()
    proven = skinv.CertifiedInverse(near)
    found = {"`fit` and `score` of estimators": (lambda X: near.fit(X).score(X), True)}
    for model in (
        near,
        skinv.PolynomialInverseApprox(on_extrapolation="keep"),
        skinv.NeuralInverseRegressor(2, max_iter=1, n_components=None, random_state=0),
        proven,
    ):
        name = f"`{type(model).__name__}.predict`"
        found[name] = (lambda X, model=model: model.fit(A).predict(X), True)
    found |= {
        "`CertifiedInverse.report`": (lambda X: proven.fit(A).report(X).inverse, True),
        "`CertifiedInverse.solve`": (lambda X: proven.fit(A).solve(X, np.ones((12, N))), True),
        "`FeasibleRegionSampler.transform`": (lambda X: region.fit(A).transform(X), True),
        "`FeasibleRegionSampler.is_feasible`": (lambda X: region.fit(A).is_feasible(X), True),
    }
    X = np.linalg.inv(A)
    functions = {
        "`skinv.inv`": skinv.inv,
        "`skinv.solve`": lambda A: skinv.solve(A, np.ones(N)),
        "`skinv.pinv`": skinv.pinv,
        "`residual_bound`": lambda A: residual_bound(A, X),
        "`newton_schulz`": lambda A: newton_schulz(A, X),
        "`embed_complex`": embed_complex,
        "`relative_errors`": lambda A: relative_errors(A, X),
        "`distance_to_singularity`": distance_to_singularity,
        "`nearest_singular`": nearest_singular,
    }
    return found | {name: (function, False) for name, function in functions.items()}


def answer(function, X, kind):
    """Return "yes" for an answer in the library of an argument, whose it is, or "no" for none."""
    try:
        found = function(X)
    except (TypeError, ValueError):
        return "no"
    return "yes" if isinstance(found, float | kind) else {np.ndarray: "NumPy's"}[type(found)]


def table():
    """Return the table in Markdown."""
    lines = [f"| | {' | '.join(LIBRARIES)} | complex |", "|---" * (len(LIBRARIES) + 2) + "|"]
    complex_rows = rows(complex)
    for name, (function, takes_rows) in rows(float).items():
        A = family(float)
        cells = []
        for library, (convert, kind) in LIBRARIES.items():
            if library in FRAMES and not takes_rows:
                cells.append("no")
                continue
            X = A.reshape(12, -1) if library in FRAMES else A
            cells.append(answer(function, convert(X), kind))
        cells.append(answer(complex_rows[name][0], family(complex), np.ndarray))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    made = table()
    if "--write" in sys.argv:
        old = re.compile(r"\| \| NumPy .*?\n(?!\|)", re.DOTALL)
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(old.sub(lambda _: made + "\n", text), encoding="utf-8")
    print(made)
