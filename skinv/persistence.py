"""What a saved estimator says of itself, and what happens when another version reads it.

The state of an estimator is made of numbers, strings, NumPy arrays, lists and dictionaries, its
parameters apart: no class of torch, skorch or of the inside of skinv. So a pickle of it is small
and loads without a GPU, and skops, which lists the types in a file and builds no others, has to be
told of the estimators alone.
"""

from dataclasses import fields
from typing import Any, ClassVar

import numpy as np

__all__ = ["TRUSTED_TYPES", "saved_by"]


def __dir__() -> list[str]:
    return __all__


# Raised whenever the state of an estimator changes so that another version would misread it.
FORMAT = 3
# The oldest format that is still read.
OLDEST = 3

#: All that ``skops.io.load(file, trusted=TRUSTED_TYPES)`` needs to load the estimators of skinv.
#: For a single one its own name is enough, with those of the estimators in it. What comes from
#: elsewhere needs its own: the function of a family, scikit-learn's trees, splitters of a search.
TRUSTED_TYPES = [
    "skinv.certified._estimator.CertifiedInverse",
    "skinv.learn.linear.LinearInverseApprox",
    "skinv.metrics.SingularDistanceScorer",
    "skinv.learn.neural.NeuralInverseRegressor",
    "skinv.learn.polynomial.PolynomialInverseApprox",
    "skinv.geometry._sampler.FeasibleRegionSampler",
    "skinv.learn.free_numbers.StructuredInverse",
    "skinv.geometry._parametric.ParametricFamily",
]


def saved_by(estimator: Any) -> dict[str, Any] | None:
    """Return what the file of a loaded estimator said of itself.

    Parameters
    ----------
    estimator : estimator of skinv

    Returns
    -------
    dict or None
        ``format`` (int), ``version`` of skinv, and ``dtype`` of the matrices that the estimator was
        fitted to ("float32", "float64" or None if to none). None for one that was not loaded.

    Examples
    --------
    >>> import pickle
    >>> from skinv import LinearInverseApprox
    >>> model = pickle.loads(pickle.dumps(LinearInverseApprox().fit([[2.0]])))
    >>> saved_by(model)["format"], saved_by(model)["dtype"]
    (3, 'float64')
    """
    return getattr(estimator, "_saved_by", None)


class PersistentMixin:
    """An estimator whose state is plain, and says what wrote it."""

    # Attributes that are stored as dictionaries, and the classes that these are made into again:
    # those that proofs rest on by `from_state`, which works out anew all that can be.
    _stored: ClassVar[dict[str, Any]] = {}

    _fitted_dtype: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        from . import __version__

        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        for name in self._stored:
            value: Any = state.get(name)
            if hasattr(value, "to_state"):
                state[name] = value.to_state()
            elif value is not None:
                state[name] = {field.name: getattr(value, field.name) for field in fields(value)}
        state["_saved_by"] = {"format": FORMAT, "version": __version__, "dtype": self._fitted_dtype}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        check_format(type(self).__name__, state.get("_saved_by"))
        state = dict(state)
        for name, kind in self._stored.items():
            if state.get(name) is not None:
                state[name] = getattr(kind, "from_state", kind)(**state[name])
        super().__setstate__(state)  # type: ignore[misc]
        for name in state:
            if isinstance(getattr(type(self), name, None), Fitted):
                self._own(**{name: state[name]})

    def _own(self, **values: Any) -> None:
        """Set fitted attributes, arrays to copies that cannot be written."""
        for name, value in values.items():
            if isinstance(value, np.ndarray):  # in memory that nobody can write to
                value = np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape)
            self.__dict__[name] = value


class Fitted:
    """A fitted attribute that proofs rest on: it is set by `fit`, and can only be read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self._name not in instance.__dict__:
            raise AttributeError(f"{type(instance).__name__} has no {self._name} before it is fit.")
        return instance.__dict__[self._name]

    def __set__(self, instance: Any, value: Any) -> None:
        raise AttributeError(
            f"{self._name} is what the model was fitted with and proofs rest on: fit it anew to "
            f"change it."
        )


def check_format(name: str, saved: dict[str, Any] | None) -> None:
    """Refuse a state that this version cannot read, and say which version can."""
    from . import __version__

    found = 0 if saved is None else saved.get("format", 0)
    if OLDEST <= found <= FORMAT:
        return
    reads = f"but skinv {__version__} reads formats {OLDEST} to {FORMAT}"
    by = f"by skinv {saved['version']} in format {found}" if saved else "before formats were named"
    way = (
        "fit it again with this version, or load it with the one that saved it and export it "
        "(skinv.export)."
    )
    if saved and found > FORMAT:
        way = f"install skinv>={saved['version']}, or fit it again here and save that."
    raise ValueError(f"This {name} was saved {by}, {reads}: {way}")
