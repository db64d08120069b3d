"""pinv: pseudo-inverses, damped ones too, of stacks of matrices of full rank, each with a proof."""

from typing import Any

import numpy as np
from sklearn.utils._param_validation import validate_parameter_constraints

from .._arrays.conversion import (
    not_a_number,
    to_host,
)
from .._arrays.results import PROVEN, InverseReport
from .._linalg.norms import finite_rows
from .._linalg.workspace import (
    copied,
    indices,
)
from ._full_rank import full_rank_inverses
from ._functions import _CHECKS, Fallback, _refuse
from ._given import Rectangles
from ._proofs import (
    EXACT,
    INACCURATE,
    NOT_FINITE,
    REJECTED,
    STATUSES,
)


def pinv(
    A: Any,
    *,
    damping: Any = 0.0,
    tol: float | None = None,
    fallback: Fallback = "exact",
    return_report: bool = False,
) -> Any:
    """Return pseudo-inverses, damped if asked for, and prove of each how far off it can be.

    Like :func:`numpy.linalg.pinv` for matrices of full rank. One that is not shown to have full
    rank is answered by NaN and spoils nothing, and nothing is cut off: with damping, as of damped
    least squares, there is an answer for it, too.

    Parameters
    ----------
    A : array-like or tensor of shape (m, n) or (..., m, n)
        Matrices, real or complex, of any shape; NaN and infinity are allowed, and answered by NaN.
    damping : float or array-like of shape (...), default=0.0
        λ >= 0, one or one for each matrix, in the units of `A`: the answer is then
        ``Aᴴ(AAᴴ + λ²I)⁻¹``, whose product with b minimises ‖Ax − b‖² + λ²‖x‖².
    tol : float, default=None
        Relative error ‖A⁺ − X‖_F / ‖A⁺‖_F to be proven, A⁺ the damped one where there is damping.
        None takes whatever is.
    fallback : {"exact", "exact-raise", "nan", "keep", "raise"}, default="exact"
        What becomes of matrices whose error could not be proven to be within `tol`: "exact" keeps
        those of which something is proven, "nan" none, "keep" all, and "raise" and "exact-raise"
        raise a ValueError that names them.
    return_report : bool, default=False
        Whether to return all that is known.

    Returns
    -------
    ndarray or tensor of shape (..., n, m)
        Pseudo-inverses, without gradients; in single precision for single, else in double. With
        `return_report` an InverseReport: ``inverse``; ``bound``, proven upper bounds of the
        relative errors, inf where nothing is proven; ``status``: "exact" where within `tol`,
        "inaccurate", "rejected" or "not finite"; ``distance``, proven lower bounds of the smallest
        singular value of `A`, which is the distance in the 2-norm to the nearest matrix without
        full rank, in the units of `A`, 0 where nothing is proven; ``rank``, min(m, n) where that is
        proven, else -1; ``tol``, what was to be proven, without which "exact" says no more than
        that `bound` is below 1; and ``rows()``, the numbers of what is not proven. With damping
        distance and rank, which are of `A` without it, are found out when they are first asked for.

    Raises
    ------
    ValueError
        For what holds no matrices, for numbers that float64 cannot hold, for damping that is
        negative or not finite, and with ``fallback="raise"`` or "exact-raise" if an error could not
        be proven to be within `tol`.

    See Also
    --------
    skinv.inv : Inverses of square matrices, in any units of rows and columns.

    Notes
    -----
    For m <= n, and transposed otherwise, X = AᴴZ with Z an inverse of AAᴴ + λ²I, one step of
    refinement, and R = I − AX − λ²Z. With X = AᴴZ + F then A⁺ − X = A⁺R − (I − A⁺A)F, and so
    ‖A⁺ − X‖ <= ‖A⁺‖‖R‖ + ‖F‖; where λ = 0, ‖R‖ < 1 proves full rank. Where that proves little, as
    past condition numbers of 1e6 or so, or in other units for each row, X is that of a QR
    factorisation of (A, λI)ᴴ, with rows scaled by powers of two. Rounding, underflow and modes
    that flush to zero are allowed for.

    Examples
    --------
    >>> import skinv
    >>> A = np.array([[[3.0, 0.0, 4.0], [0.0, 1.0, 0.0]], [[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]])
    >>> skinv.pinv(A).round(6)
    array([[[0.12, 0.  ],
            [0.  , 1.  ],
            [0.16, 0.  ]],
    <BLANKLINE>
           [[ nan,  nan],
            [ nan,  nan],
            [ nan,  nan]]])
    >>> report = skinv.pinv(A, damping=0.1, return_report=True)
    >>> report.inverse[1].round(3)
    array([[0.04, 0.08],
           [0.08, 0.16],
           [0.  , 0.  ]])
    >>> bool((report.bound < 1e-11).all()), report.rank, report.distance.round(2)
    (True, array([ 2, -1]), array([0.98, 0.  ]))
    """
    validate_parameter_constraints(_CHECKS, {"tol": tol, "fallback": fallback}, "pinv")
    given = Rectangles.of(A)
    weight = given.weights(damping)
    enough = 1.0 if tol is None else tol
    X, bound, distance = full_rank_inverses(given.stack, weight)
    bad = ~finite_rows(given.stack)
    host, unfinished = to_host(bound), to_host(bad)
    status = np.where(host <= enough, EXACT, np.where(host < 1, INACCURATE, REJECTED))
    if fallback != "keep":
        lost = ~(bound <= enough) if fallback == "nan" else ~(bound < 1)
        X[indices(lost)], bound[lost] = not_a_number(X), np.inf
        status[to_host(lost)] = REJECTED
    X[indices(bad)], status[unfinished] = not_a_number(X), NOT_FINITE
    names = STATUSES[status]
    if "raise" in fallback:
        _refuse(~np.isin(names, PROVEN), "pseudo-inverses", enough)
    if not return_report:
        return given.answers(X)
    came, report = given.came, InverseReport()
    report.inverse, report.bound = given.answers(X), came.numbers(bound)
    report.status, report.tol = names.reshape(came.shape), tol
    if weight is None:
        report.distance = came.numbers(distance)
    else:
        report._later("distance", _distance, given._replace(stack=copied(given.stack)))
    report._later("rank", _rank, given.stack.shape[1])
    return report


def _distance(report: InverseReport, given: Rectangles) -> Any:
    return given.came.numbers(full_rank_inverses(given.stack, None)[2])


def _rank(report: InverseReport, full: int) -> Any:
    return np.where(to_host(report.distance) > 0, full, -1)[()]
