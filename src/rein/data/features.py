"""Latents of pictures and what text towers make of captions, cached: what training a denoiser reads, made once.

They hold as long as autoencoder and towers are not trained themselves, and pictures and captions do not change from one
pass to the next. Augmented pictures are made beforehand for that reason: `rein data prepare --augment`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rein.data.feature_cache import FeatureCache, combined_key, module_hash
from rein.data.pictures import PictureSet
from rein.formats.checkpoint import LoadedModel
from rein.pipeline.encode import encode_pixels
from rein.text.encode import Conditioning, encode_texts

Told = Callable[[int, int], None]


def picture_latents(
    pictures: PictureSet, parts: LoadedModel, folder: Path, batch: int = 8, told: Told | None = None
) -> list[Tensor]:
    """Scaled latents (C, h, w) float32 of every picture of a set, without the autoencoder's noise.

    Args:
        folder: of the cache.
        batch: pictures that are encoded together, where they are of one size.
        told: called with how many of how many that were missing are made.

    Raises:
        NonFiniteError: the autoencoder gives NaN or infinity.
        OutputError: the folder cannot be written.
    """
    spec = parts.spec
    settings = (spec.latent_scale, spec.latent_shift, str(parts.dtype))
    cache = FeatureCache(folder, "latents", module_hash(parts.autoencoder, also=repr(settings)))

    def make(places: list[int]) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        for size in {pictures.bucket(place) for place in places}:
            alike = [place for place in places if pictures.bucket(place) == size]
            found |= zip(alike, encode_pixels(parts, _batch(pictures, alike)), strict=True)
        return [found[place] for place in places]

    return cache.get([pictures.key(index) for index in range(len(pictures))], make, batch, told)


def text_features(
    texts: Sequence[str], parts: LoadedModel, folder: Path, windows: int = 1, told: Told | None = None
) -> list[Conditioning]:
    """What guides the U-Net for each text: context (1, T, D) and, of families that have it, pooled text (1, P).

    Args:
        folder: of the cache.
        windows: of every text; longer ones get as many as they need.

    Raises:
        InputError: a text that is too long.
        OutputError: the folder cannot be written.
    """
    vocabulary = combined_key((tokenizer.vocabulary_size, tokenizer.end) for tokenizer in parts.tokenizers)
    maker = module_hash(*parts.towers, also=f"{vocabulary} {windows} {parts.dtype}")
    keys = [combined_key((text,)) for text in texts]
    made: dict[int, Conditioning] = {}

    def words(place: int) -> Conditioning:
        if place not in made:
            made[place] = encode_texts([texts[place]], parts.towers, parts.tokenizers, windows)
        return made[place]

    contexts = FeatureCache(folder, "context", maker).get(keys, lambda p: [words(i).context[0] for i in p], told=told)
    pooled = FeatureCache(folder, "pooled", maker).get(keys, lambda p: [_pooled(words(i)) for i in p])
    return [
        Conditioning(context[None], vector[None] if vector.numel() else None)
        for context, vector in zip(contexts, pooled, strict=True)
    ]


def _pooled(words: Conditioning) -> Tensor:
    return torch.zeros(0) if words.pooled is None else words.pooled[0]


def _batch(pictures: PictureSet, places: Sequence[int]) -> Tensor:
    """Pictures of one size as (B, 3, H, W) in [-1, 1]."""
    stacked = np.stack([pictures.pixels(place) for place in places])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1.0
