"""A model as inference, export and bounds take it: a baseline plus a multilayer perceptron."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .terms import Terms

# Roundings of a coordinate, and of what lies outside, that are not taken for anything else.
_ROUNDINGS = 16

OTHER_TARGETS = (
    "Got a model of something else than inverses, but only errors of inverses can be bounded over "
    "a region: fit it without y, or with the inverses."
)


@dataclass(frozen=True)
class ReducedMap:
    """A polynomial and a perceptron of a few coordinates z = (a − origin) @ projection.

    Parameters
    ----------
    origin : ndarray of shape (n_features,)
    projection : ndarray of shape (n_features, n_components)
        Coordinates were between −1 and 1 in training.
    outside : ndarray of shape (n_features, n_outside)
        Directions that the coordinates do not see.
    limits : ndarray of shape (n_outside + n_components,) or None
        Rows of which a part in another direction, or a coordinate, is past these in magnitude are
        answered by NaN; None answers all.
    terms : Terms
    constant : ndarray of shape (n_outputs,)
    coef : ndarray of shape (n_terms, n_outputs), or (n_terms, m) if there is a basis
    layers : list of (weight (n_out, n_in), bias (n_out,))
        Perceptron of the first coordinates, as many as it has inputs; empty for none.
    activation : str
    basis : ndarray of shape (m, n_outputs) or None
        What the outputs of polynomial and perceptron are multiplied with.
    single : ReducedMap or None
        The map for rows in the next lower precision, if that is another: fitted to rounded rows,
        and of fewer terms where more would only add rounding.
    size : ndarray of shape (n_features,) or None
        Largest magnitudes of the features in training, which say how large their rounding is; None
        is those of the origin.
    spacing : float
        Relative spacing of the numbers that this is the map for.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> options = {"layers": [], "activation": "relu", "basis": None}
    >>> ReducedMap(one[0], one, one[:, :0], None, Terms((1,)), one[0], one, **options).n_outputs
    1
    """

    origin: NDArray[np.float64]
    projection: NDArray[np.float64]
    outside: NDArray[np.float64]
    limits: NDArray[np.float64] | None
    terms: Terms
    constant: NDArray[np.float64]
    coef: NDArray[np.float64]
    layers: list[tuple[NDArray, NDArray]]
    activation: str
    basis: NDArray[np.float64] | None
    single: ReducedMap | None = None
    size: NDArray[np.float64] | None = None
    spacing: float = 0.0

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.constant.size

    def tolerating(self, eps: float) -> ReducedMap:
        """Return the map for rows that were rounded to a relative spacing."""
        if self.single is not None and self.single.spacing < 2 * eps:
            return self.single.tolerating(eps)
        if self.limits is None:
            return self
        directions = np.hstack([self.outside, self.projection])
        size = np.abs(self.origin) if self.size is None else self.size
        rounding = _ROUNDINGS * eps * np.linalg.norm(size[:, None] * directions, axis=0)
        return replace(self, limits=self.limits + rounding)

    def answering_all(self) -> ReducedMap:
        """Return the same map for all rows, however far they are."""
        single = None if self.single is None else self.single.answering_all()
        return replace(self, outside=self.outside[:, :0], limits=None, single=single)

    def unpacked(self, pack: NDArray, unpack: NDArray) -> ReducedMap:
        """Return the map of whole matrices, this one being of their free numbers.

        Parameters
        ----------
        pack : ndarray of shape (n_entries, n_features)
            ``rows @ pack`` are the free numbers of matrices.
        unpack : ndarray of shape (n_features, n_entries)
            ``numbers @ unpack`` are the matrices again, and so are inverses.

        Returns
        -------
        ReducedMap
        """
        layers, coef, basis = self.layers, self.coef, self.basis
        if basis is None:
            coef = coef @ unpack
            layers = layers[:-1] + [(unpack.T @ W, b @ unpack) for W, b in layers[-1:]]
        else:
            basis = basis @ unpack
        return replace(
            self,
            origin=self.origin @ unpack,
            projection=pack @ self.projection,
            outside=pack @ self.outside,
            constant=self.constant @ unpack,
            coef=coef,
            layers=layers,
            basis=basis,
            single=None if self.single is None else self.single.unpacked(pack, unpack),
            size=None if self.size is None else self.size @ np.abs(unpack),
        )

    def to_state(self) -> dict[str, Any]:
        """Return numbers, strings, arrays, lists and dictionaries that say it all."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        state["terms"] = [list(name) for name in self.terms.names]
        state["layers"] = [list(layer) for layer in self.layers]
        state["single"] = None if self.single is None else self.single.to_state()
        return state

    @classmethod
    def from_state(cls, **state: Any) -> ReducedMap:
        """Undo :meth:`to_state`."""
        state["terms"] = Terms.of([tuple(name) for name in state["terms"]])
        state["layers"] = [(W, b) for W, b in state["layers"]]
        single = state["single"]
        return cls(**{**state, "single": None if single is None else cls.from_state(**single)})


@dataclass(frozen=True)
class ModelForm:
    """A fitted model as f(a) = baseline(a) + perceptron((a − x_mean) / x_scale).

    Parameters
    ----------
    constant : ndarray of shape (n_outputs,)
        Constant part of the affine baseline.
    origin : ndarray of shape (n_features,)
        Where the affine baseline takes that value.
    linear : ndarray of shape (n_features, n_outputs) or None
        Linear part of the affine baseline, for rows from the left; None is 0.
    taylor : tuple of (center (n, n), inverse (n, n), order) or None
        A Taylor series of the inverse, added to the affine baseline.
    layers : list of (weight (n_out, n_in), bias (n_out,)), float64
        The perceptron, output scaling included; empty for none.
    activation : {"relu", "silu", "tanh"}
        Of a model of scikit-learn also "logistic" and "identity", which bounds over regions,
        inference and export do not know.
    x_mean, x_scale : ndarray of shape (n_features,)
        What the perceptron's inputs are centred and scaled by.
    reduced : ReducedMap or None
        Added to the baseline, instead of a perceptron of all entries.

    Examples
    --------
    >>> form = ModelForm.affine(np.zeros(4), np.ones(4), np.eye(4))
    >>> form.layers, form.taylor
    ([], None)
    """

    constant: NDArray[np.float64]
    origin: NDArray[np.float64]
    linear: NDArray[np.float64] | None = None
    taylor: tuple[NDArray, NDArray, int] | None = None
    layers: list[tuple[NDArray, NDArray]] = field(default_factory=list)
    activation: str = "relu"
    x_mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    x_scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))
    reduced: ReducedMap | None = None

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Linear part of the affine baseline, zeros if there is none."""
        if self.linear is not None:
            return self.linear
        return np.broadcast_to(0.0, (self.origin.size, self.constant.size))

    def layers_around(self, point: NDArray) -> list[tuple[NDArray, NDArray]]:
        """Return the perceptron's layers on differences to a point, with nothing scaled."""
        if not self.layers:
            return []
        (W, b), *others = self.layers
        return [(W / self.x_scale, b + W @ ((point - self.x_mean) / self.x_scale)), *others]

    @classmethod
    def affine(cls, origin: NDArray, constant: NDArray, matrix: NDArray) -> ModelForm:
        """Return the form of constant + (a − origin) @ matrix."""
        return cls(constant, origin, matrix)

    @classmethod
    def series(cls, center: NDArray, inverse: NDArray, order: int) -> ModelForm:
        """Return the form of a Taylor series of the inverse."""
        zeros = np.zeros(center.size)
        return cls(zeros, zeros, taylor=(center, inverse, order))

    @classmethod
    def perceptron(cls, coefs: Any, intercepts: Any, activation: str) -> ModelForm:
        """Return the form of a perceptron from weights (n_in, n_out) and biases of its layers."""
        layers = [
            (np.asarray(W, dtype=np.float64).T, np.asarray(b, dtype=np.float64))
            for W, b in zip(coefs, intercepts, strict=True)
        ]
        n_in, n_out = layers[0][0].shape[1], len(layers[-1][1])
        zeros = np.zeros(n_in)
        return cls(np.zeros(n_out), zeros, None, None, layers, activation, zeros, np.ones(n_in))


def on_entries(form: ModelForm) -> ModelForm:
    """Return a form that is no map of reduced coordinates.

    Parameters
    ----------
    form : ModelForm

    Returns
    -------
    ModelForm
        The same.

    Raises
    ------
    ValueError
        For one that is.

    Examples
    --------
    >>> on_entries(ModelForm.affine(np.zeros(1), np.zeros(1), np.eye(1))).layers
    []
    """
    if form.reduced is not None:
        raise ValueError(
            "Got a model in reduced coordinates, a polynomial, of which nothing can be said here "
            "yet: fit a NeuralInverseRegressor with n_components=None, or a LinearInverseApprox."
        )
    return form


def defined_in(model: Any, package: str, *methods: str) -> bool:
    """Tell whether methods of a model are those of a package, not of a class derived from it.

    Parameters
    ----------
    model : object
    package : str
        With a dot.
    *methods : str
        Names; none is ``predict``.

    Returns
    -------
    bool

    Examples
    --------
    >>> from skinv import LinearInverseApprox
    >>> defined_in(LinearInverseApprox(), "skinv.")
    True
    """
    found = (getattr(type(model), name, None) for name in methods or ("predict",))
    return all(getattr(method, "__module__", "").startswith(package) for method in found)


def form_of(model: Any) -> ModelForm | None:
    """Return a fitted model as a baseline and a multilayer perceptron, or None if it is neither.

    Parameters
    ----------
    model : estimator

    Returns
    -------
    ModelForm or None
        Of skinv's regressors and scikit-learn's ``MLPRegressor``, if they predict what these
        classes do, and no other function of it.

    Raises
    ------
    ValueError
        If weights are not finite, and for models in reduced coordinates.

    Examples
    --------
    >>> from skinv import LinearInverseApprox
    >>> form_of(LinearInverseApprox(np.eye(2)).fit()).taylor[2]
    1
    """
    from sklearn.neural_network import MLPRegressor
    from sklearn.utils.validation import check_is_fitted

    form = None
    if hasattr(model, "_make_form") and defined_in(model, "skinv."):
        check_is_fitted(model)
        form = on_entries(model._make_form()())
    elif isinstance(model, MLPRegressor) and defined_in(model, "sklearn."):
        check_is_fitted(model)
        if model.out_activation_ == "identity":
            form = ModelForm.perceptron(model.coefs_, model.intercepts_, model.activation)
    if form is not None and not all(
        np.isfinite(array).all() for layer in form.layers for array in layer
    ):
        raise ValueError(f"Got a {type(model).__name__} with weights that are not finite.")
    return form
