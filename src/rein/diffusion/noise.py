"""Noise that belongs to a picture, not to the batch, the device or the order of the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from rein.devices import seeded_generator
from rein.diffusion.philox import PhiloxGenerator

NoiseSource = Callable[[Tensor], Tensor]
"""`(like) -> noise`: fresh noise of unit variance, in the shape, number format and place of `like`."""

Draws = Callable[[Sequence[int]], Tensor]
"""`(shape) -> numbers`: the next ones of a generator, float32, on the CPU."""


def _pytorch(seed: int) -> Draws:
    generator = seeded_generator(seed)
    return lambda shape: torch.randn(*shape, generator=generator)


def _philox(seed: int) -> Draws:
    generator = PhiloxGenerator(seed)
    return lambda shape: torch.from_numpy(generator.normal(shape))


GENERATORS: Mapping[str, Callable[[int], Draws]] = {"cpu": _pytorch, "philox": _philox}
"""What makes the numbers of a seed: PyTorch's generator on the CPU, or the one that it has on NVIDIA's GPUs."""


class PictureNoise:
    """A `NoiseSource` with one generator for each picture of a batch, seeded by that picture's seed.

    Each call gives the next noise of every picture. Picture i gets the same numbers alone or in any batch, on any
    device: they are drawn in float32 on the CPU and moved. For the same picture twice, make a new object: the
    generators move on.

    Args:
        seeds: one a picture, whole numbers from 0 to 2**63 - 1. PyTorch's generator reads their low 32 bits, so seeds
            that are equal modulo 2**32 give the same noise; Philox reads all.
        source: a name in `GENERATORS`.

    Raises:
        InputError: a seed out of its range.
    """

    def __init__(self, seeds: Sequence[int], source: str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self.source = source
        self._draws = [GENERATORS[source](seed) for seed in seeds]

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next noise of every picture: (C, h, w) -> (B, C, h, w), float32, on the CPU."""
        return torch.stack([draws(shape) for draws in self._draws])

    def __call__(self, like: Tensor) -> Tensor:
        assert like.shape[0] == len(self._draws), f"{like.shape[0]} pictures, {len(self._draws)} seeds"
        return self.draw(like.shape[1:]).to(like)


def picture_noise(source: str, seeds: Sequence[int]) -> PictureNoise:
    """The noise of the pictures with `seeds` from a source of `GENERATORS`. Raises as `PictureNoise`."""
    return PictureNoise(seeds, source)
