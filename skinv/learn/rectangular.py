"""Pseudo-inverses of rectangular matrices, learned as the inverses of their Gram matrices."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import alike, as_double, floating, is_narrow, namespace, to_host
from .._arrays.shapes import flatten_stack, rectangular_shape, restore_layout
from .._linalg.gram import from_gram, gram
from .._linalg.inverses import training_inverses

# Targets are taken for pseudo-inverses if products come so near to the identity.
_NEAR = 1e-3


class RectangularMixin:
    """A regressor of inverses that is given the Gram matrices of matrices that are not square."""

    _shape: tuple[int, int] | None = None  # of those it was fitted to

    def _squared(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Return Gram matrices, and their inverses, for stacks that are not square."""
        shape = rectangular_shape(X)
        if reset:
            self._shape = shape
        else:
            self._refuse_other_shape(shape)
        if shape is None:
            return X, y
        A = as_stack(X)
        with np.errstate(all="ignore"):  # of what is not finite rows are named later
            G = gram(A)
            return G, None if y is None else inverses_of_targets(G, y, shape)

    def _squared_center(self, center: Any, reset: bool) -> Any:
        """Return one matrix, or its Gram matrix if it is not square."""
        host = to_host(center)
        if rectangular_shape([host]) is None:
            if reset:
                self._shape = None
            return center
        return self._squared(np.asarray(host)[None], None, reset)[0][0]

    def _refuse_other_shape(self, shape: tuple[int, int] | None) -> None:
        if shape == self._shape:
            return
        name, expected = type(self).__name__, self._shape
        if expected is None:
            raise ValueError(
                f"Got matrices of shape {shape}, but this {name} was fitted to square ones, or to "
                f"rows: pass these, or fit it to a stack of such matrices."
            )
        raise ValueError(
            f"Got {'square matrices, or rows' if shape is None else f'matrices of shape {shape}'}, "
            f"but this {name} was fitted to matrices of shape {expected}: pass a stack of shape "
            f"(n_samples, {expected[0]}, {expected[1]})."
        )

    def _refuse_rectangular(self, instead: str = "") -> None:
        if self._shape is not None:
            instead = instead or (
                "pass one that is fitted to Gram matrices, A @ A.T for m <= n, whose inverses "
                "Z make pseudo-inverses A.T @ Z"
            )
            raise ValueError(
                f"Got a {type(self).__name__} of matrices of shape {self._shape}, but this knows "
                f"square ones only: {instead}."
            )

    def _pseudo_inverses(self, X: Any, inverses: Callable[[Any], Any], **other: Any) -> Any:
        """Return pseudo-inverses by the inverses of Gram matrices."""
        for name, value in other.items():
            if value is not None:
                raise ValueError(f"Got {name} for matrices that are not square: leave it out.")
        (given,) = alike(X)
        A = floating(given, not is_narrow(given))
        with np.errstate(all="ignore"):
            values = from_gram(A, inverses(gram(A)))
        half = is_narrow(given) and given.dtype.itemsize < 4
        return namespace(values).astype(values, given.dtype) if half else values

    def _single_pseudo_inverse(
        self, inverse: Callable[[ArrayLike], NDArray]
    ) -> Callable[[ArrayLike], NDArray]:
        """Return the function of one matrix that goes with that of its Gram matrix."""
        shape = self._shape

        def single(A: ArrayLike) -> NDArray:
            A = np.asarray(to_host(A))
            if A.shape != shape:
                raise ValueError(f"Got an array of shape {A.shape}, but {shape} is expected.")
            H = A.T.conj()
            return inverse(H @ A) @ H if A.shape[0] > A.shape[1] else H @ inverse(A @ H)

        return single


def true_pseudo_inverses(X: Any) -> NDArray:
    """Return the pseudo-inverses of a stack, refusing what must not be fitted."""
    A = as_stack(X)
    rows, layout = flatten_stack(gram(A))
    return from_gram(A, restore_layout(training_inverses(rows), layout))


def real_rows(values: Any) -> NDArray[np.float64]:
    """Return rectangular matrices as rows of real numbers, of complex ones both parts."""
    stack = as_stack(values)
    parts = [stack.real, stack.imag] if stack.dtype.kind == "c" else [stack]
    return np.concatenate([part.reshape(len(stack), -1) for part in parts], axis=1)


def as_stack(X: Any) -> NDArray:
    """Return what a caller passed as an array in double precision."""
    return as_double(floating(np.asarray(to_host(X)), True, exact=False))


def inverses_of_targets(G: NDArray, y: Any, shape: tuple[int, int]) -> NDArray:
    """Return the inverses of Gram matrices that pseudo-inverses stand for."""
    if rectangular_shape(y) == shape[::-1] and len(y) == len(G):
        inverses = gram(as_stack(y))
        near = np.abs(G @ inverses - np.eye(G.shape[1])) <= _NEAR
        if np.mean(near.all(axis=(1, 2))) >= 0.5:
            return inverses
    raise ValueError(
        f"Got targets that are not the pseudo-inverses, of shape {shape[::-1]}, of matrices of "
        f"shape {shape}; leave y out to have them computed. Other quantities are learned from "
        f"rows: X.reshape(len(X), -1)."
    )
