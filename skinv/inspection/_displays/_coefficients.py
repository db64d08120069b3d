"""CoefficientDisplay: what a model has learned of the inverse, against what the theory says."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from ..._arrays.conversion import real_array
from ..._arrays.shapes import as_stack, matrix_order
from ..._linalg.inverses import regular_inverse
from ..._linalg.workspace import pieces
from ...geometry._drawing import check_sampler
from ...impossibility._models import Predictions
from ._style import COLORS, MARKERS, Display, cycled

# Outputs, or rows of them, are told apart up to this number.
_MOST_GROUPS = 7
# Rows that are predicted at once.
_BATCH = 20_000
_CONSTRAINTS = {
    "n_samples": [Interval(Integral, 1, None, closed="left"), None],
    "step": [Interval(Real, 0, None, closed="neither")],
}


@dataclass(kw_only=True, eq=False, repr=False)
class CoefficientDisplay(Display):
    """Derivatives of a model against those of the linear approximation of the inverse.

    Near a matrix A₀ the inverse is A₀⁻¹ − A₀⁻¹(A − A₀)A₀⁻¹ but for second-order terms, so its
    derivative of entry (i, j) for entry (k, l) of the matrix is −(A₀⁻¹)_ik (A₀⁻¹)_lj. A model that
    has learned the inverse has learned these coefficients; on the diagonal of the picture both
    agree. It is best made by :meth:`from_estimator`.

    Parameters
    ----------
    learned : ndarray of shape (n*n, n_directions)
        Derivatives of the outputs of the model, in the centre or averaged over samples.
    linear : ndarray of shape (n*n, n_directions)
        Those of the linear approximation at the centre.
    spread : ndarray of shape (n*n, n_directions), default=None
        Standard deviation of the derivatives over samples.
    estimator_name : str, default=None
        What the estimator is called.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        What is drawn on.
    points_ : list of matplotlib Line2D
        The coefficients, by output (n = 2), or by row of the inverse.
    bars_ : list of artists
        Their spread, if there is any.
    line_ : matplotlib Line2D
        Where both are equal.

    See Also
    --------
    skinv.LinearInverseApprox : The linear approximation; its ``coef_`` are the coefficients.

    Notes
    -----
    Derivatives are central differences of predictions, so any regressor can be looked at, along
    each entry that varies in the region. Of the ellipsoid of ``norm="mahalanobis"``, outside of
    which a model has seen nothing, they are along the axes, and per standard deviation of the data
    there. The comparison with the linear approximation is that of Ji, Wu and Xi (2025), "Rethinking
    Neural-based Matrix Inversion: Why can't, and Where can".

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, LinearInverseApprox
    >>> sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5).fit()
    >>> model = LinearInverseApprox(sampler.center_).fit()
    >>> display = CoefficientDisplay.from_estimator(model, sampler)
    >>> bool(np.allclose(display.learned, display.linear))
    True
    """

    learned: NDArray[np.float64]
    linear: NDArray[np.float64]
    spread: NDArray[np.float64] | None = None
    estimator_name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        sampler: Any,
        *,
        n_samples: int | None = None,
        step: float = 1e-3,
        name: str | None = None,
        ax: Any = None,
    ) -> "CoefficientDisplay":
        """Draw the coefficients of a fitted regressor of inverses.

        Parameters
        ----------
        estimator : object with a ``predict`` method or torch.nn.Module
            Fitted regressor or pipeline, or a module that takes rows of n*n entries.
        sampler : FeasibleRegionSampler
            Fitted. Its centre is that of the linear approximation.
        n_samples : int, default=None
            Average the derivatives over so many samples, which the spread is shown of; the stream
            of samples goes on. None takes them at the centre, where a ReLU network shows the one
            linear piece that the centre lies in.
        step : float, default=1e-3
            Step of the differences, as a share of the region's half-width in each direction. Models
            that are constant on pieces, such as forests, need a large one, about 0.5.
        name : str, default=None
            Name of the estimator; None takes its class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        CoefficientDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            For predictions that are not of the shape of inverses or not finite, for a region that
            is a single point, or for a number of samples or a step that is not positive.
        """
        cls._check("from_estimator", _CONSTRAINTS, n_samples=n_samples, step=step)
        check_sampler(sampler)
        points = sampler.center_.reshape(1, -1)
        if n_samples is not None:
            points = sampler.sample(n_samples, return_inverse=False)
        directions = getattr(sampler, "axes_", np.eye(sampler.center_.size))
        reach = np.broadcast_to(np.ravel(sampler.radius_), len(directions))
        directions, reach = directions[reach > 0], reach[reach > 0]
        if reach.size == 0:
            raise ValueError(
                f"Got a region of radius {sampler.radius_}, in which no entry varies and nothing "
                f"can be learned; fit the sampler with a positive radius."
            )
        with np.errstate(all="ignore"):
            steps = real_array(step, "step") * reach
            derivatives = _derivatives(estimator, points, directions, steps)
        if not np.isfinite(derivatives).all():
            raise ValueError(
                f"Got step={step!r}, with which differences over- or underflow; the default is "
                f"1e-3."
            )
        B = regular_inverse(sampler.center_)
        return cls(
            learned=derivatives.mean(axis=0),
            linear=-np.kron(B, B.T) @ directions.T,
            spread=None if n_samples is None else derivatives.std(axis=0),
            estimator_name=type(estimator).__name__ if name is None else name,
        ).plot(ax)

    def plot(self, ax: Any = None, *, name: str | None = None) -> "CoefficientDisplay":
        """Draw learned against linear coefficients, and the line where they are equal.

        Parameters
        ----------
        ax, name
            As for :meth:`from_estimator`; None as name takes `estimator_name`.

        Returns
        -------
        CoefficientDisplay
            Itself.
        """
        ax = self._start(ax, (5.8, 5.8), name or self.estimator_name)
        self.points_: list[Any] = []
        self.bars_: list[Any] = []
        few = self.learned.size <= 100
        ends = np.array([self.linear.min(), self.linear.max()])
        ends = ends + np.array([-0.08, 0.08]) * max(np.ptp(ends), 1e-3 * np.abs(ends).max())
        (self.line_,) = ax.plot(ends, ends, "-", color="0.6", lw=1.2, zorder=1, label="equal")
        for k, (label, outputs) in enumerate(self._groups()):
            x, y = self.linear[outputs].ravel(), self.learned[outputs].ravel()
            style = {"color": cycled(COLORS, k), "zorder": 2 + 1 / (1 + k)}
            if self.spread is not None:
                bar = self.spread[outputs].ravel()
                self.bars_.append(ax.vlines(x, y - bar, y + bar, lw=1.2, alpha=0.5, **style))
            # The first is the largest: where coefficients of several outputs coincide, which those
            # of symmetric matrices do, all can be seen.
            hollow = {"ms": 10 - 1.2 * k, "mfc": "none", "mew": 1.5}
            style |= hollow if few else {"ms": 5, "mew": 0, "alpha": 0.5}
            self.points_ += ax.plot(x, y, cycled(MARKERS, k), label=label, **style)
        difference = self.learned - self.linear
        share = np.linalg.norm(difference) / np.linalg.norm(self.linear)
        averaged = "at the centre" if self.spread is None else "mean and deviation over samples"
        ax.set_xlabel("coefficient of the linear approximation at the centre")
        ax.set_ylabel(f"learned coefficient ({averaged})")
        percent = "below 0.01" if share < 1e-4 else f"{100 * share:.2g}"
        text = f"difference, rms:\n{percent} % of the coefficients"
        corner = {"transform": ax.transAxes, "ha": "right", "va": "bottom"}
        ax.text(0.97, 0.03, text, fontsize="small", **corner)
        ax.legend(fontsize="small", title="derivative of")
        return self

    def _groups(self) -> list[tuple[str, Any]]:
        """Return names and indices of the outputs that share a marker."""
        n_outputs = len(self.linear)
        n = round(n_outputs**0.5)
        if n_outputs <= 4:
            names = [f"$(A^{{-1}})_{{{i + 1}{j + 1}}}$" for i in range(n) for j in range(n)]
            return [(name, [k]) for k, name in enumerate(names)]
        if n <= _MOST_GROUPS:
            rows = np.arange(n_outputs).reshape(n, n)
            return [(f"row {i + 1} of $A^{{-1}}$", rows[i]) for i in range(n)]
        return [("entries of $A^{-1}$", slice(None))]


def _derivatives(estimator: Any, points: NDArray, directions: NDArray, steps: NDArray) -> NDArray:
    """Return central differences of the predictions, (n_points, n_outputs, n_directions)."""
    moves = steps[:, None] * directions
    n_outputs = points.shape[1]
    predictions = Predictions(estimator, matrix_order(n_outputs))
    parts = []
    for part in pieces(len(points), 1, 2 * len(moves), _BATCH):
        block = points[part, None]
        rows = np.concatenate([block + moves, block - moves], axis=1).reshape(-1, n_outputs)
        predicted = predictions(as_stack(rows))
        if not np.isfinite(predicted).all():
            raise ValueError(
                "Got predictions with NaN or infinity in the region; a model without finite "
                "values there has no derivatives to show."
            )
        above, below = predicted.reshape(-1, 2, len(moves), n_outputs).swapaxes(0, 1)
        parts.append((above - below) / (2 * steps)[:, None])
    return np.concatenate(parts).swapaxes(1, 2)
