"""The rows of an estimator, as scikit-learn validates them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from .conversion import as_array, as_double
from .rows import refuse_nonfinite
from .shapes import matrix_order


def validate_rows(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    square: bool = True,
    allow_nonfinite: bool = False,
    keep_half: bool = False,
) -> NDArray:
    """Validate matrices given as rows the way scikit-learn's estimators do.

    The estimator gets ``n_features_in_``, ``feature_names_in_`` and the dtype for its file if
    `reset`, as in ``fit``, and is held to the former otherwise. float32 and float64 keep their
    dtype, and float16 if `keep_half`; everything else becomes float64. Rows that are not finite are
    named in a ValueError, unless they are allowed, and so are those that are no square matrices.
    """
    if isinstance(X, np.ndarray):
        swapped = X.dtype.kind == "f" and not X.dtype.isnative
        X = as_double(X) if swapped else as_array(X)
    given = X
    X = validate_data(
        estimator,
        X,
        reset=reset,
        dtype=(np.float64, np.float32, np.float16)[: 3 if keep_half else 2],
        ensure_all_finite=False,
        ensure_min_samples=1 if reset else 0,
    )
    if hasattr(given, "columns") and X.dtype == np.float64:
        exact = as_array(given)  # of columns in single precision, too
        X = exact if exact.dtype == X.dtype and exact.shape == X.shape else X
    if reset:
        estimator._fitted_dtype = X.dtype.name
    if not allow_nonfinite:
        refuse_nonfinite(X, "X")
    if square:
        matrix_order(X.shape[1])
    return X
