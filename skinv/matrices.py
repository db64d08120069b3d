"""Layouts of many matrices, and the checks every estimator shares.

The canonical layout is scikit-learn's: rows of shape ``(n_samples, n*n)``, each a matrix flattened
row-major. A stack of shape ``(n_samples, n, n)`` is accepted wherever rows are, and what comes back
has the layout that went in. Complex matrices come as stacks only: each stands for the real matrix
[[Re, −Im], [Im, Re]] of twice its order, whose inverse is that of the complex one in the same form.
"""

from __future__ import annotations

import math
import sys
import warnings
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import validate_data

from ._kinds import is_tensor
from .blocks import is_dask
from .rows import list_rows, refuse_nonfinite
from .scaling import as_array, as_float64

__all__ = [
    "AmbiguousShapeWarning",
    "Layout",
    "as_stack",
    "check_center",
    "check_inverse_targets",
    "condition_numbers",
    "embed_complex",
    "exact_inverse",
    "extract_complex",
    "first_copy",
    "flatten_stack",
    "is_complex",
    "is_tensor",
    "like",
    "matrix_order",
    "real_array",
    "refuse_sparse",
    "regular_inverse",
    "restore_layout",
    "targets_are_inverses",
    "to_host",
    "training_inverses",
    "validate_rows",
]


def __dir__() -> list[str]:
    return __all__


# Past this condition number a float64 inverse has lost more than half of its digits.
MAX_CONDITION = 1.0 / math.sqrt(np.finfo(np.float64).eps)


class AmbiguousShapeWarning(UserWarning):
    """A square array was taken for rows of small matrices, but might be a single matrix.

    Examples
    --------
    >>> issubclass(AmbiguousShapeWarning, UserWarning)
    True
    """


def may_be_single(X: Any) -> bool:
    """Tell whether an array of n rows of n numbers could be one matrix, or n smaller ones.

    Parameters
    ----------
    X : object
        Anything. Data frames, whose columns have names, hold rows.

    Returns
    -------
    bool
        True for n = 4, 9, 16, ...

    Examples
    --------
    >>> may_be_single(np.eye(4)), may_be_single(np.eye(3)), may_be_single([[2.0]])
    (True, False, False)
    """
    if hasattr(X, "columns") or not (hasattr(X, "shape") or isinstance(X, (list, tuple))):
        return False
    try:
        shape = tuple(X.shape) if hasattr(X, "shape") else np.shape(X)
    except ValueError:  # a ragged list
        return False
    n = shape[-1] if len(shape) == 2 and shape[0] == shape[1] else 0
    return n > 1 and math.isqrt(n) ** 2 == n


def warn_of_single(X: Any, stacklevel: int = 3) -> None:
    """Warn if rows of training matrices could be a single matrix."""
    if may_be_single(X):
        n = int(np.shape(X)[0])
        warnings.warn(
            f"Got an array of shape ({n}, {n}), which is taken for {n} matrices of order "
            f"{math.isqrt(n)}, a row each. If it is one matrix A of order {n}, pass A[None]; "
            f"otherwise pass a stack, X.reshape({n}, {math.isqrt(n)}, {math.isqrt(n)}).",
            AmbiguousShapeWarning,
            stacklevel=stacklevel + 1,
        )


def refuse_single(X: Any) -> None:
    """Raise a ValueError if rows of matrices could be a single matrix."""
    if may_be_single(X):
        n = int(np.shape(X)[0])
        k = math.isqrt(n)
        raise ValueError(
            f"Got an array of shape ({n}, {n}), which is one matrix of order {n} or {n} rows of "
            f"matrices of order {k}: pass A[None] for the former, A.reshape({n}, {k}, {k}) for the "
            f"latter."
        )


def refuse_other_order(X: Any, rows: Any, n_features: int | None, name: str) -> None:
    """Raise a ValueError that says what to do with a single matrix, or a stack of stacks.

    Parameters
    ----------
    X, rows : array-like or tensor
        As passed, and as rows.
    n_features : int or None
        Entries of the matrices that an estimator was fitted to.
    name : str
        The estimator.
    """
    shape = tuple(getattr(X, "shape", getattr(rows, "shape", ())))
    n = shape[-1] if shape else 0
    if len(shape) > 3 or (shape == (n, n) and n_features == n * n != n):
        what = f"a stack of stacks: pass X.reshape(-1, {n}, {n})"
        what = what if len(shape) > 2 else "one matrix A: pass A[None]"
        raise ValueError(
            f"Got an array of shape {shape}, but {name} is expecting {n_features} features as "
            f"input, in rows (n_samples, n*n) or a stack (n_samples, n, n) of matrices. It seems "
            f"to be {what}."
        )


def matrix_order(n_features: int) -> int:
    """Return the order n of the matrices whose rows have `n_features` = n² entries.

    Parameters
    ----------
    n_features : int
        Length of a flattened matrix.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If `n_features` is not a positive square.

    Examples
    --------
    >>> matrix_order(9)
    3
    """
    n = math.isqrt(max(n_features, 0))
    if n == 0 or n * n != n_features:
        raise ValueError(
            f"Got rows of {n_features} entries, but a flattened n × n matrix has n*n of them "
            f"(1, 4, 9, 16, ...); pass rows of shape (n_samples, n*n) or a stack (n_samples, n, n)."
        )
    return n


def refuse_sparse(X: Any) -> None:
    """Raise a TypeError, as scikit-learn does for sparse matrices, for a sparse or empty tensor.

    Parameters
    ----------
    X : tensor

    Raises
    ------
    TypeError
        For one that is not dense, or on torch's "meta" device, where there are no numbers.
    """
    if X.layout is not sys.modules["torch"].strided or X.is_meta:
        kind = "device='meta'" if X.is_meta else f"layout={X.layout}"
        raise TypeError(f"Got a tensor with {kind}, but dense data is required: use X.to_dense().")


def to_host(X: Any) -> Any:
    """Copy a tensor, or compute a dask array, to a NumPy array; leave all else as it is.

    Parameters
    ----------
    X : object
        Anything.

    Returns
    -------
    ndarray or object

    Examples
    --------
    >>> to_host([1, 2])
    [1, 2]
    """
    if is_dask(X):
        return X.compute()
    if not is_tensor(X):
        return X
    refuse_sparse(X)
    if X.dtype == sys.modules["torch"].bfloat16:  # which NumPy does not know
        X = X.float()
    return X.numpy(force=True)


def real_array(values: Any, name: str) -> NDArray[np.float64]:
    """Return real numbers as an array in float64, without a copy where one can be avoided.

    Parameters
    ----------
    values : array-like or tensor
    name : str
        What they are called.

    Returns
    -------
    ndarray, float64

    Raises
    ------
    ValueError
        For complex numbers, and for what holds no numbers.

    Examples
    --------
    >>> real_array([1, 2], "radius")
    array([1., 2.])
    """
    problem: Exception
    try:
        array = as_array(to_host(values))
        if array.dtype.kind in "biufO":
            with np.errstate(over="ignore"):
                return as_float64(array)
        problem = TypeError(f"numbers of dtype {array.dtype} are not real")
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        problem = error
    raise ValueError(
        f"Got {name} of type {type(values).__name__}"
        f"{' with complex numbers' if is_complex(values) else ''}, "
        f"but real numbers, or an array of them, are expected."
    ) from problem


def like(array: NDArray, X: Any) -> Any:
    """Bring an array to the dtype of `X`, and to its device if `X` is a tensor.

    Parameters
    ----------
    array : ndarray
        What is needed there.
    X : ndarray or tensor
        An example.

    Returns
    -------
    ndarray or tensor

    Examples
    --------
    >>> like(np.ones(2), np.zeros(1, dtype=np.float32)).dtype
    dtype('float32')
    """
    if is_tensor(X):
        # A copy: the arrays of a memory-mapped model are read-only.
        return sys.modules["torch"].tensor(array, dtype=X.dtype, device=X.device)
    return array.astype(X.dtype, copy=False)


def is_complex(X: Any) -> bool:
    """Tell whether an array, tensor or nested list holds complex numbers.

    Parameters
    ----------
    X : array-like or tensor

    Returns
    -------
    bool

    Examples
    --------
    >>> is_complex([[1j]]), is_complex(np.zeros(2))
    (True, False)
    """
    if is_tensor(X):
        return bool(X.is_complex())
    try:
        return bool(np.iscomplexobj(X))
    except ValueError:  # a ragged list
        return False


def embed_complex(Z: Any) -> Any:
    """Return complex matrices Z as real ones of twice the order, [[Re Z, −Im Z], [Im Z, Re Z]].

    Sums, products and inverses of embeddings are the embeddings of sums, products and inverses, so
    that all that is said of real matrices holds for complex ones. Singular values occur twice.

    Parameters
    ----------
    Z : array-like or tensor of shape (..., n, n)
        Matrices, complex or real.

    Returns
    -------
    ndarray or tensor of shape (..., 2n, 2n)
        In the precision of `Z`: float32 for complex64.

    Raises
    ------
    ValueError
        If the matrices are not square.

    See Also
    --------
    extract_complex : The way back.

    Notes
    -----
    Estimators of skinv embed stacks of complex matrices by themselves; other regressors need this.

    Examples
    --------
    >>> embed_complex([[1 + 2j]])
    array([[ 1., -2.],
           [ 2.,  1.]])
    """
    if is_tensor(Z):
        refuse_sparse(Z)
    else:
        Z = as_array(Z)
    shape = tuple(Z.shape)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(
            f"Got an array of shape {shape}, but square matrices (..., n, n) are expected."
        )
    n = shape[-1]
    real = Z.real
    if not is_tensor(Z):
        real = real if real.dtype.kind == "f" else real_array(real, "Z")
        dtype = real.dtype
        out = np.empty((*shape[:-2], 2 * n, 2 * n), dtype)
    else:
        real = real if real.is_floating_point() else real.double()
        out = real.new_empty((*shape[:-2], 2 * n, 2 * n))
    out[..., :n, :n] = out[..., n:, n:] = real
    out[..., n:, :n] = Z.imag if is_complex(Z) else 0.0
    out[..., :n, n:] = -out[..., n:, :n]
    return out


def extract_complex(X: Any) -> Any:
    """Return the complex matrices that real ones of twice the order embed.

    Parameters
    ----------
    X : array-like or tensor of shape (..., 2n, 2n)
        Real matrices, embeddings of complex ones up to errors.

    Returns
    -------
    ndarray or tensor of shape (..., n, n)
        The complex matrices whose embeddings are nearest in the Frobenius norm: means of the two
        copies of each part. For embeddings they are exact. complex64 for float32 and float16.

    Raises
    ------
    ValueError
        If the order is odd, or the matrices are not square or not real.

    See Also
    --------
    embed_complex : The way there.

    Examples
    --------
    >>> extract_complex([[1.0, -2.0], [2.0, 1.0]])
    array([[1.+2.j]])
    """
    if is_tensor(X):
        refuse_sparse(X)
    else:
        X = np.asarray(X)
    shape = tuple(X.shape)
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] % 2 or is_complex(X):
        raise ValueError(
            f"Got an array of shape {shape} and {X.dtype}, but real matrices of even order "
            f"(..., 2n, 2n) are expected, as embed_complex returns them."
        )
    n = shape[-1] // 2
    if is_tensor(X):
        X = X if X.is_floating_point() else X.double()
    elif X.dtype.kind != "f":
        X = real_array(X, "X")
    a, b, c, d = X[..., :n, :n], X[..., :n, n:], X[..., n:, :n], X[..., n:, n:]
    if is_tensor(X):
        torch = sys.modules["torch"]
        wide = X.dtype if X.dtype in (torch.float32, torch.float64) else torch.float32
        return torch.complex(mean_of(a, d).to(wide), mean_of(c, -b).to(wide))
    Z = np.empty((*shape[:-2], n, n), np.complex64 if X.dtype.itemsize < 8 else np.complex128)
    with np.errstate(over="ignore", invalid="ignore"):
        mean_of(a, d, out=Z.real)
        np.multiply(b, -1, out=Z.imag)  # NumPy 2.4's negative is wrong for some strides
        mean_of(c, Z.imag, out=Z.imag)
    return Z


def first_copy(X: Any) -> Any:
    """Return the complex matrices of exact embeddings (m, 2n, 2n): entries are moved, as they are.

    Parameters
    ----------
    X : ndarray or tensor of shape (m, 2n, 2n)

    Returns
    -------
    ndarray or tensor of shape (m, n, n)

    Examples
    --------
    >>> first_copy(np.array([[[1.0, -2.0], [2.0, 1.0]]]))
    array([[[1.+2.j]]])
    """
    n = X.shape[1] // 2
    if is_tensor(X):
        X = X if X.dtype.itemsize > 2 else X.float()
        return sys.modules["torch"].complex(X[:, :n, :n], X[:, n:, :n])
    Z = np.empty((len(X), n, n), np.result_type(X.dtype, np.complex64))
    Z.real, Z.imag = X[:, :n, :n], X[:, n:, :n]
    return Z


def mean_of(a: Any, b: Any, out: NDArray | None = None) -> Any:
    """Return the means of two arrays or tensors, exact where they are equal; nothing overflows.

    Parameters
    ----------
    a, b : ndarray or tensor
    out : ndarray, default=None
        Memory for the result; it may be `b`.

    Returns
    -------
    ndarray or tensor

    Examples
    --------
    >>> mean_of(np.array([1e308, 1.0]), np.array([1e308, 2.0]))
    array([1.0e+308, 1.5e+000])
    """
    if is_tensor(a):
        return sys.modules["torch"].where(a == b, a, 0.5 * a + 0.5 * b)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add(a, b)
        mean *= 0.5
        if not np.isfinite(np.sum(mean)):  # of numbers near the largest, maybe
            mean = np.where(a == b, a, 0.5 * a + 0.5 * b)
    if out is None:
        return mean
    out[...] = mean
    return out


class Layout(IntEnum):
    """How matrices came, for :func:`restore_layout`; true for stacks.

    Examples
    --------
    >>> flatten_stack(np.zeros((5, 2, 2)))[1]
    <Layout.STACK: 1>
    """

    ROWS = 0
    STACK = 1
    COMPLEX = 2


def flatten_stack(X: Any) -> tuple[Any, Layout]:
    """Turn a stack into rows, a complex one into those of its real embedding; leave rows alone.

    Parameters
    ----------
    X : array-like or tensor of shape (n_samples, n, n) or (n_samples, n_features)
        Matrices.

    Returns
    -------
    rows : array-like or tensor of shape (n_samples, n_features)
        A view where one can be had.
    layout : Layout
        What :func:`restore_layout` needs to know.

    Raises
    ------
    ValueError
        If `X` has three dimensions and its matrices are not square, or has complex rows.

    Examples
    --------
    >>> rows, layout = flatten_stack(np.zeros((5, 2, 2)))
    >>> rows.shape, bool(layout)
    ((5, 4), True)
    >>> flatten_stack(np.array([[[1 + 2j]]]))[0]
    array([[ 1., -2.,  2.,  1.]])
    """
    if not hasattr(X, "ndim") and isinstance(X, (list, tuple)):
        try:
            X = as_array(X)
        except ValueError as error:
            raise ValueError(
                f"Got a {type(X).__name__} of parts of different shapes, but matrices are rows of "
                f"n*n numbers each, or a stack (n_samples, n, n)."
            ) from error
    elif is_tensor(X):
        refuse_sparse(X)
    if getattr(X, "ndim", 2) != 3:
        if hasattr(X, "dtype") and is_complex(X):
            raise ValueError(
                f"Complex data not supported as an array of shape {tuple(X.shape)}: pass complex "
                f"matrices as a stack (n_samples, n, n)."
            )
        return X, Layout.ROWS
    if X.shape[1] != X.shape[2]:
        raise ValueError(
            f"Got a stack of shape {tuple(X.shape)}, but its matrices must be square: "
            f"(n_samples, n, n)."
        )
    layout = Layout.STACK
    if is_complex(X):
        X, layout = embed_complex(X), Layout.COMPLEX
    return X.reshape(X.shape[0], X.shape[1] * X.shape[2]), layout


def restore_layout(rows: Any, layout: int) -> Any:
    """Give rows back in the layout that :func:`flatten_stack` met.

    Parameters
    ----------
    rows : array or tensor of shape (n_samples, n*n)
        Flattened matrices.
    layout : Layout
        How the input had come; True is a stack.

    Returns
    -------
    array or tensor of shape (n_samples, n*n) or (n_samples, n, n)
        Complex matrices of half the order for ``Layout.COMPLEX``.

    Examples
    --------
    >>> restore_layout(np.zeros((5, 4)), True).shape
    (5, 2, 2)
    """
    if not layout:
        return rows
    n = matrix_order(rows.shape[1])
    stack = rows.reshape(rows.shape[0], n, n)
    return extract_complex(stack) if layout == Layout.COMPLEX else stack


def as_stack(rows: NDArray) -> NDArray:
    """View rows as a stack of matrices.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n*n)
        Flattened matrices.

    Returns
    -------
    ndarray of shape (n_samples, n, n)

    Raises
    ------
    ValueError
        If the row length is not a square.

    Examples
    --------
    >>> as_stack(np.arange(8.0).reshape(2, 4))[1]
    array([[4., 5.],
           [6., 7.]])
    """
    return restore_layout(rows, True)


def validate_rows(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    square: bool = True,
    allow_nonfinite: bool = False,
    keep_half: bool = False,
) -> NDArray:
    """Validate matrices given as rows the way scikit-learn's estimators do.

    Parameters
    ----------
    estimator : BaseEstimator
        Gets ``n_features_in_``, ``feature_names_in_`` and the dtype for its file when `reset`, is
        held to the former otherwise.
    X : array-like of shape (n_samples, n_features)
        Rows, as :func:`flatten_stack` returns them.
    reset : bool
        True in ``fit``.
    square : bool, default=True
        Whether each row must be a flattened square matrix.
    allow_nonfinite : bool, default=False
        Whether NaN and infinity pass.
    keep_half : bool, default=False
        Whether float16 is kept.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        float32 and float64 (in native byte order) keep their dtype, everything else becomes
        float64.

    Raises
    ------
    ValueError
        For a wrong shape, a wrong number of features, or non-finite rows, which are named.

    Examples
    --------
    >>> from skinv import LinearInverseApprox
    >>> validate_rows(LinearInverseApprox(), [[1, 0, 0, 1]], reset=True).dtype
    dtype('float64')
    """
    if isinstance(X, np.ndarray):
        swapped = X.dtype.kind == "f" and not X.dtype.isnative
        X = as_float64(X) if swapped else as_array(X)
    given = X
    X = validate_data(
        estimator,
        X,
        reset=reset,
        dtype=(np.float64, np.float32, np.float16)[: 3 if keep_half else 2],
        ensure_all_finite=False,
        ensure_min_samples=1 if reset else 0,
    )
    if hasattr(given, "columns") and X.dtype == np.float64:
        exact = as_array(given)  # of columns in single precision, too
        X = exact if exact.dtype == X.dtype and exact.shape == X.shape else X
    if reset:
        estimator._fitted_dtype = X.dtype.name
    if not allow_nonfinite:
        refuse_nonfinite(X, "X")
    if square:
        matrix_order(X.shape[1])
    return X


def exact_inverse(A: Any) -> Any:
    """Invert a stack of matrices in float64; singular ones become NaN instead of an exception.

    Parameters
    ----------
    A : array-like of shape (..., n, n), or tensor of shape (m, n, n)
        Matrices; those of a tensor should be finite.

    Returns
    -------
    ndarray or tensor of the shape of `A`, float64
        The inverses by LAPACK's ``gesv``; all NaN where a matrix is exactly singular or not finite.
        A tensor, contiguous and on its device, for a tensor: nothing waits for the device.

    Examples
    --------
    >>> exact_inverse([[[2.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])[:, 0, 0]
    array([0.5, nan])
    """
    if is_tensor(A):
        torch = sys.modules["torch"]
        inverse, info = torch.linalg.inv_ex(A.double())
        return torch.where((info == 0)[:, None, None], inverse, torch.nan).contiguous()
    A = np.asarray(A, dtype=np.float64)
    stack = A.reshape(-1, *A.shape[-2:])
    ok = np.isfinite(stack).all(axis=(1, 2))
    out = np.full_like(stack, np.nan)
    if ok.all():
        try:
            return np.linalg.inv(A)
        except np.linalg.LinAlgError:
            pass
    # A zero pivot is what makes LAPACK give up; the sign of the determinant comes from the very
    # same LU factorisation, and is 0 exactly then.
    with np.errstate(all="ignore"):
        ok[ok] = np.linalg.slogdet(stack[ok])[0] != 0
    out[ok] = np.linalg.inv(stack[ok])
    return out.reshape(A.shape)


def condition_numbers(A: NDArray, inverse: NDArray) -> NDArray[np.float64]:
    """Return ‖A‖_F ‖A⁻¹‖_F of each matrix, which is at least its 2-norm condition number.

    Parameters
    ----------
    A, inverse : ndarray of shape (n_samples, n, n)
        Matrices and their inverses; NaN inverses stand for singular matrices.

    Returns
    -------
    ndarray of shape (n_samples,)
        inf where the inverse is not finite or the product overflows.

    Examples
    --------
    >>> A = np.eye(2)[None]
    >>> condition_numbers(A, A)
    array([2.])
    """
    with np.errstate(all="ignore"):
        kappa = _norms(A) * _norms(inverse)
    return np.where(np.isnan(kappa), np.inf, kappa)


def _norms(stack: NDArray) -> NDArray[np.float64]:
    """Return the Frobenius norm of each matrix; no square over- or underflows."""
    largest = np.abs(stack).max(axis=(1, 2), initial=0.0).astype(np.float64)
    return np.linalg.norm(stack / largest[:, None, None], axis=(1, 2)) * largest


def check_inverse_targets(A: NDArray, inverse: NDArray) -> None:
    """Refuse training matrices that are singular or too ill-conditioned to learn from.

    One matrix at distance 1e-14 from a singular one has an inverse near 1e14, and a least-squares
    fit then serves that matrix alone. The limit is a (Frobenius) condition number of 1/√eps, 6.7e7.

    Parameters
    ----------
    A, inverse : ndarray of shape (n_samples, n, n)
        Training matrices and their inverses.

    Raises
    ------
    ValueError
        Naming the rows.

    Examples
    --------
    >>> check_inverse_targets(np.eye(2)[None], np.eye(2)[None])
    """
    kappa = condition_numbers(A, inverse)
    bad = ~(kappa <= MAX_CONDITION)
    if bad.any():
        raise ValueError(
            f"Training matrices in rows {list_rows(bad)} are singular or have a condition number "
            f"past 1/sqrt(eps) = {MAX_CONDITION:.2g} (the worst: {kappa.max():.2g}); their "
            f"inverses would drown all others. Drop them, for instance with "
            f"FeasibleRegionSampler(min_distance=...).fit_resample(X, y)."
        )


def check_center(center: ArrayLike, *, embed: bool = False) -> NDArray[np.float64]:
    """Return the centre of a region or series as a matrix.

    Parameters
    ----------
    center : array-like of shape (n, n) or (n*n,)
        A complex one of shape (n, n) is embedded.
    embed : bool, default=False
        Whether a real one is embedded, too.

    Returns
    -------
    ndarray of shape (n, n), float64

    Raises
    ------
    ValueError
        If it is not one square matrix of finite numbers.

    Examples
    --------
    >>> check_center([3, 1, 1, 2])
    array([[3., 1.],
           [1., 2.]])
    """
    given_complex = is_complex(center)
    if given_complex:
        center = np.asarray(to_host(center))
        if center.ndim == 2 and center.shape[0] == center.shape[1]:
            center = embed_complex(center)
        else:
            raise ValueError(
                f"Got a complex center of shape {center.shape}, but one square matrix (n, n) is "
                f"expected."
            )
    A = real_array(center, "center")
    if A.ndim > 2 or (A.ndim == 2 and A.shape[0] != A.shape[1]):
        raise ValueError(
            f"Got a center of shape {A.shape}, but one square matrix is expected: (n, n), or its "
            f"n*n entries."
        )
    n = matrix_order(A.size)
    refuse_nonfinite(A.reshape(1, -1), "center")
    A = A.reshape(n, n)
    return embed_complex(A) if embed and not given_complex else A


def regular_inverse(center: NDArray, magnitude: float = 0.0) -> NDArray[np.float64]:
    """Invert one matrix, the centre of a series, refusing a singular one.

    Parameters
    ----------
    center : ndarray of shape (n, n), float64
    magnitude : float, default=0.0
        Largest entry of the matrices whose mean it is, if it is one: a mean that is nothing but
        their rounding is as good as zero.

    Returns
    -------
    ndarray of shape (n, n)

    Raises
    ------
    ValueError
        If the condition number is past 1/√eps.

    Examples
    --------
    >>> regular_inverse(np.array([[2.0]]))
    array([[0.5]])
    """
    inverse = exact_inverse(center)
    kappa = condition_numbers(center[None], inverse[None])[0]
    if np.abs(center).max() <= 1e-12 * magnitude:
        kappa = np.inf
    if not kappa <= MAX_CONDITION:
        raise ValueError(
            f"The center is singular or nearly so (condition number {kappa:.2g}); the Taylor "
            f"series needs a regular one. Pass another center, or matrices whose mean is regular."
        )
    return inverse


def training_inverses(rows: NDArray) -> NDArray[np.float64]:
    """Return the exact inverses of training rows, refusing the matrices that must not be fitted.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n*n)
        Flattened matrices.

    Returns
    -------
    ndarray of shape (n_samples, n*n), float64

    Raises
    ------
    ValueError
        If rows are not square matrices, or some are singular or too ill-conditioned
        (:func:`check_inverse_targets`).

    Examples
    --------
    >>> training_inverses(np.array([[2.0, 0.0, 0.0, 4.0]]))
    array([[0.5 , 0.  , 0.  , 0.25]])
    """
    stack = as_stack(rows)
    inverse = exact_inverse(stack)
    check_inverse_targets(stack, inverse)
    return inverse.reshape(rows.shape)


def targets_are_inverses(rows: NDArray, targets: NDArray) -> bool:
    """Tell whether given targets are the inverses of given rows, and not another quantity.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        Flattened matrices, or any features.
    targets : ndarray of shape (n_samples, n_targets) or (n_samples,)
        What a regressor is to learn.

    Returns
    -------
    bool
        True if the shapes are those of flattened square matrices and for at least half of the rows
        the largest entry of I − AY is below 1e-3: a heuristic, but one that noise in the last
        digits or a few ill-conditioned rows do not fool.

    Examples
    --------
    >>> A = np.array([[2.0, 0.0, 0.0, 4.0]])
    >>> targets_are_inverses(A, 1 / np.array([[2.0, np.inf, np.inf, 4.0]]))
    True
    >>> targets_are_inverses(A, A)
    False
    """
    n = math.isqrt(rows.shape[1])
    if targets.shape != rows.shape or n * n != rows.shape[1]:
        return False
    with np.errstate(all="ignore"):
        residual = as_stack(rows) @ as_stack(targets) - np.eye(n)
    return bool(np.mean(np.abs(residual).max(axis=(1, 2)) < 1e-3) >= 0.5)
