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


def test_examples_run(capsys, tmp_path, monkeypatch):
    """The examples of the README run one after another and print what they promise."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 8
    rng = np.random.default_rng(0)
    family = 5 * np.eye(4) + 0.3 * rng.standard_normal((800, 4, 4))
    family[700] = 1.0  # singular
    np.save("matrices.npy", family)
    scope = {}
    for block in blocks:
        assert len(block.strip().splitlines()) <= 15
        exec(compile(block, "README.md", "exec"), scope)
    printed = capsys.readouterr().out
    assert printed.startswith("Inverses: 799 of 800 proven to be within tol=1e-06 (")
    assert "0 unanswered, R2 = 0.9999" in printed
    assert re.search(r"\* LAPACK ", printed)
    assert "inside, R2 = 1.000000" in printed
    assert "\ncertified 0.0" in printed
    assert "proven: 498 of 500" in printed
    assert "['refined' 'refined' 'refined' 'singular' 'not finite']" in printed
    assert "\nTrue\n[ True  True  True False]\n" in printed
    assert "] is wrong by more than 1000000." in printed
    assert "coefficient_gap  lp_max_0" in printed
    assert re.search(r"0\.7466\d* 0\.746\d*", printed)


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
    assert len(tables) == 11
    text = README.read_text(encoding="utf-8")
    for table in tables:
        assert table.strip() in text


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
