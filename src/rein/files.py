"""Files written so that they are either all there or not there at all, and texts and JSON read within bounds."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from rein.errors import InputError, OutputError, nearest, quoted

PICTURE_SUFFIXES: Mapping[str, str] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""Endings of the picture files that are written, and the format of each; the first of a format is its usual one."""

OTHER_PICTURES = (".avif", ".bmp", ".gif", ".tif", ".tiff")
"""Endings of picture files that are not written: a name that ends so is a slip, not a folder."""

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EACCES: "no permission to write there; choose another place",
    errno.EPERM: "no permission to write there; choose another place",
    errno.EROFS: "that disk is read-only; choose another place",
    errno.ENOENT: "its folder does not exist; create it first",
    errno.ENOTDIR: "part of the path is a file, not a folder; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def format_of(path: str | os.PathLike[str]) -> str:
    """The picture format that the ending of a name tells.

    Raises:
        InputError: it is none of `PICTURE_SUFFIXES`.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"{quoted(os.fspath(path))}: pictures are saved as {_or(list(PICTURE_SUFFIXES))}")
    return PICTURE_SUFFIXES[suffix.lower()]


def suffix_of(file_format: str) -> str:
    """The usual ending of a picture format's names.

    Raises:
        InputError: a format that is not written.
    """
    for suffix, name in PICTURE_SUFFIXES.items():
        if name == file_format:
            return suffix
    raise InputError(
        f"unknown picture format {quoted(file_format)}: {nearest(file_format, set(PICTURE_SUFFIXES.values()))}"
    )


def _or(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def write_failure(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """The one-line error for a failed write, with what to do where that is known."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return OutputError(f"cannot write {os.fspath(path)}: {reason}")


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], replace: bool = True) -> Iterator[BinaryIO]:
    """A file opened for writing that appears at `path` when the block ends without an error, replacing what was there.

    The bytes go to a hidden file in the same folder, which is flushed to the disk and renamed; after an error or an
    interrupt it is removed and `path` is as before. A link is followed. Do nothing but write in the block: an `OSError`
    in it counts as a failed write. Without `replace` a file that is there, or that another program puts there
    meanwhile, stays.

    Raises:
        FileExistsError: there is a file already, and `replace` is off.
        InputError: the path has a character that no file name can have.
        OutputError: the file cannot be written there, the disk is full, or `path` is a folder or a device.
    """
    if "\0" in os.fspath(path):
        raise InputError(f"path {quoted(os.fspath(path))} has a zero character, which no file name can have")
    target = Path(os.path.realpath(path))
    if os.path.isdir(target):  # unlike `Path.is_dir`, no error for a name that is too long
        raise OutputError(f"cannot write {os.fspath(path)}: it is a folder; give the name of a file")
    if os.path.exists(target) and not os.path.isfile(target):
        raise OutputError(f"cannot write {os.fspath(path)}: it is a device, not a file; give the name of a file")
    temporary = hidden_beside(target)
    try:
        with _created(temporary) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        if replace:
            os.replace(temporary, target)
        else:
            _renamed_to_free(temporary, target)
    except OSError as error:
        if isinstance(error, FileExistsError) and not replace:
            raise
        raise write_failure(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _flush_folder(target.parent)


def hidden_beside(path: Path, suffix: str = ".tmp") -> Path:
    """A hidden name in the folder of `path` that nobody else has; short, however long that of `path` is."""
    return path.with_name(f".rein-{os.urandom(8).hex()}{suffix}")


def _renamed_to_free(source: Path, target: Path) -> None:
    """Rename, unless the name is taken: a second link to a file is made only where no file is."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links, as on a memory card: nothing better than to look first
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.replace(source, target)


def _created(path: Path) -> BinaryIO:
    """A new file with the usual permissions; unlike `tempfile`, which makes it readable by its owner only."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), "wb")


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut. Some systems cannot; the file is complete in any case."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_text(source: str | os.PathLike[str] | BinaryIO, most: int, shown: str, too_long: str) -> str:
    """The text of a file in UTF-8, with or without a mark at its beginning, of which no more than is allowed is read.

    Args:
        source: a path, or a file that is open for reading bytes.
        most: bytes.
        shown: what messages call it, such as "styles 'mine.csv'".
        too_long: what to do about a longer one.

    Raises:
        InputError: it cannot be read, has more than `most` bytes, or is not UTF-8.
    """
    try:
        with contextlib.ExitStack() as stack:
            handle = stack.enter_context(open(source, "rb")) if isinstance(source, str | os.PathLike) else source
            content = handle.read(most + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > most:
        raise InputError(f"{shown} is longer than {most:,} bytes: {too_long}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown} is not UTF-8 text: save it as UTF-8") from error


def parse_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value of a JSON text. NaN and Infinity, which are not in the standard, are no numbers here.

    Args:
        pairs: what makes an object of its names and values; None makes a table, in which the last of one name counts.

    Raises:
        ValueError: it is not UTF-8, not JSON, or nested too deeply. What `pairs` raises passes.
    """
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8")
        return json.loads(plain, parse_constant=_no_number, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
