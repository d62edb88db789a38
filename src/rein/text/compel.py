"""The notation of the `compel` library, which InvokeAI uses: text into pieces with weights.

| written                        | weight                                                          |
|--------------------------------|-----------------------------------------------------------------|
| `word+`, `word++`, `(a b)+`    | times 1.1 for every plus                                        |
| `word-`, `(a b)--`, `"a b"-`   | times 0.9 for every minus                                       |
| `(a b)1.3`                     | times 1.3                                                       |
| `("a", "b").and()`             | one context after another; `.and(1, 0.5)` weighs them           |
| `("a", "b").blend(1, 0.8)`     | the weighted mean of their contexts; with `no_normalize` the sum |
| `\\( \\) \\" \\+ \\-`               | the sign itself                                                 |

A sign of weight follows its word or bracket directly. Whatever fits none of these forms is text.
"""

from __future__ import annotations

import re

from rein.errors import InputError
from rein.text.prompt import (
    MAX_PARTS,
    Brackets,
    Expression,
    Piece,
    Section,
    Text,
    check_depth,
    check_size,
    checked_weight,
)

PLUS, MINUS = 1.1, 0.9

_CALL = re.compile(r"\)\.(and|add|blend)\(([^()]*)\)\s*\Z")
_SPACE = re.compile(r"\s++")
_SUFFIX = re.compile(r"\++|-+|\d++\.?\d*+|\.\d++", re.ASCII)
# A word up to the signs of weight after it; a plus or minus within a word ("well-known") is a letter of it.
_WEIGHTED_WORD = re.compile(r'((?:\\.|[^\s()",.+\-=\\]|[-+](?![\s()",.+\-=]|\Z))++)(\++|-+)')
_PLAIN = re.compile(r'(?:[^\s()"+\-\\]++\s++)++')  # words without any mark
_WORD = re.compile(r"(?:\\.|\S)++")
_WORD_INSIDE = re.compile(r'(?:\\.|[^\s()"\\])++|\S')
_ESCAPE = re.compile(r'\\([()",.+\-=])')
_BRACKET = re.compile(r'\\.|[()"]', re.DOTALL)


def parse_compel(text: str) -> Expression:
    """The pieces of a text, or of each text of a blend or a conjunction.

    Raises:
        InputError: too long, nested too deep, a weight out of range, a number of weights that does not fit, or
            `.swap()`, which needs control over attention that this program does not have.
    """
    stripped = check_size(text, "+-").strip()
    if ").swap(" in stripped or re.search(r"\w\.swap\(", stripped):
        raise InputError("the prompt has .swap(), which is not supported: write the two prompts out")
    call = _CALL.search(stripped) if stripped.startswith("(") and stripped.endswith(")") else None
    if call is None:
        return Expression((Text((_Reader(stripped).section(),)),))
    texts = [_unquoted(entry) for entry in _entries(stripped[1 : call.start()])]
    values = [value.strip() for value in call[2].split(",") if value.strip()]
    blend = call[1] == "blend"
    normalise = not (blend and values and values[-1] == "no_normalize")
    weights = _weights(values if normalise else values[:-1], len(texts), call[1])
    made = tuple(Text((_Reader(entry).section(),), weight) for entry, weight in zip(texts, weights, strict=True))
    if blend and normalise and sum(weights) == 0:
        raise InputError(f"the weights of .blend() add up to 0: {values}; change one, or add no_normalize")
    return Expression(made, "blend" if blend else "join", normalise)


def _weights(values: list[str], count: int, call: str) -> list[float]:
    if count > MAX_PARTS:
        raise InputError(f"the prompt has {count} texts in .{call}(): at most {MAX_PARTS} are encoded")
    try:
        weights = [checked_weight(float(value), value) for value in values] or [1.0] * count
    except ValueError:
        raise InputError(f"the weights of .{call}() are {', '.join(values)}: they must be numbers") from None
    if len(weights) != count:
        raise InputError(f"the prompt has {count} texts and {len(weights)} weights in .{call}(): give one for each")
    return weights


def _entries(text: str) -> list[str]:
    """The text divided at commas outside of brackets and quotes."""
    entries, start, depth, quoted = [], 0, 0, False
    for found in re.finditer(r'\\.|[()",]', text, re.DOTALL):
        sign = found[0]
        if sign == '"':
            quoted = not quoted
        elif not quoted and sign in "()":
            depth += 1 if sign == "(" else -1
        elif sign == "," and not quoted and depth == 0:
            entries.append(text[start : found.start()])
            start = found.end()
    return [*entries, text[start:]]


def _unquoted(entry: str) -> str:
    entry = entry.strip()
    return entry[1:-1] if len(entry) > 1 and entry[0] == entry[-1] == '"' else entry


def _partners(text: str) -> dict[int, int]:
    """Of every bracket and quote that has a partner, the place of its closing sign."""
    partners: dict[int, int] = {}
    waiting: list[tuple[str, int]] = []
    quotes = 0
    for found in _BRACKET.finditer(text):
        sign, place = found[0], found.start()
        if sign == '"' and quotes:
            while waiting[-1][0] != '"':  # brackets that were not closed within the quotes
                waiting.pop()
            partners[waiting.pop()[1]] = place
            quotes -= 1
        elif sign in ('"', "("):
            waiting.append((sign, place))
            quotes += sign == '"'
            check_depth(len(waiting))
        elif sign == ")" and waiting and waiting[-1][0] == "(":
            partners[waiting.pop()[1]] = place
    return partners


class _Reader:
    """One pass over a text without a call at its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._partners = _partners(text)
        self._ends: list[int] = []  # places of the closing signs of the brackets that are open
        self._brackets = Brackets()
        self._pieces: list[tuple[str, int, float]] = []

    def section(self) -> Section:
        """The pieces; neighbours of one weight are joined by a space, as compel joins them."""
        place = 0
        while place < len(self._text):
            place = self._step(place)
        totals = self._brackets.totals()
        runs: list[tuple[list[str], float]] = []
        for text, bracket, factor in self._pieces:
            weight = checked_weight(totals[bracket] * factor, text)
            if runs and runs[-1][1] == weight:
                runs[-1][0].append(text)
            else:
                runs.append(([text], weight))
        return tuple(Piece(" ".join(texts), weight) for texts, weight in runs)

    def _step(self, place: int) -> int:
        """Take what begins at `place`; where it ends."""
        text = self._text
        if space := _SPACE.match(text, place):
            return space.end()
        if self._ends and place == self._ends[-1]:
            self._ends.pop()
            factor, end = self._suffix(place + 1)
            self._brackets.close(factor)
            return end
        if place in self._partners:
            self._brackets.open()
            self._ends.append(self._partners[place])
            return place + 1
        if found := _PLAIN.match(text, place):
            self._add(found[0].rstrip(), 1.0)
            return found.end()
        limit = self._ends[-1] if self._ends else len(text)
        if found := _WEIGHTED_WORD.match(text, place, limit):
            self._add(found[1], _factor(found[2]))
            return found.end()
        found = (_WORD_INSIDE if self._ends else _WORD).match(text, place, limit)
        assert found is not None, "white space was taken before"
        self._add(found[0], 1.0)
        return found.end()

    def _suffix(self, place: int) -> tuple[float, int]:
        found = _SUFFIX.match(self._text, place)
        return (1.0, place) if found is None else (_factor(found[0]), found.end())

    def _add(self, text: str, factor: float) -> None:
        self._pieces.append((_ESCAPE.sub(r"\1", text), self._brackets.current, factor))


def _factor(sign: str) -> float:
    if sign[0] in "+-":
        return float((PLUS if sign[0] == "+" else MINUS) ** min(len(sign), 1000))
    return float(sign)
