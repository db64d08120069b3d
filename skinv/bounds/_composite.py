"""A model on an affine slice of matrices, as a function of the slice's own few coordinates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._linalg.form import ModelForm
from .._linalg.terms import Terms
from ._network import derivatives

_EPS, _TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)
# Nothing is off by less: intermediate results may underflow.
_LEAST = 1e-280
# Matrices that are multiplied at once.
_CHUNK = 256
# Computed bounds are themselves rounded.
_UP = 1 + 1e-9
# Bounds of |f'| over the line, and of the least value of |f| beside |y|.
_SLOPE, _DIP = 1.1, 0.28


@dataclass
class Magnitudes:
    """Bounds of the model's outputs over the slice, and of what they may be off by, (o,).

    Those of the hidden units apart.
    """

    size: NDArray
    error: NDArray
    hidden_size: NDArray
    hidden_error: NDArray
    activations: NDArray  # of hidden units, (h,)
    # By how much weights of matrices may be off, (m,), and the matrices, (m, o), one pair for each
    # part of the model but the series; and the part of `error` that the series has.
    parts: list[tuple[NDArray, NDArray]]
    series: NDArray


class Composite:
    """f(A) with A = center + Σ z_i directions_i, |z_i| <= 1.

    A constant, an affine part, terms of coordinates that are affine in z, a Taylor series, and one
    layer of hidden units.
    """

    def __init__(self, form: ModelForm, center: NDArray, directions: NDArray, device: Any):
        def tensor(array: Any) -> Tensor:
            return torch.tensor(np.asarray(array, dtype=np.float64), device=device)

        self._form, self._center, self._directions = form, center, directions
        reduced, n = form.reduced, round(len(center) ** 0.5)
        self.n, self.k = n, len(directions)
        self.terms, self.layers = Terms(()), form.layers
        self.activation, basis = form.activation, None
        constant, gradient = form.constant, np.zeros((self.k, form.constant.size))
        if form.linear is not None:
            constant = constant + (center - form.origin) @ form.linear
            gradient = directions @ form.linear
        if reduced is not None:
            self.terms, self.layers = reduced.terms, reduced.layers
            self.activation, basis = reduced.activation, reduced.basis
            constant = constant + reduced.constant
            self._start = (center - reduced.origin) @ reduced.projection
            self._turn = directions @ reduced.projection
            coef = reduced.coef if basis is None else reduced.coef @ basis
            self.start, self.turn, self.coef = map(tensor, (self._start, self._turn, coef))
        if len(self.layers) not in (0, 2):
            raise ValueError(
                f"Got a network of {len(self.layers) - 1} hidden layers, but residuals are known "
                f"of one hidden layer at most: fit one with a single width in hidden_layer_sizes."
            )
        self.units: tuple[Tensor, Tensor] | None = None
        if self.layers:
            (W, b), (V, shift) = self.layers[0], self.layers[-1]
            if reduced is None:
                first = (center - form.x_mean) / form.x_scale @ W.T
                turn = directions / form.x_scale @ W.T
            else:
                first, turn = self._start[: W.shape[1]] @ W.T, self._turn[:, : W.shape[1]] @ W.T
            constant = constant + (shift if basis is None else shift @ basis)
            self.units = tensor(first + b), tensor(turn)
            self.weights = tensor(V.T if basis is None else V.T @ basis)  # (h, o)
        self.series: Any = None
        if form.taylor is not None:
            point, inverse, order = form.taylor
            self.series = tensor(point), tensor(inverse), order
        self.constant, self.gradient = tensor(constant), tensor(gradient)
        self.center, self.directions = tensor(center), tensor(directions)

    @property
    def degree(self) -> int:
        """The degree of all but the hidden units."""
        order = 0 if self.series is None else self.series[2]
        linear = 0 if self._form.linear is None else 1
        return max(order, linear, max(map(len, self.terms.names), default=0))

    def matrices(self, z: Tensor) -> Tensor:
        """Return A at points (b, k)."""
        return (self.center + z @ self.directions).reshape(len(z), self.n, self.n)

    def polynomial(self, z: Tensor) -> Tensor:
        """Return all but the hidden units, (b, o)."""
        value = self.constant + z @ self.gradient
        if len(self.terms):
            value = value + _terms(self.terms, self.start + z @ self.turn) @ self.coef
        if self.series is not None:
            point, inverse, order = self.series
            E, X = self.matrices(z) - point, inverse.expand(len(z), self.n, self.n)
            for _ in range(order):
                X = inverse - inverse @ (E @ X)
            value = value + X.reshape(len(z), -1)
        return value

    def hidden(self, z: Tensor) -> Tensor:
        """Return the activations of hidden units, (b, h)."""
        assert self.units is not None
        return activate(self.units[0] + z @ self.units[1], self.activation)

    def __call__(self, z: Tensor) -> Tensor:
        value = self.polynomial(z)
        return value if self.units is None else value + self.hidden(z) @ self.weights

    def magnitudes(self, off: Any = 0.0, eps: float = _EPS) -> Magnitudes:
        """Bound outputs, their rounding, and what an entry that is `off` the slice adds, (o,).

        Rounding is that of this class, of its constants, and of the matrices themselves, and but
        for hidden units in a precision `eps`. Sums of N terms are off by N units in the last place
        of the sum of magnitudes, in any mode.
        """
        form, reduced = self._form, self._form.reduced
        reach = np.abs(self._directions).sum(axis=0)
        entries = np.abs(self._center) + reach
        off = np.broadcast_to(np.asarray(off, dtype=np.float64), entries.shape)
        # Of matrices as they are computed, and of sums over their entries.
        blur, long = self.k + 8, 1.01 * (len(entries) + self.k + 16)
        short = 1.01 * (self.k + 16)
        parts = []
        size = np.abs(form.constant)
        error = short * eps * size

        def shifts(origin: NDArray, P: NDArray, eps: float) -> NDArray:
            """Bound what (a − origin) @ P is off by, for P not negative."""
            apart = np.abs(self._center - origin) * _UP + reach
            return ((eps * (long * apart + blur * entries) + off) @ P + _lost(P)) * _UP

        if form.linear is not None:
            linear = np.abs(form.linear)
            size = size + ((np.abs(self._center - form.origin) + reach + off) @ linear) * _UP
            error = error + shifts(form.origin, linear, eps)
            parts.append((blur * _EPS * entries + off, form.linear))
        if reduced is not None:
            P = np.abs(reduced.projection)
            moved = shifts(reduced.origin, P, _EPS)
            reached = (np.abs(self._start) + np.abs(self._turn).sum(axis=0) + moved) * _UP
            basis = None if reduced.basis is None else np.abs(reduced.basis)
            size = size + np.abs(reduced.constant)
            if len(self.terms):
                apart = shifts(reduced.origin, P, eps)
                largest, wrong = _term_bounds(self.terms, reached, apart, eps)
                coef = np.abs(reduced.coef)
                count = eps * (short + 1.01 * sum(coef.shape))
                coef = coef if basis is None else coef @ basis
                size = size + largest @ coef
                error = error + (wrong + count * largest) @ coef + _lost(coef)
                parts.append((wrong, self.coef.cpu().numpy()))
        hidden, hidden_size, hidden_error = np.zeros(0), np.zeros_like(size), np.zeros_like(size)
        if self.layers:
            (W, b), (V, shift) = self.layers[0], self.layers[-1]
            count = (short + 1.01 * sum(V.shape)) * _EPS
            W, V, shift = np.abs(W).T, np.abs(V).T, np.abs(shift)
            if reduced is None:
                W = W / form.x_scale[:, None]
                entering = (np.abs(self._center - form.x_mean) + reach + off) @ W
                moved = shifts(form.x_mean, W, _EPS)
            else:
                entering, moved = reached[: len(W)] @ W, moved[: len(W)] @ W
                V, shift = (part if basis is None else part @ basis for part in (V, shift))
            entering = (entering + np.abs(b)) * _UP
            hidden = np.ones_like(entering) if self.activation == "tanh" else entering + _DIP
            rounding = (short + 1.01 * len(W) + 16) * entering + 16 * hidden
            wrong = _SLOPE * (moved + _EPS * rounding) + _lost(W)
            size = size + shift
            error = error + eps * (short + 1.01 * sum(self.layers[-1][0].shape)) * shift
            hidden_size = hidden @ V * _UP
            hidden_error = ((wrong + count * hidden) @ V + _lost(V)) * _UP
            parts.append((wrong, self.weights.cpu().numpy()))
        series = np.zeros_like(error)
        if form.taylor is not None:
            wide, series = self._series_bounds(off, entries, reach, eps)
            size, error = size + wide, error + series
        error = (error + short * eps * size) * _UP + _LEAST
        sizes = size * _UP, error, hidden_size, hidden_error
        return Magnitudes(*sizes, hidden * _UP, parts, series)

    def deviation(self, off: NDArray) -> NDArray:
        """Bound by how much A f(A) may change where entries of A are off by `off`, (n, n).

        That is E f + A Δf, and Δf a sum of matrices C of the model times what their weights may
        change. Of AC nothing is lost by absolute values that cancels in it.
        """
        n, of = self.n, self.magnitudes(off)
        of_slice = np.vstack((self._center, self._directions)).reshape(-1, n, n)
        A = np.abs(self._center) + np.abs(self._directions).sum(axis=0) + off
        size, error = of.size + of.hidden_size, of.error + of.hidden_error
        A, size, error = ((part * _UP).reshape(n, n) for part in (A, size, error))
        off = off.reshape(n, n)
        changed = off @ size + A @ of.series.reshape(n, n)
        for weights, rows in of.parts:
            for start in range(0, len(rows), _CHUNK):
                piece = slice(start, start + _CHUNK)
                C = rows[piece].reshape(-1, n, n)
                moved = off @ np.abs(C)
                for M in of_slice:
                    moved += np.abs(M @ C)
                changed += np.tensordot(weights[piece], moved, 1)
        # What products, and matrices that are themselves computed, are off by.
        return changed * _UP + 16 * (n + self.k + off.size) * _EPS * (A @ error)

    def _series_bounds(
        self, off: NDArray, entries: NDArray, reach: NDArray, eps: float
    ) -> tuple[NDArray, NDArray]:
        """Bound the Taylor series, and what it is off by, as rows."""
        point, inverse, order = self._form.taylor  # type: ignore[misc]
        n, shape = self.n, (self.n, self.n)
        B, wrong = np.abs(inverse), (self.k + 8) * eps * (np.abs(point).ravel() + entries) + off
        E = np.abs(self._center - point.ravel()) + reach + wrong
        E, wrong = (E * _UP).reshape(shape), wrong.reshape(shape)
        size, error = B, np.zeros(shape)
        for _ in range(order):
            grown = B + B @ (E @ size)
            error = B @ (E @ error + wrong @ size) + 1.01 * (2 * n + 8) * eps * grown
            size, error = grown * _UP, error * _UP + _lost(B).max() * (1 + E.sum())
        return size.ravel(), error.ravel()


def activate(y: Tensor, activation: str) -> Tensor:
    """Return an activation of what enters units."""
    return y.clamp(min=0) if activation == "relu" else derivatives(y, activation)[0]


def _terms(terms: Terms, x: Tensor) -> Tensor:
    """Return the terms of coordinates (b, c), (b, n_terms), by operations that have gradients."""
    powers = [torch.ones_like(x), x[:, : terms.powers[0]]]
    for degree, count in enumerate(terms.powers[1:], 2):
        new = (2 * degree - 1) / degree * (x[:, :count] * powers[-1][:, :count])
        powers.append(new - (degree - 1) / degree * powers[-2][:, :count])
    out = torch.cat(powers[1:], dim=1)
    for left, right in terms.factors:
        out = torch.cat((out, out[:, left] * out[:, right]), dim=1)
    return out


def _term_bounds(
    terms: Terms, reached: NDArray, moved: NDArray, eps: float
) -> tuple[NDArray, NDArray]:
    """Bound terms over |x_i| <= reached_i, and what they are off by for x off by `moved`.

    Legendre polynomials and their derivatives are largest at the end of [−1, 1], and grow from
    there on: p'_d = p'_{d−2} + (2d − 1) p_{d−1}.
    """
    x = np.maximum(reached, 1.0)
    p, slope = [np.ones_like(x), x], [np.zeros_like(x), np.ones_like(x)]
    rounding = [np.zeros_like(x), np.zeros_like(x)]
    for d in range(2, len(terms.powers) + 1):
        a, b = (2 * d - 1) / d, (d - 1) / d
        p.append((a * x * p[-1] - b * p[-2]) * _UP)
        slope.append((slope[-2] + (2 * d - 1) * p[-2]) * _UP)
        rest = a * reached * rounding[-1] + b * rounding[-2]
        rounding.append((rest + 8 * eps * (a * x * p[-2] + b * p[-3]) + 4 * _TINY) * _UP)
    size, error = [], []
    for d, count in enumerate(terms.powers, 1):
        size.append(p[d][:count])
        error.append((slope[d] * moved + rounding[d])[:count])
    size_, error_ = np.concatenate(size), np.concatenate(error)
    for left, right in terms.factors:
        wrong = size_[left] * error_[right] + size_[right] * error_[left]
        product = size_[left] * size_[right]
        error_ = np.concatenate((error_, (wrong + eps * product) * _UP + _TINY))
        size_ = np.concatenate((size_, product * _UP))
    return size_, error_


def _lost(matrix: NDArray) -> NDArray:
    """Bound what products with the columns of a matrix lose where they underflow."""
    return 8 * _TINY * (len(matrix) + np.abs(matrix).sum(axis=0))
