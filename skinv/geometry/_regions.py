"""The shapes of a feasible region: how deep a row lies in it, its nearest point, uniform draws.

Rows are flattened matrices less the centre, called deviations. A deviation is inside if a matrix
within rounding of it is: every depth first forgives some units in the last place of the centre and
of the region, so that float32 data of a float64 region and points put on the boundary count as
inside, in whatever order norms are summed. This is a matter of membership, never of proofs.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._linalg.draws import DeviceDraws, HostDraws
from ._rounding import EPS, LARGEST, TINY, largest_exponent

# Singular values of the data below this many √eps of the largest one are taken for rounding.
_RANK_SHARE = 4.0
# Random numbers of NumPy on the host, or of torch on a device.
Draws = HostDraws | DeviceDraws


@dataclass(frozen=True)
class Region(ABC):
    """What the four shapes share: a scalar radius and a norm of deviations."""

    center: NDArray[np.float64]  # a row
    radius: Any  # a number, or a row of half-widths
    share: ClassVar[float] = 0.0

    @abstractmethod
    def norm(self, deviations: NDArray) -> NDArray:
        """Return the norm of each row."""

    def enclosing(self, deviations: NDArray) -> "Region":
        """Return the smallest region of this shape that holds all deviations."""
        return replace(self, radius=float(self.norm(deviations).max()))

    def units(self, eps: float) -> float:
        """Return how many times a length may be off: sums of d terms err by about √d eps."""
        return (4 + self.center.size**0.5) * eps

    def gauge(self, deviations: NDArray, eps: float) -> NDArray:
        """Return the norm of each deviation, rounding in a dtype of precision `eps` forgiven."""
        forgiven = self.units(eps) * (self.norm(self.center[None])[0] + self.radius)
        return np.maximum(self.norm(deviations) - forgiven, 0.0)

    def depth(self, deviations: NDArray, eps: float = EPS) -> NDArray:
        """Return the radius left at each deviation: negative outside, -inf if not finite."""
        with np.errstate(invalid="ignore", over="ignore"):
            depth = self.radius - self.gauge(deviations, eps)
        return np.where(np.isfinite(depth), depth, -np.inf)

    def project(self, deviations: NDArray) -> NDArray:
        """Return the nearest deviation in the region's norm, for deviations outside.

        Shrinking x to radius·x/‖x‖ moves it by ‖x‖ − radius in its own norm, and no point of the
        ball is nearer.
        """
        unit = deviations / np.abs(deviations).max(axis=1)[:, None]  # no norm of it overflows
        return unit * (self.radius / self.norm(unit))[:, None]

    @abstractmethod
    def draw(self, n_samples: int, rng: Draws) -> Any:
        """Return deviations uniform in the region."""

    def packed(self, structure: Any, n_samples: int, rng: Draws) -> Any:
        """Return the free numbers of deviations uniform among those of a structure.

        A free number p that stands at m entries adds m|p|^q to the q-th power of the norm in lq:
        m^(1/q) p is uniform in the ball of as many dimensions as there are free numbers.
        """
        radius = self.radius if np.ndim(self.radius) == 0 else self.radius[structure.first]
        ball = type(self)(self.center[structure.first], radius)
        return ball.draw(n_samples, rng) / rng.asarray(structure.multiplicity**self.share)


class Box(Region):
    """|deviation| <= half-width, entry by entry (linf)."""

    def norm(self, deviations: NDArray) -> NDArray:
        return np.abs(deviations).max(axis=1)

    def enclosing(self, deviations: NDArray) -> Region:
        """Return the smallest box, with a half-width per entry: constant entries get 0."""
        return replace(self, radius=np.abs(deviations).max(axis=0))

    def depth(self, deviations: NDArray, eps: float = EPS) -> NDArray:
        """Return the smallest room left in any entry.

        Entries of half-width 0 leave no room anywhere; they count only where they are violated.
        """
        forgiven = 4 * eps * (np.abs(self.center) + self.radius)
        with np.errstate(invalid="ignore", over="ignore"):
            room = self.radius - np.maximum(np.abs(deviations) - forgiven, 0.0)
        fixed = np.broadcast_to(np.asarray(self.radius) == 0, room.shape) & (room == 0)
        room = np.where(fixed & ~fixed.all(axis=1, keepdims=True), np.inf, room)
        depth = room.min(axis=1)
        return np.where(np.isfinite(depth), depth, -np.inf)

    def project(self, deviations: NDArray) -> NDArray:
        return np.clip(deviations, -self.radius, self.radius)

    def draw(self, n_samples: int, rng: Draws) -> Any:
        radius = rng.asarray(np.broadcast_to(self.radius, self.center.shape))
        return (2.0 * rng.uniform(n_samples, self.center.size) - 1.0) * radius


class L2Ball(Region):
    """Frobenius norm of the deviation <= radius."""

    share = 0.5

    def norm(self, deviations: NDArray) -> NDArray:
        return row_norms(deviations)

    def draw(self, n_samples: int, rng: Draws) -> Any:
        return unit_ball(n_samples, self.center.size, rng) * self.radius


class L1Ball(Region):
    """Sum of the absolute entries of the deviation <= radius."""

    share = 1.0

    def norm(self, deviations: NDArray) -> NDArray:
        with np.errstate(over="ignore"):
            return np.abs(deviations).sum(axis=1)

    def draw(self, n_samples: int, rng: Draws) -> Any:
        # With one exponential number more than entries, e / Σe is uniform in the simplex; signs do
        # the rest (Barthe, Guédon, Mendelson and Naor 2005, for p = 1).
        d = self.center.size
        e = rng.exponential(n_samples, d + 1)
        signs = 1.0 - 2.0 * (rng.uniform(n_samples, d) < 0.5)
        return signs * e[:, :d] / e.sum(1)[:, None] * self.radius


@dataclass(frozen=True)
class Ellipsoid(Region):
    """Mahalanobis norm of the deviation <= radius, for a covariance of revealed rank.

    The thickness is the standard deviation granted to all directions but the axes. It makes the
    norm finite everywhere and is a numerical tolerance: samples do not use it. It has a number for
    each entry, which says what its units are; what is small, or perpendicular, is so in these.
    """

    axes: NDArray[np.float64]  # (rank, n_features), orthogonal in units of the thickness
    thickness: NDArray[np.float64]  # a row, or one number for all

    def norm(self, deviations: NDArray) -> NDArray:
        return self.gauge(deviations, 0.0)

    def gauge(self, deviations: NDArray, eps: float) -> NDArray:
        """Return the Mahalanobis norm of each row, rounding forgiven in each direction."""
        axes, center, deviations = (
            rows / self.thickness for rows in (self.axes, self.center[None], deviations)
        )
        length = row_norms(axes)
        directions = axes / length[:, None]
        along = deviations @ directions.T
        across = row_norms(deviations - along @ directions)
        extent = self.radius * length.max(initial=0.0)
        forgiven = self.units(eps) * (row_norms(center)[0] + extent)
        along = np.maximum(np.abs(along) - forgiven, 0.0) / length
        return np.hypot(row_norms(along), np.maximum(across - forgiven, 0.0))

    def draw(self, n_samples: int, rng: Draws) -> Any:
        return unit_ball(n_samples, len(self.axes), rng) @ rng.asarray(self.axes * self.radius)


SHAPES: dict[str, type[Region]] = {
    "linf": Box,
    "l2": L2Ball,
    "l1": L1Ball,
    "mahalanobis": Ellipsoid,
}


def row_norms(rows: NDArray) -> NDArray:
    """Return the Euclidean norm of each row; no square over- or underflows."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    largest[largest == 0] = 1.0
    with np.errstate(over="ignore"):  # but the norm itself may
        return np.linalg.norm(rows / largest[:, None], axis=1) * largest


def unit_ball(n_samples: int, dimension: int, rng: Draws) -> Any:
    """Return points uniform in the Euclidean unit ball: a random direction times u^(1/d)."""
    g = rng.normal(n_samples, dimension)
    length = (g * g).sum(1) ** 0.5
    return g * (rng.uniform(n_samples) ** (1.0 / max(dimension, 1)) / length)[:, None]


def principal_axes(deviations: NDArray, eps: float, power: NDArray) -> tuple[NDArray, NDArray]:
    """Return the semi-axes of the ellipsoid of deviations, of revealed rank, and its thickness.

    The axes (rank, n_features) are eigenvectors of the second moment about the centre (divisor
    n_samples) times the roots of their eigenvalues, where these are above the thickness, 4 √eps
    times the largest: all that for entries times 2^power, in which they are of a common size.
    """
    varying = np.flatnonzero(deviations.any(axis=0))  # all others get exact zeros
    some, power = deviations[:, varying], power - largest_exponent(deviations, power)
    scaled = np.ldexp(some, power[varying]) / np.sqrt(len(deviations))
    _, s, Vt = np.linalg.svd(scaled, full_matrices=False)
    if s.size == 0 or s[0] == 0:
        raise ValueError(
            f'norm="mahalanobis" needs data that vary, but all rows of X equal the center '
            f'(n_samples = {len(deviations)}); pass more, or use norm="linf" with a radius.'
        )
    threshold = _RANK_SHARE * np.sqrt(eps) * s[0]
    rank = int(np.sum(s > threshold))
    # The sign of a singular vector is arbitrary; fix it so that axes do not depend on LAPACK.
    axes = np.zeros((rank, deviations.shape[1]))
    axes[:, varying] = Vt[:rank] * s[:rank, None]
    largest = axes[np.arange(rank), np.abs(axes).argmax(axis=1)]
    with np.errstate(over="ignore", under="ignore"):
        axes = np.ldexp(axes * np.sign(largest)[:, None], -power)
        return axes, np.clip(np.ldexp(threshold, -power), TINY, LARGEST)
