"""What happens after each epoch: scores, an early end, best weights, units that are moved."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback

from .batches import output_losses, pick, row_losses
from .modules import MLP
from .normal_equations import activation_jet, augmented

# Epochs between two recyclings, the share of the units that the first moves, and the share of a fit
# after which nothing is moved any more.
_EVERY, _SHARE, _UNTIL = 5, 0.1, 0.8
# Candidates for a unit's new place, and the rows on which they are compared.
_CANDIDATES, _COMPARED = 200, 2**12
# The least squares of the last layer are damped by this share of the diagonal.
_DAMPING = 1e-9


class ValidationScore(Callback):
    """Records R² on the validation set after each epoch, outputs weighted by their variance."""

    def __init__(self, scale: NDArray, variance: float):
        self.scale = scale
        self.variance = variance

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Score the epoch."""
        squares = output_losses(net.module_, (dataset_valid.x, dataset_valid.y))
        squared = float(np.mean(squares.double().cpu().numpy() * self.scale**2))
        score = 1.0 - squared / self.variance if self.variance > 0 else 0.0
        net.history.record("valid_score", score)


class Finished(Callback):
    """Stops where Levenberg-Marquardt has converged, and where the time is over."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Stop as skorch's callbacks do."""
        if net.is_late() or net.has_converged():
            raise KeyboardInterrupt


class BestWeights:
    """The best weights so far, those of the start included.

    Before the first epoch is over nothing is known of their losses; then what is there is compared
    with the start, and with a network of zeros, which leaves the baseline alone.
    """

    def __init__(self, module: MLP) -> None:
        self.loss = np.inf
        self._start = module.copied()
        self._weights: dict[str, torch.Tensor] | None = None

    def offer(self, module: MLP, loss: float) -> None:
        """Keep the weights if their loss is smaller."""
        if loss < self.loss:
            self.loss, self._weights = loss, module.copied()

    def restore(self, module: MLP, dataset: Any) -> None:
        """Give a module the best weights, by their losses on a data set."""
        rows = dataset.sample()
        if self._weights is not None:
            candidates = [self._start, self._weights]
        else:
            zeros = {name: torch.zeros_like(p) for name, p in self._start.items()}
            candidates = [self._start, module.copied(), zeros]
        losses = []
        for weights in candidates:
            module.load_state_dict(weights)
            loss = float(row_losses(module)(rows).mean())
            losses.append(loss if np.isfinite(loss) else np.inf)
        best = int(np.argmin(losses))
        module.load_state_dict(candidates[best])
        if self._weights is None:
            self.loss = losses[best]


class Recycling(Callback):
    """Gives the weakest units of a ReLU layer a new place, and takes that back where it fails.

    A ReLU network has many local minima, in which units double each other or sit where nothing is
    to be gained. After every few epochs of Levenberg-Marquardt the units that the error depends on
    least are replaced by hinges through rows of large error, in the random direction, of two
    hundred, that lowers the squared error most once the last layer is fitted anew. If after the
    next epochs the error is not below the best so far, the best comes back. (The weakest unit is
    found as in optimal brain surgeon, Hassibi and Stork 1993; the strongest candidate as in
    orthogonal least squares, Chen, Cowan and Grant 1991.)
    """

    def __init__(self, n_epochs: int, seed: int):
        self.n_epochs, self.seed = n_epochs, seed

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Start anew."""
        self.best_: float = float("inf")
        self.weights_: dict[str, torch.Tensor] = {}
        device = net.module_.weights[0].device
        self.generator_ = torch.Generator(device=device).manual_seed(self.seed)

    def on_epoch_end(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Keep the better one of two networks, and try another."""
        epoch, last = len(net.history), int(_UNTIL * self.n_epochs) // _EVERY * _EVERY
        if epoch % _EVERY or epoch > last:
            return
        x, y = dataset_train.sample()
        with torch.no_grad():
            loss = float((net.module_(x) - y).square().mean())
            if loss < self.best_:
                self.best_, self.weights_ = loss, net.module_.copied()
            else:
                net.module_.load_state_dict(self.weights_)
                net.optimizer_.restart()
            if epoch < last:
                n_units = len(net.module_.weights[0])
                n_moved = max(1, round(_SHARE * n_units * (1 - epoch / last)))
                rows = x[:_COMPARED], y[:_COMPARED]
                move_units(net.module_, *rows, n_moved, self.generator_)
                net.optimizer_.restart()


def move_units(
    module: Any, x: torch.Tensor, y: torch.Tensor, n_moved: int, generator: torch.Generator
) -> None:
    """Replace the weakest units of a network with one hidden layer, and refit its last layer."""
    W, last = module.joined()
    rows, act = augmented(x), module.activation

    def hidden(units: torch.Tensor) -> torch.Tensor:
        return augmented(activation_jet(rows @ units.T, act)[0])

    def factor(a: torch.Tensor) -> torch.Tensor:
        gram = a.T @ a
        # A constant floor: units that are off everywhere have a diagonal of 0.
        gram.diagonal().add_(_DAMPING * gram.diagonal().max())
        return torch.linalg.cholesky(gram)

    a = hidden(W)
    # Taking unit j away and fitting the others anew costs Σ_o V_oj² / (S⁻¹)_jj.
    cost = last.square().sum(0) / torch.cholesky_inverse(factor(a)).diagonal()
    keep = cost[:-1].argsort()[n_moved:]
    W = W[keep]
    for _ in range(n_moved):
        a = hidden(W)
        L = factor(a)
        residual = y - a @ torch.cholesky_solve(a.T @ y, L)
        through = x[pick(residual.square().sum(1), _CANDIDATES, generator)]
        normal = torch.randn(through.shape, generator=generator, dtype=x.dtype, device=x.device)
        normal /= torch.linalg.vector_norm(normal, dim=1, keepdim=True).clamp_min(1e-300)
        candidates = torch.cat([normal, -(normal * through).sum(1, keepdim=True)], 1)
        c = hidden(candidates)[:, :-1]
        size = c.square().sum(0)
        new = size - torch.linalg.solve_triangular(L, a.T @ c, upper=False).square().sum(0)
        gain = (residual.T @ c).square().sum(0) / new.clamp_min(1e-6 * size.max())
        W = torch.cat([W, candidates[gain.argmax()][None]], 0)
    a = hidden(W)
    module.write([W, torch.cholesky_solve(a.T @ y, factor(a)).T])
