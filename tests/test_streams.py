"""Streams that drift: partial_fit moves the centre, and nothing else does; answers stay proven."""

import copy
import pickle
from fractions import Fraction

import hostile
import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge

from skinv import CertifiedInverse, LinearInverseApprox, PolynomialInverseApprox
from skinv.bounds import residual_bound

N, BLOCK, STEPS = 4, 24, 30


def stream(dtype=float, spread=0.01, n=N, seed=0):
    """Return blocks (STEPS, BLOCK, n, n) around a centre that goes far from the first one."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        values = rng.standard_normal(shape)
        return values + 1j * rng.standard_normal(shape) if dtype is complex else values

    centers = 5 * np.eye(n) + normal(n, n) + np.linspace(0, 9, STEPS)[:, None, None] * np.eye(n)
    centers[:, 0] += 0.1 * np.arange(STEPS)[:, None] * normal(n)
    return centers[:, None] + spread * normal(STEPS, BLOCK, n, n)


BLOCKS = stream()


def spoiled(block, kind, share=0.4):
    """Return a block some of whose matrices are no good."""
    block, some = block.copy(), slice(0, round(share * len(block)))
    if kind == "singular":
        block[some, 0] = block[some, 1]
    elif kind == "another":
        block[some] = -block[some] * np.linspace(1, 50, len(block[some]))[:, None, None]
    else:
        block[some] *= {"NaN": np.nan, "inf": np.inf, "huge": 1e250, "tiny": 1e-250, "zero": 0}[
            kind
        ]
    return block


KINDS = ("NaN", "inf", "huge", "tiny", "zero", "singular", "another")


def followed(model, blocks):
    for block in blocks:
        model.partial_fit(block)
    return model


def distance(model, block):
    """‖I − A₀⁻¹A‖_F of the farthest matrix of a block."""
    inverse = np.linalg.inv(model.center_)
    return np.linalg.norm(np.eye(len(inverse)) - inverse @ block, axis=(1, 2)).max()


@pytest.mark.parametrize("dtype", [float, complex, np.float32])
def test_the_centre_follows(dtype):
    """Answers need no LAPACK all along, which the first centre cannot offer in the end."""
    blocks = stream(complex if dtype is complex else float)
    blocks = blocks.astype(np.float32) if dtype is np.float32 else blocks
    model = CertifiedInverse(LinearInverseApprox(order=2), tol=1e-3, fallback="nan")
    first = clone(model).fit(blocks[0])
    for block in blocks:
        model.partial_fit(block)
        assert (model.report(block).bound <= 1e-3).all()
        assert (model.solve(block, block[:, 0], return_bound=True)[1] <= 1e-3).all()
    assert 2 <= model.n_moves_ < STEPS
    assert not (first.report(blocks[-1]).bound <= 1e-3).any()


@pytest.mark.parametrize("estimator", [LinearInverseApprox(order=2), PolynomialInverseApprox()])
def test_rectangular_matrices_are_followed(estimator):
    """By their Gram matrices."""
    blocks = BLOCKS[:, :, :3]
    model = CertifiedInverse(estimator, tol=1e-8)
    for block in blocks:
        X, bound = model.partial_fit(block).predict(block, return_bound=True)
        assert (bound <= 1e-8).all()
    assert model.n_moves_ >= 2
    np.testing.assert_allclose(X, np.linalg.pinv(block), rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="shape"):
        model.partial_fit(BLOCKS[0])


def test_only_partial_fit_changes_the_state():
    """To the byte, whatever is asked of a model in the middle of a stream."""
    model = followed(CertifiedInverse(LinearInverseApprox(), tol=1e-8), BLOCKS[:9])
    before, far = pickle.dumps(model), BLOCKS[-1]
    answers = model.predict(far), model.solve(far, far[:, 0])
    for _ in range(3):
        model.report(far)
        model.inverse_function()(far[0])
        model.solve_function()(far[0], far[0, 0])
        model.score(far)
    assert pickle.dumps(model) == before
    again = model.predict(far), model.solve(far, far[:, 0])
    np.testing.assert_array_equal(answers[0], again[0])
    np.testing.assert_array_equal(answers[1], again[1])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_good_never_becomes_a_centre(kind):
    """Blocks with some such matrices lead to the middle of the others, blocks of them nowhere."""
    model = LinearInverseApprox().partial_fit(BLOCKS[0])
    for block in BLOCKS[1:]:
        model.partial_fit(spoiled(block, kind))
    assert model.n_moves_ >= 2
    assert distance(model, block) < 0.3
    assert residual_bound(model.center_[None], model.inverse_[None])[0] < 1e-6
    center, inverse = model.center_, model.inverse_
    if kind not in ("huge", "tiny", "another"):  # which are regular, and are followed
        for _ in range(5):
            model.partial_fit(spoiled(block, kind, share=1))
        assert model.center_ is center
        assert model.inverse_ is inverse


@pytest.mark.parametrize("kind", KINDS)
def test_solutions_are_proven_after_any_stream(kind):
    """Against exact rationals, near the centre and far from it."""
    model = CertifiedInverse(LinearInverseApprox(), tol=1e-9).fit(BLOCKS[0])
    for k, block in enumerate(BLOCKS[1:]):
        model.partial_fit(spoiled(block, kind, share=(0.4, 1)[k % 3 == 2]))
    single = model.solve_function()
    for A in (*BLOCKS[-1][:3], *spoiled(BLOCKS[-1], kind)[:2], BLOCKS[0, 0]):
        b = np.arange(1.0, N + 1)
        batch = (part[0] for part in model.solve(A[None], b[None], return_bound=True))
        for x, bound in (tuple(batch), single(A, b)[:2]):
            if bound < np.inf:
                exact = hostile.rational(A).solve(hostile.rational(b[:, None]))
                off = hostile.rational(x[:, None]) - exact
                error, size = (
                    sum(Fraction(int(v.p), int(v.q)) ** 2 for row in M.tolist() for v in row)
                    for M in (off, hostile.rational(x[:, None]))
                )
                assert Fraction(float(bound)) ** 2 * size >= error
            else:
                assert np.isnan(x).all()


def test_matrices_that_come_singly():
    """They are followed as blocks are, by functions of one matrix, too, and what is off is not."""
    model = CertifiedInverse(LinearInverseApprox(), tol=1e-9).fit(BLOCKS[0])
    inverse, solve = model.inverse_function(), model.solve_function()
    for A in BLOCKS[:, ::3].reshape(-1, N, N):
        assert inverse(A)[1] <= 1e-9
        assert solve(A, A[0])[1] <= 1e-9
        model.partial_fit(A[None])
    assert model.n_moves_ >= 2
    np.testing.assert_array_equal(inverse(A)[0], model.inverse_function()(A)[0])
    np.testing.assert_array_equal(solve(A, A[0])[0], model.solve_function()(A, A[0])[0])
    inverse_of_last = inverse(A)[0]
    model.fit(BLOCKS[0])  # which functions do not follow
    np.testing.assert_array_equal(inverse(A)[0], inverse_of_last)

    steady = LinearInverseApprox().fit(BLOCKS[0])
    for k, A in enumerate(np.tile(BLOCKS[0], (4, 1, 1))):
        steady.partial_fit((BLOCKS[-1, k % BLOCK] if k % 4 == 3 else A)[None])
    assert steady.n_moves_ == 0
    assert 0 < steady.long_ways_ <= 0.5


def test_blocks_and_single_matrices_count_the_same():
    """Without a move the share is that of all matrices, while there are few; order is nothing."""
    near, far = BLOCKS[0], BLOCKS[-1]
    mixed = np.concatenate([near[:5], far[:3]])
    shares = []
    for blocks in ([mixed], [mixed[::-1]], mixed[:, None], [mixed[:3], mixed[3:]]):
        model = followed(LinearInverseApprox(max_share=0.9).fit(near), blocks)
        shares.append(model.long_ways_)
    np.testing.assert_allclose(shares, 3 / 8, rtol=1e-12)


def test_what_does_not_drift_has_its_centre():
    """A family that is wide has no better one, and is left alone."""
    wide = stream(spread=0.8)[0]
    model = LinearInverseApprox().fit(wide)
    center = model.center_
    followed(model, [wide] * 10)
    assert model.n_moves_ == 0
    assert model.long_ways_ > 0.9
    assert model.center_ is center


def test_units_are_no_matter():
    """Powers of two of rows and columns move the centre with them, to the bit."""
    rows, columns = np.ldexp(1.0, np.random.default_rng(0).integers(-40, 40, (2, N)))
    scaled = rows[:, None] * BLOCKS * columns
    plain, other = LinearInverseApprox().fit(BLOCKS[0]), LinearInverseApprox().fit(scaled[0])
    for block, same in zip(BLOCKS, scaled, strict=True):
        plain.partial_fit(block)
        other.partial_fit(same)
        assert (plain.n_moves_, plain.long_ways_) == (other.n_moves_, other.long_ways_)
    assert plain.n_moves_ >= 2
    np.testing.assert_array_equal(other.center_, rows[:, None] * plain.center_ * columns)
    np.testing.assert_array_equal(other.inverse_ * rows, plain.inverse_ / columns[:, None])
    model = CertifiedInverse(LinearInverseApprox(), tol=1e-9, fallback="nan")
    followed(model, scaled)
    bound = model.solve(same, rows * block[:, 0], return_bound=True)[1]
    assert (bound <= 1e-9).all()


REGRESSORS = {
    "series": LinearInverseApprox(order=2),
    "at a centre": LinearInverseApprox(BLOCKS[0].mean(axis=0)),
    "polynomial": PolynomialInverseApprox(memory=48),
}


@pytest.mark.parametrize("name", REGRESSORS)
@pytest.mark.parametrize("certified", [False, True])
def test_a_stream_goes_on_from_a_file(name, certified):
    """And from a copy, to the bit; a clone knows of nothing."""
    model = REGRESSORS[name]
    model = followed(CertifiedInverse(model) if certified else clone(model), BLOCKS[:12])
    others = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)]
    for other in others:
        followed(other, BLOCKS[12:])
        assert other.n_moves_ >= model.n_moves_
    if certified:  # a shallow copy shares its regressor
        others.pop()
    else:
        followed(model, BLOCKS[12:])
    for other in others:
        np.testing.assert_array_equal(other.predict(BLOCKS[-1]), others[0].predict(BLOCKS[-1]))
        assert other.n_moves_ == others[0].n_moves_
    assert not hasattr(clone(model), "n_moves_")
    assert not hasattr(model.fit(BLOCKS[0]), "n_moves_")


def test_solutions_from_a_file():
    """In mixed units, too, a centre that moved is the same one in a file."""
    rows, columns = np.ldexp(1.0, np.random.default_rng(0).integers(-40, 40, (2, N)))
    scaled = rows[:, None] * BLOCKS * columns
    model = followed(CertifiedInverse(LinearInverseApprox(order=2)), scaled)
    other = pickle.loads(pickle.dumps(model))
    assert model.n_moves_ > 0
    assert np.array_equal(model._anchor.units, other._anchor.units)
    assert np.array_equal(model._anchor.inverse, other._anchor.inverse)
    right = scaled[-1][:, 0]
    assert np.array_equal(model.solve(scaled[-1], right), other.solve(scaled[-1], right))


@pytest.mark.parametrize("memory", [30, 256])
def test_polynomials_learn_anew(memory):
    """From the latest matrices, if they can be inverted, when they extrapolate."""
    model = PolynomialInverseApprox(memory=memory).fit(BLOCKS[:2].reshape(-1, N, N))
    assert model.extrapolates(BLOCKS[-1]).all()
    for block in BLOCKS:
        model.partial_fit(spoiled(block, "singular"))
        model.partial_fit(spoiled(block, "NaN"))
    assert model.n_moves_ >= 1
    assert not model.extrapolates(block).any()
    error = np.abs(model.predict(block) - np.linalg.inv(block)).max()
    assert error < 1e-2 * np.abs(np.linalg.inv(block)).max()


def test_polynomials_of_other_targets():
    """Targets are remembered with what they belong to, and asked for."""
    t = np.linspace(0, 9, 400)
    X, y = np.stack([t, t**2 / 9], axis=1), np.sin(t)
    model = PolynomialInverseApprox(3, 2, memory=60).fit(X[:40], y[:40])
    for start in range(40, 400, 20):
        model.partial_fit(X[start : start + 20], y[start : start + 20])
    assert model.n_moves_ >= 2
    np.testing.assert_allclose(model.predict(X[-20:]), y[-20:], atol=1e-2)
    with pytest.raises(ValueError, match="pass y"):
        model.partial_fit(X[:3])
    with pytest.raises(ValueError, match="3 matrices and 2 targets"):
        model.partial_fit(X[:3], y[:2])
    with pytest.raises(ValueError, match="Got 2 numbers as the target"):
        model.fit(X[:40], y[:40]).partial_fit(X[:3], X[:3])


class Recorder(RegressorMixin, BaseEstimator):
    """A regressor of another library, which keeps what it learns from, and spoils it."""

    def fit(self, X, y):
        self.n_features_in_, self.seen_ = X.shape[1], []
        return self.partial_fit(X, y)

    def partial_fit(self, X, y):
        self.seen_.append((X.copy(), y.copy()))
        X[:], y[:] = np.nan, np.nan
        return self

    def predict(self, X):
        return np.zeros_like(X)


def test_regressors_of_others_learn_what_is_proven():
    """Nothing else, and from memory of their own; the centre of solutions follows."""
    model = CertifiedInverse(Recorder(), tol=1e-9).fit(BLOCKS[0])
    for block in BLOCKS[1:]:
        given = spoiled(block, "singular")
        model.partial_fit(given)
        model.partial_fit(np.full_like(block, np.nan))
    np.testing.assert_array_equal(given, spoiled(block, "singular"))
    assert len(model.estimator_.seen_) == STEPS
    for X, y in model.estimator_.seen_:
        assert (residual_bound(X.reshape(-1, N, N), y.reshape(-1, N, N)) < 1e-9).all()
    assert model.n_moves_ >= 2
    near = CertifiedInverse(LinearInverseApprox(model._anchor.center), fallback="nan").fit()
    assert (near.solve(block, block[:, 0], return_bound=True)[1] <= 1e-6).all()
    model.fallback = "nan"
    assert (model.solve(block, block[:, 0], return_bound=True)[1] <= 1e-6).all()


def test_what_follows_no_stream():
    """Says so as scikit-learn does."""
    for model in (
        LinearInverseApprox(method="lstsq"),
        CertifiedInverse(Ridge()),
        CertifiedInverse(FrozenEstimator(LinearInverseApprox(BLOCKS[0, 0]).fit())),
        CertifiedInverse(LinearInverseApprox(method="lstsq")),
    ):
        assert not hasattr(model, "partial_fit")
    model = CertifiedInverse(PolynomialInverseApprox(), family=lambda p: p[:, :, None] * np.eye(2))
    model.fit(np.linspace(1, 2, 20)[:, None])
    with pytest.raises(ValueError, match="parameters"):
        model.partial_fit(np.ones((3, 1)))
    model = LinearInverseApprox().fit(BLOCKS[0])
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(np.ones((2, 9)))


def test_filters_that_feed_back():
    """Ten filters of order 8 whose noise drifts agree with exact ones after 300 steps."""
    rng, m, n = np.random.default_rng(0), 10, 8
    F, eye = 0.95 * np.linalg.qr(rng.standard_normal((n, n)))[0], np.eye(n)
    noise = 1 + 0.05 * rng.standard_normal((m, n)) ** 2
    model = CertifiedInverse(LinearInverseApprox(order=2), tol=1e-9)
    ours = exact = np.tile(eye, (m, 1, 1))

    def step(P, invert):
        P = F @ P @ F.T + 0.1 * eye
        P = (P + P.swapaxes(1, 2)) / 2
        K = P @ invert(P + R)
        P = (eye - K) @ P @ (eye - K).swapaxes(1, 2) + K @ R @ K.swapaxes(1, 2)
        return (P + P.swapaxes(1, 2)) / 2

    def certified(S):
        model.partial_fit(S)
        X, bound = model.predict(S, return_bound=True)
        assert (bound <= 1e-9).all()
        np.testing.assert_array_equal(X, X.swapaxes(1, 2))
        return X

    for k in range(300):
        R = (1 + 2 * np.sin(k / 60) ** 2) * noise[:, :, None] * eye
        ours, exact = step(ours, certified), step(exact, np.linalg.inv)
    assert model.n_moves_ >= 2
    np.testing.assert_allclose(ours, exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("model", "name", "good"),
    [
        (LinearInverseApprox(), "max_share", 0.5),
        (PolynomialInverseApprox(), "max_share", 0.5),
        (CertifiedInverse(LinearInverseApprox()), "tol", 1e-6),
        (CertifiedInverse(PolynomialInverseApprox()), "tol", 1e-6),
    ],
    ids=str,
)
def test_parameters_set_between_blocks_are_validated(model, name, good):
    """Once for each change, and whatever a copy or a file carries along."""
    block = np.eye(2) + np.linspace(0, 0.1, 20)[:, None, None] * np.ones((2, 2))
    model = clone(model).partial_fit(block).partial_fit(block)
    for again in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        again.set_params(**{name: -1.0})
        for _ in range(2):
            with pytest.raises(ValueError, match=name):
                again.partial_fit(block)
        again.set_params(**{name: good}).partial_fit(block)
    assert "_valid" not in pickle.loads(pickle.dumps(model)).__dict__
