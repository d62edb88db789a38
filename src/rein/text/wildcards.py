"""Wildcard files: a folder of text files, one value a line, that `__name__` in a prompt draws from.

`__colours__` is `colours.txt` in the folder, `__people/jobs__` is `people/jobs.txt`. Empty lines and comments (from #
on) are left out. Nothing outside the folder is ever read: names with `..` and absolute ones are refused, and so are
links that lead out of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from rein.errors import InputError, nearest, quoted
from rein.files import read_text
from rein.text.prompt import strip_comments

MAX_BYTES = 4 * 2**20
"""The largest wildcard file that is read."""
MAX_FILES = 10_000
"""Files of a folder that are looked at for the nearest name."""


class WildcardFolder:
    """The wildcards of one folder. A file is read when it is first asked for, once.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(os.path.realpath(folder)) if "\0" not in os.fspath(folder) else Path("\0")
        if not os.path.isdir(self._folder):
            raise InputError(f"wildcards: {quoted(os.fspath(folder))} is not a folder")
        self._lines: dict[str, tuple[str, ...]] = {}

    def lines(self, name: str) -> tuple[str, ...]:
        """The values of wildcard `name`.

        Raises:
            InputError: a name that is not one, an unknown one (with the nearest), a file that is too large, no text in
                UTF-8, or without a single value.
        """
        if name not in self._lines:
            self._lines[name] = self._read(name)
        return self._lines[name]

    def names(self) -> list[str]:
        """The names of all wildcards of the folder, sorted."""
        found: list[str] = []
        for parent, folders, files in os.walk(self._folder):
            folders.sort()
            where = Path(parent).relative_to(self._folder)
            found += [(where / file).as_posix().removesuffix(".txt") for file in files if file.endswith(".txt")]
            if len(found) >= MAX_FILES:
                break
        return sorted(found)

    def _read(self, name: str) -> tuple[str, ...]:
        shown = quoted(f"__{name}__")
        parts = name.split("/")
        if "\\" in name or "\0" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
            raise InputError(f"wildcard {shown}: a name is that of a file in the wildcards' folder, without '..'")
        path = self._folder.joinpath(*parts[:-1], f"{parts[-1]}.txt")
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(self._folder):
            raise InputError(f"wildcard {shown} leads out of the wildcards' folder: put the file itself there")
        if not os.path.isfile(real):
            raise InputError(f"unknown wildcard {shown}: {nearest(name, self.names())}")
        content = read_text(real, MAX_BYTES, f"wildcard {shown}", "divide the file")
        lines = (line.strip() for line in strip_comments(content).splitlines())
        values = tuple(line for line in lines if line)
        if not values:
            raise InputError(f"wildcard {shown} has no values: write one a line into {path.name}")
        return values
