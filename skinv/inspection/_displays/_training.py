"""TrainingDisplay: how the loss fell, and how validation went along."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..._arrays.conversion import real_array
from ..._arrays.estimators import unwrapped
from ...learn.neural import NeuralInverseRegressor
from ._style import BLUE, VERMILION, Display

_OURS = "training loss (1: that of the baseline alone)"
_OTHERS = "training loss"
# Epochs up to this number are marked one by one.
_FEW_EPOCHS = 30
_LINE: dict[str, Any] = {"lw": 1.8, "ms": 4}


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingDisplay(Display):
    """Training loss and validation score of a network after each epoch.

    It is best made by :meth:`from_estimator`.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Training loss of each epoch.
    validation_scores : array-like of shape (n_validated,), default=None
        R² on the validation set after each of the last epochs.
    loss_name : str, default="training loss"
        What the loss is, for its axis.
    estimator_name : str, default=None
        What the estimator is called in the legend.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        What is drawn on; the axes are those of the loss.
    score_ax_ : matplotlib Axes or None
        The axes of the scores on the right, if there are any below 1.
    line_ : matplotlib Line2D
        The loss.
    score_line_ : matplotlib Line2D or None
        1 − R² on the validation set.
    best_ : matplotlib Line2D or None
        The epoch with the best score, whose weights early stopping restores.

    See Also
    --------
    skinv.NeuralInverseRegressor : Has ``loss_curve_`` and ``validation_scores_``.

    Notes
    -----
    Both axes are logarithmic. Good models of inverses have scores like 0.999998, so it is 1 − R²
    that is drawn: the share of the variance of the targets that is not explained. A score of 1
    exactly, or a loss of 0, is left out.

    Examples
    --------
    >>> display = TrainingDisplay(loss_curve=[1.0, 0.1, 0.01]).plot()
    >>> display.ax_.get_yscale(), display.score_ax_
    ('log', None)
    """

    loss_curve: ArrayLike
    validation_scores: ArrayLike | None = None
    loss_name: str = _OTHERS
    estimator_name: str | None = None

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None
    ) -> "TrainingDisplay":
        """Draw the training of a fitted network.

        Parameters
        ----------
        estimator : NeuralInverseRegressor, sklearn.neural_network.MLPRegressor or the like
            Fitted, with an attribute ``loss_curve_``, and ``validation_scores_`` if there was a
            validation set. Of a pipeline the last step is taken, of a search its best estimator.
        name : str, default=None
            Name in the legend; None takes the class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        TrainingDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        sklearn.exceptions.NotFittedError
            For an estimator that is not fitted.
        TypeError
            For what is no estimator, as a module of torch.
        ValueError
            For an estimator without ``loss_curve_``.
        """
        cls._check("from_estimator")
        if not hasattr(estimator, "fit"):
            raise TypeError(
                f"Got a {type(estimator).__name__}, which keeps no losses; of a training of your "
                f"own pass its losses, TrainingDisplay(loss_curve=losses).plot()."
            )
        check_is_fitted(estimator)
        model = unwrapped(estimator, pipelines=True)
        curve = getattr(model, "loss_curve_", None)
        if curve is None or len(curve) == 0:
            raise ValueError(
                f"Got a {type(model).__name__} without loss_curve_; pass a fitted "
                f"NeuralInverseRegressor, or an MLPRegressor with solver='adam' or 'sgd' (its "
                f"'lbfgs' keeps no curve)."
            )
        return cls(
            loss_curve=np.asarray(curve, dtype=np.float64),
            validation_scores=getattr(model, "validation_scores_", None),
            loss_name=_OURS if isinstance(model, NeuralInverseRegressor) else _OTHERS,
            estimator_name=type(model).__name__ if name is None else name,
        ).plot(ax)

    def plot(self, ax: Any = None, *, name: str | None = None) -> "TrainingDisplay":
        """Draw the loss, and on an axis of their own the validation scores.

        Parameters
        ----------
        ax, name
            As for :meth:`from_estimator`; None as name takes `estimator_name`.

        Returns
        -------
        TrainingDisplay
            Itself.
        """
        ax = self._start(ax, (7.2, 4.5))
        loss = _positive(self.loss_curve)
        name = name or self.estimator_name
        self.score_ax_: Any = None
        self.score_line_ = self.best_ = None
        style = _LINE | {"color": BLUE, "marker": "o" if len(loss) <= _FEW_EPOCHS else None}
        epoch = np.arange(1, len(loss) + 1)
        (self.line_,) = ax.plot(epoch, loss, label="training loss (left axis)", **style)
        ax.set(yscale="log", xlabel="epoch", ylabel=self.loss_name)
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        handles = [self.line_]
        if self.validation_scores is not None:
            handles += self._plot_scores(len(loss))
        # On the upper axes, or scores would run over it.
        (self.score_ax_ or ax).legend(handles=handles, title=name, fontsize="small")
        return self

    def _plot_scores(self, n_epochs: int) -> list[Any]:
        """Draw 1 − R², of the last epochs if there are fewer scores than losses."""
        unexplained = _positive(1.0 - real_array(self.validation_scores, "validation_scores"))
        if not np.isfinite(unexplained).any():
            return []
        epoch = np.arange(1, len(unexplained) + 1) + n_epochs - len(unexplained)
        current = self.figure_.gca()
        self.score_ax_ = self.ax_.twinx()
        self.figure_.sca(current)
        what = "1 − R² on the validation set"
        style = _LINE | {"color": VERMILION, "marker": "s" if n_epochs <= _FEW_EPOCHS else None}
        (self.score_line_,) = self.score_ax_.plot(
            epoch, unexplained, "--", label=f"{what} (right axis)", **style
        )
        self.score_ax_.set(yscale="log", ylabel=what)
        k = int(np.nanargmin(unexplained))
        best = f"best: 1 − R² = {unexplained[k]:.2g} in epoch {epoch[k]}"
        star = {"color": VERMILION, "mec": "black", "ms": 13, "ls": ""}
        (self.best_,) = self.score_ax_.plot(epoch[k], unexplained[k], "*", label=best, **star)
        return [self.score_line_, self.best_]


def _positive(values: ArrayLike) -> Any:
    """Return values as floats, NaN where a logarithmic axis cannot show them."""
    array = real_array(values, "losses or scores").ravel()
    return np.where(np.isfinite(array) & (array > 0), array, np.nan)
