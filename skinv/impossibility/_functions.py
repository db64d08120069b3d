"""Rules for functions of tensors: what torch.fx finds between the modules of a network."""

from __future__ import annotations

import builtins
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
    compose,
    concatenate,
    constant,
    lipschitz,
    multiply,
    repetition,
    tighter,
    vector_norm,
)
from ._calculus import scale as scaled
from ._rules import UP, activation, affine, array, find_rule, induced_norm, softmax
from ._sequences import ACTIVATION_FUNCTIONS, weighted_values

HOW_TO = (
    "Register a rule for it, or for a module around it: "
    "@skinv.impossibility.register_rule(YourModule), on a function rule(module, shape, norm) that "
    "returns a PolynomialLipschitz."
)


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its certificate as a map of the input, its value for the input 0.

    Parameters
    ----------
    certificate : PolynomialLipschitz
    zero : torch.Tensor
        float64.

    Examples
    --------
    >>> Value(PolynomialLipschitz(1.0, [0, 1]), torch.zeros(1, 2, dtype=torch.float64)).shape
    (1, 2)
    """

    certificate: PolynomialLipschitz
    zero: torch.Tensor

    def __post_init__(self) -> None:
        if self.zero.dtype != torch.float64:
            raise ValueError(
                f"Got a {self.zero.dtype} tensor that depends on the input, but everything is "
                f"followed in float64: cast no tensors to other precisions, integers or booleans."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor, for a batch of one."""
        return tuple(self.zero.shape)


def leaves(nested: Any) -> list[Any]:
    """Return what nested tuples, lists and dicts hold.

    Parameters
    ----------
    nested : object

    Returns
    -------
    list

    Examples
    --------
    >>> leaves((1, [2, {"a": 3}]))
    [1, 2, 3]
    """
    if isinstance(nested, (tuple, list)):
        return [leaf for item in nested for leaf in leaves(item)]
    if isinstance(nested, dict):
        return leaves(list(nested.values()))
    return [nested]


def at_zero(nested: Any) -> Any:
    """Replace values by the tensors that they are for the input 0.

    Parameters
    ----------
    nested : object

    Returns
    -------
    object

    Examples
    --------
    >>> at_zero((1, "a"))
    (1, 'a')
    """
    return torch.fx.node.map_aggregate(nested, lambda v: v.zero if isinstance(v, Value) else v)


def known(certificate: PolynomialLipschitz, zero: Any) -> Value:
    """Return a value, with the better of two bounds: the rule's, and ‖f(0)‖ + t P(t).

    Parameters
    ----------
    certificate : PolynomialLipschitz
    zero : torch.Tensor

    Returns
    -------
    Value

    Raises
    ------
    ValueError
        For complex tensors.

    Examples
    --------
    >>> zero = torch.zeros(2, dtype=torch.float64)
    >>> known(PolynomialLipschitz(1.0, [5.0, 1.0]), zero).certificate
    PolynomialLipschitz(P=1, B=t, norm='l2')
    """
    norm = certificate.norm
    size = vector_norm(array(zero), norm) * UP
    B = tighter(certificate.B, lipschitz(certificate.P, size, norm).B)
    return Value(PolynomialLipschitz(certificate.P, B, norm), zero)


def certificate_of_value(value: Any, norm: str, shape: Any = None) -> PolynomialLipschitz:
    """Return the certificate of a value or a constant, repeated to a shape by broadcasting.

    Parameters
    ----------
    value : Value, tensor or number
    norm : {"l1", "l2", "linf"}
    shape : tuple of int, default=None
        None does not repeat.

    Returns
    -------
    PolynomialLipschitz

    Examples
    --------
    >>> certificate_of_value(3.0, "l1", (2,))
    PolynomialLipschitz(P=0, B=6, norm='l1')
    """
    zero = value.zero if isinstance(value, Value) else torch.as_tensor(value)
    times = 1.0 if shape is None else math.prod(shape) / max(zero.numel(), 1)
    if isinstance(value, Value):
        return scaled(value.certificate, repetition(times, norm))
    size = vector_norm(array(zero), norm) * repetition(times, norm) * UP
    if not math.isfinite(size):
        raise ValueError(
            "Got a constant with NaN or infinity in a sum or product; write masks with torch's own "
            "attention, or with large finite numbers."
        )
    return constant(size, norm)


def call_function(target: Any, args: Any, kwargs: Any, norm: str) -> Any:
    """Return the value of a function or method of tensors.

    Parameters
    ----------
    target : callable, or str for a method
    args, kwargs
        With values for tensors that depend on the input.
    norm : {"l1", "l2", "linf"}

    Returns
    -------
    Value, nested tuples of them, or a constant

    Raises
    ------
    ValueError
        Where there is no rule.

    Examples
    --------
    >>> x = Value(PolynomialLipschitz(1.0, [0, 1]), torch.zeros(1, 2, dtype=torch.float64))
    >>> call_function(torch.mul, (x, x), {}, "l2").certificate
    PolynomialLipschitz(P=2 t, B=t^2, norm='l2')
    """
    first: Any = args[0] if args else None
    name = target if isinstance(target, str) else getattr(target, "__name__", repr(target))
    if "out" in kwargs:
        raise ValueError(f"Got the function {name!r} with out=, which changes another tensor.")
    if target is builtins.getattr:
        return _attribute(*args)
    if target is operator.getitem:
        return _item(*args)
    try:
        zero = operate(target, at_zero(args), at_zero(kwargs))
        if target in _CONSTANTS:
            return zero
        if target in _MOVES:
            return _moved(first.certificate, zero)
        function = _METHODS.get(target, target)
        if function in ACTIVATION_FUNCTIONS:
            chosen = ACTIVATION_FUNCTIONS[function]
            if kwargs.get("approximate") == "tanh":
                chosen = "gelu_tanh"
            return known(compose(activation(chosen, zero.numel(), norm), first.certificate), zero)
        rule = _RULES.get(target)
        if rule is None:
            raise ValueError(f"There is no rule for the function {name!r} of tensors. {HOW_TO}")
        return known(rule(norm, zero, *args, **kwargs), zero)
    except (TypeError, AttributeError) as exception:
        raise ValueError(
            f"There is no rule for the function {name!r} with such arguments ({exception}). "
            f"{HOW_TO}"
        ) from exception


def operate(target: Any, args: Any, kwargs: Any) -> Any:
    """Call a function, or a method of the first argument.

    Parameters
    ----------
    target : callable, or str for a method
    args, kwargs

    Returns
    -------
    object

    Examples
    --------
    >>> operate("upper", ("a",), {}), operate(len, ("ab",), {})
    ('A', 2)
    """
    if isinstance(target, str):
        return getattr(args[0], target)(*args[1:], **kwargs)
    return target(*args, **kwargs)


# -- moving entries --------------------------------------------------------------------------------

_METHODS: dict[Any, Any] = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
# They move entries or leave some out, and repeat none.
_MOVES = {
    torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze,
    torch.swapaxes, torch.chunk, torch.split, torch.unbind, torch.movedim, torch.t, torch.clone,
    "flatten", "reshape", "view", "transpose", "permute", "squeeze", "unsqueeze", "swapaxes",
    "chunk", "split", "unbind", "movedim", "t", "contiguous", "clone", "unflatten", "detach",
    "to", "type_as", "double", "float", "view_as", "reshape_as",
}  # fmt: skip
# They take from their first argument no more than its shape.
_CONSTANTS = {
    torch.zeros_like, torch.ones_like, torch.full_like, "new_zeros", "new_ones", "new_full",
    "new_tensor",
}  # fmt: skip
_TURNED = ("T", "mT", "H", "mH", "data", "real")


def is_view(target: Any) -> bool:
    """Tell whether a function may return its argument or a view of it.

    Parameters
    ----------
    target : callable or str

    Returns
    -------
    bool

    Examples
    --------
    >>> is_view("view"), is_view(torch.tanh)
    (True, False)
    """
    views = target in _MOVES or target is F.dropout
    return views or target in (operator.getitem, builtins.getattr)


def _attribute(value: Any, name: str) -> Any:
    if name in _TURNED:
        return Value(value.certificate, getattr(value.zero, name))
    raise ValueError(f"There is no rule for the attribute {name!r} of tensors. {HOW_TO}")


def _moved(certificate: PolynomialLipschitz, zero: Any) -> Any:
    if isinstance(zero, (tuple, list)):
        return tuple(_moved(certificate, part) for part in zero)
    return Value(certificate, zero)


def _item(value: Any, index: Any) -> Any:
    if not isinstance(value, Value):
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
            f"None and ... have a rule. {HOW_TO}"
        )
    return Value(value.certificate, value.zero[index])


def _joined(norm: str, zero: Any, tensors: Any, dim: int = 0) -> PolynomialLipschitz:
    return concatenate(*(certificate_of_value(v, norm) for v in tensors))


# -- arithmetic ------------------------------------------------------------------------------------


def _sum(norm: str, zero: Any, a: Any, b: Any, *, alpha: float = 1) -> PolynomialLipschitz:
    second = scaled(certificate_of_value(b, norm, zero.shape), abs(alpha))
    return add(certificate_of_value(a, norm, zero.shape), second)


def _negative(norm: str, zero: Any, a: Any) -> PolynomialLipschitz:
    return a.certificate


def _limited(norm: str, zero: Any, a: Any, *args: Any, **kwargs: Any) -> PolynomialLipschitz:
    # |u| and clipping between constants have no slope beyond 1.
    if any(isinstance(v, Value) for v in leaves((args, kwargs))):
        raise ValueError("Got clamp with limits that depend on the input, which has no rule.")
    slope = certificate_of_value(a, norm, zero.shape).P
    return lipschitz(slope, vector_norm(array(zero), norm) * UP, norm)


def _repeated(norm: str, zero: Any, a: Any, *_: Any) -> PolynomialLipschitz:
    return certificate_of_value(a, norm, zero.shape)


def _selected(norm: str, zero: Any, a: Any, dim: int, index: Any) -> PolynomialLipschitz:
    if len(index.unique()) != len(index):
        raise ValueError("Got index_select with an index that repeats entries.")
    return a.certificate


def _like_module(make: Callable[..., nn.Module]) -> Callable[..., PolynomialLipschitz]:
    """Return the rule of a function that is a module's, with the module's parameters."""

    def rule(norm: str, zero: Any, input: Any, *args: Any, **kwargs: Any) -> PolynomialLipschitz:
        module = make(*args, **kwargs)
        if getattr(module, "inplace", False):
            raise ValueError("Got a function with inplace=True; write it out of place.")
        found = find_rule(module)
        assert found is not None
        return compose(found(module, tuple(zero.shape), norm), input.certificate)

    return rule


def _product(norm: str, zero: Any, a: Any, b: Any) -> PolynomialLipschitz:
    if isinstance(a, Value) and isinstance(b, Value):
        first, second = (certificate_of_value(v, norm, zero.shape) for v in (a, b))
        return multiply(first, second)
    if not isinstance(a, Value):
        a, b = b, a
    factor = certificate_of_value(b, "linf").B(0.0)
    return scaled(certificate_of_value(a, norm, zero.shape), factor)


def _quotient(norm: str, zero: Any, a: Any, b: Any) -> PolynomialLipschitz:
    if isinstance(b, Value):
        raise ValueError(
            "Got a division by something that depends on the input, which is not polynomially "
            "Lipschitz where the divisor can be 0."
        )
    return _product(norm, zero, a, 1 / torch.as_tensor(b, dtype=torch.float64))


def _power(norm: str, zero: Any, a: Any, exponent: Any = 2) -> PolynomialLipschitz:
    # |uᵏ − vᵏ| ≤ k t^(k−1) |u − v|, and Σ|uᵢ|ᵏ ≤ (Σ|uᵢ|)ᵏ: ‖uᵏ‖ ≤ ‖u‖ᵏ in all three norms.
    if (
        not isinstance(a, Value)
        or not isinstance(exponent, (int, float))
        or exponent not in range(1, 100)
    ):
        raise ValueError(
            f"Got a power with exponent {exponent!r}, but rules are for the numbers 1, 2, 3, ..."
        )
    k = int(exponent)
    local = lipschitz([0.0] * (k - 1) + [k], norm=norm, magnitude=[0.0] * k + [1.0])
    return compose(local, a.certificate)


# -- linear maps, sums, attention ------------------------------------------------------------------


def _matmul(norm: str, zero: Any, a: Any, other: Any) -> PolynomialLipschitz:
    left, right = (torch.as_tensor(at_zero(v)) for v in (a, other))
    if isinstance(a, Value) and isinstance(other, Value):
        # All products uᵢₖvₗⱼ, of all matrices of one stack with all of the other, have norm
        # ‖u‖‖v‖ together: broadcasting is covered.
        return multiply(a.certificate, other.certificate, left.shape[-1] if norm == "linf" else 1.0)
    # x ↦ W x has the norm of W, x ↦ x W that of Wᵀ; the largest of a stack, block by block.
    value, W = (a, right) if isinstance(a, Value) else (other, left)
    matrices = array(W).reshape(-1, *W.shape[-2:]) if W.ndim > 1 else array(W)[None, None, :]
    if isinstance(a, Value) and W.ndim > 1:
        matrices = matrices.transpose(0, 2, 1)
    factor = max(induced_norm(M, norm) for M in matrices)
    mine = value.shape[:-2]
    whole = torch.broadcast_shapes(mine, tuple(W.shape[:-2]))
    times = math.prod(whole) / max(math.prod(mine), 1)
    return scaled(value.certificate, factor * repetition(times, norm))


def _linear(norm: str, zero: Any, input: Any, weight: Any, bias: Any = None) -> PolynomialLipschitz:
    if isinstance(weight, Value) or isinstance(bias, Value):
        raise ValueError("Got a linear layer whose weights depend on the input; use matmul and +.")
    W = weight if weight.ndim == 2 else weight[None]
    times = zero.numel() // len(W)
    return compose(affine(induced_norm(W, norm), bias, times, norm), input.certificate)


def _softmax(
    norm: str, zero: Any, input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None
) -> PolynomialLipschitz:
    if dim is None:
        raise ValueError("Got softmax without dim, which torch chooses by old rules; pass dim=.")
    return compose(softmax(zero.numel(), zero.shape[dim], norm), input.certificate)


def _summed(
    norm: str, zero: Any, a: Any, dim: Any = None, keepdim: bool = False
) -> PolynomialLipschitz:
    # Each sum of m entries: |Σuᵢ| ≤ Σ|uᵢ|, √m ‖u‖₂, m max|uᵢ|.
    terms = a.zero.numel() / max(zero.numel(), 1)
    return scaled(a.certificate, terms / repetition(terms, norm))


def _mean(
    norm: str, zero: Any, a: Any, dim: Any = None, keepdim: bool = False
) -> PolynomialLipschitz:
    terms = a.zero.numel() / max(zero.numel(), 1)
    return scaled(_summed(norm, zero, a), 1 / terms)


def _dropout(
    norm: str, zero: Any, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> PolynomialLipschitz:
    if training and p > 0:
        raise ValueError(
            "Got dropout that is on in evaluation too; pass training=self.training, or use "
            "torch.nn.Dropout."
        )
    return input.certificate


def _dot_product_attention(
    norm: str,
    zero: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> PolynomialLipschitz:
    if isinstance(attn_mask, Value) or dropout_p or enable_gqa:
        raise ValueError(
            "Got scaled_dot_product_attention with a mask that depends on the input, dropout or "
            "enable_gqa, for which there is no rule."
        )
    d = at_zero(query).shape[-1]
    Q, K, V = (certificate_of_value(v, norm) for v in (query, key, value))
    scores = multiply(Q, K, d if norm == "linf" else 1.0)
    factor = 1 / math.sqrt(d) if scale is None else abs(scale)
    # Values that several heads share are repeated.
    times = math.prod(zero.shape[:-2]) / max(math.prod(at_zero(value).shape[:-2]), 1)
    V = scaled(V, repetition(times, norm))
    return weighted_values(scaled(scores, factor), V, at_zero(query).shape[-2])


_RULES: dict[Any, Callable[..., PolynomialLipschitz]] = {
    **dict.fromkeys((operator.add, torch.add, "add"), _sum),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), _sum),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), _negative),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), _product),
    **dict.fromkeys((operator.truediv, torch.div, "div"), _quotient),
    **dict.fromkeys((operator.pow, torch.pow, torch.square, "pow", "square"), _power),
    **dict.fromkeys((torch.abs, builtins.abs, operator.abs, "abs"), _limited),
    **dict.fromkeys((torch.clamp, torch.clip, "clamp", "clip"), _limited),
    **dict.fromkeys((operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm"), _matmul),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate, torch.stack), _joined),
    **dict.fromkeys((torch.softmax, F.softmax, "softmax"), _softmax),
    **dict.fromkeys((torch.sum, "sum"), _summed),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys(("expand", "repeat", "expand_as", torch.broadcast_to), _repeated),
    **dict.fromkeys((torch.index_select, "index_select"), _selected),
    F.leaky_relu: _like_module(nn.LeakyReLU),
    F.elu: _like_module(nn.ELU),
    F.celu: _like_module(nn.CELU),
    F.hardtanh: _like_module(nn.Hardtanh),
    F.softplus: _like_module(nn.Softplus),
    F.linear: _linear,
    F.dropout: _dropout,
    F.scaled_dot_product_attention: _dot_product_attention,
}
