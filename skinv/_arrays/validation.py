"""The door of the estimators: matrices and rows, as scikit-learn validates them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from .conversion import (
    as_array,
    as_double,
    floating,
    is_complex,
    is_narrow,
    is_tensor,
    refuse_inexact,
)
from .rows import refuse_nonfinite
from .shapes import Layout, Matrices, matrix_order

# Arrays whose memory can be used as it is, unlike that of other subclasses.
_PLAIN = (np.ndarray, np.memmap)


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


def refuse_other_order(X: Any, rows: Any, n_features: int | None, name: str) -> None:
    """Raise a ValueError that says what to do with a single matrix, or a stack of stacks.

    `n_features` is the number of entries that the estimator `name` was fitted to, if it is known.
    """
    shape = tuple(getattr(X, "shape", getattr(rows, "shape", ())))
    n = shape[-1] if shape else 0
    if len(shape) > 3 or (shape == (n, n) and n_features == n * n != n):
        what = f"a stack of stacks: pass X.reshape(-1, {n}, {n})"
        what = what if len(shape) > 2 else "one matrix A: pass A[None]"
        raise ValueError(
            f"Got an array of shape {shape}, but {name} is expecting {n_features} features as "
            f"input, in rows (n_samples, n*n) or a stack (n_samples, n, n) of matrices. It seems "
            f"to be {what}."
        )


def take(estimator: Any, X: Any, *, keep_half: bool = False, exact: bool = False) -> Matrices:
    """Return the matrices that a fitted estimator is asked about, in floating point.

    In an array, or a tensor if `X` is one, NaN and infinity included. If `exact`, numbers that
    rounding would change raise a ValueError. `keep_half` is for arrays of float16.
    """
    check_is_fitted(estimator)
    given = Matrices.of(X)
    name = type(estimator).__name__
    n_features = getattr(estimator, "n_features_in_", None)  # of foreign ones often unknown
    refuse_other_order(X, given.numbers, n_features, name)
    numbers, layout = given
    if given.is_complex:
        if n_features not in (None, given.n_features):
            raise ValueError(
                f"Got complex matrices of shape {np.shape(X)}, whose real embeddings have "
                f"{given.n_features} entries, but {name} is expecting {n_features} features: fit "
                f"it to complex matrices of this order."
            )
        return Matrices(floating(numbers, not is_narrow(numbers), exact=exact), layout)
    if is_tensor(numbers):
        if numbers.ndim != 2 or n_features not in (None, numbers.shape[1]):
            raise ValueError(
                f"Got a tensor of shape {tuple(X.shape)}, but {name} is expecting "
                f"{n_features or 'n*n'} features per matrix: pass rows of so many entries, or a "
                f"stack (n_samples, n, n) of such matrices."
            )
        numbers = numbers.detach().resolve_neg()
        rows = numbers if numbers.is_floating_point() else numbers.double()
    else:
        rows = validate_rows(
            estimator,
            numbers,
            reset=False,
            square=bool(layout),
            allow_nonfinite=True,
            keep_half=keep_half,
        )
    if exact:
        refuse_inexact(numbers if hasattr(numbers, "dtype") else np.asarray(numbers), rows)
    return Matrices(rows, layout)


def take_as_is(estimator: Any, X: Any) -> Matrices | None:
    """Return rows or a stack, real or complex, as they were passed, if nothing is to be done."""
    if is_tensor(X):
        plain, X = X.is_floating_point(), X.detach()
    else:
        plain = type(X) in _PLAIN and X.dtype.char in "efdFD" and X.dtype.isnative
        plain = plain and not hasattr(estimator, "feature_names_in_")
    if not plain:
        return None
    shape, d, whole = X.shape, estimator.n_features_in_, is_complex(X)
    if len(shape) == 2 and shape[1] == d and not whole:
        return Matrices(X, Layout.ROWS)
    times = 4 if whole else 1
    if len(shape) == 3 and shape[1] == shape[2] and times * shape[1] * shape[2] == d:
        return Matrices(X, Layout.COMPLEX if whole else Layout.STACK)
    return None


def floating_matrices(X: Any) -> Matrices:
    """Return matrices that somebody else made in floating point; tensors in half precision stay.

    A ValueError is raised for numbers that double precision cannot hold.
    """
    taken = Matrices.of(X)
    numbers = taken.numbers
    if not (is_tensor(numbers) and is_narrow(numbers) and not taken.is_complex):
        numbers = numbers if is_tensor(numbers) else as_array(numbers)
        numbers = floating(numbers, not is_narrow(numbers))
    return Matrices(numbers, taken.layout)
