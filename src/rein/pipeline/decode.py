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
from rein.nn.autoencoder import Autoencoder
from rein.nn.seamless import Axes, seamless
from rein.pipeline.doctor import first_bad
from rein.pipeline.tiled import decode_tiled

SMALLER_TILES = (1024, 512, 256)
"""Sides in pixels of the parts that are tried, one after the other, where there is no memory for the whole."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture, and notes on what had to be done otherwise than asked."""

    image: Image.Image
    notes: tuple[str, ...] = ()


@torch.inference_mode()
def decode_latents(parts: LoadedModel, latents: Tensor, tile: int | None = None, axes: Axes = "none") -> list[Decoded]:
    """Pictures of scaled latents (B, C, h, w), one by one.

    An autoencoder in half precision that overflows (SDXL's does in float16) is asked again in float32, and one that
    finds no memory for the whole picture is asked for parts of it.

    Args:
        tile: side in pixels of the parts in which the autoencoder works; None is all at once where it fits.
        axes: along which the picture goes on at its other side. Do not also make the autoencoder itself `seamless`:
            parts of a picture must not go on at their own other side.

    Raises:
        NonFiniteError: the pixels are NaN or infinite in float32 too.
    """
    unscaled = latents / parts.spec.latent_scale + parts.spec.latent_shift
    return [_decoded(parts, picture, tile, axes) for picture in unscaled.split(1)]


def _decoded(parts: LoadedModel, latents: Tensor, tile: int | None, axes: Axes) -> Decoded:
    pixels, notes = _pixels(parts.autoencoder, latents.to(parts.dtype), tile, axes)
    if bool(torch.isfinite(pixels).all()):
        return Decoded(tensor_to_pil(pixels), notes)
    if parts.dtype != torch.float32:
        pixels, notes = _pixels(copy.deepcopy(parts.autoencoder).float(), latents, tile, axes)
        if bool(torch.isfinite(pixels).all()):
            name, narrow = str(parts.dtype).removeprefix("torch."), latents.to(parts.dtype)
            where = first_bad(parts.autoencoder, lambda: _pixels(parts.autoencoder, narrow, tile, axes))
            told = f"the autoencoder overflowed in {name} at {where} and decoded in float32"
            return Decoded(tensor_to_pil(pixels), (told, *notes))
    raise NonFiniteError("the autoencoder gave NaN or infinity: its weights are damaged or of another model")


def _pixels(autoencoder: Autoencoder, latents: Tensor, tile: int | None, axes: Axes) -> tuple[Tensor, tuple[str, ...]]:
    """Pixels (3, H, W) of one picture, and what had to be done for want of memory."""
    whole = max(latents.shape[-2:]) * autoencoder.config.downscale
    ways = [tile] if tile is not None else [None, *(side for side in SMALLER_TILES if side < whole)]
    for way in ways:
        try:
            pixels = _asked(autoencoder, latents, way, axes)
        except RuntimeError as error:
            if way == ways[-1] or not is_out_of_memory(error):
                raise
            continue
        told = way != ways[0]
        return pixels, (f"memory was too small for the whole picture: decoded in parts of {way} pixels",) * told
    raise AssertionError("the last way returns or raises")


def _asked(autoencoder: Autoencoder, latents: Tensor, tile: int | None, axes: Axes) -> Tensor:
    if tile is not None:
        return decode_tiled(autoencoder, latents, tile, wrap=axes)[0]
    with seamless(autoencoder, axes):
        return autoencoder.decode(latents)[0]


def is_out_of_memory(error: Exception) -> bool:
    """Whether PyTorch found no memory: it has an error of its own for that on GPUs, and on the CPU only a message."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
