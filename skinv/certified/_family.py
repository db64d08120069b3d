"""Families of matrices: a function of parameters, and what stands for these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._arrays.estimators import private
from .._arrays.host import like, to_host
from .._arrays.kinds import as_complex, is_double, is_narrow, is_tensor, namespace, not_a_number
from .._arrays.pairs import floating
from .._arrays.shapes import Layout, Matrices, matrix_order
from .._arrays.validation import validate_rows
from .._linalg.workspace import full


def members(model: Any, X: Any, reset: bool) -> tuple[Any, Matrices]:
    """Return parameters, and the matrices of the family that they stand for.

    ``fit`` remembers what the function returned, which may not be made for no parameters.
    """
    if is_tensor(X) and not reset:
        p = model._validate_prediction(X).numbers
    else:
        given = to_host(X)
        given = np.asarray(given) if isinstance(given, (list, tuple)) else given
        p = validate_rows(model, given, reset=reset, square=False, allow_nonfinite=True)
    xp = namespace(p)
    finite = xp.all(xp.isfinite(p), axis=1)
    good = p if bool(finite.all()) else p[finite]
    known = None if reset else getattr(model, "_member", None)
    if known is not None and len(good) == 0:
        taken = _no_matrices(p, **known)
    else:
        taken = _call_family(model.family, good)
    if reset:
        single = not (is_tensor(taken.numbers) or is_double(taken.numbers))
        model._member = {
            "n_features": taken.n_features,
            "layout": int(taken.layout),
            "dtype": "float32" if single else "float64",
        }
    elif known is not None and taken.n_features != known["n_features"]:
        if taken.layout == Layout.COMPLEX or 4 * taken.n_features != known["n_features"]:
            raise ValueError(
                f"Got matrices of {taken.n_features} entries from family, embedded if they are "
                f"complex, but in fit they had {known['n_features']}: one order, and complex "
                f"always or never, is expected."
            )
        taken = Matrices(as_complex(taken.stack), Layout.COMPLEX)
    if good is not p:
        numbers = taken.numbers
        every = full(numbers, (len(p), *numbers.shape[1:]), not_a_number(numbers))
        every[finite if is_tensor(numbers) else to_host(finite)] = numbers
        taken = Matrices(every, taken.layout)
    return (X if hasattr(X, "columns") else p), taken


def _no_matrices(parameters: Any, n_features: int, layout: int, dtype: str) -> Matrices:
    """Return no matrices, of the kind that the function returned in ``fit``."""
    shape: tuple[int, ...] = (0, n_features)
    if layout == Layout.COMPLEX:
        n = matrix_order(n_features) // 2
        shape = (0, n, n)
    numbers = np.empty(shape, complex if layout == Layout.COMPLEX else float)
    example = parameters if is_tensor(parameters) else np.empty(0, dtype)
    return Matrices(like(numbers, example), Layout(layout))


def _call_family(family: Callable, parameters: Any) -> Matrices:
    """Return the matrices of finite parameters."""
    matrices = family(private(parameters))
    try:  # copies: the function may use the same memory again
        matrices = matrices.detach().clone() if is_tensor(matrices) else np.array(matrices)
    except ValueError:  # ragged
        matrices = np.asarray(None)
    taken = Matrices.of(matrices)
    numbers = taken.numbers
    if numbers.ndim not in (2, 3) or len(numbers) != len(parameters):
        raise ValueError(
            f"Got an array of shape {tuple(matrices.shape)} from family for {len(parameters)} "
            f"rows of parameters, but one square matrix each is expected: (n_samples, n, n)."
        )
    matrix_order(taken.n_features)
    half = is_tensor(numbers) and is_narrow(numbers) and not taken.is_complex
    return Matrices(numbers if half else floating(numbers, not is_narrow(numbers)), taken.layout)
