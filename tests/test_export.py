"""Torch modules and ONNX files are the model: its values, and the derivatives of the inverse."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinv import (
    CertifiedInverse,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    StructuredInverse,
)
from skinv._linalg.form import ModelForm, ReducedMap
from skinv._linalg.terms import Terms
from skinv.datasets import load_power_flow, load_robot_arm
from skinv.export import to_module, to_onnx
from skinv.export._module import InverseModule
from skinv.learn.inference.engine import Engine

MODELS = {
    "first order": LinearInverseApprox(),
    "third order": LinearInverseApprox(order=3),
    "lstsq": LinearInverseApprox(method="lstsq"),
    "silu": NeuralInverseRegressor(24, n_components=None, max_iter=3, random_state=0),
    "relu": NeuralInverseRegressor((12, 10), "relu", baseline=None, max_iter=3, random_state=0),
    "tanh": NeuralInverseRegressor(
        16, "tanh", baseline="affine", n_components=None, max_iter=3, random_state=0
    ),
}
# Between what half precision keeps, rounded once, and some roundings on the way.
PRECISION = {"float64": 1e-13, "float32": 1e-5, "float16": 3e-3, "bfloat16": 4e-2}


@pytest.fixture(scope="module")
def families():
    """Matrices of several orders: near a centre, and real ones with constant entries."""
    rng = np.random.default_rng(0)
    out = {"arm": load_robot_arm().data[:400], "grid": load_power_flow("case6ww").data[:400]}
    for n in (1, 2, 9):
        center = np.eye(n) * 3 + rng.standard_normal((n, n))
        out[f"n = {n}"] = (center + 0.05 * rng.standard_normal((400, n, n))).reshape(400, n * n)
    return out


@pytest.fixture(scope="module")
def fitted(families):
    """Every model on every family."""
    from sklearn.base import clone

    return {
        (family, name): clone(model).fit(X[:300])
        for family, X in families.items()
        for name, model in MODELS.items()
    }


# Of torch's own modules, until it stops using torch.jit in them.
quiet = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
CASES = [(f, m) for f in ("arm", "grid", "n = 1", "n = 2", "n = 9") for m in MODELS]


def relative(values, reference):
    """Return the largest difference, as a share of the largest value."""
    values, reference = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    return np.abs(values - reference).max() / np.abs(reference).max()


def run(path, X):
    """Run a file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"X": X})


# -- modules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("case", CASES, ids=lambda case: ", ".join(case))
def test_module_is_predict(fitted, families, case, dtype):
    """Rows, stacks and single matrices give what predict gives in double precision."""
    model, X = fitted[case], families[case[0]][300:]
    n = int(X.shape[1] ** 0.5)
    module = to_module(model, dtype=dtype)
    A = torch.tensor(X).to(getattr(torch, dtype))
    expected = model.predict(A.double().numpy())
    values = module(A)
    assert values.dtype == A.dtype
    assert values.shape == A.shape
    values = values.detach()
    assert relative(values.double(), expected) < PRECISION[dtype]
    # A sum in another order may be rounded another way.
    same = {"rtol": 0, "atol": PRECISION[dtype] * float(values.abs().max())}
    torch.testing.assert_close(module(A.view(-1, n, n)).detach().reshape(A.shape), values, **same)
    torch.testing.assert_close(module(A[0]).detach(), values[0], **same)
    torch.testing.assert_close(module(A.view(2, -1, n * n))[1, 0].detach(), values[50], **same)
    assert module(A[:0]).shape == A[:0].shape


@quiet
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_inverse(name, fitted, families):
    """The derivative of A⁻¹ along E is −A⁻¹EA⁻¹; refinement squares the error of it, too."""
    model, X = fitted["arm", name], families["arm"][300:320]
    A = torch.tensor(X.reshape(-1, 6, 6))
    rng = np.random.default_rng(0)
    # Directions within the family: of others the model has seen nothing.
    E = torch.tensor(families["arm"][320:340].reshape(-1, 6, 6)) - A
    exact = -torch.linalg.inv(A) @ E @ torch.linalg.inv(A)
    errors = []
    for n_refine in (0, 1, 2, 4):
        module = to_module(model, n_refine, dtype="float64")
        _, slope = torch.func.jvp(module, (A,), (E,))
        # A step within the family: its error and that of the value are of one size.
        errors.append(float((slope.detach() - exact).abs().max() / torch.linalg.inv(A).abs().max()))
        # Reverse mode agrees: <G, J·E> = <Jᵀ·G, E>.
        G = torch.tensor(rng.standard_normal(A.shape))
        B = A.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((module(B) * G).sum(), B)
        forward = float((G * slope).sum().detach())
        assert float((gradient * E).sum()) == pytest.approx(forward, rel=1e-9)
    values = model.predict(A.numpy())
    accuracy = np.abs(np.eye(6) - A.numpy() @ values).max()
    assert errors[0] < 10 * accuracy
    assert errors[1] < errors[0]
    assert errors[3] < 1e-6


def test_gradcheck(fitted, families):
    """Numerical derivatives of the module itself agree."""
    for name in ("third order", "silu", "tanh"):
        module = to_module(fitted["n = 2", name], 1, dtype="float64")
        A = torch.tensor(families["n = 2"][:3], requires_grad=True)
        assert torch.autograd.gradcheck(module, (A,))


@quiet
@pytest.mark.parametrize("case", CASES[::5], ids=lambda case: ", ".join(case))
def test_vmap_and_compile(case, fitted, families):
    """Mapping over single matrices, and capture as one graph for any batch, change nothing."""
    module = to_module(fitted[case], 1, dtype="float64").requires_grad_(False)
    A = torch.tensor(families[case[0]][300:])
    n = int(A.shape[1] ** 0.5)
    expected = module(A)
    torch.testing.assert_close(torch.func.vmap(module)(A), expected)
    stack = A.view(-1, n, n)
    torch.testing.assert_close(torch.func.vmap(module)(stack).view(A.shape), expected)
    jacobians = torch.func.vmap(torch.func.jacrev(module))(A[:2])
    assert jacobians.shape == (2, n * n, n * n)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    for rows in (A, A[:7]):
        torch.testing.assert_close(compiled(rows), module(rows))


@quiet
@pytest.mark.exhaustive  # a compiler of C++ takes its time
@pytest.mark.filterwarnings("ignore:Skipping serialization:UserWarning")  # until torch > 2.6
def test_compiled_code(fitted, families):
    """torch.compile with its own compiler, where there is one."""
    import shutil

    if shutil.which("g++") is None:
        pytest.skip("there is no C++ compiler")
    module = to_module(fitted["arm", "silu"], 1).requires_grad_(False)
    A = torch.tensor(families["arm"][300:], dtype=torch.float32)
    torch._dynamo.reset()
    # A graph that torch has kept on the disk may be for other vector instructions.
    compiled = torch.compile(module, options={"fx_graph_cache": False})
    torch.testing.assert_close(compiled(A), module(A), rtol=1e-4, atol=1e-4)


def test_module_can_be_trained_further(families):
    """The weights are parameters, and the model is left as it was."""
    X = families["n = 2"]
    model = NeuralInverseRegressor(8, max_iter=2, solver="adam", random_state=0).fit(X)
    before = model.predict(X)
    module = to_module(model, dtype="float64")
    Y = torch.linalg.inv(torch.tensor(X).view(-1, 2, 2)).reshape(-1, 4)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-5)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (module(torch.tensor(X)) - Y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(model.predict(X), before)


def test_other_quantities(families, tmp_path):
    """A determinant, a diagonal: modules and files give what was trained."""
    X = families["n = 2"]
    A = X.reshape(-1, 2, 2)
    targets = {"det": np.linalg.det(A), "diagonal": np.linalg.inv(A)[:, [0, 1], [0, 1]]}
    for y in targets.values():
        network = NeuralInverseRegressor(8, max_iter=2, random_state=0)
        for model in (LinearInverseApprox(method="lstsq"), network):
            model.fit(X, y)
            expected = model.predict(X)
            values = to_module(model, dtype="float64")(torch.tensor(X)).detach()
            assert values.shape == expected.shape
            np.testing.assert_allclose(values, expected)
            (out,) = run(to_onnx(model, tmp_path / "m.onnx"), X.astype(np.float32))
            assert out.shape == expected.shape
            assert relative(out, expected) < 1e-5
            with pytest.raises(ValueError, match="something else than inverses"):
                to_module(model, n_refine=1)


def test_features_that_are_no_matrix(tmp_path):
    """A general regressor on five features is exported like any other."""
    X = np.random.default_rng(0).standard_normal((200, 5))
    model = NeuralInverseRegressor(8, max_iter=2, random_state=0).fit(X, X[:, :2] ** 2)
    (out,) = run(to_onnx(model, tmp_path / "m.onnx"), X.astype(np.float32))
    assert relative(out, model.predict(X)) < 1e-5
    with pytest.raises(ValueError, match=r"\(\.\.\., 5\) is expected"):
        to_module(model)(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="layout='stack'"):
        to_onnx(model, tmp_path / "m.onnx", layout="stack")


# -- ONNX ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: ", ".join(case))
def test_file_is_predict(case, dtype, fitted, families, tmp_path):
    """onnxruntime gives what predict gives, for any number of samples, in rows and stacks."""
    model, X = fitted[case], families[case[0]][300:].astype(dtype)
    n = int(X.shape[1] ** 0.5)
    expected = model.predict(X.astype(float))
    path = to_onnx(model, tmp_path / "rows.onnx", dtype=dtype)
    for rows in (X, X[:1], X[:0]):
        (values,) = run(path, rows)
        assert values.shape == rows.shape
        assert values.dtype == X.dtype
    (values,) = run(path, X)
    assert relative(values, expected) < PRECISION[dtype]
    path = to_onnx(model, tmp_path / "stack.onnx", dtype=dtype, layout="stack")
    (stack,) = run(path, X.reshape(-1, n, n))
    assert relative(stack.reshape(values.shape), values) < PRECISION[dtype]


@pytest.mark.parametrize("norm", ["fro", "inf", "1"])
@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_certified_file(dtype, order, norm, fitted, families, tmp_path):
    """Refined inverses, and the norms of their residuals as a second output."""
    model = CertifiedInverse(fitted["arm", "silu"], order=order, norm=norm)
    X = families["arm"][300:].astype(dtype)
    path = to_onnx(model, tmp_path / "c.onnx", n_refine=2, dtype=dtype)
    module = to_module(model, 2, dtype=dtype)
    A, B = X.reshape(-1, 6, 6).astype(float), np.linalg.inv(X.reshape(-1, 6, 6).astype(float))
    accuracy = {"float64": 1e-9, "float32": 1e-5, "float16": 1e-3}[dtype]
    measure = {
        "fro": lambda R: (R**2).sum((1, 2)) ** 0.5,
        "inf": lambda R: np.abs(R).sum(2).max(1),
        "1": lambda R: np.abs(R).sum(1).max(1),
    }[norm]
    # Another order of sums may round an inverse in half precision another way, which its residual
    # shows: each residual is that of the inverse beside it.
    for inverse, residual in (
        run(path, X),
        (out.detach().numpy() for out in module(torch.tensor(X))),
    ):
        Y = inverse.reshape(-1, 6, 6).astype(float)
        assert relative(Y, B) < accuracy
        exact = measure(np.eye(6) - A @ Y)
        # Computed in single precision at least: sums of 6 products and of I are off by less than
        # 8u(|A||X| + I), and the norm of them by less than 40u of it; "exact" is, too.
        unit = np.finfo(residual.dtype).eps / 2
        rounding = 8 * unit * measure(np.abs(A) @ np.abs(Y) + np.eye(6)) + 40 * unit * exact
        assert (np.abs(residual - exact) <= 2 * rounding).all()


def test_gradient_of_the_residual_at_the_centre():
    """Where the residual is exactly 0 its gradient is 0, and not NaN."""
    module = to_module(CertifiedInverse(LinearInverseApprox(2 * np.eye(2))).fit())
    A = (2 * torch.eye(2)).repeat(3, 1, 1).requires_grad_()
    _, residual = module(A)
    residual.sum().backward()
    assert (A.grad == 0).all()


def test_residual_under_autocast(fitted, families):
    """The residual is computed in full, and so is refinement, whatever else is allowed less."""
    model = CertifiedInverse(fitted["arm", "silu"])
    A = torch.tensor(families["arm"][300:], dtype=torch.float32)
    module = to_module(model, 3).requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        X, residual = module(A)
    assert X.dtype == residual.dtype == torch.float32
    R = np.eye(6) - (A.double().view(-1, 6, 6) @ X.double().view(-1, 6, 6)).numpy()
    np.testing.assert_allclose(residual, (R**2).sum((1, 2)) ** 0.5, atol=1e-5)
    assert residual.max() < 1e-4


def test_shapes_of_numbers():
    """Matrices of order 1 are matrices, too."""
    module = to_module(CertifiedInverse(LinearInverseApprox([[2.0]])).fit(), 1)
    for shape in ((5, 1), (5, 1, 1)):
        X, residual = module(torch.full(shape, 2.1))
        assert X.shape == shape
        assert residual.shape == (5,)


def test_half_precision_that_cannot_be(families):
    """Constants that overflow are refused; coefficients that need not overflow do not."""
    tiny = np.eye(2) * 1e-5
    with pytest.raises(ValueError, match="overflow in float16"):
        to_module(LinearInverseApprox(tiny).fit(), dtype="float16")
    assert to_module(LinearInverseApprox(tiny).fit(), dtype="bfloat16") is not None
    rng = np.random.default_rng(0)
    A = np.diag(np.geomspace(1, 1e-3, 8)) + 1e-4 * rng.standard_normal((400, 8, 8))
    X = A.reshape(400, 64).astype(np.float16)
    model = LinearInverseApprox(method="lstsq").fit(X.astype(float))
    values = to_module(model, dtype=np.float16)(torch.from_numpy(X))
    assert relative(values.double(), model.predict(X.astype(float))) < 5e-3


def test_residual_of_a_singular_matrix(fitted, families, tmp_path):
    """Where nothing can be right the second output says so, by a norm of at least 1."""
    X = families["arm"][:3].astype(np.float32)
    X[1] = 1.0
    model = CertifiedInverse(fitted["arm", "first order"])
    _, residual = run(to_onnx(model, tmp_path / "c.onnx"), X)
    assert residual[1] >= 1 - 1e-5
    assert (residual[[0, 2]] < 0.5).all()


def test_operators_are_standard(fitted, tmp_path):
    """Everything is in the default domain, and nothing is called an inverse or determinant."""
    seen = set()
    for name in MODELS:
        for model in (fitted["grid", name], CertifiedInverse(fitted["grid", name])):
            proto = onnx.load(to_onnx(model, tmp_path / "m.onnx", n_refine=1, dtype="float16"))
            assert {(s.domain, s.version) for s in proto.opset_import} == {("", 18)}
            assert all(node.domain == "" for node in proto.graph.node)
            assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n_samples"
            seen |= {node.op_type for node in proto.graph.node}
    allowed = {"Cast", "Gather", "Sub", "Mul", "Gemm", "MatMul", "Add", "Relu", "Sigmoid", "Tanh"}
    assert seen <= allowed | {"Reshape", "Transpose", "ReduceSumSquare", "Sqrt", "Identity"}


def test_half_precision_of_badly_scaled_matrices(tmp_path):
    """Entries of the inverse near 250, squares of which half precision cannot hold, do no harm."""
    rng = np.random.default_rng(0)
    for n in (2, 8, 12):
        center = (np.eye(n) * 4 + rng.standard_normal((n, n))) * 1e-3
        A = center + 1e-5 * rng.standard_normal((300, n, n))
        X = A.reshape(300, n * n)
        network = NeuralInverseRegressor(16, max_iter=3, random_state=0)
        for model in (LinearInverseApprox(), network):
            model.fit(X)
            half = X.astype(np.float16)
            expected = model.predict(half.astype(float))
            (values,) = run(to_onnx(model, tmp_path / "m.onnx", dtype="float16"), half)
            assert relative(values, expected) < 5e-3
            assert relative(model.predict(half), expected) < 1e-3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_refine": -1}, "n_refine=-1"),
        ({"n_refine": 1.5}, r"n_refine=1\.5"),
        ({"order": 5}, "order=5"),
        ({"order": 2.0}, r"order=2\.0"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"dtype": None}, "dtype=None"),
    ],
)
def test_refusals(change, match, fitted, tmp_path):
    """What cannot be exported is refused with a reason."""
    model = fitted["n = 2", "silu"]
    with pytest.raises(ValueError, match=match):
        to_module(model, **change)
    with pytest.raises(ValueError, match=match):
        to_onnx(model, tmp_path / "m.onnx", **change)


def test_which_models(fitted, families, tmp_path):
    """Frozen models are looked into; pipelines, other regressors and unfitted models refused."""
    model, A = fitted["n = 2", "silu"], torch.tensor(families["n = 2"][:3])
    expected = to_module(model, dtype="float64")(A)
    frozen = to_module(FrozenEstimator(model), dtype="float64")(A)
    torch.testing.assert_close(frozen, expected)
    for other in (make_pipeline(StandardScaler(), model), StandardScaler()):
        with pytest.raises(ValueError, match="can be exported"):
            to_module(other)
    with pytest.raises(ValueError, match="not fitted"):
        to_module(LinearInverseApprox())
    with pytest.raises(ValueError, match="bfloat16"):
        to_onnx(model, tmp_path / "m.onnx", dtype="bfloat16")
    with pytest.raises(ValueError, match="layout='columns'"):
        to_onnx(model, tmp_path / "m.onnx", layout="columns")


def test_without_onnx(fitted, tmp_path, monkeypatch):
    """A missing package is named, with the command that installs it."""
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'skinv\[onnx\]'"):
        to_onnx(fitted["n = 2", "silu"], tmp_path / "m.onnx")


# -- reduced coordinates ---------------------------------------------------------------------------


def with_map(scale=1.0, basis=False, layers=True, **changes):
    """Return a model with a polynomial and a perceptron made by hand, and rows that it answers."""
    rng = np.random.default_rng(0)
    model = PolynomialInverseApprox().fit(np.linspace(1, 2, 20)[:, None, None] * np.eye(3))
    directions = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    terms = Terms.of([(0,), (1,), (2,), (0, 0), (0, 1), (0, 0, 1), (0, 1, 2), (0, 0, 0)])
    m = 4 if basis else 9
    shapes = [(5, 2), (6, 5), (m, 6)] if layers else []
    made = ReducedMap(
        origin=(3 + rng.standard_normal(9)) / scale,
        projection=scale * directions[:, :4] * [5, 10, 1000, 2000],
        outside=scale * directions[:, 4:6],
        limits=np.array([0.05, 0.05, 1.5, 1.5, 20, 40]),
        terms=terms,
        constant=rng.standard_normal(9),
        coef=0.3 * rng.standard_normal((len(terms), m)),
        layers=[(0.3 * rng.standard_normal(s), rng.standard_normal(s[0])) for s in shapes],
        activation="silu",
        basis=rng.standard_normal((m, 9)) if basis else None,
    )
    model._map = replace(made, **changes)
    model._set_engine()
    return model, made.origin + rng.uniform(-1, 1, (50, 4)) @ np.linalg.pinv(made.projection)


@pytest.fixture(scope="module")
def reduced(families):
    """Models in reduced coordinates, and rows that they answer."""
    X = families["grid"]
    rounded = X.astype(np.float16).astype(float)
    constant = {"layers": False, "terms": Terms(()), "coef": np.zeros((0, 9))}
    return {
        "grid": (PolynomialInverseApprox().fit(X[:300]), X[300:]),
        "rounded grid": (PolynomialInverseApprox().fit(rounded[:300]), rounded[300:]),
        "perceptron": with_map(),
        "basis": with_map(basis=True),
        "large matrices": with_map(1e-3),
        "small matrices": with_map(1e4),  # whose projection is past float16's range
        "constant": with_map(**constant),
        "constant everywhere": with_map(**constant, limits=None),
    }


REDUCED = [
    *[("grid", dtype) for dtype in ("float64", "float32")],
    *[("rounded grid", dtype) for dtype in ("float64", "float32", "float16")],
    *[(n, dtype) for n in ("perceptron", "basis") for dtype in ("float64", "float32", "float16")],
    *[(n, "float16") for n in ("large matrices", "small matrices", "constant")],
    ("constant", "float64"),
    ("constant everywhere", "float64"),
]


def roundings_of_coordinates(model, X):
    """Bound, to first order, how far apart roundings of coordinates alone may bring two answers.

    Each is a sum over differences of entries to some pivot, and of what moves the pivot to the
    origin: 0 in double precision, the origin in single. Its summands may be far larger than what is
    left of them; they are rounded in any order, once each and once when the constants are folded.
    """
    form = replace(model._map.tolerating(float(np.finfo(X.dtype).eps)), limits=None)
    unit = np.finfo(np.promote_types(X.dtype, np.float32)).eps / 2
    X, n_features = X.astype(float), X.shape[1]
    summed = np.abs(X - form.origin) @ np.abs(form.projection)
    if unit < 2.0**-50:
        summed = (np.abs(X) + np.abs(form.origin)) @ np.abs(form.projection)
    whole = ModelForm(np.zeros(form.n_outputs), np.zeros(n_features), reduced=form)
    answer, h = Engine(lambda: whole), 1e-4
    total = np.zeros((len(X), form.n_outputs))
    for step, size in zip(h * np.linalg.pinv(form.projection), summed.T, strict=True):
        slope = np.abs(answer(X + step) - answer(X - step)) / (2 * h)
        total += 2 * (n_features + 4) * unit * size[:, None] * slope
    return total


@pytest.mark.filterwarnings("ignore:Matrices .* are far from those")
@pytest.mark.parametrize(("name", "dtype"), REDUCED)
def test_reduced_coordinates(name, dtype, reduced, tmp_path):
    """Modules and files are predict, which is NaN far from the training."""
    model, X = reduced[name]
    X = np.vstack([X, 1.5 * X[:1], np.full_like(X[:1], 6e4)]).astype(dtype)
    expected = model.predict(X).astype(float)
    assert np.isfinite(expected[:-2]).all()
    assert np.isnan(expected[-2:]).all() or "everywhere" in name
    path = to_onnx(model, tmp_path / "m.onnx", dtype=dtype)
    near = slice(None) if "everywhere" in name else slice(-2)
    tolerance = roundings_of_coordinates(model, X[near])
    tolerance += PRECISION[dtype] * np.abs(expected[near]).max()
    for values in (to_module(model, dtype=dtype)(torch.tensor(X)).detach().numpy(), *run(path, X)):
        assert values.dtype == X.dtype
        assert (np.abs(values[near].astype(float) - expected[near]) <= tolerance).all()
        np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    for rows in (X[:0], X[:1]):
        assert run(path, rows)[0].shape == rows.shape
    proto = onnx.load(path)
    assert {(s.domain, s.version) for s in proto.opset_import} == {("", 18)}
    assert all(node.domain == "" for node in proto.graph.node)


def test_reduced_coordinates_beside_an_affine_part():
    """In half precision the scale of inputs is that of the affine part, whatever the projection."""
    model, X = with_map(1e4)
    blind = np.arange(9) == 4
    moved = replace(model._map, projection=model._map.projection * ~blind[:, None], limits=None)
    X[:, blind] += np.linspace(1, 2, 50)[:, None]
    linear = np.where(blind[:, None], 1.0, 1e3)
    form = ModelForm(np.zeros(9), X.mean(axis=0), linear * np.ones((9, 9)), reduced=moved)
    A = torch.tensor(X).half()
    values = InverseModule(form, torch.float16)(A).detach()
    expected = Engine(lambda: form)(A.double().numpy())
    assert relative(values, expected) < PRECISION["float16"]


def test_gradients_beside_rows_that_are_far(reduced):
    """Rows far away leave the gradients of others, and of weights, as they are."""
    model, X = reduced["perceptron"]
    module = to_module(model, dtype="float64")
    good = torch.tensor(X[:3], requires_grad=True)
    assert torch.autograd.gradcheck(module, (good,))
    far = torch.tensor([[1e200], [np.inf], [np.nan]], dtype=torch.float64).expand(3, 9)
    batch = torch.cat([good.detach(), far]).requires_grad_()
    alone = torch.autograd.grad(module(good).square().sum(), (good, *module.parameters()))
    loss = module(batch)[:3].square().sum()
    beside = torch.autograd.grad(loss, (batch, *module.parameters()))
    assert (beside[0][3:] == 0).all()
    for one, other in zip((beside[0][:3], *beside[1:]), alone, strict=True):
        torch.testing.assert_close(one, other)


def test_perceptron_of_coordinates_can_be_trained_further(reduced):
    """All of its layers are parameters, and a step moves the answers, but not the model's."""
    for name in ("perceptron", "basis"):
        model, X = reduced[name]
        before = model.predict(X)
        module = to_module(model, dtype="float64")
        assert len(list(module.parameters())) == 2 * 3
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
        losses = []
        for _ in range(2):
            optimizer.zero_grad()
            losses.append(module(torch.tensor(X)).square().mean())
            losses[-1].backward()
            assert all(parameter.grad.any() for parameter in module.parameters())
            optimizer.step()
        assert losses[1] < losses[0]
        np.testing.assert_array_equal(model.predict(X), before)


@quiet
def test_reduced_coordinates_are_captured(reduced):
    """As one graph, for any batch, and for single matrices that are mapped over."""
    model, X = reduced["grid"]
    module, A = to_module(model, 1), torch.tensor(X, dtype=torch.float32)
    expected = module(A)
    torch.testing.assert_close(torch.func.vmap(module)(A), expected)
    torch.testing.assert_close(module(A.view(-1, 8, 8)).reshape(A.shape), expected)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    exported = torch.export.export(
        module, (A,), dynamic_shapes={"A": {0: torch.export.Dim("m")}}
    ).module()
    for captured in (compiled, exported):
        torch.testing.assert_close(captured(A[:7]), expected[:7])
    with torch.autocast("cpu", torch.bfloat16):  # what is outside is computed in full
        assert module(A).isfinite().all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_refined_reduced_coordinates(dtype, reduced, tmp_path):
    """A step refines what is answered; of what is not, the residual is NaN, too."""
    model, X = reduced["grid"]
    X = np.vstack([X, 2 * X[:1]]).astype(dtype)
    certified = CertifiedInverse(model)
    path = to_onnx(certified, tmp_path / "c.onnx", n_refine=1, dtype=dtype)
    module = to_module(certified, 1, dtype=dtype)
    exact = np.linalg.inv(X[:-1].reshape(-1, 8, 8).astype(float)).reshape(-1, 64)
    for inverse, residual in (run(path, X), (out.numpy() for out in module(torch.tensor(X)))):
        assert np.isnan(inverse[-1]).all()
        assert np.isnan(residual[-1])
        assert relative(inverse[:-1], exact) < PRECISION[dtype]
        assert residual[:-1].max() < {"float64": 1e-12, "float32": 1e-3}[dtype]


def test_reduced_coordinates_of_structured_matrices():
    """A polynomial of the free numbers is one of all entries."""
    E = np.random.default_rng(0).standard_normal((2, 4, 4))
    t = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 15)]), axis=-1).reshape(-1, 2)
    A = 5 * np.eye(4) + 0.5 * np.einsum("st,tij->sij", t, E + E.swapaxes(1, 2))
    for baseline in (None, "taylor"):
        model = StructuredInverse(PolynomialInverseApprox(), baseline=baseline).fit(A)
        values = to_module(model, dtype="float64")(torch.tensor(A))
        np.testing.assert_allclose(values, model.predict(A), atol=1e-12)
