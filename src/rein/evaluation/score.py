"""A score for a single picture: the judge's chance that it shows what its prompt asks for.

The prompt is read for what the judge knows: one or two things, a colour right before the thing, a style. What it does
not know it does not see, so a high score says "that thing is there", not "this is a good picture".
"""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from rein.data.colours import COLOURS, Colour, Pixels, main_colour
from rein.data.concepts import Concept, read_concepts
from rein.data.words import plural
from rein.evaluation.classifier import Classifier, Verdict, judge, load_classifier
from rein.evaluation.views import layout_windows
from rein.images import crop_to, to_rgb

_WORD = re.compile(r"[a-z0-9][a-z0-9'-]*")
_WEIGHT = re.compile(r":\s*[+-]?\d*\.?\d+")
_GROUND = "background"
_STYLE = "style"
_GROUND_LEVELS = 32
"""Of 256, by which a pixel differs from the ground that a thing stands on."""


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for, as places in the judge's lists; the colour is that of the first thing."""

    concepts: tuple[int, ...]
    style: int | None = None
    colour: int | None = None


class Scorer:
    """Scores pictures with a judge, the shipped one unless another is given.

    Raises:
        DamagedFileError: the judge's file cannot be used.
    """

    def __init__(self, classifier: Classifier | None = None, concepts: Sequence[Concept] | None = None) -> None:
        self._classifier = classifier or load_classifier()
        config = self._classifier.config
        places = {icon: place for place, icon in enumerate(config.concepts)}
        self._styles = {name: place for place, name in enumerate(config.styles)}
        self._colours = {name: place for place, name in enumerate(config.colours)}
        self._names: dict[tuple[str, ...], int | None] = {}
        for concept in read_concepts() if concepts is None else concepts:
            for name in concept.names:
                words = tuple(_words(name))
                self._names[words] = places.get(concept.icon)
                self._names.setdefault(tuple(_words(plural(name))), None)  # the judge does not count
        self._longest = max((len(words) for words in self._names), default=0)

    def asked(self, prompt: str) -> Asked | None:
        """What a prompt asks for; None where the judge has no say: no thing that it knows, or more than two."""
        words = _words(prompt)
        found: list[int] = []
        style = colour = None
        place = 0
        while place < len(words):
            name = self._name_at(words, place)
            follows = words[place + 1] if place + 1 < len(words) else ""
            if follows in (_STYLE, _GROUND):
                style = self._styles.get(words[place], style) if follows == _STYLE else style
                place += 2
            elif words[place] in self._colours and self._name_at(words, place + 1):
                colour = self._colours[words[place]] if not found else colour
                place += 1
            elif name:
                concept = self._names[name]
                if concept is None:
                    return None
                found.append(concept)
                place += len(name)
            else:
                place += 1
        return Asked(tuple(found), style, colour) if 1 <= len(found) <= 2 else None

    def _name_at(self, words: Sequence[str], place: int) -> tuple[str, ...]:
        """The longest name of a thing that begins at a place; empty if none does."""
        lengths = range(min(self._longest, len(words) - place), 0, -1)
        starts: Iterator[tuple[str, ...]] = (tuple(words[place : place + length]) for length in lengths)
        return next((start for start in starts if start in self._names), ())

    def score(self, prompt: str, image: Image.Image) -> float | None:
        """The chance, 0 to 1, that `image` shows what `prompt` asks for; None where the judge has no say.

        It is the product of the chances of the things, of the style, and of a single thing's colour. Two things are
        looked for beside and above each other. To the judge a thing in its own colours is "as it is"; that counts for a
        colour which is the picture's main one.
        """
        asked = self.asked(prompt)
        if asked is None:
            return None
        pixels = np.array(crop_to(to_rgb(image), *[max(image.size)] * 2))[None]
        if len(asked.concepts) == 1:
            return self._single(asked, judge(self._classifier, pixels), pixels[0])
        windows = layout_windows(pixels)
        verdict = judge(self._classifier, windows.reshape(-1, *windows.shape[3:]))
        return self._pair(asked, verdict, windows.shape[1])

    def _single(self, asked: Asked, verdict: Verdict, pixels: Pixels) -> float:
        chance = float(verdict.concepts[0].softmax(dim=0)[asked.concepts[0]])
        if asked.style is not None:
            chance *= float(verdict.styles[0].softmax(dim=0)[asked.style])
        if asked.colour is not None:
            colours = verdict.colours[0].softmax(dim=0)  # the first is "as it is"
            is_own = self._classifier.config.colours[asked.colour] == main_colour_name(pixels)
            chance *= float(colours[1 + asked.colour] + (colours[0] if is_own else 0))
        return chance

    def _pair(self, asked: Asked, verdict: Verdict, layouts: int) -> float:
        chances = verdict.concepts.softmax(dim=1).reshape(layouts, 2, -1)
        first, second = asked.concepts
        both = torch.maximum(chances[:, 0, first] * chances[:, 1, second], chances[:, 0, second] * chances[:, 1, first])
        best = int(both.argmax())
        chance = float(both[best])
        if asked.style is not None:
            chance *= float(verdict.styles.softmax(dim=1).reshape(layouts, 2, -1)[best, :, asked.style].mean())
        return chance


def main_colour_name(pixels: Pixels) -> str:
    """The name of a picture's main colour, (H, W, 3) uint8, besides that of its edge: the nearest one in OKLab."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(edge, axis=0)
    shown = (np.abs(pixels - ground).max(axis=-1) > _GROUND_LEVELS).astype(np.uint8) * 255
    main = main_colour(np.dstack([pixels, shown]))

    def distance(colour: Colour) -> float:
        bent = colour.chroma * cmath.exp(1j * math.radians(colour.hue)) - main.chroma * cmath.exp(
            1j * math.radians(main.hue)
        )
        return (colour.lightness - main.lightness) ** 2 + abs(bent) ** 2

    return min(COLOURS, key=distance).name if main.share else "black"  # the only one that is not looked for


def _words(text: str) -> list[str]:
    """The words of a text, without the weights of marked ones: "(blue:1.2) owl" is two."""
    return _WORD.findall(_WEIGHT.sub(" ", text.lower()))
