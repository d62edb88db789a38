"""Captions written by a model that looks at pictures: BLIP, BLIP-2 and InstructBLIP of the transformers library.

The model is a folder on this disk with safetensors weights; nothing is fetched and nothing in it is executed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from rein.data.caption_edits import with_trigger
from rein.data.entries import Entry, Reading, Refused, read_entries
from rein.data.storage import Disk
from rein.errors import DamagedFileError, InputError, ReinError, require
from rein.files import atomic_file
from rein.formats.transformers_models import silent
from rein.image_files import read_layers

FAMILY = ("blip", "blip-2", "instructblip")
"""Model types that are known to write captions of a picture alone."""

Captioner = Callable[[Sequence[Image.Image]], list[str]]


@dataclass(frozen=True)
class Writing:
    """How captions are written.

    Fields:
        trigger: words put in front of every caption that has them not.
        beginning: words that the model goes on from, such as "a photo of"; "" for none.
        tokens: the most that the model writes.
        beams: hypotheses that are kept; 1 takes the likeliest token each time. Nothing is drawn by lot.
        replaced: write a caption also where there is one.
    """

    trigger: str = ""
    beginning: str = ""
    tokens: int = 40
    beams: int = 3
    replaced: bool = False

    def __post_init__(self) -> None:
        for name, most in (("tokens", 400), ("beams", 16)):
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name)}: it must be from 1 to {most}")


@dataclass(frozen=True)
class Written:
    """What was done with one picture: its caption, or why it has none; `file` is where it was written, or None."""

    name: str
    caption: str = ""
    reason: str | None = None
    file: Path | None = None


def open_captioner(folder: str | os.PathLike[str], writing: Writing, device: str = "cpu") -> Captioner:
    """What writes a caption for each of several RGB pictures.

    Args:
        folder: a model as transformers' `save_pretrained` writes it, with its processor.

    Raises:
        MissingExtraError: transformers is not installed.
        InputError: there is no such folder.
        DamagedFileError: it holds no model of `FAMILY` that can be read.
    """
    transformers = require("transformers", "caption")
    path = Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise InputError(f"captioning model {path}: it must be a folder with config.json and model.safetensors in it")
    closed = {"local_files_only": True, "trust_remote_code": False}
    try:
        kind = transformers.AutoConfig.from_pretrained(os.fspath(path), **closed).model_type
        if kind not in FAMILY:
            raise DamagedFileError(f"captioning model {path} is of the kind {kind!r}: known are {', '.join(FAMILY)}")
        processor = transformers.AutoProcessor.from_pretrained(os.fspath(path), **closed)
        with silent(transformers):
            model = transformers.AutoModelForImageTextToText.from_pretrained(
                os.fspath(path), use_safetensors=True, **closed
            )
    except ReinError:
        raise
    except Exception as error:  # a library's errors are of many kinds
        raise DamagedFileError(f"captioning model {path} cannot be read: {_first_line(error)}") from error
    return _captioner(model.to(device).eval(), processor, writing)


def _captioner(model: Any, processor: Any, writing: Writing) -> Captioner:
    @torch.inference_mode()
    def captions(images: Sequence[Image.Image]) -> list[str]:
        texts = {"text": [writing.beginning] * len(images), "padding": True} if writing.beginning else {}
        given = processor(images=list(images), return_tensors="pt", **texts).to(model.device)
        ids = model.generate(**given, max_new_tokens=writing.tokens, num_beams=writing.beams, do_sample=False)
        found = processor.batch_decode(ids, skip_special_tokens=True)
        return [" ".join(text.split()) for text in found]

    return captions


def write_captions(folder: Path, captioner: Captioner, writing: Writing, batch: int = 4) -> Iterator[Written]:
    """Write a caption file beside every picture of a folder, one after another, so that interrupted work can go on.

    A picture that has a caption, in a file or a table, keeps it, unless `writing.replaced`.

    Raises:
        InputError: there is no such folder, or no picture in it.
        OutputError: a caption file cannot be written.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {os.fspath(folder)!r}")
    waiting: list[tuple[Entry, Image.Image]] = []
    seen = 0
    for found in read_entries(Disk(folder), None, Reading()):
        if isinstance(found, Refused):
            yield Written(found.name, reason=found.reason)
            continue
        seen += 1
        if found.file is None:
            yield Written(found.name, reason="in an archive: `rein data prepare` makes a folder of it")
        elif found.captions and not writing.replaced:
            yield Written(found.name, found.captions[0], reason="it has a caption")
        else:
            try:
                waiting.append((found, read_layers(found.content(), found.name)[0]))
            except ReinError as error:
                yield Written(found.name, reason=str(error))
        if len(waiting) == batch:
            yield from _written(folder, waiting, captioner, writing)
            waiting.clear()
    if waiting:
        yield from _written(folder, waiting, captioner, writing)
    if not seen:
        raise InputError(f"there are no pictures in {folder}: it needs PNG, JPEG or WebP files")


def _written(
    folder: Path, waiting: Sequence[tuple[Entry, Image.Image]], captioner: Captioner, writing: Writing
) -> Iterator[Written]:
    for (entry, _), caption in zip(waiting, captioner([image for _, image in waiting]), strict=True):
        text = with_trigger(caption, writing.trigger)
        if not text:
            yield Written(entry.name, reason="the model wrote nothing")
            continue
        path = (folder / entry.name).with_suffix(".txt")
        with atomic_file(path) as handle:
            handle.write(f"{text}\n".encode())
        yield Written(entry.name, text, file=path)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
