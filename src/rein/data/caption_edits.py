"""Captions changed on their way into training: trigger words, tags in another order, tags and captions left out.

A model that always reads the same words in the same order learns the order too. Shuffling tags and leaving some out
teaches it each of them; leaving out whole captions teaches it to draw without words, which guidance needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rein.errors import InputError


@dataclass(frozen=True)
class CaptionEdits:
    """What is done to a caption.

    Fields:
        trigger: words put in front of every caption that has them not; never left out or moved.
        shuffle: tags, the parts between separators, come in another order each time.
        keep: so many tags at the beginning stay where they are.
        tag_dropout: part of the other tags that are left out, 0 to 1.
        dropout: part of the captions that are left out whole, the trigger with them, 0 to 1.
        separator: of tags.
        seed: decides, with the picture and the pass, what falls how.
    """

    trigger: str = ""
    shuffle: bool = False
    keep: int = 0
    tag_dropout: float = 0.0
    dropout: float = 0.0
    separator: str = ","
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tag_dropout", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be from 0 to 1")
        if self.keep < 0:
            raise InputError(f"keep is {self.keep}: it must be 0 or more")
        if not self.separator.strip():
            raise InputError("separator is empty: give the sign between tags, such as a comma")

    def edited(self, captions: Sequence[str], key: str, turn: int) -> str:
        """One of a picture's captions, changed; "" where it is left out or there is none and no trigger.

        Args:
            key: of the picture.
            turn: of seeing it, counted from 0. The same key and turn give the same text on every machine.
        """
        digest = hashlib.blake2b(f"{self.seed}/{turn}/{key}".encode(), digest_size=8).digest()
        random = Random(int.from_bytes(digest))
        chosen = random.choice(captions) if captions else ""
        if random.random() < self.dropout:
            return ""
        if self.shuffle or self.tag_dropout:
            chosen = self._tags(chosen, random)
        return with_trigger(chosen, self.trigger)

    def _tags(self, caption: str, random: Random) -> str:
        tags = [tag for part in caption.split(self.separator) if (tag := part.strip())]
        first, rest = tags[: self.keep], tags[self.keep :]
        left = [tag for tag in rest if random.random() >= self.tag_dropout]
        if self.shuffle:
            random.shuffle(left)
        return f"{self.separator.strip()} ".join(first + left)


def with_trigger(caption: str, trigger: str) -> str:
    """`caption` with the words in front of it, unless they stand in it already."""
    words = trigger.strip()
    if not words or f" {words.lower()} " in f" {caption.lower().replace(',', ' ')} ":
        return caption
    return f"{words}, {caption}" if caption else words
