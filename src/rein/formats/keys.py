"""Invertible maps between the names in a file and native names, generated from a model's configuration.

A file keeps each network under a prefix, in one of several namings. Most tensors only change their name. A few change
form: OpenCLIP stacks the projections q, k, v of a layer and keeps its last projection transposed; the original
autoencoder's attention has 1x1 convolutions where the native one has linear layers. Every change is a view or a
concatenation, so values come back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from rein.errors import DamagedFileError, quoted
from rein.formats.folder import Config, build_network, build_networks
from rein.formats.key_names import (
    autoencoder_modules,
    headless_modules,
    old_autoencoder_modules,
    openclip_modules,
    renamed,
    unet_modules,
)
from rein.nn.specs import ModelSpec, TextTowerConfig

Naming = Literal["native", "original", "openclip", "headless", "old attention"]
"""`native` is the diffusers folder layout; `headless` a text tower as transformers 5 writes it, without `text_model.`;
`old attention` an autoencoder of diffusers before 0.17."""

Change = Literal["none", "stack", "transpose", "pixelwise"]

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file keeps a network: what its names begin with, and how the rest is named."""

    prefix: str
    naming: Naming


Layout = Mapping[str, Place]
"""The place of each part: "unet", "autoencoder", "tower", "tower_2"."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file and the native tensors of `part` that are in it, each of the native `shape`."""

    original: str
    part: str
    natives: tuple[str, ...]
    shape: tuple[int, ...]
    change: Change

    @property
    def original_shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        if self.change == "stack":
            return (self.shape[0] * len(self.natives), *self.shape[1:])
        if self.change == "transpose":
            return self.shape[::-1]
        return (*self.shape, 1, 1) if self.change == "pixelwise" else self.shape

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of `shape` is this one; 1x1 convolutions may be stored as the matrices that they are."""
        return _squeezed(shape) == _squeezed(self.original_shape)

    def to_native(self, tensor: Tensor) -> dict[str, Tensor]:
        """The native tensors, as views of the file's."""
        if not self.fits(tensor.shape):
            shapes = f"{tuple(tensor.shape)}, not {self.original_shape}"
            raise DamagedFileError(f"tensor {quoted(self.original)} has the shape {shapes}")
        if self.change == "stack":
            return dict(zip(self.natives, tensor.chunk(len(self.natives)), strict=True))
        return {self.natives[0]: tensor.t() if self.change == "transpose" else tensor.reshape(self.shape)}

    def to_original(self, tensors: Sequence[Tensor]) -> Tensor:
        """The file's tensor from the native ones, in the order of `natives`."""
        if self.change == "stack":
            return torch.cat(list(tensors))
        [tensor] = tensors
        return tensor.t().contiguous() if self.change == "transpose" else tensor.reshape(self.original_shape)


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` without ones at its end."""
    kept = tuple(shape)
    while kept and kept[-1] == 1:
        kept = kept[:-1]
    return kept


@dataclass(frozen=True, eq=False)
class KeyMap:
    """All entries of a model, or of some of its parts, in native order."""

    entries: tuple[Entry, ...]

    @cached_property
    def by_original(self) -> dict[str, Entry]:
        """Entries by the name in the file."""
        return {entry.original: entry for entry in self.entries}

    @cached_property
    def by_native(self) -> dict[tuple[str, str], Entry]:
        """Entries by part and native name."""
        return {(entry.part, name): entry for entry in self.entries for name in entry.natives}

    def to_native(self, original: str, tensor: Tensor) -> list[tuple[str, str, Tensor]]:
        """(part, native name, tensor) of each native tensor in a tensor of the file."""
        entry = self.by_original[original]
        return [(entry.part, name, value) for name, value in entry.to_native(tensor).items()]

    def to_original(self, part: str, state: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
        """(name, tensor) of each tensor of the file that `part` with native `state` becomes, made one by one."""
        for entry in self.entries:
            if entry.part == part:
                yield entry.original, entry.to_original([state[name] for name in entry.natives])


def part_names(spec: ModelSpec) -> tuple[str, ...]:
    """Names of a model's parts: "unet", "autoencoder", "tower", and "tower_2" where there are two."""
    towers = ("tower" if index == 0 else f"tower_{index + 1}" for index in range(len(spec.towers)))
    return ("unet", "autoencoder", *towers)


def original_layout(spec: ModelSpec) -> dict[str, Place]:
    """Where the published single files of a family keep its parts.

    OpenAI's towers keep transformers' names; those with the plain GELU come from OpenCLIP. SDXL and its refiner, the
    families with size ids, number their towers.
    """
    layout = {
        "unet": Place("model.diffusion_model.", "original"),
        "autoencoder": Place("first_stage_model.", "original"),
    }
    for index, (part, tower) in enumerate(zip(part_names(spec)[2:], spec.towers, strict=True)):
        outer = f"conditioner.embedders.{index}." if spec.unet.size_ids else "cond_stage_model."
        openai = tower.activation == "quick_gelu"
        layout[part] = Place(outer + ("transformer." if openai else "model."), "native" if openai else "openclip")
    return layout


def networks_of(spec: ModelSpec, where: Path) -> dict[str, nn.Module]:
    """The networks of a model by part, on the meta device. Raises `DamagedFileError` naming `where`."""
    return dict(zip(part_names(spec), build_networks(spec, where).values(), strict=True))


@lru_cache(maxsize=32)
def native_shapes(config: Config) -> Mapping[str, tuple[int, ...]]:
    """Native name and shape of each tensor of a network, in its order."""
    return {name: tuple(value.shape) for name, value in build_network(config).state_dict().items()}


def part_config(spec: ModelSpec, part: str) -> Config:
    """The configuration of a part."""
    if part == "unet":
        return spec.unet
    return spec.autoencoder if part == "autoencoder" else tower_config(spec, part)


def key_map(spec: ModelSpec, layout: Layout | None = None) -> KeyMap:
    """The map between the names of a file with `layout` (None: as published) and native names.

    `layout` has the parts to map, each with its place.
    """
    layout = original_layout(spec) if layout is None else layout
    entries: list[Entry] = []
    for part, place in layout.items():
        shapes = native_shapes(part_config(spec, part))
        entries += part_entries(part, shapes, place, module_names(spec, part, place.naming))
    return KeyMap(tuple(entries))


def module_names(spec: ModelSpec, part: str, naming: Naming) -> Mapping[str, str] | None:
    """Native module -> its name in `naming`; None where they are the same."""
    if naming == "native":
        return None
    if part == "unet":
        return unet_modules(spec.unet)
    if part == "autoencoder":
        make = old_autoencoder_modules if naming == "old attention" else autoencoder_modules
        return make(spec.autoencoder)
    return headless_modules() if naming == "headless" else openclip_modules(tower_config(spec, part))


def tower_config(spec: ModelSpec, part: str) -> TextTowerConfig:
    """The configuration of a text tower by its part's name."""
    return spec.towers[part_names(spec).index(part) - 2]


def part_entries(
    part: str, shapes: Mapping[str, tuple[int, ...]], place: Place, modules: Mapping[str, str] | None
) -> list[Entry]:
    """The entries of one part from the names and shapes of its native tensors; `modules` as `module_names`."""
    together: dict[str, list[str]] = {}
    for name in shapes:
        original = name if modules is None else renamed(name, modules).lstrip(".")
        together.setdefault(place.prefix + original, []).append(name)
    return [
        Entry(original, part, tuple(names), shapes[names[0]], _change(names, shapes[names[0]], place.naming))
        for original, names in together.items()
    ]


def _change(names: Sequence[str], shape: Sequence[int], naming: Naming) -> Change:
    if len(names) > 1:
        return "stack"
    if naming == "openclip" and names[0] == "text_projection.weight":
        return "transpose"
    pixelwise = naming == "original" and ".mid_block.attentions." in names[0] and names[0].endswith("weight")
    return "pixelwise" if pixelwise and len(shape) == 2 and names[0].startswith(("encoder.", "decoder.")) else "none"
