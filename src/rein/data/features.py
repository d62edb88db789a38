"""Latents of pictures and what text towers make of captions, cached: what training a denoiser reads, made once.

They hold as long as autoencoder and towers are not trained themselves, and pictures and captions do not change from one
pass to the next. Augmented pictures are made beforehand for that reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rein.data.feature_cache import FeatureCache, combined_key, module_hash
from rein.formats.checkpoint import LoadedModel
from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import ModelSpec
from rein.text.encode import Conditioning, check_pair, encode_windows, one_window

AT_ONCE = 64
"""Pictures, or texts, that go through a network together; fewer where pictures are large."""
_SMALL = 128 * 128
"""Pixels of a picture that is not."""


class Keyed(Protocol):
    """Pictures by number, each with a hash of its content."""

    def __len__(self) -> int: ...

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """The picture (H, W, 3), sRGB."""
        ...

    def key(self, index: int) -> str:
        """The same for two pictures only if their pixels are."""
        ...


def encode_pictures(autoencoder: Autoencoder, spec: ModelSpec, pixels: Tensor) -> Tensor:
    """Scaled latents in float16 of pictures (B, H, W, 3) uint8: the means, without the autoencoder's own noise."""
    count = max(1, AT_ONCE * _SMALL // prod(pixels.shape[1:3]))
    return torch.cat([_encoded(autoencoder, spec, part) for part in pixels.split(count)])


@torch.no_grad()
def _encoded(autoencoder: Autoencoder, spec: ModelSpec, pixels: Tensor) -> Tensor:
    device = autoencoder.quant_conv.weight.device
    scaled = pixels.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    scaled = scaled.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16):
        latents = autoencoder.encode(scaled).mean
    return ((latents.float() - spec.latent_shift) * spec.latent_scale).half().cpu()


def encoder_hash(autoencoder: Autoencoder, spec: ModelSpec) -> str:
    """Of all that decides the latents of a picture."""
    return module_hash(autoencoder, also=repr((spec.latent_scale, spec.latent_shift)))


def picture_latents(pictures: Keyed, autoencoder: Autoencoder, spec: ModelSpec, folder: Path) -> list[Tensor]:
    """Scaled latents (C, h, w) float16 of every picture, those of one size encoded together.

    Args:
        folder: of the cache.

    Raises:
        OutputError: the folder cannot be written.
    """

    def make(places: list[int]) -> list[Tensor]:
        shown = {place: pictures.pixels(place) for place in places}
        found: dict[int, Tensor] = {}
        for shape in {pixels.shape for pixels in shown.values()}:
            alike = [place for place in places if shown[place].shape == shape]
            stacked = torch.from_numpy(np.stack([shown[place] for place in alike]))
            found |= zip(alike, encode_pictures(autoencoder, spec, stacked), strict=True)
        return [found[place] for place in places]

    cache = FeatureCache(folder, "latents", encoder_hash(autoencoder, spec))
    return cache.get([pictures.key(index) for index in range(len(pictures))], make, AT_ONCE)


def text_features(texts: Sequence[str], parts: LoadedModel, folder: Path) -> dict[str, Conditioning]:
    """What guides the U-Net for each text, cut to one window: context (1, T, D) and pooled text (1, P).

    Args:
        folder: of the cache.

    Raises:
        InputError: tower and tokenizer do not belong together.
        OutputError: the folder cannot be written.
    """
    for tower, tokenizer in zip(parts.towers, parts.tokenizers, strict=True):
        check_pair(tower, tokenizer)
    windows = [one_window(text, parts.towers, parts.tokenizers) for text in texts]

    def make(places: list[int]) -> list[Tensor]:
        words = encode_windows([windows[place] for place in places], parts.towers)
        assert words.pooled is not None
        return list(torch.cat([words.context.flatten(1), words.pooled], dim=1))

    # The ids decide, so that another vocabulary never finds these.
    cache = FeatureCache(folder, "texts", module_hash(*parts.towers))
    flat = cache.get([combined_key(ids) for ids in windows], make)
    length = parts.towers[0].config.context_length
    wide = length * sum(tower.config.width for tower in parts.towers)
    return {
        text: Conditioning(row[None, :wide].unflatten(1, (length, -1)), row[None, wide:])
        for text, row in zip(texts, flat, strict=True)
    }
