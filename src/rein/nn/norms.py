"""Group norms whose statistics come from elsewhere than their input.

A group norm asks for the mean and the variance of a whole map. Of a map that is worked on in parts, each part has its
own, and takes on a tone of its own. Statistics pooled over all parts, and used for each, make the parts agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Statistics = dict[nn.Module, list[tuple[Tensor, Tensor]]]
"""Of each norm: means and mean squares (B, groups) float32 of the maps that it saw."""


@contextlib.contextmanager
def recorded_norms(module: nn.Module) -> Iterator[Statistics]:
    """Within the block, the statistics of what the group norms of `module` see are gathered."""
    found: Statistics = {}

    def record(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(layer, nn.GroupNorm)
        groups = inputs[0].float().unflatten(1, (layer.num_groups, -1)).flatten(2)
        found.setdefault(layer, []).append((groups.mean(dim=2), groups.square().mean(dim=2)))

    handles = [layer.register_forward_pre_hook(record) for layer in group_norms(module)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def fixed_norms(module: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Within the block, the group norms of `module` use these statistics, the mean of several, not their own."""
    handles = [
        layer.register_forward_hook(_replacing(layer, statistics[layer]))
        for layer in group_norms(module)
        if layer in statistics
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def group_norms(module: nn.Module) -> list[nn.GroupNorm]:
    """All group norms of `module`."""
    return [layer for layer in module.modules() if isinstance(layer, nn.GroupNorm)]


def _replacing(
    layer: nn.GroupNorm, seen: list[tuple[Tensor, Tensor]]
) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    mean = torch.stack([entry for entry, _ in seen]).mean(dim=0)
    squares = torch.stack([entry for _, entry in seen]).mean(dim=0)
    width = layer.num_channels // layer.num_groups
    rates = (squares - mean.square() + layer.eps).rsqrt().repeat_interleave(width, dim=1)
    rates = (rates * layer.weight.float())[:, :, None, None]
    shifts = layer.bias.float()[:, None, None] - mean.repeat_interleave(width, dim=1)[:, :, None, None] * rates

    def replace(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return torch.addcmul(shifts, inputs[0].float(), rates).to(output.dtype)

    return replace
