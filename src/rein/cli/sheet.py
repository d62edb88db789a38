"""`rein sheet`: one sheet of pictures in which one, two or three things vary."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from rein.cli.app import app
from rein.cli.help import Sectioned
from rein.cli.options import DEVICE, MODEL, REQUEST, AsJson, Given, request_fields, takes
from rein.cli.progress import meter
from rein.cli.sheet_work import AxisTexts, SheetWork
from rein.errors import InterruptedWork, ReinError

_EXAMPLES = """
\b
Examples:
  rein sheet "a red apple" --x "steps=5,10,20" --y "guidance=1-9 (+4)"
  rein sheet "a red apple, flat style" --x "replace=apple,pear,cup" --y seed=1-4 --keep
  rein sheet "a house|at night|in the rain" --matrix -o house.png
  rein sheet "an owl" --x "sampler=euler,heun" --y "size=128x128,192x128" --score --json

An axis is a field of a request with values, ranges such as 5-9, 5-9 (+2) or 1-10 [5], replace=OLD,NEW,... for words of
the prompts, or size=WxH,... A cell that cannot be drawn shows why, the others are drawn; the exit code is then 1. The
last line of the output is the path of the sheet. Ctrl-C writes the sheet of what is finished.
"""

Across = Annotated[
    str | None, typer.Option("--x", metavar="AXIS", help='What varies from column to column, as "steps=5,10,20".')
]
Down = Annotated[str | None, typer.Option("--y", metavar="AXIS", help="What varies from row to row.")]
Layers = Annotated[str | None, typer.Option("--z", metavar="AXIS", help="What varies from one part to the next below.")]
Matrix = Annotated[
    bool, typer.Option("--matrix", help='Every choice of the texts after "|" in the prompt, instead of --x and --y.')
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Also save each picture with its settings, in a folder beside the sheet.")
]
Score = Annotated[
    bool, typer.Option("--score", help="Write below each picture the judge's chance that it shows what was asked.")
]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="PATH", help="A .png file or a folder. [default: pictures]"),
]


@app.command("sheet", epilog=_EXAMPLES, cls=Sectioned)
@takes(*REQUEST, *MODEL, *DEVICE)
def sheet(
    *,
    x: Across = None,
    y: Down = None,
    z: Layers = None,
    matrix: Matrix = False,
    keep: Keep = False,
    score: Score = False,
    output: Output = None,
    given: Given,
    as_json: AsJson = False,
) -> None:
    """Draw a sheet of pictures in which things vary."""
    work = SheetWork(quiet=as_json, keep=keep, score=score)
    try:
        with meter() as shown:
            work.prepare(shown, request_fields(given), AxisTexts(x, y, z, matrix), output)
            work.load(shown, given)
            work.draw(shown)
    except KeyboardInterrupt:
        work.write()
        raise InterruptedWork(work.how_far()) from None
    except Exception:
        with contextlib.suppress(ReinError):  # what is finished is kept, whatever went wrong
            work.write()
        raise
    work.write()
    work.report()
    raise typer.Exit(1 if work.problems else 0)
