"""Attacks on what is proven of families of parameters, and of models over slices of matrices.

Families are T diag(f(p)) S, with unimodular matrices T and S of integers and factors f that are
affine in p, products of two such forms, or squares of one, with a constant or none: it is known of
each box, in rational numbers, whether a matrix of it is singular, and how far it may grow. They are
in units of rows, columns, parameters and of all, with an origin, and complex, too.

Models over slices are evaluated in balls of 300 bits, at corners, at random, and at points where a
search in floating point finds large errors.
"""

import itertools
import math
import sys
from pathlib import Path

import numpy as np
from attack_exact import embedded
from attack_modules import flushed
from attack_regions import ONE, ZERO, number, rational, sigma_at_least
from flint import arb, ctx, fmpq

from skinv import LinearInverseApprox, NeuralInverseRegressor, PolynomialInverseApprox
from skinv.bounds import certify_region
from skinv.geometry import ParametricFamily, family_certificate, largest_regular_box
from skinv.matrices import embed_complex

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import balls

MODES = ("gradual", "flush")
KINDS = ("affine", "polynomial", "complex")
UNITS = (0, 0, 0, 30, -30, 300, -300, 900, -900, -1040)
# Scales are known up to rounding, that of parameters against half-widths, too.
ROUNDING, LEAST = fmpq(1, 2**40), fmpq(1, 2**1073)


# -- families of which it is known where they are singular -----------------------------------------


def unimodular(rng, n, cplx):
    """Return a matrix of small integers, complex or not, with a determinant of modulus one."""
    shape = (2, 2, n, n)
    real, imag = np.tril(rng.randint(-2, 3, shape) * np.reshape([1, int(cplx)], (2, 1, 1, 1)), -1)
    L, U = real + 1j * imag + np.eye(n)
    return L[rng.permutation(n)] @ U.T


class Form:
    """a · q − c in whole numbers."""

    def __init__(self, rng, k):
        self.a, self.c = rng.randint(-3, 4, k).tolist(), int(rng.randint(-5, 6))
        if not any(self.a):
            self.a[rng.randint(k)] = 1

    def terms(self):
        """Return its polynomial, as coefficients by exponents."""
        ones = np.eye(len(self.a), dtype=int).tolist()
        return {(0,) * len(self.a): -self.c} | dict(zip(map(tuple, ones), self.a, strict=True))

    def at(self, q):
        return sum((a * x for a, x in zip(self.a, q, strict=True)), ZERO) - self.c

    def width(self, half):
        return sum((abs(a) * h for a, h in zip(self.a, half, strict=True)), ZERO)


def times(f, g):
    """Return a product of polynomials."""
    found = {}
    for (d, x), (e, y) in itertools.product(f.items(), g.items()):
        key = tuple(i + j for i, j in zip(d, e, strict=True))
        found[key] = found.get(key, 0) + x * y
    return found


class Known:
    """A family, and the forms one of which is zero where a matrix of it is singular."""

    def __init__(self, rng, kind):
        n, k = int(rng.choice((1, 2, 2, 3, 3, 4))), int(rng.randint(1, 4))
        self.forms, factors = [], []
        for _ in range(n):
            form, other = Form(rng, k), Form(rng, k)
            vanishing, factor = [form], form.terms()
            how = rng.randint(3) if kind == "polynomial" else rng.randint(2) * (kind == "complex")
            if how == 1:
                vanishing, factor = [form, other], times(factor, other.terms())
            elif how == 2:  # the sign of which does not change
                factor, constant = times(factor, factor), int(rng.randint(3))
                factor[(0,) * k] += constant
                vanishing = [] if constant else vanishing
            self.forms += vanishing
            factors.append(factor)
        T, S = (unimodular(rng, n, kind == "complex") for _ in range(2))
        if rng.randint(4) == 0:
            T = S = np.eye(n) + 0j
        self.exponents = sorted(set().union(*factors) | {(0,) * k})
        C = np.array([(T * [f.get(e, 0) for f in factors]) @ S for e in self.exponents])
        self.shift = rng.choice([0, 0, 20, -20, 300, -1040], k)  # p = o + 2^shift q
        units = np.add.outer(*(rng.randint(-30, 31, (2, n)) * rng.randint(2)))
        power = rng.choice(UNITS) + units - (np.array(self.exponents) @ self.shift)[:, None, None]
        if power.min() < -1074 or (power + np.frexp(np.abs(C).max())[1]).max() > 1022:
            self.shift, power = 0 * self.shift, 0 * power
        parts = [np.ldexp(part, power) for part in (C.real, C.imag)]
        origin = np.ldexp(rng.standard_normal(k) * rng.choice([0, 0, 1, 1e6]), self.shift)
        coefficients = parts[0] + 1j * parts[1] if kind == "complex" else parts[0]
        self.family = ParametricFamily(coefficients, self.exponents, origin)

    def exact(self, p):
        """Return q of parameters."""
        parts = zip(rational(p), rational(self.family.origin), self.shift.tolist(), strict=True)
        return [(x - o) / fmpq(2) ** s for x, o, s in parts]

    def reach(self, ends):
        """Return how far a box may grow, in its half-widths; None: for ever."""
        low, high = map(self.exact, ends)
        middle = [(x + y) / 2 for x, y in zip(low, high, strict=True)]
        half = [(y - x) / 2 for x, y in zip(low, high, strict=True)]
        found = []
        for form in self.forms:
            value, width = abs(form.at(middle)), form.width(half)
            if value == 0:
                return ZERO
            found += [value / width] if width else []
        return min(found, default=None)

    def is_singular(self, ends):
        """Tell whether a matrix of a closed box is singular."""
        reach = self.reach(ends)
        return reach is not None and reach <= 1

    def matrix(self, p):
        """Return the entries of the matrix of parameters, of complex ones embedded."""
        p = [x - o for x, o in zip(rational(p), rational(self.family.origin), strict=True)]
        total = None
        for e, C in zip(self.exponents, embedded(self.family.coefficients), strict=True):
            weight = math.prod((x**a for x, a in zip(p, e, strict=True)), start=ONE)
            part = [weight * v for v in rational(C)]
            total = part if total is None else [u + v for u, v in zip(total, part, strict=True)]
        return total


def a_box(rng, known):
    """Return a box of parameters, next to one that touches a singular matrix as often as not."""
    k, family = known.family.n_parameters, known.family
    middle = rng.randint(-24, 25, k) / 8 if rng.randint(2) else 3 * rng.standard_normal(k)
    half = 10.0 ** -rng.uniform(-1, 6) * rng.uniform(size=k) * (rng.uniform(size=k) < 0.9)

    def ends():
        pair = (np.ldexp(middle + s * half, known.shift) + family.origin for s in (-1, 1))
        return tuple(pair)

    reach = known.reach(ends())
    if reach and rng.randint(3):
        share = 1 + rng.choice([-1, -1, 1]) * 10.0 ** -rng.uniform(0, 17)
        half = half * min(float(reach.p) / float(reach.q) * share, 1e9)
    return ends()


def a_question(rng):
    """Return a family, a box, settings, the mode, and the kind."""
    kind, mode = str(rng.choice(KINDS)), str(rng.choice(MODES))
    known = Known(rng, kind)
    settings = {"max_boxes": int(rng.choice([1, 10, 60, 200]))}
    settings["max_time"] = [None, None, 0.0, 0.003][rng.randint(4)]
    return known, a_box(rng, known), settings, mode, kind


def attack_certificates(score, rng, m):
    """Look for singular matrices in boxes that are certified, and for regular ones refuted."""
    for _ in range(m):
        known, ends, settings, mode, kind = a_question(rng)
        family, singular = f"family: {kind}", known.is_singular(ends)
        with flushed(mode == "flush"):
            found = family_certificate(
                known.family, *ends, rtol=rng.choice([0.1, 0.5, 1]), **settings
            )
        inside = bool(((ends[0] <= found.witness) & (found.witness <= ends[1])).all())
        points = [found.witness] if inside else []
        points += itertools.islice(itertools.product(*zip(*ends, strict=True)), 4)
        points += [np.clip(rng.uniform(*ends), *ends) for _ in range(2)]
        margin = number(found.margin)
        bad = {
            "a box with a singular matrix is certified": found.is_certified and singular,
            "a regular box is called singular": found.status == "singular" and not singular,
            "a margin without a certificate": margin > 0 and not found.is_certified,
            "margins are in no order": not 0 <= found.margin <= found.margin_upper,
            # Where subnormal numbers are flushed it is zero instead of one.
            "the witness is outside": mode == "gradual" and not inside,
            "a matrix is nearer to a singular one": margin > 0
            and not all(sigma_at_least(known.matrix(np.array(p)), margin) for p in points),
        }
        for what in (what for what, wrong in bad.items() if wrong):
            data = {"ends": ends, "C": known.family.coefficients, "e": known.exponents, **found}
            score.violation(family, mode, what, origin=known.family.origin, **data)
        score.add(family, mode, 1, int(found.is_certified))


def attack_boxes(score, rng, m):
    """Compare the largest boxes with how far these may grow."""
    for _ in range(m):
        known, ends, settings, mode, kind = a_question(rng)
        family, reach = f"regular box: {kind}", known.reach(ends)
        with flushed(mode == "flush"):
            found = largest_regular_box(known.family, *ends, rtol=0.05, **settings)
        scale, proof = number(found.scale), found.certificate
        low, high, lower, upper = map(rational, (*ends, proof.lower, proof.upper))
        middle = [(x + y) / 2 for x, y in zip(low, high, strict=True)]
        half = [(y - x) / 2 for x, y in zip(low, high, strict=True)]
        widths = [(abs(c), h) for c, h in zip(middle, half, strict=True) if h]
        room = ROUNDING + max(((ROUNDING * c + LEAST) / h for c, h in widths), default=ZERO)
        bad = {
            "a box with a singular matrix is certified": proof.is_certified
            and known.is_singular((proof.lower, proof.upper)),
            "a scale is too large": scale > 0 and reach is not None and scale >= reach,
            "a scale of no certificate": scale > 0 and not proof.is_certified,
            "a certificate of a smaller box": not all(
                a <= c - scale * h and c + scale * h <= b
                for a, b, c, h in zip(lower, upper, middle, half, strict=True)
            ),
            "a scale is called singular that is not": math.isfinite(found.scale_upper)
            and (reach is None or number(found.scale_upper) * (1 + room) + room < reach),
            "not as near as is said": found.status == "converged"
            and found.scale < 0.949999 * found.scale_upper,
        }
        for what in (what for what, wrong in bad.items() if wrong):
            data = {"ends": ends, "C": known.family.coefficients, "e": known.exponents, **found}
            data |= {"origin": known.family.origin, "reach": str(reach)}
            score.violation(family, mode, what, **data)
        score.add(family, mode, 1, int(found.scale > 0))


# -- models over slices ----------------------------------------------------------------------------

_NETWORKS = {}


def a_model(rng, kind, center, directions, samples):
    """Return a fitted model of a slice, and the slice, which is another one of networks."""
    k = len(directions)
    if kind == "series":
        return LinearInverseApprox(center, order=int(rng.randint(1, 4))).fit(), center, directions
    if kind == "affine":
        return LinearInverseApprox(method="lstsq").fit(samples), center, directions
    if kind == "polynomial":
        model = PolynomialInverseApprox(int(rng.randint(1, 4)), k, on_extrapolation="keep")
        return model.fit(samples), center, directions
    activation, inner = str(rng.choice(["relu", "silu", "tanh"])), [None, "auto"][rng.randint(2)]
    key = activation, inner, len(center), k
    if key not in _NETWORKS:
        model = NeuralInverseRegressor(
            4,
            activation,
            n_components=inner,
            baseline="affine",
            on_extrapolation="keep",
            max_iter=3,
            random_state=0,
            device="cpu",
            dtype="float64",
        )
        _NETWORKS[key] = model.fit(samples), center, directions
    return _NETWORKS[key]


def a_slice(rng, kind):
    """Return a model, a centre, and directions, real or complex, in some unit."""
    n, k = int(rng.randint(1, 4)), int(rng.randint(1, 3))
    center = rng.standard_normal((n, n)) + rng.choice([3.0, 3.0, 0.5]) * np.eye(n)
    directions = rng.standard_normal((k, n, n)) * 10.0 ** -rng.uniform(0.3, 4) / k
    if kind != "network":
        own = rng.choice([0, 0, 0, 1]) * rng.randint(-20, 21, (2, n))
        unit = np.ldexp(1.0, np.add.outer(*own) + rng.choice(UNITS))
        center, directions = center * unit, directions * unit
        if kind in ("series", "polynomial") and rng.randint(8) == 0:
            center, directions = center + 0.5j * center.T, directions + 0.5j * directions[:, ::-1]
    z = rng.uniform(-1, 1, (30 + 30 * k, k))
    samples = center + np.tensordot(z, directions, 1)
    model, center, directions = a_model(rng, kind, center, directions, samples)
    if kind == "network":  # a part of what it was fitted to
        shift = rng.uniform(-0.5, 0.5, k)
        center = center + np.tensordot(shift, directions, 1)
        directions = directions * 10.0 ** -rng.uniform(0, 3)
    return model, center, directions


def found_points(rng, model, center, directions, error):
    """Return corners, random points, and some at which errors are large in floating point."""
    k, n = len(directions), len(center)

    def errors(z):
        A = center + np.tensordot(z, directions, 1)
        with np.errstate(all="ignore"):
            X = np.asarray(model.predict(A)).reshape(A.shape)
            off = np.eye(n) - A @ X
            off = off if error == "residual" else np.linalg.solve(A, off)
            return np.nan_to_num(np.abs(off).max(axis=(1, 2)), nan=0.0, posinf=0.0)

    z = np.array([*itertools.product((-1.0, 1.0), repeat=k), *rng.uniform(-1, 1, (4, k))])
    best, step = rng.uniform(-1, 1, (30, k)), 0.5
    try:
        for _ in range(8):
            best = best[np.argsort(errors(best))[-6:]]
            more = np.repeat(best, 4, axis=0) + step * rng.standard_normal((24, k))
            best, step = np.clip(np.concatenate([best, more]), -1, 1), step / 2
        best = best[np.argsort(errors(best))[-3:]]
    except np.linalg.LinAlgError:
        best = best[:3]
    return np.concatenate([z, best])


def error_at(form, a, A, error):
    """Return a ball with an error of a model; of a singular matrix that of entries is infinite."""
    if error == "residual":
        return balls.residual(form, a, A)
    try:
        inverse = balls.row(A.inv().entries())
    except ZeroDivisionError:
        return arb("+inf")
    gaps = [abs(v) for v in (balls.outputs(form, a) - inverse).entries()]
    return max(gaps, key=lambda gap: gap.mid())


def attack_slices(score, rng, m):
    """Compare errors over slices, and off these, with exact ones."""
    for _ in range(m):
        kind = str(rng.choice(["series", "affine", "polynomial", "network"]))
        mode, error = str(rng.choice(MODES)), str(rng.choice(["entries", "residual"]))
        family = f"slice: {error} of {kind}"
        settings = {"max_boxes": int(rng.choice([1, 8, 64])), "error": error}
        settings["max_time"] = [None, None, 0.0, 0.005][rng.randint(4)]
        try:
            model, center, directions = a_slice(rng, kind)
            radius = 0.0
            if error == "residual" and rng.randint(2):
                size = np.abs(center) * 10.0 ** -rng.uniform(1, 9)
                radius = size if rng.randint(2) else float(size.min())
            with flushed(mode == "flush"):
                found = certify_region(
                    model, center, 0.3, directions=directions, radius=radius, **settings
                )
        except ValueError as refusal:
            score.refused(family, mode, 1, refusal)
            continue
        points, form = found_points(rng, model, center, directions, error), model._model_form()
        if np.iscomplexobj(center):
            center, directions = embed_complex(center), embed_complex(directions)
            radius = np.tile(radius, (2, 2)) if np.ndim(radius) else radius
        bad = {"bounds are in no order": not 0 <= found.lower <= found.upper}
        with ctx.workprec(300):
            least, most = arb(found.lower), arb(found.upper)
            if math.isfinite(found.upper):
                off = radius * rng.choice([-1.0, 1.0], (len(points), *center.shape))
                bad["an error is larger"] = any(
                    error_at(form, *balls.at(center, directions, z, e), error) > most
                    for z, e in zip(points, off, strict=True)
                )
            if found.lower > 0:
                here = balls.row(found.witness), balls.matrix(found.witness)
                bad["the witness errs by less"] = error_at(form, *here, error) < least
        away, reach = np.abs(found.witness - center), np.abs(directions).sum(axis=0)
        room = 4 * np.finfo(float).eps * (np.abs(center) + reach)
        room = room + (mode == "flush") * np.finfo(float).tiny  # of what is flushed to zero
        bad["the witness is outside"] = (away > reach + room).any()
        for what in (what for what, wrong in bad.items() if wrong):
            data = {"model": repr(model), "center": center, "directions": directions}
            score.violation(family, mode, what, radius=radius, **data, **found)
        score.add(family, mode, 1, int(math.isfinite(found.upper)))


ATTACKS = {
    "family": (attack_certificates, 3500, 25),
    "regular box": (attack_boxes, 1000, 25),
    "slice": (attack_slices, 2000, 20),
}
