"""Models and their residuals by their definitions, in balls, at matrices of rational numbers."""

import math

import numpy as np
from flint import arb, arb_mat, arb_series, fmpq, fmpq_poly


def rational_of(a):
    return fmpq(*float(a).as_integer_ratio())


def taylor_of(activation, x, order):
    """Enclosures of a function and its derivatives up to an order, by power series of balls."""
    series = arb_series([arb(x) if isinstance(x, float) else x, 1], prec=order + 1)
    if activation == "silu":
        values = series / (1 + (-series).exp())
    else:
        values = 1 - 2 / (1 + (2 * series).exp())
    return [values[k] * math.factorial(k) for k in range(order + 1)]


def at(center, directions, z, off=0.0):
    """The matrix of a point, and off it entry by entry, in rational numbers."""
    n = len(center)
    weights = [rational_of(w) for w in z]
    parts = [[rational_of(v) for v in D.ravel()] for D in directions]
    starts = zip(center.ravel(), np.broadcast_to(off, (n, n)).ravel(), strict=True)
    entries = [
        sum((w * p[i] for w, p in zip(weights, parts, strict=True)), rational_of(a))
        + rational_of(e)
        for i, (a, e) in enumerate(starts)
    ]
    return row(entries), arb_mat(n, n, entries)


def row(values):
    """A row of balls, of floats that are taken exactly or of rational numbers."""
    values = [v if isinstance(v, fmpq | arb) else rational_of(v) for v in np.ravel(values)]
    return arb_mat(1, len(values), values)


def matrix(values):
    values = np.atleast_2d(values)
    return arb_mat(*values.shape, [rational_of(v) for v in values.ravel()])


def activation_of(name, y):
    return y.max(arb(0)) if name == "relu" else taylor_of(name, y, 0)[0]


def perceptron(layers, activation, h):
    for W, b in layers[:-1]:
        y = h * matrix(W).transpose() + row(b)
        h = arb_mat(1, y.ncols(), [activation_of(activation, v) for v in y.entries()])
    W, b = layers[-1]
    return h * matrix(W).transpose() + row(b)


def outputs(form, a):
    """The model at a row, by its definition."""
    value = row(form.constant)
    if form.linear is not None:
        value += (a - row(form.origin)) * matrix(form.linear)
    if form.layers:
        scaled = a - row(form.x_mean)
        scale = [rational_of(s) for s in form.x_scale]
        scaled = [v / s for v, s in zip(scaled.entries(), scale, strict=True)]
        value += perceptron(form.layers, form.activation, row(scaled))
    if form.reduced is not None:
        value += reduced_outputs(form.reduced, a)
    if form.taylor is not None:
        point, inverse, order = form.taylor
        n = len(point)
        B, E = matrix(inverse), arb_mat(n, n, a.entries()) - matrix(point)
        X = B
        for _ in range(order):
            X = B - B * (E * X)
        value += row(X.entries())
    return value


def reduced_outputs(form, a):
    z = (a - row(form.origin)) * matrix(form.projection)
    used = row(form.constant)
    terms = []
    for name in form.terms.names:
        term = arb(1)
        for i in set(name):
            term *= polynomial(fmpq_poly.legendre_p(name.count(i)), z[0, i])
        terms.append(term)
    few = None
    if terms:
        few = row(terms) * matrix(form.coef)
    if form.layers:
        inputs = form.layers[0][0].shape[1]
        more = perceptron(form.layers, form.activation, row(z.entries()[:inputs]))
        few = more if few is None else few + more
    if few is None:
        return used
    return used + (few if form.basis is None else few * matrix(form.basis))


def polynomial(p, x):
    value = arb(0)
    for c in reversed(p.coeffs()):
        value = value * x + c
    return value


def residual(form, a, A):
    """Ball of ‖I − A f(A)‖ in the Frobenius norm."""
    n = A.nrows()
    R = arb_mat(n, n, [int(i == j) for i in range(n) for j in range(n)]) - A * arb_mat(
        n, n, outputs(form, a).entries()
    )
    return sum((v * v for v in R.entries()), arb(0)).sqrt()
