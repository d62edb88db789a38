"""Whether a U-Net predicts noise or velocity, from one question to it: shapes do not tell them apart."""

from __future__ import annotations

import torch
from torch import nn

from rein.nn.clip import TextTower
from rein.nn.specs import ModelSpec, PredictionName
from rein.nn.unet import UNet

_SIDE = 32


@torch.inference_mode()
def probe_prediction(spec: ModelSpec, unet: nn.Module, tower: nn.Module) -> PredictionName:
    """Show the U-Net pure noise at the last timestep, with an empty text, and compare its answer with the noise.

    There is no picture in it, so a network that predicts the noise gives back what it sees; one that predicts velocity
    (Salimans & Ho 2022, appendix D: alpha * noise - sigma * x0) gives its guess of the picture, of which it can know
    nothing. The correlation of answer and noise is near 1 for the first, near 0 for the second.
    """
    assert isinstance(unet, UNet) and isinstance(tower, TextTower)
    weight = unet.conv_in.weight
    config = tower.config
    row = [config.end_token - 1, config.end_token] + [config.pad_token] * (config.context_length - 2)
    context = tower.context(tower(torch.tensor([row], device=weight.device)))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, spec.autoencoder.latent_channels, _SIDE, _SIDE, generator=generator).to(weight)
    extra = noise.new_zeros(1, spec.conditioning_channels, _SIDE, _SIDE)
    pooled, ids = None, None
    if spec.unet.pooled_width:
        pooled = noise.new_zeros(1, spec.unet.pooled_width)
        ids = noise.new_full((1, spec.unet.size_ids), spec.native_size) if spec.unet.size_ids else None
    width = spec.unet.context_width
    context = torch.nn.functional.pad(context, (0, width - context.shape[-1]))
    timestep = noise.new_full((1,), spec.schedule.steps - 1)
    answer = unet(torch.cat([noise, extra], dim=1), timestep, context.to(weight), pooled, ids).float()
    return "epsilon" if _correlation(answer, noise.float()) > 0.5 else "v"


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Pearson's, over all numbers."""
    first, second = first.flatten() - first.mean(), second.flatten() - second.mean()
    return float(first @ second / (first.norm() * second.norm()).clamp_min(1e-12))
