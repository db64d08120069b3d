"""Attacks on the closed-form error of the Taylor series of the inverse.

The oracles are corners, ascent, samples and rational arithmetic.
"""

import itertools

import numpy as np
import pytest
import torch
from exhaustive import exhaustive
from flint import fmpq, fmpq_mat

from skinv import FeasibleRegionSampler, LinearInverseApprox
from skinv.bounds import _taylor, certify_region, taylor_bound

CENTER = np.array([[3.0, 1.0], [1.0, 2.0]])
NORMS = ("linf", "unequal", "zeros", "l2", "l1", "mahalanobis")


# Centres, regions and the largest error found.


def center_of(n, condition, seed=0):
    """Return a centre with singular values from 1 to 1 / condition."""
    rng = np.random.RandomState(seed)
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    return (U * np.geomspace(1, 1 / condition, n)) @ V


def region_of(name, center, seed=0):
    """Return radius, norm and axes of a region, to be scaled by a number."""
    n, rng = len(center), np.random.RandomState(seed)
    if name in ("unequal", "zeros"):
        widths = rng.uniform(0.1, 1, (n, n))
        if name == "zeros":
            widths *= rng.uniform(size=(n, n)) < 0.6
            widths[0, 0] = 0.5
        return widths, "linf", None
    if name == "mahalanobis":
        return 1.0, name, rng.standard_normal((min(3, n * n), n * n)) * rng.uniform(0.2, 1, n * n)
    return 1.0, name, None


def border(center, radius, norm, axes, order=1):
    """Return the largest factor of the radius with a finite bound, by bisection."""
    low, high = 0.0, 4.0
    while np.isfinite(taylor_bound(center, high * radius, order, norm, axes=axes).max_error):
        low, high = high, 4 * high
    for _ in range(30):
        mid = (low + high) / 2
        finite = np.isfinite(taylor_bound(center, mid * radius, order, norm, axes=axes).max_error)
        low, high = (mid, high) if finite else (low, mid)
    return low


def farthest(G, radius, norm, axes):
    """Return for each matrix of a stack the point of the region farthest in its direction."""
    if norm == "linf":
        return radius * np.where(G < 0, -1.0, 1.0)
    m, n, _ = G.shape
    flat = G.reshape(m, n * n)
    if norm == "mahalanobis":
        z = flat @ axes.T
        E = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-300) @ axes
    elif norm == "l1":
        at = np.abs(flat).argmax(axis=1)
        E = np.zeros_like(flat)
        E[np.arange(m), at] = np.sign(flat[np.arange(m), at])
    else:
        E = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-300)
    return radius * E.reshape(m, n, n)


def errors_of(center, E, order):
    """Return A⁻¹ − L_k(A) for each A = center + E, which may be tensors."""
    B = torch.linalg.inv(torch.as_tensor(center))
    step = -B @ E
    # (−BE)^{k+1} A⁻¹ loses no digits to cancellation.
    return torch.linalg.matrix_power(step, order + 1) @ torch.linalg.inv(center + E)


def worst_found(center, radius, order, norm, axes, seed=0):
    """Return the largest entry of the error found in a region: samples, corners and ascent."""
    n, rng = len(center), np.random.RandomState(seed)
    E = farthest(rng.standard_normal((200, n, n)), radius, norm, axes)
    E = np.concatenate([E, E * rng.uniform(0, 1, (200, 1, 1))])
    if norm == "linf" and n <= 3:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n * n)))
        E = np.concatenate([E, radius * signs.reshape(-1, n, n)])
    worst = float(errors_of(torch.tensor(center), torch.tensor(E), order).abs().max())
    # Every entry and sign from two starts; the linearised error is maximised again and again.
    i, j, sign = (
        a.ravel() for a in np.meshgrid(range(n), range(n), (-1.0, 1.0) * 2, indexing="ij")
    )
    E = torch.tensor(farthest(rng.standard_normal((len(i), n, n)), radius, norm, axes))
    for _ in range(12):
        E.requires_grad_()
        entries = errors_of(torch.tensor(center), E, order)[range(len(i)), i, j]
        worst = max(worst, float(entries.detach().abs().max()))
        (G,) = torch.autograd.grad((entries * torch.tensor(sign)).sum(), E)
        E = torch.tensor(farthest(G.numpy(), radius, norm, axes))
    return worst


def below(center, radius, order, norm, axes=None):
    """Tell whether the bound is below an error that was found, and return their ratio."""
    bound = taylor_bound(center, radius, order, norm, axes=axes).max_error
    found = worst_found(center, radius, order, norm, axes)
    return not bound >= found * (1 - 1e-9), found / bound


def rational(M):
    """Return the exact values of a matrix."""
    return fmpq_mat([[fmpq(*float(x).as_integer_ratio()) for x in row] for row in M])


def largest(M):
    """Return the largest absolute entry of a rational matrix."""
    return max(abs(x) for x in M.entries())


def exact_error(center, E, order):
    """Return the largest entry of (−BE)^{k+1} A⁻¹ in rational arithmetic."""
    A, E = rational(center), rational(E)
    power, factor = A.inv(), A.inv() * E
    total = (A + E).inv()
    for _ in range(order + 1):
        total = factor * total
    assert order > 3 or largest(total) == largest(_remainder(A, E, power, order))
    return largest(total)


def _remainder(A, E, B, order):
    """Return A⁻¹ − L_k(A) term by term."""
    rest, term = (A + E).inv(), B
    for _ in range(order + 1):
        rest, term = rest - term, -(B * E * term)
    return rest


def at_least(value, exact):
    """Tell whether a float is at least a rational number."""
    return not np.isfinite(value) or fmpq(*float(value).as_integer_ratio()) >= exact


def ratio(value, exact):
    return float(np.float64(value)) / (int(exact.p) / int(exact.q))


# The bound holds.


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("n", [1, 2, 4, *exhaustive(3, 6)])
@pytest.mark.parametrize("condition", [3, 1e4])
def test_no_error_is_above_the_bound(name, n, condition):
    """No sample, corner or ascent is above the bound, up to the border and past it."""
    center = center_of(n, condition, seed=n)
    radius, norm, axes = region_of(name, center, seed=n)
    edge = border(center, radius, norm, axes)
    best = 0.0
    for order, share in itertools.product((1, 2, 3, 4), (1e-6, 0.05, 0.5, 0.9, 0.999)):
        wrong, found = below(center, share * edge * radius, order, norm, axes)
        assert not wrong
        best = max(best, found)
    assert best > 0.02
    past = taylor_bound(center, 1.001 * edge * radius, 2, norm, axes=axes)
    assert past.max_error == np.inf
    assert past.q == np.inf
    assert past.test == "none"
    assert past.max_errors == {}


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_boxes_whose_bound_is_attained(n, order):
    """Where A₀⁻¹ is not negative the lower corner attains the bound, in rational arithmetic."""
    rng = np.random.RandomState(n)
    center = np.eye(n) * 2.0 - rng.uniform(0, 1.0 / n, (n, n))
    widths = rng.uniform(0.1, 1, (n, n))
    edge = 1 / abs(np.linalg.eigvals(widths @ np.linalg.inv(center))).max()
    for gap in (0.9, 0.5, 1e-2, 1e-6, 1e-10):
        radius = edge * (1 - gap) * widths
        exact = exact_error(center, -radius, order)
        bound = taylor_bound(center, radius, order)
        assert at_least(bound.max_error, exact)
        assert ratio(bound.max_error, exact) < 1 + 1e-10 / gap
        assert at_least(bound.q, fmpq(1) - fmpq(11, 10) * fmpq(*float(gap).as_integer_ratio()))


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("order", [1, 3])
def test_l1_balls_whose_bound_is_attained(n, order):
    """One entry of A attains the bound of an l1 ball, in rational arithmetic."""
    center = center_of(n, 10, seed=n)
    B = np.linalg.inv(center)
    i, j = np.unravel_index(np.abs(B).argmax(), B.shape)
    for gap in (0.9, 0.3, 1e-3, 1e-9):
        radius = (1 - gap) / abs(B[i, j])
        E = np.zeros((n, n))
        E[j, i] = -np.sign(B[i, j]) * radius
        exact = exact_error(center, E, order)
        bound = taylor_bound(center, radius, order, "l1").max_error
        assert at_least(bound, exact)
        assert ratio(bound, exact) < 1 + 1e-11 / gap


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "mahalanobis"])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 7])
def test_one_by_one(norm, order):
    """For numbers the error is |b| q^{k+1} / (1 − q), and the bound hardly more."""
    axes = [[1.0]] if norm == "mahalanobis" else None
    for center, q in itertools.product((3.0, -0.7, 1e-3), (0.0, 1e-12, 0.1, 0.5, 0.99, 1 - 1e-9)):
        radius = q * abs(center)
        exact = exact_error([[center]], [[-np.sign(center) * radius]], order)
        bound = taylor_bound([[center]], radius, order, norm, axes=axes)
        assert at_least(bound.max_error, exact)
        if exact > 0:
            assert ratio(bound.max_error, exact) < 1 + 1e-12 / (1 - q) + 1e-3 * (q == 1e-12)
        assert bound.q >= q
    assert taylor_bound([[2.0]], 2.0, order, norm, axes=axes).max_error == np.inf


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("condition", [3, 1e6])
def test_formulas_in_rational_arithmetic(n, order, condition):
    """Each formula, rounded up, is at least its exact value and hardly more."""
    center = center_of(n, condition, seed=n + 10)
    B = rational(center).inv()
    size = fmpq_mat([[abs(B[i, j]) for j in range(n)] for i in range(n)])
    rows = max(sum(size[i, j] for j in range(n)) for i in range(n))
    columns = max(sum(size[i, j] for i in range(n)) for j in range(n))
    signs = itertools.product((-1, 1), repeat=n)
    total = max(sum(abs(sum(B[i, j] * s[j] for j in range(n))) for i in range(n)) for s in signs)
    unequal = np.random.RandomState(n).uniform(0.1, 1, (n, n))
    for share in (0.1, 0.7, 0.99):
        radius = share / float(sum(float(x.p) / float(x.q) for x in size.entries()))
        exact_radius = fmpq(*radius.as_integer_ratio())
        given = taylor_bound(center, radius, order).max_errors
        q = exact_radius * total
        exact = exact_radius * rows * columns * q**order / (1 - q)
        _compare(given["largest sum over sign vectors"], exact)
        given = taylor_bound(center, radius * unequal, order).max_errors
        Q = rational(radius * unequal) * size
        T = (rational(np.eye(n)) - Q).inv()
        for _ in range(order + 1):
            T = Q * T
        _compare(given["entry by entry"], largest(size * T))
        # Interval sums of the series are what the closed form is the limit of.
        partial, term = rational(np.zeros((n, n))), size * Q ** (order + 1)
        for _ in range(30):
            partial, term = partial + term, term * Q
        assert largest(partial) <= largest(size * T)
        q = exact_radius * largest(size)
        given = taylor_bound(center, radius, order, "l1").max_errors
        _compare(given["largest entry"], largest(size) * q ** (order + 1) / (1 - q))


def _compare(value, exact):
    assert at_least(value, exact)
    assert ratio(value, exact) < 1 + 1e-6


@pytest.mark.parametrize("where", ["2x2", "unequal", "3x3", "l2", "l1"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_search_finds_no_more(where, order):
    """certify_region finds no error above the bound; on 2x2 boxes the two nearly meet."""
    third = np.array([[2.0, -1.0, 0.5], [1.0, 3.0, -1.0], [-0.5, 1.0, 2.5]])
    center, radius, norm = {
        "2x2": (CENTER, 0.5, "linf"),
        "unequal": (CENTER, np.array([[0.5, 0.1], [0.3, 0.2]]), "linf"),
        "3x3": (third, 0.1, "linf"),
        "l2": (CENTER, 0.8, "l2"),
        "l1": (CENTER, 1.0, "l1"),
    }[where]
    sampler = FeasibleRegionSampler(center, radius, norm=norm, random_state=0).fit()
    model = LinearInverseApprox(center, order=order).fit()
    lower = certify_region(model, sampler, max_boxes=30, max_time=None).lower
    bound = taylor_bound(center, radius, order, norm).max_error
    assert bound >= lower * (1 - 1e-12)
    if center is CENTER and norm == "linf" and order == 1:
        assert bound <= 1.05 * lower


# Laws.


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("power", [-500, -40, -1, 1, 40, 500])
def test_scale(name, power):
    """2ᵏ times the centre and region has 2⁻ᵏ times the error, to the last bit."""
    center = center_of(3, 10)
    radius, norm, axes = region_of(name, center)
    share = 0.5 * border(center, radius, norm, axes)
    bound = taylor_bound(center, share * radius, 2, norm, axes=axes)
    unit = 2.0**power
    if axes is None:
        scaled = taylor_bound(unit * center, unit * share * radius, 2, norm)
    else:
        scaled = taylor_bound(unit * center, share * radius, 2, norm, axes=unit * axes)
    assert scaled.max_error * unit == bound.max_error
    assert (scaled.q, scaled.test) == (bound.q, bound.test)


@pytest.mark.parametrize("name", NORMS)
def test_symmetries(name):
    """Transposed, or with signs turned, a region has the same error."""
    center = center_of(3, 10)
    radius, norm, axes = region_of(name, center)
    radius = 0.5 * border(center, radius, norm, axes) * np.asarray(radius)
    bound = taylor_bound(center, radius, 3, norm, axes=axes).max_error
    signs = np.array([[1, -1, 1]]) * np.array([[-1, -1, 1]]).T
    flipped = None if axes is None else (axes.reshape(-1, 3, 3) * signs).reshape(-1, 9)
    other = taylor_bound(center * signs, radius, 3, norm, axes=flipped).max_error
    assert other == pytest.approx(bound, rel=1e-6)
    turned = None if axes is None else axes.reshape(-1, 3, 3).swapaxes(1, 2).reshape(-1, 9)
    other = taylor_bound(center.T, radius.T, 3, norm, axes=turned)
    wrong, _ = below(center.T, radius.T, 3, norm, turned)
    assert not wrong
    if norm == "l1":
        assert other.max_error == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("condition", [3, 1e4])
def test_monotone(name, condition):
    """The bound grows with the radius, and for q < 1 falls with the order, about like qᵏ."""
    center = center_of(3, condition, seed=1)
    radius, norm, axes = region_of(name, center)
    edge = border(center, radius, norm, axes)
    assert taylor_bound(center, 0 * radius, 1, norm, axes=axes).max_error == 0
    last = 0.0
    for share in (1e-9, 1e-3, 0.1, 0.3, 0.6, 0.9, 0.99, 1.01):
        bound = taylor_bound(center, share * edge * radius, 2, norm, axes=axes)
        assert bound.max_error > last
        last = bound.max_error
        assert bound.max_error == min(bound.max_errors.values(), default=np.inf)
        if share > 1:
            continue
        errors = [
            taylor_bound(center, share * edge * radius, k, norm, axes=axes).max_errors[bound.test]
            for k in (1, 2, 3, 10)
        ]
        assert (np.diff(errors) < 0).all()
        if norm != "mahalanobis":  # where the best metric depends on the order
            assert errors[1] <= errors[0] * bound.q * (1 + 1e-9)


def test_two_by_two_boxes_are_nearly_exact():
    """For most boxes of 2x2 matrices there is an error within 5 % of the bound."""
    shares = []
    for seed in range(20):
        rng = np.random.RandomState(seed)
        center = rng.standard_normal((2, 2)) + rng.choice([-2, 2]) * np.eye(2)
        wrong, found = below(center, 0.3 * border(center, 1.0, "linf", None), 1, "linf")
        assert not wrong
        shares.append(found)
    assert np.mean(np.array(shares) > 0.95) > 0.6
    assert min(shares) > 0.75


def test_large_orders():
    """Past n = 20, where sign vectors are too many, other tests hold."""
    center = center_of(22, 3)
    bound = taylor_bound(center, 0.005, 2)
    assert "largest sum over sign vectors" not in bound.max_errors
    wrong, _ = below(center, 0.005, 2, "linf")
    assert not wrong


def test_what_is_said():
    """The answer repeats the question, and names the test."""
    bound = taylor_bound(CENTER, 0.5, np.int64(3))
    assert (bound.order, bound.norm) == (3, "linf")
    assert type(bound.order) is int
    assert bound.max_error == bound.max_errors[bound.test]
    assert 0 < bound.q < 1
    assert taylor_bound(CENTER.tolist(), [[0.5, 0.5], [0.5, 0.5]]).max_error > 0
    assert taylor_bound(CENTER.ravel(), 0.5, 3).max_error == bound.max_error


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ((CENTER, 0.5, 0), "order=0"),
        ((CENTER, 0.5, 1.0), "integer >= 1"),
        ((CENTER, 0.5, "2"), "integer >= 1"),
        ((CENTER, -0.5), "not negative"),
        ((CENTER, np.nan), "finite"),
        ((CENTER, np.inf), "finite"),
        ((CENTER, np.ones(3)), r"radius of shape \(3,\)"),
        ((CENTER, np.ones((2, 2)), 1, "l2"), "only norm='linf'"),
        ((CENTER, 0.5, 1, "l3"), "norm='l3'"),
        ((CENTER, 0.5, 1, "mahalanobis"), "pass axes"),
        ((np.ones((2, 2)), 0.5), "singular"),
        ((np.ones((2, 3)), 0.5), "square matrix"),
        ((np.diag([1.0, np.nan]), 0.5), "NaN or infinity"),
    ],
)
def test_bad_input(args, match):
    """What is no region is refused in words of ours."""
    with pytest.raises(ValueError, match=match):
        taylor_bound(*args)


@pytest.mark.parametrize("axes", [np.ones((1, 3)), np.ones(4), np.full((1, 4), np.inf)])
def test_bad_axes(axes):
    """Axes of a wrong shape are refused."""
    with pytest.raises(ValueError, match="finite rows of shape"):
        taylor_bound(CENTER, 0.5, 1, "mahalanobis", axes=axes)


# Underflow.


@pytest.mark.parametrize(
    ("radius", "axes"), [(1e169, [[1e-170]]), (1e200, [[1e-200]]), (1e155, [[3e-162]])]
)
def test_tiny_axes_of_a_huge_radius(radius, axes):
    """An ellipsoid is the product of its radius and axes, of which either may be tiny."""
    share = radius * axes[0][0]
    exact = share**2 / (1 - share) if share < 1 else np.inf
    bound = taylor_bound([[1.0]], radius, 1, "mahalanobis", axes=axes)
    assert bound.max_error >= exact * (1 - 1e-12)


@pytest.mark.parametrize(
    ("center", "radius", "order"),
    [(2.0**-300, 2.0**-300 * 1e-180, 1), (2.0**-700, 2.0**-700 * 1e-100, 3), (1.0, 0.1, 400)],
)
def test_errors_that_underflow_are_not_zero(center, radius, order):
    """No error of a region of more than its centre is 0."""
    assert taylor_bound([[center]], radius, order).max_error > 0


# Attacks on the attacks.


def _scaled(monkeypatch):
    right = _taylor._candidates
    monkeypatch.setattr(
        _taylor, "_candidates", lambda *a: ((t, q, 0.9 * e) for t, q, e in right(*a))
    )


def _one_order_too_many(monkeypatch):
    right = _taylor._candidates
    monkeypatch.setattr(_taylor, "_candidates", lambda *a: right(*a[:-1], a[-1] + 1))


def _no_remainder(monkeypatch):
    right = _taylor._candidates
    monkeypatch.setattr(
        _taylor, "_candidates", lambda *a: ((t, q, e * (1 - q)) for t, q, e in right(*a))
    )


@pytest.mark.parametrize("spoil", [_scaled, _one_order_too_many, _no_remainder])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "mahalanobis"])
def test_attacks_find_wrong_bounds(monkeypatch, spoil, norm):
    """Bounds that are wrong on purpose are caught."""
    spoil(monkeypatch)
    axes = np.eye(4)[1:2] if norm == "mahalanobis" else None
    center = np.diag([1.0, 0.8]) if norm != "mahalanobis" else np.array([[1.0, 0.5], [0.5, 1.0]])
    wrong, _ = below(center, 0.4, 1, norm, axes)
    assert wrong


def test_attacks_find_rounding(monkeypatch):
    """Bounds that are a millionth of a millionth too low are caught where they are attained."""
    right = _taylor._candidates
    monkeypatch.setattr(
        _taylor, "_candidates", lambda *a: ((t, q, e * (1 - 1e-12)) for t, q, e in right(*a))
    )
    center = np.array([[2.0, -0.5], [-0.25, 2.0]])
    bound = taylor_bound(center, 0.5, 2).max_error
    assert not at_least(bound, exact_error(center, np.full((2, 2), -0.5), 2))
