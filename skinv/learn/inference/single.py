"""A model as a function of a single matrix, with as few NumPy calls as there can be."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .parts import Parts


def single_function(parts: Parts) -> Callable[[NDArray], NDArray]:
    """Return a function from a row of features to a row of outputs, 1-d arrays of one dtype."""
    origin, kept = parts.origin, parts.kept
    unit = None if parts.unit == 1.0 else origin.dtype.type(parts.unit)
    if parts.reduced is not None:
        terms = [term for term in (_reduced(parts), _linear(parts), _series(parts)) if term]
    else:
        terms = [term for term in (_network(parts), _series(parts)) if term]
    first = terms[0]

    if len(terms) == 1 and kept is None and unit is None:
        return lambda a: first(a - origin)

    def function(a: NDArray) -> NDArray:
        e = (a if kept is None else a[kept]) - origin
        if unit is not None:
            e *= unit
        out = first(e)
        for term in terms[1:]:
            out += term(e)
        if kept is not None:  # NaN and infinity in entries that are not read are to show, too
            out += a.dot(np.zeros_like(a))
        return out

    return function


def _reduced(parts: Parts) -> Callable[[NDArray], NDArray]:
    """Return a model in reduced coordinates as a function of differences.

    See :meth:`skinv.learn.inference.coordinates.ReducedPart.evaluate`.
    """
    part = parts.reduced
    assert part is not None
    first, terms, n_terms = np.ascontiguousarray(part.projection.T), part.terms, len(part.terms)
    r, shift, limits = part.n_outside, _flat(part.shift), _flat(part.limits)
    layers, activate = _halved(part.layers, parts.activation)
    n_hidden = len(layers[-1][1]) if layers else 0
    n_inputs = layers[0][0].shape[1] if layers else 0
    n_inside = n_terms + n_hidden + 1
    last, basis, constant = part.coef, None, None
    if part.basis is None:
        last = np.ascontiguousarray(part.coef.T)
    else:
        basis, constant = np.ascontiguousarray(part.basis[:-1].T), part.basis[-1]

    def reduced(e: NDArray) -> NDArray:
        looked = first.dot(e)
        if shift is not None:
            looked += shift
        inside = np.empty(n_inside, e.dtype)
        inside[: len(looked) - r] = looked[r:]
        terms.evaluate(inside[:n_terms])
        if n_hidden:
            h = inside[:n_inputs]
            for V, c in layers:
                h = V.dot(h)
                h += c
                h = activate(h)
            inside[n_terms:-1] = h
        known = limits is None or (np.abs(looked) <= limits).all()
        inside[-1] = 1.0 if known else np.nan
        if basis is None:
            return last.dot(inside)
        out = basis.dot(last.dot(inside[:-1]))
        out += constant if known else np.nan
        return out

    return reduced


def _linear(parts: Parts) -> Callable[[NDArray], NDArray] | None:
    if parts.linear is None:
        return None
    linear = np.ascontiguousarray(parts.linear.T)
    return lambda e: linear.dot(e)


def _flat(column: NDArray | None) -> NDArray | None:
    return None if column is None else column[:, 0]


def _halved(layers: list, activation: str) -> tuple[list[tuple[NDArray, NDArray]], Callable]:
    """Return hidden layers (n_out, n_in) and what follows them.

    silu(2t) is t(1 + tanh t), so its inputs are halved beforehand.
    """
    half = 0.5 if activation == "silu" else 1.0
    halved = [(np.ascontiguousarray(W) * half, b.reshape(-1) * half) for W, b in layers]
    return halved, _ACTIVATIONS[activation]


def _network(parts: Parts) -> Callable[[NDArray], NDArray] | None:
    """Return network and affine part as a function of differences.

    Where there are both they share a product, whose last entries are the affine part.
    """
    linear = None if parts.linear is None else np.ascontiguousarray(parts.linear.T)
    if not parts.layers:
        constant = parts.constant
        if linear is not None:
            return lambda e: linear.dot(e) + constant
        return None if constant is None else lambda e: constant.copy()
    layers, activate = _halved([(W.T, b) for W, b in parts.layers[:-1]], parts.activation)
    W, b = parts.layers[-1]
    last, end = np.ascontiguousarray(W.T), b
    if not layers:
        if linear is not None:
            last = last + linear
        return lambda e: last.dot(e) + end
    first, start = layers[0]
    n_hidden = len(start)
    if linear is not None:
        first, start = np.concatenate([first, linear]), np.concatenate([start, end])

    def network(e: NDArray) -> NDArray:
        z = first.dot(e)
        z += start
        if linear is None:
            h, tail = activate(z), end
        else:
            h, tail = activate(z[:n_hidden]), z[n_hidden:]
        for V, c in layers[1:]:
            h = V.dot(h)
            h += c
            h = activate(h)
        out = last.dot(h)
        out += tail
        return out

    return network


def _series(parts: Parts) -> Callable[[NDArray], NDArray] | None:
    series = parts.series
    if series is None:
        return None
    n = len(series.left)
    identity = np.eye(n, dtype=series.left.dtype)
    right, left, more = series.right, series.left, range(series.order - 1)
    kind, real = left.dtype, left.real.dtype

    def function(e: NDArray) -> NDArray:
        N = e.view(kind).reshape(n, n).dot(right)
        P = N + identity
        for _ in more:
            P = N.dot(P)
            P += identity
        return left.dot(P).reshape(-1).view(real)

    return function


def _silu_of_twice(h: NDArray) -> NDArray:
    t = np.tanh(h)
    t += 1
    t *= h
    return t


_ACTIVATIONS: dict[str, Callable[[NDArray], NDArray]] = {
    "relu": lambda h: np.maximum(h, 0, out=h),
    "tanh": lambda h: np.tanh(h, out=h),
    "silu": _silu_of_twice,
}
