"""Libraries, dtypes and structures of matrices: declared here, once, for all tests."""

from dataclasses import dataclass

import array_api_strict
import numpy as np
import pytest
import torch

REAL = ("float64", "float32")
COMPLEX = ("complex128", "complex64")
DTYPES = REAL + COMPLEX

# For tests of their own data, which take dtypes of NumPy.
TYPES = tuple(np.dtype(name).type for name in REAL)
every_dtype = pytest.mark.parametrize("dtype", TYPES, ids=REAL)
every_complex_dtype = pytest.mark.parametrize(
    "dtype", [np.dtype(name).type for name in COMPLEX], ids=COMPLEX
)
every_library = pytest.mark.parametrize("convert", [np.asarray, torch.tensor])


@dataclass(frozen=True)
class Backend:
    """A library of arrays."""

    name: str
    kind: type  # of its arrays

    def __str__(self):
        return self.name

    def array(self, values):
        """Return numbers of NumPy as a new array of the library, read-only where there is such."""
        if self.kind is torch.Tensor:
            return torch.tensor(values)
        values = np.array(values)
        values.flags.writeable = False
        return array_api_strict.asarray(values) if self.kind is not np.ndarray else values

    def dtype_of(self, array):
        """Return the name of the dtype of an array of the library."""
        return str(array.dtype).rpartition(".")[2]

    def numbers(self, array):
        """Return an array of the library as one of NumPy."""
        return np.asarray(array)


BACKENDS = (
    Backend("numpy", np.ndarray),
    Backend("torch", torch.Tensor),
    Backend("array_api_strict", type(array_api_strict.asarray(0.0))),
)


# name: what a stack of six matrices becomes.
STRUCTURES = {
    "general": lambda A: A,
    "symmetric": lambda A: (A + A.conj().swapaxes(1, 2)) / 2,  # Hermitian if they are complex
    "one matrix": lambda A: A[0],
    "stack of stacks": lambda A: A.reshape(2, 3, *A.shape[1:]),
    "empty": lambda A: A[:0],
}


def matrices_of(structure, dtype, n, seed=0):
    """Return well-conditioned matrices of a structure and dtype, in an array of NumPy."""
    rng = np.random.default_rng(seed)
    A = 2 * np.sqrt(n) * np.eye(n) + rng.standard_normal((6, n, n))
    if np.dtype(dtype).kind == "c":
        A = A + 1j * rng.standard_normal((6, n, n))
    return np.ascontiguousarray(STRUCTURES[structure](A)).astype(dtype)
