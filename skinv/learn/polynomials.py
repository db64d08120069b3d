"""Least squares with polynomials of reduced coordinates, as large as held-out rows say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular

from ..terms import Terms, leading_terms
from .linear import taylor
from .reduction import MOST_COMPONENTS, Directions, Reduction, leading_directions, project

# One row of so many is held out while the number of terms is chosen, if there are enough.
_EVERY, _ENOUGH = 5, 10
# Terms at most, as a share of the rows that they are fitted to.
_PER_ROW = 0.75
# Terms that lower the held-out error by less than this are not worth their time.
_WORTH = 0.1
# The first-order series is used where the polynomial is not better than that.
_BETTER = 0.9
# Of columns that are this close to combinations of others the coefficients are noise.
_DEPENDENT = 1e-10
# How fast terms get smaller with their degree is not known: these are tried.
_RATES = (0.5, 0.15, 0.05, 0.015)
# Rows that are reduced to triangular form at once.
_CHUNK = 2**12
# Outputs past which they are projected on their principal directions first.
_WIDE, _SAMPLE = 256, 2**24
# Share of the held-out error that a basis of fewer outputs may add to it.
_TRUNCATED = 0.05


@dataclass
class Polynomial:
    """A polynomial of reduced coordinates, fitted to training data.

    Parameters
    ----------
    reduction : Reduction
    monomials : list of tuple of int
        The terms but for the constant one.
    constant : ndarray of shape (n_outputs,)
    coef : ndarray of shape (n_terms, n_outputs)
        In the order of ``Terms.of(monomials)``.
    error : float
        Root mean square error of held-out rows, in units of the reduction; NaN if there were none.

    Examples
    --------
    >>> x = np.linspace(0, 1, 50)[:, None]
    >>> p = fit_polynomial(x, x**3, inverses=False)
    >>> len(p.monomials), float(abs(p.predict(x) - x**3).max()) < 1e-12
    (3, True)
    """

    reduction: Reduction
    monomials: list[tuple[int, ...]]
    constant: NDArray[np.float64]
    coef: NDArray[np.float64]
    error: float

    def predict(self, rows: NDArray) -> NDArray[np.float64]:
        """Return the polynomial's values, wherever the rows are."""
        terms = Terms.of(self.monomials)
        values = np.empty((len(rows), len(self.constant)))
        for start in range(0, len(rows), _CHUNK):
            z = self.reduction.coordinates(rows[start : start + _CHUNK])
            np.matmul(design(z, terms), self.coef, out=values[start : start + _CHUNK])
        values += self.constant
        return values


def design(z: NDArray, terms: Terms) -> NDArray[np.float64]:
    """Return the terms of coordinates as columns, the constant one apart."""
    out = np.empty((len(terms), len(z)))
    if terms.powers:
        out[: terms.powers[0]] = z[:, : terms.powers[0]].T
    terms.evaluate(out)
    return out.T


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

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features), float64
    targets : ndarray of shape (n_samples, n_outputs), float64
    inverses : bool
        Whether the targets are the inverses of the rows.
    n_components, degree : int, default=None
        Number of coordinates and total degree, at most. With both, all terms are taken, up to
        `max_terms`; else as many as lower the error of rows held out.
    max_terms : int, default=256
        Number of terms, at most.

    Returns
    -------
    Polynomial or None
        None where the first-order series of the inverse does better on the rows held out.
    """
    count = min(n_components or MOST_COMPONENTS, MOST_COMPONENTS, max_terms)
    stated = n_components is not None and degree is not None
    held = held_out(len(rows))
    error, unseen = float("nan"), 0.0
    if held.any():
        first = Directions(rows[~held], targets[~held], inverses=inverses, count=count)
        tried = [_errors(first, rows, targets, held, r, degree, max_terms) for r in _RATES]
        best = int(np.argmin([errors.min() for errors, _ in tried]))
        rate, (errors, monomials) = _RATES[best], tried[best]
        n_terms = len(errors) - 1
        if not stated:
            n_terms = int(np.flatnonzero(errors <= (1 + _WORTH) * errors.min())[0])
        error = float(errors[n_terms])
        if inverses and not stated and error > _BETTER * _series_error(first, rows, targets, held):
            return None
        used = n_used(monomials[:n_terms])
        unseen = first.reach(used, rows[held])
    else:
        rate, n_terms = _RATES[0], max(int(_PER_ROW * len(rows)) - 1, 0)
    directions = Directions(rows, targets, inverses=inverses, count=count)
    monomials = leading_terms(directions.weights, rate, min(n_terms, max_terms), degree)
    reduction = directions.reduction(n_used(monomials), rows, unseen)
    terms = Terms.of(monomials)
    outputs = _Outputs(targets, reduction.y_unit)
    R, Z = _triangular(reduction.coordinates(rows), outputs, None, terms)
    constant, coef = outputs.restored(_solved(R, Z))
    return Polynomial(reduction, terms.names, constant, coef, error)


def held_out(n_samples: int) -> NDArray[np.bool_]:
    """Tell which rows are held out."""
    held = np.zeros(n_samples, dtype=bool)
    if n_samples >= _ENOUGH:
        held[_EVERY // 2 :: _EVERY] = True
    return held


def n_used(monomials: list[tuple[int, ...]]) -> int:
    """Return how many coordinates there are in monomials."""
    return max((term[-1] + 1 for term in monomials), default=0)


class _Outputs:
    """Targets in few columns, all of which count alike."""

    def __init__(self, targets: NDArray, unit: NDArray):
        self._targets, self._unit = targets, unit
        self.mean = targets.mean(axis=0)
        self._basis = None
        if targets.shape[1] > _WIDE:
            some = targets[:: max(targets.size // _SAMPLE, 1)]
            self._basis = leading_directions((some - self.mean) * unit, _WIDE)[0]

    def of(self, rows: Any) -> NDArray[np.float64]:
        """Return some rows."""
        values = (self._targets[rows] - self.mean) * self._unit
        return values if self._basis is None else values @ self._basis

    def restored(self, coef: NDArray) -> tuple[NDArray, NDArray]:
        """Return constant and coefficients of the targets themselves."""
        coef = (coef if self._basis is None else coef @ self._basis.T) / self._unit
        return self.mean + coef[0], coef[1:]


def _errors(
    directions: Directions,
    rows: NDArray,
    targets: NDArray,
    held: NDArray[np.bool_],
    rate: float,
    degree: int | None,
    max_terms: int,
) -> tuple[NDArray[np.float64], list[tuple[int, ...]]]:
    """Return the errors of held-out rows with no term, the first one, the first two, …"""
    known = np.flatnonzero(~held)
    unseen = np.flatnonzero(held)[:: max(int(held.sum()) // _CHUNK, 1)]
    most = min(max_terms, max(int(_PER_ROW * len(known)) - 1, 0))
    monomials = leading_terms(directions.weights, rate, most, degree)
    terms = Terms.of(monomials)
    place = {name: k for k, name in enumerate(terms.names)}
    order = [place[term] for term in monomials]
    outputs = _Outputs(targets, directions.effects.y_unit)
    z = project(rows[known], directions.origin, directions.projection)
    R, Z = _triangular(z, outputs, known, terms, order)
    z = project(rows[unseen], directions.origin, directions.projection)
    basis = np.column_stack([np.ones(len(z)), design(z, terms)[:, order]])
    basis = solve_triangular(R, basis.T, trans="T", check_finite=False)
    left = outputs.of(unseen)
    errors = np.empty(len(R))
    for k, (u, c) in enumerate(zip(basis, Z, strict=True)):
        left -= u[:, None] * c
        errors[k] = np.sqrt(np.mean(left * left))
    return np.where(np.isfinite(errors), errors, np.inf), monomials


def _triangular(
    z: NDArray,
    outputs: _Outputs,
    index: NDArray | None,
    terms: Terms,
    order: Any = slice(None),
) -> tuple[NDArray, NDArray]:
    """Return R and QᵀY of the QR decomposition of the terms, the constant one first.

    Of terms that depend on those before them, R is 1 on the diagonal and QᵀY is 0.
    """
    n = len(terms) + 1
    R, Z = np.zeros((0, n)), None
    for start in range(0, len(z), _CHUNK):
        piece = slice(start, min(start + _CHUNK, len(z)))
        columns = design(z[piece], terms)[:, order]
        y = outputs.of(piece if index is None else index[piece])
        D = np.vstack([R, np.column_stack([np.ones(len(y)), columns])])
        Q, R = qr(D, mode="economic", check_finite=False)
        Z = Q.T @ (y if Z is None else np.vstack([Z, y]))
    assert Z is not None
    dependent = np.abs(R.diagonal()) <= _DEPENDENT * np.linalg.norm(R, axis=0)
    R[dependent] = 0.0
    R[dependent, dependent] = 1.0
    Z[dependent] = 0.0
    return R, Z


def _solved(R: NDArray, Z: NDArray) -> NDArray[np.float64]:
    return np.asarray(solve_triangular(R, Z, check_finite=False))


def _series_error(
    directions: Directions, rows: NDArray, targets: NDArray, held: NDArray[np.bool_]
) -> float:
    """Return the error of the first-order series about the mean, on held-out rows."""
    inverse = directions.effects.inverse
    if inverse is None:
        return float("inf")
    unseen = np.flatnonzero(held)[:: max(int(held.sum()) // _CHUNK, 1)]
    center = directions.origin.reshape(inverse.shape)
    left = taylor(rows[unseen], center, inverse) - targets[unseen]
    return float(np.sqrt(np.mean((left * directions.effects.y_unit) ** 2)))
