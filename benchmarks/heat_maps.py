"""Do the heat maps of a prompt with two things point at the right one?

    python -m benchmarks.heat_maps [--scenes 100] [--cache FOLDER] [--keep FILE] [--write]

Pictures of two things are drawn and explained, half of their prompts from training, half of pairs that were never
trained together. The judge of `rein evaluate` says where each thing stands: beside or above the other. Only pictures in
which it names both count, because in them the places are known. Then, for each thing, the heat map of its own words is
asked where it is brighter: in the half with its thing, or in the other one.

    half      mean of the map over the half with its thing is above that over the other half
    peak      the brightest place lies in the half with its thing
    both      "half" for both things of a picture; by chance a quarter
    outline   within its half, the map is brighter on the thing than on the ground beside it

The first thing stands on the left or above in nearly all of them, as in training: a map that knew no more than the
order of the words would get the first three right. The last one such a map gets right by chance alone.

Expected: well above chance for the mean of all steps and layers, and for the layers near the end of the U-Net.
`--write` puts the table into docs/explain.md.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.common import print_table, put_table
from rein.data.icons import IconArt
from rein.data.options import ArtOptions
from rein.evaluation.classifier import judge, load_classifier
from rein.evaluation.intervals import share
from rein.evaluation.obedience import GROUPS, Examiner, Question, questions
from rein.evaluation.views import LAYOUTS, layout_windows
from rein.explain.part_where import layer_label
from rein.explain.trace import Explanation, explain
from rein.pipeline.model import load

PAGE = Path(__file__).parent.parent / "docs" / "explain.md"
HEAD = ("half", "95% interval", "peak", "both things", "outline")
ANSWERS = ("half", "peak", "outline")
_GROUND_LEVELS = 32
"""Of 256, by which a pixel of a thing differs from the ground."""


@dataclass(frozen=True)
class Scene:
    """A picture whose two things stand at known places.

    Fields:
        image: the picture.
        beside: whether the things are beside each other; else one is above the other.
        first: for each thing, in the order of the prompt, whether it is the left or the upper one.
        words: the places of each thing's words among those of the prompt.
    """

    image: Image.Image
    beside: bool
    first: tuple[bool, bool]
    words: tuple[tuple[int, ...], tuple[int, ...]]


Answers = dict[str, list[bool]]
"""For each of `ANSWERS`, whether it holds for the first and for the second thing."""


@dataclass
class Count:
    """How many things, and pictures, had their maps at the right place."""

    half: int = 0
    peak: int = 0
    outline: int = 0
    both: int = 0
    scenes: int = 0

    def add(self, found: Answers) -> None:
        """Take in one picture."""
        self.half, self.peak = self.half + sum(found["half"]), self.peak + sum(found["peak"])
        self.outline += sum(found["outline"])
        self.both, self.scenes = self.both + all(found["half"]), self.scenes + 1

    def row(self, name: str) -> list[str]:
        """Of the table."""
        things = 2 * self.scenes
        half = share(self.half, things)
        interval = f"{100 * half.low:.0f} to {100 * half.high:.0f}%"
        parts = (self.peak, things), (self.both, self.scenes), (self.outline, things)
        others = [f"{100 * part / whole:.0f}%" for part, whole in parts]
        return [name, f"{100 * half.rate:.0f}%", interval, *others]


def places_of(name: str, words: Sequence[str]) -> tuple[int, ...]:
    """Where the words of a thing's name stand in the prompt; empty where they do not."""
    wanted = re.findall(r"[a-z0-9]+", name.lower())
    flat = [(place, part) for place, word in enumerate(words) for part in re.findall(r"[a-z0-9]+", word.lower())]
    for start in range(len(flat) - len(wanted) + 1):
        if [part for _, part in flat[start : start + len(wanted)]] == wanted:
            return tuple(dict.fromkeys(place for place, _ in flat[start : start + len(wanted)]))
    return ()


def scene_of(question: Question, explanation: Explanation, examiner: Examiner) -> Scene | None:
    """Where the things stand; None where the judge does not name both, or a name is not found in the prompt."""
    picture = np.asarray(explanation.result.images[0].convert("RGB"))[None]
    [outcome] = examiner.outcomes([question], picture)
    if not outcome.right["concept"]:
        return None
    windows = layout_windows(picture)
    verdict = judge(examiner.classifier, windows.reshape(-1, *windows.shape[3:]))
    chances = verdict.concepts.log_softmax(dim=1).reshape(len(LAYOUTS), 2, -1)
    icons = [examiner.art.concepts[concept].icon for concept in question.prompt.concepts]
    one, other = (examiner.classifier.config.concepts.index(icon) for icon in icons)
    # In each layout, the first thing in the first window and the second in the second, and the other way round.
    ways = torch.stack([chances[:, 0, one] + chances[:, 1, other], chances[:, 0, other] + chances[:, 1, one]], dim=1)
    layout, turned = divmod(int(ways.argmax()), 2)
    names = [examiner.art.concepts[concept].name for concept in question.prompt.concepts]
    found = [places_of(name, explanation.words.words) for name in names]
    if not all(found):
        return None
    image = explanation.result.images[0]
    return Scene(image, list(LAYOUTS)[layout] == "beside", (not turned, bool(turned)), (found[0], found[1]))


def answers(scene: Scene, maps: Tensor) -> Answers:
    """What holds for each thing by maps (G, h, w)."""
    found: Answers = {name: [] for name in ANSWERS}
    shown = thing_share(scene.image, (maps.shape[1], maps.shape[2]))
    for first, words in zip(scene.first, scene.words, strict=True):
        own = maps[[1 + place for place in words]].sum(dim=0)  # the first group is the start
        if not scene.beside:
            own = own.t()
        thing = shown if scene.beside else shown.t()
        middle = own.shape[1] // 2
        mine, others = (slice(0, middle), slice(own.shape[1] - middle, None))[:: 1 if first else -1]
        found["half"].append(bool(own[:, mine].mean() > own[:, others].mean()))
        column = int(own.flatten().argmax()) % own.shape[1]
        found["peak"].append((column + 0.5 < own.shape[1] / 2) == first)
        here, values = thing[:, mine].flatten(), own[:, mine].flatten()
        on, beside = (values * here).sum() / here.sum(), (values * (1 - here)).sum() / (1 - here).sum()
        found["outline"].append(bool(on > beside))
    return found


def thing_share(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """How much of each place, (h, w), is covered by things: by what differs from the ground at the picture's edge."""
    pixels = np.asarray(image.convert("RGB")).astype(np.int16)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    covered = (np.abs(pixels - np.median(edge, axis=0)).max(axis=-1) > _GROUND_LEVELS).astype(np.float32)
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(covered)[None], size)[0]


def all_maps(explanation: Explanation) -> Iterator[tuple[str, Tensor]]:
    """The maps that are counted, by what they are called."""
    maps = explanation.heat_maps
    yield "all steps and layers", maps.mean()
    yield from ((f"{name} steps", part) for name, part in maps.thirds())
    for layer in maps.layers:
        found = maps.layer(layer)
        yield f"layer {layer_label(layer)}, {found.shape[2]} × {found.shape[1]}", found


def measured(asked: Sequence[Question], examiner: Examiner, options: argparse.Namespace) -> dict[str, Count]:
    """The counts of every kind of map. What `options.keep` holds already is not drawn again."""
    done: dict[str, dict[str, Answers]] = {}
    if options.keep is not None and options.keep.exists():
        for line in options.keep.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            done[entry["scene"]] = entry["answers"]
    model, counts = load(options.model, "cpu"), dict[str, Count]()
    for question in asked:
        name = f"{options.model} {options.steps} {question.seed} {question.prompt.text}"
        if name not in done:
            explanation = explain(question.prompt.text, model, seed=question.seed, steps=options.steps).finish()
            scene = scene_of(question, explanation, examiner)
            done[name] = {} if scene is None else {kind: answers(scene, maps) for kind, maps in all_maps(explanation)}
            if options.keep is not None:
                with options.keep.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps({"scene": name, "answers": done[name]}) + "\n")
        for kind, found in done[name].items():
            counts.setdefault(kind, Count()).add(found)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cache", type=Path, help="where the art is kept")
    parser.add_argument("--keep", type=Path, help="a file that holds what is done, so that a stopped run goes on")
    parser.add_argument("--write", action="store_true", help="put the table into docs/explain.md")
    options = parser.parse_args()
    art = IconArt(ArtOptions() if options.cache is None else ArtOptions(cache_folder=options.cache))
    half = options.scenes // 2
    wanted = {"pair": options.scenes - half, "held_out_pair": half}
    asked = questions(art, range(len(art.concepts)), {group.name: wanted.get(group.name, 0) for group in GROUPS})
    counts = measured(asked, Examiner(load_classifier(), art), options)
    if not counts:
        raise SystemExit("the judge named both things in no picture: nothing can be said")
    scenes = next(iter(counts.values())).scenes
    rows = [[f"maps of {scenes} pictures", *HEAD], *(count.row(name) for name, count in counts.items())]
    print(f"{options.model}, {options.steps} steps: {scenes} of {len(asked)} pictures have both things at known places")
    print_table(rows[0], rows[1:])
    if options.write:
        put_table(PAGE, "heat maps", rows)


if __name__ == "__main__":
    main()
