"""Rules for functions of tensors: what torch.fx finds between the modules of a network.

What the name of an operation that only moves entries promises, arguments can break: a view may
reinterpret bytes, a selection repeat entries, a constant be filled with what depends on the input.
So such operations are applied to numbers that tell where each entry of the result comes from.
"""

import builtins
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .._arrays.words import Norm
from ._calculus import add, compose, concatenate, matrix_product, multiply
from ._calculus import scale as scaled
from ._certificates import PolynomialLipschitz, lipschitz, repetition, vector_norm
from ._coefficients import product, reciprocal
from ._rules import ACTIVATION_FUNCTIONS, activation, affine, array, induced_norm, softmax, through
from ._sequences import weighted_values
from ._values import HOW_TO, Value, certificate_of_value, computed, depends, followed


def operate(target: Any, args: Any, kwargs: Any) -> Any:
    """Call a function, or a method of the first argument."""
    if isinstance(target, str):
        return getattr(args[0], target)(*args[1:], **kwargs)
    return target(*args, **kwargs)


def call_function(target: Any, args: Any, kwargs: Any, norm: Norm) -> Any:
    """Return the value of a function or method of tensors: values, nested, or a constant."""
    name = target if isinstance(target, str) else getattr(target, "__name__", repr(target))
    if "out" in kwargs:
        raise ValueError(f"Got the function {name!r} with out=, which changes another tensor.")
    try:
        if target is operator.getitem and not isinstance(args[0], Value):
            found = args[0][args[1]]
            if found is None:
                raise ValueError(
                    "The weights that MultiheadAttention returns beside its output have no rule."
                )
            return found
        if target in _MOVES or target in _REPEATS or target in _CONSTANTS:
            return _moved(target, name, args, kwargs)
        at = operate(target, computed(args), computed(kwargs))
        if target in ACTIVATION_FUNCTIONS and not depends((args[1:], kwargs)):
            chosen = ACTIVATION_FUNCTIONS[target]
            if kwargs.get("approximate") == "tanh":
                chosen = "gelu_tanh"
            local = activation(chosen, at.numel(), norm)
            return followed(lambda v: compose(local, v.certificate), args[0], at)
        rule = _RULES.get(target)
        if rule is None:
            raise ValueError(f"There is no rule for the function {name!r} of tensors. {HOW_TO}")
        if rule not in _OF_SEVERAL and depends((args[1:], kwargs)):
            raise ValueError(
                f"Got the function {name!r} of tensors with an argument beside the first that "
                f"depends on the input, for which it has no rule. {HOW_TO}"
            )
        return followed(lambda given: rule(norm, at, *given[0], **given[1]), (args, kwargs), at)
    except (TypeError, AttributeError, ArithmeticError) as exception:
        raise ValueError(
            f"There is no rule for the function {name!r} with such arguments ({exception}). "
            f"{HOW_TO}"
        ) from exception


def _joined(norm: Norm, at: Any, tensors: Any, dim: int = 0) -> PolynomialLipschitz:
    return concatenate(*(certificate_of_value(v, norm) for v in tensors))


# -- arithmetic ------------------------------------------------------------------------------------


def _sum(norm: Norm, at: Any, a: Any, b: Any, *, alpha: float = 1) -> PolynomialLipschitz:
    second = scaled(certificate_of_value(b, norm, at.shape), abs(alpha))
    return add(certificate_of_value(a, norm, at.shape), second)


def _limited(norm: Norm, at: Any, a: Any, *args: Any, **kwargs: Any) -> PolynomialLipschitz:
    # |u| and clipping between constants have no slope beyond 1.
    if depends((args, kwargs)):
        raise ValueError("Got clamp with limits that depend on the input, which has no rule.")
    of_zeros = torch.zeros_like(a.at)
    if args or kwargs:

        def no_subnormal(limit: Any) -> Any:
            integer = limit is None or isinstance(limit, int)
            return limit if integer else torch.from_numpy(array(limit))

        limits = torch.fx.node.map_aggregate((args, kwargs), no_subnormal)
        of_zeros = torch.clamp(of_zeros, *limits[0], **limits[1])
    local = lipschitz(1.0, vector_norm(array(of_zeros), norm), norm)
    return compose(local, certificate_of_value(a, norm, at.shape))


def _like_module(make: Callable[..., nn.Module]) -> Callable[..., PolynomialLipschitz]:
    """Return the rule of a function that is a module's, with the module's parameters."""

    def rule(norm: Norm, at: Any, input: Any, *args: Any, **kwargs: Any) -> PolynomialLipschitz:
        module = make(*args, **kwargs)
        if getattr(module, "inplace", False):
            raise ValueError("Got a function with inplace=True; write it out of place.")
        return through(module, input.certificate, tuple(at.shape))

    return rule


def _product(norm: Norm, at: Any, a: Any, b: Any) -> PolynomialLipschitz:
    if not isinstance(a, Value):
        a, b = b, a
    first = certificate_of_value(a, norm, at.shape)
    if isinstance(b, Value):
        return multiply(first, certificate_of_value(b, norm, at.shape))
    return scaled(first, certificate_of_value(b, "linf").B(0.0))


def _quotient(norm: Norm, at: Any, a: Any, b: Any) -> PolynomialLipschitz:
    if isinstance(b, Value):
        raise ValueError(
            "Got a division by something that depends on the input, which is not polynomially "
            "Lipschitz where the divisor can be 0."
        )
    factors = [reciprocal(divisor) for divisor in np.abs(array(b)).ravel()]
    return _product(norm, at, a, factors)


def _power(norm: Norm, at: Any, a: Any, exponent: Any = 2) -> PolynomialLipschitz:
    # |uᵏ − vᵏ| ≤ k t^(k−1) |u − v|, and Σ|uᵢ|ᵏ ≤ (Σ|uᵢ|)ᵏ: ‖uᵏ‖ ≤ ‖u‖ᵏ in all three norms.
    number = isinstance(exponent, (int, float)) and exponent in range(1, 100)
    if not (isinstance(a, Value) and number):
        raise ValueError(
            f"Got a power with exponent {exponent!r}, but rules are for the numbers 1, 2, 3, ..."
        )
    k = int(exponent)
    local = lipschitz([0.0] * (k - 1) + [k], norm=norm, magnitude=[0.0] * k + [1.0])
    return compose(local, a.certificate)


# -- linear maps, sums, attention ------------------------------------------------------------------


def _matmul(norm: Norm, at: Any, a: Any, other: Any) -> PolynomialLipschitz:
    left, right = (torch.as_tensor(computed(v)) for v in (a, other))
    if isinstance(a, Value) and isinstance(other, Value):
        # All products uᵢₖvₗⱼ, of all matrices of one stack with all of the other, have norm
        # ‖u‖‖v‖ together: broadcasting is covered.
        return matrix_product(a.certificate, other.certificate, left.shape[-1])
    # x ↦ W x has the norm of W, x ↦ x W that of Wᵀ; the largest of a stack, block by block.
    value, W = (a, right) if isinstance(a, Value) else (other, left)
    matrices = array(W).reshape(-1, *W.shape[-2:]) if W.ndim > 1 else array(W)[None, None, :]
    if isinstance(a, Value) and W.ndim > 1:
        matrices = matrices.transpose(0, 2, 1)
    factor = max((induced_norm(M, norm) for M in matrices), default=0.0)
    mine = value.at.shape[:-2]
    whole = torch.broadcast_shapes(mine, tuple(W.shape[:-2]))
    times = math.prod(whole) / max(math.prod(mine), 1)
    return scaled(value.certificate, product(factor, repetition(times, norm)))


def _linear(norm: Norm, at: Any, input: Any, weight: Any, bias: Any = None) -> PolynomialLipschitz:
    if isinstance(weight, Value) or isinstance(bias, Value):
        raise ValueError("Got a linear layer whose weights depend on the input; use matmul and +.")
    W = weight if weight.ndim == 2 else weight[None]
    shape = (*input.at.shape[:-1], *weight.shape[:-1])
    return compose(affine(induced_norm(W, norm), bias, shape, norm), input.certificate)


def _softmax(
    norm: Norm,
    at: Any,
    input: Any,
    dim: Any = None,
    _stacklevel: int = 3,
    dtype: Any = None,
) -> PolynomialLipschitz:
    if dim is None:
        raise ValueError("Got softmax without dim, which torch chooses by old rules; pass dim=.")
    return compose(softmax(at.numel(), at.shape[dim], norm), input.certificate)


def _summed(
    norm: Norm, at: Any, a: Any, dim: Any = None, keepdim: bool = False
) -> PolynomialLipschitz:
    # Each sum of m entries: |Σuᵢ| ≤ Σ|uᵢ|, √m ‖u‖₂, m max|uᵢ|.
    terms = a.at.numel() / max(at.numel(), 1)
    dual: dict[Norm, Norm] = {"l1": "linf", "l2": "l2", "linf": "l1"}
    return scaled(a.certificate, repetition(terms, dual[norm]))


def _mean(
    norm: Norm, at: Any, a: Any, dim: Any = None, keepdim: bool = False
) -> PolynomialLipschitz:
    terms = a.at.numel() / max(at.numel(), 1)
    return scaled(_summed(norm, at, a), reciprocal(terms) if terms else 0.0)


def _dropout(
    norm: Norm,
    at: Any,
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> PolynomialLipschitz:
    if training and p > 0:
        raise ValueError(
            "Got dropout that is on in evaluation too; pass training=self.training, or use "
            "torch.nn.Dropout."
        )
    return input.certificate


def _dot_product_attention(
    norm: Norm,
    at: Any,
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
    d = computed(query).shape[-1]
    Q, K, V = (certificate_of_value(v, norm) for v in (query, key, value))
    scores = matrix_product(Q, K, d)
    factor = reciprocal(math.sqrt(d)) if scale is None else abs(scale)
    # Scores that values or a mask repeat, and values that several heads share.
    stacks = [tuple(computed(v).shape[:-2]) for v in (query, key, value)]
    n_scores, n_values = math.prod(torch.broadcast_shapes(*stacks[:2])), math.prod(stacks[2])
    n_all = math.prod(at.shape[:-2])
    scores = scaled(scores, repetition(n_all / max(n_scores, 1), norm))
    V = scaled(V, repetition(n_all / max(n_values, 1), norm))
    return weighted_values(scaled(scores, factor), V, computed(query).shape[-2])


_RULES: dict[Any, Callable[..., PolynomialLipschitz]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add"), _sum),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub"), _sum),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), lambda norm, at, a: a.certificate),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul"), _product),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div"), _quotient),
    **dict.fromkeys((operator.pow, torch.pow, torch.square, "pow", "square"), _power),
    **dict.fromkeys((torch.abs, builtins.abs, operator.abs, "abs"), _limited),
    **dict.fromkeys((torch.clamp, torch.clip, "clamp", "clip"), _limited),
    **dict.fromkeys((operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm"), _matmul),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate, torch.stack), _joined),
    **dict.fromkeys((torch.softmax, F.softmax, "softmax"), _softmax),
    **dict.fromkeys((torch.sum, "sum"), _summed),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    F.leaky_relu: _like_module(nn.LeakyReLU),
    F.elu: _like_module(nn.ELU),
    F.celu: _like_module(nn.CELU),
    F.hardtanh: _like_module(nn.Hardtanh),
    F.softplus: _like_module(nn.Softplus),
    F.linear: _linear,
    F.dropout: _dropout,
    F.scaled_dot_product_attention: _dot_product_attention,
}
# Rules that take values beside the first argument, or say themselves why not.
_OF_SEVERAL = {
    _sum, _product, _quotient, _power, _matmul, _joined, _linear, _limited, _dot_product_attention
}  # fmt: skip


# -- operations that only move entries, and those that take no more than a shape -------------------


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


def _moved(target: Any, name: str, args: Any, kwargs: Any) -> Any:
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
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        if not all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in index):
            raise ValueError(
                f"Got a tensor indexed by {args[1]!r}, which may repeat entries; only integers, "
                f"slices, None and ... have a rule. {HOW_TO}"
            )
    args, kwargs = computed(args), computed(kwargs)
    at = operate(target, args, kwargs)
    if not isinstance(first, Value):
        return at
    # Numbers of both signs in no order, and a zero before them: what sorts, clips or depends on
    # values gives itself away.
    n = first.at.numel()
    order = torch.arange(n + 1, dtype=torch.float64)
    probes = torch.where(order % 2 == 0, order, -order), torch.sin(7.0 * order) * (n + 1 - order)
    given = (p[1:].clone().reshape(first.at.shape) for p in probes)  # in memory of their own
    seen = [operate(target, (numbers, *args[1:]), kwargs) for numbers in given]

    def part(at: Any, *seen: Any) -> Any:
        """Return one of the results, after looking at where each of its entries comes from."""
        if target in _CONSTANTS:
            if not all(torch.equal(at, s) for s in seen):
                raise ValueError(f"Got the function {name!r} with values that depend on the input.")
            return at
        Value(first.certificate, at)  # of the right type
        places = seen[0].flatten().abs().long().clamp(0, n)
        # Bits also tell subnormal numbers, where the process takes these for zeros.
        pairs = zip((p[places] for p in probes), (s.flatten() for s in seen), strict=True)
        if not all(torch.equal(*(v.view(torch.int64) for v in pair)) for pair in pairs):
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
        factor = repetition(times, first.certificate.norm)
        return Value(scaled(first.certificate, factor), at, product(first.error, factor))

    return torch.utils._pytree.tree_map(part, at, *seen)
