"""Print the README's table from results/families.json."""

import json
from pathlib import Path

TITLES = {
    "case6ww": "6-bus grid (case6ww)",
    "case9": "9-bus grid (case9)",
    "puma560": "robot arm (Puma 560)",
    "2x2-first": "2×2 first",
    "2x2-second": "2×2 second",
    "3x3": "3×3",
    "16x16": "16×16",
}


def median(values):
    return sorted(values)[len(values) // 2]


def table():
    """Return the Markdown table: medians over the seeds, ratios with their range."""
    path = Path(__file__).with_name("results") / "families.json"
    results = json.loads(path.read_text())["results"]
    lines = [
        "| matrices | n | first order: error | network: error | ratio (range) | fit, s "
        "| `numpy.linalg.inv` | linear | network |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        row = results[name]
        errors = [run["errors"] for run in row["runs"]]
        times = row["microseconds_per_matrix"]["batch"]
        low, high = row["ratio_range"]
        lines.append(
            f"| {title} | {row['n']} "
            f"| {median([e['taylor'] for e in errors]):.1e} "
            f"| {median([e['neural'] for e in errors]):.1e} "
            f"| {row['median_ratio_to_taylor']:.3g} ({low:.3g}–{high:.3g}) "
            f"| {median([run['fit_seconds'] for run in row['runs']]):.0f} "
            f"| {times['numpy.linalg.inv']['median']:.2f} "
            f"| {times['taylor']['median']:.2f} "
            f"| {times['neural']['median']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
