"""Learned, approximate and certified matrix inversion for scikit-learn."""

from .certified import CertifiedInverse
from .linear import LinearInverseApprox
from .metrics import SingularDistanceScorer
from .neural import NeuralInverseRegressor
from .sampling import FeasibleRegionSampler

__version__ = "0.1.0"
__all__ = [
    "CertifiedInverse",
    "FeasibleRegionSampler",
    "LinearInverseApprox",
    "NeuralInverseRegressor",
    "SingularDistanceScorer",
]
