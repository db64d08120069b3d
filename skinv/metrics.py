"""Errors of approximate inverses, and a scorer that knows the distance to the singular matrices."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal

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
from ._arrays.shapes import Leading, as_stack, refuse_flattened, refuse_no_rows
from ._arrays.words import ErrorMetric, Norm
from ._linalg.products import exact_pseudo_inverse
from .geometry import distance_to_singularity
from .geometry._drawing import keeps_distance
from .geometry._regions import row_norms
from .geometry._shapes import matrix_rows
from .learn.regressor import warn_of_unanswered

__all__ = ["SingularDistanceScorer", "absolute_errors", "relative_errors", "residual_norms"]


def __dir__() -> list[str]:
    return __all__


def absolute_errors(Y: ArrayLike, Y_pred: ArrayLike) -> NDArray[np.float64]:
    """Return the mean absolute error over the entries of each matrix.

    Parameters
    ----------
    Y, Y_pred : array-like of shape (n, n) or (..., n, m)
        Inverses, or pseudo-inverses, and their approximations.

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
    Y, Y_pred : array-like of shape (n, n) or (..., n, m)
        Inverses, or pseudo-inverses, and their approximations.

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
    Of tall matrices it is ‖I − Y·A‖_F. Of pseudo-inverses it bounds what A sees of the error only,
    A⁺A(A⁺ − Y) or (A⁺ − Y)AA⁺; :func:`skinv.pinv` bounds all of it.

    Parameters
    ----------
    X : array-like of shape (n, n) or (..., m, n)
        Matrices.
    Y_pred : array-like of shape (n, n) or (..., n, m)
        Approximations of their inverses, or pseudo-inverses.

    Returns
    -------
    float or ndarray of shape (...)

    Examples
    --------
    >>> residual_norms([[[2.0, 0.0], [0.0, 4.0]]], [[[0.5, 0.0], [0.0, 0.2]]])
    array([0.2])
    """
    return _of_each(_residual, X, Y_pred, transposed=True)


def _of_each(
    metric: Callable, Y: Any, Y_pred: Any, *, transposed: bool = False
) -> NDArray[np.float64]:
    """Return a metric in double precision, a number for each matrix as these came."""
    pair = [floating(as_array(to_host(array)), True, exact=False) for array in (Y, Y_pred)]
    some = pair[1] if np.iscomplexobj(pair[1]) else pair[0]
    refuse_flattened(some)
    square = some.shape[-1] == some.shape[-2]
    came = Leading.of(some) if square else Leading(some.shape[:-2])
    shapes = [array.shape for array in pair]
    if transposed and len(shapes[1]) > 1:
        shapes[1] = (*shapes[1][:-2], *shapes[1][:-3:-1])
    if shapes[0] != shapes[1]:
        raise _mismatch(Y, Y_pred)
    count = math.prod(came.shape)
    return came.numbers(metric(*(array.reshape(count, *array.shape[-2:]) for array in pair)))


def _row_pair(Y: Any, Y_pred: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return targets and predictions of an estimator as float64 rows of one shape."""
    pair = []
    for array in (Y, Y_pred):
        rows = real_array(matrix_rows(to_host(array))[0], "matrices")
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
        return np.abs(_flat(Y_pred - Y)).mean(axis=1)


def _relative(Y: NDArray, Y_pred: NDArray) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        return row_norms(np.abs(_flat(Y_pred - Y))) / row_norms(np.abs(_flat(Y)))


def _residual(A: NDArray, Y_pred: NDArray) -> NDArray[np.float64]:
    m, n = A.shape[1:]
    if math.prod(Y_pred.shape[1:]) != m * n:
        raise ValueError(
            f"Got predictions of shape {Y_pred.shape}, but residuals are those of inverses, of "
            f"{n} × {m} entries each."
        )
    Y_pred = Y_pred.reshape(len(A), n, m)
    with np.errstate(over="ignore", invalid="ignore"):
        residual = np.eye(min(m, n)) - (Y_pred @ A if m > n else A @ Y_pred)
        return row_norms(np.abs(_flat(residual)))


def _flat(stack: NDArray) -> NDArray:
    return stack.reshape(len(stack), math.prod(stack.shape[1:]))


# name: error per matrix, from a stack, true and predicted targets. A scorer returns the negative.
_METRICS: dict[str, Callable[[NDArray, NDArray, NDArray], NDArray]] = {
    "neg_mean_absolute_error": lambda X, Y, Y_pred: _absolute(Y, Y_pred),
    "neg_root_mean_squared_error": lambda X, Y, Y_pred: np.mean((Y - Y_pred) ** 2, axis=1),
    "neg_max_error": lambda X, Y, Y_pred: np.abs(Y - Y_pred).max(axis=1),
    "neg_relative_error": lambda X, Y, Y_pred: _relative(Y, Y_pred),
    "neg_residual": lambda A, Y, Y_pred: _residual(A, Y_pred),
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
        Matrices closer than this to a singular one, or one without full rank, are left out; it is
        in the units of their entries, of which the smallest ones count where these differ. Those
        that cannot be shown to be regular, in whatever units, always are. So are those that the
        estimator answers by NaN, because they are not finite or outside a region, and a warning
        says how many.
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
        metric: ErrorMetric | Callable[..., ArrayLike] = "neg_mean_absolute_error",
        *,
        norm: Norm = "l2",
        min_distance: float = 0.0,
        weighting: Literal["distance", "inverse_distance"] | None = None,
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
        X : array-like of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            Test matrices; parameters for a :class:`CertifiedInverse` with a `family`.
        y : array-like of shape (n_samples, n_targets), default=None
            True targets; None computes the exact inverses, or pseudo-inverses.
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
        rows, _, shape = matrix_rows(matrices)
        rows = real_array(rows, "X")
        refuse_no_rows(rows, "X")
        stack = as_stack(rows) if shape is None else rows.reshape(len(rows), *shape)
        distance = distance_to_singularity(stack, self.norm, return_bounds=True).lower
        least = float(real_array(self.min_distance, "min_distance"))
        index = np.flatnonzero(keeps_distance(stack, self.norm, least) & (distance > 0))
        if index.size == 0:
            raise _nothing_left(self, distance)
        if y is None:
            target = exact_pseudo_inverse(stack[index]).reshape(index.size, -1)
        else:
            target = real_array(matrix_rows(to_host(y))[0], "y")
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
        with np.errstate(all="ignore"):
            if callable(self.metric):
                error = self.metric(rows[index], target, predicted)
            else:
                error = _METRICS[self.metric](stack[index], target, predicted)
            error = real_array(error, "errors")
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
