"""counterexample: a nonsingular matrix on which a model is as wrong as one likes."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from .._arrays.conversion import is_complex, real_array
from .._arrays.estimators import unwrapped
from .._arrays.results import Counterexample
from .._linalg.draws import private_generator
from .._linalg.inverses import check_center
from .._linalg.products import exact_inverse
from .._linalg.scaling import times_power
from ..bounds import residual_bound
from ..geometry import nearest_singular
from ..geometry._regions import row_norms
from ..refinement import newton_schulz
from ._models import Predictions

_CONSTRAINTS = {
    "error": [Interval(Real, 0, None, closed="left")],
    "n_directions": [Interval(Integral, 1, None, closed="left")],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "random_state": ["random_state"],
}
# Shares of the way to a singular matrix: even steps, then halving what is left, down to the last
# bit of a float64.
_SHARES = np.concatenate([np.linspace(0.0, 0.9375, 16), 1 - 0.5 ** np.arange(4.25, 53, 0.25)])

# Past this relative error an inverse says little of what it is compared with.
_LARGEST_BOUND = 0.01


def counterexample(
    model: Any,
    center: Any,
    error: float = 1.0,
    *,
    n_directions: int = 64,
    max_iter: int = 20,
    random_state: Any = None,
) -> Counterexample:
    """Find a nonsingular matrix near a given one on which a model errs by more than `error`.

    The search walks from the centre toward singular matrices, where inverses grow without limit and
    predictions do not, until the error is exceeded; it then looks at random for nearer matrices.

    Parameters
    ----------
    model : fitted regressor or torch.nn.Module
        Any object with a ``predict`` method from rows of n*n entries to inverses: skinv's,
        scikit-learn's, skorch nets and torch modules (which may reshape the rows).
    center : array-like of shape (n, n) or (n*n,)
        Where to start; it may be singular.
    error : float, default=1.0
        The error to exceed, in the spectral norm of the difference to the true inverse.
    n_directions : int, default=64
        How many random directions to try in each turn.
    max_iter : int, default=20
        How many turns of the search for a nearer matrix; 0 only walks.
    random_state : int, RandomState instance or None, default=None
        Seeds the search.

    Returns
    -------
    Counterexample
        A Bunch.

        matrix : ndarray of shape (n, n)
            The counterexample, representable in the dtype that the model takes.
        error : float
            ‖f(A) − A⁻¹‖₂, as computed.
        error_lower : float
            A proven lower bound of it, larger than the `error` asked for.
        inverse, prediction : ndarray of shape (n, n)
            A⁻¹ up to `bound`, and what the model says.
        bound : float
            Proven bound on the relative error of `inverse` (Frobenius norm), from
            :func:`skinv.bounds.residual_bound`; it also proves that A is not singular.
        distance : float
            ‖A − center‖_F.
        singular_distance : float
            Distance of A to the nearest singular matrix, its smallest singular value: 1/‖A⁻¹‖₂, up
            to the relative error `bound`.
        n_predictions : int
            How many matrices the model was asked for.

    Raises
    ------
    ValueError
        If no such matrix is found, which is what happens for models that invert exactly or fall
        back to what does, such as :class:`skinv.CertifiedInverse`, and for errors that floating
        point cannot tell from rounding; the message has the largest error that was seen.

    See Also
    --------
    failure_distance : Below which distance every matrix is a counterexample.

    Notes
    -----
    The walk is along A₀ − s u vᵀ with the last singular vectors: its end, at s = σ_min, is the
    nearest singular matrix (Eckart and Young 1936), and on the way ‖A⁻¹‖₂ = 1/(σ_min − s). Ji, Wu
    and Xi (2025), "Rethinking Neural-based Matrix Inversion: Why can't, and Where can".

    Examples
    --------
    >>> from skinv import LinearInverseApprox
    >>> center = [[3.0, 1.0], [1.0, 2.0]]
    >>> model = LinearInverseApprox(center).fit()
    >>> found = counterexample(model, center, error=1e6, random_state=0)
    >>> found.error_lower > 1e6, found.singular_distance < 1e-6, found.bound < 1e-8
    (True, True, True)
    >>> found.distance  # no matrix nearer than 1.3819660 is singular
    1.38196
    """
    given = error, n_directions, max_iter, random_state
    params = dict(zip(_CONSTRAINTS, given, strict=True))
    validate_parameter_constraints(_CONSTRAINTS, params, "counterexample")
    if getattr(unwrapped(model), "family", None) is not None:
        raise ValueError("Got a model of parameters, but one of matrices is needed.")
    if is_complex(center):
        raise ValueError("Got a complex center; pass embed_complex(center), where models look.")
    A, error = check_center(center), float(real_array(error, "error"))
    search = _Search(A, Predictions(unwrapped(model), len(A)), error)
    rng = private_generator(random_state)
    with np.errstate(over="ignore", invalid="ignore"):
        search.walk(_first_directions(A))
        if not search.found:
            search.scatter(rng)
        if search.found:
            search.approach(rng, int(n_directions), int(max_iter))
        return search.result()


def _first_directions(A: NDArray) -> list[tuple[NDArray, float]]:
    """Return unit directions, and how far along each a singular matrix lies.

    From a regular matrix: to the singular matrices that are nearest in l2, l1 and linf, and along
    the other singular vectors. From a singular one: away, and the walk is turned around.
    """
    U, sigma, Vt = np.linalg.svd(A)
    n, top = len(A), float(sigma[0]) or 1.0
    null = sigma <= n * np.finfo(np.float64).eps * top
    if null.any():
        away = U[:, null] @ Vt[null]
        return [(away / np.linalg.norm(away), -top)]
    found = [(-np.outer(U[:, i], Vt[i]), float(sigma[i])) for i in reversed(range(n))]
    for norm in ("l1", "linf") if n <= 12 else ("l1",):  # linf takes 2^(n-1) sign vectors
        D = nearest_singular(A, norm) - A
        size = float(_sizes(D[None])[0])
        if size > 0:
            found.append((D / size, size))
    return found


class _Search:
    """The nearest counterexample so far, and ways to find nearer ones."""

    def __init__(self, center: NDArray, predictions: Predictions, error: float):
        self.center, self.predictions, self.target = center, predictions, error
        self.found: list[tuple[float, NDArray]] = []  # distances and matrices, nearer and nearer
        self.n_predictions = 0
        self.largest = -np.inf

    def compare(self, stack: NDArray) -> dict[str, NDArray[np.float64]]:
        """Return the errors of a stack of matrices that the model can be given as they are.

        NaN, and as a lower bound -inf, without a proof and for predictions that are not finite.
        """
        self.n_predictions += len(stack)
        predicted = self.predictions(stack)
        with np.errstate(all="ignore"):
            inverse = exact_inverse(stack)
            improved = newton_schulz(stack, inverse, 1)
            inverse = np.where(np.isfinite(improved), improved, inverse)
            bound = residual_bound(stack, inverse)
            difference = predicted - inverse
            finite = np.isfinite(difference).all(axis=(1, 2))
            sound = finite & (bound < _LARGEST_BOUND)
            error = np.full(len(stack), np.nan)
            error[sound] = np.linalg.norm(difference[sound], 2, axis=(1, 2))
            # ‖A⁻¹ − X‖ ≤ ρ ‖A⁻¹‖ ≤ ρ ‖X‖ / (1 − ρ); the last factor covers the rounding of norms.
            size = _sizes(inverse)
            both = size + _sizes(predicted)
            slack = bound * size / (1 - bound) + 1e-13 * len(self.center) * both
            lower = np.where(sound, error - slack, -np.inf)
        return {
            "error": error,
            "error_lower": lower,
            "inverse": inverse,
            "prediction": predicted,
            "bound": bound,
        }

    def test(self, matrices: NDArray) -> NDArray[np.bool_]:
        """Tell which matrices are counterexamples, and keep the nearest of all."""
        matrices = self.predictions.round(matrices)
        finite: Any = np.isfinite(matrices).all(axis=(1, 2))
        matrices = np.where(finite[:, None, None], matrices, self.center)
        lower = self.compare(matrices)["error_lower"]
        exceeds: Any = finite & (lower > self.target)
        self.largest = max(self.largest, float(np.max(lower, initial=-np.inf)))
        if exceeds.any():
            distances = _sizes(matrices - self.center)
            i = int(np.flatnonzero(exceeds)[np.argmin(distances[exceeds])])
            if not self.found or distances[i] < self.found[-1][0]:
                self.found.append((float(distances[i]), matrices[i].copy()))
        return exceeds

    def walk(self, directions: list[tuple[NDArray, float]]) -> None:
        """Go along each direction until the error is exceeded, then narrow down where."""
        for direction, end in directions:
            # A negative end: the center itself is singular, and the way leads back to it.
            steps = end * _SHARES if end > 0 else -end * (1 - _SHARES[::-1])
            if self.found:
                steps = steps[steps < self.found[-1][0]]
            while steps.size:
                exceeds = self.test(self.center + steps[:, None, None] * direction)
                first = int(np.argmax(exceeds))
                low, high = steps[max(first - 1, 0)], steps[first]
                if not exceeds[first] or high - low <= 1e-12 * high:
                    break
                steps = np.linspace(low, high, 18)[1:-1]

    def scatter(self, rng: np.random.RandomState) -> None:
        """Try the neighbours, in the last places, of the nearest singular matrix.

        In float32 the walk meets a few matrices only where it matters.
        """
        S = self.predictions.round(nearest_singular(self.center))
        for size in (1.0, 4.0, 16.0):
            noise = rng.standard_normal((4096, *S.shape))
            self.test(S + size * self.predictions.eps * np.abs(S).max() * noise)

    def approach(self, rng: np.random.RandomState, n_directions: int, max_iter: int) -> None:
        """Look at random around the best direction, wider after success, closer after failure."""
        spread = 1.0
        for _ in range(max_iter):
            distance, nearest = self.found[-1]
            if distance == 0:
                return
            toward = (nearest - self.center) / distance
            D = toward + spread / len(toward) * rng.standard_normal((n_directions, *toward.shape))
            D /= np.linalg.norm(D, axis=(1, 2), keepdims=True)
            lengths = distance * np.array([0.5, 0.8, 0.95, 0.99, 0.999])
            trials = self.center + (lengths[:, None, None, None] * D).reshape(-1, *toward.shape)
            spread *= 1.5 if self.test(trials).any() else 0.5

    def result(self) -> Counterexample:
        """Return the nearest counterexample that is one by itself too.

        In a batch of many predictions may differ in the last places from those one by one.
        """
        for _, matrix in reversed(self.found):
            compared = self.compare(matrix[None])
            found = {key: v[0] if v.ndim > 1 else float(v[0]) for key, v in compared.items()}
            if found["error_lower"] > self.target:
                # Small singular values are far more accurate from the inverse than from A.
                size = float(np.linalg.norm(found["inverse"], 2))
                return Counterexample(
                    matrix=matrix,
                    **found,
                    distance=_distance(matrix, self.center),
                    singular_distance=1 / size if size < 2.0**1021 else _in_units(2.0**1000 / size),
                    n_predictions=self.n_predictions,
                )
        raise ValueError(
            f"No matrix near the center was found on which the error provably exceeds "
            f"{self.target:g}; the largest proven error among {self.n_predictions} matrices was "
            f"{self.largest:.3g}. Models that fall back to exact inverses have none, and errors "
            f"that rounding could explain are not counted; ask for a smaller error."
        )


def _sizes(stack: NDArray) -> NDArray:
    """Return the Frobenius norm of each matrix."""
    return row_norms(stack.reshape(len(stack), -1))


def _distance(A: NDArray, B: NDArray) -> float:
    """Return the Euclidean distance of two matrices."""
    moved = float(_sizes((A - B)[None])[0])
    if moved >= 2.0**-1022:
        return moved
    unit = np.array(2.0**1000)
    with np.errstate(all="ignore"):
        D = times_power(A, unit) - times_power(B, unit)
    size = float(np.linalg.norm(D))
    return _in_units(size) if np.isfinite(size) else moved  # of huge ones that are the same


def _in_units(number: float) -> float:
    """Return a number times 2^-1000, subnormal or not, in every floating-point mode."""
    if number >= 2.0**-22:
        return number * 2.0**-1000
    return float(np.array([int(number * 2.0**74)]).view(np.float64)[0])
