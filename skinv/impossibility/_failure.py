"""failure_distance: how near to a singular matrix a model is sure to fail."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from .._arrays.conversion import real_array
from .._arrays.estimators import unwrapped
from .._arrays.shapes import matrix_order
from .._linalg.form import ModelForm, defined_in, form_of
from .._linalg.inverses import check_center
from ..learn.linear import taylor
from ._certificates import vector_norm
from ._coefficients import DUST, TINY, evaluated, hypotenuse, product, raised, total
from ._models import ROUNDING, Predictions, certificate_of, torch_module

# SiLU falls down to this value, at this place, and rises from there.
_SILU_LOWEST, _SILU_AT = -0.27846454276107, -1.27846454276107


def failure_distance(
    model: Any,
    radius: float,
    error: float = 1.0,
    *,
    center: Any = None,
    magnitude: float | None = None,
) -> float:
    """Return the distance to a singular matrix below which a model errs by more than `error`.

    Every nonsingular matrix A of the ball ‖A − center‖_F ≤ radius that is nearer than this to a
    singular one (its smallest singular value is smaller) has an approximate inverse that is wrong
    by more than `error`, in the spectral norm. No sampling is involved: the model's predictions are
    bounded on the ball, and inverses are not.

    Parameters
    ----------
    model : fitted estimator or torch.nn.Module
        Predicts inverses from rows of n*n entries: torch modules and skorch nets (see
        :func:`polynomial_lipschitz`), estimators of skinv but for
        :class:`~skinv.CertifiedInverse`, scikit-learn's ``MLPRegressor``, linear models, trees,
        forests, nearest neighbours, and Gaussian processes with stationary kernels.
    radius : float
        Radius of the ball in the Frobenius norm. A box of half-width δ lies in that of n δ.
    error : float, default=1.0
        The error to exceed.
    center : array-like of shape (n, n) or (n*n,), default=None
        Centre of the ball; None is the zero matrix.
    magnitude : float, default=None
        A bound of ‖f(A)‖_F on the ball, for other models or where a better one is known; then the
        model is not looked at.

    Returns
    -------
    float
        1 / (error + M), where M bounds the predictions on the ball; 0 if nothing finite bounds
        them. If it is smaller than the distance of all matrices of the ball to the singular ones
        it says nothing about the ball. It holds for the model in exact arithmetic; single
        precision adds some 1e-7 of M.

    Raises
    ------
    ValueError
        For a model without a known bound, one that is not fitted or predicts no inverses of the
        center's size, or if parameters are negative or not finite.

    See Also
    --------
    counterexample : A matrix at which a model fails, explicitly.

    Notes
    -----
    ‖A⁻¹‖₂ = 1/d_2(A), so d_2(A) < 1/(error + M) gives ‖f(A) − A⁻¹‖₂ ≥ ‖A⁻¹‖₂ − ‖f(A)‖₂ > error;
    ‖f(A)‖₂ ≤ ‖f(A)‖_F ≤ M. M is the smallest of what the polynomial B of
    :func:`polynomial_lipschitz` gives, of the prediction at the centre plus the radius times a
    Lipschitz constant, and, for perceptrons, of intervals carried through the layers. After Ji, Wu
    and Xi (2025), "Rethinking Neural-based Matrix Inversion: Why can't, and Where can".

    Examples
    --------
    >>> from skinv import LinearInverseApprox
    >>> model = LinearInverseApprox([[3.0, 1.0], [1.0, 2.0]]).fit()
    >>> d = failure_distance(model, radius=1.0, error=100.0, center=[[3.0, 1.0], [1.0, 2.0]])
    >>> 0.009 < d < 0.01
    True
    """
    positive = [Interval(Real, 0, None, closed="left")]
    validate_parameter_constraints(
        {"radius": positive, "error": positive, "magnitude": [*positive, None]},
        {"radius": radius, "error": error, "magnitude": magnitude},
        "failure_distance",
    )
    radius, error = float(real_array(radius, "radius")), float(real_array(error, "error"))
    if magnitude is not None:
        magnitude = float(real_array(magnitude, "magnitude"))
    else:
        model = unwrapped(model)
        if hasattr(model, "fit"):
            check_is_fitted(model)
        if hasattr(model, "_model_form"):
            model._model_form()  # raises for models of something else than inverses
        A = np.zeros(2 * (_order(model),)) if center is None else check_center(center)
        # Raises for matrices of another size.
        Predictions(model, len(A))(A[None])
        with np.errstate(over="ignore", invalid="ignore"):
            magnitude = magnitude_bound(model, A.ravel(), radius)
        magnitude = np.inf if np.isnan(magnitude) else magnitude
    with np.errstate(divide="ignore"):
        distance = np.float64(1.0) / (error + magnitude) * (1 - 2.0**-50)
        return float(np.nextafter(distance, 0.0))


def _order(model: Any) -> int:
    """Return the order of the matrices that a model takes."""
    form, network = form_of(model), torch_module(model)
    if form is not None:
        return matrix_order(form.origin.size)
    if network is not None:
        from ._tracing import as_leaf, first_input

        try:
            return matrix_order(math.prod(first_input(as_leaf(network))))
        except ValueError as exception:
            raise ValueError(
                f"The size of the matrices that a {type(model).__name__} takes is not known: pass "
                f"center."
            ) from exception
    if not hasattr(model, "n_features_in_"):
        raise ValueError(
            f"The size of the matrices that a {type(model).__name__} takes is not known: pass "
            f"center, and a model with a predict method."
        )
    return matrix_order(int(model.n_features_in_))


def magnitude_bound(model: Any, center: NDArray, radius: float) -> float:
    """Bound the Frobenius norm of predictions on a ball, or raise where nothing is known.

    Trees, forests and nearest neighbours predict averages of stored targets.
    """
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
    rounding = product(ROUNDING, size, vector_norm(sums, "l2"))
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
    sums = product(total(product(sums, r), 1), sizes, ROUNDING, base.size)
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
