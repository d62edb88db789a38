"""Sentences for a scene, from a small grammar: what a person might type to get it.

"a cat and a dog" has the cat on the left: things joined without another word stand in reading order, so that the words
decide the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from rein.data.colours import COLOUR_NAMES
from rein.data.concepts import Concept
from rein.data.scenes import Scene, Thing
from rein.data.words import NUMBER_WORDS, plural, with_article

MAIN_NAME_SHARE = 0.75

_STYLED = (
    ("{phrase}, {style} style", 0.50),
    ("{phrase} in {style} style", 0.13),
    ("{style} style picture of {phrase}", 0.09),
    ("{phrase}", 0.20),
    ("a picture of {phrase}", 0.08),
)
_BESIDE = (
    ("{first} and {second}", 0.60),
    ("{first} to the left of {second}", 0.14),
    ("{second} to the right of {first}", 0.14),
    ("{first} next to {second}", 0.12),
)
_ABOVE = (
    ("{first} above {second}", 0.65),
    ("{second} below {first}", 0.35),
)


def caption(scene: Scene, concepts: Sequence[Concept], styles: Sequence[str], random: Random) -> str:
    """One caption, in lower case, without a full stop."""
    phrase = _subject(scene, concepts, random)
    if scene.ground is not None:
        phrase = f"{phrase} on {with_article(scene.ground)} background"
    return _pick(_STYLED, random).format(phrase=phrase, style=styles[scene.style])


def noun_phrase(concept: Concept, name: str, colour: int | None = None, small: bool = False) -> str:
    """ "a small red apple", "cherries", "bread": the name with the article it takes."""
    words = " ".join(filter(None, ("small" if small else "", COLOUR_NAMES[colour] if colour is not None else "", name)))
    return words if name in concept.bare else with_article(words)


def _subject(scene: Scene, concepts: Sequence[Concept], random: Random) -> str:
    if scene.kind == "count":
        thing = scene.things[0]
        name = _chosen(concepts[thing.concept].countable_names, random)
        number = len(scene.things)
        return f"{number if random.random() < 0.1 else NUMBER_WORDS[number]} {plural(name)}"
    phrases = [_phrase(thing, concepts, random, scene.place is not None) for thing in scene.things]
    if scene.place is not None:
        return f"{phrases[0]} {scene.place}"
    if len(phrases) == 2:
        pattern = _pick(_BESIDE if scene.relation == "beside" else _ABOVE, random)
        return pattern.format(first=phrases[0], second=phrases[1])
    if len(phrases) == 3:
        return f"{phrases[0]}, {phrases[1]} and {phrases[2]}"
    return phrases[0]


def _phrase(thing: Thing, concepts: Sequence[Concept], random: Random, small: bool) -> str:
    concept = concepts[thing.concept]
    return noun_phrase(concept, _name(concept, thing, random), thing.colour, small)


def _name(concept: Concept, thing: Thing, random: Random) -> str:
    """Of a recoloured thing a name that says no other colour."""
    return _chosen(concept.names if thing.colour is None else concept.colourless_names, random)


def _chosen(names: Sequence[str], random: Random) -> str:
    """Mostly the first name."""
    return names[0] if len(names) == 1 or random.random() < MAIN_NAME_SHARE else random.choice(names[1:])


def _pick(choices: Sequence[tuple[str, float]], random: Random) -> str:
    return random.choices([text for text, _ in choices], [weight for _, weight in choices])[0]
