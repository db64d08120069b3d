"""Rules for maps of sequences: attention, encoder layers, recurrent networks."""

import math
from typing import Any

from torch import nn

from .._arrays.words import Norm
from ._calculus import add, compose, concatenate, matrix_product, scale
from ._certificates import PolynomialLipschitz, constant, identity, repetition, vector_norm
from ._coefficients import plus, product, reciprocal, times, total
from ._rules import ACTIVATION_FUNCTIONS as FUNCTIONS
from ._rules import activation, array, dense, induced_norm, register_rule, through


def tokens(module: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many sequences a tensor is to a recurrent or attention module, and how long."""
    if len(shape) == 2:
        return 1, shape[0]
    return (shape[0], shape[1]) if module.batch_first else (shape[1], shape[0])


def weighted_values(
    scores: PolynomialLipschitz, values: PolynomialLipschitz, n_queries: int
) -> PolynomialLipschitz:
    """Return the certificate of softmax(S(x)) V(x), a row of weights for each of the queries.

    With weights W = softmax(S), W V − W' V' = (W − W') V + W' (V − V'). Rows of W are not negative
    and sum to 1, so its columns sum to at most the number m of queries and ‖W‖₂ ≤ √m: W' takes
    entrywise norms of V to at most 1, √m and m times that in linf, l2 and l1. ‖(W − W') V‖ ≤
    ‖W − W'‖ ‖V‖ in l1 and l2, and softmax has constant 1/2. In linf what counts is Σₖ|Wᵢₖ − W'ᵢₖ|;
    the derivative p∘(d − pᵀd) of a row in direction d has the mean absolute deviation of d under p
    as its l1 norm, which is at most ‖d‖∞.

    Softmax attention is not Lipschitz on the whole space (Kim, Papamakarios and Mnih 2021, "The
    Lipschitz constant of self-attention"): S grows like t², its bound like t.
    """
    norm = values.norm
    rows = repetition(n_queries, norm)
    half = 1.0 if norm == "linf" else 0.5
    of_weights = times(half, times(scores.P.coef, values.B.coef))
    P = plus(of_weights, times(rows, values.P.coef))
    return PolynomialLipschitz(P, times(rows, values.B.coef), norm)


def attention(
    module: Any, operands: list, queries: tuple[int, int], keys: tuple[int, int]
) -> PolynomialLipschitz:
    """Return the certificate of multi-head attention to what query, key and value are.

    `queries` and `keys` are (sequences, length). Heads and sequences are blocks of the same
    matrices: the norm of all products QₕKₕᵀ together is at most ‖Q‖‖K‖ in l1 and l2, and d_head
    times that in linf. Masks only take terms away.
    """
    if module.bias_k is not None or module.add_zero_attn:
        raise ValueError(
            "Got MultiheadAttention with add_bias_kv or add_zero_attn, for which there is no rule."
        )
    norm = operands[0].norm
    if module.in_proj_weight is not None:
        weights = module.in_proj_weight.chunk(3)
    else:
        weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    Q, K, V = (
        compose(dense(W, b, sizes, norm), inner)
        for W, b, inner, sizes in zip(weights, biases, operands, (queries, keys, keys), strict=True)
    )
    d = module.embed_dim // module.num_heads
    scores = scale(matrix_product(Q, K, d), reciprocal(math.sqrt(d)))
    mixed = weighted_values(scores, V, queries[1])
    return compose(dense(module.out_proj.weight, module.out_proj.bias, queries, norm), mixed)


# The activations of which torch has a fast way, by its mark on the layer.
_FAST = {1: (nn.functional.relu, nn.ReLU), 2: (nn.functional.gelu, nn.GELU)}


@register_rule(nn.TransformerEncoderLayer)
def _encoder_layer(module: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    # x + attention(x) and x + mlp(x), each normalised after the sum, or before attention and mlp.
    if type(module.self_attn) is not nn.MultiheadAttention:
        raise ValueError(
            f"Got a TransformerEncoderLayer with a {type(module.self_attn).__name__} as its "
            f"attention, for which there is no rule."
        )
    dropouts = {type(d) for d in (module.dropout, module.dropout1, module.dropout2)}
    if dropouts != {nn.Dropout}:
        raise ValueError("Got a TransformerEncoderLayer with something else than Dropout in it.")
    fast, function = _FAST.get(module.activation_relu_or_gelu), module.activation
    if fast and function not in fast and not isinstance(function, fast[1]):
        raise ValueError(
            f"Got a TransformerEncoderLayer with activation={function!r} that was made with "
            f"another, which torch goes on to use where it can; pass it to the constructor."
        )
    sizes = tokens(module.self_attn, shape)
    wide = (*shape[:-1], module.linear1.out_features)

    def attended(inner: PolynomialLipschitz) -> PolynomialLipschitz:
        return attention(module.self_attn, [inner] * 3, sizes, sizes)

    def fed_forward(inner: PolynomialLipschitz) -> PolynomialLipschitz:
        hidden = through(module.linear1, inner, shape)
        if isinstance(function, nn.Module):
            hidden = through(function, hidden, wide)
        elif function in FUNCTIONS:
            hidden = compose(activation(FUNCTIONS[function], math.prod(wide), norm), hidden)
        else:
            raise ValueError(
                f"Got TransformerEncoderLayer with activation={function!r}, for which there is no "
                f"rule; use a torch.nn module with one (see register_rule)."
            )
        return through(module.linear2, hidden, wide)

    x = identity(norm)
    if module.norm_first:
        x = add(x, attended(through(module.norm1, x, shape)))
        return add(x, fed_forward(through(module.norm2, x, shape)))
    x = through(module.norm1, add(x, attended(x)), shape)
    return through(module.norm2, add(x, fed_forward(x)), shape)


@register_rule(nn.TransformerEncoder)
def _encoder(module: Any, shape: tuple[int, ...], norm: Norm) -> PolynomialLipschitz:
    x = identity(norm)
    for layer in (*module.layers, *([] if module.norm is None else [module.norm])):
        x = through(layer, x, shape)
    return x


# -- recurrent networks ----------------------------------------------------------------------------


# The activations of what one step computes of input and state, by the mode of a module.
_LSTM = ("sigmoid", "sigmoid", "tanh", "sigmoid")
_GATES = {"RNN_TANH": ("tanh",), "RNN_RELU": ("relu",), "LSTM": _LSTM}


@register_rule(nn.RNN, nn.LSTM)
def _recurrent(module: Any, shape: tuple[int, ...], norm: Norm) -> Any:
    # The network over a fixed number of steps is a composition of maps of (input, state). States
    # start at zero. Returns the certificates of what the module returns: all outputs, and the
    # last states.
    if getattr(module, "proj_size", 0):
        raise ValueError("Got an LSTM with proj_size > 0, for which there is no rule.")
    n_sequences, length = tokens(module, shape)
    sequence = [identity(norm)] * length
    last: list[tuple[PolynomialLipschitz, ...]] = []
    for layer in range(module.num_layers):
        directions = []
        for suffix in ("", "_reverse") if module.bidirectional else ("",):
            order = slice(None, None, -1 if suffix else 1)
            gates = _gates(module, f"l{layer}{suffix}", n_sequences, norm)
            states, final = _steps(gates, sequence[order], n_sequences * module.hidden_size)
            directions.append(states[order])
            last.append(final)
        sequence = [concatenate(*parts) for parts in zip(*directions, strict=True)]
    ends = tuple(concatenate(*parts) for parts in zip(*last, strict=True))
    return concatenate(*sequence), ends if isinstance(module, nn.LSTM) else ends[0]


def _gates(module: Any, name: str, n_sequences: int, norm: Norm) -> list[tuple]:
    """Return φ, ‖W‖, ‖U‖ and b of the gates φ(W x + U h + b) of one layer in one direction."""
    kinds, size, width = _GATES[module.mode], module.hidden_size, module.input_size
    if not name.startswith("l0"):
        width = size * (2 if module.bidirectional else 1)
    W, U = (array(getattr(module, f"weight_{kind}_{name}")) for kind in ("ih", "hh"))
    biases = [array(getattr(module, f"bias_{k}_{name}")) for k in ("ih", "hh") if module.bias]
    found = [W.shape, U.shape, *(b.shape for b in biases)]
    n = len(kinds) * size
    expected = [(n, width), (n, size), *[(n,) for _ in biases]]
    if found != expected:
        raise ValueError(
            f"Got a {type(module).__name__} with weights of the shapes {found} in {name!r}, but "
            f"those of its constructor are expected, {expected}."
        )
    gates = []
    for k, kind in enumerate(kinds):
        s = slice(k * size, (k + 1) * size)
        phi = activation(kind, n_sequences * size, norm)
        shift = total(0.0, *(vector_norm(b[s], norm) for b in biases))
        shift = product(shift, repetition(n_sequences, norm))
        w, u = induced_norm(W[s], norm), induced_norm(U[s], norm)
        gates.append((phi, w, u, constant(shift, norm)))
    return gates


def _steps(gates: Any, inputs: list[PolynomialLipschitz], size: int) -> tuple[list, tuple]:
    """Return the outputs h of all steps, of `size` entries each, and the last h and c.

    c ← f∘c + i∘g, h ← o∘tanh(c), with gates i, f, o in (0, 1) and g in (−1, 1): after k steps no
    entry of c exceeds k. In all three norms ‖a∘b‖ ≤ ‖a‖∞ ‖b‖, so only differences of the gates
    count, and everything stays Lipschitz, with a constant that grows with the length. Where there
    is one gate only, it is h.
    """
    norm = gates[0][0].norm
    c = h = constant(0.0, norm)
    ones, states = repetition(size, norm), []
    for k, x in enumerate(inputs):
        h, *others = (compose(phi, add(scale(x, w), scale(h, u), b)) for phi, w, u, b in gates)
        if others:
            i, (f, g, o) = h, others
            slope = plus(c.P.coef, times(k, f.P.coef), i.P.coef, g.P.coef)
            c = PolynomialLipschitz(slope, product(k + 1, ones), norm)
            slope = plus(slope, times(math.tanh(k + 1), o.P.coef))
            h = PolynomialLipschitz(slope, ones, norm)
        states.append(h)
    return states, (h, c)
