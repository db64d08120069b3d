"""Reduced coordinates of a family of matrices: the few directions in which it moves its inverses.

With B the inverse of the mean, a deviation E of a matrix moves the inverse by −BEB, to first order.
The coordinates are the principal directions of these effects over the training matrices, which are
in units in which rows and columns are of a common size: what matters is what moves the inverse. For
other quantities than inverses they are those of the standardized features. What a few coordinates
do not see is looked at through a few random directions of the rest (a sketch), so that a prediction
can tell when it is asked for what the training never showed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from .._arrays.shapes import matrix_order
from .._linalg.inverses import regular_inverse
from .linear import varies

# Directions that are looked for, and those of the rest through which that is looked at.
MOST_COMPONENTS, N_OUTSIDE = 64, 6
# Numbers of the largest sample of effects that directions are found in.
_SAMPLE = 2**24
# Of larger samples the leading directions are found by random projections.
_EXACT = 2**21
# Effects below this share of the largest, or of this many roundings, say nothing.
_SHARE, _ROUNDINGS = 1e-9, 2**8
# Directions are few that leave out this share of the square of all effects; so are features, with
# so many times more outputs.
_LEFT_OUT, _MANY = 1e-4, 4
# Rows that are worked on at once.
CHUNK = 2**12


@dataclass
class Reduction:
    """Coordinates of rows, scaled so that they are between −1 and 1 over the training data."""

    origin: NDArray[np.float64]  # the mean of the training rows
    projection: NDArray[np.float64]  # z = (a − origin) @ projection
    y_unit: NDArray[np.float64]  # what outputs are multiplied with for errors to count alike
    outside: NDArray[np.float64]  # (n_features, n_outside): sketch of what z does not see
    reach: float  # the largest that it is over the training data

    def coordinates(self, rows: NDArray) -> NDArray[np.float64]:
        """Return the coordinates of rows, of shape (n_samples, n_components)."""
        return project(rows, self.origin, self.projection)


def some_of(n_rows: int, most: int) -> Any:
    """Return what selects `most` of many rows: evenly, but at random, as they may be a grid."""
    most = max(most, 1)
    if n_rows <= most:
        return slice(None)
    place = np.arange(most) + np.random.RandomState(0).uniform(size=most)
    return np.minimum(place * (n_rows / most), n_rows - 1).astype(np.intp)


def project(rows: NDArray, origin: NDArray, directions: NDArray) -> NDArray[np.float64]:
    """Return (rows − origin) @ directions, without memory of the size of the rows."""
    z = np.empty((len(rows), directions.shape[1]))
    for start in range(0, len(rows), CHUNK):
        piece = slice(start, start + CHUNK)
        np.matmul(rows[piece] - origin, directions, out=z[piece])
    return z


class Directions:
    """The directions in which training rows move the output, the leading ones first.

    `by_features` looks at the standardized features in any case, which is better where matrices
    vary so widely that the first order says little of their inverses.
    """

    def __init__(
        self,
        rows: NDArray,
        targets: NDArray,
        *,
        inverses: bool,
        count: int = MOST_COMPONENTS,
        by_features: bool = False,
    ):
        self.origin = rows.mean(axis=0)
        effects = Effects.of_inverses(rows, self.origin) if inverses else None
        if effects is None or by_features:
            unit = None if effects is None else effects.y_unit
            effects = Effects.of_features(rows, targets, unit)
        self.effects = effects
        some = rows[some_of(len(rows), _SAMPLE // self.origin.size)]
        F = self.effects.of(some - self.origin)
        F[~np.isfinite(F).all(axis=1)] = 0.0  # of rows that are far beyond all others
        V, size = leading_directions(F, count)
        size = size / np.sqrt(max(len(F), 1))
        self._square = float(np.vdot(F, F)) / max(len(F), 1)
        # The data are rounded, each number by itself.
        rounding = np.abs(some).max(axis=0, initial=0.0) * np.finfo(np.float64).eps
        rounding = _ROUNDINGS * float(np.linalg.norm(self.effects.of(rounding[None])))
        known = (size > _SHARE * size.max(initial=0.0)) & (size > rounding)
        self._V, self.weights = V[:, known], size[known]
        if self.effects.varying is not None:
            self._V = self._V * self.effects.varying[:, None]
        projection = self.effects.adjoint(self._V)
        self.projection = projection / _positive(
            np.abs(project(rows, self.origin, projection)).max(axis=0, initial=0.0)
        )

    def are_few(self, rows: NDArray, n_outputs: int) -> bool:
        """Tell whether training rows move in few directions, or few features give many outputs."""
        n_features = self.origin.size
        if n_outputs > _MANY * n_features or len(self.weights) == 0:
            return True
        left_out = self._square - np.cumsum(self.weights**2)
        enough = np.flatnonzero(left_out <= _LEFT_OUT * self._square)
        return len(enough) > 0 and int(enough[0]) + 1 <= int(_standardizing(rows)[1].sum()) // 2

    def reach(self, count: int, rows: NDArray) -> float:
        """Return how far rows reach into what the leading directions do not see."""
        rest = self._rest(count)
        return float(np.abs(project(rows, self.origin, rest)).max(initial=0.0))

    def reduction(self, count: int, rows: NDArray, reach: float = 0.0) -> Reduction:
        """Return the coordinates of the leading directions, and a sketch of all the others."""
        return Reduction(
            self.origin,
            self.projection[:, :count],
            self.effects.y_unit,
            self._rest(count),
            max(self.reach(count, rows), reach),
        )

    def _rest(self, count: int) -> NDArray[np.float64]:
        return self.effects.adjoint(_sketch(self._V[:, :count]))


@dataclass
class Effects:
    """What deviations do to the output, to first order, in units in which errors count alike."""

    y_unit: NDArray[np.float64]
    inverse: NDArray[np.float64] | None = None  # of the mean, (n, n), for inverses
    # What features are multiplied with, for other outputs, and for widely varying matrices.
    x_unit: NDArray[np.float64] | None = None
    # The features that do not vary have no effects, but are looked at outside of the coordinates.
    varying: NDArray[np.bool_] | None = None

    @classmethod
    def of_inverses(cls, rows: NDArray, origin: NDArray) -> "Effects | None":
        """Return the effects on inverses, or None if the mean is singular."""
        n = matrix_order(origin.size)
        center = origin.reshape(n, n)
        try:
            B = regular_inverse(center, np.abs(rows).max(axis=0, initial=0.0))
        except ValueError:
            return None
        return cls(np.ones(n * n), inverse=B)

    @classmethod
    def of_features(
        cls, rows: NDArray, targets: NDArray, y_unit: NDArray | None = None
    ) -> "Effects":
        """Return the standardized features, of matrices if units of their inverses are given."""
        x_unit, varying = _standardizing(rows)
        if y_unit is None:
            y_unit, _ = _standardizing(targets)
        elif varying.any():  # changes of constant entries of matrices count as those of others
            x_unit = np.where(varying, x_unit, np.exp(np.mean(np.log(x_unit[varying]))))
        else:
            x_unit = np.ones_like(x_unit)
        return cls(y_unit, x_unit=x_unit, varying=varying)

    def of(self, E: NDArray) -> NDArray[np.float64]:
        """Return the effects of deviations, one row each."""
        if self.inverse is None:
            return np.asarray(E * np.where(self.varying, self.x_unit, 0.0))  # type: ignore[arg-type]
        B, n = self.inverse, len(self.inverse)
        with np.errstate(all="ignore"):
            return (B @ E.reshape(len(E), n, n) @ B).reshape(E.shape) * self.y_unit

    def adjoint(self, V: NDArray) -> NDArray[np.float64]:
        """Return directions P with E @ P = of(E) @ V."""
        if self.inverse is None:
            return self.x_unit[:, None] * V  # type: ignore[index]
        B, n = self.inverse, len(self.inverse)
        stack = (V.T * self.y_unit).reshape(V.shape[1], n, n)
        return np.ascontiguousarray((B.T @ stack @ B.T).reshape(V.shape[::-1]).T)


def leading_directions(F: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Return the leading right singular vectors of a matrix as columns, and singular values."""
    count = min(count, *F.shape)
    if count == 0:
        return np.zeros((F.shape[1], 0)), np.zeros(0)
    if F.size <= _EXACT:
        _, size, Vt = np.linalg.svd(F, full_matrices=False)
    else:
        _, size, Vt = randomized_svd(F, count, n_iter=4, random_state=0)
    return Vt[:count].T, size[:count]


def _sketch(V: NDArray) -> NDArray[np.float64]:
    """Return orthonormal random directions perpendicular to orthonormal ones."""
    d, k = V.shape
    count = min(N_OUTSIDE, d - k)
    if count < 1:
        return np.zeros((d, 0))
    draws = np.random.RandomState(0).standard_normal((d, count))
    for _ in range(2):  # twice is enough
        draws, _ = np.linalg.qr(draws - V @ (V.T @ draws))
    return draws


def _standardizing(values: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what columns are multiplied with for a standard deviation of 1, and which vary."""
    largest = np.abs(values).max(axis=0, initial=0.0)
    share = values / _positive(largest)  # squares of others would overflow
    mean, deviation = share.mean(axis=0) * largest, share.std(axis=0) * largest
    usual = np.hypot(mean, deviation).max(initial=0.0) or 1.0
    varying = varies(mean, deviation)
    # What holds nothing but rounding counts by what is usual elsewhere: that it changes is seen.
    size = np.where(varying, deviation, usual)
    return 1 / np.maximum(size, np.finfo(np.float64).tiny), varying


def _positive(size: NDArray) -> NDArray[np.float64]:
    return np.where(size > 0, size, 1.0)
