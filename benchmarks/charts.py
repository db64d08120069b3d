"""Charts of the measured results."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def front(ax, points):
    """Draw what nothing beats in both: points are (microseconds, error)."""
    best, line = float("inf"), []
    for microseconds, error in sorted(points):
        if error < best:
            best = error
            line.append((microseconds, best))
    ax.step(*zip(*line, strict=True), where="post", color="0.6", zorder=1)


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
        front(
            ax,
            [(p["microseconds_per_matrix"]["median"], p["mean_relative_error"]) for p in points],
        )
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


def families(results, path):
    """Plot error against time per matrix of all methods, one panel for each family."""
    groups = {
        "numpy.linalg.inv": ("numpy", "X", COLORS[1]),
        "series, orders 1–3": ("series", "o", COLORS[0]),
        "PolynomialInverseApprox, at most 256 and 64 terms": ("PolynomialI", "D", COLORS[4]),
        "NeuralInverseRegressor": ("Neural", "^", COLORS[3]),
        "scikit-learn: best pipeline, or by degree": ("scikit", "s", COLORS[6]),
        "polynomials by degree": ("polynomial,", "P", COLORS[2]),
    }
    columns = 4
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(14, 3.6 * rows + 0.8), squeeze=False, constrained_layout=True
    )
    handles = {}
    for ax, (name, result) in zip(axes.flat, results.items(), strict=False):
        every = []
        for label, (word, marker, color) in groups.items():
            for dtype in ("float32", "float64"):
                mine = [m[dtype] for key, m in result["methods"].items() if key.startswith(word)]
                mine = [m for m in mine if m["median_relative_error"]]
                if not mine:
                    continue
                times = [m["microseconds_per_matrix"]["median"] for m in mine]
                errors = [m["median_relative_error"]["median"] for m in mine]
                every += zip(times, errors, strict=True)
                points = ax.scatter(
                    times,
                    errors,
                    marker=marker,
                    s=45,
                    edgecolors=color,
                    facecolors=color if dtype == "float32" else "none",
                    zorder=3,
                )
                if dtype == "float32":
                    handles[label] = points
        front(ax, every)
        ax.set(xscale="log", yscale="log", title=f"{name}, n = {result['n']}")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(True, which="major", color="0.9")
        ax.set_axisbelow(True)
    for ax in axes.flat[len(results) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("median relative error (Frobenius)")
    for ax in axes.flat[max(0, len(results) - columns) : len(results)]:
        ax.set_xlabel("µs per matrix, one thread")
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        title="filled: float32, hollow: float64; the line is what nothing beats in both",
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
