"""Sections of a region of 2×2 matrices through its centre: what some entries alone can do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...geometry._regions import Box, L1Ball, Region

Entry = tuple[int, int]
# Points of an outline that is not a polygon.
_OUTLINE = 240
_SQUARE = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])


def section_outline(region: Region, free: tuple[Entry, ...]) -> NDArray[np.float64]:
    """Return the outline (k, 2) of a region's section through its centre, as deviations from it.

    Counterclockwise: corners of a box and of an l1 ball, points of other shapes.
    """
    if isinstance(region, Box):
        return _SQUARE * _half_widths(region, free)
    if isinstance(region, L1Ball):
        return region.radius * np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    angle = np.linspace(0, 2 * np.pi, _OUTLINE, endpoint=False)
    return _stretched(region, free, np.column_stack([np.cos(angle), np.sin(angle)]))


def section_faces(region: Region, free: tuple[Entry, ...]) -> list[NDArray[np.float64]]:
    """Return the faces (k, 3) of a region's section through its centre, as deviations from it.

    The 6 of a box, the 8 of an l1 ball, a mesh for other shapes.
    """
    if isinstance(region, Box):
        sides = [np.insert(_SQUARE, axis, end, axis=1) for axis in range(3) for end in (-1, 1)]
        return [side * _half_widths(region, free) for side in sides]
    if isinstance(region, L1Ball):
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
        return [region.radius * np.diag(sign) for sign in signs]
    latitude, longitude = np.meshgrid(np.linspace(0, np.pi, 13), np.linspace(0, 2 * np.pi, 25))
    unit = np.stack(
        [
            np.sin(latitude) * np.cos(longitude),
            np.sin(latitude) * np.sin(longitude),
            np.cos(latitude),
        ],
        axis=-1,
    )
    mesh = _stretched(region, free, unit.reshape(-1, 3)).reshape(unit.shape)
    corners = np.stack([mesh[:-1, :-1], mesh[1:, :-1], mesh[1:, 1:], mesh[:-1, 1:]], axis=2)
    return list(corners.reshape(-1, 4, 3))


def _half_widths(region: Region, free: tuple[Entry, ...]) -> NDArray[np.float64]:
    widths = np.broadcast_to(np.asarray(region.radius, dtype=np.float64), 4)
    return widths[_positions(free)]


def _stretched(
    region: Region, free: tuple[Entry, ...], unit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the point of the region's boundary in each direction."""
    directions = np.zeros((len(unit), 4))
    directions[:, _positions(free)] = unit
    return unit * (region.radius / region.norm(directions))[:, None]


def _positions(free: tuple[Entry, ...]) -> list[int]:
    """Return where entries stand in a flattened matrix."""
    return [2 * i + j for i, j in free]


def entry_name(entry: Entry, *, plain: bool = False) -> str:
    """Return the name of an entry, in mathematical type or as plain text."""
    digits = f"{entry[0] + 1}{entry[1] + 1}"
    return f"a{digits}" if plain else f"$a_{{{digits}}}$"
