"""Parts of inference.py: files run by onnxruntime, the memory of a prediction, a GPU."""

import sys
from functools import partial

from timing import in_turns, microseconds, near, relative_errors


def onnx(quick):
    import tempfile

    import numpy as np
    import onnxruntime

    from skinv import CertifiedInverse, LinearInverseApprox, NeuralInverseRegressor
    from skinv.datasets import load_power_flow, load_robot_arm, make_region
    from skinv.export import to_onnx

    families = {"2x2-first": make_region("2x2-first", random_state=0).sampler.sample(4000)[0]}
    families["case9"], families["puma560"] = load_power_flow("case9").data, load_robot_arm().data
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    results = []
    for family, data in families.items():
        known, unseen = data[: len(data) // 2], data[len(data) // 2 :]
        m = 10_000
        X = np.tile(unseen, (-(-m // len(unseen)), 1))[:m]
        models = {
            "first order": LinearInverseApprox(),
            "third order": LinearInverseApprox(order=3),
            "network": NeuralInverseRegressor(max_iter=5, random_state=0),
        }
        for name, model in models.items():
            model.fit(known)
            certified = CertifiedInverse(model, tol=1e-4).fit(known)
            for dtype in ("float32", "float16"):
                given = X.astype(dtype)
                with tempfile.TemporaryDirectory() as folder:
                    path = to_onnx(model, f"{folder}/m.onnx", dtype=dtype)
                    session = onnxruntime.InferenceSession(path, options)
                    with_step = onnxruntime.InferenceSession(
                        to_onnx(certified, f"{folder}/c.onnx", n_refine=1, dtype=dtype), options
                    )
                A = given.astype(float).reshape(m, *[int(given.shape[1] ** 0.5)] * 2)
                predicted = model.predict(given).astype(float)
                (values,) = session.run(None, {"X": given})
                inverse, _ = with_step.run(None, {"X": given})
                taken = in_turns(
                    {
                        "onnxruntime": partial(session.run, None, {"X": given}),
                        "onnxruntime, refined": partial(with_step.run, None, {"X": given}),
                        "predict": partial(model.predict, given),
                        "numpy.linalg.inv": partial(np.linalg.inv, A.astype(np.float32)),
                    },
                    m,
                    repeats=3 if quick else 5,
                )
                results.append(
                    {
                        "family": family,
                        "model": name,
                        "dtype": dtype,
                        "largest difference to predict, relative": float(
                            np.abs(values - predicted).max() / np.abs(predicted).max()
                        ),
                        "mean relative error": relative_errors(values, A),
                        "mean relative error, refined": relative_errors(inverse, A),
                        "microseconds_per_matrix": microseconds(taken),
                    }
                )
                print(family, name, dtype, list(results[-1].values())[3:6], file=sys.stderr)
    return results


def memory(quick):
    import resource

    import numpy as np

    from skinv import LinearInverseApprox, NeuralInverseRegressor

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    m = 100_000 if quick else 1_000_000
    center, few = near(16, 1000)
    models = {
        "first order": LinearInverseApprox(center).fit(),
        "third order": LinearInverseApprox(center, order=3).fit(),
        "network": NeuralInverseRegressor(256, solver="adam", max_iter=1).fit(few),
    }
    for model in models.values():
        model.predict(few.astype(np.float32))
    A = np.tile(few.astype(np.float32), (m // 1000, 1, 1))
    size, results = A.nbytes / 2**20, {}
    for name, model in models.items():
        before = peak()
        model.predict(A)
        results[name] = round(peak() - before)
        print(name, results[name], file=sys.stderr)
        # A peak is reached once: the next one shows only what it needs beyond it.
    return {"input_mb": round(size), "growth_of_the_peak_mb": results}


def gpu(quick):
    import torch

    if not torch.cuda.is_available():
        return None
    from skinv import LinearInverseApprox
    from skinv.refinement import newton_schulz

    def timed(method, repeats=20):
        method()
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            method()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / repeats * 1e3

    results = []
    for n, m in ((4, 4_000_000), (8, 1_000_000), (16, 1_000_000), (32, 250_000)):
        center, matrices = near(n, 10_000)
        A = torch.from_numpy(matrices).float().cuda().repeat(m // 10_000, 1, 1)
        model, out = LinearInverseApprox(center).fit(), torch.empty_like(A)
        X = model.predict(A)
        times = {
            "copy": timed(partial(out.copy_, A)),
            "predict": timed(partial(model.predict, A, out=out)),
            "newton_schulz": timed(partial(newton_schulz, A, X, overwrite_x=True)),
            "torch.linalg.inv": timed(partial(torch.linalg.inv, A), 3),
        }
        results.append({"n": n, "batch": m, "microseconds": times})
        print(results[-1], file=sys.stderr)
    return results
