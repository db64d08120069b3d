"""Learning rates, step by step."""

import numpy as np
from numpy.typing import NDArray

SCHEDULES = ("constant", "one_cycle", "warm_restarts")


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
