"""What the README shows runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def test_example_runs(capsys):
    """The example of the README runs and prints what it promises."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 15
    exec(compile(code, "README.md", "exec"), {})
    assert "inside, R2 = 0.99" in capsys.readouterr().out


def test_figures_are_those_of_the_result_file():
    """The table of the README is what benchmarks/table.py makes of the measured results."""
    printed = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "table.py"],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=True,
    ).stdout
    assert printed.strip() in README.read_text(encoding="utf-8")
