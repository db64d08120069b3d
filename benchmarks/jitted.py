"""Inverses of small matrices, one after another, in loops compiled by numba, for front.py.

Cofactors up to order 4, and Gauss-Jordan elimination above, neither with pivots nor with a proof.
"""

import numba


@numba.njit(error_model="numpy")
def two(A, X):
    for k in range(len(A)):
        a, b, c, d = A[k, 0, 0], A[k, 0, 1], A[k, 1, 0], A[k, 1, 1]
        r = 1 / (a * d - b * c)
        X[k, 0, 0], X[k, 0, 1], X[k, 1, 0], X[k, 1, 1] = d * r, -b * r, -c * r, a * r


@numba.njit(error_model="numpy")
def three(A, X):
    for k in range(len(A)):
        a, b, c = A[k, 0, 0], A[k, 0, 1], A[k, 0, 2]
        d, e, f = A[k, 1, 0], A[k, 1, 1], A[k, 1, 2]
        g, h, i = A[k, 2, 0], A[k, 2, 1], A[k, 2, 2]
        p, q, s = e * i - f * h, f * g - d * i, d * h - e * g
        r = 1 / (a * p + b * q + c * s)
        X[k, 0, 0], X[k, 0, 1], X[k, 0, 2] = p * r, (c * h - b * i) * r, (b * f - c * e) * r
        X[k, 1, 0], X[k, 1, 1], X[k, 1, 2] = q * r, (a * i - c * g) * r, (c * d - a * f) * r
        X[k, 2, 0], X[k, 2, 1], X[k, 2, 2] = s * r, (b * g - a * h) * r, (a * e - b * d) * r


@numba.njit(error_model="numpy")
def four(A, X):
    for k in range(len(A)):
        (a0, a1, a2, a3), (b0, b1, b2, b3) = A[k, 0], A[k, 1]
        (c0, c1, c2, c3), (d0, d1, d2, d3) = A[k, 2], A[k, 3]
        u0, u1, u2 = a0 * b1 - a1 * b0, a0 * b2 - a2 * b0, a0 * b3 - a3 * b0
        u3, u4, u5 = a1 * b2 - a2 * b1, a1 * b3 - a3 * b1, a2 * b3 - a3 * b2
        l0, l1, l2 = c0 * d1 - c1 * d0, c0 * d2 - c2 * d0, c0 * d3 - c3 * d0
        l3, l4, l5 = c1 * d2 - c2 * d1, c1 * d3 - c3 * d1, c2 * d3 - c3 * d2
        r = 1 / (u0 * l5 - u1 * l4 + u2 * l3 + u3 * l2 - u4 * l1 + u5 * l0)
        X[k, 0, 0] = (b1 * l5 - b2 * l4 + b3 * l3) * r
        X[k, 0, 1] = (a2 * l4 - a1 * l5 - a3 * l3) * r
        X[k, 0, 2] = (d1 * u5 - d2 * u4 + d3 * u3) * r
        X[k, 0, 3] = (c2 * u4 - c1 * u5 - c3 * u3) * r
        X[k, 1, 0] = (b2 * l2 - b0 * l5 - b3 * l1) * r
        X[k, 1, 1] = (a0 * l5 - a2 * l2 + a3 * l1) * r
        X[k, 1, 2] = (d2 * u2 - d0 * u5 - d3 * u1) * r
        X[k, 1, 3] = (c0 * u5 - c2 * u2 + c3 * u1) * r
        X[k, 2, 0] = (b0 * l4 - b1 * l2 + b3 * l0) * r
        X[k, 2, 1] = (a1 * l2 - a0 * l4 - a3 * l0) * r
        X[k, 2, 2] = (d0 * u4 - d1 * u2 + d3 * u0) * r
        X[k, 2, 3] = (c1 * u2 - c0 * u4 - c3 * u0) * r
        X[k, 3, 0] = (b1 * l1 - b0 * l3 - b2 * l0) * r
        X[k, 3, 1] = (a0 * l3 - a1 * l1 + a2 * l0) * r
        X[k, 3, 2] = (d1 * u1 - d0 * u3 - d2 * u0) * r
        X[k, 3, 3] = (c0 * u3 - c1 * u1 + c2 * u0) * r


@numba.njit(error_model="numpy")
def eliminated(A, X):
    n = A.shape[1]
    for k in range(len(A)):
        Y = X[k]
        Y[:] = A[k]
        for p in range(n):
            r = 1 / Y[p, p]
            Y[p, p] = 1
            for j in range(n):
                Y[p, j] *= r
            for i in range(n):
                if i != p:
                    factor = Y[i, p]
                    Y[i, p] = 0
                    for j in range(n):
                        Y[i, j] -= factor * Y[p, j]


def inverses(n):
    """Return a function of (A, X) that writes inverses of matrices (m, n, n) to X."""
    return {2: two, 3: three, 4: four}.get(n, eliminated)
