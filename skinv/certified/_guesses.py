"""What a regressor says of matrices, whatever it raises at some of them."""

from __future__ import annotations

import math
import sys
import warnings
from collections import deque
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils import _safe_indexing

from .._arrays.embedding import embed_complex
from .._arrays.estimators import private, reads_only
from .._arrays.host import is_complex, real_array, to_host
from .._arrays.kinds import is_tensor
from .._arrays.rows import expecting_unanswered, numbered
from .._arrays.shapes import restore_layout
from ..learn.linear import LinearInverseApprox
from ..learn.neural import NeuralInverseRegressor
from ..learn.regressor import InverseRegressorMixin
from ..structures import unpack_symmetric
from ._fitting import final_of

# Regressors whose predictions are fresh memory, and cheap to ask for in blocks.
OURS = (LinearInverseApprox, NeuralInverseRegressor)
# How often a regressor is asked, at most, to find out at which matrices it raises.
_CALLS = 256
# What is raised whatever the matrices.
_FAULTS = (NotFittedError, NotImplementedError, TypeError, AttributeError, NameError, MemoryError)


def guess(estimator: Any, given: Any, rows: Any, index: NDArray | None) -> Any:
    """Return the regressor's predictions for some finite rows, as a stack of their own."""
    total = len(given)
    if index is not None:
        given = given[index] if is_tensor(given) else _safe_indexing(given, index)
    if len(given) == 0:
        return restore_layout(rows[:0], True) + 0.0
    with nullcontext() if index is None else numbered(index, total):
        predicted, answered = _ask(estimator, given)
    if answered is None:
        return _as_stack(estimator, predicted, given, rows)
    n = math.isqrt(rows.shape[1])
    shape = len(given), n, n
    own = rows.new_full(shape, np.nan) if is_tensor(rows) else np.full(shape, np.nan, rows.dtype)
    if len(answered):
        some = given[answered] if is_tensor(given) else _safe_indexing(given, answered)
        own[answered] = _as_stack(estimator, predicted, some, rows)
    return own


def _ask(estimator: Any, given: Any) -> tuple[Any, NDArray | None]:
    """Return the regressor's predictions, and for which rows if it raises at some.

    What it raises for a batch may be due to a single row: which ones is found by bisection.
    """
    host = is_tensor(given) and not isinstance(final_of(estimator), InverseRegressorMixin)
    copies = not reads_only(estimator)

    def ask(part: Any) -> Any:
        part = private(to_host(part) if host else part) if copies else part
        with np.errstate(all="ignore"), expecting_unanswered():
            return estimator.predict(part)

    try:
        return ask(given), None
    except _FAULTS:
        raise
    except Exception as error:
        failure = error
    answers: dict[int, tuple[int, NDArray]] = {}
    pending, calls = deque([(0, len(given))]), 1
    while pending and calls < _CALLS:
        start, stop = pending.popleft()
        middle = (start + stop) // 2
        for first, last in ((start, middle), (middle, stop)) if stop - start > 1 else ():
            calls += 1
            try:
                part = ask(rows_of(given, slice(first, last)))
                answers[first] = last - first, np.asarray(to_host(part))
            except _FAULTS:
                raise
            except Exception:
                pending.append((first, last))
    unasked = sum(stop - start for start, stop in pending if stop - start > 1)
    if unasked or (len(given) > 1 and not answers):
        warnings.warn(
            f"The regressor raised errors for batches of {len(given)} matrices, and was given "
            f"up for {unasked or len(given)} of them, which go to the fallback: "
            f"{type(failure).__name__}: {failure}",
            RuntimeWarning,
            stacklevel=5,
        )
    if not answers:
        return None, np.zeros(0, dtype=np.intp)
    order = sorted(answers)
    answered = np.concatenate([np.arange(k, k + answers[k][0]) for k in order])
    return np.concatenate(
        [part.reshape(m, -1) for m, part in map(answers.__getitem__, order)]
    ), answered


def _as_stack(estimator: Any, predicted: Any, given: Any, rows: Any) -> Any:
    """Return the predictions for what was given as a stack of their own, like the rows."""
    if not (is_tensor(rows) and is_tensor(predicted)):
        predicted = to_host(predicted)
        if getattr(getattr(predicted, "dtype", None), "kind", "O") not in "biufc":
            predicted = real_array(predicted, "predictions")
        predicted = np.asarray(predicted)
    m, d = len(given), rows.shape[1]
    n = math.isqrt(d)
    if is_complex(given):
        fits = math.prod(predicted.shape) == math.prod(given.shape)
        predicted = embed_complex(predicted.reshape(tuple(given.shape)) if fits else predicted)
    if getattr(final_of(estimator), "packed", False) and d > 1:
        predicted = unpack_symmetric(predicted)
    if tuple(predicted.shape) not in ((m, d), (m, n, n)) and (d > 1 or len(predicted) != m):
        raise ValueError(
            f"Got predictions of shape {tuple(predicted.shape)} for {m} matrices of {d} "
            f"entries, but inverses of the same size are expected: is {estimator!r} a "
            f"regressor of inverses?"
        )
    if is_complex(predicted):
        raise ValueError(
            f"Got complex predictions for real matrices, but real inverses are expected: fit "
            f"{estimator!r} to real targets."
        )
    fresh = type(final_of(estimator)) in OURS
    if fresh and type(predicted) is type(rows) and predicted.dtype == rows.dtype:
        return restore_layout(predicted.reshape(m, d), True)
    # A copy otherwise: predictions may share memory with each other or with the regressor.
    if is_tensor(rows):
        torch = sys.modules["torch"]
        if not is_tensor(predicted):
            predicted = torch.tensor(np.array(predicted, dtype=np.float64))
        own = torch.empty(m, n, n, dtype=rows.dtype, device=rows.device)
        return own.copy_(predicted.detach().reshape(m, n, n))
    own = np.empty((m, n, n), dtype=rows.dtype)
    with np.errstate(all="ignore"):
        own[...] = np.reshape(predicted, (m, n, n))
    return own


def rows_of(given: Any, taken: slice) -> Any:
    """Return some rows of an array, tensor or data frame."""
    if not hasattr(given, "columns"):
        return given[taken]
    return _safe_indexing(given, np.arange(taken.start, min(taken.stop, len(given))))
