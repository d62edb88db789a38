"""What all dialects of prompts share: their limits, the form they are parsed into, and marks that are no words.

A prompt goes through these stages; each reads it once, from left to right, in time proportional to its length:

1. styles (`styles`), comments, wildcards and variants (`variants`): text into text;
2. `<lora:...>` tags are taken out (`extract_networks`);
3. `AND` divides it into parts with weights (`split_parts`), prompt editing into a text for every step (`editing`);
4. brackets become pieces of text with weights (`emphasis`, `comfy`, `compel`);
5. pieces become windows of tokens (`windows`), and those what guides a U-Net (`plan`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rein.errors import InputError, quoted

MAX_LENGTH = 1_000_000
"""Characters of a prompt, before and after wildcards and styles."""
MAX_MARKS = 10_000
"""Signs of the language, brackets and the like, in a prompt: each costs a thousand times the time of a letter."""
MAX_DEPTH = 64
"""How deep brackets may be nested; 64 round ones multiply by 446."""
MAX_WEIGHT = 1000.0
"""The largest weight of a word or of a part, either sign."""
MAX_PARTS = 16
"""Parts joined by AND: each is one more pass through the U-Net at every step."""

MAX_TAGS = 100
"""Tags for networks in a prompt."""

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)", re.ASCII)
_MARKS = '()[]{}|:\\"'
_AND = re.compile(r"\bAND\b")
_TAG = re.compile(r"<(lora|lyco|hypernet):([^<>]+)>", re.IGNORECASE)


@dataclass(frozen=True)
class Piece:
    """Text of one weight. 1 is as it is; what another weight does is the dialect's arithmetic."""

    text: str
    weight: float = 1.0


Section = tuple[Piece, ...]
"""Pieces that share windows of tokens; the next section (after BREAK) begins a new window."""


@dataclass(frozen=True)
class Text:
    """One text with its weights: what becomes one context.

    Fields:
        sections: at least one.
        weight: of the whole text among others of an `Expression`.
    """

    sections: tuple[Section, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Expression:
    """What a dialect's parser makes of a text without AND and without editing.

    Fields:
        texts: at least one; more only for compel's blend and conjunction.
        how: "single", "blend" (the sum of their contexts by weight) or "join" (one context after another).
        normalise: of a blend: weights are divided by their sum.
    """

    texts: tuple[Text, ...]
    how: Literal["single", "blend", "join"] = "single"
    normalise: bool = True


class NetworkTag(NamedTuple):
    """`<lora:name:...>` in a prompt. `text_weight` None means that of the U-Net."""

    name: str
    weight: float
    text_weight: float | None


class Brackets:
    """Nested brackets of one kind and what each multiplies the text in it by. Bracket 0 is none at all.

    A bracket is known by its number; its factor is set when it is closed.
    """

    def __init__(self) -> None:
        self.parents = [0]
        self.factors: list[float] = [1.0]
        self._open = [0]

    @property
    def current(self) -> int:
        """The innermost open bracket."""
        return self._open[-1]

    @property
    def depth(self) -> int:
        """How many are open."""
        return len(self._open) - 1

    def open(self, factor: float = 1.0) -> None:
        """Enter a bracket, with the factor it has if it is never closed. Raises `InputError` below `MAX_DEPTH`."""
        check_depth(len(self._open))
        self.parents.append(self.current)
        self.factors.append(factor)
        self._open.append(len(self.factors) - 1)

    def close(self, factor: float) -> None:
        """Leave the innermost open bracket."""
        self.factors[self._open.pop()] = factor

    def totals(self) -> list[float]:
        """Of every bracket, the product of its factor and those of the brackets around it."""
        totals = [1.0]
        for parent, factor in zip(self.parents[1:], self.factors[1:], strict=True):
            totals.append(factor * totals[parent])
        return totals


def check_size(text: str, more: str = "") -> str:
    """The text itself; `more` are marks of its dialect.

    Raises:
        InputError: it is longer than `MAX_LENGTH` or has more than `MAX_MARKS` marks.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"the prompt has {len(text):,} characters: shorten it to {MAX_LENGTH:,} at most")
    marks = sum(text.count(mark) for mark in _MARKS + more)
    if marks > MAX_MARKS:
        raise InputError(f"the prompt has {marks:,} brackets, colons and other marks: at most {MAX_MARKS:,} are read")
    return text


def check_depth(depth: int) -> None:
    """Raises `InputError` if brackets are nested deeper than `MAX_DEPTH`."""
    if depth > MAX_DEPTH:
        raise InputError(
            f"brackets in the prompt are nested more than {MAX_DEPTH} deep: close some, or write \\( for ("
        )


def checked_weight(weight: float, text: str) -> float:
    """The weight itself. Raises `InputError` if it is not a number from -`MAX_WEIGHT` to `MAX_WEIGHT`."""
    if not (math.isfinite(weight) and abs(weight) <= MAX_WEIGHT):
        raise InputError(
            f"the weight of {quoted(text, 40)} is {weight:g}: it must be from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        )
    return weight


def merged(pieces: list[Piece]) -> Section:
    """Neighbours of one weight as one piece, so that their letters may make words together; then empty ones go."""
    runs: list[tuple[list[str], float]] = []
    for piece in pieces:
        checked_weight(piece.weight, piece.text)
        if runs and runs[-1][1] == piece.weight:
            runs[-1][0].append(piece.text)
        else:
            runs.append(([piece.text], piece.weight))
    return tuple(Piece(text, weight) for texts, weight in runs if (text := "".join(texts)))


def strip_comments(text: str) -> str:
    """The text without comments, which go from # to the end of the line; a line that is all comment goes whole."""
    if "#" not in text:
        return text
    kept = []
    for line in text.split("\n"):
        words, mark, _ = line.partition("#")
        if words or not mark:
            kept.append(words)
    return "\n".join(kept)


def split_parts(text: str) -> list[tuple[str, float]]:
    """The parts that AND (in capitals) joins, each with the weight that `: number` at its end gives it, else 1.

    Source: Liu et al. 2022 (composable diffusion), in the notation of AUTOMATIC1111's web UI, which reads a weight
    also where there is only one part.

    Raises:
        InputError: more than `MAX_PARTS`, or a weight out of range.
    """
    parts = _AND.split(text, maxsplit=MAX_PARTS)
    if len(parts) > MAX_PARTS:
        raise InputError(f"the prompt has more than {MAX_PARTS} parts joined by AND: each costs a pass of the U-Net")
    return [_weighted_part(part) for part in parts]


def _weighted_part(part: str) -> tuple[str, float]:
    words, colon, tail = part.rpartition(":")
    number = NUMBER.fullmatch(tail.strip()) if colon else None
    if number is None:
        return part.rstrip(), 1.0
    return words.rstrip(), checked_weight(float(number[0]), words.strip())


def extract_networks(prompt: str) -> tuple[str, list[NetworkTag]]:
    """The prompt without its tags for additional networks, and the tags, in their order.

    `<lora:name>` (weight 1), `<lora:name:0.8>`, `<lora:name:TEXT:UNET>` or with `te=` and `unet=`, in any order, as
    AUTOMATIC1111's web UI reads them; `<lyco:...>` is the same. Other text in angle brackets stays.

    Raises:
        InputError: a tag without a name or with a weight that is no number; a hypernetwork.
    """
    tags: list[NetworkTag] = []

    def take(found: re.Match[str]) -> str:
        if found[1].lower() == "hypernet":
            raise InputError(f"{quoted(found[0])}: hypernetworks are not supported; take it out of the prompt")
        if len(tags) == MAX_TAGS:
            raise InputError(f"the prompt has more than {MAX_TAGS} tags such as <lora:name:0.8>: use fewer")
        tags.append(_network_tag(found[0], found[2]))
        return ""

    return _TAG.sub(take, prompt), tags


def _network_tag(tag: str, arguments: str) -> NetworkTag:
    name, *values = (value.strip() for value in arguments.split(":"))
    named = dict(value.split("=", 1) for value in values if "=" in value)
    positional = [value for value in values if "=" not in value]
    if not name or set(named) - {"te", "unet"} or len(positional) > 2:
        raise InputError(
            f"{quoted(tag)} is no network: write <lora:NAME:WEIGHT> or <lora:NAME:TEXT_WEIGHT:UNET_WEIGHT>"
        )
    numbers = {key: _tag_number(tag, value) for key, value in named.items()}
    text, unet = numbers.get("te"), numbers.get("unet")
    if positional:
        first = _tag_number(tag, positional[0])
        text = first if text is None else text
        unet = _tag_number(tag, positional[-1]) if unet is None else unet
    if unet is None:
        unet = 1.0 if text is None else text
    return NetworkTag(name, unet, None if text == unet else text)


def _tag_number(tag: str, value: str) -> float:
    if not NUMBER.fullmatch(value):
        raise InputError(f"{quoted(tag)}: its weight {quoted(value)} is not a number")
    return checked_weight(float(value), tag)
