"""Many requests in one file, and a record of those that are done, so that a batch goes on where it stopped.

A `.jsonl` file has one request as a JSON object on each line; a `.csv` file has the fields' names in its first row.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rein.errors import InputError, quoted
from rein.files import write_failure
from rein.pipeline.request import Request

RECORD = "batch.jsonl"
"""In the output folder: one line for each request that is done."""

LONGEST_LINE = 2**23
_TEXTS = {name for name, field in Request.model_fields.items() if field.annotation in (str, str | None)}


@dataclass(frozen=True)
class Entry:
    """A line of a batch: its number from 1, what identifies it, and its request, or what is wrong with it."""

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
    return _entries(handle, reader)


def _entries(handle: Any, reader: Any) -> Iterator[Entry]:
    with handle:
        for line, values in reader(handle):
            if isinstance(values, str):
                yield Entry(line, "", None, values)
                continue
            text = json.dumps(values, sort_keys=True, ensure_ascii=False)
            digest = hashlib.sha256(f"{line} {text}".encode("utf-8", "replace")).hexdigest()[:20]
            try:
                yield Entry(line, digest, Request.model_validate(values))
            except InputError as error:
                yield Entry(line, digest, None, str(error))


def _json_lines(handle: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
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


def _csv_rows(handle: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    rows = csv.DictReader(handle, restkey="")
    try:
        for row in rows:
            if "" in row:
                yield rows.line_num, "it has more cells than the first row has names"
            else:
                yield rows.line_num, {name: _cell(name, text) for name, text in row.items() if text}
    except csv.Error as error:
        yield rows.line_num, f"it is not valid CSV ({error}); nothing after it was read"


def _cell(name: str, text: str) -> Any:
    """Numbers and lists as JSON has them; texts as they stand."""
    if name in _TEXTS:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


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
