"""SingularSetDisplay: where the singular 2×2 matrices are, seen from a region of regular ones."""

from dataclasses import dataclass
from itertools import chain
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from ..._arrays.conversion import real_array
from ...geometry._drawing import check_sampler
from ._slices import Slice, Space, entry_name, signed_distance, slices_of, space_of
from ._style import BLACK, BLUE, CROSS, VERMILION, Display, axes_of, power_of_ten

_SHAPES = {"linf": "box", "l2": "l2 ball", "l1": "l1 ball", "mahalanobis": "ellipsoid"}
# What axes are drawn on: what they are called, what is asked for, and how they are made.
_Kind = Literal["slices", "3d"]
_AXES: dict[str, dict[str, Any]] = {
    "slices": {
        "kinds": ["rectilinear"] * 2,
        "asked": "kind='slices' draws on two plain axes: pass those of plt.subplots(1, 2)",
        "ncols": 2,
        "figsize": (9.6, 6.0),
        "layout": "compressed",
    },
    "3d": {
        "kinds": ["3d"],
        "asked": "kind='3d' draws on axes with projection='3d': pass those of "
        "plt.subplots(subplot_kw={'projection': '3d'})",
        "figsize": (7, 6.2),
        "layout": "constrained",
        "subplot_kw": {"projection": "3d"},
    },
}
# A region of more faces is a mesh, whose edges would cover it.
_FEW_FACES = 10
_EPSILON = {"epsilon": [Interval(Real, 0, None, closed="neither"), None]}
_KIND = {"kind": [StrOptions(set(_AXES))]}


@dataclass(kw_only=True, eq=False, repr=False)
class SingularSetDisplay(Display):
    """The singular 2×2 matrices, their neighbourhood, and the region of a sampler.

    A matrix is singular where its determinant is 0, and near such a matrix its inverse is as large
    as 1 over the distance. The display shows where that is: with two of the four entries held at
    the centre of the region, the singular matrices are a line or a hyperbola; with one entry held,
    a saddle. It is best made by :meth:`from_sampler`.

    Parameters
    ----------
    center : ndarray of shape (2, 2)
        Centre of the region.
    epsilon : float
        Width of the neighbourhood: the matrices at an l2 distance (smallest singular value) of less
        than that from a singular one.
    slices : tuple of two Slice
        The planes of the second row, and of the diagonal: ``free`` entries, grids ``x`` and ``y``,
        ``distance``, ``singular`` curves and ``region`` outline of each.
    space : Space
        The space of three entries: ``fixed`` and ``free`` entries, grids ``x`` and ``y``, the
        ``singular`` surface, the surfaces of its ``neighborhood``, and the faces of the ``region``.
    region_name : str
        What the region is called in the legend.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    axes_ : ndarray of matplotlib Axes, of shape (2,) or (1,)
        Those of the slices, or of the space.
    singular_ : list of artists
        The singular set, in order of the axes; of a hyperbola one branch.
    neighborhood_ : list of artists
        Its neighbourhood.
    region_ : list of artists
        The region.
    center_ : list of artists
        The centre.

    See Also
    --------
    skinv.geometry.distance_to_singularity : The distance, for matrices of all orders.
    skinv.FeasibleRegionSampler : The regions.

    Notes
    -----
    The distance is that in the space of all four entries. The nearest singular matrix is in general
    not in the plane that is drawn, so the neighbourhood is wider there than its ε. Sets of singular
    matrices and regions that avoid them are drawn in this manner by Ji, Wu and Xi (2025),
    "Rethinking Neural-based Matrix Inversion: Why can't, and Where can".

    Examples
    --------
    >>> from skinv import FeasibleRegionSampler
    >>> sampler = FeasibleRegionSampler([[3.0, 1.0], [1.0, 2.0]], 0.5).fit()
    >>> display = SingularSetDisplay.from_sampler(sampler)
    >>> display.epsilon, [len(plane.singular) for plane in display.slices]
    (0.3454915, [1, 2])
    """

    center: NDArray[np.float64]
    epsilon: float
    slices: tuple[Slice, Slice]
    space: Space
    region_name: str = "region"

    @classmethod
    def from_sampler(
        cls, sampler: Any, *, epsilon: float | None = None, kind: _Kind = "slices", ax: Any = None
    ) -> "SingularSetDisplay":
        """Draw the singular matrices around the region of a sampler.

        Parameters
        ----------
        sampler : FeasibleRegionSampler
            Fitted, of 2×2 matrices, in any norm.
        epsilon : float, default=None
            Width of the neighbourhood, an l2 distance. None takes what the sampler's
            `min_distance` means in l2, or a quarter of the centre's distance if that is 0.
        kind : {"slices", "3d"}, default="slices"
            Two planes, or three entries.
        ax : two matplotlib Axes, or one with ``projection="3d"``, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        SingularSetDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            For matrices of another order, an epsilon that is not positive, or axes that do not fit.
        """
        cls._check("from_sampler", _EPSILON, epsilon=epsilon)
        check_sampler(sampler)
        if sampler.center_.shape != (2, 2):
            n = len(sampler.center_)
            raise ValueError(
                f"Got a sampler of {n}×{n} matrices, but only those of 2×2 matrices, with four "
                f"entries, can be drawn. For errors near the singular matrices of any order use "
                f"ErrorByDistanceDisplay."
            )
        least = sampler._min_distance
        if epsilon is None and least > 0:
            # Distances in linf are the smallest, those in l1 at most n = 2 times those in l2, so a
            # matrix at min_distance in linf is at least at that in l2, in l1 at half of it.
            epsilon = least / (2 if sampler.certificate_.norm == "l1" else 1)
        elif epsilon is None:
            epsilon = abs(signed_distance(*sampler.center_.ravel())) / 4
        epsilon = float(real_array(epsilon, "epsilon"))
        if not epsilon < np.inf:
            raise ValueError(f"Got epsilon={epsilon}, but a finite distance is expected.")
        proof = "certified regular" if sampler.is_certified_ else "not certified"
        shape = _SHAPES[sampler.certificate_.norm]
        return cls(
            center=sampler.center_,
            epsilon=epsilon,
            slices=slices_of(sampler.center_, sampler._region),
            space=space_of(sampler.center_, sampler._region, epsilon),
            region_name=f"region of the sampler: {shape}, {proof}",
        ).plot(ax, kind=kind)

    def plot(
        self, ax: Any = None, *, kind: _Kind = "slices", neighborhood: bool = True
    ) -> "SingularSetDisplay":
        """Draw the singular set, its neighbourhood, the region and its centre.

        Parameters
        ----------
        ax, kind
            As for :meth:`from_sampler`.
        neighborhood : bool, default=True
            Whether to draw the neighbourhood.

        Returns
        -------
        SingularSetDisplay
            Itself.

        Raises
        ------
        ValueError
            For an unknown kind, axes that do not fit, or a neighbourhood too wide for ``"3d"``: its
            surfaces are known for an epsilon below the entry that is held.
        """
        self._check("plot", _KIND, kind=kind)
        space, name = self.space, None
        if neighborhood:
            name = f"nearly singular: l2 distance below ε = {power_of_ten(self.epsilon)}"
            if kind == "3d" and space.neighborhood is None:
                raise ValueError(
                    f"Got epsilon={self.epsilon:.3g}, but with "
                    f"{entry_name(space.fixed, plain=True)} = {self.center[space.fixed]:.3g} held "
                    f"the surfaces of the neighbourhood are known for smaller ones only; use "
                    f"kind='slices', or plot(kind='3d', neighborhood=False)."
                )
        self.figure_, self.axes_ = axes_of(ax, **_AXES[kind])
        if kind == "3d":
            drawn = [_draw_saddle(self.axes_[0], space, self.center, name, self.region_name)]
        else:
            (a11, a12), (a21, _) = self.center
            curve = "a hyperbola" if a12 * a21 else "two lines that cross"
            titles = (
                rf"first row held at $({a11:.4g},\ {a12:.4g})$:" + "\nsingular on a line",
                rf"$a_{{12}} = {a12:.4g}$ and $a_{{21}} = {a21:.4g}$ held:"
                f"\nsingular on {curve}",
            )
            planes = zip(self.axes_, self.slices, titles, strict=True)
            drawn = [self._plot_slice(*plane, neighborhood) for plane in planes]
        self.singular_, self.neighborhood_, self.region_, self.center_ = (
            list(chain.from_iterable(artists)) for artists in zip(*drawn, strict=True)
        )
        keys = self.neighborhood_[:1]
        if neighborhood and kind == "slices":
            from matplotlib.patches import Patch

            look: Any = {"facecolor": (VERMILION, 0.25), "edgecolor": VERMILION, "ls": "--"}
            keys = [Patch(label=name, **look)]
        style: dict[str, Any] = {"frameon": False, "fontsize": "small"}
        style["handles"] = [self.singular_[0], *keys, self.center_[0], self.region_[0]]
        if ax is None:
            self.figure_.legend(loc="outside lower center", ncols=2, **style)
        else:
            self.axes_[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), **style)
        return self

    def _plot_slice(self, ax: Any, plane: Slice, title: str, neighborhood: bool) -> list[list[Any]]:
        """Draw and return, as :func:`_draw_saddle`, what is seen in a plane."""
        from matplotlib.patches import Polygon

        filled = []
        if neighborhood:
            levels = [-self.epsilon, self.epsilon]
            field = plane.x, plane.y, plane.distance
            filled = [ax.contourf(*field, levels, colors=[VERMILION], alpha=0.25, zorder=1)]
            met = [k for k in levels if plane.distance.min() < k < plane.distance.max()]
            if met:
                dashed: Any = {"linestyles": "--", "linewidths": 1.2}
                ax.contour(*field, met, colors=[VERMILION], zorder=2, **dashed)
        line: Any = {"color": VERMILION, "lw": 2.4, "zorder": 3}
        curves = [ax.plot(*curve.T, **line)[0] for curve in plane.singular]
        curves[0].set_label("singular: det A = 0")
        region: Any = {"facecolor": (BLUE, 0.2), "edgecolor": BLUE, "lw": 1.6, "zorder": 4}
        patch = ax.add_patch(Polygon(plane.region, closed=True, label=self.region_name, **region))
        middle = [self.center[entry] for entry in plane.free]
        marks = ax.plot(*middle, label="centre", **CROSS)
        ax.axhline(0, color="0.8", lw=0.8, zorder=0)
        ax.axvline(0, color="0.8", lw=0.8, zorder=0)
        across, up = map(entry_name, plane.free)
        ends = {"xlim": plane.x[[0, -1]], "ylim": plane.y[[0, -1]]}
        ax.set(xlabel=across, ylabel=up, aspect="equal", **ends)
        ax.set_title(title, fontsize="medium")
        return [curves[:1], filled, [patch], marks]


def _draw_saddle(
    ax: Any, space: Space, center: NDArray, neighborhood: str | None, region: str
) -> list[list[Any]]:
    """Draw and return the singular surface, its neighbourhood's sheets, the region and the centre.

    A dotted line goes from the centre along the vertical axis to the surface, to show how far above
    it the region is. `neighborhood` and `region` are names in the legend.
    """
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

    middle = np.array([center[entry] for entry in space.free])
    foot = np.array([*middle[:2], middle[0] * middle[1] / center[space.fixed]])
    above = bool(middle[2] >= foot[2])
    # matplotlib sorts whole surfaces, not their parts, so the order is given: what is seen through
    # something else comes first. The view is from the side of the centre.
    ax.computed_zorder = False
    style = {"color": VERMILION, "rstride": 2, "cstride": 2}
    meshed = style | {"alpha": 0.6, "lw": 0.4, "edgecolor": (1, 1, 1, 0.5), "zorder": 1}
    grid = space.x, space.y
    surface = ax.plot_surface(*grid, space.singular, label="singular: det A = 0", **meshed)
    sheets = []
    heights = [space.singular.ravel(), *(face[:, 2] for face in space.region)]
    if neighborhood is not None:
        assert space.neighborhood is not None
        heights.append(space.neighborhood.ravel())
        far, near = space.neighborhood[:: 1 if above else -1]
        style |= {"alpha": 0.15, "lw": 0, "shade": False}
        sheets = [
            ax.plot_surface(*grid, near, zorder=2, label=neighborhood, **style),
            ax.plot_surface(*grid, far, zorder=0, label="_far side", **style),
        ]
    edge = BLUE, 0.8 if len(space.region) < _FEW_FACES else 0.15
    faces: Any = {"facecolor": (BLUE, 0.35), "edgecolor": edge, "lw": 0.8, "zorder": 3}
    body = Poly3DCollection(space.region, label=region, **faces)
    ax.add_collection3d(body)
    ax.plot(*np.array([middle, foot]).T, ":", color=BLACK, lw=1.2, zorder=4)
    ax.plot(*foot[:, None], ".", color=BLACK, ms=5, zorder=4)
    marks = ax.plot(*middle[:, None], label="centre", **CROSS)
    all_heights = np.concatenate(heights)
    side, rise = space.x[0, [0, -1]], np.array([all_heights.min(), all_heights.max()])
    # Looked at from above with the centre in front; upside down if it is below the saddle.
    ax.set(xlim=side, ylim=side, zlim=rise if above else rise[::-1])
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.get_major_locator().set_params(nbins=5)
    ax.set_box_aspect([np.ptp(side), np.ptp(side), np.ptp(rise)], zoom=0.9)
    ax.view_init(elev=26, azim=np.degrees(np.arctan2(middle[1], middle[0])) + 65)
    names = [entry_name(entry) for entry in space.free]
    ax.set(xlabel=names[0], ylabel=names[1], zlabel=names[2] + ("" if above else " (downward)"))
    held = f"{entry_name(space.fixed)} $= {center[space.fixed]:.4g}$"
    ax.set_title(f"{held} held: singular on a saddle", fontsize="medium")
    return [[surface], sheets, [body], marks]
