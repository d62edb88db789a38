"""A collection: things that the embedded model has never seen, taught to all of its weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.teaching_tools import (
    STYLES,
    Drawings,
    Figures,
    Row,
    art_of,
    as_text,
    counted,
    drawing_with,
    drawn,
    obeyed,
    on_ground,
    points_lost,
    taught,
    unit,
    written,
)
from rein.data.captions import noun_phrase
from rein.data.colours import BACKGROUNDS
from rein.data.concepts import read_concepts
from rein.data.words import with_article
from rein.evaluation.features import judge_features
from rein.evaluation.score import Scorer
from rein.pipeline.model import Model

THINGS = (
    *("otter | otter", "raccoon | raccoon", "llama | llama", "blowfish | pufferfish", "tropical-fish | tropical fish"),
    *("dove | dove", "ewe | sheep", "turkey | turkey", "scorpion | scorpion", "squid | squid", "pie | pie"),
    *("stopwatch | stopwatch", "scroll | scroll", "hut | hut", "pick | pickaxe", "yarn | ball of yarn"),
)
"""Lines of a list of concepts; none of them is among those that the model was trained on."""

Vectors = NDArray[np.float32]
WHITE = (255, 255, 255)
KEPT, WATCHED = 200, 80
"""Known things that are to stay as they are, and the others after these on which obedience is measured."""


def collection(model: Model, cache: Path, work: Path) -> tuple[Figures, Drawings, list[str]]:
    """New things in three styles each, two pictures of each; the fourth style is never shown."""
    art = art_of(cache, THINGS)
    names = [noun_phrase(concept, concept.name) for concept in art.concepts]
    held = [number % len(STYLES) for number in range(len(names))]
    shown = [(thing, style) for thing in range(len(names)) for style in range(len(STYLES)) if style != held[thing]]
    grounds = sorted(BACKGROUNDS)
    pictures, captions = [], []
    for number, (thing, style) in enumerate(shown):
        ground = grounds[number % len(grounds)]
        pictures.append(on_ground(art.icon(thing, style), WHITE, 0.9, (0.5, 0.5)))
        captions.append(f"{names[thing]}, {STYLES[style]} style")
        pictures.append(on_ground(art.icon(thing, style), BACKGROUNDS[ground], 0.8, (0.5, 0.5)))
        captions.append(f"{names[thing]} on {with_article(ground)} background, {STYLES[style]} style")
    folder = written(work / "collection", pictures, captions)

    known = [noun_phrase(concept, concept.name) for concept in read_concepts(count=KEPT + WATCHED)]
    styled = [f"{name}, {STYLES[number % len(STYLES)]} style" for number, name in enumerate(known)]
    kept, watched = styled[:KEPT], known[KEPT:]
    made, seconds, busy = taught("finetune", folder, work / "finetune", _staying(kept))
    own, _ = drawing_with(model, made)

    plain = [on_ground(art.icon(*place), WHITE, 0.9, (0.5, 0.5)) for place in shown]
    means = _means(plain, [thing for thing, _ in shown])
    figures: Figures = {"pictures": len(pictures), "minutes": seconds / 60, "busy": busy}
    drawings = {}
    for what, places in (("shown styles", shown[::2]), ("unseen styles", list(enumerate(held)) * 2)):
        asked = [f"{names[thing]}, {STYLES[style]} style" for thing, style in places]
        things = [thing for thing, _ in places]
        before, after = drawn(model, asked, 100), drawn(own, asked, 100)
        drawings[what] = before, after
        figures[what] = {
            "before": counted(_named(before, means, things)),
            "after": counted(_named(after, means, things)),
        }
    real = [on_ground(art.icon(*place), WHITE, 0.9, (0.5, 0.5)) for place in enumerate(held)]
    figures["unseen styles"]["real"] = counted(_named(real, means, list(range(len(names)))))
    scorer = Scorer()
    old = [drawn(some, watched, 700) for some in (model, own)]
    figures["elsewhere"] = points_lost(*(obeyed(scorer, watched, some) for some in old))
    return figures, *_sheet(real, drawings["unseen styles"], (old[0], old[1]))


def _staying(prompts: list[str]) -> list[str]:
    """Changes to the recipe: what the model answers to known prompts stays as it was."""
    first, *others = (json.dumps(prompt) for prompt in prompts)
    said = {"prompt": first, "others": f"[{', '.join(others)}]", "keep": '"answers"'}
    numbers = {"pictures": 32, "answers": 12, "weight": 3.0, "steps": 16}
    return [f"stage.prior.{name}={value}" for name, value in {**said, **numbers}.items()]


def _means(pictures: Drawings, things: list[int]) -> Vectors:
    """The mean feature of each thing's pictures, of length 1."""
    vectors, places = unit(judge_features(pictures)), np.array(things)
    return unit(np.stack([vectors[places == thing].mean(0) for thing in range(max(things) + 1)]))


def _named(pictures: Drawings, means: Vectors, things: list[int]) -> list[bool]:
    """Of each picture, whether of all new things the one asked for is nearest."""
    found: list[bool] = ((unit(judge_features(pictures)) @ means.T).argmax(1) == np.array(things)).tolist()
    return found


def _sheet(
    real: Drawings, new: tuple[Drawings, Drawings], old: tuple[Drawings, Drawings]
) -> tuple[Drawings, list[str]]:
    """Real pictures that were never shown, the same before and after; below it known things before and after."""
    rows: list[tuple[str, list[Image.Image]]] = []
    for first in (0, 4):
        part = slice(first, first + 4)
        rows += [("real, not shown", real[part]), ("before", new[0][part]), ("after", new[1][part])]
    rows += [("another thing, before", old[0][:4]), ("another thing, after", old[1][:4])]
    return [picture for _, row in rows for picture in row], [label for label, row in rows for _ in row]


def rows(part: Figures) -> list[Row]:
    """What the table says of it."""
    shown, unseen, lost = part["shown styles"], part["unseen styles"], part["elsewhere"]
    between = f"{lost['points lost']:.1f} points ({lost['low']:.1f} to {lost['high']:.1f})"
    minutes = f"{part['minutes']:.1f} minutes"
    told = f"{lost['before']:.0%}, then {lost['after']:.0%}: {between} lost"
    return [
        (f"A collection of {len(THINGS)} new things, {part['pictures']} pictures: time", "", minutes),
        ("named right among them, in styles they were shown in", "", _change(shown)),
        ("the same in a style they were never shown in", "", f"{_change(unseen)}; real ones {as_text(unseen['real'])}"),
        ("obedience on other things", "", told),
    ]


def _change(found: Figures) -> str:
    return f"{as_text(found['before'])}, then {as_text(found['after'])}"
