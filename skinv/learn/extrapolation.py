"""What a model of a family is asked that it was never shown."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .._arrays.conversion import to_host
from .._arrays.rows import list_rows, unanswered_is_expected
from .._arrays.warned import warn
from .._linalg.arithmetic import Arithmetic
from .._linalg.form import ReducedMap
from .inference.coordinates import ReducedPart
from .inference.predictor import EnginePredictorMixin
from .reduction import project

__all__ = ["ExtrapolationWarning"]


class ExtrapolationWarning(UserWarning):
    """Some matrices are far from those that a model was fitted to, and were answered by NaN.

    Examples
    --------
    >>> import warnings
    >>> from skinv import PolynomialInverseApprox
    >>> X = np.eye(2) * np.linspace(1, 2, 20)[:, None, None]
    >>> model = PolynomialInverseApprox().fit(X)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     answer = model.predict(9 * np.eye(2)[None])
    >>> caught[0].category.__name__, bool(np.isnan(answer).all())
    ('ExtrapolationWarning', True)
    """


class ExtrapolationMixin(EnginePredictorMixin):
    """A model that may be in reduced coordinates, and then knows what it was never shown."""

    _map: ReducedMap | None
    _answers_all: bool

    def extrapolates(self, X: Any) -> NDArray[np.bool_]:
        """Tell which matrices are far from those that the model was fitted to.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n) or (n_samples, n, n)
            Matrices, or features, as for ``predict``.

        Returns
        -------
        ndarray of bool of shape (n_samples,)
            True where ``predict`` answers NaN under ``on_extrapolation="nan"``, but for rounding at
            the limits: for rows that are not finite, that go further along the coordinates than
            `max_extrapolation` allows, or have too large a part outside them. All False, but for
            rows that are not finite, for a model without reduced coordinates.

        Raises
        ------
        ValueError
            For a wrong number of features.
        """
        check_is_fitted(self)
        return self._extrapolates(self._squared(X, None, reset=False)[0])

    def _extrapolates(self, X: Any) -> NDArray[np.bool_]:
        """Tell it of square matrices, or features."""
        rows = self._validate_batch(X).rows
        known, single = self._map, rows.dtype.itemsize < 8
        if known is not None and rows.dtype.itemsize < 4:
            known = known.tolerating(2 * Arithmetic.of(rows).unit)
        rows = to_host(rows).reshape(len(rows), self.n_features_in_).astype(np.float64, copy=False)
        outside = ~np.isfinite(rows).all(axis=1)
        if known is None:
            return outside
        part = ReducedPart.of(known, np.zeros(known.n_outputs), known.origin, single=single)
        with np.errstate(all="ignore"):
            looked = np.abs(project(rows, known.origin, part.projection))
            return outside | ~(looked <= part.limits[:, 0]).all(axis=1)

    def _look_at(self, values: NDArray, rows: NDArray) -> None:
        """Warn if finite rows of an array were answered by NaN."""
        if self._map is None or self._answers_all or not values.size or unanswered_is_expected():
            return
        unanswered = np.isnan(values[:, 0])
        if not unanswered.any():
            return
        flat = rows.reshape(len(rows), -1)
        unanswered[unanswered] = np.isfinite(flat[unanswered]).all(axis=1)
        if unanswered.any():
            warn(
                f"Matrices {list_rows(unanswered)} are far from those that "
                f"{type(self).__name__} was fitted to, and are answered by NaN: fit it to matrices "
                f"like these, let a CertifiedInverse invert them exactly, or pass a larger "
                f"max_extrapolation, or on_extrapolation='keep'.",
                ExtrapolationWarning,
            )
