"""Where worst errors are searched: the region of a sampler, or an affine slice of matrices."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import as_array, is_complex, real_array, to_host
from .._arrays.embedding import embed_complex
from .._linalg.inverses import check_center
from .._linalg.scaling import not_zero
from ..geometry._drawing import check_sampler
from ..geometry._rounding import TINY


@dataclass(frozen=True)
class Place:
    """The matrices center + {z @ directions : ‖z‖_norm <= 1}."""

    center: NDArray[np.float64]  # (n, n)
    directions: NDArray[np.float64]  # (k, n*n), one at least
    norm: str
    sampler: Any = None
    is_complex: bool = False
    is_symmetric: bool = False
    underflows: bool = False  # some directions are off by up to the smallest normal number

    @property
    def n(self) -> int:
        """Order of the matrices."""
        return len(self.center)

    def has(self, structure: Any) -> bool:
        """Tell whether all matrices have a structure."""
        return self.is_complex >= structure.is_complex and (
            self.is_symmetric >= structure.is_symmetric
        )

    def off(self, radius: Any) -> NDArray[np.float64]:
        """Return by how much entries may be off, as a row."""
        found = np.asarray(real_array(to_host(radius), "radius"), dtype=np.float64)
        n = self.n // 2 if self.is_complex else self.n
        if found.shape not in ((), (n, n)) or not (np.isfinite(found) & (found >= 0)).all():
            raise ValueError(
                f"Got radius={radius!r}, but a finite number that is not negative, or one for each "
                f"entry, an array of shape ({n}, {n}), is expected."
            )
        if self.is_complex and found.ndim:  # of both parts
            found = np.tile(found, (2, 2))
        return np.broadcast_to(found, self.center.shape).ravel()


def take_sampler(sampler: Any) -> Place:
    """Return the region of a fitted sampler."""
    if not hasattr(sampler, "on_infeasible"):
        raise ValueError(
            f"Got a {type(sampler).__name__} as the region, but a fitted FeasibleRegionSampler is "
            f"expected: pass FeasibleRegionSampler(center, radius).fit(), or a matrix, the center "
            f"of a slice, with directions=..."
        )
    check_sampler(sampler)
    norm, radius, center = sampler.certificate_.norm, sampler.radius_, sampler.center_
    structure = sampler._structure
    underflows = False
    if norm == "mahalanobis":
        norm, directions = "l2", sampler.axes_ * radius
        underflows = not_zero(sampler.axes_) & (np.abs(directions) < TINY)
    else:
        widths = np.broadcast_to(np.asarray(radius, dtype=np.float64), center.shape).ravel()
        if structure is None:
            directions = np.diag(widths)[not_zero(widths)]
        else:  # a free number that stands at m entries adds m|p|^q to the q-th power of the norm
            given = widths[structure.first]
            widths = given / structure.multiplicity**sampler._region.share
            directions = structure.unpack(np.diag(widths))[not_zero(given)]
            underflows = not_zero(given) & (widths < TINY)
    kinds = (False, False)
    if structure is not None:
        kinds = structure.is_complex, structure.is_symmetric
    directions = directions if len(directions) else np.zeros((1, center.size))
    return Place(center, directions, norm, sampler, *kinds, bool(np.any(underflows)))


def take_slice(center: Any, directions: Any) -> Place:
    """Return the slice through a centre along directions, |z_i| <= 1."""
    if hasattr(center, "on_infeasible"):
        raise ValueError(
            f"Got directions and {center!r}, which has its own: pass its center_ with them, or "
            f"leave them out."
        )
    if center is None:
        raise ValueError(
            "Got directions and region=None, but a slice has a center: pass this matrix as region."
        )
    whole = is_complex(center) or is_complex(directions)
    center = check_center(center, embed=whole)
    if is_complex(directions):
        directions = as_array(to_host(directions))
    else:
        directions = real_array(directions, "directions")
    n = len(center) // 2 if whole else len(center)
    if directions.ndim != 3 or directions.shape[1:] != (n, n) or len(directions) == 0:
        raise ValueError(
            f"Got directions of shape {directions.shape} and a center of order {n}, but matrices "
            f"of shape (k, {n}, {n}) are expected, k at least 1."
        )
    directions = embed_complex(directions) if whole else directions
    rows = directions.reshape(len(directions), -1).astype(np.float64)
    if not np.isfinite(rows).all():
        raise ValueError("Got directions that are not finite.")
    symmetric = all((M == M.T).all() for M in (center, *rows.reshape(-1, *center.shape)))
    return Place(center, rows, "linf", None, whole, symmetric)
