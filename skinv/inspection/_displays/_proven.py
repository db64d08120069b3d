"""Proven failures: distances to the singular matrices below which every error exceeds a level."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._style import power_of_ten


def checked_failure(failure: Any, norm: str, error: str) -> NDArray[np.float64] | None:
    """Return (error level, distance) pairs (k, 2) without distances of 0, or None for none."""
    if failure is None:
        return None
    if isinstance(failure, Mapping):
        failure = list(failure.items())
    asked = "pairs (error level, distance) are expected, or a mapping from the one to the other."
    try:
        pairs = np.asarray(failure, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as exception:
        raise ValueError(f"Got failure={failure!r}, but {asked}") from exception
    if pairs.size == 0:
        return None
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"Got failure of shape {pairs.shape}, but {asked}")
    if not (np.isfinite(pairs).all() and (pairs >= 0).all() and (pairs[:, 0] > 0).all()):
        raise ValueError(
            f"Got failure={pairs.tolist()}, but levels and distances must be finite and positive."
        )
    if norm == "linf" or error != "absolute":
        # d_l1 < t implies d_l2 < t, but d_linf < t does not.
        raise ValueError(
            f"Got failure with norm={norm!r} and error={error!r}, but failure distances bound the "
            f"absolute error at a given l2 distance: use norm='l2' and error='absolute'."
        )
    pairs = pairs[pairs[:, 1] > 0]
    return pairs if len(pairs) else None


def draw_failure(ax: Any, failure: NDArray[np.float64], color: str) -> Any:
    """Draw steps that all errors lie above, and return the line of the corners that are proven."""
    from matplotlib.collections import PolyCollection

    levels, distances = failure[np.argsort(failure[:, 1])].T
    # Left of a distance holds the largest level of it and of all larger distances.
    heights = np.maximum.accumulate(levels[::-1])[::-1]
    nothing = 1e-300
    corners = [(nothing, nothing), (nothing, heights[0])]
    for k, (height, x) in enumerate(zip(heights, distances, strict=True)):
        corners += [(x, height), (x, heights[k + 1] if k + 1 < len(heights) else nothing)]
    hatched: Any = {"facecolor": "none", "edgecolor": color, "hatch": "///"}
    ax.add_collection(PolyCollection([corners], alpha=0.5, lw=0.8, **hatched), autolim=False)
    style = {"color": color, "mec": "black", "ms": 7, "zorder": 5}
    (line,) = ax.plot(distances, levels, ">", label="proven: no error in the hatched area", **style)
    ax.margins(x=0.12)
    # Below and left of its corner, where no error can be in the way.
    beside = {"xytext": (-8, -4), "textcoords": "offset points", "ha": "right", "va": "top"}
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    for level, x in zip(levels, distances, strict=True):
        text = f"error > {power_of_ten(level)}"
        ax.annotate(text, (x, level), fontsize="x-small", bbox=paper, **beside)
    return line
