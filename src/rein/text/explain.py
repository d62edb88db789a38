"""A prompt taken apart, as data: its parts, its texts over the steps, their windows, tokens and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rein.text.dialects import Dialect
from rein.text.editing import texts_by_step
from rein.text.inversion import Embedding
from rein.text.prompt import Text, split_parts, strip_comments
from rein.text.tokenizer import Tokenizer
from rein.text.windows import Token, cut_windows


@dataclass(frozen=True)
class ExplainedToken:
    """One place of a window. A learned word has the id 0, and stands there once for each of its vectors."""

    text: str
    id: int
    weight: float


@dataclass(frozen=True)
class ExplainedText:
    """A text that becomes one context.

    Fields:
        weight: among the texts of a blend or a conjunction; 1 otherwise.
        windows: its tokens, window by window, without start, end and pads.
    """

    weight: float
    windows: tuple[tuple[ExplainedToken, ...], ...]


@dataclass(frozen=True)
class ExplainedReading:
    """What a part says at some steps.

    Fields:
        steps: which, counted from 1.
        text: with the signs of weights in it.
        how: "single", "blend" or "join", see `rein.text.prompt.Expression`.
    """

    steps: tuple[int, ...]
    text: str
    how: str
    texts: tuple[ExplainedText, ...]


@dataclass(frozen=True)
class ExplainedPart:
    """One part of a prompt joined by AND; its weight, and what it says over the steps, in order of the first step."""

    weight: float
    readings: tuple[ExplainedReading, ...]


@dataclass(frozen=True)
class Vocabulary:
    """What a text tower can read.

    Fields:
        room: tokens of a window without start and end.
        embeddings: learned words by name.
    """

    tokenizer: Tokenizer
    room: int
    embeddings: Mapping[str, Embedding] | None = None


def explain_prompt(
    prompt: str, steps: int, dialect: Dialect, vocabulary: Vocabulary, negative: bool = False
) -> tuple[ExplainedPart, ...]:
    """The parts of a prompt without tags for networks, as a dialect reads them.

    Args:
        negative: the prompt is a negative one, in which AND is a word.

    Raises:
        InputError: as `rein.text.plan.encode_prompts`.
    """
    prompt = strip_comments(prompt) if dialect.edits else prompt
    parts = split_parts(prompt) if dialect.edits and not negative else [(prompt, 1.0)]
    return tuple(ExplainedPart(weight, _readings(text, steps, dialect, vocabulary)) for text, weight in parts)


def _readings(text: str, steps: int, dialect: Dialect, vocabulary: Vocabulary) -> tuple[ExplainedReading, ...]:
    by_text: dict[str, list[int]] = {}
    for step, reading in enumerate(texts_by_step(text, steps) if dialect.edits else (text,) * steps, start=1):
        by_text.setdefault(reading, []).append(step)
    readings = []
    for reading, where in by_text.items():
        expression = dialect.parse(reading)
        texts = tuple(_text(entry, dialect, vocabulary) for entry in expression.texts)
        readings.append(ExplainedReading(tuple(where), reading, expression.how, texts))
    return tuple(readings)


def _text(text: Text, dialect: Dialect, vocabulary: Vocabulary) -> ExplainedText:
    tokenizer = vocabulary.tokenizer
    windows = cut_windows(text, tokenizer, vocabulary.room, dialect.cutting, vocabulary.embeddings)
    explained = (tuple(_token(token, tokenizer, dialect) for token in window) for window in windows)
    return ExplainedText(text.weight, tuple(explained))


def _token(token: Token, tokenizer: Tokenizer, dialect: Dialect) -> ExplainedToken:
    weight = 1.0 if dialect.weighting == "ignore" else token.weight
    name = token.learned[0] if token.learned else tokenizer.decode([token.id])
    return ExplainedToken(name, token.id, weight)
