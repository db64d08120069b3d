"""The documentation lists all public names, its code prints what it says, its figures hold."""

import ast
import contextlib
import doctest
import importlib
import io
import json
import re
from importlib.util import resolve_name
from pathlib import Path

import pytest

import skinv

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [DOCS / "index.md", *sorted((DOCS / "guide").glob("*.md"))]
LAYOUTS = {
    "AmbiguousShapeWarning",
    "embed_complex",
    "extract_complex",
    "pack_symmetric",
    "unpack_symmetric",
}
# A block of code, and the one that shows what it prints.
BLOCKS = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)


def names_in_reference():
    """Return the names that each module's tables of the API reference list."""
    listed, module, in_table = {}, "", False
    for line in (DOCS / "api" / "index.rst").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\.\. (?:currentmodule|automodule):: (\S+)", line):
            module = found[1]
        elif line.strip() and not line.startswith("   "):
            in_table = line == ".. autosummary::"
        elif in_table and (found := re.fullmatch(rf"   {re.escape(module)}\.(\w+)", line)):
            listed.setdefault(module, []).append(found[1])
    return listed


def test_everything_public_is_in_the_reference():
    """The reference lists the public names of the package and of each subpackage, and no others."""
    listed = names_in_reference()
    subpackages = [f"skinv.{name}" for name in dir(skinv) if name not in skinv.__all__]
    assert set(listed) == {"skinv", "skinv.learn.extrapolation", *subpackages}
    for module, names in listed.items():
        public = set(importlib.import_module(module).__all__)
        if module != "skinv":
            public -= set(skinv.__all__)
        if module in ("skinv.matrices", "skinv.structures"):  # mostly for the package itself
            public &= LAYOUTS
        assert sorted(names) == sorted(public)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_prints_what_the_page_shows(page, tmp_path, monkeypatch):
    """The blocks of a page run one after another, and all that they print is shown."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    blocks = BLOCKS.findall(text)
    assert len(blocks) == text.count("```python")
    assert sum(bool(shown) for _, shown in blocks) == text.count("```text")
    checker, scope = doctest.OutputChecker(), {}
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec"), scope)
        assert checker.check_output(shown, printed.getvalue(), doctest.ELLIPSIS), printed.getvalue()


def load(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def test_figures_are_those_of_the_result_files():
    """The ratios and times of the page on tools are what was measured."""

    def row(*cells):
        return f"| {' | '.join(cells)} |"

    rows = []
    linear = load("inference")["linear"]["results"]
    for dtype in ("float32", "float64"):
        for method in ("numpy.linalg.inv", "torch.linalg.inv"):
            ratios = [r["ratios"][f"{method} to predict"] for r in linear if r["dtype"] == dtype]
            rows.append(row(f"{dtype}, `{method}`", *(f"{r['median']:.2g}" for r in ratios)))
    certified = load("certified")
    cases = certified["inverses"]
    for label, chosen in {
        "float32, the loosest `tol`": [c for c in cases if c["dtype"] == "float32"][1::2],
        "float32, 1e-6": [c for c in cases if c["dtype"] == "float32" and c["tol"] == 1e-6],
        "float64, 1e-10": [c for c in cases if c["dtype"] == "float64"],
    }.items():
        ratios = [c["methods"]["numpy.linalg.inv"]["ratio_to_certified"] for c in chosen]
        rows.append(row(label, *(f"{ratio:.2g}" for ratio in ratios)))
    solves = [case["methods"] for case in certified["solves"] if case["region"] == "l2 ball"]
    for label, method in {
        "`numpy.linalg.solve`": "numpy.linalg.solve",
        "LU of the centre, refined": "LU of the centre, refined",
    }.items():
        rows.append(row(label, *(f"{case[method]['ratio_to_certified']:.2g}" for case in solves)))
    families = load("families")["results"]
    methods = [
        families[name]["methods"]
        for name in ("2x2-first", "3x3", "puma560", "case6ww", "case9", "plate", "case30", "grid")
    ]
    for label, method in {
        "`NeuralInverseRegressor`": "NeuralInverseRegressor",
        "`PolynomialInverseApprox`": "PolynomialInverseApprox",
        "`numpy.linalg.inv`": "numpy.linalg.inv",
        "`LinearInverseApprox`": "series 1",
    }.items():
        times = [m[method]["float64"]["microseconds_per_matrix"]["median"] for m in methods]
        rows.append(row(label, *(f"{time:.2f}" for time in times)))
    text = (DOCS / "guide" / "which_tool.md").read_text(encoding="utf-8")
    assert len(rows) == 13
    assert [r for r in rows if r not in text] == []


def test_memory_is_that_of_the_result_file():
    """A file of 4 GB took less than 0.6 GB by blocks, less than half of it after the imports."""
    whole = load("scale")["whole"]
    runs = [whole[task]["dask, 2 threads"] for task in ("predict", "report")]
    assert round(whole["file_mb"], -3) == 4000
    assert all(run["peak_mb"] < 600 for run in runs)
    assert all(run["peak_after_imports_mb"] < run["peak_mb"] / 2 for run in runs)


def test_rooms_import_from_floors_below():
    """The house that the documentation shows is the one that stands there."""
    text = (DOCS / "inside.md").read_text(encoding="utf-8")
    house = text[text.index("{container} house") : text.index("\n:::\n")]
    floors = [re.findall(r"^  \* \*\*(\w+)\*\*", part, re.M) for part in re.split(r"\n\* ", house)]
    height = {room: -floor for floor, rooms in enumerate(floors) for room in rooms}
    package = Path(skinv.__file__).parent
    found = {path.stem for path in package.iterdir() if not path.name.startswith("__")}
    assert set(height) == found - {"py"}  # py.typed
    for path in sorted(package.rglob("*.py")):
        room, *_ = inside = path.relative_to(package).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if room in height and isinstance(node, ast.ImportFrom) and node.level:
                name = "." * node.level + (node.module or "")
                _, *other = resolve_name(name, ".".join(("skinv", *inside[:-1]))).split(".")
                assert other[:1] in ([], [room]) or height[other[0]] < height[room], path
