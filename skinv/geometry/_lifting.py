"""The nearest matrix that keeps a distance from those without full rank."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import real_array
from ._distance import check_stack
from ._rounding import unit_scale


def nearest_regular(A: ArrayLike, min_distance: float) -> NDArray[np.float64]:
    """Return the nearest matrix that is at least `min_distance` away from the singular ones.

    From those without full rank, if matrices are not square.

    Parameters
    ----------
    A : array-like of shape (n, n) or (..., m, n)
        One matrix, or a stack of them.
    min_distance : float
        Distance to the nearest singular matrix to keep, in l2, which is the smallest singular value
        to keep.

    Returns
    -------
    ndarray of shape (n, n) or (..., m, n), float64
        The nearest matrices, in the l2 norm of the flattened difference (the Frobenius norm). Their
        smallest singular values are at least `min_distance` up to a small multiple of n eps ‖A‖.
        Matrices whose computed ones are at least that already come back as they are, bit for bit,
        and so do those that are not finite: NaN stays NaN. An entry that overflows is inf.

    Raises
    ------
    ValueError
        If `A` is not a real matrix or stack of matrices, for rows (n_samples, n*n), or if
        `min_distance` is not a finite number >= 0.

    See Also
    --------
    nearest_singular : The other way.

    Notes
    -----
    With A = Σ σ_i u_i v_iᵀ the answer is A + Σ (ε − σ_i)₊ u_i v_iᵀ: singular values of two matrices
    in order differ by no more in l2 than the matrices do (Mirsky 1960, "Symmetric gauge functions
    and unitarily invariant norms"), so each one below ε costs at least ε − σ_i. The answer is not
    unique where A is singular.

    Examples
    --------
    >>> nearest_regular([[3.0, 0.0], [0.0, 0.5]], 1.0)
    array([[3., 0.],
           [0., 1.]])
    """
    stack, shape = check_stack(A)
    keep = real_array(min_distance, "min_distance")
    if keep.ndim or isinstance(min_distance, (bool, np.bool_)) or not 0 <= keep < np.inf:
        raise ValueError(
            f"Got min_distance={min_distance!r}, but it must be a finite number and >= 0."
        )
    min_distance = float(keep)
    out = stack.copy()
    good = np.flatnonzero(np.isfinite(stack).all(axis=(1, 2)))
    # In units of the larger of matrix and distance, a power of two.
    _, own, _ = unit_scale(stack[good])
    _, other, _ = unit_scale(np.full((1, 1, 1), min_distance))
    unit = np.maximum(own, other) if min_distance > 0 else own
    scaled = np.ldexp(stack[good], -unit[:, None, None])
    U, s, Vt = np.linalg.svd(scaled, full_matrices=False)
    lift = np.maximum(np.ldexp(min_distance, -unit[:, None]) - s, 0.0)
    short = np.flatnonzero(lift.any(axis=1))
    with np.errstate(over="ignore", under="ignore"):  # it may exceed the largest float64: inf
        lifted = scaled[short] + (U[short] * lift[short, None, :]) @ Vt[short]
        out[good[short]] = np.ldexp(lifted, unit[short, None, None])
    return out.reshape(*shape, *stack.shape[1:])
