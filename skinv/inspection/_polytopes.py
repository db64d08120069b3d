"""Linear programs over the polytopes of a ReLU network, and the search for all these polytopes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array
from tqdm import tqdm

from ._piecewise import PiecewiseAffine

# HiGHS's smallest tolerances. They are absolute, and coefficients below 1e-9 are dropped: so rows,
# whose absolute values sum to 1, are stretched. Costs are stretched more, since their tolerance is
# that of multipliers, each of which is times a slack; or less, if that asks too much of HiGHS.
_TOLERANCES = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
_STRETCH_ROWS, _STRETCH_COSTS = 64.0, (1024.0, 64.0, 1.0)
# Programs handed over at once: so many cubes, or so many coefficients.
_CUBES, _NUMBERS = 64, 2**16
# A polytope counts if a cube of more than this share of the box's sides fits into it.
THICKNESS = 1e-9


def extreme_points(G: NDArray, h: NDArray, D: NDArray, d: NDArray) -> NDArray[np.float64]:
    """Return where |D t + d| is largest, row by row, over {t in [−1, 1]^k : G t <= h}, not empty.

    max |g| is the larger one of max g and max −g, a linear program each.
    """
    reach = np.abs(D).sum(axis=1, keepdims=True)
    directions = D / np.where(reach > 0, reach, 1.0)
    costs = np.concatenate([-directions, directions])
    step = max(1, _NUMBERS // max(G.size, 1))
    pieces = (costs[start : start + step] for start in range(0, len(costs), step))
    points = [_solve(piece, [G] * len(piece), [h] * len(piece)) for piece in pieces]
    high, low = np.split(np.clip(np.concatenate(points), -1, 1), 2)
    rises = (D * high).sum(axis=1) + d >= -(D * low).sum(axis=1) - d
    return np.where(rises[:, None], high, low)


def largest_cubes(polytopes: list[tuple[NDArray, NDArray]]) -> NDArray[np.float64]:
    """Return centre and half-width of a largest cube in each {t in [−1, 1]^k : G t <= h}, as rows.

    The half-width is negative if the polytope is empty, 0 if it is flat. Rows of G have sum of
    absolute values 1, and h is at least −1. The cube of half-width r around t lies in a half-space
    iff G_i t + r <= h_i: the program for the Chebyshev centre (Boyd and Vandenberghe 2004, section
    8.5.1) in the maximum norm.
    """
    k = polytopes[0][0].shape[1]
    box = np.vstack([np.eye(k), -np.eye(k)])
    # Never infeasible: t = 0 with r = −1 is a solution.
    return _solve(
        np.tile(np.append(np.zeros(k), -1.0), (len(polytopes), 1)),
        [np.column_stack([np.vstack([G, box]), np.ones(len(G) + 2 * k)]) for G, _ in polytopes],
        [np.concatenate([h, np.ones(2 * k)]) for _, h in polytopes],
    )


def _solve(costs: NDArray, A: list[NDArray], bounds: list[NDArray]) -> NDArray[np.float64]:
    """Minimise costs[i]·x under A[i] x <= bounds[i] and |x| <= 1 entry by entry, for each i.

    To SciPy the programs are one, with a block-diagonal matrix, so that most of its work for a
    program is done once. Where HiGHS fails at that, which is rare, they are solved one by one.
    """
    m, k = costs.shape
    rows, n_rows = np.concatenate(A), sum(map(len, A))
    columns = np.repeat(np.arange(m), [len(block) for block in A])[:, None] * k + np.arange(k)
    matrix = csr_array(
        (_STRETCH_ROWS * rows.ravel(), columns.ravel(), np.arange(n_rows + 1) * k), (n_rows, m * k)
    )
    limit = _STRETCH_ROWS * np.concatenate(bounds)
    for stretch in _STRETCH_COSTS:
        cost = stretch * costs.ravel()
        result = linprog(cost, matrix, limit, bounds=(-1, 1), method="highs", options=_TOLERANCES)
        if result.status == 0:
            return result.x.reshape(m, k)
        if m > 1:
            singly = zip(costs, A, bounds, strict=True)
            return np.concatenate([_solve(one[None], [a], [b]) for one, a, b in singly])
    raise RuntimeError(
        f"HiGHS could not solve a linear program in {k} unknowns with {n_rows} constraints: "
        f"{result.message} Weights of very different sizes can do that; scale the data before the "
        f"network is fitted."
    )


def all_patterns(
    network: PiecewiseAffine, max_regions: int, n_jobs: int | None = None, verbose: int = 0
) -> NDArray[np.bool_]:
    """Return every sign pattern whose polytope is more than flat inside the box.

    The box is split by one hidden unit after another. Each part carries a cube that fits into it:
    where the cube reaches well over to both sides of the next boundary there is nothing to solve,
    elsewhere a linear program tells whether there is anything on that side. Parts only get more,
    so that the search can be given up early.
    """
    d = int(network.active.sum())
    cells = [_Cell(np.zeros(network.n_units, dtype=bool), np.zeros(d), 1.0)]
    with Parallel(n_jobs=n_jobs) as parallel:
        for unit in tqdm(range(network.n_units), unit="unit", disable=not verbose):
            parts = [part for cell in cells for part in _split(network, cell, unit)]
            unsure = [part for part in parts if part.radius <= THICKNESS]
            found = parallel(
                delayed(largest_cubes)([network.facets(part.on, unit + 1) for part in piece])
                for piece in (unsure[i : i + _CUBES] for i in range(0, len(unsure), _CUBES))
            )
            for part, cube in zip(unsure, chain.from_iterable(found), strict=True):
                part.center, part.radius = cube[:-1], float(cube[-1])
            cells = [part for part in parts if part.radius > THICKNESS]
            if len(cells) > max_regions:
                raise ValueError(
                    f"Got more than max_regions={max_regions} regions by hidden unit {unit + 1} of "
                    f"{network.n_units}; raise max_regions, or use patterns='sampled', a smaller "
                    f"network, or a region that varies in fewer entries."
                )
    return np.array([cell.on for cell in cells])


@dataclass
class _Cell:
    """Part of the box: the first units' signs, and a cube in it (of radius <= 0: not known)."""

    on: NDArray[np.bool_]
    center: NDArray[np.float64]
    radius: float


def _split(network: PiecewiseAffine, cell: _Cell, unit: int) -> Iterator[_Cell]:
    """Yield what lies, or may lie, on either side of a unit's boundary.

    Let R t + q be ±s from the boundary at the centre of a cube of half-width r, Σ|R| = 1. On the
    far side of it the cube holds one of half-width (r − s)/2, on the near side one of (r + s)/2 if
    s <= r: in the direction sign(R), where R t + q grows fastest.
    """
    R, q, cuts = (part[-1] for part in network.hyperplanes(cell.on, unit + 1))
    if not cuts:
        cell.on[unit] = q > 0
        yield cell
        return
    height = float(R @ cell.center + q)
    for side, sign in ((True, 1.0), (False, -1.0)):
        on = cell.on.copy()
        on[unit] = side
        depth = min(sign * height, cell.radius)
        shift = sign * np.sign(R) * (cell.radius - depth) / 2
        yield _Cell(on, cell.center + shift, (cell.radius + depth) / 2)
