"""Newton-Schulz iteration and its relatives of higher order, on stacks of matrices."""

from numbers import Integral
from typing import Any, Literal

import numpy as np

from ._arrays.conversion import namespace
from ._arrays.memory import on_host
from ._arrays.pairs import check_pair
from ._linalg.doubled import corrections
from ._linalg.products import kernels_for, product, product_error
from ._linalg.threads import in_threads
from ._linalg.workspace import Workspace, apart, copied, piece_memory, pieces

__all__ = ["newton_schulz"]


def __dir__() -> list[str]:
    return __all__


ORDERS = (2, 3, 4)


def newton_schulz(
    A: Any,
    X: Any,
    n_steps: int = 1,
    order: int = 2,
    *,
    accumulate: Literal["double-double"] | None = None,
    overwrite_x: bool = False,
) -> Any:
    """Improve approximate inverses by matrix products alone.

    Parameters
    ----------
    A : array-like or tensor of shape (n, n) or (..., n, n)
        One matrix, or a stack of them, real or complex. Rows of flattened matrices must be
        reshaped first: ``X.reshape(-1, n, n)``.
    X : array-like or tensor of the shape of `A`
        Approximate inverses.
    n_steps : int, default=1
        Number of steps.
    order : {2, 3, 4}, default=2
        Order of convergence p: each step takes p matrix products.
    accumulate : {None, "double-double"}, default=None
        Precision of the residual; None is that of the data. "double-double" is twice that of
        float64: the result is right to a few roundings then, and for condition numbers past 1e16,
        up to 1e22 or so, too, where a step takes an exact inverse as well. `order` must be 2.
    overwrite_x : bool, default=False
        Whether the result may be written over `X`, if its dtype is that of the computation, and if
        its memory can be written to and is not that of `A`.

    Returns
    -------
    ndarray or tensor of the shape of `X`
        Better approximations where the spectral radius of I − AX is below 1; elsewhere the
        iteration diverges, to inf or NaN in the end. In single precision if both arguments are (or
        in half precision), else in double, complex if one of them is; tensors stay on their device,
        and arrays of other libraries (JAX, CuPy, …) are computed on the host and given back.

    Raises
    ------
    ValueError
        For shapes that do not match, matrices that are not square, a negative number of steps, an
        order other than 2, 3 and 4, or a precision of other names or orders.

    See Also
    --------
    skinv.bounds.residual_bound : Proves how good the result is.

    Notes
    -----
    With R = I − AX a step of order p is X ← X(I + R + … + R^{p−1}) by Horner's rule, and R becomes
    R^p (Schulz 1933, "Iterative Berechnung der reziproken Matrix"; Altman 1960, "An optimum
    cubically convergent iterative method of inverting a linear bounded operator in Hilbert space").
    In floating point the error ends at about n u cond(A), unless residuals have twice the precision
    (see :func:`skinv.bounds.residual_bound`): where I − XA is not small then, X becomes (XA)⁻¹X,
    and one step improves what Newton's would not.

    Examples
    --------
    >>> A, X = np.array([[[2.0]]]), np.array([[[0.4]]])
    >>> newton_schulz(A, X, 1)  # 1 − 2·0.4 = 0.2, then 0.04
    array([[[0.48]]])
    >>> newton_schulz(A, X, 1, order=3)
    array([[[0.496]]])
    >>> import scipy.linalg
    >>> A = 5354228880 / np.add.outer(np.arange(12), np.arange(1, 13))  # integers; cond(A) = 2e16
    >>> X = newton_schulz(A, np.linalg.inv(A), accumulate="double-double")
    >>> exact = scipy.linalg.invhilbert(12) / 5354228880
    >>> bool(abs(X / exact - 1).max() < 1e-15)
    True
    """
    if not isinstance(n_steps, Integral) or n_steps < 0:
        raise ValueError(f"Got n_steps={n_steps!r}, but a number of steps >= 0 is expected.")
    check_order(order)
    if accumulate not in (None, "double-double") or (accumulate and order != 2):
        raise ValueError(
            f"Got accumulate={accumulate!r} and order={order!r}, but accumulate must be None or "
            f"'double-double', and order 2 then."
        )
    A, X, came = check_pair(A, X)
    if not (overwrite_x and apart(X, A)):
        X = copied(X)
    if accumulate:
        for _ in range(n_steps):
            with np.errstate(all="ignore"):
                X += corrections(A, X)[0]
        return came.matrices(X)
    kernels = None if on_host(X) else kernels_for(X, X.shape[-1])
    if kernels is not None:
        out = X.contiguous()  # X itself if it can be
        kernels.refine(A.contiguous(), out, n_steps, order, out)
        if out is not X:
            X.copy_(out)
        return came.matrices(X)

    def refine(piece: slice) -> None:
        with np.errstate(all="ignore"):
            block, space = X[piece], Workspace.of_thread() if on_host(X) else Workspace()
            D, work = (space.of(X, tuple(block.shape), name) for name in ("D", "work"))
            for _ in range(n_steps):
                improve(block, product_error(A[piece], block, out=D), order, work)

    in_threads(refine, pieces(len(X), X.shape[-1], X.itemsize, piece_memory(X)), X)
    return came.matrices(X)


def check_order(order: Any) -> None:
    """Raise a ValueError unless `order` is one of the orders there are."""
    if not isinstance(order, Integral) or order not in ORDERS:
        raise ValueError(f"Got order={order!r}, but the orders are 2, 3 and 4.")


def improve(X: Any, D: Any, order: int, work: Any) -> None:
    """Replace X by X(I + R + … + R^{order−1}) with R = −D, D = AX − I, by Horner's rule.

    `work` is memory like X.
    """
    subtract, Y = namespace(X).subtract, X
    memory = [work, None]
    for stage in range(order - 1):
        T = memory[stage % 2] = product(Y, D, out=memory[stage % 2])
        if stage < order - 2:
            Y = subtract(X, T, out=T)
        else:
            X -= T
