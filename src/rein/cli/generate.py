"""`rein generate`: pictures from words. Here are its options; `rein.cli.drawing` does the work."""

from __future__ import annotations

from typing import Annotated

import typer

from rein.cli.app import app
from rein.cli.drawing import Drawing
from rein.cli.help import Sectioned
from rein.cli.options import DEVICE, MODEL, REQUEST, AsJson, Given, request_fields, takes
from rein.cli.preview import PreviewEvery, Previews, PreviewTarget, PreviewVae
from rein.cli.progress import meter
from rein.cli.values import whole
from rein.errors import InterruptedWork

_EXAMPLES = """
\b
Examples:
  rein generate "a red apple, flat style"
  rein generate "two owls" --seed 7 --count 4 --grid --output owls/
  rein generate "a blue car" --steps 30 --guidance 6 --sampler heun -o car.png
  rein generate "a golden apple" --init apple.png --strength 0.6
  rein generate "a worm" --init apple.png --mask hole.png --only-masked
  rein generate "an orchard" --init apple.png --outpaint left=64,right=64
  rein generate --prompt-file words.txt --json

The last line of the output is the path of the picture; of several, that of their sheet or folder. Ctrl-C keeps the
pictures that are finished.
"""

Count = Annotated[
    int,
    typer.Option("--count", "-n", parser=whole, metavar="N", help="Pictures, 1 to 1000, with seeds N, N + 1, ..."),
]
Grid = Annotated[bool, typer.Option("--grid", help="Also make a sheet of all pictures, with prompt and seeds.")]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="A .png, .jpg or .webp file or a folder; a name that is taken gets a number, nothing is replaced. "
        "[default: pictures]",
    ),
]
Format = Annotated[
    str | None, typer.Option("--format", metavar="F", help="png, jpeg or webp. [default: what --output tells, or png]")
]
Quality = Annotated[
    int | None,
    typer.Option(
        parser=whole, metavar="Q", help="Of jpeg and webp, 1 to 100; 100 loses nothing in webp. [default: 90]"
    ),
]
PlanOnly = Annotated[
    bool,
    typer.Option("--plan", help="Only say what memory and time it will take, and what to change where it is too much."),
]


@app.command("generate", epilog=_EXAMPLES, cls=Sectioned)
@takes(*REQUEST, *MODEL, *DEVICE)
def generate(
    *,
    given: Given,
    count: Count = 1,
    grid: Grid = False,
    output: Output = None,
    file_format: Format = None,
    quality: Quality = None,
    preview: PreviewTarget = None,
    preview_every: PreviewEvery = None,
    preview_vae: PreviewVae = None,
    plan: PlanOnly = False,
    as_json: AsJson = False,
) -> None:
    """Make pictures from words."""
    drawing = Drawing(quiet=as_json, previews=Previews.of(preview, preview_every, preview_vae))
    try:
        with meter() as shown:
            drawing.prepare(shown, {"count": count} | request_fields(given), output, file_format, quality)
            drawing.load(shown, given)
            if plan:
                drawing.plan(shown)
                return
            drawing.draw(shown, grid)
    except KeyboardInterrupt:
        raise InterruptedWork(drawing.how_far()) from None
    finally:
        drawing.report()
