"""
A bank of Kalman filters that feeds its answers back
====================================================

Fifty trackers run side by side, each a Kalman filter of order 8. In every step each needs the
inverse of its innovation covariance S = P + R, and the next covariance P depends on that inverse:
an answer that is wrong is not one number among many, it is in all that follows. The noise R of the
sensors drifts, and so do the covariances, away from whatever was known of them at the beginning.

:class:`~skinv.CertifiedInverse` proves every inverse before it goes back into a filter, and
``partial_fit`` lets the matrix that it knows follow the covariances. What was answered never
becomes what is known: only covariances do, when their own inverse is proven.
"""

# %%
# The bank
# --------
# Random stable dynamics of order 8, the same for all targets, and sensors that get six times as
# loud and quieter again, some more than others. The covariance of the estimate is predicted, and
# updated by Joseph's form, which keeps it positive definite for any gain K (Bucy and Joseph 1968,
# "Filtering for Stochastic Processes with Applications to Guidance").

import matplotlib.pyplot as plt
import numpy as np

from skinv import CertifiedInverse, LinearInverseApprox

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
FILTERS, N, STEPS, TOL = 50, 8, 1000, 1e-9
eye = np.eye(N)
rng = np.random.default_rng(0)
F = 0.98 * np.linalg.qr(rng.standard_normal((N, N)))[0]
louder = 1 + 0.1 * rng.random((FILTERS, N))
loudness = 1 + 5 * np.sin(np.pi * np.arange(STEPS) / 1000) ** 2


def run(invert):
    """Return the covariances of the estimates after each step, (steps, filters, 8, 8)."""
    P, history = np.tile(eye, (FILTERS, 1, 1)), []
    for loud in loudness:
        R = loud * louder[:, :, None] * eye
        P = F @ P @ F.T + 0.1 * eye
        P = (P + P.swapaxes(1, 2)) / 2
        K = P @ invert(P + R)
        P = (eye - K) @ P @ (eye - K).swapaxes(1, 2) + K @ R @ K.swapaxes(1, 2)
        history.append(P)
    return np.array(history)


# %%
# Four ways to invert
# -------------------
# LAPACK; the model that follows; the same model, never moved, whose proofs LAPACK has to save; and
# what one would be tempted to do: the first-order series of the first covariances, refined once,
# with nothing to tell whether that is enough.


class Inverter:
    """Inverts covariances by a model, and keeps what is known of the answers."""

    def __init__(self, follows=True, lost=None):
        self.model = CertifiedInverse(LinearInverseApprox(order=3), order=3, tol=TOL)
        self.follows, self.lost = follows, lost
        self.bounds, self.direct, self.moves = [], [], []

    def __call__(self, S):
        if len(self.bounds) == self.lost:
            S[7] = np.nan
        if self.follows or not self.bounds:
            self.model.partial_fit(S)
        report = self.model.report(S)
        self.bounds.append(report.bound)
        self.direct.append(np.isin(report.status, ("predicted", "refined")).mean())
        self.moves.append(getattr(self.model, "n_moves_", 0))
        X = report.inverse  # symmetric for symmetric matrices, to the bit
        assert np.array_equal(X, X.swapaxes(1, 2), equal_nan=True)
        return X


class Unproven:
    """Inverts covariances by the first-order series about the first ones, refined once."""

    B = None

    def __call__(self, S):
        self.B = np.linalg.inv(S.mean(axis=0)) if self.B is None else self.B
        X = 2 * self.B - self.B @ S @ self.B
        return X @ (2 * eye - S @ X)


following, resting = Inverter(), Inverter(follows=False)
exact = run(np.linalg.inv)
histories = {"follows": run(following), "stays": run(resting)}
with np.errstate(all="ignore"):  # this one ends in NaN
    histories["unproven"] = run(Unproven())
    difference = {
        name: np.abs(history - exact).max(axis=(1, 2, 3)) / np.abs(exact).max()
        for name, history in histories.items()
    }
for name, inverter in (("follows", following), ("stays", resting)):
    bounds = np.array(inverter.bounds)
    print(
        f"{name:<9} moved {inverter.moves[-1]:>2} times, largest bound {bounds.max():.0e}, "
        f"{np.mean(inverter.direct):.0%} without LAPACK, covariances off by "
        f"{difference[name].max():.0e}"
    )
    assert (bounds <= TOL).all()
    assert difference[name].max() < 1e-8
wrong, lost = (np.argmin(difference["unproven"] < limit) for limit in (TOL, np.inf))
print(f"unproven  wrong from step {wrong} on, no numbers from step {lost} on")
assert np.mean(following.direct) == 1
assert np.mean(resting.direct) < 0.9
assert 0 < wrong < lost

# %%
# Both certified banks agree with the exact one: no answer is unproven, and errors that small die
# out in a stable filter. The one that follows never asks LAPACK. With the unproven series the
# covariances are off almost at once, and in the end the filters diverge, without a word.

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
figure, (top, middle, bottom) = plt.subplots(
    3, 1, figsize=(9, 8), sharex=True, layout="constrained"
)
step = np.arange(STEPS)
S_size = np.linalg.norm(exact, axis=(2, 3)).mean(axis=1)
top.plot(step, loudness, color="0.3")
top.plot(step, S_size / S_size[50], color=BLUE)
top.annotate("noise of the sensors", (745, 3.6), color="0.3")
top.annotate("size of the covariances", (620, 1.2), color=BLUE)
top.set(ylabel="of the first", title="The noise drifts, and the covariances with it")
middle.plot(step, 100 * np.array(following.direct), color=BLUE)
middle.plot(step, 100 * np.array(resting.direct), color=VERMILION)
for move in np.flatnonzero(np.diff(following.moves)) + 1:
    middle.axvline(move, color=BLUE, lw=0.6, alpha=0.4, zorder=0)
middle.annotate("centre that follows (lines: its moves)", (300, 90), color=BLUE)
middle.annotate("first centre", (300, 10), color=VERMILION)
middle.set(ylabel="proven without LAPACK, %", title="What the known matrix is good for")
for name, color in (("unproven", "0.3"), ("stays", VERMILION), ("follows", BLUE)):
    bottom.plot(step, difference[name].clip(1e-17), color=color)
bottom.axhline(TOL, color="0.4", ls="--", lw=1)
bottom.annotate("tol", (5, 2e-9), color="0.4")
bottom.annotate("series without a proof", (620, 1e-4), color="0.3")
bottom.annotate("certified", (620, 1e-13), color=BLUE)
_ = bottom.set(
    yscale="log",
    ylim=(1e-17, 1e3),
    xlim=(0, STEPS),
    xlabel="step",
    ylabel="largest difference, relative",
    title="Covariances of the filters, against those with exact inverses",
)

# %%
# A filter that breaks
# --------------------
# At step 300 the covariance of one filter is lost. That filter has no answer from there on, which
# is right; the 49 others do not notice, and nor does the centre, although blocks with NaN go
# through ``partial_fit`` for 700 steps.

broken = Inverter(lost=300)
history = run(broken)
others = np.delete(np.arange(FILTERS), 7)
off = np.abs(history[:, others] - exact[:, others]).max() / np.abs(exact).max()
print(f"one filter is lost: {np.isnan(history[-1, 7]).all()}, the others are off by {off:.0e}")
print(f"the centre moved {broken.moves[-1]} times, {np.mean(broken.direct):.1%} without LAPACK")
assert np.isnan(history[300:, 7]).all()
assert np.isfinite(broken.model.estimator_.center_).all()
assert off < 1e-8
