"""Values of options: text from the command line made into numbers. Their ranges are checked where they are used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer

from rein.errors import InputError, quoted


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
