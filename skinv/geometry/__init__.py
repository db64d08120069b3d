"""Distance to the singular matrices, and proofs that a region keeps away from them."""

from ._distance import DistanceBoundWarning, distance_to_singularity, nearest_singular
from ._lifting import nearest_regular
from ._parametric import ParametricFamily
from ._parametric_boxes import family_certificate, largest_regular_box
from ._regularity import region_certificate, region_margin

__all__ = [
    "DistanceBoundWarning",
    "ParametricFamily",
    "distance_to_singularity",
    "family_certificate",
    "largest_regular_box",
    "nearest_regular",
    "nearest_singular",
    "region_certificate",
    "region_margin",
]


def __dir__() -> list[str]:
    return __all__
