"""Hostile matrices, hostile approximate inverses, and the true error of one by ball arithmetic."""

import numpy as np
import scipy.linalg
from flint import arb, arb_mat, ctx, fmpq, fmpq_mat

NORMS = ("fro", "inf", "1")


# Families: each takes a generator, a count m, an order n and a dtype, and returns a float64 stack.


def _normal(rng, m, n, dtype):
    return rng.standard_normal((m, n, n))


def _well_conditioned(rng, m, n, dtype):
    return np.eye(n) + 0.3 / np.sqrt(n) * _normal(rng, m, n, dtype)


def _hilbert(rng, m, n, dtype):
    shift = rng.randint(0, 4, (m, 1, 1))
    return 1.0 / (1 + shift + np.add.outer(np.arange(n), np.arange(n)))


def _vandermonde(rng, m, n, dtype):
    return rng.uniform(-1.5, 1.5, (m, n, 1)) ** np.arange(n)


def _kahan(rng, m, n, dtype):
    angle = rng.uniform(0.6, 1.4, (m, 1, 1))
    upper = np.eye(n) - np.cos(angle) * np.triu(np.ones((n, n)), 1)
    return np.sin(angle) ** np.arange(n)[:, None] * upper


def _wilkinson(rng, m, n, dtype):
    A = np.eye(n) - np.tril(rng.uniform(0.9, 1, (m, n, n)), -1)
    A[:, :, -1] = 1 + 0.3 * rng.uniform(size=(m, n))
    return A


def _tiny_pivots(rng, m, n, dtype):
    A = np.triu(_normal(rng, m, n, dtype), 1)
    A[:, range(n), range(n)] = 10.0 ** -rng.uniform(0, 6 if dtype == np.float32 else 12, (m, n))
    return A


def _huge_or_tiny(rng, m, n, dtype):
    exponent = 30 if dtype == np.float32 else 150
    return _normal(rng, m, n, dtype) * 10.0 ** (exponent * rng.choice([-1, 1], (m, 1, 1)))


def _updated(rng, m, n, dtype):
    """A singular integer matrix and t u vᵀ; in a third of the cases t = 0."""
    A = rng.randint(-9, 10, (m, n, n)).astype(float)
    A[:, -1] = A[:, :-1].sum(axis=1)
    t = 10.0 ** -rng.uniform(0, 7 if dtype == np.float32 else 15, (m, 1, 1))
    t[rng.uniform(size=m) < 1 / 3] = 0
    return A + t * rng.standard_normal((m, n, 1)) * rng.standard_normal((m, 1, n))


def _unimodular(rng, m, n, dtype):
    return unimodular(rng, m, n)[0]


def _subnormal(rng, m, n, dtype):
    A = _normal(rng, m, n, dtype)
    tiny = float(np.finfo(dtype).tiny)
    return np.where(rng.uniform(size=A.shape) < 0.3, A * (tiny / 4), A)


def _all_subnormal(rng, m, n, dtype):
    return _normal(rng, m, n, dtype) * float(np.finfo(dtype).tiny)


def _wild_rows_and_columns(rng, m, n, dtype):
    top = 8 if dtype == np.float32 else 70
    rows, columns = (10.0 ** rng.uniform(-top, top, (m, n)) for _ in range(2))
    side = rng.randint(0, 3, (m, 1))
    rows, columns = np.where(side == 0, 1, rows), np.where(side == 1, 1, columns)
    return rows[:, :, None] * _normal(rng, m, n, dtype) * columns[:, None, :]


FAMILIES = {
    "well-conditioned": _well_conditioned,
    "random": _normal,
    "Hilbert": _hilbert,
    "Vandermonde": _vandermonde,
    "Kahan": _kahan,
    "Wilkinson": _wilkinson,
    "tiny pivots": _tiny_pivots,
    "huge or tiny": _huge_or_tiny,
    "updated singular": _updated,
    "unimodular": _unimodular,
    "subnormal entries": _subnormal,
    "all subnormal": _all_subnormal,
    "wild rows and columns": _wild_rows_and_columns,
}


def unimodular(rng, m, n):
    """Return integer matrices of determinant ±1 and their integer inverses, both exact."""
    share = min(1.0, 1.5 / n)
    factors = []
    for k in (-1, 1):
        T = rng.randint(-2, 3, (m, n, n)) * (rng.uniform(size=(m, n, n)) < share)
        factors.append((np.tril(T, -1) if k < 0 else np.triu(T, 1)) + np.eye(n))
    A = (factors[0] @ factors[1])[:, rng.permutation(n)]
    B = np.round(np.linalg.inv(A))
    exact = (abs(A) @ abs(B)).max(axis=(1, 2)) < 2.0**53
    exact &= (abs(A @ B - np.eye(n)) == 0).all(axis=(1, 2))
    A[~exact] = B[~exact] = np.eye(n)
    return A, B


def matrices(n, m, dtype, seed=0):
    """Return a stack of at least m matrices of order n, all families in turn, in random order."""
    rng = np.random.RandomState(seed)
    share = -(-m // len(FAMILIES))
    with np.errstate(all="ignore"):
        stacks = [family(rng, share, n, dtype) for family in FAMILIES.values()]
        A = np.concatenate(stacks).astype(dtype)
    return A[rng.permutation(len(A))]


# Approximate inverses.


def float_inverse(A):
    """Return float64 inverses; where elimination meets a zero pivot, those of a matrix nearby."""
    A = A.astype(np.float64)
    with np.errstate(all="ignore"):
        bad = np.linalg.slogdet(A)[0] == 0
        A[bad] += 1e-3 * np.eye(A.shape[-1])
        # An underflow to zero is a pivot too.
        bad = np.linalg.slogdet(A)[0] == 0
        A[bad] = np.eye(A.shape[-1])
        return np.linalg.inv(A)


def _one_entry(B, rng):
    X, m, n = B.copy(), *B.shape[:2]
    where = np.arange(m), rng.randint(0, n, m), rng.randint(0, n, m)
    X[where] *= 1 + 10.0 ** -rng.uniform(1, 16, m)
    return X


def _perturbed(B, rng):
    size = 10.0 ** -rng.uniform(1, 16, (len(B), 1, 1))
    return B * (1 + size * rng.uniform(-1, 1, B.shape))


def _rank_one(B, rng, left):
    m, n = B.shape[:2]
    E = rng.standard_normal((m, n, 1)) * rng.standard_normal((m, 1, n))
    E = np.eye(n) + 10.0 ** -rng.uniform(1, 16, (m, 1, 1)) * E
    return E @ B if left else B @ E


def _edge(B, rng):
    """Scalings whose residual t·I has a norm of 1 in one of the norms, up to 1e-16…1e-1."""
    m, n = B.shape[:2]
    size = np.where(rng.uniform(size=m) < 0.5, 1, np.sqrt(n))
    near = 1 + rng.choice([-1, 1], m) * 10.0 ** -rng.uniform(1, 16, m)
    return B * (1 + rng.choice([-1, 1], m) * near / size)[:, None, None]


def _with(value):
    def change(B, rng):
        X = B.copy()
        X[np.arange(len(B)), rng.randint(0, B.shape[1], len(B)), 0] = value
        return X

    return change


APPROXIMATIONS = {
    "rounded": lambda B, rng: B,
    "perturbed": _perturbed,
    "left rank one": lambda B, rng: _rank_one(B, rng, True),
    "right rank one": lambda B, rng: _rank_one(B, rng, False),
    "one entry": _one_entry,
    "edge": _edge,
    "far": lambda B, rng: B * (1 + 0.5 * rng.uniform(-1, 1, B.shape)),
    "transposed": lambda B, rng: B.swapaxes(1, 2),
    "negated": lambda B, rng: -B,
    "zero": lambda B, rng: 0 * B,
    "huge": lambda B, rng: B * 1e200,
    "NaN": _with(np.nan),
    "infinite": _with(np.inf),
}
# The hopeless ones are as one.
_WEIGHTS = np.array([4, 5, 3, 3, 2, 3, 1, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3])


def approximations(A, seed=0):
    """Return for each matrix an approximate inverse of its dtype, of a kind drawn at random."""
    rng = np.random.RandomState(seed)
    B = float_inverse(A)
    kinds = rng.choice(len(_WEIGHTS), len(A), p=_WEIGHTS / _WEIGHTS.sum())
    X = np.empty_like(B)
    with np.errstate(all="ignore"):
        for k, make in enumerate(APPROXIMATIONS.values()):
            X[kinds == k] = make(B[kinds == k], rng)
        return X.astype(A.dtype)


def rounded_away(n, m, dtype, seed=0):
    """Return matrices and approximate inverses whose product is rounded to I on every machine.

    With integers N of N² = 0 in the lower left, the last row of I + N is multiplied by 3, the last
    column of its inverse I − N, which is that of I, by fl(1/3). Of the products only 3·fl(1/3) is
    no integer. It is the only one of its sum that is not 0, and is rounded to 1.
    """
    rng = np.random.RandomState(seed)
    N = np.zeros((m, n, n))
    N[:, n // 2 :, : n // 2] = rng.randint(-9, 10, (m, n - n // 2, n // 2))
    A, X = np.eye(n) + N, np.eye(n) - N
    A[:, -1] *= 3
    X[:, -1, -1] = dtype(1) / dtype(3)
    rows, columns = rng.permutation(n), rng.permutation(n)
    A, X = A[:, rows][:, :, columns], X[:, columns][:, :, rows]
    return A.astype(dtype), X.astype(dtype)


# The oracle.


def moduli(parts, n, end):
    """Return bounds of the moduli of complex numbers from those of the parts that embed them."""
    half = n // 2
    pairs = [
        (parts[i * n + j], parts[(i + half) * n + j]) for i in range(half) for j in range(half)
    ]
    return [getattr((re * re + im * im).sqrt(), end)() for re, im in pairs]


class Oracle:
    """The true relative errors of approximate inverses of one matrix, by ball arithmetic.

    Singularity is decided in exact rational arithmetic where balls of 4096 bits leave it open.
    """

    def __init__(self, A):
        self.rows = np.asarray(A, dtype=np.float64).tolist()
        self.bits = 128
        self.inverse = None
        self.singular = not np.isfinite(A).all()
        if not self.singular:
            self._invert()

    def _invert(self):
        while self.bits <= 4096:
            with ctx.workprec(self.bits):
                try:
                    self.inverse = arb_mat(self.rows).inv()
                    self.entries = self.inverse.entries()
                    return
                except ZeroDivisionError:
                    self.bits *= 2
        exact = fmpq_mat([[fmpq(*x.as_integer_ratio()) for x in row] for row in self.rows])
        assert exact.det() == 0
        self.singular = True

    def errors(self, X, embeds=False):
        """Return proven lower bounds of ‖A⁻¹ − X‖ / ‖A⁻¹‖ in the norms "fro", "inf" and "1".

        Of the complex matrices, if A and X embed such.
        """
        if self.singular or not np.isfinite(X).all():
            return (np.inf,) * 3
        low = self._lower(X)
        with ctx.workprec(self.bits):
            return self._ratios(low, embeds)

    def entry_errors(self, X):
        """Return proven lower bounds of |A⁻¹ − X|, entry by entry."""
        if self.singular or not np.isfinite(X).all():
            return np.full(X.shape, np.inf)
        found = [float(arb(low).lower()) for low in self._lower(X)]
        return np.nextafter(found, -1.0).clip(0.0).reshape(X.shape)

    def _lower(self, X):
        """Return lower bounds of the entries of |A⁻¹ − X|."""
        X = arb_mat(np.asarray(X, dtype=np.float64).tolist())
        while True:
            with ctx.workprec(self.bits):
                E = (self.inverse - X).entries()
                low = [e.abs_lower() for e in E]
                if self.bits >= 4096 or sum(e.rad() for e in E) < sum(low) * 1e-6 + 1e-290:
                    return low
            self.bits *= 2
            self._invert()

    def _ratios(self, low, embeds):
        high, n = [e.abs_upper() for e in self.entries], len(self.rows)
        if embeds:
            low, high = moduli(low, n, "lower"), moduli(high, n, "upper")
            n //= 2
        ratios = [
            (sum(x * x for x in low) / sum(x * x for x in high)).lower().sqrt(),
            max(sum(low[i * n : i * n + n]) for i in range(n))
            / max(sum(high[i * n : i * n + n]) for i in range(n)),
            max(sum(low[j::n]) for j in range(n)) / max(sum(high[j::n]) for j in range(n)),
        ]
        return tuple(float(np.nextafter(float(arb(r).lower()), -1)) for r in ratios)


def rational(M):
    """A real matrix, or the real embedding of a complex one, in rational numbers."""
    if np.iscomplexobj(M):
        M = np.block([[M.real, -M.imag], [M.imag, M.real]])
    return fmpq_mat(*M.shape, [fmpq(*float(v).as_integer_ratio()) for v in M.ravel()])


def true_errors(A, X, rows=None):
    """Return an array (n_samples, 3) of proven lower bounds of the errors; 0 where not in rows."""
    errors = np.zeros((len(A), 3))
    for i in range(len(A)) if rows is None else rows:
        errors[i] = Oracle(A[i]).errors(X[i])
    return errors


def count_violations(bound, errors):
    """Count bounds that are NaN, negative, or below a proven lower bound of the error."""
    return int((~(np.asarray(bound, dtype=np.float64) >= np.maximum(errors, 0))).sum())


def hilbert(n):
    """Return the Hilbert matrix, rounded, as a stack."""
    return scipy.linalg.hilbert(n)[None]
