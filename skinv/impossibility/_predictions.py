"""Predictions of any model, and how wrong they are with proof."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import to_host
from .._arrays.rows import expecting_unanswered
from .._linalg.products import exact_inverse
from ..bounds import residual_bound
from ..geometry._regions import row_norms
from ..refinement import newton_schulz
from ._models import held_module

# Past this relative error an inverse says little of what it is compared with.
_LARGEST_BOUND = 0.01


class Predictions:
    """What a model predicts for stacks of n x n matrices, exactly as it gets them."""

    def __init__(self, model: Any, n: int):
        self.model, self.n = model, n
        self._network = held_module(model)
        if isinstance(model, type) or (self._network is None and not hasattr(model, "predict")):
            raise TypeError(
                f"Got {model!r}, but a fitted regressor of inverses or a torch module is expected."
            )
        # What operations of torch raise for shapes that do not fit.
        self._of_networks = (IndexError, TypeError, AttributeError) if self._network else ()
        self._dtype: Any = None
        self._module: Any = self._network if self._network is model else None
        if self._network is not None:
            tensors = [*self._network.parameters(), *self._network.buffers()]
            self._dtype = next((t.dtype for t in tensors if t.is_floating_point()), None)

    @property
    def eps(self) -> float:
        """Distance from 1 to the next number that the model can be given."""
        if self._dtype is None:
            return float(np.finfo(np.float64).eps)
        return float(sys.modules["torch"].finfo(self._dtype).eps)

    def round(self, stack: NDArray) -> NDArray[np.float64]:
        """Return the nearest matrices that the model can be given; infinity where there is none."""
        if self._dtype is None:
            return stack.astype(np.float64)
        torch = sys.modules["torch"]
        return torch.tensor(stack).to(self._dtype).double().numpy()

    def __call__(self, stack: NDArray) -> NDArray[np.float64]:
        """Return the predictions for matrices (m, n, n) as float64 (m, n, n)."""
        rows = np.array(stack, dtype=np.float64).reshape(len(stack), -1)  # a copy
        try:
            with expecting_unanswered():  # these rows are not the caller's
                predicted = self._predict(rows)
        except np.linalg.LinAlgError:  # of a model that inverts, at a singular matrix
            predicted = np.concatenate([self._predict_one(row[None]) for row in rows])
        except (RuntimeError, *self._of_networks) as exception:
            raise ValueError(
                f"{type(self.model).__name__} fails on rows of {self.n**2} entries: {exception}"
            ) from exception
        predicted = np.asarray(to_host(predicted), dtype=np.float64)
        if predicted.size != rows.size:
            raise ValueError(
                f"Got predictions of shape {predicted.shape} for {len(rows)} matrices of order "
                f"{self.n}, but inverses are expected: rows of {self.n**2} entries."
            )
        return predicted.reshape(-1, self.n, self.n)

    def _predict(self, rows: NDArray) -> Any:
        if self._module is not None:
            return self._call_module(rows)
        if self._network is None:
            return self.model.predict(self._named(rows))
        torch = sys.modules["torch"]
        tensor = torch.tensor(rows).to(self._dtype)
        half = self._dtype in (torch.float16, torch.bfloat16)  # which NumPy does not know, or keep
        return self.model.predict(tensor if half else tensor.numpy())

    def _predict_one(self, row: NDArray) -> NDArray:
        try:
            return np.reshape(to_host(self._predict(row.copy())), row.shape)
        except np.linalg.LinAlgError:
            return np.full(row.shape, np.nan)

    def _call_module(self, rows: NDArray) -> Any:
        """Call a torch module in evaluation mode, and leave the modes of its parts as they are."""
        torch = sys.modules["torch"]
        parameter = next(self._module.parameters(), None)
        device = None if parameter is None else parameter.device
        modes = [(part, part.training) for part in self._module.modules()]
        self._module.eval()
        try:
            with torch.no_grad():
                out = self._module(torch.tensor(rows).to(device=device, dtype=self._dtype))
        finally:
            for part, training in modes:
                part.training = training
        return (out[0] if isinstance(out, tuple) else out).double()

    def _named(self, rows: NDArray) -> Any:
        """Return rows as the data frame that a model fitted to one expects."""
        names = getattr(self.model, "feature_names_in_", None)
        if names is None:
            return rows
        if len(names) != rows.shape[1]:
            raise ValueError(
                f"Got a model of {len(names)} features and matrices of {rows.shape[1]} entries, "
                f"but both must be of one size."
            )
        import pandas

        return pandas.DataFrame(rows, columns=names)


class Compared(NamedTuple):
    """Predictions of some matrices beside their inverses."""

    predicted: NDArray[np.float64]  # (m, n, n)
    inverse: NDArray[np.float64]  # (m, n, n)
    bound: NDArray[np.float64]  # proven relative errors of `inverse`, in the Frobenius norm
    error: NDArray[np.float64]  # spectral; NaN without a proof, or for predictions not finite
    lower: NDArray[np.float64]  # proven bounds of the errors of the predictions; there -inf


class Errors:
    """Spectral-norm errors of predictions, as proven lower bounds."""

    def __init__(self, predictions: Predictions):
        self.predictions = predictions
        self.count = 0

    def __call__(self, stack: NDArray) -> Compared:
        """Return the errors of a stack of matrices that the model can be given as they are."""
        self.count += len(stack)
        predicted = self.predictions(stack)
        with np.errstate(all="ignore"):
            inverse = exact_inverse(stack)
            improved = newton_schulz(stack, inverse, 1)
            inverse = np.where(np.isfinite(improved), improved, inverse)
            bound = residual_bound(stack, inverse)
            difference = predicted - inverse
            finite = np.isfinite(difference).all(axis=(1, 2))
            sound = finite & (bound < _LARGEST_BOUND)
            error = np.full(len(stack), np.nan)
            error[sound] = np.linalg.norm(difference[sound], 2, axis=(1, 2))
            # ‖A⁻¹ − X‖ ≤ ρ ‖A⁻¹‖ ≤ ρ ‖X‖ / (1 − ρ); the last factor covers the rounding of norms.
            size = row_norms(inverse.reshape(len(stack), -1))
            both = size + row_norms(predicted.reshape(len(stack), -1))
            slack = bound * size / (1 - bound) + 1e-13 * self.predictions.n * both
            lower = np.where(sound, error - slack, -np.inf)
        return Compared(predicted, inverse, bound, error, lower)
