"""A collection of pictures made into a folder to train on: `rein data prepare`.

The folder appears when it is complete, and not at all after an error or an interrupt:

    OUT/pictures/000001.png     every picture at the size of its bucket
    OUT/masks/000001.png        where there are masks
    OUT/metadata.jsonl          file names, captions, where each came from
    OUT/dataset.json            how it was made, statistics (`rein.data.set_file`)
    OUT/refused.csv             what was left out, and why
    OUT/report.html             all of it to look at
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rein.data.augment import Augmenter
from rein.data.caption_edits import with_trigger
from rein.data.duplicates import find_duplicates
from rein.data.entries import Entry, Refused, read_entries
from rein.data.made import Made, NotMade, make_picture
from rein.data.preparation import Outcome, Preparation
from rein.data.prepare_page import report_page
from rein.data.prepared_folder import FolderInMaking, names_of_files, row_of, set_file_of
from rein.data.set_file import SET_FILE
from rein.data.storage import open_storage
from rein.errors import InputError

Row = dict[str, object]

THUMBNAILS = 20_000
"""So many pictures are kept in memory as thumbnails, some 3 kB each, for the report."""


@dataclass(frozen=True)
class Progress:
    """How far the work is: pictures looked at or made, what is being done, and at the end what came of it."""

    done: int
    stage: str
    outcome: Outcome | None = None


def prepare_pictures(
    sources: Sequence[str], out: Path, wanted: Preparation, replaced: bool = False
) -> Iterator[Progress]:
    """Make `out` from everything in `sources`; the last progress has the outcome.

    Args:
        sources: folders, tables, tar archives, addresses that fsspec knows.
        out: a folder that is not there yet, or is empty.
        replaced: `out` may be a prepared folder; it is replaced when the new one is complete.

    Raises:
        InputError: nothing at a source, nothing usable in all of them, a place that is taken.
        OutputError: the folder cannot be written, the disk is full. Nothing is left behind then.
    """
    _check_place(sources, out, replaced)
    augmenter = None if wanted.augmentations is None else Augmenter(wanted.augmentations)
    outcome = Outcome(out)
    folder = FolderInMaking(out)
    try:
        for number, made in enumerate(_all_made(sources, wanted), 1):
            if isinstance(made, NotMade):
                outcome.refused.append(made)
            else:
                folder.store(made, number)
                outcome.kept[number] = _remembered(made, number <= THUMBNAILS)
            yield Progress(number, "reading")
        _take_out_twins(outcome, folder, wanted.duplicates)
        if not outcome.kept:
            raise InputError(_nothing(sources, outcome))
        outcome.kept = {number: _triggered(made, wanted.trigger) for number, made in outcome.kept.items()}
        rows = [row_of(made, number) for number, made in outcome.kept.items()]
        if augmenter is not None:
            for row in _copies(outcome, folder, augmenter, wanted.copies):
                rows.append(row)
                yield Progress(len(rows), "copies")
        outcome.set_file = set_file_of(list(outcome.kept.values()), len(rows), wanted)
        folder.write_tables(rows, outcome, outcome.set_file, report_page(outcome, wanted).render())
        folder.appear()
    finally:
        folder.discard()
    yield Progress(len(rows), "done", outcome)


def _check_place(sources: Sequence[str], out: Path, replaced: bool) -> None:
    if not sources:
        raise InputError("give a folder, a table or an archive to read")
    place = out.resolve()
    for source in sources:
        folder = Path(source).expanduser().resolve()
        if "://" not in source and folder.is_dir() and (place == folder or folder in place.parents):
            raise InputError(f"{out} lies in {source}, which is read: choose a place beside it")
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file: give a folder that is not there yet")
    if any(out.iterdir()) and not (out / SET_FILE).is_file():
        raise InputError(f"{out} holds something else: give a folder that is not there yet")
    if any(out.iterdir()) and not replaced:
        raise InputError(f"{out} is a prepared folder already: give another one, or --replace to make it again")


def _all_made(sources: Sequence[str], wanted: Preparation) -> Iterator[Made | NotMade]:
    """All pictures in their order, made by several threads that are never far ahead."""
    sizes = wanted.pictures.sizes(wanted.size)
    threads = wanted.threads or min(16, os.cpu_count() or 1)
    waiting: deque[Future[Made | NotMade] | NotMade] = deque()

    def first() -> Made | NotMade:
        entry = waiting.popleft()
        return entry if isinstance(entry, NotMade) else entry.result()

    with ThreadPoolExecutor(threads) as pool:
        try:
            for found in _found(sources, wanted):
                if isinstance(found, Refused):
                    waiting.append(NotMade(found))
                else:
                    box = wanted.boxes.get(found.name)
                    waiting.append(pool.submit(partial(make_picture, found, wanted.pictures, sizes, wanted.least, box)))
                if len(waiting) > 2 * threads:
                    yield first()
            while waiting:
                yield first()
        finally:
            for entry in waiting:
                if isinstance(entry, Future):
                    entry.cancel()


def _found(sources: Sequence[str], wanted: Preparation) -> Iterator[Entry | Refused]:
    unused = set(wanted.boxes)
    for source in sources:
        storage, single = open_storage(source)
        for found in read_entries(storage, single, wanted.pictures.reading):
            unused.discard(found.name)
            if isinstance(found, Entry) and wanted.need_captions and not found.captions:
                yield Refused(found.name, "it has no caption")
            else:
                yield found
    yield from (Refused(name, "the list of crops names it, and it was not found") for name in sorted(unused))


def _remembered(made: Made, seen: bool) -> Made:
    """What is needed of a stored picture later, which is not its bytes."""
    mask = None if made.mask_png is None else b""
    return replace(made, png=b"", mask_png=mask, thumbnail=made.thumbnail if seen else b"")


def _triggered(made: Made, trigger: str) -> Made:
    """The trigger in front of every caption, or in place of one that is missing."""
    captions = tuple(with_trigger(caption, trigger) for caption in made.captions) or ((trigger,) if trigger else ())
    return replace(made, captions=captions)


def _take_out_twins(outcome: Outcome, folder: FolderInMaking, most: int | None) -> None:
    """Of near-duplicates the one with the most pixels stays, then one with a caption, then the first."""
    if most is None:
        return
    numbers, kept = list(outcome.kept), list(outcome.kept.values())
    order = sorted(range(len(kept)), key=lambda i: (-kept[i].size[0] * kept[i].size[1], not kept[i].captions, i))
    twins = find_duplicates([made.look for made in kept], order, most)
    for place, other in sorted(twins.items()):
        folder.remove(numbers[place])
        outcome.twins.append((kept[place], kept[other]))
        del outcome.kept[numbers[place]]


def _copies(outcome: Outcome, folder: FolderInMaking, augmenter: Augmenter, count: int) -> Iterator[Row]:
    """Store augmented versions of every picture, and give what metadata.jsonl says of each."""
    for number, made in outcome.kept.items():
        masked = made.mask_png is not None
        pixels, mask = folder.load(number, masked)
        for copy in range(1, count + 1):
            drawn, moved = augmenter.draw(pixels, mask, made.digest, copy)
            folder.store_copy(number, copy, drawn, moved)
            outcome.copies += 1
            yield row_of(made, number) | names_of_files(number, copy, masked) | {"copy": copy}


def _nothing(sources: Sequence[str], outcome: Outcome) -> str:
    told = ", ".join(sources)
    if not outcome.refused:
        return f"there are no pictures in {told}: PNG, JPEG and WebP files are read, in folders and tar archives"
    first = "; ".join(f"{entry.refused.name}: {entry.refused.reason}" for entry in outcome.refused[:3])
    return f"no picture in {told} can be used, {len(outcome.refused)} were left out: {first}"
