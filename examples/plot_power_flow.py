"""
Power flow: thousands of grids at once, and what to do near a blackout
======================================================================

You plan or run a power grid, and need its voltages under thousands of load scenarios. Newton's
method takes three to five iterations for each, and in every iteration a Jacobian is assembled and
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

import platform
import time
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

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


# Where the derivatives of each flow u_i conj(Y_ij u_j) belong among the 196 entries of the Jacobian:
# P and Q by theta and V. Only the 27 entries of Y that are not 0 take part.
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
# Newton's method, with the step left open. It starts from the voltages of the usual loads, where the
# inverse of the Jacobian is at hand, so the first step costs no method anything. A scenario is done
# when no more than 1 W is missing at any bus, and given up when there is no hope.

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
# Taylor series, and :class:`~skinv.CertifiedInverse` proves for each matrix, in the region or not,
# whether the series can be relied on. Three proven digits are enough for a step of Newton's method
# (Dembo, Eisenstat and Steihaug 1982, "Inexact Newton methods").

region = FeasibleRegionSampler(known.center, norm="mahalanobis").fit(known.data)
series = LinearInverseApprox(known.center, order=3).fit()
certified = CertifiedInverse(series, tol=1e-3)
print(f"region certified: {region.is_certified_}, margin {region.margin_:.2f}")
assert region.is_certified_

# %%
# A network can do with less than the Jacobian. The inverse of the Jacobian *at the solution* is a
# smooth function of the six loads, and with P = J⁻¹ of the solution the iteration x ← x + P·d
# converges like Newton's, though P stays the same and no Jacobian is assembled: the derivative of
# its error is I − PJ = 0. So 4000 grids are solved once, under loads of 70 to 220 %, to learn from.
#
# Inverses blow up near singular matrices, and networks do not. So grids whose Jacobian is nearer
# than 0.4 to a singular matrix are left out, and that is worth more than any other setting: see what
# the same network makes of everyday loads if it learns from all of them.


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
    network = NeuralInverseRegressor(32, solver="lm", max_iter=30, random_state=0)
    start = time.perf_counter()
    network.fit(factors[rows], np.linalg.inv(J[rows]).reshape(-1, 196))
    seconds = time.perf_counter() - start
    residual = np.eye(14) - network.predict(test_factors).reshape(-1, 14, 14) @ J_test
    networks.append(network)
    errors.append(np.median(np.linalg.norm(residual, axis=(1, 2))))
    print(
        f"network of {rows.sum()} grids at least {least} from singular, {seconds:.1f} s: "
        f"under everyday loads |I - PJ| = {errors[-1]:.0e}"
    )
assert errors[0] < errors[1] / 10

# %%
# Six ways to take a step
# -----------------------
# The chord method is what there is to beat: one factorisation in all, and no Jacobian.


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
    "Taylor series of J": lambda factors: by_prediction(series),
    "chord": lambda factors: chord,
    "network of the loads": partial(from_loads, networks[0]),
    "  trained on all": partial(from_loads, networks[1]),
}
SETS = {
    "everyday loads: 80 to 120 %": draw(0.8, 1.2, 4000),
    "peak loads: 120 to 170 %": draw(1.2, 1.7, 4000),
    "near the nose: 170 to 230 %": draw(1.7, 2.3, 4000),
}
times: dict = {(loads, name): [] for loads in SETS for name in METHODS}
for _ in range(5):  # methods in turns
    for loads, factors in SETS.items():
        for name, method in METHODS.items():
            start = time.perf_counter()
            solve_grids(injections(factors), method(factors))
            times[loads, name].append((time.perf_counter() - start) / len(factors))

# %%
# How many steps does LAPACK take in the second method? Those for which a twin that does not fall
# back has no answer.

unaided = CertifiedInverse(series, tol=1e-3, fallback="nan")
fallbacks = [0, 0]


def count_fallbacks(d, u, active):
    """Step as the second method does, and count."""
    step = unaided.solve(jacobian(u), d)
    missing = np.isnan(step[:, 0])
    fallbacks[0] += missing.sum()
    fallbacks[1] += len(missing)
    step[missing] = factorise(d[missing], u[missing], None)
    return step


results = {}
for loads, factors in SETS.items():
    S = injections(factors)
    print(f"\n{loads}, {len(S)} scenarios")
    print(f"{'':<22}{'solved':>8}{'iterations':>12}{'most':>6}{'W after 3':>11}{'µs':>7}")
    for name, method in METHODS.items():
        x, history = results[loads, name] = solve_grids(S, method(factors))
        solved = history[-1] <= TOLERANCE
        n_iter = 1 + (history[1:, solved] > TOLERANCE).sum(axis=0)
        figures = f"{np.median(n_iter):>12.0f}{n_iter.max():>6}" if solved.any() else f"{'-':>18}"
        worst = 1e6 * BASE * history[3, solved].max() if solved.any() else np.nan
        micro = 1e6 * np.median(times[loads, name])
        print(f"{name:<22}{solved.mean():>8.1%}{figures}{worst:>11.0e}{micro:>7.1f}")
    fallbacks[:] = 0, 0
    solve_grids(S, count_fallbacks)
    print(f"LAPACK took {fallbacks[0] / fallbacks[1]:.1%} of the certified steps")

    exact, history = results[loads, "Newton, LAPACK"]
    solvable = history[-1] <= TOLERANCE
    for name in METHODS:  # whoever solves a scenario has the same solution
        x, history = results[loads, name]
        solved = solvable & (history[-1] <= TOLERANCE)
        np.testing.assert_allclose(x[solved], exact[solved], atol=1e-5)
        if name == "Newton, certified":
            assert np.array_equal(solved, solvable)
    everything = [name for name in METHODS if (results[loads, name][1][-1, solvable] <= TOLERANCE).all()]
    fastest = min(everything, key=lambda name: np.median(times[loads, name]))
    print(f"fastest of those that solve all that can be solved: {fastest}")

# %%
# In words: 

COLORS = dict(
    zip(METHODS, ("black", "#E69F00", "#009E73", "#D55E00", "#0072B2", "#56B4E9"), strict=True)
)
LABELS = {  # where each method is named, and how: iteration, power, alignment
    "everyday loads: 80 to 120 %": {"chord": (4.2, 3e3, "left")},
    "peak loads: 120 to 170 %": {},
    "near the nose: 170 to 230 %": {},
}
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), sharey=True, layout="constrained")
for ax, (loads, factors) in zip(axes, SETS.items(), strict=True):
    solvable = results[loads, "Newton, LAPACK"][1][-1] <= TOLERANCE
    S = injections(factors[solvable])
    for name, method in METHODS.items():
        _, history = solve_grids(S, method(factors[solvable]), n_iter=9, tol=0)
        low, middle, high = 1e6 * BASE * np.quantile(history, (0.05, 0.5, 0.95), axis=1)
        style = "--" if name in ("Newton, certified", "  trained on all") else "-"
        ax.plot(middle, style, color=COLORS[name], lw=2)
        if style == "-":
            ax.fill_between(range(10), low, high, color=COLORS[name], alpha=0.15, lw=0)
    ax.axhline(1, color="0.6", lw=1, zorder=0)
    ax.set(yscale="log", ylim=(1e-7, 1e9), xlim=(0, 9), title=loads, xlabel="iteration")
