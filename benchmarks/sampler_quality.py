"""Which sampler comes nearest to the true solution in how many steps? Measured on a model.

    python -m benchmarks.sampler_quality [--model pocket] [--prompts 6] [--reference 1000] [--write]

Latents are compared, not pictures. Per sampler, spacing and number of steps:

* distance: for samplers without noise, and the others with eta 0: the root mean square difference to the latents of
  DPM++ 2M in `--reference` even steps from the same noise, over the deviation of those latents. The equation has one
  solution per noise, so a perfect sampler has 0. What halving the reference's steps changes is printed first: distances
  of that size say nothing.
* spread: for samplers that add noise, where no single picture is right: the difference of the deviation of all latents
  to that of the reference's, over it.

A step may take more than one evaluation of the network. So a last table says what is nearest for as many evaluations.
Expected for a model of this kind: second order before first from about 10 steps on. The rows come in the order of the
distance at 20 steps. `--write` puts the tables into docs/samplers.md, and the numbers into docs/data; what is in that
file already, of the same pictures, is not measured again, so an interrupted run goes on.

    python -m benchmarks.sampler_quality --judged 60 [--cache FOLDER] [--write]

draws prompts of the evaluation with the samplers that come into question as the default instead, and says in how many
pictures the judge names what was asked for: of so many trained prompts, and as many untrained pairs of things.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from benchmarks.common import model_to_measure, print_table, put_table
from benchmarks.drawing import TOGETHER, Together, requests_of
from benchmarks.steps_and_guidance import asked_questions, obedience
from rein.data.icons import IconArt
from rein.data.options import ArtOptions
from rein.diffusion.samplers import SAMPLERS
from rein.diffusion.spacing import SpacingOptions, spaced_sigmas
from rein.evaluation.classifier import load_classifier
from rein.evaluation.intervals import share
from rein.evaluation.obedience import Examiner
from rein.pipeline.model import Model, load

ROOT = Path(__file__).parent.parent
PAGE, DATA = ROOT / "docs" / "samplers.md", ROOT / "docs" / "data" / "sampler-quality.json"
WORDS = (
    "a red apple, flat style",
    "a blue car, cartoon style",
    "a cat and a house, flat style",
    "a fish, flat style",
    "a yellow star, flat style",
    "a green tree on a blue background, flat style",
    "a key, glossy style",
    "a dog, sketch style",
)
WITHOUT_NOISE = (
    *("euler", "dpmpp_2m", "heun", "unipc", "lms"),
    *("deis", "ipndm", "res_multistep", "dpmpp_3m_sde", "dpm_fast"),
)
WITH_NOISE = ("euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde", "restart")
JUDGED = (("euler", "linspace"), ("dpmpp_2m", "trailing"), ("ipndm", "linspace"))
JUDGED_STEPS = (5, 10, 20)

REFERENCE = "reference"
BUDGETS = (5, 10, 20, 50)
"""Evaluations of the network that may be spent, of the last table."""

Found = dict[str, list[tuple[float, int]]]
"""By a trial's key: for each count of steps the distance or spread, and how often the network was asked."""


@dataclass(frozen=True)
class Trial:
    """One row: a sampler on a spacing, with or without noise."""

    sampler: str
    spacing: str
    noisy: bool = False

    @property
    def label(self) -> str:
        """As it stands in the table."""
        eta = ", eta 0" if not self.noisy and SAMPLERS[self.sampler].stochastic else ""
        return f"{SAMPLERS[self.sampler].label}{eta}, {self.spacing}"


def latents(pictures: Together, trial: Trial, steps: int) -> tuple[Tensor, int]:
    """The finished latents (B, C, h, w), and how often the network was asked."""
    info, schedule = SAMPLERS[trial.sampler], pictures.job.schedule
    discard = info.discards_penultimate and schedule.coordinates == "sigma" and steps > 1
    sigmas = spaced_sigmas(trial.spacing, steps, schedule, SpacingOptions(discard_penultimate=discard))
    return pictures.latents(trial.sampler, sigmas, 0.0 if info.reads_eta and not trial.noisy else None)


def score(trial: Trial, found: Tensor, truth: Tensor) -> float:
    """Distance, or for samplers with noise the difference of spread, (B, C, h, w) each."""
    found, truth = found.double(), truth.double()
    if trial.noisy:
        return float((found.std() - truth.std()).abs() / truth.std())
    return float((found - truth).square().mean().sqrt() / truth.std())


def measure(options: argparse.Namespace, pictures: Together, found: Found) -> None:
    """Fill `found`, by the keys of trials. What is there already is left alone."""
    trials = [Trial(sampler, spacing) for spacing in options.spacings for sampler in WITHOUT_NOISE]
    trials += [Trial(sampler, options.spacings[0], noisy=True) for sampler in WITH_NOISE]
    reference = Trial("dpmpp_2m", "linspace")
    truth, _ = latents(pictures, reference, options.reference)
    if REFERENCE not in found:
        halved, asked = latents(pictures, reference, options.reference // 2)
        found[REFERENCE] = [(score(reference, halved, truth), asked)]
    print(f"the reference in half of its steps is off by {found[REFERENCE][0][0]:.5f}", flush=True)
    for trial in trials:
        if _key(trial) in found:
            continue
        found[_key(trial)] = []
        for steps in options.steps:
            made, asked = latents(pictures, trial, steps)
            found[_key(trial)].append((score(trial, made, truth), asked))
        print(trial.label, *(f"{value:.4f}" for value, _ in found[_key(trial)]), flush=True)
        if options.write:
            _store(options, found)


def _key(trial: Trial) -> str:
    return f"{trial.sampler} {trial.spacing}{' noisy' if trial.noisy else ''}"


def _trial(key: str) -> Trial:
    sampler, spacing, *noisy = key.split()
    return Trial(sampler, spacing, bool(noisy))


def _settings(options: argparse.Namespace) -> dict[str, object]:
    """What the numbers hold for."""
    names = ("model", "prompts", "steps", "reference", "guidance")
    return {name: getattr(options, name) for name in names} | {"words": list(WORDS[: options.prompts])}


def _store(options: argparse.Namespace, found: Found) -> None:
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps({"settings": _settings(options), "found": found}, indent=1) + "\n")


def _stored(options: argparse.Namespace) -> Found:
    if not options.write or not DATA.is_file():
        return {}
    content = json.loads(DATA.read_text())
    if content["settings"] != _settings(options):
        return {}
    return {key: [(value, asked) for value, asked in entries] for key, entries in content["found"].items()}


def tables(steps: Sequence[int], found: Found) -> dict[str, list[list[str]]]:
    """By name, the rows of each table, its head first."""
    by_trial = {_trial(key): values for key, values in found.items() if key != REFERENCE}
    middle = min(2, len(steps) - 1)
    made = {}
    for noisy, name in ((False, "distance"), (True, "spread")):
        of_kind = [entry for entry in by_trial.items() if entry[0].noisy is noisy]
        rows = sorted(of_kind, key=lambda entry: entry[1][middle])
        head = [name, *(f"{count} steps" for count in steps), f"evaluations of {steps[middle]}"]
        made[name] = [head] + [
            [trial.label, *(f"{value:.4f}" for value, _ in values), str(values[middle][1])] for trial, values in rows
        ]
    made["nearest"] = [["evaluations", "nearest", "distance", "second", "distance"], *_nearest(steps, by_trial)]
    return made


def _nearest(steps: Sequence[int], by_trial: Mapping[Trial, Sequence[tuple[float, int]]]) -> list[list[str]]:
    """The best two samplers without noise for each of `BUDGETS`."""
    rows = []
    for budget in BUDGETS:
        entries = sorted(
            (value, f"{trial.label}, {count} steps")
            for trial, values in by_trial.items()
            for count, (value, asked) in zip(steps, values, strict=True)
            if not trial.noisy and asked <= budget
        )
        if len(entries) > 1:
            (best, name), (second, other) = entries[:2]
            rows.append([str(budget), name, f"{best:.4f}", other, f"{second:.4f}"])
    return rows


def judged(model: Model, options: argparse.Namespace) -> list[list[str]]:
    """Rows of a table: what the judge says of pictures by the samplers that come into question."""
    art = IconArt(ArtOptions(cache_folder=options.cache))
    asked, examiner = asked_questions(art, options.judged), Examiner(load_classifier(), art)
    batches = -(-len(asked) // TOGETHER)
    scale = model.spec.default_guidance
    table = [["judge", "steps", "trained things", "untrained pairs"]]
    for steps in JUDGED_STEPS:
        for sampler, spacing in JUDGED:
            spec = replace(model.spec, default_sampler=sampler, default_spacing=spacing)
            other = Model(replace(model.parts, spec=spec))
            right: dict[str, list[int]] = {}
            for batch in range(batches):  # every batch has some of both groups
                for row in obedience(other, examiner, asked[batch::batches], steps, scale):
                    sums = right.setdefault(row.group, [0, 0])
                    sums[0], sums[1] = sums[0] + row.right, sums[1] + row.total
            found = [share(*right[group]) for group in ("trained", "held_out_pair")]
            shown = [f"{one.right} of {one.total} ({one.low:.0%} to {one.high:.0%})" for one in found]
            table.append([f"{SAMPLERS[sampler].label}, {spacing}", str(steps), *shown])
            print(*table[-1], flush=True)
    return table


def main() -> None:
    """Measure, print the tables, and write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--prompts", type=int, default=6, choices=range(1, len(WORDS) + 1), help="pictures to measure")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--reference", type=int, default=1000, help="steps of the true solution")
    parser.add_argument("--spacings", nargs="+", default=["linspace", "karras", "trailing"])
    parser.add_argument("--guidance", type=float, default=None)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/samplers.md")
    parser.add_argument("--judged", type=int, help="ask the judge, about so many prompts of each group")
    parser.add_argument("--cache", type=Path, default=ArtOptions().cache_folder, help="where the art is, for --judged")
    options = parser.parse_args()
    if options.judged is not None:
        made = {"judge": judged(load(options.model, device="cpu"), options)}
    else:
        made = compared(options)
    for title, (head, *rows) in made.items():
        print_table(head, rows)
        if options.write:
            put_table(PAGE, title, [head, *rows])


def compared(options: argparse.Namespace) -> dict[str, list[list[str]]]:
    """The tables of distances."""
    with model_to_measure(options.model) as (source, name):
        options.model = name
        orders = [(words, seed) for seed, words in enumerate(WORDS[: options.prompts])]
        pictures = Together.of(load(source, device="cpu"), requests_of(orders, guidance_scale=options.guidance))
        print(f"{name}: {options.prompts} pictures, beside DPM++ 2M in {options.reference} steps", flush=True)
        found = _stored(options)
        measure(options, pictures, found)
    return tables(options.steps, found)


if __name__ == "__main__":
    main()
