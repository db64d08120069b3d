"""What the README shows runs as it stands there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

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


def test_figures_are_those_of_the_result_files(tmp_path):
    """Pages say what table.py makes of the results, and --check finds a digit that is off."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}

    def table(root, option):
        command = [sys.executable, root / "benchmarks" / "table.py", option]
        return subprocess.run(command, env=environment, capture_output=True).returncode

    assert table(ROOT, "--check") == 0
    kinds = {"benchmarks": "py", "benchmarks/results": "json", "docs": "md", "docs/guide": "md"}
    for folder, kind in kinds.items():
        (tmp_path / folder).mkdir()
        for path in (ROOT / folder).glob(f"*.{kind}"):
            shutil.copy(path, tmp_path / folder)
    shutil.copy(README, tmp_path)
    assert table(tmp_path, "--check") == 0
    for page, word in {"README.md": " | 0 |\n", "docs/guide/scale.md": " GB went"}.items():
        text = (tmp_path / page).read_text(encoding="utf-8")
        (tmp_path / page).write_text(text.replace(word, f"1{word}"), encoding="utf-8")
        assert table(tmp_path, "--check") == 1
        assert table(tmp_path, "--write") == 0
        assert (tmp_path / page).read_text(encoding="utf-8") == text
    text = text.replace("<!-- figures: ", "<!-- figure: ")
    (tmp_path / page).write_text(text, encoding="utf-8")
    assert table(tmp_path, "--check") == 1


def test_findings_of_the_paper_are_those_of_the_result_file():
    """What is said of the paper's findings is so in every seed of the recorded runs."""
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


def test_no_violated_bound_was_counted():
    """The full count of violated bounds, which the README cites, is 0."""
    results = json.loads((ROOT / "benchmarks" / "results" / "violations.json").read_text())
    assert results["violations"] == 0
    assert all(row["matrices"] >= 100_000 for row in results["by_order_and_dtype"].values())
    assert len(results["by_order_and_dtype"]) == 14
