"""solve(return_radius=True): no entry of a solution is off by more, in whatever units all came."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from backends import every_library
from hostile import rational
from test_units import FAMILIES, flushed  # noqa: F401

from skinv import CertifiedInverse, LinearInverseApprox, PolynomialInverseApprox
from skinv.certified import _anchor, _iteration, _solves
from skinv.certified._anchor import Anchor, contraction
from skinv.certified._iteration import solve_with
from skinv.certified._radius import bound_of_radius, radius_near, radius_with
from skinv.datasets import load_power_flow

KINDS = {
    "dense": lambda A, rng: A,
    "sparse": lambda A, rng: A * (rng.random(A.shape) < 0.4) + 2 * np.eye(len(A)),
    "nearly singular": lambda A, rng: np.vstack([A[:-1], A[:-1].sum(0) + 1e-9 * A[-1]]),
    "singular": lambda A, rng: np.round(4 * np.vstack([A[:-1], A[:1] * (len(A) > 1)])),
}


def squared_errors(A, b, x):
    """|x − A⁻¹b|² entry by entry, exactly, of one matrix and one right-hand side; or None."""
    sides = [rational(np.concatenate([v.real, v.imag])[:, None]) for v in (b + 0j, x + 0j)]
    try:
        E = rational(A + 0j).solve(sides[0]) - sides[1]
    except ZeroDivisionError:
        return None
    parts = [Fraction(int(v.p), int(v.q)) for (v,) in E.tolist()]
    return [u * u + v * v for u, v in zip(parts[: len(b)], parts[len(b) :], strict=True)]


def violations(A, b, x, radius):
    """How many entries of solutions (m, n, k) are off by more than they are said to be."""
    A, b, x, radius = map(np.asarray, (A, b, x, radius))
    found = 0
    for i, j in np.argwhere(np.isfinite(radius).any(axis=1)):
        errors = squared_errors(A[i], b[i, :, j], x[i, :, j])
        for r, e in zip(radius[i, :, j], errors or [np.inf] * len(A[i]), strict=True):
            found += bool(np.isfinite(r) and Fraction(float(r)) ** 2 < e)
    return found


def normal(rng, shape, whole):
    return rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if whole else 0)


def systems(kind, whole, rng, m=8):
    """Yield matrices near one, right-hand sides, and units of both and of solutions."""
    for n, reach in ((1, 0), (2, 100), (3, 200), (5, 30)):
        center = KINDS[kind](normal(rng, (n, n), whole) + 2 * np.eye(n), rng)
        A = center * (1 + 0.02 * (kind != "singular") * rng.standard_normal((m, n, n)))
        b = normal(rng, (m, n, 2), whole)
        b[0, :, 0] = 0
        yield center, A, b, *np.ldexp(1.0, rng.integers(-reach, reach + 1, (2, n)))


def solved(A, b, rng):
    """Solutions off by rounding, by 1e-6, or by anything."""
    try:
        x = np.linalg.solve(A, b)
    except np.linalg.LinAlgError:
        x = np.linalg.pinv(A) @ b
    return x * (1 + rng.choice([0, 1e-6, 1], x.shape) * rng.standard_normal(x.shape))


@pytest.mark.parametrize("whole", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_violations(kind, whole):
    """Of whatever solution, by whatever inverse, in any units, which only move the bounds."""
    rng = np.random.default_rng(sorted(KINDS).index(kind))
    proven = []
    for center, A, b, rows, columns in systems(kind, whole, rng):
        x = solved(A, b, rng)
        P = np.linalg.pinv(A) * (1 + 1e-3 * rng.standard_normal(A.shape))
        B, c, y = rows[:, None] * A * columns, rows[:, None] * b, x / columns[:, None]
        radius = radius_with(P, A, b, x)
        other = radius_with(P / columns[:, None] / rows, B, c, y)
        assert violations(A, b, x, radius) == violations(B, c, y, other) == 0
        proven.append(np.isfinite(radius).mean())
        if kind == "dense":
            np.testing.assert_array_equal(other, radius / columns[:, None])
        if whole:
            continue
        here, there = Anchor.of(center), Anchor.of(rows[:, None] * center * columns)
        assert (here is None) == (there is None)
        if here is not None:
            radius, other = radius_near(here, A, b, x), radius_near(there, B, c, y)
            assert violations(A, b, x, radius) == violations(B, c, y, other) == 0
            if kind == "dense":
                np.testing.assert_array_equal(other, radius / columns[:, None])
                assert np.isfinite(radius).mean() > 0.5
    assert np.mean(proven) > 0.5 or "singular" in kind
    assert np.mean(proven) == 0 or kind != "singular"


def test_planted_mistakes_show():
    """The attack finds bounds of one entry that are a little too small."""
    A, b, x = np.array([[[4.0]]]), np.ones((1, 1, 1)), np.array([[[0.26]]])
    radius = radius_with(np.array([[[0.25]]]), A, b, x)
    assert violations(A, b, x, radius) == 0
    assert violations(A, b, x, radius * (1 - 1e-9)) == 1


@every_library
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "complex64"])
def test_solve_returns_it(convert, dtype):
    """Shaped like b, of what is returned; inf where nothing is proven; near the centre and far."""
    rng, whole = np.random.default_rng(0), dtype.startswith("c")
    center = normal(rng, (4, 4), whole) + 3 * np.eye(4)
    A = (center + 0.05 * normal(rng, (9, 4, 4), whole)).astype(dtype)
    b = normal(rng, (9, 4, 2), whole).astype(dtype)
    model = CertifiedInverse(LinearInverseApprox()).fit(A[:5])
    A[6] = 3 * A[6, ::-1]
    A[7], A[8, 1, 2], b[0, 0, 1] = 1, np.nan, np.inf
    x, bound, radius = model.solve(convert(A), convert(b), return_bound=True, return_radius=True)
    assert type(radius) is type(x)
    assert tuple(radius.shape) == b.shape
    _, one = model.solve(convert(A), convert(b[:, :, 0]), return_radius=True)
    x, bound, radius, one = map(np.asarray, (x, bound, radius, one))
    assert radius.dtype == np.float64
    assert one.shape == b.shape[:2]
    assert (radius[7:] == np.inf).all()
    assert (radius[0, :, 1] == np.inf).all()
    assert (radius[:7, :, 0] < 1e-5).all()
    assert violations(A[:7], b[:7], x[:7], radius[:7]) == 0
    length = np.linalg.norm(x[:7, :, 0], axis=1)
    assert (bound[:7, 0] * length <= np.linalg.norm(radius[:7, :, 0], axis=1) * (1 + 1e-6)).all()


def in_units(A, b, rng):
    """The same systems in other units, and by how much solutions change."""
    rows, columns = np.ldexp(1.0, rng.integers(-60, 61, (2, A.shape[1])))
    return rows[:, None] * A * columns, rows[:, None] * b, columns[:, None]


@pytest.mark.parametrize("family", FAMILIES[:-1], ids=lambda f: f.__name__)  # the last is wide
def test_near_in_any_units(family, monkeypatch):
    """The inverse of the centre serves all units: nobody asks the regressor, or LAPACK."""
    rng = np.random.default_rng(5)
    A = family(rng)
    b = A @ (rng.uniform(1, 2, (40, A.shape[1], 1)) / np.abs(A).max(axis=(0, 1))[:, None])
    B, c, columns = in_units(A, b, rng)
    models = [CertifiedInverse(LinearInverseApprox(), tol=1e-9).fit(M) for M in (A, B)]

    def refuse(*args):
        raise AssertionError("this is not near the centre")

    for room, name in ((_solves, "guess"), (_solves, "solve_exactly"), (_iteration, "solve_with")):
        monkeypatch.setattr(room, name, refuse)
    (x, r), (y, s) = (
        model.solve(*given, return_radius=True)
        for model, given in zip(models, ((A, b), (B, c)), strict=True)
    )
    assert (s < np.inf).all()
    assert violations(B[:5], c[:5], y[:5], s[:5]) == 0
    assert (np.abs(y * columns - x) <= r + s * columns).all()
    # Of the same solutions the bounds are the same numbers.
    anchors = [model._anchor for model in models]
    if np.iscomplexobj(A):
        anchors = [anchor.of_complex for anchor in anchors]
    np.testing.assert_array_equal(
        radius_near(anchors[1], B, c, x / columns) * columns, radius_near(anchors[0], A, b, x)
    )


def test_directions(monkeypatch):
    """What a family's directions say of ‖I − PA‖ is true, and enough without n³ operations."""
    for case in ("case9", "case30"):
        A = load_power_flow(case).matrices
        A = A + np.array([0, 0, 0, 1e-3])[np.arange(len(A)) % 4, None, None] * A[::-1]
        anchor, unseen = Anchor.of(A.mean(axis=0), A[:60]), A[100:140]
        with monkeypatch.context() as without:
            without.setattr(_anchor, "product_error", None)
            known = contraction(anchor, unseen)
        true = np.linalg.norm(np.eye(len(A[0])) - anchor.inverse @ unseen, 2, axis=(1, 2))
        assert (known.q >= true).all()
        assert (known.q <= 5 * true).all()
        assert not known.weighted.any()
        span = anchor.center + 0.1 * anchor.probes[:, 1:].T.reshape(-1, *anchor.center.shape)
        true = np.linalg.norm(np.eye(len(A[0])) - anchor.inverse @ span, 2, axis=(1, 2))
        assert (contraction(anchor, span).q >= true * (1 - 1e-9)).all()


def test_right_hand_sides_of_zero():
    """Their solutions are exact."""
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit()
    b = np.array([[[0.0, 1.0], [0.0, 1.0]]])
    for A in (np.eye(2)[None] * 1.25, np.array([[[1.0, 0.5e-200], [0.2, 1e-200]]])):
        radius = model.solve(A, b, return_radius=True)[1]
        assert (radius[0, :, 0] == 0).all()
        assert (radius[0, :, 1] > 0).all()


@every_library
def test_small_entries_of_huge_matrices(convert):
    """They are not small in other units, and scaling by the largest entry would take them."""
    A = np.array([[[2.0, 1.0], [1.0, 3.0]]]) * np.array([[1.0], [2.0**520]]) * [2.0**500, 2.0**-500]
    P = np.array([[[0.6, -0.2], [-0.2, 0.4]]]) * [[2.0**-500], [2.0**500]] * [1.0, 2.0**-520]
    b = np.array([[[2.0], [2.0**520]]])
    x, bound = solve_with(convert(P), convert(A), convert(b), 1e-10)
    np.testing.assert_allclose(np.asarray(x)[0, :, 0], [2.0**-500, 0.0], atol=1e-200)
    radius = radius_with(convert(P), convert(A), convert(b), x)
    assert violations(A, b, x, radius) == 0
    assert bound_of_radius(x, radius)[0, 0] > 0
    errors = squared_errors(A[0], b[0, :, 0], np.asarray(x)[0, :, 0])
    size = sum(Fraction(float(v)) ** 2 for v in np.asarray(x).ravel())
    assert sum(errors) <= Fraction(min(float(bound[0, 0]), 1e300)) ** 2 * size


def test_norms_follow():
    """The bound of the norm is that of the entries', where that is the smaller one."""
    x, radius = np.array([[[3.0], [4.0]]]) * 2.0**900, np.array([[[0.3], [0.4]]]) * 2.0**900
    assert bound_of_radius(x, radius)[0, 0] == pytest.approx(0.1, rel=1e-9)
    assert bound_of_radius(x, radius)[0, 0] >= 0.1
    assert bound_of_radius(0 * x, 0 * radius)[0, 0] == 0
    assert bound_of_radius(0 * x, radius)[0, 0] == bound_of_radius(x, x)[0, 0] == np.inf
    A = np.array([[[1.0, 0.1], [0.1, 1.0]]])
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit()
    y, bound, radius = model.solve(A, np.ones((1, 2)), True, True)
    assert bound[0] <= bound_of_radius(y[:, :, None], radius[:, :, None])[0, 0]


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_subnormal_numbers_that_are_flushed(convert, flushed):  # noqa: F811
    """What is lost of sides and solutions is in the radius."""
    model = CertifiedInverse(LinearInverseApprox(np.eye(2))).fit()
    A = np.array([[[1.0, 2.0**-30], [0.0, 1.0]]])
    b = np.array([[2.0**-1022 * 1.5, 2.0**-1040]])
    x, radius = map(np.asarray, model.solve(convert(A), convert(b), return_radius=True))
    torch.set_flush_denormal(False)
    assert violations(A, b[:, :, None], x[:, :, None], radius[:, :, None]) == 0


def test_learned_families():
    """A regressor of a family finds its directions, and files keep them."""
    A = load_power_flow("case9").matrices
    model = CertifiedInverse(PolynomialInverseApprox()).fit(A[:300])
    assert len(model._anchor.offsets) > 0
    again = CertifiedInverse(PolynomialInverseApprox())
    again.__setstate__(model.__getstate__())
    b = np.ones((50, A.shape[1]))
    for one, other in zip(
        *(m.solve(A[300:350], b, True, True) for m in (model, again)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_blocks():
    """Of dask arrays they are dask arrays."""
    da = pytest.importorskip("dask.array")
    rng = np.random.default_rng(0)
    A, b = 3 * np.eye(3) + 0.2 * rng.standard_normal((10, 3, 3)), rng.standard_normal((10, 3, 1))
    model = CertifiedInverse(LinearInverseApprox()).fit(A)
    x, radius = model.solve(da.from_array(A, chunks=(4, 3, 3)), b, return_radius=True)
    x, radius = x.compute(), radius.compute()
    assert (radius < 1e-6).all()
    assert violations(A, b, x, radius) == 0


@pytest.mark.parametrize(
    "shapes",
    [((1, 2), (1, 2), (0, 2, 2)), ((2, 2), (3, 3), (0, 2, 2)), ((2, 2), (2, 2), (1, 4))],
)
def test_files_of_other_shapes(shapes):
    """What a file says of an anchor is square, and of one size."""
    with pytest.raises(ValueError, match=r"square matrices of one\s+size"):
        Anchor.from_state(*map(np.ones, shapes))


def test_false_directions_in_files():
    """They may help nobody, but nothing is believed of them."""
    A = np.array([[3.0, 1.0], [1.0, 2.0]])
    false = np.array([np.full((2, 2), np.nan), 1e300 * A, A, A, 0 * A])
    anchor = Anchor.from_state(A, np.linalg.inv(A), false)
    E = np.random.default_rng(0).uniform(-0.3, 0.3, (50, 2, 2))
    true = np.linalg.norm(np.linalg.inv(A) @ E, 2, axis=(1, 2))
    assert (contraction(anchor, A + E).q >= true * (1 - 1e-12)).all()
    assert Anchor.from_state(A * np.nan, A, false) is None
    assert Anchor.from_state(A, A * np.inf, false) is None
