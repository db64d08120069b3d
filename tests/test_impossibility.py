"""Failure distances, counterexamples and moments: what must go wrong, and that it does."""

import numpy as np
import pytest
import torch
from exhaustive import exhaustive
from flint import arb, arb_mat, ctx
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, Matern, WhiteKernel
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor
from skorch import NeuralNetRegressor
from torch import nn

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
)
from skinv.datasets import make_region
from skinv.impossibility import (
    counterexample,
    failure_distance,
    polynomial_lipschitz,
    truncated_moments,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CENTER = np.array([[3.0, 1.0], [1.0, 2.0]])
REGIONS = ("2x2-first", "2x2-second", "3x3", "16x16")


class Encoder(nn.Module):
    """One transformer encoder layer on the rows of a 2 × 2 matrix."""

    def __init__(self):
        super().__init__()
        self.lift, self.lower = nn.Linear(2, 8), nn.Linear(8, 2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.lower(self.layer(self.lift(x.view(-1, 2, 2)))).flatten(1)


class Recurrent(nn.Module):
    """An LSTM over the rows of a 2 × 2 matrix."""

    def __init__(self):
        super().__init__()
        self.net, self.out = nn.LSTM(2, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.net(x.view(-1, 2, 2))[0]).flatten(1)


@pytest.fixture(scope="module")
def data():
    return make_region("2x2-first", random_state=0, return_X_y=True)


def skorched(cls, data):
    torch.manual_seed(0)
    X, Y = (a.astype(np.float32) for a in data)
    net = NeuralNetRegressor(cls, max_epochs=5, lr=0.05, train_split=None, verbose=0)
    return net.fit(X, Y)


def published(name):
    """Train the published network of a region for a moment."""
    region = make_region(name, n_samples=400, random_state=0)
    n = len(region.center)
    model = NeuralInverseRegressor(
        8 * n * n, "relu", baseline=None, solver="adam", max_iter=3, batch_size=100, random_state=0
    )
    return model.fit(region.data, region.target), region.center


@pytest.fixture(scope="module")
def models(data):
    X, Y = data
    kernels = (None, RBF(2.0) + WhiteKernel(0.1), Matern(3.0))
    fitted = {
        "MLPRegressor": MLPRegressor(hidden_layer_sizes=(16,), max_iter=20, random_state=0),
        "forest": RandomForestRegressor(10, random_state=0),
        "extra trees": ExtraTreesRegressor(5, random_state=0),
        "tree": DecisionTreeRegressor(random_state=0),
        "neighbours": KNeighborsRegressor(3, weights="distance"),
        "Ridge": Ridge(),
        "search": GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2),
        "linear": LinearInverseApprox(),
        "third order": LinearInverseApprox(order=3),
        "network": NeuralInverseRegressor(8, "relu", baseline=None, max_iter=3, random_state=0),
        "default": NeuralInverseRegressor(max_iter=3, random_state=0),
    }
    fitted = {name: model.fit(X, Y) for name, model in fitted.items()}
    for k, kernel in enumerate(kernels):
        process = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True, alpha=1e-6)
        fitted[f"Gaussian process {k}"] = process.fit(X[:200], Y[:200])
    fitted["encoder"] = skorched(Encoder, data)
    fitted["LSTM"] = skorched(Recurrent, data)
    torch.manual_seed(1)
    fitted["module"] = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
    return fitted


def predict(model, X):
    if isinstance(model, nn.Module):
        with torch.no_grad():
            return model(torch.tensor(X, dtype=torch.float32)).numpy().astype(np.float64)
    if isinstance(model, NeuralNetRegressor):
        return model.predict(X.astype(np.float32)).astype(np.float64)
    return model.predict(X)


def proven_error(matrix, prediction):
    """Return a lower bound of the spectral norm of prediction − matrix⁻¹, in ball arithmetic."""
    ctx.prec = 256
    n = len(matrix)
    difference = arb_mat(prediction.tolist()) - arb_mat(matrix.tolist()).inv()
    D = np.array([[float(difference[i, j].mid()) for j in range(n)] for i in range(n)])
    U, _, Vt = np.linalg.svd(D)
    u, v = arb_mat([U[:, 0].tolist()]), arb_mat([[x] for x in Vt[0].tolist()])
    along = abs((u * difference * v)[0, 0])
    # uᵀDv / (‖u‖ ‖v‖) is at most the norm, whatever u and v are.
    length = (u * u.transpose())[0, 0].sqrt() * (v.transpose() * v)[0, 0].sqrt()
    return float((along / length).lower())


# -- failure distance ------------------------------------------------------------------------------


def near_singular(center, radius, distance, n_samples, seed):
    """Return matrices of a ball whose smallest singular values are below a distance."""
    rng = np.random.default_rng(seed)
    n = len(center)
    E = rng.standard_normal((n_samples, n, n))
    E *= (
        radius
        * rng.random((n_samples, 1, 1)) ** 0.2
        / np.linalg.norm(E, axis=(1, 2))[:, None, None]
    )
    A = center + E
    for _ in range(50):  # toward both the singular set and the ball
        U, s, Vt = np.linalg.svd(A)
        s[:, -1] = distance * rng.uniform(0.05, 0.98, n_samples)
        A = (U * s[:, None, :]) @ Vt
        E = A - center
        size = np.linalg.norm(E, axis=(1, 2))
        outside = size > radius
        if not outside.any():
            break
        A[outside] = center + E[outside] * (0.98 * radius / size[outside])[:, None, None]
    inside = np.linalg.norm(A - center, axis=(1, 2)) <= radius
    small = np.linalg.svd(A, compute_uv=False)[:, -1] < distance
    return A[inside & small]


@pytest.mark.parametrize("error", [0.5, 1e4, *exhaustive(10.0)])
@pytest.mark.parametrize(("center", "radius"), [(None, 5.0), (CENTER, 2.0), (None, 500.0)])
def test_failure_distance_is_never_contradicted(models, center, radius, error):
    """Every sampled matrix nearer to a singular one than the failure distance fails as told."""
    for name, model in models.items():
        around = np.zeros((2, 2)) if center is None else center
        distance = failure_distance(model, radius, error, center=around)
        assert 0 < distance <= 1 / error, name
        A = near_singular(around, radius, distance, 2000, 0)
        assert len(A) > 200, name
        wrong = predict(model, A.reshape(-1, 4)).reshape(-1, 2, 2) - np.linalg.inv(A)
        assert np.linalg.norm(wrong, 2, axis=(1, 2)).min() > error, name


@pytest.mark.parametrize("name", REGIONS)
def test_failure_distance_of_published_networks(name):
    """The same for the networks of the four regions, on the balls around their boxes."""
    model, center = published(name)
    radius = 2 * np.linalg.norm(center, 2)
    distance = failure_distance(model, radius, 10.0, center=center)
    A = near_singular(center, radius, distance, 500, 1)
    assert len(A) > 100
    rows = A.reshape(len(A), -1)
    wrong = model.predict(rows).reshape(A.shape) - np.linalg.inv(A)
    assert np.linalg.norm(wrong, 2, axis=(1, 2)).min() > 10.0
    # The bound on the ball is sharper than the polynomial's, or equal.
    polynomial = polynomial_lipschitz(model).B(np.linalg.norm(center) + radius)
    assert distance >= (1 - 1e-12) / (10.0 + polynomial)


def test_magnitudes_are_bounds(models):
    """1/d − error bounds the prediction everywhere on the ball, corners of the search included."""
    rng = np.random.default_rng(0)
    for name, model in models.items():
        for radius in (0.1, 3.0, 100.0):
            magnitude = 1 / failure_distance(model, radius, 0.0, center=CENTER)
            E = rng.standard_normal((2000, 4))
            E *= radius / np.linalg.norm(E, axis=1, keepdims=True)
            predicted = predict(model, CENTER.ravel() + E)
            assert np.linalg.norm(predicted, axis=1).max() <= magnitude * (1 + 1e-5), name


def test_failure_distance_arguments(models, data):
    """Own bounds, defaults, and models of which nothing is known."""
    pipeline = make_pipeline(StandardScaler(), RandomForestRegressor(3, random_state=0)).fit(*data)
    with pytest.raises(ValueError, match="pass magnitude=M"):
        failure_distance(pipeline, 1.0, center=CENTER)
    assert failure_distance(pipeline, 1.0, 3.0, magnitude=1.0) == pytest.approx(0.25)
    certified = CertifiedInverse(LinearInverseApprox()).fit(data[0])
    with pytest.raises(ValueError, match="no bound is known"):
        failure_distance(certified, 1.0)
    network = models["module"]
    assert failure_distance(network, 2.0) == failure_distance(network, 2.0, center=np.zeros((2, 2)))
    assert failure_distance(models["network"], 1e300, 1.0) >= 0.0
    for wrong_center in (np.eye(3), [1.0, 2.0, 3.0]):
        for name in ("Ridge", "forest", "network", "module", "encoder"):
            with pytest.raises(ValueError, match=r"center|rows of|features"):
                failure_distance(models[name], 1.0, center=np.asarray(wrong_center))
    X, Y = data
    for model in (Ridge(), NeuralInverseRegressor(8, max_iter=2)):
        with pytest.raises(ValueError, match="inverses"):
            failure_distance(model.fit(X, Y[:, :1]), 1.0, center=CENTER)
    for cls in (Ridge, KNeighborsRegressor, NeuralInverseRegressor):
        with pytest.raises((ValueError, AttributeError), match="fit"):
            failure_distance(cls(), 1.0, center=CENTER)
    for wrong in ({"radius": -1.0}, {"radius": 1.0, "error": -1.0}, {"radius": np.nan}):
        with pytest.raises(ValueError, match="failure_distance"):
            failure_distance(network, **wrong)
    with pytest.raises(ValueError, match="NaN or infinity"):
        failure_distance(network, 1.0, center=[np.nan] * 4)


class Otherwise(NeuralInverseRegressor):
    """Predicts something else than its network."""

    def predict(self, X, **params):
        return 1e6 * super().predict(X, **params)


class Inferring(NeuralNetRegressor):
    """A net whose module is not all that it computes."""

    def infer(self, x, **params):
        return 100 * super().infer(x, **params)


def test_models_that_predict_otherwise_are_not_bounded(data):
    """What a derived class, a nonlinearity or a link adds is not bounded by the network."""
    X, Y = data
    scaled = NeuralNetRegressor(
        nn.Linear, module__in_features=4, module__out_features=4, max_epochs=1, verbose=0,
        train_split=None, predict_nonlinearity=lambda y: 1e6 * y,
    )  # fmt: skip
    infers = Inferring(nn.Linear(4, 4), max_epochs=1, verbose=0, train_split=None)
    networks = [
        infers.fit(X.astype(np.float32), Y.astype(np.float32)),
        Otherwise(8, "relu", max_iter=2, random_state=0).fit(X, Y),
        scaled.fit(X.astype(np.float32), Y.astype(np.float32)),
    ]
    if "loss" in MLPRegressor().get_params():
        network = MLPRegressor(loss="poisson", max_iter=2, random_state=0)
        networks.append(network.fit(X, np.abs(Y) + 0.1))
    for network in networks:
        with pytest.raises(ValueError, match="no bound is known"):
            failure_distance(network, 1.0, center=CENTER)
        with pytest.raises(ValueError, match="what can be certified are"):
            polynomial_lipschitz(network)
        assert counterexample(network, CENTER, 1e6, random_state=0).error_lower > 1e6


# -- counterexamples -------------------------------------------------------------------------------


def check(found, model, center, error):
    """A counterexample is what it says, by ball arithmetic and by the model itself."""
    center = np.asarray(center, dtype=np.float64)
    A = found.matrix
    n = len(A)
    assert np.array_equal(predict(model, A.reshape(1, -1)).reshape(n, n), found.prediction)
    proven = proven_error(A, found.prediction)
    assert proven > error
    assert found.error_lower <= proven * (1 + 1e-9)
    assert found.error_lower > error
    assert found.error == pytest.approx(proven, rel=max(1e-3, 2 * found.bound))
    largest = np.abs(A - center).max() or 1.0
    assert found.distance == pytest.approx(np.linalg.norm((A - center) / largest) * largest)
    assert found.singular_distance > 0
    assert np.isfinite(found.bound)
    # The inverse is as near as the bound says.
    ctx.prec = 256
    exact = arb_mat(A.tolist()).inv()
    off = sum(
        (x - arb(y)) ** 2 for x, y in zip(exact.entries(), found.inverse.ravel(), strict=True)
    )
    size = sum(x**2 for x in exact.entries())
    assert float((off / size).sqrt().lower()) <= found.bound


@pytest.mark.parametrize("error", [1.0, 1e3, 1e6])
def test_counterexamples_of_any_regressor(models, error):
    """Every model errs by 1, 1e3 and 1e6 somewhere, verified by ball arithmetic."""
    for model in models.values():
        found = counterexample(model, CENTER, error, random_state=0)
        check(found, model, CENTER, error)
        # Where models are continuous the error is just exceeded: the search did not overshoot.
        if not isinstance(
            model, (RandomForestRegressor, ExtraTreesRegressor, DecisionTreeRegressor)
        ):
            assert found.error <= 1.1 * error or found.distance == 0


@pytest.mark.parametrize("name", ["MLPRegressor", "forest", "third order", *exhaustive("encoder")])
def test_a_longer_search_gains_little(models, name):
    """Ten times as many directions and three times as many turns come no tenth nearer."""
    short = counterexample(models[name], CENTER, 1.0, random_state=0)
    long = counterexample(models[name], CENTER, 1.0, n_directions=640, max_iter=60, random_state=1)
    assert short.distance <= 1.1 * long.distance


@pytest.mark.parametrize("error", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("name", REGIONS)
def test_counterexamples_of_published_networks(name, error):
    """So do the networks of the paper's four regions."""
    model, center = published(name)
    check(counterexample(model, center, error, random_state=0), model, center, error)


def test_counterexamples_are_near(data):
    """The search beats the walk for moderate errors, and reaches what is known to be nearest."""
    model = LinearInverseApprox(CENTER).fit()
    walked = counterexample(model, CENTER, 0.3, max_iter=0)
    searched = counterexample(model, CENTER, 0.3, random_state=0)
    assert searched.distance <= walked.distance
    # Constant predictions of 0: the error is 1/d, so the nearest is at d_2 − 1/error exactly.
    zero = DummyRegressor(strategy="constant", constant=np.zeros(4)).fit(*data)
    found = counterexample(zero, CENTER, 10.0, random_state=0)
    assert found.distance == pytest.approx(1.3819660112501053 - 0.1, rel=1e-9)
    # Wrong already at the center.
    found = counterexample(zero, CENTER, 0.1)
    assert found.distance == 0.0
    assert np.array_equal(found.matrix, CENTER)


@pytest.mark.parametrize(
    "center",
    [
        np.ones((2, 2)),
        np.zeros((2, 2)),
        [[1e-150, 2e-150], [3e-150, 1e-150]],
        np.asfortranarray([[1e100, 2e100], [3e100, 1e100]]),
        [[3, 1], [1, 2]],
        [5],
        np.diag([1.0, 1e-9, 1.0, 1.0]),
        np.eye(2) * 1e300,
        np.eye(2) * 1e-160,
        np.random.default_rng(0).standard_normal((30, 30)),
    ],
    ids=[
        "singular",
        "zero",
        "tiny",
        "huge",
        "integers",
        "1x1",
        "nearly singular",
        "1e300",
        "1e-160",
        "30x30",
    ],
)
def test_counterexamples_at_hostile_centers(center):
    """Singular, tiny, huge, integer and 1 × 1 centers."""
    n = int(np.sqrt(np.size(center)))
    scale = float(np.max(np.abs(center))) or 1.0
    zero = DummyRegressor(strategy="constant", constant=np.zeros(n * n))
    zero.fit(np.zeros((2, n * n)), np.zeros((2, n * n)))
    center = np.reshape(center, (n, n))
    check(counterexample(zero, center, 1e3 / scale, random_state=0), zero, center, 1e3 / scale)


class Silent:
    """Predicts NaN or infinity."""

    def __init__(self, value):
        self.value = value

    def predict(self, X):
        return np.full(np.shape(X), self.value)


def test_counterexample_says_when_there_is_none(data):
    """Exact inverses are not broken, NaN is no error, and nonsense is refused."""
    certified = CertifiedInverse(LinearInverseApprox()).fit(data[0])
    with pytest.raises(ValueError, match="fall back to exact inverses have none"):
        counterexample(certified, CENTER, 1.0, random_state=0)
    with pytest.raises(ValueError, match="complex center"):
        counterexample(LinearInverseApprox(CENTER).fit(), CENTER * 1j)
    with pytest.raises(ValueError, match="fails on rows of 9 entries"):
        counterexample(nn.Linear(4, 4), np.eye(3))
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="largest proven error among"):
            counterexample(Silent(value), CENTER, 1.0, max_iter=1, random_state=0)
    linear = LinearInverseApprox(CENTER).fit()
    with pytest.raises(ValueError, match="provably exceeds 1e"):
        counterexample(linear, CENTER, 1e300, random_state=0)
    with pytest.raises(ValueError, match="center"):
        counterexample(linear, [[np.nan, 1], [1, 2]])
    with pytest.raises(ValueError, match="'max_iter'"):
        counterexample(linear, CENTER, max_iter=-1)
    traces = Ridge().fit(data[0], data[1][:, :1])
    with pytest.raises(ValueError, match="but inverses are expected"):
        counterexample(traces, CENTER)


def test_counterexample_is_reproducible():
    """The same seed gives the same matrix, and NumPy's global generator is left alone."""
    model = LinearInverseApprox(CENTER).fit()
    state = np.random.mtrand._rand.get_state(legacy=False)["state"]["key"].copy()
    first, second = (counterexample(model, CENTER, 0.2, random_state=3) for _ in range(2))
    assert np.array_equal(first.matrix, second.matrix)
    after = np.random.mtrand._rand.get_state(legacy=False)["state"]["key"]
    assert np.array_equal(state, after)


def test_modules_are_left_in_their_modes():
    """Parts of a module that are in evaluation mode stay so, and the others in training."""
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    network[1].eval()
    counterexample(network, CENTER, 1e3, max_iter=1, random_state=0)
    assert [part.training for part in network] == [True, False, True]
    assert network.training


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_precisions_of_networks(dtype):
    """A counterexample can be given to the network as it is, whatever its precision."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)).to(dtype)
    found = counterexample(network, CENTER, 20.0, random_state=0)
    given = torch.tensor(found.matrix).to(dtype)
    assert np.array_equal(given.double().numpy(), found.matrix)
    with torch.no_grad():
        out = network(given.reshape(1, -1)).double().numpy().reshape(2, 2)
    assert np.array_equal(out, found.prediction)
    assert proven_error(found.matrix, out) > 20.0


class Exact:
    """Inverts, and raises at singular matrices."""

    def predict(self, X):
        return np.linalg.inv(X.reshape(-1, 2, 2))


def test_models_that_raise_at_singular_matrices():
    """An exact inverter has no counterexample, and is not asked to blame for raising."""
    with pytest.raises(ValueError, match="largest proven error among"):
        counterexample(Exact(), CENTER, 1.0, random_state=0)


class Pair(nn.Module):
    """Returns its output and something else."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x), x


def test_modules_with_several_outputs():
    """The first one counts."""
    module = Pair()
    assert repr(polynomial_lipschitz(module, input_shape=4)) == repr(
        polynomial_lipschitz(module.layer)
    )
    assert failure_distance(module, 2.0, center=CENTER) == pytest.approx(
        failure_distance(module.layer, 2.0, center=CENTER)
    )
    with pytest.raises(ValueError, match="pass center"):
        failure_distance(nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Flatten(), module.layer), 2.0)
    assert counterexample(module, CENTER, 10.0, random_state=0).error_lower > 10.0


class Careless:
    """Changes what it is given, and returns a stack."""

    def predict(self, X):
        X *= 0
        return X.reshape(-1, 2, 2)


def test_models_may_spoil_their_input():
    """A model that changes its input changes nothing of the search."""
    found = counterexample(Careless(), CENTER, 10.0, random_state=0)
    assert found.distance == pytest.approx(1.3819660112501053 - 0.1, rel=1e-9)


def test_models_fitted_to_data_frames(data):
    """They get data frames, and do not warn."""
    pandas = pytest.importorskip("pandas")
    names = ["a11", "a12", "a21", "a22"]
    model = Ridge().fit(pandas.DataFrame(data[0], columns=names), data[1])
    assert counterexample(model, CENTER, 10.0, random_state=0).error_lower > 10.0
    region = FeasibleRegionSampler(CENTER, 2.0).fit()
    assert truncated_moments(model, region, 1, n_samples=100, random_state=0).moments[-1] > 0
    assert failure_distance(model, 1.0, center=CENTER) > 0


def test_singular_distances_are_accurate():
    """Far below the rounding of singular values: in agreement with ball arithmetic."""
    zero = always(0.0, 2)
    for error in (1e6, 1e10, 1e12):
        found = counterexample(zero, CENTER, error, random_state=0)
        ctx.prec = 256
        inverse = arb_mat(found.matrix.tolist()).inv()
        exact = np.array([[float(inverse[i, j]) for j in range(2)] for i in range(2)])
        assert found.singular_distance == pytest.approx(
            1 / np.linalg.norm(exact, 2), rel=max(2 * found.bound, 1e-12)
        )


# -- moments ---------------------------------------------------------------------------------------


def always(value, n):
    """Return a fitted regressor that always predicts one number."""
    model = DummyRegressor(strategy="constant", constant=np.full(n * n, value))
    return model.fit(np.zeros((2, n * n)), np.zeros((2, n * n)))


def test_moments_of_numbers():
    """For 1 × 1 matrices in [−1, 3] and predictions of 0 the moments are known."""
    region = FeasibleRegionSampler([[1.0]], 2.0).fit()
    cutoffs = np.array([0.3, 0.1, 1e-2, 1e-3, 1e-4])
    found = truncated_moments(always(0.0, 1), region, (1, 2, 3), cutoffs, random_state=0)
    exact = [
        (np.log(1 / cutoffs) + np.log(3 / cutoffs)) / 4,
        (1 / cutoffs - 1 + 1 / cutoffs - 1 / 3) / 4,
        ((cutoffs**-2 - 1) + (cutoffs**-2 - 1 / 9)) / 8,
    ]
    z = (found.moments - exact) / found.standard_errors
    assert np.abs(z).max() < 4
    assert (found.standard_errors < 0.02 * found.moments).all()
    # Relative errors are all 1: the measure of what is left.
    np.testing.assert_allclose(found.relative_moments[0], 1 - cutoffs / 2, atol=0.01)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize(
    ("center", "radius"), [(CENTER, 2.0), (make_region("3x3").center, 3.0)], ids=["2x2", "3x3"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_growth_is_that_of_the_theory(center, radius, norm, seed):
    """log(1/ε) for p = 1, ε^(1−p) for 2 and 3, within two standard errors that are small."""
    radius *= {"linf": 1, "l2": 1.5, "l1": 3}[norm]
    region = FeasibleRegionSampler(center, radius, norm=norm).fit()
    model = LinearInverseApprox(center).fit()
    found = truncated_moments(model, region, (1, 2, 3), n_samples=100_000, random_state=seed)
    assert found.growth_error.max() < 0.05
    assert (np.abs(found.growth - [0, 1, 2]) <= 2 * found.growth_error).all()
    assert (np.abs(found.relative_growth + 1) <= 2 * found.relative_growth_error).all()
    assert np.array_equal(found.expected_growth, [0, 1, 2])
    # The fit goes through the estimates.
    assert (np.abs(found.fitted - found.moments) <= 4 * found.standard_errors).all()


def test_standard_errors_are_honest():
    """Over 60 seeds exponents scatter as their standard errors say, and around the theory."""
    region = FeasibleRegionSampler(CENTER, 2.0).fit()
    model = LinearInverseApprox(CENTER).fit()
    z = []
    for seed in range(60):
        found = truncated_moments(model, region, n_samples=4_000, random_state=seed)
        z.append((found.growth - found.expected_growth) / found.growth_error)
    z = np.array(z)
    assert (np.abs(z.mean(axis=0)) < 4 / np.sqrt(60)).all()
    assert ((z.std(axis=0) > 0.7) & (z.std(axis=0) < 1.4)).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_moments_agree_with_plain_sampling(norm):
    """Where plain sampling sees enough, cut off far away, both say the same."""
    region = FeasibleRegionSampler(CENTER, 2.0, norm=norm, random_state=0).fit()
    model = NeuralInverseRegressor(8, "relu", baseline=None, max_iter=3, random_state=0)
    model.fit(make_region("2x2-first", random_state=0).data)
    found = truncated_moments(model, region, 2, [1.0, 0.5, 0.2], random_state=0)
    X, Y = region.sample(100_000)
    error = np.linalg.norm(model.predict(X) - Y, axis=1) ** 2
    distance = np.linalg.svd(X.reshape(-1, 2, 2), compute_uv=False)[:, -1]
    for k, cutoff in enumerate(found.cutoffs):
        plain = error * (distance >= cutoff)
        spread = np.hypot(plain.std() / np.sqrt(len(X)), found.standard_errors[k])
        assert abs(plain.mean() - found.moments[k]) < 4 * spread


def test_moments_of_unequal_half_widths():
    """Entries that do not vary are left alone, and the weights still average to one."""
    widths = np.array([[2.5, 0.0], [0.0, 1.0]])
    region = FeasibleRegionSampler(CENTER, widths).fit()
    found = truncated_moments(always(0.0, 2), region, 1, [1e-9], random_state=0)
    assert found.relative_moments[0] == pytest.approx(1.0, abs=5e-3)
    assert np.isnan(found.growth)


def test_moments_where_nothing_is_singular():
    """Over a certified region moments do not depend on small cutoffs at all."""
    region = make_region("2x2-first").sampler
    with pytest.warns(UserWarning, match="larger radius"):
        found = truncated_moments(LinearInverseApprox(CENTER).fit(), region, 1, random_state=0)
    assert np.ptp(found.moments) == 0.0
    assert np.isnan(found.growth)
    assert isinstance(found.p, float)
    assert found.moments.shape == found.cutoffs.shape == (7,)


def test_moments_refuse_nonsense(data):
    """Unfitted samplers, ellipsoids, powers below 1, cutoffs of 0, no room."""
    model = LinearInverseApprox(CENTER).fit()
    region = FeasibleRegionSampler(CENTER, 2.0).fit()
    ellipsoid = FeasibleRegionSampler(norm="mahalanobis").fit(data[0])
    for arguments, message in [
        ((ellipsoid, 1), "norm='mahalanobis'"),
        ((region, 0.5), "at least 1"),
        ((region, 1, [0.1, 0.0]), "distances are positive"),
        ((region, 1, []), "distances are positive"),
        ((region, []), "at least 1"),
        ((region, 100), "overflow"),
        ((FeasibleRegionSampler(CENTER, 0.0).fit(), 1), "radius 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            truncated_moments(model, *arguments)
    with pytest.raises(ValueError, match="NaN or infinity"):
        truncated_moments(Silent(np.nan), region)
    with pytest.raises(ValueError, match="fails on rows of 4 entries"):
        truncated_moments(nn.Linear(9, 9), region)
    far = truncated_moments(model, region, 2, [100.0], n_samples=50, random_state=0)
    assert far.moments[0] == 0.0
    with pytest.raises(ValueError, match="'n_samples'"):
        truncated_moments(model, region, n_samples=1)


def test_moments_leave_the_stream_alone():
    """The sampler goes on as if nothing had happened; the same seed gives the same moments."""
    model = LinearInverseApprox(CENTER).fit()
    first, second = (FeasibleRegionSampler(CENTER, 2.0, random_state=0).fit() for _ in range(2))
    results = [truncated_moments(model, first, 2, n_samples=100, random_state=5) for _ in range(2)]
    assert np.array_equal(results[0].moments, results[1].moments)
    assert np.array_equal(first.sample(3)[0], second.sample(3)[0])
