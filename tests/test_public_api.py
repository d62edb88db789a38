"""The public names, and what importing Rein does not do."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rein

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"

PUBLIC = [
    "DamagedFileError",
    "InputError",
    "InterruptedWork",
    "MissingExtraError",
    "Model",
    "ModelSpec",
    "NonFiniteError",
    "OutputError",
    "ReinError",
    "Request",
    "Result",
    "SAMPLERS",
    "Step",
    "VARIANTS",
    "__version__",
    "explain",
    "load",
]


def python(code: str, folder: Path) -> str:
    """What `code` prints, run by a new interpreter in `folder` with an empty home."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these() -> None:
    assert rein.__all__ == PUBLIC == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(rein))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(rein, name) is getattr(rein, name)


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="module 'rein' has no attribute 'lode'"):
        _ = rein.lode


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(rein.__file__).read_text())
    seen = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(PUBLIC) - {"__version__"} <= seen


def test_importing_rein_does_nothing(tmp_path: Path) -> None:
    """No file written, no environment variable read, no process started, no heavy package imported."""
    code = """
import os, sys
events = []
home = os.environ
class Watched(dict):
    def __getitem__(self, key): events.append(("environment", key)); return super().__getitem__(key)
    def get(self, key, default=None): events.append(("environment", key)); return super().get(key, default)
before = set(sys.modules)
os.environ = Watched(home)
def hook(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        events.append((event, arguments[0]))
    if event in ("os.mkdir", "subprocess.Popen", "socket.connect", "os.system"):
        events.append((event, arguments))
sys.addaudithook(hook)
import rein
print(events)
print(sorted(name for name in set(sys.modules) - before if not name.startswith(("rein", "importlib", "typing"))))
"""
    events, modules = python(code, tmp_path).splitlines()
    assert events == "[]"
    heavy = {"torch", "numpy", "PIL", "pydantic", "typer", "rich", "tokenizers"}
    assert not heavy & {name.split(".")[0] for name in ast.literal_eval(modules)}
    assert list(tmp_path.iterdir()) == []


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "rein.version.__version__"}
    assert f"## [{rein.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
