"""Blocks that the U-Net and the autoencoder share. They take plain numbers, never a configuration."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def timestep_features(values: Tensor, width: int) -> Tensor:
    """Cosines and sines of `values` at geometric frequencies (Vaswani et al. 2017, section 3.5), cosines first.

    `values`: any shape (...). Returns (..., width) in float32.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=values.device) * (-math.log(10000.0) / half))
    angles = values.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def guidance_features(scales: Tensor, width: int) -> Tensor:
    """Sines and cosines of guidance scales (B,), sines first: (B, width) in float32.

    Source: Luo et al. 2023 (latent consistency models), whose code counts guidance from 0 and in thousandths.
    """
    half = width // 2
    frequencies = torch.exp(
        torch.arange(half, dtype=torch.float32, device=scales.device) * (-math.log(10000.0) / (half - 1))
    )
    angles = ((scales.float() - 1.0) * 1000.0).unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def norm(groups: int, channels: int, epsilon: float) -> nn.Module:
    """Group norm, or nothing where `groups` is 0."""
    return nn.GroupNorm(groups, channels, eps=epsilon) if groups else nn.Identity()


class EmbeddingMLP(nn.Module):
    """Two linear layers with SiLU between, from features (B, in) to an embedding (B, out).

    With a `condition_width`, further features (B, condition_width) may be projected and added to the first ones.
    """

    def __init__(self, in_width: int, out_width: int, condition_width: int = 0) -> None:
        super().__init__()
        if condition_width:
            self.cond_proj = nn.Linear(condition_width, in_width, bias=False)
        self.linear_1 = nn.Linear(in_width, out_width)
        self.linear_2 = nn.Linear(out_width, out_width)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is not None:
            features = features + self.cond_proj(condition)
        out: Tensor = self.linear_2(functional.silu(self.linear_1(features)))
        return out


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with norm and SiLU before each, added to the input; the time embedding enters between them.

    Input (B, in, h, w) and embedding (B, time_width) -> (B, out, h, w). `time_width` 0 builds the block without time
    (autoencoder).
    """

    def __init__(self, in_channels: int, out_channels: int, time_width: int, groups: int, epsilon: float) -> None:
        super().__init__()
        self.norm1 = norm(groups, in_channels, epsilon)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if time_width:
            self.time_emb_proj = nn.Linear(time_width, out_channels)
        self.norm2 = norm(groups, out_channels, epsilon)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)
        self.has_time = time_width > 0
        self.has_shortcut = in_channels != out_channels

    def forward(self, x: Tensor, embedding: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """`shift` is what `shift()` makes of the embedding, where that was computed before."""
        hidden = self.conv1(functional.silu(self.norm1(x)))
        if shift is None and self.has_time and embedding is not None:
            shift = self.shift(embedding)
        if shift is not None:
            hidden = hidden + shift
        hidden = self.conv2(functional.silu(self.norm2(hidden)))
        out: Tensor = (self.conv_shortcut(x) if self.has_shortcut else x) + hidden
        return out

    def shift(self, embedding: Tensor) -> Tensor:
        """What time adds to every pixel (B, out, 1, 1)."""
        out: Tensor = self.time_emb_proj(functional.silu(embedding))[:, :, None, None]
        return out


class Downsample(nn.Module):
    """Halve height and width by a strided 3x3 convolution.

    The U-Net pads all sides by one; the autoencoder (`one_sided`) pads only right and bottom, as its published weights
    expect.
    """

    def __init__(self, channels: int, one_sided: bool = False) -> None:
        super().__init__()
        self.one_sided = one_sided
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if one_sided else 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)) if self.one_sided else x)
        return out


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to `size` (height, width), then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        height, width = x.shape[-2:]
        if size is None or size == (2 * height, 2 * width):
            out: Tensor = self.conv(doubled(x))
        else:
            out = self.conv(functional.interpolate(x, size=size, mode="nearest"))
        return out


def doubled(x: Tensor) -> Tensor:
    """Every pixel of (B, C, h, w) as a square of four: (B, C, 2h, 2w), channels last in memory.

    Written as a copy, because PyTorch 2.13 compiles the gradient of `interpolate` in bfloat16 wrongly on the CPU.
    """
    batch, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1)[:, :, None, :, None, :]
    spread = pixels.expand(batch, height, 2, width, 2, channels)
    return spread.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
