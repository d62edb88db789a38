"""The models that are part of the package, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from rein.errors import ReinError

EMBEDDED = ("pocket", "pocket-depth", "pocket-fast")
"""Their names, the first being what is drawn with unless told otherwise."""


def embedded_folder(name: str) -> Path:
    """The folder of an embedded model, a name of `EMBEDDED`. Raises `ReinError` if it is not there."""
    folder = Path(str(files("rein") / "assets" / name))
    if not folder.is_dir():
        raise ReinError(f"this copy of Rein has no embedded model {name!r} ({folder} is missing): install Rein again")
    return folder
