"""AUTOMATIC1111's brackets: text into pieces with weights.

| written        | weight                                                         |
|----------------|----------------------------------------------------------------|
| `(text)`       | times 1.1                                                      |
| `[text]`       | divided by 1.1                                                 |
| `(text:1.3)`   | times 1.3                                                      |
| `\\( \\) \\[ \\] \\\\` | the sign itself; a backslash before anything else is dropped |
| `BREAK`        | a new window of tokens begins here                             |

Nothing is an error: a bracket that is never closed acts to the end of the text, and one that was never opened is text.
Round and square brackets do not know each other: in `(a [b) c]` the round one covers `a b`, the square one `b c`.
"""

from __future__ import annotations

import re

from rein.errors import InputError
from rein.text.prompt import Brackets, Expression, Piece, Section, Text, check_size, merged

MAX_BREAKS = 100
ROUND = 1.1
SQUARE = 1 / 1.1

# Possessive quantifiers (++, *+) give nothing back, so no text makes the search slow.
_TOKEN = re.compile(r"\\[()\[\]\\]?|[()\[\]]|:\s*+([+-]?[.\d]++)\s*+\)|[^\\()\[\]:]++|:", re.ASCII)
_BREAK = re.compile(r"\bBREAK\b")
_WEIGHT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)", re.ASCII)


def parse_emphasis(text: str) -> Expression:
    """The pieces of a text in sections that BREAK separates.

    Raises:
        InputError: too long, nested too deep, or a weight out of range.
    """
    reader = _Reader()
    for token in _TOKEN.finditer(check_size(text)):
        reader.take(token[0], token[1])
    return Expression((Text(reader.sections()),))


def parse_plain(text: str) -> Expression:
    """The text as it stands, as one piece: emphasis mode None."""
    return Expression((Text((merged([Piece(check_size(text))]),)),))


class _Reader:
    """Pieces with the brackets around them; None stands for BREAK."""

    def __init__(self) -> None:
        self._round, self._square = Brackets(), Brackets()
        self._pieces: list[tuple[str, int, int] | None] = []
        self._breaks = 0

    def take(self, token: str, weight: str | None) -> None:
        if token[0] == "\\":
            self._add(token[1:])
        elif token == "(":
            self._round.open(ROUND)
        elif token == "[":
            self._square.open(SQUARE)
        elif weight is not None and self._round.depth and _WEIGHT.fullmatch(weight):
            self._round.close(float(weight))
        elif token == ")" and self._round.depth:
            self._round.close(ROUND)
        elif token == "]" and self._square.depth:
            self._square.close(SQUARE)
        else:
            self._words(token)

    def _words(self, text: str) -> None:
        first, *rest = _BREAK.split(text, maxsplit=MAX_BREAKS)
        self._breaks += len(rest)
        if self._breaks >= MAX_BREAKS:
            raise InputError(f"the prompt has {MAX_BREAKS} times BREAK or more: use fewer")
        self._add(first.rstrip() if rest else first)
        for place, part in enumerate(rest, start=1):
            self._pieces.append(None)
            self._add(part.strip() if place < len(rest) else part.lstrip())

    def _add(self, text: str) -> None:
        self._pieces.append((text, self._round.current, self._square.current))

    def sections(self) -> tuple[Section, ...]:
        rounds, squares = self._round.totals(), self._square.totals()
        sections: list[list[Piece]] = [[]]
        for piece in self._pieces:
            if piece is None:
                sections.append([])
            else:
                text, in_round, in_square = piece
                sections[-1].append(Piece(text, rounds[in_round] * squares[in_square]))
        return tuple(merged(section) for section in sections)
