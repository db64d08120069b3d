"""Learned, approximate and certified matrix inversion for scikit-learn."""

from .linear import LinearInverseApprox
from .metrics import SingularDistanceScorer
from .neural import NeuralInverseRegressor
from .sampling import FeasibleRegionSampler

__version__ = "0.1.0"
__all__ = [
    "FeasibleRegionSampler",
    "LinearInverseApprox",
    "NeuralInverseRegressor",
    "SingularDistanceScorer",
]
