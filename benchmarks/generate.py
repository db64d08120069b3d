"""Write the matrix families of ``load_power_flow`` and ``load_robot_arm``.

Run as ``python benchmarks/generate.py``. The stored files were made with
pandapower 3.5.6, roboticstoolbox-python 1.5.0, NumPy 2.4.6 and SciPy 1.17.1 on Python 3.11;
the package itself needs neither pandapower nor the toolbox. The same seed and versions give
the same arrays.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

from pathlib import Path

import numpy as np
import pandapower as pp
import pandapower.networks
import roboticstoolbox
from pandapower.pf.create_jacobian import _create_J_without_numba

from skinv.datasets._packed import matrices_of, planes_of

SEED = 20240607
N_SAMPLES = 1000
LOAD_FACTORS = (0.8, 1.2)
JOINT_HALF_WIDTH = 0.1  # rad


def settle_constants(matrices, nominal):
    """Take the rounding noise out of entries that do not depend on the parameters, in place.

    The noise (1e-17 in the arm's zeros, 1e-14 in the two entries of case9 that are the constant
    power over a lossless branch) would become a feature once the columns are standardised.
    """
    constant = np.ptp(matrices, axis=0) < 1e-11
    nominal[constant] = np.round(nominal[constant], 12) + 0.0  # no -0.0
    matrices[:, constant] = nominal[constant]


def solved_jacobian(net):
    """Jacobian of the power-flow equations at their solution, and the buses of its rows.

    ``net._ppc["internal"]["J"]`` is that of the last Newton step, so it belongs to the iterate
    before the solution (entries off by up to 1e-3, and unevenly, as the number of steps varies
    between samples). The same function evaluated at the solution has no such error.
    """
    # The tolerance is compared with per-unit powers, whatever its name says.
    pp.runpp(net, numba=False, tolerance_mva=1e-12)
    solved = net._ppc["internal"]
    pv, pq = solved["pv"], solved["pq"]
    pvpq = np.concatenate([pv, pq])
    J = _create_J_without_numba(
        solved["Ybus"], solved["V"], solved["ref"], pvpq, pq, slack_weights=None, dist_slack=False
    )
    return J.toarray(), pvpq, pq


def power_flow(case, n_samples=N_SAMPLES, load_factors=LOAD_FACTORS, by_area=False):
    """Jacobians of one grid, each load's P and Q scaled independently, or all loads of an area."""
    net = getattr(pandapower.networks, case)()
    P, Q = net.load.p_mw.to_numpy(copy=True), net.load.q_mvar.to_numpy(copy=True)
    nominal, pvpq, pq = solved_jacobian(net)
    number = net.bus.name.astype(int).to_numpy()  # the case's own, from 1
    if by_area:  # the case's own too; pandapower keeps them as zones
        areas, factor_of_P = np.unique(net.bus.zone[net.load.bus].astype(int), return_inverse=True)
        factor_of_Q = factor_of_P
        parameter_names = [f"area{area}_factor" for area in areas]
    else:
        factor_of_P = np.arange(len(P))
        factor_of_Q = factor_of_P + len(P)
        parameter_names = [f"{s}{b}_factor" for s in "PQ" for b in number[net.load.bus]]

    low, high = load_factors
    rng = np.random.default_rng(SEED)
    matrices = np.empty((n_samples, *nominal.shape))
    parameters = np.empty((n_samples, len(parameter_names)))
    k = n_redrawn = 0
    while k < n_samples:
        factors = rng.uniform(low, high, size=len(parameter_names))
        net.load.p_mw, net.load.q_mvar = P * factors[factor_of_P], Q * factors[factor_of_Q]
        try:
            J, *order = solved_jacobian(net)
        except pp.LoadflowNotConverged:
            n_redrawn += 1
            continue
        if not (np.array_equal(order[0], pvpq) and np.array_equal(order[1], pq)):
            raise RuntimeError(f"The order of the buses changed to {order}.")
        matrices[k], parameters[k] = J, factors
        k += 1

    settle_constants(matrices, nominal)
    return n_redrawn, {
        "matrices": matrices,
        "parameters": parameters,
        "nominal": nominal,
        "parameter_names": np.array(parameter_names),
        "row_names": np.array([f"dP{b}" for b in number[pvpq]] + [f"dQ{b}" for b in number[pq]]),
        "column_names": np.array(
            [f"dtheta{b}" for b in number[pvpq]] + [f"dV{b}" for b in number[pq]]
        ),
    }


def robot_arm():
    """Jacobians of the Puma 560 in its base frame, around the pose ``qn``."""
    robot = roboticstoolbox.models.DH.Puma560()
    rng = np.random.default_rng(SEED)
    q = robot.qn + rng.uniform(-JOINT_HALF_WIDTH, JOINT_HALF_WIDTH, size=(N_SAMPLES, robot.n))
    matrices = np.stack([robot.jacob0(angles) for angles in q])
    nominal = robot.jacob0(robot.qn)

    settle_constants(matrices, nominal)
    return 0, {
        "matrices": matrices,
        "parameters": q,
        "nominal": nominal,
        "parameter_names": np.array([f"q{i}" for i in range(1, 7)]),
        "row_names": np.array(["dx", "dy", "dz", "drx", "dry", "drz"]),
        "column_names": np.array([f"dq{i}" for i in range(1, 7)]),
    }


def derived_entries(arrays, varying):
    """Return (entry, factor, above, below): indices with entry ≈ ± factor · above / below.

    Of Jacobians of power flow, where Q_i by V_j is P_i by θ_j over V_j, and P_i by V_j is −Q_i by
    θ_j over V_j: one pair of each V_j gives the voltage for the others.
    """
    rows, columns = arrays["row_names"].tolist(), arrays["column_names"].tolist()
    entries = {(rows[k // len(rows)], columns[k % len(rows)]): k for k in varying}
    found = []
    for j in (name[2:] for name in columns if name.startswith("dV")):
        pairs = [
            (entries[f"d{other}{i}", f"dV{j}"], entries[f"d{own}{i}", f"dtheta{j}"])
            for i in (name[2:] for name in rows if name.startswith("dP"))
            for own, other in ("PQ", "QP")
            if i != j
            and (f"d{other}{i}", f"dV{j}") in entries
            and (f"d{own}{i}", f"dtheta{j}") in entries
        ]
        found += [(*pair, *pairs[0]) for pair in pairs[1:]]
    return np.array(found, dtype=np.int16).reshape(-1, 4).T


def packed(arrays):
    """Return what `skinv.datasets` unpacks: what varies, byte by byte, and what follows from it."""
    rows = arrays["matrices"].reshape(len(arrays["matrices"]), -1)
    varying = np.flatnonzero(np.ptp(rows, axis=0)).astype(np.int16)
    kept = {name: array for name, array in arrays.items() if name != "matrices"}
    kept["parameters"] = planes_of(arrays["parameters"])
    derived = derived_entries(arrays, varying)
    if derived.size:
        entry, factor, above, below = derived
        near = rows[:, factor] * rows[:, above] / rows[:, below]
        kept["sign"] = np.sign(near[0] * rows[0, entry]).astype(np.int8)
        last = (rows[:, entry].view(np.int64) - (near * kept["sign"]).view(np.int64)).T
        kept |= {"derived": derived, "last_bits": last.astype(np.int16)}
        assert (kept["last_bits"] == last).all()
        varying = np.setdiff1d(varying, entry)
    kept |= {"varying": varying, "values": planes_of(rows[:, varying])}
    assert (matrices_of(kept, arrays["nominal"]) == arrays["matrices"]).all()
    return kept


def main():
    """Write the files and print their sizes and figures."""
    folder = Path(__file__).parents[1] / "skinv" / "datasets" / "data"
    for name, (n_redrawn, arrays) in {
        "power_flow_case6ww": power_flow("case6ww"),
        "power_flow_case9": power_flow("case9"),
        "power_flow_case30": power_flow(
            "case30", n_samples=500, load_factors=(0.7, 1.2), by_area=True
        ),
        "robot_arm_puma560": robot_arm(),
    }.items():
        path = folder / f"{name}.npz"
        np.savez_compressed(path, **packed(arrays))
        cond = np.linalg.cond(arrays["matrices"])
        smallest = np.linalg.svd(arrays["matrices"], compute_uv=False)[:, -1]
        print(
            f"{path.name}: {path.stat().st_size} bytes, shape {arrays['matrices'].shape}, "
            f"{n_redrawn} redrawn, cond {cond.min():.4f} to {cond.max():.4f} "
            f"(nominal {np.linalg.cond(arrays['nominal']):.4f}), "
            f"sigma_min {smallest.min():.5f} to {smallest.max():.5f} "
            f"(nominal {np.linalg.norm(arrays['nominal'], -2):.5f})"
        )


if __name__ == "__main__":
    main()
