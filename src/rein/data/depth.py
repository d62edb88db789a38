"""Captioned pictures whose depth is known by construction: drawings stand like cards in a room, near before far.

Depth is told as nearness, 0 the background and 255 the nearest thing, as depth models tell it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.data.colours import Pixels
from rein.data.compose import ArtDataset, PictureLabel, draw, placed
from rein.data.scenes import Scene, Thing

ARRANGEMENT = 1
"""Raised when an index would get another arrangement than before, so that what is stored is made again."""

MAPS = 2
"""Maps of each picture: one along the drawings' outlines, one of rough ellipses in their place."""

_SOLID = 128
"""Alpha from which a drawing covers what is behind it."""

_RELIEF_SHARE = 0.5
"""How often the things of a map bulge towards the viewer instead of being flat."""
_RELIEF_DEPTH = 0.35
"""Part of its nearness that a bulging thing loses at the corners of its card."""

_LEAST_APART, _FARTHEST = 0.12, 0.6
"""By how much nearness differs from one thing to the next behind it at least, and in all at most."""

Map = NDArray[np.uint8]

_ALONG = ((0.22, 0.42), (0.58, 0.78))
"""Where the first and the second of a pair may have their centres, in the direction in which they follow."""


@dataclass(frozen=True)
class DepthSample:
    """A picture (S, S, 3) uint8, its maps of nearness (MAPS, S, S) uint8, its label, and where its things are drawn.

    `boxes` are left, top, right, bottom in pixels of each thing, in the order of the label.
    """

    pixels: Pixels
    maps: Map
    label: PictureLabel
    boxes: tuple[tuple[int, int, int, int], ...]


class DepthDataset:
    """The scenes of an art data set, their things moved about, some before others, each picture with its depth."""

    def __init__(self, dataset: ArtDataset) -> None:
        self.dataset = dataset

    @property
    def fingerprint(self) -> str:
        """The same for two data sets exactly when every index has the same picture, maps and label in both."""
        return hashlib.sha256(f"depth {ARRANGEMENT}/{self.dataset.fingerprint}".encode()).hexdigest()[:16]

    def sample(self, index: int) -> DepthSample:
        """The picture of an index: a pure function of the data set and the index."""
        scene, nearness, random = self._scene(index)
        label = self.dataset.label_of(scene, random)
        order = sorted(range(len(scene.things)), key=lambda place: nearness[place])
        behind = replace(scene, things=tuple(scene.things[place] for place in order))
        art = self.dataset.art
        cards = [placed(thing, scene.style, art) for thing in scene.things]
        levels = [(cards[place], nearness[place]) for place in order]
        relief = random.random() < _RELIEF_SHARE
        maps = np.stack([_map(levels, art.options.size, relief, rough) for rough in (False, True)])
        return DepthSample(draw(behind, art), maps, label, tuple(_box(card, corner) for card, corner in cards))

    def label(self, index: int) -> PictureLabel:
        """The label of an index, without drawing the picture."""
        scene, _, random = self._scene(index)
        return self.dataset.label_of(scene, random)

    def _scene(self, index: int) -> tuple[Scene, list[float], Random]:
        scene, random = self.dataset.scene(index)
        return arranged(scene, random), _nearness(len(scene.things), random), random


Card = tuple[Image.Image, tuple[int, int]]


def arranged(scene: Scene, random: Random) -> Scene:
    """The same things elsewhere and of other sizes, as far as the scene's words leave that open."""
    things = scene.things
    if scene.place is None and len(things) == 1:
        side = random.uniform(0.38, 0.95)
        centre = random.uniform(side / 2, 1 - side / 2), random.uniform(side / 2, 1 - side / 2)
        return replace(scene, things=(replace(things[0], side=side, centre=centre),))
    if scene.relation is not None:
        moved = (_related(thing, place, scene.relation, random) for place, thing in enumerate(things))
        return replace(scene, things=tuple(moved))
    return scene


def _related(thing: Thing, place: int, relation: str, random: Random) -> Thing:
    """One of a pair: left or right, above or below of the middle, otherwise free; the two may overlap."""
    along, across = random.uniform(*_ALONG[place]), random.uniform(0.34, 0.66)
    centre = (along, across) if relation == "beside" else (across, along)
    return replace(thing, centre=centre, side=random.uniform(0.40, 0.62))


def _nearness(count: int, random: Random) -> list[float]:
    """One of the things is nearest, at 1; the others are behind it, no two at the same depth."""
    levels = [1.0]
    while len(levels) < count:
        levels.append(levels[-1] - random.uniform(_LEAST_APART, _FARTHEST / (count - 1)))
    random.shuffle(levels)
    return levels


def _map(levels: list[tuple[Card, float]], size: int, relief: bool, rough: bool) -> Map:
    """Nearness of every pixel; `levels` has cards and their nearness, the farthest first."""
    canvas = np.zeros((size, size), np.float32)
    for (card, corner), level in levels:
        solid = np.asarray(card.getchannel("A")) >= _SOLID
        if rough:
            solid = _ellipse(solid)
        left, top = corner
        inside = canvas[top : top + card.height, left : left + card.width]
        inside[solid] = (level * _bulge(card.height) if relief else np.full(solid.shape, level, np.float32))[solid]
    return np.rint(canvas * 255).astype(np.uint8)


def _ellipse(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The ellipse that fills the box round what is solid."""
    rows, columns = np.nonzero(solid)
    if not len(rows):
        return solid
    down, across = np.mgrid[: solid.shape[0], : solid.shape[1]]
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    half = (np.ptp(rows) + 1) / 2, (np.ptp(columns) + 1) / 2
    inside: NDArray[np.bool_] = ((down - middle[0]) / half[0]) ** 2 + ((across - middle[1]) / half[1]) ** 2 <= 1
    return inside


def _bulge(side: int) -> NDArray[np.float32]:
    """1 in the middle of a card, less towards its corners."""
    down, across = np.mgrid[:side, :side].astype(np.float32)
    middle = (side - 1) / 2
    distance = ((down - middle) ** 2 + (across - middle) ** 2) / (2 * max(middle, 1) ** 2)
    shape: NDArray[np.float32] = (1 - _RELIEF_DEPTH * distance).astype(np.float32)
    return shape


def _box(card: Image.Image, corner: tuple[int, int]) -> tuple[int, int, int, int]:
    found = card.getchannel("A").point(lambda level: 255 if level >= _SOLID else 0).getbbox() or (0, 0, 1, 1)
    return found[0] + corner[0], found[1] + corner[1], found[2] + corner[0], found[3] + corner[1]
