"""Attacks on bounds of entries and of single matrices, of matrices whose rows and columns are in
units of their own: up to 1e±200 apart, and the families of tests/test_units.py.

Real and complex matrices of all kinds of tests/hostile.py; every finite bound is compared with the
exact error. And attacks on skinv.inv, of small matrices most of all: where cofactors and
determinants cancel, at the edges of the sizes of which closed forms are proven, in all
floating-point modes.
"""

import ctypes
from contextlib import contextmanager

import attack_exact
import numpy as np
import torch
from attack_exact import (
    Exact,
    approximations,
    check_inverses,
    dressed,
    embedded,
    inverse,
    kind_of,
    mode_of,
    native,
    shapes,
    wrong_solution,
)
from attack_modules import flushed, safe_inverse
from hostile import FAMILIES as KINDS
from sklearn.base import BaseEstimator, RegressorMixin
from test_units import FAMILIES

import skinv
from skinv import CertifiedInverse, LinearInverseApprox
from skinv.bounds import residual_bound

ORDERS, SHARES = (1, 2, 3, 5, 8), (0.1, 0.4, 0.34, 0.1, 0.06)
MODES = ("gradual", "flush")
NORMS = ("fro", "inf", "1")
# Exponents of the units of rows and columns, at most: 1e±200.
FARTHEST = 664


class Told(RegressorMixin, BaseEstimator):
    """A fitted regressor that answers what it is told, of matrices that are finite."""

    def __init__(self, answers=None, finite=None):
        self.answers, self.finite = answers, finite

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        answers = self.answers[self.finite] if len(X) < len(self.answers) else self.answers
        return embedded(answers).reshape(len(answers), -1).copy()


def wrong_entries(found, X, limits, bounded, pairs):
    """Tell whether bounds of those entries that are bounded do not hold.

    What is found is (N, d, a), numbers N / d · 2^a. Of complex ones pairs say where parts stand.
    """
    (N, d, a), (Y, y), (R, r) = found, X, limits
    if d == 0:
        return True
    e = min(a, y)
    off = [
        abs((u << (a - e)) - d * (v << (y - e))) << max(e - r, 0) for u, v in zip(N, Y, strict=True)
    ]
    most = [abs(d) * v << max(r - e, 0) for v in R]
    if pairs is None:
        return any(u > v for u, v, known in zip(off, most, bounded, strict=True) if known)
    return any(off[u] ** 2 + off[v] ** 2 > most[k] ** 2 for u, v, k in pairs if bounded[k])


def pairs_of(h, columns):
    """Return where both parts of complex matrices (h, columns) and of their bounds stand."""
    both = columns if columns == 1 else 2 * columns
    return [
        (i * both + j, (i + h) * both + j, i * columns + j)
        for i in range(h)
        for j in range(columns)
    ]


def kinds(rng, m, n):
    """Return hostile matrices of order n, in no units yet."""
    family = list(KINDS.values())[rng.randint(len(KINDS))]
    with np.errstate(all="ignore"):
        A = shapes(rng, m, n) if rng.uniform() < 0.4 else family(rng, m, n, np.float64)
    return np.nan_to_num(A, posinf=1.0, neginf=-1.0)


def turned(rng, A):
    """Return complex matrices: of random phases, Hermitian, symmetric, or unitary times others."""
    m, n = A.shape[:2]
    phase = np.exp(2j * np.pi * rng.uniform(size=A.shape))
    B = kinds(rng, m, n)
    way = rng.randint(6)
    if way == 0:
        return A * phase
    if way == 1:
        C = A * phase
        return C + C.conj().swapaxes(1, 2)
    if way == 2:
        return A + 1j * (B + B.swapaxes(1, 2))
    if way == 3:
        return A * np.exp(2j * np.pi * rng.uniform(size=(m, n, 1)))
    return A + 1j * (B if way == 4 else 1e-12 * B)


def matrices(rng, m, dtype, cplx):
    """Return matrices in units of their own, and approximate inverses."""
    if rng.uniform() < 0.25:
        family = FAMILIES[rng.randint(len(FAMILIES))]
        A = np.concatenate([family(np.random.default_rng(rng.randint(2**31)))] * -(-m // 40))[:m]
        cplx = np.iscomplexobj(A)
    else:
        n = int(rng.choice(ORDERS, p=SHARES))
        A = kinds(rng, m, min(n, 4) if cplx else n)
        A = turned(rng, A) if cplx else A
    n, most = A.shape[1], FARTHEST if dtype == np.float64 else 80
    parts = (lambda X: approximations(rng, X, X.dtype)) if rng.randint(2) else (lambda X: X)
    X = safe_inverse(A)
    X = parts(X.real) + 1j * parts(X.imag) if cplx else parts(X)
    far = rng.choice([0, 40, most // 4, most])
    rows, columns = rng.randint(-far, far + 1, (2, m, n)) * rng.choice([0, 1, 1], (2, m, 1))
    if rng.uniform() < 0.3:
        columns = rows
    with np.errstate(all="ignore"):
        unit = np.ldexp(1.0, rows)[:, :, None], np.ldexp(1.0, columns)[:, None, :]
        A = A * unit[0] * unit[1]
        X = X / unit[1].swapaxes(1, 2) / unit[0].swapaxes(1, 2)
        if rng.uniform() < 0.2:  # of what was rounded, or not to be scaled at all
            X = safe_inverse(np.nan_to_num(A))
        kind = (np.complex64 if dtype == np.float32 else np.complex128) if cplx else dtype
        return A.astype(kind), X.astype(kind)


def check_entries(score, family, mode, A, X, radius, context):
    """Compare every finite bound of entries with the exact error."""
    cplx, bad = A.dtype.kind == "c", ~(radius >= 0)
    if bad.any():
        score.violation(family, mode, "a bound is NaN or negative", radius=radius[:5], **context)
    known = (np.isfinite(A) & np.isfinite(X)).all(axis=(1, 2))
    some = np.isfinite(radius).any(axis=(1, 2))
    if (some & ~known).any():
        score.violation(family, mode, "not finite", rows=np.flatnonzero(some & ~known), **context)
    rows, n, bounded = np.flatnonzero(some & known), A.shape[1], np.isfinite(radius)
    limits = np.where(bounded, radius, 0.0)
    exact = [Exact(M[rows]) for M in (embedded(A), embedded(X), limits)]
    pairs = pairs_of(n, n) if cplx else None
    for i, row in enumerate(rows):
        (M, a), *others = (part[i] for part in exact)
        found = *inverse(M, n * (1 + cplx)), -a
        if wrong_entries(found, *others, bounded[row].ravel(), pairs):
            data = {"A": A[row], "X": X[row], "radius": radius[row], **context}
            score.violation(family, mode, "a bound of an entry is too small", **data)
    score.add(family, mode, len(A), len(rows))


def a_batch(rng, m):
    """Return a mode, matrices, and approximate inverses."""
    mode = str(rng.choice(MODES))
    dtype = rng.choice([np.float32, np.float64], p=[0.25, 0.75])
    A, X = matrices(rng, m, dtype, rng.uniform() < 0.4)
    return mode, A, X


def attack_entries(score, rng, m):
    """Bound the entries, and the norms, of given approximate inverses."""
    mode, A, X = a_batch(rng, m)
    (given, held), (answer, kept) = dressed(rng, A), dressed(rng, X)
    if np.ndim(given) != 3 or np.ndim(answer) != 3:  # rows belong to estimators
        given, answer = A, X
    sharp, norm = bool(rng.randint(2)), str(rng.choice(NORMS))
    name = "units: entries" + (" of complex matrices" if A.dtype.kind == "c" else "")
    mode = mode_of(mode, given, answer)
    context = {"sharp": sharp, "given": (kind_of(given), kind_of(answer))}
    with score.unchanged(name, mode, held, kept), flushed("flush" in mode):
        radius = residual_bound(given, answer, sharp=sharp, componentwise=True)
        bound = residual_bound(given, answer, norm, sharp=sharp)
    check_entries(score, name, mode, A, X, native(radius), context)
    name = name.replace("entries", "norms")
    check_inverses(score, name, mode, A, X, native(bound), norm, context)


def a_model(rng, A, X, ours=0.3):
    """Return a certified regressor, ours or one that is told, and its settings."""
    settings = {
        "tol": float(10.0 ** rng.uniform(-15, 1)),
        "order": int(rng.randint(2, 5)),
        "max_refine": int(rng.choice([0, 1, 8])),
        "norm": str(rng.choice(NORMS)),
        "fallback": str(rng.choice(["exact", "nan", "keep"])),
    }
    if rng.uniform() < ours:
        try:
            with np.errstate(all="ignore"):
                model = LinearInverseApprox(A[0].astype(np.result_type(A, np.float64))).fit()
            return CertifiedInverse(model, **settings), settings
        except ValueError:
            if ours == 1:
                return None, settings
    return CertifiedInverse(Told(X, np.isfinite(A).all(axis=(1, 2))), **settings), settings


def attack_radii(score, rng, m):
    """Bound the entries of what a certified regressor answers."""
    mode, A, X = a_batch(rng, m)
    model, settings = a_model(rng, A, X)
    given, held = dressed(rng, A)
    if np.ndim(given) != 3 and not isinstance(model.estimator, Told):
        given = A
    name, mode = "units: radii", mode_of(mode, given)
    try:
        with score.unchanged(name, mode, held), flushed("flush" in mode):
            report = model.report(given)
            report["radius"] = report.radius  # found out where it is asked for
    except ValueError as error:  # the first letters say which
        score.refused(name, mode, m, error)
        return
    answer, radius, bound = (native(report[key]) for key in ("inverse", "radius", "bound"))
    context = {**settings, "model": str(model.estimator)[:40], "given": kind_of(given)}
    answer, radius = (M.reshape(A.shape) for M in (answer, radius))
    radius = np.where(np.isnan(answer).any(axis=(1, 2), keepdims=True), np.inf, radius)
    check_entries(score, name, mode, A, answer, radius, context)
    keep = settings["fallback"] == "keep"
    name = "units: norms of certified answers"
    check_inverses(score, name, mode, A, answer, bound, settings["norm"], context, keep)


def attack_singles(score, rng, m):
    """Invert matrices one at a time."""
    mode, A, X = a_batch(rng, m)
    model, settings = a_model(rng, A, X)
    name, found = "units: single", []
    told = model.estimator if isinstance(model.estimator, Told) else Told()
    context = {**settings, "model": str(model.estimator)[:40]}
    with flushed(mode == "flush"):
        single = model.inverse_function()
        for i, a in enumerate(A):
            told.answers = X[i : i + 1]
            way = rng.randint(4)
            given = (a, a.T.copy().T, np.stack([a, a], 2)[:, :, 0], torch.from_numpy(a))[way]
            with score.unchanged(name, mode, a):
                try:
                    found.append(single(given))
                except ValueError as error:
                    score.refused(name, mode, 1, error)
                    found.append((np.full(a.shape, np.nan), np.inf, "refused"))
    answer = np.stack([native(x) for x, _, _ in found]).reshape(A.shape)
    bound = np.array([b for _, b, _ in found])
    proven = np.isin([s for _, _, s in found], ("predicted", "refined", "exact"))
    if (proven & ~(bound <= settings["tol"])).any():
        score.violation(name, mode, "a status of proven without the proof", **context)
    check_inverses(
        score,
        name,
        mode,
        A,
        answer,
        bound,
        settings["norm"],
        context,
        settings["fallback"] == "keep",
    )


def attack_sides(score, rng, m):
    """Solve systems, most of them near a known matrix, with sides in units of their own."""
    mode, A, _ = a_batch(rng, m)
    name, n = "units: solve", A.shape[1]
    near = rng.uniform(size=m) < 0.7
    size = 10.0 ** -rng.uniform(0, 10, (m, 1, 1))
    with np.errstate(all="ignore"):
        others = A[0] * (1 + size * rng.uniform(-1, 1, A.shape))
        A[near] = others[near].astype(A.dtype)
        b = rng.standard_normal((m, n, int(rng.choice([1, 2]))))
        if rng.uniform() < 0.6:
            b = A @ b
        b = (b * np.ldexp(1.0, rng.randint(-60, 60, (m, 1, 1)) * rng.randint(2))).astype(A.dtype)
    model, settings = a_model(rng, A[:1], A[:1], ours=1.0)
    if model is None:
        return score.add(name, mode, m)
    mode = mode_of(mode, A, b)
    with score.unchanged(name, mode, A, b), flushed("flush" in mode):
        x, bound, radius = model.solve(A, b, return_bound=True, return_radius=True)
    context = {**settings, "model": str(model.estimator)[:40]}
    bad = ~((bound >= 0).all() & (radius >= 0).all())
    if bad:
        score.violation(name, mode, "a bound is NaN or negative", **context)
    cplx = A.dtype.kind == "c"
    pairs, matrix = pairs_of(n, 1) if cplx else None, Exact(embedded(A))
    sides, answers = ([Exact(embedded(M[:, :, j])) for j in range(b.shape[2])] for M in (b, x))
    bounded = np.isfinite(radius)
    limits = [Exact(np.where(bounded, radius, 0.0)[:, :, j]) for j in range(b.shape[2])]
    norms = [
        Exact(np.where(np.isfinite(bound), bound, 0.0)[:, j : j + 1]) for j in range(b.shape[2])
    ]
    some = bounded.any(axis=1) | np.isfinite(bound)
    for i, j in np.argwhere(some):
        d = n * (1 + cplx)
        if not all(np.isfinite(part).all() for part in (A[i], b[i, :, j], x[i, :, j])):
            score.violation(name, mode, "not finite", A=A[i], b=b[i, :, j], x=x[i, :, j], **context)
            continue
        (M, a), (B, e) = matrix[i], sides[j][i]
        N, det = inverse(M, d)
        if det:
            N = [sum(N[k * d + p] * B[p] for p in range(d)) for k in range(d)]
        kept = bounded[i, :, j]
        data = {"A": A[i], "b": b[i, :, j], "x": x[i, :, j], **context}
        if wrong_entries((N, det, e - a), answers[j][i], limits[j][i], kept, pairs):
            score.violation(name, mode, "a radius is too small", radius=radius[i, :, j], **data)
        (u,), p = norms[j][i]
        finite = np.isfinite(bound[i, j])
        if finite and wrong_solution((M, a), (B, e), answers[j][i], d, (u, p)):
            score.violation(name, mode, "the bound is too small", bound=bound[i, j], **data)
    score.add(name, mode, some.size, int(some.sum()))


# What fesetround of the C library takes.
ROUNDINGS = {"downward": 0x400, "upward": 0x800, "toward zero": 0xC00}
SMALL = (1, 2, 3, 4, 5, 6, 7, 8, 16)
SMALL_SHARES = (0.04, 0.28, 0.29, 0.29, 0.02, 0.02, 0.02, 0.03, 0.01)
# Exponents of whole matrices: those where closed forms are left to others are among them.
WHOLE = (0, 0, 20, 32, 62, 64, 83, 125, 250, 511, 664)


@contextmanager
def rounded(mode):
    """Round in another way, or flush subnormal numbers to zero."""
    with flushed(mode == "flush"):
        if mode in ROUNDINGS:
            rounding = ctypes.CDLL("libm.so.6").fesetround
            rounding(ROUNDINGS[mode])
            try:
                yield
            finally:
                rounding(0)
        else:
            yield


def small_matrices(rng, m, n, dtype):
    """Return small matrices: of all kinds, or nearly of rank one, in all units."""
    way = rng.randint(4)
    if way == 0:
        return attack_exact.matrices(rng, m, n, dtype)[0]
    A = kinds(rng, m, n)
    if way == 1:  # large products, and little left of determinants
        sizes = 10.0 ** -rng.uniform(0, 17, (m, 1, 1))
        A = rng.standard_normal((m, n, 1)) * rng.standard_normal((m, 1, n)) + sizes * A
    far = rng.choice([0, 1, 10, 60, 130, FARTHEST if dtype == np.float64 else 80])
    rows, columns = rng.randint(-far, far + 1, (2, m, n)) * rng.choice([0, 1, 1], (2, m, 1))
    whole = rng.choice(WHOLE, (m, 1)) + rng.randint(-3, 4, (m, 1))
    whole = whole * rng.choice([-1, 1], (m, 1)) // (1 if dtype == np.float64 else 8)
    with np.errstate(all="ignore"):
        return np.ldexp(A, rows[:, :, None] + columns[:, None, :] + whole[:, :, None]).astype(dtype)


def attack_inv(score, rng, m):
    """Invert small matrices from scratch, in all floating-point modes."""
    mode = str(rng.choice([*MODES, *ROUNDINGS], p=[0.5, 0.2, 0.1, 0.1, 0.1]))
    dtype = rng.choice([np.float32, np.float64], p=[0.2, 0.8])
    n = int(rng.choice(SMALL, p=SMALL_SHARES))
    A = small_matrices(rng, m, n, dtype)
    name = "inv" if n < 5 else "inv, order 5 to 16"
    if rng.uniform() < 0.12 and n < 5:
        A, name = turned(rng, A.astype(np.float64)), "inv, complex"
        A = A.astype(np.complex64 if dtype == np.float32 else np.complex128)
    given, held = (A, A) if rng.randint(2) else dressed(rng, A)
    if np.ndim(given) != 3:
        given = A
    if not A.imag.any() and (abs(A) < 2**40).all() and (np.rint(A) == A).all():
        given = A.real.astype(np.int64)  # integers are answered in double precision
        A = given.astype(np.float64)
    settings = {"tol": None, "fallback": str(rng.choice(["exact", "nan", "keep"]))}
    if rng.uniform() < 0.3:
        settings["tol"] = float(10.0 ** rng.uniform(-16, 0))
    mode = mode_of(mode, given)
    with score.unchanged(name, mode, held), rounded(mode.partition(",")[0]):
        report = skinv.inv(given, return_report=True, **settings)
        radius = report.radius if rng.uniform() < 0.1 else None
        again = skinv.inv(given, **settings)
    X, bound = native(report.inverse), native(report.bound)
    context = {**settings, "given": kind_of(given)}
    if not np.array_equal(X, native(again), equal_nan=True):
        score.violation(name, mode, "another answer without a report", **context)
    same = (A.conj().swapaxes(1, 2) == A).all(axis=(1, 2)) & np.isfinite(X).all(axis=(1, 2))
    # Differences of imaginary parts, one the negative of the other, are rounded in one direction.
    apart = "flush" in mode or (mode in ("upward", "downward") and A.dtype.kind == "c")
    if not apart and (X.conj().swapaxes(1, 2) != X)[same].any():
        score.violation(name, mode, "symmetry is lost", **context)
    check_inverses(score, name, mode, A, X, bound, "fro", context, settings["fallback"] == "keep")
    if radius is not None:
        radius = np.where(np.isnan(X).any(axis=(1, 2), keepdims=True), np.inf, native(radius))
        check_entries(score, f"{name}: radii", mode, A, X, radius, context)


ATTACKS = {
    "inv": (attack_inv, 1_200_000, 400),
    "units: entries": (attack_entries, 400_000, 400),
    "units: radii": (attack_radii, 300_000, 400),
    "units: single": (attack_singles, 60_000, 100),
    "units: solve": (attack_sides, 200_000, 400),
}
