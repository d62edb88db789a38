"""Pictures made into latents: the way back from `rein.pipeline.decode`."""

from __future__ import annotations

import copy

import torch
from PIL import Image
from torch import Tensor

from rein.errors import NonFiniteError
from rein.formats.checkpoint import LoadedModel
from rein.images import pil_to_tensor
from rein.nn.autoencoder import Autoencoder
from rein.nn.seamless import Axes, seamless
from rein.pipeline.tiled import encode_tiled


@torch.inference_mode()
def encode_pixels(parts: LoadedModel, pixels: Tensor, tile: int | None = None, axes: Axes = "none") -> Tensor:
    """Scaled latents (B, C, h, w) float32 of pictures (B, 3, H, W) in [-1, 1], sides in whole latent pixels.

    They are the means: the autoencoder's own noise, far below what is visible, is left out, so that the same picture
    gives the same latents. An autoencoder in half precision that overflows is asked again in float32.

    Args:
        tile: side in pixels of the parts that are encoded one by one; None encodes all at once.
        axes: along which the picture goes on at its other side.

    Raises:
        NonFiniteError: the latents are NaN or infinite in float32 too.
    """
    spec = parts.spec
    latents = _means(parts.autoencoder, pixels.to(parts.device, parts.dtype), tile, axes)
    if parts.dtype != torch.float32 and not bool(torch.isfinite(latents).all()):
        latents = _means(copy.deepcopy(parts.autoencoder).float(), pixels.to(parts.device).float(), tile, axes)
    if not bool(torch.isfinite(latents).all()):
        raise NonFiniteError("the autoencoder gave NaN or infinity: its weights are damaged or of another model")
    return (latents.float() - spec.latent_shift) * spec.latent_scale


def encode_picture(parts: LoadedModel, picture: Image.Image, tile: int | None = None, axes: Axes = "none") -> Tensor:
    """Scaled latents (1, C, h, w) float32 of a picture; see `encode_pixels`."""
    return encode_pixels(parts, pil_to_tensor(picture)[None], tile, axes)


def _means(autoencoder: Autoencoder, pixels: Tensor, tile: int | None, axes: Axes) -> Tensor:
    if tile is not None:
        return encode_tiled(autoencoder, pixels, tile, wrap=axes)
    with seamless(autoencoder, axes):
        return autoencoder.encode(pixels.contiguous(memory_format=torch.channels_last)).mode()
