"""Shared data: small, seeded, and inverted by LAPACK, not by the package."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each, or they spin
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from backends import BACKENDS, DTYPES, STRUCTURES

pytest.register_assert_rewrite("fuzzing")


@pytest.fixture(params=BACKENDS, ids=str)
def backend(request):
    """Each library of arrays in turn."""
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request):
    """Each dtype in turn, by its name."""
    return request.param


@pytest.fixture(params=STRUCTURES)
def structure(request):
    """Each structure of matrices in turn, by its name."""
    return request.param


@pytest.fixture
def center():
    """The centre of the first 2×2 region."""
    return np.array([[3.0, 1.0], [1.0, 2.0]])


@pytest.fixture
def box(center):
    """400 matrices uniform in a box around the centre, as rows, and their inverses."""
    E = np.random.RandomState(0).uniform(-0.5, 0.5, size=(400, 2, 2))
    A = center + E
    return A.reshape(400, 4), np.linalg.inv(A).reshape(400, 4)


def random_family(n, n_samples, spread=0.1, seed=0):
    """Return a regular centre of order n, and matrices near it as a stack."""
    rng = np.random.RandomState(seed)
    center = rng.standard_normal((n, n)) + 2 * np.sqrt(n) * np.eye(n)
    return center, center + spread * rng.standard_normal((n_samples, n, n))


@pytest.fixture
def closed_figures():
    """Start and end without figures, and draw small ones."""
    import matplotlib.pyplot as plt

    plt.close("all")
    with plt.rc_context({"figure.dpi": 40}):
        yield
    plt.close("all")
