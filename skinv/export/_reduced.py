"""A polynomial and a perceptron of a few coordinates as a torch module."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..learn.inference.coordinates import ReducedPart
from ..learn.training.modules import mlp_forward


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
        for k, (left, right) in enumerate(part.terms.factors):
            hold(self, f"left{k}", left, torch.int64)
            hold(self, f"right{k}", right, torch.int64)
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
    def products(self) -> list[tuple[Tensor, Tensor]]:
        """Indices of what is multiplied, see :class:`skinv._linalg.terms.Terms`."""
        return [
            (self.get_buffer(f"left{k}"), self.get_buffer(f"right{k}"))
            for k in range(self._n_products)
        ]

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
