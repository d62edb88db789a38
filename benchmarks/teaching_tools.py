"""What the measurements of teaching share: trainings, pictures, and how alike, how obedient these are."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.data.icons import IconArt
from rein.data.options import ArtOptions
from rein.evaluation.features import judge_features
from rein.evaluation.intervals import bootstrap, share
from rein.evaluation.score import Scorer
from rein.pipeline.model import Model, load
from rein.training.run import train_recipe

SIDE, STEPS = 128, 16
STYLES = ("glossy", "flat", "cartoon", "sticker")
Figures = dict[str, Any]
Drawings = list[Image.Image]
Row = tuple[str, str, str]
"""A line of the table: what was measured, what was asked for, what was found."""


def taught(
    recipe: str, folder: Path, output: Path, changes: Sequence[str], ends: list[float] | None = None
) -> tuple[Path, float, float]:
    """What a recipe makes of a folder of pictures, the seconds it took in all, and the share that was training.

    The seconds are those of a core's work, so that what else the machine does is left out; with one thread, and nothing
    beside it, they are those of the clock. A run that was broken off goes on from its last state. `ends` is given the
    second at which each step ended.
    """
    diary = output / "taught.json"
    spent = json.loads(diary.read_text()) if diary.is_file() else {"seconds": 0.0, "busy": 0.0}
    began, made, now = time.process_time(), None, spent
    for news in train_recipe(Path(recipe), output, True, changes=[f"data.folder={folder}", *changes]):
        if news.message:
            print(f"  {news.stage}: {news.message}", flush=True)
        if news.report is not None:
            seconds = time.process_time() - began
            shares = spent["seconds"] * spent["busy"] + seconds * news.report.busy
            now = {"seconds": spent["seconds"] + seconds, "busy": shares / (spent["seconds"] + seconds)}
            if ends is not None:
                ends.append(time.process_time())
            if news.report.saved:
                diary.write_text(json.dumps(now))
            if news.report.step % 50 == 0:
                print(f"  {news.report.step}: loss {news.report.losses['loss']:.4f}", flush=True)
        made = news.model or made
    assert made is not None
    return made, now["seconds"], now["busy"]


def plain_adapter(work: Path) -> str:
    """The file of a recipe for an adapter that learns its pictures, and is held to nothing that the model knew."""
    recipe = work / "plain.toml"
    recipe.write_text(_PLAIN, encoding="utf-8")
    return str(recipe)


_PLAIN = """name = "plain"

[data]
folder = "pictures"

[model]
start = "pocket"

[[stage]]
objective = "lora"
steps = 180
batch_size = 4
learning_rate = 1e-3
text_rate = 5e-4
rank = 8
"""


def written(folder: Path, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Path:
    """A folder of pictures with a caption file each."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        picture.save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(caption, encoding="utf-8")
    return folder


def drawn(model: Model, prompts: Sequence[str], seed: int = 0, **options: Any) -> Drawings:
    """A picture of each prompt, seeds from `seed` on."""
    return [
        model.generate(prompt, seed=seed + number, steps=STEPS, **options).images[0]
        for number, prompt in enumerate(prompts)
    ]


def drawing_with(model: Model, made: Path) -> tuple[Model, dict[str, Any]]:
    """What draws with what was learned, and its options: a model's folder, or the model with an adapter's file."""
    return (load(made), {}) if made.is_dir() else (model, {"loras": ({"path": str(made)},)})


def similarity(first: Sequence[Image.Image], second: Sequence[Image.Image] | None = None) -> float:
    """Mean cosine of the features of all pairs; within one set, of pairs of different pictures."""
    one = unit(judge_features(first))
    if second is not None:
        return float((one @ unit(judge_features(second)).T).mean())
    pairs = one @ one.T
    return float((pairs.sum() - np.trace(pairs)) / (len(one) * (len(one) - 1)))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (N, D) of length 1."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def art_of(cache: Path, lines: Sequence[str]) -> IconArt:
    """The drawings of some concepts, given as lines of a list."""
    listing = cache / "teaching-concepts.txt"
    listing.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return IconArt(ArtOptions(cache_folder=cache, concepts=listing, concept_count=len(lines), size=SIDE))


def on_ground(
    icon: NDArray[np.uint8], ground: tuple[int, int, int], side: float, centre: tuple[float, float]
) -> Image.Image:
    """A drawing (RGBA) of relative size `side` on a ground of one colour."""
    canvas = Image.new("RGB", (SIDE, SIDE), ground)
    pixels = round(SIDE * side)
    thing = Image.fromarray(icon).resize((pixels, pixels), Image.Resampling.BICUBIC)
    corner = (round(centre[0] * SIDE - pixels / 2), round(centre[1] * SIDE - pixels / 2))
    canvas.paste(thing, corner, thing)
    return canvas


def nearer(pictures: Drawings, subject: Sequence[Image.Image], others: Drawings) -> list[bool]:
    """Of each picture, whether its features are nearer to the subject's mean than to that of its class."""
    vectors, one, other = (unit(judge_features(some)) for some in (pictures, subject, others))
    found: list[bool] = ((vectors @ one.mean(0)) > (vectors @ other.mean(0))).tolist()
    return found


def obeyed(scorer: Scorer, prompts: Sequence[str], pictures: Drawings) -> list[bool]:
    """Of each picture the judge has a say about, whether it more likely than not shows what was asked for."""
    scores = [scorer.score(prompt, picture) for prompt, picture in zip(prompts, pictures, strict=True)]
    return [score >= 0.5 for score in scores if score is not None]


def points_lost(before: Sequence[bool], after: Sequence[bool]) -> Figures:
    """Obedience of the same prompts and seeds before and after, and the points between them with their interval."""
    lost = 100.0 * (np.array(before, np.float64) - np.array(after, np.float64))
    low, high = bootstrap(lost, np.mean)
    return {
        "before": float(np.mean(before)),
        "after": float(np.mean(after)),
        "points lost": float(lost.mean()),
        "low": low,
        "high": high,
    }


def counted(found: Sequence[bool]) -> Figures:
    """A share with its 95% interval."""
    told = share(sum(found), len(found))
    return {"rate": told.rate, "low": told.low, "high": told.high, "of": told.total}


def as_text(told: Figures) -> str:
    """A share as "83% (64 to 93)"."""
    return f"{told['rate']:.0%} ({100 * told['low']:.0f} to {100 * told['high']:.0f})"
