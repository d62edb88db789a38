"""Captioned pictures by number: `ArtDataset(options).picture(index)` is the same bytes in every process.

Pictures are (size, size, 3) uint8, sRGB, red first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random

import numpy as np
from PIL import Image

from rein.data.captions import caption
from rein.data.colours import BACKGROUNDS, COLOURS, Pixels, recolour
from rein.data.held_out import HeldOut
from rein.data.icons import RENDERING, IconArt
from rein.data.options import ArtOptions
from rein.data.scenes import SPLITS, Scene, SceneMaker, Thing
from rein.errors import InputError, nearest, quoted

COMPOSITION = 2
"""Raised when a change of the code gives an index another picture or label, so that stored ones are made again."""


@dataclass(frozen=True)
class PictureLabel:
    """What a picture shows.

    `captions` are several ways to say it; `kind` is one of `KINDS`; `concepts` are places in the list of concepts, one
    for each thing from left to right or top to bottom, repeated when counted; `style` a place in the list of styles;
    `colours` say for each of them the place in `COLOURS`, None for a thing in its own colours; `held_out` marks what is
    never trained on.
    """

    captions: tuple[str, ...]
    kind: str
    concepts: tuple[int, ...]
    style: int
    colours: tuple[int | None, ...]
    held_out: bool

    @property
    def colour(self) -> int | None:
        """The first colour given to a thing of the picture, None when all have their own."""
        return next((colour for colour in self.colours if colour is not None), None)


@dataclass(frozen=True)
class Sample:
    """A picture, uint8 (size, size, 3), and its label."""

    pixels: Pixels
    label: PictureLabel


class ArtDataset:
    """Captioned pictures of one split. Any index from 0 gives a picture; `len` is how many count as one pass.

    The pictures of "train" show nothing held out; each of "validation" shows something that is.
    """

    def __init__(self, options: ArtOptions, split: str = "train", art: IconArt | None = None) -> None:
        if split not in SPLITS:
            raise InputError(f"unknown split {quoted(split)}: {nearest(split, SPLITS)}")
        self.options = options
        self.split = split
        self.art = art if art is not None else IconArt(options)
        self.held_out = HeldOut(self.art)
        self._maker = SceneMaker(self.art, self.held_out)

    @property
    def fingerprint(self) -> str:
        """The same for two datasets exactly when every index has the same picture and the same label in both.

        The folder and the length are left out; the words of the concepts and the way pictures are made are in.
        """
        options = asdict(self.options) | {"cache_folder": None, "length": None, "concepts": None}
        concepts = [(c.icon, c.names, sorted(c.bare), c.fixed, c.natural) for c in self.art.concepts]
        described = json.dumps([COMPOSITION, RENDERING, self.split, options, concepts], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return self.options.length

    def __iter__(self) -> Iterator[Sample]:
        return (self.picture(index) for index in range(len(self)))

    def picture(self, index: int) -> Sample:
        """The picture of an index, with its label: a pure function of the options, the split and the index."""
        scene, random = self.scene(index)
        return Sample(draw(scene, self.art), self.label_of(scene, random))

    def label(self, index: int) -> PictureLabel:
        """The label of an index, without drawing the picture."""
        return self.label_of(*self.scene(index))

    def scene(self, index: int) -> tuple[Scene, Random]:
        """What is to be drawn at an index, and the generator that its captions are drawn with next."""
        if index < 0:
            raise InputError(f"picture index {index}: it must be at least 0")
        random = Random(f"{self.options.seed}/{self.split}/{index}")
        return self._maker.scene(random, held_out=self.split == "validation"), random

    def label_of(self, scene: Scene, random: Random) -> PictureLabel:
        """The label of a scene, its captions drawn by lot."""
        captions = tuple(
            caption(scene, self.art.concepts, self.art.styles, random) for _ in range(self.options.captions)
        )
        return PictureLabel(
            captions=captions,
            kind=scene.kind,
            concepts=tuple(thing.concept for thing in scene.things),
            style=scene.style,
            colours=tuple(thing.colour for thing in scene.things),
            held_out=scene.held_out,
        )


def draw(scene: Scene, art: IconArt) -> Pixels:
    """The picture of a scene."""
    size = art.options.size
    ground = BACKGROUNDS[scene.ground] if scene.ground is not None else (255, 255, 255)
    canvas = Image.new("RGB", (size, size), ground)
    for thing in scene.things:
        card, corner = placed(thing, scene.style, art)
        canvas.paste(card, corner, card)
    return np.array(canvas)


def placed(thing: Thing, style: int, art: IconArt) -> tuple[Image.Image, tuple[int, int]]:
    """A thing as it is pasted into its scene: a square RGBA card, and where its top left corner goes in pixels."""
    icon = art.icon(thing.concept, style)
    if thing.colour is not None:
        icon = recolour(icon, COLOURS[thing.colour], art.colours[thing.concept][style])
    if thing.mirrored:
        icon = icon[:, ::-1]
    size = art.options.size
    side = round(thing.side * size)
    image = Image.fromarray(np.ascontiguousarray(icon))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    left, top = (min(max(round(centre * size - side / 2), 0), size - side) for centre in thing.centre)
    return image, (left, top)
