"""Many requests in one file, and a record of those that are done, so that a batch goes on where it stopped.

A `.jsonl` file has one request as a JSON object on each line. A `.csv` file has names of fields in its first row, with
commas between, and a request in each further one; an empty cell is the field's default.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rein.errors import InputError, nearest, quoted
from rein.files import write_failure
from rein.pipeline.field_values import field_value
from rein.pipeline.request import Request

RECORD = "batch.jsonl"
"""In the output folder: one line for each request that is done."""

LONGEST_LINE = 2**23
LONGEST_ROW = 1000
"""Lines of a table's row: a quotation mark that is open for longer is taken for one that was forgotten."""

Values = Mapping[str, Any] | str
"""A request's fields, or what is wrong with them."""


@dataclass(frozen=True)
class Entry:
    """A request of a batch, or what is wrong with it: the number of its line from 1, and what identifies it."""

    line: int
    digest: str
    request: Request | None
    problem: str = ""


def read_batch(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """The requests of a file, in its order. A bad line is an entry with a problem, not an error.

    Raises:
        InputError: no such file, or neither .jsonl nor .csv.
    """
    path = Path(path)
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: a batch is a .jsonl or a .csv file")
    try:
        handle = path.open(encoding="utf-8-sig", newline="", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return _entries(handle, reader(handle))
    except InputError as error:
        handle.close()
        raise InputError(f"{path}: {error}") from None


def _entries(handle: TextIO, rows: Iterator[tuple[int, Values]]) -> Iterator[Entry]:
    with handle:
        for line, values in rows:
            if isinstance(values, str):
                yield Entry(line, "", None, values)
                continue
            text = json.dumps(values, sort_keys=True, ensure_ascii=False)
            digest = hashlib.sha256(f"{line} {text}".encode("utf-8", "replace")).hexdigest()[:20]
            try:
                yield Entry(line, digest, Request.model_validate(values))
            except InputError as error:
                yield Entry(line, digest, None, str(error))


def _json_lines(handle: TextIO) -> Iterator[tuple[int, Values]]:
    for line, text in enumerate(handle, start=1):
        if not text.strip():
            continue
        if len(text) > LONGEST_LINE:
            yield line, f"it is longer than {LONGEST_LINE:,} characters"
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield line, f"it is not valid JSON ({str(error)[:80]})"
            continue
        yield line, values if isinstance(values, dict) else f"it is no JSON object but {quoted(values)}"


def _csv_rows(handle: TextIO) -> Iterator[tuple[int, Values]]:
    """The requests of a table. Raises `InputError` for its first row, at once."""
    rows = _rows(handle)
    _, head = next(rows, (1, []))
    if isinstance(head, str):
        raise InputError(f"its first row cannot be read: {head}")
    names = [name.strip() for name in head]
    for place, name in enumerate(names):
        if name not in Request.model_fields:
            known = nearest(name, Request.model_fields)
            raise InputError(f"its first row has {quoted(name)}, which is no field of a request: {known}")
        if name in names[:place]:
            raise InputError(f"its first row has {quoted(name)} twice: leave one out")
    if not names:
        raise InputError("its first row is empty: it must have names of fields, with commas between")
    return ((line, _fields(names, cells)) for line, cells in rows)


def _fields(names: Sequence[str], cells: Sequence[str] | str) -> Values:
    if isinstance(cells, str):
        return cells
    if len(cells) > len(names):
        return f"it has {len(cells)} cells, more than the first row has names"
    return {name: field_value(name, text) for name, text in zip(names, cells, strict=False) if text}


def _rows(handle: TextIO) -> Iterator[tuple[int, list[str] | str]]:
    """The rows of a table that are not empty, each with its first line's number, or what is wrong with it.

    A row goes on over several lines while a quotation mark is open. One that is never closed spoils its own line, not
    the rest of the file.
    """
    numbered, ahead = enumerate(handle, start=1), deque[tuple[int, str]]()

    def following() -> tuple[int, str] | None:
        return ahead.popleft() if ahead else next(numbered, None)

    while (first := following()) is not None:
        taken = [first]
        marks = first[1].count('"')
        while marks % 2 and len(taken) < LONGEST_ROW and (more := following()) is not None:
            taken.append(more)
            marks += more[1].count('"')
        if marks % 2:
            ahead.extendleft(reversed(taken[1:]))
            yield first[0], "a quotation mark is opened and not closed"
            continue
        text = "".join(line for _, line in taken)
        try:
            cells = next(csv.reader([text], strict=True), [])
        except csv.Error as error:
            yield first[0], f"it is not valid CSV ({error})"
            continue
        if any(cells):
            yield first[0], cells


class Record:
    """Which entries of a batch are done, kept in the output folder and grown by one line at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD
        self._paths: dict[str, list[str]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        except OSError as error:
            raise write_failure(folder, error) from error
        for line in lines:
            try:
                entry = json.loads(line)
                self._paths[str(entry["digest"])] = [str(name) for name in entry["files"]]
            except (ValueError, KeyError, TypeError):
                continue  # a line that a crash cut short: its request is done again

    def done(self, entry: Entry) -> bool:
        """Whether all pictures of an entry are there."""
        names = self._paths.get(entry.digest)
        return names is not None and all((self.path.parent / name).is_file() for name in names)

    def add(self, entry: Entry, files: Iterable[Path]) -> None:
        """Note that an entry is done. Raises `OutputError`."""
        names = [file.name for file in files]
        line = json.dumps({"line": entry.line, "digest": entry.digest, "files": names}, ensure_ascii=False)
        try:
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(line + "\n")
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise write_failure(self.path, error) from error
        self._paths[entry.digest] = names
