"""The training engine against independent oracles: autograd, torch's own Adam, LAPACK."""

import pickle
import threading
import time
import warnings
from itertools import pairwise

import flint
import numpy as np
import pytest
import scipy.optimize
import torch
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from skorch.callbacks import Checkpoint, EpochScoring, Freezer, LRScheduler, ProgressBar
from test_neural import BatchCounter, adam, error, quick

from skinv import FeasibleRegionSampler, LinearInverseApprox, NeuralInverseRegressor
from skinv.learn.training import normal_equations
from skinv.learn.training.adam import AdamLoop, _Graph
from skinv.learn.training.batches import DrawnBatches, TensorBatches, pick, row_losses
from skinv.learn.training.callbacks import move_units
from skinv.learn.training.fitting import learning_rates
from skinv.learn.training.levenberg_marquardt import LevenbergMarquardt
from skinv.learn.training.modules import MLP, mlp_forward
from skinv.learn.training.normal_equations import KINDS
from skinv.learn.training.preparation import Preparation, random_layers
from skinv.learn.training.solvers import choose_solver, lm_batch_size, lm_epoch
from skinv.learn.training.stream import inverses, stream

SIZES = ([3, 2], [3, 5, 2], [1, 1, 1], [4, 32, 4], [3, 5, 4, 2], [1, 1, 1, 1], [2, 3, 2, 5])
ACTIVATIONS = ("relu", "silu", "tanh")


@pytest.fixture(scope="module")
def region():
    """A box around the first centre: training and test matrices with their inverses."""
    sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    return *sampler.sample(4000), *sampler.sample(2000)


def random_problem(sizes, n_rows=150, seed=0, dtype=np.float64):
    """Return a module-ready network, inputs and targets."""
    layers = random_layers(sizes, np.random.RandomState(seed))
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, sizes[0], generator=g, dtype=torch.float64)
    y = torch.randn(n_rows, sizes[-1], generator=g, dtype=torch.float64)
    kind = torch.float64 if dtype == np.float64 else torch.float32
    return [(W.astype(dtype), b.astype(dtype)) for W, b in layers], x.to(kind), y.to(kind)


# -- normal equations ----------------------------------------------------------------------------


def assembled(sizes, activation, gram_dtype=torch.float64):
    layers, x, y = random_problem(sizes)
    layers = MLP(layers, activation).joined()
    equations = KINDS[len(sizes) - 2](layers, activation, gram_dtype)
    return equations, equations.assemble(x, y), x, y


def matrix(equations):
    """Return JᵀJ in full: inner layers in the order of ``_pack``, then the outputs in turn."""
    eye = torch.eye(equations.last.numel(), dtype=equations.S.dtype)
    coupling = torch.stack([equations._coupled(e.view_as(equations.last)) for e in eye], 1)
    outputs = torch.block_diag(*[equations.S] * len(equations.last))
    return torch.cat(
        [torch.cat([equations.inner, coupling], 1), torch.cat([coupling.T, outputs], 1)], 0
    )


def residuals(equations, x, y):
    """Return the residuals as a function of the augmented layers."""

    def function(*layers):
        W, b = [layer[:, :-1] for layer in layers], [layer[:, -1] for layer in layers]
        return mlp_forward(x, W, b, equations.activation) - y

    return function


def flat(equations, layers):
    """Return matrices of the layers' shapes as one vector, in the order of the full matrix."""
    return torch.cat([equations._pack(layers[:-1]), layers[-1].reshape(-1)])


def jacobian(equations, x, y):
    """Return the Jacobian by autograd, columns in the order of the full matrix."""
    parts = torch.autograd.functional.jacobian(residuals(equations, x, y), tuple(equations.layers))
    rows = parts[-1].shape[0] * parts[-1].shape[1]
    inner = [part.transpose(2, 3).reshape(rows, -1) for part in parts[:-1]]
    return torch.cat([*inner, parts[-1].reshape(rows, -1)], 1)


@pytest.mark.parametrize("blocked", [0, 10**9])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_normal_matrix_is_that_of_autograd(sizes, activation, blocked, monkeypatch):
    """JᵀJ, Jᵀr and the sum of squares agree with autograd's Jacobian, in one chunk or in many."""
    monkeypatch.setattr(normal_equations, "_BLOCKED", blocked)
    for chunk in (1, 2**17):  # pieces of 64 rows, and one
        monkeypatch.setattr(normal_equations, "_CHUNK", chunk)
        equations, squares, x, y = assembled(sizes, activation)
        J = jacobian(equations, x, y)
        r = residuals(equations, x, y)(*equations.layers).reshape(-1)
        torch.testing.assert_close(matrix(equations), J.T @ J, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(
            flat(equations, equations.gradients), J.T @ r, rtol=1e-11, atol=1e-11
        )
        assert squares == pytest.approx(float(r @ r), rel=1e-12)


def test_single_precision_gram_matrices():
    """Formed in float32 the matrix is right to float32's rounding; gradients are in float64."""
    equations, _, x, y = assembled([4, 32, 4], "silu", torch.float32)
    J = jacobian(equations, x, y)
    exact = J.T @ J
    torch.testing.assert_close(matrix(equations), exact, rtol=1e-5, atol=1e-5 * exact.max())
    r = residuals(equations, x, y)(*equations.layers).reshape(-1)
    torch.testing.assert_close(
        flat(equations, equations.gradients), J.T @ r, rtol=1e-11, atol=1e-11
    )


def test_chunks_add_up(monkeypatch):
    """Rows in pieces give the matrix of all rows."""
    layers, x, y = random_problem([4, 6, 5, 3], n_rows=500)
    layers, matrices = MLP(layers, "silu").joined(), []
    for chunk in (1, 2**22):  # pieces of 64 rows, and one piece
        monkeypatch.setattr(normal_equations, "_CHUNK", chunk)
        equations = KINDS[2](layers, "silu")
        equations.assemble(x, y)
        matrices.append(matrix(equations))
    torch.testing.assert_close(*matrices, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_step_solves_the_damped_equations(sizes, activation):
    """Eliminating the last layer gives the solution of the whole damped system."""
    equations, _, x, y = assembled(sizes, activation)
    equations.add_ridge(0.01)
    assert equations.factorize(0.1)
    step = flat(equations, equations.solve(equations.gradients))
    J = jacobian(equations, x, y)
    scale = torch.cat([equations.scale[0], equations.scale[1].repeat(sizes[-1])])
    H = J.T @ J + 0.01 * torch.eye(J.shape[1], dtype=J.dtype) + torch.diag(0.1 * scale)
    r = residuals(equations, x, y)(*equations.layers).reshape(-1)
    right = J.T @ r + 0.01 * flat(equations, equations.layers)
    torch.testing.assert_close(step, -torch.linalg.solve(H, right), rtol=1e-9, atol=1e-12)
    length = float((scale * step * step).sum())
    assert equations.damped_norm(equations.solve(equations.gradients)) == pytest.approx(length)


@pytest.mark.parametrize("activation", ["silu", "tanh"])
@pytest.mark.parametrize("sizes", [[3, 5, 2], [3, 5, 4, 2]], ids=str)
def test_curvature_along_a_step(sizes, activation):
    """The second directional derivative is that of autograd, taken twice."""
    equations, _, x, y = assembled(sizes, activation)
    equations.factorize(0.1)
    step = equations.solve(equations.gradients)

    def along(t):
        layers = [W + t * dW for W, dW in zip(equations.layers, step, strict=True)]
        return residuals(equations, x, y)(*layers)

    def derivative(values):  # forward mode, by two backward ones
        v = torch.ones_like(values, requires_grad=True)
        (pulled,) = torch.autograd.grad(values, t, v, create_graph=True)
        return torch.autograd.grad(pulled, v, create_graph=True)[0]

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    second = derivative(derivative(along(t))).detach()
    expected = jacobian(equations, x, y).T @ second.reshape(-1)
    got = flat(equations, equations.curved_gradient(x, step))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_jets(activation):
    """Values and derivatives are those of autograd."""
    z = (torch.linspace(-6, 6, 101, dtype=torch.float64) + 0.01).requires_grad_()
    function = {"relu": torch.relu, "silu": torch.nn.functional.silu, "tanh": torch.tanh}
    expected = function[activation](z)
    (slope,) = torch.autograd.grad(expected.sum(), z, create_graph=True)
    value, d1, d2 = normal_equations.activation_jet(z.detach(), activation)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(d1, slope.detach(), atol=1e-14, rtol=1e-12)
    if activation == "relu":
        assert not d2.any()
    else:
        (curvature,) = torch.autograd.grad(slope.sum(), z)
        torch.testing.assert_close(d2, curvature, atol=1e-13, rtol=1e-11)


# -- Levenberg-Marquardt -------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (6,), (5, 4)], ids=str)
def test_lm_descends(hidden, activation):
    """On fixed rows no step raises the loss, and the fit ends far below where it began."""
    layers, x, _ = random_problem([2, *hidden, 2], n_rows=300)
    y = torch.stack([x[:, 0] * x[:, 1], torch.sin(2 * x[:, 0])], 1)
    module = MLP(layers, activation)
    solver = LevenbergMarquardt(module)
    losses = [solver.step(x, y) for _ in range(60)]
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(losses))
    affine = np.linalg.lstsq(np.c_[x, np.ones(300)], y.numpy(), rcond=None)
    best_affine = affine[1].sum() / y.numel()
    if hidden:
        assert losses[-1] < best_affine / 5
    else:  # a linear least-squares problem
        assert losses[-1] == pytest.approx(best_affine, rel=1e-6)


def test_lm_finds_a_network_it_can_be():
    """Data made by a network of the same shape are fitted to rounding: convergence is quadratic."""
    teacher, x, _ = random_problem([3, 4, 2], n_rows=400, seed=3)
    y = MLP(teacher, "tanh")(x).detach()
    module = MLP([(W + 0.05, b - 0.05) for W, b in teacher], "tanh")
    solver = LevenbergMarquardt(module)
    losses = [solver.step(x, y) for _ in range(40)]
    assert losses[-1] < 1e-25
    assert solver.converged or losses[-1] < 1e-28


@pytest.mark.parametrize("hidden", [(4,), (3, 3)], ids=str)
def test_lm_weight_decay_has_the_same_minimum_as_adam(hidden):
    """At its end the gradient of mse + weight_decay/2 ‖θ‖², by autograd, vanishes."""
    layers, x, y = random_problem([2, *hidden, 2], n_rows=200)
    module = MLP(layers, "tanh")
    solver = LevenbergMarquardt(module, weight_decay=1e-2)
    for _ in range(300):
        solver.step(x, y)
    loss = torch.nn.functional.mse_loss(module(x), y)
    loss = loss + 0.5e-2 * sum(p.square().sum() for p in module.parameters())
    loss.backward()
    assert max(float(p.grad.abs().max()) for p in module.parameters()) < 1e-6


def test_lm_undoes_a_step_that_was_lucky_on_its_batch():
    """If the next batch shows an error several times as large, the last step is taken back."""
    layers, x, _ = random_problem([2, 4, 1], n_rows=200)
    y = x[:, :1] * x[:, 1:]
    module = MLP(layers, "tanh")
    solver = LevenbergMarquardt(module)
    for _ in range(5):
        solver.step(x, y)
    before = [p.detach().clone() for p in solver._module.parameters()]
    solver.step(x, y)
    damping = solver.damping
    solver.step(x, y + 100.0)  # a batch on which all looks far worse
    for p, b in zip(module.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), b, rtol=0, atol=0)
    assert solver.damping > damping


def test_lm_survives_what_it_cannot_use():
    """Targets that are not finite change nothing; dead units and equal rows do no harm."""
    layers, x, y = random_problem([2, 4, 1], n_rows=20)
    module = MLP(layers, "relu")
    before = [p.detach().clone() for p in module.parameters()]
    assert not np.isfinite(LevenbergMarquardt(module).step(x, y * torch.inf))
    assert not np.isfinite(LevenbergMarquardt(module).step(x * torch.nan, y))
    for p, b in zip(module.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), b, rtol=0, atol=0)
    with torch.no_grad():
        module.biases[0][:2] = -100.0  # off everywhere
    solver = LevenbergMarquardt(module)
    losses = [solver.step(x[:1].repeat(20, 1), y[:1].repeat(20, 1)) for _ in range(30)]
    assert losses[-1] < 1e-12
    assert all(torch.isfinite(p).all() for p in module.parameters())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lm_in_the_estimator(region, activation):
    """solver="lm" beats the linear approximation by far, in a few dozen steps."""
    X, _, X_test, Y_test = region
    linear = error(LinearInverseApprox().fit(X), X_test, Y_test)
    for hidden in (24, (12, 12)):
        model = quick(
            hidden_layer_sizes=hidden, activation=activation, solver="lm", baseline=None
        ).fit(X)
        assert model.solver_ == "lm"
        assert error(model, X_test, Y_test) < linear / (5 if activation == "relu" else 50)
        assert model._layers[0][0].dtype == np.float64


def test_lm_fits_what_is_affine(region):
    """Without a hidden layer it is the least-squares fit, found at once; and the fit then ends."""
    X, Y, X_test, _ = region
    X, Y = X[:900], Y[:900]  # one batch
    model = quick(hidden_layer_sizes=(), solver="lm", baseline=None, max_iter=500).fit(X, Y)
    expected = LinearInverseApprox(method="lstsq").fit(X, Y).predict(X_test)
    np.testing.assert_allclose(model.predict(X_test), expected, atol=1e-9)
    assert model.n_iter_ < 50


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("auto", [4, 32, 4], "silu", 10_000), "lm"),
        (("auto", [4, 32, 4], "relu", 10_000), "lm"),
        (("auto", [9, 72, 9], "silu", 10_000), "lm"),
        (("auto", [9, 72, 9], "relu", 10_000), "adam"),
        (("auto", [4, 16, 16, 4], "tanh", 10_000), "lm"),
        (("auto", [4, 8, 8, 8, 4], "tanh", 10_000), "adam"),
        (("auto", [256, 2048, 256], "silu", 10**6), "adam"),
        (("auto", [4, 32, 4], "silu", 292), "lm"),  # 4 numbers per parameter
        (("auto", [4, 32, 4], "silu", 291), "adam"),
        (("auto", [4, 32, 4], "silu", np.inf), "lm"),
        (("auto", [4, 32, 4], "silu", 10_000, [LRScheduler("StepLR", step_size=1)]), "adam"),
        (("auto", [4, 32, 4], "silu", 10_000, [("lr", LRScheduler("StepLR"))]), "adam"),
        (("auto", [4, 32, 4], "silu", 10_000, [BatchCounter()]), "lm"),
        (("adam", [4, 32, 4], "silu", 10_000), "adam"),
        (("lm", [4, 32, 4], "silu", 10), "lm"),
    ],
)
def test_which_solver(args, expected):
    """The documented rule."""
    assert choose_solver(*args) == expected


def test_epochs_of_levenberg_marquardt():
    """Epochs have fewer steps where these take long, and batches 16 numbers for each parameter."""
    assert [lm_epoch(s) for s in ([4, 32, 4], [9, 72, 9], [4, 16, 16, 4])] == [10, 4, 3]
    assert lm_batch_size([4, 32, 4]) == 16 * 292 / 4
    assert lm_batch_size([4, 2, 4]) == 1024


def test_learning_rates():
    """Schedules are three half cosines, or one up and one down."""
    rates = learning_rates("warm_restarts", 7, 1.0)
    np.testing.assert_allclose(rates, [1, 1, 0.5, 1, 0.853553, 0.5, 0.146447], atol=1e-6)
    rates = learning_rates("one_cycle", 1000, 1.0)
    assert rates[[0, 300, -1]] == pytest.approx([1 / 25, 1.0, 1e-5])
    assert (np.diff(rates[:301]) > 0).all()
    assert (np.diff(rates[300:]) < 0).all()


def test_lm_limits(region):
    """Networks that Levenberg-Marquardt cannot take are refused before anything is allocated."""
    X = region[0]
    with pytest.raises(ValueError, match="3 hidden layers with solver='lm'"):
        quick(solver="lm", hidden_layer_sizes=(4, 4, 4)).fit(X)
    with pytest.raises(ValueError, match=r"90004 parameters with solver='lm'.*GiB"):
        quick(solver="lm", hidden_layer_sizes=10_000).fit(X)
    with pytest.raises(ValueError, match=r"solver='lm'.*GiB"):
        choose_solver("lm", [16, 50, 50, 256], "silu", 1000)
    for callback in (LRScheduler("StepLR", step_size=1), LRScheduler, Freezer("weights.*")):
        with pytest.raises(ValueError, match="solver='adam'"):
            quick(solver="lm", callbacks=[callback]).fit(X)


def test_moved_units(region):
    """Recycling puts dead and doubled units to use, keeps the width, and repeats itself."""
    layers, x, _ = random_problem([2, 6, 1], n_rows=500)
    y = (x[:, :1] - 0.3).abs() + x[:, 1:].abs()
    module = MLP(layers, "relu")
    with torch.no_grad():
        module.biases[0][0] = -100.0  # a dead unit
        module.weights[0][1] = module.weights[0][2]  # and a double
        module.biases[0][1] = module.biases[0][2]
        a = np.c_[torch.relu(x @ module.weights[0].T + module.biases[0]), np.ones(500)]
        before = np.square(a @ np.linalg.lstsq(a, y.numpy(), rcond=None)[0] - y.numpy()).sum()
        move_units(module, x, y, 2, torch.Generator().manual_seed(0))
        after = float((module(x) - y).square().sum())
    assert module.weights[0].shape == (6, 2)
    assert after < 0.7 * before
    X, _, X_test, _ = region
    model = quick(solver="lm", activation="relu", baseline=None, max_iter=40).fit(X)
    again = clone(model).fit(X)
    np.testing.assert_array_equal(model.predict(X_test), again.predict(X_test))


# -- Adam ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [[3, 2], [4, 8, 4], [4, 8, 6, 3]], ids=str)
@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_adam_is_that_of_torch(sizes, activation, weight_decay):
    """The same steps as autograd with torch.optim.Adam, a last smaller batch included."""
    layers, x, y = random_problem(sizes, n_rows=70)
    ours, theirs, stepped = (MLP(layers, activation) for _ in range(3))

    def optimizer(module):
        return torch.optim.Adam(module.parameters(), lr=0.1, fused=True, weight_decay=weight_decay)

    optimizers = [optimizer(module) for module in (ours, theirs, stepped)]
    loop, graph_loop = AdamLoop(ours, optimizers[0]), AdamLoop(stepped, optimizers[2])
    rates = np.linspace(1e-3, 1e-2, 5)
    graph = _Graph(graph_loop, None, x, y, 16, 5)
    for _ in range(3):
        total = loop.steps(x, y, 16, rates)
        expected = 0.0
        graph.load(x, y, rates)
        for i, (xb, yb) in enumerate(zip(x.split(16), y.split(16), strict=True)):
            optimizers[1].param_groups[0]["lr"] = rates[i]
            loss = torch.nn.functional.mse_loss(theirs(xb), yb)
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()
            expected += loss.item() * len(xb)
            if len(xb) == 16:  # what a CUDA graph would replay, run eagerly
                graph.step()
        graph_loop.steps(x[64:], y[64:], 16, rates[4:])
        assert float(total) == pytest.approx(expected, rel=1e-12)
    for p, q, g in zip(*(m.parameters() for m in (ours, theirs, stepped)), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(g, q, rtol=1e-6, atol=1e-8)  # its rates are float32
    state, expected_state = (o.state_dict()["state"] for o in optimizers[:2])
    for mine, other in zip(state.values(), expected_state.values(), strict=True):
        assert float(mine["step"]) == float(other["step"]) == 15
        torch.testing.assert_close(mine["exp_avg_sq"], other["exp_avg_sq"], rtol=1e-9, atol=0)


class FakeGraph:
    """Replays by doing: stands for a CUDA graph where there is no GPU."""

    def __init__(self, graph):
        self.graph, self.replayed = graph, 0

    def replay(self):
        self.graph.step()
        self.replayed += 1


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("n_rows", [150, 160])  # with a smaller last batch, and without
def test_graph_bookkeeping(fails, n_rows, monkeypatch):
    """With captures replaced by plain calls, or failing, each step of an epoch is taken once."""
    layers, x, y = random_problem([4, 8, 4], n_rows=n_rows)
    plain, captured = MLP(layers, "silu"), MLP(layers, "silu")
    loops = [
        AdamLoop(m, torch.optim.Adam(m.parameters(), lr=1e-2, fused=True))
        for m in (plain, captured)
    ]
    loops[1]._capturable = True

    def warm_up(self):
        for _ in range(3):
            self.step()
            self.n_taken += 1

    def capture(self):
        if fails:
            raise RuntimeError("no")
        self.captured = FakeGraph(self)

    monkeypatch.setattr(_Graph, "_warm_up", warm_up)
    monkeypatch.setattr(_Graph, "_capture", capture)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        totals = [[float(loop.steps(x, y, 16)) for _ in range(3)] for loop in loops]
    np.testing.assert_allclose(*totals, rtol=1e-6)
    assert [str(w.message).count("CUDA graph") for w in caught] == ([1] if fails else [])
    for p, q in zip(plain.parameters(), captured.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
    if not fails:
        full = n_rows // 16
        assert loops[1]._graph.captured.replayed == full - 3 + full + full


def test_the_step_counter_has_its_own_precision():
    """Fused Adam reads its counter as float32, whatever torch's default dtype is."""
    layers, x, y = random_problem([2, 3, 1])
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        module = MLP(layers, "silu")
        loop = AdamLoop(module, torch.optim.Adam(module.parameters(), fused=True))
        loop.steps(x, y, 16)
        assert loop._step.dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


# -- batches and streams -------------------------------------------------------------------------


def test_epochs_use_every_row_once():
    """A full epoch is a permutation; a short one draws rows of the data."""
    x = torch.arange(1000.0)[:, None]
    data = TensorBatches(x, -x, 128, seed=0)
    for _ in range(2):
        got, targets = data.epoch()
        assert sorted(got.ravel().tolist()) == x.ravel().tolist()
        assert torch.equal(got, -targets)
    first = [xb for xb, _ in data]
    assert [len(b) for b in first] == [125] * 8
    short = TensorBatches(x, -x, 100, seed=0, max_batches=3)
    assert len(short) == len(short.epoch()[0]) == 300
    assert len(set(short.epoch()[0].ravel().tolist())) == 300
    few = TensorBatches(x, -x, 10, seed=0, max_batches=2)  # drawn with replacement
    assert len(few.epoch()[0]) == 20
    short.enlarge(4)
    assert short.batch_size == 300
    assert short.n_batches == 1


@pytest.mark.parametrize("kind", ["fixed", "drawn"])
def test_hard_rows_are_drawn_where_the_loss_is(kind):
    """Half of the rows come with probability proportional to the loss; the rest uniformly."""
    n = 20_000
    x = torch.linspace(0, 1, n)[:, None]

    def losses(rows):
        return (rows[0][:, 0] > 0.9).float()

    if kind == "fixed":
        data = TensorBatches(x, x, n, seed=0, hard_fraction=0.5)
    else:
        g = torch.Generator().manual_seed(0)

        def draw(m):
            u = torch.rand(m, 1, generator=g)
            return u, u

        data = DrawnBatches(draw, n, 1, hard_fraction=0.5)
    data.losses = losses
    got, targets = data.epoch()
    assert len(got) == n
    assert torch.equal(got, targets)
    assert float((got > 0.9).float().mean()) == pytest.approx(0.55, abs=0.02)
    data.close()


def test_pick():
    """Rows come in proportion to their loss; without a loss anywhere they come uniformly."""
    g = torch.Generator().manual_seed(0)
    loss = torch.tensor([0.0, 1.0, 3.0, 0.0, float("nan"), float("inf")])
    counts = torch.bincount(pick(loss, 40_000, g), minlength=6) / 40_000
    np.testing.assert_allclose(counts, [0, 0.25, 0.75, 0, 0, 0], atol=0.01)
    uniform = torch.bincount(pick(torch.zeros(4), 40_000, g), minlength=4) / 40_000
    np.testing.assert_allclose(uniform, 0.25, atol=0.01)
    assert pick(torch.ones(1), 3, g).tolist() == [0, 0, 0]


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.9])
def test_hard_examples_lower_the_largest_error(fraction):
    """What the parameter is for, where it can be computed: a constant c for targets of 0 and 1.

    A tenth of the targets are 1. The fit is the share of these in an epoch, and that follows from
    the errors c² and (1 − c)² of the fit. The largest error, 1 − c, falls from 0.90 to 0.68.
    """
    x = np.zeros((10_000, 1))
    x[:500], x[500:1000] = 1, -1
    model = adam(hidden_layer_sizes=(), baseline=None, hard_fraction=fraction, max_iter=25)
    model.fit(x, np.abs(x[:, 0]))

    def excess(c):
        hard = 0.1 * (1 - c) ** 2 / (0.1 * (1 - c) ** 2 + 0.9 * c**2)
        return (1 - fraction) * 0.1 + fraction * hard - c

    # Each epoch draws at random: the share of 10,000 has a standard deviation below 0.005.
    expected = scipy.optimize.brentq(excess, 0.0, 1.0)
    np.testing.assert_allclose(model.predict(np.array([[-1.0], [0.0], [1.0]])), expected, atol=0.02)


def test_hard_examples_in_both_loops(region):
    """skorch's own loop draws hard examples as the lean one does."""
    X, _, X_test, _ = region
    counted = adam(hard_fraction=0.5, max_iter=3, callbacks=[BatchCounter()]).fit(X)
    lean = adam(hard_fraction=0.5, max_iter=3).fit(X)
    np.testing.assert_allclose(counted.predict(X_test), lean.predict(X_test), rtol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_inverses_of_streams(n, scale):
    """Cofactors are as exact as LAPACK, at any scale."""
    rng = np.random.RandomState(0)
    A = scale * (rng.uniform(-0.5, 0.5, (500, n, n)) + 2 * n * np.eye(n))
    exact = np.linalg.inv(A).reshape(500, -1)
    got = inverses(A.reshape(500, -1))
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-13 / scale)


@pytest.mark.parametrize("s", [1e-2, 1e-4, 1e-6])
def test_inverses_of_ill_conditioned_streams(s):
    """Where cofactors cancel, the inverses are LAPACK's: errors stay those of the condition."""
    rng = np.random.RandomState(0)
    U, V = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    A = (U * [1, s, s]) @ V + 0.05 * s * rng.uniform(-1, 1, (200, 3, 3))
    got = inverses(A.reshape(-1, 9)).reshape(-1, 3, 3)
    for M, X in zip(A, got, strict=True):
        exact = flint.fmpq_mat(3, 3, [flint.fmpq(*v.as_integer_ratio()) for v in M.ravel()]).inv()
        exact = np.array([float(v.p) / float(v.q) for v in exact.entries()]).reshape(3, 3)
        assert np.abs(X - exact).max() < 100 / s * np.finfo(float).eps * np.abs(exact).max()


@pytest.mark.parametrize("name", ["certified", "uncertified", "large"])
def test_streams_are_inverses(name):
    """What the network sees, restored, is a matrix of the region and its inverse."""
    n = 5 if name == "large" else 2
    center = 4 * np.eye(n) + 1.0
    sampler = FeasibleRegionSampler(center, 0.3, random_state=0).fit()
    if name == "uncertified":
        sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.9, random_state=0).fit()
        assert not sampler.is_certified_
    X, Y = sampler.sample(300)
    prepared = Preparation.fit(X, Y, "taylor2", inverses=True)
    x, y = stream(sampler, prepared, "cpu", torch.float64)(5000)
    A = (x.numpy() * prepared.x_scale + prepared.x_mean).reshape(-1, n, n)
    B = y.numpy() * prepared.y_scale + prepared.y_mean + prepared.baseline(A.reshape(-1, n * n))
    B = B.reshape(-1, n, n)
    np.testing.assert_allclose(A @ B, np.broadcast_to(np.eye(n), A.shape), atol=1e-10)
    assert sampler.is_feasible(A.reshape(-1, n * n)).all()
    assert len(np.unique(x.numpy(), axis=0)) == 5000


def test_drawing_ahead_changes_nothing(monkeypatch):
    """Blocks drawn in the background are used in order, each once, and the thread ends."""
    calls = []

    def draw(n):
        start = sum(calls)
        calls.append(n)
        rows = torch.arange(start, start + n, dtype=torch.float64)[:, None]
        return rows, rows

    from skinv.learn.training import batches

    monkeypatch.setattr(batches, "_BLOCK", 40)
    data = DrawnBatches(draw, 5, 2, n_epochs=7)
    seen = torch.cat([data.epoch()[0] for _ in range(7)]).ravel().tolist()
    assert seen == list(range(70))
    assert calls == [40, 30]  # no more than is needed
    data.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("skinv-sampler")]


def test_errors_of_the_background_arrive(monkeypatch):
    """What fails in the thread fails the fit, and no thread is left."""
    from skinv.learn.training import batches

    monkeypatch.setattr(batches, "_BLOCK", 1)
    sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    draw, calls = sampler.sample, []

    def failing(n, **kwargs):
        calls.append(n)
        if len(calls) > 3:
            raise RuntimeError("the disk is on fire")
        return draw(n, **kwargs)

    sampler.sample = failing
    with pytest.raises(RuntimeError, match="on fire"):
        adam().fit_sampler(sampler, 640)
    assert not [t for t in threading.enumerate() if t.name.startswith("skinv-sampler")]


@pytest.mark.parametrize(
    ("solver", "activation"),
    [
        ("adam", "silu"),
        pytest.param("lm", "silu", marks=pytest.mark.exhaustive),
        ("lm", "relu"),
    ],
)
def test_streams_repeat(solver, activation, monkeypatch):
    """The same seeds give the same bits, however long the background takes."""
    from skinv.learn.training import batches

    monkeypatch.setattr(batches, "_BLOCK", 1)
    predictions = []
    for delay in (0.0, 0.02):
        sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
        draw = sampler.sample

        def slow(*args, draw=draw, delay=delay, **kwargs):
            time.sleep(delay)
            return draw(*args, **kwargs)

        sampler.sample = slow
        model = quick(solver=solver, activation=activation).fit_sampler(sampler, 130)
        predictions.append(model.predict(sampler.center_.reshape(1, 4) + 0.1))
        assert model.solver_ == solver
    np.testing.assert_array_equal(*predictions)


def test_lm_on_a_stream(region):
    """fit_sampler takes Levenberg-Marquardt for small networks, and default lengths differ."""
    X, _, X_test, Y_test = region
    sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    model = quick(hidden_layer_sizes=16).fit_sampler(sampler, 100)
    assert model.solver_ == "lm"
    assert error(model, X_test, Y_test) < error(LinearInverseApprox().fit(X), X_test, Y_test) / 50


# -- what is around ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auto", "affine", "taylor", "taylor2", "taylor3"])
def test_baselines(region, name):
    """Each baseline is what it is called: the series at the mean, or the least-squares fit."""
    X, Y, X_test, _ = region
    prepared = Preparation.fit(X, Y, name, inverses=True)
    order = {"taylor": 1, "auto": 2, "taylor2": 2, "taylor3": 3}.get(name)
    reference = LinearInverseApprox(order=order) if order else LinearInverseApprox(method="lstsq")
    expected = reference.fit(X, Y).predict(X_test)
    np.testing.assert_allclose(prepared.baseline(X_test), expected, atol=1e-10)
    # Without a known derivative it is the affine fit.
    other = Preparation.fit(X, X**2, name)
    np.testing.assert_allclose(
        other.baseline(X_test),
        LinearInverseApprox(method="lstsq").fit(X, X**2).predict(X_test),
        atol=1e-10,
    )


def test_auto_baseline_is_affine_where_the_series_leaves_more():
    """Far from the centre a second-order series is worse than the affine fit, and not taken."""
    t = np.linspace(0.2, 3.0, 200)[:, None]
    prepared = Preparation.fit(t, 1 / t, "auto", inverses=True)
    assert prepared.center is None
    assert prepared.affine is not None


def test_taylor_start_before_any_step(region):
    """A whole fit with init="taylor" whose steps have no length is LinearInverseApprox."""
    X, _, X_test, _ = region
    for hidden in (4, 8, 20):
        model = adam(
            hidden_layer_sizes=hidden, activation="relu", baseline=None, init="taylor",
            max_iter=1, learning_rate="constant", learning_rate_init=1e-300, dtype="float64",
        ).fit(X)  # fmt: skip
        inside = X_test if hidden >= 8 else X
        np.testing.assert_allclose(
            model.predict(inside), LinearInverseApprox().fit(X).predict(inside), atol=1e-13
        )


def test_epoch_level_callbacks_stay_in_the_lean_loop(region, tmp_path, monkeypatch):
    """Schedulers, scorers and checkpoints work, and do not cost the loop its speed."""
    from skorch import NeuralNet

    X = region[0]

    def forbidden(*args, **kwargs):
        raise AssertionError("skorch's own loop was used")

    monkeypatch.setattr(NeuralNet, "run_single_epoch", forbidden)

    def largest(net, dataset, y):
        return float((net.module_(dataset.x) - dataset.y).detach().abs().max())

    model = adam(
        learning_rate="constant", early_stopping=True, max_iter=4, learning_rate_init=0.01,
        callbacks=[
            LRScheduler("StepLR", step_size=1, gamma=0.1),
            EpochScoring(largest, name="largest", use_caching=False),
            EpochScoring("neg_mean_squared_error", name="cached", lower_is_better=False),
            Checkpoint(dirname=str(tmp_path), monitor="valid_loss_best"),
        ],
    ).fit(X)  # fmt: skip
    history = model.net_.history
    assert "largest" in history[-1]
    np.testing.assert_allclose(
        [-row["cached"] for row in history], [row["valid_loss"] for row in history], rtol=1e-4
    )
    assert model.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**4)
    assert (tmp_path / "params.pt").exists()
    checkpoint = Checkpoint(dirname=str(tmp_path), monitor="train_loss_best")
    for solver in ("adam", "lm"):
        quick(solver=solver, max_iter=2, callbacks=[checkpoint]).fit(X)


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_batch_level_callbacks_hear_every_batch(region, solver):
    """A counter and skorch's progress bar are told of each batch, under both solvers."""
    X = region[0]
    model = quick(solver=solver, max_iter=3, callbacks=[BatchCounter(), ProgressBar()]).fit(X)
    counter = model.net_.callbacks_[0][1]
    n_batches = [len(row["batches"]) for row in model.net_.history]
    assert counter.count == sum(n_batches) >= 3


class CountEpochs:
    """Stands in for the solver's work and interrupts it in a given call."""

    def __init__(self, function, call):
        self.function, self.call, self.count = function, call, 0

    def __get__(self, instance, owner):
        def called(*args, **kwargs):
            self.count += 1
            if self.count == self.call:
                raise KeyboardInterrupt
            return self.function(instance, *args, **kwargs)

        return called


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    ("solver", "owner", "name"),
    [("adam", AdamLoop, "_update"), ("lm", LevenbergMarquardt, "step")],
)
def test_interrupts_in_the_lean_loop(region, solver, owner, name, early_stopping, monkeypatch):
    """Ctrl-C between any two steps leaves the weights of the best epoch before."""
    X, _, X_test, _ = region
    model = quick(solver=solver, early_stopping=early_stopping, hidden_layer_sizes=8)
    steps = 200 if solver == "adam" else 30
    monkeypatch.setattr(owner, name, CountEpochs(getattr(owner, name), steps))
    with pytest.warns(UserWarning, match="interrupted in epoch"):
        model.fit(X)
    monkeypatch.undo()
    assert 0 < model.n_iter_ < 15
    assert model.best_loss_ == min(
        row["valid_loss" if early_stopping else "train_loss"]
        for row in model.net_.history[: model.n_iter_]
    )
    assert np.isfinite(model.predict(X_test)).all()


@pytest.mark.parametrize("how", ["partial_fit", "fit"])
def test_interrupts_of_resumed_fits(region, how, monkeypatch):
    """Interrupted in its first epoch, a fit that went on does not lose what it started from."""
    X, _, X_test, Y_test = region
    model = adam(learning_rate="constant", max_iter=30, warm_start=True).fit(X)
    before = error(model, X_test, Y_test)
    model.set_params(learning_rate_init=0.3)
    monkeypatch.setattr(AdamLoop, "_update", CountEpochs(AdamLoop._update, 40))
    with pytest.warns(UserWarning, match="best so far"):
        getattr(model, how)(X)
    assert error(model, X_test, Y_test) <= 1.05 * before


def test_early_stopping_restores_the_best_epoch(region):
    """The model has the smallest validation loss there was, also where tol counts few as better."""
    X, Y, _, _ = region
    for tol in (1e-4, 1.0):
        model = adam(early_stopping=True, tol=tol, max_iter=12).fit(X, Y)
        assert model.best_loss_ == min(row["valid_loss"] for row in model.net_.history)
        _, X_valid, _, Y_valid = train_test_split(
            X, Y, test_size=0.1, random_state=np.random.RandomState(0)
        )
        p, best = model._preparation, int(np.argmin([r["valid_loss"] for r in model.net_.history]))
        residual = p.outputs(X_valid, Y_valid) - (
            (model.predict(X_valid) - p.baseline(X_valid) - p.y_mean) / p.y_scale
        )
        assert np.mean(residual**2) == pytest.approx(model.best_loss_, rel=1e-4)
        assert model.score(X_valid, Y_valid) == pytest.approx(
            model.validation_scores_[best], abs=1e-7
        )


def test_failed_warm_start_changes_nothing(region):
    """Targets of another shape are refused, and the model predicts as before."""
    X, Y, X_test, _ = region
    model = adam(warm_start=True, max_iter=2).fit(X, Y)
    before = model.predict(X_test)
    with pytest.raises(ValueError, match="warm_start=False"):
        model.fit(X, X[:, 0])
    np.testing.assert_array_equal(model.predict(X_test), before)


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_a_first_batch_that_the_baseline_goes_through(region, solver):
    """Five matrices determine the affine fit; what it leaves of them is not taken for a scale."""
    X, Y, X_test, Y_test = region
    for targets in (None, Y[:, :2] ** 2):
        model = quick(solver=solver, baseline="affine")
        model.partial_fit(X[:5], None if targets is None else targets[:5])
        for _ in range(30):
            model.partial_fit(X, targets)
        assert model.loss_curve_[-1] < 0.1
        truth = Y_test if targets is None else Y_test[:, :2] ** 2
        assert r2_score(truth, model.predict(X_test)) > 0.95


def test_auto_baseline_of_few_samples():
    """With hardly more samples than coefficients the affine fit's residual is no argument."""
    sampler = FeasibleRegionSampler(6 * np.eye(4) + 1, 0.8, random_state=0).fit()
    for n in (17, 18, 20, 40):
        X, Y = sampler.sample(n)
        assert Preparation.fit(X, Y, "auto", inverses=True).order == 2


def test_both_loops_of_lm_are_the_same_training(region):
    """Told of batches or not, Levenberg-Marquardt takes the same steps."""
    X, _, X_test, _ = region
    lean = quick(solver="lm", max_iter=10).fit(X)
    full = quick(solver="lm", max_iter=10, callbacks=[BatchCounter()]).fit(X)
    np.testing.assert_array_equal(lean.predict(X_test), full.predict(X_test))
    np.testing.assert_allclose(lean.loss_curve_, full.loss_curve_, rtol=1e-12)


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_nets_can_be_pickled(region, solver):
    """A trained net survives pickling, as skorch's checkpoints may want."""
    X = region[0]
    model = quick(solver=solver, max_iter=2).fit(X)
    net = pickle.loads(pickle.dumps(model.net_))
    for (W, _), (V, _) in zip(net.module_.layers(), model._layers, strict=True):
        np.testing.assert_array_equal(W, V)


@pytest.mark.parametrize("solver", ["adam", "lm"])
def test_scoring_of_the_training(region, solver):
    """EpochScoring on the training data works under both solvers."""
    X = region[0]
    scoring = EpochScoring("neg_mean_squared_error", on_train=True, name="s", lower_is_better=False)
    model = quick(solver=solver, max_iter=3, callbacks=[scoring]).fit(X)
    assert all(np.isfinite(row["s"]) for row in model.net_.history)


def test_frozen_parameters_stay(region):
    """skorch's Freezer is respected: it brings Adam, and autograd."""
    X = region[0]
    model = quick(callbacks=[Freezer("weights.0")], max_iter=2).fit(X)
    assert model.solver_ == "adam"
    start = quick(solver="adam", max_iter=2, learning_rate_init=1e-30).fit(X)
    np.testing.assert_allclose(model._layers[0][0], start._layers[0][0], atol=1e-12)
    assert np.abs(model._layers[1][0] - start._layers[1][0]).max() > 1e-4


def test_two_schedules_are_refused(region):
    """A callback's schedule under another schedule would be ignored; that is said."""
    with pytest.raises(ValueError, match="learning_rate='constant'"):
        quick(callbacks=[LRScheduler("StepLR", step_size=1)]).fit(region[0])


def test_solver_may_change_on_the_way(region):
    """Training goes on under the other solver, in its precision, and improves or stays."""
    X, _, X_test, Y_test = region
    model = adam(warm_start=True, max_iter=10).fit(X)
    assert model._layers[0][0].dtype == np.float32
    errors = [error(model, X_test, Y_test)]
    for solver in ("lm", "adam", "lm"):
        model.set_params(solver=solver, learning_rate_init=1e-5).fit(X)
        assert model.solver_ == solver
        errors.append(error(model, X_test, Y_test))
    assert errors[1] < errors[0]
    assert errors[3] < 1.5 * errors[1]


def test_learning_rate_is_the_schedulers_under_the_constant_rate(region):
    """A callback's schedule rules a constant rate: with rate 0 after an epoch nothing moves."""
    X = region[0]
    callbacks = [LRScheduler("StepLR", step_size=1, gamma=1e-30)]
    one, three = (
        adam(learning_rate="constant", max_iter=n, callbacks=callbacks).fit(X) for n in (1, 3)
    )
    np.testing.assert_allclose(one._layers[0][0], three._layers[0][0], atol=1e-7)


def test_fit_in_pieces_is_fit_at_once(region, monkeypatch):
    """Data that are brought to the device piece by piece are the same data, but for rounding."""
    from skinv.learn.training import fitting

    X, Y, X_test, _ = region
    whole = quick(max_iter=3).fit(X, Y).predict(X_test)
    monkeypatch.setattr(fitting, "_CHUNK", 37)
    np.testing.assert_allclose(quick(max_iter=3).fit(X, Y).predict(X_test), whole, atol=1e-6)


def test_defaults_are_accurate():
    """What a user gets from fit on the first 2×2 region: a 300th of the tangent's error."""
    sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    X, Y = sampler.sample(20_000)
    X_test, Y_test = sampler.sample(5000)
    model = NeuralInverseRegressor(max_iter=30, random_state=0).fit(X, Y)
    linear = error(LinearInverseApprox(sampler.center_).fit(), X_test, Y_test)
    assert error(model, X_test, Y_test) < linear / 300


def test_row_losses():
    """The error of each row is the mean over its outputs."""
    x = torch.randn(40_000, 2, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(row_losses(lambda t: 3 * t)((x, x)), (4 * x**2).mean(1), rtol=1e-5)
