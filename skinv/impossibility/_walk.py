"""polynomial_lipschitz: from a torch module to its certificate, along its graph of operations."""

from __future__ import annotations

import builtins
import copy
import inspect
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ._calculus import (
    PolynomialLipschitz,
    add,
    check_norm,
    compose,
    concatenate,
    constant,
    identity,
    lipschitz,
    multiply,
    repetition,
    scale,
    tighter,
    vector_norm,
)
from ._rules import UP, activation, affine, array, find_rule, induced_norm, softmax
from ._sequences import ACTIVATION_FUNCTIONS, attention, length, weighted_values

_HOW_TO = (
    "Register a rule for it, or for a module around it: "
    "@skinv.impossibility.register_rule(YourModule), on a function rule(module, shape, norm) that "
    "returns a PolynomialLipschitz."
)


@dataclass(frozen=True)
class _Value:
    """A tensor of the graph: its certificate as a map of the input, its value for the input 0."""

    certificate: PolynomialLipschitz
    zero: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.zero.shape)


def walk(module: nn.Module, norm: str, input_shape: Any = None) -> PolynomialLipschitz:
    """Return the certificate of a torch module; see :func:`polynomial_lipschitz`.

    Parameters
    ----------
    module : torch.nn.Module
    norm : {"l1", "l2", "linf"}
    input_shape : tuple of int, default=None
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
    module = _exact_copy(module)
    if isinstance(module, nn.MultiheadAttention):
        module = _SelfAttention(module)
    else:
        module = _as_leaf(module)
    _refuse_hooks(module)
    graph = _trace(module)
    shape = _first_input(module, graph) if input_shape is None else tuple(input_shape)
    values: dict[Any, Any] = {}
    with torch.no_grad():
        try:
            for node in graph.nodes:
                if node.op not in ("placeholder", "output") and not node.users:
                    continue  # a part of a tuple that nothing uses
                _refuse_mutation(node, module)
                values[node] = _evaluate(node, module, values, norm, shape)
        except (RuntimeError, IndexError) as exception:
            raise ValueError(
                f"{type(module).__name__} fails on an input of shape {(1, *shape)}: {exception}. "
                f"Pass the right input_shape, without the batch."
            ) from exception
        _check_trace(module, graph, shape)
    result = values[next(node for node in graph.nodes if node.op == "output")]
    while isinstance(result, (tuple, list)):  # a recurrent network: outputs, then states
        result = result[0]
    if not isinstance(result, _Value):
        return constant(vector_norm(array(torch.as_tensor(result)), norm), norm)
    return result.certificate


def input_features(module: nn.Module) -> int:
    """Return the number of features that a module's first layer asks for.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If that is not a linear layer.

    Examples
    --------
    >>> input_features(nn.Sequential(nn.Linear(9, 2), nn.ReLU()))
    9
    """
    module = _as_leaf(module)
    return math.prod(_first_input(module, _trace(module)))


def _exact_copy(module: nn.Module) -> nn.Module:
    """Return a copy in float64, on the host, in evaluation mode."""
    try:
        return copy.deepcopy(module).double().cpu().eval()
    except RuntimeError as exception:
        raise ValueError(
            f"Got a {type(module).__name__} that cannot be copied ({exception}); weight_norm and "
            f"spectral_norm can be in their newer form, torch.nn.utils.parametrizations."
        ) from exception


def _check_trace(module: nn.Module, graph: torch.fx.Graph, shape: tuple[int, ...]) -> None:
    """Compare the graph with the module itself: a graph does not show everything Python does."""
    traced = torch.fx.GraphModule(module, graph)
    generator = torch.Generator().manual_seed(0)
    for size in (0.1, 1.0, 10.0):
        x = size * torch.randn((1, *shape), generator=generator, dtype=torch.float64)
        for a, b in zip(_leaves(module(x.clone())), _leaves(traced(x.clone())), strict=True):
            if torch.is_tensor(a) and not torch.allclose(a, b, 1e-9, 1e-12, equal_nan=True):
                raise ValueError(
                    f"The graph that torch.fx makes of {type(module).__name__} computes something "
                    f"else than its forward method, which may change tensors in place, branch or "
                    f"draw at random. {_HOW_TO}"
                )


class _SelfAttention(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x)[0]


class _Tracer(torch.fx.Tracer):
    """Stops at every module that has a rule, and at torch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return find_rule(m) is not None or super().is_leaf_module(m, module_qualified_name)


def _as_leaf(module: nn.Module) -> nn.Module:
    """Put a module that is not looked into inside one that is."""
    return nn.Sequential(module) if _Tracer().is_leaf_module(module, "") else module


def _refuse_hooks(module: nn.Module) -> None:
    """Hooks may change what a module returns; torch's own ones before it only set weights."""
    for name, child in module.named_modules():
        before = child._forward_pre_hooks.values()
        if child._forward_hooks or any(
            not type(hook).__module__.startswith("torch.nn.utils") for hook in before
        ):
            raise ValueError(
                f"Got a {type(child).__name__}, module {name!r}, with hooks, which may change its "
                f"values; remove them, or make them part of forward."
            )


def _trace(module: nn.Module) -> torch.fx.Graph:
    """Trace forward as a function of its first argument, the others at their defaults."""
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        return _Tracer().trace(module, concrete_args=defaults)
    except Exception as exception:
        raise ValueError(
            f"The forward method of {type(module).__name__} cannot be traced by torch.fx: "
            f"{exception}. {_HOW_TO}"
        ) from exception


def _first_input(module: nn.Module, graph: torch.fx.Graph) -> tuple[int, ...]:
    """Return the shape that the module's first layer asks for, if that is a linear one."""
    placeholder = next(node for node in graph.nodes if node.op == "placeholder")
    for node in placeholder.users:
        layer = module.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, nn.Linear):
            return (layer.in_features,)
    raise ValueError(
        f"The input shape of {type(module).__name__} cannot be told from its first layer: pass "
        f"input_shape, without the batch, for instance (4,) for rows of 2 × 2 matrices."
    )


def _evaluate(
    node: Any, module: nn.Module, values: dict[Any, Any], norm: str, shape: tuple[int, ...]
) -> Any:
    """Return what a node stands for: a _Value, nested tuples of them, or a constant."""
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    if node.op == "placeholder":
        if values:  # a further argument of forward, left at its default
            return node.args[0] if node.args else None
        return _Value(identity(norm), torch.zeros((1, *shape), dtype=torch.float64))
    if node.op == "output":
        return args[0]
    if node.op == "get_attr":
        found: Any = module
        for name in node.target.split("."):
            found = getattr(found, name)
        return found.double() if torch.is_tensor(found) and found.is_floating_point() else found
    if node.op == "call_module":
        return _call_module(module.get_submodule(node.target), node.target, args, kwargs, norm)
    if not any(isinstance(v, _Value) for v in _leaves((args, kwargs))):
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)
    return _call_function(node.target, args, kwargs, norm)


def _refuse_mutation(node: Any, module: nn.Module) -> None:
    """Raise where an operation changes a tensor that is used elsewhere too."""
    changes = node.kwargs.get("inplace", False) or node.target in _IN_PLACE
    if node.op == "call_module":
        changes = getattr(module.get_submodule(node.target), "inplace", False)
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
    views = node.target in _MOVES or node.target in (operator.getitem, builtins.getattr)
    if node.op == "call_module":
        views = isinstance(module.get_submodule(str(node.target)), _VIEWS)
    return not views or _used_once(node.args[0], module)


def _leaves(nested: Any) -> list[Any]:
    if isinstance(nested, (tuple, list)):
        return [leaf for item in nested for leaf in _leaves(item)]
    if isinstance(nested, dict):
        return _leaves(list(nested.values()))
    return [nested]


def _at_zero(nested: Any) -> Any:
    return torch.fx.node.map_aggregate(nested, lambda v: v.zero if isinstance(v, _Value) else v)


def _known(certificate: PolynomialLipschitz, zero: torch.Tensor) -> _Value:
    """Return a value, with the better of two bounds: the rule's, and ‖f(0)‖ + t P(t)."""
    norm = certificate.norm
    at_zero = vector_norm(array(zero), norm) * UP
    B = tighter(certificate.B, lipschitz(certificate.P, at_zero, norm).B)
    return _Value(PolynomialLipschitz(certificate.P, B, norm), zero)


# Arguments of encoder layers beside the input: they only take terms of attention away.
_MASKS = {"src", "mask", "src_mask", "src_key_padding_mask", "is_causal", "input"}


def _call_module(layer: nn.Module, name: str, args: Any, kwargs: Any, norm: str) -> Any:
    if isinstance(layer, nn.MultiheadAttention):
        given = [*args, *(kwargs[k] for k in ("query", "key", "value") if k in kwargs)][:3]
        zero = layer(*_at_zero(args), **_at_zero(kwargs))[0]
        query, key, value = (_certificate(v, norm) for v in given)
        n_queries, n_keys = (length(layer, tuple(_at_zero(v).shape)) for v in given[:2])
        return _known(attention(layer, query, key, value, n_queries, n_keys), zero), None
    rule = find_rule(layer)
    if rule is None:
        raise ValueError(f"There is no rule for {type(layer).__name__}, module {name!r}. {_HOW_TO}")
    inputs = [v for v in _leaves((args, kwargs)) if isinstance(v, _Value)]
    if not inputs:
        return layer(*args, **kwargs)
    if len(inputs) != 1 or len(args) > 1 or not kwargs.keys() <= _MASKS:
        raise ValueError(
            f"{type(layer).__name__}, module {name!r}, is given several arguments, but its rule is "
            f"for one. {_HOW_TO}"
        )
    local = rule(layer, inputs[0].shape, norm)
    return _composed(local, inputs[0], layer(*_at_zero(args), **_at_zero(kwargs)))


def _composed(local: Any, inner: _Value, zero: Any) -> Any:
    """Compose the certificates of a module's outputs, one or nested, with that of its input."""
    if isinstance(local, tuple):
        return tuple(_composed(part, inner, z) for part, z in zip(local, zero, strict=True))
    return _known(compose(local, inner.certificate), zero)


def _certificate(value: Any, norm: str, shape: Any = None) -> PolynomialLipschitz:
    """Return the certificate of a value or a constant, repeated to a shape by broadcasting."""
    zero = value.zero if isinstance(value, _Value) else torch.as_tensor(value).double()
    times = 1.0 if shape is None else math.prod(shape) / max(zero.numel(), 1)
    if not isinstance(value, _Value):
        return constant(vector_norm(array(zero), norm) * repetition(times, norm) * UP, norm)
    return scale(value.certificate, repetition(times, norm))


# -- functions -------------------------------------------------------------------------------------

_METHODS: dict[str, Any] = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
# They move entries or leave some out, and repeat none.
_MOVES = {
    torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze,
    torch.swapaxes, torch.chunk, torch.split, torch.unbind, torch.movedim, torch.t, torch.clone,
    "flatten", "reshape", "view", "transpose", "permute", "squeeze", "unsqueeze", "swapaxes",
    "chunk", "split", "unbind", "movedim", "t", "contiguous", "clone", "unflatten",
}  # fmt: skip
# They return their input or a view of it.
_VIEWS = (nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)
_IN_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul}
_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
_CASTS = ("float", "double")
_FIGURES = ("size", "dim", "numel", "ndimension")


def _call_function(target: Any, args: Any, kwargs: Any, norm: str) -> Any:
    """Return the value of a function or method of tensors."""
    first = args[0]
    if target is builtins.getattr:
        if args[1] in ("T", "mT"):
            return _Value(first.certificate, getattr(first.zero, args[1]))
        return getattr(first.zero, args[1])
    if target is operator.getitem:
        return _item(*args)
    if target in _FIGURES:
        return getattr(first.zero, target)(*args[1:], **kwargs)
    if target in _CASTS or target in _DROPOUTS:
        return first
    function = _METHODS.get(target, target)
    if function in ACTIVATION_FUNCTIONS:
        name = ACTIVATION_FUNCTIONS[function]
        if kwargs.get("approximate") == "tanh":
            name = "gelu_tanh"
        local = activation(name, first.zero.numel(), norm)
        options = {key: value for key, value in kwargs.items() if key != "inplace"}
        return _known(compose(local, first.certificate), function(first.zero, **options))
    if target in _MOVES:
        zero = _run(target, args, kwargs)
        return _moved(first.certificate, zero)
    rule = _RULES.get(target)
    if rule is None:
        name = target if isinstance(target, str) else getattr(target, "__name__", repr(target))
        raise ValueError(f"There is no rule for the function {name!r} of tensors. {_HOW_TO}")
    zero = _run(target, args, kwargs)
    return _known(rule(norm, zero, *args, **kwargs), zero)


def _run(target: Any, args: Any, kwargs: Any) -> Any:
    args, kwargs = _at_zero(args), _at_zero(kwargs)
    target = _IN_PLACE.get(target, target)
    if isinstance(target, str):
        return getattr(args[0], target)(*args[1:], **kwargs)
    return target(*args, **kwargs)


def _moved(certificate: PolynomialLipschitz, zero: Any) -> Any:
    if isinstance(zero, (tuple, list)):
        return tuple(_moved(certificate, part) for part in zero)
    return _Value(certificate, zero)


def _item(value: Any, index: Any) -> Any:
    if not isinstance(value, _Value):
        found = value[index]
        if found is None:
            raise ValueError(
                "The weights that MultiheadAttention returns beside its output have no rule."
            )
        return found
    parts = index if isinstance(index, tuple) else (index,)
    if not all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in parts):
        raise ValueError(
            f"Got a tensor indexed by {index!r}, which may repeat entries; only integers, slices, "
            f"None and ... have a rule. {_HOW_TO}"
        )
    return _Value(value.certificate, value.zero[index])


def _sum(norm: str, zero: torch.Tensor, a: Any, b: Any, *, alpha: float = 1) -> PolynomialLipschitz:
    second = scale(_certificate(b, norm, zero.shape), abs(alpha))
    return add(_certificate(a, norm, zero.shape), second)


def _negative(norm: str, zero: torch.Tensor, a: Any) -> PolynomialLipschitz:
    return a.certificate


def _limited(norm: str, zero: torch.Tensor, a: Any, *args: Any, **kwargs: Any) -> Any:
    # |u| and clipping between constants have no slope beyond 1.
    if any(isinstance(v, _Value) for v in _leaves((args, kwargs))):
        raise ValueError(
            "Got clamp with limits that depend on the input; only constants have a rule."
        )
    return lipschitz(a.certificate.P, vector_norm(array(zero), norm) * UP, norm)


def _product(norm: str, zero: torch.Tensor, a: Any, b: Any) -> PolynomialLipschitz:
    if isinstance(a, _Value) and isinstance(b, _Value):
        first, second = (_certificate(v, norm, zero.shape) for v in (a, b))
        return multiply(first, second)
    if not isinstance(a, _Value):
        a, b = b, a
    factor = vector_norm(array(torch.as_tensor(b)), "linf")
    return scale(_certificate(a, norm, zero.shape), factor)


def _quotient(norm: str, zero: torch.Tensor, a: Any, b: Any) -> PolynomialLipschitz:
    if isinstance(b, _Value):
        raise ValueError(
            "Got a division by something that depends on the input, which is not polynomially "
            "Lipschitz where the divisor can be 0."
        )
    return _product(norm, zero, a, 1 / torch.as_tensor(b, dtype=torch.float64))


def _power(norm: str, zero: torch.Tensor, a: Any, k: Any = 2) -> PolynomialLipschitz:
    # |uᵏ − vᵏ| ≤ k t^(k−1) |u − v|, and Σ|uᵢ|ᵏ ≤ (Σ|uᵢ|)ᵏ: ‖uᵏ‖ ≤ ‖u‖ᵏ in all three norms.
    if not isinstance(a, _Value) or isinstance(k, _Value) or k != int(k) or k < 1:
        raise ValueError(f"Got a power with exponent {k!r}, but rules are for 1, 2, 3, ... only.")
    k = int(k)
    local = lipschitz([0.0] * (k - 1) + [k], norm=norm, magnitude=[0.0] * k + [1.0])
    return compose(local, a.certificate)


def _matmul(norm: str, zero: torch.Tensor, a: Any, b: Any) -> PolynomialLipschitz:
    left, right = (_at_zero(v) for v in (a, b))
    terms = left.shape[-1] if norm == "linf" else 1.0
    if isinstance(a, _Value) and isinstance(b, _Value):
        # A factor that is broadcast over a batch of the other counts once for each.
        first, second = (
            scale(v.certificate, repetition(_batches(zero, v.zero), norm)) for v in (a, b)
        )
        return multiply(first, second, terms)
    # A x for a constant A has the norm of A, x A that of Aᵀ; stacks take the largest of theirs.
    value, W = (a, right) if isinstance(a, _Value) else (b, left)
    matrices = array(W).reshape(-1, *W.shape[-2:]) if W.ndim > 1 else array(W)[None, None, :]
    if isinstance(a, _Value) and W.ndim > 1:
        matrices = matrices.transpose(0, 2, 1)
    factor = max(induced_norm(M, norm) for M in matrices)
    times = _batches(zero, value.zero)
    return scale(value.certificate, factor * repetition(times, norm))


def _batches(zero: torch.Tensor, factor: torch.Tensor) -> float:
    """Return how often broadcasting repeats a factor of a matrix product."""
    return max(math.prod(zero.shape[:-2]) / max(math.prod(factor.shape[:-2]), 1), 1.0)


def _joined(norm: str, zero: torch.Tensor, tensors: Any, dim: int = 0) -> PolynomialLipschitz:
    return concatenate(*(_certificate(v, norm) for v in tensors))


def _softmax(norm: str, zero: torch.Tensor, a: Any, dim: int = -1, **_: Any) -> PolynomialLipschitz:
    return compose(softmax(zero.numel(), zero.shape[dim], norm), a.certificate)


def _summed(norm: str, zero: torch.Tensor, a: Any, *_: Any, **__: Any) -> PolynomialLipschitz:
    # Each sum of m entries: |Σuᵢ| ≤ Σ|uᵢ|, √m ‖u‖₂, m max|uᵢ|.
    terms = a.zero.numel() / max(zero.numel(), 1)
    return scale(a.certificate, terms / repetition(terms, norm))


def _mean(norm: str, zero: torch.Tensor, a: Any, *_: Any, **__: Any) -> PolynomialLipschitz:
    terms = a.zero.numel() / max(zero.numel(), 1)
    return scale(_summed(norm, zero, a), 1 / terms)


def _linear(norm: str, zero: torch.Tensor, a: Any, W: Any, b: Any = None) -> PolynomialLipschitz:
    if isinstance(W, _Value) or isinstance(b, _Value):
        raise ValueError("Got a linear layer whose weights depend on the input; use matmul and +.")
    times = zero.numel() // zero.shape[-1]
    return compose(affine(induced_norm(W, norm), b, times, norm), a.certificate)


def _dot_product_attention(
    norm: str, zero: torch.Tensor, query: Any, key: Any, value: Any, *_: Any, **kwargs: Any
) -> PolynomialLipschitz:
    d = query.zero.shape[-1]
    factor = kwargs.get("scale") or 1 / math.sqrt(d)
    scores = multiply(query.certificate, key.certificate, d if norm == "linf" else 1.0)
    return weighted_values(scale(scores, factor), value.certificate, query.zero.shape[-2])


_RULES: dict[Any, Callable[..., PolynomialLipschitz]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add"), _sum),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub"), _sum),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), _negative),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul"), _product),
    **dict.fromkeys((operator.truediv, torch.div, "div"), _quotient),
    **dict.fromkeys((operator.pow, torch.pow, torch.square, "pow", "square"), _power),
    **dict.fromkeys((operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm"), _matmul),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate, torch.stack), _joined),
    **dict.fromkeys((torch.softmax, F.softmax, "softmax"), _softmax),
    **dict.fromkeys((torch.sum, "sum"), _summed),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((torch.abs, builtins.abs, operator.abs, "abs"), _limited),
    **dict.fromkeys((torch.clamp, torch.clip, "clamp", "clip"), _limited),
    F.linear: _linear,
    F.scaled_dot_product_attention: _dot_product_attention,
}
