"""Proofs that a region around a matrix holds no singular matrix.

A region is center + { E : N(E) <= radius } for a norm N of the flattened perturbation: a box (with
one half-width or one per entry), an l2 or l1 ball, or the ellipsoid of a covariance. Its *margin*
is a proven lower bound on what is left of the distance to the singular matrices after the radius
and a safety distance are taken off. Tests are sufficient, most not necessary: a negative margin
says "not proven".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch

from ..matrices import check_center, exact_inverse
from ._distance import EXACT_ORDER, check_norm, distance_to_singularity

_EPS = np.finfo(np.float64).eps


def region_margin(
    center: ArrayLike,
    radius: Any,
    norm: str = "linf",
    min_distance: float = 0.0,
    *,
    axes: ArrayLike | None = None,
) -> float:
    """Return how far a region stays from the singular matrices, at least.

    Parameters
    ----------
    center : array-like of shape (n, n)
        The nonsingular centre of the region.
    radius : float or array-like of shape (n, n)
        Radius of the region; an array of half-widths with ``norm="linf"`` only.
    norm : {"linf", "l2", "l1", "mahalanobis"}, default="linf"
        Norm of the flattened perturbation.
    min_distance : float, default=0.0
        Distance to keep from the singular matrices, in the same norm (in l2 for "mahalanobis").
    axes : array-like of shape (rank, n*n), default=None
        For "mahalanobis": semi-axes of the ellipsoid of radius 1, as rows.

    Returns
    -------
    float
        A proven lower bound on the distance between region and singular matrices, less
        `min_distance`, in the same norm (in l2 for "mahalanobis"); not positive: nothing proven.

    Raises
    ------
    ValueError
        For a singular or non-finite centre, a negative radius, or an unknown norm.

    See Also
    --------
    region_certificate : The same with the deciding test and its numbers.

    Examples
    --------
    >>> region_margin([[3.0, 1.0], [1.0, 2.0]], 0.5)  # 5/7 - 1/2
    0.2142857
    >>> region_margin([[3.0, 1.0], [1.0, 2.0]], [[0.5, 0.0], [0.0, 1.0]])
    0.2727273
    """
    return region_certificate(center, radius, norm, min_distance, axes=axes).margin


def region_certificate(
    center: ArrayLike,
    radius: Any,
    norm: str = "linf",
    min_distance: float = 0.0,
    *,
    axes: ArrayLike | None = None,
) -> Bunch:
    """Return the proof, if there is one, that a region keeps away from the singular matrices.

    Parameters
    ----------
    center, radius, norm, min_distance, axes
        As for :func:`region_margin`.

    Returns
    -------
    Bunch
        ``is_certified``: True if ``margin > 0``, that is if the closed region and its
        `min_distance` neighbourhood hold no singular matrix. ``margin``: see
        :func:`region_margin`. ``distance`` and ``distance_upper``: bounds on the distance of the
        centre to the singular matrices in `norm` (inf where no upper bound is known).
        ``test``: the name of the test that decided. ``margins``: the margin by each test.
        ``norm``, ``radius``, ``min_distance``: the question.

    Raises
    ------
    ValueError
        For a singular or non-finite centre, a negative radius, or an unknown norm.

    Notes
    -----
    With B the inverse of the centre A₀ and ε the safety distance:

    * balls: d(A₀) − radius − ε in the ball's own norm, exact in l2, l1, and linf up to n = 20;
    * a box of half-widths Δ: the largest t with spectral radius ρ(|B|(Δ + t·1)) < 1, less ε
      (Beeck 1975, "Zur Problematik der Hüllenbestimmung von Intervallgleichungssystemen"; Rump
      1994, "Verification methods for dense and sparse systems of equations"), d(A₀) − max Δ − ε,
      and (σ_min(A₀) − ‖Δ‖₂)/n − ε (Weyl);
    * an ellipsoid with semi-axes S_k: σ_min(A₀) − radius·α(S) − ε and
      σ_min(A₀)(1 − radius·α(BS)) − ε, where α is the smallest spectral norm of the three unfoldings
      of the tensor, an upper bound of ‖Σ z_k S_k‖₂ over ‖z‖₂ = 1; and the box test of the bounding
      box.

    Every margin is reduced by a bound on its rounding error, so a region that touches the singular
    set is not certified.

    Examples
    --------
    >>> c = region_certificate([[3.0, 1.0], [1.0, 2.0]], 5 / 7)
    >>> c.is_certified, c.test
    (False, 'distance of the centre')
    >>> region_certificate(np.eye(2), 0.4, "l1").is_certified
    True
    """
    center = check_center(center)
    radius = np.asarray(radius, dtype=np.float64)
    if not (np.isfinite(radius).all() and (radius >= 0).all()):
        raise ValueError(f"Got radius={radius}, but radii are finite and not negative.")
    inverse = exact_inverse(center)
    # What rounding may do to the inverse, relatively: c n eps κ, with a generous c.
    slack = 8 * len(center) * _EPS * np.linalg.norm(center) * np.linalg.norm(inverse)
    if not slack < 0.5:
        raise ValueError(
            "The center is singular to working precision (a condition number of "
            f"{slack / (8 * len(center) * _EPS):.1g}); choose a regular center."
        )
    margins, distance, upper = _margins(center, inverse, radius, norm, slack, axes)
    test = max(margins, key=margins.__getitem__)
    margin = margins[test] - min_distance
    return Bunch(
        is_certified=bool(margin > 0),
        margin=float(margin),
        distance=distance,
        distance_upper=upper,
        test=test,
        margins={name: float(value - min_distance) for name, value in margins.items()},
        norm=norm,
        radius=float(radius) if radius.ndim == 0 else radius,
        min_distance=float(min_distance),
    )


def _margins(
    A: NDArray, B: NDArray, radius: NDArray, norm: str, slack: float, axes: ArrayLike | None
) -> tuple[dict[str, float], float, float]:
    """Return the margin by each test before `min_distance`, and the centre's distance bounds."""
    n = len(A)
    if norm == "mahalanobis":
        if axes is None:
            raise ValueError('norm="mahalanobis" needs the semi-axes of the ellipsoid: pass axes.')
        S = np.asarray(axes, dtype=np.float64).reshape(-1, n, n)
        sigma = distance_to_singularity(A, "l2") * (1 - slack)
        stretch = tensor_norm_bound(B @ S) * (1 + slack)
        half_widths = float(radius) * np.sqrt(np.sum(S**2, axis=0))
        margins = {
            "smallest singular value (Weyl)": sigma - float(radius) * tensor_norm_bound(S),
            "relative perturbation": sigma * (1 - float(radius) * stretch),
            "spectral radius (Beeck) of the bounding box": _beeck_margin(B, half_widths, slack),
        }
        return margins, 1.0 / stretch if stretch > 0 else np.inf, np.inf
    check_norm(norm)
    bounds = distance_to_singularity(A, norm, return_bounds=True)
    distance, upper = bounds.lower * (1 - slack), bounds.upper
    name = "distance of the centre"
    if norm == "linf" and n > EXACT_ORDER:
        name += " (lower bound)"
    margins = {name: distance - float(radius.max())}
    if radius.ndim:
        if norm != "linf" or radius.shape != A.shape:
            raise ValueError(
                f"Got a radius of shape {radius.shape} with norm={norm!r}, but only norm='linf' "
                f"takes half-widths per entry, of shape {A.shape}."
            )
        sigma = distance_to_singularity(A, "l2") * (1 - slack)
        margins["spectral radius (Beeck)"] = _beeck_margin(B, radius, slack)
        margins["smallest singular value (Weyl)"] = (sigma - np.linalg.norm(radius, 2)) / n
    return margins, distance, upper


def _beeck_margin(B: NDArray, half_widths: NDArray, slack: float) -> float:
    """Return the largest t with ρ(|B|(Δ + t)₊) < 1: by how much all half-widths may still grow."""
    absolute = np.abs(B) * (1 + slack)

    def regular(t: float) -> bool:
        grown = np.maximum(half_widths + t, 0.0)
        return bool(np.abs(np.linalg.eigvals(absolute @ grown)).max() < 1 - slack)

    # At t = −max Δ nothing is left of the box; 1/max|B| moves the centre itself to a singular
    # matrix in l1, and so in linf.
    low, high = -float(half_widths.max()), 1.0 / float(np.abs(B).max())
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if regular(middle) else (low, middle)
    return low


def tensor_norm_bound(T: NDArray) -> float:
    """Bound ‖Σ z_k T_k‖₂ over ‖z‖₂ = 1 from above.

    Σ_kij z_k u_i T_kij v_j over unit z, u, v is at most the spectral norm of each unfolding of the
    tensor into a matrix, because two of the three vectors make one unit vector z⊗u, z⊗v or u⊗v.

    Parameters
    ----------
    T : ndarray of shape (rank, n, n)
        A tensor; rank 0 gives 0.

    Returns
    -------
    float

    Examples
    --------
    >>> tensor_norm_bound(np.array([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])]))
    1.0
    """
    r, n, _ = T.shape
    if r == 0:
        return 0.0
    unfoldings = (
        T.reshape(r, n * n),
        T.transpose(1, 0, 2).reshape(n, r * n),
        T.transpose(2, 0, 1).reshape(n, r * n),
    )
    return float(min(np.linalg.norm(U, 2) for U in unfoldings))
