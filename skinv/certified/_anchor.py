"""A matrix whose inverse is known, and what it says of others near it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._arrays.conversion import namespace
from .._arrays.embedding import extract_complex
from .._linalg.arithmetic import Arithmetic
from .._linalg.inverses import scaled_condition_numbers
from .._linalg.products import column_norms, dot, exact_inverse, product_error
from .._linalg.scaling import powers_of_two
from ..bounds._residual import measure, scaled

# Bytes of matrices iterated on at once: what stays in the cache, but past this order enough
# matrices to share passes over the inverse of the centre (measured).
_PIECE, _LARGE_PIECE, _LARGE_ORDER = 2**20, 2**24, 128
# A contraction that is not below this is worth more work for a better one.
_GOOD = 0.5
# Bounds themselves are computed in a few float64 operations.
UP = 1 + 2.0**-44
# Matrices of norms between 1e-19 and 1e19 are not scaled: then the squares that underflow in
# solutions, residuals and steps are negligible.
SHARE = 1 / 16


def piece_bytes(n: int) -> int:
    """Return the size of a piece for matrices of order n."""
    return _PIECE if n <= _LARGE_ORDER else _LARGE_PIECE


@dataclass(frozen=True)
class Anchor:
    """A known matrix A₀ with an approximate inverse P, and what proofs near it start from.

    All is worked out from A₀ and P. Of LAPACK's singular values a backward error of 8 n eps σ_max
    is assumed.
    """

    center: NDArray  # A₀/unit, read-only
    inverse: NDArray  # P, the inverse of that, read-only
    unit: float  # a power of two, 1 unless A₀ is huge or tiny
    spectral: float  # at least ‖P‖₂
    size: float  # at least ‖P‖_F
    size_center: float  # at least ‖A₀‖_F
    weights: NDArray[np.float64]  # w = |P|1, for the norm max |x_i|/w_i that judges boxes best
    defect: float  # at least ‖I − PA₀‖_F
    defect_weighted: float  # the same in the weighted norm

    @classmethod
    def of(cls, center: NDArray, inverse: NDArray | None = None) -> "Anchor | None":
        """Return the anchor at a matrix (n, n), or None if that is singular or nearly so."""
        A = np.array(center, dtype=np.float64, order="C")[None]
        P = exact_inverse(A) if inverse is None else np.array(inverse, dtype=np.float64)[None]
        with np.errstate(all="ignore"):
            if not scaled_condition_numbers(A, P)[0] < 1e12:
                return None
            A, P, scale = scaled(A, P, SHARE)
        return cls._measured(A, P, 1.0 if scale is None else float(scale.ravel()[0]))

    @cached_property
    def of_complex(self) -> "Anchor | None":
        """The anchor at the complex matrix that this one embeds, or is nearest to."""
        if len(self.center) % 2:
            return None
        A, P = (extract_complex(M)[None] for M in (self.center, self.inverse))
        return self._measured(A, P, self.unit)

    @classmethod
    def from_state(
        cls, center: NDArray, inverse: NDArray, unit: float, **figures: Any
    ) -> "Anchor | None":
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
    def _measured(cls, A: NDArray, P: NDArray, unit: float) -> "Anchor | None":
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
    """What is proven of x ← x + P(b − Ax) for each matrix."""

    q: Any  # at least ‖I − PA‖, in the 2-norm or in the weighted one
    weighted: Any  # which
    size_A: Any  # at least ‖A‖_F

    def rows(self, index: Any) -> "Contraction":
        """Return the figures of some of the matrices."""
        return Contraction(self.q[index], self.weighted[index], self.size_A[index])


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
    size_A = column_norms(flat[:, :, None])[:, 0]
    square = size_A**2 - 2 * dot(flat, center.reshape(-1)) + anchor.size_center**2
    total = (size_A + anchor.size_center) ** 2
    q = (anchor.defect + anchor.spectral * (square.clip(min=0) + 2 * gamma * total) ** 0.5) * UP
    weighted = q < 0
    far = ~(q < _GOOD)
    if bool(far.any()):
        reach = ((abs(A[far] - center) @ weights) @ abs(P).T / weights).T
        other = (anchor.defect_weighted + xp.max(reach, axis=0) * up) * UP
        weighted[far] = other < q[far]
        q[far] = xp.where(weighted[far], other, q[far])
        far = ~(q < _GOOD)
    if bool(far.any()):
        a = A[far]
        all_P = xp.broadcast_to(P, a.shape)
        known = measure(all_P, a, product_error(all_P, a), "fro", anchor.size)
        better = known.bound < q[far]
        weighted[far] &= ~better
        q[far] = xp.where(better, known.bound, q[far])
    return Contraction(q, weighted, size_A * (1 + gamma))
