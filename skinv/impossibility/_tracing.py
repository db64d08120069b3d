"""The graph of operations of a torch module, traced by torch.fx for inputs of one shape."""

import inspect
import operator
from collections.abc import Callable
from functools import partialmethod
from typing import Any

import torch
from torch import nn

from ._functions import operate
from ._rules import find_rule
from ._state import to_double
from ._values import HOW_TO


class _Tracer(torch.fx.Tracer):
    """Stops at every module that has a rule, and at torch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return find_rule(m) is not None or super().is_leaf_module(m, module_qualified_name)


class _ShapedProxy(torch.fx.Proxy):
    """Stands for a tensor while a module is traced, and knows its shape."""

    def record(self, function: Any, other: Any) -> Any:
        """Return what a function of this and something else gives."""
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __len__(self) -> int:
        return len(self.node.meta["value"])

    def __getattr__(self, name: str) -> Any:
        if name in _OF_SHAPE:
            return getattr(self.node.meta["value"], name)
        return _ShapedAttribute(self, name)


_OF_SHAPE = ("shape", "ndim", "dtype", "device", "size", "dim", "numel")


class _ShapedAttribute(torch.fx.proxy.Attribute, _ShapedProxy):
    """Stands for an attribute of such a tensor, or a method until it is called."""


# In-place operators, which torch.fx would take for those that make a new tensor.
IN_PLACE = {getattr(operator, name) for name in torch.fx.graph.inplace_methods} - {operator.setitem}
for _function in IN_PLACE:
    _method = partialmethod(_ShapedProxy.record, _function)
    setattr(_ShapedProxy, f"__{_function.__name__}__", _method)


class ShapedTracer(_Tracer):
    """Traces for inputs of one shape: what forward does depending on shapes, it does."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape  # without the batch, which is of one
        self.running = False

    def proxy(self, node: Any) -> Any:
        return _ShapedProxy(node, self)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        node = super().create_node(kind, target, *args, **kwargs)
        if kind == "placeholder" and len(self.graph.nodes) == 1:
            node.meta["value"] = torch.zeros((1, *self.shape), dtype=torch.float64)
        elif kind != "output":
            if kind == "call_module":
                layer = self.root.get_submodule(target)
                if find_rule(layer) is None and type(layer) is not nn.MultiheadAttention:
                    raise ValueError(
                        f"There is no rule for {type(layer).__name__}, module {target!r}. {HOW_TO}"
                    )
            given = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["value"])
            self.running = True
            try:
                node.meta["value"] = concrete(node, *given, self.root)
            finally:
                self.running = False
        return node

    # torch.fx puts these two in the place of a module's own while it traces.

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if self.running:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if self.running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def as_leaf(module: nn.Module) -> nn.Module:
    """Put a module that is not looked into inside one that is."""
    return nn.Sequential(module) if _Tracer().is_leaf_module(module, "") else module


def trace(module: nn.Module, tracer: _Tracer) -> torch.fx.Graph:
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
    except (torch.fx.proxy.TraceError, NotImplementedError, RecursionError) as exception:
        raise ValueError(
            f"The forward method of {type(module).__name__} cannot be traced by torch.fx: "
            f"{exception}. {HOW_TO}"
        ) from exception


def first_input(module: nn.Module) -> tuple[int, ...]:
    """Return the shape that the module's first layer asks for, if that is a linear one."""
    try:
        graph = trace(module, _Tracer())
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


def concrete(node: Any, args: Any, kwargs: Any, module: nn.Module) -> Any:
    """Run one operation of the graph on tensors, numbers and whatever else there is."""
    if node.op == "placeholder":  # a further argument of forward, at its default
        return args[0] if args else None
    if node.op == "get_attr":
        found = operator.attrgetter(node.target)(module)
        return to_double(found) if torch.is_tensor(found) else found
    if node.op == "call_module":
        return module.get_submodule(node.target)(*args, **kwargs)
    return operate(node.target, args, kwargs)


def run(graph: torch.fx.Graph, first: Any, step: Callable[[Any, Any, Any], Any]) -> Any:
    """Return what a graph makes of its first argument, by a step(node, args, kwargs) each."""
    values: dict[Any, Any] = {}
    for node in graph.nodes:
        if node.target is operator.getitem and not node.users:
            continue  # a part of a tuple that nothing uses
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "output":
            return args[0]
        entry = node.op == "placeholder" and not values
        values[node] = first if entry else step(node, args, kwargs)
