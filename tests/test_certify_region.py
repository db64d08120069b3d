"""Attacks on the proven error of a model over a region.

The oracles are samples, ascent, corners, grids, linear programs and exact rational arithmetic; the
errors are those of ``predict``, never those of the proof.
"""

import functools
import itertools
import math
import types

import numpy as np
import pytest
import torch
from balls import rational_of, taylor_of
from exhaustive import exhaustive
from flint import arb, fmpq, fmpq_mat
from scipy.optimize import linprog, minimize
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinv import FeasibleRegionSampler, LinearInverseApprox, NeuralInverseRegressor
from skinv.bounds import _jets, _network, _problem, _region, _search, certify_region
from skinv.bounds._problem import Problem
from skinv.datasets import make_region

certify_region = functools.partial(certify_region, max_time=None)  # no test waits for a clock
CENTER = np.array([[3.0, 1.0], [1.0, 2.0]])
# Rounding of predict and of NumPy's inverse, at errors and inverses of order 1.
TINY = 1e-12


# Regions, models, and the largest error that can be found without the proof.


@functools.cache
def region(name):
    """A fitted sampler."""
    if name in ("2x2-first", "2x2-second", "3x3"):
        return make_region(name, n_samples=1, random_state=0).sampler
    if name == "ellipsoid":
        sampler = FeasibleRegionSampler(radius=2.0, norm="mahalanobis", random_state=0)
        return sampler.fit(low_rank_data())
    center, radius, norm = {
        "unequal": (CENTER, np.array([[0.5, 0.1], [0.3, 0.2]]), "linf"),
        "flat": (CENTER, np.array([[0.5, 0.0], [0.0, 0.6]]), "linf"),
        "l2": (CENTER, 0.8, "l2"),
        "l1": (CENTER, 1.0, "l1"),
        "3x3 l2": (np.array([[2.0, -1.0, 0.5], [1.0, 3.0, -1.0], [-0.5, 1.0, 2.5]]), 0.6, "l2"),
    }[name]
    return FeasibleRegionSampler(center, radius, norm=norm, random_state=0).fit()


@functools.cache
def model(where, **params):
    """A model fitted briefly to samples of a region."""
    data = fresh(where).sample(1000, return_inverse=False)
    if "order" in params or "method" in params:
        return LinearInverseApprox(**params).fit(data)
    params = {"solver": "adam", "baseline": "affine", **params}
    return NeuralInverseRegressor(max_iter=4, random_state=1, device="cpu", **params).fit(data)


def fresh(where):
    """The sampler with its stream of samples at the start."""
    return clone(region(where)).fit(low_rank_data() if where == "ellipsoid" else None)


def low_rank_data():
    """Matrices that vary in 3 directions of 9."""
    rng = np.random.RandomState(5)
    A0 = rng.standard_normal((3, 3)) + 4 * np.eye(3)
    return A0.ravel() + 0.3 * rng.standard_normal((40, 3)) @ rng.standard_normal((3, 9))


def net(activation, *hidden, **params):
    return {"activation": activation, "hidden_layer_sizes": hidden, **params}


CASES = [
    ("2x2-first", {"order": 1}),
    ("2x2-first", {"order": 2}),
    ("2x2-first", {"order": 3}),
    ("2x2-first", {"method": "lstsq"}),
    ("2x2-second", {"order": 1}),
    ("3x3", {"order": 2}),
    ("unequal", {"order": 3}),
    ("flat", {"method": "lstsq"}),
    ("l2", {"order": 1}),
    ("l1", {"order": 2}),
    ("ellipsoid", {"order": 1}),
    ("ellipsoid", {"method": "lstsq"}),
    ("3x3 l2", {"order": 2}),
    ("2x2-first", net("relu", 8, baseline=None)),
    ("2x2-first", net("relu", 9, baseline=None, init="taylor")),
    ("2x2-first", net("silu", 8, dtype="float64")),
    ("2x2-first", net("tanh", 8, baseline="taylor")),
    ("2x2-second", net("relu", 6, 5)),
    ("2x2-second", net("silu", 6, 5, baseline=None)),
    ("2x2-second", net("tanh", 6, 5, dtype="float64")),
    ("3x3", net("relu", 12, dtype="float64")),
    ("2x2-first", net("silu", 8, solver="lm", baseline="taylor2")),
    ("2x2-second", net("tanh", 5, 4, solver="lm", baseline="taylor3")),
    ("3x3", net("silu", 12, baseline="taylor")),
    ("unequal", net("silu", 8, baseline=None)),
    ("flat", net("relu", 8, baseline="taylor")),
    ("flat", net("tanh", 8)),
    ("l2", net("relu", 8, dtype="float64")),
    ("l2", net("silu", 5, 4)),
    ("l1", net("tanh", 8, baseline=None)),
    ("l1", net("relu", 5, 4, baseline="taylor")),
    ("ellipsoid", net("relu", 8, n_components=None)),
    ("ellipsoid", net("silu", 8, dtype="float64", n_components=None)),
    ("3x3 l2", net("tanh", 8)),
]
every_case = pytest.mark.parametrize(
    ("where", "params"), CASES, ids=[f"{w}-{'-'.join(map(str, p.values()))}" for w, p in CASES]
)


def error(fitted, rows):
    """Largest absolute entry of f(A) − A⁻¹ of each row."""
    n = math.isqrt(rows.shape[1])
    inverse = np.linalg.inv(rows.reshape(-1, n, n)).reshape(len(rows), -1)
    return np.abs(fitted.predict(rows) - inverse).max(axis=1)


def exact_inverse(A):
    """The inverse in rational arithmetic, rounded once; and whether there is one."""
    n = len(A)
    rational = fmpq_mat(n, n, [rational_of(a) for a in np.ravel(A)])
    inverse = rational.inv()
    return np.array([[float(inverse[i, j].p) / float(inverse[i, j].q) for j in range(n)]
                     for i in range(n)])  # fmt: skip


def directions(sampler):
    """The region as center + z @ directions, from what the documentation says of it."""
    if sampler.certificate_.norm == "mahalanobis":
        return "l2", sampler.axes_ * sampler.radius_
    widths = np.broadcast_to(sampler.radius_, sampler.center_.shape).ravel()
    return sampler.certificate_.norm, np.diag(widths)[widths > 0]


def pull_in(z, norm):
    """The nearest points of the unit ball, or near ones."""
    if norm == "linf":
        return np.clip(z, -1, 1)
    return z / np.maximum(np.linalg.norm(z, 1 if norm == "l1" else 2, axis=1), 1)[:, None]


def worst_found(fitted, sampler, n_samples, seed=0):
    """The largest error among samples of inside and boundary, corners, and after ascents."""
    norm, axes = directions(sampler)
    rng, d = np.random.RandomState(seed), len(axes)

    def at(z):
        return error(fitted, sampler.center_.ravel() + z @ axes)

    best, starts = 0.0, []
    for size in [min(n_samples, 10**6)] * -(-n_samples // 10**6):
        z = rng.standard_normal((size, d))
        if norm == "linf":
            z = np.where(
                rng.uniform(size=(size, d)) < 0.6, np.sign(z), rng.uniform(-1, 1, (size, d))
            )
        elif norm == "l1":
            z = z * (rng.uniform(size=(size, d)) < 0.6)
            z = z / np.maximum(np.abs(z).sum(axis=1), 1e-9)[:, None]
        else:
            z /= np.linalg.norm(z, axis=1)[:, None]
        z[::4] *= rng.uniform(size=(len(z[::4]), 1))
        errors = at(pull_in(z, norm))
        starts.append(z[np.argsort(errors)[-24:]])
        best = max(best, errors.max())
    corners = (
        np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
        if norm == "linf"
        else np.concatenate((np.eye(d), -np.eye(d)))
    )
    errors = at(corners)
    starts.append(corners[np.argsort(errors)[-8:]])
    z, step = pull_in(np.concatenate(starts)[-256:], norm), 0.3
    for _ in range(40):
        best = max(best, at(z).max())
        h = 1e-6
        probes = (z[:, None] + h * np.concatenate((np.eye(d), -np.eye(d)))).reshape(-1, d)
        values = at(probes).reshape(len(z), 2, d)
        slope = values[:, 0] - values[:, 1]
        if norm == "linf":
            move = np.sign(slope)
        else:
            move = slope / np.maximum(np.linalg.norm(slope, axis=1), 1e-300)[:, None]
        moved = pull_in(z + step * move, norm)
        better = at(moved) > at(z)
        z = np.where(better[:, None], moved, z)
        step *= 0.85
    return max(best, errors.max(), at(z).max())


def blind_upper(fitted, sampler, n_boxes):
    """The upper bound of boxes alone: what the search has found would hide that it is too small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_search.Search, "look", lambda self, z: None)
        proof = certify_region(fitted, sampler, 0.0, n_boxes)
    assert proof.lower == 0
    return proof.upper


def contradictions(fitted, sampler, n_samples=20_000, boxes=(1, 10, 300)):
    """Numbers of boxes at which the upper bound is below an error that was found."""
    found = worst_found(fitted, sampler, n_samples)
    return [n for n in boxes if blind_upper(fitted, sampler, n) < found - TINY]


def problem_of(fitted, sampler):
    """The function on boxes that the search works on."""
    norm, axes = directions(sampler)
    form = fitted._model_form()
    return Problem(form, sampler.center_.ravel(), axes, norm, torch.device("cpu"))


# The bounds, from both sides.


@every_case
@pytest.mark.parametrize("most", [150, *exhaustive(1500)])
def test_no_error_is_above_the_upper_bound(where, params, most):
    """At any number of boxes upper holds, lower is below it, and neither gets worse."""
    fitted, sampler = model(where, **params), region(where)
    found = worst_found(fitted, sampler, 100 * most)
    last = None
    for n_boxes in (1, 10, most):
        proof = certify_region(fitted, sampler, 0.02, n_boxes)
        assert found <= blind_upper(fitted, sampler, n_boxes) + TINY
        assert found <= proof.upper + TINY
        assert 0 <= proof.lower <= proof.upper
        assert proof.gap == pytest.approx(proof.upper / proof.lower - 1)
        if proof.status == "converged":
            assert proof.upper <= 1.02 * proof.lower + TINY
        else:
            assert proof.status == "max_boxes"
        if last is not None:
            assert proof.upper <= last.upper + TINY
            assert proof.lower >= last.lower - TINY
        last = proof


@every_case
def test_lower_is_hardly_below_what_is_found(where, params):
    """The search for a bad matrix is nearly as good as a plain one."""
    fitted, sampler = model(where, **params), region(where)
    proof = certify_region(fitted, sampler, 0.02, 300)
    assert proof.lower >= 0.95 * worst_found(fitted, sampler, 5000)


@every_case
def test_lower_is_attained(where, params):
    """The witness lies in the region, and its exact error is the lower bound."""
    fitted, sampler = model(where, **params), region(where)
    proof = certify_region(fitted, sampler, 0.1, 100)
    assert proof.witness.shape == sampler.center_.shape
    assert sampler.is_feasible(proof.witness[None])[0]
    truth = np.abs(fitted.predict(proof.witness[None])[0] - exact_inverse(proof.witness)).max()
    assert proof.lower <= truth + 1e-15
    assert proof.lower == pytest.approx(truth, rel=1e-8, abs=TINY)


@pytest.mark.parametrize("where", ["2x2-first", "2x2-second"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_linear_approximations_against_a_polished_grid(where, order):
    """The worst error of the series in closed form, by a grid over the box and local ascent."""
    sampler, fitted = region(where), model(where, order=order)
    c, w = sampler.center_.ravel(), float(sampler.radius_)
    K, B0 = fitted.center_, np.linalg.inv(fitted.center_)

    def errors(rows):
        a, b, e, f = rows.T
        inverse = np.stack((f, -b, -e, a), axis=1) / (a * f - b * e)[:, None]
        D = np.eye(2) - (rows.reshape(-1, 2, 2) @ B0)  # 1 − AB = −EB
        total = power = np.broadcast_to(np.eye(2), D.shape)
        for _ in range(order):
            power = power @ D
            total = total + power
        assert np.allclose(K @ B0, np.eye(2))
        return np.abs((B0 @ total).reshape(-1, 4) - inverse)

    grid = np.array(list(itertools.product(np.linspace(-w, w, 13), repeat=4))) + c
    values = errors(grid)
    best = values.max()
    for entry in range(4):
        start = grid[values[:, entry].argmax()]
        polished = minimize(
            lambda row, entry=entry: -errors(row[None])[0, entry],
            start,
            bounds=list(zip(c - w, c + w, strict=True)),
            method="L-BFGS-B",
        )
        best = max(best, -polished.fun)
    proof = certify_region(fitted, sampler, 0.05)
    assert proof.status == "converged"
    assert proof.lower * (1 - 1e-9) <= best * 1.05
    assert 0.95 * proof.upper / 1.05 <= best <= proof.upper + TINY


def test_relu_network_against_linear_programs():
    """Pattern by pattern a ReLU network is affine; the worst of all polytopes is the worst."""
    sampler, fitted = region("2x2-first"), model("2x2-first", **net("relu", 8, baseline=None))
    (W1, W2), (b1, b2) = fitted.coefs_, fitted.intercepts_
    c, w = sampler.center_.ravel(), float(sampler.radius_)
    box = list(zip(c - w, c + w, strict=True))
    rows = c + np.random.RandomState(0).uniform(-w, w, size=(20_000, 4))
    signs = rows @ W1 + b1 > 0
    patterns = {tuple(s) for s in signs}
    queue = list(patterns)

    def halfspaces(pattern):  # G a <= h
        s = np.where(pattern, -1.0, 1.0)
        return s[:, None] * W1.T, -s * b1

    while queue:  # neighbours that no sample hit: a point with all signs strict must exist
        pattern = queue.pop()
        for unit in range(8):
            other = tuple(p != (k == unit) for k, p in enumerate(pattern))
            if other in patterns:
                continue
            G, h = halfspaces(other)
            room = linprog(
                np.append(np.zeros(4), -1.0),
                np.column_stack((G, np.ones(8))),
                h,
                bounds=[*box, (None, 1.0)],
            )
            if room.status == 0 and -room.fun > 1e-9:
                patterns.add(other)
                queue.append(other)
    worst = 0.0
    for pattern in patterns:
        on = np.array(pattern)
        matrix, constant = (W1 * on) @ W2, (b1 * on) @ W2 + b2
        G, h = halfspaces(pattern)

        def errors(rows, matrix=matrix, constant=constant):
            a, b, e, f = rows.T
            inverse = np.stack((f, -b, -e, a), axis=1) / (a * f - b * e)[:, None]
            return rows @ matrix + constant - inverse

        inside = rows[(signs == on).all(axis=1)]
        if len(inside) == 0:
            center = linprog(
                np.append(np.zeros(4), -1.0),
                np.column_stack((G, np.ones(8))),
                h,
                bounds=[*box, (None, 1.0)],
            )
            inside = center.x[None, :4]
        values = errors(inside)
        at = np.unravel_index(np.abs(values).argmax(), values.shape)
        sign, x = np.sign(values[at]), inside[at[0]]
        worst = max(worst, abs(values[at]))
        for _ in range(12):  # linearise, solve over the polytope, go there while it helps
            slope = np.array([
                (errors((x + step)[None])[0, at[1]] - errors((x - step)[None])[0, at[1]]) / 2e-6
                for step in 1e-6 * np.eye(4)
            ])  # fmt: skip
            target = linprog(-sign * slope, G, h + 1e-12, bounds=box)
            assert target.status == 0
            along = x + np.linspace(0, 1, 33)[:, None] * (target.x - x)
            heights = sign * errors(along)[:, at[1]]
            if heights.argmax() == 0:
                break
            x = along[heights.argmax()]
            worst = max(worst, heights.max())
    proof = certify_region(fitted, sampler, 0.05)
    assert proof.status == "converged"
    assert worst <= proof.upper + 1e-9
    assert worst >= 0.95 * proof.lower
    assert proof.upper <= 1.05 * 1.05 * worst


# Single boxes.


def random_boxes(problem, n_boxes, seed):
    """Boxes as halving makes them, of all sizes."""
    rng = np.random.RandomState(seed)
    z, half = np.zeros((n_boxes, problem.d)), np.ones((n_boxes, problem.d))
    for box in range(n_boxes):
        for _ in range(rng.randint(0, 5 * problem.d)):
            side = rng.randint(problem.d)
            half[box, side] /= 2
            z[box, side] += rng.choice((-1, 1)) * half[box, side]
    return torch.tensor(z), torch.tensor(half)


def points_of(problem, z, half, n_points, seed):
    """Points of one box that lie in the region too, corners among them."""
    rng = np.random.RandomState(seed)
    t = rng.uniform(-1, 1, size=(n_points, problem.d))
    t[::2] = np.where(rng.uniform(size=t[::2].shape) < 0.8, np.sign(t[::2]), t[::2])
    points = z.numpy() + t * half.numpy()
    if problem.p < np.inf:
        scaled = pull_in(points, f"l{problem.p:.0f}")
        points = np.concatenate((points, scaled))
        points = points[np.linalg.norm(points, problem.p, axis=1) <= 1 + 1e-15]
        inside = (np.abs(points - z.numpy()) <= half.numpy()).all(axis=1)
        points = points[inside]
    return points


@every_case
def test_single_boxes(where, params):
    """The bound of any box is above the errors of the points in it."""
    fitted, sampler = model(where, **params), region(where)
    problem = problem_of(fitted, sampler)
    _, axes = directions(sampler)
    z, half = random_boxes(problem, 60, seed=3)
    upper, side, corner = problem.bound(z, half)
    problem.second = False  # as where there are too many second-order terms
    upper = torch.minimum(upper, problem.bound(z, half)[0])
    problem.network.quadratic = False
    upper = torch.minimum(upper, problem.bound(z, half)[0])
    assert not upper.isnan().any()
    outside = problem.outside(z, half)
    assert ((side >= 0) & (side < problem.d)).all()
    assert torch.isfinite(corner).all()
    n_tested = 0
    for box in range(len(z)):
        points = points_of(problem, z[box], half[box], 300, seed=box)
        if len(points):
            assert not outside[box]
            found = error(fitted, sampler.center_.ravel() + points @ axes).max()
            assert found <= float(upper[box]) + TINY
            n_tested += 1
    assert n_tested >= 20


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("second", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_jets_enclose_exact_inverses(norm, second, n):
    """A⁻¹ and its series lie within the remainders of their expansions, in rational arithmetic."""
    rng = np.random.RandomState(7)
    center = rng.standard_normal((n, n)) + 2 * n * np.eye(n)
    axes = 0.6 * rng.standard_normal((min(3, n * n), n * n))
    form = LinearInverseApprox(center).fit()._model_form()
    problem = Problem(form, center.ravel(), axes, norm, torch.device("cpu"))
    z, half = random_boxes(problem, 12, seed=n)
    A = (problem.center + z @ problem.directions).reshape(-1, n, n)
    S = (half[:, :, None] * problem.directions).reshape(len(z), -1, n, n)
    boxes = _jets.Boxes(z, half, A, S, problem.p, 0.0)
    jet, rounding = _jets.inverse_jet(boxes, second)
    B0 = np.linalg.inv(center)
    series = [
        _jets.series_jet(boxes, torch.tensor(center), torch.tensor(B0), order, second)
        for order in (1, 2, 4)
    ]
    assert torch.isfinite(jet.remainder).all(dim=(1, 2)).sum() >= 6
    for box in range(len(z)):
        for point in points_of(problem, z[box], half[box], 12, seed=box):
            t = torch.tensor((point - z[box].numpy()) / half[box].numpy())
            M = center + (point @ axes).reshape(n, n)
            error = np.abs(expanded(jet, box, t) - exact_inverse(M))
            assert (error <= (jet.remainder[box] + rounding[box]).numpy() + 1e-14).all()
            for order, taylor in zip((1, 2, 4), series, strict=True):
                X = B0
                for _ in range(order):
                    X = B0 - B0 @ (M - center) @ X
                error = np.abs(expanded(taylor, box, t) - X)
                assert (error <= taylor.remainder[box].numpy() + 1e-12).all()


def expanded(jet, box, t):
    """The polynomial of a jet at one point."""
    value = jet.value[box] + torch.einsum("k,kij->ij", t, jet.gradient[box])
    if jet.curvature is not None:
        value = value + torch.einsum("k,l,klij->ij", t, t, jet.curvature[box])
    return value.numpy()


def test_jets_against_differences():
    """Gradient and curvature of the inverse are those of difference quotients."""
    z, half = torch.zeros(1, 4).double(), torch.full((1, 4), 0.01).double()
    S = 0.01 * torch.eye(4).double().reshape(1, 4, 2, 2)
    jet, _ = _jets.inverse_jet(
        _jets.Boxes(z, half, torch.tensor(CENTER)[None], S, np.inf, 0.0), True
    )
    h = 1e-2

    def at(*moves):
        return np.linalg.inv(CENTER + sum(s * S[0, k].numpy() for k, s in moves))

    for k in range(4):
        slope = (at((k, h)) - at((k, -h))) / (2 * h)
        assert np.allclose(jet.gradient[0, k], slope, rtol=1e-6, atol=1e-9)
        for m in range(4):
            mixed = sum(s * r * at((k, s * h), (m, r * h)) for s in (-1, 1) for r in (-1, 1))
            both = jet.curvature[0, k, m] + jet.curvature[0, m, k]
            assert np.allclose(both, mixed / (4 * h * h), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("shape", ["linf", "l2", "l1"])
def test_maximum_of_a_quadratic(shape):
    """The closed form is above all samples, and exact where no product is free."""
    rng = np.random.RandomState(0)
    for trial in range(40):
        d = 1 + trial % 4
        scale = 10 ** rng.uniform(-2, 1)
        g = torch.tensor(rng.standard_normal((1, d, 1)))
        C = torch.tensor(scale * rng.standard_normal((1, d, d, 1)))
        C = (C + C.transpose(1, 2)) / 2
        zeros, eye = torch.zeros(1, d).double(), torch.zeros(1, d, 1, 1).double()
        p = {"linf": np.inf, "l2": 2, "l1": 1}[shape]
        boxes = _jets.Boxes(zeros, zeros + 1, torch.zeros(1, 1, 1).double(), eye, p, 0.0)
        value = torch.zeros(1, 1).double()
        bound = float(_problem.maximum(boxes, value, g, C)[0, 0])
        t = rng.uniform(-1, 1, size=(40_000, d))
        t[::2] = np.sign(t[::2])
        t = pull_in(t, shape)
        height = t @ g[0, :, 0].numpy() + np.einsum("bk,kl,bl->b", t, C[0, :, :, 0].numpy(), t)
        assert height.max() <= bound + 1e-12
        if shape == "linf" and d == 1:
            assert bound == pytest.approx(height.max(), rel=1e-3, abs=1e-3)
        if shape == "linf" and (g[0, :, 0].abs() >= 2 * C[0, :, :, 0].abs().sum(1)).all():
            assert bound == pytest.approx(height.max(), rel=1e-12)


# Activations.


@pytest.mark.parametrize("activation", ["silu", "tanh"])
def test_derivatives(activation):
    """Value and three derivatives against power series in ball arithmetic."""
    x = np.concatenate((np.linspace(-12, 12, 97), [1e-8, -1e-3]))
    computed = _network.derivatives(torch.tensor(x), activation)
    for i, point in enumerate(x):
        for value, exact in zip(computed, taylor_of(activation, float(point), 3), strict=True):
            assert float(value[i]) == pytest.approx(float(exact), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("activation", ["silu", "tanh"])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_constants_bound_the_derivatives(activation, order):
    """|f''|, |f'''| and |f''''| stay below their constants, proven by balls that cover [−40, 40].

    Beyond, all these derivatives are sums of a few terms below 100·|x|·exp(−|x|), that is 1e-13.
    """
    table = (_network.SECOND, _network.THIRD, _network.FOURTH)[order - 2]
    constant, largest = table[activation], 0.0
    cells = [(k / 2, (k + 1) / 2) for k in range(-80, 80)]
    while cells:
        low, high = cells.pop()
        middle, radius = (low + high) / 2, (high - low) / 2
        here = abs(taylor_of(activation, middle, order)[order])
        largest = max(largest, float(here))
        slope = abs(taylor_of(activation, arb(middle, radius), order + 1)[order + 1])
        if not here + radius * slope < constant:
            assert radius > 1e-7
            cells += [(low, middle), (middle, high)]
    assert largest >= 0.998 * constant  # and is no larger than it needs to be


# Regions that hold singular matrices, and what is no model of inverses.

SINGULAR = {
    "a box around": (np.eye(2), 2.0, "linf"),
    "one entry, met by the first halving": (np.eye(2), np.diag([2.0, 0.0]), "linf"),
    "one entry, met by the second halving": (
        np.ones((2, 2)) + np.eye(2),
        np.diag([2.0, 0]),
        "linf",
    ),
    "one entry, never met": (np.eye(2), np.diag([1.7, 0.0]), "linf"),
    "a corner": (np.eye(2), 1.0, "linf"),
    "an l2 ball": (np.diag([1.0, 3.0]), 1.5, "l2"),
    "an l1 ball": (np.diag([1.0, 3.0]), 1.0, "l1"),
    "the zero matrix": (np.eye(1), 2.0, "linf"),
}


@pytest.mark.parametrize("case", SINGULAR)
@pytest.mark.parametrize("max_boxes", [1, 7, 500])
def test_singular_matrices_in_the_region(case, max_boxes):
    """Then no finite number bounds the error, and nothing converges."""
    center, radius, norm = SINGULAR[case]
    sampler = FeasibleRegionSampler(center, radius, norm=norm, random_state=0).fit()
    proof = certify_region(LinearInverseApprox(center).fit(), sampler, max_boxes=max_boxes)
    assert proof.upper == math.inf
    assert proof.gap == math.inf
    assert proof.status == "max_boxes"
    assert math.isfinite(proof.lower)
    assert proof.lower < 1e300
    assert np.isfinite(proof.witness).all()
    truth = np.linalg.svd(proof.witness)[1][-1]
    assert truth > 0 or proof.lower == 0


def test_singular_centre_of_a_box():
    """A box around a singular matrix has an infinite bound, not one that is lost."""
    sampler = FeasibleRegionSampler(np.eye(2), np.diag([2.0, 0.0])).fit()
    problem = problem_of(LinearInverseApprox(np.eye(2)).fit(), sampler)
    z = torch.tensor([[-0.5], [-0.5], [0.5]]).double()
    upper, _, corner = problem.bound(z, torch.tensor([[0.5], [1e-3], [0.25]]).double())
    assert upper[:2].tolist() == [math.inf, math.inf]
    assert torch.isfinite(upper[2])
    assert torch.isfinite(corner).all()


def test_regular_but_uncertified_region():
    """The search proves regularity by itself where the sampler's certificate cannot."""
    rng = np.random.RandomState(1)
    data = np.linspace(0, 1, 30)[:, None, None] * np.array([[0.0, 5.0], [-5.0, 0.0]])
    data = (data + np.eye(2) + 1e-3 * rng.standard_normal((30, 1, 1)) * np.eye(2)).reshape(-1, 4)
    sampler = FeasibleRegionSampler(norm="mahalanobis", random_state=0).fit(data)
    fitted = LinearInverseApprox(method="lstsq").fit(data)
    assert not sampler.is_certified_
    proof = certify_region(fitted, sampler, 0.05, 50_000)
    assert proof.status == "converged"
    assert worst_found(fitted, sampler, 20_000) <= proof.upper + TINY


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_region_of_one_matrix(norm):
    """A radius of 0 leaves the error of the centre."""
    sampler = FeasibleRegionSampler(CENTER, 0.0, norm=norm).fit()
    proof = certify_region(LinearInverseApprox(CENTER + 0.1).fit(), sampler)
    truth = error(LinearInverseApprox(CENTER + 0.1).fit(), CENTER.reshape(1, 4))[0]
    assert proof.lower <= truth + 1e-15
    assert truth <= proof.upper + 1e-15
    assert proof.upper == pytest.approx(truth, rel=1e-9)
    assert proof.status == "converged"


def test_network_without_a_hidden_layer():
    """No hidden layer makes an affine model, in three coordinates of four."""
    sampler = FeasibleRegionSampler(CENTER, np.array([[0.5, 0.0], [0.5, 0.2]])).fit()
    data = np.random.RandomState(0).uniform(-1, 1, (300, 4)) * sampler.radius_.ravel()
    fitted = NeuralInverseRegressor(
        hidden_layer_sizes=(), activation="relu", max_iter=2, random_state=0, device="cpu"
    ).fit(data + CENTER.ravel())
    proof = certify_region(fitted, sampler)
    assert worst_found(fitted, sampler, 20_000) <= proof.upper + TINY
    assert proof.status == "converged"


def test_ill_conditioned_corner_in_exact_arithmetic():
    """Rounding of the box's matrix itself is covered where the region nearly touches zero."""
    for w in (1 - 1e-7, 1 - 3.1e-6, 1 - 7.77e-5, 1 - 1.2e-3):
        data = np.array([np.eye(2).ravel() * (1 + w), np.eye(2).ravel() * (1 - w)])
        sampler = FeasibleRegionSampler(np.eye(2), 1.0, norm="mahalanobis").fit(data)
        proof = certify_region(LinearInverseApprox(np.eye(2)).fit(), sampler, 1e-12, 1500)
        reach = [rational_of(a) for a in sampler.axes_[0]]
        # On the diagonal the error is 1/a − (2 − a), and the largest is at the smallest a.
        smallest = min(1 - abs(reach[0]), 1 - abs(reach[3]))
        exact = 1 / smallest - 2 + smallest
        assert rational_of(proof.upper) >= exact
        assert rational_of(proof.lower) <= exact


def test_cancellation_in_the_model():
    """A model whose large terms cancel in the region is bounded as what it is."""
    a0, slope = 1.0e3 / 3.0, 1.0e9 / 7.0
    sampler = FeasibleRegionSampler([[2.0, a0], [0.0, 1.0]], np.diag([0.25, 0.0])).fit()
    rng = np.random.RandomState(0)
    X = np.column_stack((2 + rng.uniform(-1, 1, (50, 1)), rng.uniform(0, 1, (50, 3))))
    fitted = LinearInverseApprox(method="lstsq").fit(X, slope * (X[:, [1] * 4] - a0))
    fitted._inverse_targets = True  # a map that no inverses would give
    proof = certify_region(fitted, sampler, 0.0, 500)
    x_mean, y_mean, M = (np.vectorize(rational_of, otypes=[object])(a)
                         for a in (fitted._x_mean, fitted._y_mean, fitted._map))  # fmt: skip
    for a in (1.75, 2.0, 2.25):
        row = [rational_of(v) for v in (a, a0, 0.0, 1.0)]
        f = [y_mean[o] + sum((row[k] - x_mean[k]) * M[k, o] for k in range(4)) for o in range(4)]
        inverse = [1 / row[0], -row[1] / row[0], fmpq(0), fmpq(1)]
        truth = max(abs(u - v) for u, v in zip(f, inverse, strict=True))
        assert truth <= rational_of(proof.upper)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_scale(norm):
    """Units do not matter, as far as the approximation itself can be computed."""
    plain = None
    for unit in (1.0, 2.0**-400, 2.0**-100, 2.0**200, 2.0**400):
        sampler = FeasibleRegionSampler(CENTER * unit, 0.5 * unit, norm=norm).fit()
        proof = certify_region(LinearInverseApprox(CENTER * unit).fit(), sampler, 0.05, 500)
        plain = plain or proof
        assert proof.upper * unit == pytest.approx(plain.upper, rel=1e-6)
        assert proof.lower * unit == pytest.approx(plain.lower, rel=1e-6)


def test_what_is_refused():
    """Other estimators, other targets, other sizes and unfitted ones are named."""
    sampler = region("2x2-first")
    X = fresh("2x2-first").sample(100, return_inverse=False)
    for other in (Ridge().fit(X, X), make_pipeline(StandardScaler(), Ridge()).fit(X, X), None):
        with pytest.raises(ValueError, match="only errors of LinearInverseApprox"):
            certify_region(other, sampler)
    with pytest.raises(ValueError, match="one size"):
        certify_region(LinearInverseApprox(np.eye(3)).fit(), sampler)
    determinant = LinearInverseApprox(method="lstsq").fit(X, X[:, 0] * X[:, 3] - X[:, 1] * X[:, 2])
    with pytest.raises(ValueError, match="something else than inverses"):
        certify_region(determinant, sampler)
    with pytest.raises(NotFittedError):
        certify_region(LinearInverseApprox(CENTER), sampler)
    with pytest.raises(NotFittedError):
        certify_region(NeuralInverseRegressor(), sampler)
    with pytest.raises(NotFittedError):
        certify_region(LinearInverseApprox(CENTER).fit(), FeasibleRegionSampler(CENTER, 0.5))
    for wrong in ({"rtol": -0.1}, {"rtol": "a"}, {"max_boxes": 0}, {"max_boxes": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            certify_region(LinearInverseApprox(CENTER).fit(), sampler, **wrong)


def test_targets_of_the_right_number_that_are_no_inverses():
    """A model of n² other quantities is no model of inverses."""
    X = fresh("2x2-first").sample(200, return_inverse=False)
    for fitted in (
        LinearInverseApprox(method="lstsq").fit(X, X**2),
        NeuralInverseRegressor(max_iter=1, random_state=0, device="cpu").fit(X, X**2),
    ):
        with pytest.raises(ValueError, match="inverse"):
            certify_region(fitted, region("2x2-first"))


def test_a_region_that_is_no_region():
    """Another fitted estimator in place of the sampler is named."""
    fitted = LinearInverseApprox(CENTER).fit()
    with pytest.raises(ValueError, match="FeasibleRegionSampler"):
        certify_region(fitted, fitted)


def test_frozen_and_searched_models():
    """What wraps a model is taken off."""
    sampler = region("2x2-first")
    X = fresh("2x2-first").sample(200, return_inverse=False)
    plain = LinearInverseApprox(CENTER, order=2).fit(X)
    search = GridSearchCV(LinearInverseApprox(CENTER), {"order": [2]}, cv=2).fit(X)
    proofs = [
        certify_region(wrapped, sampler, 0.05, 300)
        for wrapped in (plain, FrozenEstimator(plain), search, FrozenEstimator(search))
    ]
    assert len({(p.lower, p.upper, p.n_boxes) for p in proofs}) == 1
    with pytest.raises(ValueError, match="only errors of"):
        certify_region(GridSearchCV(LinearInverseApprox(), {"order": [1]}), sampler)


# At any time.


@pytest.mark.parametrize("call", [2, 3, 5, 7])
def test_interruption(monkeypatch, call):
    """Interrupted at any bounding the proof holds."""
    fitted, sampler = model("2x2-first", **net("relu", 8, baseline=None)), region("2x2-first")
    bound, calls = Problem.bound, []

    def interrupted(self, z, half):
        calls.append(len(z))
        if len(calls) == call:
            raise KeyboardInterrupt
        return bound(self, z, half)

    found = worst_found(fitted, sampler, 20_000)
    monkeypatch.setattr(Problem, "bound", interrupted)
    proof = certify_region(fitted, sampler, 0.001)
    assert proof.status == "interrupted"
    assert found <= proof.upper + TINY
    truth = error(fitted, proof.witness.reshape(1, -1))[0]
    assert proof.lower == pytest.approx(truth, rel=1e-9)
    # The call that failed counts for nothing; the last one is of the witness.
    assert proof.n_boxes == 1 + sum(calls[1 : call - 1])


@pytest.mark.parametrize("where", ["outside", "look", "errors", "search"])
def test_interruption_elsewhere(monkeypatch, where):
    """Between bounding and book-keeping the proof holds too."""
    fitted, sampler = model("2x2-first", **net("relu", 8, baseline=None)), region("2x2-first")
    found = worst_found(fitted, sampler, 20_000)
    owner, name, call = {
        "outside": (Problem, "outside", 4),
        "look": (_search.Search, "look", 60),
        "errors": (Problem, "errors", 128),
        "search": (Problem, "errors", 50),
    }[where]
    plain, calls = getattr(owner, name), []

    def interrupted(self, *arguments):
        calls.append(0)
        if len(calls) == call:
            raise KeyboardInterrupt
        return plain(self, *arguments)

    monkeypatch.setattr(owner, name, interrupted)
    try:
        proof = certify_region(fitted, sampler, 0.001)
    except KeyboardInterrupt:
        pytest.fail("The interruption went through.")
    assert proof.status == "interrupted"
    assert found <= proof.upper + TINY
    assert proof.lower <= found * 1.03


def test_deterministic():
    """The same seed gives the same proof; the upper bound hardly needs it."""
    fitted, sampler = model("l2", **net("relu", 8, dtype="float64")), region("l2")
    first, again = (certify_region(fitted, sampler, 0.1, 200, random_state=4) for _ in range(2))
    assert (first.lower, first.upper, first.n_boxes) == (again.lower, again.upper, again.n_boxes)
    assert np.array_equal(first.witness, again.witness)
    other = certify_region(fitted, sampler, 0.1, 200, random_state=np.random.RandomState(5))
    assert max(first.lower, other.lower) <= min(first.upper, other.upper)


@pytest.mark.parametrize("max_boxes", [1, 2, 3, 4, 64, 65, 300])
def test_max_boxes(max_boxes):
    """No more boxes than allowed."""
    fitted, sampler = model("3x3", **net("relu", 12, dtype="float64")), region("3x3")
    proof = certify_region(fitted, sampler, 0.0, max_boxes)
    assert max_boxes - 2 < proof.n_boxes <= max_boxes
    assert proof.status == "max_boxes"


@every_case
def test_no_time(where, params):
    """Out of time from the start, the bounds hold, and it is said what ended the search."""
    fitted, sampler = model(where, **params), region(where)
    proof = certify_region(fitted, sampler, 0.0, max_time=0)
    assert proof.status == "max_time"
    assert "(max_time)" in repr(proof)
    assert proof.n_boxes == 0
    center = error(fitted, sampler.center_.reshape(1, -1))[0]
    assert proof.lower == pytest.approx(center, rel=1e-8, abs=1e-10)
    assert worst_found(fitted, sampler, 2000) <= proof.upper + TINY


def test_what_is_left_is_rounding():
    """A series at its centre has no error to be found, but for that of its own numbers."""
    directions = 1e-9 * np.ones((1, 2, 2))
    proof = certify_region(LinearInverseApprox(CENTER).fit(), CENTER, directions=directions)
    assert (proof.status, proof.n_boxes) == ("rounding", 1)
    assert 0 <= proof.lower <= proof.upper < 1e-12


@pytest.mark.parametrize("ticks", range(0, 240, 40))
@pytest.mark.parametrize("params", [net("relu", 6, 5), {"order": 2}], ids=["relu", "series"])
def test_time_is_up_at_any_moment(monkeypatch, params, ticks):
    """Whatever is left undone: what is said was proven by then, and nothing is half stored."""
    fitted, sampler = model("2x2-second", **params), region("2x2-second")
    clock = itertools.count()
    for module in (_region, _search):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(_problem, "_PIECE", 2**10)
    proof = certify_region(fitted, sampler, 0.0, 5000, max_time=ticks + 0.5)
    assert proof.status == "max_time"
    found = worst_found(fitted, sampler, 2000)
    assert proof.lower - TINY <= found <= proof.upper + TINY
    later = certify_region(fitted, sampler, 0.0, 5000, max_time=ticks + 40.5)
    assert proof.lower <= later.lower <= later.upper <= proof.upper


def test_time_that_suffices(monkeypatch):
    """A search that ends before its time is the one without a limit."""
    fitted, sampler = model("2x2-first", order=1), region("2x2-first")
    for module in (_region, _search):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: 0.0))
    limited, free = (certify_region(fitted, sampler, max_time=t) for t in (1e-9, None))
    assert limited.status == free.status == "converged"
    assert (limited.lower, limited.upper, limited.n_boxes) == (free.lower, free.upper, free.n_boxes)


def test_steps_are_short():
    """No piece of a batch holds more numbers than its share, wide layers included."""
    wide = problem_of(model("2x2-first", **net("relu", 900)), region("2x2-first"))
    narrow = problem_of(model("2x2-first", **net("relu", 8)), region("2x2-first"))
    assert wide._step * 900 * 4 <= _problem._PIECE < (wide._step + 1) * 900 * 4
    assert narrow._step > wide._step


@pytest.mark.parametrize("bad", [-1.0, np.nan, "1", [1.0]])
def test_bad_times(bad):
    """The message names the parameter, what it was and what is expected."""
    with pytest.raises(ValueError, match=r"'max_time' parameter of certify_region must be a float"):
        certify_region(model("2x2-first", order=1), region("2x2-first"), max_time=bad)


def test_progress(capsys):
    """A bar if asked for, else nothing."""
    fitted, sampler = LinearInverseApprox(CENTER).fit(), region("2x2-first")
    certify_region(fitted, sampler, 0.0, 50)
    assert capsys.readouterr() == ("", "")
    certify_region(fitted, sampler, 0.0, 50, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "box" in err


# The attacks themselves find what is wrong.


def test_attacks_find_a_missing_remainder(monkeypatch):
    """Without the remainder of the inverse upper bounds are contradicted."""
    plain = _jets.inverse_jet

    def careless(boxes, second):
        jet, rounding = plain(boxes, second)
        jet.remainder = torch.zeros_like(jet.remainder)
        return jet, rounding

    fitted, sampler = model("2x2-first", order=1), region("2x2-first")
    assert contradictions(fitted, sampler) == []
    monkeypatch.setattr(_problem, "inverse_jet", careless)
    assert contradictions(fitted, sampler)


def test_attacks_find_a_missing_series_remainder(monkeypatch):
    """Without the remainder of the series upper bounds are contradicted."""
    plain = _jets.series_jet

    def careless(*arguments):
        jet = plain(*arguments)
        jet.remainder = torch.zeros_like(jet.remainder)
        return jet

    fitted, sampler = LinearInverseApprox([[1.0]], order=3).fit(), region_of_one()
    assert contradictions(fitted, sampler) == []
    monkeypatch.setattr(_problem, "series_jet", careless)
    assert contradictions(fitted, sampler)


def region_of_one():
    return FeasibleRegionSampler([[10.0]], 8.0).fit()


def test_attacks_find_a_missing_offset(monkeypatch):
    """Without the offset of the upper ReLU line upper bounds are contradicted."""
    plain = _network.Network._relaxed

    def careless(self, low, high, parallel):
        under, below, slope, offset = plain(self, low, high, parallel)
        return under, below, slope, torch.zeros_like(offset)

    fitted, sampler = model("2x2-first", **net("relu", 8, baseline=None)), region("2x2-first")
    assert contradictions(fitted, sampler) == []
    monkeypatch.setattr(_network.Network, "_relaxed", careless)
    assert contradictions(fitted, sampler)


def sharp_tanh():
    """A network whose cubic terms are large, and the region it was made for."""
    wild = NeuralInverseRegressor(
        hidden_layer_sizes=8, activation="tanh", max_iter=1, random_state=0, device="cpu"
    ).fit(fresh("2x2-first").sample(200, return_inverse=False))
    wild._layers = [(3 * W, b) for W, b in wild._layers]
    return wild, region("2x2-first")


def test_attacks_find_a_missing_lagrange_remainder(monkeypatch):
    """Without Lagrange's remainder upper bounds are contradicted."""
    fitted, sampler = sharp_tanh()
    assert contradictions(fitted, sampler) == []
    monkeypatch.setattr(_network.Network, "third", lambda self, f3, radius: 0 * radius)
    assert contradictions(fitted, sampler)
