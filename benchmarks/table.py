"""Print tables from the files in results; --write puts them into README and documentation.

python benchmarks/table.py [--write] [--check]

--check fails if a page, of the guide or the README, has others.
"""

import argparse
import json
import sys
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
FAMILY_TITLES = TITLES | {
    "case30": "30-bus grid (case30)",
    "case30, from its factors": "the same, from its 3 load factors",
    "arm mass": "mass matrices, 7-link arm",
    "plate": "stiffness of a plate",
    "grid": "100-bus grid",
}


RESULTS = Path(__file__).with_name("results")

# What the guide shows of worst residuals over slices.
SLICES = [("case9", 3), ("case9", 6), ("case30", 3)]
SLICED = ["series of order 2", "polynomial of degree 3", "polynomial", "network", "ReLU network"]


def load(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def median(values):
    return sorted(values)[len(values) // 2]


def families_table():
    """Return the Markdown table of families: errors, and times as multiples of LAPACK's."""
    lines = [
        "| matrices | n | `numpy.linalg.inv`, µs | series, order 2 | scikit-learn pipeline "
        "| `PolynomialInverseApprox` | `NeuralInverseRegressor` |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in load("families")["results"].items():
        methods = row["methods"]
        # Of a box: the polynomials that take as long as the network, or the least longer.
        boxes = row.get("polynomial_at_the_time_of_the_network", {})
        columns = [
            "series 2",
            boxes.get("scikit-learn, ", "scikit-learn pipeline"),
            boxes.get("polynomial, ", "PolynomialInverseApprox"),
            "NeuralInverseRegressor",
        ]
        micro = methods["numpy.linalg.inv"]["float64"]["microseconds_per_matrix"]["median"]
        cells = [
            FAMILY_TITLES[name],
            f"{row['n']}",
            f"{micro:.2f}" if micro < 10 else f"{micro:.0f}",
        ]
        for column in columns:
            if column not in methods:
                cells.append("–")
                continue
            figures = methods[column]["float64"]
            error, ratio = (
                figures[k]["median"] for k in ("median_relative_error", "ratio_to_lapack")
            )
            cell = f"{error:.0e}, {ratio:.2g}×"
            degree = column.rpartition("degree ")[2]
            cells.append(f"{cell} (degree {degree})" if degree != column else cell)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def network_table():
    """Return the Markdown table of times by order, of the guide."""
    names = ["2x2-first", "3x3", "puma560", "case6ww", "case9", "plate", "case30", "grid"]
    results = load("families")["results"]
    lines = [
        "| n | " + " | ".join(str(results[name]["n"]) for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for label, method in {
        "`NeuralInverseRegressor`": "NeuralInverseRegressor",
        "`PolynomialInverseApprox`": "PolynomialInverseApprox",
        "`numpy.linalg.inv`": "numpy.linalg.inv",
        "`LinearInverseApprox`": "series 1",
    }.items():
        figures = [results[name]["methods"][method]["float64"] for name in names]
        times = [f["microseconds_per_matrix"]["median"] for f in figures]
        lines.append(f"| {label} | {' | '.join(f'{t:.2f}' for t in times)} |")
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


def prices_table():
    """Return the Markdown table of what proofs cost, as multiples of what LAPACK takes without."""
    results = load("prices")
    lines = ["| proven, one thread | in times of plain LAPACK |", "|---|---|"]

    def row(title, figures):
        low, high = (short(value) for value in figures["range"])
        lines.append(f"| {title} | {short(figures['median'])} ({low}–{high}) |")

    for family, figures in results["learned"].items():
        for tol in ("1e-04", "1e-08"):
            row(f"learned, {family}, to {tol}", figures[f"to {tol}"])
    for name, figures in results["series"].items():
        row(f"series near its centre, {name}", figures["certified"])
    for name, figures in results["single"].items():
        row(f"one matrix, {name}", figures)
    for case in ("few", "garbage", "complex"):
        for name, figures in results[case].items():
            row(f"{EXPLAINED[case]}{name}", figures["certified"])
    return "\n".join(lines)


def overview_table():
    """Return the Markdown table of the README: what proven answers cost, one of each kind."""
    prices, front = load("prices"), load("front")
    learned, single = prices["learned"], list(prices["single"].values())
    few = prices["few"]["50 symmetric 8 x 8"]["certified"]
    solved = {case["family"]: case["ratio_to_numpy"] for case in load("solves")["solves"]}
    small = [front["orders"][n]["ratios"]["skinv.inv"]["numpy.linalg.inv"] for n in ORDERS]
    nine, thirty = (learned[case]["to 1e-08"] for case in ("case9, n = 14", "case30, n = 53"))
    rows = [
        ("learned, 32 terms, 9-bus grid, n = 14, to 1e-8", "inv", nine),
        ("learned, 32 terms, 30-bus grid, n = 53, to 1e-8", "inv", thirty),
        ("solutions near that grid, to 1e-6", "solve", solved["case30, polynomial"]["certified"]),
        (f"`skinv.inv`, n = {' / '.join(ORDERS)}", "inv", *small),
        ("`skinv.pinv`, 6 × 7, in batches", "pinv", front["6 x 7"]["ratios"]["skinv.pinv"]),
        ("guesses that prove nothing, n = 20", "inv", prices["garbage"]["n = 20"]["certified"]),
        (
            "batches of 50 matrices, n = 8",
            "inv",
            few,
        ),
        ("one matrix at a time, n = 8, to 1e-10 by two steps", "inv", single[2]),
    ]
    lines = ["| proven answers, one thread | beside plain | times as long |", "|---|---|---|"]
    for title, function, *figures in rows:
        medians = " / ".join(short(figure["median"]) for figure in figures)
        lines.append(f"| {title} | `numpy.linalg.{function}` | {medians} |")
    return "\n".join(lines)


# Orders of which the README tells.
ORDERS = ("3", "6", "12", "32")


def front_table():
    """Return the Markdown table of skinv.inv, with proofs, and of what else inverts batches."""
    names = {
        "`numpy.linalg.inv`": "numpy.linalg.inv",
        "`torch.linalg.inv`": "torch.linalg.inv",
        "`scipy.linalg.inv`": "scipy.linalg.inv",
        "`jax.numpy.linalg.inv`": "jax.numpy.linalg.inv, jitted",
        "loops of numba": "numba",
    }
    lines = [
        f"| n | `skinv.inv`, µs | median bound | {' | '.join(names)} |",
        "|---" * (len(names) + 3) + "|",
    ]
    for n, row in load("front")["orders"].items():
        taken = row["microseconds"]["skinv.inv"]["median"]
        cells = [n, short(taken), f"{row['median_bound']:.0e}"]
        for name in names.values():
            known = row["ratios"].get(name)
            cells.append(short(known["skinv.inv"]["median"]) if known else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


EXPLAINED = {
    "few": "batch of ",
    "garbage": "guesses that prove nothing, ",
    "complex": "complex ",
}


def grid_table():
    """Return the Markdown table of certified solves of families, to 1e-6."""
    lines = [
        "| family | n | certified, µs | of `numpy.linalg.solve` | with bounds of entries |",
        "|---|---|---|---|---|",
    ]
    for case in load("solves")["solves"]:
        time = case["microseconds"]["certified"]["median"]
        shares = [
            f"{row['median']:.2g} ({row['range'][0]:.2g}–{row['range'][1]:.2g})"
            for row in case["ratio_to_numpy"].values()
        ]
        lines.append(f"| {case['family']} | {case['n']} | {time:.3g} | {' | '.join(shares)} |")
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


def slices_table():
    """Return the Markdown table of worst residuals over slices of grids."""
    lines = [
        "| directions, model | largest of 10,000 test residuals | proven worst case | boxes | s |",
        "|---|---|---|---|---|",
    ]
    for row in load("slices")["results"]:
        place = f"{row['case']} (n = {row['n']}), {row['directions']}"
        if (row["case"], row["directions"]) in SLICES and row["model"] in SLICED:
            lines.append(
                f"| {place}, {row['model']} | {row['samples_max']:.2g} "
                f"| {row['lower']:.3g} to {row['upper']:.3g} | {row['boxes']:,} "
                f"| {row['seconds']:.2g} |"
            )
    return "\n".join(lines)


def short(value):
    """Return a number to two digits or to the unit."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def figure(row):
    """Return a median with its range."""
    middle, low, high = map(short, (row["median"], *row["range"]))
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


def speed_table():
    """Return the Markdown table of linear predictions against LAPACK."""
    lines = [
        "| n | dtype | first order, µs | `numpy.linalg.inv` | `torch.linalg.inv` "
        "| into given memory: `torch.linalg.inv` | one refinement step: `torch.linalg.inv` |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in load("inference")["linear"]["results"]:
        ratios = row["ratios"]
        cells = [
            figure(ratios[name])
            for name in (
                "numpy.linalg.inv to predict",
                "torch.linalg.inv to predict",
                "torch.linalg.inv, out to predict, out",
                "torch.linalg.inv to predict + refine",
            )
        ]
        micro = short(row["microseconds_per_matrix"]["predict"]["median"])
        lines.append(f"| {row['n']} | {row['dtype']} | {micro} | {' | '.join(cells)} |")
    return "\n".join(lines)


def batch_table():
    """Return the Markdown table of Ji, Wu and Xi (2025), extended: one thread."""
    methods = {
        "2-FC": "network, one hidden layer (2-FC)",
        "3-FC": "network, two hidden layers (3-FC)",
        "first order": "first order",
        "second order": "second order",
        "CertifiedInverse, 1e-4": "`CertifiedInverse`, 1e-4",
        "numpy.linalg.inv": "`numpy.linalg.inv`",
        "torch.linalg.inv": "`torch.linalg.inv`",
        "scipy.linalg.inv, singly": "`scipy.linalg.inv`, one by one",
    }
    results = load("inference")["table3"]["1 threads"]
    titles = " | ".join(f"{TITLES[row['region']]}: error | µs" for row in results)
    lines = [f"| | {titles} |", "|---|" + "---|---|" * len(results)]
    for name, title in methods.items():
        cells = []
        for row in results:
            times = row["microseconds_per_matrix"]
            micro = [times[b][name]["median"] for b in ("1", "100", "10000") if name in times[b]]
            cells.append(f"{row['mean_relative_error'][name]:.0e}")
            cells.append(" / ".join(map(short, micro)))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def paper_table():
    """Return the Markdown table of the published recipe and skinv against the first order."""
    results = load("paper")
    regions = [name for name in TITLES if name in results]
    methods = {
        ("2-FC", "recipe"): "published recipe, 2-FC",
        ("3-FC", "recipe"): "published recipe, 3-FC",
        ("2-FC", "recipe, constant rate"): "at a constant rate, 2-FC",
        ("3-FC", "recipe, constant rate"): "at a constant rate, 3-FC",
        ("2-FC", "skinv, no baseline"): "skinv, no baseline, 2-FC",
        ("2-FC", "skinv"): "skinv, defaults, 2-FC",
    }

    def errors(region, network, method):
        runs = results[region]["runs"]
        return [r["error"] for r in runs if (r["network"], r["method"]) == (network, method)]

    lines = [
        f"| linear error ÷ error | {' | '.join(TITLES[region] for region in regions)} |",
        "|---" * (len(regions) + 1) + "|",
    ]
    for (network, method), title in methods.items():
        cells = []
        for region in regions:
            linear = errors(region, None, "linear")
            pairs = zip(linear, errors(region, network, method), strict=True)
            ratios = sorted(a / b for a, b in pairs)
            cells.append(f"{short(ratios[1])} ({short(ratios[0])}–{short(ratios[-1])})")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    steps = [
        " / ".join(f"{results[region]['recipe_steps'][network]:,}" for network in ("2-FC", "3-FC"))
        for region in regions
    ]
    lines.append(f"| *steps of the recipe, 2-FC / 3-FC* | {' | '.join(steps)} |")
    return "\n".join(lines)


def rewritten(text, table):
    """Return text with the table in place of that of the same two first lines."""
    head = "\n".join(table.splitlines()[:2]) + "\n"
    before, found, after = text.partition(head)
    if not found:
        return text
    rest = after.splitlines(keepends=True)
    rows = next((k for k, line in enumerate(rest) if not line.startswith("|")), len(rest))
    return before + table + "\n" + "".join(rest[rows:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put them where they belong")
    parser.add_argument("--check", action="store_true", help="fail if pages have others")
    options = parser.parse_args()
    tables = [
        families_table(),
        inverse_table(),
        solve_table(),
        prices_table(),
        grid_table(),
        region_table(),
        recipe_table(),
        budget_table(),
        speed_table(),
        batch_table(),
        paper_table(),
    ]
    if not options.write and not options.check:
        print("\n\n".join([overview_table(), *tables]))
        return
    root = RESULTS.parents[1]
    pages = {
        "README.md": [overview_table()],
        "docs/measurements.md": tables,
        "docs/guide/which_tool.md": [network_table()],
        "docs/guide/certificates.md": [prices_table(), slices_table(), front_table()],
    }
    for page, mine in pages.items():
        text = before = (root / page).read_text(encoding="utf-8")
        for table in mine:
            text = rewritten(text, table)
        if options.write:
            (root / page).write_text(text, encoding="utf-8")
        elif text != before or not all(table in text for table in mine):
            sys.exit(
                f"{page} has other tables than the results: python benchmarks/table.py --write"
            )


if __name__ == "__main__":
    main()
