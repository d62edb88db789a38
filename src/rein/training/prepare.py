"""What a recipe's stages need before they start: pictures, captions, vocabulary, specification, latents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rein.data.cache import composed
from rein.data.compose import ArtDataset
from rein.data.options import ArtOptions, Mixture
from rein.errors import InputError, nearest
from rein.formats.tensors import read_header, read_tensors, write_tensors
from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import ModelSpec, from_dict, to_dict, variant
from rein.text.tokenizer import Tokenizer, train_vocabulary
from rein.training.diffusion import LatentSet, SamplePrompts, encode_pictures
from rein.training.recipe import DataTable, ModelTable

SAMPLE_PICTURES = 24


@dataclass(frozen=True)
class Art:
    """The composed pictures of both splits, (N, H, W, 3) uint8, and the data sets that describe them."""

    train: ArtDataset
    validation: ArtDataset
    pictures: NDArray[np.uint8]
    held_out: NDArray[np.uint8]

    def captions(self, split: str) -> list[tuple[str, ...]]:
        """Several captions of each picture, in the order of the pictures."""
        dataset, pictures = (self.train, self.pictures) if split == "train" else (self.validation, self.held_out)
        return [dataset.label(index).captions for index in range(len(pictures))]


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
    art: Art, split: str, autoencoder: Autoencoder, spec: ModelSpec, tokenizer: Tokenizer, folder: Path
) -> LatentSet:
    """Latents and token ids of a split; latents are kept in `folder`, and made again for other pictures or weights."""
    dataset, pictures = (art.train, art.pictures) if split == "train" else (art.validation, art.held_out)
    length = spec.towers[0].context_length
    groups = art.captions(split)
    ids = tokenizer.batch([text for group in groups for text in group], length).to(torch.int32)
    captions = ids.view(len(groups), -1, length).long()
    key = hashlib.sha256(f"{dataset.fingerprint}/{len(pictures)}/{_weights_hash(autoencoder)}".encode()).hexdigest()
    path = folder / f"latents-{split}.safetensors"
    if not (path.exists() and read_header(path).metadata.get("key") == key):
        parts = [encode_pictures(autoencoder, spec, _tensor(pictures[i : i + 64])) for i in range(0, len(pictures), 64)]
        write_tensors(path, {"latents": torch.cat(parts)}, {"key": key})
    return LatentSet(read_tensors(path)["latents"], captions)


def sample_prompts(art: Art, tokenizer: Tokenizer, length: int) -> SamplePrompts:
    """The first captions of trained and of held-out pictures, for the sheets drawn while training."""
    half = SAMPLE_PICTURES // 2
    texts = [dataset.label(i).captions[0] for dataset in (art.train, art.validation) for i in range(half)]
    return SamplePrompts(tokenizer.batch(texts, length), texts)


def _weights_hash(autoencoder: Autoencoder) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _tensor(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pictures.copy())  # a map of a file is read-only, which PyTorch does not know
