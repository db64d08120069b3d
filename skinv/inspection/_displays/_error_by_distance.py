"""ErrorByDistanceDisplay: how the error of learned inverses grows toward the singular matrices."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from ..._arrays.conversion import real_array, to_host
from ..._arrays.rows import refuse_nonfinite
from ..._arrays.shapes import as_stack, flatten_stack, refuse_no_rows
from ..._linalg.products import exact_inverse
from ...geometry import distance_to_singularity
from ...geometry._drawing import check_sampler
from ...geometry._regions import row_norms
from ...impossibility._models import Predictions
from ._proven import checked_failure, draw_failure
from ._style import COLORS, MARKERS, Display

_NORMS = {
    "l2": "l2: smallest singular value",
    "l1": "l1: sum of absolute entries",
    "linf": "linf: largest absolute entry",
}
_ERRORS = {
    "absolute": "error ‖prediction − A⁻¹‖ (spectral norm)",
    "relative": "relative error ‖prediction − A⁻¹‖ / ‖A⁻¹‖ (spectral norm)",
}
# Errors of more matrices than this are summarised, in bins of at least so many.
_MANY, _PER_BIN = 1000, 20
_CONSTRAINTS = {"norm": [StrOptions(set(_NORMS))], "error": [StrOptions(set(_ERRORS))]}
_PLOT_CONSTRAINTS = {
    "kind": [StrOptions({"auto", "points", "bands"})],
    "n_bins": [Interval(Integral, 1, None, closed="left")],
}


@dataclass(kw_only=True, eq=False, repr=False)
class ErrorByDistanceDisplay(Display):
    """Error of each matrix against its distance to the singular matrices.

    The inverse of a matrix at distance d from the nearest singular one has norm 1/d, which no
    network follows all the way: near enough to the singular matrices every one of them is wrong by
    any amount. The display shows how near, for matrices at hand, and marks what is proven. It is
    best made by :meth:`from_estimator` or :meth:`from_sampler`.

    Parameters
    ----------
    distance : ndarray of shape (n_samples,)
        Distance of each matrix to the nearest singular one.
    errors : ndarray of shape (n_samples,)
        Error of each prediction; NaN or infinity where there is none.
    norm : {"l2", "l1", "linf"}, default="l2"
        Norm of the distances.
    error : {"absolute", "relative"}, default="absolute"
        Spectral norm (largest singular value) of prediction less inverse, or that over the norm of
        the inverse.
    failure : ndarray of shape (n_levels, 2), default=None
        Proven failures: error levels, and distances below which every error exceeds them.
    n_left_out : int, default=0
        Number of matrices left out because they are singular or not finite.
    estimator_name : str, default=None
        What the estimator is called in the legend.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        What is drawn on.
    points_ : matplotlib Line2D
        The errors drawn one by one.
    line_ : matplotlib Line2D or None
        Their median in bins of the distance, if they are summarised.
    band_ : artist or None
        From the 5 % to the 95 % quantile in each bin, if they are summarised.
    max_line_ : matplotlib Line2D or None
        The largest error in each bin, if they are summarised.
    guide_ : matplotlib Line2D or None
        The error of predicting 0: the norm of the inverse, or 1 if errors are relative.
    failure_ : matplotlib Line2D or None
        The proven failures.

    See Also
    --------
    skinv.impossibility.failure_distance : The distances of `failure`.
    skinv.SingularDistanceScorer : Scores that leave out what is too near.

    Notes
    -----
    With ‖f‖ ≤ M on a ball, a model f is wrong by more than E (spectral norm) at every regular
    matrix of the ball at an l2 distance of less than 1/(E + M) from a singular one (Ji, Wu and Xi
    2025, "Rethinking Neural-based Matrix Inversion: Why can't, and Where can").

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, LinearInverseApprox
    >>> sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    >>> model = LinearInverseApprox(sampler.center_).fit()
    >>> display = ErrorByDistanceDisplay.from_sampler(model, sampler, n_samples=300)
    >>> display.distance.shape, display.ax_.get_xscale()
    ((300,), 'log')
    """

    distance: NDArray[np.float64]
    errors: NDArray[np.float64]
    norm: str = "l2"
    error: str = "absolute"
    failure: NDArray[np.float64] | None = None
    n_left_out: int = 0
    estimator_name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        norm: str = "l2",
        error: str = "absolute",
        failure: Any = None,
        kind: str = "auto",
        name: str | None = None,
        ax: Any = None,
    ) -> "ErrorByDistanceDisplay":
        """Draw the errors of a fitted regressor of inverses.

        Parameters
        ----------
        estimator : object with a ``predict`` method or torch.nn.Module
            Fitted regressor or pipeline, or a module that takes rows of n*n entries.
        X : array-like of shape (n_samples, n*n) or (n_samples, n, n)
            Matrices. Those that are singular to working precision or not finite are left out, and
            counted in the legend.
        y : array-like of shape (n_samples, n*n) or (n_samples, n, n), default=None
            Their inverses; None computes them.
        norm, error
            As for the class.
        failure : mapping {level: distance} or sequence of pairs, default=None
            Proven failures: levels of the absolute error, and l2 distances below which it exceeds
            them, from :func:`skinv.impossibility.failure_distance` for a ball that holds the
            matrices. Distances of 0, which prove nothing, are left out.
        kind : {"auto", "points", "bands"}, default="auto"
            See :meth:`plot`.
        name : str, default=None
            Name in the legend; None takes the class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure. Several models go on the same axes one after the
            other.

        Returns
        -------
        ErrorByDistanceDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If no matrix remains, for predictions that are not of the shape of inverses, or for
            failures that are negative, or given with other errors or norms than they bound.
        """
        cls._check("from_estimator", _CONSTRAINTS, norm=norm, error=error)
        levels = checked_failure(failure, norm, error)
        distance, errors, n_left_out = _errors_by_distance(estimator, X, y, norm, error)
        return cls(
            distance=distance,
            errors=errors,
            norm=norm,
            error=error,
            failure=levels,
            n_left_out=n_left_out,
            estimator_name=type(estimator).__name__ if name is None else name,
        ).plot(ax, kind=kind)

    @classmethod
    def from_sampler(
        cls,
        estimator: Any,
        sampler: Any,
        n_samples: int = 1000,
        *,
        norm: str = "l2",
        error: str = "absolute",
        failure: Any = None,
        kind: str = "auto",
        name: str | None = None,
        ax: Any = None,
    ) -> "ErrorByDistanceDisplay":
        """Draw the errors of a fitted regressor of inverses on matrices of a region.

        Parameters
        ----------
        estimator : object with a ``predict`` method or torch.nn.Module
            Fitted regressor or pipeline, or a module that takes rows of n*n entries.
        sampler : FeasibleRegionSampler
            Fitted. Its stream of samples goes on.
        n_samples : int, default=1000
            How many matrices to draw from it.
        norm, error, failure, kind, name, ax
            As for :meth:`from_estimator`.

        Returns
        -------
        ErrorByDistanceDisplay

        Raises
        ------
        ImportError, ValueError
            As for :meth:`from_estimator`.
        """
        # Before the stream goes on.
        cls._check("from_sampler", _CONSTRAINTS, norm=norm, error=error)
        checked_failure(failure, norm, error)
        check_sampler(sampler)
        X, Y = sampler.sample(n_samples)
        return cls.from_estimator(
            estimator, X, Y, norm=norm, error=error, failure=failure, kind=kind, name=name, ax=ax
        )

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "auto",
        n_bins: int = 30,
        guide: bool = True,
        name: str | None = None,
    ) -> "ErrorByDistanceDisplay":
        """Draw the errors, the guide and the proven failures.

        Parameters
        ----------
        ax
            As for :meth:`from_estimator`.
        kind : {"auto", "points", "bands"}, default="auto"
            A point for each matrix, or, in bins of the distance, the median, a band from the 5 % to
            the 95 % quantile and the largest error; matrices in bins of fewer than 20 remain
            points. "auto" is points for up to 1000 matrices.
        n_bins : int, default=30
            Number of bins, equally wide on the logarithmic axis.
        guide : bool, default=True
            Whether to draw the error of predicting 0. For absolute errors that is 1/d, and drawn
            for distances in l2 only.
        name : str, default=None
            Name in the legend; None takes `estimator_name`.

        Returns
        -------
        ErrorByDistanceDisplay
            Itself.

        Raises
        ------
        ValueError
            For an unknown kind or a number of bins that is not positive.
        """
        self._check("plot", _PLOT_CONSTRAINTS, kind=kind, n_bins=n_bins)
        ax = self._start(ax, (7.2, 4.8))
        used = [line.get_color() for line in ax.get_lines()]
        k = next((k for k, color in enumerate(COLORS) if color not in used), 0)
        name = name or self.estimator_name or "errors"
        across = f"distance to the nearest singular matrix ({_NORMS[self.norm]})"
        ax.set(xscale="log", yscale="log", xlabel=across, ylabel=_ERRORS[self.error])
        low, high = self.distance.min(), self.distance.max()
        if high <= low * (1 + 1e-9):  # which a logarithmic axis does not tell apart
            ax.set_xlim(low / 2, high * 2)
        shown = np.isfinite(self.errors) & (self.errors > 0)
        many = shown.any() and (kind == "bands" or (kind == "auto" and shown.sum() > _MANY))
        self.line_ = self.band_ = self.max_line_ = self.guide_ = self.failure_ = None
        if many:
            shown = self._plot_bands(shown, n_bins, COLORS[k], MARKERS[k], name)
        points = self.distance[shown], self.errors[shown], MARKERS[k]
        label = name if self.line_ is None else None
        style = {"color": COLORS[k], "ms": 3.5, "alpha": 0.6, "mew": 0, "zorder": 3}
        (self.points_,) = ax.plot(*points, label=label, **style)
        self._plot_apart(COLORS[k])
        if self.failure is not None:
            self.failure_ = draw_failure(ax, self.failure, COLORS[k])
        if guide:
            self._plot_guide()
        ax.legend(fontsize="small")
        return self

    def _plot_bands(
        self, shown: NDArray[np.bool_], n_bins: int, color: str, marker: str, name: str
    ) -> NDArray[np.bool_]:
        """Draw what full bins hold, and return what remains to be drawn one by one."""
        ax = self.ax_
        position = np.log(self.distance)
        edges = np.linspace(position[shown].min(), position[shown].max(), n_bins + 1)
        bins = np.clip(np.searchsorted(edges, position, side="right") - 1, 0, n_bins - 1)
        full = [b for b in range(n_bins) if (shown & (bins == b)).sum() >= _PER_BIN]
        if not full:
            return shown
        members = [self.errors[shown & (bins == b)] for b in full]
        x = np.exp((edges[full] + edges[np.array(full) + 1]) / 2)
        low, median, high = np.array([np.quantile(m, [0.05, 0.5, 0.95]) for m in members]).T
        line = {"color": color, "zorder": 4}
        dots = f"-{marker}"
        (self.line_,) = ax.plot(x, median, dots, lw=2, ms=4, label=f"{name}: median", **line)
        band = {"color": color, "alpha": 0.2, "lw": 0, "zorder": 2}
        self.band_ = ax.fill_between(x, low, high, label=f"{name}: 5 % to 95 %", **band)
        largest = [m.max() for m in members]
        (self.max_line_,) = ax.plot(x, largest, ":", lw=1.6, label=f"{name}: largest", **line)
        return shown & ~np.isin(bins, full)

    def _plot_apart(self, color: str) -> None:
        """Mark at the edges what a logarithmic axis cannot show, and name what is missing."""
        style = {"color": color, "ms": 6, "transform": self.ax_.get_xaxis_transform()}
        for apart, height, marker, what in (
            (~np.isfinite(self.errors), 0.98, "x", "predictions not finite (upper edge)"),
            (self.errors == 0, 0.02, "v", "predictions exact (lower edge)"),
        ):
            if apart.any():
                points = self.distance[apart], np.full(apart.sum(), height), marker
                self.ax_.plot(*points, label=f"{apart.sum()} {what}", **style)
        if self.n_left_out:
            label = f"{self.n_left_out} singular or not finite, left out"
            self.ax_.plot([], [], ls="", color=color, label=label)

    def _plot_guide(self) -> None:
        label = "error of predicting 0"
        if any(line.get_label().startswith(label) for line in self.ax_.get_lines()):
            return
        style = {"color": "0.45", "ls": "--", "lw": 1.0, "zorder": 1}
        if self.error == "relative":
            self.guide_ = self.ax_.axhline(1.0, label=label, **style)
        elif self.norm == "l2":
            ends = np.array([self.distance.min(), self.distance.max()])
            if self.failure is not None:
                ends[0] = min(ends[0], self.failure[:, 1].min())
            with np.errstate(over="ignore"):
                norms = 1 / ends
            (self.guide_,) = self.ax_.plot(ends, norms, label=f"{label}: ‖A⁻¹‖ = 1/d", **style)


def _errors_by_distance(
    estimator: Any, X: Any, y: Any, norm: str, error: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return distance and spectral error of each regular matrix, and how many others there were.

    Errors are NaN where predictions are not finite. The others are singular to working precision,
    or not finite.
    """
    X, _ = flatten_stack(to_host(X))
    rows = real_array(X, "X")
    refuse_no_rows(rows, "X")
    stack = as_stack(rows)
    n = stack.shape[-1]
    distance = distance_to_singularity(stack, norm, return_bounds=True).lower
    with np.errstate(over="ignore", invalid="ignore"):
        floor = n * np.finfo(np.float64).eps * row_norms(rows)
    index = np.flatnonzero(distance > floor)  # NaN is not
    if index.size == 0:
        raise ValueError(
            f"All {len(stack)} matrices are singular or not finite, so that there is no error to "
            f"show; pass regular ones, for instance with ErrorByDistanceDisplay.from_sampler."
        )
    predicted = Predictions(estimator, n)(stack[index])
    if y is None:
        inverse = exact_inverse(stack[index])
    else:
        targets = real_array(flatten_stack(to_host(y))[0], "y")
        if targets.shape != rows.shape:
            raise ValueError(
                f"Got y of shape {np.shape(y)}, but the inverses of {len(stack)} {n}×{n} matrices "
                f"have shape {rows.shape}; pass these, or y=None."
            )
        refuse_nonfinite(targets[index], "y")
        inverse = as_stack(targets[index])
    errors = np.full(index.size, np.nan)
    with np.errstate(all="ignore"):
        difference = predicted - inverse
        finite = np.isfinite(difference).all(axis=(1, 2))
        errors[finite] = np.linalg.norm(difference[finite], ord=2, axis=(1, 2))
        if error == "relative":
            errors[finite] /= np.linalg.norm(inverse[finite], ord=2, axis=(1, 2))
    return distance[index], errors, len(stack) - index.size
