"""
Power flow: thousands of grids at once, and what to do near a blackout
======================================================================

You plan or run a power grid, and need its voltages under thousands of load scenarios. Newton's
method takes a few iterations for each, and in every iteration a Jacobian is assembled and
factorised. The Jacobians of one grid are all alike. How much of this work can be saved by inverses
that were learned beforehand, and what happens under loads that the grid can hardly carry, where the
Jacobian becomes singular?

This page writes out a whole power flow of a 9-bus grid in NumPy, and solves it with fresh
factorisations, with one that is never renewed (the chord method), with certified inverses, and with
an inverse that a small network predicts from the loads.
"""

# %%
# The grid
# --------
# The data are the 9-bus case of MATPOWER as pandapower has it, with all generators at 1 per unit
# (Chow 1982, "Time-Scale Modeling of Dynamic Networks with Applications to Power Systems", page 70;
# Zimmerman, Murillo-Sanchez and Thomas 2011, "MATPOWER: Steady-State Operations, Planning, and
# Analysis Tools for Power Systems Research and Education"). Bus 1 is the slack, buses 2 and 3 have
# generators, and 5, 7 and 9 the loads.

import time
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch  # noqa: F401 (whose threads are limited too)
from matplotlib.colors import ListedColormap
from threadpoolctl import threadpool_limits

from skinv import (
    CertifiedInverse,
    FeasibleRegionSampler,
    LinearInverseApprox,
    NeuralInverseRegressor,
)
from skinv.datasets import load_power_flow
from skinv.geometry import distance_to_singularity

BASE = 100.0  # MVA; all else is per unit of it
LINES = [  # from, to, resistance, reactance, line charging
    (1, 4, 0, 0.0576, 0),
    (4, 5, 0.017, 0.092, 0.158),
    (5, 6, 0.039, 0.17, 0.358),
    (3, 6, 0, 0.0586, 0),
    (6, 7, 0.0119, 0.1008, 0.209),
    (7, 8, 0.0085, 0.072, 0.149),
    (8, 2, 0, 0.0625, 0),
    (8, 9, 0.032, 0.161, 0.306),
    (9, 4, 0.01, 0.085, 0.176),
]
GENERATED = np.array([0, 1.63, 0.85, 0, 0, 0, 0, 0, 0])
LOADED = np.array([5, 7, 9]) - 1
P_LOAD, Q_LOAD = np.array([0.9, 1.0, 1.25]), np.array([0.3, 0.35, 0.5])

Y = np.zeros((9, 9), dtype=complex)  # the admittance matrix
for start, end, r, x, b in LINES:
    i, j = start - 1, end - 1
    y = 1 / complex(r, x)
    Y[[i, j], [i, j]] += y + 0.5j * b
    Y[[i, j], [j, i]] -= y

# %%
# The unknowns are the angles of buses 2 to 9 and the voltages of buses 4 to 9. A scenario has six
# factors: on P of the three loads, and on Q. Everything below works on all scenarios together.


def injections(factors):
    """Return the power that each bus gives to the grid, (m, 9), for factors (m, 6)."""
    S = np.tile(GENERATED.astype(complex), (len(factors), 1))
    S[:, LOADED] -= P_LOAD * factors[:, :3] + 1j * Q_LOAD * factors[:, 3:]
    return S


def mismatch(x, S):
    """Return the power that is missing, (m, 14), and the complex voltages, (m, 9)."""
    theta, V = np.zeros((len(x), 9)), np.ones((len(x), 9))
    theta[:, 1:], V[:, 3:] = x[:, :8], x[:, 8:]
    u = V * np.exp(1j * theta)
    missing = S - u * (u @ Y.T).conj()
    return np.hstack([missing.real[:, 1:], missing.imag[:, 3:]]), u


# Where the derivatives of P and Q by theta and V, of each flow u_i conj(Y_ij u_j), belong among the
# 196 entries of the Jacobian. Only the 27 entries of Y that are not 0 take part.
ROW, COL = np.nonzero(Y)
place = np.full((18, 18), -1)
unknown = np.r_[1:9, 12:18]
place[np.ix_(unknown, unknown)] = np.arange(196).reshape(14, 14)
place = place[np.r_[ROW, ROW, ROW + 9, ROW + 9], np.r_[COL, COL + 9, COL, COL + 9]]
kept = np.flatnonzero(place >= 0)


def jacobian(u):
    """Return the derivatives of the power by the unknowns, (m, 14, 14)."""
    flow = u[:, ROW] * Y[ROW, COL].conj() * u[:, COL].conj()
    total = np.where(ROW == COL, (u * (u @ Y.T).conj())[:, ROW], 0)
    by_theta, by_V = 1j * (total - flow), (total + flow) / np.abs(u)[:, COL]
    entries = np.zeros((len(u), 196))
    parts = [by_theta.real, by_V.real, by_theta.imag, by_V.imag]
    entries[:, place[kept]] = np.hstack(parts)[:, kept]
    return entries.reshape(-1, 14, 14)


# %%
# Newton's method, with the step left open. It starts from the voltages of the usual loads, where
# the inverse of the Jacobian is at hand, so the first step costs no method anything. A scenario is
# done when no more than 1 W is missing at any bus, and given up when there is no hope.

TOLERANCE = 1e-6 / BASE  # 1 W


def solve_grids(S, step, n_iter=12, tol=TOLERANCE):
    """Return the unknowns, (m, 14), and the largest mismatch after each iteration."""
    x, active = np.tile(usual, (len(S), 1)), np.arange(len(S))
    d, u = mismatch(x, S)
    history = np.tile(np.abs(d).max(axis=1), (n_iter + 1, 1))
    for k in range(n_iter):
        x[active] += d @ usual_inverse.T if k == 0 else step(d, u, active)
        d, u = mismatch(x[active], S[active])
        worst = np.abs(d).max(axis=1)
        history[k + 1 :, active] = worst
        going = (worst > tol) & (worst < 100)
        active, d, u = active[going], d[going], u[going]
        if len(active) == 0:
            break
    return x, history


def factorise(d, u, active):
    """Newton's step, by LAPACK."""
    return np.linalg.solve(jacobian(u), d[:, :, None])[:, :, 0]


usual = np.r_[np.zeros(8), np.ones(6)][None]  # a flat start, to begin with
for _ in range(6):
    d, u = mismatch(usual, injections(np.ones((1, 6))))
    usual = usual + factorise(d, u, None)
usual_inverse = np.linalg.inv(jacobian(u)[0])
print(f"usual loads, from a flat start: {1e6 * BASE * np.abs(d).max():.0e} W missing")

# %%
# Is the Jacobian right? Finite differences say so, and so do the matrices that skinv has in store,
# which pandapower made.

rng = np.random.default_rng(0)
state, h = usual + 0.05 * rng.standard_normal((1, 14)), 1e-6
slopes = [
    (mismatch(state - h * e, 0)[0] - mismatch(state + h * e, 0)[0])[0] / (2 * h) for e in np.eye(14)
]
deviation = np.abs(jacobian(mismatch(state, 0)[1])[0] - np.array(slopes).T).max()
known = load_power_flow("case9")
x, _ = solve_grids(injections(known.parameters), factorise, tol=1e-13)
stored = np.abs(jacobian(mismatch(x, 0)[1]) - known.matrices).max()
print(f"Jacobian: {deviation:.0e} off finite differences, {stored:.0e} off the stored matrices")
assert deviation < 1e-7
assert stored < 1e-11

# %%
# What is learned
# ---------------
# The stored Jacobians are those of 1000 solved grids whose loads are within 20 % of the usual ones.
# Their region, an ellipsoid, provably holds no singular matrix. Around its centre the inverse has a
# first-order approximation, and :class:`~skinv.CertifiedInverse` proves for each matrix, in the
# region or not, whether that can be relied on. Three proven digits are enough for a step of
# Newton's method (Dembo, Eisenstat and Steihaug 1982, "Inexact Newton methods").

region = FeasibleRegionSampler(known.center, norm="mahalanobis").fit(known.data)
first_order = LinearInverseApprox(known.center).fit()
certified = CertifiedInverse(first_order, tol=1e-3)
print(f"region certified: {region.is_certified_}, margin {region.margin_:.2f}")
assert region.is_certified_

# %%
# A network can do with less than the Jacobian. The inverse of the Jacobian *at the solution* is a
# smooth function of the six loads, and with P = J⁻¹ of the solution the iteration x ← x + P·d
# converges like Newton's, though P stays the same and no Jacobian is assembled: the derivative of
# its error is I − PJ = 0. So 4000 grids are solved once, under loads of 70 to 220 %, to learn from.
#
# Inverses blow up near singular matrices, and networks do not. So grids whose Jacobian is nearer
# than 0.4 to a singular matrix are left out. They are few, but see what the same network makes of
# everyday loads if it learns from them, too. Both work on all entries (``n_components=None``) and
# answer under all loads: in reduced coordinates they would be silent beyond those that they know.


def draw(low, high, n_samples):
    """Scale all loads together by low to high, and each by itself by ±10 %."""
    return rng.uniform(low, high, (n_samples, 1)) * rng.uniform(0.9, 1.1, (n_samples, 6))


def solved_jacobians(factors):
    """Return the factors that have a solution, and the Jacobians there."""
    x, history = solve_grids(injections(factors), factorise)
    solved = history[-1] <= TOLERANCE
    return factors[solved], jacobian(mismatch(x[solved], 0)[1])


factors, J = solved_jacobians(draw(0.7, 2.2, 4000))
distance = distance_to_singularity(J)
test_factors, J_test = solved_jacobians(draw(0.8, 1.2, 1000))
networks, errors = [], []
for least in (0.4, 0.0):
    rows = distance >= least
    network = NeuralInverseRegressor(
        32, solver="lm", max_iter=30, n_components=None, random_state=0
    )
    start = time.perf_counter()
    with threadpool_limits(1):
        network.fit(factors[rows], np.linalg.inv(J[rows]).reshape(-1, 196))
    seconds = time.perf_counter() - start
    residual = np.eye(14) - network.predict(test_factors).reshape(-1, 14, 14) @ J_test
    networks.append(network)
    errors.append(np.median(np.linalg.norm(residual, axis=(1, 2))))
    print(
        f"{rows.sum()} grids at least {least} from singular, {seconds:.1f} s: "
        f"|I - PJ| = {errors[-1]:.0e}"
    )
assert errors[0] < errors[1] / 10

# %%
# Six ways to take a step
# -----------------------
# The chord method is what there is to beat: one factorisation in all, and no Jacobian. Times are
# those of one thread, medians of five runs of 4000 scenarios each, with all that a method needs.


def chord(d, u, active):
    """Step with the one inverse of the usual grid."""
    return d @ usual_inverse.T


def by_prediction(model):
    """Step with a predicted inverse of each Jacobian."""
    return lambda d, u, active: (model.predict(jacobian(u)) @ d[:, :, None])[:, :, 0]


def by_certificate(model):
    """Step with proven solutions; what has no proof is LAPACK's."""
    return lambda d, u, active: model.solve(jacobian(u), d)


def from_loads(network, factors):
    """Step with one inverse per scenario, predicted from its loads."""
    P = network.predict(factors).reshape(-1, 14, 14)
    return lambda d, u, active: (P[active] @ d[:, :, None])[:, :, 0]


METHODS = {
    "Newton, LAPACK": lambda factors: factorise,
    "Newton, certified": lambda factors: by_certificate(certified),
    "first-order inverses": lambda factors: by_prediction(first_order),
    "chord": lambda factors: chord,
    "network of the loads": partial(from_loads, networks[0]),
    "same, trained on all": partial(from_loads, networks[1]),
}
SETS = {
    "everyday loads": draw(0.8, 1.2, 4000),
    "peak loads": draw(1.2, 1.7, 4000),
    "near the nose": draw(1.7, 2.3, 4000),
}
times = {(loads, name): [] for loads in SETS for name in METHODS}
for _ in range(5):  # methods in turns
    for (loads, name), runs in times.items():
        with threadpool_limits(1):
            start = time.perf_counter()
            solve_grids(injections(SETS[loads]), METHODS[name](SETS[loads]))
            runs.append((time.perf_counter() - start) / len(SETS[loads]))

# %%
# How many of the certified steps are LAPACK's? Those that a twin without fallback has no answer to.

unaided = CertifiedInverse(first_order, tol=1e-3, fallback="nan")
counts = np.zeros(2, int)


def count_fallbacks(d, u, active):
    """Step like the second method, and count."""
    step = unaided.solve(jacobian(u), d)
    missing = np.isnan(step[:, 0])
    counts[:] += missing.sum(), len(missing)
    step[missing] = factorise(d[missing], u[missing], None)
    return step


results, complete = {}, {}
for loads, factors in SETS.items():
    S = injections(factors)
    print(f"\n{loads}, {len(S)} scenarios")
    print(f"{'':<22}{'solved':>8}{'iterations':>12}{'most':>6}{'W after 3':>11}{'µs each':>9}")
    for name, method in METHODS.items():
        x, history = results[loads, name] = solve_grids(S, method(factors))
        solved = history[-1] <= TOLERANCE
        figures = f"{'-':>12}{'-':>6}{'-':>11}"
        if solved.any():
            n_iter = 1 + (history[1:, solved] > TOLERANCE).sum(axis=0)
            figures = f"{np.median(n_iter):>12.0f}{n_iter.max():>6}"
            figures += f"{1e6 * BASE * history[3, solved].max():>11.0e}"
        micro = 1e6 * np.median(times[loads, name])
        print(f"{name:<22}{solved.mean():>8.1%}{figures}{micro:>9.1f}")
    counts[:] = 0
    solve_grids(S, count_fallbacks)
    print(f"of {counts[1]} certified steps LAPACK took {counts[0] / counts[1]:.1%}")

    # Whoever solves a scenario has Newton's solution, and the certified steps solve all it does.
    exact, history = results[loads, "Newton, LAPACK"]
    solvable = history[-1] <= TOLERANCE
    complete[loads] = []
    for name in METHODS:
        x, history = results[loads, name]
        solved = solvable & (history[-1] <= TOLERANCE)
        np.testing.assert_allclose(x[solved], exact[solved], atol=1e-5)
        if np.array_equal(solved, solvable):
            complete[loads].append(name)
    assert "Newton, certified" in complete[loads]
    fastest = min(complete[loads], key=lambda name: np.median(times[loads, name]))
    print(f"the fastest of those that solve all: {fastest}")
assert complete["everyday loads"] == list(METHODS)
assert "network of the loads" in complete["peak loads"]
assert "chord" not in complete["peak loads"]
assert complete["near the nose"] == ["Newton, LAPACK", "Newton, certified"]

# %%
# The farther the loads are from what a method knows, the more iterations it needs. Newton's method
# is the exception, and the certified steps are Newton's, with a proof. They are no faster: with
# 14 × 14 LAPACK is quick, and assembling the Jacobian and looking for a proof take as long; where
# none is found the work is done twice. What saves time is not to need the Jacobian.
# Under everyday loads the chord method does that best, under peak loads the network. Near the nose,
# the largest load that the grid can carry, both lose scenarios, and fresh factorisations are worth
# their price.

COLORS = dict(
    zip(METHODS, ("black", "#E69F00", "#009E73", "#D55E00", "#0072B2", "#56B4E9"), strict=True)
)
DASHED = ("Newton, certified", "same, trained on all")
TITLES = (
    "Everyday loads, 80 to 120 %:\nthe chord method will do",
    "Peak loads, 120 to 170 %:\nthe network keeps up with Newton",
    "Near the nose, 170 to 230 %:\nonly fresh Jacobians solve all",
)
LABELS = (  # text, whose it is, where
    (
        ("chord, and network\ntrained on all grids", "chord", 4.3, 1e5),
        ("Newton", "Newton, LAPACK", 0.2, 8e-2),
        ("network of\nthe loads", "network of the loads", 0.2, 8e-3),
    ),
    (
        ("chord", "chord", 7.2, 3e4),
        ("network trained\non all grids", "same, trained on all", 6.6, 9),
        ("first-order\ninverses", "first-order inverses", 4.8, 1.5e-2),
    ),
    (
        ("chord", "chord", 7.2, 5e6),
        ("first-order\ninverses", "first-order inverses", 6, 3e3),
        ("network of\nthe loads", "network of the loads", 5.8, 1e-2),
        ("Newton, LAPACK", "Newton, LAPACK", 1.2, 3e-2),
        ("Newton, certified", "Newton, certified", 1.2, 6e-3),
    ),
)
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
figure, axes = plt.subplots(1, 3, figsize=(13, 4.8), sharey=True, layout="constrained")
for ax, title, labels, (loads, factors) in zip(axes, TITLES, LABELS, SETS.items(), strict=True):
    solvable = results[loads, "Newton, LAPACK"][1][-1] <= TOLERANCE
    for name, method in METHODS.items():
        S = injections(factors[solvable])
        _, history = solve_grids(S, method(factors[solvable]), n_iter=9, tol=0)
        low, middle, high = 1e6 * BASE * np.quantile(history, (0.05, 0.5, 0.95), axis=1)
        ax.plot(middle, "--" if name in DASHED else "-", color=COLORS[name], lw=2)
        if name not in DASHED:
            ax.fill_between(range(10), low, high, color=COLORS[name], alpha=0.13, lw=0)
    for text, name, x, y in labels:
        ax.text(x, y, text, color=COLORS[name], va="center")
    ax.axhline(1, color="0.5", lw=1, zorder=0)
    ax.set(yscale="log", ylim=(1e-3, 1e9), xlim=(0, 9), xlabel="iteration")
    ax.set_title(title, loc="left")
    ax.minorticks_off()
axes[0].set_yticks([1e-3, 1, 1e3, 1e6, 1e9], ["1 mW", "1 W", "1 kW", "1 MW", "1 GW"])
axes[0].set_ylabel("largest mismatch: median, and 5 to 95 %")
axes[0].text(8.9, 1.3, "solved", color="0.4", ha="right", va="bottom")

# %%
# So let the network have the first word and LAPACK the last: six iterations with what it predicts,
# then Newton's method for the scenarios that are left. Nothing is lost, and away from the nose time
# is saved, as the share of the time of Newton's method says.

for loads, factors in SETS.items():
    S, seconds = injections(factors), []
    for _ in range(5):
        with threadpool_limits(1):
            start = time.perf_counter()
            x, history = solve_grids(S, from_loads(networks[0], factors), n_iter=6)
            left = history[-1] > TOLERANCE
            x[left], again = solve_grids(S[left], factorise)
            seconds.append((time.perf_counter() - start) / len(S))
    n_solved = len(S) - (again[-1] > TOLERANCE).sum()
    share = np.median(seconds) / np.median(times[loads, "Newton, LAPACK"])
    print(f"{loads:<15}{n_solved:>5} solved,{left.sum():>5} left to Newton,", end="")
    print(f"{1e6 * np.median(seconds):>6.1f} µs each: {share:.0%}")
    assert n_solved == (results[loads, "Newton, LAPACK"][1][-1] <= TOLERANCE).sum()

# %%
# Where a proof gets harder, and where it ends
# --------------------------------------------
# A certificate knows nothing of loads; it looks at the matrix. How many steps of refinement does it
# take to prove the first-order inverse of the Jacobian at the solution? On the left the loads at
# buses 5 and 9 are varied and the others stay; on the right all are raised together. That curve
# goes round the nose, because what is given there is the voltage of bus 9, and the load is an
# unknown instead. (``solve``, in the tables above, does without refinement and hands over to LAPACK
# earlier.)
#
# sphinx_gallery_thumbnail_number = 2

SHADES = ("#08306B", "#2171B5", "#6BAED6", "#B9D6EC", "#DEEBF7", "#E69F00", "#F2F2F2")
WORDS = ("no step", "1 step", "2 steps", "3 steps", "4 to 8", "LAPACK", "no solution found")


def n_steps(J):
    """Return the steps of refinement, at most 4, that a proof takes; 5 is for LAPACK's inverses."""
    report = certified.report(J)
    proven = np.isin(report.status, ("predicted", "refined"))
    return np.where(proven, np.minimum(report.n_refine, 4), 5)


at_5, at_9 = np.linspace(0, 4.45, 200), np.linspace(0, 3.3, 200)
factors = np.ones((200, 200, 6))
factors[:, :, [0, 3]], factors[:, :, [2, 5]] = at_5[:, None], at_9[:, None, None]
x, history = solve_grids(injections(factors.reshape(-1, 6)), factorise, n_iter=20)
solved = history[-1] <= TOLERANCE
J = jacobian(mismatch(x[solved], 0)[1])
plane, depth = np.full(len(x), 6), np.full(len(x), np.nan)
plane[solved], depth[solved] = n_steps(J), region.decision_function(J)
for word, share in zip(WORDS, np.bincount(plane) / len(plane), strict=True):
    print(f"{word:<18} {share:>6.1%} of the plane")
assert (plane[depth >= 0] < 2).all()  # in the region one step is enough

ones, state, load, curve = np.ones((1, 6)), usual.copy(), 1.0, []
slope = mismatch(usual, injections(2 * ones))[0][0]  # by the factor on all loads
for state[0, 13] in np.linspace(usual[0, 13], 0.44, 400):
    for _ in range(5):
        d, u = mismatch(state, injections(load * ones))
        bordered = jacobian(u)[0]
        bordered[:, 13] = -slope
        *step, more = np.linalg.solve(bordered, d[0])
        state[0, :13] += step
        load += more
    curve.append((load, *state[0]))
    assert np.abs(d).max() < 1e-9
total, states = BASE * P_LOAD.sum() * np.array(curve)[:, 0], np.array(curve)[:, 1:]
J = jacobian(mismatch(states, 0)[1])
steps, distance = n_steps(J), distance_to_singularity(J)
nose, first = total.argmax(), (steps == 5).argmax()
print(
    f"LAPACK takes over at {total[first]:.0f} MW, {distance[first]:.3f} from a singular Jacobian;"
)
print(f"the nose is at {total[nose]:.0f} MW, {distance[nose]:.4f} from one")
assert distance[nose] < 0.01
assert first < nose

figure, axes = plt.subplots(1, 2, figsize=(13, 5.4), layout="constrained")
x, y = BASE * P_LOAD[0] * at_5, BASE * P_LOAD[2] * at_9
colors = {"cmap": ListedColormap(SHADES), "vmin": -0.5, "vmax": 6.5}
axes[0].pcolormesh(x, y, plane.reshape(200, 200), rasterized=True, **colors)
axes[0].contour(x, y, depth.reshape(200, 200), [0], colors="white")
for k, at, color in (
    (1, (138, 70), "white"),
    (2, (215, 70), "white"),
    (3, (296, 70), "black"),
    (4, (349, 70), "black"),
    (6, (335, 370), "0.35"),
):
    axes[0].text(*at, WORDS[k], color=color, ha="center")
axes[0].text(66, 162, "edge of the region", color="white")
axes[0].annotate(
    "LAPACK",
    (283, 305),
    (300, 330),
    color="#B37A00",
    arrowprops={"arrowstyle": "-", "color": "#B37A00"},
)
axes[0].set(xlabel="load at bus 5, MW", ylabel="load at bus 9, MW")
axes[0].set_title("The farther from what is known, the more refinement a proof takes", loc="left")

axes[1].scatter(total, states[:, 13], c=steps, s=30, **colors)
axes[1].text(total[0], 1.0, "distance of the Jacobian from the singular matrices:")
for k in (0, (steps == 2).argmax(), (steps == 3).argmax(), first, nose):
    place = total[k] + 6, states[k, 13] + 0.015
    axes[1].text(*place, f"{distance[k]:.2f}")
axes[1].text(690, 0.5, "LAPACK", color="#B37A00")
for low, high, shade, name in (
    (0.8, 1.2, "0.45", "everyday"),
    (1.2, 1.7, "0.6", "peak loads"),
    (1.7, 2.3, "0.75", "near the nose"),
):
    axes[1].plot([low * total[0], high * total[0]], [0.37, 0.37], color=shade, lw=6)
    axes[1].text((low + high) / 2 * total[0], 0.385, name, color="0.35", ha="center")
axes[1].set(xlabel="load of the grid, MW", ylabel="voltage of bus 9, per unit")
axes[1].set(xlim=(240, 750), ylim=(0.34, 1.04))
axes[1].set_title("LAPACK takes over at the nose, where the Jacobian is singular", loc="left")
