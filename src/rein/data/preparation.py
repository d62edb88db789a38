"""What is wanted of a prepared collection of pictures, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rein.data.augment import Augmentations, names_of
from rein.data.fitting import Box
from rein.data.made import Made, NotMade
from rein.data.pictures import PictureOptions
from rein.data.set_file import SetFile
from rein.errors import InputError

USUAL_DISTANCE = 4
"""Bits of 64 by which the perceptual hashes of near-duplicates may differ."""


@dataclass(frozen=True)
class Preparation:
    """What is wanted.

    Fields:
        size: side in pixels of the square bucket.
        pictures: how files become pictures; `crop` and `minimum` among it.
        boxes: parts to keep by the pictures' names, from `rein.data.crop_list`.
        duplicates: bits by which near-duplicates may differ; None keeps them.
        trigger: words put in front of every caption.
        need_captions: leave out pictures without captions.
        augmentations: changes for more copies of each picture; None makes none.
        copies: how many of each.
        threads: that decode and scale; the result does not depend on it.
    """

    size: int = 512
    pictures: PictureOptions = field(default=PictureOptions())
    boxes: Mapping[str, Box] = field(default_factory=dict)
    duplicates: int | None = USUAL_DISTANCE
    trigger: str = ""
    need_captions: bool = False
    augmentations: Augmentations | None = None
    copies: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        self.pictures.sizes(self.size)  # refuses what is out of range
        for name, low, high in (("copies", 0, 1000), ("duplicates", 0, 32), ("threads", 0, 1024)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}: it must be from {low} to {high}")
        if (self.copies > 0) != (self.augmentations is not None):
            raise InputError("copies need augmentations to differ by, and augmentations a number of copies: give both")

    @property
    def least(self) -> int:
        """Pixels that the short side must have."""
        return self.size // 2 if self.pictures.minimum is None else self.pictures.minimum

    @property
    def plain(self) -> dict[str, str | int | float | bool | None]:
        """All options as they are recorded."""
        options = self.pictures
        return {
            "size": self.size,
            "buckets": options.buckets,
            "crop": options.crop,
            "crop list": len(self.boxes),
            "minimum": self.least,
            "resized in": options.space,
            "alpha masks": options.alpha_masks,
            "near-duplicates up to": self.duplicates,
            "trigger": self.trigger,
            "captions needed": self.need_captions,
            "copies": self.copies,
            "augmentations": ", ".join(names_of(self.augmentations)) if self.augmentations else None,
            "seed": self.augmentations.seed if self.augmentations else None,
        }


@dataclass
class Outcome:
    """What came of it.

    Fields:
        folder: the finished one.
        kept: usable pictures by their numbers, without their bytes.
        refused: what was left out.
        twins: near-duplicates that were left out, each with the one that stayed.
        copies: how many augmented versions were added.
        set_file: what `dataset.json` says.
    """

    folder: Path
    kept: dict[int, Made] = field(default_factory=dict)
    refused: list[NotMade] = field(default_factory=list)
    twins: list[tuple[Made, Made]] = field(default_factory=list)
    copies: int = 0
    set_file: SetFile | None = None

    @property
    def without_captions(self) -> int:
        """How many of the kept pictures have none."""
        return sum(not made.captions for made in self.kept.values())
