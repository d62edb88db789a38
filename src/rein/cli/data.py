"""`rein data`: collections of pictures made ready to train on, captions for them, and names for new things."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rein.cli import data_options as given
from rein.cli.app import app
from rein.cli.options import AsJson, Device
from rein.cli.progress import Meter, Pace, meter
from rein.cli.tables import table
from rein.cli.values import whole
from rein.cli.vocabularies import vocabulary_of
from rein.errors import InputError, InterruptedWork, nearest, quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rein.data.colour_spaces import ColourSpace
    from rein.data.fitting import Crop
    from rein.data.preparation import Outcome, Preparation

_PREPARE_EXAMPLES = """
\b
Examples:
  rein data prepare my-cats cats-512
  rein data prepare my-cats cats-512 --crop smart --trigger "sks cat" --augment light --copies 4
  rein data prepare my-cats cats-1024 --size 1024 --crops crops.csv --need-captions
  rein data prepare "s3://bucket/shards/train-0000.tar" shard-512
"""

_CAPTION_EXAMPLES = """
\b
Examples:
  rein data caption my-cats --model models/blip-image-captioning-base
  rein data caption my-cats --model models/blip2-opt-2.7b --begin "a photo of" --trigger "sks cat"
"""

_RARE_EXAMPLES = """
\b
Examples:
  rein data rare-tokens --model sd15
  rein data rare-tokens --model v1-5-pruned-emaonly.safetensors --count 50
"""

_SHOWN_REASONS = 20

data = typer.Typer(help="Prepare pictures to train on, or caption them.", no_args_is_help=False)
app.add_typer(data, name="data")


@data.command("prepare", epilog=_PREPARE_EXAMPLES)
def prepare(
    source: given.Source,
    out: given.Out,
    also: given.Also = None,
    size: given.Side = 512,
    buckets: given.Buckets = True,
    bucket_step: given.Step = None,
    longest: given.Longest = 2.0,
    crop: given.Cut = "centre",
    crops: given.CropList = None,
    minimum: given.Minimum = None,
    resize_in: given.ResizeIn = "srgb",
    duplicates: given.Duplicates = "4",
    alpha_masks: given.AlphaMasks = False,
    trigger: given.Trigger = "",
    need_captions: given.NeedCaptions = False,
    encoding: given.Encoding = "utf-8",
    caption_column: given.Column = None,
    augment: given.Augment = None,
    copies: given.Copies = 0,
    seed: given.Seed = None,
    replace: given.Replace = False,
    as_json: AsJson = False,
) -> None:
    """Read pictures with captions, check, cut and scale them, and say what was left out and why. Prints OUT.

    OUT has the pictures with metadata.jsonl, refused.csv, and report.html to look at. It appears when it is complete.
    """
    with meter() as shown:
        shown.show("starting")
        from rein.data.augment import read_augmentations
        from rein.data.caption_files import check_encoding
        from rein.data.crop_list import read_crop_list
        from rein.data.entries import Reading
        from rein.data.pictures import PictureOptions
        from rein.data.preparation import Preparation

        changes = None if augment is None else read_augmentations(augment)
        wanted = Preparation(
            size=size,
            pictures=PictureOptions(
                buckets=buckets,
                step=bucket_step,
                longest=longest,
                crop=_crop(crop),
                minimum=minimum,
                space=_space(resize_in),
                alpha_masks=alpha_masks,
                reading=Reading(check_encoding(encoding), caption_column),
            ),
            boxes={} if crops is None else read_crop_list(crops),
            duplicates=None if duplicates == "keep" else whole(duplicates),
            trigger=trigger,
            need_captions=need_captions,
            augmentations=changes if changes is None or seed is None else changes.seeded(seed),
            copies=copies,
        )
        outcome = _prepared([source, *(also or ())], out, wanted, replace, shown)
    print(json.dumps(_object(outcome, wanted), indent=1) if as_json else _lines(outcome), flush=True)


def _prepared(sources: Sequence[str], out: Path, wanted: Preparation, replace: bool, shown: Meter) -> Outcome:
    """Do the work, and tell how far it is."""
    from rein.data.prepare import prepare_pictures

    pace, outcome = Pace(), None
    try:
        for news in prepare_pictures(sources, out, wanted, replace):
            shown.show(news.stage, note=f"{news.done} pictures, {pace.speed(news.done, 'pictures/s')}")
            outcome = news.outcome or outcome
    except KeyboardInterrupt:
        raise InterruptedWork(f"interrupted: {out} was not made, and nothing of it is left") from None
    assert outcome is not None, "the last news has it"
    return outcome


def _crop(name: str) -> Crop:
    from rein.data.fitting import CROPS

    for known in CROPS:
        if known == name:
            return known
    raise InputError(f"unknown crop {quoted(name)}: {nearest(name, CROPS)}")


def _space(name: str) -> ColourSpace:
    from rein.data.colour_spaces import COLOUR_SPACES

    for known in COLOUR_SPACES:
        if known == name:
            return known
    raise InputError(f"unknown colour space {quoted(name)}: {nearest(name, COLOUR_SPACES)}")


def _lines(outcome: Outcome) -> str:
    left_out = [(entry.refused.name, entry.refused.reason) for entry in outcome.refused]
    left_out += [(twin.name, f"nearly the same as {kept.name}") for twin, kept in outcome.twins]
    lines = [f"{len(outcome.kept)} pictures kept, {len(left_out)} left out"]
    if left_out:
        lines += [f"  {name}: {reason}" for name, reason in left_out[:_SHOWN_REASONS]]
        if len(left_out) > _SHOWN_REASONS:
            lines.append(f"  and {len(left_out) - _SHOWN_REASONS} more: all are in {outcome.folder / 'refused.csv'}")
    if outcome.copies:
        lines.append(f"{outcome.copies} changed copies added")
    if outcome.without_captions:
        lines.append(f"{outcome.without_captions} pictures have no caption: rein data caption writes some")
    lines += [f"report: {outcome.folder / 'report.html'}", str(outcome.folder)]
    return "\n".join(lines)


def _object(outcome: Outcome, wanted: Preparation) -> dict[str, object]:
    return {
        "folder": str(outcome.folder),
        "kept": len(outcome.kept),
        "copies": outcome.copies,
        "without_captions": outcome.without_captions,
        "refused": [asdict(entry.refused) for entry in outcome.refused],
        "duplicates": [{"name": twin.name, "kept": kept.name} for twin, kept in outcome.twins],
        "options": wanted.plain,
    }


@data.command("caption", epilog=_CAPTION_EXAMPLES)
def caption(
    folder: given.Folder,
    model: given.CaptionModel,
    trigger: given.Trigger = "",
    begin: given.Begin = "",
    tokens: given.Tokens = 40,
    beams: given.Beams = 3,
    batch: given.Batch = 4,
    replace: given.Rewrite = False,
    device: Device = "auto",
) -> None:
    """Write a caption beside every picture that has none, by a model on this disk. Prints each."""
    with meter() as shown:
        shown.show("loading")
        from rein.data.captioning import Writing, open_captioner, write_captions
        from rein.devices import choose_device

        if batch < 1:
            raise InputError(f"batch is {batch}: it must be 1 or more")
        writing = Writing(trigger, begin, tokens, beams, replace)
        done = 0
        try:
            captioner = open_captioner(model, writing, str(choose_device(device)))
            for found in write_captions(folder, captioner, writing, batch):
                done += found.file is not None
                shown.show("writing", note=f"{done} captions")
                shown.say(f"{found.name}: {found.caption}" if found.file else f"{found.name}: left, {found.reason}")
        except KeyboardInterrupt:
            raise InterruptedWork(f"interrupted: {done} captions are written, the same command goes on") from None
    print(folder, flush=True)


@data.command("rare-tokens", epilog=_RARE_EXAMPLES)
def rare(
    model: given.TowerModel = "sd15",
    count: given.Count = 20,
    shortest: given.Shortest = 3,
    most: given.Most = 4,
    as_json: AsJson = False,
) -> None:
    """List words that a text tower knows and hardly uses: names to teach something new by.

    Of a family's name the vocabulary alone decides; of a model its weights too.
    """
    from rein.data.rare_tokens import rare_tokens

    if count < 1 or not 1 <= shortest <= most:
        raise InputError(f"count is {count}, letters {shortest} to {most}: they must be 1 or more, in this order")
    _, vocabulary = vocabulary_of(model)
    found = rare_tokens(vocabulary.tokenizer, _vectors(model), (shortest, most))[:count]
    if not found:
        raise InputError(f"the vocabulary of {model} has no word of one token with {shortest} to {most} letters")
    if as_json:
        print(json.dumps([asdict(entry) for entry in found], indent=1))
        return
    rows = [
        (entry.text, str(entry.id), f"{entry.rarity:.3f}", "" if entry.movement is None else f"{entry.movement:.3f}")
        for entry in found
    ]
    print(table([("WORD", "TOKEN", "RARITY", "MOVED"), *rows]))


def _vectors(model: str) -> NDArray[np.float32] | None:
    """The token embedding of a model's first text tower; None for the name of a family."""
    from rein.cli.vocabularies import SHORT_NAMES
    from rein.formats.embedded import EMBEDDED
    from rein.nn.specs import VARIANTS
    from rein.pipeline.model import load

    if SHORT_NAMES.get(model, model) in VARIANTS and model not in EMBEDDED:
        return None
    tower = load(model, "cpu", "float32").parts.towers[0]
    vectors: NDArray[np.float32] = tower.text_model.embeddings.token_embedding.weight.detach().numpy()
    return vectors
