"""Exact errors from the bits of floating-point numbers, and the matrices that attacks use."""

from collections import Counter
from contextlib import contextmanager
from math import isqrt

import numpy as np
import pandas
import torch
from attack_modules import refusals, safe_inverse
from flint import fmpz_mat

# -- exact numbers ---------------------------------------------------------------------------------


# Of each size in bytes: integers of that size, bits of the fraction, least and all exponents.
FORMATS = {
    2: (np.int16, 10, -24, 31),
    4: (np.int32, 23, -149, 255),
    8: (np.int64, 52, -1074, 2047),
}
# Exponents of the smallest and largest numbers to be tried, and those near which methods change.
RANGES = {2: (-26, 15), 4: (-160, 130), 8: (-1090, 1020)}
EDGES = {2: (-24, -14, 0, 15), 4: (-149, -126, -63, -32, 0, 32, 63, 127)}
EDGES[8] = (-1074, -1022, -537, -511, -255, -232, -63, 0, 64, 232, 256, 511, 1023)


def exponents_of(rng, size, shape):
    """Return exponents of two over the whole range of a format, or near those that matter."""
    low, high = RANGES[size]
    if rng.uniform() < 0.3:  # the same for all, but for a little
        return rng.choice([*EDGES[size], rng.randint(low, high)]) + rng.randint(-3, 4, shape)
    edges = rng.choice(EDGES[size], shape) + rng.randint(-3, 4, shape)
    return np.where(rng.uniform(size=shape) < 0.4, edges, rng.randint(low, high, shape))


def numbers(array):
    """Return mantissas and exponents of a floating-point array, from its bits."""
    array = np.ascontiguousarray(array)
    kind, fraction, least, mask = FORMATS[array.dtype.itemsize]
    bits = array.view(kind).astype(np.int64)
    exponent = (bits >> fraction) & mask
    size = bits & (2**fraction - 1)
    size = np.where(exponent > 0, size + 2**fraction, size)
    return np.where(bits < 0, -size, size), np.maximum(exponent, 1) + least - 1


def integers(mantissas, exponents):
    """Return integers and an exponent: numbers are integer * 2**exponent."""
    least = min((e for m, e in zip(mantissas, exponents, strict=True) if m), default=0)
    found = [m << (e - least) if m else 0 for m, e in zip(mantissas, exponents, strict=True)]
    return found, least


class Exact:
    """A floating-point array, of which rows are read as integers."""

    def __init__(self, array):
        self.mantissas, self.exponents = (
            a.reshape(len(a), -1).tolist() if a.size else [] for a in numbers(array)
        )

    def __getitem__(self, i):
        return integers(self.mantissas[i], self.exponents[i])


def inverse(M, n):
    """Return numerators and denominator of the inverse of an integer matrix; 0 if singular."""
    if n == 1:
        return [1], M[0]
    if n == 2:
        return [M[3], -M[1], -M[2], M[0]], M[0] * M[3] - M[1] * M[2]
    A = fmpz_mat(n, n, M)
    if A.det() == 0:
        return None, 0
    N, d = A.inv().numer_denom()
    return [int(x) for x in N.entries()], int(d)


def moduli(values, n):
    """Return the moduli, times 2**64 and rounded down, of the complex numbers that values embed."""
    half = n // 2
    parts = [
        (values[i * n + j], values[(i + half) * n + j]) for i in range(half) for j in range(half)
    ]
    return [isqrt((re * re + im * im) << 128) for re, im in parts]


def norm_of(values, n, norm, cplx=False):
    """Return the norm of integers, squared if it is "fro", times 2**64 if they are embeddings."""
    if norm == "fro":
        return sum(v * v for v in values)
    if cplx:
        values, n = moduli(values, n), n // 2
    step = [values[i::n] if norm == "1" else values[i * n : i * n + n] for i in range(n)]
    return max(sum(map(abs, part)) for part in step)


def exceeds(error, size, bound, norm):
    """Tell whether error > bound * size, exactly."""
    m, e = bound
    m, e, power = (m * m, 2 * e, 2) if norm == "fro" else (m, e, 1)
    del power
    return error << max(-e, 0) > (m * size) << max(e, 0)


def wrong_inverse(M, X, n, bound, norm, cplx):
    """Tell whether the bound of an approximate inverse does not hold.

    All is exact, but for sums of moduli of complex numbers, of which 18 digits or more are known.
    """
    (A, a), (Y, y) = M, X
    N, d = inverse(A, n)
    if d == 0:
        return True
    N = [v << max(-a - y, 0) for v in N]
    Y = [v << max(a + y, 0) for v in Y]
    error = [u - d * v for u, v in zip(N, Y, strict=True)]
    size = norm_of(N, n, norm, cplx) + n * (cplx and norm != "fro")
    return exceeds(norm_of(error, n, norm, cplx), size, bound, norm)


def wrong_solution(M, b, x, n, bound):
    """Tell whether the bound of a solution, relative to what is given, does not hold."""
    error, Y, d, _ = solution_error(M, b, x, n)
    return d == 0 or exceeds(norm_of(error, n, "fro"), norm_of(Y, n, "fro"), bound, "fro")


def wrong_entries(M, b, x, n, radius, cplx):
    """Tell whether an entry of a solution is off by more than its finite bound."""
    error, _, d, p = solution_error(M, b, x, n)
    finite = np.isfinite(radius)
    (R, r), squares = Exact(np.where(finite, radius, 0.0)[None])[0], [v * v for v in error]
    if cplx:
        squares = [u + v for u, v in zip(squares[: n // 2], squares[n // 2 :], strict=True)]
    return (d == 0 and finite.any()) or any(
        good and v << max(2 * (p - r), 0) > (d * m) ** 2 << max(2 * (r - p), 0)
        for v, m, good in zip(squares, R, finite, strict=True)
    )


def solution_error(M, b, x, n):
    """Return A⁻¹b − x and x as integers times 2**p / d, then d, 0 if A is singular, and p."""
    (A, a), (B, e), (Y, y) = M, b, x
    N, d = inverse(A, n)
    if d == 0:
        return [0] * n, Y, 0, 0
    S = [sum(N[i * n + j] * B[j] for j in range(n)) << max(e - a - y, 0) for i in range(n)]
    Y = [d * v << max(y - e + a, 0) for v in Y]
    return [u - v for u, v in zip(S, Y, strict=True)], Y, d, min(e - a, y)


# -- matrices --------------------------------------------------------------------------------------


def shapes(rng, m, n):
    """Return moderate matrices: random, structured, nearly singular or singular."""
    A = rng.standard_normal((m, n, n))
    whole = rng.randint(-4, 5, (m, n, n)).astype(float)
    near = whole.copy()
    near[:, -1] = near[:, :-1].sum(axis=1)
    near += (rng.uniform(size=(m, 1, 1)) < 0.8) * 10.0 ** -rng.uniform(1, 16, (m, 1, 1)) * A
    same = A.copy()
    same[:, -1] = same[:, 0]
    nudged = np.where(rng.uniform(size=A.shape) < 0.2, np.nextafter(same, 9.0), same)
    kinds = [A, np.eye(n) + 0.2 * A, A + A.swapaxes(1, 2), np.triu(A), np.tril(whole), near]
    kinds += [same, nudged, whole, whole + whole.swapaxes(1, 2), 0 * A + A[:, :1, :1] * np.eye(n)]
    return np.choose(rng.randint(0, len(kinds), (m, 1, 1)), kinds)


def scaled(A, rows, columns):
    with np.errstate(all="ignore"):
        return np.ldexp(A, (rows[:, :, None] + columns[:, None, :]).clip(-3000, 3000))


def matrices(rng, m, n, dtype):
    """Return matrices in all units, and approximate inverses from good to garbage."""
    size = np.dtype(dtype).itemsize
    base, top = shapes(rng, m, n), -RANGES[size][0]
    kind = rng.randint(0, 6, (m, 1))
    whole = exponents_of(rng, size, (m, 1))
    whole = np.where((kind < 2) | (rng.uniform(size=(m, 1)) < 0.5), whole, 0)
    rows, columns = (rng.randint(-top, top, (m, n)) for _ in range(2))
    rows = np.where(kind == 2, rows, np.where(kind == 3, rows // 8, whole))
    columns = np.where(kind == 2, columns, np.where(kind == 3, columns // 8, 0))
    A = scaled(base, rows, columns)
    X = scaled(safe_inverse(base), -columns, -rows)
    wild = kind[:, 0] == 4  # every entry of its own size, many subnormal
    with np.errstate(all="ignore"):
        some = np.ldexp(base, rng.randint(-top, top, base.shape) // rng.choice([1, 2, 20]))
        A[wild] = some[wild]
        X[wild] = safe_inverse(np.nan_to_num(A[wild], posinf=1e300, neginf=-1e300))
        A = A.astype(dtype)
        few = (kind == 5) & (rng.uniform(size=(m, 1)) < 0.5)
        tiny = rng.randint(-9, 10, A.shape) * np.finfo(dtype).smallest_subnormal
        A = np.where(few[:, :, None] & (rng.uniform(size=A.shape) < 0.4), tiny, A).astype(dtype)
        A[rng.uniform(size=m) < 0.01, 0, 0] = rng.choice([np.nan, np.inf, -np.inf])
        return A, approximations(rng, X, dtype)


def approximations(rng, X, dtype):
    """Return inverses spoilt in one way or another."""
    m, n, _ = X.shape
    size = 10.0 ** -rng.uniform(0, 17, (m, 1, 1))
    one = rng.uniform(size=X.shape) < 1 / n
    noise = rng.uniform(-1, 1, X.shape)
    share = np.where(rng.uniform(size=(m, 1, 1)) < 0.5, 1, n**0.5)
    edge = X * (1 + rng.choice([-1, 1], (m, 1, 1)) * (1 - size) / share)
    kinds = [X, X, X * (1 + size * noise), X * (1 + size), np.where(one, X * (1 + size), X), edge]
    kinds += [X @ (np.eye(n) + size * noise), (np.eye(n) + size * noise) @ X, X.swapaxes(1, 2)]
    kinds += [0 * X, X * 2, -X, np.where(one, np.nan, X), np.where(one, np.inf, X), X * 1e300]
    kinds += [np.nextafter(X, np.inf * noise), np.where(one, 5e-324, X), noise * size]
    weights = np.array([3.0] * 8 + [0.3] * 7 + [3, 1, 1])
    chosen = rng.choice(len(kinds), (m, 1, 1), p=weights / weights.sum())
    return np.choose(chosen, kinds).astype(dtype)


def embedded(A):
    """Return complex matrices or vectors as real ones, others as they are."""
    if A.dtype.kind != "c":
        return A
    if A.ndim == 2:
        return np.concatenate([A.real, A.imag], axis=1)
    return np.concatenate(
        [np.concatenate([A.real, -A.imag], 2), np.concatenate([A.imag, A.real], 2)], 1
    )


def dressed(rng, A, matrices=True):
    """Return an array in one of many disguises, and all memory that must stay as it is."""
    kind = rng.choice(
        ["stack", "rows", "F", "strided", "fixed", "swapped", "tensor", "mT", "neg"]
        + ["frame", "list"]
    )
    rows = matrices and A.ndim == 3 and A.shape[1] == A.shape[2] and A.dtype.kind != "c"
    if rows and A.shape[1] > 1 and len(A) == A.shape[1] ** 2:
        kind = "strided"  # a square array might be a single matrix
    if kind == "rows" and rows:
        A = A.reshape(len(A), A.shape[1] ** 2).copy()
    elif kind == "F":
        A = np.asfortranarray(A)
    elif kind == "strided":
        wide = np.full((2 * len(A), *A.shape[1:]), 7, A.dtype)
        wide[::2] = A
        return wide[::2], wide
    elif kind == "fixed":
        A = A.copy()
        A.flags.writeable = False
    elif kind == "swapped":
        A = A.astype(A.dtype.newbyteorder())
    elif kind == "frame" and rows and A.shape[1] > 1:
        flat = A.reshape(len(A), A.shape[1] ** 2)
        columns = {
            str(j): column.astype("f8" if j == 0 else A.dtype) for j, column in enumerate(flat.T)
        }
        return pandas.DataFrame(columns), A
    elif kind == "list" and rows and len(A):
        mixed = [list(row) for row in A.reshape(len(A), A.shape[1] ** 2)]
        mixed[0][0] = float(mixed[0][0])
        return mixed, A
    elif kind == "tensor":
        return torch.from_numpy(A), A
    elif kind == "mT":
        A = np.ascontiguousarray(A.swapaxes(-1, -2))
        return torch.from_numpy(A).mT if A.ndim > 2 else torch.from_numpy(A).T, A
    elif kind == "neg" and A.dtype.kind == "f":
        held = torch.complex(
            torch.zeros(A.shape, dtype=torch.from_numpy(A).dtype), torch.tensor(-A)
        )
        return held.conj().imag, torch.view_as_real(held).numpy()
    return A, A


def native(array):
    array = array.detach().resolve_neg().resolve_conj() if torch.is_tensor(array) else array
    array = np.asarray(array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


# -- keeping score ---------------------------------------------------------------------------------


class Score:
    """Counts of each family and mode, and how often each kind of violation was found."""

    def __init__(self):
        self.counts, self.found, self.seconds = {}, Counter(), {}

    def add(self, family, mode, tried, finite=0, **others):
        kept = self.counts.setdefault(f"{family}, {mode}", Counter(tried=0, finite=0, violations=0))
        kept.update(tried=tried, finite=finite, **others)

    def violation(self, family, mode, what, **data):
        self.add(family, mode, 0, violations=1)
        kind = f"{family}, {mode}: {what}"
        self.found[kind] += 1
        if self.found[kind] <= 2:
            print("VIOLATION", family, mode, what, flush=True)
            for name, value in data.items():
                value = value.tolist() if isinstance(value, np.ndarray) else value
                print("   ", name, value, flush=True)

    def refused(self, family, mode, tried, error):
        self.add(family, mode, tried, refused=tried)
        refusals[f"{type(error).__name__}: {error}"[:70]] += 1

    @contextmanager
    def unchanged(self, family, mode, *arrays):
        before = [a.tobytes() for a in arrays]
        yield
        if before != [a.tobytes() for a in arrays]:
            self.violation(family, mode, "input changed")


def check_bounds(score, family, mode, values, bound, keep, context):
    """Check what needs no oracle, and return the rows with a finite bound."""
    axes = tuple(range(1, values.ndim)) if bound.ndim == 1 else (1,)
    known = ~np.isnan(values).all(axis=axes)
    for what, bad in (
        ("a bound is NaN or negative", ~(bound >= 0)),
        ("numbers without a bound", np.isinf(bound) & known & (not keep)),
        (
            "not finite with a finite bound",
            np.isfinite(bound) & ~np.isfinite(values).all(axis=axes),
        ),
    ):
        if bad.any():
            score.violation(family, mode, what, rows=np.argwhere(bad)[:5], **context)
    return np.isfinite(bound) & np.isfinite(values).all(axis=axes)


def check_inverses(score, family, mode, A, X, bound, norm, context, keep=True):
    """Compare every finite bound with the exact error."""
    cplx = A.dtype.kind == "c"
    A, X = embedded(A), embedded(X)
    good = check_bounds(score, family, mode, X, bound, keep, context)
    n, rows = A.shape[-1], np.flatnonzero(good)
    finite = np.isfinite(A).all(axis=(1, 2))
    exact = [Exact(M[rows]) for M in (A, X, bound[:, None])]
    for i, row in enumerate(rows):
        (m,), e = exact[2][i]
        if not finite[row] or wrong_inverse(exact[0][i], exact[1][i], n, (m, e), norm, cplx):
            data = {"A": A[row], "X": X[row], "bound": bound[row], "norm": norm, **context}
            score.violation(family, mode, "the bound is too small", **data)
    score.add(family, mode, len(A), len(rows))


def kind_of(given):
    """Return what an input is, in a word or two."""
    return f"{type(given).__name__} {getattr(given, 'dtype', '')}"


def mode_of(mode, *given):
    """Return the mode, and whether float32 numbers have to be converted in it on the way in."""
    kinds = {str(getattr(part, "dtype", part.__class__.__name__))[-7:] for part in given}
    cast = kinds & {">f4", ">c8", "list", "DataFrame"[-7:]} or len(kinds) > 1
    return f"{mode}, converted" if cast and mode == "flush" else mode
