"""The two halves of TAESD, a small distilled autoencoder: https://github.com/madebyollin/taesd

Plain 3x3 convolutions, ReLU and residual blocks, without norm or attention. Parameter names are those of the diffusers
folder layout: layers are numbered through, those without weights among them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.nn.specs import AutoencoderConfig


class TinyBlock(nn.Module):
    """Three convolutions with ReLU between, added to the input (B, C, h, w), and ReLU after."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second, third = (_convolution(channels, channels) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x) + x)


class TinyEncoder(nn.Module):
    """Pixels (B, 3, H, W) in [-1, 1] -> scaled latents (B, latent channels, h, w), about [-3, 3].

    The first level has one block, each further one begins with a strided convolution and has `blocks_per_level`.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        current = config.channels[0]
        layers: list[nn.Module] = [_convolution(config.picture_channels, current), TinyBlock(current)]
        for channels in config.channels[1:]:
            layers.append(nn.Conv2d(current, channels, 3, stride=2, padding=1, bias=False))
            layers += [TinyBlock(channels) for _ in range(config.blocks_per_level)]
            current = channels
        self.layers = nn.Sequential(*layers, _convolution(current, config.latent_channels))

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.layers((pixels + 1) / 2)
        return out


class TinyDecoder(nn.Module):
    """Scaled latents (B, latent channels, h, w) -> pixels (B, 3, H, W), about [-1, 1].

    Latents are bent into [-3, 3] first. The last level has one block, each before it `blocks_per_level` and a doubling.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.channels[::-1]
        layers: list[nn.Module] = [_convolution(config.latent_channels, widths[0]), nn.ReLU()]
        for channels, following in pairwise(widths):
            layers += [TinyBlock(channels) for _ in range(config.blocks_per_level)]
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, following, 3, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers, TinyBlock(widths[-1]), _convolution(widths[-1], config.picture_channels))

    def forward(self, latents: Tensor) -> Tensor:
        out: Tensor = self.layers(torch.tanh(latents / 3) * 3)
        return out * 2 - 1


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)
