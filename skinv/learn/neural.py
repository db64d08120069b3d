"""NeuralInverseRegressor: a multilayer perceptron that learns what a baseline leaves."""

import math
import time
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from .._arrays.training import training_rows
from .._arrays.words import Auto, Beyond, Precision, Series
from ..geometry._drawing import check_sampler
from .perceptron import PerceptronMixin
from .training.preparation import SERIES
from .training.setup import start
from .training.tiers import TIERS, train_tier

__all__ = ["NeuralInverseRegressor"]

# Matrices to which a stream's scaling and baseline are fitted, at least.
_FIRST_SAMPLE = 4096
# More terms and units that leave more than this share of the error are not worth their time.
_WORTH = 0.85
# What a number of things may be.
_COUNT = Interval(Integral, 1, None, closed="left")


class NeuralInverseRegressor(PerceptronMixin, BaseEstimator):
    """Learn the inverses of a family, or a region, of matrices with a small neural network.

    A multilayer perceptron in a skorch net learns what a baseline leaves of the inverse: of a
    family that moves in few directions a polynomial of its reduced coordinates, which the network
    sees, too; of matrices that fill their space an affine map or a short Taylor series. No network
    inverts matrices everywhere; train and use this one on matrices that keep away from the singular
    ones. With targets given it is a general regressor, for any smooth quantity; its features then
    may be the parameters of a family, and its targets the inverses.

    Parameters
    ----------
    hidden_layer_sizes : int, array-like of int or "auto", default="auto"
        Widths of the hidden layers. "auto" in reduced coordinates is one layer of at most 40 units,
        fewer for few rows, which is set to 0 where rows held out say that it adds nothing. On all
        entries it is one layer of 8 units per input that varies, and of fewer, with a warning,
        where that would be more than 4 million weights (matrices of order 23 and more); for
        matrices of order 2 it is two layers of 16, unless they are of "relu".
    activation : {"silu", "relu", "tanh"}, default="silu"
        Between the layers.
    baseline : {"auto", "affine", "taylor", "taylor2", "taylor3"} or None, default="auto"
        What the network starts from. In reduced coordinates "auto" is a polynomial of up to 36
        terms (as :class:`PolynomialInverseApprox`) and, unless widths or `early_stopping` are
        given, up to 128 where the relative error of rows held out would be above 2e-5, and up to
        256 where it would still be above 1e-3; "affine" is one of degree 1; where the rows are too
        few for either, "auto" is the first-order series, with no network. On all entries it is the
        affine least-squares fit (for inverses, in directions in which the training matrices hardly
        vary, the tangent), or the Taylor series of the inverse at their mean, of order 1, 2 or 3.
        "auto" takes the one of "affine" and "taylor2" that leaves less, and "taylor2" where an
        affine map would have more than 33 million coefficients. For targets that are not inverses,
        whose derivatives are unknown, it is the affine fit always.
    solver : {"auto", "adam", "lm"}, default="auto"
        "adam", or "lm" for Levenberg-Marquardt, which takes at most two hidden layers and is by far
        the most accurate for small networks of a smooth activation. "auto" takes it for at most
        3000 weights and biases (600 with "relu"), if there are at least 4 times as many numbers to
        fit (n_samples times outputs): with fewer it would fit noise. Adam it is, too, if a callback
        schedules learning rates or works on gradients. Of a ReLU network with one hidden layer,
        without a validation set, Levenberg-Marquardt also moves the units that do least.
    init : {"default", "taylor"}, default="default"
        "taylor" starts as a ReLU network that equals the first-order Taylor approximation; it needs
        one hidden layer of at least as many units as inputs vary (twice as many to hold outside the
        training box), ``activation="relu"`` and ``baseline=None``.
    learning_rate : {"one_cycle", "warm_restarts", "constant"}, default="one_cycle"
        Schedule over the steps of a fit by Adam; "constant" where callbacks schedule the rates.
        ``partial_fit``, which knows no end, takes constant steps of a tenth of
        `learning_rate_init` under the other two.
    learning_rate_init : float or "auto", default="auto"
        Largest learning rate. "auto" is 0.01, and 5/n for layers of n > 500 units, where more makes
        the steps of Adam unstable.
    weight_decay : float, default=0.0
        L2 penalty: half of it times the squared norm of weights and biases is added to the mean
        squared error.
    batch_size : int or "auto", default="auto"
        Largest batch. For Adam "auto" is n_samples/200, between 64 and 1024: then an epoch has at
        most 200 steps unless there are more than 204,800 samples. For Levenberg-Marquardt it is 16
        numbers to fit per parameter, at least 1024 rows.
    max_iter : int, default=100
        Number of epochs. An epoch of Adam uses every sample once; one of Levenberg-Marquardt is at
        most 10 steps (fewer past 600 parameters, down to 2), on batches of samples drawn anew. The
        last fifth of its epochs takes a quarter of the steps on batches four times as large.
    tol : float, default=1e-4
        Relative improvement of the loss that counts, see `n_iter_no_change`.
    early_stopping : bool, default=False
        Whether to keep a validation set and restore the best epoch.
    validation_fraction : float, default=0.1
        Share of the training data in the validation set.
    n_iter_no_change : int, default=10
        Epochs without improvement before stopping, under the constant rate and by
        Levenberg-Marquardt (a schedule, which gains most in its last epochs, is run to its end), of
        the validation loss if `early_stopping`, of the training loss otherwise (of
        Levenberg-Marquardt only where each step uses all samples).
    warm_start : bool, default=False
        Whether ``fit`` goes on from the previous solution, with its scaling and baseline.
    hard_fraction : float, default=0.0
        Share of each epoch's samples that are drawn with probability proportional to their squared
        error, which is largest near the edge of a region, instead of uniformly: lowers the largest
        errors and, if it is not small, raises the mean.
    callbacks : list of skorch callbacks, default=None
        Copied, then given to the net. Callbacks that listen to single batches make it use skorch's
        own loop, which is several times slower.
    n_components : int, "auto" or None, default="auto"
        Number of reduced coordinates that the network sees, which ``fit`` finds as
        :class:`PolynomialInverseApprox` does. "auto" is 8 if the matrices move in few directions
        (at most half of the entries), or if there are far more outputs than features, and None if
        they fill their space, for a Taylor `baseline` and for None, and in ``partial_fit`` and
        ``fit_sampler``. None is a network on all entries that vary, as in the paper.
    max_time : float, default=None
        Seconds from the start of a fit after which training stops, with the best model so far; the
        schedule of learning rates keeps to it. What comes before the first step (checks, scaling,
        baseline) is not cut short, nor is a single step. None has no limit.
    on_extrapolation : {"nan", "keep"}, default="nan"
        What ``predict`` answers in reduced coordinates for matrices that are far from the known
        ones: NaN, with a warning for arrays on the host, or what polynomial and network say.
    max_extrapolation : float, default=1.5
        How far that is, see :class:`PolynomialInverseApprox`.
    dtype : {"float32", "float64"}, default="float32"
        Precision of Adam; Levenberg-Marquardt works in float64. Predictions are computed in the
        dtype of their input.
    device : str, default="auto"
        Where to train, and to predict on arrays: "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds weights, batches and the validation split. The same seed gives the same bits on the
        same device. Global generators are neither used nor touched; None is a new seed.
    verbose : int, default=0
        1 shows a progress bar over the epochs of training; 2 one over the matrices of large
        predictions, too.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_in, n_out), float64
        Weights of the layers, scaling included, in :class:`sklearn.neural_network.MLPRegressor`'s
        orientation: the prediction is the baseline plus the perceptron of these on plain rows.
    intercepts_ : list of ndarray of shape (n_out,), float64
        Biases of the layers.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Training loss of each epoch: the mean squared error as a share of what the baseline leaves.
    validation_scores_ : list of float or None
        R² on the validation set after each epoch, if `early_stopping`.
    best_loss_ : float
        The smallest validation loss of the last fit if `early_stopping`, or if widths were chosen
        by rows held out; else its smallest training loss.
    solver_ : {"adam", "lm"}
        The solver of the last fit.
    net_ : skorch.NeuralNet
        The net, in scaled space.
    n_features_in_ : int
        Number of entries of a matrix.
    n_outputs_ : int
        Number of targets.

    See Also
    --------
    LinearInverseApprox : The baselines by themselves.
    FeasibleRegionSampler : Where the training matrices come from.

    Notes
    -----
    After Ji, Wu and Xi (2025), "Rethinking Neural-based Matrix Inversion: Why can't, and Where
    can". Learning the residual of the baseline, scaled to unit variance, is ours, and so is the
    training: Adam without autograd (in a CUDA graph where there is a GPU), and steps of
    Levenberg-Marquardt from analytic normal matrices with geodesic acceleration (Transtrum and
    Sethna 2012, "Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares
    minimization"). Of inverses the loss is the squared Frobenius error in units, of powers of two,
    in which rows and columns of the training matrices are of one size, so that a fit does not
    depend on those of the caller; R² is in those of the caller. A fit that is interrupted from the
    keyboard warns, and leaves the best model so far. A pickled model holds NumPy arrays only.

    Matrices (m, n) that are not square come as a stack. What is learned is the inverse Z of the
    smaller of their Gram matrices AAᴴ and AᴴA, predicted is the pseudo-inverse AᴴZ or ZAᴴ, and
    attributes, ``n_features_in_`` among them, are those of the Gram matrices, whose condition
    numbers, squares of those of the matrices, are what is refused past 1/√eps in ``fit``.

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, LinearInverseApprox
    >>> sampler = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    >>> X, Y = sampler.sample(2000)
    >>> net = NeuralInverseRegressor(max_iter=20, random_state=0).fit(X)
    >>> X_new, Y_new = sampler.sample(1000)
    >>> linear = LinearInverseApprox().fit(X)
    >>> bool(abs(net.predict(X_new) - Y_new).mean() < abs(linear.predict(X_new) - Y_new).mean() / 5)
    True
    """

    _reads_only = True
    _parameter_constraints: dict[str, list] = {
        "hidden_layer_sizes": [_COUNT, "array-like", StrOptions({"auto"})],
        "activation": [StrOptions({"relu", "silu", "tanh"})],
        "baseline": [StrOptions({"auto", "affine", *SERIES}), None],
        "solver": [StrOptions({"auto", "adam", "lm"})],
        "init": [StrOptions({"default", "taylor"})],
        "learning_rate": [StrOptions({"constant", "one_cycle", "warm_restarts"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [_COUNT, StrOptions({"auto"})],
        "max_iter": [_COUNT],
        "tol": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [_COUNT],
        "warm_start": ["boolean"],
        "hard_fraction": [Interval(Real, 0, 1, closed="left")],
        "callbacks": [list, tuple, None],
        "n_components": [_COUNT, StrOptions({"auto"}), None],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "on_extrapolation": [StrOptions({"nan", "keep"})],
        "max_extrapolation": [Interval(Real, 1, None, closed="left")],
        "dtype": [StrOptions({"float32", "float64"})],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | NDArray[np.integer] | Auto = "auto",
        activation: Literal["relu", "silu", "tanh"] = "silu",
        *,
        baseline: Series | Literal["affine"] | None = "auto",
        solver: Literal["auto", "adam", "lm"] = "auto",
        init: Literal["default", "taylor"] = "default",
        learning_rate: Literal["constant", "one_cycle", "warm_restarts"] = "one_cycle",
        learning_rate_init: float | Auto = "auto",
        weight_decay: float = 0.0,
        batch_size: int | Auto = "auto",
        max_iter: int = 100,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        hard_fraction: float = 0.0,
        callbacks: Sequence[Any] | None = None,
        n_components: int | Auto | None = "auto",
        max_time: float | None = None,
        on_extrapolation: Beyond = "nan",
        max_extrapolation: float = 1.5,
        dtype: Precision = "float32",
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.baseline = baseline
        self.solver = solver
        self.init = init
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.hard_fraction = hard_fraction
        self.callbacks = callbacks
        self.n_components = n_components
        self.max_time = max_time
        self.on_extrapolation = on_extrapolation
        self.max_extrapolation = max_extrapolation
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "NeuralInverseRegressor":
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            Training matrices; with `y`, any features.
        y : array-like of shape (n_samples, n_outputs) or (n_samples,), default=None
            Targets. None computes the exact inverses, in float64.

        Returns
        -------
        self : NeuralInverseRegressor

        Raises
        ------
        ValueError
            If training matrices are singular, not finite, or of condition number past 1/√eps (the
            rows are named), if loss or weights become infinite or NaN, or if no step was taken.

        Warns
        -----
        AmbiguousShapeWarning
            If `X` could be a single matrix.
        """
        deadline = self._deadline()
        with training_rows(X, y) as (X, y):
            rows, targets, inverses, resume = self._start(X, y, self.warm_start)
        least, best = math.inf, dict[str, Any]()
        try:
            for max_terms, enough in TIERS.items():
                error, goes_on = train_tier(
                    self, rows, targets, inverses, resume, max_terms, deadline
                )
                if not best or error < _WORTH * least:
                    least, best = error, dict(self.__dict__)
                if not goes_on or least <= enough or time.monotonic() >= deadline:
                    break
        except BaseException:
            self._fitted = resume  # what is half done is not asked
            raise
        self.__dict__.update(best)
        self._set_engine()
        return self

    def partial_fit(self, X: Any, y: Any = None) -> "NeuralInverseRegressor":
        """Train for one epoch on a batch of data, going on from where training was.

        The first call fits scaling and baseline, for good.

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            Training matrices; with `y`, any features.
        y : array-like of shape (n_samples, n_outputs) or (n_samples,), default=None
            Targets. None computes the exact inverses.

        Returns
        -------
        self : NeuralInverseRegressor

        Raises
        ------
        ValueError
            As for :meth:`fit`.
        """
        deadline = self._deadline()
        with training_rows(X, y) as (X, y):
            rows, targets, inverses, resume = self._start(X, y, True)
        if not resume:
            start(self, rows, targets, inverses)

        from .training.fitting import train_on_arrays

        train_on_arrays(self, rows, targets, None, partial=True, deadline=deadline)
        return self

    def fit_sampler(self, sampler: Any, n_steps: int | None = None) -> "NeuralInverseRegressor":
        """Train on fresh matrices in every step, drawn and inverted on the device.

        Scaling and baseline come from a first sample. There is nothing to hold out:
        `early_stopping` is not used.

        Parameters
        ----------
        sampler : FeasibleRegionSampler
            Fitted. Its stream of samples goes on: while one block of matrices is used the next is
            being drawn.
        n_steps : int, default=None
            Number of steps, each on a batch of `batch_size` fresh matrices ("auto": 256 for Adam),
            rounded up to whole epochs (64 steps of Adam; of Levenberg-Marquardt see `max_iter`).
            None is 10,000 steps of Adam, and 1,000 of Levenberg-Marquardt.

        Returns
        -------
        self : NeuralInverseRegressor

        Raises
        ------
        ValueError
            If `n_steps` is not positive, for what is no fitted sampler or for matrices that must
            not be fitted, or if the loss becomes infinite or NaN.
        """
        deadline = self._deadline()
        check_sampler(sampler)
        if n_steps is not None and (not isinstance(n_steps, Integral) or n_steps < 1):
            raise ValueError(f"Got n_steps={n_steps!r}, but a positive integer is expected.")
        batch_size = 0 if self.batch_size == "auto" else self.batch_size
        n_first = max(batch_size, 4 * sampler.center_.size, _FIRST_SAMPLE)
        first = sampler.sample(n_first, return_inverse=False)
        rows, targets, inverses, resume = self._start(first, None, self.warm_start)
        if not resume:
            start(self, rows, targets, inverses, center=sampler.center_)

        from .training.fitting import train_on_stream

        train_on_stream(self, sampler, None if n_steps is None else int(n_steps), deadline)
        return self
