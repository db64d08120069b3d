"""What the plots share: colours that the colour-blind can tell apart, markers, axes, checks."""

from typing import Any

import numpy as np
from sklearn.utils._param_validation import validate_parameter_constraints

# Okabe and Ito (2008), "Color universal design". Markers and line styles differ along with colours,
# so that nothing is told by colour alone.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
# The mark of a region's centre.
CROSS: dict[str, Any] = {"color": BLACK, "marker": "+", "ms": 10, "mew": 2, "ls": "", "zorder": 5}


class Display:
    """Base of the displays: checks what is given, and finds or makes the axes."""

    @classmethod
    def _check(cls, method: str, constraints: dict[str, Any] | None = None, **given: Any) -> None:
        """Raise where matplotlib is missing, or a parameter of the method is not as it must be."""
        caller = f"{cls.__name__}.{method}"
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"{caller} draws with the package matplotlib: pip install 'skinv[plot]'."
            ) from error
        validate_parameter_constraints(constraints or {}, given, caller)

    def _start(self, ax: Any, size: tuple[float, float], title: str | None = None) -> Any:
        """Set `ax_` and `figure_`, to a new figure only if there are no axes; return the axes."""
        self._check("plot")
        plain = "plain axes are expected: pass those of plt.subplots()"
        self.figure_, (self.ax_,) = axes_of(
            ax, ["rectilinear"], plain, figsize=size, layout="constrained"
        )
        self.ax_.grid(alpha=0.25)
        if title:
            self.ax_.set_title(title, fontsize="medium")
        return self.ax_


def axes_of(ax: Any, kinds: list[str], asked: str, **figure: Any) -> tuple[Any, Any]:
    """Return a figure and its axes: those given, if of these kinds, or else new ones."""
    if ax is None:
        import matplotlib.pyplot as plt

        made, axes = plt.subplots(**figure, squeeze=False)
        return made, axes.ravel()
    axes = np.array(ax, dtype=object).ravel()
    if [getattr(one, "name", "") for one in axes] != kinds:
        raise ValueError(f"Got ax={ax!r}, but {asked}, or None.")
    return axes[0].figure, axes


def cycled(choices: tuple[str, ...], k: int) -> str:
    """Return the k-th of some choices, starting anew after the last."""
    return choices[k % len(choices)]


def power_of_ten(value: float) -> str:
    """Write a positive number to two digits, in mathematical type where it takes a power of ten."""
    digits, exponent = f"{value:.1e}".split("e")
    power = int(exponent)
    if -3 <= power < 4:
        return f"{value:.2g}" if power < 2 else f"{value:.0f}"
    digits = digits.removesuffix(".0")
    return f"$10^{{{power}}}$" if digits == "1" else rf"${digits} \times 10^{{{power}}}$"
