"""The polynomial part of a slice's residual in extended precision, where the platform has any.

Where a model is right to ten digits its residual drowns in the rounding of double precision. Of
NumPy's longdouble only what it says of itself is used: its relative spacing.
"""

import numpy as np
from numpy.typing import NDArray

from .._linalg.form import ModelForm
from .._linalg.terms import Terms
from ._bernstein import roots

LONG = np.longdouble
EPS_LONG = float(np.finfo(LONG).eps)


class Extended:
    """What :class:`skinv.bounds._composite.Composite` is, without its hidden units."""

    def __init__(self, form: ModelForm, center: NDArray, directions: NDArray):
        self.center, self.directions = center.astype(LONG), directions.astype(LONG)
        self.n, self._reduced = round(len(center) ** 0.5), form.reduced
        self.constant, self._form = form.constant.astype(LONG), form
        self.gradient = np.zeros((len(directions), len(self.constant)), LONG)
        if form.linear is not None:
            self.constant = self.constant + (self.center - form.origin) @ form.linear.astype(LONG)
            self.gradient = self.directions @ form.linear.astype(LONG)
        layers, basis = form.layers, None
        if form.reduced is not None:
            P, layers, basis = form.reduced.projection, form.reduced.layers, form.reduced.basis
            self.start = (self.center - form.reduced.origin) @ P.astype(LONG)
            self.turn = self.directions @ P.astype(LONG)
            self.constant = self.constant + form.reduced.constant
            basis = None if basis is None else basis.astype(LONG)
            self.coef, self.basis = form.reduced.coef.astype(LONG), basis
        if layers:
            shift = layers[-1][1].astype(LONG)
            self.constant = self.constant + (shift if basis is None else shift @ basis)

    def residuals(self, z: NDArray) -> NDArray:
        """Return I − A f(A) at points (m, k), as rows in extended precision."""
        shape = (len(z), self.n, self.n)
        z = z.astype(LONG)
        A = (self.center + z @ self.directions).reshape(shape)
        value = self.constant + z @ self.gradient
        if self._reduced is not None and len(self._reduced.terms):
            few = _terms(self._reduced.terms, self.start + z @ self.turn) @ self.coef
            value = value + (few if self.basis is None else few @ self.basis)
        value = value.reshape(shape)
        if self._form.taylor is not None:
            point, inverse, order = self._form.taylor
            B = inverse.astype(LONG)
            X = np.broadcast_to(B, shape)
            for _ in range(order):
                X = B - B @ ((A - point) @ X)
            value = value + X
        return (np.eye(self.n, dtype=LONG) - A @ value).reshape(len(z), -1)


def interpolated(values: NDArray, degree: int, k: int) -> tuple[NDArray, float, float]:
    """Return Chebyshev coefficients of values at the grid, rounded, and by what they are off there.

    The coefficients are (degree + 1, …, r), and it is told how far their values are, in norm, from
    those given, and the sum of all their norms.
    """
    line, q = roots(degree).astype(LONG), np.arange(degree + 1)
    table = [np.ones_like(line), line]
    for _ in range(degree - 1):
        table.append(2 * line * table[-1] - table[-2])
    T = np.stack(table[: degree + 1], axis=1)
    back = np.cos(np.pi * q[:, None] * (2 * q + 1) / (2 * (degree + 1))).astype(LONG)
    back = back * 2 / (degree + 1)
    back[0] /= 2
    values = values.reshape(*(degree + 1,) * k, -1)
    coef, rest = np.zeros(values.shape), values
    for _ in range(2):  # the table is that of double precision
        coef = coef + _along(back, rest, k).astype(np.float64)
        rest = values - _along(T, coef.astype(LONG), k)
    missed = float(np.sqrt((rest * rest).sum(axis=-1)).max())
    return coef, missed, float(np.linalg.norm(coef, axis=-1).sum())


def _along(matrix: NDArray, values: NDArray, k: int) -> NDArray:
    for i in range(k):
        values = np.moveaxis(np.tensordot(matrix, values, axes=(1, i)), 0, i)
    return values


def _terms(terms: Terms, x: NDArray) -> NDArray:
    """Return the terms of coordinates (m, c), (m, n_terms)."""
    powers = [np.ones_like(x), x[:, : terms.powers[0]]]
    for d, count in enumerate(terms.powers[1:], 2):
        new = (2 * d - 1) * x[:, :count] * powers[-1][:, :count]
        powers.append((new - (d - 1) * powers[-2][:, :count]) / d)
    out = np.concatenate(powers[1:], axis=1)
    for left, right in terms.factors:
        out = np.concatenate((out, out[:, left] * out[:, right]), axis=1)
    return out
