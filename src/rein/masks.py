"""Masks as arrays (H, W) float32 from 0 to 1, 1 being painted: blurred, bounded, filled round, laid over a picture.

The order of the work and the size of the blur are those of AUTOMATIC1111's web UI, so that its settings mean the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, right and bottom being outside."""

_SMEARS = ((256.0, 1), (64.0, 1), (16.0, 2), (4.0, 4), (2.0, 2))
"""Radii in pixels, large first, and how often each is laid on."""


def resized(mask: Array, width: int, height: int) -> Array:
    """A mask at another size, its edges smooth."""
    if mask.shape == (height, width):
        return mask
    image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.float32))
    scaled: Array = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    return scaled.clip(0, 1)


def blurred(mask: Array, sigma: float) -> Array:
    """Gaussian blur of `sigma` pixels, its kernel cut off at 2.5 sigma; beyond its edge the mask goes on mirrored."""
    if sigma <= 0:
        return mask
    # Sums of float64 can miss 0 and 1 by a hair, and a pixel that is kept must be kept to the bit.
    result = np.clip(_convolved(mask, sigma, "symmetric" if 2.5 * sigma + 1 >= min(mask.shape) else "reflect"), 0, 1)
    result[result < 1e-9] = 0
    result[result > 1 - 1e-9] = 1
    return result.astype(np.float32)


def bounds(mask: Array) -> Box | None:
    """The smallest box that holds all that is painted; None where nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def window(box: Box, padding: int, shape: tuple[int, int], size: tuple[int, int]) -> Box:
    """`box` with `padding` pixels round it, grown to the shape of `shape` (width, height), within `size`."""
    width, height = size
    left, top = max(box[0] - padding, 0), max(box[1] - padding, 0)
    right, bottom = min(box[2] + padding, width), min(box[3] + padding, height)
    wanted = shape[0] / shape[1]
    if (right - left) / (bottom - top) < wanted:
        left, right = _grown(left, right, round((bottom - top) * wanted), width)
    else:
        top, bottom = _grown(top, bottom, round((right - left) / wanted), height)
    return left, top, right, bottom


def _grown(low: int, high: int, length: int, limit: int) -> tuple[int, int]:
    """The span low to high grown to `length` on both sides, pushed back within 0 to `limit`."""
    length = min(max(length, high - low), limit)
    low = low - (length - (high - low)) // 2
    low = min(max(low, 0), limit - length)
    return low, low + length


def smeared(image: Image.Image, mask: Array) -> Image.Image:
    """`image` with the colours from around drawn into what is painted: what a painting can begin with.

    The kept pixels are blurred by ever smaller radii, each laid over the last where it reaches; kept ones stay.
    """
    pixels, keep = np.asarray(image, dtype=np.float32), (1.0 - mask)[..., None]
    if not keep.any():
        return image
    mean = (pixels * keep).sum(axis=(0, 1)) / keep.sum()
    result: NDArray[np.floating] = np.broadcast_to(mean, pixels.shape).astype(np.float32)
    for radius, repeats in _SMEARS:
        weight = _soft(keep[..., 0], radius)[..., None]
        planes = [_soft(pixels[..., k] * keep[..., 0], radius) for k in range(3)]
        colour = np.stack(planes, axis=-1) / np.maximum(weight, np.float32(1e-6))
        for _ in range(repeats):
            result = result * (1 - weight) + colour * weight
    result = result * (1 - keep) + pixels * keep
    return Image.fromarray(np.clip(np.rint(result), 0, 255).astype(np.uint8))


def _soft(plane: Array, radius: float) -> Array:
    """A plane blurred, a wide blur at a smaller size: nothing fine is left of it."""
    shrink = max(1.0, radius / 2)
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    small = image.resize(
        (max(1, round(image.width / shrink)), max(1, round(image.height / shrink))), Image.Resampling.BOX
    )
    soft = _convolved(np.asarray(small, dtype=np.float32), radius / shrink, "edge").astype(np.float32)
    return np.asarray(Image.fromarray(soft).resize(image.size, Image.Resampling.BILINEAR), dtype=np.float32)


def _convolved(plane: Array, sigma: float, beyond: Literal["reflect", "symmetric", "edge"]) -> NDArray[np.float64]:
    """The plane under a Gaussian kernel that is cut off at 2.5 sigma; `beyond` says what lies outside the edge."""
    reach = int(2.5 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(plane.astype(np.float64), reach, mode=beyond)
    for axis in (0, 1):
        padded = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    return padded


@dataclass(frozen=True, eq=False)
class Overlay:
    """How a drawn picture lies in its source.

    Fields:
        source: the whole picture, RGB.
        share: (H, W) of the source's size, how much of the drawn picture shows; where it is 0 the source stays as it
            is, to the bit.
        box: where the drawn picture lies in the source; None is all of it.
    """

    source: Image.Image
    share: Array
    box: Box | None = None

    def laid(self, drawn: Image.Image) -> Image.Image:
        """The source with the drawn picture in it."""
        left, top, right, bottom = self.box or (0, 0, *self.source.size)
        fitted = drawn.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        whole = np.array(self.source)
        part = whole[top:bottom, left:right]
        share = self.share[top:bottom, left:right, None]
        mixed = part + share * (np.asarray(fitted, dtype=np.float32) - part)
        whole[top:bottom, left:right] = np.where(share > 0, np.clip(np.rint(mixed), 0, 255), part).astype(np.uint8)
        return Image.fromarray(whole)
