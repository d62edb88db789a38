"""Pictures and what is said of them, as a training reads them: raw, and encoded once into latents that are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rein.data.augment import Augmentations, Augmenter
from rein.data.caption_edits import AS_WRITTEN, CaptionEdits, with_trigger
from rein.data.feature_cache import combined_key
from rein.data.features import Keyed, picture_latents
from rein.errors import InputError
from rein.formats.checkpoint import LoadedModel


class Pictures(Keyed, Protocol):
    """Captioned pictures by number, from 0."""

    @property
    def fingerprint(self) -> str:
        """The same for two sets exactly when all pictures and captions are."""
        ...

    def captions(self, index: int) -> tuple[str, ...]:
        """Ways to say what it shows; none where nothing is said."""
        ...

    def mask(self, index: int) -> NDArray[np.uint8] | None:
        """What of it counts (H, W), 255 for all of it; None where nothing is said."""
        ...

    def name(self, index: int) -> str:
        """What messages call it."""
        ...


@dataclass(frozen=True)
class Said:
    """Pictures with other captions: `texts` for all of them in place of their own, and in front of each a trigger."""

    pictures: Pictures
    texts: tuple[str, ...] = ()
    trigger: str = ""

    @property
    def fingerprint(self) -> str:
        """That of the pictures, with the captions."""
        return combined_key((self.pictures.fingerprint, self.texts, self.trigger))

    def __len__(self) -> int:
        return len(self.pictures)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        return self.pictures.pixels(index)

    def key(self, index: int) -> str:
        return self.pictures.key(index)

    def captions(self, index: int) -> tuple[str, ...]:
        said = self.texts or self.pictures.captions(index) or ("",)
        return tuple(with_trigger(text, self.trigger) for text in said)

    def mask(self, index: int) -> NDArray[np.uint8] | None:
        return self.pictures.mask(index)

    def name(self, index: int) -> str:
        return self.pictures.name(index)


class Varied:
    """Pictures and changed versions of them: version 0 of each is the picture itself, and they stand side by side."""

    def __init__(self, pictures: Pictures, augmentations: Augmentations, versions: int) -> None:
        self._pictures, self._versions, self._augmenter = pictures, versions, Augmenter(augmentations)
        self._told = augmentations.model_dump_json()

    @property
    def fingerprint(self) -> str:
        """That of the pictures, with the list of changes."""
        return combined_key((self._pictures.fingerprint, self._told, self._versions))

    def __len__(self) -> int:
        return len(self._pictures) * self._versions

    def pixels(self, index: int) -> NDArray[np.uint8]:
        return self._drawn(index)[0]

    def key(self, index: int) -> str:
        picture, version = divmod(index, self._versions)
        own = self._pictures.key(picture)
        return combined_key((own, self._told, version)) if version else own

    def captions(self, index: int) -> tuple[str, ...]:
        return self._pictures.captions(index // self._versions)

    def mask(self, index: int) -> NDArray[np.uint8] | None:
        return self._drawn(index)[1]

    def name(self, index: int) -> str:
        picture, version = divmod(index, self._versions)
        return self._pictures.name(picture) + (f", version {version}" if version else "")

    def _drawn(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        picture, version = divmod(index, self._versions)
        pixels, mask = self._pictures.pixels(picture), self._pictures.mask(picture)
        if not version:
            return pixels, mask
        return self._augmenter.draw(pixels, mask, self._pictures.key(picture), version)


@dataclass(frozen=True)
class Drawn:
    """Pictures in memory, (H, W, 3) uint8 each, with the captions of each."""

    arrays: Sequence[NDArray[np.uint8]]
    said: Sequence[tuple[str, ...]]
    called: str = "picture"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of pixels and captions."""
        digest = hashlib.sha256(repr(tuple(self.said)).encode())
        for array in self.arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.arrays)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        return self.arrays[index]

    def key(self, index: int) -> str:
        array = np.ascontiguousarray(self.arrays[index])
        return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()

    def captions(self, index: int) -> tuple[str, ...]:
        return self.said[index]

    def mask(self, index: int) -> None:
        return None

    def name(self, index: int) -> str:
        return f"{self.called} {index}"


def stacked(pictures: Pictures) -> NDArray[np.uint8]:
    """All pictures as (N, H, W, 3).

    Raises:
        InputError: they are not of one size.
    """
    arrays = [pictures.pixels(index) for index in range(len(pictures))]
    if len({array.shape for array in arrays}) > 1:
        raise InputError("this objective needs pictures of one size: leave data.buckets out")
    return np.stack(arrays) if arrays else np.empty((0, 0, 0, 3), np.uint8)


def same_size(latents: Sequence[Tensor]) -> Tensor:
    """Latents (C, h, w) of N pictures as (N, C, h, w).

    Raises:
        InputError: they are not of one size.
    """
    if len({entry.shape for entry in latents}) > 1:
        raise InputError("this objective needs pictures of one size: leave data.buckets out")
    return torch.stack(list(latents))


@dataclass(frozen=True)
class Lesson:
    """One picture as latents (C, h, w), its mask (1, h, w) in [0, 1] or None, its captions and its name.

    `edits` is what happens to its captions each time it is seen.
    """

    latents: Tensor
    mask: Tensor | None
    captions: tuple[str, ...]
    name: str
    edits: CaptionEdits = AS_WRITTEN

    def to(self, device: torch.device) -> Lesson:
        """The same on a device."""
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, latents=self.latents.to(device), mask=mask)

    def text(self, lot: float) -> str:
        """The caption that falls to a lot in [0, 1)."""
        return self.edits.chosen(self.captions, self.name, lot)


def encoded(pictures: Pictures, model: LoadedModel, folder: Path, edits: CaptionEdits = AS_WRITTEN) -> list[Lesson]:
    """The lessons of pictures; their latents are kept in a folder (`rein.data.features`)."""
    lessons = []
    for index, latents in enumerate(picture_latents(pictures, model.autoencoder, model.spec, folder)):
        mask = pictures.mask(index)
        shown = None if mask is None else _shrunk(mask, latents)
        lessons.append(Lesson(latents, shown, pictures.captions(index) or ("",), pictures.name(index), edits))
    return lessons


def _shrunk(mask: NDArray[np.uint8], latents: Tensor) -> Tensor:
    levels = torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None] / 255.0
    small: Tensor = functional.interpolate(levels, latents.shape[-2:], mode="area")[0]
    return small
