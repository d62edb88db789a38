"""Prompts to measure obedience with: of what was trained, and of what was held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from rein.data.captions import noun_phrase
from rein.data.colours import COLOURS
from rein.data.held_out import HeldOut
from rein.data.icons import IconArt
from rein.errors import InputError, nearest, quoted

EVALUATION_KINDS = ("plain", "colour", "pair")
DEFAULT_PAIRS = 200


@dataclass(frozen=True)
class EvaluationPrompt:
    """A prompt and what its picture should show: places in the lists of concepts, of styles and of `COLOURS`."""

    text: str
    concepts: tuple[int, ...]
    style: int
    colour: int | None
    kind: str


def held_out_prompts(art: IconArt, kind: str, count: int | None = None, seed: int = 0) -> list[EvaluationPrompt]:
    """Prompts of what is never trained on: (concept, style), (concept, colour) or two-thing combinations.

    All of them, or `count` chosen by `seed`; of pairs, which are many, 200 unless told. Fewer where there are fewer.

    Raises:
        InputError: an unknown kind.
    """
    return _prompts(art, kind, True, count, seed)


def trained_prompts(art: IconArt, kind: str, count: int | None = None, seed: int = 0) -> list[EvaluationPrompt]:
    """Prompts of what is trained on; else as `held_out_prompts`. Colours are those that a thing has not by itself.

    Raises:
        InputError: an unknown kind.
    """
    return _prompts(art, kind, False, count, seed)


def _prompts(art: IconArt, kind: str, held_out: bool, count: int | None, seed: int) -> list[EvaluationPrompt]:
    if kind not in EVALUATION_KINDS:
        raise InputError(f"unknown kind of prompt {quoted(kind)}: {nearest(kind, EVALUATION_KINDS)}")
    if count is not None and count < 1:
        raise InputError(f"count is {count}; it must be at least 1")
    held, random = HeldOut(art), Random(f"{seed}/prompts/{kind}/{held_out}")
    if kind == "pair":
        return list(_pairs(art, held, held_out, DEFAULT_PAIRS if count is None else count, random))
    listing: dict[str, Callable[[IconArt, HeldOut, bool, Random], Iterator[EvaluationPrompt]]]
    listing = {"plain": _plain, "colour": _colours}
    found = list(listing[kind](art, held, held_out, random))
    return found if count is None or count >= len(found) else random.sample(found, count)


def _text(art: IconArt, phrase: str, style: int) -> str:
    return f"{phrase}, {art.styles[style]} style"


def _plain(art: IconArt, held: HeldOut, held_out: bool, random: Random) -> Iterator[EvaluationPrompt]:
    for index, concept in enumerate(art.concepts):
        kept = held.styles[index]
        styles = held.trained_styles[index] if not held_out else () if kept is None else (kept,)
        for style in styles:
            text = _text(art, noun_phrase(concept, concept.name), style)
            yield EvaluationPrompt(text, (index,), style, None, "plain")


def _colours(art: IconArt, held: HeldOut, held_out: bool, random: Random) -> Iterator[EvaluationPrompt]:
    """Each (concept, colour) once, in one of the styles in which the concept is trained."""
    for index, concept in enumerate(art.concepts):
        for colour in sorted(held.held_colours[index]) if held_out else held.trained_colours[index]:
            if colour in held.own_colours[index] or COLOURS[colour].name == "white":
                continue  # A white thing is shown on coloured grounds only, and none is asked for here.
            style = random.choice(held.trained_styles[index])
            phrase = noun_phrase(concept, concept.colourless_names[0], colour)
            yield EvaluationPrompt(_text(art, phrase, style), (index,), style, colour, "colour")


def _pairs(art: IconArt, held: HeldOut, held_out: bool, count: int, random: Random) -> Iterator[EvaluationPrompt]:
    """Pairs drawn by lot, none twice; it ends early when a short list of concepts has no more of them."""
    seen: set[frozenset[int]] = set()
    for _ in range(count * 200):
        if len(seen) == count or len(art.concepts) < 2:
            return
        first, second = random.sample(range(len(art.concepts)), 2)
        styles = sorted(set(held.trained_styles[first]) & set(held.trained_styles[second]))
        if frozenset((first, second)) in seen or held.pair(first, second) != held_out or not styles:
            continue
        seen.add(frozenset((first, second)))
        one, other = (noun_phrase(art.concepts[index], art.concepts[index].name) for index in (first, second))
        style = random.choice(styles)
        yield EvaluationPrompt(_text(art, f"{one} and {other}", style), (first, second), style, None, "pair")
