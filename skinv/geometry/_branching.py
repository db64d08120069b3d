"""Proofs that a family of matrices is regular over a box of parameters, by branch and bound."""

import heapq
import itertools
import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._accretive import determinant_sign
from ._bernstein import coefficient_weights, monomials
from ._rounding import EPS, scaled_down, scaled_up
from ._views import ScaledFamily

# Halvings by which a singular matrix is found between two of other signs; corners that are tried.
_HALVINGS, _TRIED = 60, 8


@dataclass
class _Box:
    """A part of the box, what is proven of σ_min on it, and what is thought of it."""

    low: NDArray
    high: NDArray
    regular: bool
    margin: float
    estimate: float  # the more negative, the farther from a proof
    axis: int  # to be cut next; −1: none can be


class Search:
    """Branch and bound for a lower bound of σ_min over a box of parameters."""

    def __init__(self, family: ScaledFamily, rtol: float, max_boxes: int, end: float):
        self.family, self.views = family, family.views()
        self.rtol, self.max_boxes, self.end = rtol, max_boxes, end
        degrees = family.exponents.max(axis=0)
        self.shape = tuple(int(d) + 1 for d in degrees)
        index = np.indices(self.shape).reshape(len(degrees), -1).T
        self.corners = np.flatnonzero(((index == 0) | (index == degrees)).all(axis=1))
        self.at_high = index[self.corners] > 0
        self.center = 0.5 * (family.low + family.high)
        self.start, self.sign = self.center, 0  # a point, and the sign of its determinant
        self.is_regular, self.margin, self.margin_upper = False, 0.0, np.inf
        self.witness, self.n_boxes = self.center, 0
        # Two points of a singular matrix between them, if there are.
        self.bracket: NDArray | None = None

    def run(self) -> str:
        """Search until something is decided; return why it ended."""
        number = itertools.count()  # decides between equals: boxes have no order
        heap: list = []

        def push(box: _Box) -> None:
            heapq.heappush(heap, (box.margin, box.regular, box.estimate, next(number), box))

        push(self.bounded(self.family.low, self.family.high))
        while True:
            worst: _Box = heap[0][-1]
            if self.bracket is not None:
                self.margin_upper, self.witness = 0.0, self.bracket.mean(axis=0)
                return "singular"
            self.margin = worst.margin
            self.is_regular = worst.regular
            if worst.regular and worst.margin >= (1 - self.rtol) * self.margin_upper:
                return "converged"
            if worst.axis < 0:
                return "precision"
            if self.n_boxes >= self.max_boxes:
                return "max_boxes"
            if time.monotonic() >= self.end:
                return "max_time"
            heapq.heappop(heap)
            for half in self.halves(worst):
                half.margin = max(half.margin, worst.margin)  # a part is no nearer than the whole
                half.regular |= worst.regular
                push(half)

    def halves(self, box: _Box) -> list[_Box]:
        """Cut a box in the middle; both halves share the number that cuts them."""
        i = box.axis
        low, high = box.low.copy(), box.high.copy()
        low[i] = high[i] = 0.5 * (box.low[i] + box.high[i])
        return [self.bounded(box.low, high), self.bounded(low, box.high)]

    def bounded(self, low: NDArray, high: NDArray) -> _Box:
        """Return a box with its bounds, having looked for singular matrices at its corners."""
        self.n_boxes += 1
        exponents = self.family.exponents
        weights = coefficient_weights(exponents, low, high)
        middle = 0.5 * (low + high)
        inner = monomials(exponents, middle)[None]
        view, plain = self.views[0], self.views[-1]
        matrices, center = view.matrices(weights), view.matrices(inner)[0]
        ends = np.where(self.at_high, high, low)
        corners = matrices[self.corners]
        self.look_for_signs(np.vstack([middle, ends]), np.concatenate([center[None], corners]))
        self.look_at(middle, plain.matrices(inner)[0])
        bound, estimate = view.bound(matrices, center)
        margin, regular = float(scaled_down(bound, view.step)), bound > 0
        if regular and plain is not view and self.rtol < 1:
            found = plain.bound(plain.matrices(weights), plain.matrices(inner)[0])[0]
            margin = max(margin, float(scaled_down(found, plain.step)))
        box = _Box(low, high, regular, margin, estimate, self.axis(matrices, center, low, high))
        if margin < (1 - self.rtol) * self.margin_upper:
            at_ends = plain.matrices(weights[self.corners])
            values = np.linalg.svd(at_ends, compute_uv=False)[:, -1]
            self.look_at(ends[values.argmin()], at_ends[values.argmin()])
        return box

    def look_at(self, q: NDArray, A: NDArray) -> None:
        """Keep the parameters with the smallest σ_min so far."""
        view = self.views[-1]
        found = float(scaled_up(view.smallest(A), view.step))
        if found < self.margin_upper:
            self.margin_upper, self.witness = found, q

    def axis(self, matrices: NDArray, center: NDArray, low: NDArray, high: NDArray) -> int:
        """Return the parameter that moves A(c)⁻¹A(p) most, of those that can be cut."""
        n = len(center)
        try:
            B = np.linalg.inv(center)
        except np.linalg.LinAlgError:
            B = np.eye(n)
        moved = (B @ matrices).reshape(*self.shape, n, n)
        middle = 0.5 * (low + high)
        best, axis = 0.0, -1
        for i, size in enumerate(self.shape):
            wide = high[i] - low[i] > EPS  # rounding is more than what finer cuts would tell
            if wide and low[i] < middle[i] < high[i]:
                change = np.diff(moved, axis=i)
                length = (size - 1) * np.sqrt(np.sum(change**2, axis=(-2, -1)).max(initial=0.0))
                if length > best or not length < np.inf:
                    best, axis = length, i
        return axis

    def reach(self) -> float:
        """Return how far from the middle, in half-widths, a singular matrix is at most."""
        assert self.bracket is not None
        return float(self.reaches(self.bracket).max() * (1 + 2.0**-48))

    def look_for_signs(self, points: NDArray, matrices: NDArray) -> None:
        """Look whether points have determinants of another sign than the first one with a sign."""
        if self.n_boxes == 1:
            for q, A in zip(points[: _TRIED + 1], matrices, strict=False):
                self.start, self.sign = q, self.proven_sign(A)
                if self.sign:
                    break
        if not self.sign:
            return
        others = np.flatnonzero(np.linalg.slogdet(matrices)[0] * self.sign < 0)[:_TRIED]
        proven = [j for j in others if self.proven_sign(matrices[j]) == -self.sign]
        if proven:
            self.bracket = self.crossing(points[proven])

    def proven_sign(self, A: NDArray) -> int:
        """Return the sign of the determinant of a matrix of the family, 0 if it is not proven."""
        return determinant_sign(A, self.views[0].slack)

    def crossing(self, ends: NDArray) -> NDArray:
        """Return two near points of determinants of proven signs, one of them positive.

        The determinant is continuous, so that a matrix between them is singular. They are on a line
        from the first point to the one of those of the other sign that comes nearest to the middle
        of the box.
        """
        family, start = self.family, self.start

        def points(shares: NDArray) -> NDArray:
            q = start + shares[:, None] * (ends - start)
            return np.clip(q, family.low, family.high)

        def matrices(q: NDArray) -> NDArray:
            return self.views[0].matrices(monomials(family.exponents, q))

        left, right = np.zeros(len(ends)), np.ones(len(ends))
        for _ in range(_HALVINGS):
            middle = 0.5 * (left + right)
            same = np.linalg.slogdet(matrices(points(middle)))[0] * self.sign > 0
            left, right = np.where(same, middle, left), np.where(same, right, middle)
        j = self.reaches(points(right)).argmin()
        width = 2.0**-50
        while True:
            pair = [points(np.maximum(left - width, 0))[j], points(np.minimum(right + width, 1))[j]]
            if width >= 1:  # of the ends it is known
                return np.stack([start, ends[j]])
            if math.prod(self.proven_sign(A) for A in matrices(np.stack(pair))) < 0:
                return np.stack(pair)
            width *= 16

    def reaches(self, points: NDArray) -> NDArray:
        """Return how far from the middle, in half-widths, points are."""
        width = self.family.high - self.family.low
        return (2 * np.abs(points - self.center) / np.where(width > 0, width, 1.0)).max(axis=-1)
