"""What bounds over a region need to know of a model: a baseline plus a multilayer perceptron."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

OTHER_TARGETS = (
    "Got a model of something else than inverses, but only errors of inverses can be bounded over "
    "a region."
)


@dataclass(frozen=True)
class ModelForm:
    """A model of inverses as f(a) = baseline(a) + perceptron((a − x_mean) / x_scale).

    Parameters
    ----------
    layers : list of (weight (n_out, n_in), bias (n_out,)), float64
        The perceptron, output scaling included; empty for none.
    activation : {"relu", "silu", "tanh"}
    x_mean, x_scale : ndarray of shape (n_features,)
        What the perceptron's inputs are centred and scaled by.
    constant : ndarray of shape (n*n,)
        Constant part of the affine baseline.
    origin : ndarray of shape (n*n,)
        Where the affine baseline takes that value.
    matrix : ndarray of shape (n*n, n*n)
        Linear part of the affine baseline, for rows from the left.
    taylor : tuple of (center (n, n), inverse (n, n), order) or None
        A Taylor series of the inverse, added to the affine baseline.

    Examples
    --------
    >>> form = ModelForm.affine(np.zeros(4), np.ones(4), np.eye(4))
    >>> form.layers, form.taylor
    ([], None)
    """

    constant: NDArray[np.float64]
    origin: NDArray[np.float64]
    matrix: NDArray[np.float64]
    taylor: tuple[NDArray, NDArray, int] | None = None
    layers: list[tuple[NDArray, NDArray]] = field(default_factory=list)
    activation: str = "relu"
    x_mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    x_scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))

    @classmethod
    def affine(cls, origin: NDArray, constant: NDArray, matrix: NDArray) -> ModelForm:
        """Return the form of constant + (a − origin) @ matrix."""
        return cls(constant, origin, matrix)

    @classmethod
    def series(cls, center: NDArray, inverse: NDArray, order: int) -> ModelForm:
        """Return the form of a Taylor series of the inverse."""
        d = center.size
        return cls(np.zeros(d), np.zeros(d), np.zeros((d, d)), (center, inverse, order))
