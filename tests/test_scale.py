"""Dask: lazy results block by block, streams of samples, searches on a cluster, little memory."""

import os
import pickle
import re
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
from backends import every_complex_dtype
from conftest import random_family
from dask.distributed import Client, LocalCluster
from exhaustive import exhaustive
from scipy.stats import kstest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    SingularDistanceScorer,
    StructuredInverse,
)

N = 3
CHUNKS = (70, 0, 129, 1)
compute = partial(dask.compute, scheduler="synchronous")


@pytest.fixture(scope="module")
def family():
    """200 matrices, one of them singular and one far away."""
    A = random_family(N, sum(CHUNKS), spread=0.2)[1]
    A[75, 0], A[130] = 0.0, 9 * np.eye(N)
    return A


@pytest.fixture(scope="module")
def fitted():
    """Estimators fitted to well-behaved matrices."""
    A = random_family(N, 300, spread=0.2, seed=0)[1]
    linear = LinearInverseApprox().fit(A)
    network = NeuralInverseRegressor(8, max_iter=2, random_state=0).fit(A)
    rows = A.reshape(300, -1)
    forest = RandomForestRegressor(n_estimators=3, random_state=0).fit(rows, rows)
    sampler = FeasibleRegionSampler(radius=0.4, random_state=0).fit(A)
    determinant = NeuralInverseRegressor(4, max_iter=1, random_state=0).fit(A, np.linalg.det(A))
    return SimpleNamespace(
        linear=linear,
        network=network,
        determinant=determinant,
        certified=CertifiedInverse(network, tol=1e-3, verbose=1).fit(A),
        forest=CertifiedInverse(forest, fallback="nan").fit(A),
        sampler=sampler,
        pipeline=make_pipeline(sampler, linear),
    )


METHODS = {
    "linear": lambda f: f.linear.predict,
    "network": lambda f: f.network.predict,
    "diagonal": lambda f: partial(f.network.predict, outputs=np.diag_indices(N)),
    "column": lambda f: partial(f.linear.predict, outputs=[0, 3, 6]),
    "other quantity": lambda f: f.determinant.predict,
    "certified": lambda f: f.certified.predict,
    "with bounds": lambda f: partial(f.certified.predict, return_bound=True),
    "report": lambda f: f.certified.report,
    "of a forest": lambda f: f.forest.report,
    "transform": lambda f: f.sampler.transform,
    "depth": lambda f: f.sampler.decision_function,
    "feasible": lambda f: f.sampler.is_feasible,
    "pipeline": lambda f: f.pipeline.predict,
}
LAYOUTS = {"rows": (N * N,), "stack": (N, N)}


def as_dict(result):
    """Return the parts of a result by name or number."""
    if isinstance(result, dict):  # the tolerance is a number, whatever the blocks
        return {key: values for key, values in result.items() if key != "tol"}
    return dict(enumerate(result if isinstance(result, tuple) else (result,)))


def by_hand(method, A):
    """Call a method on the blocks, one after the other, and concatenate its results."""
    parts = [as_dict(method(block)) for block in np.split(A, np.cumsum(CHUNKS)[:-1])]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


class Blocks:
    """Something to make a dask array of, which counts the blocks that are read."""

    def __init__(self, A):
        self.A, self.shape, self.dtype, self.ndim = A, A.shape, A.dtype, A.ndim
        self.read = 0

    def __getitem__(self, index):
        self.read += 1
        return self.A[index]


def lazily(A):
    """Return a dask array with CHUNKS, and the count of what is read of it."""
    blocks = Blocks(A)
    return da.from_array(blocks, chunks=(CHUNKS, *A.shape[1:]), name=False, meta=A[:0]), blocks


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8", "int32"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", METHODS)
def test_lazy_is_eager_block_by_block(fitted, family, name, layout, dtype):
    """To the bit, with the same dtypes and shapes, which are known before anything is read.

    Against the eager result of all rows at once there is rounding: sums in products of matrices are
    taken in an order that depends on their number.
    """
    method = METHODS[name](fitted)
    A = np.round(8 * family).astype(dtype) / 1 if dtype == "int32" else family.astype(dtype)
    A = A.astype(dtype).reshape(-1, *LAYOUTS[layout])
    X, blocks = lazily(A)
    later = method(X)
    assert blocks.read == 0
    assert isinstance(later, da.Array) or type(later) is type(method(A))
    expected, at_once, now = by_hand(method, A), as_dict(method(A)), compute(as_dict(later))[0]
    assert list(now) == list(expected) == list(at_once)
    for key, values in as_dict(later).items():
        assert isinstance(values, da.Array)
        assert values.dtype == now[key].dtype == expected[key].dtype
        assert values.shape == now[key].shape == at_once[key].shape
        assert values.chunks[0] == CHUNKS
        np.testing.assert_array_equal(now[key], expected[key])
        if now[key].dtype.kind == "f" and key != "residual":
            tolerance = {2: 1e-2, 4: 1e-3, 8: 1e-6}[now[key].dtype.itemsize]
            np.testing.assert_allclose(now[key], at_once[key], rtol=tolerance, atol=tolerance)
        elif key != "residual":
            assert np.mean(now[key] == at_once[key]) > 0.97
    assert blocks.read == len(CHUNKS)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_parts_of_a_report_come_from_one_call(fitted, family, monkeypatch, scheduler):
    """Of each block report is called once, by one and the same copy of the model."""
    calls = []
    report = CertifiedInverse.report

    def counted(self, X, **options):
        calls.append((self, len(X)))
        return report(self, X, **options)

    monkeypatch.setattr(CertifiedInverse, "report", counted)
    later = fitted.certified.report(lazily(family)[0])
    calls.clear()
    inverse, bound = fitted.certified.predict(lazily(family)[0], return_bound=True)
    total, *_ = dask.compute(
        (later.bound < 1).sum(), later.inverse, later.status, scheduler=scheduler
    )
    assert total > 190
    models, sizes = zip(*(call for call in calls if call[0] is not fitted.certified), strict=True)
    assert sorted(sizes) == sorted(CHUNKS)
    assert len(set(map(id, models))) == 1
    assert models[0].verbose == 0
    assert compute(inverse, bound)[0].shape == family.shape


def test_later_fits_change_nothing(fitted, family):
    """What is computed later is computed by the model as it was."""
    for model in (fitted.linear, fitted.network, CertifiedInverse(clone(fitted.linear))):
        model = clone(model).fit(family[:70])
        expected = by_hand(model.predict, family)[0]
        later = model.predict(lazily(family)[0])
        model.fit(family[:70] + np.eye(N))
        assert not np.allclose(model.predict(family), expected, equal_nan=True)
        np.testing.assert_array_equal(later.compute(scheduler="synchronous"), expected)


@pytest.mark.parametrize("name", METHODS)
def test_unknown_sizes_of_blocks(fitted, family, name):
    """A dask array that was filtered, some of its blocks to nothing, has NaN for its length."""
    method = METHODS[name](fitted)
    X, blocks = lazily(family)
    keep = (family[:, 0, 0] > np.median(family[:, 0, 0])) & (np.arange(len(family)) > 80)
    later = as_dict(method(X[da.from_array(keep, chunks=(CHUNKS,))]))
    assert blocks.read == 0
    (now,) = compute(later)
    ends = np.cumsum(CHUNKS)[:-1]
    kept = [A[k] for A, k in zip(np.split(family, ends), np.split(keep, ends), strict=True)]
    parts = [as_dict(method(A)) for A in kept]
    for key, values in later.items():
        assert np.isnan(values.shape[0])
        assert values.shape[1:] == now[key].shape[1:]
        np.testing.assert_array_equal(now[key], np.concatenate([part[key] for part in parts]))


@pytest.mark.parametrize("name", METHODS)
def test_other_axes_are_brought_to_one_chunk(fitted, family, name):
    """Matrices whose entries are spread over chunks are put together."""
    method = METHODS[name](fitted)
    for A, chunks in ((family, (CHUNKS, 1, 2)), (family.reshape(len(family), -1), (CHUNKS, 4))):
        (now,) = compute(as_dict(method(da.from_array(A, chunks=chunks))))
        for key, values in by_hand(method, A).items():
            np.testing.assert_array_equal(now[key], values)


@every_complex_dtype
def test_complex_stacks(dtype):
    """Complex matrices stay complex where their inverses are, in the precision they have."""
    rng = np.random.RandomState(0)
    A = 3 * np.eye(N) + 0.1 * (rng.randn(sum(CHUNKS), N, N) + 1j * rng.randn(sum(CHUNKS), N, N))
    A = A.astype(dtype)
    linear = LinearInverseApprox().fit(A)
    sampler = FeasibleRegionSampler().fit(A)
    certified = CertifiedInverse(linear, tol=1e-4)
    diagonal = partial(linear.predict, outputs=np.diag_indices(N))
    for method in (
        *(linear.predict, diagonal, certified.predict, certified.report),
        *(sampler.transform, sampler.is_feasible),
    ):
        later = as_dict(method(lazily(A)[0]))
        (now,) = compute(later)
        for key, values in by_hand(method, A).items():
            assert later[key].dtype == now[key].dtype == values.dtype
            assert later[key].shape == values.shape
            np.testing.assert_array_equal(now[key], values)
    inverse = certified.predict(lazily(A)[0]).compute(scheduler="threads")
    assert inverse.dtype == dtype
    np.testing.assert_allclose(inverse, np.linalg.inv(A), rtol=1e-3, atol=1e-3)


def test_symmetric_matrices():
    """Symmetric inverses, of full rows, of stacks and of packed rows."""
    A = random_family(N, sum(CHUNKS), spread=0.2)[1]
    A = A + A.transpose(0, 2, 1)
    packed = A[:, *np.triu_indices(N)]
    for given in (A, A.reshape(len(A), -1), packed):
        linear = LinearInverseApprox(method="lstsq")
        model = StructuredInverse(linear, packed=given is packed).fit(given)
        later = model.predict(lazily(given)[0])
        assert later.shape == given.shape
        expected = by_hand(model.predict, given)[0]
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(compute(later)[0], expected)


def test_threads_share_a_model(fitted):
    """Many small blocks at once, of a network whose constants are made ready by the first."""
    A = random_family(N, 4000, spread=0.2)[1]
    model = pickle.loads(pickle.dumps(fitted.network))
    X = da.from_array(A, chunks=(40, N, N))
    now = model.predict(X).compute(scheduler="threads", num_workers=8)
    expected = [fitted.network.predict(block) for block in np.split(A, 100)]
    np.testing.assert_array_equal(now, np.concatenate(expected))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("k", [None, 2])
def test_solve(fitted, family, layout, k):
    """Lazy solutions are the eager ones of each block, and those of LAPACK within their bounds."""
    A = family.reshape(-1, *LAYOUTS[layout])
    b = np.random.RandomState(1).standard_normal((len(A), N) if k is None else (len(A), N, k))
    X, lazy_b = lazily(A)[0], da.from_array(b, chunks=(50, 2, *b.shape[2:]))
    ends = np.cumsum(CHUNKS)[:-1]
    pairs = list(zip(np.split(A, ends), np.split(b, ends), strict=True))
    expected = [fitted.certified.solve(*pair, return_bound=True) for pair in pairs]
    x, bound = (np.concatenate(parts) for parts in zip(*expected, strict=True))
    for given in ((X, lazy_b), (X, b)):
        later = fitted.certified.solve(*given, return_bound=True)
        assert later[0].shape == b.shape
        assert later[1].shape == (b.shape[0], *b.shape[2:])
        now = compute(*later)
        np.testing.assert_array_equal(now[0], x)
        np.testing.assert_array_equal(now[1], bound)
    solved = np.isfinite(bound).reshape(len(b), -1).all(axis=1)
    assert solved.sum() == len(A) - 1
    got = fitted.certified.solve(A, lazy_b).compute(scheduler="synchronous")
    got, exact = (
        got[solved].reshape(-1, N, k or 1),
        np.linalg.solve(family[solved], b[solved].reshape(-1, N, k or 1)),
    )
    error = np.linalg.norm(got - exact, axis=1) / np.linalg.norm(got, axis=1)
    assert (error <= bound[solved].reshape(error.shape) + 1e-14).all()


def test_what_is_refused_is_refused_at_once(fitted, family):
    """Arguments that are wrong whatever the rows raise before anything is computed."""
    X, blocks = lazily(family)
    rows = X.reshape(len(family), -1)
    unknown = rows.T[rows[0] > rows[0].mean()].T
    tables = clone(fitted.sampler).set_output(transform="pandas").fit(family.reshape(-1, N * N))
    cases = [
        (lambda: fitted.linear.predict(da.ones((5, 4))), "4 features"),
        (lambda: fitted.linear.predict(da.ones(5)), "1D array"),
        (lambda: fitted.linear.predict(da.ones(())), "no dimension"),
        (lambda: fitted.linear.predict(da.ones((5, 1, 9))), "square"),
        (lambda: fitted.linear.predict(X, outputs=[99]), "from -9 to 8"),
        (lambda: fitted.linear.predict(X, out=np.empty_like(family)), "dask.array.store"),
        (lambda: fitted.linear.predict(unknown), "compute_chunk_sizes"),
        (lambda: LinearInverseApprox().predict(X), "not fitted yet"),
        (lambda: tables.transform(rows), "set_output"),
        (lambda: fitted.certified.solve(X, np.ones((5, N))), "belong together"),
        (lambda: fitted.certified.solve(X, X[X[:, 0, 0] > 0][:, 0].blocks[:2]), "belong together"),
        (lambda: fitted.certified.solve(X, np.ones((len(family), 2))), "right-hand sides"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    assert blocks.read == 0


def test_errors_name_the_rows_of_the_whole(fitted, family):
    """Rows in messages are counted in the whole array, not in a block."""
    bad = family.copy()
    bad[72] = np.nan
    X = lazily(bad)[0]
    raising = CertifiedInverse(fitted.linear, fallback="raise", tol=1e-300)
    found = []
    for block in np.flatnonzero(CHUNKS):
        with pytest.raises(ValueError, match=rf"of {len(bad)}\)") as caught:
            raising.report(X).bound.blocks[block].compute(scheduler="synchronous")
        found.append(int(re.search(r"rows \[(\d+)", str(caught.value))[1]))
    assert found == [0, 70, 199]


@pytest.mark.filterwarnings("ignore:1 of ... matrices went unanswered:UserWarning")
def test_fit_and_score_load_everything(family):
    """They need all matrices at once; also where their number is not known."""
    A = np.delete(family, [75, 130], axis=0)
    X = da.from_array(A, chunks=(50, 2, N))
    filtered = X[X[:, 0, 0] > 0]
    kept = A[A[:, 0, 0] > 0]
    for lazy, eager in ((X, A), (X.reshape(len(A), -1), A.reshape(len(A), -1)), (filtered, kept)):
        for model in (LinearInverseApprox(), CertifiedInverse(LinearInverseApprox())):
            expected = clone(model).fit(eager)
            fitted = clone(model).fit(lazy)
            np.testing.assert_array_equal(fitted.predict(A), expected.predict(A))
            assert fitted.score(lazy) == expected.score(eager)
            scorer = SingularDistanceScorer()
            assert scorer(fitted, lazy) == pytest.approx(scorer(expected, eager), rel=1e-12)
        np.testing.assert_array_equal(
            FeasibleRegionSampler().fit(lazy).radius_, FeasibleRegionSampler().fit(eager).radius_
        )


# -- samples ---------------------------------------------------------------------------------------

REGIONS = {
    "box": {"radius": 0.5},
    "ball": {"radius": 0.5, "norm": "l2"},
    "uncertified": {"radius": 1.2, "min_distance": 0.1},
}


def region(**params):
    return FeasibleRegionSampler([[3.0, 1.0], [1.0, 2.0]], random_state=0, **params).fit()


@pytest.mark.parametrize("name", REGIONS)
def test_samples_are_the_same_under_every_scheduler(name, client):
    """Same seed, same chunks, same bits: one thread, many, other processes."""
    options = {"chunks": (300, 1, 499), "dtype": np.float32}
    first = region(**REGIONS[name]).sample(800, **options)
    expected = compute(*first)
    for scheduler in ("threads", client):
        again = region(**REGIONS[name]).sample(800, **options)
        for values, other in zip(expected, dask.compute(*again, scheduler=scheduler), strict=True):
            np.testing.assert_array_equal(values, other)
    # One part by itself, and fewer blocks of the same stream.
    np.testing.assert_array_equal(compute(first[1])[0], expected[1])
    fewer = region(**REGIONS[name]).sample(301, return_inverse=False, **options | {"chunks": 300})
    np.testing.assert_array_equal(compute(fewer)[0], expected[0][:301])


@pytest.mark.parametrize("name", REGIONS)
def test_samples_are_of_the_region(name):
    """Blocks differ, lie in the region, come with their exact inverses, and are uniform."""
    sampler = region(**REGIONS[name])
    X, Y = sampler.sample(1000, chunks=100)
    assert X.chunks == Y.chunks == ((100,) * 10, (4,))
    assert X.dtype == Y.dtype == np.float64
    X, Y = compute(X, Y)
    assert sampler.is_feasible(X).all()
    np.testing.assert_allclose(Y.reshape(-1, 2, 2), np.linalg.inv(X.reshape(-1, 2, 2)), rtol=1e-9)
    assert len(np.unique(X[:, 0])) == 1000
    if name == "box":
        for entry, center in zip(X.T, sampler.center_.ravel(), strict=True):
            assert kstest(entry, "uniform", args=(center - 0.5, 1.0)).pvalue > 0.01


def test_stream_goes_on():
    """Another call gives other samples, another fit the same, and no call disturbs earlier ones."""
    sampler = region(radius=0.5)
    first = sampler.sample(10, chunks=5, return_inverse=False)
    second = sampler.sample(10, chunks=5, return_inverse=False)
    third = sampler.sample(10)[0]
    (a, b) = compute(first, second)
    assert not np.intersect1d(a, b).size
    sampler.fit()
    np.testing.assert_array_equal(compute(sampler.sample(10, chunks=5, return_inverse=False))[0], a)
    assert not np.intersect1d(third, np.r_[a, b]).size


def test_chunks_are_what_dask_understands():
    """Sizes in bytes count what is returned; what is no size is refused."""
    sampler = region(radius=0.5)
    assert sampler.sample(10, chunks=-1)[0].numblocks == (1, 1)
    million = sampler.sample(10**9, chunks="1 MiB", dtype=np.float32)[0]
    assert million.chunksize == (2**16, 4)
    for chunks in (0, (4, 4), (0, 10), 2.5, "few"):
        with pytest.raises(ValueError, match=r"[Cc]hunks|byte"):
            sampler.sample(10, chunks=chunks)
    with pytest.raises(ValueError, match="device='cpu'"):
        sampler.sample(10, chunks=5, device="cpu")


def test_hint_where_dask_is_missing(monkeypatch):
    """Samples in chunks say what to install, and leave the stream where it was."""
    sampler = region(radius=0.5)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "dask.array", None)
        with pytest.raises(ImportError, match=r"skinv\[dask\]"):
            sampler.sample(10, chunks=5)
    np.testing.assert_array_equal(sampler.sample(10)[0], region(radius=0.5).sample(10)[0])


# -- clusters --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Two worker processes of a thread each."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": ":0"},  # no port that another cluster may have
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


MODELS = {
    "linear": (LinearInverseApprox(), {"order": [1, 2]}),
    "lstsq": (LinearInverseApprox(method="lstsq"), {"center": [None]}),
    "neural": (
        NeuralInverseRegressor(8, max_iter=3, random_state=0, device="cpu"),
        {"solver": ["lm", "adam"]},
    ),
}
SCORERS = {
    "default": None,
    "distance": SingularDistanceScorer("neg_relative_error", min_distance=0.5),
}


@pytest.mark.parametrize("scoring", SCORERS)
@pytest.mark.parametrize("name", MODELS)
def test_scores_on_a_cluster_equal_serial_ones(client, box, name, scoring):
    """cross_val_score and GridSearchCV find the same bits in two worker processes."""
    model, grid = MODELS[name]
    options = {"scoring": SCORERS[scoring], "cv": 2}
    serial = cross_val_score(model, box[0], **options)
    search = GridSearchCV(model, grid, **options).fit(*box)
    with joblib.parallel_config("dask", client=client):
        np.testing.assert_array_equal(cross_val_score(model, box[0], n_jobs=2, **options), serial)
        parallel = GridSearchCV(model, grid, n_jobs=2, **options).fit(*box)
    for key in ("split0_test_score", "split1_test_score", "mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(parallel.cv_results_[key], search.cv_results_[key])
    assert np.isfinite(serial).all()
    assert len(set(serial)) == 2
    np.testing.assert_array_equal(parallel.predict(box[0]), search.predict(box[0]))


def test_the_cluster_does_the_work(client, box):
    """Fits and scores of the test above run in the worker processes."""

    def process(estimator, X, y=None):
        return os.getpid()

    with joblib.parallel_config("dask", client=client):
        found = cross_val_score(LinearInverseApprox(), box[0], scoring=process, cv=4, n_jobs=2)
    assert set(found) <= set(client.run(os.getpid).values())


@pytest.mark.parametrize("name", ["network", "report", "transform"])
def test_results_by_blocks_on_a_cluster(client, fitted, family, name):
    """Worker processes find what this one finds."""
    method = METHODS[name](fitted)
    (now,) = dask.compute(as_dict(method(lazily(family)[0])), scheduler=client)
    for key, values in by_hand(method, family).items():
        np.testing.assert_array_equal(now[key], values)


# -- out of core -----------------------------------------------------------------------------------

OUT_OF_CORE = """
import resource, sys
import dask, dask.array as da, numpy as np
from skinv import CertifiedInverse, LinearInverseApprox

path, n, n_blocks, per_block = sys.argv[1], 16, 64, int(sys.argv[2])
center = 4 * np.eye(n) + np.random.RandomState(0).uniform(-0.5, 0.5, (n, n))
noise = np.random.RandomState(1).uniform(-0.05, 0.05, (per_block, n, n))
block = (center + noise).astype(np.float32)
model = CertifiedInverse(LinearInverseApprox(center), tol=1e-3).fit()
expected = model.report(block)

shape = (n_blocks * per_block, n, n)
with open(path, "wb") as file:
    header = {"descr": block.dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for k in range(n_blocks):
        file.write(block.data)
size = np.load(path, mmap_mode="r").nbytes


def load(block_info=None):
    start, stop = block_info[None]["array-location"][0]
    return np.load(path, mmap_mode="r")[start:stop].copy()


X = da.map_blocks(load, chunks=((per_block,) * n_blocks, n, n), meta=block[:0])
report = model.report(X)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
proven, worst, trace = dask.compute(
    (report.status != "inaccurate").sum(),
    report.bound.max(),
    da.trace(report.inverse, axis1=1, axis2=2).sum(),
    scheduler="threads",
    num_workers=2,
)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert proven == len(X), proven
assert worst == expected.bound.max() <= 1e-3, worst
exact = n_blocks * np.trace(np.linalg.inv(block.astype(float)), axis1=1, axis2=2).sum()
assert abs(trace / exact - 1) < 1e-3, (trace, exact)
print(size, 1024 * (peak - before))
"""


@pytest.mark.parametrize("per_block", exhaustive(6000, 16_000))
def test_report_out_of_core(per_block, tmp_path):
    """Matrices of 0.4 or 1 gigabyte are certified in less than a quarter of that memory."""
    path = tmp_path / "matrices.npy"
    try:
        done = subprocess.run(
            [sys.executable, "-c", OUT_OF_CORE, path, str(per_block)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    finally:
        path.unlink(missing_ok=True)
    size, memory = map(int, done.stdout.split())
    assert size > 6e4 * per_block
    assert memory < size / 4
