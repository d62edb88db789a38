"""Captioned latents with what further input channels show of each picture, computed once and kept.

Shapes: N pictures, V ways to show each, E further channels (0 for a model that sees noisy latents alone), C x h x w
latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rein.data.caption_edits import AS_WRITTEN, CaptionEdits
from rein.data.depth import DepthDataset
from rein.data.feature_cache import FeatureCache, combined_key
from rein.data.features import AT_ONCE, encode_pictures, encoder_hash
from rein.formats.checkpoint import LoadedModel
from rein.pipeline.depth import depth_channel, estimate_depth
from rein.text.encode import Conditioning
from rein.training.lessons import Pictures, stacked

_MASKS = 2
"""Masks of each picture in the data of an inpainting form."""

Part = Callable[[list[int]], tuple[Tensor, Tensor]]
"""Numbers of B pictures -> their latents (B, C, h, w) and what is shown beside them (B, V, E, h, w)."""


@dataclass(frozen=True)
class ShownSet:
    """Scaled latents (N, C, h, w), what is shown beside them (N, V, E, h, w), and several captions of each picture.

    `edits` is what happens to captions each time their picture is seen; `words` what the text towers make of them,
    where that is kept.
    """

    latents: Tensor
    extra: Tensor
    captions: Sequence[tuple[str, ...]]
    edits: CaptionEdits = AS_WRITTEN
    words: Mapping[str, Conditioning] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.latents)

    def to(self, device: torch.device) -> ShownSet:
        """The same set on a device."""
        return replace(self, latents=self.latents.to(device), extra=self.extra.to(device))

    def text(self, index: int, lot: float) -> str:
        """The caption of a picture that falls to a lot in [0, 1)."""
        return self.edits.chosen(self.captions[index], str(index), lot)


def plain_set(latents: Tensor, captions: Sequence[tuple[str, ...]]) -> ShownSet:
    """Latents (N, C, h, w) with nothing beside them."""
    return ShownSet(latents, latents.new_zeros(len(latents), 1, 0, *latents.shape[-2:]), captions)


def depth_set(dataset: DepthDataset, count: int, base: LoadedModel, folder: Path) -> ShownSet:
    """The first `count` pictures of a data set with their maps, as a depth form of `base` sees them."""
    unit = base.spec.autoencoder.downscale

    def part(places: list[int]) -> tuple[Tensor, Tensor]:
        samples = [dataset.sample(index) for index in places]
        maps = _joined([entry.maps for entry in samples]).float()
        size = maps.shape[-2] // unit, maps.shape[-1] // unit
        shown = depth_channel(maps.flatten(0, 1)[:, None], size).unflatten(0, maps.shape[:2])
        return encode_pictures(base.autoencoder, base.spec, _joined([entry.pixels for entry in samples])), shown

    keys = [combined_key((dataset.fingerprint, index)) for index in range(count)]
    cache = FeatureCache(folder, "depth", encoder_hash(base.autoencoder, base.spec))
    latents, extra = kept(cache, keys, part, (base.spec.autoencoder.latent_channels, 1))
    return ShownSet(latents, extra, [dataset.label(index).captions for index in range(count)])


def estimated_set(pictures: Pictures, base: LoadedModel, folder: Path, depth_model: Path) -> ShownSet:
    """Pictures of one size with the depth that a model estimates, as a depth form of `base` sees them.

    Raises:
        InputError: pictures of several sizes, no such depth model.
        DamagedFileError, MissingExtraError: as `rein.pipeline.depth.estimate_depth`.
    """
    unit, arrays = base.spec.autoencoder.downscale, stacked(pictures)

    def part(places: list[int]) -> tuple[Tensor, Tensor]:
        chosen = arrays[places]
        near = [estimate_depth(str(depth_model), Image.fromarray(pixels)) for pixels in chosen]
        size = chosen.shape[1] // unit, chosen.shape[2] // unit
        shown = depth_channel(torch.from_numpy(np.stack(near))[:, None], size)[:, None]
        return encode_pictures(base.autoencoder, base.spec, torch.from_numpy(chosen)), shown

    keys = [combined_key((pictures.key(index), str(depth_model))) for index in range(len(pictures))]
    cache = FeatureCache(folder, "depth", encoder_hash(base.autoencoder, base.spec))
    latents, extra = kept(cache, keys, part, (base.spec.autoencoder.latent_channels, 1))
    return ShownSet(latents, extra, [pictures.captions(index) or ("",) for index in range(len(pictures))])


def inpainting_set(pictures: Pictures, base: LoadedModel, folder: Path) -> ShownSet:
    """Pictures of one size with masks drawn by lot and what is round them, as an inpainting form of `base` sees them.

    Raises:
        InputError: pictures of several sizes.
    """
    unit, spec, arrays = base.spec.autoencoder.downscale, base.spec, stacked(pictures)

    def part(places: list[int]) -> tuple[Tensor, Tensor]:
        chosen = arrays[places]
        height, width = chosen.shape[1] // unit, chosen.shape[2] // unit
        latents, shown = encode_pictures(base.autoencoder, spec, torch.from_numpy(chosen)), []
        for variant in range(_MASKS):
            masks = np.stack([hole(height, width, index, variant) for index in places])
            large = masks.repeat(unit, 1).repeat(unit, 2)[..., None]
            around = np.where(large, np.uint8(128), chosen)  # 128 is the grey that the pipeline shows in a mask's place
            seen = encode_pictures(base.autoencoder, spec, torch.from_numpy(around))
            shown.append(torch.cat([torch.from_numpy(masks)[:, None].to(seen), seen], dim=1))
        return latents, torch.stack(shown, dim=1)

    keys = [combined_key((pictures.key(index), index, _MASKS)) for index in range(len(pictures))]
    cache = FeatureCache(folder, "inpainting", encoder_hash(base.autoencoder, spec))
    channels = spec.autoencoder.latent_channels
    latents, extra = kept(cache, keys, part, (channels, 1 + channels))
    return ShownSet(latents, extra, [pictures.captions(index) or ("",) for index in range(len(pictures))])


def hole(height: int, width: int, index: int, variant: int) -> NDArray[np.bool_]:
    """Where a picture is to be painted, (h, w): one or two rectangles of a tenth to nine tenths of each side."""
    random = np.random.default_rng((index, variant))
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(random.integers(1, 3)):
        down, across = (max(1, round(side * random.uniform(0.1, 0.9))) for side in (height, width))
        top, left = (int(random.integers(0, free + 1)) for free in (height - down, width - across))
        mask[top : top + down, left : left + across] = True
    return mask


def kept(cache: FeatureCache, keys: Sequence[str], part: Part, channels: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Latents (N, C, h, w) and what is shown beside them (N, V, E, h, w), float16, each picture's together in a cache.

    `channels` are C and E.
    """

    def made(places: list[int]) -> list[Tensor]:
        latents, extra = part(places)
        return list(torch.cat([latents, extra.flatten(1, 2)], dim=1).half())

    found = torch.stack(cache.get(keys, made, AT_ONCE))
    return found[:, : channels[0]], found[:, channels[0] :].unflatten(1, (-1, channels[1]))


def _joined(arrays: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Arrays of one shape as one tensor."""
    return torch.from_numpy(np.stack(arrays))
