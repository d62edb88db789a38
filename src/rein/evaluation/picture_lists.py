"""Pictures to be judged, with their names and prompts: a folder, an archive, a table, or what a model drew.

A prompt is the caption beside a picture or in its table; else what the picture itself says of how it was made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from rein.data.entries import Entry, read_entries
from rein.data.storage import open_storage
from rein.errors import InputError, ReinError
from rein.evaluation.gallery import Gallery, Order
from rein.evaluation.results import RESULTS_NAME, Results, read_results
from rein.image_files import read_image, read_layers, read_texts
from rein.pipeline.recorded import read_recorded


@dataclass(frozen=True)
class Listed:
    """One picture: its name without the ending, how it is read, and how its prompt is found (None: there is none)."""

    name: str
    read: Callable[[], Image.Image]
    prompt: Callable[[], str | None]


class PictureList:
    """Pictures in an order that stays, each read when it is asked for.

    Attributes:
        label: how reports call them.
        skipped: (name, reason) of what was found and is no picture that can be read.
        folder: name of the gallery's folder, of pictures that were drawn for this; else "".
    """

    def __init__(
        self, label: str, listed: Sequence[Listed], skipped: Sequence[tuple[str, str]] = (), folder: str = ""
    ) -> None:
        self.label, self._listed, self.skipped, self.folder = label, list(listed), tuple(skipped), folder

    def __len__(self) -> int:
        return len(self._listed)

    def __getitem__(self, place: int, /) -> Image.Image:
        return self._listed[place].read()

    @property
    def names(self) -> list[str]:
        """Names without endings; they pair pictures of two lists."""
        return [listed.name for listed in self._listed]

    @cached_property
    def prompts(self) -> list[str | None]:
        """The prompt of each picture, or None."""
        return [listed.prompt() for listed in self._listed]

    def some(self, places: Sequence[int]) -> PictureList:
        """Those at some places, in that order."""
        return PictureList(self.label, [self._listed[place] for place in places])


def open_list(place: str | os.PathLike[str], fewest: int = 1) -> PictureList:
    """The pictures in a folder and below, in an archive or a table, as `rein data prepare` reads them.

    The folder that `rein evaluate model` wrote stands for the pictures that its results are about, and one that
    `rein evaluate pictures` wrote for those that were judged.

    Raises:
        InputError: there is nothing, or fewer than `fewest` pictures.
        DamagedFileError: an archive or a table cannot be read.
    """
    found = _listed_in(place)
    if not len(found) and (judged := _judged_by(place)) is not None:
        found = _listed_in(judged)
    if len(found) < fewest:
        said = "there is 1 picture" if len(found) == 1 else f"there are {len(found) or 'no'} pictures"
        raise InputError(f"{said} in {os.fspath(place)}, and {fewest} at least are needed (PNG, JPEG, WebP)")
    return found


def _listed_in(place: str | os.PathLike[str]) -> PictureList:
    storage, single = open_storage(_drawn_in(place))
    listed: list[Listed] = []
    skipped: list[tuple[str, str]] = []
    for entry in read_entries(storage, single):
        if isinstance(entry, Entry):
            # A picture of an archive has the archive's own name before it, which says nothing where that was asked for.
            name = entry.name if single is None else entry.name.removeprefix(f"{single}/")
            within = f"{os.fspath(place)}/{name}" if entry.file is None else os.path.join(storage.place, entry.file)
            listed.append(_listed(entry, name, within))
        else:
            skipped.append((entry.name, entry.reason))
    return PictureList(os.fspath(place), listed, skipped)


def _drawn_in(place: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The folder of the pictures that a model drew, where `place` is that of their results; else `place`."""
    results = _results_in(place)
    inside = None if results is None else Path(place) / Path(results.settings.get("pictures", "")).name
    return inside if inside is not None and inside.is_dir() else place


def _judged_by(place: str | os.PathLike[str]) -> str | None:
    """What the results in a folder are about, if it is there; None where there are none."""
    results = _results_in(place)
    if results is None:
        return None
    there = "://" in results.drawn or (Path(results.drawn).exists() and not Path(results.drawn).samefile(place))
    return results.drawn if there else None


def _results_in(place: str | os.PathLike[str]) -> Results | None:
    """The results in a folder; None where there are none, or somebody else's file of that name."""
    path = Path(place) / RESULTS_NAME
    try:
        return read_results(path) if path.is_file() else None
    except ReinError:
        return None


def _listed(entry: Entry, name: str, path: str) -> Listed:
    """An entry under its name in the list; `path` says where it is, and where that is a file, it is one."""

    def read() -> Image.Image:
        return read_layers(entry.content(), path)[0]

    def prompt() -> str | None:
        if entry.captions:
            return entry.captions[0]
        return None if entry.file is None else recorded_prompt(Path(path))

    return Listed(os.path.splitext(name)[0], read, prompt)


def recorded_prompt(path: Path) -> str | None:
    """The prompt inside a picture file: Rein's, or another program's that Rein reads; None where there is none."""
    try:
        texts = read_texts(path)
        if "rein" not in texts and {"prompt", "seed"} <= texts.keys():  # as a gallery writes them
            return texts["prompt"]
        return read_recorded(path).request.prompt
    except ReinError:
        return None


def drawn_pictures(label: str, gallery: Gallery, orders: Sequence[Order]) -> PictureList:
    """What a gallery holds of some orders; all must have been drawn."""
    return PictureList(label, [_drawn(gallery.path(order), order[0]) for order in orders], folder=gallery.folder.name)


def _drawn(path: Path, prompt: str) -> Listed:
    return Listed(path.stem, lambda: read_image(path), lambda: prompt)


def paired_places(first: PictureList, second: PictureList) -> list[tuple[int, int]]:
    """The places of pictures that have the same name in both lists.

    Raises:
        InputError: there is none.
    """
    places = {name: place for place, name in enumerate(second.names)}
    pairs = [(place, places[name]) for place, name in enumerate(first.names) if name in places]
    if not pairs:
        raise InputError(f"no picture in {first.label} has the name of one in {second.label}; pairs go by their names")
    return pairs
