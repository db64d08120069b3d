"""See what a network has learned: its affine pieces, its errors, its training, its failures."""

from ._displays._coefficients import CoefficientDisplay
from ._displays._error_by_distance import ErrorByDistanceDisplay
from ._displays._moments import TruncatedMomentsDisplay
from ._displays._pareto import ParetoDisplay
from ._displays._singular_set import SingularSetDisplay
from ._displays._training import TrainingDisplay
from ._regions import activation_regions

__all__ = [
    "CoefficientDisplay",
    "ErrorByDistanceDisplay",
    "ParetoDisplay",
    "SingularSetDisplay",
    "TrainingDisplay",
    "TruncatedMomentsDisplay",
    "activation_regions",
]


def __dir__() -> list[str]:
    return __all__
