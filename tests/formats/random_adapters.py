"""Adapters of every kind with random tensors, for any layer, in the neutral form and as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from rein.formats.adapters_names import Target, Targets
from rein.nn.adapters import Change, Place

RANK = 3

Make = Callable[[torch.Generator, Target], Change]


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator) * 0.4


def _shape(target: Target) -> tuple[int, int, tuple[int, ...]]:
    rows, columns, *kernel = target.weight
    return rows, columns, tuple(kernel)


def lora(g: torch.Generator, target: Target) -> Change:
    """LoRA; of a convolution, LoCon."""
    rows, columns, kernel = _shape(target)
    up = _normal(g, rows, RANK, *(1 for _ in kernel))
    return Change("lora", {"up": up, "down": _normal(g, RANK, columns, *kernel)}, 2.0 / RANK)


def tucker(g: torch.Generator, target: Target) -> Change:
    """LoCon with a core."""
    rows, columns, kernel = _shape(target)
    ones = tuple(1 for _ in kernel)
    tensors = {"up": _normal(g, rows, RANK, *ones), "down": _normal(g, RANK, columns, *ones)}
    return Change("lora", {**tensors, "mid": _normal(g, RANK, RANK, *kernel)}, 1.0 / RANK)


def loha(g: torch.Generator, target: Target) -> Change:
    """LoHa; of a convolution, with cores."""
    rows, columns, kernel = _shape(target)
    tensors = {}
    for factor in ("1", "2"):
        tensors[f"w{factor}_a"] = _normal(g, *((RANK, rows) if kernel else (rows, RANK)))
        tensors[f"w{factor}_b"] = _normal(g, RANK, columns)
        if kernel:
            tensors[f"t{factor}"] = _normal(g, RANK, RANK, *kernel)
    return Change("loha", tensors, 1.5 / RANK)


def lokr(g: torch.Generator, target: Target) -> Change:
    """LoKr with the first factor whole (2 x 2) and the second a product; of a convolution, through a core."""
    rows, columns, kernel = _shape(target)
    if rows % 2 or columns % 2:
        return full(g, target)
    tensors = {"w1": _normal(g, 2, 2), "w2_b": _normal(g, RANK, columns // 2)}
    tensors["w2_a"] = _normal(g, *((RANK, rows // 2) if kernel else (rows // 2, RANK)))
    if kernel:
        tensors["t2"] = _normal(g, RANK, RANK, *kernel)
    return Change("lokr", tensors, 1.0 / RANK)


def full(g: torch.Generator, target: Target) -> Change:
    """A full difference, of the bias too where there is one."""
    bias = {"bias": _normal(g, target.weight[0])} if target.bias else {}
    return Change("full", {"difference": _normal(g, *target.weight) * 0.2, **bias})


def dora(g: torch.Generator, target: Target) -> Change:
    """DoRA over LoRA, one length a column, as LyCORIS has it."""
    plain = lora(g, target)
    magnitude = _normal(g, 1, target.weight[1]).abs() + 1
    return Change("lora", {**plain.tensors, "magnitude": magnitude}, plain.scale)


def ia3(g: torch.Generator, target: Target) -> Change:
    """IA3 on what comes out."""
    return Change("ia3", {"gain": _normal(g, target.weight[0], 1)})


KINDS: dict[str, Make] = {
    "lora": lora,
    "tucker": tucker,
    "loha": loha,
    "lokr": lokr,
    "full": full,
    "dora": dora,
    "ia3": ia3,
}


def random_changes(targets: Targets, make: Make, seed: int = 0, every: int = 1) -> dict[Place, Change]:
    """A change for every layer with a matrix or a kernel, or for one of `every`."""
    generator = torch.Generator().manual_seed(seed)
    layers = [(place, target) for place, target in targets.layers.items() if len(target.weight) > 1]
    tables = ("token_embedding", "position_embedding")
    return {place: make(generator, target) for place, target in layers[::every] if not place[1].endswith(tables)}


_SUFFIXES = {
    "lora": {"up": "lora_up.weight", "down": "lora_down.weight", "mid": "lora_mid.weight"},
    "loha": {role: f"hada_{role}" for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    "lokr": {role: f"lokr_{role}" for role in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    "full": {"difference": "diff"},
    "ia3": {"gain": "weight"},
}
_COMMON = {"bias": "diff_b", "magnitude": "dora_scale"}


def kohya_tensors(changes: Mapping[Place, Change], name: Callable[[Place], str]) -> dict[str, Tensor]:
    """A file as LyCORIS and kohya write it; `name` spells a layer."""
    tensors: dict[str, Tensor] = {}
    for place, change in changes.items():
        endings = _SUFFIXES[change.kind] | _COMMON
        tensors |= {f"{name(place)}.{endings[role]}": tensor for role, tensor in change.tensors.items()}
        if change.kind == "ia3":
            tensors[f"{name(place)}.on_input"] = torch.tensor(change.tensors["gain"].shape[0] == 1)
        elif change.kind in ("lora", "loha", "lokr"):
            tensors[f"{name(place)}.alpha"] = torch.tensor(change.scale * RANK)
    return tensors


def randomise(parameters: Iterable[tuple[str, Any]], words: tuple[str, ...], seed: int = 0) -> None:
    """Give a peer's adapter random values: all parameters with one of `words` in their names."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in parameters:
        if any(word in name for word in words):
            centre = 1.0 if "magnitude" in name or "ia3" in name else 0.0
            # What is multiplied by three others has to be larger to show.
            width = 0.3 if "hada" in name or "lokr" in name else 0.1
            parameter.data = centre + torch.randn(parameter.shape, generator=generator) * width
