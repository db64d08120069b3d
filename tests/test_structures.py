"""Complex and symmetric matrices, and parametric families: structure kept, errors proven."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from backends import every_complex_dtype
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    SingularDistanceScorer,
    StructuredInverse,
)
from skinv._arrays.shapes import as_stack
from skinv._linalg.arithmetic import Arithmetic
from skinv.bounds import certify_region, residual_bound
from skinv.datasets import load_robot_arm
from skinv.export import to_module
from skinv.impossibility import counterexample
from skinv.matrices import embed_complex, extract_complex
from skinv.refinement import newton_schulz
from skinv.structures import Structure, pack_symmetric, unpack_symmetric

NORMS = ["linf", "l2", "l1", "mahalanobis"]


def family(n, n_samples, *, complex=False, hermitian=False, spread=0.1, seed=0):
    """Matrices near 4I of order n as a stack."""
    rng = np.random.default_rng(seed)
    E = rng.standard_normal((n_samples, n, n))
    if complex:
        E = E + 1j * rng.standard_normal((n_samples, n, n))
    if hermitian:
        E = (E + E.conj().swapaxes(1, 2)) / 2
    return 4 * np.eye(n) + spread * E


def rotations(p):
    """A family of 2×2 matrices with two parameters, (m, 2) -> (m, 2, 2)."""
    c, s = np.cos(p[:, 0]), np.sin(p[:, 0])
    return np.moveaxis(np.array([[c, -s], [p[:, 1] * s, c]]), 2, 0)


# -- the embedding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
def test_embedding_is_a_homomorphism(n):
    """Products, sums, adjoints and inverses of embeddings are embeddings of theirs."""
    A, B = family(n, 20, complex=True, seed=1), family(n, 20, complex=True, seed=2)
    np.testing.assert_allclose(embed_complex(A) @ embed_complex(B), embed_complex(A @ B))
    np.testing.assert_array_equal(embed_complex(A) + embed_complex(B), embed_complex(A + B))
    np.testing.assert_array_equal(
        embed_complex(A).swapaxes(1, 2), embed_complex(A.conj().swapaxes(1, 2))
    )
    np.testing.assert_allclose(np.linalg.inv(embed_complex(A)), embed_complex(np.linalg.inv(A)))
    singular = np.linalg.svd(embed_complex(A), compute_uv=False)
    np.testing.assert_allclose(singular, np.repeat(np.linalg.svd(A, compute_uv=False), 2, axis=1))


@every_complex_dtype
@pytest.mark.parametrize("scale", [1.0, 1e-38, 1e37])
@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 2])
def test_extraction_is_exact(dtype, scale, wrap, n, step):
    """There and back is the identity to the last bit: huge and tiny numbers, views, all orders.

    (NumPy 2.4's negative is wrong for some strides of its arguments.)
    """
    Z = (scale * family(n, 10 * step, complex=True)).astype(dtype)
    E = embed_complex(wrap(Z))
    back = extract_complex(E[::step])
    assert str(back.dtype).endswith(np.dtype(dtype).name)
    np.testing.assert_array_equal(np.asarray(back), Z[::step])
    wide = wrap(np.zeros((len(E), 4 * n, 4 * n), Z.real.dtype))
    wide[:, ::2, ::2] = E
    np.testing.assert_array_equal(np.asarray(extract_complex(wide[:, ::2, ::2])), Z)
    assert embed_complex(Z).dtype == Z.real.dtype


def test_extraction_is_the_nearest():
    """What it leaves is orthogonal to all embeddings."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 6))
    rest = X - embed_complex(extract_complex(X))
    for Z in family(3, 20, complex=True):
        assert abs(np.vdot(rest, embed_complex(Z))) < 1e-12


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((3, 3)), r"even order"),
        (np.ones((2, 4)), r"even order"),
        (np.ones(4), r"even order"),
        (np.ones((2, 2)) * 1j, r"real matrices"),
    ],
)
def test_what_embeds_nothing_is_refused(X, message):
    """Odd orders, other shapes and complex numbers."""
    with pytest.raises(ValueError, match=message):
        extract_complex(X)
    with pytest.raises(ValueError, match="square"):
        embed_complex(np.ones((2, 3)))


# -- complex stacks in estimators ------------------------------------------------------------------

REGRESSORS = {
    "taylor": LinearInverseApprox(order=2),
    "lstsq": LinearInverseApprox(method="lstsq"),
    "neural": NeuralInverseRegressor(max_iter=3, random_state=0),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_complex_stacks_are_their_embeddings(name):
    """Fitted to complex stacks, a model is that of the embeddings, and answers are complex."""
    Z, new = family(3, 200, complex=True), family(3, 50, complex=True, seed=1)
    model = pickle.loads(pickle.dumps(REGRESSORS[name])).fit(Z)
    real = pickle.loads(pickle.dumps(REGRESSORS[name])).fit(embed_complex(Z))
    predicted = model.predict(new)
    assert predicted.dtype == np.complex128
    of_embeddings = extract_complex(real.predict(embed_complex(new)))
    np.testing.assert_allclose(predicted, of_embeddings, atol=1e-13)
    assert np.abs(predicted - np.linalg.inv(new)).max() < 0.01
    assert model.score(new) == pytest.approx(real.score(embed_complex(new)), abs=1e-6)
    np.testing.assert_array_equal(model.fit(Z, np.linalg.inv(Z)).predict(new).shape, new.shape)
    single = model.predict(new.astype(np.complex64))
    assert single.dtype == np.complex64
    tensor = model.predict(torch.tensor(new))
    assert tensor.dtype == torch.complex128
    np.testing.assert_allclose(tensor.numpy(), model.predict(new), atol=1e-13)


def test_parts_and_single_matrices():
    """outputs= and inverse_function speak of the complex inverse."""
    Z = family(3, 100, complex=True)
    model = LinearInverseApprox().fit(Z)
    whole = model.predict(Z)
    diagonal = model.predict(Z, outputs=np.diag_indices(3))
    np.testing.assert_allclose(diagonal, whole[:, range(3), range(3)], rtol=1e-13)
    single = model.predict(Z.astype(np.complex64), outputs=np.diag_indices(3))
    assert single.dtype == np.complex64
    np.testing.assert_allclose(single, diagonal, rtol=1e-5)
    mask = np.zeros(9, dtype=bool)
    mask[[1, 5]] = True
    np.testing.assert_allclose(model.predict(Z, outputs=mask), whole.reshape(-1, 9)[:, mask])
    inverse = model.inverse_function()
    np.testing.assert_allclose(inverse(Z[0]), whole[0], rtol=1e-13)
    with pytest.raises(ValueError, match="complex"):
        inverse(Z[0].ravel())
    with pytest.raises(ValueError, match="Got outputs"):
        model.predict(Z, outputs=[9])
    out = np.empty_like(Z)
    assert np.shares_memory(model.predict(Z, out=out), out)
    np.testing.assert_array_equal(out, whole)
    np.testing.assert_array_equal(model.predict(out := Z.copy(), out=out), whole)
    with pytest.raises(ValueError, match="but writable, contiguous"):
        model.predict(Z, out=np.empty((len(Z), 3, 3)))


def test_complex_centers():
    """A centre may be complex; it is that of the embeddings."""
    C = family(3, 1, complex=True)[0]
    Z = family(3, 50, complex=True, spread=0.05) - 4 * np.eye(3) + C
    series = LinearInverseApprox(C, order=3).fit()
    assert np.abs(series.predict(Z) - np.linalg.inv(Z)).max() < 1e-3
    region = FeasibleRegionSampler(C, 0.1 * np.ones((3, 3)) * (1 + 2j), random_state=0).fit()
    S = extract_complex(as_stack(region.sample(2000, return_inverse=False))) - C
    assert np.abs(S.real).max() <= 0.1 < np.abs(S.imag).max() <= 0.2
    with pytest.raises(ValueError, match="complex center of shape"):
        LinearInverseApprox(C.ravel()).fit()


def test_complex_rows_are_refused():
    """scikit-learn's rules hold for rows: complex numbers are refused, and the fix is named."""
    rows = family(2, 5, complex=True).reshape(5, 4)
    for model in (*REGRESSORS.values(), FeasibleRegionSampler()):
        with pytest.raises(ValueError, match=r"Complex data not supported.*stack"):
            model.fit(rows)
    with pytest.raises(ValueError, match=r"Complex data not supported.*stack"):
        SingularDistanceScorer()(LinearInverseApprox(), rows)
    real = LinearInverseApprox().fit(family(2, 5))
    with pytest.raises(ValueError, match="fit it to complex matrices"):
        real.predict(family(2, 5, complex=True))


def test_model_selection_on_complex_stacks():
    """Cross-validation, grid search and the scorer take complex stacks."""
    Z = family(3, 120, complex=True)
    assert (cross_val_score(LinearInverseApprox(), Z, cv=3) > 0.9).all()
    search = GridSearchCV(
        LinearInverseApprox(), {"order": [1, 2]}, scoring=SingularDistanceScorer(), cv=3
    ).fit(Z)
    assert search.best_params_ == {"order": 2}
    parts = np.abs(np.linalg.inv(Z).view(float) - search.predict(Z).view(float))
    assert search.score(Z) == pytest.approx(-parts.mean())


def test_functions_on_complex_stacks():
    """Newton-Schulz steps and residual bounds are those of the embeddings."""
    Z = family(3, 20, complex=True)
    X = np.linalg.inv(Z) * (1 + 1e-3j)
    refined = newton_schulz(Z, X, 2)
    np.testing.assert_allclose(refined, np.linalg.inv(Z), rtol=1e-10)
    true = np.linalg.norm(X - np.linalg.inv(Z), axis=(1, 2)) / np.linalg.norm(
        np.linalg.inv(Z), axis=(1, 2)
    )
    bound = residual_bound(Z, X)
    assert (true <= bound).all()
    assert (bound < 0.01).all()


# -- proofs ----------------------------------------------------------------------------------------


def true_errors(A, X, norm="fro"):
    """Relative errors, by inverses in extended precision (two Newton steps)."""
    wide, narrow = (np.clongdouble, complex) if np.iscomplexobj(A) else (np.longdouble, float)
    A, X = A.astype(wide), X.astype(wide)
    inverse = np.linalg.inv(A.astype(narrow)).astype(wide)
    eye = np.eye(A.shape[1], dtype=wide)
    for _ in range(2):
        inverse = inverse + np.einsum(
            "kij,kjl->kil", inverse, eye - np.einsum("kij,kjl->kil", A, inverse)
        )
    of = {
        "fro": lambda M: np.sqrt((np.abs(M) ** 2).sum(axis=(1, 2))),
        "inf": lambda M: np.abs(M).sum(axis=2).max(axis=1),
        "1": lambda M: np.abs(M).sum(axis=1).max(axis=1),
    }[norm]
    return of(X - inverse) / of(inverse)  # fmt: skip


@pytest.mark.parametrize("norm", ["fro", "inf", "1"])
@pytest.mark.parametrize("tol", [1e-2, 1e-6, 1e-13])
@pytest.mark.parametrize("kind", ["complex", "hermitian", "symmetric"])
@pytest.mark.parametrize("single", [False, True])
def test_bounds_hold_for_structured_answers(norm, tol, kind, single):
    """Answers to structured matrices have the structure to the last bit, and true bounds."""
    A = family(3, 150, complex=kind != "symmetric", hermitian=kind != "complex", spread=0.2)
    A = A.astype(np.complex64 if kind != "symmetric" else np.float32) if single else A
    model = CertifiedInverse(LinearInverseApprox(), tol=tol, norm=norm).fit(A)
    report = model.report(A)
    if kind != "complex":
        np.testing.assert_array_equal(report.inverse, report.inverse.conj().swapaxes(1, 2))
    assert report.inverse.dtype == A.dtype
    assert (true_errors(A, report.inverse, norm) <= report.bound).all()
    if tol > (1e-6 if single else 1e-13):
        assert (report.bound <= tol).all()


def test_bad_complex_matrices_spoil_nothing():
    """Singular ones and NaN get their status, hostile predictions a fallback."""
    Z = family(3, 60, complex=True)
    model = CertifiedInverse(LinearInverseApprox(), tol=1e-9).fit(Z)
    Z[3], Z[4, 0, 0], Z[5] = 0.0, np.nan, 1e3 * Z[5]
    report = model.report(Z)
    assert list(report.status[3:6]) == ["singular", "not finite", "exact"]
    others = np.r_[:3, 5:60]
    assert (report.bound[others] <= 1e-9).all()
    np.testing.assert_allclose(report.inverse[others], np.linalg.inv(Z[others]), atol=1e-9)


@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor])
@pytest.mark.parametrize("shape", [(60, 3), (60, 3, 2)])
@pytest.mark.parametrize("real", [False, True])
def test_complex_systems_are_solved(wrap, shape, real):
    """Solutions of complex systems have proven errors, for real right-hand sides too."""
    rng = np.random.default_rng(0)
    Z = family(3, 60, complex=True)
    b = rng.standard_normal(shape) + (0 if real else 1j * rng.standard_normal(shape))
    model = CertifiedInverse(LinearInverseApprox(), tol=1e-10).fit(Z)
    x, bound = (np.asarray(part) for part in model.solve(wrap(Z), wrap(b), return_bound=True))
    columns = b if b.ndim == 3 else b[..., None]
    exact = np.linalg.solve(Z, columns).reshape(b.shape)
    error = np.linalg.norm(x - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert x.dtype == np.complex128
    assert (bound <= 1e-10).all()
    assert (error <= bound + 1e-14).all()


# -- symmetric and positive definite ---------------------------------------------------------------


def test_packing():
    """Packed rows are numpy's upper triangles; there and back is the identity."""
    A = family(4, 10, hermitian=True)
    packed = pack_symmetric(A)
    np.testing.assert_array_equal(packed, A[:, *np.triu_indices(4)])
    np.testing.assert_array_equal(unpack_symmetric(packed), A)
    np.testing.assert_array_equal(unpack_symmetric(pack_symmetric(torch.tensor(A))).numpy(), A)
    A[2, 0, 1] += 1
    with pytest.raises(ValueError, match=r"rows \[2\] \(1 of 10\) are not symmetric"):
        pack_symmetric(A)
    with pytest.raises(ValueError, match="packed rows of 4 numbers"):
        unpack_symmetric(np.ones((2, 4)))


@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_structures_count_their_numbers(n, complex, symmetric):
    """Free numbers are as many as the dimension of the space, and projections are the nearest."""
    if not (complex or symmetric):
        return
    d = 4 * n * n if complex else n * n
    structure = Structure.of(d, complex=complex, symmetric=symmetric)
    expected = {(0, 1): n * (n + 1) // 2, (1, 0): 2 * n * n, (1, 1): n * n}
    assert len(structure.first) == expected[complex, symmetric]
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20, d))
    near = structure.project(rows)
    np.testing.assert_array_equal(structure.unpack(structure.pack(near)), near)
    np.testing.assert_array_equal(structure.project(near), near)
    any_ = structure.unpack(rng.standard_normal((20, len(structure.first))))
    assert np.abs(np.sum((rows - near) * any_, axis=1)).max() < 1e-12


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("complex", [False, True])
def test_regions_of_structured_matrices(norm, complex):
    """Samples have the structure exactly, lie in the region, and others are infeasible."""
    A = family(3, 300, complex=complex, hermitian=True)
    region = FeasibleRegionSampler(
        norm=norm, on_infeasible="project", structure="symmetric", random_state=0
    ).fit(A)
    X, Y = region.sample(1000)
    assert region.is_feasible(X).all()
    assert region.is_feasible(A).all()
    S, T = as_stack(X), as_stack(Y)
    if complex:
        np.testing.assert_array_equal(embed_complex(extract_complex(S)), S)
        S, T = extract_complex(S), extract_complex(T)
    np.testing.assert_array_equal(S, S.conj().swapaxes(1, 2))
    np.testing.assert_allclose(T, np.linalg.inv(S), rtol=1e-9, atol=1e-12)
    if region.is_certified_:
        assert (np.linalg.eigvalsh(S) > 0).all()
    crooked = A.copy()
    crooked[:, 0, 1] += 0.01
    assert not region.is_feasible(crooked).any()
    assert (region.decision_function(crooked) < 0).all()
    moved = region.transform(crooked)
    assert region.is_feasible(moved).all()
    np.testing.assert_array_equal(moved, moved.conj().swapaxes(1, 2))
    tensor = region.sample(5, return_inverse=False, device="cpu").numpy()
    assert region.is_feasible(tensor).all()


@pytest.mark.parametrize(("norm", "power"), [("l2", 2), ("l1", 1), ("linf", np.inf)])
def test_symmetric_samples_are_uniform(norm, power):
    """The radius of uniform points in k dimensions is distributed as u^(1/k)."""
    region = FeasibleRegionSampler(
        4 * np.eye(3), 1.0, norm=norm, structure="symmetric", random_state=0
    )
    E = region.fit().sample(20_000, return_inverse=False) - 4 * np.eye(3).ravel()
    u = np.linalg.norm(E, ord=power, axis=1) ** 6
    assert abs(np.mean(u) - 0.5) < 4 * np.sqrt(1 / 12 / 20_000)
    assert abs(np.mean(u < 0.1) - 0.1) < 4 * np.sqrt(0.09 / 20_000)


def test_unstructured_data_are_refused():
    """A symmetric region or regressor names the rows that are not."""
    A = family(2, 10, hermitian=True)
    A[3, 0, 1] += 1
    for model in (FeasibleRegionSampler(structure="symmetric"), StructuredInverse(Ridge())):
        with pytest.raises(ValueError, match=r"rows \[3\] \(1 of 10\) are not symmetric"):
            model.fit(A)
    with pytest.raises(ValueError, match="not embeddings of complex"):
        StructuredInverse(Ridge(), "complex").fit(A)


INNER = {
    "neural": NeuralInverseRegressor(16, max_iter=3, random_state=0),
    "lstsq": LinearInverseApprox(method="lstsq"),
    "ridge": Ridge(alpha=1e-6),
    "forest": RandomForestRegressor(3, random_state=0),
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("structure", ["symmetric", "positive_definite", "complex"])
@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("baseline", ["auto", None])
def test_structured_regressors(inner, structure, complex, baseline):
    """Answers have the structure exactly, from half of the numbers, by any regressor."""
    if structure == "complex" and not complex:
        return
    hermitian = structure != "complex"
    A = family(3, 300, complex=complex, hermitian=hermitian)
    new = family(3, 50, complex=complex, hermitian=hermitian, seed=1)
    model = StructuredInverse(INNER[inner], structure, baseline=baseline).fit(A)
    X = model.predict(new)
    assert X.dtype == new.dtype
    assert X.shape == new.shape
    if hermitian:
        np.testing.assert_array_equal(X, X.conj().swapaxes(1, 2))
        assert model.estimator_.n_features_in_ == (9 if complex else 6)
    else:
        assert model.estimator_.n_features_in_ == 18
    if structure == "positive_definite":
        assert (np.linalg.eigvalsh(X) > -1e-15).all()
    limit = 0.06 if inner == "forest" and model.baseline_ is None else 0.01
    assert np.abs(X - np.linalg.inv(new)).max() < limit
    assert model.score(new) > (0.0 if limit > 0.01 else 0.95)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(new), X)
    np.testing.assert_allclose(model.predict(torch.tensor(new)).numpy(), X, atol=1e-13)
    assert model.predict(new[:0]).shape == new[:0].shape


def test_matrices_without_the_structure_get_no_answer():
    """NaN for them, and their own way behind a certificate."""
    A = family(3, 200, hermitian=True)
    model = CertifiedInverse(StructuredInverse(INNER["lstsq"]), tol=1e-9).fit(A)
    stream = A.copy()
    stream[7, 0, 1] += 0.5
    X = model.estimator_.predict(stream)
    assert np.isnan(X[7]).all()
    assert np.isfinite(np.delete(X, 7, axis=0)).all()
    report = model.report(stream)
    assert report.status[7] == "exact"
    assert (report.bound <= 1e-9).all()


@pytest.mark.parametrize("structure", ["symmetric", "positive_definite"])
def test_nothing_is_dropped_with_the_lower_triangle(structure):
    """NaN and infinity there give NaN, and are refused when packed."""
    A = family(3, 100, hermitian=True)
    model = StructuredInverse(INNER["lstsq"], structure, baseline=None).fit(A)
    bad = A[:3].copy()
    bad[0, 1, 0], bad[1, 2, 0] = np.nan, np.inf
    for X in (model.predict(torch.tensor(bad)).numpy(), model.predict(bad)):
        assert np.isnan(X[:2]).all()
        assert np.isfinite(X[2]).all()
    with pytest.raises(ValueError, match=r"rows \[0, 1\] \(2 of 3\) are not symmetric"):
        pack_symmetric(bad)


def test_frames_keep_their_names():
    """A structured regressor takes frames without a warning, and checks their columns."""
    pd = pytest.importorskip("pandas")
    A = family(2, 50, hermitian=True).reshape(-1, 4)
    frame = pd.DataFrame(A, columns=list("abcd"))
    model = CertifiedInverse(StructuredInverse(INNER["lstsq"])).fit(frame)
    assert (model.report(frame).bound <= 1e-6).all()
    assert list(model.estimator_.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        model.estimator_.predict(frame[list("badc")])


def test_hermitian_numbers_reach_the_regressor():
    """Behind a certificate, too, a structured regressor sees n² numbers of a Hermitian matrix."""
    A = family(3, 200, complex=True, hermitian=True)
    model = CertifiedInverse(StructuredInverse(INNER["lstsq"]), tol=1e-9).fit(A)
    assert model.estimator_.estimator_.n_features_in_ == 9
    for stream in (A, torch.tensor(A)):
        report = model.report(stream)
        X = np.asarray(report.inverse)
        np.testing.assert_array_equal(X, X.conj().swapaxes(1, 2))
        assert (np.asarray(report.bound) <= 1e-9).all()


def test_packed_rows():
    """Packed in, packed out, and certified through the family that unpacks them."""
    A, new = family(3, 200, hermitian=True), family(3, 50, hermitian=True, seed=1)
    model = StructuredInverse(INNER["lstsq"], packed=True).fit(pack_symmetric(A))
    whole = StructuredInverse(INNER["lstsq"]).fit(A)
    np.testing.assert_allclose(
        unpack_symmetric(model.predict(pack_symmetric(new))), whole.predict(new), atol=1e-14
    )
    assert model.score(pack_symmetric(new)) > 0.95
    assert model.fit(pack_symmetric(A), pack_symmetric(np.linalg.inv(A))).n_features_in_ == 6
    certified = CertifiedInverse(model, family=unpack_symmetric, tol=1e-9).fit(pack_symmetric(A))
    X, bound = certified.predict(pack_symmetric(new), return_bound=True)
    np.testing.assert_array_equal(X, X.swapaxes(1, 2))
    assert (bound <= 1e-9).all()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (StructuredInverse(Ridge(), "complex", packed=True), "packed=True with structure"),
        (StructuredInverse(Ridge(), "positive_definite", baseline="taylor"), "Cholesky factors"),
        (StructuredInverse(LinearInverseApprox()), "use method='lstsq'"),
    ],
)
def test_parameters_that_exclude_each_other(model, message):
    """Refused, with what to use instead."""
    with pytest.raises(ValueError, match=message):
        model.fit(family(2, 5, hermitian=True))


def test_indefinite_matrices_have_no_factor():
    """Named by row."""
    A = family(2, 5, hermitian=True)
    A[1] = -A[1]
    with pytest.raises(ValueError, match=r"rows \[1\] \(1 of 5\) are not positive definite"):
        StructuredInverse(Ridge(), "positive_definite").fit(A)


@pytest.mark.parametrize("inner", ["neural", "lstsq"])
@pytest.mark.parametrize("baseline", ["auto", None])
def test_structured_models_are_maps_of_all_entries(inner, baseline):
    """Their export computes the same, and their worst case over a region is above all samples."""
    region = FeasibleRegionSampler([[3, 1], [1, 2]], 0.1, structure="symmetric", random_state=0)
    X, Y = region.fit().sample(500)
    model = StructuredInverse(INNER[inner], baseline=baseline).fit(X)
    module = to_module(model, dtype="float64")
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.tensor(X)).numpy(), model.predict(X), atol=1e-12)
    proof = certify_region(model, region, max_time=None)
    assert np.abs(model.predict(X) - Y).max() <= proof.upper
    with pytest.raises(ValueError, match="whole symmetric"):
        to_module(StructuredInverse(Ridge()).fit(X))


# -- parametric families ---------------------------------------------------------------------------


def parameters(n_samples=300, seed=0):
    rng = np.random.default_rng(seed)
    return np.c_[rng.uniform(0, 1, n_samples), rng.uniform(1, 2, n_samples)]


@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor])
def test_families_are_fitted_bounded_and_refined(wrap):
    """A network of two parameters, refined and proven on the matrices that they stand for."""
    P, new = parameters(), parameters(50, seed=1)
    network = NeuralInverseRegressor(8, max_iter=5, random_state=0)
    model = CertifiedInverse(network, family=rotations, tol=1e-11).fit(P)
    assert model.n_features_in_ == model.estimator_.n_features_in_ == 2
    if wrap is torch.tensor:

        def torch_rotations(p):
            return torch.tensor(rotations(p.numpy()))

        model.set_params(family=torch_rotations)
    report = model.report(wrap(new))
    inverse = np.asarray(report.inverse)
    assert inverse.shape == (50, 2, 2)
    assert (np.asarray(report.bound) <= 1e-11).all()
    assert (report.status == "refined").all()
    assert (true_errors(rotations(new), inverse) <= np.asarray(report.bound)).all()
    x, bound = model.solve(wrap(new), wrap(np.ones((50, 2))), return_bound=True)
    np.testing.assert_allclose(
        np.asarray(x), np.linalg.solve(rotations(new), np.ones((50, 2, 1)))[..., 0], rtol=1e-9
    )
    assert (np.asarray(bound) <= 1e-11).all()


def test_bad_parameters_spoil_nothing():
    """NaN among the parameters never reaches the function; singular members are named."""
    P = parameters()
    model = CertifiedInverse(LinearInverseApprox(method="lstsq"), family=rotations).fit(P)
    new = parameters(10, seed=1)
    new[2, 0], new[3] = np.nan, (np.pi / 2, 0.0)  # [[0, -1], [0, 0]] but for rounding
    report = model.report(new)
    assert report.status[2] == "not finite"
    assert np.isfinite(np.delete(report.bound, [2, 3])).all()
    assert model.score(P) > 0.999999
    assert (cross_val_score(model, P, cv=3) > 0.999999).all()
    with pytest.raises(ValueError, match=r"rows \[2\]"):
        model.fit(new)


def stacked(P):
    """A family as one would write it first, which is not made for no parameters."""
    return np.stack([rotations(p[None])[0] for p in P])


def test_functions_that_cannot_do_without_parameters():
    """No parameters, or none that are finite, never reach the function."""
    P = parameters()
    model = CertifiedInverse(INNER["lstsq"], family=stacked).fit(P)
    assert model.predict(P[:0]).shape == (0, 2, 2)
    report = model.report(np.full((3, 2), np.nan))
    assert list(report.status) == ["not finite"] * 3
    assert report.inverse.shape == (3, 2, 2)
    da = pytest.importorskip("dask.array")
    lazy = model.predict(da.from_array(P, chunks=(100, 2)))
    np.testing.assert_allclose(lazy.compute(), model.predict(P), rtol=1e-12)


def test_families_that_change_their_mind():
    """Now and then real: embedded. Another order, or suddenly complex: refused."""
    P = parameters()

    def sometimes(p):
        return rotations(p) * np.exp(1j * p[:, :1, None]) if len(p) > 10 else rotations(p)

    model = CertifiedInverse(INNER["lstsq"], family=sometimes).fit(P)
    assert model.predict(P[:5]).dtype == np.complex128
    real = CertifiedInverse(INNER["lstsq"], family=rotations).fit(P)
    for other in (lambda p: rotations(p) * 1j, lambda p: np.tile(np.eye(3), (len(p), 1, 1))):
        with pytest.raises(ValueError, match="but in fit they had 4"):
            real.set_params(family=other).predict(P)


def test_scores_of_families():
    """The scorer takes matrices from the family, and a counterexample of one is refused."""
    P = parameters()
    model = CertifiedInverse(INNER["lstsq"], family=rotations, tol=1e-10).fit(P)
    assert -1e-9 < SingularDistanceScorer(min_distance=0.1)(model, P) <= 0
    search = GridSearchCV(model, {"order": [2, 3]}, scoring=SingularDistanceScorer(), cv=2).fit(P)
    assert -1e-9 < SingularDistanceScorer()(search, P) <= 0
    with pytest.raises(ValueError, match="model of parameters"):
        counterexample(model, np.eye(2))


def test_families_behind_pipelines():
    """The regressor may go through the function itself, and use the series of the inverse."""
    P = parameters()
    series = make_pipeline(
        FunctionTransformer(lambda p: rotations(p).reshape(-1, 4)), LinearInverseApprox(order=2)
    )
    model = CertifiedInverse(series, family=rotations, tol=1e-9).fit(P)
    assert (model.predict(P, return_bound=True)[1] <= 1e-9).all()
    frame = pytest.importorskip("pandas").DataFrame(P, columns=["angle", "ratio"])
    model = CertifiedInverse(INNER["lstsq"], family=rotations).fit(frame)
    assert list(model.feature_names_in_) == ["angle", "ratio"]
    expected = CertifiedInverse(INNER["lstsq"], family=rotations).fit(P).predict(P)
    np.testing.assert_array_equal(model.predict(frame), expected)

    def framed(p):
        return type(frame)(rotations(p).reshape(-1, 4))

    model = CertifiedInverse(INNER["lstsq"], family=framed).fit(P)
    np.testing.assert_array_equal(model.predict(P), expected.reshape(-1, 4))


def test_complex_families():
    """A function may return complex matrices; answers are complex."""
    P = parameters()
    model = CertifiedInverse(
        INNER["lstsq"], family=lambda p: rotations(p) * np.exp(1j * p[:, :1, None])
    )
    X, bound = model.fit(P).predict(P, return_bound=True)
    np.testing.assert_allclose(
        X, np.linalg.inv(rotations(P)) * np.exp(-1j * P[:, :1, None]), atol=1e-6
    )
    assert (bound <= 1e-6).all()


def test_robot_arm_by_its_angles():
    """The arm's Jacobian as a function of six angles, by an independent interpolation: its data."""
    arm = load_robot_arm()
    known = {row.tobytes(): A for row, A in zip(arm.parameters, arm.matrices, strict=True)}

    def jacobian(q):
        return np.array([known[row.tobytes()] for row in q]).reshape(-1, 6, 6)

    network = NeuralInverseRegressor(64, max_iter=20, random_state=0)
    model = CertifiedInverse(network, family=jacobian).fit(arm.parameters[:500])
    report = model.report(arm.parameters[500:])
    assert (report.bound <= 1e-6).all()
    assert np.mean(report.status == "refined") > 0.95


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p: rotations(p)[:-1], "from family for 300 rows"),
        (lambda p: p[:, :1] * np.ones(3), "rows of 3 entries"),
        (lambda p: np.ones((len(p), 2, 3)), "must be square"),
        (lambda p: np.full((len(p), 2, 2), np.nan), "what family returns"),
        (lambda p: np.ones((len(p), 2, 2)), "are singular"),
    ],
)
def test_functions_that_return_something_else(function, message):
    """Named, with the shape that is expected."""
    with pytest.raises(ValueError, match=message):
        CertifiedInverse(INNER["lstsq"], family=function).fit(parameters())


def test_targets_of_families():
    """Given inverses are used; anything else is refused."""
    P = parameters()
    model = CertifiedInverse(INNER["lstsq"], family=rotations)
    Y = np.linalg.inv(rotations(P))
    np.testing.assert_allclose(model.fit(P, Y).predict(P), model.fit(P).predict(P))
    with pytest.raises(ValueError, match="not the inverses of the matrices of the family"):
        model.fit(P, rotations(P))
    with pytest.raises(ValueError, match="a function in Python"):
        to_module(model.fit(P))


def test_memory_that_is_turned_as_it_is_read():
    """Results cannot be written to conjugates and negatives of other memory: they are refused."""
    model = LinearInverseApprox(np.eye(2) * (2 + 1j)).fit()
    Z = torch.eye(2, dtype=torch.complex128)[None] * (2 + 1j)
    with pytest.raises(ValueError, match="Got out"):
        model.predict(Z, out=torch.zeros(1, 2, 2, dtype=torch.complex128).conj())
    real = LinearInverseApprox(np.eye(2)).fit()
    out = torch._neg_view(torch.zeros(1, 2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="Got out"):
        real.predict(torch.eye(2, dtype=torch.float64)[None], out=out)


def test_computed_copies_may_differ():
    """The inverse of an embedding has two copies of each number, with errors of their own."""
    n, rng = 38, np.random.default_rng(56)
    C = np.tril(-np.ones((n, n)), -1) + np.eye(n)  # elimination lets its entries grow
    C[:, -1] = 1
    C = C * (1 + 0.3j * rng.standard_normal((n, n))) @ np.diag(np.logspace(0, -5, n))
    answer = LinearInverseApprox(C).fit().predict(C[None])[0]
    assert np.linalg.norm(np.eye(n) - C @ answer) < 1e-3


def test_models_of_other_real_matrices_refuse_complex_ones():
    """A model of real matrices of even order is one of complex ones only if these embed some."""
    model = LinearInverseApprox(np.diag([1.0, 2.0, 3.0, 4.0])).fit()
    with pytest.raises(ValueError, match="no embeddings of complex ones"):
        model.predict(np.eye(2)[None] + 0j)


def test_products_by_three_real_ones_are_allowed_for():
    """Of products that a device may form by three real ones the larger error is bounded."""
    four = Arithmetic(2.0**-53, 1e-300, 1e300, is_complex=True)
    three = Arithmetic(2.0**-53, 1e-300, 1e300, is_complex=True, by_three=True)
    for n in (1, 2, 5, 100, 10**6):
        u = Fraction(1, 2**53)
        gamma = [k * u / (1 - k * u) for k in (2 * n + 1, n + 4)]
        assert Fraction(four.gamma(n)) ** 2 >= 2 * gamma[0] ** 2 * (1 - u)
        assert Fraction(three.gamma(n)) ** 2 >= 10 * gamma[1] ** 2 * (1 - u)
        assert three.gamma(n) >= four.gamma(n)


@pytest.mark.parametrize("kind", [">f8", ">f4", ">i4", "longdouble", "object"])
def test_predictions_of_any_dtype_for_tensors(kind):
    """What another library answers may be of a dtype that torch does not know."""

    class Odd(BaseEstimator):
        def fit(self, X, y=None):
            self.n_features_in_ = X.shape[1]
            return self

        def predict(self, X):
            return np.linalg.inv(X.reshape(-1, 2, 2)).reshape(-1, 4).astype(kind)

    A = np.eye(2) * np.array([1.0, 0.5])[:, None, None]
    answer = CertifiedInverse(Odd()).fit(A).predict(torch.tensor(A))
    np.testing.assert_allclose(answer.numpy(), np.linalg.inv(A))


@pytest.mark.parametrize("power", [-990, -400, 400, 990])
def test_complex_systems_of_any_scale(power):
    """Matrices and right-hand sides, huge or tiny, column by column, change no bound."""
    Z = family(3, 20, complex=True)
    rng = np.random.default_rng(0)
    b = rng.standard_normal((20, 3, 2)) + 1j * rng.standard_normal((20, 3, 2))
    units = 2.0 ** np.array([-power // 3, power // 2])
    model = CertifiedInverse(LinearInverseApprox(), tol=1e-10).fit(Z)
    scaled = CertifiedInverse(LinearInverseApprox(), tol=1e-10).fit(Z * 2.0 ** (power // 4))
    x, bound = model.solve(Z, b * units, return_bound=True)
    y, other = scaled.solve(Z * 2.0 ** (power // 4), b * units, return_bound=True)
    exact = np.linalg.solve(Z, b)
    assert max(bound.max(), other.max()) <= 1e-10
    np.testing.assert_allclose(x / units, exact, rtol=1e-8)
    np.testing.assert_allclose(y * 2.0 ** (power // 4) / units, exact, rtol=1e-8)


def test_matrices_without_the_structure_are_outside():
    """As deep outside a region of symmetric matrices as they are not symmetric."""
    region = FeasibleRegionSampler([[3.0, 1.0], [1.0, 2.0]], 0.5, structure="symmetric").fit()
    A = np.array([[[3.0, 1.0], [1.0, 2.0]], [[3.0, 1.25], [0.75, 2.0]]])
    depth = region.decision_function(A)
    assert depth[0] > 0
    assert depth[1] == -0.25
    assert region.is_feasible(A).tolist() == [True, False]
