"""Attacks on what is proven of distances, regions and series."""

import itertools
import math

import numpy as np
from attack_exact import matrices, numbers
from attack_modules import flushed
from flint import fmpq, fmpq_mat

from skinv.bounds import taylor_bound
from skinv.geometry import distance_to_singularity, region_certificate

NORMS = ("linf", "l2", "l1")
ZERO, ONE = fmpq(0), fmpq(1)


# -- exact numbers ---------------------------------------------------------------------------------


def rational(array):
    """Return a floating-point array as a list of rationals, from its bits."""
    pairs = zip(*(part.ravel().tolist() for part in numbers(np.asarray(array))), strict=True)
    return [fmpq(m << e) if e >= 0 else fmpq(m, 1 << -e) for m, e in pairs]


def number(value):
    return rational(np.array([value], dtype=np.float64))[0]


def square(entries):
    n = math.isqrt(len(entries))
    return fmpq_mat(n, n, entries)


def flat(A):
    return [v for row in A.tolist() for v in row]


def inverted(entries):
    """Return the inverse of a square matrix, as a list; None if it is singular."""
    A = square(entries)
    return None if A.det() == 0 else flat(A.inv())


def minors(A, leading):
    n = A.nrows()
    for size in range(1, n + 1):
        for rows in [tuple(range(size))] if leading else itertools.combinations(range(n), size):
            part = fmpq_mat(size, size, [A[i, j] for i in rows for j in rows])
            yield part.det()


def gram_less(entries, t):
    """Return AᵀA − t² I."""
    A = square(entries)
    G = A.transpose() * A
    for i in range(A.nrows()):
        G[i, i] -= t * t
    return G


def sigma_at_least(entries, t):
    """Tell whether the smallest singular value is at least t >= 0."""
    return all(m >= 0 for m in minors(gram_less(entries, t), False))


def sigma_above(entries, t):
    return all(m > 0 for m in minors(gram_less(entries, t), True))


def spectral_at_most(entries, t):
    """Tell whether the largest singular value is at most t."""
    return all(m >= 0 for m in minors(-1 * gram_less(entries, t), False))


def distance_in(entries, norm):
    """Return the distance to the singular matrices in l1 or linf."""
    B = inverted(entries)
    if B is None:
        return ZERO
    if norm == "l1":
        return 1 / max(map(abs, B))
    n = math.isqrt(len(B))
    signs = itertools.product((1, -1), repeat=n)
    return 1 / max(
        sum((abs(sum((B[i * n + j] * s[j] for j in range(n)), ZERO)) for i in range(n)), ZERO)
        for s in signs
    )


def farther(entries, norm, t):
    """Tell whether the distance is at least t."""
    if t <= 0:
        return True
    return sigma_at_least(entries, t) if norm == "l2" else distance_in(entries, norm) >= t


def farther_strictly(entries, norm, t):
    return sigma_above(entries, t) if norm == "l2" else distance_in(entries, norm) > t


# -- distances and regions -------------------------------------------------------------------------


def attack_distances(score, rng, m):
    """Compare distances of matrices in all units with the exact ones."""
    n, mode, norm = rng.randint(1, 4), rng.choice(["gradual", "flush"]), rng.choice(NORMS)
    dtype = rng.choice([np.float32, np.float64])
    A = matrices(rng, m, n, dtype)[0]
    A[~np.isfinite(A).all(axis=(1, 2))] = 1
    family = f"distance: {norm}"
    with score.unchanged(family, mode, A), flushed(mode == "flush"):
        found = distance_to_singularity(A, norm, return_bounds=True)
        distance = distance_to_singularity(A, norm)
    bad = ~((found.lower <= distance) & (distance <= found.upper))
    for M, low, high, between in zip(A, found.lower, found.upper, bad, strict=True):
        entries = rational(M)
        wrong = not low >= 0 or (low > 0 and not farther(entries, norm, number(low)))
        wrong |= math.isnan(high)
        wrong |= math.isfinite(high) and farther_strictly(entries, norm, number(high))
        if wrong or between:
            data = {"A": M, "lower": low, "upper": high, "between": bool(between)}
            score.violation(family, mode, "a distance is wrong", **data)
    score.add(family, mode, m, int((found.lower > 0).sum()))


def a_center(rng, n):
    """Return a regular matrix in some unit."""
    while True:
        A = rng.standard_normal((n, n)) if rng.randint(3) else 1.0 * rng.randint(-3, 4, (n, n))
        if rng.randint(3) == 0:
            A[-1] = A[0] * (1 + 10.0 ** -rng.uniform(0, 9)) + 10.0 ** -rng.uniform(0, 9)
        if abs(np.linalg.det(A)) > 1e-12:
            break
    unit = int(rng.choice([0, 0, 0, -40, 200, -500, 500, -1015, -1040, 1000]))
    with np.errstate(all="ignore"):
        return np.ldexp(A, unit), unit


def own_units(rng, center):
    """Return what rows and columns are multiplied with, as a matrix, most often ones."""
    far = int(rng.choice([0, 0, 0, 20, 60, 200, 500]))
    rows, columns = rng.randint(-far, far + 1, (2, len(center)))
    with np.errstate(all="ignore"):
        unit = np.ldexp(1.0, rows[:, None] + columns)
        size = np.abs(center * unit)
    kept = (size < 1e300) & ((size > 1e-300) | (center == 0))
    return unit if kept.all() else np.ones_like(unit)


def a_region(rng, n, norm):
    """Return a centre, a radius near the largest possible one, axes, and a distance to keep."""
    center, unit = a_center(rng, n)
    share = 1 + rng.choice([-1, -1, 1]) * 10.0 ** -rng.uniform(0, 17)
    plain = np.ldexp(center, -unit)
    reach, axes, keep = share, None, 0.0
    if norm == "mahalanobis":
        axes = rng.standard_normal((rng.randint(1, 4), n * n))
        # The ellipsoid's own distance, about.
        z = rng.standard_normal((400, len(axes)))
        E = (z / np.linalg.norm(z, axis=1)[:, None]) @ axes
        steps = np.linspace(0, 4, 200)[1:, None, None, None]
        dets = np.linalg.det(plain + steps * E.reshape(1, -1, n, n))
        crossed = (dets * np.linalg.det(plain) <= 0).any(axis=1)
        reach *= float(steps[crossed.argmax(), 0, 0, 0]) if crossed.any() else 1.0
        axes = np.ldexp(axes, unit)
        radius = reach * rng.choice([1.0, 0.7, 0.4, 0.1])
    else:
        reach *= float(distance_to_singularity(plain, norm))
        part = rng.choice([0.0, 0.0, 0.3])
        radius, keep = np.ldexp(reach * (1 - part), unit), float(np.ldexp(reach * part, unit))
        if norm == "linf" and rng.randint(2):
            widths = rng.uniform(size=(n, n)) * (rng.uniform(size=(n, n)) < 0.7)
            radius, keep = radius * widths * rng.choice([1, 2]), keep * 0.1
    unit = own_units(rng, center) if norm in ("linf", "mahalanobis") else np.ones((n, n))
    if (unit != 1).any():
        with np.errstate(all="ignore"):
            center, keep = center * unit, 0.0
            axes = None if axes is None else axes * unit.ravel()
            radius = radius if norm == "mahalanobis" else radius * unit
    return center, radius, axes, keep


def box_is_regular(A, widths):
    """Tell whether the determinants of all vertices have one sign, which none of them need touch.

    The determinant is affine in each entry, so that it has its extremes at the vertices.
    """
    n = math.isqrt(len(A))
    dets = [
        square([a + s * w for a, s, w in zip(A, signs, widths, strict=True)]).det()
        for signs in itertools.product((1, -1), repeat=n * n)
    ]
    return (all(d > 0 for d in dets) or all(d < 0 for d in dets)), (
        all(d >= 0 for d in dets) or all(d <= 0 for d in dets)
    )


def in_ellipsoid(rng, axes, radius, count):
    """Return exact points of an ellipsoid, some on its boundary but for the last places."""
    z = rng.standard_normal((count, len(axes)))
    z /= np.linalg.norm(z, axis=1)[:, None]
    z *= radius * np.where(rng.uniform(size=(count, 1)) < 0.8, 1, rng.uniform(size=(count, 1)))
    S = [rational(s) for s in axes]
    for row in z * (1 - 2.0**-50):
        w = rational(row)
        if sum((v * v for v in w), ZERO) <= number(radius) ** 2:
            yield [
                sum((a * s[i] for a, s in zip(w, S, strict=True)), ZERO) for i in range(len(S[0]))
            ]


def line_is_regular(A, E):
    """Tell whether A + tE is regular for |t| <= 1, in order 2, where det is a quadratic in t."""
    low, middle, high = (
        square([a + t * e for a, e in zip(A, E, strict=True)]).det() for t in (-1, 0, 1)
    )
    values = [low, middle, high]
    second, first = (low + high) / 2 - middle, (high - low) / 2
    if second != 0 and abs(first) <= abs(2 * second):
        values.append(middle - first * first / (4 * second))
    return all(v > 0 for v in values) or all(v < 0 for v in values)


def attack_certificates(score, rng, m):
    """Look for singular matrices in regions that are certified."""
    mode, norm = rng.choice(["gradual", "flush"]), rng.choice([*NORMS, "mahalanobis"])
    family = f"region: {norm}"
    for _ in range(m):
        n = int(rng.choice([1, 2, 2, 2, 3])) if norm != "mahalanobis" else 2
        center, radius, axes, keep = a_region(rng, n, norm)
        try:
            with flushed(mode == "flush"):
                found = region_certificate(center, radius, norm, keep, axes=axes)
        except ValueError as error:
            score.refused(family, mode, 1, error)
            continue
        A, margin = rational(center), number(found.margin)
        data = {"center": center, "radius": radius, "axes": axes, "keep": keep, **found}
        wrong = found.is_certified != (found.margin > 0)
        more = number(keep)
        if found.is_certified and norm == "mahalanobis":
            for E in in_ellipsoid(rng, axes, radius, 60):
                wrong |= not line_is_regular(A, E)
                wrong |= not sigma_at_least(
                    [a + e for a, e in zip(A, E, strict=True)], more + margin
                )
        elif found.is_certified and np.ndim(radius):
            widths = rational(radius)
            wrong |= not box_is_regular(A, [w + more for w in widths])[0]
            wrong |= not box_is_regular(A, [w + more + margin for w in widths])[1]
        elif found.is_certified:
            wrong |= not farther_strictly(A, norm, number(radius) + more)
            wrong |= not farther(A, norm, number(radius) + more + margin)
        if norm != "mahalanobis":
            wrong |= not farther(A, norm, number(found.distance))
            if math.isfinite(found.distance_upper):
                wrong |= farther_strictly(A, norm, number(found.distance_upper))
        if wrong:
            score.violation(family, mode, "a region is not as certified", **data)
        score.add(family, mode, 1, int(found.is_certified))


# -- series and models over regions ----------------------------------------------------------------


def perturbations(rng, center, radius, norm, axes, count):
    """Return exact perturbations in a region, its extreme points among them."""
    d = center.size
    if norm == "mahalanobis":
        return list(in_ellipsoid(rng, axes, radius, count))
    r = rational(np.broadcast_to(radius, (d,)) if np.ndim(radius) == 0 else radius)
    if norm == "linf":
        signs = [*itertools.product((1, -1), repeat=d)][: 2 * count]
        found = [[s * w for s, w in zip(row, r, strict=True)] for row in signs]
        inner = [rational(rng.uniform(-1, 1, d)) for _ in range(4)]
        return found + [[s * w for s, w in zip(row, r, strict=True)] for row in inner]
    if norm == "l1":
        return [[s * r[0] if i == k else ZERO for i in range(d)] for k in range(d) for s in (1, -1)]
    z = rng.standard_normal((count, d))
    plain = center / np.abs(center).max()
    U, _, Vt = np.linalg.svd(plain)
    n = len(plain)
    z = [*z, *(s * np.outer(U[:, i], Vt[i]).ravel() for i in range(n) for s in (1, -1))]
    z = [rational(v / np.linalg.norm(v) * (1 - 2.0**-50)) for v in z]
    return [[v * r[0] for v in row] for row in z if sum((v * v for v in row), ZERO) <= 1]


def series(E, B, order):
    """Return Σ (−BE)ʲB of rationals."""
    E, B = square(E), square(B)
    total = term = B
    for _ in range(order):
        term = -1 * (B * E * term)
        total = total + term
    return flat(total)


def attack_series(score, rng, m):
    """Compare the bound of a series with its error in the corners."""
    mode, norm = rng.choice(["gradual", "flush"]), rng.choice([*NORMS, "mahalanobis"])
    family = f"taylor_bound: {norm}"
    for _ in range(m):
        n = 2 if norm == "mahalanobis" else int(rng.randint(1, 3))
        order = int(rng.choice([1, 2, 3, 4, 25]))
        center, radius, axes, _ = a_region(rng, n, norm)
        radius = radius * rng.choice([1.0, 0.5, 1e-3, 1e-8])
        try:
            with flushed(mode == "flush"):
                found = taylor_bound(center, radius, order, norm, axes=axes)
        except ValueError as error:
            score.refused(family, mode, 1, error)
            continue
        score.add(family, mode, 1, int(math.isfinite(found.max_error)))
        if not math.isfinite(found.max_error):
            continue
        A = rational(center)
        B, limit = inverted(A), number(found.max_error)
        for E in perturbations(rng, center, radius, norm, axes, 12):
            X = inverted([a + e for a, e in zip(A, E, strict=True)])
            L = series(E, B, order)
            if X is None or max(abs(x - v) for x, v in zip(X, L, strict=True)) > limit:
                data = {"center": center, "radius": radius, "axes": axes, **found}
                score.violation(family, mode, "a series errs by more", **data)
                break


def spectral_exceeds(entries, t):
    """Tell whether the largest singular value is at least t."""
    return not all(v > 0 for v in minors(-1 * gram_less(entries, t), True))


ATTACKS = {
    "distance": (attack_distances, 6000, 200),
    "region": (attack_certificates, 5000, 25),
    "taylor_bound": (attack_series, 3000, 25),
}
