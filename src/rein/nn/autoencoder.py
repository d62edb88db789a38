"""The autoencoder between pixels and latents: one class for SD's, for the embedded model's and for the tiny one.

Source: Rombach et al. 2022, section 3.1 and appendix G. Parameter names are those of the diffusers folder layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.nn.attention import PixelAttention
from rein.nn.layers import Downsample, ResidualBlock, Upsample, norm
from rein.nn.specs import AutoencoderConfig
from rein.nn.tiny import TinyDecoder, TinyEncoder

_EPSILON = 1e-6


@dataclass(frozen=True)
class LatentDistribution:
    """A diagonal Gaussian over latents (B, C, h, w); the log of its variance is clamped to [-30, 20]."""

    mean: Tensor
    log_variance: Tensor

    def mode(self) -> Tensor:
        """The most likely latents: the mean."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """Latents from unit `noise` of the mean's shape."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """Divergence to the unit Gaussian in nats, summed over each picture's latents: (B,)."""
        terms = self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance
        return 0.5 * terms.flatten(1).sum(dim=1)


class Stage(nn.Module):
    """Residual blocks of one resolution, with attention (middle) or resampling where it is set."""

    attentions: nn.ModuleList

    def __init__(self, widths: list[tuple[int, int]], groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(before, after, 0, groups, _EPSILON) for before, after in widths)

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        if hasattr(self, "attentions"):
            x = self.attentions[0](x)
        for resnet in list(self.resnets)[1:]:
            x = resnet(x)
        for name in ("downsamplers", "upsamplers"):
            if hasattr(self, name):
                x = getattr(self, name)[0](x)
        return x


def _middle(channels: int, config: AutoencoderConfig) -> Stage:
    stage = Stage([(channels, channels)] * 2, config.norm_groups)
    if config.middle_attention:
        stage.attentions = nn.ModuleList([PixelAttention(channels, config.norm_groups, _EPSILON)])
    return stage


class Encoder(nn.Module):
    """Pixels (B, 3, H, W) in [-1, 1] -> moments (B, 2 * latent channels, h, w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch = config.patch
        first, last = config.channels[0], config.channels[-1]
        self.conv_in = nn.Conv2d(config.picture_channels * config.patch**2, first, 3, padding=1)
        self.down_blocks = nn.ModuleList()
        current = first
        for index, channels in enumerate(config.channels):
            widths = [(current, channels)] + [(channels, channels)] * (config.blocks_per_level - 1)
            stage = Stage(widths, config.norm_groups)
            if index < len(config.channels) - 1:
                stage.downsamplers = nn.ModuleList([Downsample(channels, one_sided=True)])
            self.down_blocks.append(stage)
            current = channels
        self.mid_block = _middle(last, config)
        self.conv_norm_out = norm(config.norm_groups, last, _EPSILON)
        self.conv_out = nn.Conv2d(last, config.latent_channels * 2, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.middle(self.reduced(pixels))

    def reduced(self, pixels: Tensor) -> Tensor:
        """The first part of the work, which takes most of its memory: features (B, last level, h, w)."""
        x = functional.pixel_unshuffle(pixels, self.patch) if self.patch > 1 else pixels
        features: Tensor = self.conv_in(x)
        for stage in self.down_blocks:
            features = stage(features)
        return features

    def middle(self, features: Tensor) -> Tensor:
        """The rest, at the size of the latents."""
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(self.mid_block(features))))
        return out


class Decoder(nn.Module):
    """Latents (B, latent channels, h, w) -> pixels (B, 3, H, W), about [-1, 1]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch = config.patch
        first, last = config.channels[0], config.channels[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, last, 3, padding=1)
        self.mid_block = _middle(last, config)
        self.up_blocks = nn.ModuleList()
        current = last
        for index, channels in enumerate(reversed(config.channels)):
            stage = Stage([(current, channels)] + [(channels, channels)] * config.blocks_per_level, config.norm_groups)
            if index < len(config.channels) - 1:
                stage.upsamplers = nn.ModuleList([Upsample(channels)])
            self.up_blocks.append(stage)
            current = channels
        self.conv_norm_out = norm(config.norm_groups, first, _EPSILON)
        self.conv_out = nn.Conv2d(first, config.picture_channels * config.patch**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        return self.enlarged(self.middle(latents))

    def middle(self, latents: Tensor) -> Tensor:
        """The first part of the work, at the size of the latents: features (B, last level, h, w)."""
        features: Tensor = self.mid_block(self.conv_in(latents))
        return features

    def enlarged(self, features: Tensor) -> Tensor:
        """The rest, which takes most of its memory."""
        x = features
        for stage in self.up_blocks:
            x = stage(x)
        x = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return functional.pixel_shuffle(x, self.patch) if self.patch > 1 else x


class Autoencoder(nn.Module):
    """Encoder and decoder, in the KL design with the 1x1 convolutions around the latents.

    The sides of a picture must be multiples of `config.downscale`.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        if config.design == "tiny":
            # The halves of another design, with the same inputs and outputs.
            self.encoder = cast(Encoder, TinyEncoder(config))
            self.decoder = cast(Decoder, TinyDecoder(config))
            return
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(config.latent_channels * 2, config.latent_channels * 2, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)

    def encode(self, pixels: Tensor) -> LatentDistribution:
        """Distribution of the unscaled latents of `pixels`; the tiny design is sure of its latents."""
        if self.config.design == "tiny":
            latents = self.encoder(pixels)
            return LatentDistribution(latents, torch.full_like(latents, -30.0))
        mean, log_variance = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return LatentDistribution(mean, log_variance.clamp(-30.0, 20.0))

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of unscaled latents."""
        out: Tensor = self.decoder(latents if self.config.design == "tiny" else self.post_quant_conv(latents))
        return out

    def forward(self, pixels: Tensor, noise: Tensor | None = None) -> tuple[Tensor, LatentDistribution]:
        """Reconstruction and latent distribution; the mean is decoded where no noise is given."""
        distribution = self.encode(pixels)
        return self.decode(distribution.mode() if noise is None else distribution.sample(noise)), distribution
