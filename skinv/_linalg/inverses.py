"""Exact inverses, and the checks of matrices that are to have some."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import as_double, is_complex, real_array, to_host
from .._arrays.embedding import embed_complex
from .._arrays.rows import list_rows, refuse_nonfinite
from .._arrays.shapes import as_stack, matrix_order
from .norms import scales
from .products import frobenius
from .scaling import ZERO, times_power
from .small import inverses_like_lapack
from .units import in_common_units, unit_exponents

# Past this condition number a float64 inverse has lost more than half of its digits.
MAX_CONDITION = 1.0 / math.sqrt(np.finfo(np.float64).eps)
# Steps towards the best scaling.
_POWER_STEPS = 4
# Numbers of matrices that are inverted at once.
_AT_ONCE = 2**18


def condition_numbers(A: NDArray, inverse: NDArray) -> NDArray[np.float64]:
    """Return ‖A‖_F ‖A⁻¹‖_F of each matrix (m, n, n), at least its 2-norm condition number.

    inf where the inverse is not finite or the product overflows.
    """
    with np.errstate(all="ignore"):
        kappa = _norms(A) * _norms(inverse)
    return np.where(np.isnan(kappa), np.inf, kappa)


def scaled_condition_numbers(A: NDArray, inverse: NDArray) -> NDArray[np.float64]:
    """Return condition numbers of matrices (m, n, n) whose rows and columns are scaled well.

    That is the Perron root of |A⁻¹||A|, which is the least that scaling makes of the condition
    number in the maximum norm (Bauer 1963, "Optimally scaled matrices"): bounded from above by a
    few power steps where :func:`condition_numbers`, which is never much less, is large.
    """
    kappa = condition_numbers(A, inverse)
    rows = np.flatnonzero(~(kappa <= MAX_CONDITION))
    rows = rows[np.isfinite(inverse[rows]).all(axis=(1, 2))]
    if len(rows):
        with np.errstate(all="ignore"):
            scaled = in_common_units(*(as_double(stack[rows]) for stack in (A, inverse)))
            a, x = map(abs, scaled[:2])
            w = np.ones(a[:, :, :1].shape)
            for _ in range(_POWER_STEPS):
                y = x @ (a @ w)
                least = (y / w).max(axis=(1, 2))
                kappa[rows] = np.fmin(kappa[rows], least)
                w = y / y.max(axis=1, keepdims=True)
    return kappa


def _norms(stack: NDArray) -> NDArray[np.float64]:
    """Return the Frobenius norm of each matrix; no square over- or underflows."""
    unit = scales(stack)
    if unit is None:
        return as_double(frobenius(stack))
    return as_double(frobenius(times_power(stack, 1 / unit))) * unit[:, 0, 0]


def check_inverse_targets(A: NDArray, inverse: NDArray) -> None:
    """Refuse training matrices (m, n, n) that are singular or too ill-conditioned to learn from.

    One matrix at distance 1e-14 from a singular one has an inverse near 1e14, and a least-squares
    fit then serves that matrix alone. The limit is a condition number of 1/√eps, 6.7e7, once rows
    and columns are scaled.
    """
    _refuse(scaled_condition_numbers(A, inverse))


def _refuse(kappa: NDArray) -> None:
    """Raise a ValueError that names training matrices with too large condition numbers."""
    bad = ~(kappa <= MAX_CONDITION)
    if bad.any():
        raise ValueError(
            f"Training matrices in rows {list_rows(bad)} are singular or have a condition number "
            f"past 1/sqrt(eps) = {MAX_CONDITION:.2g} (the worst: {kappa.max():.2g}); their "
            f"inverses would drown all others. Drop them, for instance with "
            f"FeasibleRegionSampler(min_distance=...).fit_resample(X, y)."
        )


def check_center(center: ArrayLike, *, embed: bool = False) -> NDArray[np.float64]:
    """Return the centre of a region or series, (n, n) or its n*n entries, as a float64 matrix.

    A complex one (n, n) is embedded, and a real one, too, if `embed`. Raises a ValueError if it is
    not one square matrix of finite numbers.
    """
    given_complex = is_complex(center)
    if given_complex:
        center = np.asarray(to_host(center))
        if center.ndim == 2 and center.shape[0] == center.shape[1]:
            center = embed_complex(center)
        else:
            raise ValueError(
                f"Got a complex center of shape {center.shape}, but one square matrix (n, n) is "
                f"expected."
            )
    A = real_array(center, "center")
    if A.ndim > 2 or (A.ndim == 2 and A.shape[0] != A.shape[1]):
        raise ValueError(
            f"Got a center of shape {A.shape}, but one square matrix is expected: (n, n), or its "
            f"n*n entries."
        )
    n = matrix_order(A.size)
    refuse_nonfinite(A.reshape(1, -1), "center")
    A = A.reshape(n, n)
    return embed_complex(A) if embed and not given_complex else A


def regular_inverse(center: NDArray, magnitude: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Invert one matrix, the centre of a series; a ValueError past condition number 1/√eps.

    `magnitude` is the largest entries of the matrices whose mean it is, if it is one: a mean that
    is nothing but their rounding is as good as zero.
    """
    inverse, kappa = _inverted_in_units(center[None], *unit_exponents(center))
    overflows = not np.isfinite(inverse).all()
    if overflows or (np.abs(center).ravel() <= 1e-12 * np.ravel(magnitude)).all():
        kappa[0] = np.inf
    if not kappa[0] <= MAX_CONDITION:
        raise ValueError(
            f"The center is singular or nearly so (condition number {kappa[0]:.2g}); the Taylor "
            f"series needs a regular one. Pass another center, or matrices whose mean is regular."
        )
    return inverse[0]


def are_regular(rows: NDArray) -> NDArray[np.bool_]:
    """Tell which finite rows (m, n*n) :func:`training_inverses` does not refuse."""
    units = unit_exponents(as_stack(root_mean_square(rows)[None])[0])
    return _inverted_in_units(as_stack(rows), *units)[1] <= MAX_CONDITION


def training_inverses(rows: NDArray) -> NDArray[np.float64]:
    """Return the exact inverses of training rows (m, n*n), refusing what must not be fitted."""
    stack = as_stack(rows)
    units = unit_exponents(as_stack(root_mean_square(rows)[None])[0])
    step = max(_AT_ONCE // rows.shape[1], 1)
    parts = [
        _inverted_in_units(stack[start : start + step], *units)
        for start in range(0, len(stack), step)
    ]
    inverse, kappa = (np.concatenate(part) for part in zip(*parts, strict=True))
    _refuse(kappa)
    return inverse.reshape(rows.shape)


def root_mean_square(rows: NDArray) -> NDArray[np.float64]:
    """Return that of each column, whatever units the others are in."""
    largest = np.abs(rows).max(axis=0, initial=0.0)
    return np.sqrt(np.mean((rows / np.where(largest > 0, largest, 1.0)) ** 2, axis=0)) * largest


def _inverted_in_units(A: NDArray, r: NDArray, c: NDArray) -> tuple[NDArray, NDArray]:
    """Invert matrices (m, n, n) scaled by 2^r and 2^c; return condition numbers of these, too.

    And by a power of two each, so that they may be of very different sizes.
    """
    power = r[:, None] + c
    exponent = np.where(A != 0, np.frexp(A)[1] + power, ZERO).max(axis=(1, 2), keepdims=True)
    size = np.where(exponent > ZERO, exponent, 0)
    with np.errstate(all="ignore"):
        scaled = np.ldexp(A, power - size)
        inverse = inverses_like_lapack(scaled)
        kappa = scaled_condition_numbers(scaled, inverse)
        return np.ldexp(inverse, c[:, None] + r - size), kappa
