"""polynomial_lipschitz: from a torch module to its certificate, along its graph of operations."""

from __future__ import annotations

import copy
import inspect
import math
import operator
from typing import Any

import numpy as np
import torch
from torch import nn

from ._calculus import PolynomialLipschitz, check_norm, compose, constant, identity, vector_norm
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
from ._sequences import ACTIVATION_FUNCTIONS, attention, tokens


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
    module = _exact_copy(module)
    if type(module) is nn.MultiheadAttention:
        module = _SelfAttention(module)
    module = _as_leaf(module)
    if input_shape is None:
        shape = _first_input(module)
    else:
        shape = tuple(int(n) for n in np.atleast_1d(np.asarray(input_shape)))
    # What is drawn at random, if anything is, does not come from the global generator.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            graph = _trace(module, _ShapedTracer(shape))
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
            _check(module, graph, shape, certificate)
        except (RuntimeError, IndexError, TypeError, AttributeError) as exception:
            raise ValueError(
                f"{name} fails on a float64 input of shape {(1, *shape)}: {exception}. Pass the "
                f"right input_shape, without the batch, and cast no tensors to other precisions."
            ) from exception
    return certificate


def _exact_copy(module: nn.Module) -> nn.Module:
    """Return a copy in float64, on the host, in evaluation mode."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("Got a compiled ScriptModule; pass the module that it was made from.")
    module = getattr(module, "_orig_mod", module)  # of torch.compile
    if isinstance(module, nn.DataParallel):
        module = module.module
    for name, child in module.named_modules():
        if isinstance(child, nn.modules.lazy.LazyModuleMixin):
            raise ValueError(f"Got a module with uninitialized parts ({name!r}); call it once.")
        if child._forward_hooks or child._forward_pre_hooks:
            raise ValueError(
                f"Got a {type(child).__name__}, module {name!r}, with hooks, which may change its "
                f"weights or values; make them part of forward, remove pruning for good "
                f"(torch.nn.utils.prune.remove), and use torch.nn.utils.parametrizations."
            )
    try:
        return copy.deepcopy(module).double().cpu().eval()
    except (RuntimeError, NotImplementedError) as exception:
        raise ValueError(
            f"Got a {type(module).__name__} that cannot be copied: {exception} Call it under "
            f"torch.no_grad(), so that no tensors of a former call with gradients are kept."
        ) from exception


class _SelfAttention(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x)[0]


# -- the graph -------------------------------------------------------------------------------------


class _Tracer(torch.fx.Tracer):
    """Stops at every module that has a rule, and at torch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return find_rule(m) is not None or super().is_leaf_module(m, module_qualified_name)


class _ShapedProxy(torch.fx.Proxy):
    """Stands for a tensor while a module is traced, and knows its shape."""

    @property
    def _zero(self) -> Any:
        return self.node.meta["zero"]

    @property
    def shape(self) -> Any:
        return self._zero.shape

    @property
    def ndim(self) -> int:
        return self._zero.ndim

    @property
    def dtype(self) -> Any:
        return self._zero.dtype

    @property
    def device(self) -> Any:
        return self._zero.device

    def size(self, dim: int | None = None) -> Any:
        return self._zero.shape if dim is None else self._zero.shape[dim]

    def dim(self) -> int:
        return self._zero.ndim

    def numel(self) -> int:
        return self._zero.numel()

    def __len__(self) -> int:
        return len(self._zero)


class _ShapedTracer(_Tracer):
    """Traces for inputs of one shape: what forward does depending on shapes, it does."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.entered = False
        self.running = False

    def proxy(self, node: Any) -> Any:
        return _ShapedProxy(node, self)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        node = super().create_node(kind, target, *args, **kwargs)
        if kind == "placeholder" and not self.entered:
            self.entered = True
            node.meta["zero"] = torch.zeros((1, *self.shape), dtype=torch.float64)
        elif kind != "output":
            if kind == "call_module":
                _refuse_unknown(self.root.get_submodule(target), target)
            given = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["zero"])
            self.running = True
            try:
                node.meta["zero"] = _concrete(node, self.root, *given)
            finally:
                self.running = False
        return node

    # torch.fx puts these two in the place of a module's own while it traces.

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return (
            forward(*args, **kwargs)
            if self.running
            else super().call_module(m, forward, args, kwargs)
        )

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if self.running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _as_leaf(module: nn.Module) -> nn.Module:
    """Put a module that is not looked into inside one that is."""
    return nn.Sequential(module) if _Tracer().is_leaf_module(module, "") else module


def _trace(module: nn.Module, tracer: _Tracer) -> torch.fx.Graph:
    """Trace forward as a function of its first argument, the others at their defaults."""
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p.name for p in parameters if p.name not in defaults and p.kind not in variable]
    if named:
        raise ValueError(
            f"Got a {type(module).__name__} whose forward takes {', '.join(named)} beside its "
            f"input, but one argument is expected; wrap it."
        )
    try:
        return tracer.trace(module, concrete_args=defaults)
    except (torch.fx.proxy.TraceError, NotImplementedError) as exception:
        raise ValueError(
            f"The forward method of {type(module).__name__} cannot be traced by torch.fx: "
            f"{exception}. {HOW_TO}"
        ) from exception


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
    return math.prod(_first_input(_as_leaf(module)))


def _first_input(module: nn.Module) -> tuple[int, ...]:
    """Return the shape that the module's first layer asks for, if that is a linear one."""
    try:
        graph = _trace(module, _Tracer())
        placeholder = next(node for node in graph.nodes if node.op == "placeholder")
        for node in placeholder.users:
            layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(layer, nn.Linear):
                return (layer.in_features,)
    except (RuntimeError, TypeError, AttributeError, ValueError):
        pass  # what forward does depends on the shape
    raise ValueError(
        f"The input shape of {type(module).__name__} cannot be told from its first layer: pass "
        f"input_shape, without the batch, for instance (4,) for rows of 2 × 2 matrices."
    )


# -- along the graph -------------------------------------------------------------------------------


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
        elif node.op == "call_module" and any(isinstance(v, Value) for v in leaves((args, kwargs))):
            layer = module.get_submodule(str(node.target))
            values[node] = _call_module(layer, node.target, args, kwargs, norm)
        elif any(isinstance(v, Value) for v in leaves((args, kwargs))):
            values[node] = call_function(node.target, args, kwargs, norm)
        else:
            values[node] = _concrete(node, module, args, kwargs)
    raise AssertionError("a graph has an output")


def _concrete(node: Any, module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Run one operation of the graph on tensors, numbers and whatever else there is."""
    if node.op == "placeholder":  # a further argument of forward, at its default
        return args[0] if args else None
    if node.op == "get_attr":
        found: Any = module
        for name in node.target.split("."):
            found = getattr(found, name)
        return found.double() if torch.is_tensor(found) and found.is_floating_point() else found
    if node.op == "call_module":
        return module.get_submodule(node.target)(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


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


def _refuse_unknown(layer: nn.Module, name: Any) -> None:
    if find_rule(layer) is None and type(layer) is not nn.MultiheadAttention:
        raise ValueError(f"There is no rule for {type(layer).__name__}, module {name!r}. {HOW_TO}")


def _call_module(layer: nn.Module, name: Any, args: Any, kwargs: Any, norm: str) -> Any:
    several = type(layer) is nn.MultiheadAttention
    given = list(args[: 3 if several else 1])
    others = {**kwargs, **dict(enumerate(args[len(given) :]))}
    if several:
        given += [others.pop(k) for k in ("query", "key", "value") if k in others]
    else:
        given += [others.pop(k) for k in ("input", "src") if k in others]
    if any(isinstance(v, Value) for v in leaves(others)) or not kwargs.keys() <= _ARGUMENTS:
        raise ValueError(
            f"{type(layer).__name__}, module {name!r}, is given more than its rule knows of: "
            f"{', '.join(map(str, others))}. {HOW_TO}"
        )
    zeros = isinstance(layer, nn.RNN | nn.LSTM) and not any(
        bool(torch.as_tensor(v).any()) for v in leaves(others)
    )
    if not several and len(args) > 1 and not zeros:
        raise ValueError(
            f"{type(layer).__name__}, module {name!r}, is given several arguments, but its rule is "
            f"for one. {HOW_TO}"
        )
    zero = layer(*at_zero(args), **at_zero(kwargs))
    if isinstance(layer, nn.MultiheadAttention):
        query, key, value = (certificate_of_value(v, norm) for v in given)
        queries, keys = (tokens(layer, tuple(at_zero(v).shape)) for v in given[:2])
        return known(attention(layer, query, key, value, queries, keys), zero[0]), None
    rule = find_rule(layer)
    assert rule is not None  # as _refuse_unknown has seen
    return _composed(rule(layer, given[0].shape, norm), given[0], zero)


def _composed(local: Any, inner: Value, zero: Any) -> Any:
    """Compose the certificates of a module's outputs, one or nested, with that of its input."""
    if isinstance(local, tuple):
        return tuple(_composed(part, inner, z) for part, z in zip(local, zero, strict=True))
    return known(compose(local, inner.certificate), zero)


# -- a second look ---------------------------------------------------------------------------------


def _check(
    module: nn.Module, graph: torch.fx.Graph, shape: tuple[int, ...], certificate: Any
) -> None:
    """Compare graph and certificate with the module itself on a few inputs.

    A graph does not show everything that Python does, and a rule of a user may be wrong. This is
    no proof of anything; it catches gross errors.
    """
    generator = torch.Generator().manual_seed(0)
    name = type(module).__name__
    before = {key: buffer.clone() for key, buffer in module.named_buffers()}
    order = {"l1": 1, "l2": 2, "linf": torch.inf}[certificate.norm]

    def size(tensor: torch.Tensor) -> float:
        largest = tensor.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
        return float(largest * torch.linalg.vector_norm((tensor / largest).flatten(), order))

    points = [
        scale * torch.randn((1, *shape), generator=generator, dtype=torch.float64)
        for scale in (0.0, 0.01, 0.1, 1.0, 1.0, 10.0, 100.0)
    ]
    found = []
    for x in points:
        expected = [v for v in leaves(module(x.clone())) if torch.is_tensor(v)]
        repeated = [v for v in leaves(module(x.clone())) if torch.is_tensor(v)]
        traced = [v for v in leaves(_run(graph, module, x.clone())) if torch.is_tensor(v)]
        for a, b, c in zip(expected, repeated, traced, strict=True):
            if not (_close(a, b) and _close(a, c)):
                raise ValueError(
                    f"The graph that torch.fx makes of {name} computes something else than its "
                    f"forward method, which may change tensors in place, branch, draw at random or "
                    f"remember. {HOW_TO}"
                )
        found.append(expected[0])
    if any(not torch.equal(buffer, before[key]) for key, buffer in module.named_buffers()):
        raise ValueError(f"Got a {name} that changes its buffers when it is called.")
    _refuse_mixing(module, points[3:5], found[3:5])
    for i, (x, fx) in enumerate(zip(points, found, strict=True)):
        if not fx.isfinite().all():  # overflow: the bound is no smaller
            continue
        held = size(fx) <= float(certificate.B(size(x))) * (1 + 1e-9) + 1e-300
        for y, fy in zip(points[:i], found[:i], strict=True):
            if not fy.isfinite().all():
                continue
            P = float(certificate.P(max(size(x), size(y))))
            held &= size(fx - fy) <= P * size(x - y) * (1 + 1e-9) + 1e-12 * size(fx)
        if not held:
            raise ValueError(
                f"The certificate {certificate} does not hold for {name}: a registered rule is "
                f"wrong, or forward does what its graph does not show."
            )


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, 1e-9, 1e-12, equal_nan=True)


def _run(graph: torch.fx.Graph, module: nn.Module, x: torch.Tensor) -> Any:
    """Run the graph on a tensor."""
    values: dict[Any, Any] = {}
    for node in graph.nodes:
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "output":
            return args[0]
        first = node.op == "placeholder" and not values
        values[node] = x if first else _concrete(node, module, args, kwargs)
    raise AssertionError("a graph has an output")


def _refuse_mixing(
    module: nn.Module, points: list[torch.Tensor], found: list[torch.Tensor]
) -> None:
    """Raise if a batch of two gives something else than its samples one by one."""
    try:
        both = next(v for v in leaves(module(torch.cat(points))) if torch.is_tensor(v))
    except (RuntimeError, ValueError, IndexError):
        return  # made for a batch of one
    if not _close(both, torch.cat(found)):
        raise ValueError(
            f"Got a {type(module).__name__} that treats the samples of a batch together, so that "
            f"it is no function of one input. Recurrent and attention layers with "
            f"batch_first=False take the first axis for the sequence."
        )
