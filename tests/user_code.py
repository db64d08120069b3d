"""What users write: mypy checks it strictly, and test_comforts.py runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import skinv
from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    SingularDistanceScorer,
)
from skinv.bounds import certify_region, residual_bound, taylor_bound
from skinv.datasets import load_power_flow, load_robot_arm, make_region
from skinv.export import to_module, to_onnx
from skinv.geometry import (
    ParametricFamily,
    distance_to_singularity,
    family_certificate,
    region_certificate,
)
from skinv.impossibility import counterexample

Matrices = NDArray[np.float64]


def learn(known: Matrices, norms: tuple[str, ...] = ("mahalanobis", "linf")) -> CertifiedInverse:
    """Train on samples of the first region that is certified."""
    for norm in norms:
        region = FeasibleRegionSampler(norm=norm, min_distance=1e-3, random_state=0).fit(known)
        if region.is_certified_:
            break
    X, Y = region.sample(500)
    network = NeuralInverseRegressor((16,), solver="adam", max_iter=2, random_state=0).fit(X, Y)
    return CertifiedInverse(network, tol=1e-8, fallback="nan").fit(known)


def proven(model: CertifiedInverse, stream: Matrices) -> Matrices:
    """Keep the inverses that are proven."""
    inverse, bound = model.predict(stream, return_bound=True)
    assert_type(bound, Matrices)
    return inverse[bound <= model.tol]


def first_guess(model: LinearInverseApprox | NeuralInverseRegressor, X: Matrices) -> Matrices:
    """Predict, and nothing more."""
    return model.predict(X)


def how(model: CertifiedInverse, stream: Matrices) -> dict[str, int]:
    """Count by what inverses were proven."""
    status = model.report(stream).status
    assert_type(status, NDArray[np.str_])
    return {str(name): int(count) for name, count in zip(*np.unique_counts(status), strict=True)}


def solutions(model: CertifiedInverse, stream: Matrices, b: Matrices) -> tuple[Matrices, float]:
    """Solve, and say how good the worst solution is."""
    x, bound = model.solve(stream, b, return_bound=True)
    return x, float(bound.max())


def search(known: Matrices) -> dict[str, Any]:
    """Choose the order of the series by cross-validation."""
    scorer = SingularDistanceScorer("neg_relative_error", min_distance=1e-3)
    grid = GridSearchCV(LinearInverseApprox(), {"order": [1, 2]}, scoring=scorer, cv=3).fit(known)
    best: dict[str, Any] = grid.best_params_
    return best


def worst_case(order: int) -> tuple[float, float, Matrices]:
    """Prove how wrong the series is over a box."""
    sampler = make_region("2x2-first").sampler
    model = clone(LinearInverseApprox(sampler.center_, order=order)).fit()
    proof = certify_region(model, sampler, rtol=0.1, max_boxes=1000)
    assert proof.upper <= taylor_bound(sampler.center_, sampler.radius_, order).max_error * 1.001
    assert_type(proof.witness, Matrices)
    return proof.lower, proof.upper, proof.witness


def geometry(center: Matrices) -> tuple[bool, float]:
    """Ask for proofs and counterexamples."""
    bounds = distance_to_singularity(center, "linf", return_bounds=True)
    certificate = region_certificate(center, 0.9 * float(bounds.lower))
    found = counterexample(LinearInverseApprox(center).fit(), center, error=1e3, random_state=0)
    assert_type(found.distance, float)
    box = family_certificate(ParametricFamily([center, np.eye(len(center))]), [-0.1], [0.1])
    assert_type(box.margin, float)
    return certificate.is_certified, found.distance


def deploy(model: CertifiedInverse, folder: Path) -> Path:
    """Write a file, and make a module."""
    to_module(model).eval()
    return Path(to_onnx(model, folder / "model.onnx", n_refine=1))


def main(folder: Path) -> dict[str, Any]:
    """Do all of it."""
    arm, _ = load_robot_arm(return_X_y=True)
    known, stream = arm[:200], arm[200:300].copy()
    stream[3] = np.nan
    model = learn(known)
    pipeline = make_pipeline(FeasibleRegionSampler(), LinearInverseApprox(method="lstsq"))
    return {
        "inverses": proven(model, stream),
        "guess": first_guess(LinearInverseApprox(order=2).fit(known), known),
        "score": LinearInverseApprox().fit(known).score(known),
        "pipeline": pipeline.fit(known).score(known),
        "status": how(model, stream),
        "solutions": solutions(model, known, np.ones((200, 6))),
        "search": search(known),
        "worst": worst_case(1),
        "geometry": geometry(np.array([[3.0, 1.0], [1.0, 2.0]])),
        "residual": residual_bound(np.eye(2)[None], np.eye(2)[None]),
        "grid": skinv.datasets.load_power_flow("case6ww").data.shape,
        "cases": load_power_flow("case9", return_X_y=True)[0].shape,
        "file": deploy(model, folder),
    }


if TYPE_CHECKING:  # what mypy must find: an ignore that is not needed is an error
    print(skinv.dataset)  # type: ignore[attr-defined]
    LinearInverseApprox(ordr=2)  # type: ignore[call-arg]
    FeasibleRegionSampler(min_distance="far")  # type: ignore[arg-type]
    LinearInverseApprox().predict(np.eye(2), return_bound=True)  # type: ignore[call-overload]
