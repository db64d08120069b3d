"""The picture of the landing page: what CertifiedInverse does with a plane of 2×2 matrices."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Rectangle

from skinv import CertifiedInverse, FeasibleRegionSampler, LinearInverseApprox

BLUES = ("#08306b", "#08519c", "#2171b5", "#4292c6", "#6baed6", "#9ecae1", "#c6dbef")
VERMILION = "#D55E00"
INKS = {"light": "#222832", "dark": "#ced6dd"}  # what the theme writes in


def draw(folder: Path) -> None:
    """Draw landing_light.png and landing_dark.png."""
    folder.mkdir(exist_ok=True)
    center = np.array([[3.0, 1.0], [1.0, 2.0]])
    assert FeasibleRegionSampler(center, 0.5).fit().is_certified_
    model = CertifiedInverse(LinearInverseApprox(center), tol=1e-10).fit()
    x, y = np.linspace(0.02, 7.2, 720), np.linspace(0.02, 3.9, 390)
    A = np.ones((y.size, x.size, 2, 2))
    A[..., 0, 0], A[..., 1, 1] = np.meshgrid(x, y)
    report = model.report(A.reshape(-1, 2, 2))
    proven = np.isin(report.status, ("predicted", "refined"))
    steps = np.where(proven, report.n_refine, np.nan).reshape(y.size, x.size)
    for theme, ink in INKS.items():
        parts = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
        with plt.rc_context({"font.size": 11, **dict.fromkeys(parts, ink)}):
            figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
            image = axes.pcolormesh(
                *(x, y, steps),
                cmap=ListedColormap(BLUES),
                norm=BoundaryNorm(np.arange(1.5, 9), len(BLUES)),
            )
            bar = figure.colorbar(image, ticks=range(2, 9), pad=0.02, aspect=28)
            bar.set_label("refinement steps until the error is proven")
            bar.outline.set_visible(False)
            bar.ax.tick_params(length=0)
            bar.ax.minorticks_off()
            axes.plot(x, 1 / x, color=VERMILION, lw=2.5)
            axes.annotate("singular matrices", (0.15, 0.2), color=VERMILION, weight="bold")
            axes.add_patch(Rectangle((2.5, 1.5), 1, 1, fill=False, ec="white", lw=2))
            axes.annotate("certified region", (2.5, 2.57), color="white", weight="bold")
            axes.plot(3, 2, "o", color="white", ms=5)
            axes.annotate("known matrix", (3, 1.8), color="white", ha="center", size=9)
            axes.annotate("no proof in 8 steps:\nLAPACK, bounded too", (5.45, 3.2))
            axes.set(xlim=(0, 7.2), ylim=(0, 3.9), xlabel="entry (1, 1)", ylabel="entry (2, 2)")
            axes.spines[["top", "right"]].set_visible(False)
            figure.savefig(folder / f"landing_{theme}.png", dpi=150, transparent=True)
            plt.close(figure)
