"""Fuzzing of families of matrices, and of proofs over boxes of their parameters."""

import numpy as np
from strategies import REFUSED, Given, attempt

from fuzzing.certified import FAMILIES_OF, NO_FAMILIES, garbage
from fuzzing.common import EPS, embedded, entry, smallest_singular_value
from skinv import geometry


def a_family(c):
    """Return a family that may be made of anything, or REFUSED."""
    n, m = c.of(1, 2, 2, 3), c.of(1, 2, 2, 3)
    C = c.matrices(n, m, layouts=("stack",), calm=True)
    k = c.of(m - 1, m - 1, 1, 2)
    exponents = None
    if c.one_in(2):
        exponents = c.rather((c.rng.randint(0, 3, (m, k)),), ([[-1]], [[0.5]], "p", [], 1, [[99]]))
    origin = c.rather((None, None, [0.5] * k), ("far", [np.nan] * k, [[0.0]], 1j))
    return attempt(geometry.ParametricFamily, C, exponents, origin)


def a_box(c, k):
    """Return the ends of a box of k parameters, mostly."""
    if c.slips(6):
        return c.of((None, [1.0]), ([0.0], "end"), ([1.0] * k, [0.0] * k), ([np.inf] * k,) * 2)
    k = k + c.slips(8)
    low = c.of(0.3, 1.0, 1.0, 1e-300, 1e300) * c.rng.uniform(-1, 1, k)
    width = c.of(0.0, 0.1, 0.5) * c.rng.uniform(0, 1, k) * np.abs(low).max(initial=0.1)
    ends = [c.dtyped(end, ["f8", "f8", "f8", "f4", "O"]) for end in (low, low + width)]
    return tuple(Given(c.contained(end, frames=False), end) for end in ends)


def limits(c):
    options = {"max_time": c.rather((1.0, None), (-1, "long")), "max_boxes": c.count(9)}
    return options | c.options(rtol=(0.1, 1, c.number(0.5, 1.0)))


def check_box(family, found, rng):
    """Hold a certificate against members of the family."""
    assert found.is_certified or found.margin == 0
    assert 0 <= found.margin <= found.margin_upper
    assert (found.lower <= found.upper).all()
    if not found.is_certified:
        return
    P = rng.uniform(found.lower, found.upper, (6, family.n_parameters))
    with np.errstate(all="ignore"):
        members = family(np.clip(P, found.lower, found.upper))
        sizes = np.abs(family.coefficients).max(axis=(1, 2))
        far = np.abs(P - family.origin) + np.abs(P) + np.abs(family.origin)
        reach = np.prod(far[:, None, :] ** family.exponents, axis=2) @ sizes
    for M, size in zip(members, reach, strict=True):
        if np.isfinite(M).all() and size < np.inf:
            low = smallest_singular_value(embedded(M))
            assert low >= found.margin * (1 - 1e-9) - 64 * len(M) ** 2 * EPS * size - 1e-300


@entry("geometry.family_certificate")
def fuzz_family_certificate(c):
    family = a_family(c)
    if family is REFUSED:
        family = c.of(None, "family", geometry.ParametricFamily([np.eye(2), np.ones((2, 2))]))
    box = a_box(c, getattr(family, "n_parameters", 1))
    found = attempt(geometry.family_certificate, family, *box, **limits(c))
    if found is not REFUSED:
        check_box(family, found, c.rng)


@entry("geometry.largest_regular_box")
def fuzz_largest_regular_box(c):
    family = a_family(c)
    if family is REFUSED:
        return
    box = a_box(c, family.n_parameters)
    found = attempt(geometry.largest_regular_box, family, *box, **limits(c))
    if found is not REFUSED:
        assert 0 <= found.scale <= min(found.scale_upper, 1024)
        check_box(family, found.certificate, c.rng)


@entry("geometry.ParametricFamily.from_function")
def fuzz_from_function(c):
    kind = c.rather(FAMILIES_OF, NO_FAMILIES)
    degree = c.rather((1, 2, np.int64(3)), (-1, 0.5, "2", None, 99))
    arguments = garbage(kind), *a_box(c, c.of(1, 2)), degree
    family = attempt(geometry.ParametricFamily.from_function, *arguments, random_state=c.seed())
    if family is not REFUSED:
        assert kind not in ("nan", *NO_FAMILIES)
        assert family.assumed
        assert (family.deviation >= 0).all()
