"""Matrices that are not square, hostile ones too, and their pseudo-inverses in rational numbers."""

from fractions import Fraction

import hostile
import numpy as np
from flint import fmpq


def wild(rng, shape, reach):
    return 2.0 ** rng.integers(-reach, reach + 1, shape)


def _nearly_deficient(rng, k, m, n):
    A = rng.standard_normal((k, m, n))
    A[:, -1] = A[:, :-1].sum(axis=1) + 10.0 ** -rng.uniform(0, 17, (k, 1)) * A[:, -1]
    return A


def _deficient(rng, k, m, n):
    A = rng.integers(-9, 10, (k, m, n)).astype(float)
    A[:, -1] = A[:, :-1].sum(axis=1)
    return A


def _spread(rng, k, m, n):
    U, _, V = np.linalg.svd(rng.standard_normal((k, m, n)), full_matrices=False)
    return U * 10.0 ** -rng.uniform(0, 12, (k, 1, U.shape[-1])) @ V


# Each of k matrices (m, n), for m <= n.
KINDS = {
    "random": lambda rng, k, m, n: rng.standard_normal((k, m, n)),
    "complex": lambda rng, k, m, n: (
        rng.standard_normal((k, m, n)) + 1j * rng.standard_normal((k, m, n))
    ),
    "single": lambda rng, k, m, n: rng.standard_normal((k, m, n)).astype(np.float32),
    "integers": lambda rng, k, m, n: rng.integers(-2, 3, (k, m, n)),
    "nearly deficient": _nearly_deficient,
    "deficient": _deficient,
    "spread singular values": _spread,
    "graded rows": lambda rng, k, m, n: rng.standard_normal((k, m, n)) * wild(rng, (k, m, 1), 200),
    "graded columns": lambda rng, k, m, n: (
        rng.standard_normal((k, m, n)) * wild(rng, (k, 1, n), 200)
    ),
    "graded both ways": lambda rng, k, m, n: (
        rng.standard_normal((k, m, n)) * wild(rng, (k, m, 1), 9) * wild(rng, (k, 1, n), 9)
    ),
    "huge or tiny": lambda rng, k, m, n: (
        rng.standard_normal((k, m, n))
        * 2.0 ** rng.choice([-1021, -700, -520, 520, 1020], (k, 1, 1))
    ),
    "subnormal entries": lambda rng, k, m, n: (
        rng.standard_normal((k, m, n)) * np.where(rng.uniform(size=(k, m, n)) < 0.4, 2.0**-1030, 1)
    ),
    "complex and graded": lambda rng, k, m, n: (
        _nearly_deficient(rng, k, m, n) * wild(rng, (k, m, 1), 60) * 1j
        + rng.standard_normal((k, m, n)) * 2.0 ** -rng.integers(0, 60, (k, 1, 1))
    ),
    "single and graded": lambda rng, k, m, n: (
        rng.standard_normal((k, m, n)) * wild(rng, (k, m, 1), 60)
    ).astype(np.float32),
}
SHAPES = ((1, 1), (1, 4), (2, 3), (3, 3), (3, 5), (6, 7))


def squares(M):
    """The sum of the squares of a matrix in rational numbers."""
    return sum(Fraction(int(v.p), int(v.q)) ** 2 for v in M.entries())


def exact(A, damping):
    """The pseudo-inverse, or the damped one, in rational numbers; None without full rank."""
    A = hostile.rational(np.asarray(A) + 0.0)
    if A.nrows() > A.ncols():
        found = _wide(A.transpose(), damping)
        return None if found is None else found.transpose()
    return _wide(A, damping)


def _wide(A, damping):
    G, square = A * A.transpose(), fmpq(*float(damping).as_integer_ratio()) ** 2
    for i in range(G.nrows()):
        G[i, i] += square
    return None if G.det() == 0 else A.transpose() * G.inv()
