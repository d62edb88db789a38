"""Axes of a sheet of pictures, and how they are written: "steps=5,10,20", "guidance=1-9 (+4)", "replace=red,blue".

| written                        | values                                                                      |
|--------------------------------|-----------------------------------------------------------------------------|
| `NAME=a,b,c`                   | of a field of `Request`; quotes keep a comma: `prompt="a, b",c`              |
| `NAME=1-5`                     | 1, 2, 3, 4, 5; of fields that are numbers                                   |
| `NAME=1-9 (+4)`, `9-1 (-4)`    | 1, 5, 9; 9, 5, 1                                                            |
| `NAME=1-10 [5]`                | five at equal distances: 1, 3, 5, 7, 10 of whole numbers, cut down          |
| `size=512x512,768x512`         | width and height together                                                   |
| `replace=red apple,pear`       | the first text, wherever it stands in the prompts, stays; becomes each other |

Ranges and their rounding are those of AUTOMATIC1111's X/Y/Z plot, where "replace" is called Prompt S/R.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import product
from typing import Any

from rein.errors import InputError, nearest, quoted
from rein.pipeline.field_values import field_value, is_number, is_whole
from rein.pipeline.request import Request

MAX_VALUES = 1000
"""On one axis."""

REPLACE, SIZE, MATRIX = "replace", "size", "matrix"

_ALIASES = {
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "image_cfg_scale": "image_guidance_scale",
    "schedule": "spacing",
    "schedule_type": "spacing",
    "schedule_min_sigma": "sigma_min",
    "schedule_max_sigma": "sigma_max",
    "schedule_rho": "rho",
    "negative": "negative_prompt",
    "style": "styles",
    "var_seed": "variation_seed",
    "var_strength": "variation_strength",
    "denoising": "strength",
    "sigma_churn": "s_churn",
    "sigma_noise": "s_noise",
    "prompt_s/r": REPLACE,
    "s/r": REPLACE,
}
"""Names in that program and on the command line."""

_TITLES = {"guidance_scale": "guidance", "spacing": "schedule", "styles": "style", "negative_prompt": "negative"}
_ALONE = ("prompt", REPLACE, MATRIX, SIZE)
"""Axes whose values speak for themselves: their labels are without the name."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*(?:\(\s*({_NUMBER})\s*\)|\[\s*(\d{{1,9}})\s*\])?\s*")
_SIZE = re.compile(r"\s*(\d{1,9})\s*[x×]\s*(\d{1,9})\s*")
_NOTHING = "-"


@dataclass(frozen=True)
class Value:
    """A place on an axis.

    Fields:
        label: what it is called.
        changes: fields of the request, and what they become.
        swap: a text in the prompts, and what takes its place.
        added: texts that follow the prompt.
    """

    label: str
    changes: Mapping[str, object] = field(default_factory=dict)
    swap: tuple[str, str] | None = None
    added: tuple[str, ...] = ()


@dataclass(frozen=True)
class Axis:
    """A direction of a sheet: what varies, and its values, one at least."""

    name: str
    values: tuple[Value, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """What the sheet calls its values: with the axis's name unless they speak for themselves."""
        title = "" if self.name in _ALONE else _TITLES.get(self.name, self.name.replace("_", " "))
        return tuple(f"{title} {value.label}".strip() for value in self.values)

    @property
    def fields(self) -> frozenset[str]:
        """The fields that it sets."""
        return frozenset(name for value in self.values for name in value.changes)


NO_AXIS = Axis("", (Value(""),))
"""A direction in which nothing varies."""


def read_axis(text: str) -> Axis:
    """The axis that a text such as "steps=5,10,20" stands for.

    Raises:
        InputError: an unknown name, a range that cannot be walked, too many values or none.
    """
    given, sign, listed = text.partition("=")
    name = re.sub(r"[\s-]+", "_", given.strip().lower().replace(".", ""))
    name = _ALIASES.get(name, name)
    known = [*Request.model_fields, *_ALIASES, REPLACE, SIZE]
    if not sign:
        raise InputError(f"axis {quoted(text)}: write NAME=VALUES, as in steps=5,10,20")
    if name not in known or name == "count":
        raise InputError(f"unknown axis {quoted(given.strip())}: {nearest(name, [entry for entry in known if entry])}")
    entries = _entries(listed, name)
    if name == REPLACE:
        values = _replacements(entries)
    elif name == SIZE:
        values = [_size(entry) for entry in entries]
    else:
        values = [_value(name, entry) for text in entries for entry in _expanded(name, text)]
    if len(values) > MAX_VALUES:
        raise InputError(f"axis {name} has {len(values)} values: {MAX_VALUES} at most")
    return Axis(name, tuple(values))


def _entries(listed: str, name: str) -> list[str]:
    """Texts between commas; in quotes they may hold commas."""
    try:
        rows = list(csv.reader([listed], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise InputError(f"axis {name}: {quoted(listed)} is not a list with commas ({error})") from error
    entries = [entry.strip() for row in rows for entry in row]
    if not any(entries):
        raise InputError(f"axis {name} has no values: write NAME=VALUES, as in steps=5,10,20")
    return entries


def _value(name: str, entry: object) -> Value:
    """One value of a field."""
    if name == "styles":
        chosen = () if str(entry).lower() in ("", "none") else (str(entry),)
        return Value(str(entry) or "none", {name: chosen})
    value = field_value(name, entry) if isinstance(entry, str) else entry
    shown = f"{value:g}" if isinstance(value, float) else str(entry)
    return Value(shown or _NOTHING, {name: value})


def _expanded(name: str, entry: str) -> Sequence[object]:
    """The numbers of a range, or the entry itself."""
    found = _RANGE.fullmatch(entry) if is_number(name) else None
    if found is None:
        return [entry]
    first, last = Decimal(found[1]), Decimal(found[2])
    if found[4] is not None:
        return _counted(first, last, int(found[4]), name)
    step = Decimal(found[3]) if found[3] is not None else Decimal(1 if last >= first else -1)
    if not step or (last - first) / step < 0:
        raise InputError(f"axis {name}: {quoted(entry)} never gets to {last} by steps of {step}")
    count = int((last - first) / step) + 1
    _check_count(count, name)
    # In decimal numbers, so that ten steps of 0.1 are 1.
    return [_number(first + step * place, name) for place in range(count)]


def _counted(first: Decimal, last: Decimal, count: int, name: str) -> Sequence[object]:
    """`count` numbers at equal distances; whole ones are cut down, as AUTOMATIC1111's web UI does."""
    _check_count(count, name)
    if count == 1:
        return [_number(first, name)]
    numbers = [first + (last - first) * place / (count - 1) for place in range(count)]
    return [int(number) for number in numbers] if is_whole(name) else [float(number) for number in numbers]


def _check_count(count: int, name: str) -> None:
    if not 1 <= count <= MAX_VALUES:
        raise InputError(f"axis {name} has a range of {count} values: 1 to {MAX_VALUES} are drawn")


def _number(number: Decimal, name: str) -> int | float:
    return int(number) if is_whole(name) and number == int(number) else float(number)


def _size(entry: str) -> Value:
    found = _SIZE.fullmatch(entry)
    if found is None:
        raise InputError(f"axis size: {quoted(entry)} is no size: write WIDTHxHEIGHT, as in 512x768")
    return Value(f"{found[1]} x {found[2]}", {"width": int(found[1]), "height": int(found[2])})


def _replacements(entries: Sequence[str]) -> list[Value]:
    if not entries[0]:
        raise InputError("axis replace: its first text is empty: give the text that is to be replaced")
    return [Value(entry or _NOTHING, swap=(entries[0], entry)) for entry in entries]


def matrix_axes(prompt: str) -> tuple[str, Axis, Axis]:
    """A prompt matrix: "a street|in the rain|at night" is the prompt "a street" with each choice of the others.

    Returns:
        The text before the first "|", and two axes: every choice among the first half of the texts after it, and among
        the second. A "|" within brackets, or after a backslash, belongs to the prompt.

    Raises:
        InputError: there is no "|", or there are too many.
    """
    first, *rest = (part.strip() for part in _parts(prompt))
    texts = [part for part in rest if part]
    if not texts:
        raise InputError('the prompt has no "|" outside of brackets: write "a street|in the rain|at night"')
    if len(texts) > 10:
        raise InputError(f"the matrix has {len(texts)} texts to choose from: 10 at most")
    half = -(-len(texts) // 2)
    return first, _choices(texts[:half]), _choices(texts[half:])


def _choices(texts: Sequence[str]) -> Axis:
    """Every choice of texts, from none of them to all; the first changes fastest."""
    values = []
    for flags in product((False, True), repeat=len(texts)):
        chosen = tuple(text for text, flag in zip(texts, reversed(flags), strict=True) if flag)
        values.append(Value(" + ".join(chosen) or _NOTHING, added=chosen))
    return Axis(MATRIX, tuple(values)) if texts else NO_AXIS


def _parts(prompt: str) -> list[str]:
    """The prompt cut at each "|" that is in no bracket."""
    parts, depth = [""], 0
    for sign in re.findall(r"\\.|.", prompt, re.DOTALL):
        depth = max(0, depth + (sign in "([{") - (sign in ")]}"))
        if sign == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def axis_record(axis: Axis) -> dict[str, Any]:
    """An axis as JSON values."""
    return {"axis": axis.name, "values": [value.label for value in axis.values]}
