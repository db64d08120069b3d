"""FeasibleRegionSampler: a region of matrices that keeps its distance from the singular ones."""

from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.metaestimators import available_if

from .._arrays.blocks import by_blocks
from .._arrays.conversion import as_given, is_complex, is_dask, real_array, to_host
from .._arrays.embedding import embed_complex, extract_complex
from .._arrays.projected import moved_rows, remember, warn_of_projection
from .._arrays.shapes import Layout, warn_of_single
from .._arrays.training import training_rows
from .._arrays.validation import validate_rows
from .._arrays.words import RegionNorm
from .._linalg.draws import private_generator
from ..structures import Structure, refuse_unstructured
from ._drawing import DrawsMixin, entry_units
from ._membership import MembershipMixin
from ._regions import SHAPES, Ellipsoid, Region, principal_axes
from ._rounding import EPS
from ._shapes import Shape, find_center, matrix_rows, warn_of_flattening

__all__ = ["FeasibleRegionSampler"]


class FeasibleRegionSampler(
    DrawsMixin, MembershipMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator
):
    """Sample, test and project matrices of a region that holds no singular matrix.

    A learned inverse can be trusted only on a region that keeps its distance from the singular
    matrices. This estimator fits such a region around a centre, proves the distance where it can,
    draws training matrices from it, and tells of new matrices whether they lie in it.

    Parameters
    ----------
    center : array-like of shape (n, n) or (n*n,), or (m, n), default=None
        Centre of the region. None takes the mean of the data.
    radius : float, array-like of shape (n, n) or (m, n), or "data", default="data"
        Radius in `norm`; an array gives half-widths per entry (``norm="linf"`` only); "data" is the
        smallest region of that norm around the centre that holds the data (per entry in linf).
    norm : {"linf", "l2", "l1", "mahalanobis"}, default="linf"
        Norm of the flattened difference to the centre: a box, a ball, or the ellipsoid of the
        data's covariance. The ellipsoid has the rank of the data; real families of matrices vary
        in few directions, and networks trained there are far more accurate than in the box.
    min_distance : float, default=0.0
        Distance to keep from the singular matrices, in `norm` (in l2 for "mahalanobis") and in the
        units of the entries: where these differ, the smallest decide.
    on_infeasible : {"nan", "project", "raise", "warn", "drop"}, default="nan"
        What ``transform`` does with matrices outside: replace them by NaN, which skinv's regressors
        leave out, with a warning, when they are fitted, and answer by NaN; move them to the nearest
        point of the region in its norm; raise; or warn and pass them on. With "drop" there is no
        ``transform``, which may not change the number of rows: that makes the estimator a sampler
        for imbalanced-learn's pipelines, which call ``fit_resample`` while fitting and pass by when
        predicting.
    structure : {"symmetric"} or None, default=None
        "symmetric" leaves only the symmetric matrices of the region, or of complex ones the
        Hermitian: those are drawn, uniformly, and no others are feasible. Of a certified region
        around a positive definite centre they are all positive definite.
    random_state : int, RandomState instance or None, default=None
        Seeds the stream of samples. The stream starts at ``fit`` and goes on from call to call, so
        two calls of ``sample`` give different matrices, and the same calls after another ``fit``
        the same.

    Attributes
    ----------
    center_ : ndarray of shape (n, n) or (m, n)
        The centre; of complex matrices its real embedding, of twice their order, as in all that
        follows. It and all below but the last are read-only, as proofs rest on them.
    radius_ : float or ndarray of the shape of ``center_``
        The radius, or the half-widths.
    axes_ : ndarray of shape (rank, n_features)
        Semi-axes of the ellipsoid of radius 1, perpendicular to each other in the units of
        ``thickness_``. Only for ``norm="mahalanobis"``.
    thickness_ : ndarray of the shape of ``center_``
        Standard deviation granted to directions in which the data do not vary, a numerical
        tolerance, in the units of each entry. Only for ``norm="mahalanobis"``.
    distance_ : float
        Distance of the centre to the singular matrices in `norm`; a proven lower bound in linf for
        n > 20, in linf and l1 for matrices that are not square, and for "mahalanobis".
    margin_ : float
        Proven lower bound on what is left of the distance between the region and the singular
        matrices after `min_distance`; negative: not proven.
    is_certified_ : bool
        Whether the region provably keeps more than `min_distance`.
    certificate_ : RegionCertificate
        The test that decided, with its numbers; see :func:`skinv.geometry.region_certificate`.
    n_features_in_ : int
        n*n, or m*n.

    See Also
    --------
    skinv.geometry.region_certificate : The proofs.
    skinv.NeuralInverseRegressor.fit_sampler : Train on fresh samples.

    Notes
    -----
    The box is the feasible region of Ji, Wu and Xi (2025), "Rethinking Neural-based Matrix
    Inversion: Why can't, and Where can". Of an uncertified region every sample is tested by itself.

    Units of rows and columns do not matter for boxes with half-widths per entry and ellipsoids:
    directions, membership and, with ``min_distance=0``, certificates are those of matrices scaled
    by powers of two to a common size. Radii of balls, `min_distance` and `margin_` are in the units
    of the entries.

    Matrices (m, n) that are not square are taken as stacks, and as rows where `center` has their
    shape or they are what the region was fitted to. Where singular matrices are spoken of, those
    without full rank are meant, samples come with pseudo-inverses, and proofs are sufficient only:
    more of these regions are not certified than need be. There is no `structure`.

    With ``on_infeasible="project"`` in a pipeline before a regressor leave `y` out, so that the
    inverses learned are those of the projected matrices.

    A region of complex matrices (fitted to a complex stack, or around a complex centre) consists of
    the embeddings in a region of real matrices of twice the order
    (:func:`skinv.matrices.embed_complex`): norms and distances are those of the embedding, and
    samples are its rows (for :func:`skinv.matrices.extract_complex`).

    Examples
    --------
    >>> sampler = FeasibleRegionSampler([[3.0, 1.0], [1.0, 2.0]], 0.5, random_state=0).fit()
    >>> sampler.is_certified_, round(sampler.margin_, 4)
    (True, 0.2143)
    >>> X, Y = sampler.sample(5)
    >>> X.shape, Y.shape
    ((5, 4), (5, 4))
    >>> sampler.transform([[3.0, 1.0, 1.0, 9.0], [3.0, 1.0, 1.0, 2.2]])
    array([[nan, nan, nan, nan],
           [3. , 1. , 1. , 2.2]])
    >>> np.array(sampler.set_params(on_infeasible="project").transform([[3.0, 1.0, 1.0, 9.0]]))
    array([[3. , 1. , 1. , 2.5]])

    Jacobians with a column more than rows, in a box that holds none without full rank:

    >>> wide = FeasibleRegionSampler([[3.0, 1.0, 0.0], [1.0, 2.0, 1.0]], 0.5, random_state=0).fit()
    >>> wide.is_certified_, wide.is_feasible([[[3.4, 1.0, 0.0], [1.0, 2.0, 1.6]]])
    (True, array([False]))
    >>> J, P = wide.sample(5)  # rows of matrices (2, 3) and of their pseudo-inverses (3, 2)
    >>> np.allclose(J.reshape(5, 2, 3) @ P.reshape(5, 3, 2), np.eye(2))
    True
    """

    _parameter_constraints: dict[str, list] = {
        "center": ["array-like", None],
        "radius": [Interval(Real, 0, None, closed="left"), "array-like", StrOptions({"data"})],
        "norm": [StrOptions(set(SHAPES))],
        "min_distance": [Interval(Real, 0, None, closed="left")],
        "on_infeasible": [StrOptions({"nan", "project", "raise", "warn", "drop"})],
        "structure": [StrOptions({"symmetric"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        center: ArrayLike | None = None,
        radius: ArrayLike = "data",
        *,
        norm: RegionNorm = "linf",
        min_distance: float = 0.0,
        on_infeasible: Literal["nan", "project", "raise", "warn", "drop"] = "nan",
        structure: Literal["symmetric"] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.center = center
        self.radius = radius
        self.norm = norm
        self.min_distance = min_distance
        self.on_infeasible = on_infeasible
        self.structure = structure
        self.random_state = random_state

    def fit(self, X: Any = None, y: Any = None) -> "FeasibleRegionSampler":
        """Fit the region to matrices, or set it up from `center` and `radius` alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n) or (n_samples, m, n), default=None
            Matrices. May be left out if `center` and `radius` are given and the norm is not
            "mahalanobis".
        y : object
            Ignored, but that no :class:`~skinv.matrices.AmbiguousShapeWarning` is given with it.

        Returns
        -------
        self : FeasibleRegionSampler

        Raises
        ------
        ValueError
            For rows that are no square matrices, nor of the shape of the centre, or not finite, a
            singular centre, a negative radius, or if data are needed and missing.

        Warns
        -----
        AmbiguousShapeWarning
            If `X` could be a single matrix.
        """
        with training_rows(X) as (X,):
            return self._fit(X, y)

    def _fit(self, X: Any, y: Any) -> "FeasibleRegionSampler":
        self._validate_params()
        rows, eps, shape = None, EPS, None
        self._is_complex = self.center is not None and is_complex(self.center)
        self._is_symmetric = self.structure == "symmetric"
        if X is None:
            self.__dict__.pop("feature_names_in_", None)  # of an earlier fit
        else:
            rows, layout, shape = matrix_rows(to_host(X))
            self._is_complex |= layout == Layout.COMPLEX
            rows = validate_rows(self, rows, reset=True, square=False)
            eps = float(np.finfo(rows.dtype).eps)
            rows = rows.astype(np.float64, copy=False)
        matrix = find_center(self.center, rows, shape, embed=self._is_complex)
        shape, center = matrix.shape, matrix.ravel()
        if self._is_symmetric and shape[0] != shape[1]:
            raise ValueError(
                f"Got structure='symmetric' for matrices of shape {shape}, but symmetric ones are "
                f"square: leave structure out."
            )
        self.n_features_in_ = center.size
        power = entry_units(matrix)
        structure = self._structure_of(shape)
        if structure is not None:
            if rows is not None:
                refuse_unstructured(structure, rows, power=power)
            refuse_unstructured(structure, center[None], "The center, as a matrix", power)
            center = structure.project(center[None])[0]
            rows = None if rows is None else structure.project(rows)
        region = _find_region(center, self.radius, self.norm, rows, eps, structure, power, shape)

        for name in ("axes_", "thickness_", "_proof", "_power"):  # of an earlier fit
            self.__dict__.pop(name, None)
        radius = region.radius if np.ndim(region.radius) == 0 else region.radius.reshape(shape)
        self._own(center_=center.reshape(shape), radius_=radius)
        if isinstance(region, Ellipsoid):
            self._own(axes_=region.axes, thickness_=region.thickness.reshape(shape))
        self._norm = self.norm
        self._min_distance = float(real_array(self.min_distance, "min_distance"))
        self._rng = private_generator(self.random_state)
        self._proof = self._prove()
        if self.center is None and y is None:
            warn_of_single(X)
        return self

    def transform(self, X: Any) -> Any:
        """Treat the matrices outside the region as `on_infeasible` says.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features) or (n_samples, n, n)
            Matrices, or (n_samples, m, n).

        Returns
        -------
        ndarray or tensor of the shape of `X`
            Matrices in the region come back as they were, in memory of their own and the layout
            they came in (rows where ``set_output`` asks for a data frame). The region is tested on
            the host; of a dask array later, block by block. Where matrices were projected the
            result remembers which, and :class:`CertifiedInverse` refuses to prove anything of them
            (a copy forgets it); data frames and dask arrays do not, which a warning says.

        Raises
        ------
        ValueError
            With ``on_infeasible="raise"`` for any matrix that is not feasible, and with "warn" for
            those that hold NaN or infinity. The rows are named.
        """
        if is_dask(X):
            return by_blocks(self, "transform", X)
        rows, layout = self._validated(X)
        treated, moved = self._treat(rows)
        moved = np.union1d(moved, moved_rows(X))
        if _get_output_config("transform", self)["dense"] != "default":
            if moved.size:
                warn_of_projection(moved)
            if layout != Layout.ROWS:
                warn_of_flattening(self.center_.shape)
            return treated  # what makes data frames takes no tensors
        result = as_given(self._restored(treated, layout), X)
        return remember(result, moved) if moved.size else result

    def _restored(self, rows: NDArray, layout: Layout) -> NDArray:
        """Give rows back as matrices came."""
        if layout == Layout.ROWS:
            return rows
        stack = self._stack(rows)
        restored: NDArray = extract_complex(stack) if layout == Layout.COMPLEX else stack
        return restored

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = self.on_infeasible == "nan"
        return tags


def _find_region(
    center: NDArray,
    radius: Any,
    norm: str,
    rows: NDArray | None,
    eps: float,
    structure: Structure | None,
    power: NDArray,
    shape: Shape,
) -> Region:
    """Return the region around a centre, the smallest that holds the rows for the radius "data".

    Entries times 2^power are of a common size.
    """
    from_data = isinstance(radius, str)
    if rows is None and (norm == "mahalanobis" or from_data):
        raise ValueError(
            f"A region with radius={radius!r} and norm={norm!r} is made from data, "
            f"and there are none: pass matrices to fit, or a number as radius in another norm."
        )
    size: Any = 0.0 if from_data else _check_radius(radius, norm, shape)
    if np.ndim(size) and structure is not None:
        size = structure.smallest(size)
    if norm == "mahalanobis":
        region: Region = Ellipsoid(center, size, *principal_axes(rows - center, eps, power))
    else:
        region = SHAPES[norm](center, size)
    return region.enclosing(rows - center) if from_data else region


def _check_radius(given: Any, norm: str, shape: Shape) -> Any:
    """Return a radius as a number, or half-widths as a row."""
    radius = to_host(given)
    if is_complex(radius):  # half-widths of real and imaginary parts
        (radius,) = embed_complex(np.asarray(radius)[None])
        m, n = (k // 2 for k in radius.shape)
        radius[:m, n:] *= -1
    else:
        radius = real_array(radius, "radius")
    if radius.ndim and (norm != "linf" or radius.shape not in (shape, (shape[0] * shape[1],))):
        raise ValueError(
            f"Got a radius of shape {radius.shape} with norm={norm!r}, but "
            f"half-widths per entry go with norm='linf' and have the shape of the center; "
            f"of complex matrices they are complex, for real and imaginary parts."
        )
    if not (np.isfinite(radius).all() and (radius >= 0).all()):
        raise ValueError(f"Got radius={given}, but it must be finite and >= 0.")
    return radius.ravel() if radius.ndim else float(radius)


# imbalanced-learn refuses steps with both transform and fit_resample, so "drop" hides the former.
# Done here, around what set_output wrapped when the class was made.
for _name in ("transform", "fit_transform"):
    _method = getattr(FeasibleRegionSampler, _name)
    _available = available_if(lambda sampler: sampler.on_infeasible != "drop")
    setattr(FeasibleRegionSampler, _name, _available(_method))
