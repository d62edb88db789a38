"""Named styles: words that are added to a prompt and its negative prompt, in AUTOMATIC1111's CSV form.

    name,prompt,negative_prompt
    Cinematic,"{prompt}, cinematic still, shallow depth of field","cartoon, drawing"

Where a text has `{prompt}`, the prompt stands there; else the text follows the prompt after a comma. Several styles are
applied one after another.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rein.errors import InputError, nearest, quoted
from rein.files import read_text
from rein.text.prompt import MAX_LENGTH

MAX_BYTES = 4 * 2**20
"""The largest file of styles that is read."""
PLACEHOLDER = "{prompt}"


@dataclass(frozen=True)
class Style:
    """A named style. Either text may be empty."""

    name: str
    prompt: str
    negative_prompt: str


def apply_styles(
    prompt: str, negative_prompt: str, names: Sequence[str], styles: Mapping[str, Style]
) -> tuple[str, str]:
    """Prompt and negative prompt with the styles of these names.

    Raises:
        InputError: an unknown style, with the nearest; a result that is too long.
    """
    for name in names:
        style = find_style(name, styles)
        prompt, negative_prompt = _joined(prompt, style.prompt), _joined(negative_prompt, style.negative_prompt)
        if max(len(prompt), len(negative_prompt)) > MAX_LENGTH:
            raise InputError(f"style {quoted(name)} makes the prompt longer than {MAX_LENGTH:,} characters")
    return prompt, negative_prompt


def find_style(name: str, styles: Mapping[str, Style]) -> Style:
    """The style of a name; capitals do not matter where that leaves no doubt. Raises `InputError` with the nearest."""
    if name in styles:
        return styles[name]
    same = [style for style in styles.values() if style.name.lower() == name.strip().lower()]
    if len(same) != 1:
        within = [repr(known) for known in styles if name.strip() and name.strip().lower() in known.lower()]
        near = f"did you mean {' or '.join(within[:3])}?" if within else nearest(name, styles)
        raise InputError(f"unknown style {quoted(name)}: {near} (rein prompt styles lists them)")
    return same[0]


def _joined(prompt: str, addition: str) -> str:
    if PLACEHOLDER in addition:
        count = addition.count(PLACEHOLDER)
        if count * len(prompt) > 2 * MAX_LENGTH:
            raise InputError(f"a style repeats the prompt {count} times, which is too long")
        return addition.replace(PLACEHOLDER, prompt)
    return ", ".join(text for text in (prompt.strip(), addition.strip()) if text)


@cache
def shipped_styles() -> dict[str, Style]:
    """The styles that are part of the package, by name."""
    path = files("rein") / "assets" / "styles" / "styles.csv"
    return _parsed(path.read_text(encoding="utf-8"), "styles.csv")


def read_styles(path: str | os.PathLike[str]) -> dict[str, Style]:
    """The styles of a file, by name; of two of one name the later one counts.

    Raises:
        InputError: there is no such file, it is too large, not UTF-8, or not in the form of styles.
    """
    shown = f"styles {quoted(os.fspath(path), 200)}"
    return _parsed(read_text(path, MAX_BYTES, shown, "is it a file of styles?"), shown)


def _parsed(text: str, shown: str) -> dict[str, Style]:
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    styles: dict[str, Style] = {}
    try:
        columns = set(rows.fieldnames or ())
        if "name" not in columns or not columns & {"prompt", "text"}:
            raise InputError(f"{shown}: the first line must be name,prompt,negative_prompt")
        for row in rows:
            # "text" is the column's older name; a row may be shorter than the head.
            prompt = row.get("prompt") if "prompt" in columns else row.get("text")
            name = (row["name"] or "").strip()
            if name:
                styles[name] = Style(name, prompt or "", row.get("negative_prompt") or "")
    except csv.Error as error:
        raise InputError(f"{shown}: line {rows.line_num} is not in CSV form ({error})") from error
    return styles
