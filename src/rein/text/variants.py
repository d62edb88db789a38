"""Wildcards and variants: places of a prompt that are drawn anew for every picture, from the picture's own seed.

| written                  | drawn                                                           |
|--------------------------|-----------------------------------------------------------------|
| `{a|b|c}`                | one of them                                                     |
| `{3::a|b|0.5::c}`        | one of them, a three times as often as b                        |
| `{2$$a|b|c}`             | two different ones, joined by a comma                           |
| `{1-2$$ and $$a|b|c}`    | one or two different ones, joined by " and "                    |
| `__name__`, `__dir/name__` | a line of a wildcard file, see `wildcards`                     |
| `{2$$__name__}`          | two different lines of it                                       |
| `\\{ \\} \\|`               | the sign itself                                                 |

Everything nests, wildcards in lines of wildcards too. Braces without `|` and without a number are text, as is a brace
without a partner.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rein.errors import InputError, quoted
from rein.text.prompt import MAX_LENGTH, check_depth, check_size

MAX_NESTING = 16
"""How deep wildcards may stand in lines of wildcards."""
MAX_DRAWS = 1000
"""Draws for one prompt."""

Lines = Callable[[str], Sequence[str]]
"""The lines of the wildcard of a name."""

_TOKEN = re.compile(r"\\[{}|\\]|[{}|]|__[^\s_{}|](?:(?!__)[^\s{}|])*+__|[^\\{}|_]++|\\|_+?(?=__[^\s_]|[^_]|\Z)")
_COUNT = re.compile(r"\s*+(\d{0,9})(-?)(\d{0,9})\$\$(?:([^$]*+)\$\$)?")
_WEIGHT = re.compile(r"\s*+(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})::")


class Draws:
    """Numbers that follow from a seed and a label, the same on every machine and in every version.

    Source: BLAKE2b (RFC 7693) over a counter.
    """

    def __init__(self, seed: int, label: str) -> None:
        self._key = f"rein {label} {seed} ".encode()
        self._count = 0

    def share(self) -> float:
        """A number from 0 up to, not including, 1. Raises `InputError` after `MAX_DRAWS`."""
        if self._count == MAX_DRAWS:
            raise InputError(f"the prompt needs more than {MAX_DRAWS:,} draws from wildcards and variants: use fewer")
        self._count += 1
        digest = hashlib.blake2b(self._key + str(self._count).encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) / 2**53

    def below(self, limit: int) -> int:
        """A whole number from 0 to `limit` - 1."""
        return min(int(self.share() * limit), limit - 1)

    def pick(self, weights: Sequence[float]) -> int:
        """A place in `weights`, each as likely as its weight says; all alike if their sum is 0."""
        total = sum(weights)
        if total <= 0:
            return self.below(len(weights))
        left = self.share() * total
        for place, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return place
        return max(place for place, weight in enumerate(weights) if weight > 0)


@dataclass(frozen=True)
class _Wildcard:
    name: str


@dataclass
class _Variant:
    """`{...}`: options, and how many of them to draw."""

    options: list[list[_Node]] = field(default_factory=lambda: [[]])
    weights: list[float] = field(default_factory=list)
    least: int = 1
    most: int = 1
    joint: str = ", "


_Node = str | _Wildcard | _Variant


def is_dynamic(text: str) -> bool:
    """Whether there may be anything to draw in a text."""
    return "{" in text or "__" in text


def wildcards_in(text: str) -> tuple[str, ...]:
    """The names of the wildcards in a text, each once."""
    tokens = (found[0] for found in _TOKEN.finditer(check_size(text)))
    return tuple(dict.fromkeys(token[2:-2] for token in tokens if _is_wildcard(token)))


def _is_wildcard(token: str) -> bool:
    return len(token) > 4 and token.startswith("__") and token.endswith("__") and token[2] != "_"


def expand(text: str, draws: Draws, lines: Lines | None = None) -> str:
    """The text with everything drawn, and without the backslashes before signs of this language.

    Args:
        lines: gives the lines of a wildcard; None leaves `__name__` as it stands.

    Raises:
        InputError: an unknown wildcard, nesting too deep, too many draws, or a result that is too long.
    """
    if not is_dynamic(check_size(text)):
        return text
    result = _Drawing(draws, lines).text(_parse(text), 0)
    return check_size(result)


def _parse(text: str) -> list[_Node]:
    """The nodes of a text, in one pass."""
    root = _Variant()
    stack = [root]
    for found in _TOKEN.finditer(text):
        token, top = found[0], stack[-1]
        if token == "{":
            check_depth(len(stack))
            stack.append(_Variant())
        elif token == "}" and len(stack) > 1:
            stack.pop()
            stack[-1].options[-1] += _closed(top)
        elif token == "|" and len(stack) > 1:
            top.options.append([])
        elif _is_wildcard(token):
            top.options[-1].append(_Wildcard(token[2:-2]))
        else:
            top.options[-1].append(token)
    for frame in stack[1:]:
        root.options[0] += _literally(frame)
    return root.options[0]


def _literally(frame: _Variant) -> list[_Node]:
    """A brace without its partner is text."""
    nodes: list[_Node] = ["{", *frame.options[0]]
    for option in frame.options[1:]:
        nodes += ["|", *option]
    return nodes


def _closed(variant: _Variant) -> list[_Node]:
    counted = _take_count(variant)
    if not counted and len(variant.options) == 1:
        return [*_literally(variant), "}"]
    for option in variant.options:
        weight = _WEIGHT.match(option[0]) if option and isinstance(option[0], str) else None
        variant.weights.append(float(weight[1]) if weight else 1.0)
        if weight:
            option[0] = str(option[0])[weight.end() :]
    return [variant]


def _take_count(variant: _Variant) -> bool:
    """Read `2$$`, `1-3$$` and a joint at the beginning of the first option."""
    first = variant.options[0]
    head = "".join(node for node in first[:4] if isinstance(node, str)) if first else ""
    found = _COUNT.match(head)
    if found is None or not (found[1] or found[3]):
        return False
    variant.least = int(found[1] or 1)
    variant.most = int(found[3]) if found[3] else (10**9 if found[2] else variant.least)
    variant.joint = ", " if found[4] is None else found[4]
    rest = found.end()
    while rest and first and isinstance(first[0], str):  # the head may be spread over several nodes
        taken = min(rest, len(first[0]))
        first[0], rest = first[0][taken:], rest - taken
        if not first[0]:
            first.pop(0)
    return True


@dataclass
class _Drawing:
    draws: Draws
    lines: Lines | None
    length: int = 0

    def text(self, nodes: list[_Node], nesting: int) -> str:
        return "".join(self._node(node, nesting) for node in nodes)

    def _node(self, node: _Node, nesting: int) -> str:
        if isinstance(node, _Variant):
            return self._variant(node, nesting)
        if isinstance(node, _Wildcard):
            if self.lines is None:
                return f"__{node.name}__"
            return self._line(self._pick_lines(node.name, 1)[0], nesting)
        text = node[1:] if len(node) == 2 and node[0] == "\\" and node[1] in "{}|" else node
        self.length += len(text)
        if self.length > MAX_LENGTH:
            raise InputError(f"the wildcards make a prompt of more than {MAX_LENGTH:,} characters: use fewer")
        return text

    def _variant(self, variant: _Variant, nesting: int) -> str:
        most = min(variant.most, self._available(variant))
        least = min(variant.least, most)
        count = least + (self.draws.below(most - least + 1) if most > least else 0)
        only = variant.options[0]
        if len(variant.options) == 1 and len(only) == 1 and isinstance(only[0], _Wildcard) and self.lines is not None:
            return variant.joint.join(self._line(line, nesting) for line in self._pick_lines(only[0].name, count))
        left = list(range(len(variant.options)))
        drawn = []
        for _ in range(min(count, len(left))):
            place = left.pop(self.draws.pick([variant.weights[option] for option in left]))
            drawn.append(self.text(variant.options[place], nesting))
        return variant.joint.join(drawn)

    def _available(self, variant: _Variant) -> int:
        only = variant.options[0]
        if len(variant.options) == 1 and len(only) == 1 and isinstance(only[0], _Wildcard) and self.lines is not None:
            return len(self.lines(only[0].name))
        return len(variant.options)

    def _pick_lines(self, name: str, count: int) -> list[str]:
        """Different lines of a wildcard, as many as there are at most. `3::text` makes a line likelier."""
        assert self.lines is not None
        lines = list(self.lines(name))
        picked = []
        weights = [float(found[1]) if (found := _WEIGHT.match(line)) else 1.0 for line in lines]
        for _ in range(min(count, len(lines))):
            place = self.draws.pick(weights)
            weights.pop(place)
            picked.append(_WEIGHT.sub("", lines.pop(place), count=1))
        return picked

    def _line(self, line: str, nesting: int) -> str:
        if nesting == MAX_NESTING:
            raise InputError(f"wildcards are nested over {MAX_NESTING} deep, at {quoted(line, 40)}: is it a circle?")
        return self.text(_parse(line), nesting + 1) if is_dynamic(line) else self._node(line, nesting)
