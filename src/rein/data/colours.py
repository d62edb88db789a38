"""Names of colours, and drawings given another colour so that they still look drawn that way.

Work is done in OKLab (Ottosson 2020), where equal steps look equal: L is the lightness in [0, 1], chroma the distance
from grey (at most about 0.33 in sRGB), hue an angle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rein.data.colour_spaces import LINEAR_LEVELS

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Colour:
    """A named colour: lightness, chroma and hue in degrees."""

    name: str
    lightness: float
    chroma: float
    hue: float


COLOURS: tuple[Colour, ...] = (
    Colour("red", 0.58, 0.215, 27.0),
    Colour("orange", 0.74, 0.170, 56.0),
    Colour("yellow", 0.87, 0.170, 97.0),
    Colour("green", 0.65, 0.180, 143.0),
    Colour("blue", 0.57, 0.170, 256.0),
    Colour("purple", 0.52, 0.180, 303.0),
    Colour("pink", 0.76, 0.145, 353.0),
    Colour("brown", 0.46, 0.085, 52.0),
    Colour("black", 0.27, 0.008, 270.0),
    Colour("grey", 0.66, 0.008, 270.0),
    Colour("white", 0.95, 0.004, 270.0),
)
COLOUR_NAMES: tuple[str, ...] = tuple(colour.name for colour in COLOURS)
COLOUR_WORDS: frozenset[str] = frozenset((*COLOUR_NAMES, "gray", "gold", "golden", "silver"))

BACKGROUNDS: Mapping[str, tuple[int, int, int]] = {
    "red": (222, 62, 62),
    "orange": (245, 150, 60),
    "yellow": (250, 218, 80),
    "green": (84, 176, 98),
    "blue": (72, 130, 222),
    "purple": (138, 88, 196),
    "pink": (245, 150, 190),
    "brown": (140, 98, 66),
    "black": (22, 22, 26),
    "grey": (150, 152, 156),
    "light blue": (186, 218, 248),
    "light green": (192, 232, 192),
    "light yellow": (252, 242, 190),
    "light pink": (252, 216, 228),
    "light purple": (220, 204, 242),
    "light grey": (222, 224, 228),
    "dark blue": (26, 48, 108),
    "dark green": (22, 84, 52),
    "dark red": (120, 22, 30),
    "dark grey": (72, 74, 80),
}
"""Plain backgrounds by name, sRGB."""

_TO_CONE = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]], dtype=np.float32
)  # fmt: skip
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]], dtype=np.float32
)  # fmt: skip
_FROM_LAB = np.linalg.inv(_TO_LAB).astype(np.float32)
_FROM_CONE = np.linalg.inv(_TO_CONE).astype(np.float32)
_STEPS = np.linspace(0.0, 1.0, 4096)
_GAMMA = np.where(_STEPS <= 0.0031308, 12.92 * _STEPS, 1.055 * _STEPS ** (1 / 2.4) - 0.055)
_TO_BYTE = np.round(_GAMMA * 255.0).astype(np.uint8)

HUE_WIDTH = 50.0
"""Degrees from the main hue within which a pixel belongs to the main colour wholly; none at 1.5 times that."""
GREY_CHROMA = 0.045
WHITE = 0.93


def to_oklab(rgb: Pixels) -> Floats:
    """(N, 3) sRGB bytes to (N, 3) OKLab."""
    cone = np.cbrt(LINEAR_LEVELS[rgb] @ _TO_CONE.T)
    lab: Floats = cone @ _TO_LAB.T
    return lab


def from_oklab(lab: Floats) -> Pixels:
    """(N, 3) OKLab to sRGB bytes; what sRGB cannot show is clipped."""
    cone = lab @ _FROM_LAB.T
    linear = np.clip((cone * cone * cone) @ _FROM_CONE.T, 0.0, 1.0)
    rgb: Pixels = _TO_BYTE[(linear * 4095.0 + 0.5).astype(np.int32)]
    return rgb


@dataclass(frozen=True)
class MainColour:
    """What a drawing is mostly made of.

    `share`: the part of its surface in the main colour; `lightness`: that colour's median; `chroma`: its mean, 0 for a
    grey thing; `hue`: degrees; `mean`: the mean OKLab colour of the whole drawing.
    """

    share: float
    lightness: float
    chroma: float
    hue: float
    mean: tuple[float, float, float]


def main_colour(icon: Pixels) -> MainColour:
    """Measure an RGBA drawing (H, W, 4). A grey main colour wins only where colour is rare."""
    visible = icon[icon[..., 3] > 127][:, :3]
    if len(visible) == 0:
        return MainColour(0.0, 0.5, 0.0, 0.0, (1.0, 0.0, 0.0))
    lab = to_oklab(visible)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    hue = np.degrees(np.arctan2(lab[:, 2], lab[:, 1])) % 360.0
    coloured = chroma > GREY_CHROMA
    mean = tuple(float(value) for value in lab.mean(axis=0))
    if coloured.mean() < 0.35:
        grey = ~coloured & (lab[:, 0] > 0.30)
        share = float(grey.mean())
        lightness = float(np.median(lab[grey, 0])) if share > 0 else 0.5
        return MainColour(share, lightness, 0.0, 0.0, (mean[0], mean[1], mean[2]))
    histogram = np.bincount((hue[coloured] / 10.0).astype(np.int64) % 36, weights=chroma[coloured], minlength=36)
    smooth = sum(np.roll(histogram, shift) for shift in (-2, -1, 0, 1, 2))
    peak = (int(np.argmax(smooth)) + 0.5) * 10.0
    offset = (hue - peak + 180.0) % 360.0 - 180.0
    chosen = coloured & (np.abs(offset) < HUE_WIDTH)
    centre = (peak + float(np.average(offset[chosen], weights=chroma[chosen]))) % 360.0
    share = float((coloured & (np.abs((hue - centre + 180.0) % 360.0 - 180.0) < HUE_WIDTH)).mean())
    return MainColour(
        share, float(np.median(lab[chosen, 0])), float(chroma[chosen].mean()), centre, (mean[0], mean[1], mean[2])
    )


def recolour(icon: Pixels, colour: Colour, main: MainColour) -> Pixels:
    """`icon` (H, W, 4) with its main colour turned into `colour`; the shading and everything else stay.

    The lightness is bent so that the main colour's median lands on the new one while black and white stay, and the
    spread of hues round the main one is narrowed, so that a gradient from red to pink becomes one from blue to light
    blue and not a rainbow.
    """
    result = icon.copy()
    mask = icon[..., 3] > 0
    lab = to_oklab(icon[mask][:, :3])
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    hue = np.degrees(np.arctan2(lab[:, 2], lab[:, 1]))
    offset = (hue - main.hue + 180.0) % 360.0 - 180.0
    if main.chroma == 0.0:
        weight = np.clip((GREY_CHROMA * 1.5 - chroma) / (GREY_CHROMA * 0.5), 0.0, 1.0)
        weight *= np.clip((lab[:, 0] - 0.22) / 0.12, 0.0, 1.0)
        new_chroma = np.full_like(chroma, colour.chroma)
        new_hue = np.full_like(hue, colour.hue)
    else:
        weight = np.clip((HUE_WIDTH * 1.5 - np.abs(offset)) / (HUE_WIDTH * 0.5), 0.0, 1.0)
        weight *= np.clip((chroma - 0.015) / 0.025, 0.0, 1.0)
        new_chroma = colour.chroma * np.clip(chroma / main.chroma, 0.0, 1.5)
        new_hue = colour.hue + 0.3 * offset
    light = _bend(lab[:, 0], main.lightness, colour.lightness)
    # Near black and white there is little room for colour.
    new_chroma *= np.clip((1.0 - light) / (1.0 - colour.lightness), 0.0, 1.0) * np.clip(
        light / colour.lightness, 0.0, 1.0
    )
    angle = np.radians(new_hue)
    target = np.stack([light, new_chroma * np.cos(angle), new_chroma * np.sin(angle)], axis=1).astype(np.float32)
    blended = lab + weight[:, None].astype(np.float32) * (target - lab)
    result[mask, :3] = from_oklab(blended)
    return result


def _bend(lightness: Floats, before: float, after: float) -> Floats:
    """A curve through (0, 0), (before, after) and (1, 1); a white thing has no light left to keep and turns wholly."""
    before = max(before, 0.12)
    bent: Floats = np.minimum(lightness * np.float32(after / before), np.float32(1.0))
    if before <= WHITE:
        high = 1.0 - (1.0 - lightness) * ((1.0 - after) / (1.0 - before))
        bent = np.where(lightness < before, bent, high)
    return bent
