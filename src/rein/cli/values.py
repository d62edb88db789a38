"""Values of options: text from the command line made into numbers. Their ranges are checked where they are used."""

from __future__ import annotations

import typer

from rein.errors import quoted


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
