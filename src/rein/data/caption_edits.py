"""Captions changed on their way into training: trigger words in front, tags in another order, tags left out.

A model that always reads the same words in the same order learns the order too. Shuffling tags and leaving some out
teaches it each of them. Captions that are left out whole are the loss's own option (`caption_dropout`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rein.errors import InputError


@dataclass(frozen=True)
class CaptionEdits:
    """What happens to a caption each time its picture is seen.

    Fields:
        shuffle: tags, the parts between separators, come in another order each time.
        keep: so many tags at the beginning stay where they are.
        tag_dropout: part of the other tags that are left out, 0 to 1.
        separator: of tags.
        trigger: words that are never left out or moved.
    """

    shuffle: bool = False
    keep: int = 0
    tag_dropout: float = 0.0
    separator: str = ","
    trigger: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.tag_dropout <= 1:
            raise InputError(f"tag_dropout is {self.tag_dropout}: it must be from 0 to 1")
        if self.keep < 0:
            raise InputError(f"keep is {self.keep}: it must be 0 or more")
        if not self.separator.strip():
            raise InputError("separator is empty: give the sign between tags, such as a comma")

    @property
    def changing(self) -> bool:
        """Whether a caption is not always the same."""
        return self.shuffle or self.tag_dropout > 0

    def chosen(self, captions: Sequence[str], key: str, lot: float) -> str:
        """One of a picture's captions, of which there is at least one, changed.

        Args:
            key: of the picture.
            lot: in [0, 1), drawn anew each time it is seen; it says which caption, and with the key what falls how.
                The same key and lot give the same text on every machine.
        """
        caption = captions[int(lot * len(captions))]
        if not self.changing:
            return caption
        digest = hashlib.blake2b(f"{lot!r}/{key}".encode(), digest_size=8).digest()
        return with_trigger(self._tags(caption, Random(int.from_bytes(digest))), self.trigger)

    def _tags(self, caption: str, random: Random) -> str:
        tags = [tag for part in caption.split(self.separator) if (tag := part.strip())]
        first = [tag for tag in tags if tag.lower() == self.trigger.strip().lower()]
        others = [tag for tag in tags if tag not in first]
        kept, rest = others[: self.keep], others[self.keep :]
        left = [tag for tag in rest if random.random() >= self.tag_dropout]
        if self.shuffle:
            random.shuffle(left)
        return f"{self.separator.strip()} ".join(first + kept + left)


AS_WRITTEN = CaptionEdits()
"""Changes nothing."""


def with_trigger(caption: str, trigger: str) -> str:
    """`caption` with the words in front of it, unless they stand in it already."""
    words = trigger.strip()
    if not words or f" {words.lower()} " in f" {caption.lower().replace(',', ' ')} ":
        return caption
    return f"{words}, {caption}" if caption else words
