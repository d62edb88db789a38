"""Pixels in three colour spaces: sRGB as files have it, linear light, and CIE L*a*b*.

Sources: IEC 61966-2-1 (sRGB and its curve), CIE 15:2004 (L*a*b*), white point D65 of the 2 degree observer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

ColourSpace = Literal["srgb", "linear", "lab"]

COLOUR_SPACES: Mapping[ColourSpace, str] = {
    "srgb": "red, green and blue as files have them, 0 to 1",
    "linear": "red, green and blue as amounts of light, 0 to 1",
    "lab": "CIE L*a*b*: lightness 0 to 100, green to red and blue to yellow about -100 to 100",
}
"""What can be asked for, and what its three numbers are."""

_LEVELS = np.arange(256) / 255.0
LINEAR_LEVELS: Floats = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)
"""The light, 0 to 1, of each of the 256 levels of sRGB."""

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_FROM_XYZ = np.linalg.inv(_TO_XYZ)
_WHITE = _TO_XYZ.sum(axis=1)
_KNEE = 6 / 29


def to_space(pixels: Pixels, space: ColourSpace) -> Floats:
    """sRGB bytes (..., 3) as float32 (..., 3) of a colour space, in the ranges of `COLOUR_SPACES`."""
    if space == "srgb":
        return pixels.astype(np.float32) / np.float32(255)
    light = LINEAR_LEVELS[pixels]
    return light if space == "linear" else _lab(light)


def from_space(values: Floats, space: ColourSpace) -> Pixels:
    """The way back, to the nearest level; what sRGB cannot show is clipped."""
    if space == "srgb":
        return _levels(values.astype(np.float64))
    light = np.clip(values.astype(np.float64) if space == "linear" else _from_lab(values), 0, 1)
    return _levels(np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055))


def _levels(values: NDArray[np.float64]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    return pixels


def _lab(light: Floats) -> Floats:
    ratio = light.astype(np.float64) @ _TO_XYZ.T / _WHITE
    curved = np.where(ratio > _KNEE**3, np.cbrt(ratio), ratio / (3 * _KNEE**2) + 4 / 29)
    x, y, z = np.moveaxis(curved, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def _from_lab(values: Floats) -> NDArray[np.float64]:
    lightness, a, b = np.moveaxis(values.astype(np.float64), -1, 0)
    y = (lightness + 16) / 116
    curved = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    ratio = np.where(curved > _KNEE, curved**3, 3 * _KNEE**2 * (curved - 4 / 29))
    light: NDArray[np.float64] = ratio * _WHITE @ _FROM_XYZ.T
    return light
