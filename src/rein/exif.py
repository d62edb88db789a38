"""Settings in the EXIF block of a JPEG or WebP file.

"parameters", AUTOMATIC1111's infotext, is the user comment, where that program and others look for it. "rein", the
settings as JSON, is the maker note: the field that a program has to itself.

The block is written here, not by Pillow, which gives fields that it does not know the type of plain bytes; a user
comment of that type is not read by others. Source: CIPA DC-008 (Exif 2.32), sections 4.6.2 and 4.6.5.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from PIL import ExifTags, Image

from rein.version import __version__

LARGEST_IN_JPEG = 65_533
"""Bytes of a block in a JPEG file, whose segments tell their length in 16 bits."""

TEXTS = ("parameters", "rein")
"""What a block can hold, the first before the others where there is no room for all."""

_ASCII, _LONG, _UNDEFINED = 2, 4, 7
_HEADER = b"Exif\0\0"
_OURS = b"Rein\0"
_UNICODE = b"UNICODE\0"
_CODES = {_UNICODE: "utf-16-be", b"ASCII\0\0\0": "ascii", b"\0" * 8: "utf-8"}

_Field = tuple[int, int, bytes]


def exif_block(texts: Mapping[str, str], largest: int | None = None) -> tuple[bytes, tuple[str, ...]]:
    """The block for `texts`, and the names of those that are not in it.

    Left out are texts by other names than `TEXTS`, and where the block would have more than `largest` bytes, the last
    of them.
    """
    names = [name for name in TEXTS if name in texts]
    block = _block(texts, names)
    while names and largest is not None and len(block) > largest:
        names.pop()
        block = _block(texts, names)
    return block, tuple(name for name in texts if name not in names)


def exif_texts(exif: Image.Exif) -> dict[str, str]:
    """The texts in a block, also one that another program wrote. Pillow's errors for damaged blocks are passed on."""
    fields = exif.get_ifd(ExifTags.IFD.Exif)
    comment, note = fields.get(ExifTags.Base.UserComment), fields.get(ExifTags.Base.MakerNote)
    found: dict[str, str] = {}
    if isinstance(comment, str):
        found["parameters"] = comment
    elif isinstance(comment, bytes) and comment[:8] in _CODES:
        found["parameters"] = comment[8:].decode(_CODES[comment[:8]], "replace")
    if isinstance(note, bytes) and note.startswith(_OURS):
        found["rein"] = note.removeprefix(_OURS).decode("utf-8", "replace")
    return found


def _block(texts: Mapping[str, str], names: Sequence[str]) -> bytes:
    fields: list[_Field] = []  # in the order of their numbers
    if "rein" in names:
        fields.append((ExifTags.Base.MakerNote, _UNDEFINED, _OURS + texts["rein"].encode("utf-8", "replace")))
    if "parameters" in names:
        # Half of a surrogate pair, which undecodable bytes on a command line become, has no place in a file.
        comment = _UNICODE + texts["parameters"].encode("utf-16-be", "replace")
        fields.append((ExifTags.Base.UserComment, _UNDEFINED, comment))
    program = f"rein {__version__}".encode("ascii") + b"\0"
    start = 8
    after = start + len(_directory([(ExifTags.Base.Software, _ASCII, program), _pointer(0)], start))
    first = _directory([(ExifTags.Base.Software, _ASCII, program), _pointer(after)], start)
    return _HEADER + b"MM\0*" + struct.pack(">L", start) + first + _directory(fields, after)


def _pointer(place: int) -> _Field:
    return ExifTags.Base.ExifOffset, _LONG, struct.pack(">L", place)


def _directory(fields: Sequence[_Field], start: int) -> bytes:
    """Fields in the order of their numbers, with their values after them, for a place `start` bytes into the block."""
    rows, values = b"", b""
    first = start + 2 + 12 * len(fields) + 4
    for number, kind, value in fields:
        count = len(value) // 4 if kind == _LONG else len(value)
        if len(value) > 4:
            told = struct.pack(">L", first + len(values))
            values += value + bytes(len(value) % 2)
        else:
            told = value.ljust(4, b"\0")
        rows += struct.pack(">HHL", number, kind, count) + told
    return struct.pack(">H", len(fields)) + rows + bytes(4) + values
