"""Which word acted where: cross-attention of the U-Net as heat maps.

At every place of its feature maps the U-Net asks the text, and softmax weights over the text's tokens say how much each
answered (Vaswani et al. 2017, eq. 1; Tang et al. 2022 use their mean as a word's heat map). The weights of a place sum
to 1 over the tokens; so do the maps here, at every place, also when they are averaged over heads, layers and steps.

Shapes: T tokens, G groups of tokens (words, and marks with pads), (h, w) places of a layer, (H, W) of the finest one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from rein.explain.words import Group
from rein.nn.attention import attention_maps

MAP_SIDE = 32
"""Finer maps are averaged to at most so many places a side: it bounds memory, and a screen shows no more."""


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """Where each token was looked at in one layer of one step: (T, h, w), mean over heads.

    `part` is the place of the text among the parts of the prompt that AND joins.
    """

    layer: str
    maps: Tensor
    part: int = 0


def layer_maps(layer: str, query: Tensor, key: Tensor, latent_size: tuple[int, int], part: int = 0) -> LayerMaps:
    """Heat maps of one picture's queries (1, heads, h * w, width) and the text's keys (1, heads, T, width).

    Head by head, so that a long text and a large picture do not need all weights at once.
    """
    heads = query.shape[1]
    total = torch.zeros(query.shape[2], key.shape[2], dtype=torch.float32, device=query.device)
    for head in range(heads):
        total += attention_maps(query[:, head : head + 1], key[:, head : head + 1])[0, 0]
    height, width = grid_of(query.shape[2], latent_size)
    maps = (total / heads).t().reshape(-1, height, width)
    return LayerMaps(layer, smaller(maps).cpu(), part)


def grid_of(places: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a layer with so many places: latents halved, rounded up, as often as it takes."""
    height, width = latent_size
    while height * width > places:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != places:
        raise ValueError(f"{places} places are no halving of latents of {latent_size[0]} x {latent_size[1]}")
    return height, width


def smaller(maps: Tensor) -> Tensor:
    """Maps (T, h, w) averaged to at most `MAP_SIDE` places a side."""
    height, width = maps.shape[-2:]
    if max(height, width) <= MAP_SIDE:
        return maps
    scale = max(height, width) / MAP_SIDE
    size = max(1, round(height / scale)), max(1, round(width / scale))
    return functional.adaptive_avg_pool2d(maps, size)


@dataclass(eq=False)
class HeatMaps:
    """Heat maps of a whole run, summed as the steps come. All are arrays over groups of tokens that sum to 1.

    Fields:
        steps: how many steps get maps of their own; step i of n goes to i * steps // n.
        part: of which part of the prompt they are.
        length: places of a context that the pipeline repeats whole; None where empty windows fill it up instead.
    """

    groups: tuple[Group, ...]
    steps: int
    part: int = 0
    length: int | None = None
    _by_layer: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    _by_step: dict[int, tuple[Tensor, int]] = field(default_factory=dict)

    def add(self, step: int, of: int, layers: Sequence[LayerMaps]) -> None:
        """Take in the maps of one step of `of`. Those of a shorter text (a changing prompt) are left out."""
        places = sum(len(group.places) for group in self.groups)
        own = [entry for entry in layers if entry.part == self.part and len(entry.maps) >= places]
        grouped = [(entry.layer, self._grouped(_fitted(entry.maps, places, self.length))) for entry in own]
        if not grouped:
            return
        for name, maps in grouped:
            self._by_layer[name] = _plus(self._by_layer.get(name), maps)
        size = max((maps.shape[-2:] for _, maps in grouped), key=math.prod)
        mean = torch.stack([_resized(maps, size) for _, maps in grouped]).mean(dim=0)
        place = step * self.steps // of
        self._by_step[place] = _plus(self._by_step.get(place), mean)

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order in which the network has them."""
        return list(self._by_layer)

    @property
    def filled(self) -> bool:
        """Whether there is anything to see; a network without cross-attention has nothing."""
        return bool(self._by_layer)

    def layer(self, name: str) -> Tensor:
        """(G, h, w): one layer, mean over all steps."""
        total, count = self._by_layer[name]
        return total / count

    def by_step(self) -> Tensor:
        """(steps, G, H, W): mean over all layers, brought to the size of the finest."""
        return torch.stack([total / count for _, (total, count) in sorted(self._by_step.items())])

    def mean(self) -> Tensor:
        """(G, H, W): mean over layers and steps."""
        return self.by_step().mean(dim=0)

    def thirds(self) -> Iterator[tuple[str, Tensor]]:
        """The early, middle and late steps: name and (G, H, W); fewer where there are fewer steps."""
        maps = self.by_step()
        names = ("early", "middle", "late")
        parts = maps.tensor_split(3) if len(maps) >= 3 else ()
        yield from ((name, part.mean(dim=0)) for name, part in zip(names, parts, strict=False))

    def _grouped(self, maps: Tensor) -> Tensor:
        """(T, h, w) -> (G, h, w); the places of a group add up."""
        return torch.stack([maps[list(group.places)].sum(dim=0) for group in self.groups])


def _fitted(maps: Tensor, places: int, length: int | None) -> Tensor:
    """Maps (T, h, w) of a context that the pipeline made longer than the text of `places` tokens.

    Where a context of `length` is repeated whole, its repetitions add up. What else follows the text, its last state
    again or empty windows, adds to the last place.
    """
    if length is not None and len(maps) % length == 0:
        maps = maps.unflatten(0, (-1, length)).sum(dim=0)
    if len(maps) == places:
        return maps
    return torch.cat([maps[: places - 1], maps[places - 1 :].sum(dim=0, keepdim=True)])


def _plus(before: tuple[Tensor, int] | None, maps: Tensor) -> tuple[Tensor, int]:
    return (maps.clone(), 1) if before is None else (before[0] + maps, before[1] + 1)


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(G, h, w) at another size; bilinear weights keep sums over groups."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return functional.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False)[0]
