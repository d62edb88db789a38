"""Windows cut out of latents at random, another each time a picture is seen, with what the U-Net is told of them.

A part of a picture is taught as a part: families that take sizes hear how large the whole is and where the window lies
(Podell et al. 2023, section 2.2). Windows of pixels are made beforehand instead, as versions of pictures.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rein.errors import InputError
from rein.nn.specs import ModelSpec


def window_side(pixels: int, spec: ModelSpec) -> int:
    """The side of a window in latent pixels.

    Raises:
        InputError: the U-Net cannot halve it as often as it has levels.
    """
    unit = spec.autoencoder.downscale * 2 ** (len(spec.unet.channels) - 1)
    if pixels % unit:
        raise InputError(f"crop_size is {pixels}: with model {spec.name!r} it must be a multiple of {unit}")
    return pixels // spec.autoencoder.downscale


def windows(
    latents: Tensor, mask: Tensor | None, side: int, unit: int, generator: Generator
) -> tuple[Tensor, Tensor | None, Tensor]:
    """A window of up to `side` latent pixels of each of latents (B, C, h, w), and the same of a mask (B, 1, h, w).

    The third is (B, 4), in pixels, `unit` of them to a latent one: height and width of the whole, and the window's top
    and left.
    """
    height, width = latents.shape[-2:]
    high, wide = min(side, height), min(side, width)
    free = torch.tensor([height - high + 1, width - wide + 1])
    lots = torch.rand(len(latents), 2, generator=generator, device=generator.device).cpu()
    corners = (lots * free).long().minimum(free - 1)
    rows = [(slice(None), slice(top, top + high), slice(left, left + wide)) for top, left in corners.tolist()]
    cut = torch.stack([entry[row] for entry, row in zip(latents, rows, strict=True)])
    shown = None if mask is None else torch.stack([entry[row] for entry, row in zip(mask, rows, strict=True)])
    whole = torch.tensor([height, width]).expand(len(latents), -1)
    return cut, shown, (unit * torch.cat([whole, corners], dim=1)).to(latents.device)
