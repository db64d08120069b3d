"""A fitted region: its shape, the structure of its matrices, and the proof that goes with it."""

import copy
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._arrays.results import RegionCertificate
from ..persistence import Fitted, PersistentMixin
from ..structures import Structure
from ._regions import SHAPES, Ellipsoid, Region
from ._regularity import region_certificate
from ._rounding import TINY


class FittedRegion(PersistentMixin):
    """What drawing from a region and testing matrices for it have in common."""

    center_ = Fitted()
    radius_ = Fitted()
    axes_ = Fitted()
    thickness_ = Fitted()

    n_features_in_: int
    _is_complex: bool
    _is_symmetric: bool
    _norm: str
    _min_distance: float
    _rng: np.random.RandomState

    @property
    def _structure(self) -> Structure | None:
        """The structure of the matrices that are feasible."""
        if not (self._is_complex or self._is_symmetric):
            return None
        return Structure.of(
            self.n_features_in_, complex=self._is_complex, symmetric=self._is_symmetric
        )

    @property
    def _region(self) -> Region:
        """The fitted region, rebuilt from the public attributes."""
        check_is_fitted(self)
        center, radius, norm = self.center_.ravel(), self.radius_, self._norm
        if norm == "mahalanobis":
            return Ellipsoid(center, radius, self.axes_, self.thickness_)
        return SHAPES[norm](center, radius if np.ndim(radius) == 0 else radius.ravel())

    @property
    def _distance_norm(self) -> str:
        """The norm in which `min_distance` is measured."""
        return "l2" if self._norm == "mahalanobis" else self._norm

    def _proof_of(self, name: str) -> RegionCertificate:
        """Return the proof that an attribute is part of, worked out anew after loading a file."""
        if "center_" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no {name} before it is fit.")
        if "_proof" not in self.__dict__:
            self._proof = self._prove()
        return self._proof

    def _prove(self) -> RegionCertificate:
        keep = self._min_distance
        if self._norm == "mahalanobis":
            keep += max(self.thickness_ * self.radius_, TINY)
        axes = getattr(self, "axes_", None)
        return region_certificate(self.center_, self.radius_, self._norm, keep, axes=axes)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_proof", None)
        return state

    @property
    def certificate_(self) -> RegionCertificate:
        """The test that decided, with its numbers."""
        return copy.deepcopy(self._proof_of("certificate_"))

    @property
    def distance_(self) -> float:
        """Distance of the centre to the singular matrices."""
        return self._proof_of("distance_").distance

    @property
    def margin_(self) -> float:
        """What is left of the distance between the region and the singular matrices."""
        return self._proof_of("margin_").margin

    @property
    def is_certified_(self) -> bool:
        """Whether the region provably keeps more than `min_distance`."""
        return self._proof_of("is_certified_").is_certified
