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


def test_memory_is_that_of_the_result_file():
    """A file of some GB went through a fraction of its size, most of it taken by the imports."""
    whole = json.loads((ROOT / "benchmarks" / "results" / "scale.json").read_text())["whole"]
    runs = [whole[task]["dask, 2 threads"] for task in ("predict", "report")]
    assert all(run["peak_mb"] < whole["file_mb"] / 4 for run in runs)
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
