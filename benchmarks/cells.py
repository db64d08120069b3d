"""What tables of README and documentation are made of: result files, titles, rounded figures."""

import json
from pathlib import Path

RESULTS = Path(__file__).with_name("results")
TITLES = {
    "case6ww": "6-bus grid (case6ww)",
    "case9": "9-bus grid (case9)",
    "puma560": "robot arm (Puma 560)",
    "2x2-first": "2×2 first",
    "2x2-second": "2×2 second",
    "3x3": "3×3",
    "16x16": "16×16",
}


def load(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def markdown(head, rows):
    """Return a table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|")
    return "\n".join(lines)


def median(values):
    return sorted(values)[len(values) // 2]


def short(value):
    """Return a number to two digits or to the unit."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def ranged(row, shown=short):
    """Return a median with its range."""
    middle, low, high = map(shown, (row["median"], *row["range"]))
    return middle if low == high else f"{middle} ({low}–{high})"
