"""PolynomialInverseApprox: polynomials of the few coordinates that a family moves in."""

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from .._arrays.conversion import real_array
from .._arrays.training import training_rows
from .._linalg.form import ModelForm, ReducedMap
from ..persistence import Fitted
from .extrapolation import ExtrapolationMixin
from .linear import center_and_inverse
from .selection import fit_polynomial
from .streams import STREAM, RelearningMixin
from .units import FitUnits

__all__ = ["PolynomialInverseApprox"]


class PolynomialInverseApprox(RelearningMixin, ExtrapolationMixin, BaseEstimator):
    """Approximate the inverses of a family of matrices by polynomials of a few coordinates.

    Matrices that come from a model with few parameters move in few directions, and so do their
    inverses. The fit finds the directions that move the inverses most, and by least squares the
    polynomial of these coordinates; rows that are held out say how many terms it takes. Where the
    known matrices are too few for that, the first-order series about their mean is used. With
    targets given it is a general regressor, for any smooth quantity; its features then may be the
    parameters of a family, and its targets the inverses.

    Parameters
    ----------
    degree : int or "auto", default="auto"
        Total degree of the terms, at most. "auto" has no limit.
    n_components : int or "auto", default="auto"
        Number of coordinates, at most; "auto" is 64, and more are not taken.
    max_terms : int, default=256
        Number of terms, at most: the time of a prediction is proportional to it. The terms are
        those of the largest importance, which is the product of those of its factors; as many are
        taken as lower the error of the rows held out. If `degree` and `n_components` are both
        given, all terms are taken that there are, up to this and the number of rows.
    on_extrapolation : {"nan", "keep"}, default="nan"
        What ``predict`` answers for matrices that are far from what was known, where polynomials
        are worth nothing: NaN, with a warning for arrays on the host, or the polynomial's value.
    max_extrapolation : float, default=1.5
        How many times as far as the known matrices others may go, along a coordinate that enters
        with the highest degree D. Along one that enters with degree d they may go
        ``max_extrapolation**(D/d)`` times as far, so that no term grows more than
        ``max_extrapolation**D``; so may (with d = 1) what is outside all coordinates, against what
        was outside in training, or in rows held out. D is 3, at least.
    memory : int, default=256
        Number of the latest matrices that :meth:`partial_fit` keeps, to learn from them anew.
    max_share : float, default=0.5
        Share of the latest matrices that may extrapolate before it does.

    Attributes
    ----------
    n_components_ : int
        Number of coordinates; 0 for the series.
    n_terms_ : int
        Number of terms, the constant one among them; 0 for the series.
    degree_ : int
        Their largest total degree; 1 for the series.
    held_out_error_ : float
        Root mean square error of the rows held out (one of 5), of inverses in units in which their
        rows and columns are of a common size, of other targets in units of their standard
        deviations. NaN for fewer than 10 rows, and for the series.
    n_moves_ : int
        How often :meth:`partial_fit` has fitted anew. Only after it has looked at a block.
    long_ways_ : float
        Share of the latest matrices, since then, that extrapolate. Only after it has, too.
    n_features_in_ : int
        Number of entries of a matrix.

    See Also
    --------
    LinearInverseApprox : The series by itself.
    NeuralInverseRegressor : A network on what a polynomial leaves.

    Notes
    -----
    A non-intrusive reduced-basis method (Hesthaven and Ubbiali 2018, "Non-intrusive reduced order
    modeling of nonlinear problems using neural networks"). The coordinates are principal directions
    of the first-order effects BEB of deviations E, B being the inverse of the mean, with rows and
    columns scaled to common units. Terms are products of Legendre polynomials; least squares with
    the leading ones are nested, so that a single QR decomposition tells the held-out errors of them
    all. A ridge, chosen by these, too, holds down coefficients that are large for the importance of
    their terms. For predictions in lower precisions the same terms, or fewer, are fitted to rows
    rounded to them. Of matrices in half precision only what exceeds their rounding is taken for
    extrapolation.

    Matrices (m, n) that are not square come as a stack. What is learned is the inverse Z of the
    smaller of their Gram matrices AAᴴ and AᴴA, predicted is the pseudo-inverse AᴴZ or ZAᴴ, and
    attributes, ``n_features_in_`` among them, are those of the Gram matrices.

    Examples
    --------
    >>> from skinv import LinearInverseApprox
    >>> from skinv.datasets import load_power_flow
    >>> family = load_power_flow("case6ww")
    >>> known, unseen = family.data[::2], family.data[1::2]
    >>> polynomial, series = PolynomialInverseApprox().fit(known), LinearInverseApprox().fit(known)
    >>> error = abs(polynomial.predict(unseen) - family.target[1::2]).mean()
    >>> bool(error < 1e-4 * abs(series.predict(unseen) - family.target[1::2]).mean())
    True
    """

    _reads_only = True
    _parameter_constraints: dict[str, list] = {
        "degree": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_terms": [Interval(Integral, 1, None, closed="left")],
        "on_extrapolation": [StrOptions({"nan", "keep"})],
        "max_extrapolation": [Interval(Real, 1, None, closed="left")],
        "memory": [Interval(Integral, 1, None, closed="left")],
        "max_share": [Interval(Real, 0, 1, closed="left")],
    }

    _map: ReducedMap | None
    _series = Fitted()
    _stored: ClassVar = {"_map": ReducedMap}

    def __init__(
        self,
        degree: int | str = "auto",
        n_components: int | str = "auto",
        *,
        max_terms: int = 256,
        on_extrapolation: str = "nan",
        max_extrapolation: float = 1.5,
        memory: int = 256,
        max_share: float = 0.5,
    ) -> None:
        self.degree = degree
        self.n_components = n_components
        self.max_terms = max_terms
        self.on_extrapolation = on_extrapolation
        self.max_extrapolation = max_extrapolation
        self.memory = memory
        self.max_share = max_share

    def fit(self, X: Any, y: Any = None) -> "PolynomialInverseApprox":
        """Find the coordinates and fit the polynomial.

        Parameters
        ----------
        X : array-like of shape (n_samples, n*n), (n_samples, n, n) or (n_samples, m, n)
            Known matrices; with `y`, any features, such as the parameters of a family.
        y : array-like of shape (n_samples, n_targets) or (n_samples,), default=None
            Targets. None computes the exact inverses.

        Returns
        -------
        self : PolynomialInverseApprox

        Raises
        ------
        ValueError
            For training matrices that cannot be inverted, and for parameters out of range.

        Warns
        -----
        AmbiguousShapeWarning
            If `X` could be a single matrix.
        """
        with training_rows(X, y) as (X, y):
            self._validate_params()
            for name in ("_series", "_map", "_engine", *STREAM):  # of an earlier fit
                self.__dict__.pop(name, None)
            factor = float(real_array(self.max_extrapolation, "max_extrapolation"))
            rows, targets, self._inverse_targets = self._validate_training(X, y)
            with np.errstate(all="ignore"):  # of numbers of very different size
                units = FitUnits.of(rows, targets, self._inverse_targets)
                scaled = units.scaled(rows, targets)
                found = fit_polynomial(
                    *scaled,
                    inverses=self._inverse_targets,
                    n_components=None if self.n_components == "auto" else int(self.n_components),
                    degree=None if self.degree == "auto" else int(self.degree),
                    max_terms=int(self.max_terms),
                )
                if found is not None:
                    self._map = found.to_map(*scaled, factor).in_units(units.x, units.y)
                    self.n_components_ = self._map.projection.shape[1]
                    self.n_terms_ = len(found.monomials) + 1
                    self.degree_ = max(map(len, found.monomials), default=0)
                    self.held_out_error_ = found.error
            if found is None:
                self._keep_series(rows)
            self._answers_all = self.on_extrapolation == "keep"
            self._n_known = len(rows)
            self._set_engine()
        return self

    def _keep_series(self, rows: NDArray) -> None:
        try:
            center, inverse = center_and_inverse(rows)
        except ValueError as error:
            raise ValueError(
                f"Got {len(rows)} matrices, which are too few for a polynomial, and whose mean is "
                f"singular or nearly so, so that there is no series about it: pass 10 at least."
            ) from error
        self._own(_series=np.stack([center, inverse]))
        self._map = None
        self.n_components_, self.n_terms_, self.degree_ = 0, 0, 1
        self.held_out_error_ = float("nan")

    def _make_form(self) -> Callable[[], ModelForm]:
        if self._map is None:
            center, inverse = self._series
            return partial(ModelForm.series, center, inverse, 1)
        zeros = np.zeros(self._map.n_outputs), np.zeros(self.n_features_in_)
        reduced = self._map.answering_all() if self._answers_all else self._map
        return partial(ModelForm, *zeros, reduced=reduced)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_map")
