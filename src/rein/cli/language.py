"""The options of the language of prompts, which several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from rein.cli.values import whole

_PANEL = "How the prompt is read"

DialectName = Annotated[
    str | None,
    typer.Option(
        "--dialect",
        metavar="D",
        rich_help_panel=_PANEL,
        help="How prompts are read: rein, a1111, comfy or compel. [default: a1111; pocket: rein]",
    ),
]
Emphasis = Annotated[
    str | None,
    typer.Option(
        metavar="E",
        rich_help_panel=_PANEL,
        help="What weights do in a1111: original, no-norm, ignore or none. [default: original]",
    ),
]
ClipSkip = Annotated[
    int,
    typer.Option(
        parser=whole,
        metavar="N",
        rich_help_panel=_PANEL,
        help="Which of the text tower's states to read, from its end.",
    ),
]
Styles = Annotated[
    list[str] | None,
    typer.Option(
        "--style",
        metavar="NAME",
        rich_help_panel=_PANEL,
        help="Add a named style; may be repeated. See: rein prompt styles",
    ),
]
StylesFile = Annotated[
    str | None, typer.Option(metavar="FILE", rich_help_panel=_PANEL, help="A CSV file of more styles.")
]
Wildcards = Annotated[
    str | None,
    typer.Option(metavar="DIR", rich_help_panel=_PANEL, help="Folder of the files that __name__ draws from."),
]
