"""Samplers of matrices that are not square, and scores of their pseudo-inverses.

The oracles are NumPy's pseudo-inverses, linear programs, and the same matrices in other units.
"""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from test_rectangular_regions import every_norm, every_shape, family, fitted, true_distance

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    SingularDistanceScorer,
)
from skinv.bounds import certify_region, taylor_bound
from skinv.matrices import AmbiguousShapeWarning, embed_complex, extract_complex
from skinv.metrics import absolute_errors, relative_errors, residual_norms


@every_shape
@every_norm
def test_members_and_samples(shape, norm):
    """Data and samples are feasible, samples come with pseudo-inverses, and stacks come back."""
    A = family(shape)
    m, n = shape
    sampler = fitted(A, norm)
    assert sampler.n_features_in_ == m * n
    assert sampler.center_.shape == shape
    assert sampler.is_feasible(A).all()
    assert sampler.is_feasible(A.astype(np.float32)).all()
    X, Y = sampler.sample(40)
    assert X.shape == Y.shape == (40, m * n)
    stack = X.reshape(-1, m, n)
    assert sampler.is_feasible(stack).all()
    assert sampler.is_feasible(X).all()
    np.testing.assert_allclose(Y.reshape(-1, n, m), np.linalg.pinv(stack), rtol=1e-9, atol=1e-12)
    mixed = np.concatenate([A[:3], A[:2] + 1])
    np.testing.assert_array_equal(sampler.is_feasible(mixed), [True] * 3 + [False] * 2)
    answer = sampler.transform(mixed)
    assert answer.shape == mixed.shape
    np.testing.assert_array_equal(answer[:3], A[:3])
    assert np.isnan(answer[3:]).all()
    moved = np.asarray(sampler.set_params(on_infeasible="project").transform(mixed))
    assert sampler.is_feasible(moved).all()
    assert (sampler.decision_function(mixed)[3:] < 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "mahalanobis"])
def test_uncertified_regions_are_tested_matrix_by_matrix(norm):
    """Each sample has full rank and keeps the distance; deficient matrices are not feasible."""
    A = family((2, 3), spread=0.6)
    sampler = fitted(A, norm, min_distance=0.1)
    assert not sampler.is_certified_
    X = sampler.sample(50, return_inverse=False).reshape(-1, 2, 3)
    kind = "l2" if norm == "mahalanobis" else norm
    assert all(true_distance(M, kind) >= 0.1 * (1 - 1e-9) for M in X[:10])
    deficient = sampler.center_.copy()
    deficient[1] = deficient[0]
    wide = fitted(A, norm, 1e3)
    np.testing.assert_array_equal(
        wide.is_feasible(np.stack([deficient, sampler.center_])), [False, True]
    )


@pytest.mark.parametrize("norm", ["linf", "mahalanobis"])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_units_change_nothing(norm, shape):
    """Membership, certificates and samples are the same, but for the units of the samples."""
    rng = np.random.default_rng(4)
    A = family(shape)
    units = 2.0 ** (rng.integers(-40, 40, (shape[0], 1)) + rng.integers(-40, 40, shape[1]))
    plain, other = fitted(A, norm), fitted(A * units, norm)
    assert plain.is_certified_
    assert other.is_certified_
    some = np.concatenate([A, 1.5 * A - 0.5 * A.mean(axis=0), A + 1])
    inside = plain.is_feasible(some)
    assert inside.any()
    assert not inside.all()
    np.testing.assert_array_equal(other.is_feasible(some * units), inside)
    X, Y = (s.sample(20, return_inverse=False).reshape(-1, *shape) for s in (plain, other))
    np.testing.assert_array_equal(X * units, Y)
    for sampler in (fitted(A, norm, 1e3), fitted(A * units, norm, 1e3)):
        assert norm == "linf" or not sampler.is_certified_


@every_norm
def test_complex_regions(norm):
    """They are those of embeddings, and samples are such."""
    rng = np.random.default_rng(5)
    Z = family((2, 3)) + 1j * (1 + 0.03 * rng.standard_normal((60, 2, 3)))
    sampler = fitted(Z, norm)
    assert sampler.center_.shape == (4, 6)
    assert sampler.is_feasible(Z).all()
    np.testing.assert_array_equal(sampler.transform(Z), Z)
    X, Y = sampler.sample(5)
    drawn = extract_complex(X.reshape(-1, 4, 6))
    np.testing.assert_array_equal(embed_complex(drawn), X.reshape(-1, 4, 6))
    np.testing.assert_allclose(extract_complex(Y.reshape(-1, 6, 4)), np.linalg.pinv(drawn))
    around = FeasibleRegionSampler(Z[0], 0.01 + 0.02j * np.ones((2, 3)), random_state=0).fit()
    off = extract_complex(around.sample(200, return_inverse=False).reshape(-1, 4, 6)) - Z[0]
    assert 0.009 < np.abs(off.real).max() <= 0.01 + 1e-15
    assert 0.018 < np.abs(off.imag).max() <= 0.02 + 1e-15


def test_the_life_of_a_sampler():
    """Clones, pickles, tensors, lists, blocks, frames and devices."""
    import dask.array

    A = family((2, 3))
    sampler = fitted(A)
    again = pickle.loads(pickle.dumps(sampler))
    for other in (again, clone(sampler).fit(A.tolist()), clone(sampler).fit(torch.tensor(A))):
        assert other.margin_ == sampler.margin_
        np.testing.assert_array_equal(other.sample(3)[1], clone(sampler).fit(A).sample(3)[1])
    answer = sampler.transform(torch.tensor(A, dtype=torch.float32))
    assert answer.dtype == torch.float32
    assert answer.shape == A.shape
    blocks = dask.array.from_array(A, chunks=(25, 2, 3))
    np.testing.assert_array_equal(sampler.transform(blocks).compute(), A)
    X, Y = sampler.sample(10, chunks=4)
    product_ = X.compute().reshape(-1, 2, 3) @ Y.compute().reshape(-1, 3, 2)
    np.testing.assert_allclose(product_, np.broadcast_to(np.eye(2), (10, 2, 2)), atol=1e-12)
    X, Y = sampler.sample(4, device="cpu", dtype=torch.float64)
    torch.testing.assert_close(Y.reshape(-1, 3, 2), torch.linalg.pinv(X.reshape(-1, 2, 3)))
    assert sampler.set_output(transform="pandas").transform(A).shape == (60, 6)
    kept, targets = fitted(A, on_infeasible="drop", radius=0.05).fit_resample(A, np.arange(60))
    assert kept.shape[1:] == (2, 3)
    assert 0 < len(kept) == len(targets) < 60


def test_frames_forget_shapes():
    """Rows of 16 numbers are square matrices to regressors: who makes them of others is told."""
    region = FeasibleRegionSampler().set_output(transform="pandas")
    with pytest.warns(AmbiguousShapeWarning, match="set_output"):
        frame = region.fit_transform(family((2, 8)))
    assert frame.shape[1] == 16
    assert region.fit_transform(family((2, 3))).shape[1] == 6
    assert region.transform(family((2, 3)).reshape(-1, 6)).shape[1] == 6


def test_pipelines_and_searches():
    """Stacks go through a pipeline to a model, proofs wrap both, and a search refits them."""
    A = family((2, 3), 80)
    Y = np.linalg.pinv(A)
    pipeline = make_pipeline(FeasibleRegionSampler(norm="l2"), LinearInverseApprox())
    mixed = np.concatenate([A[:3], A[:1] + 1])
    assert np.isnan(pipeline.fit(A).predict(mixed)[3:]).all()
    assert list(CertifiedInverse(pipeline).fit(A).report(mixed).status[2:]) == ["refined", "exact"]
    search = GridSearchCV(
        pipeline.set_params(feasibleregionsampler__on_infeasible="project"),
        {"feasibleregionsampler__radius": [0.01, 0.3]},
        scoring=SingularDistanceScorer("neg_relative_error"),
        cv=3,
        error_score="raise",
    ).fit(A)
    assert search.best_params_ == {"feasibleregionsampler__radius": 0.3}
    np.testing.assert_allclose(search.predict(A), Y, atol=0.05)
    X, P = fitted(A).sample(200)
    stack, inverses = X.reshape(-1, 2, 3), P.reshape(-1, 3, 2)
    assert LinearInverseApprox().fit(stack, inverses).score(stack, inverses) > 0.9


@pytest.mark.parametrize(
    ("parameters", "X", "message"),
    [
        ({}, np.ones((5, 6)), r"as a stack \(n_samples, m, n\)"),
        ({}, np.ones((5, 2, 3)), "center has no full rank"),
        ({"structure": "symmetric"}, family((2, 3)), "symmetric ones are square"),
        ({"center": np.eye(2)}, family((2, 3)), r"center of shape \(2, 2\).*shape \(2, 3\)"),
        ({"center": np.eye(2, 3)}, family((3, 2)), r"center of shape \(2, 3\).*shape \(3, 2\)"),
        ({"center": np.eye(4, 9)}, family((6, 6)), r"center of shape \(4, 9\).*shape \(6, 6\)"),
        ({"center": np.eye(2, 3), "radius": np.ones((3, 2))}, None, r"radius of shape \(3, 2\)"),
        ({"center": np.eye(2, 3), "radius": -np.ones((2, 3))}, None, "finite and >= 0"),
        ({"center": np.full((2, 3), np.inf), "radius": 1.0}, None, "center contains NaN or inf"),
        ({"center": np.ones((1, 2, 3)), "radius": 1.0}, None, "center of shape"),
    ],
)
def test_fits_that_are_refused(parameters, X, message):
    """Each fault is a ValueError that names it."""
    with pytest.raises(ValueError, match=message):
        FeasibleRegionSampler(**parameters).fit(X)


def test_centres_that_are_taken():
    """A matrix, or its entries where the data tell the shape; rows go with the former."""
    A = family((2, 3))
    center = A.mean(axis=0)
    for given, X in ((center, A), (center.ravel(), A), (center, A.reshape(60, -1))):
        assert FeasibleRegionSampler(given).fit(X).center_.shape == (2, 3)
    alone = FeasibleRegionSampler(center.tolist(), 0.1 * np.ones((2, 3))).fit()
    assert alone.center_.shape == alone.radius_.shape == (2, 3)


@pytest.mark.parametrize(
    ("shape", "X", "message"),
    [
        ((4, 9), np.ones((5, 6, 6)), r"shape \(6, 6\), but those of the region.*\(4, 9\)"),
        ((4, 9), np.ones((5, 9, 4)), r"shape \(9, 4\), but those of the region.*\(4, 9\)"),
        ((4, 9), np.ones((5, 4, 9)) * 1j, "Got complex matrices"),
        ((4, 9), np.ones((4, 9)), r"one matrix A: pass A\[None\]"),
        ((4, 9), np.ones((2, 5, 4, 9)), r"stack of stacks: pass X\.reshape\(-1, 4, 9\)"),
        ((4, 9), np.ones((5, 35)), "35 features"),
        ((6, 6), np.ones((5, 4, 9)), r"shape \(4, 9\), but those of the region.*\(6, 6\)"),
    ],
)
def test_matrices_of_other_shapes_are_refused(shape, X, message):
    """Even if they have as many entries; rows are unambiguous."""
    sampler = fitted(family(shape))
    for method in (sampler.transform, sampler.is_feasible, sampler.decision_function):
        with pytest.raises(ValueError, match=message):
            method(X)


def test_what_takes_square_regions_only_says_so():
    """And what to do instead."""
    sampler = fitted(family((6, 6))[:, :4])
    model = LinearInverseApprox(np.eye(6)).fit()
    with pytest.raises(ValueError, match=r"shape \(4, 6\), .*X\.reshape\(-1, 4, 6\).*skinv\.pinv"):
        certify_region(model, sampler)
    with pytest.raises(ValueError, match=r"one square matrix is expected.*skinv\.pinv"):
        taylor_bound(np.eye(2, 3), 0.1)


# -- scores ------------------------------------------------------------------------------------


class Scaled:
    """Pseudo-inverses, off by a share."""

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return 1.001 * np.linalg.pinv(np.asarray(X))


@pytest.mark.parametrize("shape", [(2, 3), (4, 2)])
def test_scores(shape):
    """Near deficient matrices are left out, and errors are those of pseudo-inverses."""
    rng = np.random.default_rng(6)
    A = rng.standard_normal((50, *shape))
    Y, k = np.linalg.pinv(A), min(shape)
    np.testing.assert_allclose(relative_errors(Y, 1.1 * Y), 0.1)
    np.testing.assert_allclose(residual_norms(A, 1.1 * Y), 0.1 * np.sqrt(k))
    np.testing.assert_allclose(absolute_errors(Y[:1], Y[:1] + 1), 1)
    least = np.linalg.svd(A, compute_uv=False)[:, -1]
    for metric, expected in (
        ("neg_relative_error", 1e-3),
        ("neg_residual", 1e-3 * np.sqrt(k)),
        ("neg_mean_absolute_error", 1e-3 * np.abs(Y[least >= 0.5]).mean()),
        (lambda X, y, y_pred: np.abs(y_pred - y).max(axis=1), None),
    ):
        scorer = SingularDistanceScorer(metric, min_distance=0.5)
        found = -scorer(Scaled(), A)
        assert found == pytest.approx(-scorer(Scaled(), A, Y))
        assert expected is None or found == pytest.approx(expected)
    assert scorer.profile(Scaled(), A, n_bins=2).n_left_out == (least < 0.5).sum()
    with pytest.raises(ValueError, match="do not match"):
        residual_norms(A, A)
