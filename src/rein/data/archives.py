"""Tar archives of samples, as webdataset keeps them: 0001.jpg, 0001.txt, 0001.json, 0002.jpg and so on.

Nothing is ever unpacked to the disk: members are read into memory one sample at a time, so names in an archive cannot
lead anywhere. Links and devices are left out; what a compressed archive grows to is bounded.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from rein.data.caption_files import CAPTION_SUFFIXES, MAX_CAPTION_FILE, captions_in, captions_of, decoded
from rein.errors import DamagedFileError, quoted
from rein.files import OTHER_PICTURES, PICTURE_SUFFIXES
from rein.image_files import MAX_FILE_BYTES

MOST_GROWTH = 200
"""How many times larger than itself a compressed archive may become, beyond `FREE_GROWTH` bytes."""

FREE_GROWTH = 64 * 2**20
_BLOCK = 2**20
_TEXT_KINDS = (*(suffix.removeprefix(".") for suffix in CAPTION_SUFFIXES), "json")
_PICTURE_KINDS = tuple(suffix.removeprefix(".") for suffix in PICTURE_SUFFIXES)
_UNREAD_KINDS = tuple(suffix.removeprefix(".") for suffix in OTHER_PICTURES)


@dataclass(frozen=True)
class Sample:
    """The members of one name. `problem` says why there is no picture to use; then the others are empty."""

    name: str
    captions: tuple[str, ...] = ()
    content: bytes = field(default=b"", repr=False)
    mask_content: bytes | None = field(default=None, repr=False)
    problem: str | None = None

    def picture(self) -> bytes:
        """The bytes of the picture's file."""
        return self.content

    @property
    def mask(self) -> Callable[[], bytes] | None:
        """What reads the bytes of the mask."""
        content = self.mask_content
        return None if content is None else lambda: content


def read_archive(handle: BinaryIO, name: str, encoding: str, column: str | None) -> Iterator[Sample]:
    """The samples of an archive, one after another.

    Args:
        handle: of the archive, at its beginning; it need not be seekable.
        name: of the archive, which the samples' names begin with.
        encoding, column: as `rein.data.entries.Reading` has them.

    Raises:
        DamagedFileError: it is no archive, is cut short, or grows beyond measure. What came before was given already.
    """
    seen: set[str] = set()
    key = ""
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=cast(BinaryIO, _plain(handle, name)), mode="r|", bufsize=_BLOCK) as opened:
            for member in opened:
                if member.isdir():
                    continue
                stem, kind = _split(member.name)
                label = f"{name}/{stem}"
                if stem != key:
                    if parts:
                        yield _sample(f"{name}/{key}", parts, encoding, column)
                        seen.add(key)
                    key, parts = stem, {}
                problem = _refusal(member, stem, kind, seen)
                if problem:
                    yield Sample(f"{label}.{kind}" if kind else label, problem=problem)
                elif kind in parts:
                    yield Sample(f"{label}.{kind}", problem="the archive has this name twice; the first one is used")
                elif kind in _TEXT_KINDS or kind.removeprefix("mask.") in _PICTURE_KINDS:
                    content = opened.extractfile(member)
                    parts[kind] = content.read() if content is not None else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DamagedFileError(f"{name} cannot be read further: {str(error)[:200]}") from error
    if parts:
        yield _sample(f"{name}/{key}", parts, encoding, column)


def _split(member: str) -> tuple[str, str]:
    """A member's name before and after the first point of its last part: webdataset's key and kind."""
    folder, slash, base = member.rpartition("/")
    stem, _, kind = base.partition(".")
    return f"{folder}{slash}{stem}", kind.lower()


def _refusal(member: tarfile.TarInfo, stem: str, kind: str, seen: set[str]) -> str | None:
    if not member.isfile():
        return "a link or a device; only files are read from archives"
    if kind in _UNREAD_KINDS:
        return f"a .{kind} file: PNG, JPEG and WebP pictures are read; convert it"
    most = MAX_CAPTION_FILE if kind in _TEXT_KINDS else MAX_FILE_BYTES
    if member.size > most:
        return f"{member.size} bytes; up to {most} are read of such a file"
    if stem in seen and kind in _PICTURE_KINDS:
        return f"the archive has {quoted(stem)} twice; the first one is used"
    return None


def _sample(name: str, parts: dict[str, bytes], encoding: str, column: str | None) -> Sample:
    pictures = [kind for kind in _PICTURE_KINDS if kind in parts]
    if not pictures:
        return Sample(name, problem="no picture goes with it (.png, .jpg, .jpeg, .webp)")
    try:
        captions = _captions(name, parts, encoding, column)
    except (DamagedFileError, ValueError, RecursionError) as error:
        return Sample(name, problem=f"its caption cannot be read: {str(error)[:200]}")
    mask = next((parts[f"mask.{kind}"] for kind in _PICTURE_KINDS if f"mask.{kind}" in parts), None)
    return Sample(name, captions, parts[pictures[0]], mask)


def _captions(name: str, parts: dict[str, bytes], encoding: str, column: str | None) -> tuple[str, ...]:
    for kind in _TEXT_KINDS:
        if kind not in parts:
            continue
        text = decoded(parts[kind], f"{name}.{kind}", encoding)
        if kind != "json":
            return captions_of(text)
        values = json.loads(text)
        if isinstance(values, dict):
            return captions_in(values, column)
    return ()


class _Bounded:
    """What is read from a file that another one unpacks to; it stops where that grows beyond measure."""

    def __init__(self, packed: _Counted, unpacked: gzip.GzipFile, name: str) -> None:
        self._packed, self._unpacked, self._name, self._given = packed, unpacked, name, 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        content = self._unpacked.read(size)
        self._given += len(content)
        if self._given > FREE_GROWTH + MOST_GROWTH * self._packed.given:
            raise DamagedFileError(
                f"{self._name} unpacks to more than {MOST_GROWTH} times its size: it may be an attack"
            )
        return content


class _Counted:
    """A file that counts what was read of it."""

    def __init__(self, handle: BinaryIO, begin: bytes) -> None:
        self._handle, self._begin, self.given = handle, begin, 0

    def read(self, size: int = _BLOCK) -> bytes:
        """Up to `size` bytes; all that is left is never given at once."""
        content, self._begin = self._begin[:size], self._begin[size:]
        content = content or self._handle.read(min(size, _BLOCK) if size >= 0 else _BLOCK)
        self.given += len(content)
        return content


def _plain(handle: BinaryIO, name: str) -> _Counted | _Bounded:
    """The archive itself, unpacked on the way where it is compressed by gzip."""
    begin = handle.read(2)
    counted = _Counted(handle, begin)
    if begin != b"\x1f\x8b":
        return counted
    return _Bounded(counted, gzip.GzipFile(fileobj=cast(BinaryIO, counted), mode="rb"), name)
