"""The arithmetic of a model in reduced coordinates, one column for each matrix."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._arrays.memory import host_view
from ..._linalg.form import ReducedMap
from ..._linalg.products import product
from ..._linalg.terms import Terms
from ..._linalg.workspace import Workspace


@dataclass
class ReducedPart:
    """A polynomial and a perceptron of a few coordinates of E = a − pivot."""

    projection: Any  # (n_features, n_outside + n_components): what is outside comes first
    n_outside: int  # of what is looked at, but does not enter
    shift: Any  # (n_outside + n_components, 1), added to the projections; None is 0
    limits: Any  # of that shape, past which the answer is NaN; None does not look
    terms: Terms
    layers: list[tuple[Any, Any]]  # hidden ones on the first coordinates: (n_out, n_in), (n_out, 1)
    # What terms and hidden units, and last a 1, are multiplied with: (n_terms + n_hidden + 1,
    # n_outputs). With a basis transposed, (n_basis, n_terms + n_hidden), and without the last.
    coef: Any
    basis: Any  # (n_basis + 1, n_outputs), whose last row is the constant, or None

    @classmethod
    def of(
        cls,
        form: ReducedMap,
        constant: NDArray,
        pivot: NDArray,
        outputs: Any = slice(None),
        *,
        single: bool = False,
    ) -> "ReducedPart":
        """Fold the constants, in float64; `constant` is added to the `outputs` asked for."""
        form = form.tolerating(float(np.finfo(np.float32 if single else np.float64).eps))
        with np.errstate(all="ignore"):
            # What is looked at only comes first: what is outside, and coordinates of no term.
            used = form.terms.powers[0] if form.terms.powers else 0
            first, rest = np.split(form.projection, [used], axis=1)
            projection = np.hstack([form.outside, rest, first])
            n_outside, r = form.outside.shape[1], projection.shape[1] - used
            shift, limits = ((pivot - form.origin) @ projection)[:, None], None
            if form.limits is not None:
                outside, first, rest = np.split(form.limits, [n_outside, n_outside + used])
                limits = np.concatenate([outside, rest, first])[:, None]
            layers = [(W, b[:, None]) for W, b in form.layers]
            coef, constant = form.coef, form.constant[outputs] + constant
            if layers:
                W, b = layers.pop()
                coef = np.vstack([coef, W.T])
                b = b[:, 0] if form.basis is None else b[:, 0] @ form.basis
                constant = constant + b[outputs]
            if form.basis is None:
                coef, basis = np.vstack([coef[:, outputs], constant]), None
            else:
                coef, basis = coef.T, np.vstack([form.basis[:, outputs], constant])
            shifted = shift if shift.any() else None
            return cls(projection, r, shifted, limits, form.terms, layers, coef, basis)

    @property
    def width(self) -> int:
        """Numbers that are held at once for one matrix."""
        hidden = sum(b.shape[0] for _, b in self.layers)
        return self.n_outside + len(self.terms) + hidden + 1

    def evaluate(self, E: Any, out: Any, space: Workspace, activate: Any) -> None:
        """Compute the outputs (m, n_outputs) of a contiguous piece; `activate` works in place."""
        m, r, n_terms = E.shape[0], self.n_outside, len(self.terms)
        n_looked = self.projection.shape[1]
        n_hidden = self.layers[-1][1].shape[0] if self.layers else 0
        features = space.of(E, (r + n_terms + n_hidden + 1, m), "features")
        looked = product(self.projection.T, E.T, out=features[:n_looked])
        if self.shift is not None:
            looked += self.shift
        one: Any = 1.0
        if self.limits is not None:
            known = (abs(host_view(looked)) <= host_view(self.limits)).all(0)
            one = known / known  # NaN for what is outside, and so is what is added to it
        inside = features[r:]
        self.terms.evaluate(host_view(inside[:n_terms]))  # NumPy's loops are faster than torch's
        if self.layers:
            shapes = [(b.shape[0], m) for _, b in self.layers[:-1]]
            places = [space.of(E, shape, f"hidden{k}") for k, shape in enumerate(shapes)]
            places.append(inside[n_terms:-1])
            h = inside[: self.layers[0][0].shape[1]]
            for (W, b), place in zip(self.layers, places, strict=True):
                h = product(W, h, out=place)
                h += b
                activate(h)
        if self.basis is not None:
            few = space.of(E, (self.basis.shape[0], m), "few")
            product(self.coef, inside[:-1], out=few[:-1])
            host_view(few)[-1] = one
            product(few.T, self.basis, out=out)
            return
        host_view(inside)[-1] = one
        product(inside.T, self.coef, out=out)
