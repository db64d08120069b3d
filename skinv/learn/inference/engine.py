"""Predictions of a fitted model on batches: in pieces that stay in the cache, and nothing twice."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._arrays.conversion import namespace, to_host
from ..._arrays.memory import on_host
from ..._arrays.progress import progress
from ..._linalg.arithmetic import Arithmetic, products_are_exact
from ..._linalg.form import ModelForm, for_complex
from ..._linalg.products import kernels_for
from ..._linalg.threads import in_threads
from ..._linalg.workspace import Workspace, empty, steps
from .evaluate import evaluate
from .parts import Parts
from .pieces import (
    PIECE_COPIED,
    differences,
    not_finite,
    pieces,
    shown,
    sum_is_finite,
)
from .single import single_function

# Up to so many numbers torch costs more than it saves.
_SMALL = 2**13
# So many selections of outputs are kept ready.
_SELECTIONS = 16


def resolve_device(device: str, strict: bool = False) -> str:
    """Return the device to work on; a missing CUDA falls back to the CPU unless `strict`."""
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
    try:
        torch.empty(0, device=device)
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"Got device={device!r}, but 'auto', 'cpu', 'cuda' or another device that torch has "
            f"here is expected."
        ) from error
    return device


class Engine:
    """Evaluates a fitted model on arrays and tensors.

    Constants are folded and brought to a precision and a device once; after that nothing waits for
    a device, so that a prediction can be captured in a CUDA graph.
    """

    def __init__(self, make_form: Callable[[], ModelForm]):
        # What it returns is not kept, only the constants of the precisions, devices and selections
        # of outputs that have been asked for.
        self._make_form = make_form
        self._lock = RLock()
        self._parts: dict[Any, Parts] = {}
        self._functions: dict[Any, Callable] = {}
        self._devices: dict[str, Any] = {}
        self._engines: dict[Any, Engine] = {}

    @cached_property
    def n_outputs(self) -> int:
        """Number of numbers predicted for a sample."""
        return self._make_form().constant.size

    def __call__(
        self,
        X: Any,
        outputs: NDArray[np.intp] | None = None,
        out: Any = None,
        device: str = "cpu",
        verbose: bool = False,
    ) -> Any:
        """Predict (m, n_outputs) in the dtype of `X`, rows or a stack; NaN for what is not finite.

        `out` is contiguous and in the dtype of `X`, in its memory or apart from it. `device` is for
        arrays, if they are many. Half precision is computed in single.
        """
        n_outputs = self.n_outputs if outputs is None else len(outputs)
        if len(X) == 0 or n_outputs == 0:
            return empty(X, (len(X), n_outputs)) if out is None else out
        engine = self if X.dtype.itemsize >= 4 else self._tolerant(X)
        if engine is not self:
            return engine(X, outputs, out, device, verbose)
        if not isinstance(X, np.ndarray):
            if not on_host(X):
                return self._tensors(X, outputs, out, verbose)
            return self._host_tensors(X, outputs, out, verbose)
        wide = np.dtype(np.float32) if X.dtype.itemsize < 4 else X.dtype
        if len(X) == 1 and outputs is None and out is None:
            return self._row(X, wide)
        parts = self.parts(wide, None, outputs)
        if out is None:
            out = np.empty((len(X), n_outputs), X.dtype)
        if device != "cpu" and len(X) * parts.width > _SMALL:
            there = self._device(device)
            if there is not None and self._by_device(X, parts, outputs, out, there, verbose):
                return out
        self._on_host(X, parts, out, verbose)
        return out

    def for_complex(self, inverses: bool) -> "Engine":
        """Return the engine for rows of real and imaginary parts in turn."""
        engine = self._engines.get(inverses)
        if engine is None:
            engine = Engine(lambda: for_complex(self._make_form(), inverses))
            self._engines[inverses] = engine
        return engine

    def _tolerant(self, X: Any) -> "Engine":
        """Return the engine for matrices that were rounded to half precision."""
        engine = self._engines.get(X.dtype)
        if engine is None:
            form, engine = self._make_form(), self
            if form.reduced is not None:
                wide = replace(form, reduced=form.reduced.tolerating(2 * Arithmetic.of(X).unit))
                engine = Engine(lambda: wide)
                engine._engines[X.dtype] = engine
            self._engines[X.dtype] = engine
        return engine

    def parts(
        self, dtype: Any, device: Any = None, outputs: NDArray[np.intp] | None = None
    ) -> Parts:
        """Return the constants in a precision, and on a device if tensors are wanted."""
        key = dtype, device, None if outputs is None else outputs.tobytes()
        parts = self._parts.get(key)
        if parts is not None:
            return parts
        with self._lock:
            parts = self._parts.get(key)
            if parts is None:
                parts = self._parts[key] = self._build(dtype, device, outputs)
                selections = [key for key in self._parts if key[2] is not None]
                if len(selections) > _SELECTIONS:
                    del self._parts[selections[0]]
        return parts

    def _build(self, dtype: Any, device: Any, outputs: NDArray[np.intp] | None) -> Parts:
        if device is None:
            parts = Parts.of(self._make_form(), outputs, single=dtype.itemsize < 8).to(dtype)
            return parts if outputs is None else parts.sharing(self.parts(dtype))
        kind = np.dtype(str(dtype).removeprefix("torch."))
        host = self.parts(kind, None, outputs)
        parts = host.on(device)
        if outputs is not None and device.type != "cpu":
            same = zip(host.layers, self.parts(kind).layers, strict=True)
            there = zip(parts.layers, self.parts(dtype, device).layers, strict=True)
            parts.layers = [
                theirs if mine is whole else own
                for (mine, whole), (own, theirs) in zip(same, there, strict=True)
            ]
        return parts

    def function(self, dtype: Any) -> Callable[[NDArray], NDArray]:
        """Return the model as a function of one row in a precision of NumPy's."""
        function = self._functions.get(dtype)
        if function is None:
            function = self._functions[dtype] = single_function(self.parts(dtype))
        return function

    # -- arrays ------------------------------------------------------------------------------------

    def _row(self, X: NDArray, wide: Any) -> NDArray:
        row = X.reshape(-1)
        if X.dtype != wide:
            row = row.astype(wide)
        with np.errstate(all="ignore"):
            values = self.function(wide)(row)[None]
            # A finite sum rules out NaN and infinity; one that is not may have overflowed.
            if not (math.isfinite(row.sum()) or np.isfinite(row).all()):
                values[:] = np.nan
            return values if X.dtype == wide else values.astype(X.dtype)

    def write(self, X: NDArray, out: NDArray) -> None:
        """Predict for finite rows, to memory apart from them in their precision; on the host.

        Floating-point errors are ignored by the caller.
        """
        parts = self.parts(X.dtype)
        whole = pieces(len(X), parts, X.itemsize)
        if len(whole) == 1:
            _evaluated(X, parts, out)
        else:

            def predict(piece: slice) -> None:
                with np.errstate(all="ignore"):
                    _evaluated(X[piece], parts, out[piece])

            in_threads(predict, whole, X)

    def _on_host(self, X: NDArray, parts: Parts, out: NDArray, verbose: bool) -> None:
        in_place = np.may_share_memory(X, out)
        # What is not picked is not in E, and activations may swallow what is.
        early = parts.kept is not None or bool(parts.layers)

        def predict(piece: slice) -> None:
            with np.errstate(all="ignore"):
                x, part = X[piece], out[piece]
                bad = not_finite(x) if early and not sum_is_finite(x) else None
                E = _evaluated(x, parts, part, in_place)
                # Through products alone NaN and infinity of a row reach all of its outputs.
                if not early:
                    total = np.add.reduce(part[:, 0], dtype=parts.origin.dtype)
                    bad = None if math.isfinite(total) else not_finite(E if in_place else x)
                if bad is not None:
                    part[bad] = np.nan
                bar.update(len(x))

        whole = pieces(len(X), parts, parts.origin.itemsize)
        with progress(len(X), "predicting", "matrix", verbose and len(whole) > 1) as bar:
            in_threads(predict, whole, X)

    def _device(self, name: str) -> Any:
        """Return the device that there is of a name, or None for the host."""
        if name not in self._devices:
            import torch

            device = torch.device(resolve_device(name))
            self._devices[name] = None if device.type == "cpu" else device
        return self._devices[name]

    def _by_device(
        self,
        X: NDArray,
        host: Parts,
        outputs: NDArray[np.intp] | None,
        out: NDArray,
        device: Any,
        verbose: bool,
    ) -> bool:
        """Predict on a device, in pieces, unless the user allows torch a lower precision there."""
        import torch

        kind = torch.float32 if host.origin.dtype == np.float32 else torch.float64
        if not products_are_exact(torch.empty(0, dtype=kind, device=device)):
            return False  # which is not meant for arrays
        there, space = self.parts(kind, device, outputs), Workspace()
        width = max(there.width, len(host.origin), there.n_outputs)
        step = max(PIECE_COPIED // (host.origin.itemsize * width), 1)
        with torch.no_grad(), np.errstate(all="ignore"):
            for piece in shown(steps(len(X), step), len(X), verbose):
                x, part = X[piece], out[piece]
                bad = None if sum_is_finite(x) else not_finite(x)
                memory = np.empty((len(x), len(host.origin)), host.origin.dtype)
                E = torch.from_numpy(differences(x, host, memory)).to(device)
                y = space.of(E, part.shape, "y")
                evaluate(there, E, y, space)
                part[...] = to_host(y)
                if bad is not None:
                    part[bad] = np.nan
        return True

    def _host_tensors(
        self, X: Any, outputs: NDArray[np.intp] | None, out: Any, verbose: bool
    ) -> Any:
        """Predict in NumPy, which multiplies stacks faster than torch on the host."""
        dtype, memory = X.dtype, out
        X = X.detach().resolve_neg()
        if dtype.itemsize < 4:
            X, memory = X.float(), None
        memory = None if memory is None else memory.numpy()
        values = self(X.numpy(), outputs, memory, verbose=verbose)
        if out is None:
            return namespace(X).from_numpy(values).to(dtype)
        return out if memory is not None else out.copy_(namespace(X).from_numpy(values))

    # -- tensors -----------------------------------------------------------------------------------

    def _tensors(self, X: Any, outputs: NDArray[np.intp] | None, out: Any, verbose: bool) -> Any:
        """Predict on the tensor's device, asking for none of its numbers."""
        import torch

        wide = torch.float32 if X.dtype.itemsize < 4 else X.dtype
        parts = self.parts(wide, X.device, outputs)
        if out is None:
            out = X.new_empty((len(X), parts.n_outputs))
        if _by_kernel(X, parts, out):
            return out
        space = Workspace()
        with torch.no_grad(), np.errstate(all="ignore"):
            for piece in shown(pieces(len(X), parts, wide.itemsize, X), len(X), verbose):
                x, part = X[piece], out[piece]
                # NaN goes through products, but not through what does not read an entry, nor
                # infinity through every activation.
                seen = None
                if parts.kept is not None or parts.layers:
                    seen = 0 * x.reshape(x.shape[0], -1).sum(1, dtype=wide)
                apart = out.data_ptr() != X.data_ptr()
                if apart and parts.is_direct and x.is_contiguous() and x.dtype == wide:
                    E = x.reshape(x.shape[0], -1)
                else:
                    E = space.of(parts.origin, (x.shape[0], parts.origin.shape[0]), "E")
                    differences(x, parts, E)
                evaluate(parts, E, part, space)
                if seen is not None:
                    part += seen[:, None]
        return out


def _evaluated(x: NDArray, parts: Parts, out: NDArray, in_place: bool = False) -> NDArray:
    """Write the outputs of a piece on the host, and return its differences."""
    d, wide, space = len(parts.origin), parts.origin.dtype, Workspace.of_thread()
    if parts.is_direct and not in_place and x.dtype == wide and x.flags.carray:
        E = x.reshape(len(x), d)
    else:
        E = differences(x, parts, space.of(parts.origin, (len(x), d), "E"))
    evaluate(parts, E, out, space)
    return E


def _by_kernel(X: Any, parts: Parts, out: Any) -> bool:
    """Evaluate a series, if it is all there is, in one pass on a GPU, if that can be done."""
    series = parts.series
    alone = not parts.layers and parts.linear is None and parts.constant is None
    if series is None or not series.is_plain or parts.is_complex or not alone or parts.unit != 1.0:
        return False
    kernels = kernels_for(X, series.left.shape[0]) if X.is_contiguous() else None
    if kernels is None:
        return False
    kernels.series(X, parts.origin, series.right, series.left, series.order, out)
    return True
