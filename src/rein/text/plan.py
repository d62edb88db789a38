"""A prompt and its negative prompt made into what guides the U-Net at every step of a picture.

A picture's words may change from step to step (prompt editing), and consist of parts that the U-Net is asked for one by
one (AND). Steps with the same words share one object, so that what is computed of them can be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from rein.nn.clip import TextTower
from rein.text.dialects import DIALECTS, Dialect
from rein.text.editing import texts_by_step
from rein.text.encode import Conditioning, check_pair
from rein.text.inversion import Embedding
from rein.text.prompt import Expression, split_parts, strip_comments
from rein.text.reading import EMPTY, Recall, TowerReader
from rein.text.tokenizer import Tokenizer
from rein.text.windows import Window, cut_windows


@dataclass(frozen=True, eq=False)
class StepWords:
    """What guides one step.

    Fields:
        wanted: the parts of the prompt, each of one row, with their weights.
        unwanted: the negative prompt, one row; None where it is never asked for.

    Rows may differ in their number of tokens.
    """

    wanted: tuple[tuple[Conditioning, float], ...]
    unwanted: Conditioning | None

    @property
    def simple(self) -> bool:
        """Whether the prompt is a single part of weight 1."""
        return len(self.wanted) == 1 and self.wanted[0][1] == 1

    @cached_property
    def rows(self) -> tuple[Conditioning, ...]:
        """The negative prompt, if it is asked for, and the parts."""
        return (*(() if self.unwanted is None else (self.unwanted,)), *(words for words, _ in self.wanted))


@dataclass(frozen=True, eq=False)
class PromptPlan:
    """What guides every step of a picture, from the noisiest on."""

    steps: tuple[StepWords, ...]

    @property
    def constant(self) -> bool:
        """Whether all steps have the same words."""
        return all(words is self.steps[0] for words in self.steps)

    def map(self, change: Callable[[Conditioning, bool], Conditioning]) -> PromptPlan:
        """The plan with `change(conditioning, whether it is the negative prompt's)` for each; shared ones stay so."""
        made: dict[tuple[int, bool], Conditioning] = {}
        steps: dict[int, StepWords] = {}

        def changed(old: Conditioning, negative: bool) -> Conditioning:
            key = (id(old), negative)
            if key not in made:
                made[key] = change(old, negative)
            return made[key]

        for words in self.steps:
            if id(words) not in steps:
                wanted = tuple((changed(part, False), weight) for part, weight in words.wanted)
                steps[id(words)] = StepWords(wanted, words.unwanted and changed(words.unwanted, True))
        return PromptPlan(tuple(steps[id(words)] for words in self.steps))


@dataclass(frozen=True)
class EncodingOptions:
    """How prompts are read.

    Fields:
        clip_skip: see `TextTower.context`.
        embeddings: learned words by the name that stands in the prompt.
        zero_empty_negative: whether the model was trained with zeros for an empty text (`ModelSpec`).
        leave_negative: leave the negative prompt out where nothing is guided away from it, unless the prompt has
            several parts, which are combined around it.
        known: for each tower, what it has said before, with the same learned words.
    """

    dialect: Dialect = DIALECTS["rein"]
    clip_skip: int = 1
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    zero_empty_negative: bool = False
    leave_negative: bool = False
    known: Callable[[TextTower], Recall] | None = None


@torch.no_grad()
def encode_prompts(
    prompt: str,
    negative_prompt: str,
    steps: int,
    towers: Sequence[TextTower],
    tokenizers: Sequence[Tokenizer],
    options: EncodingOptions | None = None,
) -> PromptPlan:
    """Encode a prompt for `steps` steps.

    Args:
        towers: their contexts are joined along D; the last gives the pooled text, from the first window.

    Raises:
        InputError: a prompt that is too long or nested too deep, a weight out of range, an embedding or a tokenizer
            that does not belong to the towers.
    """
    options = options or EncodingOptions()
    for tower, tokenizer in zip(towers, tokenizers, strict=True):
        check_pair(tower, tokenizer)
    encoder = _Encoder(towers, tokenizers, options)
    dialect = options.dialect
    prompt = strip_comments(prompt) if dialect.edits else prompt
    parts = split_parts(prompt) if dialect.edits else [(prompt, 1.0)]
    single = len(parts) == 1 and parts[0][1] == 1
    wanted = [_readings(text, steps, dialect) for text, _ in parts]
    unwanted = [] if options.leave_negative and single else [_readings(negative_prompt, steps, dialect)]
    for readings in [sum(unwanted + wanted, ())] if dialect.fill == "empty" else [*unwanted, *wanted]:
        encoder.reserve(readings)
    zeros = options.zero_empty_negative and dialect.zeroes_empty and not negative_prompt.strip()
    made: dict[tuple[str, ...], StepWords] = {}
    plan = []
    for step in range(steps):
        texts = tuple(readings[step] for readings in (*unwanted, *wanted))
        if texts not in made:
            encoded = [encoder.encode(text) for text in texts]
            negative = encoded[0] if unwanted else None
            if negative is not None and zeros:
                negative = _zeros(negative)
            contexts = _of_one_length(encoded[len(unwanted) :])
            weights = [weight for _, weight in parts]
            made[texts] = StepWords(tuple(zip(contexts, weights, strict=True)), negative)
        plan.append(made[texts])
    return PromptPlan(tuple(plan))


def _readings(text: str, steps: int, dialect: Dialect) -> tuple[str, ...]:
    """The text at every step."""
    if not dialect.edits:
        return (text,) * steps
    return texts_by_step(strip_comments(text), steps)


class _Encoder:
    """Texts without AND and editing made into contexts, each once."""

    def __init__(self, towers: Sequence[TextTower], tokenizers: Sequence[Tokenizer], options: EncodingOptions) -> None:
        self._dialect = options.dialect
        self._readers = [
            TowerReader(
                tower,
                tokenizer,
                options.clip_skip,
                options.embeddings,
                index,
                None if options.known is None else options.known(tower),
            )
            for index, (tower, tokenizer) in enumerate(zip(towers, tokenizers, strict=True))
        ]
        self._expressions: dict[str, Expression] = {}
        self._windows: dict[str, list[list[tuple[Window, ...]]]] = {}
        self._counts: dict[str, int] = {}
        self._made: dict[str, Conditioning] = {}

    def reserve(self, texts: Sequence[str]) -> None:
        """Give all of `texts` as many windows as the longest of them needs."""
        distinct = dict.fromkeys(texts)
        for text in distinct:
            if text not in self._expressions:
                self._expressions[text] = self._dialect.parse(text)
                self._windows[text] = [self._cut(text, reader) for reader in self._readers]
        count = max(self._needed(text) for text in distinct)
        for text in distinct:
            self._counts[text] = max(count, self._counts.get(text, 1))

    def _cut(self, text: str, reader: TowerReader) -> list[tuple[Window, ...]]:
        """The windows of each text of the expression."""
        return [
            cut_windows(entry, reader.tokenizer, reader.room, self._dialect.cutting, reader.embeddings)
            for entry in self._expressions[text].texts
        ]

    def _needed(self, text: str) -> int:
        """Windows of the whole expression, in the tower that needs most."""
        add = sum if self._expressions[text].how == "join" else max
        return max(add(len(windows) for windows in cut) for cut in self._windows[text])

    def encode(self, text: str) -> Conditioning:
        """One row for a text that has been reserved."""
        if text not in self._made:
            contexts = []
            pooled: Tensor | None = None
            for reader, cut in zip(self._readers, self._windows[text], strict=True):
                context, pooled = self._combined(self._expressions[text], reader, cut, self._counts[text])
                contexts.append(context)
            self._made[text] = Conditioning(torch.cat(contexts, dim=2), pooled)
        return self._made[text]

    def _combined(
        self, expression: Expression, reader: TowerReader, cut: list[tuple[Window, ...]], count: int
    ) -> tuple[Tensor, Tensor]:
        """Context (1, count * T, D) and pooled text (1, P) of one tower."""
        weigh = self._dialect.arithmetic()
        pooled = [reader.pooled(windows[0]) for windows in cut]
        if expression.how == "join":
            contexts = [
                _from_zero_point(torch.cat(weigh(reader, windows), dim=1), entry.weight, reader, len(windows))
                for entry, windows in zip(expression.texts, cut, strict=True)
            ]
            empty = [reader.context(EMPTY)] * (count - sum(len(windows) for windows in cut))
            return torch.cat([*contexts, *empty], dim=1), pooled[0]
        filled = [weigh(reader, [*windows, *[EMPTY] * (count - len(windows))]) for windows in cut]
        if expression.how == "single":
            return torch.cat(filled[0], dim=1), pooled[0]
        total = sum(entry.weight for entry in expression.texts) if expression.normalise else 1.0
        shares = [entry.weight / total for entry in expression.texts]
        mixed = [torch.cat(contexts, dim=1) * share for contexts, share in zip(filled, shares, strict=True)]
        vectors = [vector * share for vector, share in zip(pooled, shares, strict=True)]
        return torch.stack(mixed).sum(dim=0), torch.stack(vectors).sum(dim=0)


def _from_zero_point(context: Tensor, weight: float, reader: TowerReader, count: int) -> Tensor:
    """compel's weight of a text in a conjunction: its distance from the empty text, times the weight."""
    if weight == 1:
        return context
    empty = torch.cat([reader.context(EMPTY)] * count, dim=1)
    return empty + (context - empty) * weight


def _zeros(words: Conditioning) -> Conditioning:
    pooled = None if words.pooled is None else torch.zeros_like(words.pooled)
    return replace(words, context=torch.zeros_like(words.context), pooled=pooled)


def _of_one_length(parts: list[Conditioning]) -> list[Conditioning]:
    """Parts of different lengths filled with their last token's state, as AUTOMATIC1111's web UI does."""
    longest = max(part.context.shape[1] for part in parts)
    filled = []
    for part in parts:
        missing = longest - part.context.shape[1]
        last = part.context[:, -1:].expand(-1, missing, -1)
        filled.append(replace(part, context=torch.cat([part.context, last], dim=1)) if missing else part)
    return filled
