"""Polynomials of reduced coordinates, fitted by least squares that are nested in their terms."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular

from .._linalg.form import ReducedMap
from .._linalg.terms import Terms
from .reduction import CHUNK, Reduction, leading_directions, some_of

# Outputs past which they are projected on their principal directions first.
_WIDE, _SAMPLE = 256, 2**24
# Share of the held-out error that a basis of fewer outputs may add to it, and of the work that it
# must save.
_TRUNCATED, _SAVED = 0.1, 0.2
# Importance of terms that count as much as others still less important.
_LEAST = 1e-100
# Rows that are looked at for a basis of the outputs, and for terms in lower precisions: of so many
# times fewer, as long as they leave no more than this above the least error.
_LOOKED_AT, _STEP, _WORTH = 2**10, 1.4, 0.1
# Bits of numbers in lower precisions, the lowest one first, and how many terms are enough for them.
_LOWER: tuple[tuple[int, int | None], ...] = ((8, 64), (11, 64), (24, None))
# No coordinate may go further than if terms were of this degree, at least.
_LEAST_DEGREE = 3


class Outputs:
    """Targets in few columns, all of which count alike once they are multiplied with `unit`."""

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


def design(z: NDArray, terms: Terms) -> NDArray:
    """Return the terms of coordinates as columns, the constant one apart."""
    out = np.empty((len(terms), len(z)), z.dtype)
    if terms.powers:
        out[: terms.powers[0]] = z[:, : terms.powers[0]].T
    terms.evaluate(out)
    return out.T


def columns_of(z: NDArray, monomials: list[tuple[int, ...]]) -> NDArray[np.float64]:
    """Return the constant term and monomials, in their order, as columns."""
    terms = Terms.of(monomials)
    place = {name: k for k, name in enumerate(terms.names)}
    columns = np.ones((len(z), 1 + len(monomials)))
    columns[:, 1:] = design(z, terms)[:, [place[term] for term in monomials]]
    return columns


def triangular(
    z: NDArray, outputs: Outputs, index: NDArray[np.intp], monomials: list[tuple[int, ...]]
) -> tuple[NDArray, NDArray]:
    """Return R and QᵀY of the QR decomposition of the terms, the constant one first."""
    R: Any = np.zeros((0, len(monomials) + 1))
    Z: Any = None
    for start in range(0, len(z), CHUNK):
        piece = slice(start, min(start + CHUNK, len(z)))
        y, columns = outputs.of(index[piece]), columns_of(z[piece], monomials)
        if not (np.isfinite(columns).all() and np.isfinite(y).all()):
            raise ValueError(
                "Got training data whose numbers are apart by hundreds of orders of magnitude, or "
                "at the ends of the range, of which no polynomial can be fitted: scale them, and "
                "drop rows that are far from all others."
            )
        Q, R = qr(np.vstack([R, columns]), mode="economic", check_finite=False)
        Z = Q.T @ (y if Z is None else np.vstack([Z, y]))
    return R, Z


def penalty_of(importance: NDArray, ridge: float, n_samples: int) -> NDArray[np.float64]:
    """Return what makes coefficients small that are large for the importance of their terms."""
    return ridge * np.sqrt(n_samples) / np.maximum(importance, _LEAST)


def penalized(R: NDArray, Z: NDArray, penalty: NDArray) -> tuple[NDArray, NDArray]:
    """Return R and QᵀY, those given, with rows below them that say how large coefficients are."""
    rows = np.vstack([R, np.zeros((len(penalty), R.shape[1]))])
    rows[len(R) :, 1:] = np.diag(penalty)
    Q, R = qr(rows, mode="economic", check_finite=False)
    return R, Q[: len(Z)].T @ Z


def output_basis(
    values: NDArray, unit: NDArray, error: float, n_features: int
) -> NDArray[np.float64] | None:
    """Return orthonormal columns V that hold the outputs, if to compute these first is less work.

    It is values·unit that are to be projected on them; `error` is the root mean square error of
    predictions in these units, `n_features` how many numbers outputs are combinations of.
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


@dataclass
class Polynomial:
    """A polynomial of reduced coordinates, fitted to training data."""

    reduction: Reduction
    monomials: list[tuple[int, ...]]  # but for the constant one, the most important ones first
    outputs: Outputs
    # What coefficients are multiplied with beside the residuals whose squares they minimize.
    penalty: NDArray[np.float64]
    # Least squares in triangular form, of so many leading terms, the constant one first.
    R: NDArray[np.float64]
    Z: NDArray[np.float64]
    error: float  # root mean square of held-out rows, in units of the reduction; NaN without any

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
        for start in range(0, len(rows), CHUNK):
            z = self.reduction.coordinates(rows[start : start + CHUNK])
            np.matmul(design(z, terms), coef, out=values[start : start + CHUNK])
        values += constant
        return values

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
        """Return what predicts; if `full`, all outputs come from the terms, not from a basis."""
        lower: ReducedMap | None = None
        mantissa, exponent = np.frexp(rows)
        for bits, most in _LOWER:
            some = replace(self, monomials=self.monomials[:most])
            rounded = np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)
            same = np.array_equal(rounded, rows)
            fitted = some
            if not same:
                # What is rounding then does not go by coordinates in which the rows hardly move.
                z, terms = self.reduction.coordinates(rounded), some.monomials
                R, Z = triangular(z, self.outputs, np.arange(len(rows)), terms)
                R, Z = penalized(R, Z, self.penalty[: len(terms)])
                fitted = replace(some, R=R, Z=Z)
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


def limits_of(reduction: Reduction, terms: Terms, factor: float, n_inputs: int = 0) -> NDArray:
    """Return how far what is outside of the coordinates, and then these, may go for a prediction.

    See `max_extrapolation` of :class:`skinv.PolynomialInverseApprox`. The leading `n_inputs` enter
    a network, too: with degree 2, at least.
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
