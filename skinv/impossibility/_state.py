"""What a module holds: its exact copy in float64, and whether a call changes anything of it."""

import copy
import types
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from .._arrays.conversion import as_double

REMEMBERS = (
    "which is no function of its input alone if it remembers: keep forward from storing or "
    "changing anything but what it computes."
)


def to_double(tensor: Any) -> Any:
    """Return a floating-point tensor in float64 on the host, with subnormals; others as is."""
    tensor = tensor.cpu()
    if not tensor.is_floating_point():
        return tensor
    return as_double(tensor) if tensor.layout == torch.strided else tensor.double()


def exact_copy(module: nn.Module) -> nn.Module:
    """Return a copy in float64, on the host, in evaluation mode.

    Of what ``torch.compile`` or ``DataParallel`` wraps, if the module is of these.
    """
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
        return copy.deepcopy(module)._apply(to_double).eval()
    except (RuntimeError, NotImplementedError) as exception:
        raise ValueError(
            f"Got a {type(module).__name__} that cannot be copied: {exception} Call it under "
            f"torch.no_grad(), so that no tensors of a former call with gradients are kept."
        ) from exception


# torch.fx keeps tensors that forward takes from elsewhere under this name while it traces.
_OF_TRACING = "_tensor_constant"
_OPAQUE = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType, type)


def fingerprint(module: nn.Module) -> dict[str, Any]:
    """Return what each attribute of a module and its parts, and of their classes, holds."""
    found: dict[str, Any] = {}
    for path, child in module.named_modules():
        classes = [c for c in type(child).__mro__ if not c.__module__.startswith("torch.")]
        for owner in (child, *classes):
            for name, value in vars(owner).items():
                key = f"{path}.{name}" if path else name
                if not name.startswith((_OF_TRACING, "__")):
                    found.setdefault(key, _print_of(value, {id(m) for m in module.modules()}))
    return found


def _print_of(value: Any, seen: set[int]) -> Any:
    """Return something that compares equal exactly if a nested value is the same as before."""
    if torch.is_tensor(value):
        if value.layout != torch.strided or value.is_quantized:
            return id(value), repr(value)
        flat = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
        return str(value.dtype), tuple(value.shape), bytes(flat.view(torch.uint8).numpy())
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return type(value), repr(value)
    if id(value) in seen or isinstance(value, _OPAQUE):
        return id(value)
    seen = seen | {id(value)}
    if isinstance(value, dict):
        return id(value), [(_print_of(k, seen), _print_of(v, seen)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [_print_of(v, seen) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return id(value), _print_of(getattr(value, "__dict__", None), seen)


def refuse_changes(module: nn.Module, before: dict[str, Any]) -> None:
    """Raise if a module holds something else than before."""
    after = fingerprint(module)
    for name in [*before, *after]:
        if before.get(name) != after.get(name):  # never None
            raise ValueError(
                f"Got a {type(module).__name__} that changes {name!r} when it is called, "
                f"{REMEMBERS}"
            )


class Watch(TorchDispatchMode):
    """Refuses operations in place on tensors that were there before, wherever these are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, Any] = {}  # storages, held so that no other gets their address

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = func._schema.arguments
        given = {**{a.name: v for a, v in zip(schema, args, strict=False)}, **kwargs}
        written = [given.get(a.name) for a in schema if a.alias_info and a.alias_info.is_write]
        for tensor in tensors(written):
            if _address(tensor) not in self.made:
                raise ValueError(
                    f"Got a module that changes a tensor that it holds, or takes from elsewhere, "
                    f"in place ({func.__name__}), {REMEMBERS}"
                )
        old = {_address(t) for t in tensors((args, kwargs))}
        result = func(*args, **kwargs)
        for tensor in tensors(result):
            if _address(tensor) not in old:
                self.made[_address(tensor)] = tensor.untyped_storage()
        return result


def leaves(nested: Any) -> list[Any]:
    """Return what nested tuples, lists, dicts and slices hold."""
    found: list[Any] = []
    torch.fx.node.map_aggregate(nested, found.append)
    return found


def tensors(nested: Any) -> list[torch.Tensor]:
    """Return the dense tensors among what is nested."""
    return [t for t in leaves(nested) if torch.is_tensor(t) and t.layout == torch.strided]


def _address(tensor: Any) -> int:
    return tensor.untyped_storage()._cdata


def shares_memory(first: Any, second: Any) -> bool:
    """Tell whether nested values hold tensors in the same memory."""
    places = [{t.untyped_storage().data_ptr() for t in tensors(v)} - {0} for v in (first, second)]
    return not places[0].isdisjoint(places[1])
