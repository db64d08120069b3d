"""pinv: pseudo-inverses, damped ones too, of stacks of matrices of full rank, each with a proof."""

import math
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils._param_validation import validate_parameter_constraints

from .._arrays.conversion import (
    as_double,
    as_given,
    is_complex,
    namespace,
    not_a_number,
    real_array,
    to_host,
)
from .._arrays.results import PROVEN, InverseReport
from .._arrays.shapes import Leading
from .._linalg.arithmetic import Arithmetic
from .._linalg.norms import finite_rows, sizes
from .._linalg.products import add_to_diagonal, column_norms, exact_inverse, frobenius, product
from .._linalg.scaling import not_zero, powers_of_two, times_power
from .._linalg.small import LARGEST, small_inverses
from .._linalg.threads import in_threads
from .._linalg.workspace import (
    copied,
    empty,
    empty_like,
    full,
    indices,
    piece_memory,
    pieces,
)
from ..bounds._refine import rounded
from ._functions import _CHECKS, Fallback, _refuse
from ._given import opened
from ._proofs import (
    EXACT,
    INACCURATE,
    NOT_FINITE,
    REJECTED,
    STATUSES,
    ProofTerms,
    invert,
)

# What normal equations prove no better is worth a factorisation.
_WEAK = 2.0**-30
# Bounds are computed in a few float64 operations.
_UP = 1 + 2.0**-45
# Rows that are so much larger than the smallest are taken for that much larger.
_SMALL = 2.0**-500
_TINY = 2.0**-1000
_LENIENT = ProofTerms(1.0, 2, "fro", 2, "keep")


def pinv(
    A: Any,
    *,
    damping: Any = 0.0,
    tol: float | None = None,
    fallback: Fallback = "exact",
    return_report: bool = False,
) -> Any:
    """Return pseudo-inverses, damped if asked for, and prove of each how far off it can be.

    Like :func:`numpy.linalg.pinv` for matrices of full rank. One that is not shown to have full
    rank is answered by NaN and spoils nothing, and nothing is cut off: with damping, as of damped
    least squares, there is an answer for it, too.

    Parameters
    ----------
    A : array-like or tensor of shape (m, n) or (..., m, n)
        Matrices, real or complex, of any shape; NaN and infinity are allowed, and answered by NaN.
    damping : float or array-like of shape (...), default=0.0
        λ >= 0, one or one for each matrix, in the units of `A`: the answer is then
        ``Aᴴ(AAᴴ + λ²I)⁻¹``, whose product with b minimises ‖Ax − b‖² + λ²‖x‖².
    tol : float, default=None
        Relative error ‖A⁺ − X‖_F / ‖A⁺‖_F to be proven, A⁺ the damped one where there is damping.
        None takes whatever is.
    fallback : {"exact", "exact-raise", "nan", "keep", "raise"}, default="exact"
        What becomes of matrices whose error could not be proven to be within `tol`: "exact" keeps
        those of which something is proven, "nan" none, "keep" all, and "raise" and "exact-raise"
        raise a ValueError that names them.
    return_report : bool, default=False
        Whether to return all that is known.

    Returns
    -------
    ndarray or tensor of shape (..., n, m)
        Pseudo-inverses, without gradients; in single precision for single, else in double. With
        `return_report` an InverseReport: ``inverse``; ``bound``, proven upper bounds of the
        relative errors, inf where nothing is proven; ``status``: "exact" where within `tol`,
        "inaccurate", "rejected" or "not finite"; ``distance``, proven lower bounds of the smallest
        singular value of `A`, which is the distance in the 2-norm to the nearest matrix without
        full rank, in the units of `A`, 0 where nothing is proven; and ``rank``, min(m, n) where
        that is proven, else -1. With damping these two, which are of `A` without it, are found out
        when they are first asked for.

    Raises
    ------
    ValueError
        For what holds no matrices, for numbers that float64 cannot hold, for damping that is
        negative or not finite, and with ``fallback="raise"`` or "exact-raise" if an error could not
        be proven to be within `tol`.

    See Also
    --------
    skinv.inv : Inverses of square matrices, in any units of rows and columns.

    Notes
    -----
    For m <= n, and transposed otherwise, X = AᴴZ with Z an inverse of AAᴴ + λ²I, one step of
    refinement, and R = I − AX − λ²Z. With X = AᴴZ + F then A⁺ − X = A⁺R − (I − A⁺A)F, and so
    ‖A⁺ − X‖ <= ‖A⁺‖‖R‖ + ‖F‖; where λ = 0, ‖R‖ < 1 proves full rank. Where that proves little, as
    past condition numbers of 1e6 or so, or in other units for each row, X is that of a QR
    factorisation of (A, λI)ᴴ, with rows scaled by powers of two. Rounding, underflow and modes
    that flush to zero are allowed for.

    Examples
    --------
    >>> import skinv
    >>> A = np.array([[[3.0, 0.0, 4.0], [0.0, 1.0, 0.0]], [[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]])
    >>> skinv.pinv(A).round(6)
    array([[[0.12, 0.  ],
            [0.  , 1.  ],
            [0.16, 0.  ]],
    <BLANKLINE>
           [[ nan,  nan],
            [ nan,  nan],
            [ nan,  nan]]])
    >>> report = skinv.pinv(A, damping=0.1, return_report=True)
    >>> report.inverse[1].round(3)
    array([[0.04, 0.08],
           [0.08, 0.16],
           [0.  , 0.  ]])
    >>> bool((report.bound < 1e-11).all()), report.rank, report.distance.round(2)
    (True, array([ 2, -1]), array([0.98, 0.  ]))
    """
    validate_parameter_constraints(_CHECKS, {"tol": tol, "fallback": fallback}, "pinv")
    given = _Given.of(A)
    weight = given.weights(damping)
    tol = 1.0 if tol is None else tol
    X, bound, distance = _proven(given.stack, weight)
    bad = ~finite_rows(given.stack)
    host, unfinished = to_host(bound), to_host(bad)
    status = np.where(host <= tol, EXACT, np.where(host < 1, INACCURATE, REJECTED))
    if fallback != "keep":
        lost = ~(bound <= tol) if fallback == "nan" else ~(bound < 1)
        X[indices(lost)], bound[lost] = not_a_number(X), np.inf
        status[to_host(lost)] = REJECTED
    X[indices(bad)], status[unfinished] = not_a_number(X), NOT_FINITE
    names = STATUSES[status]
    if "raise" in fallback:
        _refuse(~np.isin(names, PROVEN), "pseudo-inverses", tol)
    if not return_report:
        return given.answers(X)
    came, report = given.came, InverseReport()
    report.inverse, report.bound = given.answers(X), came.numbers(bound)
    report.status = names.reshape(came.shape)
    if weight is None:
        report.distance = came.numbers(distance)
    else:
        report._later("distance", _distance, given._replace(stack=copied(given.stack)))
    report._later("rank", _rank, given.stack.shape[1])
    return report


class _Given(NamedTuple):
    """Matrices as a caller passed them, as a stack (k, m, n) with m <= n, and how they came."""

    stack: Any
    came: Leading
    tall: bool

    @classmethod
    def of(cls, A: Any) -> "_Given":
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
        stack = _adjoint(stack) if m > n else stack
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
        return self.came.matrices(_adjoint(X) if self.tall else X)


def _distance(report: InverseReport, given: _Given) -> Any:
    return given.came.numbers(_proven(given.stack, None)[2])


def _rank(report: InverseReport, full: int) -> Any:
    return np.where(to_host(report.distance) > 0, full, -1)[()]


def _adjoint(M: Any) -> Any:
    """Return the conjugate transposes of a stack, of real ones a view."""
    xp, M = namespace(M), M.swapaxes(1, 2)
    return xp.conj(M) if is_complex(M) else M


def _proven(A: Any, weight: Any) -> tuple[Any, Any, Any]:
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
            if X.dtype != x.dtype:  # norms there are of matrices that are not tall
                x, off = rounded(copied(x.swapaxes(1, 2)), X.dtype, off, "fro")
                x = x.swapaxes(1, 2)
            X[piece], bound[piece] = x, namespace(A).where(off < 1, off, np.inf)

    in_threads(prove, pieces(k, n, as_double(A[:0]).itemsize, piece_memory(A)), A)
    return X, bound, distance


def _by_normal_equations(A: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Return X = AᴴZ, Z an inverse of AAᴴ + λ²I, after a step, and what is proven of it."""
    arithmetic, n, H = Arithmetic.of(A), A.shape[2], _adjoint(A)
    square: Any = 0.0 if weight is None else weight * weight
    G = product(A, H)
    if weight is not None:
        add_to_diagonal(G, square[:, None])
    Z = _inverses(G)
    X = product(H, Z)
    D = product(A, X, out=G)  # −R
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
    Q, T = xp.linalg.qr(copied(_adjoint(B)))
    X = product(Q, _adjoint(exact_inverse(T)))
    error, columns = _column_errors(B, X, n)
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
    finite = xp.all(xp.isfinite(X), axis=(1, 2))
    bound, far = _kept(bound, (low > moved) & finite, far)
    if weight is not None:  # of 0 the damped one is 0, exactly
        zero = not_zero(weight) & ~xp.any(not_zero(A), axis=(1, 2))
        X[indices(zero)], bound[indices(zero)] = 0.0, 0.0
    return X, bound, far


def _column_errors(B: Any, X: Any, n: int) -> tuple[Any, Any]:
    """Bound the errors of the first n rows of X, as of B⁺, column by column; and their norms.

    With any Z: F = X − BᴴZ, R = I − BX, B⁺ − X = B⁺R − (I − B⁺B)F, ‖B⁺‖ <= ‖X‖/(1 − ‖R‖).
    """
    xp, arithmetic, k = namespace(B), Arithmetic.of(B), B.shape[2]
    unit, gamma = arithmetic.unit, arithmetic.gamma(k + 4)
    up = 1 + 2 * gamma  # of norms as they are rounded
    D = product(B, X)
    add_to_diagonal(D, -1)
    Z = product(_adjoint(X), X)
    F = X - product(_adjoint(B), Z)
    b, x, z = (_norms(M)[1] for M in (B, X, Z))
    lost = (8 * k * k * arithmetic.tiny * (1 + b + x + z) + 2 * k * arithmetic.tiny**0.5)[:, None]
    parts = [column_norms(M) * up + 2 * k * arithmetic.tiny**0.5 for M in (D, X, F, Z)]
    d, columns, f, c = parts
    residual = (1 + unit) * d + gamma * b[:, None] * columns + lost
    outside = (1 + unit) * f + gamma * b[:, None] * c + lost
    whole = _norms(residual[:, None])[1]
    size = xp.where(whole < 1, x / (1 - whole), np.inf) * _UP
    return (size[:, None] * residual + outside) * _UP, column_norms(X[:, :n])


def _norms(M: Any) -> tuple[Any, Any]:
    """Return proven lower and upper bounds of the Frobenius norms of a stack of any shape."""
    arithmetic, (m, n) = Arithmetic.of(M), M.shape[1:]
    computed, gamma = frobenius(M), arithmetic.gamma(m * n + 4)
    lost = 2 * max(m, n) * arithmetic.tiny**0.5
    return computed * (1 - gamma) - lost, computed * (1 + gamma) + lost


def _kept(bound: Any, good: Any, far: Any) -> tuple[Any, Any]:
    """Return bounds, inf where nothing is proven, and the distances 1/‖A⁺‖ that follow."""
    xp = namespace(bound)
    bound = xp.where(good & (bound >= 0) & (bound < 1), bound, np.inf)
    far = xp.where(bound < 1, (1 - bound) * far / _UP, 0.0)
    far = xp.where(far > _TINY, far, 0.0)  # which is rounded, else, as subnormal numbers are
    return bound, far
