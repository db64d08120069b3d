"""Certified inverses and solves against LAPACK with the same certificate; one thread.

python benchmarks/certified.py [--quick]

Matrices are uniform in a region around a well-conditioned centre, and all methods get the same.
"Certified" means that the relative error of every inverse (Frobenius norm), or solution, is proven
to be within the tolerance. LAPACK's inverses get our cheapest proof that reaches it after them:
`skinv.bounds.residual_bound(sharp=False)`, and for float32 at 1e-6 the sharp one with residuals in
float64. Its solutions get no proof at all.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys
import time

import machine
import numpy as np
import scipy.linalg
import torch

from skinv import CertifiedInverse, FeasibleRegionSampler, LinearInverseApprox
from skinv.bounds import residual_bound
from skinv.datasets import load_power_flow, load_robot_arm

REPEATS = 5
INVERSE_CASES = [(8, 100_000), (16, 100_000), (32, 20_000), (64, 4_000)]
SOLVE_CASES = [(16, 20_000), (32, 8_000), (64, 2_000), (128, 500), (256, 200), (512, 60)]


def center_of(n, seed=0):
    """Return a random centre of condition number about 5."""
    rng = np.random.RandomState(seed)
    U, _, Vt = np.linalg.svd(rng.standard_normal((n, n)))
    return (U * np.linspace(1.0, 5.0, n)) @ Vt


def ball(center, q, m, seed):
    """Return m matrices uniform in the l2 ball of radius q·σ_min, on which ‖A₀⁻¹E‖₂ <= q."""
    radius = q * np.linalg.svd(center, compute_uv=False)[-1]
    sampler = FeasibleRegionSampler(center, radius, norm="l2", random_state=seed).fit()
    n = len(center)
    return sampler.sample(m, return_inverse=False).reshape(m, n, n)


def box(center, q, m, seed):
    """Return m matrices uniform in a box of half-width q / √n·σ_min: ‖A₀⁻¹E‖₂ is about q.

    More of them than a proof in O(n²) operations can reach, for large n.
    """
    rng = np.random.RandomState(seed)
    half = q * np.linalg.svd(center, compute_uv=False)[-1] / np.sqrt(len(center))
    return center + half * rng.uniform(-1, 1, size=(m, *center.shape))


def in_turns(methods, repeats=REPEATS):
    """Time methods in turns; return {name: [seconds]} and their last results."""
    results = {name: method() for name, method in methods.items()}  # warm up
    seconds = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            start = time.perf_counter()
            results[name] = method()
            seconds[name].append(time.perf_counter() - start)
    return seconds, results


def summary(seconds, m, ours):
    """Return microseconds per matrix, and how many times as long the others take, with ranges."""
    rows = {}
    for name, values in seconds.items():
        ratios = [other / mine for other, mine in zip(values, seconds[ours], strict=True)]
        rows[name] = {
            "microseconds_per_matrix": round(float(np.median(values)) / m * 1e6, 4),
            "ratio_to_certified": round(float(np.median(ratios)), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    return rows


def scipy_inverse(A):
    try:
        return scipy.linalg.inv(A)  # stacks since SciPy 1.16
    except ValueError:
        return np.array([scipy.linalg.inv(a) for a in A])


def inverses(quick):
    """Certified inversion: float32 to a tolerance its precision allows, float64 to 1e-10."""
    out = []
    for n, m in INVERSE_CASES:
        m = m // 20 if quick else m
        center = center_of(n)
        for dtype, tol in ((np.float32, 1e-6), (np.float32, n * 1e-5), (np.float64, 1e-10)):
            A = box(center, 0.1, m, seed=1).astype(dtype)
            tight = dtype == np.float32 and tol == 1e-6
            proof = {"accumulate": "float64"} if tight else {"sharp": False}
            model = CertifiedInverse(LinearInverseApprox(center), tol=tol).fit()
            methods = {"certified": lambda A=A, model=model: model.predict(A, return_bound=True)}
            for name, invert in (
                ("numpy.linalg.inv", np.linalg.inv),
                ("scipy.linalg.inv", scipy_inverse),
                ("torch.linalg.inv", lambda A: torch.linalg.inv(torch.from_numpy(A)).numpy()),
            ):

                def with_proof(A=A, invert=invert, proof=proof):
                    X = np.ascontiguousarray(invert(A))  # what torch returns is not, and slower
                    return X, residual_bound(A, X, **proof)

                methods[name] = with_proof
            seconds, results = in_turns(methods)
            report = model.report(A)
            within = {k: float((bound <= tol).mean()) for k, (_, bound) in results.items()}
            case = {
                "n": n,
                "matrices": m,
                "dtype": np.dtype(dtype).name,
                "tol": tol,
                "share_within_tol": within,
                "steps": float(np.mean(report.n_refine)),
                "share_fallback": float(np.mean(np.isin(report.status, ["exact", "inaccurate"]))),
                "methods": summary(seconds, m, "certified"),
            }
            print(n, case["dtype"], f"{tol:.0e}", within, case["steps"],
                  {k: (v["microseconds_per_matrix"], v["ratio_to_certified"])
                   for k, v in case["methods"].items()}, flush=True)  # fmt: skip
            out.append(case)
    return out


def refined_lu(lu, A, b, steps):
    """Solve with a factorisation of the centre and `steps` steps of iterative refinement."""
    x = scipy.linalg.lu_solve(lu, b.T, check_finite=False).T
    for _ in range(steps):
        r = b - (A @ x[:, :, None])[:, :, 0]
        x = x + scipy.linalg.lu_solve(lu, r.T, check_finite=False).T
    return x


def solves(quick):
    """Certified solves with one right-hand side, to 1e-10 in float64."""
    out, tol = [], 1e-10
    for n, m in SOLVE_CASES:
        m = max(m // 5, 10) if quick else m
        center = center_of(n)
        lu = scipy.linalg.lu_factor(center)
        for region, draw in (("l2 ball", ball), ("box", box)):
            A = draw(center, 0.1, m, seed=1)
            b = np.random.RandomState(2).standard_normal((m, n))
            model = CertifiedInverse(LinearInverseApprox(center), tol=tol).fit()
            exact = np.linalg.solve(A, b[:, :, None])[:, :, 0]
            steps = next(
                k for k in range(1, 60)
                if np.max(np.linalg.norm(refined_lu(lu, A, b, k) - exact, axis=1)
                          / np.linalg.norm(exact, axis=1)) <= tol
            )  # fmt: skip
            methods = {
                "certified": lambda A=A, b=b, model=model: model.solve(A, b, return_bound=True),
                "numpy.linalg.solve": lambda A=A, b=b: np.linalg.solve(A, b[:, :, None]),
                "torch.linalg.solve": lambda A=A, b=b: torch.linalg.solve(
                    torch.from_numpy(A), torch.from_numpy(b)
                ),
                "LU of the centre, refined": lambda A=A, b=b, lu=lu, k=steps: refined_lu(
                    lu, A, b, k
                ),
            }
            seconds, results = in_turns(methods)
            x, bound = results["certified"]
            error = np.linalg.norm(x - exact, axis=1) / np.linalg.norm(exact, axis=1)
            case = {
                "n": n,
                "matrices": m,
                "region": region,
                "tol": tol,
                "share_within_tol": float((bound <= tol).mean()),
                "largest_bound": float(bound.max()),
                "largest_error": float(error.max()),
                "refinement_steps_of_lu": steps,
                "methods": summary(seconds, m, "certified"),
            }
            print(n, region, case["share_within_tol"],
                  {k: (v["microseconds_per_matrix"], v["ratio_to_certified"])
                   for k, v in case["methods"].items()}, flush=True)  # fmt: skip
            out.append(case)
    return out


def real_families():
    """Which share of the unseen half of each real family is certified at 1e-6, and how."""
    out = {}
    families = {
        "case6ww": load_power_flow("case6ww").data,
        "case9": load_power_flow("case9").data,
        "puma560": load_robot_arm().data,
    }
    for name, data in families.items():
        rng = np.random.RandomState(0)
        order = rng.permutation(len(data))
        known, unseen = data[order[: len(data) // 2]], data[order[len(data) // 2 :]]
        region = FeasibleRegionSampler(norm="mahalanobis", random_state=0).fit(known)
        inside = region.is_feasible(unseen)
        out[name] = {"inside": float(inside.mean()), "region_certified": bool(region.is_certified_)}
        for dtype in (np.float64, np.float32):
            model = CertifiedInverse(LinearInverseApprox(), tol=1e-6).fit(known)
            report = model.report(unseen.astype(dtype))
            direct = np.isin(report.status, ["predicted", "refined"])
            out[name][np.dtype(dtype).name] = {
                "certified_without_fallback": float(direct.mean()),
                "certified_without_fallback_inside": float(direct[inside].mean()),
                "certified": float((report.bound <= 1e-6).mean()),
                "mean_steps": float(report.n_refine.mean()),
                "max_steps": int(report.n_refine.max()),
            }
        print(name, out[name], flush=True)
    return out


def main():
    torch.set_num_threads(1)
    quick = "--quick" in sys.argv
    results = {
        "threads": 1,
        "repeats": REPEATS,
        "inverses": inverses(quick),
        "solves": solves(quick),
        "real_families": real_families(),
    }
    if not quick:
        machine.write("certified", results)


if __name__ == "__main__":
    main()
