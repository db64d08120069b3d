"""Which matrices lie in a region, how deep, and what becomes of the others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from .._arrays.blocks import by_blocks
from .._arrays.conversion import as_given, is_dask, to_host
from .._arrays.rows import list_rows, refuse_nonfinite, refuse_rows
from .._arrays.shapes import Layout
from .._arrays.validation import refuse_other_order, validate_rows
from .._arrays.warned import warn
from ._drawing import FittedRegion
from ._shapes import matrix_rows, refuse_other_shape


class MembershipMixin(FittedRegion):
    """A fitted region that matrices are in or not, or are moved into."""

    on_infeasible: str
    fit: Any

    def decision_function(self, X: Any) -> Any:
        """Return how deep each matrix lies in the region.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features) or (n_samples, m, n)
            Matrices; NaN and infinity are allowed.

        Returns
        -------
        ndarray of shape (n_samples,), or tensor if `X` is one
            The radius less the norm of the difference to the centre (in a box with unequal
            half-widths the least room in any entry): at least 0 inside, negative outside, -inf for
            matrices that are not finite. Where a `structure` is violated by more than rounding, it
            is at most the negative of the largest violation. Singular matrices are not looked at.
        """
        if is_dask(X):
            return by_blocks(self, "decision_function", X)
        return as_given(self._depth(self._validated(X)[0]), X)

    def is_feasible(self, X: Any) -> Any:
        """Tell of each matrix whether it could have been sampled.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features) or (n_samples, m, n)
            Matrices; NaN and infinity are allowed, and infeasible.

        Returns
        -------
        ndarray of bool of shape (n_samples,), or tensor if `X` is one
            True where the matrix lies in the region, up to rounding in its dtype, and is regular,
            whatever units its rows and columns are in, and at least `min_distance` from a singular
            matrix, which is tested matrix by matrix only if the region is not certified.
        """
        if is_dask(X):
            return by_blocks(self, "is_feasible", X)
        return as_given(self._feasible(self._validated(X)[0]), X)

    def _depth(self, rows: NDArray) -> NDArray[np.float64]:
        depth = self._region.depth(rows - self.center_.ravel(), float(np.finfo(rows.dtype).eps))
        if self._structure is not None:
            violation = self._structure.violation(rows, self._own_power())
            depth = np.where(violation > 0, np.minimum(depth, -violation), depth)
        return depth

    def _feasible(self, rows: NDArray) -> NDArray[np.bool_]:
        inside = self._depth(rows) >= 0
        if not self.is_certified_ and inside.any():
            inside[inside] = self._keeps_distance(rows[inside])
        return inside

    def fit_resample(self, X: Any, y: Any = None) -> Any:
        """Fit the region, then drop the rows that are not feasible (imbalanced-learn's protocol).

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            Matrices.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Targets, resampled alongside.

        Returns
        -------
        X_resampled : array-like of shape (n_kept, n*n), (n_kept, n, n) or (n_kept, m, n)
        y_resampled : array-like or None
            Only the kept rows, in the container they came in.

        Raises
        ------
        ValueError
            If no row is feasible, and for what ``fit`` refuses.
        """
        if y is not None:
            check_consistent_length(X, y)
        keep = to_host(self.fit(X).is_feasible(X))
        if not keep.any():
            raise ValueError(
                f"None of the {keep.size} matrices is feasible; use a larger radius or a smaller "
                f"min_distance (the region's margin is {self.margin_:.3g})."
            )
        index = np.flatnonzero(keep)
        y_resampled = None if y is None else _safe_indexing(y, index)
        return _safe_indexing(X, index), y_resampled

    def _treat(self, rows: NDArray) -> tuple[NDArray, NDArray[np.intp]]:
        """Do as `on_infeasible` says; return rows in memory of their own, and which were moved."""
        if self.on_infeasible in ("raise", "warn"):
            refuse_nonfinite(rows, "X")
        outside = ~self._feasible(rows)
        out, moved = rows.copy(), np.zeros(0, dtype=np.intp)
        if not outside.any():
            return out, moved
        if self.on_infeasible == "project":
            return out, self._project(rows, out)
        if self.on_infeasible == "nan":
            refuse_rows(out, outside)
            return out, moved
        depth = float(self._depth(rows).min())
        message = f"Rows {list_rows(outside)} of X are outside the feasible region " + (
            f"(norm {self.certificate_.norm!r}), by up to {-depth:.3g}."
            if depth < 0
            else "because they are too close to a singular matrix."
        )
        if self.on_infeasible == "raise":
            raise ValueError(message + " Drop them (see is_feasible), or fit a larger region.")
        warn(
            f"{message} They are passed on unchanged: use on_infeasible='project' to move them "
            f"into the region, drop them (see is_feasible), or fit a larger region.",
        )
        return out, moved

    def _project(self, rows: NDArray, out: NDArray) -> NDArray[np.intp]:
        """Move a copy of rows into the region, NaN for those not finite; return which moved."""
        finite = np.isfinite(rows).all(axis=1)
        refuse_rows(out, ~finite)
        # Projection cannot help a matrix of the region that is close to a singular one.
        outside = (self._depth(rows) < 0) & finite
        center = self.center_.ravel()
        if self._structure is not None:
            out[outside] = self._structure.project(out[outside])
            outside = (self._depth(out) < 0) & finite
        out[outside] = center + self._region.project(out[outside] - center)
        return np.flatnonzero((out != rows).any(axis=1) & finite)

    def _validated(self, X: Any) -> tuple[NDArray, Layout]:
        check_is_fitted(self)
        given = to_host(X)
        rows, layout, shape = matrix_rows(given)
        refuse_other_shape(given, shape, self.center_.shape, self._is_complex)
        refuse_other_order(X, rows, self.n_features_in_, type(self).__name__)
        rows = validate_rows(self, rows, reset=False, square=False, allow_nonfinite=True)
        return rows, layout
