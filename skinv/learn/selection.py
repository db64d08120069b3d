"""How many terms of which coordinates a polynomial takes: as rows that are held out say."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from .._arrays.shapes import matrix_order
from .._linalg.inverses import regular_inverse
from .._linalg.terms import leading_terms
from .least_squares import (
    Outputs,
    Polynomial,
    columns_of,
    penalized,
    penalty_of,
    triangular,
)
from .linear import taylor
from .reduction import CHUNK, MOST_COMPONENTS, Directions, project, some_of

# One row of so many is held out while the number of terms is chosen, if there are enough.
_EVERY, _ENOUGH = 5, 10
# Of fewer rows a term for so many.
_FEW = 3
# Terms that lower the held-out error by less than this are not worth their time.
_WORTH = 0.1
# The first-order series is used where the polynomial is not better than that.
_BETTER = 0.9
# How fast terms get smaller with their degree is not known, nor how much of them is noise: these
# are tried, the rates with the first ridge.
_RATES = (0.5, 0.15, 0.05, 0.015)
_RIDGES = (1e-10, 1e-6, 1e-8, 1e-12, 1e-14)


def fit_polynomial(
    rows: NDArray,
    targets: NDArray,
    *,
    inverses: bool,
    n_components: int | None = None,
    degree: int | None = None,
    max_terms: int = 256,
) -> Polynomial | None:
    """Fit a polynomial of reduced coordinates.

    With both `n_components` and `degree` all terms are taken, up to `max_terms`; else as many as
    lower the error of rows held out. None where the first-order series of the inverse does better
    on these, and where there are too few to tell.
    """
    count = min(n_components or MOST_COMPONENTS, MOST_COMPONENTS, max_terms)
    stated = n_components is not None and degree is not None
    held = held_out(len(rows))
    error = float("nan")
    if held.any():
        known = rows[~held], targets[~held]
        tried: list[tuple[Any, ...]] = []
        for by_features in (False, True) if inverses else (False,):
            first = Directions(*known, inverses=inverses, count=count, by_features=by_features)
            trial = _Trial(first, rows, targets, held)
            for rate in _RATES:
                [errors] = trial.errors(rate, _RIDGES[:1], degree, max_terms)
                least = errors[-1] if stated else errors.min()
                tried.append((least, len(tried), rate, errors, trial, by_features))
        _, _, rate, errors, trial, by_features = min(tried)
        others = trial.errors(rate, _RIDGES[1:], degree, max_terms)
        found = dict(zip(_RIDGES, [errors, *others], strict=True))
        reached = {size: each[-1] if stated else each.min() for size, each in found.items()}
        enough = (1 + _WORTH) * min(reached.values())
        ridge = max(size for size in found if reached[size] <= enough)
        errors = found[ridge]
        n_terms = len(errors) - 1
        if not stated:
            n_terms = int(np.flatnonzero(errors <= (1 + _WORTH) * errors.min())[0])
        error = float(errors[n_terms])
        if inverses and not stated and error > _BETTER * trial.series_error():
            return None
        first = trial.directions
        used = n_used(leading_terms(first.weights, rate, n_terms, degree)[0])
        # What moves the output by no more than the error of the polynomial is not far.
        unseen = max(first.reach(used, rows[held]), error)
    elif inverses and not stated:
        return None
    else:
        unseen = float("inf")
        n_terms = max_terms if stated else min(max_terms, len(rows) // _FEW)
        rate, ridge, by_features = _RATES[0], _RIDGES[0], False
    n_terms = min(n_terms, len(rows) - 1)
    directions = Directions(rows, targets, inverses=inverses, count=count, by_features=by_features)
    monomials, importance = leading_terms(directions.weights, rate, n_terms, degree)
    reduction = directions.reduction(n_used(monomials), rows, unseen)
    outputs = Outputs(targets, reduction.y_unit)
    R, Z = triangular(reduction.coordinates(rows), outputs, np.arange(len(rows)), monomials)
    penalty = penalty_of(importance, ridge, len(rows))
    return Polynomial(reduction, monomials, outputs, penalty, *penalized(R, Z, penalty), error)


def held_out(n_samples: int) -> NDArray[np.bool_]:
    """Tell which rows are held out."""
    held = np.zeros(n_samples, dtype=bool)
    if n_samples >= _ENOUGH:
        held[some_of(n_samples, n_samples // _EVERY)] = True
    return held


def n_used(monomials: list[tuple[int, ...]]) -> int:
    """Return how many coordinates there are in monomials."""
    return max((term[-1] + 1 for term in monomials), default=0)


class _Trial:
    """Least squares on the rows that are not held out, and what it leaves of those that are."""

    def __init__(
        self, directions: Directions, rows: NDArray, targets: NDArray, held: NDArray[np.bool_]
    ):
        self.directions = directions
        self._outputs = Outputs(targets, directions.effects.y_unit)
        self._known, unseen = np.flatnonzero(~held), np.flatnonzero(held)
        self._unseen = unseen = unseen[some_of(len(unseen), CHUNK)]
        self._rows, self._targets = rows, targets
        origin, projection = directions.origin, directions.projection
        self._z = project(rows[self._known], origin, projection)
        self._z_unseen = project(rows[unseen], origin, projection)
        self._left, self._lost = self._outputs.of(unseen), self._outputs.lost(unseen)

    def errors(
        self, rate: float, ridges: Sequence[float], degree: int | None, max_terms: int
    ) -> list[NDArray[np.float64]]:
        """Return the errors of the constant, with one term, with two, and so on, of each ridge."""
        most = min(max_terms, len(self._known) - 1)
        monomials, importance = leading_terms(self.directions.weights, rate, most, degree)
        known = triangular(self._z, self._outputs, self._known, monomials)
        columns, errors = columns_of(self._z_unseen, monomials), np.empty(len(monomials) + 1)
        every = []
        for ridge in ridges:
            R, Z = penalized(*known, penalty_of(importance, ridge, len(self._known)))
            basis = solve_triangular(R, columns.T, trans="T", check_finite=False)
            left = self._left.copy()
            for k, (u, c) in enumerate(zip(basis, Z, strict=True)):
                left -= u[:, None] * c
                square = np.vdot(left, left) + self._lost
                errors[k] = np.sqrt(square / (len(left) * self._targets.shape[1]))
            every.append(np.where(np.isfinite(errors), errors, np.inf))
        return every

    def series_error(self) -> float:
        """Return the error of the first-order series about the mean, on held-out rows."""
        n = matrix_order(self._rows.shape[1])
        center = self.directions.origin.reshape(n, n)
        try:
            inverse = regular_inverse(center)
        except ValueError:
            return float("inf")
        with np.errstate(all="ignore"):
            left = taylor(self._rows[self._unseen], center, inverse) - self._targets[self._unseen]
            error = float(np.sqrt(np.mean((left * self.directions.effects.y_unit) ** 2)))
        return error if error == error else float("inf")
