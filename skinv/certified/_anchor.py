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
from .._linalg.products import column_norms, exact_inverse, product, product_error
from .._linalg.scaling import in_units
from .._linalg.units import are_mixed, unit_exponents
from .._linalg.workspace import empty
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
    huge or tiny. A family moves in few directions, and what P makes of these is known. Of LAPACK's
    singular values a backward error of 8 n eps σ_max is assumed.
    """

    center: Any  # A₀
    inverse: Any  # P, the inverse of that
    units: tuple[NDArray, NDArray]  # exponents of common units of b and x (1, n), Ax = b
    moved: bool  # whether all is in these, and not in the caller's
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
            A, P, E, *units = _in_own_units(A, P, E, (b, x))
            return cls._measured(A, P, _directions(P[0], E), *units)

    @classmethod
    def at(cls, center: NDArray, inverse: NDArray, known: "Anchor") -> "Anchor | None":
        """Return the anchor at another matrix, whose inverse is known, of the same family."""
        V = known._as_given()[2]
        with np.errstate(all="ignore"):
            return cls._measured(*_in_own_units(center[None], inverse[None], V))

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
        if not self.moved:
            return A, P, V
        b, x = self.units
        return in_units(A, b, -x), in_units(P, x, -b), in_units(V, b, -x)

    @classmethod
    def _measured(
        cls, A: NDArray, P: NDArray, V: NDArray, units: Any, moved: bool
    ) -> "Anchor | None":
        """Return the anchor at A, a stack of one, with all figures worked out."""
        n, arithmetic = A.shape[-1], Arithmetic.of(A)
        gamma = arithmetic.gamma(n + 2)
        rows = _real_rows(V)
        rows = rows[np.isfinite(rows).all(axis=1)]
        if np.linalg.norm(rows @ rows.T - np.eye(len(rows))) > _ASKEW:
            rows = np.linalg.qr(rows.T)[0].T.copy()
        probes = np.concatenate([_real_rows(A), rows])
        D, d = product_error(P, A), rows.shape[1]
        known = measure(P, A, D, "fro")
        weights = np.abs(P[0]).sum(axis=1)
        off = np.abs(D[0]) + 2 * gamma * (np.abs(P[0]) @ np.abs(A[0]) + np.eye(n))
        slack = 1 + 32 * n * arithmetic.unit
        effects = np.linalg.norm(P @ rows.view(A.dtype).reshape(-1, n, n), 2, axis=(1, 2))
        skew = np.linalg.norm(rows @ rows.T - np.eye(len(rows)))
        figures = {
            "spectral": np.linalg.norm(P[0], 2) * slack,
            "size": known.A[0],
            "size_center": known.X[0],
            "defect": known.bound[0],
            "defect_weighted": (off @ weights / weights).max() * (1 + 4 * gamma),
            "skew": (skew + 2 * len(rows) * arithmetic.gamma(d)) * UP,
        }
        arrays = {
            "center": A[0],
            "inverse": P[0],
            "probes": probes.T.copy(),
            "offsets": probes[1:] @ probes[0],
            "effects": effects * slack + 2 * gamma * known.A[0],
            "weights": weights,
        }
        finite = np.isfinite([*figures.values(), *arrays["effects"], *arrays["offsets"]]).all()
        if not (finite and weights.min() > 0):
            return None
        for array in arrays.values():
            array.flags.writeable = False
        figures = {name: float(figure) for name, figure in figures.items()}
        return cls(units=units, moved=moved, **arrays, **figures)

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


def _in_own_units(A: NDArray, P: NDArray, E: NDArray, units: Any = None) -> tuple[Any, ...]:
    """Return a matrix, its inverse and directions in common units if they need it.

    And exponents of these, and whether they did.
    """
    b, x = _common_units(A, P) if units is None else units
    if bool(are_mixed(A)[0]) or scales(A, SHARE) is not None:
        return in_units(A, -b, x), in_units(P, -x, b), in_units(E, -b, x), (b, x), True
    return A, P, E, (b, x), False


def _common_units(A: NDArray, P: NDArray) -> tuple[NDArray, NDArray]:
    """Return exponents of common units of b and x (1, n) for a matrix and its inverse in stacks."""
    rows, columns = unit_exponents(A[0], P[0])
    return -rows[None], columns[None]


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
    product PA itself.
    """
    xp = namespace(A)
    n, k, arithmetic = A.shape[1], len(anchor.offsets), Arithmetic.of(A)
    up = 1 + 8 * arithmetic.gamma(n)
    gamma = arithmetic.gamma(n * n + k + 8)
    size_A = column_norms(A.reshape(len(A), n * n, 1))[:, 0]
    inner = _products_with(_real_rows(A), anchor.probes)
    square = size_A**2 - 2 * inner[:, 0] + anchor.size_center**2
    total = (size_A + anchor.size_center) ** 2
    share = 2 * gamma
    q = anchor.defect
    if k:
        z = inner[:, 1:] - anchor.offsets
        square, q = square - (z * z) @ xp.ones_like(anchor.offsets), q + abs(z) @ anchor.effects
        share += 4 * k**0.5 * gamma + 2 * anchor.skew
    q = (q + anchor.spectral * (square.clip(min=0) + share * total) ** 0.5) * UP
    weighted = q < 0
    far = ~(q < _GOOD)
    if bool(far.any()):
        a, some = (A, slice(None)) if bool(far.all()) else (A[far], far)
        P, w = anchor.inverse, anchor.weights
        reach = (abs(P) / w[:, None]) @ (abs(a - anchor.center) @ w).T
        other = (anchor.defect_weighted + xp.max(reach, axis=0) * up) * UP
        weighted[some] = other < q[some]
        q[some] = xp.where(weighted[some], other, q[some])
        far = ~(q < _GOOD)
    if bool(far.any()):
        a = A[far]
        all_P = xp.broadcast_to(anchor.inverse, a.shape)
        known = measure(all_P, a, product_error(all_P, a), "fro", anchor.size)
        better = known.bound < q[far]
        weighted[far] &= ~better
        q[far] = xp.where(better, known.bound, q[far])
    return Contraction(q, weighted, size_A * (1 + gamma), anchor.spectral, anchor.size)
