"""Which solver a fit uses, and how Levenberg-Marquardt cuts its data."""

from itertools import pairwise
from typing import Any

from skorch.callbacks import Callback, LRScheduler
from skorch.callbacks.training import ParamMapper

# Levenberg-Marquardt is chosen for at most so many parameters, hidden layers, and at least so many
# numbers to fit for each parameter: with fewer it would fit noise. On smooth activations it is far
# ahead of Adam in the same time, on ReLU only while its steps cost next to nothing: "solvers" in
# benchmarks/results/training.json.
_LM_PARAMETERS = {"relu": 600, "silu": 3000, "tanh": 3000}
_LM_HIDDEN, _LM_TARGETS, _LM_MEMORY = 2, 4, 4 * 2**30
# Operations of a step past which it takes minutes: that is refused.
_LM_OPERATIONS = 1e12
# Numbers to fit per parameter in each of its steps, and how many of these make an epoch: fewer
# past 600 parameters, and a third of that with two hidden layers, where they take long.
_LM_BATCH, _LM_STEPS, _LM_LONG = 16, 10, 6000


def choose_solver(
    requested: str, sizes: list[int], activation: str, n_rows: float, callbacks: Any = None
) -> str:
    """Return "adam" or "lm" for so many rows; refuse what the requested one cannot do."""
    n_hidden = len(sizes) - 2
    if requested == "lm" and n_hidden > _LM_HIDDEN:
        raise ValueError(
            f"Got {n_hidden} hidden layers with solver='lm', which takes at most {_LM_HIDDEN}; use "
            f"solver='adam'."
        )
    n_parameters = count_parameters(sizes)
    if requested == "lm" and lm_memory(sizes) > _LM_MEMORY:
        raise ValueError(
            f"Got a network of {n_parameters} parameters with solver='lm', whose normal matrices "
            f"would take {lm_memory(sizes) / 2**30:.0f} GiB; use solver='adam'."
        )
    if requested == "lm" and lm_operations(sizes) > _LM_OPERATIONS:
        raise ValueError(
            f"Got a network of {n_parameters} parameters with solver='lm', of which a single step "
            f"would take {lm_operations(sizes):.0e} operations, minutes: use solver='adam', fewer "
            f"units, or n_components for fewer inputs."
        )
    on_gradients = [c for c in callbacks or [] if _works_on_gradients(c)]
    if requested == "lm" and on_gradients:
        raise ValueError(
            f"Got callbacks that schedule learning rates or work on gradients ({on_gradients}) "
            f"with solver='lm', which has neither; use solver='adam'."
        )
    if requested != "auto":
        return requested
    enough = n_rows * sizes[-1] >= _LM_TARGETS * n_parameters
    small = n_hidden <= _LM_HIDDEN and n_parameters <= _LM_PARAMETERS[activation]
    return "lm" if small and enough and not on_gradients else "adam"


def _works_on_gradients(callback: Any) -> bool:
    """Tell whether a callback, or (name, callback), makes no sense without gradient steps."""
    kind = _kind(callback)
    return (
        issubclass(kind, (LRScheduler, ParamMapper))
        or getattr(kind, "on_grad_computed", None) is not Callback.on_grad_computed
    )


def _kind(callback: Any) -> type:
    """Return the class of a callback, which may be given as (name, callback) or as a class."""
    if isinstance(callback, tuple):
        callback = callback[1]
    return callback if isinstance(callback, type) else type(callback)


def schedules_rates(callbacks: Any) -> bool:
    """Tell whether a callback, or (name, callback), schedules learning rates."""
    return any(issubclass(_kind(c), LRScheduler) for c in callbacks or [])


def lm_memory(sizes: list[int]) -> int:
    """Return about how many bytes the normal matrices of Levenberg-Marquardt take."""
    blocks = [(n_in + 1) * n_out for n_in, n_out in pairwise(sizes[:-1])]
    mixed = sizes[-1] * blocks[0] * (sum(blocks[1:]) + sizes[-2] + 1) if len(blocks) == 2 else 0
    return 8 * (4 * sum(blocks) ** 2 + 2 * mixed)


def lm_operations(sizes: list[int]) -> float:
    """Return about how many operations a step takes: the normal matrix, and its factorisation."""
    inner = float(count_parameters(sizes[:-1]))
    return inner**3 / 3 + inner**2 * lm_batch_size(sizes)


def count_parameters(sizes: list[int]) -> int:
    """Return the number of weights and biases of a perceptron."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


def lm_batch_size(sizes: list[int]) -> int:
    """Return how many rows a step of Levenberg-Marquardt looks at."""
    return max(1024, -(-_LM_BATCH * count_parameters(sizes) // sizes[-1]))


def lm_epoch(sizes: list[int]) -> int:
    """Return how many steps of Levenberg-Marquardt make an epoch."""
    steps = min(_LM_LONG // count_parameters(sizes), _LM_STEPS)
    return max(steps if len(sizes) <= 3 else steps // 3, 2)
