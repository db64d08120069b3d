"""What an estimator with a network is: how its fits begin, and what there is to see after them."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import real_array
from .._linalg.draws import private_generator
from .._linalg.form import Layers, ModelForm, ReducedMap
from .extrapolation import ExtrapolationMixin
from .training.preparation import Preparation
from .training.residual import Residual


class PerceptronMixin(ExtrapolationMixin):
    """An estimator that learns by a multilayer perceptron what a baseline leaves."""

    random_state: Any
    max_time: float | None
    n_outputs_: int
    _rng: np.random.RandomState
    _activation: str
    _layers: Layers  # in scaled space, as torch has them
    _net: Any
    _preparation: Preparation | Residual
    _stored: ClassVar = {"_preparation": Preparation}

    def _validate_params(self) -> None:
        super()._validate_params()
        for name in ("learning_rate_init", "weight_decay", "tol", "max_time", "max_extrapolation"):
            if not isinstance(getattr(self, name), str | None):
                real_array(getattr(self, name), name)

    def _deadline(self) -> float:
        self._validate_params()
        return math.inf if self.max_time is None else time.monotonic() + float(self.max_time)

    def _start(self, X: Any, y: Any, warm: bool) -> tuple[NDArray, NDArray[np.float64], bool, bool]:
        """Validate; return rows, targets, if these are inverses, and if training goes on."""
        resume = warm and self.__sklearn_is_fitted__()
        self._fitted = resume
        before = getattr(self, "_y_ndim", 2)
        rows, targets, inverses = self._validate_training(X, y, reset=not resume)
        if resume and targets.shape[1] != self.n_outputs_:
            self._y_ndim = before
            raise ValueError(
                f"Got {targets.shape[1]} targets per sample, but training went on from "
                f"{self.n_outputs_}; use warm_start=False to start anew."
            )
        if not resume:
            self._rng = private_generator(self.random_state)
        return rows, targets, inverses, resume

    @property
    def coefs_(self) -> list[NDArray[np.float64]]:
        """Weights of the layers on unscaled inputs and outputs, (n_in, n_out) each."""
        return [W.T for W, _ in self._unscaled("coefs_")]

    @property
    def intercepts_(self) -> list[NDArray[np.float64]]:
        """Biases of the layers on unscaled inputs and outputs."""
        return [b for _, b in self._unscaled("intercepts_")]

    def _unscaled(self, name: str) -> Layers:
        self._check_fitted(name)
        network = self._preparation.network(self._layers, self.n_features_in_)
        return network.layers_around(np.zeros(self.n_features_in_))

    @property
    def net_(self) -> Any:
        """The skorch net; rebuilt from arrays in a loaded model."""
        self._check_fitted("net_")
        if self._net is None:
            from .training.fitting import build_net

            self._net = build_net(self, self.solver_)
        return self._net

    def _check_fitted(self, name: str) -> None:
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{name} exists only after fit: call fit first.")

    def _make_form(self) -> Callable[[], ModelForm]:
        form = self._preparation.form
        return partial(form, self._layers, self._activation, self.n_features_in_)

    @property
    def _map(self) -> ReducedMap | None:  # type: ignore[override]
        prepared = self._preparation
        return prepared.baseline if isinstance(prepared, Residual) else None

    @property
    def _answers_all(self) -> bool:  # type: ignore[override]
        prepared = self._preparation
        return isinstance(prepared, Residual) and prepared.answers_all

    def __sklearn_is_fitted__(self) -> bool:
        return getattr(self, "_fitted", False)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_net" in state:
            state["_net"] = None
        return state
