"""Linear systems near a known matrix: residual iteration on the vectors, with proven errors.

With any P close to A⁻¹, x ← x + P(b − Ax) contracts the error by q = ‖I − PA‖ a step. Near a known
matrix P is its inverse, and q is bounded in O(n²) operations per matrix; nothing is factorised.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import as_array, as_float64
from .._arrays.host import is_complex as has_complex
from .._arrays.host import like, to_host
from .._arrays.kinds import is_tensor, namespace
from .._arrays.pairs import as_tensor, refuse_inexact
from .._linalg.arithmetic import Arithmetic
from .._linalg.inverses import condition_numbers, exact_inverse
from .._linalg.products import product_error
from .._linalg.scaling import powers_of_two, shifted, times_power
from .._linalg.workspace import indices, pieces
from ..bounds._residual import measure, scaled

# Bytes of matrices iterated on at once: what stays in the cache, but past this order enough
# matrices to share passes over the inverse of the centre (measured).
_PIECE, _LARGE_PIECE, _LARGE_ORDER = 2**20, 2**24, 128
# A contraction that is not below this proves too little; past the other more is spent on proving a
# better one.
_CONTRACTION = 0.9
_GOOD = 0.5
# Steps at most, and the share of a correction that the next one must not exceed.
_STEPS, _PROGRESS = 40, 0.7
UP = 1 + 2.0**-44
# Matrices of norms between 1e-19 and 1e19 and right-hand sides of these are not scaled: then the
# squares that underflow in solutions, residuals and steps are negligible.
SHARE = 1 / 16
_MODERATE = 1e-70, 1e70


def piece_bytes(n: int) -> int:
    """Return the size of a piece for matrices of order n."""
    return _PIECE if n <= _LARGE_ORDER else _LARGE_PIECE


@dataclass(frozen=True)
class Anchor:
    """A known matrix A₀ with an approximate inverse P, and what proofs near it start from.

    Parameters
    ----------
    center, inverse : ndarray of shape (n, n), float64, read-only
        A₀/unit and P, its inverse. All else but `unit` is worked out from these.
    unit : float
        A power of two, 1 unless A₀ is huge or tiny.
    spectral, size : float
        At least ‖P‖₂ and ‖P‖_F. Of LAPACK's singular values a backward error of 8 n eps σ_max is
        assumed.
    size_center : float
        At least ‖A₀‖_F.
    weights : ndarray of shape (n,)
        w = |P|1, for the norm max |x_i| / w_i, in which boxes are judged best.
    defect, defect_weighted : float
        At least ‖I − PA₀‖_F, and the same in the weighted norm.

    Examples
    --------
    >>> anchor = Anchor.of(np.array([[2.0, 0.0], [0.0, 4.0]]))
    >>> anchor.spectral, anchor.defect < 1e-14
    (0.5, True)
    """

    center: NDArray[np.float64]
    inverse: NDArray[np.float64]
    unit: float
    spectral: float
    size: float
    size_center: float
    weights: NDArray[np.float64]
    defect: float
    defect_weighted: float

    @classmethod
    def of(cls, center: NDArray, inverse: NDArray | None = None) -> Anchor | None:
        """Return the anchor at a matrix, or None if that is singular or nearly so.

        Parameters
        ----------
        center : ndarray of shape (n, n)
        inverse : ndarray of shape (n, n), default=None
            Its inverse if that is known.

        Returns
        -------
        Anchor or None
        """
        A = np.array(center, dtype=np.float64, order="C")[None]
        P = exact_inverse(A) if inverse is None else np.array(inverse, dtype=np.float64)[None]
        with np.errstate(all="ignore"):
            if not condition_numbers(A, P)[0] < 1e12:
                return None
            A, P, scale = scaled(A, P, SHARE)
        return cls._measured(A, P, 1.0 if scale is None else float(scale.ravel()[0]))

    @classmethod
    def from_state(
        cls, center: NDArray, inverse: NDArray, unit: float, **figures: Any
    ) -> Anchor | None:
        """Return the anchor of what a file says of one, of which no figure is believed."""
        A, P = (np.array(M, dtype=np.float64, order="C")[None] for M in (center, inverse))
        unit = float(unit)
        if not (A.shape == P.shape and A.ndim == 3 and A.shape[1] == A.shape[2]):
            raise ValueError(
                f"Got a file with a center of shape {A.shape[1:]} and an inverse of shape "
                f"{P.shape[1:]}, but square matrices of one size are expected."
            )
        if powers_of_two(np.array(unit)) != unit:
            raise ValueError(f"Got a file with a unit of {unit}, but a power of two is expected.")
        return cls._measured(A, P, unit)

    def to_state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` takes."""
        return {"center": self.center, "inverse": self.inverse, "unit": self.unit}

    @classmethod
    def _measured(cls, A: NDArray, P: NDArray, unit: float) -> Anchor | None:
        """Return the anchor at A·unit, a stack of one, with all figures worked out."""
        with np.errstate(all="ignore"):
            D, n = product_error(P, A), A.shape[-1]
            known = measure(P, A, D, "fro")
            arithmetic = Arithmetic.of(A)
            gamma = arithmetic.gamma(n + 2)
            weights = np.abs(P[0]).sum(axis=1)
            off = np.abs(D[0]) + 2 * gamma * (np.abs(P[0]) @ np.abs(A[0]) + np.eye(n))
            weighted = (off @ weights / weights).max() * (1 + 4 * gamma)
            spectral = np.linalg.norm(P[0], 2) * (1 + 32 * n * arithmetic.unit)
        figures = (spectral, known.A[0], known.X[0], known.bound[0], weighted)
        if not (np.isfinite(figures).all() and weights.min() > 0):
            return None
        for array in (A, P, weights):
            array.flags.writeable = False
        return cls(
            center=A[0],
            inverse=P[0],
            unit=unit,
            spectral=float(spectral),
            size=float(known.A[0]),
            size_center=float(known.X[0]),
            weights=weights,
            defect=float(known.bound[0]),
            defect_weighted=float(weighted),
        )


class Contraction(NamedTuple):
    """What is proven of x ← x + P(b − Ax) for each matrix.

    Parameters
    ----------
    q : ndarray or tensor of shape (c,)
        At least ‖I − PA‖, in the 2-norm or in the weighted one.
    weighted : ndarray or tensor of shape (c,), bool
        Which.
    size_A : ndarray or tensor of shape (c,)
        At least ‖A‖_F.
    """

    q: Any
    weighted: Any
    size_A: Any

    def rows(self, index: Any) -> Contraction:
        """Return the figures of some of the matrices."""
        return Contraction(self.q[index], self.weighted[index], self.size_A[index])


def solve_near(anchor: Anchor, A: Any, b: Any, tol: float) -> tuple[Any, Any]:
    """Solve systems whose matrices are near a known one.

    Parameters
    ----------
    anchor : Anchor
    A : ndarray or tensor of shape (m, n, n)
        Finite matrices.
    b : ndarray or tensor of shape (m, n, k), float64
        Finite right-hand sides.
    tol : float
        Relative error ‖x − A⁻¹b‖₂ / ‖x‖₂ to be proven, of each column.

    Returns
    -------
    x : ndarray or tensor of shape (m, n, k), float64
        NaN for matrices that are too far from the known one.
    bound : ndarray or tensor of shape (m, k), float64
        Proven bounds of the relative errors; inf where nothing is proven.

    Examples
    --------
    >>> anchor = Anchor.of(np.array([[2.0]]))
    >>> x, bound = solve_near(anchor, np.array([[[2.1]]]), np.array([[[1.0]]]), 1e-10)
    >>> x, bool(bound[0, 0] <= 1e-10)
    (array([[[0.4761905]]]), True)
    """
    x, bound = unknown(b)
    center, P, weights = (like(a, b) for a in (anchor.center, anchor.inverse, anchor.weights))

    def apply(r: Any) -> Any:
        return (r[:, :, 0] @ P.T)[:, :, None] if r.shape[2] == 1 else P @ r

    with np.errstate(all="ignore"):
        for piece in pieces(len(b), b.shape[1], 8, piece_bytes(b.shape[1])):
            a, rhs = as_float64(A[piece]), b[piece]
            if anchor.unit != 1.0:
                a = times_power(a, like(np.array(1 / anchor.unit), a))
            known = contraction(anchor, a, center, P, weights)
            near = known.q < _CONTRACTION
            if not bool(near.all()):
                index = indices(near)
                a, rhs, known = a[index], rhs[index], known.rows(index)
            else:
                index = slice(None)
            if len(rhs):
                scale = None if anchor.unit == 1.0 else like(np.array(anchor.unit), a)
                x[piece][index], bound[piece][index] = _iterate(
                    a, rhs, apply, anchor.spectral, anchor.size, known, weights, tol, scale
                )
    return x, bound


def solve_with(P: Any, A: Any, b: Any, tol: float, start: Any = None) -> tuple[Any, Any]:
    """Solve systems with an approximate inverse of each matrix.

    Parameters
    ----------
    P, A : ndarray or tensor of shape (m, n, n), float64
    b : ndarray or tensor of shape (m, n, k), float64
    tol : float
    start : ndarray or tensor of shape (m, n, k), default=None
        Where to start; Pb if None.

    Returns
    -------
    x, bound
        As :func:`solve_near`.

    Examples
    --------
    >>> A = np.array([[[2.1]]])
    >>> x, bound = solve_with(np.array([[[0.5]]]), A, np.array([[[1.0]]]), 1e-10)
    >>> x, bool(bound[0, 0] <= 1e-10)
    (array([[[0.4761905]]]), True)
    """
    x, bound = unknown(b)
    with np.errstate(all="ignore"):
        for piece in pieces(len(b), b.shape[1], 8, piece_bytes(b.shape[1])):
            a, p, unit = scaled(A[piece], P[piece], SHARE)
            known = measure(p, a, product_error(p, a), "fro")
            x[piece], bound[piece] = _iterate(
                a,
                b[piece],
                p.__matmul__,
                known.A[:, None],
                known.A[:, None],
                Contraction(known.bound, known.bound < 0, known.X),
                None,
                tol,
                unit,
                None if start is None else start[piece],
            )
    return x, bound


def unknown(b: Any) -> tuple[Any, Any]:
    """Return NaN for solutions of b (m, n, k), and inf for their bounds (m, k)."""
    if is_tensor(b):
        return b.new_full(b.shape, float("nan")), b.new_full(b[:, 0].shape, float("inf"))
    return np.full(b.shape, np.nan), np.full((len(b), b.shape[2]), np.inf)


def right_hand_sides(b: Any, rows: Any, is_complex: bool = False) -> Any:
    """Return right-hand sides as an array or tensor like the matrices they belong to.

    Parameters
    ----------
    b : array-like or tensor of shape (n_samples, n) or (n_samples, n, k)
    rows : ndarray or tensor of shape (n_samples, n*n)
    is_complex : bool, default=False
        Whether the matrices are embeddings of complex ones: `b` are complex vectors of half the
        length then, or real ones.

    Returns
    -------
    ndarray or tensor of the shape of `b`, or twice as long
        float32 and float64 are kept, everything else becomes float64.

    Raises
    ------
    ValueError
        For a wrong shape, complex numbers, or numbers that float64 cannot hold.

    Examples
    --------
    >>> right_hand_sides([[1, 2]], np.eye(2).reshape(1, 4)).dtype
    dtype('float64')
    """
    m, n = len(rows), math.isqrt(rows.shape[1])
    b = as_tensor(b).to(rows.device) if is_tensor(rows) else as_array(to_host(b))
    if is_complex:
        n //= 2
    elif has_complex(b):
        raise ValueError(
            "Got complex right-hand sides for real matrices, but real ones are expected: solve for "
            "real and imaginary parts as two columns."
        )
    if b.ndim not in (2, 3) or tuple(b.shape[:2]) != (m, n):
        raise ValueError(
            f"Got right-hand sides of shape {tuple(b.shape)} for {m} matrices of order {n}, but "
            f"({m}, {n}) or ({m}, {n}, k) is expected."
        )
    if is_complex:
        imaginary = b.imag if has_complex(b) else namespace(b).zeros_like(b)
        b = namespace(b).concatenate([b.real, imaginary], 1)
    if b.dtype in (namespace(b).float32, namespace(b).float64):
        return b
    wide = as_float64(b)
    refuse_inexact(b, wide)
    return wide


def complex_vectors(x: Any) -> Any:
    """Return complex vectors (m, n) or (m, n, k) from real ones, real parts before imaginary ones.

    Parameters
    ----------
    x : ndarray or tensor of shape (m, 2n) or (m, 2n, k)

    Returns
    -------
    ndarray or tensor, complex

    Examples
    --------
    >>> complex_vectors(np.array([[1.0, 2.0]]))
    array([[1.+2.j]])
    """
    n = x.shape[1] // 2
    real, imaginary = x[:, :n], x[:, n:]
    if is_tensor(x):
        return sys.modules["torch"].complex(real, imaginary)
    out = np.empty(real.shape, np.result_type(x.dtype, np.complex64))
    out.real, out.imag = real, imaginary
    return out


def take_better(x: Any, bound: Any, rows: NDArray, new_x: Any, new_bound: Any) -> None:
    """Put new solutions of some rows in the place of those with larger bounds, or without one.

    Parameters
    ----------
    x, bound : ndarray or tensor of shape (m, n, k) and (m, k)
        Overwritten.
    rows : ndarray of int
    new_x, new_bound : ndarray or tensor of shape (len(rows), n, k) and (len(rows), k)

    Examples
    --------
    >>> x, bound = unknown(np.zeros((1, 1, 1)))
    >>> take_better(x, bound, np.array([0]), np.ones((1, 1, 1)), np.zeros((1, 1)))
    >>> x, bound
    (array([[[1.]]]), array([[0.]]))
    """
    xp = namespace(x)
    old_x, old = x[rows], bound[rows]
    better = (new_bound < old) | ~(old < float("inf"))
    x[rows] = xp.where(better[:, None], new_x, old_x)
    bound[rows] = xp.where(better, new_bound, old)


def rounded_solution(x: Any, dtype: Any, bound: Any) -> tuple[Any, Any]:
    """Return solutions in another dtype, with bounds that hold for what they have become.

    Parameters
    ----------
    x : ndarray or tensor of shape (m, n, k), float64
    dtype : dtype
    bound : ndarray or tensor of shape (m, k)

    Returns
    -------
    x, bound

    Examples
    --------
    >>> x, bound = rounded_solution(np.full((1, 1, 1), 0.1), np.float32, np.zeros((1, 1)))
    >>> bool(0 < bound[0, 0] < 6e-8)
    True
    """
    if x.dtype == dtype:
        return x, bound
    xp = namespace(x)
    with np.errstate(all="ignore"):
        y = x.to(dtype) if is_tensor(x) else x.astype(dtype)
        wide = as_float64(y)
        size = norms_of(wide) * (1 - 1e-9)
        moved = (bound * norms_of(x) + norms_of(wide - x)) * (1 + 1e-9) / size
    zero = (bound == 0) & (size == 0)
    return y, xp.where(zero, bound, xp.where(moved >= 0, moved, xp.full_like(moved, float("inf"))))


def contraction(anchor: Anchor, A: Any, center: Any, P: Any, weights: Any) -> Contraction:
    """Bound ‖I − PA‖ for each A = A₀ + E.

    I − PA = (I − PA₀) − PE. In the 2-norm ‖PE‖ <= ‖P‖₂‖E‖_F, and ‖E‖_F² = ‖A‖² − 2⟨A, A₀⟩ + ‖A₀‖²
    takes two passes over A and no memory. Inner products of n² terms are wrong by at most γ‖A‖‖A₀‖.
    Where that is not enough, ‖PE‖ <= max (|P||E|w)/w in the weighted norm is tried, and last, the
    only n³ operations here, the product PA itself.
    """
    xp = namespace(A)
    (c, n, _), arithmetic = A.shape, Arithmetic.of(A)
    up = 1 + 8 * arithmetic.gamma(n)
    flat, gamma = A.reshape(c, n * n), arithmetic.gamma(n * n + 8)
    size_A = norms_of(flat[:, :, None])[:, 0]
    square = size_A**2 - 2 * (flat @ center.reshape(-1)) + anchor.size_center**2
    total = (size_A + anchor.size_center) ** 2
    q = (anchor.defect + anchor.spectral * (square.clip(min=0) + 2 * gamma * total) ** 0.5) * UP
    weighted = q < 0
    far = ~(q < _GOOD)
    if bool(far.any()):
        reach = ((abs(A[far] - center) @ weights) @ abs(P).T / weights).T
        worst = reach.amax(0) if is_tensor(reach) else reach.max(axis=0)
        other = (anchor.defect_weighted + worst * up) * UP
        weighted[far] = other < q[far]
        q[far] = xp.where(weighted[far], other, q[far])
        far = ~(q < _GOOD)
    if bool(far.any()):
        a = A[far]
        all_P = P.expand_as(a) if is_tensor(a) else np.broadcast_to(P, a.shape)
        known = measure(all_P, a, product_error(all_P, a), "fro", anchor.size)
        better = known.bound < q[far]
        weighted[far] &= ~better
        q[far] = xp.where(better, known.bound, q[far])
    return Contraction(q, weighted, size_A * (1 + gamma))


def _iterate(
    A: Any,
    b: Any,
    apply: Callable,
    spectral: Any,
    size_P: Any,
    known: Contraction,
    weights: Any,
    tol: float,
    scale: Any = None,
    start: Any = None,
) -> tuple[Any, Any]:
    """Iterate x ← x + P(b − Ax) until the relative errors are proven to be within `tol`.

    With r = b − Ax, A⁻¹b − x = (PA)⁻¹Pr, so A⁻¹b − x − Pr is at most q/(1 − q)·‖Pr‖, which is the
    error after the step. The computed r is off by γ(|b| + |A||x|), and the computed Pr by γ|P||r|.
    A stands for A/scale, whose norm is moderate; b and so x are scaled by powers of two to moderate
    size, too. Then what underflows, in sums and in the squares of norms, is allowed for by `lost`.
    """
    xp = namespace(b)
    n = b.shape[1]
    arithmetic = Arithmetic.of(b)
    gamma, lost = arithmetic.gamma(n + 4), 8 * n * arithmetic.tiny**0.5
    size_b = norms_of(b)
    least, largest = _MODERATE
    plain = scale is None and bool(((size_b > least) & (size_b < largest)).all())
    if plain:
        zero = size_b < 0  # none
        x = apply(b) if start is None else start
    else:
        if scale is None:
            scale = b.new_ones(()) if is_tensor(b) else np.ones(())
        unit = powers_of_two(b, 1)
        b = times_power(b, 1 / unit)
        size_b = norms_of(b)
        zero = ~(b != 0).any(1)
        x = apply(b) if start is None else shifted(start, scale, unit)
    q, size_A = known.q[:, None], known.size_A[:, None]
    rate = q / (1 - q)
    size_x, previous = norms_of(x), float("inf")
    for k in range(_STEPS):
        r = b - A @ x
        step = apply(r)
        x = x + step
        size_old, size_x, size_step = size_x, norms_of(x), norms_of(step)
        slow = ~(size_step < _PROGRESS * previous)
        previous = size_step
        # The proof is worth its while when the leading term would do, or nothing more is gained.
        if bool(((rate * size_step > tol * size_x) & ~slow).any()) and k < _STEPS - 1:
            continue
        off = gamma * (size_b + size_A * size_old) + lost * (1 + size_A + size_old)
        off = gamma * size_P * norms_of(r) + spectral * off + lost * (1 + size_P)
        ahead = rate * (size_step + off)
        if weights is not None and bool(known.weighted.any()):
            length, small = float((weights**2).sum() ** 0.5), float(weights.min())
            ratio = abs(step) / weights[:, None]
            ratio = ratio.amax(1) if is_tensor(ratio) else ratio.max(axis=1)
            other = rate * length * (ratio + off / small)
            ahead = xp.where(known.weighted[:, None], other, ahead)
        error = (ahead + off) * (1 + 2 * gamma) + 2 * arithmetic.unit * size_x
        bound = error / (size_x * (1 - 2 * gamma) - lost) * UP
        if bool(((bound <= tol) | slow).all()):
            break
    bound = xp.where((q < 1) & (bound >= 0), bound, xp.full_like(bound, float("inf")))
    bound = xp.where(zero & (q < 1), xp.zeros_like(bound), bound)  # b = 0, x = 0
    if plain:
        return x, bound
    # Back in their own scale entries may over- or underflow.
    back = shifted(x, unit, scale)
    again = shifted(back, scale, unit)
    size = norms_of(again) * (1 - 2 * gamma) - lost
    total = (bound * size_x + norms_of(again - x) + lost) * (1 + 2 * gamma) * UP / size
    total = xp.where(zero, bound, total)
    good = (total >= 0) & xp.isfinite(norms_of(again))
    return back, xp.where(good, total, xp.full_like(total, float("inf")))


def norms_of(b: Any) -> Any:
    """Return the Euclidean norm of each column of a stack (c, n, k), as it is rounded."""
    if is_tensor(b):
        return sys.modules["torch"].linalg.vector_norm(b, dim=1)
    if b.shape[2] == 1 and hasattr(np, "vecdot"):
        flat = b[:, :, 0]
        return np.sqrt(np.vecdot(flat, flat))[:, None]
    return np.sqrt(np.einsum("cnk,cnk->ck", b, b))
