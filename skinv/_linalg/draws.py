"""Random numbers for samples: NumPy's on the host, torch's on a device, behind one protocol."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state


def private_generator(random_state: Any) -> np.random.RandomState:
    """Return the generator of a `random_state`, but never NumPy's global one.

    None seeds a new one from the operating system.
    """
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


class HostDraws:
    """Random numbers from a NumPy RandomState."""

    def __init__(self, rng: np.random.RandomState):
        self.rng = rng

    def uniform(self, *shape: int) -> NDArray:
        """Draw numbers uniform in [0, 1)."""
        return self.rng.random_sample(shape)

    def normal(self, *shape: int) -> NDArray:
        """Draw standard normal numbers."""
        return self.rng.standard_normal(shape)

    def exponential(self, *shape: int) -> NDArray:
        """Draw standard exponential numbers."""
        return self.rng.standard_exponential(shape)

    def asarray(self, array: NDArray) -> NDArray:
        """Return the array as it is."""
        return array


class DeviceDraws:
    """Random float64 numbers from a torch generator of its own, on its device."""

    def __init__(self, seed: int, device: Any):
        import torch

        self._torch = torch
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self._options = {"dtype": torch.float64, "device": device}

    def uniform(self, *shape: int) -> Any:
        """Draw numbers uniform in [0, 1)."""
        return self._torch.rand(shape, generator=self._generator, **self._options)

    def normal(self, *shape: int) -> Any:
        """Draw standard normal numbers."""
        return self._torch.randn(shape, generator=self._generator, **self._options)

    def exponential(self, *shape: int) -> Any:
        """Draw standard exponential numbers."""
        return self._torch.empty(shape, **self._options).exponential_(generator=self._generator)

    def asarray(self, array: NDArray) -> Any:
        """Copy the array to the device."""
        return self._torch.tensor(array, **self._options)
