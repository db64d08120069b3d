"""The centre and the shape of a region, from what the caller gives and from data."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import is_complex, real_array, to_host
from .._arrays.embedding import embed_complex
from .._linalg.inverses import check_center
from ..structures import Structure
from ._regions import SHAPES, Ellipsoid, Region, principal_axes


def find_center(
    center: ArrayLike | None, rows: NDArray | None, *, embed: bool
) -> NDArray[np.float64]:
    """Return a centre as a row, the mean of the rows if none is given; embed a real one too."""
    if center is None:
        if rows is None:
            raise ValueError("Got neither center nor data: pass center=..., or matrices to fit.")
        # The mean of equal numbers may differ from them in the last place.
        return np.where(np.ptp(rows, axis=0) == 0, rows[0], rows.mean(axis=0))
    found = check_center(center, embed=embed).ravel()
    if rows is not None and rows.shape[1] != found.size:
        raise ValueError(
            f"Got a center of {found.size} entries, but rows of X have {rows.shape[1]}; pass "
            f"a center of their size, or center=None for their mean."
        )
    return found


def find_region(
    center: NDArray,
    radius: Any,
    norm: str,
    rows: NDArray | None,
    eps: float,
    structure: Structure | None,
) -> Region:
    """Return the region around a centre, the smallest that holds the rows for the radius "data".

    `eps` is the precision of the rows; half-widths are made to fit the structure.
    """
    from_data = isinstance(radius, str)
    if rows is None and (norm == "mahalanobis" or from_data):
        raise ValueError(
            f"A region with radius={radius!r} and norm={norm!r} is made from data, "
            f"and there are none: pass matrices to fit, or a number as radius in another norm."
        )
    size: Any = 0.0 if from_data else _check_radius(radius, norm, center.size)
    if np.ndim(size) and structure is not None:
        size = structure.smallest(size)
    if norm == "mahalanobis":
        region: Region = Ellipsoid(center, size, *principal_axes(rows - center, eps))
    else:
        region = SHAPES[norm](center, size)
    return region.enclosing(rows - center) if from_data else region


def _check_radius(given: Any, norm: str, n_features: int) -> Any:
    """Return a radius as a number, or half-widths as a row."""
    radius = to_host(given)
    if is_complex(radius):  # half-widths of real and imaginary parts
        radius = embed_complex(radius)
        n = len(radius) // 2
        radius[:n, n:] *= -1
    else:
        radius = real_array(radius, "radius")
    if radius.ndim and (norm != "linf" or radius.size != n_features):
        raise ValueError(
            f"Got a radius of shape {radius.shape} with norm={norm!r}, but "
            f"half-widths per entry go with norm='linf' and have the shape of the center; "
            f"of complex matrices they are complex, for real and imaginary parts."
        )
    if not (np.isfinite(radius).all() and (radius >= 0).all()):
        raise ValueError(f"Got radius={given}, but it must be finite and >= 0.")
    return radius.ravel() if radius.ndim else float(radius)
