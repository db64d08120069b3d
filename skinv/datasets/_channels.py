"""Gram matrices of massive MIMO channels: complex, Hermitian, near the identity."""

import math
from numbers import Complex, Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.results import Dataset
from .._linalg.draws import private_generator
from .._linalg.inverses import condition_numbers
from .._linalg.products import exact_inverse

# Complex numbers drawn at once.
_BLOCK = 2**20
_MAX_CONDITION = 1e14

_DESCR = """\
.. _channel_gram:

Gram matrices of massive MIMO channels
--------------------------------------

K = {n_users} users with one antenna each send to a base station of M = {n_antennas} antennas.
Column k of the channel H holds what the antennas receive of user k. From all that they receive, y,
a linear detector estimates the symbols as A^-1 H^H y / M, with

    A = H^H H / M{regularized}

:Channels: Rayleigh fading, {channels}
:Detector: {detector}
:Centre: the expectation of A, {diagonal:.6g} I
:Eigenvalues of H^H H / M: {eigenvalues}

Of large channels with independent entries nearly all H^H H / M have a Neumann series about I that
converges if (1 + sqrt(K/M))^2 < 2, which is M/K > 5.83; here M/K = {ratio:.4g}. About (1 + K/M) I,
the middle of the limiting eigenvalues, it converges for any M > K.

References: Marchenko and Pastur (1967), "Distribution of eigenvalues for some sets of random
matrices". Marzetta (2010), "Noncooperative cellular wireless with unlimited numbers of base station
antennas". Rusek, Persson, Lau, Larsson, Marzetta, Edfors and Tufvesson (2013), "Scaling up MIMO:
Opportunities and challenges with very large arrays". Wu, Yin, Wang, Dick, Cavallaro and Studer
(2014), "Large-scale MIMO detection for 3GPP LTE: Algorithms and FPGA implementations".
Loyka (2001), "Channel capacity of MIMO architecture using the exponential correlation matrix".
"""


def make_channel_gram(
    n_samples: int = 1000,
    n_users: int = 8,
    n_antennas: int = 64,
    *,
    correlation: complex = 0.0,
    snr_db: float | None = None,
    return_channels: bool = False,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make Gram matrices of massive MIMO channels, with their inverses.

    A base station of M antennas that detects the symbols of K users inverts a Hermitian matrix of
    order K in every coherence interval and subcarrier. With many antennas per user the channels
    are nearly orthogonal, and these matrices near a multiple of the identity.

    Parameters
    ----------
    n_samples : int, default=1000
        How many.
    n_users : int, default=8
        Number of users K, the order of the matrices.
    n_antennas : int, default=64
        Number of antennas M of the base station.
    correlation : float or complex, default=0.0
        Correlation r of neighbouring antennas of the base station, below 1 in absolute value: that
        of antennas i <= j is r^(j-i), and its conjugate the other way round. Users are not
        correlated.
    snr_db : float, default=None
        Signal-to-noise ratio in dB at each antenna, of the signals of all users together: adds K
        over this ratio to the diagonal of HᴴH, for detection with the least mean squared error
        (MMSE). None adds nothing, for zero forcing.
    return_channels : bool, default=False
        Whether the bunch holds the channels, too.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.
    random_state : int, RandomState instance or None, default=None
        Seeds the channels. The first ones of a seed are the same for any `n_samples`.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with these attributes:

        data : ndarray of shape (n_samples, n_users, n_users), complex128
            The matrices HᴴH/M, or HᴴH/M + K/(M·SNR)·I: Hermitian to the last bit.
        target : ndarray of shape (n_samples, n_users, n_users), complex128
            Their inverses by :func:`numpy.linalg.inv`, Hermitian to the last bit.
        center : ndarray of shape (n_users, n_users), complex128
            The expectation of the matrices, a multiple of the identity.
        regularization : float
            What was added to the diagonal, K/(M·SNR) or 0.
        channels : ndarray of shape (n_samples, n_antennas, n_users), complex128
            The channels H. Only if `return_channels`.
        DESCR : str
            All of it in words, with references.

    (data, target) : tuple of ndarray
        If `return_X_y`.

    Raises
    ------
    ValueError
        For numbers out of range, for settings whose matrices are singular (more users than antennas
        without `snr_db`) or are so but for rounding, or if both `return_channels` and `return_X_y`
        are asked for.

    See Also
    --------
    skinv.matrices.embed_complex : Real matrices instead, for other estimators.

    Notes
    -----
    H = R^½W, with W of independent standard complex normal entries (Marzetta 2010, "Noncooperative
    cellular wireless with unlimited numbers of base station antennas") and R the exponential
    correlation matrix (Loyka 2001, "Channel capacity of MIMO architecture using the exponential
    correlation matrix"), whose trace is M: E[HᴴH/M] = I for every correlation. The columns are
    drawn as autoregressive processes, which have this correlation.

    For large K and M of independent entries the eigenvalues of HᴴH/M fill the interval from
    (1 − √(K/M))² to (1 + √(K/M))² (Marchenko and Pastur 1967, "Distribution of eigenvalues for some
    sets of random matrices"). So the Neumann series about the identity, from which detectors take a
    few terms (Rusek et al. 2013, "Scaling up MIMO: Opportunities and challenges with very large
    arrays"; Wu et al. 2014, "Large-scale MIMO detection for 3GPP LTE: Algorithms and FPGA
    implementations"), converges for nearly all of these matrices if M/K > (1 + √2)² = 5.83. The
    middle of the interval is 1 + K/M, and about that multiple of the identity the series converges
    for any M > K, and faster. Correlation spreads the eigenvalues: M/K must be larger then.

    Examples
    --------
    >>> from skinv import CertifiedInverse, LinearInverseApprox
    >>> from skinv.datasets import make_channel_gram
    >>> gram = make_channel_gram(100, n_users=4, n_antennas=64, random_state=0)
    >>> gram.data.shape, gram.data.dtype
    ((100, 4, 4), dtype('complex128'))
    >>> series = LinearInverseApprox(gram.center, order=2).fit()
    >>> float(abs(series.predict(gram.data) - gram.target).max()) < 0.2
    True
    >>> bool((CertifiedInverse(series).predict(gram.data, return_bound=True)[1] <= 1e-6).all())
    True
    """
    _check_settings(n_samples, n_users, n_antennas, correlation, snr_db)
    if return_channels and return_X_y:
        raise ValueError(
            "Got return_channels=True with return_X_y=True; leave the latter out, and take data, "
            "target and channels of the bunch."
        )

    n_samples, n_users, n_antennas = int(n_samples), int(n_users), int(n_antennas)
    snr_db = None if snr_db is None else float(snr_db)
    shape = n_antennas, n_users
    regularization = 0.0 if snr_db is None else n_users / n_antennas / 10 ** (snr_db / 10)
    rng = private_generator(random_state)
    data = np.empty((n_samples, n_users, n_users), dtype=np.complex128)
    channels = np.empty((n_samples, *shape), dtype=np.complex128) if return_channels else None
    step = max(_BLOCK // (n_antennas * n_users), 1)
    for start in range(0, n_samples, step):
        block = slice(start, min(start + step, n_samples))
        H = _draw_channels(block.stop - start, shape, complex(correlation), rng)
        data[block] = _hermitian(H.conj().swapaxes(1, 2) @ H / n_antennas)
        if channels is not None:
            channels[block] = H
    data[:, np.arange(n_users), np.arange(n_users)] += regularization
    target = _hermitian(exact_inverse(data))
    condition = condition_numbers(data, target).max()
    if not condition <= _MAX_CONDITION:  # rounding leaves no digit
        raise ValueError(
            f"Got settings that make matrices singular but for rounding (condition number "
            f"{condition:.2g}); take less correlation, more antennas, or a lower snr_db."
        )
    if return_X_y:
        return data, target
    bunch = Dataset(
        data=data,
        target=target,
        center=(1.0 + regularization) * np.eye(n_users, dtype=np.complex128),
        regularization=regularization,
        DESCR=_describe(n_users, n_antennas, correlation, snr_db, regularization),
    )
    if channels is not None:
        bunch.channels = channels
    return bunch


def _check_settings(
    n_samples: int, n_users: int, n_antennas: int, correlation: complex, snr_db: float | None
) -> None:
    """Raise a ValueError for numbers out of range, or whose matrices would be singular."""
    counts = {"n_samples": n_samples, "n_users": n_users, "n_antennas": n_antennas}
    for name, number in counts.items():
        if not isinstance(number, Integral) or isinstance(number, bool) or number < 1:
            raise ValueError(f"Got {name}={number!r}, but a positive integer is expected.")
    if not (
        isinstance(correlation, Complex)
        and -1 < correlation.real < 1  # the least int64 has no absolute value
        and -1 < correlation.imag < 1
        and abs(complex(correlation)) < 1
    ):
        raise ValueError(
            f"Got correlation={correlation!r}, but a number of absolute value below 1 is expected."
        )
    if snr_db is not None and not (isinstance(snr_db, Real) and -300 <= snr_db <= 300):
        raise ValueError(f"Got snr_db={snr_db!r}, but None or -300 to 300 dB are expected.")
    if snr_db is None and n_users > n_antennas:
        raise ValueError(
            f"Got n_users={n_users} and n_antennas={n_antennas}, but Gram matrices of more users "
            f"than antennas are singular; take more antennas, or regularize by snr_db."
        )


def _draw_channels(
    n_samples: int, shape: tuple[int, int], correlation: complex, rng: np.random.RandomState
) -> NDArray[np.complex128]:
    """Draw channels whose columns are autoregressive along the antennas, of variance 1."""
    H = rng.standard_normal((n_samples, *shape, 2)).view(np.complex128)[..., 0]
    H *= math.sqrt(0.5)
    if correlation:
        fresh = math.sqrt(1.0 - abs(correlation) ** 2)
        for i in range(1, shape[0]):  # E[h_j conj(h_i)] = conj(r)^(j - i) for i <= j
            H[:, i] = np.conj(correlation) * H[:, i - 1] + fresh * H[:, i]
    return H


def _hermitian(Z: NDArray[Any]) -> NDArray[np.complex128]:
    """Return the nearest Hermitian matrices; sums of two numbers do not depend on their order."""
    return 0.5 * (Z + Z.conj().swapaxes(1, 2))


def _describe(
    n_users: int,
    n_antennas: int,
    correlation: complex,
    snr_db: float | None,
    regularization: float,
) -> str:
    low, high = ((1 + sign * math.sqrt(n_users / n_antennas)) ** 2 for sign in (-1, 1))
    limits = f"from {low:.4g} to {high:.4g} for large K and M (Marchenko and Pastur 1967)"
    if n_users > n_antennas:
        limits += f"; {n_users - n_antennas} of them are 0"
    return _DESCR.format(
        n_users=n_users,
        n_antennas=n_antennas,
        regularized="" if snr_db is None else f" + {regularization:.6g} I",
        channels=(
            f"neighbouring antennas correlated by r = {correlation}, others by powers of it "
            f"(Loyka 2001)"
            if correlation
            else "independent entries of variance 1"
        ),
        detector="zero forcing" if snr_db is None else f"MMSE at a ratio of {snr_db:g} dB",
        diagonal=1.0 + regularization,
        eigenvalues=f"spread wider than from {low:.4g} to {high:.4g}" if correlation else limits,
        ratio=n_antennas / n_users,
    )
