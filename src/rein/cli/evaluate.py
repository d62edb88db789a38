"""`rein evaluate`: the group of commands that judge, and the one that is meant where none of them is named.

`rein evaluate MODEL` is `rein evaluate obedience MODEL`: whether a model draws what it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from rein.cli.app import app
from rein.cli.progress import Meter, Pace, meter
from rein.cli.tables import table
from rein.cli.values import whole
from rein.errors import InputError, InterruptedWork, quoted

if TYPE_CHECKING:
    from rein.evaluation.report import Report
    from rein.evaluation.run import EvaluationOptions
    from rein.evaluation.subject import Subject

_EXAMPLES = """
\b
Examples:
  rein evaluate pocket --quick
  rein evaluate runs/pocket/model --output runs/pocket/evaluation
  rein evaluate runs/pocket/model --choose-claims --card runs/pocket/model/README.md

The last line of the output is the path of the report; a page and sheets of pictures to look at lie beside it.
Pictures that are drawn are kept, so that a run that was stopped goes on where it was.
"""

_QUICK = {"trained": 60, "held_out_style": 30, "colour": 0, "held_out_colour": 30, "pair": 0, "held_out_pair": 30}
"""Prompts of each group for a first look; a full evaluation asks about a thousand."""

_GROUP_EXAMPLES = """
\b
Examples:
  rein evaluate pocket --quick
  rein evaluate model pocket --prompts prompts.txt --real photographs
  rein evaluate pictures drawn photographs --features pt_inception-2015-12-05-6726825d.pth
  rein evaluate compare evaluation/before evaluation/after
  rein evaluate rate before after --serve

`rein evaluate MODEL` is `rein evaluate obedience MODEL`.
"""


class Evaluations(TyperGroup):
    """A group in which a word that is none of its commands is the first argument of the usual one."""

    usual: ClassVar[str] = "obedience"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As every group, with the usual command put in where none is named."""
        named = args[:1] and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [self.usual, *args])


evaluations = typer.Typer(
    cls=Evaluations, help="Judge models and pictures, by figures and by eye.", epilog=_GROUP_EXAMPLES
)
app.add_typer(evaluations, name="evaluate")

Source = Annotated[str, typer.Argument(metavar="MODEL", help="A model inside Rein, or a model folder.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="A first look: 150 pictures, no search for copies. Wide intervals.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Folder for report and pictures. [default: evaluation/MODEL]"),
]
ArtFolder = Annotated[
    Path | None,
    typer.Option("--art", metavar="FOLDER", help="Where the art is kept, or put. [default: ~/.cache/rein/art]"),
]
Concepts = Annotated[
    int, typer.Option(parser=whole, metavar="N", help="How many concepts of the list it was trained on.")
]
Steps = Annotated[
    int | None,
    typer.Option(parser=whole, metavar="N", help="Sampling steps of each picture. [default: the model's own]"),
]
ChooseClaims = Annotated[
    bool,
    typer.Option(
        "--choose-claims", help="First find the concepts that it draws well, 300 at least, and measure it on those."
    ),
]
Card = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures into this model card too.")]
Device = Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, ... or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON, and nothing else, on stdout.")]


@evaluations.command("obedience", epilog=_EXAMPLES)
def evaluate(
    source: Source,
    quick: Quick = False,
    output: Output = None,
    art: ArtFolder = None,
    concepts: Concepts = 330,
    steps: Steps = None,
    choose_claims: ChooseClaims = False,
    card: Card = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model: obedience to prompts, the autoencoder, and whether it copies (the usual one)."""
    if card is not None and (card.is_dir() or not card.parent.is_dir()):
        raise InputError(f"--card is {quoted(str(card))}: give the name of a file in a folder that is there")
    with meter() as shown:
        shown.show(f"loading {source}")
        from rein.data.options import ArtOptions
        from rein.evaluation.report import REPORT_NAME, write_card_section
        from rein.evaluation.run import EvaluationOptions
        from rein.evaluation.subject import model_subject
        from rein.pipeline.model import load

        model = load(source, device)
        folder = output if output is not None else Path("evaluation") / (Path(source).resolve().name or "model")
        options = EvaluationOptions(
            art=ArtOptions(art or ArtOptions.cache_folder, concept_count=concepts, size=model.spec.native_size),
            folder=folder,
            counts=_QUICK if quick else {},
            choose_claims=choose_claims,
            nearest_pictures=0 if quick else EvaluationOptions.nearest_pictures,
        )
        report = measure(model_subject(model, steps=steps), options, shown)
        write_report_page(report, folder)
    if card is not None:
        write_card_section(card, report)
    if as_json:
        print((folder / REPORT_NAME).read_text(encoding="utf-8"), end="", flush=True)
        return
    print(figures(report))
    print(folder / REPORT_NAME, flush=True)


def write_report_page(report: Report, folder: Path) -> None:
    """The page beside a report, with the sheets that the run has made. Raises `OutputError`."""
    from rein.evaluation.page import report_page
    from rein.evaluation.results import PAGE_NAME
    from rein.evaluation.run import NEAREST_NAME, SHEET_NAME
    from rein.html import write_page

    sheets = [("Pictures; * was never trained on", folder / SHEET_NAME)]
    if report.copying is not None:
        sheets.append(("Nearest training pictures", folder / NEAREST_NAME))
    write_page(report_page(report, sheets), folder / PAGE_NAME)


def measure(subject: Subject, options: EvaluationOptions, shown: Meter) -> Report:
    """Run an evaluation to its end and show how it goes. Raises as `rein.evaluation.run.evaluate`."""
    from rein.evaluation.run import evaluate as run

    stage, report = "", None
    shown.show("preparing the art")
    try:
        for progress in run(subject, options):
            if progress.stage != stage:
                stage, began, pace = progress.stage, progress.done, Pace()
            new = progress.done - began
            note = pace.note(new, progress.total - began, "pictures/s") if new else ""
            shown.show(progress.stage, progress.done, progress.total, note)
            report = progress.report
    except KeyboardInterrupt:
        raise InterruptedWork(
            f"stopped; the pictures drawn so far are kept in {options.folder}: the same command goes on from there"
        ) from None
    assert report is not None, "the last progress has the report"
    return report


def figures(report: Report) -> str:
    """The report as a table and a few lines."""
    rows = [("ASKED AND SEEN BY THE JUDGE", "RIGHT", "95% INTERVAL", "PICTURES", "REAL PICTURES", "FLOOR")]
    for entry in report.measures:
        interval = f"{entry.drawn.low:.1%} to {entry.drawn.high:.1%}"
        reached = "" if entry.floor is None else f"{entry.floor:.0%} {_verdict(entry.drawn.rate >= entry.floor)}"
        counted = f"{entry.drawn.rate:.1%}", interval, str(entry.drawn.total), f"{entry.real.rate:.1%}", reached
        rows.append((entry.label, *counted))
    lines = [table(rows), f"claimed: {len(report.claims.claimed)} of {report.claims.known} concepts"]
    if (psnr := report.reconstruction) is not None:
        lines.append(f"autoencoder: {psnr.mean:.2f} dB PSNR ({psnr.low:.2f} to {psnr.high:.2f})")
    for kind in report.copying.kinds if report.copying is not None else ():
        near = kind.near_copies
        lines.append(f"near-copies, {kind.label}: {near.rate:.1%} ({near.low:.1%} to {near.high:.1%}) of {near.total}")
    return "\n".join(lines)


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"
