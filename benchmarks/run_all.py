"""All benchmarks in one sitting, and which results are older than the code that they measure.

python benchmarks/run_all.py [--check] [NAME ...]

One after another, on a machine that has nothing else to do; about an hour, without those of FULL,
which take as long each and are run by name. --check runs nothing, and names the results that
were written before the last change of their script, or of the rooms of skinv that they measure.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROVING = ("_arrays", "_linalg", "bounds", "certified", "learn")
# The rooms that a result is about.
MEASURES = {
    "orders": ("learn", "_linalg"),
    "front": PROVING,
    "prices": PROVING,
    "solves": PROVING,
    "streams": PROVING,
    "certified": PROVING,
    "slices": ("bounds", "learn"),
    "region": ("bounds", "geometry"),
    "scale": ("_arrays", "learn"),
    "inference": ("_arrays", "_linalg", "learn", "export"),
    "families": ("_linalg", "learn"),
    "training": ("_linalg", "learn"),
    "violations": (*PROVING, "geometry", "impossibility"),
    "paper": ("learn", "inspection"),
}
FULL = ("families", "training", "violations", "paper")
# The paper's 16×16 takes a core for hours: see paper.py.
ARGUMENTS = {"paper": ("2x2-first", "2x2-second", "3x3", "patterns", "--paper")}


def changed(*paths):
    """Return when git last saw files change, in seconds; 0 for files that it does not know."""
    command = ["git", "log", "-1", "--format=%ct", "--", *paths]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return int(said or 0)


def is_old(name):
    """Tell whether a result was written before what it measures was changed."""
    code = [f"benchmarks/{name}.py", *(f"skinv/{room}" for room in MEASURES[name])]
    return changed(f"benchmarks/results/{name}.json") < changed(*code)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *MEASURES], help="some of them")
    parser.add_argument("--check", action="store_true", help="only say which results are old")
    options = parser.parse_args()
    names = options.names or [name for name in MEASURES if options.check or name not in FULL]
    if options.check:
        old = [name for name in names if is_old(name)]
        print("older than what they measure:", ", ".join(old) or "none")
        sys.exit(bool(old))
    for name in names:
        start = time.monotonic()
        script = str(Path(__file__).with_name(f"{name}.py"))
        done = subprocess.run(
            [sys.executable, script, *ARGUMENTS.get(name, ())]
        )  # which pins its threads
        minutes = (time.monotonic() - start) / 60
        print(
            f"{name}: {minutes:.1f} minutes{'' if done.returncode == 0 else ', FAILED'}", flush=True
        )
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("table.py")), "--write"], check=True
    )


if __name__ == "__main__":
    main()
