"""`rein explain`: a page that shows how one picture came about, traces to compare, and a model taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rein.cli.app import app
from rein.cli.help import Sectioned
from rein.cli.options import DEVICE, MODEL, REQUEST, Given, load_model, request_fields, takes, without
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
  rein explain "a golden apple" --init apple.png --strength 0.6
  rein explain "two owls" --seed 7 --trace owls
  rein explain --diff owls owls-again
  rein explain --model pocket

The picture is the one that `rein generate` draws with the same options. The last line of the output is the path of
the page. A trace is two files, FILE.safetensors and FILE.json. With --model and no prompt, the model's networks are
drawn instead, as a page and as SVG files beside it.
"""

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
    str | None,
    typer.Option(
        metavar="STRIPS",
        help="Draw the same seed otherwise: guidance, steps, sampler, word, negative, strength, adapter (several with "
        "commas), all, none. [default: guidance,word; of what was given, that instead of guidance]",
    ),
]
Diff = Annotated[
    tuple[str, str] | None, typer.Option(metavar="A B", help="Compare two traces instead: where do they part?")
]

_SEVERAL_PASSES = ("loops", "loop_strength", "outpaint", "hires", "upscaler", "hires_steps", "hires_strength")


class _ModelAlone(Sectioned):
    """`--model` may stand without a name, which is then the embedded model's."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        whole: list[str] = []
        for place, word in enumerate(args):
            whole.append(word)
            follows = args[place + 1] if place + 1 < len(args) else "-"
            if word in ("--model", "-m") and follows.startswith("-"):
                whole.append("pocket")
        return super().parse_args(ctx, whole)


@app.command("explain", epilog=_EXAMPLES, cls=_ModelAlone)
@takes(*without(REQUEST, *_SEVERAL_PASSES), *MODEL, *DEVICE)
def explain(
    *,
    context: typer.Context,
    output: Output = None,
    trace: TraceTo = None,
    what_if: WhatIf = None,
    diff: Diff = None,
    given: Given,
) -> None:
    """Show how a picture is made, part by part, as one page."""
    wordless = given["prompt"] is None and given["prompt_file"] is None
    if diff is not None:
        if not wordless:
            raise InputError("a prompt and --diff do not go together: --diff compares two traces that are there")
        print(_compare(diff, output), flush=True)
        return
    source = context.get_parameter_source("model")
    with meter() as shown:
        if wordless and source is not None and source.name == "COMMANDLINE":
            if trace is not None:
                raise InputError("--trace goes with a prompt: give one, or leave --trace out to see the model alone")
            print(_taken_apart(shown, given, output), flush=True)
        else:
            print(_explained(shown, given, (output, trace, what_if)), flush=True)


def _explained(shown: Meter, given: Given, places: tuple[str | None, str | None, str | None]) -> Path:
    """Draw, explain and write; returns where the page is."""
    wanted = request_fields(given)
    shown.show("starting")
    from rein.devices import fresh_seed
    from rein.explain.place import book_beside, free_page, try_place
    from rein.explain.whatif import draw_strips, strip_names, usual_strips
    from rein.pipeline.request import Request

    output, trace, what_if = places
    request = Request.model_validate(wanted)
    names = usual_strips(request) if what_if is None else strip_names(what_if)
    request = request.replace(seed=fresh_seed() if request.seed is None else request.seed)
    page_path = free_page(output, request.prompt, request.seed)
    if trace is not None:
        try_place(trace)
    shown.show(f"loading {given['model']}")
    from rein.explain.file import write_trace
    from rein.explain.page import build_page
    from rein.explain.trace import explain as explained
    from rein.html import write_page

    explanation = explained(request, load_model(given))
    for record in explanation:
        shown.show("drawing", record.index + 1, record.steps)
    for note in explanation.notes:
        shown.say(f"note: {note}")
    if trace is not None:
        shown.say("trace: {}, {}".format(*write_trace(explanation, trace)))
    shown.show("drawing what would change")
    strips = list(draw_strips(explanation.model, explanation.request, names))
    shown.show("writing the page")
    write_page(build_page(explanation, strips, book_beside(page_path)), page_path)
    return page_path


def _taken_apart(shown: Meter, given: Given, output: str | None) -> Path:
    """Draw a model's networks, as a page and as SVG files; returns where the page is."""
    from rein.explain.network import networks
    from rein.explain.network_page import network_page, write_drawings
    from rein.explain.place import book_beside, free_page
    from rein.html import write_page
    from rein.pipeline.request import Request

    shown.show(f"loading {given['model']}")
    model = load_model(given)
    request = Request(prompt="", width=given["width"], height=given["height"])
    size = request.width or model.spec.native_size, request.height or model.spec.native_size
    page_path = free_page(output, model.name, None)
    shown.show("asking its networks")
    found = list(networks(model.parts, size))
    for path in write_drawings(found, page_path):
        shown.say(f"drawing: {path}")
    write_page(network_page(model, found, book_beside(page_path)), page_path)
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
