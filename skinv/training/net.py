"""The skorch net, with an epoch loop that costs little more than its torch operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn
from tqdm.auto import tqdm

from .modules import MLP

_BATCH_EVENTS = ("on_batch_begin", "on_batch_end", "on_grad_computed")


class InverseNet(NeuralNet):
    """A skorch net for preloaded batches, with a learning rate per step.

    It is fitted with datasets that know their ``batches()``, of training and of validation; all
    else is skorch: history, callbacks, optimiser. Without a callback that listens to single
    batches an epoch runs in a plain torch loop, and the history holds epochs only.

    Parameters
    ----------
    rates : ndarray, default=None
        Learning rate of each step to come; None leaves the optimiser's.
    **kwargs
        Of :class:`skorch.NeuralNet`.

    Examples
    --------
    >>> from skinv.training.batches import TensorBatches
    >>> layers = [(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))]
    >>> net = make_net(layers, "relu", device="cpu", learning_rate=0.1)
    >>> x = torch.linspace(-1, 1, 8)[:, None]
    >>> net = net.partial_fit(TensorBatches(x, 2 * x, 8))
    >>> len(net.history)
    1
    """

    def __init__(self, *args: Any, rates: NDArray | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.rates = rates

    @property
    def _default_callbacks(self) -> list:
        return []

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, Any]:
        """Return the datasets of training and validation, which are what was passed."""
        return X, y

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return something to iterate over once per epoch."""
        if hasattr(dataset, "batches"):
            return _Epochs(dataset)
        return super().get_iterator(dataset, training=training)

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Look once which loop the callbacks need."""
        super().on_train_begin(net, X=X, y=y, **kwargs)
        self.n_steps_ = 0
        self._listened = any(
            getattr(type(callback), event) is not getattr(Callback, event)
            for _, callback in self.callbacks_
            for event in _BATCH_EVENTS
        )

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
        else:
            total, rows = self._lean_epoch(iterator, training)
        if rows == 0:
            raise ValueError("No optimiser step was taken: an epoch held no batch.")
        loss = total / rows
        name = prefix + "_loss"
        if not np.isfinite(loss):
            raise ValueError(
                f"The {name.replace('_', ' ')} became {loss} in epoch {len(self.history)}; use a "
                f"smaller learning_rate_init, or look for outliers in the targets."
            )
        before = [row[name] for row in self.history[:-1] if name in row]
        self.history.record(name, loss)
        self.history.record(name + "_best", loss < min(before, default=np.inf))

    def _lean_epoch(self, iterator: Any, training: bool) -> tuple[float, int]:
        """Run one epoch and return the summed loss and the number of rows."""
        module, criterion, optimizer = self.module_, self.criterion_, self.optimizer_
        module.train(training)
        total: Any = 0.0
        rows = 0
        with torch.set_grad_enabled(training):
            for x, y in iterator:
                loss = criterion(module(x), y)
                if training:
                    self._next_rate()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                total = total + loss.detach() * len(x)
                rows += len(x)
        return float(total), rows

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        """Take one step in skorch's own loop."""
        self._next_rate()
        return super().train_step(batch, **fit_params)

    def _next_rate(self) -> None:
        if self.rates is not None:
            rate = float(self.rates[min(self.n_steps_, len(self.rates) - 1)])
            for group in self.optimizer_.param_groups:
                group["lr"] = rate
        self.n_steps_ += 1


class _Epochs:
    """Iterable many times over, unlike a generator."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __iter__(self) -> Any:
        return self.dataset.batches()

    def __len__(self) -> int:
        return self.dataset.n_batches


class ValidationScore(Callback):
    """Records R² on the validation set after each epoch, outputs weighted by their variance.

    Parameters
    ----------
    scale : ndarray of shape (n_outputs,)
        Unit of each output of the network.
    variance : float
        Variance of the targets, averaged over outputs.

    Examples
    --------
    >>> ValidationScore(np.ones(2), 1.0).variance
    1.0
    """

    def __init__(self, scale: NDArray, variance: float):
        self.scale = scale
        self.variance = variance

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Score the epoch."""
        with torch.no_grad():
            error = (net.module_(dataset_valid.x) - dataset_valid.y).double().cpu().numpy()
        squared = float(np.mean((error * self.scale) ** 2))
        score = 1.0 - squared / self.variance if self.variance > 0 else 0.0
        net.history.record("valid_score", score)


class EpochBar(Callback):
    """A tqdm progress bar over epochs that shows the losses.

    Parameters
    ----------
    n_epochs : int

    Examples
    --------
    >>> EpochBar(10).n_epochs
    10
    """

    def __init__(self, n_epochs: int):
        self.n_epochs = n_epochs

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=self.n_epochs, desc="training", unit="epoch", leave=True)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        row = net.history[-1]
        shown = {"loss": f"{row['train_loss']:.2e}"}
        if "valid_loss" in row:
            shown["validation"] = f"{row['valid_loss']:.2e}"
        self.bar_.set_postfix(shown, refresh=False)
        self.bar_.update()

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Close the bar."""
        self.bar_.close()


def make_net(
    layers: list[tuple[NDArray, NDArray]],
    activation: str,
    *,
    device: str,
    learning_rate: float,
    weight_decay: float = 0.0,
    callbacks: list | None = None,
) -> InverseNet:
    """Return an initialised net with given weights and a fused Adam optimiser.

    Parameters
    ----------
    layers : list of (weight, bias)
    activation : {"relu", "silu", "tanh"}
    device : str
    learning_rate, weight_decay : float
    callbacks : list of skorch callbacks, default=None

    Returns
    -------
    InverseNet

    Examples
    --------
    >>> layers = [(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))]
    >>> make_net(layers, "relu", device="cpu", learning_rate=0.1).module_.activation
    'relu'
    """
    net = InverseNet(
        MLP,
        module__layers=layers,
        module__activation=activation,
        criterion=nn.MSELoss,
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        optimizer__weight_decay=weight_decay,
        lr=learning_rate,
        max_epochs=1,
        batch_size=-1,
        train_split=None,
        callbacks=callbacks or [],
        device=device,
        verbose=0,
    )
    return net.initialize()


def adam_state(net: InverseNet) -> dict[str, list[NDArray]]:
    """Copy the optimiser's moments out as arrays.

    Parameters
    ----------
    net : InverseNet

    Returns
    -------
    dict of lists of ndarray
        ``step``, ``exp_avg`` and ``exp_avg_sq``, one entry per parameter; empty before any step.

    Examples
    --------
    >>> layers = [(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))]
    >>> adam_state(make_net(layers, "relu", device="cpu", learning_rate=0.1))
    {}
    """
    states = [net.optimizer_.state.get(p, {}) for p in net.module_.parameters()]
    if not all(states):
        return {}
    return {
        key: [state[key].detach().cpu().numpy().copy() for state in states]
        for key in ("step", "exp_avg", "exp_avg_sq")
    }


def load_adam_state(net: InverseNet, saved: dict[str, list[NDArray]]) -> None:
    """Put saved moments back into the optimiser of a net of the same shape.

    Parameters
    ----------
    net : InverseNet
    saved : dict
        What :func:`adam_state` returned.

    Examples
    --------
    >>> layers = [(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))]
    >>> load_adam_state(make_net(layers, "relu", device="cpu", learning_rate=0.1), {})
    """
    for key, arrays in saved.items():
        for parameter, array in zip(net.module_.parameters(), arrays, strict=True):
            dtype = torch.float32 if key == "step" else parameter.dtype
            value = torch.tensor(array, device=parameter.device, dtype=dtype)
            net.optimizer_.state[parameter][key] = value
