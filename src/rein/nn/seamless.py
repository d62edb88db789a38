"""Pictures that go on at the opposite side: convolutions that see the other edge where they would see zeros."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rein.nn.layers import Downsample

Axes = Literal["none", "x", "y", "both"]
"""Along which sides a picture goes on: its width (x), its height (y)."""


@contextlib.contextmanager
def seamless(module: nn.Module, axes: Axes = "both") -> Iterator[nn.Module]:
    """Within the block, every convolution of `module` pads circularly on `axes`; after it, all is as it was.

    Norms and attention see the whole map without regard to place, so a U-Net or an autoencoder then commutes with
    circular shifts, exact to rounding: by multiples of its coarsest pixel, on sides that are multiples of it. On other
    sides the edges still meet, but the shift shows.

    A module is changed while the block lasts, for all who use it; do not run another picture through it meanwhile.
    """
    across, down = axes in ("x", "both"), axes in ("y", "both")
    handles: list[RemovableHandle] = []
    paddings: list[tuple[nn.Conv2d, Any]] = []
    try:
        for layer in list(module.modules()) if across or down else []:
            if isinstance(layer, Downsample) and layer.one_sided:
                handles.append(layer.conv.register_forward_pre_hook(_meeting(down, across)))
            elif isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str) and any(layer.padding):
                rows, columns = layer.padding
                handles.append(layer.register_forward_pre_hook(_wrapping(rows * down, columns * across)))
                paddings.append((layer, layer.padding))
                layer.padding = (0 if down else rows, 0 if across else columns)
        yield module
    finally:
        for handle in handles:
            handle.remove()
        for layer, padding in reversed(paddings):
            layer.padding = padding


def wrapped(x: Tensor, rows: int, columns: int) -> Tensor:
    """`x` (..., H, W) with `rows` more at top and bottom and `columns` more at both sides, from the opposite edges.

    More of them than there are go round again.
    """
    if rows > x.shape[-2] or columns > x.shape[-1]:
        once = min(rows, x.shape[-2]), min(columns, x.shape[-1])
        return wrapped(wrapped(x, *once), rows - once[0], columns - once[1])
    if rows:
        x = torch.cat([x[..., -rows:, :], x, x[..., :rows, :]], dim=-2)
    return torch.cat([x[..., -columns:], x, x[..., :columns]], dim=-1) if columns else x


def _wrapping(rows: int, columns: int) -> Any:
    def pad(layer: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
        return wrapped(inputs[0], rows, columns)

    return pad


def _meeting(down: bool, across: bool) -> Any:
    """For what was padded with a row and a column of zeros at the bottom and on the right: the first ones instead."""

    def replace(layer: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
        x: Tensor = inputs[0]
        if down:
            x = torch.cat([x[..., :-1, :], x[..., :1, :]], dim=-2)
        return torch.cat([x[..., :-1], x[..., :1]], dim=-1) if across else x

    return replace
