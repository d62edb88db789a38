"""Pictures and what is said of them, as a training reads them: raw, and encoded once into latents that are kept."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rein.data.augment import Augmentations, Augmenter
from rein.data.feature_cache import combined_key, kept_tensors, module_hash
from rein.errors import InputError
from rein.formats.checkpoint import LoadedModel
from rein.training.diffusion import encode_pictures

_AT_ONCE = 16


class Pictures(Protocol):
    """Captioned pictures by number, from 0."""

    @property
    def fingerprint(self) -> str:
        """The same for two sets exactly when all pictures and captions are."""
        ...

    def __len__(self) -> int: ...

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """The picture (H, W, 3), sRGB."""
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
    """Pictures with captions other than their own, the same for all of them."""

    pictures: Pictures
    texts: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """That of the pictures, with the captions."""
        return hashlib.sha256(repr((self.pictures.fingerprint, self.texts)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.pictures)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        return self.pictures.pixels(index)

    def captions(self, index: int) -> tuple[str, ...]:
        return self.texts

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
        return self._augmenter.draw(pixels, mask, f"{picture}/{self._pictures.name(picture)}", version)


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


@dataclass(frozen=True)
class Lesson:
    """One picture as latents (C, h, w), its mask (1, h, w) in [0, 1] or None, its captions and its name."""

    latents: Tensor
    mask: Tensor | None
    captions: tuple[str, ...]
    name: str

    def to(self, device: torch.device) -> Lesson:
        """The same on a device."""
        mask = None if self.mask is None else self.mask.to(device)
        return Lesson(self.latents.to(device), mask, self.captions, self.name)


def encoded(pictures: Pictures, model: LoadedModel, path: Path) -> list[Lesson]:
    """The lessons of pictures; latents are kept at `path`, and made again for other pictures or another autoencoder."""
    key = combined_key((pictures.fingerprint, module_hash(model.autoencoder)))
    kept = _unpacked(kept_tensors(path, key, lambda: _packed(_latents(pictures, model))))
    lessons = []
    for index, latents in enumerate(kept):
        mask = pictures.mask(index)
        shown = None if mask is None else _shrunk(mask, latents)
        lessons.append(Lesson(latents, shown, pictures.captions(index) or ("",), pictures.name(index)))
    return lessons


def _latents(pictures: Pictures, model: LoadedModel) -> list[Tensor]:
    """Latents of each picture, encoded together where neighbours are of one size."""
    made: list[Tensor] = []
    waiting: list[NDArray[np.uint8]] = []
    for index in range(len(pictures)):
        pixels = pictures.pixels(index)
        if waiting and (len(waiting) == _AT_ONCE or waiting[0].shape != pixels.shape):
            made += _encode(waiting, model)
            waiting.clear()
        waiting.append(pixels)
    return made + _encode(waiting, model)


def _encode(waiting: list[NDArray[np.uint8]], model: LoadedModel) -> list[Tensor]:
    if not waiting:
        return []
    return list(encode_pictures(model.autoencoder, model.spec, torch.from_numpy(np.stack(waiting))))


def _packed(latents: Sequence[Tensor]) -> dict[str, Tensor]:
    """Latents of one shape as one tensor, beside their numbers: a file holds thousands of tensors, not millions."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, entry in enumerate(latents):
        groups[tuple(entry.shape)].append(number)
    packed: dict[str, Tensor] = {}
    for place, numbers in enumerate(groups.values()):
        packed[f"{place}.latents"] = torch.stack([latents[number] for number in numbers])
        packed[f"{place}.numbers"] = torch.tensor(numbers)
    return packed


def _unpacked(packed: Mapping[str, Tensor]) -> list[Tensor]:
    """What `_packed` was given, in memory of its own."""
    found: dict[int, Tensor] = {}
    for place in range(len(packed) // 2):
        found |= zip(packed[f"{place}.numbers"].tolist(), packed[f"{place}.latents"].clone(), strict=True)
    return [found[number] for number in range(len(found))]


def _shrunk(mask: NDArray[np.uint8], latents: Tensor) -> Tensor:
    levels = torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None] / 255.0
    small: Tensor = functional.interpolate(levels, latents.shape[-2:], mode="area")[0]
    return small
