"""Prompt editing: one text that reads differently from step to step, in the notation of AUTOMATIC1111's web UI.

| written       | reads                                                             |
|---------------|-------------------------------------------------------------------|
| `[a:b:when]`  | a, from the step `when` on b                                      |
| `[b:when]`    | nothing, then b                                                   |
| `[a::when]`   | a, then nothing                                                   |
| `[a|b|c]`     | a, b, c, a, b, ... one after another, step by step; parts may be empty |

`when` with a point is a share of the steps (0.5), without one a number of steps (10). Everything nests. What does not
fit this form is text, whole, and left for `emphasis` to read.

A schedule is a list of (end, text): the text is in force as long as the step, counted from 0, is at most `end`. So the
first text acts one step longer than its number says; that is how the web UI counts, and its pictures depend on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rein.errors import InputError
from rein.text.prompt import check_depth, check_size

MAX_EDITS = 1000
"""Edits and alternations of a prompt."""
MAX_SCHEDULE = 4_000_000
"""Characters of all texts of a schedule together."""

_TOKEN = re.compile(r"\\.|[\[\]():|]|[^\\\[\]():|]++|\\", re.DOTALL)
_WHEN = re.compile(r"\s*+([-+]?(?:\d++\.?\d*+|\.\d++)(?:[eE][-+]?\d++)?)\s*+", re.ASCII)

Schedule = tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _Edit:
    before: list[_Node]
    after: list[_Node]
    when: str

    def last_step(self, steps: int) -> int:
        """The last step, counted from 1, that reads `before`."""
        when = float(self.when) * (steps if "." in self.when else 1)
        return int(max(-1.0, min(float(steps), when)))


@dataclass(frozen=True)
class _Turn:
    options: list[list[_Node]]


_Node = str | _Edit | _Turn


@dataclass
class _Frame:
    """An open bracket: its sign, and what is in it so far, divided by the signs : and |."""

    sign: str
    fields: list[list[_Node]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def literally(self) -> list[_Node]:
        """The frame without its closing sign, as it was written."""
        nodes: list[_Node] = [self.sign, *self.fields[0]]
        for separator, part in zip(self.separators, self.fields[1:], strict=True):
            nodes += [separator, *part]
        return nodes


class _Parser:
    def __init__(self) -> None:
        self.stack = [_Frame("")]
        self.edits: list[_Edit] = []
        self.turns = 0

    def take(self, token: str) -> None:
        top = self.stack[-1]
        if token in ("[", "("):
            check_depth(len(self.stack))
            self.stack.append(_Frame(token))
        elif token in ("]", ")"):
            self._close(token)
        elif top.sign and (token == ":" or (token == "|" and top.sign == "[")):
            top.fields.append([])
            top.separators.append(token)
        else:
            top.fields[-1].append(token)

    def _close(self, token: str) -> None:
        frame = self.stack[-1]
        node = self._node(frame) if frame.sign == "[" and token == "]" else None
        fits = frame.sign + token == "[]" and not frame.separators
        fits |= frame.sign + token == "()" and len(frame.separators) <= 1
        if node is None and not fits:  # then no bracket around it can be an edit either
            self.collapse()
            self.stack[-1].fields[-1].append(token)
            return
        self.stack.pop()
        self.stack[-1].fields[-1] += [node] if node is not None else [*frame.literally(), token]

    def _node(self, frame: _Frame) -> _Edit | _Turn | None:
        kinds = set(frame.separators)
        if kinds == {"|"}:
            self._count()
            self.turns += 1
            return _Turn(frame.fields)
        last = frame.fields[-1]
        found = _WHEN.fullmatch("".join(node for node in last if isinstance(node, str)))
        if kinds != {":"} or len(frame.fields) > 3 or found is None or not all(isinstance(node, str) for node in last):
            return None
        self._count()
        edit = _Edit(frame.fields[0] if len(frame.fields) == 3 else [], frame.fields[-2], found[1])
        self.edits.append(edit)
        return edit

    def _count(self) -> None:
        if self.turns + len(self.edits) >= MAX_EDITS:
            raise InputError(f"the prompt has more than {MAX_EDITS} edits such as [a:b:0.5] or [a|b]: use fewer")

    def collapse(self) -> None:
        """Make every open bracket text."""
        nodes = self.stack[0].fields[0]
        for frame in self.stack[1:]:
            nodes += frame.literally()
        del self.stack[1:]


def schedule(text: str, steps: int) -> Schedule:
    """The texts of a prompt, each with the last step that it is in force at; the last `end` is `steps`.

    Args:
        steps: noise levels of the whole picture, 1 or more.

    Raises:
        InputError: nested too deep, more than `MAX_EDITS` edits, or texts of over `MAX_SCHEDULE` characters together.
    """
    if "[" not in check_size(text):
        return ((steps, text),)
    parser = _Parser()
    for token in _TOKEN.finditer(text):
        parser.take(token[0])
    parser.collapse()
    if not parser.turns and not parser.edits:
        return ((steps, text),)
    ends = {steps, *(edit.last_step(steps) for edit in parser.edits), *(range(1, steps) if parser.turns else ())}
    ends = {end for end in ends if end >= 1}
    if len(ends) * len(text) > MAX_SCHEDULE:
        raise InputError(f"the prompt reads differently at {len(ends)} of {steps} steps and is too long for that")
    nodes = parser.stack[0].fields[0]
    return tuple((end, _read(nodes, end, steps)) for end in sorted(ends))


def texts_by_step(text: str, steps: int) -> tuple[str, ...]:
    """The text in force at each of `steps` steps. Raises as `schedule`."""
    texts: list[str] = []
    for end, reading in schedule(text, steps):
        texts += [reading] * (min(end + 1, steps) - len(texts))
    return tuple(texts)


def _read(nodes: list[_Node], step: int, steps: int) -> str:
    """What the nodes say at a step, counted from 1."""
    parts = []
    for node in nodes:
        if isinstance(node, str):
            parts.append(node)
        elif isinstance(node, _Edit):
            parts.append(_read(node.before if step <= node.last_step(steps) else node.after, step, steps))
        else:
            parts.append(_read(node.options[(step - 1) % len(node.options)], step, steps))
    return "".join(parts)
