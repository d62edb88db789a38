"""Captioned pictures of a folder, by number, all cut to a few sizes: what the training of a model reads.

    from rein.data.pictures import open_pictures

    pictures = open_pictures("my-cats", size=512)
    pictures.pixels(0)      # uint8 (H, W, 3)
    pictures.captions(0)    # ("a cat on a chair",)

The folder is one that `rein data prepare` wrote, or any folder of PNG, JPEG and WebP files with captions beside them
(`rein.data.entries` says how captions and masks are found). Nothing here is random: the same folder and options give
the same pixels on every machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rein.data.colour_spaces import ColourSpace, to_space
from rein.data.entries import Entry, Reading, Refused, read_entries
from rein.data.fitting import Crop, Size, bucket_sizes, fitted, fitted_mask, kept_box, nearest_bucket, usual_step
from rein.data.set_file import SetFile, Statistics, read_set_file
from rein.data.statistics import channel_sums, statistics_of
from rein.data.storage import Disk
from rein.errors import InputError, ReinError
from rein.image_files import picture_size, read_grey, read_layers

VERSION = 1
"""Of how pixels are made from files; part of the fingerprint."""

KEPT_BYTES = 2**30
"""Pixels that one set keeps in memory, so that a training run decodes each picture once where they fit."""


@dataclass(frozen=True)
class PictureOptions:
    """How the files of a folder become pictures.

    Fields:
        buckets: several shapes; False makes all pictures square.
        step: sides of buckets are multiples of this; None is `rein.data.fitting.usual_step`.
        longest: the long side of a bucket divided by its short one is at most this.
        crop: which part is kept where the shape does not fit, "centre" or "smart".
        minimum: pixels that the short side of a picture must have; None is half the size.
        space: in which pixels are averaged when a picture is scaled.
        alpha_masks: the opaque part of a picture without a mask file is its mask.
        reading: how captions are read.
    """

    buckets: bool = True
    step: int | None = None
    longest: float = 2.0
    crop: Crop = "centre"
    minimum: int | None = None
    space: ColourSpace = "srgb"
    alpha_masks: bool = False
    reading: Reading = field(default=Reading())

    def sizes(self, size: int) -> tuple[Size, ...]:
        """The buckets for pictures of about size x size pixels. Raises `InputError`."""
        return bucket_sizes(size, self.step or usual_step(size), self.longest if self.buckets else 1.0)


@dataclass(frozen=True)
class _Item:
    """A usable picture: what was found, its digests, and the bucket it goes to."""

    entry: Entry
    digest: str
    mask_digest: str
    bucket: Size
    masked: bool


class PictureSet:
    """Pictures with captions, by number from 0, in the order of their names.

    Attributes:
        folder: where they are.
        size: side in pixels of the square bucket.
        skipped: what was left out, and why.
    """

    def __init__(
        self, folder: Path, size: int, options: PictureOptions, items: Sequence[_Item], skipped: Sequence[Refused]
    ) -> None:
        self.folder, self.size, self.options = folder, size, options
        self.skipped = tuple(skipped)
        self._items = tuple(items)
        self._kept: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8] | None]] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self._items)

    def name(self, index: int) -> str:
        """Of the file, relative to the folder."""
        return self._items[index].entry.name

    def captions(self, index: int) -> tuple[str, ...]:
        """What it shows, in several ways or one; empty where nothing is said."""
        return self._items[index].entry.captions

    def bucket(self, index: int) -> Size:
        """(width, height) of its pixels."""
        return self._items[index].bucket

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """The picture, (H, W, 3) uint8 sRGB, H and W being those of its bucket; not to be written to.

        Raises:
            InputError, DamagedFileError: the file went away or changed its kind since the set was opened.
        """
        return self._layers(index)[0]

    def mask(self, index: int) -> NDArray[np.uint8] | None:
        """What of it counts, (H, W) uint8: 255 wholly, 0 not at all; None where all of it does. Raises as `pixels`."""
        return self._layers(index)[1]

    def values(self, index: int, space: ColourSpace = "srgb") -> NDArray[np.float32]:
        """The picture in a colour space, (H, W, 3) float32 in the ranges of `rein.data.colour_spaces`."""
        return to_space(self.pixels(index), space)

    def normalised(self, index: int, space: ColourSpace = "srgb") -> NDArray[np.float32]:
        """The same with the mean of the set's pixels at 0 and their deviation 1, channel by channel."""
        known = self.statistics[space]
        scaled = (self.values(index, space) - np.array(known.mean)) / np.maximum(np.array(known.deviation), 1e-6)
        normalised: NDArray[np.float32] = scaled.astype(np.float32)
        return normalised

    @cached_property
    def statistics(self) -> dict[str, Statistics]:
        """Mean and deviation of all pixels of this set, by colour space; reads every picture."""
        return statistics_of(channel_sums(self.pixels(index)) for index in range(len(self)))

    def key(self, index: int) -> str:
        """SHA-256 of all that decides the pixels and the mask, for caches; captions are not in it."""
        item = self._items[index]
        content = (VERSION, item.digest, item.mask_digest, item.bucket, self.options.crop, self.options.space)
        return _digest(repr((*content, item.masked)).encode())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pixels' keys and captions, in their order: the same content and options, the same set."""
        told = [(self.key(index), self.captions(index)) for index in range(len(self))]
        return _digest(json.dumps(told, ensure_ascii=True).encode())

    def buckets(self) -> dict[Size, tuple[int, ...]]:
        """The numbers of the pictures of each size, the sizes sorted."""
        found: dict[Size, list[int]] = {}
        for index, item in enumerate(self._items):
            found.setdefault(item.bucket, []).append(index)
        return {size: tuple(found[size]) for size in sorted(found)}

    def subset(self, indices: Sequence[int]) -> PictureSet:
        """Only these pictures, in this order."""
        return PictureSet(self.folder, self.size, self.options, [self._items[i] for i in indices], self.skipped)

    def split(self, share: float) -> tuple[PictureSet, PictureSet]:
        """Two sets: the most, and about `share` of the pictures (0 to 1) kept back to measure on.

        The content of a file decides where it goes, so that more pictures move none of those that were there. One
        picture under two names is never in both, nor are its augmented copies.
        """
        origins = [_digest((item.entry.origin or item.digest).encode()) for item in self._items]
        held = [int(origin[:8], 16) / 16**8 < share for origin in origins]
        most = [index for index, kept in enumerate(held) if not kept]
        return self.subset(most), self.subset([index for index, kept in enumerate(held) if kept])

    def _layers(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        if index not in self._kept:
            layers = self._read(self._items[index])
            used = sum(layer.nbytes for layer in layers if layer is not None)
            if used > self._room:
                return layers
            self._room -= used
            self._kept[index] = layers
        return self._kept[index]

    def _read(self, item: _Item) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        image, opaque = read_layers(item.entry.content(), item.entry.name)
        box = kept_box(image, item.bucket, self.options.crop)
        pixels = np.asarray(fitted(image, item.bucket, box, self.options.space))
        if not item.masked:
            return pixels, None
        if item.entry.mask_file is not None:
            grey = read_grey(self.folder / item.entry.mask_file)
            opaque = np.rint(grey * 255).astype(np.uint8)
            if (grey.shape[1], grey.shape[0]) != image.size:
                across, down = grey.shape[1] / image.width, grey.shape[0] / image.height
                box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        return pixels, None if opaque is None else fitted_mask(opaque, item.bucket, box)


def open_pictures(
    folder: str | os.PathLike[str], size: int | None = None, options: PictureOptions | None = None
) -> PictureSet:
    """The pictures of a folder on this disk.

    Args:
        folder: one that `rein data prepare` wrote, or any folder of pictures.
        size: side in pixels of the square bucket; None is the size that the folder was prepared for.
        options: None is what the folder was prepared with, and otherwise `PictureOptions()`.

    Raises:
        InputError: there is no such folder, no usable picture in it (with the reasons), or an option is out of range.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(f"there is no folder {os.fspath(folder)!r}")
    prepared = read_set_file(path)
    if size is None and prepared is None:
        raise InputError(f"{path} was not prepared by `rein data prepare`: say at which size its pictures are wanted")
    wanted = size if size is not None else prepared.size if prepared is not None else 0
    options = options or _options_of(prepared)
    sizes = options.sizes(wanted)
    items: list[_Item] = []
    skipped: list[Refused] = []
    for found in read_entries(Disk(path), None, options.reading):
        checked = _checked(found, path, sizes, options, wanted, prepared is not None)
        if isinstance(checked, Refused):
            skipped.append(checked)
        else:
            items.append(checked)
    if not items:
        raise InputError(_nothing(path, skipped))
    return PictureSet(path, wanted, options, items, skipped)


def _options_of(prepared: SetFile | None) -> PictureOptions:
    """Those that find the prepared pictures as they are."""
    if prepared is None:
        return PictureOptions()
    return PictureOptions(buckets=prepared.longest > 1, step=prepared.step, longest=prepared.longest, minimum=1)


def _checked(
    found: Entry | Refused, folder: Path, sizes: tuple[Size, ...], options: PictureOptions, size: int, verified: bool
) -> _Item | Refused:
    """A picture that can be used, or why not. What was `verified` when it was prepared is not decoded for that."""
    if isinstance(found, Refused):
        return found
    if found.file is None:
        return Refused(found.name, "in an archive: `rein data prepare` makes a folder of it that can be trained on")
    try:
        width, height = picture_size(folder / found.file)
        least = size // 2 if options.minimum is None else options.minimum
        if min(width, height) < least:
            return Refused(found.name, f"{width} x {height} pixels: its short side must have {least} or more")
        content = found.content()
        mask = found.mask() if found.mask is not None else None
        if not verified:
            read_layers(content, found.name)
            if mask is not None:
                read_layers(mask, f"the mask of {found.name}")
    except ReinError as error:
        return Refused(found.name, str(error))
    masked = mask is not None or options.alpha_masks
    mask_digest = _digest(mask) if mask is not None else ""
    return _Item(found, _digest(content), mask_digest, nearest_bucket((width, height), sizes), masked)


def _nothing(folder: Path, skipped: Sequence[Refused]) -> str:
    if not skipped:
        return f"there are no pictures in {folder}: it needs PNG, JPEG or WebP files"
    first = "; ".join(f"{entry.name}: {entry.reason}" for entry in skipped[:3])
    return f"no picture in {folder} can be used, {len(skipped)} were left out: {first}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
