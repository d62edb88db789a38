"""Captioned pictures as people keep them: folders with caption files or tables, and tar archives of samples.

What cannot be used is named with its reason and left out; nothing stops the work but a place that cannot be read at
all.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rein.data.archives import read_archive
from rein.data.caption_files import (
    CAPTION_SUFFIXES,
    MAX_CAPTION_FILE,
    MAX_TABLE,
    TABLES,
    Table,
    captions_of,
    decoded,
    read_table,
)
from rein.data.storage import Storage, read_bounded
from rein.errors import DamagedFileError, InputError, ReinError
from rein.files import OTHER_PICTURES, PICTURE_SUFFIXES
from rein.image_files import MAX_FILE_BYTES

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
UNREAD_PICTURES = (*OTHER_PICTURES, ".heic", ".heif", ".jxl", ".svg", ".psd")
MASK_ENDINGS = ("-masklabel", ".mask")
"""What a mask's name has after that of its picture, before its own ending."""

MASK_FOLDER = "masks"
"""A folder beside pictures with masks of the same names."""


@dataclass(frozen=True)
class Reading:
    """How captions are read.

    Fields:
        encoding: of caption files and tables without a mark of their own.
        column: of tables, that holds the captions; None finds it.
    """

    encoding: str = "utf-8"
    column: str | None = None


@dataclass(frozen=True)
class Entry:
    """A picture that was found.

    Fields:
        name: unique among the entries of a place.
        captions: none or several.
        content: reads the bytes of its file.
        mask: reads the bytes of its mask; None where there is none.
        file: its name within the storage; None in an archive.
        mask_file: that of its mask.
        origin: what it shares with other versions of the same picture; None where nothing is known.
    """

    name: str
    captions: tuple[str, ...]
    content: Callable[[], bytes] = field(repr=False)
    mask: Callable[[], bytes] | None = field(default=None, repr=False)
    file: str | None = None
    mask_file: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Refused:
    """What was left out, and why."""

    name: str
    reason: str


def read_entries(
    storage: Storage, single: str | None = None, reading: Reading = Reading()
) -> Iterator[Entry | Refused]:
    """The pictures of a place in the order of their names, those of an archive in its own.

    Args:
        single: the one file that is meant: an archive or a table; None is everything there.

    Raises:
        InputError: the place cannot be listed.
        DamagedFileError: the single file cannot be read as what it should be.
    """
    if single is None:
        yield from _folder(storage, storage.names(), reading)
    elif is_archive(single):
        yield from read_archive_entries(storage, single, reading)
    elif posixpath.basename(single).endswith((".jsonl", ".csv")):
        table = read_table(read_bounded(storage, single, MAX_TABLE), single, reading.encoding, reading.column)
        yield from _listed(storage, table)
    else:
        raise InputError(f"{single} is neither a folder, a table (.jsonl, .csv) nor an archive (.tar, .tar.gz, .tgz)")


def is_archive(name: str) -> bool:
    """Whether a file's name ends like that of an archive that is read."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def read_archive_entries(storage: Storage, name: str, reading: Reading) -> Iterator[Entry | Refused]:
    """The samples of one archive: files of one name with several endings, as webdataset has them."""
    with storage.open(name) as handle:
        for sample in read_archive(handle, name, reading.encoding, reading.column):
            if sample.problem is not None:
                yield Refused(sample.name, sample.problem)
            else:
                yield Entry(sample.name, sample.captions, sample.picture, sample.mask)


def _folder(storage: Storage, names: list[str], reading: Reading) -> Iterator[Entry | Refused]:
    table = Table()
    for name in names:
        if posixpath.basename(name) in TABLES:
            try:
                found = read_table(read_bounded(storage, name, MAX_TABLE), name, reading.encoding, reading.column)
            except ReinError as error:
                yield Refused(name, str(error))
                continue
            table.rows |= found.rows
            table.problems += found.problems
    yield from (Refused(*problem) for problem in table.problems)
    there = set(names)
    masks = _masks(names, table)
    is_mask = set(masks.values())
    for name in names:
        if name in is_mask:
            continue
        suffix = posixpath.splitext(name)[1].lower()
        if is_archive(name):
            try:
                yield from read_archive_entries(storage, name, reading)
            except (InputError, DamagedFileError) as error:
                yield Refused(name, str(error))
        elif suffix in UNREAD_PICTURES:
            yield Refused(name, f"a {suffix} file: PNG, JPEG and WebP pictures are read; convert it")
        elif suffix in PICTURE_SUFFIXES:
            yield _entry(storage, name, table, masks.get(name), reading, there)
    yield from (Refused(name, "the table names it, and it is not there") for name in table.rows if name not in there)


def _listed(storage: Storage, table: Table) -> Iterator[Entry | Refused]:
    """The pictures that a table names, where the place itself cannot be listed or more lies there."""
    yield from (Refused(*problem) for problem in table.problems)
    for row in table.rows.values():
        content, mask = _reader(storage, row.name), _mask(storage, row.mask)
        yield Entry(row.name, row.captions, content, mask, row.name, row.mask, row.origin)


def _entry(
    storage: Storage, name: str, table: Table, mask: str | None, reading: Reading, there: set[str]
) -> Entry | Refused:
    row = table.rows.get(name)
    captions = row.captions if row is not None else ()
    if not captions:
        try:
            captions = _beside(storage, name, reading, there)
        except (InputError, DamagedFileError) as error:
            return Refused(name, str(error))
    origin = None if row is None else row.origin
    return Entry(name, captions, _reader(storage, name), _mask(storage, mask), name, mask, origin)


def _beside(storage: Storage, name: str, reading: Reading, there: set[str]) -> tuple[str, ...]:
    """The captions in the file beside a picture, if there is one."""
    stem = posixpath.splitext(name)[0]
    for suffix in CAPTION_SUFFIXES:
        if stem + suffix in there:
            content = read_bounded(storage, stem + suffix, MAX_CAPTION_FILE)
            return captions_of(decoded(content, stem + suffix, reading.encoding))
    return ()


def _masks(names: list[str], table: Table) -> dict[str, str]:
    """Which picture has which mask: by the table, by a name beside it, or by the same name in a folder `masks`."""
    there = set(names)
    found = {row.name: row.mask for row in table.rows.values() if row.mask is not None and row.mask in there}
    stems: dict[str, str] = {}
    for name in names:
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() in PICTURE_SUFFIXES:
            stems.setdefault(stem, name)
    for stem, name in stems.items():
        folder, base = posixpath.split(stem)
        places = [stem.removesuffix(ending) for ending in MASK_ENDINGS if stem.endswith(ending)]
        if posixpath.basename(folder) == MASK_FOLDER:
            places.append(posixpath.join(posixpath.dirname(folder), base))
        for place in places:
            if place in stems and stems[place] not in found:
                found[stems[place]] = name
    return found


def _mask(storage: Storage, name: str | None) -> Callable[[], bytes] | None:
    return None if name is None else _reader(storage, name)


def _reader(storage: Storage, name: str) -> Callable[[], bytes]:
    return lambda: read_bounded(storage, name, MAX_FILE_BYTES)
