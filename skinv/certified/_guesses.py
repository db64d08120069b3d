"""What a regressor says of matrices, whatever it raises at some of them."""

import math
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from .._arrays.conversion import as_complex, is_complex, not_a_number, numbers_like, to_host
from .._arrays.embedding import extract_complex
from .._arrays.estimators import private, reads_only, unwrapped
from .._arrays.rows import expecting_unanswered, numbered, taken_rows
from .._arrays.shapes import flatten_stack
from .._arrays.warned import warn
from .._linalg.workspace import copied, full
from ..learn.linear import LinearInverseApprox
from ..learn.neural import NeuralInverseRegressor
from ..learn.polynomial import PolynomialInverseApprox
from ..learn.regressor import InverseRegressorMixin
from ..structures import unpack_symmetric
from ._fitting import final_of

# Regressors whose predictions are fresh memory, and cheap to ask for in blocks.
OURS = (LinearInverseApprox, NeuralInverseRegressor, PolynomialInverseApprox)
# How often a regressor is asked, at most, to find out at which matrices it raises.
_CALLS = 256
# What is raised whatever the matrices.
_FAULTS = (NotFittedError, NotImplementedError, TypeError, AttributeError, NameError, MemoryError)


def guess(estimator: Any, given: Any, A: Any, index: Any = None, out: Any = None) -> Any:
    """Return the regressor's predictions for some finite matrices, as a stack of their own like A.

    `given` is what it is asked with for all, and A are those matrices themselves. `out` is memory
    for the result.
    """
    total, numbers = len(given), None
    if index is not None and not (isinstance(index, slice) and index == slice(0, total)):
        given, A = taken_rows(given, index), A[index]
        numbers = range(total)[index] if isinstance(index, slice) else to_host(index)
    if len(given) == 0:
        return copied(A)
    if is_complex(given) and not _takes_complex(estimator):
        # Those that are not square are for regressors of skinv only, whatever region is before.
        given = flatten_stack(given)[0] if given.shape[1] == given.shape[2] else given
    direct = out is not None and _is_direct(estimator, given, out)
    with nullcontext() if numbers is None else numbered(numbers, total):
        predicted, answered = _ask(estimator, given, out.reshape(given.shape) if direct else None)
    if answered is None:
        own = out if direct else _as_stack(estimator, predicted, A)
    else:
        own = full(A, tuple(A.shape), not_a_number(A))
        if len(answered):
            own[answered] = _as_stack(estimator, predicted, A[answered])
    if out is None or own is out:
        return own
    out[...] = own
    return out


def writer(estimator: Any, given: Any, A: Any) -> Callable[[Any, Any], None] | None:
    """Return a function of some of the rows `given` of finite matrices that writes inverses.

    To memory like them; None for what :func:`guess` is for. A are those matrices.
    """
    if type(estimator) not in OURS or type(given) is not type(A) or "predict" in vars(estimator):
        return None
    if given.ndim != 2 or given.dtype != A.dtype or A.shape[1] == 1:
        return None
    return estimator._writes_inverses(given)


def _is_direct(estimator: Any, given: Any, out: Any) -> bool:
    """Tell whether the regressor can write its predictions where they are to be."""
    if type(estimator) not in OURS or "predict" in vars(estimator):
        return False
    same = type(given) is type(out) and given.dtype == out.dtype and out.shape[-1] > 1
    return same and math.prod(given.shape) == math.prod(out.shape)


def _takes_complex(estimator: Any) -> bool:
    """Tell whether a regressor is one of skinv, and none in a pipeline, whose steps might not."""
    return isinstance(unwrapped(estimator), InverseRegressorMixin) and reads_only(estimator)


def _ask(estimator: Any, given: Any, out: Any = None) -> tuple[Any, NDArray | None]:
    """Return the regressor's predictions, and for which rows if it raises at some.

    What it raises for a batch may be due to a single row: which ones is found by bisection.
    """
    host = not isinstance(final_of(estimator), InverseRegressorMixin)
    copies = not reads_only(estimator)

    def ask(part: Any, **memory: Any) -> Any:
        part = private(to_host(part) if host else part) if copies else part
        with np.errstate(all="ignore"), expecting_unanswered():
            return estimator.predict(part, **memory)

    try:
        return ask(given, **({} if out is None else {"out": out})), None
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
                part = ask(taken_rows(given, slice(first, last)))
                answers[first] = last - first, np.asarray(to_host(part))
            except _FAULTS:
                raise
            except Exception:
                pending.append((first, last))
    unasked = sum(stop - start for start, stop in pending if stop - start > 1)
    if unasked or (len(given) > 1 and not answers):
        warn(
            f"The regressor raised errors for batches of {len(given)} matrices, and was given "
            f"up for {unasked or len(given)} of them, which go to the fallback: "
            f"{type(failure).__name__}: {failure}",
            RuntimeWarning,
        )
    if not answers:
        return None, np.zeros(0, dtype=np.intp)
    order = sorted(answers)
    answered = np.concatenate([np.arange(k, k + answers[k][0]) for k in order])
    parts = [part.reshape(m, -1) for m, part in map(answers.__getitem__, order)]
    return np.concatenate(parts), answered


def _as_stack(estimator: Any, predicted: Any, A: Any) -> Any:
    """Return predictions as a stack of their own, like the matrices A that they are for."""
    final, fresh = final_of(estimator), type(predicted) is type(A) and predicted.dtype == A.dtype
    predicted = numbers_like(predicted, A, "predictions")
    if getattr(final, "packed", False) and A.shape[1] > 1:
        predicted = unpack_symmetric(predicted)
    m, n, k = A.shape
    size = math.prod(predicted.shape)
    embedded = is_complex(A) and not is_complex(predicted) and size == 4 * m * n * k
    rows, columns = (2 * n, 2 * k) if embedded else (n, k)
    shapes = (m, rows * columns), (m, rows, columns)
    if tuple(predicted.shape) not in shapes and (rows * columns > 1 or len(predicted) != m):
        raise ValueError(
            f"Got predictions of shape {tuple(predicted.shape)} for {m} matrices of {n * k} "
            f"entries, but inverses of the same size are expected: is {estimator!r} a "
            f"regressor of inverses?"
        )
    if is_complex(predicted) and not is_complex(A):
        raise ValueError(
            f"Got complex predictions for real matrices, but real inverses are expected: fit "
            f"{estimator!r} to real targets."
        )
    stack = predicted.reshape(m, rows, columns)
    if embedded:
        return extract_complex(stack)
    if is_complex(A):
        stack = as_complex(stack)
    # A copy: predictions of others may share memory with each other or with the regressor.
    return stack if fresh and type(final) in OURS else copied(stack)
