"""Gram matrices of channels, against what is known of complex Wishart matrices."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import digamma
from scipy.stats import gamma, kstest

from skinv import CertifiedInverse, FeasibleRegionSampler, LinearInverseApprox
from skinv.datasets import make_channel_gram

K, M = 5, 30


@pytest.fixture(scope="module")
def gram():
    return make_channel_gram(20_000, K, M, return_channels=True, random_state=0)


def deviation(samples, expected):
    """Return how many standard errors the means of samples are off what is expected, at most."""
    parts = [samples - expected]
    if np.iscomplexobj(parts[0]):
        parts = [parts[0].real, parts[0].imag]
    errors = [part.std(axis=0) / np.sqrt(len(part)) for part in parts]
    assert np.all(np.array(errors) > 0)
    return max(np.max(abs(p.mean(axis=0)) / e) for p, e in zip(parts, errors, strict=True))


def off_diagonal(stack):
    return stack[:, *np.triu_indices(stack.shape[1], 1)]


def exponential_correlation(n_antennas, r):
    return np.array(
        [
            [r ** (j - i) if i <= j else np.conj(r) ** (i - j) for j in range(n_antennas)]
            for i in range(n_antennas)
        ]
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"correlation": 0.6}, {"correlation": 0.5j, "snr_db": 3.0}, {"n_antennas": 5}],
)
def test_shapes_structure_and_inverses(options):
    given = {"n_users": 5, "n_antennas": 20, "random_state": 1, **options}
    bunch = make_channel_gram(50, **given)
    assert set(bunch) == {"data", "target", "center", "regularization", "DESCR"}
    for stack in (bunch.data, bunch.target):
        assert stack.shape == (50, 5, 5)
        assert stack.dtype == np.complex128
        assert np.array_equal(stack, stack.conj().swapaxes(1, 2))
        assert np.all(np.linalg.eigvalsh(stack) > 0)
    residual = bunch.data @ bunch.target - np.eye(5)
    condition = np.linalg.cond(bunch.data)
    assert np.all(np.linalg.norm(residual, axis=(1, 2)) < 1e-14 * condition)
    assert np.array_equal(bunch.center, (1 + bunch.regularization) * np.eye(5, dtype=complex))
    X, y = make_channel_gram(50, **given, return_X_y=True)
    assert np.array_equal(X, bunch.data)
    assert np.array_equal(y, bunch.target)


def test_matrices_are_those_of_the_channels(gram):
    assert gram.channels.shape == (20_000, M, K)
    products = np.einsum("smk,sml->skl", gram.channels[:100].conj(), gram.channels[:100]) / M
    np.testing.assert_allclose(gram.data[:100], products, atol=1e-14)


def test_a_seed_fixes_the_stream_whatever_the_number():
    many = make_channel_gram(3000, 8, 64, return_channels=True, random_state=7)  # of several blocks
    few = make_channel_gram(2500, 8, 64, random_state=7)
    assert np.array_equal(many.data[:2500], few.data)
    first_entries = many.channels[:, 0, 0]
    assert len(np.unique(first_entries)) == 3000  # none is drawn twice
    first, second = (make_channel_gram(2).data for _ in range(2))
    assert not np.array_equal(first, second)
    rng = np.random.RandomState(7)
    stream = [make_channel_gram(n, 8, 64, random_state=rng).data for n in (10, 15)]
    assert np.array_equal(np.concatenate(stream), few.data[:25])


def test_entries_are_circular_gaussian(gram):
    h = gram.channels[:400].ravel()
    assert kstest(h.real * np.sqrt(2), "norm").pvalue > 1e-3
    assert kstest(h.imag * np.sqrt(2), "norm").pvalue > 1e-3
    H = gram.channels[:, :3, :2].reshape(-1, 6)
    assert deviation(np.abs(H) ** 2, 1.0) < 4
    assert deviation(H**2, 0.0) < 4  # real and imaginary parts are not correlated
    i, j = np.triu_indices(6, 1)
    assert deviation(H[:, i] * H[:, j].conj(), 0.0) < 4
    assert deviation(H[:, i] * H[:, j], 0.0) < 4


def test_moments_of_complex_wishart_matrices(gram):
    A, A_inverse = gram.data, gram.target
    diagonal = np.einsum("skk->sk", A).real
    assert deviation(diagonal, 1.0) < 4
    assert deviation((diagonal - 1) ** 2, 1 / M) < 4
    assert deviation(off_diagonal(A), 0.0) < 4
    assert deviation(np.abs(off_diagonal(A)) ** 2, 1 / M) < 4
    square = np.einsum("skk->sk", A @ A).real
    assert deviation(square, 1 + K / M) < 4
    assert deviation(np.einsum("skk->sk", A_inverse).real, M / (M - K)) < 4
    log_det = np.linalg.slogdet(A)[1] + K * np.log(M)
    assert deviation(log_det, digamma(M - np.arange(K)).sum()) < 4


def test_zero_forcing_gains_have_their_known_law(gram):
    """M over a diagonal entry of the inverse is Gamma(M - K + 1), of the matrix Gamma(M)."""
    assert kstest(M / gram.target[:, 2, 2].real, gamma(M - K + 1).cdf).pvalue > 1e-3
    assert kstest(M * gram.data[:, 2, 2].real, gamma(M).cdf).pvalue > 1e-3


def test_eigenvalues_have_the_law_of_marchenko_and_pastur():
    ratio = 1 / 8
    A = make_channel_gram(20, 64, 512, random_state=0).data
    eigenvalues = np.linalg.eigvalsh(A).ravel()
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    assert abs(eigenvalues.min() - low) < 0.03  # fluctuations are of order K^(-2/3)
    assert abs(eigenvalues.max() - high) < 0.06

    def density(t):
        return np.sqrt((high - t) * (t - low)) / (2 * np.pi * ratio * t)

    for t in np.linspace(low, high, 12)[1:-1]:
        assert np.mean(eigenvalues <= t) == pytest.approx(quad(density, low, t)[0], abs=0.005)


@pytest.mark.parametrize(("ratio", "converges"), [(2, False), (5, False), (6.5, True)])
def test_neumann_series_about_the_identity_has_its_limit(ratio, converges):
    """It is (1 + √(K/M))² < 2, or M/K > 5.83; about (1 + K/M) I there is none."""
    A = make_channel_gram(5, 200, int(200 * ratio), random_state=0).data
    eigenvalues = np.linalg.eigvalsh(A)
    assert np.all((np.abs(1 - eigenvalues).max(axis=1) < 1) == converges)
    assert np.all(np.abs(1 - eigenvalues / (1 + 1 / ratio)) < 1)


@pytest.mark.parametrize("r", [0.95, -0.4, 0.3 + 0.5j])
def test_correlation_is_exponential(r):
    n_antennas = 6
    bunch = make_channel_gram(
        20_000, 3, n_antennas, correlation=r, return_channels=True, random_state=0
    )
    R = exponential_correlation(n_antennas, r)
    H = bunch.channels
    assert deviation(np.abs(H) ** 2, 1.0) < 4.5
    i, j = np.triu_indices(n_antennas, 1)
    assert deviation(H[:, i] * H[:, j].conj(), R[i, j][:, None]) < 4.5  # the same of all users
    assert deviation(H[:, i] * H[:, j], 0.0) < 4.5
    assert deviation(H[:, i, 0] * H[:, j, 1].conj(), 0.0) < 4.5  # of two users
    # Of the matrices: the expectation stays I, and the spread grows to ‖R‖².
    assert deviation(np.einsum("skk->sk", bunch.data).real, 1.0) < 4
    spread = np.linalg.norm(R) ** 2 / n_antennas**2
    assert spread > 1 / n_antennas
    assert deviation(np.abs(off_diagonal(bunch.data)) ** 2, spread) < 4


@pytest.mark.parametrize(("n_users", "n_antennas"), [(4, 12), (6, 4)])
def test_regularized_inverses_are_those_of_the_mmse_detector(n_users, n_antennas):
    """The detector by its other formula, Hᴴ(HHᴴ + N₀/Eₛ I)⁻¹, knows nothing of Gram matrices."""
    snr_db = 7.0
    bunch = make_channel_gram(
        30, n_users, n_antennas, snr_db=snr_db, return_channels=True, random_state=0
    )
    H = bunch.channels
    noise = n_users / 10 ** (snr_db / 10)  # per antenna, with symbols of energy 1
    H_star = H.conj().swapaxes(1, 2)
    other = H_star @ np.linalg.inv(H @ H_star + noise * np.eye(n_antennas))
    np.testing.assert_allclose(bunch.target @ H_star / n_antennas, other, atol=1e-12)
    assert bunch.regularization == pytest.approx(noise / n_antennas)
    signal = np.sum(np.abs(H) ** 2, axis=2).mean()  # at an antenna, of all users together
    assert 10 * np.log10(signal / noise) == pytest.approx(snr_db, abs=0.5)


def test_estimators_take_the_data_as_they_are():
    bunch = make_channel_gram(300, 3, 60, random_state=0)
    series = LinearInverseApprox(bunch.center).fit()
    np.testing.assert_allclose(series.predict(bunch.data), 2 * np.eye(3) - bunch.data, atol=1e-14)
    certified = CertifiedInverse(series, tol=1e-9, fallback="raise")
    inverse, bound = certified.predict(bunch.data, return_bound=True)
    error = np.linalg.norm(inverse - bunch.target, axis=(1, 2))
    size = np.linalg.norm(bunch.target, axis=(1, 2))
    assert np.all(bound <= 1e-9)
    assert np.all(error <= (bound + 1e-13) * size)
    region = FeasibleRegionSampler(bunch.center, structure="symmetric").fit(bunch.data)
    assert region.is_feasible(bunch.data).all()


def test_description_tells_the_settings():
    text = make_channel_gram(2, 4, 16, snr_db=10.0, correlation=0.5).DESCR
    for part in ("K = 4", "M = 16", "MMSE", "10 dB", "r = 0.5", "1.025 I", "M/K = 4", "Loyka"):
        assert part in text
    plain = make_channel_gram(2, 4, 16).DESCR
    for part in ("zero forcing", "independent", "0.25 to 2.25"):
        assert part in plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 0}, "n_samples=0, but a positive integer"),
        ({"n_users": 2.0}, "n_users=2.0, but a positive integer"),
        ({"n_antennas": True}, "n_antennas=True, but a positive integer"),
        ({"correlation": 1.0}, "correlation=1.0, but a number of absolute value below 1"),
        ({"correlation": 0.8 + 0.8j}, "below 1"),
        ({"correlation": np.nan}, "below 1"),
        ({"correlation": "0.5"}, "below 1"),
        ({"snr_db": np.inf}, "snr_db=inf, but None or -300 to 300 dB"),
        ({"snr_db": np.nan}, "snr_db=nan"),
        ({"snr_db": "10"}, "snr_db='10'"),
        ({"n_users": 65}, "more users than antennas are singular"),
        ({"n_users": 65, "snr_db": 200.0}, "singular but for rounding"),
        ({"correlation": 1 - 1e-16}, "singular but for rounding"),
        ({"return_channels": True, "return_X_y": True}, "leave the latter out"),
    ],
)
def test_what_cannot_be_made_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_channel_gram(**{"n_samples": 2, **options})
