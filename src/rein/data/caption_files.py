"""Captions beside pictures: text files in any encoding that can be told, and tables (metadata.jsonl, metadata.csv).

A caption file has its picture's name with another ending and one caption on each line. A table has a column `file_name`
and a column of captions; in JSON lines that may be a list. An optional column `mask` names a mask. File names of a
table are relative to its folder and may not lead out of it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rein.errors import DamagedFileError, InputError, quoted

CAPTION_SUFFIXES = (".txt", ".caption")
TABLES = ("metadata.jsonl", "metadata.csv")
CAPTION_COLUMNS = ("texts", "text", "captions", "caption", "prompt")
"""Columns that hold captions, where none is named; of a table that has several the first is taken."""

MAX_CAPTION_FILE = 2**20
MAX_TABLE = 512 * 2**20
MAX_CAPTION = 10_000
"""Letters of a caption; more than any text tower reads."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Row:
    """What a table says of one picture.

    Fields:
        name: of its file within the storage.
        captions: none or several.
        mask: the name of a mask, or None.
        origin: what it shares with other versions of the same picture, from a column `sha256`, or None.
    """

    name: str
    captions: tuple[str, ...]
    mask: str | None = None
    origin: str | None = None


@dataclass
class Table:
    """A table that was read: rows by the picture's name, and what was wrong with others, as (row, reason)."""

    rows: dict[str, Row] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def check_encoding(name: str) -> str:
    """`name` if Python knows such an encoding of text. Raises `InputError`."""
    try:
        known = codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError):
        raise InputError(
            f"unknown encoding {quoted(name)}: utf-8, utf-16, cp1252, latin-1, shift_jis, gb18030 ..."
        ) from None
    return known.name


def decoded(content: bytes, name: str, encoding: str = "utf-8") -> str:
    """A text. A mark at its beginning (UTF-8, UTF-16, UTF-32) has precedence over `encoding`.

    Raises:
        DamagedFileError: it is no text of that encoding.
    """
    found = next((mark for begin, mark in _MARKS if content.startswith(begin)), encoding)
    try:
        text = content.decode(found)
    except UnicodeError as error:
        place = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise DamagedFileError(
            f"{name} is not {found} text{place}: save it as UTF-8, or say its encoding (--encoding cp1252)"
        ) from error
    if "\0" in text:
        raise DamagedFileError(
            f"{name} holds zero characters: it is no text, or of another encoding (--encoding utf-16)"
        )
    return text


def captions_of(text: str) -> tuple[str, ...]:
    """The captions in a text, one on each line that is not empty; the same one twice counts once."""
    lines = (" ".join(line.split())[:MAX_CAPTION] for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))


def read_table(content: bytes, name: str, encoding: str = "utf-8", column: str | None = None) -> Table:
    """The rows of metadata.jsonl or metadata.csv.

    Args:
        name: of the table within its storage; its ending tells the format.
        column: that holds the captions; None is the first of `CAPTION_COLUMNS` that is there.

    Raises:
        DamagedFileError: it is no text, or a CSV file without the needed columns.
    """
    text = decoded(content, name, encoding)
    folder = posixpath.dirname(name)
    table = Table()
    rows = _json_rows(text, name, table) if name.endswith(".jsonl") else _csv_rows(text, name, column)
    for label, values in rows:
        try:
            row = _row(values, folder, column)
        except ValueError as error:
            table.problems.append((f"{name} {label}", str(error)))
            continue
        before = table.rows.get(row.name)
        if before is not None:  # one picture, several captions
            captions = tuple(dict.fromkeys(before.captions + row.captions))
            row = Row(row.name, captions, row.mask or before.mask, row.origin or before.origin)
        table.rows[row.name] = row
    return table


def _json_rows(text: str, name: str, table: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            table.problems.append((f"{name} line {number}", f"not JSON: {str(error)[:100]}"))
            continue
        if isinstance(values, dict):
            yield f"line {number}", values
        else:
            table.problems.append((f"{name} line {number}", f"{quoted(values)} is not a table of names and values"))


def _csv_rows(text: str, name: str, column: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = list(reader.fieldnames or ())
        if "file_name" not in names or not (column in names if column else set(names) & set(CAPTION_COLUMNS)):
            wanted = quoted(column) if column else f"one of {', '.join(CAPTION_COLUMNS)}"
            raise DamagedFileError(f"{name} needs a first line with the columns file_name and {wanted}; it has {names}")
        for values in reader:
            yield f"line {reader.line_num}", {key: value for key, value in values.items() if key and value is not None}
    except csv.Error as error:
        raise DamagedFileError(f"{name} line {reader.line_num}: {error}") from error


def _row(values: dict[str, Any], folder: str, column: str | None) -> Row:
    """Raises `ValueError` with what is wrong."""
    mask = values.get("mask")
    return Row(
        name=_inside(values.get("file_name"), folder),
        captions=captions_in(values, column),
        mask=None if mask in (None, "") else _inside(mask, folder),
        origin=str(values["sha256"])[:128] if values.get("sha256") else None,
    )


def captions_in(values: dict[str, Any], column: str | None = None) -> tuple[str, ...]:
    """The captions in a row or a JSON file. Raises `ValueError` with what is wrong."""
    for name in (column,) if column else CAPTION_COLUMNS:
        found = values.get(name)
        if found in (None, "", []):
            continue
        texts = found if isinstance(found, list) else [found]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{name} is {quoted(found)}: a caption must be a text, or a list of texts")
        return tuple(caption for text in texts for caption in captions_of(" ".join(text.split())))
    return ()


def _inside(name: Any, folder: str) -> str:
    """A file's name within the storage. Raises `ValueError` for one that leads out of the table's folder."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError("it has no file_name")
    clean = posixpath.normpath(name.replace("\\", "/"))
    if clean.startswith(("/", "../")) or clean in ("..", ".") or ":" in clean.split("/")[0] or "\0" in clean:
        raise ValueError(f"file_name {quoted(name)} leads out of the folder; only what lies below the table is read")
    return posixpath.join(folder, clean)
