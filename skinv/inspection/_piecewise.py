"""A ReLU network as what it is: affine on each of the polytopes that its hidden units cut out."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.estimators import unwrapped
from .._linalg.form import ModelForm, form_of
from ..geometry._rounding import EPS


class PiecewiseAffine:
    """A ReLU network as a function of e = (A − A₀).ravel(), the deviation from the centre of a box.

    f(e) = S e + s + W_m h_{m−1} + b_m with h_l = ReLU(W_l h_{l−1} + b_l) and h_0 = e, S e + s being
    the baseline. Once it is known which hidden units are on (positive), every ReLU is either the
    identity or 0, so that all is affine. Where the units of a layer change from off to on are
    hyperplanes, bent where units before them change.

    The form is a ReLU network on an affine baseline, or that baseline alone; centre and half-widths
    of the box are flat, and not all half-widths are 0.
    """

    def __init__(self, form: ModelForm, center: NDArray, widths: NDArray):
        self.widths, self.active = widths, widths > 0
        self._slope = np.array(form.matrix.T)
        self._value = form.constant + (center - form.origin) @ form.matrix
        if form.taylor is not None:
            point, B, _ = form.taylor
            E = center.reshape(point.shape) - point
            self._slope -= np.kron(B, B.T)
            self._value = self._value + (B - B @ E @ B).ravel()
        # Without a perceptron, one layer of zeros.
        zeros = np.zeros_like(self._slope), np.zeros_like(self._value)
        self._layers = form.layers_around(center) or [zeros]
        self.sizes = [len(b) for _, b in self._layers[:-1]]
        self.n_units, self.n_outputs = sum(self.sizes), len(self._value)

    def evaluate(self, E: NDArray) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which hidden units are on at deviations (m, n*n), and the values of f there."""
        on, h = np.empty((len(E), self.n_units), dtype=bool), E
        start = 0
        for W, b in self._layers[:-1]:
            z = h @ W.T + b
            np.greater(z, 0, out=on[:, start : start + len(b)])
            h, start = np.maximum(z, 0, out=z), start + len(b)
        W, b = self._layers[-1]
        return on, h @ W.T + b + E @ self._slope.T + self._value

    def _walk(self, on: NDArray[np.bool_]) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
        """Yield V and p of what each layer sees, V e + p, and what these sums may be off by."""
        W, b = self._layers[0]
        V, p, size = W, b, np.abs(W) @ self.widths + np.abs(b)
        start = 0
        for W, b in self._layers[1:]:
            yield V, p, EPS * 8 * (self.widths.size + start + len(p)) * size
            here, start = on[start : start + len(p)], start + len(p)
            W, V, p, size = W[:, here], V[here], p[here], size[here]
            V, p, size = W @ V, W @ p + b, np.abs(W) @ size + np.abs(b)
        yield V, p, size * EPS

    def affine_map(self, on: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return C and f₀ of f(e) = C e + f₀ where the hidden units are on or off as given."""
        *_, (V, p, _) = self._walk(on)
        return self._slope + V, self._value + p

    def hyperplanes(self, on: NDArray[np.bool_], stop: int) -> tuple[NDArray, NDArray, NDArray]:
        """Return the boundaries of the first units in coordinates in which the box is [−1, 1]^d.

        A unit is on where R t + q > 0: R (stop, d) has rows of sum of absolute values 1 over the d
        entries that vary. The third result tells which boundaries meet the box; of the others q is
        +1 (on in all of the box) or −1. From unit ``stop − 1`` on `on` does not matter.
        """
        n_layers = 1 + int(np.searchsorted(np.cumsum(self.sizes), stop))
        layers = zip(*islice(self._walk(on), n_layers), strict=True)
        V, p, noise = (np.concatenate(part)[:stop] for part in layers)
        R = V[:, self.active] * self.widths[self.active]
        # |R t| <= Σ|R| in the box. A slope that may be nothing but rounding is none.
        length = np.abs(R).sum(axis=1)
        cuts = (length > noise) & (np.abs(p) < length)
        unit = np.where(cuts, length, 1.0)
        return R / unit[:, None], np.where(cuts, p / unit, np.where(p > 0, 1.0, -1.0)), cuts

    def facets(self, on: NDArray[np.bool_], stop: int | None = None) -> tuple[NDArray, NDArray]:
        """Return G and h of the polytope {t in [−1, 1]^d : G t <= h} of the first units' signs.

        Rows have sum of absolute values 1. Units that are on or off in the whole box have none.
        """
        stop = len(on) if stop is None else stop
        if stop == 0:
            return np.zeros((0, int(self.active.sum()))), np.zeros(0)
        R, q, cuts = self.hyperplanes(on, stop)
        sign = np.where(on[:stop], 1.0, -1.0)[cuts]
        return -sign[:, None] * R[cuts], sign * q[cuts]


def relu_form(model: Any) -> ModelForm:
    """Return a fitted model of inverses as a piecewise affine form, or say why it is none."""
    model = unwrapped(model)
    name = type(model).__name__
    form = form_of(model)
    if form is None:
        raise ValueError(
            f"Got a {name}, but the pieces of NeuralInverseRegressor, LinearInverseApprox and "
            f"scikit-learn's MLPRegressor (squared loss) can be looked at, of no class that is "
            f"derived from them and predicts otherwise; of a pipeline or another estimator around "
            f"one of these, pass that one, with a sampler of the matrices that it sees."
        )
    if hasattr(model, "_model_form"):
        model._model_form()  # raises for models of something else than inverses
    if len(form.layers) > 1 and form.activation != "relu":
        raise ValueError(
            f"Got a {name} with activation={form.activation!r}, which has no affine pieces; fit it "
            f"with activation='relu'."
        )
    if form.taylor is not None and form.taylor[2] > 1:
        order = form.taylor[2]
        setting = "baseline='affine', 'taylor' or None" if form.layers else "order=1"
        raise ValueError(
            f"Got a {name} with a Taylor series of order {order}, which is not piecewise affine; "
            f"fit it with {setting}."
        )
    return form
