"""
Massive MIMO: how many antennas make an inverse cheap?
======================================================

You design the receiver of a base station. Eight users send at the same time in the same band, and
their symbols are told apart by zero forcing: for every group of subcarriers, and again as soon as
somebody has moved, the inverse of a complex Hermitian matrix is needed. The hardware would rather
not divide. With many antennas the matrices are near the identity, and two or three terms of a
Neumann series are said to do (Wu, Yin, Wang, Dick, Cavallaro and Studer 2014, "Large-scale MIMO
detection for 3GPP LTE: Algorithms and FPGA implementations"). How many antennas are many? Does it
matter about which matrix the series is made? Is a neural network better? And who tells you which of
a million matrices was the one too many?

This page counts bit errors, and lets :class:`~skinv.CertifiedInverse` prove what it can.
"""

# %%
# Channels and their Gram matrices
# --------------------------------
# :func:`~skinv.datasets.make_channel_gram` draws Rayleigh channels H of K users and M antennas, and
# returns A = HᴴH/M, complex and Hermitian, as a stack that all estimators of skinv take as it is.
# The expectation of A is I. How far A is from I depends on M/K only, if both are large: the
# eigenvalues fill the interval from (1 − √(K/M))² to (1 + √(K/M))² (Marchenko and Pastur 1967). A
# Neumann series about c·I converges if all of them are between 0 and 2c. For c = 1 that takes
# M/K > (1 + √2)² = 5.83. But 1 is not the middle of the interval. 1 + K/M is, and with c = 1 + K/M
# there is no limit at all: one other constant, no other cost.

import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator
from scipy.stats import gamma, gaussian_kde, norm

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
)
from skinv.bounds import residual_bound
from skinv.datasets import make_channel_gram

K = 8
EYE = np.eye(K, dtype=complex)
LIMIT = (1 + np.sqrt(2)) ** 2  # 5.83
BLACK, ORANGE, SKY, BLUE = "black", "#E69F00", "#56B4E9", "#0072B2"
GREEN, VERMILION = "#009E73", "#D55E00"
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})

figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
shown = (2, 3, 4, 6, 8, 16, 32)
grid = np.linspace(0, 3.2, 400)
print(f"{'M/K':>4}{'within (0, 2) about I':>24}{'about (1 + K/M) I':>20}")
for row, ratio in enumerate(shown):
    eigenvalues = np.linalg.eigvalsh(make_channel_gram(3000, K, ratio * K, random_state=0).data)
    inside = []
    for ax, center in zip(axes, (1.0, 1 + 1 / ratio), strict=True):
        scaled = eigenvalues / center
        inside.append(np.mean(scaled[:, -1] < 2))
        density = gaussian_kde(scaled.ravel(), 0.1)(grid)
        height = row + 0.85 * density / density.max()
        for part, color in ((grid <= 2.004, BLUE), (grid >= 2, VERMILION)):
            ax.fill_between(grid[part], row, height[part], color=color, alpha=0.75, lw=0)
        ax.plot(grid, height, color="white", lw=1)
        edges = (1 + np.array([-1, 1]) / np.sqrt(ratio)) ** 2 / center
        ax.plot(edges, [row, row], "|", color=BLACK, ms=9, mew=1.5)
        if inside[-1] < 0.9995:
            ax.text(2.06, row + 0.3, f"{1 - inside[-1]:.1%} diverge", color=VERMILION)
    print(f"{ratio:>4}{inside[0]:>24.2%}{inside[1]:>20.2%}")
    if ratio > LIMIT:
        assert inside[0] > 0.97
    assert inside[1] >= inside[0]
for ax, title in zip(
    axes, ("about I, up to six antennas per user are too few", "about (1 + K/M) I, two are enough"), strict=True
):
    ax.axvline(2, color=BLACK, lw=1)
    ax.set(xlim=(0, 3.2), ylim=(-0.1, len(shown)), xlabel="eigenvalues of A/c", title=title)
    ax.spines["left"].set_visible(False)
axes[0].set_yticks(np.arange(len(shown)), [f"M/K = {ratio}" for ratio in shown])
axes[0].tick_params(axis="y", length=0)
axes[1].tick_params(axis="y", length=0)
figure.suptitle("Where the Neumann series converges: left of 2", fontsize=13)

# %%
# A link to measure bit errors
# ----------------------------
# Symbols are 16-QAM with Gray labels: two bits choose the real part among −3, −1, 1, 3, two the
# imaginary part. The antennas receive y = Hx + n, and zero forcing estimates x by A⁻¹Hᴴy/M. Since
# Hᴴy/M = Ax + Hᴴn/M, and the covariance of the last term is that of the noise times A/M, A is all
# that need be drawn. The signal-to-noise ratio is that at each antenna, of all users together.
#
# All detectors, and all noise levels, get the same channels, bits and noise: differences between
# curves are not luck, but neighbouring points share what luck there is.


class Link:
    """Channels of M antennas, and what 10 symbols of each user become after the matched filter."""

    def __init__(self, n_channels, n_antennas, seed, n_symbols=10):
        rng = np.random.default_rng(seed)
        self.A = make_channel_gram(n_channels, K, n_antennas, random_state=seed).data
        shape = n_channels, K, n_symbols
        self.bits = rng.integers(2, size=(2, *shape, 2), dtype=np.int8).astype(bool)
        sign, inner = self.bits
        levels = (2 * sign - 1) * (3 - 2 * inner) / np.sqrt(10)
        self.x = levels.astype(float).view(complex)[..., 0]
        self.signal = self.A @ self.x
        white = rng.standard_normal((*shape, 2)).view(complex)[..., 0] / np.sqrt(2)
        self.noise = np.linalg.cholesky(self.A) @ white / np.sqrt(n_antennas)

    def estimates(self, X, snr_db):
        """Return what approximate inverses X make of it."""
        return X @ (self.signal + np.sqrt(K / 10 ** (snr_db / 10)) * self.noise)

    def errors(self, X, snr_db):
        """Return the number of bit errors of each channel."""
        levels = self.estimates(X, snr_db).view(float).reshape(*self.x.shape, 2) * np.sqrt(10)
        sign, inner = self.bits
        wrong = np.count_nonzero((levels > 0) != sign, axis=(1, 2, 3))
        return wrong + np.count_nonzero((np.abs(levels) < 2) != inner, axis=(1, 2, 3))


# %%
# What the exact inverse should make of it is known: the gain of a user is Gamma distributed with
# M − K + 1 degrees of freedom (Winters, Salz and Gitlin 1994, "The impact of antenna diversity on
# the capacity of wireless communication systems"), and the bit errors of Gray 16-QAM at a given gain
# are three normal tails (Cho and Yoon 2002, "On the general BER expression of one- and
# two-dimensional amplitude modulations"). The simulation is held against that.


def exact_error_rate(n_antennas, snr_db):
    """Return the bit error rate of zero forcing, by integration over the gain."""
    order = n_antennas - K + 1
    gain = np.linspace(0, order + 15 * np.sqrt(order) + 30, 20_001)
    d = np.sqrt(10 ** (snr_db / 10) / K * gain / 5)
    rate = 0.75 * norm.sf(d) + 0.5 * norm.sf(3 * d) - 0.25 * norm.sf(5 * d)
    return np.sum(rate * gamma.pdf(gain, order)) * (gain[1] - gain[0])


# %%
# The detectors
# -------------
# A Hermitian matrix of order K has K² free real numbers, the real matrix of order 2K that stands for
# it 4K² entries. A network has no use for the same number four times, so it is given the K² only,
# and predicts those of the inverse. It is trained on other channels of the same number of antennas,
# of which there are as many as one likes.

upper, strict = np.triu_indices(K), np.triu_indices(K, 1)


def free_numbers(A):
    """Return the free real numbers of Hermitian matrices, (m, K²)."""
    return np.hstack([A[:, *upper].real, A[:, *strict].imag])


def hermitian(numbers):
    """Return the Hermitian matrices that have these free numbers."""
    A = np.zeros((len(numbers), K, K), dtype=complex)
    A[:, *upper] = numbers[:, : len(upper[0])]
    A[:, *strict] += 1j * numbers[:, len(upper[0]) :]
    A[:, *strict[::-1]] = A[:, *strict].conj()
    return A


def train_network(n_antennas):
    """Return a network for Gram matrices of so many antennas."""
    A, inverse = make_channel_gram(15_000, K, n_antennas, random_state=1, return_X_y=True)
    network = NeuralInverseRegressor(512, max_iter=8, random_state=0)
    return network.fit(free_numbers(A), free_numbers(inverse))


def detectors(n_antennas):
    """Return functions from Gram matrices to approximate inverses, by name."""
    better = (1 + K / n_antennas) * EYE
    network = train_network(n_antennas)
    certified = CertifiedInverse(LinearInverseApprox(better, order=2), tol=1e-3).fit()
    return {
        "exact": np.linalg.inv,
        "certified": certified.predict,
        "order 1, about I": LinearInverseApprox(EYE).fit().predict,
        "order 2, about I": LinearInverseApprox(EYE, order=2).fit().predict,
        "order 2, about (1 + K/M) I": LinearInverseApprox(better, order=2).fit().predict,
        "network": lambda A: hermitian(network.predict(free_numbers(A))),
    }


COLORS = dict(
    zip(detectors(K * 8), (BLACK, GREEN, ORANGE, SKY, BLUE, VERMILION), strict=True)
)

# %%
# What goes wrong, at a glance
# ----------------------------
# Eight antennas per user and hardly any noise: what is seen is the error of the inverse. Cut off
# too early, the series about I shrinks the symbols, and leaks what other users send. Dashed lines
# are the borders of decisions.

link = Link(20_000, 8 * K, seed=2)
methods = detectors(8 * K)
inverses = {name: method(link.A) for name, method in methods.items()}

figure, axes = plt.subplots(1, 4, figsize=(13, 3.8), sharex=True, sharey=True, layout="constrained")
pictured = ("order 1, about I", "order 2, about I", "order 2, about (1 + K/M) I", "certified")
for ax, name in zip(axes, pictured, strict=True):
    points = np.sqrt(10) * link.estimates(inverses[name], 22)[:400].ravel()
    rate = link.errors(inverses[name], 22).sum() / (2 * link.bits[0].size)
    ax.plot(points.real, points.imag, ".", ms=1.6, alpha=0.35, mew=0, color=COLORS[name])
    for border in (-2, 0, 2):
        ax.axhline(border, color="0.7", lw=0.8, ls="--", zorder=0)
        ax.axvline(border, color="0.7", lw=0.8, ls="--", zorder=0)
    told = f"1 bit in {1 / rate:,.0f} wrong" if rate else f"no error in {2 * link.bits[0].size:,} bits"
    ax.set_title(f"{name}\n{told}", color=COLORS[name])
    ax.set(aspect="equal", xlim=(-4.6, 4.6), ylim=(-4.6, 4.6), xticks=[-3, -1, 1, 3], yticks=[-3, -1, 1, 3])

# %%
# Bit errors over the signal-to-noise ratio
# -----------------------------------------

# Eight antennas per user. The exact inverse has hardly an error left at 14 dB; the series run into
# floors, which no power of the senders lowers. Only points with at least 20 errors are drawn.

snrs = np.arange(2, 23, 2)
n_bits = 2 * link.bits[0].size
errors = {
    name: np.array([link.errors(X, snr) for snr in snrs]) for name, X in inverses.items()
}  # (noise levels, channels)
rates = {name: counted.sum(axis=1) / n_bits for name, counted in errors.items()}
theory = np.array([exact_error_rate(8 * K, snr) for snr in snrs])
print(f"\nM/K = 8, {n_bits:,} bits in {len(link.A):,} channels: bit error rates")
print(f"{'SNR, dB':<28}" + "".join(f"{snr:>9}" for snr in snrs))
for name, rate in {**rates, "exact, by theory": theory}.items():
    print(f"{name:<28}" + "".join(f"{r:>9.1e}" for r in rate))

# Errors come in bursts, channel by channel: the standard error is that of the channels.
standard_error = errors["exact"].std(axis=1) * np.sqrt(len(link.A)) / n_bits
enough = theory * n_bits > 50
assert np.all(np.abs(rates["exact"] - theory)[enough] < 5 * standard_error[enough])
X, bound = methods["certified"](link.A), residual_bound(link.A, inverses["certified"])
assert (bound <= 1e-3).all()
assert np.array_equal(X, X.conj().swapaxes(1, 2))  # Hermitian, to the last bit
changed = np.abs(errors["certified"] - errors["exact"]).sum(axis=1)
assert (changed <= 0.02 * errors["exact"].sum(axis=1) + 5).all()
floors = {name: rate[-1] for name, rate in rates.items()}
assert floors["order 1, about I"] > 5 * floors["order 2, about I"]
assert floors["order 2, about I"] > 5 * floors["order 2, about (1 + K/M) I"]

# %%
# Bit errors, and proofs, over the number of antennas
# ---------------------------------------------------
# Now the noise stays, and the number of antennas grows from one per user to 32, with a network
# trained for each. The limit of 5.83 is that of infinitely many users, and with eight it is not
# sharp, but a good guide. To its left all approximations of low order fail, and the last ones to
# notice would be those who use them: a series that diverges returns numbers like any other.
#
# :class:`~skinv.CertifiedInverse` notices, matrix by matrix. The table says for how many matrices
# a proof was found without LAPACK: that of the others is LAPACK's. A region that is proven as a
# whole, so that no matrix need be looked at again, takes many more antennas.

ratios = np.array([1, 1.5, 2, 3, 4, 6, 8, 12, 16, 32])
SNR = 8
swept: dict = {name: [] for name in COLORS}
proven: dict = {"about I": [], "network": [], "about (1 + K/M) I": []}
print(f"\n{SNR} dB: bit error rates, and shares of matrices proven without LAPACK")
names = ("exact", "certified", "1, I", "2, I", "2, better", "network")
print(f"{'M/K':>4}{'bits':>11}" + "".join(f"{name:>11}" for name in names), end="")
print(f"{'| proven: I':>13}{'network':>9}{'better':>9}{'region':>8}{'condition':>11}")
for ratio in ratios:
    n_antennas = int(K * ratio)
    sweep = Link(8_000, n_antennas, seed=3)
    A, methods_here = sweep.A, methods if ratio == 8 else detectors(n_antennas)
    found = {name: method(A) for name, method in methods_here.items()}
    n_swept = 2 * sweep.bits[0].size
    for name, X in found.items():
        swept[name].append(sweep.errors(X, SNR).sum() / n_swept)
    better = (1 + 1 / ratio) * EYE
    for name, center in (("about I", EYE), ("about (1 + K/M) I", better)):
        series = LinearInverseApprox(center, order=2)
        report = CertifiedInverse(series, tol=1e-3).fit().report(A)
        assert (report.bound <= 1e-3).all()  # whoever answers
        proven[name].append(np.mean(report.status != "exact"))
    proven["network"].append(np.mean(residual_bound(A, found["network"]) < 1))
    region = FeasibleRegionSampler(better, norm="l2", structure="symmetric").fit(A)
    print(f"{ratio:>4g}{n_swept:>11,}" + "".join(f"{swept[name][-1]:>11.1e}" for name in COLORS), end="")
    print("".join(f"{proven[name][-1]:>{w}.1%}" for name, w in zip(proven, (13, 9, 9), strict=True)), end="")
    print(f"{'yes' if region.is_certified_ else 'no':>8}{np.median(np.linalg.cond(A)):>11.0f}")
swept = {name: np.array(rate) for name, rate in swept.items()}
proven = {name: np.array(share) for name, share in proven.items()}

# %%
# What it costs
