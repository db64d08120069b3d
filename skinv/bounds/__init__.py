"""Proven bounds on the error of one inverse, of the Taylor series, and of a model on a region."""

from ._region import certify_region
from ._residual import residual_bound
from ._taylor import taylor_bound

__all__ = ["certify_region", "residual_bound", "taylor_bound"]


def __dir__() -> list[str]:
    return __all__
