"""The skorch net, with an epoch loop that costs little more than its torch operations."""

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler
from skorch.callbacks.training import ParamMapper

from .adam import AdamLoop
from .batches import Batches, row_losses
from .callbacks import BestWeights
from .levenberg_marquardt import LevenbergMarquardt

# Levenberg-Marquardt takes its last steps on batches that are so much larger.
_LAST_PART, _LARGER = 0.8, 4
# Steps of Adam after which a deadline is looked at.
_PART = 64
_BATCH_EVENTS = ("on_batch_begin", "on_batch_end", "on_grad_computed")


class InverseNet(NeuralNet):
    """A skorch net for preloaded batches, with a solver of its own for each epoch.

    It is fitted with datasets that know their ``epoch()``, of training and of validation; all else
    is skorch: history, callbacks, optimiser. Without a callback that listens to single batches an
    epoch of Adam runs in :class:`~skinv.learn.training.adam.AdamLoop`, and is one batch in the
    history. An interrupted fit ends with the best weights so far.
    """

    optimizer_: Any
    # On the clock time.monotonic: when to stop, and when training began.
    deadline, started = math.inf, 0.0
    bar: Any = None  # of progress over epochs
    rates: NDArray | None = None  # of all steps; None leaves them to the optimiser and callbacks

    def __init__(
        self,
        *args: Any,
        solver: str = "adam",
        weight_decay: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.solver = solver
        self.weight_decay = weight_decay

    @property
    def _default_callbacks(self) -> list:
        return []

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> "InverseNet":
        """Make the optimiser, which for Levenberg-Marquardt is no torch optimiser."""
        if self.solver == "adam":
            return super().initialize_optimizer(*args, **kwargs)
        self.optimizer_ = LevenbergMarquardt(self.module_, self.weight_decay)
        return self

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, Any]:
        """Return the datasets of training and validation, which are what was passed."""
        return X, y

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return something to iterate over once per epoch."""
        if isinstance(dataset, Batches):
            return dataset
        return super().get_iterator(dataset, training=training)

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **params: Any) -> Any:
        """Run the epochs; interrupted, go back to the best weights so far."""
        X.losses = row_losses(self.module_)
        self.interrupted_ = False
        self._loop: Any = None  # of Adam
        self._listened = any(_listens(callback) for _, callback in self.callbacks_)
        self.n_steps_ = 0
        self.best_ = BestWeights(self.module_)
        self._smallest: dict[str, float] = {}
        try:
            return super().fit_loop(X, y, epochs=epochs, **params)
        except KeyboardInterrupt:
            self.interrupted_ = True
            self.best_.restore(self.module_, X if y is None else y)
            return self
        finally:
            X.close()
            self._loop = None  # its graph holds a copy of the data

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_loop": None, "best_": None, "bar": None}

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Let Levenberg-Marquardt end on larger batches, whose noise is smaller."""
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        if self.solver == "lm" and len(self.history) == int(_LAST_PART * self.max_epochs) + 1 > 5:
            dataset_train.enlarge(_LARGER)

    def is_late(self) -> bool:
        """Tell whether the time for training is over."""
        return self.deadline < math.inf and time.monotonic() >= self.deadline

    def has_converged(self) -> bool:
        """Tell whether Levenberg-Marquardt finds no step any more that lowers the error."""
        return self.solver == "lm" and self.optimizer_.converged

    def was_interrupted(self) -> bool:
        """Tell whether the last fit was stopped from outside, and not by a callback."""
        by_callback = self.is_late() or self.has_converged()
        by_callback |= any(
            isinstance(c, EarlyStopping) and c.misses_ >= c.patience for _, c in self.callbacks_
        )
        return self.interrupted_ and not by_callback

    def _next_rates(self, n_steps: int) -> NDArray | None:
        """Go on in the schedule, faster if time is going faster; return the rates of the steps."""
        if self.rates is None:
            return None
        if self.deadline < math.inf:
            share = (time.monotonic() - self.started) / (self.deadline - self.started)
            self.n_steps_ = max(self.n_steps_, int(min(share, 1.0) * len(self.rates)))
        steps = np.arange(self.n_steps_, self.n_steps_ + n_steps)
        self.n_steps_ += n_steps
        return self.rates[np.minimum(steps, len(self.rates) - 1)]

    def on_epoch_end(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Remember the weights if they are the best so far, and show the losses."""
        super().on_epoch_end(net, dataset_train=dataset_train, **kwargs)
        row = self.history[-1]
        self.best_.offer(self.module_, row.get("valid_loss", row["train_loss"]))
        if self.bar is not None:
            shown = f"loss {row['train_loss']:.2e}"
            if "valid_loss" in row:
                shown += f", validation {row['valid_loss']:.2e}"
            self.bar.set_postfix_str(shown, refresh=False)
            self.bar.update()

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run one epoch and record its mean loss per row."""
        if iterator is None:
            return
        if self._listened:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            size = prefix + "_batch_size"
            batches = [batch for batch in self.history[-1, "batches"] if size in batch]
            rows = sum(batch[size] for batch in batches)
            total = sum(batch[prefix + "_loss"] * batch[size] for batch in batches)
        elif training:
            total, rows = self._lean_epoch(iterator)
            self.history.new_batch()  # checkpoints look at the last batch
            self.history.record_batch("train_batch_size", rows)
        else:
            total, rows = self._validate(iterator)
        if rows == 0:
            raise ValueError("No optimiser step was taken: an epoch held no batch.")
        loss = total / rows
        name = prefix + "_loss"
        if not np.isfinite(loss):
            advice = "use a smaller learning_rate_init, or " if self.solver == "adam" else ""
            raise ValueError(
                f"The {name.replace('_', ' ')} became {loss} in epoch {len(self.history)}; "
                f"{advice}look for outliers in the targets."
            )
        before = self._smallest.get(name, np.inf)
        self._smallest[name] = min(before, loss)
        self.history.record(name, loss)
        self.history.record(name + "_best", loss < before)

    def _lean_epoch(self, dataset: Any) -> tuple[float, int]:
        """Run one epoch of training; return the summed loss and the number of rows."""
        x, y = dataset.epoch()
        if len(x) == 0:
            return 0.0, 0
        part = dataset.batch_size
        if self.solver == "adam":
            # With a deadline the epoch goes in parts, after each of which it can end.
            part = len(x) if self.deadline == math.inf else _PART * part
            self._loop = self._loop or AdamLoop(self.module_, self.optimizer_)
        total, rows = 0.0, 0
        for xs, ys in zip(x.split(part), y.split(part), strict=True):
            if self.solver == "lm":
                total += self.optimizer_.step(xs, ys) * len(xs)
            else:
                rates = self._next_rates(math.ceil(len(xs) / dataset.batch_size))
                total += float(self._loop.steps(xs, ys, dataset.batch_size, rates))
            rows += len(xs)
            if self.is_late():
                break
        return total, rows

    def _validate(self, dataset: Any) -> tuple[float, int]:
        """Return the summed loss of a data set and its number of rows."""
        x, y = dataset.epoch()
        scorers = [c for _, c in self.callbacks_ if isinstance(c, EpochScoring)]
        if scorers:  # they keep predictions, if they were asked to
            with torch.no_grad():
                predicted = torch.cat([self.module_(part) for part in x.split(2**14)])
            for scorer in scorers:
                scorer.on_batch_end(self, batch=(x, y), y_pred=predicted, training=False)
        return float(row_losses(self.module_)((x, y)).sum()), len(x)

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        """Take one step in skorch's own loop."""
        if self.solver == "lm":
            with torch.no_grad():
                predicted = self.module_(batch[0])
            loss = torch.tensor(self.optimizer_.step(*batch), dtype=torch.float64)
            return {"loss": loss, "y_pred": predicted}
        if self.is_late() and len(self.history) > 1:
            raise KeyboardInterrupt
        rates = self._next_rates(1)
        if rates is not None:
            for group in self.optimizer_.param_groups:
                group["lr"] = float(rates[0])
        return super().train_step(batch, **fit_params)


def _listens(callback: Any) -> bool:
    """Tell whether a callback needs to hear of single batches."""
    if isinstance(callback, LRScheduler):
        return callback.step_every != "epoch"
    if isinstance(callback, ParamMapper):  # may freeze parameters, which autograd knows of
        return True
    if isinstance(callback, EpochScoring):
        return callback.on_train and callback.use_caching
    return any(
        getattr(type(callback), event) is not getattr(Callback, event) for event in _BATCH_EVENTS
    )


def solver_state(net: InverseNet) -> dict[str, Any]:
    """Copy out as arrays and numbers what the solver goes on from; nothing before steps of Adam."""
    if net.solver == "lm":
        return {"lm": net.optimizer_.state_dict()}
    states = [net.optimizer_.state.get(p, {}) for p in net.module_.parameters()]
    if not all(states):
        return {}
    keys = ("step", "exp_avg", "exp_avg_sq")
    return {key: [s[key].detach().cpu().numpy().copy() for s in states] for key in keys}


def load_solver_state(net: InverseNet, saved: dict[str, Any]) -> None:
    """Put a saved state, unless it is of another solver, back into the optimiser of a net."""
    if ("lm" in saved) != (net.solver == "lm"):
        return
    if net.solver == "lm":
        net.optimizer_.load_state_dict(saved["lm"])
        return
    for key, arrays in saved.items():
        for parameter, array in zip(net.module_.parameters(), arrays, strict=True):
            dtype = torch.float32 if key == "step" else parameter.dtype
            value = torch.tensor(array, device=parameter.device, dtype=dtype)
            net.optimizer_.state[parameter][key] = value
