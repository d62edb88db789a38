"""The notebooks: run and kept with what they print and draw, and shown in the book.

python docs/notebooks.py [NAME ...] [--small]

A cell with the tag "parameters" holds settings, one a line. Under "rein" in the notebook's metadata, "small" gives some
of them other values for a run that only shows that everything works, as the tests do; `--small` runs so, and keeps
nothing.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "notebooks"
SECONDS = 1200
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def paths() -> list[Path]:
    """The notebooks in the order in which the book shows them: by the number that their names begin with."""
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> Any:
    """A notebook."""
    import nbformat

    return nbformat.read(path, as_version=4)


def executed(path: Path, small: bool = False, folder: Path | None = None) -> Any:
    """A notebook with the outputs of a fresh run, done in `folder`.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
        ValueError: "small" names a setting that there is not.
    """
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    notebook = read(path)
    if small:
        _shrink(notebook)
    resources = {"metadata": {"path": str(folder or path.parent)}}
    source = str(FOLDER.parent / "src")  # before an installed Rein, which may be another
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))}
    with tempfile.TemporaryDirectory() as sockets:  # files, so that nothing of this machine's network is needed
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        client = NotebookClient(notebook, km=kernel, timeout=SECONDS, resources=resources, startup_timeout=40)
        client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ from run to run
        if cell.cell_type == "code":
            cell.outputs = [entry for entry in cell.outputs if entry.get("name") != "stderr"]
            for entry in cell.outputs:
                if "image/png" in entry.get("data", {}):
                    entry.data["image/png"] = _small_picture(entry.data["image/png"])
    return notebook


def _small_picture(encoded: str) -> str:
    """A picture in 256 colours, a third as large."""
    from PIL import Image

    picture, small = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"), io.BytesIO()
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


def _shrink(notebook: Any) -> None:
    """Give the settings of the notebook's metadata in place of those in the cell with the tag."""
    settings = notebook.metadata.get("rein", {}).get("small", {})
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    for name, value in settings.items():
        changed = 0
        for cell in cells:
            cell.source, found = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", cell.source, flags=re.MULTILINE)
            changed += found
        if changed != 1:
            raise ValueError(f"{name} stands {changed} times in the cells of parameters")


def name_of(path: Path) -> str:
    """Of a notebook's page: "2-inside-a-step"."""
    return path.stem


def pages() -> dict[str, str | bytes]:
    """Markdown and pictures by their place in the docs."""
    made: dict[str, str | bytes] = {}
    for path in paths():
        text, pictures = as_page(read(path), name_of(path))
        made[f"notebooks/{name_of(path)}.md"] = text
        made |= {f"notebooks/{name}": data for name, data in pictures.items()}
    return made


def as_page(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures that it shows, by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            parts += _shown(output, name, pictures)
    where = f"The notebook itself: `notebooks/{name}.ipynb`, with what it printed and drew when it was last run."
    title, _, rest = "\n\n".join(parts).partition("\n")
    return f"{title}\n\n*{where}*\n{rest}\n", pictures


def _shown(output: Any, name: str, pictures: dict[str, bytes]) -> list[str]:
    """One output of a cell: text as a block, a picture as a file beside the page."""
    if output.output_type == "stream":
        return [f"```text\n{_COLOUR.sub('', output.text).rstrip()}\n```"]
    data = output.get("data", {})
    if "image/png" in data:
        file = f"{name}-{len(pictures) + 1}.png"
        pictures[file] = base64.b64decode(data["image/png"])
        return [f"![What the cell above draws]({file})"]
    if "text/plain" in data:
        return [f"```text\n{data['text/plain'].rstrip()}\n```"]
    return []


def main() -> None:
    """Run notebooks and keep their outputs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="parts of file names; all unless told")
    parser.add_argument("--small", action="store_true", help="run with small settings, and keep nothing")
    options = parser.parse_args()
    for path in paths():
        if options.names and not any(name in path.stem for name in options.names):
            continue
        notebook = executed(path, options.small)
        if not options.small:
            import nbformat

            nbformat.write(notebook, path)
        print(path)


if __name__ == "__main__":
    main()
