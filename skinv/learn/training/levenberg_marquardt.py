"""Levenberg-Marquardt: damped Gauss-Newton steps on batches, for small networks."""

from typing import Any

import torch

from .modules import mlp_forward
from .normal_equations import KINDS, NormalEquations

# The damping is a share of the matrix's diagonal.
_FIRST, _SMALLEST, _LARGEST, _AFRESH = 1e-2, 1e-12, 1e10, 1e-4
# Above this damping the rounding of float32 Gram matrices does not matter, and they take half the
# time; matrices of fewer inner parameters are formed in float64 anyway.
_SINGLE, _SMALL = 1e-7, 100
# Acceleration beyond this share of the velocity is not trusted (Transtrum and Sethna 2012).
_CURVED = 0.75
# A batch on which the error is this many times what it used to be shows an unlucky step.
_UNLUCKY = 4.0
# Steps in a row that change nothing, after which nothing more is to be expected.
_IDLE = 3


class LevenbergMarquardt:
    """Levenberg-Marquardt steps for a perceptron of at most two hidden layers, in float64.

    A step solves (JᵀJ + λ diag JᵀJ) v = −Jᵀr over the rows of a batch (Marquardt 1963), adds half
    the geodesic acceleration where the activation is smooth (Transtrum and Sethna 2012), and is
    taken if it lowers the squared error of the batch. The damping λ follows the gain ratio
    (Nielsen 1999). On fresh batches a step may be lucky on its own batch only: if the next batch
    tells so, it is undone. Half of `weight_decay` times the squared norm of the parameters is added
    to the mean squared error.

    It stands where skorch has its optimiser, and has as much of a torch optimiser as checkpoints
    touch.
    """

    def __init__(self, module: Any, weight_decay: float = 0.0):
        self._module, self._weight_decay = module, weight_decay
        self.damping, self._growth = _FIRST, 2.0
        self._level: float | None = None
        self._before: list[torch.Tensor] | None = None
        self._idle = 0

    @property
    def converged(self) -> bool:
        """Whether the last steps found nothing to improve."""
        return self._idle >= _IDLE

    def state_dict(self) -> dict[str, Any]:
        """Return what a later fit goes on from."""
        return {"damping": self.damping, "growth": self._growth, "level": self._level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.damping, self._growth = float(state["damping"]), float(state["growth"])
        self._level = state["level"]

    def restart(self) -> None:
        """Forget what is known of the error, after the parameters were changed from outside."""
        self.damping, self._growth = max(self.damping, _AFRESH), 2.0
        self._level = self._before = None
        self._idle = 0

    @torch.no_grad()
    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Take a step on a batch; return its mean squared error before, be it infinite or NaN."""
        equations = self._equations()
        squares = equations.assemble(x, y)
        loss = squares / max(y.numel(), 1)
        if self._undo_if_unlucky(loss) or not squares < float("inf"):
            return loss
        self._level = loss if self._level is None else 0.7 * self._level + 0.3 * loss
        ridge = 0.5 * self._weight_decay * y.numel()
        equations.add_ridge(ridge)
        objective = squares + ridge * _squared_norm(equations.layers)
        layers = equations.layers
        while self.damping < _LARGEST:
            step, gain = self._proposal(equations, x)
            if step is not None:
                proposed = [W + dW for W, dW in zip(layers, step, strict=True)]
                after = self._squares(proposed, x, y) + ridge * _squared_norm(proposed)
                if after < objective:
                    ratio = (objective - after) / gain if gain > 0 else 1.0
                    self._before, self._idle = layers, 0
                    self._module.write(proposed)
                    self.damping *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
                    self.damping, self._growth = max(self.damping, _SMALLEST), 2.0
                    return loss
                if not gain > 1e-15 * objective:
                    break  # rounding is all that could be gained
            self.damping *= self._growth
            self._growth *= 2.0
        self._idle += 1
        self.damping, self._growth = min(self.damping, 1.0), 2.0  # for the batches to come
        return loss

    def _equations(self) -> NormalEquations:
        layers = self._module.joined()
        single = self.damping > _SINGLE and sum(W[:, :-1].numel() for W in layers[:-1]) > _SMALL
        single = single and torch.get_float32_matmul_precision() == "highest"
        kind = torch.float32 if single else torch.float64
        return KINDS[len(layers) - 1](layers, self._module.activation, kind)

    def _undo_if_unlucky(self, loss: float) -> bool:
        unlucky = self._level is not None and not loss <= _UNLUCKY * self._level
        if self._before is None or not unlucky:
            return False
        self._module.write(self._before)
        self._before = None
        self.damping, self._growth = max(10 * self.damping, 1e-6), 2.0
        return True

    def _proposal(
        self, equations: NormalEquations, x: torch.Tensor
    ) -> tuple[list[torch.Tensor] | None, float]:
        """Return a step and the decrease of the sum of squares that the model predicts."""
        if not equations.factorize(self.damping):
            return None, 0.0
        velocity = equations.solve(equations.gradients)
        inner = sum(
            float((g * v).sum()) for g, v in zip(equations.gradients, velocity, strict=True)
        )
        length = equations.damped_norm(velocity)
        gain = self.damping * length - inner
        if len(velocity) == 1 or self._module.activation == "relu":
            return velocity, gain
        acceleration = equations.solve(equations.curved_gradient(x, velocity))
        if 4 * equations.damped_norm(acceleration) > (2 * _CURVED) ** 2 * length:
            return velocity, gain
        return [v + 0.5 * a for v, a in zip(velocity, acceleration, strict=True)], gain

    def _squares(self, layers: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> float:
        weights, biases = [W[:, :-1] for W in layers], [W[:, -1] for W in layers]
        total = x.new_zeros(())
        for xc, yc in zip(x.split(2**13), y.split(2**13), strict=True):
            residual = mlp_forward(xc, weights, biases, self._module.activation) - yc
            total += (residual * residual).sum()
        return float(total)


def _squared_norm(layers: list[torch.Tensor]) -> float:
    return sum(float((W * W).sum()) for W in layers)
