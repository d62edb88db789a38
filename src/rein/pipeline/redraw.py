"""Enlarged pictures drawn again tile by tile ("SD upscale"): detail that no interpolation knows of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from rein.devices import MAX_SEED, fresh_seed
from rein.pipeline.fields import MIN_SIDE
from rein.pipeline.model import Model
from rein.pipeline.request import Request
from rein.pipeline.upscale import Draw, Part, redraw_steps

STRENGTH = 0.3
"""How much of a tile is drawn anew unless asked otherwise: more, and each tile begins to show the whole prompt."""


def redraw(
    model: Model,
    request: Request,
    image: Image.Image,
    strength: float = STRENGTH,
    side: int | None = None,
    overlap: int | None = None,
) -> Iterator[Part]:
    """`image` drawn again in overlapping tiles by a model; the last part has the picture.

    Args:
        request: one without pictures, whose words, steps and sampler hold for every tile. The seed counts up from tile
            to tile, so that no pattern of noise repeats. Its size, count and seamless axes are not used.
        strength: how much of a tile is drawn anew, 0 to 1.
        side: of the tiles in pixels; None is the model's native size.
        overlap: pixels that neighbours share; None is an eighth of `side`.

    Raises:
        InputError: a number out of its range, a request that does not suit the model.
    """
    side = model.spec.native_size if side is None else side
    return redraw_steps(image, drawer(model, request, strength), side, side // 8 if overlap is None else overlap)


def drawer(model: Model, request: Request, strength: float = STRENGTH) -> Draw:
    """What draws a tile again: image-to-image with the settings of `request`."""
    unit = model.spec.autoencoder.downscale
    first = fresh_seed() if request.seed is None else request.seed
    settings = request.replace(count=1, width=None, height=None, seamless="none")

    def draw(tile: Image.Image, index: int) -> Image.Image:
        width, height = (max(-(-MIN_SIDE // unit), -(-length // unit)) * unit for length in tile.size)
        shown = settings.replace(
            init_image=_extended(tile, width, height),
            strength=strength,
            width=width,
            height=height,
            seed=(first + index) % (MAX_SEED + 1),
        )
        return model.generate(shown).images[0].crop((0, 0, *tile.size))

    return draw


def _extended(image: Image.Image, width: int, height: int) -> Image.Image:
    """`image` at the left top of width x height pixels, its last column and row repeated."""
    if image.size == (width, height):
        return image
    further = ((0, height - image.height), (0, width - image.width), (0, 0))
    return Image.fromarray(np.pad(np.asarray(image), further, mode="edge"))
