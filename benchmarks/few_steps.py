"""Does a student of few steps draw as well as its teacher?

    python -m benchmarks.few_steps [--student pocket-fast] [--prompts 200] [--cache FOLDER] [--write docs/few-steps.md]

The same prompts, with the same seeds, are drawn by the teacher in its own number of steps, by the teacher in as few as
the student takes, and by the student: `--prompts` of one trained thing in a trained style, and as many of two things
that were never trained together. Beside them stand the same prompts put together from the drawings themselves, which is
the best that can be drawn.

* obedience: the share of pictures in which the judge of `rein evaluate` names what was asked for. The student's less
  the teacher's is taken prompt by prompt, and its interval too. At most 5 points may be lost.
* KID: the kernel distance, by the judge's features, to `--real` composed pictures of other prompts of the same two
  groups, in the same shares. The student's may be 1.25 times the teacher's. The interval of the ratio is that of sets
  drawn again, prompts of both together and the composed ones too.
* seconds: of one picture from words to pixels on this machine, one after the other, as `rein generate` draws it.

Expected: the teacher in so few steps is far worse, the student near the teacher in all of its steps. Pictures are kept
in `--work`, so a broken run goes on, and the teacher's serve for the next student. `--write` puts the figures into
docs/data/few-steps.json, a sheet into docs/images/few-steps.png, and a section into the page.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import in_turn, markdown_table, print_table, put_section
from benchmarks.drawing import check, kept_pictures, requests_of
from benchmarks.steps_and_guidance import ASKED, asked_questions
from rein.data.icons import IconArt
from rein.data.options import ArtOptions
from rein.data.prompts import EvaluationPrompt, held_out_prompts, trained_prompts
from rein.evaluation.classifier import load_classifier
from rein.evaluation.comparing import mean_difference
from rein.evaluation.distances import (
    RESAMPLES,
    Estimate,
    interval_of,
    kernel_distance,
    kernel_distances,
    kernel_estimate,
    resampled_counts,
)
from rein.evaluation.features import features_of, judge_network
from rein.evaluation.intervals import share
from rein.evaluation.obedience import REAL_SEED, Examiner, Question
from rein.evaluation.real import real_pictures
from rein.files import atomic_file
from rein.image_files import write_png
from rein.images import grid
from rein.pipeline.model import Model, load

DOCS = Path(__file__).parent.parent / "docs"
DATA, SHEET = DOCS / "data" / "few-steps.json", DOCS / "images" / "few-steps.png"
HEADING = "## Measured"
GROUPS = {"trained": "the thing is named", "held_out_pair": "both things of a pair are named", "all": "both groups"}
COMPOSED = "composed"
TIMED = "a red apple, flat style"
POINTS_ALLOWED, RATIO_ALLOWED = 5.0, 1.25
_ROWS = 10

Pictures = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Way:
    """One way to draw, and what it reached.

    Fields:
        obedience: by group, and of "all": right, total, and the ends of the interval.
        kid: the kernel distance to composed pictures, with its interval.
        seconds: of a picture, the median; None for composed ones.
    """

    name: str
    obedience: dict[str, tuple[int, int, float, float]]
    kid: Estimate
    seconds: float | None = None


@dataclass(frozen=True)
class Other:
    """A student that was made in another way: see `Way`, and `lost` (of "all") and `ratio` of `Found`."""

    way: Way
    lost: Estimate
    ratio: Estimate


@dataclass(frozen=True)
class Found:
    """What the file holds.

    Fields:
        student, teacher: name, hash of the weights, steps, guidance scale, sampler and spacing.
        prompts: of each group; `real`: composed pictures.
        features: the network behind the kernel distance.
        lost: points of obedience, student less teacher, by group and of "all", with their intervals.
        ratio: of the kernel distances, student by teacher.
        others: students that were made in other ways, drawn in as many steps.
    """

    student: dict[str, str]
    teacher: dict[str, str]
    prompts: int
    real: int
    features: str
    ways: tuple[Way, ...]
    lost: dict[str, Estimate]
    ratio: Estimate
    others: tuple[Other, ...] = ()


def settings_of(model: Model, steps: int) -> dict[str, str]:
    """What a reader needs to draw the same."""
    spec = model.spec
    told = {"name": model.name, "weights": model.weights_hash[:16], "steps": str(steps)}
    return told | {
        "guidance": f"{spec.default_guidance:g}",
        "sampler": str(spec.default_sampler),
        "spacing": str(spec.default_spacing),
    }


def other_prompts(art: IconArt, asked: Sequence[Question], count: int) -> list[EvaluationPrompt]:
    """Prompts of the same groups that were not asked, as many of each as its share in `asked`."""
    known = {one.prompt.text for one in asked}
    listed = {
        "trained": trained_prompts(art, "plain", seed=1),
        "held_out_pair": held_out_prompts(art, "pair", 2 * count, seed=1),
    }
    found: list[EvaluationPrompt] = []
    for name, prompts in listed.items():
        left = [prompt for prompt in prompts if prompt.text not in known]
        wanted = round(count * sum(one.group == name for one in asked) / len(asked))
        if wanted > len(left):
            raise SystemExit(f"there are {len(left)} more prompts of the group {name}, not {wanted}: lower --real")
        places = np.random.default_rng(1).permutation(len(left))[:wanted]
        found += [left[place] for place in places.tolist()]
    return found


def named(examiner: Examiner, asked: Sequence[Question], pictures: Pictures) -> NDArray[np.float64]:
    """1 for each picture in which the judge names what was asked for, else 0."""
    outcomes = examiner.outcomes(asked, pictures)
    return np.array([float(outcome.right["concept"]) for outcome in outcomes])


def by_group(asked: Sequence[Question]) -> dict[str, NDArray[np.bool_]]:
    """Which questions are of each group, and of all."""
    groups = np.array([one.group for one in asked])
    return {name: groups == name for name in ASKED} | {"all": np.ones(len(asked), dtype=bool)}


def shares(asked: Sequence[Question], right: NDArray[np.float64]) -> dict[str, tuple[int, int, float, float]]:
    """The share of each group with its interval."""
    found = {name: share(int(right[chosen].sum()), int(chosen.sum())) for name, chosen in by_group(asked).items()}
    return {name: (one.right, one.total, one.low, one.high) for name, one in found.items()}


def lost(asked: Sequence[Question], teacher: NDArray[np.float64], student: NDArray[np.float64]) -> dict[str, Estimate]:
    """Points of obedience, student less teacher, prompt by prompt."""
    found = {}
    for name, chosen in by_group(asked).items():
        row = mean_difference((name, name), teacher[chosen], student[chosen], paired=True)
        found[name] = Estimate(100 * (row.second - row.first), 100 * row.low, 100 * row.high)
    return found


def ratio(teacher: Vectors, student: Vectors, real: Vectors, seed: int = 0) -> Estimate:
    """The student's kernel distance by the teacher's; pictures of the same prompts are drawn again together.

    Raises:
        ValueError: the teacher's distance may as well be 0: there are too few pictures for a ratio.
    """
    random = np.random.default_rng(seed)
    own, shared = (resampled_counts(len(vectors), RESAMPLES, random) for vectors in (teacher, real))
    below, above = (kernel_distances((vectors, real), (own, shared)) for vectors in (teacher, student))
    if below.min() <= 0:
        raise ValueError("the teacher's distance is not above 0 for certain: take more pictures")
    return Estimate(kernel_distance(student, real) / kernel_distance(teacher, real), *interval_of(above / below))


def seconds_of(models: Mapping[str, tuple[Model, int]], runs: int) -> dict[str, float]:
    """The median time of one picture, drawn alone."""

    def drawer(model: Model, steps: int) -> object:
        return model.generate(TIMED, seed=0, steps=steps)

    taken = in_turn({name: lambda entry=entry: drawer(*entry) for name, entry in models.items()}, runs)  # type: ignore[misc]
    return {name: statistics.median(found) for name, found in taken.items()}


def sheet(asked: Sequence[Question], ways: Mapping[str, Pictures]) -> Image.Image:
    """Columns: the ways to draw; rows: prompts, half of each group, evenly chosen and not by their looks."""
    chosen: list[int] = []
    for name in ASKED:
        places = [place for place, one in enumerate(asked) if one.group == name]
        chosen += [places[round(at)] for at in np.linspace(0, len(places) - 1, min(_ROWS // 2, len(places)))]
    cells, texts = [], []
    for place in chosen:
        for name, pictures in ways.items():
            cells.append(Image.fromarray(pictures[place]))
            texts.append(f"{name}: {asked[place].prompt.text}")
    return grid(cells, columns=2 * len(ways), labels=texts)


def told(value: Estimate, form: str) -> str:
    """A figure with its interval."""
    return f"{value.value:{form}} ({value.low:{form}} to {value.high:{form}})"


def table(found: Found) -> list[list[str]]:
    """Rows, the head first."""
    rows = [[f"{found.prompts} prompts of each group", *(way.name for way in found.ways)]]
    for group, label in GROUPS.items():
        cells = []
        for way in found.ways:
            right, total, low, high = way.obedience[group]
            cells.append(f"{right / total:.1%} ({100 * low:.0f} to {100 * high:.0f})")
        rows.append([label, *cells])
    rows.append(["KID", *(told(way.kid, ".2f") for way in found.ways)])
    rows.append(["seconds", *("" if way.seconds is None else f"{way.seconds:.2f}" for way in found.ways)])
    return rows


def conclusions(found: Found) -> list[list[str]]:
    """What is allowed and what was reached, the head first."""
    rows = [["student less teacher", "allowed", "measured (95% interval)"]]
    for group, label in GROUPS.items():
        rows.append([f"obedience, {label}, points", f"-{POINTS_ALLOWED:g}", told(found.lost[group], "+.1f")])
    rows.append(["KID, times the teacher's", f"{RATIO_ALLOWED:g}", told(found.ratio, ".2f")])
    return rows


def by_method(found: Found) -> list[list[str]]:
    """The students that were made in other ways, the head first."""
    rows = [["student", GROUPS["all"], "points less than the teacher", "KID, times the teacher's"]]
    for other in found.others:
        right, total, low, high = other.way.obedience["all"]
        reached = f"{right / total:.1%} ({100 * low:.0f} to {100 * high:.0f})"
        rows.append([other.way.name, reached, told(other.lost, "+.1f"), told(other.ratio, ".2f")])
    return rows


def section(found: Found) -> str:
    """What the page says."""
    one, other = found.student, found.teacher
    command = f"python -m benchmarks.few_steps --student {one['name']} --write docs/few-steps.md"
    settings = ", ".join([f"guidance {one['guidance']}", one["sampler"], one["spacing"]])
    words = f"""`{command}` drew the same prompts in three ways: by `{other["name"]}` in
{other["steps"]} steps with guidance {other["guidance"]}, by the same in {one["steps"]}, and by `{one["name"]}` in
{one["steps"]} ({settings}). "Composed" are the same prompts put together from the drawings themselves. KID is the
kernel distance to {found.real:,} composed pictures of other prompts of the same kinds, by the features of the
{found.features}. The last row is the time of one picture on one CPU core."""
    parts = [words, markdown_table(table(found)), markdown_table(conclusions(found))]
    if found.others:
        parts += [
            "Students of the two methods with the same budget, on the same prompts:",
            markdown_table(by_method(found)),
        ]
    return "\n\n".join([*parts, f"![The same prompts in three ways](images/{SHEET.name})"])


def measured(options: argparse.Namespace) -> tuple[Found, Image.Image]:
    """Draw, judge and time."""
    art = IconArt(ArtOptions(cache_folder=options.cache))
    asked, examiner = asked_questions(art, options.prompts), Examiner(load_classifier(), art)
    orders = [one.order for one in asked]
    teacher, student = load(options.teacher, device="cpu"), load(options.student, device="cpu")
    full, few = options.steps or teacher.spec.default_steps, options.student_steps
    if few >= full:
        raise SystemExit(f"the student takes {few} steps and the teacher {full}: give --student-steps or --steps")
    drawers = {
        f"teacher, {full} steps": (teacher, full),
        f"teacher, {few} steps": (teacher, few),
        f"student, {few} steps": (student, few),
    }
    check(teacher, orders)
    pictures = {
        name: kept_pictures(model, requests_of(orders, steps=steps), options.work)
        for name, (model, steps) in drawers.items()
    }
    seeds = range(REAL_SEED, REAL_SEED + len(asked))
    pictures[COMPOSED] = real_pictures(art, [one.prompt for one in asked], seeds)
    unasked = other_prompts(art, asked, options.real)
    network = judge_network()
    real = features_of(network, real_pictures(art, unasked, range(seeds.stop, seeds.stop + len(unasked)))).vectors
    vectors = {name: features_of(network, drawn).vectors for name, drawn in pictures.items()}
    right = {name: named(examiner, asked, drawn) for name, drawn in pictures.items()}
    taken = seconds_of(drawers, options.runs)
    ways = [
        Way(name, shares(asked, right[name]), kernel_estimate(vectors[name], real), taken.get(name))
        for name in pictures
    ]
    first, _, third = drawers
    others = []
    for name, place in (text.split("=", 1) for text in options.also):
        drawn = kept_pictures(load(place, device="cpu"), requests_of(orders, steps=few), options.work)
        own, seen = named(examiner, asked, drawn), features_of(network, drawn).vectors
        way = Way(name, shares(asked, own), kernel_estimate(seen, real))
        others.append(Other(way, lost(asked, right[first], own)["all"], ratio(vectors[first], seen, real)))
    found = Found(
        settings_of(student, few),
        settings_of(teacher, full),
        options.prompts,
        len(real),
        network.label,
        tuple(ways),
        lost(asked, right[first], right[third]),
        ratio(vectors[first], vectors[third], real),
        tuple(others),
    )
    return found, sheet(asked, {name: pictures[name] for name in drawers})


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="pocket-fast", help="a model's name, folder or file")
    parser.add_argument("--teacher", default="pocket")
    parser.add_argument("--prompts", type=int, default=200, help="of each group")
    parser.add_argument("--real", type=int, default=1_000, help="composed pictures to compare with")
    parser.add_argument("--steps", type=int, help="of the teacher; its own unless given")
    parser.add_argument(
        "--student-steps", type=int, default=4, help="of the student, and of the teacher's other pictures"
    )
    parser.add_argument("--also", action="append", default=[], metavar="NAME=MODEL", help="a student of another method")
    parser.add_argument("--runs", type=int, default=5, help="pictures by which the time is measured")
    parser.add_argument("--cache", type=Path, default=ArtOptions().cache_folder, help="where the art is")
    parser.add_argument("--work", type=Path, default=Path("runs/few-steps"), help="where the drawn pictures are kept")
    parser.add_argument("--sheet", type=Path, help="where to write the sheet")
    parser.add_argument("--write", type=Path, help="the page that gets the section; figures and sheet are kept too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, shown = measured(options)
    for head, *rows in (table(found), conclusions(found), by_method(found)):
        print_table(head, rows)
    for target in (options.sheet, SHEET if options.write else None):
        if target is not None:
            write_png(shown, target)
    if options.write:
        with atomic_file(DATA) as handle:
            handle.write((json.dumps(asdict(found), indent=1) + "\n").encode())
        put_section(options.write, HEADING, section(found))


if __name__ == "__main__":
    main()
