"""TruncatedMomentsDisplay: mean powers of the error grow without end as the cutoff shrinks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._arrays.conversion import real_array
from ._style import COLORS, LINES, MARKERS, Display, cycled


@dataclass(kw_only=True, eq=False, repr=False)
class TruncatedMomentsDisplay(Display):
    """Mean p-th powers of the error over matrices that keep a distance from the singular ones.

    Over a region that holds a singular matrix the mean error of every network is infinite. Without
    the matrices closer than a cutoff ε to a singular one it is finite, and the display shows how it
    grows as ε shrinks: for p = 1 like log(1/ε), for p > 1 like ε^(1 − p), whatever the network. It
    is best made by :meth:`from_estimator` or :meth:`from_moments`.

    Parameters
    ----------
    p : ndarray of shape (n_p,)
        Powers.
    cutoffs : ndarray of shape (k,)
        Cutoffs ε, l2 distances.
    moments, standard_errors : ndarray of shape (n_p, k)
        Mean of the p-th power of the error at each cutoff, and how uncertain it is.
    fitted : ndarray of shape (n_p, k), default=None
        What the fitted growth gives for the moments.
    growth, growth_error, expected_growth : ndarray of shape (n_p,), default=None
        Fitted exponent of the growth, its standard error, and that of the theory: what lies between
        two neighbouring cutoffs grows like ε^(−growth); 0 means growth like log(1/ε), less than 0
        that the moment converges.
    relative : bool, default=False
        Whether the errors are relative to the norm of the inverse, whose moments converge.
    estimator_name : str, default=None
        What the estimator is called in the title.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        What is drawn on. The cutoffs decrease to the right.
    errorbars_ : list of matplotlib ErrorbarContainer
        The moments, one artist for each p, with bars of two standard errors.
    lines_ : list of matplotlib Line2D
        The fitted growth, one line for each p; empty if none is given.

    See Also
    --------
    skinv.impossibility.truncated_moments : Computes what is drawn.

    Notes
    -----
    The density of the distance to the singular matrices is positive at 0, and the error at distance
    d is at least 1/d − M for a model bounded by M, so the moment is ∫ d⁻ᵖ over d > ε, up to what
    stays finite (Ji, Wu and Xi 2025, "Rethinking Neural-based Matrix Inversion: Why can't, and
    Where can").

    Examples
    --------
    >>> from sklearn.utils import Bunch
    >>> cutoffs = np.array([0.1, 0.01, 0.001])
    >>> moments = Bunch(
    ...     p=2.0, cutoffs=cutoffs, moments=1 / cutoffs, standard_errors=0.1 / cutoffs,
    ...     fitted=1 / cutoffs, growth=1.0, growth_error=0.01, expected_growth=1.0,
    ... )
    >>> display = TruncatedMomentsDisplay.from_moments(moments)
    >>> display.moments.shape, bool(display.ax_.xaxis_inverted())
    ((1, 3), True)
    """

    p: NDArray[np.float64]
    cutoffs: NDArray[np.float64]
    moments: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    fitted: NDArray[np.float64] | None = None
    growth: NDArray[np.float64] | None = None
    growth_error: NDArray[np.float64] | None = None
    expected_growth: NDArray[np.float64] | None = None
    relative: bool = False
    estimator_name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        sampler: Any,
        p: ArrayLike = (1, 2, 3),
        cutoffs: ArrayLike | None = None,
        *,
        relative: bool = False,
        n_samples: int = 200_000,
        random_state: Any = None,
        name: str | None = None,
        ax: Any = None,
    ) -> "TruncatedMomentsDisplay":
        """Estimate the moments of a model over a region, and draw them.

        Parameters
        ----------
        estimator : fitted regressor or torch.nn.Module
            Predicts inverses from rows of n*n entries.
        sampler : FeasibleRegionSampler
            Fitted; its region is what the means are over, and should hold singular matrices.
        p : float or array-like of shape (n_p,), default=(1, 2, 3)
            Powers, at least 1.
        cutoffs : array-like of shape (k,), default=None
            Distances; None takes those of :func:`skinv.impossibility.truncated_moments`.
        relative : bool, default=False
            Whether to draw the moments of the error relative to the norm of the inverse.
        n_samples : int, default=200_000
            How many matrices to draw.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.
        name : str, default=None
            Name of the estimator, for the title; None takes its class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        TruncatedMomentsDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            As :func:`skinv.impossibility.truncated_moments`.
        """
        cls._check("from_estimator")
        from ...impossibility import truncated_moments

        moments = truncated_moments(
            estimator, sampler, p, cutoffs, n_samples=n_samples, random_state=random_state
        )
        name = type(estimator).__name__ if name is None else name
        return cls.from_moments(moments, relative=relative, name=name, ax=ax)

    @classmethod
    def from_moments(
        cls, moments: Any, *, relative: bool = False, name: str | None = None, ax: Any = None
    ) -> "TruncatedMomentsDisplay":
        """Draw moments that are already computed.

        Parameters
        ----------
        moments : Bunch
            As :func:`skinv.impossibility.truncated_moments` returns it.
        relative, name, ax
            As for :meth:`from_estimator`; None as name gives no title.

        Returns
        -------
        TruncatedMomentsDisplay

        Raises
        ------
        ValueError
            If moments are missing, none is positive, or shapes do not match.
        """
        cls._check("from_moments")
        prefix = "relative_" if relative else ""
        if not isinstance(moments, Mapping):
            raise ValueError(
                f"Got moments of type {type(moments).__name__}, but what "
                f"skinv.impossibility.truncated_moments returns is expected."
            )
        needed = ["p", "cutoffs", *(prefix + key for key in ("moments", "standard_errors"))]
        missing = [key for key in needed if moments.get(key) is None]
        if missing:
            raise ValueError(
                f"Got moments without {', '.join(missing)}; pass what "
                f"skinv.impossibility.truncated_moments returns."
            )
        p, cutoffs = (np.atleast_1d(real_array(moments[key], key)).ravel() for key in needed[:2])
        # To a power belongs a number for each cutoff, or one.
        tall = dict.fromkeys(("growth", "growth_error", "expected_growth"), p.shape)
        wide = dict.fromkeys(("moments", "standard_errors", "fitted"), (p.size, cutoffs.size))
        tables = {
            key: _table(moments[prefix + key], shape, prefix + key)
            for key, shape in (wide | tall).items()
            if moments.get(prefix + key) is not None
        }
        if not (tables["moments"] > 0).any():
            raise ValueError(
                "Got moments none of which is positive, and a logarithmic axis shows no others: "
                "the cutoffs leave out all matrices; use smaller ones."
            )
        return cls(p=p, cutoffs=cutoffs, **tables, relative=relative, estimator_name=name).plot(ax)

    def plot(self, ax: Any = None, *, name: str | None = None) -> "TruncatedMomentsDisplay":
        """Draw the moments with error bars, and the fitted growth as lines.

        Parameters
        ----------
        ax, name
            As for :meth:`from_estimator`; None as name takes `estimator_name`.

        Returns
        -------
        TruncatedMomentsDisplay
            Itself.
        """
        ax = self._start(ax, (7.2, 4.8), name or self.estimator_name)
        self.errorbars_: list[Any] = []
        self.lines_: list[Any] = []
        for k in range(len(self.p)):
            color = cycled(COLORS, k)
            value, bar = self.moments[k], 2 * self.standard_errors[k]
            # A bar that reaches 0 would reach through the whole of a logarithmic axis.
            below = np.minimum(bar, 0.9 * np.abs(value))
            bars = self.cutoffs, value, np.array([below, bar])
            style = {"fmt": cycled(MARKERS, k), "color": color, "ms": 5, "capsize": 3, "lw": 1.2}
            self.errorbars_.append(ax.errorbar(*bars, label=self._label(k), **style))
            if self.fitted is not None:
                line = self.cutoffs, self.fitted[k], cycled(LINES, k)
                self.lines_ += ax.plot(*line, color=color, lw=1.4, alpha=0.8)
        across = "cutoff ε: l2 distance kept from the singular matrices"
        kind = "relative error" if self.relative else "error"
        up = f"mean of ({kind})ᵖ, in the Frobenius norm"
        ax.set(xscale="log", yscale="log", xlabel=across, ylabel=up)
        if not ax.xaxis_inverted():
            ax.invert_xaxis()
        bottom, top = ax.dataLim.intervaly
        if 0 < bottom < top:  # room for the legend
            ax.set_ylim(top=top * (top / bottom) ** 0.4)
        ax.legend(loc="upper left", fontsize="small", title="bars: two standard errors")
        return self

    def _label(self, k: int) -> str:
        label = f"p = {self.p[k]:g}"
        if self.growth is None or not np.isfinite(self.growth[k]):
            return label
        error = None if self.growth_error is None else float(self.growth_error[k])
        digits = int(np.clip(np.ceil(-np.log10(error)), 2, 6)) if error else 2
        spread = "" if error is None else f" ± {error:.{digits}f}"
        power = f"ε^({_signed(-self.growth[k], digits)}{spread})"
        theory = np.nan if self.expected_growth is None else float(self.expected_growth[k])
        if theory < 0:
            return f"{label}: converges, by steps like {power} (theory: {-theory:g})"
        limit = "0, like log(1/ε)" if theory == 0 else _signed(-theory)
        expected = "" if np.isnan(theory) else f" (theory: {limit})"
        return f"{label}: grows like {power}{expected}"


def _signed(value: float, digits: int | None = None) -> str:
    """Write a number with a proper minus sign; a zero that is rounded from below has none."""
    text = f"{value:g}" if digits is None else f"{round(float(value), digits) + 0.0:.{digits}f}"
    return text.replace("-", "−")


def _table(values: Any, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """Return numbers in a shape, which starts with the number of powers."""
    array = real_array(values, name)
    if array.size != math.prod(shape):
        raise ValueError(
            f"Got {name} of shape {array.shape}, but {math.prod(shape[1:])} for each of "
            f"{shape[0]} powers p are expected."
        )
    return array.reshape(shape)
