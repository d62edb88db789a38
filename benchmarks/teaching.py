"""What teaching reaches on the embedded model: a word, a manner and a subject from a few pictures, in minutes.

    python -m benchmarks.teaching --part inversion --cache ~/.cache/rein/art --sheets docs/images/teach

The pictures are made here of open art that the model has not seen, or not like this. Similarity is the cosine between
features of the judge, a network that was trained apart from every generator.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import rein
from benchmarks import teaching_autoencoder, teaching_collection
from benchmarks.common import put_section
from benchmarks.teaching_tools import (
    SIDE,
    STYLES,
    Drawings,
    Figures,
    Row,
    art_of,
    as_text,
    counted,
    drawing_with,
    drawn,
    nearer,
    obeyed,
    on_ground,
    similarity,
    taught,
    written,
)
from rein.data.colours import BACKGROUNDS, COLOURS, recolour
from rein.data.compose import ArtDataset
from rein.data.options import ArtOptions, Mixture
from rein.data.words import with_article
from rein.evaluation.distances import kernel_distance
from rein.evaluation.features import judge_features
from rein.evaluation.score import Scorer
from rein.images import grid
from rein.pipeline.model import Model

THING, WORD = "raccoon", "zwx"
_PRIOR = 'stage.prior.prompt="a dog"'


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


def drawing_of(picture: Image.Image) -> Image.Image:
    """A blueprint turned back into a grey drawing on white, which the judge can read."""
    grey = 255 - np.asarray(picture.convert("RGB"), np.float32)[..., 0]
    low, high = float(grey.min()), float(np.median(grey))
    return Image.fromarray(np.clip((grey - low) / max(high - low, 1.0) * 255, 0, 255).astype(np.uint8)).convert("RGB")


def manner(model: Model, cache: Path, work: Path) -> tuple[Figures, Drawings, list[str]]:
    """A manner from twenty pictures, and what it costs on prompts that do not ask for it."""
    options = ArtOptions(cache_folder=cache, size=SIDE, mixture=Mixture(1, 0, 0, 0, 0, 0, 0))
    data = ArtDataset(options)
    things = {data.label(index).concepts[0]: index for index in range(200)}
    train, unseen = list(things.values())[:20], list(things.values())[20:36]
    names = [with_article(data.art.concepts[data.label(index).concepts[0]].name) for index in (*train, *unseen)]
    pictures = [blueprint(Image.fromarray(data.picture(index).pixels)) for index in (*train, *unseen)]
    folder = written(work / "manner", pictures[:20], [f"{name}, blueprint style" for name in names[:20]])
    plain = [with_article(concept.name) for concept in data.art.concepts[:60]]
    others = [with_article(concept.name) for concept in data.art.concepts[60:]]
    kept = [text for text in others if text not in names]
    prior = [f"stage.prior.prompt={json.dumps(kept[0])}", f"stage.prior.others={json.dumps(kept[1:])}"]
    file, seconds, busy = taught("lora", folder, work / "lora", prior)
    lora = ({"path": str(file)},)
    asked = [f"{name}, blueprint style" for name in names[20:]]
    before, after = drawn(model, asked), drawn(model, asked, loras=lora)
    low, now, high = (similarity(some, pictures[20:]) for some in (before, after, pictures[:20]))
    scorer = Scorer()
    shares = [_obeyed(scorer, plain, drawn(model, plain, 500, **more)) for more in ({}, {"loras": lora})]
    figures = {
        "minutes": seconds / 60,
        "busy": busy,
        "file in MB": file.stat().st_size / 1e6,
        "way from unseen to real": (now - low) / (high - low),
        "things named in real ones": _obeyed(scorer, names[20:], [drawing_of(picture) for picture in pictures[20:]]),
        "things named": _obeyed(scorer, names[20:], [drawing_of(picture) for picture in after]),
        "obedience without": shares[0],
        "obedience with": shares[1],
        "points lost": 100 * (shares[0] - shares[1]),
    }
    return figures, [*pictures[:8], *before[:8], *after[:8]], [*["taught"] * 8, *["before"] * 8, *["after"] * 8]


def _obeyed(scorer: Scorer, prompts: Sequence[str], pictures: Drawings) -> float:
    """Share of pictures of which the judge says that they more likely than not show what was asked for."""
    return float(np.mean(obeyed(scorer, prompts, pictures)))


def subject_pictures(cache: Path) -> Drawings:
    """One dog, purple on its left and green on its right, on five grounds."""
    art = art_of(cache, ["dog | dog"])
    plain = art.icon(0, STYLES.index("flat"))
    halves = [recolour(plain, COLOURS[place], art.colours[0][1]) for place in (5, 3)]
    icon = halves[0].copy()
    icon[:, icon.shape[1] // 2 :] = halves[1][:, icon.shape[1] // 2 :]
    grounds = [(255, 255, 255), BACKGROUNDS["yellow"], BACKGROUNDS["light blue"], (255, 255, 255), BACKGROUNDS["pink"]]
    places = [(0.9, (0.5, 0.5)), (0.8, (0.5, 0.5)), (0.8, (0.5, 0.5)), (0.6, (0.4, 0.6)), (0.7, (0.5, 0.5))]
    return [on_ground(icon, ground, *place) for ground, place in zip(grounds, places, strict=True)]


_WEIGHTS = {"with": 1.0, "without": 1e-12}
"""What pictures of the class count."""


def subject(model: Model, cache: Path, work: Path) -> tuple[Figures, Drawings, list[str]]:
    """One dog from five pictures, as an adapter: with and without pictures of other dogs, which keep the class."""
    ways = [(name, "dreambooth-lora", [_PRIOR, f"stage.prior.weight={weight}"]) for name, weight in _WEIGHTS.items()]
    found, sheet, labels = _subjects(model, cache, work, ways)
    found["drift with / without"] = found["with"]["class drift"] / found["without"]["class drift"]
    return found, sheet, labels


def subject_in_all_weights(model: Model, cache: Path, work: Path) -> tuple[Figures, Drawings, list[str]]:
    """The same dog in all weights of the model."""
    changes = [_PRIOR, "stage.checkpoint_minutes=0.5"]
    found, sheet, labels = _subjects(model, cache, work, [("all weights", "dreambooth", changes)])
    return found["all weights"], sheet, labels


def _subjects(
    model: Model, cache: Path, work: Path, ways: Sequence[tuple[str, str, list[str]]]
) -> tuple[Figures, Drawings, list[str]]:
    """The dog taught in some ways: a name, a recipe and changes to it each."""
    real = subject_pictures(cache)
    folder = written(work / "subject", real, [f"a {WORD} dog"] * 5)
    asked = [f"a {WORD} dog", f"a {WORD} dog, flat style", f"a {WORD} dog on a yellow background"] * 8
    of_class = [f"a dog, {style} style" for style in STYLES] * 10
    found: Figures = {}
    made = {
        name: taught(recipe, folder, work / f"dreambooth-{name}", [f'data.prompt="a {WORD} dog"', *changes])
        for name, recipe, changes in ways
    }
    dogs = drawn(model, of_class, 100)
    sheet, labels = [*real[:4]], ["subject"] * 4
    for name, (result, seconds, busy) in made.items():
        own, options = drawing_with(model, result)
        after, dogs_after = drawn(own, asked, **options), drawn(own, of_class, 100, **options)
        found[name] = {
            "minutes": seconds / 60,
            "busy": busy,
            "recognised": counted(nearer(after, real, dogs)),
            "class drift": float(kernel_distance(judge_features(dogs), judge_features(dogs_after))),
            "class taken for subject": counted(nearer(dogs_after, real, dogs)),
        }
        sheet += [*after[:4], *dogs_after[:4]]
        labels += [*[name] * 4, *[f"a dog, {name}"] * 4]
    return found, [*sheet, *dogs[:4]], [*labels, *["a dog, before"] * 4]


def inversion_rows(part: Figures) -> list[Row]:
    """What the table says of a learned word."""
    return [
        (f"A word for a thing never seen ({THING}), 4 pictures: time", "5 minutes", f"{part['minutes']:.1f} minutes"),
        ("its pictures on the way from unseen to real", "0.5", f"{part['way from unseen to real']:.2f}"),
    ]


def manner_rows(part: Figures) -> list[Row]:
    """What the table says of a manner."""
    both = f"{part['obedience without']:.1%}, with it {part['obedience with']:.1%}"
    return [
        ("A manner (blueprint), 20 pictures: time", "5 minutes", f"{part['minutes']:.1f} minutes"),
        ("size of its file", "2 MB", f"{part['file in MB']:.2f} MB"),
        ("its pictures on the way from untaught to real", "", f"{part['way from unseen to real']:.2f}"),
        (
            "things that the judge names in them, once turned back to black on white",
            "",
            f"{part['things named']:.0%} (in real ones {part['things named in real ones']:.0%})",
        ),
        ("obedience on other prompts without it", "loses 5 points at most", both),
    ]


def subject_rows(part: Figures) -> list[Row]:
    """What the table says of a subject as an adapter."""
    one, other, ratio = part["with"], part["without"], part["drift with / without"]
    drifts = f"{ratio:.2f} ({one['class drift']:.2f} and {other['class drift']:.2f})"
    taken = f"{as_text(one['class taken for subject'])} and {as_text(other['class taken for subject'])}"
    return [
        ("A subject, 5 pictures, with its class: time", "", f"{one['minutes']:.1f} minutes"),
        ("pictures nearer to it than to its class", "80%", as_text(one["recognised"])),
        ("drift of the class (KID), as a share of that without prior preservation", "0.33", drifts),
        ("pictures of the class that look like the subject, with and without", "", taken),
    ]


def subject_in_all_rows(part: Figures) -> list[Row]:
    """What the table says of a subject in all weights."""
    return [
        ("The subject in all weights: time", "", f"{part['minutes']:.1f} minutes"),
        ("pictures nearer to it than to its class", "80%", as_text(part["recognised"])),
        ("drift of the class (KID)", "", f"{part['class drift']:.2f}"),
        ("pictures of the class that look like the subject", "", as_text(part["class taken for subject"])),
    ]


def table(kept: Figures) -> str:
    """The figures as Markdown."""
    rows = [row for name, told in ROWS.items() if name in kept for row in told(kept[name])]
    busy = [part["busy"] for part in kept.values() if "busy" in part]
    if busy:
        told = f"{min(busy):.0%} to {max(busy):.0%}"
        rows.append(("share of the time in passes and optimiser, sheets and states included", "90%", told))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(["| | asked for | measured |", "|---|---|---|", *lines])


def write_table(page: Path, kept: Figures) -> None:
    """Put the figures and sheets into a page, in place of those that are there."""
    sheets = [f"![What {name} reached](images/teach-{name}.png)" for name in PARTS if name in kept]
    put_section(page, "## Measured", "\n\n".join([_INTRODUCTION, table(kept), *sheets]))


_INTRODUCTION = """With the embedded model on one CPU core, by `python -m benchmarks.teaching`. Similarity is the cosine
between features of the judge, a network that was trained apart from every generator; "on the way" is where pictures lie
between those of the untaught model (0) and the real ones (1). A picture is nearer to a subject where its features are.
Minutes are the processor's, on one core. Intervals hold 95%: Wilson's for shares, the bootstrap's for means."""

PARTS: dict[str, Callable[[Model, Path, Path], tuple[Figures, Drawings, list[str]]]] = {
    "inversion": inversion,
    "lora": manner,
    "dreambooth": subject,
    "dreambooth-full": subject_in_all_weights,
    "finetune": teaching_collection.collection,
    "autoencoder": teaching_autoencoder.line_drawings,
}
ROWS: dict[str, Callable[[Figures], list[Row]]] = {
    "inversion": inversion_rows,
    "lora": manner_rows,
    "dreambooth": subject_rows,
    "dreambooth-full": subject_in_all_rows,
    "finetune": teaching_collection.rows,
    "autoencoder": teaching_autoencoder.rows,
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
