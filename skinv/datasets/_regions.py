"""The four regions of random matrices on which Ji, Wu and Xi (2025) report their experiments."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._arrays.results import Dataset
from ..geometry import distance_to_singularity
from ..geometry._sampler import FeasibleRegionSampler

_DESCR = """\
.. _{name}_region:

Region "{name}"
{underline}

{n} x {n} matrices, every entry uniform within {radius:.6g} of the centre's: the linf ball of
radius delta around it.

:Centre: {what}
:Condition number (2-norm) of the centre: {condition:.4g}
:Distance of the centre to the singular matrices: d_1 = {d[l1]:.6g} (l1), d_2 = {d[l2]:.6g} (l2,
    Frobenius), d_inf = {d[linf]:.6g} (linf, exact)
:Half-width: delta = {share} d_inf = {radius:.6g}
:Distance of the region to the singular matrices: {margin:.6g} in linf, so all its matrices are
    regular

The experiment is that of Ji, Wu and Xi (2025), "Rethinking Neural-based Matrix Inversion: Why
can't, and Where can". Its centres and half-widths are not legible in the record at hand; these are
skinv's own, with the half-width a stated share of d_inf. Compare figures side by side in one run,
not with the paper's.
"""


# name: (centre, δ as a share of d_inf, what the centre is)
_REGIONS: dict[str, tuple[NDArray[np.float64], float, str]] = {
    "2x2-first": (np.array([[3.0, 1.0], [1.0, 2.0]]), 0.7, "symmetric positive definite"),
    "2x2-second": (np.array([[1.0, 2.0], [3.0, -1.0]]), 0.7, "general, indefinite"),
    "3x3": (
        np.array([[2.0, -1.0, 0.5], [1.0, 3.0, -1.0], [-0.5, 1.0, 2.5]]),
        0.5,
        "general, diagonally dominant",
    ),
    "16x16": (
        np.round(np.random.RandomState(16).standard_normal((16, 16)) + 4.0 * np.eye(16), 3),
        0.5,
        "random: standard normal entries of seed 16, plus 4 on the diagonal, rounded to 3 decimals",
    ),
}


def make_region(
    name: Literal["2x2-first", "2x2-second", "3x3", "16x16"] = "2x2-first",
    *,
    n_samples: int = 1000,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make one of the paper's four regions, with matrices drawn from it.

    Parameters
    ----------
    name : {"2x2-first", "2x2-second", "3x3", "16x16"}, default="2x2-first"
        Which one.
    n_samples : int, default=1000
        How many matrices to draw.
    return_X_y : bool, default=False
        If True return the matrices and their inverses only.
    random_state : int, RandomState instance or None, default=None
        Seeds the sampler.

    Returns
    -------
    region : Bunch
        ``center`` (n, n); ``radius``, the half-width δ of the box; ``sampler``, a fitted
        :class:`skinv.FeasibleRegionSampler`, which goes on drawing; ``data`` and ``target``
        (n_samples, n*n), matrices and their inverses; ``distance``, a dict of the centre's
        distances to the singular matrices in l1, l2 and linf; ``DESCR``, all of it in words.
    (data, target) : tuple of ndarray
        If `return_X_y`.

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> region = make_region("2x2-first", random_state=0)
    >>> region.radius, region.sampler.is_certified_, region.data.shape
    (0.5, True, (1000, 4))
    """
    if not isinstance(name, str) or name not in _REGIONS:
        raise ValueError(f"Got name={name!r}, but the regions are {', '.join(_REGIONS)}.")
    center, share, what = _REGIONS[name]
    distance = {norm: distance_to_singularity(center, norm) for norm in ("l1", "l2", "linf")}
    radius = share * distance["linf"]
    sampler = FeasibleRegionSampler(center.copy(), radius, random_state=random_state).fit()
    data, target = sampler.sample(n_samples)
    if return_X_y:
        return data, target
    return Dataset(
        center=center.copy(),
        radius=radius,
        sampler=sampler,
        data=data,
        target=target,
        distance=distance,
        DESCR=_DESCR.format(
            name=name,
            underline="-" * (len(name) + 9),
            n=len(center),
            radius=radius,
            what=what,
            condition=np.linalg.cond(center),
            d=distance,
            share=share,
            margin=sampler.margin_,
        ),
    )
