"""Learned pseudo-inverses of matrices that are not square, and their proofs, in exact rationals."""

import ctypes
import pickle
import platform
import sys
from fractions import Fraction

import hostile
import numpy as np
import pandas
import pytest
import torch
from rectangles import KINDS, SHAPES, exact, squares
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    StructuredInverse,
)
from skinv.export import to_module

LEARNED = {
    "series": LinearInverseApprox(order=2),
    "affine": LinearInverseApprox(method="lstsq"),
    "polynomial": PolynomialInverseApprox(),
    "network": NeuralInverseRegressor(max_iter=3, random_state=0),
}


def family(shape=(3, 4), m=200, whole=False, seed=0, reach=0.1):
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((2, 3, *shape))
    parts = parts[0] + 1j * parts[1] if whole else parts[0]
    parts[0] += 3 * np.eye(*shape)
    return parts[0] + reach * np.einsum("kp,pij->kij", rng.uniform(-1, 1, (m, 2)), parts[1:])


def errors(X, A):
    true = np.linalg.pinv(A)
    return np.linalg.norm(X - true, axis=(1, 2)) / np.linalg.norm(true, axis=(1, 2))


@pytest.mark.parametrize("whole", [False, True], ids=("real", "complex"))
@pytest.mark.parametrize("shape", [(3, 4), (4, 3)], ids=str)
@pytest.mark.parametrize("name", LEARNED)
def test_pseudo_inverses_are_learned(name, shape, whole):
    A = family(shape, whole=whole)
    model = clone(LEARNED[name]).fit(A[::2])
    X = model.predict(A[1::2])
    assert X.shape == (100, *shape[::-1])
    assert errors(X, A[1::2]).max() < {"series": 0.1, "affine": 0.05}.get(name, 1e-3)
    assert model.score(A[1::2]) > 0.95
    # Whatever was learned, columns lie in the range of the adjoint.
    side = np.linalg.pinv(A[1::2]) @ A[1::2] if shape[0] < shape[1] else None
    if side is not None:
        assert np.abs(side @ X - X).max() < 1e-12
    function = model.inverse_function()
    assert np.abs(function(A[1]) - X[0]).max() <= 1e-9 * np.abs(X[0]).max()
    if not whole:
        narrow = np.full(shape, 100, dtype=np.int8)  # whose products int8 cannot hold
        np.testing.assert_array_equal(function(narrow), function(narrow.astype(float)))
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(A[1::2]), X)


def test_series_is_that_of_gram_matrices():
    A0 = family()[0]
    A = family(seed=0)[1:20]
    for order in (1, 2, 3):
        model = LinearInverseApprox(A0, order=order).fit()
        X = model.predict(A)
        B = np.linalg.inv(A0 @ A0.T)
        N = np.eye(3) - A @ A.swapaxes(1, 2) @ B
        left = np.eye(3) - A @ X
        assert np.abs(left - np.linalg.matrix_power(N, order + 1)).max() < 1e-12


class Guess(RegressorMixin, BaseEstimator):
    """Pseudo-inverses that are off by some share, for rows of matrices of a shape."""

    def __init__(self, shape, share):
        self.shape = shape
        self.share = share

    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        A = X.reshape(len(X), *self.shape)
        rng = np.random.default_rng(0)
        size = np.abs(A).max(axis=(1, 2), keepdims=True)
        with np.errstate(all="ignore"):
            Y = np.stack([self._inverse(M) for M in A / size]) / size
            noise = rng.standard_normal(Y.shape) * np.abs(Y).max(axis=(1, 2), keepdims=True)
            return (Y + self.share * noise).reshape(len(X), -1)

    def _inverse(self, M):
        finite = np.isfinite(M).all()
        return np.linalg.pinv(M, rcond=0) if finite else np.full(self.shape[::-1], 1.0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "complex" not in kind])
@pytest.mark.parametrize("share", [0.0, 1e-2])
def test_bounds_hold(kind, share):
    for k, (m, n) in enumerate(SHAPES[1:3] + SHAPES[4:]):
        rng = np.random.default_rng(k)
        A = np.asarray(KINDS[kind](rng, 1 if "subnormal" in kind else 8, m, n))
        A = A.swapaxes(1, 2) if k % 2 else A
        shape, safe = A.shape[1:], np.random.default_rng(0).standard_normal((9, *A.shape[1:]))
        for tol, fallback in ((1e-7, "exact"), (0.5, "nan"), (1e-12, "keep")):
            model = CertifiedInverse(Guess(shape, share), tol=tol, fallback=fallback).fit(safe)
            _check(A, model.report(A), tol)


def _check(A, report, tol):
    with np.errstate(all="ignore"):
        radius = report.radius
    for a, x, bound, status, radii in zip(
        A, report.inverse, report.bound, report.status, radius, strict=True
    ):
        proven = status in ("predicted", "refined", "exact")
        assert proven == (bound <= tol)
        true = exact(a, 0.0) if np.isfinite(a).all() else None
        if not np.isfinite(bound):
            assert not proven
        else:
            assert Fraction(float(bound)) ** 2 * squares(true) >= squares(
                true - hostile.rational(x)
            )
        for i, j in np.ndindex(x.shape):
            if np.isfinite(radii[i, j]) and not np.iscomplexobj(A):
                off = Fraction(int(true[i, j].p), int(true[i, j].q)) - Fraction(float(x[i, j]))
                assert abs(off) <= Fraction(float(radii[i, j]))


@pytest.mark.parametrize("name", LEARNED)
def test_what_is_learned_is_proven(name):
    A = family((6, 7), 300)
    seen, unseen = A[::2], A[1::2].copy()
    unseen[3, 2, 1] = np.nan
    unseen[4, 0] = unseen[4, 1]  # without full rank
    model = CertifiedInverse(clone(LEARNED[name]), tol=1e-10).fit(seen)
    report = model.report(unseen)
    assert list(report.status[3:5]) == ["not finite", "rejected"]
    good = np.isfinite(report.bound)
    assert good.sum() == len(unseen) - 2
    assert (report.bound[good] <= 1e-10).all()
    assert errors(report.inverse[good], unseen[good]).max() < 2e-10
    assert np.isnan(report.inverse[~good]).all()
    few = np.flatnonzero(good)[:3]
    _check(unseen[few], model.report(unseen[few]), 1e-10)
    again = pickle.loads(pickle.dumps(model)).predict(unseen)
    assert np.array_equal(again, report.inverse, equal_nan=True)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="codes of x86"
)
@pytest.mark.parametrize("code", [0x400, 0x800, 0xC00], ids=["down", "up", "to zero"])
def test_other_directions_of_rounding(code):
    """Norms of what is huge saturate there, at the root of the largest number."""
    rounding = ctypes.CDLL("libm.so.6").fesetround
    model = CertifiedInverse(LinearInverseApprox()).fit(family())
    for scale in (-1000, -700, -520, 0, 520):
        A = np.ldexp(family(m=3), scale)
        rounding(code)
        try:
            report = model.report(A)
            assert report.radius.shape == (3, 4, 3)  # which is found out now
        finally:
            rounding(0)
        _check(A, report, 1e-6)


def test_libraries_precisions_and_layouts():
    A = family()
    model = CertifiedInverse(LinearInverseApprox(order=3), tol=1e-5).fit(A)
    X = model.predict(A)
    tensor, bound = model.predict(torch.from_numpy(A), return_bound=True)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), X)
    assert bound.dtype == torch.float64
    radius = model.report(torch.from_numpy(A)).radius
    radius[:, 1] = 0.0  # in memory of its own
    assert (radius[:, 0] > 0).all()
    assert np.array_equal(model.predict(A[:3].tolist()), X[:3])
    turned = np.asfortranarray(A)
    assert np.array_equal(model.predict(turned), X)
    with pytest.warns(UserWarning, match=r"torch\.linalg\.pinv"):
        model.predict(torch.from_numpy(A).requires_grad_())
    narrow = model.report(A.astype(np.float32))
    assert narrow.inverse.dtype == np.float32
    assert (narrow.bound <= 1e-5).all()
    assert model.predict(A[:0]).shape == (0, 4, 3)
    plain = LinearInverseApprox().fit(A)
    assert plain.predict(A.astype(np.float16)).dtype == np.float16
    assert plain.predict(torch.from_numpy(A).half()).dtype == torch.float16
    before = A.copy()
    model.report(A)
    assert np.array_equal(A, before)


def test_others_learn_from_rows():
    A = family()
    model = CertifiedInverse(KernelRidge(kernel="rbf", alpha=1e-9), tol=1e-8).fit(A[::2])
    assert (model.report(A[1::2]).bound <= 1e-8).all()
    assert model.score(A[1::2]) > 0.9999
    Y = np.linalg.pinv(A)
    fitted = CertifiedInverse(LinearInverseApprox()).fit(A, Y)
    assert np.array_equal(
        fitted.predict(A), CertifiedInverse(LinearInverseApprox()).fit(A).predict(A)
    )
    series = LinearInverseApprox().fit(A)
    for wrapped in (FrozenEstimator(series), series):
        report = CertifiedInverse(wrapped).report(A)
        assert (report.bound <= 1e-6).all()
    square = family((3, 3)).reshape(200, 9)
    named = pandas.DataFrame(square, columns=[f"a{k}" for k in range(9)])
    assert not hasattr(CertifiedInverse(series).fit(named).fit(A), "feature_names_in_")


def test_searches_and_pipelines():
    A = family()
    search = GridSearchCV(LinearInverseApprox(), {"order": [1, 2, 3]}, cv=3).fit(A)
    assert search.best_params_ == {"order": 3}
    assert search.predict(A).shape == (200, 4, 3)
    searched = CertifiedInverse(search, tol=1e-9).fit(A)
    assert (searched.report(A).bound <= 1e-9).all()
    nested = GridSearchCV(
        CertifiedInverse(make_pipeline(PolynomialInverseApprox())), {"tol": [1e-3, 1e-9]}, cv=2
    ).fit(A)
    assert nested.best_estimator_.predict(A).shape == (200, 4, 3)


def test_complex_stacks_go_through_regions():
    A = family(whole=True)
    pipeline = make_pipeline(FeasibleRegionSampler(), LinearInverseApprox(order=3))
    model = CertifiedInverse(pipeline, tol=1e-9).fit(A)
    report = model.report(np.concatenate([A[:2], 2 * A[:1]]))
    assert list(report.status) == ["refined", "refined", "exact"]
    A[3, 1, 1] += 1j * np.inf
    with pytest.raises(ValueError, match=r"rows \[3\]"):
        CertifiedInverse(pipeline).fit(A)


def test_what_is_kept_without_a_proof_is_inaccurate():
    A = family(m=9)
    A[3] = 0
    model = CertifiedInverse(LinearInverseApprox(), max_refine=0, fallback="keep").fit(A[4:])
    assert set(model.report(A).status) == {"inaccurate"}


def test_rows_and_columns_of_dask_arrays():
    da = pytest.importorskip("dask.array")
    A = family()
    for model in (LinearInverseApprox().fit(A), CertifiedInverse(LinearInverseApprox()).fit(A)):
        lazy = model.predict(da.from_array(A, chunks=(70, 3, 4)))
        assert np.array_equal(lazy.compute(), model.predict(A))


def test_damping_is_more_columns():
    A = family()
    A[7, 0] = A[7, 1]
    damped = np.concatenate([A, np.broadcast_to(0.1 * np.eye(3), (len(A), 3, 3))], axis=2)
    X = CertifiedInverse(PolynomialInverseApprox(), tol=1e-9).fit(damped[8:]).predict(damped)
    square = A @ A.swapaxes(1, 2) + 0.01 * np.eye(3)
    assert np.abs(X[:, :4] - A.swapaxes(1, 2) @ np.linalg.inv(square)).max() < 1e-7


def test_errors_say_what_to_do():
    A, square = family(), family((3, 3))
    model, series = LinearInverseApprox().fit(A), LinearInverseApprox().fit(A)
    certified = CertifiedInverse(LinearInverseApprox()).fit(A)
    cases = [
        (lambda: model.predict(square), r"fitted to matrices of shape \(3, 4\)"),
        (lambda: model.predict(A.reshape(200, 12)), "pass a stack"),
        (lambda: model.predict(A.swapaxes(1, 2)), r"shape \(4, 3\)"),
        (lambda: certified.predict(square), "fitted to"),
        (lambda: LinearInverseApprox().fit(square).predict(A), "square ones"),
        (lambda: model.predict(A, out=np.empty((200, 4, 3))), "leave it out"),
        (lambda: model.predict(A, outputs=[0]), "leave it out"),
        (lambda: to_module(model), "Gram"),
        (lambda: certified.solve(A, np.ones((200, 3))), "predict"),
        (lambda: certified.inverse_function(), "skinv.pinv"),
        (lambda: CertifiedInverse(LinearInverseApprox(), norm="inf").fit(A), "norm='fro'"),
        (lambda: LinearInverseApprox().fit(A, A), "pseudo-inverses"),
        (lambda: StructuredInverse(KernelRidge(), "symmetric").fit(A), "skinv.pinv"),
        (lambda: LinearInverseApprox(np.eye(3)[:2]).fit(A), r"shape \(2, 3\)"),
        (lambda: model.fit(np.where(A[3, 1, 1] == A, np.nan, A)), r"rows \[3\]"),
        (lambda: model.fit(A * [[[1], [1], [0]]]), "singular"),
        (lambda: LinearInverseApprox().fit(A * 1e160), "power of two"),
        (lambda: CertifiedInverse(KernelRidge()).fit(A * 1e-160), "power of two"),
        (lambda: CertifiedInverse(FrozenEstimator(series)).fit(family((2, 8))), r"\(3, 4\)"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    # A failed fit leaves a model that can be fitted to something else.
    assert LinearInverseApprox().fit(A).fit(square).predict(square).shape == square.shape
    with pytest.raises(ValueError, match="tol"):
        CertifiedInverse(LinearInverseApprox(), fallback="raise", max_refine=0).fit(A).predict(
            2 * A
        )
