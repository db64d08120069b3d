"""Families of matrices that are made here: mass matrices, stiffness matrices, Jacobians of a grid.

Each function returns matrices of shape (m, n, n) and the parameters they are made of.
"""

import numpy as np


def arm_mass(m=600, spread=0.2, seed=0):
    """Joint-space mass matrices of a planar arm of 7 uniform links, joints ±spread rad from a pose.

    The sum over the links of mass JᵀJ, J the Jacobian of the centre of mass, and of the inertia of
    the rotation; small rotors at the joints.
    """
    rng = np.random.default_rng(seed)
    pose = np.array([0.4, -0.9, 0.7, 0.8, -0.6, 0.5, -0.4])
    n = len(pose)
    joints = pose + rng.uniform(-spread, spread, (m, n))
    lengths, masses = np.linspace(0.4, 0.15, n), np.linspace(4.0, 0.5, n)
    angles = np.cumsum(joints, axis=1)
    # What turning link k about its own joint does to its far end.
    arms = np.stack([-np.sin(angles), np.cos(angles)], axis=2) * lengths[:, None]
    mass = np.tile(1e-3 * np.eye(n), (m, 1, 1))
    for i in range(n):
        J = np.zeros((m, 2, n))
        for j in range(i + 1):
            J[:, :, j] = arms[:, j:i].sum(axis=1) + arms[:, i] / 2
        turned = (np.arange(n) <= i).astype(float)  # the joints that turn link i
        mass += masses[i] * np.einsum("kai,kaj->kij", J, J)
        mass += masses[i] * lengths[i] ** 2 / 12 * np.outer(turned, turned)
    return mass, joints


def square_stiffness(poisson=0.3):
    """Stiffness of a bilinear unit square in plane stress, modulus 1: 2×2 Gauss points, (8, 8)."""
    elastic = np.array([[1, poisson, 0], [poisson, 1, 0], [0, 0, (1 - poisson) / 2]])
    elastic /= 1 - poisson**2
    stiffness = np.zeros((8, 8))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for point in corners / np.sqrt(3):
        # Of (1 + x x_i) (1 + y y_i) / 4, on a square of half-width 1/2.
        d_x, d_y = (corners * (1 + point * corners)[:, ::-1] / 2).T
        strain = np.zeros((3, 8))
        strain[0, ::2] = strain[2, 1::2] = d_x
        strain[1, 1::2] = strain[2, ::2] = d_y
        stiffness += strain.T @ elastic @ strain / 4
    return stiffness


def plate_stiffness(m=600, seed=0):
    """Stiffness matrices of order 48 of a plate of 5 by 4 squares, clamped at the bottom.

    Its three vertical bands are of materials with moduli from 0.6 to 1.6, in which the matrices
    are affine.
    """
    columns, rows = 5, 4
    moduli = np.random.default_rng(seed).uniform(0.6, 1.6, (m, 3))
    element, per_row = square_stiffness(), columns + 1
    size = 2 * per_row * (rows + 1)
    bands = np.zeros((3, size, size))
    for x in range(columns):
        for y in range(rows):
            corner = y * per_row + x
            nodes = np.array([corner, corner + 1, corner + per_row + 1, corner + per_row])
            freedoms = np.stack([2 * nodes, 2 * nodes + 1], axis=1).ravel()
            bands[3 * x // columns][np.ix_(freedoms, freedoms)] += element
    free = slice(2 * per_row, None)
    return np.tensordot(moduli, bands[:, free, free], axes=1), moduli


def grid_jacobian(m=600, seed=0):
    """Jacobians of order 99 of a lossless grid of 10 by 10 buses, some distant ones connected, too.

    Angles θ solve y sin(θ_i - θ_j), summed over the lines at a bus, = -its load, by Newton's
    method; a matrix is the derivative of the injections by the angles at this solution, without
    the slack bus 0. The loads of a zone are scaled by its factor of the day, 0.7 to 1.2. No line
    carries more than about a half of what it can.
    """
    rng = np.random.default_rng(seed)
    side, n = 10, 100
    factors = rng.uniform(0.7, 1.2, (m, 3))
    bus = np.arange(n).reshape(side, side)
    lines = [*zip(bus[:, :-1].ravel(), bus[:, 1:].ravel(), strict=True)]
    lines += zip(bus[:-1].ravel(), bus[1:].ravel(), strict=True)
    lines += [tuple(rng.choice(n, 2, replace=False)) for _ in range(n // 5)]
    ends = np.array(lines)
    incidence = np.zeros((len(ends), n))
    incidence[np.arange(len(ends)), ends[:, 0]] = 1
    incidence[np.arange(len(ends)), ends[:, 1]] = -1
    incidence = incidence[:, 1:]  # the slack's angle is 0
    strength = rng.uniform(2, 10, len(ends))
    zone, load = rng.integers(0, 3, n)[1:], rng.uniform(0.006, 0.06, n)[1:]
    wanted = -load * factors[:, zone]
    angles = np.zeros_like(wanted)

    def jacobian(angles):
        stiffness = strength * np.cos(angles @ incidence.T)
        return incidence.T @ (stiffness[:, :, None] * incidence)

    for _ in range(20):
        missing = wanted - (strength * np.sin(angles @ incidence.T)) @ incidence
        if np.abs(missing).max() < 1e-14:
            break
        angles += np.linalg.solve(jacobian(angles), missing[:, :, None])[:, :, 0]
    else:
        raise RuntimeError("Newton's method has not converged.")
    return jacobian(angles), factors
