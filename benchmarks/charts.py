"""Charts of the measured results."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def pareto(results, path):
    """Plot error against time per matrix, and the front of what is not beaten in both."""
    groups = {
        "series, orders 1–7": ("order", "o", COLORS[0]),
        "order 1, refined": ("steps", "s", COLORS[2]),
        "CertifiedInverse": ("Certified", "D", COLORS[4]),
        "network": ("network", "^", COLORS[3]),
        "numpy.linalg.inv": ("numpy", "X", COLORS[1]),
        "torch.linalg.inv": ("torch", "P", COLORS[6]),
    }

    def group(point):
        found = [k for k, (word, _, _) in groups.items() if word in point["method"]]
        return "order 1, refined" if "steps" in point["method"] else found[0]

    figure, axes = plt.subplots(2, 2, figsize=(11, 8.5), constrained_layout=True)
    for ax, result in zip(axes.flat, results, strict=True):
        points = result["points"]
        for name, (_, marker, color) in groups.items():
            for dtype in ("float32", "float64"):
                mine = [p for p in points if group(p) == name and p["dtype"] == dtype]
                filled = color if dtype == "float32" else "none"
                ax.scatter(
                    [p["microseconds_per_matrix"]["median"] for p in mine],
                    [p["mean_relative_error"] for p in mine],
                    marker=marker,
                    s=55,
                    edgecolors=color,
                    facecolors=filled,
                    label=name if dtype == "float32" and mine else None,
                    zorder=3,
                )
        best, front = float("inf"), []
        for p in sorted(points, key=lambda p: p["microseconds_per_matrix"]["median"]):
            if p["mean_relative_error"] < best:
                best = p["mean_relative_error"]
                front.append((p["microseconds_per_matrix"]["median"], best))
        ax.step(*zip(*front, strict=True), where="post", color="0.6", zorder=1)
        ax.set(xscale="log", yscale="log", title=f"n = {result['n']}")
        ax.grid(True, which="major", color="0.9")
        ax.set_axisbelow(True)
    for ax in axes[-1]:
        ax.set_xlabel("µs per matrix, one thread")
    for ax in axes[:, 0]:
        ax.set_ylabel("mean relative error (Frobenius)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=6,
        frameon=False,
        title="filled: float32, hollow: float64; the line is what nothing beats in both",
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def table3(results, path):
    """Plot times per matrix for batches of 1, 100 and 10,000."""
    titles = {"2x2-first": "2×2 first", "3x3": "3×3", "16x16": "16×16"}
    names = [
        "2-FC",
        "3-FC",
        "first order",
        "second order",
        "CertifiedInverse, 1e-4",
        "numpy.linalg.inv",
        "torch.linalg.inv",
    ]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), sharey=True, constrained_layout=True)
    for ax, result in zip(axes, results, strict=True):
        for k, name in enumerate(names):
            times = result["microseconds_per_matrix"]
            values = [times[b][name]["median"] for b in ("1", "100", "10000")]
            places = [b + 0.11 * (k - 3) for b in range(3)]
            ax.bar(places, values, width=0.1, color=COLORS[k], label=name)
        ax.set(yscale="log", title=titles[result["region"]], xlabel="batch")
        ax.set_xticks(range(3), ["1", "100", "10,000"])
        ax.grid(True, axis="y", color="0.9")
        ax.set_axisbelow(True)
    axes[0].set_ylabel("µs per matrix, float32, one thread")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
