"""ParetoDisplay: which approximation of inverses is worth its time, on matrices of one's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from ..._arrays.conversion import real_array
from .._pareto import METRICS, check_candidates, default_candidates, measure
from ._style import COLORS, MARKERS, Display, cycled

# Titles of the columns of the table, their keys and formats.
_COLUMNS = {
    "µs/matrix": ("microseconds_per_matrix", ".3g"),
    "median error": ("median_relative_error", ".1e"),
    "max error": ("max_relative_error", ".1e"),
    "mean |error|": ("mean_absolute_error", ".1e"),
    "unanswered": ("unanswered", "d"),
    "fit seconds": ("fit_seconds", ".2g"),
}
_LONGEST_NAME, _LONGEST_FAILURE = 40, 75
_CONSTRAINTS = {
    "metric": [StrOptions(set(METRICS))],
    "dtype": [StrOptions({"float32", "float64"}), None],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "n_repeats": [Interval(Integral, 1, None, closed="left")],
    "max_time": [Interval(Real, 0, None, closed="neither"), None],
    "random_state": ["random_state"],
}


@dataclass(kw_only=True, eq=False, repr=False)
class ParetoDisplay(Display):
    """Errors of several approximations of inverses against the time that they take.

    One that is both slower and less accurate than another is never worth it; what remains is the
    Pareto front, to choose from by the accuracy that is needed. It is best made by
    :meth:`from_matrices`. Printed, it is a table, with an asterisk for what is on the front.

    Parameters
    ----------
    results : list of dict
        A row of the table for each candidate: ``name``; ``microseconds_per_matrix``;
        ``median_relative_error`` and ``max_relative_error``, of ‖prediction − target‖ / ‖target‖
        (Frobenius norm) over the rows that are answered; ``mean_absolute_error``, over their
        entries (real and imaginary parts); ``unanswered``, the number of rows that are answered by
        NaN; ``fit_seconds``; ``failure``, what was raised if it failed, else None. Numbers that
        there are none of are NaN.
    metric : {"median_relative_error", "max_relative_error", "mean_absolute_error"}, \
            default="median_relative_error"
        What to draw, and what the front is of.
    setting : str, default=""
        What was measured, for the first line of the table.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        What is drawn on.
    on_front_ : ndarray of bool of shape (n_candidates,)
        What is on the Pareto front.
    points_ : list of matplotlib Line2D
        The candidates that can be shown; hollow if they are not on the front.
    labels_ : list of matplotlib Annotation
        Their names.
    line_ : matplotlib Line2D
        The Pareto front.
    table_ : matplotlib Text or None
        The table below the axes.

    See Also
    --------
    ErrorByDistanceDisplay : How errors grow toward the singular matrices.

    Notes
    -----
    The reference are LAPACK's inverses in float64, refined with residuals of higher precision until
    they are right almost to the last digit. So LAPACK has an error, too: its rounding, about the
    condition number times 1e-16, or 1e-7 in float32, and the least that anything here can have.

    Times are those of one call on a batch, with as many threads as the process uses. Candidates
    predict the same batch in turns, and the medians over the turns count. Those of one batch size
    say little of another. The unseen matrices, a random part of those given, tell what to expect of
    more of the same kind, and nothing of matrices beyond.

    Examples
    --------
    >>> from skinv import LinearInverseApprox, PolynomialInverseApprox
    >>> from skinv.datasets import load_power_flow
    >>> display = ParetoDisplay.from_matrices(
    ...     load_power_flow("case6ww").data,
    ...     candidates={
    ...         "series": LinearInverseApprox(),
    ...         "polynomial": PolynomialInverseApprox(),
    ...         "LAPACK": np.linalg.inv,
    ...     },
    ...     n_repeats=3,
    ...     random_state=0,
    ... )
    >>> print(display)
    500 known and 500 unseen matrices of order 8, float64, 1000 at once
      candidate   µs/matrix  median error  max error  mean |error|  unanswered  fit seconds
    ...
    >>> series, polynomial, lapack = (row["median_relative_error"] for row in display.results)
    >>> lapack < polynomial < series
    True
    """

    results: list[dict[str, Any]]
    metric: str = "median_relative_error"
    setting: str = ""

    @classmethod
    def from_matrices(
        cls,
        X: Any,
        y: Any = None,
        *,
        candidates: Mapping[str, Any] | None = None,
        test_size: float | int = 0.5,
        metric: str = "median_relative_error",
        dtype: str | None = None,
        batch_size: int = 1000,
        n_repeats: int = 15,
        max_time: float | None = None,
        random_state: Any = None,
        ax: Any = None,
    ) -> "ParetoDisplay":
        """Fit candidates to a part of the matrices, and draw errors and times on the others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n) or (n_samples, n, n), or path
            Matrices, or the name of a file of NumPy (``.npy``) that holds them. With `y`, any
            features.
        y : array-like of shape (n_samples, n_targets) or (n_samples,), or path, default=None
            Other targets than the inverses, or those of other features, such as the parameters of a
            family.
        candidates : dict of estimators and functions, default=None
            By name. Estimators are cloned and fitted to the known matrices and their inverses,
            whose time does not count; what is fitted already belongs into a
            :class:`sklearn.frozen.FrozenEstimator`. Functions get stacks (n_samples, n, n), with
            `y` features, and are not fitted; a torch module goes into a function. None takes
            :class:`~skinv.LinearInverseApprox` of orders 1 to 3,
            :class:`~skinv.PolynomialInverseApprox`, :class:`~skinv.NeuralInverseRegressor` and
            :func:`numpy.linalg.inv`; with `y` polynomial and network only.
            What fails is listed with the reason.
        test_size : float or int, default=0.5
            Share or number of the matrices that no candidate is fitted to, and that the errors are
            of.
        metric : str, default="median_relative_error"
            As for the class.
        dtype : {"float32", "float64"}, default=None
            Precision of the matrices that candidates are given, which errors do not count the
            rounding to. None keeps float32, and takes float64 for all else.
        batch_size : int, default=1000
            Number of matrices that are predicted at once for the times; the unseen ones are
            repeated as often as it takes.
        n_repeats : int, default=15
            How many times each candidate's time is measured.
        max_time : float, default=None
            Seconds for a fit. Only candidates that have a parameter of this name keep to it; None
            leaves theirs as it is.
        random_state : int, RandomState instance or None, default=None
            Seeds the split, and the network of the default candidates.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ParetoDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        OSError
            For a file that cannot be read.
        ValueError
            For matrices that are not finite or not square, singular or of a condition number past
            1/√eps, of which there are fewer than two, or targets or candidates that are none.

        Warns
        -----
        AmbiguousShapeWarning
            If `X` could be a single matrix.
        """
        options = {
            "dtype": dtype,
            "batch_size": batch_size,
            "n_repeats": n_repeats,
            "max_time": max_time,
            "random_state": random_state,
        }
        cls._check("from_matrices", _CONSTRAINTS, metric=metric, **options)
        if candidates is None:
            candidates = default_candidates(y is None, random_state)
        check_candidates(candidates)
        results, setting = measure(X, y, candidates, test_size=test_size, **options)
        return cls(results=results, metric=metric, setting=setting).plot(ax)

    def plot(self, ax: Any = None, *, table: bool = True) -> "ParetoDisplay":
        """Draw the candidates, the front and the table.

        Parameters
        ----------
        ax
            As for :meth:`from_matrices`.
        table : bool, default=True
            Whether to write the table below the axes, which takes room there.

        Returns
        -------
        ParetoDisplay
            Itself.
        """
        ax = self._start(ax, (7.2, 4.8 + 0.15 * (len(self.results) + 2)))
        from matplotlib.ticker import LogLocator, NullFormatter

        cost, error = self._columns()
        self.on_front_ = pareto_front(cost, error)
        ax.set(xscale="log", yscale="log", xlabel="µs per matrix", ylabel=METRICS[self.metric])
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(0.12)
        # A logarithmic axis has no 0.
        order = [k for k in np.argsort(cost) if self.on_front_[k] and error[k] > 0]
        (self.line_,) = ax.plot(
            cost[order], error[order], "-", color="0.5", lw=1.5, zorder=1, label="Pareto front"
        )
        self.points_: list[Any] = []
        self.labels_: list[Any] = []
        for k, (x, y) in enumerate(zip(cost, error, strict=True)):
            if np.isfinite(x) and np.isfinite(y):
                self._plot_point(k, x, y)
        ax.plot([], [], "o", color="0.5", mfc="none", ls="", label="dominated by another")
        ax.legend(fontsize="small")
        self.table_: Any = None
        if table:
            font = {"family": "monospace", "fontsize": "x-small", "parse_math": False}
            below = {"xytext": (-30, -48), "textcoords": "offset points", "va": "top"}
            self.table_ = ax.annotate(repr(self), (0, 0), xycoords="axes fraction", **below, **font)
        return self

    def _columns(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times and errors."""
        keys = "microseconds_per_matrix", self.metric
        cost, error = (real_array([row[key] for row in self.results], key) for key in keys)
        return cost, error

    def _plot_point(self, k: int, x: float, y: float) -> None:
        """Draw a candidate and its name; one without an error at the lower edge."""
        row = self.results[k]
        name = _shortened(row["name"], _LONGEST_NAME)
        if row["unanswered"]:
            name += f" ({row['unanswered']} unanswered)"
        system: Any = self.ax_.transData
        if y == 0:
            y, name, system = 0.02, f"{name} (exact)", self.ax_.get_xaxis_transform()
        style: dict[str, Any] = {"mew": 1.5, "ms": 8, "zorder": 3, "transform": system}
        style |= {"color": cycled(COLORS, k), "mfc": None if self.on_front_[k] else "none"}
        self.points_ += self.ax_.plot([x], [y], cycled(MARKERS, k), **style)
        beside = {"xytext": (7, 5), "textcoords": "offset points"}
        text = {"fontsize": "small", "parse_math": False}
        self.labels_.append(self.ax_.annotate(name, (x, y), xycoords=system, **beside, **text))

    def __repr__(self) -> str:
        names = [_shortened(row["name"], _LONGEST_NAME) for row in self.results]
        width = max(map(len, ["candidate", *names]))
        lines = [self.setting, f"  {'candidate':<{width}}  {'  '.join(_COLUMNS)}"]
        on_front = pareto_front(*self._columns())
        for row, name, best in zip(self.results, names, on_front, strict=True):
            if row.get("failure"):
                cells = _shortened(row["failure"], _LONGEST_FAILURE)
            else:
                cells = "  ".join(
                    f"{row[key]:>{len(title)}{form}}" for title, (key, form) in _COLUMNS.items()
                )
            lines.append(f"{'*' if best else ' '} {name:<{width}}  {cells}")
        return "\n".join(lines)


def pareto_front(cost: ArrayLike, error: ArrayLike) -> NDArray[np.bool_]:
    """Tell which finite pairs no other betters in one number without being worse in the other."""
    cost, error = real_array(cost, "costs"), real_array(error, "errors")
    finite = np.isfinite(cost) & np.isfinite(error)
    no_worse = (cost[:, None] <= cost) & (error[:, None] <= error) & finite[:, None]
    better = (cost[:, None] < cost) | (error[:, None] < error)
    return finite & ~(no_worse & better).any(axis=0)


def _shortened(text: Any, length: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= length else text[: length - 1] + "…"
