"""LinearInverseApprox: the Taylor approximations of the inverse, and the best affine one."""

import math
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight

from .._arrays.conversion import is_complex
from .._arrays.shapes import matrix_order
from .._arrays.training import targets_are_inverses, training_rows
from .._arrays.warned import warn
from .._linalg.form import ModelForm
from .._linalg.inverses import check_center, regular_inverse
from .._linalg.units import unit_exponents
from ..persistence import Fitted
from .inference.engine import Engine
from .inference.predictor import EnginePredictorMixin
from .streams import STREAM, MovingSeriesMixin
from .units import FitUnits

__all__ = ["LinearInverseApprox"]

# Variation of matrices below this share of their size is the rounding of computed data.
NOISE = 2.0**10 * np.finfo(np.float64).eps
# Directions in which matrices vary by less than this share of what they do in others say nothing of
# their inverses, but would be fitted with coefficients that no single-precision input is exact for.
_VARIATION = 1e-6
# Weights of samples in float64, which are not to be negative.
_checked_weight = partial(_check_sample_weight, dtype=np.float64, ensure_non_negative=True)
# Matrices at most for which convergence of the series is looked into.
_LOOKED_AT = 1000


class LinearInverseApprox(MovingSeriesMixin, EnginePredictorMixin, BaseEstimator):
    """Approximate inverses near a known matrix by a truncated series or a least-squares fit.

    Parameters
    ----------
    center : array-like of shape (n, n) or (n*n,), default=None
        Centre A₀ of the series. None takes the mean of the training matrices. Not used by
        ``method="lstsq"``.
    order : int, default=1
        Order k of the series. ``method="lstsq"`` is affine, of order 1.
    method : {"taylor", "lstsq"}, default="taylor"
        The Taylor series at the centre, which needs no training data if a centre is given, or the
        affine map with the least squared error over the training data; that of inverses is fitted
        in directions in which these vary by 1e-6 of their standard deviations at least.
    max_distance : float, default=0.2
        Matrices A with ‖I − A₀⁻¹A‖_F past this are a long way off for :meth:`partial_fit`.
    max_share : float, default=0.5
        Share of long ways past which it moves the centre.

    Attributes
    ----------
    center_ : ndarray of shape (n, n)
        The centre. Only for ``method="taylor"``.
    inverse_ : ndarray of shape (n, n)
        Its inverse. Only for ``method="taylor"``.
    coef_ : ndarray of shape (n_targets, n_features)
        Matrix of the affine map. Only if the map is affine: with "lstsq", or of order 1.
    intercept_ : ndarray of shape (n_targets,)
        Constant of the affine map. Only if the map is affine.
    n_moves_ : int
        How often :meth:`partial_fit` has moved the centre. Only after it has looked at a block.
    long_ways_ : float
        Share of long ways among the latest matrices since the last move. Only after it has, too.
    n_features_in_ : int
        n*n.

    See Also
    --------
    NeuralInverseRegressor : Learns what these leave.

    Notes
    -----
    With E = A − A₀ and B = A₀⁻¹ the series of order k is Σ_{j<=k} (−BE)ʲB. The residual is
    I − A·X = (−EB)^{k+1}, so the error is of order k + 1 in E, and the series converges where the
    spectral radius of BE is below 1 (Neumann). In the first order the map is affine, with matrix
    −B ⊗ Bᵀ on flattened rows and constant 2·vec B. Predictions are B(I + N + … + Nᵏ) with N = −EB,
    in k + 1 products, from order 5 on in fewer by (I + N)(I + N² + N⁴ + …), or in the first order
    up to n = 8 as that affine map. A refinement step on the first order is the third order, but for
    rounding. ``method="lstsq"`` fits inverses in units in which rows and columns of the training
    matrices are of one size.

    Matrices (m, n) that are not square come as a stack. What is learned is the inverse Z of the
    smaller of their Gram matrices AAᴴ and AᴴA, predicted is the pseudo-inverse AᴴZ or ZAᴴ, and
    attributes, ``n_features_in_`` among them, are those of the Gram matrices, whose condition
    numbers, squares of those of the matrices, are what is refused past 1/√eps in ``fit``.

    Examples
    --------
    >>> A0 = np.array([[3.0, 1.0], [1.0, 2.0]])
    >>> A = A0 + [[0.1, 0.0], [0.0, -0.1]]
    >>> X = LinearInverseApprox(A0, order=2).fit().predict(A[None])
    >>> float(np.abs(X - np.linalg.inv(A)).max()) < 1e-3
    True
    """

    _reads_only = True
    _parameter_constraints: dict[str, list] = {
        "center": ["array-like", None],
        "order": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions({"taylor", "lstsq"})],
        "max_distance": [Interval(Real, 0, None, closed="neither")],
        "max_share": [Interval(Real, 0, 1, closed="left")],
    }

    center_ = Fitted()
    inverse_ = Fitted()
    _x_mean = Fitted()
    _y_mean = Fitted()
    _map = Fitted()

    def __init__(
        self,
        center: ArrayLike | None = None,
        *,
        order: int = 1,
        method: Literal["taylor", "lstsq"] = "taylor",
        max_distance: float = 0.2,
        max_share: float = 0.5,
    ) -> None:
        self.center = center
        self.order = order
        self.method = method
        self.max_distance = max_distance
        self.max_share = max_share

    def fit(self, X: Any = None, y: Any = None, sample_weight: Any = None) -> "LinearInverseApprox":
        """Invert the centre, or fit the affine map.

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n) or (n_samples, m, n), default=None
            Training matrices. May be left out if `center` is given and ``method="taylor"``. With
            ``method="lstsq"`` and `y`, any features.
        y : array-like of shape (n_samples, n_targets) or (n_samples,), default=None
            Targets of the least-squares fit; None computes the exact inverses. The Taylor series
            needs none; those given must be inverses.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the mean and in the fit.

        Returns
        -------
        self : LinearInverseApprox

        Raises
        ------
        ValueError
            For a singular centre, missing data, training matrices that cannot be inverted, or
            targets of ``method="taylor"`` that are not inverses.

        Warns
        -----
        ConvergenceWarning
            If the series diverges for some of the training matrices, with their share.
        AmbiguousShapeWarning
            If `X` could be a single matrix.
        """
        with training_rows(X, y, sample_weight) as (X, y, sample_weight):
            self._validate_params()
            # Of an earlier fit.
            for name in ("center_", "inverse_", "_x_mean", "_y_mean", "_map", "_engine", *STREAM):
                self.__dict__.pop(name, None)
            self._order = self.order
            if self.method == "lstsq":
                if self.order != 1:
                    raise ValueError(
                        f"Got order={self.order} with method='lstsq', which is affine: use "
                        f"order=1, or method='taylor'."
                    )
                if X is None:
                    raise ValueError("method='lstsq' needs training matrices: pass X.")
                rows, targets, self._inverse_targets = self._validate_training(X, y)
                weight, scaled = _checked_weight(sample_weight, rows), self._inverse_targets
                rcond = _VARIATION if scaled else None
                units = FitUnits.of(rows, targets, scaled)
                fitted = affine_fit(*units.scaled(rows, targets), weight, rcond, scaled=scaled)
                x_mean, y_mean, matrix = units.undone(*fitted)
                self._own(_x_mean=x_mean, _y_mean=y_mean, _map=matrix)
            else:
                self._fit_taylor(X, y, sample_weight)
            self._set_engine()
        return self

    def _fit_taylor(self, X: Any, y: Any, sample_weight: Any) -> None:
        if X is not None:
            rows, targets = self._validate_pair(X, y)
            if targets is not None and targets.shape != rows.shape:
                raise ValueError(
                    f"Got targets of shape {targets.shape} for matrices of shape {rows.shape}, but "
                    f"method='taylor' knows the inverse only; use method='lstsq'."
                )
            if targets is not None and not targets_are_inverses(rows, targets):
                raise ValueError(
                    "Got targets that are not the inverses of the matrices, but method='taylor' "
                    "knows the inverse only; leave y out, or use method='lstsq'."
                )
            weight = _checked_weight(sample_weight, rows)
            center = weight @ rows / weight.sum()
        if self.center is not None:
            complex_stack = getattr(X, "ndim", 2) == 3 and is_complex(X)
            stated = self._squared_center(self.center, reset=X is None)
            center = check_center(stated, embed=complex_stack).ravel()
            if X is not None and center.size != self.n_features_in_:
                raise ValueError(
                    f"Got a center of {center.size} entries, but rows of X have "
                    f"{self.n_features_in_}; pass a center of their size, or center=None for "
                    f"their mean."
                )
            self.n_features_in_ = center.size
        elif X is None:
            raise ValueError("Got neither center nor data: pass center=..., or matrices to fit.")
        n = matrix_order(center.size)
        magnitude = 0.0 if X is None else np.abs(rows).max(axis=0)
        inverse = regular_inverse(center.reshape(n, n), magnitude)
        self._own(center_=center.reshape(n, n), inverse_=inverse)
        self._y_ndim, self._inverse_targets = 2, True
        if X is not None:
            self._warn_of_divergence(rows)

    def _warn_of_divergence(self, rows: NDArray) -> None:
        """Warn if the series diverges for some of the training matrices, or for some of these."""
        n = len(self.center_)
        some = rows[:: -(-len(rows) // _LOOKED_AT)].reshape(-1, n, n)
        with np.errstate(all="ignore"):
            c = unit_exponents(self.center_, self.inverse_)[1]
            N = np.ldexp(self.inverse_ @ (some - self.center_), c - c[:, None])
            far = ~(np.einsum("kij,kij->k", N, N) < 1)  # the norm bounds the spectral radius
            radii = np.array(
                [
                    np.abs(np.linalg.eigvals(E)).max() if np.isfinite(E).all() else np.inf
                    for E in N[far]
                ]
            )
            far[far] = radii >= 1
        if far.any():
            warn(
                f"The Taylor series diverges for {far.mean():.1%} of the training matrices "
                f"({int(far.sum())} of {len(far)} looked at), too far from the center: the "
                f"spectral radius of center_⁻¹(A − center_) is up to {radii.max():.2g} instead of "
                f"below 1, and a higher order makes it worse there. Use a PolynomialInverseApprox, "
                f"method='lstsq', a FeasibleRegionSampler to keep to matrices near the center, or "
                f"skinv.inv.",
                ConvergenceWarning,
            )

    @property
    def coef_(self) -> NDArray:
        """Matrix of the affine map, of shape (n_targets, n_features)."""
        if hasattr(self, "_map"):
            return self._map.T
        self._check_affine("coef_")
        return -np.kron(self.inverse_, self.inverse_.T)

    @property
    def intercept_(self) -> NDArray[np.float64]:
        """Constant of the affine map, of shape (n_targets,)."""
        if hasattr(self, "_map"):
            return self._y_mean - self._x_mean @ self._map
        self._check_affine("intercept_")
        return 2.0 * self.inverse_.ravel()

    def __dir__(self) -> list[str]:
        # Notebooks show, and so compute, what is listed here: of a series `coef_` has n⁴ numbers.
        # (scikit-learn's own __dir__ looks at every attribute, and so computes it, too.)
        names = set(object.__dir__(self)) - (set() if hasattr(self, "_map") else {"coef_"})
        return [name for name in names if hasattr(self, name)]

    def _check_affine(self, name: str) -> None:
        if not hasattr(self, "inverse_") or self._order != 1:
            raise AttributeError(
                f"{name} exists only for a fitted affine map: call fit with order=1 or with "
                f"method='lstsq'."
            )

    def _make_form(self) -> Callable[[], ModelForm]:
        if hasattr(self, "_map"):
            return partial(ModelForm.affine, self._x_mean, self._y_mean, self._map)
        return partial(ModelForm.series, self.center_, self.inverse_, self._order)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "inverse_") or hasattr(self, "_map")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Of general targets only the least-squares fit knows anything.
        tags.regressor_tags.poor_score = self.method == "taylor"
        return tags


def taylor(rows: Any, center: NDArray, inverse: NDArray, order: int = 1) -> Any:
    """Return the series Σ_{j<=order} (−BE)ʲB of rows, in their dtype; B is the inverse of A₀."""
    form = partial(ModelForm.series, center, inverse, order)
    return Engine(form)(rows)


def center_and_inverse(rows: NDArray, center: NDArray | None = None) -> tuple[NDArray, NDArray]:
    """Return a centre of matrices, their mean if None, and its inverse; singular ones raise."""
    n = matrix_order(rows.shape[1])
    center = rows.mean(axis=0, dtype=np.float64).reshape(n, n) if center is None else center
    return center, regular_inverse(center, np.abs(rows).max(axis=0))


def varies(mean: NDArray, deviation: NDArray) -> NDArray[np.bool_]:
    """Tell which inputs vary by more than the rounding of data that were computed.

    An input is compared with itself and, if the inputs may be those of matrices, with what goes
    into it in a product: for entry (i, j) the largest of row i times the largest of column j over
    the largest of all, which follows rows and columns into other units. Structural zeros that were
    computed are constant so.
    """
    size = np.hypot(mean, deviation)
    largest = size.max(initial=0.0)
    rounding = np.maximum(NOISE * size, 4 * np.finfo(np.float64).eps * largest)
    n = math.isqrt(size.size)
    if n * n == size.size and largest > 0:
        entries = size.reshape(n, n)
        usual = entries.max(axis=1)[:, None] * (entries.max(axis=0) / largest)
        rounding = np.maximum(rounding, NOISE * usual.ravel())
    return deviation > rounding


def affine_fit(
    rows: NDArray,
    targets: NDArray,
    weight: NDArray | None = None,
    rcond: float | None = None,
    *,
    scaled: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit targets ≈ y_mean + (rows − x_mean) @ M by least squares; return x_mean, y_mean and M.

    Of the many solutions for data of low rank the one of least norm is taken. Directions with a
    singular value below `rcond` times the largest are not fitted; None is a share for the rounding
    of the data. If `scaled`, rows are of unit variance for that comparison, and for the norm.
    """
    rows, targets = rows.astype(np.float64, copy=False), targets.astype(np.float64, copy=False)
    weight = np.ones(len(rows)) if weight is None else weight
    share = weight / weight.sum()
    x_mean, y_mean = share @ rows, share @ targets
    # A second pass makes the mean of a constant column that constant, to the last bit.
    x_mean = x_mean + share @ (rows - x_mean)
    centered_x, centered_y = rows - x_mean, targets - y_mean
    unit = np.ones(len(x_mean))
    if scaled:
        size = np.sqrt(share @ centered_x**2)
        unit = np.where(varies(x_mean, size), size, np.inf)
        centered_x = centered_x / unit
    centered_x *= np.sqrt(weight)[:, None]
    centered_y *= np.sqrt(weight)[:, None]
    if rcond is None:
        rcond = max(NOISE, max(rows.shape) * np.finfo(np.float64).eps)
    return x_mean, y_mean, np.linalg.lstsq(centered_x, centered_y, rcond=rcond)[0] / unit[:, None]
