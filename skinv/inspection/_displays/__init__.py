"""The plots, one file each, after scikit-learn's displays: data in, `plot` draws, `ax` optional."""

from ._coefficients import CoefficientDisplay
from ._error_by_distance import ErrorByDistanceDisplay
from ._moments import TruncatedMomentsDisplay
from ._pareto import ParetoDisplay
from ._singular_set import SingularSetDisplay
from ._training import TrainingDisplay

__all__ = [
    "CoefficientDisplay",
    "ErrorByDistanceDisplay",
    "ParetoDisplay",
    "SingularSetDisplay",
    "TrainingDisplay",
    "TruncatedMomentsDisplay",
]
