"""Families of matrices that are polynomials of parameters."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._arrays.conversion import as_array, as_given, floating, real_array, to_host
from .._arrays.shapes import as_stack
from .._arrays.validation import floating_matrices
from ._bernstein import monomials
from ._rounding import EPS

# Largest exponent of one parameter.
_MOST_DEGREES = 32
# Samples for each term of a polynomial, and more of them; samples that a fit is held against.
_PER_TERM, _MORE, _HELD_OUT, _MOST_CORNERS = 3, 20, 60, 6
# Times the rounding of a fit, below which a term is left out.
_NEGLIGIBLE = 16
_MOST_TERMS = 1000


class ParametricFamily:
    """Matrices that are affine in parameters, or polynomials of them.

    A(p) = Σ_j C_j Π_i (p_i − o_i)^e_ji. The family is a function, of rows of parameters, and may be
    the `family` of a :class:`~skinv.CertifiedInverse`; :func:`family_certificate` proves that none
    of its matrices over a box of parameters is singular.

    Parameters
    ----------
    coefficients : array-like of shape (m, n, n)
        Matrices C_j, real or complex.
    exponents : array-like of shape (m, n_parameters), default=None
        Whole numbers e_ji from 0 to 32. None for an affine family of m − 1 parameters,
        A(p) = C_0 + Σ_i p_i C_i.
    origin : array-like of shape (n_parameters,), default=None
        Parameters o from which those of the polynomial are counted; None for zeros.

    Attributes
    ----------
    coefficients, exponents, origin : ndarray
        As given, or as they are by default.
    n_parameters : int
        Number of parameters.
    assumed : bool
        Whether the polynomial was found from samples of a function, see :meth:`from_function`.
    deviation : ndarray of shape (n, n)
        By how much entries, their real and imaginary parts, may deviate from the polynomial; proofs
        allow for it. Zeros unless `assumed`.

    Raises
    ------
    ValueError
        For coefficients that are no stack of finite square matrices, or which float64 cannot hold,
        and exponents or an origin of another shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> family = ParametricFamily([[[2.0, 0.0], [0.0, 2.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> family([[0.0], [0.5]])
    array([[[2. , 0. ],
            [0. , 2. ]],
    <BLANKLINE>
           [[2. , 0.5],
            [0.5, 2. ]]])
    """

    def __init__(
        self,
        coefficients: ArrayLike,
        exponents: ArrayLike | None = None,
        origin: ArrayLike | None = None,
    ):
        C = exact_numbers(coefficients, "coefficients")
        finite = bool(np.isfinite(C).all())
        if C.ndim != 3 or C.shape[1] != C.shape[2] or 0 in C.shape or not finite:
            raise ValueError(
                f"Got coefficients of shape {C.shape}{'' if finite else ' that are not finite'}, "
                f"but a stack of finite square matrices is expected: (m, n, n)."
            )
        if exponents is None and len(C) == 1:
            raise ValueError(
                "Got one coefficient, of a family without parameters: pass another matrix for each "
                "parameter, or exponents."
            )
        affine = np.eye(len(C), dtype=np.int64)[:, 1:]
        powers = affine if exponents is None else real_array(exponents, "exponents")
        if not (
            powers.ndim == 2
            and len(powers) == len(C)
            and powers.shape[1] > 0
            and (powers >= 0).all()
            and (powers <= _MOST_DEGREES).all()
            and (powers == np.floor(powers)).all()
        ):
            raise ValueError(
                f"Got exponents of shape {powers.shape}, but a row of whole numbers from 0 to "
                f"{_MOST_DEGREES}, one for each parameter, is expected for each of {len(C)} "
                f"coefficients: ({len(C)}, n_parameters)."
            )
        self.coefficients = C.copy()
        self.exponents = powers.astype(np.int64)
        self.n_parameters = self.exponents.shape[1]
        given = np.zeros(self.n_parameters) if origin is None else origin
        self.origin = self._row(given, "origin")
        self.assumed = False
        self.deviation = np.zeros(C.shape[1:])

    @classmethod
    def from_function(
        cls,
        function: Callable[[NDArray], Any],
        lower: ArrayLike,
        upper: ArrayLike,
        degree: int = 2,
        *,
        random_state: Any = 0,
    ) -> "ParametricFamily":
        """Fit a polynomial to a function of parameters, over a box of them.

        Parameters
        ----------
        function : callable
            Takes rows of parameters (n_samples, n_parameters), and returns matrices, as rows or as
            a stack, real or complex: what may be the `family` of a
            :class:`~skinv.CertifiedInverse`.
        lower, upper : array-like of shape (n_parameters,)
            The box.
        degree : int, default=2
            Total degree of the polynomial; terms that are nothing but rounding are left out.
        random_state : int, RandomState instance or None, default=0
            Draws the samples.

        Returns
        -------
        ParametricFamily
            With ``assumed=True``. Its `deviation` is twice what is seen at samples that the fit
            knows nothing of, corners of the box among them: small, where the function is the
            polynomial, and else the part of it that the polynomial leaves.

        Raises
        ------
        ValueError
            For a box or a degree that is none, or a function that returns something else than one
            finite square matrix for each row of parameters.

        Notes
        -----
        A least-squares fit in Chebyshev polynomials, of samples with their density, three for each
        term and twenty more. What is proven of the family is true of the function as far as this
        deviates from the polynomial by no more than `deviation` anywhere in the box, which
        certificates call `assumed`.

        Examples
        --------
        >>> import numpy as np
        >>> def family(p):
        ...     return np.eye(2) + np.prod(p, axis=1)[:, None, None] * np.ones((2, 2))
        >>> found = ParametricFamily.from_function(family, [-1, -1], [1, 1])
        >>> found.exponents, bool(found.deviation.max() < 1e-14)
        (array([[0, 0],
               [1, 1]]), True)
        """
        low, high = check_box(lower, upper)
        if not isinstance(degree, (int, np.integer)) or not 0 <= degree <= _MOST_DEGREES:
            raise ValueError(
                f"Got degree={degree!r}, but a whole number from 0 to {_MOST_DEGREES} is expected."
            )
        k, random = len(low), check_random_state(random_state)
        exponents = _of_total_degree(k, int(degree))
        count = _PER_TERM * len(exponents) + _MORE
        corners = list(itertools.islice(itertools.product((-1.0, 1.0), repeat=k), 2**_MOST_CORNERS))
        held_out = random.uniform(-1, 1, (_HELD_OUT, k))
        Z = np.concatenate([np.cos(np.pi * random.uniform(size=(count, k))), held_out, corners])
        with np.errstate(all="ignore"):
            half = (high - low) / 2
            middle = low + half
            P = np.clip(middle + half * Z, low, high)
            if not np.isfinite(P).all():
                raise ValueError(f"Got lower={lower!r} and upper={upper!r}, too far apart.")
            values = _values(function, P)
            found = _fitted(Z[:count], values[:count], exponents, half)
            if not np.isfinite(found).all():
                raise ValueError(
                    f"Got a box of half-widths {half}, for which coefficients of degree {degree} "
                    f"are no float64 numbers: take other units for the parameters."
                )
            kept = np.flatnonzero(found.any(axis=(1, 2)) | ~exponents.any(axis=1))
            family = cls(found[kept], exponents[kept], middle)
            off = family(P[count:]) - values[count:]
            family.deviation = 2 * np.maximum(np.abs(off.real), np.abs(off.imag)).max(axis=0)
        if not np.isfinite(family.deviation).all():
            raise ValueError("Got matrices from function that are too large for a polynomial.")
        family.assumed = True
        return family

    def __call__(self, p: Any) -> Any:
        """Return the matrices (..., n, n) of parameters (..., n_parameters), in double precision.

        For a tensor a tensor on its device, else an array.
        """
        rows = real_array(p, "parameters")
        if rows.ndim == 0 or rows.shape[-1] != self.n_parameters:
            raise ValueError(
                f"Got parameters of shape {rows.shape}, but rows of {self.n_parameters} are "
                f"expected."
            )
        n = self.coefficients.shape[1]
        with np.errstate(all="ignore"):
            values = monomials(self.exponents, rows - self.origin)
            found = values @ self.coefficients.reshape(-1, n * n)
        return as_given(found.reshape(*rows.shape[:-1], n, n), p)

    def __repr__(self) -> str:
        n, dtype = self.coefficients.shape[1], self.coefficients.dtype
        terms = f"{len(self.exponents)} terms of degree {self.exponents.sum(axis=1).max()}"
        return (
            f"ParametricFamily({dtype} matrices of order {n}, {self.n_parameters} parameters, "
            f"{terms}{', assumed' if self.assumed else ''})"
        )

    def _row(self, given: Any, name: str) -> NDArray[np.float64]:
        """Return one finite number for each parameter, or raise a ValueError."""
        row = exact_numbers(given, name)
        if row.shape != (self.n_parameters,) or np.iscomplexobj(row) or not np.isfinite(row).all():
            raise ValueError(
                f"Got {name} of shape {row.shape}, but a finite real number for each of "
                f"{self.n_parameters} parameters is expected."
            )
        return row.copy()


def exact_numbers(given: Any, name: str) -> NDArray:
    """Return numbers in float64 or complex128 that are those given, or raise a ValueError."""
    try:
        return np.asarray(floating(as_array(to_host(given)), True))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"Got {name} of type {type(given).__name__}, but numbers that float64 can hold are "
            f"expected: {error}"
        ) from error


def check_box(lower: Any, upper: Any) -> tuple[NDArray, NDArray]:
    """Return the ends of a box of parameters, or raise a ValueError."""
    low, high = exact_numbers(lower, "lower"), exact_numbers(upper, "upper")
    if (
        low.ndim != 1
        or low.size == 0
        or low.shape != high.shape
        or np.iscomplexobj(low)
        or np.iscomplexobj(high)
        or not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all())
    ):
        raise ValueError(
            f"Got lower={lower!r} and upper={upper!r}, but the ends of a box are expected: finite "
            f"numbers, lower <= upper, for each parameter."
        )
    return low, high


def _values(function: Callable, P: NDArray) -> NDArray:
    """Return what a function makes of parameters, as a stack."""
    try:
        taken = floating_matrices(function(P.copy()))
    except ValueError as error:
        raise ValueError(f"Got no stack of matrices from function: {error}") from error
    numbers = np.asarray(to_host(taken.numbers))
    finite = bool(np.isfinite(numbers).all())
    if numbers.ndim < 2 or len(numbers) != len(P) or not finite:
        raise ValueError(
            f"Got an array of shape {numbers.shape}{'' if finite else ' that is not finite'} from "
            f"function for {len(P)} rows of parameters, but one finite square matrix each is "
            f"expected: (n_samples, n, n)."
        )
    stack = numbers if taken.is_complex else as_stack(numbers)
    return stack.astype(np.complex128 if taken.is_complex else np.float64)


def _of_total_degree(k: int, degree: int) -> NDArray[np.int64]:
    """Return the exponents of all monomials of k parameters up to a degree."""
    number = math.comb(k + degree, k)
    if number > _MOST_TERMS:
        raise ValueError(
            f"Got degree={degree} for {k} parameters, which makes {number} terms, but at most "
            f"{_MOST_TERMS} are fitted."
        )
    return np.array(
        [
            np.bincount(factors, minlength=k)
            for total in range(degree + 1)
            for factors in itertools.combinations_with_replacement(range(k), total)
        ],
        dtype=np.int64,
    )


def _fitted(Z: NDArray, values: NDArray, exponents: NDArray, half: NDArray) -> NDArray:
    """Return coefficients (m, n, n) of a fit to matrices at points of [−1, 1]^k, or of no numbers.

    Terms that are nothing but rounding are zeros.
    """
    basis = np.ones((len(Z), len(exponents)))
    for z, e in zip(Z.T, exponents.T, strict=True):
        basis *= np.polynomial.chebyshev.chebvander(z, int(e.max()))[:, e]
    flat = values.reshape(len(Z), -1)
    found = np.linalg.lstsq(basis, flat, rcond=None)[0]
    noise = _NEGLIGIBLE * len(exponents) * EPS * np.abs(flat).max(axis=0)
    found[(np.abs(found) <= noise).all(axis=1)] = 0.0
    return _in_monomials(exponents, found, half).reshape(-1, *values.shape[1:])


def _in_monomials(exponents: NDArray, found: NDArray, half: NDArray) -> NDArray:
    """Return coefficients of monomials of p − o from those of Chebyshev polynomials of the box.

    What is on a line along one parameter is turned at once.
    """
    out = found.copy()
    place = {tuple(e): j for j, e in enumerate(exponents.tolist())}
    for i in range(exponents.shape[1]):
        turned = np.zeros_like(out)
        for j, e in enumerate(exponents.tolist()):
            unit = np.zeros(e[i] + 1)
            unit[-1] = 1.0
            for power, share in enumerate(np.polynomial.chebyshev.cheb2poly(unit)):
                if share:
                    turned[place[(*e[:i], power, *e[i + 1 :])]] += share * out[j]
        out = turned
    scale = np.where(half > 0, half, 1.0)
    out /= np.prod(scale**exponents, axis=1)[:, None]
    out[np.any(exponents[:, half == 0] > 0, axis=1)] = 0.0  # of parameters that do not vary
    return out
