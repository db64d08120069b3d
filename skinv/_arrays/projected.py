"""Arrays of matrices that remember which of them were projected.

A region before a regressor may move matrices into it, and what follows answers for the moved ones.
That is what a regressor that cannot extrapolate wants, and what a proof must not do unasked: the
caller of a pipeline gave other matrices. So what a projection returns says which rows it moved, and
:class:`skinv.CertifiedInverse` refuses these. Whoever means the projected matrices passes a copy.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .conversion import is_tensor, to_host
from .warned import warn

_NAME = "_skinv_moved"
_NONE: NDArray[np.intp] = np.zeros(0, dtype=np.intp)


class ProjectedArray(np.ndarray):
    """An array of matrices, some of which were moved. Views, copies and results forget it."""

    def __array_finalize__(self, other: Any) -> None:
        """Forget: parts and functions of the array hold other rows."""
        self.__dict__.pop(_NAME, None)

    def __reduce__(self) -> Any:
        """Pickle as a plain array, which remembers nothing."""
        return np.asarray(self).__reduce__()


def remember(result: Any, moved: NDArray[np.intp]) -> Any:
    """Return an array or tensor of matrices that remembers which rows were moved."""
    if not is_tensor(result):
        result = np.asarray(result).view(ProjectedArray)
    setattr(result, _NAME, (moved, result[moved]))
    return result


def moved_rows(X: Any) -> NDArray[np.intp]:
    """Return which rows were moved into a region, if they are still what they were moved to."""
    moved, before = getattr(X, _NAME, (_NONE, None))
    if not moved.size:
        return _NONE
    same = (X[moved] == before).reshape(len(moved), -1).all(1)
    return moved[np.asarray(to_host(same))]


def warn_of_projection(moved: NDArray) -> None:
    """Warn that what follows a projection answers for other matrices than came in."""
    warn(
        f"{len(moved)} matrices were moved into the region, which data frames and dask arrays do "
        f"not remember: proofs of what follows are for the moved ones. Use arrays, or "
        f"on_infeasible='nan'."
    )
