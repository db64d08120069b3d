"""Polynomially Lipschitz maps, and the simplest of them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.polynomial.polyutils import trimseq
from numpy.typing import ArrayLike

from .._arrays.words import Norm
from ..geometry._distance import check_distance_norm
from ._coefficients import STACKED, in_t, numbers, plus, product, raised, times


@dataclass(frozen=True)
class PolynomialLipschitz:
    """A certificate that a map is polynomially Lipschitz.

    For all x and y of norm at most t,

        ‖f(x) − f(y)‖ ≤ P(t) ‖x − y‖   and   ‖f(x)‖ ≤ B(t),

    in one norm of the flattened arguments and values. A map with such a certificate is bounded on
    every ball; matrix inversion is not, so the map must fail near some singular matrix.

    Parameters
    ----------
    P : Polynomial or array-like of its coefficients, lowest degree first
        Bound of the difference quotients; no coefficient is negative.
    B : Polynomial or array-like of its coefficients
        Bound of the magnitude; no coefficient is negative. What float64 does not hold is rounded
        up, and coefficients below the smallest normal number are raised to it.
    norm : {"l1", "l2", "linf"}, default="l2"
        Sum of absolute entries, Euclidean norm, largest absolute entry.

    Raises
    ------
    ValueError
        For negative or non-finite coefficients or an unknown norm.

    Notes
    -----
    The definition is that of Ji, Wu and Xi (2025), "Rethinking Neural-based Matrix Inversion: Why
    can't, and Where can", in the one-variable form t = max(‖x‖, ‖y‖).

    Examples
    --------
    >>> square = PolynomialLipschitz([0, 2], [0, 0, 1])  # |x² − y²| ≤ 2t |x − y|
    >>> float(square.P(3.0)), float(square.B(3.0)), square.degree
    (6.0, 9.0, 1)
    """

    P: Any
    B: Any
    norm: Norm = "l2"

    def __post_init__(self) -> None:
        check_distance_norm(self.norm)
        for name in ("P", "B"):
            polynomial = as_polynomial(getattr(self, name))
            coefficients: Any = polynomial.coef
            if not (np.isfinite(coefficients).all() and (coefficients >= 0).all()):
                raise ValueError(
                    f"Got {name} of degree {len(coefficients) - 1} with coefficients that are "
                    f"negative or, by overflow or otherwise, not finite; those of a bound must be "
                    f"finite and not negative."
                )
            object.__setattr__(self, name, polynomial)

    @property
    def degree(self) -> int:
        """Degree of P: 0 for maps that are Lipschitz on the whole space."""
        return int(self.P.degree())

    def __repr__(self) -> str:
        return (
            f"PolynomialLipschitz(P={_written(self.P)}, B={_written(self.B)}, norm={self.norm!r})"
        )


def as_polynomial(coefficients: Any) -> Polynomial:
    """Return a polynomial from one, a number or coefficients, lowest degree first, rounded up."""
    if isinstance(coefficients, Polynomial):
        coefficients = in_t(coefficients)
    array = np.atleast_1d(numbers(coefficients, "coefficients"))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"Got coefficients of shape {array.shape}, but a number is expected, or one for each "
            f"power of t."
        )
    return Polynomial(trimseq(array))


def number_of(value: Any, name: str) -> float:
    """Return a number as a float, or raise a ValueError."""
    number = numbers(value, name)
    if number.ndim:
        raise ValueError(f"Got {name} of shape {number.shape}, but a number is expected.")
    return float(number)


def factor_of(value: Any) -> float:
    """Return a factor of a bound as a float, or raise a ValueError."""
    factor = number_of(value, "factor")
    if not 0 <= factor < math.inf:
        raise ValueError(f"Got factor={factor}, but it must be finite and not negative.")
    return factor


def _written(polynomial: Polynomial) -> str:
    """Write a polynomial in t, leaving out what is zero."""
    powers = ["", " t", *(f" t^{k}" for k in range(2, len(polynomial.coef)))]
    terms = zip(polynomial.coef, powers, strict=False)
    return " + ".join(f"{c:.4g}{power}".removeprefix("1 ") for c, power in terms if c) or "0"


def vector_norm(values: ArrayLike, norm: Norm) -> float:
    """Return the norm of a flattened array, rounded up."""
    flat = raised(np.abs(np.asarray(values, dtype=np.float64).ravel()))
    return float(STACKED[norm](flat[:, None])[0]) if flat.size else 0.0


def repetition(times: float, norm: Norm) -> float:
    """Return the norm of a unit vector that is written down several times, rounded up."""
    root = math.sqrt(times)
    root = root if root.is_integer() else math.nextafter(root, math.inf)
    return {"l1": float(times), "l2": root, "linf": 1.0}[norm]


def identity(norm: Norm = "l2") -> PolynomialLipschitz:
    """Return the certificate of x ↦ x, and of whatever only moves or leaves out entries.

    Parameters
    ----------
    norm : {"l1", "l2", "linf"}, default="l2"

    Returns
    -------
    PolynomialLipschitz

    Examples
    --------
    >>> identity()
    PolynomialLipschitz(P=1, B=t, norm='l2')
    """
    return PolynomialLipschitz(1.0, [0.0, 1.0], norm)


def constant(magnitude: float, norm: Norm = "l2") -> PolynomialLipschitz:
    """Return the certificate of a map that always takes one value.

    Parameters
    ----------
    magnitude : float
        Norm of the value.
    norm : {"l1", "l2", "linf"}, default="l2"

    Returns
    -------
    PolynomialLipschitz

    Examples
    --------
    >>> constant(3.0)
    PolynomialLipschitz(P=0, B=3, norm='l2')
    """
    return PolynomialLipschitz(0.0, magnitude, norm)


def lipschitz(
    bound: Any, at_zero: float = 0.0, norm: Norm = "l2", *, magnitude: Any = None
) -> PolynomialLipschitz:
    """Return the certificate of a map whose Jacobian's norm is at most bound(t) on the ball of t.

    Parameters
    ----------
    bound : float, array-like of coefficients or Polynomial
        The bound; a number for Lipschitz maps.
    at_zero : float, default=0.0
        ‖f(0)‖.
    norm : {"l1", "l2", "linf"}, default="l2"
    magnitude : float, array-like or Polynomial, default=None
        A bound of ‖f(x)‖ if one is known that is better than ‖f(0)‖ + t bound(t).

    Returns
    -------
    PolynomialLipschitz

    Notes
    -----
    Balls are convex, so by the mean value theorem a bound of the Jacobian on a ball bounds the
    difference quotients there; with y = 0 it bounds the magnitude.

    Examples
    --------
    >>> lipschitz(2.0, at_zero=1.0)
    PolynomialLipschitz(P=2, B=1 + 2 t, norm='l2')
    """
    P = as_polynomial(bound)
    if magnitude is None:
        magnitude = plus(number_of(at_zero, "at_zero"), times([0.0, 1.0], P.coef))
    return PolynomialLipschitz(P, magnitude, norm)


def elementwise(
    derivative: Any, at_zero: float = 0.0, size: int = 1, norm: Norm = "l2"
) -> PolynomialLipschitz:
    """Return the certificate of an activation u ↦ φ(u) applied entry by entry.

    Parameters
    ----------
    derivative : float, array-like of coefficients or Polynomial
        A polynomial p without negative coefficients such that ``|φ'(u)| ≤ p(|u|)``: a number for
        Lipschitz activations; ``Σ k |cₖ| uᵏ⁻¹`` for a polynomial Σ cₖ uᵏ; for a spline the largest
        of its pieces' coefficients.
    at_zero : float, default=0.0
        φ(0).
    size : int, default=1
        Number of entries.
    norm : {"l1", "l2", "linf"}, default="l2"

    Returns
    -------
    PolynomialLipschitz

    Notes
    -----
    No entry is larger than the norm t, so ``|φ(uᵢ) − φ(vᵢ)| ≤ p(t) |uᵢ − vᵢ|`` for each, and the
    three norms are monotone in the absolute entries.

    Examples
    --------
    >>> elementwise([1.0, 0.0, 3.0])  # u + u³
    PolynomialLipschitz(P=1 + 3 t^2, B=t + 3 t^3, norm='l2')
    """
    check_distance_norm(norm)
    count = number_of(size, "size")
    if not count >= 0:
        raise ValueError(f"Got size={count:g}, but a number of entries is expected.")
    at_zero = product(abs(number_of(at_zero, "at_zero")), repetition(count, norm))
    return lipschitz(derivative, at_zero, norm)
