"""What callers pass to functions: stacks with any leading axes, and how answers go back."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._arrays.conversion import (
    alike,
    as_given,
    floating,
    in_library_of,
    is_foreign,
    is_narrow,
    is_tensor,
    namespace,
    real_array,
)
from .._arrays.memory import host_view
from .._arrays.shapes import Leading, refuse_unsquare
from .._linalg.gram import adjoint


def opened(A: Any) -> tuple[Any, Any]:
    """Return numbers in floating point, and an array of another library to answer in, or None.

    Tensors on the host are seen as arrays.
    """
    library = A if is_foreign(A) else None
    (M,) = alike(A)
    M = floating(M, not is_narrow(M))
    if is_tensor(M) and not is_tensor(host_view(M)):
        library, M = M, host_view(M)
    return M, library


class Given(NamedTuple):
    """Matrices as a caller passed them to a function, as a stack (m, n, n), and how they came."""

    stack: Any
    came: Leading
    axes: tuple[int, int]

    @classmethod
    def of(cls, A: Any, axes: Sequence[int] = (-2, -1)) -> "Given":
        """Look at what was passed."""
        M, library = opened(A)
        i, j = axes
        if M.ndim < 2 or i % M.ndim == j % M.ndim:
            refuse_unsquare(M[..., None] if M.ndim < 2 else M[..., :1])
        M = namespace(M).moveaxis(M, (i, j), (-2, -1))
        refuse_unsquare(M)
        n = M.shape[-1]
        return cls(M.reshape(-1, n, n), Leading(tuple(M.shape[:-2]), library), (i, j))

    def matrices(self, stack: Any) -> Any:
        """Give matrices (m, n, n) back as these came."""
        stack = self.came.matrices(stack)
        return namespace(stack).moveaxis(stack, (-2, -1), self.axes)


class Rectangles(NamedTuple):
    """Matrices as a caller passed them, as a stack (k, m, n) with m <= n, and how they came."""

    stack: Any
    came: Leading
    tall: bool

    @classmethod
    def of(cls, A: Any) -> "Rectangles":
        """Look at what was passed."""
        M, library = opened(A)
        if M.ndim < 2 or 0 in M.shape[-2:]:
            raise ValueError(
                f"Got an array of shape {tuple(M.shape)}, but a matrix (m, n) or a stack "
                f"(..., m, n) of them is expected, with at least one row and one column."
            )
        m, n = M.shape[-2:]
        count = math.prod(M.shape[:-2])
        stack = M.reshape(count, m, n)
        stack = adjoint(stack) if m > n else stack
        return cls(stack, Leading(tuple(M.shape[:-2]), library), m > n)

    def weights(self, damping: Any) -> Any:
        """Return λ for each matrix, or None where there is no damping."""
        weight = real_array(damping, "damping")
        if not (np.isfinite(weight) & (weight >= 0)).all():
            raise ValueError(
                f"Got damping={damping!r}, but finite numbers that are not negative are expected."
            )
        shape = self.came.shape
        try:
            weight = np.broadcast_to(weight, shape)
        except ValueError:
            raise ValueError(
                f"Got damping of shape {weight.shape}, but one number, or numbers that broadcast "
                f"to one for each matrix, {shape}, are expected."
            ) from None
        if not weight.any():
            return None
        return as_given(weight.reshape(-1).copy(), self.stack)

    def answers(self, X: Any) -> Any:
        """Give pseudo-inverses (k, n, m) back as the matrices came."""
        return self.came.matrices(adjoint(X) if self.tall else X)


def systems(A: Any, b: Any) -> tuple[Any, Any, Callable[[Any], Any]]:
    """Return matrices (m, n, n), right-hand sides (m, n, k), and what shapes answers.

    The columns of many right-hand sides of one matrix stand beside each other.
    """
    library = next((M for M in (A, b) if is_foreign(M)), None)
    A, b = alike(A, b)
    given = Given.of(A)
    n, (leading, tensor) = given.stack.shape[-1], given.came
    library = tensor if library is None else library
    b = host_view(floating(b, not is_narrow(b)))
    vector = b.ndim == 1
    sides = b[:, None] if vector else b
    if b.ndim == 0 or sides.shape[-2] != n:
        each = b.ndim > 1 and tuple(b.shape) == (*leading, n)
        raise ValueError(
            f"Got right-hand sides of shape {tuple(b.shape)} for matrices of order {n}, but ({n},) "
            f"or (..., {n}, k) is expected{'; one for each matrix are b[..., None]' * each}."
        )
    xp, k = namespace(sides), sides.shape[-1]
    try:
        shape = np.broadcast_shapes(leading, tuple(sides.shape[:-2]))
    except ValueError:
        raise ValueError(
            f"Got matrices with leading axes {leading} and right-hand sides with "
            f"{tuple(sides.shape[:-2])}, which do not broadcast."
        ) from None
    single, stack = math.prod(leading) == 1, given.stack
    if single:
        columns = xp.broadcast_to(sides, (*shape, n, k))
        sides = xp.moveaxis(columns, -2, 0).reshape(1, n, math.prod(shape) * k)
    else:
        m, matrices = math.prod(shape), stack.reshape(*leading, n, n)
        stack = xp.broadcast_to(matrices, (*shape, n, n)).reshape(m, n, n)
        sides = xp.broadcast_to(sides, (*shape, n, k)).reshape(m, n, k)

    def finish(values: Any) -> Any:
        entries = (n,) if values.ndim == 3 else ()
        if single:
            values = values.reshape(*entries, *shape, k)
            values = xp.moveaxis(values, 0, -2) if entries else values
        else:
            values = values.reshape(*shape, *entries, k)
        values = values[..., 0] if vector else values
        return values if library is None else in_library_of(library, values)

    return stack, sides, finish
