"""What a network starts from: scaling, baseline, and the first weights, as many as there should be.

:class:`skinv.NeuralInverseRegressor` hands itself over, validated, and gets these as attributes.
"""

from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._arrays.shapes import as_stack
from ..._arrays.warned import warn
from ..reduction import Directions
from ..selection import fit_polynomial
from ..units import FitUnits
from .preparation import SERIES, Preparation, random_layers, taylor_layers
from .residual import Residual

# Weights of a layer whose width is not given: past that, training takes minutes and gigabytes.
_MOST_WEIGHTS = 4_000_000
# Widths for matrices of order 2.
_SMALL = (16, 16)
# In reduced coordinates: how many the network sees, and units at most. For few rows they are fewer:
# numbers to fit for each weight, in the share of the rows that is trained on, and the fewest units.
_COMPONENTS, _UNITS = 8, 40
_NUMBERS, _TRAINED, _FEWEST = 4, 0.8, 8
# Rows that say whether all rows move in few directions.
_LOOKED_AT = 1000


def start_reduced(
    model: Any, rows: NDArray, targets: NDArray, inverses: bool, max_terms: int, *, looks: bool
) -> bool | None:
    """Start in reduced coordinates; return whether there is a network to train.

    None if all entries are to be used instead: if it `looks`, where rows move in many directions.
    """
    stated, free = isinstance(model.n_components, Integral), has_free_width(model)
    on_entries = model.init == "taylor" or (model.baseline in SERIES and inverses)
    if stated and on_entries:
        raise ValueError(
            f"Got n_components={model.n_components} with baseline={model.baseline!r} and "
            f"init={model.init!r}, which are of all entries: pass n_components=None, or "
            f"baseline='auto', 'affine' or None."
        )
    if model.n_components is None or on_entries or (model.baseline is None and not stated):
        return None
    units = FitUnits.of(rows, targets, inverses)
    rows, targets = units.scaled(rows, targets)
    if not stated and looks:
        some = slice(None, None, max(len(rows) // _LOOKED_AT, 1))
        directions = Directions(rows[some], targets[some], inverses=inverses)
        if not directions.are_few(rows[some], targets.shape[1]):
            return None
    count = int(model.n_components) if stated else _COMPONENTS
    found = fit_polynomial(
        rows,
        targets,
        inverses=inverses,
        degree=None if model.baseline == "auto" else 1,
        max_terms=max(max_terms, count),
    )
    if found is None and (stated or not free or model.baseline != "auto"):
        return None
    n_outputs = targets.shape[1]
    if found is None:
        series = Preparation.fit(rows, targets, "taylor", inverses=True)
        sizes = [len(series.kept), 1, n_outputs]
        layers = [(np.zeros((n, m)), np.zeros(n)) for m, n in pairwise(sizes)]
        _set_out(model, inverses, n_outputs, series.in_units(units), layers)
        return False
    prepared = Residual.of(
        found,
        rows,
        targets,
        count,
        float(model.max_extrapolation),
        constant=model.baseline is None,
        answers_all=model.on_extrapolation == "keep",
    )
    k, m = prepared.n_inputs, prepared.n_outputs
    width = int((len(rows) * _TRAINED * m / _NUMBERS - m) / (k + 1 + m))
    hidden = [min(max(width, 1), _UNITS)] if free else hidden_sizes(model, k, m)
    layers = random_layers([k, *hidden, m], model._rng)
    _set_out(model, inverses, n_outputs, prepared.in_units(units), layers)
    nothing = k == 0 or prepared.is_rounding(targets)
    return not free or (width >= _FEWEST and not nothing)


def has_free_width(model: Any) -> bool:
    """Tell whether the widths of the layers were left to the fit."""
    return isinstance(model.hidden_layer_sizes, str)


def start(
    model: Any, rows: NDArray, targets: NDArray, inverses: bool, center: NDArray | None = None
) -> None:
    """Start on all entries that vary; a series is about `center`, or the mean of the rows."""
    if model.init == "taylor" and not (
        inverses and model.activation == "relu" and model.baseline is None
    ):
        raise ValueError(
            f"init='taylor' is a ReLU network for inverses without a baseline; got "
            f"activation={model.activation!r}, baseline={model.baseline!r}"
            f"{'' if inverses else ' and targets that are not inverses'}: pass "
            f"activation='relu', baseline=None and no y, or init='default'."
        )
    units = FitUnits.of(rows, targets, inverses)
    rows, targets = units.scaled(rows, targets)
    if center is not None:
        center = np.ldexp(center, units.x.reshape(center.shape))
    with np.errstate(all="ignore"):
        prepared = Preparation.fit(rows, targets, model.baseline, inverses=inverses, center=center)
    sizes = len(prepared.kept), targets.shape[1]
    small = inverses and sizes == (4, 4) and model.activation != "relu" and has_free_width(model)
    hidden = list(_SMALL) if small else hidden_sizes(model, *sizes)
    if model.init == "taylor":
        if len(hidden) != 1:
            raise ValueError(
                f"init='taylor' needs one hidden layer, got hidden_layer_sizes={hidden}: pass "
                f"a single number, or init='default'."
            )
        if center is None:
            center = as_stack(rows.mean(axis=0, dtype=np.float64)[None])[0]
        layers = taylor_layers(prepared, rows, center, hidden[0], model._rng)
    else:
        layers = random_layers([len(prepared.kept), *hidden, targets.shape[1]], model._rng)
    _set_out(model, inverses, targets.shape[1], prepared.in_units(units), layers)


def _set_out(
    model: Any, inverses: bool, n_outputs: int, prepared: Preparation | Residual, layers: list
) -> None:
    """Start from layers in scaled space; forget what an earlier fit has learned."""
    model._preparation, model._layers = prepared, layers
    model._inverse_targets, model._activation = inverses, model.activation
    model._solver_state, model._net = {}, None
    model.n_outputs_, model.n_iter_ = n_outputs, 0
    model.loss_curve_, model.validation_scores_ = [], None
    # Of a network that is not trained.
    model.solver_, model.best_loss_ = "lm", 1.0


def hidden_sizes(model: Any, n_inputs: int, n_outputs: int) -> list[int]:
    """Return the widths of the hidden layers of a network of so many inputs and outputs."""
    sizes = model.hidden_layer_sizes
    if has_free_width(model):
        return [_auto_width(max(n_inputs, 1), n_outputs, model.dtype)]
    hidden = np.atleast_1d(np.asarray(sizes, dtype=object))
    if hidden.ndim > 1 or not all(isinstance(n, Integral) and int(n) >= 1 for n in hidden):
        raise ValueError(f"Got hidden_layer_sizes={sizes}, but widths are integers >= 1.")
    return [int(size) for size in hidden]


def _auto_width(n_inputs: int, n_outputs: int, dtype: str) -> int:
    """Return 8 units per input, or what there is room for, with a warning."""
    width, each = 8 * n_inputs, n_inputs + n_outputs
    room = max(_MOST_WEIGHTS // each, 1)
    if width <= room:
        return width
    # Weights, gradients and the two moments of Adam.
    memory = 4 * width * each * np.dtype(dtype).itemsize
    warn(
        f"hidden_layer_sizes='auto' is a layer of 8 units per input, but {width} units for "
        f"{n_inputs} inputs and {n_outputs} outputs have {width * each / 1e6:.0f} million "
        f"weights, and their training would take {memory / 2**30:.1f} GiB: {room} units "
        f"({room * each / 1e6:.1f} million weights) are trained instead. Pass "
        f"hidden_layer_sizes={room} for these without the warning, or other widths; n_components "
        f"for a network in reduced coordinates; or X with fewer inputs that vary, such as the "
        f"parameters of a family of matrices, with their inverses as y.",
    )
    return room
