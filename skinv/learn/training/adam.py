"""Adam without autograd: the steps of an epoch at the cost of their arithmetic.

The parameters of the module, their gradients and Adam's moments become views of four flat tensors,
so that one fused kernel updates them all; the gradient comes from
:mod:`skinv.learn.training.backprop`. The optimiser of the net keeps owning the moments (its state
holds the views), so that callbacks, checkpoints and skorch's own loop see what they expect. On CUDA
a step is captured in a graph, which reads its rows and its learning rate by a counter on the
device: replaying needs nothing from the host.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..._arrays.warned import warn
from .backprop import Backprop, flatten, views

# Steps before a capture, on a stream of their own, as CUDA graphs need them.
_WARM_UP = 3


class AdamLoop:
    """Adam on the mean squared error of a perceptron, with the constants of a torch optimiser."""

    def __init__(self, module: Any, optimizer: Any):
        self._module, self._optimizer = module, optimizer
        parameters = list(module.parameters())
        theta, values = flatten(parameters)
        grad, states = torch.zeros_like(theta), [optimizer.state[p] for p in parameters]
        steps = [float(state["step"]) for state in states if "step" in state]
        # What the fused kernel takes it for, whatever torch's default is.
        self._step = theta.new_tensor(max(steps, default=0.0), dtype=torch.float32)
        moments = []
        for key in ("exp_avg", "exp_avg_sq"):
            pairs = zip(states, parameters, strict=True)
            flat, parts = flatten([state.get(key, torch.zeros_like(p)) for state, p in pairs])
            moments.append(flat)
            for state, part in zip(states, parts, strict=True):
                state[key] = part
        for parameter, part in zip(parameters, values, strict=True):
            parameter.data = part
        # As the fused kernel takes them: parameters, gradients, moments, nothing of amsgrad, steps.
        self._tensors = [[theta], [grad], *([flat] for flat in moments), [], [self._step]]
        grads, act = views(grad, parameters), module.activation
        self._pass = cache(lambda n_rows: Backprop(values, grads, act, n_rows))
        self._graph: _Graph | None = None
        self._capturable = theta.is_cuda
        self._publish()

    def _publish(self) -> None:
        """Let the optimiser know how many steps were taken."""
        for parameter in self._module.parameters():
            self._optimizer.state[parameter]["step"] = self._step.clone()
        self._optimizer._opt_called = True  # schedules warn of a step that nobody took

    def steps(
        self, x: torch.Tensor, y: torch.Tensor, batch_size: int, rates: NDArray | None = None
    ) -> torch.Tensor:
        """Take a step on each batch of consecutive rows, at its rate or the optimiser's.

        Returns the sum over rows of the squared error averaged over outputs, each batch at the
        parameters before its step, as a tensor: nothing waits for the device.
        """
        group = self._optimizer.param_groups[0]
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        n_steps, start = -(-len(x) // batch_size), 0
        if rates is None:
            rates = np.full(n_steps, float(group["lr"]))
        if self._capturable and len(x) // batch_size > _WARM_UP:
            start = self._replay(x, y, batch_size, rates, total)
        with torch.no_grad():
            for i in range(start, n_steps):
                rows = slice(i * batch_size, (i + 1) * batch_size)
                self._gradient(x[rows], y[rows], total)
                self._update(float(rates[i]), group)
        self._publish()
        return total

    def _gradient(self, x: torch.Tensor, y: torch.Tensor, total: torch.Tensor) -> None:
        """Put the gradient of the mean squared error in place, and add its loss to the total."""
        network = self._pass(len(x))
        residual = network.forward(x).sub_(y)
        flat = residual.view(-1)
        n_outputs = residual.shape[1]
        total.add_(torch.dot(flat, flat), alpha=1.0 / n_outputs)
        network.backward(x, residual.mul_(2.0 / residual.numel()))

    def _update(self, rate: Any, group: dict[str, Any]) -> None:
        self._step.add_(1.0)
        beta1, beta2 = group["betas"]
        torch._fused_adam_(
            *self._tensors,
            lr=rate,
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    # -- CUDA graphs -----------------------------------------------------------------------------

    def _replay(
        self, x: torch.Tensor, y: torch.Tensor, batch_size: int, rates: NDArray, total: torch.Tensor
    ) -> int:
        """Take the full batches by replaying a graph; return how many steps were taken."""
        group = self._optimizer.param_groups[0]
        key = (len(x), batch_size, group["betas"], group["eps"], group["weight_decay"])
        if self._graph is None or self._graph.key != key:
            self._graph = _Graph(self, key, x, y, batch_size, len(rates))
        graph = self._graph
        graph.load(x, y, rates)
        try:
            # Streams and captures are the current device's.
            with torch.cuda.device_of(x):
                graph.run(len(x) // batch_size)
        except RuntimeError as error:
            if graph.captured is not None:
                raise
            warn(
                f"A training step could not be captured in a CUDA graph ({error}); training goes "
                f"on step by step, several times slower.",
                RuntimeWarning,
            )
            self._capturable, self._graph = False, None
        total.add_(graph.total)
        return graph.n_taken


class _Graph:
    """A training step on the batch and with the rate that a counter on the device points to.

    Its tensors have fixed places in memory, which is what a captured graph refers to. Without a
    capture the same operations run eagerly: so they can be tested where there is no GPU.
    """

    def __init__(
        self, loop: AdamLoop, key: Any, x: torch.Tensor, y: torch.Tensor, batch_size: int, n: int
    ):
        self.key, self.loop, self.batch_size = key, loop, batch_size
        self.x, self.y = torch.empty_like(x), torch.empty_like(y)
        self.rates = x.new_empty(n, dtype=torch.float32)
        self.total = x.new_zeros(())
        self.counter = torch.zeros(1, dtype=torch.int64, device=x.device)
        self._offsets = torch.arange(batch_size, device=x.device)
        self._x = x.new_empty(batch_size, x.shape[1])
        self._y = y.new_empty(batch_size, y.shape[1])
        self.captured: Any = None

    def load(self, x: torch.Tensor, y: torch.Tensor, rates: NDArray) -> None:
        """Bring the rows and rates of an epoch to where the graph looks for them."""
        self.x.copy_(x)
        self.y.copy_(y)
        self.rates.copy_(torch.as_tensor(rates, dtype=torch.float32))
        self.total.zero_()
        self.counter.zero_()
        self.n_taken = 0

    def step(self) -> None:
        """Take the step that the counter points to, and advance it."""
        with torch.no_grad():
            rows = self._offsets + self.counter * self.batch_size
            torch.index_select(self.x, 0, rows, out=self._x)
            torch.index_select(self.y, 0, rows, out=self._y)
            rate = self.rates.index_select(0, self.counter).squeeze(0)
            self.loop._gradient(self._x, self._y, self.total)
            self.loop._update(rate, self.loop._optimizer.param_groups[0])
            self.counter.add_(1)

    def run(self, n_steps: int) -> None:
        """Take the steps of an epoch; the first few of the first epoch eagerly."""
        if self.captured is None:
            self._warm_up()
            self._capture()
        for _ in range(self.n_taken, n_steps):
            self.captured.replay()
            self.n_taken += 1

    def _warm_up(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self.step()
                self.n_taken += 1
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self) -> None:
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):  # records the step, does not take it
            self.step()
        self.captured = captured
