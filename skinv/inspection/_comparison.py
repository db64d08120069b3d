"""A ReLU network against the linear approximation: by samples, and by linear programs."""

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
    """Return the number of samples and, by output, the largest |f − L| among them, by sign pattern.

    Keys are packed patterns. L is its matrix (n_outputs, n*n) and its value at the centre.
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
    """Compare f and L, given as for :func:`count_samples`, on the regions of some sign patterns.

    Returns the largest difference of a coefficient by region (n_regions,), the largest |f − L|
    (n_regions, n_outputs), C (n_regions, n_outputs, n*n) and c of f as an affine map of flattened
    matrices, and the flattened matrices (n_regions, n_outputs, n*n) where |f − L| is largest.
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
    found = Parallel(n_jobs=n_jobs, return_as="generator")(programs)
    bar = tqdm(found, total=len(patterns), unit="region", disable=not verbose)
    for i, T in enumerate(bar):
        points[i][:, active] += T * widths[active]
    # One step towards the centre where rounding took the sum out of the box.
    outside = np.abs(points - center) > widths
    points = np.where(outside, np.nextafter(points, center), points)
    largest = np.abs(np.einsum("rjk,rjk->rj", D, points - center) + d)
    return np.abs(D[:, :, active]).max(axis=(1, 2)), largest, C, value - C @ center, points
