"""polynomial_lipschitz: from a torch module to its certificate, along its graph of operations."""

import math
import operator
import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from .._arrays.words import Norm
from ._calculus import compose
from ._certificates import PolynomialLipschitz, constant, lipschitz, vector_norm
from ._coefficients import evaluated
from ._functions import call_function
from ._rules import ACTIVATION_FUNCTIONS, array, rule_of
from ._sequences import attention, tokens
from ._state import Watch, exact_copy, fingerprint, leaves, refuse_changes, shares_memory, tensors
from ._tracing import IN_PLACE, ShapedTracer, as_leaf, concrete, first_input, run, trace
from ._values import HOW_TO, Value, certificate_of_value, computed, depends, followed


def walk(
    module: nn.Module, norm: Norm, input_shape: Any = None, center: Any = None
) -> PolynomialLipschitz:
    """Return the certificate of a torch module, of h ↦ f(center + h); see polynomial_lipschitz."""
    name = type(module).__name__
    # What is drawn at random, if anything is, does not come from the global generator.
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # of torch, on what forward does
        module = exact_copy(module)
        if type(module) is nn.MultiheadAttention:
            module = _SelfAttention(module)
        module = as_leaf(module)
        before = fingerprint(module)
        shape = first_input(module) if input_shape is None else _checked_shape(input_shape)
        x = torch.zeros((1, *shape), dtype=torch.float64)
        if center is not None:
            x += torch.as_tensor(center, dtype=torch.float64).reshape(shape)
        size = vector_norm(array(x), norm)
        given = Value(lipschitz(1.0, size, norm), x)
        try:
            with Watch():
                graph = trace(module, ShapedTracer(shape))
                refuse_changes(module, before)
                found = _follow(graph, module, norm, given)
                if center is None:
                    _check(module, graph, shape, found)
            refuse_changes(module, before)
        except (RuntimeError, LookupError, TypeError, AttributeError, AssertionError) as exception:
            raise ValueError(
                f"{name} fails on a float64 input of shape {(1, *shape)}: {exception}. Pass the "
                f"right input_shape, without the batch, and cast no tensors to other precisions."
            ) from exception
    return found.certificate


def _checked_shape(input_shape: Any) -> tuple[int, ...]:
    try:
        shape = tuple(map(operator.index, np.atleast_1d(np.asarray(input_shape, dtype=object))))
    except TypeError as exception:
        raise ValueError(
            f"Got input_shape={input_shape!r}, but integers are expected: the shape of one "
            f"input, without the batch."
        ) from exception
    if min(shape, default=1) < 1:
        raise ValueError(f"Got input_shape={input_shape!r}, but sizes are positive.")
    return shape


class _SelfAttention(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x)[0]


def _follow(graph: torch.fx.Graph, module: nn.Module, norm: Norm, given: Value) -> Value:
    """Return what the graph returns, as a map of the input."""

    def step(node: Any, args: Any, kwargs: Any) -> Any:
        _refuse_mutation(node, module)
        if not depends((args, kwargs)):
            return concrete(node, args, kwargs, module)
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            return _call_module(layer, node.target, args, kwargs, norm)
        return call_function(node.target, args, kwargs, norm)

    result = run(graph, given, step)
    while isinstance(result, (tuple, list)) and result:
        result = result[0]  # a recurrent network: outputs, then states
    if torch.is_tensor(result):
        result = Value(constant(vector_norm(array(result), norm), norm), result.double())
    if not isinstance(result, Value):
        raise ValueError(
            f"Got a module whose forward returns a {type(result).__name__}, but a tensor is "
            f"expected, or a tuple that starts with one."
        )
    return result


def _refuse_mutation(node: Any, module: nn.Module) -> None:
    """Raise where an operation changes a tensor that is used elsewhere too."""
    changes = bool(node.kwargs.get("inplace", False)) or node.target in IN_PLACE
    if node.op == "call_module":
        changes = getattr(module.get_submodule(str(node.target)), "inplace", False)
    elif node.target in ACTIVATION_FUNCTIONS and len(node.args) > 1:
        changes = bool(node.args[1])  # relu(x, True)
    if changes and not all(map(_used_once, [*node.args[:1], *node.kwargs.values()])):
        raise ValueError(
            f"Got an operation in place, {node.target!r}, on a tensor that is used elsewhere too, "
            f"or shares its memory; write it out of place."
        )


def _used_once(node: Any) -> bool:
    """Tell whether nothing else sees a node's tensor, nor any in whose memory it is."""
    if not isinstance(node, torch.fx.Node):
        return True
    mine = node.meta["value"]
    sources = [n for n in node.all_input_nodes if shares_memory(mine, n.meta["value"])]
    return len(node.users) == 1 and all(map(_used_once, sources))


# Arguments of modules beside the input: constant masks take terms of attention away.
_ARGUMENTS = {
    "src", "mask", "src_mask", "src_key_padding_mask", "is_causal", "input", "attn_mask",
    "key_padding_mask", "need_weights", "average_attn_weights", "query", "key", "value", "hx",
}  # fmt: skip


def _call_module(layer: nn.Module, name: Any, args: Any, kwargs: Any, norm: Norm) -> Any:
    attends = isinstance(layer, nn.MultiheadAttention)
    inputs = ("query", "key", "value") if attends else ("input", "src")
    n = 3 if attends else 1
    given = [*args[:n], *(kwargs[k] for k in inputs if k in kwargs)]
    others = [*args[n:], *(v for k, v in kwargs.items() if k not in inputs)]
    if isinstance(layer, nn.RNN | nn.LSTM):  # the rule is for states that start at zero
        allowed = not any(array(computed(v)).any() for v in leaves(others) if v is not None)
    else:
        allowed = attends or len(args) <= n
    if not allowed or not kwargs.keys() <= _ARGUMENTS or depends(others):
        raise ValueError(
            f"{type(layer).__name__}, module {name!r}, is given several arguments, but its rule "
            f"knows of the input only, and of constant masks. {HOW_TO}"
        )
    at = layer(*computed(args), **computed(kwargs))
    if isinstance(layer, nn.MultiheadAttention):
        queries, keys = (tokens(layer, tuple(computed(v).shape)) for v in given[:2])

        def rule(operands: Any) -> PolynomialLipschitz:
            certificates = [certificate_of_value(v, norm) for v in operands]
            return attention(layer, certificates, queries, keys)

        return followed(rule, given, at[0], one_step=False), None
    rule_of_layer = rule_of(layer)
    one_step = rule_of_layer.__module__ == rule_of.__module__  # not a sequence, nor a user's

    def composed(local: PolynomialLipschitz, at: Any) -> Value:
        return followed(lambda v: compose(local, v.certificate), given[0], at, one_step)

    local = rule_of_layer(layer, tuple(given[0].at.shape), norm)  # of each output, as nested as at
    return torch.utils._pytree.tree_map(composed, local, at)


# -- a second look at a certificate: the module itself, on a few inputs ----------------------------


def _check(module: nn.Module, graph: torch.fx.Graph, shape: tuple[int, ...], value: Value) -> None:
    """Compare graph and certificate with the module itself on a few inputs, or raise.

    A graph does not show everything that Python does, and a rule of a user may be wrong. This is
    no proof of anything; it catches gross errors, beyond the rounding of values.
    """
    certificate, rounding = value.certificate, value.error if math.isfinite(value.error) else 0.0
    generator = torch.Generator().manual_seed(0)
    name = type(module).__name__

    def size(tensor: torch.Tensor) -> float:
        return vector_norm(array(tensor), certificate.norm)

    points = [
        scale * torch.randn((1, *shape), generator=generator, dtype=torch.float64)
        for scale in (0.0, 0.01, 0.1, 1.0, 1.0, 10.0, 100.0)
    ]
    found = []
    for x in points:
        expected, repeated = (tensors(module(x.clone())) for _ in range(2))
        traced = tensors(run(graph, x.clone(), partial(concrete, module=module)))
        for a, b, c in zip(expected, repeated, traced, strict=True):
            if not (_close(a, b) and _close(a, c)):
                raise ValueError(
                    f"The graph that torch.fx makes of {name} computes something else than its "
                    f"forward method, which may change tensors in place, branch, draw at random or "
                    f"remember. {HOW_TO}"
                )
        found.append(expected[0])
    _refuse_mixing(module, points[3:5], found[3:5])
    # Where a value overflows the bound is no smaller.
    pairs = [(x, fx) for x, fx in zip(points, found, strict=True) if fx.isfinite().all()]
    for i, (x, fx) in enumerate(pairs):
        noise = 1e-12 * size(fx) + 4 * rounding
        held = size(fx) <= evaluated(certificate.B, size(x)) * (1 + 1e-9) + noise + 1e-300
        for y, fy in pairs[:i]:
            P = evaluated(certificate.P, max(size(x), size(y)))
            held &= size(fx - fy) <= P * size(x - y) * (1 + 1e-9) + noise
        if not held:
            raise ValueError(
                f"The certificate {certificate} does not hold for {name}: a registered rule is "
                f"wrong, or forward does what its graph does not show."
            )


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, 1e-9, 1e-12, equal_nan=True)


def _refuse_mixing(module: nn.Module, points: list, found: list) -> None:
    """Raise if a batch of two gives something else than its samples one by one."""
    try:
        both = tensors(module(torch.cat(points)))[0]
    except (RuntimeError, ValueError, IndexError):
        return  # made for a batch of one
    if not _close(both, torch.cat(found)):
        raise ValueError(
            f"Got a {type(module).__name__} that treats the samples of a batch together, so that "
            f"it is no function of one input. Recurrent and attention layers with "
            f"batch_first=False take the first axis for the sequence."
        )
