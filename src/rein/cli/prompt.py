"""`rein prompt`: how a prompt is read, and the styles there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rein.cli.app import app
from rein.cli.language import StylesFile
from rein.cli.options import LANGUAGE, WORDS, AsJson, Given, request_fields, takes
from rein.cli.values import whole

if TYPE_CHECKING:
    from rich.table import Table

    from rein.text.explain import ExplainedPart, ExplainedReading, ExplainedToken

_EXAMPLES = """
\b
Examples:
  rein prompt explain "a (red:1.3) apple, [sketch:oil painting:0.4]" --model sd15
  rein prompt explain "a {cat|dog} AND a garden :0.5" --seed 7 --json
  rein prompt explain "a red++ apple" --dialect compel --model sdxl
"""

prompts = typer.Typer(help="See how a prompt is read, or list styles.", no_args_is_help=False)
app.add_typer(prompts, name="prompt")


@prompts.command("explain", epilog=_EXAMPLES)
@takes(*WORDS, "steps", *LANGUAGE)
def explain(
    *,
    model: Annotated[
        str,
        typer.Option("--model", "-m", metavar="NAME|PATH", help="Whose words: sd15, sd21, sdxl, pocket, or a model."),
    ] = "pocket",
    seed: Annotated[int, typer.Option("--seed", "-s", parser=whole, metavar="N", help="What wildcards draw from.")] = 0,
    given: Given,
    as_json: AsJson = False,
) -> None:
    """Show how a prompt is read: its texts over the steps, their tokens and weights. Nothing is drawn."""
    from rein.pipeline.request import Request

    request = Request.model_validate({"seed": seed} | request_fields(given))
    found = _explained(request, model)
    if as_json:
        print(json.dumps(_object(found), indent=1, ensure_ascii=False))
    else:
        _show(found)


@prompts.command("styles")
def list_styles(styles: StylesFile = None, as_json: AsJson = False) -> None:
    """List the styles that --style takes."""
    from rein.text.styles import read_styles, shipped_styles

    known = shipped_styles() if styles is None else {**shipped_styles(), **read_styles(styles)}
    if as_json:
        print(json.dumps([asdict(style) for style in known.values()], indent=1, ensure_ascii=False))
        return
    table = _table("STYLE", "PROMPT", "NEGATIVE PROMPT")
    for style in known.values():
        table.add_row(_plain(style.name), _plain(style.prompt), _plain(style.negative_prompt))
    _print(table)


def _explained(request: Any, model: str) -> dict[str, Any]:
    """Everything there is to tell, with the parts as dataclasses."""
    from rein.cli.vocabularies import vocabulary_of
    from rein.pipeline.words import WordSource, left_as_written
    from rein.text.dialects import find_dialect
    from rein.text.explain import explain_prompt

    spec, vocabulary = vocabulary_of(model)
    resolved = request.resolved(spec)
    drawn = WordSource(resolved).drawn(resolved.seed)
    dialect = find_dialect(resolved.dialect, resolved.emphasis)
    parts = explain_prompt(drawn.text, resolved.steps, dialect, vocabulary)
    unwanted = explain_prompt(drawn.negative_prompt, resolved.steps, dialect, vocabulary, negative=True)
    return {
        "model": spec.name,
        "dialect": dialect.name,
        "weights": dialect.weighting,
        "steps": resolved.steps,
        "window": vocabulary.room,
        "prompt": drawn.prompt,
        "negative_prompt": drawn.negative_prompt,
        "drawn": drawn.prompt != request.prompt or drawn.negative_prompt != request.negative_prompt,
        "notes": left_as_written(request),
        "networks": [tag._asdict() for tag in drawn.networks],
        "parts": parts,
        "negative": unwanted[0],
    }


def _object(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "parts": [asdict(part) for part in found["parts"]], "negative": asdict(found["negative"])}


def _show(found: dict[str, Any]) -> None:
    parts: Sequence[ExplainedPart] = found["parts"]
    print(
        f"dialect {found['dialect']}, weights {found['weights']}; {found['model']}: {found['window']} tokens a window"
    )
    if found["drawn"]:
        print(f"prompt: {found['prompt']}")
        if found["negative_prompt"]:
            print(f"negative prompt: {found['negative_prompt']}")
    for note in found["notes"]:
        print(f"note: {note}")
    for tag in found["networks"]:
        text = tag["weight"] if tag["text_weight"] is None else tag["text_weight"]
        print(f"network {tag['name']}: U-Net {tag['weight']:g}, text {text:g}")
    if len(parts) > 1 or len(parts[0].readings) > 1:
        _print(_schedule(parts, found["steps"]))
    for number, part in enumerate(parts, start=1):
        of = f"part {number}, weight {part.weight:g}" if len(parts) > 1 or part.weight != 1 else "prompt"
        for reading in part.readings:
            _print(_tokens(reading, _title(of, reading, found["steps"]), found["window"]))
    if found["negative_prompt"].strip():
        for reading in found["negative"].readings:
            _print(_tokens(reading, _title("negative prompt", reading, found["steps"]), found["window"]))


def _title(of: str, reading: ExplainedReading, steps: int) -> str:
    return of if len(reading.steps) == steps else f"{of}, at steps {_ranges(reading.steps)}"


def _schedule(parts: Sequence[ExplainedPart], steps: int) -> Table:
    table = _table("PART", "WEIGHT", f"STEPS OF {steps}", "TEXT")
    for number, part in enumerate(parts, start=1):
        for reading in part.readings:
            table.add_row(str(number), f"{part.weight:g}", _ranges(reading.steps), _plain(reading.text))
    return table


def _tokens(reading: ExplainedReading, title: str, room: int) -> Table:
    """A row for each run of tokens of one weight."""
    table = _table("WINDOW", "TOKENS", "WEIGHT", "WORDS")
    table.title = title
    table.title_justify = "left"
    for entry in reading.texts:
        if len(reading.texts) > 1:
            table.add_section()
            table.add_row("", "", f"{entry.weight:.4g}", f"({reading.how})")
        for number, window in enumerate(entry.windows, start=1):
            runs = [(weight, list(run)) for weight, run in groupby(window, lambda token: token.weight)]
            for place, (weight, run) in enumerate(runs or [(1.0, [])]):
                first = f"{number}: {len(window)}/{room}" if place == 0 else ""
                table.add_row(first, str(len(run)), f"{weight:.4g}", _words(run))
    return table


def _words(run: Sequence[ExplainedToken]) -> Any:
    return _plain(" ".join(token.text for token in run) or "(empty)")


def _ranges(steps: Sequence[int]) -> str:
    """Step numbers as "1-4, 6, 8-20"."""
    runs: list[list[int]] = []
    for step in steps:
        if runs and runs[-1][1] == step - 1:
            runs[-1][1] = step
        else:
            runs.append([step, step])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _plain(text: str) -> Any:
    """Text in which square brackets are no markup, without signs that a terminal would obey."""
    from rich.text import Text

    return Text("".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text))


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in ("TOKENS", "WEIGHT") else "left")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print()
    console.print(table)
