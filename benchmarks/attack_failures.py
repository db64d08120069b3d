"""Attacks on what is proven of models: their errors over regions, and where they must fail."""

import math

import numpy as np
import torch
from attack_modules import flushed
from attack_regions import (
    NORMS,
    ZERO,
    a_center,
    flat,
    inverted,
    number,
    own_units,
    perturbations,
    rational,
    series,
    sigma_above,
    sigma_at_least,
    spectral_at_most,
    spectral_exceeds,
    square,
)
from flint import fmpq_mat
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
from skinv._linalg.form import form_of
from skinv.bounds import certify_region
from skinv.geometry import distance_to_singularity, nearest_singular
from skinv.impossibility import counterexample, failure_distance


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
            own = own_units(rng, center)
            if model.__class__ is LinearInverseApprox and norm in ("linf", "mahalanobis"):
                if (own != 1).any():
                    center = center * own
                    order = int(rng.randint(1, 4))
                    model = LinearInverseApprox(center, order=order).fit()
                    radius = radius if norm == "mahalanobis" else radius * own
            else:
                own = np.ones_like(own)
            if norm == "mahalanobis":
                z = rng.standard_normal((9, 2)) @ rng.standard_normal((2, n * n))
                region = FeasibleRegionSampler(center, 0.1, norm=norm)
                region.fit(center.ravel() + 0.3 * unit * z * own.ravel())
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
        if np.ndim(radius):
            away = away - 4 * np.finfo(float).eps * np.abs(region.center_)
            size, radius, unit = {"linf": (away / radius).max()}, 1.0, 1.0
        if found.lower > 0 and norm in size and size[norm] > radius * (1 + 1e-12) + 1e-15 * unit:
            score.violation(family, mode, "the witness is outside", **data)
        score.add(family, mode, 1, int(math.isfinite(found.upper)))
        if math.isfinite(found.upper):
            for E in perturbations(rng, region.center_, region.radius_, norm, axes, 8):
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


ATTACKS = {
    "certify_region": (attack_models, 1200, 20),
    "failure_distance": (attack_failures, 1200, 20),
    "counterexample": (attack_counterexamples, 1200, 20),
}
