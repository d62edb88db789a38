"""Files that a prompt calls by name: looked up in one folder, never opened by what the prompt says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from rein.errors import InputError, ReinError, nearest, quoted
from rein.formats.tensors import read_header

ENDINGS = (".safetensors", ".ckpt", ".pt", ".bin")
MOST_FILES = 100_000


def files_by_name(folder: str | os.PathLike[str]) -> dict[str, tuple[Path, ...]]:
    """Name -> files of weights in a folder and those below it. A file has two names: `cat` and `animals/cat`.

    Links that lead out of the folder are left out.

    Raises:
        InputError: there is no such folder, or it has too many files.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"there is no folder {folder}")
    real = os.path.realpath(root)
    table: dict[str, tuple[Path, ...]] = {}
    count = 0
    for place, folders, names in os.walk(root):
        folders.sort()
        count += len(names)
        if count > MOST_FILES:
            raise InputError(f"folder {folder} has more than {MOST_FILES:,} files: give a smaller one")
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            path = Path(place, name)
            if ending.lower() in ENDINGS and _inside(os.path.realpath(path), real):
                long = (path.parent / stem).relative_to(root).as_posix()
                for key in {stem, long}:
                    table[key] = (*table.get(key, ()), path)
    return table


def _inside(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def files_by_title(files: Mapping[str, tuple[Path, ...]]) -> dict[str, tuple[Path, ...]]:
    """The same files by the name that their training gave them, which AUTOMATIC1111 prefers to that of the file."""
    table: dict[str, tuple[Path, ...]] = {}
    for path in sorted({path for paths in files.values() for path in paths if path.suffix == ".safetensors"}):
        try:
            title = read_header(path).metadata.get("ss_output_name")
        except ReinError:
            continue
        if title:
            table[title] = (*table.get(title, ()), path)
    return table


def named_file(name: str, files: Mapping[str, tuple[Path, ...]], what: str, option: str) -> Path:
    """The file called `name` among those of `files_by_name`; where none is, the one whose metadata call it so.

    Args:
        what: the kind of file, for messages: "lora".
        option: the option that names the folder.

    Raises:
        InputError: the name is a path, unknown, or that of several files.
    """
    parts = re.split(r"[/\\]", name)
    if os.path.isabs(name) or any(part in ("", ".", "..") for part in parts) or re.search(r"[\\:\0]", name):
        raise InputError(f"{what} {quoted(name)} is no name: give that of a file in the folder of {option}")
    found = files.get(name) or files_by_title(files).get(name, ())
    if len(found) > 1:
        shown = ", ".join(str(path) for path in found[:4])
        raise InputError(f"{what} {quoted(name)} is the name of {len(found)} files: {shown}; give the folder, too")
    if not found:
        raise InputError(f"unknown {what} {quoted(name)} in the folder of {option}: {nearest(name, files)}")
    return found[0]
