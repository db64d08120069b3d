"""A family of matrices and a box of its parameters, as the numbers that proofs are computed with.

:class:`ScaledFamily` is the family with parameters counted from its origin and divided by powers of
two, so that the largest of the box are about 1, and with complex matrices embedded as real ones. A
:class:`View` of it has rows and columns multiplied by powers of two besides, and matrices divided
by one, so that nothing over- or underflows, and a `slack`: what entries may be off by, through
rounding, what was lost to zero, or a deviation of the family. There is one view in which rows and
columns are of one size, which decides whether a box is regular, and often a second in the caller's
units, in which distances to the singular matrices are measured.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import is_complex
from .._arrays.embedding import embed_complex
from .._linalg.units import unit_exponents
from ._accretive import accretivity, common_factor, norm_above
from ._bernstein import monomials
from ._enclosure import common_units
from ._parametric import ParametricFamily
from ._rounding import EPS, SQUARED, TINY, below, unit_scale, whole_numbers

# Coefficient matrices of one box have so many entries at most.
_MOST_ENTRIES = 2**23
# Powers of two of units of rows are at most so far apart.
_FAR = 500
# Exponent of the largest numbers.
_LARGEST = np.finfo(np.float64).maxexp


class View:
    """A family with rows and columns multiplied by powers of two, and its matrices by 2^−unit."""

    def __init__(self, family: "ScaledFamily", rows: NDArray, columns: NDArray):
        C, power = family.coefficients, rows[:, None] + columns
        m, n, _ = C.shape
        every = np.concatenate([C.reshape(m, -1), family.deviation.reshape(1, -1)])[None]
        shift = np.append(family.shift, 0)[:, None]
        (scaled,), (unit,), (lost,) = unit_scale(every, power.ravel() + shift)
        self.coefficients, off = scaled[:m].reshape(m, n, n), scaled[m].reshape(n, n)
        # |q| <= reach, so that this bounds the moduli of all terms, with what rounding adds.
        absolute = family.largest @ np.abs(scaled[:m])
        self.size = absolute.reshape(n, n) * (1 + (family.roundings + m) * EPS) + off
        losses = lost + 8 * m * (family.roundings + 2) * TINY
        self.slack = off * (1 + 4 * EPS) + family.roundings * EPS * self.size + losses
        self.rows = np.ldexp(1.0, np.maximum(rows - rows.max(), -_FAR))
        self.step = int(unit - rows.max() - columns.max())

    def matrices(self, weights: NDArray) -> NDArray:
        """Return combinations (N, n, n) of the coefficients, by weights (N, m)."""
        m, n, _ = self.coefficients.shape
        return (weights @ self.coefficients.reshape(m, n * n)).reshape(-1, n, n)

    def bound(self, matrices: NDArray, center: NDArray) -> tuple[float, float]:
        """Return a bound of σ_min over what matrices span, in units of 2^step, and an estimate.

        The bound is 0 where nothing is proven. A = 2^unit D₁⁻¹ÂD₂⁻¹, so that |Ax| >= μ |x|/‖TD₁‖₂
        for D₂ <= 1.
        """
        T, lowest = common_factor(matrices, center)
        if not lowest > 0:
            return 0.0, lowest
        mu = accretivity(T, matrices, self.size, self.slack)
        loss = norm_above(T * self.rows)
        return (float(below(mu / loss)) if mu > 0 and loss < np.inf else 0.0), lowest

    def smallest(self, A: NDArray) -> float:
        """Return an upper bound of σ_min of a matrix, off by `slack`, in these units.

        |Ax|/|x| is one, for any x.
        """
        n = len(A)
        x = np.linalg.svd(A)[2][-1]
        off = (2 * (n + 4) * EPS * self.size + self.slack) @ np.abs(x)
        length = np.linalg.norm(A @ x) + np.linalg.norm(off) + 4 * n * SQUARED
        return float(length / np.linalg.norm(x) * (1 + 8 * n * EPS))


class ScaledFamily:
    """Coefficients of a family, real ones of order 2n for complex ones, over a box [low, high]."""

    def __init__(self, family: ParametricFamily, lower: NDArray, upper: NDArray):
        C, deviation = family.coefficients, family.deviation
        if is_complex(C):
            C, deviation = embed_complex(C), np.tile(deviation, (2, 2))
        self.coefficients, self.deviation, self.exponents = C, deviation, family.exponents
        self.origin = family.origin
        entries = math.prod((self.exponents.max(axis=0) + 1).tolist()) * C[0].size
        if entries > _MOST_ENTRIES:
            raise ValueError(
                f"Got a family that needs {entries} numbers for each box of its "
                f"{family.n_parameters} parameters, but at most {_MOST_ENTRIES} are taken: pass "
                f"fewer parameters, or a polynomial of lower degree."
            )
        distances, power = _distances(self.origin, lower, upper)
        scaled, self.exponent, _ = unit_scale(distances[:, :, None], power[:, :, None])
        if self.exponent.max() > _LARGEST:
            raise ValueError("Got a box whose distance from the origin of the family overflows.")
        self.low, self.high = scaled[:, 0, 0], scaled[:, 1, 0]
        self.shift = self.exponents @ self.exponent
        reach = np.maximum(np.abs(self.low), np.abs(self.high))
        self.largest = monomials(self.exponents, reach)
        m, k = self.exponents.shape
        self.roundings = m + 4 * int(self.exponents.sum(axis=1).max()) + 8 * k + 8

    def parameters(self, q: NDArray) -> NDArray:
        """Return parameters in the units of the caller, rounded."""
        with np.errstate(all="ignore"):
            return np.ldexp(q, self.exponent) + self.origin

    def views(self) -> list[View]:
        """Return the family in units in which rows and columns are of one size, and as it is."""
        n = len(self.deviation)
        nothing = np.zeros(n, dtype=np.int64)
        own = nothing, nothing
        # Magnitudes first, so that nothing overflows, and the matrix in the middle then.
        flat = self.coefficients.reshape(len(self.coefficients), 1, n * n)
        size, unit, _ = unit_scale(flat, self.shift[:, None, None] + np.zeros((1, 1), np.int64))
        most = np.where(size[:, 0].any(axis=1), unit, -(2**19))
        top = most.max()
        size = np.ldexp(np.abs(size[:, 0]), np.maximum(most - top, -1000)[:, None])
        rows, columns = unit_exponents(size.max(axis=0).reshape(n, n))
        view = View(self, rows, columns)
        middle = monomials(self.exponents, 0.5 * (self.low + self.high))
        further = common_units(view.matrices(middle[None])[0])
        view = View(self, rows + further[0], columns + further[1])
        alike = np.ptp(rows + further[0]) == 0 and np.ptp(columns + further[1]) == 0
        return [view] if alike else [view, View(self, *own)]


def _distances(origin: NDArray, lower: NDArray, upper: NDArray) -> tuple[NDArray, NDArray]:
    """Return mantissas and exponents (k, 2) of lower − o, rounded down, and upper − o, rounded up.

    They are exact differences of integers, as some modes read subnormal numbers as zeros.
    """
    rows = zip(*(whole_numbers(row) for row in (origin, lower, upper)), strict=True)
    exact = [(low - o, high - o) for o, low, high in rows]
    drop = [[max(number.bit_length() - 53, 0) for number in pair] for pair in exact]
    kept = [
        (low >> cut, -(-high >> lift)) for (low, high), (cut, lift) in zip(exact, drop, strict=True)
    ]
    return np.array(kept, dtype=np.float64), np.array(drop, dtype=np.int64) - 1074
