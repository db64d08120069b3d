"""See what a network has learned: its affine pieces, its errors, its training, its failures."""

from ._displays import (
    CoefficientDisplay,
    ErrorByDistanceDisplay,
    ParetoDisplay,
    SingularSetDisplay,
    TrainingDisplay,
    TruncatedMomentsDisplay,
)
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
