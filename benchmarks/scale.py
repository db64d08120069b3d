"""Files of matrices larger than memory, block by block: dask against a plain loop.

python benchmarks/scale.py [--quick] [--folder FOLDER]

Matrices of order 16 in float32 are read from a .npy file by memory mapping, their inverses (and
with `report` also their bounds) are written to other files in the same way. Each run is a process
of its own: the peak of its resident memory, after the imports and all told, is the kernel's. The
methods do the same to blocks of the same size, in turns, and must write the same bits:

* "loop": ``for`` over the blocks, with one thread;
* "loop, 2 threads": the same, with two threads in BLAS and torch;
* "dask, synchronous": dask's scheduler in one thread;
* "dask, 2 threads": dask's threads, each with one of BLAS and torch.

The file fits the page cache of the machine, so that this is no measure of its disk.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

N = 16
METHODS = {  # BLAS threads, and dask's scheduler
    "loop": (1, None),
    "loop, 2 threads": (2, None),
    "dask, synchronous": (1, {"scheduler": "synchronous"}),
    "dask, 2 threads": (1, {"scheduler": "threads", "num_workers": 2}),
}
TOL = 1e-3


class Npy:
    """A .npy file that is mapped for each access only: what is not mapped is not resident."""

    def __init__(self, path):
        import numpy as np

        self.path = path
        mapped = np.load(path, mmap_mode="r")
        self.shape, self.dtype, self.ndim = mapped.shape, mapped.dtype, mapped.ndim

    def __getitem__(self, index):
        import numpy as np

        return np.load(self.path, mmap_mode="r")[index].copy()

    def __setitem__(self, index, values):
        import numpy as np

        np.load(self.path, mmap_mode="r+")[index] = values

    @classmethod
    def new(cls, path, shape, dtype):
        from numpy.lib.format import open_memmap

        open_memmap(path, "w+", dtype, shape)
        return cls(path)


def model_and_center(task):
    import numpy as np

    from skinv import CertifiedInverse, LinearInverseApprox

    center = 4 * np.eye(N) + np.random.RandomState(0).uniform(-0.5, 0.5, (N, N))
    linear = LinearInverseApprox(center).fit()
    return (linear if task == "predict" else CertifiedInverse(linear, tol=TOL).fit()), center


def write_matrices(path, n_blocks, per_block):
    """Write matrices near the centre: no two blocks are equal."""
    import numpy as np

    center = model_and_center("predict")[1]
    noise = np.random.RandomState(1).uniform(-0.05, 0.05, (per_block, N, N))
    file = Npy.new(path, (n_blocks * per_block, N, N), np.float32)
    for k in range(n_blocks):
        file[k * per_block : (k + 1) * per_block] = center + noise * (1 - k / (2 * n_blocks))


def peak():
    """Return the largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def checksum(path):
    """Return a number that depends on all bits and their order."""
    total, step = 0, 2**26
    with open(path, "rb") as file:
        while part := file.read(step):
            total = zlib.crc32(part, total)
    return total


def child(folder, task, method, per_block):
    """Run one method over the file, and print what it took."""
    import dask
    import dask.array as da
    import numpy as np

    model, _ = model_and_center(task)
    source = Npy(folder / "matrices.npy")
    m = source.shape[0]
    inverse = Npy.new(folder / "inverse.npy", source.shape, source.dtype)
    bound = Npy.new(folder / "bound.npy", (m,), np.float64)
    options = METHODS[method][1]
    X = da.from_array(source, chunks=(per_block, N, N), name=False)
    model.predict(source[:1000])  # imports torch
    model.predict(X[:1000]).compute(scheduler="synchronous")
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    if options is None:
        for first in range(0, m, per_block):
            block = slice(first, first + per_block)
            if task == "predict":
                inverse[block] = model.predict(source[block])
            else:
                report = model.report(source[block])
                inverse[block], bound[block] = report.inverse, report.bound
    else:
        with dask.config.set(options):
            if task == "predict":
                da.store([model.predict(X)], [inverse], lock=False)
            else:
                report = model.report(X)
                da.store([report.inverse, report.bound], [inverse, bound], lock=False)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    result = {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "load_before": round(os.getloadavg()[0], 1),
        "peak_mb": round(peak()),
        "peak_after_imports_mb": round(peak() - before),
        "checksum": [checksum(inverse.path), checksum(bound.path)],
    }
    if task == "report":
        result["largest_bound"] = float(np.load(bound.path, mmap_mode="r").max())
    print(json.dumps(result))


def run(folder, task, method, per_block):
    threads = str(METHODS[method][0])
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    command = [sys.executable, __file__, "--child", str(folder), task, method, str(per_block)]
    environment = {**os.environ, **dict.fromkeys(names, threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def median(values):
    values = sorted(values)
    return values[len(values) // 2]


def compare(folder, task, per_block, m, methods, repeats):
    """Run methods in turns; return medians, ranges, and times relative to the loop."""
    runs = {method: [] for method in methods}
    for _ in range(repeats):
        for method in methods:
            runs[method].append(run(folder, task, method, per_block))
    sums = {json.dumps(r.pop("checksum")) for results in runs.values() for r in results}
    if len(sums) != 1:
        raise SystemExit(f"The methods wrote different bits: {sums}")
    rows = {}
    for method, results in runs.items():
        rows[method] = {
            "million_matrices_per_second": round(
                m / median(r["seconds"] for r in results) / 1e6, 3
            ),
            "peak_mb": max(r["peak_mb"] for r in results),
            "peak_after_imports_mb": max(r["peak_after_imports_mb"] for r in results),
        }
        for key in ("seconds", "cpu_seconds"):
            ratios = [a[key] / b[key] for a, b in zip(results, runs["loop"], strict=True)]
            rows[method][f"{key}_to_loop"] = round(median(ratios), 3)
            rows[method][f"{key}_range"] = [round(min(ratios), 3), round(max(ratios), 3)]
        print(task, per_block, method, rows[method], flush=True)
        rows[method]["runs"] = results
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a small file; writes no results")
    parser.add_argument("--folder", default=None, help="where the files go; twice their size")
    parser.add_argument("--child", nargs=4)
    args = parser.parse_args()
    if args.child:
        folder, task, method, per_block = args.child
        child(Path(folder), task, method, int(per_block))
        return
    import machine

    n_blocks, per_block, repeats = (6, 4096, 1) if args.quick else (240, 2**14, 3)
    results = {"n": N, "dtype": "float32", "tol": TOL, "repeats": repeats}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "matrices.npy"
        m = n_blocks * per_block
        write_matrices(path, n_blocks, per_block)
        whole = ["loop", "loop, 2 threads", "dask, 2 threads"]
        results["whole"] = {
            "matrices": m,
            "file_mb": round(path.stat().st_size / 1e6),
            "block_mb": round(per_block * N * N * 4 / 1e6, 1),
            **{t: compare(folder, t, per_block, m, whole, repeats) for t in ("predict", "report")},
        }
        if not args.quick:
            n_blocks, per_block = 32, 2**14
        m = n_blocks * per_block
        path.unlink()
        write_matrices(path, n_blocks, per_block)
        parts = ["loop", "dask, synchronous", "dask, 2 threads"]
        results["size_of_blocks"] = [
            {
                "block_mb": round(rows * N * N * 4 / 1e6, 2),
                "matrices": m,
                "predict": compare(folder, "predict", rows, m, parts, repeats),
            }
            for rows in (2**8, 2**11, 2**14)
        ]
    if not args.quick:
        machine.write("scale", results)


if __name__ == "__main__":
    main()
