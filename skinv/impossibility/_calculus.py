"""How certificates of polynomially Lipschitz maps combine."""

from numpy.polynomial import Polynomial

from .._arrays.words import Norm
from ._certificates import PolynomialLipschitz, factor_of, identity
from ._coefficients import STACKED, aligned, inside, plus, times


def _common_norm(*certificates: PolynomialLipschitz) -> Norm:
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
    >>> from skinv.impossibility import lipschitz
    >>> concatenate(lipschitz(3.0), lipschitz(4.0))
    PolynomialLipschitz(P=5, B=5 t, norm='l2')
    """
    norm = _common_norm(*certificates)

    P, B = (STACKED[norm](aligned([getattr(c, k).coef for c in certificates])) for k in "PB")
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
    >>> from skinv.impossibility import lipschitz
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
    >>> from skinv.impossibility import identity
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
    >>> from skinv.impossibility import lipschitz
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
    >>> from skinv.impossibility import identity
    >>> multiply(identity(), identity())  # x ↦ x²
    PolynomialLipschitz(P=2 t, B=t^2, norm='l2')
    """
    norm, factor = _common_norm(first, second), factor_of(factor)
    P = plus(times(first.B.coef, second.P.coef), times(second.B.coef, first.P.coef))
    B = times(first.B.coef, second.B.coef)
    return PolynomialLipschitz(times(factor, P), times(factor, B), norm)


def matrix_product(
    first: PolynomialLipschitz, second: PolynomialLipschitz, terms: float
) -> PolynomialLipschitz:
    """Return the certificate of a product of matrices, every entry a sum of so many terms."""
    return multiply(first, second, terms if first.norm == "linf" else 1.0)


def tighter(first: Polynomial, second: Polynomial) -> Polynomial:
    """Return the one of two bounds that is smaller for large t, but for rounding."""
    size = max(len(first.coef), len(second.coef))
    for k in reversed(range(size)):
        a, b = (float(p.coef[k]) if k < len(p.coef) else 0.0 for p in (first, second))
        if abs(a - b) > 1e-9 * max(a, b):
            return first if a < b else second
    return first
