"""Networks that enlarge finished pictures: RRDBNet (ESRGAN, Real-ESRGAN and most others of its family), and the compact
one of Real-ESRGAN.

Pixels are (B, C, H, W), red first, in [0, 1] on both sides. Parameter names are those of Real-ESRGAN's files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.errors import InputError
from rein.nn.layers import doubled

_SLOPE = 0.2
_RESIDUAL_SHARE = 0.2


@dataclass(frozen=True)
class RRDBConfig:
    """Shape of an RRDBNet. It enlarges `scale` = 2^doublings / unshuffle times.

    `unshuffle` folds squares of so many pixels into channels first, by which a network of the same cost per feature
    enlarges less: Real-ESRGAN's x2 has 2, its x1 has 4.
    """

    picture_channels: int = 3
    width: int = 64
    growth: int = 32
    blocks: int = 23
    doublings: int = 2
    unshuffle: int = 1

    def __post_init__(self) -> None:
        for name in ("picture_channels", "width", "growth", "blocks", "unshuffle"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.doublings < 0 or 2**self.doublings % self.unshuffle:
            raise InputError(
                f"unshuffle is {self.unshuffle}, but must divide 2 to the power of {self.doublings} doublings"
            )

    @property
    def scale(self) -> int:
        """How many times wider and higher a picture becomes."""
        return (1 << self.doublings) // self.unshuffle


@dataclass(frozen=True)
class SRVGGConfig:
    """Shape of the compact network, which works at the size of its input throughout. `layers` are those between the
    first and the last."""

    picture_channels: int = 3
    width: int = 64
    layers: int = 16
    scale: int = 4

    def __post_init__(self) -> None:
        for name in ("picture_channels", "width", "layers", "scale"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, but must be at least 1")


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it gave; their sum with the input (B, width, h, w).

    Source: Wang et al. 2018 (ESRGAN), section 3.1, after Huang et al. 2017 (DenseNet).
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1 = _convolution(width, growth)
        self.conv2 = _convolution(width + growth, growth)
        self.conv3 = _convolution(width + 2 * growth, growth)
        self.conv4 = _convolution(width + 3 * growth, growth)
        self.conv5 = _convolution(width + 4 * growth, width)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, _activated(convolution(seen))], dim=1)
        return torch.add(x, self.conv5(seen), alpha=_RESIDUAL_SHARE)


class ResidualDenseBlocks(nn.Module):
    """Three dense blocks, whose change to the input (B, width, h, w) is added to it in part: an RRDB."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=_RESIDUAL_SHARE)


class RRDBNet(nn.Module):
    """Pixels (B, C, H, W) -> pixels (B, C, scale * H, scale * W), about [0, 1].

    Sources: Wang et al. 2018 (ESRGAN), figure 4; Wang et al. 2021 (Real-ESRGAN), section 3.3 for the folding.
    """

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv_first = _convolution(config.picture_channels * config.unshuffle**2, width)
        self.body = nn.Sequential(*(ResidualDenseBlocks(width, config.growth) for _ in range(config.blocks)))
        self.conv_body = _convolution(width, width)
        for number in range(1, config.doublings + 1):
            setattr(self, f"conv_up{number}", _convolution(width, width))
        self.conv_hr = _convolution(width, width)
        self.conv_last = _convolution(width, config.picture_channels)

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        x = self.conv_first(folded(pixels, self.config.unshuffle))
        x = x + self.conv_body(self.body(x))
        for number in range(1, self.config.doublings + 1):
            x = _activated(getattr(self, f"conv_up{number}")(doubled(x)))
        out: Tensor = self.conv_last(_activated(self.conv_hr(x)))
        return out[..., : height * self.config.scale, : width * self.config.scale]


class SRVGGNet(nn.Module):
    """Pixels (B, C, H, W) -> pixels (B, C, scale * H, scale * W): plain convolutions, added to the enlarged input.

    Source: Real-ESRGAN's network for animation and for speed, https://github.com/xinntao/Real-ESRGAN.
    """

    def __init__(self, config: SRVGGConfig) -> None:
        super().__init__()
        self.config = config
        current = config.picture_channels
        layers: list[nn.Module] = []
        for _ in range(config.layers + 1):
            layers += [_convolution(current, config.width), nn.PReLU(config.width)]
            current = config.width
        self.body = nn.Sequential(*layers, _convolution(current, config.picture_channels * config.scale**2))

    def forward(self, pixels: Tensor) -> Tensor:
        detail = functional.pixel_shuffle(self.body(pixels), self.config.scale)
        return detail + functional.interpolate(pixels, scale_factor=self.config.scale, mode="nearest")


def folded(pixels: Tensor, side: int) -> Tensor:
    """Squares of `side` pixels as channels: (B, C, H, W) -> (B, C * side^2, ceil(H / side), ceil(W / side)).

    A side that is no multiple is lengthened on the right and at the bottom: mirrored, or its last pixels repeated
    where there are too few to mirror.
    """
    if side == 1:
        return pixels
    below, right = -pixels.shape[-2] % side, -pixels.shape[-1] % side
    if below or right:
        mirrored = below < pixels.shape[-2] and right < pixels.shape[-1]
        pixels = functional.pad(pixels, (0, right, 0, below), mode="reflect" if mirrored else "replicate")
    return functional.pixel_unshuffle(pixels, side)


def folding(channels_in: int, channels_out: int) -> int:
    """The side of the squares that make `channels_in` channels of `channels_out`; 0 where none does."""
    side = math.isqrt(channels_in // channels_out) if channels_out else 0
    return side if side and side * side * channels_out == channels_in else 0


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def _activated(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, _SLOPE)
