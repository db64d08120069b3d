"""Fuzzing of the calculus of certificates."""

import numpy as np
import torch
from strategies import JUNK, REFUSED, attempt

from fuzzing.common import entry
from skinv import (
    impossibility,
)


def coefficients(c):
    """Return a number, coefficients, a polynomial, or none of these."""
    if c.slips(4):
        return c.of(c.number, *JUNK)
    some = np.abs(c.rng.standard_normal(c.of(1, 2, 3)))
    with np.errstate(all="ignore"):
        some = some * c.rather((1, 1, 1, 1e300, 1e-300), (-1, np.nan, np.inf))
    kinds = some, some.tolist(), tuple(some), np.polynomial.Polynomial(some), some[0]
    return [some] if c.slips(6) else c.of(*kinds)


def certificates(c, k):
    """Return certificates, mostly in one norm; now and then something else."""
    norm = c.of("l1", "l2", "linf")
    simple = impossibility.identity(norm), impossibility.lipschitz(2.0, 1.0, norm)
    other = impossibility.identity("l1"), impossibility.constant(1e300, norm)
    square = impossibility.PolynomialLipschitz([0, 2], [0, 0, 1], norm)
    right = [*simple, square, square]
    return [c.rather(right, [*other, c.of(*JUNK)]) for _ in range(k)]


def check_certificate(found, norm=None):
    """Check that coefficients are those of bounds."""
    assert isinstance(found, impossibility.PolynomialLipschitz)
    for polynomial in (found.P, found.B):
        assert np.isfinite(polynomial.coef).all()
        assert (polynomial.coef >= 0).all()
    assert found.degree >= 0
    assert repr(found)


def fuzz_calculus(name, arguments):
    """Return an entry of a function that returns a certificate."""

    def fuzz(c):
        args, kwargs = arguments(c)
        found = attempt(getattr(impossibility, name), *args, **kwargs)
        if found is not REFUSED:
            check_certificate(found)

    entry(f"impossibility.{name}")(fuzz)


def a_norm(c):
    return c.choice("l2", "l1", "linf")


fuzz_calculus("PolynomialLipschitz", lambda c: ([coefficients(c), coefficients(c), a_norm(c)], {}))


fuzz_calculus("identity", lambda c: ([a_norm(c)], {}))


fuzz_calculus("constant", lambda c: ([c.number(), a_norm(c)], {}))


fuzz_calculus(
    "lipschitz",
    lambda c: ([coefficients(c), c.number(), a_norm(c)], c.options(magnitude=[coefficients(c)])),
)


fuzz_calculus("elementwise", lambda c: ([coefficients(c), c.number(), c.count(), a_norm(c)], {}))


fuzz_calculus("compose", lambda c: (certificates(c, 2), {}))


fuzz_calculus("concatenate", lambda c: (certificates(c, c.of(0, 1, 2, 3)), {}))


fuzz_calculus("add", lambda c: (certificates(c, c.of(0, 1, 2, 3)), {}))


fuzz_calculus("residual", lambda c: (certificates(c, 1), {}))


fuzz_calculus("scale", lambda c: ([*certificates(c, 1), c.number()], {}))


fuzz_calculus("multiply", lambda c: (certificates(c, 2), c.options(factor=[c.number])))


class Mystery(torch.nn.Module):
    """A module of which only rules that are registered say anything."""

    def forward(self, x):
        return x.sin()


@entry("impossibility.register_rule")
def fuzz_register_rule(c):
    types = [c.rather((Mystery,), (int, "ReLU", None, torch.nn.ReLU(), *JUNK)) for _ in range(2)]
    decorate = attempt(impossibility.register_rule, *types, refused=(TypeError,))
    if decorate is REFUSED:
        return
    right = impossibility.lipschitz(1.0)
    answer = c.rather((right,), (None, "P", 1.0, impossibility.identity("l1"), [right]))

    def rule(module, shape, norm):
        return answer

    assert decorate(rule) is rule
    found = attempt(impossibility.polynomial_lipschitz, Mystery(), input_shape=(4,))
    assert found is REFUSED or answer is right
