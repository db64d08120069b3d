"""Fuzzing of what all estimators have."""

import copy
import inspect

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from strategies import JUNK, REFUSED, Given, attempt

from fuzzing.common import entry
from fuzzing.models import affine, region, series, silu, structured
from skinv import (
    CertifiedInverse,
    SingularDistanceScorer,
)


def anyone(c):
    """Return an estimator of the package, fitted or not."""
    return clone_or_self(
        c,
        c.of(
            *(series(), affine(), silu(), structured(), region(), SingularDistanceScorer()),
            CertifiedInverse(series()),
        ),
    )


def clone_or_self(c, model):
    return clone(model) if c.one_in(2) else copy.deepcopy(model)


@entry("*.get_params", "*.set_params")
def fuzz_params(c):
    model = anyone(c)
    params = attempt(model.get_params, c.flag())
    assert set(inspect.signature(type(model)).parameters) <= set(params)
    name = c.of(*params, "nonsense", "estimator__order", "")
    value = c.of(c.number, params.get(name), *JUNK)
    same = attempt(model.set_params, **{name: value})
    assert same is REFUSED or same is model
    assert same is REFUSED or model.get_params()[name] is value or "__" in name


@entry(
    *(f"*.set_{method}_request" for method in ("fit", "predict", "score")),
    "*.get_metadata_routing",
)
def fuzz_routing(c):
    model = anyone(c)
    routing = attempt(model.get_metadata_routing)
    assert repr(routing)
    for name in dir(model):
        if name.startswith("set_") and name.endswith("_request"):
            with config_context(enable_metadata_routing=True):
                keys = "sample_weight", "return_bound", "out", "outputs", "estimator", "nonsense"
                asked = {c.of(*keys): c.of(True, False, None, "alias", 5, "")}
                same = attempt(getattr(model, name), **asked)
            assert same is REFUSED or same is model


@entry("*.set_output", "*.get_feature_names_out")
def fuzz_output(c):
    model = copy.copy(region(on_infeasible="nan"))
    same = attempt(model.set_output, transform=c.of("default", "pandas", "polars", None, "x", 5))
    assert same is REFUSED or same is model
    X = c.matrices(2)
    Y = attempt(model.transform, X)
    assert Y is REFUSED or not X.right or len(Y) == len(X.numbers)
    names = c.of(
        *(None, list("abcd"), list("abc"), [], [1, 2, 3, 4], np.array(["a"] * 4)),
        *(Given(5), Given("abcd")),
    )
    found = attempt(model.get_feature_names_out, names)
    assert found is REFUSED or len(found) == 4
