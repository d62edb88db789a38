"""Large things worked on in overlapping parts: where the parts lie, and how they are joined without a seam.

Beside a cut a part lacks what lies behind it, so its values there are the worst. Where two parts overlap, each fades
out towards its own cut, and the weights of all parts add up to 1 everywhere: equal values stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.images import to_rgb

Span = tuple[int, int]
"""From the first element to the one after the last."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, as Pillow has them: right and bottom are the first pixels outside."""


def spans(length: int, side: int, overlap: int, unit: int = 1) -> list[Span]:
    """Parts of `side` elements that cover `length` elements, spread evenly; neighbours share `overlap` at least.

    Args:
        unit: parts begin at multiples of it. With more than 1 the last part may be up to `unit` - 1 longer, and
            `side` - `overlap` must be `unit` at least.

    Raises:
        ValueError: an overlap below 0, or one that leaves nothing between two parts' beginnings.
    """
    step = (side - overlap) // unit
    if length < 1 or overlap < 0 or step < 1:
        raise ValueError(f"parts of {side} that overlap by {overlap} do not cover {length} in steps of {unit}")
    last_start = max(length - side, 0) // unit  # in units, as are steps and starts
    count = -(-last_start // step)
    starts = [last_start * place // max(count, 1) * unit for place in range(count + 1)]
    return [(start, start + side) for start in starts[:-1]] + [(starts[-1], length)]


def tiles(width: int, height: int, side: int, overlap: int, unit: int = 1) -> list[Box]:
    """Boxes of `side` x `side` that cover `width` x `height` pixels, row by row; see `spans`.

    A picture that is narrower or lower than `side` has boxes as narrow or low as itself.
    """
    across = spans(width, side, overlap, unit)
    return [(left, top, right, bottom) for top, bottom in spans(height, side, overlap, unit) for left, right in across]


def feathers(places: Sequence[Span], length: int, trim: int = 0) -> list[NDArray[np.float32]]:
    """The weight of each element of each part, which add up to 1 over the parts at every element.

    Args:
        places: as `spans` gives them: in order, without gaps.
        trim: elements beside a cut that count for nothing. Where an overlap is not wider than two trims, one part
            takes over from the other at its middle.
    """
    centres = np.arange(length) + 0.5
    rises = []
    for (_, stop), (start, _) in pairwise(places):
        if start > stop:
            raise ValueError(f"parts leave a gap from {stop} to {start}")
        half = max((stop - start) / 2 - trim, 0.5)
        rising = np.clip((centres - (start + stop) / 2 + half) / (2 * half), 0, 1)
        rises.append(rising * rising * (3 - 2 * rising))  # smooth at both ends, and 1 minus its own mirror image
    weights = np.zeros((len(places), length))
    for place, (start, stop) in enumerate(places):
        weights[place, start:stop] = 1
        if place > 0:
            weights[place] *= rises[place - 1]
        if place < len(rises):
            weights[place] *= 1 - rises[place]
    # More than two parts share an element where they overlap by more than half.
    weights /= weights.sum(axis=0)
    return [weights[place, start:stop].astype(np.float32) for place, (start, stop) in enumerate(places)]


class Mosaic:
    """Planes of values that are put together from tiles, in any order.

    Args:
        boxes: all tiles, as `tiles` gives them.
        size: width and height of the whole.
        planes: what comes before height and width in the shape of the values.
        trim: as in `feathers`.

    Attributes:
        values: (*planes, height, width) float32; complete when every tile was added once.
    """

    def __init__(
        self, boxes: Sequence[Box], size: tuple[int, int], planes: tuple[int, ...] = (3,), trim: int = 0
    ) -> None:
        width, height = size
        across = sorted({(left, right) for left, _, right, _ in boxes})
        down = sorted({(top, bottom) for _, top, _, bottom in boxes})
        if len(boxes) != len(across) * len(down) or len(set(boxes)) != len(boxes):
            raise ValueError("the boxes are not rows and columns of tiles")
        self._across = dict(zip(across, feathers(across, width, trim), strict=True))
        self._down = dict(zip(down, feathers(down, height, trim), strict=True))
        self.values = np.zeros((*planes, height, width), np.float32)

    def add(self, box: Box, values: NDArray[np.float32]) -> None:
        """Lay in one tile: (*planes, its height, its width)."""
        left, top, right, bottom = box
        if values.shape[-2:] != (bottom - top, right - left):
            raise ValueError(f"a tile of {right - left} x {bottom - top} has values of shape {values.shape}")
        weights = self._down[top, bottom][:, None] * self._across[left, right]
        with np.errstate(invalid="ignore"):  # infinity, where it counts for nothing, becomes NaN: that is seen later
            self.values[..., top:bottom, left:right] += values * weights


def blend(pictures: Sequence[Image.Image], boxes: Sequence[Box], size: tuple[int, int], trim: int = 0) -> Image.Image:
    """One picture of `size` (width, height) from a picture for each box, faded into one another where they overlap."""
    mosaic = Mosaic(boxes, size, trim=trim)
    for picture, box in zip(pictures, boxes, strict=True):
        mosaic.add(box, np.asarray(to_rgb(picture), dtype=np.float32).transpose(2, 0, 1))
    return levels_to_picture(mosaic.values)


def levels_to_picture(levels: NDArray[np.float32]) -> Image.Image:
    """(3, H, W) of levels from 0 to 255, rounded and clipped, as an RGB picture."""
    rounded = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(rounded.transpose(1, 2, 0)))
