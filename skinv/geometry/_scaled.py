"""Regions, checked, in units in which nothing over- or underflows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import real_array
from .._linalg.scaling import ZERO
from ._distance import check_distance_norm
from ._enclosure import Center, common_units, enclosed_inverse
from ._positive_map import Units
from ._rounding import EPS, TINY, row_exponents, scaled_up, unit_scale
from ._shapes import check_matrix

# Inverses with larger entries, in units of the centre's largest one, are not worked with.
LARGEST_INVERSE = 1e150
# Powers of two of units of rows, or columns, are at most so far apart.
_FAR = 500
# Deviations in a row are taken for no smaller than its entries by this power of two.
_QUIET = 10


@dataclass
class ScaledRegion:
    """A region in units in which nothing over- or underflows.

    Those of its centre's largest entry, or other ones for rows and columns, in powers of two.
    """

    center: Center
    radius: NDArray[np.float64]  # of shape () or (m, n); inf where it overflows
    axes: NDArray[np.float64]  # (rank, m, n), largest entry in [1/2, 1); rank 0 of boxes and balls
    axes_lost: float  # bounds the Frobenius norm of what the axes leave out, for a radius of 1
    unit: int  # matrices were divided by 2^unit,
    length: int  # and the radius by 2^length
    units: Units  # what changes of 2^step in the caller's units are at least, for rows and columns
    step: int

    @property
    def lost(self) -> float:
        """A bound of the Frobenius norm of what the centre and an ellipsoid's axes leave out."""
        spread = max(float(self.radius) * self.axes_lost, TINY) if self.axes_lost else 0.0
        return (self.center.lost + spread) * (1 + 4 * EPS)


def check_region(center: ArrayLike, radius: Any, norm: str, axes: ArrayLike | None) -> ScaledRegion:
    """Return a region, scaled; raise a ValueError as `region_margin` does."""
    region = scaled(*checked(center, radius, norm, axes))
    refuse_singular(region.center)
    return region


def checked(
    center: ArrayLike, radius: Any, norm: str, axes: ArrayLike | None
) -> tuple[NDArray, NDArray, NDArray | None]:
    """Return centre, radius and, of an ellipsoid, axes (rank, m, n), or raise a ValueError."""
    A = check_matrix(center)
    delta = real_array(radius, "radius")
    if not (np.isfinite(delta).all() and (delta >= 0).all()):
        raise ValueError(f"Got radius={radius}, but radii are finite and not negative.")
    if delta.ndim and (norm != "linf" or delta.shape != A.shape):
        raise ValueError(
            f"Got a radius of shape {delta.shape} with norm={norm!r}, but only norm='linf' takes "
            f"half-widths per entry, of the shape {A.shape} of the center."
        )
    if norm != "mahalanobis":
        check_distance_norm(norm)
        return A, delta, None
    if axes is None:
        raise ValueError('norm="mahalanobis" needs the semi-axes of the ellipsoid: pass axes.')
    S = real_array(axes, "axes")
    if S.shape[1:] not in ((A.size,), A.shape) or not np.isfinite(S).all():
        raise ValueError(
            f"Got axes of shape {S.shape}, but finite rows of shape (rank, {A.size}) are expected."
        )
    return A, delta, S.reshape(-1, *A.shape)


def refuse_singular(center: Center) -> None:
    """Raise a ValueError for a centre with entries of the inverse that cannot be worked with."""
    if not center.absolute.max() < LARGEST_INVERSE:
        what = "is singular" if center.is_square else "has no full rank"
        raise ValueError(
            f"The center {what} to working precision (condition number "
            f"{np.linalg.cond(center.A):.1g}); choose a regular center."
        )


def scaled(
    A: NDArray,
    radius: NDArray,
    S: NDArray | None,
    thickness: ArrayLike = 0.0,
    scaling: tuple[NDArray, NDArray] | None = None,
) -> ScaledRegion:
    """Return a region in units of its centre's largest entry, once rows and columns are scaled."""
    m, n = A.shape
    rows, columns = (np.zeros(k, np.int64) for k in (m, n)) if scaling is None else scaling
    power = rows[:, None] + columns
    (matrix,), (unit,), (lost,) = unit_scale(A[None], power if scaling else None)
    B, error = enclosed_inverse(matrix[None])
    axes, axes_lost, length = np.zeros((0, m, n)), 0.0, unit
    scaled_radius = scaled_up(radius, (power if radius.ndim else 0) - unit)
    if S is not None:
        flat = S.reshape(1, len(S), m * n)
        flat, (own,), (lost_there,) = unit_scale(flat, power.ravel() if scaling else None)
        own = own if flat.any() else unit
        axes, length = flat.reshape(-1, m, n), unit - own
        scaled_radius = scaled_up(radius, -length)
        thick = scaled_up(np.broadcast_to(thickness, (m, n)), power - own)
        axes_lost = float(lost_there + thick.max())
    return ScaledRegion(
        center=Center(matrix, B[0], error[0], float(lost)),
        radius=scaled_radius,
        axes=axes,
        axes_lost=axes_lost,
        unit=int(unit),
        length=int(length),
        # None smaller than can be squared: they may be too large, for what is to be kept.
        units=(_powers_down(rows), _powers_down(columns)),
        step=int(unit - rows.max() - columns.max()),
    )


def region_units(A: NDArray, radius: NDArray, S: NDArray | None) -> tuple[NDArray, NDArray]:
    """Return exponents of powers of two for rows and columns of a square or tall region.

    Those that bring rows and columns of a square centre to one size. Which left inverse of a tall
    one is near the pseudo-inverse depends on the units of its rows: what brings the deviations in
    them to one size weights them as least squares of such errors does (Aitken 1936, "On least
    squares and linear combination of observations").
    """
    rows, columns = common_units(A)
    size = radius if S is None else np.abs(S).max(axis=0, initial=0.0)
    if A.shape[0] == A.shape[1] or size.ndim == 0:
        return rows, columns
    quiet = row_exponents(A, columns) - _QUIET
    rows = -np.maximum(row_exponents(size, columns), quiet)
    return np.where(rows < -ZERO // 2, rows, 0), columns


def _powers_down(exponents: NDArray) -> NDArray:
    """Return powers of two, the largest of them 1."""
    return np.ldexp(1.0, np.maximum(exponents - exponents.max(), -_FAR))
