"""What the plots share: colours that the colour-blind can tell apart, markers, axes, names."""

from __future__ import annotations

from typing import Any

# Okabe and Ito (2008), "Color universal design". Markers and line styles differ along with colours,
# so that nothing is told by colour alone.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")


def require_matplotlib(caller: str) -> None:
    """Raise with an installation hint where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} draws with the package matplotlib: pip install 'skinv[plot]'."
        ) from error


def figure_and_axes(ax: Any, caller: str, size: tuple[float, float]) -> tuple[Any, Any]:
    """Return the axes to draw on and their figure; a new figure only if there are no axes."""
    require_matplotlib(caller)
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.subplots(figsize=size, layout="constrained")
    if getattr(ax, "name", "") != "rectilinear":
        raise ValueError(
            f"Got ax={ax!r}, but plain axes are expected: pass those of plt.subplots(), or None."
        )
    return ax.figure, ax


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


def rgb(color: str) -> tuple[float, float, float]:
    """Return red, green and blue of a colour, to which an opacity can be added."""
    from matplotlib.colors import to_rgb

    return to_rgb(color)
