"""Learned, approximate and certified matrix inversion for scikit-learn."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .certified._estimator import CertifiedInverse
from .certified._functions import inv, solve
from .certified._rectangular import pinv
from .geometry._sampler import FeasibleRegionSampler
from .learn.free_numbers import StructuredInverse
from .learn.linear import LinearInverseApprox
from .learn.neural import NeuralInverseRegressor
from .learn.polynomial import PolynomialInverseApprox
from .metrics import SingularDistanceScorer

__version__ = "0.2.0"
__all__ = [
    "CertifiedInverse",
    "FeasibleRegionSampler",
    "LinearInverseApprox",
    "NeuralInverseRegressor",
    "PolynomialInverseApprox",
    "SingularDistanceScorer",
    "StructuredInverse",
    "inv",
    "pinv",
    "solve",
]

# Imported when they are first used: `skinv.datasets.load_robot_arm()` needs no import of its own.
_SUBPACKAGES = (
    "bounds",
    "datasets",
    "export",
    "geometry",
    "impossibility",
    "inspection",
    "matrices",
    "metrics",
    "persistence",
    "refinement",
    "structures",
)


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBPACKAGES])


if TYPE_CHECKING:
    from . import bounds as bounds
    from . import datasets as datasets
    from . import export as export
    from . import geometry as geometry
    from . import impossibility as impossibility
    from . import inspection as inspection
    from . import matrices as matrices
    from . import metrics as metrics
    from . import persistence as persistence
    from . import refinement as refinement
    from . import structures as structures
else:  # a type checker would take it for any attribute whatever

    def __getattr__(name: str) -> Any:
        if name in _SUBPACKAGES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
