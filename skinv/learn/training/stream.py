"""Fresh matrices of a region with their inverses, as the network is to see them.

On a host this runs in a thread beside the training, and every change of Python's lock between the
two costs much of a step of a small network there. So small matrices, whose steps are
short, are drawn in a few long calls of NumPy, which has no threads of its own to get in the way.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..._arrays.shapes import as_stack, matrix_order
from ..._linalg.inverses import training_inverses
from ..._linalg.products import exact_inverse
from .batches import Rows, prepared_rows
from .preparation import Preparation

# Numbers of float64 in flight at once: of small matrices many, for few calls; of larger ones so
# many that they stay in a cache; on a device all there are, if these are not very many.
_CHUNKS = {"small": 2**19, "large": 2**17, "device": 2**26}
# Inverted by cofactors up to this order.
_COFACTORS = 3
# Errors of cofactors, in units of eps, past which LAPACK is asked.
_DOUBTFUL = 500.0


def stream(
    sampler: Any, prepared: Preparation, device: str, dtype: torch.dtype
) -> Callable[[int], Rows]:
    """Return a function ``draw(n)`` of inputs and targets of a network, (n, n_in) and (n, n_out).

    All is computed in float64 and returned in `dtype`. Matrices of a region that is not certified
    are drawn on the host, looked at, and refused if they are too ill-conditioned to be fitted.
    """
    n_features = sampler.center_.size
    small = len(sampler.center_) <= _COFACTORS
    on_device = torch.device(device).type != "cpu"
    kind = "device" if on_device else "small" if small else "large"
    chunk = max(_CHUNKS[kind] // n_features, 64)

    def pair(piece: slice) -> tuple[Any, Any]:
        n = piece.stop - piece.start
        if kind != "small" and sampler.is_certified_:
            return sampler.sample(n, device=device)
        rows = sampler.sample(n, return_inverse=False)
        return rows, inverses(rows) if sampler.is_certified_ else training_inverses(rows)

    return lambda n: prepared_rows(prepared, n, chunk, pair, dtype=dtype, device=device)


def inverses(rows: NDArray) -> NDArray[np.float64]:
    """Invert rows (n_samples, n*n), float64, of a region that is known to hold no singular matrix.

    By cofactors for n <= 3, which takes a fraction of LAPACK's time. For n = 3 the cofactors of an
    ill-conditioned matrix cancel, and their error grows like the square of its condition number;
    where an estimate of it passes a few hundred eps, LAPACK does it.
    """
    n = matrix_order(rows.shape[1])
    if n > _COFACTORS:
        return exact_inverse(as_stack(rows)).reshape(rows.shape)
    if n == 1:
        return 1.0 / rows
    A = np.ascontiguousarray(rows.T).reshape(n, n, -1)  # arithmetic on long vectors
    out = np.empty_like(A)
    if n == 2:
        scale = 1.0 / (A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0])
        out[0, 0], out[1, 1] = A[1, 1] * scale, A[0, 0] * scale
        out[0, 1], out[1, 0] = -A[0, 1] * scale, -A[1, 0] * scale
    else:
        # The cofactor of (j, i), with indices taken cyclically, which makes every sign positive.
        for i, j in np.ndindex(3, 3):
            p, q, r, s = (j + 1) % 3, (j + 2) % 3, (i + 1) % 3, (i + 2) % 3
            out[i, j] = A[p, r] * A[q, s] - A[p, s] * A[q, r]
        # Each is off by up to 4 eps max|A|², and the determinant by that of its three terms.
        with np.errstate(all="ignore"):
            largest, cofactor = np.abs(A).max(axis=(0, 1)), np.abs(out).max(axis=(0, 1))
            determinant = (A[0] * out[:, 0]).sum(axis=0)
            out /= determinant
            error = 4 * largest**2 / cofactor + 10 * largest * cofactor / np.abs(determinant)
        doubtful = np.flatnonzero(~(error < _DOUBTFUL))
        if doubtful.size:
            exact = exact_inverse(as_stack(rows[doubtful]))
            out[:, :, doubtful] = np.moveaxis(exact, 0, 2)
    return np.ascontiguousarray(out.reshape(n * n, -1).T)
