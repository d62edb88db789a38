"""`rein evaluate pictures`, `model` and `compare`: sets of pictures by the field's figures."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from rein.cli.evaluate import evaluations
from rein.cli.progress import Meter, Pace, meter
from rein.cli.tables import table
from rein.cli.values import whole
from rein.errors import InputError, InterruptedWork

if TYPE_CHECKING:
    from rein.evaluation.comparing import Comparison
    from rein.evaluation.judges import Judges, Stage
    from rein.evaluation.picture_lists import PictureList
    from rein.evaluation.results import Results

Returned = TypeVar("Returned")

_PICTURES_EXAMPLES = """
\b
Examples:
  rein evaluate pictures drawn
  rein evaluate pictures drawn photographs --training photographs
  rein evaluate pictures drawn photographs --features pt_inception-2015-12-05-6726825d.pth
  rein evaluate pictures before after --pairs --lpips alexnet.pth --lpips lpips_alex.pth

A set is a folder of pictures, a .tar of them, or a metadata.jsonl or .csv. The last line of the output is the path of
the results; a page to look at lies beside them.
"""
_MODEL_EXAMPLES = """
\b
Examples:
  rein evaluate model pocket --prompts prompts.txt
  rein evaluate model runs/lora/model --data pictures --count 200
  rein evaluate model sd15.safetensors --prompts coco.txt --real coco --clip clip-vit-large-patch14

Pictures that are drawn are kept, so that a run that was stopped goes on where it was.
"""
_COMPARE_EXAMPLES = """
\b
Examples:
  rein evaluate compare evaluation/before evaluation/after
  rein evaluate compare before after --real photographs
  rein evaluate compare before after --clip clip-vit-large-patch14 --json

Two folders that `rein evaluate MODEL` left are compared question by question, two sets of pictures by their figures.
"""

Drawn = Annotated[str, typer.Argument(metavar="PICTURES", help="The pictures to judge.")]
Real = Annotated[str | None, typer.Argument(metavar="REAL", help="Real ones to compare them with.")]
RealOption = Annotated[str | None, typer.Option("--real", metavar="REAL", help="Real pictures to compare with.")]
FeaturesBy = Annotated[
    str,
    typer.Option(
        "--features", metavar="judge|FILE", help="The network that looks: the judge, FID's Inception weights, or CLIP."
    ),
]
ClipFile = Annotated[
    str | None, typer.Option("--clip", metavar="FILE", help="A CLIP model: score pictures with their prompts.")
]
UseJudge = Annotated[
    bool | None,
    typer.Option(
        "--judge/--no-judge", help="Ask the judge whether prompts are obeyed. [default: where it is the network]"
    ),
]
LpipsFiles = Annotated[
    list[str] | None,
    typer.Option("--lpips", metavar="FILE", help="For --pairs, twice: AlexNet's or VGG-16's weights, and LPIPS' own."),
]
ByPairs = Annotated[bool, typer.Option("--pairs", help="Also compare pictures of equal names: PSNR, SSIM, LPIPS.")]
Training = Annotated[
    str | None, typer.Option(metavar="PICTURES", help="Search these, which were trained on, for copies.")
]
NearestBy = Annotated[
    str,
    typer.Option("--nearest", metavar="pixels|features|both", help="For --training: what is compared to find copies."),
]
Neighbours = Annotated[
    int, typer.Option(parser=whole, metavar="K", help="Neighbours, for precision, recall, density and coverage.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results. [default: evaluation/...]")
]
Device = Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, ... or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON, and nothing else, on stdout.")]


@dataclass(frozen=True)
class Asked:
    """Who is to judge, as the command line says it."""

    features: str = "judge"
    clip: str | None = None
    judge: bool | None = None
    lpips: tuple[str, ...] = ()
    pairs: bool = False
    training: str | None = None
    nearest: str = "both"
    neighbours: int = 5
    device: str = "auto"


@evaluations.command("pictures", epilog=_PICTURES_EXAMPLES)
def pictures(
    drawn: Drawn,
    real: Real = None,
    features: FeaturesBy = "judge",
    clip: ClipFile = None,
    judge: UseJudge = None,
    pairs: ByPairs = False,
    lpips: LpipsFiles = None,
    training: Training = None,
    nearest: NearestBy = "both",
    neighbours: Neighbours = 5,
    output: Output = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Judge pictures, alone or against real ones: FID, KID, Inception score, precision, recall, CLIP score, copies."""
    asked = Asked(features, clip, judge, tuple(lpips or ()), pairs, training, nearest, neighbours, device)
    with meter() as shown:
        shown.show("looking for pictures")
        from rein.evaluation.picture_lists import open_list

        ours, theirs = open_list(drawn), None if real is None else open_list(real)
        folder = output if output is not None else _folder(drawn)
        results = _judged(shown, (ours, theirs), asked, folder, {})
    _print(results, folder, as_json)


@evaluations.command("model", epilog=_MODEL_EXAMPLES)
def model(
    source: Annotated[str, typer.Argument(metavar="MODEL", help="A model inside Rein, a file or a folder.")],
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What to draw: a text file, one prompt on each line.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="PICTURES", help="What to draw: the captions of these pictures, the real ones too."),
    ] = None,
    real: RealOption = None,
    count: Annotated[
        int | None, typer.Option(parser=whole, metavar="N", help="Prompts at most, by lot. [default: all]")
    ] = None,
    each: Annotated[int, typer.Option(parser=whole, metavar="N", help="Pictures of each prompt.")] = 1,
    seed: Annotated[int, typer.Option(parser=whole, metavar="N", help="Of the first picture; and of the lot.")] = 0,
    steps: Annotated[
        int | None, typer.Option(parser=whole, metavar="N", help="Sampling steps. [default: the model's own]")
    ] = None,
    features: FeaturesBy = "judge",
    clip: ClipFile = None,
    judge: UseJudge = None,
    training: Training = None,
    nearest: NearestBy = "both",
    neighbours: Neighbours = 5,
    output: Output = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Judge a model: draw a list of prompts or a data set's captions, and judge the pictures."""
    if (prompts is None) == (data is None):
        raise InputError("give either --prompts FILE or --data PICTURES: what the model is to draw")
    asked = Asked(features, clip, judge, (), False, training, nearest, neighbours, device)
    folder = output if output is not None else _folder(source)
    with meter() as shown:
        shown.show(f"loading {source}")
        from rein.evaluation.drawing import DrawingOptions, captions_as_prompts, draw_pictures, read_prompts
        from rein.evaluation.picture_lists import open_list
        from rein.evaluation.subject import model_subject
        from rein.pipeline.model import load

        options = DrawingOptions(folder, count, each, seed)
        given = None if data is None else open_list(data)
        texts = read_prompts(prompts) if prompts is not None else captions_as_prompts(given) if given else []
        theirs = open_list(real) if real is not None else given
        loaded = load(source, device)
        subject = model_subject(loaded, steps=steps)
        ours = _run(shown, draw_pictures(subject, texts, options), folder)
        made = {"model": source, "weights": loaded.weights_hash, "pictures": ours.folder}
        settings = made | subject.settings
        results = _judged(shown, (ours, theirs), asked, folder, settings)
    _print(results, folder, as_json)


@evaluations.command("compare", epilog=_COMPARE_EXAMPLES)
def compare(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="Pictures, or the folder of an evaluation.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The same, to compare with the first.")],
    real: RealOption = None,
    features: FeaturesBy = "judge",
    clip: ClipFile = None,
    judge: UseJudge = None,
    neighbours: Neighbours = 5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Write a page of the comparison too.")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Say which of two models or sets of pictures is better, and whether that is more than noise."""
    asked = Asked(features, clip, judge, neighbours=neighbours, device=device)
    with meter() as shown:
        shown.show("looking for pictures")
        from rein.evaluation.comparing import compare_pictures
        from rein.evaluation.comparing_reports import compare_reports, is_report
        from rein.evaluation.page import comparison_page
        from rein.evaluation.picture_lists import open_list
        from rein.html import write_page

        reports = [is_report(Path(place)) for place in (first, second)]
        if all(reports) and real is None:
            found = compare_reports(Path(first), Path(second))
        elif any(reports):
            raise InputError(
                "compare two folders that `rein evaluate MODEL` left, without --real, or two sets of pictures"
            )
        else:
            lists = open_list(first, 2), open_list(second, 2)
            theirs = None if real is None else open_list(real, 2)
            found = _run(shown, compare_pictures(*lists, _judges(asked), theirs), None)
        if output is not None:
            write_page(comparison_page(found), output)
    print(_comparison_json(found) if as_json else comparison_lines(found), flush=True)
    if output is not None and not as_json:
        print(output, flush=True)


def _folder(source: str) -> Path:
    return Path("evaluation") / (Path(source).resolve().name or "pictures")


def _judges(asked: Asked) -> Judges:
    """The networks that are asked for, loaded. Raises `InputError` before anything is looked at."""
    from rein.devices import choose_device
    from rein.evaluation.clip import load_clip
    from rein.evaluation.judges import Judges
    from rein.evaluation.networks import JUDGE, load_features, load_lpips
    from rein.evaluation.picture_lists import open_list
    from rein.evaluation.score import Scorer

    if asked.lpips and not asked.pairs:
        raise InputError("--lpips compares pairs: say --pairs too")
    device = choose_device(asked.device)
    wants_judge = asked.features == JUDGE if asked.judge is None else asked.judge
    return Judges(
        features=load_features(asked.features, device),
        clip=None if asked.clip is None else load_clip(asked.clip, device),
        scorer=Scorer() if wants_judge else None,
        lpips=load_lpips(asked.lpips, device) if asked.lpips else None,
        pairs=asked.pairs,
        training=None if asked.training is None else open_list(asked.training),
        nearest=asked.nearest,
        neighbours=asked.neighbours,
    )


def _judged(
    shown: Meter, lists: tuple[PictureList, PictureList | None], asked: Asked, folder: Path, settings: dict[str, str]
) -> Results:
    """Judge, and write results and page into the folder."""
    from rein.evaluation.judging import judge_pictures
    from rein.evaluation.page import judged_page
    from rein.evaluation.results import PAGE_NAME, RESULTS_NAME, write_results
    from rein.files import write_failure
    from rein.html import write_page

    ours, theirs = lists
    judges = _judges(asked)
    judged = _run(shown, judge_pictures(ours, judges, theirs), folder)
    judged = replace(judged, results=replace(judged.results, settings=settings | judged.results.settings))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(folder, error) from error
    write_results(judged.results, folder / RESULTS_NAME)
    write_page(judged_page(judged, ours, judges.training), folder / PAGE_NAME)
    return judged.results


def _run(shown: Meter, work: Generator[Stage, None, Returned], folder: Path | None) -> Returned:
    """Work to its end, with a bar; what it returns."""
    name, began, pace = "", 0, Pace()
    try:
        while True:
            stage = next(work)
            if stage.name != name:
                name, began, pace = stage.name, stage.done, Pace()
            new = stage.done - began
            note = pace.note(new, stage.total - began, f"{stage.unit}/s") if new else ""
            shown.show(stage.name, stage.done, stage.total, note)
    except StopIteration as end:
        found: Returned = end.value
        return found
    except KeyboardInterrupt:
        kept = "" if folder is None else f"; what is drawn is kept in {folder}: the same command goes on from there"
        raise InterruptedWork(f"stopped{kept}") from None


def _print(results: Results, folder: Path, as_json: bool) -> None:
    from rein.evaluation.results import RESULTS_NAME, results_json

    if as_json:
        print(results_json(results), flush=True)
        return
    print(result_lines(results))
    print(folder / RESULTS_NAME, flush=True)


def result_lines(results: Results) -> str:
    """Results as a table and a few lines."""
    rows = [("FIGURE", "VALUE", "95% INTERVAL", "BETTER", "PICTURES", "BY")]
    for row in results.figures:
        interval = f"{row.low:.4g} to {row.high:.4g}"
        rows.append((row.label, f"{row.value:.4g}", interval, row.better, str(row.pictures), row.network))
    lines = [table(rows)]
    for copies in results.copies:
        for kind in copies.kinds:
            near = kind.near_copies
            share = f"{near.rate:.1%} ({near.low:.1%} to {near.high:.1%}) of {near.total}"
            lines.append(f"near-copies, {kind.label}: {share}, by {copies.by}")
    return "\n".join([*lines, *(f"note: {note}" for note in results.notes)])


def comparison_lines(found: Comparison) -> str:
    """A comparison as a table and a few lines."""
    from rein.evaluation.page import told

    rows = [("FIGURE", "FIRST", "SECOND", "DIFFERENCE", "95% INTERVAL", "BETTER")]
    for row in found.differences:
        interval = f"{row.low:+.4g} to {row.high:+.4g}"
        gap = f"{row.second - row.first:+.4g}"
        rows.append((row.label, f"{row.first:.4g}", f"{row.second:.4g}", gap, interval, told(row)))
    head = f"first: {found.first}\nsecond: {found.second}"
    return "\n".join([head, table(rows), *(f"note: {note}" for note in found.notes)])


def _comparison_json(found: Comparison) -> str:
    from rein.evaluation.comparing import comparison_json

    return comparison_json(found)
