"""Pictures that a model draws to be judged: for a list of prompts, or for the captions of a data set."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rein.data.caption_files import MAX_CAPTION_FILE, captions_of, decoded
from rein.errors import DamagedFileError, InputError
from rein.evaluation.gallery import Gallery
from rein.evaluation.judges import Stage
from rein.evaluation.picture_lists import PictureList, drawn_pictures
from rein.evaluation.subject import Subject

MOST = 100_000
"""Pictures of one evaluation."""


@dataclass(frozen=True)
class DrawingOptions:
    """What is drawn.

    Fields:
        folder: where the pictures are kept; a run that was stopped goes on with what is there.
        count: prompts at most, drawn by lot where there are more; None is all.
        each: pictures of each prompt.
        seed: of the first picture, the next ones count on; and of the lot.
    """

    folder: Path
    count: int | None = None
    each: int = 1
    seed: int = 0
    batch_size: int = 8

    def __post_init__(self) -> None:
        for name in ("count", "each"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: it must be 1 at least")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: it must be 0 at least")


def read_prompts(path: str | os.PathLike[str]) -> list[str]:
    """The prompts in a text file, one on each line; empty lines are left out.

    Raises:
        InputError: there is no such file, or no prompt in it.
        DamagedFileError: it is no text.
    """
    place = Path(path)
    try:
        with place.open("rb") as handle:
            content = handle.read(MAX_CAPTION_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read the prompts in {place}: {error.strerror or error}") from error
    if len(content) > MAX_CAPTION_FILE:
        raise InputError(f"{place} is larger than {MAX_CAPTION_FILE} bytes: give fewer prompts")
    try:
        prompts = list(captions_of(decoded(content, str(place))))
    except DamagedFileError:
        raise DamagedFileError(f"{place} is not UTF-8 text: save it as that") from None
    if not prompts:
        raise InputError(f"there is no prompt in {place}: write one on each line")
    return prompts


def captions_as_prompts(pictures: PictureList) -> list[str]:
    """The captions of a data set. Raises `InputError` where no picture has one."""
    prompts = [prompt for prompt in pictures.prompts if prompt]
    if not prompts:
        raise InputError(f"no picture in {pictures.label} has a caption: give a list of prompts with --prompts")
    return prompts


def draw_pictures(
    subject: Subject, prompts: Sequence[str], options: DrawingOptions
) -> Generator[Stage, None, PictureList]:
    """Draw each prompt; returns the pictures, in the order of the prompts.

    Raises:
        InputError: more than `MOST` pictures.
        OutputError: the folder cannot be written.
    """
    chosen = list(prompts)
    if options.count is not None and options.count < len(chosen):
        places = np.random.default_rng(options.seed).choice(len(chosen), options.count, replace=False)
        chosen = [chosen[place] for place in sorted(places.tolist())]
    orders = [
        (prompt, options.seed + number)
        for number, prompt in enumerate(prompt for prompt in chosen for _ in range(options.each))
    ]
    if len(orders) > MOST:
        raise InputError(f"{len(orders):,} pictures are more than {MOST:,}: choose fewer with --count")
    gallery = Gallery(subject.draw, options.folder, subject.key, options.batch_size)
    for done in gallery.fill(orders):
        yield Stage("drawing", done, len(orders))
    return drawn_pictures(subject.name, gallery, orders)
