"""Values of options: text from the command line made into what it stands for. Ranges are checked where it is used."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer

from rein.errors import InputError, quoted
from rein.files import read_text

PROMPT_BYTES = 2**22
"""The most that is read of a prompt: a million letters of any script. More is refused, not cut."""


def whole(text: str | int) -> int:
    """A whole number from the command line."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{quoted(text)} is not a whole number") from None


def number(text: str | float) -> float:
    """A number from the command line."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{quoted(text)} is not a number") from None


def settings(entries: Sequence[str]) -> dict[str, Any]:
    """Fields of a request given as NAME=VALUE: numbers and lists as JSON has them, other text as it stands.

    Raises:
        InputError: an entry without "=".
    """
    found: dict[str, Any] = {}
    for entry in entries:
        name, sign, text = entry.partition("=")
        if not sign or not name.strip():
            raise InputError(f"--set {quoted(entry)}: write NAME=VALUE, as in --set eta=0.5")
        try:
            found[name.strip()] = json.loads(text)
        except (ValueError, RecursionError):
            found[name.strip()] = text
    return found


def read_prompt(prompt: str | None, file: str | None) -> str:
    """The prompt as it was given: as an argument, in a file, or (for "-") on stdin. One newline at the end goes.

    Raises:
        InputError: it is given twice or not at all; the file cannot be read, is too long or not UTF-8.
    """
    if (prompt is None) == (file is None):
        problem = "there is no prompt" if prompt is None else "there are two prompts"
        raise InputError(f'{problem}: give PROMPT, as in rein generate "a red apple", or --prompt-file')
    source = file if file is not None else prompt
    assert source is not None
    if file is None and prompt != "-":
        return source
    shown = f"the prompt from {'stdin' if source == '-' else quoted(source)}"
    text = read_text(sys.stdin.buffer if source == "-" else source, PROMPT_BYTES, shown, "shorten it")
    return text.removesuffix("\n").removesuffix("\r")
