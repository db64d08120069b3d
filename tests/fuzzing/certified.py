"""Fuzzing of CertifiedInverse and StructuredInverse."""

import warnings
from fractions import Fraction
from functools import partial

import numpy as np
import torch
from flint import arb, arb_mat, ctx
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from strategies import REFUSED, Given, attempt, center_of

from fuzzing.common import check_like, check_relative, embedded, entry, on_host, oracle
from fuzzing.models import (
    Liar,
    affine,
    affine_free,
    complex_series,
    float_dtypes,
    inverses_of,
    matrices_for,
    named,
    packed,
    ridge,
    series,
    silu,
    structured,
    training,
    weights,
)
from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    StructuredInverse,
)

LIES = "zeros", "nan", "huge", "itself", "negative", "half", "list", "tensor", "shared", "objects"
NONSENSE = "long", "complex", "narrow", "few", "strings", "none", "cube", "ragged", "dict"


def garbage(kind):
    """Return a family of matrices that returns something else."""

    def family(p):
        m = len(p)
        t = np.asarray(p.detach() if isinstance(p, torch.Tensor) else p, dtype=float)[:, :1]
        A = center_of(2) + 0.1 * np.clip(t, -10, 10)[:, :, None] * np.eye(2)
        answers = {
            "fine": lambda: A,
            "rows": lambda: A.reshape(m, 4),
            "single": lambda: A.astype(np.float32),
            "complex": lambda: A + 0.1j,
            "tensor": lambda: torch.tensor(A, requires_grad=True),
            "list": lambda: A.tolist(),
            "singular": lambda: np.ones((m, 2, 2)),
            "nan": lambda: A * np.where(np.arange(m) == 0, np.nan, 1)[:, None, None],
            "fractions": lambda: np.array(
                [[[Fraction(10, 3), 1], [1, 2]]] * m, dtype=object
            ).reshape(m, 2, 2),
            "long": lambda: A.astype(np.longdouble) + np.longdouble(1) / 3,
            "few": lambda: A[:1] if m > 1 else np.ones((3, 2, 2)),
            "one": lambda: A[0] if m else A,
            "wide": lambda: np.ones((m, 2, 3)),
            "rows of 3": lambda: np.ones((m, 3)),
            "strings": lambda: np.full((m, 4), "a"),
            "none": lambda: None,
            "set": lambda: {1.0},
            "ragged": lambda: [[1.0], [2.0, 3.0]],
            "number": lambda: 3.0,
        }
        return answers[kind]()

    return family


FAMILIES_OF = "fine", "rows", "single", "complex", "tensor", "list", "singular", "nan", "fractions"
NO_FAMILIES = (
    "long",
    "few",
    "one",
    "wide",
    "rows of 3",
    "strings",
    "none",
    "set",
    "ragged",
    "number",
)


def certified(c):
    """Return a certified inverse, the order of its matrices, and their family if there is one."""
    pool = [(series, 2), (partial(series, 2, 3), 2), (affine, 2), (silu, 2), (ridge, 2), (named, 2)]
    pool += [(partial(series, 1), 1), (partial(series, 3), 3), (complex_series, 4)]
    pool += [(structured, 2), (lambda: Liar(c.of(*LIES)).fit(training()), 2)]
    params = {
        "tol": c.of(1e-6, 1e-10, 1e-14, 1e-3, 1.0, 1e-300, 1e300),
        **c.options(
            max_refine=[0, 1, 8],
            order=[2, 3, 4],
            norm=["fro", "inf", "1", np.inf, 1],
            fallback=["exact", "exact", "nan", "keep", "raise"],
            verbose=[0],
        ),
    }
    make, n = c.of(*pool)
    return CertifiedInverse(FrozenEstimator(make()), **params).fit(), n


def check_inverses(model, X, inverse, bound):
    """Check shapes, and hold bounds against the oracle."""
    kept = () if X.is_tensor else ("float32", "float64")
    check_like(inverse, X, X.numbers.shape, float_dtypes(X, *kept))
    assert isinstance(bound, torch.Tensor if X.is_tensor else np.ndarray)
    Y = Given(None, on_host(inverse), X.layout).stack
    check_relative(X.stack, Y, on_host(bound), str(model.norm))


@entry("CertifiedInverse.predict")
def fuzz_certified_predict(c):
    model, n = certified(c)
    X = matrices_for(c, n)
    found = attempt(model.predict, X, return_bound=True)
    if found is not REFUSED and X.numbers is not None:
        assert X.right
        check_inverses(model, X, *found)


@entry("CertifiedInverse.report")
def fuzz_certified_report(c):
    model, n = certified(c)
    X = matrices_for(c, n)
    report = attempt(model.report, X)
    if report is REFUSED or X.numbers is None:
        return
    check_inverses(model, X, report.inverse, report.bound)
    assert repr(report)
    finite = np.isfinite(X.stack).all(axis=(1, 2))
    assert ((report.status == "not finite") == ~finite).all()
    proven = np.isin(report.status, ["predicted", "refined", "exact"])
    bound, residual = on_host(report.bound), on_host(report.residual)
    half = X.is_tensor and X.value.dtype.itemsize < 4 and X.value.dtype.is_floating_point
    assert (bound[proven] <= model.tol + (X.eps / 2 if half else 0)).all()
    assert not (residual < 0).any()
    steps = on_host(report.n_refine)
    assert ((steps >= 0) & (steps <= model.max_refine)).all()
    lost = np.isin(report.status, ["not finite", "singular", "rejected"])
    assert np.isnan(on_host(report.inverse)[lost]).all()
    assert (bound[lost] == np.inf).all()


def one_matrix(c, n):
    """Return a Given of a single matrix of order n, mostly."""
    A = c.matrices(n, 1, layouts=("stack",))
    return Given(A.value[0], A.numbers[0], "one") if A.right and A.numbers.ndim == 3 else A


@entry("CertifiedInverse.inverse_function")
def fuzz_certified_singly(c):
    model, n = certified(c)
    A = one_matrix(c, n)
    found = attempt(model.inverse_function(), A)
    if found is REFUSED or A.layout != "one":
        return
    inverse, bound, status = found
    assert type(inverse) is np.ndarray
    assert inverse.shape == A.numbers.shape
    check_relative(A.numbers[None], on_host(inverse)[None], np.array([bound]), str(model.norm))
    proven = status in ("predicted", "refined", "exact")
    assert not proven or bound <= model.tol + (A.eps / 2 if inverse.itemsize < 4 else 0)
    assert np.isfinite(bound) or np.isnan(inverse).any() or model.fallback == "keep"


@entry("CertifiedInverse.solve_function")
def fuzz_certified_solves_singly(c):
    model, n = certified(c)
    A = one_matrix(c, n)
    shape = c.of((n,), (n, 2), (n, 1), (n + 1,), (1, n, 1))
    b = c.dtyped(c.rng.standard_normal(shape))
    found = attempt(model.solve_function(), A, Given(c.contained(b, frames=False), b))
    if found is REFUSED or A.layout != "one":
        return
    x, bound, status = found
    assert type(x) is np.ndarray
    assert x.shape == b.shape
    assert np.shape(bound) == b.shape[1:]
    assert (status == "proven") == bool((np.asarray(bound) <= model.tol).all())


def fit_without_family(c):
    params = c.options(
        tol=[partial(c.number, 1e-6, 1e-12)],
        max_refine=[0, c.count],
        order=[2, 3, partial(c.rather, (4,), (5, 0, "2", 2.0, None))],
        norm=[partial(c.choice, "fro", "inf", "1")],
        fallback=[partial(c.choice, "exact", "exact-raise", "nan", "keep", "raise")],
        verbose=[0, False, partial(c.rather, (0,), (-1, "1", None))],
    )
    pipeline = make_pipeline(FeasibleRegionSampler(on_infeasible="warn"), LinearInverseApprox())
    right = LinearInverseApprox(), Ridge(), Liar(c.of(*LIES)), affine_free(), series(), pipeline
    wrong = Liar(c.of(*NONSENSE)), LinearInverseApprox(order=0), LinearInverseApprox, Ridge, 5
    wrong += FeasibleRegionSampler(), None, "ridge"
    estimator = c.rather((*right, FrozenEstimator(series())), wrong)
    model = CertifiedInverse(estimator, **params)
    X = None if c.slips(4) else c.matrices(2, dtypes=["f8", "f4"], calm=True)
    y = inverses_of(c, X) if c.one_in(4) else None
    fitted = attempt(model.fit, X, y)
    if fitted is REFUSED:
        return
    assert fitted is model
    X = c.matrices(2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Rows .* are outside the feasible region")
        found = attempt(model.predict, X, True)
    if found is not REFUSED and X.right:
        check_inverses(model, X, *found)


@entry("CertifiedInverse.fit")
def fuzz_certified_fit(c):
    """Fit with a family of matrices, or without."""
    if c.one_in(2):
        fit_without_family(c)
    else:
        fit_with_family(c)


def fit_with_family(c):
    kind = c.rather((*FAMILIES_OF, "fine"), NO_FAMILIES)
    frozen = FrozenEstimator(Liar().fit(np.ones((2, 4))))
    model = CertifiedInverse(
        c.rather(
            (affine_free(), Ridge(), Ridge(), frozen), (Liar("narrow"), None, LinearInverseApprox())
        ),
        family=garbage(c.rather(("fine",), (kind,))),
        tol=c.of(1e-6, 1e-12),
    )
    p = c.rng.uniform(-1, 1, (c.of(1, 3, 12), c.of(1, 2)))
    P = c.matrices(2) if c.slips(3) else Given(c.contained(p), p)
    with np.errstate(all="ignore"):  # of other regressors
        fitted = attempt(model.fit, P)
    if fitted is REFUSED:
        return
    model.family = garbage(kind)
    q = c.rng.uniform(-1, 1, (c.of(0, 1, 3), p.shape[1]))
    if len(q) and c.one_in(4):
        q[0, 0] = c.of(np.nan, np.inf, 1e300)
    Q = c.matrices(2) if c.slips(3) else Given(c.contained(q), q)
    found = attempt(model.report, Q)
    if found is not REFUSED and Q.numbers is q and kind != "tensor":
        given = q[np.isfinite(q).all(axis=1)]
        if len(given) == 0:
            return
        A = np.asarray(model.family(given))
        A = A.astype(complex if np.iscomplexobj(A) else float).reshape(len(given), 2, 2)
        finite = np.isfinite(q).all(axis=1)
        X = on_host(found.inverse).reshape(len(q), 2, 2)[finite]
        check_relative(A, X, on_host(found.bound)[finite])


def right_hand_sides(c, X, n):
    """Return right-hand sides, that need not fit."""
    if c.slips(8):
        return c.junk()
    m = len(X.numbers) if X.right else 2
    shape = c.of((m, n), (m, n), (m, n, 1), (m, n, 3), (m, n, 0))
    if c.slips(6):
        shape = c.of((m, n + 1), (m,), (m + 1, n), (n,), (), (m, n, 1, 1), (m, 0), (0, n), (1, n))
    with np.errstate(all="ignore"):
        b = c.rng.standard_normal(shape) * c.of(1, 1, 1, 0, 1e300, 1e-300, 5e-324, 1e-160)
    if b.size and c.one_in(8):
        b.flat[c.rng.randint(b.size)] = c.of(np.nan, np.inf, 1e308)
    b = c.dtyped(b)
    return Given(c.contained(b), b, "stack" if b.ndim == 3 else "rows")


def check_solutions(A, b, x, bound, radius):
    """Hold bounds of ‖x − A⁻¹b‖₂ / ‖x‖₂, and of |x − A⁻¹b|, against ball arithmetic."""
    for values in (bound, radius):
        assert not (values < 0).any()
        assert not np.isnan(values).any()
    assert (np.isfinite(radius).all(axis=1) <= np.isfinite(bound)).all()
    for i, j in zip(*np.nonzero(np.isfinite(bound)), strict=True):
        known = oracle(A[i])
        assert not known.singular
        with ctx.workprec(2 * known.bits + 2200):
            inverse = arb_mat(A[i].tolist()).inv()
            true = inverse * arb_mat([[float(v)] for v in b[i, :, j]])
            error = (arb_mat([[float(v)] for v in x[i, :, j]]) - true).entries()
            length = sum(arb(float(v)) ** 2 for v in x[i, :, j]).sqrt()
            off = sum(e.abs_lower() ** 2 for e in error).sqrt()
            assert not off > arb(float(bound[i, j])) * length
            for k, r in enumerate(radius[i, :, j].tolist()):
                parts = error[k :: radius.shape[1]]  # two of a complex number
                off = sum(e.abs_lower() ** 2 for e in parts).sqrt()
                assert not off > arb(r)


@entry("CertifiedInverse.solve")
def fuzz_solve(c):
    model, n = certified(c)
    X = matrices_for(c, n)
    order = X.stack.shape[-1] if X.right else n
    b = right_hand_sides(c, X, order)
    found = attempt(model.solve, X, b, return_bound=True, return_radius=True)
    if found is REFUSED or not X.right or b.numbers is None:
        return
    x, bound, radius = found
    assert radius.shape == x.shape
    assert isinstance(x, torch.Tensor if X.is_tensor else np.ndarray)
    assert tuple(x.shape) == b.numbers.shape
    assert tuple(bound.shape) == (len(x), *b.numbers.shape[2:])
    A, wide = embedded(X.stack), np.asarray(on_host(b.value) if b.is_tensor else b.numbers)
    with np.errstate(all="ignore"):
        wide = wide.astype(complex if np.iscomplexobj(wide) else float)
    x = on_host(x)
    if A.shape[-1] != order:  # complex matrices
        wide, x = (np.concatenate([v.real, v.imag], axis=1) for v in (wide + 0j, x + 0j))
    one = wide.ndim == 2
    check_solutions(
        A,
        wide[:, :, None] if one else wide,
        x[:, :, None] if one else x,
        on_host(bound)[:, None] if one else on_host(bound),
        on_host(radius)[:, :, None] if one else on_host(radius),
    )


@entry("CertifiedInverse.score")
def fuzz_certified_score(c):
    model, n = certified(c)
    X = c.matrices(n, calm=True)
    y = c.of(None, partial(inverses_of, c, X))
    score = attempt(model.score, X, y, **c.options(sample_weight=[weights(c, X)]))
    assert score is REFUSED or isinstance(score, float)


def structured_models(c):
    kinds = partial(structured, "positive_definite"), partial(structured, "complex")
    return c.of(partial(structured), packed(), *kinds, partial(structured, "symmetric", None))


def structured_matrices(c, model, calm=False):
    """Return a Given of matrices of the structure of a model, mostly."""
    X = c.matrices(2, dtypes=["f8", "f4", "f8", "f4", "f2", "c16", "O", "i8", "g"], calm=calm)
    if not X.right or c.slips(4):
        return X
    with np.errstate(all="ignore"):
        A = X.stack if model.structure != "complex" else X.stack + 0.25j
        if model.structure != "complex":
            A = np.triu(A.real) + np.triu(A.real, 1).swapaxes(1, 2)
        kind = X.numbers.dtype if X.numbers.dtype.kind == A.dtype.kind else A.dtype
        A = A.astype(kind)
    if model.packed:
        A = A.reshape(-1, 4)[:, [0, 1, 3]]
        return Given(c.contained(A), A, "packed")
    A = A.reshape(len(A), 4) if X.layout == "rows" and A.dtype.kind != "c" else A
    return Given(c.contained(A), A, "rows" if A.ndim == 2 else "stack")


@entry("StructuredInverse.predict")
def fuzz_structured_predict(c):
    model = structured_models(c)
    X = structured_matrices(c, model)
    P = attempt(model.predict, X)
    if P is REFUSED or X.numbers is None:
        return
    check_like(P, X, X.numbers.shape, float_dtypes(X, "float32", "float64"))
    if not model.packed:
        Y = Given(None, on_host(P), X.layout).stack
        if model.structure != "complex":
            assert ((Y.conj().swapaxes(1, 2) == Y) | np.isnan(Y)).all()


@entry("StructuredInverse.score")
def fuzz_structured_score(c):
    model = structured_models(c)
    X = structured_matrices(c, model, True)
    y = None if c.one_in(2) else structured_matrices(c, model, True)
    score = attempt(model.score, X, y)
    assert score is REFUSED or isinstance(score, float)


@entry("StructuredInverse.fit")
def fuzz_structured_fit(c):
    model = StructuredInverse(
        c.rather((affine_free(), Ridge()), (LinearInverseApprox(), Liar("few"), None, Ridge)),
        c.choice("symmetric", "positive_definite", "complex"),
        **c.options(baseline=[None, "auto", partial(c.choice, "taylor2")], packed=[c.flag]),
    )
    X = structured_matrices(c, model, True)
    y = structured_matrices(c, model, True) if c.slips(3) else None
    fitted = attempt(model.fit, X, y)
    assert fitted is REFUSED or fitted is model
    if fitted is not REFUSED:
        attempt(model.predict, structured_matrices(c, model))
