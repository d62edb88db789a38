"""Does a depth form put the thing of the prompt where the depth map says?

    python -m benchmarks.depth_form [--model pocket-depth] [--count 60] [--steps 20] [--folder FOLDER] [--write]

Scenes whose depth is known are composed by lot, with other seeds than those of the training: one thing anywhere and of
any size, in a style that it was trained in, and pairs of things that may stand before one another. Their captions are
drawn with their maps: along the outlines, and as rough ellipses. For one thing is counted:

    place   what is drawn, all that differs from the ground, covers the mapped part and little else: the intersection is
            at least half of the union
    thing   the judge names the thing in the box of the map, made square
    both

Of pairs, in how many the judge names each thing in its own box. Beside them stand the same captions drawn by the base
model, which sees no map, by the form without a map, and the composed pictures themselves: what the judge can reach.
`--write` puts the table into docs/depth.md, and a sheet of maps and pictures into docs/images.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import print_table, put_table
from benchmarks.drawing import kept_pictures
from rein.data.compose import ArtDataset
from rein.data.depth import DepthDataset, DepthSample
from rein.data.icons import IconArt
from rein.data.options import KINDS, ArtOptions, Mixture
from rein.data.prompts import EvaluationPrompt
from rein.evaluation.classifier import load_classifier
from rein.evaluation.intervals import share
from rein.evaluation.obedience import Examiner, Question
from rein.image_files import data_url
from rein.images import grid
from rein.pipeline.model import Model, load
from rein.pipeline.request import Request

DOCS = Path(__file__).parent.parent / "docs"
SEED = 9_001
"""Of the scenes: no recipe's."""
_DIFFERENT = 40
"""Levels of 256 by which a pixel differs from the ground that things stand on."""
_SIDE = 64
_SHOWN = 8

Pictures = list[NDArray[np.uint8]]


def scenes(art: IconArt, kind: str, count: int) -> list[DepthSample]:
    """Composed scenes of one kind, of trained combinations."""
    mixture = Mixture(**{name: float(name == kind) for name in KINDS})
    dataset = DepthDataset(ArtDataset(replace(art.options, mixture=mixture, seed=SEED), "train"))
    found: list[DepthSample] = []
    index = 0
    while len(found) < count:
        sample = dataset.sample(index)
        index += 1
        if not any(colour is not None for colour in sample.label.colours) and _on_white(sample):
            found.append(sample)
    return found


def _on_white(sample: DepthSample) -> bool:
    return bool((sample.pixels[sample.maps[0] == 0] > 200).all(axis=-1).mean() > 0.9)


def drawn(model: Model, samples: Sequence[DepthSample], variant: int | None, folder: Path, steps: int = 20) -> Pictures:
    """The caption of each scene drawn with one of its maps, or without; the seed is its number.

    Pictures are kept in `folder`, and what is there is not drawn again.
    """
    asked = []
    for number, sample in enumerate(samples):
        shown = None if variant is None else data_url(Image.fromarray(sample.maps[variant]))
        asked.append(Request(prompt=sample.label.captions[0], seed=number, steps=steps, depth_image=shown))
    return list(kept_pictures(model, asked, folder))


def in_place(sample: DepthSample, picture: NDArray[np.uint8], variant: int) -> bool:
    """Whether what is drawn stands where the map says that something is near."""
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    shown = (np.abs(picture.astype(int) - np.median(edge, axis=0)) > _DIFFERENT).any(axis=-1)
    near = sample.maps[variant] > 0
    return bool((shown & near).sum() >= 0.5 * (shown | near).sum())


def named(examiner: Examiner, samples: Sequence[DepthSample], pictures: Pictures) -> list[list[bool]]:
    """For each thing of each scene, whether the judge names it in its box."""
    asked, cuts = [], []
    for sample, picture in zip(samples, pictures, strict=True):
        for concept, box in zip(sample.label.concepts, sample.boxes, strict=True):
            prompt = EvaluationPrompt(sample.label.captions[0], (concept,), sample.label.style, None, "plain")
            asked.append(Question("depth", prompt, 0))
            cuts.append(cut_out(picture, box))
    outcomes = iter(examiner.outcomes(asked, np.stack(cuts)))
    return [[next(outcomes).right["concept"] for _ in sample.label.concepts] for sample in samples]


def cut_out(picture: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The square round a box, a little wider, as one view of the judge; outside of the picture is white."""
    side = round(1.1 * max(box[2] - box[0], box[3] - box[1]))
    left, top = ((box[place] + box[place + 2] - side) // 2 for place in (0, 1))
    cut = Image.new("RGB", (side, side), "white")
    cut.paste(Image.fromarray(picture), (-left, -top))
    return np.asarray(cut.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def rows(
    examiner: Examiner,
    single: Sequence[DepthSample],
    pairs: Sequence[DepthSample],
    ways: dict[str, tuple[Pictures, Pictures]],
) -> Iterator[tuple[str, ...]]:
    """The table: one line for each way to draw."""
    for name, (alone, together) in ways.items():
        variant = 1 if "rough" in name else 0
        places = [in_place(sample, picture, variant) for sample, picture in zip(single, alone, strict=True)]
        things = [all(each) for each in named(examiner, single, alone)]
        both = [place and thing for place, thing in zip(places, things, strict=True)]
        of_pairs = [all(each) for each in named(examiner, pairs, together)]
        yield (name, *(_told(found) for found in (places, things, both, of_pairs)))


def _told(found: Sequence[bool]) -> str:
    counted = share(sum(found), len(found))
    return f"{100 * counted.rate:.0f}% ({100 * counted.low:.0f} to {100 * counted.high:.0f})"


def sheet(samples: Sequence[DepthSample], variant: int, pictures: Pictures) -> Image.Image:
    """Maps above what was drawn with them."""
    maps = [Image.fromarray(sample.maps[variant]).convert("RGB") for sample in samples]
    texts = [sample.label.captions[0] for sample in samples]
    return grid([*maps, *map(Image.fromarray, pictures)], len(maps), [*[""] * len(maps), *texts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket-depth")
    parser.add_argument("--base", default="pocket")
    parser.add_argument("--count", type=int, default=60, help="scenes of each kind")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cache", type=Path, help="where the art is kept")
    parser.add_argument("--folder", type=Path, help="keep the drawn pictures here, and go on from those that are")
    parser.add_argument("--sheet", type=Path, help="where to write a sheet of maps and pictures")
    parser.add_argument("--write", action="store_true", help="write the table and the sheet into the docs")
    options = parser.parse_args()
    art = IconArt(ArtOptions() if options.cache is None else ArtOptions(cache_folder=options.cache))
    form, base = load(options.model), load(options.base)
    single, pairs = (scenes(art, kind, options.count) for kind in ("plain", "pair"))
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place)

        def both(model: Model, variant: int | None) -> tuple[Pictures, Pictures]:
            alone, together = (drawn(model, part, variant, folder, options.steps) for part in (single, pairs))
            return alone, together

        ways = {
            "outlines": both(form, 0),
            "rough ellipses": both(form, 1),
            "no map": both(form, None),
            f"{base.name}, no map": both(base, None),
            "composed": ([entry.pixels for entry in single], [entry.pixels for entry in pairs]),
        }
    head = (
        f"{options.count} scenes each, {options.steps} steps",
        "place",
        "thing",
        "place and thing",
        "both of a pair",
    )
    found = list(rows(Examiner(load_classifier(), art), single, pairs, ways))
    print_table(head, found)
    half = _SHOWN // 2
    chosen = [*single[:half], *pairs[:half]]
    shown = [[*ways[name][0][:half], *ways[name][1][:half]] for name in ("outlines", "rough ellipses")]
    parts = [sheet(chosen, variant, pictures) for variant, pictures in enumerate(shown)]
    whole = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
    whole.paste(parts[0], (0, 0))
    whole.paste(parts[1], (0, parts[0].height))
    target = DOCS / "images" / "depth-form.png" if options.write else options.sheet
    if target is not None:
        whole.save(target, optimize=True)
    if options.write:
        put_table(DOCS / "depth.md", "depth form", (head, *found))


if __name__ == "__main__":
    main()
