"""Polynomially Lipschitz maps and how their certificates combine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike

from ..geometry._distance import check_norm
from ._coefficients import (
    STACKED,
    in_t,
    inside,
    numbers,
    plus,
    product,
    raised,
    stacked,
    times,
    without_zeros,
)

_DUAL = {"l1": "linf", "l2": "l2", "linf": "l1"}


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
    norm: str = "l2"

    def __post_init__(self) -> None:
        check_norm(self.norm)
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
    return Polynomial(without_zeros(array))


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
    terms = []
    for k, c in enumerate(polynomial.coef):
        if c:
            power = "" if k == 0 else "t" if k == 1 else f"t^{k}"
            factor = f"{c:.4g}"
            terms.append(" ".join(filter(None, ("" if k and factor == "1" else factor, power))))
    return " + ".join(terms) or "0"


def vector_norm(values: ArrayLike, norm: str) -> float:
    """Return the norm of a flattened array, rounded up."""
    flat = raised(np.abs(np.asarray(values, dtype=np.float64).ravel()))
    return float(STACKED[norm](flat[:, None])[0]) if flat.size else 0.0


def repetition(times: float, norm: str) -> float:
    """Return the norm of a unit vector that is written down several times, rounded up.

    Examples
    --------
    >>> repetition(4, "l1"), repetition(4, "l2"), repetition(4, "linf")
    (4.0, 2.0, 1.0)
    """
    root = math.sqrt(times)
    root = root if root.is_integer() else math.nextafter(root, math.inf)
    return {"l1": float(times), "l2": root, "linf": 1.0}[norm]


def summation(terms: float, norm: str) -> float:
    """Return the norm of u ↦ Σ uᵢ with several terms: 1, the root of their number, or that."""
    return repetition(terms, _DUAL[norm])


def identity(norm: str = "l2") -> PolynomialLipschitz:
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


def constant(magnitude: float, norm: str = "l2") -> PolynomialLipschitz:
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
    bound: Any, at_zero: float = 0.0, norm: str = "l2", *, magnitude: Any = None
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


def _common_norm(*certificates: PolynomialLipschitz) -> str:
    for certificate in certificates:
        if not isinstance(certificate, PolynomialLipschitz):
            raise ValueError(
                f"Got {type(certificate).__name__}, but a PolynomialLipschitz is expected: wrap "
                f"what is not one with lipschitz, constant or polynomial_lipschitz."
            )
    norms = {certificate.norm for certificate in certificates}
    if not norms:
        raise ValueError("Got no certificates to combine.")
    if len(norms) != 1:
        raise ValueError(
            f"Got certificates in the norms {', '.join(sorted(norms))}, but only those in one norm "
            f"can be combined."
        )
    return norms.pop()


def compose(outer: PolynomialLipschitz, inner: PolynomialLipschitz) -> PolynomialLipschitz:
    """Return the certificate of outer(inner(x)).

    Parameters
    ----------
    outer, inner : PolynomialLipschitz
        In one norm.

    Returns
    -------
    PolynomialLipschitz
        P = P_outer(B_inner(t)) P_inner(t), B = B_outer(B_inner(t)).

    Raises
    ------
    ValueError
        For certificates in different norms.

    Notes
    -----
    For ‖x‖, ‖y‖ ≤ t the inner values have norm at most B_inner(t), and the coefficients are not
    negative, so the outer polynomials increase.

    Examples
    --------
    >>> square = PolynomialLipschitz([0, 2], [0, 0, 1])
    >>> compose(square, square)  # x ↦ x⁴
    PolynomialLipschitz(P=4 t^3, B=t^4, norm='l2')
    """
    norm = _common_norm(outer, inner)
    size = inner.B.coef
    P = times(inside(outer.P.coef, size), inner.P.coef)
    return PolynomialLipschitz(P, inside(outer.B.coef, size), norm)


def concatenate(*certificates: PolynomialLipschitz) -> PolynomialLipschitz:
    """Return the certificate of x ↦ (f₁(x), f₂(x), ...).

    Parameters
    ----------
    *certificates : PolynomialLipschitz
        In one norm.

    Returns
    -------
    PolynomialLipschitz
        Each coefficient of P and B is the norm of the vector of the parts' coefficients: their sum
        in l1, the root of the sum of squares in l2, the largest in linf.

    Raises
    ------
    ValueError
        For certificates in different norms, or none.

    Notes
    -----
    The norm of the whole is that of (‖f₁‖, ‖f₂‖, ...) ≤ Σ_k (c₁ₖ, c₂ₖ, ...) tᵏ, to which the
    triangle inequality is applied.

    Examples
    --------
    >>> concatenate(lipschitz(3.0), lipschitz(4.0))
    PolynomialLipschitz(P=5, B=5 t, norm='l2')
    """
    norm = _common_norm(*certificates)

    P, B = (stacked([getattr(c, name).coef for c in certificates], norm) for name in "PB")
    return PolynomialLipschitz(P, B, norm)


def add(*certificates: PolynomialLipschitz) -> PolynomialLipschitz:
    """Return the certificate of f₁(x) + f₂(x) + ...

    Parameters
    ----------
    *certificates : PolynomialLipschitz
        In one norm.

    Returns
    -------
    PolynomialLipschitz
        The sums of P and of B, by the triangle inequality.

    Examples
    --------
    >>> add(lipschitz(3.0), lipschitz(4.0))
    PolynomialLipschitz(P=7, B=7 t, norm='l2')
    """
    norm = _common_norm(*certificates)
    P, B = (plus(*(getattr(c, name).coef for c in certificates)) for name in "PB")
    return PolynomialLipschitz(P, B, norm)


def scale(certificate: PolynomialLipschitz, factor: float) -> PolynomialLipschitz:
    """Return the certificate of K f(x) for a linear map K of induced norm at most `factor`.

    Parameters
    ----------
    certificate : PolynomialLipschitz
    factor : float
        Not negative.

    Returns
    -------
    PolynomialLipschitz

    Raises
    ------
    ValueError
        For a factor that is no finite number >= 0.

    Examples
    --------
    >>> scale(identity(), 3.0)
    PolynomialLipschitz(P=3, B=3 t, norm='l2')
    """
    norm, factor = _common_norm(certificate), factor_of(factor)
    P, B = (times(factor, getattr(certificate, name).coef) for name in "PB")
    return PolynomialLipschitz(P, B, norm)


def residual(certificate: PolynomialLipschitz) -> PolynomialLipschitz:
    """Return the certificate of x + f(x).

    Parameters
    ----------
    certificate : PolynomialLipschitz

    Returns
    -------
    PolynomialLipschitz
        1 + P and t + B.

    Examples
    --------
    >>> residual(lipschitz(3.0))
    PolynomialLipschitz(P=4, B=4 t, norm='l2')
    """
    return add(identity(_common_norm(certificate)), certificate)


def multiply(
    first: PolynomialLipschitz, second: PolynomialLipschitz, factor: float = 1.0
) -> PolynomialLipschitz:
    """Return the certificate of a product f(x) g(x).

    Parameters
    ----------
    first, second : PolynomialLipschitz
        In one norm.
    factor : float, default=1.0
        c in ‖u v‖ ≤ c ‖u‖ ‖v‖. It is 1 for products entry by entry in all three norms, and for
        matrix products in l1 and l2; in linf it is the number of terms of each sum.

    Returns
    -------
    PolynomialLipschitz
        P = c (B_f P_g + B_g P_f), B = c B_f B_g.

    Notes
    -----
    f(x)g(x) − f(y)g(y) = f(x)(g(x) − g(y)) + (f(x) − f(y))g(y). In linf ``|Σₖ uᵢₖvₖⱼ|`` is at most
    the number of terms times the largest of each, in l1 and l2 the norm of the product is at most
    that of all products uᵢₖvₗⱼ, which is ‖u‖‖v‖.

    Examples
    --------
    >>> multiply(identity(), identity())  # x ↦ x²
    PolynomialLipschitz(P=2 t, B=t^2, norm='l2')
    """
    norm, factor = _common_norm(first, second), factor_of(factor)
    P = plus(times(first.B.coef, second.P.coef), times(second.B.coef, first.P.coef))
    B = times(first.B.coef, second.B.coef)
    return PolynomialLipschitz(times(factor, P), times(factor, B), norm)


def elementwise(
    derivative: Any, at_zero: float = 0.0, size: int = 1, norm: str = "l2"
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
    check_norm(norm)
    count = number_of(size, "size")
    if not count >= 0:
        raise ValueError(f"Got size={count:g}, but a number of entries is expected.")
    at_zero = product(abs(number_of(at_zero, "at_zero")), repetition(count, norm))
    return lipschitz(derivative, at_zero, norm)


def tighter(first: Polynomial, second: Polynomial) -> Polynomial:
    """Return the one of two bounds that is smaller for large t, but for rounding.

    Examples
    --------
    >>> tighter(Polynomial([5.0, 1.0]), Polynomial([0.0, 2.0])).coef
    array([5., 1.])
    """
    size = max(len(first.coef), len(second.coef))
    for k in reversed(range(size)):
        a, b = (float(p.coef[k]) if k < len(p.coef) else 0.0 for p in (first, second))
        if abs(a - b) > 1e-9 * max(a, b):
            return first if a < b else second
    return first
