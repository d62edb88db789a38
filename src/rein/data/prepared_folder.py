"""The folder that `rein data prepare` makes, while it is being made: beside its place, which it takes when complete."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.data.fitting import usual_step
from rein.data.made import Made, png_bytes
from rein.data.preparation import Outcome, Preparation
from rein.data.set_file import SET_FILE, SetFile, written
from rein.data.statistics import statistics_of
from rein.files import hidden_beside, write_failure
from rein.version import __version__

METADATA_FILE, REFUSED_FILE, REPORT_FILE = "metadata.jsonl", "refused.csv", "report.html"

Pixels = NDArray[np.uint8]


class FolderInMaking:
    """A hidden folder beside `out`. All its writing raises `OutputError` with one line about `out`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._work = hidden_beside(out)
        with self._writing():
            (self._work / "pictures").mkdir(parents=True)

    def store(self, made: Made, number: int) -> None:
        """Write a picture, and its mask if it has one."""
        self._write(_picture(number), made.png)
        if made.mask_png is not None:
            self._write(_mask(number), made.mask_png)

    def remove(self, number: int) -> None:
        """Take a picture out again."""
        with self._writing():
            (self._work / _picture(number)).unlink()
            (self._work / _mask(number)).unlink(missing_ok=True)

    def load(self, number: int, masked: bool) -> tuple[Pixels, Pixels | None]:
        """The pixels of a stored picture, and those of its mask."""
        with Image.open(self._work / _picture(number)) as image:
            pixels = np.asarray(image)
        if not masked:
            return pixels, None
        with Image.open(self._work / _mask(number)) as image:
            return pixels, np.asarray(image)

    def store_copy(self, number: int, copy: int, pixels: Pixels, mask: Pixels | None) -> None:
        """Write another version of a picture."""
        self._write(_picture(number, copy), png_bytes(Image.fromarray(pixels)))
        if mask is not None:
            self._write(_mask(number, copy), png_bytes(Image.fromarray(mask)))

    def write_tables(self, rows: Sequence[dict[str, object]], outcome: Outcome, set_file: SetFile, report: str) -> None:
        """Write what describes the pictures."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        told = io.StringIO(newline="")
        table = csv.writer(told)
        table.writerow(("name", "reason"))
        table.writerows((entry.refused.name, entry.refused.reason) for entry in outcome.refused)
        table.writerows((twin.name, f"nearly the same as {kept.name}") for twin, kept in outcome.twins)
        self._write(SET_FILE, written(set_file))
        self._write(METADATA_FILE, lines.encode("utf-8", "replace"))
        self._write(REFUSED_FILE, told.getvalue().encode("utf-8", "replace"))
        self._write(REPORT_FILE, report.encode("utf-8", "replace"))

    def appear(self) -> None:
        """Take the place of `out`. What was there goes only when the new folder is in its place."""
        former = hidden_beside(self.out, ".old")
        with self._writing():
            there = self.out.exists()
            if there:
                os.replace(self.out, former)
            try:
                os.replace(self._work, self.out)
            except OSError:
                if there:
                    os.replace(former, self.out)
                raise
        shutil.rmtree(former, ignore_errors=True)

    def discard(self) -> None:
        """Leave nothing behind, unless the folder has appeared."""
        shutil.rmtree(self._work, ignore_errors=True)

    def _write(self, name: str, content: bytes) -> None:
        with self._writing():
            path = self._work / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_failure(self.out, error) from error


def row_of(made: Made, number: int) -> dict[str, object]:
    """What metadata.jsonl says of a picture; `text` is for other programs, which know one caption."""
    return names_of_files(number, 0, made.mask_png is not None) | {
        "text": made.captions[0] if made.captions else "",
        "texts": list(made.captions),
        "source": made.name,
        "source_size": list(made.size),
        "box": [round(side, 2) for side in made.box],
        "bucket": list(made.bucket),
        "sha256": made.digest,
        "perceptual_hash": f"{made.look.hash:016x}",
    }


def names_of_files(number: int, copy: int, masked: bool) -> dict[str, object]:
    """Where a picture and its mask are, relative to the folder; copy 0 is the picture itself."""
    names: dict[str, object] = {"file_name": _picture(number, copy)}
    return names | ({"mask": _mask(number, copy)} if masked else {})


def set_file_of(kept: Sequence[Made], pictures: int, wanted: Preparation) -> SetFile:
    """The description of a set of so many pictures, with the statistics of those that are no copies."""
    options = wanted.pictures
    return SetFile(
        size=wanted.size,
        step=options.step or usual_step(wanted.size),
        longest=options.longest if options.buckets else 1.0,
        pictures=pictures,
        statistics=statistics_of(made.sums for made in kept),
        options=wanted.plain,
        program=f"rein {__version__}",
    )


def _picture(number: int, copy: int = 0) -> str:
    return f"pictures/{number:06d}{f'-{copy}' if copy else ''}.png"


def _mask(number: int, copy: int = 0) -> str:
    return f"masks/{number:06d}{f'-{copy}' if copy else ''}.png"
