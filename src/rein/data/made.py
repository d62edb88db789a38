"""One picture of a collection made ready: decoded, checked, cut, scaled, measured. The work of one thread."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.data.duplicates import Look, look_of
from rein.data.entries import Entry, Refused
from rein.data.fitting import Box, Size, fitted, fitted_mask, kept_box, nearest_bucket
from rein.data.pictures import PictureOptions
from rein.data.statistics import Sums, channel_sums
from rein.errors import ReinError, quoted
from rein.image_files import read_layers

THUMBNAIL = 96
"""The longer side of the small pictures in a report, in pixels."""

_COMPRESSION = 4


@dataclass(frozen=True)
class Made:
    """A picture that is ready.

    Fields:
        name: as it was found.
        captions: as they were found.
        png, mask_png: its bytes at the size of its bucket, and those of its mask, or None.
        bucket: its size now; `size` that of the file; `box` the part of the file that was kept.
        digest: SHA-256 of the file's bytes.
        look: what near-duplicates are found by.
        sums: of its colours, for the statistics of the set.
        thumbnail: JPEG bytes; none where there are very many pictures.
    """

    name: str
    captions: tuple[str, ...]
    png: bytes = field(repr=False)
    mask_png: bytes | None = field(repr=False)
    bucket: Size
    size: Size
    box: Box
    digest: str
    look: Look = field(repr=False)
    sums: Sums = field(repr=False)
    thumbnail: bytes = field(repr=False)


@dataclass(frozen=True)
class NotMade:
    """A picture that was left out, why, and how it looks if it can be seen at all."""

    refused: Refused
    thumbnail: bytes | None = field(default=None, repr=False)


def make_picture(
    entry: Entry, options: PictureOptions, sizes: tuple[Size, ...], least: int, box: Box | None
) -> Made | NotMade:
    """Make one picture ready, or say why not.

    Args:
        sizes: the buckets.
        least: pixels that the short side must have.
        box: the part to keep, from a list made by hand; None lets `options.crop` decide.
    """
    try:
        content = entry.content()
        image, opaque = read_layers(content, entry.name)
    except ReinError as error:
        return NotMade(Refused(entry.name, str(error)))
    part = box or (0, 0, *image.size)
    problem = _problem(image, part, least)
    try:
        if entry.mask is not None:
            opaque = _mask(entry.mask(), entry.name, image.size)
        elif not options.alpha_masks:
            opaque = None
    except ReinError as error:
        problem = str(error)
    if problem is not None:
        return NotMade(Refused(entry.name, problem), thumbnail_of(image))
    bucket = nearest_bucket((round(part[2] - part[0]), round(part[3] - part[1])), sizes)
    kept = kept_box(image, bucket, box or options.crop)
    cut = fitted(image, bucket, kept, options.space)
    return Made(
        name=entry.name,
        captions=entry.captions,
        png=png_bytes(cut),
        mask_png=None if opaque is None else png_bytes(Image.fromarray(fitted_mask(opaque, bucket, kept))),
        bucket=bucket,
        size=image.size,
        box=kept,
        digest=hashlib.sha256(content).hexdigest(),
        look=look_of(image),
        sums=channel_sums(np.asarray(cut)),
        thumbnail=thumbnail_of(cut),
    )


def png_bytes(image: Image.Image) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def thumbnail_of(image: Image.Image) -> bytes:
    """A small JPEG of a picture."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _problem(image: Image.Image, part: Box, least: int) -> str | None:
    width, height = round(part[2] - part[0]), round(part[3] - part[1])
    if part[0] < 0 or part[1] < 0 or part[2] > image.width or part[3] > image.height or width < 1 or height < 1:
        return f"its box {quoted(part)} in the list of crops is not within its {image.width} x {image.height} pixels"
    if min(width, height) < least:
        return f"{width} x {height} pixels: the short side must have {least} or more (--minimum says how many)"
    return None


def _mask(content: bytes, name: str, size: Size) -> NDArray[np.uint8]:
    """A mask's brightness (H, W) at the size of its picture."""
    mask, _ = read_layers(content, f"the mask of {name}")
    grey = mask.convert("L")
    return np.asarray(grey if grey.size == size else grey.resize(size, Image.Resampling.BILINEAR), dtype=np.uint8)
