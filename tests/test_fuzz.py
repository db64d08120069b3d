"""Fuzzing: the same cases of hostile arguments for every public function and method.

Whatever comes, a call raises what its docstring says, or returns something of the shape and dtype
that it says, with the input as it was; and what comes back as a proof is held against an oracle
that knows nothing of the package. Public names are found by crawling: one without an entry fails.
"""

import importlib
from fractions import Fraction

import numpy as np
import pandas
import pytest
import torch
from backends import every_library
from exhaustive import exhaustive
from fuzzing.certified import garbage
from fuzzing.common import ENTRIES, ROOMS, on_host, smallest_singular_value
from fuzzing.models import (
    Liar,
    affine_free,
    complex_polynomial,
    complex_series,
    region,
    series,
    silu,
    structured,
    symmetric,
    training,
)
from matplotlib.figure import Figure
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from strategies import CENTER, Choices, center_of, on_purpose

import skinv
from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    NeuralInverseRegressor,
    SingularDistanceScorer,
    StructuredInverse,
    bounds,
    datasets,
    export,
    geometry,
    impossibility,
    inspection,
    matrices,
    metrics,
    persistence,
    refinement,
    structures,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names"),
    pytest.mark.filterwarnings("ignore:Singular matrix in solving dual problem"),
    pytest.mark.filterwarnings("ignore:R\\^2 score is not well-defined"),
]

for _room in (
    "geometry",
    "parameters",
    "bounds",
    "metrics",
    "datasets",
    "impossibility",
    "predictions",
    "sampler",
    "certified",
    "functions",
    "fitting",
    "streams",
    "scorer",
    "proofs",
    "export",
    "inspection",
    "everyone",
):
    importlib.import_module(f"fuzzing.{_room}")


# What is public of modules that hold helpers, too.
PUBLIC = {
    matrices: ["embed_complex", "extract_complex"],
    structures: ["pack_symmetric", "unpack_symmetric"],
}
MODULES = bounds, datasets, export, geometry, impossibility, inspection, metrics, persistence
MODULES += (refinement, *PUBLIC)


def methods_of(cls):
    """Return the names of the public methods of a class."""
    names = [name for name in dir(cls) if not name.startswith("_")]
    return [name for name in names if callable(getattr(cls, name, None))]


def public_names():
    """Return all public functions, and methods of public classes, by names of entries."""
    names = [name for name in skinv.__all__ if not isinstance(getattr(skinv, name), type)]
    classes = [name for name in skinv.__all__ if name not in names]
    names += [f"{name}.{m}" for name in classes for m in methods_of(getattr(skinv, name))]
    names.append("SingularDistanceScorer.__call__")
    for module in MODULES:
        for name in PUBLIC.get(module, module.__all__):
            thing, path = getattr(module, name), f"{module.__name__.removeprefix('skinv.')}.{name}"
            if name in skinv.__all__ or not callable(thing):
                continue
            if isinstance(thing, type):
                names += [f"{path}.{method}" for method in methods_of(thing)]
            if not isinstance(thing, type) or name == "PolynomialLipschitz":
                names.append(path)
    # Methods of exceptions are Python's.
    return [name for name in names if "Warning" not in name]


def test_nothing_public_is_left_out():
    """Every public function and method has an entry, and every entry is one."""
    everywhere = {name[2:] for name in ENTRIES if name.startswith("*.")}
    named = {name for name in public_names() if name.rsplit(".", 1)[-1] not in everywhere}
    assert named == {name for name in ENTRIES if not name.startswith("*.")}


@every_library
def test_no_rows(convert):
    """Rows of no matrices are answered by no rows."""
    inverse, bound = CertifiedInverse(series()).fit().predict(convert(np.zeros((0, 4))), True)
    assert tuple(inverse.shape) == (0, 4)
    assert len(bound) == 0


@pytest.mark.parametrize("make", [complex_series, complex_polynomial])
@pytest.mark.filterwarnings("ignore:Matrices .* are far from")
def test_masked_complex_matrices(make):
    """A mask changes nothing, of complex matrices, too."""
    Z = np.array([CENTER + 0.5j])
    masked = make().predict(np.ma.masked_array(Z, mask=False))
    np.testing.assert_array_equal(masked, make().predict(Z))


def test_true_is_one():
    """As for scikit-learn, True is the number 1."""
    from_matrices = inspection.ParetoDisplay.from_matrices
    options = {"candidates": {"a": np.linalg.inv}, "n_repeats": 1}
    assert "1 at once" in from_matrices(training(2, 8), batch_size=True, **options).setting


def test_packed_complex_numbers():
    """Packed rows are of real numbers: those of others are refused, and none discarded."""
    with pytest.raises(ValueError, match="complex"):
        structures.unpack_symmetric(torch.ones(1, 3, dtype=torch.complex128))


def fuzzers():
    """Return entries, each once, by room and with the names that it stands for."""
    names = {}
    for name, function in ENTRIES.items():
        names.setdefault(function, []).append(name)
    return [
        pytest.param(function, id=f"{ROOMS[some[0]]}: {', '.join(some)}")
        for function, some in names.items()
    ]


@pytest.mark.filterwarnings("ignore:.* matrices went unanswered:UserWarning")
@pytest.mark.filterwarnings("ignore:.* training matrices are not finite:UserWarning")
@pytest.mark.filterwarnings("ignore:Matrices .* are far from those that:UserWarning")
@pytest.mark.filterwarnings("ignore:The Taylor series diverges:UserWarning")
@pytest.mark.filterwarnings("ignore:Estimators answer without gradients:UserWarning")
@pytest.mark.filterwarnings("ignore:Got an array of shape .*, which is taken for:UserWarning")
@pytest.mark.parametrize("cases", [range(30), *exhaustive(range(30, 300))], ids=["few", "many"])
@pytest.mark.parametrize("fuzz", fuzzers())
def test_hostile_arguments(fuzz, cases):
    """What is documented, or what the oracle agrees with; ``-k "geometry:"`` is one room."""
    for case in cases:
        try:
            fuzz(Choices(case))
        except BaseException as error:
            error.add_note(f"In Choices({case}).")
            raise


HALF = torch.tensor(CENTER, dtype=torch.bfloat16)
GRADIENT = torch.tensor(CENTER, requires_grad=True)
HUGE = 10**400


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.nearest_regular(CENTER, HUGE), "min_distance of type int"),
        (lambda: geometry.region_margin(CENTER, 0.5, min_distance="far"), "min_distance of type"),
        (lambda: geometry.region_margin(CENTER, "data"), "radius of type str"),
        (lambda: geometry.region_margin(CENTER, 0.1j * CENTER), "radius .* complex"),
        (lambda: geometry.region_margin(CENTER, 0.1, "mahalanobis", axes="xyz"), "axes of type"),
        (lambda: bounds.certify_region(series(), region(), device="moon"), "device='moon'"),
        (lambda: bounds.certify_region(series(), region(), rtol=HUGE), "rtol of type int"),
        (lambda: bounds.certify_region(structured(), region()), "structure='symmetric'"),
        (lambda: bounds.residual_bound(HALF[None], "X"), "matrices of type"),
        (lambda: bounds.residual_bound([[Fraction(1, 3)]], [[3.0]]), "float64 cannot hold"),
        (lambda: metrics.absolute_errors(1.0, 1.0), "shape"),
        (lambda: structures.pack_symmetric(1.0), "shape"),
        (lambda: structures.pack_symmetric(pandas.DataFrame([[1j]])), "complex"),
        (lambda: datasets.make_region([]), "name"),
        (lambda: datasets.make_channel_gram(correlation=np.int64(-(2**63))), "correlation"),
        (lambda: region().sample(True), "n_samples=True"),
        (lambda: region().sample(device="moon"), "device='moon'"),
        (lambda: region().sample(dtype=torch.float32), "one of NumPy"),
        (lambda: region_of_data(min_distance=HUGE), "min_distance of type int"),
        (lambda: FeasibleRegionSampler(CENTER, HUGE).fit(), "radius of type int"),
        (lambda: FeasibleRegionSampler([[1], [2, 3]], 0.5).fit(), "center of type list"),
        (lambda: FeasibleRegionSampler().fit_resample(training(), [1]), "inconsistent numbers"),
        (lambda: series().inverse_function("f9"), "dtype='f9'"),
        (lambda: complex_series().predict([[[1j, 0, 0], [0, 1, 0], [0, 0, 1]]]), "complex"),
        (lambda: CertifiedInverse(Ridge()).fit(), "cannot be fitted without"),
        (lambda: CertifiedInverse(series(), tol=HUGE).fit(training()), "tol of type int"),
        (lambda: answers_of("ragged"), "predictions of type list"),
        (lambda: member_of("long"), "float64 cannot hold"),
        (lambda: member_of("ragged"), "from family"),
        (lambda: StructuredInverse(Liar("few")).fit(symmetric()).predict(symmetric()), "several"),
        (lambda: SingularDistanceScorer()(series(), training()[0]), "shape"),
        (lambda: SingularDistanceScorer()(series(), training(), [1.0]), "targets of 200"),
        (lambda: SingularDistanceScorer(lambda X, y, p: 1.0)(series(), training()), "one for each"),
        (lambda: score_by([-1.0] * 200), "must be positive"),
        (lambda: trained(device="moon"), "device='moon'"),
        (lambda: trained(hidden_layer_sizes=(1.5,)), "widths are integers"),
        (lambda: trained(weight_decay=1e300, solver="adam"), "infinite|NaN|nan"),
        (lambda: trained(learning_rate_init=HUGE), "learning_rate_init of type int"),
        (lambda: silu().fit_sampler(series()), "fitted FeasibleRegionSampler"),
        (lambda: impossibility.compose(1.0, impossibility.identity()), "PolynomialLipschitz is"),
        (lambda: impossibility.scale(impossibility.identity(), {}), "factor of type"),
        (lambda: impossibility.constant([[1.0]]), "coefficients of shape"),
        (lambda: impossibility.elementwise(1.0, size=-1), "size=-1"),
        (lambda: impossibility.failure_distance(3, 1.0), "pass center"),
        (lambda: impossibility.counterexample(series(), CENTER, HUGE), "error of type int"),
        (lambda: moments_of(region(structure="symmetric")), "without structure"),
        (lambda: moments_of(series()), "fitted FeasibleRegionSampler"),
        (lambda: impossibility.polynomial_lipschitz(torch.nn.ReLU(), input_shape="4"), "integers"),
        (lambda: inspection.SingularSetDisplay.from_sampler(region(), epsilon=HUGE), "epsilon"),
        (lambda: inspection.TrainingDisplay(loss_curve=[1.0]).plot(3), "plain axes"),
        (lambda: inspection.TruncatedMomentsDisplay.from_moments(None), "truncated_moments"),
    ],
)
def test_is_refused(call, message):
    """What raised something else, or was taken for something else, says what is wrong with it."""
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert on_purpose(caught.value)


def region_of_data(**params):
    return FeasibleRegionSampler(**params).fit(training())


def answers_of(kind):
    return CertifiedInverse(FrozenEstimator(Liar(kind).fit(training()))).fit().predict(training())


def member_of(kind):
    return CertifiedInverse(affine_free(), family=garbage(kind)).fit(np.ones((3, 1)))


def score_by(weights):
    return SingularDistanceScorer()(series(), training(), sample_weight=weights)


def trained(**params):
    return (
        NeuralInverseRegressor(2, max_iter=1, random_state=0).set_params(**params).fit(training())
    )


def moments_of(sampler):
    return impossibility.truncated_moments(series(), sampler, n_samples=10)


def test_no_estimator_predicts_for_the_scorer():
    """A TypeError, as scikit-learn's scorers raise it."""
    with pytest.raises(TypeError, match="predicts is expected"):
        SingularDistanceScorer()(None, training())


@pytest.mark.parametrize("A", [HALF, GRADIENT], ids=["bfloat16", "gradients"])
def test_tensors_are_arrays(A):
    """Where arrays are asked for a tensor is one, whatever its dtype, with gradients or without."""
    near = pytest.approx(smallest_singular_value(CENTER), rel=1e-2)
    assert geometry.distance_to_singularity(A) == near
    assert geometry.region_certificate(A, 0.5).is_certified
    assert np.allclose(series().inverse_function()(A) @ CENTER, np.eye(2), atol=1e-2)


def test_sparse_tensors_are_refused():
    """As scikit-learn refuses sparse matrices: by a TypeError that says what to do."""
    for function in (matrices.embed_complex, matrices.extract_complex, series().predict):
        with pytest.raises(TypeError, match="dense data is required"):
            function(torch.eye(2).to_sparse())


def test_arrays_that_torch_does_not_take():
    """Beside a tensor an array may be read-only, big-endian, or of objects."""
    A = torch.tensor(CENTER)[None]
    X = np.linalg.inv(CENTER)[None]
    readonly = X.copy()
    readonly.flags.writeable = False
    model = CertifiedInverse(series()).fit()
    for other in (readonly, X.astype(">f8"), X.astype(object), X.tolist()):
        assert bounds.residual_bound(A, other)[0] < 1e-14
        x, bound = model.solve(A, other, return_bound=True)
        assert bound.max() < 1e-6
        assert np.allclose(CENTER @ on_host(x)[0], X[0])


def test_extract_complex_of_integers():
    """Unsigned integers do not wrap around, nor does the least int64."""
    for dtype in (np.uint8, np.uint64, np.int32, bool):
        Z = matrices.extract_complex(np.array([[1, 1], [0, 1]], dtype=dtype))
        assert Z[0, 0] == 1 - 0.5j
        assert Z.dtype == np.complex128
    Z = matrices.extract_complex(torch.tensor([[1, 1], [0, 1]], dtype=torch.uint8))
    assert Z[0, 0] == 1 - 0.5j
    least = -(2**63)
    assert matrices.extract_complex(np.array([[0, least], [0, 0]]))[0, 0] == 2.0**62 * 1j


@pytest.mark.parametrize("m", [1, 2, 3, 17])
def test_extract_complex_of_single_precision(m):
    """NumPy 2.4.6 negates wrongly, in single precision, from one stride of memory to another."""
    Z = np.random.RandomState(0).standard_normal((m, 1, 2)).view(complex).astype(np.complex64)
    assert np.array_equal(matrices.extract_complex(matrices.embed_complex(Z)), Z)


def test_max_refine_counts_all_steps():
    """Those in single precision and those that go on in double are at most max_refine together."""
    A = (center_of(3) + 0.2 * np.random.RandomState(0).uniform(-1, 1, (50, 3, 3))).astype("f4")
    for max_refine in range(4):
        model = CertifiedInverse(series(3), tol=1e-12, max_refine=max_refine, fallback="keep").fit()
        assert model.report(A).n_refine.max() == max_refine


def test_huge_matrices_have_errors():
    """Norms of huge inverses do not overflow, nor are huge matrices taken for singular ones."""
    Y = np.full((1, 2, 2), 1e300)
    assert metrics.relative_errors(Y, 1.1 * Y) == pytest.approx(0.1)
    score = SingularDistanceScorer("neg_relative_error")(Liar("negative"), 1e300 * training())
    assert score == pytest.approx(-2)


def test_powers_of_a_large_radius_overflow():
    """A region far too large has no bound, instead of an OverflowError."""
    assert bounds.taylor_bound(1e-150 * CENTER, 1e-3, 3).max_error == np.inf
    assert impossibility.failure_distance(series(2, 3), 1e300, center=CENTER) == 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_worst_case_over_symmetric_matrices(norm):
    """Of a region of symmetric matrices the witness is one, and samples come near its error."""
    sampler = region(norm=norm, structure="symmetric")
    proof = bounds.certify_region(series(), sampler, rtol=0.05, max_time=None)
    assert np.array_equal(proof.witness, proof.witness.T)
    assert sampler.is_feasible(proof.witness[None])
    X, Y = sampler.sample(20_000)
    seen = np.abs(series().predict(X) - Y).max()
    assert 0.5 * proof.lower < seen <= proof.upper


def test_right_hand_sides_of_complex_matrices():
    """One that is infinite does not spoil another, and nothing warns."""
    b = np.array([[[1.0, np.inf], [2.0, 1.0]]])
    A = (CENTER + 0.5j)[None]
    x, bound = CertifiedInverse(complex_series()).fit().solve(A, b, return_bound=True)
    assert np.allclose(A[0] @ x[0, :, 0], b[0, :, 0])
    assert np.isnan(x[0, :, 1]).all()
    assert bound[0, 0] <= 1e-6
    assert bound[0, 1] == np.inf


def test_parameters_of_numpy():
    """Integers of NumPy, as grids have them, are as good as Python's."""
    model = NeuralInverseRegressor(np.int8(2), batch_size=np.int64(8), max_iter=np.uint8(1))
    model.set_params(solver="adam", random_state=0).fit_sampler(region(), np.uint8(1))
    assert model.n_iter_ == 1
    assert len(datasets.make_channel_gram(np.uint8(2), np.uint8(2), np.uint8(9)).data) == 2


def test_frames_of_no_rows():
    """`set_output` makes an empty frame of a tensor without rows."""
    sampler = FeasibleRegionSampler(CENTER, 0.5).set_output(transform="pandas").fit()
    assert sampler.transform(torch.zeros(0, 2, 2)).shape == (0, 4)


def test_single_cutoff():
    """Moments at one cutoff are drawn, too."""
    found = impossibility.truncated_moments(
        series(), region(radius=2.0), (1, 2), 1e-3, n_samples=100, random_state=0
    )
    display = inspection.TruncatedMomentsDisplay.from_moments(found, ax=Figure().subplots())
    assert display.moments.shape == (2, 1)


def test_equal_distances():
    """Errors at distances that a logarithmic axis does not tell apart are drawn, too."""
    display = inspection.ErrorByDistanceDisplay(
        distance=np.array([1.0, 1 + 2.0**-52]), errors=np.ones(2)
    )
    low, high = display.plot(Figure().subplots()).ax_.get_xlim()
    assert low < 0.9 < 1.1 < high
