"""Families that drift: how many matrices are a long way from a centre, and where it moves to."""

from functools import lru_cache
from operator import is_
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array

from .._arrays.conversion import as_double, to_host
from .._arrays.shapes import as_stack
from .._arrays.validation import take, take_as_is
from .._linalg.inverses import are_regular
from .._linalg.products import dot, product_error
from .._linalg.units import unit_exponents
from ..bounds._residual import measure

# What `partial_fit` leaves on an estimator, and `fit` takes away.
STREAM = ("n_moves_", "long_ways_", "_recent", "_stream_units", "_vicinity", "_memory", "_valid")
_NOT_KEPT = ("_vicinity", "_valid")  # in files and copies
# Matrices of a block that are looked at, at most.
LOOKED_AT = 16
# Earlier matrices that count beside those of a block: so the rule is one for single matrices, too.
_MEMORY = 8
# Vectors of signs that distances are estimated with, each by n² operations per matrix.
_PROBES = 4
# Distance of what is a long way off for a series that stands in for a polynomial.
_SERIES_DISTANCE = 0.2
# The relative error of the inverse of a centre that is to be proven.
_PROVEN = 1e-6


def looked_at(estimator: Any, X: Any) -> NDArray[np.float64]:
    """Return some matrices of a block as a stack of real ones, evenly spaced."""
    if _is_plain(estimator, X):
        return X[:: max(-(-len(X) // LOOKED_AT), 1)]
    X = estimator._squared(X, None, False)[0]
    taken = take_as_is(estimator, X) or take(estimator, X)
    some = taken.numbers[:: max(-(-len(taken.numbers) // LOOKED_AT), 1)]
    if taken.is_complex or some.ndim == 2:
        some = as_stack(taken._replace(numbers=some).rows)
    return to_host(as_double(some))


def _is_plain(estimator: Any, X: Any) -> bool:
    """Tell whether a block is what is looked at as it is: it often is a single matrix."""
    if type(X) is not np.ndarray or X.dtype.char != "d" or X.ndim != 3 or not X.dtype.isnative:
        return False
    n, named = X.shape[1], hasattr(estimator, "feature_names_in_")
    same = X.shape[2] == n and n * n == estimator.n_features_in_
    return same and not named and estimator._shape is None


@lru_cache(maxsize=64)
def _signs(n: int) -> NDArray[np.float64]:
    """Return vectors of signs of a length as columns, the same ones for whoever asks."""
    return np.random.default_rng(0).choice([-1.0, 1.0], (n, _PROBES))


class Vicinity:
    """What there is around a matrix A₀ with the inverse B.

    The distance ‖I − BA‖_F is estimated by the root of the mean of ‖(I − BA)v‖² over vectors v of
    random signs (Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix for
    Laplacian smoothing splines"), in units in which rows and columns are of one size.
    """

    def __init__(self, center: NDArray, inverse: NDArray, units: NDArray):
        self.center, self.inverse, self.units = center, inverse, units
        column, self._signs = units[1][:, None], _signs(len(center))
        self._probes, self._scaled = np.ldexp(self._signs, column), np.ldexp(inverse, -column)

    def effects(self, stack: NDArray) -> NDArray[np.float64]:
        """Return (I − BA)v of each matrix as a row."""
        effects = np.matmul(self._scaled, np.matmul(stack, self._probes))
        return np.subtract(self._signs, effects, out=effects).reshape(len(stack), self._signs.size)

    def distances(self, stack: NDArray) -> NDArray[np.float64]:
        """Return estimates of ‖I − BA‖_F, NaN or inf where they overflow."""
        return _sizes(self.effects(stack))

    def at(self, center: NDArray) -> "Vicinity | None":
        """Return what there is around another matrix, or None if its inverse is not proven."""
        rows, columns = self.units
        A = np.ldexp(center, rows[:, None] + columns)[None]
        try:
            X = np.linalg.inv(A)
        except np.linalg.LinAlgError:
            return None
        if not measure(A, X, product_error(A, X), "fro").bound[0] <= _PROVEN:
            return None
        inverse = np.ldexp(X[0], columns[:, None] + rows)
        return Vicinity(center, inverse, self.units) if np.isfinite(inverse).all() else None


def _sizes(effects: NDArray) -> NDArray[np.float64]:
    """Return the distances that effects are of."""
    return np.sqrt(dot(effects, effects) / _PROBES)


def _destination(
    near: Vicinity, stack: NDArray, effects: NDArray, distances: NDArray, long: NDArray[np.bool_]
) -> Vicinity | None:
    """Return what there is around the middle of a block, if it halves the distance of most of some.

    The middle is the mean of the half that is nearest to the median of (I − BA)v: what there is
    besides, however large, leads nowhere.
    """
    far, m = distances[long], len(stack)

    def halved(left: NDArray) -> bool:
        return 2 * int(np.count_nonzero(2 * left[long] <= far)) > len(far)

    if m > 2:
        ranked = np.sort(effects, axis=0)  # np.median takes several times as long
        off = effects - (ranked[(m - 1) // 2] + ranked[m // 2]) / 2
        half = np.argsort(_sizes(off), kind="stable")[: -(-m // 2)]
        # With the inverse B' of the mean M, I − B'A = (BM)⁻¹B(M − A), so that its norm is at least
        # ‖B(M − A)‖/(1 + ‖I − BM‖): this says of most families that are wide that it is no use.
        share = np.zeros(m)
        share[half] = 1 / len(half)
        center = (share @ stack.reshape(m, -1)).reshape(stack.shape[1:])
        step = share @ effects
        if not halved(_sizes(effects - step) / (1 + _sizes(step[None])[0])):
            return None
    else:
        center = stack.mean(axis=0)
    found = near.at(center)
    return found if found is not None and halved(found.distances(stack)) else None


class FollowsMixin:
    """An estimator with a centre, which follows a stream of matrices."""

    partial_fit: Any
    n_moves_: int
    long_ways_: float
    _recent: int
    _stream_units: NDArray[np.int64]
    _vicinity: Vicinity
    _parameter_constraints: dict[str, list]
    _validate_params: Any
    _valid: list  # parameters, when they last were

    def _validate_changed(self) -> None:
        """Validate parameters if some were set since: it takes twice as long as a look."""
        values = [*map(self.__dict__.get, self._parameter_constraints)]
        known = self.__dict__.get("_valid")
        if known is None or not all(map(is_, values, known)):
            self._validate_params()
            self._valid = values

    def _follow(
        self, center: NDArray, inverse: NDArray, stack: NDArray, radius: float, share: float
    ) -> Vicinity | None:
        """Count the matrices of a block, and return where the centre moves to, if it does."""
        self._start_stream()
        near = self.__dict__.get("_vicinity")
        with np.errstate(all="ignore"):
            if near is None or near.center is not center:
                if "_stream_units" not in self.__dict__:
                    self._stream_units = np.stack(unit_exponents(center, inverse))
                near = self._vicinity = Vicinity(center, inverse, self._stream_units)
            effects = near.effects(stack)
            distances = _sizes(effects)
            finite = distances < np.inf
            if np.count_nonzero(finite) < len(stack):
                stack, effects, distances = stack[finite], effects[finite], distances[finite]
            long = distances > radius
            long_ways = int(np.count_nonzero(long))
            if not self._counted(long_ways, len(stack), share) or long_ways == 0:
                return None
            found = _destination(near, stack, effects, distances, long)
        if found is not None:
            self._moved()
            self._vicinity = found
        return found

    def _start_stream(self) -> None:
        if "_recent" not in self.__dict__:
            self.n_moves_, self.long_ways_, self._recent = 0, 0.0, 0

    def _counted(self, long_ways: int, m: int, share: float) -> bool:
        """Count m matrices, and tell whether too many of the latest ones are long ways off."""
        total = self._recent + m
        if m:
            self.long_ways_ = (self.long_ways_ * self._recent + long_ways) / total
            self._recent = min(total, _MEMORY)
        return m > 0 and self.long_ways_ > share

    def _moved(self) -> None:
        self.n_moves_, self.long_ways_, self._recent = self.n_moves_ + 1, 0.0, 0

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {name: value for name, value in state.items() if name not in _NOT_KEPT}


def _is_series(estimator: Any) -> bool:
    if estimator.method == "taylor":
        return True
    raise AttributeError("partial_fit moves the centre of a series: use method='taylor'.")


class MovingSeriesMixin(FollowsMixin):
    """A series whose centre follows a stream of matrices."""

    max_distance: float
    max_share: float
    method: str
    center_: Any
    inverse_: Any
    fit: Any
    _own: Any
    _set_engine: Any

    @available_if(_is_series)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Look at a block of matrices, and move the centre if too many are a long way from it.

        The first call is that of ``fit``. Later ones look at no more than 16 matrices of a block,
        evenly spaced, and at the share of long ways, matrices with ‖I − A₀⁻¹A‖_F estimated to be
        past `max_distance` (of complex ones those that embed them), among these and the 8 before.
        If it is larger than `max_share` the centre moves to the middle of the block: to the mean of
        the half that is nearest to its median. It stays where it is if that would not halve the
        distances of most long ways, as of a family that is wide but does not drift, and if the
        inverse of the new centre is not proven to 1e-6.
        Matrices that are not finite do not count. Only the matrices given here become centres,
        never what was predicted.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            The latest matrices: one, or a block.
        y : array-like, default=None
            As in ``fit`` by the first call, and ignored by later ones.

        Returns
        -------
        self : LinearInverseApprox

        Raises
        ------
        ValueError
            For a wrong number of features, parameters out of range, and by the first call as
            ``fit``.

        Examples
        --------
        >>> from skinv import LinearInverseApprox
        >>> drifting = np.eye(3) + np.linspace(0, 1, 200)[:, None, None] * np.ones((3, 3))
        >>> model = LinearInverseApprox(order=3)
        >>> for block in drifting.reshape(20, 10, 3, 3):
        ...     model = model.partial_fit(block)
        >>> error = np.abs(model.predict(block) - np.linalg.inv(block)).max()
        >>> model.n_moves_, bool(error < 1e-3)
        (3, True)
        """
        if "inverse_" not in self.__dict__:
            return self.fit(X, y)
        self._validate_changed()
        self._look(X)
        return self

    def _look(self, X: Any) -> None:
        """Look at a block, and move the centre if that is due."""
        state = self.__dict__
        moved = self._follow(
            state["center_"],
            state["inverse_"],
            looked_at(self, X),
            self.max_distance,
            self.max_share,
        )
        if moved is not None:
            self._own(center_=moved.center, inverse_=moved.inverse)
            # These are the ones in memory that nobody can write to.
            moved.center, moved.inverse = state["center_"], state["inverse_"]
            self._set_engine()


class RelearningMixin(FollowsMixin):
    """A model of a family that is fitted anew to the latest matrices of a stream."""

    memory: int
    max_share: float
    _extrapolates: Any
    fit: Any
    _squared: Any
    _inverse_targets: bool
    _n_known: int
    _memory: NDArray
    _map: Any
    _series: Any
    n_features_in_: int

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Remember a block of matrices, and fit the latest ones anew if too many are far off.

        The first call is that of ``fit``. Later ones remember the finite matrices of a block, and
        look at no more than 16 of them, evenly spaced, and at the share of those that extrapolate
        among these and the 8 before. If it is larger than `max_share` the model is fitted to the
        latest `memory` matrices, and so it is while it was fitted to fewer, whenever twice as many
        are known. Matrices that cannot be inverted are left out.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            The latest matrices, or features: one, or a block.
        y : array-like of shape (n_samples, n_targets) or (n_samples,), default=None
            Targets, if there were some in ``fit`` that are not the inverses, which are computed.

        Returns
        -------
        self : PolynomialInverseApprox

        Raises
        ------
        ValueError
            For a wrong number of features, parameters out of range, for targets that are not
            finite, that do not match or are missing, and by the first call as ``fit``.

        Examples
        --------
        >>> from skinv import PolynomialInverseApprox
        >>> drifting = np.eye(3) + np.linspace(0, 9, 300)[:, None, None] * np.ones((3, 3))
        >>> model = PolynomialInverseApprox(memory=64)
        >>> for block in drifting.reshape(30, 10, 3, 3):
        ...     model = model.partial_fit(block)
        >>> error = np.abs(model.predict(block) - np.linalg.inv(block)).max()
        >>> bool(error < 1e-3)
        True
        """
        if not self.__sklearn_is_fitted__():  # type: ignore[attr-defined]
            return self.fit(X, y)
        self._validate_changed()
        X = self._squared(X, None, False)[0]
        taken = take_as_is(self, X) or take(self, X)
        rows = to_host(as_double(taken.rows)).reshape(len(taken.numbers), self.n_features_in_)
        finite, parts = np.isfinite(rows).all(axis=1), [rows]
        if not self._inverse_targets:
            parts += self._targets_of(y, len(rows))
        block = np.hstack(parts)[finite]
        self._start_stream()
        if not len(block):
            return self
        before = self.__dict__.get("_memory", block[:0])
        self._memory = np.concatenate([before, block])[-int(self.memory) :]
        some, moves = rows[finite][:: -(-len(block) // LOOKED_AT)], self.n_moves_
        if self._map is None:
            center, inverse = self._series
            stack = as_stack(some)
            moved = self._follow(center, inverse, stack, _SERIES_DISTANCE, self.max_share)
            far = moved is not None
        else:
            far = self._counted(int(self._extrapolates(some).sum()), len(some), self.max_share)
        grown = self._n_known < self.memory and len(self._memory) >= 2 * self._n_known
        if (far or grown) and self._learned_anew():
            self.n_moves_ = moves
            self._moved()
        return self

    def _targets_of(self, y: Any, m: int) -> list[NDArray]:
        if y is None:
            raise ValueError(
                f"Got no targets, but {type(self).__name__} was fitted to others than inverses: "
                f"pass y."
            )
        y = check_array(to_host(y), dtype=np.float64, ensure_2d=False, input_name="y")
        y = y.reshape(len(y), -1)
        if len(y) != m:
            raise ValueError(f"Got {m} matrices and {len(y)} targets, but one each is expected.")
        known = self._map.n_outputs
        if y.shape[1] != known:
            raise ValueError(
                f"Got {y.shape[1]} numbers as the target of each matrix, but "
                f"{type(self).__name__} was fitted to {known}."
            )
        return [y]

    def _learned_anew(self) -> bool:
        """Fit the model to what is remembered, and tell whether that could be."""
        known, d = self._memory, self.n_features_in_
        if self._inverse_targets:
            known = known[are_regular(known)]
        if not len(known):
            return False
        rows, targets = known[:, :d], known[:, d:]
        fresh = clone(self)
        try:
            fresh.fit(rows, None if self._inverse_targets else targets)
        except ValueError:  # few matrices, whose mean is singular
            return False
        kept = {"_y_ndim", "_fitted_dtype", "_shape", *fresh.get_params()}
        self.__dict__.pop("_vicinity", None)
        self.__dict__.update((k, v) for k, v in vars(fresh).items() if k not in kept)
        return True
