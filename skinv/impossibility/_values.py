"""Values of a graph: tensors that depend on the input, and what is known of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from .._arrays.words import Norm
from ._calculus import scale, tighter
from ._certificates import PolynomialLipschitz, constant, lipschitz, repetition, vector_norm
from ._coefficients import DUST, product, total
from ._rules import array
from ._state import leaves

HOW_TO = (
    "Register a rule for it, or for a module around it: "
    "@skinv.impossibility.register_rule(YourModule), on a function rule(module, shape, norm) that "
    "returns a PolynomialLipschitz."
)


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its certificate as a map of the input, and its value at one input."""

    certificate: PolynomialLipschitz  # of h ↦ f(c + h), with the input c of the graph
    at: torch.Tensor  # f(c) as torch computes it, in float64
    error: float = 0.0  # bound of the norm of `at` − f(c); inf where none is known

    def __post_init__(self) -> None:
        if self.at.dtype != torch.float64:
            raise ValueError(
                f"Got a {self.at.dtype} tensor that depends on the input, but everything is "
                f"followed in float64: cast no tensors to other precisions, integers or booleans."
            )


def depends(nested: Any) -> bool:
    """Tell whether anything in nested arguments depends on the input."""
    return any(isinstance(v, Value) for v in leaves(nested))


def mapped(function: Callable[[Value], Any], nested: Any) -> Any:
    """Return nested arguments with a function applied to each value in them."""
    return torch.fx.node.map_aggregate(nested, lambda v: function(v) if isinstance(v, Value) else v)


def computed(nested: Any) -> Any:
    """Replace values by the tensors that torch computes."""
    return mapped(lambda v: v.at, nested)


# Rounding of one operation: each entry of its result, from exact operands, is off by at most u
# times their number times the sum of absolute values of what is added up; |W| has at most √n times
# the norm of W. What underflows is far below DUST.
def _rounding(n: int) -> float:
    return 1e-14 * max(n, 1) ** 1.5


def _blurred(value: Value) -> Value:
    """Return a value as a function on [0, 1], from what was computed to what is exact."""
    size = total(vector_norm(array(value.at), value.certificate.norm), value.error)
    error = total(value.error, product(_rounding(value.at.numel()), size), DUST)
    path = PolynomialLipschitz(error, total(size, error), value.certificate.norm)
    return replace(value, certificate=path)


def followed(
    rule: Callable[[Any], PolynomialLipschitz], args: Any, at: Any, one_step: bool = True
) -> Value:
    """Return the value of an operation, by the rule for its certificate from its arguments.

    The rule gives a bound of rounding too: as it maps certificates of operands to that of the
    result, it maps the path from computed operands to exact ones to that of the results, and bounds
    its length. For operations of several steps (not `one_step`) nothing is known of it.
    """
    certificate, error = rule(args), math.inf
    if one_step:
        try:
            path = rule(mapped(_blurred, args))
            local = product(_rounding(at.numel()), float(path.B.coef[0]))
            error = total(float(path.P.coef[0]), local, DUST)
        except ValueError:
            pass  # beyond the range of float64, or not known
    # The better of two bounds: the rule's, and ‖f(c)‖ + t P(t).
    norm = certificate.norm
    size = vector_norm(array(at), norm) + error
    if math.isfinite(size):
        B = tighter(certificate.B, lipschitz(certificate.P, total(size), norm).B)
        certificate = PolynomialLipschitz(certificate.P, B, norm)
    return Value(certificate, at, error)


def certificate_of_value(value: Any, norm: Norm, shape: Any = None) -> PolynomialLipschitz:
    """Return the certificate of a value or a constant, repeated to a shape by broadcasting."""
    at = value.at if isinstance(value, Value) else array(value)
    times = 1.0 if shape is None else math.prod(shape) / max(math.prod(at.shape), 1)
    if isinstance(value, Value):
        return scale(value.certificate, repetition(times, norm))
    size = product(vector_norm(at, norm), repetition(times, norm))
    if not math.isfinite(size):
        raise ValueError(
            "Got a constant with NaN or infinity in a sum or product; write masks with torch's own "
            "attention, or with large finite numbers."
        )
    return constant(size, norm)
