"""Errors on unseen matrices and times of candidates, side by side: what ParetoDisplay draws."""

import math
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from .._arrays.conversion import real_array, to_host
from .._arrays.estimators import private, reads_only
from .._arrays.rows import expecting_unanswered, refuse_nonfinite
from .._arrays.shapes import (
    Layout,
    as_stack,
    flatten_stack,
    refuse_no_rows,
    restore_layout,
    warn_of_single,
)
from .._linalg.inverses import check_inverse_targets
from .._linalg.products import exact_inverse
from ..geometry._regions import row_norms
from ..learn.linear import LinearInverseApprox
from ..learn.neural import NeuralInverseRegressor
from ..learn.polynomial import PolynomialInverseApprox

# Columns of a table of results, and what they are.
METRICS = {
    "median_relative_error": "median relative error (Frobenius norm)",
    "max_relative_error": "largest relative error (Frobenius norm)",
    "mean_absolute_error": "mean absolute error of the entries",
}
# What a clock measures, at least, in seconds.
_SHORTEST = 2e-3


def default_candidates(inverses: bool, random_state: Any) -> dict[str, Any]:
    """Return what is compared by default: of inverses there are series and LAPACK, too."""
    network = NeuralInverseRegressor(random_state=random_state)
    learned = {"polynomial": PolynomialInverseApprox(), "network": network}
    if not inverses:
        return learned
    series = {f"series of order {k}": LinearInverseApprox(order=k) for k in (1, 2, 3)}
    return {**series, **learned, "LAPACK": np.linalg.inv}


def check_candidates(candidates: Any) -> None:
    """Raise a ValueError unless these are estimators and functions by name."""
    if not isinstance(candidates, Mapping) or not candidates:
        raise ValueError(
            f"Got candidates of type {type(candidates).__name__}, but a dictionary of names and "
            f"estimators is expected."
        )
    for name, candidate in candidates.items():
        estimates = hasattr(candidate, "fit") and hasattr(candidate, "predict")
        if isinstance(candidate, type) or not (estimates or callable(candidate)):
            raise ValueError(
                f"Got {candidate!r} as candidate {name!r}, but an estimator with fit and predict "
                f"is expected, or a function of stacks of matrices, such as numpy.linalg.inv."
            )


def measure(
    X: Any,
    y: Any,
    candidates: Mapping[Any, Any],
    *,
    test_size: Any,
    dtype: str | None,
    batch_size: int,
    n_repeats: int,
    max_time: float | None,
    random_state: Any,
) -> tuple[list[dict[str, Any]], str]:
    """Return results and setting of a ParetoDisplay, as its `from_matrices` is asked for them."""
    rows, layout = _loaded(X, "X", dtype)
    y_layout = layout
    if y is None:
        warn_of_single(X)
        targets = reference_inverse(as_stack(rows)).reshape(rows.shape)
    else:
        targets, y_layout = _loaded(y, "y", "float64")
        if len(targets) != len(rows):
            raise ValueError(f"Got y of {len(targets)} rows, but X of {len(rows)}.")
    batch_size = int(batch_size)  # True is 1
    index = np.arange(len(rows))
    known, unseen = train_test_split(index, test_size=test_size, random_state=random_state)
    truth = targets[unseen].reshape(len(unseen), -1)
    batch = _restored(rows[np.resize(unseen, batch_size)], layout)

    results: list[dict[str, Any]] = []
    predictors: dict[int, Any] = {}
    for k, (name, candidate) in enumerate(candidates.items()):
        row = {"name": str(name), "microseconds_per_matrix": np.nan}
        row |= dict.fromkeys((*METRICS, "fit_seconds"), np.nan)
        row |= {"unanswered": 0, "failure": None}
        results.append(row)
        try:
            taught = _restored(rows[known], layout), _restored(targets[known], y_layout)
            predictor = _Predictor(candidate, *taught, max_time, y is None)
            row["fit_seconds"] = predictor.fit_seconds
            with expecting_unanswered():
                predicted = predictor.predict(_restored(rows[unseen], layout))
            row |= errors(predicted, truth)
            predictor.n_calls = 1 + int(_SHORTEST / max(predictor.seconds(batch), 1e-9))
        except Exception as error:  # whatever a candidate raises, the others go on
            row["failure"] = f"{type(error).__name__}: {error}"
        else:
            predictors[k] = predictor
    # In each round it is every one's turn, so that what slows the machine slows them all.
    rounds = [[p.seconds(batch) for p in predictors.values()] for _ in range(n_repeats)]
    for k, seconds in zip(predictors, np.median(rounds, axis=0), strict=True):
        results[k]["microseconds_per_matrix"] = 1e6 * float(seconds) / batch_size

    n = math.isqrt(rows.shape[1]) // (2 if layout == Layout.COMPLEX else 1)
    what = f"matrices of order {n}" if y is None else f"rows of {rows.shape[1]} features"
    kind = "complex, " if layout == Layout.COMPLEX else ""
    known_and_unseen = f"{len(known)} known and {len(unseen)} unseen"
    return results, f"{known_and_unseen} {what}, {kind}{rows.dtype}, {batch_size} at once"


class _Predictor:
    """A fitted copy of an estimator, or a function, which needs no fit."""

    def __init__(self, candidate: Any, X: Any, y: Any, max_time: float | None, stacks: bool):
        self.predict, self.fit_seconds, self.n_calls, self._reads_only = candidate, 0.0, 1, False
        if hasattr(candidate, "fit"):
            model = clone(candidate)
            if max_time is not None:
                names = [p for p in model.get_params() if p.split("__")[-1] == "max_time"]
                model.set_params(**dict.fromkeys(names, max_time))
            start = time.perf_counter()
            model.fit(X, y)
            self.fit_seconds = time.perf_counter() - start
            self.predict, self._reads_only = model.predict, reads_only(model)
        elif stacks:
            self.predict = lambda X: candidate(as_stack(X) if X.ndim == 2 else X)

    def seconds(self, batch: Any) -> float:
        """Return the time of a call, averaged over `n_calls`."""
        taken = 0.0
        with expecting_unanswered():
            for _ in range(self.n_calls):
                given = batch if self._reads_only else private(batch)
                start = time.perf_counter()
                self.predict(given)
                taken += time.perf_counter() - start
        return taken / self.n_calls


def _loaded(values: Any, name: str, dtype: str | None) -> tuple[NDArray, Layout]:
    """Return an array, or what a file holds, as finite real rows, and how they came."""
    if isinstance(values, (str, os.PathLike)):
        values = np.load(values, mmap_mode="r", allow_pickle=False)
    rows, layout = flatten_stack(to_host(values))
    if dtype is None:
        dtype = "float32" if getattr(rows, "dtype", None) == np.float32 else "float64"
    with np.errstate(over="ignore"):
        rows = real_array(rows, name).astype(dtype, copy=False)
    if not (name == "y" and rows.ndim == 1):
        refuse_no_rows(rows, name)
    refuse_nonfinite(rows, name)
    return rows, layout


def _restored(rows: NDArray, layout: Layout) -> NDArray:
    """Return complex matrices as a stack, all others as rows, which every regressor takes."""
    return restore_layout(rows, layout) if layout == Layout.COMPLEX else rows


def reference_inverse(A: NDArray) -> NDArray[np.float64]:
    """Return inverses (m, n, n) that are right almost to the last digit, or name singular rows.

    LAPACK's inverses X after two steps X ← X + X(I − AX), with residuals of about 75 bits: of A and
    X the leading bits are split off, whose products a double holds exactly, whatever the order of
    the sum (Ozaki, Ogita, Oishi and Rump 2012, "Error-free transformations of matrix multiplication
    by using fast routines of matrix multiplication and its applications").
    """
    A = A.astype(np.float64, copy=False)
    X = exact_inverse(A)
    check_inverse_targets(A, X)
    bits = (52 - math.ceil(math.log2(A.shape[-1]))) // 2
    with np.errstate(all="ignore"):
        head = _leading(A, bits, axis=2)
        for _ in range(2):
            lead = _leading(X, bits, axis=1)
            residual = np.eye(A.shape[-1]) - head @ lead
            residual -= head @ (X - lead) + (A - head) @ X
            improved = X + X @ residual
            X = np.where(np.isfinite(improved).all(axis=(1, 2), keepdims=True), improved, X)
    return X


def _leading(stack: NDArray[np.float64], bits: int, axis: int) -> NDArray[np.float64]:
    """Round to multiples of 2^−bits of the largest entry along an axis, up to a power of two."""
    _, exponent = np.frexp(np.abs(stack).max(axis=axis, keepdims=True))
    unit = np.ldexp(1.0, exponent - bits)
    return np.rint(stack / unit) * unit


def errors(predicted: Any, truth: NDArray[np.float64]) -> dict[str, Any]:
    """Return columns of a row of results: errors of rows without NaN, how many have NaN."""
    rows = real_array(flatten_stack(to_host(predicted))[0], "predictions")
    if rows.shape[:1] != truth.shape[:1] or rows.size != truth.size:
        raise ValueError(f"Got predictions of shape {rows.shape}, but {truth.shape} is expected.")
    rows = rows.reshape(truth.shape)
    answered = ~np.isnan(rows).any(axis=1)
    found: dict[str, Any] = {"unanswered": int(np.count_nonzero(~answered))}
    if not answered.any():
        return found | {"failure": "none of the unseen rows is answered"}
    with np.errstate(all="ignore"):
        difference = rows[answered] - truth[answered]
        norm = row_norms(difference)
        norm = np.where(np.isnan(norm), np.inf, norm)  # of infinite predictions
        relative = np.where(norm == 0, 0.0, norm / row_norms(truth[answered]))
        values = np.median(relative), relative.max(), np.abs(difference).mean()
    return found | dict(zip(METRICS, map(float, values), strict=True))
