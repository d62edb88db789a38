"""Captioned latents with what further input channels show of each picture, computed once and kept.

Shapes: N pictures, V ways to show each, E further channels (0 for a model that sees noisy latents alone), C x h x w
latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rein.data.depth import DepthDataset
from rein.data.feature_cache import kept_tensors
from rein.formats.checkpoint import LoadedModel
from rein.pipeline.depth import depth_channel, estimate_depth
from rein.training.diffusion import encode_pictures
from rein.training.lessons import Pictures, stacked

_AT_ONCE = 64
_MASKS = 2
"""Masks of each picture in the data of an inpainting form."""


@dataclass(frozen=True)
class ShownSet:
    """Scaled latents (N, C, h, w), what is shown beside them (N, V, E, h, w), and several captions of each picture."""

    latents: Tensor
    extra: Tensor
    captions: Sequence[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.latents)

    def to(self, device: torch.device) -> ShownSet:
        """The same set on a device."""
        return ShownSet(self.latents.to(device), self.extra.to(device), self.captions)


def plain_set(latents: Tensor, captions: Sequence[tuple[str, ...]]) -> ShownSet:
    """Latents (N, C, h, w) with nothing beside them."""
    return ShownSet(latents, latents.new_zeros(len(latents), 1, 0, *latents.shape[-2:]), captions)


def depth_set(dataset: DepthDataset, count: int, base: LoadedModel, path: Path) -> ShownSet:
    """The first `count` pictures of a data set with their maps, as a depth form of `base` sees them.

    They are kept at `path`, and made again for other pictures or another model.
    """
    unit = base.spec.autoencoder.downscale

    def part(first: int, last: int) -> tuple[Tensor, Tensor]:
        samples = [dataset.sample(index) for index in range(first, last)]
        maps = _joined([entry.maps for entry in samples]).float()
        size = maps.shape[-2] // unit, maps.shape[-1] // unit
        shown = depth_channel(maps.flatten(0, 1)[:, None], size).unflatten(0, maps.shape[:2])
        return encode_pictures(base.autoencoder, base.spec, _joined([entry.pixels for entry in samples])), shown

    described = f"{dataset.fingerprint}/{count}/{base.weights_hash}"
    latents, extra = kept(path, described, count, part)
    return ShownSet(latents, extra, [dataset.label(index).captions for index in range(count)])


def estimated_set(pictures: Pictures, base: LoadedModel, path: Path, depth_model: Path) -> ShownSet:
    """Pictures of one size with the depth that a model estimates, as a depth form of `base` sees them.

    Raises:
        InputError: pictures of several sizes, no such depth model.
        DamagedFileError, MissingExtraError: as `rein.pipeline.depth.estimate_depth`.
    """
    unit, arrays = base.spec.autoencoder.downscale, stacked(pictures)

    def part(first: int, last: int) -> tuple[Tensor, Tensor]:
        chosen = np.array(arrays[first:last])
        near = [estimate_depth(str(depth_model), Image.fromarray(pixels)) for pixels in chosen]
        size = chosen.shape[1] // unit, chosen.shape[2] // unit
        shown = depth_channel(torch.from_numpy(np.stack(near))[:, None], size)[:, None]
        return encode_pictures(base.autoencoder, base.spec, torch.from_numpy(chosen)), shown

    described = f"{pictures.fingerprint}/{depth_model}/{base.weights_hash}"
    latents, extra = kept(path, described, len(pictures), part)
    return ShownSet(latents, extra, [pictures.captions(index) or ("",) for index in range(len(pictures))])


def inpainting_set(
    pictures: NDArray[np.uint8], captions: Sequence[tuple[str, ...]], base: LoadedModel, path: Path, described: str
) -> ShownSet:
    """Pictures (N, H, W, 3) with masks drawn by lot and what is round them, as an inpainting form of `base` sees them.

    They are kept in `path`; `described` tells these pictures from others.
    """
    unit, spec = base.spec.autoencoder.downscale, base.spec

    def part(first: int, last: int) -> tuple[Tensor, Tensor]:
        chosen = np.array(pictures[first:last])
        height, width = chosen.shape[1] // unit, chosen.shape[2] // unit
        latents, shown = encode_pictures(base.autoencoder, spec, torch.from_numpy(chosen)), []
        for variant in range(_MASKS):
            masks = np.stack([hole(height, width, index, variant) for index in range(first, last)])
            large = masks.repeat(unit, 1).repeat(unit, 2)[..., None]
            around = np.where(large, np.uint8(128), chosen)  # 128 is the grey that the pipeline shows in a mask's place
            seen = encode_pictures(base.autoencoder, spec, torch.from_numpy(around))
            shown.append(torch.cat([torch.from_numpy(masks)[:, None].to(seen), seen], dim=1))
        return latents, torch.stack(shown, dim=1)

    latents, extra = kept(path, f"{described}/{len(pictures)}/{_MASKS}/{base.weights_hash}", len(pictures), part)
    return ShownSet(latents, extra, captions)


def hole(height: int, width: int, index: int, variant: int) -> NDArray[np.bool_]:
    """Where a picture is to be painted, (h, w): one or two rectangles of a tenth to nine tenths of each side."""
    random = np.random.default_rng((index, variant))
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(random.integers(1, 3)):
        down, across = (max(1, round(side * random.uniform(0.1, 0.9))) for side in (height, width))
        top, left = (int(random.integers(0, free + 1)) for free in (height - down, width - across))
        mask[top : top + down, left : left + across] = True
    return mask


def kept(
    path: Path, described: str, count: int, part: Callable[[int, int], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Latents and what is shown beside them, float16, from a file; made anew unless it holds what is `described`."""

    def made() -> dict[str, Tensor]:
        parts = [part(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE)]
        latents, extra = (torch.cat(tensors).half() for tensors in zip(*parts, strict=True))
        return {"latents": latents, "extra": extra}

    path.parent.mkdir(parents=True, exist_ok=True)
    found = kept_tensors(path, hashlib.sha256(described.encode()).hexdigest(), made)
    return found["latents"], found["extra"]


def _joined(arrays: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Arrays of one shape as one tensor."""
    return torch.from_numpy(np.stack(arrays))
