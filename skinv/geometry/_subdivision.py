"""Regularity of an ellipsoid, proven piece by piece.

The unit ball of z is cut into slabs low_k <= z_k <= high_k of the few directions that matter. A
piece is no ellipsoid, but lies in many: for all tilts λ_k >= 0

    Σ z_k² + Σ λ_k (z_k − low_k)(z_k − high_k) <= 1

on it, and with m_k = (low_k + high_k) / 2, c_k = λ_k m_k / (1 + λ_k) that says

    Σ (1 + λ_k)(z_k − c_k)² <= R² = 1 − Σ λ_k low_k high_k + Σ (1 + λ_k) c_k²

(the S-procedure; with one slab it is the ellipsoid method's cut, Bland, Goldfarb and Todd 1981).
Each piece so has a centre, an inverse and a metric of its own, and σ_min on the whole is at least
the smallest of the bounds of the pieces.
"""

import heapq
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._positive_map import (
    Units,
    contraction,
    loss_in,
    own_weights,
    perron_metrics,
    preconditioners,
    weights_in,
)
from ._rounding import EPS

# Shares of the identity in the metric: nearly the Perron eigenvector, and those that are tried for
# the margin.
_SHARE, _SHARES = 1e-3, (0.01, 0.03, 0.1, 0.3)
_STEPS = 5
# Pieces, the pieces to go on to once all are proven, and about how many operations at most.
_MOST_PIECES, _FINE_PIECES, _MOST_WORK = 128, 64, 2e10
# Smallest singular values of this share of the centre's norm are taken for 0.
_DEFICIENT = 1e-8


@dataclass
class _Piece:
    """A slab of the unit ball, the tilt of the ellipsoid around it, its metric and its margins."""

    low: NDArray
    high: NDArray
    tilt: NDArray
    P: NDArray
    margin: float = -np.inf  # of σ_min in the units of the search
    left: float = -np.inf  # the same in the caller's units

    def ellipsoid(self) -> tuple[NDArray, NDArray]:
        """Return a centre c and semi-axes w, rounded up, with Σ ((z_k − c_k)/w_k)² <= 1.

        The exact c is off by 4 eps |c|, so that the ellipsoid around the rounded one has to be
        larger by the norm of that in its own metric. No semi-axes are left of an empty piece.
        """
        low, high, tilt = self.low, self.high, self.tilt
        weight = 1 + tilt
        c = tilt * (0.5 * (low + high)) / weight
        terms = np.concatenate([[1.0], -tilt * low * high, weight * c * c])
        error = 4 * (len(terms) + 8) * EPS * np.abs(terms).sum()
        square = terms.sum() + error
        if square < 0:
            return c, np.empty(0)
        R = np.sqrt(square) + 8 * EPS * np.linalg.norm(np.sqrt(weight) * c)
        return c, R * (1 + 8 * EPS) / np.sqrt(weight)

    def halves(self, k: int) -> "list[_Piece]":
        """Cut direction k in the middle; both halves share the number that cuts them.

        One whose nearest point surely lies outside of the unit ball is left out.
        """
        cut = 0.5 * (self.low[k] + self.high[k])
        low, high, tilt = self.low.copy(), self.high.copy(), self.tilt.copy()
        low[k] = high[k] = cut
        tilt[k] = max(2.0 * tilt[k], 0.5)
        halves = [_Piece(self.low, high, tilt, self.P), _Piece(low, self.high, tilt.copy(), self.P)]
        nearest = [np.maximum(np.maximum(half.low, -half.high), 0.0) for half in halves]
        most = 1 + 4 * (len(low) + 2) * EPS
        return [half for half, x in zip(halves, nearest, strict=True) if x @ x <= most]


def subdivided_margin(
    A: NDArray, S: NDArray, target: float, lost: float = 0.0, units: Units | None = None
) -> tuple[float, int]:
    """Return a lower bound of σ_min over A + F + Σ z_k S_k, ‖z‖₂ <= 1, ‖F‖_F <= lost, and a number.

    That of the pieces. The bound is for the matrices in the caller's units, of which `units` are
    the scales of rows and columns. Not positive: nothing proven; 0 pieces: not worth a trial. The
    worst piece, before it is in these units, is cut next, in the direction to which its spectral
    radius is most sensitive. Entries of A are of the order of 1, those of S off by one unit
    roundoff.
    """
    rank, m, n = S.shape
    work = 4.0 * rank * m * n * n * 100
    most = int(min(_MOST_PIECES, 1 + _MOST_WORK / max(work, 1.0)))
    search = _Search(A, S, lost, (np.ones(m), np.ones(n)) if units is None else units)
    root = _Piece(np.full(rank, -1.0), np.ones(rank), np.zeros(rank), np.eye(n))
    if most == 1 or rank == 0 or search.sign == 0 or search.finds_singular():
        return -np.inf, 0
    search.fit(root)
    number = itertools.count()  # decides between equal margins: pieces have no order
    heap = [(root.margin, next(number), root)]

    def left() -> float:
        return min(piece.left for _, _, piece in heap)

    while len(heap) < most and (left() <= target or len(heap) < min(_FINE_PIECES, most)):
        worst = heap[0][2]
        halves = worst.halves(search.direction(worst))
        if not all(search.fit(half) for half in halves):
            break
        heapq.heappop(heap)
        for half in halves:  # a part is no nearer than the whole
            half.margin, half.left = max(half.margin, worst.margin), max(half.left, worst.left)
            heapq.heappush(heap, (half.margin, next(number), half))
    return left(), len(heap)


class _Search:
    """The search for tilts and metrics of the pieces of one ellipsoid, and their proofs."""

    def __init__(self, A: NDArray, S: NDArray, lost: float, units: Units):
        self.A, self.S, self.lost, self.units = A, S, lost, units
        self.is_square = A.shape[0] == A.shape[1]
        self.sign = self.sign_of(A)

    def sign_of(self, A: NDArray) -> float:
        """Return the sign of the determinant, which tall matrices do not have."""
        return float(np.linalg.slogdet(A)[0]) if self.is_square else 1.0

    def inverse(self, A: NDArray) -> NDArray:
        """Return the inverse, or the pseudo-inverse."""
        return np.linalg.inv(A) if self.is_square else np.linalg.pinv(A)

    def finds_singular(self) -> bool:
        """Whether some point of the ball has a determinant of another sign than the centre.

        Then no subdivision can succeed. Tried are the ends of the axes, and a few steps of descent
        of log |det|, whose gradient is tr(A⁻¹S_k), from point to point of the sphere. Tall
        matrices of deficient rank are looked for by Newton steps of σ_min in the ball.
        """
        if not self.is_square:
            return self.finds_deficient()
        z = np.concatenate([np.eye(len(self.S)), -np.eye(len(self.S))])
        for _ in range(20):
            A = self.A + np.tensordot(z, self.S, 1)
            sign, size = np.linalg.slogdet(A)
            if (sign != self.sign).any():
                return True
            gradient = np.einsum("ij,kji->k", np.linalg.inv(A[size.argmin()]), self.S)
            length = np.linalg.norm(gradient)
            if not 0 < length < np.inf:
                break
            z = (-gradient / length * (1 - 4 * len(gradient) * EPS))[None]
        return False

    def finds_deficient(self) -> bool:
        """Whether steps to where σ_min would vanish if it were linear reach a hardly positive one.

        The gradient of σ_min is uᵀS_kv.
        """
        z, least = np.zeros(len(self.S)), np.inf
        low = _DEFICIENT * np.linalg.norm(self.A)
        for _ in range(50):
            U, s, Vt = np.linalg.svd(self.center(z), full_matrices=False)
            if s[-1] <= low:
                return True
            gradient = np.einsum("i,kij,j->k", U[:, -1], self.S, Vt[-1])
            square = gradient @ gradient
            if not 0 < square < np.inf or s[-1] >= least * (1 - 1e-9):
                break
            least = s[-1]
            z = z - s[-1] / square * gradient
            z /= max(1.0, np.linalg.norm(z) * (1 + 4 * len(z) * EPS))
        return False

    def center(self, c: NDArray) -> NDArray:
        moved = np.flatnonzero(c)
        return self.A + np.tensordot(c[moved], self.S[moved], 1)

    def recenter(self, piece: _Piece) -> bool:
        """Pull the centre of a piece to where determinants have the sign of that of A.

        Centres may lie outside of the unit ball, where there is nothing to prove; one with another
        sign inside of it is what proofs fail on, and False is returned.
        """
        while True:
            c, _ = piece.ellipsoid()
            if self.sign_of(self.center(c)) == self.sign:
                return True
            if c @ c <= 1:
                return False
            piece.tilt *= 0.5

    def fit(self, piece: _Piece) -> bool:
        """Search tilt and metric of a piece, prove its margin; False if it holds singular ones."""
        cut = np.flatnonzero((piece.low > -1) | (piece.high < 1))
        for _ in range(3 if cut.size else 1):
            if not self.recenter(piece):
                return False
            c, w = piece.ellipsoid()
            if w.size < c.size:
                piece.margin = piece.left = np.inf
                return True
            M = self.inverse(self.center(c)) @ (w[:, None, None] * self.S)
            (piece.P,) = perron_metrics(M, (_SHARE,), _STEPS, piece.P, own_weights)
            Lt, H = preconditioners(np.eye(self.A.shape[1]), piece.P)
            best = self.estimate(piece, Lt, H)
            for k in cut:
                for factor in (2.0, 0.5):
                    while 2.0**-20 < piece.tilt[k] < 2.0**20:
                        piece.tilt[k] *= factor
                        value = self.estimate(piece, Lt, H)
                        if not value < best * 0.999:
                            piece.tilt[k] /= factor
                            break
                        best = value
        self.prove(piece)
        return True

    def estimate(self, piece: _Piece, Lt: NDArray, H: NDArray) -> float:
        """Return the contraction of a piece in a metric, squared and without a proof."""
        c, w = piece.ellipsoid()
        if w.size < c.size:
            return 0.0
        try:
            N = (Lt @ self.inverse(self.center(c))) @ (w[:, None, None] * self.S) @ H
            U = N.reshape(-1, N.shape[-1])
            return float(np.linalg.eigvalsh(U.T @ U)[-1])
        except np.linalg.LinAlgError:
            return np.inf

    def prove(self, piece: _Piece) -> None:
        """Set the best margins of a piece over some metrics, with all rounding accounted for.

        The centre A + Σ c_k S_k is a sum of at most rank + 1 rounded terms.
        """
        c, w = piece.ellipsoid()
        piece.margin = piece.left = np.inf if w.size < c.size else -np.inf
        if w.size < c.size:
            return
        center, S = self.center(c), w[:, None, None] * self.S
        terms = np.abs(self.A) + np.tensordot(np.abs(c), np.abs(self.S), 1)
        slack = (np.count_nonzero(c) + 4) * EPS * terms
        B = self.inverse(center)
        # First what units do not matter for, then what keeps distances in the caller's.
        for weights in (own_weights, weights_in(self.units)):
            metrics = perron_metrics(B @ S, _SHARES, _STEPS, piece.P, weights)
            for P in itertools.chain([piece.P], metrics):
                G, H = preconditioners(B, P)
                fixed, slope, loss = contraction(center, slack, S, G, H)
                room = 1 - fixed - slope - self.lost * loss
                piece.left = max(piece.left, room / loss_in(self.units, G, H))
                if weights is own_weights:
                    piece.margin = max(piece.margin, room / loss)
                if not room > 0:  # where the best metric does not contract, no other will
                    break
            if not piece.margin > 0:
                break

    def direction(self, piece: _Piece) -> int:
        """Return the direction whose semi-axis the contraction is most sensitive to.

        With the eigenvectors P of Φ and Q of its adjoint Q ↦ Σ M_kQM_kᵀ, the spectral radius
        changes with the square of a semi-axis by tr(P M_k Q M_kᵀ), relative to the sum of all.
        """
        c, w = piece.ellipsoid()
        M = self.inverse(self.center(c)) @ (w[:, None, None] * self.S)
        (Q,) = perron_metrics(np.swapaxes(M, 1, 2), (_SHARE,), 3 * _STEPS, None, own_weights)
        return int(np.einsum("kij,kij->k", piece.P @ M, M @ Q).argmax())
