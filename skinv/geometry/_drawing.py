"""A fitted region, the proof that goes with it, and samples that are uniform in it."""

import copy
from numbers import Integral
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .._arrays.blocks import sample_by_blocks
from .._arrays.conversion import namespace
from .._arrays.results import RegionCertificate
from .._arrays.words import Norm, RegionNorm
from .._linalg.draws import DeviceDraws, HostDraws
from .._linalg.products import exact_pseudo_inverse
from ..persistence import Fitted, PersistentMixin
from ..structures import Structure
from ._distance import distance_to_singularity
from ._enclosure import common_units
from ._regions import SHAPES, Draws, Ellipsoid, Region
from ._regularity import prove_region
from ._shapes import Shape

# A region of which less than this share is at least min_distance from singular is refused.
_MIN_ACCEPTANCE = 1e-3


class FittedRegion(PersistentMixin):
    """What drawing from a region and testing matrices for it have in common."""

    center_ = Fitted()
    radius_ = Fitted()
    axes_ = Fitted()
    thickness_ = Fitted()

    n_features_in_: int
    _is_complex: bool
    _is_symmetric: bool
    _norm: RegionNorm
    _min_distance: float
    _rng: np.random.RandomState

    @property
    def _structure(self) -> Structure | None:
        """The structure of the matrices that are feasible."""
        return self._structure_of(self.center_.shape)

    def _structure_of(self, shape: Shape) -> Structure | None:
        if not (self._is_complex or self._is_symmetric):
            return None
        return Structure.of(
            self.n_features_in_,
            complex=self._is_complex,
            symmetric=self._is_symmetric,
            shape=shape,
        )

    def _stack(self, rows: Any) -> Any:
        """View rows as a stack of the region's matrices."""
        return rows.reshape(len(rows), *self.center_.shape)

    @property
    def _region(self) -> Region:
        """The fitted region, rebuilt from the public attributes."""
        check_is_fitted(self)
        center, radius, norm = self.center_.ravel(), self.radius_, self._norm
        if norm == "mahalanobis":
            return Ellipsoid(center, radius, self.axes_, np.ravel(self.thickness_))
        return SHAPES[norm](center, radius if np.ndim(radius) == 0 else radius.ravel())

    @property
    def _distance_norm(self) -> Norm:
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
        of_ellipsoid = (self.axes_, self.thickness_) if self._norm == "mahalanobis" else ()
        return prove_region(
            self.center_, self.radius_, self._norm, self._min_distance, *of_ellipsoid
        )

    def _keeps_distance(self, rows: NDArray) -> NDArray[np.bool_]:
        """Tell which matrices are regular and at least `min_distance` from singular ones."""
        rows = rows.astype(np.float64, copy=False)
        if not self._min_distance:  # whether they are regular is no matter of units
            power = self._own_power()
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                scaled = np.ldexp(rows, power)
                same = (np.ldexp(scaled, -power) == rows).all(axis=1, keepdims=True)
            rows = np.where(same, scaled, rows)
        return keeps_distance(self._stack(rows), self._distance_norm, self._min_distance)

    def _own_power(self) -> NDArray[np.int64]:
        """Return the exponents of powers of two that make entries of one size, as a row."""
        if "_power" not in self.__dict__:
            self._power = entry_units(self.center_)
        return self._power

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_proof", "_power"):
            state.pop(name, None)
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


class DrawsMixin(FittedRegion):
    """A fitted region that samples are drawn from."""

    @overload
    def sample(
        self, n_samples: int = ..., *, return_inverse: Literal[True] = ..., dtype: Any = ...
    ) -> tuple[NDArray, NDArray]: ...
    @overload
    def sample(
        self, n_samples: int = ..., *, return_inverse: Literal[False], dtype: Any = ...
    ) -> NDArray: ...
    @overload
    def sample(
        self,
        n_samples: int = ...,
        *,
        return_inverse: bool = ...,
        device: Any = ...,
        dtype: Any = ...,
        chunks: Any = ...,
    ) -> Any: ...
    def sample(
        self,
        n_samples: int = 1,
        *,
        return_inverse: bool = True,
        device: Any = None,
        dtype: Any = None,
        chunks: Any = None,
    ) -> Any:
        """Draw matrices uniform in the region, and invert them exactly.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        return_inverse : bool, default=True
            Whether to return their inverses too.
        device : str or torch.device, default=None
            Draw there and return torch tensors; None returns NumPy arrays.
        dtype : dtype, default=None
            A NumPy dtype, or a torch dtype with `device`; None is float64. Drawing and inverting
            are done in float64 and rounded.
        chunks : int, tuple of int or str, default=None
            Rows of a block, or of each block, or what else dask understands ("auto", "100 MiB"):
            then X and Y are dask arrays, whose blocks are drawn when they are computed, X and Y of
            a block together. Each block has a stream of its own, seeded from that of the sampler
            now: the samples depend on the chunks, and on nothing else.

        Returns
        -------
        X, Y : ndarrays, tensors or dask arrays of shape (n_samples, n*n)
            Matrices, and, only if `return_inverse`, their inverses; of matrices (m, n) that are not
            square their m*n entries, and those of their pseudo-inverses (n, m). In an uncertified
            region matrices closer than `min_distance` to a singular one are rejected, on the host.

        Raises
        ------
        ValueError
            If `n_samples` is not positive, for `chunks` with a `device`, a device or dtype that
            there is not, or if hardly any of the region keeps `min_distance`.
        ImportError
            For `chunks` without dask.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 1:
            raise ValueError(f"Got n_samples={n_samples!r}, but a positive integer is expected.")
        if device is not None and chunks is not None:
            raise ValueError(
                f"Got device={device!r} with chunks={chunks!r}, whose blocks are NumPy arrays: "
                f"leave one of them out."
            )
        if device is not None:
            X = self._draw_on_device(n_samples, device, dtype)
        else:
            kind = _floating(dtype)
            if chunks is not None:
                return sample_by_blocks(self, n_samples, chunks, return_inverse, kind)
            X = self._draw_rows(n_samples).astype(kind, copy=False)
        if not return_inverse:
            return X
        # The inverse belongs to the matrix that is returned, rounding included.
        inverse = exact_pseudo_inverse(self._stack(X)).reshape(X.shape)
        return X, namespace(X).astype(inverse, X.dtype, copy=False)

    def _draw_on_device(self, n_samples: int, device: Any, dtype: Any) -> Any:
        """Draw rows on a device, or on the host if some may have to be rejected."""
        import torch

        seed = int(self._rng.randint(2**31))
        try:
            draws = DeviceDraws(seed, device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"Got device={device!r}, but one that torch has here is expected, such as 'cpu'."
            ) from error
        if self.is_certified_:
            rows = self._draw(n_samples, draws)
        else:
            rows = draws.asarray(self._draw_rows(n_samples))
        dtype = torch.float64 if dtype is None else dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(
                f"Got dtype={dtype!r} with device={device!r}, but a floating-point one of torch is "
                f"expected then, such as torch.float32."
            )
        return rows.to(dtype)

    def _draw(self, n_samples: int, draws: Draws) -> Any:
        """Draw rows uniform in the region, singular ones among them."""
        region, structure = self._region, self._structure
        center = draws.asarray(region.center)
        if structure is None:
            return center + region.draw(n_samples, draws)
        if isinstance(region, Ellipsoid):  # that of structured data
            return structure.project(center + region.draw(n_samples, draws))
        center = structure.pack(center[None])
        return structure.unpack(center + region.packed(structure, n_samples, draws))

    def _draw_rows(self, n_samples: int) -> NDArray[np.float64]:
        """Draw on the host, rejecting what is too close to a singular matrix."""
        draws = HostDraws(self._rng)
        if self.is_certified_:
            return self._draw(n_samples, draws)
        kept: list[NDArray] = []
        n_kept = n_tried = 0
        while n_kept < n_samples:
            size = max(n_samples - n_kept, 256)
            block = self._draw(size, draws)
            block = block[self._keeps_distance(block)]
            kept.append(block)
            n_kept += len(block)
            n_tried += size
            if n_kept < _MIN_ACCEPTANCE * n_tried and n_tried > 10 / _MIN_ACCEPTANCE:
                raise ValueError(
                    f"Of {n_tried} matrices drawn from the region only {n_kept} are regular and at "
                    f"least min_distance={self._min_distance}, in the units of their entries, from "
                    f"a singular one; use a smaller radius or min_distance."
                )
        return np.concatenate(kept)[:n_samples]


def _floating(dtype: Any) -> np.dtype:
    """Return a floating-point dtype of NumPy, float64 for None, or raise a ValueError."""
    try:
        found = np.dtype(np.float64 if dtype is None else dtype)
    except TypeError:
        found = np.dtype(object)
    if found.kind != "f":
        raise ValueError(
            f"Got dtype={dtype!r}, but a floating-point one of NumPy is expected, such as "
            f"numpy.float32."
        )
    return found


def entry_units(center: NDArray) -> NDArray[np.int64]:
    """Return a row of exponents of powers of two that bring a matrix to common units."""
    rows, columns = common_units(center)
    return np.asarray(rows[:, None] + columns, dtype=np.int64).ravel()


def keeps_distance(stack: NDArray, norm: Norm, min_distance: float) -> NDArray[np.bool_]:
    """Tell which matrices of a stack are regular and at least `min_distance` from singular ones.

    Regular are those that can be shown to be. Cheap bounds decide most: d_linf <= d_l2, and
    1 / Σ|A⁻¹| <= d_linf. In linf for n > 20, and in l1 and linf for matrices that are not square,
    only the lower bound counts.
    """
    smallest = distance_to_singularity(stack, "l2")
    keep = smallest > 0
    if not min_distance:
        return keep
    if norm != "l1":
        keep &= smallest >= min_distance
    if norm == "l2":
        return keep
    unsure = np.flatnonzero(keep)
    if norm == "linf":
        with np.errstate(over="ignore"):
            cheap = 1.0 / np.abs(exact_pseudo_inverse(stack[unsure])).sum(axis=(1, 2))
        unsure = unsure[~(cheap >= min_distance)]
    if unsure.size:
        bounds = distance_to_singularity(stack[unsure], norm, return_bounds=True)
        keep[unsure] = bounds.lower >= min_distance
    return keep


def check_sampler(sampler: Any) -> None:
    """Refuse what is no fitted sampler of a region of square matrices."""
    if not hasattr(sampler, "on_infeasible"):
        raise ValueError(
            f"Got a {type(sampler).__name__} as the region, but a fitted FeasibleRegionSampler is "
            f"expected."
        )
    check_is_fitted(sampler)
    m, n = sampler.center_.shape
    if m != n:
        raise ValueError(
            f"Got a region of matrices of shape ({m}, {n}), but one of square ones is expected. Of "
            f"this estimators are fitted to samples, X.reshape(-1, {m}, {n}) for X of "
            f"sample(...), and answers are proven one by one, by CertifiedInverse or skinv.pinv."
        )
