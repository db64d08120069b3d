"""Laws of the distance to the singular matrices, and the guarantee of certified regions.

The oracles are naive formulas over all sign vectors, SciPy, and ball arithmetic; never the code.
"""

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from flint import arb_mat, ctx, fmpq, fmpq_mat
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skinv.bounds import taylor_bound
from skinv.geometry import (
    DistanceBoundWarning,
    distance_to_singularity,
    nearest_singular,
    region_certificate,
    region_margin,
)
from skinv.geometry._enclosure import enclosed_inverse, spectral_radius_below_one
from skinv.geometry._positive_map import tensor_norm_bound

EPS = np.finfo(np.float64).eps
NORMS = ("l1", "l2", "linf")
every_norm = pytest.mark.parametrize("norm", NORMS)
laws = settings(max_examples=50, derandomize=True, deadline=None)

KNOWN = np.array([[3.0, 1.0], [1.0, 2.0]])
KNOWN_DISTANCES = {"l1": 5 / 3, "l2": (5 - 5**0.5) / 2, "linf": 5 / 7}


# Oracles.


def entrywise(E, norm):
    """Norm of the flattened matrix, of each matrix of a stack."""
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    return np.linalg.norm(E.reshape(*E.shape[:-2], -1), order, axis=-1)


def tolerance(A):
    """The distance moves by no more than A does, and an algorithm moves A by some n eps ‖A‖."""
    A = np.asarray(A, dtype=float)
    return 4 * A.shape[-1] * EPS * entrywise(A, "l2")


def sign_vectors(n):
    return np.array(list(itertools.product((1.0, -1.0), repeat=n)))


def naive_distance(stack, norm):
    """The defining formulas, without a thought for rounding or cost."""
    if norm == "l2":
        return np.array([scipy.linalg.svdvals(A)[-1] for A in stack])
    B = np.linalg.inv(stack)
    if norm == "l1":
        return 1 / np.abs(B).max(axis=(1, 2))
    signs = sign_vectors(stack.shape[-1])
    return 1 / np.abs(signs @ B.transpose(0, 2, 1)).sum(axis=2).max(axis=1)


def balls(A):
    return arb_mat([[float(x) for x in row] for row in A])


def rigorous_distance(A, norm):
    """The l1 or linf distance in ball arithmetic of 400 bits, rounded."""
    with ctx.workprec(400):
        B = balls(A).inv()
        if norm == "linf":
            B = B * balls(sign_vectors(len(A)).T)
        sizes = [abs(x) for x in B.entries()]
        if norm == "linf":
            sizes = [sum(sizes[j :: B.ncols()]) for j in range(B.ncols())]
        distance = 1 / max(sizes, key=lambda x: x.upper())
        assert distance.rad() < abs(distance.mid()) * 1e-30
        return float(distance)


def rigorous_sigma_exceeds(A, t):
    """Whether σ_min(A) > t, by the leading principal minors of AᵀA − t²I (Sylvester)."""
    with ctx.workprec(1000):
        M = balls(A)
        gram = (M.transpose() * M).tolist()
        for i in range(len(A)):
            gram[i][i] -= balls([[t]])[0, 0] ** 2
        minors = [arb_mat([row[:k] for row in gram[:k]]).det() for k in range(1, len(A) + 1)]
        assert all(minor > 0 or minor < 0 for minor in minors)
        return all(minor > 0 for minor in minors)


# Matrices that cover what goes wrong.


def random_matrix(n, seed=0):
    return np.random.RandomState(seed).standard_normal((n, n))


def with_singular_values(values, seed=0):
    U, V = (scipy.linalg.qr(random_matrix(len(values), seed + k))[0] for k in range(2))
    return U * values @ V


def powers(low, high, n):
    return 10.0 ** np.linspace(low, high, n)


MATRICES = {
    "one entry": np.array([[-0.3]]),
    "known": KNOWN,
    "random 5": random_matrix(5),
    "random 10": random_matrix(10),
    "integer": np.random.RandomState(1).randint(-9, 10, (6, 6)).astype(float),
    "permutation": 3.0 * np.eye(7)[np.random.RandomState(2).permutation(7)],
    "Hilbert 5": scipy.linalg.hilbert(5),
    "Hilbert 9": scipy.linalg.hilbert(9),
    "Pascal": scipy.linalg.pascal(8).astype(float),
    "nearly singular 3": with_singular_values([1.0, 0.5, 1e-13]),
    "nearly singular 9": with_singular_values(np.r_[np.linspace(1, 0.1, 8), 1e-13]),
    "rank one and a bit": np.ones((6, 6)) + 1e-9 * random_matrix(6),
    "huge": 1e150 * random_matrix(6),
    "tiny": 1e-150 * random_matrix(6),
    "rows scaled": random_matrix(6) * powers(-8, 8, 6)[:, None],
    "columns scaled": random_matrix(6) * powers(8, -8, 6),
    "triangular": np.triu(np.ones((8, 8))),
}
every_matrix = pytest.mark.parametrize("A", MATRICES.values(), ids=MATRICES.keys())


def growing_pivots(n):
    """Wilkinson's matrix, perturbed; elimination with partial pivoting does not exchange rows."""
    rng = np.random.RandomState(0)
    A = np.eye(n) - np.tril(0.9 + 0.1 * rng.uniform(size=(n, n)), -1)
    A[:, -1] = 1 + 0.3 * rng.uniform(size=n)
    return A


@st.composite
def matrices(draw, n_max=4, count=1):
    """Small matrices with entries in [-8, 8], exact zeros and integers among them."""
    n = draw(st.integers(1, n_max))
    number = st.floats(-8, 8).map(lambda x: x if abs(x) > 1e-20 else 0.0)
    entry = st.one_of(st.integers(-8, 8).map(float), number)
    found = [draw(arrays(np.float64, (n, n), elements=entry)) for _ in range(count)]
    return found[0] if count == 1 else found


# The distance.


@every_norm
@pytest.mark.parametrize("n", range(1, 11))
def test_distance_is_that_of_the_naive_formula(norm, n):
    """d_1 = 1/max|B|, d_2 = σ_min, d_inf = 1/max ‖Bs‖₁ over all 2ⁿ sign vectors."""
    stack = np.array([random_matrix(n, seed) + 0.5 * np.eye(n) for seed in range(4)])
    assert (np.linalg.cond(stack) < 1e4).all()
    found = distance_to_singularity(stack, norm)
    np.testing.assert_allclose(found, naive_distance(stack, norm), rtol=1e-11)


@pytest.mark.parametrize("n", [12, 15, 20])
def test_linf_distance_of_larger_matrices(n):
    """No one of all 2^(n-1) sign vectors is overlooked."""
    A = random_matrix(n)
    Bt = scipy.linalg.inv(A).T
    largest, codes = 0.0, np.arange(2 ** (n - 1))
    for block in np.array_split(codes, max(1, codes.size >> 14)):
        signs = 1.0 - 2.0 * (block[:, None] // 2 ** np.arange(n) % 2)
        largest = max(largest, np.abs(signs @ Bt).sum(axis=1).max())
    np.testing.assert_allclose(distance_to_singularity(A, "linf"), 1 / largest, rtol=1e-11)


@every_matrix
@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_distance_against_ball_arithmetic(A, norm):
    """The absolute error is a small multiple of n eps ‖A‖, whatever the conditioning."""
    assert abs(distance_to_singularity(A, norm) - rigorous_distance(A, norm)) <= tolerance(A)


@every_matrix
def test_l2_distance_against_ball_arithmetic(A):
    """σ_min lies within n eps ‖A‖: AᵀA − t²I is definite just below and not just above."""
    A = A / 2.0 ** np.frexp(np.abs(A).max())[1]  # exact
    d = distance_to_singularity(A, "l2")
    assert rigorous_sigma_exceeds(A, max(d - tolerance(A), 0.0))
    assert not rigorous_sigma_exceeds(A, d + tolerance(A))


@every_matrix
def test_l2_distance_is_the_smallest_singular_value(A):
    """Eckart and Young."""
    assert abs(distance_to_singularity(A, "l2") - scipy.linalg.svdvals(A)[-1]) <= tolerance(A)


def test_distance_where_elimination_grows():
    """A small condition number means a small relative error, also if pivots grow by 1.95ⁿ."""
    A = growing_pivots(60)
    assert np.linalg.cond(A) < 100
    assert abs(distance_to_singularity(A, "l1") - rigorous_distance(A, "l1")) <= tolerance(A)


@every_norm
def test_known_distances(norm):
    """The matrix [[3, 1], [1, 2]] has d_1 = 5/3, d_2 = (5 − √5)/2 and d_inf = 5/7."""
    found = distance_to_singularity(KNOWN, norm)
    assert type(found) is float
    assert found == pytest.approx(KNOWN_DISTANCES[norm], rel=1e-14)


# Laws of the distance.


@every_norm
@given(A=matrices(), t=st.floats(-1e3, 1e3).filter(lambda t: abs(t) > 1e-3))
@laws
def test_distance_is_homogeneous(norm, A, t):
    """d(tA) = |t| d(A)."""
    d = distance_to_singularity(A, norm)
    assert abs(distance_to_singularity(t * A, norm) - abs(t) * d) <= 2 * tolerance(t * A)


@every_norm
@given(A=matrices(), exponent=st.integers(-900, 900))
@laws
def test_powers_of_two_scale_without_rounding(norm, A, exponent):
    """d(2^k A) = 2^k d(A), bit for bit."""
    scaled = distance_to_singularity(np.ldexp(A, exponent), norm)
    assert scaled == np.ldexp(distance_to_singularity(A, norm), exponent)


@every_norm
@given(A=matrices(), seed=st.integers(0, 99))
@laws
def test_distance_is_invariant(norm, A, seed):
    """Transposing, permuting and changing signs of rows and columns keep d."""
    rng = np.random.RandomState(seed)
    n = len(A)
    signs = rng.choice([-1.0, 1.0], (2, n))
    moved = signs[0][:, None] * A[rng.permutation(n)][:, rng.permutation(n)] * signs[1]
    found = distance_to_singularity(np.array([A, A.T, moved]), norm)
    assert np.ptp(found) <= 2 * tolerance(A)


@given(A=matrices())
@laws
def test_distances_are_ordered(A):
    """d_2/n <= d_inf <= d_2 <= d_1 <= n d_2."""
    d1, d2, dinf = (distance_to_singularity(A, norm) for norm in NORMS)
    slack = 2 * tolerance(A)
    assert d2 / len(A) - slack <= dinf <= d2 + slack
    assert d2 - slack <= d1 <= len(A) * (d2 + slack)


@every_norm
@given(pair=matrices(count=2))
@settings(laws, max_examples=30)
def test_distance_is_lipschitz(norm, pair):
    """|d(A) − d(B)| <= ‖A − B‖ in the same norm."""
    assume(pair[0].shape == pair[1].shape)
    gap = abs(np.subtract(*(distance_to_singularity(A, norm) for A in pair)))
    assert gap <= entrywise(pair[0] - pair[1], norm) + tolerance(pair[0]) + tolerance(pair[1])


@every_norm
@given(A=matrices(n_max=5))
@laws
def test_integer_matrices_without_inverse_are_at_zero(norm, A):
    """A matrix with a repeated row is singular: d = 0."""
    A = np.rint(A)
    A[-1] = A[0] if len(A) > 1 else 0.0
    assert distance_to_singularity(A, norm) == 0


# The nearest singular matrix.


@every_norm
@every_matrix
def test_nearest_singular(norm, A):
    """A plus a matrix of rank one is singular, at exactly the distance."""
    nearest = nearest_singular(A, norm)
    E = nearest - A
    slack = tolerance(A) + tolerance(nearest)
    assert scipy.linalg.svdvals(nearest)[-1] <= slack
    assert abs(entrywise(E, norm) - distance_to_singularity(A, norm)) <= len(A) * slack
    assert (scipy.linalg.svdvals(E)[1:] <= slack).all()


@every_norm
def test_nearest_singular_of_a_stack(norm):
    """A singular matrix is its own answer, NaN stays, and neither spoils its neighbours."""
    A = np.array([[KNOWN, np.ones((2, 2))], [np.full((2, 2), np.nan), np.zeros((2, 2))]])
    nearest = nearest_singular(A, norm)
    assert nearest.shape == A.shape
    np.testing.assert_array_equal(nearest[0, 0], nearest_singular(KNOWN, norm))
    np.testing.assert_allclose(nearest[0, 1], A[0, 1], rtol=0, atol=1e-15)
    assert np.isnan(nearest[1, 0]).all()
    np.testing.assert_array_equal(nearest[1, 1], A[1, 1])


# Special matrices and layouts.


@every_norm
@pytest.mark.parametrize("A", [np.zeros((3, 3)), np.ones((4, 4)), np.diag([1.0, 0.0])])
def test_singular_matrices_are_at_zero(norm, A):
    """Exactly singular matrices have a distance of exactly 0."""
    assert distance_to_singularity(A, norm) == 0
    bounds = distance_to_singularity(A, norm, return_bounds=True)
    assert bounds.lower == 0 <= bounds.upper <= 4 * len(A) * tolerance(A)


@every_norm
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_matrices_do_not_spoil_a_stack(norm, bad):
    """NaN and infinity give NaN; the others keep their distance, bit for bit."""
    stack = np.array([random_matrix(3, seed) for seed in range(4)])
    stack[3] = 0.0
    expected = distance_to_singularity(stack, norm)
    stack[1, 0, 2] = bad
    expected[1] = np.nan
    np.testing.assert_array_equal(distance_to_singularity(stack, norm), expected)
    bounds = distance_to_singularity(stack, norm, return_bounds=True)
    np.testing.assert_allclose(bounds.lower, expected, rtol=1e-12)
    np.testing.assert_allclose(bounds.upper, expected, rtol=1e-12)
    assert bounds.upper[3] == 0


@every_norm
def test_all_inputs_that_hold_the_same_numbers(norm):
    """Memory order, write protection, dtype and container do not matter."""
    A = np.array([[[3, -1, 2], [0, 5, 1], [7, 2, -4]], [[2, 0, 0], [0, 1, 0], [1, 0, 9]]])
    expected = distance_to_singularity(A.astype(float), norm)
    locked = A.astype(float)
    locked.flags.writeable = False
    same = [A, A.tolist(), A.astype(np.int8), A.astype(np.float32), np.asfortranarray(A), locked]
    for other in same:
        np.testing.assert_array_equal(distance_to_singularity(other, norm), expected)
    np.testing.assert_array_equal(nearest_singular(locked, norm), nearest_singular(A, norm))
    np.testing.assert_array_equal(locked, A)


@every_norm
@pytest.mark.parametrize("leading", [(), (6,), (2, 3), (1, 2, 3, 1), (0,), (2, 0)])
def test_leading_shape_is_kept(norm, leading):
    """Distances come in the leading shape, nearest matrices in the shape of A."""
    A = np.random.RandomState(0).standard_normal((*leading, 3, 3))
    d = distance_to_singularity(A, norm)
    assert np.shape(d) == leading
    assert nearest_singular(A, norm).shape == A.shape
    flat = [distance_to_singularity(M, norm) for M in A.reshape(-1, 3, 3)]
    np.testing.assert_allclose(np.ravel(d), flat, rtol=1e-13)


@every_norm
@pytest.mark.parametrize("a", [1.0, -3.0, 5e-324, -1e-310, 1.7e308, 0.0])
def test_numbers_are_at_their_absolute_value(norm, a):
    """For n = 1, d = |a| and the nearest singular matrix is 0, at the ends of the range too."""
    assert distance_to_singularity([[a]], norm) == abs(a)
    assert nearest_singular([[a]], norm) == 0


@every_norm
@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e300, 5e307])
def test_ends_of_the_range(norm, scale):
    """Subnormal and almost overflowing matrices keep all the digits there are."""
    found = distance_to_singularity(scale * KNOWN, norm)
    rtol = max(1e-14, 5e-324 / (scale * 1e-1))
    np.testing.assert_allclose(found, scale * KNOWN_DISTANCES[norm], rtol=rtol)
    nearest = nearest_singular(scale * KNOWN, norm)
    assert abs(scipy.linalg.det(nearest / scale)) < 1e-12


@every_norm
def test_nearest_singular_that_overflows(norm):
    """What exceeds the largest number becomes infinite, without a warning as for the distance."""
    assert distance_to_singularity(1.7e308 * scipy.linalg.hadamard(4), norm) > 8e307
    nearest_singular(1.7e308 * scipy.linalg.hadamard(4), norm)


@pytest.mark.parametrize("function", [distance_to_singularity, nearest_singular])
@pytest.mark.parametrize("shape", [(), (3,), (5, 9), (3, 0), (0, 0), (5, 0, 0)])
def test_wrong_shapes(function, shape):
    """The message shows the shape and says how to reshape rows."""
    with pytest.raises(
        ValueError, match=r"Got an array of shape \(.*X\.reshape\(-1, (n, n|3, 3)\)"
    ):
        function(np.ones(shape))


@pytest.mark.parametrize("function", [distance_to_singularity, nearest_singular])
@pytest.mark.parametrize("norm", ["fro", "L2", 2, None, "mahalanobis"])
def test_wrong_norms(function, norm):
    """The message lists the norms there are."""
    with pytest.raises(ValueError, match=r"Got norm=.*must be one of 'l1', 'l2', 'linf'"):
        function(KNOWN, norm)


def test_l2_distances_are_one_batched_svd(monkeypatch):
    """10,000 matrices of order 16 are one call of LAPACK's driver, not a Python loop."""
    shapes = []

    def svd(a, **kwargs):
        shapes.append(a.shape)
        return np.ones(a.shape[:-1])

    monkeypatch.setattr(np.linalg, "svd", svd)
    assert distance_to_singularity(np.zeros((10**4, 16, 16))).shape == (10**4,)
    assert shapes == [(10**4, 16, 16)]


# The linf distance where it is NP-hard.


def second_difference(n):
    """Tridiagonal (−1, 2, −1); the inverse is positive and sums to n (n + 1) (n + 2) / 12."""
    return 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)


def shuffled_diagonal(n):
    rng = np.random.RandomState(n)
    diagonal = rng.uniform(0.5, 3.0, n) * rng.choice([-1, 1], n)
    return np.diag(diagonal)[rng.permutation(n)], 1 / np.sum(1 / np.abs(diagonal))


LARGE = {
    "identity": (2.5 * np.eye(25), 0.1),
    "diagonal": (np.diag(np.arange(1.0, 23.0)), 1 / np.sum(1 / np.arange(1.0, 23.0))),
    "shuffled diagonal": shuffled_diagonal(30),
    "second difference": (second_difference(21), 12 / (21 * 22 * 23)),
    "one large entry": (np.diag(np.r_[1e-3, np.full(39, 1e3)]), 1 / (1e3 + 39e-3)),
}
every_large = pytest.mark.parametrize(("A", "distance"), LARGE.values(), ids=LARGE.keys())


@every_large
def test_bounds_enclose_the_linf_distance(A, distance):
    """Lower <= d_inf <= upper where d_inf is known; not claimed to be exact, and no warning."""
    bounds = distance_to_singularity(A, "linf", return_bounds=True)
    assert bounds.lower <= distance * (1 + 1e-12)
    assert distance <= bounds.upper * (1 + 1e-12)
    assert bounds.exact is False
    lower, upper = bounds.lower, bounds.upper
    assert max(scipy.linalg.svdvals(A)[-1] / len(A), 1 / np.abs(scipy.linalg.inv(A)).sum()) <= (
        lower * (1 + 1e-11)
    )
    assert upper <= scipy.linalg.svdvals(A)[-1] * (1 + 1e-12)


@every_large
def test_linf_distance_warns_that_it_is_a_bound(A, distance):
    """Without return_bounds the lower bound comes with a warning that names the way out."""
    message = rf"NP-hard; for n = {len(A)} > 20.*return_bounds"
    with pytest.warns(DistanceBoundWarning, match=message):
        found = distance_to_singularity(A, "linf")
    assert found == distance_to_singularity(A, "linf", return_bounds=True).lower


@pytest.mark.parametrize("A", [LARGE["shuffled diagonal"][0], random_matrix(24), random_matrix(35)])
def test_upper_bound_is_attained(A):
    """The matrix that the local search found is singular, at the upper bound."""
    with pytest.warns(DistanceBoundWarning, match="local search"):
        nearest = nearest_singular(A, "linf")
    bounds = distance_to_singularity(A, "linf", return_bounds=True)
    assert scipy.linalg.svdvals(nearest)[-1] <= tolerance(A)
    np.testing.assert_allclose(np.abs(nearest - A).max(), bounds.upper, rtol=1e-10)


def test_other_norms_are_exact_at_any_order():
    """l1 and l2 have closed forms; order 20 is the last at which linf is exact."""
    A = random_matrix(30)
    for norm in ("l1", "l2"):
        assert distance_to_singularity(A, norm, return_bounds=True).exact is True
        assert distance_to_singularity(A, norm) == pytest.approx(
            naive_distance(A[None], norm)[0], rel=1e-10
        )
    assert distance_to_singularity(np.eye(20), "linf", return_bounds=True).exact is True


def test_bounds_are_in_order():
    """Lower <= upper to the last bit, also where both are the distance."""
    rng = np.random.RandomState(0)
    stack = np.array([np.diag(rng.uniform(0.1, 10, 25)) for _ in range(100)])
    bounds = distance_to_singularity(stack, "linf", return_bounds=True)
    assert (bounds.lower <= bounds.upper).all()


# Proven bounds, in rational arithmetic.


def rational(x):
    return fmpq(*float(x).as_integer_ratio())


def rational_matrix(A):
    return fmpq_mat(len(A), len(A), [rational(x) for x in np.ravel(A)])


def exact_distance(A, norm):
    """The l1 or linf distance, as a rational number."""
    M = rational_matrix(A)
    if M.det() == 0:
        return fmpq(0)
    B, n = M.inv(), len(A)
    vectors = np.eye(n, dtype=int) if norm == "l1" else sign_vectors(n).T.astype(int)
    sizes = (B * fmpq_mat(vectors.tolist())).tolist()
    if norm == "l1":
        return 1 / max(abs(x) for row in sizes for x in row)
    return 1 / max(sum(map(abs, column), fmpq(0)) for column in zip(*sizes, strict=True))


def sigma_exceeds(A, t):
    """Whether σ_min > t, by Sylvester's criterion."""
    M = rational_matrix(A)
    gram = (M.transpose() * M).tolist()
    for i in range(len(A)):
        gram[i][i] -= t * t
    return all(fmpq_mat([row[:k] for row in gram[:k]]).det() > 0 for k in range(1, len(A) + 1))


def wrong_bounds(A, norm, lower, upper):
    """Which of two bounds of a distance do not hold."""
    low, high = rational(lower), np.inf if np.isinf(upper) else rational(upper)
    if norm == "l2":
        wrong_low = low > 0 and not sigma_exceeds(A, low)
        wrong_high = high != np.inf and sigma_exceeds(A, high)
    else:
        exact = exact_distance(A, norm)
        wrong_low, wrong_high = low > exact, high != np.inf and high < exact
    return [name for name, wrong in (("lower", wrong_low), ("upper", wrong_high)) if wrong]


def hostile_matrices():
    """Random, integer, singular and nearly so, mixed units, subnormal, nearly overflowing."""
    rng = np.random.RandomState(0)
    for n in (1, 2, 2, 3, 4):
        A, whole = random_matrix(n, n), rng.randint(-9, 10, (n, n)).astype(float)
        dependent = np.vstack([whole[1:], whole[1:].sum(axis=0)])
        near = dependent.copy()
        near[0, 0] = np.nextafter(near[0, 0], 99.0)
        rows = np.ldexp(A, rng.randint(-500, 500, (n, 1)))
        spread = np.ldexp(A, rng.randint(-1060, 1000, (n, n)))
        yield from (A, whole, dependent, near, rows, rows.T, spread, np.diag(A[0]))
        yield from (np.ldexp(A, k) for k in (-1074, -1060, -1022, -700, 700, 1020))
        yield np.ldexp(np.triu(whole) + 10 * np.eye(n), -1074)


@pytest.fixture(params=[False, True], ids=["gradual", "flush"])
def underflow(request):
    """Subnormal numbers as usual, or read and written as zeros."""
    if request.param and not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")

    def call(function, *args, **kwargs):
        torch.set_flush_denormal(request.param)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_flush_denormal(False)

    torch.set_flush_denormal(False)
    return call


@every_norm
def test_bounds_are_proven(norm, underflow):
    """lower <= d <= upper in rational numbers; d and lower are 0 where the determinant is."""
    for A in hostile_matrices():
        bounds = underflow(distance_to_singularity, A, norm, return_bounds=True)
        assert 0 <= bounds.lower <= bounds.upper
        assert wrong_bounds(A, norm, bounds.lower, bounds.upper) == []
        if rational_matrix(A).det() == 0:
            assert bounds.lower == underflow(distance_to_singularity, A, norm) == 0


@every_norm
def test_bounds_are_tight(norm):
    """Of matrices that are well conditioned but for their units the bounds nearly meet."""
    for A in (KNOWN, random_matrix(8), 1e-300 * random_matrix(4), 5e307 * KNOWN):
        bounds = distance_to_singularity(A, norm, return_bounds=True)
        assert bounds.upper <= bounds.lower * (1 + 1e-12) < np.inf
    rows = np.ldexp(random_matrix(4), [[-400], [300], [0], [-7]])
    bounds = distance_to_singularity(rows, norm, return_bounds=True)
    assert 0 < bounds.lower <= bounds.upper <= bounds.lower * (2.1 if norm == "l2" else 1 + 1e-12)


def test_attacks_find_bounds_that_are_rounded_to_nearest():
    """The oracle tells the distance rounded to nearest from a bound."""
    rng = np.random.RandomState(0)
    stack = [rng.standard_normal((2, 2)) for _ in range(40)]
    for norm in NORMS:
        nearest = [distance_to_singularity(A, norm) for A in stack]
        faults = {tuple(wrong_bounds(A, norm, d, d)) for A, d in zip(stack, nearest, strict=True)}
        assert {("lower",), ("upper",)} <= faults


@every_norm
@pytest.mark.parametrize("n", [2, 3, 20, 21, 30])
@pytest.mark.filterwarnings("ignore::skinv.geometry.DistanceBoundWarning")
def test_singular_integer_matrices_are_at_zero(norm, n):
    """Dependent rows, or rank one: exactly 0, however large, from below and by itself."""
    rng = np.random.RandomState(n)
    for _ in range(1 if n == 20 else 5):
        A = rng.randint(-9, 10, (n, n)).astype(float)
        A[-1] = A[0] + A[1] if n > 2 else 3 * A[0]
        stack = np.array([A, np.outer(A[0], A[1])])
        bounds = distance_to_singularity(stack, norm, return_bounds=True)
        assert (bounds.lower == 0).all()
        assert (bounds.upper <= 2 * n * n * tolerance(stack)).all()
        assert (distance_to_singularity(stack, norm) == 0).all()


@every_norm
def test_figures_of_certificates_are_proven(norm, underflow):
    """distance <= d <= distance_upper, margin <= d − δ − ε, and what touches is not certified."""
    for A in hostile_matrices():
        near = distance_to_singularity(A, norm)
        try:
            found = [
                underflow(region_certificate, A, share * near, norm, keep * near)
                for share, keep in ((0.0, 0.0), (0.5, 0.1), (1.0, 0.0), (0.75, 0.25))
            ]
        except ValueError:  # singular to working precision
            continue
        for c in found:
            assert wrong_bounds(A, norm, c.distance, c.distance_upper) == []
            left = rational(c.margin) + rational(c.radius) + rational(c.min_distance)
            if c.is_certified and norm == "l2":
                assert sigma_exceeds(A, left)
            elif c.is_certified:
                assert left <= exact_distance(A, norm)


def test_half_widths_that_underflow_are_not_zero(underflow):
    """Entries, radii and axes below what the centre's unit can hold are counted."""
    center = np.array([[1e300, 0.0], [0.0, 1e300]])
    tiny = np.array([[5e-324, 0.0], [0.0, 5e-324]])
    for radius in (5e-324, tiny):
        assert underflow(region_certificate, center, radius).margin < 5e299
    bound = underflow(taylor_bound, np.eye(2), 5e-324)
    assert rational(bound.max_error) > 0
    A = np.array([[1.0, 1e-310], [0.0, 1.0]])  # regular with any upper right entry
    assert underflow(region_certificate, A, 0.4).is_certified
    assert not underflow(region_certificate, A, 0.5).is_certified
    assert (
        underflow(region_certificate, A, 0.5, "mahalanobis", axes=tiny.reshape(1, 4)).margin > 0.9
    )


# What the proofs stand on.


@pytest.mark.parametrize(
    "A",
    [*MATRICES.values(), *map(growing_pivots, (20, 40, 60)), np.diag([1.0, 1e-120])],
    ids=[*MATRICES, "growing 20", "growing 40", "growing 60", "graded"],
)
def test_inverses_are_enclosed(A):
    """|A⁻¹ − B| is below the bound in every entry, and the bound is small where it can be."""
    A = A / 2.0 ** np.frexp(np.abs(A).max())[1]  # exact
    B, error = (found[0] for found in enclosed_inverse(A[None]))
    with ctx.workprec(1000):
        off = (balls(A).inv() - balls(B)).entries()
        for x, bound in zip(off, error.ravel(), strict=True):
            assert bound == np.inf or abs(x) <= bound
    condition = np.linalg.norm(A) * np.linalg.norm(B)
    assert error.max() <= 20 * len(A) ** 2 * EPS * condition * np.linalg.norm(B) or condition > 1e12


def test_inverses_that_cannot_be_enclosed():
    """Singular matrices get a bound of inf, and do not spoil their neighbours."""
    stack = np.array([np.ones((2, 2)), KNOWN / 4, np.zeros((2, 2)), [[0.1, 0.3], [0.2, 0.6]]])
    B, error = enclosed_inverse(stack)
    assert np.isinf(error[[0, 2, 3]]).all()
    exact = np.array([[1.6, -0.8], [-0.8, 2.4]])  # rounded
    assert (np.abs(B[1] - exact) <= error[1] + EPS * np.abs(exact)).all()
    assert error[1].max() < 1e-14


@st.composite
def critical_matrices(draw):
    """Non-negative, badly scaled, far from normal; the last entry makes det(I − M) about 0."""
    n = draw(st.integers(2, 5))
    rng = np.random.RandomState(draw(st.integers(0, 999)))
    M = np.triu(2.0 ** rng.randint(-10, 30, (n, n)), 1)
    np.fill_diagonal(M, 1 - 2.0 ** -rng.randint(1, 25, n))
    det = [minus_identity_determinant(M)]
    M[-1, 0] = 1.0
    det.append(minus_identity_determinant(M))
    M[-1, 0] = float(det[0] / (det[0] - det[1]))
    return M


def minus_identity_determinant(M):
    with ctx.workprec(2000):
        return (balls(np.eye(len(M))) - balls(M)).det()


@given(M=critical_matrices(), share=st.sampled_from([1.0, 1 + 1e-12, 1 + 1e-6, 1.1, 3.0]))
@laws
def test_spectral_radius_is_never_proven_in_vain(M, share):
    """With a determinant of I − M that is not positive, ρ(M) >= 1 and there is no proof."""
    M[-1, 0] *= share
    for _ in range(2):
        proven = spectral_radius_below_one(M)
        assert not (proven and not minus_identity_determinant(M) > 0)
        assert not spectral_radius_below_one(M.T) or minus_identity_determinant(M) > 0
        M[-1, 0] = np.nextafter(M[-1, 0], np.inf)


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_spectral_radius_is_proven_where_it_is_clear(n):
    """Random positive matrices of spectral radius 0.999, well or badly scaled, are proven."""
    rng = np.random.RandomState(n)
    M = rng.uniform(size=(n, n))
    M *= 0.999 / np.abs(scipy.linalg.eigvals(M)).max()
    scale = 10.0 ** rng.uniform(-4, 4, n)
    assert spectral_radius_below_one(M)
    assert spectral_radius_below_one(M * scale[:, None] / scale)
    assert not spectral_radius_below_one(M * 1.002)


# Certified regions.


def unit_rows(Z):
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def signed_box(n, half_widths, size, rng):
    """Uniform points, vertices, and the vertices whose sign pattern is of rank one."""
    inner = rng.uniform(-1, 1, (size, n, n))
    signs = sign_vectors(n)
    rank_one = signs[:, None, :, None] * signs[None, :, None, :]
    corners = rng.choice([-1.0, 1.0], (size, n, n))
    return np.concatenate([inner, corners, rank_one.reshape(-1, n, n)]) * half_widths


def l2_sphere(n, radius, size, rng):
    """Directions of any rank, and of rank one."""
    u, v = (unit_rows(rng.standard_normal((size, n))) for _ in range(2))
    full = unit_rows(rng.standard_normal((size, n * n))).reshape(-1, n, n)
    return radius * np.concatenate([full, u[:, :, None] * v[:, None, :]])


def l1_sphere(n, radius, size, rng):
    """Random points of the sphere, and all its vertices."""
    full = rng.dirichlet(np.ones(n * n), size) * rng.choice([-1.0, 1.0], (size, n * n))
    vertices = np.vstack([np.eye(n * n), -np.eye(n * n)])
    return radius * np.concatenate([full, vertices]).reshape(-1, n, n)


def ellipsoid(axes, radius, size, rng):
    """The surface, along single axes too."""
    n = int(axes.shape[1] ** 0.5)
    Z = np.vstack([unit_rows(rng.standard_normal((size, len(axes)))), np.eye(len(axes))])
    return radius * (np.vstack([Z, -Z]) @ axes).reshape(-1, n, n)


def make_region(kind, n, seed):
    """A random region, some safe, some not: the question to ask, and hostile points of it."""
    rng = np.random.RandomState(seed)
    center = rng.standard_normal((n, n)) + rng.choice([0.0, 2.0]) * np.eye(n)
    norm = {"box": "linf", "boxes": "linf", "mahalanobis": "l2"}.get(kind, kind)
    d = naive_distance(center[None], norm)[0]
    radius = rng.uniform(0.2, 1.05) * d
    if kind == "boxes":
        half_widths = rng.uniform(0, 1, (n, n)) * (rng.uniform(size=(n, n)) < 0.7)
        radius = half_widths * (2.0 * radius)
    if kind in ("box", "boxes"):
        return center, radius, "linf", None, lambda m: signed_box(n, radius, m, rng)
    if kind == "mahalanobis":
        axes = rng.standard_normal((rng.randint(1, n * n + 1), n * n))
        axes /= np.linalg.norm(axes, axis=1).max()
        return center, radius, kind, axes, lambda m: ellipsoid(axes, radius, m, rng)
    sphere = {"l1": l1_sphere, "l2": l2_sphere}[kind]
    return center, radius, norm, None, lambda m: sphere(n, radius, m, rng)


def least_distance(center, draw, norm, size=1000):
    """Search a convex region for its most singular matrix, without derivatives.

    Past the singular set, where the determinant has changed its sign, distances are negative.
    """
    if norm == "mahalanobis":
        norm = "l2"

    def distance(E):
        A = center + E
        return naive_distance(A, norm) * np.sign(np.linalg.det(A)) * np.sign(np.linalg.det(center))

    points = np.concatenate([draw(size), np.zeros((1, *center.shape))])
    values = distance(points)
    best, least = points[values.argmin()], values.min()
    for share in (0.5, 0.2, 0.05, 0.02):
        points = best + share * (draw(size // 10) - best)
        values = distance(points)
        if values.min() < least:
            best, least = points[values.argmin()], values.min()
    return least


KINDS = ("box", "boxes", "l1", "l2", "mahalanobis")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_certified_regions_keep_their_distance(kind, n):
    """No matrix of a region is nearer to a singular one than margin + min_distance."""
    certified = 0
    for seed in range(12):
        center, radius, norm, axes, draw = make_region(kind, n, seed)
        for min_distance in (0.0, 0.1 * naive_distance(center[None], "linf")[0]):
            found = region_certificate(center, radius, norm, min_distance, axes=axes)
            assert found.is_certified == (found.margin > 0)
            certified += found.is_certified
        if found.margin + min_distance > 0:
            least = least_distance(center, draw, norm)
            assert least >= found.margin + min_distance - tolerance(center)
    assert certified >= 4  # the law is not empty


@pytest.mark.parametrize("norm", NORMS)
@given(A=matrices(n_max=3), share=st.floats(0, 1.2), keep=st.floats(0, 0.5))
@laws
def test_margin_of_a_ball_is_the_distance_left(norm, A, share, keep):
    """margin = d(A₀) − δ − ε to rounding, and a certificate says no more than that."""
    assume(np.linalg.cond(A) < 1e6)
    d = naive_distance(A[None], norm)[0]
    found = region_certificate(A, share * d, norm, keep * d)
    expected = (1 - share - keep) * d
    rounding = 1e-13 * np.linalg.cond(A) * d
    assert expected - rounding <= found.margin <= expected + 10 * EPS * np.linalg.cond(A) * d
    assert found.distance <= d * (1 + 1e-9) <= found.distance_upper * (1 + 1e-8)
    assert region_margin(A, share * d, norm, keep * d) == found.margin


CENTERS = {name: A for name, A in MATRICES.items() if np.linalg.cond(A) < 1e11}


@every_norm
@pytest.mark.parametrize("A", CENTERS.values(), ids=CENTERS.keys())
def test_touching_balls_are_not_certified(norm, A):
    """The ball of radius d holds a singular matrix; a little less is safe."""
    d = rigorous_distance(A, norm) if norm != "l2" else scipy.linalg.svdvals(A)[-1]
    for radius in (d, d * (1 + 1e-12), 2 * d):
        found = region_certificate(A, radius, norm)
        assert not found.is_certified
        assert found.margin <= 0
    assert not region_certificate(A, 0.75 * d, norm, 0.25 * d).is_certified
    assert region_certificate(A, d * (1 - 1e-13 * np.linalg.cond(A) * len(A)), norm).is_certified


TOUCHING_BOXES = {
    "identity": (np.eye(2), np.full((2, 2), 0.5)),
    "one entry": (KNOWN, np.array([[2.5, 0.0], [0.0, 0.0]])),
    "diagonal": (np.diag([2.0, 4.0, 8.0]), np.diag([0.0, 4.0, 1.0])),
    "cycle": (np.eye(3), np.roll(np.diag([0.5, 8.0, 0.25]), 1, axis=0)),
    "triangular": (np.eye(4), np.triu(np.ones((4, 4)))),
}


@pytest.mark.parametrize(
    ("center", "half_widths"), TOUCHING_BOXES.values(), ids=TOUCHING_BOXES.keys()
)
def test_touching_boxes_are_not_certified(center, half_widths):
    """Boxes with a singular vertex: Beeck's test is sharp for these, and proves smaller ones."""
    vertices = center - half_widths, center + half_widths
    assert min(abs(scipy.linalg.det(vertex)) for vertex in vertices) < 1e-15
    assert not region_certificate(center, half_widths).is_certified
    assert not region_certificate(center, half_widths * (1 + 1e-12)).is_certified
    assert region_certificate(center, half_widths * 0.99).margins["spectral radius (Beeck)"] > 0


def test_box_of_ill_conditioned_spectral_radius():
    """|A₀⁻¹|Δ = Δ has a spectral radius above 1, at an eigenvalue that is nearly defective."""
    a = 2.0**-22
    half_widths = np.array([[1 - a, 64.0, 16.0], [0.0, 1 - a, 8.0], [2.0**-74, 0.0, 1 - a]])
    with ctx.workprec(400):
        det = (balls(np.eye(3)) - balls(half_widths)).det()
        assert det < 0  # and positive for the centre: a singular matrix lies between
    assert not region_certificate(np.eye(3), half_widths).is_certified


@pytest.mark.parametrize("n", [20, 40])
def test_box_around_a_center_on_which_elimination_grows(n):
    """Moving entry (j, i) by 1 / (A₀⁻¹)_ij makes the centre singular, whatever LAPACK thinks."""
    A = growing_pivots(n)
    with ctx.workprec(400):
        B = balls(A).inv()
        exact = np.array([[float(x) for x in row] for row in B.tolist()])
    i, j = np.unravel_index((np.abs(np.linalg.inv(A)) / np.abs(exact)).argmin(), A.shape)
    half_widths = np.zeros_like(A)
    half_widths[j, i] = abs(1 / exact[i, j]) * (1 + 1e-12)
    assert not region_certificate(A, half_widths).is_certified


@pytest.mark.parametrize("seed", range(10))
def test_constant_half_widths_agree_with_one_radius(seed):
    """The same box in two notations: neither margin exceeds the true one, which is sharp."""
    center = random_matrix(3, seed) + 2 * np.eye(3)
    truth = naive_distance(center[None], "linf")[0]
    for share in (0.1, 0.6, 0.99):
        one = region_certificate(center, share * truth)
        each = region_certificate(center, np.full((3, 3), share * truth))
        assert each.is_certified == one.is_certified
        assert each.margin == pytest.approx(one.margin, rel=1e-9)
        assert each.margin <= (1 - share) * truth * (1 + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 50), shares=st.tuples(st.floats(0, 2), st.floats(0, 2)))
@settings(laws, max_examples=20)
def test_margin_decreases_as_the_region_grows(kind, seed, shares):
    """A region within another has the larger margin."""
    center, radius, norm, axes, _ = make_region(kind, 2, seed)
    small, large = (
        region_certificate(center, share * radius, norm, axes=axes).margins
        for share in sorted(shares)
    )
    large.pop("completely positive map, subdivided", None)  # made only where all else fails
    assert max(large.values()) <= max(small.values()) + tolerance(center)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exponent", [-300, -20, 20, 300])
def test_margin_is_homogeneous(kind, exponent):
    """Margins scale with the centre and its region."""
    center, radius, norm, axes, _ = make_region(kind, 3, 1)
    scale = 2.0**exponent
    moved = region_margin(
        center * scale, np.multiply(radius, scale) if axes is None else radius, norm,
        axes=None if axes is None else axes * scale,
    )  # fmt: skip
    expected = scale * region_margin(center, radius, norm, axes=axes)
    np.testing.assert_allclose(moved, expected, rtol=1e-10, atol=1e-12 * scale)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_certificate_at_the_ends_of_the_range(scale):
    """A regular centre is certified at any scale."""
    assert region_certificate(scale * KNOWN, 0.5 * scale).is_certified


def test_certificate_beyond_the_exact_linf_distance():
    """For n > 20 the lower bound decides, and the certificate says so."""
    A, distance = LARGE["shuffled diagonal"]
    found = region_certificate(A, 0.9 * distance)
    assert found.is_certified
    assert found.test == "distance of the centre (lower bound)"
    assert found.margin <= 0.1 * distance * (1 + 1e-9)
    assert found.distance <= distance * (1 + 1e-12) <= found.distance_upper * (1 + 1e-11)
    assert not region_certificate(A, distance).is_certified


# Ellipsoids.


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rank", [1, 3, 9])
def test_tensor_norm_bound(seed, rank):
    """The bound is above ‖Σ z_k S_k‖₂ at thousands of z and at the ends of power iterations."""
    rng = np.random.RandomState(seed)
    S = rng.standard_normal((rank, 3, 3))
    Z = unit_rows(rng.standard_normal((2000, rank)))
    sizes = np.linalg.norm(np.einsum("mk,kij->mij", Z, S), 2, axis=(1, 2))
    bound, z = tensor_norm_bound(S), Z[sizes.argmax()]
    for _ in range(50):
        U, s, Vt = scipy.linalg.svd(np.einsum("k,kij->ij", z, S))
        z = np.einsum("kij,i,j->k", S, U[:, 0], Vt[0])
        z /= np.linalg.norm(z)
    assert max(sizes.max(), s[0]) <= bound * (1 + 1e-12)
    assert bound <= np.linalg.norm(S) * (1 + 1e-12)
    if rank == 1:
        assert bound == pytest.approx(scipy.linalg.svdvals(S[0])[0], rel=1e-12)


def test_touching_ellipsoids_are_not_certified():
    """Along its own axis A₀ + z A₀ is singular at z = −1, and the test is sharp for it."""
    A = random_matrix(3)
    axes = A.reshape(1, 9)
    assert not region_certificate(A, 1.0, "mahalanobis", axes=axes).is_certified
    assert not region_certificate(A, 1 + 1e-12, "mahalanobis", axes=axes).is_certified
    assert region_certificate(A, 1 - 1e-9, "mahalanobis", axes=axes).is_certified


def test_ellipsoid_without_axes_is_a_point():
    """With no axis at all only the centre is left."""
    found = region_certificate(KNOWN, 5.0, "mahalanobis", 0.1, axes=np.empty((0, 4)))
    assert found.margin == pytest.approx(KNOWN_DISTANCES["l2"] - 0.1, rel=1e-12)


# What a certificate says and refuses.


def test_certificate_fields():
    """The certificate carries the question, the deciding test, and all margins."""
    found = region_certificate(KNOWN, [[0.5, 0.0], [0.0, 1.0]], "linf", 0.1)
    assert {"norm": "linf", "min_distance": 0.1, "is_certified": True}.items() <= found.items()
    np.testing.assert_array_equal(found.radius, [[0.5, 0.0], [0.0, 1.0]])
    assert found.margins[found.test] == max(found.margins.values()) == found.margin
    assert set(found.margins) == {
        "distance of the centre",
        "spectral radius (Beeck)",
        "vertex determinants (Rohn)",
        "smallest singular value (Weyl)",
    }
    assert type(found.margin) is float
    assert type(found.is_certified) is bool
    assert region_certificate(KNOWN, 0.5).radius == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"center": np.ones((2, 2))}, "center is singular"),
        ({"center": np.zeros((2, 2))}, "center is singular"),
        ({"center": with_singular_values([1.0, 0.5, 1e-17])}, "center is singular"),
        ({"center": np.diag([1.0, np.nan])}, "NaN or infinity"),
        ({"center": np.diag([1.0, np.inf])}, "NaN or infinity"),
        ({"center": np.ones((2, 3, 3))}, r"center of shape \(2, 3, 3\)"),
        ({"center": np.ones((1, 2, 2))}, r"center of shape \(1, 2, 2\)"),
        ({"center": np.ones(3)}, "3 entries"),
        ({"center": np.empty((0, 0))}, "0 entries"),
        ({"radius": -0.1}, "radii are finite and not negative"),
        ({"radius": [[0.1, -0.1], [0.1, 0.1]]}, "radii are finite and not negative"),
        ({"radius": np.nan}, "radii are finite and not negative"),
        ({"radius": np.inf}, "radii are finite and not negative"),
        ({"radius": np.ones((2, 2)), "norm": "l2"}, r"radius of shape \(2, 2\) with norm='l2'"),
        ({"radius": np.ones((2, 2)), "norm": "l1"}, r"radius of shape \(2, 2\) with norm='l1'"),
        ({"radius": np.ones((3, 3))}, r"radius of shape \(3, 3\)"),
        ({"norm": "mahalanobis"}, "pass axes"),
        ({"norm": "fro"}, r"Got norm='fro'"),
        (
            {"radius": np.ones((2, 2)), "norm": "mahalanobis", "axes": np.eye(4)},
            r"radius of shape.*'mahalanobis'",
        ),
        ({"min_distance": -1.0}, "min_distance=-1.0"),
        ({"min_distance": np.nan}, "min_distance=nan"),
        ({"min_distance": np.inf}, "min_distance=inf"),
        ({"norm": "mahalanobis", "axes": np.full((1, 4), np.nan)}, "finite rows"),
        ({"norm": "mahalanobis", "axes": np.ones((2, 9))}, r"axes of shape \(2, 9\)"),
        ({"norm": "mahalanobis", "axes": np.ones(4)}, r"axes of shape \(4,\)"),
    ],
)
@pytest.mark.parametrize("function", [region_margin, region_certificate])
def test_questions_that_are_refused(function, arguments, message):
    """Each fault is a ValueError that names it."""
    with pytest.raises(ValueError, match=message):
        function(**({"center": KNOWN, "radius": 0.1} | arguments))


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_complex_matrices_are_refused(norm):
    """Imaginary parts are not dropped in silence."""
    with pytest.raises(ValueError, match="complex"):
        distance_to_singularity(1j * np.eye(2), norm)


def test_complex_distance():
    """In l2 it is the smallest singular value of the complex matrix."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((20, 3, 3)) + 1j * rng.standard_normal((20, 3, 3))
    smallest = np.linalg.svd(Z, compute_uv=False)[:, -1]
    np.testing.assert_allclose(distance_to_singularity(Z), smallest, rtol=1e-12)
    np.testing.assert_allclose(distance_to_singularity(Z[0]), smallest[0], rtol=1e-12)
