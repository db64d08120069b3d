"""failure_distance: how near to a singular matrix a model is sure to fail."""

import math
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from .._arrays.conversion import real_array
from .._arrays.estimators import unwrapped
from .._arrays.shapes import matrix_order
from .._linalg.form import form_of
from .._linalg.inverses import check_center
from ._models import magnitude_bound, torch_module
from ._predictions import Predictions


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
