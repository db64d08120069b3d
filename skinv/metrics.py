"""Errors of approximate inverses, and a scorer that knows the distance to the singular matrices."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import _check_sample_weight

from ._arrays.conversion import as_array, floating, real_array, to_host
from ._arrays.estimators import private, reads_only, unwrapped
from ._arrays.results import DistanceProfile
from ._arrays.rows import expecting_unanswered, numbered
from ._arrays.shapes import Leading, as_stack, flatten_stack, refuse_no_rows
from ._linalg.products import exact_inverse
from .geometry import distance_to_singularity
from .geometry._drawing import keeps_distance
from .geometry._regions import row_norms
from .learn.regressor import warn_of_unanswered

__all__ = ["SingularDistanceScorer", "absolute_errors", "relative_errors", "residual_norms"]


def __dir__() -> list[str]:
    return __all__


def absolute_errors(Y: ArrayLike, Y_pred: ArrayLike) -> NDArray[np.float64]:
    """Return the mean absolute error over the entries of each matrix.

    Parameters
    ----------
    Y, Y_pred : array-like of shape (n, n) or (..., n, n)
        Inverses and their approximations.

    Returns
    -------
    float or ndarray of shape (...)

    Examples
    --------
    >>> float(absolute_errors([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 5.0]]))
    0.25
    """
    return _of_each(_absolute, Y, Y_pred)


def relative_errors(Y: ArrayLike, Y_pred: ArrayLike) -> NDArray[np.float64]:
    """Return ‖Y_pred − Y‖_F / ‖Y‖_F of each matrix.

    Parameters
    ----------
    Y, Y_pred : array-like of shape (n, n) or (..., n, n)
        Inverses and their approximations.

    Returns
    -------
    float or ndarray of shape (...)

    Examples
    --------
    >>> relative_errors([[[3.0, 0.0], [0.0, 4.0]]], [[[3.0, 0.0], [0.5, 4.0]]])
    array([0.1])
    """
    return _of_each(_relative, Y, Y_pred)


def residual_norms(X: ArrayLike, Y_pred: ArrayLike) -> NDArray[np.float64]:
    """Return ‖I − A·Y‖_F of each matrix A and its approximate inverse Y.

    Below 1 it is a bound on the relative error ‖A⁻¹ − Y‖ / ‖A⁻¹‖, up to the rounding of the
    residual itself (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 14.1).

    Parameters
    ----------
    X, Y_pred : array-like of shape (n, n) or (..., n, n)
        Matrices and approximations of their inverses.

    Returns
    -------
    float or ndarray of shape (...)

    Examples
    --------
    >>> residual_norms([[[2.0, 0.0], [0.0, 4.0]]], [[[0.5, 0.0], [0.0, 0.2]]])
    array([0.2])
    """
    return _of_each(_residual, X, Y_pred)


def _of_each(metric: Callable, Y: Any, Y_pred: Any) -> NDArray[np.float64]:
    """Return a metric of rows in double precision, a number for each matrix as these came."""
    pair = [floating(as_array(to_host(array)), True, exact=False) for array in (Y, Y_pred)]
    came = Leading.of(pair[1] if np.iscomplexobj(pair[1]) else pair[0])
    if pair[0].shape != pair[1].shape:
        raise _mismatch(Y, Y_pred)
    return came.numbers(metric(*(array.reshape(-1, array.shape[-1] ** 2) for array in pair)))


def _row_pair(Y: Any, Y_pred: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return targets and predictions of an estimator as float64 rows of one shape."""
    pair = []
    for array in (Y, Y_pred):
        rows = real_array(flatten_stack(to_host(array))[0], "matrices")
        pair.append(rows.reshape(len(rows), math.prod(rows.shape[1:])) if rows.ndim else rows)
    if pair[0].shape != pair[1].shape or pair[0].ndim == 0:
        raise _mismatch(Y, Y_pred)
    return pair[0], pair[1]


def _mismatch(Y: Any, Y_pred: Any) -> ValueError:
    return ValueError(
        f"Got arrays of shapes {np.shape(Y)} and {np.shape(Y_pred)}, which do not match: pass two "
        f"for the same matrices."
    )


def _absolute(Y: NDArray, Y_pred: NDArray) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.abs(Y_pred - Y).mean(axis=1)


def _relative(Y: NDArray, Y_pred: NDArray) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        return row_norms(np.abs(Y_pred - Y)) / row_norms(np.abs(Y))


def _residual(X: NDArray, Y_pred: NDArray) -> NDArray[np.float64]:
    A = as_stack(X)
    with np.errstate(over="ignore", invalid="ignore"):
        residual = np.eye(A.shape[-1]) - A @ as_stack(Y_pred)
        return row_norms(np.abs(residual).reshape(X.shape))


# name: error per matrix, from matrices, true and predicted targets. A scorer returns the negative.
_METRICS: dict[str, Callable[[NDArray, NDArray, NDArray], NDArray]] = {
    "neg_mean_absolute_error": lambda X, Y, Y_pred: _absolute(Y, Y_pred),
    "neg_root_mean_squared_error": lambda X, Y, Y_pred: np.mean((Y - Y_pred) ** 2, axis=1),
    "neg_max_error": lambda X, Y, Y_pred: np.abs(Y - Y_pred).max(axis=1),
    "neg_relative_error": lambda X, Y, Y_pred: _relative(Y, Y_pred),
    "neg_residual": lambda X, Y, Y_pred: _residual(X, Y_pred),
}


class SingularDistanceScorer(BaseEstimator):
    """Score a regressor of inverses on the matrices that keep away from the singular ones.

    The mean error of every continuous approximation of the inverse is infinite over all matrices
    (Ji, Wu and Xi 2025, "Rethinking Neural-based Matrix Inversion: Why can't, and Where can"), and
    over some drawn at random it is dominated by the few nearest to singular ones. This scorer
    leaves out what is too near, may weight the rest by distance, and can show the error against the
    distance. It is a callable as scikit-learn expects it for ``scoring``.

    Parameters
    ----------
    metric : str or callable, default="neg_mean_absolute_error"
        "neg_mean_absolute_error" and "neg_root_mean_squared_error" (over entries and matrices),
        "neg_max_error" (largest entry, averaged over matrices), "neg_relative_error" (Frobenius),
        "neg_residual" (‖I − AX‖_F), or a function ``metric(X, y, y_pred)`` of rows that returns an
        error per matrix, whose negative is averaged.
    norm : {"l2", "l1", "linf"}, default="l2"
        Norm of the distance.
    min_distance : float, default=0.0
        Matrices closer than this to a singular one are left out; it is in the units of their
        entries, of which the smallest ones count where these differ. Those that cannot be shown to
        be regular, in whatever units, always are. So are those that the estimator answers by NaN,
        because they are not finite or outside a region, and a warning says how many.
    weighting : {"distance", "inverse_distance"}, default=None
        Weight of each matrix in the average; None weights all alike.

    See Also
    --------
    sklearn.metrics.make_scorer : Scorers that know nothing of distances.

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, LinearInverseApprox
    >>> X, Y = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit().sample(100)
    >>> scorer = SingularDistanceScorer(min_distance=0.5)
    >>> -0.1 < scorer(LinearInverseApprox().fit(X), X) < 0
    True
    """

    # `estimator` is an argument of the call, not metadata to be routed.
    __metadata_request__score = {"estimator": UNUSED}

    _parameter_constraints: dict[str, list] = {
        "metric": [StrOptions(set(_METRICS)), callable],
        "norm": [StrOptions({"l1", "l2", "linf"})],
        "min_distance": [Interval(Real, 0, None, closed="left")],
        "weighting": [StrOptions({"distance", "inverse_distance"}), None],
    }

    def __init__(
        self,
        metric: str | Callable[..., ArrayLike] = "neg_mean_absolute_error",
        *,
        norm: str = "l2",
        min_distance: float = 0.0,
        weighting: str | None = None,
    ) -> None:
        self.metric = metric
        self.norm = norm
        self.min_distance = min_distance
        self.weighting = weighting

    def __call__(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score a fitted estimator; see :meth:`score`."""
        return self.score(estimator, X, y, sample_weight=sample_weight)

    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : object with a ``predict`` method
            Regressor or pipeline.
        X : array-like of shape (n_samples, n*n) or (n_samples, n, n)
            Test matrices; parameters for a :class:`CertifiedInverse` with a `family`.
        y : array-like of shape (n_samples, n_targets), default=None
            True targets; None computes the exact inverses.
        sample_weight : array-like of shape (n_samples,), default=None
            Further weights of the matrices.

        Returns
        -------
        float
            The negative average error: larger is better. NaN if no matrix is answered.

        Raises
        ------
        ValueError
            If no matrix is regular and at least `min_distance` from a singular one, for targets,
            predictions or errors of a wrong shape, and for weights of which none is positive.
        TypeError
            For an estimator that does not predict.
        """
        error, distance, index = self._errors(estimator, X, y)
        if index.size == 0:
            return float("nan")
        weight = _check_sample_weight(sample_weight, to_host(X), dtype=np.float64)[index]
        with np.errstate(over="ignore"):
            if self.weighting == "distance":
                weight = weight * distance
            elif self.weighting == "inverse_distance":
                weight = weight / distance
        if not weight.sum() > 0:
            raise ValueError(
                f"Got weights of sum {weight.sum():g}, over which nothing can be averaged; some "
                f"must be positive."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            average = np.average(error, weights=weight)
        if self.metric == "neg_root_mean_squared_error":
            average = np.sqrt(average)
        return -float(average)

    def profile(self, estimator: Any, X: Any, y: Any = None, n_bins: int = 10) -> DistanceProfile:
        """Return the error against the distance to the singular matrices.

        Parameters
        ----------
        estimator, X, y
            As for :meth:`score`.
        n_bins : int, default=10
            Number of bins, of (nearly) equally many matrices each.

        Returns
        -------
        DistanceProfile
            A Bunch. ``distance`` (n_bins,): the mean distance in each bin, ascending. ``error``,
            ``error_max`` (n_bins,): the mean and largest error per matrix. ``count`` (n_bins,).
            ``edges`` (n_bins + 1,): distances between the bins. ``n_left_out``: matrices closer
            than `min_distance`. For the squared metric errors are root mean squares.

        Raises
        ------
        ValueError
            If fewer matrices than bins remain, and as for :meth:`score`.
        """
        validate_parameter_constraints(
            {"n_bins": [Interval(Integral, 1, None, closed="left")]}, {"n_bins": n_bins}, "profile"
        )
        error, distance, index = self._errors(estimator, X, y)
        n_bins = int(n_bins)
        if len(distance) < n_bins:
            raise ValueError(
                f"Got n_bins={n_bins}, but only {len(distance)} matrices remain; pass more of "
                f"them, or use fewer bins or a smaller min_distance."
            )
        root = np.sqrt if self.metric == "neg_root_mean_squared_error" else lambda value: value
        bins = np.array_split(np.argsort(distance, kind="stable"), n_bins)
        ends = [distance[b[0]] for b in bins] + [distance[bins[-1][-1]]]
        with np.errstate(over="ignore", invalid="ignore"):
            return DistanceProfile(
                distance=np.array([distance[b].mean() for b in bins]),
                error=np.array([root(error[b].mean()) for b in bins]),
                error_max=np.array([root(error[b].max()) for b in bins]),
                count=np.array([len(b) for b in bins]),
                edges=np.array(ends),
                n_left_out=len(to_host(X)) - len(index),
            )

    def _errors(self, estimator: Any, X: Any, y: Any) -> tuple[NDArray, NDArray, NDArray]:
        """Return error and distance of the matrices that count, and which ones these are."""
        self._validate_params()
        if not hasattr(estimator, "predict"):
            raise TypeError(f"Got {estimator!r}, but an estimator that predicts is expected.")
        X = to_host(X)
        family = getattr(unwrapped(estimator), "family", None)
        matrices = X if family is None else np.array(family(np.array(X)))  # of parameters
        rows = real_array(flatten_stack(matrices)[0], "X")
        refuse_no_rows(rows, "X")
        stack = as_stack(rows)
        distance = distance_to_singularity(stack, self.norm, return_bounds=True).lower
        least = float(real_array(self.min_distance, "min_distance"))
        index = np.flatnonzero(keeps_distance(stack, self.norm, least) & (distance > 0))
        if index.size == 0:
            raise _nothing_left(self, distance)
        if y is None:
            target = exact_inverse(stack[index]).reshape(index.size, -1)
        else:
            target = real_array(flatten_stack(to_host(y))[0], "y")
            if target.ndim == 0 or len(target) != len(rows):
                raise ValueError(
                    f"Got y of shape {target.shape}, but targets of {len(rows)} matrices are "
                    f"expected."
                )
            target = target[index]
        given = X if index.size == len(rows) else _safe_indexing(X, index)
        with numbered(index, len(rows)), expecting_unanswered():  # it is told below
            predicted = estimator.predict(given if reads_only(estimator) else private(given))
        target, predicted = _row_pair(target, predicted)
        answered = np.atleast_1d(~np.isnan(predicted).any(axis=1))
        if not answered.all():
            warn_of_unanswered(answered)
            index, target, predicted = index[answered], target[answered], predicted[answered]
            if index.size == 0:
                return np.zeros(0), np.zeros(0), index
        metric = self.metric if callable(self.metric) else _METRICS[self.metric]
        with np.errstate(all="ignore"):
            error = real_array(metric(rows[index], target, predicted), "errors")
        if error.shape != (index.size,):
            raise ValueError(
                f"Got errors of shape {error.shape} from metric={self.metric!r}, but one for each "
                f"of {index.size} matrices is expected."
            )
        return error, distance[index], index


def _nothing_left(scorer: SingularDistanceScorer, distance: NDArray) -> ValueError:
    """Return what to raise where no matrix is left, for the distances of all."""
    largest = np.max(distance, initial=0.0, where=~np.isnan(distance))
    if not largest > 0:
        return ValueError(
            f"None of the {len(distance)} matrices could be shown to be regular: they are singular "
            f"to working precision, or not finite; pass other matrices."
        )
    return ValueError(
        f"None of the {len(distance)} matrices is at least min_distance={scorer.min_distance} "
        f"({scorer.norm}) from a singular one; the largest distance is {largest:.3g}, in the units "
        f"of their entries: use a smaller min_distance (0 leaves out singular matrices only), or "
        f"pass other matrices."
    )
