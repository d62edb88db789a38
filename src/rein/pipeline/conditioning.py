"""What families with more channels than the latents see in them when a picture is made from words alone."""

from __future__ import annotations

import torch
from torch import Tensor

from rein.formats.checkpoint import LoadedModel


@torch.inference_mode()
def blank_channels(parts: LoadedModel, height: int, width: int) -> Tensor | None:
    """The extra channels (1, C, h, w) for latents of h x w that stand for "nothing is given"; None for other families.

    An inpainting model is asked to paint all of a grey picture: a mask of ones, and the latents of grey. A depth model
    sees the same depth everywhere, a model that edits a picture the zeros that its training showed for no picture
    (Brooks et al. 2023, section 3.2.1).
    """
    count = parts.spec.conditioning_channels
    if not count:
        return None
    weight = parts.unet.conv_in.weight
    if parts.spec.form != "inpainting":
        return weight.new_zeros(1, count, height, width)
    unit, spec = parts.spec.autoencoder.downscale, parts.spec
    grey = weight.new_zeros(1, spec.autoencoder.picture_channels, height * unit, width * unit)
    latents = (parts.autoencoder.encode(grey).mode() - spec.latent_shift) * spec.latent_scale
    return torch.cat([weight.new_ones(1, 1, height, width), latents], dim=1)
