"""inv and solve: exact answers for stacks of matrices, each with a proof, without any fit."""

from contextlib import suppress
from functools import partial
from numbers import Real
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from .._arrays.conversion import (
    as_double,
    is_tensor,
    loaded_torch,
    namespace,
    to_host,
)
from .._arrays.memory import host_view
from .._arrays.results import InverseReport, SolutionReport
from .._arrays.rows import list_rows
from .._arrays.shapes import Matrices
from .._linalg.norms import norm_bound
from .._linalg.workspace import copied, indices
from ..bounds._residual import scaled
from ..learn.linear import LinearInverseApprox
from ._estimator import CertifiedInverse
from ._exact import has_closed_form
from ._given import Given, systems
from ._proofs import (
    EXACT,
    STATUSES,
    ProofTerms,
    all_by_closed_forms,
    certify_all,
    invert,
    radius_of,
)
from ._singly import Figures
from ._solves import SolvesMixin

Fallback = Literal["exact", "exact-raise", "nan", "keep", "raise"]
# What is aimed at near a known matrix.
_TOL = 1e-10
# Bounds are computed in a few float64 operations.
_UP = 1 + 2.0**-45
_CHECKS: dict[str, list] = {
    "tol": [Interval(Real, 0, None, closed="neither"), None],
    "fallback": [StrOptions({"exact", "exact-raise", "nan", "keep", "raise"})],
}
# What single matrices are to be proven to, at once: others go the long way. And what is aimed at in
# solutions.
_AT_ONCE = 1e-9
_SINGLE = ProofTerms(_AT_ONCE, 2, "fro", 0, "exact")
_FIGURES = {"d": Figures(np.float64), "D": Figures(np.complex128)}


def inv(
    A: Any,
    *,
    near: Any = None,
    tol: float | None = None,
    fallback: Fallback = "exact",
    axes: tuple[int, int] = (-2, -1),
    return_report: bool = False,
) -> Any:
    """Invert matrices, and prove of each inverse how far off it can be.

    Like :func:`numpy.linalg.inv`, but that a singular matrix among others is answered by NaN and
    spoils nothing, and nothing wrong comes back: what is not proven is NaN.

    Parameters
    ----------
    A : array-like or tensor of shape (n, n) or (..., n, n)
        Matrices, real or complex; NaN and infinity are allowed, and answered by NaN.
    near : array-like of shape (n, n) or fitted estimator, default=None
        A known matrix that all are near to, or a regressor of inverses fitted to such: what it
        predicts is refined and proven, and only the others are inverted from scratch. A matrix is
        fitted to in every call, which takes milliseconds.
    tol : float, default=None
        Relative error ‖A⁻¹ − X‖_F / ‖A⁻¹‖_F to be proven. None takes whatever is, and 1e-10 of
        what comes from `near`.
    fallback : {"exact", "exact-raise", "nan", "keep", "raise"}, default="exact"
        What becomes of matrices whose error could not be proven to be within `tol`, as of
        :class:`skinv.CertifiedInverse`. Of these words "exact" and "nan" never raise for a matrix.
    axes : tuple of two int, default=(-2, -1)
        Where rows and columns are: (0, 1) for matrices of shape (n, n, ...).
    return_report : bool, default=False
        Whether to return all that is known.

    Returns
    -------
    ndarray or tensor of the shape of `A`
        Inverses; in single precision for single, else in double. Symmetric or Hermitian where the
        matrices are. With `return_report` an InverseReport: ``inverse``; ``bound``, proven upper
        bounds of the relative errors, and ``status``, as :meth:`skinv.CertifiedInverse.report`
        describes them, of the shape of `A` without `axes`; ``condition``, proven upper bounds of
        the condition numbers ‖A‖_F ‖A⁻¹‖_F; ``distance``, lower bounds of the distance to the
        nearest singular matrix in the 2-norm, in the units of `A`; ``radius``, bounds of the errors
        entry by entry, found out when it is first asked for; ``tol``, what was to be proven,
        without which "exact" says no more than that `bound` is below 1; and ``rows()``, the numbers
        of what is not proven.

    Raises
    ------
    ValueError
        For what holds no square matrices, for numbers that float64 cannot hold, and with
        ``fallback="raise"`` or "exact-raise" if an error could not be proven to be within `tol`.

    See Also
    --------
    skinv.solve : Solutions of linear systems.
    skinv.CertifiedInverse : Around a regressor that learns a family of matrices.

    Notes
    -----
    Tensors that ask for gradients get them, −XᴴGXᴴ, and 0 for matrices that are answered by NaN.

    Up to order 16 inverses come from closed forms (n <= 4) or from elimination without pivoting,
    entry by entry over the whole batch, and from LAPACK where that loses digits; above from LAPACK.
    The proof is that of :func:`skinv.bounds.residual_bound`; of closed forms of real matrices it is
    that the determinant d and the adjugate are off by rounding, which multiplies products of one
    entry of each row: the error is at most some ``u·c·r_1···r_n/|d|``, with the norms r_i of the
    rows and c = n!/n^(n/2) (Carlen, Lieb & Loss 2006, "An inequality of Hadamard type for
    permanents").

    Examples
    --------
    >>> import skinv
    >>> A = np.array([[[2.0, 1.0], [1.0, 3.0]], [[1.0, 2.0], [2.0, 4.0]]])
    >>> skinv.inv(A)
    array([[[ 0.6, -0.2],
            [-0.2,  0.4]],
    <BLANKLINE>
           [[ nan,  nan],
            [ nan,  nan]]])
    >>> report = skinv.inv(A, return_report=True)
    >>> report.status, bool(report.bound[0] < 1e-14), float(report.distance[0].round(2))
    (array(['exact', 'singular'], dtype='<U12'), True, 1.29)
    """
    if near is None and tol is None and fallback == "exact" and not return_report:
        X = _single_inverse(A)
        if X is not None:
            return X
    validate_parameter_constraints(_CHECKS, {"tol": tol, "fallback": fallback}, "inv")
    given = Given.of(A, axes)
    found: Any
    if near is not None:
        model = _model_near(near, tol, fallback)
        found, tol = model.report(given.stack), model.tol
    else:
        found = _inverses(given, tol, fallback)
    inverse = given.matrices(found.inverse)
    if _with_gradients(A):
        from ._gradients import inverse_of

        inverse = inverse_of(A, inverse, given.axes)
    return _report_of(found, inverse, given, tol) if return_report else inverse


def _with_gradients(*given: Any) -> bool:
    """Tell whether gradients are asked for."""
    wanted = any(is_tensor(M) and M.requires_grad for M in given)
    return wanted and bool(loaded_torch().is_grad_enabled())


def _single_inverse(A: Any) -> Any:
    """Return the inverse of one matrix in a few NumPy calls, or None."""
    figures = _FIGURES.get(A.dtype.char) if type(A) is np.ndarray and A.dtype.isnative else None
    if figures is None or A.ndim != 2 or not 0 < A.shape[0] == A.shape[1]:
        return None
    with np.errstate(all="ignore"), suppress(np.linalg.LinAlgError):
        found = figures.refined(A, np.linalg.inv(A), _SINGLE)
        return None if found is None else found[0]
    return None


def _inverses(given: Given, tol: float | None, fallback: str) -> SimpleNamespace:
    """Return what is found out of inverses from scratch."""
    terms = ProofTerms(1.0 if tol is None else tol, 2, "fro", 2, fallback)

    def certify_block(A: Any, X: Any, where: Any, size: Any) -> Any:
        return invert(A, X, size, terms)

    A = given.stack
    if has_closed_form(A):
        found = all_by_closed_forms(A)
        rest = indices(~(found.bound <= terms.tol))
        if len(rest):
            others = certify_all(A[rest], certify_block, more=False)
            for name, values in vars(others).items():
                getattr(found, name)[rest] = values
    else:
        found = certify_all(A, certify_block, more=False)
    if "raise" in fallback:
        _refuse(found.status > EXACT, "inverses", terms.tol)
    return found


def _refuse(open_: Any, what: str, tol: float) -> None:
    if open_.any():
        raise ValueError(
            f"The error of the {what} of matrices {list_rows(open_)} could not be proven to be "
            f"within {tol}; leave these out, or use fallback='exact' or 'nan'."
        )


def _model_near(near: Any, tol: float | None, fallback: str) -> CertifiedInverse:
    """Return what proves inverses near a known matrix, or those that a regressor predicts."""
    if isinstance(near, CertifiedInverse):
        estimator = near.estimator_ if hasattr(near, "estimator_") else near.estimator
        tol = near.tol if tol is None else tol
    elif hasattr(near, "predict"):
        estimator = near
    else:
        estimator = LinearInverseApprox(near).fit()
    return CertifiedInverse(estimator, tol=_TOL if tol is None else tol, fallback=fallback)


def _report_of(found: Any, inverse: Any, given: Given, tol: float | None) -> InverseReport:
    """Return what was found out of a stack, as of the matrices that it came from."""
    report = InverseReport(inverse=inverse, bound=given.came.numbers(found.bound))
    status = found.status if found.status.dtype.kind == "U" else STATUSES[found.status]
    report.status = status.reshape(given.came.shape)
    figures = _condition_and_distance(given.stack, found.inverse, found.bound)
    report.condition, report.distance = map(given.came.numbers, figures)
    report.tol = tol
    report._later("radius", _radius, given._replace(stack=copied(given.stack)))
    return report


def _stack_of(report: InverseReport, given: Given) -> Any:
    """Return the inverses in a report, as they are now, as a stack again."""
    X = report["inverse"]
    X = X.detach() if is_tensor(X) else np.asarray(to_host(X))
    X = namespace(X).moveaxis(X, given.axes, (-2, -1)).reshape(given.stack.shape)
    return host_view(X)


def _radius(report: InverseReport, given: Given) -> Any:
    X = _stack_of(report, given)
    return given.matrices(radius_of(InverseReport(inverse=X), given.stack))


@np.errstate(all="ignore")
def _condition_and_distance(A: Any, X: Any, bound: Any) -> tuple[Any, Any]:
    """Bound ‖A‖_F ‖A⁻¹‖_F from above, and 1/‖A⁻¹‖_F, which is no further than singular matrices."""
    a, x, unit = scaled(as_double(A), as_double(X))
    xp, size = namespace(x), norm_bound(x, "fro") / (1 - bound) * _UP
    size = xp.where(bound < 1, size, np.inf)
    unit = 1.0 if unit is None else unit[:, 0, 0]
    return norm_bound(a, "fro") * size * _UP, unit / (size * _UP)


def solve(
    A: Any,
    b: Any,
    *,
    near: Any = None,
    tol: float | None = None,
    fallback: Fallback = "exact",
    return_report: bool = False,
) -> Any:
    """Solve linear systems A x = b, and prove of each solution how far off it can be.

    Like :func:`numpy.linalg.solve`, but that a singular matrix among others is answered by NaN and
    spoils nothing, and nothing wrong comes back: what is not proven is NaN.

    Parameters
    ----------
    A : array-like or tensor of shape (n, n) or (..., n, n)
        Matrices, real or complex; NaN and infinity are allowed, and answered by NaN.
    b : array-like or tensor of shape (n,) or (..., n, k)
        Right-hand sides: one vector, or matrices whose columns are vectors. Leading axes of `A` and
        `b` broadcast; one matrix with many right-hand sides is inverted once. One vector for each
        matrix is ``b[..., None]``.
    near : array-like of shape (n, n) or fitted estimator, default=None
        A known matrix that all are near to, or a regressor of inverses fitted to such, as for
        :func:`skinv.inv`: O(n²) operations per system then.
    tol : float, default=None
        Relative error ‖x − A⁻¹b‖₂ / ‖x‖₂ to be proven. None takes whatever is, and 1e-10 near a
        known matrix.
    fallback : {"exact", "exact-raise", "nan", "keep", "raise"}, default="exact"
        As for :func:`skinv.inv`.
    return_report : bool, default=False
        Whether to return all that is known.

    Returns
    -------
    ndarray or tensor of shape (..., n) or (..., n, k)
        Solutions, with the leading axes that `A` and `b` have together. With `return_report` a
        SolutionReport: ``solution``; ``bound``, proven upper bounds of the relative errors, one for
        each right-hand side, inf where nothing is proven; ``radius``, of the shape of the
        solutions, bounds of the errors entry by entry; ``status``, of the shape of `bound`:
        "proven" to be within `tol`, "inaccurate" or "rejected", be the matrix singular, not finite
        or neither; ``tol``, what was to be proven, without which "proven" says no more than that
        `bound` is below 1; and ``rows()``, the numbers of what is not proven.

    Raises
    ------
    ValueError
        As :func:`skinv.inv`, and for shapes that do not match.

    See Also
    --------
    skinv.CertifiedInverse.solve : Around a regressor that learns a family of matrices.

    Examples
    --------
    >>> import skinv
    >>> A = np.array([[[2.0, 1.0], [1.0, 3.0]], [[1.0, 2.0], [2.0, 4.0]]])
    >>> skinv.solve(A, [3.0, 4.0])
    array([[ 1.,  1.],
           [nan, nan]])
    >>> skinv.solve(A[0], [[3.0, 2.0], [4.0, 1.0]]).round(6)  # two right-hand sides
    array([[1., 1.],
           [1., 0.]])
    """
    if near is None and not return_report and tol is None and fallback == "exact":
        x = _single_solution(A, b)
        if x is not None:
            return x
    validate_parameter_constraints(_CHECKS, {"tol": tol, "fallback": fallback}, "solve")
    stack, sides, finish = systems(A, b)
    enough = 1.0 if tol is None else tol
    if near is None:
        # Without a tolerance something is aimed at, and whatever is proven is taken.
        taken = fallback == "keep" or (fallback == "nan" and tol is not None)
        model: Any = _FromScratch(_AT_ONCE if tol is None else tol, fallback if taken else "exact")
    else:
        model = _model_near(near, tol, fallback)
        tol = enough = model.tol
    found = model.solve(stack, sides, return_bound=True, return_radius=return_report)
    if "raise" in fallback:
        _refuse(~(to_host(found[1]) <= enough).all(axis=1), "solutions", enough)
    x, bound, *radius = (finish(values) for values in found)
    if _with_gradients(A, b):
        from ._gradients import solution_of

        x = solution_of(A, b, x, partial(solve, near=near, tol=tol))
    if not return_report:
        return x
    host = to_host(bound)
    status = np.where(host <= enough, "proven", np.where(host < np.inf, "inaccurate", "rejected"))
    return SolutionReport(solution=x, bound=bound, radius=radius[0], status=status, tol=tol)


def _single_solution(A: Any, b: Any) -> Any:
    """Return the solution of one system in a few NumPy calls, or None."""
    plain = type(A) is type(b) is np.ndarray and A.dtype == b.dtype and A.dtype.isnative
    figures = _FIGURES.get(A.dtype.char) if plain else None
    if figures is None or b.ndim != 1 or A.shape != 2 * b.shape or not len(b):
        return None
    with np.errstate(all="ignore"), suppress(np.linalg.LinAlgError):
        found = figures.solved(A, b, np.linalg.inv(A), _AT_ONCE)
        return None if found is None else found[0]
    return None


class _FromScratch(SolvesMixin):
    """Systems that nothing is known of."""

    family = estimator_ = None

    def __init__(self, tol: float, fallback: str):
        self.tol, self.fallback = tol, fallback

    def _ready(self) -> Any:
        return self

    def _take(self, X: Any) -> tuple[None, Matrices]:
        return None, Matrices.of(X)

    def _find_anchor(self) -> None:
        return None

    def _others(self) -> tuple[bool, ...]:
        return (True,)
