"""What latents look like, for a look while a picture is drawn: linear colours, or a small autoencoder.

A latent pixel's colour is nearly a linear function of its channels. Its weights are found once for each autoencoder by
least squares; the embedded model has its own stored beside it, found on the art that it was trained on. What is shown
is no decoding: textures and edges finer than a latent pixel are missing.

Latents are (C, h, w) and scaled, as the denoiser has them: `GenerationStep.denoised` is what a preview shows best.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from rein.devices import seeded_generator
from rein.formats.checkpoint import LoadedModel
from rein.formats.folder import AUTOENCODER_FILE
from rein.formats.previews import read_preview_colours
from rein.formats.single import build_autoencoder
from rein.images import tensor_to_pil
from rein.nn.autoencoder import Autoencoder

Preview = Callable[[Tensor], Image.Image]
"""Makes a picture of scaled latents (C, h, w), quickly."""

_LATENT_SIDE, _PICTURES = 24, 4
_RIDGE = 1e-4
"""Weight of the least-squares penalty, as a share of the mean variance: it leaves channels alone that hardly vary."""


@dataclass(frozen=True, eq=False)
class Colours:
    """Linear colours of an autoencoder's unscaled latents: `weights` (C + 1, 3) float32, the last row the constant."""

    weights: Tensor

    def pixels(self, latents: Tensor) -> Tensor:
        """Unscaled latents (B, C, h, w) as pixels (B, 3, h, w), about [-1, 1], float32."""
        weights = self.weights.to(latents.device)
        slopes = torch.einsum("bchw,cd->bdhw", latents.float(), weights[:-1])
        return slopes + weights[-1].reshape(1, 3, 1, 1)


def fit_colours(latents: Tensor, pixels: Tensor) -> Colours:
    """The colours that come nearest, in the sense of least squares, to the mean of the pixels that a latent stands for.

    Args:
        latents: (B, C, h, w), unscaled.
        pixels: (B, 3, H, W) of what they stand for.
    """
    channels, height, width = latents.shape[1:]
    small = functional.interpolate(pixels.float(), (height, width), mode="area")
    wanted = small.movedim(1, -1).reshape(-1, 3).cpu().double()
    seen = latents.movedim(1, -1).reshape(-1, channels).cpu().double()
    mean, level = seen.mean(dim=0), wanted.mean(dim=0)
    centred = seen - mean
    square = centred.T @ centred / len(seen)
    penalty = _RIDGE * square.diagonal().mean().clamp(min=1e-12) * torch.eye(channels, dtype=torch.float64)
    slopes = torch.linalg.solve(square + penalty, centred.T @ (wanted - level) / len(seen))
    return Colours(torch.cat([slopes, (level - mean @ slopes)[None]]).float())


_FOUND: weakref.WeakKeyDictionary[Autoencoder, Colours] = weakref.WeakKeyDictionary()


def colours_of(parts: LoadedModel) -> Colours:
    """The colours of a model's latents: stored with it, else found from pictures made here and kept while it lives.

    Raises:
        DamagedFileError: those that are stored with it cannot be read.
    """
    known = _FOUND.get(parts.autoencoder)
    if known is None:
        stored = None
        if AUTOENCODER_FILE in parts.files:
            stored = read_preview_colours(parts.files[AUTOENCODER_FILE].parent, parts.spec.autoencoder.latent_channels)
        known = colours_by_trial(parts.autoencoder) if stored is None else Colours(torch.tensor(stored))
        _FOUND[parts.autoencoder] = known
    return known


@torch.inference_mode()
def colours_by_trial(autoencoder: Autoencoder) -> Colours:
    """Colours found by putting made-up pictures through an autoencoder and looking what comes out."""
    weight = next(autoencoder.parameters())
    pictures = made_up_pictures(_LATENT_SIDE * autoencoder.config.downscale, _PICTURES)
    latents, decoded = [], []
    for picture in pictures.split(1):
        latents.append(autoencoder.encode(picture.to(weight.device, weight.dtype)).mode())
        decoded.append(autoencoder.decode(latents[-1]).float().clamp(-1, 1))
    return fit_colours(torch.cat(latents), torch.cat(decoded))


def made_up_pictures(side: int, count: int) -> Tensor:
    """Pictures (B, 3, side, side) in [-1, 1], the same each time: clouds on every other one, flat patches on the rest.

    Most of what differs is light and dark, as in photographs and drawings; patches are often all black or all white.
    """
    generator = seeded_generator(0)

    def cells(number: int, mode: str, strength: float) -> Tensor:
        light = torch.randn(1, 1, number, number, generator=generator) * 2
        drawn = (light + torch.randn(1, 3, number, number, generator=generator)) * strength
        return functional.interpolate(drawn, (side, side), mode=mode)

    pictures = []
    for place in range(count):
        clouds = place % 2 == 0
        layers = [cells(number, "bicubic", 0.4) for number in (2, 4, 8, 16)] if clouds else [cells(12, "nearest", 1.0)]
        pictures.append(torch.stack(layers).sum(dim=0).tanh())
    return torch.cat(pictures)


def preview_of(parts: LoadedModel, autoencoder: Path | None = None) -> Preview:
    """The way to look at a model's latents: by linear colours, or by the decoder of a file such as a TAESD.

    Raises:
        InputError: the file has no autoencoder for these latents.
        DamagedFileError: it cannot be read.
    """
    return _linear(parts) if autoencoder is None else _decoded(parts, autoencoder)


def _linear(parts: LoadedModel) -> Preview:
    colours, spec = colours_of(parts), parts.spec

    @torch.inference_mode()
    def preview(latents: Tensor) -> Image.Image:
        return _picture(colours.pixels(latents[None].float() / spec.latent_scale + spec.latent_shift))

    return preview


def _decoded(parts: LoadedModel, path: Path) -> Preview:
    small, spec = build_autoencoder(path, parts.spec, parts.device, parts.dtype), parts.spec
    scale = spec.latent_scale if small.latent_scale is None else small.latent_scale
    shift = spec.latent_shift if small.latent_shift is None else small.latent_shift

    @torch.inference_mode()
    def preview(latents: Tensor) -> Image.Image:
        return _picture(small.network.decode((latents[None].float() / scale + shift).to(parts.dtype)))

    return preview


def _picture(pixels: Tensor) -> Image.Image:
    """A look never fails: what is not a number is shown grey."""
    return tensor_to_pil(torch.nan_to_num(pixels[0].float(), nan=0.0))


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Previews of one size in a row."""
    width, height = images[0].size
    row = Image.new("RGB", (width * len(images), height))
    for place, image in enumerate(images):
        row.paste(image, (place * width, 0))
    return row
