"""Print the README's tables from the files in results."""

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


RESULTS = Path(__file__).with_name("results")


def load(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def median(values):
    return sorted(values)[len(values) // 2]


def table():
    """Return the Markdown table: medians over the seeds, ratios with their range."""
    results = load("families")["results"]
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


def times(case, names):
    """Return cells: our microseconds, then how many times as long the others take."""
    methods = case["methods"]
    cells = [f"{methods['certified']['microseconds_per_matrix']:.3g}"]
    for name in names:
        row = methods[name]
        low, high = row["ratio_range"]
        cells.append(f"{row['ratio_to_certified']:.2g} ({low:.2g}–{high:.2g})")
    return " | ".join(cells)


def inverse_table():
    """Return the Markdown table of certified inverses."""
    names = ["numpy.linalg.inv", "scipy.linalg.inv", "torch.linalg.inv"]
    lines = [
        "| n | dtype | tol | certified, µs | `numpy.linalg.inv` | `scipy.linalg.inv` "
        "| `torch.linalg.inv` |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in load("certified")["inverses"]:
        lines.append(
            f"| {case['n']} | {case['dtype']} | {case['tol']:.0e} | {times(case, names)} |"
        )
    return "\n".join(lines)


def solve_table():
    """Return the Markdown table of certified solves."""
    names = ["numpy.linalg.solve", "torch.linalg.solve", "LU of the centre, refined"]
    lines = [
        "| n | certified, µs | `numpy.linalg.solve` | `torch.linalg.solve` "
        "| LU of the centre, refined |",
        "|---|---|---|---|---|",
    ]
    for case in load("certified")["solves"]:
        if case["region"] == "l2 ball":
            lines.append(f"| {case['n']} | {times(case, names)} |")
    return "\n".join(lines)


def region_table():
    """Return the Markdown table of worst errors over regions."""
    lines = [
        "| region | model | largest of 10,000 test errors | proven worst case | boxes | s |",
        "|---|---|---|---|---|---|",
    ]
    for row in load("region")["results"]:
        lines.append(
            f"| {TITLES[row['region']]} | {row['model']} | {row['test_max']:.2g} "
            f"| {row['lower']:.3g} to {row['upper']:.3g} | {row['boxes']:,} "
            f"| {row['seconds']:.2g} |"
        )
    return "\n".join(lines)


def figure(row):
    """Return a median with its range, to two digits or to the unit."""
    middle, low, high = (
        f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
        for value in (row["median"], *row["range"])
    )
    return middle if low == high else f"{middle} ({low}–{high})"


def recipe_table():
    """Return the Markdown table of accuracy in a share of the published recipe's time."""
    lines = [
        "| region | recipe: error | s | ReLU, 1/10 of the time | SiLU, 1/4 | tanh, 1/4 "
        "| defaults, 1/4 | `MLPRegressor`, 1/4 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, result in load("training")["regions"]["results"].items():
        ratio = result["recipe_to"]
        seconds = median([run["recipe"]["seconds"] for run in result["runs"]])
        cells = [
            figure(ratio[key])
            for key in (
                "relu, no baseline, 1/10",
                "silu, no baseline, 1/4",
                "tanh, no baseline, 1/4",
                "defaults, 1/4",
                "MLPRegressor, 1/4",
            )
        ]
        lines.append(
            f"| {TITLES[name]} | {result['error']['recipe']['median']:.1e} | {seconds:.0f} "
            f"| {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def budget_table():
    """Return the Markdown table of accuracy in a given time on larger matrices."""
    lines = [
        "| matrices | s | first order: error | defaults: error | ratio | `MLPRegressor`: ratio |",
        "|---|---|---|---|---|---|",
    ]
    for part in ("families", "large"):
        measured = load("training")[part]
        for name, result in measured["results"].items():
            error, ratio = result["error"], result["linear_to"]
            lines.append(
                f"| {TITLES[name]} | {measured['seconds']} | {error['linear']['median']:.1e} "
                f"| {error['defaults']['median']:.1e} | {figure(ratio['defaults'])} "
                f"| {figure(ratio['MLPRegressor'])} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    for make in (table, inverse_table, solve_table, region_table, recipe_table, budget_table):
        print(make() + "\n")
