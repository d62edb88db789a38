"""Does an inpainting form paint what the words ask for, and does that fit what is round it?

    rein train recipes/pocket-inpainting.toml --output runs/pocket-inpainting
    python -m benchmarks.inpainting_form --model runs/pocket-inpainting/model --write

Scenes are composed by lot, with other seeds than those of the training, and a part of each is masked:

    another thing   one of two things is masked, and the words ask for another in its place
    other half      of one thing the right half is masked, and the words are its own

The base model paints the same masks without seeing them in further channels: in each step the part that stays is put
back under its noise. Counted is in how many the judge names the new thing in its place (made square), and the halved
thing. The step at the edge is the mean difference, in 256 levels, between the pixels on both sides of the middle; that
of the composed pictures is what it should be. `--write` puts the table and a sheet into docs/teach.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.common import print_table, put_table
from benchmarks.depth_form import SEED, Pictures, cut_out
from rein.data.captions import noun_phrase
from rein.data.colours import Pixels
from rein.data.compose import ArtDataset, draw, placed
from rein.data.icons import IconArt
from rein.data.options import KINDS, ArtOptions, Mixture
from rein.data.prompts import EvaluationPrompt
from rein.data.scenes import Scene
from rein.evaluation.classifier import load_classifier
from rein.evaluation.intervals import share, spread
from rein.evaluation.obedience import Examiner, Question
from rein.images import grid
from rein.pipeline.model import Model, load

DOCS = Path(__file__).parent.parent / "docs"
_SHOWN = 4
_GREY = 128

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Task:
    """A picture to paint a part of.

    Fields:
        source, composed: what is given, and what it may become, (H, W, 3).
        box: what is masked: left, top, right, bottom in pixels, on the lattice of the latents.
        seen: where the judge looks for the thing; None for the whole picture.
        prompt: what is asked for; its only concept is the one that the judge should name.
    """

    source: Pixels
    composed: Pixels
    box: Box
    seen: Box | None
    prompt: EvaluationPrompt


def scenes(art: IconArt, kind: str) -> Iterator[Scene]:
    """Scenes of one kind on white, things in their own colours, of trained combinations."""
    mixture = Mixture(**{name: float(name == kind) for name in KINDS})
    data = ArtDataset(replace(art.options, mixture=mixture, seed=SEED), "train")
    index = 0
    while True:
        scene, _ = data.scene(index)
        index += 1
        if scene.ground is None and all(thing.colour is None for thing in scene.things):
            yield scene


def another_thing(art: IconArt, scene: Scene, number: int, unit: int) -> Task:
    """One of two things of a scene is to become another, chosen by the number."""
    place, random = number % 2, Random(number)
    here = {thing.concept for thing in scene.things}
    chosen = random.choice([concept for concept in range(len(art.concepts)) if concept not in here])
    things = list(scene.things)
    things[place] = replace(things[place], concept=chosen)
    after = replace(scene, things=tuple(things))
    card, (left, top) = placed(after.things[place], scene.style, art)
    right, bottom = left + card.width, top + card.height
    across, down = (min(art.options.size, -(-edge // unit) * unit) for edge in (right, bottom))
    box = left // unit * unit, top // unit * unit, across, down
    phrases = [noun_phrase(art.concepts[thing.concept], art.concepts[thing.concept].name) for thing in things]
    joined = " above " if scene.relation == "above" else " and "
    text = f"{joined.join(phrases)}, {art.styles[scene.style]} style"
    prompt = EvaluationPrompt(text, (chosen,), scene.style, None, "plain")
    return Task(draw(scene, art), draw(after, art), box, (left, top, right, bottom), prompt)


def other_half(art: IconArt, scene: Scene) -> Task:
    """The right half of the only thing is to be painted."""
    [thing], size = scene.things, art.options.size
    phrase = noun_phrase(art.concepts[thing.concept], art.concepts[thing.concept].name)
    text = f"{phrase}, {art.styles[scene.style]} style"
    pixels = draw(scene, art)
    prompt = EvaluationPrompt(text, (thing.concept,), scene.style, None, "plain")
    return Task(pixels, pixels, (size // 2, 0, size, size), None, prompt)


def painted(model: Model, tasks: Sequence[Task], steps: int) -> Pictures:
    """The masked part of each picture, painted anew from noise; the seed is its number."""
    pictures: Pictures = []
    for number, task in enumerate(tasks):
        mask = Image.new("L", task.source.shape[1::-1], 0)
        mask.paste(255, task.box)
        given = {"init_image": Image.fromarray(task.source), "mask": mask, "mask_blur": 0, "strength": 1.0}
        drawn = model.generate(task.prompt.text, seed=number, steps=steps, **given)
        pictures.append(np.array(drawn.images[0]))
    return pictures


def named(examiner: Examiner, tasks: Sequence[Task], pictures: Pictures) -> list[bool]:
    """Whether the judge names the thing of each task where it should be."""
    cuts = [
        np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BOX))
        if task.seen is None
        else cut_out(picture, task.seen)
        for task, picture in zip(tasks, pictures, strict=True)
    ]
    asked = [Question("inpainting", task.prompt, number) for number, task in enumerate(tasks)]
    return [outcome.right["concept"] for outcome in examiner.outcomes(asked, np.stack(cuts))]


def edge_step(picture: Pixels) -> float:
    """Mean difference between the columns on both sides of the middle, in levels."""
    middle = picture.shape[1] // 2
    return float(np.abs(picture[:, middle].astype(float) - picture[:, middle - 1]).mean())


def rows(
    examiner: Examiner, others: Sequence[Task], halves: Sequence[Task], ways: dict[str, tuple[Pictures, Pictures]]
) -> Iterator[tuple[str, ...]]:
    """The table: a line for each way to paint."""
    for name, (replaced, completed) in ways.items():
        found = [named(examiner, others, replaced), named(examiner, halves, completed)]
        shares = [share(sum(part), len(part)) for part in found]
        step = spread([edge_step(picture) for picture in completed])
        told = [f"{100 * part.rate:.0f}% ({100 * part.low:.0f} to {100 * part.high:.0f})" for part in shares]
        yield (name, *told, f"{step.mean:.1f} ({step.low:.1f} to {step.high:.1f})")


def sheet(tasks: Sequence[Task], ways: dict[str, Pictures]) -> Image.Image:
    """What is given, with grey in the mask, and what became of it in each way."""
    pictures, labels = [], []
    for number, task in enumerate(tasks):
        given = task.source.copy()
        left, top, right, bottom = task.box
        given[top:bottom, left:right] = _GREY
        pictures += [Image.fromarray(given), *(Image.fromarray(part[number]) for part in ways.values())]
        labels += [task.prompt.text, *ways]
    return grid(pictures, 1 + len(ways), labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/pocket-inpainting/model")
    parser.add_argument("--base", default="pocket")
    parser.add_argument("--count", type=int, default=40, help="pictures of each kind of task")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--cache", type=Path, help="where the art is kept")
    parser.add_argument("--sheet", type=Path, help="where to write a sheet of the pictures")
    parser.add_argument("--write", action="store_true", help="write the table and the sheet into the docs")
    options = parser.parse_args()
    art = IconArt(ArtOptions() if options.cache is None else ArtOptions(cache_folder=options.cache))
    form, base = load(options.model), load(options.base)
    unit = base.spec.autoencoder.downscale
    pairs, plain = (list(islice(scenes(art, kind), options.count)) for kind in ("pair", "plain"))
    others = [another_thing(art, scene, number, unit) for number, scene in enumerate(pairs)]
    halves = [other_half(art, scene) for scene in plain]
    ways = {
        name: (painted(model, others, options.steps), painted(model, halves, options.steps))
        for name, model in ((base.name, base), (form.name, form))
    }
    ways["composed"] = [task.composed for task in others], [task.composed for task in halves]
    head = (
        f"{options.count} pictures each, {options.steps} steps",
        "another thing in its place",
        "thing with its other half",
        "step at the edge",
    )
    found = list(rows(Examiner(load_classifier(), art), others, halves, ways))
    print_table(head, found)
    chosen = [*others[:_SHOWN], *halves[:_SHOWN]]
    shown = {name: [*first[:_SHOWN], *second[:_SHOWN]] for name, (first, second) in ways.items()}
    target = DOCS / "images" / "teach-inpainting.png" if options.write else options.sheet
    if target is not None:
        sheet(chosen, shown).save(target, optimize=True)
    if options.write:
        put_table(DOCS / "teach.md", "inpainting form", (head, *found))


if __name__ == "__main__":
    main()
