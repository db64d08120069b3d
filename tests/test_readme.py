"""What the README shows runs as it stands there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# Shapes of coordinates and directions of a family of matrices.
FAMILY = ((800, 2), (2, 4, 4))


def test_examples_run(capsys, tmp_path, monkeypatch):
    """The examples of the README run one after another and print what they promise."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    rng = np.random.default_rng(0)
    family = 5 * np.eye(4) + np.einsum("kp,pij->kij", *(rng.uniform(-1, 1, s) for s in FAMILY))
    family[700] = 1.0  # singular
    np.save("matrices.npy", family)
    scope = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    printed = capsys.readouterr().out
    assert printed.startswith("Inverses: 299 of 300 proven to be within tol=1e-06 (")
    assert "; 1 singular (row 200)" in printed
    assert "\n[7] " in printed


def test_figures_are_those_of_the_result_files():
    """The tables of the README are what benchmarks/table.py makes of the measured results."""
    printed = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "table.py"],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=True,
    ).stdout
    tables = printed.strip().split("\n\n")
    assert len(tables) == 12
    assert tables[0] in README.read_text(encoding="utf-8")
    text = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    for table in tables[1:]:
        assert table.strip() in text


def test_pages_have_the_tables_of_the_result_files():
    """Those of the guide, too."""
    command = [sys.executable, ROOT / "benchmarks" / "table.py", "--check"]
    subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "utf-8"}, check=True)


def test_findings_of_the_paper_are_those_of_the_result_file():
    """What README says of the paper's findings is so in every seed of the recorded runs."""
    results = json.loads((ROOT / "benchmarks" / "results" / "paper.json").read_text())
    for region in ("2x2-first", "2x2-second", "3x3"):
        part = results[region]
        assert part["mode"] in ("paper", "full")
        for seed in range(3):
            runs = [r for r in part["runs"] if r["seed"] == seed]
            error = {(r["network"], r["method"]): r["error"] for r in runs}
            linear = error[None, "linear"]
            assert max(error[net, "recipe"] for net in ("2-FC", "3-FC")) < linear
            if region == "2x2-first":
                small = error["small 2-FC", "recipe"]
                assert linear > small > max(error["2-FC", "recipe"], error["3-FC", "recipe"])
    shares = [
        sum(row["share"] for row in network["rows"] if max(row["gap"]) <= 0.25 * 0.36)
        for network in results["patterns"]["networks"]
        if network["method"] == "recipe"
    ]
    assert len(shares) == 3
    assert min(shares) == pytest.approx(0.70, abs=0.005)
    assert max(shares) == pytest.approx(0.99, abs=0.005)


def test_no_violated_bound_was_counted():
    """The full count of violated bounds, which the README cites, is 0."""
    results = json.loads((ROOT / "benchmarks" / "results" / "violations.json").read_text())
    assert results["violations"] == 0
    assert all(row["matrices"] >= 100_000 for row in results["by_order_and_dtype"].values())
    assert len(results["by_order_and_dtype"]) == 14
