"""Several threads: the same bits, the caller's warnings and errors, and nothing left behind."""

import multiprocessing
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

import skinv._linalg.threads
from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    inv,
)
from skinv._arrays.warned import warn
from skinv._linalg.threads import in_threads
from skinv.bounds import residual_bound
from skinv.refinement import newton_schulz

rng = np.random.default_rng(0)
CENTER = 4 * np.eye(6) + rng.standard_normal((6, 6)) / 2
# Enough for several pieces, among them what is singular, far away and not finite.
MANY = CENTER + 0.2 * rng.standard_normal((30_000, 6, 6))
MANY[[5, 29_000]], MANY[777, 0, 0], MANY[15_000] = 1.0, np.nan, rng.standard_normal((6, 6))
FEW = MANY[:300:2]


@pytest.fixture
def several(monkeypatch):
    """As on a machine of four cores, whatever there is and is allowed."""
    monkeypatch.setattr(skinv._linalg.threads, "_n_threads", lambda: 4)
    monkeypatch.setattr(skinv._linalg.threads, "_cores", lambda: 4)
    monkeypatch.setattr(skinv._linalg.threads, "_STATE", skinv._linalg.threads._State())


def answers():
    """All that is computed piece by piece."""
    good = np.delete(FEW, np.flatnonzero(np.isnan(FEW).any(axis=(1, 2))), axis=0)
    series = LinearInverseApprox(CENTER, order=2).fit()
    learned = PolynomialInverseApprox(max_terms=20, on_extrapolation="keep").fit(good[3:])
    network = NeuralInverseRegressor(5, max_iter=1, random_state=0).fit(good[3:])
    for model in (series, learned, network):
        for X in (MANY, MANY.astype(np.float32), torch.from_numpy(MANY)):
            yield np.asarray(model.predict(X))
    yield LinearInverseApprox(CENTER + 0.1j).fit().predict(MANY + 0.1j)
    for model in (series, learned):
        report = CertifiedInverse(model, tol=1e-10).report(MANY)
        yield from (report.inverse, report.bound, report.status, report.radius, report.n_refine)
    yield CertifiedInverse(series).solve(MANY, np.ones((len(MANY), 6)))
    X = np.linalg.inv(np.nan_to_num(MANY) + np.eye(6) / 3)
    yield residual_bound(MANY, X)
    yield newton_schulz(MANY, X, 1)


def test_the_same_bits(several, monkeypatch):
    """However many threads there are: pieces do not depend on it, and BLAS has one in each."""
    before = [library.num_threads for library in ThreadpoolController().lib_controllers]
    many = list(answers())
    after = [library.num_threads for library in ThreadpoolController().lib_controllers]
    assert before == after
    monkeypatch.setattr(skinv._linalg.threads, "_n_threads", lambda: 1)
    for ours, alone in zip(many, answers(), strict=True):
        np.testing.assert_array_equal(ours, alone)


def test_all_pieces_once_on_several_threads(several):
    """Every piece is worked on once, by the caller's thread and by others, which wait for it."""
    seen, meeting = [], threading.Barrier(4)

    def work(piece):
        if piece.start < 4:
            meeting.wait(timeout=20)
        seen.append((piece.start, threading.get_ident()))

    in_threads(work, [slice(k, k + 1) for k in range(20)], np.empty(0))
    assert sorted(start for start, _ in seen) == list(range(20))
    assert len({thread for _, thread in seen}) == 4
    assert threading.get_ident() in {thread for _, thread in seen}


def test_warnings_and_errors(several):
    """Warnings are given once each, at the caller's line, and the first error is raised."""

    def work(piece):
        warn(f"piece {piece.start}")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        in_threads(work, [slice(k, k + 1) for k in range(9)], np.empty(0))
    assert [str(each.message) for each in caught] == [f"piece {k}" for k in range(9)]
    assert {each.filename for each in caught} == {__file__}

    def fail(piece):
        raise KeyError(piece.start)

    with pytest.raises(KeyError, match="0"):
        in_threads(fail, [slice(k, k + 1) for k in range(9)], np.empty(0))
    model = CertifiedInverse(LinearInverseApprox(CENTER), fallback="exact-raise").fit()
    with pytest.raises(ValueError, match=r"rows \[5, 777, 29000\]"):
        model.predict(MANY)
    assert model.predict(MANY[10:700]).shape == (690, 6, 6)


def test_calls_from_many_threads(several):
    """Calls at the same time do not mix, and leave BLAS as it was."""
    model = CertifiedInverse(LinearInverseApprox(CENTER), tol=1e-10).fit()
    expected = model.report(MANY)
    with threadpool_limits(2), ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(lambda _: model.report(MANY), range(12)))
        assert {each.num_threads for each in ThreadpoolController().lib_controllers} <= {1, 2}
        blas = ThreadpoolController().select(user_api="blas").lib_controllers
        assert {each.num_threads for each in blas} <= {2}
    for report in reports:
        np.testing.assert_array_equal(report.inverse, expected.inverse)
        np.testing.assert_array_equal(report.bound, expected.bound)


def test_blas_has_one_thread_meanwhile(several):
    """Whichever thread calls, and whoever has set a limit; and it gets its own back."""
    blas = ThreadpoolController().select(user_api="blas").lib_controllers

    def numbers():
        return {each.num_threads for each in blas}

    def call():
        seen = []
        in_threads(lambda _: seen.append(numbers()), [slice(0, 1), slice(1, 2)], np.empty(0))
        return seen

    before = numbers()
    with threadpool_limits(2), ThreadPoolExecutor(1) as pool:
        assert pool.submit(call).result() == call() == [{1}, {1}]
        assert numbers() == {2}
    assert numbers() == before


def test_a_fitted_model_is_shared(several):
    """Threads that ask a model for the first time, all at once, get what one would get."""
    A = FEW[3:40]

    def fitted():
        learned = PolynomialInverseApprox(max_terms=20, on_extrapolation="keep").fit(A)
        return learned, CertifiedInverse(learned, tol=1e-10).fit(A)

    def ask(models, start):
        learned, proven = models
        start()
        one, solve = proven.inverse_function(), proven.solve_function()
        return [
            learned.predict(A),
            learned.predict(A.astype(np.float32)),
            learned.predict(A.reshape(-1, 36), outputs=[3, 7]),
            np.array([one(a)[0] for a in A]),
            np.array([solve(a, np.ones(6))[0] for a in A]),
            inv(A[0]),
            inv(A[0, :3, :3]),
        ]

    alone = ask(fitted(), lambda: None)
    for _ in range(5):
        models, together = fitted(), threading.Barrier(6)
        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(ask, models, lambda b=together: b.wait(20)) for _ in range(6)]
            for each in asked:
                for ours, expected in zip(each.result(), alone, strict=True):
                    np.testing.assert_array_equal(ours, expected)


def test_a_region_is_sampled_from_many_threads():
    """No row is drawn twice, and all are in the region."""
    region = FeasibleRegionSampler(CENTER, 0.1, random_state=0).fit()
    with ThreadPoolExecutor(6) as pool:
        drawn = pool.map(lambda _: region.sample(500, return_inverse=False), range(24))
        rows = np.concatenate(list(drawn))
    assert len(np.unique(rows, axis=0)) == len(rows) == 12_000
    assert region.is_feasible(rows).all()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_workers_of_its_own(several):
    """Threads do not go along; a child that waited for them would wait for ever."""
    model = LinearInverseApprox(CENTER, order=2).fit()
    expected = model.predict(MANY)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(
        target=lambda: queue.put(np.array_equal(model.predict(MANY), expected, equal_nan=True))
    )
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    assert queue.get()


def test_as_many_as_the_process_gives():
    """Limits of BLAS and torch count, whoever set them."""
    with threadpool_limits(1):
        assert skinv._linalg.threads._n_threads() == 1
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert skinv._linalg.threads._n_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_half_precision_in_inference_mode(several):
    """Workers are not in the mode of the caller, and write to its memory."""
    model = CertifiedInverse(LinearInverseApprox(CENTER)).fit()
    A = torch.from_numpy(np.nan_to_num(MANY)).half()
    with torch.inference_mode():
        inside = model.report(A * 1)
    assert (inside.bound == model.report(A).bound).all()


def test_after_the_end_of_the_main_thread():
    """There are no workers any more; the caller's thread does all by itself."""
    code = """
import atexit, numpy as np, skinv
import skinv._linalg.threads as threads
threads._n_threads = lambda: 2
A = np.random.default_rng(0).standard_normal((60_000, 9, 9))
atexit.register(lambda: print(np.isfinite(skinv.inv(A)).all()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True", done.stderr
