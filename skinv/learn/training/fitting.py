"""From a regressor's parameters and data to a trained net: which solver, which batches, how long.

Only this package knows skorch; :class:`skinv.NeuralInverseRegressor` hands itself over, fitted as
far as scaling and first weights, and gets its weights and history back.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import EarlyStopping

from ..inference.engine import resolve_device
from .batches import Batches, DrawnBatches, TensorBatches
from .callbacks import Converged, Deadline, EpochBar, ValidationScore
from .net import InverseNet, load_solver_state, make_net, solver_state
from .recycling import Recycling
from .schedules import learning_rates
from .solvers import choose_solver, lm_batch_size, lm_epoch, schedules_rates
from .stream import stream

# Batches of Adam drawn at once from a sampler.
_DRAWN = 64
# Rows prepared at once for the network: nothing of the size of the data is held besides it.
_CHUNK = 2**16


@np.errstate(all="ignore")  # of what overflows the loss tells
def train_on_arrays(
    model: Any,
    rows: NDArray,
    targets: NDArray,
    held_out: tuple[NDArray, NDArray] | None,
    n_epochs: int,
    *,
    partial: bool = False,
    deadline: float = math.inf,  # on the clock time.monotonic
) -> None:
    """Train on arrays, under the schedule or, if `partial`, for one epoch without one."""
    sizes = layer_sizes(model)
    # A model that goes on in smaller portions keeps its solver, unless these are very small.
    kept = partial and getattr(model, "solver_", None) == "lm" and model.n_iter_ > 0
    n_rows = len(rows) * (2 if kept else 1)
    solver = choose_solver(model.solver, sizes, model._activation, n_rows, model.callbacks)
    dtype = solver_dtype(model, solver)
    seed = int(model._rng.randint(2**31))
    data = TensorBatches(
        *_tensors(model, rows, targets, dtype),
        _batch_size(model, solver, int(np.clip(len(rows) // 200, 64, 1024))),
        seed,
        max_batches=lm_epoch(sizes) if solver == "lm" else None,
        hard_fraction=model.hard_fraction,
    )
    valid, variance = None, 0.0
    if held_out is not None:
        valid = TensorBatches(*_tensors(model, *held_out, dtype), 2**16)
        variance = model._preparation.variance(held_out[1])
    del rows, targets, held_out
    peak, constant = peak_rate(model), model.learning_rate == "constant"
    if partial:
        rates = np.array([peak * (1.0 if constant else 0.1)])
    else:
        rates = learning_rates(model.learning_rate, n_epochs * data.n_batches, peak)
    _train(model, solver, data, valid, n_epochs, rates, variance, deadline=deadline)


@np.errstate(all="ignore")  # of what overflows the loss tells
def train_on_stream(
    model: Any, sampler: Any, n_steps: int | None, deadline: float = math.inf
) -> None:
    """Train on fresh matrices in every step; None is 10,000 of Adam, 1,000 of the other solver."""
    sizes = layer_sizes(model)
    solver = choose_solver(model.solver, sizes, model._activation, np.inf, model.callbacks)
    device = resolve_device(model.device, strict=True)
    dtype = getattr(torch, solver_dtype(model, solver))
    if n_steps is None:
        n_steps = 1_000 if solver == "lm" else 10_000
    per_epoch = min(lm_epoch(sizes) if solver == "lm" else _DRAWN, n_steps)
    n_epochs = -(-n_steps // per_epoch)
    data = DrawnBatches(
        stream(sampler, model._preparation, device, dtype),
        _batch_size(model, solver, 256),
        per_epoch,
        n_epochs=n_epochs,
        hard_fraction=model.hard_fraction,
        seed=int(model._rng.randint(2**31)),
    )
    rates = learning_rates(model.learning_rate, n_epochs * per_epoch, peak_rate(model))
    _train(model, solver, data, None, n_epochs, rates, deadline=deadline)


def layer_sizes(model: Any) -> list[int]:
    """Return the widths of the layers, from input to output."""
    return [model._layers[0][0].shape[1], *(len(b) for _, b in model._layers)]


def solver_dtype(model: Any, solver: str) -> str:
    """Return the precision of the training: float64 for Levenberg-Marquardt."""
    return "float64" if solver == "lm" else model.dtype


def _batch_size(model: Any, solver: str, of_adam: int) -> int:
    """Return the largest batch; "auto" of Adam is given."""
    if model.batch_size != "auto":
        return int(model.batch_size)
    return lm_batch_size(layer_sizes(model)) if solver == "lm" else of_adam


def peak_rate(model: Any) -> float:
    """Return the largest learning rate of a fit."""
    if model.learning_rate_init != "auto":
        return float(model.learning_rate_init)
    return min(0.01, 5 / max(layer_sizes(model)[1:-1], default=1))


def build_net(model: Any, solver: str, callbacks: list | None = None) -> InverseNet:
    """Return a net with a model's weights, and the state its solver was left in."""
    dtype = solver_dtype(model, solver)
    net = make_net(
        [(W.astype(dtype), b.astype(dtype)) for W, b in model._layers],
        model._activation,
        device=resolve_device(model.device),
        solver=solver,
        learning_rate=peak_rate(model),
        weight_decay=model.weight_decay,
        callbacks=callbacks,
    )
    load_solver_state(net, model._solver_state)
    return net


def _tensors(
    model: Any, rows: NDArray, targets: NDArray, dtype: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring inputs and targets of the network to the device, piece by piece."""
    device, prepared = resolve_device(model.device, strict=True), model._preparation
    options: Any = {"dtype": getattr(torch, dtype), "device": device}
    x = torch.empty(len(rows), len(prepared.kept), **options)
    y = torch.empty(len(rows), prepared.n_outputs, **options)
    for start in range(0, len(rows), _CHUNK):
        piece = slice(start, start + _CHUNK)
        part = rows[piece].astype(np.float64, copy=False)
        x[piece] = torch.as_tensor(prepared.inputs(part)).to(**options)
        y[piece] = torch.as_tensor(prepared.outputs(part, targets[piece])).to(**options)
    return x, y


def _train(
    model: Any,
    solver: str,
    data: Batches,
    valid: TensorBatches | None,
    n_epochs: int,
    rates: NDArray,
    variance: float = 0.0,
    *,
    deadline: float,
) -> None:
    """Run the net, and let the model have its weights and history."""
    constant = model.learning_rate == "constant"
    if solver == "adam" and not constant and schedules_rates(model.callbacks):
        raise ValueError(
            f"Got learning_rate={model.learning_rate!r} and a callback that schedules learning "
            f"rates as well; use learning_rate='constant' with it."
        )
    callbacks = _callbacks(model, solver, data, valid, n_epochs, variance)
    if deadline < math.inf:
        callbacks.append(Deadline())
    bar = EpochBar(n_epochs)
    if model.verbose:
        callbacks.append(bar)
    net = build_net(model, solver, callbacks)
    # A callback may schedule a constant rate, but not another schedule.
    net.rates = None if constant else rates
    net.max_epochs = n_epochs
    net.started, net.deadline = time.monotonic(), deadline
    try:
        net.partial_fit(data, valid)
    finally:
        bar.close()
    if valid is not None:
        net.restore_best(data, valid)
    if net.was_interrupted():
        warnings.warn(
            f"The training was interrupted in epoch {len(net.history)} of {n_epochs}; the model is "
            f"the best so far.",
            UserWarning,
            stacklevel=4,
        )
    _keep(model, net, solver, validated=valid is not None)


def _callbacks(
    model: Any,
    solver: str,
    data: Batches,
    valid: TensorBatches | None,
    n_epochs: int,
    variance: float,
) -> list[Any]:
    """Return copies of a model's callbacks, and those that its solver and validation need."""
    callbacks = copy.deepcopy(list(model.callbacks or []))
    if valid is not None:
        callbacks.append(ValidationScore(model._preparation.y_scale, variance))
    # A schedule is run to its end, and so is Levenberg-Marquardt on batches, whose losses vary.
    if solver == "lm":
        patient = data.n_batches > 1 if valid is None else not model.early_stopping
        callbacks.append(Converged())
        if model._activation == "relu" and len(model._layers) == 2 and valid is None:
            callbacks.append(Recycling(n_epochs, int(model._rng.randint(2**31))))
    else:
        patient = model.learning_rate != "constant"
    if n_epochs > 1 and not patient:
        callbacks.append(
            EarlyStopping(
                monitor="train_loss" if valid is None else "valid_loss",
                patience=model.n_iter_no_change,
                threshold=model.tol,
                sink=_silent,
            )
        )
    return callbacks


def _keep(model: Any, net: InverseNet, solver: str, *, validated: bool) -> None:
    """Let a model have the weights and the history of its net."""
    monitored = "valid_loss" if validated else "train_loss"
    epochs, layers = [row for row in net.history if monitored in row], net.module_.layers()
    if not all(np.isfinite(array).all() for layer in layers for array in layer):
        raise ValueError(
            "Weights became infinite or NaN in the last epoch; use a smaller learning_rate_init or "
            "weight_decay, or look for outliers in the targets."
        )
    model._net, model._layers = net, layers
    model._solver_state, model.solver_ = solver_state(net), solver
    model._fitted = True
    model._set_engine()
    model.n_iter_ += len(epochs)
    model.loss_curve_ = model.loss_curve_ + [row["train_loss"] for row in epochs]
    if validated:
        scores = [row["valid_score"] for row in epochs if "valid_score" in row]
        model.validation_scores_ = (model.validation_scores_ or []) + scores
    model.best_loss_ = net.best_loss()


def _silent(*args: Any) -> None:
    """Print nothing."""
