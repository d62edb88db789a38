"""How many steps are enough, and how much guidance? Measured on the embedded model; the book's plots are drawn from it.

    python -m benchmarks.steps_and_guidance [--prompts 36] [--cache FOLDER] [--write]

Two things are measured, with the model's own settings but for the one that is turned:

* obedience: the share of pictures in which the judge of `rein evaluate` names what was asked for, over the number of
  steps and over the guidance scale: of `--prompts` trained prompts of one thing, and as many of two things that were
  never trained together. The same prompts and seeds in every row.
* distance: how far the latents are from a solution of 1,000 evaluations of the network (Heun's method, 500 steps) from
  the same noise, as root mean square over the deviation of that solution, for samplers without noise.

All pictures of a row are computed in one batch, which takes less time than one by one; the first of all is checked
against the ordinary way. Expected: obedience stands still after some ten steps, while the distance goes on falling;
without guidance the words are followed loosely. `--write` puts the rows into docs/data/steps-and-guidance.json, after
each one, so that nothing is lost.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.common import print_table
from benchmarks.drawing import Together, check, drawn_together, requests_of
from rein.data.icons import IconArt
from rein.data.options import ArtOptions
from rein.evaluation.classifier import load_classifier
from rein.evaluation.intervals import share
from rein.evaluation.obedience import GROUPS, Examiner, Question, questions
from rein.files import atomic_file
from rein.pipeline.decode import decode_latents
from rein.pipeline.model import Model, load

DATA = Path(__file__).parent.parent / "docs" / "data" / "steps-and-guidance.json"
STEPS = (1, 2, 3, 5, 8, 12, 20)
SCALES = (1.0, 2.0, 3.0, 6.0, 9.0)
"""Beside the model's own, which the rows of the steps have."""

ASKED = ("trained", "held_out_pair")
COMPARED = ("euler", "heun", "dpmpp_2m")
DISTANT_STEPS = (1, 2, 3, 5, 8, 12, 20, 50)
REFERENCE_STEPS = 500
WORDS = (
    "a red apple, flat style",
    "a blue car, glossy style",
    "two stars, sticker style",
    "a house and a dog, cartoon style",
)


@dataclass(frozen=True)
class Obedience:
    """`right` of `total` pictures of a group, drawn in so many steps at a guidance scale, with the 95% interval."""

    group: str
    steps: int
    guidance: float
    right: int
    total: int
    low: float
    high: float


@dataclass(frozen=True)
class Distance:
    """Root mean square distance to the solution, in its deviations; the network was asked `evaluations` times."""

    sampler: str
    steps: int
    evaluations: int
    distance: float


@dataclass
class Measured:
    """What the file holds."""

    model: str
    steps: int
    guidance: float
    obedience: list[Obedience] = field(default_factory=list)
    distance: list[Distance] = field(default_factory=list)


def asked_questions(art: IconArt, prompts: int) -> list[Question]:
    """The prompts of both groups with their seeds."""
    counts = {group.name: prompts if group.name in ASKED else 0 for group in GROUPS}
    return questions(art, range(len(art.concepts)), counts)


def obedience(model: Model, examiner: Examiner, asked: Sequence[Question], steps: int, scale: float) -> list[Obedience]:
    """One row for each group."""
    orders = [one.order for one in asked]
    pictures = decode_latents(model.parts, drawn_together(model, orders, steps=steps, guidance_scale=scale))
    outcomes = examiner.outcomes(asked, np.stack([np.asarray(picture.image) for picture in pictures]))
    rows = []
    for group in ASKED:
        right = [outcome.right["concept"] for outcome in outcomes if outcome.question.group == group]
        found = share(sum(right), len(right))
        rows.append(Obedience(group, steps, scale, found.right, found.total, round(found.low, 4), round(found.high, 4)))
    return rows


def distances(model: Model) -> Iterator[Distance]:
    """Rows of every sampler that is compared."""
    asked = [(words, seed) for seed, words in enumerate(WORDS)]
    truth = drawn_together(model, asked, sampler="heun", steps=REFERENCE_STEPS)
    deviation = truth.std(dim=(1, 2, 3))
    for sampler in COMPARED:
        for steps in DISTANT_STEPS:
            found, calls = Together.of(model, requests_of(asked, sampler=sampler, steps=steps)).latents()
            apart = (found - truth).square().mean(dim=(1, 2, 3)).sqrt() / deviation
            yield Distance(sampler, steps, calls, round(float(apart.mean()), 5))


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=36, help="of each group")
    parser.add_argument("--cache", type=Path, default=ArtOptions().cache_folder, help="where the art is")
    parser.add_argument("--write", action="store_true", help=f"keep the rows in {DATA.name}")
    options = parser.parse_args()
    model, art = load(device="cpu"), IconArt(ArtOptions(cache_folder=options.cache))
    asked, examiner = asked_questions(art, options.prompts), Examiner(load_classifier(), art)
    usual = model.spec.default_guidance
    measured = Measured(model.name, STEPS[-1], usual)
    check(model, [one.order for one in asked])

    def keep() -> None:
        if options.write:
            with atomic_file(DATA) as handle:
                handle.write((json.dumps(asdict(measured), indent=1) + "\n").encode())

    for steps, scale in [(steps, usual) for steps in STEPS] + [(STEPS[-1], scale) for scale in SCALES]:
        measured.obedience += obedience(model, examiner, asked, steps, scale)
        keep()
    for found in distances(model):
        measured.distance.append(found)
        keep()
    shares = []
    for row in measured.obedience:
        sure = f"{row.low:.0%} to {row.high:.0%}"
        shares.append([row.group, str(row.steps), f"{row.guidance:g}", f"{row.right} of {row.total}", sure])
    print_table(["prompts", "steps", "guidance", "right", "95% interval"], shares)
    far = [[one.sampler, str(one.steps), str(one.evaluations), f"{one.distance:.4f}"] for one in measured.distance]
    print_table(["sampler", "steps", "evaluations", "distance"], far)


if __name__ == "__main__":
    main()
