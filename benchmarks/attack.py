"""Attacks on what is promised to be proven; the right number of violations is 0.

Bounds of inverses and of solutions, from hostile matrices, regressors, families, memory layouts and
floating-point modes; those of distances, regions and series (attack_regions.py, and of rectangular
matrices attack_rectangular.py), of families of parameters and slices (attack_families.py), of
models and failures (attack_failures.py); certificates of networks (attack_modules.py). Every finite
bound is compared with the exact error, in integers made of the bits of what was given. Bounds of
entries and of single matrices in units of their own: attack_units.py.

Modes: subnormal numbers as they are ("gradual"), or flushed to zero during the call ("flush");
"converted" where float32 numbers are to be widened on the way in then, as those of lists, of data
frames, of the other byte order, or beside float64. "edited": rows that a region returned, changed
in place before they are predicted.

python benchmarks/attack.py [factor of the counts, names of attacks] [--quick] [--write]

With --write the counts replace those of the same families in results/violations.json.
"""

import json
import sys
import time
import warnings

import attack_failures
import attack_families
import attack_modules
import attack_rectangular
import attack_regions
import attack_units
import machine
import numpy as np
import torch
from attack_exact import (
    Exact,
    Score,
    check_bounds,
    check_inverses,
    dressed,
    embedded,
    exponents_of,
    kind_of,
    matrices,
    mode_of,
    native,
    wrong_entries,
    wrong_solution,
)
from attack_modules import Family, Hostile, doubled, flushed, refusals
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    StructuredInverse,
)
from skinv.bounds import residual_bound

BATCH = 400
NORMS = ("fro", "inf", "1")
FALLBACKS = ("exact", "exact-raise", "nan", "keep", "raise")
MODES = ("gradual", "flush")
PROVEN = ("predicted", "refined", "exact")
ORDERS, SHARES = (1, 2, 3, 5, 8), (0.25, 0.37, 0.3, 0.05, 0.03)


# -- the attacks -----------------------------------------------------------------------------------


def attack_residuals(score, rng, m):
    """Prove given approximate inverses."""
    n, mode = rng.choice(ORDERS, p=SHARES), rng.choice(MODES)
    dtype = rng.choice([np.float16, np.float32, np.float64], p=[0.06, 0.47, 0.47])
    norm, sharp = rng.choice(NORMS), bool(rng.randint(2))
    accumulate = rng.choice([None, "float64"])
    A, X = matrices(rng, m, n, dtype)
    if rng.uniform() < 0.1 and n < 4 and dtype != np.float16:
        A, X = A + 1j * matrices(rng, m, n, A.dtype)[0], X + 0j
    (given, held), (answer, kept) = dressed(rng, A), dressed(rng, X)
    if np.ndim(given) != 3 or np.ndim(answer) != 3:  # rows belong to estimators
        given, answer = A, X
    family, mode = "residual_bound", mode_of(mode, given, answer)
    with score.unchanged(family, mode, held, kept), flushed("flush" in mode):
        bound = residual_bound(given, answer, norm, sharp=sharp, accumulate=accumulate)
    context = {"sharp": sharp, "accumulate": accumulate, "given": (kind_of(given), kind_of(answer))}
    check_inverses(score, family, mode, A, X, native(bound), norm, context)


_NETWORKS = {}


def network(n, center):
    """Return a small network around a centre, trained once."""
    if n not in _NETWORKS:
        X, Y = FeasibleRegionSampler(center, 0.05, random_state=0).fit().sample(300)
        model = NeuralInverseRegressor(8, max_iter=3, random_state=0, device="cpu")
        _NETWORKS[n] = model.fit(X, Y), center
    return _NETWORKS[n]


def a_model(rng, n, cplx, settings):
    """Return the name of an attack, a fitted certified regressor, and matrices it was fitted to."""
    center = 2 * np.eye(n) + 0.3 * rng.standard_normal((n, n))
    unit = 2.0 ** rng.choice([0, 0, 0, 40, -40, 300, -300, 505, -505, 900, -900])
    names = ("hostile", "pipeline", "family", "ours", "region", "structured", "network")
    name = rng.choice(names, p=[0.47, 0.08, 0.1, 0.17, 0.08, 0.05, 0.05])
    name = "hostile" if cplx and name not in ("hostile", "ours", "structured") else str(name)
    seed = rng.randint(2**31)
    hostile = Hostile(rng.choice(Hostile.WAYS), seed)
    train = center * (1 + 0.02 * rng.uniform(-1, 1, (40, n, n)))
    if cplx:
        train = train + 0.05j * rng.standard_normal(train.shape)
    elif name == "structured":
        train = train + train.swapaxes(1, 2)
    unit = unit if name in ("hostile", "ours") else 1.0
    train = train * unit
    if name == "pipeline":
        steps = (FunctionTransformer(doubled, check_inverse=False), MaxAbsScaler(copy=False))
        hostile = make_pipeline(steps[rng.randint(2)], hostile)
    elif name == "ours":
        ours = [LinearInverseApprox(order=int(rng.randint(1, 4)))]
        ours += [LinearInverseApprox(method="lstsq")] if unit == 1 else []
        ours += [] if cplx else [LinearInverseApprox(center * unit)]
        hostile = ours[rng.randint(len(ours))]
    elif name == "structured":
        structure = "complex" if cplx else "symmetric"
        hostile = StructuredInverse(
            [hostile, Ridge()][rng.randint(2)], structure, baseline=[None, "taylor"][rng.randint(2)]
        )
    elif name == "region":
        what = rng.choice(["nan", "project"])
        region = FeasibleRegionSampler(center, 0.01, on_infeasible=what)
        ours = [LinearInverseApprox(center), hostile][rng.randint(2)]
        if rng.randint(2):
            model = CertifiedInverse(make_pipeline(region, ours), **settings)
            return name, model.fit(train), train
        model = CertifiedInverse(ours, **settings)
        return name, make_pipeline(region, model).fit(train), train
    elif name == "network":
        fitted, center = network(n, center)
        train = center * (1 + 0.02 * rng.uniform(-1, 1, (40, n, n)))
        return name, CertifiedInverse(fitted, **settings), train
    return name, CertifiedInverse(hostile, **settings).fit(train), train


def a_task(rng, m):
    """Return an attack, a certified regressor, matrices and settings, or None if refused."""
    n, mode = int(rng.choice(ORDERS, p=SHARES)), str(rng.choice(MODES))
    cplx = n < 4 and rng.uniform() < 0.15
    fallback = str(rng.choice(FALLBACKS, p=[0.45, 0.1, 0.15, 0.2, 0.1]))
    settings = {"fallback": fallback, "tol": float(10.0 ** rng.uniform(-15, 1))}
    settings.update(order=int(rng.randint(2, 5)), max_refine=int(rng.choice([0, 1, 8])))
    settings["norm"] = str(rng.choice(NORMS))
    name, model, train = a_model(rng, n, cplx, settings)
    dtype = rng.choice([np.float16, np.float32, np.float64], p=[0.06, 0.47, 0.47])
    dtype = np.float32 if cplx and dtype == np.float16 else dtype
    A = matrices(rng, m, n, dtype)[0]
    if cplx:
        A = A + 1j * matrices(rng, m, n, dtype)[0]
    near = train[rng.randint(0, len(train), m)]
    with np.errstate(all="ignore"):
        near = near * (1 + 10.0 ** -rng.uniform(0, 8, (m, 1, 1)) * rng.uniform(-1, 1, near.shape))
        if name == "structured" and not cplx:
            near = near + near.swapaxes(1, 2)
        A = np.where((rng.uniform(size=m) < 0.4)[:, None, None], near.astype(A.dtype), A)
    if name == "region":  # which takes no others
        A[~np.isfinite(A).all(axis=(1, 2))] = np.eye(n)
    if "raise" in fallback:
        A = near[: max(m // 8, 1)].astype(A.dtype)
    if n == 1 and name != "family" and not cplx:
        A = A if len(A) != 1 else np.repeat(A, 2, axis=0)
    if rng.uniform() < 0.04:
        A = A[: rng.randint(2)]
    elif rng.uniform() < 0.05 and not cplx:
        A = rng.randint(-5, 6, A.shape).astype(rng.choice(["i4", "i8", "i1"]))
    parameters = None
    if name == "family":
        family = Family(n, rng.randint(2**31))
        parameters = rng.uniform(-1, 1, (m, 2))
        parameters[rng.uniform(size=m) < 0.02, 0] = np.nan
        if "raise" in fallback:
            parameters = rng.uniform(-1, 0, (m, 2))
        some = rng.uniform(-1, 1, (30, 2)) * [1, 0]
        guesses = [Hostile("family", rng.randint(99)), Ridge()]
        model = CertifiedInverse(guesses[rng.randint(2)], family=family, **settings).fit(some)
        A = parameters
    return name, mode, model, A, settings, n


def members(model, parameters):
    """Return the matrices that a family returned last, NaN for parameters that are not finite."""
    last = model.family.returned[-1]
    A = np.full((len(parameters), *last.shape[1:]), np.nan, last.dtype)
    A[np.isfinite(parameters).all(axis=1)] = last
    return A


def called(model, method, *args, **kwargs):
    """Call a method of a certified regressor, or of one behind a region."""
    if hasattr(model, "steps"):
        region, final = model[:-1], model[-1]
        return getattr(final, method)(region.transform(args[0]), *args[1:], **kwargs)
    return getattr(model, method)(*args, **kwargs)


def attack_inverses(score, rng, m):
    """Predict inverses."""
    try:
        name, mode, model, A, settings, _ = a_task(rng, m)
    except ValueError as error:  # of fit
        refusals[f"fit: {error}"[:70]] += 1
        return
    family, keep = f"predict: {name}", settings["fallback"] == "keep"
    given, held = dressed(rng, A)
    mode = mode_of(mode, given)
    try:
        if hasattr(model, "steps") and rng.randint(2):  # edit what the region returned
            family, model, region = "predict: edited", model[-1], model[:-1]
            with flushed("flush" in mode):
                given = region.transform(given)
            if not hasattr(given, "columns"):
                given[...] = given[np.arange(len(given))[::-1].copy()]
            A, held = native(given).reshape(A.shape).copy(), np.zeros(1)
        with score.unchanged(family, mode, held), flushed("flush" in mode):
            report = called(model, "report", given)
    except Exception as error:  # the first letters say which
        score.refused(family, mode, len(A), error)
        return
    if model is not None and name == "family":
        A = members(model, A)
    A, X = A.astype(np.result_type(A.dtype, np.float16)), native(report.inverse)
    bound, d = native(report.bound), A.shape[-1]
    context = {**settings, "dtype": A.dtype.name, "given": kind_of(given)}
    X = X.reshape(len(A), d, d)
    tol = settings["tol"] + 2.0**-11 * (torch.is_tensor(given) and given.dtype == torch.float16)
    bad = np.isin(report.status, PROVEN) & ~(bound <= tol)
    if bad.any():
        score.violation(family, mode, "a status of proven without the proof", **context)
    strict = settings["fallback"] in ("nan", "raise", "exact-raise")
    if strict and (np.isfinite(bound) & (bound > tol)).any():
        score.violation(family, mode, "a bound above tol was kept", **context)
    check_inverses(score, family, mode, A, X, bound, settings["norm"], context, keep)


def right_hand_sides(rng, A, cplx):
    """Return right-hand sides of all sizes."""
    m, n = len(A), A.shape[1]
    k = int(rng.choice([0, 1, 3]))
    dtype = rng.choice([np.float32, np.float64])
    size = np.dtype(dtype).itemsize
    b = rng.standard_normal((m, n, max(k, 1)))
    if rng.uniform() < 0.7:
        units, wild = (exponents_of(rng, size, (m, j, max(k, 1))) for j in (1, n))
        with np.errstate(all="ignore"):
            b = np.ldexp(b, np.where(rng.uniform(size=(m, 1, 1)) < 0.8, units, wild))
    b[rng.uniform(size=b.shape) < 0.05] = 0
    b[rng.uniform(size=m) < 0.01, 0, 0] = rng.choice([np.nan, np.inf])
    with np.errstate(all="ignore"):
        b = b.astype(dtype)
    if cplx and rng.randint(2):
        b = b + 1j * b[::-1]
    return b if k else b[:, :, 0]


def attack_solutions(score, rng, m):
    """Solve systems."""
    try:
        name, mode, model, A, settings, n = a_task(rng, m)
    except ValueError as error:  # of fit
        refusals[f"fit: {error}"[:70]] += 1
        return
    family, keep = f"solve: {name}", settings["fallback"] == "keep"
    given, held = dressed(rng, A)
    cplx = A.dtype.kind == "c"
    plain = np.empty((len(A), n, n)) if name == "family" else A
    b = right_hand_sides(rng, plain, cplx)
    right, kept = dressed(rng, b, False)
    mode = mode_of(mode, given)
    columns = b.shape[2] if b.ndim == 3 else 1
    try:
        with score.unchanged(family, mode, held, kept), flushed("flush" in mode):
            asked = {"return_bound": True, "return_radius": bool(rng.randint(2))}
            x, bound, *radius = map(native, called(model, "solve", given, right, **asked))
    except Exception as error:  # the first letters say which
        score.refused(family, mode, columns * len(A), error)
        return
    if name == "family":
        A = members(model, A)
    A = embedded(A.astype(np.result_type(A.dtype, np.float16)))
    radius = radius[0].reshape(len(A), n, columns) if radius else None
    if cplx:
        b, x = (np.concatenate([v.real, v.imag], axis=1) for v in (b, x))
    b, x = (v.reshape(len(A), A.shape[-1], columns) for v in (b, x))
    bound = bound.reshape(len(A), columns)
    context = {**settings, "dtype": A.dtype.name, "given": kind_of(given)}
    good = check_bounds(score, family, mode, x, bound, keep, context)
    sides, found, limits = (
        [Exact(v[:, :, j]) for j in range(columns)] for v in (b, x, bound[:, None])
    )
    matrix, finite, d = Exact(A), np.isfinite(A).all(axis=(1, 2)), A.shape[-1]
    finite_b = np.isfinite(b).all(axis=1)
    for i, j in np.argwhere(good):
        (u,), e = limits[j][i]
        if not (finite[i] and finite_b[i, j]) or wrong_solution(
            matrix[i], sides[j][i], found[j][i], d, (u, e)
        ):
            data = {"A": A[i], "b": b[i, :, j], "x": x[i, :, j], "bound": bound[i, j], **context}
            score.violation(family, mode, "the bound is too small", **data)
    for i, j in np.argwhere([] if radius is None else np.isfinite(radius).any(axis=1)):
        known = finite[i] and finite_b[i, j] and np.isfinite(x[i, :, j]).all()
        r = radius[i, :, j]
        if not known or wrong_entries(matrix[i], sides[j][i], found[j][i], d, r, cplx):
            data = {"A": A[i], "b": b[i, :, j], "x": x[i, :, j], "radius": r, **context}
            score.violation(family, mode, "a bound of entries is too small", **data)
    if radius is not None and not (radius >= 0).all():
        score.violation(family, mode, "a radius is NaN or negative", **context)
    score.add(family, mode, good.size, int(good.sum()))


ATTACKS = {
    "residual_bound": (attack_residuals, 1_000_000, BATCH),
    "predict": (attack_inverses, 1_000_000, BATCH),
    "solve": (attack_solutions, 1_000_000, BATCH),
    **attack_units.ATTACKS,
    **attack_regions.ATTACKS,
    **attack_rectangular.ATTACKS,
    **attack_failures.ATTACKS,
    **attack_families.ATTACKS,
    **attack_modules.ATTACKS,
}


def main(factor=1.0, only=()):
    warnings.simplefilter("ignore")
    score, start = Score(), time.perf_counter()
    for name, (attack, count, batch) in ATTACKS.items():
        if only and name not in only:
            continue
        began, total, seed = time.perf_counter(), 0, 0
        while total < count * factor:
            batch = max(1, min(batch, round(count * factor)))
            attack(score, np.random.RandomState(10**6 * len(name) + seed), batch)
            seed += 1
            total = sum(c["tried"] for key, c in score.counts.items() if key.startswith(name))
        score.seconds[name] = round(time.perf_counter() - began, 1)
    print(f"{'family and mode':48}{'tried':>9}{'finite':>9}{'refused':>9}{'violations':>11}")
    for key, kept in score.counts.items():
        figures = [kept[word] for word in ("tried", "finite", "refused", "violations")]
        print(f"{key:48}{figures[0]:9}{figures[1]:9}{figures[2]:9}{figures[3]:11}")
    violations = sum(kept["violations"] for kept in score.counts.values())
    print(f"{violations} violations in {time.perf_counter() - start:.0f} s", score.seconds)
    return score, violations


def write(score):
    """Put counts in place of those of the same families, beside the others."""
    kept = json.loads((machine.RESULTS / "violations.json").read_text())
    del kept["machine"]
    families = kept["by_family_and_mode"]
    kept["violations"] += sum(
        counts["violations"] - families.get(name, {"violations": 0})["violations"]
        for name, counts in score.counts.items()
    )
    families |= score.counts
    kept["found"] |= score.found
    machine.write("violations", kept)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    quick = "--quick" in sys.argv
    score, violations = main(0.01 if quick else float(words[0]) if words else 1.0, words[1:])
    print(refusals.most_common(12))
    if "--write" in sys.argv:
        write(score)
