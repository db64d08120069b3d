"""Polynomial terms of a few coordinates: which there are, and how they are computed together."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


def leading_terms(
    weights: NDArray, rate: float, count: int, max_degree: int | None = None
) -> tuple[list[tuple[int, ...]], NDArray[np.float64]]:
    """Return the most important monomials of coordinates, the most important ones first.

    As the coordinates that are multiplied, in ascending order, with their importance, below 1 and
    descending: the product of those of the factors, which is what a Taylor series says of the size
    of its terms. With the constant term they form a set that holds all divisors of its members.
    `weights` are the relative importance of the coordinates, positive and descending, `rate` the
    importance of the first one: how much smaller terms are that have one factor more.
    """
    if len(weights) == 0 or count < 1:
        return [], np.zeros(0)
    cost = -np.log(rate * np.minimum(weights / weights[0], 1.0))
    heap: list[tuple[float, tuple[int, ...]]] = [(float(cost[0]), (0,))]
    terms: list[tuple[int, ...]] = []
    totals: list[float] = []
    while heap and len(terms) < count:
        total, term = heapq.heappop(heap)
        terms.append(term)
        totals.append(total)
        last = term[-1]
        if last + 1 < len(cost):  # each is reached once: the last factor moves on, or is doubled
            heapq.heappush(heap, (total - cost[last] + cost[last + 1], (*term[:-1], last + 1)))
        if max_degree is None or len(term) < max_degree:
            heapq.heappush(heap, (total + cost[last], (*term, last)))
    return terms, np.exp(-np.array(totals))


@dataclass(frozen=True)
class Terms:
    """Products of Legendre polynomials of single coordinates, those of one degree at a time."""

    # Of so many leading coordinates the polynomials of degree 1, 2, … are taken.
    powers: tuple[int, ...]
    # Products of two, three, … of these: indices, among the terms before, of what is multiplied.
    factors: tuple[tuple[Any, Any], ...] = ()

    @classmethod
    def of(cls, monomials: Sequence[tuple[int, ...]]) -> "Terms":
        """Return the terms for a set of monomials that holds all divisors of its members."""
        parts = [tuple(sorted(Counter(term).items())) for term in monomials]
        atoms = sorted((degree, i) for part in parts if len(part) == 1 for i, degree in part)
        degrees = Counter(degree for degree, _ in atoms)
        place: dict[tuple[tuple[int, int], ...], int]
        place = {((i, degree),): k for k, (degree, i) in enumerate(atoms)}
        factors = []
        for size in range(2, max(map(len, parts), default=0) + 1):
            level = sorted(part for part in parts if len(part) == size)
            left = np.array([place[part[:-1]] for part in level], dtype=np.intp)
            right = np.array([place[part[-1:]] for part in level], dtype=np.intp)
            factors.append((left, right))
            place |= {part: len(place) + k for k, part in enumerate(level)}
        return cls(tuple(degrees[d] for d in range(1, len(degrees) + 1)), tuple(factors))

    @property
    def names(self) -> list[tuple[int, ...]]:
        """The monomials, in the order in which they are computed."""
        names = [(i,) * degree for degree, count in enumerate(self.powers, 1) for i in range(count)]
        for left, right in self.factors:
            names += [names[a] + names[b] for a, b in zip(left, right, strict=True)]
        return names

    def __len__(self) -> int:
        return sum(self.powers) + sum(len(left) for left, _ in self.factors)

    def mapped(self, convert: Any) -> "Terms":
        """Return the same terms with a function applied to the arrays of indices."""
        return replace(self, factors=tuple((convert(a), convert(b)) for a, b in self.factors))

    def evaluate(self, out: Any) -> None:
        """Compute the terms (n_terms, m) of coordinates that stand in the first rows."""
        if not self.powers:
            return
        start, end = 0, self.powers[0]
        z, before = out[:end], None
        for degree, count in enumerate(self.powers[1:], 2):
            new = out[end : end + count]
            new[...] = z[:count]
            new *= out[start : start + count]
            new *= (2 * degree - 1) / degree
            new -= 0.5 if before is None else before[:count] * ((degree - 1) / degree)
            before = out[start : start + count]
            start, end = end, end + count
        for left, right in self.factors:
            new = out[end : end + len(left)]
            new[...] = out[left]
            new *= out[right]
            end += len(left)
