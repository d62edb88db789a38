"""In which order a picture grows beyond its edges: windows at the model's own size, each with known pixels in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from rein import masks
from rein.masks import Array, Box

Margins = tuple[int, int, int, int]

_SOFT_AFTER = 16
"""Pixels beyond the edge after which nothing fine of it is drawn out."""


@dataclass(frozen=True)
class Window:
    """A part of the final picture that is drawn in one pass, and how much of the final picture is known before."""

    box: Box
    known: tuple[Box, ...]

    def size(self, unit: int) -> tuple[int, int]:
        """Width and height that are drawn for it: whole latent pixels."""
        left, top, right, bottom = self.box
        width, height = (max(unit, -(-side // unit) * unit) for side in (right - left, bottom - top))
        return width, height


def windows(size: tuple[int, int], margins: Margins, native: int, unit: int) -> list[Window]:
    """The passes that add `margins` (left, top, right, bottom) to a picture of `size` (width, height), in pixels.

    Each adds at most half of `native`, the side that the model was trained at, and sees as much of the picture as fits
    beside it. An edge longer than one and a half times that is done in parts that overlap.
    """
    left, top, _, _ = margins
    known = [left, top, left + size[0], top + size[1]]
    found: list[Window] = []
    parts: list[Box] = [_box(known)]
    for side in (0, 2, 1, 3):
        rest = margins[side]
        while rest:
            step = min(rest, max(unit, native // 2))
            for box in _strip(known, side, step, native):
                found.append(Window(box, tuple(parts)))
                parts.append(_within(box, known, side, step))
            known[side] += step if side > 1 else -step
            parts = [_box(known)]
            rest -= step
    return found


def _box(known: list[int]) -> Box:
    return known[0], known[1], known[2], known[3]


def _strip(known: list[int], side: int, step: int, native: int) -> Iterator[Box]:
    """Windows along one edge, each `step` beyond it and the rest of the native side within."""
    axis = side % 2
    low, high = known[axis], known[axis + 2]
    depth = min(native, high - low + step)
    span = (low - step, low - step + depth) if side < 2 else (high + step - depth, high + step)
    first, last = known[1 - axis], known[3 - axis]
    for begin, end in _spans(first, last, native):
        yield (span[0], begin, span[1], end) if axis == 0 else (begin, span[0], end, span[1])


def _spans(first: int, last: int, native: int) -> Iterator[tuple[int, int]]:
    """`first` to `last` in parts of `native` that overlap by a quarter at least; a little more than one is one."""
    length = last - first
    if length <= native * 3 // 2:
        yield first, last
        return
    count = -(-(length - native) // (native * 3 // 4)) + 1
    for index in range(count):
        begin = first + round(index * (length - native) / (count - 1))
        yield begin, begin + native


def _within(box: Box, known: list[int], side: int, step: int) -> Box:
    """What of a window is new: it is known for the windows after it."""
    grown = list(known)
    grown[side] += step if side > 1 else -step
    return max(box[0], grown[0]), max(box[1], grown[1]), min(box[2], grown[2]), min(box[3], grown[3])


def canvas(picture: Image.Image, margins: Margins) -> Image.Image:
    """The picture on a larger one, the colours of its edges drawn out into the new parts, ever softer."""
    left, top, right, bottom = margins
    pixels = np.asarray(picture)
    for axis, before, after in ((1, left, right), (0, top, bottom)):
        new = np.flip(_drawn_out(pixels, axis, 0, before), axis), _drawn_out(pixels, axis, -1, after)
        pixels = np.concatenate([new[0], pixels, new[1]], axis)
    return Image.fromarray(pixels)


def _drawn_out(pixels: NDArray[np.uint8], axis: int, edge: int, length: int) -> NDArray[np.uint8]:
    """The line of pixels at an edge, `length` times beside each other: first as it is, then blurred along itself."""
    line = pixels.take([edge], axis)
    soft = np.asarray(Image.fromarray(line).filter(ImageFilter.GaussianBlur(line.shape[1 - axis] / 8)))
    share = np.minimum(np.arange(length, dtype=np.float32) / _SOFT_AFTER, 1)
    mixed = line + (soft.astype(np.float32) - line) * np.expand_dims(share, (1 - axis, 2))
    drawn: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return drawn


def unknown(size: tuple[int, int], known: tuple[Box, ...]) -> Array:
    """The mask (H, W) of what no box holds."""
    mask = np.ones((size[1], size[0]), dtype=np.float32)
    for left, top, right, bottom in known:
        mask[top:bottom, left:right] = 0
    return mask


def joined(mask: Array, blur: float) -> tuple[Array, Array]:
    """For a seam that does not show: what is drawn, and how much of it is laid over the picture.

    All of the new part is laid on, and over 2.5 blurs beyond it less and less; beyond that the picture stays as it is.
    What is drawn reaches as far, so that the network sees both sides of the seam.
    """
    reach = int(2.5 * blur + 0.5)
    grown = _dilated(mask, reach)
    return _dilated(grown, reach), masks.blurred(grown, blur)


def _dilated(mask: Array, reach: int) -> Array:
    """The mask with `reach` more pixels on every side."""
    if reach == 0:
        return mask
    image = Image.fromarray((mask > 0).astype(np.uint8) * 255)
    # Pillow's filter looks at every pixel of its window, so a wide one is made of narrow ones.
    while reach > 0:
        image = image.filter(ImageFilter.MaxFilter(2 * min(reach, 5) + 1))
        reach -= 5
    return (np.asarray(image) > 0).astype(np.float32)
