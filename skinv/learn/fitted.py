"""A polynomial of reduced coordinates, fitted: what it predicts, and how far it may be asked."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from .._linalg.form import ReducedMap
from .._linalg.terms import Terms
from .least_squares import Outputs, design, output_basis, penalized, triangular
from .reduction import CHUNK, Reduction, some_of

# Rows that are looked at for a basis of the outputs, and for terms in lower precisions: of so many
# times fewer, as long as they leave no more than this above the least error.
_LOOKED_AT, _STEP, _WORTH = 2**10, 1.4, 0.1
# Bits of numbers in lower precisions, the lowest one first, and how many terms are enough for them.
_LOWER: tuple[tuple[int, int | None], ...] = ((8, 64), (11, 64), (24, None))
# No coordinate may go further than if terms were of this degree, at least.
_LEAST_DEGREE = 3


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
