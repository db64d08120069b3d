"""Check the files of a release, or what is installed of it, from outside the tree.

check_release.py files FOLDER: names, size and contents of the wheel and the sdist.
check_release.py installed: the README's code, from the wheel's metadata, without optional packages.
"""

import contextlib
import importlib.metadata
import re
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST = 2_500_000  # bytes of a wheel
OPTIONAL = ("dask", "distributed", "matplotlib", "onnx", "onnxruntime", "pandas", "triton")


def check_files(folder):
    """Compare a wheel and an sdist with the tree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stem = f"skinv-{project['version']}"
    wheel, sdist = folder / f"{stem}-py3-none-any.whl", folder / f"{stem}.tar.gz"
    assert {path.name for path in folder.iterdir()} == {wheel.name, sdist.name}
    size = wheel.stat().st_size
    assert size <= MOST, f"{wheel.name} has {size} bytes, {MOST} are allowed"
    with zipfile.ZipFile(wheel) as file:
        inside = {name for name in file.namelist() if not name.startswith(f"{stem}.dist-info/")}
        metadata = Parser().parsestr(file.read(f"{stem}.dist-info/METADATA").decode("utf-8"))
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "skinv").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert inside == ours, inside ^ ours
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(required) == sorted(project["dependencies"])
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata.get_payload().startswith("# skinv")
    with tarfile.open(sdist) as file:
        packed = {name.partition("/")[2] for name in file.getnames()}
    needed = ours | {"tests/conftest.py", "CHANGELOG.md", "CITATION.cff", "constraints.txt"}
    assert needed <= packed, needed - packed
    print(f"{wheel.name}: {size} bytes; {sdist.name}: {sdist.stat().st_size} bytes")


def check_installed():
    """Run what the README shows, with what is installed of the wheel, and nothing optional."""
    sys.modules.update(dict.fromkeys(OPTIONAL))
    import numpy as np

    import skinv
    from skinv.datasets import load_robot_arm

    assert not Path(skinv.__file__).is_relative_to(ROOT), skinv.__file__
    assert importlib.metadata.version("skinv") == skinv.__version__
    text = importlib.metadata.metadata("skinv").get_payload()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    np.save("matrices.npy", load_robot_arm().matrices)
    scope = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)


if __name__ == "__main__":
    if sys.argv[1] == "files":
        check_files(Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            check_installed()
