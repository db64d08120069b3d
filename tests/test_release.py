"""What is released: one version everywhere, dependencies that are imported, and no others."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import skinv

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
SOURCES = sorted((ROOT / "skinv").rglob("*.py"))
OPTIONAL = ("plot", "inspection", "onnx", "dask")  # what users have extras for
# Modules that distributions are imported by, where these are called otherwise.
MODULES = {"scikit-learn": "sklearn"}


def name_of(requirement):
    """Return the name of the distribution that a requirement is of, and its oldest release."""
    name, _, oldest = re.match(r"([\w.-]+)(\[.*\])?>=([\d.]+)", requirement).groups()
    return name, oldest


def pins(file):
    """Return the release of each distribution in a file of constraints."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))


def requirements(*extras):
    """Return the oldest release of each distribution that the core and extras require."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return dict(name_of(line) for line in lines if not line.startswith("skinv["))


def imported():
    """Return what each module imports of others: (name, whether when the module is)."""
    found = set()
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            found |= {(name.partition(".")[0], node.col_offset == 0) for name in names}
    return {each for each in found if each[0] not in {*sys.stdlib_module_names, "skinv"}}


def test_one_version():
    """That of the package, its metadata, the changelog and the citation."""
    version = skinv.__version__
    assert PROJECT["version"] == version
    headings = re.findall(r"^## \[(.*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_dependencies_are_imported_and_no_others():
    """The core requires what it imports; extras bring the rest, which is imported where it is used.

    Triton comes with torch where there are kernels for it to run.
    """
    core = {MODULES.get(name, name.replace("-", "_")) for name in requirements()}
    optional = set(requirements(*OPTIONAL)) - set(requirements())
    everywhere = {name for name, _ in imported()}
    assert core <= everywhere
    others = everywhere - core - {"triton", "mpl_toolkits"}  # of matplotlib
    assert others == optional - {"onnxruntime", "distributed"}
    assert not {name for name, at_once in imported() if at_once} & {*others, "mpl_toolkits"}


def test_importing_brings_nothing_that_is_optional():
    """Nor torch and skorch, which take seconds."""
    code = "import sys, skinv; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sklearn" in loaded
    late = {"torch", "skorch", "triton", "matplotlib", "onnx", "onnxruntime", "dask", "distributed"}
    assert not loaded & late


def test_oldest_releases_are_those_that_are_required():
    """`constraints-oldest.txt` pins those of pyproject.toml, but for torch and what comes along."""
    oldest = pins("constraints-oldest.txt")
    required = requirements("test", *OPTIONAL)

    def numbers(release):
        return [int(part) for part in release.split(".")]

    free = {"torch", "triton", "pytest-xdist"}
    assert set(required) - free <= set(oldest)
    for name in set(required) - free:
        least = numbers(required[name])
        # The last number of a first release may be left out, or withdrawn.
        assert numbers(oldest[name])[: len(least)] == least, name


def test_constraints_pin_all_that_is_required():
    """And nothing is older than what is supported."""
    assert set(requirements(*EXTRAS)) - set(pins("constraints.txt")) == set()


def test_extras_are_documented():
    """Each is a row of the page on getting started."""
    page = (ROOT / "docs" / "guide" / "getting_started.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(EXTRAS)
