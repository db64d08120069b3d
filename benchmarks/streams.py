"""Streams of matrices that drift: the day of a grid, and a bank of Kalman filters, proven; one thread.

python benchmarks/streams.py [--quick]

A day is 288 steps of 5 minutes; in each, 100 scenarios around its loads are solved, with one
right-hand side each, to 1e-8, and then ``partial_fit`` looks at them. LAPACK solves each anew. The
refined LU factorises the mean of the scenarios before whenever the stream has moved its centre, and
corrects solutions by it until a correction is within 1e-8, which proves nothing. Jacobians are
polynomials of the loads, fitted to those of ``load_power_flow``.

The filters track targets of order 8; a step takes the inverses of their innovation covariances,
which drift, and which all that follows depends on.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys
import time

import machine
import numpy as np
import torch
from scipy.linalg import lu_factor, lu_solve
from sklearn.preprocessing import PolynomialFeatures
from timing import spread

from skinv import CertifiedInverse, LinearInverseApprox
from skinv.datasets import load_power_flow

STEPS, SCENARIOS, TOL = 288, 100, 1e-8
GRIDS = {"case9": 4, "case30": 6}  # degrees of the polynomials


def day_of_loads(n_loads, low, high, seed=0):
    """Return the factors on loads of each scenario, (steps, scenarios, loads).

    Two peaks a day, at times of their own for each load; scenarios deviate by 2 %.
    """
    rng = np.random.default_rng(seed)
    hours = np.arange(STEPS)[:, None] / 12 - rng.uniform(-1, 1, n_loads)
    shape = 0.7 * np.exp(-(((hours - 9) / 3.5) ** 2)) + np.exp(-(((hours - 19) / 2.5) ** 2))
    usual = low + 0.04 + (high - low - 0.1) * shape / shape.max()
    return usual[:, None] + 0.02 * rng.standard_normal((STEPS, SCENARIOS, n_loads))


def day(case):
    """Return matrices (steps, scenarios, n, n) of a day."""
    grid, degree = load_power_flow(case), GRIDS[case]
    features = PolynomialFeatures(degree)
    known = features.fit_transform(grid.parameters - 1)
    coefficients = np.linalg.lstsq(known, grid.data, rcond=None)[0]
    low, high = grid.parameters.min(), grid.parameters.max()
    loads = day_of_loads(grid.parameters.shape[1], low, high)
    rows = features.transform(loads.reshape(-1, loads.shape[2]) - 1) @ coefficients
    return rows.reshape(STEPS, SCENARIOS, *grid.center.shape)
