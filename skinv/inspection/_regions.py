"""The affine pieces of a ReLU network: their shares of a box, and how far they are from L."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from tqdm import tqdm

from .._linalg.inverses import regular_inverse
from ..geometry._drawing import check_sampler
from ._piecewise import PiecewiseAffine, relu_form
from ._polytopes import all_patterns, extreme_points

# Samples are drawn in blocks whose arrays have about this many numbers.
_BLOCK = 2**21
_CONSTRAINTS: dict[str, list] = {
    "n_samples": [Interval(Integral, 1, None, closed="left")],
    "patterns": [StrOptions({"sampled", "all"})],
    "max_regions": [Interval(Integral, 1, None, closed="left")],
    "n_jobs": [Integral, None],
    "verbose": ["verbose"],
}


@dataclass(frozen=True, eq=False, repr=False)
class RegionMaps:
    """What does not fit into a table of regions; row i is of row i of the table as returned."""

    coefficients: NDArray[np.float64]  # C of f(a) = C a + c, (n_regions, n_outputs, n_features)
    intercepts: NDArray[np.float64]  # c, (n_regions, n_outputs)
    maximizers: NDArray[np.float64]  # where each |f − L| is largest, of the shape of C
    sampled_max: NDArray[np.float64]  # the largest |f − L| among samples, NaN without
    count: NDArray[np.int64]  # of samples

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.setflags(write=False)

    def __repr__(self) -> str:
        sizes = zip(("n_regions", "n_outputs", "n_features"), self.coefficients.shape, strict=True)
        return f"RegionMaps({', '.join(f'{name}={size}' for name, size in sizes)})"

    def __deepcopy__(self, memo: Any) -> "RegionMaps":
        # pandas makes deep copies of a frame's attrs in nearly every operation.
        return self


def activation_regions(
    model: Any,
    sampler: Any,
    n_samples: int = 10**6,
    *,
    patterns: Literal["sampled", "all"] = "sampled",
    max_regions: int = 50_000,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Any:
    """Take a ReLU network apart into its affine pieces, and compare each with the first order.

    A ReLU network is affine wherever the same hidden units are on: their sign patterns split a box
    of matrices into polytopes, and on each of them f(a) = C a + c, a the flattened matrix. What has
    a network learned that was trained to invert? Its pieces are held against one affine map, the
    first-order approximation L(A) = 2 A₀⁻¹ − A₀⁻¹ A A₀⁻¹ at the centre A₀ of the box, to which
    small networks are reported to come close.

    Parameters
    ----------
    model : NeuralInverseRegressor, sklearn.neural_network.MLPRegressor or LinearInverseApprox
        Fitted to inverses, with ``activation="relu"`` and whatever number of hidden layers; of
        ``NeuralInverseRegressor`` the baseline must be None, "affine" or "taylor", since series of
        higher order are not affine. Linear models have one region. Also inside a
        :class:`sklearn.frozen.FrozenEstimator` or a fitted search.
    sampler : FeasibleRegionSampler
        Fitted, with ``norm="linf"``: the box. Its stream of samples goes on.
    n_samples : int, default=1_000_000
        Number of matrices to draw from the box, in blocks.
    patterns : {"sampled", "all"}, default="sampled"
        Which regions to list: those that a sample falls into, or all that there are in the box,
        found by splitting it unit by unit. With "all" the largest of ``lp_max_j`` over the rows is
        the largest ``|(f − L)_j|`` in the whole box, to rounding. Cells into which no cube of more
        than 1e-9 of the box's sides fits are left out, unless a sample fell into them.
    max_regions : int, default=50_000
        Give up if there are more.
    n_jobs : int, default=None
        Number of joblib's workers that solve linear programs; -1 is one per core. Has no influence
        on the results.
    verbose : int, default=0
        1 shows progress bars.

    Returns
    -------
    pandas.DataFrame
        A row per region, in the order of their shares: ``pattern``, the hidden units that are on
        (1) and off (0), layers separated by "|"; ``share``, the share of the samples;
        ``coefficient_gap``, the largest absolute difference of an entry of C and of the matrix of
        L, over the entries of A that vary in the box; ``lp_max_0``, ``lp_max_1``, …, the largest
        ``|(f − L)_j|`` in the region, for each entry j of the inverse, flattened.
        ``frame.attrs["maps"]`` holds, in the same order, what is too large for a table:
        ``coefficients`` (n_regions, n_outputs, n_features) and ``intercepts`` (n_regions,
        n_outputs) of the affine maps, ``maximizers`` (n_regions, n_outputs, n_features), the
        matrices where the largest ``|f − L|`` is attained, ``sampled_max`` (n_regions, n_outputs),
        the largest ``|f − L|`` among samples (NaN without), and ``count`` (n_regions,) of these.
        The index of the frame says which of these rows is whose after sorting or selecting. Formats
        that store attrs as JSON (parquet) need ``frame.attrs.clear()`` before.

    Raises
    ------
    ImportError
        Without pandas.
    ValueError
        For a model that is not piecewise affine or not one of inverses, a region that is no box or
        a single matrix, a model and a region of matrices of different sizes, or more regions than
        `max_regions`.
    RuntimeError
        If HiGHS fails at a linear program.

    See Also
    --------
    skinv.bounds.certify_region : The worst ``|f(A) − A⁻¹|`` over the box.
    skinv.inspection.CoefficientDisplay : The coefficients as a picture.

    Notes
    -----
    The largest ``|f − L|`` is that of two linear programs for each output: over the polytope where
    the units have the given signs, cut by the box, maximise f − L and L − f, both affine. This is
    the analysis of Ji, Wu and Xi (2025), "Rethinking Neural-based Matrix Inversion: Why can't, and
    Where can", whose tables of one output each are
    ``frame[["pattern", "share", "coefficient_gap", "lp_max_0"]]`` and so on. HiGHS solves the
    programs, in coordinates in which the box is [−1, 1] in each entry, with tolerances of 1e-10,
    its smallest. ``lp_max_j`` is the value at the maximiser itself, which HiGHS's solution becomes
    by being clipped to the box.

    H hidden units of one layer split a box with d entries that vary into at most Σ_{k<=d} C(H, k)
    regions (Zaslavsky 1975): 163 for H = 8 and 41,449 for H = 32 in 2×2 matrices, and about H^d/d!
    for many units. Deeper layers split these further. Large networks have so many that nearly every
    sample falls into one of its own.

    In a region that is not certified the sampler rejects matrices nearer than `min_distance` to a
    singular one; shares are of what is left, the linear programs take in all of the box.

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler, NeuralInverseRegressor
    >>> box = FeasibleRegionSampler([[3, 1], [1, 2]], 0.5, random_state=0).fit()
    >>> X = box.sample(2000, return_inverse=False)
    >>> net = NeuralInverseRegressor(2, "relu", baseline=None, max_iter=20, random_state=3).fit(X)
    >>> regions = activation_regions(net, box, 10_000, patterns="all")
    >>> regions[["pattern", "share", "coefficient_gap"]].round(2)
      pattern  share  coefficient_gap
    0      11   0.67             0.17
    1      01   0.17             0.25
    2      00   0.10             0.36
    3      10   0.06             0.23
    >>> maps = regions.attrs["maps"]
    >>> maps.maximizers[2, 0].reshape(2, 2)  # where |f − L| of entry 0 is 0.12
    array([[3.5, 0.5],
           [0.5, 2.5]])
    """
    validate_parameter_constraints(_CONSTRAINTS, locals(), "activation_regions")
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "A table of regions is a pandas DataFrame, which needs the package pandas: pip install "
            "pandas."
        ) from error
    form = relu_form(model)
    center, widths = _box(sampler)
    if form.origin.size != center.size or form.constant.size != center.size:
        raise ValueError(
            f"Got a model from {form.origin.size} to {form.constant.size} numbers and a region of "
            f"matrices of {center.size} entries, but both must be of square matrices of one size."
        )
    network = PiecewiseAffine(form, center, widths)
    B = regular_inverse(sampler.center_)
    linear = -np.kron(B, B.T), B.ravel()
    found = _count_samples(network, linear, sampler, n_samples, max_regions)
    if patterns == "all":
        unseen = 0, np.full(center.size, np.nan)
        for on in all_patterns(network, max_regions, n_jobs, verbose):
            found.setdefault(np.packbits(on).tobytes(), unseen)
    # Bytes compare like the patterns that are packed into them.
    rows = sorted(found.items(), key=lambda row: (-row[1][0], row[0]))
    packed = np.frombuffer(b"".join(key for key, _ in rows), dtype=np.uint8)
    on = np.unpackbits(packed.reshape(len(rows), -1), axis=1, count=network.n_units) > 0
    gaps, largest, C, c, points = _compare(network, linear, center, on, n_jobs, verbose)
    count = np.array([count for _, (count, _) in rows])
    patterned = [_text(row, network.sizes) for row in on]
    columns = {"pattern": patterned, "share": count / n_samples, "coefficient_gap": gaps}
    columns |= {f"lp_max_{j}": column for j, column in enumerate(largest.T)}
    frame = pandas.DataFrame(columns)
    sampled_max = np.array([top for _, (_, top) in rows])
    frame.attrs["maps"] = RegionMaps(C, c, points, sampled_max, count)
    return frame


def _box(sampler: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centre and half-widths of a fitted sampler's box, flattened."""
    check_sampler(sampler)
    norm = sampler.certificate_.norm
    if norm != "linf":
        raise ValueError(
            f"Got a region of norm={norm!r}, but linear programs are solved over boxes; fit a "
            f"FeasibleRegionSampler with norm='linf' (half-widths may differ from entry to entry, "
            f"and with radius='data' it is the smallest box around data)."
        )
    center = sampler.center_.ravel()
    widths = np.broadcast_to(np.asarray(sampler.radius_, dtype=np.float64), sampler.center_.shape)
    if not widths.any():
        raise ValueError(
            "Got a region of radius 0, a single matrix, but regions are parts of a box; fit the "
            "sampler with a positive radius."
        )
    return center, widths.ravel()


def _text(on: NDArray[np.bool_], sizes: list[int]) -> str:
    """Return a sign pattern as text, layer by layer."""
    layers = np.split(on, np.cumsum(sizes)[:-1]) if sizes else []
    return "|".join("".join("1" if unit else "0" for unit in layer) for layer in layers)


def _count_samples(
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


def _compare(
    network: PiecewiseAffine,
    linear: tuple[NDArray, NDArray],
    center: NDArray,
    patterns: NDArray[np.bool_],
    n_jobs: int | None,
    verbose: int,
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
    """Compare f and L, given as for :func:`_count_samples`, on the regions of some sign patterns.

    Returns the largest difference of a coefficient by region (n_regions,), the largest |f − L|
    (n_regions, n_outputs), C (n_regions, n_outputs, n*n) and c of f as an affine map of flattened
    matrices, and the flattened matrices (n_regions, n_outputs, n*n) where |f − L| is largest.
    """
    K, inverse = linear
    active, widths = network.active, network.widths
    maps = (network.affine_map(on) for on in patterns)
    C, value = (np.array(part) for part in zip(*maps, strict=True))
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
