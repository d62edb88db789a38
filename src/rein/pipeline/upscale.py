"""Finished pictures made larger: by interpolation, by a network in overlapping tiles, or drawn again tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from rein.errors import InputError, NonFiniteError, nearest, quoted
from rein.formats.upscalers import Upscaler
from rein.image_files import MAX_PIXELS
from rein.images import to_rgb
from rein.pipeline.tiles import Box, Mosaic, blend, levels_to_picture, tiles

__all__ = [
    "INTERPOLATIONS",
    "MAX_FACTOR",
    "Part",
    "Upscaler",
    "blend",
    "check_numbers",
    "enlarged_size",
    "redraw_steps",
    "tiles",
    "upscale",
    "upscale_steps",
]

INTERPOLATIONS = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}
"""Ways to enlarge without a network."""

MAX_FACTOR = 16.0
TILE, OVERLAP = 192, 16
"""Pixels of the picture that a network sees at once, and how many of them a neighbour sees too."""

MIN_TILE = 16

Pixels = NDArray[np.float32]

Draw = Callable[[Image.Image, int], Image.Image]
"""`(tile, index) -> tile`: a part of a picture drawn again, in the same size."""


@dataclass(frozen=True, eq=False)
class Part:
    """One finished part of the work.

    Fields:
        index, parts: this part, from 0, of how many.
        image: the whole picture; with the last part only.
    """

    index: int
    parts: int
    image: Image.Image | None = None


def upscale(
    image: Image.Image,
    factor: float,
    upscaler: str | Upscaler = "lanczos",
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Image.Image:
    """`image`, made RGB, `factor` times as wide and high.

    A network of a smaller scale is used again on its own result; what is then too large is reduced with Lanczos. One
    of scale 1, which only restores, is used once, before Lanczos.

    Args:
        factor: 1 to 16; the sides are rounded.
        upscaler: "lanczos", "nearest" or a network.
        tile: side in pixels of the parts that a network sees at once.
        overlap: pixels that neighbouring parts share. They fade into one another there.

    Raises:
        InputError: a number out of its range, an unknown name, a result of too many pixels.
        NonFiniteError: the network gave NaN or infinity.
    """
    *_, last = upscale_steps(image, factor, upscaler, tile, overlap)
    assert last.image is not None
    return last.image


def upscale_steps(
    image: Image.Image,
    factor: float,
    upscaler: str | Upscaler = "lanczos",
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Iterator[Part]:
    """The work of `upscale`, part by part; wrong arguments are refused at once. To cancel it, stop iterating."""
    check_numbers(factor, tile, overlap)
    wanted = enlarged_size(image.size, factor)
    if isinstance(upscaler, str):
        if upscaler not in INTERPOLATIONS:
            raise InputError(f"unknown upscaler {quoted(upscaler)}: {nearest(upscaler, INTERPOLATIONS)}")
        return iter([Part(0, 1, to_rgb(image).resize(wanted, INTERPOLATIONS[upscaler]))])
    passes = _passes(upscaler.scale, factor)
    _check_pixels((image.width * upscaler.scale**passes, image.height * upscaler.scale**passes))
    return _through_network(to_rgb(image), wanted, upscaler, passes, (tile, overlap))


def enlarged_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(width, height) of a picture made `factor` times as large. Raises `InputError` for more than `MAX_PIXELS`."""
    wanted = round(size[0] * factor), round(size[1] * factor)
    _check_pixels(wanted)
    return wanted


def check_numbers(factor: float, tile: int = TILE, overlap: int = OVERLAP) -> None:
    """Refuse what `upscale` would. Raises `InputError`."""
    if not 1 <= factor <= MAX_FACTOR:
        raise InputError(f"factor is {factor:g}: it must be a number from 1 to {MAX_FACTOR:g}")
    _check_tile(tile, overlap)


def _check_pixels(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(
            f"the picture would become {size[0]} x {size[1]}; up to {MAX_PIXELS:,} pixels are made: choose a smaller "
            "factor, or an upscaler of a smaller scale"
        )


def _check_tile(tile: int, overlap: int) -> None:
    if tile < MIN_TILE:
        raise InputError(f"tile is {tile}: it must be at least {MIN_TILE} pixels")
    if not 0 <= overlap <= tile // 2:
        raise InputError(f"overlap is {overlap}: it must be from 0 to {tile // 2}, half of tile")


def _passes(scale: int, factor: float) -> int:
    """How often a network is used: until the picture is as large as wanted, and once at least."""
    if scale == 1:
        return 1
    # Not by logarithms, whose rounding would make an exact power one more.
    return next(times for times in range(1, math.ceil(MAX_FACTOR) + 1) if scale**times >= factor)


def _through_network(
    image: Image.Image, wanted: tuple[int, int], upscaler: Upscaler, passes: int, tiling: tuple[int, int]
) -> Iterator[Part]:
    sizes = [(image.width * upscaler.scale**done, image.height * upscaler.scale**done) for done in range(passes)]
    plans = [tiles(*size, *tiling, upscaler.unit) for size in sizes]
    total, done = sum(len(boxes) for boxes in plans), 0
    for boxes, size in zip(plans, sizes, strict=True):
        pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
        scale = upscaler.scale
        large = size[0] * scale, size[1] * scale
        mosaic = Mosaic([_scaled(box, scale) for box in boxes], large, trim=tiling[1] * scale // 4)
        for box in boxes:
            left, top, right, bottom = box
            mosaic.add(_scaled(box, scale), _enlarged(pixels[:, top:bottom, left:right], upscaler))
            done += 1
            if done < total:
                yield Part(done - 1, total)
        image = levels_to_picture(mosaic.values * np.float32(255))
    yield Part(total - 1, total, image if image.size == wanted else image.resize(wanted, Image.Resampling.LANCZOS))


def _scaled(box: Box, scale: int) -> Box:
    left, top, right, bottom = box
    return left * scale, top * scale, right * scale, bottom * scale


@torch.inference_mode()
def _enlarged(pixels: Pixels, upscaler: Upscaler) -> Pixels:
    """A tile (3, h, w) in [0, 1], enlarged."""
    seen = torch.from_numpy(np.ascontiguousarray(pixels))[None].to(upscaler.device)
    made = upscaler.network(seen.contiguous(memory_format=torch.channels_last))[0].to("cpu", torch.float32)
    if not bool(torch.isfinite(made).all()):
        raise NonFiniteError(f"upscaler {upscaler.name!r} gave NaN or infinity: its weights are damaged")
    values: Pixels = made.clamp(0, 1).numpy()
    return values


def redraw_steps(image: Image.Image, draw: Draw, side: int, overlap: int) -> Iterator[Part]:
    """`image` drawn again in tiles, each of which `draw` makes of the tile as it is, and faded into one another.

    This is "SD upscale": `draw` is image-to-image with little strength, and `image` was enlarged before.

    Args:
        side: of the tiles, in pixels; a smaller picture is one tile of its own size.
        overlap: pixels that neighbours share.

    Raises:
        InputError: a number out of its range.
    """
    _check_tile(side, overlap)
    return _redrawn(to_rgb(image), draw, tiles(*image.size, side, overlap), overlap // 4)


def _redrawn(image: Image.Image, draw: Draw, boxes: list[Box], trim: int) -> Iterator[Part]:
    mosaic = Mosaic(boxes, image.size, trim=trim)
    for index, box in enumerate(boxes):
        part = image.crop(box)
        made = to_rgb(draw(part, index))
        if made.size != part.size:
            raise ValueError(f"tile {index} of {part.size} was drawn as {made.size}")
        mosaic.add(box, np.asarray(made, dtype=np.float32).transpose(2, 0, 1))
        if index < len(boxes) - 1:
            yield Part(index, len(boxes))
    yield Part(len(boxes) - 1, len(boxes), levels_to_picture(mosaic.values))
