"""What is seen of the singular 2×2 matrices where two or three of the four entries vary.

A matrix has four entries, a picture two or three axes, so some entries are held at the centre of a
region. The singular set {det A = 0} is then a curve or a surface, in closed form; distances to it
are still those of the whole four-dimensional space, the smallest singular values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry._regions import Region
from ._sections import Entry, section_faces, section_outline

# Numbers along each side of a slice, and of a surface.
_FINE, _COARSE = 241, 41
# Share of the span of a picture that is left free around what must be seen.
_MARGIN = 0.15


@dataclass(frozen=True)
class Slice:
    """The plane of two free entries, the others held at the centre.

    Parameters
    ----------
    free : tuple of two (row, column)
        The entries that vary: the horizontal and the vertical one.
    x, y : ndarray of shape (m,)
        Their values on a grid.
    distance : ndarray of shape (m, m)
        The l2 distance to the nearest singular matrix at ``(x[k], y[j])`` in row j and column k,
        with the sign of the determinant.
    singular : list of ndarray of shape (k, 2)
        Curves of singular matrices.
    region : ndarray of shape (k, 2)
        Corners of the region's section, one after the other.

    Examples
    --------
    >>> from skinv.geometry._regions import Box
    >>> slices_of(np.array([[3.0, 1.0], [1.0, 2.0]]), Box(np.zeros(4), 0.5))[0].free
    ((1, 0), (1, 1))
    """

    free: tuple[Entry, Entry]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    distance: NDArray[np.float64]
    singular: list[NDArray[np.float64]]
    region: NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """The space of three free entries, the largest of the centre held.

    Parameters
    ----------
    fixed : (row, column)
        The entry that is held; a regular centre has one that is not 0.
    free : tuple of three (row, column)
        The entries that vary, the last one on the vertical axis.
    x, y : ndarray of shape (m, m)
        Values of the first two on a grid.
    singular : ndarray of shape (m, m)
        The third where the matrix is singular.
    neighborhood : ndarray of shape (2, m, m) or None
        The third where the l2 distance to the singular matrices is epsilon, below and above. None
        where epsilon is not below the entry that is held.
    region : list of ndarray of shape (k, 3)
        Faces of the region's section.

    Examples
    --------
    >>> from skinv.geometry._regions import Box
    >>> space_of(np.array([[3.0, 1.0], [1.0, 2.0]]), Box(np.zeros(4), 0.5), 0.1).fixed
    (0, 0)
    """

    fixed: Entry
    free: tuple[Entry, Entry, Entry]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    singular: NDArray[np.float64]
    neighborhood: NDArray[np.float64] | None
    region: list[NDArray[np.float64]]


def signed_distance(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the smallest singular value of [[a, b], [c, d]] with the sign of the determinant.

    Half the sum of p = |(a + d, b − c)| and q = |(a − d, b + c)| is the largest singular value: in
    complex numbers the matrix is z ↦ uz + v·conj(z) with |u| = p/2 and |v| = q/2. The other one is
    half of |p − q|, and (p + q)(p − q)/4 = ad − bc has the sign of p − q.

    Parameters
    ----------
    a, b, c, d : array-like
        Entries, broadcast.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> float(signed_distance(3.0, 0.0, 0.0, -1.0))
    -1.0
    """
    return (np.hypot(a + d, b - c) - np.hypot(a - d, b + c)) / 2


def slices_of(center: NDArray[np.float64], region: Region) -> tuple[Slice, Slice]:
    """Return the slices in which the singular set is a line, and a hyperbola.

    With the first row held det A = a11 a22 − a12 a21 is linear in the second. With the entries off
    the diagonal held, a11 a22 = a12 a21 is a hyperbola, or the two axes if one of them is 0.

    Parameters
    ----------
    center : ndarray of shape (2, 2)
        A regular matrix.
    region : Region
        Its region, for deviations from the centre.

    Returns
    -------
    tuple of two Slice

    Examples
    --------
    >>> from skinv.geometry._regions import Box
    >>> line, hyperbola = slices_of(np.array([[3.0, 1.0], [1.0, 2.0]]), Box(np.zeros(4), 0.5))
    >>> len(line.singular), len(hyperbola.singular)
    (1, 2)
    """
    product = center[0, 1] * center[1, 0]
    vertex = np.sqrt(abs(product))

    rows: tuple[Entry, Entry] = ((1, 0), (1, 1))
    outline = center[[1, 1], [0, 1]] + section_outline(region, rows)
    x, y = _window(np.vstack([outline, [0.0, 0.0]]))
    reach = 2 * max(np.abs(x).max(), np.abs(y).max())
    direction = center[0] / np.abs(center[0]).max()
    line = np.linspace(-reach, reach, _FINE)[:, None] * direction
    first = Slice(
        rows,
        x,
        y,
        signed_distance(center[0, 0], center[0, 1], x[None], y[:, None]),
        [line],
        outline,
    )

    diagonal: tuple[Entry, Entry] = ((0, 0), (1, 1))
    outline = center[[0, 1], [0, 1]] + section_outline(region, diagonal)
    corner = 1.5 * vertex * np.array([[1.0, 1.0], [-1.0, -1.0]])
    x, y = _window(np.vstack([outline, corner]))
    reach = 2 * max(np.abs(x).max(), np.abs(y).max())
    if product:
        # Both branches as vertex·(±eᵗ, ±sign·e⁻ᵗ), out of the picture at both ends.
        growth = np.exp(np.linspace(-1, 1, 2 * _FINE) * np.log(reach / vertex))
        branch = vertex * np.column_stack([growth, np.sign(product) / growth])
        curves = [branch, -branch]
    else:
        axis = np.linspace(-reach, reach, _FINE)
        curves = [np.column_stack([axis, 0 * axis]), np.column_stack([0 * axis, axis])]
    distance = signed_distance(x[None], center[0, 1], center[1, 0], y[:, None])
    return first, Slice(diagonal, x, y, distance, curves, outline)


def space_of(center: NDArray[np.float64], region: Region, epsilon: float) -> Space:
    """Return the singular surface, its neighbourhood and the region over three entries.

    Let c be the entry that is held, z the opposite one and x, y the others. The determinant is ±(cz
    − xy), which is 0 at z = xy/c, a saddle. A singular value is ε where (cz − xy)² − ε²(x² + y² +
    z² + c²) + ε⁴ = 0, a quadratic in z with the roots

        z = (cxy ± ε √((x² + k)(y² + k))) / k,  k = c² − ε²,

    and it is the smaller one, because the larger is at least |c| > ε.

    Parameters
    ----------
    center : ndarray of shape (2, 2)
        A regular matrix.
    region : Region
        Its region, for deviations from the centre.
    epsilon : float
        Distance in l2.

    Returns
    -------
    Space

    Examples
    --------
    >>> from skinv.geometry._regions import Box
    >>> space = space_of(np.array([[3.0, 1.0], [1.0, 2.0]]), Box(np.zeros(4), 0.5), 0.1)
    >>> bool(np.allclose(3.0 * space.singular, space.x * space.y))
    True
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


def _window(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the grids of a square that holds all points, with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = (0.5 + _MARGIN) * (high - low).max()
    middle = (low + high) / 2
    x, y = (np.linspace(m - half, m + half, _FINE) for m in middle)
    return x, y
