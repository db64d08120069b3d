"""The search of :func:`skinv.bounds.certify_region`: boxes halved, the worst first."""

import math
import time

import numpy as np
import torch
from torch import Tensor

from .._arrays.progress import progress
from ._problem import Problem
from ._slice import SliceProblem

# Points that the search for a bad matrix starts from, and steps it takes.
_STARTS, _ASCENTS, _STEPS = 4096, 64, 60
# The model is asked for about as many products at once, of this many points at least.
_PRODUCTS, _POINTS = 2**26, 64
# The gap may be so many times as wide as asked for, by what rounding takes off the lower bound.
_ENOUGH = 1.05


class _TimeIsUp(Exception):
    """Raised by what the search waits for."""


class Search:
    """Best-first bisection in batches; what it holds is valid at every moment."""

    def __init__(
        self, problem: Problem | SliceProblem, cap: float, rtol: float, max_boxes: int, end: float
    ):
        self.problem, self.rtol, self.max_boxes, self.end = problem, rtol, max_boxes, end
        self.lower, self.status, self.n_boxes = 0.0, "converged", 0
        self.settled = 0.0  # the largest bound among boxes that need no more work
        # The whole region, of which no more is known yet than a bound without a search.
        self.witness = torch.zeros(problem.d, dtype=torch.float64, device=problem.device)
        self.z = self.witness[None].clone()
        self.half = torch.ones_like(self.z)
        self.bounds = torch.full_like(self.z[:, 0], cap)
        self.side = torch.zeros_like(self.bounds, dtype=torch.int64)

    def check_time(self) -> None:
        """Raise _TimeIsUp past the end."""
        if self.end < math.inf and time.monotonic() >= self.end:
            raise _TimeIsUp

    def errors(self, z: Tensor) -> Tensor:
        """Return the largest entry of the error at points; 0 where there is no inverse."""
        found = []
        for part in z.split(max(_PRODUCTS // (z.shape[1] * self.problem.n**2), _POINTS)):
            found.append(self.problem.errors(part).abs())
            self.problem.tick()
        return torch.nan_to_num(torch.cat(found), nan=0.0, posinf=0.0).amax(1)

    def look(self, z: Tensor) -> None:
        """Remember the worst of some points of the region."""
        errors = self.errors(z)
        worst = int(errors.argmax())
        if float(errors[worst]) > self.lower:
            self.lower, self.witness = float(errors[worst]), z[worst].clone()

    def sample(self, rng: np.random.RandomState) -> None:
        """Look at random points and corners, and climb from the worst of them."""
        problem, d = self.problem, self.problem.d
        starts = max(2, min(_STARTS, 2**22 // d**2))
        drawn = rng.uniform(-1, 1, size=(starts, d))
        drawn[::2] = np.where(drawn[::2] < 0, -1.0, 1.0)
        if problem.p < math.inf:
            ends = np.eye(min(d, _STARTS), d)
            drawn = np.vstack([ends, -ends, drawn])
        z = problem.project(torch.tensor(drawn, device=problem.device))
        self.look(z)
        z, step = z[self.errors(z).topk(min(_ASCENTS, len(z))).indices], 0.5
        for _ in range(_STEPS):
            problem.tick()
            z = z.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(problem.errors(z).abs().amax(1).sum(), z)
            slope = torch.nan_to_num(slope)
            if problem.p == math.inf:
                direction = slope.sign()
            else:
                length = torch.linalg.vector_norm(slope, dim=1, keepdim=True)
                direction = slope / length.clamp(min=1e-300)
            z = problem.project(z.detach() + step * direction)
            self.look(z)
            step *= 0.93

    def upper(self) -> float:
        """Return the proven upper bound."""
        return max(self.settled, self.lower, float(self.bounds.max()) if len(self.bounds) else 0.0)

    def proven_lower(self) -> float:
        """Return the witness's error, less what rounding may have added to it."""
        return self.problem.proven(self.lower, self.witness) if self.lower > 0 else 0.0

    def run(self, rng: np.random.RandomState, verbose: bool) -> None:
        """Halve boxes until the gap is closed."""
        size, most = self.problem.batch
        with progress(self.max_boxes, "certifying", "box", verbose) as bar:
            try:
                self.look(self.z)
                self.problem.tick = self.check_time
                bounds, self.side, corner = self.problem.bound(self.z, self.half)
                self.bounds, self.n_boxes = torch.minimum(self.bounds, bounds), 1
                self.look(self.problem.project(corner))
                self.sample(rng)
                bar.update(1)
                bar.set_postfix_str(self.summary())
                while self.settle() and self.n_boxes + 2 <= self.max_boxes:
                    before = self.n_boxes
                    self.halve(min(size, (self.max_boxes - self.n_boxes) // 2))
                    bar.update(self.n_boxes - before)
                    if verbose:
                        bar.set_postfix_str(self.summary(), refresh=False)
                    size = min(2 * size, most)
                if len(self.bounds):
                    self.status = "max_boxes"
                elif self.problem.noise and not self.is_closed():
                    self.status = "rounding"
            except _TimeIsUp:
                self.status = "max_time"
            except KeyboardInterrupt:
                self.status = "interrupted"
        self.problem.tick = lambda: None

    def summary(self) -> str:
        """Say what is proven by now."""
        upper = self.upper()
        gap = upper / self.lower - 1 if self.lower > 0 else math.inf
        return f"{self.lower:.4g} to {upper:.4g}, gap {gap:.1%}"

    def is_closed(self) -> bool:
        """Tell whether the gap is what was asked for."""
        enough = (1 + _ENOUGH * self.rtol) * self.proven_lower()
        return self.upper() - self.problem.extra <= enough

    def settle(self) -> bool:
        """Put aside the boxes that are bounded well enough; tell whether others are left."""
        enough = self.lower + max(self.lower * self.rtol, self.problem.noise)
        keep = ~(self.bounds <= enough + self.problem.extra)
        if not bool(keep.all()):
            self.settled = max(self.settled, float(self.bounds[~keep].max()))
            self.z, self.half = self.z[keep], self.half[keep]
            self.bounds, self.side = self.bounds[keep], self.side[keep]
        return len(self.bounds) > 0

    def halve(self, size: int) -> None:
        """Halve the worst boxes."""
        problem = self.problem
        size = min(size, len(self.bounds))
        worst = torch.topk(self.bounds, size).indices
        rest = torch.ones(len(self.bounds), dtype=torch.bool, device=problem.device)
        rest[worst] = False
        each = torch.arange(size, device=problem.device)
        side = self.side[worst]
        half = self.half[worst]
        half[each, side] /= 2
        shift = torch.zeros_like(half)
        shift[each, side] = half[each, side]
        z = self.z[worst]
        z, half = problem.clipped(torch.cat((z - shift, z + shift)), torch.cat((half, half)))
        bounds, sides, corner = problem.bound(z, half)
        bounds = torch.minimum(bounds, self.bounds[worst].repeat(2))  # a part of its parent
        bounds[problem.outside(z, half)] = 0.0
        self.look(problem.project(corner))
        # All is computed before anything is stored, and the bounds alone make the upper bound.
        self.bounds, self.side, self.z, self.half = (
            torch.cat((self.bounds[rest], bounds)),
            torch.cat((self.side[rest], sides)),
            torch.cat((self.z[rest], z)),
            torch.cat((self.half[rest], half)),
        )
        self.n_boxes += 2 * size
