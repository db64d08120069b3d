"""Predictions of any model, of matrices exactly as it gets them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import loaded_torch, to_host
from .._arrays.rows import expecting_unanswered
from ._models import held_module


class Predictions:
    """What a model predicts for stacks of n x n matrices, exactly as it gets them."""

    def __init__(self, model: Any, n: int):
        self.model, self.n = model, n
        self._network = network = held_module(model)
        if isinstance(model, type) or (network is None and not hasattr(model, "predict")):
            raise TypeError(
                f"Got {model!r}, but a fitted regressor of inverses or a torch module is expected."
            )
        # What operations of torch raise for shapes that do not fit.
        self._of_networks = (IndexError, TypeError, AttributeError) if network else ()
        held = [] if network is None else [*network.parameters(), *network.buffers()]
        self._dtype: Any = next((t.dtype for t in held if t.is_floating_point()), None)
        finfo = np.finfo(float) if self._dtype is None else loaded_torch().finfo(self._dtype)
        self.eps = float(finfo.eps)  # distance from 1 to the next number it can be given

    def round(self, stack: NDArray) -> NDArray[np.float64]:
        """Return the nearest matrices that the model can be given; infinity where there is none."""
        if self._dtype is None:
            return stack.astype(np.float64)
        torch = loaded_torch()
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
        if self._network is None:
            return self.model.predict(self._named(rows))
        if self._network is self.model:
            return self._call_module(rows)
        torch = loaded_torch()
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
        torch = loaded_torch()
        device = next((p.device for p in self._network.parameters()), None)
        modes = [(part, part.training) for part in self._network.modules()]
        self._network.eval()
        try:
            with torch.no_grad():
                out = self._network(torch.tensor(rows).to(device=device, dtype=self._dtype))
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
