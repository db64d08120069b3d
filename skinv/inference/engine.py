"""Predictions of a fitted model on batches: in pieces that stay in the cache, and nothing twice."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..form import ModelForm
from ..matrices import is_tensor, refuse_nonfinite
from ..stacks import PIECE_CUDA, Workspace, kernels_for, on_host, products_are_exact
from .evaluate import evaluate
from .parts import SHORT, Parts
from .single import single_function

# Bytes of the widest intermediate result in a piece. Without a network smaller ones would fit an L2
# cache, but fresh memory for results drives them out of it anyway, and were measured to be slower.
# With one they should fit, but have at least so many rows, for the sake of the weights. On a GPU
# pieces only limit memory.
_PIECE = 2**22
_PIECE_NETWORK, _ROWS = 3 * 2**19, 1024
_MOST_ROWS = 2**14
# Up to so many numbers torch costs more than it saves.
_SMALL = 2**13
# So many precisions, devices and selections of outputs are kept ready.
_KEPT = 16


def resolve_device(device: str, strict: bool = False) -> str:
    """Return the device to work on; a missing CUDA falls back to the CPU unless `strict`.

    Parameters
    ----------
    device : str
        "auto" is CUDA where there is one.
    strict : bool, default=False

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If `strict` and there is no CUDA device to be had.

    Examples
    --------
    >>> resolve_device("cpu")
    'cpu'
    """
    if device == "cpu":
        return device
    import torch

    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device.startswith("cuda") and not available:
        if strict:
            raise ValueError(
                f"Got device={device!r}, but torch sees no CUDA device here; use device='auto'."
            )
        return "cpu"
    return device


class Engine:
    """Evaluates a fitted model on arrays and tensors.

    Constants are folded and brought to a precision and a device once; after that nothing waits for
    a device, so that a prediction can be captured in a CUDA graph.

    Parameters
    ----------
    form : ModelForm
    device : str, default="cpu"
        Where arrays are computed on, if they are many; "auto" is CUDA where there is one.

    Examples
    --------
    >>> engine = Engine(ModelForm.series(np.array([[2.0]]), np.array([[0.5]]), 1))
    >>> engine(np.array([[2.2]]))
    array([[0.45]])
    """

    def __init__(self, form: ModelForm, device: str = "cpu"):
        self.form = form
        self.device = device
        self._device: Any = None
        self._parts: dict[Any, Parts] = {}
        self._functions: dict[Any, Callable] = {}

    def __call__(self, X: Any, outputs: NDArray[np.intp] | None = None, out: Any = None) -> Any:
        """Predict.

        Parameters
        ----------
        X : ndarray or tensor of shape (m, n_features) or (m, n, n)
            Floating-point numbers, in whatever memory layout. Half precision is computed in single.
        outputs : ndarray of int, default=None
            Indices of the outputs that are asked for.
        out : ndarray or tensor of shape (m, n_outputs), default=None
            Memory for the result, contiguous and in the dtype of `X`.

        Returns
        -------
        ndarray or tensor of shape (m, n_outputs)
            In the dtype of `X`.

        Raises
        ------
        ValueError
            For rows of an array that are not finite. Tensors are not looked at.
        """
        n_outputs = self.form.constant.size if outputs is None else len(outputs)
        if len(X) == 0 or n_outputs == 0:
            empty = X.new_empty if is_tensor(X) else lambda shape: np.empty(shape, X.dtype)
            return empty((len(X), n_outputs))
        if is_tensor(X):
            return self._tensors(X, outputs, out)
        wide = np.dtype(np.float32) if X.dtype.itemsize < 4 else X.dtype
        if len(X) == 1 and outputs is None and out is None:
            return self._row(X, wide)
        parts = self.parts(wide, None, outputs)
        if out is None:
            out = np.empty((len(X), parts.n_outputs), X.dtype)
        if len(X) * parts.width <= _SMALL:
            self._small(X, parts, out)
        else:
            self._arrays(X, parts, outputs, out)
        return out

    def _row(self, X: NDArray, wide: Any) -> NDArray:
        """Predict a single row."""
        function = self._functions.get(wide)
        if function is None:
            function = self._functions[wide] = single_function(self.parts(wide))
        row = X.reshape(-1)
        if X.dtype != wide:
            row = row.astype(wide)
        with np.errstate(all="ignore"):
            values = function(row)[None]
            # A finite sum rules out NaN and infinity; one that is not may have overflowed.
            if not math.isfinite(row.sum()):
                refuse_nonfinite(X, "X")
            return values if X.dtype == wide else values.astype(X.dtype)

    def _small(self, X: NDArray, parts: Parts, out: NDArray) -> None:
        """Predict a few rows, without torch."""
        E = _differences(X, parts, np.empty((len(X), len(parts.origin)), parts.origin.dtype))
        y = out if out.dtype == E.dtype else np.empty(out.shape, E.dtype)
        if not _sum_is_finite(X):
            refuse_nonfinite(X, "X")
        with np.errstate(all="ignore"):
            evaluate(parts, E, y, Workspace())
            if y is not out:
                out[...] = y

    def parts(
        self, dtype: Any, device: Any = None, outputs: NDArray[np.intp] | None = None
    ) -> Parts:
        """Return the constants in a precision, and on a device if tensors are wanted."""
        key = dtype, device, None if outputs is None else outputs.tobytes()
        parts = self._parts.get(key)
        if parts is None:
            if len(self._parts) >= _KEPT:  # many selections: the oldest goes
                self._parts.pop(next(iter(self._parts)))
            single = dtype.itemsize < 8
            parts = Parts.of(self.form, outputs, single=single).to(dtype, device)
            self._parts[key] = parts
        return parts

    def _tensors(self, X: Any, outputs: NDArray[np.intp] | None, out: Any) -> Any:
        torch = sys.modules["torch"]
        wide = torch.float32 if X.dtype.itemsize < 4 else X.dtype
        parts = self.parts(wide, X.device, outputs)
        if out is None:
            out = _torch_memory(len(X), parts.n_outputs, X.dtype, X.device)
        if self._by_kernel(X, parts, out):
            return out
        space = Workspace()
        with torch.no_grad(), np.errstate(all="ignore"):
            for piece in _pieces(len(X), parts, X.device.type, wide.itemsize):
                x = X[piece]
                E = space.of(parts.origin, (len(x), len(parts.origin)), "E")
                _torch_differences(x, parts, E)
                self._evaluate(parts, E, out[piece], space)
        return out

    def _by_kernel(self, X: Any, parts: Parts, out: Any) -> bool:
        """Evaluate a series, if it is all there is, in one pass on a GPU, if that can be done."""
        series = parts.series
        alone = not parts.layers and parts.linear is None and parts.constant is None
        if series is None or series.thin or not alone or parts.unit != 1.0:
            return False
        kernels = kernels_for(X, len(series.left)) if X.is_contiguous() else None
        if kernels is None:
            return False
        kernels.series(X, parts.origin, series.right, series.left, series.order, out)
        return True

    def _arrays(
        self, X: NDArray, host: Parts, outputs: NDArray[np.intp] | None, out: NDArray
    ) -> None:
        """Predict many rows of an array."""
        import torch

        wide = host.origin.dtype
        if self._device is None:
            self._device = torch.device(resolve_device(self.device))
        kind = torch.float32 if wide == np.float32 else torch.float64
        example = torch.empty(0, dtype=kind)
        parts = self.parts(kind, self._device, outputs)
        with torch.no_grad(), np.errstate(all="ignore"):
            if self._device.type != "cpu":
                self._arrays_on_device(X, host, parts, out)
                return
            if not products_are_exact(example):
                # The user allows torch a lower precision, but not NumPy.
                for piece in _pieces(len(X), host, "cpu", wide.itemsize):
                    self._small(X[piece], host, out[piece])
                return
            space, d = Workspace(), len(host.origin)
            for piece in _pieces(len(X), parts, "cpu", wide.itemsize):
                x, part = X[piece], out[piece]
                E = space.of(example, (len(x), d), "E")
                if x.dtype == wide and x.flags.carray and parts.kept is None:
                    _torch_differences(torch.from_numpy(x), parts, E)
                else:  # read-only memory and files, which torch does not take
                    _differences(x, host, E.numpy())
                same = part.dtype == wide
                y = torch.from_numpy(part) if same else space.of(example, part.shape, "y")
                # Through products alone NaN and infinity of a row reach all of its outputs, but
                # activations may swallow them, and what is not picked is not in E.
                if parts.kept is not None:
                    finite = _sum_is_finite(x)
                elif parts.layers:
                    finite = math.isfinite(torch.dot(E.view(-1), E.view(-1)))
                else:
                    finite = True
                evaluate(parts, E, y, space)
                if parts.kept is None and not parts.layers:
                    finite = math.isfinite(y[:, 0].sum())
                if not finite:  # or something overflowed
                    refuse_nonfinite(X, "X")
                if not same:
                    part[...] = y.numpy()

    def _arrays_on_device(self, X: NDArray, host: Parts, parts: Parts, out: NDArray) -> None:
        """Predict rows of an array on a GPU."""
        torch, wide = sys.modules["torch"], host.origin.dtype
        space = Workspace()
        for piece in _pieces(len(X), parts, "cuda", wide.itemsize):
            x = X[piece]
            if not _sum_is_finite(x):
                refuse_nonfinite(X, "X")
            E = _differences(x, host, np.empty((len(x), len(host.origin)), wide))
            E = torch.from_numpy(E).to(parts.origin.device)
            y = space.of(E, out[piece].shape, "y")
            evaluate(parts, E, y, space)
            out[piece] = y.cpu().numpy()

    def _evaluate(self, parts: Parts, E: Any, out: Any, space: Workspace) -> None:
        if E.dtype == out.dtype:
            evaluate(parts, E, out, space)
        else:
            y = space.of(E, tuple(out.shape), "y")
            evaluate(parts, E, y, space)
            out.copy_(y)


def _sum_is_finite(x: NDArray) -> bool:
    """Tell whether a sum is finite: if so all terms are."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(x.sum(dtype=np.float32 if x.dtype == np.float16 else None))


def _pieces(m: int, parts: Parts, device: str, itemsize: int) -> Iterator[slice]:
    """Cut m rows into pieces."""
    row = itemsize * parts.width
    if device != "cpu":
        step = max(PIECE_CUDA // row, 1)
    elif parts.layers:
        step = min(max(_PIECE_NETWORK // row, _ROWS), _MOST_ROWS)
    else:
        step = min(max(_PIECE // row, 1), _MOST_ROWS)
    return (slice(start, min(start + step, m)) for start in range(0, m, step))


def _torch_memory(m: int, n: int, dtype: Any, device: Any) -> Any:
    """Return memory for a result, in large pages if it is large."""
    torch = sys.modules["torch"]
    if device.type == "cpu" and dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.empty((m, n), np.dtype(str(dtype).removeprefix("torch."))))
    return torch.empty(m, n, dtype=dtype, device=device)


def _torch_differences(x: Any, parts: Parts, E: Any) -> None:
    """Write (a − origin)·unit to E."""
    torch = sys.modules["torch"]
    if parts.kept is not None:
        x = x.reshape(len(x), -1).index_select(1, parts.kept)
    if E.shape[1] <= SHORT and on_host(x) and x.is_contiguous():
        torch.sub(x.view(-1), parts.repeated("origin", parts.origin, len(E)), out=E.view(-1))
    elif x.ndim == 3:
        torch.sub(x, parts.origin.view(x.shape[1:]), out=E.view(x.shape))
    else:
        torch.sub(x, parts.origin, out=E)
    if parts.unit != 1.0:
        E *= parts.unit


def _differences(X: NDArray, parts: Parts, E: NDArray) -> NDArray:
    """Write (a − origin)·unit to E, reading X once, whatever its layout."""
    with np.errstate(all="ignore"):
        if parts.kept is not None:
            X = X.reshape(len(X), -1)[:, parts.kept]
        if E.shape[1] <= SHORT and X.flags.c_contiguous:
            np.subtract(
                X.reshape(-1), parts.repeated("origin", parts.origin, len(E)), out=E.reshape(-1)
            )
        elif X.ndim == 3:
            n = X.shape[1]
            np.subtract(X, parts.origin.reshape(n, n), out=E.reshape(X.shape))
        else:
            np.subtract(X, parts.origin, out=E)
        if parts.unit != 1.0:
            E *= E.dtype.type(parts.unit)
    return E
