"""Rules: the certificate of each kind of torch module, from its weights.

A rule takes the module, in float64 and evaluation mode, the shape of its input (a batch of one) and
the norm. Constants are computed in floating point and rounded up.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .._arrays.words import Norm
from ._calculus import compose
from ._certificates import (
    PolynomialLipschitz,
    elementwise,
    identity,
    lipschitz,
    repetition,
    vector_norm,
)
from ._coefficients import product, raised, reciprocal, total
from ._state import to_double

Rule = Callable[[Any, tuple[int, ...], Norm], Any]
RULES: dict[type[nn.Module], Rule] = {}

# What NumPy and torch call the norms.
NORM_ORDERS: dict[str, Any] = {"l1": 1, "l2": 2, "linf": math.inf}
# Covers the rounding of sums, singular values and the combination of certificates.
UP = 1 + 1e-11


def register_rule(*types: type[nn.Module]) -> Callable[[Rule], Rule]:
    """Register a rule for torch modules that :func:`polynomial_lipschitz` does not know.

    Parameters
    ----------
    *types : subclasses of torch.nn.Module
        Classes the rule holds for, and for those derived from them that override no method.

    Returns
    -------
    decorator
        For a function ``rule(module, shape, norm)`` that returns a :class:`PolynomialLipschitz`:
        `module` is in float64 and in evaluation mode, `shape` is that of its input with a batch of
        one, `norm` one of l1, l2, linf.

    Raises
    ------
    TypeError
        If something else than classes of modules is given.

    Examples
    --------
    >>> import torch
    >>> from skinv.impossibility import elementwise
    >>> class Sine(torch.nn.Module):
    ...     def forward(self, x):
    ...         return torch.sin(x)
    >>> @register_rule(Sine)
    ... def sine(module, shape, norm):
    ...     return elementwise(1.0, size=int(np.prod(shape)), norm=norm)
    >>> from skinv.impossibility import polynomial_lipschitz
    >>> polynomial_lipschitz(torch.nn.Sequential(torch.nn.Flatten(), Sine()), input_shape=(4,))
    PolynomialLipschitz(P=1, B=t, norm='l2')
    """
    for cls in types:
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise TypeError(f"Got {cls!r}, but rules are registered for classes of torch modules.")

    def decorate(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(types, rule))
        return rule

    return decorate


def find_rule(module: nn.Module) -> Rule | None:
    """Return the rule of a module's class, or of a base class of which it overrides nothing."""
    changed = set(vars(module))
    for cls in type(module).__mro__:
        if cls in RULES:
            methods = {name for name in dir(cls) if callable(getattr(cls, name))}
            return None if changed & methods - _HARMLESS else RULES[cls]
        changed |= {name for name in vars(cls) if not name.startswith("__") or name == "__call__"}
    return None


def rule_of(module: nn.Module) -> Rule:
    """Return the rule of a module, or raise a ValueError."""
    rule = find_rule(module)
    if rule is None:
        raise ValueError(
            f"Got a {type(module).__name__}, for which there is no rule; see register_rule."
        )
    return rule


def through(
    layer: nn.Module, inner: PolynomialLipschitz, shape: tuple[int, ...]
) -> PolynomialLipschitz:
    """Return the certificate of a layer of what came before, which has a shape."""
    return compose(rule_of(layer)(layer, shape, inner.norm), inner)


# What a derived class may override without computing something else.
_HARMLESS = {"extra_repr", "reset_parameters"}


def array(values: Any) -> NDArray[np.float64]:
    """Return a tensor or numbers in float64, subnormal ones raised to the smallest normal one."""
    tensor = values if torch.is_tensor(values) else torch.tensor(values, dtype=torch.float64)
    if tensor.is_complex():
        raise ValueError("Got a complex tensor inside the network, for which there are no rules.")
    return raised(to_double(tensor.detach()).double().numpy())


def induced_norm(W: Any, norm: Norm) -> float:
    """Return the induced norm of W, rounded up: largest column sum, singular value or row sum."""
    W = array(W) if isinstance(W, torch.Tensor) else raised(np.asarray(W, dtype=np.float64))
    if W.ndim != 2 or not np.isfinite(W).all():
        raise ValueError(f"Got weights of shape {W.shape}, but a matrix of finite ones is needed.")
    largest = np.abs(W).max(initial=0.0)
    if largest == 0.0:
        return 0.0
    if norm == "l2" and largest < 1e-290:  # where what was subnormal may count
        return vector_norm(W, "l2")
    # The largest is divided out, so that squares neither overflow nor vanish.
    exponent = int(np.frexp(largest)[1]) - 1
    with np.errstate(all="ignore"):
        size = np.linalg.norm(np.ldexp(W, -exponent), NORM_ORDERS[norm])
        return float(np.ldexp(size * UP, exponent))


def affine(factor: float, bias: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    """Return the certificate of W x + b, ‖W‖ = `factor`, W x of a shape; either is broadcast."""
    values = np.zeros(1) if bias is None else array(bias)
    size = math.prod(np.broadcast_shapes(shape, values.shape))
    factor = product(factor, repetition(size / max(math.prod(shape), 1), norm))
    at_zero = product(vector_norm(values, norm), repetition(size / max(values.size, 1), norm))
    return lipschitz(factor, at_zero, norm)


def dense(W: Any, bias: Any, leading: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    """Return the certificate of W x + b along the last axis, for outputs with `leading` axes."""
    return affine(induced_norm(W, norm), bias, (*leading, len(W)), norm)


# -- maps entry by entry ---------------------------------------------------------------------------


# Largest slope, value at 0, and bound of |φ| (None for unbounded ones). Slopes of at most 1: 0 ≤ φ'
# ≤ 1 where φ is a clipped identity, and tanh' = 1 − tanh², sigmoid' = s(1 − s) ≤ 1/4, u/(1 + |u|)
# has slope (1 + |u|)⁻². SELU is λ u or λ α (eᵘ − 1), so its slope is at most λ α. GELU has its
# largest slope at √2, Φ(√2) + √2 φ(√2); those of its tanh form, of SiLU (at 2.3994) and of Mish (at
# 1.4906) have no closed form. All are rounded up.
_LOG_2 = 0.6931471805599454
ACTIVATIONS: dict[str, tuple[float, float, float | None]] = {
    "relu": (1.0, 0.0, None),
    "relu6": (1.0, 0.0, 6.0),
    "tanh": (1.0, 0.0, 1.0),
    "sigmoid": (0.25, 0.5, 1.0),
    "logsigmoid": (1.0, _LOG_2, None),
    "softsign": (1.0, 0.0, 1.0),
    "tanhshrink": (1.0, 0.0, None),
    "hardsigmoid": (0.16666666666666669, 0.5, 1.0),
    # (2u + 3)/6 between −3 and 3
    "hardswish": (1.5, 0.0, None),
    "selu": (1.0507009873554805 * 1.6732632423543774, 0.0, None),
    "gelu": (1.128905, 0.0, None),
    "gelu_tanh": (1.128994, 0.0, None),
    "silu": (1.099840, 0.0, None),
    "mish": (1.088499, 0.0, None),
    "identity": (1.0, 0.0, None),
}
ACTIVATIONS["logistic"] = ACTIVATIONS["sigmoid"]  # as scikit-learn calls it


# Functions and methods that are activations, by these names.
ACTIVATION_FUNCTIONS: dict[Any, str] = {
    getattr(space, name): name
    for space in (torch, nn.functional)
    for name in ACTIVATIONS
    if hasattr(space, name)
}
ACTIVATION_FUNCTIONS |= {name: name for name in ("relu", "tanh", "sigmoid")}  # as methods
_MODULES = (
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink, nn.Hardsigmoid,
    nn.Hardswish, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
)  # fmt: skip


def activation(described: Any, size: int, norm: Norm) -> PolynomialLipschitz:
    """Return the certificate of an activation, by name or figures, applied to `size` entries."""
    slope, at_zero, bound = ACTIVATIONS.get(described, described)
    if bound is not None:
        return lipschitz(slope, norm=norm, magnitude=product(bound, repetition(size, norm)))
    return elementwise(slope, at_zero, size, norm)


@register_rule(*_MODULES, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.Softplus, nn.Hardtanh)
def _activation(module: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    return activation(_described(module), math.prod(shape), norm)


def _described(module: Any) -> str | tuple[float, float, float | None]:
    """Return largest slope, value at 0 and bound of an activation with parameters, or its name."""
    match module:
        case nn.LeakyReLU():
            return np.maximum(1.0, abs(module.negative_slope)), 0.0, None  # NaN stays
        case nn.PReLU():
            return np.maximum(1.0, vector_norm(array(module.weight), "linf")), 0.0, None
        case nn.ELU():  # α eᵘ for u < 0
            return np.maximum(1.0, abs(module.alpha)), 0.0, None
        case nn.CELU():  # e^{u/α} for u < 0, which is at most 1 where α is positive
            if not module.alpha > 0:
                raise ValueError(f"Got CELU with alpha={module.alpha}, which is not Lipschitz.")
            return 1.0, 0.0, None
        case nn.Softplus():
            # The slope is a sigmoid. But torch goes over to u itself past the threshold and jumps
            # there by log(1 + e^{−threshold})/β, which is below what float32 can see only from
            # about 18 on.
            if not (module.beta > 0 and module.threshold >= 18):
                raise ValueError(
                    f"Got Softplus with beta={module.beta}, threshold={module.threshold}, but "
                    f"torch's softplus jumps at its threshold; it is Lipschitz, to 1e-8, for beta "
                    f"> 0 and a threshold of at least 18."
                )
            return 1.0, product(_LOG_2, reciprocal(module.beta)), None
        case nn.Hardtanh():
            return 1.0, 0.0, vector_norm([module.min_val, module.max_val], "linf")
        case nn.GELU(approximate="tanh"):
            return "gelu_tanh"
    return next(c.__name__.lower() for c in type(module).__mro__ if c in _MODULES)


@register_rule(
    nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d
)
def _unchanged(module: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    # Dropout does nothing in evaluation.
    return identity(norm)


@register_rule(nn.Softmax)
def _softmax(module: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    if module.dim is None:
        raise ValueError("Got Softmax without dim, which torch chooses by old rules; pass dim=.")
    return softmax(math.prod(shape), shape[module.dim], norm)


def softmax(size: int, terms: int, norm: Norm) -> PolynomialLipschitz:
    """Return the certificate of softmax over groups of `terms` of `size` entries.

    The Jacobian diag(p) − ppᵀ is symmetric with row sums 2p(1 − p) ≤ 1/2 of absolute values, so 1/2
    bounds it in l1 and linf, and in l2 as the geometric mean of these.
    """
    return lipschitz(0.5, norm=norm, magnitude=repetition(size // max(terms, 1), norm))


# -- linear maps -----------------------------------------------------------------------------------


@register_rule(nn.Linear)
def _linear(module: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    # On tokens it is block diagonal, with the norm of one block.
    return dense(module.weight, module.bias, shape[:-1], norm)


@register_rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _convolution(module: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    # A row of the matrix of a convolution holds a kernel of one output channel once, and zeros; a
    # column holds at most the kernels of one input channel, fewer where the stride or the border
    # leaves some out. In l2 either the geometric mean of these (Schur), or the sum over the
    # kernel's places of the norms of its channel matrices, of which each only shifts and scales.
    if module.padding_mode != "zeros" and norm != "linf":
        raise ValueError(
            f"Got a convolution with padding_mode={module.padding_mode!r}, which repeats entries "
            f"of the border; in {norm} there is a rule for 'zeros' only."
        )
    W = array(module.weight)  # (n_out, n_in / groups, *kernel)
    groups = W.reshape(module.groups, W.shape[0] // module.groups, W.shape[1], -1)
    _, n_out, n_in, n_places = groups.shape
    rows = max(induced_norm(g.reshape(n_out, n_in * n_places), "linf") for g in groups)
    columns = max(induced_norm(g.swapaxes(0, 1).reshape(n_in, -1), "linf") for g in groups)
    factor = {"l1": columns, "linf": rows}.get(norm)
    if factor is None:
        schur = product(math.sqrt(rows), math.sqrt(columns), UP)
        at_places = groups.transpose(0, 3, 1, 2)
        factor = min(schur, max(total(*(induced_norm(M, "l2") for M in g)) for g in at_places))
    out = tuple(module(torch.zeros(shape, dtype=torch.float64)).shape)
    bias = None if module.bias is None else array(module.bias).reshape(-1, *[1] * (W.ndim - 2))
    return affine(factor, bias, out, norm)


def _factors_and_shifts(module: Any, size: int) -> tuple[NDArray, NDArray]:
    """Return what follows a normalisation, ones and zeros where that is nothing."""
    weight = np.ones(size) if module.weight is None else array(module.weight).ravel()
    return weight, np.zeros(size) if module.bias is None else array(module.bias).ravel()


@register_rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def _batch_norm(module: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    # In evaluation every channel is scaled and shifted by stored figures.
    if module.running_var is None:
        raise ValueError(
            f"Got {type(module).__name__} with track_running_stats=False, which mixes the samples "
            f"of a batch: it is no function of one matrix."
        )
    variances = (array(module.running_var) + module.eps) * (1 - 1e-15)
    if not (variances >= 0).all():
        raise ValueError(
            f"Got {type(module).__name__} whose running_var plus eps is negative or NaN, so that "
            f"it has no square root; set variances >= 0."
        )
    means = array(module.running_mean)
    weight, bias = _factors_and_shifts(module, len(means))
    pairs = zip(np.abs(weight), variances, strict=True)
    factors = [product(w, reciprocal(math.sqrt(v))) for w, v in pairs]
    triples = zip(factors, np.abs(means), np.abs(bias), strict=True)
    shift = vector_norm([total(product(f, m), b) for f, m, b in triples], norm)
    times = repetition(math.prod(shape) / len(means), norm)
    return lipschitz(max(factors), product(shift, times), norm)


@register_rule(nn.LayerNorm)
def _layer_norm(module: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    # With s = √(variance + eps) and z = (x − mean)/s, ‖z‖₂² ≤ d, the Jacobian on d entries is
    # diag(γ)(I − 11ᵀ/d − zzᵀ/d)/s: 1 and z are orthogonal, so the middle has eigenvalues between 0
    # and 1, and s ≥ √eps. Symmetric matrices of order d with 2-norm at most 1 have row and column
    # sums of absolute values of at most √d. Without eps it would jump at constant vectors: the
    # smaller eps, the worse (Kim, Papamakarios and Mnih 2021 leave it out for this reason).
    if not module.eps > 0:
        raise ValueError(
            f"Got LayerNorm with eps={module.eps}, which is not continuous where all entries are "
            f"equal, so it is not polynomially Lipschitz; use a positive eps."
        )
    d = math.prod(module.normalized_shape)
    weight, bias = _factors_and_shifts(module, d)
    times, root = repetition(math.prod(shape) // d, norm), repetition(d, "l2")
    slope = product(vector_norm(weight, "linf"), reciprocal(math.sqrt(module.eps)))
    # |zᵢ| ≤ √d, and Σ|γᵢ zᵢ| ≤ ‖γ‖₂ √d.
    of_values = product(vector_norm(weight, "l2" if norm == "l1" else "linf"), root)
    magnitude = product(total(of_values, vector_norm(bias, norm)), times)
    slope = slope if norm == "l2" else product(slope, root)
    return lipschitz(slope, norm=norm, magnitude=magnitude)
