"""What a recipe's stages need before they start: pictures, captions, vocabulary, specification, latents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rein.data.cache import composed
from rein.data.compose import ArtDataset
from rein.data.feature_cache import combined_key
from rein.data.features import picture_latents
from rein.data.options import ArtOptions, Mixture
from rein.errors import InputError, nearest
from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import ModelSpec, from_dict, to_dict, variant
from rein.text.tokenizer import Tokenizer, train_vocabulary
from rein.training.diffusion import LatentSet, SamplePrompts
from rein.training.lessons import Pictures, same_size
from rein.training.tables import DataTable, ModelTable

SAMPLE_PICTURES = 24


@dataclass(frozen=True)
class Art:
    """The composed pictures of both splits, (N, H, W, 3) uint8, and the data sets that describe them."""

    train: ArtDataset
    validation: ArtDataset
    pictures: NDArray[np.uint8]
    held_out: NDArray[np.uint8]


@dataclass(frozen=True)
class ArtPictures:
    """Composed pictures of one split (N, H, W, 3), with what their data set says of them."""

    dataset: ArtDataset
    arrays: NDArray[np.uint8]

    @property
    def fingerprint(self) -> str:
        """That of the data set, with how many of its pictures there are."""
        return f"{self.dataset.fingerprint}/{len(self.arrays)}"

    def __len__(self) -> int:
        return len(self.arrays)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self.arrays[index]
        return picture

    def key(self, index: int) -> str:
        return combined_key((self.dataset.fingerprint, index))

    def captions(self, index: int) -> tuple[str, ...]:
        return self.dataset.label(index).captions

    def mask(self, index: int) -> None:
        return None

    def name(self, index: int) -> str:
        return f"{self.dataset.split} picture {index}"


def open_art(table: DataTable) -> Art:
    """Fetch, render and compose the art of a recipe; what was made before is read from the cache folder."""
    try:
        mixture = Mixture(**table.mixture)
    except TypeError:
        known = [entry.name for entry in fields(Mixture)]
        name = next(key for key in table.mixture if key not in known)
        raise InputError(f"data.mixture.{name} is unknown: {nearest(name, known)}") from None
    options = ArtOptions(
        cache_folder=table.cache_folder,
        concept_count=table.concept_count,
        size=table.size,
        seed=table.seed,
        mixture=mixture,
        concepts=table.concepts,
        mirrored=table.mirrored,
    )
    return compose_art(options, table.pictures, table.validation_pictures)


def compose_art(options: ArtOptions, pictures: int, validation_pictures: int) -> Art:
    """Compose so many pictures of each split, on all cores, or read what was composed before."""
    train = ArtDataset(options)
    validation = ArtDataset(options, "validation", train.art)
    processes = os.cpu_count() or 1
    shown = composed(train, pictures, processes)
    return Art(train, validation, shown, composed(validation, validation_pictures, processes))


def make_vocabulary(captions: Sequence[tuple[str, ...]], size: int) -> Tokenizer:
    """A vocabulary learnt from the training captions."""
    return train_vocabulary((text for group in captions for text in group), size)


def make_spec(table: ModelTable, tokenizer: Tokenizer) -> ModelSpec:
    """The specification of a recipe: the variant with its overrides, and the vocabulary's own numbers.

    Raises:
        InputError: an unknown variant, or an override that names no field.
    """
    spec = variant(table.variant)
    values = to_dict(spec)
    for path, value in table.overrides.items():
        _override(values, path, value)
    spec = from_dict(type(spec), values)
    if spec.vocabulary == "own":
        own = {"vocabulary_size": tokenizer.vocabulary_size, "end_token": tokenizer.end, "pad_token": tokenizer.pad}
        spec = replace(spec, towers=tuple(replace(tower, **own) for tower in spec.towers))
    assert is_dataclass(spec)
    return spec


def _override(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        values = values.get(name, {})
    if last not in values:
        raise InputError(f"model.overrides: {path} is unknown: {nearest(last, values)}")
    values[last] = value


def latent_set(
    pictures: Pictures, autoencoder: Autoencoder, spec: ModelSpec, tokenizer: Tokenizer, folder: Path
) -> LatentSet:
    """Latents and token ids of pictures of one size; latents are kept in a folder (`rein.data.features`).

    Raises:
        InputError: the pictures are not of one size.
    """
    length = spec.towers[0].context_length
    groups = [pictures.captions(index) or ("",) for index in range(len(pictures))]
    most = max(len(group) for group in groups)
    texts = [group[number % len(group)] for group in groups for number in range(most)]
    captions = tokenizer.batch(texts, length).view(len(groups), most, length).long()
    return LatentSet(same_size(picture_latents(pictures, autoencoder, spec, folder)), captions)


def sample_prompts(train: Pictures, held_out: Pictures, tokenizer: Tokenizer, length: int) -> SamplePrompts:
    """The first captions of trained and of held-out pictures, for the sheets drawn while training."""
    half = SAMPLE_PICTURES // 2
    texts = [(part.captions(i) or ("",))[0] for part in (train, held_out) for i in range(min(half, len(part)))]
    return SamplePrompts(tokenizer.batch(texts, length), texts)
