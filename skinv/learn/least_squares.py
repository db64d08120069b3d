"""Nested least squares with polynomial terms: of so many leading ones, for every number of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from .._linalg.terms import Terms
from .reduction import CHUNK, leading_directions, some_of

# Outputs past which they are projected on their principal directions first.
_WIDE, _SAMPLE = 256, 2**24
# Share of the held-out error that a basis of fewer outputs may add to it, and of the work that it
# must save.
_TRUNCATED, _SAVED = 0.1, 0.2
# Importance of terms that count as much as others still less important.
_LEAST = 1e-100


class Outputs:
    """Targets in few columns, all of which count alike once they are multiplied with `unit`."""

    def __init__(self, targets: NDArray, unit: NDArray):
        self._targets, self._unit = targets, unit
        self.mean = targets.mean(axis=0)
        self._basis = None
        if targets.shape[1] > _WIDE:
            some = targets[some_of(len(targets), _SAMPLE // targets.shape[1])]
            self._basis = leading_directions((some - self.mean) * unit, _WIDE)[0]

    def of(self, rows: Any) -> NDArray[np.float64]:
        """Return some rows."""
        values = (self._targets[rows] - self.mean) * self._unit
        return values if self._basis is None else values @ self._basis

    def lost(self, rows: Any) -> float:
        """Return the sum of the squares of what the columns do not see of some rows."""
        if self._basis is None:
            return 0.0
        values = (self._targets[rows] - self.mean) * self._unit
        values -= (values @ self._basis) @ self._basis.T
        return float(np.vdot(values, values))

    def restored(self, coef: NDArray) -> tuple[NDArray, NDArray]:
        """Return constant and coefficients of the targets themselves."""
        coef = (coef if self._basis is None else coef @ self._basis.T) / self._unit
        return self.mean + coef[0], coef[1:]


def design(z: NDArray, terms: Terms) -> NDArray:
    """Return the terms of coordinates as columns, the constant one apart."""
    out = np.empty((len(terms), len(z)), z.dtype)
    if terms.powers:
        out[: terms.powers[0]] = z[:, : terms.powers[0]].T
    terms.evaluate(out)
    return out.T


def columns_of(z: NDArray, monomials: list[tuple[int, ...]]) -> NDArray[np.float64]:
    """Return the constant term and monomials, in their order, as columns."""
    terms = Terms.of(monomials)
    place = {name: k for k, name in enumerate(terms.names)}
    columns = np.ones((len(z), 1 + len(monomials)))
    columns[:, 1:] = design(z, terms)[:, [place[term] for term in monomials]]
    return columns


def triangular(
    z: NDArray, outputs: Outputs, index: NDArray[np.intp], monomials: list[tuple[int, ...]]
) -> tuple[NDArray, NDArray]:
    """Return R and QᵀY of the QR decomposition of the terms, the constant one first."""
    R: Any = np.zeros((0, len(monomials) + 1))
    Z: Any = None
    for start in range(0, len(z), CHUNK):
        piece = slice(start, min(start + CHUNK, len(z)))
        y, columns = outputs.of(index[piece]), columns_of(z[piece], monomials)
        if not (np.isfinite(columns).all() and np.isfinite(y).all()):
            raise ValueError(
                "Got training data whose numbers are apart by hundreds of orders of magnitude, or "
                "at the ends of the range, of which no polynomial can be fitted: scale them, and "
                "drop rows that are far from all others."
            )
        Q, R = qr(np.vstack([R, columns]), mode="economic", check_finite=False)
        Z = Q.T @ (y if Z is None else np.vstack([Z, y]))
    return R, Z


def penalty_of(importance: NDArray, ridge: float, n_samples: int) -> NDArray[np.float64]:
    """Return what makes coefficients small that are large for the importance of their terms."""
    return ridge * np.sqrt(n_samples) / np.maximum(importance, _LEAST)


def penalized(R: NDArray, Z: NDArray, penalty: NDArray) -> tuple[NDArray, NDArray]:
    """Return R and QᵀY, those given, with rows below them that say how large coefficients are."""
    rows = np.vstack([R, np.zeros((len(penalty), R.shape[1]))])
    rows[len(R) :, 1:] = np.diag(penalty)
    Q, R = qr(rows, mode="economic", check_finite=False)
    return R, Q[: len(Z)].T @ Z


def output_basis(
    values: NDArray, unit: NDArray, error: float, n_features: int
) -> NDArray[np.float64] | None:
    """Return orthonormal columns V that hold the outputs, if to compute these first is less work.

    It is values·unit that are to be projected on them; `error` is the root mean square error of
    predictions in these units, `n_features` how many numbers outputs are combinations of.
    """
    n_outputs = len(unit)
    some = values[some_of(len(values), _SAMPLE // n_outputs)]
    V, size = leading_directions(some * unit, min(_WIDE, n_features))
    tail = np.sqrt(np.cumsum(size[::-1] ** 2)[::-1] / max(some.size, 1))
    noise = np.finfo(np.float64).eps * (tail[0] if len(tail) else 0.0)
    m = int((tail > max(_TRUNCATED * (error if error == error else 0.0), noise)).sum())
    if m * (n_features + n_outputs) > (1 - _SAVED) * n_features * n_outputs:
        return None
    return V[:, :m]
