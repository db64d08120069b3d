"""A fitted model as a torch module: differentiable, compilable, and the source of ONNX files."""

import contextlib
import math
from dataclasses import replace
from functools import reduce
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._arrays.estimators import unwrapped
from .._linalg.form import ModelForm
from .._linalg.norms import NORMS, check_norm
from ..certified._estimator import CertifiedInverse
from ..learn.free_numbers import StructuredInverse
from ..learn.inference.coordinates import ReducedPart
from ..learn.inference.parts import Parts
from ..learn.inference.predictor import EnginePredictorMixin
from ..learn.training.modules import mlp_forward
from ..refinement import check_order

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def _torch_dtype(given: Any) -> torch.dtype:
    """Return a dtype by its name, or for one of torch or NumPy."""
    dtype = given
    if given is not None and not isinstance(given, torch.dtype | str):
        with contextlib.suppress(TypeError):
            dtype = np.dtype(given).name
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, None)
    if dtype not in _DTYPES:
        names = [str(t).removeprefix("torch.") for t in _DTYPES]
        raise ValueError(f"Got dtype={given!r}, but it must be one of {names}.")
    return dtype


def to_module(
    model: Any, n_refine: int = 0, *, order: int | None = None, dtype: Any = "float32"
) -> "InverseModule":
    """Return a fitted model as a torch module, scaling, baseline and refinement inside.

    Parameters
    ----------
    model : estimator
        Fitted: a LinearInverseApprox, PolynomialInverseApprox or NeuralInverseRegressor, or a
        StructuredInverse or CertifiedInverse of one. Frozen estimators and fitted searches are
        looked into, pipelines are not.
    n_refine : int, default=0
        Number of Newton-Schulz steps after the prediction.
    order : {2, 3, 4}, default=None
        Order of the steps; None is that of a CertifiedInverse, else 2.
    dtype : {"float32", "float64", "float16", "bfloat16"} or torch.dtype, default="float32"
        Precision of the weights, and of the input that is expected. In half precision differences
        to the centre, reduced coordinates, residuals and refinement are computed in float32.

    Returns
    -------
    InverseModule
        Takes tensors of shape (..., n*n) or (..., n, n), on the host or the device it is moved to,
        and returns the inverses in the same shape; other quantities than inverses as
        (..., n_outputs); NaN where ``predict`` answers NaN because a matrix is far from those that
        the model was fitted to. That of a CertifiedInverse returns a pair: inverses, and the norms
        of the residuals I − AX of shape (...), which bound their relative errors where they are
        below 1, but for rounding; there is no fallback in it. The weights of a network are
        parameters, and can be trained further; all else is buffers. It is a copy: neither changes
        the other.

    Raises
    ------
    ValueError
        For another kind of model, a model of other quantities where it would have to be refined,
        a negative number of steps, or an unknown order or dtype.

    See Also
    --------
    skinv.export.to_onnx : The same as a file.

    Notes
    -----
    The derivative of A⁻¹ in direction E is −A⁻¹EA⁻¹. That of the module is as far from it as the
    slopes of the model are: of a model that was fitted to data, in directions in which these vary.
    A refinement step makes its error, too, smaller by about the norm of R = I − AX: the new
    derivative is dX + dX·R + X·dR, where dR = −E·X − A·dX.

    Examples
    --------
    >>> from skinv import LinearInverseApprox
    >>> module = to_module(LinearInverseApprox([[2.0]]).fit(), n_refine=2, dtype="float64")
    >>> A = torch.tensor([[[2.5]]], dtype=torch.float64, requires_grad=True)
    >>> X = module(A)
    >>> X.backward()
    >>> float(X.detach()), float(A.grad)  # 0.4 and −0.16
    (0.39999..., -0.1600...)
    """
    certified = None
    model = unwrapped(model)
    if isinstance(model, CertifiedInverse):
        certified = model._ready()
        model = unwrapped(certified.estimator_)
        if certified.family is not None:
            raise ValueError(
                "Got a CertifiedInverse with a family, which is a function in Python; export its "
                "estimator_, which takes the parameters, without refinement."
            )
    if not isinstance(model, EnginePredictorMixin | StructuredInverse):
        raise ValueError(
            f"Got {type(model).__name__}, but only LinearInverseApprox, PolynomialInverseApprox, "
            f"NeuralInverseRegressor, and a StructuredInverse or CertifiedInverse of them can be "
            f"exported; of a pipeline pass the last step."
        )
    check_is_fitted(model)
    if not isinstance(n_refine, Integral) or n_refine < 0:
        raise ValueError(f"Got n_refine={n_refine!r}, but a number of steps >= 0 is expected.")
    if order is None:
        order = 2 if certified is None else certified.order
    check_order(order)
    dtype = _torch_dtype(dtype)
    model._refuse_rectangular()
    plain = not n_refine and certified is None
    form = model._make_form()() if plain else model._model_form()
    return InverseModule(
        form,
        dtype,
        n_refine=n_refine,
        order=order,
        norm=None if certified is None else check_norm(certified.norm),
        single_output=model._y_ndim == 1,
    )


class InverseModule(nn.Module):
    """What :func:`to_module` returns."""

    origin: Tensor
    kept: Tensor | None
    scale: Tensor | None
    constant: Tensor | None
    linear: Tensor | None
    series_right: Tensor
    series_left: Tensor
    identity: Tensor

    def __init__(
        self,
        form: ModelForm,
        dtype: torch.dtype,
        *,
        n_refine: int = 0,
        order: int = 2,
        norm: str | None = None,  # of the residuals that are returned too; None returns none
        single_output: bool = False,  # which is returned without a dimension of its own
    ):
        super().__init__()
        self.n_features, self.n_outputs = form.origin.size, form.constant.size
        self.n = math.isqrt(self.n_features)
        self.activation, self.single_output = form.activation, single_output
        self.n_refine, self.order, self.norm = n_refine, order, norm
        self.half_precision, self.input_dtype = dtype.itemsize < 4, dtype
        if self.half_precision and form.reduced is not None:
            form = replace(form, reduced=form.reduced.tolerating(torch.finfo(dtype).eps))
        parts = Parts.of(form, single=dtype.itemsize < 8, narrow=self.half_precision)
        wide = torch.float32 if self.half_precision else dtype

        hold(self, "origin", parts.origin, wide)
        hold(self, "kept", parts.kept, torch.int64)
        scale = np.asarray(parts.unit)
        hold(self, "scale", scale if np.any(scale != 1.0) else None, wide)
        inside = parts.layers or parts.reduced is not None
        hold(self, "constant", None if inside else parts.constant, dtype)
        hold(self, "linear", parts.linear, dtype)
        series = parts.series
        self.series_order = 0 if series is None else series.order
        hold(self, "series_right", None if series is None else series.right, dtype)
        hold(self, "series_left", None if series is None else series.left, dtype)
        hold(self, "identity", np.eye(self.n) if series is not None else None, dtype)
        part = parts.reduced
        self.reduced = None if part is None else ReducedModule(part, parts.activation, dtype, wide)
        self.weights = nn.ParameterList(torch.tensor(W.T.copy()).to(dtype) for W, _ in parts.layers)
        self.biases = nn.ParameterList(torch.tensor(b).to(dtype) for _, b in parts.layers)
        if not all(bool(t.isfinite().all()) for t in (*self.parameters(), *self.buffers())):
            raise ValueError(
                f"Constants of the model overflow in {str(dtype).removeprefix('torch.')}: use a "
                f"wider dtype, or bring the matrices to another scale."
            )

    def extra_repr(self) -> str:
        """Return what the module's representation says of it."""
        dtype = str(self.input_dtype).removeprefix("torch.")
        return f"{self.n_features} -> {self.n_outputs}, {dtype}, n_refine={self.n_refine}"

    def forward(self, A: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction for (..., n*n) or (..., n, n), and the norm of a residual."""
        n, d, shape = self.n, self.n_features, A.shape
        stack_of_numbers = d == 1 and len(shape) > 2 and shape[-2] == 1
        if len(shape) == 0 or shape[-1] != d or stack_of_numbers:
            if len(shape) < 2 or (shape[-2], shape[-1]) != (n, n) or n * n != d:
                raise ValueError(
                    f"Got a tensor of shape {tuple(shape)}, but (..., {d})"
                    f"{f' or (..., {n}, {n})' if n * n == d else ''} is expected."
                )
            A = A.flatten(-2)
        values = self._predict(A)
        residual = None
        if self.n_refine or self.norm is not None:
            values, residual = self._refine(A, values)
        if self.single_output:
            values = values.squeeze(-1)
        elif self.n_outputs == d:
            values = values.reshape(shape)
        return values if residual is None or self.norm is None else (values, residual)

    def _predict(self, A: Tensor) -> Tensor:
        """Return the prediction for rows."""
        if self.half_precision:
            A = A.to(self.origin.dtype)
        E = (A if self.kept is None else A.index_select(-1, self.kept)) - self.origin
        if E.dtype != self.origin.dtype:
            raise ValueError(
                f"Got a tensor of {A.dtype} for a module in {self.origin.dtype}: convert the "
                f"tensor, A.to({self.origin.dtype}), or make the module of another dtype, "
                f"to_module(..., dtype=...)."
            )
        if self.scale is not None:
            E = E * self.scale
        terms = [] if self.reduced is None else [self.reduced(E)]
        if self.half_precision:
            E = E.to(self.input_dtype)
        if self.weights:
            weights, biases = tuple(self.weights), tuple(self.biases)
            terms.append(mlp_forward(E, weights, biases, self.activation))
        if self.linear is not None:
            terms.append(E @ self.linear)
        if self.constant is not None:
            terms.append(self.constant)
        if self.series_order:
            square = E.unflatten(-1, (self.n, self.n))
            N = square @ self.series_right
            P = self.identity + N
            for _ in range(self.series_order - 1):
                P = self.identity + N @ P
            terms.append((self.series_left @ P).flatten(-2))
        return reduce(torch.add, terms)

    def _refine(self, A: Tensor, X: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return refined inverses, as rows, and the norms of their residuals."""
        wide = self.origin.dtype
        with torch.autocast(A.device.type, enabled=False):
            A, X = A.to(wide), X.to(wide)
            A, X = A.unflatten(-1, (self.n, self.n)), X.unflatten(-1, (self.n, self.n))
            identity = torch.eye(self.n, dtype=wide, device=X.device)
            for _ in range(self.n_refine):
                R = identity - A @ X
                Y = X
                for _ in range(self.order - 1):
                    Y = X + Y @ R
                X = Y
            X = X.to(self.input_dtype)
            residual = None
            if self.norm is not None:
                R = identity - A @ X.to(wide)
                if self.norm == "fro":
                    residual = torch.linalg.vector_norm(R, dim=(-2, -1))
                else:
                    residual = R.abs().sum(NORMS[self.norm]).amax(-1)
        return X.flatten(-2), residual


def hold(module: nn.Module, name: str, array: NDArray | None, dtype: torch.dtype) -> None:
    """Register an array as a buffer of a module, or None."""
    tensor = None if array is None else torch.tensor(np.ascontiguousarray(array)).to(dtype)
    module.register_buffer(name, tensor)


class ReducedModule(nn.Module):
    """What :meth:`skinv.learn.inference.coordinates.ReducedPart.evaluate` computes, for rows.

    Input and coordinates are in `wide`, float32 for half precision: what is outside the coordinates
    is a difference of numbers that are much larger.
    """

    projection: Tensor
    shift: Tensor | None
    limits: Tensor | None
    coef: Tensor  # of the terms: (n_terms, n_outputs), or (n_terms, n_basis) with a basis
    constant: Tensor
    basis: Tensor | None

    def __init__(
        self, part: ReducedPart, activation: str, dtype: torch.dtype, wide: torch.dtype
    ) -> None:
        super().__init__()
        self.n_outside, self.powers = part.n_outside, part.terms.powers
        self.activation, self.dtype = activation, dtype
        hold(self, "projection", part.projection, wide)
        hold(self, "shift", None if part.shift is None else part.shift[:, 0], wide)
        hold(self, "limits", None if part.limits is None else part.limits[:, 0], wide)
        if self.limits is not None:
            self.limits.nan_to_num_()  # infinity where they overflow
        self._n_products = len(part.terms.factors)
        for k, pair in enumerate(part.terms.factors):
            hold(self, f"product{k}", np.stack(pair), torch.int64)
        if part.basis is None:
            coef, constant, basis = part.coef[:-1], part.coef[-1], None
        else:
            coef, constant, basis = part.coef.T, part.basis[-1], part.basis[:-1]
        n_terms = len(part.terms)
        layers = [(W, b[:, 0]) for W, b in part.layers]
        if layers:
            layers.append((coef[n_terms:].T, constant))
        hold(self, "coef", coef[:n_terms], dtype)
        hold(self, "basis", basis, dtype)
        hold(self, "constant", None if layers else constant, dtype)
        self.weights = nn.ParameterList(torch.tensor(W.copy()).to(dtype) for W, _ in layers)
        self.biases = nn.ParameterList(torch.tensor(b.copy()).to(dtype) for _, b in layers)

    @property
    def products(self) -> list[Tensor]:
        """Pairs of indices of what is multiplied, see :class:`skinv._linalg.terms.Terms`."""
        return [self.get_buffer(f"product{k}") for k in range(self._n_products)]

    @property
    def constant_row(self) -> Tensor:
        """What is added last: the last bias, if there is a perceptron."""
        return self.biases[-1] if self.weights else self.constant

    def forward(self, E: Tensor) -> Tensor:
        """Return the outputs (..., n_outputs) for differences to the origin (..., n_features)."""
        with torch.autocast(E.device.type, enabled=False):
            looked = E @ self.projection
        if self.shift is not None:
            looked = looked + self.shift
        known = None
        if self.limits is not None:
            known = (looked.abs() <= self.limits).all(-1, keepdim=True)
            # Terms that overflow there would make gradients NaN, those of the weights too.
            looked = torch.where(known, looked, 0.0)
        z = looked[..., self.n_outside :].to(self.dtype)
        out = self.terms(z) @ self.coef
        if self.weights:
            # The last bias, which is the constant of the whole, is added past the basis.
            h, biases = z[..., : self.weights[0].shape[1]], [*self.biases[:-1], None]
            out = out + mlp_forward(h, tuple(self.weights), biases, self.activation)
        if self.basis is not None:
            out = out @ self.basis
        out = out + self.constant_row
        return out if known is None else torch.where(known, out, math.nan)

    def terms(self, z: Tensor) -> Tensor:
        """Return the terms of coordinates, as :meth:`skinv._linalg.terms.Terms.evaluate` does."""
        atoms = [z]
        for k, count in enumerate(self.powers[1:], 1):  # of degree k + 1
            new = z[..., :count] * atoms[-1][..., :count] * ((2 * k + 1) / (k + 1))
            before = atoms[-2][..., :count] if k > 1 else 1.0
            atoms.append(new - before * (k / (k + 1)))
        values = torch.cat(atoms, -1)
        for left, right in self.products:
            new = values.index_select(-1, left) * values.index_select(-1, right)
            values = torch.cat([values, new], -1)
        return values
