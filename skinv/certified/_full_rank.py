"""Proofs of pseudo-inverses of matrices of full rank, by normal equations and by factors."""

from typing import Any

import numpy as np

from .._arrays.conversion import as_double, namespace
from .._linalg.arithmetic import Arithmetic
from .._linalg.gram import adjoint
from .._linalg.norms import finite_rows, sizes
from .._linalg.products import add_to_diagonal, column_norms, exact_inverse, frobenius, product
from .._linalg.scaling import not_zero, powers_of_two, times_power
from .._linalg.small import LARGEST, small_inverses
from .._linalg.threads import in_threads
from .._linalg.workspace import copied, empty, empty_like, full, indices, piece_memory, pieces
from ..bounds._refine import rounded
from ._proofs import ProofTerms, invert

# What normal equations prove no better is worth a factorisation.
_WEAK = 2.0**-30
# Bounds are computed in a few float64 operations.
_UP = 1 + 2.0**-45
# Rows that are so much larger than the smallest are taken for that much larger.
_SMALL = 2.0**-500
_TINY = 2.0**-1000
# Past this squares may overflow, which is to the largest number where rounding is toward zero.
_HUGE = 2.0**510
_LENIENT = ProofTerms(1.0, 2, "fro", 2, "keep")


def full_rank_inverses(A: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Return pseudo-inverses, bounds of their relative errors, and distances to lower ranks.

    Of a stack (k, m, n), m <= n; what stands for others, as NaN, has a bound of inf.
    """
    (k, m, n), double = A.shape, namespace(A).float64
    X, bound, distance = empty(A, (k, n, m)), empty(A, (k,), double), empty(A, (k,), double)

    def prove(piece: slice) -> None:
        with np.errstate(all="ignore"):
            a, w = as_double(A[piece]), None if weight is None else weight[piece]
            x, off, far = _by_normal_equations(a, w)
            weak = indices(~(off <= _WEAK) & finite_rows(a))
            if len(weak):
                plain = full(off, (len(weak),), 1.0) > 0 if w is None else w[weak] == 0
                easy = plain.reshape(len(weak)) & (m == n)  # whatever the damping of others
                for rows, by_inverse in ((weak[easy], True), (weak[~easy], False)):
                    if not len(rows):
                        continue
                    if by_inverse:
                        y, other, further = _by_inverse(a[rows])
                    else:
                        y, other, further = _by_factors(a[rows], None if w is None else w[rows])
                    better = (other < off[rows]) | (off[rows] == np.inf)
                    rows = rows[better]
                    x[rows], off[rows], far[rows] = y[better], other[better], further[better]
            distance[piece] = far
            x, off = rounded_tall(x, X.dtype, off)
            X[piece], bound[piece] = x, namespace(A).where(off < 1, off, np.inf)

    in_threads(prove, pieces(k, n, as_double(A[:0]).itemsize, piece_memory(A)), A)
    return X, bound, distance


def rounded_tall(X: Any, dtype: Any, bound: Any) -> tuple[Any, Any]:
    """Return matrices (k, n, m), m <= n, in another dtype, and bounds that hold for them."""
    if X.dtype == dtype:
        return X, bound
    # Norms there are of matrices that are not tall.
    X, bound = rounded(copied(X.swapaxes(1, 2)), dtype, bound, "fro")
    return X.swapaxes(1, 2), bound


def _by_normal_equations(A: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Return AᴴZ, Z an inverse of AAᴴ + λ²I, after a step, and what is proven of it."""
    G = product(A, adjoint(A))
    if weight is not None:
        add_to_diagonal(G, (weight * weight)[:, None])
    return stepped(A, _inverses(G), weight)


def stepped(A: Any, Z: Any, weight: Any = None) -> tuple[Any, Any, Any]:
    """Refine X = AᴴZ by a step; return it, bounds of its relative errors, and distances."""
    arithmetic, n, H = Arithmetic.of(A), A.shape[2], adjoint(A)
    square: Any = 0.0 if weight is None else _up_to(_HUGE**2, weight * weight)
    X = product(H, Z)
    D = product(A, X)  # −R
    if weight is not None:
        D += square[:, None, None] * Z
    add_to_diagonal(D, -1)
    Y = X - product(X, D)
    a, x, z, d = (_norms(M)[1] for M in (A, X, Z, D))
    unit, gamma = arithmetic.unit, arithmetic.gamma(n + 2)
    # What underflows, or is flushed to zero in operands, is less than tiny times these.
    lost = 8 * n * n * arithmetic.tiny * (1 + a + x + z + square)
    rounding = unit * d + gamma * (a * x + square * z) + lost  # of R
    outside = gamma * a * z + lost  # F = X − AᴴZ
    # Y = X(I − D) + E belongs to Z(I − D), and its residual is D² + (R + D)(I − D) − AE.
    step = x * (gamma * d + unit * (1 + d)) + lost
    residual = d * d + rounding * (1 + d) + a * step
    outside = outside * (1 + d) + step
    low, high = _norms(Y)
    bound = (residual + outside * (1 + residual) / (low - outside)) * _UP
    return Y, *_kept(bound, low > outside, 1 / high)


def _inverses(G: Any) -> Any:
    """Return inverses of Hermitian matrices, of which nothing is claimed."""
    if isinstance(G, np.ndarray) and G.shape[1] <= LARGEST:
        Z = empty_like(G)
        small_inverses(G, Z)
        return Z
    xp = namespace(G)
    return exact_inverse(xp.where(xp.isfinite(G), G, 0.0))


def _by_inverse(A: Any) -> tuple[Any, Any, Any]:
    """Return inverses of square matrices, in whatever units their rows and columns are."""
    found = invert(A, empty_like(A), sizes(A), _LENIENT)
    unit = powers_of_two(found.inverse, (1, 2))
    far = 1 / _norms(times_power(found.inverse, 1 / unit))[1] / unit[:, 0, 0]
    return found.inverse, *_kept(found.bound, found.bound < 1, far)


def _by_factors(A: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Return the first n rows of the pseudo-inverse of B = (A, λI) in units of its rows.

    With D of powers of two (DB)⁺ = B⁺D⁻¹, column by column.
    """
    xp, (m, n) = namespace(A), A.shape[1:]
    B = A
    if weight is not None:
        W = xp.zeros_like(A[:, :, :m])
        W[:, range(m), range(m)] = xp.astype(weight[:, None], W.dtype)
        B = xp.concat([A, W], axis=2)
    unit = powers_of_two(B, 2)
    B = times_power(B, 1 / unit)
    Q, T = xp.linalg.qr(copied(adjoint(B)))
    X = product(Q, adjoint(exact_inverse(T)))
    error, columns, _ = column_errors(B, X, n)
    X = X[:, :n]
    # In the units of A, relative to the smallest of rows.
    least = xp.min(unit[:, :, 0], axis=1)
    share = least[:, None] / unit[:, :, 0]
    arithmetic = Arithmetic.of(A)
    # What underflows in the units of A, and in norms.
    out = 4 * n * n * arithmetic.tiny * (1 + least) + 4 * n * arithmetic.tiny**0.5
    moved = _norms((error * share.clip(_SMALL))[:, None])[1] + out
    low, high = _norms((columns * share)[:, None])
    gamma = arithmetic.gamma(n + 4)
    low, high = low * (1 - gamma) - out, _norms((columns * share.clip(_SMALL))[:, None])[1]
    bound = moved / (low - moved) * _UP
    far = least / ((high + out) * (1 + gamma))
    X = times_power(X, 1 / unit.swapaxes(1, 2))
    finite = xp.all(abs(X) < arithmetic.largest, axis=(1, 2))
    bound, far = _kept(bound, (low > moved) & finite, far)
    if weight is not None:  # of 0 the damped one is 0, exactly
        zero = not_zero(weight) & ~xp.any(not_zero(A), axis=(1, 2))
        X[indices(zero)], bound[indices(zero)] = 0.0, 0.0
    return X, bound, far


def as_they_are(A: Any, X: Any) -> tuple[Any, Any, Any]:
    """Return bounds of relative errors of X, as of A⁺, of the entries, and of ‖I − AX‖_F."""
    error, columns, whole = column_errors(A, X, X.shape[1])
    arithmetic, (n, m) = Arithmetic.of(X), X.shape[1:]
    gamma, lost = arithmetic.gamma(n + 4), 4 * m * n * arithmetic.tiny**0.5
    moved = _norms(error[:, None])[1] + lost
    low = _norms(columns[:, None])[0] * (1 - gamma) - lost
    bound = moved / (low - moved) * _UP
    good = (low > moved) & (bound < 1)
    xp = namespace(X)
    return xp.where(good, bound, np.inf), error, xp.where(whole >= 0, whole, np.inf)


def column_errors(B: Any, X: Any, n: int) -> tuple[Any, Any, Any]:
    """Bound the errors of the first n rows of X, as of B⁺, column by column.

    Return these, the norms of columns as they are rounded, and bounds of ‖I − BX‖_F.

    With any Z: F = X − BᴴZ, R = I − BX, B⁺ − X = B⁺R − (I − B⁺B)F, ‖B⁺‖ <= ‖X‖/(1 − ‖R‖).
    """
    xp, arithmetic, k = namespace(B), Arithmetic.of(B), B.shape[2]
    unit, gamma = arithmetic.unit, arithmetic.gamma(k + 4)
    up = 1 + 2 * gamma  # of norms as they are rounded
    D = product(B, X)
    add_to_diagonal(D, -1)
    Z = product(adjoint(X), X)
    F = X - product(adjoint(B), Z)
    b, x, z = (_norms(M)[1] for M in (B, X, Z))
    lost = (8 * k * k * arithmetic.tiny * (1 + b + x + z) + 2 * k * arithmetic.tiny**0.5)[:, None]
    parts = [_up_to(_HUGE, column_norms(M)) for M in (D, X, F, Z)]
    d, columns, f, c = (part * up + 2 * k * arithmetic.tiny**0.5 for part in parts)
    residual = (1 + unit) * d + gamma * b[:, None] * columns + lost
    outside = (1 + unit) * f + gamma * b[:, None] * c + lost
    whole = _norms(residual[:, None])[1]
    size = xp.where(whole < 1, x / (1 - whole), np.inf) * _UP
    error = _up_to(_HUGE, (size[:, None] * residual + outside) * _UP)
    return error, column_norms(X[:, :n]), whole


def _norms(M: Any) -> tuple[Any, Any]:
    """Return proven lower and upper bounds of the Frobenius norms of a stack of any shape."""
    arithmetic, (m, n) = Arithmetic.of(M), M.shape[1:]
    computed, gamma = frobenius(M), arithmetic.gamma(m * n + 4)
    lost = 2 * max(m, n) * arithmetic.tiny**0.5
    return computed * (1 - gamma) - lost, _up_to(_HUGE, computed) * (1 + gamma) + lost


def _up_to(limit: float, values: Any) -> Any:
    """Return upper bounds, or inf for those that are not below a limit."""
    return namespace(values).where(values < limit, values, np.inf)


def _kept(bound: Any, good: Any, far: Any) -> tuple[Any, Any]:
    """Return bounds, inf where nothing is proven, and the distances 1/‖A⁺‖ that follow."""
    xp = namespace(bound)
    bound = xp.where(good & (bound >= 0) & (bound < 1), bound, np.inf)
    far = xp.where(bound < 1, (1 - bound) * far / _UP, 0.0)
    far = xp.where(far > _TINY, far, 0.0)  # which is rounded, else, as subnormal numbers are
    return bound, far
