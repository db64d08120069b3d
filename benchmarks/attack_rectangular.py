"""Attacks on what is proven of matrices that are not square: their distances and regions.

A wide matrix A has a lower rank where xᵀA = 0 for some x, so that for every x the least E with
xᵀ(A + E) = 0 is at least as far as the nearest such matrix: ‖Aᵀx‖_∞ / ‖x‖₁ in linf, ‖Aᵀx‖₁ / ‖x‖_∞
in l1, ‖Aᵀx‖₂ / ‖x‖₂ in l2, and |Aᵀx| <= Δᵀ|x| in a box. Bounds are compared with that, in rational
numbers, for x that are searched in floating point.
"""

import math

import numpy as np
from attack_modules import flushed
from attack_regions import NORMS, ZERO, in_ellipsoid, number, rational

from skinv.geometry import distance_to_singularity, region_certificate

SHAPES = ((1, 2), (1, 3), (2, 3), (2, 4), (2, 3), (3, 4), (3, 5))


def a_matrix(rng):
    """Return a wide matrix of full rank, the power of two it was multiplied with, and its plain."""
    m, n = SHAPES[rng.randint(len(SHAPES))]
    A = rng.standard_normal((m, n)) if rng.randint(3) else 1.0 * rng.randint(-3, 4, (m, n))
    if m > 1 and rng.randint(3) == 0:
        A[-1] = A[0] * (1 + 10.0 ** -rng.uniform(0, 9)) + 10.0 ** -rng.uniform(0, 9, n)
    unit = int(rng.choice([0, 0, 0, -40, 200, -500, 500, -1015, -1040, 1000]))
    with np.errstate(all="ignore"):
        return A, np.ldexp(A, unit), unit


def directions(rng, A, size):
    """Return some x for which a ratio is small, `size` of Aᵀx and x, by a random search."""
    U = np.linalg.svd(A)[0]
    found = [U[:, -1], *np.eye(len(A)), *rng.choice([-1.0, 1.0], (4, len(A)))]
    best = min(found, key=lambda x: size(A.T @ x, x))
    for step in range(200):
        x = best + rng.standard_normal(len(A)) * np.abs(best).max() * 0.9**step
        best = min(best, x, key=lambda x: size(A.T @ x, x))
    return [*found, best]


def products(entries, shape, x):
    """Return Aᵀx of rationals."""
    m, n = shape
    return [sum((entries[i * n + j] * x[i] for i in range(m)), ZERO) for j in range(n)]


def is_nearer(norm, y, x, t):
    """Tell whether some E of norm below t has xᵀ(A + E) = 0, for y = Aᵀx."""
    y, x = [abs(v) for v in y], [abs(v) for v in x]
    if norm == "l2":
        return sum((v * v for v in y), ZERO) < t * t * sum((v * v for v in x), ZERO)
    if norm == "l1":
        return sum(y, ZERO) < t * max(x)
    return max(y) < t * sum(x, ZERO)


RATIOS = {
    "linf": lambda y, x: np.abs(y).max() / np.abs(x).sum(),
    "l1": lambda y, x: np.abs(y).sum() / np.abs(x).max(),
    "l2": lambda y, x: np.linalg.norm(y) / np.linalg.norm(x),
}


def attack_distances(score, rng, m):
    """Look for matrices of lower rank that are nearer than what is proven."""
    mode, norm = rng.choice(["gradual", "flush"]), rng.choice(NORMS)
    family = f"rectangular distance: {norm}"
    for _ in range(m):
        plain, A, _ = a_matrix(rng)
        given = A if rng.randint(2) else A.T.copy()
        with flushed(mode == "flush"):
            found = distance_to_singularity(given[None], norm, return_bounds=True)
        low, high = found.lower[0], found.upper[0]
        wrong = not 0 <= low <= high or math.isnan(high)
        entries, least = rational(A), number(low)
        for x in directions(rng, plain, RATIOS[norm]):
            x = rational(x)
            wrong |= any(x) and is_nearer(norm, products(entries, A.shape, x), x, least)
        if wrong:
            score.violation(family, mode, "a distance is wrong", A=given, lower=low, upper=high)
        score.add(family, mode, 1, int(low > 0))


def a_region(rng, plain, unit, norm):
    """Return a radius near what is possible, axes, and a distance to keep."""
    reach = float(
        distance_to_singularity(
            plain[None], norm if norm in NORMS else "l2", return_bounds=True
        ).upper[0]
    )
    reach *= rng.choice([0.2, 0.5, 0.9, 1 - 1e-9, 1.0, 1 + 1e-9])
    keep = reach * rng.choice([0.0, 0.0, 0.3])
    axes = None
    if norm == "mahalanobis":
        axes = np.ldexp(rng.standard_normal((rng.randint(1, 4), plain.size)) * reach, unit)
        return rng.choice([0.1, 0.3, 0.6, 1.0]), axes, float(np.ldexp(keep, unit))
    radius = np.ldexp(reach - keep, unit)
    if norm == "linf" and rng.randint(2):
        radius = radius * rng.uniform(size=plain.shape) * (rng.uniform(size=plain.shape) < 0.7)
        radius *= rng.choice([1, 2])
    return radius, axes, float(np.ldexp(keep, unit))


def attack_certificates(score, rng, m):
    """Look for matrices of lower rank in regions that are certified, or too near to them."""
    mode, norm = rng.choice(["gradual", "flush"]), rng.choice([*NORMS, "mahalanobis"])
    family = f"rectangular region: {norm}"
    for _ in range(m):
        plain, A, unit = a_matrix(rng)
        with np.errstate(all="ignore"):
            radius, axes, keep = a_region(rng, plain, unit, norm)
        tall = bool(rng.randint(2))
        given = [A, radius, axes]
        if tall:
            flipped = None if axes is None else axes.reshape(-1, *A.shape).swapaxes(1, 2).copy()
            given = [A.T.copy(), np.transpose(radius).copy(), flipped]
        try:
            with flushed(mode == "flush"):
                found = region_certificate(given[0], given[1], norm, keep, axes=given[2])
        except ValueError as error:
            score.refused(family, mode, 1, error)
            continue
        data = {"center": given[0], "radius": radius, "axes": axes, "keep": keep, **found}
        wrong = found.is_certified != (found.margin > 0)
        entries, more = rational(A), number(keep) + number(max(found.margin, 0.0))
        if found.is_certified and norm == "mahalanobis":
            for E in in_ellipsoid(rng, axes, radius, 20):
                member = [a + e for a, e in zip(entries, E, strict=True)]
                M = np.array([float(v) for v in member]).reshape(A.shape)
                with np.errstate(all="ignore"):
                    M = M / np.abs(M).max()
                for x in (
                    np.linalg.svd(M)[0][:, -1] if np.isfinite(M).all() else np.eye(len(A))[0],
                ):
                    x = rational(x)
                    wrong |= is_nearer("l2", products(member, A.shape, x), x, more)
        elif found.is_certified:
            widths = rational(np.broadcast_to(radius, A.shape))
            boxed = np.ndim(radius) > 0
            with np.errstate(all="ignore"):
                D = np.ldexp(np.broadcast_to(radius, A.shape), -unit)

            def reached(y, x, D=D):
                return (np.abs(y) - D.T @ np.abs(x)).max() / np.abs(x).sum()

            for x in directions(rng, plain, reached if boxed else RATIOS[norm]):
                x = rational(x)
                y = products(entries, A.shape, x)
                if not any(x):
                    continue
                if boxed:
                    room = products([w + more for w in widths], A.shape, [abs(v) for v in x])
                    wrong |= all(abs(v) < r for v, r in zip(y, room, strict=True))
                else:
                    wrong |= is_nearer(norm, y, x, widths[0] + more)
        if wrong:
            score.violation(family, mode, "a region is not as certified", **data)
        score.add(family, mode, 1, int(found.is_certified))


ATTACKS = {
    "rectangular distance": (attack_distances, 3000, 25),
    "rectangular region": (attack_certificates, 3000, 25),
}
