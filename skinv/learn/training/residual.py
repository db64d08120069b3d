"""What a polynomial of reduced coordinates leaves, as a small network learns it."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._arrays.conversion import like
from ..._linalg.form import Layers, ModelForm, ReducedMap
from ..least_squares import Polynomial, design, limits_of, output_basis
from ..reduction import leading_directions
from ..units import FitUnits

# Principal directions of what is left that are learned, at most, and the share of its square that
# may be left out.
_MOST_DIRECTIONS, _LEFT_OUT = 32, 1e-4
# Share of the targets that is their rounding.
_ROUNDING = 1e-13


@dataclass
class Residual:
    """Scaling and baseline of a network in reduced coordinates.

    It stands where :class:`skinv.learn.training.preparation.Preparation` does for all entries.
    """

    baseline: ReducedMap  # the polynomial, with all outputs as they are
    n_inputs: int  # leading coordinates that the network sees
    y_unit: NDArray[np.float64]  # what outputs are multiplied with for errors to count alike
    # Orthonormal, (n_outputs, m): of residuals in these units, what the network learns.
    directions: NDArray[np.float64]
    y_scale: NDArray[np.float64]  # root mean square of that, the same for all m
    # Orthonormal: what is computed first of outputs in these units, and all others from it.
    basis: NDArray[np.float64] | None
    answers_all: bool = False  # those far from the known matrices, too
    error: float = float("nan")  # root mean square of the polynomial on rows held out, if any

    @classmethod
    def of(
        cls,
        found: Polynomial,
        rows: NDArray,
        targets: NDArray,
        n_inputs: int,
        factor: float,
        *,
        constant: bool = False,
        answers_all: bool = False,
    ) -> "Residual":
        """Look at what a polynomial, or the mean if `constant`, leaves of training data."""
        unit = found.reduction.y_unit
        baseline = found.to_map(rows, targets, factor, full=True)
        if constant:
            mean, coef = targets.mean(axis=0), np.zeros_like(baseline.coef)
            baseline = replace(baseline, constant=mean, coef=coef, single=None)
        left = (targets - (baseline.constant if constant else found.predict(rows))) * unit
        V, size = leading_directions(left, _MOST_DIRECTIONS)
        share = np.cumsum(size[::-1] ** 2)[::-1] / max(float(np.sum(size**2)), 1e-300)
        m = max(int((share > _LEFT_OUT).sum()), 1)
        if V.shape[1] == 0:
            V = np.zeros((len(unit), 1))
        V = V[:, :m]
        scale = float(np.sqrt(np.mean((left @ V) ** 2))) or np.finfo(np.float64).tiny
        used = baseline.terms.powers[0] if baseline.terms.powers else 0
        n_inputs = min(n_inputs, used)
        baseline = replace(
            baseline, limits=limits_of(found.reduction, baseline.terms, factor, n_inputs)
        )
        return cls(
            baseline, n_inputs, unit, V, np.full(V.shape[1], scale), None, answers_all, found.error
        )

    def settle(self, targets: NDArray, loss: float, n_hidden: int) -> float:
        """Choose a basis of the outputs, by the loss on unseen rows; return the relative error."""
        scale = self.error  # what it leaves of rows that it was fitted to may be much less
        if not np.isfinite(scale):
            scale = float(self.y_scale[0] * np.sqrt(self.n_outputs / len(self.y_unit)))
        n_features = len(self.baseline.coef) + n_hidden
        values = targets - self.baseline.constant
        error = scale * np.sqrt(loss)
        self.basis = output_basis(values, self.y_unit, error, n_features)
        size = float(np.sqrt(np.mean((targets * self.y_unit) ** 2)))
        return error / size if size > 0 else 0.0

    def is_rounding(self, targets: NDArray) -> bool:
        """Tell whether rounding is all that is left."""
        largest = float(np.abs(targets * self.y_unit).max(initial=0.0))
        return bool(self.y_scale[0] <= _ROUNDING * largest)

    def in_units(self, units: FitUnits) -> "Residual":
        """Return the same for training data that were scaled to these units."""
        baseline = self.baseline.in_units(units.x, units.y)
        return replace(self, baseline=baseline, y_unit=np.ldexp(self.y_unit, units.y))

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network."""
        return len(self.y_scale)

    @property
    def kept(self) -> NDArray[np.intp]:
        """The inputs of the network."""
        return np.arange(self.n_inputs)

    def inputs(self, rows: Any) -> Any:
        """Return what the network sees of rows, in their dtype."""
        projection = self.baseline.projection[:, : self.n_inputs]
        return (rows - like(self.baseline.origin, rows)) @ like(projection, rows)

    def outputs(self, rows: NDArray, targets: NDArray) -> NDArray[np.float64]:
        """Return what the network is to learn of targets."""
        baseline = self.baseline
        z = (rows - baseline.origin) @ baseline.projection
        left = targets - design(z, baseline.terms) @ baseline.coef - baseline.constant
        return np.asarray((left * self.y_unit) @ self.directions / self.y_scale)

    def variance(self, targets: NDArray) -> float:
        """Return the variance of targets, as the network's outputs share it."""
        return float(np.sum(np.var(targets * self.y_unit, axis=0))) / self.n_outputs

    def _spread(self) -> NDArray[np.float64]:
        """Return what takes the network's outputs to those of the model, (m, n_outputs)."""
        return self.y_scale[:, None] * self.directions.T / self.y_unit

    def network(self, layers: Layers, n_features: int) -> ModelForm:
        """Return the form of layers, of scaled coordinates, on all features and outputs."""
        wide = [(W.astype(np.float64), b.astype(np.float64)) for W, b in layers]
        (W, b), spread = wide[0], self._spread()
        wide[0] = W @ self.baseline.projection[:, : self.n_inputs].T, b
        W, b = wide[-1]
        wide[-1] = spread.T @ W, b @ spread
        zeros, ones = np.zeros(len(self.y_unit)), np.ones(n_features)
        origin = self.baseline.origin
        return ModelForm(zeros, origin, layers=wide, x_mean=origin, x_scale=ones)

    def form(self, layers: Layers, activation: str, n_features: int) -> ModelForm:
        """Return the whole model, of a network on coordinates."""
        wide = [(W.astype(np.float64), b.astype(np.float64)) for W, b in layers]
        whole = self._with_network(self.baseline, wide, activation)
        if self.answers_all:
            whole = whole.answering_all()
        zeros = np.zeros(whole.n_outputs), np.zeros(n_features)
        return ModelForm(*zeros, reduced=whole)

    def _with_network(self, baseline: ReducedMap, layers: Layers, activation: str) -> ReducedMap:
        """Return a polynomial with the network on top of it."""
        W, b = layers[-1]
        W, b, coef, basis = self._spread().T @ W, self._spread().T @ b, baseline.coef, None
        if self.basis is not None:
            to_basis, basis = self.y_unit[:, None] * self.basis, self.basis.T / self.y_unit
            W, b, coef = to_basis.T @ W, to_basis.T @ b, coef @ to_basis
        constant, inner = baseline.constant, [*layers[:-1], (W, b)]
        if len(inner) == 1:  # linear in the coordinates
            coef, inner = coef.copy(), []
            coef[: self.n_inputs] += W.T
            constant = constant + (b if basis is None else b @ basis)
        single = baseline.single
        # In single precision fewer terms say that rounding is all that is left.
        if single is not None and len(single.terms) == len(baseline.terms):
            single = self._with_network(single, layers, activation)
        elif single is not None and self.basis is not None:
            single = replace(single, coef=single.coef @ to_basis, basis=basis)
        return replace(
            baseline,
            constant=constant,
            coef=coef,
            layers=inner if W.any() else [],
            activation=activation,
            basis=basis,
            single=single,
        )

    def to_state(self) -> dict[str, Any]:
        """Return numbers, arrays, lists and dictionaries that say it all."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return state | {"baseline": self.baseline.to_state()}

    @classmethod
    def from_state(cls, **state: Any) -> "Residual":
        """Undo :meth:`to_state`."""
        return cls(**{**state, "baseline": ReducedMap.from_state(**state["baseline"])})
