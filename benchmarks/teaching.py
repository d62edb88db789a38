"""What teaching reaches on the embedded model: a word, a manner and a subject from a few pictures, in minutes.

    python -m benchmarks.teaching --part inversion --cache ~/.cache/rein/art --sheets docs/images/teach

The pictures are made here of open art that the model has not seen, or not like this. Similarity is the cosine between
features of the judge, a network that was trained apart from every generator.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import rein
from rein.data.colours import BACKGROUNDS, COLOURS, recolour
from rein.data.compose import ArtDataset
from rein.data.icons import IconArt
from rein.data.options import ArtOptions, Mixture
from rein.data.words import with_article
from rein.evaluation.distances import kernel_distance
from rein.evaluation.features import judge_features
from rein.evaluation.score import Scorer
from rein.images import grid
from rein.pipeline.model import Model
from rein.training.run import train_recipe

SIDE, STEPS = 128, 16
STYLES = ("glossy", "flat", "cartoon", "sticker")
THING, WORD = "raccoon", "zwx"
Figures = dict[str, Any]
Drawings = list[Image.Image]


def taught(recipe: str, folder: Path, output: Path, changes: Sequence[str]) -> tuple[Path, float, float]:
    """What a recipe makes of a folder of pictures, the seconds it took in all, and the share that was training."""
    shutil.rmtree(output, ignore_errors=True)
    began, made, busy = time.monotonic(), None, 0.0
    for news in train_recipe(Path(recipe), output, changes=[f"data.folder={folder}", *changes]):
        if news.message:
            print(f"  {news.stage}: {news.message}", flush=True)
        if news.report is not None:
            busy = news.report.busy
            if news.report.step % 50 == 0:
                print(f"  {news.report.step}: loss {news.report.losses['loss']:.4f}", flush=True)
        made = news.model or made
    assert made is not None
    return made, time.monotonic() - began, busy


def written(folder: Path, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Path:
    """A folder of pictures with a caption file each."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        picture.save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(caption, encoding="utf-8")
    return folder


def drawn(model: Model, prompts: Sequence[str], seed: int = 0, **options: Any) -> Drawings:
    """A picture of each prompt, seeds from `seed` on."""
    return [
        model.generate(prompt, seed=seed + number, steps=STEPS, **options).images[0]
        for number, prompt in enumerate(prompts)
    ]


def similarity(first: Sequence[Image.Image], second: Sequence[Image.Image] | None = None) -> float:
    """Mean cosine of the features of all pairs; within one set, of pairs of different pictures."""
    one = _unit(judge_features(first))
    if second is not None:
        return float((one @ _unit(judge_features(second)).T).mean())
    pairs = one @ one.T
    return float((pairs.sum() - np.trace(pairs)) / (len(one) * (len(one) - 1)))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
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


def inversion(model: Model, cache: Path, work: Path) -> tuple[Figures, Drawings, list[str]]:
    """A word for a thing that the model has never seen, from its four drawings."""
    art = art_of(cache, [f"{THING} | {THING}"])
    real = [on_ground(art.icon(0, style), (255, 255, 255), 0.9, (0.5, 0.5)) for style in range(len(STYLES))]
    folder = written(work / "thing", real, [f"a {WORD}, {style} style" for style in STYLES])
    changes = [f"stage.word={WORD}", "stage.captions=[]", "stage.vectors=8", "stage.initial=bear", "stage.steps=250"]
    file, seconds, busy = taught("inversion", folder, work / "inversion", changes)
    asked = [f"a {{}}, {style} style" for style in STYLES] * 4
    before = drawn(model, [text.format(THING) for text in asked])
    after = drawn(model, [text.format(WORD) for text in asked], embeddings=(str(file),))
    low, now, high = similarity(before, real), similarity(after, real), similarity(real)
    figures = {
        "minutes": seconds / 60,
        "busy": busy,
        "unseen prompt": low,
        "learned word": now,
        "real pictures": high,
        "way from unseen to real": (now - low) / (high - low),
    }
    return figures, [*real, *before[:4], *after[:8]], [*["real"] * 4, *["before"] * 4, *["after"] * 8]


def blueprint(picture: Image.Image) -> Image.Image:
    """A manner: light lines and shapes on deep blue, by the darkness of the drawing."""
    grey = np.asarray(picture.convert("L"), np.float32)[..., None] / 255.0
    low, high = np.array([24, 60, 150], np.float32), np.array([235, 245, 255], np.float32)
    return Image.fromarray(np.rint(high + (low - high) * grey).astype(np.uint8))


def manner(model: Model, cache: Path, work: Path) -> tuple[Figures, Drawings, list[str]]:
    """A manner from twenty pictures, and what it costs on prompts that do not ask for it."""
    options = ArtOptions(cache_folder=cache, size=SIDE, mixture=Mixture(1, 0, 0, 0, 0, 0, 0))
    data = ArtDataset(options)
    things = {data.label(index).concepts[0]: index for index in range(200)}
    train, unseen = list(things.values())[:20], list(things.values())[20:36]
    names = [with_article(data.art.concepts[data.label(index).concepts[0]].name) for index in (*train, *unseen)]
    pictures = [blueprint(Image.fromarray(data.picture(index).pixels)) for index in (*train, *unseen)]
    folder = written(work / "manner", pictures[:20], [f"{name}, blueprint style" for name in names[:20]])
    kept = [with_article(concept.name) for concept in data.art.concepts[60:84]]
    prior = [f"stage.prior.prompt={json.dumps(kept[0])}", f"stage.prior.others={json.dumps(kept[1:])}"]
    changes = ["stage.steps=250", "stage.batch_size=6", *prior, "stage.prior.pictures=24"]
    file, seconds, busy = taught("lora", folder, work / "lora", changes)
    lora = ({"path": str(file)},)
    asked = [f"{name}, blueprint style" for name in names[20:]]
    before, after = drawn(model, asked), drawn(model, asked, loras=lora)
    low, now, high = (similarity(some, pictures[20:]) for some in (before, after, pictures[:20]))
    plain = [with_article(concept.name) for concept in data.art.concepts[:60]]
    scorer = Scorer()
    shares = [_obeyed(scorer, plain, drawn(model, plain, 500, **more)) for more in ({}, {"loras": lora})]
    figures = {
        "minutes": seconds / 60,
        "busy": busy,
        "file in MB": file.stat().st_size / 1e6,
        "way from unseen to real": (now - low) / (high - low),
        "obedience without": shares[0],
        "obedience with": shares[1],
        "points lost": 100 * (shares[0] - shares[1]),
    }
    return figures, [*pictures[:8], *before[:8], *after[:8]], [*["taught"] * 8, *["before"] * 8, *["after"] * 8]


def _obeyed(scorer: Scorer, prompts: Sequence[str], pictures: Drawings) -> float:
    """Share of pictures of which the judge says that they more likely than not show what was asked for."""
    scores = [scorer.score(prompt, picture) for prompt, picture in zip(prompts, pictures, strict=True)]
    known = [score for score in scores if score is not None]
    return sum(score >= 0.5 for score in known) / len(known)


def subject(model: Model, cache: Path, work: Path) -> tuple[Figures, Drawings, list[str]]:
    """One dog from five pictures, with and without pictures of other dogs that keep the class."""
    art = art_of(cache, ["dog | dog"])
    plain = art.icon(0, STYLES.index("flat"))
    halves = [recolour(plain, COLOURS[place], art.colours[0][1]) for place in (5, 3)]
    icon = halves[0].copy()
    icon[:, icon.shape[1] // 2 :] = halves[1][:, icon.shape[1] // 2 :]
    grounds = [(255, 255, 255), BACKGROUNDS["yellow"], BACKGROUNDS["light blue"], (255, 255, 255), BACKGROUNDS["pink"]]
    places = [(0.9, (0.5, 0.5)), (0.8, (0.5, 0.5)), (0.8, (0.5, 0.5)), (0.6, (0.4, 0.6)), (0.7, (0.5, 0.5))]
    real = [on_ground(icon, ground, *place) for ground, place in zip(grounds, places, strict=True)]
    folder = written(work / "subject", real, [f"a {WORD} dog"] * 5)
    asked = [f"a {WORD} dog", f"a {WORD} dog, flat style", f"a {WORD} dog on a yellow background"] * 8
    of_class = [f"a dog, {style} style" for style in STYLES] * 10
    dogs = drawn(model, of_class, 100)
    common = ["stage.steps=180", "stage.learning_rate=1e-3", "stage.text_rate=5e-4", "stage.batch_size=4"]
    prompt = f'data.prompt="a {WORD} dog"'
    found: Figures = {}
    sheet, labels = [*real[:4]], ["subject"] * 4
    for name, recipe, more in (
        ("with", "dreambooth-lora", ['stage.prior.prompt="a dog"', "stage.prior.pictures=24"]),
        ("without", "lora", []),
    ):
        file, seconds, busy = taught(recipe, folder, work / f"dreambooth-{name}", [prompt, *common, *more])
        lora = ({"path": str(file)},)
        after, dogs_after = drawn(model, asked, loras=lora), drawn(model, of_class, 100, loras=lora)
        found[name] = {
            "minutes": seconds / 60,
            "busy": busy,
            "recognised": _nearer(after, real, dogs),
            "class drift": float(kernel_distance(judge_features(dogs), judge_features(dogs_after))),
            "class taken for subject": _nearer(dogs_after, real, dogs),
        }
        sheet += [*after[:4], *dogs_after[:4]]
        labels += [*[f"{name} prior"] * 4, *[f"a dog, {name} prior"] * 4]
    found["drift with / without"] = found["with"]["class drift"] / found["without"]["class drift"]
    return found, [*sheet, *dogs[:4]], [*labels, *["a dog, before"] * 4]


def _nearer(pictures: Drawings, subject: Sequence[Image.Image], others: Drawings) -> float:
    """Share of pictures whose features are nearer to the subject's mean than to that of its class."""
    vectors, one, other = (_unit(judge_features(some)) for some in (pictures, subject, others))
    return float(((vectors @ one.mean(0)) > (vectors @ other.mean(0))).mean())


def table(kept: Figures) -> str:
    """The figures as Markdown."""
    lines = ["| | asked for | measured |", "|---|---|---|"]

    def row(what: str, wanted: str, found: str) -> None:
        lines.append(f"| {what} | {wanted} | {found} |")

    if "inversion" in kept:
        part = kept["inversion"]
        row(f"A word for a thing never seen ({THING}), 4 pictures: time", "5 minutes", f"{part['minutes']:.1f} minutes")
        row("its pictures on the way from unseen to real", "0.5", f"{part['way from unseen to real']:.2f}")
    if "lora" in kept:
        part = kept["lora"]
        row("A manner (blueprint), 20 pictures: time", "5 minutes", f"{part['minutes']:.1f} minutes")
        row("size of its file", "2 MB", f"{part['file in MB']:.2f} MB")
        row("its pictures on the way from untaught to real", "", f"{part['way from unseen to real']:.2f}")
        both = f"{part['obedience without']:.1%}, with it {part['obedience with']:.1%}"
        row("obedience on other prompts without it", "loses 5 points at most", both)
    if "dreambooth" in kept:
        one, other = kept["dreambooth"]["with"], kept["dreambooth"]["without"]
        row("A subject, 5 pictures, with its class: time", "", f"{one['minutes']:.1f} minutes")
        row("pictures nearer to it than to its class", "80%", f"{one['recognised']:.0%}")
        ratio = kept["dreambooth"]["drift with / without"]
        drifts = f"{ratio:.2f} ({one['class drift']:.4f} and {other['class drift']:.4f})"
        row("drift of the class (KID), as a share of that without prior preservation", "0.33", drifts)
        taken = f"{one['class taken for subject']:.0%} and {other['class taken for subject']:.0%}"
        row("pictures of the class that look like the subject, with and without", "", taken)
    busy = [part["busy"] for part in (kept.get("inversion"), kept.get("lora")) if part]
    if busy:
        row("share of the time in passes and optimiser, sheets and states included", "90%", f"{min(busy):.0%}")
    return "\n".join(lines)


def write_table(page: Path, kept: Figures) -> None:
    """Put the figures at the end of a page, in place of those that are there."""
    before = page.read_text(encoding="utf-8").partition(_HEADING)[0].rstrip()
    sheets = "\n\n".join(f"![What {name} reached](images/teach-{name}.png)" for name in kept)
    page.write_text(f"{before}\n\n{_HEADING}\n{_INTRODUCTION}\n{table(kept)}\n\n{sheets}\n", encoding="utf-8")


_HEADING = "## Measured\n"
_INTRODUCTION = """With the embedded model on one CPU core, by `python -m benchmarks.teaching`. Similarity is the cosine
between features of the judge, a network that was trained apart from every generator; "on the way" is where pictures lie
between those of the untaught model (0) and the real ones (1). A picture is nearer to a subject where its features are.
"""

PARTS: dict[str, Callable[[Model, Path, Path], tuple[Figures, Drawings, list[str]]]] = {
    "inversion": inversion,
    "lora": manner,
    "dreambooth": subject,
}


def main() -> None:
    """Do one part, and keep its figures and its sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=tuple(PARTS), action="append")
    parser.add_argument("--work", type=Path, default=Path("runs/teaching"), help="folder of the trainings")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/rein/art").expanduser(), help="folder of the art")
    parser.add_argument("--json", type=Path, default=Path("docs/data/teaching.json"), help="where the figures are kept")
    parser.add_argument("--sheets", type=Path, default=Path("docs/images"), help="folder of the sheets")
    parser.add_argument("--write", type=Path, help="a page that gets the table; without --part nothing is measured")
    arguments = parser.parse_args()
    model = rein.load("pocket")
    for name in arguments.part or ([] if arguments.write else PARTS):
        arguments.work.mkdir(parents=True, exist_ok=True)
        figures, pictures, labels = PARTS[name](model, arguments.cache, arguments.work)
        kept = json.loads(arguments.json.read_text()) if arguments.json.is_file() else {}
        kept[name] = figures
        for folder in (arguments.json.parent, arguments.sheets):
            folder.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n")
        grid(pictures, columns=4, labels=labels).save(arguments.sheets / f"teach-{name}.png")
        print(json.dumps({name: figures}, indent=1))
    if arguments.write:
        write_table(arguments.write, json.loads(arguments.json.read_text()))


if __name__ == "__main__":
    main()
