"""Certificates of estimators, and how large their predictions can be on a ball of matrices."""

from __future__ import annotations

import sys
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._regressor import unwrapped
from ..form import ModelForm, defined_in, form_of
from ..geometry._distance import check_norm
from ..linear import taylor
from ._calculus import (
    PolynomialLipschitz,
    add,
    compose,
    constant,
    identity,
    multiply,
    scale,
    vector_norm,
)

# SiLU falls down to this value, at this place, and rises from there.
_SILU_LOWEST, _SILU_AT = -0.27846454276107, -1.27846454276107


def polynomial_lipschitz(
    module: Any, norm: str = "l2", *, input_shape: tuple[int, ...] | None = None
) -> PolynomialLipschitz:
    """Certify that a network is polynomially Lipschitz, so that it cannot invert everywhere.

    Parameters
    ----------
    module : torch.nn.Module or estimator
        A module, whose graph of operations is traced by torch.fx and followed from operation to
        operation, as a function of its first argument; a skorch net; a fitted estimator of skinv
        but for :class:`~skinv.CertifiedInverse`; or scikit-learn's ``MLPRegressor``.
    norm : {"l1", "l2", "linf"}, default="l2"
        Norm of the flattened input and output of one sample.
    input_shape : tuple of int, default=None
        Shape of one input, without the batch. May be left out where the first layer is linear and
        says it. Convolutions, sequences and reshaping modules need it: bounds depend on the length.

    Returns
    -------
    PolynomialLipschitz
        Polynomials P and B with ‖f(x) − f(y)‖ ≤ P(t) ‖x − y‖ and ‖f(x)‖ ≤ B(t) for all x and y of
        norm at most t. It is a proof for the exact function in evaluation mode (its constants are
        rounded up), and for softplus without its jump of 2e-9 at torch's threshold; what floating
        point adds is not covered. Of a tuple, the first entry counts.

    Raises
    ------
    ValueError
        For modules and functions without a rule (they are named, and :func:`register_rule` is
        pointed to), for those that are not polynomially Lipschitz (division by what may be 0,
        LayerNorm with eps = 0), for what is no function of one input (mixing samples, remembering,
        drawing at random), and where the input shape is needed.

    See Also
    --------
    failure_distance : Where such a network must fail.
    register_rule : Rules for other modules.

    Notes
    -----
    Composition: P_{f∘g}(t) = P_f(B_g(t)) P_g(t). The rules are with their proofs in the code; the
    constants of linear layers are their induced norms. Attention is not Lipschitz (Kim,
    Papamakarios and Mnih 2021, "The Lipschitz constant of self-attention"), but polynomially so, of
    degree 2. The notion is from Ji, Wu and Xi (2025), "Rethinking Neural-based Matrix Inversion:
    Why can't, and Where can". Such a proof says that something is finite, not that it is small:
    expect the true constant to be well below P.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(4, 4)
    >>> _ = torch.nn.init.eye_(layer.weight), torch.nn.init.ones_(layer.bias)
    >>> polynomial_lipschitz(torch.nn.Sequential(layer, torch.nn.ReLU(), layer))
    PolynomialLipschitz(P=1, B=4 + t, norm='l2')
    >>> from skinv import LinearInverseApprox
    >>> polynomial_lipschitz(LinearInverseApprox(np.eye(2) / 2, order=2).fit()).degree
    1
    """
    check_norm(norm)
    model = unwrapped(module)
    form = form_of(model)
    if form is not None:
        return certificate_of(form, norm)
    network = torch_module(model)
    if network is None:
        raise ValueError(
            f"Got a {type(model).__name__}, but what can be certified are torch modules, skorch "
            f"nets with their module's own output, skinv's own estimators and MLPRegressor with "
            f"squared loss, fitted, and no classes derived from them that predict otherwise."
        )
    from ._walk import walk

    return walk(network, norm, input_shape)


def held_module(model: Any) -> Any:
    """Return the torch module that a model is or, like a skorch net, holds; or None.

    Parameters
    ----------
    model : object

    Returns
    -------
    torch.nn.Module or None

    Examples
    --------
    >>> held_module("no network") is None
    True
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    candidates = (model, getattr(model, "module_", None))
    return next((m for m in candidates if isinstance(m, torch.nn.Module)), None)


def torch_module(model: Any) -> Any:
    """Return the torch module that a model is, or whose output a skorch net predicts; or None.

    Parameters
    ----------
    model : object

    Returns
    -------
    torch.nn.Module or None
        None also for nets that change what their module returns.

    Examples
    --------
    >>> torch_module("no network") is None
    True
    """
    module = held_module(model)
    if module is None or module is model:
        return module
    steps = ("predict", "predict_proba", "forward", "forward_iter", "evaluation_step", "infer")
    if not defined_in(model, "skorch.", *steps) or model.predict_nonlinearity not in ("auto", None):
        return None
    # Of "auto", skorch makes a softmax or a sigmoid for these.
    losses = ("CrossEntropyLoss", "BCEWithLogitsLoss")
    return None if type(model.criterion_).__name__ in losses else module


def certificate_of(form: ModelForm, norm: str) -> PolynomialLipschitz:
    """Return the certificate of a baseline plus a perceptron.

    Parameters
    ----------
    form : ModelForm
    norm : {"l1", "l2", "linf"}

    Returns
    -------
    PolynomialLipschitz

    Examples
    --------
    >>> certificate_of(ModelForm.affine(np.zeros(4), np.zeros(4), 2 * np.eye(4)), "l2")
    PolynomialLipschitz(P=2, B=2 t, norm='l2')
    """
    from ._rules import UP, activation, affine, induced_norm

    offset = form.constant - form.origin @ form.matrix
    parts = [affine(induced_norm(form.matrix.T, norm), offset, 1, norm)]
    if form.taylor is not None:
        center, inverse, order = form.taylor
        # Σ (−A₀⁻¹E)ʲ A₀⁻¹ with E = A − A₀; A₀⁻¹E is a map of the columns of E.
        n = len(center)
        E = add(identity(norm), constant(vector_norm(center, norm) * UP, norm))
        G = scale(E, induced_norm(inverse, norm))
        terms = [constant(vector_norm(inverse, norm) * UP, norm)]
        for _ in range(order):
            terms.append(multiply(G, terms[-1], n if norm == "linf" else 1.0))
        parts.extend(terms)
    layers = form.layers_around(np.zeros_like(form.origin))
    if layers:
        chain = []
        for W, b in layers:
            chain += [affine(induced_norm(W, norm), b, 1, norm)]
            chain += [activation(form.activation, len(b), norm)]
        parts.append(reduce(lambda inner, outer: compose(outer, inner), chain[:-1]))
    return add(*parts)


def magnitude_bound(model: Any, center: NDArray, radius: float) -> float:
    """Bound the Frobenius norm of a model's predictions on a ball of matrices.

    Parameters
    ----------
    model : estimator or torch.nn.Module
        What :func:`polynomial_lipschitz` takes; linear models; trees, forests and nearest
        neighbours, whose predictions are averages of stored targets; Gaussian processes with
        stationary kernels.
    center : ndarray of shape (n*n,)
        Centre of the ball.
    radius : float
        Its radius, in the Frobenius norm.

    Returns
    -------
    float
        A bound.

    Raises
    ------
    ValueError
        For models of which nothing is known.

    Examples
    --------
    >>> from skinv import LinearInverseApprox
    >>> model = LinearInverseApprox(np.eye(2)).fit()  # 2I − A
    >>> magnitude_bound(model, np.eye(2).ravel(), 0.5)  # √2 + 0.5
    1.9142136
    """
    model = unwrapped(model)
    form = form_of(model)
    reach = float(np.linalg.norm(center)) + radius
    if form is not None:
        return min(_ball_bound(form, center, radius), float(certificate_of(form, "l2").B(reach)))
    network = torch_module(model)
    if network is not None:
        return _module_bound(network, center, radius)
    known = _stored_bound(model, reach)
    if known is None:
        raise ValueError(
            f"Got a {type(model).__name__}, of whose predictions no bound is known; pass "
            f"magnitude=M with a bound of their Frobenius norm (for a pipeline or a search that "
            f"ends in a forest, for instance, the largest norm of a training target)."
        )
    return known


def _module_bound(network: Any, center: NDArray, radius: float) -> float:
    import torch

    from ._tracing import exact_copy

    certificate = polynomial_lipschitz(network, input_shape=(center.size,))
    reach = float(np.linalg.norm(center)) + radius
    with torch.no_grad():
        out = exact_copy(network)(torch.tensor(center[None]))
        at_center = float(torch.linalg.norm(out[0] if isinstance(out, tuple) else out))
    slope = float(certificate.P(reach))
    return min(float(certificate.B(reach)), at_center * (1 + 1e-12) + radius * slope)


def _stored_bound(model: Any, reach: float) -> float | None:
    """Bound predictions by what a fitted model of scikit-learn stores."""
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.linear_model._base import LinearModel
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.tree import DecisionTreeRegressor

    def predicts_as(*classes: Any) -> bool:
        return isinstance(model, classes) and defined_in(model, "sklearn.")

    if predicts_as(RandomForestRegressor, ExtraTreesRegressor):
        return float(np.mean([_stored_bound(tree, reach) for tree in model.estimators_]))
    if predicts_as(DecisionTreeRegressor):
        return _largest_row(model.tree_.value)  # (n_nodes, n_outputs, 1)
    if predicts_as(KNeighborsRegressor) and model.weights in ("uniform", "distance"):
        return _largest_row(model._y)
    if predicts_as(GaussianProcessRegressor) and model.kernel_.is_stationary():
        # Mean plus scale times Σ k(x, xᵢ) αᵢ, where |k(x, xᵢ)| ≤ k(x, x), a constant.
        largest = float(model.kernel_.diag(model.X_train_[:1])[0])
        alpha = np.abs(model.alpha_.reshape(len(model.X_train_), -1)).sum(axis=0)
        mean, spread = np.atleast_1d(model._y_train_mean), np.atleast_1d(model._y_train_std)
        return float(np.linalg.norm(np.abs(mean) + spread * alpha * largest))
    if predicts_as(LinearModel):
        coef = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
        return float(np.linalg.norm(coef, 2) * reach + np.linalg.norm(model.intercept_))
    return None


def _largest_row(values: Any) -> float:
    """Return the largest Euclidean norm of rows, however they are shaped."""
    rows = np.asarray(values, dtype=np.float64)
    return float(np.linalg.norm(rows.reshape(len(rows), -1), axis=1).max())


def _ball_bound(form: ModelForm, center: NDArray, radius: float) -> float:
    """Bound a baseline and a perceptron on a ball: by intervals, and by Lipschitz constants.

    The first layer's range on the ball is known exactly, wᵢᵀc ± ‖wᵢ‖₂ r. What follows is the
    smaller of two bounds: intervals layer after layer, or the value at the centre plus the radius
    times the product of the layers' norms.
    """
    from ._rules import ACTIVATIONS

    value = form.constant + (center - form.origin) @ form.matrix
    spread = np.linalg.norm(form.matrix, axis=0) * radius
    slope = float(np.linalg.norm(form.matrix, 2)) if form.matrix.any() else 0.0
    series = 0.0
    if form.taylor is not None:
        # The j-th term's derivative is at most j ‖A₀⁻¹‖₂^(j+1) ‖E‖^(j−1), E = A − A₀.
        base, inverse, order = form.taylor
        e = np.linalg.norm(center - base.ravel()) + radius  # of NumPy's numbers powers overflow
        size = np.linalg.norm(inverse, 2)
        growth = sum(j * size ** (j + 1) * e ** (j - 1) for j in range(1, order + 1))
        series = float(np.linalg.norm(taylor(center[None], base, inverse, order)) + radius * growth)
    middle, half = np.zeros_like(value), np.zeros_like(value)
    at_center, product = middle, 0.0
    layers = form.layers_around(center)
    if layers:
        (W, middle), *others = layers
        half = np.linalg.norm(W, axis=1) * radius
        at_center, product = middle, float(np.linalg.norm(W, 2))
        for W, b in others:
            low, high = _interval(form.activation, middle - half, middle + half)
            middle, half = W @ ((low + high) / 2) + b, np.abs(W) @ ((high - low) / 2)
            at_center = W @ _value(form.activation, at_center) + b
            product *= float(np.linalg.norm(W, 2)) * ACTIVATIONS[form.activation][0]
    intervals = np.linalg.norm(np.abs(value + middle) + spread + half)
    constants = np.linalg.norm(value + at_center) + radius * (slope + product)
    return (min(float(intervals), float(constants)) + series) * (1 + 1e-9)


def _value(activation: str, z: NDArray) -> NDArray:
    from scipy.special import expit

    functions = {
        "relu": lambda z: np.maximum(z, 0.0),
        "tanh": np.tanh,
        "silu": lambda z: z * expit(z),
        "logistic": expit,
        "identity": lambda z: z,
    }
    return functions[activation](z)


def _interval(activation: str, low: NDArray, high: NDArray) -> tuple[NDArray, NDArray]:
    """Return the range of an activation between two arrays."""
    first, last = _value(activation, low), _value(activation, high)
    if activation != "silu":
        return first, last
    lowest = np.where((low <= _SILU_AT) & (high >= _SILU_AT), _SILU_LOWEST, np.minimum(first, last))
    return lowest, np.maximum(first, last)
