"""A ReLU network against the linear approximation: by samples, and by linear programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from tqdm import tqdm

from ._piecewise import PiecewiseAffine
from ._polytopes import extreme_points

# Samples are drawn in blocks whose arrays have about this many numbers.
_BLOCK = 2**21


def count_samples(
    network: PiecewiseAffine,
    linear: tuple[NDArray, NDArray],
    sampler: Any,
    n_samples: int,
    max_regions: int,
) -> dict[bytes, tuple[int, NDArray[np.float64]]]:
    """Count samples of a box by sign pattern, and find the largest |f − L| among them.

    Parameters
    ----------
    network : PiecewiseAffine
        f.
    linear : tuple of ndarrays (n_outputs, n*n) and (n_outputs,)
        Matrix of L, and its value at the centre.
    sampler : FeasibleRegionSampler
    n_samples : int
    max_regions : int
        Give up beyond.

    Returns
    -------
    dict
        Number of samples, and the largest |f − L| among them by output, by packed pattern.

    Raises
    ------
    ValueError
        If there are more than `max_regions`.

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, LinearInverseApprox
    >>> from skinv.inspection._piecewise import relu_form
    >>> sampler = FeasibleRegionSampler([[2.0]], 0.5, random_state=0).fit()
    >>> form = relu_form(LinearInverseApprox([[2.0]]).fit())
    >>> network = PiecewiseAffine(form, np.array([2.0]), np.array([0.5]))
    >>> count_samples(network, (np.array([[-0.25]]), np.array([0.5])), sampler, 100, 10)
    {b'': (100, array([0.]))}
    """
    K, inverse = linear
    center = sampler.center_.ravel()
    found: dict[bytes, tuple[int, NDArray[np.float64]]] = {}
    step = max(1, _BLOCK // (network.n_units + center.size + network.n_outputs))
    for start in range(0, n_samples, step):
        E = sampler.sample(min(step, n_samples - start), return_inverse=False) - center
        on, values = network.evaluate(E)
        gaps = np.abs(values - (inverse + E @ K.T))
        packed, index, counts = np.unique(
            np.packbits(on, axis=1), axis=0, return_inverse=True, return_counts=True
        )
        ordered = gaps[np.argsort(index.ravel(), kind="stable")]
        tops = np.maximum.reduceat(ordered, np.cumsum(counts) - counts, axis=0)
        for bits, count, top in zip(packed, counts, tops, strict=True):
            before, highest = found.get(bits.tobytes(), (0, top))
            found[bits.tobytes()] = before + int(count), np.maximum(highest, top)
        if len(found) > max_regions:
            raise ValueError(
                f"Got more than max_regions={max_regions} regions in the first {start + len(E)} "
                f"samples; raise max_regions, draw fewer samples, or look at a smaller network."
            )
    return found


def compare(
    network: PiecewiseAffine,
    linear: tuple[NDArray, NDArray],
    center: NDArray,
    patterns: NDArray[np.bool_],
    n_jobs: int | None,
    verbose: int,
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
    """Compare f and L on regions given by their sign patterns.

    Parameters
    ----------
    network : PiecewiseAffine
        f.
    linear : tuple of ndarrays (n_outputs, n*n) and (n_outputs,)
        Matrix of L, and its value at the centre.
    center : ndarray of shape (n*n,)
    patterns : ndarray of bool of shape (n_regions, n_units)
    n_jobs : int or None
        Regions at once.
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    gaps : ndarray of shape (n_regions,)
        Largest difference of a coefficient of f and of L.
    largest : ndarray of shape (n_regions, n_outputs)
        Largest |f − L|.
    coefficients, intercepts : ndarrays (n_regions, n_outputs, n*n) and (n_regions, n_outputs)
        f as an affine map of flattened matrices.
    points : ndarray of shape (n_regions, n_outputs, n*n)
        Flattened matrices where |f − L| is largest.

    Examples
    --------
    >>> from skinv import LinearInverseApprox
    >>> from skinv.inspection._piecewise import relu_form
    >>> center = np.array([2.0])
    >>> form = relu_form(LinearInverseApprox([[2.0]]).fit())
    >>> network = PiecewiseAffine(form, center, np.array([0.5]))
    >>> on = np.zeros((1, 0), dtype=bool)
    >>> compare(network, (np.array([[-0.2]]), np.array([0.5])), center, on, None, 0)[:2]
    (array([0.05]), array([[0.025]]))
    """
    K, inverse = linear
    active, widths = network.active, network.widths
    affine = [network.affine_map(on) for on in patterns]
    C, value = np.array([C for C, _ in affine]), np.array([value for _, value in affine])
    D, d = C - K, value - inverse
    programs = (
        delayed(extreme_points)(*network.facets(on), D[i][:, active] * widths[active], d[i])
        for i, on in enumerate(patterns)
    )
    points = np.tile(center, (*d.shape, 1))
    with tqdm(total=len(patterns), unit="region", disable=not verbose) as bar:
        for i, T in enumerate(Parallel(n_jobs=n_jobs, return_as="generator")(programs)):
            points[i][:, active] += T * widths[active]
            bar.update()
    # One step towards the centre where rounding took the sum out of the box.
    outside = np.abs(points - center) > widths
    points = np.where(outside, np.nextafter(points, center), points)
    largest = np.abs(np.einsum("rjk,rjk->rj", D, points - center) + d)
    return np.abs(D[:, :, active]).max(axis=(1, 2)), largest, C, value - C @ center, points
