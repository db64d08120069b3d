"""
Robot arm: a warning light before the singularity
=================================================

You steer the hand of a robot arm by its velocity: in every tick of the controller the joints get
the speeds dq = J⁻¹v, with the Jacobian J of the moment. That works for months, until somebody puts
the part a little too far away. The arm stretches, J becomes singular, and the joints race.

This page fits a region to the poses in which the arm is known to work, and uses it as a warning
light: how far is the arm from the edge of what is known? Inside, a learned inverse answers;
outside, :class:`~skinv.CertifiedInverse` answers with a proof or by LAPACK; and where no inverse is
any good, damped least squares take over.
"""

# %%
# The arm
# -------
# A Puma 560, from its table of Denavit and Hartenberg's parameters (Corke and Armstrong-Helouvry
# 1994, "A search for consensus among model parameters reported for the PUMA 560 robot"). Column i
# of the Jacobian is (z × (p − o), z) for a joint whose axis z goes through o, and a hand at p:
# three rows in m, three in rad.

import time

import matplotlib.pyplot as plt
import numpy as np
import torch  # noqa: F401 (whose threads are limited too)
from matplotlib.colors import ListedColormap
from threadpoolctl import threadpool_limits

from skinv import CertifiedInverse, FeasibleRegionSampler, NeuralInverseRegressor
from skinv.datasets import load_robot_arm
from skinv.geometry import distance_to_singularity

D = np.array([0, 0, 0.15005, 0.4318, 0, 0])
A = np.array([0, 0.4318, 0.0203, 0, 0, 0])
ALPHA = np.array([1, 0, -1, 1, -1, 0]) * np.pi / 2


def kinematics(q):
    """Return the frames of base, joints and hand, (..., 7, 4, 4), and the Jacobian, (..., 6, 6)."""
    c, s, ca, sa = np.cos(q), np.sin(q), np.cos(ALPHA), np.sin(ALPHA)
    links = np.zeros((*np.shape(q), 4, 4))
    links[..., 0, :] = np.stack([c, -s * ca, s * sa, A * c], axis=-1)
    links[..., 1, :] = np.stack([s, c * ca, -c * sa, A * s], axis=-1)
    links[..., 2, 1], links[..., 2, 2], links[..., 2, 3], links[..., 3, 3] = sa, ca, D, 1
    frames = [np.broadcast_to(np.eye(4), links.shape[:-3] + (4, 4))]
    for k in range(6):
        frames.append(frames[-1] @ links[..., k, :, :])
    T = np.stack(frames, axis=-3)
    axes, origins = T[..., :6, :3, 2], T[..., :6, :3, 3]
    turns = np.cross(axes, T[..., 6:, :3, 3] - origins)
    return T, np.concatenate([turns, axes], axis=-1).swapaxes(-1, -2)


def turn(R, target):
    """Return the rotation, for small ones in rad, that takes R to the target."""
    E = target @ np.swapaxes(R, -1, -2)
    skew = (E - np.swapaxes(E, -1, -2)) / 2
    return np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], axis=-1)


# %%
# Is it right? Finite differences say so, and so do the matrices that skinv has in store, which the
# Robotics Toolbox made.

rng = np.random.default_rng(0)
q, h = rng.uniform(-1, 1, 6), 1e-6
hand, J = kinematics(q)
ahead, behind = kinematics(q + h * np.eye(6))[0][:, 6], kinematics(q - h * np.eye(6))[0][:, 6]
slopes = np.hstack([ahead[:, :3, 3] - behind[:, :3, 3], turn(behind[:, :3, :3], ahead[:, :3, :3])])
deviation = np.abs(slopes.T / (2 * h) - J).max()
arm = load_robot_arm()
stored = np.abs(kinematics(arm.parameters)[1] - arm.matrices).max()
print(f"Jacobian: {deviation:.0e} off finite differences, {stored:.0e} off the stored matrices")
assert deviation < 1e-8
assert stored < 1e-14

# %%
# What is known
# -------------
# At work the hand points down and moves in a vertical plane, within 7 cm of a point in front of the
# arm. In that plane the joint angles have a closed form, that of two links. Nothing is perfect:
# each joint is off by up to 0.015 rad. From 4000 such poses skinv fits the ellipsoid of their
# Jacobians, proves that it holds no singular matrix, and learns the inverse. The network is one on
# all entries, which answers wherever it is asked. In reduced coordinates, the default, it would
# know by itself where to be silent.

WORK = np.array([0.6, 0.2])  # m, in front of the shoulder and above it
FOREARM, BEND = np.hypot(A[2], D[3]), np.arctan2(D[3], A[2])
REACH = A[1] + FOREARM


def pose(x, z):
    """Return the joint angles that hold the hand at x and z, pointing down; NaN out of reach."""
    with np.errstate(invalid="ignore"):
        elbow = -np.arccos((x**2 + z**2 - A[1] ** 2 - FOREARM**2) / (2 * A[1] * FOREARM))
    shoulder = np.arctan2(z, x) - np.arctan2(
        FOREARM * np.sin(elbow), A[1] + FOREARM * np.cos(elbow)
    )
    wrist = -np.pi - shoulder - (elbow - BEND)
    zero = np.zeros_like(elbow)
    return np.stack([zero, shoulder, elbow - BEND, zero, wrist, zero], axis=-1)


def known_poses(m):
    """Draw poses of the arm at work."""
    angle, radius = rng.uniform(0, 2 * np.pi, m), 0.07 * np.sqrt(rng.uniform(0, 1, m))
    q = pose(WORK[0] + radius * np.cos(angle), WORK[1] + radius * np.sin(angle))
    return q + rng.uniform(-0.015, 0.015, (m, 6))


known = kinematics(known_poses(4000))[1]
region = FeasibleRegionSampler(norm="mahalanobis").fit(known)
start = time.perf_counter()
with threadpool_limits(1):  # more do not help small networks
    network = NeuralInverseRegressor(64, max_iter=30, n_components=None, random_state=0).fit(known)
print(f"region certified: {region.is_certified_}; trained in {time.perf_counter() - start:.1f} s")
unseen = kinematics(known_poses(1000))[1]
residual = np.linalg.norm(np.eye(6) - unseen @ network.predict(unseen), axis=(1, 2))
print(f"|I - JX| of the network: {np.median(residual):.0e}, at most {residual.max():.0e}")
assert region.is_certified_

# %%
# The task
# --------
# The hand goes round twice, as it always does, then to a part that lies 2 cm out of reach, waits
# for a second, returns, and goes on with its work. The controller ticks 100 times a second. It
# follows the velocity of the path, and corrects what it is off.

DT, GAIN, LIMIT = 0.01, 2.0, 3.0  # s, 1/s, rad/s
round_ = np.linspace(0, 2 * np.pi, 250, endpoint=False)[:, None]
circle = WORK + 0.06 * np.hstack([np.cos(round_), np.sin(round_)])
far = np.array([np.sqrt(REACH**2 - WORK[1] ** 2) + 0.02, WORK[1]])
s = np.linspace(0, 1, 300)[:, None]
out = circle[0] + (far - circle[0]) * s**3 * (10 - 15 * s + 6 * s**2)
path = np.vstack([circle, circle, out, np.tile(far, (100, 1)), out[::-1], circle])
target = np.insert(path, 1, kinematics(pose(*path[0]))[0][6, 1, 3], axis=1)
velocity = np.gradient(target, DT, axis=0)
t = DT * np.arange(len(path))


def simulate(inverse):
    """Return, for each tick, asked joint speeds, poses, Jacobians, hands, errors, and who spoke."""
    q, log = pose(*path[0]), []
    down = kinematics(q)[0][6, :3, :3]
    for goal, v in zip(target, velocity, strict=True):
        T, J = kinematics(q)
        error = goal - T[6, :3, 3]
        twist = np.concatenate([v + GAIN * error, GAIN * turn(T[6, :3, :3], down)])
        dq, who = inverse(J, twist)
        log.append((dq, q, J, T[:, :3, 3], np.linalg.norm(error), who))
        q = q + DT * dq * min(1, LIMIT / np.abs(dq).max())  # the drives slow down as one
    return [np.array(column) for column in zip(*log, strict=True)]


# %%
# Three controllers
# -----------------
# The first trusts LAPACK, the second the network, both always. The third looks at the light. Beyond
# the region it asks :class:`~skinv.CertifiedInverse`, which refines the network's answer by two
# steps at most and proves it, or has LAPACK's proven instead. And where the manipulability, the
# absolute value w of det J, is small it minimises ‖J dq − v‖² + k‖dq‖², with k = k₀(1 − w/w₀)²
# (Nakamura and Hanafusa 1986, "Inverse kinematic solutions with singularity robustness for robot
# manipulator control"; Wampler 1986, "Manipulator inverse kinematic solutions based on vector
# formulations and damped least-squares methods", keeps k constant).

WHO = ("network", "network, refined and proven", "LAPACK, proven", "damped")
K0, W0 = 0.01, 0.06
certified = CertifiedInverse(network, tol=1e-3, max_refine=2)
learned = network.inverse_function()


def damped(J, v):
    """Return joint speeds by damped least squares."""
    k = K0 * (1 - abs(np.linalg.det(J)) / W0) ** 2
    return J.T @ np.linalg.solve(J @ J.T + k * np.eye(6), v)


def with_light(J, v):
    """Return joint speeds, and whose they are."""
    if abs(np.linalg.det(J)) < W0:
        return damped(J, v), 3
    if region.is_feasible(J[None])[0]:
        return learned(J) @ v, 0
    report = certified.report(J[None])
    return report.inverse[0] @ v, 2 if report.status[0] == "exact" else 1


CONTROLLERS = {
    "LAPACK": lambda J, v: (np.linalg.solve(J, v), 2),
    "network alone": lambda J, v: (learned(J) @ v, 0),
    "with the light": with_light,
}
runs = {name: simulate(controller) for name, controller in CONTROLLERS.items()}

# %%
# What happened, and when? The light is the depth in the region as a share of its radius: 1 in the
# middle, 0 at the edge.

speeds = {name: np.abs(run[0]).max(axis=1) for name, run in runs.items()}
print(f"{'':<16}{'rad/s':>7}{'mm off':>8}{'and in the end':>16}{'elbow in the end':>18}")
for name, (_, q, _, _, error, _) in runs.items():
    off, last = 1e3 * error.max(), 1e3 * error[-250:].max()
    elbow = np.rad2deg(q[-1, 2] + BEND)
    print(f"{name:<16}{speeds[name].max():>7.1f}{off:>8.0f}{last:>16.0f}{elbow:>17.0f}°")
_, q, J, hands, error, who = runs["with the light"]
depth, sigma = region.decision_function(J) / region.radius_, distance_to_singularity(J)
for k, name in enumerate(WHO):
    print(f"{name:<28}{np.mean(who == k):>6.1%} of the ticks")
on, race = (depth < 0).argmax(), (speeds["LAPACK"] > LIMIT).argmax()
lead = t[race] - t[on]
print(f"at {t[on]:.2f} s the light goes on, {sigma[on]:.3f} from singular;")
print(f"at {t[race]:.2f} s, {lead:.2f} s later, LAPACK's joints are too fast")

answers = np.array([learned(A) for A in J])
answers[who > 0] = certified.predict(J[who > 0])
truth = np.linalg.inv(J)
wrong = np.linalg.norm(answers - truth, axis=(1, 2)) / np.linalg.norm(truth, axis=(1, 2))
proven = (who == 1) | (who == 2)
print(f"relative errors: network in its region {wrong[who == 0].max():.1e} at most,")
print(f"proven inverses beyond it {wrong[proven].max():.1e} (asked for: {certified.tol:g})")
assert wrong[who == 0].max() < 0.1
assert wrong[proven].max() <= certified.tol
assert speeds["with the light"].max() < LIMIT < speeds["LAPACK"].max() / 5
assert on < race

# %%
# On a processor with LAPACK nobody needs the network for its speed, one 6 × 6 matrix at a time:


def microseconds(function):
    """Return the median time of a call."""
    seconds = []
    for _ in range(300):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return 1e6 * np.median(seconds)


for name, function in {
    "LAPACK's inverse": lambda: np.linalg.inv(J[0]),
    "the network's": lambda: learned(J[0]),
    "the light": lambda: region.is_feasible(J[:1]),
    "a refined and proven one": lambda: certified.report(J[on : on + 1]),
}.items():
    print(f"{name:<25}{microseconds(function):>6.1f} µs")

# %%
# What one gains is to know when an answer can be trusted. The light is on long before anything
# happens, and the joints never get too fast. With exact inverses they shake at the end of the
# reach, and whether the elbow comes back to −74°, where it was, or bends the other way is a matter
# of chance. The network alone has no way of telling that it has left what it knows, and where it
# then goes is anybody's guess. The price of damping is paid where the arm cannot follow: it stays
# behind, and is late on its way back.

SPEAKERS = ListedColormap(["#0072B2", "#56B4E9", "#E69F00", "#D55E00"])
STYLES = {"LAPACK": "#CC79A7", "network alone": "#009E73", "with the light": "black"}
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
figure = plt.figure(figsize=(14, 7), layout="constrained")
rows = figure.add_gridspec(5, 2, height_ratios=(0.3, 1, 1, 1, 1), width_ratios=(1.3, 1))

ax = figure.add_subplot(rows[:, 0])
x, z = np.linspace(0, 0.9, 300), np.linspace(-0.15, 0.6, 300)
plane = kinematics(pose(*np.meshgrid(x, z)).reshape(-1, 6))[1]
reachable = np.isfinite(plane).all(axis=(1, 2))
near = np.full(len(plane), np.nan)
near[reachable] = distance_to_singularity(plane[reachable])
levels = [0, 0.05, 0.1, 0.15, 0.2, 0.3]
ax.contourf(x, z, near.reshape(300, 300), levels, cmap="Greys_r", alpha=0.3)
ax.contour(x, z, region.decision_function(plane).reshape(300, 300), [0], colors="#0072B2")
angle = np.linspace(-0.2, 0.9, 100)
ax.plot(REACH * np.cos(angle), REACH * np.sin(angle), color="0.4", lw=1)
for k, shade in ((0, "0.25"), (on, "0.5"), (race, "0.7")):
    links = hands[k][:, [0, 2]]
    ax.plot(*links[[0, 2, 3, 6]].T, color=shade, lw=5, solid_joinstyle="round")
    ax.plot(*links[[0, 2]].T, "o", color=shade, ms=10, mfc="white", mew=2)
ax.plot(*runs["network alone"][3][:, 6, [0, 2]].T, color=STYLES["network alone"], lw=1.2)
ax.plot(*path.T, ":", color="black", lw=1)
ax.scatter(*hands[:, 6, [0, 2]].T, c=who, s=14, cmap=SPEAKERS, vmin=0, vmax=3, zorder=3)
ax.plot(*far, "X", color="black", ms=9)
for text, at, color in (
    ("the part,\n2 cm too far", (0.875, 0.17), "black"),
    ("what is known: the region", (0.5, 0.03), "#0072B2"),
    ("at work", (0.2, 0.37), "0.25"),
    ("stretched", (0.3, 0.155), "0.5"),
    ("nearly singular\nin the dark", (0.01, 0.53), "0.25"),
    ("the end of the reach", (0.72, 0.51), "0.25"),
    ("the network alone\ngoes astray", (0.37, 0.45), STYLES["network alone"]),
):
    ax.text(*at, text, color=color)
ax.set(aspect="equal", xlim=(-0.03, 1), ylim=(-0.13, 0.6), xlabel="x, m", ylabel="z, m")
ax.set_title(
    f"The light goes on {lead:.1f} s before the joints would race,\n"
    f"{100 * (REACH - np.hypot(*hands[on, 6, [0, 2]])):.0f} cm before the end of the reach",
    loc="left",
)

strip = figure.add_subplot(rows[0, 1])
extent = (0, t[-1], 0, 1)
strip.imshow(who[None], aspect="auto", cmap=SPEAKERS, vmin=0, vmax=3, extent=extent)
strip.set_axis_off()
for text, at in (("network", 3), ("damped", 8.7), ("network", 12.7)):
    strip.text(at, 0.45, text, color="white", ha="center", va="center")
strip.text(t[on], 1.15, "refined and proven", color="#2E86C1", ha="right")
strip.text(t[who == 2][0], 1.15, "LAPACK", color="#B37A00")
panels = [figure.add_subplot(rows[k, 1], sharex=strip) for k in range(1, 5)]
panels[0].plot(t, depth, color="black")
panels[0].fill_between(t, np.minimum(depth, 0), color="#E69F00", alpha=0.6, lw=0)
panels[0].axhline(0, color="0.6", lw=1)
panels[1].plot(t, sigma, color="black")
for name, color in STYLES.items():
    panels[2].plot(t, speeds[name], color=color)
    panels[3].plot(t, 1e3 * runs[name][4], color=color)
panels[2].axhline(LIMIT, color="0.6", lw=1)
panels[2].text(0.1, 1.15 * LIMIT, "limit of the drives", color="0.4", va="bottom")
panels[0].text(7.2, -0.9, "the light is on", color="#7A5300")
panels[2].text(7.1, 110, "LAPACK", color=STYLES["LAPACK"], ha="right")
panels[2].text(10.3, 60, "network alone", color=STYLES["network alone"])
panels[2].text(0.6, 0.05, "with the light, damped", color=STYLES["with the light"])
panels[0].set(ylim=(-1.5, 1))
panels[1].set(ylim=(0, 0.28))
panels[2].set(yscale="log", ylim=(0.02, 300))
panels[3].set(yscale="log", ylim=(0.05, 3000), xlim=(0, t[-1]), xlabel="time, s")
for panel, title in zip(
    panels,
    (
        "depth in the region, as a share of its radius",
        "distance of the Jacobian from the singular matrices",
        "fastest joint asked for, rad/s",
        "off the path, mm",
    ),
    strict=True,
):
    panel.set_title(title, loc="left", fontsize=10)
    panel.axvline(t[on], color="#E69F00", lw=1)
    panel.axvline(t[race], color=STYLES["LAPACK"], lw=1)
    panel.tick_params(labelbottom=panel is panels[-1])
