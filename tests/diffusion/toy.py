"""A toy network and helpers that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

SHAPE = (2, 4, 8, 8)


def unit_noise(seed: int, *shape: int) -> Tensor:
    """Normal numbers from a seed of their own, float32."""
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


def network(x: Tensor, timestep: Tensor) -> Tensor:
    """A nonlinear "network" that mixes channels and places within a picture and depends smoothly on time.

    x (B, C, h, w), timestep () or (B,). It works number by number, so a picture's bits do not depend on the batch.
    """
    phase = (timestep / 250.0).reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    mixed = x + 0.5 * x.roll(1, dims=1) - 0.25 * x.roll(1, dims=-1)
    return torch.sin(1.1 * mixed) * torch.cos(phase) + 0.3 * torch.tanh(x.flip(-2)) + 0.1 * torch.sin(phase)


def listed(noises: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
    """A noise source that hands out the given tensors in order, whatever it is asked for."""
    iterator = iter(noises)
    return lambda like: next(iterator).to(like)


def no_noise(like: Tensor) -> Tensor:
    """The noise source of samplers that must not ask for noise."""
    raise AssertionError("a deterministic sampler asked for noise")


def worst(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over largest value: the relative error that the tests of this room bound."""
    assert ours.shape == theirs.shape
    difference = (ours.double() - theirs.double()).abs().max()
    return float(difference / theirs.double().abs().max())
