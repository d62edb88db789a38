"""Where pictures are kept: a folder or a file on this disk, or one that fsspec reaches (http, s3, gs and others)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from rein.errors import DamagedFileError, InputError, require


class Storage(Protocol):
    """Files below one place, by their names relative to it, with "/" between folders."""

    @property
    def place(self) -> str:
        """What was given, for messages."""
        ...

    def names(self) -> list[str]:
        """All files, sorted; hidden ones are left out."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file for reading from its beginning. Raises `InputError`."""
        ...


def open_storage(place: str | os.PathLike[str]) -> tuple[Storage, str | None]:
    """The files at a place; of a single file also its name.

    Args:
        place: a folder or a file, or an address such as "s3://bucket/pictures" or "https://host/shard-0000.tar".

    Raises:
        InputError: there is nothing there, or it cannot be listed.
        MissingExtraError: an address is given and fsspec, or what it needs for that kind, is not installed.
    """
    text = os.fspath(place)
    if "://" in text:
        return _open_remote(text)
    path = Path(text).expanduser()
    if "\0" not in text and path.is_dir():
        return Disk(path), None
    if "\0" not in text and path.is_file():
        return Disk(path.parent), path.name
    raise InputError(f"there is no folder or file {text!r}")


def read_bounded(storage: Storage, name: str, most: int) -> bytes:
    """All bytes of a file.

    Raises:
        InputError: it cannot be read.
        DamagedFileError: it is larger than `most` bytes.
    """
    try:
        with storage.open(name) as handle:
            content = handle.read(most + 1)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from error
    if len(content) > most:
        raise DamagedFileError(f"{name} is larger than {most} bytes, the most that is read of such a file")
    return content


@dataclass(frozen=True)
class Disk:
    """A folder on this disk. Links to files are followed, links to folders are not."""

    folder: Path

    @property
    def place(self) -> str:
        """The folder."""
        return os.fspath(self.folder)

    def names(self) -> list[str]:
        """All files below the folder."""
        found = []
        for root, folders, files in os.walk(self.folder, onerror=_unlistable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(root).relative_to(self.folder)
            found += [(below / name).as_posix() for name in files if not name.startswith(".")]
        return sorted(found)

    def open(self, name: str) -> BinaryIO:
        """A file below the folder."""
        try:
            return (self.folder / name).open("rb")
        except OSError as error:
            raise InputError(f"cannot read {name}: {error.strerror or error}") from error


def _unlistable(error: OSError) -> None:
    raise InputError(f"cannot list {error.filename}: {error.strerror or error}") from error


@dataclass(frozen=True)
class Remote:
    """A place that fsspec reaches. `system` is its file system, `root` the place in that system's own words."""

    place: str
    system: Any
    root: str

    def names(self) -> list[str]:
        """All files below the place."""
        try:
            found = [str(path) for path in self.system.find(self.root)]
        except Exception as error:  # a library of many back ends has errors of many kinds
            raise InputError(f"cannot list {self.place}: {_first_line(error)}") from error
        below = (path.removeprefix(self.root).lstrip("/") for path in found if path.startswith(self.root))
        return sorted(name for name in below if not any(part.startswith(".") for part in name.split("/")))

    def open(self, name: str) -> BinaryIO:
        """A file below the place."""
        try:
            handle: BinaryIO = self.system.open(f"{self.root.rstrip('/')}/{name}", "rb")
        except Exception as error:
            raise InputError(f"cannot read {name} of {self.place}: {_first_line(error)}") from error
        return handle


def _open_remote(place: str) -> tuple[Storage, str | None]:
    fsspec = require("fsspec", "data")
    try:
        system, root = fsspec.core.url_to_fs(place)
        single = bool(system.isfile(root)) and not place.endswith("/")
        there = single or bool(system.exists(root))
    except ImportError as error:
        raise InputError(f"{place} needs a package that is not installed: {_first_line(error)}") from error
    except Exception as error:
        raise InputError(f"cannot reach {place}: {_first_line(error)}") from error
    if not there:
        raise InputError(f"there is nothing at {place}")
    if single and "." in root.rpartition("/")[2]:
        folder, _, name = root.rpartition("/")
        return Remote(place.rpartition("/")[0], system, folder), name
    return Remote(place, system, root), None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
