"""The singular surface in the space of three entries, drawn in perspective."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._slices import Space, entry_name
from ._style import BLACK, BLUE, CROSS, VERMILION

# A region of more faces is a mesh, whose edges would cover it.
_FEW_FACES = 10


def draw_saddle(
    ax: Any,
    space: Space,
    center: NDArray[np.float64],
    neighborhood: str | None,
    region: str,
) -> list[list[Any]]:
    """Draw and return the singular surface, its neighbourhood's sheets, the region and the centre.

    A dotted line goes from the centre along the vertical axis to the surface, to show how far above
    it the region is. `neighborhood` and `region` are names in the legend; without the former there
    are no sheets.
    """
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

    middle = np.array([center[entry] for entry in space.free])
    foot = np.array([*middle[:2], middle[0] * middle[1] / center[space.fixed]])
    above = bool(middle[2] >= foot[2])
    # matplotlib sorts whole surfaces, not their parts, so the order is given: what is seen through
    # something else comes first. The view is from the side of the centre.
    ax.computed_zorder = False
    style = {"color": VERMILION, "rstride": 2, "cstride": 2}
    meshed = style | {"alpha": 0.6, "lw": 0.4, "edgecolor": (1, 1, 1, 0.5), "zorder": 1}
    grid = space.x, space.y
    surface = ax.plot_surface(*grid, space.singular, label="singular: det A = 0", **meshed)
    sheets = []
    heights = [space.singular.ravel(), *(face[:, 2] for face in space.region)]
    if neighborhood is not None:
        assert space.neighborhood is not None
        heights.append(space.neighborhood.ravel())
        far, near = space.neighborhood[:: 1 if above else -1]
        style |= {"alpha": 0.15, "lw": 0, "shade": False}
        sheets = [
            ax.plot_surface(*grid, near, zorder=2, label=neighborhood, **style),
            ax.plot_surface(*grid, far, zorder=0, label="_far side", **style),
        ]
    edge = BLUE, 0.8 if len(space.region) < _FEW_FACES else 0.15
    faces: Any = {"facecolor": (BLUE, 0.35), "edgecolor": edge, "lw": 0.8, "zorder": 3}
    body = Poly3DCollection(space.region, label=region, **faces)
    ax.add_collection3d(body)
    ax.plot(*np.array([middle, foot]).T, ":", color=BLACK, lw=1.2, zorder=4)
    ax.plot(*foot[:, None], ".", color=BLACK, ms=5, zorder=4)
    marks = ax.plot(*middle[:, None], label="centre", **CROSS)
    all_heights = np.concatenate(heights)
    side, rise = space.x[0, [0, -1]], np.array([all_heights.min(), all_heights.max()])
    # Looked at from above with the centre in front; upside down if it is below the saddle.
    ax.set(xlim=side, ylim=side, zlim=rise if above else rise[::-1])
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.get_major_locator().set_params(nbins=5)
    ax.set_box_aspect([np.ptp(side), np.ptp(side), np.ptp(rise)], zoom=0.9)
    ax.view_init(elev=26, azim=np.degrees(np.arctan2(middle[1], middle[0])) + 65)
    names = [entry_name(entry) for entry in space.free]
    ax.set(xlabel=names[0], ylabel=names[1], zlabel=names[2] + ("" if above else " (downward)"))
    held = f"{entry_name(space.fixed)} $= {center[space.fixed]:.4g}$"
    ax.set_title(f"{held} held: singular on a saddle", fontsize="medium")
    return [[surface], sheets, [body], marks]
