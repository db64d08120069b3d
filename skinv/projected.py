"""Projected matrices that remember what they were moved from.

A region before a regressor may move matrices into it, and what follows answers for the moved ones.
That is what a regressor that cannot extrapolate wants, and what a proof must not do: the caller
asked for the inverse of another matrix. So the result of a projection keeps the matrices that were
moved, and :class:`skinv.CertifiedInverse` proves its answers for these.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAME = "_skinv_originals"


class ProjectedArray(np.ndarray):
    """An array of matrices, some of which were moved. Views and results forget it."""

    def __array_finalize__(self, other: Any) -> None:
        """Forget: parts and functions of the array hold other rows."""
        self.__dict__.pop(_NAME, None)

    def __reduce__(self) -> Any:
        """Pickle as a plain array, which remembers nothing."""
        return np.asarray(self).__reduce__()


def with_originals(result: Any, index: NDArray, originals: NDArray) -> Any:
    """Return an array or tensor that remembers rows that were moved, as flattened matrices."""
    if isinstance(result, np.ndarray):
        result = np.asarray(result).view(ProjectedArray)
    setattr(result, _NAME, (index, originals))
    return result


def originals_of(X: Any) -> tuple[NDArray, NDArray] | None:
    """Return which rows of `X` were moved, and what from, or None if none were."""
    return getattr(X, _NAME, None)


def warn_of_projection(moved: NDArray) -> None:
    """Warn that what follows a projection answers for other matrices than came in."""
    warnings.warn(
        f"{len(moved)} matrices were moved into the region, which data frames and dask arrays do "
        f"not remember: proofs of what follows are for the moved ones. Use arrays, or "
        f"on_infeasible='nan'.",
        UserWarning,
        stacklevel=3,
    )
