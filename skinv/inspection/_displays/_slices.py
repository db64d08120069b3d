"""What is seen of the singular 2×2 matrices where two or three of the four entries vary.

A matrix has four entries, a picture two or three axes, so some entries are held at the centre of a
region. The singular set {det A = 0} is then a curve or a surface, in closed form; distances to it
are still those of the whole four-dimensional space, the smallest singular values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry._regions import Box, L1Ball, Region

Entry = tuple[int, int]
# Points of an outline that is not a polygon.
_OUTLINE = 240
_SQUARE = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
# Numbers along each side of a slice, and of a surface.
_FINE, _COARSE = 241, 41
# Share of the span of a picture that is left free around what must be seen.
_MARGIN = 0.15


@dataclass(frozen=True)
class Slice:
    """The plane of two free entries, the others held at the centre."""

    free: tuple[Entry, Entry]  # the horizontal and the vertical one
    x: NDArray[np.float64]  # their values on a grid, (m,)
    y: NDArray[np.float64]
    distance: NDArray[np.float64]  # signed, in l2, at (x[k], y[j]) in row j and column k
    singular: list[NDArray[np.float64]]  # curves (k, 2) of singular matrices
    region: NDArray[np.float64]  # corners (k, 2) of the region's section, one after the other


@dataclass(frozen=True)
class Space:
    """The space of three free entries, the largest of the centre held."""

    fixed: Entry  # not 0, as the centre is regular
    free: tuple[Entry, Entry, Entry]  # the last one on the vertical axis
    x: NDArray[np.float64]  # values of the first two on a grid, (m, m)
    y: NDArray[np.float64]
    singular: NDArray[np.float64]  # the third where the matrix is singular, (m, m)
    # The third below and above, where the l2 distance is epsilon, (2, m, m); none if epsilon is not
    # below the entry that is held.
    neighborhood: NDArray[np.float64] | None
    region: list[NDArray[np.float64]]  # faces (k, 3) of the region's section


def signed_distance(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the smallest singular value of [[a, b], [c, d]] with the sign of the determinant.

    Half the sum of p = |(a + d, b − c)| and q = |(a − d, b + c)| is the largest singular value: in
    complex numbers the matrix is z ↦ uz + v·conj(z) with |u| = p/2 and |v| = q/2. The other one is
    half of |p − q|, and (p + q)(p − q)/4 = ad − bc has the sign of p − q.
    """
    return (np.hypot(a + d, b - c) - np.hypot(a - d, b + c)) / 2


def slices_of(center: NDArray[np.float64], region: Region) -> tuple[Slice, Slice]:
    """Return the slices in which the singular set is a line, and a hyperbola.

    With the first row held det A = a11 a22 − a12 a21 is linear in the second. With the entries off
    the diagonal held, a11 a22 = a12 a21 is a hyperbola, or the two axes if one of them is 0.
    """
    product = center[0, 1] * center[1, 0]
    vertex = np.sqrt(abs(product))

    def line(reach: float) -> list[NDArray[np.float64]]:
        along = np.linspace(-reach, reach, _FINE)[:, None]
        return [along * (center[0] / np.abs(center[0]).max())]

    def branches(reach: float) -> list[NDArray[np.float64]]:
        if not product:
            axis = np.linspace(-reach, reach, _FINE)
            return [np.column_stack([axis, 0 * axis]), np.column_stack([0 * axis, axis])]
        # Both as vertex·(±eᵗ, ±sign·e⁻ᵗ), out of the picture at both ends.
        growth = np.exp(np.linspace(-1, 1, 2 * _FINE) * np.log(reach / vertex))
        branch = vertex * np.column_stack([growth, np.sign(product) / growth])
        return [branch, -branch]

    corners = 1.5 * vertex * np.array([[1.0, 1.0], [-1.0, -1.0]])
    row = _slice(center, region, ((1, 0), (1, 1)), np.zeros((1, 2)), line)
    return row, _slice(center, region, ((0, 0), (1, 1)), corners, branches)


def _slice(
    center: NDArray[np.float64],
    region: Region,
    free: tuple[Entry, Entry],
    seen: NDArray[np.float64],
    curves: Callable[[float], list[NDArray[np.float64]]],
) -> Slice:
    """Return the slice that shows the region and what else must be seen, with curves that far."""
    outline = np.array([center[entry] for entry in free]) + section_outline(region, free)
    points = np.vstack([outline, seen])
    low, high = points.min(axis=0), points.max(axis=0)
    half = (0.5 + _MARGIN) * (high - low).max()
    x, y = (np.linspace(m - half, m + half, _FINE) for m in (low + high) / 2)
    reach = 2 * max(np.abs(x).max(), np.abs(y).max())
    entries: Any = dict(np.ndenumerate(center)) | {free[0]: x[None], free[1]: y[:, None]}
    return Slice(free, x, y, signed_distance(*entries.values()), curves(reach), outline)


def space_of(center: NDArray[np.float64], region: Region, epsilon: float) -> Space:
    """Return the singular surface, its neighbourhood and the region over three entries.

    Let c be the entry that is held, z the opposite one and x, y the others. The determinant is ±(cz
    − xy), which is 0 at z = xy/c, a saddle. A singular value is ε where (cz − xy)² − ε²(x² + y² +
    z² + c²) + ε⁴ = 0, a quadratic in z with the roots

        z = (cxy ± ε √((x² + k)(y² + k))) / k,  k = c² − ε²,

    and it is the smaller one, because the larger is at least |c| > ε.
    """
    entries: list[Entry] = [(1, 0), (0, 1), (0, 0), (1, 1)]
    fixed = max(entries, key=lambda entry: abs(center[entry]))
    opposite = (1 - fixed[0], 1 - fixed[1])
    first, second = sorted(entry for entry in entries if entry not in (fixed, opposite))
    free = (first, second, opposite)
    held = center[fixed]
    middle = np.array([center[entry] for entry in free])
    faces = [middle + face for face in section_faces(region, free)]

    # The square from the saddle's middle, at 0, to what lies farthest out.
    seen = max(np.abs(np.vstack(faces)[:, :2]).max(), abs(held) / 2)
    side = np.linspace(-1, 1, _COARSE) * seen * (1 + _MARGIN)
    x, y = np.meshgrid(side, side)
    neighborhood = None
    if 0 < epsilon < abs(held):
        k = held**2 - epsilon**2
        spread = epsilon * np.sqrt(x**2 + k) * np.sqrt(y**2 + k)
        neighborhood = np.array([held * x * y - spread, held * x * y + spread]) / k
    return Space(fixed, free, x, y, x * y / held, neighborhood, faces)


def section_outline(region: Region, free: tuple[Entry, ...]) -> NDArray[np.float64]:
    """Return the outline (k, 2) of a region's section through its centre, as deviations from it."""
    if isinstance(region, Box):
        return _SQUARE * np.broadcast_to(region.radius, 4)[_positions(free)]
    if isinstance(region, L1Ball):
        return region.radius * np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    angle = np.linspace(0, 2 * np.pi, _OUTLINE, endpoint=False)
    return _stretched(region, free, np.column_stack([np.cos(angle), np.sin(angle)]))


def section_faces(region: Region, free: tuple[Entry, ...]) -> list[NDArray[np.float64]]:
    """Return the faces (k, 3) of a region's section through its centre, as deviations from it."""
    if isinstance(region, Box):
        sides = [np.insert(_SQUARE, axis, end, axis=1) for axis in range(3) for end in (-1, 1)]
        return [side * np.broadcast_to(region.radius, 4)[_positions(free)] for side in sides]
    if isinstance(region, L1Ball):
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
        return [region.radius * np.diag(sign) for sign in signs]
    latitude, longitude = np.meshgrid(np.linspace(0, np.pi, 13), np.linspace(0, 2 * np.pi, 25))
    x, y = np.sin(latitude) * np.cos(longitude), np.sin(latitude) * np.sin(longitude)
    unit = np.stack([x, y, np.cos(latitude)], axis=-1)
    mesh = _stretched(region, free, unit.reshape(-1, 3)).reshape(unit.shape)
    corners = np.stack([mesh[:-1, :-1], mesh[1:, :-1], mesh[1:, 1:], mesh[:-1, 1:]], axis=2)
    return list(corners.reshape(-1, 4, 3))


def _stretched(region: Region, free: tuple[Entry, ...], unit: NDArray) -> NDArray:
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
