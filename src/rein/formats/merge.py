"""Models mixed into one: weighted sum, add difference, weights per block of the U-Net, a VAE or adapters baked in.

Symbols: A, B, C the models, w a weight.
- weighted sum        A (1 - w) + B w
- add difference      A + w (B - C), where C is what B was trained from
Both are computed in float32 for one tensor at a time and rounded once, to what A's tensor is stored in or to a type
that is asked for. The weights per block are those of the merge-block-weighted extension for AUTOMATIC1111.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from rein.errors import InputError, quoted
from rein.formats.adapters import LoadedAdapter, baker
from rein.formats.convert import Converted, Form, write_model
from rein.formats.folder import file_digest
from rein.formats.keys import key_map, original_layout
from rein.formats.saving import TensorSource
from rein.formats.sources import OpenModel, with_autoencoder
from rein.nn.specs import ModelSpec

MERGE_KEY = "rein.merge"
"""The free text of a merged file that names its parents, as JSON."""

BASE = "BASE"
"""The weight of all that is in no block of the U-Net: text towers and autoencoder."""

_LARGEST_WEIGHT = 10.0
_BLOCK = re.compile(r"^model\.diffusion_model\.(input_blocks|middle_block|output_blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Baked:
    """An adapter to be merged in, with its strengths for the U-Net and the text towers."""

    adapter: LoadedAdapter
    weight: float = 1.0
    text_weight: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How models are mixed.

    Fields:
        weight: of the second model or of the difference, from -10 to 10; 0 is the first model itself.
        blocks: weights of blocks by name (`block_names`, and `BASE`); those that are not there have `weight`.
        autoencoder: a file whose autoencoder takes the place of the mixed one.
        baked: adapters merged in at the end, in order.
        dtype: the type to store; None keeps that of the first model's tensors.
    """

    weight: float = 0.5
    blocks: Mapping[str, float] = field(default_factory=dict)
    autoencoder: Path | None = None
    baked: tuple[Baked, ...] = ()
    dtype: torch.dtype | None = None


def block_names(spec: ModelSpec) -> tuple[str, ...]:
    """IN00 ..., MID, OUT00 ...: 25 blocks for SD1 and SD2, 19 for SDXL."""
    count = len(spec.unet.channels) * (spec.unet.blocks_per_level + 1)
    inner, outer = ([f"{side}{index:02}" for index in range(count)] for side in ("IN", "OUT"))
    return (*inner, "MID", *outer)


def parse_blocks(text: str, spec: ModelSpec) -> dict[str, float]:
    """Weights of blocks from text: "IN00=0.2, MID=1", or numbers alone for all blocks in order.

    Numbers may begin with that of BASE. SD1's 25 numbers (26 with BASE) also serve SDXL, of whose blocks 09 to 11 there
    are none: those numbers are passed over, as other programs do.

    Raises:
        InputError: an unknown block, what is no number, or a wrong count of them.
    """
    names, entries = block_names(spec), [entry.strip() for entry in text.split(",") if entry.strip()]
    if any("=" in entry for entry in entries):
        pairs = [entry.partition("=") for entry in entries]
        return {_known(name.strip().upper(), names): _number(value) for name, _, value in pairs}
    wide = [f"IN{i:02}" for i in range(12)] + ["MID"] + [f"OUT{i:02}" for i in range(12)]
    rows = [list(names), [BASE, *names], wide, [BASE, *wide]]
    row = next((row for row in rows if len(row) == len(entries)), None)
    if row is None:
        allowed = " or ".join(str(count) for count in sorted({len(row) for row in rows}))
        raise InputError(f"blocks has {len(entries)} numbers; a model {spec.name!r} takes {allowed}")
    return {name: _number(value) for name, value in zip(row, entries, strict=True) if name in (BASE, *names)}


def _known(name: str, names: Sequence[str]) -> str:
    name = {"M00": "MID"}.get(name, name)
    if name not in (BASE, *names):
        raise InputError(f"blocks has the name {quoted(name)}; known: {BASE}, {names[0]} to {names[-1]}, MID")
    return name


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"blocks has {quoted(text.strip())}, which is not a number") from None
    return _checked_weight(value, "a weight of blocks")


def _checked_weight(value: float, what: str) -> float:
    if not -_LARGEST_WEIGHT <= value <= _LARGEST_WEIGHT:
        raise InputError(f"{what} is {value}; allowed: -{_LARGEST_WEIGHT:g} to {_LARGEST_WEIGHT:g}")
    return value


def block_of(original: str, last: str) -> str:
    """The block of a tensor by its published name; `last` is the last of `block_names`.

    What comes before the blocks (times, sizes) counts to IN00, what comes after them to the last, as in the extension.
    """
    match = _BLOCK.match(original)
    if match is not None:
        side, number = match[1], int(match[2])
        return "MID" if side == "middle_block" else f"{'IN' if side == 'input_blocks' else 'OUT'}{number:02}"
    if original.startswith("model.diffusion_model.out."):
        return last
    return "IN00" if original.startswith("model.diffusion_model.") else BASE


@dataclass(frozen=True, eq=False)
class Mixture:
    """The tensors of a mixture, each computed when it is asked for, in float32."""

    sources: tuple[TensorSource, ...]
    spec: ModelSpec
    recipe: Recipe

    @cached_property
    def _blocks(self) -> dict[str, str]:
        """The block of each native name of the U-Net."""
        last = block_names(self.spec)[-1]
        keys = key_map(self.spec, {"unet": original_layout(self.spec)["unet"]})
        return {name: block_of(entry.original, last) for (_, name), entry in keys.by_native.items()}

    def weight(self, part: str, name: str) -> float:
        """The weight of a tensor."""
        block = self._blocks[name] if part == "unet" else BASE
        return self.recipe.blocks.get(block, self.recipe.weight)

    def tensor(self, part: str, name: str) -> Tensor:
        """The mixed tensor; the first model's own, bit for bit, where its weight is 0 or there is no other model."""
        first, *others = self.sources
        weight = self.weight(part, name)
        value = first.tensor(part, name)
        if not others or weight == 0:
            return value
        second = others[0].tensor(part, name).float()
        if len(others) == 1:
            return value.float() * (1 - weight) + second * weight
        return value.float() + (second - others[1].tensor(part, name).float()) * weight

    def dtype(self, part: str, name: str) -> torch.dtype:
        """What the first model stores the tensor in."""
        return self.sources[0].dtype(part, name)


@dataclass(frozen=True)
class _WithAdapters:
    """A source with adapters merged into it, in float32."""

    source: TensorSource
    bake: Callable[[str, str, Tensor], Tensor]

    def tensor(self, part: str, name: str) -> Tensor:
        value = self.source.tensor(part, name)
        wide = value.float()
        baked = self.bake(part, name, wide)
        return value if baked is wide else baked

    def dtype(self, part: str, name: str) -> torch.dtype:
        return self.source.dtype(part, name)


def merge(target: Path, models: Sequence[OpenModel], recipe: Recipe, form: Form = "file") -> Converted:
    """Write a mixture: of one model (with something baked in), two (weighted sum) or three (add difference).

    Raises:
        InputError: another number of models, models of different families, a weight out of range, or one that leaves a
            tensor not finite.
        DamagedFileError: a model cannot be read.
        OutputError: the target cannot be written; what was there is as before.
    """
    first = _checked(models, recipe)
    for model in models:
        model.verify()
    mixed = replace(first, source=Mixture(tuple(model.source for model in models), first.spec, recipe))
    if recipe.autoencoder is not None:
        mixed = with_autoencoder(mixed, recipe.autoencoder)
    if recipe.baked:
        uses = [baked.adapter.use(baked.weight, baked.text_weight) for baked in recipe.baked]
        mixed = replace(mixed, source=_WithAdapters(mixed.source, baker(uses)))
    texts = {MERGE_KEY: json.dumps(_parents(models, recipe), ensure_ascii=False, separators=(",", ":"))}
    write_model(target, form, mixed, recipe.dtype, texts)
    reports = [baked.adapter.report() for baked in recipe.baked]
    return Converted(target, form, first.spec.name, tuple(report for report in reports if report))


def _checked(models: Sequence[OpenModel], recipe: Recipe) -> OpenModel:
    if not 1 <= len(models) <= 3:
        raise InputError(
            f"{len(models)} models cannot be merged: give one (to bake in), two (sum) or three (difference)"
        )
    if len(models) == 1 and not recipe.baked and recipe.autoencoder is None:
        raise InputError("one model alone is nothing to merge: give a second one, an adapter or an autoencoder")
    first, *others = models
    for model in others:
        for what in ("unet", "towers", "autoencoder", "prediction", "vocabulary"):
            if getattr(model.spec, what) != getattr(first.spec, what):
                raise InputError(
                    f"{model.path} cannot be merged with {first.path}: model {model.spec.name!r} differs from "
                    f"{first.spec.name!r} in its {what}"
                )
    _checked_weight(recipe.weight, "weight")
    for name, weight in recipe.blocks.items():
        _checked_weight(weight, f"the weight of block {_known(name, block_names(first.spec))}")
    return first


def _parents(models: Sequence[OpenModel], recipe: Recipe) -> dict[str, object]:
    """What made a mixture: names, hashes and weights of all that went in."""
    methods = {1: "baked", 2: "weighted sum", 3: "add difference"}
    told: dict[str, object] = {
        "method": methods[len(models)],
        "models": [{"name": model.path.name, "sha256": model.sha256} for model in models],
    }
    if len(models) > 1:
        told |= {"weight": recipe.weight, "blocks": dict(recipe.blocks)}
    if recipe.autoencoder is not None:
        path = recipe.autoencoder
        told["autoencoder"] = {"name": path.name, "sha256": file_digest(path)}
    if recipe.baked:
        told["adapters"] = [
            {
                "name": baked.adapter.path.name,
                "sha256": baked.adapter.sha256,
                "weight": baked.weight,
                "text_weight": baked.weight if baked.text_weight is None else baked.text_weight,
            }
            for baked in recipe.baked
        ]
    return told
