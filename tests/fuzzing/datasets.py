"""Fuzzing of data sets."""

import math
from functools import partial

import numpy as np
from strategies import REFUSED, attempt

from fuzzing.common import entry
from skinv import (
    datasets,
)


def check_data(found, return_X_y):
    X, y = found if return_X_y else (found.data, found.target)
    assert X.shape == y.shape
    assert X.dtype == y.dtype == np.float64


@entry("datasets.load_power_flow")
def fuzz_load_power_flow(c):
    options = c.options(return_X_y=(True, False, 0, "yes", None))
    found = attempt(datasets.load_power_flow, c.choice("case9", "case6ww", "case30"), **options)
    if found is not REFUSED:
        check_data(found, options.get("return_X_y"))


@entry("datasets.load_robot_arm")
def fuzz_load_robot_arm(c):
    options = c.options(return_X_y=(True, False, 0, "yes", None))
    check_data(attempt(datasets.load_robot_arm, **options), options.get("return_X_y"))


@entry("datasets.make_channel_gram")
def fuzz_make_channel_gram(c):
    options = {
        "n_users": c.count(4),
        "n_antennas": c.count(9),
        **c.options(correlation=[partial(c.number, 0.5, 0.3j, 0)], snr_db=[c.number]),
        **c.options(return_channels=(True, False), return_X_y=(True, False)),
        **c.options(random_state=[c.seed]),
    }
    m = c.count(4)
    found = attempt(datasets.make_channel_gram, m, **options)
    if found is REFUSED:
        return
    X = found[0] if options.get("return_X_y") else found.data
    n = int(options["n_users"])
    assert X.shape == (m, n, n)
    assert X.dtype == np.complex128
    assert np.array_equal(X, X.conj().swapaxes(1, 2))


@entry("datasets.make_region")
def fuzz_make_region(c):
    name = c.choice("2x2-first", "2x2-second", "3x3")
    m = c.count()
    options = c.options(return_X_y=(True, False), random_state=[c.seed])
    found = attempt(datasets.make_region, name, n_samples=m, **options)
    if found is not REFUSED:
        X, Y = found if options.get("return_X_y") else (found.data, found.target)
        assert len(X) == len(Y) == m
        n = math.isqrt(X.shape[1])
        assert np.allclose(X.reshape(-1, n, n) @ Y.reshape(-1, n, n), np.eye(n))
