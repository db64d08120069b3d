"""The arithmetic of a model: constants folded together, for all outputs or some of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..form import ModelForm
from ..matrices import is_tensor

# Up to this order of the matrices the first-order series is one product with an n²×n² matrix, which
# is faster than two products with n×n matrices (the crossover was measured between 8 and 16).
DENSE_ORDER = 8
# Rows of up to so many numbers are short for a loop: what is added to them is repeated instead.
SHORT = 36
# Inputs that do not vary are left out if they are more than this share of all: to pick the others
# costs a copy.
_WORTH_PICKING = 0.25
# Past these, coefficients of a map are kept in float32's range by another unit for the inputs.
_RANGE = 1e30


@dataclass
class SeriesPart:
    """Some rows and columns of the series B(I + N + N² + …), N = −EB.

    Parameters
    ----------
    right : array of shape (n, n) or (n, n_columns)
        −B (over the unit of E) for all outputs, else the columns asked for, B[:, columns].
    left : array of shape (n, n) or (n_rows, n)
        B, or the rows asked for.
    order : int
    inner : array of shape (n, n) or None
        B, where only a part is asked for.
    corner : array of shape (n_rows, n_columns) or None
        The rows and columns asked for, of B.
    pick : array of int or None
        Where the outputs stand among rows × columns; None is all of them, in order.
    by_rows : bool
        Whether the part is computed from its rows (few rows) or its columns (few columns).

    Examples
    --------
    >>> part = SeriesPart(-np.eye(2), np.eye(2), 1)
    >>> part.thin
    False
    """

    right: Any
    left: Any
    order: int
    inner: Any = None
    corner: Any = None
    pick: Any = None
    by_rows: bool = False

    @property
    def thin(self) -> bool:
        """Whether only a part is computed."""
        return self.inner is not None


@dataclass
class Parts:
    """What a prediction is computed from, for E = (a − origin)·unit.

    Parameters
    ----------
    origin : array of shape (n_features,)
    n_outputs : int
    constant : array of shape (n_outputs,) or None
        Constant part, which is in the last bias too if there is a network; None is 0.
    linear : array of shape (n_inputs, n_outputs) or None
        Affine part.
    layers : list of (weight (n_in, n_out), bias (n_out,))
        Network on E.
    activation : str
    series : SeriesPart or None
    kept : array of int or None
        Inputs that `linear` and `layers` look at; None is all of them.
    unit : float or array of shape (n_inputs,)
        Powers of two, 1 but for matrices of extreme magnitude and for half precision.

    Examples
    --------
    >>> form = ModelForm.series(np.array([[2.0]]), np.array([[0.5]]), 1)
    >>> parts = Parts.of(form)
    >>> parts.constant, parts.linear  # n = 1: an affine map
    (array([0.5]), array([[-0.25]]))
    """

    origin: Any
    n_outputs: int
    constant: Any
    linear: Any = None
    layers: list[tuple[Any, Any]] = field(default_factory=list)
    activation: str = "relu"
    series: SeriesPart | None = None
    kept: Any = None
    unit: Any = 1.0
    _repeated: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        form: ModelForm,
        outputs: NDArray[np.intp] | None = None,
        *,
        single: bool = False,
        narrow: bool = False,
    ) -> Parts:
        """Fold the constants of a model, in float64.

        Parameters
        ----------
        form : ModelForm
        outputs : ndarray of int, default=None
            Indices of the outputs that are asked for; None is all.
        single : bool, default=False
            Whether differences are to be taken in single precision: the origin is rounded to it
            then, and maps make up for that. (A series does not: its centre is what it is.)
        narrow : bool, default=False
            Whether products are to be taken in half precision: E is scaled to moderate size then,
            each input by itself if there is no series, and coefficients of order ‖B‖² are avoided.

        Returns
        -------
        Parts
        """
        every = slice(None) if outputs is None else outputs
        series, dense = None, False
        if form.taylor is not None:
            center, B, order = form.taylor
            n, d = len(B), B.size
            series = _series_part(B, order, outputs)
            dense = order == 1 and not narrow
            dense = dense and (n <= DENSE_ORDER or (series.thin and _thin_cost(series, n) > d))
        pivot = form.x_mean if form.layers and form.linear is None else form.origin
        if form.taylor is not None:
            pivot = center.ravel()
        if single and (form.taylor is None or dense):
            pivot = pivot.astype(np.float32).astype(np.float64)
        constant = (form.constant + (pivot - form.origin) @ form.matrix)[every]
        linear = None if form.linear is None else form.linear[:, every]
        if dense:
            # vec(BEB) = (B ⊗ Bᵀ) vec E on rows, and the transpose of that matrix is Bᵀ ⊗ B.
            tangent = -_kron_columns(B, np.arange(d)[every])
            constant = constant + B.ravel()[every] + (pivot - center.ravel()) @ tangent
            linear, series = (tangent if linear is None else linear + tangent), None
        layers = [(W.T, b) for W, b in form.layers]
        if layers:
            W, b = layers[0]
            W = W / form.x_scale[:, None]
            layers[0] = W, b + (pivot - form.x_mean) @ W
            W, b = layers[-1]
            layers[-1] = W[:, every], b[every] + constant
        zero = series is not None and not constant.any()
        parts = cls(
            pivot,
            len(constant),
            None if zero else constant,
            linear,
            layers,
            form.activation,
            series,
        )
        if narrow:
            parts._rescale(_moderate(form, pivot))
        elif parts._is_extreme():
            parts._rescale(_power_of_two(1 / np.abs(pivot).max()))
        parts._pick()
        return parts

    def _maps(self) -> list[NDArray]:
        """Return the matrices that E is multiplied with."""
        return [W for W, _ in self.layers[:1]] + ([] if self.linear is None else [self.linear])

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
            if self.linear is not None:
                self.linear = self.linear[self.kept]
            self.layers[:1] = [(W[self.kept], b) for W, b in self.layers[:1]]

    def _is_extreme(self) -> bool:
        """Tell whether coefficients would leave float32's range, and scaling might help."""
        largest = max((float(np.abs(M).max(initial=0.0)) for M in self._maps()), default=0.0)
        return largest > 0 and self.origin.any() and not 1 / _RANGE < largest < _RANGE

    def _rescale(self, unit: Any) -> None:
        """Take another unit, of all inputs or of each, for E."""
        self.unit = unit
        columns = unit if np.ndim(unit) == 0 else unit[:, None]
        if self.linear is not None:
            self.linear = self.linear / columns
        self.layers[:1] = [(W / columns, b) for W, b in self.layers[:1]]
        if self.series is not None and not self.series.thin:
            self.series = replace(self.series, right=self.series.right / unit)

    def to(self, dtype: Any, device: Any = None) -> Parts:
        """Return the constants in another precision, as tensors on a device if there is one.

        Parameters
        ----------
        dtype : dtype
            Of NumPy, or of torch if a device is given.
        device : torch.device, default=None

        Returns
        -------
        Parts
        """

        def convert(array: Any) -> Any:
            if array is None:
                return None
            array = np.ascontiguousarray(array)
            if device is None:
                return array if array.dtype.kind == "i" else array.astype(dtype)
            import torch

            kind = torch.int64 if array.dtype.kind == "i" else dtype
            return torch.tensor(array, dtype=kind, device=device)

        def converted(part: Any, *names: str) -> Any:
            return part and replace(part, **{k: convert(getattr(part, k)) for k in names})

        return replace(
            self,
            origin=convert(self.origin),
            constant=convert(self.constant),
            linear=convert(self.linear),
            layers=[(convert(W), convert(b)) for W, b in self.layers],
            series=converted(self.series, "right", "left", "inner", "corner", "pick"),
            kept=convert(self.kept),
            _repeated={},
        )

    def repeated(self, name: str, row: Any, m: int) -> Any:
        """Return a row m times over, from memory that is kept by a name.

        On the host only: what is allocated in the capture of a CUDA graph must not be kept.
        """
        held = self._repeated.get(name)
        if held is None or len(held) < m * len(row):
            held = row.repeat(m) if is_tensor(row) else np.tile(row, m)
            self._repeated[name] = held
        return held[: m * len(row)]

    @cached_property
    def width(self) -> int:
        """Numbers that are held at once for one matrix, of the widest intermediate result."""
        return max(len(self.origin), self.n_outputs, *(len(b) for _, b in self.layers), 1)


def _power_of_two(numbers: Any) -> Any:
    """Return the powers of two nearest to positive numbers."""
    return 2.0 ** np.round(np.log2(numbers))


def _moderate(form: ModelForm, pivot: NDArray) -> Any:
    """Return units in which the differences to the pivot are of moderate size."""
    if form.layers and form.taylor is None:
        return _power_of_two(1 / form.x_scale)
    if form.layers:
        size = form.x_scale[(form.layers[0][0] != 0).any(axis=0)].max(initial=0.0)
    else:
        size = np.abs(pivot).max()
    return float(_power_of_two(1 / size)) if size > 0 else 1.0


def _series_part(B: NDArray, order: int, outputs: NDArray[np.intp] | None) -> SeriesPart:
    """Choose how the outputs that are asked for are computed."""
    n = len(B)
    whole = SeriesPart(right=-B, left=B, order=order)
    if outputs is None:
        return whole
    rows, row_of = np.unique(outputs // n, return_inverse=True)
    columns, column_of = np.unique(outputs % n, return_inverse=True)
    pick = row_of * len(columns) + column_of
    whole_block = np.array_equal(pick, np.arange(len(rows) * len(columns)))
    return SeriesPart(
        right=B[:, columns],
        left=B[rows],
        order=order,
        inner=B,
        corner=B[np.ix_(rows, columns)],
        pick=None if whole_block else pick,
        by_rows=len(rows) < len(columns),
    )


def _thin_cost(series: SeriesPart, n: int) -> float:
    """Return the multiplications of the first order of a part, per output and relative to 1."""
    rows, columns = len(series.left), series.right.shape[1]
    n_outputs = rows * columns if series.pick is None else len(series.pick)
    return (n * n * min(rows, columns) + n * rows * columns) / max(n_outputs, 1)


def _kron_columns(B: NDArray, outputs: NDArray[np.intp]) -> NDArray:
    """Return columns of Bᵀ ⊗ B: that of output (i, j) is the outer product of B[i] and B[:, j]."""
    n = len(B)
    rows, columns = B[outputs // n], B[:, outputs % n]
    return (rows.T[:, None, :] * columns[None, :, :]).reshape(n * n, len(outputs))
