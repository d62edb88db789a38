"""What a picture shows, decided by a seeded generator before anything is drawn: kinds, things, places, backgrounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import NDArray

from rein.data.colours import BACKGROUNDS, COLOUR_NAMES, COLOURS, Pixels, to_oklab
from rein.data.held_out import HeldOut
from rein.data.icons import IconArt
from rein.data.options import KINDS
from rein.errors import InputError

SPLITS = ("train", "validation")
PLACES: dict[str, tuple[float, float]] = {
    "on the left": (0.26, 0.5),
    "on the right": (0.74, 0.5),
    "at the top": (0.5, 0.26),
    "at the bottom": (0.5, 0.74),
    "in the top left corner": (0.25, 0.25),
    "in the top right corner": (0.75, 0.25),
    "in the bottom left corner": (0.25, 0.75),
    "in the bottom right corner": (0.75, 0.75),
    "in the middle": (0.5, 0.5),
}
"""Where a small thing can be: the words and its centre as fractions of width and height."""

COUNT_CENTRES: dict[int, tuple[tuple[tuple[float, float], ...], ...]] = {
    2: (((0.26, 0.5), (0.74, 0.5)),),
    3: (((0.5, 0.27), (0.26, 0.73), (0.74, 0.73)), ((0.26, 0.27), (0.74, 0.27), (0.5, 0.73))),
    4: (((0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74)),),
}
SMALLEST_CONTRAST = 0.20
"""OKLab distance between a thing and its background below which another background is taken."""

BACKGROUND_SHARE = 0.08
"""How often a picture of another kind stands on a coloured ground as well."""
COLOURED_PAIR_SHARE = 0.15
"""How often the things of a pair have colours of their own."""

GROUP_TRIES = 2000
"""Draws of a group of things before a list of concepts counts as having none; of a usual list one in ten is good."""


@dataclass(frozen=True)
class Thing:
    """One drawing in a scene: centre and longer side as fractions of the picture, (0, 0) being the top left."""

    concept: int
    colour: int | None = None
    centre: tuple[float, float] = (0.5, 0.5)
    side: float = 0.9
    mirrored: bool = False


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn. `place` is a key of `PLACES`; `relation` is "beside" (the first thing left of the
    second) or "above" (the first above the second); `ground` a key of `BACKGROUNDS`, None for white."""

    kind: str
    style: int
    things: tuple[Thing, ...]
    ground: str | None = None
    place: str | None = None
    relation: str | None = None
    held_out: bool = False


class SceneMaker:
    """Draws scenes by lot: of the train split with nothing held out in them, of the validation split with something."""

    def __init__(self, art: IconArt, held_out: HeldOut) -> None:
        self.art = art
        self.held = held_out
        concepts = range(len(art.concepts))
        self._all = list(concepts)
        self._countable = [c for c in concepts if art.concepts[c].countable_names]
        self._colourable = [c for c in concepts if held_out.trained_colours[c]]
        self._held_styles = [(c, style) for c in concepts if (style := held_out.styles[c]) is not None]
        self._held_countable = [(c, style) for c, style in self._held_styles if art.concepts[c].countable_names]
        self._held_colours = [(c, colour) for c in concepts for colour in sorted(held_out.held_colours[c])]
        self._weights: dict[bool, list[float]] = {}
        self._makers = {
            "plain": self._plain,
            "colour": self._colour,
            "background": self._background,
            "position": self._position,
            "count": self._count,
            "pair": self._pair,
            "triple": self._triple,
        }

    def scene(self, random: Random, held_out: bool) -> Scene:
        """The next scene of a generator; with `held_out` it shows something that is never trained on."""
        if held_out not in self._weights:
            self._weights[held_out] = self._possible_weights(held_out)
        kind = random.choices(KINDS, self._weights[held_out])[0]
        scene = self._makers[kind](random, held_out)
        things = tuple(replace(thing, mirrored=self._mirrored(thing, random)) for thing in scene.things)
        return replace(scene, things=things, held_out=held_out)

    def _possible_weights(self, held_out: bool) -> list[float]:
        """The mixture without the kinds that the concepts do not allow: a list of two things has no triples."""
        weights = zip(KINDS, self.art.options.mixture.weights, strict=True)
        possible = [weight if weight > 0 and self._can(kind, held_out) else 0.0 for kind, weight in weights]
        if sum(possible) == 0:
            what = "held out" if held_out else "to train on"
            raise InputError(
                f"with these options there is nothing {what}: give more concepts, styles or kinds of picture"
            )
        return possible

    def _can(self, kind: str, held_out: bool) -> bool:
        if kind in ("pair", "triple"):
            return self._try_group(Random(kind), 2 if kind == "pair" else 3, held_out) is not None
        if kind == "colour":
            return bool(self._held_colours if held_out else self._colourable)
        if kind == "count":
            return bool(self._held_countable if held_out else self._countable)
        return not held_out or bool(self._held_styles)

    def _mirrored(self, thing: Thing, random: Random) -> bool:
        return random.random() < self.art.options.mirrored and not self.art.concepts[thing.concept].fixed

    def _one(self, random: Random, held_out: bool, countable: bool = False) -> tuple[int, int]:
        """A concept and a style, that style being held out or trained."""
        if held_out:
            return random.choice(self._held_countable if countable else self._held_styles)
        concept = random.choice(self._countable if countable else self._all)
        return concept, random.choice(self.held.trained_styles[concept])

    def _plain(self, random: Random, held_out: bool) -> Scene:
        concept, style = self._one(random, held_out)
        side = random.uniform(0.80, 0.95)
        return Scene("plain", style, (Thing(concept, None, _jittered((0.5, 0.5), random), side),))

    def _colour(self, random: Random, held_out: bool) -> Scene:
        if held_out:
            concept, colour = random.choice(self._held_colours)
        else:
            concept = random.choice(self._colourable)
            colour = random.choice(self.held.trained_colours[concept])
        style = random.choice(self.held.trained_styles[concept])
        thing = Thing(concept, colour, _jittered((0.5, 0.5), random), random.uniform(0.80, 0.95))
        return self._grounded(Scene("colour", style, (thing,)), random)

    def _background(self, random: Random, held_out: bool) -> Scene:
        scene = self._plain(random, held_out)
        return replace(scene, kind="background", ground=self._ground(scene, random))

    def _position(self, random: Random, held_out: bool) -> Scene:
        concept, style = self._one(random, held_out)
        place = random.choice(tuple(PLACES))
        thing = Thing(concept, None, _jittered(PLACES[place], random), random.uniform(0.34, 0.44))
        return self._grounded(Scene("position", style, (thing,), place=place), random)

    def _count(self, random: Random, held_out: bool) -> Scene:
        concept, style = self._one(random, held_out, countable=True)
        number = random.choice(tuple(COUNT_CENTRES))
        side = random.uniform(0.42, 0.47)
        centres = random.choice(COUNT_CENTRES[number])
        things = tuple(Thing(concept, None, _jittered(centre, random), side) for centre in centres)
        return self._grounded(Scene("count", style, things), random)

    def _pair(self, random: Random, held_out: bool) -> Scene:
        (first, second), style = self._group(random, 2, held_out)
        relation = random.choice(("beside", "beside", "above"))
        centres = ((0.26, 0.5), (0.74, 0.5)) if relation == "beside" else ((0.5, 0.26), (0.5, 0.74))
        coloured = random.random() < COLOURED_PAIR_SHARE
        things = tuple(
            Thing(
                concept,
                self._own_colour(concept, random) if coloured else None,
                _jittered(centre, random),
                random.uniform(0.43, 0.48),
            )
            for concept, centre in zip((first, second), centres, strict=True)
        )
        return self._grounded(Scene("pair", style, things, relation=relation), random)

    def _triple(self, random: Random, held_out: bool) -> Scene:
        concepts, style = self._group(random, 3, held_out)
        centres = random.choice(COUNT_CENTRES[3])
        side = random.uniform(0.41, 0.46)
        things = tuple(
            Thing(concept, None, _jittered(centre, random), side)
            for concept, centre in zip(concepts, centres, strict=True)
        )
        return self._grounded(Scene("triple", style, things), random)

    def _own_colour(self, concept: int, random: Random) -> int | None:
        trained = self.held.trained_colours[concept]
        return random.choice(trained) if trained else None

    def _group(self, random: Random, size: int, held_out: bool) -> tuple[list[int], int]:
        """Different concepts and a style all may have; the first two are a held-out pair exactly when asked for."""
        while (found := self._try_group(random, size, held_out)) is None:
            pass  # There is one: `_can` found it.
        return found

    def _try_group(self, random: Random, size: int, held_out: bool) -> tuple[list[int], int] | None:
        for _ in range(GROUP_TRIES if len(self._all) >= size else 0):
            style = random.randrange(len(self.art.styles))
            concepts = random.sample(self._all, size)
            pairs = [(a, b) for i, a in enumerate(concepts) for b in concepts[i + 1 :]]
            if any(self.held.styles[concept] == style for concept in concepts):
                continue
            if self.held.pair(*pairs[0]) == held_out and not any(self.held.pair(*pair) for pair in pairs[1:]):
                return concepts, style
        return None

    def _grounded(self, scene: Scene, random: Random) -> Scene:
        """Now and then a coloured ground; always for white things, which white paper would swallow."""
        white = any(thing.colour is not None and COLOUR_NAMES[thing.colour] == "white" for thing in scene.things)
        if white or random.random() < BACKGROUND_SHARE:
            return replace(scene, ground=self._ground(scene, random))
        return scene

    def _ground(self, scene: Scene, random: Random) -> str | None:
        """A background that all things of the scene stand out from; after many tries white."""
        for _ in range(20):
            name = random.choice(tuple(BACKGROUNDS))
            ground = _GROUND_LAB[name]
            if all(self._distance(thing, scene.style, ground) >= SMALLEST_CONTRAST for thing in scene.things):
                return name
        return None

    def _distance(self, thing: Thing, style: int, ground: NDArray[np.float32]) -> float:
        if thing.colour is None:
            mean = np.array(self.art.colours[thing.concept][style].mean)
        else:
            colour = COLOURS[thing.colour]
            angle = np.radians(colour.hue)
            mean = np.array([colour.lightness, colour.chroma * np.cos(angle), colour.chroma * np.sin(angle)])
        return float(np.linalg.norm(mean - ground))


def _jittered(centre: tuple[float, float], random: Random) -> tuple[float, float]:
    return centre[0] + random.uniform(-0.02, 0.02), centre[1] + random.uniform(-0.02, 0.02)


def _lab(rgb: tuple[int, int, int]) -> NDArray[np.float32]:
    pixels: Pixels = np.array([rgb], dtype=np.uint8)
    lab: NDArray[np.float32] = to_oklab(pixels)[0]
    return lab


_GROUND_LAB = {name: _lab(rgb) for name, rgb in BACKGROUNDS.items()}
