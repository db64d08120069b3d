"""Certificates of estimators, and how large their predictions can be on a ball of matrices."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .._arrays.conversion import loaded_torch
from .._arrays.estimators import unwrapped
from .._linalg.form import ModelForm, defined_in, form_of
from ..geometry._distance import check_distance_norm
from ..learn.linear import taylor
from ._calculus import add, compose, matrix_product, scale
from ._certificates import PolynomialLipschitz, constant, identity, vector_norm
from ._coefficients import DUST, TINY, evaluated, hypotenuse, product, raised, total

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
        point adds is not covered. Tensors that forward computes without its input count as torch
        computes them. Of a tuple, the first entry counts.

    Raises
    ------
    ValueError
        For modules and functions without a rule (they are named, and :func:`register_rule` is
        pointed to), for those that are not polynomially Lipschitz (division by what may be 0,
        LayerNorm with eps = 0), for what is no function of one input (mixing samples, remembering
        or changing anything that outlives the call, drawing at random), for bounds beyond float64
        or of a degree above 4096, and where the input shape is needed.

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
    check_distance_norm(norm)
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
    """Return the torch module that a model is or, like a skorch net, holds; or None."""
    torch = loaded_torch()
    if torch is None:
        return None
    candidates = (model, getattr(model, "module_", None))
    return next((m for m in candidates if isinstance(m, torch.nn.Module)), None)


def torch_module(model: Any) -> Any:
    """Return the torch module that a model is, or whose output a skorch net predicts; or None.

    None also for nets that change what their module returns.
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


# Sums of n rounded products are off by less than this times n times the sum of absolute values.
_ROUNDING = 1e-14


def certificate_of(form: ModelForm, norm: str) -> PolynomialLipschitz:
    """Return the certificate of a baseline plus a perceptron."""
    from ._rules import activation, dense, induced_norm

    offset = _with_rounding(form.constant, form.matrix.T, -form.origin)
    parts = [dense(form.matrix.T, offset, (), norm)]
    if form.taylor is not None:
        center, inverse, order = form.taylor
        # Σ (−A₀⁻¹E)ʲ A₀⁻¹ with E = A − A₀; A₀⁻¹E is a map of the columns of E.
        E = add(identity(norm), constant(vector_norm(center, norm), norm))
        G = scale(E, induced_norm(inverse, norm))
        terms = [constant(vector_norm(inverse, norm), norm)]
        for _ in range(order):
            terms.append(matrix_product(G, terms[-1], len(center)))
        parts.extend(terms)
    if form.layers:
        (W, b), *others = form.layers
        # On a itself: W (a − mean)/scale + b.
        with np.errstate(all="ignore"):
            divided = W / form.x_scale
            divided = np.where(W != 0, np.copysign(np.maximum(np.abs(divided), TINY), W), 0.0)
        b = _with_rounding(b, divided, -form.x_mean)
        network = dense(divided, b, (), norm)
        for W, b in others:
            network = compose(activation(form.activation, W.shape[1], norm), network)
            network = compose(dense(W, b, (), norm), network)
        parts.append(network)
    return add(*parts)


def _with_rounding(b: NDArray, W: NDArray, x: NDArray) -> NDArray:
    """Return W x + b in absolute value, and what rounding of it may be above that."""
    with np.errstate(all="ignore"):
        sums = np.abs(b) + np.abs(W) @ np.abs(x)
        some = (W != 0) @ (x != 0)  # and where products vanish
        return np.abs(b + W @ x) + np.where(some, len(x) * (_ROUNDING * sums + 2 * TINY), 0.0)


def magnitude_bound(model: Any, center: NDArray, radius: float) -> float:
    """Bound the Frobenius norm of predictions on a ball, or raise where nothing is known.

    Trees, forests and nearest neighbours predict averages of stored targets.
    """
    model = unwrapped(model)
    form = form_of(model)
    reach = total(vector_norm(center, "l2"), radius)
    if form is not None:
        on_ball = _ball_bound(form, center, radius)
        try:
            return min(on_ball, evaluated(certificate_of(form, "l2").B, reach))
        except ValueError:  # beyond float64, or the degree that is followed
            return on_ball
    network = torch_module(model)
    if network is not None:
        from ._walk import walk

        # Around zero, and around the centre.
        around = ((None, reach), (center, radius))
        return min(evaluated(walk(network, "l2", (center.size,), c).B, t) for c, t in around)
    known = _stored_bound(model, reach)
    if known is None:
        raise ValueError(
            f"Got a {type(model).__name__}, of whose predictions no bound is known; pass "
            f"magnitude=M with a bound of their Frobenius norm (for a pipeline or a search that "
            f"ends in a forest, for instance, the largest norm of a training target)."
        )
    return known * (1 + 1e-9)


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
        sizes = np.maximum(spread * alpha * largest, TINY * ((spread != 0) & (alpha != 0)))
        return vector_norm(np.abs(mean) + sizes, "l2")
    if predicts_as(LinearModel):
        from ._rules import induced_norm

        size = induced_norm(np.atleast_2d(np.asarray(model.coef_, dtype=np.float64)), "l2")
        return total(product(size, reach), vector_norm(model.intercept_, "l2"))
    return None


def _largest_row(values: Any) -> float:
    """Return the largest Euclidean norm of rows, however they are shaped."""
    rows = raised(np.abs(np.asarray(values, dtype=np.float64)))
    return float(hypotenuse(rows.reshape(len(rows), -1).T).max())


def _ball_bound(form: ModelForm, center: NDArray, radius: float) -> float:
    """Bound a baseline and a perceptron on a ball: by intervals, and by Lipschitz constants.

    The first layer's range on the ball is known exactly, wᵢᵀc ± ‖wᵢ‖₂ r. What follows is the
    smaller of two bounds: intervals layer after layer, or the value at the centre plus the radius
    times the product of the layers' norms.
    """
    from ._rules import ACTIVATIONS, induced_norm

    away = center - form.origin
    value = form.constant + away @ form.matrix
    spread = hypotenuse(np.abs(form.matrix)) * radius
    slope = induced_norm(form.matrix, "l2")
    # What all of the following sums to in absolute value, to bound rounding by.
    sums = np.abs(form.constant) + np.abs(away) @ np.abs(form.matrix) + spread + DUST
    series = 0.0 if form.taylor is None else _series_bound(center, radius, *form.taylor)
    middle, half = np.zeros_like(value), np.zeros_like(value)
    at_center, growth, size = middle, 0.0, len(center)
    layers = form.layers_around(center)
    if layers:
        (W, middle), *others = layers
        half = hypotenuse(np.abs(W).T) * radius
        at_center, growth = middle, induced_norm(W, "l2")
        around = np.abs(center - form.x_mean) / form.x_scale
        parts = np.abs(form.layers[0][1]) + np.abs(form.layers[0][0]) @ around + half + DUST
        steepest, at_zero, _ = ACTIVATIONS[form.activation]
        for W, b in others:
            low, high = _interval(form.activation, middle - half, middle + half)
            middle, half = W @ ((low + high) / 2) + b, np.abs(W) @ ((high - low) / 2)
            at_center = W @ _VALUES[form.activation](at_center) + b
            growth = product(growth, induced_norm(W, "l2"), steepest)
            parts = np.abs(W) @ (steepest * parts + at_zero) + np.abs(b) + DUST
        sums = sums + parts
        size = max(size, *(max(W.shape) for W, _ in layers)) * len(layers)
    intervals = vector_norm(np.abs(value + middle) + spread + half, "l2")
    constants = total(vector_norm(value + at_center, "l2"), product(radius, total(slope, growth)))
    rounding = product(_ROUNDING, size, vector_norm(sums, "l2"))
    return total(min(intervals, constants), series, rounding) * (1 + 1e-9)


def _series_bound(
    center: NDArray, radius: float, base: NDArray, inverse: NDArray, order: int
) -> float:
    """Bound the Taylor series of the inverse on a ball."""
    from ._rules import induced_norm

    # The j-th term's derivative is at most j ‖A₀⁻¹‖₂^(j+1) ‖E‖^(j−1), E = A − A₀.
    size, sizes = induced_norm(inverse, "l2"), vector_norm(inverse, "l2")
    q = product(size, total(vector_norm(center - base.ravel(), "l2"), radius))
    # In absolute values, with those of A and A₀ themselves, to bound rounding by.
    r = product(sizes, total(vector_norm(center, "l2"), vector_norm(base, "l2"), radius))
    growth = sums = 0.0
    for j in range(order, 0, -1):
        growth, sums = total(product(growth, q), j), total(product(sums, r), j + 1)
    sums = product(total(product(sums, r), 1), sizes, _ROUNDING, base.size)
    at_center = vector_norm(taylor(center[None], base, inverse, order), "l2")
    return total(at_center, product(radius, growth, size, size), sums)


_VALUES: dict[str, Callable[[NDArray], NDArray]] = {
    "relu": lambda z: np.maximum(z, 0.0),
    "tanh": np.tanh,
    "silu": lambda z: z * expit(z),
    "logistic": expit,
    "identity": lambda z: z,
}


def _interval(activation: str, low: NDArray, high: NDArray) -> tuple[NDArray, NDArray]:
    """Return the range of an activation between two arrays."""
    first, last = (_VALUES[activation](z) for z in (low, high))
    if activation != "silu":
        return first, last
    lowest = np.where((low <= _SILU_AT) & (high >= _SILU_AT), _SILU_LOWEST, np.minimum(first, last))
    return lowest, np.maximum(first, last)
