"""From a regressor's parameters and data to a trained net: which solver, which batches, how long.

Only this package knows skorch; :class:`skinv.NeuralInverseRegressor` hands itself over, fitted as
far as scaling and first weights, and gets its weights and history back.
"""

import copy
import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import EarlyStopping
from skorch.utils import noop
from torch import nn

from ..._arrays.progress import progress
from ..._arrays.warned import warn
from ..inference.engine import resolve_device
from .batches import Batches, DrawnBatches, Rows, TensorBatches, prepared_rows
from .callbacks import Finished, Recycling, ValidationScore
from .modules import MLP
from .net import InverseNet, load_solver_state, solver_state
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
    valid = score = None
    if held_out is not None:
        valid = TensorBatches(*_tensors(model, *held_out, dtype), 2**16)
        prepared = model._preparation
        score = ValidationScore(prepared.y_scale, prepared.variance(held_out[1]))
    del rows, targets, held_out
    rates = np.array([0.1 * peak_rate(model)]) if partial else None
    _train(model, solver, data, 1 if partial else model.max_iter, deadline, valid, score, rates)


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
    n_epochs = math.ceil(n_steps / per_epoch)
    data = DrawnBatches(
        stream(sampler, model._preparation, device, dtype),
        _batch_size(model, solver, 256),
        per_epoch,
        n_epochs=n_epochs,
        hard_fraction=model.hard_fraction,
        seed=int(model._rng.randint(2**31)),
    )
    _train(model, solver, data, n_epochs, deadline)


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
    dtype, decay = solver_dtype(model, solver), model.weight_decay
    of_adam = {"optimizer__fused": True, "optimizer__weight_decay": decay}
    net = InverseNet(
        MLP,
        module__layers=[(W.astype(dtype), b.astype(dtype)) for W, b in model._layers],
        module__activation=model._activation,
        solver=solver,
        weight_decay=decay,
        criterion=nn.MSELoss,
        optimizer=torch.optim.Adam,
        **(of_adam if solver == "adam" else {}),
        lr=peak_rate(model),
        max_epochs=1,
        batch_size=-1,
        train_split=None,
        callbacks=callbacks or [],
        device=resolve_device(model.device),
        verbose=0,
    ).initialize()
    load_solver_state(net, model._solver_state)
    return net


def _tensors(model: Any, rows: NDArray, targets: NDArray, dtype: str) -> Rows:

    def pair(piece: slice) -> tuple[NDArray, NDArray]:
        return rows[piece].astype(np.float64, copy=False), targets[piece]

    place = {"dtype": getattr(torch, dtype), "device": resolve_device(model.device, strict=True)}
    return prepared_rows(model._preparation, len(rows), _CHUNK, pair, **place)


def _train(
    model: Any,
    solver: str,
    data: Batches,
    n_epochs: int,
    deadline: float,
    valid: TensorBatches | None = None,
    score: ValidationScore | None = None,
    rates: NDArray | None = None,
) -> None:
    """Run the net, and let the model have its weights and history."""
    constant = model.learning_rate == "constant"
    if solver == "adam" and not constant and schedules_rates(model.callbacks):
        raise ValueError(
            f"Got learning_rate={model.learning_rate!r} and a callback that schedules learning "
            f"rates as well; use learning_rate='constant' with it."
        )
    callbacks = _callbacks(model, solver, data, n_epochs, score)
    net = build_net(model, solver, callbacks)
    if not constant:  # which a callback may schedule
        n_steps = n_epochs * data.n_batches
        schedule = learning_rates(model.learning_rate, n_steps, peak_rate(model))
        net.rates = schedule if rates is None else rates
    net.max_epochs = n_epochs
    net.started, net.deadline = time.monotonic(), deadline
    with progress(n_epochs, "training", "epoch", model.verbose) as net.bar:
        net.partial_fit(data, valid)
    if valid is not None:
        net.best_.restore(net.module_, valid)
    if net.was_interrupted():
        warn(
            f"The training was interrupted in epoch {len(net.history)} of {n_epochs}; the model is "
            f"the best so far.",
        )
    monitored = "train_loss" if valid is None else "valid_loss"
    epochs, layers = [row for row in net.history if monitored in row], net.module_.layers()
    if not all(np.isfinite(array).all() for layer in layers for array in layer):
        raise ValueError(
            "Weights became infinite or NaN in the last epoch; use a smaller learning_rate_init or "
            "weight_decay, or look for outliers in the targets."
        )
    model._net, model._layers = net, layers
    model._solver_state, model.solver_ = solver_state(net), net.solver
    model._fitted = True
    model._set_engine()
    model.n_iter_ += len(epochs)
    model.loss_curve_ = model.loss_curve_ + [row["train_loss"] for row in epochs]
    if valid is not None:
        scores = [row["valid_score"] for row in epochs if "valid_score" in row]
        model.validation_scores_ = (model.validation_scores_ or []) + scores
    model.best_loss_ = float(net.best_.loss)


def _callbacks(
    model: Any, solver: str, data: Batches, n_epochs: int, score: ValidationScore | None
) -> list[Any]:
    """Return copies of a model's callbacks, and those that its solver and validation need."""
    callbacks = copy.deepcopy(list(model.callbacks or []))
    if score is not None:
        callbacks.append(score)
    callbacks.append(Finished())
    # A schedule is run to its end, and so is Levenberg-Marquardt on batches, whose losses vary.
    if solver == "lm":
        patient = data.n_batches > 1 if score is None else not model.early_stopping
        if model._activation == "relu" and len(model._layers) == 2 and score is None:
            callbacks.append(Recycling(n_epochs, int(model._rng.randint(2**31))))
    else:
        patient = model.learning_rate != "constant"
    if n_epochs > 1 and not patient:
        monitor = "train_loss" if score is None else "valid_loss"
        n, tol = model.n_iter_no_change, model.tol
        callbacks.append(EarlyStopping(monitor, patience=n, threshold=tol, sink=noop))
    return callbacks


def learning_rates(schedule: str, n_steps: int, peak: float) -> NDArray[np.float64]:
    """Return the learning rate of every step, of a schedule that is not constant.

    "one_cycle" climbs from peak/25 in the first 30 % of the steps and falls to peak/10⁵, each along
    half a cosine (Smith and Topin 2019, "Super-convergence"). "warm_restarts" falls along half a
    cosine from the peak to 0 three times, in cycles of 1/7, 2/7 and 4/7 of the steps (Loshchilov
    and Hutter 2017, "SGDR", with T_mult = 2).
    """
    step = np.arange(n_steps, dtype=np.float64)
    if schedule == "warm_restarts":
        first = n_steps / 7
        cycle = np.searchsorted([first, 3 * first], step, side="right")
        start, length = first * (2**cycle - 1), first * 2**cycle
        return peak * _half_cosine((step - start) / length)
    climb = 0.3 * n_steps
    up = peak + (peak / 25 - peak) * _half_cosine(step / climb)
    down = peak / 1e5 + (peak - peak / 1e5) * _half_cosine(
        (step - climb) / max(n_steps - 1 - climb, 1)
    )
    return np.where(step < climb, up, down)


def _half_cosine(t: NDArray) -> NDArray:
    """Fall from 1 at t = 0 to 0 at t = 1."""
    return 0.5 * (1.0 + np.cos(np.pi * np.clip(t, 0.0, 1.0)))
