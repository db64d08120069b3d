"""Families of matrices: a function of parameters, and what stands for these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._arrays.embedding import embed_complex
from .._arrays.estimators import private
from .._arrays.host import like, real_array, to_host
from .._arrays.kinds import is_tensor, namespace
from .._arrays.pairs import refuse_inexact
from .._arrays.shapes import Layout, as_stack, flatten_stack, matrix_order
from .._arrays.validation import validate_rows


def members(model: Any, X: Any, reset: bool) -> tuple[Any, Any, Layout]:
    """Return parameters, the matrices of the family that they stand for, and their layout.

    ``fit`` remembers what the function returned, which may not be made for no parameters.
    """
    if is_tensor(X) and not reset:
        p, _ = model._validate_prediction(X)
        finite = p.isfinite().all(dim=1)
    else:
        given = to_host(X)
        given = np.asarray(given) if isinstance(given, (list, tuple)) else given
        p = validate_rows(model, given, reset=reset, square=False, allow_nonfinite=True)
        finite = np.isfinite(p).all(axis=1)
    good = p if bool(finite.all()) else p[finite]
    known = None if reset else getattr(model, "_member", None)
    if known is not None and len(good) == 0:
        rows, layout = np.empty((0, known["n_features"])), Layout(known["layout"])
        rows = like(rows, p if is_tensor(p) else np.empty(0, known["dtype"]))
    else:
        rows, layout = _call_family(model.family, good)
    if reset:
        dtype = "float64" if is_tensor(rows) else rows.dtype.name
        model._member = {"n_features": rows.shape[1], "layout": int(layout), "dtype": dtype}
    elif known is not None and rows.shape[1] != known["n_features"]:
        if layout == Layout.COMPLEX or 4 * rows.shape[1] != known["n_features"]:
            raise ValueError(
                f"Got matrices of {rows.shape[1]} entries from family, embedded if they are "
                f"complex, but in fit they had {known['n_features']}: one order, and complex "
                f"always or never, is expected."
            )
        rows, layout = flatten_stack(embed_complex(as_stack(rows)))[0], Layout.COMPLEX
    if good is not p:
        every = namespace(rows).full((len(p), rows.shape[1]), np.nan, dtype=rows.dtype)
        every[finite if is_tensor(rows) else to_host(finite)] = rows
        rows = every
    return (X if hasattr(X, "columns") else p), rows, layout


def _call_family(family: Callable, parameters: Any) -> tuple[Any, Layout]:
    """Return the matrices of finite parameters as rows, and their layout."""
    matrices = family(private(parameters))
    try:  # copies: the function may use the same memory again
        matrices = matrices.detach().clone() if is_tensor(matrices) else np.array(matrices)
    except ValueError:  # ragged
        matrices = np.asarray(None)
    rows, layout = flatten_stack(matrices)
    if rows.ndim != 2 or len(rows) != len(parameters):
        raise ValueError(
            f"Got an array of shape {tuple(matrices.shape)} from family for {len(parameters)} "
            f"rows of parameters, but one square matrix each is expected: (n_samples, n, n)."
        )
    matrix_order(rows.shape[1])
    if is_tensor(rows):
        return (rows if rows.is_floating_point() else rows.double()), layout
    wide = rows if rows.dtype.char in "efd" else real_array(rows, "matrices of the family")
    refuse_inexact(rows, wide)
    return wide.astype(np.result_type(wide.dtype, np.float32), copy=False), layout
