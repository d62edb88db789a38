"""What the judge looks at: a whole picture of one thing, or windows of half its side on a picture of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.data.compose import draw
from rein.data.icons import IconArt
from rein.data.scenes import Scene, SceneMaker, Thing
from rein.evaluation.classifier import SIDE

LARGE_KINDS = ("plain", "colour", "background")
"""Kinds of pictures in which one thing fills the picture."""

LAYOUTS: dict[str, tuple[tuple[float, float], ...]] = {
    "beside": ((0.26, 0.5), (0.74, 0.5)),
    "above": ((0.5, 0.26), (0.5, 0.74)),
}
"""Where two things stand: the centres of the first and of the second, as fractions of width and height."""

NEITHER_SHARE = 0.25
"""How often the view of a pair is one between its things, which shows none of them."""

WINDOW_JITTER = 0.03


@dataclass(frozen=True)
class View:
    """Pixels (64, 64, 3) uint8 and the thing in them with its style, or None where there is no whole one."""

    pixels: NDArray[np.uint8]
    thing: Thing | None
    style: int


def window(picture: NDArray[np.uint8], centre: tuple[float, float]) -> NDArray[np.uint8]:
    """The square of half the side round a centre, moved inwards where it would leave the picture (H, W, 3)."""
    side = picture.shape[0] // 2
    across, down = (
        min(max(round(place * picture.shape[0] - side / 2), 0), picture.shape[0] - side) for place in centre
    )
    return picture[down : down + side, across : across + side]


def layout_windows(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The windows of all layouts of pictures (N, H, W, 3): (N, layouts, 2, H / 2, W / 2, 3)."""
    return np.stack(
        [[[window(picture, centre) for centre in centres] for centres in LAYOUTS.values()] for picture in pictures]
    )


def training_views(art: IconArt, maker: SceneMaker, seed: int) -> Iterator[View]:
    """An endless sequence of views of the scenes that a maker draws by lot; the same for the same seed."""
    number = 0
    while True:
        random = Random(f"{seed}/views/{number}")
        scene = maker.scene(random, held_out=False)
        picture = draw(scene, art)
        if scene.kind in LARGE_KINDS:
            yield View(_fitted(picture), scene.things[0], scene.style)
        else:
            thing, centre = _look(scene, random)
            yield View(_fitted(window(picture, centre)), thing, scene.style)
        number += 1


def _look(scene: Scene, random: Random) -> tuple[Thing | None, tuple[float, float]]:
    """A thing of the scene and about its centre; of a pair also the place where it would be if it stood otherwise."""
    if scene.kind == "pair" and random.random() < NEITHER_SHARE:
        other = "above" if scene.relation == "beside" else "beside"
        return None, _moved(random.choice(LAYOUTS[other]), random)
    thing = random.choice(scene.things)
    return thing, _moved(thing.centre, random)


def _moved(centre: tuple[float, float], random: Random) -> tuple[float, float]:
    across, down = (place + random.uniform(-WINDOW_JITTER, WINDOW_JITTER) for place in centre)
    return across, down


def _fitted(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.shape[0] == SIDE:
        return pixels
    return np.array(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))
