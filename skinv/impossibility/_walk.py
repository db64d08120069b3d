"""polynomial_lipschitz: from a torch module to its certificate, along its graph of operations."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import nn

from ..geometry._distance import check_norm
from ._calculus import PolynomialLipschitz, compose, constant, identity, vector_norm
from ._functions import (
    HOW_TO,
    Value,
    at_zero,
    call_function,
    certificate_of_value,
    is_view,
    known,
    leaves,
)
from ._rules import VIEWS, array, find_rule
from ._second_look import check
from ._sequences import ACTIVATION_FUNCTIONS, attention, tokens
from ._tracing import ShapedTracer, as_leaf, concrete, exact_copy, first_input, trace


def walk(module: nn.Module, norm: str, input_shape: Any = None) -> PolynomialLipschitz:
    """Return the certificate of a torch module; see :func:`polynomial_lipschitz`.

    Parameters
    ----------
    module : torch.nn.Module
    norm : {"l1", "l2", "linf"}
    input_shape : int or tuple of int, default=None
        Without the batch.

    Returns
    -------
    PolynomialLipschitz

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> nn.init.eye_(layer.weight), nn.init.zeros_(layer.bias)
    (...)
    >>> walk(nn.Sequential(layer, nn.ReLU()), "l1")
    PolynomialLipschitz(P=1, B=t, norm='l1')
    """
    check_norm(norm)
    name = type(module).__name__
    module = exact_copy(module)
    if type(module) is nn.MultiheadAttention:
        module = _SelfAttention(module)
    module = as_leaf(module)
    if input_shape is None:
        shape = first_input(module)
    else:
        try:
            shape = tuple(map(operator.index, np.atleast_1d(np.asarray(input_shape, dtype=object))))
        except TypeError as exception:
            raise ValueError(
                f"Got input_shape={input_shape!r}, but integers are expected: the shape of one "
                f"input, without the batch."
            ) from exception
        if min(shape, default=1) < 1:
            raise ValueError(f"Got input_shape={input_shape!r}, but sizes are positive.")
    # What is drawn at random, if anything is, does not come from the global generator.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            graph = trace(module, ShapedTracer(shape))
            result = _follow(graph, module, norm, shape)
            if isinstance(result, Value):
                certificate = result.certificate
            elif torch.is_tensor(result):
                certificate = constant(vector_norm(array(result), norm), norm)
            else:
                raise ValueError(
                    f"Got a module whose forward returns a {type(result).__name__}, but a tensor "
                    f"is expected, or a tuple that starts with one."
                )
            check(module, graph, shape, certificate)
        except (RuntimeError, IndexError, TypeError, AttributeError) as exception:
            raise ValueError(
                f"{name} fails on a float64 input of shape {(1, *shape)}: {exception}. Pass the "
                f"right input_shape, without the batch, and cast no tensors to other precisions."
            ) from exception
    return certificate


class _SelfAttention(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x)[0]


def _follow(graph: torch.fx.Graph, module: nn.Module, norm: str, shape: tuple[int, ...]) -> Any:
    """Return what the graph returns, as a Value, or a constant."""
    values: dict[Any, Any] = {}
    for node in graph.nodes:
        if node.target is operator.getitem and not node.users:
            continue  # a part of a tuple that nothing uses
        _refuse_mutation(node, module)
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "placeholder" and not values:
            zero = torch.zeros((1, *shape), dtype=torch.float64)
            values[node] = Value(identity(norm), zero)
        elif node.op == "output":
            result = args[0]
            while isinstance(result, (tuple, list)) and result:
                result = result[0]  # a recurrent network: outputs, then states
            return result
        elif not _depends((args, kwargs)):
            values[node] = concrete(node, module, args, kwargs)
        elif node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            values[node] = _call_module(layer, node.target, args, kwargs, norm)
        else:
            values[node] = call_function(node.target, args, kwargs, norm)
    raise AssertionError("a graph has an output")


def _refuse_mutation(node: Any, module: nn.Module) -> None:
    """Raise where an operation changes a tensor that is used elsewhere too."""
    changes = bool(node.kwargs.get("inplace", False))
    if node.op == "call_module":
        changes = getattr(module.get_submodule(str(node.target)), "inplace", False)
    elif node.target in ACTIVATION_FUNCTIONS and len(node.args) > 1:
        changes = bool(node.args[1])  # relu(x, True)
    if changes and not _used_once(node.args[0], module):
        raise ValueError(
            f"Got an operation in place, {node.target!r}, on a tensor that is used elsewhere too, "
            f"or shares its memory; write it out of place."
        )


def _used_once(node: Any, module: nn.Module) -> bool:
    """Tell whether nothing else sees a node's tensor, nor that of which it is a view."""
    if not isinstance(node, torch.fx.Node):
        return True
    if len(node.users) > 1:
        return False
    view = is_view(node.target)
    if node.op == "call_module":
        view = isinstance(module.get_submodule(str(node.target)), VIEWS)
    return not view or _used_once(node.args[0], module)


# Arguments of modules beside the input: constant masks take terms of attention away.
_ARGUMENTS = {
    "src", "mask", "src_mask", "src_key_padding_mask", "is_causal", "input", "attn_mask",
    "key_padding_mask", "need_weights", "average_attn_weights", "query", "key", "value", "hx",
}  # fmt: skip


def _call_module(layer: nn.Module, name: Any, args: Any, kwargs: Any, norm: str) -> Any:
    attends = isinstance(layer, nn.MultiheadAttention)
    inputs = ("query", "key", "value") if attends else ("input", "src")
    given = list(args[: 3 if attends else 1]) + [kwargs[k] for k in inputs if k in kwargs]
    further = args[3 if attends else 1 :]
    others = [*further, *(v for k, v in kwargs.items() if k not in inputs)]
    recurrent = isinstance(layer, nn.RNN | nn.LSTM)  # the rule is for states that start at zero
    allowed = _all_zero(others) if recurrent else attends or not further
    if not allowed or not kwargs.keys() <= _ARGUMENTS or _depends(others):
        raise ValueError(
            f"{type(layer).__name__}, module {name!r}, is given several arguments, but its rule "
            f"knows of the input only, and of constant masks. {HOW_TO}"
        )
    zero = layer(*at_zero(args), **at_zero(kwargs))
    if isinstance(layer, nn.MultiheadAttention):
        query, key, value = (certificate_of_value(v, norm) for v in given)
        queries, keys = (tokens(layer, tuple(at_zero(v).shape)) for v in given[:2])
        return known(attention(layer, query, key, value, queries, keys), zero[0]), None
    rule = find_rule(layer)
    assert rule is not None  # the tracer has refused what has none
    return _composed(rule(layer, given[0].shape, norm), given[0], zero)


def _depends(nested: Any) -> bool:
    """Tell whether anything in nested arguments depends on the input."""
    return any(isinstance(v, Value) for v in leaves(nested))


def _all_zero(nested: Any) -> bool:
    return not any(bool(at_zero(v).any()) for v in leaves(nested) if v is not None)


def _composed(local: Any, inner: Value, zero: Any) -> Any:
    """Compose the certificates of a module's outputs, one or nested, with that of its input."""
    if isinstance(local, tuple):
        return tuple(_composed(part, inner, z) for part, z in zip(local, zero, strict=True))
    return known(compose(local, inner.certificate), zero)
