"""Where pictures go: names that replace nothing, in a place that is tried before the long work."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rein.errors import InputError, OutputError, quoted
from rein.files import OTHER_PICTURES, PICTURE_SUFFIXES, format_of, suffix_of, write_failure

DEFAULT_FOLDER = "pictures"

_PROBE_BYTES = 2**16
"""Written and removed again to see whether a folder takes a picture: about the size of a small one."""

_SLUG_BYTES = 80


@dataclass(frozen=True)
class Place:
    """A folder, the beginning of the names in it, and how they go on.

    Fields:
        folder: where the files go.
        stem: the beginning of every name.
        style: "seeds" names pictures STEM-SEED.png; "numbers" STEM-1.png, STEM-2.png and so on; "single" STEM.png, in
            which `{seed}` stands for the seed.
        suffix: ".png" or another of `PICTURE_SUFFIXES`, in the letters that were given.
    """

    folder: Path
    stem: str
    style: Literal["seeds", "numbers", "single"]
    suffix: str = ".png"

    @classmethod
    def of(cls, output: str | None, prompt: str, count: int, file_format: str | None = None) -> Place:
        """The place that is asked for: a picture file, a folder, or (None) the folder `pictures`.

        `file_format` None is what the name tells, and PNG in a folder. `count` is how many pictures there will be.

        Raises:
            InputError: it names a file of another kind, or something that no file can be called; an unknown format.
        """
        wanted = DEFAULT_FOLDER if output is None else output
        if not wanted or "\0" in wanted:
            raise InputError(f"output is {quoted(wanted)}: give a folder, or a file name that ends in .png")
        usual = suffix_of(file_format or "png")
        path = Path(wanted)
        suffix = path.suffix.lower()
        is_folder = os.path.isdir(path) or wanted.endswith((os.sep, os.altsep or os.sep))
        if not is_folder and suffix in PICTURE_SUFFIXES:
            if file_format is not None and suffix_of(format_of(path)) != usual:
                raise InputError(f"output is {quoted(wanted)}: format {file_format} needs a name that ends in {usual}")
            single = count == 1 or "{seed}" in path.stem
            return cls(path.parent, path.stem, "single" if single else "numbers", path.suffix)
        if not is_folder and suffix in OTHER_PICTURES:
            raise InputError(
                f"output is {quoted(wanted)}: pictures are written as PNG, JPEG or WebP; give a name in .png"
            )
        return cls(path, slug(prompt), "seeds", usual)

    def check(self) -> None:
        """Try the place, so that long work does not end in a refusal. A missing folder is made, with those above it.

        For a file, its folder must be there: a missing one is more likely a slip.

        Raises:
            OutputError: no file can be written there.
        """
        try:
            if self.style == "seeds":
                self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder, prefix=".rein-") as handle:
                handle.write(bytes(_PROBE_BYTES))
                handle.flush()
            with contextlib.suppress(FileNotFoundError):
                os.stat(self.folder / f"{self.stem}-{0:020}{self.suffix}")  # refuses a name that is too long
        except FileExistsError as error:
            raise OutputError(f"cannot write into {self.folder}: it is a file, not a folder or a .png name") from error
        except OSError as error:
            raise write_failure(self._shown, error) from error

    def picture(self, seed: int) -> Path:
        """The name for the picture of `seed`. With "numbers", the next one up; else the name may be taken."""
        if self.style == "numbers":
            return self.folder / f"{self.stem}-{self._last_number() + 1}{self.suffix}"
        stem = f"{self.stem}-{seed}" if self.style == "seeds" else self.stem.replace("{seed}", str(seed))
        return self.folder / f"{stem}{self.suffix}"

    def written(self, seed: int, replacing: bool, write: Callable[[Path], object]) -> Path:
        """Have the picture of `seed` written, and say where. A missing folder for pictures is made.

        Unless it is to replace what is there, the name gets -1, -2 ... where it is taken.

        Args:
            write: as `written_free` has it.

        Raises:
            OutputError: no file can be written there; as `write`.
        """
        try:
            if self.style == "seeds":
                self.folder.mkdir(parents=True, exist_ok=True)
            wanted = self.picture(seed)
        except OSError as error:
            raise write_failure(self._shown, error) from error
        if not replacing:
            return written_free(wanted, write)
        write(wanted)
        return wanted

    def sheet(self, seed: int) -> Path:
        """The name for the sheet of the pictures from `seed` on; it may be taken."""
        beginning = f"{self.stem}-{seed}" if self.style == "seeds" else self.stem.replace("{seed}", str(seed))
        return self.folder / f"{beginning}-sheet{self.suffix}"

    @property
    def _shown(self) -> Path:
        """What an error calls it."""
        return self.folder if self.style == "seeds" else self.folder / f"{self.stem}{self.suffix}"

    def _last_number(self) -> int:
        """The highest number in use; 0 for none."""
        pattern = re.compile(rf"{re.escape(self.stem)}-([0-9]{{1,9}}){re.escape(self.suffix)}", re.IGNORECASE)
        found = (pattern.fullmatch(entry.name) for entry in os.scandir(self.folder))
        return max((int(match[1]) for match in found if match), default=0)


def free_name(wanted: Path) -> Path:
    """A name that is not taken now: `wanted`, or with -1, -2 ... at its end. Another program may take it meanwhile."""
    return next(path for path in _numbered(wanted) if not os.path.lexists(path))


def written_free(wanted: Path, write: Callable[[Path], object]) -> Path:
    """Have a file written at `wanted`, or under the first name with -1, -2 ... that is free, and say where.

    Args:
        write: writes at the path that it is given, or raises `FileExistsError` where another program was faster, as
            `rein.files.atomic_file` does without `replace`.
    """
    for path in _numbered(wanted):
        if not os.path.lexists(path):
            with contextlib.suppress(FileExistsError):
                write(path)
                return path
    raise AssertionError("names do not end")


def _numbered(wanted: Path) -> Iterator[Path]:
    yield wanted
    for number in itertools.count(1):
        yield wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")


def slug(text: str) -> str:
    """The beginning of a file name from a prompt: "A red apple, flat style" gives "a-red-apple-flat-style".

    Letters and digits of any script stay, the rest becomes hyphens; at most 80 bytes, cut between words where possible.
    """
    words = re.findall(r"[^\W_]+", text[:400].lower())
    name = ""
    for word in words:
        longer = f"{name}-{word}" if name else word
        if len(longer.encode("utf-8", "replace")) > _SLUG_BYTES:
            break
        name = longer
    if not name and words:
        name = words[0].encode("utf-8", "replace")[:_SLUG_BYTES].decode("utf-8", "ignore")
    return name or "picture"
