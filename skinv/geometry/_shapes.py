"""The shape of the matrices of a region: square, or that of the stack or centre it is made from."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import as_array, as_double, is_complex, real_array, to_host
from .._arrays.embedding import embed_complex
from .._arrays.rows import refuse_nonfinite
from .._arrays.shapes import (
    AmbiguousShapeWarning,
    Layout,
    flatten_stack,
    matrix_order,
    rectangular_shape,
)
from .._arrays.warned import warn
from .._linalg.inverses import check_center

Shape = tuple[int, int]


def matrix_rows(X: Any) -> tuple[Any, Layout, Shape | None]:
    """Return real rows, how they came, and the shape of the matrices if they are a stack.

    Of complex ones all this is that of their embeddings.
    """
    if rectangular_shape(X) is None:
        rows, layout = flatten_stack(X)
        return rows, layout, 2 * (matrix_order(rows.shape[1]),) if layout else None
    swapped = isinstance(X, np.ndarray) and X.dtype.kind == "f" and not X.dtype.isnative
    stack, layout = as_double(X) if swapped else as_array(X), Layout.STACK
    if is_complex(stack):
        stack, layout = embed_complex(stack), Layout.COMPLEX
    m, n = stack.shape[1:]
    return stack.reshape(len(stack), m * n), layout, (m, n)


def check_matrix(
    center: ArrayLike, shape: Shape | None = None, *, embed: bool = False
) -> NDArray[np.float64]:
    """Return a centre, (m, n) or its m*n entries if this is the `shape`, as a float64 matrix.

    A complex one (m, n) is embedded, and a real one, too, if `embed`. Raises a ValueError if it is
    not one matrix of finite numbers.
    """
    given = center if hasattr(center, "shape") else np.array(center, dtype=object)
    own = tuple(given.shape)
    if len(own) == 1 and shape is not None and own[0] == shape[0] * shape[1]:
        own = shape
    if len(own) != 2 or own[0] == own[1] or 0 in own:
        return check_center(center, embed=embed)
    whole = is_complex(center)
    A = as_array(to_host(center)) if whole else real_array(center, "center")
    A = A.reshape(own)
    if whole or (embed and len(given.shape) == 2):
        A = real_array(embed_complex(A[None])[0], "center")
    refuse_nonfinite(A.reshape(1, -1), "center")
    return A


def find_center(
    center: ArrayLike | None, rows: NDArray | None, shape: Shape | None, *, embed: bool
) -> NDArray[np.float64]:
    """Return a centre, the mean of the rows if none is given; embed a real one if asked to."""
    if center is None:
        if rows is None:
            raise ValueError("Got neither center nor data: pass center=..., or matrices to fit.")
        m, n = shape or 2 * (matrix_order(rows.shape[1]),)
        # The mean of equal numbers may differ from them in the last place.
        mean = np.where(np.ptp(rows, axis=0) == 0, rows[0], rows.mean(axis=0))
        return np.asarray(mean.reshape(m, n), dtype=np.float64)
    found = check_matrix(center, shape, embed=embed)
    if rows is not None and (rows.shape[1] != found.size or shape not in (None, found.shape)):
        what = f"{found.size} entries, but rows of X have {rows.shape[1]}"
        if shape is not None:
            what = f"shape {found.shape}, but matrices of X have the shape {shape}"
        raise ValueError(
            f"Got a center of {what}; pass a center of their size, or center=None for their mean."
        )
    return found


def refuse_other_shape(X: Any, shape: Shape | None, expected: Shape, whole: bool) -> None:
    """Raise a ValueError for a stack, or one matrix, of other shape than a region's matrices.

    `whole` tells whether these, of the shape `expected`, are embeddings. Square matrices for a
    region of such ones are left to scikit-learn.
    """
    given, (m, n) = tuple(np.shape(X)), expected
    if m != n and (given == expected or len(given) > 3):
        what = f"a stack of stacks: pass X.reshape(-1, {m}, {n})"
        raise ValueError(
            f"Got an array of shape {given}, but rows of {m * n} numbers, or a stack (n_samples, "
            f"{m}, {n}) of matrices, are expected. It seems to be "
            f"{what if len(given) > 3 else 'one matrix A: pass A[None]'}."
        )
    if shape in (None, expected) or (shape[0] == shape[1] and expected[0] == expected[1]):
        return
    kind, (m, n) = ("complex ", (k // 2 for k in expected)) if whole else ("", expected)
    raise ValueError(
        f"Got {'complex ' if is_complex(X) else ''}matrices of shape {given[1:]}, but those of the "
        f"region are {kind}of shape ({m}, {n}): pass a stack (n_samples, {m}, {n}), or fit another "
        f"region to these."
    )


def warn_of_flattening(shape: Shape) -> None:
    """Warn of rows of matrices that are not square, but might be taken for square ones."""
    (m, n), order = shape, math.isqrt(shape[0] * shape[1])
    if m != n and order**2 == m * n:
        warn(
            f"Matrices of shape ({m}, {n}) are rows of {m * n} numbers in a data frame, which "
            f"skinv's regressors take for square ones of order {order}: in front of these leave "
            f"set_output at its default, which keeps the stack.",
            AmbiguousShapeWarning,
        )
