"""Rows to train on: finite ones, or told by name."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length

from .conversion import to_host
from .rows import numbered, refused_rows
from .shapes import as_stack, flatten_stack
from .warned import warn


@contextmanager
def training_rows(X: Any, *others: Any) -> Iterator[tuple]:
    """Leave out training rows that a region before the estimator refused, with a warning.

    And rows with NaN, where what is to be learned of them is no inverse: they are features with
    missing values then, which scikit-learn lets an estimator answer with NaN in ``predict`` only if
    its ``fit`` takes them, too.
    """
    given = to_host(X)
    if hasattr(given, "to_numpy") and hasattr(given, "columns"):
        given = given.to_numpy()
    elif isinstance(given, list):
        with suppress(ValueError):  # of ragged ones it is said later
            given = np.asarray(given)
    refused, why = np.zeros(0, dtype=bool), "outside the region before the estimator"
    if isinstance(given, np.ndarray) and given.ndim > 1:
        refused = refused_rows(given)
        if others and others[0] is not None and not refused.any():
            refused, why = _missing(given, others[0]), "not finite"
    if not refused.any():
        yield (X, *others)
        return
    if refused.all():
        raise ValueError(
            f"All {len(refused)} training matrices are {why}: use a larger radius, or "
            f"on_infeasible='project' or 'drop', or repair them."
        )
    warn(f"{int(refused.sum())} of {len(refused)} training matrices are {why} and are left out.")
    kept = selected(~refused, X, *others)
    with numbered(np.flatnonzero(~refused), len(refused)):
        yield kept


def selected(mask: NDArray[np.bool_], *parts: Any) -> tuple:
    """Return some of the samples of X, targets and weights; a weight that is a number is of all."""
    parts = tuple(to_host(part) for part in parts)
    check_consistent_length(mask, *(part for part in parts if not isinstance(part, Number)))
    index = np.flatnonzero(mask)
    return tuple(
        part if part is None or isinstance(part, Number) else _safe_indexing(part, index)
        for part in parts
    )


def _missing(X: NDArray, y: Any) -> NDArray[np.bool_]:
    """Tell which rows of features have missing values; none, if the targets are inverses."""
    none: NDArray[np.bool_] = np.zeros(len(X), dtype=bool)
    if X.ndim != 2 or X.dtype.kind != "f":
        return none
    missing = np.isnan(X).any(axis=1)
    y = flatten_stack(to_host(y))[0]
    if not missing.any() or len(y) != len(X):
        return none
    few = np.flatnonzero(~missing)
    if few.size and targets_are_inverses(X[few], np.asarray(_safe_indexing(y, few))):
        return none
    return missing


def targets_are_inverses(rows: NDArray, targets: NDArray) -> bool:
    """Tell whether targets are the inverses of rows (m, n*n), and not another quantity.

    They are if for at least half of the rows the largest entry of R = I − AY is below 1e-3, once
    rows are scaled: a heuristic, but one that noise in the last digits or a few ill-conditioned
    rows do not fool. No scaling changes R_ij R_ji, nor |R| beside |A||Y|; where the latter is
    noise itself, in place of zeros, R is small beside the largest of a row of A and a column of Y.
    """
    n = math.isqrt(rows.shape[1])
    if targets.shape != rows.shape or n * n != rows.shape[1]:
        return False
    A, Y = as_stack(rows), as_stack(targets)
    with np.errstate(all="ignore"):
        residual = np.abs(A @ Y - np.eye(n))
        A, Y = np.abs(A), np.abs(Y)
        near = residual <= 1e-3 * (A @ Y)
        near |= residual <= 1e-9 * A.max(axis=2)[:, :, None] * Y.max(axis=1)[:, None]
        near &= residual * residual.swapaxes(1, 2) < 1e-6
    return bool(np.mean(near.all(axis=(1, 2))) >= 0.5)
