"""What the residual I − AX proves of an approximate inverse X, rounding included."""

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from .._arrays.conversion import as_double, is_double, namespace
from .._arrays.pairs import check_pair
from .._arrays.words import ErrorNorm
from .._linalg.arithmetic import Arithmetic, products_are_exact
from .._linalg.norms import (
    check_norm,
    norm_bound,
    norm_errors,
    norm_floor,
    operator_norm,
    scales,
)
from .._linalg.products import product, product_error
from .._linalg.scaling import times_power
from .._linalg.threads import in_threads
from .._linalg.units import are_mixed
from .._linalg.workspace import empty, indices, pieces
from ._components import component_bound, doubled_bound, norm_of_radius

# Past this share of the residual the bound of its rounding is worth a sharper one.
_SHARE = 0.1
# Rounding in double precision, past this, is worth a look in other units.
_WEAK = 2.0**-36
# The bounds themselves are computed in a few float64 operations.
UP = 1 + 2.0**-46


def residual_bound(
    A: Any,
    X: Any,
    norm: ErrorNorm = "fro",
    *,
    sharp: bool = True,
    accumulate: Literal["float64", "double-double"] | None = None,
    componentwise: bool = False,
) -> Any:
    """Bound the relative error of each approximate inverse, rigorously in floating point.

    Parameters
    ----------
    A : array-like or tensor of shape (n, n) or (..., n, n)
        One matrix, or a stack of them, real or complex. Rows of flattened matrices must be
        reshaped first: ``X.reshape(-1, n, n)``.
    X : array-like or tensor of the shape of `A`
        Their approximate inverses, from wherever.
    norm : {"fro", "inf", "1"}, default="fro"
        Frobenius norm, largest row sum or largest column sum; ``numpy.inf`` and 1 are understood.
    sharp : bool, default=True
        Whether to spend up to two more products, which bring the bound to within a few percent of
        the error where that is well above rounding. False gives the norm of the residual, by one.
    accumulate : {None, "float64", "double-double"}, default=None
        Precision of the residual; None is the precision of the data. In float32 the rounding of
        the residual is about n·6e-8·cond(A), and "float64" removes it. "double-double" is twice
        that of float64: bounds are close to the errors however small these are, also where
        condition numbers are past 1e16, up to 1e25 or so; the price is several times that of
        `numpy.linalg.inv`, and more where condition numbers are large, whatever `sharp` is.
    componentwise : bool, default=False
        Whether to bound every entry of A⁻¹ − X, in the units of that entry. `norm` is not looked
        at then, all is computed in double precision, and `sharp` spends three more products.

    Returns
    -------
    bound : float, ndarray or tensor of shape (...), float64
        If `componentwise` of the shape of `A`: numbers that are at least ``|A⁻¹ − X|`` entry by
        entry. They do not depend on the units of rows and columns: for ``D @ A @ E`` and
        ``inv(E) @ X @ inv(D)``, with diagonal D and E of powers of two, they are the same but for
        these, to the bit in NumPy, where no entry is zero. Otherwise for each matrix a number that
        is at least ‖A⁻¹ − X‖ / ‖A⁻¹‖.

        inf where nothing is proven: where the residual is not below 1, or anything is NaN, infinite
        or overflows. A finite bound also proves A regular. Arrays of other libraries (JAX, CuPy, …)
        are computed on the host, by NumPy, whose products round as the proof assumes.

    Raises
    ------
    ValueError
        For shapes that do not match, matrices that are not square, numbers that float64 cannot
        hold, or an unknown norm or precision.

    See Also
    --------
    skinv.CertifiedInverse : Refines until the bound is met.

    Notes
    -----
    With R = I − AX and ‖R‖ < 1, A is regular and A⁻¹ − X = A⁻¹R, so the relative error is at most
    ‖R‖; also A⁻¹ − X = XR(I − R)⁻¹ and X = A⁻¹(I − R), which gives the sharper
    ‖XR‖(1 + ‖R‖) / (‖X‖(1 − ‖R‖)). The computed residual R' has ``|R' − R| <= u|R'| + γ_n|A||X|``
    (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.5; Rump 2010,
    "Verification methods: rigorous results using floating-point arithmetic"), in whatever order
    sums are taken, with or without fused operations; of complex matrices √2 γ_{2n+1} takes the
    place of γ_n (section 3.6), and norms are of moduli. Norms are rounded up. Matrices are scaled
    by powers of two where squares might over- or underflow, and what underflows is allowed for,
    whether the process rounds it or flushes it to zero. Entries are bounded by I − XA, and weights
    w > 0 with ``|I − XA| w < w`` (Rump 2010, section 10). In twice the precision X − RX takes the
    place of X there, R = XA − I, and where R is large, as past a condition number of 1/u, the sum
    of two matrices (XA)⁻¹X (Rump 1990, "Rigorous sensitivity analysis for systems of linear and
    nonlinear equations"); products are those of slices of few bits, which are exact (Ozaki, Ogita,
    Oishi & Rump 2012, "Error-free transformations of matrix multiplication by using fast routines
    of matrix multiplication"). On the host products are NumPy's, of tensors, too; on a device they
    are taken to be those of IEEE arithmetic, and residuals in single precision are computed in
    double where ``torch.get_float32_matmul_precision()`` is not "highest".

    Examples
    --------
    >>> A = np.array([[[4.0, 1.0], [2.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]])
    >>> X = np.array([[[0.3, -0.1], [-0.2, 0.41]], [[1.0, 0.0], [0.0, 1.0]]])
    >>> residual_bound(A, X)  # the error is 0.01 in one entry of the first; the second is singular
    array([0.019, inf])
    >>> residual_bound(A[0], X[0], componentwise=True).round(4)  # rounded up a little
    array([[0.    , 0.    ],
           [0.    , 0.0107]])
    """
    name = check_norm(norm)
    if accumulate not in (None, "float64", "double-double"):
        raise ValueError(
            f"Got accumulate={accumulate!r}, but it must be None, 'float64' or 'double-double'."
        )
    A, X, came = check_pair(A, X)
    doubled = accumulate == "double-double"
    if componentwise or doubled:
        radius = doubled_bound(A, X) if doubled else component_bound(A, X, sharp=sharp)
        if componentwise:
            return came.matrices(radius)
        return came.numbers(norm_of_radius(X, radius, name))
    wide = accumulate == "float64" or not products_are_exact(A)
    return came.numbers(proven(A, X, name, sharp=sharp, wide=wide))


def proven(A: Any, X: Any, norm: str, *, sharp: bool = True, wide: bool = False) -> Any:
    """Bound the relative errors of a stack (m, n, n), in double precision if `wide`."""
    m, n = A.shape[:2]
    out = empty(A, (m,), namespace(A).float64)

    def prove(piece: slice) -> None:
        with np.errstate(all="ignore"):
            a, x = A[piece], X[piece]
            if wide:
                a, x = as_double(a), as_double(x)
            out[piece], rounding = _bound_piece(*scaled(a, x)[:2], norm, sharp)
            if sharp:
                _tighten_by_components(a, x, out[piece], rounding, norm)

    in_threads(prove, pieces(m, n, as_double(A[:0]).itemsize if wide else A.itemsize), A)
    return out


def _tighten_by_components(A: Any, X: Any, bound: Any, rounding: Any, norm: str) -> None:
    """Bound entries, in units of their own, where norms and their rounding prove little."""
    weak = (bound > _WEAK) & (2 * rounding > bound) & is_double(A)
    open_ = bound == np.inf
    if bool(open_.any()):
        weak = weak | (open_ & are_mixed(A))
    rows = indices(weak)
    if len(rows):
        other = norm_of_radius(X[rows], component_bound(A[rows], X[rows]), norm)
        bound[rows] = namespace(A).minimum(bound[rows], other)


def scaled(A: Any, X: Any, share: float = 0.25, size: Any = None) -> tuple[Any, Any, Any]:
    """Return A/2^k, 2^k X and 2^k, with k per matrix such that no square of A over- or underflows.

    Most matrices need no scaling (k = 0), which the norms of A tell: `share` is that of
    :func:`skinv._linalg.norms.scales`, and so is `size`. Where none does the arguments come back,
    and None.
    """
    unit = scales(A, share, size)
    if unit is None:
        return A, X, None
    return times_power(A, 1 / unit), times_power(X, unit), unit


class Rounding(NamedTuple):
    """The constants of proofs by one norm of matrices of one order and format.

    The same formulas are those of vectors, one number for each matrix, and of single numbers; those
    of arrays take less time if constants are arrays, too. Each constant is larger by 2^-46 of it
    than it need be, and one is in every product of a bound: that makes up for the rounding of a few
    dozen operations in double precision, in any direction.
    """

    up: Any  # a norm as it is computed, times this, ...
    lost: Any  # ... plus this, which underflows, is at least the norm
    room: Any  # and so is this, with what is added to ‖A‖ and ‖X‖ for what underflows in products
    spare: Any  # which is this
    unit: Any
    gamma: Any  # of products, with the rounding of a step of refinement
    stage: Any  # what else of it is rounded, as a share of `gamma`

    @staticmethod
    @lru_cache
    def of(arithmetic: Arithmetic, n: int, norm: str, arrays: bool = False) -> "Rounding":
        """Return the constants.

        What underflows in AX − I, less than tiny in each sum and product, and in each operand what
        that is multiplied with, is less than L(1 + ‖A‖ + ‖X‖), L = 4n²·tiny. With δ = √(L/γ_n),
        which is less than 1, that is at most γ_n((‖A‖ + δ)(‖X‖ + δ) − ‖A‖‖X‖), for γ_nδ² = L and
        γ_nδ >= L.
        """
        error, lost = norm_errors(arithmetic, n, norm)
        least, u, gamma = 4 * n * n * arithmetic.tiny, arithmetic.unit, arithmetic.gamma(n)
        spare = (least / gamma) ** 0.5 * UP
        stage = (2 * u + least) / gamma * UP
        rounded = gamma * (1 + 4 * u) ** 2 * UP
        room = (lost + spare) * UP
        found = (1 + error) * UP, lost * UP, room, spare, u * UP, rounded, stage
        return Rounding(*map(np.asarray, found)) if arrays else Rounding(*found)

    def size(self, computed: Any) -> Any:
        """Bound norms of A, as they are computed, with what underflows in products."""
        return computed * self.up + self.room

    def residual(self, size_A: Any, X: Any, D: Any) -> "ResidualNorms":
        """Bound a residual by :meth:`size` and norms as they are computed, which are lost."""
        X *= self.up
        X += self.room
        D *= self.up
        D += self.lost
        share = size_A * X
        share *= self.gamma
        return ResidualNorms(D, share + D * self.unit, size_A, X, share)

    def stepped(self, known: "ResidualNorms", order: int) -> Any:
        """Bound the residual after a step of refinement, before it is taken, for ‖R'‖ < 1.

        With D = −R' and the refined Y = X(I + R' + … + R'^{p−1}) + F, F its rounding,
        I − AY = R'^p + (R − R')(I + R' + … + R'^{p−1}) − AF. Each stage of Horner's rule,
        Y ← X + YR', rounds by at most u|Y| + γ_n|Y||R'| (1 + u), and later stages multiply that
        by R'. The |Y| of all stages have norms below ‖X‖/(1 − ‖R'‖). So with s = 1/(1 − ‖R'‖) it is
        at most ‖R'‖^p + s(‖R − R'‖ + s‖A‖‖X‖(2u + γ_n‖R'‖)), but for u² and for what underflows:
        less than ‖A‖sL(1 + ‖X‖), for which L is added to 2u, and there is room where δ was to ‖X‖,
        since 2uδ >= L.
        """
        computed = known.computed
        power, share = computed * computed, 1 / (1 - computed)
        for _ in range(order - 2):
            power = power * computed
        bound = computed + self.stage
        bound *= known.product
        bound *= share
        bound += known.rounding
        bound *= share
        bound += power
        return bound


class ResidualNorms(NamedTuple):
    """Norms that bound the residual R = I − AX of each matrix, float64 of shape (m,)."""

    computed: Any  # at least the norm of the computed residual R'
    rounding: Any  # at least ‖R − R'‖
    A: Any  # at least ‖A‖
    X: Any  # at least ‖X‖
    product: Any  # at least γ_n‖A‖‖X‖

    @property
    def bound(self) -> Any:
        """A proven upper bound of ‖R‖; NaN where something is not finite."""
        return self.computed + self.rounding


def measure(A: Any, X: Any, D: Any, norm: str, size_A: Any = None) -> ResidualNorms:
    """Bound what is known of a residual, D = AX − I as computed, from norms (‖A‖ <= size_A)."""
    constants = Rounding.of(Arithmetic.of(A), A.shape[-1], norm, type(A) is np.ndarray)
    computed = as_double(operator_norm(X, norm)), as_double(operator_norm(D, norm))
    if size_A is None:
        size_A = constants.size(as_double(operator_norm(A, norm)))
    else:
        size_A = size_A + constants.spare
    return constants.residual(size_A, *computed)


def rounding_of(
    arithmetic: Arithmetic, n: int, computed: Any, absolute: Any, size_A: Any, size_X: Any
) -> Any:
    """Bound ‖R − R'‖ from a bound of ‖|A||X|‖. The last term is what underflows."""
    lost = 4 * n * n * arithmetic.tiny * (1 + size_A + size_X)
    return (arithmetic.unit * computed + arithmetic.gamma(n) * absolute + lost) * UP


def _bound_piece(A: Any, X: Any, norm: str, sharp: bool) -> tuple[Any, Any]:
    """Bound the relative errors of scaled matrices; and say what of it rounding amounts to."""
    xp = namespace(A)
    D = product_error(A, X)
    known = measure(A, X, D, norm)
    if sharp:
        known = _sharper_rounding(A, X, D, known, norm)
    bound = known.bound
    if sharp:
        bound = xp.minimum(bound, _error_bound(X, D, known, norm))
    return xp.where(bound < 1, bound, np.inf), known.rounding


def _sharper_rounding(A: Any, X: Any, D: Any, known: ResidualNorms, norm: str) -> ResidualNorms:
    """Replace ‖A‖‖X‖ by ‖|A||X|‖ where rounding is a large part of the bound."""
    xp = namespace(A)
    rows = indices((known.rounding > _SHARE * known.computed) & (known.rounding < np.inf))
    if len(rows) == 0:
        return known
    arithmetic, n = Arithmetic.of(A), A.shape[-1]
    # The product of absolute values is itself rounded, by less than γ_n of it.
    absolute = norm_bound(product(abs(A[rows]), abs(X[rows])), norm)
    absolute = absolute * (1 + 2 * arithmetic.gamma(n)) + 4 * n * n * arithmetic.tiny
    some = ResidualNorms(*(part[rows] for part in known))
    sharper = rounding_of(arithmetic, n, some.computed, absolute, some.A, some.X)
    rounding = known.rounding + 0.0
    rounding[rows] = xp.minimum(some.rounding, sharper)
    return known._replace(rounding=rounding)


def _error_bound(X: Any, D: Any, known: ResidualNorms, norm: str) -> Any:
    """Bound the relative error by ‖XR‖(1 + ‖R‖) / (‖X‖(1 − ‖R‖)); NaN or inf if ‖R‖ >= 1."""
    xp = namespace(X)
    arithmetic, n = Arithmetic.of(X), X.shape[-1]
    r = known.bound
    XR = norm_bound(product(X, D), norm) + (
        arithmetic.gamma(n) * known.X * known.computed
        + known.X * known.rounding
        + 4 * n * n * arithmetic.tiny * (1 + known.X)
    )
    lower = norm_floor(X, norm)
    bound = XR * (1 + r) / (lower * (1 - r)) * UP
    return xp.where((r < 1) & (lower > 0) & (bound >= 0), bound, np.inf)
