"""Errors of learned inverses and distances to the singular matrices, matrix by matrix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._arrays.conversion import real_array, to_host
from ..._arrays.rows import refuse_nonfinite
from ..._arrays.shapes import as_stack, flatten_stack, refuse_no_rows
from ..._linalg.products import exact_inverse
from ...geometry import distance_to_singularity
from ...geometry._regions import row_norms
from ...impossibility._models import Predictions


def errors_by_distance(
    estimator: Any, X: Any, y: Any, norm: str, error: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return distance and spectral error of each regular matrix, and how many others there were.

    Errors are NaN where predictions are not finite. The others are singular to working precision,
    or not finite.
    """
    X, _ = flatten_stack(to_host(X))
    rows = real_array(X, "X")
    refuse_no_rows(rows, "X")
    stack = as_stack(rows)
    n = stack.shape[-1]
    distance = distance_to_singularity(stack, norm, return_bounds=True).lower
    with np.errstate(over="ignore", invalid="ignore"):
        floor = n * np.finfo(np.float64).eps * row_norms(rows)
    index = np.flatnonzero(distance > floor)  # NaN is not
    if index.size == 0:
        raise ValueError(
            f"All {len(stack)} matrices are singular or not finite, so that there is no error to "
            f"show; pass regular ones, for instance with ErrorByDistanceDisplay.from_sampler."
        )
    predicted = Predictions(estimator, n)(stack[index])
    if y is None:
        inverse = exact_inverse(stack[index])
    else:
        targets = real_array(flatten_stack(to_host(y))[0], "y")
        if targets.shape != rows.shape:
            raise ValueError(
                f"Got y of shape {np.shape(y)}, but the inverses of {len(stack)} {n}×{n} matrices "
                f"have shape {rows.shape}; pass these, or y=None."
            )
        refuse_nonfinite(targets[index], "y")
        inverse = as_stack(targets[index])
    errors = np.full(index.size, np.nan)
    with np.errstate(all="ignore"):
        difference = predicted - inverse
        finite = np.isfinite(difference).all(axis=(1, 2))
        errors[finite] = np.linalg.norm(difference[finite], ord=2, axis=(1, 2))
        if error == "relative":
            errors[finite] /= np.linalg.norm(inverse[finite], ord=2, axis=(1, 2))
    return distance[index], errors, len(stack) - index.size
