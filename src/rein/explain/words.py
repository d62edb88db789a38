"""What became of the words: tokens with their numbers, and what the text towers made of them, layer by layer.

Shapes: W windows of T tokens, L layers, D width. The towers are watched while the pipeline encodes the request, so the
record is of what the network was really given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from rein.formats.checkpoint import LoadedModel
from rein.nn.clip import CausalAttention, TextFeatures
from rein.pipeline.job import Job
from rein.text.dialects import find_dialect
from rein.text.explain import ExplainedToken, Vocabulary, explain_prompt
from rein.text.tokenizer import Tokenizer

Kind = Literal["start", "word", "end", "pad"]

WINDOWS_KEPT = 4
"""Of a longer prompt the states of the first windows are kept; those of SDXL's second tower take 13 MB a window."""

WORDS_SHOWN = 48
"""Words that get a heat map of their own; the rest of a longer prompt goes into one group."""


@dataclass(frozen=True)
class Token:
    """One place of the context: its number in the vocabulary, its text, what it is, and the word that it is part of.

    `place` counts along the whole context, `word` the words of the prompt; marks and pads have no word. `weight` is
    that of the prompt's language. A learned word has the id 0.
    """

    place: int
    id: int
    text: str
    kind: Kind
    word: int | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Reading:
    """What one part of the prompt says at some steps, counted from 1, and its weight among the parts joined by AND."""

    part: int
    weight: float
    steps: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Group:
    """Token places that share a heat map: a word, the start marks, or the ends with their pads."""

    label: str
    kind: Literal["start", "word", "rest", "end"]
    places: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TowerRecord:
    """What one tower made of the prompt's first windows.

    Fields:
        hidden: states before the first layer and after each, (W, L + 1, T, D).
        attention: which token looked at which, mean over heads, (W, L, T, T); each row sums to 1.
        pooled: (P,), the vector for the whole text.
    """

    hidden: Tensor
    attention: Tensor
    pooled: Tensor


@dataclass(frozen=True, eq=False)
class WordsPart:
    """One of the parts that AND joins, as it begins; most prompts are a single one.

    Fields:
        tokens: every place of the context, of the first tower.
        words: the words of these tokens, in order.
        windows: how many windows they take.
    """

    tokens: tuple[Token, ...]
    words: tuple[str, ...]
    windows: int

    def groups(self) -> tuple[Group, ...]:
        """All places of the context, each in one group: start, words, the words beyond `WORDS_SHOWN`, end and pads."""
        marks = tuple(token.place for token in self.tokens if token.kind == "start")
        ends = tuple(token.place for token in self.tokens if token.kind in ("end", "pad"))
        own = [
            Group(word, "word", tuple(token.place for token in self.tokens if token.word == number))
            for number, word in enumerate(self.words[:WORDS_SHOWN])
        ]
        beyond = tuple(token.place for token in self.tokens if token.word is not None and token.word >= WORDS_SHOWN)
        rest = [Group(f"{len(self.words) - WORDS_SHOWN} more words", "rest", beyond)] if beyond else []
        return (Group("start", "start", marks), *own, *rest, Group("end and padding", "end", ends))


@dataclass(frozen=True, eq=False)
class Words:
    """The prompt as the networks got it.

    Fields:
        prompt, negative_prompt: as they were written.
        readings: what the prompt says at which steps; one where it is the same at all and in one part.
        parts: tokens and words of each part that AND joins, at least one.
        negative_ids: token ids of the negative prompt, without marks and pads.
        length: of how many tokens a window is.
        towers: one record for each text tower, of the first part.
        seconds: how long encoding took.
    """

    prompt: str
    negative_prompt: str
    readings: tuple[Reading, ...]
    parts: tuple[WordsPart, ...]
    negative_ids: tuple[int, ...]
    length: int
    towers: tuple[TowerRecord, ...]
    seconds: float

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Of the first part."""
        return self.parts[0].tokens

    @property
    def words(self) -> tuple[str, ...]:
        """Of the first part."""
        return self.parts[0].words

    @property
    def windows(self) -> int:
        """Of the first part."""
        return self.parts[0].windows

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each part; (1.0,) for one without."""
        return tuple({reading.part: reading.weight for reading in self.readings}.values())

    def groups(self) -> tuple[Group, ...]:
        """Of the first part."""
        return self.parts[0].groups()


@dataclass
class TowerWatch:
    """Listens to the towers of a model while a request is encoded."""

    parts: LoadedModel
    _seen: list[dict[tuple[int, ...], tuple[TextFeatures, Tensor]]] = field(default_factory=list)
    _layers: list[Tensor] = field(default_factory=list)
    _seconds: float = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block every window that a tower reads is noted; afterwards the towers are as before."""
        removers: list[Callable[[], None]] = []
        self._seen = [{} for _ in self.parts.towers]
        try:
            for tower, seen in zip(self.parts.towers, self._seen, strict=True):
                for module in tower.modules():
                    if isinstance(module, CausalAttention):
                        removers.append(_with_probe(module, self._attended))
                removers.append(tower.register_forward_hook(self._noting(seen)).remove)
            began = time.perf_counter()
            yield
            self._seconds = time.perf_counter() - began
        finally:
            for remove in removers:
                remove()

    def _attended(self, query: Tensor, key: Tensor) -> None:
        self._layers.append(causal_maps(query, key).mean(dim=1))

    def _noting(self, seen: dict[tuple[int, ...], tuple[TextFeatures, Tensor]]) -> Callable[..., None]:
        def note(module: Any, arguments: tuple[Tensor, ...], features: TextFeatures) -> None:
            maps, self._layers = torch.stack(self._layers, dim=1), []
            for row, ids in enumerate(arguments[0].tolist()):
                seen[tuple(ids)] = _row(features, row), maps[row]

        return note

    def words(self, job: Job) -> Words:
        """The record, once the request is encoded."""
        drawn, records = job.words[0], []
        for number, seen in enumerate(self._seen):
            # Words that the tower read otherwise than they are listed (a blend): then what it read last is taken.
            rows = [self._row(window, number) for window in self._windows(job, number)[1][0][:WINDOWS_KEPT]]
            records.append(_tower_record([seen[row] for row in rows if row in seen] or list(seen.values())[-1:]))
        readings, windows = self._windows(job, 0)
        return Words(
            job.request.prompt,
            job.request.negative_prompt,
            readings,
            tuple(WordsPart(*self._tokens(part), len(part)) for part in windows),
            tuple(self.parts.tokenizers[0].encode(drawn.negative_prompt)),
            self.parts.towers[0].config.context_length,
            tuple(records),
            self._seconds,
        )

    def _windows(self, job: Job, number: int) -> tuple[tuple[Reading, ...], list[list[tuple[ExplainedToken, ...]]]]:
        """What the prompt says, and the windows that a tower reads of each part at the first step."""
        request = job.request
        assert request.dialect is not None
        dialect = find_dialect(request.dialect, request.emphasis)
        room = self.parts.towers[number].config.context_length - 2
        vocabulary = Vocabulary(self.parts.tokenizers[number], room, job.chosen.embeddings)
        parts = explain_prompt(job.words[0].text, request.step_count, dialect, vocabulary)
        readings = [
            Reading(place, part.weight, reading.steps, reading.text)
            for place, part in enumerate(parts)
            for reading in part.readings
        ]
        begun = [part.readings[0] for part in parts]
        texts = [first.texts if first.how == "join" else first.texts[:1] for first in begun]
        return tuple(readings), [[window for text in part for window in text.windows] for part in texts]

    def _row(self, window: Sequence[ExplainedToken], number: int) -> tuple[int, ...]:
        """The ids of a window as a tower gets them: with start, end and pads."""
        config, tokenizer = self.parts.towers[number].config, self.parts.tokenizers[number]
        row = (tokenizer.start, *(token.id for token in window), tokenizer.end)
        return row + (config.pad_token,) * (config.context_length - len(row))

    def _tokens(self, windows: Sequence[tuple[ExplainedToken, ...]]) -> tuple[tuple[Token, ...], tuple[str, ...]]:
        """Every place of the context, and the words."""
        tokenizer = self.parts.tokenizers[0]
        tokens: list[Token] = []
        words: list[list[ExplainedToken]] = []
        open_word = False
        for window in windows:
            row = self._row(window, 0)
            tokens.append(Token(len(tokens), row[0], "start", "start"))
            for token in window:
                if not open_word:
                    words.append([])
                words[-1].append(token)
                tokens.append(Token(len(tokens), token.id, token.text, "word", len(words) - 1, token.weight))
                open_word = not ends_word(token.id, tokenizer)
            for place in range(len(window) + 1, len(row)):
                kind: Kind = "end" if place == len(window) + 1 else "pad"
                tokens.append(Token(len(tokens), row[place], kind, kind))
        return tuple(tokens), tuple(_word(entry, tokenizer) for entry in words)


def _tower_record(found: Sequence[tuple[TextFeatures, Tensor]]) -> TowerRecord:
    features, maps = zip(*found, strict=True)
    hidden = torch.stack([torch.cat(entry.hidden) for entry in features]).float().cpu()
    return TowerRecord(hidden, torch.stack(maps).cpu(), features[0].pooled[0].float().cpu())


def _word(tokens: Sequence[ExplainedToken], tokenizer: Tokenizer) -> str:
    """A learned word by its name, others by the bytes of their pieces."""
    return tokens[0].text if tokens[0].id == 0 else tokenizer.decode([token.id for token in tokens])


def causal_maps(query: Tensor, key: Tensor) -> Tensor:
    """Softmax weights (B, heads, T, T) of causal self-attention, from what a tower's probe received."""
    scores: Tensor = query.float() @ key.float().transpose(-1, -2) / query.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(later, float("-inf")).softmax(dim=-1)


def _with_probe(module: CausalAttention, probe: Callable[[Tensor, Tensor], None]) -> Callable[[], None]:
    before, module.probe = module.probe, probe

    def restore() -> None:
        module.probe = before

    return restore


def _row(features: TextFeatures, row: int) -> TextFeatures:
    """One text of a batch."""
    here = slice(row, row + 1)
    return TextFeatures(tuple(state[here] for state in features.hidden), features.last[here], features.pooled[here])


def ends_word(number: int, tokenizer: Tokenizer) -> bool:
    """Whether a token is the end of a word: then two of it are written with a space between them."""
    return len(tokenizer.decode([number, number])) > 2 * len(tokenizer.decode([number]))
