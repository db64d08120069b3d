"""The stored families: what they hold, and that they are what their descriptions say."""

import hashlib
from functools import partial
from typing import Any

import numpy as np
import pytest

from skinv.datasets import load_power_flow, load_robot_arm

FAMILIES = {
    "case6ww": (partial(load_power_flow, "case6ww"), 8),
    "case9": (partial(load_power_flow, "case9"), 14),
    "case30": (partial(load_power_flow, "case30"), 53),
    "puma560": (load_robot_arm, 6),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def test_shapes_dtypes_and_fields(family):
    load, n = family
    bunch = load()
    assert set(bunch) == {
        "data", "target", "matrices", "parameters", "parameter_names", "center",
        "feature_names", "target_names", "DESCR", "filename", "data_module",
    }  # fmt: skip
    n_samples, n_parameters = (500, 3) if n == 53 else (1000, 6)
    shapes = {
        "data": (n_samples, n * n),
        "target": (n_samples, n * n),
        "matrices": (n_samples, n, n),
        "parameters": (n_samples, n_parameters),
        "center": (n, n),
    }
    for name, shape in shapes.items():
        assert bunch[name].shape == shape
        assert bunch[name].dtype == np.float64
        assert np.isfinite(bunch[name]).all()
    assert np.shares_memory(bunch.data, bunch.matrices)
    for names, size in zip(
        ("feature_names", "target_names", "parameter_names"),
        (n * n, n * n, n_parameters),
        strict=True,
    ):
        assert len(bunch[names]) == len(set(bunch[names])) == size
        assert all(type(name) is str for name in bunch[names])
    # The inverse has the transposed layout: entry (i, j) undoes entry (j, i).
    swapped = np.reshape(bunch.feature_names, (n, n)).T.ravel()
    assert bunch.target_names == ["/".join(name.split("/")[::-1]) for name in swapped]


def test_target_is_the_inverse(family):
    load, n = family
    bunch = load()
    residual = bunch.matrices @ bunch.target.reshape(-1, n, n) - np.eye(n)
    assert np.abs(residual).max() < 1e-12


def test_two_loads_are_equal_and_independent(family):
    load, _ = family
    first, second, (X, y) = load(), load(), load(return_X_y=True)
    assert np.array_equal(X, first.data)
    assert np.array_equal(y, first.target)
    for key in ("data", "target", "parameters", "center"):
        assert np.array_equal(first[key], second[key])
        first[key][:] = np.nan
        assert np.isfinite(second[key]).all()
        assert np.isfinite(load()[key]).all()
    assert np.isfinite(X).all()
    assert np.isfinite(y).all()


def test_parameters_fill_their_range():
    qn = np.array([0, np.pi / 4, -np.pi, 0, np.pi / 4, 0])
    for deviation, half_width in (
        (load_power_flow("case6ww").parameters - 1, 0.2),
        (load_power_flow("case9").parameters - 1, 0.2),
        (load_power_flow("case30").parameters - 0.95, 0.25),
        (load_robot_arm().parameters - qn, 0.1),
    ):
        largest = np.abs(deviation).max(axis=0)
        assert (largest <= half_width * (1 + 1e-9)).all()
        assert (largest > 0.98 * half_width).all()


def test_entries_vary_visibly_or_not_at_all(family):
    load, n = family
    bunch = load()
    spread = np.ptp(bunch.data, axis=0)
    constant = spread == 0
    assert (spread[~constant] > (1e-4 if n == 53 else 1e-3)).all()
    assert np.array_equal(bunch.data[0, constant], bunch.center.ravel()[constant])
    fixed = {bunch.feature_names[i]: bunch.data[0, i] for i in np.flatnonzero(constant)}
    nonzero = {name: value for name, value in fixed.items() if value != 0}
    assert f"Constant Attributes: {len(fixed)}," in bunch.DESCR
    assert (len(fixed), nonzero) == {
        8: (12, {}),
        14: (116, {"dQ8/dtheta2": 1.63, "dQ6/dtheta3": 0.85}),
        53: (2457, {"dQ12/dtheta13": 0.37}),
        6: (15, {"drz/dq1": 1.0}),
    }[n]


def test_description_gives_the_figures(family):
    load, _ = family
    bunch = load()
    cond, sigma = np.linalg.cond(bunch.matrices), np.linalg.norm(bunch.matrices, -2, axis=(1, 2))
    deviation = bunch.matrices - bunch.center
    box = np.abs(np.linalg.inv(bunch.center)) @ np.abs(deviation).max(axis=0)
    for figure in (
        f"{cond.min():.2f} to {cond.max():.2f} (center: {np.linalg.cond(bunch.center):.2f})",
        f"{sigma.min():.3f} to {sigma.max():.3f} (center: {np.linalg.norm(bunch.center, -2):.3f})",
        f"Largest distance from the center (2-norm): "
        f"{np.linalg.norm(deviation, 2, axis=(1, 2)).max():.3f}",
        f"inv(center)) D is {np.abs(np.linalg.eigvals(box)).max():.3f}",
    ):
        assert figure in " ".join(bunch.DESCR.split())
    if "no proof that the box" in bunch.DESCR:  # what is said instead
        distance = np.linalg.norm(np.linalg.inv(bunch.center) @ deviation, 2, axis=(1, 2)).max()
        assert f"is at most {distance:.3f} over the samples" in " ".join(bunch.DESCR.split())


def test_description_names_source_licence_and_seed(family):
    load, n = family
    text = " ".join(load().DESCR.split())
    words = ["seed 20240607", "References", f"{n} x {n} matrix", "generate.py"]
    words += (
        ["MIT License", "roboticstoolbox-python 1.5.0", "Corke"]
        if n == 6
        else ["BSD 3-Clause", "pandapower 3.5.6", "Zimmerman", "MATPOWER"]
    )
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("case", ["case14", "", None, 9])
def test_unknown_case(case):
    with pytest.raises(ValueError, match=r"Got case=.*must be one of .*'case9', 'case30'\)"):
        load_power_flow(case)


# Independent oracles: the same matrices from published data, without the tools that made them.

# Denavit-Hartenberg parameters (d, a, alpha) of Corke and Armstrong-Helouvry (1994); the height
# of the pedestal moves the hand without changing the Jacobian, and is left out.
PUMA560 = [
    (0, 0, np.pi / 2),
    (0, 0.4318, 0),
    (0.15005, 0.0203, -np.pi / 2),
    (0.4318, 0, np.pi / 2),
    (0, 0, -np.pi / 2),
    (0, 0, 0),
]


def puma560_jacobian(q):
    """Geometric Jacobian: column i is (z_i x (p - p_i), z_i) for an axis z_i through p_i."""
    T, frames = np.eye(4), []
    for theta, (d, a, alpha) in zip(q, PUMA560, strict=True):
        frames.append(T)
        c, s, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
        T = T @ [
            [c, -s * ca, s * sa, a * c],
            [s, c * ca, -c * sa, a * s],
            [0, sa, ca, d],
            [0, 0, 0, 1],
        ]
    return np.column_stack(
        [np.r_[np.cross(F[:3, 2], T[:3, 3] - F[:3, 3]), F[:3, 2]] for F in frames]
    )


def test_robot_arm_against_its_kinematics():
    arm = load_robot_arm()
    expected = np.array([puma560_jacobian(q) for q in arm.parameters])
    np.testing.assert_allclose(arm.matrices, expected, rtol=0, atol=1e-13)
    nominal = puma560_jacobian([0, np.pi / 4, -np.pi, 0, np.pi / 4, 0])
    np.testing.assert_allclose(arm.center, nominal, rtol=0, atol=1e-13)


# The published cases (MATPOWER's case files), per unit of 100 MVA, buses from 1: generators'
# voltages and power, loads as bus: (P, Q), lines as (from, to, r, x, b), susceptances to the
# ground. With areas, one factor scales all loads of an area, otherwise P and Q of each load have
# their own.
GRIDS: dict[str, dict[str, Any]] = {
    "case6ww": {
        "V": {1: 1.05, 2: 1.05, 3: 1.07},
        "P": {2: 0.5, 3: 0.6},
        "loads": {4: (0.7, 0.7), 5: (0.7, 0.7), 6: (0.7, 0.7)},
        "lines": [
            (1, 2, 0.1, 0.2, 0.04),
            (1, 4, 0.05, 0.2, 0.04),
            (1, 5, 0.08, 0.3, 0.06),
            (2, 3, 0.05, 0.25, 0.06),
            (2, 4, 0.05, 0.1, 0.02),
            (2, 5, 0.1, 0.3, 0.04),
            (2, 6, 0.07, 0.2, 0.05),
            (3, 5, 0.12, 0.26, 0.05),
            (3, 6, 0.02, 0.1, 0.02),
            (4, 5, 0.2, 0.4, 0.08),
            (5, 6, 0.1, 0.3, 0.06),
        ],
    },
    "case9": {
        "V": {1: 1.0, 2: 1.0, 3: 1.0},
        "P": {2: 1.63, 3: 0.85},
        "loads": {5: (0.9, 0.3), 7: (1.0, 0.35), 9: (1.25, 0.5)},
        "lines": [
            (1, 4, 0, 0.0576, 0),
            (4, 5, 0.017, 0.092, 0.158),
            (5, 6, 0.039, 0.17, 0.358),
            (3, 6, 0, 0.0586, 0),
            (6, 7, 0.0119, 0.1008, 0.209),
            (7, 8, 0.0085, 0.072, 0.149),
            (8, 2, 0, 0.0625, 0),
            (8, 9, 0.032, 0.161, 0.306),
            (9, 4, 0.01, 0.085, 0.176),
        ],
    },
    "case30": {
        "V": {1: 1.0, 2: 1.0, 22: 1.0, 27: 1.0, 23: 1.0, 13: 1.0},
        "P": {2: 0.6097, 22: 0.2159, 27: 0.2691, 23: 0.192, 13: 0.37},
        "loads": {
            2: (0.217, 0.127),
            3: (0.024, 0.012),
            4: (0.076, 0.016),
            7: (0.228, 0.109),
            8: (0.3, 0.3),
            10: (0.058, 0.02),
            12: (0.112, 0.075),
            14: (0.062, 0.016),
            15: (0.082, 0.025),
            16: (0.035, 0.018),
            17: (0.09, 0.058),
            18: (0.032, 0.009),
            19: (0.095, 0.034),
            20: (0.022, 0.007),
            21: (0.175, 0.112),
            23: (0.032, 0.016),
            24: (0.087, 0.067),
            26: (0.035, 0.023),
            29: (0.024, 0.009),
            30: (0.106, 0.019),
        },
        "areas": [
            {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 28},
            {12, 13, 14, 15, 16, 17, 18, 19, 20, 23},
            {10, 21, 22, 24, 25, 26, 27, 29, 30},
        ],
        "susceptances": {5: 0.0019, 24: 0.0004},
        "lines": [
            (1, 2, 0.02, 0.06, 0.03),
            (1, 3, 0.05, 0.19, 0.02),
            (2, 4, 0.06, 0.17, 0.02),
            (3, 4, 0.01, 0.04, 0),
            (2, 5, 0.05, 0.2, 0.02),
            (2, 6, 0.06, 0.18, 0.02),
            (4, 6, 0.01, 0.04, 0),
            (5, 7, 0.05, 0.12, 0.01),
            (6, 7, 0.03, 0.08, 0.01),
            (6, 8, 0.01, 0.04, 0),
            (6, 9, 0, 0.21, 0),
            (6, 10, 0, 0.56, 0),
            (9, 11, 0, 0.21, 0),
            (9, 10, 0, 0.11, 0),
            (4, 12, 0, 0.26, 0),
            (12, 13, 0, 0.14, 0),
            (12, 14, 0.12, 0.26, 0),
            (12, 15, 0.07, 0.13, 0),
            (12, 16, 0.09, 0.2, 0),
            (14, 15, 0.22, 0.2, 0),
            (16, 17, 0.08, 0.19, 0),
            (15, 18, 0.11, 0.22, 0),
            (18, 19, 0.06, 0.13, 0),
            (19, 20, 0.03, 0.07, 0),
            (10, 20, 0.09, 0.21, 0),
            (10, 17, 0.03, 0.08, 0),
            (10, 21, 0.03, 0.07, 0),
            (10, 22, 0.07, 0.15, 0),
            (21, 22, 0.01, 0.02, 0),
            (15, 23, 0.1, 0.2, 0),
            (22, 24, 0.12, 0.18, 0),
            (23, 24, 0.13, 0.27, 0),
            (24, 25, 0.19, 0.33, 0),
            (25, 26, 0.25, 0.38, 0),
            (25, 27, 0.11, 0.21, 0),
            (28, 27, 0, 0.4, 0),
            (27, 29, 0.22, 0.42, 0),
            (27, 30, 0.32, 0.6, 0),
            (29, 30, 0.24, 0.45, 0),
            (8, 28, 0.06, 0.2, 0.02),
            (6, 28, 0.02, 0.06, 0.01),
        ],
    },
}


def factors_of_loads(grid, factors):
    """By bus, the factors on P and Q of its load."""
    if "areas" in grid:
        pairs = zip(grid["areas"], factors, strict=True)
        return {bus: (factor, factor) for area, factor in pairs for bus in area}
    m = len(grid["loads"])
    return dict(zip(grid["loads"], zip(factors[:m], factors[m:], strict=True), strict=True))


def solve_power_flow(grid, factors):
    """Jacobian at the solution, by name of its entries, found by Newton's method."""
    buses = sorted({bus for line in grid["lines"] for bus in line[:2]})
    n = len(buses)
    Y = np.zeros((n, n), dtype=complex)
    for start, end, r, x, b in grid["lines"]:
        i, j = start - 1, end - 1
        y = 1 / complex(r, x)
        Y[[i, j], [i, j]] += y + 0.5j * b
        Y[[i, j], [j, i]] -= y
    for bus, b in grid.get("susceptances", {}).items():
        Y[bus - 1, bus - 1] += 1j * b

    power = np.zeros(n, dtype=complex)
    for bus, P in grid["P"].items():
        power[bus - 1] += P
    factors = factors_of_loads(grid, factors)
    for bus, (P, Q) in grid["loads"].items():
        power[bus - 1] -= complex(P * factors[bus][0], Q * factors[bus][1])

    V_buses = [bus for bus in buses if bus not in grid["V"]]
    theta_buses = [*sorted(grid["V"].keys() - {1}), *V_buses]
    theta, V = np.zeros(n), np.array([grid["V"].get(bus, 1.0) for bus in buses])
    p, q = np.array(theta_buses) - 1, np.array(V_buses) - 1
    for _ in range(12):
        u = V * np.exp(1j * theta)
        flow = u[:, None] * Y.conj() * u.conj()  # flow[i, k] = u_i conj(Y_ik u_k)
        S = flow.sum(axis=1)
        S_theta = 1j * (np.diag(S) - flow)
        S_V = (np.diag(S) + flow) / V
        J = np.block(
            [
                [S_theta[np.ix_(p, p)].real, S_V[np.ix_(p, q)].real],
                [S_theta[np.ix_(q, p)].imag, S_V[np.ix_(q, q)].imag],
            ]
        )
        step = np.linalg.solve(J, np.r_[(power - S)[p].real, (power - S)[q].imag])
        theta[p] += step[: len(p)]
        V[q] += step[len(p) :]
    assert np.abs(step).max() < 1e-12
    rows = [f"dP{bus}" for bus in theta_buses] + [f"dQ{bus}" for bus in V_buses]
    columns = [f"dtheta{bus}" for bus in theta_buses] + [f"dV{bus}" for bus in V_buses]
    return J, [f"{row}/{column}" for row in rows for column in columns]


@pytest.mark.parametrize("case", GRIDS)
def test_power_flow_against_published_grid(case):
    bunch = load_power_flow(case)
    scaled = (
        ["area1", "area2", "area3"]
        if "areas" in GRIDS[case]
        else [f"{kind}{bus}" for kind in "PQ" for bus in GRIDS[case]["loads"]]
    )
    assert bunch.parameter_names == [f"{name}_factor" for name in scaled]
    center, names = solve_power_flow(GRIDS[case], np.ones(len(scaled)))
    assert bunch.feature_names == names
    atol = 1e-13 * np.abs(center).max()
    np.testing.assert_allclose(bunch.center, center, rtol=0, atol=atol)
    for A, factors in zip(bunch.matrices[:50], bunch.parameters[:50], strict=True):
        np.testing.assert_allclose(A, solve_power_flow(GRIDS[case], factors)[0], rtol=0, atol=atol)


# SHA-256 of the matrices as pandapower and the toolbox computed them, before they were packed.
DIGESTS = {
    "case6ww": "fe15d1b59733c0e5",
    "case9": "9aa916abeda7f2da",
    "case30": "51ab9401510b31b2",
    "puma560": "9854c0ecc7bb5990",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_to_the_last_bit(name):
    """Stored are bytes in another order, and entries that follow from others but for last bits."""
    data = FAMILIES[name][0]().data
    assert hashlib.sha256(data.astype("<f8").tobytes()).hexdigest().startswith(DIGESTS[name])
