"""Least squares with polynomials of reduced coordinates, as large as held-out rows say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular

from ..form import ReducedMap
from ..matrices import matrix_order, regular_inverse
from ..terms import Terms, leading_terms
from .linear import taylor
from .reduction import (
    MOST_COMPONENTS,
    Directions,
    Reduction,
    leading_directions,
    project,
    some_of,
)

# One row of so many is held out while the number of terms is chosen, if there are enough.
_EVERY, _ENOUGH = 5, 10
# Terms that lower the held-out error by less than this are not worth their time.
_WORTH = 0.1
# The first-order series is used where the polynomial is not better than that.
_BETTER = 0.9
# How fast terms get smaller with their degree is not known, nor how much of them is noise: these
# are tried, the rates with the first ridge.
_RATES = (0.5, 0.15, 0.05, 0.015)
_RIDGES = (1e-10, 1e-6, 1e-8, 1e-12, 1e-14)
# Importance of terms that count as much as others still less important.
_LEAST = 1e-100
# Rows that are reduced to triangular form at once.
_CHUNK = 2**12
# Outputs past which they are projected on their principal directions first.
_WIDE, _SAMPLE = 256, 2**24
# Share of the held-out error that a basis of fewer outputs may add to it, and of the work that it
# must save.
_TRUNCATED, _SAVED = 0.1, 0.2
# Rows that are looked at for that, and for terms in single precision: of so many times fewer.
_LOOKED_AT, _STEP = 2**10, 1.4
# Bits of numbers in lower precisions, the lowest one first, and how many terms are enough for them.
_LOWER: tuple[tuple[int, int | None], ...] = ((8, 64), (11, 64), (24, None))
# No coordinate may go further than if terms were of this degree, at least.
_LEAST_DEGREE = 3


@dataclass
class Polynomial:
    """A polynomial of reduced coordinates, fitted to training data.

    Parameters
    ----------
    reduction : Reduction
    monomials : list of tuple of int
        The terms but for the constant one, the most important ones first.
    outputs : Outputs
    penalty : ndarray of shape (n_terms,)
        What coefficients are multiplied with beside the residuals whose squares they are to
        minimize.
    R, Z : ndarray of shape (n_terms + 1, n_terms + 1) and (n_terms + 1, n)
        Least squares in triangular form: of so many leading terms, the constant one first.
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
    outputs: Outputs
    penalty: NDArray[np.float64]
    R: NDArray[np.float64]
    Z: NDArray[np.float64]
    error: float

    def coefficients(self, count: int) -> tuple[Terms, NDArray, NDArray]:
        """Return the first terms, the constant and the coefficients, which are the best ones."""
        some = self.monomials[:count]
        terms = Terms.of(some)
        solved = solve_triangular(self.R[: count + 1, : count + 1], self.Z[: count + 1])
        constant, coef = self.outputs.restored(np.asarray(solved))
        place = {name: k for k, name in enumerate(some)}
        return terms, constant, coef[[place[name] for name in terms.names]]

    def predict(self, rows: NDArray) -> NDArray[np.float64]:
        """Return the polynomial's values, wherever the rows are."""
        terms, constant, coef = self.coefficients(len(self.monomials))
        values = np.empty((len(rows), len(constant)))
        for start in range(0, len(rows), _CHUNK):
            z = self.reduction.coordinates(rows[start : start + _CHUNK])
            np.matmul(design(z, terms), coef, out=values[start : start + _CHUNK])
        values += constant
        return values

    def rounded(self, rows: NDArray) -> Polynomial:
        """Return the same terms, fitted to the training rows as they are in a lower precision.

        What is rounding then does not go by coordinates in which the rows hardly move.
        """
        z = self.reduction.coordinates(rows)
        R, Z = _triangular(z, self.outputs, np.arange(len(rows)), self.monomials)
        R, Z = _penalized(R, Z, self.penalty[: len(self.monomials)])
        return replace(self, R=R, Z=Z)

    def single_count(self, rows: NDArray, targets: NDArray) -> int:
        """Return how many terms are worth their time in single precision, of rounded rows."""
        some = some_of(len(rows), _LOOKED_AT)
        origin, unit = self.reduction.origin, self.reduction.y_unit
        with np.errstate(all="ignore"):
            pivot = origin.astype(np.float32)
            shift = (pivot - origin) @ self.reduction.projection
            z = (rows[some].astype(np.float32) - pivot) @ self.reduction.projection.astype("f")
            z += shift.astype("f")
        counts, errors = [len(self.monomials)], []
        while counts[-1] > 1:
            counts.append(int(counts[-1] / _STEP))
        for count in counts:
            terms, constant, coef = self.coefficients(count)
            with np.errstate(all="ignore"):
                values = design(z, terms) @ coef.astype(np.float32) + constant.astype(np.float32)
            errors.append(float(np.mean(((values - targets[some]) * unit) ** 2)))
        known = np.where(np.isfinite(errors), errors, np.inf)  # of what leaves float32's range
        enough = known <= (1 + _WORTH) ** 2 * known.min()
        return counts[int(np.flatnonzero(enough)[-1])] if np.isfinite(known).any() else counts[0]

    def to_map(
        self, rows: NDArray, targets: NDArray, factor: float, *, full: bool = False
    ) -> ReducedMap:
        """Return what predicts.

        Parameters
        ----------
        rows, targets : ndarray of shape (n_samples, n_features) and (n_samples, n_outputs)
            Training data.
        factor : float
            How far matrices may go, see :func:`limits_of`.
        full : bool, default=False
            Whether all outputs are computed from the terms, not from a basis.

        Returns
        -------
        ReducedMap
        """
        lower: ReducedMap | None = None
        for bits, most in _LOWER:
            some = replace(self, monomials=self.monomials[:most])
            rounded = rounded_to(rows, bits)
            same = np.array_equal(rounded, rows)
            fitted = some if same else some.rounded(rounded)
            count = fitted.single_count(rounded, targets)
            if not same or count < len(self.monomials):
                lower = replace(
                    fitted._map(count, rows, factor, full or most is not None),
                    single=lower,
                    spacing=2.0 ** (1 - bits),
                )
        return replace(self._map(len(self.monomials), rows, factor, full), single=lower)

    def _map(self, count: int, rows: NDArray, factor: float, full: bool = False) -> ReducedMap:
        reduction = self.reduction
        terms, constant, coef = self.coefficients(count)
        V, basis, unit = None, None, reduction.y_unit
        if not full:
            z = reduction.coordinates(rows[some_of(len(rows), _LOOKED_AT)])
            V = output_basis(design(z, terms) @ coef, unit, self.error, len(coef))
        if V is not None:
            coef, basis = (coef * unit) @ V, V.T / unit
        return ReducedMap(
            origin=reduction.origin,
            projection=reduction.projection,
            outside=reduction.outside,
            limits=limits_of(reduction, terms, factor),
            terms=terms,
            constant=constant,
            coef=coef,
            layers=[],
            activation="relu",
            basis=basis,
            size=np.abs(rows).max(axis=0),
        )


def rounded_to(rows: NDArray, bits: int) -> NDArray[np.float64]:
    """Return numbers rounded to so many bits.

    Parameters
    ----------
    rows : ndarray
    bits : int

    Returns
    -------
    ndarray, float64

    Examples
    --------
    >>> rounded_to(np.array([1.3, -5.1]), 3)
    array([ 1.25, -5.  ])
    """
    mantissa, exponent = np.frexp(rows)
    return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)


def design(z: NDArray, terms: Terms) -> NDArray:
    """Return the terms of coordinates as columns, the constant one apart."""
    out = np.empty((len(terms), len(z)), z.dtype)
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
        None where the first-order series of the inverse does better on the rows held out, and where
        there are too few to tell.
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
                tried.append((errors.min(), len(tried), rate, errors, first, trial, by_features))
        _, _, rate, errors, first, trial, by_features = min(tried)
        others = trial.errors(rate, _RIDGES[1:], degree, max_terms)
        found = dict(zip(_RIDGES, [errors, *others], strict=True))
        least = min(each.min() for each in found.values())
        ridge = max(size for size in found if found[size].min() <= (1 + _WORTH) * least)
        errors = found[ridge]
        n_terms = len(errors) - 1
        if not stated:
            n_terms = int(np.flatnonzero(errors <= (1 + _WORTH) * errors.min())[0])
        error = float(errors[n_terms])
        if inverses and not stated and error > _BETTER * _series_error(first, rows, targets, held):
            return None
        used = n_used(leading_terms(first.weights, rate, n_terms, degree)[0])
        # What moves the output by no more than the error of the polynomial is not far.
        unseen = max(first.reach(used, rows[held]), error)
    elif inverses and not stated:
        return None
    else:
        unseen = float("inf")
        rate, ridge, n_terms, by_features = _RATES[0], _RIDGES[0], max_terms, False
    n_terms = min(n_terms, len(rows) - 1)
    directions = Directions(rows, targets, inverses=inverses, count=count, by_features=by_features)
    monomials, importance = leading_terms(directions.weights, rate, n_terms, degree)
    reduction = directions.reduction(n_used(monomials), rows, unseen)
    outputs = Outputs(targets, reduction.y_unit)
    R, Z = _triangular(reduction.coordinates(rows), outputs, np.arange(len(rows)), monomials)
    penalty = _penalty(importance, ridge, len(rows))
    return Polynomial(reduction, monomials, outputs, penalty, *_penalized(R, Z, penalty), error)


def held_out(n_samples: int) -> NDArray[np.bool_]:
    """Tell which rows are held out."""
    held = np.zeros(n_samples, dtype=bool)
    if n_samples >= _ENOUGH:
        held[some_of(n_samples, n_samples // _EVERY)] = True
    return held


def n_used(monomials: list[tuple[int, ...]]) -> int:
    """Return how many coordinates there are in monomials."""
    return max((term[-1] + 1 for term in monomials), default=0)


class Outputs:
    """Targets in few columns, all of which count alike.

    Parameters
    ----------
    targets : ndarray of shape (n_samples, n_outputs)
    unit : ndarray of shape (n_outputs,)
        What outputs are multiplied with for errors to count alike.

    Examples
    --------
    >>> Outputs(np.array([[1.0], [3.0]]), np.array([2.0])).of(np.array([1]))
    array([[2.]])
    """

    def __init__(self, targets: NDArray, unit: NDArray):
        self._targets, self._unit = targets, unit
        self.mean = targets.mean(axis=0)
        self._basis = None
        if targets.shape[1] > _WIDE:
            some = targets[some_of(len(targets), _SAMPLE // targets.shape[1])]
            self._basis = leading_directions((some - self.mean) * unit, _WIDE)[0]

    def of(self, rows: Any) -> NDArray[np.float64]:
        """Return some rows."""
        values = (self._targets[rows] - self.mean) * self._unit
        return values if self._basis is None else values @ self._basis

    def lost(self, rows: Any) -> float:
        """Return the sum of the squares of what the columns do not see of some rows."""
        if self._basis is None:
            return 0.0
        values = (self._targets[rows] - self.mean) * self._unit
        values -= (values @ self._basis) @ self._basis.T
        return float(np.vdot(values, values))

    def restored(self, coef: NDArray) -> tuple[NDArray, NDArray]:
        """Return constant and coefficients of the targets themselves."""
        coef = (coef if self._basis is None else coef @ self._basis.T) / self._unit
        return self.mean + coef[0], coef[1:]


def _looked_at(held: NDArray[np.bool_]) -> NDArray[np.intp]:
    index = np.flatnonzero(held)
    return index[some_of(len(index), _CHUNK)]


class _Trial:
    """Least squares on the rows that are not held out, and what it leaves of those that are."""

    def __init__(
        self, directions: Directions, rows: NDArray, targets: NDArray, held: NDArray[np.bool_]
    ):
        self._weights, self._n_outputs = directions.weights, targets.shape[1]
        self._outputs = Outputs(targets, directions.effects.y_unit)
        self._known, unseen = np.flatnonzero(~held), _looked_at(held)
        self._z, self._z_unseen = (
            project(rows[index], directions.origin, directions.projection)
            for index in (self._known, unseen)
        )
        self._left, self._lost = self._outputs.of(unseen), self._outputs.lost(unseen)

    def errors(
        self, rate: float, ridges: Sequence[float], degree: int | None, max_terms: int
    ) -> list[NDArray[np.float64]]:
        """Return the errors of the constant, with one term, with two, and so on, of each ridge."""
        most = min(max_terms, len(self._known) - 1)
        monomials, importance = leading_terms(self._weights, rate, most, degree)
        known = _triangular(self._z, self._outputs, self._known, monomials)
        columns, errors = _columns(self._z_unseen, monomials), np.empty(len(monomials) + 1)
        every = []
        for ridge in ridges:
            R, Z = _penalized(*known, _penalty(importance, ridge, len(self._known)))
            basis = solve_triangular(R, columns.T, trans="T", check_finite=False)
            left = self._left.copy()
            for k, (u, c) in enumerate(zip(basis, Z, strict=True)):
                left -= u[:, None] * c
                square = np.vdot(left, left) + self._lost
                errors[k] = np.sqrt(square / (len(left) * self._n_outputs))
            every.append(np.where(np.isfinite(errors), errors, np.inf))
        return every


def _columns(z: NDArray, monomials: list[tuple[int, ...]]) -> NDArray[np.float64]:
    """Return the constant term and monomials, in their order, as columns."""
    terms = Terms.of(monomials)
    place = {name: k for k, name in enumerate(terms.names)}
    columns = np.ones((len(z), 1 + len(monomials)))
    columns[:, 1:] = design(z, terms)[:, [place[term] for term in monomials]]
    return columns


def _triangular(
    z: NDArray, outputs: Outputs, index: NDArray[np.intp], monomials: list[tuple[int, ...]]
) -> tuple[NDArray, NDArray]:
    """Return R and QᵀY of the QR decomposition of the terms, the constant one first.

    Raises for what is not finite.
    """
    R, Z = np.zeros((0, len(monomials) + 1)), None
    for start in range(0, len(z), _CHUNK):
        piece = slice(start, min(start + _CHUNK, len(z)))
        y, columns = outputs.of(index[piece]), _columns(z[piece], monomials)
        if not (np.isfinite(columns).all() and np.isfinite(y).all()):
            raise ValueError(
                "Got training data whose numbers are apart by hundreds of orders of magnitude, or "
                "at the ends of the range, of which no polynomial can be fitted: scale them, and "
                "drop rows that are far from all others."
            )
        Q, R = qr(np.vstack([R, columns]), mode="economic", check_finite=False)
        Z = Q.T @ (y if Z is None else np.vstack([Z, y]))
    assert Z is not None
    return R, Z


def _penalty(importance: NDArray, ridge: float, n_samples: int) -> NDArray[np.float64]:
    """Return what makes coefficients small that are large for the importance of their terms."""
    return ridge * np.sqrt(n_samples) / np.maximum(importance, _LEAST)


def _penalized(R: NDArray, Z: NDArray, penalty: NDArray) -> tuple[NDArray, NDArray]:
    """Return R and QᵀY, those given, with rows below them that say how large coefficients are."""
    rows = np.vstack([R, np.zeros((len(penalty), R.shape[1]))])
    rows[len(R) :, 1:] = np.diag(penalty)
    Q, R = qr(rows, mode="economic", check_finite=False)
    return R, Q[: len(Z)].T @ Z


def _series_error(
    directions: Directions, rows: NDArray, targets: NDArray, held: NDArray[np.bool_]
) -> float:
    """Return the error of the first-order series about the mean, on held-out rows."""
    n = matrix_order(rows.shape[1])
    center = directions.origin.reshape(n, n)
    try:
        inverse = regular_inverse(center)
    except ValueError:
        return float("inf")
    unseen = _looked_at(held)
    with np.errstate(all="ignore"):
        left = taylor(rows[unseen], center, inverse) - targets[unseen]
        error = float(np.sqrt(np.mean((left * directions.effects.y_unit) ** 2)))
    return error if error == error else float("inf")


def output_basis(
    values: NDArray, unit: NDArray, error: float, n_features: int
) -> NDArray[np.float64] | None:
    """Return directions that hold the outputs, if to compute these first is less work.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_outputs)
        What is to be predicted, but for a constant.
    unit : ndarray of shape (n_outputs,)
        What outputs are multiplied with for errors to count alike.
    error : float
        Root mean square error of the predictions in these units.
    n_features : int
        How many numbers the outputs are linear combinations of.

    Returns
    -------
    ndarray of shape (n_outputs, m) or None
        Orthonormal columns V: values·unit are to be projected on them.

    Examples
    --------
    >>> output_basis(np.outer(np.arange(9.0), np.ones(9)), np.ones(9), 0.0, 8).shape
    (9, 1)
    """
    n_outputs = len(unit)
    some = values[some_of(len(values), _SAMPLE // n_outputs)]
    V, size = leading_directions(some * unit, min(_WIDE, n_features))
    tail = np.sqrt(np.cumsum(size[::-1] ** 2)[::-1] / max(some.size, 1))
    noise = np.finfo(np.float64).eps * (tail[0] if len(tail) else 0.0)
    m = int((tail > max(_TRUNCATED * (error if error == error else 0.0), noise)).sum())
    if m * (n_features + n_outputs) > (1 - _SAVED) * n_features * n_outputs:
        return None
    return V[:, :m]


def limits_of(reduction: Reduction, terms: Terms, factor: float, n_inputs: int = 0) -> NDArray:
    """Return how far coordinates, and what is outside of them, may go for a prediction.

    Where the highest degree is D, a coordinate that enters with degree d may go factor^(D/d) times
    as far as in training, so that no term grows more than factor^D; what the coordinates do not see
    counts as linear.

    Parameters
    ----------
    reduction : Reduction
    terms : Terms
    factor : float
    n_inputs : int, default=0
        Leading coordinates that enter a network, too: with degree 2, at least.

    Returns
    -------
    ndarray of shape (n_outside + n_components,)
        What is outside first.

    Examples
    --------
    >>> X = np.array([[1.0], [2.0], [3.0]])
    >>> reduction = Directions(X, X, inverses=False).reduction(1, X)
    >>> limits_of(reduction, Terms((1, 1, 1, 1)), 2.0)
    array([2.])
    """
    k, r = reduction.projection.shape[1], reduction.outside.shape[1]
    degrees = np.ones(k)
    for degree, count in enumerate(terms.powers, 1):
        degrees[:count] = degree
    highest = max(len(terms.powers), _LEAST_DEGREE)
    degrees[:n_inputs] = np.maximum(degrees[:n_inputs], 2)
    with np.errstate(over="ignore"):
        outside = np.full(r, np.float64(factor) ** highest * reduction.reach)
        return np.concatenate([outside, factor ** (highest / degrees)])
