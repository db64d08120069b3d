"""What stands between matrices and the network: dropping, scaling, and the baseline.

The network sees varying entries, centred and scaled to unit variance, and learns what the baseline
leaves of the target, centred and scaled likewise. Everything here is NumPy arrays in float64, which
is what a pickled model holds, and applies to arrays and tensors alike.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._arrays.conversion import like
from ..._linalg.form import Layers, ModelForm
from ..._linalg.inverses import regular_inverse
from ..linear import affine_fit, center_and_inverse, taylor, varies
from ..units import FitUnits
from .residual import Residual

# Directions of the inputs that vary by less than this share of the largest keep the tangent.
_FITTED = 1e-2
# Rows on which two baselines are compared.
_COMPARED = 10_000
# Coefficients of an affine baseline that nobody asked for: 256 MB, a few times over.
_MOST_COEFFICIENTS = 2**25
# Taylor series that can be the baseline, by name.
SERIES = {"taylor": 1, "taylor2": 2, "taylor3": 3}


@dataclass
class Preparation:
    """Scaling and baseline of a fitted network."""

    kept: NDArray[np.intp]  # indices of the inputs that vary
    x_mean: NDArray[np.float64]  # of these
    x_scale: NDArray[np.float64]  # their standard deviations
    y_mean: NDArray[np.float64]  # of what the baseline leaves
    # Root mean square of that: for inverses one scale for all outputs, so that the loss is the
    # squared Frobenius error; for other targets one of each output, 0 for those that are 0.
    y_scale: NDArray[np.float64]
    affine: tuple[NDArray, NDArray, NDArray] | None = None  # of affine_fit, on the kept inputs
    center: tuple[NDArray, NDArray] | None = None  # and its inverse, for a Taylor baseline
    order: int = 1  # of that series

    @classmethod
    def fit(
        cls,
        rows: NDArray,
        targets: NDArray,
        baseline: str | None,
        *,
        inverses: bool = False,
        center: NDArray | None = None,
    ) -> "Preparation":
        """Fit scaling and baseline to training data; the series are about `center`, or the mean."""
        rows = rows.astype(np.float64, copy=False)
        x_mean, x_scale = rows.mean(axis=0), rows.std(axis=0)
        # Scaled to unit variance rounding would be noise, and far more of it in single precision.
        kept = np.flatnonzero(varies(x_mean, x_scale))
        prepared = cls(kept, x_mean[kept], x_scale[kept], *np.zeros((2, targets.shape[1])))
        # The derivatives of other targets are unknown: their series is the affine fit.
        if baseline in SERIES and inverses:
            prepared = prepared._series(rows, center, SERIES[baseline])
        elif baseline is not None:
            auto = baseline == "auto" and inverses
            if auto and len(kept) * targets.shape[1] > _MOST_COEFFICIENTS:
                with suppress(ValueError):  # of a singular mean
                    prepared = prepared._series(rows, center)
            if prepared.center is None:
                prepared.affine = _affine_baseline(rows, kept, targets, inverses)
                prepared = prepared._improved(rows, targets, center) if auto else prepared
        residual = targets - prepared.baseline(rows)
        if prepared.affine is not None and len(rows) <= len(kept) + 1:
            # The fit goes through all samples: what it leaves says nothing of what it will leave.
            residual = targets
        prepared.y_mean = residual.mean(axis=0)
        # Where rounding is all that is left to learn, the scale stays at its level.
        largest = np.abs(targets).max(axis=0, initial=0.0)
        unit = np.where(largest > 0, largest, 1.0)
        scale = unit * np.sqrt(np.mean(((residual - prepared.y_mean) / unit) ** 2, axis=0))
        scale = np.maximum(scale, 1e-13 * largest)
        if inverses:
            top = scale.max(initial=0.0) or 1.0
            scale[:] = top * np.sqrt(np.mean((scale / top) ** 2))
        prepared.y_scale = scale
        if residual is targets:
            prepared.y_mean = np.zeros_like(prepared.y_mean)
        return prepared

    def _series(self, rows: NDArray, center: NDArray | None, order: int = 2) -> "Preparation":
        """Return the same with the Taylor series at a centre, or at the mean, as the baseline."""
        return replace(self, center=center_and_inverse(rows, center), order=order, affine=None)

    def _improved(self, rows: NDArray, targets: NDArray, center: NDArray | None) -> "Preparation":
        """Take the second-order series instead of the affine fit, where it leaves less."""
        n_samples, n_fitted = len(rows), len(self.kept) + 1
        some = slice(None, None, max(n_samples // _COMPARED, 1))
        try:
            series = self._series(rows, center)
        except ValueError:  # the mean is singular
            return self
        left, left_by_series = (
            np.mean(np.var(targets[some] - p.baseline(rows[some]), axis=0)) for p in (self, series)
        )
        # The affine fit was made on these samples; others it would miss by more.
        better = left_by_series * max(n_samples - n_fitted, 0) < left * n_samples
        return series if better else self

    def in_units(self, units: FitUnits) -> "Preparation":
        """Return the same for training data that were scaled to these units."""
        x, y = units.x[self.kept], units.y
        center, affine = self.center, self.affine
        if center is not None:
            shape = center[0].shape
            center = (
                np.ldexp(center[0], -units.x.reshape(shape)),
                np.ldexp(center[1], -y.reshape(shape)),
            )
        return replace(
            self,
            x_mean=np.ldexp(self.x_mean, -x),
            x_scale=np.ldexp(self.x_scale, -x),
            y_mean=np.ldexp(self.y_mean, -y),
            y_scale=np.ldexp(self.y_scale, -y),
            affine=None if affine is None else units.undone(*affine, self.kept),
            center=center,
        )

    @classmethod
    def from_state(cls, **state: Any) -> "Preparation | Residual":
        """Return what was stored, whichever it is of the two."""
        return Residual.from_state(**state) if "directions" in state else cls(**state)

    def variance(self, targets: NDArray) -> float:
        """Return the variance of targets, averaged over outputs."""
        return float(np.mean(np.var(targets, axis=0)))

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network."""
        return len(self.y_mean)

    def inputs(self, rows: Any) -> Any:
        """Return what the network sees of rows, in their dtype."""
        return (self._varying(rows) - like(self.x_mean, rows)) / like(self.x_scale, rows)

    def _varying(self, rows: Any) -> Any:
        return rows[:, self.kept.tolist()] if len(self.kept) < rows.shape[1] else rows

    def baseline(self, rows: Any) -> Any:
        """Return the baseline's prediction, or 0.0 without one."""
        if self.center is not None:
            return taylor(rows, *self.center, self.order)
        if self.affine is not None:
            x_mean, y_mean, matrix = (like(array, rows) for array in self.affine)
            return (self._varying(rows) - x_mean) @ matrix + y_mean
        return 0.0

    def outputs(self, rows: Any, targets: Any) -> Any:
        """Return what the network is to learn of targets."""
        unit = like(np.where(self.y_scale > 0, self.y_scale, 1.0), rows)
        return (targets - self.baseline(rows) - like(self.y_mean, rows)) / unit

    def network(self, layers: Layers, n_features: int) -> ModelForm:
        """Return the form of layers, in scaled space, on all features and outputs."""
        wide = [(W.astype(np.float64), b.astype(np.float64)) for W, b in layers]
        W, b = wide[0]
        wide[0] = np.zeros((len(W), n_features)), b
        wide[0][0][:, self.kept] = W
        W, b = wide[-1]
        with np.errstate(over="ignore"):
            wide[-1] = (W * self.y_scale[:, None], b * self.y_scale + self.y_mean)
        x_mean, x_scale = np.zeros(n_features), np.ones(n_features)
        x_mean[self.kept], x_scale[self.kept] = self.x_mean, self.x_scale
        zeros = np.zeros(self.n_outputs), np.zeros(n_features)
        return ModelForm(*zeros, layers=wide, x_mean=x_mean, x_scale=x_scale)

    def form(self, layers: Layers, activation: str, n_features: int) -> ModelForm:
        """Return the whole model: `layers`, in scaled space, and what is around them."""
        network = self.network(layers, n_features)
        wide, constant, origin, linear = network.layers, network.constant, network.origin, None
        if not wide[-1][0].any():  # no network at all
            wide, constant = [], wide[-1][1]
        if self.affine is not None:
            linear = np.zeros((n_features, self.n_outputs))
            origin[self.kept], fitted, linear[self.kept] = self.affine
            constant = constant + fitted
        series = None if self.center is None else (*self.center, self.order)
        return replace(
            network,
            constant=constant,
            linear=linear,
            taylor=series,
            layers=wide,
            activation=activation,
        )


def _affine_baseline(
    rows: NDArray, kept: NDArray, targets: NDArray, inverses: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """Fit the affine baseline on the kept inputs.

    Of d coefficients fitted to N samples the noise is d/N of what is not affine in the targets. The
    network can mend that in directions in which its inputs vary, not in those in which they hardly
    do; there the tangent, known for inverses without any noise, is better. So least squares
    corrects the tangent, in the directions with at least _FITTED of the largest variation.
    """
    if inverses:
        try:
            _, B = center_and_inverse(rows)
        except ValueError:  # regular matrices may have a singular mean
            inverses = False
    if not inverses:
        return affine_fit(rows[:, kept], targets)
    tangent = -np.kron(B.T, B)[kept]
    x = rows[:, kept]
    known = B.ravel() + (x - x.mean(axis=0)) @ tangent
    x_mean, rest, correction = affine_fit(x, targets - known, rcond=_FITTED)
    return x_mean, B.ravel() + rest, tangent + correction


def taylor_layers(
    prepared: Preparation, rows: NDArray, center: NDArray, n_hidden: int, rng: np.random.RandomState
) -> Layers:
    """Return a network with one hidden ReLU layer that equals the first-order Taylor approximation.

    L(a) = W₂ ReLU(W₁a + b₁) + b₂ with W₁ = [I; −I], b₁ = [−a₀; a₀], W₂ = [−K, K], K = B ⊗ Bᵀ and
    b₂ = vec B, B the inverse of the centre: ReLU(t) − ReLU(−t) = t, everywhere. With fewer than
    twice as many units as inputs W₁ = I, shifted so that no input of the training data is clipped.
    Units left over start at random, with output weights 0. (Ji, Wu and Xi 2025.) Weights and biases
    are in the scaled space of a preparation without a baseline.
    """
    d = len(prepared.kept)
    if n_hidden < d:
        raise ValueError(
            f"Got {n_hidden} hidden units with init='taylor', but the construction needs at least "
            f"{d}, one per input that varies (and {2 * d} to hold outside the training box)."
        )
    B = regular_inverse(center)
    K = np.kron(B, B.T)[:, prepared.kept] * prepared.x_scale
    K = K / prepared.y_scale[:, None]
    W1 = rng.uniform(-1, 1, size=(n_hidden, d)) / np.sqrt(max(d, 1))
    b1 = rng.uniform(-1, 1, size=n_hidden)
    W2 = np.zeros((len(K), n_hidden))
    scaled = prepared.inputs(rows.astype(np.float64, copy=False))
    origin = (center.ravel()[prepared.kept] - prepared.x_mean) / prepared.x_scale
    # Constant inputs of the data may differ from the centre's entries: that part of L is constant.
    fixed = np.delete(np.arange(rows.shape[1]), prepared.kept)
    shift = np.kron(B, B.T)[:, fixed] @ (rows[0, fixed] - center.ravel()[fixed])
    b2 = (B.ravel() - shift - prepared.y_mean) / prepared.y_scale
    W1[:d], W2[:, :d] = np.eye(d), -K
    if n_hidden >= 2 * d:
        b1[:d] = -origin
        W1[d : 2 * d], b1[d : 2 * d], W2[:, d : 2 * d] = -np.eye(d), origin, K
    else:
        low = np.minimum(scaled.min(axis=0), origin)
        b1[:d] = -low
        b2 = b2 + K @ (origin - low)
    return [(W1, b1), (W2, b2)]


def random_layers(sizes: list[int], rng: np.random.RandomState) -> Layers:
    """Draw weights and biases uniform within ±1/√n_in of each layer, torch's default."""
    layers = []
    for n_in, n_out in pairwise(sizes):
        limit = 1.0 / np.sqrt(max(n_in, 1))
        W = rng.uniform(-limit, limit, (n_out, n_in))
        layers.append((W, rng.uniform(-limit, limit, n_out)))
    return layers
