"""`rein explain`: a page that shows how one picture came about, and traces to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rein.cli.app import app
from rein.cli.generate import (
    Device,
    Dtype,
    Guidance,
    Height,
    ModelName,
    Negative,
    Sampler,
    Schedule,
    Seed,
    Steps,
    Width,
)
from rein.cli.progress import Meter, meter
from rein.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from rein.explain.diff import Difference

_EXAMPLES = """
\b
Examples:
  rein explain "a red apple, flat style"
  rein explain "a blue car" --seed 7 --what-if guidance,sampler -o car.html
  rein explain "two owls" --seed 7 --trace owls
  rein explain --diff owls owls-again

The picture is the one that `rein generate` draws with the same options. The last line of the output is the path of
the page. A trace is two files, FILE.safetensors and FILE.json.
"""

Prompt = Annotated[
    str | None, typer.Argument(help="What the picture should show, in quotes; may be empty. '-' reads it from stdin.")
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="The page: a name that ends in .html, or a folder; nothing is replaced. [default: explained]",
    ),
]
TraceTo = Annotated[str | None, typer.Option("--trace", metavar="FILE", help="Also write all of it as data.")]
WhatIf = Annotated[
    str,
    typer.Option(
        metavar="STRIPS",
        help="Draw the same seed otherwise: guidance, steps, sampler, word, negative (several with commas), all, none.",
    ),
]
Diff = Annotated[
    tuple[str, str] | None, typer.Option(metavar="A B", help="Compare two traces instead: where do they part?")
]


@app.command("explain", epilog=_EXAMPLES)
def explain(
    prompt: Prompt = None,
    negative: Negative = "",
    model: ModelName = "pocket",
    steps: Steps = 20,
    guidance: Guidance = None,
    sampler: Sampler = None,
    schedule: Schedule = None,
    seed: Seed = None,
    width: Width = None,
    height: Height = None,
    output: Output = None,
    trace: TraceTo = None,
    what_if: WhatIf = "guidance,word",
    diff: Diff = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Show how a picture is made, part by part, as one page."""
    if diff is not None:
        if prompt is not None:
            raise InputError("a prompt and --diff do not go together: --diff compares two traces that are there")
        print(_compare(diff, output), flush=True)
        return
    from rein.cli.drawing import read_prompt

    wanted = {
        "prompt": read_prompt(prompt, None),
        "negative_prompt": negative,
        "steps": steps,
        "guidance_scale": guidance,
        "sampler": sampler,
        "spacing": schedule,
        "seed": seed,
        "width": width,
        "height": height,
    }
    with meter() as shown:
        print(_explained(shown, wanted, (model, device, dtype), (output, trace, what_if)), flush=True)


def _explained(
    shown: Meter,
    wanted: dict[str, object],
    which: tuple[str, str, str],
    places: tuple[str | None, str | None, str],
) -> Path:
    """Draw, explain and write; returns where the page is."""
    shown.show("starting")
    from rein.devices import fresh_seed
    from rein.explain.place import free_page, try_place
    from rein.explain.whatif import draw_strips, strip_names
    from rein.pipeline.request import Request

    output, trace, what_if = places
    names = strip_names(what_if)
    request = Request.model_validate(wanted)
    request = request.replace(seed=fresh_seed() if request.seed is None else request.seed)
    page_path = free_page(output, request.prompt, request.seed)
    if trace is not None:
        try_place(trace)
    shown.show(f"loading {which[0]}")
    from rein.explain.file import write_trace
    from rein.explain.page import build_page
    from rein.explain.trace import explain as explained
    from rein.html import write_page
    from rein.pipeline.model import load

    explanation = explained(request, load(*which))
    for record in explanation:
        shown.show("drawing", record.index + 1, record.steps)
    if trace is not None:
        shown.say("trace: {}, {}".format(*write_trace(explanation, trace)))
    shown.show("drawing what would change")
    strips = list(draw_strips(explanation.model, explanation.request, names))
    shown.show("writing the page")
    write_page(build_page(explanation, strips), page_path)
    return page_path


def _compare(paths: tuple[str, str], output: str | None) -> Path:
    """Compare two traces, print the table, write the page; returns where that is."""
    from rein.cli.tables import table
    from rein.explain.diff import HEAD, compare, diff_page, rows
    from rein.explain.file import read_trace
    from rein.explain.place import free_page
    from rein.html import write_page

    found: Difference = compare(*(read_trace(path) for path in paths))
    page_path = free_page(output, f"{found.names[0]} and {found.names[1]}", None)
    for name, first, second in found.settings:
        print(f"{name}: {first or 'none'} | {second or 'none'}")
    print(table([HEAD, *rows(found)]))
    print(found.verdict())
    write_page(diff_page(found), page_path)
    return page_path
