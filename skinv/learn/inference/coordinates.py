"""The arithmetic of a model in reduced coordinates, one column for each matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._linalg.form import ReducedMap
from ..._linalg.products import product
from ..._linalg.terms import Terms
from ..._linalg.workspace import Workspace, host_view


@dataclass
class ReducedPart:
    """A polynomial and a perceptron of a few coordinates of E = a − pivot.

    Parameters
    ----------
    projection : array of shape (n_features, n_outside + n_components)
        What is looked at, but does not enter, first.
    n_outside : int
    shift : array of shape (n_outside + n_components, 1) or None
        Added to these; None is 0.
    limits : array of shape (n_outside + n_components, 1) or None
        Past which the answer is NaN; None does not look.
    terms : Terms
    layers : list of (weight (n_out, n_in), bias (n_out, 1))
        Hidden layers, on the first coordinates.
    coef : array of shape (n_terms + n_hidden + 1, n_outputs), or (n_basis, n_terms + n_hidden)
        What terms and hidden units are multiplied with; the last row is the constant. Transposed,
        and without the constant, if there is a basis.
    basis : array of shape (n_basis + 1, n_outputs) or None
        The last row is the constant.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> options = {"layers": [], "activation": "relu", "basis": None}
    >>> form = ReducedMap(one[0], one, one[:, :0], None, Terms((1,)), 0 * one[0], one, **options)
    >>> part, out = ReducedPart.of(form, np.zeros(1), one[0]), np.empty((1, 1))
    >>> part.evaluate(np.array([[2.0]]), out, Workspace(), None)
    >>> out
    array([[2.]])
    """

    projection: Any
    n_outside: int
    shift: Any
    limits: Any
    terms: Terms
    layers: list[tuple[Any, Any]]
    coef: Any
    basis: Any

    @classmethod
    def of(
        cls,
        form: ReducedMap,
        constant: NDArray,
        pivot: NDArray,
        outputs: Any = slice(None),
        *,
        single: bool = False,
    ) -> ReducedPart:
        """Fold the constants, in float64.

        Parameters
        ----------
        form : ReducedMap
        constant : ndarray of shape (n_outputs,)
            Added to the outputs that are asked for, besides the map's own.
        pivot : ndarray of shape (n_features,)
            From which differences are taken.
        outputs : slice or ndarray of int, default=slice(None)
            Outputs that are asked for.
        single : bool, default=False
            Whether the arithmetic is in single precision.

        Returns
        -------
        ReducedPart
        """
        form = form.tolerating(float(np.finfo(np.float32 if single else np.float64).eps))
        with np.errstate(all="ignore"):
            return cls._of(form, constant, pivot, outputs)

    @classmethod
    def _of(cls, form: ReducedMap, constant: NDArray, pivot: NDArray, outputs: Any) -> ReducedPart:
        # What is looked at only comes first: what is outside, and coordinates of no term.
        used = form.terms.powers[0] if form.terms.powers else 0
        projection = np.hstack([form.outside, form.projection[:, used:], form.projection[:, :used]])
        r = projection.shape[1] - used
        shift, limits = ((pivot - form.origin) @ projection)[:, None], None
        if form.limits is not None:
            outside, first, rest = np.split(form.limits, np.cumsum([form.outside.shape[1], used]))
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

    def mapped(self, convert: Any) -> ReducedPart:
        """Return the same with a function applied to every array."""

        def of(array: Any) -> Any:
            return None if array is None else convert(array)

        return replace(
            self,
            projection=of(self.projection),
            shift=of(self.shift),
            limits=of(self.limits),
            terms=self.terms.mapped(lambda index: host_view(convert(index))),
            layers=[(of(W), of(b)) for W, b in self.layers],
            coef=of(self.coef),
            basis=of(self.basis),
        )

    @property
    def width(self) -> int:
        """Numbers that are held at once for one matrix."""
        hidden = sum(b.shape[0] for _, b in self.layers)
        return self.n_outside + len(self.terms) + hidden + 1

    def evaluate(self, E: Any, out: Any, space: Workspace, activate: Any) -> None:
        """Compute the outputs of a piece of a batch.

        Parameters
        ----------
        E : ndarray or tensor of shape (m, n_features)
            a − pivot, contiguous.
        out : ndarray or tensor of shape (m, n_outputs)
        space : Workspace
        activate : callable
            Applies the activation to an array, in place.
        """
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
            h = inside[: self.layers[0][0].shape[1]]
            for k, (W, b) in enumerate(self.layers):
                last = k == len(self.layers) - 1
                place = (
                    inside[n_terms : n_terms + n_hidden]
                    if last
                    else space.of(E, (b.shape[0], m), f"hidden{k}")
                )
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
