"""A model as inference, export and bounds take it: a baseline plus a multilayer perceptron."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scaling import ldexp
from .terms import Terms

# Weights (n_out, n_in) and biases (n_out,) of a perceptron.
Layers = list[tuple[NDArray, NDArray]]

# What both copies of a number in an embedding may differ by, of the largest one.
_COPY = 1e-8
# Roundings of a coordinate, and of what lies outside, that are not taken for anything else.
_ROUNDINGS = 16

OTHER_TARGETS = (
    "Got a model of something else than inverses of its features, as of parameters of a family, "
    "but only inverses of matrices that are at hand can be refined, and their errors be bounded: "
    "fit it without y, or with the inverses of matrices, or export it without refinement."
)


@dataclass(frozen=True)
class ReducedMap:
    """A polynomial and a perceptron of a few coordinates z = (a − origin) @ projection."""

    origin: NDArray[np.float64]
    projection: NDArray[np.float64]  # (n_features, n_components); z was within ±1 in training
    outside: NDArray[np.float64]  # (n_features, n_outside): directions that z does not see
    # What (a − origin) @ outside, and z, may be in magnitude; past it the answer is NaN. None
    # answers all.
    limits: NDArray[np.float64] | None
    terms: Terms
    constant: NDArray[np.float64]  # (n_outputs,)
    coef: NDArray[np.float64]  # (n_terms, n_outputs), or (n_terms, m) if there is a basis
    # Perceptron of the first coordinates, (n_out, n_in) and (n_out,) a layer; empty for none.
    layers: Layers
    activation: str
    basis: NDArray[np.float64] | None  # (m, n_outputs), which polynomial and perceptron multiply
    # The map for rows in the next lower precision, if another: fitted to rounded rows, and of fewer
    # terms where more would only add rounding.
    single: "ReducedMap | None" = None
    size: NDArray[np.float64] | None = None  # largest magnitudes of features; None: the origin's
    spacing: float = 0.0  # relative spacing of the numbers that this is the map for

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.constant.size

    def tolerating(self, eps: float) -> "ReducedMap":
        """Return the map for rows that were rounded to a relative spacing."""
        if self.single is not None and self.single.spacing < 2 * eps:
            return self.single.tolerating(eps)
        if self.limits is None:
            return self
        directions = np.hstack([self.outside, self.projection])
        size = np.abs(self.origin) if self.size is None else self.size
        rounding = _ROUNDINGS * eps * np.linalg.norm(size[:, None] * directions, axis=0)
        return replace(self, limits=self.limits + rounding)

    def answering_all(self) -> "ReducedMap":
        """Return the same map for all rows, however far they are."""
        single = None if self.single is None else self.single.answering_all()
        return replace(self, outside=self.outside[:, :0], limits=None, single=single)

    def unpacked(self, pack: NDArray, unpack: NDArray) -> "ReducedMap":
        """Return the map of whole matrices, this one being of their free numbers.

        ``rows @ pack`` are the free numbers of matrices, and ``numbers @ unpack`` are the matrices
        again, as are inverses.
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

    def in_units(self, x: NDArray, y: NDArray) -> "ReducedMap":
        """Return the map of rows and outputs that are multiplied with 2^-x and 2^-y."""
        layers, coef, basis = self.layers, self.coef, self.basis
        if basis is None:
            coef = ldexp(coef, -y)
            layers = layers[:-1] + [(ldexp(W, -y[:, None]), ldexp(b, -y)) for W, b in layers[-1:]]
        else:
            basis = ldexp(basis, -y)
        return replace(
            self,
            origin=ldexp(self.origin, -x),
            projection=ldexp(self.projection, x[:, None]),
            outside=ldexp(self.outside, x[:, None]),
            constant=ldexp(self.constant, -y),
            coef=coef,
            layers=layers,
            basis=basis,
            single=None if self.single is None else self.single.in_units(x, y),
            size=None if self.size is None else ldexp(self.size, -x),
        )

    def to_state(self) -> dict[str, Any]:
        """Return numbers, strings, arrays, lists and dictionaries that say it all."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        state["terms"] = [list(name) for name in self.terms.names]
        state["layers"] = [list(layer) for layer in self.layers]
        state["single"] = None if self.single is None else self.single.to_state()
        return state

    @classmethod
    def from_state(cls, **state: Any) -> "ReducedMap":
        """Undo :meth:`to_state`."""
        state["terms"] = Terms.of([tuple(name) for name in state["terms"]])
        state["layers"] = [(W, b) for W, b in state["layers"]]
        single = state["single"]
        return cls(**{**state, "single": None if single is None else cls.from_state(**single)})


@dataclass(frozen=True)
class ModelForm:
    """A fitted model as f(a) = baseline(a) + perceptron((a − x_mean) / x_scale).

    The baseline is affine, constant + (a − origin) @ linear, plus a Taylor series of the inverse.
    Activations are "relu", "silu" and "tanh"; of a model of scikit-learn also "logistic" and
    "identity", which bounds over regions, inference and export do not know.
    """

    constant: NDArray[np.float64]  # (n_outputs,)
    origin: NDArray[np.float64]  # (n_features,)
    linear: NDArray[np.float64] | None = None  # (n_features, n_outputs); None is 0
    taylor: tuple[NDArray, NDArray, int] | None = None  # centre and its inverse (n, n), order
    # The perceptron, output scaling included, (n_out, n_in) and (n_out,) a layer; empty for none.
    layers: Layers = field(default_factory=list)
    activation: str = "relu"
    x_mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    x_scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))
    reduced: ReducedMap | None = None  # instead of a perceptron of all entries

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Linear part of the affine baseline, zeros if there is none."""
        if self.linear is not None:
            return self.linear
        return np.broadcast_to(0.0, (self.origin.size, self.constant.size))

    def layers_around(self, point: NDArray) -> Layers:
        """Return the perceptron's layers on differences to a point, with nothing scaled."""
        if not self.layers:
            return []
        (W, b), *others = self.layers
        return [(W / self.x_scale, b + W @ ((point - self.x_mean) / self.x_scale)), *others]

    def in_units(self, x: NDArray, y: NDArray) -> "ModelForm":
        """Return the model of rows and outputs that are multiplied with 2^-x and 2^-y."""
        linear, taylor = self.linear, self.taylor
        if taylor is not None:
            center, inverse, order = taylor
            taylor = (
                ldexp(center, -x.reshape(center.shape)),
                ldexp(inverse, -y.reshape(inverse.shape)),
                order,
            )
        return replace(
            self,
            constant=ldexp(self.constant, -y),
            origin=ldexp(self.origin, -x),
            linear=None if linear is None else ldexp(linear, x[:, None] - y),
            taylor=taylor,
            layers=self.layers[:-1]
            + [(ldexp(W, -y[:, None]), ldexp(b, -y)) for W, b in self.layers[-1:]],
            x_mean=ldexp(self.x_mean, -x) if self.layers else self.x_mean,
            x_scale=ldexp(self.x_scale, -x) if self.layers else self.x_scale,
            reduced=None if self.reduced is None else self.reduced.in_units(x, y),
        )

    @classmethod
    def affine(cls, origin: NDArray, constant: NDArray, matrix: NDArray) -> "ModelForm":
        """Return the form of constant + (a − origin) @ matrix."""
        return cls(constant, origin, matrix)

    @classmethod
    def series(cls, center: NDArray, inverse: NDArray, order: int) -> "ModelForm":
        """Return the form of a Taylor series of the inverse."""
        zeros = np.zeros(center.size)
        return cls(zeros, zeros, taylor=(center, inverse, order))

    @classmethod
    def perceptron(cls, coefs: Any, intercepts: Any, activation: str) -> "ModelForm":
        """Return the form of a perceptron from weights (n_in, n_out) and biases of its layers."""
        layers = [
            (np.asarray(W, dtype=np.float64).T, np.asarray(b, dtype=np.float64))
            for W, b in zip(coefs, intercepts, strict=True)
        ]
        n_in, n_out = layers[0][0].shape[1], len(layers[-1][1])
        zeros = np.zeros(n_in)
        return cls(np.zeros(n_out), zeros, None, None, layers, activation, zeros, np.ones(n_in))


def for_complex(form: ModelForm, inverses: bool) -> ModelForm:
    """Return the model of complex matrices of whose real embeddings a form is.

    Its rows, and if they are `inverses` its outputs, are real and imaginary parts in turn, 2n²
    numbers, and its series is complex. Of embeddings it is the same function; outputs are the means
    of both copies. Raises a ValueError for a model of real matrices that embed nothing.
    """
    n = math.isqrt(form.origin.size) // 2

    def point(row: NDArray, computed: bool = False) -> NDArray:
        T = row.reshape(2, n, 2, n)
        pairs = np.stack([T[0, :, 0], T[1, :, 0]], axis=-1)
        copies = np.stack([T[1, :, 1], -T[0, :, 1]], axis=-1)
        if computed:  # with errors of its own in both copies
            return (pairs / 2 + copies / 2).ravel()
        if not np.abs(pairs - copies).max() <= _COPY * np.abs(row).max():
            raise ValueError(
                f"Got complex matrices of order {n}, but a model of real ones of order {2 * n} "
                f"that are no embeddings of complex ones: fit it to complex matrices."
            )
        return pairs.ravel()

    def inputs(M: NDArray) -> NDArray:  # (4n², k) to (2n², k)
        T = M.reshape(2, n, 2, n, -1)
        pairs = np.stack([T[0, :, 0] + T[1, :, 1], T[1, :, 0] - T[0, :, 1]], axis=2)
        return pairs.reshape(2 * n * n, -1)

    def outputs(M: NDArray) -> NDArray:  # (..., 4n²) to (..., 2n²)
        if not inverses:
            return M
        # The size is told: of no rows, as of a family that does not move, it cannot be found out.
        return inputs(np.moveaxis(M, -1, 0)).T.reshape(*M.shape[:-1], M.shape[-1] // 2) / 2

    taylor, reduced = form.taylor, form.reduced
    if taylor is not None:
        center, inverse = point(taylor[0].ravel()), point(taylor[1].ravel(), computed=True)
        center, inverse = (pairs.view(complex).reshape(n, n) for pairs in (center, inverse))
        taylor = center, inverse, taylor[2]
    layers = []
    if form.layers:
        layers = [(inputs((form.layers[0][0] / form.x_scale).T).T, form.layers[0][1])]
        layers += form.layers[1:]
        layers[-1:] = [(outputs(W.T).T, outputs(b)) for W, b in layers[-1:]]
    if reduced is not None:
        reduced = _reduced_for_complex(reduced, point, inputs, outputs)
    return replace(
        form,
        constant=outputs(form.constant),
        origin=point(form.origin),
        linear=None if form.linear is None else outputs(inputs(form.linear)),
        taylor=taylor,
        layers=layers,
        x_mean=point(form.x_mean) if form.layers else form.x_mean,
        x_scale=np.ones(2 * n * n),
        reduced=reduced,
    )


def _reduced_for_complex(form: ReducedMap, point: Any, inputs: Any, outputs: Any) -> ReducedMap:
    """Return a map of reduced coordinates for rows of real and imaginary parts in turn."""
    size = form.size
    if size is not None:
        n = math.isqrt(size.size) // 2
        largest = np.abs(size).reshape(2, n, 2, n).max(axis=(0, 2))
        size = np.repeat(largest.ravel(), 2)
    layers, basis, single = form.layers, form.basis, form.single
    if basis is None:
        layers = layers[:-1] + [(outputs(W.T).T, outputs(b)) for W, b in layers[-1:]]
    return replace(
        form,
        origin=point(form.origin),
        projection=inputs(form.projection),
        outside=inputs(form.outside),
        constant=outputs(form.constant),
        coef=outputs(form.coef) if basis is None else form.coef,
        layers=layers,
        basis=None if basis is None else outputs(basis),
        single=None if single is None else _reduced_for_complex(single, point, inputs, outputs),
        size=size,
    )


def on_entries(form: ModelForm) -> ModelForm:
    """Return a form, or raise a ValueError if it is a map of reduced coordinates."""
    if form.reduced is not None:
        raise ValueError(
            "Got a model in reduced coordinates, a polynomial, of which nothing can be said here "
            "yet: fit a NeuralInverseRegressor with n_components=None, or a LinearInverseApprox."
        )
    return form


def defined_in(model: Any, package: str, *methods: str) -> bool:
    """Tell whether methods of a model, "predict" if none is named, are those of a package.

    And not of a class derived from one of it. Its name ends with a dot.
    """
    found = (getattr(type(model), name, None) for name in methods or ("predict",))
    return all(getattr(method, "__module__", "").startswith(package) for method in found)


def form_of(model: Any) -> ModelForm | None:
    """Return a fitted model as a baseline and a multilayer perceptron, or None if it is neither.

    Of skinv's regressors and scikit-learn's ``MLPRegressor``, if they predict what these classes
    do. Raises a ValueError if weights are not finite, and for models in reduced coordinates.
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
