"""Distance to the singular matrices, and proofs that a region keeps away from them."""

from ._distance import DistanceBoundWarning, distance_to_singularity, nearest_singular
from ._lifting import nearest_regular
from ._regularity import region_certificate, region_margin

__all__ = [
    "DistanceBoundWarning",
    "distance_to_singularity",
    "nearest_regular",
    "nearest_singular",
    "region_certificate",
    "region_margin",
]


def __dir__() -> list[str]:
    return __all__
