"""Families of matrices: a function of parameters, and what stands for these."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .._arrays.conversion import as_complex, is_double, namespace, not_a_number, to_host
from .._arrays.estimators import private
from .._arrays.shapes import Layout, Matrices, matrix_order
from .._arrays.validation import floating_matrices, take, validate_rows
from .._linalg.workspace import empty, full, indices


def members(model: Any, X: Any, reset: bool) -> tuple[Any, Matrices]:
    """Return parameters, and the matrices of the family that they stand for.

    ``fit`` remembers what the function returned, which may not be made for no parameters.
    """
    if reset:
        given = to_host(X)
        given = np.asarray(given) if isinstance(given, (list, tuple)) else given
        p = validate_rows(model, given, reset=True, square=False, allow_nonfinite=True)
    else:
        p = take(model, X).rows
    xp = namespace(p)
    finite = xp.all(xp.isfinite(p), axis=1)
    good = p if bool(finite.all()) else p[finite]
    known = None if reset else getattr(model, "_member", None)
    if known is not None and len(good) == 0:
        taken = _no_matrices(p, **known)
    else:
        taken = _call_family(model.family, good)
    if reset:
        model._member = {
            "n_features": taken.n_features,
            "layout": int(taken.layout),
            "double": is_double(taken.numbers),
        }
    elif known is not None and taken.n_features != known["n_features"]:
        if taken.is_complex or 4 * taken.n_features != known["n_features"]:
            raise ValueError(
                f"Got matrices of {taken.n_features} entries from family, embedded if they are "
                f"complex, but in fit they had {known['n_features']}: one order, and complex "
                f"always or never, is expected."
            )
        taken = Matrices(as_complex(taken.stack), Layout.COMPLEX)
    if good is not p:
        numbers = taken.numbers
        every = full(numbers, (len(p), *numbers.shape[1:]), not_a_number(numbers))
        every[to_host(indices(finite))] = numbers
        taken = Matrices(every, taken.layout)
    return (X if hasattr(X, "columns") else p), taken


def _no_matrices(parameters: Any, n_features: int, layout: int, double: bool) -> Matrices:
    """Return no matrices, of the kind that the function returned in ``fit``."""
    xp = namespace(parameters)
    shape: tuple[int, ...] = (0, n_features)
    kinds = (xp.float32, xp.float64)
    if layout == Layout.COMPLEX:
        n = matrix_order(n_features) // 2
        shape, kinds = (0, n, n), (xp.complex64, xp.complex128)
    return Matrices(empty(parameters, shape, kinds[double]), Layout(layout))


def _call_family(family: Callable, parameters: Any) -> Matrices:
    """Return the matrices of finite parameters."""
    matrices = private(family(private(parameters)))  # it may use the same memory again
    try:
        taken = floating_matrices(matrices)
    except ValueError as error:
        raise ValueError(f"Got no stack of matrices from family: {error}") from error
    if taken.numbers.ndim < 2 or len(taken.numbers) != len(parameters):
        raise ValueError(
            f"Got an array of shape {np.shape(matrices)} from family for {len(parameters)} "
            f"rows of parameters, but one square matrix each is expected: (n_samples, n, n)."
        )
    matrix_order(taken.n_features)
    return taken
