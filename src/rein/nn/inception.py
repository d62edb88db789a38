"""The Inception network by which the Fréchet inception distance is defined: the TensorFlow graph of 2015-12-05.

It is Inception v3 (Szegedy et al. 2016) with what that graph does otherwise: mean pooling leaves its padding out of the
count, the last block pools by the maximum, and there are 1,008 classes. Modules carry the names of the published port
to PyTorch (`pt_inception-2015-12-05`), so that its file is read as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 299
"""Pixels of a side of what it looks at."""

WIDTH = 2048
CLASSES = 1008
_EPSILON = 1e-3

Pool = Literal["mean", "max", "reduce"]
"""The branch that pools: 3 x 3, in place or (`reduce`, a maximum) with stride 2 and no layer after it."""


@dataclass(frozen=True)
class Layer:
    """A convolution by name: channels after it, and its kernel (height, width). With stride 2 nothing is padded."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


Chain = tuple[Layer | tuple[Layer, Layer], ...]
"""Layers one after the other; a pair of them reads the same input, and what both say is joined."""


@dataclass(frozen=True)
class Block:
    """What runs beside each other: chains, and the pooling with the channels of the layer behind it."""

    chains: tuple[Chain, ...]
    pool: Pool
    pool_width: int = 0


def _block_a(pool_width: int) -> Block:
    return Block(
        (
            (Layer("branch1x1", 64),),
            (Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5))),
            (
                Layer("branch3x3dbl_1", 64),
                Layer("branch3x3dbl_2", 96, (3, 3)),
                Layer("branch3x3dbl_3", 96, (3, 3)),
            ),
        ),
        "mean",
        pool_width,
    )


def _block_c(inner: int) -> Block:
    long = [("branch7x7dbl_2", (7, 1)), ("branch7x7dbl_3", (1, 7)), ("branch7x7dbl_4", (7, 1))]
    return Block(
        (
            (Layer("branch1x1", 192),),
            (
                Layer("branch7x7_1", inner),
                Layer("branch7x7_2", inner, (1, 7)),
                Layer("branch7x7_3", 192, (7, 1)),
            ),
            (
                Layer("branch7x7dbl_1", inner),
                *(Layer(name, inner, kernel) for name, kernel in long),
                Layer("branch7x7dbl_5", 192, (1, 7)),
            ),
        ),
        "mean",
        192,
    )


def _block_e(pool: Pool) -> Block:
    def both(name: str) -> tuple[Layer, Layer]:
        return Layer(f"{name}a", 384, (1, 3)), Layer(f"{name}b", 384, (3, 1))

    return Block(
        (
            (Layer("branch1x1", 320),),
            (Layer("branch3x3_1", 384), both("branch3x3_2")),
            (Layer("branch3x3dbl_1", 448), Layer("branch3x3dbl_2", 384, (3, 3)), both("branch3x3dbl_3")),
        ),
        pool,
        192,
    )


_BLOCK_B = Block(
    (
        (Layer("branch3x3", 384, (3, 3), 2),),
        (
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, (3, 3)),
            Layer("branch3x3dbl_3", 96, (3, 3), 2),
        ),
    ),
    "reduce",
)
_BLOCK_D = Block(
    (
        (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, (3, 3), 2)),
        (
            Layer("branch7x7x3_1", 192),
            Layer("branch7x7x3_2", 192, (1, 7)),
            Layer("branch7x7x3_3", 192, (7, 1)),
            Layer("branch7x7x3_4", 192, (3, 3), 2),
        ),
    ),
    "reduce",
)

BLOCKS: dict[str, Block] = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": _BLOCK_B,
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": _BLOCK_D,
    "Mixed_7b": _block_e("mean"),
    "Mixed_7c": _block_e("max"),
}


class FixedNorm(nn.Module):
    """Batch norm by statistics that are kept, and never learned here."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return functional.batch_norm(x, mean, variance, self.weight, self.bias, eps=_EPSILON)


class ConvNorm(nn.Module):
    """Convolution without bias, norm, ReLU."""

    def __init__(self, before: int, layer: Layer, padding: tuple[int, int] | None = None) -> None:
        super().__init__()
        around = (layer.kernel[0] // 2, layer.kernel[1] // 2) if layer.stride == 1 else (0, 0)
        around = around if padding is None else padding
        self.conv = nn.Conv2d(before, layer.width, layer.kernel, layer.stride, around, bias=False)
        self.bn = FixedNorm(layer.width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """One block: what its branches say, joined, the pooling last."""

    def __init__(self, before: int, block: Block) -> None:
        super().__init__()
        self.block = block
        self.channels = 0
        for chain in block.chains:
            current = before
            for step in chain:
                layers = step if isinstance(step, tuple) else (step,)
                for layer in layers:
                    self.add_module(layer.name, ConvNorm(current, layer))
                current = sum(layer.width for layer in layers)
            self.channels += current
        if block.pool_width:
            self.branch_pool = ConvNorm(before, Layer("branch_pool", block.pool_width))
        self.channels += block.pool_width or before

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for chain in self.block.chains:
            current = x
            for step in chain:
                layers = step if isinstance(step, tuple) else (step,)
                current = torch.cat([self.get_submodule(layer.name)(current) for layer in layers], dim=1)
            found.append(current)
        return torch.cat([*found, self._pooled(x)], dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.block.pool == "reduce":
            return functional.max_pool2d(x, 3, 2)
        if self.block.pool == "max":
            pooled = functional.max_pool2d(x, 3, 1, 1)
        else:
            pooled = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        out: Tensor = self.branch_pool(pooled)
        return out


class Inception(nn.Module):
    """Pictures (B, 3, 299, 299) in [-1, 1] to features (B, 2048) and logits (B, 1008).

    The logits are those of the Inception score: without the bias of the last layer, as its authors' code has them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, Layer("", 32, (3, 3), 2))
        self.Conv2d_2a_3x3 = ConvNorm(32, Layer("", 32, (3, 3)), (0, 0))
        self.Conv2d_2b_3x3 = ConvNorm(32, Layer("", 64, (3, 3)))
        self.Conv2d_3b_1x1 = ConvNorm(64, Layer("", 80))
        self.Conv2d_4a_3x3 = ConvNorm(80, Layer("", 192, (3, 3)), (0, 0))
        current = 192
        for name, block in BLOCKS.items():
            mixed = Mixed(current, block)
            self.add_module(name, mixed)
            current = mixed.channels
        self.fc = nn.Linear(current, CLASSES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pixels)))
        x = functional.max_pool2d(x, 3, 2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = functional.max_pool2d(x, 3, 2)
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        features = x.mean(dim=(2, 3))
        return features, functional.linear(features, self.fc.weight)


def inception_input(pixels: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] at the network's size: bilinear, not smoothed first, as pytorch-fid does it."""
    return functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False)
