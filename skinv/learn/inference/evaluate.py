"""One piece of a batch through the arithmetic of a model, in NumPy or torch alike."""

from typing import Any

import numpy as np

from ..._arrays.conversion import namespace
from ..._arrays.embedding import from_pairs
from ..._arrays.memory import on_host
from ..._linalg.products import activate, add_product, add_to_diagonal, affine, product
from ..._linalg.workspace import Workspace
from .parts import SHORT, Parts
from .series import SeriesPart


def evaluate(parts: Parts, E: Any, out: Any, space: Workspace) -> None:
    """Compute the outputs (m, n_outputs) of E = (a − origin)·unit, both contiguous; E is kept.

    In the precision of E, whatever that of `out` is.
    """
    if out.dtype != E.dtype:
        wide = space.of(E, tuple(out.shape), "wide")
        evaluate(parts, E, wide, space)
        out[...] = wide
        return
    started = bool(parts.layers) or parts.reduced is not None
    if parts.layers:
        h = E
        for k, (W, b) in enumerate(parts.layers[:-1]):
            h = affine(h, W, b, space.of(E, (len(E), W.shape[1]), f"hidden{k}"))
            activate(h, parts.activation, space)
        W, b = parts.layers[-1]
        if b.shape[0] <= SHORT and on_host(b):
            product(h, W, out=out)
            flat = out.reshape(-1)
            flat += parts.repeated("bias", b, len(out))
        else:
            affine(h, W, b, out)
    if parts.reduced is not None:
        parts.reduced.evaluate(E, out, space, lambda h: activate(h, parts.activation, space))
    if parts.linear is not None and started:
        add_product(out, E, parts.linear, space)
    elif parts.linear is not None:
        affine(E, parts.linear, parts.constant, out)
    elif not started and parts.constant is not None:
        out[...] = parts.constant
    if parts.series is not None:
        add = started or parts.linear is not None or parts.constant is not None
        if parts.is_complex:
            E, out = (from_pairs(rows, len(rows), rows.shape[1] // 2) for rows in (E, out))
        if parts.series.is_thin:
            _thin(parts.series, E, out, add, parts.unit)
        else:
            _whole(parts.series, E, out, add, space)


def _whole(series: SeriesPart, E: Any, out: Any, add: bool, space: Workspace) -> None:
    """Compute B(I + N + N² + …) with N = −EB.

    The first product has all rows of all E in one with B; the constant factor comes last.
    """
    n, m = series.right.shape[0], len(E)
    rows = (m * n, n)
    N = product(E.reshape(rows), series.right, out=space.of(E, rows, "N")).reshape(m, n, n)
    P = _powers(N, series.order, space)
    add_to_diagonal(P, 1.0)
    if series.columns is not None:  # entries of the last product
        P = P[:, :, series.columns]
        P *= series.left
        _put(out, P.sum(1), add)
        return
    # NumPy spreads the constant by itself, and faster.
    B = series.left if type(E) is np.ndarray else namespace(E).broadcast_to(series.left, (m, n, n))
    if series.pick is not None:
        _put(out, product(B, P).reshape(m, n * n)[:, series.pick], add)
    elif add:
        add_product(out.reshape(m, n, n), B, P, space)
    else:
        product(B, P, out=out.reshape(m, n, n))


def _powers(N: Any, order: int, space: Workspace) -> Any:
    """Return N + N² + … + N^order, which may be N itself.

    Of 6, 8, … powers, I included, as I + P = (I + N)(I + Q) with Q = N² + N⁴ + …, else by Horner's
    rule. What is small is added up before it is added to I, where it is rounded.
    """
    shape, name = tuple(N.shape), f"powers up to {order}"
    if order == 1:
        return N
    if order > 3 and order % 2:
        squares = product(N, N, out=space.of(N, shape, f"{name}: squares"))
        few = _powers(squares, order // 2, space)
    else:
        few = _powers(N, order - 1, space)
        if few is not N:
            add_to_diagonal(few, 1.0)
            return product(N, few, out=space.of(N, shape, name))
    P = product(N, few, out=space.of(N, shape, name))
    P += few
    if few is not N:
        P += N
    return P


def _put(out: Any, values: Any, add: bool) -> None:
    if add:
        out += values
    else:
        out[...] = values


def _thin(series: SeriesPart, E: Any, out: Any, add: bool, unit: float) -> None:
    """Compute some rows and columns of the series from thin products.

    Of columns V ← B_c − B(EV) from V = B_c, of rows U ← B_r − (UE)B from U = B_r; of the last step
    only the block asked for.
    """
    m, n = len(E), series.inner.shape[0]
    E = E.reshape(m, n, n)
    r, c = series.corner.shape

    def spread(M: Any) -> Any:
        return namespace(E).broadcast_to(M, (m, *M.shape))

    def flat(A: Any, B: Any) -> Any:  # stack times constant, as one product
        return product(A.reshape(-1, n), B).reshape(m, -1, B.shape[1])

    V = series.left if series.by_rows else series.right
    for k in range(series.order):
        last = k == series.order - 1
        if series.by_rows:
            W = product(spread(V) if k == 0 else V, E)
        else:
            W = flat(E, V) if k == 0 else product(E, V)
        if unit != 1.0:
            W *= 1 / unit
        if series.by_rows:
            W = flat(W, series.right if last else series.inner)
            V = (series.corner if last else series.left) - W
        else:
            W = product(spread(series.left if last else series.inner), W)
            V = (series.corner if last else series.right) - W
    block = V.reshape(m, r * c)
    _put(out, block if series.pick is None else block[:, series.pick], add)
