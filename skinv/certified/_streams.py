"""Streams of matrices that drift, for :class:`skinv.CertifiedInverse`."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metaestimators import available_if

from .._arrays.conversion import to_host
from .._arrays.estimators import private
from .._arrays.results import PROVEN
from .._arrays.rows import taken_rows
from .._arrays.shapes import flatten_stack
from ..learn.streams import FollowsMixin, MovingSeriesMixin, looked_at
from ._anchor import Anchor

# The rule for centres of solutions, where the regressor has none of its own.
_MAX_DISTANCE, _MAX_SHARE = 0.2, 0.5


def _follows(model: Any) -> bool:
    """Tell whether the regressor can follow a stream; if not raise its own AttributeError."""
    estimator = model.estimator
    if isinstance(estimator, MovingSeriesMixin) and estimator.method == "taylor":
        return True
    if isinstance(estimator, FrozenEstimator):
        raise AttributeError("A FrozenEstimator follows no stream.")
    return bool(estimator.partial_fit)


class StreamsMixin(FollowsMixin):
    """A regressor of inverses whose answers are proven, which follows a stream of matrices."""

    estimator: Any
    estimator_: Any
    family: Any
    fit: Any
    report: Any
    _take: Any
    _shape: tuple[int, int] | None
    _refuse_rectangular: Any
    _anchor: Anchor | None

    @available_if(_follows)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Let the regressor learn from a block of matrices, and move the centre of solutions.

        Available if the regressor has ``partial_fit``. The first call is that of ``fit``. Of later
        blocks :class:`LinearInverseApprox` moves its centre, which is that of solutions, too, by a
        rule of its own. With other regressors the centre of solutions follows the same rule, with
        ``max_distance=0.2`` and ``max_share=0.5``. Networks, and regressors of other libraries,
        learn from the inverses that are proven, and from no others.

        Nothing else changes what is predicted: no matrix that is asked about becomes a centre, and
        no answer does.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            The latest matrices: one, or a block. Those that are not finite are ignored.
        y : array-like of shape (n_samples, n*n) or (n_samples, n, n), default=None
            As in ``fit`` by the first call, and ignored by later ones.

        Returns
        -------
        self : CertifiedInverse

        Raises
        ------
        ValueError
            For a wrong number of features, for a family, whose matrices come from parameters, and
            by the first call as ``fit``.

        Examples
        --------
        >>> from skinv import CertifiedInverse, LinearInverseApprox
        >>> model = CertifiedInverse(LinearInverseApprox(), tol=1e-8)
        >>> drifting = np.eye(3) + np.linspace(0, 1, 200)[:, None, None] * np.ones((3, 3))
        >>> for block in drifting.reshape(20, 10, 3, 3):
        ...     x = model.partial_fit(block).solve(block, np.ones((10, 3)))
        >>> model.n_moves_, x[-1].round(3)
        (3, array([0.25, 0.25, 0.25]))
        """
        if "estimator_" not in self.__dict__:
            return self.fit(X, y)
        if self.family is not None:
            raise ValueError(
                "Got a family, whose matrices come from parameters, but streams are of matrices: "
                "pass family=None, or fit the regressor again."
            )
        self._validate_changed()
        regressor = self.estimator_
        before = regressor.__dict__.get("inverse_")
        if before is not None and isinstance(regressor, MovingSeriesMixin):
            regressor._validate_changed()
            regressor._look(X)
            self.n_moves_, self.long_ways_ = regressor.n_moves_, regressor.long_ways_
            if regressor.inverse_ is not before:
                self._move_anchor(regressor.center_, regressor.inverse_)
            return self
        if isinstance(regressor, FollowsMixin):
            regressor.partial_fit(X)
        else:
            self._refuse_rectangular("fit the regressor again")
            self._learn_proven(X)
        if self._anchor is not None and self._shape is None:
            stack = looked_at(self, X)
            moved = self._follow(*self._anchor.given, stack, _MAX_DISTANCE, _MAX_SHARE)
            if moved is not None:
                self._move_anchor(moved.center, moved.inverse)
        elif isinstance(regressor, FollowsMixin):
            self.n_moves_, self.long_ways_ = regressor.n_moves_, regressor.long_ways_
        return self

    def _learn_proven(self, X: Any) -> None:
        """Let a regressor of another library learn from what is proven."""
        regressor, report = self.estimator_, self.report(X)
        proven = np.isin(to_host(report.status), PROVEN)
        if not proven.any():
            return
        given, taken = self._take(X)
        if hasattr(given, "columns"):
            rows = private(taken_rows(given, np.flatnonzero(proven)))
        else:
            rows = to_host(taken.rows)[proven]  # a copy
        regressor.partial_fit(rows, flatten_stack(to_host(report.inverse))[0][proven])

    def _move_anchor(self, center: NDArray, inverse: NDArray) -> None:
        """Move the centre of solutions, if what is to be known of the new one can be proven."""
        known = self._anchor
        moved = Anchor.of(center) if known is None else Anchor.at(center, inverse, known)
        self._anchor = known if moved is None else moved
