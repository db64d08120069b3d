"""What the estimators that predict through the engine share."""

import math
from collections.abc import Callable
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from ..._arrays.blocks import by_blocks
from ..._arrays.conversion import is_dask, to_host
from ..._arrays.embedding import as_pairs, from_pairs
from ..._arrays.memory import result_memory, warn_of_gradients, writes_over
from ..._arrays.shapes import Layout, Matrices, rectangular_shape
from ..._arrays.validation import take, take_as_is
from ..._linalg.form import OTHER_TARGETS, ModelForm
from ..regressor import InverseRegressorMixin
from .engine import Engine


class EnginePredictorMixin(InverseRegressorMixin):
    """A regressor whose fitted model is a :class:`skinv._linalg.form.ModelForm`.

    Its ``fit`` ends with ``_set_engine``.
    """

    _engine: Engine
    _inverse_targets = True  # rather than another quantity

    def _look_at(self, values: NDArray, rows: NDArray) -> None:
        """Look at the predictions for rows of an array, before they are returned."""

    def _make_form(self) -> Callable[[], ModelForm]:
        """Return a function that returns the model as it is now, whatever is fitted later."""
        raise NotImplementedError

    def _set_engine(self) -> None:
        self._engine = Engine(self._make_form())

    def _model_form(self) -> ModelForm:
        """Return what bounds over a region need to know."""
        if not self._inverse_targets:
            raise ValueError(OTHER_TARGETS)
        self._refuse_rectangular()
        return self._make_form()()

    @overload
    def predict(self, X: NDArray, *, outputs: Any = ..., out: Any = ...) -> NDArray: ...
    @overload
    def predict(self, X: Any, *, outputs: Any = ..., out: Any = ...) -> Any: ...
    def predict(self, X: Any, *, outputs: Any = None, out: Any = None) -> Any:
        """Predict the inverses, or the quantity that was trained.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            Matrices; NaN and infinity are allowed, and answered by NaN. Arrays of whatever memory
            layout, read-only and memory-mapped ones are read once and not copied.
        outputs : array-like of int, or tuple of two of them, default=None
            Entries of the inverse to compute, the others being left out: indices into a flattened
            inverse, rows and columns as in ``numpy.diag_indices(n)`` (a tuple is rows and columns,
            a list is not), or a boolean mask, of complex matrices those of the complex inverse.
            Columns or rows of a series take O(n²) operations
            each, the diagonal one product of matrices less than the whole.
        out : ndarray or tensor, default=None
            Memory for the result, contiguous, of its shape and dtype. It may be `X` itself, whose
            contents are lost then. Fresh memory costs about as much as the products for n up to 64.

        Returns
        -------
        ndarray or tensor of the shape of `X`, or (n_samples, n_outputs) or (n_samples,)
            Predictions, pseudo-inverses (n_samples, n, m) of matrices that are not square, in the
            dtype of `X` if that is a floating-point one, in native byte order, else in float64; a
            tensor, on its device and without gradients (see :func:`skinv.inv`, and
            :func:`skinv.export.to_module`), for a tensor; for a dask array one that is
            computed later, block by block. Of half precision the arithmetic
            is in float32. NaN for matrices that are not finite (or infinity, where an infinite one
            came in a tensor); what overflows is inf or NaN.

        Raises
        ------
        ValueError
            For a wrong number of features, and for outputs or memory that do not fit.

        Notes
        -----
        After a first call with tensors of the same dtype and device, and with the same `outputs`,
        predictions of them can be captured in a CUDA graph. It is good until the next fit.
        """
        if is_dask(X):
            return by_blocks(self, "predict", X, outputs=outputs, out=out)
        if not self.__sklearn_is_fitted__():
            check_is_fitted(self)
        warn_of_gradients(X)
        shape = rectangular_shape(X)
        self._refuse_other_shape(shape)
        if shape is not None:
            return self._pseudo_inverses(X, self._predict, outputs=outputs, out=out)
        return self._predict(X, outputs, out)

    def _predict(self, X: Any, outputs: Any = None, out: Any = None) -> Any:
        """Predict what square matrices, or features, stand for."""
        X, layout = self._validate_batch(X)
        engine, whole = self._engine, layout == Layout.COMPLEX
        inverses = engine.n_outputs == self.n_features_in_
        if whole:
            engine = engine.for_complex(inverses)
        pairs = whole and inverses
        n_outputs = engine.n_outputs // 2 if pairs else engine.n_outputs
        index = None if outputs is None else output_indices(outputs, n_outputs)
        shape: tuple[int, ...] = (len(X), n_outputs if index is None else len(index))
        if index is None and self._y_ndim == 1:
            shape = shape[:1]
        elif index is None and layout and inverses:
            n = math.isqrt(n_outputs)
            shape = len(X), n, n
        rows = as_pairs(X) if whole else X
        if out is not None:
            out = result_memory(X, out, shape, (X if pairs else rows).dtype)
        verbose, seen = getattr(self, "verbose", 0) > 1, rows
        if out is not None and writes_over(rows, out):
            seen = np.where(np.isfinite(rows), rows.dtype.type(0), np.nan)
        if pairs and index is not None:
            index = np.stack([2 * index, 2 * index + 1], axis=1).ravel()
        values = engine(rows, index, out, getattr(self, "device", "cpu"), verbose)
        if isinstance(values, np.ndarray):
            self._look_at(values, seen)
        return from_pairs(values, *shape) if pairs else values.reshape(shape)

    def _writes_inverses(self, rows: Any) -> Callable[[Any, Any], None] | None:
        """Return a function that writes predictions for finite rows, real ones like these, if any.

        To memory apart from them, like them. Floating-point errors are ignored by its caller.
        """
        engine = getattr(self, "_engine", None)
        if engine is None or not engine.n_outputs == self.n_features_in_ == rows.shape[1]:
            return None
        device, verbose = getattr(self, "device", "cpu"), getattr(self, "verbose", 0) > 1
        simple = type(rows) is np.ndarray and rows.itemsize >= 4 and device == "cpu"
        if simple and not verbose:
            return engine.write
        return lambda rows, out: engine(rows, None, out, device, verbose)

    def inverse_function(self, dtype: Any = np.float64) -> Callable[[ArrayLike], NDArray]:
        """Return the fitted model as a function of one matrix, for loops that take them singly.

        Parameters
        ----------
        dtype : {"float32", "float64"} or dtype, default=float64
            Precision of the arithmetic and of the results.

        Returns
        -------
        function
            Takes an array of shape (n, n) or (n*n,) and returns the prediction in that shape; other
            quantities than inverses as (n_outputs,). It checks the shape, and nothing else: NaN
            goes through, and what overflows warns as in NumPy. It does not follow the estimator
            when that is fitted again.

        Raises
        ------
        ValueError
            For another dtype.

        Examples
        --------
        >>> from skinv import LinearInverseApprox
        >>> inverse = LinearInverseApprox([[2.0, 0.0], [0.0, 4.0]]).fit().inverse_function()
        >>> inverse([[2.2, 0.0], [0.0, 4.0]])
        array([[0.45, 0.  ],
               [0.  , 0.25]])
        """
        check_is_fitted(self)
        try:
            kind = np.dtype(dtype)
        except TypeError:
            kind = np.dtype(object)
        if kind not in (np.float32, np.float64):
            raise ValueError(f"Got dtype={dtype!r}, but it must be 'float32' or 'float64'.")
        dtype = kind
        engine, function = self._engine, self._engine.function(dtype)
        d, inverse = self.n_features_in_, engine.n_outputs == self.n_features_in_
        n = math.isqrt(d)
        square, flat = (n, n) if n * n == d else None, (d,)
        asarray = np.asarray

        def of_complex(A: NDArray) -> NDArray:
            if 2 * A.shape[-1:] != A.shape or not inverse or 4 * A.size != d:
                raise ValueError(f"Got a complex array of shape {A.shape}; pass (n, n).")
            row = as_pairs(A[None].astype(np.result_type(dtype, np.complex64), copy=False))[0]
            return from_pairs(engine.for_complex(True).function(dtype)(row), *A.shape)

        def single(A: ArrayLike) -> NDArray:
            try:
                A = asarray(A)
            except (RuntimeError, TypeError):  # of tensors with gradients, or in bfloat16
                A = asarray(to_host(A))
            if A.dtype != dtype:
                if A.dtype.kind == "c":
                    return of_complex(A)
                A = A.astype(dtype)
            if A.shape == square:
                values = function(A.reshape(-1))
                return values.reshape(square) if inverse else values
            if A.shape == flat:
                return function(A)
            expected = f"({n}, {n}) or ({d},)" if square else f"({d},)"
            raise ValueError(f"Got an array of shape {A.shape}, but {expected} is expected.")

        return single if self._shape is None else self._single_pseudo_inverse(single, dtype)

    def _validate_batch(self, X: Any) -> Matrices:
        """Return rows or a stack of floating-point numbers, as they are if possible."""
        return take_as_is(self, X) or take(self, X, keep_half=True)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_engine", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.__sklearn_is_fitted__():
            self._set_engine()


def output_indices(outputs: Any, n_outputs: int) -> NDArray[np.intp]:
    """Return indices into flattened outputs, of indices, rows and columns, or a mask."""
    n = math.isqrt(n_outputs)
    if isinstance(outputs, tuple) and len(outputs) == 2 and n * n == n_outputs:
        try:
            rows, columns = np.broadcast_arrays(*map(np.asarray, outputs))
        except ValueError:
            raise ValueError(
                f"Got outputs={outputs!r}, but rows and columns of one shape are expected."
            ) from None
        if all(part.size == 0 or part.dtype.kind in "iu" for part in (rows, columns)):
            pairs = rows.astype(np.intp).ravel(), columns.astype(np.intp).ravel()
            return _chosen(np.arange(n_outputs).reshape(n, n), pairs, outputs)
    try:
        index = np.asarray(outputs)
    except ValueError:  # ragged
        index = np.zeros(1)
    if index.shape == (0,):
        return np.zeros(0, dtype=np.intp)
    if index.dtype == bool and index.size == n_outputs:
        return np.flatnonzero(index)
    if index.dtype.kind not in "iu" or index.ndim > 1:
        raise ValueError(
            f"Got outputs={outputs!r}, but indices of entries, a tuple of rows and columns, or a "
            f"mask of {n_outputs} entries is expected."
        )
    return _chosen(np.arange(n_outputs), np.atleast_1d(index), outputs)


def _chosen(entries: NDArray[np.intp], index: Any, outputs: Any) -> NDArray[np.intp]:
    try:
        return entries[index]
    except IndexError:
        last = len(entries) - 1
        raise ValueError(
            f"Got outputs={outputs!r}, but indices must be from {-last - 1} to {last}."
        ) from None
