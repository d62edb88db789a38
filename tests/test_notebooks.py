"""The notebooks run from the first cell to the last on small settings, and the book shows what they drew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs import ROOT, script

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
_CHILD = """
import sys
from pathlib import Path
from tests.test_docs import script
notebook = script("notebooks").executed(Path(sys.argv[1]), small=True, folder=Path(sys.argv[2]))
print(sum(bool(cell.get("outputs")) for cell in notebook.cells))
"""


def executed(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A notebook run on small settings, in a process of its own: Jupyter's client leaves sockets to the collector."""
    command = [sys.executable, "-c", _CHILD, str(path), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    done = executed(path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir()), "a notebook cleans up after itself"
    assert int(done.stdout) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_the_outputs_of_a_whole_run(path: Path) -> None:
    module = script("notebooks")
    text, pictures = module.as_page(module.read(path), path.stem)
    assert text.startswith("# ")
    assert len(pictures) >= 2 and all(data.startswith(b"\x89PNG") for data in pictures.values())
    assert all(name in text for name in pictures)
    code = [cell for cell in module.read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [entry for cell in code for entry in cell.outputs if entry.output_type == "error"]


def _notebook(folder: Path, source: str, small: dict[str, Any]) -> Path:
    import nbformat

    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    path = folder / "one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"rein": {"small": small}}), path)
    return path


def test_small_settings_must_be_there_and_a_failing_cell_fails(tmp_path: Path) -> None:
    module = script("notebooks")
    with pytest.raises(ValueError, match="STEPS stands 0 times"):
        module.executed(_notebook(tmp_path, "COUNT = 2", {"STEPS": 1}), small=True)
    done = executed(_notebook(tmp_path, "STEPS = 20\nassert STEPS == 20", {"STEPS": 1}), tmp_path)
    assert done.returncode == 1 and "CellExecutionError" in done.stderr and "AssertionError" in done.stderr
