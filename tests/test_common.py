"""Conformance: every estimator of the package obeys scikit-learn's rules.

Estimators are found by crawling the package, so none can be forgotten: one without an entry in
CONFIGURATIONS fails.
"""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from adapters import AdaptedRegressor, AdaptedTransformer
from exhaustive import exhaustive
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator
from skorch import NeuralNet

import skinv
from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
    PolynomialInverseApprox,
    StructuredInverse,
)

# What the checks run on, by class. The taylor series and the sampler take square matrices only, so
# they run behind an adapter. No check is expected to fail.
CONFIGURATIONS = {
    "CertifiedInverse": [
        AdaptedRegressor(CertifiedInverse(estimator, **params))
        for estimator, params in (
            (LinearInverseApprox(), {}),
            (LinearInverseApprox(method="lstsq"), {"tol": 1e-10, "order": 3, "norm": "inf"}),
            (Ridge(alpha=1e-3), {"fallback": "keep", "max_refine": 2}),
            (NeuralInverseRegressor(8, max_iter=5, random_state=0), {"norm": "1"}),
            (PolynomialInverseApprox(), {}),
        )
    ],
    "LinearInverseApprox": [
        LinearInverseApprox(method="lstsq"),
        *(AdaptedRegressor(LinearInverseApprox(order=order)) for order in (1, 2, 3)),
        AdaptedRegressor(LinearInverseApprox([[3.0, 1.0], [1.0, 2.0]])),
        AdaptedRegressor(LinearInverseApprox(method="lstsq")),
    ],
    "PolynomialInverseApprox": [
        PolynomialInverseApprox(),
        PolynomialInverseApprox(2, 12, max_terms=64, on_extrapolation="keep"),
        AdaptedRegressor(PolynomialInverseApprox()),
        AdaptedRegressor(PolynomialInverseApprox(3, 4, max_extrapolation=2)),
    ],
    "FeasibleRegionSampler": [
        AdaptedTransformer(FeasibleRegionSampler(**params))
        for params in (
            {},
            {"norm": "l2"},
            {"norm": "l1"},
            {"norm": "mahalanobis"},
            {"center": [[3.0, 1.0], [1.0, 2.0]], "radius": 0.5, "min_distance": 0.1},
        )
    ],
    "StructuredInverse": [
        AdaptedRegressor(StructuredInverse(LinearInverseApprox(method="lstsq"))),
        AdaptedRegressor(StructuredInverse(Ridge(alpha=1e-3), "positive_definite")),
        AdaptedRegressor(
            StructuredInverse(
                NeuralInverseRegressor(8, max_iter=5, random_state=0), baseline="taylor"
            )
        ),
    ],
    "NeuralInverseRegressor": [
        NeuralInverseRegressor(),
        NeuralInverseRegressor(solver="adam", baseline=None),
        NeuralInverseRegressor(solver="lm", baseline="affine", max_iter=2),
        *exhaustive(
            *(
                NeuralInverseRegressor(solver=solver, baseline=baseline, max_iter=steps)
                for solver, steps in (("auto", 100), ("adam", 100), ("lm", 10))
                for baseline in (None, "affine", "taylor")
                if (solver, baseline) != ("adam", None)
            )
        ),
        NeuralInverseRegressor(early_stopping=True, learning_rate="constant", dtype="float64"),
        NeuralInverseRegressor(
            (16, 8),
            "tanh",
            learning_rate="warm_restarts",
            weight_decay=1e-6,
            batch_size=20,
            max_iter=30,
        ),
        AdaptedRegressor(
            NeuralInverseRegressor(
                8, "relu", baseline=None, init="taylor", max_iter=5, random_state=0
            )
        ),
    ],
}


# Parameters without a default.
REQUIRED = {
    "CertifiedInverse": {"estimator": LinearInverseApprox()},
    "StructuredInverse": {"estimator": Ridge()},
}


def crawl():
    """Return every public class of the package that can be fitted, by name."""
    found = {}
    for module in pkgutil.walk_packages(skinv.__path__, "skinv."):
        if ".data." in module.name:
            continue
        for name, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            ours = cls.__module__.startswith("skinv") and issubclass(cls, BaseEstimator)
            if ours and hasattr(cls, "fit") and not issubclass(cls, NeuralNet):  # the engine
                found[name] = cls
    return found


ESTIMATORS = crawl()


def _label(estimator):
    return repr(estimator).replace("\n", "").replace("  ", "")[:90]


def test_every_estimator_is_covered():
    """Crawling finds exactly the estimators that are configured here, all of them public."""
    assert set(ESTIMATORS) == set(CONFIGURATIONS)
    assert set(ESTIMATORS) <= set(skinv.__all__)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize("estimator", [e for es in CONFIGURATIONS.values() for e in es], ids=_label)
def test_conformance(estimator):
    """No check of scikit-learn fails, and none is expected to."""
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = [
        f"{r['check_name']}: {r['exception']}"
        for r in results
        if r["status"] not in ("passed", "skipped")
    ]
    assert failed == []
    # Skipped where array API support is not claimed; nothing else may hide there.
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}
    assert len(results) > 40


@pytest.mark.parametrize("name", sorted(ESTIMATORS) + ["SingularDistanceScorer"])
def test_parameter_constraints_are_complete(name):
    """Every constructor parameter is constrained, and a bad type is refused by its name."""
    cls = getattr(skinv, name)
    parameters = list(inspect.signature(cls).parameters)
    assert sorted(cls._parameter_constraints) == sorted(parameters)
    for parameter in parameters:
        bad = cls(**{**REQUIRED.get(name, {}), parameter: object()})
        with pytest.raises(InvalidParameterError, match=f"'{parameter}' parameter of {name}"):
            bad._validate_params()


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (FeasibleRegionSampler, {"radius": -1.0}),
        (FeasibleRegionSampler, {"min_distance": -0.1}),
        (FeasibleRegionSampler, {"norm": "l3"}),
        (FeasibleRegionSampler, {"on_infeasible": "ignore"}),
        (partial(CertifiedInverse, LinearInverseApprox()), {"tol": 0.0}),
        (partial(CertifiedInverse, LinearInverseApprox()), {"max_refine": -1}),
        (partial(CertifiedInverse, LinearInverseApprox()), {"order": 5}),
        (partial(CertifiedInverse, LinearInverseApprox()), {"fallback": "ignore"}),
        (partial(CertifiedInverse, LinearInverseApprox()), {"norm": "2"}),
        (partial(CertifiedInverse, LinearInverseApprox()), {"family": "rotations"}),
        (FeasibleRegionSampler, {"structure": "hermitian"}),
        (partial(StructuredInverse, Ridge()), {"structure": "hermitian"}),
        (partial(StructuredInverse, Ridge()), {"baseline": "affine"}),
        (LinearInverseApprox, {"order": 0}),
        (LinearInverseApprox, {"method": "newton"}),
        (PolynomialInverseApprox, {"degree": 0}),
        (PolynomialInverseApprox, {"degree": "many"}),
        (PolynomialInverseApprox, {"n_components": 0}),
        (PolynomialInverseApprox, {"max_terms": 0}),
        (PolynomialInverseApprox, {"on_extrapolation": "raise"}),
        (PolynomialInverseApprox, {"max_extrapolation": 0.9}),
        (NeuralInverseRegressor, {"hidden_layer_sizes": 0}),
        (NeuralInverseRegressor, {"hidden_layer_sizes": (8, 0)}),
        (NeuralInverseRegressor, {"hidden_layer_sizes": "large"}),
        (NeuralInverseRegressor, {"activation": "swish"}),
        (NeuralInverseRegressor, {"baseline": "cubic"}),
        (NeuralInverseRegressor, {"solver": "lm-bfgs"}),
        (NeuralInverseRegressor, {"learning_rate_init": 0.0}),
        (NeuralInverseRegressor, {"weight_decay": -1.0}),
        (NeuralInverseRegressor, {"batch_size": 0}),
        (NeuralInverseRegressor, {"max_iter": 0}),
        (NeuralInverseRegressor, {"tol": -1e-3}),
        (NeuralInverseRegressor, {"validation_fraction": 1.0}),
        (NeuralInverseRegressor, {"n_iter_no_change": 0}),
        (NeuralInverseRegressor, {"dtype": "float16"}),
    ],
)
def test_bad_values_are_refused(cls, params):
    """A value out of range is refused at fit, with its name."""
    X = np.array([[3.0, 1.0, 1.0, 2.0], [3.1, 1.0, 0.9, 2.0], [2.9, 1.1, 1.0, 2.1]])
    with pytest.raises(ValueError, match=next(iter(params))):
        cls(**params).fit(X)


def test_constructors_do_no_work():
    """Parameters are stored as they are, clones are equal, and get_params round-trips."""
    marker = [[1.0]]
    assert FeasibleRegionSampler(marker).center is marker
    for name, cls in ESTIMATORS.items():
        estimator = cls(**REQUIRED.get(name, {}))
        params, again = estimator.get_params(), clone(estimator).get_params()
        for values in (params, again):
            values.pop("estimator", None)  # cloned too
        assert again == params


def test_import_is_light():
    """`import skinv` imports neither torch nor matplotlib, nor any optional package.

    (pandas is not listed: scikit-learn imports it by itself where it is installed.)
    """
    code = (
        "import sys, skinv; "
        "heavy = {'torch', 'skorch', 'matplotlib', 'onnx', 'dask', 'imblearn'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"
