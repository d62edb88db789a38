"""What adapter files call the layers of a model: every spelling, generated from the model's own layers.

A name in a file is looked up, never taken apart: kohya joins its parts by underscores, which the parts have themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import nn

from rein.formats.key_names import renamed, unet_modules
from rein.nn.adapters import Place
from rein.nn.clip import TextTower
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet


@dataclass(frozen=True)
class Target:
    """A layer that an adapter can change: the shape of its weight, and whether it has a bias."""

    weight: tuple[int, ...]
    bias: bool


@dataclass(frozen=True, eq=False)
class Targets:
    """The layers of a model that an adapter can change, and all names that files have for them."""

    spec: ModelSpec
    layers: Mapping[Place, Target]

    @classmethod
    def of(cls, spec: ModelSpec, parts: Mapping[str, nn.Module]) -> Targets:
        """Those of networks, by part."""
        layers = {
            (part, path): Target(tuple(layer.weight.shape), isinstance(getattr(layer, "bias", None), torch.Tensor))
            for part, network in parts.items()
            for path, layer in network.named_modules()
            if isinstance(getattr(layer, "weight", None), nn.Parameter)
        }
        return cls(spec, layers)

    @cached_property
    def places(self) -> dict[str, tuple[Place, ...]]:
        """Spelling -> the layers that it may mean; more than one only where the tower is left unsaid."""
        table: dict[str, tuple[Place, ...]] = {}
        originals = unet_modules(self.spec.unet)
        for place in self.layers:
            for name in spellings(place, originals, len(self.spec.towers)):
                table[name] = (*table.get(name, ()), place)
        return table


def parts_of(unet: nn.Module, towers: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """The networks that adapters act on, by the names of their parts."""
    return {"unet": unet} | {part_of_tower(index): tower for index, tower in enumerate(towers)}


def part_of_tower(index: int) -> str:
    """The name of text tower `index`, from 0: "tower", "tower_2"."""
    return "tower" if index == 0 else f"tower_{index + 1}"


@lru_cache(maxsize=4)
def targets_of(spec: ModelSpec) -> Targets:
    """Those of a specification; no weight is made."""
    with torch.device("meta"):
        return Targets.of(spec, parts_of(UNet(spec.unet), tuple(TextTower(config) for config in spec.towers)))


_KOHYA = {"unet": ("lora_unet_", "lycoris_"), "tower": ("lora_te1_",), "tower_2": ("lora_te2_",)}
_KOHYA_LONE_TOWER = ("lora_te_",)
_DOTTED = {"unet": ("unet.", ""), "tower": ("text_encoder.", ""), "tower_2": ("text_encoder_2.", "")}
_ORIGINAL = ("diffusion_model.", "model.diffusion_model.")
_OLD_UNET = {"to_q": "to_q_lora", "to_k": "to_k_lora", "to_v": "to_v_lora", "to_out.0": "to_out_lora"}
_OLD_TOWER = {"q_proj": "to_q_lora", "k_proj": "to_k_lora", "v_proj": "to_v_lora", "out_proj": "to_out_lora"}


def kohya_name(place: Place, towers: int) -> str:
    """The name that kohya's scripts write, without what follows the first dot."""
    return _kohya_prefixes(place[0], towers)[0] + place[1].replace(".", "_")


def peft_name(place: Place) -> str:
    """The name that diffusers writes."""
    return _DOTTED[place[0]][0] + place[1]


def spellings(place: Place, originals: Mapping[str, str], towers: int) -> Iterator[str]:
    """Every name of a layer in a file, without what tells its tensors from one another."""
    part, path = place
    dotted = list(_dotted(part, path))
    joined = [path, path.removeprefix("text_model.")] if part != "unet" else [path]
    if part == "unet":
        original = renamed(path, originals)
        joined.append(original)
        yield from (prefix + original for prefix in _ORIGINAL)
    names = {prefix + name.replace(".", "_") for prefix in _kohya_prefixes(part, towers) for name in joined}
    yield from names
    yield from {prefix + name for prefix in _DOTTED.get(part, ()) for name in dotted}


def _kohya_prefixes(part: str, towers: int) -> tuple[str, ...]:
    return _KOHYA_LONE_TOWER if part == "tower" and towers == 1 else _KOHYA.get(part, ())


def _dotted(part: str, path: str) -> Iterator[str]:
    """The path as it is now, and what diffusers called it before."""
    yield path
    if part != "unet":
        yield path.removeprefix("text_model.")
    old, between = (_OLD_UNET, ".processor.") if part == "unet" else (_OLD_TOWER, ".")
    for layer, name in old.items():
        if path.endswith(f".{layer}"):
            yield path.removesuffix(f".{layer}") + between + name
