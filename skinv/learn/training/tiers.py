"""Polynomials of more and more terms with a network on each, as far as they are worth their time.

:class:`skinv.NeuralInverseRegressor` hands itself over, validated.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from ..selection import held_out as held_out_rows
from .residual import Residual
from .setup import has_free_width, start, start_reduced

# A network that leaves more than this share of the square of what it learns is not worth its time.
_WORTH = 0.7
# Terms of the polynomial at most, and the relative error of rows held out that is small enough with
# these: where it is larger, the next number is tried.
TIERS = {36: 2e-5, 128: 1e-3, 256: math.inf}


def train_tier(
    model: Any,
    rows: NDArray,
    targets: NDArray,
    inverses: bool,
    resume: bool,
    max_terms: int,
    deadline: float,
) -> tuple[float, bool]:
    """Train; return the relative error of rows held out, and whether more terms may help."""
    learns: bool | None = True
    if not resume:
        with np.errstate(all="ignore"):
            # All tiers are of the coordinates that the first one finds the rows to have.
            looks = max_terms == min(TIERS)
            learns = start_reduced(model, rows, targets, inverses, max_terms, looks=looks)
    reduced = learns is not None and isinstance(model._preparation, Residual)
    free, held_out = has_free_width(model) and not model.early_stopping, None
    if model.early_stopping:
        if len(rows) < 2:
            raise ValueError(
                "Got n_samples=1, but early_stopping=True needs samples to split: pass more, "
                "or early_stopping=False."
            )
        rows, valid_rows, targets, valid_targets = train_test_split(
            rows, targets, test_size=model.validation_fraction, random_state=model._rng
        )
        held_out = valid_rows, valid_targets
    elif reduced and free:
        held = held_out_rows(len(rows))
        held_out = (rows[held], targets[held]) if held.any() else None
        rows, targets = rows[~held], targets[~held]
    if learns is None:
        start(model, rows, targets, inverses)
    interrupted = False
    if learns is not False:
        from .fitting import train_on_arrays

        train_on_arrays(model, rows, targets, held_out, deadline=deadline)
        interrupted = model._net.was_interrupted()
    else:
        _drop_network(model)
        model._fitted = True
    if not reduced:  # the series, where so few terms are not better, or all entries
        return math.inf, learns is False
    worth = not free or model.best_loss_ <= _WORTH
    if not worth:
        _drop_network(model)
    n_hidden = model._layers[-1][0].shape[1] if worth else 0
    error = model._preparation.settle(targets, model.best_loss_ if worth else 1.0, n_hidden)
    goes_on = free and model.baseline == "auto" and not resume and not interrupted
    return (math.inf if interrupted else error), goes_on


def _drop_network(model: Any) -> None:
    """Set the last layer to 0, which leaves the baseline."""
    W, b = model._layers[-1]
    model._layers = [*model._layers[:-1], (np.zeros_like(W), np.zeros_like(b))]
    model._net = None
