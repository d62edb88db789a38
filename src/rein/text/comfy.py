"""ComfyUI's brackets: text into pieces with weights.

| written       | weight                                                              |
|---------------|---------------------------------------------------------------------|
| `(text)`      | 1.1 times that of the text around it                                |
| `(text:1.3)`  | 1.3, whatever is around it: an explicit weight replaces, it does not multiply |
| `\\(` `\\)`     | the sign itself                                                     |

Square brackets, BREAK and AND are words. A bracket without its partner is text.
"""

from __future__ import annotations

import re
from itertools import groupby

from rein.text.prompt import Expression, Piece, Text, check_depth, check_size, checked_weight

ROUND = 1.1
_TOKEN = re.compile(r"\\[()]|[()]|[^\\()]++|\\")
_WEIGHT = re.compile(r"\s*+[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?\s*+", re.ASCII)


def parse_comfy(text: str) -> Expression:
    """The pieces of a text, in one section.

    Raises:
        InputError: too long, nested too deep, or a weight out of range.
    """
    tokens = _TOKEN.findall(check_size(text))
    partners = _partners(tokens)
    pieces: list[tuple[str, int]] = []  # text, and the bracket it is in
    parents = [0]
    explicit: list[float | None] = [1.0]
    inside = [0]
    for place, token in enumerate(tokens):
        if place not in partners:
            pieces.append((token[1:] if token[0] == "\\" and len(token) == 2 else token, inside[-1]))
        elif token == "(":
            parents.append(inside[-1])
            explicit.append(None)
            inside.append(len(parents) - 1)
        else:
            _take_weight(pieces, explicit, inside.pop())
    totals = [1.0]
    for parent, weight in zip(parents[1:], explicit[1:], strict=True):
        totals.append(ROUND * totals[parent] if weight is None else weight)
    runs = [(bracket, "".join(text for text, _ in run)) for bracket, run in groupby(pieces, lambda piece: piece[1])]
    section = tuple(Piece(text, checked_weight(totals[bracket], text)) for bracket, text in runs if text)
    return Expression((Text((section,)),))


def _partners(tokens: list[str]) -> set[int]:
    """Places of the brackets that have a partner."""
    partners: set[int] = set()
    waiting: list[int] = []
    for place, token in enumerate(tokens):
        if token == "(":
            waiting.append(place)
            check_depth(len(waiting))
        elif token == ")" and waiting:
            partners |= {waiting.pop(), place}
    return partners


def _take_weight(pieces: list[tuple[str, int]], explicit: list[float | None], bracket: int) -> None:
    """Move a weight from the end of the bracket's text to `explicit`."""
    if not pieces or pieces[-1][1] != bracket:
        return
    words, colon, tail = pieces[-1][0].rpartition(":")
    first = len(pieces) == 1 or pieces[-2][1] < bracket
    if colon and (words or not first) and _WEIGHT.fullmatch(tail):
        pieces[-1] = (words, bracket)
        explicit[bracket] = checked_weight(float(tail), words)
