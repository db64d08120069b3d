"""ParetoDisplay: errors against independent computation, and fronts of given numbers."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from backends import every_complex_dtype
from conftest import random_family
from hostile import Oracle
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinv import LinearInverseApprox, PolynomialInverseApprox
from skinv.inspection import ParetoDisplay
from skinv.inspection._displays._pareto import pareto_front
from skinv.inspection._pareto import default_candidates, errors, reference_inverse
from skinv.matrices import AmbiguousShapeWarning, embed_complex

pytestmark = pytest.mark.usefixtures("closed_figures")
U = 2.0**-53
KEYS = ["microseconds_per_matrix", "median_relative_error", "max_relative_error"]
KEYS += ["mean_absolute_error", "unanswered", "fit_seconds"]


@pytest.fixture(scope="module")
def family():
    """60 matrices of order 3 around a regular one."""
    return random_family(3, 60)[1]


class Times(BaseEstimator):
    """Predicts exact inverses times a factor, NaN for some, and remembers what it got."""

    seen: dict = {}

    def __init__(self, factor=1.0, unanswered=0, max_time=None):
        self.factor = factor
        self.unanswered = unanswered
        self.max_time = max_time

    def fit(self, X, y):
        self.seen["fit"] = X, y, self.max_time
        return self

    def predict(self, X):
        self.seen.setdefault("predict", []).append(X.copy())
        n = int(X.shape[1] ** 0.5)
        inverse = self.factor * np.linalg.inv(X.reshape(-1, n, n)).reshape(X.shape)
        inverse[: self.unanswered, 1] = np.nan
        X[:] = 7  # which spoils nobody else's matrices
        return inverse


@pytest.fixture
def seen():
    Times.seen = {}
    return Times.seen


def measured(X, y=None, candidates=None, **options):
    """Make a display in few measurements, draw it, and return it."""
    options = {"n_repeats": 1, "batch_size": 7, "random_state": 0, **options}
    display = ParetoDisplay.from_matrices(X, y, candidates=candidates, **options)
    display.figure_.canvas.draw()
    return display


def row(name, cost, error, **others):
    return {**dict.fromkeys(KEYS, 0.0), "name": name, "unanswered": 0, "failure": None} | {
        "microseconds_per_matrix": cost,
        "median_relative_error": error,
        **others,
    }


# -- the front -------------------------------------------------------------------------------------


def test_front_against_loops():
    """What no other betters, ties and numbers that are not finite among them."""
    rng = np.random.RandomState(0)
    for _ in range(50):
        cost, error = rng.randint(1, 6, (2, 8)).astype(float)
        cost[rng.randint(8)], error[rng.randint(8)] = np.nan, np.inf
        pairs = list(zip(cost, error, strict=True))
        good = [pair for pair in pairs if np.isfinite(pair).all()]
        expected = [
            p in good and not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in good)
            for p in pairs
        ]
        assert pareto_front(cost, error).tolist() == expected
    assert pareto_front([1.0, 1.0], [0.5, 0.5]).all()
    assert pareto_front([], []).shape == (0,)


def test_drawn_as_given():
    """The line joins the front by time, others are hollow, failures are in the table only."""
    results = [
        row("slow", 4.0, 1e-9),
        row("dominated", 5.0, 1e-3, unanswered=3),
        row("fast", 1.0, 1e-2),
        row("exact", 9.0, 0.0),
        row("broken", np.nan, np.nan, failure="ValueError: on\npurpose " + "x" * 200),
        row("$x_2$ " + "n" * 99, 2.0, 1e-4),
    ]
    display = ParetoDisplay(results=results, setting="what was measured").plot()
    display.figure_.canvas.draw()
    assert display.on_front_.tolist() == [True, False, True, True, False, True]
    assert display.line_.get_xdata().tolist() == [1.0, 2.0, 4.0]
    assert display.line_.get_ydata().tolist() == [1e-2, 1e-4, 1e-9]
    hollow = [point.get_markerfacecolor() == "none" for point in display.points_]
    assert hollow == [False, True, False, False, False]
    labels = [label.get_text() for label in display.labels_]
    assert labels[1:4] == ["dominated (3 unanswered)", "fast", "exact (exact)"]
    assert len(labels[4]) == 40
    lines = display.table_.get_text().splitlines()
    assert lines == repr(display).splitlines() == str(display).splitlines()
    assert lines[0] == "what was measured"
    assert len(lines) == 2 + len(results)
    assert [line[0] for line in lines[2:]] == ["*", " ", "*", "*", " ", "*"]
    assert lines[2].split()[1:4] == ["slow", "4", "1.0e-09"]
    assert "ValueError: on purpose xx" in lines[6]
    assert max(map(len, lines)) < 140
    assert display.plot(display.ax_, table=False).table_ is None
    other = ParetoDisplay(results=results, metric="max_relative_error").plot()
    assert other.on_front_.tolist() == [False, False, True, False, False, False]
    assert "largest" in other.ax_.get_ylabel()


def test_nothing_to_draw():
    """Where all candidates fail there is the table still."""
    display = measured(np.ones((4, 1)), None, {"broken": Ridge(alpha=-1.0)})
    assert not display.points_
    assert "'alpha' parameter" in display.table_.get_text()


# -- what is measured ------------------------------------------------------------------------------


def test_errors_of_unseen_matrices(family, seen):
    """Candidates are fitted to the known part, and errors are of the rest."""
    display = measured(
        family, None, {"a": Times(1.01, unanswered=2)}, test_size=0.25, batch_size=40
    )
    (found,) = display.results
    known, inverses, _ = seen["fit"]
    unseen, *batches = seen["predict"]
    assert (len(known), len(unseen)) == (45, 15)
    together = np.concatenate([known, unseen])
    assert sorted(map(tuple, together)) == sorted(map(tuple, family.reshape(60, 9)))
    np.testing.assert_allclose(inverses, np.linalg.inv(known.reshape(-1, 3, 3)).reshape(-1, 9))
    np.testing.assert_array_equal(batches[0], unseen[np.arange(40) % 15])
    np.testing.assert_allclose(found["median_relative_error"], 0.01)
    np.testing.assert_allclose(found["max_relative_error"], 0.01)
    truth = np.linalg.inv(unseen.reshape(-1, 3, 3))[2:]
    np.testing.assert_allclose(found["mean_absolute_error"], 0.01 * np.abs(truth).mean())
    assert found["unanswered"] == 2
    assert found["failure"] is None
    assert found["microseconds_per_matrix"] > 0
    assert found["fit_seconds"] > 0
    assert display.setting.startswith("45 known and 15 unseen matrices of order 3, float64, 40 at")


def test_errors_against_loops():
    """Each row by itself: norms, zeros and numbers that are not finite."""
    truth = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    predicted = np.array([[3.0, 4.5], [0.0, 0.0], [np.nan, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = errors(predicted, truth)
    assert found["median_relative_error"] == pytest.approx(0.05)
    assert found["max_relative_error"] == pytest.approx(0.5)
    assert found["mean_absolute_error"] == pytest.approx(1.5 / 8)
    assert found["unanswered"] == 1
    predicted[0, 0] = np.inf
    assert errors(torch.tensor(predicted), truth)["max_relative_error"] == np.inf
    nothing = errors(np.full((5, 2), np.nan), truth)
    assert nothing == {"unanswered": 5, "failure": "none of the unseen rows is answered"}


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("spread", [1e-6, 1.0])
def test_reference_against_ball_arithmetic(n, spread):
    """Right to the last digits, up to the condition number that is let pass."""
    rng = np.random.RandomState(n)
    A = rng.standard_normal((30, n, n))
    A[:, -1] = A[:, 0] + spread * A[:, -1] if n > 1 else A[:, -1]
    A *= 10.0 ** rng.uniform(-9, 9, (30, n, 1))
    A = A[np.linalg.cond(A) < 1e7]
    X = reference_inverse(A)
    for matrix, inverse in zip(A, X, strict=True):
        oracle = Oracle(matrix)
        assert oracle.errors(inverse)[0] <= 2 * U
        # So LAPACK's own error is told from it.
        rounded = np.linalg.inv(matrix)
        true = oracle.errors(rounded)[0]
        seen = np.linalg.norm(rounded - inverse) / np.linalg.norm(inverse)
        assert abs(seen - true) <= 3 * U


def test_default_candidates(family):
    """Series, polynomial, network and LAPACK; the latter at rounding, float32 at its own."""
    candidates = default_candidates(True, 0)
    assert list(candidates) == [
        *(f"series of order {k}" for k in (1, 2, 3)), "polynomial", "network", "LAPACK"
    ]  # fmt: skip
    assert list(default_candidates(False, 0)) == ["polynomial", "network"]
    assert candidates["network"].random_state == 0
    del candidates["network"]
    for dtype, u in (("float64", U), ("float32", 2.0**-24)):
        first, second, third, _, lapack = measured(family, None, candidates, dtype=dtype).results
        assert lapack["max_relative_error"] < 100 * u
        assert lapack["fit_seconds"] == 0
        assert second["median_relative_error"] < first["median_relative_error"]
        assert third["median_relative_error"] < second["median_relative_error"]


def test_defaults_are_used(family, monkeypatch):
    """Without candidates those above are taken; with targets none that inverts."""
    few = {"a": Ridge()}
    asked = []

    def instead(inverses, random_state):
        asked.append((inverses, random_state))
        return few

    monkeypatch.setattr("skinv.inspection._displays._pareto.default_candidates", instead)
    measured(family)
    measured(family, np.linalg.det(family))
    assert asked == [(True, 0), (False, 0)]


def test_layouts_and_files(family, tmp_path):
    """Rows, stacks, tensors and files give the same errors."""
    candidates = {"series": LinearInverseApprox(), "LAPACK": np.linalg.inv}
    np.save(tmp_path / "matrices.npy", family)
    given = family, family.reshape(60, 9), torch.tensor(family), family.tolist()
    given += tmp_path / "matrices.npy", str(tmp_path / "matrices.npy")
    tables = [
        [[r[key] for key in KEYS[1:5]] for r in measured(X, None, candidates).results]
        for X in given
    ]
    assert all(table == tables[0] for table in tables)
    with pytest.raises(OSError, match="missing"):
        measured(tmp_path / "missing.npy")


@every_complex_dtype
def test_complex_matrices(family, dtype):
    """Complex stacks reach the candidates as they are, and errors are those of their embeddings."""
    Z = (family[:30] + 0.2j * family[30:]).astype(dtype)
    candidates = {
        "first": LinearInverseApprox(),
        "second": LinearInverseApprox(order=2),
        "LAPACK": np.linalg.inv,
    }
    display = measured(Z, None, candidates)
    real = measured(embed_complex(Z), None, candidates)
    u = 2.0**-24 if dtype == np.complex64 else U
    for a, b in zip(display.results, real.results, strict=True):
        assert a["failure"] is b["failure"] is None
        for key in KEYS[1:4]:
            assert a[key] == pytest.approx(b[key], rel=1e-2, abs=100 * u)
    assert f"order 3, complex, float{32 if u > U else 64}" in display.setting


def test_other_targets():
    """Features of any number, targets of one or several columns."""
    rng = np.random.RandomState(0)
    P = rng.uniform(-1, 1, (80, 2))
    Y = np.column_stack([np.exp(P[:, 0]), P[:, 0] * P[:, 1], 2 + P[:, 1]])
    candidates = {
        "line": LinearRegression(),
        "polynomial": PolynomialInverseApprox(),
        "truth": lambda X: np.column_stack([np.exp(X[:, 0]), X[:, 0] * X[:, 1], 2 + X[:, 1]]),
    }
    display = measured(P, Y, candidates)
    line, polynomial, truth = (r["median_relative_error"] for r in display.results)
    assert truth < 1e-15 < polynomial < 1e-3 < line
    assert display.setting.startswith("40 known and 40 unseen rows of 2 features")
    single = measured(P, Y[:, 0], {"line": LinearRegression()})
    assert 0 < single.results[0]["max_relative_error"] < 1


def test_failures_are_listed(family):
    """Whatever a candidate raises, the others are measured."""

    class Foreign:
        def fit(self, X, y): ...
        def predict(self, X): ...

    def fails(A):
        raise RuntimeError("cannot")

    candidates = {
        "parameter": LinearInverseApprox(order=0),
        "not cloned": Foreign(),
        "shape": lambda A: A[:, 0],
        "raises": fails,
        "silent": lambda A: np.full_like(A, np.nan),
        "words": lambda A: "inverse",
        "LAPACK": np.linalg.inv,
    }
    display = measured(family, None, candidates)
    reasons = {r["name"]: r["failure"] for r in display.results}
    assert reasons.pop("LAPACK") is None
    assert "'order' parameter" in reasons["parameter"]
    assert "get_params" in reasons["not cloned"]
    assert (
        reasons["shape"] == "ValueError: Got predictions of shape (30, 3), but (30, 9) is expected."
    )
    assert reasons["raises"] == "RuntimeError: cannot"
    assert "answered" in reasons["silent"]
    assert "real numbers" in reasons["words"]
    assert all(np.isnan(r["median_relative_error"]) for r in display.results[:-1])
    assert display.on_front_.tolist() == [False] * 6 + [True]


def test_estimators_are_cloned(family, seen):
    """What is passed stays unfitted, and gets the time that a fit may take where it asks for it."""
    model = Times(max_time=5.0)
    pipeline = make_pipeline(StandardScaler(), Times())
    measured(family, None, {"a": model}, max_time=2.0)
    assert seen["fit"][2] == 2.0
    assert model.max_time == 5.0
    measured(family, None, {"a": pipeline}, max_time=3)
    assert seen["fit"][2] == 3
    measured(family, None, {"a": model, "b": LinearInverseApprox()})
    assert seen["fit"][2] == 5.0


def test_random_state_is_of_the_split(family, seen):
    """The same seed, the same known matrices."""
    fitted = []
    for seed in (0, 0, 1):
        measured(family, None, {"a": Times()}, random_state=seed)
        fitted.append(seen["fit"][0])
    assert np.array_equal(fitted[0], fitted[1])
    assert not np.array_equal(fitted[0], fitted[2])


def test_refuses(family):
    """What cannot be compared is said, and rows are named."""
    few = {"LAPACK": np.linalg.inv}
    singular = family.copy()
    singular[[4, 7]] = 1.0
    with pytest.raises(ValueError, match=r"rows \[4, 7\].*singular"):
        measured(singular, None, few)
    singular[7] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity \(inf\) in rows \[7\]"):
        measured(singular, None, few)
    with pytest.raises(ValueError, match="infinity"):
        measured(1e60 * family, None, few, dtype="float32")
    with pytest.raises(ValueError, match=r"y of 59 rows, but X of 60"):
        measured(family, np.ones(59), few)
    with pytest.raises(ValueError, match=r"A\[None\]"):
        measured(np.ones(9), None, few)
    with pytest.raises(ValueError, match="n_samples=1"):
        measured(family[:1], None, few)
    for wrong in ({}, [np.linalg.inv], {"a": 5}, {"a": LinearInverseApprox}):
        with pytest.raises(ValueError, match="andidate"):
            measured(family, None, wrong)
    for wrong in ({"dtype": "float16"}, {"batch_size": 0}, {"metric": "mean"}, {"max_time": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            measured(family, None, few, **wrong)
    with pytest.warns(AmbiguousShapeWarning):
        measured(random_family(4, 1)[1][0] + np.eye(4), None, few)
