"""Why no network inverts everywhere: certificates, failure distances, counterexamples, moments."""

from typing import Any

from ._calculus import add, compose, concatenate, multiply, residual, scale
from ._certificates import PolynomialLipschitz, constant, elementwise, identity, lipschitz
from ._counterexample import counterexample
from ._failure import failure_distance
from ._models import polynomial_lipschitz
from ._moments import truncated_moments

__all__ = [
    "PolynomialLipschitz",
    "add",
    "compose",
    "concatenate",
    "constant",
    "counterexample",
    "elementwise",
    "failure_distance",
    "identity",
    "lipschitz",
    "multiply",
    "polynomial_lipschitz",
    "register_rule",
    "residual",
    "scale",
    "truncated_moments",
]


def __getattr__(name: str) -> Any:
    if name == "register_rule":  # needs torch
        from ._rules import register_rule

        return register_rule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
