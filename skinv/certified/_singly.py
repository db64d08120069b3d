"""One matrix at a time, with as few NumPy calls as there can be."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.conversion import as_array, as_double, flushes, is_complex, to_host
from .._linalg.arithmetic import Arithmetic
from .._linalg.norms import operator_norm
from .._linalg.workspace import every
from ..bounds._refine import rounded
from ..bounds._residual import Rounding, rounding_of
from ._anchor import UP, Anchor
from ._guesses import OURS, guess
from ._iteration import relative_error, rounding_of_step, too_early
from ._proofs import POLISH, ProofTerms

# Nothing that is squared here may over- or underflow, see :func:`skinv._linalg.norms.scales`.
_LEAST, _LARGEST = 1e-70, 1e70
# A contraction by a centre that is not below this is worth more work for a better one.
_GOOD = 0.5
# One that is not above this takes few steps.
_ENOUGH = 0.03
# Steps of a solution, at most.
_STEPS = 40


class SinglyMixin:
    """A regressor of inverses whose answers are proven, for loops that take matrices singly."""

    tol: float
    max_refine: int
    order: int
    fallback: str
    norm: Any
    family: Any
    report: Any
    _ready: Any
    solve: Any

    def inverse_function(self) -> Callable[[ArrayLike], tuple[NDArray, float, str]]:
        """Return prediction, refinement, proof and fallback as a function of one matrix.

        For loops, where a call of :meth:`report` takes many times as long as an inverse.

        Returns
        -------
        function
            Takes an array of shape (n, n), real or complex, of any strides, and returns
            ``(inverse, bound, status)`` as the rows of :meth:`report` have it, in memory of their
            own. It may be called from several threads. It follows the estimator when
            ``partial_fit`` moves its centre, but not when it is fitted again.

        Raises
        ------
        ValueError
            For a family, whose matrices come from parameters.

        Examples
        --------
        >>> from skinv import CertifiedInverse, LinearInverseApprox
        >>> model = CertifiedInverse(LinearInverseApprox([[2.0, 0.0], [0.0, 4.0]])).fit()
        >>> inverse = model.inverse_function()
        >>> X, bound, status = inverse([[2.5, 0.0], [0.0, 4.0]])
        >>> X.round(3), bool(bound <= 1e-6), status
        (array([[0.4 , 0.  ],
               [0.  , 0.25]]), True, 'refined')
        """
        return _following(self, SinglyMixin._inverse_function)

    def _inverse_function(self) -> Callable[[ArrayLike], tuple[NDArray, float, str]]:
        model = self._one_by_one()
        estimator, report = model.estimator_, model.report
        terms = ProofTerms.of(model)
        polish = terms._replace(max_refine=POLISH)
        exact = terms.fallback in ("exact", "exact-raise")
        predict = estimator.inverse_function() if type(estimator) in OURS else None
        figures = {kind: Figures(kind) for kind in (np.float64, np.complex128)}
        inv = np.linalg.inv

        def single(A: ArrayLike) -> tuple[NDArray, float, str]:
            A = A if type(A) is np.ndarray else as_array(to_host(A))
            _refuse_unsquare(A)
            wide = as_double(A) if A.dtype.char in "dDfF" else A
            known = figures.get(wide.dtype.type)
            if known is not None:
                with np.errstate(all="ignore"):
                    if predict is None:
                        given = wide[None] if is_complex(wide) else wide.reshape(1, -1)
                        x = guess(estimator, given, wide[None])[0]
                    else:
                        x = predict(wide)
                    proven = known.refined(wide, x, terms)
                    status = "refined" if proven is not None and proven[2] else "predicted"
                    if proven is None and exact:
                        status = "exact"
                        try:
                            proven = known.refined(wide, inv(wide), polish)
                        except np.linalg.LinAlgError:
                            proven = None
                if proven is not None:
                    x, bound, _ = proven
                    dtype = A.dtype.newbyteorder("=")
                    if dtype == wide.dtype:
                        return x, bound, status
                    narrow, moved = rounded(x[None], dtype, np.array([bound]), terms.norm)
                    if moved[0] <= terms.tol and moved[0] < 1:
                        return narrow[0], float(moved[0]), status
            found = report(A[None])
            return found.inverse[0], float(found.bound[0]), str(found.status[0])

        return single

    def solve_function(self) -> Callable[[ArrayLike, ArrayLike], tuple[NDArray, Any, str]]:
        """Return :meth:`solve` as a function of one matrix and its right-hand side.

        Returns
        -------
        function
            Takes arrays of shapes (n, n) and (n,), or (n, k), real or complex, of any strides, and
            returns ``(x, bound, status)``: the solution, proven upper bounds of its relative error
            ‖x − A⁻¹b‖₂ / ‖x‖₂, one for each right-hand side, and "proven" where these are within
            `tol`, "inaccurate" where something is proven, and else "rejected", as in :meth:`solve`.
            It may be called from several threads. It follows the estimator when ``partial_fit``
            moves its centre, but not when it is fitted again.

        Raises
        ------
        ValueError
            For a family, whose matrices come from parameters.

        Examples
        --------
        >>> from skinv import CertifiedInverse, LinearInverseApprox
        >>> model = CertifiedInverse(LinearInverseApprox([[2.0, 0.0], [0.0, 4.0]])).fit()
        >>> solve = model.solve_function()
        >>> x, bound, status = solve([[2.5, 0.0], [0.0, 4.0]], [5.0, 2.0])
        >>> x.round(5), bool(bound <= 1e-6), status
        (array([2. , 0.5]), True, 'proven')
        """
        return _following(self, SinglyMixin._solve_function)

    def _solve_function(self) -> Callable[[ArrayLike, ArrayLike], tuple[NDArray, Any, str]]:
        model = self._one_by_one()
        anchor = model._anchor if hasattr(model, "_anchor") else model._find_anchor()
        estimator, tol = model.estimator_, model.tol
        ours = _as_it_is(estimator) if type(estimator) in OURS else None
        predict: Callable[[ArrayLike], NDArray] | None = None  # until a matrix is far away
        exact = model.fallback in ("exact", "exact-raise")
        figures = {kind: Figures(kind) for kind in (np.float64, np.complex128)}

        def single(A: ArrayLike, b: ArrayLike) -> tuple[NDArray, Any, str]:
            nonlocal predict
            A, b = (M if type(M) is np.ndarray else as_array(to_host(M)) for M in (A, b))
            _refuse_unsquare(A)
            known = figures.get(A.dtype.type) if A.dtype.isnative else None
            if known is not None and b.dtype == A.dtype and b.shape == A.shape[:1]:
                near = anchor.of_complex if anchor and is_complex(A) else anchor
                with np.errstate(all="ignore"):
                    found = known.solved_near(A, b, near, tol)
                    if found is None and ours is not None:
                        predict = predict or ours.inverse_function()
                        found = known.solved(A, b, predict(A), tol)
                    if found is None and exact:
                        with suppress(np.linalg.LinAlgError):
                            found = known.solved(A, b, np.linalg.inv(A), tol)
                if found is not None:
                    return *found, "proven"
            x, bound = model.solve(A[None], b[None], return_bound=True)
            proven = np.isfinite(bound).all() and (bound <= tol).all()
            rejected = np.isnan(x).any()
            status = "proven" if proven else "rejected" if rejected else "inaccurate"
            return x[0], float(bound[0]) if b.ndim == 1 else bound[0], status

        return single

    def _one_by_one(self) -> Any:
        """Return this estimator, ready, and not to follow it."""
        if self.family is not None:
            raise ValueError(
                "Matrices of a family come from parameters: pass these to report or solve, in "
                "batches."
            )
        ready = self._ready()
        ready._refuse_rectangular("take report(A[None]), or skinv.pinv(A)")
        return _as_it_is(ready)


def _as_it_is(estimator: Any) -> Any:
    """Return a shallow copy, not by its state, which would prove all anew."""
    same = object.__new__(type(estimator))
    same.__dict__.update(estimator.__dict__)
    return same


def _following(model: Any, make: Callable[[Any], Callable]) -> Callable:
    """Return a function that is made anew when ``partial_fit`` has moved a model's centre."""
    function, estimator = make(model), model.__dict__.get("estimator_")
    if estimator is None:  # it is fitted elsewhere
        return function

    def place() -> tuple[Any, Any]:
        return getattr(estimator, "_engine", None), model.__dict__.get("_anchor")

    known = place()

    def single(*given: ArrayLike) -> tuple[NDArray, Any, str]:
        nonlocal function, known
        now = place()
        if now[0] is not known[0] or now[1] is not known[1]:
            if model.__dict__.get("estimator_") is estimator:
                function = make(model)
            known = now
        return function(*given)

    return single


def _refuse_unsquare(A: NDArray) -> None:
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"Got an array of shape {A.shape}, but one matrix is (n, n).")


class Figures:
    """The constants of proofs of single matrices in a precision."""

    def __init__(self, kind: Any):
        self._none = np.empty(0, kind)
        self._identity = np.zeros((0, 0))

    @property
    def _arithmetic(self) -> Arithmetic:
        """The constants in the direction of rounding that is set now."""
        return Arithmetic.of(self._none)

    def refined(
        self, a: NDArray, x: NDArray, terms: ProofTerms
    ) -> tuple[NDArray, float, int] | None:
        """Refine an approximate inverse until it is proven to be within the tolerance.

        Returns the inverse, its bound and how many steps were taken; None where that does not lead
        there straight away.
        """
        norm, tol, size = terms.norm, terms.tol, _frobenius(a)
        if not _LEAST < size < _LARGEST:
            return None
        constants, whole = Rounding.of(self._arithmetic, len(a), norm), norm == "fro"
        size = constants.size(size if whole else float(operator_norm(a[None], norm)[0]))
        identity, previous = self._identity_of(len(a)), 1.0
        for step in range(terms.max_refine + 1):
            D = a.dot(x)
            D -= identity
            if whole:
                known = constants.residual(size, _frobenius(x), _frobenius(D))
            else:
                known = constants.residual(size, *operator_norm(np.stack([x, D]), norm).tolist())
            bound = known.bound
            if bound <= tol and bound < 1:
                return self._symmetric(a, x, bound, step, terms)
            if not known.computed < 0.9 * previous or step == terms.max_refine:
                return None
            previous, y = known.computed, x
            for _ in range(terms.order - 1):
                y = x - y.dot(D)
            x = y
            ahead = constants.stepped(known, terms.order)
            if ahead <= tol and ahead < 1:
                return self._symmetric(a, x, ahead, step + 1, terms)
        return None

    def solved_near(
        self, a: NDArray, b: NDArray, anchor: Anchor | None, tol: float
    ) -> tuple[NDArray, float] | None:
        """Solve one system by the inverse of a centre; None where that does not lead there."""
        if anchor is None or anchor.moved or a.shape != anchor.center.shape:
            return None
        n, arithmetic = len(a), self._arithmetic
        up, lost = 1 + arithmetic.gamma(n * n + 4), 2 * n * arithmetic.tiny**0.5
        E = (a - anchor.center).ravel()
        off = _frobenius(E) * up * (1 + 2 * arithmetic.unit) + lost
        reach, k = anchor.spectral * off, len(anchor.offsets)
        if k and reach > _ENOUGH:
            # As in `contraction`, by E itself, whose products with the directions are less off.
            z = E.view(np.float64).dot(anchor.probes)[1:]
            share = (2 + 4 * k**0.5) * arithmetic.gamma(2 * n * n + k + 8) + 2 * anchor.skew
            rest = max(off * off * (1 + share) - float(z.dot(z)), 0.0) ** 0.5
            reach = min(reach, float(abs(z).dot(anchor.effects)) + anchor.spectral * rest)
        q = (anchor.defect + reach) * UP
        if not q < _GOOD:
            return None
        size_A = (anchor.size_center + off) * UP
        return self._iterated(a, b, anchor.inverse, q, size_A, anchor.spectral, anchor.size, tol)

    def solved(
        self, a: NDArray, b: NDArray, P: NDArray, tol: float
    ) -> tuple[NDArray, float] | None:
        """Solve one system by an approximate inverse of the matrix."""
        n, arithmetic = len(a), self._arithmetic
        up, lost = 1 + arithmetic.gamma(n * n + 4), 2 * n * arithmetic.tiny**0.5
        D = P.dot(a)
        D -= self._identity_of(n)
        sizes = [_frobenius(M) for M in (a, P)]
        if not all(_LEAST < size < _LARGEST for size in sizes):
            return None
        size_A, size_P = (size * up + lost for size in sizes)
        size_D = _frobenius(D) * up + lost
        q = size_D + rounding_of(arithmetic, n, size_D, size_A * size_P, size_A, size_P)
        q *= UP
        return self._iterated(a, b, P, q, size_A, size_P, size_P, tol) if q < 0.9 else None

    def _iterated(
        self,
        a: NDArray,
        b: NDArray,
        P: NDArray,
        q: float,
        size_A: float,
        spectral: float,
        size_P: float,
        tol: float,
    ) -> tuple[NDArray, float] | None:
        """Iterate x ← x + P(b − ax), ‖I − Pa‖ <= q, as :mod:`skinv.certified._iteration` does.

        Norms of matrices are moderate.
        """
        size_b = _frobenius(b)
        if not _LEAST < size_b < _LARGEST:
            return None
        n, arithmetic = len(a), self._arithmetic
        x, previous = P.dot(b), math.inf
        wanted = tol * (1 - q) * _frobenius(x)  # as far as is known
        early = too_early(q, tol)
        for k in range(_STEPS):
            r = b - a.dot(x)
            step = P.dot(r)
            x += step
            if k < early:
                continue
            size_step = _frobenius(step)
            slow = not size_step < 0.7 * previous
            previous = size_step
            if q * size_step > wanted and not slow:
                continue
            size_x, size_r = _frobenius(x), _frobenius(r)
            size_y = size_x + size_step
            figures = (size_A, spectral, size_P, size_b, size_r, size_y)
            off = rounding_of_step(arithmetic, n, *figures)
            bound = relative_error(arithmetic, n, q / (1 - q) * (size_step + off) + off, size_x)
            if 0 <= bound <= tol:
                return x, bound
            if slow or not bound >= 0:
                return None
        return None

    def _identity_of(self, n: int) -> NDArray:
        identity = self._identity  # of whatever order another thread has asked for
        if len(identity) != n:
            identity = self._identity = np.eye(n)
        return identity

    def _symmetric(
        self, a: NDArray, x: NDArray, bound: float, steps: int, terms: ProofTerms
    ) -> tuple[NDArray, float, int] | None:
        """Make the answer Hermitian if the matrix is, as :func:`with_symmetry` does.

        The norm of the matrix is moderate.
        """
        likely = len(a) > 1 and a.item(0, -1) == a.item(-1, 0).conjugate()
        if likely and (flushes() or every(a == a.T.conj())):
            if terms.norm != "fro" or flushes():
                return None
            x = x + x.T.conj()
            x *= 0.5
            bound = (bound + 3 * self._arithmetic.unit * (1 + bound)) * (1 + 2.0**-46)
            if not (bound <= terms.tol and bound < 1):
                return None
        return x, bound, steps


def _frobenius(a: NDArray) -> float:
    row = a.ravel()
    row = row if row.dtype.char == "d" else row.view(np.float64)
    return math.sqrt(row.dot(row))
