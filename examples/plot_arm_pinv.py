"""
Seven joints: damped pseudo-inverses through a singularity
==========================================================

An arm with seven joints has one more than its hand has directions. The joint speeds for a velocity
v of the hand are dq = J⁺v, the smallest ones that do it, with the 6 × 7 Jacobian J and its
pseudo-inverse J⁺. Where the arm is stretched J loses its rank, J⁺ grows without limit, and an SVD
that cuts off small singular values answers all the same, with speeds that jump.

:func:`skinv.pinv` proves for each J how far off the answer is and how far J is from losing its
rank. Where nothing can be proven there is NaN and no number. And the proven distance is just what
damping needs to know: when to set in.
"""

# %%
# The arm
# -------
# Shoulder, elbow and wrist of the proportions of a KUKA iiwa. Each link turns about z and then
# tilts by ±90°, except for the last. Column i of J is (z × (p − o), z) for a joint whose axis z
# goes through o, and a hand at p: three rows in m, three in rad. Distances below are in these
# units: a millimetre is as far as a milliradian.

import time

import matplotlib.pyplot as plt
import numpy as np

import skinv

D = np.array([0.34, 0, 0.4, 0, 0.4, 0, 0.126])  # m
TILT = np.array([-1, 1, 1, -1, -1, 1, 0])


def jacobian(q):
    """Return the Jacobians (..., 6, 7) and the hands (..., 3) of joint angles (..., 7)."""
    T = np.broadcast_to(np.eye(4), (*q.shape[:-1], 4, 4))
    axes, origins = [], []
    for k in range(7):
        axes.append(T[..., :3, 2])
        origins.append(T[..., :3, 3])
        c, s, link = np.cos(q[..., k]), np.sin(q[..., k]), np.zeros_like(T)
        up = float(TILT[k] == 0)  # cos and sin of the tilt are exact
        link[..., 0, :3] = np.stack([c, -s * up, s * TILT[k]], axis=-1)
        link[..., 1, :3] = np.stack([s, c * up, -c * TILT[k]], axis=-1)
        link[..., 2, 1], link[..., 2, 2], link[..., 2, 3], link[..., 3, 3] = TILT[k], up, D[k], 1
        T = T @ link
    z, o, p = np.stack(axes, axis=-1), np.stack(origins, axis=-1), T[..., :3, 3]
    return np.concatenate([np.cross(z, p[..., None] - o, axis=-2), z], axis=-2), p


rng = np.random.default_rng(0)
q, h = rng.uniform(-1, 1, 7), 1e-6
ahead, behind = (jacobian(q + sign * h * np.eye(7))[1] for sign in (1, -1))
deviation = np.abs((ahead - behind).T / (2 * h) - jacobian(q)[0][:3]).max()
print(f"Jacobian: {deviation:.0e} off finite differences")
assert deviation < 1e-8

# %%
# Through the singularity
# -----------------------
# The elbow swings from 80° through the stretched arm to the other side, the slower the nearer it is
# to the singularity, so that all orders of magnitude come by. The hand is asked to move away from
# the shoulder at 0.1 m/s all along, which a stretched arm cannot do.

t = np.linspace(-1, 1, 2001)
elbow = np.deg2rad(80) * t**9
path = np.zeros((len(t), 7))
path[:, 1], path[:, 3], path[:, 5] = 0.5, elbow, 0.9
J, hand = jacobian(path)
away = hand - [0, 0, D[0]]
twist = np.zeros((len(t), 6, 1))
twist[:, :3, 0] = 0.1 * away / np.linalg.norm(away, axis=1, keepdims=True)

plain = skinv.pinv(J, return_report=True)
distance, sigma = plain.distance, np.linalg.svd(J, compute_uv=False)[:, -1]
lost = plain.status == "rejected"
print(f"of {len(t)} pseudo-inverses {lost.sum()} are NaN; there the smallest singular value is")
print(f"at most {sigma[lost].max():.0e}, and in all others at least {sigma[~lost].min():.0e}")
shown = ~lost & (sigma > 1e-12)
ratio = distance[shown] / sigma[shown]
print(f"proven distance: {ratio.min():.2f} to {ratio.max():.2f} of the smallest singular value")
assert lost[len(t) // 2]
assert ratio.min() > 0.3
assert ratio.max() < 1.001

# %%
# With damping
# ------------
# Constant damping λ costs accuracy everywhere. Nakamura and Hanafusa (1986, "Inverse kinematic
# solutions with singularity robustness for robot manipulator control") let it set in near a
# singularity only. The proven distance tells how near that is, and there is one λ for each matrix:
# none past 0.05, and 0.05 in the singularity. What is proven then is the damped inverse, also where
# J has lost its rank.

NEAR = 0.05
damping = NEAR * np.sqrt(np.clip(1 - (distance / NEAR) ** 2, 0, None))
damped = skinv.pinv(J, damping=damping, return_report=True)
print(f"damped in {np.mean(damping > 0):.0%} of the ticks, bounds at most {damped.bound.max():.0e}")
assert (damped.bound < 1e-9).all()

with np.errstate(invalid="ignore"):
    speeds = {
        "pseudo-inverse": (plain.inverse @ twist)[..., 0],
        "damped": (damped.inverse @ twist)[..., 0],
        "numpy.linalg.pinv": (np.linalg.pinv(J) @ twist)[..., 0],
    }
fastest = {name: np.abs(speed).max(axis=1) for name, speed in speeds.items()}
for name, speed in fastest.items():
    print(f"{name:<18} {np.nanmax(speed):.1e} rad/s at most, {np.isnan(speed).sum()} NaN")
assert fastest["damped"].max() < 5

# %%
# What a proof costs, in batches of ten thousand: less than the SVD that proves nothing.

many = np.resize(J[~lost], (10_000, 6, 7))
for name, function in {
    "skinv.pinv": lambda: skinv.pinv(many),
    "skinv.pinv, damped": lambda: skinv.pinv(many, damping=0.05),
    "numpy.linalg.pinv": lambda: np.linalg.pinv(many),
}.items():
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    print(f"{name:<20}{1e6 * min(seconds) / len(many):>6.1f} µs per matrix")

# %%
# The bound of the pseudo-inverse grows with the condition number of J, until nothing is proven; the
# damped one has its digits all the way through. NumPy's speeds rise to where its threshold cuts
# them off, and are then as if nothing had happened.

figure, axes = plt.subplots(3, 1, figsize=(9, 9), sharex=True, layout="constrained")
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.7"
damped_only = np.where(damping > 0, damping, np.nan)
proven = np.where(lost, np.nan, distance)
axes[0].semilogy(t, sigma, color=GREY, lw=4, label="smallest singular value, by an SVD")
axes[0].semilogy(t, proven, color=BLUE, label="proven distance")
axes[0].semilogy(t, damped_only, ":", color=ORANGE, label="damping λ")
axes[1].semilogy(t, fastest["numpy.linalg.pinv"], color=GREY, lw=4, label="numpy.linalg.pinv")
axes[1].semilogy(t, fastest["pseudo-inverse"], color=BLUE, label="skinv.pinv")
axes[1].semilogy(t, fastest["damped"], color=ORANGE, label="skinv.pinv, damped")
axes[2].semilogy(t, np.where(lost, np.nan, plain.bound), color=BLUE, label="skinv.pinv")
axes[2].semilogy(t, damped.bound, color=ORANGE, label="skinv.pinv, damped")
titles = (
    "How far the Jacobian is from losing its rank",
    "Fastest joint, rad/s, for a hand that is to move outward",
    "Proven bound of the relative error",
)
for ax, title in zip(axes, titles, strict=True):
    ax.set_title(title, loc="left")
    ax.axvspan(t[lost].min(), t[lost].max(), color="#FDE8D8", lw=0)
    ax.legend(frameon=False, loc="center right")
    ax.spines[["top", "right"]].set_visible(False)
axes[2].text(0, 1e-6, "nothing\nis proven:\nNaN", ha="center", color="#B35A1F")
angles = np.array([-80, -1, -1e-3, -1e-6, 0, 1e-6, 1e-3, 1, 80])
axes[2].set_xticks(np.cbrt(np.cbrt(angles / 80)), [f"{angle:g}°" for angle in angles])
axes[2].set_xlabel("elbow")
