"""Noise that belongs to a picture, not to the batch, the device or the order of the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rein.devices import seeded_generator

NoiseSource = Callable[[Tensor], Tensor]
"""`(like) -> noise`: fresh noise of unit variance, in the shape, number format and place of `like`."""


class PictureNoise:
    """A `NoiseSource` with one generator on the CPU for each picture of a batch, seeded by that picture's seed.

    Each call gives the next noise of every picture. Picture i gets the same numbers alone or in any batch, on any
    device: they are drawn in float32 on the CPU and moved. For the same picture twice, make a new object: the
    generators move on.

    Args:
        seeds: one a picture, whole numbers from 0 to 2**63 - 1. PyTorch's generator reads their low 32 bits, so seeds
            that are equal modulo 2**32 give the same noise.

    Raises:
        InputError: a seed out of its range.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [seeded_generator(seed) for seed in seeds]

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next noise of every picture: (C, h, w) -> (B, C, h, w), float32, on the CPU."""
        return torch.stack([torch.randn(*shape, generator=generator) for generator in self._generators])

    def __call__(self, like: Tensor) -> Tensor:
        assert like.shape[0] == len(self._generators), f"{like.shape[0]} pictures, {len(self._generators)} seeds"
        return self.draw(like.shape[1:]).to(like)
