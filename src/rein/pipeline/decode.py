"""Latents made into pictures."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from rein.errors import NonFiniteError
from rein.formats.checkpoint import LoadedModel
from rein.images import tensor_to_pil


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture, and notes on what had to be done otherwise than asked."""

    image: Image.Image
    notes: tuple[str, ...] = ()


@torch.inference_mode()
def decode_latents(parts: LoadedModel, latents: Tensor) -> list[Decoded]:
    """Pictures of scaled latents (B, C, h, w), one by one.

    An autoencoder in half precision that overflows (SDXL's does in float16) is asked again in float32.

    Raises:
        NonFiniteError: the pixels are NaN or infinite in float32 too.
    """
    unscaled = latents / parts.spec.latent_scale + parts.spec.latent_shift
    return [_decoded(parts, picture) for picture in unscaled.split(1)]


def _decoded(parts: LoadedModel, latents: Tensor) -> Decoded:
    pixels = parts.autoencoder.decode(latents.to(parts.dtype))[0]
    if bool(torch.isfinite(pixels).all()):
        return Decoded(tensor_to_pil(pixels))
    if parts.dtype != torch.float32:
        pixels = copy.deepcopy(parts.autoencoder).float().decode(latents)[0]
        if bool(torch.isfinite(pixels).all()):
            name = str(parts.dtype).removeprefix("torch.")
            return Decoded(tensor_to_pil(pixels), (f"the autoencoder overflowed in {name} and decoded in float32",))
    raise NonFiniteError("the autoencoder gave NaN or infinity: its weights are damaged or of another model")
