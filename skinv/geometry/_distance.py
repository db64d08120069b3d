"""How far a matrix is from the nearest one without full rank, and which one that is.

Of square matrices these are the singular ones. All norms are of the flattened matrix: l1 the sum of
absolute entries, l2 the Frobenius norm, linf the largest absolute entry. A nearest singular matrix
differs from A by a matrix of rank one, which gives closed forms for l1 and l2, and for linf a
maximum over sign vectors. Of matrices that are not square only l2 has one, and the same numbers of
a one-sided inverse are lower bounds for the others.
"""

import math
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import is_complex, real_array, to_host
from .._arrays.embedding import embed_complex
from .._arrays.results import DistanceBounds
from .._arrays.shapes import refuse_flattened
from .._arrays.warned import warn
from .._arrays.words import Norm
from .._linalg.workspace import pieces
from ._enclosure import enclosed_inverse, smallest_singular_values, spectral_norms
from ._rounding import LARGEST, TINY, UNIT, above, below, scaled_down, scaled_up, unit_scale
from ._signs import EXACT_ORDER, inf_to_one_norm

NORMS = ("l1", "l2", "linf")
# Entries of the matrices that are bounded at once.
_BLOCK = 2**21


class DistanceBoundWarning(UserWarning):
    """A distance is a proven lower bound, because the exact one is out of reach.

    Examples
    --------
    >>> issubclass(DistanceBoundWarning, UserWarning)
    True
    """


@overload
def distance_to_singularity(
    A: ArrayLike, norm: Norm = ..., *, return_bounds: Literal[True]
) -> DistanceBounds: ...
@overload
def distance_to_singularity(
    A: ArrayLike, norm: Norm = ..., *, return_bounds: bool = ...
) -> Any: ...
def distance_to_singularity(A: ArrayLike, norm: Norm = "l2", *, return_bounds: bool = False) -> Any:
    """Return the distance of each matrix to the nearest singular matrix.

    Of matrices that are not square, to the nearest one without full rank.

    Parameters
    ----------
    A : array-like of shape (n, n) or (..., m, n)
        One matrix, or a stack of them. Rows of flattened matrices must be reshaped first:
        ``X.reshape(-1, n, n)``. In l2 they may be complex: the distance is that to the singular
        complex matrices.
    norm : {"l1", "l2", "linf"}, default="l2"
        Norm of the flattened difference.
    return_bounds : bool, default=False
        If True return both bounds instead of the distance.

    Returns
    -------
    float or ndarray of shape (...)
        The distances, float64. NaN for a matrix that is not finite, and 0 for one that could not
        be shown to be regular: for every singular one, and maybe for one within rounding of it.
        They are exact up to rounding, an absolute error of a small multiple of n eps ‖A‖, except in
        linf for n > 20, where the problem is NP-hard, and in linf and l1 for matrices that are not
        square: then they are lower bounds, and a :class:`DistanceBoundWarning` says so.
    bounds : DistanceBounds
        A Bunch, only if `return_bounds`, and without the warning: ``lower`` and ``upper``, shaped
        like the distances, and ``exact``, True where the two are the distance itself up to
        rounding. ``lower <= distance <= upper`` is proven, all rounding included, in any
        floating-point mode; ``lower`` is 0 where the matrix could not be shown to be regular, and
        ``upper`` is inf where it overflows.

    Raises
    ------
    ValueError
        If `A` is not a matrix or stack of matrices, for rows (n_samples, n*n), or if `norm` is
        unknown.

    Notes
    -----
    l2: the smallest singular value (Eckart and Young 1936). l1: ``1 / max |A⁻¹|``. linf: 1 / ‖A⁻¹‖
    with the norm from linf to l1, max over s in {±1}ⁿ of ‖A⁻¹s‖₁ (Poljak and Rohn 1993, "Checking
    robust nonsingularity is NP-hard"). For n > 20 the lower bound is the larger of ``1 / Σ|A⁻¹|``
    and σ_min / n, the upper one comes from a local search over sign vectors. Always
    d_linf <= d_l2 <= d_l1 <= n d_l2. The inverses are enclosed by their residuals, and the singular
    values by those of the decomposition. In l2 the distance itself is taken from LAPACK, and only
    if it is within a backward error of 8 n eps σ_max is the matrix asked to be shown regular.

    Of a matrix (m, n) that is not square the smallest singular value is the distance in l2, too. In
    l1 and linf the same numbers of any one-sided inverse B, AB = I or BA = I, are lower bounds, by
    the same argument: here B is near the pseudo-inverse. The upper bounds are √(mn) σ_min and
    σ_min.

    Examples
    --------
    >>> A = [[3.0, 1.0], [1.0, 2.0]]
    >>> distance_to_singularity(A)
    1.3819660
    >>> distance_to_singularity(A, "l1"), distance_to_singularity(A, "linf")
    (1.6666667, 0.7142857)
    >>> distance_to_singularity(np.eye(30), "linf", return_bounds=True).exact
    False
    """
    check_distance_norm(norm)
    if norm == "l2" and is_complex(A):
        A = np.asarray(to_host(A))
        refuse_flattened(A)
        A = embed_complex(A[None])[0]
    stack, shape = check_stack(A)
    m, n = stack.shape[1:]
    good = np.isfinite(stack).all(axis=(1, 2))
    scaled, exponent, lost = unit_scale(stack[good])
    exact = _is_exact(norm, m, n)
    lower = np.full(len(stack), np.nan)
    if return_bounds:
        upper = lower.copy()
        _, low, high = distance_bounds(scaled, lost, norm)
        lower[good], upper[good] = scaled_down(low, exponent), scaled_up(high, exponent)
        return DistanceBounds(lower=_shaped(lower, shape), upper=_shaped(upper, shape), exact=exact)
    if norm == "l2":
        distance = _singular_values(scaled, lost)
    else:
        distance = distance_bounds(scaled, lost, norm)[0]
    with np.errstate(over="ignore", under="ignore"):  # an l1 distance may exceed float64: inf
        lower[good] = np.ldexp(distance, exponent)
    if not exact:
        why = f"distance to singularity is NP-hard; for n = {n} > {EXACT_ORDER}"
        if m != n:
            why = f"distance of matrices of shape ({m}, {n}) has a closed form in norm='l2' only;"
        warn(
            f"The {norm} {why} these are proven lower bounds. Pass return_bounds=True for both "
            f"bounds and no warning.",
            DistanceBoundWarning,
        )
    return _shaped(lower, shape)


def nearest_singular(A: ArrayLike, norm: Norm = "l2") -> NDArray[np.float64]:
    """Return the singular matrix nearest to each matrix.

    Of matrices that are not square, in l2, the nearest one without full rank.

    Parameters
    ----------
    A : array-like of shape (n, n) or (..., m, n)
        One matrix, or a stack of them.
    norm : {"l1", "l2", "linf"}, default="l2"
        Norm of the flattened difference.

    Returns
    -------
    ndarray of shape (n, n) or (..., m, n), float64
        A plus a perturbation of rank one. In linf for n > 20 the nearest one found by a local
        search, at the upper bound of :func:`distance_to_singularity`, with a
        :class:`DistanceBoundWarning`. A singular matrix is its own answer; NaN stays NaN.

    Raises
    ------
    ValueError
        If `A` is not a matrix or stack of matrices, for rows (n_samples, n*n), for an unknown
        `norm`, and for "l1" and "linf" if matrices are not square.

    Notes
    -----
    With B = A⁻¹ and d the distance, the perturbation is −σ_n u_n v_nᵀ in l2; −e_j e_iᵀ / B_ij at
    the largest ``|B_ij|`` in l1; and −d s tᵀ in linf, where s maximises ‖Bs‖₁ and t = sign(Bs): it
    sends x = Bs, for which tᵀx = 1/d, to −s = −Ax (Poljak and Rohn 1993).

    Examples
    --------
    >>> nearest_singular([[3.0, 0.0], [0.0, 1.0]])
    array([[3., 0.],
           [0., 0.]])
    """
    check_distance_norm(norm)
    stack, shape = check_stack(A)
    m, n = stack.shape[1:]
    if m != n and norm != "l2":
        raise ValueError(
            f"Got matrices of shape ({m}, {n}) with norm={norm!r}, but only the nearest in "
            f"norm='l2' is known of matrices that are not square."
        )
    if norm == "linf" and n > EXACT_ORDER:
        warn(
            f"The nearest singular matrix in linf is NP-hard to find; for n = {n} > {EXACT_ORDER} "
            f"this is the nearest that a local search over sign vectors found.",
            DistanceBoundWarning,
        )
    out = stack.copy()
    good = np.isfinite(stack).all(axis=(1, 2))
    scaled, exponent, _ = unit_scale(stack[good])
    scaled += _nearest_perturbation(scaled, norm)
    with np.errstate(over="ignore", under="ignore"):  # it may exceed the largest float64: inf
        out[good] = np.ldexp(scaled, exponent[:, None, None])
    return out.reshape(*shape, m, n)


def check_distance_norm(norm: str) -> None:
    """Raise a ValueError unless `norm` is one that distances are known in."""
    if norm not in NORMS:
        raise ValueError(f"Got norm={norm!r}, but it must be one of {', '.join(map(repr, NORMS))}.")


def check_stack(A: ArrayLike) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Return A as a float64 stack (k, m, n) and its leading shape, or raise a ValueError."""
    A = real_array(A, "A")
    refuse_flattened(A)
    return A.reshape(-1, *A.shape[-2:]), A.shape[:-2]


def _is_exact(norm: str, m: int, n: int) -> bool:
    """Whether distances of matrices (m, n) are known, and not only bounds."""
    return norm == "l2" or (m == n and (norm == "l1" or n <= EXACT_ORDER))


def _shaped(values: NDArray[np.float64], shape: tuple[int, ...]) -> Any:
    return float(values[0]) if shape == () else values.reshape(shape)


def distance_bounds(A: NDArray, lost: NDArray, norm: str) -> tuple[NDArray, NDArray, NDArray]:
    """Return the distances of scaled matrices, and proven bounds of them.

    `A` and `lost` are what `unit_scale` returns. The distance of a matrix changes by no more than
    the matrix does, so that what its entries lost comes off, and on.
    """
    found = np.zeros((3, len(A)))
    m, n = A.shape[1:]
    for block in pieces(len(A), max(m, n), 1, _BLOCK):
        with np.errstate(all="ignore"):
            found[:, block] = (
                _l2_bounds(A[block]) if norm == "l2" else _inverse_bounds(A[block], norm)
            )
    distance, lower, upper = found
    size = np.abs(A)
    zero = np.zeros(len(A), dtype=bool)  # a row, or column, of zeros
    for axis in range(1, 3):
        if A.shape[axis] == min(m, n):
            zero |= size.max(axis=3 - axis).min(axis=1) == 0
    lower = below(np.where(zero, 0.0, lower) - lost)
    upper = np.where(zero, lost, above(upper + lost))
    lower = np.maximum(np.where(np.isfinite(lower), lower, 0.0), 0.0)
    upper = np.where(np.isnan(upper), np.inf, upper)
    if not _is_exact(norm, m, n):
        distance = lower
    return np.where(lower > 0, np.clip(distance, lower, upper), 0.0), lower, upper


def _l2_bounds(A: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return l2 distances, and bounds before anything that A lost."""
    lower, upper = smallest_singular_values(A)
    unsure = np.flatnonzero(~(lower > 0))
    if unsure.size:  # σ_min = 1/‖A⁻¹‖₂, and at least that for one-sided inverses
        low, high = spectral_norms(*enclosed_inverse(A[unsure]))
        lower[unsure] = (1 - 8 * UNIT) / high
        if A.shape[1] == A.shape[2]:
            upper[unsure] = np.fmin(upper[unsure], _reciprocal_above(low))
    return 0.5 * (lower + upper), lower, upper


def _inverse_bounds(A: NDArray, norm: str) -> tuple[NDArray, NDArray, NDArray]:
    """Return l1 or linf distances by the inverse, and bounds before anything that A lost."""
    m, n = A.shape[1:]
    if m < n:
        return _inverse_bounds(A.swapaxes(1, 2), norm)
    B, error = enclosed_inverse(A)
    regular = np.flatnonzero(np.isfinite(error).all(axis=(1, 2)))
    distance, lower, upper = np.zeros(len(A)), np.zeros(len(A)), np.full(len(A), np.inf)
    B, error = B[regular], error[regular]
    size = np.abs(B)
    total = (size + error).sum(axis=(1, 2)) * (1 + (m * n + 4) * UNIT)
    if norm == "l1":
        value, low, high = (part.max(axis=(1, 2)) for part in (size, size - error, size + error))
    else:
        value, _ = inf_to_one_norm(B.swapaxes(1, 2) if m > n else B)
        # ‖Bs‖₁ is a sum of mn numbers ±B_ij, in some order.
        off = error.sum(axis=(1, 2)) * (1 + 2 * m * n * UNIT) + 2 * m * n * UNIT * total
        low, high = value - off, value + off if n <= EXACT_ORDER else total
    distance[regular] = 1 / value
    lower[regular] = np.where(high < LARGEST, (1 - 8 * UNIT) / high, 0.0)
    if m == n:
        upper[regular] = _reciprocal_above(low)
    inexact = m > n or (norm == "linf" and n > EXACT_ORDER)
    unsure = np.flatnonzero(inexact | ~(np.isfinite(upper) & (lower > 0)))
    if unsure.size:  # d_linf <= σ_min <= d_l1 <= √(mn) σ_min, and d_linf >= σ_min/√(mn)
        sigma, most = smallest_singular_values(A[unsure])
        wide = math.sqrt(m * n)
        ratio = (1 / wide, 1) if norm == "linf" else (1, wide)
        lower[unsure] = np.fmax(lower[unsure], below(sigma * ratio[0]) * (1 - 4 * UNIT))
        upper[unsure] = np.fmin(upper[unsure], above(most * ratio[1]) * (1 + 4 * UNIT))
    return distance, lower, upper


def _reciprocal_above(low: NDArray) -> NDArray:
    """Return upper bounds of the reciprocals of numbers above or at `low`; inf if it is not > 0."""
    return np.where(low > 0, np.maximum((1 + 8 * UNIT) / low, TINY), np.inf)


def _singular_values(A: NDArray, lost: NDArray) -> NDArray:
    """Return the smallest singular values, and 0 for what cannot be shown to be regular."""
    sigma = np.linalg.svd(A, compute_uv=False)
    least = np.array(sigma[..., -1])
    doubt = np.flatnonzero(least <= 16 * max(A.shape[1:]) * UNIT * sigma[..., 0] + lost)
    if doubt.size:
        _, lower, upper = distance_bounds(A[doubt], lost[doubt], "l2")
        least[doubt] = np.where(lower > 0, np.clip(least[doubt], lower, upper), 0.0)
    return least


def _nearest_perturbation(A: NDArray[np.float64], norm: str) -> NDArray:
    """Return the smallest E with A + E singular, for finite A of shape (k, m, n)."""
    if norm == "l2":
        U, s, Vt = np.linalg.svd(A, full_matrices=False)
        return -s[:, -1, None, None] * U[:, :, -1:] * Vt[:, -1:, :]
    E, n = np.zeros(A.shape), A.shape[-1]
    B = enclosed_inverse(A)[0]
    regular = np.flatnonzero(np.isfinite(B).all(axis=(1, 2)))  # the others are singular already
    B = B[regular]
    if norm == "l1":
        i, j = np.divmod(np.abs(B).reshape(len(B), n * n).argmax(axis=1), n)
        E[regular, j, i] = -1.0 / B[np.arange(len(B)), i, j]
    else:
        largest, s = inf_to_one_norm(B)
        t = np.where((B @ s[:, :, None])[:, :, 0] < 0, -1.0, 1.0)
        E[regular] = -s[:, :, None] * t[:, None, :] / largest[:, None, None]
    return E
