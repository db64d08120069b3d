"""A matrix whose inverse is known, and what it says of others near it."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import is_tensor, like, namespace, parts_of
from .._arrays.embedding import extract_complex
from .._linalg.arithmetic import Arithmetic
from .._linalg.inverses import scaled_condition_numbers
from .._linalg.norms import scales
from .._linalg.products import dot, exact_inverse, frobenius, product, product_error
from .._linalg.scaling import in_units, powers_of_two, times_power
from .._linalg.units import are_mixed, unit_exponents
from .._linalg.workspace import count, empty
from ..bounds._residual import measure

# Bytes of matrices iterated on at once: what stays in the cache, but enough matrices to share calls
# and, past this order, passes over the inverse of the centre (measured).
_PIECE, _LARGE_PIECE, _LARGE_ORDER = 2**22, 2**24, 128
# Multiplications in a product of matrices that OpenBLAS still does without copies of them.
_SMALL = 10**6
# A contraction that is not below this is worth more work for a better one.
_GOOD = 0.5
# Directions that are no more than this from orthonormal ones are taken as they are.
_ASKEW = 2.0**-40
# Squares of squares that bound a 2-norm, at most; norms between these have squares.
_SQUARES, _MODERATE = 5, (1e-70, 1e70)
# Squares and products of what is not below this, and is not moderate, might overflow.
_HUGE = 1e140
# Bounds themselves are computed in a few float64 operations.
UP = 1 + 2.0**-44
# Matrices of norms between 1e-19 and 1e19 are not scaled: then the squares that underflow in
# solutions, residuals and steps are negligible.
SHARE = 1 / 16
# How many matrices of a family say in which directions it moves; numbers of these that are tried;
# the contraction for which none are worth their price.
SAMPLE, _NUMBERS, _ENOUGH = 64, (1, 2, 3, 4, 6, 8, 12, 16), 0.03
# The price of solutions is that of passes over the matrices: one a step, of which it takes so many
# divided by −log of the contraction to 1e-8 or so, and this share for each direction (measured).
_STEPS, _DIRECTION = 20.0, 0.3


def piece_bytes(n: int) -> int:
    """Return the size of a piece for matrices of order n."""
    return _PIECE if n <= _LARGE_ORDER else _LARGE_PIECE


@dataclass(frozen=True)
class Anchor:
    """A known matrix A₀ with an approximate inverse P, and what proofs near it start from.

    All is in units in which rows and columns are of one size where those of A₀ are mixed, or it is
    huge or tiny. A family moves in few directions, and what P makes of these is known.
    """

    center: Any  # A₀
    inverse: Any  # P, the inverse of that
    taken: tuple[NDArray, NDArray] | None  # the units that all is in, if not in the caller's
    probes: Any  # A₀, and directions V_j that are orthonormal but for rounding, as real columns
    offsets: Any  # ⟨V_j, A₀⟩
    effects: Any  # at least ‖PV_j‖₂
    skew: float  # at least ‖VᵀV − I‖
    spectral: float  # at least ‖P‖₂
    size: float  # at least ‖P‖_F
    size_center: float  # at least ‖A₀‖_F
    weights: Any  # w = |P|1, for the norm max |x_i|/w_i that judges boxes best
    defect: float  # at least ‖I − PA₀‖_F
    defect_weighted: float  # the same in the weighted norm

    @classmethod
    def of(cls, center: NDArray, sample: NDArray | None = None) -> "Anchor | None":
        """Return the anchor at a matrix (n, n), or None if that is singular or nearly so.

        A sample (m, n, n) of a family says in which directions it moves.
        """
        A = np.array(center, dtype=np.float64, order="C")[None]
        P, E = exact_inverse(A), A[:0] if sample is None else sample - A
        with np.errstate(all="ignore"):
            if not scaled_condition_numbers(A, P)[0] < 1e12:
                return None
            # The same inverse, to the bit, whatever powers of two rows and columns came in.
            b, x = _common_units(A, P)
            again = in_units(exact_inverse(in_units(A, -b, x)), x, -b)
            P = again if np.isfinite(again).all() else P
            A, P, E, taken = _in_own_units(A, P, E, (b, x))
            return cls._measured(A, P, _directions(P[0], E), taken)

    @classmethod
    def at(cls, center: NDArray, inverse: NDArray, known: "Anchor") -> "Anchor | None":
        """Return the anchor at another matrix, whose inverse is known, of the same family."""
        V = known._as_given()[2]
        with np.errstate(all="ignore"):
            return cls._measured(*_in_own_units(center[None], inverse[None], V))

    @property
    def moved(self) -> bool:
        """Whether all is in units of its own, and not in the caller's."""
        return self.taken is not None

    @cached_property
    def units(self) -> tuple[NDArray, NDArray]:
        """Exponents of common units of b and x (1, n), Ax = b, in the caller's units."""
        return self.taken or _common_units(self.center[None], self.inverse[None])

    @cached_property
    def given(self) -> tuple[NDArray, NDArray]:
        """The matrix and its inverse in the caller's units."""
        A, P, _ = self._as_given()
        return A[0], P[0]

    @cached_property
    def of_complex(self) -> "Anchor | None":
        """The anchor at the complex matrix that this one embeds, or is nearest to."""
        if len(self.center) % 2:
            return None
        A, P, V = (extract_complex(M) for M in self._as_given())
        with np.errstate(all="ignore"):
            return self._measured(*_in_own_units(A, P, V))

    @classmethod
    def from_state(
        cls, center: NDArray, inverse: NDArray, directions: NDArray, **figures: Any
    ) -> "Anchor | None":
        """Return the anchor of what a file says of one, of which no figure is believed."""
        A, P = (np.array(M, dtype=np.float64, order="C")[None] for M in (center, inverse))
        V = np.array(directions, dtype=np.float64)
        square = A.ndim == 3 and A.shape[1] == A.shape[2]
        if not (square and A.shape == P.shape == (1, *V.shape[1:])):
            raise ValueError(
                f"Got a file with a center of shape {A.shape[1:]}, an inverse of shape "
                f"{P.shape[1:]} and directions of shape {V.shape}, but square matrices of one "
                f"size are expected."
            )
        if not (np.isfinite(A).all() and np.isfinite(P).all()):
            return None
        with np.errstate(all="ignore"):
            return cls._measured(*_in_own_units(A, P, V))

    def to_state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` takes."""
        A, P, V = self._as_given()
        return {"center": A[0], "inverse": P[0], "directions": V}

    def _as_given(self) -> tuple[NDArray, NDArray, NDArray]:
        """Return centre, inverse and directions in the caller's units, as stacks."""
        A, P = self.center[None], self.inverse[None]
        V = self.probes[:, 1:].T.copy().view(A.dtype).reshape(-1, *self.center.shape)
        if self.taken is None:
            return A, P, V
        b, x = self.taken
        return in_units(A, b, -x), in_units(P, x, -b), in_units(V, b, -x)

    @classmethod
    def _measured(
        cls, A: NDArray, P: NDArray, V: NDArray, taken: tuple[NDArray, NDArray] | None
    ) -> "Anchor | None":
        """Return the anchor at A, a stack of one, with all figures worked out."""
        n, arithmetic = A.shape[-1], Arithmetic.of(A)
        gamma = arithmetic.gamma(n + 2)
        rows = _real_rows(V)
        rows = rows[np.isfinite(rows).all(axis=1)]
        skew = _skewness(rows)
        if skew > _ASKEW:
            rows = np.linalg.qr(rows.T)[0].T.copy()
            skew = _skewness(rows)
        k, d = rows.shape
        probes = np.empty((d, 1 + k))
        probes[:, 0], probes[:, 1:] = _real_rows(A)[0], rows.T
        D = product_error(P, A)
        known = measure(P, A, D, "fro")
        size_P, size_A, size_D = (np.abs(M[0]) for M in (P, A, D))
        weights = size_P.sum(axis=1)
        # What rounding adds to |D| is at most γ_n(|P||A| + I).
        absolute = size_P @ (size_A @ weights) + weights
        off = (size_D @ weights + 2 * gamma * absolute) / weights
        reach = P @ rows.view(A.dtype).reshape(k, n, n)
        spectral, *effects = spectral_bounds(np.concatenate([P, reach]))
        arrays = {
            "center": A[0],
            "inverse": P[0],
            "probes": probes,
            "offsets": rows @ probes[:, 0],
            "effects": np.array(effects) + 2 * gamma * known.A[0],
            "weights": weights,
        }
        figures = {
            "spectral": spectral,
            "size": known.A[0],
            "size_center": known.X[0],
            "defect": known.bound[0],
            "defect_weighted": off.max() * (1 + 4 * gamma),
            "skew": (skew + 2 * k * arithmetic.gamma(d)) * UP,
        }
        figures = {name: float(figure) for name, figure in figures.items()}
        total = sum(figures.values()) + arrays["effects"].sum() + abs(arrays["offsets"]).sum()
        # The figures of a moderate matrix are nowhere near this, and nothing overflows below it.
        if not (total < _HUGE and weights.min() > 0):
            return None
        for array in arrays.values():
            array.flags.writeable = False
        return cls(taken=taken, **arrays, **figures)

    def beside(self, b: Any) -> "Anchor":
        """Return the same anchor for computing with tensors, if `b` is one."""
        if not is_tensor(b):
            return self
        names = ("center", "inverse", "probes", "offsets", "effects", "weights")
        return replace(self, **{name: like(getattr(self, name), b) for name in names})


def _real_rows(stack: Any) -> Any:
    """Return matrices (m, n, n) as rows of real numbers."""
    parts = parts_of(stack)
    size = parts.shape[1] * parts.shape[2] * (1 if parts is stack else 2)
    return parts.reshape(len(stack), size)


def _in_own_units(
    A: NDArray, P: NDArray, E: NDArray, units: Any = None
) -> tuple[NDArray, NDArray, NDArray, Any]:
    """Return a matrix, its inverse and directions in common units, and these, if they need it."""
    if not (bool(are_mixed(A)[0]) or scales(A, SHARE) is not None):
        return A, P, E, None
    b, x = _common_units(A, P) if units is None else units
    return in_units(A, -b, x), in_units(P, -x, b), in_units(E, -b, x), (b, x)


def _common_units(A: NDArray, P: NDArray) -> tuple[NDArray, NDArray]:
    """Return exponents of common units of b and x (1, n) for a matrix and its inverse in stacks."""
    rows, columns = unit_exponents(A[0], P[0])
    return -rows[None], columns[None]


def _skewness(rows: NDArray) -> float:
    """Return how far rows are from orthonormal ones, as it is rounded."""
    off = rows @ rows.T
    off.ravel()[:: len(rows) + 1] -= 1
    return math.sqrt(np.vdot(off, off))


def spectral_bounds(stack: NDArray) -> NDArray[np.float64]:
    """Return upper bounds of the 2-norms of matrices (m, n, n), of most within 5 % of these.

    Of H_0 = H and H_{k+1} = HᴴH, H = H_k, of which one computes H' with ‖H_{k+1} − H'‖ <= γ‖H‖_F²,
    ‖H_k‖₂² = ‖H_{k+1}‖₂ <= ‖H'‖₂ + γ‖H‖_F², and the last norm is at most a Frobenius norm. Without
    rounding that is (Σ σ^p)^(1/p), p = 2^{k+1}, of the singular values. Its logarithm is convex in
    1/p (Lyapunov), so that what it is too large by is no more than what the last step has gained.
    """
    n, arithmetic = stack.shape[-1], Arithmetic.of(stack)
    gamma, up = arithmetic.gamma(n), 1 + arithmetic.gamma(n * n + 8)
    lost = 4 * n * n * arithmetic.tiny  # more than what underflows in a product, or by scaling
    size = frobenius(stack)
    # Then 1/2 <= ‖H‖_F < 1, and here, at worst, 1 <= ‖H‖_F < 3n: ‖H_k‖ does not underflow, and does
    # not overflow up to order 20000.
    usual = size.min() > _MODERATE[0] and size.max() < _MODERATE[1]
    unit = np.ldexp(1.0, np.frexp(size)[1]) if usual else powers_of_two(stack, (1, 2))[:, 0, 0]
    H, sizes = times_power(stack, 1 / unit[:, None, None]), []
    for k in range(_SQUARES + 1):
        sizes.append(frobenius(H) * up + lost)
        gains = k == 0 or (sizes[-1] < sizes[-2] ** 2 * 0.95 ** (2**k)).any()
        if not gains or k == _SQUARES:
            break
        H = product(H.conj().swapaxes(1, 2), H)
    bound = sizes.pop()
    while sizes:
        bound = np.sqrt(bound + gamma * sizes.pop() ** 2 + lost) * UP
    return (bound + lost) * unit * UP


def _directions(P: NDArray, E: NDArray) -> NDArray:
    """Return the directions (k, n, n) in which deviations of a family are best bounded.

    Those of every other one, by the number that does best for the rest: of a family that fills its
    space none.
    """
    rows, judges = _real_rows(E[::2]), _real_rows(E[1::2])
    if not len(judges) or not np.isfinite(E).all():
        return E[:0]
    spectral, size = np.linalg.norm(P, 2), np.linalg.norm(judges, axis=1)
    usual = np.quantile(spectral * size, 0.9)
    if usual <= _ENOUGH:
        return E[:0]
    square, U = np.linalg.eigh(rows @ rows.T)
    good = square > 1e-14 * square[-1]
    V = np.linalg.qr(rows.T @ U[:, good][:, ::-1][:, : _NUMBERS[-1]])[0].T
    effects = np.linalg.norm(P @ V.reshape(-1, *P.shape), 2, axis=(1, 2))
    z = judges @ V.T
    prices = {0: _price(usual, 0)}
    for k in _NUMBERS:
        if k <= len(V):
            rest = (size**2 - (z[:, :k] ** 2).sum(axis=1)).clip(min=0) ** 0.5
            found = np.quantile(np.abs(z[:, :k]) @ effects[:k] + spectral * rest, 0.9)
            prices[k] = _price(found, k)
    return V[: min(prices, key=prices.__getitem__)].reshape(-1, *P.shape)


def _price(q: float, k: int) -> float:
    """Return what solutions cost that contract by q, which k directions tell."""
    return _STEPS / -math.log(min(max(q, 1e-300), 0.99)) + _DIRECTION * k


def _products_with(rows: Any, columns: Any) -> Any:
    """Multiply many rows by few columns, in pieces that BLAS takes for small: at once is slower."""
    step = max(1, _SMALL // math.prod(columns.shape))
    if len(rows) <= step:
        return rows @ columns
    out = empty(rows, (len(rows), columns.shape[1]))
    for start in range(0, len(rows), step):
        product(rows[start : start + step], columns, out=out[start : start + step])
    return out


class Contraction(NamedTuple):
    """What is proven of x ← x + P(b − Ax) for each matrix."""

    q: Any  # at least ‖I − PA‖, in the 2-norm or in the weighted one
    weighted: Any  # which
    size_A: Any  # at least ‖A‖_F
    spectral: Any  # at least ‖P‖₂, and
    size_P: Any  # at least ‖P‖_F: a number, or (m, 1) of them

    def rows(self, index: Any) -> "Contraction":
        """Return the figures of some of the matrices."""
        return Contraction(*(x if isinstance(x, float) else x[index] for x in self))


def contraction(anchor: Anchor, A: Any) -> Contraction:
    """Bound ‖I − PA‖ for each A = A₀ + E.

    I − PA = (I − PA₀) − PE. With E = Σ z_jV_j + F, ‖PE‖₂ <= Σ |z_j|‖PV_j‖₂ + ‖P‖₂‖F‖_F, where
    ‖F‖² = ‖A‖² − 2⟨A, A₀⟩ + ‖A₀‖² − ‖z‖² takes two passes over A and no memory. Inner products of
    n² terms are wrong by at most γ(‖A‖ + ‖A₀‖), and so is z. Where that is not enough, ‖PE‖ <=
    max (|P||E|w)/w in the weighted norm is tried, and last, the only n³ operations here, the
    product PA itself. Of matrices so large that sums might overflow the first proves nothing: where
    rounding is toward zero, sums that overflow are the largest number, whose differences are 0.
    """
    xp = namespace(A)
    n, k, arithmetic = A.shape[1], len(anchor.offsets), Arithmetic.of(A)
    up = 1 + 8 * arithmetic.gamma(n)
    gamma = arithmetic.gamma(n * n + k + 8)
    rows = _real_rows(A)
    square_A, inner = dot(rows, rows), _products_with(rows, anchor.probes)
    share, q = 2 * gamma, anchor.defect
    if k:
        z = inner[:, 1:] - anchor.offsets
        q = abs(z) @ anchor.effects + q
        share += 4 * k**0.5 * gamma + 2 * anchor.skew
    # (‖A‖ + ‖A₀‖)² is at most twice the sum of the squares.
    share = 1 + 2 * share
    square = square_A * share
    square += anchor.size_center**2 * share
    square -= 2 * inner[:, 0]
    if k:
        square -= dot(z, z)
    q = (anchor.spectral * square.clip(min=0) ** 0.5 + q) * UP
    q = xp.where(square_A < _HUGE, q, np.inf)
    far = ~(q < _GOOD)
    weighted = q < 0
    if count(far):
        a, some = (A, slice(None)) if bool(far.all()) else (A[far], far)
        P, w = anchor.inverse, anchor.weights
        reach = (abs(P) / w[:, None]) @ (abs(a - anchor.center) @ w).T
        other = (anchor.defect_weighted + xp.max(reach, axis=0) * up) * UP
        weighted[some] = other < q[some]
        q[some] = xp.where(weighted[some], other, q[some])
        far = ~(q < _GOOD)
    if count(far):
        a = A[far]
        all_P = xp.broadcast_to(anchor.inverse, a.shape)
        known = measure(all_P, a, product_error(all_P, a), "fro", anchor.size)
        better = known.bound < q[far]
        weighted[far] &= ~better
        q[far] = xp.where(better, known.bound, q[far])
    size_A = square_A**0.5 * (1 + gamma)
    return Contraction(q, weighted, size_A, anchor.spectral, anchor.size)
