"""Attacks on what is proven of distances, regions, series, models over regions, and failures."""

import itertools
import math

import numpy as np
import torch
from attack_exact import matrices, numbers
from attack_modules import flushed
from flint import fmpq, fmpq_mat
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeRegressor

from skinv import (
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    StructuredInverse,
)
from skinv.bounds import certify_region, taylor_bound
from skinv.form import form_of
from skinv.geometry import distance_to_singularity, nearest_singular, region_certificate
from skinv.impossibility import counterexample, failure_distance

NORMS = ("linf", "l2", "l1")
ZERO, ONE = fmpq(0), fmpq(1)


# -- exact numbers ---------------------------------------------------------------------------------


def rational(array):
    """Return a floating-point array as a list of rationals, from its bits."""
    pairs = zip(*(part.ravel().tolist() for part in numbers(np.asarray(array))), strict=True)
    return [fmpq(m << e) if e >= 0 else fmpq(m, 1 << -e) for m, e in pairs]


def number(value):
    return rational(np.array([value], dtype=np.float64))[0]


def square(entries):
    n = math.isqrt(len(entries))
    return fmpq_mat(n, n, entries)


def flat(A):
    return [v for row in A.tolist() for v in row]


def inverted(entries):
    """Return the inverse of a square matrix, as a list; None if it is singular."""
    A = square(entries)
    return None if A.det() == 0 else flat(A.inv())


def minors(A, leading):
    n = A.nrows()
    for size in range(1, n + 1):
        for rows in [tuple(range(size))] if leading else itertools.combinations(range(n), size):
            part = fmpq_mat(size, size, [A[i, j] for i in rows for j in rows])
            yield part.det()


def gram_less(entries, t):
    """Return AᵀA − t² I."""
    A = square(entries)
    G = A.transpose() * A
    for i in range(A.nrows()):
        G[i, i] -= t * t
    return G


def sigma_at_least(entries, t):
    """Tell whether the smallest singular value is at least t >= 0."""
    return all(m >= 0 for m in minors(gram_less(entries, t), False))


def sigma_above(entries, t):
    return all(m > 0 for m in minors(gram_less(entries, t), True))


def spectral_at_most(entries, t):
    """Tell whether the largest singular value is at most t."""
    return all(m >= 0 for m in minors(-1 * gram_less(entries, t), False))


def distance_in(entries, norm):
    """Return the distance to the singular matrices in l1 or linf."""
    B = inverted(entries)
    if B is None:
        return ZERO
    if norm == "l1":
        return 1 / max(map(abs, B))
    n = math.isqrt(len(B))
    signs = itertools.product((1, -1), repeat=n)
    return 1 / max(
        sum((abs(sum((B[i * n + j] * s[j] for j in range(n)), ZERO)) for i in range(n)), ZERO)
        for s in signs
    )


def farther(entries, norm, t):
    """Tell whether the distance is at least t."""
    if t <= 0:
        return True
    return sigma_at_least(entries, t) if norm == "l2" else distance_in(entries, norm) >= t


def farther_strictly(entries, norm, t):
    return sigma_above(entries, t) if norm == "l2" else distance_in(entries, norm) > t


# -- distances and regions -------------------------------------------------------------------------


def attack_distances(score, rng, m):
    """Compare distances of matrices in all units with the exact ones."""
    n, mode, norm = rng.randint(1, 4), rng.choice(["gradual", "flush"]), rng.choice(NORMS)
    dtype = rng.choice([np.float32, np.float64])
    A = matrices(rng, m, n, dtype)[0]
    A[~np.isfinite(A).all(axis=(1, 2))] = 1
    family = f"distance: {norm}"
    with score.unchanged(family, mode, A), flushed(mode == "flush"):
        found = distance_to_singularity(A, norm, return_bounds=True)
        distance = distance_to_singularity(A, norm)
    bad = ~((found.lower <= distance) & (distance <= found.upper))
    for M, low, high, between in zip(A, found.lower, found.upper, bad, strict=True):
        entries = rational(M)
        wrong = not low >= 0 or (low > 0 and not farther(entries, norm, number(low)))
        wrong |= math.isnan(high)
        wrong |= math.isfinite(high) and farther_strictly(entries, norm, number(high))
        if wrong or between:
            data = {"A": M, "lower": low, "upper": high, "between": bool(between)}
            score.violation(family, mode, "a distance is wrong", **data)
    score.add(family, mode, m, int((found.lower > 0).sum()))


def a_center(rng, n):
    """Return a regular matrix in some unit."""
    while True:
        A = rng.standard_normal((n, n)) if rng.randint(3) else 1.0 * rng.randint(-3, 4, (n, n))
        if rng.randint(3) == 0:
            A[-1] = A[0] * (1 + 10.0 ** -rng.uniform(0, 9)) + 10.0 ** -rng.uniform(0, 9)
        if abs(np.linalg.det(A)) > 1e-12:
            break
    unit = int(rng.choice([0, 0, 0, -40, 200, -500, 500, -1015, -1040, 1000]))
    with np.errstate(all="ignore"):
        return np.ldexp(A, unit), unit


def a_region(rng, n, norm):
    """Return a centre, a radius near the largest possible one, axes, and a distance to keep."""
    center, unit = a_center(rng, n)
    share = 1 + rng.choice([-1, -1, 1]) * 10.0 ** -rng.uniform(0, 17)
    plain = np.ldexp(center, -unit)
    reach, axes, keep = share, None, 0.0
    if norm == "mahalanobis":
        axes = rng.standard_normal((rng.randint(1, 4), n * n))
        # The ellipsoid's own distance, about.
        z = rng.standard_normal((400, len(axes)))
        E = (z / np.linalg.norm(z, axis=1)[:, None]) @ axes
        steps = np.linspace(0, 4, 200)[1:, None, None, None]
        dets = np.linalg.det(plain + steps * E.reshape(1, -1, n, n))
        crossed = (dets * np.linalg.det(plain) <= 0).any(axis=1)
        reach *= float(steps[crossed.argmax(), 0, 0, 0]) if crossed.any() else 1.0
        axes = np.ldexp(axes, unit)
        radius = reach * rng.choice([1.0, 0.7, 0.4, 0.1])
    else:
        reach *= float(distance_to_singularity(plain, norm))
        part = rng.choice([0.0, 0.0, 0.3])
        radius, keep = np.ldexp(reach * (1 - part), unit), float(np.ldexp(reach * part, unit))
        if norm == "linf" and rng.randint(2):
            widths = rng.uniform(size=(n, n)) * (rng.uniform(size=(n, n)) < 0.7)
            radius, keep = radius * widths * rng.choice([1, 2]), keep * 0.1
    return center, radius, axes, keep


def box_is_regular(A, widths):
    """Tell whether the determinants of all vertices have one sign, which none of them need touch.

    The determinant is affine in each entry, so that it has its extremes at the vertices.
    """
    n = math.isqrt(len(A))
    dets = [
        square([a + s * w for a, s, w in zip(A, signs, widths, strict=True)]).det()
        for signs in itertools.product((1, -1), repeat=n * n)
    ]
    return (all(d > 0 for d in dets) or all(d < 0 for d in dets)), (
        all(d >= 0 for d in dets) or all(d <= 0 for d in dets)
    )


def in_ellipsoid(rng, axes, radius, count):
    """Return exact points of an ellipsoid, some on its boundary but for the last places."""
    z = rng.standard_normal((count, len(axes)))
    z /= np.linalg.norm(z, axis=1)[:, None]
    z *= radius * np.where(rng.uniform(size=(count, 1)) < 0.8, 1, rng.uniform(size=(count, 1)))
    S = [rational(s) for s in axes]
    for row in z * (1 - 2.0**-50):
        w = rational(row)
        if sum((v * v for v in w), ZERO) <= number(radius) ** 2:
            yield [
                sum((a * s[i] for a, s in zip(w, S, strict=True)), ZERO) for i in range(len(S[0]))
            ]


def line_is_regular(A, E):
    """Tell whether A + tE is regular for |t| <= 1, in order 2, where det is a quadratic in t."""
    low, middle, high = (
        square([a + t * e for a, e in zip(A, E, strict=True)]).det() for t in (-1, 0, 1)
    )
    values = [low, middle, high]
    second, first = (low + high) / 2 - middle, (high - low) / 2
    if second != 0 and abs(first) <= abs(2 * second):
        values.append(middle - first * first / (4 * second))
    return all(v > 0 for v in values) or all(v < 0 for v in values)


def attack_certificates(score, rng, m):
    """Look for singular matrices in regions that are certified."""
    mode, norm = rng.choice(["gradual", "flush"]), rng.choice([*NORMS, "mahalanobis"])
    family = f"region: {norm}"
    for _ in range(m):
        n = int(rng.choice([1, 2, 2, 2, 3])) if norm != "mahalanobis" else 2
        center, radius, axes, keep = a_region(rng, n, norm)
        try:
            with flushed(mode == "flush"):
                found = region_certificate(center, radius, norm, keep, axes=axes)
        except ValueError as error:
            score.refused(family, mode, 1, error)
            continue
        A, margin = rational(center), number(found.margin)
        data = {"center": center, "radius": radius, "axes": axes, "keep": keep, **found}
        wrong = found.is_certified != (found.margin > 0)
        more = number(keep)
        if found.is_certified and norm == "mahalanobis":
            for E in in_ellipsoid(rng, axes, radius, 60):
                wrong |= not line_is_regular(A, E)
                wrong |= not sigma_at_least(
                    [a + e for a, e in zip(A, E, strict=True)], more + margin
                )
        elif found.is_certified and np.ndim(radius):
            widths = rational(radius)
            wrong |= not box_is_regular(A, [w + more for w in widths])[0]
            wrong |= not box_is_regular(A, [w + more + margin for w in widths])[1]
        elif found.is_certified:
            wrong |= not farther_strictly(A, norm, number(radius) + more)
            wrong |= not farther(A, norm, number(radius) + more + margin)
        if norm != "mahalanobis":
            wrong |= not farther(A, norm, number(found.distance))
            if math.isfinite(found.distance_upper):
                wrong |= farther_strictly(A, norm, number(found.distance_upper))
        if wrong:
            score.violation(family, mode, "a region is not as certified", **data)
        score.add(family, mode, 1, int(found.is_certified))


# -- series and models over regions ----------------------------------------------------------------


def perturbations(rng, center, radius, norm, axes, count):
    """Return exact perturbations in a region, its extreme points among them."""
    d = center.size
    if norm == "mahalanobis":
        return list(in_ellipsoid(rng, axes, radius, count))
    r = rational(np.broadcast_to(radius, (d,)) if np.ndim(radius) == 0 else radius)
    if norm == "linf":
        signs = [*itertools.product((1, -1), repeat=d)][: 2 * count]
        found = [[s * w for s, w in zip(row, r, strict=True)] for row in signs]
        inner = [rational(rng.uniform(-1, 1, d)) for _ in range(4)]
        return found + [[s * w for s, w in zip(row, r, strict=True)] for row in inner]
    if norm == "l1":
        return [[s * r[0] if i == k else ZERO for i in range(d)] for k in range(d) for s in (1, -1)]
    z = rng.standard_normal((count, d))
    plain = center / np.abs(center).max()
    U, _, Vt = np.linalg.svd(plain)
    n = len(plain)
    z = [*z, *(s * np.outer(U[:, i], Vt[i]).ravel() for i in range(n) for s in (1, -1))]
    z = [rational(v / np.linalg.norm(v) * (1 - 2.0**-50)) for v in z]
    return [[v * r[0] for v in row] for row in z if sum((v * v for v in row), ZERO) <= 1]


def series(E, B, order):
    """Return Σ (−BE)ʲB of rationals."""
    E, B = square(E), square(B)
    total = term = B
    for _ in range(order):
        term = -1 * (B * E * term)
        total = total + term
    return flat(total)


def attack_series(score, rng, m):
    """Compare the bound of a series with its error in the corners."""
    mode, norm = rng.choice(["gradual", "flush"]), rng.choice([*NORMS, "mahalanobis"])
    family = f"taylor_bound: {norm}"
    for _ in range(m):
        n = 2 if norm == "mahalanobis" else int(rng.randint(1, 3))
        order = int(rng.choice([1, 2, 3, 4, 25]))
        center, radius, axes, _ = a_region(rng, n, norm)
        radius = radius * rng.choice([1.0, 0.5, 1e-3, 1e-8])
        try:
            with flushed(mode == "flush"):
                found = taylor_bound(center, radius, order, norm, axes=axes)
        except ValueError as error:
            score.refused(family, mode, 1, error)
            continue
        score.add(family, mode, 1, int(math.isfinite(found.max_error)))
        if not math.isfinite(found.max_error):
            continue
        A = rational(center)
        B, limit = inverted(A), number(found.max_error)
        for E in perturbations(rng, center, radius, norm, axes, 12):
            X = inverted([a + e for a, e in zip(A, E, strict=True)])
            L = series(E, B, order)
            if X is None or max(abs(x - v) for x, v in zip(X, L, strict=True)) > limit:
                data = {"center": center, "radius": radius, "axes": axes, **found}
                score.violation(family, mode, "a series errs by more", **data)
                break


def exact_model(form, a):
    """Return what a model's form says of a matrix of rationals: a baseline and a ReLU network."""
    d = len(a)
    out, origin = rational(form.constant), rational(form.origin)
    if form.linear is not None:
        W = rational(form.linear)
        k = len(out)
        out = [
            o + sum(((a[i] - origin[i]) * W[i * k + j] for i in range(d)), ZERO)
            for j, o in enumerate(out)
        ]
    if form.taylor is not None:
        center, B, order = form.taylor
        E = [x - c for x, c in zip(a, rational(center), strict=True)]
        out = [o + v for o, v in zip(out, series(E, rational(B), order), strict=True)]
    if form.layers:
        mean, scale = rational(form.x_mean), rational(form.x_scale)
        z = [(x - u) / s for x, u, s in zip(a, mean, scale, strict=True)]
        for k, (W, b) in enumerate(form.layers):
            rows = fmpq_mat(*W.shape, rational(W)) * fmpq_mat(len(z), 1, z)
            z = [v + u for v, u in zip(flat(rows), rational(b), strict=True)]
            z = [max(v, ZERO) for v in z] if k < len(form.layers) - 1 else z
        out = [o + v for o, v in zip(out, z, strict=True)]
    return out


_TRAINED = {}


def a_model(rng, n, center, radius):
    """Return a fitted model of inverses around a centre."""
    kind = rng.choice(["series", "lstsq", "network"], p=[0.6, 0.25, 0.15])
    if kind == "series":
        return LinearInverseApprox(center, order=int(rng.randint(1, 4))).fit(), center
    if kind == "network":
        if n not in _TRAINED:
            X, Y = FeasibleRegionSampler(center, radius, random_state=0).fit().sample(200)
            model = NeuralInverseRegressor(
                4, "relu", max_iter=2, device="cpu", random_state=0, dtype="float64"
            )
            _TRAINED[n] = model.fit(X, Y), center
        return _TRAINED[n]
    X, Y = FeasibleRegionSampler(center, radius, random_state=0).fit().sample(30)
    return LinearInverseApprox(method="lstsq").fit(X, Y), center


def attack_models(score, rng, m):
    """Compare bounds of models over regions with errors at witnesses and in corners."""
    mode = rng.choice(["gradual", "flush"])
    for _ in range(m):
        n, norm = int(rng.randint(1, 3)), str(rng.choice([*NORMS, "mahalanobis"]))
        family = f"certify_region: {norm}"
        axes, structure = None, None
        try:
            if rng.randint(2):
                center = 2 * np.eye(n) + rng.uniform(-0.5, 0.5, (n, n))
                unit = 2.0 ** rng.choice([0, 0, 0, 30, -30, 300, -300, 511])
                model, center = a_model(rng, n, center * unit, 0.1 * unit)
                unit = np.abs(center).max()
                radius = float(0.6 * rng.uniform() ** 3 * unit)
            else:  # with a centre that may be nearly singular
                center = a_center(rng, n)[0]
                unit = np.abs(center).max()
                model = LinearInverseApprox(center, order=int(rng.randint(1, 4))).fit()
                radius = rng.uniform() ** 2 * float(distance_to_singularity(center, "linf"))
            if norm != "mahalanobis" and n > 1 and rng.randint(6) == 0:
                center, structure = center + center.T, "symmetric"
                region = FeasibleRegionSampler(center, radius / 9, structure=structure).fit()
                X, Y = region.sample(60)
                series = [None, "taylor", "taylor2", "taylor3"][rng.randint(4)]
                model = LinearInverseApprox(method="lstsq")
                model = StructuredInverse(model, baseline=series).fit(X, Y)
            if norm == "mahalanobis":
                z = rng.standard_normal((9, 2)) @ rng.standard_normal((2, n * n))
                region = FeasibleRegionSampler(center, 0.1, norm=norm)
                region.fit(center.ravel() + 0.3 * unit * z)
                axes, radius = region.axes_, region.radius_
            else:
                region = FeasibleRegionSampler(center, radius, norm=norm, structure=structure).fit()
            settings = {"max_boxes": int(rng.choice([1, 8, 64]))}
            settings["max_time"] = [None, 0.0, 0.005][rng.randint(3)]
            with flushed(mode == "flush"):
                found = certify_region(model, region, 0.3, random_state=0, **settings)
        except ValueError as error:
            score.refused(family, mode, 1, error)
            continue
        form, A = form_of(model), rational(region.center_)

        def error_at(a, form=form):
            X = inverted(a)
            if X is None:
                return None
            return max(abs(x - y) for x, y in zip(X, exact_model(form, a), strict=True))

        data = {"center": center, "radius": radius, "model": repr(model), **found}
        said = np.stack([model.predict(M[None])[0] for M in (found.witness, region.center_)])
        if not np.isfinite(said).all():
            if found.upper < np.inf:
                score.violation(family, mode, "a bound of what is not finite", **data)
            score.add(family, mode, 1)
            continue
        meant = exact_model(form, rational(found.witness))
        size = max(map(abs, [*meant, *rational(said[1])])) * number(1e-6)
        if any(abs(u - v) > size for u, v in zip(rational(said[0]), meant, strict=True)):
            score.violation(family, mode, "the model is another one", **data)
        at = error_at(rational(found.witness))
        if found.lower > 0 and (at is None or at < number(found.lower)):
            score.violation(family, mode, "the witness errs by less", **data)
        away = np.abs(found.witness - region.center_)
        size = {"linf": away.max(), "l1": away.sum(), "l2": math.hypot(*(away / unit).flat) * unit}
        if found.lower > 0 and norm in size and size[norm] > radius * (1 + 1e-12) + 1e-15 * unit:
            score.violation(family, mode, "the witness is outside", **data)
        score.add(family, mode, 1, int(math.isfinite(found.upper)))
        if math.isfinite(found.upper):
            for E in perturbations(rng, region.center_, radius, norm, axes, 8):
                if structure:
                    E = [(u + v) / 2 for u, v in zip(E, flat(square(E).transpose()), strict=True)]
                at = error_at([a + e for a, e in zip(A, E, strict=True)])
                if at is None or at > number(found.upper):
                    score.violation(family, mode, "the model errs by more", **data)
                    break


# -- failures --------------------------------------------------------------------------------------

_POOL = {}


def pool(n):
    """Return models of many kinds, fitted around a centre."""
    if n not in _POOL:
        center = 2 * np.eye(n) + 0.3
        X, Y = FeasibleRegionSampler(center, 0.2, random_state=0).fit().sample(100)
        torch.manual_seed(0)
        models = [LinearInverseApprox(center, order=k).fit() for k in (1, 2, 3)]
        models += [LinearInverseApprox(method="lstsq").fit(X, Y), Ridge().fit(X, Y)]
        models += [DecisionTreeRegressor(random_state=0).fit(X, Y), KNeighborsRegressor().fit(X, Y)]
        models += [
            MLPRegressor(hidden_layer_sizes=5, activation=a, max_iter=4, random_state=0).fit(X, Y)
            for a in ("relu", "tanh", "logistic")
        ]
        models += [
            torch.nn.Sequential(
                torch.nn.Linear(n * n, 6), layer, torch.nn.Linear(6, n * n)
            ).double()
            for layer in (torch.nn.ReLU(), torch.nn.SiLU(), torch.nn.GELU(), torch.nn.Softsign())
        ]
        _POOL[n] = models, center
    return _POOL[n]


def predictions(model, A):
    rows = A.reshape(len(A), -1).copy()
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model(torch.tensor(rows)).numpy().reshape(A.shape)
    return np.asarray(model.predict(rows)).reshape(A.shape)


def attack_failures(score, rng, m):
    """Look for larger predictions in the ball, and for matrices nearer with smaller errors."""
    for _ in range(m):
        n, mode = int(rng.randint(1, 3)), str(rng.choice(["gradual", "flush"]))
        models, center = pool(n)
        k = rng.randint(len(models))
        family, model = "failure_distance", models[k]
        center = center * (1 + 0.1 * rng.standard_normal((n, n)))
        radius, error = 10.0 ** rng.uniform(-2, 2), float(rng.choice([0, 1, 10, 1e3, 1e6]))
        if rng.randint(3) == 0:
            center = np.zeros((n, n))
        elif rng.randint(3) == 0:  # in other units
            unit = 2.0 ** rng.choice([-1015, -500, -100, 100, 500, 900])
            center, radius, error = center * unit, radius * unit, min(error / unit, 1e300)
            model = LinearInverseApprox(center, order=1).fit()
        with flushed(mode == "flush"):
            d = failure_distance(model, radius, error, center=center)
        score.add(family, mode, 1, int(d > 0))
        E = rng.standard_normal((300, n * n))
        E[::3] = np.sign(E[::3])
        E[1::3] *= np.arange(n * n) == rng.randint(n * n)
        E *= radius * (1 - 1e-12) / np.maximum(np.linalg.norm(E, axis=1), 1e-300)[:, None]
        A = center + E.reshape(-1, n, n)
        for _ in range(6):  # climb
            Y = predictions(model, A)
            size = np.linalg.norm(Y, axis=(1, 2))
            best = A[np.argsort(size)[-60:]] - center
            E = np.repeat(best, 5, axis=0) + 0.2 * radius * rng.standard_normal((300, n, n))
            E *= radius * (1 - 1e-12) / np.linalg.norm(E, axis=(1, 2))[:, None, None]
            A = center + E
        magnitude = 1 / d - error if d > 0 else np.inf
        data = {"model": repr(model), "center": center, "radius": radius, "error": error, "d": d}
        if size.max() > magnitude + 1e-9 * (magnitude + error):
            score.violation(family, mode, "predictions are larger", size=size.max(), **data)
        singular = nearest_singular(center) if center.any() else center
        step = rng.standard_normal((n, 1)) * rng.standard_normal((1, n))
        A = singular + 0.9 * d * step / np.linalg.norm(step)
        near = np.linalg.norm(A - center) < radius * (1 - 1e-9)
        entries = rational(A)
        if near and inverted(entries) is not None and not sigma_at_least(entries, number(d)):
            Y = rational(predictions(model, A[None])[0])
            gap = [y - x for y, x in zip(Y, inverted(entries), strict=True)]
            if spectral_at_most(gap, number(error)):
                score.violation(family, mode, "no failure", A=A, **data)


def attack_counterexamples(score, rng, m):
    """Verify counterexamples."""
    for _ in range(m):
        n, mode = int(rng.randint(1, 4)), str(rng.choice(["gradual", "flush"]))
        models, center = pool(n)
        family, model = "counterexample", models[rng.randint(len(models))]
        center = center + rng.uniform(-0.3, 0.3, (n, n))
        if rng.randint(4) == 0:
            center[-1] = center[0]
        error = float(10.0 ** rng.uniform(-1, 9))
        if rng.randint(3) == 0:  # in other units
            unit = 2.0 ** rng.choice([-1015, -900, -500, -100, 100, 500, 900])
            model = LinearInverseApprox(models[0].center_ * unit, order=int(rng.randint(1, 3)))
            center, error, model = center * unit, min(error / unit, 1e300), model.fit()
        try:
            with flushed(mode == "flush"):
                found = counterexample(
                    model,
                    center,
                    error,
                    n_directions=4,
                    max_iter=int(rng.randint(3)),
                    random_state=int(rng.randint(99)),
                )
        except ValueError as refusal:
            score.refused(family, mode, 1, refusal)
            continue
        entries = rational(found.matrix)
        X, Y = inverted(entries), rational(found.prediction)
        with flushed("flush" in mode):
            own = predictions(model, found.matrix[None])[0]
        bad = {
            "the matrix is singular": X is None,
            "not the error asked for": not found.error_lower > error,
            "not the model's prediction": not np.allclose(own, found.prediction, 1e-9, 1e-12),
        }
        if X is not None:
            gap = [y - x for y, x in zip(Y, X, strict=True)]
            if found.error_lower > 0:
                bad["the error is smaller"] = not spectral_exceeds(gap, number(found.error_lower))
            off = [x - z for x, z in zip(X, rational(found.inverse), strict=True)]
            total = sum((v * v for v in X), ZERO) * number(found.bound) ** 2
            bad["the inverse is not within bound"] = sum((v * v for v in off), ZERO) > total
            relative = number(found.bound) + number(1e-14)
            sigma = number(found.singular_distance)
            bad["singular_distance"] = sigma_above(entries, sigma * (1 + 2 * relative)) or not (
                sigma_at_least(entries, sigma * (1 - 2 * relative))
            )
        for what, wrong in bad.items():
            if wrong:
                data = {"model": repr(model), "center": center, "wanted": error}
                score.violation(family, mode, what, **data, **found)
        score.add(family, mode, 1, 1)


def spectral_exceeds(entries, t):
    """Tell whether the largest singular value is at least t."""
    return not all(v > 0 for v in minors(-1 * gram_less(entries, t), True))


ATTACKS = {
    "distance": (attack_distances, 6000, 200),
    "region": (attack_certificates, 5000, 25),
    "taylor_bound": (attack_series, 3000, 25),
    "certify_region": (attack_models, 1200, 20),
    "failure_distance": (attack_failures, 1200, 20),
    "counterexample": (attack_counterexamples, 1200, 20),
}
