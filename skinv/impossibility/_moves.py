"""Operations that only move entries, and those that take no more than a shape: looked at closely.

What a name promises, arguments can break: a view may reinterpret bytes, a selection repeat entries,
a constant be filled with what depends on the input. So such operations are applied to numbers that
tell where each entry of the result comes from.
"""

import builtins
import operator
from typing import Any

import torch

from ._values import HOW_TO, Value, computed, depends, repeated


def operate(target: Any, args: Any, kwargs: Any) -> Any:
    """Call a function, or a method of the first argument."""
    if isinstance(target, str):
        return getattr(args[0], target)(*args[1:], **kwargs)
    return target(*args, **kwargs)


def _spelled(names: str) -> set[Any]:
    """Return methods by name, with torch's functions of the same names."""
    found = {n: {n, getattr(torch, n, n), getattr(torch.Tensor, n, n)} for n in names.split()}
    return set().union(*found.values())


# They write no entry down twice, or are refused where they do.
_MOVES = _spelled(
    "adjoint chunk clone contiguous detach diag diagonal double dsplit fliplr flipud flatten flip "
    "float gather hsplit index_select masked_fill moveaxis movedim narrow permute ravel reshape "
    "reshape_as roll rot90 select split split_with_sizes squeeze swapaxes swapdims t take "
    "take_along_dim tensor_split to transpose tril triu type_as unbind unflatten unsqueeze view "
    "view_as vsplit"
) | {operator.getitem, builtins.getattr, torch.nn.functional.pad}
_REPEATS = _spelled("broadcast_to expand expand_as repeat repeat_interleave tile unfold")
# Their second argument counts with its shape or type only.
_ALIKE = _spelled("expand_as reshape_as to type_as view_as")
# They take from their first argument no more than its shape.
_CONSTANTS = _spelled("full_like new_full new_ones new_tensor new_zeros ones_like zeros_like")
_TURNED = ("T", "mT", "H", "mH", "data", "real")


def is_move(target: Any) -> bool:
    """Tell whether an operation is one of those of this file."""
    return target in _MOVES or target in _REPEATS or target in _CONSTANTS


def moved(target: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Return what such an operation gives: values, nested as its results are, or a constant."""
    first, others = args[0], (args[1:], kwargs)
    if depends(others) and target not in _ALIKE:
        raise ValueError(
            f"Got the function {name!r} of tensors with an argument beside the first that depends "
            f"on the input: it is taken for a constant, which it is not. Write such a map with "
            f"sums, products and torch.cat. {HOW_TO}"
        )
    if target is builtins.getattr and args[1] not in _TURNED:
        raise ValueError(f"There is no rule for the attribute {args[1]!r} of tensors. {HOW_TO}")
    if target is operator.getitem:
        _refuse_picking(args[1])
    args, kwargs = computed(args), computed(kwargs)
    at = operate(target, args, kwargs)
    if not isinstance(first, Value):
        return at
    # Numbers of both signs in no order, and a zero before them: what sorts, clips or depends on
    # values gives itself away.
    n = first.at.numel()
    order = torch.arange(n + 1, dtype=torch.float64)
    probes = torch.where(order % 2 == 0, order, -order), torch.sin(7.0 * order) * (n + 1 - order)
    given = (p[1:].clone().reshape(first.shape) for p in probes)  # in memory of their own
    seen = [operate(target, (numbers, *args[1:]), kwargs) for numbers in given]

    def part(at: Any, *seen: Any) -> Any:
        """Return one of the results, after looking at where each of its entries comes from."""
        if target in _CONSTANTS:
            if not all(torch.equal(at, s) for s in seen):
                raise ValueError(f"Got the function {name!r} with values that depend on the input.")
            return at
        Value(first.certificate, at)  # of the right type
        places = seen[0].flatten().abs().long().clamp(0, n)
        if not all(_same_bits(p[places], s) for p, s in zip(probes, seen, strict=True)):
            raise ValueError(
                f"There is no rule for the function {name!r} of tensors with these arguments, as "
                f"its result has other entries than its first argument and zeros. {HOW_TO}"
            )
        used = places[places > 0]
        times = int(torch.bincount(used).max()) if len(used) else 1
        if times > 1 and target not in _REPEATS:
            raise ValueError(
                f"Got the function {name!r} with an index that repeats entries; write it with "
                f"expand, repeat or torch.cat, or with an index that names each entry once."
            )
        return repeated(first, times, at)

    return torch.utils._pytree.tree_map(part, at, *seen)


def _same_bits(first: Any, second: Any) -> bool:
    """Tell whether numbers are the same, also where the process takes subnormal ones for zeros."""
    return torch.equal(first.view(torch.int64), second.flatten().view(torch.int64))


def _refuse_picking(index: Any) -> None:
    parts = index if isinstance(index, tuple) else (index,)
    if not all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in parts):
        raise ValueError(
            f"Got a tensor indexed by {index!r}, which may repeat entries; only integers, slices, "
            f"None and ... have a rule. {HOW_TO}"
        )
