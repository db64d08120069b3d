"""The arithmetic of a model: constants folded together, for all outputs or some of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._arrays.conversion import namespace
from ..._arrays.memory import host_view
from ..._linalg.form import ModelForm
from ..._linalg.terms import Terms
from .coordinates import ReducedPart
from .series import SeriesPart, is_dense, kron_columns

# Rows of up to so many numbers are short for a loop: what is added to them is repeated instead.
SHORT = 36
# Inputs that do not vary are left out if they are more than this share of all: to pick the others
# costs a copy.
_WORTH_PICKING = 0.25
# Past these, coefficients of a map are kept in float32's range by another unit for the inputs.
_RANGE = 1e30


@dataclass
class Parts:
    """What a prediction is computed from, for E = (a − origin)·unit."""

    origin: Any  # (n_inputs,)
    n_outputs: int
    constant: Any  # (n_outputs,), in the last bias too if there is a network; None is 0
    linear: Any = None  # (n_inputs, n_outputs) or None
    # Network on E: weights (n_in, n_out) and biases (n_out,).
    layers: list[tuple[Any, Any]] = field(default_factory=list)
    activation: str = "relu"
    series: SeriesPart | None = None
    reduced: ReducedPart | None = None  # in the place of layers
    kept: Any = None  # the inputs that linear and layers look at; None is all of them
    # Powers of two, one or of shape (n_inputs,): 1 but for extreme magnitudes and half precision.
    unit: Any = 1.0
    centered_at_0: bool = False
    is_complex: bool = False  # whether the series is, of rows of real and imaginary parts in turn
    _repeated: dict[str, Any] = field(default_factory=dict, init=False)

    @classmethod
    def of(
        cls,
        form: ModelForm,
        outputs: NDArray[np.intp] | None = None,
        *,
        single: bool = False,
        narrow: bool = False,
    ) -> "Parts":
        """Fold the constants of a model, in float64; `outputs` are the indices of some, or all.

        In `single` precision the origin is rounded to it, and maps make up for that. (A series does
        not: its centre is what it is.) `narrow` is for products in half precision: E is scaled to
        moderate size then, each input by itself if there is no series, and coefficients of order
        ‖B‖² are avoided.
        """
        every = slice(None) if outputs is None else outputs
        series, dense = None, False
        if form.taylor is not None:
            center, B, order = form.taylor
            entries = outputs
            if np.iscomplexobj(B) and outputs is not None:
                entries = outputs[::2] // 2
            series = SeriesPart.of(B, order, entries)
            dense = order == 1 and not narrow and is_dense(len(B), entries)
        pivot = _pivot(form, dense, single, narrow)
        constant, linear = form.constant[every], None
        if form.linear is not None:
            linear = form.linear[:, every]
            constant = constant + (pivot - form.origin) @ linear
        if dense:
            unit, tangent = _tangent(B, every)
            moved = (pivot - as_row(center)) * unit
            constant, series = constant + as_row(B)[every] + moved @ tangent, None
        layers = [(W.T, b) for W, b in form.layers]
        if layers:
            W, b = layers[0]
            W = W / form.x_scale[:, None]
            layers[0] = W, b + (pivot - form.x_mean) @ W
            W, b = layers[-1]
            layers[-1] = W[:, every], b[every] + constant
        reduced, activation = None, form.activation
        if form.reduced is not None:
            reduced = ReducedPart.of(form.reduced, constant, pivot, every, single=single)
            activation = form.reduced.activation
        zero = series is not None and not constant.any()
        parts = cls(
            pivot,
            len(constant),
            None if zero else constant,
            linear,
            layers,
            activation,
            series,
            reduced,
            centered_at_0=reduced is not None and not pivot.any(),
            is_complex=series is not None and np.iscomplexobj(series.left),
        )
        if dense:
            parts._rescale(unit)
            parts.linear = tangent if linear is None else parts.linear + tangent
        if narrow:
            parts._rescale(_moderate(form, pivot))
        elif parts.unit == 1.0 and parts._is_extreme():
            largest = max(float(np.abs(pivot).max()), np.finfo(np.float64).tiny)
            parts._rescale(float(_power_of_two(1 / largest)))
        parts._pick()
        return parts

    def _maps(self) -> list[NDArray]:
        maps = [W for W, _ in self.layers[:1]] + ([] if self.linear is None else [self.linear])
        return maps + ([] if self.reduced is None else [self.reduced.projection])

    def _change_maps(self, change: Callable[[NDArray], NDArray]) -> None:
        if self.linear is not None:
            self.linear = change(self.linear)
        self.layers[:1] = [(change(W), b) for W, b in self.layers[:1]]
        if self.reduced is not None:
            self.reduced = replace(self.reduced, projection=change(self.reduced.projection))

    def _pick(self) -> None:
        """Leave out inputs that nothing depends on, if they are many."""
        maps = self._maps()
        if self.series is not None or not maps:
            return
        used = np.any([(M != 0).any(axis=1) for M in maps], axis=0)
        if used.sum() <= (1 - _WORTH_PICKING) * used.size:
            self.kept = np.flatnonzero(used) if used.any() else np.array([0])
            self.origin = self.origin[self.kept]
            if np.ndim(self.unit):
                self.unit = self.unit[self.kept]
            self._change_maps(lambda M: M[self.kept])

    def _is_extreme(self) -> bool:
        """Tell whether coefficients would leave float32's range, and scaling might help."""
        largest = max((float(np.abs(M).max(initial=0.0)) for M in self._maps()), default=0.0)
        return largest > 0 and self.origin.any() and not 1 / _RANGE < largest < _RANGE

    def _rescale(self, unit: Any) -> None:
        self.unit = unit
        columns = unit if np.ndim(unit) == 0 else unit[:, None]
        self._change_maps(lambda M: M / columns)
        if self.series is not None and not self.series.is_thin:
            self.series = replace(self.series, right=self.series.right / unit)

    def to(self, dtype: Any) -> "Parts":
        """Return the constants in another precision, in memory of their own."""

        def convert(array: NDArray) -> NDArray:
            kind = np.result_type(dtype, np.complex64) if array.dtype.kind == "c" else dtype
            return np.array(array, np.intp if array.dtype.kind == "i" else kind, order="C")

        with np.errstate(over="ignore"):
            return _mapped(self, convert)

    def on(self, device: Any) -> "Parts":
        """Return the constants as tensors on a device, on the host in the memory of the arrays."""
        import torch

        if device.type == "cpu":
            return _mapped(self, torch.from_numpy)
        return _mapped(self, partial(torch.tensor, device=device))

    def repeated(self, name: str, row: Any, m: int) -> Any:
        """Return a row m times over, from memory that is kept by a name.

        On the host only: what is allocated in the capture of a CUDA graph must not be kept.
        """
        held = self._repeated.get(name)
        if held is None or len(held) < m * len(row):
            held = namespace(row).tile(row, (m,))
            self._repeated[name] = held
        return held[: m * len(row)]

    def sharing(self, other: "Parts") -> "Parts":
        """Return the same parts, with the layers of others in the place of equal ones.

        Of another selection of outputs all but the last are.
        """
        pairs = zip(self.layers, other.layers, strict=True)
        layers = [b if all(map(np.array_equal, a, b)) else a for a, b in pairs]
        return replace(self, layers=layers)

    @cached_property
    def width(self) -> int:
        """Numbers that are held at once for one matrix, of the widest intermediate result."""
        if self.reduced is not None and self.is_direct:
            return self.reduced.width
        inner = [len(b) for _, b in self.layers]
        inner += [] if self.reduced is None else [self.reduced.width]
        return max(len(self.origin), self.n_outputs, *inner, 1)

    @cached_property
    def is_direct(self) -> bool:
        """Whether rows need no differences."""
        plain = self.centered_at_0 and self.kept is None
        return plain and np.ndim(self.unit) == 0 and self.unit == 1.0


def _mapped(part: Any, convert: Callable[[NDArray], Any]) -> Any:
    """Apply a function to every array in a part of a model."""
    if isinstance(part, np.ndarray):
        return convert(part)
    if isinstance(part, Terms):  # whose loops are NumPy's on the host
        return part.mapped(lambda index: host_view(convert(index)))
    if isinstance(part, list | tuple):
        return type(part)(_mapped(item, convert) for item in part)
    if isinstance(part, Parts | SeriesPart | ReducedPart):
        names = [f.name for f in fields(part) if f.init]
        return replace(part, **{name: _mapped(getattr(part, name), convert) for name in names})
    return part


def _pivot(form: ModelForm, dense: bool, single: bool, narrow: bool) -> NDArray:
    """Return from where differences are taken."""
    if form.taylor is not None:
        pivot = as_row(form.taylor[0])
    elif form.reduced is not None:
        # In double precision sums of products round no more than the entries did.
        direct = form.linear is None and not (single or narrow)
        pivot = np.zeros(form.origin.size) if direct else form.reduced.origin
    else:
        pivot = form.x_mean if form.layers and form.linear is None else form.origin
    if single and (form.taylor is None or dense):
        with np.errstate(over="ignore"):
            rounded = pivot.astype(np.float32).astype(np.float64)
        pivot = np.where(np.isfinite(rounded), rounded, pivot)
    return pivot


def _tangent(B: NDArray, every: Any) -> tuple[float, NDArray]:
    """Return a unit for E and the matrix of −BEB on rows of E·unit, for some outputs.

    vec(BEB) = (B ⊗ Bᵀ) vec E on rows, and the transpose of that matrix is Bᵀ ⊗ B. E is scaled, and
    one B with it, where coefficients of order ‖B‖² would leave the range.
    """
    size = float(np.abs(B).max())
    unit = 1.0 if 1 / _RANGE < size * size < _RANGE else float(_power_of_two(size))
    tangent = -kron_columns(B, B / unit, np.arange(B.size))
    if np.iscomplexobj(B):
        re, im = tangent.real, tangent.imag
        pairs = np.stack([np.stack([re, im], axis=-1), np.stack([-im, re], axis=-1)], axis=1)
        tangent = pairs.reshape(2 * B.size, 2 * B.size)
    return unit, tangent[:, every]


def as_row(M: NDArray) -> NDArray:
    """Return the numbers of a matrix, of a complex one real and imaginary parts in turn."""
    return np.ascontiguousarray(M).ravel().view(M.real.dtype)


def _power_of_two(numbers: Any) -> Any:
    """Return the powers of two nearest to positive numbers; 0 for those of what overflowed."""
    with np.errstate(divide="ignore"):
        return 2.0 ** np.round(np.log2(numbers))


def _moderate(form: ModelForm, pivot: NDArray) -> Any:
    """Return units in which differences to the pivot, and coefficients, are of moderate size."""
    if form.taylor is None:
        if form.layers:
            return _power_of_two(1 / form.x_scale)
        if form.reduced is not None and form.linear is None:
            return float(_power_of_two(np.abs(form.reduced.projection).max(initial=0.0) or 1.0))
        largest = np.abs(form.matrix).max(axis=1, initial=0.0)
        return _power_of_two(np.where(largest > 0, largest, 1.0))
    if form.layers:
        size = form.x_scale[(form.layers[0][0] != 0).any(axis=0)].max(initial=0.0)
    else:
        size = np.abs(pivot).max()
    return float(_power_of_two(1 / size)) if size > 0 else 1.0
