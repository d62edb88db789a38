"""Pieces of text cut into windows: what a text tower reads at a time.

A window has room for `context_length` - 2 tokens between its start and its end (75 of CLIP's 77). Three ways to cut:

* plainly: a window is full when it is full;
* back to a comma, as AUTOMATIC1111's web UI does: where a window is full and a comma is among its last 20 tokens, what
  follows the comma moves to the next window;
* by words, as ComfyUI does: a word of fewer than 8 tokens is not divided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rein.errors import InputError
from rein.text.inversion import Embedding
from rein.text.prompt import Piece, Text
from rein.text.tokenizer import Tokenizer

MAX_WINDOWS = 32
"""Longer texts are refused: cross-attention costs time and memory for every window, at every step."""
LONG_WORD = 8
"""Tokens of a word that may be divided where words are kept whole; ComfyUI's number."""


@dataclass(frozen=True)
class Token:
    """One place of a window.

    Fields:
        id: 0 where a learned word stands.
        weight: of its piece.
        piece: which piece of its text, counted from 0; neighbours of one piece belong together.
        learned: name of the learned word and which of its vectors, or None.
    """

    id: int
    weight: float = 1.0
    piece: int = 0
    learned: tuple[str, int] | None = None


Window = tuple[Token, ...]
"""The tokens of a window, without start, end and pads."""


@dataclass(frozen=True)
class Cutting:
    """How a dialect cuts. `backtrack` is how far back a comma is looked for, in tokens; `keep_words` by words."""

    backtrack: int = 0
    keep_words: bool = False


def cut_windows(
    text: Text, tokenizer: Tokenizer, room: int, cutting: Cutting, embeddings: Mapping[str, Embedding] | None = None
) -> tuple[Window, ...]:
    """The windows of a text, one at least.

    Args:
        room: tokens of a window, without start and end.
        embeddings: learned words by name; where the tokens of a name occur, its vectors take their places.

    Raises:
        InputError: a text of over `MAX_WINDOWS` windows.
    """
    limit = room * MAX_WINDOWS
    letters = sum(len("".join(piece.text.split())) for section in text.sections for piece in section)
    if letters > limit * tokenizer.longest_token:  # not even tokenized: the time would grow with the text
        raise InputError(f"a prompt of {letters:,} letters is too long: shorten it to {limit:,} tokens at most")
    learned = LearnedWords(tokenizer, embeddings or {})
    cutter = _Cutter(room, cutting, tokenizer)
    number = 0
    for place, section in enumerate(text.sections):
        if place:
            cutter.next_window()
        for piece in section:
            for word in _words(piece, cutting.keep_words):
                cutter.take(list(learned.tokens(tokenizer.encode(word), piece.weight, number)))
            number += 1
    return cutter.finished()


def _words(piece: Piece, apart: bool) -> list[str]:
    return piece.text.split() if apart else [piece.text]


class LearnedWords:
    """Finds the names of learned words among tokens. Matching tokens makes it independent of capitals."""

    def __init__(self, tokenizer: Tokenizer, embeddings: Mapping[str, Embedding]) -> None:
        self._by_first: dict[int, list[tuple[list[int], str, int]]] = {}
        for name, embedding in embeddings.items():
            for written in (name, f"embedding:{name}"):  # the second is ComfyUI's way to write it
                ids = tokenizer.encode(written)
                if ids:
                    self._by_first.setdefault(ids[0], []).append((ids, name, len(embedding)))
        for candidates in self._by_first.values():
            candidates.sort(key=lambda candidate: len(candidate[0]), reverse=True)

    def tokens(self, ids: Sequence[int], weight: float, piece: int) -> Iterator[list[Token]]:
        """The tokens of `ids` in groups that may not be divided: one each, or all vectors of a learned word."""
        place = 0
        while place < len(ids):
            for known, name, count in self._by_first.get(ids[place], ()):
                if list(ids[place : place + len(known)]) == known:
                    yield [Token(0, weight, piece, (name, number)) for number in range(count)]
                    place += len(known)
                    break
            else:
                yield [Token(ids[place], weight, piece)]
                place += 1


@dataclass
class _Cutter:
    room: int
    cutting: Cutting
    tokenizer: Tokenizer
    windows: list[Window] = field(default_factory=list)
    current: list[Token] = field(default_factory=list)
    comma: int = -1

    def __post_init__(self) -> None:
        ids = self.tokenizer.encode(",")
        self._comma_id = ids[0] if len(ids) == 1 else -1

    def take(self, groups: list[list[Token]]) -> None:
        """Add the tokens of a piece, or of a word where words are kept whole."""
        count = sum(len(group) for group in groups)
        if self.cutting.keep_words and count < LONG_WORD and len(self.current) + count > self.room:
            self.next_window()
        for group in groups:
            if len(group) > self.room:
                raise InputError(f"the learned word {group[0].learned} needs {len(group)} tokens: {self.room} at most")
            self._add(group)

    def _add(self, group: list[Token]) -> None:
        if group[0].learned is None and group[0].id == self._comma_id:
            self.comma = len(self.current)
        elif len(self.current) == self.room and 0 <= self.comma >= self.room - self.cutting.backtrack:
            moved = self.current[self.comma + 1 :]
            del self.current[self.comma + 1 :]
            self.next_window()
            self.current = moved
        if len(self.current) + len(group) > self.room:
            self.next_window()
        self.current += group

    def next_window(self) -> None:
        """Begin a new window, however full this one is. Raises `InputError` after `MAX_WINDOWS`."""
        if len(self.windows) == MAX_WINDOWS:
            limit = self.room * MAX_WINDOWS
            raise InputError(
                f"the prompt fills more than {MAX_WINDOWS} windows of tokens: shorten it to {limit:,} tokens at most"
            )
        self.windows.append(tuple(self.current))
        self.current = []
        self.comma = -1

    def finished(self) -> tuple[Window, ...]:
        if self.current or not self.windows:
            self.next_window()
        return tuple(self.windows)
