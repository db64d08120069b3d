"""Nothing that is fitted depends on units: maths of scaling, as laws of every estimator.

Rows and columns of training and test matrices are multiplied with powers of two, and all is the
same, to the bit, but for these; other factors change errors by little.
"""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge
from test_units import FAMILIES, every_family, exact_errors, in_other_units

from skinv import (
    CertifiedInverse,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    StructuredInverse,
)
from skinv._linalg.inverses import root_mean_square
from skinv.export import to_module
from skinv.matrices import embed_complex
from skinv.structures import Structure

FITTED = 30
ignore_extrapolation = pytest.mark.filterwarnings(
    "ignore::skinv.learn.extrapolation.ExtrapolationWarning"
)
lstsq = LinearInverseApprox(method="lstsq")


def network(*args, **kwargs):
    return NeuralInverseRegressor(*args, max_iter=2, random_state=0, device="cpu", **kwargs)


ESTIMATORS = {
    "series": LinearInverseApprox(),
    "third order": LinearInverseApprox(order=3),
    "affine": lstsq,
    "polynomial": PolynomialInverseApprox(),
    "polynomial of two": PolynomialInverseApprox(2, 2, on_extrapolation="keep"),
    "network": network(),
    "network of two": network(8, n_components=2, solver="adam"),
    "network of entries": network(8, n_components=None),
    "network on the affine map": network(8, n_components=None, baseline="affine"),
    "network by itself": network(8, "relu", n_components=None, baseline=None, dtype="float64"),
    "network that is the series": network(200, "relu", baseline=None, init="taylor"),
    "stopping early": network(8, n_components=None, early_stopping=True),
}
STRUCTURED = {
    "symmetric": StructuredInverse(lstsq),
    "positive definite": StructuredInverse(lstsq, "positive_definite"),
    "symmetric network": StructuredInverse(network(8)),
    "symmetric ridge": StructuredInverse(Ridge(1e-3), baseline=None),
    "complex": StructuredInverse(lstsq, "complex"),
}
# Of products, and of regressors of others, there are none.
NO_MODULES = {str(STRUCTURED[name]) for name in ("positive definite", "symmetric ridge")}


def is_symmetric(A):
    return bool((A.conj().swapaxes(1, 2) == A).all())


def cases():
    """Every family with every estimator that takes it."""
    for family in FAMILIES:
        A = family(np.random.default_rng(0))
        for name, estimator in {**ESTIMATORS, **STRUCTURED}.items():
            needs = getattr(estimator, "structure", None)
            taken = np.iscomplexobj(A) if needs == "complex" else is_symmetric(A)
            if needs is None or taken:
                yield pytest.param(family, estimator, id=f"{family.__name__}-{name}")


def real(A):
    """Matrices, complex ones embedded."""
    return embed_complex(A) if np.iscomplexobj(A) else A


def pair(family):
    """Matrices, the same in other units, and what takes inverses of the latter to these."""
    rng = np.random.default_rng(5)
    A = family(rng)
    return A, *in_other_units(A, rng)


@ignore_extrapolation
@pytest.mark.parametrize(("family", "estimator"), list(cases()))
def test_units_change_nothing(family, estimator):
    """Predictions, also of single matrices and exported modules, and what is refused."""
    A, B, back = pair(family)
    plain, other = (clone(estimator).fit(M[:FITTED]) for M in (A, B))
    np.testing.assert_array_equal(plain.predict(A) * back, other.predict(B))
    if hasattr(plain, "inverse_function"):
        single, alike = (model.inverse_function() for model in (plain, other))
        np.testing.assert_array_equal(single(A[-1]) * back, alike(B[-1]))
    if hasattr(plain, "extrapolates"):
        center = A.mean(axis=0)
        far = [(center + t * (A - center)) for t in (1, 2, 100)]
        for some in far:
            found = plain.extrapolates(some)
            np.testing.assert_array_equal(found, other.extrapolates(some / back.T))
    if str(estimator) not in NO_MODULES:
        modules = (to_module(model, dtype=torch.float64) for model in (plain, other))
        X, Y = (m(torch.tensor(real(M))).detach() for m, M in zip(modules, (A, B), strict=True))
        X = X * torch.tensor(np.tile(back, (len(X[0]) // len(back),) * 2))
        torch.testing.assert_close(X, Y, rtol=1e-9, atol=0.0)


@every_family
@pytest.mark.parametrize("name", ["series", "affine", "polynomial", "network", "symmetric"])
def test_given_inverses_change_nothing(family, name):
    """They are taken for inverses, and as good ones, in all units alike."""
    A, B, back = pair(family)
    estimator = {**ESTIMATORS, **STRUCTURED}[name]
    if name == "symmetric" and not is_symmetric(A):
        estimator = lstsq
    inverse = np.linalg.inv(A)
    if is_symmetric(A):
        inverse = (inverse + inverse.conj().swapaxes(1, 2)) / 2
    plain, other = (
        clone(estimator).fit(M[:FITTED], Y[:FITTED]) for M, Y in ((A, inverse), (B, inverse * back))
    )
    np.testing.assert_array_equal(
        *(model.predict(M) * u for model, M, u in ((plain, A, back), (other, B, 1.0)))
    )


@every_family
@pytest.mark.parametrize("estimator", [LinearInverseApprox(), lstsq, network(8)])
def test_training_goes_on(family, estimator):
    """In parts, and with weights of samples, it is the same, too."""
    A, B, back = pair(family)
    if isinstance(estimator, NeuralInverseRegressor):
        models = [clone(estimator) for _ in range(2)]
        for _ in range(2):
            for model, M in zip(models, (A, B), strict=True):
                model.partial_fit(M[:FITTED])
    else:
        weight = np.arange(1.0, FITTED + 1)
        models = [clone(estimator).fit(M[:FITTED], sample_weight=weight) for M in (A, B)]
    np.testing.assert_array_equal(models[0].predict(A) * back, models[1].predict(B))


@ignore_extrapolation
@every_family
@pytest.mark.parametrize("name", ["series", "affine", "polynomial", "network of entries"])
def test_other_factors_change_little(family, name):
    """Errors are the same up to a factor 4, whatever rows and columns are multiplied with."""
    rng = np.random.default_rng(6)
    A = family(rng)
    rows, columns = 10.0 ** rng.uniform(-12, 12, (2, A.shape[1]))
    columns = rows if is_symmetric(A) else columns
    B, back = rows[:, None] * A * columns, 1 / columns[:, None] / rows
    errors = []
    for M, unit in ((A, 1.0), (B, back)):
        P = clone(ESTIMATORS[name]).fit(M[:FITTED]).predict(M[FITTED:]) / unit
        exact = np.linalg.inv(A[FITTED:])
        size = np.abs(exact).max(axis=0)
        errors.append(np.nanmedian(np.abs(P - exact) / np.where(size > 0, size, 1.0), axis=0))
    plain, other = (np.maximum(error, 1e-9).max() for error in errors)
    assert plain / 4 <= other <= 4 * plain


@every_family
def test_the_same_rows_are_refused(family):
    """Of training matrices that are singular, or nearly so once they are scaled."""
    A, _, back = pair(family)
    spoilt = A.copy()
    spoilt[3, :, 0] = spoilt[3, :, 1] * (np.abs(A).max(axis=(0, 1)) / np.abs(A[3]).max(axis=0))[0]
    spoilt[3, :, 1] = spoilt[3, :, 0] * (1 + 1e-12)
    messages = []
    for M in (spoilt, spoilt / back.T):
        for estimator in (lstsq, PolynomialInverseApprox(), network(8)):
            with pytest.raises(ValueError, match=r"rows \[3\] \(1 of 40\) are singular") as found:
                clone(estimator).fit(M)
            messages.append(str(found.value))
    assert len(set(messages)) == 1


@every_family
@pytest.mark.parametrize("power", [-7, 40])
def test_a_common_factor_changes_no_proof(family, power):
    """What is refined to a tolerance, and proven in norms, depends on these units alone."""
    A = family(np.random.default_rng(7))
    reports = [
        CertifiedInverse(LinearInverseApprox(), tol=1e-10).fit(M[:FITTED]).report(M)
        for M in (A, A * 2.0**power)
    ]
    for name, unit in (("inverse", 2.0**-power), ("radius", 2.0**-power), ("bound", 1.0)):
        np.testing.assert_array_equal(getattr(reports[0], name) * unit, getattr(reports[1], name))
    np.testing.assert_array_equal(reports[0].status, reports[1].status)


def test_what_is_symmetric_is_seen_in_its_units():
    """A difference of two small entries is no rounding of a large one."""
    A = np.tile(np.diag([1e12, 1.0, 1.0]), (20, 1, 1)) * np.linspace(1, 2, 20)[:, None, None]
    A[:, 1, 2] = A[:, 2, 1] = 0.1
    A[4, 1, 2] += 1e-5
    with pytest.raises(ValueError, match=r"rows \[4\] \(1 of 20\) are not symmetric"):
        StructuredInverse(lstsq).fit(A)


def test_structures_keep_zero_diagonals():
    """Of saddle-point matrices, too, rows of zeros on the diagonal have units."""
    rng = np.random.default_rng(8)
    A = np.zeros((40, 5, 5))
    G = rng.standard_normal((40, 3, 3)) * 0.1 + np.eye(3)
    A[:, :3, :3] = (G + G.swapaxes(1, 2)) / 2
    A[:, 3:, :3] = rng.standard_normal((2, 3)) + 0.05 * rng.standard_normal((40, 2, 3))
    A[:, :3, 3:] = A[:, 3:, :3].swapaxes(1, 2)
    B, back = in_other_units(A, rng)
    plain, other = (StructuredInverse(lstsq).fit(M) for M in (A, B))
    np.testing.assert_array_equal(plain.predict(A) * back, other.predict(B))


def test_structures_of_single_precision():
    """Powers of two past its range do no harm where the numbers are in it."""
    rng = np.random.default_rng(9)
    A = np.eye(2) + 0.1 * rng.standard_normal((50, 2, 2))
    A = ((A + A.swapaxes(1, 2)) / 2).astype(np.float32)
    plain = StructuredInverse(lstsq).fit(A)
    for power in (-60, 60):
        d = np.float32([1.0, 2.0**power])
        B = A * d * d[:, None]
        X = StructuredInverse(lstsq).fit(B).predict(B)
        assert X.dtype == np.float32
        np.testing.assert_array_equal(X * d * d[:, None], plain.predict(A))


def test_packed_rows_have_units():
    """As those of whole matrices."""
    A, B, back = pair(FAMILIES[0])
    structure = Structure.of(9, symmetric=True)
    rows, scaled = (structure.pack(M.reshape(-1, 9)) for M in (A, B))
    plain, other = (StructuredInverse(lstsq, packed=True).fit(M) for M in (rows, scaled))
    np.testing.assert_array_equal(
        plain.predict(rows) * structure.pack(back.reshape(1, 9)), other.predict(scaled)
    )


def test_root_mean_squares():
    """Entries that are 1e-200 of others, whose squares are nothing, count as they do alone."""
    size = root_mean_square(np.array([[3.0, 3e-200, 0.0], [4.0, -4e-200, 0.0]]))
    np.testing.assert_allclose(size, [12.5**0.5, 12.5**0.5 * 1e-200, 0.0], rtol=1e-14)


def test_training_matrices_of_all_sizes():
    """Exact inverses are those of each matrix, though together they span the range."""
    A = np.array([[2.0, 1.0], [1.0, 3.0]]) * np.array([1e150, 1.0, 1e-150])[:, None, None]
    errors = exact_errors(
        A, LinearInverseApprox(method="lstsq")._validate_training(A, None)[1].reshape(A.shape)
    )
    assert (errors < 1e-15).all()
