"""The promise on real matrices: what is learned of one half holds on the other."""

import numpy as np
import pytest
from backends import every_dtype
from exhaustive import exhaustive
from sklearn.model_selection import train_test_split

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
)
from skinv.datasets import load_power_flow, load_robot_arm, make_region

FAMILIES = {
    "case6ww": lambda: load_power_flow("case6ww"),
    "case9": lambda: load_power_flow("case9"),
    "puma560": load_robot_arm,
}


# What the network's defaults reach on the half that they never saw, against the first order.
SHARES = {"case6ww": 800, "case9": 1000, "puma560": 200}


@pytest.mark.parametrize("name", ["case9", *exhaustive("case6ww", "puma560")])
def test_learned_from_the_known_half_alone(name):
    """The defaults of both learned estimators, and no matrix of the other half goes unanswered."""
    family = FAMILIES[name]()
    X_known, X_unseen, _, Y_unseen = train_test_split(
        family.data, family.target, test_size=0.5, random_state=0
    )
    models = (
        LinearInverseApprox(),
        NeuralInverseRegressor(random_state=0),
        PolynomialInverseApprox(),
    )
    first_order, learned, polynomial = (
        np.abs(model.fit(X_known).predict(X_unseen) - Y_unseen).mean() for model in models
    )
    assert learned <= first_order / SHARES[name]
    assert polynomial <= learned


@pytest.mark.parametrize("name", [*FAMILIES, "case30"])
def test_inverses_are_known_for_what_they_are(name):
    """Whoever's inverses: zeros that were computed are noise in them, in whatever units."""
    A = (FAMILIES | {"case30": lambda: load_power_flow("case30")})[name]().data[::7]
    n = int(A.shape[1] ** 0.5)
    A = A.reshape(-1, n, n)
    rng = np.random.default_rng(0)
    units = 2.0 ** rng.integers(-20, 21, (2, n))
    for scaled in (A, A * units[0][:, None] * units[1]):
        Y = np.linalg.inv(scaled)
        LinearInverseApprox().fit(scaled, Y)
        for other in (1.01 * Y, Y.swapaxes(1, 2), np.linalg.inv(scaled[::-1]) * 1.1):
            with pytest.raises(ValueError, match="not the inverses"):
                LinearInverseApprox().fit(scaled, other)


@pytest.mark.parametrize("name", ["2x2-first", "2x2-second", "3x3", "16x16"])
def test_paper_regions(name):
    """Each region is what its description says, certified, and its data are inverses in it."""
    region = make_region(name, n_samples=200, random_state=0)
    n = len(region.center)
    assert region.sampler.is_certified_
    assert region.sampler.margin_ == pytest.approx(region.distance["linf"] - region.radius)
    assert f"{region.radius:.6g}" in region.DESCR
    for norm in ("l1", "l2", "linf"):
        assert f"{region.distance[norm]:.6g}" in region.DESCR
    A, B = (rows.reshape(-1, n, n) for rows in (region.data, region.target))
    np.testing.assert_allclose(A @ B, np.broadcast_to(np.eye(n), A.shape), atol=1e-10)
    assert np.abs(A - region.center).max() <= region.radius * (1 + 1e-12)
    X, y = make_region(name, n_samples=200, return_X_y=True, random_state=0)
    np.testing.assert_array_equal(X, region.data)
    np.testing.assert_array_equal(y, region.target)
    if name == "2x2-first":
        assert (np.linalg.eigvalsh(region.center) > 0).all()
        assert (region.center == region.center.T).all()


def test_unknown_region():
    """An unknown name is refused with the known ones."""
    with pytest.raises(ValueError, match="2x2-first"):
        make_region("4x4")


@pytest.mark.parametrize("name", FAMILIES)
@every_dtype
def test_real_families_are_certified(name, dtype):
    """Every unseen matrix is certified to 1e-6 by refinement alone, and the region is regular."""
    data = FAMILIES[name]().data
    known, unseen = train_test_split(data, test_size=0.5, random_state=0)
    assert FeasibleRegionSampler(norm="mahalanobis").fit(known).is_certified_
    report = CertifiedInverse(LinearInverseApprox()).fit(known).report(unseen.astype(dtype))
    assert np.isin(report.status, ["predicted", "refined"]).all()
    n = int(np.sqrt(data.shape[1]))
    exact = np.linalg.inv(unseen.astype(dtype).astype(float).reshape(-1, n, n)).reshape(
        unseen.shape
    )
    errors = np.linalg.norm(report.inverse - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert (errors <= report.bound + 1e-13).all()
    assert report.bound.max() <= 1e-6
