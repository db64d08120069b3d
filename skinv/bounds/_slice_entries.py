"""The entries of a model's error over a slice of matrices, bounded over many boxes at once."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._linalg.form import ModelForm
from ._jets import Boxes, inverse_jet, underflow
from ._problem import NEGLIGIBLE
from ._slice import SliceProblem

_EPS = float(np.finfo(np.float64).eps)
_UP = 1 + 1e-9


class EntriesProblem(SliceProblem):
    """f(A) − A⁻¹ over a slice, entries multiplied with weights <= 1, powers of two.

    That is −A⁻¹R with the residual R, of which much is known, and A⁻¹ = B ± D on a box, B the
    inverse at its centre: |A⁻¹R| <= |BR| + D|R|, and BR has Bernstein coefficients, too.
    """

    _compresses = False

    def __init__(
        self,
        form: ModelForm,
        center: NDArray,
        directions: NDArray,
        norm: str,
        device: Any,
        weight: ArrayLike,
        rtol: float,
        end: float,
    ):
        zeros = np.zeros(center.size)
        super().__init__(
            form, center, directions, norm, device, zeros.astype(int), zeros, rtol, end
        )
        weight = np.broadcast_to(weight, center.shape)
        self._outer = torch.tensor(weight.clip(NEGLIGIBLE), device=device)
        self._least = torch.tensor(np.where(weight < NEGLIGIBLE, 0.0, weight), device=device)
        entries = np.abs(center) + np.abs(directions).sum(axis=0)
        rows = entries.reshape(self.n, self.n).sum(axis=1).max()
        self._blur = 2 * (self.d + 4) * _EPS * float(rows) + underflow(self.d, self.n)
        # Matrices in double precision may be off the slice.
        self._off = 0.0
        if self._extended is not None:
            self._off = self._norm(self.model.deviation((self.d + 2) * _EPS * entries))
        rows = self._rows(self._outer.new_zeros(1, self.d))
        self.noise = 3 * float(rows.max()) * (self._slack + self._off)
        if not math.isfinite(self.noise):
            self.noise = 0.0

    def errors(self, z: Tensor) -> Tensor:
        """Return weighted entries of errors at points z (b, k), as rows."""
        R = self._values(z).reshape(-1, self.n, self.n)
        inverse = torch.linalg.inv_ex(self.model.matrices(z))[0]
        return (inverse @ R).reshape(len(z), -1) * self._least

    def _rows(self, z: Tensor) -> Tensor:
        """Return weighted norms of the rows of inverses at points, (b, o)."""
        inverse = torch.linalg.inv_ex(self.model.matrices(z))[0]
        size = torch.linalg.vector_norm(inverse, dim=2, keepdim=True).expand_as(inverse)
        return size.reshape(len(z), -1) * self._outer

    def proven(self, found: float, z: Tensor) -> float:
        """Return what the error at a point is at least, where `found` was computed."""
        here = z[None]
        if self._extended is None:  # of the model itself
            _, missed, _, _, _ = self._parts(here, torch.zeros_like(here), self._rounding)
            return max(found - float(missed.nan_to_num(torch.inf).max()), 0.0)
        computed, missed, _, _, _ = self._parts(here, torch.zeros_like(here), self._slack)
        least = float(computed.max()) - float(missed.max())
        least -= 2 * float(self._rows(here).max()) * self._off
        return max(min(found, least), 0.0) if least == least else 0.0

    def _parts(
        self, z: Tensor, half: Tensor, slack: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return weighted entries, as computed, and what they may be off by, (b, o).

        Where residuals are off by `slack`, in norm. And the places of their largest coefficients;
        coefficients (b, …, o); and how much of what is in doubt each side has, (b, k).
        """
        b, n = len(z), self.n
        control, extra, doubt = self._control(z, half)
        shape = control.shape
        S = half[:, :, None] * self.model.directions
        A = self.model.matrices(z)
        boxes = Boxes(z, half, A, S.reshape(b, -1, n, n), self.p, self._blur)
        jet, rounding = inverse_jet(boxes, False)
        B, size = jet.value, jet.value.abs()
        R = control.reshape(b, -1, n, n)
        missed = (extra + slack)[:, None, None]
        sup = R.abs().amax(1) * self._growth + missed
        off = boxes.size(jet.gradient) + jet.remainder + rounding[:, None, None]
        lost = off @ sup + torch.linalg.vector_norm(size, dim=2, keepdim=True) * missed
        product = B[:, None] @ R
        found, where = product.abs().reshape(b, -1, n * n).max(1)
        lost = (lost + 2 * (n + 4) * _EPS * (size @ sup)).reshape(b, -1)
        lost = (lost + (self._growth - 1) * found) * _UP
        most = (jet.gradient.abs() @ sup[:, None]).reshape(b, self.d, -1) * self._outer
        doubt = doubt * (torch.linalg.vector_norm(size, dim=2).amax(1))[:, None] + most.amax(2)
        found, lost = found * self._outer, lost * self._outer
        return found, lost, where, product.reshape(*shape[:-1], -1), doubt

    def _bound(self, z: Tensor, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found, lost, where, product, doubt = self._parts(z, half, self._slack)
        total = torch.nan_to_num((found + lost) * _UP, nan=torch.inf, posinf=torch.inf)
        upper, entry = total.max(1)
        each = torch.arange(len(z), device=z.device)
        along = product.movedim(-1, 1)[each, entry] * self._outer[entry].reshape(-1, *[1] * self.d)
        side, corner = self._choices(z, half, along, where[each, entry], doubt)
        return upper, side, corner
