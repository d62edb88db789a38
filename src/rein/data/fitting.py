"""Pictures of any shape cut and scaled to a few shapes: aspect-ratio buckets, and which part of a picture is kept.

A training batch needs pictures of one size. Cutting all of them square loses heads and feet; instead there are several
sizes of about the same number of pixels, and each picture goes to the one whose shape is nearest (the "aspect ratio
bucketing" that NovelAI described for SD1 in 2022).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.data.colour_spaces import ColourSpace, from_space, to_space
from rein.errors import InputError

Size = tuple[int, int]
"""Width and height in pixels."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of a picture, right and bottom being outside."""

Crop = Literal["centre", "smart"]
CROPS: tuple[Crop, ...] = ("centre", "smart")

_INTEREST_SIDE = 128
_CENTRE_BONUS = 0.05


def usual_step(size: int) -> int:
    """Of how many pixels the sides of buckets are multiples: 64 from 512 pixels on, an eighth of the size below."""
    return min(64, max(8, size // 64 * 8))


def bucket_sizes(size: int, step: int, longest: float = 2.0) -> tuple[Size, ...]:
    """All sizes of at most size x size pixels, from the narrowest to the widest; size x size is among them.

    Args:
        size: side of the square one, a multiple of 8.
        step: sides are multiples of this; it is a multiple of 8.
        longest: the long side divided by the short one is at most this; 1 leaves only the square.

    Raises:
        InputError: a number out of range.
    """
    if size < 8 or size % 8:
        raise InputError(f"size is {size}: it must be a multiple of 8, at least 8")
    if step < 8 or step % 8:
        raise InputError(f"bucket step is {step}: it must be a multiple of 8, at least 8")
    if not 1 <= longest <= 8:
        raise InputError(f"longest bucket shape is {longest}: it must be from 1 to 8")
    found = {(size, size)}
    for width in range(step, int(size * math.sqrt(longest)) + step, step):
        height = size * size // width // step * step
        if height and max(width, height) / min(width, height) <= longest + 1e-9:
            found |= {(width, height), (height, width)}
    return tuple(sorted(found, key=lambda entry: (entry[0] / entry[1], entry)))


def nearest_bucket(size: Size, buckets: tuple[Size, ...]) -> Size:
    """The bucket whose shape is nearest to that of a picture; among equals the one with the most pixels."""
    shape = math.log(size[0] / size[1])
    return min(buckets, key=lambda entry: (round(abs(math.log(entry[0] / entry[1]) - shape), 9), -entry[0] * entry[1]))


def kept_box(image: Image.Image, target: Size, crop: Crop | Box) -> Box:
    """The largest part of `image` in the shape of `target`.

    Args:
        crop: "centre" keeps the middle; "smart" the place along the longer side that has the most edges; a box keeps
            the middle of that box, which must lie within the picture.
    """
    if not isinstance(crop, str):
        return _within(crop, target, (0.5, 0.5))
    whole: Box = (0.0, 0.0, float(image.width), float(image.height))
    if crop == "centre":
        return _within(whole, target, (0.5, 0.5))
    return _within(whole, target, _interesting(image, target))


def fitted(image: Image.Image, target: Size, box: Box, space: ColourSpace = "srgb") -> Image.Image:
    """The part `box` of `image` (RGB) at the size `target`, by Lanczos.

    Args:
        space: in which the pixels are averaged. In sRGB, as most programs do it, fine bright detail gets too dark.
    """
    if box == (0.0, 0.0, *image.size) and image.size == target:
        return image
    if space == "srgb":
        return image.resize(target, Image.Resampling.LANCZOS, box=box)
    planes = np.moveaxis(to_space(np.asarray(image), space), -1, 0)
    scaled = [_plane(plane, target, box, Image.Resampling.LANCZOS) for plane in planes]
    return Image.fromarray(from_space(np.stack(scaled, axis=-1), space))


def fitted_mask(mask: NDArray[np.uint8], target: Size, box: Box) -> NDArray[np.uint8]:
    """The same part of a mask (H, W), 255 being what counts, at the same size; without Lanczos' overshoot."""
    scaled = _plane(mask.astype(np.float32), target, box, Image.Resampling.BILINEAR)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _plane(plane: NDArray[np.float32], target: Size, box: Box, filter_: Image.Resampling) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize(target, filter_, box=box), dtype=np.float32)


def _within(box: Box, target: Size, place: tuple[float, float]) -> Box:
    """The largest part of `box` in the shape of `target`; `place` says where along what is left over, 0 to 1."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    wanted = target[0] / target[1]
    kept_width, kept_height = min(width, height * wanted), min(height, width / wanted)
    left += (width - kept_width) * place[0]
    top += (height - kept_height) * place[1]
    return left, top, min(left + kept_width, right), min(top + kept_height, bottom)


def _interesting(image: Image.Image, target: Size) -> tuple[float, float]:
    """Where along what is left over the window with the most edges lies; the middle where nothing stands out."""
    scale = _INTEREST_SIDE / max(image.size)
    small = image.convert("L").resize(
        (max(2, round(image.width * scale)), max(2, round(image.height * scale))), Image.Resampling.BOX
    )
    grey = np.asarray(small, dtype=np.float64)
    edges = np.zeros_like(grey)
    edges[:, 1:] += np.abs(np.diff(grey, axis=1))
    edges[1:, :] += np.abs(np.diff(grey, axis=0))
    wanted = target[0] / target[1]
    if image.width / image.height > wanted:
        return _best_window(edges.sum(axis=0), wanted * grey.shape[0]), 0.5
    return 0.5, _best_window(edges.sum(axis=1), grey.shape[1] / wanted)


def _best_window(weights: NDArray[np.float64], length: float) -> float:
    """Start of the heaviest window of `length` entries, as a part (0 to 1) of the room that is left over."""
    count = min(len(weights), max(1, round(length)))
    sums = np.convolve(weights, np.ones(count), mode="valid")
    if len(sums) == 1 or sums.max() <= 0:
        return 0.5
    places = np.linspace(0, 1, len(sums))
    # Of windows that hold about the same, the one nearer to the middle.
    return float(places[np.argmax(sums / sums.max() - _CENTRE_BONUS * np.abs(places - 0.5))])
