"""`--lora FILE:WEIGHT[:TEXT_WEIGHT]`: taken apart from its end, since names of files may have colons too."""

from __future__ import annotations

import os
import re
from typing import Annotated

import typer

from rein.errors import InputError, quoted

_PANEL = "Adapters and learned words"

LoraFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="FILE:W[:T]",
        rich_help_panel=_PANEL,
        help="An adapter (LoRA and its relatives), its weight, and another for the text towers. May be repeated.",
    ),
]
LoraFolder = Annotated[
    str | None,
    typer.Option(metavar="DIR", rich_help_panel=_PANEL, help="Where <lora:name:weight> in the prompt finds its file."),
]
EmbeddingFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        metavar="FILE",
        rich_help_panel=_PANEL,
        help="A learned word, called by the file's name. May be repeated.",
    ),
]
EmbeddingFolder = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", rich_help_panel=_PANEL, help="Learned words; those are read whose names are in the prompt."
    ),
]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def lora_choice(text: str) -> dict[str, object]:
    """The choice that an option's value stands for, as a request takes it.

    Of the ways to read a value that ends in numbers, the one whose file is there counts; if there is none, all numbers
    (two at most) are weights. A drive letter (`C:\\loras\\a.safetensors:0.8`) is never cut off.

    Raises:
        InputError: there is no file name in it, or what should be a weight is no number.
    """
    ways = list(_ways(text))
    path, weights = next((way for way in ways if os.path.isfile(way[0])), ways[-1])
    if not path:
        raise InputError(f"--lora is {quoted(text)}: give FILE, FILE:WEIGHT or FILE:WEIGHT:TEXT_WEIGHT")
    before, colon, last = path.rpartition(":")
    if colon and os.path.isfile(before):
        raise InputError(f"--lora is {quoted(text)}: its weight {quoted(last)} is no number")
    return {"path": path, **dict(zip(("weight", "text_weight"), weights, strict=False))}


def _ways(text: str) -> list[tuple[str, tuple[float, ...]]]:
    """(file, weights) with no number at the end taken for a weight, then one, then two."""
    ways: list[tuple[str, tuple[float, ...]]] = [(text, ())]
    for _ in range(2):
        rest, weights = ways[-1]
        path, colon, last = rest.rpartition(":")
        if not colon or _NUMBER.fullmatch(last) is None:
            break
        ways.append((path, (float(last), *weights)))
    return ways
