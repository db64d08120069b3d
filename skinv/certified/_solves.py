"""Solutions of linear systems, for :class:`skinv.CertifiedInverse`."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from .._arrays.blocks import by_blocks
from .._arrays.conversion import (
    as_double,
    in_library_of,
    is_dask,
    is_tensor,
    namespace,
    not_a_number,
)
from .._arrays.memory import host_view, warn_of_gradients
from .._arrays.projected import moved_rows
from .._linalg.norms import finite_rows
from .._linalg.products import exact_inverse
from .._linalg.threads import in_threads
from .._linalg.workspace import every, full, indices
from ..geometry._sampler import FeasibleRegionSampler
from ._anchor import Anchor
from ._fitting import final_of
from ._guesses import guess
from ._iteration import blocks_of, moderate_columns, solve_exactly, solve_near, solve_with
from ._proofs import open_rows
from ._radius import bound_of_radius, radius_near, radius_with
from ._sides import right_hand_sides, rounded_solution, take_better, unknown


def _by_pieces(solve: Callable, b: Any) -> tuple[Any, Any]:
    """Return solutions and bounds, piece by piece in threads."""
    blocks = list(blocks_of(len(b), b))
    if len(blocks) == 1:
        return solve(blocks[0])
    x, bound = unknown(b)

    def work(rows: slice) -> None:
        x[rows], bound[rows] = solve(rows)

    in_threads(work, blocks, b)
    return x, bound


class SolvesMixin:
    """A regressor of inverses whose answers are proven, which solves linear systems by them."""

    estimator_: Any
    family: Any
    tol: float
    fallback: str
    _shape: tuple[int, int] | None
    _ready: Any
    _refuse: Any
    _take: Any

    @overload
    def solve(self, X: NDArray, b: NDArray, return_bound: Literal[False] = ...) -> NDArray: ...
    @overload
    def solve(
        self, X: NDArray, b: NDArray, return_bound: Literal[True]
    ) -> tuple[NDArray, NDArray[np.float64]]: ...
    @overload
    def solve(self, X: Any, b: Any, return_bound: Literal[True]) -> tuple[Any, Any]: ...
    @overload
    def solve(self, X: Any, b: Any, return_bound: bool = ..., return_radius: bool = ...) -> Any: ...
    def solve(self, X: Any, b: Any, return_bound: bool = False, return_radius: bool = False) -> Any:
        """Solve A x = b for each matrix, with proven errors and without forming A⁻¹.

        Near the centre of the regressor (that of :class:`LinearInverseApprox`, the first
        :class:`FeasibleRegionSampler` of a pipeline, or else the mean of the matrices given to
        ``fit``) the inverse of the centre serves all: O(n²) operations per matrix and step.
        Elsewhere the prediction is tried, and then the fallback.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n*n) or (n_samples, n, n)
            Matrices.
        b : array-like or tensor of shape (n_samples, n) or (n_samples, n, k)
            One right-hand side per matrix, or k of them.
        return_bound : bool, default=False
            Whether to return the bounds too.
        return_radius : bool, default=False
            Whether to return bounds of every entry too. They take several times as long as
            solutions, and may sharpen the bounds of norms.

        Returns
        -------
        x : ndarray or tensor of the shape of `b`
            Solutions, in the dtype of `X` and `b` if both have the same floating-point one, else in
            float64; NaN for matrices or right-hand sides that are not finite, where nothing is
            proven (unless ``fallback="keep"``), and with ``fallback="nan"`` where `tol` could not
            be proven.
        bound : ndarray or tensor of shape (n_samples,) or (n_samples, k), float64
            Proven upper bounds of ‖x − A⁻¹b‖₂ / ‖x‖₂, inf where nothing is proven. Only if
            `return_bound`.
        radius : ndarray or tensor of the shape of `b`, float64
            Numbers that are at least ``|x − A⁻¹b|`` entry by entry, inf where nothing is proven.
            They do not depend on the units of rows, columns and right-hand sides: powers of two
            only move them. Only if `return_radius`.

        Raises
        ------
        ValueError
            For shapes that do not match, and with ``fallback="raise"`` or "exact-raise" if an error
            could not be proven to be within `tol`.

        Notes
        -----
        x ← x + P(b − Ax) contracts the error by q = ‖I − PA‖ a step, and the error after a step is
        at most q/(1 − q) times the step, rounding aside. Near the centre A₀, with P its inverse, q
        is at most ‖P‖₂‖A − A₀‖_F, or ``max (|P||A − A₀|w)/w`` in a weighted maximum norm. A family
        that moves in few directions V_j, A = A₀ + Σ z_j V_j + F, has
        ``Σ |z_j|‖PV_j‖₂ + ‖P‖₂‖F‖_F`` instead. Where rows or columns of A₀ are in different units
        all this is in others.

        With ``|I − PA|w <= qw`` for some w > 0 and s = P(b − Ax) the radius is
        ``|s| + q/(1 − q) w max(|s|/w)`` (Rump 2010, "Verification methods: rigorous results using
        floating-point arithmetic", section 10), rounding included.

        Examples
        --------
        >>> from skinv import CertifiedInverse, LinearInverseApprox
        >>> model = CertifiedInverse(LinearInverseApprox([[3.0, 1.0], [1.0, 2.0]])).fit()
        >>> x, bound = model.solve([[[3.1, 1.0], [0.9, 2.0]]], [[1.0, 1.0]], return_bound=True)
        >>> x, bool(bound[0] <= 1e-6)
        (array([[0.1886792, 0.4150943]]), True)
        >>> y, radius = model.solve([[[3.1, 1.0], [0.9, 2.0]]], [[1.0, 1.0]], return_radius=True)
        >>> y.round(6), bool(radius.max() < 1e-6)
        (array([[0.188679, 0.415094]]), True)
        """
        if is_dask(X) or is_dask(b):
            asked = {"return_bound": return_bound, "return_radius": return_radius}
            return by_blocks(self, "solve", X, b, **asked)
        warn_of_gradients(X)
        warn_of_gradients(b)
        ready = self._ready()
        given, taken = ready._take(X)
        A = taken.stack
        b = right_hand_sides(b, A)
        A = A if A.dtype.itemsize >= 4 else as_double(A)
        came, A, b = b, host_view(A), host_view(b)
        xp, columns = namespace(A), as_double(b if b.ndim == 3 else b[:, :, None])
        moderate, finite = moderate_columns(columns), None
        if not every(moderate) and not bool(xp.all(xp.isfinite(columns))):
            finite = xp.all(
                xp.isfinite(columns), axis=1
            )  # one bad column does not spoil the others
            columns = xp.where(finite[:, None], columns, xp.zeros_like(columns))
        anchor = ready._anchor if hasattr(ready, "_anchor") else ready._find_anchor()
        if anchor is not None and taken.is_complex:
            anchor = anchor.of_complex
        if anchor is None:
            x, bound = unknown(columns)
        else:
            # Here NaN and infinity are but far from the centre.
            x, bound = _by_pieces(
                lambda rows: solve_near(anchor, A[rows], columns[rows], self.tol, moderate[rows]),
                columns,
            )
        predict = partial(guess, ready.estimator_, given, A)
        self._solve_elsewhere(predict, A, columns, x, bound)
        dtype = A.dtype if A.dtype == b.dtype else columns.dtype
        x, bound = rounded_solution(x, dtype, bound)
        if return_radius:
            radius = self._radius(anchor, predict, A, columns, as_double(x))
            bound = xp.minimum(bound, bound_of_radius(as_double(x), radius))
        limit = {"keep": np.inf, "nan": self.tol}.get(self.fallback, sys.float_info.max)
        good = bound <= limit
        if finite is not None:
            good = good & finite
        moved = moved_rows(X)
        if moved.size:
            good[moved] = False
        if not every(good):
            bound = xp.where(good, bound, np.inf)
            x = xp.where(good[:, None], x, not_a_number(x))
        if "raise" in self.fallback:
            self._refuse(~(bound <= self.tol), "solutions")
        answers = [x.reshape(b.shape)]
        if return_bound:
            answers.append(bound if b.ndim == 3 else bound[:, 0])
        if return_radius:
            answers.append(xp.where(good[:, None], radius, np.inf).reshape(b.shape))
        if is_tensor(came) and not is_tensor(A):
            answers = [in_library_of(came, answer) for answer in answers]
        return tuple(answers) if len(answers) > 1 else answers[0]

    def _solve_elsewhere(self, predict: Callable, A: Any, b: Any, x: Any, bound: Any) -> None:
        """Fill in better solutions and bounds, far from the centre, by other inverses."""
        for exactly in self._others():
            if every(bound <= self.tol):
                return
            open_ = open_rows(bound, self.tol)
            whole = len(open_) == len(A)
            finite = finite_rows(A if whole else A[open_])
            if not every(finite):
                open_, whole = open_[finite], False
            if not len(open_):
                continue
            P = None if exactly else predict(open_)

            def solve(block: slice, open_: Any = open_, whole: bool = whole, P: Any = P) -> None:
                rows = block if whole else open_[block]
                wide, sides = as_double(A[rows]), b[rows]
                if P is None:
                    found = solve_exactly(wide, sides, self.tol)
                else:
                    found = solve_with(as_double(P[block]), wide, sides, self.tol)
                take_better(x, bound, rows, *found)

            in_threads(solve, blocks_of(len(open_), b), b)

    def _others(self) -> tuple[bool, ...]:
        """Return what is asked far from the centre: the regressor, and LAPACK, if it is allowed."""
        return (False, True) if self.fallback in ("exact", "exact-raise") else (False,)

    def _radius(self, anchor: Any, predict: Callable, A: Any, b: Any, x: Any) -> Any:
        """Bound |x − A⁻¹b| entry by entry by whatever inverse proves something."""
        xp = namespace(x)
        if anchor is None:
            radius = full(x, tuple(x.shape), np.inf, xp.float64)
        else:
            radius = radius_near(anchor, A, b, x)
        for exactly in self._others():
            rows = indices(xp.any(xp.isfinite(x) & ~(radius < np.inf), axis=(1, 2)))
            rows = rows[finite_rows(A[rows])]
            if len(rows):
                wide = as_double(A[rows])
                P = exact_inverse(wide) if exactly else as_double(predict(rows))
                found = radius_with(P, wide, b[rows], x[rows])
                radius[rows] = xp.minimum(radius[rows], found)
        return radius

    def _find_anchor(self) -> Anchor | None:
        """Return the centre of the regressor, of a region before it, or of the training data."""
        final = final_of(self.estimator_)
        mean, sample = getattr(self, "_mean", None), self.__dict__.pop("_sample", None)
        if self._shape is not None:
            return None
        if self.family is None:  # or else the regressor has seen parameters only
            if hasattr(final, "inverse_") and hasattr(final, "center_"):
                return Anchor.of(final.center_, sample)
            for _, step in getattr(self.estimator_, "steps", ()):
                if isinstance(step, FeasibleRegionSampler):
                    return Anchor.of(step.center_, sample)
        return None if mean is None else Anchor.of(mean, sample)
