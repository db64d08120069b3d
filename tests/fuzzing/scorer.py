"""Fuzzing of the scorer."""

from functools import partial

import numpy as np
from strategies import REFUSED, attempt

from fuzzing.certified import LIES, NONSENSE
from fuzzing.common import entry
from fuzzing.models import Liar, affine, inverses_of, ridge, scalar, series, silu, weights
from skinv import (
    FeasibleRegionSampler,
    LinearInverseApprox,
    SingularDistanceScorer,
)


def fuzz_scorer(c, method):
    names = "neg_mean_absolute_error", "neg_root_mean_squared_error", "neg_max_error"
    metric = c.choice(*names, "neg_relative_error", "neg_residual")
    if c.one_in(6):
        wrong = (lambda X, y, p: 1.0, lambda X, y, p: "error", lambda X, y, p: None)
        wrong += (lambda X, y, p: np.full(len(X), np.nan), lambda X, y, p: X)
        metric = c.rather((lambda X, y, p: np.ones(len(X)),), wrong)
    scorer = SingularDistanceScorer(
        metric,
        **c.options(
            norm=[partial(c.choice, "l2", "l1", "linf")],
            min_distance=[0.0, partial(c.number, 0.01)],
            weighting=[None, partial(c.choice, "distance", "inverse_distance")],
        ),
    )
    wrong = Liar(c.of(*NONSENSE)), None, LinearInverseApprox(), series(3), FeasibleRegionSampler()
    right = series(), affine(), silu(), ridge(), Liar(c.of(*LIES))
    model = c.rather(right, (*wrong, scalar()))
    X = c.matrices(2, layouts=["rows", "rows", "stack"], calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    if method == "profile":
        found = attempt(scorer.profile, model, X, y, n_bins=c.count(2))
        assert found is REFUSED or len(found.edges) == len(found.distance) + 1
        return
    options = c.options(sample_weight=[weights(c, X)])
    found = attempt(getattr(scorer, method), model, X, y, **options)
    assert found is REFUSED or isinstance(found, float)
    assert found is REFUSED or callable(metric) or not found > 0


for _name in ("score", "profile", "__call__"):
    entry(f"SingularDistanceScorer.{_name}")(partial(fuzz_scorer, method=_name))
